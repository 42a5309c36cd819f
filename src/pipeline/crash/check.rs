use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    life::{ABSENT, Expected, Life, OPEN, Thing, text},
    site::{AUDIT, Running, file_content},
};
use crate::{
    disk::Disk,
    gate::Operation::{Read, Write},
    seal::Secret,
    secret::Key,
    vault::UnsealError,
};

/// What was found on a disk.
#[derive(Default)]
pub(super) struct Found {
    /// How many of the open groups were as before, and how many as after.
    pub(super) as_before: usize,
    pub(super) as_after: usize,
    /// What the opening told of, a word each.
    pub(super) notices: Vec<String>,
}

/// What opened a store, tried before anything was asked of it.
#[derive(Default)]
pub(super) struct Ways {
    share: String,
    keyfiles: BTreeMap<String, String>,
    was_rollback: bool,
}

impl Ways {
    pub(super) fn by(share: &str) -> Self {
        Self { share: share.to_owned(), ..Self::default() }
    }
}

impl Life {
    /// Opens a disk and compares; `place` says in a failure which it was.
    pub(super) async fn check(&self, disk: &Disk, n: usize, place: &str) -> Found {
        let expected = self.expected(n);
        let keyfiles = self.try_keyfiles(disk, &expected, place).await;
        let running = match self.site.start(disk) {
            Ok(running) => running,
            Err(error) => panic!("does not start: {error:?}\n{place}"),
        };
        if !running.kista.vault().status().is_initialized {
            assert!(!expected.certain.contains_key(&Thing::Share), "uninitialised again\n{place}");
            let counts = r#"{"secret_shares":1,"secret_threshold":1}"#;
            let answer = running.call("", Write, "sys/init", counts).await;
            assert_eq!(answer.status, 200, "cannot be initialised: {answer:?}\n{place}");
            let share = text(&answer.body["keys"][0]).to_owned();
            assert!(running.unseal(&share).await, "is made anew and does not open\n{place}");
            running.vanish().await;
            return Found { as_before: 1, ..Found::default() };
        }
        if self.share.is_empty() {
            // The seal file became whole, and then something failed before the shares were given
            // out: nothing can open it, and nothing is in it.
            running.vanish().await;
            return Found::default();
        }
        let ways = Ways { keyfiles, ..self.open(&running, &expected, place).await };
        assert!(running.is_verified(), "opens and is not verified\n{place}");
        let (as_before, as_after) = self.compare(&running, &expected, &ways, place).await;
        self.check_erasure(&running, disk, n, place).await;
        self.goes_on(&running, place).await;
        let notices = running.notices();
        let is_alarmed = notices.iter().any(|notice| notice.starts_with("audit_truncated"));
        assert!(!is_alarmed, "an alarm without a cause: {notices:?}\n{place}");
        running.vanish().await;
        self.check_audit(disk, n, place);
        Found { as_before, as_after, notices }
    }

    /// Which of the keyfiles open it, each tried on a copy.
    async fn try_keyfiles(
        &self,
        disk: &Disk,
        expected: &Expected,
        place: &str,
    ) -> BTreeMap<String, String> {
        let things = expected.certain.keys().chain(expected.open.iter().flatten().map(|(t, _)| t));
        let mut tried = BTreeMap::new();
        for thing in things {
            let Thing::Keyfile(text) = thing else { continue };
            if tried.contains_key(text) {
                continue;
            }
            let (copy, _) = disk.copy();
            let running = self.site.start(&copy).unwrap();
            let bytes = data_encoding::BASE64.decode(text.as_bytes()).unwrap();
            let key = Secret::Keyfile(Key::copy_of(&bytes).unwrap());
            let opens = match running.kista.vault().unseal(key).await {
                Ok(()) => OPEN,
                Err(UnsealError::Failed) => ABSENT,
                Err(error) => panic!("with a keyfile: {error:?}\n{place}"),
            };
            tried.insert(text.clone(), opens.to_owned());
            running.vanish().await;
        }
        tried
    }

    /// Once nothing is to be erased, none of the files that held it is there.
    async fn check_erasure(&self, running: &Running, disk: &Disk, n: usize, place: &str) {
        if self.look(running, &Thing::Erasure, &Ways::default()).await != ABSENT {
            return;
        }
        for (_, files) in self.doomed.iter().filter(|(since, _)| *since <= n) {
            for file in files {
                let is_there = disk.exists(file).unwrap();
                assert!(!is_there, "{} was not erased\n{place}", file.display());
            }
        }
    }

    /// The lines of each call that was answered before the last sync are there, in the audit file
    /// or in what an opening has moved aside.
    fn check_audit(&self, disk: &Disk, n: usize, place: &str) {
        self.check_lines(disk, self.synced_calls(n), place);
    }

    /// While the machine runs on, nothing that was answered is without its lines.
    pub(super) fn check_audit_after_kill(&self, disk: &Disk, n: usize, place: &str) {
        self.check_lines(disk, self.heard.partition_point(|(at, _)| *at <= n), place);
    }

    fn check_lines(&self, disk: &Disk, calls: usize, place: &str) {
        let mut text = String::new();
        for name in disk.read_dir(Path::new("/")).unwrap() {
            let path = Path::new("/").join(name);
            if path.to_string_lossy().starts_with(AUDIT) {
                let content = file_content(disk, &path).unwrap_or_default();
                text.push_str(&String::from_utf8_lossy(&content));
            }
        }
        let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
        for id in text.split("\"id\":\"").skip(1).filter_map(|rest| rest.get(..36)) {
            *lines.entry(id).or_default() += 1;
        }
        for (_, id) in &self.heard[..calls] {
            let found = lines.get(id.as_str()).copied().unwrap_or_default();
            assert!(found >= 2, "{found} lines of a call that was answered\n{place}");
        }
    }

    /// Unseals with the one share that must open it, or with the one of several that does; gives
    /// it. What is not among these opens nothing.
    async fn open(&self, running: &Running, expected: &Expected, place: &str) -> Ways {
        let mut shares: Vec<&String> = expected.certain.get(&Thing::Share).into_iter().collect();
        let open = expected.open.iter().flatten();
        shares.extend(open.filter(|(thing, _)| *thing == Thing::Share).map(|(_, share)| share));
        for retired in self.retired.iter().filter(|retired| !shares.contains(retired)) {
            let is_past = expected.certain.contains_key(&Thing::Share);
            assert!(!is_past || !running.unseal(retired).await, "a dropped share opens\n{place}");
        }
        let mut things = expected.certain.keys();
        let may_be_older = things.any(|thing| *thing == Thing::Rollback);
        for share in shares {
            if running.unseal(share).await {
                return Ways::by(share);
            }
            if running.kista.vault().status().rollback_detected {
                assert!(may_be_older, "taken for an older store\n{place}");
                let is_open = running.accept_rollback(share).await;
                assert!(is_open, "the rollback cannot be accepted\n{place}");
                return Ways { was_rollback: true, ..Ways::by(share) };
            }
        }
        let why = running.kista.vault().submit_share(&self.share).await;
        panic!("no share opens it: {why:?}\n{place}");
    }

    async fn compare(
        &self,
        running: &Running,
        expected: &Expected,
        ways: &Ways,
        place: &str,
    ) -> (usize, usize) {
        let in_doubt: BTreeSet<&Thing> =
            expected.open.iter().flatten().map(|(thing, _)| thing).collect();
        for (thing, state) in &expected.certain {
            if !in_doubt.contains(thing) {
                let found = self.look(running, thing, ways).await;
                assert_eq!(&found, state, "{thing:?}\n{place}");
            }
        }
        let (mut old, mut new) = (0, 0);
        for group in &expected.open {
            let (mut as_before, mut as_after) = (true, true);
            let mut seen = Vec::new();
            for (thing, after) in group {
                let before = expected.certain.get(thing).map_or(absent(thing), String::as_str);
                let found = self.look(running, thing, ways).await;
                // Of the first share nothing was certain but that there may be one.
                let is_first = *thing == Thing::Share && before.is_empty();
                let before = if is_first { ways.share.as_str() } else { before };
                as_before &= found == before;
                as_after &= &found == after;
                seen.push(found);
            }
            assert!(as_before || as_after, "neither old nor new: {group:?} is {seen:?}\n{place}");
            if as_after { new += 1 } else { old += 1 }
        }
        (old, new)
    }

    pub(super) async fn look(&self, running: &Running, thing: &Thing, ways: &Ways) -> String {
        let read = |path: String| async move { running.call(&self.root, Read, &path, "").await };
        match thing {
            Thing::Secret(path) => {
                let (mount, name) = path.split_once('/').unwrap();
                let answer = read(format!("{mount}/data/{name}")).await;
                let data = &answer.body["data"];
                match (answer.status, data["metadata"]["version"].as_u64()) {
                    (200, Some(version)) => format!("{version}:{}", text(&data["data"]["value"])),
                    (404, Some(version)) => format!("{version}:gone"),
                    (404 | 400 | 403, None) => ABSENT.to_owned(),
                    _ => format!("{answer:?}"),
                }
            }
            Thing::Policy(name) => {
                let answer = read(format!("sys/policies/acl/{name}")).await;
                match answer.status {
                    200 => text(&answer.body["data"]["policy"]).to_owned(),
                    404 => ABSENT.to_owned(),
                    _ => format!("{answer:?}"),
                }
            }
            Thing::Token(token) => {
                let answer = running.call(token, Read, "auth/token/lookup-self", "").await;
                match answer.status {
                    200 => OPEN.to_owned(),
                    403 => ABSENT.to_owned(),
                    _ => format!("{answer:?}"),
                }
            }
            Thing::Mount(path) => {
                let answer = read("sys/mounts".to_owned()).await;
                let is_there = !answer.body["data"][path].is_null();
                if is_there { OPEN } else { ABSENT }.to_owned()
            }
            Thing::Share => ways.share.clone(),
            // Unknown without a try.
            Thing::Keyfile(key) => ways.keyfiles.get(key).cloned().unwrap_or_default(),
            Thing::Erasure => {
                let answer = read("sys/compact".to_owned()).await;
                match answer.body["data"]["erasure_due"].as_bool() {
                    Some(true) => OPEN.to_owned(),
                    Some(false) => ABSENT.to_owned(),
                    None => format!("{answer:?}"),
                }
            }
            Thing::Rollback => if ways.was_rollback { OPEN } else { ABSENT }.to_owned(),
        }
    }

    /// A store that opened takes writes and gives them back.
    async fn goes_on(&self, running: &Running, place: &str) {
        let body = r#"{"data":{"value":"after"}}"#;
        let made = running.call(&self.root, Write, "cubby/data/after", body).await;
        if made.status == 404 {
            // Nothing is mounted there yet.
            let policy = r#"{"policy":"path \"x\" { capabilities = [\"read\"] }"}"#;
            let made = running.call(&self.root, Write, "sys/policies/acl/after", policy).await;
            assert_eq!(made.status, 204, "takes no write: {made:?}\n{place}");
            return;
        }
        assert_eq!(made.status, 200, "takes no write: {made:?}\n{place}");
        let written = Thing::Secret("cubby/after".to_owned());
        let found = self.look(running, &written, &Ways::default()).await;
        assert_eq!(found, "1:after", "{place}");
    }
}

/// What a thing is before anything was done to it. Of a share nothing is known but that it opens.
fn absent(thing: &Thing) -> &str {
    match thing {
        Thing::Share => "",
        Thing::Secret(_)
        | Thing::Policy(_)
        | Thing::Token(_)
        | Thing::Mount(_)
        | Thing::Keyfile(_)
        | Thing::Erasure
        | Thing::Rollback => ABSENT,
    }
}

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Value, json};

use super::site::{Answer, Running, Site, call};
use crate::{
    disk::{Disk, Simulator, simulated},
    gate::Operation::{self, Delete, Read, Write},
};

/// What the API shows, and a crash must not change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    /// A KV v2 secret: its current version and value.
    Secret(String),
    /// The text of a policy.
    Policy(String),
    /// Whether a token opens anything.
    Token(String),
    /// Whether something is mounted.
    Mount(String),
    /// The share that opens the store.
    Share,
}

/// Changes that are true together or not at all.
pub(super) type Group = Vec<(Thing, String)>;

/// Something that was asked of the vault.
pub(super) struct Act {
    pub(super) name: String,
    /// Operations on the disk before it was asked, and when it was answered.
    pub(super) before: usize,
    pub(super) after: usize,
    /// Whether it was done, as far as the caller knows.
    pub(super) is_acknowledged: bool,
    pub(super) groups: Vec<Group>,
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.is_acknowledged { "done" } else { "REFUSED" };
        write!(f, "{}..{} {} {outcome}", self.before, self.after, self.name)
    }
}

/// What may be found: things that are certain, and groups of which each is as before or as after.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    certain: BTreeMap<Thing, String>,
    open: Vec<Group>,
}

/// A vault, its disk, and everything that was asked of it.
pub(super) struct Life {
    pub(super) site: Site,
    pub(super) disk: Disk,
    pub(super) simulator: Simulator,
    pub(super) acts: Vec<Act>,
    pub(super) root: String,
    pub(super) share: String,
    /// Shares that a rekey has replaced.
    retired: Vec<String>,
    running: Option<Running>,
}

impl Life {
    pub(super) fn begin() -> Self {
        let (disk, simulator) = simulated();
        Self {
            site: Site::new(),
            disk,
            simulator,
            acts: Vec::new(),
            root: String::new(),
            share: String::new(),
            retired: Vec::new(),
            running: None,
        }
    }

    pub(super) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Starts a process over the disk, in place of the one that may run; whether it starts.
    pub(super) async fn start(&mut self) -> bool {
        self.vanish().await;
        self.running = self.site.start(&self.disk).ok();
        self.running.is_some()
    }

    /// Ends the process.
    pub(super) async fn vanish(&mut self) {
        if let Some(running) = self.running.take() {
            running.vanish().await;
        }
    }

    /// Makes the store.
    pub(super) async fn init(&mut self) -> bool {
        let before = self.simulator.operations();
        let counts = r#"{"secret_shares":1,"secret_threshold":1}"#;
        let answer = self.running().call("", Write, "sys/init", counts).await;
        if answer.status == 200 {
            text(&answer.body["keys"][0]).clone_into(&mut self.share);
            text(&answer.body["root_token"]).clone_into(&mut self.root);
        }
        let group = vec![(Thing::Share, self.share.clone())];
        self.note("init", before, answer.status == 200, vec![group]);
        answer.status == 200
    }

    pub(super) async fn unseal(&mut self) -> bool {
        let before = self.simulator.operations();
        let is_open = self.running().unseal(&self.share).await;
        self.note("unseal", before, is_open, Vec::new());
        is_open
    }

    /// Seals, which ends the journal with its Close record.
    pub(super) async fn seal(&mut self) {
        let before = self.simulator.operations();
        let answer = self.running().call(&self.root, Write, "sys/seal", "").await;
        self.note("seal", before, answer.status == 204, Vec::new());
    }

    /// Asks one thing; `groups` are what is true once it is done.
    pub(super) async fn ask(
        &mut self,
        operation: Operation,
        path: &str,
        body: Value,
        groups: Vec<Group>,
    ) -> Answer {
        let before = self.simulator.operations();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.running().call(&self.root, operation, path, &body).await;
        let is_done = (200..300).contains(&answer.status);
        self.note(&format!("{operation:?} {path}"), before, is_done, groups);
        answer
    }

    /// Writes a secret that has `version - 1` versions.
    pub(super) async fn put(&mut self, path: &str, version: u64, value: &str) -> u16 {
        let body = json!({"options": {"cas": version - 1}, "data": {"value": value}});
        let (mount, name) = path.split_once('/').unwrap();
        let group = vec![(Thing::Secret(path.to_owned()), format!("{version}:{value}"))];
        self.ask(Write, &format!("{mount}/data/{name}"), body, vec![group]).await.status
    }

    /// Writes secrets at the same time, so that one commit may carry several.
    pub(super) async fn put_together(&mut self, paths: &[String], value: &str) {
        let before = self.simulator.operations();
        let mut tasks = Vec::new();
        let mut groups = Vec::new();
        for path in paths {
            let body = json!({"options": {"cas": 0}, "data": {"value": value}}).to_string();
            let (mount, name) = path.split_once('/').unwrap();
            groups.push(vec![(Thing::Secret(path.clone()), format!("1:{value}"))]);
            let kista = self.running().kista.clone();
            let data = format!("{mount}/data/{name}");
            tasks.push(tokio::spawn(call(kista, self.root.clone(), Write, data, body)));
        }
        let mut is_done = true;
        for task in tasks {
            is_done &= task.await.unwrap().status == 200;
        }
        self.note("several writes", before, is_done, groups);
    }

    /// Removes a secret with all its versions.
    pub(super) async fn remove(&mut self, path: &str) {
        let (mount, name) = path.split_once('/').unwrap();
        let group = vec![(Thing::Secret(path.to_owned()), ABSENT.to_owned())];
        self.ask(Delete, &format!("{mount}/metadata/{name}"), Value::Null, vec![group]).await;
    }

    pub(super) async fn put_policy(&mut self, name: &str, rule: &str) {
        let group = vec![(Thing::Policy(name.to_owned()), rule.to_owned())];
        self.ask(Write, &format!("sys/policies/acl/{name}"), json!({"policy": rule}), vec![group])
            .await;
    }

    /// Makes a token, the child of another one or of the root token; empty when it was refused.
    pub(super) async fn make_token(&mut self, parent: Option<&str>) -> String {
        let before = self.simulator.operations();
        let parent = parent.unwrap_or(&self.root).to_owned();
        let body = json!({"policies": ["root"], "ttl": "30m"}).to_string();
        let answer = self.running().call(&parent, Write, "auth/token/create", &body).await;
        let token = answer.body["auth"]["client_token"].as_str().unwrap_or_default().to_owned();
        let group = vec![(Thing::Token(token.clone()), OPEN.to_owned())];
        let groups = if token.is_empty() { Vec::new() } else { vec![group] };
        self.note("make a token", before, answer.status == 200, groups);
        token
    }

    /// Takes a new share in place of the old one, which opens nothing any more.
    pub(super) async fn rekey(&mut self) {
        let before = self.simulator.operations();
        let plan = r#"{"secret_shares":1,"secret_threshold":1}"#;
        let begun = self.running().call(&self.root, Write, "sys/rekey/init", plan).await;
        let shown = json!({"key": self.share, "nonce": begun.body["nonce"]}).to_string();
        let done = self.running().call(&self.root, Write, "sys/rekey/update", &shown).await;
        let is_done = done.status == 200 && done.body["complete"] == true;
        assert!(is_done, "{begun:?} {done:?}");
        let new = text(&done.body["keys"][0]).to_owned();
        self.retired.push(std::mem::replace(&mut self.share, new.clone()));
        self.note("rekey", before, is_done, vec![vec![(Thing::Share, new)]]);
    }

    /// While it is open, whatever was refused, it reads what was acknowledged.
    pub(super) async fn still_reads(&self, place: &str) {
        let Some(running) = &self.running else { return };
        if running.kista.vault().status().is_sealed {
            return;
        }
        let expected = self.expected(usize::MAX);
        let in_doubt: BTreeSet<&Thing> =
            expected.open.iter().flatten().map(|(thing, _)| thing).collect();
        for (thing, state) in &expected.certain {
            if !in_doubt.contains(thing) {
                assert_eq!(
                    &self.look(running, thing, &self.share).await,
                    state,
                    "{thing:?}\n{place}"
                );
            }
        }
    }

    /// Notes an act that has just ended.
    pub(super) fn note(&mut self, name: &str, before: usize, is_done: bool, groups: Vec<Group>) {
        let (name, after) = (name.to_owned(), self.simulator.operations());
        self.acts.push(Act { name, before, after, is_acknowledged: is_done, groups });
    }

    /// What must be found when the disk stopped after `n` operations. What is under way then, or was
    /// never acknowledged, may be there or not.
    pub(super) fn expected(&self, n: usize) -> Expected {
        let mut expected = Expected::default();
        for act in &self.acts {
            if act.is_acknowledged && act.after <= n {
                expected.certain.extend(act.groups.iter().flatten().cloned());
            } else if act.before < n {
                expected.open.extend(act.groups.iter().cloned());
            }
        }
        expected
    }

    /// The act that was under way after `n` operations.
    pub(super) fn act_at(&self, n: usize) -> &str {
        let act = self.acts.iter().find(|act| n <= act.after);
        act.map_or("nothing", |act| &act.name)
    }

    /// Opens a disk and compares; `place` says in a failure which it was. Gives what was found of the
    /// open groups: how many were as before, and how many as after.
    pub(super) async fn check(&self, disk: &Disk, n: usize, place: &str) -> (usize, usize) {
        let expected = self.expected(n);
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
            return (1, 0);
        }
        if self.share.is_empty() {
            // The seal file became whole, and then something failed before the shares were given out:
            // nothing can open it, and nothing is in it.
            running.vanish().await;
            return (0, 0);
        }
        let share = self.open(&running, &expected, place).await;
        assert!(running.is_verified(), "opens and is not verified\n{place}");
        let found = self.compare(&running, &expected, &share, place).await;
        self.goes_on(&running, place).await;
        running.vanish().await;
        found
    }

    /// Unseals with the one share that must open it, or with the one of several that does; gives it.
    /// What is not among these opens nothing.
    async fn open(&self, running: &Running, expected: &Expected, place: &str) -> String {
        let mut shares: Vec<&String> = expected.certain.get(&Thing::Share).into_iter().collect();
        let open = expected.open.iter().flatten();
        shares.extend(open.filter(|(thing, _)| *thing == Thing::Share).map(|(_, share)| share));
        for retired in self.retired.iter().filter(|retired| !shares.contains(retired)) {
            let is_past = expected.certain.contains_key(&Thing::Share);
            assert!(!is_past || !running.unseal(retired).await, "a dropped share opens\n{place}");
        }
        for share in shares {
            if running.unseal(share).await {
                return share.clone();
            }
        }
        panic!("no share opens it\n{place}");
    }

    async fn compare(
        &self,
        running: &Running,
        expected: &Expected,
        share: &str,
        place: &str,
    ) -> (usize, usize) {
        let in_doubt: BTreeSet<&Thing> =
            expected.open.iter().flatten().map(|(thing, _)| thing).collect();
        for (thing, state) in &expected.certain {
            if !in_doubt.contains(thing) {
                let found = self.look(running, thing, share).await;
                assert_eq!(&found, state, "{thing:?}\n{place}");
            }
        }
        let (mut old, mut new) = (0, 0);
        for group in &expected.open {
            let (mut as_before, mut as_after) = (true, true);
            let mut seen = Vec::new();
            for (thing, after) in group {
                let before = expected.certain.get(thing).map_or(absent(thing), String::as_str);
                let found = self.look(running, thing, share).await;
                // Of the first share nothing was certain but that there may be one.
                let before =
                    if *thing == Thing::Share && before.is_empty() { share } else { before };
                as_before &= found == before;
                as_after &= &found == after;
                seen.push(found);
            }
            assert!(as_before || as_after, "neither old nor new: {group:?} is {seen:?}\n{place}");
            if as_after { new += 1 } else { old += 1 }
        }
        (old, new)
    }

    async fn look(&self, running: &Running, thing: &Thing, share: &str) -> String {
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
            Thing::Share => share.to_owned(),
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
        let found = self.look(running, &Thing::Secret("cubby/after".to_owned()), "").await;
        assert_eq!(found, "1:after", "{place}");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What a thing is before anything was done to it. Of a share nothing is known but that it opens.
fn absent(thing: &Thing) -> &str {
    match thing {
        Thing::Share => "",
        Thing::Secret(_) | Thing::Policy(_) | Thing::Token(_) | Thing::Mount(_) => ABSENT,
    }
}

/// What is not there, and what is.
pub(super) const ABSENT: &str = "absent";
pub(super) const OPEN: &str = "open";

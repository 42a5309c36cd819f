use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    check::Ways,
    site::{Answer, Running, Site, call},
};
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
    /// Whether the store opens with a keyfile, whose bytes in base64 these are.
    Keyfile(String),
    /// Whether something that was removed waits to be erased.
    Erasure,
    /// Whether the store stays sealed since an anchor is ahead of it.
    Rollback,
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
    pub(super) certain: BTreeMap<Thing, String>,
    pub(super) open: Vec<Group>,
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
    pub(super) retired: Vec<String>,
    /// Calls with two lines in the audit file, and the operations on the disk until they had them.
    pub(super) heard: Vec<(usize, String)>,
    /// After so many operations, so many of these were synced.
    pub(super) synced: Vec<(usize, usize)>,
    /// Files that hold what was removed after so many operations.
    pub(super) doomed: Vec<(usize, Vec<PathBuf>)>,
    running: Option<Running>,
}

impl Life {
    pub(super) fn begin() -> Self {
        Self::over(Site::new(), simulated())
    }

    fn over(site: Site, (disk, simulator): (Disk, Simulator)) -> Self {
        Self {
            site,
            disk,
            simulator,
            acts: Vec::new(),
            root: String::new(),
            share: String::new(),
            retired: Vec::new(),
            heard: Vec::new(),
            synced: Vec::new(),
            doomed: Vec::new(),
            running: None,
        }
    }

    /// Goes on with what this life had come to after `n` operations, on a disk that has it.
    pub(super) fn goes_on_from(
        &self,
        n: usize,
        site: Site,
        world: (Disk, Simulator),
        more: Group,
    ) -> Self {
        let Expected { certain, open } = self.expected(n);
        let inherited = |is_acknowledged, groups| {
            let name = "what came before".to_owned();
            Act { name, before: 0, after: 0, is_acknowledged, groups }
        };
        let certain = certain.into_iter().chain(more).collect();
        let synced = self.synced_calls(n);
        Self {
            acts: vec![inherited(true, vec![certain]), inherited(false, open)],
            root: self.root.clone(),
            share: self.share.clone(),
            heard: self.heard[..synced].iter().map(|(_, id)| (0, id.clone())).collect(),
            synced: vec![(0, synced)],
            ..Self::over(site, world)
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
        if is_open {
            self.audit_is_synced();
        }
        is_open
    }

    /// Unseals a store that an anchor has shown to be an older one.
    pub(super) async fn accept_rollback(&mut self) -> bool {
        let before = self.simulator.operations();
        let is_open = self.running().accept_rollback(&self.share).await;
        let group = vec![(Thing::Rollback, ABSENT.to_owned())];
        self.note("accept the rollback", before, is_open, vec![group]);
        is_open
    }

    /// What the audit thread and the anchor job do each second.
    pub(super) async fn let_a_second_pass(&mut self) {
        let before = self.simulator.operations();
        let is_synced = self.running().sync_audit();
        self.note("sync the audit file", before, is_synced, Vec::new());
        if is_synced {
            self.audit_is_synced();
        }
        let before = self.simulator.operations();
        let is_kept = self.running().kista.vault().anchor().await.is_ok();
        self.note("write the anchor", before, is_kept, Vec::new());
    }

    /// Of how many calls the lines were synced after so many operations.
    pub(super) fn synced_calls(&self, n: usize) -> usize {
        let synced = self.synced.iter().filter(|(at, _)| *at <= n).map(|(_, calls)| *calls);
        synced.max().unwrap_or(0)
    }

    /// Whether it began with nothing.
    pub(super) fn is_first(&self) -> bool {
        self.acts.first().is_none_or(|act| act.after > 0)
    }

    fn audit_is_synced(&mut self) {
        self.synced.push((self.simulator.operations(), self.heard.len()));
    }

    /// Seals, which ends the journal with its Close record.
    pub(super) async fn seal(&mut self) {
        let before = self.simulator.operations();
        let answer = self.running().call(&self.root, Write, "sys/seal", "").await;
        self.note("seal", before, answer.status == 204, Vec::new());
        if answer.status == 204 {
            self.audit_is_synced();
        }
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
            let answer = task.await.unwrap();
            self.running().hear(&answer);
            is_done &= answer.status == 200;
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

    /// Takes a new share in place of the old one, which opens nothing any more; nor do these
    /// keyfiles, whose secrets are not shown.
    pub(super) async fn rekey(&mut self, dropped: &[&Slot]) {
        let before = self.simulator.operations();
        let plan = r#"{"secret_shares":1,"secret_threshold":1}"#;
        let begun = self.running().call(&self.root, Write, "sys/rekey/init", plan).await;
        let shown = json!({"key": self.share, "nonce": begun.body["nonce"]}).to_string();
        let done = self.running().call(&self.root, Write, "sys/rekey/update", &shown).await;
        let is_done = done.status == 200 && done.body["complete"] == true;
        assert!(is_done, "{begun:?} {done:?}");
        let new = text(&done.body["keys"][0]).to_owned();
        self.retired.push(std::mem::replace(&mut self.share, new.clone()));
        let mut group = vec![(Thing::Share, new)];
        group.extend(dropped.iter().map(|slot| slot.is(ABSENT)));
        self.note("rekey", before, is_done, vec![group]);
    }

    /// Adds a slot that opens with a keyfile.
    pub(super) async fn add_keyfile(&mut self, byte: u8) -> Slot {
        let before = self.simulator.operations();
        let key = data_encoding::BASE64.encode(&[byte; 32]);
        let body = json!({"type": "keyfile", "key": key}).to_string();
        let answer = self.running().call(&self.root, Write, "sys/slots", &body).await;
        let id = text(&answer.body["data"]["slot"]["id"]).to_owned();
        let slot = Slot { id, key };
        let is_done = answer.status == 200;
        self.note("add a slot", before, is_done, vec![vec![slot.is(OPEN)]]);
        slot
    }

    /// Takes a slot out, and keeps the root key.
    pub(super) async fn drop_slot(&mut self, slot: &Slot) {
        let path = format!("sys/slots/{}?keep_root=true", slot.id);
        self.ask(Delete, &path, Value::Null, vec![vec![slot.is(ABSENT)]]).await;
    }

    /// A new snapshot in place of the one before and the journal behind it, until nothing that was
    /// removed is in any file; and a write meanwhile.
    pub(super) async fn compact(&mut self, written: &str) {
        let before = self.simulator.operations();
        let begun = self.running().call(&self.root, Write, "sys/compact", "").await;
        assert_eq!(begun.status, 200, "{begun:?}");
        self.put(written, 1, "meanwhile").await;
        for _ in 0..5_000 {
            let status = self.running().call(&self.root, Read, "sys/compact", "").await;
            let data = &status.body["data"];
            if data["state"] == "idle" {
                assert_eq!(data["last"]["result"], "done", "{status:?}");
                let group = vec![(Thing::Erasure, ABSENT.to_owned())];
                self.note("compact and erase", before, true, vec![group]);
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("the compaction does not end");
    }

    /// Notes that something was just removed for good: its files are to go.
    pub(super) fn dooms(&mut self) {
        let mut files = Vec::new();
        for folder in ["journal", "snapshots"] {
            let folder = self.site.data().join(folder);
            let names = self.disk.read_dir(&folder).unwrap_or_default();
            files.extend(names.into_iter().map(|name| folder.join(name)));
        }
        self.doomed.push((self.simulator.operations(), files));
    }

    /// While it is open, whatever was refused, it reads what was acknowledged.
    pub(super) async fn still_reads(&self, place: &str) {
        let Some(running) = &self.running else { return };
        if running.kista.vault().status().is_sealed {
            return;
        }
        // A device that failed is tried again within a second; a fault may meet the first attempt.
        if !running.sync_audit() {
            running.sync_audit();
        }
        let expected = self.expected(usize::MAX);
        let in_doubt: BTreeSet<&Thing> =
            expected.open.iter().flatten().map(|(thing, _)| thing).collect();
        let ways = Ways::by(&self.share);
        for (thing, state) in &expected.certain {
            // Whether a keyfile opens it is seen when it is sealed.
            if !in_doubt.contains(thing) && !matches!(thing, Thing::Keyfile(_)) {
                let found = self.look(running, thing, &ways).await;
                assert_eq!(&found, state, "{thing:?}\n{place}");
            }
        }
    }

    /// Notes an act that has just ended.
    pub(super) fn note(&mut self, name: &str, before: usize, is_done: bool, groups: Vec<Group>) {
        let (name, after) = (name.to_owned(), self.simulator.operations());
        let heard = self.running.as_ref().map(Running::take_heard).unwrap_or_default();
        self.heard.extend(heard.into_iter().map(|id| (after, id)));
        self.acts.push(Act { name, before, after, is_acknowledged: is_done, groups });
    }

    /// What must be found when the disk stopped after `n` operations. What is under way then, or
    /// was never acknowledged, may be there or not.
    pub(super) fn expected(&self, n: usize) -> Expected {
        let mut expected = Expected::default();
        for act in &self.acts {
            if act.is_acknowledged && act.after <= n {
                expected.certain.extend(act.groups.iter().flatten().cloned());
            } else if act.before < n || act.after == 0 {
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
}

/// A slot that opens with a keyfile.
pub(super) struct Slot {
    id: String,
    key: String,
}

impl Slot {
    fn is(&self, state: &str) -> (Thing, String) {
        (Thing::Keyfile(self.key.clone()), state.to_owned())
    }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What is not there, and what is.
pub(super) const ABSENT: &str = "absent";
pub(super) const OPEN: &str = "open";

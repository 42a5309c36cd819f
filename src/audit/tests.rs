//! What holds over a whole audit file: written, edited, cut, opened again.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Admitted, AuditError, AuthPart, BadLine, Broker, DeviceConfig, Entry, Finding, Kind, LineFault,
    MountPart, Notice, OpenError, PolicyResults, RequestPart, ResponsePart, SignedCheckpoint,
    Verified, Verifier, VerifyError,
    chain::{Checkpoint, Line, Link, Reason, finish},
    named_position,
};
use crate::{
    barrier::{self, AuditKeys, AuditMark, Position},
    clock::{ManualClock, Timestamp},
    crypto::{HmacSha256, Mac, SigningKey},
    disk::Disk,
    secret::{Key, SecretString},
};

const ID: [u8; 16] = [0xD0; 16];
const POSITION: Position = Position { generation: 1, seq: 42, chain: [5; 32] };

/// A store with one audit file, which can be opened again and again.
struct Bench {
    dir: TempDir,
    clock: Arc<ManualClock>,
    mark: AuditMark,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            clock: Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000))),
            mark: AuditMark::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("audit.log")
    }

    fn config(&self) -> DeviceConfig {
        DeviceConfig { name: "file".to_owned(), id: ID, path: self.path(), hash_paths: false }
    }

    fn try_open(&self, configs: Vec<DeviceConfig>) -> Result<(Broker, Vec<Finding>), OpenError> {
        let clock = Arc::<ManualClock>::clone(&self.clock);
        Broker::open(Disk::real(), configs, keys, self.mark.clone(), &[], clock, || POSITION)
    }

    /// Opens beside a checkpoint that was kept elsewhere, under a head that names none.
    fn open_beside(&self, kept: SignedCheckpoint) -> (Broker, Vec<Finding>) {
        let clock = Arc::<ManualClock>::clone(&self.clock);
        let (configs, mark) = (vec![self.config()], AuditMark::default());
        Broker::open(Disk::real(), configs, keys, mark, &[kept], clock, || POSITION).unwrap()
    }

    fn open(&self) -> (Broker, Vec<Finding>) {
        self.try_open(vec![self.config()]).unwrap()
    }

    /// Writes some lines and closes; the file ends with a checkpoint.
    fn written(&self, lines: usize) {
        let (broker, findings) = self.open();
        assert_eq!(findings, []);
        (0..lines).for_each(|_| line(&broker, &read("secret/data/a")).unwrap());
        broker.close();
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.path()).unwrap().lines().map(str::to_owned).collect()
    }

    fn rewrite(&self, lines: &[String]) {
        fs::write(self.path(), lines.join("\n") + "\n").unwrap();
    }

    fn verify(&self) -> Result<Verified, BadLine> {
        verify(&self.path(), true)
    }
}

fn line(broker: &Broker, entry: &Entry<'_>) -> Result<(), AuditError> {
    lines(broker, entry, None)
}

fn lines(
    broker: &Broker,
    entry: &Entry<'_>,
    before: Option<Admitted<'_>>,
) -> Result<(), AuditError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(broker.lines(entry, before))
}

fn keys(id: &[u8; 16]) -> AuditKeys {
    AuditKeys {
        leaves: Mac::new(&Key::<HmacSha256>::build(|key| key.fill(id[0] ^ 1))),
        chain: Mac::new(&Key::<HmacSha256>::build(|key| key.fill(id[0] ^ 2))),
        checkpoints: SigningKey::from_seed(&Key::build(|key| key.fill(id[0] ^ 3))),
    }
}

fn mark(n: u64, hash: [u8; 32]) -> barrier::Checkpoint {
    barrier::Checkpoint { n, hash }
}

fn verify(path: &Path, with_key: bool) -> Result<Verified, BadLine> {
    let keys = keys(&ID);
    let verifier = Verifier {
        device_id: ID,
        public_key: keys.checkpoints.public_key(),
        chain_key: with_key.then_some(&keys.chain),
    };
    verifier.file(path).map_err(|error| match error {
        VerifyError::Line { line, .. } => line,
        VerifyError::Read { cause, .. } => panic!("{cause}"),
    })
}

fn read(path: &str) -> Entry<'_> {
    Entry {
        time: Timestamp::from_millis(1_767_225_600_000),
        kind: Kind::Request,
        auth: None,
        request: RequestPart {
            id: "7d1b5b6e-0000-4000-8000-000000000000",
            operation: "read",
            mount: None,
            client_token: None,
            client_token_accessor: None,
            path,
            data: None,
            remote: None,
            wrap_ttl: None,
        },
        response: None,
        error: None,
    }
}

fn digest(value: &str) -> String {
    let tag = keys(&ID).leaves.tag(&[value.as_bytes()]);
    format!("hmac-sha256:{}", data_encoding::HEXLOWER.encode(&tag))
}

/// A line as JSON, without the members of the chain.
fn parsed(line: &str) -> Value {
    let mut value: Value = serde_json::from_str(line).unwrap();
    let object = value.as_object_mut().unwrap();
    assert_eq!(object.remove("h").unwrap().as_str().unwrap().len(), 64);
    assert_eq!(object.remove("m").unwrap().as_str().unwrap().len(), 32);
    value
}

#[test]
fn a_line_is_vaults_with_every_value_digested() {
    let bench = Bench::new();
    let (broker, _) = bench.open();
    let token = SecretString::copy_of("hvs.secret");
    let policies = ["default".to_owned(), "app".to_owned()];
    let metadata = BTreeMap::from([("who".to_owned(), "bar".to_owned())]);
    let remote: SocketAddr = "127.0.0.1:4711".parse().unwrap();
    let auth = |results| AuthPart {
        client_token: Some(&token),
        accessor: Some("acc"),
        display_name: "token",
        policies: &policies,
        token_policies: &policies,
        metadata: Some(&metadata),
        entity_id: "",
        token_type: "service",
        token_ttl: Duration::from_secs(3600),
        token_issue_time: Some(Timestamp::from_millis(1_767_225_600_000)),
        remaining_uses: None,
        policy_results: results,
    };
    let entry = Entry {
        time: Timestamp::from_millis(1_767_225_600_500),
        kind: Kind::Response,
        auth: Some(auth(Some(PolicyResults { allowed: true, granting_policies: &policies[1..] }))),
        request: RequestPart {
            id: "7d1b5b6e-0000-4000-8000-000000000000",
            operation: "create",
            mount: Some(MountPart {
                point: "kv/",
                mount_type: "kv",
                accessor: "kv_0a1b2c3d",
                class: "secret",
            }),
            client_token: Some(&token),
            client_token_accessor: Some("acc"),
            path: "kv/app",
            data: Some(br#"{"foo":"bar","nested":{"x":["bar"]}}"#),
            remote: Some(remote),
            wrap_ttl: Some(Duration::from_secs(60)),
        },
        response: Some(ResponsePart {
            auth: None,
            data: Some(br#"{"foo":"bar"}"#),
            warnings: &["a \"warning\"".to_owned()],
        }),
        error: Some("1 error occurred:\n\t* permission denied\n\n"),
    };
    line(&broker, &entry).unwrap();
    let auth = json!({
        "client_token": digest("hvs.secret"), "accessor": digest("acc"), "display_name": "token",
        "policies": ["default", "app"], "token_policies": ["default", "app"],
        "policy_results": {"allowed": true, "granting_policies": [
            {"name": "app", "namespace_id": "root", "type": "acl"}]},
        "metadata": {"who": "bar"}, "token_type": "service", "token_ttl": 3600,
        "token_issue_time": "2026-01-01T00:00:00Z",
    });
    let expected = json!({
        "time": "2026-01-01T00:00:00.5Z", "type": "response", "auth": auth,
        "request": {
            "id": "7d1b5b6e-0000-4000-8000-000000000000", "operation": "create",
            "mount_point": "kv/", "mount_type": "kv", "mount_accessor": "kv_0a1b2c3d",
            "mount_class": "secret", "client_token": digest("hvs.secret"),
            "client_token_accessor": digest("acc"), "namespace": {"id": "root"}, "path": "kv/app",
            "data": {"foo": digest("bar"), "nested": {"x": [digest("bar")]}},
            "remote_address": "127.0.0.1", "remote_port": 4711, "wrap_ttl": 60,
        },
        "response": {
            "mount_point": "kv/", "mount_type": "kv", "mount_accessor": "kv_0a1b2c3d",
            "mount_class": "secret", "data": {"foo": digest("bar")},
            "warnings": ["a \"warning\""],
        },
        "error": "1 error occurred:\n\t* permission denied\n\n",
    });
    assert_eq!(parsed(&bench.lines()[1]), expected);
    let text = fs::read_to_string(bench.path()).unwrap();
    assert!(!text.contains("hvs.secret") && !text.contains("\"acc\""));
}

#[test]
fn both_lines_of_a_request_are_what_each_would_be_alone() {
    let token = SecretString::copy_of("hvs.secret");
    let names = ["app".to_owned()];
    let results = PolicyResults { allowed: true, granting_policies: &names };
    let metadata = BTreeMap::from([("a \"name\"".to_owned(), "bar".to_owned())]);
    let auth = |token, accessor, metadata, policy_results| AuthPart {
        client_token: token,
        accessor,
        display_name: "",
        policies: &[],
        token_policies: &[],
        metadata,
        entity_id: "",
        token_type: "",
        token_ttl: Duration::ZERO,
        token_issue_time: None,
        remaining_uses: None,
        policy_results,
    };
    for token in [None, Some(&token)] {
        for (accessor, metadata) in [
            (None, None),
            (None, Some(&metadata)),
            (Some("acc"), None),
            (Some("acc"), Some(&metadata)),
        ] {
            let bench = Bench::new();
            let (broker, _) = bench.open();
            let mount =
                MountPart { point: "kv/", mount_type: "kv", accessor: "kv_0", class: "secret" };
            let entry = |kind, results| {
                let mut entry = read("kv/app");
                entry.kind = kind;
                entry.auth = Some(auth(token, accessor, metadata, results));
                entry.request.client_token = token;
                entry.request.mount = Some(mount);
                entry
            };
            let mut answer = entry(Kind::Response, None);
            let data = Some(br#"{"foo":"bar"}"#.as_slice());
            answer.response = Some(ResponsePart { auth: None, data, warnings: &[] });
            let request = entry(Kind::Request, Some(results));
            line(&broker, &request).unwrap();
            line(&broker, &answer).unwrap();
            let admitted = Admitted { time: request.time, policy_results: results };
            lines(&broker, &answer, Some(admitted)).unwrap();
            broker.close();
            let lines = bench.lines();
            let body = |line: &String| Line::parse(line.as_bytes()).unwrap().body.to_vec();
            let bodies: Vec<_> = lines.iter().map(body).collect();
            assert_eq!(bodies[3..5], bodies[1..3]);
            assert!(lines.iter().all(|line| parsed(line).is_object()));
            assert_eq!(bench.verify().unwrap().last, 6);
        }
    }
}

#[test]
fn a_request_without_a_token_leaves_a_line_too() {
    let bench = Bench::new();
    let (broker, _) = bench.open();
    line(&broker, &Entry { error: Some("permission denied"), ..read("sys/audit") }).unwrap();
    let expected = json!({
        "time": "2026-01-01T00:00:00Z", "type": "request", "auth": {"token_type": "default"},
        "request": {"id": "7d1b5b6e-0000-4000-8000-000000000000", "operation": "read",
            "namespace": {"id": "root"}, "path": "sys/audit"},
        "error": "permission denied",
    });
    assert_eq!(parsed(&bench.lines()[1]), expected);
}

#[test]
fn with_hash_paths_no_name_is_clear() {
    let bench = Bench::new();
    let config = DeviceConfig { hash_paths: true, ..bench.config() };
    let (broker, _) = bench.try_open(vec![config]).unwrap();
    let mut entry = read("planted-mount/data/planted-name/");
    entry.request.data = Some(br#"{"data":{"planted-key":1}}"#);
    entry.request.mount = Some(MountPart {
        point: "planted-mount/",
        mount_type: "kv",
        accessor: "kv_0a1b2c3d",
        class: "secret",
    });
    let warnings = ["Endpoint ignored these unrecognized parameters: [planted-key]".to_owned()];
    entry.error = Some("no handler for route \"planted-mount/data/planted-name/\"");
    entry.response = Some(ResponsePart {
        auth: None,
        data: Some(br#"{"keys":["planted-child"]}"#),
        warnings: &warnings,
    });
    line(&broker, &entry).unwrap();
    let line = &bench.lines()[1];
    assert!(!line.contains("planted"), "{line}");
    let path =
        format!("{}/{}/{}/", digest("planted-mount"), digest("data"), digest("planted-name"));
    assert_eq!(parsed(line)["request"]["path"], Value::String(path));
}

#[test]
fn a_file_begins_and_ends_with_a_checkpoint_and_holds() {
    let bench = Bench::new();
    bench.written(3);
    let lines = bench.lines();
    assert_eq!(lines.len(), 5);
    let first = parsed(&lines[0]);
    assert_eq!(first["type"], "checkpoint");
    assert_eq!(first["checkpoint"]["reason"], "start");
    assert_eq!(first["checkpoint"]["n"], 1);
    assert_eq!(first["checkpoint"]["previous"], "0".repeat(64));
    assert_eq!(first["checkpoint"]["seq"], 42);
    assert_eq!(parsed(&lines[4])["checkpoint"]["reason"], "seal");
    for with_key in [true, false] {
        let verified = verify(&bench.path(), with_key).unwrap();
        assert_eq!((verified.first, verified.last, verified.checkpoint), (1, 5, 5));
        assert_eq!(bench.mark.get(), mark(5, verified.checkpoint_hash));
    }
}

#[test]
fn the_chain_goes_on_when_the_file_is_opened_again() {
    let bench = Bench::new();
    bench.written(3);
    bench.written(0);
    bench.written(2);
    let verified = bench.verify().unwrap();
    assert_eq!((verified.first, verified.last), (1, 5 + 2 + 4));
}

#[test]
fn every_thousand_lines_and_every_minute_there_is_a_checkpoint() {
    let bench = Bench::new();
    let (broker, _) = bench.open();
    for _ in 0..2_500 {
        line(&broker, &read("secret/data/a")).unwrap();
    }
    let checkpoints = || {
        let lines = bench.lines();
        let is_checkpoint = |line: &&String| line.contains("\"type\":\"checkpoint\"");
        lines.iter().filter(is_checkpoint).count()
    };
    assert_eq!(checkpoints(), 3);
    assert_eq!(broker.health()[0].error, None);
    bench.clock.advance(Duration::from_secs(60));
    broker.tick_now();
    assert_eq!(checkpoints(), 4);
    assert_eq!(bench.mark.get().n, bench.verify().unwrap().last);
    bench.clock.advance(Duration::from_secs(600));
    broker.tick_now();
    assert_eq!(checkpoints(), 4, "nothing was written in between");
}

#[test]
fn an_edited_line_is_named() {
    let bench = Bench::new();
    bench.written(5);
    let good = bench.lines();
    for index in 0..good.len() {
        let line = good[index].as_bytes();
        for at in 0..line.len() {
            let mut edited = line.to_vec();
            edited[at] ^= 1;
            if edited[at] == b'\n' {
                continue;
            }
            let mut lines: Vec<Vec<u8>> =
                good.iter().map(|line| line.clone().into_bytes()).collect();
            lines[index] = edited;
            let mut text = lines.join(&b'\n');
            text.push(b'\n');
            fs::write(bench.path(), text).unwrap();
            let bad = bench.verify().unwrap_err();
            assert_eq!(bad.line, index as u64 + 1, "line {index} byte {at}");
        }
    }
}

#[test]
fn deleted_inserted_swapped_and_repeated_lines_are_named() {
    let bench = Bench::new();
    let (broker, _) = bench.open();
    for path in ["a", "b", "c", "d", "e"] {
        line(&broker, &read(path)).unwrap();
    }
    broker.close();
    let good = bench.lines();
    let first_bad = |lines: &[String]| {
        bench.rewrite(lines);
        let bad = bench.verify().unwrap_err();
        (bad.line, bad.fault)
    };
    let mut lines = good.clone();
    lines.remove(2);
    assert_eq!(first_bad(&lines), (3, LineFault::Hash));
    let mut lines = good.clone();
    lines.insert(2, good[4].clone());
    assert_eq!(first_bad(&lines), (3, LineFault::Hash));
    let mut lines = good.clone();
    lines.swap(2, 3);
    assert_eq!(first_bad(&lines), (3, LineFault::Hash));
    let mut lines = good.clone();
    lines.insert(3, good[2].clone());
    assert_eq!(first_bad(&lines), (4, LineFault::Hash));
    let mut lines = good.clone();
    lines.remove(5);
    assert_eq!(first_bad(&lines), (6, LineFault::Gap));
    assert_eq!(first_bad(&good[1..]), (1, LineFault::NoCheckpoint));
}

#[test]
fn a_chain_computed_again_without_the_keys_is_found() {
    let bench = Bench::new();
    bench.written(4);
    let good = bench.lines();
    let thief = keys(&[0x77; 16]);
    bench.rewrite(&forged(Link::START, &good, &thief));
    assert_eq!(bench.verify().unwrap_err().fault, LineFault::Signature);
    // The tail behind the last checkpoint, which the public key alone cannot judge.
    let h = Line::parse(good[0].as_bytes()).unwrap().h;
    let tail = forged(Link { n: 1, h }, &good[1..4], &thief);
    bench.rewrite(&[&good[..1], &tail].concat());
    assert_eq!(bench.verify().unwrap_err().fault, LineFault::Tag);
    assert_eq!(verify(&bench.path(), false).unwrap().checkpoint, 1);
}

/// Chains changed lines again, with keys that are not the device's.
fn forged(start: Link, lines: &[String], keys: &AuditKeys) -> Vec<String> {
    let mut link = start;
    let forge = |line: &String| {
        let body = Line::parse(line.as_bytes()).unwrap().body;
        let mut forged = String::from_utf8_lossy(body).replace("data/a", "data/b").into_bytes();
        if let Some((checkpoint, _signature)) = Checkpoint::parse(body) {
            let checkpoint = Checkpoint { previous: link.h, ..checkpoint };
            forged.clear();
            let time = Timestamp::from_millis(0);
            checkpoint.body(time, Reason::Interval, 0, &keys.checkpoints, &mut forged);
        }
        link = link.next(&ID, &forged);
        finish(&mut forged, &link, &keys.chain);
        String::from_utf8(forged).unwrap().trim_end().to_owned()
    };
    lines.iter().map(forge).collect()
}

#[test]
fn a_start_after_a_crash_is_no_alarm() {
    let bench = Bench::new();
    bench.written(2);
    let old_mark = bench.mark.get();
    let (broker, _) = bench.open();
    line(&broker, &read("secret/data/a")).unwrap();
    drop(broker);
    // The head is written by the next commit only: there was none.
    bench.mark.set(old_mark);
    let (broker, findings) = bench.open();
    assert_eq!(findings, []);
    broker.close();
    assert_eq!(bench.verify().unwrap().last, 4 + 2 + 2);
}

#[test]
fn an_unfinished_line_is_moved_away_and_told() {
    let bench = Bench::new();
    bench.written(2);
    let half = "{\"time\":\"2026-01-01T00:00:00Z\",\"type\":\"req";
    let text = fs::read_to_string(bench.path()).unwrap() + half;
    fs::write(bench.path(), text).unwrap();
    assert_eq!(bench.verify().unwrap().unfinished, half.len() as u64);

    let (broker, findings) = bench.open();
    let partial = bench.dir.path().join("audit.log.partial");
    assert_eq!(findings, [Finding::Partial { file: partial.clone(), bytes: half.len() as u64 }]);
    assert_eq!(fs::read_to_string(partial).unwrap(), format!("{half}\n"));
    broker.close();
    let lines = bench.lines();
    assert_eq!(parsed(&lines[4])["checkpoint"]["partial_bytes"], half.len());
    assert_eq!(bench.verify().unwrap().unfinished, 0);
}

#[test]
fn a_first_line_cut_short_is_no_hindrance() {
    let bench = Bench::new();
    bench.written(0);
    let text = fs::read_to_string(bench.path()).unwrap();
    fs::write(bench.path(), &text[..50]).unwrap();
    bench.mark.set(mark(0, [0; 32]));
    let (_broker, findings) = bench.open();
    assert!(matches!(findings[..], [Finding::Partial { bytes: 50, .. }]));
}

#[test]
fn a_tail_cut_before_the_heads_checkpoint_is_truncation() {
    let bench = Bench::new();
    bench.written(3);
    bench.rewrite(&bench.lines()[..3]);
    let (broker, findings) = bench.open();
    let file = bench.path();
    assert_eq!(findings, [Finding::Truncated { file, found: 1, expected: 5 }]);
    broker.close();
    let lines = bench.lines();
    assert_eq!(parsed(&lines[3])["checkpoint"]["n"], 6, "numbers are not used again");
    let notice = json!({"event": "audit_truncated", "found": 1, "expected": 5});
    assert_eq!(parsed(&lines[4])["notice"], notice);
    assert_eq!(bench.verify().unwrap_err().fault, LineFault::Gap);
}

#[test]
fn a_file_that_is_gone_is_truncation_and_the_next_one_goes_on() {
    let bench = Bench::new();
    bench.written(3);
    fs::remove_file(bench.path()).unwrap();
    let (broker, findings) = bench.open();
    assert!(matches!(findings[..], [Finding::Truncated { found: 0, expected: 5, .. }]));
    broker.close();
    let verified = bench.verify().unwrap();
    assert_eq!((verified.first, verified.last), (6, 8));
}

#[test]
fn another_history_of_the_same_length_is_set_aside() {
    let bench = Bench::new();
    bench.written(3);
    bench.mark.set(mark(bench.mark.get().n, [9; 32]));
    let (_broker, findings) = bench.open();
    let [Finding::Damaged { line: 5, fault, .. }, aside, Finding::Truncated { expected: 5, .. }] =
        &findings[..]
    else {
        panic!("{findings:?}")
    };
    assert_eq!(*fault, LineFault::Replaced);
    assert!(matches!(aside, Finding::SetAside { .. }));
}

#[test]
fn a_file_is_held_against_a_checkpoint_that_was_kept_elsewhere() {
    let bench = Bench::new();
    let (broker, _) = bench.open();
    assert_eq!(broker.checkpoint().unwrap().n, 1);
    (0..3).for_each(|_| line(&broker, &read("secret/data/a")).unwrap());
    broker.close();
    let kept = broker.checkpoint().unwrap();
    assert_eq!(kept.n, 5);
    assert!(kept.is_signed(&keys(&ID).checkpoints.public_key()));
    assert!(!kept.is_signed(&keys(&[1; 16]).checkpoints.public_key()));
    drop(broker);
    let (broker, findings) = bench.open_beside(kept);
    assert_eq!(findings, [], "the file goes on behind it");
    drop(broker);

    bench.rewrite(&bench.lines()[..1]);
    let (_broker, findings) = bench.open_beside(kept);
    let file = bench.path();
    assert_eq!(findings, [Finding::Truncated { file, found: 1, expected: 5 }]);
}

/// One who has the keys writes another file, as long as the one that was there and longer.
#[test]
fn a_file_that_was_written_again_with_the_keys_is_found_by_what_was_kept_elsewhere() {
    let bench = Bench::new();
    let (broker, _) = bench.open();
    (0..3).for_each(|_| line(&broker, &read("secret/data/a")).unwrap());
    broker.close();
    let kept = broker.checkpoint().unwrap();
    drop(broker);
    // The time is another one, so are the hashes.
    bench.clock.advance(Duration::from_secs(1));
    fs::remove_file(bench.path()).unwrap();
    bench.mark.set(mark(0, [0; 32]));
    bench.written(3);
    bench.written(2);
    bench.verify().unwrap();
    let (_broker, findings) = bench.open_beside(kept);
    let [Finding::Damaged { line: 5, fault: LineFault::Replaced, .. }] = findings[..] else {
        panic!("{findings:?}")
    };
}

#[test]
fn a_damaged_end_is_set_aside_and_the_chain_goes_on() {
    let bench = Bench::new();
    let (broker, _) = bench.open();
    (0..3).for_each(|_| line(&broker, &read("secret/data/a")).unwrap());
    drop(broker);
    let mut lines = bench.lines();
    lines[2] = lines[2].replace("secret/data/a", "secret/data/b");
    bench.rewrite(&lines);
    let (broker, findings) = bench.open();
    let aside = bench.dir.path().join("audit.log.aside-1");
    let offset = (lines[0].len() + lines[1].len() + 2) as u64;
    let damaged = Finding::Damaged { file: bench.path(), line: 3, offset, fault: LineFault::Hash };
    assert_eq!(findings, [damaged, Finding::SetAside { file: aside.clone() }]);
    broker.close();
    assert!(aside.exists());
    assert_eq!(bench.verify().unwrap().first, 3, "line 2 was the last that held");
    let told: Vec<Value> =
        bench.lines()[1..3].iter().map(|line| parsed(line)["notice"]["event"].clone()).collect();
    assert_eq!(told, ["audit_damaged", "audit_set_aside"]);
}

#[test]
fn a_new_file_that_begins_with_a_hole_is_set_aside() {
    let bench = Bench::new();
    let (broker, _) = bench.open();
    (0..3).for_each(|_| line(&broker, &read("secret/data/a")).unwrap());
    drop(broker);
    bench.mark.set(mark(0, [0; 32]));
    let mut bytes = fs::read(bench.path()).unwrap();
    bytes[..512].fill(0);
    fs::write(bench.path(), bytes).unwrap();
    let (broker, findings) = bench.open();
    assert!(
        matches!(findings[..], [Finding::Damaged { line: 1, .. }, Finding::SetAside { .. }]),
        "{findings:?}"
    );
    broker.close();
    bench.verify().unwrap();
}

#[test]
fn a_crash_behind_setting_aside_is_not_taken_for_a_cut_file() {
    let bench = Bench::new();
    bench.written(3);
    let aside = bench.dir.path().join("audit.log.aside-1");
    fs::rename(bench.path(), &aside).unwrap();
    let (broker, findings) = bench.open();
    assert_eq!(findings, []);
    broker.close();
    assert_eq!(bench.verify().unwrap().first, 6, "the chain goes on");
    // What was moved away does not speak for a file that is gone.
    fs::remove_file(bench.path()).unwrap();
    let (_broker, findings) = bench.open();
    let truncated = [Finding::Truncated { file: bench.path(), found: 5, expected: 7 }];
    assert_eq!(findings, truncated);
}

#[test]
fn damage_before_the_last_checkpoint_is_found_and_told() {
    let bench = Bench::new();
    bench.written(3);
    let mut lines = bench.lines();
    lines[1] = lines[1].replace("secret/data/a", "secret/data/b");
    bench.rewrite(&lines);
    let (broker, findings) = bench.open();
    assert!(matches!(findings[..], [Finding::Damaged { line: 2, fault: LineFault::Hash, .. }]));
    broker.close();
    assert_eq!(bench.lines().len(), 5 + 3, "the file is gone on with");
}

#[test]
fn another_stores_file_is_set_aside_and_any_other_file_is_left_alone() {
    let bench = Bench::new();
    bench.written(3);
    bench.mark.set(mark(0, [0; 32]));
    let other = DeviceConfig { id: [0xD1; 16], ..bench.config() };
    let (broker, findings) = bench.try_open(vec![other]).unwrap();
    assert!(matches!(findings[..], [Finding::SetAside { .. }]));
    drop(broker);

    fs::write(bench.path(), "Jan 1 00:00:00 host kernel: hello\n").unwrap();
    let text = bench.try_open(vec![bench.config()]).unwrap_err().to_string();
    assert!(text.contains("audit.log") && text.contains("move it away"), "{text}");
    assert!(fs::read_to_string(bench.path()).unwrap().starts_with("Jan 1"));
}

#[test]
fn a_file_has_one_writer() {
    let bench = Bench::new();
    let (_broker, _) = bench.open();
    let text = bench.try_open(vec![bench.config()]).unwrap_err().to_string();
    assert!(text.contains("another process writes it"), "{text}");
}

#[test]
fn each_of_two_devices_has_its_own_chain_and_keys() {
    let bench = Bench::new();
    let path = bench.dir.path().join("second.log");
    let second = DeviceConfig {
        name: "second".to_owned(),
        id: [0xD1; 16],
        path: path.clone(),
        hash_paths: false,
    };
    let (broker, _) = bench.try_open(vec![bench.config(), second]).unwrap();
    let mut entry = read("secret/data/a");
    entry.request.data = Some(b"{\"a\":\"hunter2\"}");
    line(&broker, &entry).unwrap();
    broker.close();
    assert_eq!(bench.verify().unwrap().last, 3);
    assert_eq!(bench.mark.get().hash, bench.verify().unwrap().checkpoint_hash);
    assert_eq!(verify(&path, true).unwrap_err().fault, LineFault::Device);
    let second: Vec<String> =
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    assert_ne!(parsed(&second[1])["request"]["data"], parsed(&bench.lines()[1])["request"]["data"]);
}

#[test]
fn one_device_that_writes_is_enough_and_the_other_is_named() {
    let bench = Bench::new();
    let folder = bench.dir.path().join("late");
    let late = DeviceConfig {
        name: "late".to_owned(),
        id: [0xD1; 16],
        path: folder.join("audit.log"),
        hash_paths: false,
    };
    let (broker, _) = bench.try_open(vec![bench.config(), late]).unwrap();
    line(&broker, &read("secret/data/a")).unwrap();
    let health = broker.health();
    assert_eq!((health[0].name.as_str(), &health[0].error), ("file", &None));
    assert_eq!(health[1].name, "late");
    assert!(health[1].error.is_some());

    fs::create_dir(&folder).unwrap();
    broker.tick_now();
    assert_eq!(broker.health()[1].error, None);
    line(&broker, &read("secret/data/a")).unwrap();
    let lines = fs::read_to_string(folder.join("audit.log")).unwrap();
    let first = parsed(lines.lines().next().unwrap());
    assert_eq!(first["checkpoint"]["missed"], 1);
}

#[test]
fn when_no_device_can_be_opened_all_are_named() {
    let bench = Bench::new();
    let path = bench.dir.path().join("none").join("audit.log");
    let config = DeviceConfig { path, ..bench.config() };
    let text = bench.try_open(vec![config]).unwrap_err().to_string();
    assert!(text.starts_with("no audit device can be opened: file ("), "{text}");
    assert!(text.contains("none/audit.log): No such file"), "{text}");
}

#[test]
fn without_devices_there_is_nothing_to_do() {
    let bench = Bench::new();
    let (broker, findings) = bench.try_open(vec![]).unwrap();
    assert!(!broker.is_enabled() && findings.is_empty());
    line(&broker, &read("secret/data/a")).unwrap();
    broker.close();
    line(&broker, &read("secret/data/a")).unwrap();
}

#[test]
fn no_line_is_taken_after_the_end() {
    let bench = Bench::new();
    let (broker, _) = bench.open();
    broker.close();
    let AuditError { devices } = line(&broker, &read("secret/data/a")).unwrap_err();
    assert_eq!(devices[0].name, "file");
    assert_eq!(bench.verify().unwrap().last, 2);
}

#[test]
fn notices_are_lines_of_the_chain() {
    let bench = Bench::new();
    let (broker, _) = bench.open();
    let repaired = Path::new("/data/seal.1");
    for notice in [
        Notice::Unsealed { attempts: 3, failures: 1 },
        Notice::UnfinishedCommitCut { seq: 7 },
        Notice::IndexRebuilt,
        Notice::SnapshotDamaged { reason: "a.snap is damaged" },
        Notice::SealFileRepaired { file: repaired },
    ] {
        broker.notice(&notice).unwrap();
    }
    broker.close();
    let notices: Vec<Value> =
        bench.lines()[1..6].iter().map(|line| parsed(line)["notice"].clone()).collect();
    let expected = json!([
        {"event": "unsealed", "attempts": 3, "failures": 1},
        {"event": "unfinished_commit_cut", "seq": 7},
        {"event": "index_rebuilt"},
        {"event": "snapshot_damaged", "reason": "a.snap is damaged"},
        {"event": "seal_file_repaired", "file": "/data/seal.1"},
    ]);
    assert_eq!(Value::Array(notices), expected);
    assert_eq!(bench.verify().unwrap().last, 7);
}

#[test]
fn the_last_checkpoint_is_found_in_a_long_file() {
    let bench = Bench::new();
    let (broker, _) = bench.open();
    let long = "x".repeat(300);
    (0..999).for_each(|_| line(&broker, &read(&long)).unwrap());
    drop(broker);
    assert!(fs::metadata(bench.path()).unwrap().len() > 500_000);
    let (_broker, findings) = bench.open();
    assert_eq!(findings, []);
}

#[test]
fn a_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.written(0);
    assert_eq!(fs::metadata(bench.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_position_that_a_file_names_is_its_last_signed_one() {
    let bench = Bench::new();
    assert_eq!(named_position(&Disk::real(), &bench.path(), keys).unwrap(), None);
    bench.written(3);
    assert_eq!(named_position(&Disk::real(), &bench.path(), keys).unwrap(), Some(POSITION));
    let mut lines = bench.lines();
    lines[4] = lines[4].replace("\"seq\":42", "\"seq\":43");
    bench.rewrite(&lines);
    assert_eq!(named_position(&Disk::real(), &bench.path(), keys).unwrap(), None);
}

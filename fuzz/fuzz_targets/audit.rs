//! Audit lines: what is written is JSON, holds no value in the clear, and verifies; of a file that
//! was changed nothing is proven but what was written.
//!
//! Input: a byte that picks what the rest is: a body that is written, a change of the file (which,
//! and three bytes that say where), or a line put behind it whose hash fits.
#![no_main]

use std::{
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};

use data_encoding::HEXLOWER;
use kista::{
    audit::{
        Broker, DeviceConfig, Entry, Kind, Notice, RequestPart, ResponsePart, Verified, Verifier,
    },
    barrier::{AuditKeys, AuditMark, Position},
    clock::{ManualClock, Timestamp},
    crypto::{HmacSha256, Mac, SigningKey, mac::sha256},
    disk::Disk,
    json,
    secret::{Key, SecretString},
};
use kista_fuzz::change;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

const ID: [u8; 16] = [0xd0; 16];
/// Stands at the front of every text of a body, and must not be in a line.
const MARK: &str = "CLEAR-7c1f-";
/// `…"}` and the end of line: the tag stands at the end.
const TAG: usize = 32 + 3;

struct Ground {
    folder: tempfile::TempDir,
    /// A file as it was written, and what it proves.
    written: Vec<u8>,
    proven: Verified,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("whole.log");
    let broker = open(&path);
    for body in [r#"{"a":"b"}"#, r#"{"list":[1,true,null,"x"]}"#, "{}"] {
        line(&broker, body.as_bytes());
    }
    broker.notice(&Notice::IndexRebuilt).expect("a line");
    broker.close();
    let proven = verify(&path, true).expect("as it was written");
    Ground { written: fs::read(&path).expect("it is there"), proven, folder }
});

fn keys(_: &[u8; 16]) -> AuditKeys {
    let mac = |byte| Mac::new(&Key::<HmacSha256>::build(|key| key.fill(byte)));
    let checkpoints = SigningKey::from_seed(&Key::build(|key| key.fill(3)));
    AuditKeys { leaves: mac(1), chain: mac(2), checkpoints }
}

fn open(path: &Path) -> Broker {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)));
    let config =
        DeviceConfig { name: "file".to_owned(), id: ID, path: path.to_owned(), hash_paths: true };
    let position = || Position { generation: 1, seq: 42, chain: [5; 32] };
    let mark = AuditMark::default();
    let opened = Broker::open(Disk::real(), vec![config], keys, mark, &[], clock, position);
    opened.expect("a new file").0
}

fn entry(body: &[u8]) -> Entry<'_> {
    static TOKEN: LazyLock<SecretString> =
        LazyLock::new(|| SecretString::copy_of(&format!("{MARK}token")));
    Entry {
        time: Timestamp::from_millis(1_767_225_600_000),
        kind: Kind::Response,
        auth: None,
        request: RequestPart {
            id: "1",
            operation: "update",
            mount: None,
            client_token: Some(&TOKEN),
            client_token_accessor: None,
            path: "secret/data/a",
            data: Some(body),
            remote: None,
            wrap_ttl: None,
        },
        response: Some(ResponsePart { auth: None, data: Some(body), warnings: &[] }),
        error: None,
    }
}

/// Has a line with this body written.
fn line(broker: &Broker, body: &[u8]) {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));
    RUNTIME.block_on(broker.lines(&entry(body), None)).expect("a line");
}

fn verify(path: &Path, with_key: bool) -> Option<Verified> {
    let keys = keys(&ID);
    let chain_key = with_key.then_some(&keys.chain);
    let public_key = keys.checkpoints.public_key();
    Verifier { device_id: ID, public_key, chain_key }.file(path).ok()
}

fuzz_target!(init: { LazyLock::force(&GROUND); }, |input: &[u8]| {
    let ground = &*GROUND;
    let path = ground.folder.path().join("changed.log");
    match input {
        [0, body @ ..] => write_a_body(body),
        [1, how, a, b, c, rest @ ..] => {
            let place = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let Some((mut changed, _)) = change(&ground.written, *how, place, LINE) else { return };
            changed.extend_from_slice(rest);
            fs::write(&path, &changed).expect("the folder can be written to");
            check(&path, &changed);
        }
        [_, body @ ..] => {
            if body.contains(&b'\n') {
                return;
            }
            let changed = [&ground.written, &*line_behind(body, &ground.proven)].concat();
            fs::write(&path, &changed).expect("the folder can be written to");
            assert!(verify(&path, true).is_none(), "made without the chain key");
            if let Some(proven) = verify(&path, false) {
                // Whoever has the file can make such lines; they are behind the last checkpoint.
                assert_eq!(proven.checkpoint, ground.proven.checkpoint);
            }
        }
        _ => {}
    }
});

/// Long enough to tear lines apart.
const LINE: usize = 700;

/// Nothing counts but lines as they were written.
fn check(path: &Path, changed: &[u8]) {
    for with_key in [true, false] {
        let Some(proven) = verify(path, with_key) else { continue };
        let end = usize::try_from(proven.end).expect("a short file");
        assert_eq!(proven.first, 1);
        let (proven_lines, written) = (&changed[..end], &*GROUND.written);
        if with_key {
            assert!(written.starts_with(proven_lines));
        } else {
            // Tags are for who has the key.
            let lines = |bytes| without_tags(bytes).collect::<Vec<_>>();
            assert!(lines(written).starts_with(&lines(proven_lines)));
        }
        assert!(proven.last <= GROUND.proven.last);
    }
}

fn without_tags(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| &line[..line.len().saturating_sub(TAG)])
}

/// A line with the hash that follows, and a tag that nobody without the key can make.
fn line_behind(body: &[u8], before: &Verified) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("inputs are short").to_be_bytes();
    let n = (before.last + 1).to_be_bytes();
    let hash = sha256(&[b"kista/audit/1\0", &ID, &before.last_hash, &n, &length, body]);
    let suffix = format!(
        ",\"h\":\"{}\",\"m\":\"{}\"}}\n",
        HEXLOWER.encode(&hash),
        HEXLOWER.encode(&[7; 16])
    );
    [body, suffix.as_bytes()].concat()
}

fn write_a_body(body: &[u8]) {
    if json::check(body).is_err() {
        return;
    }
    // What the scanner takes and serde_json does not is a number that no double can hold.
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let body = marked(value).to_string();
    let path = GROUND.folder.path().join("lines.log");
    if path.exists() {
        fs::remove_file(&path).expect("it is ours");
    }
    let broker = open(&path);
    line(&broker, body.as_bytes());
    broker.close();
    let written = fs::read_to_string(&path).expect("lines are text");
    assert!(!written.contains(MARK), "{body}: {written}");
    for line in written.lines() {
        assert!(json::check(line.as_bytes()).is_ok(), "{line}");
    }
    let proven = verify(&path, true).expect("as it was written");
    assert_eq!(proven.end, written.len() as u64);
}

/// Every text begins with the mark, names included.
fn marked(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(format!("{MARK}{text}")),
        Value::Array(values) => values.into_iter().map(marked).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (format!("{MARK}{name}"), marked(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Number(_) | Value::Bool(_) | Value::Null => value,
    }
}

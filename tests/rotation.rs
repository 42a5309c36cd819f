//! Rotation, asked for over the wire, with the vault at work.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use kista::gate::Operation::{Delete, List, Read, Write};
use serde_json::{Value, json};

use crate::support::{TestVault, files_under};

async fn status(vault: &TestVault) -> Value {
    vault.as_root(Read, "sys/rotate/status", "").await.json()["data"].clone()
}

async fn rotate(vault: &TestVault) {
    let answer = vault.as_root(Write, "sys/rotate", "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

async fn put(vault: &TestVault, path: &str, value: &str) {
    let body = json!({"data": {"value": value}}).to_string();
    let answer = vault.as_root(Write, &format!("secret/data/{path}"), &body).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
}

async fn read(vault: &TestVault, path: &str) -> Value {
    let answer = vault.as_root(Read, &format!("secret/data/{path}"), "").await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()["data"]["data"]["value"].clone()
}

/// Waits until the rotation stands at one of these steps.
async fn until(vault: &TestVault, steps: &[&str]) -> Value {
    for _ in 0..1_000 {
        let status = status(vault).await;
        assert_eq!(status.get("error"), None, "{status}");
        if steps.iter().any(|step| status["step"] == *step) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(vault).await, json!(steps), "the rotation does not come there");
    Value::Null
}

#[tokio::test]
async fn each_rotation_makes_a_term() {
    let vault = TestVault::open().await;
    let key_status = async || vault.as_root(Read, "sys/key-status", "").await.json();
    let before = key_status().await;
    assert_eq!((&before["term"], &before["data"]["term"]), (&json!(1), &json!(1)));
    assert!(before["data"]["encryptions"].as_u64() > Some(0));
    assert_eq!(before["data"]["install_time"], "2026-01-01T00:00:00Z");
    rotate(&vault).await;
    rotate(&vault).await;
    assert_eq!(key_status().await["data"]["term"], 3);
    let answer = vault.as_root(Write, "sys/rotate/keyring", "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(key_status().await["data"]["term"], 4);
    assert_eq!(vault.as_root(Read, "sys/rotate", "").await.status, 405);
}

#[tokio::test]
async fn the_schedule_is_kept_within_its_bounds() {
    let vault = TestVault::open().await;
    let read = async || {
        let answer = vault.as_root(Read, "sys/rotate/config", "").await;
        answer.json()["data"].clone()
    };
    let initial = json!({"enabled": true, "interval": 0, "max_operations": 3_865_470_566_u64});
    assert_eq!(read().await, initial);
    let body = r#"{"max_operations": "2000000", "interval": "48h"}"#;
    assert_eq!(vault.as_root(Write, "sys/rotate/config", body).await.status, 204);
    let written = json!({"enabled": true, "interval": "48h0m0s", "max_operations": 2_000_000});
    assert_eq!(read().await, written);
    for (body, text) in [
        (r#"{"max_operations": 5}"#, "max_operations must be in the range [1000000,3865470566]"),
        (
            r#"{"max_operations": 99999999999}"#,
            "max_operations must be in the range [1000000,3865470566]",
        ),
        (r#"{"interval": "1h"}"#, "interval must be greater or equal to 24h0m0s"),
        (
            r#"{"interval": "soon"}"#,
            "Field validation failed: error converting input for field \"interval\": time: invalid \
             duration \"soon\"",
        ),
    ] {
        let answer = vault.as_root(Write, "sys/rotate/config", body).await;
        assert_eq!((answer.status, answer.json()), (400, json!({"errors": [text]})), "{body}");
    }
    assert_eq!(read().await, written);
}

#[tokio::test]
async fn a_term_that_is_old_enough_is_followed_by_another() {
    let vault = TestVault::open().await;
    let body = r#"{"interval": "24h"}"#;
    assert_eq!(vault.as_root(Write, "sys/rotate/config", body).await.status, 204);
    assert_eq!(status(&vault).await["term"], 1);
    vault.clock.advance(Duration::from_secs(24 * 3600));
    for _ in 0..500 {
        if status(&vault).await["term"] == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(&vault).await["term"], 2);
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Every file that holds these bytes.
fn holding(vault: &TestVault, needle: &[u8]) -> Vec<PathBuf> {
    let files = vault.files().into_iter();
    files.filter(|(_, bytes)| holds(bytes, needle)).map(|(path, _)| path).collect()
}

/// What the newest segment of the journal holds.
fn journal(vault: &TestVault) -> Vec<u8> {
    let journal = vault.folder().join("journal");
    let mut segments = files_under(&journal);
    segments.retain(|(path, _)| path.file_name().is_some_and(|name| name != "spare"));
    segments.into_iter().max().unwrap().1
}

/// A piece of the ciphertext that a write has put into the journal.
async fn sealed_by_put(vault: &TestVault, path: &str) -> Vec<u8> {
    sealed_by(vault, put(vault, path, &long())).await
}

fn long() -> String {
    "secret ".repeat(500)
}

async fn sealed_by(vault: &TestVault, write: impl Future<Output = ()>) -> Vec<u8> {
    let before = journal(vault);
    write.await;
    let after = journal(vault);
    let first = before.iter().zip(&after).position(|(before, after)| before != after).unwrap();
    let piece = after[first + 1_500..first + 1_564].to_vec();
    assert!(!holding(vault, &piece).is_empty());
    piece
}

async fn put_plain(vault: &TestVault, path: &str, value: &str) {
    let body = format!(r#"{{"v":"{value}"}}"#);
    assert_eq!(vault.as_root(Write, path, &body).await.status, 204);
}

#[tokio::test]
async fn what_is_destroyed_is_in_no_file_once_it_is_erased() {
    let vault = TestVault::open().await;
    put(&vault, "kept", "value").await;
    let mut pieces = Vec::new();
    for path in ["destroyed", "removed", "pruned"] {
        pieces.push(sealed_by_put(&vault, path).await);
    }
    for path in ["plain/replaced", "plain/deleted"] {
        pieces.push(sealed_by(&vault, put_plain(&vault, path, &long())).await);
    }
    put_plain(&vault, "plain/replaced", "next").await;
    assert_eq!(vault.as_root(Delete, "plain/deleted", "").await.status, 204);
    let body = r#"{"versions": [1]}"#;
    assert_eq!(vault.as_root(Write, "secret/destroy/destroyed", body).await.status, 204);
    let gone = vault.as_root(Delete, "secret/metadata/removed", "").await;
    assert_eq!(gone.status, 204);
    let body = r#"{"max_versions": 1}"#;
    assert_eq!(vault.as_root(Write, "secret/metadata/pruned", body).await.status, 204);
    put(&vault, "pruned", "next").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(pieces.iter().all(|piece| !holding(&vault, piece).is_empty()));

    vault.clock.advance(Duration::from_secs(600));
    for _ in 0..1_000 {
        if pieces.iter().all(|piece| holding(&vault, piece).is_empty()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for piece in &pieces {
        assert_eq!(holding(&vault, piece), Vec::<PathBuf>::new());
    }
    assert_eq!(read(&vault, "kept").await, "value");
    assert_eq!(read(&vault, "pruned").await, "next");
    vault.seal().await;
    vault.unseal().await;
    assert_eq!(read(&vault, "kept").await, "value");
}

fn copy_folder(from: &Path, to: &Path) {
    for (path, bytes) in files_under(from) {
        let to = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
}

/// The folder of a sealed vault and an older copy of it open, and neither does with the seal file
/// of the other.
async fn assert_apart(vault: &TestVault, old: &Path) {
    let new = vault.folder();
    for (data, seal, opens) in
        [(&*new, &*new, true), (old, old, true), (old, &new, false), (&new, old, false)]
    {
        let mixed = tempfile::tempdir().unwrap();
        copy_folder(data, mixed.path());
        for name in ["seal.0", "seal.1"] {
            fs::copy(seal.join(name), mixed.path().join(name)).unwrap();
        }
        assert_eq!(vault.opens(mixed.path()).await, opens, "{data:?} with the seal of {seal:?}");
    }
}

/// Format 1, XAES-256-GCM, the flags of a record or a head, then the number of a term.
fn header(flags: u8, term: u8) -> [u8; 8] {
    [1, 1, flags, 0, 0, 0, 0, term]
}

#[tokio::test]
async fn an_old_term_is_destroyed_and_so_is_what_it_sealed() {
    let vault = TestVault::open().await;
    for n in 0..40 {
        put(&vault, &format!("small/{n}"), &format!("value {n}")).await;
    }
    put(&vault, "long", &"x".repeat(20_000)).await;
    let piece = sealed_by_put(&vault, "piece").await;
    assert!((0..3).all(|flags| !holding(&vault, &header(flags, 1)).is_empty()));
    let old = tempfile::tempdir().unwrap();
    copy_folder(&vault.folder(), old.path());

    rotate(&vault).await;
    let done = until(&vault, &["idle"]).await;
    assert_eq!((&done["term"], &done["retiring"]), (&json!(2), &json!([])));
    assert_eq!(done["destroyed"][0]["term"], 1);
    assert_eq!(done["destroyed"][0]["destroyed_at"], "2026-01-01T00:00:00Z");
    assert_eq!(holding(&vault, &piece), Vec::<PathBuf>::new());
    for flags in 0..3 {
        assert_eq!(holding(&vault, &header(flags, 1)), Vec::<PathBuf>::new());
        assert!(!holding(&vault, &header(flags, 2)).is_empty());
    }
    assert_eq!(read(&vault, "small/7").await, "value 7");
    vault.seal().await;
    vault.unseal().await;
    assert_eq!(read(&vault, "long").await, "x".repeat(20_000));
    assert_eq!(status(&vault).await["destroyed"][0]["term"], 1);
    vault.seal().await;

    // Old data files and the new seal file: the term that sealed them is in neither. The new data
    // files and the old seal file: it is too old for them.
    assert_apart(&vault, old.path()).await;
}

#[tokio::test]
async fn writers_lose_nothing_while_records_are_sealed_again() {
    let vault = TestVault::open().await;
    let long = "x".repeat(40_000);
    for n in 0..200 {
        put(&vault, &format!("still/{n}"), &format!("still {n}")).await;
    }
    put(&vault, "long", &long).await;
    let writer = async |writer: usize| {
        for round in 0..20 {
            put(&vault, &format!("moving/{writer}"), &format!("{writer} {round}")).await;
            put(&vault, &format!("still/{}", writer * 10), &format!("moved {round}")).await;
        }
    };
    let writers = async {
        tokio::join!(
            writer(0),
            writer(1),
            writer(2),
            writer(3),
            writer(4),
            writer(5),
            writer(6),
            writer(7),
        );
    };
    tokio::join!(writers, rotate(&vault));
    rotate(&vault).await;
    let done = until(&vault, &["idle"]).await;
    assert_eq!((&done["term"], &done["records_left"]), (&json!(3), &json!(0)));
    for n in 0..200 {
        let expected =
            if n % 10 == 0 && n < 80 { "moved 19".to_owned() } else { format!("still {n}") };
        assert_eq!(read(&vault, &format!("still/{n}")).await, expected);
    }
    for writer in 0..8 {
        assert_eq!(read(&vault, &format!("moving/{writer}")).await, format!("{writer} 19"));
    }
    assert_eq!(read(&vault, "long").await, long);
    vault.seal().await;
    vault.unseal().await;
    assert_eq!(read(&vault, "long").await, long);
    assert_eq!(status(&vault).await["term"], 3);
}

#[tokio::test]
async fn names_come_under_a_new_key_and_the_old_one_is_destroyed() {
    let vault = TestVault::open().await;
    for n in 0..60 {
        put(&vault, &format!("small/{n}"), &format!("value {n}")).await;
    }
    let long = "x".repeat(20_000);
    put(&vault, "long", &long).await;
    let names = async || status(&vault).await["names"].clone();
    assert_eq!((&names().await["step"], &names().await["generation"]), (&json!("idle"), &json!(1)));
    let old = tempfile::tempdir().unwrap();
    copy_folder(&vault.folder(), old.path());

    // While it moves: writing, reading, listing, deleting, and asking for it once more.
    let answer = vault.as_root(Write, "sys/rotate/names", "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    put(&vault, "small/7", "again").await;
    assert_eq!(read(&vault, "small/8").await, "value 8");
    let list = async || vault.as_root(List, "secret/metadata/small", "").await.json();
    assert_eq!(list().await["data"]["keys"].as_array().unwrap().len(), 60);
    assert_eq!(vault.as_root(Delete, "secret/metadata/small/9", "").await.status, 204);
    for _ in 0..1_000 {
        if names().await["step"] == "idle" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let done = names().await;
    assert_eq!((&done["step"], &done["generation"]), (&json!("idle"), &json!(2)), "{done}");
    assert_eq!(
        done["destroyed"],
        json!([
            {"generation": 1, "destroyed_at": "2026-01-01T00:00:00Z"}
        ])
    );

    vault.seal().await;
    vault.unseal().await;
    assert_eq!(read(&vault, "small/7").await, "again");
    assert_eq!(read(&vault, "long").await, long);
    assert_eq!(list().await["data"]["keys"].as_array().unwrap().len(), 59);
    vault.seal().await;

    // Old data files and the new seal file: their names are read by no key that it holds. The new
    // data files and the old seal file: it is too old for them.
    assert_apart(&vault, old.path()).await;
}

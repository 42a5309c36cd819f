//! What the real server's process shows of itself, and what its memory still holds once it is
//! sealed.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use kista::{
    barrier::{Keyring, SpaceId},
    crypto::{Aead256, Cipher, Sealer, kdf},
    secret::Key,
    storage::StoreId,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Answer, Kept, Process};

#[test]
fn a_server_dumps_no_core_gains_no_rights_and_makes_files_for_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path()).unwrap();
    let of_process = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", process.id()));
    let limits = of_process("limits").unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let core: Vec<_> = core.trim_start_matches("Max core file size").split_whitespace().collect();
    assert_eq!(core[..2], ["0", "0"], "{limits}");
    let status = of_process("status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Umask:"), "0077");
}

/// Even its own user cannot read what is in it.
#[test]
fn a_server_cannot_be_looked_into() {
    // As root everything may be looked into, so root's powers are laid down first.
    let powerless = |command: &str| {
        let mut run = Command::new("setpriv");
        run.args(["--bounding-set=-all", "--inh-caps=-all", "--", command]);
        run
    };
    let may_read = |id: u32| {
        let run = powerless("cat").arg(format!("/proc/{id}/environ")).output();
        run.is_ok_and(|run| run.status.success())
    };
    let mut other = match powerless("sleep").arg("60").spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: setpriv cannot be run ({error})");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_kista");
    // A command that waits for its input holds still while it is looked at.
    let mut kista = powerless(binary)
        .args(["put", "secret/x", "a=-"])
        .env("HOME", folder.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let comparable = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        may_read(other.id())
    });
    // It is started when its name is no longer that of the program that started it.
    while fs::read_to_string(format!("/proc/{}/comm", kista.id())).unwrap().trim() != "kista" {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(200));
    let looked_into = may_read(kista.id());
    for child in [&mut other, &mut kista] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    if !comparable {
        println!("skipped: processes cannot be looked into here at all");
        return;
    }
    assert!(!looked_into, "another process of the same user has read it");
}

#[test]
fn a_sealed_server_holds_no_key_value_token_or_share() {
    let folder = tempfile::tempdir().unwrap();
    let (process, kept) = Process::init(folder.path());
    let mut memory = match fs::File::open(format!("/proc/{}/mem", process.id())) {
        Ok(memory) => memory,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            println!("skipped: only root may search the server's memory");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let token = use_it(&process, &kept);
    let share = data_encoding::HEXLOWER.decode(kept.share.as_bytes()).unwrap();
    let mut marks = vec![
        ("its own folder", folder.path().to_str().unwrap().as_bytes().to_vec()),
        ("a value", VALUE.into()),
        ("a long value", LONG.into()),
        ("a name in the value", KEY.into()),
        ("the root token", kept.root.clone().into_bytes()),
        ("a token", token.into_bytes()),
        ("the share as it was sent", kept.share.clone().into_bytes()),
    ];
    for (name, key) in keys(&folder.path().join("data"), &share) {
        // As HMAC pads them (RFC 2104 section 2), keys are as good as plain.
        marks.extend([0, 0x36, 0x5c].map(|pad| (name, key.iter().map(|b| b ^ pad).collect())));
    }
    // The search finds what is there.
    let open = search(process.id(), &mut memory, &marks);
    for name in ["its own folder", "the term", "the term's record key", "the secret of names"] {
        assert!(open.contains(&name), "{name} is not found while open: {open:?}");
    }
    assert_eq!(process.call("POST", "sys/seal", &kept.root, "").status, 204);
    // The task that carried the last answer may live on for a moment, and so may what a thread has
    // left on its stack, until it works again.
    let mut left = Vec::new();
    for _ in 0..LOOKS {
        left = search(process.id(), &mut memory, &marks);
        if left.len() == 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(process.call("GET", "sys/seal-status", "", "").status, 200);
    }
    assert_eq!(left, ["its own folder"]);
}

/// How often the memory of a sealed server is searched before something counts as left.
const LOOKS: usize = 50;

#[test]
fn without_locked_memory_it_warns_or_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    // Taken, so that a server which does not mind ends all the same.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let start = |policy: &str| {
        let configuration = folder.path().join("kista.toml");
        fs::write(&configuration, format!("memory_lock = {policy:?}\n")).unwrap();
        // Root may lock what it likes, so its powers are laid down too.
        Command::new("sh")
            .args([
                "-c",
                "ulimit -l 0; exec setpriv --bounding-set=-all --inh-caps=-all -- \"$@\"",
                "sh",
            ])
            .arg(env!("CARGO_BIN_EXE_kista"))
            .args(["server", "--insecure-http", "--listen"])
            .arg(taken.local_addr().unwrap().to_string())
            .arg("--data")
            .arg(folder.path().join("data"))
            .arg("--config")
            .arg(configuration)
            .output()
            .unwrap()
    };
    let required = start("required");
    let said = String::from_utf8(required.stderr).unwrap();
    if said.contains("setpriv") {
        println!("skipped: setpriv cannot be run ({said})");
        return;
    }
    assert_eq!(required.status.code(), Some(1));
    assert!(
        said.contains("memory_lock = \"required\"") && said.contains("ulimit -l 8192"),
        "{said}"
    );
    let said = String::from_utf8(start("warn").stderr).unwrap();
    assert!(said.contains("the memory of keys cannot be locked"), "{said}");
    assert!(!said.contains("required"), "{said}");
}

/// The keys of a store with one share of one, found as FORMAT.md says and not by asking the vault.
fn keys(data: &Path, kek: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let file = fs::read(data.join("seal.0")).unwrap();
    // Magic, epoch, store id, root id; then the slots and the keyring, each behind its length.
    let (head, rest) = file.split_at(8 + 8 + 16 + 16);
    let store_id: [u8; 16] = head[16..32].try_into().unwrap();
    let (slots, rest) = prefixed(rest);
    let (slot, _) = prefixed(&slots[1..]);
    let (fixed, sealed) = slot.split_at(28 + usize::from(slot[27]));
    let context = [&u32::try_from(fixed.len()).unwrap().to_be_bytes(), fixed].concat();
    let mut wrap = [0; 64];
    kdf::derive_into(&store_id, kek, "slot", &context, &mut wrap);
    let aad = [b"kista/slot/1\0".as_slice(), &store_id, fixed, &sealed[..32]].concat();
    let root = open(&wrap[..32], &sealed[32..], &aad);

    let aad = [b"kista/keyring/1\0".as_slice(), &store_id, &head[32..], &head[8..16]].concat();
    let of_root = |purpose: &str| {
        let mut key = vec![0; 32];
        kdf::derive_into(&store_id, &root, purpose, &[], &mut key);
        key
    };
    let keyring = open(&of_root("keyring"), &prefixed(rest).0[8..], &aad);
    let encoded = kista::secret::SecretBytes::copy_of(&keyring);
    Keyring::decode(&StoreId(store_id), &encoded).unwrap();
    // One term, then the lineage secrets: names, tokens, audit, anchor.
    let term = &keyring[2 + 4 + 1 + 1 + 8..][..32];
    let lineage = |n: usize| keyring[2 + 78 + 1 + n * 37 + 5..][..32].to_vec();
    let of_term = |purpose: &str| {
        let mut key = vec![0; 32];
        kdf::derive_into(&store_id, term, purpose, &[], &mut key);
        key
    };
    let mut names = vec![0; 64];
    kdf::derive_into(&store_id, &lineage(0), "names", &SpaceId::SYSTEM.0, &mut names);
    vec![
        ("the key of the slot", kek.to_vec()),
        ("the root key", root.clone()),
        ("the keyring's key", of_root("keyring")),
        ("the term", term.to_vec()),
        ("the term's record key", of_term("record")),
        ("the term's head key", of_term("head")),
        ("the term's nonce key", of_term("nonce")),
        ("the term's state key", of_term("state")),
        ("the secret of names", lineage(0)),
        ("the secret of tokens", lineage(1)),
        ("the secret of audit", lineage(2)),
        ("the secret of anchors", lineage(3)),
        ("the names key of the system's space, for the MAC", names[..32].to_vec()),
        ("the names key of the system's space, for the cipher", names[32..].to_vec()),
    ]
}

/// Opens nonce || ciphertext || tag.
fn open(key: &[u8], sealed: &[u8], aad: &[u8]) -> Vec<u8> {
    let key: Key<Aead256> = Key::copy_of(key).unwrap();
    let (nonce, rest) = sealed.split_first_chunk().unwrap();
    let opened = Sealer::new(Cipher::Xaes256Gcm, &key).open(nonce, aad, rest).unwrap();
    opened.expose(<[u8]>::to_vec)
}

/// Bytes behind their length, and what follows.
fn prefixed(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    rest.split_at(u32::from_be_bytes(*length).try_into().unwrap())
}

/// Writes, reads and is refused, so that secrets pass through everything; returns a token made.
fn use_it(process: &Process, kept: &Kept) -> String {
    let root = kept.root.as_str();
    let body = format!("{{\"data\":{{\"{KEY}\":\"{VALUE}\"}}}}");
    let long = body.replace(VALUE, &format!("{LONG}{}", "=".repeat(60_000)));
    let read = |path: &str, token: &str| -> Answer { process.call("GET", path, token, "") };
    for n in 0..20 {
        assert_eq!(process.call("POST", &format!("secret/data/a{n}"), root, &body).status, 200);
        assert_eq!(process.call("POST", &format!("secret/data/b{n}"), root, &long).status, 200);
        assert!(read(&format!("secret/data/a{n}"), root).text.contains(VALUE));
        assert!(read(&format!("secret/data/b{n}"), root).text.contains(LONG));
    }
    let made =
        process.call("POST", "auth/token/create", root, "{\"no_default_policy\":true}").json();
    let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
    assert_eq!(read("auth/token/lookup-self", &token).status, 200);
    assert_eq!(process.call("POST", "secret/data/a0", root, &body.replace("}}", "")).status, 400);
    token
}

/// Which of the marks, by name and each once, the writable memory of a process holds. It is held
/// still meanwhile, so that nothing moves from where it will be looked for to where it has been.
fn search<'a>(id: u32, memory: &mut fs::File, marks: &[(&'a str, Vec<u8>)]) -> Vec<&'a str> {
    let pid = Pid::from_raw(id.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    while !fs::read_to_string(format!("/proc/{id}/status")).unwrap().contains("State:\tT") {
        std::thread::yield_now();
    }
    let in_use = pages_in_use(id, memory);
    kill_process(pid, Signal::CONT).unwrap();
    let is_found = |mark: &[u8]| memchr::memmem::find(&in_use, mark).is_some();
    let mut found: Vec<_> =
        marks.iter().filter(|(_, mark)| is_found(mark)).map(|(name, _)| *name).collect();
    found.dedup();
    found
}

/// The writable pages of a process that are not all zeros, one after the other.
fn pages_in_use(id: u32, memory: &mut fs::File) -> Vec<u8> {
    const PAGE: usize = 4096;
    let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
    let mut in_use = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.seek(SeekFrom::Start(start)).unwrap();
        memory.read_exact(&mut bytes).unwrap();
        for page in bytes.chunks(PAGE).filter(|page| *page != [0; PAGE]) {
            in_use.extend_from_slice(page);
        }
    }
    in_use
}

const KEY: &str = "searched-key-7e1f";
const VALUE: &str = "searched-value-40bd";
const LONG: &str = "searched-long-value-c2a6";

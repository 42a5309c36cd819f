//! Imports run downward only, and each foreign crate has one home and a reason.
//!
//! The floors are read from `docs/ARCHITECTURE.md`, so that what is drawn there is what holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::source::{Mention, Source, files, mentions, root};

/// Which crates only some folders may name. A path ending in `/` is a folder, else one file.
const HOMES: &[(&[&str], &[&str])] = &[
    (
        &[
            "aead",
            "aes",
            "aes_gcm",
            "aes_siv",
            "argon2",
            "chacha20poly1305",
            "ecdsa",
            "hkdf",
            "hmac",
            "num_bigint",
            "p256",
            "p384",
            "p521",
            "sha1",
            "sha3",
            "subtle",
            "xaes_256_gcm",
        ],
        &["src/crypto/"],
    ),
    // The journal is chained, and a segment gets a random id, on the floor below crypto/.
    (&["getrandom", "sha2"], &["src/crypto/", "src/storage/"]),
    (&["region"], &["src/secret/"]),
    (&["aws_lc_rs"], &["src/crypto/", "src/http/", "src/client/"]),
    // The tests mean the module of that name, which `use super::*` brings them.
    (&["sled"], &["src/storage/sled.rs", "src/storage/tests.rs"]),
    (&["axum", "hyper", "hyper_util"], &["src/http/"]),
    (&["rcgen"], &["src/http/", "src/client/"]),
    (&["rustls", "tokio_rustls"], &["src/http/", "src/client/", "src/outbound/"]),
    (&["reqwest"], &["src/client/", "src/outbound/"]),
    (&["clap", "minijinja", "saphyr_parser"], &["cli/src/"]),
];

/// Below `client`, which stands beside the floors.
const UNDER_CLIENT: &[&str] = &["clock", "json", "config", "secret", "crypto", "container"];

#[test]
fn imports_run_downward_only() {
    let floors = floors();
    let faults: Vec<String> = library_sources()
        .iter()
        .flat_map(|file| upward(&floors, &file.path, &mentions(&file.text, &file.module)))
        .collect();
    assert!(faults.is_empty(), "upward imports:\n{}", faults.join("\n"));
}

#[test]
fn every_folder_has_its_floor() {
    let floors = floors();
    let mut found: Vec<String> = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .filter(|name| name != "lib" && name != "client")
        .collect();
    found.sort();
    let drawn: Vec<String> = floors.keys().cloned().collect();
    assert_eq!(found, drawn, "src/ and docs/ARCHITECTURE.md differ");
}

#[test]
fn foreign_crates_stay_in_their_homes() {
    let faults: Vec<String> = library_sources()
        .iter()
        .chain(&files("cli/src"))
        .flat_map(|file| homeless(&file.path, &mentions(&file.text, &file.module)))
        .collect();
    assert!(faults.is_empty(), "crates named outside their home:\n{}", faults.join("\n"));
}

#[test]
fn each_dependency_says_what_it_is_for() {
    let root_manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let told = dependencies(&root_manifest, "[workspace.dependencies]");
    assert!(told.len() > 50, "{told:?}");
    let silent: Vec<_> = told
        .iter()
        .filter(|(name, line)| !line.contains("# ") && *name != "kista")
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "no comment says what it is for: {silent:?}");
    let mut used = BTreeSet::new();
    for manifest in ["Cargo.toml", "cli/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        for section in ["[dependencies]", "[dev-dependencies]"] {
            for (name, line) in dependencies(&text, section) {
                let is_told = line.contains("workspace = true");
                assert!(is_told, "{manifest}: {name} has a version of its own");
                used.insert(name.to_owned());
            }
        }
    }
    let unused: Vec<_> = told.iter().filter(|(name, _)| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "nobody uses it: {unused:?}");
}

#[test]
fn an_upward_import_is_found_in_every_form() {
    let floors = floors();
    for text in [
        "use crate::gate::Permit;",
        "use crate::{clock, gate::Permit};",
        "fn f() { crate::gate::admit(); }",
        "use super::super::gate;",
        "mod tests { use super::super::super::gate; }",
        "pub(in crate::gate) struct S;",
    ] {
        let found = upward(&floors, "src/token/store.rs", &mentions(text, "token::store"));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
    }
}

#[test]
fn what_only_looks_like_an_import_is_none() {
    let floors = floors();
    for text in [
        "// use crate::gate::Permit;",
        "/* crate::gate /* nested */ crate::gate */",
        "let s = \"crate::gate\"; let r = r#\"use \"crate::gate\"#; let c = '\"';",
        "use crate::policy::Acl;",
        "use super::gate;",
        "fn f<'a>(x: &'a str) {} // crate::gate",
        "pub(crate) fn f() {}",
    ] {
        let found = upward(&floors, "src/token/store.rs", &mentions(text, "token::store"));
        assert_eq!(found, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_crate_away_from_home_is_found() {
    for (path, text, faults) in [
        ("src/barrier/record.rs", "use aes_gcm::Aes256Gcm;", 1),
        ("src/barrier/record.rs", "use {std::fmt, ::hmac::Mac};", 1),
        ("src/barrier/record.rs", "use crate::{clock, crypto::{hmac, aead::{aes, X}}};", 0),
        ("src/barrier/record.rs", "let tag = crate::crypto::hmac::tag(hmac);", 0),
        ("src/crypto/aead.rs", "use aes_gcm::Aes256Gcm;", 0),
        ("src/storage/mod.rs", "mod sled; use self::sled::Index; fn f() -> sled::Index {}", 0),
        ("src/storage/open.rs", "use super::{sled, segment}; fn f() { sled::open() }", 0),
        ("src/storage/index.rs", "fn f(db: sled::Db) {}", 1),
        ("src/storage/sled.rs", "fn f(db: sled::Db) {}", 0),
        ("cli/src/main.rs", "use clap::Parser;", 0),
        ("src/config.rs", "use clap as arguments;", 1),
    ] {
        assert_eq!(homeless(path, &mentions(text, "m")).len(), faults, "{path}: {text}");
    }
}

/// Name of a folder of `src/` to its floor and its place in the list.
type Floors = BTreeMap<String, (u32, usize)>;

/// The names in a section of a manifest, with their lines.
fn dependencies<'a>(manifest: &'a str, section: &str) -> Vec<(&'a str, &'a str)> {
    let lines = manifest.lines().skip_while(|line| *line != section).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| (line.split(['.', ' ', '=']).next().unwrap(), line))
        .collect()
}

fn library_sources() -> Vec<Source> {
    let mut found = files("src");
    found.retain(|file| file.path != "src/lib.rs");
    found
}

fn floors() -> Floors {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let drawn = text.split("```floors\n").nth(1).unwrap().split("```").next().unwrap();
    drawn
        .lines()
        .enumerate()
        .map(|(place, line)| {
            let mut words = line.split_whitespace();
            let floor = words.next().unwrap().parse().unwrap();
            (words.next().unwrap().to_owned(), (floor, place))
        })
        .collect()
}

/// Imports of the library's own folders that do not run downward.
fn upward(floors: &Floors, path: &str, mentions: &[Mention]) -> Vec<String> {
    let from = folder(path);
    let mut faults = Vec::new();
    for Mention { line, name, .. } in mentions.iter().filter(|mention| mention.is_ours) {
        let allowed = match (floors.get(from), floors.get(name.as_str())) {
            _ if name == from => true,
            (Some(here), Some(there)) => there < here,
            (None, Some(_)) => from == "client" && UNDER_CLIENT.contains(&name.as_str()),
            (_, None) => false,
        };
        if !allowed {
            faults.push(format!("{path}:{line}: {from} may not use {name}"));
        }
    }
    faults
}

/// Foreign crates named outside their homes.
fn homeless(path: &str, mentions: &[Mention]) -> Vec<String> {
    let mut faults = Vec::new();
    for Mention { line, name, .. } in mentions.iter().filter(|mention| !mention.is_ours) {
        let homes = HOMES.iter().find(|(crates, _)| crates.contains(&name.as_str()));
        let Some((_, homes)) = homes else { continue };
        let at_home = homes.iter().any(|home| match home.strip_suffix('/') {
            Some(_) => path.starts_with(home),
            None => path == *home,
        });
        if !at_home {
            faults.push(format!("{path}:{line}: {name} belongs in {}", homes.join(", ")));
        }
    }
    faults
}

/// The folder (or file) directly under `src/` that a path lies in.
fn folder(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

//! A stolen data folder, the audit file and the log at trace level show no name, value, token or
//! share.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{Kept, Process};

/// Planted, each with a shape that nothing else has.
const NAME: &str = "planted-name-8f2c";
const KEY: &str = "planted-key-51d0";
const VALUE: &str = "planted-value-93ae";
const NUMBER: &str = "7719350261848";
const POLICY: &str = "planted-policy-c04b";
const META: &str = "planted-meta-2b6e";

#[test]
fn what_is_planted_is_found_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let (process, kept) = Process::init(folder.path());
    let mut secrets = plant(&process, &kept);
    process.kill();
    let process = Process::start(folder.path()).unwrap();
    assert_eq!(process.unseal(&kept).status, 200);
    let read = process.call("GET", &format!("secret/data/{NAME}/x"), &kept.root, "");
    assert!(read.text.contains(VALUE) && read.text.contains(NUMBER), "{read:?}");
    assert_eq!(process.call("POST", "sys/seal", &kept.root, "").status, 204);
    process.kill();

    secrets.extend([kept.share.clone(), kept.root.clone()]);
    secrets.extend([NAME, KEY, VALUE, NUMBER, POLICY, META].map(str::to_owned));
    let files = files(folder.path());
    assert!(files.iter().any(|file| file.ends_with("audit.log")));
    for file in files {
        let bytes = without_zeros_at_the_end(fs::read(&file).unwrap());
        for secret in &secrets {
            // As with Vault, lines name the policies of their caller.
            if file.ends_with("audit.log") && secret == POLICY {
                continue;
            }
            for form in forms(secret) {
                let found = bytes.windows(form.len()).any(|window| window == form);
                assert!(!found, "{} shows {secret}", file.display());
            }
        }
    }
}

/// Uses everything that takes a secret, rightly and wrongly; gives the tokens that it was given.
fn plant(process: &Process, kept: &Kept) -> Vec<String> {
    let root = kept.root.as_str();
    let body = format!("{{\"data\":{{\"{KEY}\":\"{VALUE}\",\"n\":{NUMBER}}}}}");
    let path = format!("secret/data/{NAME}/x");
    assert_eq!(process.call("POST", &path, root, &body).status, 200);
    let long = body.replace(VALUE, &format!("{VALUE}{}", "=".repeat(20_000)));
    assert_eq!(process.call("POST", &format!("secret/data/{NAME}/long"), root, &long).status, 200);
    let custom = format!("{{\"custom_metadata\":{{\"owner\":\"{META}\"}}}}");
    let metadata = format!("secret/metadata/{NAME}/x");
    assert_eq!(process.call("POST", &metadata, root, &custom).status, 204);
    for folder in ["secret/metadata/", &format!("secret/metadata/{NAME}/")] {
        assert_eq!(process.call("LIST", folder, root, "").status, 200);
    }
    let rule = format!("path \\\"secret/data/{NAME}/*\\\" {{ capabilities = [\\\"read\\\"] }}");
    let policy = format!("sys/policies/acl/{POLICY}");
    assert_eq!(
        process.call("POST", &policy, root, &format!("{{\"policy\":\"{rule}\"}}")).status,
        204
    );
    let made = format!("{{\"policies\":[\"{POLICY}\"]}}");
    let made = process.call("POST", "auth/token/create", root, &made).json();
    let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
    assert_eq!(process.call("GET", &path, &token, "").status, 200);
    // Refusals must not say more than answers do.
    let broken = body.replace("}}", "");
    assert_eq!(process.call("POST", &path, root, &broken).status, 400);
    assert_eq!(process.call("POST", &path, &token, &body).status, 403);
    assert_eq!(process.call("GET", &path, VALUE, "").status, 403);
    assert_eq!(process.call("GET", &format!("{NAME}/{VALUE}"), root, "").status, 404);
    assert_eq!(process.call("GET", &format!("secret/{NAME}/x"), root, "").status, 404);
    let wrong = format!("{{\"key\":\"{VALUE}\"}}");
    process.call("POST", "sys/unseal", "", &wrong);
    vec![token]
}

/// A secret as it is, and as hex, base64 and JSON would show it.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let mut forms = vec![bytes.to_vec(), data_encoding::HEXLOWER.encode(bytes).into_bytes()];
    // Base64 of a text inside another has one of three alignments; its own edges are left out.
    for skip in 0..3 {
        let encoded = data_encoding::BASE64.encode(&[&b"   "[..skip], bytes].concat());
        forms.push(encoded.as_bytes()[4..encoded.len() - 4].to_vec());
    }
    forms
}

/// Journal segments are mostly that.
fn without_zeros_at_the_end(mut bytes: Vec<u8>) -> Vec<u8> {
    const ZEROS: [u8; 4096] = [0; 4096];
    while bytes.ends_with(&ZEROS) {
        bytes.truncate(bytes.len() - ZEROS.len());
    }
    bytes
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

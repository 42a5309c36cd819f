//! Requests to a transit mount.

use data_encoding::BASE64;
use kista::{
    crypto::{Hash, OaepHash, RsaPublic, keywrap, pem},
    gate::Operation::{Read, Write},
};
use serde_json::Value;

use super::TestVault;

/// A vault with a mount at `transit/`.
pub(crate) async fn vault() -> TestVault {
    let vault = TestVault::open().await;
    let mounted = vault.as_root(Write, "sys/mounts/transit", r#"{"type":"transit"}"#).await;
    assert_eq!(mounted.status, 204, "{mounted:?}");
    vault
}

/// A write below the mount: its status, and the whole answer.
pub(crate) async fn write(vault: &TestVault, path: &str, body: &Value) -> (u16, Value) {
    let answer = vault.as_root(Write, &format!("transit/{path}"), &body.to_string()).await;
    (answer.status, answer.json())
}

/// `data` of a write that must go well.
pub(crate) async fn done(vault: &TestVault, path: &str, body: &Value) -> Value {
    let (status, answer) = write(vault, path, body).await;
    assert!(matches!(status, 200 | 204), "{path} {body}: {status} {answer}");
    answer["data"].clone()
}

/// Wraps a key for the vault, as the documents of the peers say.
pub(crate) async fn wrap(vault: &TestVault, hash: Hash, target: &[u8]) -> String {
    let answer = vault.as_root(Read, "transit/wrapping_key", "").await.json();
    let (label, spki) = pem::decode(answer["data"]["public_key"].as_str().unwrap()).unwrap();
    assert_eq!(label, "PUBLIC KEY");
    let public = spki.expose(RsaPublic::from_spki).unwrap();
    let ephemeral = [7; 32];
    let mut blob = public.encrypt_oaep(OaepHash::of(hash).unwrap(), &ephemeral).unwrap();
    blob.extend_from_slice(&keywrap::wrap(&ephemeral, target));
    BASE64.encode(&blob)
}

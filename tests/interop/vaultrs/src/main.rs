//! An unmodified Vault client (vaultrs) against a fresh server: ADDRESS, and CA_FILE with its
//! certificate.

use std::collections::HashMap;

use serde_json::{Value, json};
use vaultrs::{
    api::{
        kv2::requests::{SetSecretMetadataRequest, SetSecretRequestOptions},
        sys::requests::EnableEngineRequest,
        token::requests::CreateTokenRequest,
        transit::{
            KeyType, OutputFormat,
            requests::{
                CreateKeyRequest, DataKeyType, DecryptDataRequest, EncryptDataRequest,
                ExportKeyType, ExportVersion, RandomBytesSource, UpdateKeyConfigurationRequest,
                VerifySignedDataRequest,
            },
            responses::ReadKeyData,
        },
    },
    client::{VaultClient, VaultClientSettingsBuilder},
    error::ClientError,
    kv1, kv2, sys, token, transit,
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let root = open().await;
    let admin = client(&root);
    mounts(&admin).await;
    versions(&admin).await;
    metadata_and_names(&admin).await;
    without_versions(&admin).await;
    policies_and_tokens(&admin).await;
    transit_keys(&admin).await;
    transit_data(&admin).await;
    sys::seal(&admin).await.unwrap();
    refused(kv2::read::<Value>(&admin, "secret", "app/db").await, 503, "Vault is sealed");
    println!("vaultrs: init, mounts, both versions of KV, policies, tokens, transit, seal: passed");
}

fn client(token: &str) -> VaultClient {
    let settings = VaultClientSettingsBuilder::default()
        .address(std::env::var("ADDRESS").unwrap())
        .ca_certs(vec![std::env::var("CA_FILE").unwrap()])
        .token(token)
        .build();
    VaultClient::new(settings.unwrap()).unwrap()
}

/// The call must have failed with this status, and this text in it.
fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>, status: u16, text: &str) {
    match result {
        Err(ClientError::APIError { code, errors }) => {
            assert_eq!(code, status, "{errors:?}");
            assert!(errors.join(" ").contains(text), "{text}: {errors:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// Initialises and unseals; the root token.
async fn open() -> String {
    let client = client("");
    let made = sys::start_initialization(&client, 3, 2, None).await.unwrap();
    for key in made.keys.iter().take(2) {
        sys::unseal(&client, Some(key.clone()), None, None).await.unwrap();
    }
    assert!(!sys::health(&client).await.unwrap().sealed);
    made.root_token
}

async fn mounts(admin: &VaultClient) {
    let mut of_version_2 = EnableEngineRequest::builder();
    of_version_2.options(HashMap::from([("version".to_owned(), "2".to_owned())]));
    sys::mount::enable(admin, "secret", "kv", Some(&mut of_version_2)).await.unwrap();
    sys::mount::enable(admin, "plain", "kv", None).await.unwrap();
    sys::remount::remount(admin, "plain", "one").await.unwrap();
    let mounts = sys::mount::list(admin).await.unwrap();
    assert!(mounts.contains_key("one/") && mounts.contains_key("secret/"), "{mounts:?}");
    assert!(sys::auth::list(admin).await.unwrap().contains_key("token/"));
}

async fn versions(admin: &VaultClient) {
    for n in 1..=3 {
        let written = kv2::set(admin, "secret", "app/db", &json!({ "n": n })).await.unwrap();
        assert_eq!(written.version, n);
    }
    let read: Value = kv2::read(admin, "secret", "app/db").await.unwrap();
    assert_eq!(read, json!({"n": 3}));
    let first: Value = kv2::read_version(admin, "secret", "app/db", 1).await.unwrap();
    assert_eq!(first, json!({"n": 1}));
    let options = SetSecretRequestOptions { cas: 1 };
    let late = kv2::set_with_options(admin, "secret", "app/db", &json!({}), options).await;
    refused(late, 400, "check-and-set parameter did not match the current version");
    kv2::delete_latest(admin, "secret", "app/db").await.unwrap();
    kv2::undelete_versions(admin, "secret", "app/db", vec![3]).await.unwrap();
    kv2::delete_versions(admin, "secret", "app/db", vec![2]).await.unwrap();
    kv2::destroy_versions(admin, "secret", "app/db", vec![1]).await.unwrap();
    let known = kv2::read_metadata(admin, "secret", "app/db").await.unwrap();
    assert!(known.versions["1"].destroyed && !known.versions["3"].destroyed, "{known:?}");
    assert_eq!(known.current_version, 3);
}

async fn metadata_and_names(admin: &VaultClient) {
    let mut settings = SetSecretMetadataRequest::builder();
    settings.max_versions(5_u64);
    kv2::set_metadata(admin, "secret", "app/db", Some(&mut settings)).await.unwrap();
    assert_eq!(kv2::read_metadata(admin, "secret", "app/db").await.unwrap().max_versions, 5);
    kv2::set(admin, "secret", "app/b/c", &json!({"v": 1})).await.unwrap();
    assert_eq!(kv2::list(admin, "secret", "app").await.unwrap(), ["b/", "db"]);
    kv2::delete_metadata(admin, "secret", "app/b/c").await.unwrap();
    assert_eq!(kv2::list(admin, "secret", "app").await.unwrap(), ["db"]);
}

async fn without_versions(admin: &VaultClient) {
    kv1::set(admin, "one", "app", &HashMap::from([("v", "x")])).await.unwrap();
    let read: HashMap<String, String> = kv1::get(admin, "one", "app").await.unwrap();
    assert_eq!(read["v"], "x");
    assert_eq!(kv1::list(admin, "one", "").await.unwrap().data.keys, ["app"]);
    kv1::delete(admin, "one", "app").await.unwrap();
    assert!(kv1::get::<HashMap<String, String>>(admin, "one", "app").await.is_err());
}

async fn policies_and_tokens(admin: &VaultClient) {
    let rule = "path \"secret/data/app/*\" { capabilities = [\"read\"] }";
    sys::policy::set(admin, "reader", rule).await.unwrap();
    assert_eq!(sys::policy::read(admin, "reader").await.unwrap().rules, rule);
    let mut wanted = CreateTokenRequest::builder();
    wanted.policies(vec!["reader".to_owned()]).ttl("1h");
    let made = token::new(admin, Some(&mut wanted)).await.unwrap();
    let reader = client(&made.client_token);
    let read: Value = kv2::read(&reader, "secret", "app/db").await.unwrap();
    assert_eq!(read, json!({"n": 3}));
    let denied = kv2::set(&reader, "secret", "app/db", &json!({})).await;
    refused(denied, 403, "permission denied");
    assert!(token::lookup_self(&reader).await.unwrap().policies.contains(&"reader".to_owned()));
    token::renew_self(&reader, Some("2h")).await.unwrap();
    token::revoke(admin, &made.client_token).await.unwrap();
    refused(kv2::read::<Value>(&reader, "secret", "app/db").await, 403, "permission denied");
}

async fn transit_keys(admin: &VaultClient) {
    sys::mount::enable(admin, "transit", "transit", None).await.unwrap();
    let mut wanted = CreateKeyRequest::builder();
    wanted.key_type(KeyType::Aes256Gcm96).exportable(true).allow_plaintext_backup(true);
    transit::key::create(admin, "transit", "pii", Some(&mut wanted)).await.unwrap();
    let mut wanted = CreateKeyRequest::builder();
    wanted.key_type(KeyType::Ed25519);
    transit::key::create(admin, "transit", "signer", Some(&mut wanted)).await.unwrap();
    assert_eq!(transit::key::list(admin, "transit").await.unwrap().keys, ["pii", "signer"]);
    let pii = transit::key::read(admin, "transit", "pii").await.unwrap();
    assert!(matches!(pii.keys, ReadKeyData::Symmetric(keys) if keys.len() == 1));
    let signer = transit::key::read(admin, "transit", "signer").await.unwrap();
    assert!(matches!(signer.keys, ReadKeyData::Asymmetric(keys) if keys["1"].name == "ed25519"));
    assert!(signer.supports_signing && !signer.supports_encryption);
    transit::key::rotate(admin, "transit", "pii").await.unwrap();
    let (kind, all) = (ExportKeyType::EncryptionKey, ExportVersion::All);
    let exported = transit::key::export(admin, "transit", "pii", kind, all).await.unwrap();
    assert_eq!(exported.keys.len(), 2);
    let backup = transit::key::backup(admin, "transit", "pii").await.unwrap().backup;
    refused(transit::key::restore(admin, "transit", &backup, None).await, 400, "already exists");
    let refusal = transit::key::delete(admin, "transit", "pii").await;
    refused(refusal, 400, "deletion is not allowed");
    let mut changes = UpdateKeyConfigurationRequest::builder();
    changes.deletion_allowed(true);
    transit::key::update(admin, "transit", "pii", Some(&mut changes)).await.unwrap();
    transit::key::delete(admin, "transit", "pii").await.unwrap();
    transit::key::restore(admin, "transit", &backup, None).await.unwrap();
    assert_eq!(
        transit::key::read(admin, "transit", "pii").await.unwrap().min_decryption_version,
        1
    );
}

async fn transit_data(admin: &VaultClient) {
    let (plain, aad) = ("aGVsbG8=", "cm93IDc=");
    let mut bound = EncryptDataRequest::builder();
    bound.associated_data(aad).key_version(1_u64);
    let sealed = transit::data::encrypt(admin, "transit", "pii", plain, Some(&mut bound)).await;
    let sealed = sealed.unwrap().ciphertext;
    assert!(sealed.starts_with("vault:v1:"), "{sealed}");
    let mut bound = DecryptDataRequest::builder();
    bound.associated_data(aad);
    let opened = transit::data::decrypt(admin, "transit", "pii", &sealed, Some(&mut bound)).await;
    assert_eq!(opened.unwrap().plaintext, plain);
    refused(
        transit::data::decrypt(admin, "transit", "pii", &sealed, None).await,
        400,
        "message authentication failed",
    );
    let sealed = transit::data::encrypt(admin, "transit", "pii", plain, None).await.unwrap();
    let new = transit::data::rewrap(admin, "transit", "pii", &sealed.ciphertext, None).await;
    assert!(new.unwrap().ciphertext.starts_with("vault:v2:"));
    let signed = transit::data::sign(admin, "transit", "signer", plain, None).await.unwrap();
    for (input, valid) in [(plain, true), (aad, false)] {
        let mut proof = VerifySignedDataRequest::builder();
        proof.signature(signed.signature.as_str());
        let verified =
            transit::data::verify(admin, "transit", "signer", input, Some(&mut proof)).await;
        assert_eq!(verified.unwrap().valid, valid);
    }
    let made = transit::generate::data_key(admin, "transit", "pii", DataKeyType::Plaintext, None);
    let made = made.await.unwrap();
    let opened = transit::data::decrypt(admin, "transit", "pii", &made.ciphertext, None).await;
    assert_eq!(opened.unwrap().plaintext, made.plaintext.unwrap());
    let (format, source) = (OutputFormat::Hex, RandomBytesSource::Platform);
    let random = transit::generate::random_bytes(admin, "transit", format, source, None).await;
    assert_eq!(random.unwrap().random_bytes.len(), 64);
    let sum = transit::generate::hash(admin, "transit", plain, None).await.unwrap().sum;
    assert_eq!(sum, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    let tag = transit::generate::hmac(admin, "transit", "pii", plain, None).await.unwrap();
    assert!(tag.hmac.starts_with("vault:v2:"));
    let wrapping = transit::wrapping_key::get(admin, "transit").await.unwrap();
    assert!(wrapping.public_key.starts_with("-----BEGIN PUBLIC KEY-----"));
}

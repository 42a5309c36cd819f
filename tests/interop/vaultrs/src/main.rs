//! An unmodified Vault client (vaultrs) against a fresh server: ADDRESS, and CA_FILE with its
//! certificate.

use std::collections::HashMap;

use serde_json::{Value, json};
use vaultrs::{
    api::{
        kv2::requests::{SetSecretMetadataRequest, SetSecretRequestOptions},
        sys::requests::EnableEngineRequest,
        token::requests::CreateTokenRequest,
    },
    client::{VaultClient, VaultClientSettingsBuilder},
    error::ClientError,
    kv1, kv2, sys, token,
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
    sys::seal(&admin).await.unwrap();
    refused(kv2::read::<Value>(&admin, "secret", "app/db").await, 503, "Vault is sealed");
    println!("vaultrs: init, mounts, both versions of KV, policies, tokens, seal: passed");
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

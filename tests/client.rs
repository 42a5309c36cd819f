//! The client for Rust programs, against the real server: typed secrets, tokens that are kept
//! alive, waiting and watching.

use std::{collections::BTreeMap, time::Duration};

use kista::{
    client::{
        CheckAndSet, Client, Error, Lifetime, LifetimeEnd, MetadataChanges, Page, Reach, Unready,
        UnsealKey, exposed,
    },
    secret::SecretString,
};
use serde::{Deserialize, Serialize};
use tokio::time;

use crate::support::Site;

#[derive(Debug, Deserialize, Serialize)]
struct Login {
    user: String,
    #[serde(serialize_with = "exposed")]
    password: SecretString,
    port: u16,
}

impl Login {
    fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: SecretString::copy_of(password), port: 5432 }
    }
}

fn client(site: &Site, token: &str) -> Client {
    let token = SecretString::copy_of(token);
    Client::builder(site.server.address()).token(token).retries(0).build().unwrap()
}

fn root(site: &Site) -> Client {
    client(site, &site.kept.root)
}

/// A client with a new token; `options` are members of the request for it. It may look itself up
/// without the policy "default" too.
fn with_token(site: &Site, options: &str) -> Client {
    let policy = r#"{"policy":"path \"secret/data/app/*\" { capabilities = [\"read\"] } path \"auth/token/lookup-self\" { capabilities = [\"read\"] }"}"#;
    let put = site.server.call("PUT", "sys/policies/acl/app", &site.kept.root, policy);
    assert_eq!(put.status, 204, "{put:?}");
    let body = format!(r#"{{"policies":["app"],{options}}}"#);
    let made = site.server.call("POST", "auth/token/create", &site.kept.root, &body);
    client(site, made.json()["auth"]["client_token"].as_str().unwrap())
}

/// The same with a second to spare before the test gives up.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    time::timeout(Duration::from_secs(20), what).await.unwrap()
}

#[tokio::test]
async fn a_secret_is_a_type_of_the_program() {
    let site = Site::new();
    let client = root(&site);
    let kv2 = client.kv2("secret");
    let none = kv2.get::<Login>("app/db").await;
    assert!(matches!(none, Err(Error::NotFound)), "{none:?}");

    let first = Login::new("ana", "pa\"ss ü");
    let written = kv2.put("app/db", &first, Some(CheckAndSet::New)).await.unwrap();
    assert_eq!(written.version, 1);
    let taken = kv2.put("app/db", &first, Some(CheckAndSet::New)).await;
    assert!(matches!(taken, Err(Error::CasConflict)), "{taken:?}");
    let second = Login::new("bo", "two");
    kv2.put("app/db", &second, Some(CheckAndSet::Version(1))).await.unwrap();

    let now: Login = kv2.get("app/db").await.unwrap();
    assert_eq!((now.user.as_str(), now.port), ("bo", 5432));
    let before = kv2.get_versioned::<Login>("app/db", Some(1)).await.unwrap();
    assert_eq!(before.metadata.version, 1);
    assert!(before.value.password.expose(|password| password == "pa\"ss ü"));

    #[derive(Serialize)]
    struct Change {
        port: u16,
        note: Option<String>,
    }
    let change = Change { port: 1, note: None };
    let conflict = kv2.merge("app/db", &change, Some(1)).await;
    assert!(matches!(conflict, Err(Error::CasConflict)), "{conflict:?}");
    assert_eq!(kv2.merge("app/db", &change, Some(2)).await.unwrap().version, 3);
    let merged: Login = kv2.get("app/db").await.unwrap();
    assert_eq!((merged.user.as_str(), merged.port), ("bo", 1));

    let misfit = kv2.get::<BTreeMap<String, u16>>("app/db").await.unwrap_err().to_string();
    assert!(misfit.starts_with("secret/data/app/db does not fit: the value of "), "{misfit}");
    assert!(!misfit.contains("bo") && !misfit.contains("two"), "{misfit}");
    let list = kv2.put("app/db", &[1], None).await;
    assert!(matches!(list, Err(Error::Misfit { .. })), "{list:?}");
}

#[tokio::test]
async fn versions_come_back_until_they_are_destroyed_and_names_page_by_page() {
    let site = Site::new();
    let client = root(&site);
    let kv2 = client.kv2("secret");
    for n in 0..3 {
        kv2.put("app/db", &Login::new("ana", &n.to_string()), None).await.unwrap();
        kv2.put(&format!("app/more/{n}"), &Login::new("ana", "x"), None).await.unwrap();
    }
    let custom = BTreeMap::from([("owner".to_owned(), "db team".to_owned())]);
    let changes = MetadataChanges {
        max_versions: Some(5),
        cas_required: Some(true),
        delete_version_after: Some(Duration::from_secs(5400)),
        custom_metadata: Some(custom.clone()),
    };
    kv2.set_metadata("app/db", &changes).await.unwrap();
    let known = kv2.metadata("app/db").await.unwrap();
    assert_eq!((known.current_version, known.versions.len(), known.max_versions), (3, 3, 5));
    assert_eq!(known.delete_version_after, "1h30m0s");
    assert_eq!(known.custom_metadata, Some(custom));
    let blind = kv2.put("app/db", &Login::new("ana", "x"), None).await;
    assert!(matches!(blind, Err(Error::Other { status: 400, .. })), "{blind:?}");

    kv2.delete("app/db").await.unwrap();
    assert!(matches!(kv2.get::<Login>("app/db").await, Err(Error::NotFound)));
    kv2.undelete_versions("app/db", &[3]).await.unwrap();
    kv2.get::<Login>("app/db").await.unwrap();
    kv2.delete_versions("app/db", &[1]).await.unwrap();
    kv2.destroy_versions("app/db", &[2]).await.unwrap();
    let known = kv2.metadata("app/db").await.unwrap();
    assert!(!known.versions[&1].deletion_time.is_empty() && known.versions[&2].destroyed);

    let page = |after| Page { after, limit: 2 };
    let names = async |reach, after| {
        let names = kv2.names("app", reach, page(after)).await.unwrap();
        names.into_iter().map(|named| named.name).collect::<Vec<_>>()
    };
    assert_eq!(names(Reach::Folder, "").await, ["db", "more/"]);
    assert_eq!(names(Reach::Below, "").await, ["db", "more/0"]);
    assert_eq!(names(Reach::Below, "more/0").await, ["more/1", "more/2"]);
    assert!(names(Reach::Below, "more/2").await.is_empty());
    assert_eq!(kv2.list("app/more").await.unwrap(), ["0", "1", "2"]);
    kv2.destroy("app/db").await.unwrap();
    assert!(matches!(kv2.metadata("app/db").await, Err(Error::NotFound)));
}

#[tokio::test]
async fn a_token_lives_past_its_first_ttl_while_it_is_watched() {
    let site = Site::new();
    site.put("app/db", "{}");
    let client = with_token(&site, r#""ttl":"5s""#);
    let watcher = client.own_token().keep_alive().await.unwrap();
    time::sleep(Duration::from_secs(7)).await;
    client.kv2("secret").read("app/db").await.unwrap();
    assert!(matches!(watcher.lifetime(), Lifetime::Renewed { .. }), "{watcher:?}");

    let accessor = client.own_token().look_up().await.unwrap().accessor;
    let body = format!(r#"{{"accessor":"{accessor}"}}"#);
    let root = &site.kept.root;
    assert_eq!(site.server.call("POST", "auth/token/revoke-accessor", root, &body).status, 204);
    assert_eq!(soon(watcher.ended()).await, LifetimeEnd::Revoked);
}

#[tokio::test]
async fn what_ends_a_token_is_told() {
    let site = Site::new();
    for (options, expected) in [
        (r#""ttl":"9s","renewable":false"#, LifetimeEnd::NotRenewable),
        (r#""ttl":"9s","explicit_max_ttl":"10s""#, LifetimeEnd::MaxReached),
        (r#""ttl":"4s","no_default_policy":true"#, LifetimeEnd::Denied),
    ] {
        let client = with_token(&site, options);
        let watcher = client.own_token().keep_alive().await.unwrap();
        assert_eq!(soon(watcher.ended()).await, expected);
    }
    let unknown = client(&site, "hvs.unknown").own_token().keep_alive().await;
    assert!(matches!(unknown, Err(Error::InvalidToken)), "{unknown:?}");
    let watcher = root(&site).own_token().keep_alive().await.unwrap();
    assert_eq!(watcher.lifetime(), Lifetime::Unbounded);
}

#[tokio::test]
async fn a_sealed_vault_delays_a_renewal_and_is_waited_for() {
    let site = Site::new();
    let operator = root(&site);
    let client = with_token(&site, r#""ttl":"9s""#);
    let watcher = client.own_token().keep_alive().await.unwrap();
    operator.sys().seal().await.unwrap();
    let error = client.wait_until_ready(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, Error::NotReady { why: Unready::Sealed, .. }), "{error:?}");

    let mut lifetime = watcher.subscribe();
    let delayed = soon(lifetime.wait_for(|now| matches!(now, Lifetime::Delayed { .. }))).await;
    let Lifetime::Delayed { reason, .. } = delayed.unwrap().clone() else { unreachable!() };
    assert_eq!(reason, "the vault is sealed");
    let share = SecretString::copy_of(&site.kept.share);
    operator.sys().unseal(UnsealKey::Share(share)).await.unwrap();
    assert!(!soon(client.wait_until_ready(Duration::from_secs(20))).await.unwrap().sealed);
    let again = soon(lifetime.wait_for(|now| !matches!(now, Lifetime::Delayed { .. }))).await;
    assert!(matches!(*again.unwrap(), Lifetime::Renewed { .. }), "{watcher:?}");
}

#[tokio::test]
async fn a_watched_secret_gives_each_change_to_those_who_read_metadata_and_those_who_do_not() {
    let site = Site::new();
    let operator = root(&site);
    let owner = operator.kv2("secret");
    let reader = with_token(&site, r#""ttl":"1h""#);
    for client in [&operator, &reader] {
        let mut watcher = client.kv2("secret").watch::<Login>("app/db", Duration::ZERO);
        owner.destroy("app/db").await.unwrap();
        assert!(matches!(soon(watcher.next()).await, Err(Error::NotFound)));
        owner.put("app/db", &Login::new("one", "1"), None).await.unwrap();
        let first = soon(watcher.next()).await.unwrap();
        assert_eq!((first.value.user.as_str(), first.metadata.version), ("one", 1));
        let nothing = time::timeout(Duration::from_millis(900), watcher.next()).await;
        assert!(nothing.is_err(), "{nothing:?}");

        owner.put("app/db", &Login::new("two", "2"), None).await.unwrap();
        assert_eq!(soon(watcher.next()).await.unwrap().value.user, "two");
        owner.delete("app/db").await.unwrap();
        assert!(matches!(soon(watcher.next()).await, Err(Error::NotFound)));
        owner.undelete_versions("app/db", &[2]).await.unwrap();
        assert_eq!(soon(watcher.next()).await.unwrap().value.user, "two");
        // Version 1 of another secret in its place.
        owner.destroy("app/db").await.unwrap();
        owner.put("app/db", &Login::new("three", "3"), None).await.unwrap();
        owner.put("app/db", &Login::new("four", "4"), None).await.unwrap();
        assert_eq!(soon(watcher.next()).await.unwrap().value.user, "four");
    }
}

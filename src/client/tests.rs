use std::time::Duration;

use super::{
    fake::{Fake, Scripted},
    *,
};
use crate::secret::SecretString;

const READ: Scripted = Scripted::Answer(
    200,
    "",
    r#"{"request_id":"1","data":{"data":{"n":1.10,"a":"å"},"metadata":{"version":3,"created_time":"2026-01-01T00:00:00Z","deletion_time":"","destroyed":false,"custom_metadata":null}},"auth":null}"#,
);
const DELETED: Scripted = Scripted::Answer(
    404,
    "",
    r#"{"data":{"data":null,"metadata":{"version":2,"created_time":"2026-01-01T00:00:00Z","deletion_time":"2026-01-02T00:00:00Z","destroyed":false,"custom_metadata":{"k":"v"}}}}"#,
);
const SEALED: Scripted = Scripted::Answer(503, "", r#"{"errors":["Vault is sealed"]}"#);
const BUSY: Scripted = Scripted::Answer(503, "", "upstream busy");

fn fields(json: &str) -> Fields {
    serde_json::from_str(json).unwrap()
}

#[tokio::test]
async fn a_secret_is_read_with_its_json_text() {
    let fake = Fake::start(vec![READ]).await;
    let client = fake.client();
    let secret = client.kv2("secret").read("app/a b").await.unwrap();
    assert_eq!(secret.metadata.version, 3);
    let json = secret.fields.unwrap().to_json();
    assert!(json.expose(|bytes| bytes == r#"{"n":1.10,"a":"å"}"#.as_bytes()));

    let request = fake.requests().remove(0);
    assert!(request.starts_with("GET /v1/secret/data/app/a%20b HTTP/1.1\r\n"), "{request}");
    for header in ["x-vault-token: hvs.planted\r\n", "x-vault-request: true\r\n"] {
        assert!(request.contains(header), "{header} missing in {request}");
    }
}

#[tokio::test]
async fn a_deleted_version_is_a_secret_without_fields() {
    let fake = Fake::start(vec![DELETED]).await;
    let secret = fake.client().kv2("secret").read_version("a", 2).await.unwrap();
    assert!(secret.fields.is_none());
    assert_eq!(secret.metadata.deletion_time, "2026-01-02T00:00:00Z");
    assert!(fake.requests()[0].starts_with("GET /v1/secret/data/a?version=2 "));
}

#[tokio::test]
async fn a_write_sends_the_expected_version_and_the_values_as_they_are() {
    let answer = Scripted::Answer(
        200,
        "",
        r#"{"data":{"version":4,"created_time":"","deletion_time":"","destroyed":false,"custom_metadata":null}}"#,
    );
    let fake = Fake::start(vec![answer]).await;
    let client = fake.client();
    let written = client
        .kv2("secret")
        .write("a", &fields(r#"{"n":1.10}"#), Some(CheckAndSet::Version(3)))
        .await
        .unwrap();
    assert_eq!(written.version, 4);
    let request = fake.requests().remove(0);
    assert!(request.starts_with("PUT /v1/secret/data/a "), "{request}");
    assert!(request.ends_with(r#"{"options":{"cas":3},"data":{"n":1.10}}"#), "{request}");
}

#[tokio::test]
async fn a_patch_sends_what_changes_and_is_told_of_what_is_deleted() {
    const WRITTEN: &str = r#"{"data":{"version":4,"created_time":"","deletion_time":"","destroyed":false,"custom_metadata":null}}"#;
    let answers = vec![Scripted::Answer(200, "", WRITTEN), Scripted::Answer(404, "", WRITTEN)];
    let fake = Fake::start(answers).await;
    let client = fake.client();
    let mut changes = fields(r#"{"n":1.10}"#);
    changes.set("old", JsonValue::null());
    let written = client.kv2("secret").patch("a", &changes, Some(3)).await.unwrap();
    assert_eq!(written.version, 4);
    let request = fake.requests().remove(0);
    assert!(request.starts_with("PATCH /v1/secret/data/a "), "{request}");
    assert!(request.contains("content-type: application/merge-patch+json\r\n"), "{request}");
    assert!(
        request.ends_with(r#"{"options":{"cas":3},"data":{"n":1.10,"old":null}}"#),
        "{request}"
    );

    let gone = client.kv2("secret").patch("a", &changes, None).await;
    assert!(matches!(gone, Err(Error::NotFound)), "{gone:?}");
}

#[tokio::test]
async fn a_read_waits_for_a_server_that_is_busy_or_hangs_up() {
    let fake = Fake::start(vec![BUSY, Scripted::HangUp, READ]).await;
    fake.client().kv2("secret").read("a").await.unwrap();
    assert_eq!(fake.requests().len(), 3);
}

#[tokio::test]
async fn a_write_that_may_have_run_is_not_repeated() {
    for first in [BUSY, Scripted::HangUp] {
        let fake = Fake::start(vec![first, READ]).await;
        fake.client().kv2("secret").delete("a").await.unwrap_err();
        assert_eq!(fake.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_write_refused_by_a_sealed_vault_is_repeated_and_then_told() {
    let fake = Fake::start(vec![SEALED, SEALED, SEALED]).await;
    let error = fake.client().kv2("secret").delete("a").await.unwrap_err();
    assert!(matches!(error, Error::Sealed));
    assert_eq!(fake.requests().len(), 3);
}

#[tokio::test]
async fn a_denial_names_the_path_and_the_capability() {
    let denied =
        Scripted::Answer(403, "", r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#);
    let fake = Fake::start(vec![denied]).await;
    let error = fake.client().kv2("secret").list("my app").await.unwrap_err();
    let Error::Denied { path, needed } = error else { panic!("{error:?}") };
    assert_eq!((path.as_str(), needed), ("secret/metadata/my app", Capability::List));
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_not_trusted() {
    let fake = Fake::start(vec![READ]).await;
    let other = Fake::start(vec![]).await;
    let client = fake.builder().ca_file(other.ca_file()).build().unwrap();
    let error = client.kv2("secret").read("a").await.unwrap_err();
    let Error::Untrusted { reason, .. } = error else { panic!("{error:?}") };
    assert_eq!(reason, "another CA has signed it");
    assert!(fake.requests().is_empty(), "the token must not be sent");
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_shows_no_token() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::builder(&address)
        .token(SecretString::copy_of("hvs.planted"))
        .retries(0)
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let error = client.sys().seal_status().await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { address: told, .. } if *told == address));
    assert!(!format!("{error:?} {client:?}").contains("planted"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let moved = Scripted::Answer(307, "location: https://elsewhere.example/\r\n", "");
    let fake = Fake::start(vec![moved]).await;
    let error = fake.client().kv2("secret").read("a").await.unwrap_err();
    assert!(matches!(error, Error::Other { status: 307, .. }), "{error:?}");
}

#[tokio::test]
async fn init_and_unseal_speak_vaults_fields() {
    let made = Scripted::Answer(
        200,
        "",
        r#"{"keys":["0a"],"keys_base64":["Cg=="],"root_token":"hvs.root"}"#,
    );
    let status = Scripted::Answer(
        200,
        "",
        r#"{"type":"shamir","initialized":true,"sealed":true,"t":3,"n":5,"progress":1,"nonce":"x","version":"2.0.0+kista.0.1.0","warnings":null}"#,
    );
    let fake = Fake::start(vec![made, status]).await;
    let client = fake.client();
    let made = client.sys().init(5, 3).await.unwrap();
    assert!(made.root_token.expose(|token| token == "hvs.root"));
    let status = client.sys().unseal(UnsealKey::Share(SecretString::copy_of("0a"))).await.unwrap();
    assert_eq!((status.progress, status.threshold), (1, 3));
    let requests = fake.requests();
    assert!(requests[0].ends_with(r#"{"secret_shares":5,"secret_threshold":3}"#));
    assert!(requests[1].ends_with(r#"{"key":"0a"}"#));
}

#[tokio::test]
async fn the_mount_of_a_path_is_asked_for_without_its_last_slash() {
    let mount = Scripted::Answer(
        200,
        "",
        r#"{"data":{"path":"secret/","type":"kv","options":{"version":"2"},"accessor":"kv_1"}}"#,
    );
    let fake = Fake::start(vec![mount]).await;
    let mount = fake.client().sys().mount_of("secret/").await.unwrap();
    assert!(mount.is_kv2());
    assert!(fake.requests()[0].starts_with("GET /v1/sys/internal/ui/mounts/secret "));
}

#[tokio::test]
async fn names_come_page_by_page_and_an_empty_page_is_the_end() {
    let page = Scripted::Answer(200, "", r#"{"data":{"keys":["a b","c/"]}}"#);
    let end = Scripted::Answer(404, "", r#"{"errors":[]}"#);
    let fake = Fake::start(vec![page, end, end]).await;
    let client = fake.client();
    let kv2 = client.kv2("secret");
    let first = kv2.names("app", Reach::Folder, Page { after: "", limit: 2 }).await.unwrap();
    let names: Vec<&str> = first.iter().map(|named| named.name.as_str()).collect();
    assert_eq!(names, ["a b", "c/"]);
    let rest = kv2.names("", Reach::Below, Page { after: "c/&é", limit: 2 }).await.unwrap();
    assert!(rest.is_empty());
    let none = kv2.names("", Reach::Below, Page { after: "", limit: 2 }).await;
    assert!(matches!(none, Err(Error::NotFound)));
    let requests = fake.requests();
    for (request, target) in requests.iter().zip([
        "GET /v1/secret/metadata/app?list=true&limit=2&after= ",
        "GET /v1/secret/metadata?scan=true&limit=2&after=c%2F%26%C3%A9 ",
    ]) {
        assert!(request.starts_with(target), "{request}");
    }
}

#[tokio::test]
async fn the_keys_of_a_secret_come_without_values_and_a_deleted_one_has_none() {
    let keys = Scripted::Answer(
        200,
        "",
        r#"{"data":{"subkeys":{"b":null,"a":{"c":null}},"metadata":{}}}"#,
    );
    let gone = Scripted::Answer(404, "", r#"{"data":{"subkeys":null,"metadata":{}}}"#);
    let fake = Fake::start(vec![keys, gone]).await;
    let client = fake.client();
    assert_eq!(client.kv2("secret").keys("x").await.unwrap(), ["b", "a"]);
    assert!(client.kv2("secret").keys("x").await.unwrap().is_empty());
    assert!(fake.requests()[0].starts_with("GET /v1/secret/subkeys/x?depth=1 "));
}

#[tokio::test]
async fn a_pinned_certificate_is_trusted_itself_and_no_other() {
    let health = Scripted::Answer(
        200,
        "",
        r#"{"initialized":true,"sealed":true,"standby":false,"server_time_utc":1,"version":"2"}"#,
    );
    let fake = Fake::start(vec![health]).await;
    let unknown = Pin::unknown();
    let refused = fake.builder().pin(&unknown).build().unwrap().sys().health().await;
    assert!(matches!(refused, Err(Error::Untrusted { .. })), "{refused:?}");
    let shown = unknown.shown();
    assert_eq!(shown.len(), 1);

    let mut other = shown[0].clone();
    *other.last_mut().unwrap() ^= 1;
    let refused = fake.builder().pin(&Pin::of(&other)).build().unwrap().sys().health().await;
    assert!(matches!(refused, Err(Error::Untrusted { .. })), "{refused:?}");
    assert!(fake.requests().is_empty(), "nothing is sent to a server that is not known");

    let pin = Pin::of_file(&fake.ca_file()).unwrap();
    fake.builder().pin(&pin).build().unwrap().sys().health().await.unwrap();
    assert_eq!(pin.shown(), shown);
}

#[tokio::test]
async fn another_store_gets_no_token() {
    let health = Scripted::Answer(
        200,
        "",
        r#"{"initialized":true,"sealed":false,"standby":false,"server_time_utc":1,"version":"2","cluster_id":"a"}"#,
    );
    let fake = Fake::start(vec![health, health, READ, READ]).await;
    let refused = fake.builder().store("b").build().unwrap().kv2("secret").read("x").await;
    assert!(matches!(refused, Err(Error::OtherStore { .. })), "{refused:?}");
    let client = fake.builder().store("a").build().unwrap();
    client.kv2("secret").read("x").await.unwrap();
    client.clone().kv2("secret").read("x").await.unwrap();
    let requests = fake.requests();
    assert_eq!(requests.len(), 4, "the store is asked for once");
    for asked in &requests[..2] {
        assert!(asked.contains("sys/health") && !asked.contains("hvs.planted"), "{asked}");
    }
}

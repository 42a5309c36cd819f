use super::*;
use crate::{
    client::{
        Error,
        fake::{Fake, Scripted},
    },
    secret::SecretBytes,
};

fn secrets(texts: &[&str]) -> Vec<SecretBytes> {
    texts.iter().map(|text| SecretBytes::copy_of(text.as_bytes())).collect()
}

#[tokio::test]
async fn a_batch_keeps_the_order_and_each_item_has_its_outcome() {
    let answer = Scripted::Answer(
        200,
        "",
        r#"{"data":{"batch_results":[{"ciphertext":"vault:v2:QQ==","key_version":2,"reference":""},
            {"error":"no","key_version":0,"reference":""},{"ciphertext":"vault:v1:Qg=="}]}}"#,
    );
    let fake = Fake::start(vec![answer]).await;
    let client = fake.client();
    let plain = secrets(&["a", "b", "c"]);
    let mut items: Vec<_> = plain.iter().map(ToEncrypt::from).collect();
    items[1].binding = Binding { context: b"ctx", associated_data: b"row 1" };
    let outcomes = client.transit("transit").encrypt_many("pii", &items).await.unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap().key_version, 2);
    assert_eq!(outcomes[1], Err(Refused("no".to_owned())));
    assert_eq!(outcomes[2].as_ref().unwrap().key_version, 1, "from the ciphertext");
    let request = fake.requests().remove(0);
    assert!(request.starts_with("PUT /v1/transit/encrypt/pii "), "{request}");
    let body = r#"{"batch_input":[{"plaintext":"YQ=="},{"plaintext":"Yg==","context":"Y3R4","associated_data":"cm93IDE="},{"plaintext":"Yw=="}],"partial_failure_response_code":200}"#;
    assert!(request.ends_with(body), "{request}");
}

#[tokio::test]
async fn a_batch_of_which_all_fails_is_an_answer_too() {
    let failed = r#"{"data":{"batch_results":[{"error":"bad","plaintext":"","reference":""}]}}"#;
    let refused = r#"{"errors":["missing batch input to process"]}"#;
    let fake = Fake::start(vec![
        Scripted::Answer(400, "", failed),
        Scripted::Answer(400, "", refused),
        Scripted::Answer(200, "", failed),
    ])
    .await;
    let client = fake.client();
    let transit = client.transit("transit");
    let items = [ToDecrypt::from("vault:v1:QQ==")];
    let outcomes = transit.decrypt_many("pii", &items).await.unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap_err(), &Refused("bad".to_owned()));
    let error = transit.decrypt_many("pii", &items).await.unwrap_err();
    assert!(matches!(error, Error::Other { status: 400, .. }), "{error:?}");
    let two = [items[0], items[0]];
    let error = transit.decrypt_many("pii", &two).await.unwrap_err();
    assert!(matches!(error, Error::Unexpected(_)), "{error:?}");
}

#[tokio::test]
async fn many_items_go_in_several_requests() {
    let results = |n: usize| {
        let item = r#"{"plaintext":"YQ==","reference":""}"#;
        let body = format!(r#"{{"data":{{"batch_results":[{}]}}}}"#, vec![item; n].join(","));
        Scripted::Answer(200, "", body.leak())
    };
    let fake = Fake::start(vec![results(1000), results(1000), results(1)]).await;
    let client = fake.client();
    let items = vec![ToDecrypt::from("vault:v1:QQ=="); 2001];
    let outcomes = client.transit("transit").decrypt_many("pii", &items).await.unwrap();
    assert_eq!(outcomes.len(), 2001);
    assert!(outcomes.iter().all(|one| one.as_ref().unwrap().expose(|plain| plain == b"a")));
    assert_eq!(fake.requests().len(), 3);
    assert!(client.transit("transit").decrypt_many("pii", &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_plaintext_shows_in_no_debug_output() {
    let planted = SecretBytes::copy_of(b"hunter2");
    let item = ToEncrypt::from(&planted);
    let wrapped =
        r#"{"data":{"plaintext":"aHVudGVyMg==","ciphertext":"vault:v1:QQ==","key_version":1}}"#;
    let fake = Fake::start(vec![Scripted::Answer(200, "", wrapped)]).await;
    let client = fake.client();
    let data_key = client
        .transit("transit")
        .data_key("pii", DataKeyBits::Bits256, Binding::default())
        .await
        .unwrap();
    let shown = format!("{item:?} {data_key:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVy"), "{shown}");
    let request = fake.requests().remove(0);
    assert!(request.starts_with("PUT /v1/transit/datakey/plaintext/pii "), "{request}");
    assert!(request.ends_with(r#"{"bits":256}"#), "{request}");
}

#[tokio::test]
async fn a_rewrap_tells_whether_the_version_is_another() {
    let answer = r#"{"data":{"ciphertext":"vault:v4:Qg==","key_version":4}}"#;
    let fake = Fake::start(vec![Scripted::Answer(200, "", answer); 2]).await;
    let client = fake.client();
    let transit = client.transit("transit");
    let binding = Binding::default();
    assert!(transit.rewrap("pii", "vault:v3:QQ==", binding).await.unwrap().is_moved());
    assert!(!transit.rewrap("pii", "vault:v4:QQ==", binding).await.unwrap().is_moved());
}

#[tokio::test]
async fn a_key_is_read_whatever_its_type() {
    const SYMMETRIC: &str = r#"{"data":{"name":"pii","type":"aes256-gcm96","derived":false,
        "exportable":false,"allow_plaintext_backup":false,"deletion_allowed":false,
        "latest_version":2,"min_available_version":0,"min_decryption_version":1,
        "min_encryption_version":0,"auto_rotate_period":0,"keys":{"1":1767225600,"2":1767225601}}}"#;
    const ASYMMETRIC: &str = r#"{"data":{"name":"sig","type":"ed25519","derived":true,
        "exportable":true,"allow_plaintext_backup":true,"deletion_allowed":true,
        "latest_version":1,"min_decryption_version":1,"min_encryption_version":0,
        "keys":{"1":{"name":"ed25519","public_key":"","certificate_chain":"",
        "creation_time":"2026-01-01T00:00:00Z"}}}}"#;
    let answers = [SYMMETRIC, ASYMMETRIC].map(|body| Scripted::Answer(200, "", body));
    let fake = Fake::start(answers.to_vec()).await;
    let client = fake.client();
    let keys = client.transit("transit").keys();
    let pii = keys.read("pii").await.unwrap();
    assert_eq!((pii.latest_version, pii.keys[&2].created.as_str()), (2, "2026-01-01T00:00:01Z"));
    let sig = keys.read("sig").await.unwrap();
    assert_eq!((sig.keys[&1].public_key.as_ref(), sig.derived), (None, true));
}

#[tokio::test]
async fn usage_and_description_are_read_as_the_server_writes_them() {
    let usage = r#"{"data":{"versions":{"1":{"encryptions":5,"decryptions":7,"last_used":"2026-01-01T00:00:00Z"},
        "2":{"encryptions":0,"decryptions":0,"last_used":null}},"latest_version":2}}"#;
    let described = r#"{"data":{"key_version":1,"type":"aes256-gcm96","is_current":false}}"#;
    let answers = [usage, described].map(|body| Scripted::Answer(200, "", body));
    let fake = Fake::start(answers.to_vec()).await;
    let client = fake.client();
    let keys = client.transit("transit").keys();
    let usage = keys.usage("pii").await.unwrap();
    assert_eq!((usage.versions[&1].decryptions, usage.versions[&2].last_used.as_ref()), (7, None));
    assert!(!keys.describe("pii", "vault:v1:QQ==").await.unwrap().is_current);
    let requests = fake.requests();
    assert!(requests[0].starts_with("GET /v1/transit/keys/pii/usage "), "{requests:?}");
    assert!(requests[1].starts_with("PUT /v1/transit/describe/pii "), "{requests:?}");
}

#[tokio::test]
async fn no_keys_are_an_empty_list() {
    let none = Scripted::Answer(404, "", r#"{"errors":[]}"#);
    let fake = Fake::start(vec![none]).await;
    assert!(fake.client().transit("transit").keys().list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_public_key_is_imported_without_asking_for_the_wrapping_key() {
    let fake = Fake::start(vec![Scripted::Answer(204, "", "")]).await;
    let client = fake.client();
    let import = Import {
        kind: "rsa-2048".to_owned(),
        allow_rotation: false,
        derived: false,
        exportable: true,
        allow_plaintext_backup: false,
    };
    let pem =
        SecretBytes::copy_of(b"\n-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    let keys = client.transit("transit").keys();
    keys.import("theirs", &import, KeyMaterial::Pem(&pem)).await.unwrap();
    let request = fake.requests().remove(0);
    assert!(request.starts_with("PUT /v1/transit/keys/theirs/import "), "{request}");
    assert!(request.contains(r#""type":"rsa-2048""#), "{request}");
    assert!(request.contains(r#""public_key":"-----BEGIN PUBLIC KEY-----\nAAAA\n"#), "{request}");
}

#[tokio::test]
async fn pem_that_holds_no_pkcs8_or_public_key_is_refused() {
    let fake = Fake::start(Vec::new()).await;
    let client = fake.client();
    let keys = client.transit("transit").keys();
    for pem in
        ["", "AAAA", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"]
    {
        let pem = SecretBytes::copy_of(pem.as_bytes());
        let error = keys.import_version("k", KeyMaterial::Pem(&pem)).await.unwrap_err();
        assert!(matches!(error, ImportError::NoPem), "{error:?}");
    }
    assert!(fake.requests().is_empty());
}

//! Backups of keys: one that is restored is backed up again as the same key.
//!
//! Input: the JSON of a backup, without its base64.
#![no_main]

use std::sync::LazyLock;

use data_encoding::BASE64;
use kista_fuzz::Transit;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static TRANSIT: LazyLock<Transit> = LazyLock::new(Transit::new);

fuzz_target!(init: { LazyLock::force(&TRANSIT); }, |backup: &[u8]| {
    let body = json!({"backup": BASE64.encode(backup), "force": true});
    if TRANSIT.write("restore/k", &body).0 == 400 {
        return;
    }
    let shown = TRANSIT.read("keys/k");
    let open = json!({"exportable": true, "allow_plaintext_backup": true});
    let (status, answer) = TRANSIT.write("keys/k/config", &open);
    assert_eq!(status, 200, "{answer}");
    if shown["data"]["soft_deleted"] == true {
        TRANSIT.write("keys/k/soft-delete-restore", &json!({}));
    }
    let again = TRANSIT.read("backup/k");
    let body = json!({"backup": again["data"]["backup"], "force": true});
    let (status, answer) = TRANSIT.write("restore/k", &body);
    assert_eq!(status, 204, "{answer}");
    let twice = TRANSIT.read("keys/k");
    for field in ["type", "keys", "latest_version", "min_decryption_version", "derived"] {
        assert_eq!(twice["data"].get(field), shown["data"].get(field), "{field}");
    }
});

//! How often a request allocates, from its head to its answer. What HTTP and TLS take comes on top.
//!
//! Each allocation is a few dozen nanoseconds, and as many again to wipe and free it; a number that
//! grows is a slower vault. Whoever makes one smaller writes the new one down.

use std::future::Future;

use allocation_counter::measure;
use kista::gate::Operation::{Read, Write};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::support::{TestVault, transit};

/// The fewest allocations of some calls: jobs in the background share the thread.
fn fewest<F: Future<Output = u16>>(runtime: &Runtime, call: impl Fn() -> F) -> u64 {
    // What is kept between requests is there after the first.
    assert_eq!(runtime.block_on(call()), 200);
    let counts = (0..5).map(|_| {
        let counted = measure(|| assert_eq!(runtime.block_on(call()), 200));
        counted.count_total
    });
    counts.min().unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_read_of_kv_allocates_so_often() {
    let runtime = runtime();
    let vault = runtime.block_on(async {
        let vault = TestVault::open().await;
        let body = json!({ "data": { "user": "app", "password": "s3cr3t" } }).to_string();
        vault.as_root(Write, "secret/data/app/db", &body).await;
        vault
    });
    let read = || async { vault.as_root(Read, "secret/data/app/db", "").await.status };
    let counted = fewest(&runtime, read);
    assert!(counted <= 23, "{counted}");
    // To count it by a quota takes none.
    for (path, body) in [
        ("sys/quotas/config", r#"{"enable_rate_limit_response_headers":true}"#),
        ("sys/quotas/rate-limit/all", r#"{"rate":1e6}"#),
        ("sys/quotas/rate-limit/one", r#"{"path":"secret/data/app/*","rate":1e6}"#),
    ] {
        let written = runtime.block_on(vault.as_root(Write, path, body));
        assert_eq!(written.status, 204, "{written:?}");
    }
    assert_eq!(fewest(&runtime, read), counted);
}

#[test]
fn an_encryption_allocates_so_often() {
    let runtime = runtime();
    let vault = runtime.block_on(async {
        let vault = transit::vault().await;
        transit::done(&vault, "keys/pii", &json!({})).await;
        vault
    });
    let body = json!({ "plaintext": "NDExMSAxMTExIDExMTEgMTExMQ==" }).to_string();
    let encrypt = || async { vault.as_root(Write, "transit/encrypt/pii", &body).await.status };
    let counted = fewest(&runtime, encrypt);
    assert!(counted <= 29, "{counted}");
}

//! What follows from a verification, in a vault on a real folder.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    barrier::{Batch, MountView, ReadError, SpaceId},
    clock::{ManualClock, Timestamp},
    config::Freshness,
    seal::{NewSlot, ShareCounts},
    storage::Options,
};

struct Subject {
    vault: Arc<Vault>,
    share: String,
    _folder: tempfile::TempDir,
}

impl Subject {
    async fn new(freshness: Freshness) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let month = Duration::from_secs(768 * 3600);
        let settings = Settings {
            verify: config::Verify { freshness, ..config::Verify::default() },
            storage: Options { segment_bytes: 64 * 1024, ..Options::default() },
            ..Settings::new(folder.path().join("data"), TtlLimits { default: month, max: month })
        };
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)));
        let vault = Vault::start(settings, clock).unwrap();
        let slot = NewSlot::Shares(ShareCounts::new(1, 1).unwrap());
        let made = vault.initialize(vec![slot]).await.unwrap();
        let share = made.shares[0].expose(|bytes| data_encoding::HEXLOWER.encode(bytes));
        Self { vault: Arc::new(vault), share, _folder: folder }
    }

    async fn unseal(&self) -> Result<(), UnsealError> {
        self.vault.submit_share(&self.share).await
    }

    fn view(&self) -> MountView {
        self.vault.unsealed().unwrap().ground.barrier.view(SpaceId::SYSTEM).under(&["test"])
    }

    async fn put(&self, value: &[u8]) {
        let (view, mut batch) = (self.view(), Batch::default());
        batch.put(&view, &["a"], value);
        view.commit(batch).await.unwrap();
    }

    async fn get(&self) -> Result<Vec<u8>, ReadError> {
        let stored = self.view().get(&["a"]).await?.unwrap();
        Ok(stored.value.expose(<[u8]>::to_vec))
    }

    /// Puts back the record that stood there before the last put, behind the store's back.
    async fn put_back(&self) {
        let open = self.vault.unsealed().unwrap();
        self.put(b"old").await;
        let old = open.ground.barrier.record_at(&self.view(), &["a"]).await;
        self.put(b"new").await;
        open.ground.barrier.tamper(&self.view(), &["a"], old.as_deref());
    }

    /// Verifies now.
    async fn verify(&self) -> Verdict {
        self.vault.verification().ask();
        self.vault.verify_if_due().await;
        self.vault.verification().report().last.unwrap().verdict
    }
}

#[tokio::test]
async fn an_index_that_is_wrong_is_rebuilt_and_all_is_well() {
    let subject = Subject::new(Freshness::Background).await;
    subject.unseal().await.unwrap();
    subject.put_back().await;
    assert_eq!(subject.get().await.unwrap(), b"old", "nothing is checked before the first scan");
    assert_eq!(subject.verify().await, Verdict::Repaired);
    assert_eq!(subject.get().await.unwrap(), b"new");
    assert_eq!(subject.vault.warnings(), ["index_repaired"]);
    assert_eq!(subject.verify().await, Verdict::Good);
    assert!(subject.vault.warnings().is_empty());
}

#[tokio::test]
async fn a_read_that_meets_an_older_record_has_the_store_verified() {
    let subject = Subject::new(Freshness::Background).await;
    subject.unseal().await.unwrap();
    assert_eq!(subject.verify().await, Verdict::Good);
    // Due at unseal, and done.
    subject.vault.verify_if_due().await;
    subject.put_back().await;
    assert!(matches!(subject.get().await, Err(ReadError::Stale)));
    subject.vault.verify_if_due().await;
    assert_eq!(subject.get().await.unwrap(), b"new");
    let last = subject.vault.verification().report().last.unwrap();
    assert_eq!(last.verdict, Verdict::Repaired);
    assert_eq!(last.findings[0].path.as_deref(), Some("test/a"));
}

/// Written over unchecked, the older record has gone out of the sum in place of the newer one.
async fn tampered(freshness: Freshness) -> Subject {
    let subject = Subject::new(freshness).await;
    subject.unseal().await.unwrap();
    subject.put_back().await;
    subject.put(b"newest").await;
    subject
}

#[tokio::test]
async fn a_store_that_does_not_add_up_is_sealed_and_says_so() {
    let subject = tampered(Freshness::Off).await;
    assert_eq!(subject.verify().await, Verdict::Tampered);
    assert!(subject.vault.status().is_sealed);
    let warnings = subject.vault.warnings();
    assert!(warnings[0].starts_with("tampered: "), "{warnings:?}");
    // It may be opened once more, to save what can be saved.
    subject.unseal().await.unwrap();
    assert_eq!(subject.vault.warnings(), warnings);
    assert_eq!(subject.get().await.unwrap(), b"newest");
    subject.vault.verify_if_due().await;
    assert!(subject.vault.status().is_sealed);
}

#[tokio::test]
async fn a_strict_vault_opens_only_when_all_is_well() {
    let subject = Subject::new(Freshness::Strict).await;
    subject.unseal().await.unwrap();
    assert!(subject.vault.unsealed().unwrap().ground.barrier.is_fresh());
    subject.put_back().await;
    assert!(matches!(subject.get().await, Err(ReadError::Stale)));
    subject.vault.seal().await;
    subject.unseal().await.unwrap();
    assert_eq!(subject.get().await.unwrap(), b"new", "found and mended on the way");
    assert_eq!(subject.vault.warnings(), ["index_repaired"]);
}

#[tokio::test]
async fn a_strict_vault_stays_sealed_over_a_store_that_does_not_add_up() {
    let mut subject = tampered(Freshness::Off).await;
    subject.vault.seal().await;
    Arc::get_mut(&mut subject.vault).unwrap().be_strict();
    let refused = subject.unseal().await;
    assert!(matches!(refused, Err(UnsealError::Unverified)), "{refused:?}");
    assert!(subject.vault.status().is_sealed);
    assert!(subject.vault.warnings()[0].starts_with("tampered: "));
}

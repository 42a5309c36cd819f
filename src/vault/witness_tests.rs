//! A journal whose last segment is gone looks like a shorter one: who tells of it.

use std::{fs, path::PathBuf, sync::Arc};

use tempfile::TempDir;

use super::{Settings, UnsealError, Vault};
use crate::{
    barrier::{self, Batch, MountView, SpaceId},
    clock::{Clock, ManualClock, Timestamp},
    config::{AuditFile, AuditFormat},
    seal::{NewSlot, Secret, ShareCounts},
    secret::SecretBytes,
    storage::{Damage, Evidence, OpenError, Options},
    token::TtlLimits,
};

/// What remembers a commit of the last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Witness {
    Anchor,
    AuditFile,
    Index,
    Nobody,
}

/// A store of several segments, closed, on the real disk.
struct Cut {
    folder: TempDir,
    witness: Witness,
    share: SecretBytes,
    /// The name of the segment that is gone.
    gone: PathBuf,
}

impl Cut {
    async fn new(witness: Witness) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vault = start(&folder, witness);
        let slot = NewSlot::Shares(ShareCounts::new(1, 1).unwrap());
        let share = vault.initialize(vec![slot]).await.unwrap().shares.remove(0);
        vault.unseal(secret(&share)).await.unwrap();
        for n in 0..=LAST {
            let view = view(&vault);
            let mut batch = Batch::default();
            batch.put(&view, &[&format!("n{n}")], &[7; 3_000]);
            view.commit(batch).await.unwrap();
        }
        vault.seal().await;
        drop(vault);
        let data = folder.path().join("data");
        let names = fs::read_dir(data.join("journal")).unwrap();
        let mut segments: Vec<_> = names.map(|name| name.unwrap().path()).collect();
        // Beside them may lie a spare one, made ready for the next.
        segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        segments.sort();
        assert!(segments.len() > 2, "{segments:?}");
        let gone = segments.pop().unwrap();
        fs::remove_file(&gone).unwrap();
        if witness != Witness::Index {
            fs::remove_dir_all(data.join("index")).unwrap();
        }
        Self { folder, witness, share, gone }
    }

    async fn open(&self) -> Result<Vault, UnsealError> {
        let vault = start(&self.folder, self.witness);
        vault.unseal(secret(&self.share)).await.map(|()| vault)
    }
}

fn start(folder: &TempDir, witness: Witness) -> Vault {
    let at = |name: &str| folder.path().join(name);
    let audit =
        AuditFile { path: at("audit.log"), hash_paths: false, format: AuditFormat::default() };
    let settings = Settings {
        storage: Options { segment_bytes: 8 * 1024, ..Options::default() },
        audit_file: (witness == Witness::AuditFile).then_some(audit),
        anchors: (witness == Witness::Anchor).then(|| at("anchor")).into_iter().collect(),
        ..Settings::new(at("data"), TtlLimits::default())
    };
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)));
    Vault::start(settings, clock as Arc<dyn Clock>).unwrap()
}

fn secret(share: &SecretBytes) -> Secret {
    Secret::Shares(share.expose(SecretBytes::copy_of))
}

fn view(vault: &Vault) -> MountView {
    vault.unsealed().unwrap().ground.barrier.view(SpaceId([7; 16]))
}

/// The damage that an error tells of, and its file.
fn damage(error: &UnsealError) -> (PathBuf, Damage) {
    let (UnsealError::Storage(error) | UnsealError::Barrier(barrier::OpenError::Storage(error))) =
        error
    else {
        panic!("{error:?}")
    };
    let OpenError::Damaged { file, what, .. } = error else { panic!("{error:?}") };
    (file.clone(), *what)
}

/// The last write comes into the last segment, so that more is lost than the journal's end.
const LAST: usize = 12;

#[tokio::test]
async fn the_anchor_tells_of_a_last_segment_that_is_gone() {
    let cut = Cut::new(Witness::Anchor).await;
    let error = cut.open().await.unwrap_err();
    let UnsealError::RollbackDetected { seq } = error else { panic!("{error:?}") };
    assert!(error.to_string().contains(&seq.to_string()), "{error}");
}

#[tokio::test]
async fn the_audit_file_tells_of_a_last_segment_that_is_gone() {
    let cut = Cut::new(Witness::AuditFile).await;
    let (file, what) = damage(&cut.open().await.unwrap_err());
    assert_eq!(file.parent(), cut.gone.parent());
    assert!(
        matches!(what, Damage::Record { seq, evidence: Evidence::Named { seq: named } } if named >= seq),
        "{what:?}"
    );
}

#[tokio::test]
async fn the_index_tells_of_a_last_segment_that_is_gone() {
    let cut = Cut::new(Witness::Index).await;
    let (file, what) = damage(&cut.open().await.unwrap_err());
    assert_eq!(file.parent(), cut.gone.parent());
    assert!(
        matches!(what, Damage::Record { seq, evidence: Evidence::Indexed { seq: named } } if named >= seq),
        "{what:?}"
    );
}

/// The limit, as docs/RELIABILITY.md tells it.
#[tokio::test]
async fn nobody_tells_of_a_last_segment_that_is_gone_with_every_witness() {
    let cut = Cut::new(Witness::Nobody).await;
    let vault = cut.open().await.unwrap();
    assert!(view(&vault).get(&["n0"]).await.unwrap().is_some());
    assert!(view(&vault).get(&[&format!("n{LAST}")]).await.unwrap().is_none());
}

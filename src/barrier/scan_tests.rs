//! What a scan finds, and what the freshness table it makes refuses.

use proptest::prelude::*;

use super::{
    fixture::{everything, open},
    *,
};
use crate::storage::memory::Faults;

struct Subject {
    barrier: Arc<Barrier>,
    view: MountView,
    store: Store,
    faults: Faults,
}

impl Subject {
    fn new() -> Self {
        let (barrier, store, faults) = open();
        let view = barrier.view(SpaceId::SYSTEM);
        Self { barrier, view, store, faults }
    }

    async fn put(&self, path: &[&str], value: &[u8]) {
        let mut batch = Batch::default();
        batch.put(&self.view, path, value);
        self.view.commit(batch).await.unwrap();
    }

    async fn delete(&self, path: &[&str]) {
        let mut batch = Batch::default();
        batch.delete(&self.view, path);
        self.view.commit(batch).await.unwrap();
    }

    /// Puts this many records under `many`, a hundred in a batch.
    async fn put_many(&self, count: usize) {
        for hundred in (0..count).collect::<Vec<_>>().chunks(100) {
            let mut batch = Batch::default();
            for n in hundred {
                batch.put(&self.view, &["many", &n.to_string()], b"value");
            }
            self.view.commit(batch).await.unwrap();
        }
    }

    fn key(&self, path: &[&str]) -> Vec<u8> {
        self.view.record_key(path).unwrap()
    }

    async fn record(&self, path: &[&str]) -> Vec<u8> {
        self.store.get(&self.key(path)).await.unwrap().unwrap()
    }

    async fn scan(&self) -> Vec<(Fault, Option<String>)> {
        let scanned =
            self.barrier.scan(Pace::Full, Reads::Checked, &Progress::default()).await.unwrap();
        scanned.findings.into_iter().map(|finding| (finding.fault, finding.path)).collect()
    }

    async fn read(&self, path: &[&str]) -> Result<Option<Vec<u8>>, ReadError> {
        let stored = self.view.get(path).await?;
        Ok(stored.map(|stored| stored.value.expose(<[u8]>::to_vec)))
    }
}

fn is_stale<T>(read: &Result<T, ReadError>) -> bool {
    matches!(read, Err(ReadError::Stale))
}

#[tokio::test]
async fn a_whole_store_has_no_finding() {
    let subject = Subject::new();
    assert_eq!(subject.scan().await, []);
    subject.put_many(1_000).await;
    subject.put(&["large"], &[7; 40_000]).await;
    let progress = Progress::default();
    let scanned = subject.barrier.scan(Pace::Full, Reads::Checked, &progress).await.unwrap();
    assert_eq!((scanned.records, scanned.findings.len()), (1_007, 0));
    assert_eq!(progress.counts(), (1_007, 1_007));
    assert!(subject.barrier.is_fresh());
}

#[tokio::test]
async fn what_no_commit_wrote_is_found_by_a_scan_that_had_no_table() {
    for (what, damage) in [
        ("deleted", (None, Fault::Sums)),
        ("replayed", (Some(0), Fault::Sums)),
        ("swapped", (Some(1), Fault::Damaged)),
    ] {
        let subject = Subject::new();
        subject.put(&["a"], b"old").await;
        let old = subject.record(&["a"]).await;
        subject.put(&["a"], b"new").await;
        subject.put(&["b"], b"other").await;
        let other = subject.record(&["b"]).await;
        let record = damage.0.map(|n: usize| [&old, &other][n].as_slice());
        subject.faults.tamper(&subject.key(&["a"]), record);
        let found = subject.scan().await;
        assert!(found.iter().any(|(fault, _)| *fault == damage.1), "{what}: {found:?}");
        assert_eq!(found.last(), Some(&(Fault::Sums, None)), "{what}");
        assert!(!subject.barrier.is_fresh(), "{what}");
    }
}

#[tokio::test]
async fn after_a_good_scan_a_read_meets_only_the_newest_record() {
    let subject = Subject::new();
    subject.put(&["a"], b"old").await;
    let old = subject.record(&["a"]).await;
    subject.put(&["a"], b"new").await;
    let new = subject.record(&["a"]).await;
    assert_eq!(subject.scan().await, []);
    let key = subject.key(&["a"]);
    for record in [Some(old.as_slice()), None, Some(&[1; 20])] {
        subject.faults.tamper(&key, record);
        assert!(is_stale(&subject.read(&["a"]).await), "{record:?}");
        assert!(!subject.scan().await.is_empty());
        assert!(subject.barrier.takes_suspicion());
    }
    subject.faults.tamper(&key, Some(&new));
    assert_eq!(subject.read(&["a"]).await.unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(subject.scan().await, []);
}

#[tokio::test]
async fn after_a_good_scan_what_was_deleted_stays_so_whatever_is_put_back() {
    let subject = Subject::new();
    subject.put(&["a"], b"value").await;
    let record = subject.record(&["a"]).await;
    assert_eq!(subject.scan().await, []);
    subject.delete(&["a"]).await;
    let key = subject.key(&["a"]);
    subject.faults.tamper(&key, Some(&record));
    assert_eq!(subject.read(&["a"]).await.unwrap(), None);
    assert!(!subject.view.contains(&["a"]).await.unwrap());
    let found = subject.scan().await;
    assert_eq!(found, [(Fault::Stale, Some("a".to_owned())), (Fault::Sums, None)]);

    // Written over it is gone: the new record came where nothing was.
    let mut batch = Batch::default();
    batch.put_if(&subject.view, &["a"], b"new", Expected::Absent);
    subject.view.commit(batch).await.unwrap();
    assert_eq!(subject.read(&["a"]).await.unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(subject.scan().await, []);
}

#[tokio::test]
async fn an_index_that_is_wrong_is_made_again() {
    let subject = Subject::new();
    subject.put(&["a"], b"value").await;
    subject.put(&["b"], b"value").await;
    for _fresh in [false, true] {
        subject.faults.tamper(&subject.key(&["a"]), None);
        let progress = Progress::default();
        let verified = subject.barrier.verify(Pace::Full, Reads::Checked, &progress).await.unwrap();
        assert!(!verified.found.is_empty() && verified.left.is_empty());
        assert_eq!(subject.read(&["a"]).await.unwrap().as_deref(), Some(&b"value"[..]));
        assert!(subject.barrier.is_fresh());
    }
}

#[tokio::test]
async fn an_older_chunk_of_a_value_is_met_as_such() {
    let subject = Subject::new();
    subject.put(&["a"], &[7; 20_000]).await;
    assert_eq!(subject.scan().await, []);
    let chunk = large::chunk_key(&subject.key(&["a"]), 2);
    subject.faults.tamper(&chunk, None);
    assert!(is_stale(&subject.read(&["a"]).await));
    assert_eq!(subject.scan().await.last(), Some(&(Fault::Sums, None)));
}

#[tokio::test]
async fn the_sum_is_not_made_wrong_by_writing_over_a_record_that_was_put_back() {
    let subject = Subject::new();
    subject.put(&["a"], b"old").await;
    let old = subject.record(&["a"]).await;
    subject.put(&["a"], b"new").await;
    let new = subject.record(&["a"]).await;
    assert_eq!(subject.scan().await, []);
    let key = subject.key(&["a"]);
    for record in [Some(old.as_slice()), None] {
        subject.faults.tamper(&key, record);
        let mut batch = Batch::default();
        batch.put(&subject.view, &["a"], b"newest");
        let refused = subject.view.commit(batch).await;
        assert!(matches!(refused, Err(CommitError::StateMismatch)), "{refused:?}");
        subject.put(&["b"], b"goes on").await;
    }
    subject.faults.tamper(&key, Some(&new));
    subject.put(&["a"], b"newest").await;
    assert_eq!(subject.scan().await, []);
}

#[tokio::test]
async fn what_belongs_to_nothing_is_found() {
    let subject = Subject::new();
    subject.put(&["a"], b"value").await;
    let record = subject.record(&["a"]).await;
    for (key, fault) in [
        (large::chunk_key(&subject.key(&["a"]), 1), Fault::Orphan),
        (large::chunk_key(&subject.key(&["a"]), 0), Fault::Foreign),
        (vec![0x10; 16], Fault::Foreign),
        (vec![0x10; 300], Fault::Foreign),
        (vec![0xff], Fault::Foreign),
        ([&[0x10; 17][..], &[0]].concat(), Fault::Foreign),
    ] {
        subject.faults.tamper(&key, Some(&record));
        let found = subject.scan().await;
        assert_eq!(found.first().map(|found| found.0), Some(fault), "{key:?}");
        subject.faults.tamper(&key, None);
    }
    assert_eq!(subject.scan().await, []);
}

#[tokio::test]
async fn a_damaged_record_is_named() {
    let subject = Subject::new();
    subject.put(&["folder", "name"], b"value").await;
    let mut record = subject.record(&["folder", "name"]).await;
    // Neither nonce nor tag, so that the sums say nothing.
    record[40] ^= 1;
    subject.faults.tamper(&subject.key(&["folder", "name"]), Some(&record));
    let named = Some("folder/name".to_owned());
    assert_eq!(subject.scan().await, [(Fault::Damaged, named)]);
}

#[tokio::test]
async fn an_index_that_cannot_be_read_is_found() {
    let subject = Subject::new();
    subject.put(&["a"], b"value").await;
    subject.faults.fail_reads(true);
    assert_eq!(subject.scan().await, [(Fault::Index, None)]);
    subject.faults.fail_reads(false);
    assert_eq!(subject.scan().await, []);
}

#[tokio::test]
async fn after_a_failed_write_there_is_no_verdict() {
    let subject = Subject::new();
    subject.put(&["a"], b"value").await;
    subject.faults.fail_syncs();
    let mut batch = Batch::default();
    batch.put(&subject.view, &["a"], b"lost");
    subject.view.commit(batch).await.unwrap_err();
    let scanned = subject.barrier.scan(Pace::Full, Reads::Checked, &Progress::default()).await;
    assert!(matches!(scanned, Err(ScanError::WritingFailed)));
}

#[tokio::test]
async fn one_scan_at_a_time_and_a_new_one_after_one_that_was_given_up() {
    let subject = Subject::new();
    subject.put_many(1_000).await;
    let progress = Progress::default();
    let scan = subject.barrier.scan(Pace::Background, Reads::Checked, &progress);
    let mut scan = Box::pin(scan);
    while progress.counts().0 == 0 {
        drop(tokio::time::timeout(std::time::Duration::ZERO, &mut scan).await);
    }
    let second = subject.barrier.scan(Pace::Full, Reads::Checked, &Progress::default()).await;
    assert!(matches!(second, Err(ScanError::Running)));
    drop(scan);
    subject.put(&["many", "7"], b"changed").await;
    assert_eq!(subject.scan().await, []);
    subject.barrier.close().unwrap();
    let closed = subject.barrier.scan(Pace::Full, Reads::Checked, &Progress::default()).await;
    assert!(matches!(closed, Err(ScanError::Closed)));
}

/// Writers that put, replace by shorter and longer, and delete, all over the keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_while_others_write_ends_equal_and_their_reads_are_never_stale() {
    let subject = Arc::new(Subject::new());
    subject.put_many(2_000).await;
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_usize {
        let (subject, done) = (Arc::clone(&subject), Arc::clone(&done));
        writers.spawn(async move {
            let mut n = writer;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                n = (n * 31 + 7) % 2_500;
                let path = ["many", &n.to_string()];
                match n % 5 {
                    0 => subject.delete(&path).await,
                    1 => subject.put(&path, &vec![7; 7_000 + n * 10]).await,
                    _ => subject.put(&path, b"short").await,
                }
                subject.read(&path).await.unwrap();
                // A key that another writer is at.
                subject.read(&["many", &((n + 1) % 2_500).to_string()]).await.unwrap();
            }
        });
    }
    for round in 0..6 {
        assert_eq!(subject.scan().await, [], "round {round}");
        assert!(subject.barrier.is_fresh());
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    writers.join_all().await;
    assert_eq!(subject.scan().await, []);
    let records = everything(&subject.store).await.len() as u64;
    assert_eq!(subject.barrier.shared.watch.records(), records);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_changed_behind_the_store_is_found(
        values in prop::collection::vec(0_usize..9_000, 1..12),
        target: prop::sample::Index,
        source: prop::sample::Index,
        byte: prop::sample::Index,
        kind in 0..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let subject = Subject::new();
            for (n, length) in values.iter().enumerate() {
                subject.put(&["many", &n.to_string()], &vec![7; *length]).await;
            }
            let all = everything(&subject.store).await;
            let (key, record) = &all[target.index(all.len())];
            let (other_key, other) = &all[source.index(all.len())];
            match kind {
                0 => subject.faults.tamper(key, None),
                1 if other == record => return,
                1 => subject.faults.tamper(key, Some(other)),
                2 => {
                    let mut flipped = record.clone();
                    flipped[byte.index(record.len())] ^= 1;
                    subject.faults.tamper(key, Some(&flipped));
                }
                _ => subject.faults.tamper(&[other_key.as_slice(), &[9]].concat(), Some(record)),
            }
            assert_ne!(subject.scan().await, []);
        });
    }
}

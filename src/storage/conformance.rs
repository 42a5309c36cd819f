//! The suite that every backend passes: what a caller may rely on, whatever keeps the records.

use super::{
    Batch, CommitError, Erase, Generation, OpenError, Precondition, ReadError, RecordHeader, Store,
    Write,
    fake::{ACTIVE_TERM, FakeSeal, delete, key, put, record, record_under},
};

/// A backend with one store on it.
pub(super) trait Subject: Send + Sync + Sized {
    /// Whether its index is made anew at each start, and told so.
    const REBUILDS: bool = false;

    /// A new, attached store.
    fn new() -> Self;
    fn store(&self) -> &Store;
    /// The store as it is after a restart, not attached. `clean` closes it first; otherwise it is
    /// dropped as it stands.
    fn restarted(self, clean: bool) -> Self;
}

pub(super) fn attach(store: &Store) -> Result<super::Attached, OpenError> {
    store.attach(Box::new(FakeSeal::default()), &[], Generation::Keep)
}

pub(super) fn batch(writes: impl Into<Vec<Write>>) -> Batch {
    Batch { preconditions: Vec::new(), writes: writes.into() }
}

fn batch_if(preconditions: impl Into<Vec<Precondition>>, writes: impl Into<Vec<Write>>) -> Batch {
    Batch { preconditions: preconditions.into(), writes: writes.into() }
}

fn header(n: u64) -> RecordHeader {
    RecordHeader::of(&record(n)).unwrap()
}

pub(super) async fn what_is_committed_is_read(subject: impl Subject) {
    let store = subject.store();
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    assert_eq!(store.commit(batch([put("a", 1), put("b", 2)])).await.unwrap(), 1);
    assert_eq!(store.commit(batch([put("a", 3)])).await.unwrap(), 2);
    assert_eq!(store.get(&key("a")).await.unwrap(), Some(record(3)));
    assert_eq!(store.get(&key("b")).await.unwrap(), Some(record(2)));
}

pub(super) async fn what_is_deleted_is_gone(subject: impl Subject) {
    let store = subject.store();
    store.commit(batch([put("a", 1)])).await.unwrap();
    store.commit(batch([delete("a"), delete("never there")])).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    assert!(store.list(&[], None, 9).await.unwrap().is_empty());
}

pub(super) async fn of_two_writes_to_one_key_the_second_stays(subject: impl Subject) {
    let store = subject.store();
    store.commit(batch([put("a", 1), put("a", 2), put("b", 3), delete("b")])).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap(), Some(record(2)));
    assert_eq!(store.get(&key("b")).await.unwrap(), None);
    store.commit(batch([delete("a"), put("a", 4)])).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap(), Some(record(4)));
}

pub(super) async fn a_failed_precondition_writes_nothing(subject: impl Subject) {
    let store = subject.store();
    store.commit(batch([put("a", 1)])).await.unwrap();
    let absent = |text| Precondition::Absent(key(text));
    let is = |text, n| Precondition::Header(key(text), header(n));
    for failing in [absent("a"), is("a", 2), is("b", 1)] {
        let refused =
            store.commit(batch_if([is("a", 1), failing], [put("a", 9), put("c", 9)])).await;
        assert!(matches!(refused, Err(CommitError::Conflict)));
        assert_eq!(store.get(&key("a")).await.unwrap(), Some(record(1)));
        assert_eq!(store.get(&key("c")).await.unwrap(), None);
    }
    store.commit(batch_if([is("a", 1), absent("c")], [put("c", 3)])).await.unwrap();
    assert_eq!(store.get(&key("c")).await.unwrap(), Some(record(3)));
}

pub(super) async fn listing_is_ordered_bounded_and_skips(subject: impl Subject) {
    let store = subject.store();
    for text in ["b/2", "a/1", "a", "b/1", "a/2/x", "a/2/y", "a/3"] {
        store.commit(batch([put(text, 1)])).await.unwrap();
    }
    let list = async |prefix: &str, after: Option<&str>, limit| {
        let after = after.map(key);
        let keys = store.list(&key(prefix), after.as_deref(), limit).await.unwrap();
        let text = |key: Vec<u8>| String::from_utf8(key[1..].to_vec()).unwrap();
        keys.into_iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(list("", None, 99).await, ["a", "a/1", "a/2/x", "a/2/y", "a/3", "b/1", "b/2"]);
    assert_eq!(list("a/", None, 99).await, ["a/1", "a/2/x", "a/2/y", "a/3"]);
    assert_eq!(list("a/", None, 2).await, ["a/1", "a/2/x"]);
    assert_eq!(list("a/", Some("a/1"), 1).await, ["a/2/x"]);
    assert_eq!(list("a/", Some("a/2/~"), 9).await, ["a/3"]);
    assert_eq!(list("a/", Some("a"), 1).await, ["a/1"]);
    assert!(list("a/", Some("b"), 9).await.is_empty());
    assert!(list("b", None, 0).await.is_empty());
    assert!(list("c", None, 9).await.is_empty());
}

pub(super) async fn the_head_is_nobodys_record(subject: impl Subject) {
    let store = subject.store();
    store.commit(batch([put("a", 1)])).await.unwrap();
    assert_eq!(store.list(&[], None, 9).await.unwrap(), [key("a")]);
    assert_eq!(store.list(&[], Some(&[0]), 9).await.unwrap(), [key("a")]);
    assert_eq!(store.list(&[1], None, 9).await.unwrap(), [[0_u8; 0]; 0]);
    let forged = Write { key: vec![1], record: Some(record(1)) };
    assert!(matches!(store.commit(batch([forged])).await, Err(CommitError::Malformed(_))));
}

pub(super) async fn an_empty_batch_commits_a_head(subject: impl Subject) {
    let store = subject.store();
    assert_eq!(store.commit(Batch::default()).await.unwrap(), 1);
    assert_eq!(store.commit(batch([put("a", 1)])).await.unwrap(), 2);
}

pub(super) async fn a_look_sees_what_was_committed_before_it(subject: impl Subject) {
    let store = subject.store();
    let looks = |after: Vec<u8>, limit| {
        store.hold(move |held| held.headers(&after, limit).unwrap().into_iter().collect::<Vec<_>>())
    };
    assert!(looks(Vec::new(), 9).await.unwrap().is_empty());
    // Handed in before the look, and not waited for.
    let commit = store.commit(batch([put("a", 1), put("b", 2), put("c", 3)]));
    let (committed, seen) = tokio::join!(commit, looks(Vec::new(), 2));
    committed.unwrap();
    assert_eq!(seen.unwrap(), [(key("a"), Some(header(1))), (key("b"), Some(header(2)))]);
    assert_eq!(looks(key("b"), 2).await.unwrap(), [(key("c"), Some(header(3)))]);
    let got = store.hold(|held| held.get(&key("b")).unwrap()).await.unwrap();
    assert_eq!(got, Some(record(2)));
    store.close().unwrap();
    assert!(matches!(looks(Vec::new(), 9).await, Err(ReadError::Closed)));
}

pub(super) async fn a_stale_term_is_refused_and_leaves_no_trace(subject: impl Subject) {
    let store = subject.store();
    let stale = Write { key: key("b"), record: Some(record_under(ACTIVE_TERM - 1, 1, 112)) };
    let refused = store.commit(batch([put("a", 1), stale])).await;
    assert!(matches!(refused, Err(CommitError::StaleTerm)));
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    let subject = subject.restarted(true);
    attach(subject.store()).unwrap();
    assert!(subject.store().list(&[], None, 9).await.unwrap().is_empty());
}

pub(super) async fn what_is_over_a_limit_is_refused(subject: impl Subject) {
    let store = subject.store();
    let large = Write { key: key("a"), record: Some(record_under(ACTIVE_TERM, 1, 8_193)) };
    assert!(matches!(store.commit(batch([large])).await, Err(CommitError::TooLarge(_))));
    let largest =
        Write { key: vec![0x10; 3_072], record: Some(record_under(ACTIVE_TERM, 1, 8_192)) };
    store.commit(batch([largest.clone()])).await.unwrap();
    assert_eq!(store.get(&largest.key).await.unwrap(), largest.record);
}

pub(super) async fn only_an_attached_store_answers(subject: impl Subject) {
    subject.store().commit(batch([put("a", 1)])).await.unwrap();
    assert!(matches!(attach(subject.store()), Err(OpenError::Attached)));
    let old = subject.store().clone();
    let subject = subject.restarted(true);
    for store in [&old, subject.store()] {
        assert!(matches!(store.get(&key("a")).await, Err(ReadError::Closed)));
        assert!(matches!(store.list(&[], None, 1).await, Err(ReadError::Closed)));
        assert!(matches!(store.commit(Batch::default()).await, Err(CommitError::Closed)));
        store.close().unwrap();
        assert!(matches!(attach(store), Err(OpenError::Closed)));
    }
}

pub(super) async fn a_restart_keeps_everything<S: Subject>(subject: S) {
    let mut subject = subject;
    for round in 0..4 {
        let store = subject.store();
        for n in 0..20 {
            let writes = [put(&format!("{n}"), round * 100 + n), put(&format!("{round}/{n}"), n)];
            store.commit(batch(writes)).await.unwrap();
        }
        store.commit(batch([delete(&format!("{round}/3"))])).await.unwrap();
        let clean = round % 2 == 0;
        subject = subject.restarted(clean);
        let attached = attach(subject.store()).unwrap();
        // Two rounds of three are closed with a record of their own.
        assert_eq!(attached.seq, (round + 1) * 21 + round / 2 + 1);
        assert_eq!((attached.cut, attached.index_rebuilt), (None, S::REBUILDS));
        let store = subject.store();
        for n in 0..20 {
            let found = store.get(&key(&format!("{n}"))).await.unwrap();
            assert_eq!(found, Some(record(round * 100 + n)));
        }
        assert_eq!(store.get(&key(&format!("{round}/3"))).await.unwrap(), None);
    }
    assert_eq!(subject.store().list(&[], None, 999).await.unwrap().len(), 20 + 4 * 19);
}

pub(super) async fn of_many_who_create_one_wins(subject: impl Subject) {
    let store = subject.store();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let store = store.clone();
        let create = batch_if([Precondition::Absent(key("one"))], [put("one", n)]);
        tasks.spawn(async move { store.commit(create).await.map(|_| n) });
    }
    let outcomes = tasks.join_all().await;
    let winners: Vec<u64> =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).copied().collect();
    assert_eq!(winners.len(), 1);
    assert!(
        outcomes
            .iter()
            .flat_map(|outcome| outcome.as_ref().err())
            .all(|error| matches!(error, CommitError::Conflict))
    );
    assert_eq!(store.get(&key("one")).await.unwrap(), Some(record(winners[0])));
}

pub(super) async fn many_writers_share_records_and_lose_nothing(subject: impl Subject) {
    let store = subject.store();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..20 {
                let text = format!("{writer}/{n}");
                let seq = store.commit(batch([put(&text, n)])).await.unwrap();
                assert_eq!(store.get(&key(&text)).await.unwrap(), Some(record(n)), "{seq}");
            }
        });
    }
    tasks.join_all().await;
    let subject = subject.restarted(false);
    let attached = attach(subject.store()).unwrap();
    assert!(attached.seq < 64 * 20, "{} records for 1280 commits", attached.seq);
    assert_eq!(subject.store().list(&[], None, 9_999).await.unwrap().len(), 64 * 20);
}

pub(super) async fn compaction_changes_nothing_that_is_read(subject: impl Subject) {
    let mut subject = subject;
    for round in 0..5 {
        let store = subject.store();
        for n in 0..15 {
            let text = format!("{}", (n * 7 + round) % 20);
            store.commit(batch([put(&text, round * 100 + n)])).await.unwrap();
        }
        store.commit(batch([delete(&format!("{round}"))])).await.unwrap();
        let before = everything(store).await;
        let erase = if round % 2 == 0 { Erase::No } else { Erase::Yes };
        store.compact(erase, |_| {}).unwrap();
        assert_eq!(everything(store).await, before);
        // Once more, with nothing to do.
        store.compact(erase, |_| {}).unwrap();
        store.commit(batch([put("behind", round)])).await.unwrap();
        subject = subject.restarted(round % 2 == 0);
        attach(subject.store()).unwrap();
        let store = subject.store();
        assert_eq!(store.get(&key("behind")).await.unwrap(), Some(record(round)));
        store.commit(batch([delete("behind")])).await.unwrap();
        assert_eq!(everything(store).await, before);
    }
}

pub(super) async fn commits_go_on_while_it_compacts(subject: impl Subject) {
    let store = subject.store();
    for n in 0..200 {
        store.commit(batch([put(&format!("{n}"), n)])).await.unwrap();
    }
    let compacting = store.clone();
    let compacted = tokio::task::spawn_blocking(move || compacting.compact(Erase::Yes, |_| {}));
    for n in 0..200 {
        store.commit(batch([put(&format!("{n}"), n + 1_000)])).await.unwrap();
    }
    compacted.await.unwrap().unwrap();
    for n in 0..200 {
        store.commit(batch([delete(&format!("{}", n * 2))])).await.unwrap();
    }
    for n in 0..200 {
        let expected = (n % 2 == 1).then(|| record(n + 1_000));
        assert_eq!(store.get(&key(&format!("{n}"))).await.unwrap(), expected, "{n}");
    }
    store.rebuild_index().unwrap();
    assert_eq!(store.list(&[], None, 999).await.unwrap().len(), 100);
}

/// All keys and their records.
pub(super) async fn everything(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    for key in store.list(&[], None, 9_999).await.unwrap() {
        let record = store.get(&key).await.unwrap().unwrap();
        found.push((key, record));
    }
    found
}

/// Makes one test of each claim for a subject.
macro_rules! conforms {
    ($module:ident, $subject:ty: $($claim:ident)*) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $claim() {
                    conformance::$claim(<$subject as conformance::Subject>::new()).await;
                }
            )*
        }
    };
    ($($module:ident: $subject:ty),*) => {
        $(
            $crate::storage::conformance::conforms!($module, $subject:
                what_is_committed_is_read
                what_is_deleted_is_gone
                of_two_writes_to_one_key_the_second_stays
                a_failed_precondition_writes_nothing
                listing_is_ordered_bounded_and_skips
                the_head_is_nobodys_record
                an_empty_batch_commits_a_head
                a_look_sees_what_was_committed_before_it
                a_stale_term_is_refused_and_leaves_no_trace
                what_is_over_a_limit_is_refused
                only_an_attached_store_answers
                a_restart_keeps_everything
                of_many_who_create_one_wins
                many_writers_share_records_and_lose_nothing
                compaction_changes_nothing_that_is_read
                commits_go_on_while_it_compacts
            );
        )*
    };
}
pub(super) use conforms;

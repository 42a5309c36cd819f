use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    fixture::{clock, everything, keyring, open, other_keyring, store_id, write_behind},
    *,
};
use crate::{clock::Timestamp, storage::RecordHeader};

fn system(barrier: &Arc<Barrier>) -> MountView {
    barrier.view(SpaceId::SYSTEM)
}

async fn put(view: &MountView, path: &[&str], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(view, path, value);
    view.commit(batch).await.unwrap();
}

async fn delete(view: &MountView, path: &[&str]) {
    let mut batch = Batch::default();
    batch.delete(view, path);
    view.commit(batch).await.unwrap();
}

async fn get(view: &MountView, path: &[&str]) -> Option<Vec<u8>> {
    Some(view.get(path).await.unwrap()?.value.expose(<[u8]>::to_vec))
}

async fn header(view: &MountView, path: &[&str]) -> RecordHeader {
    view.get(path).await.unwrap().unwrap().header
}

async fn names(view: &MountView, folder: &[&str]) -> Vec<String> {
    let entries = view.list(folder, None, usize::MAX).await.unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[tokio::test]
async fn what_is_put_is_read_and_what_is_deleted_is_gone() {
    let (barrier, store, _) = open();
    let view = system(&barrier);
    assert_eq!(get(&view, &["app", "db"]).await, None);
    put(&view, &["app", "db"], b"one").await;
    put(&view, &["app", "db"], b"two").await;
    assert_eq!(get(&view, &["app", "db"]).await.as_deref(), Some(&b"two"[..]));
    assert_eq!(get(&view.under(&["app"]), &["db"]).await.as_deref(), Some(&b"two"[..]));
    delete(&view, &["app", "db"]).await;
    delete(&view, &["app", "db"]).await;
    assert_eq!(get(&view, &["app", "db"]).await, None);
    assert!(everything(&store).await.is_empty());
}

#[tokio::test]
async fn storage_sees_no_name_and_no_value() {
    let (barrier, store, _) = open();
    put(&system(&barrier), &["planted-folder", "planted-name"], b"planted-value").await;
    let everything = everything(&store).await.concat_bytes();
    assert!(!everything.windows(7).any(|window| window == b"planted"));
}

#[tokio::test]
async fn spaces_do_not_see_each_other() {
    let (barrier, store, _) = open();
    let (one, other) = (barrier.view(SpaceId::random()), barrier.view(SpaceId::random()));
    put(&one, &["a"], b"one").await;
    assert_eq!(get(&other, &["a"]).await, None);
    put(&other, &["a"], b"other").await;
    assert_eq!(get(&one, &["a"]).await.as_deref(), Some(&b"one"[..]));
    assert_eq!(names(&one, &[]).await, ["a"]);
    // The same name in two spaces looks different.
    let keys = everything(&store).await;
    assert_ne!(keys[0].0[17..], keys[1].0[17..]);
}

#[tokio::test]
async fn paths_that_are_none_are_refused_when_used() {
    let (barrier, ..) = open();
    let view = system(&barrier);
    for (path, error) in [
        (&[][..], PathError::Empty),
        (&["a", ""], PathError::EmptySegment),
        (&["a/b"], PathError::Character),
        (&["..", "a"], PathError::Relative),
    ] {
        assert!(matches!(view.get(path).await, Err(ReadError::Path(e)) if e == error));
        let mut batch = Batch::default();
        batch.put(&view, &["good"], b"value");
        batch.put(&view, path, b"value");
        assert!(matches!(view.commit(batch).await, Err(CommitError::Path(e)) if e == error));
    }
    assert!(matches!(view.under(&["a/b"]).get(&["c"]).await, Err(ReadError::Path(_))));
    assert_eq!(get(&view, &["good"]).await, None);
}

#[tokio::test]
async fn values_of_every_size_come_back_and_leave_nothing_behind() {
    let (barrier, store, _) = open();
    let view = system(&barrier);
    for length in [0, 1, 7_679, 7_680, 7_681, 15_360, 20_000, 1 << 20] {
        let value: Vec<u8> = (0..=250).cycle().take(length).collect();
        put(&view, &["a"], &value).await;
        assert_eq!(get(&view, &["a"]).await, Some(value), "{length}");
    }
    put(&view, &["a"], &[7; 20_000]).await;
    assert_eq!(everything(&store).await.len(), 4);
    put(&view, &["a"], &[7; 8_000]).await;
    assert_eq!(everything(&store).await.len(), 3);
    put(&view, &["a"], b"short").await;
    assert_eq!(everything(&store).await.len(), 1);
    put(&view, &["a"], &[7; 20_000]).await;
    let mut batch = Batch::default();
    batch.delete_if(&view, &["a"], Expected::Header(header(&view, &["a"]).await));
    view.commit(batch).await.unwrap();
    assert!(everything(&store).await.is_empty());
}

#[tokio::test]
async fn a_batch_that_does_not_meet_its_expectations_writes_nothing() {
    let (barrier, ..) = open();
    let view = system(&barrier);
    put(&view, &["there"], b"one").await;
    let old = header(&view, &["there"]).await;
    put(&view, &["there"], b"one").await;
    let new = header(&view, &["there"]).await;
    assert_ne!(old, new);
    for (path, expected, met) in [
        ("there", Expected::Absent, false),
        ("there", Expected::Header(old), false),
        ("there", Expected::Header(new), true),
        ("absent", Expected::Header(new), false),
        ("absent", Expected::Absent, true),
    ] {
        let mut batch = Batch::default();
        batch.put(&view, &["beside"], path.as_bytes());
        batch.put_if(&view, &[path], b"two", expected);
        match view.commit(batch).await {
            Ok(()) => assert!(met),
            Err(CommitError::Conflict) => assert!(!met),
            Err(other) => panic!("{other}"),
        }
        assert_eq!(get(&view, &["beside"]).await.is_some(), met);
        delete(&view, &["beside"]).await;
    }
}

#[tokio::test]
async fn an_expectation_alone_writes_nothing() {
    let (barrier, ..) = open();
    let view = system(&barrier);
    put(&view, &["parent"], &[7; 20_000]).await;
    let parent = Expected::Header(header(&view, &["parent"]).await);
    for (expected, met) in [(Expected::Absent, false), (parent, true)] {
        let mut batch = Batch::default();
        batch.expect(&view, &["parent"], expected);
        batch.put(&view, &["child"], b"value");
        assert_eq!(view.commit(batch).await.is_ok(), met);
        assert_eq!(get(&view, &["child"]).await.is_some(), met);
    }
    assert_eq!(get(&view, &["parent"]).await, Some(vec![7; 20_000]));
}

#[tokio::test]
async fn of_two_writes_to_one_path_the_second_stays() {
    let (barrier, ..) = open();
    let view = system(&barrier);
    let mut batch = Batch::default();
    batch.put_if(&view, &["a"], &[7; 20_000], Expected::Absent);
    batch.put(&view.under(&["a"]), &["b"], b"below");
    batch.put(&view, &["a"], b"second");
    view.commit(batch).await.unwrap();
    assert_eq!(get(&view, &["a"]).await.as_deref(), Some(&b"second"[..]));
    assert_eq!(get(&view, &["a", "b"]).await.as_deref(), Some(&b"below"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_without_expectations_never_conflict_and_readers_read_whole_values() {
    let (barrier, store, _) = open();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8_u8 {
        let view = system(&barrier);
        tasks.spawn(async move {
            for round in 0..20 {
                put(&view, &["hot"], &vec![n; 1 + 7_000 * (round % 4)]).await;
                let value = get(&view, &["hot"]).await.unwrap();
                assert!(value.iter().all(|byte| *byte == value[0]));
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    delete(&system(&barrier), &["hot"]).await;
    assert!(everything(&store).await.is_empty());
}

#[tokio::test]
async fn a_chunk_put_beyond_all_there_can_be_goes_with_the_value() {
    let (barrier, store, _) = open();
    let view = system(&barrier);
    put(&view, &["a"], &[7; 20_000]).await;
    let chunks = everything(&store).await;
    let key = [&chunks[0].0[..], &[0xff; 4]].concat();
    write_behind(&store, vec![Write { key, record: Some(chunks[1].1.clone()) }]).await;
    put(&view, &["a"], b"short").await;
    assert_eq!(everything(&store).await.len(), 1);
}

#[tokio::test]
async fn too_much_at_once_is_refused() {
    let (barrier, ..) = open();
    let view = system(&barrier);
    let mut batch = Batch::default();
    (0..129).for_each(|n| batch.put(&view, &[&n.to_string()], b"value"));
    assert!(matches!(view.commit(batch).await, Err(CommitError::TooLarge(_))));
    let mut batch = Batch::default();
    batch.put(&view, &["a"], &vec![0; 1_600_000]);
    assert!(matches!(view.commit(batch).await, Err(CommitError::TooLarge(_))));
}

#[tokio::test]
async fn a_record_at_another_key_is_damage_and_can_be_replaced() {
    let (barrier, store, _) = open();
    let view = system(&barrier);
    put(&view, &["a"], b"one").await;
    put(&view, &["b"], b"two").await;
    let records = everything(&store).await;
    let (to, record) = (records[1].0.clone(), records[0].1.clone());
    write_behind(&store, vec![Write { key: to, record: Some(record) }]).await;
    let (a, b) = (view.get(&["a"]).await, view.get(&["b"]).await);
    assert!([a, b].iter().filter(|read| matches!(read, Err(ReadError::Damaged))).count() == 1);
    put(&view, &["a"], b"three").await;
    put(&view, &["b"], b"three").await;
    assert_eq!(get(&view, &["b"]).await.as_deref(), Some(&b"three"[..]));
}

#[tokio::test]
async fn chunks_missing_swapped_or_of_another_value_are_damage() {
    let (barrier, store, _) = open();
    let view = system(&barrier);
    put(&view, &["a"], &[1; 20_000]).await;
    let old = everything(&store).await;
    put(&view, &["a"], &[1; 20_000]).await;
    let good = everything(&store).await;
    let write = |key: usize, record: Option<&Vec<u8>>| Write {
        key: good[key].0.clone(),
        record: record.cloned(),
    };
    for (what, damage) in [
        ("first missing", write(1, None)),
        ("last missing", write(3, None)),
        ("swapped", write(1, Some(&good[2].1))),
        ("older chunk", write(2, Some(&old[2].1))),
        ("older head", write(0, Some(&old[0].1))),
    ] {
        let mend = write(good.iter().position(|(key, _)| *key == damage.key).unwrap(), None);
        let mended = good.iter().find(|(key, _)| *key == mend.key).map(|(_, record)| record);
        write_behind(&store, vec![damage.clone()]).await;
        assert!(matches!(view.get(&["a"]).await, Err(ReadError::Damaged)), "{what}");
        write_behind(&store, vec![Write { record: mended.cloned(), ..mend }]).await;
        assert!(view.get(&["a"]).await.is_ok());
    }
    write_behind(&store, vec![write(1, None), write(0, Some(&old[0].1))]).await;
    delete(&view, &["a"]).await;
    assert!(everything(&store).await.is_empty());
}

#[tokio::test]
async fn lists_are_sorted_and_tell_records_from_folders() {
    let (barrier, ..) = open();
    let view = system(&barrier);
    for path in [&["b"][..], &["a"], &["a", "x"], &["c", "y", "z"], &["ä"], &["a", "w", "v"]] {
        put(&view, path, b"value").await;
    }
    let entry = |name: &str, is_leaf, is_folder| Entry { name: name.into(), is_leaf, is_folder };
    let list = view.list(&[], None, 10).await.unwrap();
    let (a, b, c) = (entry("a", true, true), entry("b", true, false), entry("c", false, true));
    assert_eq!(list, [a, b.clone(), c.clone(), entry("ä", true, false)]);
    assert_eq!(view.list(&[], Some("a"), 2).await.unwrap(), [b, c]);
    assert_eq!(view.list(&[], Some("ä"), 2).await.unwrap(), []);
    assert_eq!(view.list(&[], None, 0).await.unwrap(), []);
    assert_eq!(view.list(&["b"], None, 10).await.unwrap(), []);
    assert_eq!(view.list(&["nothing"], None, 10).await.unwrap(), []);
    assert_eq!(names(&view, &["a"]).await, ["w", "x"]);
    assert_eq!(names(&view.under(&["a"]), &[]).await, ["w", "x"]);
}

#[tokio::test]
async fn skipping_subtrees_finds_what_a_full_scan_finds() {
    let (barrier, ..) = open();
    let view = system(&barrier);
    let mut expected = BTreeSet::new();
    for child in 0..60_u32 {
        let name = format!("child-{child}");
        // Records, chunked records, small folders, large ones, and both at once.
        let mut batch = Batch::default();
        if child % 3 != 0 {
            batch.put(&view, &[&name], &vec![0; if child % 5 == 0 { 30_000 } else { 10 }]);
        }
        if child % 3 != 1 {
            (0..=(child * 7) % 90)
                .for_each(|n| batch.put(&view, &[&name, &format!("{n}"), "x"], b"below"));
        }
        view.commit(batch).await.unwrap();
        expected.insert(Entry { name, is_leaf: child % 3 != 0, is_folder: child % 3 != 1 });
    }
    let listed = view.list(&[], None, usize::MAX).await.unwrap();
    assert_eq!(listed, expected.iter().cloned().collect::<Vec<_>>());
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map(|entry: &Entry| entry.name.clone());
        let page = view.list(&[], after.as_deref(), 7).await.unwrap();
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, listed);
}

#[tokio::test]
async fn a_foreign_name_in_a_folder_is_damage() {
    let (barrier, store, _) = open();
    let view = system(&barrier);
    put(&view, &["a", "x"], b"value").await;
    put(&view, &["b"], b"value").await;
    let (mut key, record) = everything(&store).await.swap_remove(0);
    key[20] ^= 1;
    write_behind(&store, vec![Write { key, record: Some(record) }]).await;
    assert!(matches!(view.list(&[], None, 10).await, Err(ReadError::Damaged)));
}

#[tokio::test]
async fn removing_a_folder_takes_everything_below_and_nothing_else() {
    let (barrier, store, _) = open();
    let view = barrier.view(SpaceId([7; 16]));
    put(&view, &["a"], &[0; 20_000]).await;
    put(&view, &["ab"], b"beside").await;
    put(&view, &["a", "large"], &[0; 2 * 7_680]).await;
    for n in 0..300 {
        put(&view, &["a", &(n % 7).to_string(), &n.to_string()], b"below").await;
    }
    assert_eq!(view.remove_all(&["a"]).await.unwrap(), 303);
    assert_eq!(names(&view, &[]).await, ["a", "ab"]);
    assert_eq!(get(&view, &["a"]).await.map(|value| value.len()), Some(20_000));
    assert_eq!(view.remove_all(&[]).await.unwrap(), 5);
    // The mark that it is to be erased.
    assert_eq!(everything(&store).await.len(), 1);
}

#[tokio::test]
async fn a_closed_store_answers_nothing() {
    let (barrier, ..) = open();
    let view = system(&barrier);
    put(&view, &["a"], b"value").await;
    barrier.close().unwrap();
    let read = view.get(&["a"]).await;
    assert!(matches!(read, Err(ReadError::Storage(storage::ReadError::Closed))));
    let mut batch = Batch::default();
    batch.put(&view, &["a"], b"value");
    assert!(view.commit(batch).await.is_err());
}

#[test]
fn a_store_opens_under_its_own_keyring_only() {
    let (store, _) = Store::memory(store_id());
    let other = Keyring::generate(Timestamp::from_millis(0));
    let opened = Barrier::open(store, other, 1, NamedSeq(0), clock());
    assert!(matches!(opened, Err(OpenError::ForeignStore { .. })));
}

#[tokio::test]
async fn a_store_opens_again_and_goes_on() {
    let (barrier, _, faults) = open();
    let view = system(&barrier);
    barrier.audit_mark().set(Checkpoint { n: 7, hash: [7; 32] });
    put(&view, &["large"], &[7; 20_000]).await;
    put(&view, &["a"], b"one").await;
    put(&view, &["a"], b"two").await;
    delete(&view, &["large"]).await;
    barrier.close().unwrap();

    let (store, faults) = faults.reopen();
    let (again, opened) = Barrier::open(store, keyring(), 1, NamedSeq(5), clock()).unwrap();
    assert_eq!(again.position(), barrier.position());
    let head = opened.head.unwrap();
    assert_eq!((head.seq, head.records(), head.min_seal_epoch), (5, 1, 1));
    assert_eq!(again.audit_mark().get(), Checkpoint { n: 7, hash: [7; 32] });
    let view = system(&again);
    assert_eq!(get(&view, &["a"]).await.as_deref(), Some(&b"two"[..]));
    put(&view, &["b"], b"three").await;

    let (store, _) = faults.reopen();
    let (last, _) = Barrier::open(store, keyring(), 1, NamedSeq(6), clock()).unwrap();
    assert_eq!(names(&system(&last), &[]).await, ["a", "b"]);
}

#[tokio::test]
async fn a_store_on_disk_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    let lock = storage::FolderLock::acquire(folder.path()).unwrap();
    let options = storage::Options { segment_bytes: 64 * 1024, ..storage::Options::default() };
    let store = Store::create(folder.path(), store_id(), 1, options.clone(), &lock).unwrap();
    let (barrier, _) = Barrier::open(store, keyring(), 1, NamedSeq(0), clock()).unwrap();
    for n in 0..20 {
        put(&system(&barrier), &["planted", &n.to_string()], &vec![7; 1_000 * n]).await;
    }
    barrier.close().unwrap();
    drop(barrier);
    let store = Store::open(folder.path(), options, &lock).unwrap();
    let (barrier, opened) = Barrier::open(store, keyring(), 1, NamedSeq(0), clock()).unwrap();
    assert_eq!((opened.cut, opened.index_rebuilt), (None, false));
    for n in 0..20 {
        let value = get(&system(&barrier), &["planted", &n.to_string()]).await;
        assert_eq!(value, Some(vec![7; 1_000 * n]));
    }
}

#[tokio::test]
async fn an_older_seal_file_opens_nothing_and_a_newer_one_still_does() {
    let (store, faults) = Store::memory(store_id());
    let (barrier, _) = Barrier::open(store, keyring(), 5, NamedSeq(0), clock()).unwrap();
    put(&system(&barrier), &["a"], b"value").await;
    let (store, _) = faults.reopen();
    let older = Barrier::open(store.clone(), keyring(), 4, NamedSeq(0), clock());
    assert!(matches!(older, Err(OpenError::RollbackDetected { given: 4, needed: 5 })));
    let (barrier, _) = Barrier::open(store, keyring(), 6, NamedSeq(0), clock()).unwrap();
    assert_eq!(get(&system(&barrier), &["a"]).await.as_deref(), Some(&b"value"[..]));
}

#[tokio::test]
async fn a_journal_of_other_keys_is_refused() {
    let (barrier, _, faults) = open();
    put(&system(&barrier), &["a"], b"value").await;
    let opened = Barrier::open(faults.reopen().0, other_keyring(), 1, NamedSeq(0), clock());
    let Err(OpenError::Storage(error)) = opened else { panic!("it opened") };
    assert!(matches!(error, storage::OpenError::HeadRefused { seq: 1, .. }));
}

#[tokio::test]
async fn records_that_no_commit_wrote_stop_the_state() {
    let (barrier, store, faults) = open();
    let view = system(&barrier);
    put(&view, &["a"], b"value").await;
    let (key, record) = everything(&store).await.swap_remove(0);
    delete(&view, &["a"]).await;
    // Put back behind the store's back, it opens: its own place, store and term.
    faults.tamper(&key, Some(&record));
    assert_eq!(get(&view, &["a"]).await.as_deref(), Some(&b"value"[..]));
    let mut batch = Batch::default();
    batch.delete(&view, &["a"]);
    assert!(matches!(view.commit(batch).await, Err(CommitError::StateMismatch)));
}

#[tokio::test]
async fn only_expectations_of_the_caller_are_conflicts() {
    let (barrier, _, faults) = open();
    let view = system(&barrier);
    faults.conflict_next();
    put(&view, &["a"], b"value").await;
    faults.conflict_next();
    let mut batch = Batch::default();
    batch.put_if(&view, &["b"], b"value", Expected::Absent);
    batch.put(&view, &["a"], b"value");
    view.commit(batch).await.unwrap();
    faults.conflict_next();
    let mut batch = Batch::default();
    batch.put_if(&view, &["c"], b"value", Expected::Absent);
    assert!(matches!(view.commit(batch).await, Err(CommitError::Conflict)));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Planet {
    name: String,
    moons: Vec<String>,
}

impl Record for Planet {
    const VERSION: u8 = 1;
}

#[derive(Debug, Serialize, Deserialize)]
struct PlanetToCome {
    name: String,
}

impl Record for PlanetToCome {
    const VERSION: u8 = 2;
}

#[tokio::test]
async fn records_come_back_with_what_to_expect_of_them() {
    let (barrier, ..) = open();
    let planets = Collection::<Planet>::new(system(&barrier).under(&["planets"]));
    let mars = Planet { name: "Mars".into(), moons: vec!["Phobos".into(), "Deimos".into()] };
    let mut batch = Batch::default();
    planets.put_if(&mut batch, &["mars"], &mars, Expected::Absent);
    barrier.commit(batch).await.unwrap();
    let held = planets.get(&["mars"]).await.unwrap().unwrap();
    assert_eq!(held.value, mars);

    for (expected, committed) in [(held.unchanged(), true), (held.unchanged(), false)] {
        let mut batch = Batch::default();
        planets.put_if(&mut batch, &["mars"], &mars, expected);
        assert_eq!(barrier.commit(batch).await.is_ok(), committed);
    }
    assert_eq!(planets.list(&[], None, 10).await.unwrap().len(), 1);
    let mut batch = Batch::default();
    planets.delete(&mut batch, &["mars"]);
    barrier.commit(batch).await.unwrap();
    assert!(planets.get(&["mars"]).await.unwrap().is_none());
}

#[tokio::test]
async fn records_of_another_version_or_layout_are_told_apart_from_damage() {
    let (barrier, ..) = open();
    let view = system(&barrier);
    let planets = Collection::<Planet>::new(view.clone());
    let to_come = Collection::<PlanetToCome>::new(view.clone());
    let mut batch = Batch::default();
    to_come.put(&mut batch, &["mars"], &PlanetToCome { name: "Mars".into() });
    batch.put(&view, &["empty"], b"");
    batch.put(&view, &["cut"], b"\x01\x04Mars\x01");
    batch.put(&view, &["long"], b"\x01\x04Mars\x00\x00");
    batch.put(&view, &["good"], b"\x01\x04Mars\x00");
    barrier.commit(batch).await.unwrap();
    let version = |read: Result<_, ReadError>| match read {
        Err(ReadError::Layout { version }) => Some(version),
        _ => None::<u8>,
    };
    assert_eq!(version(planets.get(&["mars"]).await), Some(2));
    assert_eq!(version(planets.get(&["empty"]).await), Some(0));
    assert_eq!(version(planets.get(&["cut"]).await), Some(1));
    assert_eq!(version(planets.get(&["long"]).await), Some(1));
    assert!(planets.get(&["good"]).await.unwrap().is_some());
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for Vec<(Vec<u8>, Vec<u8>)> {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|(key, record)| [&key[..], record].concat()).collect()
    }
}

//! Listings of folders that have a roster, against what the index holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use proptest::{prelude::*, test_runner::TestCaseError};

use super::{
    fixture::open,
    listing::{Names, Walk},
    roster::Rosters,
    *,
};

const MOUNT: SpaceId = SpaceId([7; 16]);
/// Bytes that no test comes to.
const PLENTY: usize = 64 << 20;

fn with_rosters(large: usize) -> (Arc<Barrier>, Arc<Rosters>) {
    let (barrier, ..) = open();
    let rosters = Arc::clone(&barrier.shared.rosters);
    rosters.bound(large, 16, PLENTY);
    (barrier, rosters)
}

async fn write(view: &MountView, changes: &[(&[&str], bool)]) {
    let mut batch = Batch::default();
    for (path, is_put) in changes {
        match is_put {
            true => batch.put(view, path, b"value"),
            false => batch.delete(view, path),
        }
    }
    view.commit(batch).await.unwrap();
}

async fn fill(view: &MountView, folder: &str, count: usize) {
    for first in (0..count).step_by(100) {
        let mut batch = Batch::default();
        for n in first..count.min(first + 100) {
            batch.put(view, &[folder, &format!("{n:05}")], b"value");
        }
        view.commit(batch).await.unwrap();
    }
}

async fn names(view: &MountView, folder: &[&str]) -> Vec<String> {
    let listed = view.list(folder, None, usize::MAX).await.unwrap();
    listed.into_iter().map(|entry| entry.name).collect()
}

/// What a walk finds, without any roster.
async fn walked(barrier: &Barrier, view: &MountView, folder: &str) -> Vec<Entry> {
    let naming = view.space().naming();
    let mut all = Vec::new();
    for naming in naming.previous().into_iter().chain([&naming]) {
        let folder = naming.folder("", &[folder]).unwrap();
        let mut found = Names::new(None, usize::MAX);
        let mut walk = Walk::of(naming, &folder);
        while let Some(entries) = walk.next(&barrier.store).await.unwrap() {
            entries.into_iter().for_each(|entry| found.add(entry));
        }
        all = listing::merge(all, found.into_sorted(), usize::MAX);
    }
    all
}

#[tokio::test]
async fn a_large_folder_gets_a_roster_and_a_small_one_none() {
    let (barrier, rosters) = with_rosters(100);
    let view = barrier.view(MOUNT);
    fill(&view, "small", 99).await;
    fill(&view, "large", 300).await;
    assert_eq!(names(&view, &["small"]).await.len(), 99);
    assert_eq!(rosters.count(), 0);
    let page = view.list(&["large"], Some("00009x"), 3).await.unwrap();
    let page: Vec<_> = page.into_iter().map(|entry| entry.name).collect();
    assert_eq!(page, ["00010", "00011", "00012"]);
    assert_eq!(rosters.count(), 1);
    // What lies behind the store's back is not looked at: the page comes from the roster.
    barrier.tamper(&view, &["large", "00010"], None);
    assert_eq!(names(&view, &["large"]).await.len(), 300);
}

#[tokio::test]
async fn a_folder_that_is_not_small_gets_a_roster_when_it_is_listed_again() {
    let (barrier, rosters) = with_rosters(4_096);
    let view = barrier.view(MOUNT);
    fill(&view, "small", 31).await;
    fill(&view, "medium", 40).await;
    for expected in [0, 1, 1] {
        assert_eq!(names(&view, &["medium"]).await.len(), 40);
        assert_eq!(names(&view, &["small"]).await.len(), 31);
        assert_eq!(rosters.count(), expected);
    }
    // From the roster, and with what a commit has changed since.
    barrier.tamper(&view, &["medium", "00010"], None);
    write(&view, &[(&["medium", "00011"], false), (&["medium", "x", "y"], true)]).await;
    let listed = names(&view, &["medium"]).await;
    assert_eq!((listed.len(), listed[10].as_str(), listed[39].as_str()), (40, "00010", "x"));
}

#[tokio::test]
async fn a_roster_with_more_marks_than_a_part_of_its_names_is_not_worth_it() {
    let (barrier, rosters) = with_rosters(4_096);
    let view = barrier.view(MOUNT);
    fill(&view, "f", 40).await;
    for _ in 0..2 {
        assert_eq!(names(&view, &["f"]).await.len(), 40);
    }
    assert_eq!(rosters.count(), 1);
    fill(&view, "f", 40 + 257).await;
    assert_eq!(names(&view, &["f"]).await.len(), 297);
    assert_eq!(rosters.count(), 0);
    assert_eq!(names(&view, &["f"]).await.len(), 297);
    assert_eq!(rosters.count(), 1);
}

#[tokio::test]
async fn leaves_and_folders_of_one_name_come_and_go_apart() {
    let (barrier, rosters) = with_rosters(1);
    let view = barrier.view(MOUNT);
    write(&view, &[(&["f", "z"], true)]).await;
    let kind = async || {
        let page = view.list(&["f"], None, 1).await.unwrap();
        page.into_iter().map(|entry| (entry.name, entry.is_leaf, entry.is_folder)).next().unwrap()
    };
    let a = |is_leaf, is_folder| ("a".to_owned(), is_leaf, is_folder);
    assert_eq!(kind().await.0, "z");
    write(&view, &[(&["f", "a"], true)]).await;
    assert_eq!(kind().await, a(true, false));
    write(&view, &[(&["f", "a", "b", "c"], true)]).await;
    assert_eq!(kind().await, a(true, true));
    write(&view, &[(&["f", "a"], false)]).await;
    assert_eq!(kind().await, a(false, true));
    view.under(&["f"]).remove_all(&["a"]).await.unwrap();
    assert_eq!(kind().await.0, "z");
    write(&view, &[(&["f"], true)]).await;
    assert_eq!(names(&view, &["f"]).await, ["z"]);
    assert_eq!(rosters.count(), 1);
}

/// A commit that is staged when a roster comes, and not marked in it, would be missing from it.
#[tokio::test]
async fn a_roster_enrolls_between_two_groups_of_commits() {
    let (barrier, rosters) = with_rosters(1);
    let view = barrier.view(MOUNT);
    write(&view, &[(&["f", "a"], true)]).await;
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (end, may_end) = std::sync::mpsc::channel();
    let committer = barrier.store.hold(move |_| {
        begun.send(()).unwrap();
        may_end.recv().unwrap();
    });
    let mut committer = Box::pin(committer);
    assert!(!poll_once(&mut committer).await);
    has_begun.recv().unwrap();
    let mut listing = Box::pin(names(&view, &["f"]));
    for _ in 0..100 {
        assert!(!poll_once(&mut listing).await);
    }
    assert_eq!(rosters.count(), 0);
    end.send(()).unwrap();
    assert_eq!(listing.await, ["a"]);
    assert_eq!(rosters.count(), 1);
}

#[tokio::test]
async fn a_roster_with_too_many_marks_is_made_again() {
    let (barrier, rosters) = with_rosters(1);
    let view = barrier.view(MOUNT);
    write(&view, &[(&["f", "a"], true)]).await;
    assert_eq!(names(&view, &["f"]).await, ["a"]);
    let folder = view.space().naming().folder("", &["f"]).unwrap();
    let first = rosters.find(&folder.prefix).unwrap();
    write(&view, &[(&["f", "b"], true)]).await;
    rosters.mark_many(&folder.prefix);
    assert!(rosters.find(&folder.prefix).is_none());
    // Who has it already misses nothing of before.
    assert!(matches!(rosters.ask(&first, None, 9), roster::Answer::Marked(_)));
    write(&view, &[(&["f", "c"], true)]).await;
    assert_eq!(names(&view, &["f"]).await, ["a", "b", "c"]);
    assert!(!Arc::ptr_eq(&first, &rosters.find(&folder.prefix).unwrap()));
}

#[tokio::test]
async fn rosters_stay_within_their_bounds() {
    let (barrier, rosters) = with_rosters(10);
    let view = barrier.view(MOUNT);
    for folder in 0..40 {
        let folder = folder.to_string();
        fill(&view, &folder, 20).await;
        assert_eq!(names(&view, &[&folder]).await.len(), 20);
        assert_eq!(names(&view, &["0"]).await.len(), 20);
    }
    assert_eq!(rosters.count(), 16);
    let first = view.space().naming().folder("", &["0"]).unwrap();
    assert!(rosters.find(&first.prefix).is_some());

    // Room for one small block of names and no more: one roster stays, and a larger folder gets none.
    rosters.bound(10, 16, 2_000);
    assert_eq!(names(&view, &["1"]).await.len(), 20);
    assert_eq!(rosters.count(), 1);
    fill(&view, "larger", 9_000).await;
    for _again in 0..2 {
        assert_eq!(names(&view, &["larger"]).await.len(), 9_000);
        let page = view.list(&["larger"], Some("08997"), 9).await.unwrap();
        assert_eq!(page.len(), 2);
        write(&view, &[(&["larger", "01000"], false)]).await;
        write(&view, &[(&["larger", "01000"], true)]).await;
    }
    assert_eq!(names(&view, &["1"]).await.len(), 20);
}

#[tokio::test]
async fn a_roster_that_outgrows_its_bound_is_given_up() {
    let (barrier, rosters) = with_rosters(10);
    let view = barrier.view(MOUNT);
    fill(&view, "f", 20).await;
    assert_eq!(names(&view, &["f"]).await.len(), 20);
    let folder = view.space().naming().folder("", &["f"]).unwrap();
    let roster = rosters.find(&folder.prefix).unwrap();
    rosters.bound(10, 16, roster.bytes());
    fill(&view, "f", 220).await;
    assert_eq!(names(&view, &["f"]).await.len(), 220);
    assert_eq!(roster.bytes(), 0);
}

#[tokio::test]
async fn rosters_go_with_the_last_view_with_their_names_key_and_with_the_store() {
    let (barrier, rosters) = with_rosters(1);
    let listed = async |view: &MountView| {
        write(view, &[(&["f", "a"], true)]).await;
        assert_eq!(names(view, &["f"]).await, ["a"]);
    };
    let (one, other) = (barrier.view(MOUNT), barrier.view(SpaceId::SYSTEM));
    listed(&one).await;
    listed(&other).await;
    assert_eq!(rosters.count(), 2);
    drop(one);
    assert_eq!(rosters.count(), 1);
    listed(&barrier.view(MOUNT)).await;
    assert_eq!(rosters.count(), 1);
    let moving = barrier.keyring().with_new_names().unwrap();
    barrier.adopt_names(moving, 2).await.unwrap();
    assert_eq!(rosters.count(), 0);
    assert_eq!(names(&other, &["f"]).await, ["a"]);
    assert_eq!(rosters.count(), 1);
    barrier.close().unwrap();
    assert_eq!(rosters.count(), 0);
}

#[tokio::test]
async fn while_names_move_pages_are_whole() {
    let (barrier, _rosters) = with_rosters(5);
    let view = barrier.view(MOUNT);
    fill(&view, "f", 300).await;
    assert_eq!(names(&view, &["f"]).await.len(), 300);
    let moving = barrier.keyring().with_new_names().unwrap();
    barrier.adopt_names(moving, 2).await.unwrap();
    loop {
        let moved = barrier.move_names(|_| Batch::default()).await.unwrap();
        assert_eq!(names(&view, &["f"]).await.len(), 300);
        let page = view.list(&["f"], Some("00149"), 2).await.unwrap();
        assert_eq!(page.iter().map(|entry| &entry.name).collect::<Vec<_>>(), ["00150", "00151"]);
        if moved.is_done {
            break;
        }
    }
    barrier.adopt_names(barrier.keyring().without_old_names(), 3).await.unwrap();
    assert_eq!(names(&view, &["f"]).await.len(), 300);
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(String, bool)>),
    RemoveAll(String),
    List { folder: &'static str, after: Option<String>, limit: usize },
    AdoptNames,
    MoveNames,
    Remount,
}

fn step() -> impl Strategy<Value = Step> {
    let path = || "[ab](/[a-d]){1,2}";
    prop_oneof![
        6 => prop::collection::vec((path(), any::<bool>()), 1..6).prop_map(Step::Write),
        1 => path().prop_map(Step::RemoveAll),
        8 => (
            prop_oneof![Just("a"), Just("b")], prop::option::of("[a-d]{0,2}"), 0_usize..6,
        ).prop_map(|(folder, after, limit)| Step::List { folder, after, limit }),
        1 => Just(Step::AdoptNames),
        1 => Just(Step::MoveNames),
        1 => Just(Step::Remount),
    ]
}

/// The page of a folder by the paths that there are.
fn expected(
    paths: &BTreeSet<String>,
    folder: &str,
    after: Option<&str>,
    limit: usize,
) -> Vec<Entry> {
    let mut kinds: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    for path in paths {
        let Some(below) = path.strip_prefix(folder).and_then(|path| path.strip_prefix('/')) else {
            continue;
        };
        let (name, is_leaf) =
            below.split_once('/').map_or((below, true), |(name, _)| (name, false));
        let kind = kinds.entry(name).or_default();
        kind.0 |= is_leaf;
        kind.1 |= !is_leaf;
    }
    let after = kinds.into_iter().filter(|(name, _)| after.is_none_or(|after| *name > after));
    let entries = after.map(|(name, (is_leaf, is_folder))| {
        let name = name.to_owned();
        Entry { name, is_leaf, is_folder }
    });
    entries.take(limit).collect()
}

async fn run(steps: Vec<Step>, large: usize) -> Result<(), TestCaseError> {
    let (barrier, _rosters) = with_rosters(large);
    let mut view = barrier.view(MOUNT);
    let mut paths = BTreeSet::new();
    let mut epoch = 1;
    for step in steps {
        match step {
            Step::Write(changes) => {
                let mut batch = Batch::default();
                for (path, is_put) in changes {
                    let split: Vec<&str> = path.split('/').collect();
                    match is_put {
                        true => batch.put(&view, &split, b"value"),
                        false => batch.delete(&view, &split),
                    }
                    match is_put {
                        true => paths.insert(path),
                        false => paths.remove(&path),
                    };
                }
                view.commit(batch).await.unwrap();
            }
            Step::RemoveAll(path) => {
                let split: Vec<&str> = path.split('/').collect();
                view.remove_all(&split).await.unwrap();
                let below = path + "/";
                paths.retain(|path| !path.starts_with(&below));
            }
            Step::List { folder, after, limit } => {
                let after = after.as_deref();
                let listed = view.list(&[folder], after, limit).await.unwrap();
                prop_assert_eq!(listed, expected(&paths, folder, after, limit));
            }
            Step::AdoptNames => {
                let keyring = barrier.keyring();
                let next = match keyring.old_names_generation() {
                    None => keyring.with_new_names().unwrap(),
                    Some(_) if barrier.old_names_are_empty().await.unwrap() => {
                        keyring.without_old_names()
                    }
                    Some(_) => continue,
                };
                epoch += 1;
                barrier.adopt_names(next, epoch).await.unwrap();
            }
            Step::MoveNames => drop(barrier.move_names(|_| Batch::default()).await.unwrap()),
            Step::Remount => {
                drop(view);
                view = barrier.view(MOUNT);
            }
        }
    }
    for folder in ["a", "b"] {
        let listed = view.list(&[folder], None, usize::MAX).await.unwrap();
        prop_assert_eq!(&listed, &expected(&paths, folder, None, usize::MAX));
        prop_assert_eq!(listed, walked(&barrier, &view, folder).await);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_folder_lists_what_is_in_it(
        steps in prop::collection::vec(step(), 1..60),
        large in prop_oneof![Just(1_usize), Just(3), Just(usize::MAX)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps, large))?;
    }
}

/// Writers that add ascending names and take some away again, and readers that page meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_acknowledged_before_a_listing_is_in_it() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 250;
    let (barrier, rosters) = with_rosters(50);
    let view = barrier.view(MOUNT);
    fill(&view, "f", 200).await;
    // How many names of each writer are there for good; its odd ones are gone again.
    let written: Arc<Vec<AtomicU64>> = Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
    let ended = Arc::new(AtomicBool::new(false));
    let name = |writer: u64, n: u64| format!("w{writer}-{n:05}");
    let writers = (0..WRITERS).map(|writer| {
        let (view, written) = (view.clone(), Arc::clone(&written));
        tokio::spawn(async move {
            for n in 0..EACH {
                let name = name(writer, n);
                write(&view, &[(&["f", &name], true)]).await;
                if n % 2 == 1 {
                    write(&view, &[(&["f", &name], false)]).await;
                }
                written[usize::try_from(writer).unwrap()].store(n + 1, Ordering::SeqCst);
            }
        })
    });
    let readers = (0..3).map(|reader| {
        let (view, written, ended) = (view.clone(), Arc::clone(&written), Arc::clone(&ended));
        let rosters = Arc::clone(&rosters);
        tokio::spawn(async move {
            let mut listings = 0;
            while !ended.load(Ordering::SeqCst) {
                if reader == 0 && listings % 3 == 0 {
                    // Made anew while the others read and write.
                    rosters.forget(&[]);
                }
                let before: Vec<u64> =
                    written.iter().map(|count| count.load(Ordering::SeqCst)).collect();
                let listed = view.list(&["f"], None, usize::MAX).await.unwrap();
                assert!(listed.is_sorted());
                let listed: BTreeSet<String> = listed.into_iter().map(|entry| entry.name).collect();
                for (writer, count) in (0..).zip(before) {
                    for n in 0..count {
                        assert_eq!(listed.contains(&name(writer, n)), n % 2 == 0, "{writer} {n}");
                    }
                }
                listings += 1;
            }
            listings
        })
    });
    let (writers, readers): (Vec<_>, Vec<_>) = (writers.collect(), readers.collect());
    for writer in writers {
        writer.await.unwrap();
    }
    ended.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    let listed = view.list(&["f"], None, usize::MAX).await.unwrap();
    assert_eq!(listed, walked(&barrier, &view, "f").await);
    assert_eq!(listed.len(), 200 + usize::try_from(WRITERS * EACH / 2).unwrap());
}

/// A listing that is dropped half-way, at any point, leaves nothing out of the next.
#[tokio::test]
async fn a_dropped_listing_harms_no_other() {
    let (barrier, _rosters) = with_rosters(50);
    let view = barrier.view(MOUNT);
    fill(&view, "f", 5_000).await;
    for round in 0..20_usize {
        if round == 10 {
            // From here on it is marks that a dropped listing has not come to the end of.
            assert_eq!(names(&view, &["f"]).await.len(), 5_000 + 10 * 101);
        }
        write(&view, &[(&["f", &format!("new-{round}")], true)]).await;
        for n in 0..100 {
            write(&view, &[(&["f", &format!("new-{round}-{n}")], true)]).await;
        }
        let mut listing = Box::pin(view.list(&["f"], None, 1));
        for _ in 0..=round % 10 {
            if poll_once(&mut listing).await {
                break;
            }
        }
        drop(listing);
    }
    let listed = view.list(&["f"], None, usize::MAX).await.unwrap();
    assert_eq!(listed.len(), 5_000 + 20 * 101);
    assert_eq!(listed, walked(&barrier, &view, "f").await);
}

/// Polls once, and lets others run; whether it has ended.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> bool {
    let ended = std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_ready())
    });
    let ended = ended.await;
    tokio::task::yield_now().await;
    ended
}

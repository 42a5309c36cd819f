//! Storage in memory against a map: batches, preconditions, lists, restarts, and failures.
#![no_main]

use std::{collections::BTreeMap, sync::Arc};

use kista::storage::{
    Batch, Change, CommitError, CommitSeal, Generation, HeadAt, HeadPlace, HeadRefused,
    Precondition, RecordHeader, SnapshotAt, SnapshotSeal, StaleTerm, Store, StoreId, Tally, Write,
};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};

#[derive(Arbitrary, Debug)]
enum Step {
    Commit {
        expected: Vec<Expected>,
        writes: Vec<Put>,
    },
    List {
        prefix: Name,
        after: Option<Name>,
        limit: u8,
    },
    Restart,
    ConflictNext,
    /// From here on nothing can be written until a restart.
    FailAppends,
}

/// Few keys, so that steps meet: some are prefixes of others.
#[derive(Arbitrary, Debug)]
struct Name {
    letter: u8,
    length: u8,
}

#[derive(Arbitrary, Debug)]
struct Put {
    name: Name,
    /// `None` deletes.
    record: Option<u8>,
}

#[derive(Arbitrary, Debug)]
enum Expected {
    Absent(Name),
    /// As the model has it, when it has one.
    Present(Name),
    /// Of another record.
    Stale(Name),
}

impl Name {
    fn key(&self) -> Vec<u8> {
        vec![0x10 + self.letter % 4; 1 + usize::from(self.length % 4)]
    }
}

/// Accepts everything; what a head holds is the barrier's.
struct NoSeal;

impl CommitSeal for NoSeal {
    fn begin(&mut self, _: &SnapshotAt<'_>) -> Result<(), HeadRefused> {
        Ok(())
    }
    fn replay(&mut self, _: &HeadAt<'_>) -> Result<(), HeadRefused> {
        Ok(())
    }
    fn continues(&mut self, _: u64) {}
    fn is_absent(&self, _: &[u8]) -> bool {
        false
    }
    fn stage(&mut self, _: &[Change<'_>]) -> Result<(), StaleTerm> {
        Ok(())
    }
    fn head_len(&self) -> usize {
        0
    }
    fn seal(&mut self, _: &HeadPlace) -> Vec<u8> {
        Vec::new()
    }
    fn durable(&mut self, _: u64, _: [u8; 32]) {}
    fn snapshots(&self) -> Arc<dyn SnapshotSeal> {
        Arc::new(NoSnapshots)
    }
}

/// Nothing is compacted here.
struct NoSnapshots;

impl SnapshotSeal for NoSnapshots {
    fn tally(&self, _: &HeadAt<'_>) -> Result<Box<dyn Tally>, HeadRefused> {
        Err(HeadRefused("none are made"))
    }
    fn tally_snapshot(&self, _: &SnapshotAt<'_>) -> Result<Box<dyn Tally>, HeadRefused> {
        Err(HeadRefused("none are made"))
    }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn record(seed: u8) -> Vec<u8> {
    vec![seed; 48 + usize::from(seed)]
}

fn header(seed: u8) -> RecordHeader {
    RecordHeader::of(&record(seed)).expect("it is long enough")
}

fn batch_of(expected: &[Expected], writes: &[Put], model: &Model) -> Batch {
    let preconditions = expected.iter().map(|expected| match expected {
        Expected::Absent(name) => Precondition::Absent(name.key()),
        Expected::Present(name) => match model.get(&name.key()) {
            Some(record) => Precondition::Header(
                name.key(),
                RecordHeader::of(record).expect("the model holds records"),
            ),
            None => Precondition::Absent(name.key()),
        },
        Expected::Stale(name) => Precondition::Header(name.key(), header(255)),
    });
    let writes =
        writes.iter().map(|put| Write { key: put.name.key(), record: put.record.map(record) });
    Batch { preconditions: preconditions.collect(), writes: writes.collect() }
}

fn holds(precondition: &Precondition, model: &Model) -> bool {
    match precondition {
        Precondition::Absent(key) => !model.contains_key(key),
        Precondition::Header(key, header) => {
            model.get(key).and_then(|record| RecordHeader::of(record)) == Some(*header)
        }
    }
}

async fn run(steps: Vec<Step>) {
    let (mut store, mut faults) = Store::memory(StoreId([7; 16]));
    store.attach(Box::new(NoSeal), &[], Generation::Keep).expect("an empty store");
    let (mut model, mut conflict, mut failed) = (Model::new(), false, false);
    for step in steps {
        match step {
            Step::Commit { expected, writes } => {
                let batch = batch_of(&expected, &writes, &model);
                let fits = batch.writes.len() <= 128 && batch.preconditions.len() <= 128;
                if !fits {
                    assert!(matches!(store.commit(batch).await, Err(CommitError::TooLarge(_))));
                    continue;
                }
                let expected = batch.preconditions.iter().all(|one| holds(one, &model));
                match store.commit(batch.clone()).await {
                    Ok(_) => {
                        assert!(expected && !conflict && !failed);
                        for Write { key, record } in batch.writes {
                            match record {
                                Some(record) => drop(model.insert(key, record)),
                                None => drop(model.remove(&key)),
                            }
                        }
                    }
                    Err(CommitError::Conflict) => {
                        assert!(conflict || !expected);
                        conflict = false;
                    }
                    Err(CommitError::Failed(_)) => failed = true,
                    Err(error) => panic!("{error}"),
                }
            }
            Step::List { prefix, after, limit } => {
                let (prefix, after) = (prefix.key(), after.map(|after| after.key()));
                let listed = store.list(&prefix, after.as_deref(), limit.into()).await;
                let expected = model
                    .keys()
                    .filter(|key| key.starts_with(&prefix) && Some(*key) > after.as_ref())
                    .take(limit.into());
                assert!(listed.expect("reads do not fail").iter().eq(expected));
            }
            Step::Restart => {
                (store, faults) = faults.reopen();
                store.attach(Box::new(NoSeal), &[], Generation::Keep).expect("it was whole");
                (conflict, failed) = (false, false);
            }
            Step::ConflictNext => {
                faults.conflict_next();
                conflict = true;
            }
            Step::FailAppends => {
                faults.fail_appends();
                failed = true;
            }
        }
        for (key, record) in &model {
            let read = store.get(key).await.expect("reads do not fail");
            assert_eq!(read.as_ref(), Some(record));
        }
    }
    // The Close record is an append like any other.
    assert_eq!(store.close().is_err(), failed);
}

fuzz_target!(|steps: Vec<Step>| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(run(steps));
});

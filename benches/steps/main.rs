//! What the steps of a request cost, each alone and on one thread.
//!
//! ```text
//! cargo bench --bench steps              # a minute
//! cargo bench --bench steps -- barrier   # or acl, route, audit, commit
//! ```
//! On 2 virtual AMD EPYC cores a good number is: a record of 300 bytes got and opened in 2 us, a
//! decision under 500 rules and the match of a route each below 1 us, both audit lines in 10 us. A
//! commit costs what its two hand-overs between threads cost, and the sync of the disk.

#![expect(clippy::unwrap_used, reason = "plain code is clearer in benches")]
#![expect(clippy::indexing_slicing, reason = "plain code is clearer in benches")]

use std::{alloc::System, hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use kista::{
    audit::{
        Admitted, AuthPart, Broker, DeviceConfig, Entry, Kind, MountPart, PolicyResults,
        RequestPart, ResponsePart,
    },
    barrier::{AuditMark, Barrier, Batch, Keyring, MountView, Position, SpaceId},
    clock::{Clock, SystemClock, Timestamp},
    disk::Disk,
    gate::Operation,
    mount::NewMount,
    policy::{Acl, Ask, Capability, Policy, parse},
    seal::{NewSlot, ShareCounts},
    secret::SecretString,
    storage::{FolderLock, NamedSeq, Options, Store},
    token::TtlLimits,
    vault::{Settings, Vault},
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use zeroizing_alloc::ZeroAlloc;

/// The allocator of the binary, which wipes what is freed.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for steps in [barrier, acl, route, audit, commit] {
        steps(&mut criterion);
    }
    criterion.final_summary();
}

const SPACE: SpaceId = SpaceId([0x6b; 16]);
/// Values in bytes: what a secret of a service has, and half of the longest record.
const VALUES: [usize; 2] = [300, 4096];
/// Puts in one commit where sealing is measured.
const PUTS: u64 = 100;

/// A barrier on a store in memory, or in a folder.
struct Ground {
    runtime: Runtime,
    view: MountView,
}

impl Ground {
    fn memory() -> Self {
        let keyring = keyring();
        let (store, _) = Store::memory(keyring.store_id());
        Self::over(store, keyring)
    }

    /// The folder's lock lives as long as what is returned.
    fn folder(folder: &TempDir) -> (Self, FolderLock) {
        let keyring = keyring();
        let lock = FolderLock::acquire(folder.path()).unwrap();
        let store = Store::create(
            folder.path(),
            keyring.store_id(),
            1,
            Options { segment_bytes: 16 * 1024 * 1024, ..Options::default() },
            &lock,
        );
        (Self::over(store.unwrap(), keyring), lock)
    }

    fn over(store: Store, keyring: Keyring) -> Self {
        let runtime = Builder::new_current_thread().build().unwrap();
        let clock = Arc::new(SystemClock);
        let (barrier, _) = Barrier::open(store, keyring, 1, NamedSeq(0), clock).unwrap();
        Self { runtime, view: barrier.view(SPACE) }
    }

    fn put(&self, names: impl Iterator<Item = u64>, value: &[u8]) {
        let mut batch = Batch::default();
        for name in names {
            batch.put(&self.view, &["service", &name.to_string()], value);
        }
        self.runtime.block_on(self.view.commit(batch)).unwrap();
    }
}

fn keyring() -> Keyring {
    Keyring::generate(SystemClock.now())
}

/// A record sealed and put, and got and opened.
fn barrier(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("barrier");
    for length in VALUES {
        let (ground, value) = (Ground::memory(), vec![b'v'; length]);
        let mut next = 0;
        ground.put(0..PUTS, &value);
        group.throughput(Throughput::Elements(PUTS));
        group.bench_function(BenchmarkId::new("seal 100 and put them", length), |bench| {
            bench.iter(|| {
                // The same thousand names, so that the store does not grow.
                next = (next + PUTS) % 1_000;
                ground.put(next..next + PUTS, &value);
            });
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("get and open", length), |bench| {
            bench.iter(|| {
                let read = ground.runtime.block_on(ground.view.get(&["service", "7"]));
                black_box(read.unwrap().unwrap())
            });
        });
    }
    group.finish();
}

/// A policy of so many rules: exact paths, prefixes, and segments that may be anything.
fn policy(rules: u32) -> Arc<Policy> {
    let text: String = (0..rules)
        .map(|n| {
            let path = match n % 5 {
                0 | 1 => format!("secret/data/team{n}/*"),
                2 | 3 => format!("secret/data/app{n}/config"),
                _ => format!("secret/+/shared{n}/+"),
            };
            format!("path \"{path}\" {{ capabilities = [\"read\", \"list\"] }}\n")
        })
        .collect();
    Arc::new(parse("bench", &text).unwrap())
}

fn acl(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acl");
    for rules in [5, 500] {
        let policy = policy(rules);
        group.bench_function(BenchmarkId::new("compile", rules), |bench| {
            bench.iter(|| Acl::compile(&[Arc::clone(&policy)]));
        });
        let acl = Acl::compile(&[policy]);
        let (last, now) = (rules - 1, SystemClock.now());
        for (what, path) in [
            ("decide by a prefix", "secret/data/team1/db/password".to_owned()),
            ("decide by segments", format!("secret/data/shared{last}/key")),
            ("refuse", "other/data/none".to_owned()),
        ] {
            let ask = Ask {
                path: &path,
                capability: Capability::Read,
                fields: None,
                wrap_ttl: None,
                now,
            };
            assert_eq!(acl.check(&ask).allowed, what != "refuse");
            group.bench_function(BenchmarkId::new(what, rules), |bench| {
                bench.iter(|| acl.check(black_box(&ask)).allowed);
            });
        }
    }
    group.finish();
}

/// From a path to its mount, and to what its route needs, among ten mounts.
fn route(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let settings = Settings::new(folder.path().join("data"), TtlLimits::default());
    let vault = Vault::start(settings, Arc::new(SystemClock)).unwrap();
    let table = runtime.block_on(async {
        let slot = NewSlot::Shares(ShareCounts::new(1, 1).unwrap());
        let made = vault.initialize(vec![slot]).await.unwrap();
        let share = made.shares[0].expose(|share| data_encoding::HEXLOWER.encode(share));
        vault.submit_share(&share).await.unwrap();
        let open = vault.unsealed().unwrap();
        for n in 0..10 {
            let new = NewMount { kind: "kv".to_owned(), ..Default::default() };
            open.mounts.enable(&format!("kv{n}/"), new).await.unwrap();
        }
        open.mounts.table()
    });
    let mut group = criterion.benchmark_group("route");
    for (what, path) in [
        ("match a path of a kv", "kv7/service/db/password"),
        ("match a token's", "auth/token/create"),
    ] {
        group.bench_function(what, |bench| {
            bench.iter(|| {
                let path = black_box(path);
                let mounted = &table.find(path).unwrap().mounted;
                let inside = mounted.place().relative(path);
                mounted.needs(Operation::Read, inside)
            });
        });
    }
    group.finish();
    runtime.block_on(vault.seal());
}

/// The two lines of a read of 300 bytes, on one file.
fn audit(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let keyring = keyring();
    let config = DeviceConfig {
        name: "file".to_owned(),
        id: [7; 16],
        path: folder.path().join("audit.log"),
        hash_paths: false,
    };
    let position = || Position { generation: 1, seq: 1, chain: [0; 32] };
    let keys = |id: &[u8; 16]| keyring.audit_keys(id);
    let (mark, clock) = (AuditMark::default(), Arc::new(SystemClock));
    let (broker, _) =
        Broker::open(Disk::real(), vec![config], keys, mark, &[], clock, position).unwrap();
    let token = SecretString::copy_of("s.0123456789abcdefghijklmnop");
    let answer = format!("{{\"data\":{{\"password\":\"{}\",\"user\":\"app\"}}}}", "p".repeat(270));
    let policies = ["default".to_owned(), "app".to_owned()];
    let runtime = Builder::new_current_thread().build().unwrap();
    criterion.bench_function("audit/both lines of a read", |bench| {
        bench.iter(|| {
            let time = SystemClock.now();
            let policy_results = PolicyResults { allowed: true, granting_policies: &policies[1..] };
            let request = Admitted { time, policy_results };
            let answer = ResponsePart { auth: None, data: Some(answer.as_bytes()), warnings: &[] };
            let entry = line(time, &token, &policies, answer);
            runtime.block_on(broker.lines(&entry, Some(request))).unwrap();
        });
    });
    broker.close();
}

fn line<'a>(
    time: Timestamp,
    token: &'a SecretString,
    policies: &'a [String],
    response: ResponsePart<'a>,
) -> Entry<'a> {
    let auth = AuthPart {
        client_token: Some(token),
        accessor: Some("0123456789abcdefghijklmn"),
        display_name: "token",
        policies,
        token_policies: policies,
        metadata: None,
        entity_id: "",
        token_type: "service",
        token_ttl: Duration::from_secs(3600),
        token_issue_time: Some(time),
        remaining_uses: None,
        policy_results: None,
    };
    let mount =
        MountPart { point: "secret/", mount_type: "kv", accessor: "kv_0123", class: "secret" };
    let request = RequestPart {
        id: "6f1c0a52-0f2b-4e52-9d0c-9d1f5f3c7a11",
        operation: "read",
        mount: Some(mount),
        client_token: Some(token),
        client_token_accessor: Some("0123456789abcdefghijklmn"),
        path: "secret/data/service/db",
        data: None,
        remote: Some(([127, 0, 0, 1], 40_000).into()),
        wrap_ttl: None,
    };
    let (kind, response) = (Kind::Response, Some(response));
    Entry { time, kind, auth: Some(auth), request, response, error: None }
}

/// One put through the committer, waited for.
fn commit(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (on_disk, lock) = Ground::folder(&folder);
    let value = [b'v'; 300];
    let mut group = criterion.benchmark_group("commit");
    for (what, ground) in [("one put, in memory", Ground::memory()), ("one put, synced", on_disk)] {
        let mut next = 0;
        group.bench_function(what, |bench| {
            bench.iter_batched(
                || {
                    next = (next + 1) % 1_000;
                    next
                },
                |name| ground.put(name..name + 1, &value),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    drop(lock);
}

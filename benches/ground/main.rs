//! What the ground takes: opening, memory and disk of a large store, and what its work in the
//! background does to clients.
//!
//! ```text
//! cargo bench --bench ground                      # 100,000 secrets of 300 bytes
//! RECORDS=1000000 cargo bench --bench ground
//! ONLY=listing NAMES=1000000 cargo bench --bench ground   # one folder, 100,000 names unless told
//! ```
//! A million secrets are to be open within 2 s after a compaction and within 8 s with the journal
//! at its fullest, in under 300 MiB, with at most 3 KB of disk each. Background work is to leave
//! the 99th percentile of 64 writers within twice what it is without. Of a folder of a million
//! names all pages but the first are to take less than a millisecond.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]
#![expect(clippy::indexing_slicing, reason = "plain code is clearer in benches")]

#[path = "../http/disk.rs"]
mod disk;
#[path = "../http/load.rs"]
mod load;
mod store;
#[path = "../http/subject.rs"]
mod subject;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kista::{
    barrier::{Pace, Progress, Reads},
    clock::{Clock, SystemClock},
    config::Freshness,
    http::Certificates,
    rotation::{NamesStep, Step},
    storage::Erase,
    vault::Unsealed,
};
use load::{CONNECTIONS, Outcome, Work};
use subject::Subject;
use tokio::runtime::Runtime;

/// Written are paths under it.
const PATH: &str = "/v1/secret/data/bench";

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(line) = load::as_load() {
        println!("{}", line?);
        return Ok(());
    }
    if store::as_child()? {
        return Ok(());
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("ground");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    if !std::env::var("ONLY").is_ok_and(|only| only == "listing") {
        store::growth(&folder.join("store"), number("RECORDS", 100_000)?)?;
        background(&folder, number("SECONDS", 5)?)?;
    }
    store::listing(&folder.join("names"), number("NAMES", 100_000)?)?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn number(variable: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    Ok(std::env::var(variable).map_or(Ok(default), |text| text.parse())?)
}

/// 64 writers, alone and beside each kind of background work, which is begun again and again.
fn background(folder: &Path, seconds: u64) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let certificates = Certificates::ensure(&folder.join("tls"), &[], SystemClock.now())?;
    let audit = folder.join("audit.log");
    let data = folder.join("server");
    let freshness = Freshness::Background;
    let subject = Subject::start(&runtime, &data, &certificates, Some(audit), freshness)?;
    let open = subject.kista.vault().unsealed().ok_or("sealed")?;
    runtime.block_on(store::fill(&open, 20_000))?;
    let disk = disk::rate(folder, Duration::from_secs(seconds))?;
    println!("\nappend 4 KiB and fdatasync   {disk:>9.0}/s");
    let ca = certificates.authority.as_path();
    let drive = || {
        let (address, token) = (subject.address, &subject.token);
        load::drive(CONNECTIONS, Work::Update, address, ca, token, seconds)
    };
    // Once to warm up: the first writes make the secrets, the others add versions.
    drive()?;
    let before = subject.commits();
    let alone = drive()?;
    let group = alone.rate * seconds as f64 / (subject.commits() - before) as f64;
    print("64 writers, audited", &alone, &alone);
    println!("times the disk's rate        {:>9.2}", alone.rate / disk);
    println!("writes for each sync         {group:>9.1}");
    for work in [Background::Verify, Background::Compact, Background::Rotate, Background::Move] {
        // What was begun beside the measurement before has ended.
        runtime.block_on(idle(&open))?;
        let running = Running::begin(&runtime, &open, work);
        let beside = drive()?;
        let rounds = runtime.block_on(running.end())?;
        print(&format!("  while it {}", work.word()), &beside, &alone);
        println!("    rounds of it: {rounds}");
    }
    drop(open);
    runtime.block_on(subject.kista.shutdown());
    Ok(())
}

fn print(name: &str, outcome: &Outcome, alone: &Outcome) {
    let Outcome { rate, p50, p99, load_micros: load, .. } = outcome;
    let ratio = p99.as_secs_f64() / alone.p99.as_secs_f64();
    println!(
        "{name:<28} {rate:>9.0}/s  p50 {p50:.1?}  p99 {p99:.1?}  p99 ratio {ratio:.2}, CPU of \
         the load {load:.1} us each"
    );
}

/// Waits until no keys rotate.
async fn idle(open: &Arc<Unsealed>) -> Result<(), Box<dyn Error>> {
    loop {
        let status = open.rotation.status().await?;
        if status.step == Step::Idle && status.names.step == NamesStep::Idle {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the server does beside serving.
#[derive(Clone, Copy)]
enum Background {
    Verify,
    Compact,
    Rotate,
    Move,
}

impl Background {
    fn word(self) -> &'static str {
        match self {
            Self::Verify => "verifies",
            Self::Compact => "compacts",
            Self::Rotate => "re-encrypts",
            Self::Move => "moves names",
        }
    }

    /// Whether a round of it was begun.
    async fn once(self, open: &Arc<Unsealed>) -> Result<bool, Box<dyn Error + Send + Sync>> {
        match self {
            Self::Verify => {
                let barrier = &open.ground.barrier;
                barrier.scan(Pace::Background, Reads::Checked, &Progress::default()).await?;
            }
            Self::Compact => {
                let barrier = Arc::clone(&open.ground.barrier);
                tokio::task::spawn_blocking(move || barrier.compact(Erase::No, |_| {})).await??;
            }
            // The server's own job takes the records over; here only the next term is begun.
            Self::Rotate => {
                let begins = open.rotation.status().await?.step == Step::Idle;
                if begins {
                    open.rotation.start().await?;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                return Ok(begins);
            }
            Self::Move => {
                let status = open.rotation.status().await?;
                // Names move when no rotation is under way.
                let begins = status.step == Step::Idle && status.names.step == NamesStep::Idle;
                if begins {
                    open.rotation.start_names().await?;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                return Ok(begins);
            }
        }
        Ok(true)
    }
}

/// Background work that is begun again and again.
struct Running {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<u32, Box<dyn Error + Send + Sync>>>,
}

impl Running {
    fn begin(runtime: &Runtime, open: &Arc<Unsealed>, work: Background) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, open) = (Arc::clone(&stop), Arc::clone(open));
        let task = runtime.spawn(async move {
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                rounds += u32::from(work.once(&open).await?);
            }
            Ok(rounds)
        });
        Self { stop, task }
    }

    async fn end(self) -> Result<u32, Box<dyn Error>> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.task.await?.map_err(|error| error.to_string())?)
    }
}

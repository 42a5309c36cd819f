//! Reads, durable writes and encryption over HTTPS, beside what the machine itself gives in the same run.
//!
//! ```text
//! cargo bench --bench http            # 5 s for each measurement
//! SECONDS=20 cargo bench --bench http
//! ONLY=writes cargo bench --bench http # or reads, rows, growth, transit, files, overload, hostile
//! ```
//! Read the ratios, not the rates: load and server share the machine. On two cores a read is to
//! reach 0.80 of the bare route by rate, with the audit file on 0.60; 64 writers are to reach four times the
//! disk's own rate of synced appends; encryption of 256 bytes is to reach 0.75 of the bare route
//! that takes the same body, and batches of a thousand 300,000 plaintexts a second.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]
#![expect(clippy::indexing_slicing, reason = "plain code is clearer in benches")]

mod bare;
mod disk;
mod files;
mod growth;
mod hostile;
mod load;
mod overload;
mod raw;
mod rows;
mod subject;

use std::{
    alloc::System,
    error::Error,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use kista::{
    clock::{Clock, SystemClock},
    config::Freshness,
    http::Certificates,
};
use load::{CONNECTIONS, Outcome, Work};
use subject::Subject;
use tokio::runtime::Runtime;
use zeroizing_alloc::ZeroAlloc;

/// The one of the binary, which wipes what is freed.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// What is read; written are paths under it.
const PATH: &str = "/v1/secret/data/bench";
/// Rounds of each measurement; the median counts.
const ROUNDS: usize = 3;
/// Rounds of reads, by turns: the machine's own speed changes within seconds, so that each round has
/// its ratio, and the median of these counts.
const READ_ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(line) = load::as_load() {
        println!("{}", line?);
        return Ok(());
    }
    if let Some(attacked) = hostile::as_attack() {
        return Ok(attacked?);
    }
    let seconds = std::env::var("SECONDS").map_or(Ok(5), |text| text.parse())?;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    println!("{} connections, {ROUNDS} rounds of {seconds} s", CONNECTIONS);
    let runtime = Runtime::new()?;
    let certificates = Certificates::ensure(&folder.join("tls"), &[], SystemClock.now())?;
    let start = |name: &str, audit: Option<PathBuf>, freshness| {
        Subject::start(&runtime, &folder.join(name), &certificates, audit, freshness)
    };
    let quiet = start("quiet", None, Freshness::Background)?;
    let unchecked = start("unchecked", None, Freshness::Off)?;
    let audited = start("audited", Some(folder.join("audit.log")), Freshness::Background)?;
    let ca = certificates.authority.as_path();
    let ask = |place, body: &str| load::once(quiet.address, ca, &quiet.token, place, body);
    let body = ask(("GET", PATH), "")?;
    println!("the answer has {} bytes", body.len());
    let server = certificates.server.as_path();
    let serve = |body| runtime.block_on(bare::serve(server, server, body));
    let bare = serve(body)?;
    let bare_encrypt = serve(ask(("POST", load::ENCRYPT), &load::encrypt_body())?)?;
    let bare_batch = serve(ask(("POST", load::ENCRYPT), &load::batch_body())?)?;

    let only = std::env::var("ONLY").ok();
    let rounds =
        |work: &str| if only.as_deref().is_none_or(|only| only == work) { ROUNDS } else { 0 };
    let mut reads = Reads::default();
    let read_rounds = if rounds("reads") > 0 { READ_ROUNDS } else { 0 };
    for _ in 0..read_rounds {
        reads.bare.push(measure(Work::Read, bare, ca, "-", seconds)?);
        reads.quiet.push(measure(Work::Read, quiet.address, ca, &quiet.token, seconds)?);
        reads.unchecked.push(measure(
            Work::Read,
            unchecked.address,
            ca,
            &unchecked.token,
            seconds,
        )?);
        reads.audited.push(measure(Work::Read, audited.address, ca, &audited.token, seconds)?);
    }
    reads.print();

    let mut writes = Writes::default();
    for _ in 0..rounds("writes") {
        writes.disk.push(disk::rate(&folder, Duration::from_secs(seconds))?);
        for (subject, work, measured) in [
            (&quiet, Work::Create, &mut writes.created),
            (&audited, Work::Create, &mut writes.audited),
            (&quiet, Work::Update, &mut writes.updated),
        ] {
            let before = subject.commits();
            let write = measure(work, subject.address, ca, &subject.token, seconds)?;
            let commits = (subject.commits() - before) as f64;
            let group = write.outcome.rate * seconds as f64 / commits;
            measured.push(Measured { group, ..write });
        }
    }
    writes.print();

    if rounds("rows") > 0 {
        rows::run(&quiet, bare, serve(rows::listed(&quiet, ca)?)?, ca, seconds)?;
    }
    // Minutes, most of them for filling: only where it is asked for.
    if only.as_deref() == Some("growth") {
        growth::run(&start, ca, seconds)?;
    }

    let mut transit = Transit::default();
    for _ in 0..rounds("transit") {
        transit.raw.push(raw::rate(&load::PLAINTEXT, Duration::from_secs(seconds)));
        for (work, address, token, measured) in [
            (Work::Encrypt, bare_encrypt, "-", &mut transit.bare),
            (Work::Encrypt, quiet.address, &*quiet.token, &mut transit.one),
            (Work::Batch, bare_batch, "-", &mut transit.bare_batch),
            (Work::Batch, quiet.address, &*quiet.token, &mut transit.batch),
        ] {
            measured.push(measure(work, address, ca, token, seconds)?);
        }
    }
    transit.print();

    if rounds("files") > 0 {
        files::run(rounds("files"))?;
    }

    if rounds("overload") > 0 {
        overload::run(&quiet, bare, ca, seconds)?;
    }

    if only.as_deref() == Some("hostile") {
        hostile::run(&quiet, ca, seconds)?;
    }

    for subject in [quiet, unchecked, audited] {
        runtime.block_on(subject.kista.shutdown());
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// An outcome, and what of it this process, the server, spent.
struct Measured {
    outcome: Outcome,
    cpu_micros: f64,
    /// How many writes one sync made durable, on average.
    group: f64,
}

fn measure(
    work: Work,
    address: SocketAddr,
    ca: &Path,
    token: &str,
    seconds: u64,
) -> io::Result<Measured> {
    measure_on(CONNECTIONS, work, address, ca, token, seconds)
}

/// The same on so many connections.
fn measure_on(
    connections: usize,
    work: Work,
    address: SocketAddr,
    ca: &Path,
    token: &str,
    seconds: u64,
) -> io::Result<Measured> {
    let before = load::cpu()?;
    let outcome = load::drive(connections, work, address, ca, token, seconds)?;
    let answers = outcome.rate * Duration::from_secs(seconds).as_secs_f64();
    let spent = (load::cpu()? - before).as_secs_f64();
    Ok(Measured { outcome, cpu_micros: spent * 1e6 / answers, group: 0.0 })
}

#[derive(Default)]
struct Reads {
    bare: Vec<Measured>,
    quiet: Vec<Measured>,
    unchecked: Vec<Measured>,
    audited: Vec<Measured>,
}

impl Reads {
    fn print(mut self) {
        if self.bare.is_empty() {
            return;
        }
        let ratios = [("ratio", &self.quiet), ("ratio, audited", &self.audited)]
            .map(|(name, read)| (name, Ratio::of(read, &self.bare)));
        print_line("bare route", &median(&mut self.bare));
        print_line("KV read", &median(&mut self.quiet));
        print_line("KV read, freshness off", &median(&mut self.unchecked));
        print_line("KV read, audited", &median(&mut self.audited));
        for (name, Ratio { rate, cpu, p99, .. }) in ratios {
            println!("{name:<28} {rate:>9.2} by rate, {cpu:.2} by server CPU, p99 {p99:.2} times");
        }
    }
}

/// Medians of what rounds say of one work beside another.
struct Ratio {
    rate: f64,
    cpu: f64,
    p50: f64,
    p99: f64,
}

impl Ratio {
    fn of(these: &[Measured], others: &[Measured]) -> Self {
        let median = |ratio: fn(&Measured, &Measured) -> f64| {
            let pairs = these.iter().zip(others);
            let mut ratios: Vec<_> = pairs.map(|(this, other)| ratio(this, other)).collect();
            ratios.sort_by(f64::total_cmp);
            ratios[ratios.len() / 2]
        };
        Self {
            rate: median(|this, other| this.outcome.rate / other.outcome.rate),
            cpu: median(|this, other| other.cpu_micros / this.cpu_micros),
            p50: median(|this, other| this.outcome.p50.div_duration_f64(other.outcome.p50)),
            p99: median(|this, other| this.outcome.p99.div_duration_f64(other.outcome.p99)),
        }
    }
}

#[derive(Default)]
struct Writes {
    disk: Vec<f64>,
    created: Vec<Measured>,
    audited: Vec<Measured>,
    updated: Vec<Measured>,
}

impl Writes {
    fn print(mut self) {
        if self.disk.is_empty() {
            return;
        }
        self.disk.sort_by(f64::total_cmp);
        let disk = self.disk[ROUNDS / 2];
        println!("\nappend 4 KiB and fdatasync   {disk:>9.0}/s");
        for (name, measured) in [
            ("durable KV write", &mut self.created),
            ("durable KV write, audited", &mut self.audited),
            ("durable KV write, new version", &mut self.updated),
        ] {
            let write = median(measured);
            print_line(name, &write);
            let (ratio, group) = (write.outcome.rate / disk, write.group);
            println!(
                "  times the disk's rate      {ratio:>9.2}    {group:.1} writes for each sync"
            );
        }
    }
}

#[derive(Default)]
struct Transit {
    raw: Vec<f64>,
    bare: Vec<Measured>,
    one: Vec<Measured>,
    bare_batch: Vec<Measured>,
    batch: Vec<Measured>,
}

impl Transit {
    fn print(mut self) {
        if self.raw.is_empty() {
            return;
        }
        self.raw.sort_by(f64::total_cmp);
        println!("\nAES-256-GCM alone, 256 B      {:>9.0}/s", self.raw[ROUNDS / 2]);
        for (name, items, bare, measured) in [
            ("transit encrypt, 256 B", 1, &mut self.bare, &mut self.one),
            ("transit encrypt, batch", load::ITEMS, &mut self.bare_batch, &mut self.batch),
        ] {
            let (bare, measured) = (median(bare), median(measured));
            print_line("bare route taking the same", &bare);
            print_line(name, &measured);
            let by_rate = measured.outcome.rate / bare.outcome.rate;
            let by_cpu = bare.cpu_micros / measured.cpu_micros;
            println!(
                "ratio                        {by_rate:>9.2} by rate, {by_cpu:.2} by server CPU"
            );
            let each = measured.cpu_micros / items as f64;
            let rate = measured.outcome.rate * items as f64;
            println!("  plaintexts                 {rate:>9.0}/s  server CPU {each:.2} us each");
        }
    }
}

fn print_line(name: &str, measured: &Measured) {
    let Outcome { rate, p50, p99, load_micros: load, .. } = measured.outcome;
    let cpu = measured.cpu_micros;
    println!(
        "{name:<30} {rate:>7.0}/s  p50 {p50:.1?}  p99 {p99:.1?}  CPU each: server {cpu:.1} us, \
         load {load:.1} us"
    );
}

/// The one whose rate is in the middle.
fn median(measured: &mut Vec<Measured>) -> Measured {
    measured.sort_by(|one, other| one.outcome.rate.total_cmp(&other.outcome.rate));
    measured.swap_remove(measured.len() / 2)
}

//! Reads and durable writes over HTTPS, beside what the machine itself gives in the same run.
//!
//! ```text
//! cargo bench --bench http            # 5 s for each measurement
//! SECONDS=20 cargo bench --bench http
//! ```
//! Read the ratios, not the rates: load and server share the machine. On two cores a read is to reach
//! 0.50 of the bare route by rate now and 0.80 later; 64 writers are to reach four times the disk's own
//! rate of synced appends.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]
#![expect(clippy::indexing_slicing, reason = "plain code is clearer in benches")]

mod bare;
mod disk;
mod load;
mod subject;

use std::{
    error::Error,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use kista::{
    clock::{Clock, SystemClock},
    http::Certificates,
};
use load::{Outcome, Work};
use subject::Subject;
use tokio::runtime::Runtime;

/// What is read; written are paths under it.
const PATH: &str = "/v1/secret/data/bench";
/// Rounds of each measurement; the median counts.
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(line) = load::as_load() {
        println!("{}", line?);
        return Ok(());
    }
    let seconds = std::env::var("SECONDS").map_or(Ok(5), |text| text.parse())?;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    println!("{} connections, {ROUNDS} rounds of {seconds} s", load::CONNECTIONS);
    let runtime = Runtime::new()?;
    let certificates = Certificates::ensure(&folder.join("tls"), &[], SystemClock.now())?;
    let quiet = Subject::start(&runtime, &folder.join("quiet"), &certificates, None)?;
    let audited = folder.join("audit.log");
    let audited = Subject::start(&runtime, &folder.join("audited"), &certificates, Some(audited))?;
    let body =
        load::once(quiet.address, certificates.authority.as_path(), &quiet.token, "GET", "")?;
    println!("the answer has {} bytes", body.len());
    let server = certificates.server.as_path();
    let bare = runtime.block_on(bare::serve(server, server, body))?;

    let ca = certificates.authority.as_path();
    let mut reads = Reads::default();
    for _ in 0..ROUNDS {
        reads.bare.push(measure(Work::Read, bare, ca, "-", seconds)?);
        reads.quiet.push(measure(Work::Read, quiet.address, ca, &quiet.token, seconds)?);
        reads.audited.push(measure(Work::Read, audited.address, ca, &audited.token, seconds)?);
    }
    reads.print();

    let mut writes = Vec::new();
    let mut appends = Vec::new();
    for _ in 0..ROUNDS {
        appends.push(disk::rate(&folder, Duration::from_secs(seconds))?);
        writes.push(measure(Work::Write, quiet.address, ca, &quiet.token, seconds)?);
    }
    appends.sort_by(f64::total_cmp);
    let (disk, write) = (appends[ROUNDS / 2], median(&mut writes));
    println!("\nappend 4 KiB and fdatasync   {disk:>9.0}/s");
    print_line("durable KV write", &write);
    println!("ratio                        {:>9.2}", write.outcome.rate / disk);

    for subject in [quiet, audited] {
        runtime.block_on(subject.kista.shutdown());
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// An outcome, and what of it this process, the server, spent.
struct Measured {
    outcome: Outcome,
    cpu_micros: f64,
}

fn measure(
    work: Work,
    address: SocketAddr,
    ca: &Path,
    token: &str,
    seconds: u64,
) -> io::Result<Measured> {
    let before = cpu()?;
    let outcome = load::drive(work, address, ca, token, seconds)?;
    let answers = outcome.rate * Duration::from_secs(seconds).as_secs_f64();
    let spent = (cpu()? - before).as_secs_f64();
    Ok(Measured { outcome, cpu_micros: spent * 1e6 / answers })
}

/// Processor time of this process, without its children.
fn cpu() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // utime and stime, in ticks of 10 ms, are the 12th and 13th words after the name's bracket.
    let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = words.filter_map(|word| word.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

#[derive(Default)]
struct Reads {
    bare: Vec<Measured>,
    quiet: Vec<Measured>,
    audited: Vec<Measured>,
}

impl Reads {
    fn print(mut self) {
        let bare = median(&mut self.bare);
        let quiet = median(&mut self.quiet);
        let audited = median(&mut self.audited);
        print_line("bare route", &bare);
        print_line("KV read", &quiet);
        print_line("KV read, audited", &audited);
        for (name, read) in [("ratio", &quiet), ("ratio, audited", &audited)] {
            let by_rate = read.outcome.rate / bare.outcome.rate;
            let by_cpu = bare.cpu_micros / read.cpu_micros;
            println!("{name:<28} {by_rate:>9.2} by rate, {by_cpu:.2} by server CPU");
        }
    }
}

fn print_line(name: &str, measured: &Measured) {
    let Outcome { rate, p50, p99 } = measured.outcome;
    let cpu = measured.cpu_micros;
    println!("{name:<28} {rate:>9.0}/s  p50 {p50:.1?}  p99 {p99:.1?}  server CPU {cpu:.1} us each");
}

/// The one whose rate is in the middle.
fn median(measured: &mut Vec<Measured>) -> Measured {
    measured.sort_by(|one, other| one.outcome.rate.total_cmp(&other.outcome.rate));
    measured.swap_remove(ROUNDS / 2)
}

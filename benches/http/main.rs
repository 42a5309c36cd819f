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

use std::{
    error::Error,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kista::{
    clock::{Clock, SystemClock},
    config::{self, Limits, Listener, Transport},
    http::{Certificates, Server},
    mount::NewMount,
    pipeline::Kista,
    seal::{NewSlot, Secret, ShareCounts},
    token::TtlLimits,
    vault::{Settings, Vault},
};
use load::{Outcome, Work};
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
    let body = quiet.body()?;
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

/// A vault under measurement.
struct Subject {
    address: SocketAddr,
    kista: Kista,
    token: String,
    ca: PathBuf,
}

impl Subject {
    fn start(
        runtime: &Runtime,
        data: &Path,
        certificates: &Certificates,
        audit: Option<PathBuf>,
    ) -> Result<Self, Box<dyn Error>> {
        let month = Duration::from_secs(768 * 3600);
        let settings = Settings {
            audit_file: audit.map(|path| config::AuditFile {
                path,
                hash_paths: false,
                format: config::AuditFormat::Json,
            }),
            ..Settings::new(data.to_owned(), TtlLimits { default: month, max: month })
        };
        let vault = Vault::start(settings, Arc::new(SystemClock))?;
        let listener = Listener {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            transport: Transport::Tls(config::Tls {
                certificate: certificates.server.clone(),
                key: certificates.server.clone(),
                client_ca: None,
            }),
        };
        runtime
            .block_on(async {
                let slot = NewSlot::Shares(ShareCounts::new(1, 1)?);
                let mut made = vault.initialize(vec![slot]).await?;
                vault.unseal(Secret::Shares(made.shares.remove(0))).await?;
                let open = vault.unsealed().ok_or("still sealed")?;
                let mount = NewMount { kind: "kv-v2".to_owned(), ..NewMount::default() };
                open.mounts.enable("secret/", mount).await?;
                drop(open);
                let server = Server::bind(&listener, Limits::default())?;
                let address = server.local_addr();
                let kista = Kista::new(vault);
                tokio::spawn(server.run(kista.clone(), std::future::pending()));
                let token = made.root_token.expose(str::to_owned);
                let subject = Self { address, kista, token, ca: certificates.authority.clone() };
                Ok(subject)
            })
            .and_then(|subject: Self| {
                subject.fill()?;
                Ok(subject)
            })
    }

    /// Writes what is read.
    fn fill(&self) -> io::Result<()> {
        let body = format!("{{\"data\":{{\"value\":\"{}\"}}}}", "x".repeat(300));
        load::once(self.address, &self.ca, &self.token, "POST", &body).map(drop)
    }

    /// The bytes of its answer.
    fn body(&self) -> io::Result<Vec<u8>> {
        load::once(self.address, &self.ca, &self.token, "GET", "")
    }
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

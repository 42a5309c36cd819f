//! What else a service does: listing, asking who it is, a mix of work, and fewer connections.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::io::AsyncWriteExt;

use crate::{
    Measured,
    load::{self, CONNECTIONS, Client, Work},
    measure_on, median, print_line,
    subject::Subject,
};

/// Makes the folder that is listed, and gives the answer that lists it.
pub(crate) fn listed(subject: &Subject, ca: &Path) -> io::Result<Vec<u8>> {
    let names = (0..NAMES).map(|number| format!("/v1/secret/data/names/service-{number:04}"));
    put_all(subject, ca, names)?;
    load::once(subject.address, ca, &subject.token, ("GET", load::LIST), "")
}

/// Prints a line for each kind of work at 1, 8 and 64 connections, beside the bare route that
/// answers the same bytes where there is one.
pub(crate) fn run(
    subject: &Subject,
    bare: SocketAddr,
    bare_list: SocketAddr,
    ca: &Path,
    seconds: u64,
) -> io::Result<()> {
    let vault = (subject.address, subject.token.as_str());
    for connections in [1, 8, CONNECTIONS] {
        println!("\n{connections} connections");
        let line = |name: &str, work, (address, token): (_, &str)| {
            let rounds = (0..crate::ROUNDS)
                .map(|_| measure_on(connections, work, address, ca, token, seconds));
            let measured = median(&mut rounds.collect::<io::Result<Vec<_>>>()?);
            print_line(name, &measured);
            io::Result::Ok(measured)
        };
        let bare_read = line("bare route", Work::Read, (bare, "-"))?;
        let read = line("KV read", Work::Read, vault)?;
        print_ratio(&read, &bare_read);
        let lookup = line("lookup-self", Work::Lookup, vault)?;
        println!("  of the KV read's rate      {:>9.2}", lookup.outcome.rate / read.outcome.rate);
        let bare_list = line("bare route, the list's bytes", Work::List, (bare_list, "-"))?;
        let list = line("list of 1,000 names", Work::List, vault)?;
        print_ratio(&list, &bare_list);
        line("90 % read, 8 % write, 2 % list", Work::Mix, vault)?;
    }
    Ok(())
}

fn print_ratio(measured: &Measured, bare: &Measured) {
    let by_rate = measured.outcome.rate / bare.outcome.rate;
    let by_cpu = bare.cpu_micros / measured.cpu_micros;
    let by_p99 = measured.outcome.p99.as_secs_f64() / bare.outcome.p99.as_secs_f64();
    println!(
        "ratio                        {by_rate:>9.2} by rate, {by_cpu:.2} by server CPU, \
         {by_p99:.2} by p99"
    );
}

/// Puts a secret of 300 bytes at each of these paths, from here.
pub(crate) fn put_all(
    subject: &Subject,
    ca: &Path,
    paths: impl Iterator<Item = String> + Send + 'static,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (connector, paths) = (load::connector(ca)?, Arc::new(Mutex::new(paths)));
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for number in 0..CONNECTIONS {
            let mut client =
                Client::connect(&connector, subject.address, &subject.token, number).await?;
            let paths = Arc::clone(&paths);
            tasks.push(tokio::spawn(async move {
                let next = || paths.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some(path) = next() {
                    let body = format!("{{\"data\":{{\"value\":\"{path:0>280}\"}}}}");
                    let request = client.request("POST", &path, &body);
                    client.stream.write_all(&request).await?;
                    client.answer().await?;
                }
                io::Result::Ok(())
            }));
        }
        for task in tasks {
            task.await.map_err(io::Error::other)??;
        }
        Ok(())
    })
}

/// Names in the folder that is listed.
const NAMES: u64 = 1_000;

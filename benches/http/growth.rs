//! Reads of secrets from all over a store, in stores from a thousand secrets to a million.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use kista::config::Freshness;

use crate::{
    Measured, READ_ROUNDS, Ratio,
    load::{self, CONNECTIONS, Work},
    measure_on, median, print_line, rows,
    subject::Subject,
};

/// Secrets in each store; the first is what the others are held against.
const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// A store whose work in the background takes less than this part of a core has nothing to do.
const IDLE: f64 = 0.03;

/// Starts a vault under a name, with or without an audit file.
type Start<'a> = dyn Fn(&str, Option<PathBuf>, Freshness) -> Result<Subject, Box<dyn Error>> + 'a;

/// Fills a store of each size, and reads from them by turns once their compactions are over.
pub(crate) fn run(start: &Start<'_>, ca: &Path, seconds: u64) -> Result<(), Box<dyn Error>> {
    let mut stores = Vec::new();
    for many in SIZES {
        let subject = start(&format!("of-{many}"), None, Freshness::Background)?;
        rows::put_all(&subject, ca, (0..many).map(load::many_path))?;
        stores.push((many, subject));
    }
    settle()?;
    for connections in [1, CONNECTIONS] {
        println!("\n{connections} connections");
        let mut rounds: Vec<Vec<Measured>> = SIZES.map(|_| Vec::new()).into();
        for _ in 0..READ_ROUNDS {
            for ((many, subject), rounds) in stores.iter().zip(&mut rounds) {
                let (work, token) = (Work::Any(*many), &subject.token);
                rounds.push(measure_on(connections, work, subject.address, ca, token, seconds)?);
            }
        }
        print(&mut rounds);
    }
    Ok(())
}

fn print(rounds: &mut [Vec<Measured>]) {
    let ratios: Vec<_> = match &*rounds {
        [first, ..] => rounds.iter().map(|these| Ratio::of(these, first)).collect(),
        [] => return,
    };
    for ((many, these), ratio) in SIZES.iter().zip(rounds).zip(ratios) {
        print_line(&format!("KV read, any of {many}"), &median(these));
        let Ratio { p50, p99, .. } = ratio;
        println!("  times that of a thousand   {p50:>9.2}, p99 {p99:.2}");
    }
}

/// Waits until nothing is left to be done behind the requests.
fn settle() -> io::Result<()> {
    let pause = Duration::from_secs(2);
    loop {
        let before = load::cpu()?;
        thread::sleep(pause);
        if (load::cpu()? - before).as_secs_f64() < IDLE * pause.as_secs_f64() {
            return Ok(());
        }
    }
}

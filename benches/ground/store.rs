//! A large store: how long it takes to open, what it takes of memory and disk, and pages of its
//! names.

use std::{
    env,
    error::Error,
    fs, io,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use kista::{
    barrier::{Batch, Pace, Progress, Reads, SpaceId},
    clock::SystemClock,
    rotation::Turn,
    seal::{NewSlot, Secret, ShareCounts},
    secret::SecretBytes,
    storage::Erase,
    token::TtlLimits,
    vault::{Settings, Unsealed, Vault},
};
use tokio::runtime::Runtime;

const SPACE: SpaceId = SpaceId([0x6b; 16]);
/// What one secret holds, in bytes.
const VALUE: usize = 300;
/// Secrets in one commit.
const BATCH: u64 = 100;
/// Names on one page.
const PAGE: usize = 100;

/// Fills a store, and opens it in processes of their own: with all of it in the journal, and after
/// a compaction that leaves one generation.
pub(crate) fn growth(folder: &Path, records: u64) -> Result<(), Box<dyn Error>> {
    println!("{records} secrets of {VALUE} bytes");
    let empty = child(folder, "fill", "0")?;
    print!("{empty}");
    let before = bytes_under(folder)?;
    print!("{}", child(folder, "fill", &records.to_string())?);
    print!("{}", child(folder, "open", "with the journal as it is")?);
    print!("{}", child(folder, "compact", "")?);
    print!("{}", child(folder, "open", "after a compaction")?);
    let more = bytes_under(folder)?.saturating_sub(before);
    println!("disk for each secret         {:>9.0} B", more as f64 / records.max(1) as f64);
    print!("{}", child(folder, "rotate", "")?);
    print!("{}", child(folder, "erase", "")?);
    Ok(())
}

/// One folder of so many names, listed in a process that has done nothing else.
pub(crate) fn listing(folder: &Path, names: u64) -> Result<(), Box<dyn Error>> {
    println!("\na folder of {names} names");
    print!("{}", child(folder, "names", &names.to_string())?);
    print!("{}", child(folder, "list", &names.to_string())?);
    Ok(())
}

/// Does what the parent wants, in a process that has done nothing else. False in the parent.
pub(crate) fn as_child() -> Result<bool, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, mark, folder, work, detail] = arguments.as_slice() else { return Ok(false) };
    if mark != MARK {
        return Ok(false);
    }
    let folder = Path::new(folder);
    let runtime = Runtime::new()?;
    let begun = Instant::now();
    let settings = Settings::new(folder.join("data"), TtlLimits::default());
    let vault = Vault::start(settings, Arc::new(SystemClock))?;
    let started = begun.elapsed();
    runtime.block_on(async {
        if !vault.status().is_initialized {
            let slot = NewSlot::Shares(ShareCounts::new(1, 1)?);
            let made = vault.initialize(vec![slot]).await?;
            made.shares[0].expose(|share| fs::write(folder.join("share"), share))?;
        }
        let share = SecretBytes::from_vec(fs::read(folder.join("share"))?);
        vault.unseal(Secret::Shares(share)).await?;
        let unsealed = begun.elapsed();
        let open = vault.unsealed().ok_or("still sealed")?;
        match work.as_str() {
            "fill" => fill(&open, detail.parse()?).await?,
            "names" => fill_folder(&open, detail.parse()?).await?,
            "list" => list(&open, detail.parse()?).await?,
            "compact" => {
                let barrier = Arc::clone(&open.ground.barrier);
                let begun = Instant::now();
                tokio::task::spawn_blocking(move || barrier.compact(Erase::Yes, |_| {})).await??;
                println!("compacted and index made anew {:>8.1?}", begun.elapsed());
            }
            "rotate" => rotate(&open).await?,
            "erase" => erase(&open).await?,
            _ => {
                println!(
                    "{detail}: started {started:.1?}, unsealed {unsealed:.1?}, {} MiB",
                    memory()?
                );
                let begun = Instant::now();
                let barrier = &open.ground.barrier;
                let progress = Progress::default();
                let scanned = barrier.scan(Pace::Full, Reads::Checked, &progress).await?;
                println!("  verified in {:.1?}, then {} MiB", begun.elapsed(), memory()?);
                println!("  a read takes {:.1?}", read_time(&open, scanned.records).await?);
            }
        }
        drop(open);
        vault.seal().await;
        Ok(true)
    })
}

/// Writes so many secrets.
pub(crate) async fn fill(open: &Arc<Unsealed>, records: u64) -> Result<(), Box<dyn Error>> {
    let view = open.ground.barrier.view(SPACE);
    let begun = Instant::now();
    for batch_start in (0..records).step_by(usize::try_from(BATCH)?) {
        let mut batch = Batch::default();
        for n in batch_start..(batch_start + BATCH).min(records) {
            batch.put(&view, &["app", &(n / 1_000).to_string(), &n.to_string()], &[7; VALUE]);
        }
        view.commit(batch).await?;
    }
    if records > 0 {
        println!("filled with {records} in           {:>9.1?}", begun.elapsed());
    }
    Ok(())
}

/// Writes so many secrets into one folder.
async fn fill_folder(open: &Arc<Unsealed>, names: u64) -> Result<(), Box<dyn Error>> {
    let view = open.ground.barrier.view(SPACE);
    for batch_start in (0..names).step_by(usize::try_from(BATCH)?) {
        let mut batch = Batch::default();
        for n in batch_start..(batch_start + BATCH).min(names) {
            batch.put(&view, &["folder", &name(n)], b"value");
        }
        view.commit(batch).await?;
    }
    Ok(())
}

/// Pages of a folder: the first, others, and some with a new name before each.
async fn list(open: &Arc<Unsealed>, names: u64) -> Result<(), Box<dyn Error>> {
    let view = open.ground.barrier.view(SPACE);
    let page = async |after: &str| {
        let begun = Instant::now();
        let page = view.list(&["folder"], Some(after), PAGE).await?;
        Ok::<_, Box<dyn Error>>((begun.elapsed(), page.len()))
    };
    let before = memory()?;
    let (first, length) = page("").await?;
    println!(
        "first page of {length:<14} {first:>12.1?}, from {before} to {} MiB, {} at most",
        memory()?,
        peak()?
    );
    // Few where each walks the folder.
    let rounds: u64 = if page("").await?.0 > Duration::from_millis(20) { 5 } else { 1_000 };
    let (mut pages, mut behind_writes) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let after = name(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % names.max(1));
        pages.push(page(&after).await?.0);
    }
    for round in 0..rounds {
        let mut batch = Batch::default();
        batch.put(&view, &["folder", &name(names + round)], b"value");
        view.commit(batch).await?;
        behind_writes.push(page(&name(round)).await?.0);
    }
    println!("the next pages               {}", spread(&mut pages));
    println!("a new name before each       {}", spread(&mut behind_writes));
    Ok(())
}

/// Names of 20 bytes, of which none is written in its order.
fn name(n: u64) -> String {
    format!("name-{:015}", n.wrapping_mul(0x5851_f42d_4c95_7f2d) % 1_000_000_000_000_000)
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let (median, last) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    format!("{median:>12.1?} in the middle, p99 {last:.1?}, of {}", times.len())
}

/// Seals every record again under a new term, to the end: the old one is destroyed.
async fn rotate(open: &Arc<Unsealed>) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    open.rotation.start().await?;
    while let Turn::More(pause) = open.rotation.turn(&open.ground.audit).await? {
        tokio::time::sleep(pause).await;
    }
    println!("rotated and the old term gone  {:>8.1?}, {} MiB at most", begun.elapsed(), peak()?);
    Ok(())
}

/// Removes everything and erases it: the new index is made while the old one serves.
async fn erase(open: &Arc<Unsealed>) -> Result<(), Box<dyn Error>> {
    let before = memory()?;
    let begun = Instant::now();
    let removed = open.ground.barrier.view(SPACE).remove_all(&["app"]).await?;
    let (gone, most) = (begun.elapsed(), peak()?);
    open.ground.barrier.erase_removed(|_| {}).await?;
    let (erased, after) = (begun.elapsed() - gone, peak()?);
    println!("{removed} removed in {gone:.1?}, from {before} to {most} MiB at most");
    println!("  erased in {erased:.1?}, {after} MiB at most");
    Ok(())
}

/// Median time of a read from all over the store.
async fn read_time(open: &Arc<Unsealed>, records: u64) -> Result<Duration, Box<dyn Error>> {
    let view = open.ground.barrier.view(SPACE);
    let mut times = Vec::new();
    for n in 0..10_000_u64 {
        let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % records.max(1);
        let begun = Instant::now();
        drop(view.get(&["app", &(n / 1_000).to_string(), &n.to_string()]).await?);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn child(folder: &Path, work: &str, detail: &str) -> io::Result<String> {
    fs::create_dir_all(folder)?;
    let output = Command::new(env::current_exe()?)
        .arg(MARK)
        .arg(folder)
        .args([work, detail])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{work} ended with {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Resident memory of this process, in MiB.
fn memory() -> io::Result<u64> {
    mebibytes("VmRSS:")
}

/// The most that it was.
fn peak() -> io::Result<u64> {
    mebibytes("VmHWM:")
}

fn mebibytes(name: &str) -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.unwrap_or(0) / 1_024)
}

fn bytes_under(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_under(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

const MARK: &str = "--as-store";

//! What a container costs over its cipher: a gigabyte in memory, nothing read and nothing written.

use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use kista::{
    container::{self, Header, SealedFile, Stanza, Transit},
    crypto::committing::Cobblestone256,
    secret::Key,
};

/// Prints a line for the cipher alone and for a container written and read, on one thread each.
pub(crate) fn run(rounds: usize) -> io::Result<()> {
    let [mut raw, mut written, mut read] = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        raw.push(cipher()?);
        written.push(timed(|| write(io::sink()).map(drop))?);
        let file = write(Vec::with_capacity(BYTES + BYTES / 512))?;
        read.push(timed(|| open(&file))?);
    }
    let raw = median(&mut raw);
    println!("\n{:<30} {:>6.2} GB/s", "AES-256-GCM, 16 KiB chunks", rate(raw));
    for (name, mut times) in [("container written", written), ("container read", read)] {
        let time = median(&mut times);
        let ratio = raw.as_secs_f64() / time.as_secs_f64();
        println!("{name:<30} {:>6.2} GB/s  ratio {ratio:.2}", rate(time));
    }
    Ok(())
}

/// The same bytes sealed in place under one key, a nonce for each chunk.
fn cipher() -> io::Result<Duration> {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(io::Error::other)?;
    let key = LessSafeKey::new(key);
    let mut chunk = [5; CHUNK];
    timed(|| {
        for number in 0..(BYTES / CHUNK) as u128 {
            let nonce: [u8; 12] = number.to_be_bytes()[4..].try_into().map_err(io::Error::other)?;
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut chunk);
            drop(tag.map_err(io::Error::other)?);
        }
        Ok(())
    })
}

fn key() -> Key<Cobblestone256> {
    Key::build(|key| key.fill(7))
}

fn write<W: Write>(to: W) -> io::Result<W> {
    let stanza = Stanza::Transit(Transit::asked("transit", "pii"));
    let header = Header::new(vec![stanza], "", b"").map_err(io::Error::other)?;
    let mut writer = container::writer(&header, &key(), to)?;
    // As `kista encrypt --local` hands them on.
    let part = vec![5; PART];
    for _ in 0..BYTES / PART {
        writer.write_all(&part)?;
    }
    writer.finish()
}

fn open(file: &[u8]) -> io::Result<()> {
    let sealed = SealedFile::read(file).map_err(io::Error::other)?;
    let mut reader = sealed.open(&key())?;
    let mut part = vec![0; PART];
    while reader.read(&mut part)? > 0 {}
    Ok(())
}

fn timed(work: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn rate(time: Duration) -> f64 {
    BYTES as f64 / 1e9 / time.as_secs_f64()
}

const BYTES: usize = 1 << 30;
/// Plaintext of a chunk in a container.
const CHUNK: usize = 16 * 1024;
const PART: usize = 64 * 1024;

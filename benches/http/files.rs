//! What a container costs over its cipher: a gigabyte in memory, so that nothing is read from a disk
//! or written to one.

use std::{
    io::{self, BufRead, Write},
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use kista::{
    container::{self, Header, SealedFile, Stanza, Transit},
    crypto::committing::Cobblestone256,
    secret::Key,
};

/// Prints the rates of a container written and read, each beside the cipher alone over chunks of the
/// same length that lie where those of the container lie. One thread does it.
pub(crate) fn run(rounds: usize) -> io::Result<()> {
    let [mut sealed, mut written, mut opened, mut read] = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        let mut chunks = Vec::with_capacity((BYTES / CHUNK + 1) * (CHUNK + TAG));
        seal_chunks(&mut chunks)?;
        opened.push(timed(|| open_chunks(&chunks))?);
        // The memory is there by now, as that of a file is.
        chunks.clear();
        sealed.push(timed(|| seal_chunks(&mut chunks))?);
        chunks.clear();
        written.push(timed(|| write(&mut chunks).map(drop))?);
        read.push(timed(|| open(&chunks))?);
    }
    println!();
    for (name, mut raw, mut times) in
        [("container written", sealed, written), ("container read", opened, read)]
    {
        let (raw, time) = (median(&mut raw), median(&mut times));
        let ratio = raw.as_secs_f64() / time.as_secs_f64();
        let (alone, here) = (rate(raw), rate(time));
        println!(
            "{name:<30} {here:>6.2} GB/s  AES-256-GCM alone {alone:.2} GB/s  ratio {ratio:.2}"
        );
    }
    Ok(())
}

fn cipher() -> io::Result<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, &[7; 32]).map(LessSafeKey::new).map_err(io::Error::other)
}

/// A nonce for each chunk.
fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn seal_chunks(to: &mut Vec<u8>) -> io::Result<()> {
    let (cipher, part) = (cipher()?, [5; CHUNK]);
    let mut chunk = [0; CHUNK];
    for number in 0..(BYTES / CHUNK) as u64 {
        chunk.copy_from_slice(&part);
        let tag = cipher.seal_in_place_separate_tag(nonce(number), Aad::empty(), &mut chunk);
        to.extend_from_slice(&chunk);
        to.extend_from_slice(tag.map_err(io::Error::other)?.as_ref());
    }
    Ok(())
}

fn open_chunks(chunks: &[u8]) -> io::Result<()> {
    let cipher = cipher()?;
    let mut room = [0; CHUNK];
    for (sealed, number) in chunks.chunks(CHUNK + TAG).zip(0..) {
        let (ciphertext, tag) = sealed.split_at(CHUNK);
        cipher
            .open_separate_gather(nonce(number), Aad::empty(), ciphertext, tag, &mut room)
            .map_err(io::Error::other)?;
    }
    Ok(())
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
    loop {
        let length = reader.fill_buf()?.len();
        if length == 0 {
            return Ok(());
        }
        reader.consume(length);
    }
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
const TAG: usize = 16;
const PART: usize = 64 * 1024;

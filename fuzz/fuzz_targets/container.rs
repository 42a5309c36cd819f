//! Files and values that are encrypted outside the vault: any bytes are read without a panic, and of
//! a file that was changed nothing comes out but what stands before the change.
//!
//! Input: a byte that picks what the rest is (a file, a value, or a change and a plaintext). A change
//! is a byte that says which (a bit, a cut, bytes behind, two chunks swapped) and three that say
//! where.
#![no_main]

use std::{
    io::{Read, Write},
    sync::LazyLock,
};

use kista::{
    container::{self, Header, SealedFile, SealedValue, Stanza, Transit},
    crypto::committing::Cobblestone256,
    secret::Key,
};
use kista_fuzz::change;
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<Key<Cobblestone256>> = LazyLock::new(|| Key::build(|key| key.fill(7)));

static HEADER: LazyLock<Header> = LazyLock::new(|| {
    let stanza = Stanza::Transit(Transit::asked("transit", "pii"));
    Header::new(vec![stanza], "text/plain", b"row 1").expect("a short header")
});

fuzz_target!(init: { LazyLock::force(&KEY); }, |input: &[u8]| {
    match input {
        [0, file @ ..] => drop(opened(file)),
        [1, value @ ..] => {
            if let Ok(value) = SealedValue::read(value) {
                assert!(value.open(&KEY, b"row 1").is_err(), "nobody made it with this key");
            }
        }
        [2, how, a, b, c, plaintext @ ..] => {
            file_changed(*how, usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c), plaintext);
        }
        [_, how, a, b, c, plaintext @ ..] => {
            value_changed(*how, usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c), plaintext);
        }
        _ => {}
    }
});

/// What comes out of a file, and whether it ended well.
fn opened(file: &[u8]) -> Option<(Vec<u8>, bool)> {
    let sealed = SealedFile::read(file).ok()?;
    let mut reader = sealed.open(&KEY).ok()?;
    let mut out = Vec::new();
    let ended = reader.read_to_end(&mut out).is_ok();
    Some((out, ended))
}

fn file_changed(how: u8, place: usize, plaintext: &[u8]) {
    // Some chunks of 16 KiB, so that there are ends to swap and to cut at.
    let plaintext = plaintext.repeat(1 + usize::from(how >> 2));
    let mut writer = container::writer(&HEADER, &KEY, Vec::new()).expect("memory");
    writer.write_all(&plaintext).expect("memory");
    let file = writer.finish().expect("memory");
    assert_eq!(opened(&file), Some((plaintext.clone(), true)));
    let Some((changed, first)) = change(&file, how, place, CHUNK) else { return };
    let Some((out, ended)) = opened(&changed) else { return };
    assert!(!ended, "a changed file ended well");
    assert!(plaintext.starts_with(&out), "what came out was never in it");
    assert!(out.len() <= first, "bytes of a changed chunk came out");
}

fn value_changed(how: u8, place: usize, plaintext: &[u8]) {
    let value = container::seal_value(&HEADER, &KEY, b"row 1", plaintext);
    let read = SealedValue::read(&value).expect("as it was made");
    let back = read.open(&KEY, b"row 1").expect("as it was made");
    assert!(back.expose(|bytes| bytes == plaintext));
    assert!(read.open(&KEY, b"row 2").is_err(), "bound to another row");
    let Some((changed, _)) = change(&value, how, place, CHUNK) else { return };
    if let Ok(read) = SealedValue::read(&changed) {
        assert!(read.open(&KEY, b"row 1").is_err(), "a changed value opened");
    }
}

/// Plaintext of a chunk.
const CHUNK: usize = 16 * 1024;

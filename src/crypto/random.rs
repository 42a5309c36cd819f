//! Randomness from the system, asked each time (but for the names of requests): a generator of our
//! own would repeat itself when a virtual machine is restored twice (FORMAT.md 2).

use std::{cell::RefCell, io::Write};

use zeroize::Zeroizing;

use crate::secret::{Algorithm, Key, SecretString};

/// Fills `bytes`, one system call for the whole.
///
/// Ends the process when the system gives no randomness: no caller could go on safely, and keys
/// that are half zero are worse than none.
pub fn fill(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        let line = format!("kista: the system gives no random bytes: {error}\n");
        // Whether the line is read or not, the process ends.
        drop(std::io::stderr().write_all(line.as_bytes()));
        std::process::abort();
    }
}

/// `N` random bytes, for nonces, salts and identifiers; secrets come from [`key`].
pub fn array<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// A random key.
pub fn key<A: Algorithm>() -> Key<A> {
    Key::build(fill)
}

/// `length` characters of `0-9A-Za-z`, each with the same probability: 5.95 bits a character.
pub fn base62(length: usize) -> SecretString {
    let mut text = String::with_capacity(length);
    // One byte in 32 is refused, so that one batch nearly always suffices.
    let mut batch = Zeroizing::new(vec![0; length + length / 16 + 8]);
    while text.len() < length {
        fill(&mut batch);
        let characters = batch.iter().copied().filter_map(base62_character);
        text.extend(characters.take(length - text.len()));
    }
    SecretString::from_string(text)
}

/// The character of one random byte; 248 and above would favour the first characters.
fn base62_character(byte: u8) -> Option<char> {
    if byte >= 248 {
        return None;
    }
    let digit = byte % 62;
    // No table and no branch: '0' + digit, skipping to 'A' past 9 and to 'a' past 35.
    let code = b'0' + digit + 7 * u8::from(digit > 9) + 6 * u8::from(digit > 35);
    Some(char::from(code))
}

/// A random UUID (RFC 9562 §5.4, version 4), for accessors and identifiers that are kept.
pub fn uuid() -> String {
    uuid_of(array())
}

/// A UUID for one request. The system is asked for many of them at once: a system call for each
/// would be a fiftieth of a read's time, and a request's name need only differ from others.
pub fn request_id() -> String {
    thread_local! {
        static AHEAD: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    let bytes = AHEAD.with_borrow_mut(|ahead| {
        if ahead.is_empty() {
            let drawn = array::<{ 16 * REQUEST_IDS_AT_ONCE }>();
            ahead.extend_from_slice(drawn.as_chunks().0);
        }
        ahead.pop()
    });
    uuid_of(bytes.unwrap_or_else(array))
}

/// How many request ids one system call makes.
const REQUEST_IDS_AT_ONCE: usize = 32;

fn uuid_of(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(hex_digit(byte >> 4));
        text.push(hex_digit(byte & 0xf));
    }
    text
}

fn hex_digit(nibble: u8) -> char {
    char::from(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;
    use crate::crypto::Kdf;

    #[test]
    fn each_call_gives_other_bytes() {
        let drawn: HashSet<[u8; 16]> = (0..1_000).map(|_| array()).collect();
        assert_eq!(drawn.len(), 1_000);
        let (one, other) = (key::<Kdf>(), key::<Kdf>());
        assert!(one.expose(|one| other.expose(|other| one != other)));
    }

    #[test]
    fn each_base62_character_has_the_same_probability() {
        let mut counts = BTreeMap::new();
        for character in (0..=255).filter_map(base62_character) {
            *counts.entry(character).or_insert(0) += 1;
        }
        let alphabet: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
        assert!(counts.keys().eq(&alphabet));
        assert!(counts.values().all(|&count| count == 4));
    }

    #[test]
    fn base62_has_the_length_asked_for() {
        for length in [0, 1, 24, 43, 1_000] {
            assert!(base62(length).expose(|text| {
                text.len() == length && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
            }));
        }
    }

    #[test]
    fn a_uuid_is_of_version_4() {
        let drawn: HashSet<String> = (0..100).flat_map(|_| [uuid(), request_id()]).collect();
        assert_eq!(drawn.len(), 200);
        for uuid in drawn {
            let fields: Vec<&str> = uuid.split('-').collect();
            assert_eq!(
                fields.iter().map(|field| field.len()).collect::<Vec<_>>(),
                [8, 4, 4, 4, 12]
            );
            assert!(fields.concat().bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
            assert!(fields[2].starts_with('4'));
            assert!(fields[3].starts_with(['8', '9', 'a', 'b']));
        }
    }
}

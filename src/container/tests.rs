use std::io::{self, Read, Write};

use super::{cursor::push_prefixed, *};
use crate::{
    clock::Timestamp,
    crypto::{
        Argon2Params,
        committing::{self, Cobblestone256, Reader},
    },
    secret::{Key, SecretString},
};

const FORMAT: &str = include_str!("../../tests/vectors/format.json");

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn key(byte: u8) -> Key<Cobblestone256> {
    Key::build(|key| key.fill(byte))
}

fn header(name: &str) -> Header {
    let stanza = Stanza::Transit(Transit::asked("transit", name));
    let header = Header::new(vec![stanza], "application/octet-stream", b"row 7").unwrap();
    header.answered(3, [0x11; Transit::WRAPPED_BYTES])
}

fn file(header: &Header, key: &Key<Cobblestone256>, plaintext: &[u8]) -> Vec<u8> {
    let mut writer = writer(header, key, Vec::new()).unwrap();
    writer.write_all(plaintext).unwrap();
    writer.finish().unwrap()
}

/// What a reader gives out before it ends or refuses the file, and whether it ended.
fn opened(file: &[u8], key: &Key<Cobblestone256>) -> (Vec<u8>, bool) {
    let Ok(sealed) = SealedFile::read(file) else { return (Vec::new(), false) };
    let Ok(mut reader) = sealed.open(key) else { return (Vec::new(), false) };
    let mut plaintext = Vec::new();
    let ended = reader.read_to_end(&mut plaintext).is_ok();
    (plaintext, ended)
}

#[test]
fn the_payload_agrees_with_the_format() {
    let vectors: serde_json::Value = serde_json::from_str(FORMAT).unwrap();
    let vector = &vectors["container"];
    let mut prefix = file::MAGIC.to_vec();
    push_prefixed(&mut prefix, &bytes(&vector["header"]));
    let context = file::context(&prefix);
    assert_eq!(context.as_slice(), bytes(&vector["context"]));
    let key = Key::copy_of(&bytes(&vector["file_key"])).unwrap();
    let salt = bytes(&vector["salt"]).try_into().unwrap();
    let payload = committing::seal(&key, &salt, &context, &bytes(&vector["plaintext"]));
    assert_eq!(payload, bytes(&vector["payload"]));
    let mut plaintext = Vec::new();
    let mut reader = Reader::new(&key, &context, payload.as_slice()).unwrap();
    reader.read_to_end(&mut plaintext).unwrap();
    assert_eq!(plaintext, bytes(&vector["plaintext"]));
}

#[test]
fn a_file_comes_back_with_what_it_says_of_itself() {
    for length in [0, 1, 16_383, 16_384, 16_385, 40_000] {
        let plaintext: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
        let sealed = file(&header("pii"), &key(1), &plaintext);
        assert_eq!(SealedFile::read(&sealed[..]).unwrap().header(), &header("pii"));
        assert_eq!(opened(&sealed, &key(1)), (plaintext, true));
    }
}

#[test]
fn any_flipped_bit_is_refused_before_a_byte_of_its_chunk_is_released() {
    let plaintext = vec![7; 16_384 + 3];
    let sealed = file(&header("pii"), &key(1), &plaintext);
    let chunks = sealed.len() - (16_384 + 16 + 3 + 16);
    let second = chunks + 16_384 + 16;
    // All of header, commitment and last chunk, and a piece of the first one.
    for at in (0..chunks + 64).chain(second - 32..sealed.len()) {
        for bit in 0..8 {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1 << bit;
            let (released, ended) = opened(&flipped, &key(1));
            let expected = if at < second { 0 } else { 16_384 };
            assert_eq!((released.len(), ended), (expected, false), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn a_file_that_is_cut_or_longer_does_not_end() {
    let sealed = file(&header("pii"), &key(1), b"hello");
    for length in 0..sealed.len() {
        assert_eq!(opened(&sealed[..length], &key(1)), (Vec::new(), false), "{length}");
    }
    let longer = [&sealed[..], b"x"].concat();
    assert_eq!(opened(&longer, &key(1)), (Vec::new(), false));
}

#[test]
fn an_edited_header_opens_nothing() {
    let sealed = file(&header("pii"), &key(1), b"hello");
    let payload = &sealed[header("pii").prefix(file::MAGIC).len()..];
    let stanza = || Stanza::Transit(Transit::asked("transit", "pii"));
    let wrapped = [0x11; Transit::WRAPPED_BYTES];
    let octets = "application/octet-stream";
    for edited in [
        header("orders"),
        header("pii").answered(4, wrapped),
        Header::new(vec![stanza()], octets, b"row 8").unwrap().answered(3, wrapped),
        Header::new(vec![stanza()], "text/plain", b"row 7").unwrap().answered(3, wrapped),
        Header::new(vec![stanza(), stanza()], octets, b"row 7").unwrap().answered(3, wrapped),
    ] {
        let edited = [&edited.prefix(file::MAGIC), payload].concat();
        assert!(SealedFile::read(&edited[..]).is_ok());
        assert_eq!(opened(&edited, &key(1)), (Vec::new(), false));
    }
    let same = [&header("pii").prefix(file::MAGIC), payload].concat();
    assert_eq!(opened(&same, &key(1)), (b"hello".to_vec(), true));
}

#[test]
fn a_stanza_of_another_file_opens_nothing() {
    // Whoever can have both file keys unwrapped swaps the stanzas.
    let (first, second) = (header("pii"), header("pii").answered(3, [0x22; 104]));
    let sealed = file(&first, &key(1), b"hello");
    let payload = &sealed[first.prefix(file::MAGIC).len()..];
    let swapped = [&second.prefix(file::MAGIC), payload].concat();
    for byte in [1, 2] {
        assert_eq!(opened(&swapped, &key(byte)), (Vec::new(), false));
    }
}

#[test]
fn what_a_vault_is_asked_to_bind_is_all_but_its_answer() {
    let bound = header("pii").bound();
    assert_eq!(header("pii").answered(9, [0x33; 104]).bound(), bound);
    assert_ne!(header("orders").bound(), bound);
    let stanza = Stanza::Transit(Transit::asked("transit", "pii"));
    let other = Header::new(vec![stanza], "application/octet-stream", b"row 8").unwrap();
    assert_ne!(other.bound(), bound);
}

#[test]
fn what_is_no_file_is_refused_without_memory_for_it() {
    assert!(matches!(SealedFile::read(&b"hello, there"[..]), Err(NotAFile::Magic)));
    assert!(matches!(SealedFile::read(&b"KISTAF"[..]), Err(NotAFile::Short)));
    let told = [file::MAGIC.as_slice(), &u32::MAX.to_be_bytes()].concat();
    let long = SealedFile::read(told.chain(io::repeat(0)));
    assert!(matches!(long, Err(NotAFile::Header(HeaderError::TooLong(u32::MAX)))));
}

#[test]
fn headers_that_this_version_does_not_know_are_refused() {
    let good = header("pii").encode();
    assert_eq!(Header::parse(&good), Ok(header("pii")));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Header::parse(&bytes)
    };
    assert_eq!(with(0, 0), Err(HeaderError::Count(0)));
    assert_eq!(with(0, 17), Err(HeaderError::Count(17)));
    assert_eq!(with(1, 2), Err(HeaderError::UnknownStanza(2)));
    assert_eq!(with(1, 0), Err(HeaderError::UnknownStanza(0)));
    let longer = [&good[..], b"\0"].concat();
    assert_eq!(Header::parse(&longer), Err(HeaderError::Damaged));
    for length in 0..good.len() {
        assert!(Header::parse(&good[..length]).is_err(), "{length}");
    }
    assert_eq!(Header::new(Vec::new(), "", b""), Err(HeaderError::Count(0)));
}

#[test]
fn a_passphrase_opens_its_file_and_stands_alone() {
    let passphrase = SecretString::copy_of("correct horse");
    let (cost, created) = (Argon2Params::floor(), Timestamp::from_millis(7));
    let stanza = Passphrase::wrap(&passphrase, cost, created, &key(1)).unwrap();
    let header = Header::new(vec![Stanza::Passphrase(stanza.clone())], "", b"").unwrap();
    assert_eq!(Header::parse(&header.encode()), Ok(header.clone()));
    let unwrapped = stanza.unwrap(&passphrase).unwrap().unwrap();
    assert_eq!(opened(&file(&header, &key(1), b"hello"), &unwrapped), (b"hello".to_vec(), true));
    assert!(stanza.unwrap(&SecretString::copy_of("wrong")).unwrap().is_none());

    let two = vec![Stanza::Passphrase(stanza.clone()), Stanza::Passphrase(stanza.clone())];
    assert_eq!(Header::new(two, "", b""), Err(HeaderError::NotAlone));
    // The cost is read before anything is computed: m in KiB follows type, flags, id, time, length.
    let mut cheap = stanza.encode();
    cheap[28..32].copy_from_slice(&8_u32.to_be_bytes());
    assert_eq!(Passphrase::parse(&cheap), Err(HeaderError::Cost));
}

#[test]
fn a_value_is_bound_to_its_associated_data_and_is_no_file() {
    let sealed = seal_value(&header("pii"), &key(1), b"row 1", b"ana@x.org");
    let value = SealedValue::read(&sealed).unwrap();
    assert_eq!(value.header(), &header("pii"));
    assert!(value.open(&key(1), b"row 1").unwrap().expose(|plain| plain == b"ana@x.org"));
    assert!(value.open(&key(1), b"row 2").is_err());
    assert!(value.open(&key(2), b"row 1").is_err());
    assert!(matches!(SealedFile::read(&sealed[..]), Err(NotAFile::Magic)));
    // As a file of the same bytes it is none either.
    let mut as_file = sealed.clone();
    as_file[..8].copy_from_slice(file::MAGIC);
    assert_eq!(opened(&as_file, &key(1)), (Vec::new(), false));
    for at in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[at] ^= 1;
        let read = SealedValue::read(&flipped).ok().and_then(|v| v.open(&key(1), b"row 1").ok());
        assert!(read.is_none(), "byte {at}");
    }
}

#[test]
fn only_the_committing_type_wraps_file_keys() {
    let ciphertext = header("pii").stanzas().first().map(|stanza| match stanza {
        Stanza::Transit(transit) => transit.ciphertext(),
        Stanza::Passphrase(_) => unreachable!(),
    });
    let read = Transit::read_ciphertext(&ciphertext.unwrap()).unwrap();
    assert_eq!(read, (3, [0x11; 104]));
    // aes256-gcm96, xchacha20-poly1305, aes256-siv, rsa-2048 of 32 bytes.
    for length in [60, 72, 48, 256] {
        let other = format!("vault:v1:{}", data_encoding::BASE64.encode(&vec![0; length]));
        assert_eq!(Transit::read_ciphertext(&other), Err(NotCommitting));
    }
}

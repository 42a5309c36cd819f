//! The textual encoding of keys (RFC 7468): one block with a label, base64 of DER in lines of 64.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::secret::{SecretBuffer, SecretBytes};

/// The block of `der` under `label`, ending in a newline.
///
/// The text is allocated once, so that of a private key a caller may make a
/// [`SecretString`](crate::secret::SecretString) without leaving a copy.
pub fn encode(label: &str, der: &[u8]) -> String {
    let lines = der.len().div_ceil(LINE_BYTES);
    let mut text = String::with_capacity(lines * (LINE_CHARACTERS + 1) + 2 * label.len() + 32);
    text.extend(["-----BEGIN ", label, "-----\n"]);
    let mut line = Zeroizing::new([0; LINE_CHARACTERS]);
    for piece in der.chunks(LINE_BYTES) {
        #[expect(clippy::expect_used, reason = "48 bytes become 64 characters, fewer fewer")]
        let written = STANDARD.encode_slice(piece, line.as_mut_slice()).expect("a line has room");
        text.extend(line.iter().take(written).copied().map(char::from));
        text.push('\n');
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

/// The label and the content of the one block that `text` is.
///
/// Strict (RFC 7468 §3, figure 3), but for the length of lines and for white space around the
/// block and at the ends of lines: nothing before or after the block, no headers, no second block,
/// canonical base64 with padding.
pub fn decode(text: &str) -> Option<(&str, SecretBytes)> {
    let (label, body) = text.trim().strip_prefix("-----BEGIN ")?.split_once("-----")?;
    let body = body.strip_suffix("-----")?.strip_suffix(label)?.strip_suffix("-----END ")?;
    let mut characters = SecretBuffer::with_capacity(body.len());
    let mut lines = body.lines();
    // The line of BEGIN ends here, so nothing else stands in it.
    if !lines.next()?.trim_end().is_empty() || !body.ends_with('\n') || !is_label(label) {
        return None;
    }
    for line in lines {
        characters.extend_from_slice(line.trim_end().as_bytes());
    }
    let characters = characters.into_wiped();
    let mut der = Zeroizing::new(vec![0; characters.len()]);
    let length = STANDARD.decode_slice(characters.as_slice(), &mut der).ok()?;
    let der = der.get(..length).filter(|der| !der.is_empty())?;
    Some((label, SecretBytes::copy_of(der)))
}

/// Capital letters, digits and single spaces: what the labels of keys are made of.
fn is_label(label: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    label.split(' ').all(word)
}

/// Characters in a line (RFC 7468 §2), and the bytes they stand for.
const LINE_CHARACTERS: usize = 64;
const LINE_BYTES: usize = LINE_CHARACTERS / 4 * 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::vectors;

    const TRANSIT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/transit/keys.json"));

    #[test]
    fn blocks_agree_with_a_peer() {
        let file = vectors::parse(TRANSIT);
        for key in vectors::list(&file["keys"]) {
            for (name, export) in key["exports"].as_object().unwrap() {
                let Some(text) = export["pem"].as_str() else { continue };
                let (label, der) = decode(text).unwrap();
                assert_eq!(label, export["label"].as_str().unwrap(), "{name}");
                assert!(der.expose(|der| der == vectors::bytes(&export["der"])), "{name}");
                assert_eq!(der.expose(|der| encode(label, der)).trim_end(), text, "{name}");
            }
        }
    }

    #[test]
    fn the_text_is_allocated_once() {
        for length in [0, 1, 47, 48, 49, 2000] {
            let text = encode("EC PRIVATE KEY", &vec![0xa5; length]);
            let lines = length.div_ceil(LINE_BYTES);
            assert!(text.capacity() <= lines * (LINE_CHARACTERS + 1) + 60, "{length}");
        }
    }

    #[test]
    fn white_space_around_and_other_line_ends_are_taken() {
        let block = encode("PUBLIC KEY", &[7; 100]);
        let forms = [
            block.trim_end().to_owned(),
            format!("\n  {block}\n\n"),
            block.replace('\n', "\r\n"),
            block.replace('\n', " \n"),
        ];
        for text in forms {
            let (label, der) = decode(&text).unwrap();
            assert_eq!(label, "PUBLIC KEY");
            assert!(der.expose(|der| der == [7; 100]), "{text}");
        }
    }

    #[test]
    fn what_is_no_single_block_is_refused() {
        let block = encode("PUBLIC KEY", &[7; 100]);
        let refused = [
            String::new(),
            "-----BEGIN PUBLIC KEY-----".to_owned(),
            "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n".to_owned(),
            "-----BEGIN PUBLIC KEY-----BwcH\n-----END PUBLIC KEY-----\n".to_owned(),
            "-----BEGIN PUBLIC KEY-----\nBwcH-----END PUBLIC KEY-----\n".to_owned(),
            "-----BEGIN PUBLIC KEY-----\nBwc\n-----END PUBLIC KEY-----\n".to_owned(),
            "-----BEGIN PUBLIC KEY-----\nBx==\n-----END PUBLIC KEY-----\n".to_owned(),
            "-----BEGIN PUBLIC KEY-----\nBw=\n=\nBw==\n-----END PUBLIC KEY-----\n".to_owned(),
            format!("key: {block}"),
            format!("{block}.\n"),
            format!("{block}{block}"),
            block.replace("END PUBLIC", "END PRIVATE"),
            block.replace("PUBLIC KEY", ""),
            block.replace("PUBLIC KEY", "PUBLIC  KEY"),
            block.replace("PUBLIC KEY", "public key"),
            block.replace("PUBLIC KEY-----\nB", "PUBLIC KEY-----\nProc-Type: 4,ENCRYPTED\n\nB"),
        ];
        for text in refused {
            assert!(decode(&text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back(der in prop::collection::vec(any::<u8>(), 1..300)) {
            let text = encode("PRIVATE KEY", &der);
            let (label, read) = decode(&text).unwrap();
            prop_assert_eq!(label, "PRIVATE KEY");
            prop_assert!(read.expose(|read| read == der));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            drop(decode(&text));
        }
    }
}

//! Reads the vectors of `tests/vectors/`, for the tests of this folder.

use serde_json::Value;

use crate::secret::{Algorithm, Key};

const COBBLESTONE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/vectors/wycheproof/cobblestone_256.json"
));

pub(super) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Every test of a Wycheproof file, with its group.
pub(super) fn wycheproof(file: &Value) -> Vec<(&Value, &Value)> {
    let tests: Vec<_> = list(&file["groups"])
        .iter()
        .flat_map(|group| list(&group["tests"]).iter().map(move |test| (group, test)))
        .collect();
    assert_eq!(u64::try_from(tests.len()).unwrap(), file["tests"].as_u64().unwrap());
    tests
}

pub(super) fn is_valid(test: &Value) -> bool {
    match test["result"].as_str().unwrap() {
        "valid" => true,
        "invalid" => false,
        other => panic!("result {other}"),
    }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

pub(super) fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

pub(super) fn bytes(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

pub(super) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

pub(super) fn key<A: Algorithm>(value: &Value) -> Key<A> {
    Key::copy_of(&bytes(value)).unwrap()
}

/// One test of Wycheproof's for Cobblestone-256.
pub(super) struct Cobblestone {
    pub(super) name: String,
    pub(super) key: Vec<u8>,
    pub(super) context: Vec<u8>,
    pub(super) sealed: Vec<u8>,
    /// SHA-512 of the plaintext, when the message is valid.
    pub(super) valid_digest: Option<Vec<u8>>,
    /// SHA-512 of what a reader may give out before it refuses the message.
    pub(super) prefix_digest: Option<Vec<u8>>,
    flags: Vec<Value>,
}

impl Cobblestone {
    /// Whether the message is refused before a chunk is looked at.
    pub(super) fn fails_at_header(&self) -> bool {
        self.flags.iter().any(|flag| flag == "HeaderFailure")
    }
}

pub(super) fn cobblestone() -> Vec<Cobblestone> {
    let file = parse(COBBLESTONE);
    let read = |(_, test): (&Value, &Value)| {
        let digest = test.get("msgSha512").map(bytes);
        Cobblestone {
            name: test["comment"].as_str().unwrap().to_owned(),
            key: bytes(&test["key"]),
            context: bytes(&test["ctx"]),
            sealed: list(&test["ct"]).iter().flat_map(piece).collect(),
            valid_digest: digest.clone().filter(|_| is_valid(test)),
            prefix_digest: digest,
            flags: list(&test["flags"]).to_vec(),
        }
    };
    wycheproof(&file).into_iter().map(read).collect()
}

/// A number stands for so many zeros: there the plaintext was the key stream.
fn piece(piece: &Value) -> Vec<u8> {
    match piece.as_u64() {
        Some(zeros) => vec![0; usize::try_from(zeros).unwrap()],
        None => bytes(piece),
    }
}

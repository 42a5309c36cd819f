//! Reads the vectors of `tests/vectors/`, for the tests of this folder.

use serde_json::Value;

use crate::secret::{Algorithm, Key};

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

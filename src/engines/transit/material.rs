//! New key material, and asymmetric pairs.

use super::{
    key::{Key, Version},
    kind::Kind,
    record::{Material, VersionRecord},
};
use crate::{clock::Timestamp, crypto::random, gate::ApiError, secret::SecretBytes};

pub(super) enum Asymmetric {}

impl Asymmetric {
    pub(super) fn of_record(_: Kind, _: &VersionRecord) -> Option<Self> { None }
    pub(super) fn derived(_: &[u8], _: &[u8]) -> Option<Self> { None }
}
pub(super) fn pair_name(_: Kind) -> &'static str { "" }
impl Key {
    pub(super) fn encrypt_rsa(&self, _: &Version, _: &[u8]) -> Result<Vec<u8>, String> { Err(String::new()) }
    pub(super) fn decrypt_rsa(&self, _: &Version, _: &[u8]) -> Result<SecretBytes, String> { Err(String::new()) }
    pub(super) fn public_text(&self, _: &Version, _: Option<&[u8]>) -> Result<String, ApiError> { Ok(String::new()) }
}

pub(super) async fn generate(kind: Kind, key_size: u32, now: Timestamp) -> Result<VersionRecord, ApiError> {
    let hmac = || Material::of(SecretBytes::build(32, random::fill));
    match kind.key_bytes() {
        Some(l) => Ok(VersionRecord { created: now, private: Material::of(SecretBytes::build(l, random::fill)), public: vec![], hmac: hmac() }),
        None => Ok(VersionRecord { created: now, private: Material::of(SecretBytes::build(key_size as usize, random::fill)), public: vec![], hmac: hmac() }),
    }
}

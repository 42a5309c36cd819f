use num_bigint::BigUint;

use super::{RsaPadding, RsaPublic, SaltLength};
use crate::crypto::Hash;

/// Whether `signature` opens under `key` to the padding of `digest`.
pub(super) fn holds(key: &RsaPublic, padding: RsaPadding, digest: &[u8], signature: &[u8]) -> bool {
    let Some(encoded) = opened(key, signature) else { return false };
    match padding {
        RsaPadding::Pkcs1v15(hash) => is_pkcs1v15(&encoded, hash, digest),
        RsaPadding::Pss(hash, salt) => is_pss(&encoded, hash, salt, digest).is_some(),
    }
}

/// RSAVP1 (RFC 8017 §5.2.2): the signature's number to the public exponent, as long as the
/// modulus. What has another length, or is not below the modulus, is no signature (§8.1.2).
fn opened(key: &RsaPublic, signature: &[u8]) -> Option<Vec<u8>> {
    let modulus = BigUint::from_bytes_be(key.n());
    let number = BigUint::from_bytes_be(signature);
    if signature.len() != key.n().len() || number >= modulus {
        return None;
    }
    let opened = number.modpow(&BigUint::from_bytes_be(key.e()), &modulus).to_bytes_be();
    let mut encoded = vec![0; signature.len().checked_sub(opened.len())?];
    encoded.extend_from_slice(&opened);
    Some(encoded)
}

/// EMSA-PKCS1-v1_5 (RFC 8017 §9.2): encodes anew and compares all of it, since parsing what a
/// signature opens to is how signatures get forged.
fn is_pkcs1v15(encoded: &[u8], hash: Option<Hash>, digest: &[u8]) -> bool {
    let info = hash.map(digest_info).unwrap_or_default();
    let length = info.len() + digest.len();
    // At least eight bytes of padding between 00 01 and 00.
    let Some(filled @ 8..) = encoded.len().checked_sub(length + 3) else {
        return false;
    };
    hash.is_none_or(|hash| digest.len() == hash.bytes())
        && encoded == [&[0, 1], vec![0xff; filled].as_slice(), &[0], &info, digest].concat()
}

/// The DER in front of a digest (RFC 8017 §9.2 note 1, and the NIST identifiers of SHA-3).
fn digest_info(hash: Hash) -> Vec<u8> {
    let nist = |last: u8, length: u8| {
        let identifier = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last];
        let head = [0x30, 0x11 + length, 0x30, 0x0d, 0x06, 0x09];
        [&head[..], &identifier, &[0x05, 0x00, 0x04, length]].concat()
    };
    match hash {
        Hash::Sha1 => vec![
            0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04,
            0x14,
        ],
        Hash::Sha2_256 => nist(1, 32),
        Hash::Sha2_384 => nist(2, 48),
        Hash::Sha2_512 => nist(3, 64),
        Hash::Sha2_224 => nist(4, 28),
        Hash::Sha3_224 => nist(7, 28),
        Hash::Sha3_256 => nist(8, 32),
        Hash::Sha3_384 => nist(9, 48),
        Hash::Sha3_512 => nist(10, 64),
    }
}

/// EMSA-PSS-VERIFY (RFC 8017 §9.1.2), its steps in their order. The modulus fills whole bytes, so
/// the encoding is as long and has one bit less.
fn is_pss(encoded: &[u8], hash: Hash, salt: SaltLength, digest: &[u8]) -> Option<()> {
    let claim = |holds: bool| holds.then_some(());
    claim(digest.len() == hash.bytes())?;
    let (masked, digest_and_trailer) =
        encoded.split_at_checked(encoded.len().checked_sub(hash.bytes() + 1)?)?;
    let (expected, trailer) = digest_and_trailer.split_at_checked(hash.bytes())?;
    claim(trailer == [0xbc])?;
    let (first, rest) = masked.split_first()?;
    claim(*first < 0x80)?;
    let mut mask = mgf1(hash, expected, masked.len()).into_iter();
    // The bit that the encoding lacks is cleared on both sides.
    let block = [(first ^ mask.next()?) & 0x7f]
        .into_iter()
        .chain(rest.iter().zip(mask).map(|(byte, mask)| byte ^ mask))
        .collect::<Vec<_>>();
    let zeros = block.iter().take_while(|byte| **byte == 0).count();
    let (one, found) = block.split_at_checked(zeros)?.1.split_first()?;
    claim(*one == 1)?;
    claim(match salt {
        SaltLength::Auto => true,
        SaltLength::Hash => found.len() == hash.bytes(),
        SaltLength::Bytes(length) => found.len() == length,
    })?;
    claim(hash.digest_of(&[&[0; 8], digest, found]) == expected)
}

/// MGF1 (RFC 8017 appendix B.2.1).
fn mgf1(hash: Hash, seed: &[u8], length: usize) -> Vec<u8> {
    let block = |counter: u32| hash.digest_of(&[seed, &counter.to_be_bytes()]);
    (0..).flat_map(block).take(length).collect()
}

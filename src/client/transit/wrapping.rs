//! How a key travels to the server: under an AES key of its own, and that under the RSA key that
//! the server shows for it.

use aws_lc_rs::{
    key_wrap::{AES_256, AesKek, KeyWrapPadded as _},
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};

use crate::{crypto::random, secret::SecretBytes};

/// RSA-OAEP(AES key) || AES-KWP(key), which the server calls a ciphertext (RFC 8017 §7.1, RFC
/// 5649). `None` when the server's key is no RSA key in PEM, or the key to wrap is empty.
pub(super) fn wrap(wrapping_key: &str, key: &SecretBytes) -> Option<Vec<u8>> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(wrapping_key.as_bytes()).ok()?;
    let rsa = PublicEncryptingKey::from_der(&der).and_then(|key| {
        // So that both steps fail with one type.
        OaepPublicEncryptingKey::new(key).map_err(Into::into)
    });
    let rsa = rsa.ok()?;
    let aes = SecretBytes::build(AES_KEY_BYTES, random::fill);

    let mut wrapped = vec![0; rsa.ciphertext_size()];
    let head = aes.expose(|aes| {
        rsa.encrypt(&OAEP_SHA256_MGF1SHA256, aes, &mut wrapped, None).map(|head| head.len())
    });
    wrapped.truncate(head.ok()?);

    let kek = aes.expose(|aes| AesKek::new(&AES_256, aes)).ok()?;
    let mut tail = vec![0; key.len() + LONGEST_PADDING];
    let tail = key.expose(|key| kek.wrap_with_padding(key, &mut tail).map(|tail| tail.to_vec()));
    wrapped.extend_from_slice(&tail.ok()?);
    Some(wrapped)
}

const AES_KEY_BYTES: usize = 32;
/// What AES-KWP adds at most (RFC 5649 §4.1).
const LONGEST_PADDING: usize = 15;

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::AsDer as _,
        rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey},
    };

    use super::*;

    #[test]
    fn what_is_wrapped_is_unwrapped_by_the_holder_of_the_private_key() {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der = private.public_key().as_der().unwrap();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            data_encoding::BASE64.encode(der.as_ref())
        );
        let private = OaepPrivateDecryptingKey::new(private).unwrap();
        for key in [&[7_u8; 32][..], b"1", &[9; 1219]] {
            let wrapped = wrap(&pem, &SecretBytes::copy_of(key)).unwrap();
            let (head, tail) = wrapped.split_at(256);
            let mut aes = [0; 256];
            let aes = private.decrypt(&OAEP_SHA256_MGF1SHA256, head, &mut aes, None).unwrap();
            let mut plain = vec![0; tail.len()];
            let kek = AesKek::new(&AES_256, aes).unwrap();
            assert_eq!(kek.unwrap_with_padding(tail, &mut plain).unwrap(), key);
        }
    }

    #[test]
    fn a_wrapping_key_that_is_none_is_refused() {
        for pem in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert!(wrap(pem, &SecretBytes::copy_of(&[7; 32])).is_none());
        }
    }
}

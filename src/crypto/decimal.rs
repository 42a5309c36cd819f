//! Numbers of any length as decimal digits, which is how backups of the peers hold pairs.

use num_bigint::BigUint;

use crate::secret::{SecretBytes, SecretString};

/// The digits of a big-endian number. The time it takes depends on the number: for what leaves in
/// the open anyway.
pub fn digits_of(number: &[u8]) -> SecretString {
    SecretString::from_string(BigUint::from_bytes_be(number).to_str_radix(10))
}

/// The big-endian number of digits; None for anything but digits, and for more than any key has.
pub fn number_of(digits: &str) -> Option<SecretBytes> {
    if digits.len() > MAX_DIGITS || !digits.bytes().all(|one| one.is_ascii_digit()) {
        return None;
    }
    let number = BigUint::parse_bytes(digits.as_bytes(), 10)?;
    Some(SecretBytes::from_vec(number.to_bytes_be()))
}

/// Digits of the largest number of an RSA-4096 pair.
const MAX_DIGITS: usize = 1_234;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [[1; 512].as_slice(), &[7], &[0xff; 66]] {
            let digits = digits_of(number);
            let back = digits.expose(number_of).unwrap();
            assert!(back.expose(|back| back == number));
        }
        assert!(digits_of(&[1, 0]).expose(|digits| digits == "256"));
    }

    #[test]
    fn what_is_no_number_of_a_key_is_refused() {
        for text in ["", "-1", "1.0", "1e3", "0x1", " 1"] {
            assert!(number_of(text).is_none(), "{text:?}");
        }
        assert!(number_of(&"9".repeat(MAX_DIGITS + 1)).is_none());
    }
}

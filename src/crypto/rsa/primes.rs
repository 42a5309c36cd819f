use num_bigint::BigUint;

use super::RsaComponents;
use crate::secret::SecretBytes;

impl RsaComponents {
    /// Adds what follows from the primes (RFC 8017 §3.2): the exponents and the coefficient of the
    /// Chinese remainder. None when they are no primes of a pair.
    ///
    /// The time it takes depends on the numbers: for pairs that came here in the open, such as in a
    /// backup.
    pub fn of_primes(
        n: Vec<u8>,
        e: Vec<u8>,
        d: SecretBytes,
        p: SecretBytes,
        q: SecretBytes,
    ) -> Option<Self> {
        let number = |bytes: &SecretBytes| bytes.expose(BigUint::from_bytes_be);
        let bytes = |number: BigUint| SecretBytes::from_vec(number.to_bytes_be());
        let one = BigUint::from(1_u8);
        let (exponent, first, second) = (number(&d), number(&p), number(&q));
        if first <= one || second <= one || &first * &second != BigUint::from_bytes_be(&n) {
            return None;
        }
        let qinv = second.modinv(&first)?;
        let (dp, dq) = (&exponent % (first - &one), &exponent % (second - &one));
        Some(Self { n, e, d, p, q, dp: bytes(dp), dq: bytes(dq), qinv: bytes(qinv) })
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        crypto::rsa::{RsaComponents, RsaKey},
        secret::SecretBytes,
    };

    #[test]
    fn what_follows_from_the_primes_is_what_was_generated() {
        let key = RsaKey::generate(2_048).unwrap();
        let known = key.components();
        let copy = |bytes: &SecretBytes| bytes.expose(SecretBytes::copy_of);
        let whole = |n: &[u8], p: &SecretBytes, q: &SecretBytes| {
            let d = copy(&known.d);
            RsaComponents::of_primes(n.to_vec(), known.e.clone(), d, copy(p), copy(q))
        };
        let made = whole(&known.n, &known.p, &known.q).unwrap();
        let trimmed = |bytes: &SecretBytes| {
            bytes.expose(|bytes| {
                bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>()
            })
        };
        for (made, known) in
            [(&made.dp, &known.dp), (&made.dq, &known.dq), (&made.qinv, &known.qinv)]
        {
            assert_eq!(trimmed(made), trimmed(known));
        }
        assert!(RsaKey::from_components(made).is_ok());
        assert!(whole(&known.n, &known.p, &known.p).is_none());
        assert!(whole(&[1], &known.p, &known.q).is_none());
    }
}

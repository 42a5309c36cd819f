//! Shamir's secret sharing over GF(256), in Vault's share form: y bytes, then x (FORMAT.md 8).
//!
//! Any `threshold` shares give the secret; fewer say nothing about it. A wrong share is not seen
//! here: what comes out is checked against the slot's commitment. Arithmetic has no tables and no
//! branches on secrets, for a table look-up shows its index in the cache.

use zeroize::Zeroizing;

use super::random;
use crate::secret::SecretBytes;

/// Why a secret cannot be split as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// There is nothing to split.
    #[error("the secret to split is empty")]
    Empty,
    /// Neither 2 <= threshold <= shares nor 1 of 1.
    #[error(
        "{threshold} of {shares} shares cannot be made: the threshold goes from 2 to the number of \
         shares, or give 1 of 1"
    )]
    Threshold {
        /// Threshold asked for.
        threshold: u8,
        /// Shares asked for.
        shares: u8,
    },
}

/// The shares do not fit together: none, of different or too short a length, or one x twice or
/// zero.
///
/// One text, so that it does not tell which share is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shares do not fit together")]
pub struct CombineError;

/// Splits `secret` into `shares`, of which any `threshold` give it back. 1 of 1 is the bare secret.
///
/// Two splits of one secret give independent shares. Each is one byte longer than the secret; their
/// x are drawn without order, so that a share does not show which holder came first.
///
/// # Errors
/// [`SplitError`] when the secret is empty or the numbers are not 2 <= threshold <= shares or 1 of
/// 1.
pub fn split(secret: &[u8], threshold: u8, shares: u8) -> Result<Vec<SecretBytes>, SplitError> {
    if secret.is_empty() {
        return Err(SplitError::Empty);
    }
    if (threshold, shares) == (1, 1) {
        return Ok(vec![SecretBytes::copy_of(secret)]);
    }
    if threshold < 2 || threshold > shares {
        return Err(SplitError::Threshold { threshold, shares });
    }
    // Uniform over all of GF(256), the top coefficient too: were it never zero, threshold - 1
    // shares would rule out one value of each secret byte.
    let degree = usize::from(threshold) - 1;
    let mut coefficients = Zeroizing::new(vec![0; secret.len() * degree]);
    random::fill(&mut coefficients);
    let points = shuffled_points(shares).into_iter();
    Ok(points.map(|x| share(secret, &coefficients, degree, x)).collect())
}

/// Gives back the secret of `shares`; a single one is the secret itself (1 of 1).
///
/// With too few shares, or one of another split, the answer is a different secret: the caller
/// checks it.
///
/// # Errors
/// [`CombineError`] when there are none, or their lengths or x do not fit together.
pub fn combine(shares: &[&SecretBytes]) -> Result<SecretBytes, CombineError> {
    let (first, others) = shares.split_first().ok_or(CombineError)?;
    if others.is_empty() {
        return Ok(first.expose(SecretBytes::copy_of));
    }
    let length = first.len().checked_sub(1).filter(|&length| length > 0).ok_or(CombineError)?;
    if others.iter().any(|share| share.len() != first.len()) {
        return Err(CombineError);
    }
    let points = points_of(shares)?;
    Ok(SecretBytes::build(length, |secret| {
        for (share, &x) in shares.iter().zip(&points) {
            let weight = weight_at_zero(x, &points);
            share.expose(|y| {
                for (sum, &y) in secret.iter_mut().zip(y) {
                    *sum ^= multiply(y, weight);
                }
            });
        }
    }))
}

/// One share: the polynomial of each secret byte at `x` by Horner's rule, then `x`.
fn share(secret: &[u8], coefficients: &[u8], degree: usize, x: u8) -> SecretBytes {
    SecretBytes::build(secret.len() + 1, |share| {
        let polynomials = secret.iter().zip(coefficients.chunks_exact(degree));
        for (y, (&constant, higher)) in share.iter_mut().zip(polynomials) {
            let sum = higher.iter().fold(0, |sum, &next| multiply(sum, x) ^ next);
            *y = multiply(sum, x) ^ constant;
        }
        if let Some(last) = share.last_mut() {
            *last = x;
        }
    })
}

/// `count` of 1..=255 in random order (Fisher-Yates, as far as it is needed).
fn shuffled_points(count: u8) -> Vec<u8> {
    let mut points: Vec<u8> = (1..=u8::MAX).collect();
    for (place, left) in (0..count).zip((0..u8::MAX).rev()) {
        points.swap(usize::from(place), usize::from(place + random_up_to(left)));
    }
    points.truncate(usize::from(count));
    points
}

/// A uniform number in 0..=`last`: random bytes under the next power of two, until one fits.
fn random_up_to(last: u8) -> u8 {
    let mask = u8::MAX.checked_shr(last.leading_zeros()).unwrap_or(0);
    loop {
        let [byte] = random::array();
        if byte & mask <= last {
            return byte & mask;
        }
    }
}

/// The x of each share, all different and none zero.
fn points_of(shares: &[&SecretBytes]) -> Result<Vec<u8>, CombineError> {
    let mut points = Vec::with_capacity(shares.len());
    for share in shares {
        let x = share.expose(|bytes| bytes.last().copied()).ok_or(CombineError)?;
        if x == 0 || points.contains(&x) {
            return Err(CombineError);
        }
        points.push(x);
    }
    Ok(points)
}

/// Lagrange's weight of the point `x` among `points`, at zero; subtraction is XOR.
fn weight_at_zero(x: u8, points: &[u8]) -> u8 {
    points
        .iter()
        .filter(|&&other| other != x)
        .fold(1, |weight, &other| multiply(weight, multiply(other, inverse(other ^ x))))
}

/// The product in GF(256) modulo x^8 + x^4 + x^3 + x + 1 (0x11B), in constant time.
fn multiply(a: u8, b: u8) -> u8 {
    let mut product = 0;
    let mut shifted = a;
    for bit in 0..8 {
        // Masks instead of branches: all ones where the bit is set.
        product ^= shifted & (b >> bit & 1).wrapping_neg();
        let carry = (shifted >> 7).wrapping_neg();
        shifted = shifted << 1 ^ carry & REDUCTION;
    }
    product
}

/// The inverse, a^254 (Fermat, the group has 255 elements); zero stays zero.
fn inverse(a: u8) -> u8 {
    // 254 = 0b1111_1110: square seven times, multiply the squares.
    let mut power = a;
    let mut product = 1;
    for _ in 0..7 {
        power = multiply(power, power);
        product = multiply(product, power);
    }
    product
}

/// 0x11B without its top bit, which the shift drops.
const REDUCTION: u8 = 0x1b;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::vectors;

    const SHAMIR: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/shamir.json"));

    #[test]
    fn published_shares_combine() {
        let file = vectors::parse(SHAMIR);
        for test in vectors::list(&file["tests"]) {
            let secret = vectors::bytes(&test["secret"]);
            let shares: Vec<_> = vectors::list(&test["shares"])
                .iter()
                .map(|share| SecretBytes::from_vec(vectors::bytes(share)))
                .collect();
            let threshold = vectors::number(&test["threshold"]);
            for subset in subsets(&shares) {
                let opens = combine(&subset).is_ok_and(|combined| is(&combined, &secret));
                let enough = subset.len() >= usize::try_from(threshold).unwrap();
                assert_eq!(opens, enough, "{}: {} shares", test["name"], subset.len());
            }
        }
    }

    #[test]
    fn every_quorum_opens_and_no_smaller_set() {
        let secret = random::array::<32>();
        for count in 2..=6 {
            for threshold in 2..=count {
                let shares = split(&secret, threshold, count).unwrap();
                assert_eq!(shares.len(), usize::from(count));
                assert!(shares.iter().all(|share| share.len() == 33));
                for subset in subsets(&shares) {
                    let opens = combine(&subset).is_ok_and(|combined| is(&combined, &secret));
                    assert_eq!(opens, subset.len() >= usize::from(threshold));
                }
            }
        }
    }

    #[test]
    fn all_255_shares_work() {
        let secret = random::array::<32>();
        let shares = split(&secret, 255, 255).unwrap();
        let all: Vec<_> = shares.iter().collect();
        assert!(is(&combine(&all).unwrap(), &secret));
        assert!(!is(&combine(&all[1..]).unwrap(), &secret));
    }

    #[test]
    fn one_of_one_is_the_bare_secret() {
        let secret = random::array::<32>();
        let shares = split(&secret, 1, 1).unwrap();
        assert_eq!(shares.len(), 1);
        assert!(is(&shares[0], &secret));
        assert!(is(&combine(&[&shares[0]]).unwrap(), &secret));
    }

    #[test]
    fn other_thresholds_are_refused() {
        for (threshold, shares) in [(0, 0), (0, 1), (1, 0), (1, 2), (1, 255), (2, 1), (4, 3)] {
            let refused = split(&[1; 32], threshold, shares).err();
            assert_eq!(refused, Some(SplitError::Threshold { threshold, shares }));
        }
        assert_eq!(split(&[], 2, 3).err(), Some(SplitError::Empty));
        assert_eq!(split(&[], 1, 1).err(), Some(SplitError::Empty));
    }

    #[test]
    fn shares_that_do_not_fit_are_refused() {
        let shares = split(&[1; 32], 2, 3).unwrap();
        let changed = |change: fn(&mut Vec<u8>)| {
            let mut bytes = shares[1].expose(<[u8]>::to_vec);
            change(&mut bytes);
            SecretBytes::from_vec(bytes)
        };
        let short = changed(|bytes| bytes.truncate(32));
        let long = changed(|bytes| bytes.push(1));
        let zero = changed(|bytes| bytes[32] = 0);
        let empty = SecretBytes::from_vec(Vec::new());
        let mut used = shares[1].expose(<[u8]>::to_vec);
        used[32] = shares[0].expose(|bytes| bytes[32]);
        let used = SecretBytes::from_vec(used);
        for bad in [&short, &long, &zero, &empty, &used, &shares[0]] {
            assert_eq!(combine(&[&shares[0], bad]).err(), Some(CombineError));
            assert_eq!(combine(&[bad, &shares[0]]).err(), Some(CombineError));
        }
        assert_eq!(combine(&[]).err(), Some(CombineError));
        assert_eq!(combine(&[&empty, &empty]).err(), Some(CombineError));
        let (x, y) = (SecretBytes::copy_of(&[1]), SecretBytes::copy_of(&[2]));
        assert_eq!(combine(&[&x, &y]).err(), Some(CombineError));
    }

    #[test]
    fn a_foreign_share_does_not_give_the_secret() {
        let secret = random::array::<32>();
        let (ours, others) = (split(&secret, 2, 2).unwrap(), split(&secret, 2, 255).unwrap());
        let x = ours[0].expose(|bytes| bytes[32]);
        let foreign = others.iter().find(|share| share.expose(|bytes| bytes[32] != x)).unwrap();
        assert!(!is(&combine(&[&ours[0], foreign]).unwrap(), &secret));
    }

    #[test]
    fn two_splits_of_one_secret_are_independent() {
        let (one, other) = (split(&[7; 32], 2, 255).unwrap(), split(&[7; 32], 2, 255).unwrap());
        for share in &one {
            assert!(other.iter().all(|other| !other.expose(|bytes| is(share, bytes))));
        }
    }

    /// Both coefficients of a quadratic, found from two shares: the top one takes every value too.
    #[test]
    fn coefficients_are_uniform() {
        let length = 256 * 256;
        let shares = split(&vec![0; length], 3, 3).unwrap();
        let mut middle = [0; 256];
        let mut top = [0; 256];
        shares[0].expose(|one| {
            shares[1].expose(|two| {
                let (x1, x2) = (one[length], two[length]);
                for (&y1, &y2) in one[..length].iter().zip(two) {
                    // y / x = middle + top x, as the constant is zero.
                    let (slope1, slope2) = (multiply(y1, inverse(x1)), multiply(y2, inverse(x2)));
                    let highest = multiply(slope1 ^ slope2, inverse(x1 ^ x2));
                    top[usize::from(highest)] += 1;
                    middle[usize::from(slope1 ^ multiply(highest, x1))] += 1;
                }
            });
        });
        assert!(looks_uniform(&top), "{top:?}");
        assert!(looks_uniform(&middle), "{middle:?}");
    }

    #[test]
    fn points_are_distinct_and_none_is_zero_or_favoured() {
        let mut firsts = [0; 256];
        let mut seconds = [0; 256];
        for _ in 0..256 * 100 {
            let points = shuffled_points(2);
            firsts[usize::from(points[0])] += 1;
            seconds[usize::from(points[1])] += 1;
        }
        assert_eq!((firsts[0], seconds[0]), (0, 0));
        assert!(looks_uniform(&firsts[1..]), "{firsts:?}");
        assert!(looks_uniform(&seconds[1..]), "{seconds:?}");
        let mut all = shuffled_points(255);
        assert_ne!(all, (1..=255).collect::<Vec<u8>>());
        all.sort_unstable();
        assert_eq!(all, (1..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn the_field_is_the_one_of_aes() {
        // FIPS 197 §4.2 and §4.2.1.
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        assert_eq!(multiply(0x57, 0x13), 0xfe);
        for a in 0..=255 {
            assert_eq!(multiply(a, inverse(a)), u8::from(a != 0));
            for b in 0..=255 {
                assert_eq!(multiply(a, b), by_division(a, b));
            }
        }
    }

    proptest! {
        #[test]
        fn any_quorum_of_any_split_gives_the_secret(
            secret in proptest::collection::vec(any::<u8>(), 1..100),
            (threshold, count) in (2..=20_u8).prop_flat_map(|count| (2..=count, Just(count))),
            first in any::<proptest::sample::Index>(),
        ) {
            let shares = split(&secret, threshold, count).unwrap();
            let first = first.index(shares.len());
            let quorum: Vec<_> =
                shares.iter().cycle().skip(first).take(usize::from(threshold)).collect();
            prop_assert!(is(&combine(&quorum).unwrap(), &secret));
        }
    }

    fn is(secret: &SecretBytes, bytes: &[u8]) -> bool {
        secret.expose(|secret| secret == bytes)
    }

    fn subsets(shares: &[SecretBytes]) -> impl Iterator<Item = Vec<&SecretBytes>> {
        (1_u32..1 << shares.len()).map(move |chosen| {
            shares
                .iter()
                .enumerate()
                .filter(|(at, _)| chosen >> at & 1 == 1)
                .map(|it| it.1)
                .collect()
        })
    }

    /// Chi-square with 254 or 255 degrees of freedom: about 255, above 435 by chance less than once
    /// in 10^10 runs. Of 65,536 coefficients, one value that never comes adds 256.
    fn looks_uniform(counts: &[u32]) -> bool {
        let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
        let sum: f64 =
            counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        (100.0..435.0).contains(&sum)
    }

    /// Multiplication as the textbook has it, then the remainder by 0x11B.
    fn by_division(a: u8, b: u8) -> u8 {
        let mut product = (0..8)
            .filter(|bit| b >> bit & 1 == 1)
            .fold(0, |product, bit| product ^ u16::from(a) << bit);
        for bit in (8..16).rev() {
            if product >> bit & 1 == 1 {
                product ^= 0x11b << (bit - 8);
            }
        }
        u8::try_from(product).unwrap()
    }
}

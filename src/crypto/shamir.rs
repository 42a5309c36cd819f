//! Shamir's secret sharing over GF(256), in Vault's share form: y bytes, then x (format.md 2.8).
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

/// The shares do not fit together: none, of different or too short a length, or one x twice or zero.
///
/// One text, so that it does not tell which share is bad (security.md 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shares do not fit together")]
pub struct CombineError;

/// Splits `secret` into `shares`, of which any `threshold` give it back. 1 of 1 is the bare secret.
///
/// Two splits of one secret give independent shares. Each is one byte longer than the secret; their
/// x are drawn without order, so that a share does not show which holder came first.
///
/// # Errors
/// [`SplitError`] when the secret is empty or the numbers are not 2 <= threshold <= shares or 1 of 1.
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
    // Uniform over all of GF(256), the top coefficient too: were it never zero, threshold - 1 shares
    // would rule out one value of each secret byte.
    let degree = usize::from(threshold) - 1;
    let mut coefficients = Zeroizing::new(vec![0; secret.len() * degree]);
    random::fill(&mut coefficients);
    let points = shuffled_points();
    Ok(points
        .iter()
        .take(usize::from(shares))
        .map(|&x| share(secret, &coefficients, degree, x))
        .collect())
}

/// Gives back the secret of `shares`; a single one is the secret itself (1 of 1).
///
/// With too few shares, or one of another split, the answer is a different secret: the caller checks
/// it.
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

/// All of 1..=255 in random order (Fisher-Yates).
fn shuffled_points() -> [u8; 255] {
    let mut points = [0; 255];
    for (point, x) in points.iter_mut().zip(1..=u8::MAX) {
        *point = x;
    }
    for last in (1..=254).rev() {
        points.swap(usize::from(last), usize::from(random_up_to(last)));
    }
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

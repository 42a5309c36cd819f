//! Shares: their text, and putting any of them together.
//!
//! Input: the shares of a secret, one on each line; the first line says how a split is made.
#![no_main]

use kista::{
    crypto::shamir::{combine, split},
    seal::parse_share,
    secret::SecretBytes,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let Some(&[threshold, shares, ref secret @ ..]) = lines.next().map(str::as_bytes) else {
        return;
    };
    if let Ok(made) = split(secret, threshold, shares) {
        assert_eq!(made.len(), usize::from(shares));
        let some: Vec<&SecretBytes> = made.iter().rev().take(threshold.into()).collect();
        combine(&some)
            .expect("these are shares of one split")
            .expose(|again| assert_eq!(again, secret));
    }
    let given: Vec<SecretBytes> =
        lines.take(300).filter_map(|line| parse_share(line).ok()).collect();
    let given: Vec<&SecretBytes> = given.iter().collect();
    if let Ok(secret) = combine(&given) {
        assert!(secret.len() <= given[0].len());
    }
});

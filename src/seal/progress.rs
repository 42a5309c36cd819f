use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose};
use data_encoding::HEXLOWER_PERMISSIVE;

use crate::{
    clock::{Clock, Timestamp},
    crypto::{mac, random, shamir},
    secret::{Algorithm, SecretBytes},
};

/// The shares given so far, held under a nonce for at most 15 minutes and wiped on reset, on
/// failure and at the threshold.
#[derive(Debug)]
pub struct UnsealProgress {
    clock: Arc<dyn Clock>,
    threshold: u8,
    attempt: Option<Attempt>,
    counts: UnsealCounts,
}

/// One try at the threshold.
#[derive(Debug)]
struct Attempt {
    nonce: String,
    begun: Timestamp,
    shares: Vec<SecretBytes>,
}

/// Tries to unseal since the last seal: told in the first audit lines after the next unseal, since
/// there is no audit key before.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct UnsealCounts {
    /// Secrets and sets of shares tried.
    pub attempts: u64,
    /// How many of them did not open.
    pub failures: u64,
}

/// What a share led to.
#[derive(Debug)]
pub enum Submitted {
    /// More are needed.
    More,
    /// It was given before and counts once.
    Again,
    /// The threshold is met: the secret that the shares combine to. The shares themselves are gone.
    Complete(SecretBytes),
}

/// A share that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareRefused {
    /// No share of this store has this form. Vault's text for what cannot be a key.
    #[error("'key' must be a valid hex or base64 string")]
    Form,
    /// It contradicts one that was given, or the set does not combine. It says no more: which share
    /// is wrong is nobody's to learn.
    #[error("unseal failed")]
    Failed,
}

/// Text that is no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareTextError {
    /// No text.
    #[error("'key' must be specified in request body as JSON, or 'reset' set to true")]
    Absent,
    /// Neither hex nor base64.
    #[error("'key' must be a valid hex or base64 string")]
    Form,
}

impl UnsealProgress {
    /// Nothing given yet, for a slot with this threshold.
    pub fn new(threshold: u8, clock: Arc<dyn Clock>) -> Self {
        Self { clock, threshold, attempt: None, counts: UnsealCounts::default() }
    }

    /// Number of shares that count.
    pub fn given(&self) -> usize {
        self.live().map_or(0, |attempt| attempt.shares.len())
    }

    /// Name of the current try; empty while no share was given.
    pub fn nonce(&self) -> &str {
        self.live().map_or("", |attempt| &attempt.nonce)
    }

    /// Takes a share. The same one again counts once.
    ///
    /// # Errors
    /// [`ShareRefused`]. What was given before still counts, unless the threshold was met.
    pub fn submit(&mut self, share: SecretBytes) -> Result<Submitted, ShareRefused> {
        self.expire();
        if share.len() != self.share_bytes() || self.threshold > 1 && x_of(&share) == Some(0) {
            return Err(ShareRefused::Form);
        }
        let clock = &self.clock;
        let attempt = self.attempt.get_or_insert_with(|| Attempt {
            nonce: random::uuid(),
            begun: clock.now(),
            shares: Vec::new(),
        });
        for known in &attempt.shares {
            if same(known, &share) {
                return Ok(Submitted::Again);
            }
            if x_of(known) == x_of(&share) {
                return Err(ShareRefused::Failed);
            }
        }
        attempt.shares.push(share);
        if attempt.shares.len() < usize::from(self.threshold) {
            return Ok(Submitted::More);
        }
        self.combine().map(Submitted::Complete)
    }

    /// Wipes what was given.
    pub fn reset(&mut self) {
        self.attempt = None;
    }

    /// Wipes what is older than 15 minutes. Every other call does so too; a timer that calls this
    /// keeps the shares from outliving their time when nobody calls.
    pub fn expire(&mut self) {
        if self.live().is_none() {
            self.attempt = None;
        }
    }

    /// Counts one secret that was tried on the seal file, whichever slot it was for.
    pub fn tried(&mut self, opened: bool) {
        self.counts.attempts = self.counts.attempts.saturating_add(1);
        if !opened {
            self.counts.failures = self.counts.failures.saturating_add(1);
        }
    }

    /// Takes the counts out, for the audit line after an unseal, and begins anew.
    pub fn take_counts(&mut self) -> UnsealCounts {
        std::mem::take(&mut self.counts)
    }

    /// All shares go here, whether they combine or not.
    fn combine(&mut self) -> Result<SecretBytes, ShareRefused> {
        let attempt = self.attempt.take().ok_or(ShareRefused::Failed)?;
        let shares: Vec<&SecretBytes> = attempt.shares.iter().collect();
        shamir::combine(&shares).map_err(|_cause| {
            self.tried(false);
            ShareRefused::Failed
        })
    }

    fn live(&self) -> Option<&Attempt> {
        let now = self.clock.now();
        self.attempt.as_ref().filter(|attempt| now.since(attempt.begun) < TIMEOUT)
    }

    /// y bytes and x, or with a threshold of one the bare secret.
    fn share_bytes(&self) -> usize {
        let secret = crate::crypto::Kek::KEY_BYTES;
        if self.threshold > 1 { secret + 1 } else { secret }
    }
}

/// Reads a share as clients send it: hex, or standard base64 with or without padding.
///
/// # Errors
/// [`ShareTextError`], with Vault's texts.
pub fn parse_share(text: &str) -> Result<SecretBytes, ShareTextError> {
    if text.is_empty() {
        return Err(ShareTextError::Absent);
    }
    from_hex(text).or_else(|| from_base64(text)).ok_or(ShareTextError::Form)
}

fn from_hex(text: &str) -> Option<SecretBytes> {
    let length = HEXLOWER_PERMISSIVE.decode_len(text.len()).ok()?;
    let mut done = false;
    let bytes = SecretBytes::build(length, |bytes| {
        done = HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), bytes).is_ok();
    });
    done.then_some(bytes)
}

fn from_base64(text: &str) -> Option<SecretBytes> {
    let bare = text.trim_end_matches('=');
    let padded_right = bare.len() == text.len() || text.len().is_multiple_of(4);
    if !padded_right || text.len() - bare.len() > 2 {
        return None;
    }
    let length = bare.len() * 3 / 4;
    let mut written = None;
    let bytes = SecretBytes::build(length, |bytes| {
        written = general_purpose::STANDARD_NO_PAD.decode_slice(bare, bytes).ok();
    });
    (written == Some(length)).then_some(bytes)
}

fn x_of(share: &SecretBytes) -> Option<u8> {
    share.expose(|share| share.last().copied())
}

fn same(a: &SecretBytes, b: &SecretBytes) -> bool {
    a.expose(|a| b.expose(|b| mac::equal(a, b)))
}

const TIMEOUT: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::ManualClock, crypto::Kek, secret::Key};

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)))
    }

    fn copy(share: &SecretBytes) -> SecretBytes {
        share.expose(SecretBytes::copy_of)
    }

    fn split(threshold: u8, shares: u8) -> Vec<SecretBytes> {
        shamir::split(&[7; 32], threshold, shares).unwrap()
    }

    #[test]
    fn enough_shares_give_the_secret_and_nothing_stays() {
        let shares = split(3, 5);
        let mut progress = UnsealProgress::new(3, clock());
        assert_eq!((progress.given(), progress.nonce()), (0, ""));
        assert!(matches!(progress.submit(copy(&shares[4])), Ok(Submitted::More)));
        let nonce = progress.nonce().to_owned();
        assert_eq!(nonce.len(), 36);
        assert!(matches!(progress.submit(copy(&shares[0])), Ok(Submitted::More)));
        assert_eq!((progress.given(), progress.nonce()), (2, nonce.as_str()));
        let Ok(Submitted::Complete(secret)) = progress.submit(copy(&shares[2])) else {
            panic!("not complete")
        };
        assert!(secret.expose(|secret| secret == [7; 32]));
        assert_eq!((progress.given(), progress.nonce()), (0, ""));
    }

    #[test]
    fn the_same_share_counts_once() {
        let shares = split(2, 3);
        let mut progress = UnsealProgress::new(2, clock());
        assert!(matches!(progress.submit(copy(&shares[0])), Ok(Submitted::More)));
        for _ in 0..2 {
            assert!(matches!(progress.submit(copy(&shares[0])), Ok(Submitted::Again)));
            assert_eq!(progress.given(), 1);
        }
    }

    #[test]
    fn another_share_with_a_used_x_is_refused_and_the_rest_stays() {
        let shares = split(3, 3);
        let mut progress = UnsealProgress::new(3, clock());
        progress.submit(copy(&shares[0])).unwrap();
        let mut other = shares[0].expose(<[u8]>::to_vec);
        other[3] ^= 1;
        let refused = progress.submit(SecretBytes::from_vec(other)).unwrap_err();
        assert_eq!(refused.to_string(), "unseal failed");
        assert_eq!(progress.given(), 1);
    }

    #[test]
    fn impossible_shares_are_refused() {
        let mut progress = UnsealProgress::new(2, clock());
        for bytes in [vec![], vec![1; 3], vec![1; 32], vec![1; 34], [vec![1; 32], vec![0]].concat()]
        {
            assert_eq!(
                progress.submit(SecretBytes::from_vec(bytes)).unwrap_err(),
                ShareRefused::Form
            );
        }
        assert_eq!(progress.nonce(), "");
        assert!(
            UnsealProgress::new(1, clock()).submit(SecretBytes::from_vec(vec![1; 33])).is_err()
        );
    }

    #[test]
    fn a_threshold_of_one_takes_the_bare_secret() {
        let mut progress = UnsealProgress::new(1, clock());
        let secret = SecretBytes::from_vec([vec![9; 31], vec![0]].concat());
        assert!(matches!(progress.submit(secret), Ok(Submitted::Complete(_))));
    }

    #[test]
    fn shares_last_fifteen_minutes() {
        let shares = split(2, 2);
        let clock = clock();
        let mut progress = UnsealProgress::new(2, clock.clone());
        progress.submit(copy(&shares[0])).unwrap();
        clock.advance(Duration::from_secs(15 * 60 - 1));
        assert_eq!(progress.given(), 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!((progress.given(), progress.nonce()), (0, ""));
        assert!(matches!(progress.submit(copy(&shares[1])), Ok(Submitted::More)));
        assert_eq!(progress.given(), 1);
    }

    #[test]
    fn reset_wipes_what_was_given() {
        let shares = split(2, 2);
        let mut progress = UnsealProgress::new(2, clock());
        progress.submit(copy(&shares[0])).unwrap();
        progress.reset();
        assert_eq!((progress.given(), progress.nonce()), (0, ""));
    }

    #[test]
    fn tries_are_counted_until_they_are_told() {
        let mut progress = UnsealProgress::new(2, clock());
        progress.tried(false);
        progress.tried(false);
        progress.tried(true);
        assert_eq!(progress.take_counts(), UnsealCounts { attempts: 3, failures: 2 });
        assert_eq!(progress.take_counts(), UnsealCounts::default());
    }

    #[test]
    fn share_texts_are_read_as_hex_or_base64() {
        let key: Key<Kek> = Key::build(|key| key.fill(0xFB));
        let bytes = key.expose(|key| [key, &[0xAB]].concat());
        let hex = data_encoding::HEXLOWER.encode(&bytes);
        let base64 = data_encoding::BASE64.encode(&bytes);
        let short = data_encoding::BASE64.encode(&bytes[..32]);
        for text in [&hex, &hex.to_uppercase(), &base64] {
            assert!(parse_share(text).unwrap().expose(|share| share == bytes));
        }
        for text in [short.as_str(), short.trim_end_matches('=')] {
            assert!(parse_share(text).unwrap().expose(|share| share == &bytes[..32]));
        }
        assert_eq!(parse_share("").unwrap_err(), ShareTextError::Absent);
        for text in ["???", "abc=d", "AAAA=", "AAA==", "A", "é", "AA A", "=", "====", "-_-_"] {
            assert_eq!(parse_share(text).unwrap_err(), ShareTextError::Form, "{text}");
        }
    }
}

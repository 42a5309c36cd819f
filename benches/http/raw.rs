//! The yardstick of encryption: the cipher alone, on every core.

use std::{
    thread,
    time::{Duration, Instant},
};

use kista::crypto::{MessageAlgorithm, MessageCipher, random};

/// Plaintexts of so many bytes that AES-256-GCM seals under random nonces, for each second.
pub(crate) fn rate(plaintext: &[u8], length: Duration) -> f64 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let counts: u64 = thread::scope(|scope| {
        let seal = || {
            let cipher = MessageCipher::new(MessageAlgorithm::Aes256Gcm, &[7; 32])?;
            let began = Instant::now();
            let mut count = 0;
            while began.elapsed() < length {
                cipher.seal(&random::array::<12>(), &[], plaintext)?;
                count += 1;
            }
            Some(count)
        };
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(seal)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).sum()
    });
    counts as f64 / length.as_secs_f64()
}

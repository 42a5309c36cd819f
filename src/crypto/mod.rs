//! Primitives without state or I/O; the only home of the cipher crates.
//!
//! Nothing here knows a store, a path or a file: callers bring keys, nonces and associated data as
//! FORMAT.md says, and get bytes or one refusal without a reason. Each primitive has the published
//! vectors of its standard in `tests/vectors/`.
//!
//! - `aead.rs`: [`Sealer`], XAES-256-GCM and XChaCha20-Poly1305
//! - `message.rs`: [`MessageCipher`], the ciphers of the peers' clients
//! - `committing/`: Cobblestone-256, which commits to key and context, and its streams
//! - `siv.rs`: [`Siv`], deterministic AES-256-SIV
//! - `kdf.rs`: HKDF-SHA-256, the derivation of FORMAT.md 2, Argon2id
//! - `mac.rs`: SHA-256, [`Mac`], constant-time comparison
//! - `hash.rs`: [`enum@Hash`], the digests and HMACs that a caller may choose from
//! - `sign.rs`: [`SigningKey`], Ed25519
//! - `ec/`: [`EcKey`], ECDSA
//! - `rsa/`: [`RsaKey`], OAEP and signatures
//! - `ed25519.rs`: [`Ed25519Key`], and the forms it travels in
//! - `der.rs`: the DER of keys and signatures
//! - `decimal.rs`: numbers as digits
//! - `keywrap.rs`: AES-256 key wrap with padding
//! - `pem.rs`: keys as text
//! - `wrapped.rs`: [`Wrapped`], a key for the holder of a KEK
//! - `shamir.rs`: splitting a secret into shares and back
//! - `random.rs`: the system's random generator, asked each time

pub mod aead;
pub mod committing;
pub mod decimal;
mod der;
pub mod ec;
pub mod ed25519;
pub mod hash;
pub mod kdf;
pub mod keywrap;
pub mod mac;
pub mod message;
pub mod pem;
pub mod random;
pub mod rsa;
pub mod shamir;
pub mod sign;
pub mod siv;
pub mod wrapped;

#[cfg(test)]
mod vectors;

pub use aead::{Aead256, Cipher, OpenFailed, Sealer};
pub use committing::Cobblestone256;
pub use der::InvalidKey;
pub use ec::{Curve, EcKey, EcPublic, InvalidSignature};
pub use ed25519::Ed25519Key;
pub use hash::Hash;
pub use kdf::{Argon2Params, Kdf, Kek, OutOfBounds};
pub use mac::{HmacSha256, Mac};
pub use message::{MessageAlgorithm, MessageCipher};
pub use rsa::{OaepHash, RsaComponents, RsaKey, RsaPadding, RsaPublic, SaltLength, Unsupported};
pub use shamir::{CombineError, SplitError};
pub use sign::{Ed25519Seed, SigningKey};
pub use siv::{AesSiv512, Siv};
pub use wrapped::Wrapped;

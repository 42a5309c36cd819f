use crate::crypto::{Curve, MessageAlgorithm};

/// What a key is and can do; on the wire `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    XChaCha20Poly1305,
    /// Commits to key, version and associated data, and needs no counting.
    Committing,
    /// Deterministic.
    Siv,
    Ed25519,
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    Rsa2048,
    Rsa3072,
    Rsa4096,
    Hmac,
}

/// Kinds by what they are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// A cipher of the peers' clients.
    Message(MessageAlgorithm),
    Committing,
    Siv,
    Ed25519,
    Ecdsa(Curve),
    Rsa {
        bits: usize,
    },
    Hmac,
}

/// Kinds with their words on the wire and their codes in records.
const ALL: [(Kind, &str, u8); 14] = [
    (Kind::Aes256Gcm, "aes256-gcm96", 0),
    (Kind::EcdsaP256, "ecdsa-p256", 1),
    (Kind::Ed25519, "ed25519", 2),
    (Kind::Rsa2048, "rsa-2048", 3),
    (Kind::Rsa4096, "rsa-4096", 4),
    (Kind::ChaCha20Poly1305, "chacha20-poly1305", 5),
    (Kind::EcdsaP384, "ecdsa-p384", 6),
    (Kind::EcdsaP521, "ecdsa-p521", 7),
    (Kind::Aes128Gcm, "aes128-gcm96", 8),
    (Kind::Rsa3072, "rsa-3072", 9),
    (Kind::Hmac, "hmac", 10),
    (Kind::XChaCha20Poly1305, "xchacha20-poly1305", 11),
    (Kind::Committing, "aes256-gcm-committing", 64),
    (Kind::Siv, "aes256-siv", 65),
];

impl Kind {
    pub(super) fn of_word(word: &str) -> Option<Self> {
        ALL.iter().find(|(_, known, _)| *known == word).map(|(kind, ..)| *kind)
    }

    pub(super) fn word(self) -> &'static str {
        ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, word, _)| word)
    }

    /// The kind of a record's code; below 64 also that of the peers' backups.
    pub(super) fn of_code(code: u8) -> Option<Self> {
        ALL.iter().find(|(.., known)| *known == code).map(|(kind, ..)| *kind)
    }

    pub(super) fn code(self) -> u8 {
        ALL.iter().find(|(kind, ..)| *kind == self).map_or(u8::MAX, |(.., code)| *code)
    }

    /// What it is made of.
    pub(super) fn family(self) -> Family {
        match self {
            Self::Aes128Gcm => Family::Message(MessageAlgorithm::Aes128Gcm),
            Self::Aes256Gcm => Family::Message(MessageAlgorithm::Aes256Gcm),
            Self::ChaCha20Poly1305 => Family::Message(MessageAlgorithm::ChaCha20Poly1305),
            Self::XChaCha20Poly1305 => Family::Message(MessageAlgorithm::XChaCha20Poly1305),
            Self::Committing => Family::Committing,
            Self::Siv => Family::Siv,
            Self::Ed25519 => Family::Ed25519,
            Self::EcdsaP256 => Family::Ecdsa(Curve::P256),
            Self::EcdsaP384 => Family::Ecdsa(Curve::P384),
            Self::EcdsaP521 => Family::Ecdsa(Curve::P521),
            Self::Rsa2048 => Family::Rsa { bits: 2_048 },
            Self::Rsa3072 => Family::Rsa { bits: 3_072 },
            Self::Rsa4096 => Family::Rsa { bits: 4_096 },
            Self::Hmac => Family::Hmac,
        }
    }

    /// The cipher of the kinds that are the peers' too.
    pub(super) fn message(self) -> Option<MessageAlgorithm> {
        if let Family::Message(algorithm) = self.family() { Some(algorithm) } else { None }
    }

    pub(super) fn curve(self) -> Option<Curve> {
        if let Family::Ecdsa(curve) = self.family() { Some(curve) } else { None }
    }

    pub(super) fn is_rsa(self) -> bool {
        matches!(self.family(), Family::Rsa { .. })
    }

    pub(super) fn is_ecdsa(self) -> bool {
        self.curve().is_some()
    }

    /// Whether one secret both locks and opens: an AEAD key.
    pub(super) fn is_symmetric(self) -> bool {
        self.message().is_some() || matches!(self, Self::Committing | Self::Siv)
    }

    /// Whether it encrypts and decrypts.
    pub(super) fn encrypts(self) -> bool {
        self.is_symmetric() || self.is_rsa()
    }

    pub(super) fn signs(self) -> bool {
        self == Self::Ed25519 || self.is_ecdsa() || self.is_rsa()
    }

    /// Whether a context can make keys of its own from it.
    pub(super) fn derives(self) -> bool {
        self.is_symmetric() || self == Self::Ed25519
    }

    /// Whether it encrypts convergently. `aes256-siv` always does, and needs no word for it.
    pub(super) fn converges(self) -> bool {
        self.message().is_some()
    }

    /// Whether it has a half that may be shown.
    pub(super) fn has_public_half(self) -> bool {
        self.signs()
    }

    /// Whether a key bears 2^32 random nonces only (SP 800-38D §8.3), so that its uses are counted.
    pub(super) fn has_short_nonces(self) -> bool {
        self.message().is_some_and(|algorithm| algorithm.nonce_bytes() == 12)
    }

    /// Length of a symmetric key in bytes; None for those that are no random bytes, and for `hmac`,
    /// whose keys say their own.
    pub(super) fn key_bytes(self) -> Option<usize> {
        match self.family() {
            Family::Message(algorithm) => Some(algorithm.key_bytes()),
            Family::Committing => Some(32),
            Family::Siv => Some(64),
            Family::Ed25519 | Family::Ecdsa(_) | Family::Rsa { .. } | Family::Hmac => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_codes_name_one_kind_each() {
        for (kind, word, code) in ALL {
            assert_eq!(Kind::of_word(word), Some(kind));
            assert_eq!(Kind::of_code(code), Some(kind));
            assert_eq!((kind.word(), kind.code()), (word, code));
        }
    }
}

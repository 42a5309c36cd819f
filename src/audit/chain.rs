use serde::Deserialize;

use crate::{
    barrier::Position,
    clock::Timestamp,
    crypto::{Mac, SigningKey, mac, sign},
};

use super::json::{Object, push_hex};

/// The end of one device's chain: how many lines it has, and the hash of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) n: u64,
    pub(super) h: [u8; 32],
}

impl Link {
    /// Before the first line: h_0 is zeros.
    pub(super) const START: Self = Self { n: 0, h: [0; 32] };

    /// h_n = SHA-256("kista/audit/1" \0 || device_id || h_(n-1) || be64 n || lp(body))
    pub(super) fn next(&self, device_id: &[u8; 16], body: &[u8]) -> Self {
        let n = self.n.saturating_add(1);
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        let h =
            mac::sha256(&[b"kista/audit/1\0", device_id, &self.h, &n.to_be_bytes(), &length, body]);
        Self { n, h }
    }
}

/// Makes a body into a whole line: adds `"h"` and `"m"`, the brace and the end of line.
pub(super) fn finish(body: &mut Vec<u8>, link: &Link, chain_key: &Mac) {
    body.extend_from_slice(H);
    push_hex(body, &link.h);
    body.extend_from_slice(M);
    push_hex(body, &tag(chain_key, link));
    body.extend_from_slice(b"\"}\n");
}

/// m_n = first 16 bytes of HMAC-SHA-256(audit-chain key, h_n)
pub(super) fn tag(chain_key: &Mac, link: &Link) -> [u8; 16] {
    let whole = chain_key.tag(&[&link.h]);
    let mut first = [0; 16];
    for (to, from) in first.iter_mut().zip(whole) {
        *to = from;
    }
    first
}

/// A line taken apart. Its last two members have fixed lengths, so the body ends at a fixed place.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) body: &'a [u8],
    pub(super) h: [u8; 32],
    pub(super) m: [u8; 16],
}

impl<'a> Line<'a> {
    /// Takes a line without its end of line.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let (body, suffix) = line.split_at_checked(line.len().checked_sub(SUFFIX)?)?;
        let rest = suffix.strip_prefix(H)?;
        let (h, rest) = rest.split_at_checked(64)?;
        let rest = rest.strip_prefix(M)?;
        let (m, rest) = rest.split_at_checked(32)?;
        (rest == b"\"}").then_some(())?;
        Some(Self { body, h: from_hex(h)?, m: from_hex(m)? })
    }

    /// Whether the body is a checkpoint's. Quotes inside a string are escaped, so no value can look
    /// like this.
    pub(super) fn is_checkpoint(start_of_line: &[u8]) -> bool {
        start_of_line
            .strip_prefix(b"{\"time\":\"")
            .and_then(|rest| {
                let end = rest.iter().position(|byte| *byte == b'"')?;
                rest.get(end..)
            })
            .is_some_and(|rest| rest.starts_with(b"\",\"type\":\"checkpoint\","))
    }
}

/// A signed statement about the chain up to a line, and the store at that moment.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) device_id: [u8; 16],
    /// Number of the checkpoint's own line.
    pub(super) n: u64,
    /// Hash of the line before it.
    pub(super) previous: [u8; 32],
    pub(super) position: Position,
    pub(super) time_ms: u64,
}

/// A checkpoint as it is kept elsewhere: with the hash of its own line, so that the chain can be
/// held against it, and the signature, so that anyone can who knows the public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// The device.
    pub device_id: [u8; 16],
    /// Number of the checkpoint's own line.
    pub n: u64,
    /// Hash of the line before it.
    pub previous: [u8; 32],
    /// Hash of its own line.
    pub hash: [u8; 32],
    /// Where the store stood.
    pub position: Position,
    /// When it was written, in milliseconds.
    pub time_ms: u64,
    /// What the device's key has signed, hash aside.
    pub signature: [u8; 64],
}

impl SignedCheckpoint {
    /// Whether the holder of this key has signed it.
    pub fn is_signed(&self, public_key: &[u8; 32]) -> bool {
        let Self { device_id, n, previous, position, time_ms, signature, .. } = *self;
        let checkpoint = Checkpoint { device_id, n, previous, position, time_ms };
        checkpoint.is_signed(public_key, &signature)
    }

    pub(super) fn link(&self) -> Link {
        Link { n: self.n, h: self.hash }
    }
}

/// Why a checkpoint is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reason {
    /// The device was opened; the bytes of an unfinished line that were moved away.
    Start { partial_bytes: u64 },
    /// Enough lines or time.
    Interval,
    /// The store is about to be sealed.
    Seal,
}

impl Checkpoint {
    /// Appends the body of the checkpoint's line and gives its signature. `missed` is the number of
    /// lines that the device could not take since the last one.
    pub(super) fn body(
        &self,
        time: Timestamp,
        reason: Reason,
        missed: u64,
        key: &SigningKey,
        out: &mut Vec<u8>,
    ) -> [u8; 64] {
        let signature = key.sign(&self.message());
        let mut line = Object::open(out);
        line.text("time", &time.rfc3339());
        line.text("type", "checkpoint");
        let mut checkpoint = line.object("checkpoint");
        checkpoint.text(
            "reason",
            match reason {
                Reason::Start { .. } => "start",
                Reason::Interval => "interval",
                Reason::Seal => "seal",
            },
        );
        checkpoint.hex("device", &self.device_id);
        checkpoint.number("n", self.n);
        checkpoint.hex("previous", &self.previous);
        checkpoint.number("generation", self.position.generation);
        checkpoint.number("seq", self.position.seq);
        checkpoint.hex("chain", &self.position.chain);
        checkpoint.number("time_ms", self.time_ms);
        if let Reason::Start { partial_bytes: bytes @ 1.. } = reason {
            checkpoint.number("partial_bytes", bytes);
        }
        if missed > 0 {
            checkpoint.number("missed", missed);
        }
        checkpoint.hex("signature", &signature);
        checkpoint.close();
        signature
    }

    /// Reads the body of a checkpoint's line; gives it with its signature.
    pub(super) fn parse(body: &[u8]) -> Option<(Self, [u8; 64])> {
        let object = [body, b"}"].concat();
        let wire = serde_json::from_slice::<WireLine<'_>>(&object).ok()?.checkpoint;
        let checkpoint = Self {
            device_id: from_hex(wire.device.as_bytes())?,
            n: wire.n,
            previous: from_hex(wire.previous.as_bytes())?,
            position: Position {
                generation: wire.generation,
                seq: wire.seq,
                chain: from_hex(wire.chain.as_bytes())?,
            },
            time_ms: wire.time_ms,
        };
        Some((checkpoint, from_hex(wire.signature.as_bytes())?))
    }

    pub(super) fn is_signed(&self, public_key: &[u8; 32], signature: &[u8; 64]) -> bool {
        sign::verify(public_key, &self.message(), signature)
    }

    /// What is signed (FORMAT.md 9).
    fn message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(160);
        message.extend_from_slice(b"kista/audit-checkpoint/1\0");
        message.extend_from_slice(&self.device_id);
        message.extend_from_slice(&self.n.to_be_bytes());
        message.extend_from_slice(&self.previous);
        message.extend_from_slice(&self.position.generation.to_be_bytes());
        message.extend_from_slice(&self.position.seq.to_be_bytes());
        message.extend_from_slice(&self.position.chain);
        message.extend_from_slice(&self.time_ms.to_be_bytes());
        message
    }
}

#[derive(Deserialize)]
struct WireLine<'a> {
    #[serde(borrow)]
    checkpoint: WireCheckpoint<'a>,
}

#[derive(Deserialize)]
struct WireCheckpoint<'a> {
    device: &'a str,
    n: u64,
    previous: &'a str,
    generation: u64,
    seq: u64,
    chain: &'a str,
    time_ms: u64,
    signature: &'a str,
}

fn from_hex<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // Exactly one spelling is accepted: lower case, of this length.
    (hex.len() == 2 * N).then_some(())?;
    data_encoding::HEXLOWER.decode_mut(hex, &mut bytes).ok()?;
    Some(bytes)
}

const H: &[u8] = b",\"h\":\"";
const M: &[u8] = b"\",\"m\":\"";

/// Bytes of a line behind its body.
const SUFFIX: usize = 6 + 64 + 7 + 32 + 2;

use std::fmt;

use zeroize::Zeroizing;

use super::{
    fields::Fields,
    state::{Sum, TermSum},
    term::{HEADER_BYTES, SEALED_OVERHEAD, Sealed, Term, TermId, Terms},
};
use crate::{
    clock::Timestamp,
    storage::{HeadAt, SnapshotAt, StoreId},
};

const FORMAT: u8 = 1;
const LABEL: &[u8] = b"kista/head/1\0";
const SNAPSHOT_LABEL: &[u8] = b"kista/snapshot/1\0";
/// Length of a head's plaintext before its terms, in bytes, their number included.
const FIXED_BYTES: usize = 1 + 16 + 8 + 8 + 32 + 8 + 8 + 8 + 32 + 1;
const TERM_BYTES: usize = 4 + 8 + 32;

/// What the newest commit says of the whole store (FORMAT.md 7).
#[derive(Clone, PartialEq, Eq)]
pub struct Head {
    /// The store.
    pub store_id: StoreId,
    /// Counts restores and accepted rollbacks.
    pub generation: u64,
    /// Sequence of the commit.
    pub seq: u64,
    /// Chain value of the commit before.
    pub prev_chain: [u8; 32],
    /// When it was sealed, to the millisecond.
    pub time: Timestamp,
    /// The lowest epoch of a seal file that may open this store.
    pub min_seal_epoch: u64,
    /// The last audit checkpoint that was synced before.
    pub audit: Checkpoint,
    /// Count and sum of each term; never visible outside a sealed head.
    pub(super) terms: Vec<TermSum>,
}

/// An audit checkpoint: the number of its line and that line's hash; zeros when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Number of the line in its device's chain.
    pub n: u64,
    /// The chain's hash at that line.
    pub hash: [u8; 32],
}

impl Head {
    /// Number of records in the store.
    pub fn records(&self) -> u64 {
        self.terms.iter().map(|term| term.count).sum()
    }

    /// Length of a sealed head that lists `terms` terms.
    pub(super) fn sealed_len(terms: usize) -> usize {
        SEALED_OVERHEAD + FIXED_BYTES + terms * TERM_BYTES
    }

    /// Seals the head for its place in the journal. `random` is fresh.
    pub(super) fn seal(&self, term: &Term, digest: &[u8; 32], random: &[u8; 32]) -> Vec<u8> {
        self.seal_as(LABEL, term, digest, random)
    }

    /// Seals the head for a snapshot of its state, whatever term it was sealed under before.
    pub(super) fn seal_snapshot(
        &self,
        term: &Term,
        digest: &[u8; 32],
        random: &[u8; 32],
    ) -> Vec<u8> {
        self.seal_as(SNAPSHOT_LABEL, term, digest, random)
    }

    fn seal_as(&self, label: &[u8], term: &Term, digest: &[u8; 32], random: &[u8; 32]) -> Vec<u8> {
        let header = term.header(0);
        let aad = associated_data(label, self.store_id, self.seq, &header, digest);
        let plaintext = self.encode();
        let nonce = term.nonce(random, &aad, &plaintext);
        Term::seal(term.heads(), &header, &nonce, &aad, &plaintext)
    }

    /// Opens a head found in the journal; `None` when it does not open in its place, or is of
    /// another store or another place inside.
    pub(super) fn open(terms: &Terms, store_id: StoreId, at: &HeadAt<'_>) -> Option<Self> {
        let head = Self::open_as(LABEL, terms, store_id, at.seq, &at.digest, at.sealed)?;
        (head.prev_chain == at.prev_chain).then_some(head)
    }

    /// Opens the head of a snapshot; `None` when it does not open for these bytes.
    pub(super) fn open_snapshot(
        terms: &Terms,
        store_id: StoreId,
        at: &SnapshotAt<'_>,
    ) -> Option<Self> {
        Self::open_as(SNAPSHOT_LABEL, terms, store_id, at.seq, &at.digest, at.sealed)
    }

    fn open_as(
        label: &[u8],
        terms: &Terms,
        store_id: StoreId,
        seq: u64,
        digest: &[u8; 32],
        sealed: &[u8],
    ) -> Option<Self> {
        let sealed = Sealed::parse(sealed)?;
        let term = sealed.term(terms)?;
        if sealed.flags() != 0 {
            return None;
        }
        let aad = associated_data(label, store_id, seq, sealed.header, digest);
        let head = sealed.open(term.heads(), &aad)?.expose(Self::parse)?;
        (head.store_id == store_id && head.seq == seq).then_some(head)
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let length = FIXED_BYTES + self.terms.len() * TERM_BYTES;
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.store_id.0);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.prev_chain);
        bytes.extend_from_slice(&self.time.millis().to_be_bytes());
        bytes.extend_from_slice(&self.min_seal_epoch.to_be_bytes());
        bytes.extend_from_slice(&self.audit.n.to_be_bytes());
        bytes.extend_from_slice(&self.audit.hash);
        bytes.push(u8::try_from(self.terms.len()).unwrap_or(u8::MAX));
        for term in &self.terms {
            bytes.extend_from_slice(&term.id.0.to_be_bytes());
            bytes.extend_from_slice(&term.count.to_be_bytes());
            bytes.extend_from_slice(&term.sum.to_bytes());
        }
        bytes
    }

    fn parse(plaintext: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(plaintext);
        if fields.u8()? != FORMAT {
            return None;
        }
        let mut head = Self {
            store_id: StoreId(*fields.bytes()?),
            generation: fields.be64()?,
            seq: fields.be64()?,
            prev_chain: *fields.bytes()?,
            time: fields.time_ms()?,
            min_seal_epoch: fields.be64()?,
            audit: Checkpoint { n: fields.be64()?, hash: *fields.bytes()? },
            terms: Vec::new(),
        };
        for _ in 0..fields.u8()? {
            head.terms.push(TermSum {
                id: TermId(fields.be32()?),
                count: fields.be64()?,
                sum: Sum::from_bytes(fields.bytes()?),
            });
        }
        fields.end()?;
        let ascending = head.terms.is_sorted_by(|one, next| one.id < next.id);
        (ascending && !head.terms.is_empty()).then_some(head)
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("generation", &self.generation)
            .field("seq", &self.seq)
            .field("min_seal_epoch", &self.min_seal_epoch)
            .field("audit_n", &self.audit.n)
            .finish_non_exhaustive()
    }
}

/// This store, this place and these bytes of the journal or of a snapshot (FORMAT.md 7).
fn associated_data(
    label: &[u8],
    store_id: StoreId,
    seq: u64,
    header: &[u8; HEADER_BYTES],
    digest: &[u8; 32],
) -> Vec<u8> {
    [label, &store_id.0, &seq.to_be_bytes(), header, digest].concat()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            fixture::{counting, store_id, terms, terms_in, two_terms, vector},
            state::element,
        },
        *,
    };
    use crate::{crypto::mac, storage::RecordHeader};

    /// The head of the vectors: one record stands in the store.
    fn head() -> Head {
        let header = RecordHeader::of(&vector("/records/0/record")).unwrap();
        let sum = element(terms().active(), &vector("/records/0/storage_key"), &header);
        Head {
            store_id: store_id(),
            generation: 3,
            seq: 42,
            prev_chain: [0x55; 32],
            time: Timestamp::from_millis(1_767_225_600_000),
            min_seal_epoch: 9,
            audit: Checkpoint::default(),
            terms: vec![TermSum { id: TermId(7), count: 1, sum }],
        }
    }

    /// The digest of the vectors' journal record before its head.
    fn digest() -> [u8; 32] {
        mac::sha256(&[&vector("/journal/before_sealed_head")])
    }

    fn at(sealed: &[u8]) -> HeadAt<'_> {
        HeadAt { seq: 42, prev_chain: [0x55; 32], digest: digest(), sealed }
    }

    #[test]
    fn vectors_of_the_format() {
        let plain = head().encode();
        assert_eq!(plain.to_vec(), vector("/head/plaintext"));
        let terms = terms();
        let header = terms.active().header(0);
        let aad = associated_data(LABEL, store_id(), 42, &header, &digest());
        let nonce = counting(0x18);
        let sealed = Term::seal(terms.active().heads(), &header, &nonce, &aad, &plain);
        assert_eq!(sealed, vector("/head/sealed"));
        assert_eq!(Head::open(&terms, store_id(), &at(&sealed)), Some(head()));
        assert_eq!(sealed.len(), Head::sealed_len(1));
    }

    #[test]
    fn a_sealed_head_opens_in_its_own_place_only() {
        let terms = terms();
        let sealed = head().seal(terms.active(), &digest(), &[1; 32]);
        let opens =
            |terms: &Terms, store_id, at: &HeadAt<'_>| Head::open(terms, store_id, at).is_some();
        assert!(opens(&terms, store_id(), &at(&sealed)));
        assert!(opens(&two_terms(), store_id(), &at(&sealed)));
        let elsewhere = StoreId([9; 16]);
        assert!(!opens(&terms, elsewhere, &at(&sealed)));
        assert!(!opens(&terms_in(elsewhere), elsewhere, &at(&sealed)));
        assert!(!opens(&terms, store_id(), &HeadAt { seq: 43, ..at(&sealed) }));
        assert!(!opens(&terms, store_id(), &HeadAt { prev_chain: [0; 32], ..at(&sealed) }));
        assert!(!opens(&terms, store_id(), &HeadAt { digest: [0; 32], ..at(&sealed) }));
    }

    #[test]
    fn the_head_of_a_snapshot_opens_there_and_nowhere_else() {
        let terms = two_terms();
        let sealed = head().seal_snapshot(terms.active(), &[9; 32], &[1; 32]);
        let snapshot = SnapshotAt { seq: 42, chain: [8; 32], digest: [9; 32], sealed: &sealed };
        let open = |at: &SnapshotAt<'_>| Head::open_snapshot(&terms, store_id(), at);
        assert_eq!(open(&snapshot), Some(head()));
        assert_eq!(open(&SnapshotAt { seq: 41, ..snapshot }), None);
        assert_eq!(open(&SnapshotAt { digest: [8; 32], ..snapshot }), None);
        assert!(
            Head::open(&terms, store_id(), &HeadAt { digest: [9; 32], ..at(&sealed) }).is_none()
        );
        let in_journal = head().seal(terms.active(), &[9; 32], &[1; 32]);
        assert_eq!(open(&SnapshotAt { sealed: &in_journal, ..snapshot }), None);
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let sealed = vector("/head/sealed");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Head::open(&terms(), store_id(), &at(&flipped)).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn another_layout_is_refused() {
        let plain = vector("/head/plaintext");
        assert_eq!(Head::parse(&plain), Some(head()));
        let changed = |change: fn(&mut Vec<u8>)| {
            let mut plain = plain.clone();
            change(&mut plain);
            Head::parse(&plain)
        };
        assert_eq!(changed(|plain| plain[0] = 2), None);
        assert_eq!(changed(|plain| plain.push(0)), None);
        assert_eq!(changed(|plain| plain.truncate(165)), None);
        assert_eq!(changed(|plain| plain[121] = 2), None);
        assert_eq!(changed(|plain| plain[121] = 0), None);
        // The same term twice.
        let twice = changed(|plain| {
            plain[121] = 2;
            plain.extend_from_within(122..);
        });
        assert_eq!(twice, None);
    }

    #[test]
    fn debug_shows_no_sum() {
        assert!(!format!("{:?}", head()).contains("sum"));
    }
}

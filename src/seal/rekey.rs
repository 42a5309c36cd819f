use std::{fmt, sync::Arc};

use crate::{
    barrier::Keyring,
    clock::{Clock, Timestamp},
    crypto::{Kek, OutOfBounds, mac, random},
    secret::{Key, SecretBytes},
    storage::StoreId,
};

use super::{
    Made, OpenRoot, RewriteError, Secret, ShareCounts, ShareRefused, SlotError, Submitted,
    UnsealProgress,
    file::MAX_SLOTS,
    init::{Prepared, prepare_shares},
    rewrite::NamedRoot,
    root::Root,
    slot::{Params, Slot, SlotSummary, SlotType},
};

/// What a rekey is to lead to.
#[derive(Debug, Default)]
pub struct RekeyPlan {
    /// New shares, in the place of those that there are.
    pub shares: Option<ShareCounts>,
    /// The slots whose secrets will be shown; none named: the shares, and without shares every
    /// passphrase. One of them at least is a person's.
    pub keep: Option<Vec<[u8; 16]>>,
    /// Slots that go although their secrets could be read.
    pub drop: Vec<[u8; 16]>,
    /// Whether the new shares must be given back before the old slots go.
    pub require_verification: bool,
}

/// A change of the root key under way: it collects the secrets of the slots to keep. Nothing is
/// written before all of them are there. Dropping it wipes them.
pub struct Rekey {
    clock: Arc<dyn Clock>,
    nonce: String,
    counts: Option<ShareCounts>,
    require_verification: bool,
    wanted: Vec<Wanted>,
    /// Slots that stay, with the key of each.
    kept: Vec<Kept>,
    /// Shares given so far, when the slot of shares is wanted.
    given: Option<UnsealProgress>,
    verification: Option<Verification>,
}

/// The id of a slot that stays, and its key.
type Kept = ([u8; 16], Key<Kek>);

/// A slot whose secret is to be shown.
#[derive(Debug)]
struct Wanted {
    summary: SlotSummary,
    /// Secrets that it takes.
    secrets: usize,
    /// Whether it stays; shares that new ones replace are shown and go.
    stays: bool,
    is_shown: bool,
}

/// New shares that wait to be given back.
struct Verification {
    nonce: String,
    kek: Key<Kek>,
    params: Params,
    given: UnsealProgress,
}

/// Where a rekey stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RekeyStatus {
    /// Names it.
    pub nonce: String,
    /// The new shares, if there are to be any.
    pub counts: Option<ShareCounts>,
    /// Secrets given so far.
    pub progress: usize,
    /// Secrets needed.
    pub required: usize,
    /// Whether the new shares must be given back.
    pub require_verification: bool,
    /// Names the verification, once it has begun.
    pub verification_nonce: String,
    /// Slots that will be gone, beside the shares that new ones replace.
    pub drops: Vec<SlotSummary>,
}

/// Where a verification stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyStatus {
    /// Names it.
    pub nonce: String,
    /// The new shares.
    pub counts: ShareCounts,
    /// Shares given back so far.
    pub progress: usize,
}

/// What a secret led to.
#[derive(Debug)]
pub enum Step {
    /// More are needed.
    More,
    /// All are there. New shares, to be shown once: with verification they must be given back
    /// before anything changes.
    MustVerify(Vec<SecretBytes>),
    /// All are there: [`Rekey::apply`] is next.
    Ready(Vec<SecretBytes>),
}

/// What a rekey has done.
#[derive(Debug)]
pub struct Rekeyed {
    /// Epoch of the seal file; no older one may open the store any more.
    pub epoch: u64,
    /// Slots that are gone, beside the shares that new ones replaced.
    pub dropped: Vec<SlotSummary>,
}

/// Why a rekey does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyRefused {
    /// A slot that is not there is named.
    #[error("there is no such slot; list them: kista operator slot ls")]
    NoSuchSlot,
    /// A slot is to be kept and dropped.
    #[error("a slot cannot be kept and dropped at once")]
    KeptAndDropped,
    /// No person's secret is asked for, so nobody would have agreed.
    #[error("a rekey needs the secret of a slot that a person opens: name one in keep")]
    Unauthorized,
    /// Nobody could open the store afterwards.
    #[error("no slot that a person can open would be left: keep one, or ask for new shares")]
    LastHuman,
    /// There would be nothing to give back.
    #[error("require_verification needs new shares")]
    NothingToVerify,
    /// More slots than the file holds.
    #[error("a seal file holds at most 32 slots; drop one first")]
    TooManySlots,
    /// The share is one that was given.
    #[error("given key has already been provided during this generation operation")]
    Again,
    /// No share of this store has this form.
    #[error("'key' must be a valid hex or base64 string")]
    Form,
    /// No slot that is waited for takes such a secret.
    #[error("this rekey waits for no such secret")]
    NotWanted,
    /// What was given opens no slot that is waited for. Which of it is wrong is nobody's to learn,
    /// so all of it is forgotten.
    #[error("rekey failed: what was given does not open this store; begin with the first again")]
    Failed,
    /// The shares given back are not the new ones.
    #[error("verification failed: these are not the new shares; begin with the first again")]
    NotVerified,
    /// There is nothing to verify.
    #[error("no rekey verification in progress")]
    NoVerification,
    /// The new shares wait to be given back; nothing else is taken.
    #[error("this rekey waits for the new shares to be verified")]
    MustVerify,
    /// This machine cannot stretch the passphrase.
    #[error("cannot stretch the passphrase")]
    Stretch(#[source] OutOfBounds),
    /// The new shares cannot be made.
    #[error(transparent)]
    Slot(#[from] SlotError),
}

impl Rekey {
    /// Begins one. `readable` are the secrets that the server has at hand: slots that they open
    /// stay without being shown. Quick, unless one of them is a passphrase.
    ///
    /// # Errors
    /// [`RekeyRefused`], when the plan cannot be.
    pub fn begin(
        root: &OpenRoot,
        plan: RekeyPlan,
        readable: &[Secret],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RekeyRefused> {
        let slots = root.slots_in_order();
        let keep = match &plan.keep {
            Some(keep) => keep.clone(),
            None => asked_by_default(slots),
        };
        if !keep.iter().chain(&plan.drop).all(|id| find(slots, id).is_some()) {
            return Err(RekeyRefused::NoSuchSlot);
        }
        if keep.iter().any(|id| plan.drop.contains(id)) {
            return Err(RekeyRefused::KeptAndDropped);
        }
        if plan.require_verification && plan.shares.is_none() {
            return Err(RekeyRefused::NothingToVerify);
        }
        let kept = readable_slots(root.root().store_id(), slots, &plan.drop, readable)?;
        let is_kept = |id: &[u8; 16]| kept.iter().any(|(kept, _)| kept == id);
        let wanted: Vec<Wanted> = slots
            .iter()
            .filter(|slot| keep.contains(&slot.summary.id) && !is_kept(&slot.summary.id))
            .map(|slot| Wanted::of(slot, plan.shares.is_some()))
            .collect();
        if !wanted.iter().any(|wanted| wanted.summary.human) {
            return Err(RekeyRefused::Unauthorized);
        }
        if plan.shares.is_none() && !wanted.iter().any(|w| w.summary.human && w.stays) {
            return Err(RekeyRefused::LastHuman);
        }
        let stay = kept.len() + wanted.iter().filter(|wanted| wanted.stays).count();
        if stay + usize::from(plan.shares.is_some()) > usize::from(MAX_SLOTS) {
            return Err(RekeyRefused::TooManySlots);
        }
        let threshold = wanted
            .iter()
            .find(|wanted| wanted.summary.slot_type == SlotType::Shares)
            .and_then(|wanted| u8::try_from(wanted.secrets).ok());
        let given = threshold.map(|t| UnsealProgress::new(t, Arc::clone(&clock)));
        Ok(Self {
            clock,
            nonce: random::uuid(),
            counts: plan.shares,
            require_verification: plan.require_verification,
            wanted,
            kept,
            given,
            verification: None,
        })
    }

    /// Secrets that one would need whose plan names no slot.
    pub fn required_by_default(root: &OpenRoot) -> usize {
        let slots = root.slots_in_order();
        let asked = asked_by_default(slots);
        asked.iter().filter_map(|id| find(slots, id)).map(|s| Wanted::of(s, false).secrets).sum()
    }

    /// Its name.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Where it stands.
    pub fn status(&self, root: &OpenRoot) -> RekeyStatus {
        let shown: usize =
            self.wanted.iter().filter(|wanted| wanted.is_shown).map(|wanted| wanted.secrets).sum();
        let given = self.given.as_ref().map_or(0, UnsealProgress::given);
        let verification = self.verification.as_ref();
        RekeyStatus {
            nonce: self.nonce.clone(),
            counts: self.counts,
            progress: shown + given,
            required: self.wanted.iter().map(|wanted| wanted.secrets).sum(),
            require_verification: self.require_verification,
            verification_nonce: verification.map_or_else(String::new, |v| v.nonce.clone()),
            drops: self.drops(root.slots_in_order()),
        }
    }

    /// Takes a share of the slot of shares that there is.
    ///
    /// # Errors
    /// [`RekeyRefused`].
    pub fn submit_share(
        &mut self,
        root: &OpenRoot,
        share: SecretBytes,
    ) -> Result<Step, RekeyRefused> {
        self.check_collecting()?;
        let given = self.given.as_mut().ok_or(RekeyRefused::NotWanted)?;
        match given.submit(share) {
            Ok(Submitted::More) => Ok(Step::More),
            Ok(Submitted::Again) => Err(RekeyRefused::Again),
            Ok(Submitted::Complete(secret)) => self.show(root, &Secret::Shares(secret)),
            Err(ShareRefused::Form) => Err(RekeyRefused::Form),
            Err(ShareRefused::Failed) => Err(self.forget()),
        }
    }

    /// Takes the secret of a slot that is to stay. Blocking for a passphrase: Argon2id for each
    /// passphrase that is waited for.
    ///
    /// # Errors
    /// [`RekeyRefused`].
    pub fn show(&mut self, root: &OpenRoot, secret: &Secret) -> Result<Step, RekeyRefused> {
        self.check_collecting()?;
        let mut is_wanted = false;
        let mut opened = None;
        for (at, wanted) in self.wanted.iter().enumerate().filter(|(_, wanted)| !wanted.is_shown) {
            let Some(slot) = find(root.slots_in_order(), &wanted.summary.id) else { continue };
            let Some(kek) = slot.kek(secret).map_err(RekeyRefused::Stretch)? else { continue };
            is_wanted = true;
            if slot.unwrap(root.root().store_id(), &kek).is_some() {
                opened = Some((at, kek));
                break;
            }
        }
        if !is_wanted {
            return Err(RekeyRefused::NotWanted);
        }
        let Some((at, kek)) = opened else { return Err(self.forget()) };
        if let Some(wanted) = self.wanted.get_mut(at) {
            wanted.is_shown = true;
            if wanted.stays {
                self.kept.push((wanted.summary.id, kek));
            }
        }
        if self.wanted.iter().all(|wanted| wanted.is_shown) {
            self.complete()
        } else {
            Ok(Step::More)
        }
    }

    /// Where its verification stands.
    ///
    /// # Errors
    /// [`RekeyRefused::NoVerification`].
    pub fn verify_status(&self) -> Result<VerifyStatus, RekeyRefused> {
        let verification = self.verification.as_ref().ok_or(RekeyRefused::NoVerification)?;
        let counts = self.counts.ok_or(RekeyRefused::NoVerification)?;
        let (nonce, progress) = (verification.nonce.clone(), verification.given.given());
        Ok(VerifyStatus { nonce, counts, progress })
    }

    /// Forgets the shares given back, under a new nonce.
    ///
    /// # Errors
    /// [`RekeyRefused::NoVerification`].
    pub fn restart_verification(&mut self) -> Result<VerifyStatus, RekeyRefused> {
        let verification = self.verification.as_mut().ok_or(RekeyRefused::NoVerification)?;
        verification.given.reset();
        verification.nonce = random::uuid();
        self.verify_status()
    }

    /// Takes one of the new shares back; true when enough are there and [`apply`](Self::apply) is
    /// next.
    ///
    /// # Errors
    /// [`RekeyRefused`].
    pub fn verify(&mut self, share: SecretBytes) -> Result<bool, RekeyRefused> {
        let verification = self.verification.as_mut().ok_or(RekeyRefused::NoVerification)?;
        match verification.given.submit(share) {
            Ok(Submitted::More) => Ok(false),
            Ok(Submitted::Again) => Err(RekeyRefused::Again),
            Err(ShareRefused::Form) => Err(RekeyRefused::Form),
            Err(ShareRefused::Failed) => Err(RekeyRefused::NotVerified),
            Ok(Submitted::Complete(secret)) => {
                let Verification { kek, .. } = verification;
                let is_right = secret.expose(|secret| kek.expose(|kek| mac::equal(secret, kek)));
                if is_right { Ok(true) } else { Err(RekeyRefused::NotVerified) }
            }
        }
    }

    /// Makes the new root key, wraps it for the slots that stay and the new shares, and writes the
    /// seal file. Blocking: two synced writes. The caller then raises the lowest epoch that may
    /// open the store.
    ///
    /// # Errors
    /// [`RewriteError`]; then nothing has changed.
    pub fn apply(
        self,
        root: &mut OpenRoot,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<Rekeyed, RewriteError> {
        let key = NamedRoot { root: Root::generate(root.store_id()), id: random::array() };
        let dropped = self.drops(root.slots_in_order());
        let mut slots = Vec::new();
        for slot in root.slots_in_order() {
            let kek = self.kept.iter().find(|(id, _)| *id == slot.summary.id);
            if let Some((_, kek)) = kek {
                slots.push(Slot::wrap(&key.root, slot.summary, slot.params.clone(), kek));
            }
        }
        if let Some(Verification { kek, params, .. }) = self.verification {
            let slot_type = params.slot_type();
            let summary = SlotSummary { slot_type, human: true, id: random::array(), created: now };
            slots.push(Slot::wrap(&key.root, summary, params, &kek));
        }
        let epoch = root.replace(Some(key), slots, keyring)?;
        Ok(Rekeyed { epoch, dropped })
    }

    /// All secrets are there: makes the new shares.
    fn complete(&mut self) -> Result<Step, RekeyRefused> {
        let Some(counts) = self.counts else { return Ok(Step::Ready(Vec::new())) };
        let Prepared { params, kek, made } = prepare_shares(counts)?;
        let given = UnsealProgress::new(counts.threshold(), Arc::clone(&self.clock));
        let nonce = random::uuid();
        self.verification = Some(Verification { nonce, kek, params, given });
        let shares = match made {
            Made::Shares(shares) => shares,
            Made::Passphrase | Made::Keyfile | Made::Automatic => Vec::new(),
        };
        Ok(if self.require_verification { Step::MustVerify(shares) } else { Step::Ready(shares) })
    }

    fn check_collecting(&self) -> Result<(), RekeyRefused> {
        if self.verification.is_some() { Err(RekeyRefused::MustVerify) } else { Ok(()) }
    }

    /// After a wrong secret all that was shown counts no more.
    fn forget(&mut self) -> RekeyRefused {
        for wanted in &mut self.wanted {
            wanted.is_shown = false;
            self.kept.retain(|(id, _)| *id != wanted.summary.id);
        }
        if let Some(given) = self.given.as_mut() {
            given.reset();
        }
        RekeyRefused::Failed
    }

    fn drops(&self, slots: &[Slot]) -> Vec<SlotSummary> {
        let stays = |id: &[u8; 16]| {
            self.kept.iter().any(|(kept, _)| kept == id)
                || self.wanted.iter().any(|wanted| wanted.stays && wanted.summary.id == *id)
        };
        let is_replaced =
            |slot: &SlotSummary| self.counts.is_some() && slot.slot_type == SlotType::Shares;
        let slots = slots.iter().map(|slot| slot.summary);
        slots.filter(|slot| !stays(&slot.id) && !is_replaced(slot)).collect()
    }
}

impl Wanted {
    fn of(slot: &Slot, shares_are_replaced: bool) -> Self {
        let (secrets, stays) = match slot.params {
            Params::Shares { threshold, .. } => (usize::from(threshold), !shares_are_replaced),
            Params::Passphrase { .. } | Params::Keyfile { .. } | Params::Automatic { .. } => {
                (1, true)
            }
        };
        Self { summary: slot.summary, secrets, stays, is_shown: false }
    }
}

impl fmt::Debug for Rekey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rekey").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

/// What clients that know nothing of slots are asked for.
fn asked_by_default(slots: &[Slot]) -> Vec<[u8; 16]> {
    let of = |slot_type: SlotType| {
        let found = slots.iter().filter(move |slot| slot.summary.slot_type == slot_type);
        found.map(|slot| slot.summary.id).collect::<Vec<_>>()
    };
    let shares = of(SlotType::Shares);
    if shares.is_empty() { of(SlotType::Passphrase) } else { shares }
}

/// The slots that the server's own secrets open, with their keys.
fn readable_slots(
    store_id: &StoreId,
    slots: &[Slot],
    drop: &[[u8; 16]],
    readable: &[Secret],
) -> Result<Vec<Kept>, RekeyRefused> {
    let mut kept = Vec::new();
    for slot in slots.iter().filter(|slot| !drop.contains(&slot.summary.id)) {
        for secret in readable {
            let kek = slot.kek(secret).map_err(RekeyRefused::Stretch)?;
            if let Some(kek) = kek.filter(|kek| slot.unwrap(store_id, kek).is_some()) {
                kept.push((slot.summary.id, kek));
                break;
            }
        }
    }
    Ok(kept)
}

fn find<'a>(slots: &'a [Slot], id: &[u8; 16]) -> Option<&'a Slot> {
    slots.iter().find(|slot| slot.summary.id == *id)
}

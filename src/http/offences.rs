use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{quota::Source, token::TokenDigest};

/// Who broke the rules lately, and how long each is to wait for that.
///
/// Being cut off or refused costs an attacker nothing who comes again at once, while each time costs
/// a handshake, or a large body that is received and read in vain. So the next one is kept waiting
/// before anything is done for it: the longer, the more often it happened.
#[derive(Debug, Clone, Default)]
pub(super) struct Offences(Arc<Mutex<HashMap<Offender, Offence>>>);

/// Who is held to account. Behind a proxy all clients are one source, so that what one of them can
/// do through it must not have the others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Offender {
    /// Whoever connects from there: broke the protocol; waits before its next handshake.
    Peer(Source),
    /// Whoever sends from there without a token: sent large bodies that nobody wanted; waits before
    /// the next one is taken in.
    Stranger(Source),
    /// The holder of a token: sent large bodies in vain; waits before the next one is read.
    Holder(TokenDigest),
}

/// How one of them behaves.
#[derive(Debug, Clone)]
pub(super) struct Conduct {
    offences: Offences,
    offender: Offender,
}

/// What one of them has done.
#[derive(Debug, Clone, Copy)]
struct Offence {
    /// Doublings of the wait; falls with the time since `last`.
    level: u32,
    last: Instant,
}

impl Offences {
    /// How this one behaves.
    pub(super) fn of(&self, offender: Offender) -> Conduct {
        Conduct { offences: self.clone(), offender }
    }

    fn note(&self, offender: Offender) {
        let now = Instant::now();
        let mut offences = self.offences();
        if offences.len() >= MAX_OFFENDERS && !offences.contains_key(&offender) {
            offences.retain(|_, offence| offence.level_at(now) > 0);
            if offences.len() >= MAX_OFFENDERS {
                return;
            }
        }
        let offence = offences.entry(offender).or_insert(Offence { level: 0, last: now });
        *offence = Offence { level: (offence.level_at(now) + 1).min(MAX_LEVEL), last: now };
    }

    fn due(&self, offender: Offender) -> Option<Duration> {
        let offences = self.offences();
        let level = offences.get(&offender)?.level_at(Instant::now());
        (level > 0).then(|| (FIRST_WAIT * (1 << (level - 1))).min(LONGEST_WAIT))
    }

    fn offences(&self) -> MutexGuard<'_, HashMap<Offender, Offence>> {
        // Each change is one step, so that a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conduct {
    /// Notes that it broke the rules.
    pub(super) fn offend(&self) {
        self.offences.note(self.offender);
    }

    /// Waits as long as it has to: not at all, in most cases.
    pub(super) async fn wait(&self) {
        if let Some(wait) = self.offences.due(self.offender) {
            sleep(wait).await;
        }
    }
}

impl Offence {
    fn level_at(&self, now: Instant) -> u32 {
        let forgiven = now.duration_since(self.last).as_secs() / FORGIVEN_EACH.as_secs();
        self.level.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

/// For a first offence: somebody who made a mistake hardly notices.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Shorter than what any client gives a connection, for those who share a source with an attacker.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// From here on the wait is the longest.
const MAX_LEVEL: u32 = 6;
/// One doubling is taken back after this time without an offence.
const FORGIVEN_EACH: Duration = Duration::from_secs(2);
/// As many are kept, in some 400 KB. Offenders beyond them are not made to wait.
const MAX_OFFENDERS: usize = 4_096;

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn peer(last: u32) -> Offender {
        Offender::Peer(Source::V4(0xc000_0200 + last))
    }

    #[tokio::test(start_paused = true)]
    async fn an_offender_waits_the_longer_the_more_often_it_offends_and_is_forgiven() {
        let offences = Offences::default();
        let due = || offences.due(peer(1)).map_or(0, |wait| wait.as_millis());
        assert_eq!(due(), 0);
        for wanted in [50, 100, 200, 400, 800, 1000, 1000] {
            offences.note(peer(1));
            assert_eq!(due(), wanted);
        }
        assert_eq!(offences.due(peer(2)), None, "others do not wait");
        let Offender::Peer(source) = peer(1) else { unreachable!() };
        assert_eq!(offences.due(Offender::Stranger(source)), None, "nor for other things");
        for wanted in [800, 400, 200, 100, 50, 0] {
            advance(FORGIVEN_EACH).await;
            assert_eq!(due(), wanted);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_offenders_are_kept_than_there_is_room_for() {
        let offences = Offences::default();
        let most = u32::try_from(MAX_OFFENDERS).unwrap();
        (0..most + 5).for_each(|last| offences.note(peer(last)));
        assert_eq!(offences.offences().len(), MAX_OFFENDERS);
        assert_eq!(offences.due(peer(most)), None);
        assert_eq!(offences.due(peer(1)), Some(FIRST_WAIT));
        advance(FORGIVEN_EACH).await;
        offences.note(peer(most));
        assert_eq!(offences.due(peer(most)), Some(FIRST_WAIT));
        assert_eq!(offences.offences().len(), 1, "who is forgiven is not kept");
    }
}

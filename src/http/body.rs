use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Version, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use zeroize::Zeroizing;

use super::offences::Conduct;
use crate::{config::Limits, gate::Rejection, secret::SecretBytes};

/// One budget for the bodies of all requests in memory, whoever sends them.
#[derive(Debug, Clone)]
pub(super) struct Bodies(Arc<Semaphore>);

/// What a body has taken of the budget; given back on drop.
#[derive(Debug)]
pub(super) struct Share(Option<OwnedSemaphorePermit>);

impl Bodies {
    pub(super) fn new(limits: Limits) -> Self {
        let mib = usize::try_from(limits.body_memory_mib.get()).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(mib.saturating_mul(UNITS_IN_MIB).min(Semaphore::MAX_PERMITS))))
    }

    /// Reads a body of at most `limit` bytes within 30 seconds. A sender that broke the rules waits
    /// before more than [`LARGE_BODY`] is read.
    ///
    /// The budget is charged for what has come, not for what was announced: an announcement costs
    /// its sender nothing.
    ///
    /// # Errors
    /// [`Rejection`] when it is larger, does not end in time, breaks off, or the budget is spent.
    pub(super) async fn read<B: Body<Data = Bytes> + Unpin>(
        &self,
        body: &mut B,
        limit: usize,
        conduct: &Conduct,
    ) -> Result<(SecretBytes, Share), Rejection> {
        if body.is_end_stream() {
            return Ok(Self::none());
        }
        let mut bytes = Zeroizing::new(Vec::new());
        let collected = timeout(READ_TIMEOUT, self.collect(body, limit, conduct, &mut bytes));
        let share = match collected.await.unwrap_or(Err(Rejection::BodyIncomplete)) {
            Ok(share) => share,
            Err(refused) => {
                // What has come was received for nothing.
                if bytes.len() > LARGE_BODY && !matches!(refused, Rejection::TooBusy) {
                    conduct.offend();
                }
                return Err(refused);
            }
        };
        Ok((SecretBytes::from_vec(std::mem::take(&mut *bytes)), share))
    }

    /// No body, which takes nothing of the budget.
    pub(super) fn none() -> (SecretBytes, Share) {
        (SecretBytes::from_vec(Vec::new()), Share(None))
    }

    async fn collect<B: Body<Data = Bytes> + Unpin>(
        &self,
        body: &mut B,
        limit: usize,
        conduct: &Conduct,
        bytes: &mut Zeroizing<Vec<u8>>,
    ) -> Result<Share, Rejection> {
        let announced = body.size_hint();
        let at_least = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
        if at_least > limit {
            return Err(Rejection::BodyTooLarge);
        }
        let room = if announced.exact().is_some() { at_least } else { limit.min(FIRST_ROOM) };
        **bytes = Vec::with_capacity(room);
        let mut share = Share(None);
        let (mut charged, mut has_waited) = (0, false);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Rejection::BodyIncomplete)?;
            let Some(data) = frame.data_ref() else { continue };
            let length = bytes.len() + data.len();
            if length > limit {
                return Err(Rejection::BodyTooLarge);
            }
            if length > LARGE_BODY && !has_waited {
                conduct.wait().await;
                has_waited = true;
            }
            while charged < length {
                let step = STEP.min(limit - charged);
                share.charge(&self.0, step)?;
                charged += step;
            }
            if length > bytes.capacity() {
                grow(bytes, length.saturating_mul(2).min(limit));
            }
            bytes.extend_from_slice(data);
        }
        Ok(share)
    }
}

impl Share {
    fn charge(&mut self, budget: &Arc<Semaphore>, bytes: usize) -> Result<(), Rejection> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        // Waiting for others to finish while holding a part of the budget could wait for ever.
        let more =
            Arc::clone(budget).try_acquire_many_owned(units).map_err(|_| Rejection::TooBusy)?;
        match &mut self.0 {
            None => self.0 = Some(more),
            Some(held) => held.merge(more),
        }
        Ok(())
    }
}

/// Takes in what little of an unwanted body is on its way, so that its sender reads the answer
/// instead of an error of its own: a server that closes a connection with unread bytes resets it.
/// To send a large one is an offence.
pub(super) async fn discard<B: Body<Data = Bytes> + Unpin>(
    parts: &Parts,
    body: &mut B,
    conduct: impl FnOnce() -> Conduct,
) {
    // HTTP/2 resets one stream, not the connection. Who expects a word before sending sends nothing
    // without it.
    let is_awaited = parts.version < Version::HTTP_2 && !parts.headers.contains_key(header::EXPECT);
    if body.is_end_stream() || !is_awaited {
        return;
    }
    // What has not come by then is cut off with the connection.
    drop(Box::pin(timeout(DISCARD_TIMEOUT, take_in(body, conduct()))).await);
}

async fn take_in<B: Body<Data = Bytes> + Unpin>(body: &mut B, conduct: Conduct) {
    let (mut taken, mut is_large) = (0, false);
    while taken < DISCARDED {
        let Some(Ok(frame)) = body.frame().await else { return };
        taken += frame.data_ref().map_or(1, Bytes::len);
        if taken > LARGE_BODY && !is_large {
            is_large = true;
            conduct.offend();
            conduct.wait().await;
        }
    }
}

/// Moves to a larger buffer and wipes the old one, which growing in place would leave behind.
fn grow(bytes: &mut Zeroizing<Vec<u8>>, room: usize) {
    let mut larger = Zeroizing::new(Vec::with_capacity(room));
    larger.extend_from_slice(bytes);
    *bytes = larger;
}

/// What takes more than this to receive and read is worth an attacker's while.
pub(super) const LARGE_BODY: usize = 16 * 1024;
/// A body must end within this time.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The budget is charged in steps of this many bytes.
const STEP: usize = 64 * 1024;
/// Bytes in a unit of the budget.
const UNIT: usize = 1024;
const UNITS_IN_MIB: usize = 1024 * 1024 / UNIT;
/// Room for a body that does not announce its length.
const FIRST_ROOM: usize = 8 * 1024;
/// An unwanted body is read this far.
const DISCARDED: usize = 256 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use axum::body::Body;
    use http_body_util::Full;
    use hyper::body::Frame;
    use tokio::time::Instant;

    use super::*;
    use crate::{
        http::offences::{Offences, Offender},
        quota::Source,
    };

    fn budget(mib: u32) -> Bodies {
        Bodies::new(Limits { body_memory_mib: mib.try_into().unwrap(), ..Limits::default() })
    }

    /// Somebody who has done nothing.
    fn nobody() -> Conduct {
        Offences::default().of(Offender::Stranger(Source::Everyone))
    }

    /// A body that does not announce its length.
    fn chunks(chunks: Vec<Vec<u8>>) -> Body {
        Body::new(Chunks { chunks: chunks.into_iter(), ends: true })
    }

    struct Chunks {
        chunks: std::vec::IntoIter<Vec<u8>>,
        ends: bool,
    }

    impl hyper::body::Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.chunks.next() {
                None if !self.ends => Poll::Pending,
                chunk => Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk.into())))),
            }
        }
    }

    #[tokio::test]
    async fn a_body_comes_back_whole() {
        let bodies = budget(1);
        let (read, share) = bodies.read(&mut Body::from("{}"), 10, &nobody()).await.unwrap();
        assert!(read.expose(|bytes| bytes == b"{}"));
        drop(share);
        let parts: Vec<Vec<u8>> = (0..100u8).map(|byte| vec![byte; 1000]).collect();
        let (read, _share) =
            bodies.read(&mut chunks(parts.clone()), 100_000, &nobody()).await.unwrap();
        assert!(read.expose(|bytes| bytes == parts.concat()));
    }

    #[tokio::test]
    async fn a_larger_body_is_refused_announced_or_not() {
        let bodies = budget(1);
        let mut announced = Body::new(Full::new(Bytes::from(vec![0; 11])));
        let refused = bodies.read(&mut announced, 10, &nobody()).await.unwrap_err();
        assert!(matches!(refused, Rejection::BodyTooLarge));
        let refused =
            bodies.read(&mut chunks(vec![vec![0; 6]; 2]), 10, &nobody()).await.unwrap_err();
        assert!(matches!(refused, Rejection::BodyTooLarge));
    }

    #[tokio::test]
    async fn all_bodies_share_one_budget_and_give_it_back() {
        let bodies = budget(1);
        let half = || chunks(vec![vec![0; 512 * 1024]]);
        let limit = 1024 * 1024;
        let (_, first) = bodies.read(&mut half(), limit, &nobody()).await.unwrap();
        let (_, _second) = bodies.read(&mut half(), limit, &nobody()).await.unwrap();
        let refused = bodies.read(&mut Body::from("x"), limit, &nobody()).await.unwrap_err();
        assert!(matches!(refused, Rejection::TooBusy));
        drop(first);
        assert!(bodies.read(&mut half(), limit, &nobody()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_large_body_waits() {
        let bodies = budget(1);
        let limit = 1024 * 1024;
        let parts = |count| chunks(vec![vec![0; LARGE_BODY / 2]; count]);
        let begin = Instant::now();
        let waiting = nobody();
        waiting.offend();
        bodies.read(&mut parts(2), limit, &waiting).await.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
        bodies.read(&mut parts(4), limit, &waiting).await.unwrap();
        assert!(begin.elapsed() > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_given_up() {
        let mut stalled = Body::new(Chunks { chunks: vec![vec![0; 3]].into_iter(), ends: false });
        let refused = budget(1).read(&mut stalled, 10, &nobody()).await.unwrap_err();
        assert!(matches!(refused, Rejection::BodyIncomplete));
    }
}

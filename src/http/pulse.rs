use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// What one connection is doing: waiting, receiving a request's head, or busy with requests.
///
/// hyper's own limit on heads runs while a connection waits for its next request too, so it cannot
/// be short for heads and long for waiting; this one tells the two apart. All is relaxed: a reader
/// that is late by one step looks again.
#[derive(Debug)]
pub(super) struct Pulse {
    opened: Instant,
    /// Nanoseconds after `opened` at which the present waiting or receiving began.
    since: AtomicU64,
    receiving: AtomicBool,
    requests: AtomicU32,
    /// When the client stopped taking what is written, as nanoseconds after `opened`; 0 while it
    /// takes it.
    stalled: AtomicU64,
    heads: Heads,
}

/// Whether bytes that come while no request runs are the beginning of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heads {
    /// HTTP/1.1: they are.
    Plain,
    /// HTTP/2: they may be pings; h2 bounds heads by size, and one connection can stall only
    /// itself.
    Framed,
}

/// Held while a request runs.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pulse>);

impl Pulse {
    pub(super) fn new(heads: Heads) -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            since: AtomicU64::new(0),
            receiving: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            stalled: AtomicU64::new(0),
            heads,
        })
    }

    /// Marks the beginning of a request; its end is when the answer is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Relaxed);
        self.receiving.store(false, Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether a head has begun and not ended.
    pub(super) fn is_receiving(&self) -> bool {
        self.receiving.load(Relaxed)
    }

    fn read(&self) {
        let begins = self.heads == Heads::Plain
            && self.requests.load(Relaxed) == 0
            && !self.receiving.swap(true, Relaxed);
        if begins {
            self.mark();
        }
    }

    /// Whether the client does not take what is written.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Relaxed) != 0
    }

    /// Notes whether the client took what was written.
    fn wrote<T>(&self, outcome: &Poll<T>) {
        if outcome.is_pending() {
            if !self.is_stalled() {
                self.stalled.store(self.now().max(1), Relaxed);
            }
            return;
        }
        self.stalled.store(0, Relaxed);
        // Answers to pings are no work: with them a client could keep what it does not read.
        if self.heads == Heads::Plain && !self.is_receiving() {
            self.mark();
        }
    }

    fn mark(&self) {
        self.since.store(self.now(), Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// When the present waiting, receiving or stalling has lasted too long. Only stalling has an end
    /// while a request runs.
    fn deadline(&self) -> Option<Instant> {
        let after = |nanos: u64, patience| self.opened + Duration::from_nanos(nanos) + patience;
        let stalled = self.stalled.load(Relaxed);
        let unread = (stalled != 0).then(|| after(stalled, STALL_TIMEOUT));
        if self.requests.load(Relaxed) > 0 {
            return unread;
        }
        let patience = if self.is_receiving() { HEAD_TIMEOUT } else { IDLE_TIMEOUT };
        let silent = after(self.since.load(Relaxed), patience);
        Some(unread.map_or(silent, |unread| unread.min(silent)))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.mark();
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// Ends when the connection has waited or received for too long.
///
/// To be polled in the connection's own task, whose every wake-up may have moved the deadline. Its
/// timer is set back only when the deadline comes nearer, which is when a head begins and stalls.
#[derive(Debug)]
pub(super) struct Expiry {
    pulse: Arc<Pulse>,
    timer: Pin<Box<Sleep>>,
}

impl Expiry {
    pub(super) fn new(pulse: Arc<Pulse>) -> Self {
        let timer = Box::pin(sleep_until(pulse.opened + IDLE_TIMEOUT));
        Self { pulse, timer }
    }
}

impl Future for Expiry {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let deadline = self.pulse.deadline();
            if let Some(deadline) = deadline.filter(|&deadline| deadline < self.timer.deadline()) {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(context));
            match deadline {
                Some(deadline) if deadline <= self.timer.deadline() => return Poll::Ready(()),
                Some(deadline) => self.timer.as_mut().reset(deadline),
                None => self.timer.as_mut().reset(Instant::now() + IDLE_TIMEOUT),
            }
        }
    }
}

/// A stream that tells its [`Pulse`] when bytes pass.
#[derive(Debug)]
pub(super) struct Pulsed<S> {
    stream: S,
    /// What was read of it before.
    first: Option<u8>,
    pulse: Arc<Pulse>,
}

impl<S> Pulsed<S> {
    /// A stream of which the first byte has been read.
    pub(super) fn new(stream: S, first: u8, pulse: Arc<Pulse>) -> Self {
        Self { stream, first: Some(first), pulse }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pulsed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.pulse.read();
            // What was read before is there though nothing more is.
            return if read.is_pending() { Poll::Ready(Ok(())) } else { read };
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pulsed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.pulse.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.pulse.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_pending() || self.pulse.is_stalled() {
            self.pulse.wrote(&flushed);
        }
        flushed
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A head that has begun must end within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A client must take something of what is written to it within this time.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection on which nothing happens is closed after this time.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::advance,
    };

    use super::*;

    async fn is_over(expiry: &mut Expiry) -> bool {
        std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *expiry).poll(context).is_ready()))
            .await
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_has_five_minutes() {
        let mut expiry = Expiry::new(Pulse::new(Heads::Plain));
        advance(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        assert!(!is_over(&mut expiry).await);
        advance(Duration::from_secs(2)).await;
        assert!(is_over(&mut expiry).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_ten_seconds_from_its_first_byte() {
        let pulse = Pulse::new(Heads::Plain);
        let mut expiry = Expiry::new(Arc::clone(&pulse));
        advance(Duration::from_secs(100)).await;
        for _ in 0..9 {
            pulse.read();
            assert!(!is_over(&mut expiry).await);
            advance(Duration::from_secs(1)).await;
        }
        pulse.read();
        advance(Duration::from_secs(2)).await;
        assert!(is_over(&mut expiry).await);
        assert!(pulse.is_receiving());
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_request_has_no_deadline_here_and_starts_the_wait_anew() {
        let pulse = Pulse::new(Heads::Plain);
        let mut expiry = Expiry::new(Arc::clone(&pulse));
        pulse.read();
        let busy = pulse.busy();
        pulse.read();
        advance(IDLE_TIMEOUT * 3).await;
        assert!(!is_over(&mut expiry).await);
        drop(busy);
        advance(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        assert!(!is_over(&mut expiry).await);
        advance(Duration::from_secs(2)).await;
        assert!(is_over(&mut expiry).await);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_must_be_taken_even_while_a_request_runs() {
        let pulse = Pulse::new(Heads::Plain);
        let mut expiry = Expiry::new(Arc::clone(&pulse));
        let _busy = pulse.busy();
        for _ in 0..3 {
            pulse.wrote(&Poll::<()>::Pending);
            assert!(!is_over(&mut expiry).await);
            advance(STALL_TIMEOUT - Duration::from_secs(1)).await;
            assert!(!is_over(&mut expiry).await);
            pulse.wrote(&Poll::Ready(()));
        }
        pulse.wrote(&Poll::<()>::Pending);
        assert!(!is_over(&mut expiry).await);
        advance(STALL_TIMEOUT / 2).await;
        pulse.wrote(&Poll::<()>::Pending);
        advance(STALL_TIMEOUT / 2 + Duration::from_secs(1)).await;
        assert!(is_over(&mut expiry).await && pulse.is_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn pings_do_not_keep_a_connection() {
        let pulse = Pulse::new(Heads::Framed);
        let mut expiry = Expiry::new(Arc::clone(&pulse));
        for _ in 0..10 {
            advance(IDLE_TIMEOUT / 9).await;
            pulse.read();
            pulse.wrote(&Poll::Ready(()));
        }
        assert!(is_over(&mut expiry).await);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_not_heads() {
        let pulse = Pulse::new(Heads::Framed);
        let mut expiry = Expiry::new(Arc::clone(&pulse));
        pulse.read();
        advance(HEAD_TIMEOUT * 2).await;
        assert!(!is_over(&mut expiry).await);
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first_and_does_not_wait_for_more() {
        let (mut client, server) = duplex(16);
        let mut stream = Pulsed::new(server, b'G', Pulse::new(Heads::Plain));
        let mut buffer = [0; 16];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
        client.write_all(b"ET").await.unwrap();
        assert_eq!(stream.read(&mut buffer[1..]).await.unwrap(), 2);
        assert_eq!(&buffer[..3], b"GET");
        let (mut client, server) = duplex(16);
        client.write_all(b"ET").await.unwrap();
        let mut stream = Pulsed::new(server, b'G', Pulse::new(Heads::Plain));
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 3);
        assert!(stream.pulse.is_receiving());
    }
}

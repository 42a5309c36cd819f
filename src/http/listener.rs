use std::{
    convert::Infallible,
    error::Error,
    io,
    net::SocketAddr,
    num::NonZeroU32,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::response::Response;
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    body::Bodies,
    crowd::{Crowd, Visitor},
    offences::{Offences, Offender},
    places::Places,
    pulse::{Expiry, Heads, IDLE_TIMEOUT, Pulse, Pulsed},
    service::{Origin, service},
    tls::{self, TlsError},
};
use crate::{
    config::{Limits, Listener, Transport},
    gate::Connection,
    pipeline::Kista,
    quota::Source,
};

/// The server cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program listens there.
    #[error(
        "cannot listen on {address}: another program does; `kista status` tells whether it is a \
         Kista, --listen chooses another address"
    )]
    Taken {
        /// The address.
        address: SocketAddr,
    },
    /// The address is not this machine's, the port needs privileges, or the like.
    #[error("cannot listen on {address}: choose another address with --listen")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Plain HTTP was asked for where others could listen in.
    #[error("plain HTTP is for loopback addresses only, and {address} is none: use TLS")]
    PlainOffLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The TLS files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A bound listener, ready to serve.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    limits: Limits,
    offences: Offences,
}

impl Server {
    /// Reads the TLS files and binds the address. Connections queue from here on and are served by
    /// [`run`](Self::run). To be called inside a Tokio runtime, whose sockets these are.
    ///
    /// # Errors
    /// [`BindError`] when the address or the TLS files cannot be used.
    pub fn bind(config: &Listener, limits: Limits) -> Result<Self, BindError> {
        let address = config.address;
        let tls = match &config.transport {
            Transport::Tls(files) => Some(tls::server_config(files)?),
            Transport::Plain if address.ip().is_loopback() => None,
            Transport::Plain => return Err(BindError::PlainOffLoopback { address }),
        };
        let refused = |source: io::Error| {
            if source.kind() == io::ErrorKind::AddrInUse {
                BindError::Taken { address }
            } else {
                BindError::Refused { address, source }
            }
        };
        let listener = listen(address).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, tls, limits, offences: Offences::default() })
    }

    /// The address bound: the port is the system's choice when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves `kista` until `shutdown` ends; then stops accepting, lets running requests end within
    /// 30 seconds, and closes what is left.
    pub async fn run(self, kista: Kista, shutdown: impl Future<Output = ()>) {
        let bodies = Bodies::new(self.limits);
        let places = Places::new(self.limits);
        let (is_tls, offences) = (self.tls.is_some(), self.offences.clone());
        let connected = move |connection| {
            let (kista, bodies, places) = (kista.clone(), bodies.clone(), places.clone());
            let offences = offences.clone();
            service(Origin { kista, bodies, places, offences, connection, is_tls })
        };
        self.serve(connected, shutdown).await;
    }

    /// The same with any service, made anew for each connection.
    pub(super) async fn serve<F, S>(self, service: F, shutdown: impl Future<Output = ()>)
    where
        F: Fn(Connection) -> S + Send + Sync + 'static,
        S: Answers,
    {
        let Self { listener, address: _, tls, limits, offences } = self;
        let (stage, watched) = watch::channel(Stage::Serving);
        let connections = bearable(limits.connections);
        let all_slots = connections.get();
        let slots = Arc::new(Semaphore::new(permits(connections)));
        let crowd = Crowd::new(limits.connections_per_source);
        let mut refusals = Refusals::default();
        let edge = Arc::new(Edge {
            service,
            tls: tls.map(TlsAcceptor::from),
            handshakes: Semaphore::new(permits(limits.handshakes)),
            http1: http1(),
            http2: http2(),
            offences,
        });
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            let (socket, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    refusals.pause_after(&error).await;
                    continue;
                }
            };
            // One more than the limit is closed at once: waiting would look like a hung server.
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                tracing::debug!(%remote, "connection refused: too many are open");
                continue;
            };
            let Some(visitor) = crowd.enter(remote.ip()) else {
                tracing::debug!(%remote, "connection refused: its source has too many open");
                continue;
            };
            let slot = Slot { _visitor: visitor, _of_all: slot };
            let served = Arc::clone(&edge).take(socket, remote, watched.clone(), slot);
            tokio::spawn(served);
        }
        drop(listener);
        for (next, patience) in [(Stage::Draining, DRAIN_TIMEOUT), (Stage::Closing, CLOSE_TIMEOUT)]
        {
            stage.send_replace(next);
            if timeout(patience, slots.acquire_many(all_slots)).await.is_ok() {
                break;
            }
        }
    }
}

/// The place of an open connection, among all and among those of its source.
struct Slot {
    _visitor: Visitor,
    _of_all: OwnedSemaphorePermit,
}

/// What the server is doing; tells connections when to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    Draining,
    Closing,
}

/// What answers the requests of a connection.
pub(super) trait Answers:
    Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Send + 'static
{
}

impl<S> Answers for S where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>
        + Send
        + 'static
{
}

/// What all connections share.
struct Edge<F> {
    service: F,
    tls: Option<TlsAcceptor>,
    handshakes: Semaphore,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    offences: Offences,
}

impl<F, S> Edge<F>
where
    F: Fn(Connection) -> S + Send + Sync + 'static,
    S: Answers,
{
    /// Serves one connection to its end.
    async fn take(
        self: Arc<Self>,
        socket: TcpStream,
        remote: SocketAddr,
        mut stage: watch::Receiver<Stage>,
        slot: Slot,
    ) {
        // An IPv4 client of an IPv6 listener is named by its IPv4 address.
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        // Answers are written whole, so waiting for more to send only delays them.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%remote, %error, "cannot set TCP_NODELAY");
        }
        let conduct = self.offences.of(Offender::Peer(Source::of(remote.ip())));
        tokio::select! {
            () = conduct.wait() => {}
            _ = stage.changed() => return,
        }
        let Some(tls) = &self.tls else {
            let connection = Connection { remote, client_certificate: None };
            return self.speak(socket, Heads::Plain, connection, stage, slot).await;
        };
        // Boxed, so that what a handshake needs is given back with its end, and the stream since it
        // is handed on and every future on the way would have room for it.
        let handshake = Box::pin(async {
            let _turn = self.handshakes.acquire().await;
            tls.accept(socket).await.map(Box::new)
        });
        let stream = tokio::select! {
            shaken = timeout(HANDSHAKE_TIMEOUT, handshake) => match shaken {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(%remote, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => {
                    tracing::debug!(%remote, "TLS handshake took too long");
                    return;
                }
            },
            // A client in its handshake has asked for nothing yet.
            _ = stage.changed() => return,
        };
        let session = stream.get_ref().1;
        let heads =
            if session.alpn_protocol() == Some(tls::H2) { Heads::Framed } else { Heads::Plain };
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let client_certificate = shown.map(|certificate| Arc::from(certificate.as_ref()));
        let connection = Connection { remote, client_certificate };
        self.speak(stream, heads, connection, stage, slot).await;
    }

    /// Speaks HTTP on an open stream, once its client begins.
    async fn speak<I>(
        &self,
        mut stream: I,
        heads: Heads,
        connection: Connection,
        mut stage: watch::Receiver<Stage>,
        slot: Slot,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = Offender::Peer(Source::of(connection.remote.ip()));
        let first = tokio::select! {
            first = first_byte(&mut stream) => first,
            _ = stage.changed() => None,
        };
        let Some(first) = first else { return };
        let pulse = Pulse::new(heads);
        let service = (self.service)(connection);
        let service = service_fn({
            let pulse = Arc::clone(&pulse);
            move |request: Request<Incoming>| {
                let busy = pulse.busy();
                let answer = service.call(request);
                async move {
                    let answer = answer.await;
                    drop(busy);
                    answer
                }
            }
        });
        let stream = TokioIo::new(Pulsed::new(stream, first, Arc::clone(&pulse)));
        // Boxed, so that a connection which says nothing takes no room for it.
        let ended = match heads {
            Heads::Plain => {
                let connection = Box::pin(self.http1.serve_connection(stream, service));
                drive(connection, pulse, stage).await
            }
            Heads::Framed => {
                let connection = Box::pin(self.http2.serve_connection(stream, service));
                drive(connection, pulse, stage).await
            }
        };
        if let Err(error) = ended
            && is_offence(&error, heads)
        {
            tracing::debug!(%error, "connection closed: its client broke the protocol");
            self.offences.of(peer).offend();
        }
        drop(slot);
    }
}

/// The first byte that a client sends; `None` when none comes.
///
/// HTTP's own buffers, 16 KiB for each connection and more with HTTP/2, are made when it has come.
async fn first_byte(stream: &mut (impl AsyncRead + Unpin)) -> Option<u8> {
    timeout(IDLE_TIMEOUT, stream.read_u8()).await.ok()?.ok()
}

/// Whether a connection ended since its client broke the protocol: not that it left or was slow.
fn is_offence(error: &hyper::Error, heads: Heads) -> bool {
    match heads {
        Heads::Plain => error.is_parse(),
        Heads::Framed => {
            error.source().is_some_and(|cause| !cause.is::<io::Error>()) && !error.is_timeout()
        }
    }
}

/// Drives a connection until it ends, waits too long, or is told to end.
///
/// # Errors
/// What HTTP ended it for.
async fn drive<C: GracefulConnection<Error = hyper::Error>>(
    mut connection: Pin<Box<C>>,
    pulse: Arc<Pulse>,
    mut stage: watch::Receiver<Stage>,
) -> hyper::Result<()> {
    let mut expiry = Expiry::new(Arc::clone(&pulse));
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = &mut expiry => {
                if pulse.is_receiving() {
                    tracing::debug!("connection closed: a request's head took too long");
                    return Ok(());
                }
                if pulse.is_stalled() {
                    tracing::debug!("connection closed: its answers are not read");
                    return Ok(());
                }
                connection.as_mut().graceful_shutdown();
                // What cannot be sent by then goes unsent.
                return timeout(CLOSE_TIMEOUT, connection).await.unwrap_or(Ok(()));
            }
            changed = stage.changed() => {
                if changed.is_err() || *stage.borrow() == Stage::Closing {
                    return Ok(());
                }
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the last run's connections to leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connections that the system would not hand out.
#[derive(Debug, Default)]
struct Refusals {
    told: Option<Instant>,
}

impl Refusals {
    /// A connection that broke while it queued concerns nobody; want of file descriptors or memory
    /// does, and would otherwise spin. It lasts, so that a line for each try would fill the log.
    async fn pause_after(&mut self, error: &io::Error) {
        let broken = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset]
            .contains(&error.kind());
        if broken {
            return;
        }
        if self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            tracing::warn!(%error, "cannot accept connections; trying on");
            self.told = Some(Instant::now());
        }
        sleep(ACCEPT_PAUSE).await;
    }
}

/// So many connections, or as many as leave the store the files that it opens while it works: one
/// that cannot open the next segment of its journal stops writing.
fn bearable(wanted: NonZeroU32) -> NonZeroU32 {
    let Some(files) = getrlimit(Resource::Nofile).current else { return wanted };
    let most = u32::try_from(files.saturating_sub(FILES_OF_STORE)).unwrap_or(u32::MAX);
    let most = NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN);
    if most < wanted {
        tracing::warn!(
            files,
            connections = most.get(),
            "the system allows too few open files for limits.connections: fewer are served; raise \
             LimitNOFILE or `ulimit -n`"
        );
    }
    most.min(wanted)
}

fn http1() -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        // `Pulse` keeps the time of heads.
        .header_read_timeout(None)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES)
        // A call goes to its end though its client has left, so that nothing looks for that
        // meanwhile: with a head still in the buffer, looking takes a second one for each request.
        .half_close(true);
    http1
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(HEADER_LIST_BYTES)
        // "Rapid reset" (CVE-2023-44487): streams reset before they were taken up.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(64)
        // Bodies that nobody has read yet lie in these windows, outside the budget for bodies.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    http2
}

fn permits(limit: NonZeroU32) -> usize {
    usize::try_from(limit.get()).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS)
}

/// A client has this long to end its handshake, waiting for its turn included.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Running requests may end within this time after a stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The last words of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two lines in the log about it.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// Kept for the store, its logs and the runtime: a server at rest has some 20 open.
const FILES_OF_STORE: u64 = 96;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const BACKLOG: u32 = 1024;
/// A request line and its headers. A path has 2,048 bytes at most, written with percent signs three
/// times as many; the rest is for tokens and what proxies add.
const MAX_HEAD_BYTES: usize = 32 * 1024;
const HEADER_LIST_BYTES: u32 = 32 * 1024;
/// What an HTTP/1.1 connection buffers; hyper's own default is 400 KiB.
const BUFFER_BYTES: usize = 64 * 1024;

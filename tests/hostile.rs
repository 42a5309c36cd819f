//! Clients that stall, flood and lie: each is cut off or refused, an honest one is served
//! meanwhile, and the server's memory stays within 64 MiB of what it was.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use kista::{
    clock::{Clock, SystemClock},
    http::Certificates,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpSocket;

use crate::support::{Kept, Process};

/// What a server's memory may grow by under an attack, in KiB.
const GROWTH: u64 = 64 * 1024;

fn resident_kib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A server over plain HTTP, and what its memory was before anything happened.
struct Victim {
    process: Process,
    kept: Kept,
    before: u64,
    _folder: tempfile::TempDir,
}

impl Victim {
    fn new(settings: &str, files: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, kept) = Process::init_with(folder.path(), settings, files);
        let before = resident_kib(process.id());
        Self { process, kept, before, _folder: folder }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.process.socket_address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A connection on which this has been sent.
    fn sent(&self, bytes: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream
    }

    /// A head of a write whose body is still to come.
    fn write_head(&self, fields: &str) -> String {
        let root = &self.kept.root;
        format!(
            "POST /v1/secret/data/a HTTP/1.1\r\nHost: a\r\nX-Vault-Token: {root}\r\n{fields}\r\n\r\n"
        )
    }

    /// An honest client writes and reads, and the memory is what it may be.
    #[track_caller]
    fn is_well(&self) {
        let root = &self.kept.root;
        let body = r#"{"data":{"v":"honest"}}"#;
        let answer = self.process.call("POST", "secret/data/honest", root, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = self.process.call("GET", "secret/data/honest", root, "");
        assert!(answer.status == 200 && answer.text.contains("honest"), "{answer:?}");
        let now = resident_kib(self.process.id());
        assert!(now < self.before + GROWTH, "{} KiB, then {now} KiB", self.before);
    }
}

/// All that comes until the connection ends; fails when it is still open after [`PATIENCE`].
#[track_caller]
fn rest(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        let open = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind());
        assert!(!open, "the connection is still open");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks for what everybody may know, on a connection that goes on.
#[track_caller]
fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
}

/// The status of the first answer on a connection; 0 when it was closed without one.
fn status(stream: &mut TcpStream) -> u16 {
    let mut first = [0; 12];
    match stream.read_exact(&mut first) {
        Ok(()) => String::from_utf8_lossy(&first[9..]).parse().unwrap(),
        Err(_) => 0,
    }
}

/// Longer than any deadline of the server that is waited for here.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn who_stalls_is_cut_off_within_the_deadline() {
    let victim = Victim::new("", None);
    let count = 30;
    let many = |bytes: &str| -> Vec<TcpStream> { (0..count).map(|_| victim.sent(bytes)).collect() };
    let start = Instant::now();
    let heads = many("GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n");
    let bodies = many(&victim.write_head("Content-Length: 1000"));
    let chunks = many(&(victim.write_head("Transfer-Encoding: chunked") + "3e8\r\nxxx"));
    let drips = |mut stream: TcpStream, byte: &'static [u8]| {
        thread::spawn(move || {
            while stream.write_all(byte).is_ok() {
                thread::sleep(Duration::from_millis(200));
            }
        })
    };
    let slow_head = victim.sent("GET /v1/sys/health HTTP/1.1\r\nX: ");
    let slow_body = victim.sent(&victim.write_head("Content-Length: 1000"));
    let dripping =
        [drips(slow_head.try_clone().unwrap(), b"x"), drips(slow_body.try_clone().unwrap(), b" ")];
    // Asks for something large again and again and reads no answer.
    let large = format!("{{\"data\":{{\"v\":\"{}\"}}}}", "x".repeat(100_000));
    let root = &victim.kept.root;
    assert_eq!(victim.process.call("POST", "secret/data/large", root, &large).status, 200);
    let read =
        format!("GET /v1/secret/data/large HTTP/1.1\r\nHost: a\r\nX-Vault-Token: {root}\r\n\r\n");
    let mut deaf = victim.connect();
    let flood = thread::spawn(move || {
        let requests = read.repeat(1000);
        while deaf.write_all(requests.as_bytes()).is_ok() {}
    });
    victim.is_well();
    for mut stream in heads.into_iter().chain([slow_head]) {
        assert_eq!(rest(&mut stream), "");
    }
    assert!(start.elapsed() >= Duration::from_secs(8));
    victim.is_well();
    for mut stream in bodies.into_iter().chain(chunks).chain([slow_body]) {
        assert_eq!(status(&mut stream), 408);
        rest(&mut stream);
    }
    for client in dripping.into_iter().chain([flood]) {
        client.join().unwrap();
    }
    assert!(start.elapsed() < PATIENCE);
    victim.is_well();
}

#[test]
fn heads_that_are_too_large_or_have_two_readings_are_refused() {
    let victim = Victim::new("", None);
    let head = |fields: &str| format!("GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let post = |fields: &str, body: &str| victim.write_head(fields) + body;
    let body = r#"{"data":{"v":1}}"#;
    let length = body.len();
    let chunks = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let path = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    for (request, wanted) in [
        (head(&format!("X: {}", "x".repeat(40_000))), 431),
        (head(&"X: y\r\n".repeat(200)), 431),
        (path(&format!("/v1/{}", "a".repeat(40_000))), 431),
        (path(&format!("/v1/secret/data/{}", "a".repeat(5_000))), 400),
        (path("/v1/secret/data/%2e%2e/x"), 400),
        (path("/v1/secret/data/%00"), 400),
        (path("/v1/secret/data/%ff"), 400),
        // With an honest length each of these would be a good write.
        (post(&format!("Content-Length: {length}"), body), 200),
        (post(&format!("Content-Length: {length}\r\nContent-Length: 17"), body), 400),
        (post(&format!("Content-Length: {length}, {length}"), body), 400),
        (post(&format!("Content-Length: +{length}"), body), 400),
        (post(&format!("Content-Length: -{length}"), body), 400),
        (post("Content-Length: 18446744073709551632", body), 400),
        (post(&format!("Content-Length : {length}"), body), 400),
        (post(&format!("Content-Length: {length}\r\nX: a\r\n b"), body), 400),
        (post("Transfer-Encoding: chunked", &chunks), 200),
        (post("Transfer-Encoding: chunked, identity", &chunks), 400),
        (post("Transfer-Encoding: identity", &chunks), 400),
        (post("Transfer-Encoding: xchunked", &chunks), 400),
        (post("Transfer-Encoding : chunked", &chunks), 400),
        (post("Transfer-Encoding: chunked", &format!("fffffffffffffffff{chunks}")), 408),
        (post("Transfer-Encoding: chunked", &format!("zz{chunks}")), 408),
        ("\u{16}\u{3}\u{1}\0\u{5}hello\r\n\r\n".to_owned(), 400),
    ] {
        let shown: String = request.chars().take(160).collect();
        assert_eq!(status(&mut victim.sent(&request)), wanted, "{shown}");
    }
    // Where both are given, the chunks count, and what follows them is the next request.
    let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close";
    let both = post(both, &chunks);
    let answers = rest(&mut victim.sent(&both));
    assert!(answers.starts_with("HTTP/1.1 200"), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    victim.is_well();
}

#[test]
fn bodies_that_are_too_large_or_too_deep_are_refused() {
    let victim = Victim::new("", None);
    let announced = victim.write_head("Content-Length: 40000000");
    assert_eq!(status(&mut victim.sent(&announced)), 413);
    let mut chunked = victim.sent(&victim.write_head("Transfer-Encoding: chunked"));
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(65_536));
    for _ in 0..640 {
        if chunked.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    // The answer may be lost with the connection, which is closed on what was still coming.
    assert!(matches!(status(&mut chunked), 413 | 0));
    let root = &victim.kept.root;
    let nested = format!("{{\"data\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let twice = r#"{"data":{"a":1,"a":2}}"#;
    for body in [nested.as_str(), twice, r#"{"data":{"a":1}} x"#, r#"{"data":"#] {
        assert_eq!(victim.process.call("POST", "secret/data/a", root, body).status, 400);
    }
    victim.is_well();
}

/// Memory is not judged here: the audit file gets a hash for each of the strings, so that such a
/// body becomes a line of 24 MB (docs/SECURITY-TESTING.md).
#[test]
fn many_strings_are_written_and_others_are_served() {
    let victim = Victim::new("", None);
    let root = &victim.kept.root;
    let strings = format!("{{\"data\":{{\"a\":[{}\"\"]}}}}", "\"\",".repeat(300_000));
    for _ in 0..5 {
        let status = victim.process.call("POST", "secret/data/a", root, &strings).status;
        assert_eq!(status, 200);
    }
    let answer = victim.process.call("GET", "sys/health", "", "");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn large_bodies_in_vain_are_refused_and_others_are_served() {
    let victim = Victim::new("", None);
    let mut honest = victim.connect();
    let deep = "[".repeat(100_000);
    let whole = format!("Content-Length: {}", deep.len());
    let stranger = "POST /v1/secret/data/a HTTP/1.1\r\nHost: a\r\nX-Vault-Token: none\r\n";
    let bodies = [
        (victim.write_head(&whole) + &deep, 400),
        (victim.write_head("Content-Length: 100001") + &deep, 408),
        (format!("{stranger}{whole}\r\n\r\n{deep}"), 403),
    ];
    // Each has its source wait longer, up to a second before the next one is taken in.
    for (request, wanted) in bodies.iter().cycle().take(9) {
        let mut stream = victim.sent(request);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(status(&mut stream), *wanted);
        ask(&mut honest);
    }
    victim.is_well();
}

#[test]
fn the_holder_of_a_token_waits_who_sends_large_bodies_of_no_use() {
    let victim = Victim::new("", None);
    let useless = format!("{{\"none\":[{}\"\"]}}", "\"\",".repeat(10_000));
    let request = victim.write_head(&format!("Content-Length: {}", useless.len())) + &useless;
    let begun = Instant::now();
    for _ in 0..4 {
        assert_eq!(status(&mut victim.sent(&request)), 400);
    }
    // Before the second, third and fourth.
    assert!(begun.elapsed() >= Duration::from_millis(50 + 100 + 200), "{:?}", begun.elapsed());
    victim.is_well();
}

#[test]
fn half_sent_bodies_take_no_more_than_their_budget() {
    let victim = Victim::new("[limits]\nbody_memory_mib = 2\n", None);
    let half = victim.write_head("Content-Length: 1000000") + &"x".repeat(500_000);
    let mut held: Vec<TcpStream> = Vec::new();
    let root = &victim.kept.root;
    let body = r#"{"data":{"v":1}}"#;
    let deadline = Instant::now() + PATIENCE;
    // Those that come at once may turn each other away, and leave room for more.
    while victim.process.call("POST", "secret/data/b", root, body).status != 503 {
        assert!(Instant::now() < deadline, "the budget is never used up");
        held.push(victim.sent(&half));
    }
    // What needs no body goes on.
    assert_eq!(victim.process.call("GET", "sys/health", "", "").status, 200);
    assert_eq!(victim.process.call("GET", "secret/data/none", root, "").status, 404);
    held.clear();
    while victim.process.call("POST", "secret/data/b", root, body).status != 200 {
        assert!(Instant::now() < deadline, "the budget is never given back");
    }
    victim.is_well();
}

/// A connection from another address of this machine.
async fn from_elsewhere(to: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.2:0".parse().unwrap())?;
    socket.connect(to).await
}

#[tokio::test]
async fn one_source_cannot_take_all_connections() {
    let victim = Victim::new("[limits]\nconnections = 300\nconnections_per_source = 200\n", None);
    let to = victim.process.socket_address();
    let mut open = Vec::new();
    for _ in 0..5_000 {
        let stream = from_elsewhere(to).await.unwrap();
        // As many as one process may have open everywhere.
        if open.len() < 400 {
            open.push(stream);
        }
    }
    victim.is_well();
    let mut refused = 0;
    for stream in &mut open {
        let ended =
            tokio::time::timeout(Duration::from_millis(20), stream.readable()).await.is_ok();
        refused += usize::from(ended);
    }
    assert_eq!(refused, 200);
    drop(open);
    victim.is_well();
}

#[test]
fn want_of_open_files_stops_neither_the_store_nor_those_who_are_connected() {
    let victim = Victim::new("", Some(160));
    let mut honest = victim.connect();
    ask(&mut honest);
    let idle: Vec<TcpStream> = (0..400).map(|_| victim.connect()).collect();
    ask(&mut honest);
    let body = r#"{"data":{"v":1}}"#;
    let request = victim.write_head(&format!("Content-Length: {}", body.len())) + body;
    honest.write_all(request.as_bytes()).unwrap();
    assert_eq!(status(&mut honest), 200);
    assert!(victim.process.log().contains("too few open files"));
    drop(idle);
    let deadline = Instant::now() + PATIENCE;
    while status(&mut victim.sent("GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\n")) != 200 {
        assert!(Instant::now() < deadline);
    }
    victim.is_well();
}

/// A server over TLS, without a store: enough for all that is decided before one.
struct Shielded {
    child: Child,
    address: SocketAddr,
    client: Arc<ClientConfig>,
    before: u64,
    _folder: tempfile::TempDir,
}

impl Shielded {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificates =
            Certificates::ensure(&folder.path().join("tls"), &[], SystemClock.now()).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let pem = path(&certificates.server);
        let data = path(&folder.path().join("data"));
        let child = Command::new(env!("CARGO_BIN_EXE_kista"))
            .args(["server", "--data", &data, "--listen", &address.to_string()])
            .args(["--tls-cert", &pem, "--tls-key", &pem])
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&certificates.authority).unwrap()).unwrap();
        let mut client =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let mut server =
            Self { child, address, client: Arc::new(client), before: 0, _folder: folder };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline && server.child.try_wait().unwrap().is_none());
            thread::yield_now();
        }
        server.is_served();
        server.before = resident_kib(server.child.id());
        server
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A connection over TLS on which nothing has been said.
    fn secured(&self) -> Framed {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let mut stream = StreamOwned::new(session, self.connect());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        stream
    }

    /// A connection that speaks HTTP/2, its preface and first SETTINGS sent (RFC 9113 §3.4).
    fn framed(&self, settings: &[u8]) -> Framed {
        let mut stream = self.secured();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, settings)).unwrap();
        stream
    }

    fn is_served(&self) {
        let mut stream = self.framed(&[]);
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &health())).unwrap();
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).unwrap();
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).unwrap();
            if head[3] == HEADERS {
                return;
            }
        }
    }

    #[track_caller]
    fn is_well(&self) {
        self.is_served();
        let now = resident_kib(self.child.id());
        assert!(now < self.before + GROWTH, "{} KiB, then {now} KiB", self.before);
    }
}

impl Drop for Shielded {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

type Framed = StreamOwned<ClientConnection, TcpStream>;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// One frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request for `sys/health`, in literals that no table keeps (RFC 7541 §6.2.2).
fn health() -> Vec<u8> {
    let path = b"/v1/sys/health";
    // :method GET, :scheme https and the name :path are in the static table.
    [&[0x82, 0x87, 0x04, u8::try_from(path.len()).unwrap()][..], path].concat()
}

/// Sends frames, number by number, until the server closes or so many are sent; tells which.
fn flood(mut stream: Framed, frames: u32, make: impl Fn(u32) -> Vec<u8>) -> bool {
    stream.sock.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    (0..frames).any(|number| stream.write_all(&make(number)).is_err())
}

#[test]
fn floods_of_frames_are_borne_or_cut_off() {
    let server = Shielded::new();
    let request = |number: u32| frame(HEADERS, END_STREAM | END_HEADERS, number * 2 + 1, &health());
    // Rapid reset (CVE-2023-44487).
    flood(server.framed(&[]), 20_000, |number| {
        [request(number), frame(RST_STREAM, 0, number * 2 + 1, &[0, 0, 0, 8])].concat()
    });
    server.is_well();
    // Streams without end, more than there may be.
    let begun = |number: u32| frame(HEADERS, END_HEADERS, number * 2 + 1, &health());
    flood(server.framed(&[]), 5_000, begun);
    server.is_well();
    // Answers to these are not read (CVE-2019-9512, CVE-2019-9515).
    flood(server.framed(&[]), 50_000, |_| frame(PING, 0, 0, &[7; 8]));
    server.is_well();
    flood(server.framed(&[]), 50_000, |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]));
    server.is_well();
    // Empty frames (CVE-2019-9518, RUSTSEC-2026-0258).
    flood(server.framed(&[]), 50_000, |number| match number {
        0 => begun(0),
        _ => frame(DATA, 0, 1, &[]),
    });
    server.is_well();
    // A head without end (CVE-2024-27316).
    let part: Vec<u8> = [&[0x00, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4_000]].concat();
    let cut = flood(server.framed(&[]), 5_000, |number| match number {
        0 => frame(HEADERS, 0, 1, &health()),
        _ => frame(CONTINUATION, 0, 1, &part),
    });
    assert!(cut, "a head without end");
    server.is_well();
    // A table of headers that is announced to be huge, and a window without room for an answer.
    let settings = [[0, 1, 0xff, 0xff, 0xff, 0xff], [0, 4, 0, 0, 0, 0]].concat();
    let deaf: Vec<Framed> = (0..20)
        .map(|_| {
            let mut stream = server.framed(&settings);
            for number in 0..100 {
                stream.write_all(&request(number)).unwrap();
            }
            stream
        })
        .collect();
    server.is_well();
    drop(deaf);
    // A window beyond what there is (RFC 9113 §6.9.1).
    flood(server.framed(&[]), 100, |_| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]));
    server.is_well();
}

#[test]
fn who_says_nothing_takes_little_memory() {
    let server = Shielded::new();
    let silent: Vec<Framed> = (0..SILENT).map(|_| server.secured()).collect();
    server.is_served();
    let grown = resident_kib(server.child.id()).saturating_sub(server.before);
    // 5,000 of them stay within what an attack may take.
    assert!(grown < SILENT * GROWTH / 5_000, "{grown} KiB");
    drop(silent);
    server.is_well();
}

/// Fewer than one source may have.
const SILENT: u64 = 900;

#[test]
fn who_does_not_finish_a_handshake_is_cut_off() {
    let server = Shielded::new();
    let start = Instant::now();
    // More than may shake hands at once; the first bytes of a ClientHello, or none.
    let mut silent: Vec<TcpStream> = (0..400).map(|_| server.connect()).collect();
    for stream in silent.iter_mut().step_by(2) {
        stream.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    }
    let mut plain = server.connect();
    plain.write_all(b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    for stream in silent.iter_mut().chain([&mut plain]) {
        rest(stream);
    }
    assert!(start.elapsed() < Duration::from_secs(60));
    server.is_well();
}

//! The load: a process of its own, so that its work is not counted as the server's.

use std::{
    env, fs, io,
    net::SocketAddr,
    path::Path,
    process::{self, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Connections that are kept open and each carry one request at a time.
pub(crate) const CONNECTIONS: usize = 64;

/// What every connection sends, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Reads one secret.
    Read,
    /// Writes secrets of 300 bytes, each of them a new one.
    Create,
    /// Writes new versions of secrets of 300 bytes, each connection those of its own.
    Update,
    /// Encrypts 256 bytes.
    Encrypt,
    /// Encrypts 256 bytes, a thousand times in one request.
    Batch,
}

impl Work {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Read, "read"),
        (Self::Create, "create"),
        (Self::Update, "update"),
        (Self::Encrypt, "encrypt"),
        (Self::Batch, "batch"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(work, _)| *work == self).map_or("", |(_, word)| word)
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Answers for each second.
    pub(crate) rate: f64,
    /// Median and 99th percentile of the time from request to answer.
    pub(crate) p50: Duration,
    /// See `p50`.
    pub(crate) p99: Duration,
    /// Processor time that the load itself took for each answer.
    pub(crate) load_micros: f64,
}

/// Runs this program again as the load on `address` and waits for what it counted.
pub(crate) fn drive(
    work: Work,
    address: SocketAddr,
    ca: &Path,
    token: &str,
    seconds: u64,
) -> io::Result<Outcome> {
    let output = Command::new(env::current_exe()?)
        .arg(MARK)
        .arg(work.word())
        .args([address.to_string(), seconds.to_string()])
        .arg(ca)
        .env(TOKEN, token)
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || match numbers.next() {
        Some(Ok(number)) => Ok(number),
        _ => Err(io::Error::other(format!("the load ended with {}", output.status))),
    };
    Ok(Outcome {
        rate: next()?,
        p50: Duration::from_secs_f64(next()?),
        p99: Duration::from_secs_f64(next()?),
        load_micros: next()?,
    })
}

/// One request from here: the body of its answer.
pub(crate) fn once(
    address: SocketAddr,
    ca: &Path,
    token: &str,
    (method, path): (&str, &str),
    body: &str,
) -> io::Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = Client::connect(&connector(ca)?, address, token, 0).await?;
        let request = client.request(method, path, body);
        client.stream.write_all(&request).await?;
        let head = client.answer().await?;
        Ok(client.buffer.split_off(head))
    })
}

/// In the process that is the load: drives, and returns the line for its parent.
pub(crate) fn as_load() -> Option<io::Result<String>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, mark, work, address, seconds, ca] = arguments.as_slice() else { return None };
    if mark != MARK {
        return None;
    }
    let (work, _) = Work::ALL.into_iter().find(|(_, word)| word == work)?;
    Some(run(work, address, seconds, Path::new(ca)))
}

fn run(work: Work, address: &str, seconds: &str, ca: &Path) -> io::Result<String> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let length = Duration::from_secs(seconds.parse().map_err(io::Error::other)?);
    let connector = connector(ca)?;
    let token = env::var(TOKEN).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = runtime.block_on(async {
        let mut tasks = Vec::new();
        let end = Instant::now() + length;
        for number in 0..CONNECTIONS {
            let client = Client::connect(&connector, address, &token, number).await?;
            tasks.push(tokio::spawn(client.run(work, end)));
        }
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.map_err(io::Error::other)??);
        }
        io::Result::Ok(times)
    })?;
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    let rate = times.len() as f64 / length.as_secs_f64();
    let (p50, p99) = (at(50).as_secs_f64(), at(99).as_secs_f64());
    let micros = cpu()?.as_secs_f64() * 1e6 / times.len() as f64;
    Ok(format!("{rate} {p50} {p99} {micros}"))
}

/// Processor time of this process, without its children.
pub(crate) fn cpu() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // utime and stime, in ticks of 10 ms, are the 12th and 13th words after the name's bracket.
    let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = words.filter_map(|word| word.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

struct Client {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
    number: usize,
    token: String,
}

impl Client {
    async fn connect(
        connector: &TlsConnector,
        address: SocketAddr,
        token: &str,
        number: usize,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(address.ip().into());
        let stream = connector.connect(name, stream).await?;
        Ok(Self { stream, buffer: Vec::new(), number, token: token.to_owned() })
    }

    async fn run(mut self, work: Work, end: Instant) -> io::Result<Vec<Duration>> {
        let mut times = Vec::new();
        let same = match work {
            Work::Encrypt => self.request("POST", ENCRYPT, &encrypt_body()),
            Work::Batch => self.request("POST", ENCRYPT, &batch_body()),
            Work::Read | Work::Create | Work::Update => self.request("GET", crate::PATH, ""),
        };
        for count in 0_u64.. {
            let request = match work {
                Work::Read | Work::Encrypt | Work::Batch => same.clone(),
                Work::Create => {
                    self.write(&format!("{}-{}/{count}", process::id(), self.number), count)
                }
                Work::Update => self.write(&format!("{}/{}", self.number, count % 100), count),
            };
            let began = Instant::now();
            if began >= end {
                break;
            }
            self.stream.write_all(&request).await?;
            self.answer().await?;
            times.push(began.elapsed());
        }
        Ok(times)
    }

    fn write(&self, name: &str, count: u64) -> Vec<u8> {
        let body = format!("{{\"data\":{{\"value\":\"{count:0>280}\"}}}}");
        self.request("POST", &format!("{}/{name}", crate::PATH), &body)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nx-vault-request: true\r\n\
             x-vault-token: {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        )
        .into_bytes()
    }

    /// Reads one answer to its end and says where its body begins; anything but 200 ends the run.
    async fn answer(&mut self) -> io::Result<usize> {
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
            if !text.starts_with("http/1.1 200") {
                return Err(io::Error::other(text));
            }
            let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let length: usize = length.and_then(|digits| digits.parse().ok()).unwrap_or(0);
            while self.buffer.len() < head + 4 + length {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            return Ok(head + 4);
        }
    }
}

/// A request for one ciphertext.
pub(crate) fn encrypt_body() -> String {
    let plaintext = data_encoding::BASE64.encode(&PLAINTEXT);
    format!("{{\"plaintext\":\"{plaintext}\"}}")
}

/// A request for [`ITEMS`] ciphertexts.
pub(crate) fn batch_body() -> String {
    format!("{{\"batch_input\":[{}]}}", vec![encrypt_body(); ITEMS].join(","))
}

/// Where it is encrypted.
pub(crate) const ENCRYPT: &str = "/v1/transit/encrypt/bench";
/// What is encrypted.
pub(crate) const PLAINTEXT: [u8; 256] = [b'x'; 256];
/// Plaintexts in a batch.
pub(crate) const ITEMS: usize = 1_000;

fn connector(ca: &Path) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

const MARK: &str = "--as-load";
const TOKEN: &str = "KISTA_BENCH_TOKEN";

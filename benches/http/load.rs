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
    /// Lists a folder of a thousand names.
    List,
    /// Asks who it is.
    Lookup,
    /// Nine reads of ten, and of the rest four new secrets for each list of that folder.
    Mix,
    /// Reads one secret of so many, a different one each time.
    Any(u64),
}

impl Work {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Read, "read"),
        (Self::Create, "create"),
        (Self::Update, "update"),
        (Self::Encrypt, "encrypt"),
        (Self::Batch, "batch"),
        (Self::List, "list"),
        (Self::Lookup, "lookup"),
        (Self::Mix, "mix"),
    ];

    fn word(self) -> String {
        if let Self::Any(many) = self {
            return many.to_string();
        }
        let found = Self::ALL.iter().find(|(work, _)| *work == self);
        found.map_or_else(String::new, |(_, word)| (*word).to_owned())
    }

    fn of_word(word: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(_, other)| *other == word);
        found.map(|(work, _)| work).or_else(|| word.parse().ok().map(Self::Any))
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
    /// Requests turned away in each second, which only a flood bears.
    pub(crate) shed: f64,
}

/// Runs this program again as the load on `address`, on so many connections, and waits for what it
/// counted.
pub(crate) fn drive(
    connections: usize,
    work: Work,
    address: SocketAddr,
    ca: &Path,
    token: &str,
    seconds: u64,
) -> io::Result<Outcome> {
    let outcome = flood(connections, work, address, ca, token, seconds)?;
    if outcome.shed > 0.0 {
        return Err(io::Error::other("requests were turned away"));
    }
    Ok(outcome)
}

/// The same for more connections than usual, which goes on when the server turns requests away.
pub(crate) fn flood(
    connections: usize,
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
        .arg(connections.to_string())
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
        shed: next()?,
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
    let [_, mark, work, address, seconds, ca, connections] = arguments.as_slice() else {
        return None;
    };
    if mark != MARK {
        return None;
    }
    let work = Work::of_word(work)?;
    let connections = connections.parse().ok()?;
    Some(run(connections, work, address, seconds, Path::new(ca)))
}

fn run(
    connections: usize,
    work: Work,
    address: &str,
    seconds: &str,
    ca: &Path,
) -> io::Result<String> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let length = Duration::from_secs(seconds.parse().map_err(io::Error::other)?);
    let connector = connector(ca)?;
    let token = env::var(TOKEN).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut times, shed) = runtime.block_on(async {
        let mut clients = Vec::new();
        for number in 0..connections {
            clients.push(Client::connect(&connector, address, &token, number).await?);
        }
        let end = Instant::now() + length;
        let bears = connections > CONNECTIONS;
        let run = |client: Client| tokio::spawn(client.run(work, end, bears));
        let tasks: Vec<_> = clients.into_iter().map(run).collect();
        let (mut times, mut shed) = (Vec::new(), 0_u64);
        for task in tasks {
            let (answered, turned_away) = task.await.map_err(io::Error::other)??;
            times.extend(answered);
            shed += turned_away;
        }
        io::Result::Ok((times, shed))
    })?;
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    let rate = times.len() as f64 / length.as_secs_f64();
    let (p50, p99) = (at(50).as_secs_f64(), at(99).as_secs_f64());
    let micros = cpu()?.as_secs_f64() * 1e6 / (times.len() as u64 + shed) as f64;
    let shed = shed as f64 / length.as_secs_f64();
    Ok(format!("{rate} {p50} {p99} {micros} {shed}"))
}

/// Processor time of this process, without its children.
pub(crate) fn cpu() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // utime and stime, in ticks of 10 ms, are the 12th and 13th words after the name's bracket.
    let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = words.filter_map(|word| word.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// One connection of the load.
pub(crate) struct Client {
    pub(crate) stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
    number: usize,
    token: String,
}

impl Client {
    pub(crate) async fn connect(
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

    /// Times of what was answered, and how many were turned away.
    async fn run(
        mut self,
        work: Work,
        end: Instant,
        bears: bool,
    ) -> io::Result<(Vec<Duration>, u64)> {
        let (mut times, mut shed) = (Vec::new(), 0);
        let same = match work {
            Work::Encrypt => self.request("POST", ENCRYPT, &encrypt_body()),
            Work::Batch => self.request("POST", ENCRYPT, &batch_body()),
            Work::List => self.request("GET", LIST, ""),
            Work::Lookup => self.request("GET", LOOKUP, ""),
            Work::Read | Work::Create | Work::Update | Work::Mix | Work::Any(_) => {
                self.request("GET", crate::PATH, "")
            }
        };
        let list = self.request("GET", LIST, "");
        for count in 0_u64.. {
            let request = match work {
                Work::Read | Work::Encrypt | Work::Batch | Work::List | Work::Lookup => {
                    same.clone()
                }
                Work::Mix if count % 50 == 25 => list.clone(),
                Work::Mix if count % 50 % 12 != 11 => same.clone(),
                Work::Create | Work::Mix => {
                    self.write(&format!("{}-{}/{count}", process::id(), self.number), count)
                }
                Work::Any(many) => self.request("GET", &any(self.number as u64, count, many), ""),
                Work::Update => self.write(&format!("{}/{}", self.number, count % 100), count),
            };
            let began = Instant::now();
            if began >= end {
                break;
            }
            self.stream.write_all(&request).await?;
            match self.answer().await {
                Ok(_) => times.push(began.elapsed()),
                Err(error) if bears && error.kind() == io::ErrorKind::WouldBlock => {
                    shed += 1;
                    // As `Retry-After` says.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok((times, shed))
    }

    fn write(&self, name: &str, count: u64) -> Vec<u8> {
        let body = format!("{{\"data\":{{\"value\":\"{count:0>280}\"}}}}");
        self.request("POST", &format!("{}/{name}", crate::PATH), &body)
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nx-vault-request: true\r\n\
             x-vault-token: {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        )
        .into_bytes()
    }

    /// Reads one answer to its end and says where its body begins. One that was turned away is
    /// [`io::ErrorKind::WouldBlock`]; anything else but 200 is an error too.
    pub(crate) async fn answer(&mut self) -> io::Result<usize> {
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
            let is_shed =
                ["429", "503"].iter().any(|status| text.starts_with(&format!("http/1.1 {status}")));
            if !is_shed && !text.starts_with("http/1.1 200") {
                return Err(io::Error::other(text));
            }
            let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let length: usize = length.and_then(|digits| digits.parse().ok()).unwrap_or(0);
            while self.buffer.len() < head + 4 + length {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            if is_shed {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            return Ok(head + 4);
        }
    }
}

/// The path of a secret of `many`, far from the one asked for before.
fn any(number: u64, count: u64, many: u64) -> String {
    // Steps of a Weyl sequence: an odd number near the golden section of 2^64.
    let step = (number << 32 | count).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    many_path(step % many)
}

/// The path of the secret with this number in the vault of many: a thousand to a folder.
pub(crate) fn many_path(number: u64) -> String {
    format!("{}/{}/{number}", crate::PATH, number / 1_000)
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

/// The folder that is listed.
pub(crate) const LIST: &str = "/v1/secret/metadata/names?list=true";
/// Who a caller is.
pub(crate) const LOOKUP: &str = "/v1/auth/token/lookup-self";

/// Where it is encrypted.
pub(crate) const ENCRYPT: &str = "/v1/transit/encrypt/bench";
/// What is encrypted.
pub(crate) const PLAINTEXT: [u8; 256] = [b'x'; 256];
/// Plaintexts in a batch.
pub(crate) const ITEMS: usize = 1_000;

/// What trusts the server.
pub(crate) fn connector(ca: &Path) -> io::Result<TlsConnector> {
    Ok(TlsConnector::from(Arc::new(trusting(ca)?)))
}

/// A client's configuration that trusts the server.
pub(crate) fn trusting(ca: &Path) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

const MARK: &str = "--as-load";
const TOKEN: &str = "KISTA_BENCH_TOKEN";

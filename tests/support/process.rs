use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::Answer;

/// What outlives a process: its folder, and what it gave out at init.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Holds `data/`, `audit.log` and `server.log`.
    pub(crate) folder: PathBuf,
    pub(crate) share: String,
    pub(crate) root: String,
}

/// `kista server` over plain HTTP on loopback, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Process {
    /// Starts it over the data in `folder`; an `Err` is its log when it ended instead.
    pub(crate) fn start(folder: &Path) -> Result<Self, String> {
        Self::start_with(folder, "", None)
    }

    /// The same with more in its configuration, and with so many open files at most.
    fn start_with(folder: &Path, settings: &str, files: Option<u32>) -> Result<Self, String> {
        let configuration = folder.join("kista.toml");
        let audit = folder.join("audit.log");
        let text = format!("[audit.file]\npath = {audit:?}\nhash_paths = true\n{settings}");
        fs::write(&configuration, text).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = folder.join("server.log");
        let output = fs::File::options().create(true).append(true).open(&log).unwrap();
        let narrow = files.map_or(String::new(), |files| format!("ulimit -n {files} && "));
        let child = Command::new("sh")
            .args(["-c", &format!("{narrow}exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_kista")])
            .arg("server")
            .arg("--config")
            .arg(&configuration)
            .arg("--data")
            .arg(folder.join("data"))
            .args(["--listen", &address.to_string(), "--insecure-http", "--log-level", "trace"])
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut process = Self { child, address, log };
        let deadline = Instant::now() + Duration::from_secs(60);
        // It may listen and still end, for what it finds in the folder.
        while process.ask("GET", "sys/seal-status", "", "").is_err() {
            let ended = process.child.try_wait().unwrap().is_some();
            if ended || Instant::now() > deadline {
                return Err(process.log());
            }
            std::thread::yield_now();
        }
        Ok(process)
    }

    /// Makes a store in `folder`, with one share of one, and mounts `secret/`.
    pub(crate) fn init(folder: &Path) -> (Self, Kept) {
        Self::init_with(folder, "", None)
    }

    /// The same with more in its configuration, and with so many open files at most.
    pub(crate) fn init_with(folder: &Path, settings: &str, files: Option<u32>) -> (Self, Kept) {
        let process = Self::start_with(folder, settings, files).unwrap();
        let counts = r#"{"secret_shares":1,"secret_threshold":1}"#;
        let made = process.call("POST", "sys/init", "", counts).json();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let kept = Kept {
            folder: folder.to_owned(),
            share: text(&made["keys"][0]),
            root: text(&made["root_token"]),
        };
        assert_eq!(process.unseal(&kept).status, 200);
        let mount = r#"{"type":"kv","options":{"version":"2"}}"#;
        let answer = process.call("POST", "sys/mounts/secret", &kept.root, mount);
        assert_eq!(answer.status, 204, "{answer:?}");
        (process, kept)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn unseal(&self, kept: &Kept) -> Answer {
        let body = format!("{{\"key\":\"{}\"}}", kept.share);
        self.call("POST", "sys/unseal", "", &body)
    }

    /// One request on a connection of its own.
    pub(crate) fn call(&self, method: &str, path: &str, token: &str, body: &str) -> Answer {
        self.ask(method, path, token, body).unwrap().1
    }

    /// The same, with the answer's head before it.
    pub(crate) fn call_with_head(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &str,
    ) -> (String, Answer) {
        self.ask(method, path, token, body).unwrap()
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &str,
    ) -> io::Result<(String, Answer)> {
        let mut stream = TcpStream::connect(self.address)?;
        let request = format!(
            "{method} /v1/{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             x-vault-token: {token}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let request = match token {
            "" => request.replace("x-vault-token: \r\n", ""),
            _ => request,
        };
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((head.to_owned(), Answer { status, text: body.to_owned() }))
    }

    /// Everything that every process over this folder has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Where it listens, for those who speak no proper HTTP.
    pub(crate) fn socket_address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

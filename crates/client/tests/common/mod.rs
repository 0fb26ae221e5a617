//! Running commands in a directory of their own, against an STS that listens on loopback.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: not every test uses all, and a test that fails should panic"
)]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Args;
use countersign_client::get_token::{self, GetTokenArgs, Style};
use countersign_client::{Environment, Io, Process};
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub const NOW: &str = "2026-01-02T03:04:05Z";
pub const KEY: &str = "AKIDCOUNTERSIGN00001";
pub const SECRET: &str = "countersign/example+secret/key0000000001";

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: u8,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn token(&self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.json()["status"]["token"].as_str().unwrap().to_owned()
    }
}

pub fn parse<A: Args>(line: &[&str]) -> A {
    let command = A::augment_args(clap::Command::new("test").no_binary_name(true));
    A::from_arg_matches(&command.try_get_matches_from(line).unwrap()).unwrap()
}

/// A home directory, the environment, and the time.
pub struct Shell {
    pub home: tempfile::TempDir,
    pub env: Vec<(String, String)>,
    pub now: Timestamp,
    pub stdin: String,
}

impl Shell {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let env = vec![("HOME".to_owned(), home.path().to_str().unwrap().to_owned())];
        Self {
            home,
            env,
            now: NOW.parse().unwrap(),
            stdin: String::new(),
        }
    }

    pub fn with_keys() -> Self {
        Self::new()
            .set("AWS_ACCESS_KEY_ID", KEY)
            .set("AWS_SECRET_ACCESS_KEY", SECRET)
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(n, _)| n != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn file(self, path: &str, text: &str) -> Self {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    pub fn environment(&self) -> Environment {
        self.env.iter().cloned().collect()
    }

    pub fn run(&self, command: impl Fn(&Process<'_>, &mut Io<'_>) -> u8) -> Output {
        let now = self.now;
        let process = Process {
            env: self.environment(),
            clock: &|| now,
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut stdin = self.stdin.as_bytes();
        let code = command(
            &process,
            &mut Io {
                stdin: &mut stdin,
                stdout: &mut stdout,
                stderr: &mut stderr,
            },
        );
        Output {
            code,
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    pub fn token(&self, line: &[&str]) -> Output {
        let args: GetTokenArgs = parse(line);
        self.run(|process, io| get_token::run(&args, Style::Authenticator, process, io))
    }

    pub fn eks_get_token(&self, line: &[&str]) -> Output {
        let args: GetTokenArgs = parse(line);
        self.run(|process, io| get_token::run(&args, Style::AwsCli, process, io))
    }
}

/// A request that the fake saw.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, value)| value)
    }

    /// A parameter of the form body, still escaped.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.body
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

type Answer = dyn Fn(&Seen) -> (u16, String) + Send + Sync;

/// A service on loopback that answers what it is told and remembers what it was asked.
pub struct Fake {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    pub fn new(answer: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::start(answer, None)
    }

    /// The same over TLS, with a certificate for `localhost`.
    pub fn over_tls(
        serving: &countersign_client::pki::Serving,
        answer: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = CertificateDer::pem_slice_iter(serving.certificate_pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(serving.key_pem.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        let mut fake = Self::start(answer, Some(Arc::new(config)));
        fake.url = fake.url.replace("http://127.0.0.1", "https://localhost");
        fake
    }

    fn start(
        answer: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let answer: Arc<Answer> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let (answer, log, tls) = (Arc::clone(&answer), Arc::clone(&log), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &*answer, &log),
                    Some(config) => {
                        let tls = rustls::ServerConnection::new(config).unwrap();
                        serve(rustls::StreamOwned::new(tls, stream), &*answer, &log)
                    }
                });
            }
        });
        Self { url, seen }
    }

    /// An STS that knows one caller and assumes every role until `expiration`.
    pub fn sts(caller_arn: &str, user_id: &str, expiration: &str) -> Self {
        Self::new(sts(caller_arn, user_id, expiration))
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn actions(&self) -> Vec<String> {
        let seen = self.seen();
        seen.iter()
            .map(|seen| seen.parameter("Action").unwrap_or_default().to_owned())
            .collect()
    }
}

/// The answers of an STS that knows one caller and assumes every role until `expiration`.
pub fn sts(
    caller_arn: &str,
    user_id: &str,
    expiration: &str,
) -> impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static {
    let (arn, user_id, expiration) = (
        caller_arn.to_owned(),
        user_id.to_owned(),
        expiration.to_owned(),
    );
    move |seen: &Seen| match seen.parameter("Action") {
        Some("GetCallerIdentity") => (
            200,
            format!(
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>{arn}</Arn><UserId>{user_id}</UserId><Account>444455556666</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
            ),
        ),
        Some("AssumeRole") => (
            200,
            format!(
                "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser><Arn>x</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIAASSUMED000000001</AccessKeyId><SecretAccessKey>assumed+secret</SecretAccessKey><SessionToken>assumed/token==</SessionToken><Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
            ),
        ),
        _ => (400, String::new()),
    }
}

fn serve(
    stream: impl Read + Write,
    answer: &Answer,
    log: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut seen = Seen {
            line: line.trim_end().to_owned(),
            headers,
            body: String::new(),
        };
        let length = seen.header("content-length").parse().unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        seen.body = String::from_utf8(body).unwrap();
        let (status, body) = answer(&seen);
        log.lock().unwrap().push(seen);
        write!(
            reader.get_mut(),
            "HTTP/1.1 {status} X\r\nx-aws-ec2-metadata-token-ttl-seconds: 60\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
    }
}

/// The permission bits of a file.
#[cfg(unix)]
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

//! What every integration test needs: a running `countersign up`, raw HTTP, real clients, and skipping loudly.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;

/// The command under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

/// A running `countersign up` (or `serve`), killed when dropped.
pub struct Running {
    child: Child,
    /// The ready file's content.
    pub ready: Value,
    /// Its data directory and other files.
    pub dir: tempfile::TempDir,
    stderr: PathBuf,
}

impl Running {
    /// Starts `up` on free ports in a fresh directory.
    pub fn up(args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "up", args)
    }

    /// Starts `command` (`up` or `serve`) with `args` in an existing directory.
    pub fn start_in(dir: tempfile::TempDir, command: &str, args: &[&str]) -> Self {
        Self::start_with(dir, command, args, &BTreeMap::new())
    }

    /// The same with an environment.
    pub fn start_with(
        dir: tempfile::TempDir,
        command: &str,
        args: &[&str],
        environment: &BTreeMap<String, String>,
    ) -> Self {
        let ready_file = dir.path().join("ready.json");
        let stderr = dir.path().join("stderr.log");
        let _ = std::fs::remove_file(&ready_file);
        let mut process = Command::new(BINARY);
        process.arg(command);
        if command == "up" {
            let data = dir.path().join("data").display().to_string();
            for (flag, value) in [
                ("--data-dir", data.as_str()),
                ("--listen", "127.0.0.1:0"),
                ("--webhook-listen", "127.0.0.1:0"),
            ] {
                if !args.contains(&flag) {
                    process.args([flag, value]);
                }
            }
        }
        process.arg("--ready-file").arg(&ready_file).args(args);
        process.stdin(Stdio::null()).stdout(Stdio::null());
        process.stderr(
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&stderr)
                .unwrap(),
        );
        clean_environment(&mut process);
        process.envs(environment);
        let mut child = process.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let ready = loop {
            if let Ok(text) = std::fs::read(&ready_file) {
                break serde_json::from_slice(&text).unwrap();
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "countersign {command} ended with {status}:\n{}",
                    std::fs::read_to_string(&stderr).unwrap()
                );
            }
            assert!(
                Instant::now() < deadline,
                "no ready file:\n{}",
                std::fs::read_to_string(&stderr).unwrap()
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        Self {
            child,
            ready,
            dir,
            stderr,
        }
    }

    /// A text field of the ready file; dots go deeper.
    pub fn field(&self, path: &str) -> String {
        let mut value = &self.ready;
        for key in path.split('.') {
            value = &value[key];
        }
        value
            .as_str()
            .unwrap_or_else(|| panic!("no text at {path} in {}", self.ready))
            .to_owned()
    }

    /// Environment that points AWS clients at this server as the admin user.
    pub fn aws_environment(&self) -> BTreeMap<String, String> {
        [
            ("AWS_ACCESS_KEY_ID", self.field("admin.accessKeyId")),
            ("AWS_SECRET_ACCESS_KEY", self.field("admin.secretAccessKey")),
            ("AWS_REGION", self.field("region")),
            // Version 1 of the AWS CLI knows only this name.
            ("AWS_DEFAULT_REGION", self.field("region")),
            ("AWS_ENDPOINT_URL", self.field("endpointUrl")),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            ("AWS_MAX_ATTEMPTS", "1".into()),
            ("AWS_CONFIG_FILE", "/dev/null".into()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// Sends a TokenReview the way kube-apiserver does; gives status and body.
    pub fn review(&self, path: &str, token: &str) -> (u16, Value) {
        let body = serde_json::json!({
            "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
            "spec": {"token": token, "audiences": ["https://kubernetes.default.svc.cluster.local"]},
            "status": {"user": {}},
        });
        let answer = self.webhook(
            "POST",
            path,
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        );
        (
            answer.status,
            serde_json::from_slice(&answer.body).unwrap_or(Value::Null),
        )
    }

    /// A raw request to the webhook listener over TLS.
    pub fn webhook(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.webhook_as(None, method, path, headers, body)
    }

    /// The same with a client certificate.
    pub fn webhook_as(
        &self,
        client: Option<ClientIdentity>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let url = self.field("webhookUrl");
        let address = url.strip_prefix("https://").unwrap();
        let tls = tls_client(Path::new(&self.field("webhookCaFile")), client);
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let name = ServerName::try_from(address.rsplit_once(':').unwrap().0.to_owned()).unwrap();
        let connection = rustls::ClientConnection::new(tls, name).unwrap();
        exchange(
            rustls::StreamOwned::new(connection, stream),
            address,
            method,
            path,
            headers,
            body,
        )
    }

    /// A raw request to the AWS listener.
    pub fn aws(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let url = self.field("endpointUrl");
        let address = url.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        exchange(stream, address, method, path, headers, body)
    }

    /// Everything the process wrote to stderr so far: log and decision events.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    /// The end of the log, for messages of failing tests.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Waits until the log contains `text`.
    pub fn wait_for_log(&self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let log = self.log();
            if log.contains(text) {
                return log;
            }
            assert!(
                Instant::now() < deadline,
                "`{text}` never came into the log:\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the process to end, and waits until it has.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.child.wait().unwrap();
    }

    /// Sends a signal, such as `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args(["-s", name, &self.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A raw HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One HTTP/1.1 request with exactly these headers (plus Host, Content-Length and Connection where not given).
pub fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let given = |name: &str| {
        headers
            .iter()
            .any(|(field, _)| field.eq_ignore_ascii_case(name))
    };
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    if !given("host") {
        request.push_str(&format!("Host: {host}\r\n"));
    }
    if !given("content-length") {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("Connection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    // A server that refuses early may close before everything is written.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.write_all(body);
    let _ = stream.flush();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    parse_answer(&bytes)
}

fn parse_answer(bytes: &[u8]) -> Answer {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let body = bytes.get(end + 4..).unwrap_or_default().to_vec();
    Answer { status, head, body }
}

/// A client's certificate chain and key.
pub type ClientIdentity = (
    Vec<CertificateDer<'static>>,
    rustls::pki_types::PrivateKeyDer<'static>,
);

/// A TLS client that trusts one CA file.
pub fn tls_client(ca: &Path, client: Option<ClientIdentity>) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
    })
}

/// Takes what the machine's environment says about AWS and Kubernetes away from a child.
pub fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let outside = ["AWS_", "KUBE", "COUNTERSIGN_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if outside || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
}

/// Runs `countersign` with arguments and environment; gives its output.
pub fn countersign(args: &[&str], environment: &BTreeMap<String, String>) -> Output {
    let mut command = Command::new(BINARY);
    clean_environment(&mut command);
    command
        .args(args)
        .envs(environment)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs any client with arguments and environment.
pub fn client(program: &Path, args: &[&str], environment: &BTreeMap<String, String>) -> Output {
    let mut command = Command::new(program);
    clean_environment(&mut command);
    command
        .args(args)
        .envs(environment)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A presigned GetCallerIdentity URL, signed at any time with any key; for what no client would send.
pub fn presigned(
    endpoint: &str,
    key_id: &str,
    secret: &str,
    cluster: Option<&str>,
    when: jiff::Timestamp,
) -> String {
    use countersign_sigv4::{Credentials, Request, SecretKey, Signer};
    let host = endpoint.split_once("://").unwrap().1;
    let mut headers = vec![("host", host.as_bytes())];
    headers.extend(cluster.map(|cluster| ("x-k8s-aws-id", cluster.as_bytes())));
    let mut request = Request::new("GET", b"/?Action=GetCallerIdentity&Version=2011-06-15");
    request.headers = &headers;
    let secret = SecretKey::new(secret);
    let credentials = Credentials {
        key_id,
        secret: &secret,
        session_token: None,
    };
    let query = Signer::new(credentials, "us-east-1", "sts")
        .presign(&request, 60, when)
        .unwrap();
    format!("{endpoint}/?{query}")
}

/// The token inside an ExecCredential on stdout.
pub fn exec_token(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let credential: Value = serde_json::from_slice(&output.stdout).unwrap();
    credential["status"]["token"].as_str().unwrap().to_owned()
}

/// The AWS CLI, or none with a loud skip.
pub fn aws_cli(test: &str) -> Option<PathBuf> {
    from_environment(test, "COUNTERSIGN_TEST_AWS", "the AWS CLI")
}

/// Version 2 of the AWS CLI, or none with a loud skip.
pub fn aws_cli_2(test: &str) -> Option<PathBuf> {
    from_environment(test, "COUNTERSIGN_TEST_AWS2", "AWS CLI 2")
}

/// The folder of the programs of `scripts/go`, or none with a loud skip.
pub fn go_clients(test: &str) -> Option<PathBuf> {
    from_environment(test, "COUNTERSIGN_TEST_GO", "AWS SDKs for Go")
}

/// A Python with boto3, or none with a loud skip.
pub fn python(test: &str) -> Option<PathBuf> {
    from_environment(test, "COUNTERSIGN_TEST_PYTHON", "a Python with boto3")
}

/// A folder with the AWS SDK for JavaScript, or none with a loud skip.
pub fn node_modules(test: &str) -> Option<PathBuf> {
    from_environment(
        test,
        "COUNTERSIGN_TEST_NODE_MODULES",
        "the AWS SDK for JavaScript",
    )
}

fn from_environment(test: &str, variable: &str, what: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.exists());
    if path.is_none() {
        skip(test, &format!("no {what}: run `./test`, or set {variable}"));
    }
    path
}

/// Says that a test did not run, on stderr and in the summary of `./test`.
pub fn skip(test: &str, reason: &str) {
    let line = format!("{test}: {reason}\n");
    eprint!("SKIPPED {line}");
    if let Some(path) = std::env::var_os("COUNTERSIGN_TEST_SKIPS") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

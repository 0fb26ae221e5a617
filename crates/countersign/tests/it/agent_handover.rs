//! `countersign agent run --handover-dir`: one process takes over from another, as an update of the agent does it, and is asked all the while.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::agent_node::{Service, free_port};
use crate::harness::{BINARY, clean_environment};

/// A process of the agent, ended when dropped.
struct Process {
    child: Child,
    log: std::path::PathBuf,
}

impl Process {
    fn start(service: &Service, directory: &Path, name: &str, (port, probes): (u16, u16)) -> Self {
        let log = directory.join(format!("{name}.log"));
        let mut command = Command::new(BINARY);
        clean_environment(&mut command);
        let child = command
            .args(["agent", "run", "-c", "orchard", "--region", "eu-west-1"])
            // The machine that runs the tests keeps its own links and packet filter.
            .args(["--link", "off", "--imds", "off", "-b", "127.0.0.1"])
            .args(["-p", &port.to_string()])
            .args(["--probe-port", &probes.to_string()])
            .args(["--watch-associations", "off"])
            .args(["--endpoint", &format!("http://{}", service.address)])
            .arg("--handover-dir")
            .arg(directory.join("sockets"))
            .env("AWS_ACCESS_KEY_ID", "AKIANODE000000000001")
            .env("AWS_SECRET_ACCESS_KEY", "node/secret")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it as Kubernetes does.
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of a GET on a connection of its own.
fn get(port: u16, path: &str, token: &str) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 169.254.170.23\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((
        status.unwrap_or(0),
        serde_json::from_str(body).unwrap_or(Value::Null),
    ))
}

/// A token as far as the agent reads it where it has no keys; the service is a stand-in that believes it.
fn token() -> String {
    let encode = |json: Value| {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json.to_string().as_bytes())
    };
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "iss": "https://issuer.example/id/1", "sub": "system:serviceaccount:orchard:picker",
        "aud": ["pods.eks.amazonaws.com"], "iat": now - 60, "nbf": now - 60, "exp": now + 3600,
        "kubernetes.io": {
            "namespace": "orchard", "serviceaccount": {"name": "picker", "uid": "1"}, "pod": {"name": "picker-0", "uid": "2"},
        },
    });
    let header = json!({"alg": "RS256", "kid": "k"});
    format!("{}.{}.AAAA", encode(header), encode(claims))
}

#[test]
fn an_update_of_the_agent_fails_no_request() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start();
    let ports = (free_port(), free_port());
    let start = |name: &str| Process::start(&service, directory.path(), name, ports);
    let first = start("first");
    first.wait("the first process is ready", || {
        get(ports.1, "/readyz", "-").is_ok_and(|(status, _)| status == 200)
    });
    let (stop, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let load = {
        let (stop, done, token) = (Arc::clone(&stop), Arc::clone(&done), token());
        std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                match get(ports.0, "/v1/credentials", &token) {
                    Ok((200, body)) if body["AccessKeyId"].is_string() => {
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                    other => failures.push(format!("{other:?}")),
                }
                // A pod may ask twenty times a second.
                std::thread::sleep(Duration::from_millis(70));
            }
            failures
        })
    };
    let more = |process: &Process| {
        let until = done.load(Ordering::SeqCst) + 10;
        process.wait("requests are answered", || {
            done.load(Ordering::SeqCst) >= until
        });
    };
    more(&first);
    let second = start("second");
    first.wait("the second process takes over", || {
        first.log().contains("serves from now on")
    });
    more(&second);
    first.stop();
    more(&second);
    let third = start("third");
    second.wait("the third process takes over", || {
        second.log().contains("serves from now on")
    });
    second.stop();
    more(&third);
    stop.store(true, Ordering::SeqCst);
    let failures = load.join().unwrap();
    assert!(failures.is_empty(), "{failures:?}\n{}", third.log());
    // One call of the auth service for each process: what is cached is not handed over.
    assert_eq!(service.calls(), 3);
    let text = third.log();
    assert!(!text.contains("very/secret") && !text.contains("very/session"));
    third.stop();
    assert!(get(ports.0, "/v1/credentials", &token()).is_err());
}

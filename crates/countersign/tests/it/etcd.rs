//! Replicas of `serve` on a real etcd: what one writes all have, and what they do without it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Answer, Running, countersign, presigned, skip};

const LIMIT: Duration = Duration::from_secs(60);

/// One member on a fixed port, so that it can come back.
struct Member {
    child: Option<Child>,
    binary: PathBuf,
    port: u16,
    peer_port: u16,
    dir: tempfile::TempDir,
}

impl Member {
    fn start(test: &str) -> Option<Self> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let binary = assets
            .into_iter()
            .chain(std::env::split_paths(&path))
            .chain([PathBuf::from("/usr/local/kubebuilder/bin")])
            .map(|dir| dir.join("etcd"))
            .find(|path| path.is_file());
        let Some(binary) = binary else {
            skip(test, "no etcd: run `./test`, or install etcd-server");
            return None;
        };
        let free = || {
            TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port()
        };
        let mut member = Self {
            child: None,
            binary,
            port: free(),
            peer_port: free(),
            dir: tempfile::tempdir().unwrap(),
        };
        member.run();
        Some(member)
    }

    fn run(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("etcd.log"))
            .unwrap();
        let client = format!("http://127.0.0.1:{}", self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let child = Command::new(&self.binary)
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args(["--name", "n0", "--initial-cluster", &format!("n0={peer}")])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--logger", "zap", "--log-level", "warn"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + LIMIT;
        while !self.is_healthy() {
            let log = std::fs::read_to_string(self.dir.path().join("etcd.log")).unwrap();
            assert!(Instant::now() < deadline, "etcd does not answer\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_healthy(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let request = "GET /health HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n";
        let mut text = String::new();
        stream.write_all(request.as_bytes()).is_ok()
            && stream.read_to_string(&mut text).is_ok()
            && text.contains("\"true\"")
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Files that replicas share: the root key, and the access key of the first user.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new() -> Self {
        use std::os::unix::fs::OpenOptionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(dir.path().join("root.key"))
            .unwrap();
        file.write_all("a5".repeat(32).as_bytes()).unwrap();
        Self(dir)
    }

    fn replica(&self, store: &str) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let config = self.config(dir.path(), store);
        Running::start_in(dir, "serve", &["--config", &config])
    }

    fn config(&self, dir: &Path, store: &str) -> String {
        let (shared, own) = (self.0.path().display(), dir.display());
        let text = format!(
            "clusterId: demo\nserver:\n  port: 0\n  stateDir: {own}/state\n  generateKubeconfig: {own}/kubeconfig\n  \
             mapUsers:\n  - userarn: arn:aws:iam::111122223333:user/ana\n    username: ana\n\
             countersign:\n  identity: embedded\n  healthListen: \"off\"\n  awsListen: 127.0.0.1:0\n  denyMode: review\n  \
             maxStoreStaleness: 4\n  rootKeyFile: {shared}/root.key\n  store: {store}\n  \
             bootstrap: {{users: [{{name: ana, accessKeyFile: {shared}/ana.json}}]}}\n"
        );
        let path = dir.join("config.yaml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Key id and secret of `ana`.
    fn key(&self) -> (String, String) {
        let text = std::fs::read(self.0.path().join("ana.json")).unwrap();
        let found: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let mut id = None;
        let mut secret = None;
        walk(
            &found,
            &mut |name, value| match name.to_lowercase().as_str() {
                "accesskeyid" => id = Some(value.to_owned()),
                "secretaccesskey" => secret = Some(value.to_owned()),
                _ => {}
            },
        );
        (id.expect("a key id"), secret.expect("a secret"))
    }
}

fn walk(value: &serde_json::Value, see: &mut impl FnMut(&str, &str)) {
    if let Some(object) = value.as_object() {
        for (name, value) in object {
            if let Some(text) = value.as_str() {
                see(name, text);
            }
            walk(value, see);
        }
    }
}

fn who(replica: &Running, key: &(String, String)) -> Answer {
    let url = replica.field("endpointUrl");
    let signed = presigned(&url, &key.0, &key.1, None, jiff::Timestamp::now());
    replica.aws("GET", signed.strip_prefix(&url).unwrap(), &[], b"")
}

fn review(replica: &Running, key: &(String, String)) -> (u16, serde_json::Value) {
    let url = replica.field("endpointUrl");
    let signed = presigned(&url, &key.0, &key.1, Some("demo"), jiff::Timestamp::now());
    let token = countersign_token::mint(&signed).to_string();
    replica.review("/authenticate", &token)
}

fn readyz(replica: &Running) -> (u16, String) {
    let answer = replica.webhook("GET", "/readyz?verbose", &[], b"");
    (answer.status, answer.text())
}

/// Waits until `holds`; says what it saw last.
fn wait_for<T: std::fmt::Debug>(
    what: &str,
    mut look: impl FnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        let seen = look();
        if holds(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what} never came: {seen:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn replicas_share_an_etcd_and_outlive_it_for_the_time_that_is_configured() {
    let name = "replicas_share_an_etcd_and_outlive_it_for_the_time_that_is_configured";
    let Some(mut etcd) = Member::start(name) else {
        return;
    };
    let shared = Shared::new();
    let store = format!("etcd://127.0.0.1:{}/it", etcd.port);
    let first = shared.replica(&store);
    let key = shared.key();
    let second = shared.replica(&store);
    for replica in [&first, &second] {
        assert_eq!(who(replica, &key).status, 200, "{}", replica.log_tail());
        assert_eq!(review(replica, &key).1["status"]["user"]["username"], "ana");
        let (status, text) = readyz(replica);
        assert!(
            status == 200 && text.contains("[+]store ok: etcd at revision "),
            "{text}"
        );
        let metrics = replica.webhook("GET", "/metrics", &[], b"").text();
        assert!(
            metrics.contains("countersign_store_lag_seconds_count"),
            "{metrics}"
        );
    }
    // A replica that is killed takes nothing with it.
    first.signal("KILL");
    assert_eq!(who(&second, &key).status, 200);

    etcd.kill();
    let warned =
        |(status, text): &(u16, String)| *status == 200 && text.contains("[!]store warning");
    let (_, text) = wait_for("the warning", || readyz(&second), warned);
    assert!(text.contains("answering from the snapshot for"), "{text}");
    assert_eq!(who(&second, &key).status, 200, "from the snapshot");
    assert_eq!(review(&second, &key).1["status"]["authenticated"], true);

    wait_for("503", || readyz(&second), |(status, _)| *status == 503);
    let refused = who(&second, &key);
    assert_eq!(refused.status, 503);
    assert!(
        refused.text().contains("<Code>ServiceUnavailable</Code>"),
        "{}",
        refused.text()
    );
    let (status, body) = review(&second, &key);
    assert_eq!(status, 500, "{body}");
    second.wait_for_log("store_away");

    etcd.run();
    wait_for(
        "the store",
        || who(&second, &key).status,
        |status| *status == 200,
    );
    let (status, text) = readyz(&second);
    assert!(status == 200 && text.contains("[+]store ok"), "{text}");
}

#[test]
fn a_shared_store_that_cannot_be_used_says_what_to_do() {
    let shared = Shared::new();
    let dir = tempfile::tempdir().unwrap();
    for (store, root_key, message) in [
        ("etcds://127.0.0.1:1/x", true, "caFile"),
        ("etcd://u@127.0.0.1:1/x", true, "has a user"),
        ("etcd://127.0.0.1:1/x", false, "openssl rand -hex 32"),
        (
            "{endpoints: [\"127.0.0.1:1\"], password: x}",
            true,
            "passwordFile",
        ),
    ] {
        let config = shared.config(dir.path(), store);
        if !root_key {
            let text = std::fs::read_to_string(&config).unwrap();
            let text: Vec<&str> = text
                .lines()
                .filter(|line| !line.contains("rootKeyFile"))
                .collect();
            std::fs::write(&config, text.join("\n")).unwrap();
        }
        let output = countersign(&["serve", "--config", &config], &Default::default());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{store}\n{stderr}");
        assert!(stderr.contains(message), "{store}\n{stderr}");
    }
}

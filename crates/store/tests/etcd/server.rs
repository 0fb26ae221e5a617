//! Real etcd servers: one or three members on free ports, with data in a temporary directory.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};

/// Longer than any server takes to start, or to elect a leader.
const LIMIT: Duration = Duration::from_secs(60);

/// A cluster, killed when it is dropped.
pub struct Etcd {
    pub members: Vec<Member>,
    pub dir: tempfile::TempDir,
    pub tls: Option<Pki>,
    binary: PathBuf,
    generation: u32,
}

/// One server.
pub struct Member {
    pub client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

/// Files of a CA, of the servers and of a client.
#[derive(Debug, Clone)]
pub struct Pki {
    pub ca: PathBuf,
    pub server: (PathBuf, PathBuf),
    pub client: (PathBuf, PathBuf),
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The etcd of the machine, or none with a loud skip.
fn binary(test: &str) -> Option<PathBuf> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(|dir| PathBuf::from(dir).join("etcd"));
    let found = std::env::var_os("COUNTERSIGN_TEST_ETCD")
        .map(PathBuf::from)
        .into_iter()
        .chain(assets)
        .chain(
            std::env::var_os("PATH")
                .iter()
                .flat_map(std::env::split_paths)
                .map(|dir| dir.join("etcd"))
                .collect::<Vec<_>>(),
        )
        .chain([PathBuf::from("/usr/local/kubebuilder/bin/etcd")])
        .find(|path| path.is_file());
    if found.is_none() {
        skip(
            test,
            "no etcd: run `./test`, install etcd-server, or set COUNTERSIGN_TEST_ETCD",
        );
    }
    found
}

/// Says that a test did not run, on stderr and in the summary of `./test`.
fn skip(test: &str, reason: &str) {
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

impl Etcd {
    /// Starts `members` servers and waits until they have a leader; none, with a skip, where there is no etcd.
    pub async fn start(test: &str, members: usize) -> Option<Self> {
        Self::start_with(test, members, false).await
    }

    /// The same; with `tls`, clients must show a certificate.
    pub async fn start_with(test: &str, members: usize, tls: bool) -> Option<Self> {
        let binary = binary(test)?;
        let dir = tempfile::tempdir().unwrap();
        let tls = tls.then(|| pki(dir.path()));
        let mut etcd = Self {
            members: (0..members)
                .map(|_| Member {
                    client_port: free_port(),
                    peer_port: free_port(),
                    child: None,
                })
                .collect(),
            dir,
            tls,
            binary,
            generation: 0,
        };
        for member in 0..members {
            etcd.run(member);
        }
        etcd.wait().await;
        Some(etcd)
    }

    /// `host:port` of every member.
    pub fn endpoints(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| format!("127.0.0.1:{}", member.client_port))
            .collect()
    }

    /// Starts a member that is not running.
    pub fn run(&mut self, index: usize) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("etcd-{index}.log")))
            .unwrap();
        let peers: Vec<String> = self
            .members
            .iter()
            .enumerate()
            .map(|(n, member)| format!("n{n}=http://127.0.0.1:{}", member.peer_port))
            .collect();
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let member = &self.members[index];
        let client = format!("{scheme}://127.0.0.1:{}", member.client_port);
        let peer = format!("http://127.0.0.1:{}", member.peer_port);
        let mut command = Command::new(&self.binary);
        command
            .args(["--name", &format!("n{index}")])
            .arg("--data-dir")
            .arg(self.data_dir(index))
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
            .args(["--initial-cluster", &peers.join(",")])
            .args(["--initial-cluster-token", &format!("t{}", self.generation)])
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
            .args([
                "--logger",
                "zap",
                "--log-level",
                "warn",
                "--auth-token-ttl",
                "2",
            ]);
        if let Some(pki) = &self.tls {
            command
                .arg("--cert-file")
                .arg(&pki.server.0)
                .arg("--key-file")
                .arg(&pki.server.1)
                .arg("--trusted-ca-file")
                .arg(&pki.ca)
                .arg("--client-cert-auth");
        }
        let child = command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.members[index].child = Some(child);
    }

    /// Kills a member as `kill -9` does.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Where a member keeps its data.
    pub fn data_dir(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("data-{index}"))
    }

    /// A client of the whole cluster, as an operator has it.
    pub async fn client(&self) -> Client {
        self.client_of(&self.endpoints(), None).await.unwrap()
    }

    /// A client of the whole cluster as a user of its.
    pub async fn client_as(&self, user: &str, password: &str) -> Client {
        let user = Some((user, password));
        self.client_of(&self.endpoints(), user).await.unwrap()
    }

    async fn client_of(
        &self,
        endpoints: &[String],
        user: Option<(&str, &str)>,
    ) -> Result<Client, etcd_client::Error> {
        let mut options = ConnectOptions::new()
            .with_timeout(Duration::from_secs(5))
            .with_auto_token_refresh(true);
        let mut scheme = "http";
        if let Some(pki) = &self.tls {
            scheme = "https";
            let read = |path: &Path| std::fs::read(path).unwrap();
            options = options.with_tls(
                TlsOptions::new()
                    .ca_certificate(Certificate::from_pem(read(&pki.ca)))
                    .identity(Identity::from_pem(read(&pki.client.0), read(&pki.client.1))),
            );
        }
        if let Some((name, password)) = user {
            options = options.with_user(name, password);
        }
        let urls: Vec<String> = endpoints
            .iter()
            .map(|endpoint| format!("{scheme}://{endpoint}"))
            .collect();
        Client::connect(urls, Some(options)).await
    }

    /// The member that leads; waits until there is one.
    pub async fn leader(&self) -> usize {
        let deadline = Instant::now() + LIMIT;
        loop {
            for (index, member) in self.members.iter().enumerate() {
                if member.child.is_none() {
                    continue;
                }
                let endpoint = format!("127.0.0.1:{}", member.client_port);
                let Ok(mut client) = self.client_of(&[endpoint], None).await else {
                    continue;
                };
                if let Ok(status) = client.status().await
                    && status
                        .header()
                        .is_some_and(|header| header.member_id() == status.leader())
                {
                    return index;
                }
            }
            assert!(Instant::now() < deadline, "no leader\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the cluster answers linearizable reads.
    pub async fn wait(&self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let running = self
                .members
                .iter()
                .find(|member| member.child.is_some())
                .unwrap();
            let endpoint = format!("127.0.0.1:{}", running.client_port);
            if let Ok(mut client) = self.client_of(&[endpoint], None).await {
                match client.get("ready", None).await {
                    Ok(_) => return,
                    // With authentication on, a refusal is an answer.
                    Err(error) if error.to_string().contains("user name is empty") => return,
                    Err(_) => {}
                }
            }
            assert!(
                Instant::now() < deadline,
                "etcd does not answer\n{}",
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let log = |n: usize| {
            let path = self.dir.path().join(format!("etcd-{n}.log"));
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(8)..].join("\n")
        };
        (0..self.members.len())
            .map(log)
            .collect::<Vec<_>>()
            .join("\n--\n")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }
}

/// A CA with a certificate for 127.0.0.1 and one for a client.
fn pki(dir: &Path) -> Pki {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = authority.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, ca_key);
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let issue = |name: &str, hosts: &[&str]| {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(hosts).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let certificate = parameters.signed_by(&key, &issuer).unwrap();
        (
            write(&format!("{name}.crt"), certificate.pem()),
            write(&format!("{name}.key"), key.serialize_pem()),
        )
    };
    Pki {
        server: issue("server", &["127.0.0.1", "localhost"]),
        client: issue("client", &["client"]),
        ca: write("ca.crt", ca.pem()),
    }
}

//! A real kube-apiserver with etcd, started for one test and stopped with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{clean_environment, skip};

/// Where envtest keeps its binaries unless told otherwise.
const DEFAULT_ASSETS: &str = "/usr/local/kubebuilder/bin";

/// Token of a static user in `system:masters`, so that tests can set the cluster up.
pub const ADMIN_TOKEN: &str = "static-admin-token";

/// The folder with kube-apiserver, etcd and kubectl, or none with a loud skip.
pub fn assets(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("KUBEBUILDER_ASSETS")
        .map_or_else(|| PathBuf::from(DEFAULT_ASSETS), PathBuf::from);
    let missing: Vec<_> = ["kube-apiserver", "etcd", "kubectl"]
        .into_iter()
        .filter(|name| !folder.join(name).exists())
        .collect();
    if missing.is_empty() {
        return Some(folder);
    }
    let reason = format!(
        "needs a real kube-apiserver, and {} has no {}; set KUBEBUILDER_ASSETS",
        folder.display(),
        missing.join(", ")
    );
    skip(test, &reason);
    None
}

/// A running API server.
pub struct Cluster {
    assets: PathBuf,
    dir: tempfile::TempDir,
    etcd: Child,
    apiserver: Child,
    server: String,
}

impl Cluster {
    /// Starts etcd and kube-apiserver with further API server flags.
    pub fn start(assets: &Path, flags: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        write_certificates(dir.path());
        std::fs::write(
            at("tokens.csv"),
            format!("{ADMIN_TOKEN},admin,admin-uid,\"system:masters\"\n"),
        )
        .unwrap();
        let (client_port, peer_port, api_port) = (free_port(), free_port(), free_port());
        let etcd_url = format!("http://127.0.0.1:{client_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let etcd = spawn(
            &assets.join("etcd"),
            &at("etcd.log"),
            &[
                format!("--data-dir={}", at("etcd")),
                format!("--listen-client-urls={etcd_url}"),
                format!("--advertise-client-urls={etcd_url}"),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=default={peer_url}"),
                "--unsafe-no-fsync".into(),
            ],
        );
        let server = format!("https://127.0.0.1:{api_port}");
        let mut arguments = vec![
            format!("--etcd-servers={etcd_url}"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={api_port}"),
            format!("--tls-cert-file={}", at("apiserver.crt")),
            format!("--tls-private-key-file={}", at("apiserver.key")),
            format!("--token-auth-file={}", at("tokens.csv")),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            "--endpoint-reconciler-type=none".into(),
            "--disable-admission-plugins=ServiceAccount".into(),
        ];
        if !flags
            .iter()
            .any(|flag| flag.starts_with("--service-account-"))
        {
            arguments.extend([
                format!("--service-account-issuer={server}"),
                format!("--service-account-signing-key-file={}", at("sa.key")),
                format!("--service-account-key-file={}", at("sa.pub")),
                format!("--api-audiences={server}"),
            ]);
        }
        if !flags
            .iter()
            .any(|flag| flag.starts_with("--authorization-"))
        {
            arguments.push("--authorization-mode=RBAC".into());
        }
        arguments.extend_from_slice(flags);
        let apiserver = spawn(
            &assets.join("kube-apiserver"),
            &at("apiserver.log"),
            &arguments,
        );
        let mut cluster = Self {
            assets: assets.to_owned(),
            dir,
            etcd,
            apiserver,
            server,
        };
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let answer = cluster.kubectl(ADMIN_TOKEN, &["get", "--raw", "/readyz"]);
            if answer.status.success() {
                return cluster;
            }
            if let Some(status) = cluster.apiserver.try_wait().unwrap() {
                panic!("kube-apiserver ended with {status}:\n{}", cluster.log());
            }
            assert!(
                Instant::now() < deadline,
                "kube-apiserver is not ready:\n{}",
                cluster.log()
            );
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Runs kubectl with a bearer token.
    pub fn kubectl(&self, token: &str, args: &[&str]) -> Output {
        let mut command = Command::new(self.assets.join("kubectl"));
        clean_environment(&mut command);
        command
            .arg("--kubeconfig=/dev/null")
            .arg(format!("--server={}", self.server))
            .arg(format!(
                "--certificate-authority={}",
                self.file("ca.crt").display()
            ))
            .arg(format!("--token={token}"))
            .args(args)
            .env("HOME", self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Ends the API server; etcd keeps what there was.
    pub fn stop_api_server(&mut self) {
        let _ = self.apiserver.kill();
        let _ = self.apiserver.wait();
    }

    /// A path in the cluster's own directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the API server logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("apiserver.log")).unwrap_or_default()
    }

    /// A kubeconfig with the static admin, for components that read the cluster.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.kubeconfig("admin", ADMIN_TOKEN)
    }

    /// A kubeconfig with a bearer token.
    pub fn kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{name}.kubeconfig"));
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {{server: \"{}\", certificate-authority: \"{}\"}}\n\
             users:\n- name: u\n  user: {{token: {token}}}\ncontexts:\n- name: x\n  context: {{cluster: c, user: u}}\n\
             current-context: x\n",
            self.server,
            self.file("ca.crt").display()
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in [&mut self.apiserver, &mut self.etcd] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(program: &Path, log: &str, arguments: &[String]) -> Child {
    let output = std::fs::File::create(log).unwrap();
    let mut command = Command::new(program);
    clean_environment(&mut command);
    // Debian's etcd refuses architectures it does not know unless told so; harmless elsewhere.
    command.env(
        "ETCD_UNSUPPORTED_ARCH",
        std::env::consts::ARCH.replace("aarch64", "arm64"),
    );
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn write_certificates(dir: &Path) {
    let names = [
        "127.0.0.1",
        "10.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ];
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(
        dir.join("ca.crt"),
        authority.self_signed(&ca_key).unwrap().pem(),
    )
    .unwrap();
    let issuer = rcgen::Issuer::new(authority, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(names.map(str::to_owned)).unwrap();
    std::fs::write(
        dir.join("apiserver.crt"),
        parameters.signed_by(&key, &issuer).unwrap().pem(),
    )
    .unwrap();
    std::fs::write(dir.join("apiserver.key"), key.serialize_pem()).unwrap();
    let signer = rcgen::KeyPair::generate().unwrap();
    std::fs::write(dir.join("sa.key"), signer.serialize_pem()).unwrap();
    std::fs::write(dir.join("sa.pub"), signer.public_key_pem()).unwrap();
}

//! A node made of network namespaces: the one the test runs in, pods behind veths, and a metadata service with the real addresses
//! beyond the uplink, which counts every packet that a pod gets through to it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::namespace::ip;

pub const FOUR: &str = "http://169.254.169.254";
pub const SIX: &str = "http://[fd00:ec2::254]";
pub const LIST: &str = "/latest/meta-data/iam/security-credentials/";
const SERVICE: &str = "COUNTERSIGN_TEST_METADATA_NODE";

/// How the service is configured.
#[derive(Debug, Clone, Copy)]
pub struct Answers {
    /// `HttpTokens` is optional.
    pub version1: bool,
    /// Its answers to PUT reach pods; without, their hop limit ends them on the way.
    pub token: bool,
    /// `HttpProtocolIpv6`.
    pub ipv6: bool,
}

/// Whether the programs are there that the tests need besides those of `inside`.
pub fn programs(test: &str, wanted: &[&str]) -> bool {
    let has = |name: &str| Path::new("/usr/sbin").join(name).exists();
    let missing: Vec<&&str> = wanted.iter().filter(|name| !has(name)).collect();
    if missing.is_empty() && Command::new("curl").arg("-V").output().is_ok() {
        return true;
    }
    eprintln!("SKIPPED {test}: it needs {wanted:?} and curl; missing: {missing:?}");
    false
}

pub struct MetadataNode {
    names: Vec<String>,
    service: Option<Child>,
    pub directory: tempfile::TempDir,
}

impl MetadataNode {
    pub fn new(pods: usize) -> Self {
        ip("link set lo up");
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
        ] {
            std::fs::write(format!("/proc/sys/{key}"), value).unwrap();
        }
        // Where the agent's own link would be.
        ip("addr add 169.254.170.23/32 dev lo");
        ip("-6 addr add fd00:ec2::23/128 dev lo nodad");
        let mut node = Self {
            names: Vec::new(),
            service: None,
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::set_permissions(node.directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
        node.join(0, "uplink", "169.254.169.254", "fd00:ec2::254");
        ip("addr add 192.0.2.1/32 dev uplink");
        ip("-6 addr add 2001:db8::1/128 dev uplink nodad");
        for pod in 1..=pods {
            let (four, six) = (format!("10.88.0.{pod}"), format!("fd88::{pod}"));
            node.join(pod, &format!("pod{pod}"), &four, &six);
        }
        let count = "table inet count { chain in { type filter hook input priority 0; ip saddr 10.88.0.0/16 counter; ip6 saddr fd88::/64 counter; }; }";
        assert!(node.within(0, "nft").arg(count).status().unwrap().success());
        node
    }

    /// A namespace at the other end of a veth that has no address on the node's side, as with many network plugins.
    fn join(&mut self, number: usize, link: &str, four: &str, six: &str) {
        let name = format!("csm-{}-{number}", std::process::id());
        ip(&format!("netns add {name}"));
        self.names.push(name.clone());
        let (node_mac, own_mac) = (
            format!("02:00:00:00:{number:02x}:01"),
            format!("02:00:00:00:{number:02x}:02"),
        );
        ip(&format!(
            "link add {link} address {node_mac} type veth peer name eth0 address {own_mac} netns {name}"
        ));
        ip(&format!("link set {link} up"));
        for arguments in [
            "link set lo up".to_owned(),
            format!("addr add {four}/32 dev eth0"),
            format!("-6 addr add {six}/128 dev eth0 nodad"),
            "link set eth0 up".to_owned(),
            format!("neigh add 169.254.1.1 lladdr {node_mac} dev eth0 nud permanent"),
            format!("-6 neigh add fe80::1 lladdr {node_mac} dev eth0 nud permanent"),
            "route add default via 169.254.1.1 dev eth0 onlink".to_owned(),
            "-6 route add default via fe80::1 dev eth0 onlink".to_owned(),
        ] {
            ip(&format!("-n {name} {arguments}"));
        }
        for (family, address) in [("-4", format!("{four}/32")), ("-6", format!("{six}/128"))] {
            ip(&format!("{family} route add {address} dev {link}"));
        }
        for (family, address) in [("-4", four), ("-6", six)] {
            ip(&format!(
                "{family} neigh replace {address} lladdr {own_mac} dev {link} nud permanent"
            ));
        }
    }

    /// Starts the service, in the place of one that runs. `test` is the test of the caller's file that is [`service`].
    pub fn serve(&mut self, test: &str, answers: Answers) {
        self.stop();
        let child = self
            .within(0, std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(
                SERVICE,
                format!("{} {} {}", answers.version1, answers.token, answers.ipv6),
            )
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.service = Some(child);
        // The node itself is no pod: it is not counted, and no rule keeps it.
        wait_for("the metadata service", || {
            curl(Command::new("curl"), &[&format!("{FOUR}/ready")]).0 == 404
        });
    }

    fn stop(&mut self) {
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
    }

    /// A command in a pod, from 1 on.
    pub fn within(&self, pod: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.names[pod]])
            .arg(program);
        command
    }

    /// `curl` in a pod; 0 and nothing when there was no answer.
    pub fn curl(&self, pod: usize, arguments: &[&str]) -> (u16, String) {
        curl(self.within(pod, "curl"), arguments)
    }

    /// The name of a pod's namespace.
    pub fn name(&self, pod: usize) -> String {
        self.names[pod].clone()
    }

    /// Packets of pods that have reached the service.
    pub fn packets(&self) -> u64 {
        let listed = self
            .within(0, "nft")
            .args(["list", "table", "inet", "count"])
            .output()
            .unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        words
            .windows(2)
            .filter(|pair| pair[0] == "packets")
            .map(|pair| pair[1].parse::<u64>().unwrap())
            .sum()
    }
}

impl Drop for MetadataNode {
    fn drop(&mut self) {
        self.stop();
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

pub fn curl(mut command: Command, arguments: &[&str]) -> (u16, String) {
    let output = command
        .args([
            "-s",
            "-g",
            "--noproxy",
            "*",
            "-m",
            "3",
            "-w",
            "\n%{http_code}",
        ])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The service, in a process of its own; nothing where the process is not that.
pub fn service() {
    use std::io::{Read, Write};
    let Some(answers) = std::env::var_os(SERVICE) else {
        return;
    };
    let answers: Vec<bool> = answers
        .to_str()
        .unwrap()
        .split(' ')
        .map(|word| word.parse().unwrap())
        .collect();
    let (version1, token, ipv6) = (answers[0], answers[1], answers[2]);
    let serve = move |address: &str| {
        let listener = std::net::TcpListener::bind(address).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).to_lowercase();
                    let mut words = head.split(' ');
                    let (method, path) = (words.next().unwrap(), words.next().unwrap_or(""));
                    let may = version1 || head.contains("x-aws-ec2-metadata-token: node-token");
                    let (status, body) = match (method, path) {
                        ("put", "/latest/api/token") if token => (200, "node-token"),
                        ("put", "/latest/api/token") => {
                            // Lost on the way.
                            std::thread::sleep(Duration::from_secs(30));
                            return;
                        }
                        ("get", "/ready") => (404, ""),
                        ("get", _) if !may => (401, ""),
                        ("get", "/latest/meta-data/") => (200, "iam/\ninstance-id"),
                        ("get", LIST) => (200, "node-role"),
                        _ => (404, ""),
                    };
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status} X\r\nServer: EC2ws\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                });
            }
        })
    };
    if ipv6 {
        serve("[fd00:ec2::254]:80");
    }
    serve("169.254.169.254:80").join().unwrap();
}

//! A node made of network namespaces: its pods, and the metadata service beyond its uplink, with the real addresses.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::namespace::ip;

pub const FOUR: &str = "http://169.254.169.254";
pub const SIX: &str = "http://[fd00:ec2::254]";
const SERVICE: &str = "COUNTERSIGN_TEST_METADATA_SERVICE";
pub const LIST: &str = "/latest/meta-data/iam/security-credentials/";

/// Whether the programs are there that the tests need besides those of [`inside`].
pub fn programs(test: &str) -> bool {
    let has = |name: &str| Path::new("/usr/sbin").join(name).exists();
    let missing: Vec<&str> = ["nft", "iptables", "ip6tables"]
        .into_iter()
        .filter(|name| !has(name))
        .collect();
    if missing.is_empty() && Command::new("curl").arg("-V").output().is_ok() {
        return true;
    }
    eprintln!("SKIPPED {test}: it needs nft, iptables and curl; missing: {missing:?}");
    false
}

/// What the node, its pods and its metadata service have addresses of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Families {
    Both,
    /// IPv6 and nothing else.
    SixAlone,
}

/// A node: the namespace that the test runs in, with pods behind veths and the metadata service behind its uplink.
pub struct Node {
    pub names: Vec<String>,
    service: Option<Child>,
    pub directory: tempfile::TempDir,
    families: Families,
}

impl Node {
    pub fn new(pods: usize) -> Self {
        Self::of(pods, Families::Both)
    }

    pub fn of(pods: usize, families: Families) -> Self {
        ip("link set lo up");
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
        ] {
            std::fs::write(format!("/proc/sys/{key}"), value).unwrap();
        }
        let mut node = Self {
            names: Vec::new(),
            service: None,
            directory: tempfile::tempdir().unwrap(),
            families,
        };
        std::fs::set_permissions(node.directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
        // Where the agent's own link would be.
        ip("-6 addr add fd00:ec2::23/128 dev lo nodad");
        if families == Families::Both {
            ip("addr add 169.254.170.23/32 dev lo");
        }
        node.join(0, "uplink", "169.254.169.254", "fd00:ec2::254");
        for pod in 1..=pods {
            let (four, six) = (format!("10.88.0.{pod}"), format!("fd88::{pod}"));
            node.join(pod, &format!("pod{pod}"), &four, &six);
        }
        node.inside_nft(0, "table inet count { chain in { type filter hook input priority 0; ip saddr 10.88.0.0/16 counter; ip6 saddr fd88::/64 counter; }; }");
        let child = node
            .again(0, "node::metadata_service")
            .env(SERVICE, node.log())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        node.service = Some(child);
        let ready = match families {
            Families::Both => [FOUR, SIX].as_slice(),
            Families::SixAlone => [SIX].as_slice(),
        };
        for base in ready {
            wait_for("the metadata service", || {
                curl(None, &[&format!("{base}/ready")]).0 == 404
            });
        }
        node
    }

    /// This program once more in a namespace, as something that is no test of its own.
    pub fn again(&self, number: usize, part: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.names[number]])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", part, "--nocapture"]);
        command
    }

    pub fn log(&self) -> PathBuf {
        self.directory.path().join("requests")
    }

    /// A namespace at the other end of a veth that has no address on the node's side, as with many network plugins.
    fn join(&mut self, number: usize, link: &str, four: &str, six: &str) {
        let name = format!("cs-{}-{number}", std::process::id());
        ip(&format!("netns add {name}"));
        self.names.push(name.clone());
        let (node_mac, own_mac) = macs(number);
        ip(&format!(
            "link add {link} address {node_mac} type veth peer name eth0 address {own_mac} netns {name}"
        ));
        ip(&format!("link set {link} up"));
        let within = |arguments: &str| ip(&format!("-n {name} {arguments}"));
        within("link set lo up");
        within("link set eth0 up");
        self.give(number, link, six);
        within(&format!(
            "-6 neigh add fe80::1 lladdr {node_mac} dev eth0 nud permanent"
        ));
        within("-6 route add default via fe80::1 dev eth0 onlink");
        if self.families == Families::Both {
            self.give(number, link, four);
            within(&format!(
                "neigh add 169.254.1.1 lladdr {node_mac} dev eth0 nud permanent"
            ));
            within("route add default via 169.254.1.1 dev eth0 onlink");
        }
        if number == 0 {
            // Only the service talks to the node's own processes.
            ip("-6 addr add 2001:db8::1/128 dev uplink nodad");
            if self.families == Families::Both {
                ip("addr add 192.0.2.1/32 dev uplink");
            }
        }
    }

    /// One more address for the namespace behind `link`, which the node routes there.
    pub fn give(&self, number: usize, link: &str, address: &str) {
        let name = &self.names[number];
        let (_, own_mac) = macs(number);
        let (family, prefix, nodad) = match address.parse::<IpAddr>().unwrap() {
            IpAddr::V4(_) => ("-4", 32, ""),
            IpAddr::V6(_) => ("-6", 128, "nodad"),
        };
        ip(&format!(
            "-n {name} {family} addr add {address}/{prefix} dev eth0 {nodad}"
        ));
        ip(&format!("{family} route add {address}/{prefix} dev {link}"));
        ip(&format!(
            "{family} neigh replace {address} lladdr {own_mac} dev {link} nud permanent"
        ));
    }

    pub fn inside_nft(&self, number: usize, rules: &str) {
        let done = Command::new("ip")
            .args(["netns", "exec", &self.names[number], "nft", rules])
            .status();
        assert!(done.unwrap().success(), "{rules}");
    }

    /// Packets of pods that have reached the service.
    pub fn packets(&self) -> u64 {
        let listed = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.names[0],
                "nft",
                "list",
                "table",
                "inet",
                "count",
            ])
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

    /// Requests that the service answered, one a line.
    pub fn requests(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// `curl` in a pod; 0 and nothing when there was no answer.
    pub fn curl(&self, pod: usize, arguments: &[&str]) -> (u16, String) {
        curl(Some(&self.names[pod]), arguments)
    }

    pub fn token(&self, pod: usize, base: &str, seconds: &str) -> String {
        let header = format!("X-aws-ec2-metadata-token-ttl-seconds: {seconds}");
        let url = format!("{base}/latest/api/token");
        let (status, token) = self.curl(pod, &["-X", "PUT", "-H", &header, &url]);
        assert_eq!(status, 200, "{token}");
        token
    }

    pub fn get(&self, pod: usize, base: &str, token: &str, path: &str) -> (u16, String) {
        let header = format!("X-aws-ec2-metadata-token: {token}");
        self.curl(
            pod,
            &["--path-as-is", "-H", &header, &format!("{base}{path}")],
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

pub fn curl(name: Option<&str>, arguments: &[&str]) -> (u16, String) {
    let mut command = match name {
        Some(name) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", name, "curl"]);
            command
        }
        None => Command::new("curl"),
    };
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
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The hardware addresses of a veth's two ends: the node's, and that of the namespace behind it.
fn macs(number: usize) -> (String, String) {
    (
        format!("02:00:00:00:{number:02x}:01"),
        format!("02:00:00:00:{number:02x}:02"),
    )
}

/// Not a test of its own: the metadata service, run in the namespace behind the uplink.
#[test]
fn metadata_service() {
    use std::io::{Read, Write};
    let Some(log) = std::env::var_os(SERVICE) else {
        return;
    };
    let log = Arc::new(Mutex::new(std::fs::File::create(log).unwrap()));
    let serve = |address: &str| {
        let listener = std::net::TcpListener::bind(address).ok()?;
        let log = Arc::clone(&log);
        Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, log) = (stream.unwrap(), Arc::clone(&log));
                std::thread::spawn(move || {
                    let source = stream.peer_addr().unwrap().ip();
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).to_lowercase();
                    let mut words = head.split(' ');
                    let (method, path) = (words.next().unwrap(), words.next().unwrap_or(""));
                    writeln!(log.lock().unwrap(), "{source} {method} {path}").unwrap();
                    let token = head.contains("x-aws-ec2-metadata-token: node-token");
                    let (status, body) = match (method, path) {
                        ("put", "/latest/api/token") => (200, "node-token"),
                        ("get", _) if path != "/ready" && !token => (401, ""),
                        ("get", "/latest/meta-data/placement/region") => (200, "eu-west-1"),
                        ("get", "/latest/meta-data/instance-id") => (200, "i-0123456789abcdef0"),
                        ("get", "/latest/meta-data/iam/security-credentials/") => {
                            (200, "node-role")
                        }
                        ("get", "/latest/user-data") => (200, "join-token"),
                        _ => (404, ""),
                    };
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status} X\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                });
            }
        }))
    };
    // A node with IPv6 alone has no other address.
    let four = serve("169.254.169.254:80");
    serve("[fd00:ec2::254]:80").unwrap().join().unwrap();
    four.unwrap().join().unwrap();
}

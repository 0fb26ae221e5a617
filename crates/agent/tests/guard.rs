//! The metadata guard on the wire: network namespaces stand for a node, its pods, and the metadata service beyond the node's
//! uplink, with the real addresses; the service counts every packet that a pod gets through to it.
//!
//! Needs root, `ip`, `nft` and `iptables`; says loudly when it has to skip.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;
#[path = "guard/roles.rs"]
mod roles;

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::namespace::{inside, ip};
use common::*;
use countersign_agent::FinalCode;
use countersign_agent::guard::capture::{Filter, FilterKind};
use countersign_agent::guard::{GuardApi, GuardApiError, GuardConfig, PodEvent};
use countersign_agent::pods::{Pod, PodTable};
use countersign_imds::decision::{Mode, Settings};
use countersign_imds::harmless::HarmlessPaths;
use futures::future::BoxFuture;
use zeroize::Zeroizing;

const FOUR: &str = "http://169.254.169.254";
const SIX: &str = "http://[fd00:ec2::254]";
const SERVICE: &str = "COUNTERSIGN_TEST_METADATA_SERVICE";
const AGENT: &str = "COUNTERSIGN_TEST_GUARD_AGENT";
const LIST: &str = "/latest/meta-data/iam/security-credentials/";

/// Whether the programs are there that the tests need besides those of [`inside`].
fn programs(test: &str) -> bool {
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

/// A node: the namespace that the test runs in, with pods behind veths and the metadata service behind its uplink.
struct Node {
    names: Vec<String>,
    service: Option<Child>,
    directory: tempfile::TempDir,
}

impl Node {
    fn new(pods: usize) -> Self {
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
        for pod in 1..=pods {
            let (four, six) = (format!("10.88.0.{pod}"), format!("fd88::{pod}"));
            node.join(pod, &format!("pod{pod}"), &four, &six);
        }
        node.inside_nft(0, "table inet count { chain in { type filter hook input priority 0; ip saddr 10.88.0.0/16 counter; ip6 saddr fd88::/64 counter; }; }");
        let child = Command::new("ip")
            .args(["netns", "exec", &node.names[0]])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "metadata_service", "--nocapture"])
            .env(SERVICE, node.log())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        node.service = Some(child);
        wait_for("the metadata service", || {
            curl(None, &[&format!("{FOUR}/ready")]).0 == 404
        });
        node
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("requests")
    }

    /// A namespace at the other end of a veth that has no address on the node's side, as with many network plugins.
    fn join(&mut self, number: usize, link: &str, four: &str, six: &str) {
        let name = format!("cs-{}-{number}", std::process::id());
        ip(&format!("netns add {name}"));
        self.names.push(name.clone());
        let (node_mac, own_mac) = (
            format!("02:00:00:00:{:02x}:01", number),
            format!("02:00:00:00:{:02x}:02", number),
        );
        ip(&format!(
            "link add {link} address {node_mac} type veth peer name eth0 address {own_mac} netns {name}"
        ));
        ip(&format!("link set {link} up"));
        let within = |arguments: &str| ip(&format!("-n {name} {arguments}"));
        within("link set lo up");
        within(&format!("addr add {four}/32 dev eth0"));
        within(&format!("-6 addr add {six}/128 dev eth0 nodad"));
        within("link set eth0 up");
        within(&format!(
            "neigh add 169.254.1.1 lladdr {node_mac} dev eth0 nud permanent"
        ));
        within(&format!(
            "-6 neigh add fe80::1 lladdr {node_mac} dev eth0 nud permanent"
        ));
        within("route add default via 169.254.1.1 dev eth0 onlink");
        within("-6 route add default via fe80::1 dev eth0 onlink");
        ip(&format!("route add {four}/32 dev {link}"));
        ip(&format!("-6 route add {six}/128 dev {link}"));
        ip(&format!(
            "neigh replace {four} lladdr {own_mac} dev {link} nud permanent"
        ));
        ip(&format!(
            "-6 neigh replace {six} lladdr {own_mac} dev {link} nud permanent"
        ));
        if number == 0 {
            // Only the service talks to the node's own processes.
            ip("addr add 192.0.2.1/32 dev uplink");
            ip("-6 addr add 2001:db8::1/128 dev uplink nodad");
        }
    }

    fn inside_nft(&self, number: usize, rules: &str) {
        let done = Command::new("ip")
            .args(["netns", "exec", &self.names[number], "nft", rules])
            .status();
        assert!(done.unwrap().success(), "{rules}");
    }

    /// Packets of pods that have reached the service.
    fn packets(&self) -> u64 {
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
    fn requests(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// `curl` in a pod; 0 and nothing when there was no answer.
    fn curl(&self, pod: usize, arguments: &[&str]) -> (u16, String) {
        curl(Some(&self.names[pod]), arguments)
    }

    fn token(&self, pod: usize, base: &str, seconds: &str) -> String {
        let header = format!("X-aws-ec2-metadata-token-ttl-seconds: {seconds}");
        let url = format!("{base}/latest/api/token");
        let (status, token) = self.curl(pod, &["-X", "PUT", "-H", &header, &url]);
        assert_eq!(status, 200, "{token}");
        token
    }

    fn get(&self, pod: usize, base: &str, token: &str, path: &str) -> (u16, String) {
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

fn curl(name: Option<&str>, arguments: &[&str]) -> (u16, String) {
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

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
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
        let listener = std::net::TcpListener::bind(address).unwrap();
        let log = Arc::clone(&log);
        std::thread::spawn(move || {
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
        })
    };
    let six = serve("[fd00:ec2::254]:80");
    serve("169.254.169.254:80").join().unwrap();
    six.join().unwrap();
}

/// Kubernetes, as far as the guard asks it.
#[derive(Default)]
struct Api {
    tokens: AtomicUsize,
    events: Mutex<Vec<(String, PodEvent)>>,
    /// What a read of the API sees.
    pods: Mutex<Vec<Pod>>,
}

impl GuardApi for Api {
    fn token<'a>(
        &'a self,
        pod: &'a Pod,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Zeroizing<String>, GuardApiError>> {
        self.tokens.fetch_add(1, Ordering::SeqCst);
        let number: usize = pod.uid.rsplit('-').next().unwrap().parse().unwrap();
        Box::pin(std::future::ready(Ok(token(number, START).into())))
    }

    fn pods(&self) -> BoxFuture<'_, Result<PodTable, GuardApiError>> {
        let pods = self.pods.lock().unwrap().clone();
        Box::pin(std::future::ready(Ok(PodTable::new(pods, vec![]))))
    }

    fn event<'a>(&'a self, pod: &'a Pod, event: PodEvent) -> BoxFuture<'a, ()> {
        self.events
            .lock()
            .unwrap()
            .push((pod.name.to_string(), event));
        Box::pin(std::future::ready(()))
    }
}

/// Pod `number` of the namespaces, under the uid of the pod `uid` of the tokens.
fn at(number: usize, uid: usize) -> Pod {
    Pod {
        addresses: vec![
            IpAddr::from([10, 88, 0, u8::try_from(number).unwrap()]),
            format!("fd88::{number}").parse().unwrap(),
        ],
        ..pod(uid)
    }
}

fn show(world: &World, pods: Vec<Pod>) {
    world
        .pods
        .send_replace(Some(Arc::new(PodTable::new(pods, vec![]))));
}

async fn world(node: &Node, mode: Mode, kind: FilterKind, api: Arc<Api>, v1: bool) -> World {
    let state = node.directory.path().to_owned();
    World::with(move |mut config, watch| {
        let mut guard = GuardConfig::new(Settings {
            mode,
            v1,
            harmless: HarmlessPaths::default(),
        });
        guard.filter = Some(Filter::new(kind, vec![]));
        guard.state_dir = state;
        guard.api = Some(api);
        config.guard = Some(guard);
        config.pods = Some(watch);
        config.keys = Some(keys());
        config
    })
    .await
}

async fn redirected(world: &World) {
    for _ in 0..200 {
        if world
            .agent
            .metrics()
            .render()
            .contains("countersign_imds_guard_state 2")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!(
        "the guard does not get the requests: {}",
        world.agent.metrics().render()
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn pods_get_their_own_role_over_both_families_and_nothing_of_the_node() {
    let name = "pods_get_their_own_role_over_both_families_and_nothing_of_the_node";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(3);
    // Without a guard they reach everything.
    let token = node.token(1, FOUR, "60");
    assert_eq!(node.get(1, FOUR, &token, LIST).1, "node-role");
    let open = node.packets();
    assert!(open > 0);
    let before = node.requests().lines().count();
    runtime().block_on(async {
        let api = Arc::new(Api::default());
        let world = world(&node, Mode::Serve, FilterKind::Nft, Arc::clone(&api), false).await;
        show(&world, vec![at(1, 1), at(2, 2)]);
        redirected(&world).await;
        for base in [FOUR, SIX] {
            // Rows 1, 3, 7, 8, 9, 10, 11 and 12.
            let token = node.token(1, base, "60");
            assert!(token.len() <= 128);
            assert_eq!(
                node.get(1, base, &token, LIST),
                (200, "orchard-reader".into())
            );
            let (status, body) = node.get(1, base, &token, &format!("{LIST}orchard-reader"));
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, &body["Code"]), (200, &"Success".into()));
            assert_eq!(
                (&body["SecretAccessKey"], &body["Token"]),
                (&SECRET.into(), &SESSION_TOKEN.into())
            );
            for (path, expected) in [
                (format!("{LIST}node-role"), 404),
                (
                    format!("{LIST}arn:aws:iam::210987654321:role%2forchard-reader"),
                    200,
                ),
                (
                    "/latest//meta-data/iam/security-credentials".to_owned(),
                    200,
                ),
                (
                    "/latest/meta-data/placement/../iam/security-credentials/".to_owned(),
                    400,
                ),
                (format!("{LIST}%2e%2e/x"), 400),
                ("/latest/user-data".to_owned(), 403),
                ("/latest/dynamic/instance-identity/document".to_owned(), 403),
                ("/latest/meta-data/iam/info".to_owned(), 200),
                ("/latest/meta-data/ami-launch-index".to_owned(), 404),
            ] {
                assert_eq!(node.get(1, base, &token, &path).0, expected, "{base}{path}");
            }
            assert_eq!(
                node.get(1, base, &token, "/latest/meta-data/placement/region"),
                (200, "eu-west-1".into())
            );
            assert_eq!(
                node.get(1, base, &token, "/1.0/meta-data/instance-id").0,
                200
            );
            // Row 4: the token of another pod. Row 25: forwarded.
            assert_eq!(node.get(2, base, &token, LIST).0, 401);
            let header = format!("X-aws-ec2-metadata-token: {token}");
            let url = format!("{base}{LIST}");
            assert_eq!(
                node.curl(1, &["-H", &header, "-H", "X-Forwarded-For: 10.0.0.1", &url])
                    .0,
                403
            );
            assert_eq!(
                node.curl(1, &["-H", &header, "-H", "Host: evil.example", &url])
                    .0,
                403
            );
            assert_eq!(node.curl(1, &[&url]).0, 401);
            // Rows 5, 13 and 14.
            for ttl in ["0", "21601", "abc"] {
                let header = format!("X-aws-ec2-metadata-token-ttl-seconds: {ttl}");
                let put = [
                    "-X",
                    "PUT",
                    "-H",
                    &header,
                    &format!("{base}/latest/api/token"),
                ];
                assert_eq!(node.curl(1, &put).0, 400, "{ttl}");
            }
            let ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60";
            for (path, expected) in [("/2021-03-23/api/token", 403), ("/token", 404)] {
                assert_eq!(
                    node.curl(1, &["-X", "PUT", "-H", ttl, &format!("{base}{path}")])
                        .0,
                    expected
                );
            }
            assert_eq!(node.curl(1, &["-X", "POST", &url]).0, 405);
            // Row 6.
            let short = node.token(1, base, "1");
            tokio::time::sleep(Duration::from_millis(1100)).await;
            assert_eq!(node.get(1, base, &short, LIST).0, 401);
            // A pod that nobody knows.
            let put = ["-X", "PUT", "-H", ttl, &format!("{base}/latest/api/token")];
            assert_eq!(node.curl(3, &put).0, 404);
            // Other ports, and UDP, go nowhere.
            assert_eq!(node.curl(1, &["-m", "1", &format!("{base}:81/")]).0, 0);
        }
        // Row 2: a pod without a role.
        world.auth.set(Answer::Refuse(FinalCode::ResourceNotFound));
        show(&world, vec![at(1, 1), at(2, 9)]);
        let token = node.token(2, FOUR, "60");
        assert_eq!(node.get(2, FOUR, &token, LIST).0, 404);
        // The trust policy refuses; the auth service is down.
        world.auth.set(Answer::Refuse(FinalCode::AccessDenied));
        show(&world, vec![at(2, 10)]);
        let token = node.token(2, FOUR, "60");
        let (status, body) = node.get(2, FOUR, &token, LIST);
        assert!(
            status == 500 && body.contains("AssumeRoleUnauthorizedAccess"),
            "{status} {body}"
        );
        world.auth.set(Answer::Down);
        show(&world, vec![at(2, 11)]);
        let token = node.token(2, FOUR, "60");
        assert_eq!(node.get(2, FOUR, &token, LIST).0, 503);
        let events = api.events.lock().unwrap().clone();
        for event in [
            PodEvent::NodeRoleBlocked,
            PodEvent::RoleForbidden,
            PodEvent::CredentialError,
        ] {
            assert!(events.iter().any(|(_, other)| *other == event), "{event:?}");
        }
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), open, "a pod's packet reached the service");
    // The agent itself asked for two values and tokens to ask with, and for nothing secret.
    let asked = node.requests();
    let asked: Vec<&str> = asked.lines().skip(before).collect();
    assert!(asked.len() <= 4, "{asked:?}");
    assert!(
        asked
            .iter()
            .all(|line| !line.contains("iam") && !line.contains("user-data")),
        "{asked:?}"
    );
}

#[test]
fn clients_get_the_pods_role_without_a_variable() {
    let name = "clients_get_the_pods_role_without_a_variable";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    runtime().block_on(async {
        let world = world(&node, Mode::Serve, FilterKind::Nft, Arc::default(), true).await;
        show(&world, vec![at(1, 1)]);
        redirected(&world).await;
        assert_eq!(node.curl(1, &[&format!("{FOUR}{LIST}")]), (200, "orchard-reader".into()));
        // Row 5.4: a bad token is refused even so.
        assert_eq!(node.get(1, FOUR, "wrong", LIST).0, 401);
        let script = "import boto3\nc = boto3.Session().get_credentials()\nprint(c.method, c.get_frozen_credentials().secret_key)";
        let role = format!("iam-role {SECRET}");
        let go = "COUNTERSIGN_TEST_GO";
        for (variable, program, arguments, expected) in [
            ("COUNTERSIGN_TEST_PYTHON", None, ["-c", script].as_slice(), [role.as_str()].as_slice()),
            // It shows the end of the key, and where it comes from.
            ("COUNTERSIGN_TEST_AWS2", None, &["configure", "list"], &["****************0001", "iam-role"]),
            (go, Some("aws-sdk-go-v1"), &["credentials"], &[SECRET]),
            (go, Some("aws-sdk-go-v2"), &["credentials"], &[SECRET]),
        ] {
            let path = std::env::var_os(variable).map(PathBuf::from);
            let path = path.map(|path| program.map_or_else(|| path.clone(), |program| path.join(program)));
            let Some(path) = path.filter(|path| path.exists()) else {
                eprintln!("SKIPPED a part of {name}: {variable} is not set to what exists");
                continue;
            };
            for family in ["IPv4", "IPv6"] {
                let output = Command::new("ip")
                    .args(["netns", "exec", &node.names[1]])
                    .arg(&path)
                    .args(arguments)
                    .env_clear()
                    .env("HOME", node.directory.path())
                    .env("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", family)
                    .output()
                    .unwrap();
                let text = String::from_utf8_lossy(&output.stdout);
                for part in expected {
                    assert!(text.contains(part), "{} {family}: {output:?}", path.display());
                }
            }
        }
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}

#[test]
fn a_hundred_first_requests_make_one_call_and_a_late_watch_is_waited_for() {
    let name = "a_hundred_first_requests_make_one_call_and_a_late_watch_is_waited_for";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(2);
    runtime().block_on(async {
        let api = Arc::new(Api::default());
        let world = world(&node, Mode::Serve, FilterKind::Nft, Arc::clone(&api), true).await;
        redirected(&world).await;
        // Row 15: the pod asks before the watch knows it.
        let late = tokio::task::spawn_blocking({
            let name = node.names[1].clone();
            move || curl(Some(&name), &[&format!("{FOUR}{LIST}")])
        });
        tokio::time::sleep(Duration::from_millis(1000)).await;
        show(&world, vec![at(1, 1)]);
        assert_eq!(late.await.unwrap(), (200, "orchard-reader".into()));
        // The watch is silent, and a read of the API knows the pod.
        api.pods.lock().unwrap().push(at(2, 2));
        let started = Instant::now();
        let put = [
            "-X",
            "PUT",
            "-H",
            "X-aws-ec2-metadata-token-ttl-seconds: 60",
            &format!("{FOUR}/latest/api/token"),
        ];
        assert_eq!(node.curl(2, &put).0, 200);
        assert!(
            started.elapsed() < Duration::from_millis(1700),
            "{:?}",
            started.elapsed()
        );
        // Row 26, within the pod's limit of 40 at once.
        show(&world, vec![at(1, 5)]);
        let calls = world.auth.count();
        let url = format!("{FOUR}{LIST}");
        let urls = [url.as_str()];
        let mut all = Vec::new();
        for _ in 0..30 {
            let (name, urls) = (
                node.names[1].clone(),
                urls.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>(),
            );
            all.push(tokio::task::spawn_blocking(move || {
                let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
                curl(Some(&name), &urls)
            }));
        }
        for one in all {
            assert_eq!(one.await.unwrap().0, 200);
        }
        assert_eq!(world.auth.count() - calls, 1);
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}

#[test]
fn addresses_that_are_used_again_never_give_another_pods_role() {
    let name = "addresses_that_are_used_again_never_give_another_pods_role";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    runtime().block_on(async {
        let world = world(&node, Mode::Serve, FilterKind::Nft, Arc::default(), true).await;
        redirected(&world).await;
        // Row 16, many times: the old pod has ended, and the next one has its address.
        for job in 1..=60 {
            let mut old = at(1, job);
            old.terminated = true;
            show(&world, vec![old, at(1, job + 1)]);
            let (status, body) = node.curl(1, &[&format!("{FOUR}/latest/meta-data/iam/info")]);
            assert_eq!(status, 200, "{body}");
            // The association of a service account has its name, so this tells whose credentials they are.
            assert!(
                body.contains(&format!("\"a-picker-{}\"", job + 1)),
                "{job}: {body}"
            );
            // Two alive: nobody gets anything.
            if job % 20 == 0 {
                show(&world, vec![at(1, job), at(1, job + 1)]);
                assert_eq!(node.curl(1, &[&format!("{FOUR}{LIST}")]).0, 404);
                assert!(
                    world
                        .agent
                        .metrics()
                        .render()
                        .contains("countersign_imds_ambiguous_total")
                );
                // One of them is past its grace.
                let mut gone = at(1, job);
                gone.deleted = Some(jiff::Timestamp::from_second(START - 1).unwrap());
                show(&world, vec![gone, at(1, job + 1)]);
                assert_eq!(node.curl(1, &[&format!("{FOUR}{LIST}")]).0, 200);
            }
        }
        // Only ended pods have it.
        let mut old = at(1, 1);
        old.terminated = true;
        show(&world, vec![old]);
        assert_eq!(node.curl(1, &[&format!("{FOUR}{LIST}")]).0, 404);
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}

#[test]
fn block_gives_no_credentials_and_audit_tells_who_uses_the_nodes() {
    let name = "block_gives_no_credentials_and_audit_tells_who_uses_the_nodes";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    let blocked = node
        .directory
        .path()
        .join(countersign_agent::guard::BLOCKED_FILE);
    runtime().block_on(async {
        let world = world(&node, Mode::Block, FilterKind::Nft, Arc::default(), false).await;
        show(&world, vec![at(1, 1)]);
        redirected(&world).await;
        let token = node.token(1, FOUR, "60");
        for (path, expected) in [
            (LIST.to_owned(), 404),
            (format!("{LIST}node-role"), 404),
            ("/latest/user-data".into(), 403),
            ("/latest/meta-data/instance-id".into(), 200),
        ] {
            assert_eq!(node.get(1, FOUR, &token, &path).0, expected, "{path}");
        }
        assert_eq!(world.auth.count(), 0);
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
    let list: Vec<countersign_agent::guard::BlockedWorkload> =
        serde_json::from_slice(&std::fs::read(&blocked).unwrap()).unwrap();
    assert_eq!(
        (
            list[0].service_account.as_str(),
            list[0].credentials,
            list[0].secrets
        ),
        ("picker-1", 2, 1)
    );
    runtime().block_on(async {
        let world = world(&node, Mode::Audit, FilterKind::Nft, Arc::default(), false).await;
        show(&world, vec![at(1, 1)]);
        redirected(&world).await;
        // As without a guard: version 2, version 1, secrets.
        let token = node.token(1, FOUR, "60");
        assert_eq!(node.get(1, FOUR, &token, LIST), (200, "node-role".into()));
        assert_eq!(
            node.curl(1, &[&format!("{FOUR}/latest/user-data")]),
            (200, "join-token".into())
        );
        world.agent.stop().await;
    });
    let list: Vec<countersign_agent::guard::BlockedWorkload> =
        serde_json::from_slice(&std::fs::read(&blocked).unwrap()).unwrap();
    assert!(list[0].passed_on && list[0].credentials == 3);
}

/// Not a test of its own: an agent that can be killed.
#[test]
fn guard_agent() {
    let Some(directory) = std::env::var_os(AGENT) else {
        return;
    };
    runtime().block_on(async {
        let world = World::with(|mut config, watch| {
            let mut guard = GuardConfig::new(Settings {
                mode: Mode::Serve,
                v1: true,
                harmless: HarmlessPaths::default(),
            });
            guard.filter = Some(Filter::new(FilterKind::Nft, vec![]));
            guard.state_dir = directory.into();
            guard.api = Some(Arc::new(Api::default()));
            config.guard = Some(guard);
            config.pods = Some(watch);
            config
        })
        .await;
        show(&world, vec![at(1, 1)]);
        std::future::pending::<()>().await;
    });
}

#[test]
fn not_one_packet_reaches_the_service_while_the_agent_crashes_and_restarts() {
    let name = "not_one_packet_reaches_the_service_while_the_agent_crashes_and_restarts";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    // What the unit does before kubelet starts.
    let rules = countersign_imds::advise::unit_rules(&[]);
    let file = node.directory.path().join("rules.nft");
    std::fs::write(&file, rules).unwrap();
    assert!(
        Command::new("nft")
            .arg("-f")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "guard_agent", "--nocapture"])
            .env(AGENT, node.directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let answers: Arc<Mutex<Vec<(u16, String)>>> = Arc::default();
    let pod = std::thread::spawn({
        let (stop, answers, name) = (
            Arc::clone(&stop),
            Arc::clone(&answers),
            node.names[1].clone(),
        );
        move || {
            while !stop.load(Ordering::SeqCst) {
                for base in [FOUR, SIX] {
                    let answer = curl(Some(&name), &["-m", "1", &format!("{base}{LIST}")]);
                    answers.lock().unwrap().push(answer);
                }
            }
        }
    });
    assert_eq!(
        node.curl(1, &["-m", "1", &format!("{FOUR}{LIST}")]).0,
        0,
        "boot: dropped"
    );
    let mut token = String::new();
    for round in 0..4 {
        let mut agent = start();
        wait_for("the guard", || {
            node.curl(1, &[&format!("{FOUR}{LIST}")]).0 == 200
        });
        if round == 0 {
            token = node.token(1, FOUR, "600");
        }
        // Row 18: what was given before counts after a restart.
        assert_eq!(node.get(1, FOUR, &token, LIST).0, 200, "round {round}");
        agent.kill().unwrap();
        agent.wait().unwrap();
        // Row 17: refused or dropped.
        assert_eq!(node.curl(1, &["-m", "1", &format!("{FOUR}{LIST}")]).0, 0);
    }
    stop.store(true, Ordering::SeqCst);
    pod.join().unwrap();
    assert_eq!(node.packets(), 0, "a pod's packet reached the service");
    let answers = answers.lock().unwrap();
    assert!(answers.iter().any(|(status, _)| *status == 200));
    assert!(
        answers.iter().all(|(_, body)| !body.contains("node-role")),
        "{answers:?}"
    );
    // Nobody refreshes what opens the filter: it closes by itself. The time is that of the rules, 30 s.
    let listed = || {
        let output = Command::new("nft")
            .args(["list", "table", "inet", "countersign_imds"])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(listed().contains("expires"));
    let until = Instant::now() + Duration::from_secs(35);
    while listed().contains("expires") {
        assert!(
            Instant::now() < until,
            "the filter stays open without an agent"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(listed().contains("drop"));
}

#[test]
fn a_predecessors_rule_goes_only_after_our_own_works() {
    let name = "a_predecessors_rule_goes_only_after_our_own_works";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    let rule = "PREROUTING -p tcp -d 169.254.169.254 --dport 80 -i pod+ -j DNAT --to-destination 192.0.2.1:8181";
    let added = Command::new("iptables")
        .args(["-t", "nat", "-A"])
        .args(rule.split(' '))
        .status();
    assert!(added.unwrap().success());
    let has_rule = || {
        let listed = Command::new("iptables")
            .args(["-t", "nat", "-S", "PREROUTING"])
            .output();
        String::from_utf8(listed.unwrap().stdout)
            .unwrap()
            .contains("8181")
    };
    runtime().block_on(async {
        // Somebody else has the guard's port: our own rules cannot work, and theirs stays.
        let taken = std::net::TcpListener::bind("169.254.170.23:2706").unwrap();
        let six = std::net::TcpListener::bind("[fd00:ec2::23]:2706").unwrap();
        let world = world(&node, Mode::Serve, FilterKind::Nft, Arc::default(), true).await;
        show(&world, vec![at(1, 1)]);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(has_rule());
        assert_eq!(
            node.curl(1, &["-m", "1", &format!("{FOUR}{LIST}")]).0,
            0,
            "dropped meanwhile"
        );
        drop((taken, six));
        redirected(&world).await;
        assert_eq!(node.curl(1, &[&format!("{FOUR}{LIST}")]).0, 200);
        wait_for("the removal of the rule", || !has_rule());
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}

#[test]
fn iptables_does_the_same_where_there_is_no_nft() {
    let name = "iptables_does_the_same_where_there_is_no_nft";
    if !programs(name) || !inside(name) {
        return;
    }
    for kind in [FilterKind::Iptables, FilterKind::IptablesLegacy] {
        let probe = if kind == FilterKind::Iptables {
            "iptables"
        } else {
            "iptables-legacy"
        };
        let works = Command::new(probe).args(["-t", "nat", "-S"]).output();
        if !works.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED {name}: {probe} does not work with this kernel");
            continue;
        }
        let time = Command::new(probe)
            .args([
                "-t",
                "mangle",
                "-A",
                "OUTPUT",
                "-m",
                "time",
                "--datestop",
                "2030-01-01T00:00:00",
                "-j",
                "RETURN",
            ])
            .output();
        if !time.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED {name}: {probe} has no match `time` with this kernel");
            continue;
        }
        let node = Node::new(1);
        runtime().block_on(async {
            let world = world(&node, Mode::Serve, kind, Arc::default(), true).await;
            show(&world, vec![at(1, 1)]);
            redirected(&world).await;
            for base in [FOUR, SIX] {
                assert_eq!(
                    node.curl(1, &[&format!("{base}{LIST}")]),
                    (200, "orchard-reader".into())
                );
                assert_eq!(node.curl(1, &["-m", "1", &format!("{base}:81/")]).0, 0);
            }
            world.agent.stop().await;
        });
        assert_eq!(
            node.curl(1, &["-m", "1", &format!("{FOUR}{LIST}")]).0,
            0,
            "dropped when it stops"
        );
        assert_eq!(node.packets(), 0);
        assert!(
            Command::new("nft")
                .args(["flush", "ruleset"])
                .status()
                .unwrap()
                .success()
        );
        for link in ["uplink", "pod1"] {
            ip(&format!("link del {link}"));
        }
        ip("addr del 169.254.170.23/32 dev lo");
        ip("-6 addr del fd00:ec2::23/128 dev lo");
    }
}

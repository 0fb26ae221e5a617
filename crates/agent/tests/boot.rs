//! From the boot of a node to its first pods: the unit's command alone, then agents that crash, are stopped and are replaced, and a
//! pod that asks all the while. Network namespaces with the real addresses; packets are counted where they would arrive.
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

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::metadata_node::{
    Answers, FOUR, LIST, MetadataNode, SIX, curl, programs, service, wait_for,
};
use common::namespace::inside;
use common::{World, pod, token};
use countersign_agent::guard::capture::{Filter, FilterKind, drop_until_answered, inspect};
use countersign_agent::guard::{GuardApi, GuardApiError, GuardConfig, PodEvent};
use countersign_agent::pods::{Pod, PodTable};
use countersign_imds::decision::{Mode, Settings};
use countersign_imds::harmless::HarmlessPaths;
use countersign_imds::node::Rules;
use futures::future::BoxFuture;
use zeroize::Zeroizing;

const AGENT: &str = "COUNTERSIGN_TEST_BOOT_AGENT";
const OPEN: Answers = Answers {
    version1: true,
    token: true,
    ipv6: true,
};

/// Not a test of its own: the metadata service behind the uplink.
#[test]
fn boot_service() {
    service();
}

/// Kubernetes, as far as the guard asks it.
struct Api;

impl GuardApi for Api {
    fn token<'a>(
        &'a self,
        _: &'a Pod,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Zeroizing<String>, GuardApiError>> {
        Box::pin(std::future::ready(Ok(token(1, common::START).into())))
    }

    fn pods(&self) -> BoxFuture<'_, Result<PodTable, GuardApiError>> {
        let error = GuardApiError("the watch is enough".into());
        Box::pin(std::future::ready(Err(error)))
    }

    fn event<'a>(&'a self, _: &'a Pod, _: PodEvent) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Not a test of its own: an agent that stops when its standard input ends, and can be killed.
#[test]
fn boot_agent() {
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
            guard.api = Some(Arc::new(Api));
            config.guard = Some(guard);
            config.pods = Some(watch);
            config
        })
        .await;
        let known = Pod {
            addresses: vec![
                IpAddr::from([10, 88, 0, 1]),
                "fd88::1".parse::<IpAddr>().unwrap(),
            ],
            ..pod(1)
        };
        let table = PodTable::new(vec![known], vec![]);
        world.pods.send_replace(Some(Arc::new(table)));
        tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()))
            .await
            .unwrap()
            .unwrap();
        world.agent.stop().await;
    });
}

fn start(node: &MetadataNode) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "boot_agent", "--nocapture"])
        .env(AGENT, node.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn stop(mut agent: Child) {
    drop(agent.stdin.take());
    assert!(agent.wait().unwrap().success());
}

#[test]
fn from_boot_over_crashes_and_upgrades_no_packet_of_a_pod_reaches_the_service() {
    let name = "from_boot_over_crashes_and_upgrades_no_packet_of_a_pod_reaches_the_service";
    if !programs(name, &["nft"]) || !inside(name) {
        return;
    }
    let mut node = MetadataNode::new(1);
    node.serve("boot_service", OPEN);
    let url = format!("{FOUR}{LIST}");
    // Without the guard it answers, and counting works.
    assert_eq!(node.curl(1, &[&url]), (200, "node-role".into()));
    let before = node.packets();
    assert!(before > 0);

    // What the unit runs before kubelet, which is all that there is until the agent's image is pulled. Twice is once.
    for _ in 0..2 {
        runtime().block_on(async {
            let filter = Filter::detect(vec![]).await.unwrap();
            assert!(drop_until_answered(filter).await.unwrap());
            assert_eq!(inspect().await.unwrap(), Rules::Dropped);
        });
    }
    let done = Arc::new(AtomicBool::new(false));
    let answers: Arc<Mutex<Vec<(u16, String)>>> = Arc::default();
    let asking = std::thread::spawn({
        let (done, answers, name) = (Arc::clone(&done), Arc::clone(&answers), node.name(1));
        move || {
            while !done.load(Ordering::SeqCst) {
                for base in [FOUR, SIX] {
                    let mut within = Command::new("ip");
                    within.args(["netns", "exec", &name, "curl"]);
                    let answer = curl(within, &["-m", "1", &format!("{base}{LIST}")]);
                    answers.lock().unwrap().push(answer);
                }
            }
        }
    });
    wait_for("requests before there is an agent", || {
        answers.lock().unwrap().len() >= 4
    });
    assert!(
        answers
            .lock()
            .unwrap()
            .iter()
            .all(|(status, _)| *status == 0)
    );
    assert_eq!(node.packets(), before, "boot");

    let serves = || node.curl(1, &["-m", "1", &url]).0 == 200;
    // A crash loop: dead before it has done anything, in the middle of it, and while it serves.
    for age in [0, 50, 200, 400, 700, 1000] {
        let mut agent = start(&node);
        std::thread::sleep(Duration::from_millis(age));
        agent.kill().unwrap();
        agent.wait().unwrap();
    }
    let mut agent = start(&node);
    wait_for("the guard", serves);
    let (_, head) = node.curl(1, &["-D", "-", "-o", "/dev/null", &url]);
    assert!(
        head.to_lowercase().contains("x-countersign-guard: serve"),
        "{head}"
    );
    // The unit again, as when somebody restarts it: what answers is left alone.
    runtime().block_on(async {
        let filter = Filter::detect(vec![]).await.unwrap();
        assert!(!drop_until_answered(filter).await.unwrap());
    });
    assert!(serves());
    agent.kill().unwrap();
    agent.wait().unwrap();

    // Upgrades: the old one ends in order and the new one starts; then the new one starts while the old one runs.
    let old = start(&node);
    wait_for("the guard after crashes", serves);
    stop(old);
    assert!(!serves(), "dropped when it has ended");
    let old = start(&node);
    wait_for("the guard after an upgrade", serves);
    let new = start(&node);
    std::thread::sleep(Duration::from_secs(2));
    stop(old);
    wait_for("the guard after an upgrade without a gap", serves);
    stop(new);

    done.store(true, Ordering::SeqCst);
    asking.join().unwrap();
    assert_eq!(node.packets(), before, "a pod's packet reached the service");
    let answers = answers.lock().unwrap();
    assert!(answers.iter().any(|(status, _)| *status == 200));
    assert!(
        answers.iter().all(|(_, body)| !body.contains("node-role")),
        "{answers:?}"
    );
}

#[test]
fn every_packet_filter_can_close_a_node_at_boot() {
    let name = "every_packet_filter_can_close_a_node_at_boot";
    if !programs(name, &["nft", "iptables", "ip6tables"]) || !inside(name) {
        return;
    }
    let mut node = MetadataNode::new(1);
    node.serve("boot_service", OPEN);
    let urls = [format!("{FOUR}{LIST}"), format!("{SIX}{LIST}")];
    let clean = |program: &str| {
        for table in ["mangle", "nat"] {
            for what in ["-F", "-X"] {
                let done = Command::new(program).args(["-t", table, what]).output();
                assert!(done.unwrap().status.success(), "{program} {table} {what}");
            }
        }
    };
    for (kind, programs) in [
        (FilterKind::Nft, ["nft", "nft"]),
        (FilterKind::Iptables, ["iptables", "ip6tables"]),
        (
            FilterKind::IptablesLegacy,
            ["iptables-legacy", "ip6tables-legacy"],
        ),
    ] {
        let works = programs.iter().all(|program| {
            let list: &[&str] = if *program == "nft" {
                &["list", "tables"]
            } else {
                &["-t", "mangle", "-S"]
            };
            let listed = Command::new(program).args(list).output();
            listed.is_ok_and(|output| output.status.success())
        });
        if !works {
            eprintln!("SKIPPED {name}: {programs:?} do not work with this kernel");
            continue;
        }
        for url in &urls {
            assert_eq!(node.curl(1, &[url]).0, 200, "{kind:?}: open before");
        }
        let before = node.packets();
        runtime().block_on(async {
            assert_eq!(inspect().await.unwrap(), Rules::Missing);
            for _ in 0..2 {
                let filter = Filter::new(kind, vec![]);
                assert!(drop_until_answered(filter).await.unwrap());
                assert_eq!(inspect().await.unwrap(), Rules::Dropped, "{kind:?}");
            }
        });
        for url in &urls {
            assert_eq!(node.curl(1, &["-m", "1", url]).0, 0, "{kind:?}");
        }
        assert_eq!(node.packets(), before, "{kind:?}");
        if kind == FilterKind::Nft {
            let flushed = Command::new("nft").args(["flush", "ruleset"]).status();
            assert!(flushed.unwrap().success());
        } else {
            programs.iter().copied().for_each(clean);
        }
    }
}

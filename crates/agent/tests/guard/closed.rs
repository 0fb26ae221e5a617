//! The packet filter: closed from boot on, over crashes and restarts, beside a predecessor's rules, and by iptables.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use countersign_agent::guard::GuardConfig;
use countersign_agent::guard::capture::{Filter, FilterKind};
use countersign_imds::decision::{Mode, Settings};
use countersign_imds::harmless::HarmlessPaths;

use crate::common::namespace::{inside, ip};
use crate::common::{SECRET, World};
use crate::node::{FOUR, LIST, Node, SIX, curl, programs, wait_for};
use crate::world::{Api, at, redirected, runtime, show, world};

const AGENT: &str = "COUNTERSIGN_TEST_GUARD_AGENT";

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
        show(&world, vec![at(1, 1), at(2, 2)]);
        // Told to stop by the end of its input.
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let _ = ended.await;
        world.agent.stop().await;
    });
}

/// What the unit does before kubelet starts.
fn boot(node: &Node) {
    let rules = countersign_imds::advise::unit_rules(&[]);
    let file = node.directory.path().join("rules.nft");
    std::fs::write(&file, rules).unwrap();
    let loaded = Command::new("nft").arg("-f").arg(&file).status();
    assert!(loaded.unwrap().success());
}

fn start_agent(node: &Node) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "closed::guard_agent", "--nocapture"])
        .env(AGENT, node.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn not_one_packet_reaches_the_service_while_the_agent_crashes_and_restarts() {
    let name = "closed::not_one_packet_reaches_the_service_while_the_agent_crashes_and_restarts";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    boot(&node);
    let stop = Arc::new(AtomicBool::new(false));
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
        let mut agent = start_agent(&node);
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

/// Row 18. A restart as in an update, and one after a crash; the time is that of the best of three, since the machine may be
/// busy with other things.
#[test]
fn a_restart_under_load_fails_requests_for_less_than_two_seconds() {
    let name = "closed::a_restart_under_load_fails_requests_for_less_than_two_seconds";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(2);
    boot(&node);
    let mut agent = start_agent(&node);
    for pod in [1, 2] {
        wait_for("the guard", || {
            node.curl(pod, &[&format!("{FOUR}{LIST}")]).0 == 200
        });
    }
    let stop = Arc::new(AtomicBool::new(false));
    // When each request ended, and whether the pod got its credentials.
    let answers: Arc<Mutex<Vec<(Instant, bool)>>> = Arc::default();
    let pods: Vec<_> = [1, 2]
        .map(|pod| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            let name = node.names[pod].clone();
            std::thread::spawn(move || {
                let url = format!("{FOUR}{LIST}orchard-reader");
                while !stop.load(Ordering::SeqCst) {
                    let (status, body) = curl(Some(&name), &["--connect-timeout", "0.2", &url]);
                    let is_own = status == 200 && body.contains(SECRET);
                    answers.lock().unwrap().push((Instant::now(), is_own));
                    // Below a pod's limit of 20 a second.
                    std::thread::sleep(Duration::from_millis(60));
                }
            })
        })
        .into();
    for crashes in [false, true] {
        let mut gaps = Vec::new();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(500));
            let restarted = Instant::now();
            if crashes {
                agent.kill().unwrap();
            } else {
                drop(agent.stdin.take());
            }
            agent.wait().unwrap();
            agent = start_agent(&node);
            let started = Instant::now();
            wait_for("the guard", || {
                let answers = answers.lock().unwrap();
                let since: Vec<bool> = answers
                    .iter()
                    .filter(|(at, _)| *at > started)
                    .map(|(_, is_own)| *is_own)
                    .collect();
                since.len() >= 10 && since.ends_with(&[true; 6])
            });
            let answers = answers.lock().unwrap();
            let failed = answers
                .iter()
                .rfind(|(at, is_own)| *at > restarted && !is_own)
                .map_or(Duration::ZERO, |(at, _)| at.duration_since(restarted));
            gaps.push(failed);
        }
        eprintln!("requests failed for {gaps:?} (crash: {crashes})");
        let best = gaps.iter().min().unwrap();
        assert!(*best < Duration::from_secs(2), "{gaps:?}");
    }
    stop.store(true, Ordering::SeqCst);
    for pod in pods {
        pod.join().unwrap();
    }
    drop(agent.stdin.take());
    agent.wait().unwrap();
    assert_eq!(node.packets(), 0, "a pod's packet reached the service");
}

#[test]
fn a_predecessors_rule_goes_only_after_our_own_works() {
    let name = "closed::a_predecessors_rule_goes_only_after_our_own_works";
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
    let name = "closed::iptables_does_the_same_where_there_is_no_nft";
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

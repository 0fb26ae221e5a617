//! `countersign imds` with the real command: what a probe sees of a stand-in metadata service with the real addresses, pods that were
//! missed, a node's rules, and the taint of a node with a real kube-apiserver. All of it in network namespaces of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::harness::{BINARY, Running, clean_environment, countersign};

#[allow(dead_code, reason = "shared with the tests of the agent")]
#[path = "../../../agent/tests/common/metadata_node.rs"]
mod metadata_node;
#[allow(dead_code, reason = "shared with the tests of the agent")]
#[path = "../../../agent/tests/common/namespace.rs"]
mod namespace;

use metadata_node::{Answers, MetadataNode, programs};
use namespace::inside;

const SERVICE: &str = "imds::metadata_service";

/// Not a test of its own: the metadata service behind the uplink.
#[test]
fn metadata_service() {
    metadata_node::service();
}

/// Exit code and standard output of the command here.
fn run(args: &[&str]) -> (i32, String) {
    let output = countersign(args, &BTreeMap::new());
    (output.status.code().unwrap(), text(&output))
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Exit code and answer of a probe in a pod.
fn probe(node: &MetadataNode) -> (i32, Value) {
    let mut command = node.within(1, BINARY);
    clean_environment(&mut command);
    let output = command
        .args(["imds", "advise", "--probe", "-o", "json"])
        .env("http_proxy", "http://192.0.2.9:1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let answer = serde_json::from_slice(&output.stdout);
    (
        output.status.code().unwrap(),
        answer.unwrap_or_else(|_| panic!("{}", text(&output))),
    )
}

/// Checks of the findings, without repetition.
fn checks(answer: &Value) -> Vec<&str> {
    let findings = answer["findings"].as_array().unwrap();
    let mut all: Vec<&str> = findings
        .iter()
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn a_probe_fires_and_is_silent_in_a_pod() {
    let name = "a_probe_fires_and_is_silent_in_a_pod";
    if !programs(name, &["nft"]) || !inside(&format!("imds::{name}")) {
        return;
    }
    let mut node = MetadataNode::new(1);
    let answers = |version1, token, ipv6| Answers {
        version1,
        token,
        ipv6,
    };
    /// What the service answers, rules of the node, checks, and what both addresses did with the first request.
    type Row = (
        &'static str,
        Answers,
        &'static str,
        &'static [&'static str],
        [&'static str; 2],
    );
    let rows: [Row; 7] = [
        (
            "version 1 open",
            answers(true, true, true),
            "",
            &["M1", "M2", "M3", "M4"],
            ["answered"; 2],
        ),
        (
            "version 1 open, IPv4 alone",
            answers(true, true, false),
            "",
            &["M1", "M2", "M3"],
            ["answered", "refused"],
        ),
        (
            "version 2, hop limit 2",
            answers(false, true, true),
            "",
            &["M2", "M3", "M4"],
            ["answered"; 2],
        ),
        (
            "version 2, hop limit 1",
            answers(false, false, true),
            "",
            &[],
            ["answered"; 2],
        ),
        (
            "IPv6 forgotten",
            answers(true, true, true),
            "ip daddr 169.254.169.254 drop",
            &["M4"],
            ["timedOut", "answered"],
        ),
        (
            "refused",
            answers(true, true, true),
            "tcp dport 80 reject with tcp reset",
            &[],
            ["refused"; 2],
        ),
        (
            "dropped",
            answers(true, true, true),
            "tcp dport 80 drop",
            &[],
            ["timedOut"; 2],
        ),
    ];
    for (name, answers, rule, expected, outcomes) in rows {
        node.serve(SERVICE, answers);
        if !rule.is_empty() {
            // `reject` is for `forward`, where packets of pods pass.
            let rules = format!(
                "table inet closed {{ chain forward {{ type filter hook forward priority 0; iifname \"pod1\" {rule}; }}; }}"
            );
            assert!(Command::new("nft").arg(rules).status().unwrap().success());
        }
        let (code, answer) = probe(&node);
        assert_eq!(checks(&answer), expected, "{name}: {answer}");
        assert_eq!(code, i32::from(!expected.is_empty()), "{name}");
        for (seen, outcome) in answer["seen"].as_array().unwrap().iter().zip(outcomes) {
            assert_eq!(seen["version1"]["outcome"], outcome, "{name}: {answer}");
            let has_role = seen["list"]["status"] == 200;
            assert_eq!(seen["role"] == "node-role", has_role, "{name}: {answer}");
        }
        // A token is no answer of the command.
        assert!(!answer.to_string().contains("node-token"));
        if !rule.is_empty() {
            let deleted = Command::new("nft")
                .args(["delete", "table", "inet", "closed"])
                .status();
            assert!(deleted.unwrap().success());
        }
    }
    // For people; and a pod on no network says that there is no way.
    let output = node
        .within(1, BINARY)
        .args(["imds", "advise", "--probe"])
        .output()
        .unwrap();
    let shown = text(&output);
    assert!(
        shown.contains("M1 169.254.169.254: ") && shown.contains("node-role"),
        "{shown}"
    );
    let alone = Command::new("unshare")
        .args(["-n", BINARY, "imds", "advise", "--probe", "-o", "json"])
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&alone.stdout).unwrap();
    assert_eq!(answer["seen"][0]["version1"]["outcome"], "unreachable");
    assert_eq!(alone.status.code(), Some(0));
}

fn objects(dir: &Path, env: &Value) -> String {
    let items = json!({"kind": "List", "items": [
        {"kind": "Namespace", "metadata": {"name": "shop"}},
        {"kind": "NetworkPolicy", "metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}},
        {"kind": "ServiceAccount", "metadata": {"name": "cart", "namespace": "shop"}},
        {"kind": "ServiceAccount", "metadata": {"name": "pay", "namespace": "shop", "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/pay"}}},
        {"kind": "Pod", "metadata": {"name": "cart-0", "namespace": "shop"}, "status": {"phase": "Running"},
            "spec": {"serviceAccountName": "cart", "containers": [{"name": "app", "env": env["cart"]}]}},
        {"kind": "Pod", "metadata": {"name": "pay-0", "namespace": "shop"}, "status": {"phase": "Running"},
            "spec": {"serviceAccountName": "pay", "containers": [{"name": "app", "env": env["pay"]}]}},
        {"kind": "Pod", "metadata": {"name": "pay-old", "namespace": "shop"}, "status": {"phase": "Succeeded"},
            "spec": {"serviceAccountName": "pay", "containers": [{"name": "app"}]}},
    ]});
    let path = dir.join("objects.json");
    std::fs::write(&path, items.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn pods_that_admission_missed_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let missed = objects(dir.path(), &json!({}));
    let list = dir.path().join("associations.json");
    let of = |account: &str| {
        json!({"associations": [{"clusterName": "demo", "namespace": "shop", "serviceAccount": account,
            "associationId": "a-0123456789abcdefg", "associationArn": "arn:aws:eks:us-east-1:111122223333:podidentityassociation/demo/a-0123456789abcdefg"}]})
    };
    let look = |more: &[&str], environment: &BTreeMap<String, String>| {
        let mut args = vec!["imds", "advise", "-o", "json", "--objects"];
        args.extend(more);
        let output = countersign(&args, environment);
        let code = output.status.code().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{more:?}: {}", text(&output)));
        let subjects: Vec<String> = answer["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| {
                assert_eq!(finding["check"], "M10", "{finding}");
                finding["subject"].as_str().unwrap().to_owned()
            })
            .collect();
        (code, subjects, answer)
    };
    let none = BTreeMap::new();
    let associations = list.display().to_string();
    // The annotation alone; then an association, of this account and of another.
    let (code, subjects, answer) = look(&[&missed], &none);
    assert_eq!((code, subjects), (1, vec!["pod shop/pay-0".to_owned()]));
    assert!(answer["notLookedAt"].to_string().contains("--associations"));
    for (account, expected) in [
        ("cart", vec!["pod shop/cart-0", "pod shop/pay-0"]),
        ("other", vec!["pod shop/pay-0"]),
    ] {
        std::fs::write(&list, of(account).to_string()).unwrap();
        let (code, subjects, _) = look(&[&missed, "--associations", &associations], &none);
        assert_eq!(
            (code, subjects.iter().map(String::as_str).collect()),
            (1, expected)
        );
    }
    // As the webhook leaves them.
    std::fs::write(&list, of("cart").to_string()).unwrap();
    let env = json!({
        "cart": [{"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"},
            {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token"}],
        "pay": [{"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::111122223333:role/pay"},
            {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"}],
    });
    let injected = objects(dir.path(), &env);
    let (code, subjects, answer) = look(&[&injected, "--associations", &associations], &none);
    assert_eq!((code, subjects), (0, vec![]), "{answer}");

    // Associations of the EKS API, and one that does not answer.
    let file = dir.path().join("config.yaml");
    std::fs::write(&file, "countersign:\n  bootstrap:\n    roles:\n    - name: cart\n      trustPolicy: '{\"Version\": \"2012-10-17\", \"Statement\": {\"Effect\": \"Allow\", \"Action\": [\"sts:AssumeRole\", \"sts:TagSession\"], \"Principal\": {\"Service\": \"pods.eks.amazonaws.com\"}}}'\n").unwrap();
    let server = Running::start_in(
        tempfile::tempdir().unwrap(),
        "up",
        &["--config", &file.display().to_string()],
    );
    let mut environment = server.aws_environment();
    environment.insert("HOME".into(), "/nonexistent".into());
    let role = "arn:aws:iam::111122223333:role/cart";
    let associated = countersign(
        &[
            "pods",
            "associate",
            "-n",
            "shop",
            "-s",
            "cart",
            "--role",
            role,
            "--cluster",
            "demo",
            "--yes",
        ],
        &environment,
    );
    assert!(associated.status.success(), "{}", text(&associated));
    let missed = objects(dir.path(), &json!({"pay": env["pay"]}));
    let (code, subjects, _) = look(&[&missed, "--cluster", "demo"], &environment);
    assert_eq!((code, subjects), (1, vec!["pod shop/cart-0".to_owned()]));
    environment.insert("AWS_ENDPOINT_URL".into(), "http://127.0.0.1:1".into());
    let (code, subjects, answer) = look(&[&missed, "--cluster", "demo"], &environment);
    assert_eq!((code, subjects), (3, vec![]), "{answer}");
}

#[test]
fn a_node_is_closed_checked_and_rid_of_its_predecessors_rules() {
    let name = "a_node_is_closed_checked_and_rid_of_its_predecessors_rules";
    if !programs(
        name,
        &["nft", "iptables-nft", "iptables-legacy", "ip6tables-nft"],
    ) || !inside(&format!("imds::{name}"))
    {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let (code, unit) = run(&["imds", "unit", "--program", "/opt/countersign"]);
    assert!(code == 0 && unit.contains("ExecStart=/opt/countersign imds drop\n"));
    let units = root.path().join("etc/systemd/system");
    let wants = units.join("multi-user.target.wants");
    std::fs::create_dir_all(&wants).unwrap();
    std::fs::write(units.join("countersign-imds-guard.service"), unit).unwrap();
    std::os::unix::fs::symlink(
        "../countersign-imds-guard.service",
        wants.join("countersign-imds-guard.service"),
    )
    .unwrap();
    let root = root.path().display().to_string();
    let check = |more: &[&str]| {
        let mut args = vec!["imds", "advise", "--node", "-o", "json", "--root", &root];
        args.extend(more);
        let (code, shown) = run(&args);
        let answer: Value = serde_json::from_str(&shown).unwrap_or_else(|_| panic!("{shown}"));
        (code, answer)
    };

    // What kube2iam and kiam leave behind, in every table, and a rule that only looks like it.
    let shadow = |program: &str, rule: &str| {
        let added = Command::new(program)
            .args(["-t", "nat", "-A", "PREROUTING"])
            .args(rule.split(' '))
            .output()
            .unwrap();
        assert!(added.status.success(), "{program} {rule}: {}", text(&added));
    };
    let theirs =
        "-p tcp -d 169.254.169.254 --dport 80 -i pod+ -j DNAT --to-destination 192.0.2.1:8181";
    let kiam =
        "-p tcp -d 169.254.169.254 --dport 80 ! -i eth0 -j DNAT --to-destination 192.0.2.1:3100";
    let other = "-p tcp ! -d 169.254.169.254 --dport 80 -j DNAT --to-destination 192.0.2.1:8080";
    shadow("iptables-nft", theirs);
    shadow("iptables-legacy", kiam);
    shadow("iptables-nft", other);
    let nft = |rule: &str| {
        let done = Command::new("nft").arg(rule).output().unwrap();
        assert!(done.status.success(), "{rule}: {}", text(&done));
        text(&done)
    };
    nft(
        "add table ip6 nat; add chain ip6 nat PREROUTING { type nat hook prerouting priority -100; }",
    );
    // As nft itself writes it, which iptables cannot list any more.
    nft(
        "add rule ip6 nat PREROUTING iifname != eth0 ip6 daddr fd00:ec2::254 tcp dport 80 counter dnat to [2001:db8::1]:8181",
    );
    let listed = || {
        let of = |program: &str, args: &[&str]| {
            text(&Command::new(program).args(args).output().unwrap())
        };
        [
            of("iptables-nft", &["-t", "nat", "-S", "PREROUTING"]),
            of("iptables-legacy", &["-t", "nat", "-S", "PREROUTING"]),
            of("nft", &["list", "chain", "ip6", "nat", "PREROUTING"]),
        ]
        .concat()
    };
    let all = [":8181", ":3100", "[2001:db8::1]:8181", ":8080"];
    let there = |listed: &str| all.map(|target| listed.contains(target));

    // The plan; then it refuses, since nothing of ours is there.
    let (code, plan) = run(&["imds", "migrate"]);
    assert_eq!(code, 1, "{plan}");
    assert_eq!(plan.matches("would remove").count(), 3, "{plan}");
    assert_eq!(plan.matches("undo: ").count(), 3, "{plan}");
    assert!(plan.contains("have to come first"), "{plan}");
    let (code, refused) = run(&["imds", "migrate", "--yes"]);
    assert!(
        code == 1 && refused.contains("nothing was removed"),
        "{code} {refused}"
    );
    assert_eq!(there(&listed()), [true; 4]);
    let (code, answer) = check(&[]);
    assert_eq!((code, checks(&answer)), (1, vec!["M11"]), "{answer}");
    assert_eq!(answer["rules"]["state"], "missing");

    // The command of the unit; doing it twice is doing it once.
    for _ in 0..2 {
        let (code, shown) = run(&["imds", "drop"]);
        assert!(
            code == 0 && shown.contains("dropped until an agent"),
            "{shown}"
        );
        let (code, answer) = check(&[]);
        assert_eq!((code, checks(&answer)), (0, vec![]), "{answer}");
        assert_eq!(answer["rules"]["state"], "dropped");
    }
    // Half of it is a finding.
    let listing = Command::new("nft")
        .args(["-a", "list", "chain", "inet", "countersign_imds", "guard"])
        .output()
        .unwrap();
    let listing = text(&listing);
    let line = listing
        .lines()
        .find(|line| line.contains("ip6 daddr") && line.contains("drop"))
        .unwrap();
    let handle = line.rsplit(' ').next().unwrap();
    nft(&format!(
        "delete rule inet countersign_imds guard handle {handle}"
    ));
    let (code, answer) = check(&[]);
    assert_eq!(
        (code, answer["rules"]["state"].as_str()),
        (1, Some("broken")),
        "{answer}"
    );
    let (code, refused) = run(&["imds", "migrate", "--yes"]);
    assert!(code == 1 && refused.contains("fd00:ec2::254"), "{refused}");
    assert_eq!(run(&["imds", "drop"]).0, 0);

    // Where there is no unit, only that is not found out.
    let empty = tempfile::tempdir().unwrap();
    let (code, shown) = run(&[
        "imds",
        "advise",
        "--node",
        "--root",
        &empty.path().display().to_string(),
    ]);
    assert!(code == 3 && shown.contains("not found out: M11"), "{shown}");

    let (code, done) = run(&["imds", "migrate", "--yes", "-o", "json"]);
    assert_eq!(code, 0, "{done}");
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(there(&listed()), [false, false, false, true], "{done}");
    let (code, left) = run(&["imds", "migrate"]);
    assert!(
        code == 0 && left.contains("no rule of kube2iam or kiam is left"),
        "{left}"
    );

    // The undo commands put everything back.
    for row in done["rules"].as_array().unwrap() {
        assert_eq!(row["state"], "removed");
        let undo = row["undo"].as_str().unwrap();
        let undone = Command::new("sh").args(["-c", undo]).output().unwrap();
        assert!(undone.status.success(), "{undo}: {}", text(&undone));
    }
    assert_eq!(there(&listed()), [true; 4]);
}

#[test]
fn who_still_depends_on_the_nodes_role_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().display().to_string();
    let args = ["imds", "blocked", "--state-dir", &state];
    let (code, shown) = run(&args);
    assert_eq!((code, shown.lines().count()), (0, 1), "{shown}");
    let list = json!([{"namespace": "shop", "serviceAccount": "cart", "pod": "cart-0\u{1b}[2J", "credentials": 7, "secrets": 1,
        "passedOn": true, "first": "2026-01-01T00:00:00Z", "last": "2026-01-02T03:04:05Z"}]);
    let file = dir.path().join("imds-blocked.json");
    std::fs::write(&file, list.to_string()).unwrap();
    let (code, shown) = run(&args);
    assert_eq!(code, 1, "{shown}");
    let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..2], ["shop", "cart"]);
    assert_eq!(row[3..], ["7", "1", "passed", "on", "2026-01-02T03:04:05Z"]);
    assert!(!shown.contains('\u{1b}'));
    std::fs::write(&file, "{").unwrap();
    assert_eq!(run(&args).0, 2);
    let nowhere = dir.path().join("nowhere").display().to_string();
    assert_eq!(run(&["imds", "blocked", "--state-dir", &nowhere]).0, 2);
}

/// An agent that is killed with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_nodes_taint_goes_when_the_guard_answers_and_a_probe_knows_the_guard() {
    let name = "the_nodes_taint_goes_when_the_guard_answers_and_a_probe_knows_the_guard";
    let Some(assets) = assets(name) else { return };
    if !programs(name, &["nft"]) || !inside(&format!("imds::{name}")) {
        return;
    }
    let mut node = MetadataNode::new(1);
    node.serve(
        SERVICE,
        Answers {
            version1: true,
            token: true,
            ipv6: true,
        },
    );
    let cluster = Cluster::start(&assets, &[]);
    let kubectl = |args: &[&str]| {
        let output = cluster.kubectl(ADMIN_TOKEN, args);
        assert!(
            output.status.success(),
            "kubectl {args:?}: {}",
            text(&output)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let create = |name: &str, object: &Value| {
        let file = cluster.file(name);
        std::fs::write(&file, object.to_string()).unwrap();
        kubectl(&["create", "-f", &file.display().to_string()]);
    };
    let guard = json!({"key": "countersign.dev/imds-guard", "effect": "NoSchedule"});
    for name in ["node-a", "node-b"] {
        create(
            &format!("{name}.json"),
            &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"taints": [
                {"key": "example.com/first", "value": "x", "effect": "NoSchedule"}, guard,
                {"key": "countersign.dev/imds-guard", "effect": "NoExecute"}, {"key": "example.com/last", "effect": "PreferNoSchedule"},
            ]}}),
        );
    }
    let taints = |node: &str| {
        let taints = kubectl(&[
            "get",
            "node",
            node,
            "-o",
            "jsonpath={range .spec.taints[*]}{.key}:{.effect} {end}",
        ]);
        // The API server's own, of nodes without a kubelet.
        let mut all: Vec<String> = taints
            .split_whitespace()
            .filter(|taint| !taint.starts_with("node.kubernetes.io/"))
            .map(str::to_owned)
            .collect();
        all.sort();
        all
    };
    let before = taints("node-a");
    assert_eq!(before.len(), 4);
    kubectl(&["create", "namespace", "orchard"]);
    create(
        "pod.json",
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "picker-0", "namespace": "orchard"},
        "spec": {"nodeName": "node-a", "serviceAccountName": "default", "containers": [{"name": "c", "image": "example/image"}]}}),
    );
    let status = json!({"status": {"phase": "Running", "podIP": "10.88.0.1", "podIPs": [{"ip": "10.88.0.1"}, {"ip": "fd88::1"}]}});
    kubectl(&[
        "patch",
        "pod",
        "picker-0",
        "-n",
        "orchard",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ]);

    // First with the permissions of an agent without the flag.
    let manifest = |more: &[&str]| {
        let mut args = vec![
            "agent",
            "manifest",
            "-c",
            "orchard",
            "--image",
            "example/countersign",
            "--region",
            "eu-west-1",
            "--imds",
            "block",
        ];
        args.extend(more);
        let printed = countersign(&args, &BTreeMap::new());
        let file = cluster.file("agent.yaml");
        std::fs::write(&file, &printed.stdout).unwrap();
        kubectl(&["apply", "-f", &file.display().to_string()]);
    };
    manifest(&[]);
    let token = kubectl(&["create", "token", "countersign-agent", "-n", "kube-system"]);
    let log = cluster.file("agent.log");
    let read = || std::fs::read_to_string(&log).unwrap();
    let mut command = Command::new(BINARY);
    clean_environment(&mut command);
    let agent = command
        .args([
            "agent",
            "run",
            "-c",
            "orchard",
            "--region",
            "eu-west-1",
            "--link",
            "off",
            "-b",
            "127.0.0.1",
            "--port",
            "8080",
        ])
        .args([
            "--metrics-address",
            "127.0.0.1",
            "--endpoint",
            "http://127.0.0.1:1",
            "--node-name",
            "node-a",
        ])
        .args(["--imds", "block", "--imds-remove-taint", "--imds-state-dir"])
        .arg(node.directory.path())
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig("agent", &token))
        .env("AWS_ACCESS_KEY_ID", "AKIANODE000000000001")
        .env("AWS_SECRET_ACCESS_KEY", "node/secret")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let _agent = Agent(agent);
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}:\n{}", read());
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    wait("it may not", &|| read().contains("status 403"));
    assert_eq!(taints("node-a"), before);
    manifest(&["--imds-remove-taint"]);
    wait("the taint goes", &|| taints("node-a").len() == 3);
    let left: Vec<String> = before
        .iter()
        .filter(|taint| *taint != "countersign.dev/imds-guard:NoSchedule")
        .cloned()
        .collect();
    assert_eq!(taints("node-a"), left, "others stay");
    assert_eq!(taints("node-b"), before, "other nodes stay");

    // The pod of the probe is let into a namespace that takes the strictest pods alone.
    kubectl(&[
        "label",
        "namespace",
        "orchard",
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    let printed = countersign(
        &[
            "imds",
            "advise",
            "--probe-manifest",
            "--probe-image",
            "example/countersign",
            "--probe-namespace",
            "orchard",
            "--probe-node",
            "node-a",
        ],
        &BTreeMap::new(),
    );
    let file = cluster.file("probe.yaml");
    std::fs::write(&file, &printed.stdout).unwrap();
    kubectl(&[
        "create",
        "--dry-run=server",
        "-f",
        &file.display().to_string(),
    ]);

    // Pods are kept from the service now, and the probe knows by whom.
    let (code, answer) = probe(&node);
    assert_eq!((code, checks(&answer)), (0, vec![]), "{answer}");
    for seen in answer["seen"].as_array().unwrap() {
        for request in ["version1", "token", "list"] {
            assert_eq!(seen[request]["by"], "guard", "{answer}");
        }
    }
    assert_eq!(node.packets(), 0);
    let (code, answer) = run(&["imds", "advise", "--node", "-o", "json"]);
    assert!(answer.contains("redirected"), "{code} {answer}");
}

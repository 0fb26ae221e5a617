//! Annotations of the predecessors, network policies, rules, checks and plans, as tables.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use countersign_imds::checks::{self, Agent, MetadataOptions};
use countersign_imds::compat::{
    Compat, Denied, Format, Predecessor, matches_expression, matches_glob,
};
use countersign_imds::network_policy::{PodLabels, State, evaluate};
use countersign_imds::plan::{Facts, PodFacts, RoleFacts, plan};
use countersign_imds::rules::{Interface, Target, iptables_chains, nft_open, nft_table, shadows};
use countersign_imds::{advise, fuzz};

const BASE: &str = "arn:aws:iam::111122223333:role/";

fn compat(predecessor: Predecessor, format: Format) -> Compat {
    Compat {
        predecessor,
        base_arn: Some(BASE.into()),
        format,
        default_role: None,
    }
}

#[test]
fn lists_are_anchored_at_both_ends_and_required() {
    use Format::{Glob, Regexp};
    use Predecessor::{Kiam, Kube2iam};
    let other = "arn:aws:iam::444455556666:role/far";
    let cases = [
        (
            Kube2iam,
            Regexp,
            "amber",
            Some(r#"["amber-.*"]"#),
            Err(Denied::NotAllowed),
        ),
        (
            Kube2iam,
            Regexp,
            "amber",
            Some(r#"["amb"]"#),
            Err(Denied::NotAllowed),
        ),
        (
            Kube2iam,
            Regexp,
            "amber",
            Some(r#"["amb.*"]"#),
            Ok(format!("{BASE}amber")),
        ),
        (
            Kube2iam,
            Regexp,
            "amber-x",
            Some(r#"["ruby|amber"]"#),
            Err(Denied::NotAllowed),
        ),
        (
            Kube2iam,
            Regexp,
            "amber",
            Some(r#"["ruby|amber"]"#),
            Ok(format!("{BASE}amber")),
        ),
        (
            Kube2iam,
            Glob,
            "amber",
            Some(r#"["amb*"]"#),
            Ok(format!("{BASE}amber")),
        ),
        (
            Kube2iam,
            Glob,
            "amber",
            Some(r#"["amb"]"#),
            Err(Denied::NotAllowed),
        ),
        (
            Kube2iam,
            Glob,
            "amber",
            Some(r#"["?????"]"#),
            Ok(format!("{BASE}amber")),
        ),
        (
            Kube2iam,
            Glob,
            "team/amber",
            Some(r#"["*"]"#),
            Ok(format!("{BASE}team/amber")),
        ),
        (
            Kube2iam,
            Glob,
            other,
            Some(r#"["*"]"#),
            Err(Denied::NotAllowed),
        ),
        (
            Kube2iam,
            Glob,
            other,
            Some(r#"["arn:aws:iam::444455556666:role/far"]"#),
            Ok(other.to_owned()),
        ),
        (Kube2iam, Glob, "amber", None, Err(Denied::NoList)),
        (Kube2iam, Glob, "amber", Some("amber"), Err(Denied::BadList)),
        (
            Kube2iam,
            Regexp,
            "amber",
            Some(r#"["(", "am(ber"]"#),
            Err(Denied::NotAllowed),
        ),
        (
            Kube2iam,
            Regexp,
            "amber",
            Some(r#"["x)|(?:.*"]"#),
            Err(Denied::NotAllowed),
        ),
        (
            Kiam,
            Regexp,
            "ab",
            Some("arn:aws:iam::111122223333:role/a|arn:aws:iam::111122223333:role/b"),
            Err(Denied::NotAllowed),
        ),
        (
            Kiam,
            Regexp,
            "a",
            Some("arn:aws:iam::111122223333:role/a|arn:aws:iam::111122223333:role/b"),
            Ok(format!("{BASE}a")),
        ),
        (Kiam, Regexp, "a", Some("a"), Err(Denied::NotAllowed)),
        (Kiam, Regexp, "a", Some(".*"), Ok(format!("{BASE}a"))),
        (Kiam, Regexp, "a", None, Err(Denied::NoList)),
        (Kiam, Regexp, other, Some(other), Ok(other.to_owned())),
        (Kiam, Regexp, "a", Some("(?x).*#"), Err(Denied::NotAllowed)),
    ];
    for (predecessor, format, role, list, expected) in cases {
        let got = compat(predecessor, format)
            .resolve(Some(role), list)
            .map(|named| named.arn);
        assert_eq!(got, expected, "{predecessor:?} {format:?} {role} {list:?}");
    }
    assert_eq!(
        compat(Kube2iam, Glob).resolve(None, Some(r#"["*"]"#)),
        Err(Denied::NoRole)
    );
    let default = Compat {
        default_role: Some("base".into()),
        ..compat(Kube2iam, Glob)
    };
    assert!(default.resolve(None, None).unwrap().is_default);
    assert!(default.resolve(Some("base"), None).unwrap().is_default);
    let bare = Compat {
        base_arn: None,
        ..compat(Kube2iam, Regexp)
    };
    assert_eq!(
        bare.resolve(Some("amber"), Some(r#"["amber"]"#)),
        Err(Denied::NoBase)
    );
    let c = compat(Kube2iam, Glob);
    assert_eq!(c.shown(&format!("{BASE}team/amber")), "team/amber");
    assert_eq!(c.shown(other), other);
}

#[test]
fn hostile_patterns_are_bounded() {
    assert!(!matches_expression(&"a{1000}".repeat(50), "a"));
    assert!(!matches_expression(
        "(((((a{100}){100}){100}){100}){100})",
        "a"
    ));
    assert!(!matches_expression(&"a".repeat(2000), "a"));
    let evil = format!("{}b", "a*".repeat(400));
    assert!(!matches_glob(&evil, &"a".repeat(1000)));
    for (pattern, text, fits) in [
        ("", "", true),
        ("*", "", true),
        ("?", "", false),
        ("a*c", "abbc", true),
        ("a*c", "abbd", false),
        ("**", "x", true),
        ("*a*", "bab", true),
    ] {
        assert_eq!(matches_glob(pattern, text), fits, "{pattern} {text}");
    }
}

fn policies(texts: &[&str]) -> Vec<countersign_imds::network_policy::NetworkPolicy> {
    texts
        .iter()
        .map(|spec| {
            serde_json::from_str(&format!(
                r#"{{"metadata": {{"name": "p", "namespace": "n"}}, "spec": {spec}}}"#
            ))
            .unwrap()
        })
        .collect()
}

#[test]
fn policies_are_a_union_and_advice_never_opens_anything() {
    let pod = |name: &str, app: &str| PodLabels {
        namespace: "n".into(),
        name: name.into(),
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        host_network: false,
    };
    let pods = [pod("a-0", "a"), pod("b-0", "b")];
    let deny = r#"{"podSelector": {}, "policyTypes": ["Egress"]}"#;
    let no_metadata = r#"{"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}, {"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::254/128"]}}]}]}"#;
    let four_only = r#"{"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}, {"ipBlock": {"cidr": "::/0"}}]}]}"#;
    let everybody = r#"{"podSelector": {}, "egress": [{}]}"#;
    let only_a = r#"{"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"]}"#;
    let dns = r#"{"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]}"#;
    let range = r#"{"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 1, "endPort": 1024}]}]}"#;
    let ingress = r#"{"podSelector": {}, "policyTypes": ["Ingress"]}"#;
    let expressions = r#"{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}, "policyTypes": ["Egress"]}"#;
    for (name, given, expected) in [
        ("none", vec![], "unguarded"),
        ("deny", vec![deny], "closed"),
        ("ours", vec![no_metadata], "closed"),
        ("one family", vec![four_only], "opened"),
        ("everybody", vec![everybody], "opened"),
        ("union", vec![deny, everybody], "opened"),
        ("some", vec![only_a], "mixed"),
        ("dns", vec![dns], "closed"),
        ("range", vec![range], "opened"),
        ("ingress", vec![ingress], "unguarded"),
        ("expressions", vec![expressions], "closed"),
        ("some and all", vec![only_a, no_metadata], "closed"),
    ] {
        let states = evaluate(&["n".to_owned()], &policies(&given), &pods);
        let got = match &states[0].state {
            State::Unguarded { manifest } => {
                assert!(
                    manifest.contains("169.254.169.254/32")
                        && manifest.contains("fd00:ec2::254/128")
                );
                "unguarded"
            }
            State::Closed => "closed",
            State::Opened { .. } => "opened",
            State::Mixed { unselected } => {
                assert_eq!(unselected, &["b-0"]);
                "mixed"
            }
        };
        assert_eq!(got, expected, "{name}");
        let findings = checks::namespaces(&states);
        assert_eq!(findings.is_empty(), expected == "closed", "M7 {name}");
        if expected == "mixed" {
            assert!(!findings[0].fix.contains("kubectl apply"));
        }
    }
    let State::Opened { by, .. } =
        &evaluate(&["n".to_owned()], &policies(&[four_only]), &pods)[0].state
    else {
        unreachable!()
    };
    assert_eq!(
        (by.len(), by[0].except.as_deref()),
        (1, Some("fd00:ec2::254/128"))
    );
}

#[test]
fn checks_fire_and_are_silent() {
    let options = |tokens: Option<&str>, hops| MetadataOptions {
        http_tokens: tokens.map(str::to_owned),
        http_put_response_hop_limit: hops,
        ..MetadataOptions::default()
    };
    for (given, findings) in [
        (options(Some("required"), Some(1)), 0),
        (options(Some("optional"), Some(1)), 1),
        (options(Some("required"), Some(2)), 1),
        (options(None, None), 1),
        (options(Some("optional"), Some(64)), 2),
    ] {
        assert_eq!(
            checks::metadata_options("i-0abc", &given).len(),
            findings,
            "M5 {given:?}"
        );
    }
    let off = MetadataOptions {
        http_endpoint: Some("disabled".into()),
        ..MetadataOptions::default()
    };
    assert!(checks::metadata_options("i-0", &off).is_empty());
    let effective = MetadataOptions::effective(
        &options(None, None),
        &options(Some("no-preference"), Some(1)),
        &options(Some("required"), Some(2)),
    );
    assert_eq!(
        (
            effective.http_tokens.as_deref(),
            effective.http_put_response_hop_limit
        ),
        (Some("required"), Some(1))
    );
    let good = MetadataOptions {
        http_tokens_enforced: Some("enabled".into()),
        ..options(Some("required"), Some(1))
    };
    assert!(checks::account_defaults("eu-west-1", &good).is_empty());
    assert_eq!(
        checks::account_defaults("eu-west-1", &MetadataOptions::default()).len(),
        3,
        "M6"
    );
    let pods = [("kube-system", "aws-node", "aws-node-x"), ("n", "s", "p")];
    assert_eq!(
        checks::host_network(pods, &["kube-system/*".to_owned()]).len(),
        1,
        "M8"
    );
    assert!(
        checks::host_network(pods, &["kube-system/aws-node".to_owned(), "n/s".to_owned()])
            .is_empty()
    );
    assert!(
        checks::node_role(
            "node",
            &[
                "AmazonEKSWorkerNodePolicy".into(),
                "AmazonEC2ContainerRegistryPullOnly".into()
            ],
            &[]
        )
        .is_empty()
    );
    assert_eq!(
        checks::node_role(
            "node",
            &["AmazonEKS_CNI_Policy".into(), "AmazonS3FullAccess".into()],
            &["x".into()]
        )
        .len(),
        3,
        "M9"
    );
    let agent = |arguments: &[&str]| {
        Agent::recognise(
            "kube-system",
            "k",
            "jtblin/kube2iam:0.11",
            arguments.iter().map(|a| (*a).to_owned()).collect(),
        )
        .unwrap()
    };
    assert!(
        checks::predecessors(&[agent(&["--iptables=true"])])[0]
            .text
            .contains("any role")
    );
    assert!(
        !checks::predecessors(&[agent(&["--namespace-restrictions", "--node=x"])])[0]
            .text
            .contains("any role")
    );
    assert!(
        checks::predecessors(&[agent(&["--namespace-restrictions=false"])])[0]
            .text
            .contains("any role")
    );
    assert!(checks::predecessors(&[]).is_empty(), "M12");
    assert_eq!(
        Agent::recognise("n", "d", "registry.example/kube2iam-exporter:1", vec![]),
        None
    );
    assert!(Agent::recognise("n", "d", "quay.io/uswitch/kiam@sha256:00", vec![]).is_some());
}

#[test]
fn rules_drop_both_families_and_take_no_odd_interfaces() {
    let target = Target {
        ipv4: Some("169.254.170.23".parse().unwrap()),
        ipv6: Some("fd00:ec2::23".parse().unwrap()),
        port: 2706,
    };
    let exempt: Interface = "eth0".parse().unwrap();
    let table = nft_table(Some(target), std::slice::from_ref(&exempt));
    for part in [
        "ip daddr 169.254.169.254 counter drop",
        "ip6 daddr fd00:ec2::254 counter drop",
        "dnat ip to 169.254.170.23:2706",
        "dnat ip6 to [fd00:ec2::23]:2706",
        "iifname \"eth0\" accept",
    ] {
        assert!(table.contains(part), "{part}");
    }
    assert!(!nft_table(None, &[]).contains("dnat"));
    assert!(nft_open(target, 30).contains("live6 { fd00:ec2::254 timeout 30s }"));
    assert!(
        iptables_chains(true, Some(target), None, &[]).contains("-d fd00:ec2::254/128 -j DROP")
    );
    assert!(!iptables_chains(false, Some(target), None, &[]).contains("DNAT"));
    for bad in [
        "",
        "eth0;",
        "a b",
        "\"x",
        "-j",
        "sixteen-letters-",
        "eth0\n",
        "12",
    ] {
        assert!(bad.parse::<Interface>().is_err(), "{bad:?}");
    }
    assert!(
        advise::unit().contains("Before=kubelet.service")
            && advise::unit_rules(&[]).contains("counter drop")
    );
    assert!(advise::modify_options("i-0abc").contains("--instance-id i-0abc "));
    assert!(!advise::modify_options("i-0; rm").contains(';'));
    assert!(advise::terraform(true).contains("http_protocol_ipv6          = \"enabled\""));
    assert!(advise::launch_template(false).contains("\"HttpPutResponseHopLimit\": 1"));
}

#[test]
fn rules_of_predecessors_are_found_and_nothing_else() {
    let rule = "-A PREROUTING -d 169.254.169.254/32 -i cali+ -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.4:8181";
    let found = shadows(&format!(
        "-P PREROUTING ACCEPT\n{rule}\n-A PREROUTING -j KUBE-SERVICES\n-A PREROUTING ! -i eth0 -d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.4:3100\n-A PREROUTING -d 169.254.169.254/32 -p tcp -m tcp --dport 443 -j DNAT --to-destination 10.0.0.4:1\n-A PREROUTING -d 169.254.169.254/32 -p tcp --dport 80 -j DNAT --to-destination $(x)\n-A PREROUTING -d 169.254.169.254/32 -p tcp --dport 80 --evil x -j DNAT\n"
    ));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].delete.join(" "), rule.replace("-A ", "-D "));
    assert!(found[1].delete.contains(&"!".to_owned()));
}

#[test]
fn a_plan_tells_who_may_have_what_and_how_to_go_back() {
    let pod = |namespace: &str, name: &str, account: &str, role: Option<&str>| PodFacts {
        namespace: namespace.into(),
        name: name.into(),
        service_account: account.into(),
        role: role.map(str::to_owned),
        ..PodFacts::default()
    };
    let facts = Facts {
        cluster: "orchard".into(),
        compat: compat(Predecessor::Kube2iam, Format::Glob),
        restricted: true,
        agents: vec![("kube-system".into(), "kube2iam".into())],
        pods: vec![
            pod("n", "a-0", "picker", Some("reader")),
            pod("n", "a-1", "picker", Some("reader")),
            pod("n", "b-0", "mixed", Some("reader")),
            pod("n", "b-1", "mixed", Some("writer")),
            pod("n", "c-0", "half", Some("reader")),
            pod("n", "c-1", "half", None),
            pod("m", "d-0", "x", Some("reader")),
        ],
        lists: BTreeMap::from([("n".to_owned(), r#"["*"]"#.to_owned())]),
        roles: Some(vec![
            RoleFacts {
                arn: format!("{BASE}reader"),
                trusts_pods: false,
                trusts_node: true,
            },
            RoleFacts {
                arn: format!("{BASE}old"),
                trusts_pods: false,
                trusts_node: true,
            },
        ]),
    };
    let made = plan(&facts);
    assert_eq!(made.unused_roles, [format!("{BASE}old")]);
    assert!(made.steps.iter().all(|step| !step.undo.is_empty()));
    let runs: Vec<&str> = made
        .steps
        .iter()
        .flat_map(|step| &step.run)
        .map(String::as_str)
        .collect();
    assert_eq!(
        runs.iter()
            .filter(|run| run.contains("create-pod-identity-association"))
            .count(),
        1
    );
    assert!(runs.iter().any(|run| {
        run.contains("--service-account picker --role-arn arn:aws:iam::111122223333:role/reader")
    }));
    let problems: Vec<&str> = made
        .problems
        .iter()
        .map(|problem| problem.subject.as_str())
        .collect();
    assert_eq!(
        problems,
        ["service account n/half", "service account n/mixed"]
    );
    let denied = made.pods.iter().find(|row| row.pod == "m/d-0").unwrap();
    assert!(!denied.allowed && denied.reason.is_some());
    let open = plan(&Facts {
        restricted: false,
        ..facts
    });
    assert!(
        open.problems
            .iter()
            .any(|problem| problem.subject == "pod m/d-0")
    );
}

type Seed = (fn(&[u8]), &'static [u8]);

#[test]
fn hostile_input_is_survived() {
    let seeds: [Seed; 4] = [
        (fuzz::request, b"/latest//meta-data/iam/%73ecurity-credentials/x\nGET\n169.254.169.254\n60"),
        (fuzz::annotations, b"amber\n[\"amb.*\"]"),
        (fuzz::documents, br#"{"metadata":{"namespace":"n"},"spec":{"egress":[{"to":[{"ipBlock":{"cidr":"::/0","except":["a/9"]}}]}]}}"#),
        (fuzz::documents, b"-A PREROUTING -d 169.254.169.254/32 -p tcp --dport 80 -j DNAT --to-destination 1:2"),
    ];
    let pieces = countersign_mutation::characters("/%.2ef\n*?(|");
    for (target, seed) in seeds {
        countersign_mutation::run(target, &[seed], &pieces, 1000);
    }
}

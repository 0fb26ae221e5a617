//! Probes, a node's rules and its unit, as tables: each check fires and is silent.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::IpAddr;

use countersign_imds::advise::{self, unit_of_program};
use countersign_imds::checks::{NotInjected, not_injected};
use countersign_imds::node::{NodeFacts, Rules, Unit, UnitFiles, befores, guard};
use countersign_imds::predecessors::nft_shadows;
use countersign_imds::probe::{By, Outcome, Reply, Seen, addresses, findings};
use countersign_imds::rules::{Interface, Target, iptables_chains, nft_table, shadows};

const OK: &str = "HTTP/1.1 200 OK\r\nServer: EC2ws\r\n";

/// A service that gives these answers to a request without a token, for a token, and for the list.
fn look(version: usize, answers: [&str; 3]) -> (Seen, usize) {
    let mut asked = 0;
    let seen = Seen::look(addresses()[version], |to, request| {
        assert_eq!(to, addresses()[version]);
        let at = match request.split(' ').next().unwrap() {
            "PUT" => 1,
            _ if request.contains("/iam/security-credentials/ ") => 2,
            _ => 0,
        };
        assert!(
            !request.contains("security-credentials/n"),
            "never more than the list"
        );
        asked += 1;
        let answer = answers[at];
        // The list is answered to whoever shows the token, or to everybody where version 1 is open.
        if at == 2 && !answers[0].contains(" 200 ") {
            assert!(request.contains("X-aws-ec2-metadata-token: tok\r\n"));
        }
        match answer {
            "refused" => Outcome::Refused.into(),
            "timeout" => Outcome::TimedOut.into(),
            "unreachable" => Outcome::Unreachable.into(),
            "" => panic(),
            text => Reply::parse(text.as_bytes()),
        }
    });
    (seen, asked)
}

fn panic() -> Reply {
    unreachable!("this was not to be asked")
}

#[test]
fn probes_fire_and_are_silent() {
    let ok = |body: &str| format!("{OK}Content-Length: {}\r\n\r\n{body}", body.len());
    let status = |status: u16| format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
    let guard = |status: u16, mode: &str, body: &str| {
        format!(
            "HTTP/1.1 {status} X\r\nX-Countersign-Guard: {mode}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let (index, token, role) = (ok("ami-id\n"), ok("tok"), ok("node-role"));
    let (s401, s403, s404, s503) = (status(401), status(403), status(404), status(503));
    let g401 = guard(401, "block", "");
    let g404 = guard(404, "block", "");
    let g_token = guard(200, "serve", "tok");
    let g_role = guard(200, "serve", "pods-role");
    let (a401, a_token, a_role) = (
        guard(401, "audit", ""),
        guard(200, "audit", "tok"),
        guard(200, "audit", "node-role"),
    );
    let chunked = format!("{OK}Transfer-Encoding: chunked\r\n\r\n3\r\ntok\r\n0\r\n\r\n");
    /// Name, answers, checks over IPv4, whether something is unclear, requests.
    type Row<'t> = (&'t str, [&'t str; 3], &'t [&'t str], bool, usize);
    let rows: [Row<'_>; 16] = [
        (
            "version 1 open",
            [&index, &token, &role],
            &["M1", "M2", "M3"],
            false,
            3,
        ),
        (
            "version 1 open, hop limit 1",
            [&index, "timeout", &role],
            &["M1", "M3"],
            false,
            3,
        ),
        (
            "version 2 only, hop limit 2",
            [&s401, &token, &role],
            &["M2", "M3"],
            false,
            3,
        ),
        (
            "version 2 only, no role",
            [&s401, &token, &s404],
            &["M2"],
            false,
            3,
        ),
        (
            "version 2 only, hop limit 1",
            [&s401, "timeout", ""],
            &[],
            false,
            2,
        ),
        ("switched off", [&s403, &s403, ""], &[], false, 2),
        ("dropped", ["timeout", "timeout", ""], &[], false, 2),
        ("refused", ["refused", "refused", ""], &[], false, 2),
        ("no way", ["unreachable", "unreachable", ""], &[], false, 2),
        (
            "guard in block",
            [&g401, &guard(200, "block", "tok"), &g404],
            &[],
            false,
            3,
        ),
        ("guard in serve", [&g401, &g_token, &g_role], &[], false, 3),
        (
            "guard in serve for old clients",
            [&guard(200, "serve", "a\n"), &g_token, &g_role],
            &[],
            false,
            3,
        ),
        (
            "guard in audit",
            [&a401, &a_token, &a_role],
            &["M2", "M3"],
            false,
            3,
        ),
        ("throttled", [&s503, &s503, ""], &[], true, 2),
        (
            "another service",
            ["SSH-2.0-x\r\n\r\n", "refused", ""],
            &[],
            true,
            2,
        ),
        (
            "a token that is none",
            [&s401, &chunked, ""],
            &["M2"],
            false,
            2,
        ),
    ];
    for (name, answers, checks, unclear, requests) in rows {
        for version in [0, 1] {
            let (seen, asked) = look(version, answers);
            assert_eq!(asked, requests, "{name}");
            let (found, not_found_out) = findings(std::slice::from_ref(&seen));
            let got: Vec<&str> = found.iter().map(|finding| finding.check).collect();
            let expected: Vec<&str> = checks
                .iter()
                .map(|check| if version == 1 { "M4" } else { check })
                .collect();
            assert_eq!(got, expected, "{name}");
            assert_eq!(!not_found_out.is_empty(), unclear, "{name}");
            let role = checks.contains(&"M3").then_some("node-role");
            assert_eq!(seen.role.as_deref(), role, "{name}");
            if name == "guard in audit" {
                assert!(found.iter().all(|finding| finding.text.contains("audit")));
            }
        }
    }
    let (seen, _) = look(0, [&g401, &g_token, &g_role]);
    assert_eq!(
        seen.list,
        Outcome::Answered {
            status: 200,
            by: By::Guard
        }
    );
    // A token that could end a line is not sent back, and a name that is none is not shown.
    let evil = Reply::parse(ok("tok\r\nX-Evil: 1").as_bytes());
    assert_eq!((evil.token(), evil.role()), (None, Some("tok".to_owned())));
    assert_eq!(Reply::parse(ok("\u{1b}[2J").as_bytes()).role(), None);
    assert!(!format!("{:?}", Reply::parse(ok("secret").as_bytes())).contains("secret"));
    let all: Vec<IpAddr> = addresses().iter().map(|address| address.ip()).collect();
    assert_eq!(
        all,
        [
            "169.254.169.254".parse::<IpAddr>().unwrap(),
            "fd00:ec2::254".parse().unwrap()
        ]
    );
}

/// As nft lists [`nft_table`]: priorities by name, blocks over lines.
const LISTED: &str = "table inet countersign_imds {
	set live4 {
		type ipv4_addr
		size 4
		flags timeout
		elements = { 169.254.169.254 timeout 30s }
	}

	set live6 {
		type ipv6_addr
		size 4
		flags timeout
	}

	chain guard {
		type filter hook prerouting priority mangle; policy accept;
		iifname \"eth9\" accept
		ip daddr 169.254.169.254 tcp dport 80 ip daddr @live4 accept
		ip6 daddr fd00:ec2::254 tcp dport 80 ip6 daddr @live6 accept
		ip daddr 169.254.169.254 counter drop
		ip6 daddr fd00:ec2::254 counter drop
	}

	chain capture {
		type nat hook prerouting priority dstnat - 10; policy accept;
		ip daddr 169.254.169.254 tcp dport 80 dnat ip to 169.254.170.23:2706
		ip6 daddr fd00:ec2::254 tcp dport 80 dnat ip6 to [fd00:ec2::23]:2706
	}
}
";

#[test]
fn rules_of_a_node_are_read_back() {
    let state = |rules: &Rules| match rules {
        Rules::Missing => "missing",
        Rules::Broken { .. } => "broken",
        Rules::Dropped => "dropped",
        Rules::Redirected => "redirected",
    };
    let elements = "elements = { 169.254.169.254 timeout 30s }";
    let nft = [
        ("", "missing"),
        ("table inet other {\n}\n", "missing"),
        (LISTED, "redirected"),
        (&LISTED.replace(elements, ""), "dropped"),
        (
            &LISTED.replace("counter drop", "counter packets 3 bytes 180 drop"),
            "redirected",
        ),
        (
            &LISTED.replace("ip6 daddr fd00:ec2::254 counter drop", ""),
            "broken",
        ),
        (
            &LISTED.replace("ip daddr 169.254.169.254 counter drop", ""),
            "broken",
        ),
        (
            &LISTED.replace("iifname \"eth9\" accept", "ip saddr 10.0.0.1 accept"),
            "broken",
        ),
        (
            &LISTED.replace("type filter hook prerouting", "type filter hook input"),
            "broken",
        ),
        ("table inet countersign_imds {\n}\n", "broken"),
    ];
    for (listing, expected) in nft {
        assert_eq!(state(&Rules::of_nft(listing)), expected, "{listing}");
    }
    let target = Target {
        ipv4: Some("169.254.170.23".parse().unwrap()),
        ipv6: Some("fd00:ec2::23".parse().unwrap()),
        port: 2706,
    };
    // What is written is not what is listed, and near enough.
    let listed = |ipv6, until| {
        let written = iptables_chains(ipv6, Some(target), until, &["eth9".parse().unwrap()]);
        let mangle = written.split("*mangle").nth(1).unwrap().to_owned();
        format!(
            "-P PREROUTING ACCEPT\n-N COUNTERSIGN-IMDS\n-A PREROUTING -j COUNTERSIGN-IMDS\n{mangle}"
        )
    };
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let (open, over) = (Some("2026-01-01T00:00:20"), Some("2025-12-31T23:59:59"));
    let before = |text: String| {
        text.replace(
            "-A PREROUTING -j COUNTERSIGN-IMDS",
            "-A PREROUTING -j ACCEPT\n-A PREROUTING -j COUNTERSIGN-IMDS",
        )
    };
    let hole = |text: String| {
        text.replace(
            "-A COUNTERSIGN-IMDS -d",
            "-A COUNTERSIGN-IMDS -s 10.0.0.1/32 -j RETURN\n-A COUNTERSIGN-IMDS -d",
        )
    };
    let none = String::new;
    let iptables = [
        (none(), none(), "missing"),
        (listed(false, None), listed(true, None), "dropped"),
        (listed(false, open), listed(true, open), "redirected"),
        (listed(false, open), listed(true, None), "redirected"),
        (listed(false, over), listed(true, over), "dropped"),
        (listed(false, None), none(), "broken"),
        (none(), listed(true, None), "broken"),
        (before(listed(false, None)), listed(true, None), "broken"),
        (listed(false, None), hole(listed(true, None)), "broken"),
        (
            listed(false, None).replace("-j DROP", "-j LOG"),
            listed(true, None),
            "broken",
        ),
    ];
    for (four, six, expected) in iptables {
        assert_eq!(
            state(&Rules::of_iptables(&four, &six, now)),
            expected,
            "{four}{six}"
        );
    }
    assert!(nft_table(None, &[]).contains("counter drop"));
}

#[test]
fn the_unit_comes_before_kubelet_and_the_check_fires_and_is_silent() {
    let ours = advise::unit();
    let all = befores(&ours);
    for kubelet in [
        "kubelet.service",
        "k3s.service",
        "k3s-agent.service",
        "rke2-agent.service",
        "rke2-server.service",
    ] {
        assert!(all.iter().any(|unit| unit == kubelet), "{kubelet}");
    }
    // What cannot be run keeps kubelet from starting.
    assert!(ours.contains("RequiredBy=kubelet.service") && !ours.contains("Condition"));
    let eth: Interface = "eth1".parse().unwrap();
    for (program, fine) in [
        ("/usr/local/bin/countersign", true),
        ("countersign", false),
        ("/bin/", false),
        ("/bin/a b", false),
        ("/bin/%n", false),
        ("/bin/x\nExecStart=/bin/y", false),
    ] {
        let unit = unit_of_program(program, Some("iptables"), std::slice::from_ref(&eth));
        assert_eq!(unit.is_some(), fine, "{program}");
        if let Some(unit) = unit {
            assert!(unit.contains(
                "ExecStart=/usr/local/bin/countersign imds drop --filter iptables --exempt-interface eth1\n"
            ));
        }
    }
    for (text, expected) in [
        (
            "[Unit]\nBefore=a.service b.service\nBefore=c.service",
            vec!["a.service", "b.service", "c.service"],
        ),
        ("[Service]\nBefore=a.service", vec![]),
        ("[Unit]\n#Before=a.service\n; Before=b.service", vec![]),
        (
            "[Unit]\nBefore=a.service \\\n b.service",
            vec!["a.service", "b.service"],
        ),
        ("[Unit]\nBefore = a.service", vec!["a.service"]),
        ("[Unit]\nBefore=a.service\\", vec!["a.service"]),
    ] {
        assert_eq!(befores(text), expected, "{text}");
    }
    let files = |wanted, kubelets: &[&str]| UnitFiles {
        texts: vec!["[Unit]\nBefore=k3s.service".into()],
        masked: false,
        wanted,
        kubelets: kubelets.iter().map(|unit| (*unit).to_owned()).collect(),
    };
    for (files, expected) in [
        (UnitFiles::default(), Unit::Missing),
        (files(false, &["k3s.service"]), Unit::Disabled),
        (files(true, &["k3s.service"]), Unit::BeforeKubelet),
        (
            files(true, &["k3s.service", "kubelet.service"]),
            Unit::NotBefore,
        ),
        (files(true, &[]), Unit::NotBefore),
    ] {
        assert_eq!(Unit::of_files(&files), expected);
    }
    let broken = Rules::Broken {
        reason: "IPv6".into(),
    };
    let away = "not on a node";
    for (rules, unit, fires, unclear) in [
        (Ok(Rules::Redirected), Ok(Unit::BeforeKubelet), 0, 0),
        (Ok(Rules::Dropped), Ok(Unit::BeforeKubelet), 0, 0),
        (Ok(Rules::Missing), Ok(Unit::BeforeKubelet), 1, 0),
        (Ok(broken), Ok(Unit::BeforeKubelet), 1, 0),
        (Ok(Rules::Redirected), Ok(Unit::Missing), 1, 0),
        (Ok(Rules::Redirected), Ok(Unit::Disabled), 1, 0),
        (Ok(Rules::Redirected), Ok(Unit::Masked), 1, 0),
        (Ok(Rules::Missing), Ok(Unit::NotBefore), 2, 0),
        (Err(away.to_owned()), Err(away.to_owned()), 0, 2),
    ] {
        let facts = NodeFacts { rules, unit };
        let (found, not_found_out) = guard(&facts);
        assert_eq!(
            (found.len(), not_found_out.len()),
            (fires, unclear),
            "{facts:?}"
        );
        assert!(found.iter().all(|finding| finding.check == "M11"));
    }
}

#[test]
fn pods_that_were_missed_are_findings() {
    assert_eq!(not_injected(&[]), []);
    let pod = |role: Option<&str>| NotInjected {
        namespace: "shop".into(),
        pod: "cart-0".into(),
        service_account: "cart".into(),
        role_arn: role.map(str::to_owned),
        containers: vec!["app".into(), "sidecar".into()],
    };
    for (role, word) in [
        (None, "association"),
        (Some("arn:aws:iam::111122223333:role/cart"), "role/cart"),
    ] {
        let found = not_injected(&[pod(role)]);
        assert_eq!((found.len(), found[0].check), (1, "M10"));
        assert!(found[0].text.contains(word) && found[0].text.contains("app, sidecar"));
    }
}

#[test]
fn predecessors_are_told_from_rules_that_only_look_like_theirs() {
    let kube2iam = "-A PREROUTING -d 169.254.169.254/32 -i cali+ -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:8181";
    for (rule, is_shadow) in [
        (kube2iam.to_owned(), true),
        (kube2iam.replace("-i cali+", "! -i eth0"), true),
        (kube2iam.replace("-d 169", "! -d 169"), false),
        (kube2iam.replace("--dport 80", "! --dport 80"), false),
        (kube2iam.replace("--dport 80", "--dport 8080"), false),
        (kube2iam.replace("PREROUTING", "OUTPUT"), false),
        (kube2iam.replace("cali+", "$(reboot)"), false),
    ] {
        assert_eq!(shadows(&rule).len(), usize::from(is_shadow), "{rule}");
    }
    let listed = |rule: &str| {
        format!(
            "table ip nat {{\n\tchain PREROUTING {{ # handle 1\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n\t\t{rule} # handle 7\n\t}}\n}}\n"
        )
    };
    let theirs = "iifname \"cali*\" ip daddr 169.254.169.254 tcp dport 80 counter packets 4 bytes 240 dnat to 10.0.0.1:8181";
    let plain =
        "iifname \"cali*\" ip daddr 169.254.169.254 tcp dport 80 counter dnat to 10.0.0.1:8181";
    for (rule, kept) in [
        (theirs.to_owned(), Some(plain.to_owned())),
        (
            theirs.replace("iifname \"cali*\"", "iifname != \"eth0\""),
            Some(plain.replace("iifname \"cali*\"", "iifname != \"eth0\"")),
        ),
        (
            theirs.replace("iifname \"cali*\" ", ""),
            Some(plain.replace("iifname \"cali*\" ", "")),
        ),
        (
            "ip6 daddr fd00:ec2::254 tcp dport 80 redirect to :8181".into(),
            Some("ip6 daddr fd00:ec2::254 tcp dport 80 redirect to :8181".into()),
        ),
        (theirs.replace("ip daddr 169", "ip daddr != 169"), None),
        (theirs.replace("dport 80", "dport 81"), None),
        (theirs.replace("cali*", "a;b"), None),
        (theirs.replace(" dnat to 10.0.0.1:8181", " accept"), None),
        (theirs.replace("tcp dport 80 ", ""), None),
        (format!("{theirs} comment \"x\""), None),
    ] {
        let found = nft_shadows(&listed(&rule));
        let got = found.first().map(|shadow| shadow.rule.clone());
        assert_eq!(got, kept, "{rule}");
        assert!(found.iter().all(|shadow| shadow.handle == 7));
    }
}

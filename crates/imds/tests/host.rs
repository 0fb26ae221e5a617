//! Rules for pods on the host's network, and for connections that came in by another interface than that of their source.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use countersign_imds::host::{Cgroup, HostMode, HostRules, MOST_ALLOWED, pod_of, probe};
use countersign_imds::rules::{Extra, Target, nft_rules};

const UID: &str = "0b1c8d7e-52a4-4f0e-9d3a-6a7f1f0e2c55";

fn cgroup(path: &str) -> Cgroup {
    path.parse().unwrap()
}

fn target() -> Target {
    Target {
        ipv4: Some("169.254.170.23".parse().unwrap()),
        ipv6: Some("fd00:ec2::23".parse().unwrap()),
        port: 2706,
    }
}

fn host(mode: HostMode) -> HostRules {
    HostRules {
        mode,
        roots: vec![cgroup("kubepods.slice"), cgroup("kubepods")],
        allowed: vec![cgroup("kubepods.slice/kubepods-podabc.slice")],
    }
}

#[test]
fn cgroups_belong_to_the_pod_that_kubelet_made_them_for() {
    let escaped = UID.replace('-', "_");
    for (path, expected) in [
        (format!("kubepods.slice/kubepods-pod{escaped}.slice"), true),
        (
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{escaped}.slice/cri-containerd-0f.scope"
            ),
            true,
        ),
        (
            format!(
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{escaped}.slice"
            ),
            true,
        ),
        (format!("kubepods/pod{UID}/0f"), true),
        (format!("kubepods/burstable/pod{UID}"), true),
        (format!("/kubepods/besteffort/pod{UID}/0f/init"), true),
        // What a container makes inside its own cgroup.
        (format!("kubepods/podmine/pod{UID}"), false),
        (
            format!("kubepods.slice/kubepods-podmine.slice/kubepods-pod{escaped}.slice"),
            false,
        ),
        (format!("system.slice/kubepods-pod{escaped}.slice"), false),
        (
            format!("kubepods.slice/kubepods-burstable-pod{escaped}.slice"),
            false,
        ),
        (
            format!("kubepods.slice/kubepods-burstable.slice/kubepods-pod{escaped}.slice"),
            false,
        ),
        (format!("user.slice/kubepods/pod{UID}"), false),
        ("kubepods.slice".to_owned(), false),
        ("kubepods/burstable".to_owned(), false),
        ("kubepods/pod".to_owned(), false),
        ("kubepods/pod../x".to_owned(), false),
        (String::new(), false),
    ] {
        let found = pod_of(&path);
        assert_eq!(found.as_deref() == Some(UID), expected, "{path}: {found:?}");
    }
    let all = Cgroup::of_pod(UID);
    assert_eq!(all.len(), 6);
    for one in &all {
        assert_eq!(pod_of(one.as_str()).as_deref(), Some(UID), "{one:?}");
    }
    for bad in ["", "a/b", "a b", "..", "x\"", &"a".repeat(65)] {
        assert_eq!(Cgroup::of_pod(bad), [], "{bad}");
    }
}

#[test]
fn paths_of_cgroups_mean_nothing_to_nft() {
    for (path, level) in [
        ("kubepods", 1),
        (
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice",
            3,
        ),
    ] {
        assert_eq!(cgroup(path).level(), level);
    }
    for bad in [
        "",
        "/",
        "a//b",
        "a/",
        "/a",
        "..",
        "a/../b",
        ".",
        "a\" drop",
        "a\nb",
        "a;b",
        "a b",
        "a{",
        "a/b/c/d/e/f/g/h/i",
        &"a".repeat(201),
    ] {
        assert!(bad.parse::<Cgroup>().is_err(), "{bad:?}");
    }
}

#[test]
fn host_pods_are_dropped_or_sent_to_the_guard() {
    let allowed = "socket cgroupv2 level 2 \"kubepods.slice/kubepods-podabc.slice\"";
    let slice = "socket cgroupv2 level 1 \"kubepods.slice\"";
    let drop = "  chain host {
    type filter hook output priority -150; policy accept;
    ip daddr 169.254.169.254 jump host_pods
    ip6 daddr fd00:ec2::254 jump host_pods
  }
  chain host_pods {
    socket cgroupv2 level 2 \"kubepods.slice/kubepods-podabc.slice\" accept
    socket cgroupv2 level 1 \"kubepods.slice\" counter drop
    socket cgroupv2 level 1 \"kubepods\" counter drop
  }
";
    assert_eq!(host(HostMode::Drop).chains(Some(target())), drop);
    assert_eq!(host(HostMode::Drop).chains(None), drop);
    // Without a guard there is nobody to redirect to.
    assert_eq!(host(HostMode::Redirect).chains(None), drop);
    let redirect = host(HostMode::Redirect).chains(Some(target()));
    for part in [
        &format!(
            "    {allowed} accept\n    ip daddr 169.254.169.254 tcp dport 80 ip daddr @live4 accept\n"
        ),
        &format!("    {slice} counter drop\n"),
        "    type nat hook output priority -110; policy accept;\n",
        &format!(
            "    {allowed} return\n    ip daddr 169.254.169.254 tcp dport 80 {slice} dnat ip to 169.254.170.23:2706\n"
        ),
        &format!(
            "    ip6 daddr fd00:ec2::254 tcp dport 80 {slice} dnat ip6 to [fd00:ec2::23]:2706\n"
        ),
    ] {
        assert!(redirect.contains(part), "{part}\n{redirect}");
    }
    let four = Target {
        ipv6: None,
        ..target()
    };
    assert!(
        !host(HostMode::Redirect)
            .chains(Some(four))
            .contains("dnat ip6")
    );
    let many = HostRules {
        allowed: vec![cgroup("kubepods/podx"); MOST_ALLOWED + 7],
        ..host(HostMode::Drop)
    };
    assert_eq!(many.chains(None).matches("podx").count(), MOST_ALLOWED);
    assert!(probe(&cgroup("kubepods")).contains("socket cgroupv2 level 1 \"kubepods\" counter"));
}

#[test]
fn strays_go_to_a_port_of_their_own_and_nobody_gets_there_directly() {
    let extra = Extra {
        strays: Some(2707),
        ..Extra::default()
    };
    let table = nft_rules(Some(target()), &extra);
    let stray = "ip daddr 169.254.169.254 tcp dport 80 fib saddr . iif oif missing dnat ip to 169.254.170.23:2707";
    let straight = "ip daddr 169.254.169.254 tcp dport 80 dnat ip to 169.254.170.23:2706";
    assert!(table.find(stray).unwrap() < table.find(straight).unwrap());
    for part in [
        "ip6 daddr fd00:ec2::254 tcp dport 80 fib saddr . iif oif missing dnat ip6 to [fd00:ec2::23]:2707",
        "iifname != \"lo\" ip daddr 169.254.170.23 tcp dport { 2706, 2707 } counter drop",
        "iifname != \"lo\" ip6 daddr fd00:ec2::23 tcp dport { 2706, 2707 } counter drop",
    ] {
        assert!(table.contains(part), "{part}\n{table}");
    }
    let plain = nft_rules(Some(target()), &Extra::default());
    assert!(!plain.contains("fib") && !plain.contains("2707") && !plain.contains("iifname"));
    // Closed for good: no translation, so nothing to tell apart.
    assert!(!nft_rules(None, &extra).contains("fib"));
}

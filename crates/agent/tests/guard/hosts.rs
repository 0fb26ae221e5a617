//! `--host-cgroup-guard`: pods on the host's network, in cgroups as kubelet makes them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use countersign_agent::guard::capture::{Filter, FilterKind};
use countersign_agent::guard::{HostGuard, HostGuardError, Workload};
use countersign_agent::pods::Pod;
use countersign_imds::decision::Mode;
use countersign_imds::host::HostMode;

use crate::common::namespace::inside_of;
use crate::common::{SECRET, World, pod};
use crate::node::{FOUR, LIST, Node, SIX, programs, wait_for};
use crate::world::{redirected, runtime, show, world_with};

const CGROUPS: &str = "/sys/fs/cgroup";

/// Cgroups of two pods, one as with systemd and one as without; removed in the end.
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    /// With cgroup v2 where `nft` looks for it, in the mount namespace of the test. Says loudly when that cannot be.
    fn new(test: &str) -> Option<Self> {
        if !Path::new(CGROUPS).join("cgroup.controllers").exists() {
            let mounted = Command::new("mount")
                .args(["-t", "cgroup2", "none", CGROUPS])
                .status();
            if !mounted.is_ok_and(|status| status.success()) {
                eprintln!("SKIPPED {test}: cgroup v2 cannot be mounted");
                return None;
            }
        }
        Some(Self(Vec::new()))
    }

    fn make(&mut self, path: &str) {
        let mut whole = PathBuf::from(CGROUPS);
        for name in path.split('/') {
            whole.push(name);
            if std::fs::create_dir(&whole).is_ok() {
                self.0.push(whole.clone());
            }
        }
        assert!(whole.is_dir(), "{path}");
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// `curl` as a process of a cgroup, on the host's network.
fn curl_in(cgroup: &str, url: &str) -> (u16, String) {
    let script = format!(
        "echo $$ > {CGROUPS}/{cgroup}/cgroup.procs && exec curl -s -g --noproxy '*' -m 2 -w '\\n%{{http_code}}' '{url}'"
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text
        .rsplit_once('\n')
        .unwrap_or_else(|| panic!("{output:?}"));
    (status.parse().unwrap(), body.to_owned())
}

/// Pod numbers that no other run of the tests on this machine has at the same time.
fn number(of: usize) -> usize {
    let process = usize::try_from(std::process::id()).unwrap();
    process % 6000 * 10 + of
}

fn on_host(of: usize) -> Pod {
    Pod {
        host_network: true,
        addresses: vec!["192.0.2.1".parse().unwrap()],
        ..pod(number(of))
    }
}

async fn guarded(node: &Node, mode: HostMode) -> World {
    let kind = FilterKind::Nft;
    let world = world_with(node, Mode::Serve, kind, Arc::default(), true, |config| {
        let allowed = format!("orchard/picker-{}", number(2)).parse().unwrap();
        let hosts = HostGuard::open(mode, vec![allowed]).unwrap();
        config.guard.as_mut().unwrap().hosts = Some(hosts);
    })
    .await;
    redirected(&world).await;
    world
}

#[test]
fn host_pods_get_nothing_or_their_own_role_and_the_node_keeps_its_own() {
    let name = "hosts::host_pods_get_nothing_or_their_own_role_and_the_node_keeps_its_own";
    if !programs(name) || !inside_of(name, &["-n", "-m"]) {
        return;
    }
    let Some(mut cgroups) = Cgroups::new(name) else {
        return;
    };
    let uid = |of| pod(number(of)).uid.to_string();
    let systemd = format!(
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-a.scope",
        uid(1).replace('-', "_")
    );
    let allowed = format!("kubepods/besteffort/pod{}", uid(2));
    let unknown = format!("kubepods/pod{}", uid(3));
    for path in [&systemd, &allowed, &unknown] {
        cgroups.make(path);
    }
    let root = HostGuard::root();
    let works =
        runtime().block_on(Filter::new(FilterKind::Nft, vec![]).matches_cgroups(root.as_ref()));
    if let Err(error) = works {
        eprintln!("SKIPPED {name}: {error}");
        return;
    }
    let node = Node::new(0);
    let url = |base: &str| format!("{base}{LIST}");
    let credentials = |base: &str| format!("{base}{LIST}orchard-reader");
    // What the service says to those who reach it without a session token.
    let of_service = (401, String::new());
    let reaches = |cgroup: &str| [FOUR, SIX].map(|base| curl_in(cgroup, &url(base)).0);
    let node_itself = || [FOUR, SIX].map(|base| crate::node::curl(None, &[&url(base)]));
    assert_eq!(reaches(&systemd), [401, 401]);

    runtime().block_on(async {
        let world = guarded(&node, HostMode::Drop).await;
        // Nobody is let through whom the agent does not know yet.
        assert_eq!(reaches(&allowed), [0, 0]);
        show(&world, vec![on_host(1), on_host(2)]);
        wait_for("the allowed pod's way", || reaches(&allowed) == [401, 401]);
        assert_eq!(reaches(&systemd), [0, 0]);
        assert_eq!(reaches(&unknown), [0, 0]);
        assert_eq!(node_itself(), [of_service.clone(), of_service.clone()]);
        // An allowed pod that ended is allowed no more.
        let ended = Pod {
            terminated: true,
            ..on_host(2)
        };
        show(&world, vec![on_host(1), ended]);
        wait_for("the end of the way", || reaches(&allowed) == [0, 0]);
        world.agent.stop().await;
        assert_eq!(reaches(&systemd), [0, 0], "it stays when the agent stops");

        let world = guarded(&node, HostMode::Redirect).await;
        show(&world, vec![on_host(1), on_host(2)]);
        wait_for("the allowed pod's way", || reaches(&allowed) == [401, 401]);
        let before = node.requests().lines().count();
        for base in [FOUR, SIX] {
            assert_eq!(
                curl_in(&systemd, &url(base)),
                (200, "orchard-reader".into())
            );
            let (status, body) = curl_in(&systemd, &credentials(base));
            assert!(status == 200 && body.contains(SECRET), "{status} {body}");
            let (_, info) = curl_in(&systemd, &format!("{base}/latest/meta-data/iam/info"));
            let own = format!("\"a-picker-{}\"", number(1));
            assert!(info.contains(&own), "{info}");
            assert_eq!(
                curl_in(&systemd, &format!("{base}/latest/user-data")).0,
                403
            );
            // A pod that Kubernetes does not know.
            assert_eq!(curl_in(&unknown, &url(base)).0, 404);
        }
        assert_eq!(node.requests().lines().count(), before);
        assert_eq!(node_itself(), [of_service.clone(), of_service]);
        world.agent.stop().await;
        assert_eq!(reaches(&systemd), [0, 0], "it stays when the agent stops");
    });
}

#[test]
fn nodes_without_cgroup_v2_are_refused_with_what_to_do() {
    let name = "hosts::nodes_without_cgroup_v2_are_refused_with_what_to_do";
    if !inside_of(name, &["-n", "-m"]) {
        return;
    }
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "none", CGROUPS])
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED {name}: nothing can be mounted");
        return;
    }
    let error = HostGuard::open(HostMode::Drop, vec![]).unwrap_err();
    assert_eq!(error, HostGuardError::NoCgroup2);
    assert!(error.to_string().contains("leave out --host-cgroup-guard"));
    // Part of a hierarchy, as a container sees it.
    for file in ["cgroup.controllers", "cgroup.type"] {
        std::fs::write(Path::new(CGROUPS).join(file), "").unwrap();
    }
    let error = HostGuard::open(HostMode::Drop, vec![]).unwrap_err();
    assert_eq!(error, HostGuardError::OwnNamespace);
    assert!(error.to_string().contains("privileged container"));
    let filter = Filter::new(FilterKind::Iptables, vec![]);
    let error = runtime()
        .block_on(filter.matches_cgroups(None))
        .unwrap_err();
    assert!(error.to_string().contains("nft alone"));
}

#[test]
fn workloads_have_a_namespace_and_an_account() {
    for (text, expected) in [
        ("kube-system/aws-node", true),
        ("a.b/c-1", true),
        ("aws-node", false),
        ("/aws-node", false),
        ("kube-system/", false),
        ("Kube/x", false),
        ("a/b/c", false),
        ("a/b c", false),
    ] {
        assert_eq!(text.parse::<Workload>().is_ok(), expected, "{text}");
    }
}

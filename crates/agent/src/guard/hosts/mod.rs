//! Pods on the host's network (imds spec, section 5.7): which cgroups the packet filter matches, and which pod a connection that
//! it has redirected comes from.
//!
//! ```text
//!   pods of the node ──▶ allowed ones ──▶ their cgroups ──▶ rules ──▶ packet filter
//!   connection ──▶ sock_diag: number of its cgroup ──▶ path ──▶ pod's uid
//! ```

mod diag;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_imds::host::{Cgroup, HostMode, HostRules, ROOTS, pod_of};
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use diag::cgroup_id;

use crate::pods::{Caller, Pod, PodTable};

/// Where `nft` looks for cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The first cgroup namespace; the kernel gives it this number always.
const NODES_NAMESPACE: &str = "cgroup:[4026531835]";
/// A pod's cgroup is made some time after the pod is seen.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between two looks through all cgroups for one that is not known: a pod can make as many as it likes.
const LOOKS_APART: Duration = Duration::from_millis(100);
/// Cgroups that are looked through, and how deep below a root.
const MOST_CGROUPS: usize = 16_384;
const DEEPEST: usize = 6;
/// Numbers of cgroups that are remembered.
const MOST_KNOWN: usize = 4096;

/// Why pods on the host's network cannot be told from the node's processes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostGuardError {
    /// No cgroup v2, or not alone.
    #[error(
        "{CGROUPS} is no hierarchy of cgroup v2: this node runs cgroup v1, or both; boot it with systemd.unified_cgroup_hierarchy=1, or leave out --host-cgroup-guard"
    )]
    NoCgroup2,
    /// A container sees its own cgroup as the root, and `nft` counts levels from there: rules would match nothing.
    #[error(
        "the agent runs in a cgroup namespace of its own, where rules for the node's cgroups match nothing; run it as a unit of the node or in a privileged container, or leave out --host-cgroup-guard"
    )]
    OwnNamespace,
}

/// A workload that reaches the service as processes of the node do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its service account.
    pub service_account: Box<str>,
}

/// A text names no workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no workload: NAMESPACE/SERVICE-ACCOUNT, such as kube-system/aws-node")]
pub struct NoWorkload(String);

impl std::str::FromStr for Workload {
    type Err = NoWorkload;

    fn from_str(text: &str) -> Result<Self, NoWorkload> {
        let plain = |name: &str| {
            (1..=253).contains(&name.len())
                && name.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte)
                })
        };
        match text.split_once('/') {
            Some((namespace, account)) if plain(namespace) && plain(account) => Ok(Self {
                namespace: namespace.into(),
                service_account: account.into(),
            }),
            _ => Err(NoWorkload(text.chars().take(64).collect())),
        }
    }
}

/// Pods on the host's network, as the guard treats them.
#[derive(Debug)]
pub struct HostGuard {
    mode: HostMode,
    allow: Vec<Workload>,
    /// The uid of the agent's own pod, if it runs in one.
    own: Option<String>,
    /// The uids of pods by the numbers of their cgroups, which are not used twice within a boot.
    known: Mutex<HashMap<u64, Box<str>>>,
    /// When all cgroups were looked through last. Held meanwhile, so that this is done once for all who wait.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

impl HostGuard {
    /// Looks at the node's cgroups. The pod that the agent runs in is always allowed: it reads the node's own data.
    ///
    /// # Errors
    /// When there is no cgroup v2, or it cannot be seen whole from here.
    pub fn open(mode: HostMode, allow: Vec<Workload>) -> Result<Self, HostGuardError> {
        let root = Path::new(CGROUPS);
        if !root.join("cgroup.controllers").exists() {
            return Err(HostGuardError::NoCgroup2);
        }
        let namespace = std::fs::read_link("/proc/self/ns/cgroup");
        let is_nodes = namespace.is_ok_and(|link| link == Path::new(NODES_NAMESPACE));
        // Every cgroup but the root has a type.
        if !is_nodes || root.join("cgroup.type").exists() {
            return Err(HostGuardError::OwnNamespace);
        }
        Ok(Self {
            mode,
            allow,
            own: own_pod(),
            known: Mutex::default(),
            looked: tokio::sync::Mutex::default(),
        })
    }

    /// Whether their connections reach the guard.
    pub(crate) fn redirects(&self) -> bool {
        self.mode == HostMode::Redirect
    }

    /// A root of kubelet's cgroups, if there is one by now: to try rules with.
    #[must_use]
    pub fn root() -> Option<Cgroup> {
        roots().next()
    }

    /// The rules for the pods of the node as they are now.
    pub(crate) fn rules(&self, table: Option<&PodTable>) -> HostRules {
        let is_allowed = |pod: &&Arc<Pod>| {
            let is = |workload: &Workload| {
                workload.namespace == pod.namespace
                    && workload.service_account == pod.service_account
            };
            pod.host_network && !pod.terminated && self.allow.iter().any(is)
        };
        let pods = table.into_iter().flat_map(PodTable::pods);
        let mut allowed: Vec<Cgroup> = pods
            .filter(is_allowed)
            .flat_map(|pod| existing(&pod.uid))
            .collect();
        // Pods come in no order, and the same rules must not look like others.
        allowed.sort_unstable();
        if let Some(own) = &self.own {
            let own = existing(own);
            allowed.retain(|other| !own.contains(other));
            allowed.splice(0..0, own);
        }
        HostRules {
            mode: self.mode,
            roots: roots().collect(),
            allowed,
        }
    }

    /// Publishes the rules whenever they change, until `stop` becomes true.
    pub(crate) async fn follow(
        self: Arc<Self>,
        pods: Option<watch::Receiver<Option<Arc<PodTable>>>>,
        rules: watch::Sender<Option<HostRules>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut pods = pods;
        loop {
            let table = pods.as_ref().and_then(|pods| pods.borrow().clone());
            let own = Arc::clone(&self);
            let now = tokio::task::spawn_blocking(move || own.rules(table.as_deref())).await;
            if let Ok(now) = now {
                rules.send_if_modified(|held| {
                    let changed = held.as_ref() != Some(&now);
                    if changed {
                        *held = Some(now);
                    }
                    changed
                });
            }
            let changed = async {
                match &mut pods {
                    // When nobody tells any more, the last word counts.
                    Some(pods) if pods.has_changed().is_ok() => drop(pods.changed().await),
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = changed => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// The uid of the pod whose connection to the service was redirected to us; none for everybody else.
    pub(crate) async fn caller(self: &Arc<Self>, caller: Caller) -> Option<Box<str>> {
        let source = SocketAddr::new(caller.address, caller.port);
        let service: IpAddr = match caller.address {
            IpAddr::V4(_) => countersign_imds::IPV4.into(),
            IpAddr::V6(_) => countersign_imds::IPV6.into(),
        };
        let id = match diag::ask(source, SocketAddr::new(service, 80)) {
            Ok(id) => id?,
            Err(error) => {
                tracing::debug!(%error, "the kernel does not tell whose a connection is");
                return None;
            }
        };
        let known = |this: &Self| {
            let known = this.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&id).cloned()
        };
        if let Some(uid) = known(self) {
            return Some(uid);
        }
        let mut last = self.looked.lock().await;
        if let Some(uid) = known(self) {
            return Some(uid);
        }
        if let Some(last) = *last {
            tokio::time::sleep_until(last + LOOKS_APART).await;
        }
        let own = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || own.look_through()).await;
        *last = Some(Instant::now());
        looked.ok().and_then(|()| known(self))
    }

    /// Remembers all cgroups of pods.
    fn look_through(&self) {
        let mut fresh = HashMap::new();
        walk(|path, id| {
            if let Some(uid) = pod_of(path) {
                fresh.insert(id, uid.into_boxed_str());
            }
            fresh.len() < MOST_KNOWN
        });
        // Those that are gone are nobody's any more.
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

/// Those of kubelet's roots that are there.
fn roots() -> impl Iterator<Item = Cgroup> {
    let there = |root: &&str| Path::new(CGROUPS).join(root).is_dir();
    ROOTS.into_iter().filter(there).flat_map(str::parse)
}

/// The cgroup of a pod, if it is there.
fn existing(uid: &str) -> Vec<Cgroup> {
    let mut all = Cgroup::of_pod(uid);
    all.retain(|cgroup| Path::new(CGROUPS).join(cgroup.as_str()).is_dir());
    all
}

/// The uid of the pod that this process runs in.
fn own_pod() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    pod_of(path)
}

/// Shows each cgroup below kubelet's roots with its path and number, until `more` says no.
fn walk(mut more: impl FnMut(&str, u64) -> bool) {
    let mut left: Vec<(PathBuf, usize)> = roots()
        .map(|root| (PathBuf::from(root.as_str()), 0))
        .collect();
    let mut seen = 0;
    while let Some((path, depth)) = left.pop() {
        let Ok(entries) = std::fs::read_dir(Path::new(CGROUPS).join(&path)) else {
            continue;
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            seen += 1;
            let child = path.join(entry.file_name());
            let go_on = child.to_str().is_none_or(|path| more(path, entry.ino()));
            if !go_on || seen >= MOST_CGROUPS {
                return;
            }
            if depth < DEEPEST {
                left.push((child, depth + 1));
            }
        }
    }
}

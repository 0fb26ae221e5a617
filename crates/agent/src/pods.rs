//! The pods of this node, and whether a caller is the pod that its token names (agent spec, section 4.1).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::refusal::Refusal;
use crate::token::PodIdentity;

/// A pod of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `status.podIPs`; empty until kubelet has reported them.
    pub addresses: Vec<IpAddr>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// Whether `status.phase` is `Succeeded` or `Failed`.
    pub terminated: bool,
    /// `spec.serviceAccountName`.
    pub service_account: Box<str>,
    /// Those of `metadata.annotations` that the feed was asked to keep; the metadata guard reads roles from them.
    pub annotations: BTreeMap<Box<str>, Box<str>>,
    /// `metadata.deletionTimestamp`, which is the end of the pod's grace.
    pub deleted: Option<Timestamp>,
}

/// Which pod has an address (imds spec, section 5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodAt {
    /// Exactly this one.
    One(Arc<Pod>),
    /// None that is alive.
    Nobody,
    /// More than one.
    Several,
}

/// The pods of this node at one moment, with the indexes that a check needs.
#[derive(Debug, Clone, Default)]
pub struct PodTable {
    by_uid: HashMap<Box<str>, Arc<Pod>>,
    by_address: HashMap<IpAddr, Arc<Pod>>,
    /// All that have an address which more than one has.
    shared: HashMap<IpAddr, Vec<Arc<Pod>>>,
    node_addresses: Vec<IpAddr>,
}

impl PodTable {
    /// The table of these pods on a node with these addresses (`status.hostIPs`).
    #[must_use]
    pub fn new(pods: impl IntoIterator<Item = Pod>, node_addresses: Vec<IpAddr>) -> Self {
        let mut table = Self {
            node_addresses: node_addresses.into_iter().map(canonical).collect(),
            ..Self::default()
        };
        for pod in pods {
            let pod = Arc::new(pod);
            // An address of a terminated pod may have been given to another one.
            if !pod.host_network && !pod.terminated {
                for address in &pod.addresses {
                    let address = canonical(*address);
                    let before = table.by_address.insert(address, Arc::clone(&pod));
                    // Kubelet may list an address twice; that makes nobody ambiguous.
                    if let Some(before) = before.filter(|before| before.uid != pod.uid) {
                        let all = table.shared.entry(address).or_insert_with(|| vec![before]);
                        all.push(Arc::clone(&pod));
                    }
                }
            }
            table.by_uid.insert(pod.uid.clone(), pod);
        }
        table
    }

    /// Whether the pod is one of this node and has not terminated.
    #[must_use]
    pub fn is_alive(&self, uid: &str) -> bool {
        self.by_uid.get(uid).is_some_and(|pod| !pod.terminated)
    }

    /// Which pod has this address now. Pods on the host's network have none of their own, and terminated ones and those whose
    /// grace is over have none any more.
    #[must_use]
    pub fn at(&self, address: IpAddr, now: Timestamp) -> PodAt {
        let address = canonical(address);
        let counts = |pod: &&Arc<Pod>| pod.deleted.is_none_or(|end| end > now);
        let mut found = match self.shared.get(&address) {
            Some(all) => all.iter().filter(counts).collect(),
            None => Vec::from_iter(self.by_address.get(&address).filter(counts)),
        };
        match (found.pop(), found.is_empty()) {
            (Some(pod), true) => PodAt::One(Arc::clone(pod)),
            (Some(_), false) => PodAt::Several,
            (None, _) => PodAt::Nobody,
        }
    }

    /// The pod with this uid.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.by_uid.get(uid)
    }

    /// The pod that has this address now. Pods of the host's network have none of their own.
    #[must_use]
    pub fn pod_at(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        self.by_address.get(&canonical(address))
    }

    /// Whether the address is one of the node.
    #[must_use]
    pub fn is_of_node(&self, address: IpAddr) -> bool {
        self.node_addresses.contains(&canonical(address))
    }

    /// All pods, in no order.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.by_uid.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_uid.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }
}

/// Where a request came from: an address of the node itself, or any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The source address of the connection, IPv4 in IPv6 unfolded.
    pub address: IpAddr,
    /// The source port; 0 where it is not known.
    pub port: u16,
    /// Whether the connection came from the node itself: from the loopback, or from the address that it went to.
    pub local: bool,
}

impl Caller {
    /// From the two ends of a connection.
    #[must_use]
    pub fn new(source: IpAddr, destination: Option<IpAddr>) -> Self {
        let address = canonical(source);
        Self {
            address,
            port: 0,
            local: address.is_loopback() || destination.map(canonical) == Some(address),
        }
    }

    /// The same with the source port.
    #[must_use]
    pub fn from_port(self, port: u16) -> Self {
        Self { port, ..self }
    }
}

/// What to do with mismatches of token and caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BindSource {
    /// Nothing is compared.
    Off,
    /// They are counted and logged. The default: clusters whose network hides source addresses would not work otherwise.
    #[default]
    Warn,
    /// They are refused.
    Enforce,
}

/// How token and caller fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// The caller is the token's pod.
    Fits,
    /// It is not, and will not be.
    Misuse {
        /// What is told to the caller.
        refusal: Refusal,
        /// The pod that called, if the address is one of a pod.
        caller: Option<Arc<Pod>>,
    },
    /// The table may not have caught up with the pod: it is unknown, or has no address yet. The refusal counts if that does
    /// not change soon.
    NotYet(Refusal),
}

/// Compares a token with the address that it came from.
///
/// A host-network pod has the node's address, so all host-network pods of a node can use each other's tokens; that cannot be
/// told apart here. A pod of the network plugin can only use its own.
#[must_use]
pub fn bind(table: &PodTable, token: &PodIdentity, caller: Caller) -> Binding {
    let source = table.by_address.get(&caller.address);
    let Some(pod) = table.by_uid.get(&token.pod_uid) else {
        return Binding::NotYet(Refusal::InvalidToken("its pod is not one of this node"));
    };
    if pod.terminated {
        return Binding::Misuse {
            refusal: Refusal::InvalidToken("its pod has terminated"),
            caller: source.cloned(),
        };
    }
    if let Some(source) = source {
        return if source.uid == pod.uid {
            Binding::Fits
        } else {
            Binding::Misuse {
                refusal: Refusal::WrongCaller("it came from another pod"),
                caller: Some(Arc::clone(source)),
            }
        };
    }
    let from_node = caller.local || table.node_addresses.contains(&caller.address);
    match (from_node, pod.host_network) {
        (true, true) => Binding::Fits,
        (true, false) => Binding::Misuse {
            refusal: Refusal::WrongCaller(
                "it came from the node, and its pod has a network of its own",
            ),
            caller: None,
        },
        // A container can run before kubelet has reported the address of its pod.
        (false, false) if pod.addresses.is_empty() => {
            Binding::NotYet(Refusal::WrongCaller("its pod has no address yet"))
        }
        (false, _) => Binding::Misuse {
            refusal: Refusal::WrongCaller("it came from an address of no pod of this node"),
            caller: None,
        },
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

//! Whether NetworkPolicies keep pods from the metadata service, and what to add (imds spec, sections 2 and 3, M7).
//!
//! Policies are a union: a pod that no egress policy selects reaches everything, and one rule that allows the address opens what
//! all others leave closed. So what exists is evaluated first, and the manifest is given only where it closes something without
//! opening anything.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{IPV4, IPV6};

/// A NetworkPolicy, as far as egress is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NetworkPolicy {
    /// Name and namespace.
    pub metadata: Meta,
    /// What it says.
    #[serde(default)]
    pub spec: Spec,
}

/// Name and namespace of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Meta {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Namespace.
    #[serde(default)]
    pub namespace: String,
    /// Labels.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The rules.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Which pods of the namespace.
    #[serde(default)]
    pub pod_selector: Option<Selector>,
    /// `Ingress`, `Egress`.
    #[serde(default)]
    pub policy_types: Option<Vec<String>>,
    /// Where they may go.
    #[serde(default)]
    pub egress: Option<Vec<Egress>>,
}

/// A label selector.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// All of them.
    #[serde(default)]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// And all of these.
    #[serde(default)]
    pub match_expressions: Option<Vec<Expression>>,
}

/// An expression of a selector.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Expression {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// For the first two.
    #[serde(default)]
    pub values: Option<Vec<String>>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Egress {
    /// To whom; nothing means everybody.
    #[serde(default)]
    pub to: Option<Vec<Peer>>,
    /// To which ports; nothing means all.
    #[serde(default)]
    pub ports: Option<Vec<Port>>,
}

/// A peer. Those that select pods never mean the service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Addresses.
    #[serde(default)]
    pub ip_block: Option<IpBlock>,
}

/// Addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct IpBlock {
    /// A network.
    #[serde(default)]
    pub cidr: String,
    /// Networks in it that are not meant.
    #[serde(default)]
    pub except: Option<Vec<String>>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// `TCP` unless said otherwise.
    #[serde(default)]
    pub protocol: Option<String>,
    /// A number or a name.
    #[serde(default)]
    pub port: Option<serde_json::Value>,
    /// The end of a range.
    #[serde(default)]
    pub end_port: Option<u64>,
}

/// A pod, as far as policies are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLabels {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Policies do not hold for pods on the host's network.
    pub host_network: bool,
}

/// What policies make of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum State {
    /// No egress policy selects any pod: the manifest closes the service and nothing else.
    Unguarded {
        /// To be applied.
        manifest: String,
    },
    /// Policies select all pods, and none allows the service.
    Closed,
    /// A policy allows it.
    Opened {
        /// Which, and by which network.
        by: Vec<Opening>,
        /// Pods that are open besides because no egress policy selects them.
        unselected: Vec<String>,
    },
    /// Some pods are selected by policies that do not allow the service, and others by none. A policy for all pods would open to
    /// the first what was closed to them, so there is no manifest to print.
    Mixed {
        /// Pods that no egress policy selects.
        unselected: Vec<String>,
    },
}

/// A policy that lets pods reach the service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Opening {
    /// Its name.
    pub policy: String,
    /// The network that has the address in it; `None` for a rule without peers, which means everybody.
    pub cidr: Option<String>,
    /// What to add to the network's `except`.
    pub except: Option<String>,
}

/// A namespace and what policies make of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceState {
    /// The namespace.
    pub namespace: String,
    /// What is to be said.
    #[serde(flatten)]
    pub state: State,
}

/// Evaluates all policies of each namespace. `pods` are those that exist now; a namespace without pods is judged by the policies
/// that select every pod.
#[must_use]
pub fn evaluate(
    namespaces: &[String],
    policies: &[NetworkPolicy],
    pods: &[PodLabels],
) -> Vec<NamespaceState> {
    namespaces
        .iter()
        .map(|namespace| NamespaceState {
            namespace: namespace.clone(),
            state: state_of(namespace, policies, pods),
        })
        .collect()
}

fn state_of(namespace: &str, policies: &[NetworkPolicy], pods: &[PodLabels]) -> State {
    let policies: Vec<&NetworkPolicy> = policies
        .iter()
        .filter(|policy| policy.metadata.namespace == namespace && policy.spec.is_egress())
        .collect();
    let everybody = policies.iter().any(|policy| policy.spec.selects_all());
    let mut unselected = Vec::new();
    let mut selected = everybody;
    for pod in pods {
        if pod.namespace != namespace || pod.host_network {
            continue;
        }
        if everybody
            || policies
                .iter()
                .any(|policy| policy.spec.selects(&pod.labels))
        {
            selected = true;
        } else {
            unselected.push(pod.name.clone());
        }
    }
    unselected.sort();
    let mut by: Vec<Opening> = policies
        .iter()
        .flat_map(|policy| policy.openings())
        .collect();
    by.sort();
    by.dedup();
    if policies.is_empty() {
        return State::Unguarded {
            manifest: manifest(namespace),
        };
    }
    if !by.is_empty() {
        return State::Opened { by, unselected };
    }
    // A namespace where policies select some labels and no pod is there: pods to come may have others.
    if unselected.is_empty() && (everybody || selected) {
        State::Closed
    } else {
        State::Mixed { unselected }
    }
}

impl Spec {
    fn is_egress(&self) -> bool {
        match &self.policy_types {
            Some(types) if !types.is_empty() => types.iter().any(|kind| kind == "Egress"),
            // The API server's default: Egress counts when there is a rule of it.
            _ => self.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        }
    }

    fn selects_all(&self) -> bool {
        self.pod_selector
            .as_ref()
            .is_none_or(|selector| *selector == Selector::default() || selector.is_empty())
    }

    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.pod_selector
            .as_ref()
            .is_none_or(|selector| selector.matches(labels))
    }
}

impl Selector {
    fn is_empty(&self) -> bool {
        self.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && self.match_expressions.as_ref().is_none_or(Vec::is_empty)
    }

    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let equal = self.match_labels.iter().flatten();
        let expressions = self.match_expressions.iter().flatten();
        equal
            .map(|(key, value)| labels.get(key) == Some(value))
            .chain(expressions.map(|expression| {
                let value = labels.get(&expression.key);
                let listed = |value: &String| {
                    let values = expression.values.iter().flatten();
                    values.into_iter().any(|listed| listed == value)
                };
                match &*expression.operator {
                    "In" => value.is_some_and(listed),
                    "NotIn" => !value.is_some_and(listed),
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    // Unknown: as if it did not select, so that the pod counts as unguarded.
                    _ => false,
                }
            }))
            .all(|fits| fits)
    }
}

impl NetworkPolicy {
    fn openings(&self) -> Vec<Opening> {
        let opening = |cidr: Option<&str>, except: Option<&str>| Opening {
            policy: self.metadata.name.clone(),
            cidr: cidr.map(str::to_owned),
            except: except.map(str::to_owned),
        };
        let mut openings = Vec::new();
        let rules = self.spec.egress.iter().flatten();
        for rule in rules.filter(|rule| rule.has_port_80()) {
            let peers = rule.to.as_deref().unwrap_or_default();
            if peers.is_empty() {
                openings.push(opening(None, None));
            }
            for block in peers.iter().filter_map(|peer| peer.ip_block.as_ref()) {
                for (address, except) in [
                    (IpAddr::from(IPV4), "169.254.169.254/32"),
                    (IpAddr::from(IPV6), "fd00:ec2::254/128"),
                ] {
                    let excepted = block.except.iter().flatten();
                    if within(&block.cidr, address)
                        && !excepted.into_iter().any(|cidr| within(cidr, address))
                    {
                        openings.push(opening(Some(&block.cidr), Some(except)));
                    }
                }
            }
        }
        openings
    }
}

impl Egress {
    fn has_port_80(&self) -> bool {
        let ports = self.ports.as_deref().unwrap_or_default();
        ports.is_empty()
            || ports.iter().any(|port| {
                let tcp = port.protocol.as_deref().is_none_or(|name| name == "TCP");
                let fits = match &port.port {
                    None => true,
                    Some(serde_json::Value::Number(number)) => {
                        let first = number.as_u64().unwrap_or(0);
                        first <= 80 && 80 <= port.end_port.unwrap_or(first)
                    }
                    // A name belongs to containers; the service has none.
                    Some(_) => false,
                };
                tcp && fits
            })
    }
}

/// Whether a network such as `10.0.0.0/8` has the address in it; anything unreadable has not.
fn within(cidr: &str, address: IpAddr) -> bool {
    let Some((network, prefix)) = cidr.split_once('/') else {
        return false;
    };
    let (Ok(network), Ok(prefix)) = (network.parse::<IpAddr>(), prefix.parse::<u32>()) else {
        return false;
    };
    let shifted = |bits: u128, width: u32| bits.checked_shr(width - prefix).unwrap_or(0);
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) if prefix <= 32 => {
            let bits = |address: std::net::Ipv4Addr| u128::from(u32::from(address));
            shifted(bits(network), 32) == shifted(bits(address), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) if prefix <= 128 => {
            shifted(u128::from(network), 128) == shifted(u128::from(address), 128)
        }
        _ => false,
    }
}

/// All egress of the namespace but the service, both families.
fn manifest(namespace: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: no-metadata
  namespace: {}
spec:
  podSelector: {{}}
  policyTypes: [Egress]
  egress:
  - to:
    - ipBlock: {{cidr: 0.0.0.0/0, except: [{IPV4}/32]}}
    - ipBlock: {{cidr: \"::/0\", except: [\"{IPV6}/128\"]}}
",
        serde_json::Value::from(namespace)
    )
}

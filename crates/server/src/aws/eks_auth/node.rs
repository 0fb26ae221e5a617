//! Whose pods a caller may ask for (Pod Identity spec, section 5.2, step 1).
//!
//! Whoever is allowed `eks-auth:AssumeRoleForPodIdentity` on a cluster and holds a pod's token may ask, as in AWS: a person,
//! a program, an agent outside of AWS. A *node* may ask for its own pods only:
//!
//! | the caller | its pods |
//! | --- | --- |
//! | has a node's access entry in the cluster, and its node name can be told | those whose token names this node, or no node |
//! | has a node's access entry in the cluster, and its name cannot be told | all of the cluster |
//! | has a node's access entry in other clusters only | none |
//! | has none | all of the cluster: IAM alone decides |
//!
//! The name can be told of types whose username has the session name (`HYBRID_LINUX` and others), and of EC2 instances where
//! they are looked up (`nodeNames`, or EC2). A lookup that fails is a fault that passes; an instance that is not there any more
//! has no pods.

use countersign_access::EntryType;
use countersign_mapping::{Ec2InstanceId, NodeNameSource};
use countersign_store::{ClusterEntry, DirectorySnapshot};
use countersign_upstream::ec2::{InstanceLookup, LookupError};

use super::error::Refusal;
use crate::aws::Caller;

/// Who a caller is to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallerNode {
    /// A node of the cluster with one of these names.
    Named(Vec<String>),
    /// A node of the cluster; which one cannot be told.
    Unnamed,
    /// An instance of the cluster's nodes that is looked up.
    Instance(Ec2InstanceId, EntryType),
    /// Not a node.
    Other,
    /// A node of this other cluster.
    Foreign(String),
}

/// Who the caller is, from the access entries of its role.
pub(super) fn node_of(
    snapshot: &DirectorySnapshot,
    cluster: &ClusterEntry,
    caller: &Caller,
    looked_up: bool,
) -> CallerNode {
    let identity = caller.identity();
    let id = match caller.session() {
        Some(session) => session.principal.unique_id(),
        None => Some(identity.user_id()),
    };
    let Some(id) = id else {
        return CallerNode::Other;
    };
    let mut foreign = None;
    for (of, entry) in snapshot.access_entries_of(id) {
        let kind = entry.record.entry_type;
        if kind == EntryType::Standard {
            continue;
        }
        if of.record.id != cluster.record.id {
            foreign.get_or_insert_with(|| CallerNode::Foreign(of.record.name.to_string()));
            continue;
        }
        let session = identity.session_name();
        return match kind {
            EntryType::FargateLinux | EntryType::HybridLinux | EntryType::HyperpodLinux => {
                CallerNode::Named(vec![session.to_owned()])
            }
            EntryType::Ec2Linux | EntryType::Ec2Windows | EntryType::Ec2 => {
                match Ec2InstanceId::parse(session).filter(|_| looked_up) {
                    Some(instance) => CallerNode::Instance(instance, kind),
                    None => CallerNode::Unnamed,
                }
            }
            EntryType::Standard => CallerNode::Other,
        };
    }
    foreign.unwrap_or(CallerNode::Other)
}

/// The same, with the name of an instance.
///
/// # Errors
/// `AccessDeniedException` for an instance that is not there, `ServiceUnavailableException` when that cannot be told.
pub(super) async fn named(
    caller: CallerNode,
    nodes: Option<&InstanceLookup>,
) -> Result<CallerNode, Refusal> {
    let (CallerNode::Instance(instance, kind), Some(nodes)) = (&caller, nodes) else {
        return Ok(caller);
    };
    let source = match kind {
        EntryType::Ec2 => NodeNameSource::PrivateDnsNameOrInstanceId,
        _ => NodeNameSource::PrivateDnsName,
    };
    match nodes.facts(*instance, &source).await {
        Ok(facts) => {
            let mut names: Vec<String> = facts.private_dns_name.clone().into_iter().collect();
            if *kind == EntryType::Ec2 {
                names.push(instance.to_string());
            }
            Ok(CallerNode::Named(names))
        }
        Err(LookupError::NotFound | LookupError::Terminated) => Err(Refusal::NotYourPod(format!(
            "The calling instance {instance} does not exist."
        ))),
        Err(error) => {
            tracing::warn!(%instance, %error, "the node of a caller cannot be told");
            Err(Refusal::Unavailable(
                "The node of the caller cannot be told at the moment.",
            ))
        }
    }
}

/// Whether the caller may ask for anything of the cluster at all.
///
/// # Errors
/// `AccessDeniedException` for nodes of other clusters.
pub(super) fn check_cluster(caller: &CallerNode, cluster: &str) -> Result<(), Refusal> {
    match caller {
        CallerNode::Foreign(other) => Err(Refusal::NotYourPod(format!(
            "The caller is a node of cluster {other}, not of cluster {cluster}."
        ))),
        CallerNode::Named(_)
        | CallerNode::Unnamed
        | CallerNode::Instance(..)
        | CallerNode::Other => Ok(()),
    }
}

/// Whether the caller may ask for a pod whose token names this node.
///
/// # Errors
/// `AccessDeniedException` for pods of other nodes.
pub(super) fn check_pod(caller: &CallerNode, node: Option<&str>) -> Result<(), Refusal> {
    match (caller, node) {
        (CallerNode::Named(names), Some(node)) if !names.iter().any(|name| name == node) => {
            Err(Refusal::NotYourPod(
                "The token is of a pod on another node than the caller.".to_owned(),
            ))
        }
        _ => Ok(()),
    }
}

/// Whether what a caller says of the pod's node (`eksNodeName`) is what the token says. It proves nothing, and so allows nothing;
/// instance and zone that come with it are only recorded.
///
/// # Errors
/// `AccessDeniedException` for another node.
pub(super) fn check_stated(stated: Option<&str>, node: Option<&str>) -> Result<(), Refusal> {
    match (stated, node) {
        (Some(stated), Some(node)) if !stated.is_empty() && stated != node => {
            Err(Refusal::NotYourPod(
                "The token is of a pod on another node than eksNodeName says.".to_owned(),
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_ask_for_their_own_pods_only() {
        let named = CallerNode::Named(vec!["node-1".to_owned(), "i-0123456789abcdef0".to_owned()]);
        let cases = [
            (&named, Some("node-1"), true),
            (&named, Some("i-0123456789abcdef0"), true),
            (&named, Some("node-2"), false),
            (&named, Some("Node-1"), false),
            (&named, None, true),
            (&CallerNode::Unnamed, Some("node-2"), true),
            (&CallerNode::Other, Some("node-2"), true),
        ];
        for (caller, node, allowed) in cases {
            assert_eq!(
                check_pod(caller, node).is_ok(),
                allowed,
                "{caller:?} {node:?}"
            );
            assert!(check_cluster(caller, "c").is_ok());
        }
        assert!(check_cluster(&CallerNode::Foreign("d".to_owned()), "c").is_err());
        assert!(check_pod(&CallerNode::Named(Vec::new()), Some("x")).is_err());
        for (stated, node, allowed) in [
            (Some("a"), Some("a"), true),
            (Some("a"), Some("b"), false),
            (Some("a"), None, true),
            (Some(""), Some("b"), true),
            (None, Some("b"), true),
        ] {
            assert_eq!(
                check_stated(stated, node).is_ok(),
                allowed,
                "{stated:?} {node:?}"
            );
        }
    }
}

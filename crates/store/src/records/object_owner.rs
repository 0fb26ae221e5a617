//! Whom an association belongs to that an object of the cluster's Kubernetes API asked for (agent spec, section 9).

use countersign_arn::Arn;

use super::Cluster;

/// What such an owner is, in its ARN. EKS has no such resource, so that no add-on's ARN reads like it.
const RESOURCE: &str = "podidentityassociation-object/";

/// `arn:P:eks:R:A:podidentityassociation-object/CLUSTER/NAMESPACE/NAME`: what stands as `ownerArn` of the association that this object
/// asked for.
///
/// The object's uid is not in it: an object that is made again while nobody looks keeps its association.
#[must_use]
pub fn object_owner(cluster: &Cluster, namespace: &str, name: &str) -> String {
    format!(
        "arn:{}:eks:{}:{}:{RESOURCE}{}/{namespace}/{name}",
        cluster.partition, cluster.region, cluster.account, cluster.name
    )
}

/// Namespace and name of the object that an owner is, `None` for any other owner.
#[must_use]
pub fn owning_object(owner: &str) -> Option<(&str, &str)> {
    let object = Arn::parse(owner).ok()?.resource.strip_prefix(RESOURCE)?;
    let (_, object) = object.split_once('/')?;
    object.split_once('/')
}

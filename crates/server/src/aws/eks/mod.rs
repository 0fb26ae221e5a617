//! Elastic Kubernetes Service: clusters, their updates, access entries, access policies, pod identity associations, identity
//! provider configs and add-ons (EKS API spec). A family of operations is one file: a table of rows, and the handlers in them.

mod absent;
mod access_entries;
mod access_policies;
mod addon_catalogue;
mod addons;
mod change;
mod clusters;
mod describe;
mod error;
mod idempotency;
mod keys;
mod networks;
mod not_offered;
mod options;
mod pod_advice;
mod pod_identity;
mod pod_objects;
mod pod_sessions;
pub(in crate::aws) mod pod_trust;
mod provider_configs;
mod settings;
mod tags;
mod updates;

use std::sync::Arc;

use countersign_arn::Tag;
use countersign_store::records::AuthenticationMode;
use countersign_store::{ClusterEntry, ClusterPlace};

pub(super) use self::keys::{set_key, set_own_keys};
pub use self::options::EksOptions;
pub(crate) use self::pod_objects::{ObjectRefusal, check_association_object};
use super::ApiError;
use super::operation::{Call, Operation};
use super::target::Resource;

/// The tables of all families.
pub(super) const FAMILIES: &[&[Operation]] = &[
    clusters::OPERATIONS,
    updates::OPERATIONS,
    access_entries::OPERATIONS,
    access_policies::OPERATIONS,
    pod_identity::OPERATIONS,
    provider_configs::OPERATIONS,
    addons::OPERATIONS,
    tags::OPERATIONS,
    absent::OPERATIONS,
    not_offered::OPERATIONS,
];

/// What stands for the part of an ARN that only an existing thing has, so that callers without permission cannot find out
/// what there is (EKS API spec, section 15.1).
const NO_UUID: &str = "00000000-0000-0000-0000-000000000000";

// === Errors ===

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "InvalidParameterException", message)
}

fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::new(404, "ResourceNotFoundException", message)
}

/// The request does not fit the state of what it is about.
fn out_of_state(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "InvalidRequestException", message)
}

fn in_use(message: impl Into<String>) -> ApiError {
    ApiError::new(409, "ResourceInUseException", message)
}

fn no_such_cluster(name: &str) -> ApiError {
    not_found(format!("No cluster found for name: {name}."))
}

// === Clusters ===

/// The name of the cluster that a call is about.
fn cluster_name<'c>(call: &'c Call<'_>) -> &'c str {
    let input = &call.input;
    input
        .text("clusterName")
        .or_else(|| input.text("name"))
        .unwrap_or_default()
}

/// `arn:P:eks:R:A:RESOURCE` in the caller's account and the region of the call.
fn arn(call: &Call<'_>, resource: &str) -> Result<String, ApiError> {
    Ok(format!(
        "arn:{}:eks:{}:{}:{resource}",
        call.partition(),
        call.region(),
        call.account()?,
    ))
}

/// The cluster of the caller's account and region that has the name in the request.
fn existing_cluster<'c>(call: &'c Call<'_>) -> Result<Option<&'c Arc<ClusterEntry>>, ApiError> {
    let name = cluster_name(call);
    Ok(call
        .snapshot
        .cluster(call.account()?, call.region(), name)
        .filter(|cluster| cluster.record.status(call.now).is_some()))
}

/// The same, which must be there.
///
/// # Errors
/// `ResourceNotFoundException`.
fn cluster<'c>(call: &'c Call<'_>) -> Result<&'c Arc<ClusterEntry>, ApiError> {
    existing_cluster(call)?.ok_or_else(|| no_such_cluster(cluster_name(call)))
}

/// The cluster of a call as policies see it.
fn cluster_resource(call: &Call<'_>) -> Result<Resource, ApiError> {
    let arn = arn(call, &format!("cluster/{}", cluster_name(call)))?;
    Ok(match existing_cluster(call)? {
        Some(cluster) => Resource::tagged(arn, &cluster.record.tags),
        None => Resource::named(arn),
    })
}

/// The cluster of a call, for what hangs on it: it is not being deleted.
///
/// # Errors
/// `ResourceNotFoundException`, `InvalidRequestException`.
fn open_cluster<'c>(call: &'c Call<'_>) -> Result<&'c Arc<ClusterEntry>, ApiError> {
    let cluster = cluster(call)?;
    if cluster.record.deleting.is_some() {
        return Err(error::deleting(&cluster.record.name));
    }
    Ok(cluster)
}

/// The cluster of a call, for its access entries: it is not being deleted, and its mode has entries (section 4.3).
///
/// # Errors
/// `ResourceNotFoundException`, `InvalidRequestException`.
fn cluster_with_entries<'c>(call: &'c Call<'_>) -> Result<&'c Arc<ClusterEntry>, ApiError> {
    let cluster = open_cluster(call)?;
    if cluster.record.authentication_mode == AuthenticationMode::ConfigMap {
        return Err(error::mode_gate());
    }
    Ok(cluster)
}

/// Where the directory finds the cluster of a call.
///
/// # Errors
/// When nobody signed.
fn place<'c>(call: &'c Call<'_>) -> Result<ClusterPlace<'c>, ApiError> {
    Ok(ClusterPlace {
        account: call.account()?,
        region: call.region(),
        name: cluster_name(call),
    })
}

// === Tags ===

/// Tags that somebody may give (section 2.1): none of AWS's own, no control characters.
///
/// # Errors
/// `InvalidParameterException`
fn check_tags(tags: Vec<Tag>) -> Result<Vec<Tag>, ApiError> {
    check_tag_keys(tags.iter().map(|tag| &*tag.key))?;
    if tags
        .iter()
        .any(|tag| tag.value.chars().any(char::is_control))
    {
        return Err(invalid("Tag values must not have control characters"));
    }
    Ok(tags)
}

fn check_tag_keys<'k>(mut keys: impl Iterator<Item = &'k str>) -> Result<(), ApiError> {
    let fault = keys.find_map(|key| {
        if key.to_lowercase().starts_with("aws:") {
            Some("Tag keys beginning with aws: are reserved")
        } else if key.chars().any(char::is_control) {
            Some("Tag keys must not have control characters")
        } else {
            None
        }
    });
    fault.map_or(Ok(()), |text| Err(invalid(text)))
}

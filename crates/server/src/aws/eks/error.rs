//! What the directory refuses, in the words of EKS (EKS API spec, sections 1.4 and 16).

use countersign_store::records::owning_object;
use countersign_store::{CommitError, DirectoryError, Thing};

use super::{in_use, invalid, no_such_cluster, not_found, out_of_state};
use crate::aws::ApiError;

/// An entry that is not there, also when the ARN is none.
pub(super) fn no_such_entry() -> ApiError {
    not_found(
        "The specified principalArn could not be found. You can view your available access entries with 'list-access-entries'.",
    )
}

/// A policy that an entry does not have.
pub(super) fn not_associated() -> ApiError {
    not_found(
        "The specified policyArn could not be found. You can view your associated access policies with 'list-associated-access-policies'",
    )
}

/// An association that is not there.
pub(super) fn no_such_association(id: &str) -> ApiError {
    let shown: String = id.chars().take(64).collect();
    not_found(format!("No pod identity association found for ID: {shown}"))
}

/// A config that is not there.
pub(super) fn no_such_config(cluster: &str, name: &str) -> ApiError {
    let shown: String = name.chars().take(128).collect();
    not_found(format!(
        "No config found for cluster: {cluster}, config type: oidc, config name: {shown}"
    ))
}

/// An add-on that is not there.
pub(super) fn no_such_addon(cluster: &str, name: &str) -> ApiError {
    let shown: String = name.chars().take(128).collect();
    not_found(format!("No addon: {shown} found in cluster: {cluster}"))
}

/// A session policy is not in force together with session tags (section 10.2).
pub(super) fn policy_needs_tags_disabled() -> ApiError {
    invalid("When policy is specified, disableSessionTags must be set to true")
}

/// The cluster has no access entries in its mode (section 4.3).
pub(super) fn mode_gate() -> ApiError {
    out_of_state(
        "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this operation.",
    )
}

pub(super) fn deleting(name: &str) -> ApiError {
    out_of_state(format!("The cluster {name} is being deleted."))
}

/// The type of the entry does not take what is asked for (section 7.6).
pub(super) fn standard_only() -> ApiError {
    invalid("This operation can only be performed on Access Entries with a type of \"STANDARD\".")
}

/// The error of an operation of EKS.
pub(super) fn worded(error: DirectoryError) -> ApiError {
    match error {
        DirectoryError::Invalid(field) => invalid(field.to_string()),
        DirectoryError::NoSuchCluster(name) => no_such_cluster(&name),
        DirectoryError::ClusterExists(name) => {
            in_use(format!("Cluster already exists with name: {name}"))
        }
        DirectoryError::ClusterDeleting(name) => deleting(&name),
        DirectoryError::DeletionProtected(name) => out_of_state(format!(
            "Cluster {name} has deletion protection enabled. Disable it with update-cluster-config before deleting the cluster."
        )),
        DirectoryError::ClusterBusy { cluster, update } => in_use(match update {
            Some(id) => format!("Cluster {cluster} currently has update in progress: {id}"),
            None => format!("Cluster {cluster} is not in a state to be updated: CREATING"),
        }),
        DirectoryError::CreatorMustBeAdmin => invalid(
            "bootstrapClusterCreatorAdminPermissions must be true if cluster authentication mode is set to CONFIG_MAP",
        ),
        DirectoryError::UnsupportedModeChange { from, to } => invalid(format!(
            "Unsupported authentication mode update from {from} to {to}"
        )),
        DirectoryError::Refused(refused) => invalid(refused.0),
        DirectoryError::ModeWithoutEntries(_) => mode_gate(),
        DirectoryError::EntryTypeRefuses(_) => standard_only(),
        DirectoryError::NoSuch {
            what: Thing::AccessEntry,
            ..
        } => no_such_entry(),
        DirectoryError::NoSuch {
            what: Thing::PolicyAssociation,
            ..
        } => not_associated(),
        DirectoryError::Exists {
            what: Thing::AccessEntry,
            ..
        } => in_use("The specified access entry resource is already in use on this cluster."),
        DirectoryError::NoSuch {
            what: Thing::PodIdentityAssociation,
            name,
        } => no_such_association(&name),
        DirectoryError::Exists {
            what: Thing::PodIdentityAssociation,
            name,
        } => in_use(format!("Association already exists: {name}")),
        DirectoryError::Exists {
            what: Thing::IdentityProviderConfig,
            name,
        } => in_use(format!(
            "Identity provider config already exists with this name or issuer: {name}"
        )),
        DirectoryError::Exists {
            what: Thing::Addon, ..
        } => in_use("Addon already exists."),
        DirectoryError::AddonBusy { addon, update } => in_use(match update {
            Some(id) => format!("Addon {addon} currently has update in progress: {id}"),
            None => format!("Addon {addon} is being created or deleted."),
        }),
        DirectoryError::PolicyNeedsTagsDisabled => policy_needs_tags_disabled(),
        DirectoryError::PodSessions(invalid_sessions) => invalid(invalid_sessions.to_string()),
        DirectoryError::OwnedByAddon { id, owner } => out_of_state(match owning_object(&owner) {
            Some((namespace, name)) => format!(
                "The pod identity association {id} belongs to the PodIdentityAssociation {namespace}/{name} in the cluster. Change or delete it there."
            ),
            None => format!(
                "The pod identity association {id} belongs to the add-on {owner}. Change it with update-addon, or remove it there."
            ),
        }),
        DirectoryError::TokenReused => {
            invalid("clientRequestToken was already used with different parameters")
        }
        // Tags of one resource are no resources, and have another code.
        DirectoryError::QuotaExceeded {
            quota: "Tags",
            limit,
        } => invalid(format!("A resource has at most {limit} tags")),
        DirectoryError::QuotaExceeded { quota, limit } => ApiError::new(
            400,
            "ResourceLimitExceededException",
            match quota {
                "ClustersPerRegion" => {
                    format!("Cluster limit exceeded for account: at most {limit} in a region.")
                }
                "AccessEntriesPerCluster" => {
                    format!("Access entry limit exceeded for cluster: at most {limit}.")
                }
                "PodIdentityAssociationsPerCluster" => {
                    format!("Pod identity association limit exceeded for cluster: at most {limit}.")
                }
                _ => format!("The limit {quota} of {limit} is exceeded."),
            },
        ),
        DirectoryError::Contended | DirectoryError::Busy => {
            ApiError::new(429, "ThrottlingException", "Rate exceeded")
        }
        DirectoryError::Behind | DirectoryError::Store(CommitError::Unavailable(_)) => {
            ApiError::new(
                503,
                "ServiceUnavailableException",
                "The request has failed due to a temporary failure of the server.",
            )
        }
        error => ApiError::from(error),
    }
}

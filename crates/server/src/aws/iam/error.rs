//! What the directory refuses, in IAM's words (IAM API spec, sections 2.3, 2.4 and 3).

use countersign_store::{DirectoryError, Thing};

use crate::aws::ApiError;

/// A user that is not there.
pub(super) fn no_such_user(name: &str) -> ApiError {
    no_such(format!("The user with name {name} cannot be found."))
}

/// `NoSuchEntity` with this text.
pub(super) fn no_such(message: impl Into<String>) -> ApiError {
    ApiError::new(404, "NoSuchEntity", message)
}

fn exists(message: impl Into<String>) -> ApiError {
    ApiError::new(409, "EntityAlreadyExists", message)
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Invalid(field) => Self::new(400, "ValidationError", field.to_string()),
            DirectoryError::NoSuchUser(name) => no_such_user(&name),
            DirectoryError::UserExists(name) => {
                exists(format!("User with name {name} already exists."))
            }
            DirectoryError::NoSuchRole(name) => {
                no_such(format!("The role with name {name} cannot be found."))
            }
            DirectoryError::RoleExists(name) => {
                exists(format!("Role with name {name} already exists."))
            }
            DirectoryError::NoSuchAccessKey(id) => {
                no_such(format!("The Access Key with id {id} cannot be found."))
            }
            // Handlers of the three kinds of entities know which one it is and say so themselves.
            DirectoryError::NoSuchPolicy(name) => {
                no_such(format!("The policy with name {name} cannot be found."))
            }
            DirectoryError::NoSuch { what, name } => no_such(match what {
                Thing::Group => format!("The group with name {name} cannot be found."),
                Thing::ManagedPolicy => format!("Policy {name} was not found."),
                Thing::AttachablePolicy => {
                    format!("Policy {name} does not exist or is not attachable.")
                }
                Thing::Boundary => {
                    format!("Scope ARN: {name} does not exist or is not attachable.")
                }
                Thing::InstanceProfile => format!("Instance Profile {name} cannot be found."),
                Thing::OidcProvider => {
                    format!("OpenIDConnect Provider not found for arn {name}")
                }
                Thing::SamlProvider => format!("Manifest not found for arn {name}"),
                Thing::MfaDevice => {
                    format!("MFA Device with serial number {name} does not exist.")
                }
                Thing::LoginProfile => format!("Login Profile for User {name} cannot be found."),
                other => format!("The {other} {name} cannot be found."),
            }),
            DirectoryError::Exists { what, name } => exists(match what {
                Thing::Group => format!("Group with name {name} already exists."),
                Thing::ManagedPolicy | Thing::AttachablePolicy => {
                    format!(
                        "A policy called {name} already exists. Duplicate names are not allowed."
                    )
                }
                Thing::InstanceProfile => format!("Instance Profile {name} already exists."),
                Thing::OidcProvider => format!("Provider with url {name} already exists."),
                Thing::MfaDevice => "MFA device already exists.".to_owned(),
                Thing::LoginProfile => format!("Login Profile for user {name} already exists."),
                other => format!("The {other} {name} already exists."),
            }),
            DirectoryError::QuotaExceeded { quota, limit } => Self::new(
                409,
                "LimitExceeded",
                format!("Cannot exceed quota for {quota}: {limit}"),
            ),
            DirectoryError::DeleteConflict { what } => {
                Self::new(409, "DeleteConflict", conflict(what))
            }
            DirectoryError::Contended => Self::new(
                409,
                "ConcurrentModification",
                "The request was rejected because multiple requests to change this object were submitted simultaneously. Try again.",
            ),
            DirectoryError::Behind => Self::new(
                503,
                "ServiceUnavailable",
                "This replica does not receive changes at the moment. Try again.",
            ),
            // A record of a later version, the store, sealing: the log has it, the caller cannot do anything about it.
            error => {
                tracing::error!(%error, "a write to the directory failed");
                Self::new(
                    500,
                    "ServiceFailure",
                    "The request processing has failed because of an unknown error, exception or failure.",
                )
            }
        }
    }
}

/// What hangs on an entity, as the store names it, in IAM's words.
fn conflict(what: &str) -> &'static str {
    match what {
        "attached policies" => "Cannot delete entity, must detach all policies first.",
        "policies" => "Cannot delete entity, must delete policies first.",
        "instance profiles" | "roles" => {
            "Cannot delete entity, must remove roles from instance profile first."
        }
        "groups" | "users" => "Cannot delete entity, must remove users from group first.",
        "attachments" => "Cannot delete a policy attached to entities.",
        _ => "Cannot delete entity, must remove referenced objects first.",
    }
}

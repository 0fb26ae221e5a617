//! What the directory refuses, in IAM's words (IAM API spec, sections 2.3, 2.4 and 3).

use countersign_store::{CommitError, DirectoryError, EntityKind, Thing};

use crate::aws::ApiError;

/// A user that is not there.
pub(super) fn no_such_user(name: &str) -> ApiError {
    no_such(format!("The user with name {name} cannot be found."))
}

/// `NoSuchEntity` with this text.
pub(super) fn no_such(message: impl Into<String>) -> ApiError {
    ApiError::new(404, "NoSuchEntity", message)
}

/// A group that is not there.
pub(super) fn no_such_group(name: &str) -> ApiError {
    no_such(format!("The group with name {name} cannot be found."))
}

/// A role that is not there.
pub(super) fn no_such_role(name: &str) -> ApiError {
    no_such(format!("The role with name {name} cannot be found."))
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
            DirectoryError::AliasTaken(alias) => {
                exists(format!("The account alias {alias} already exists."))
            }
            DirectoryError::Password(fault) => {
                Self::new(400, "PasswordPolicyViolation", fault.to_string())
            }
            DirectoryError::WrongPassword => {
                Self::new(403, "AccessDenied", "The old password was incorrect.")
            }
            DirectoryError::WrongMfaCode => Self::new(
                403,
                "InvalidAuthenticationCode",
                "Authentication code for device is not valid.",
            ),
            DirectoryError::Busy => Self::new(400, "Throttling", "Rate exceeded"),
            DirectoryError::NoSuchRole(name) => no_such_role(&name),
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
                Thing::AttachablePolicy | Thing::PolicyVersion => {
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
                Thing::AccountAlias => {
                    format!("The account alias with name {name} cannot be found.")
                }
                Thing::PasswordPolicy => {
                    "The account policy with name PasswordPolicy cannot be found.".to_owned()
                }
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
                Thing::EnabledMfaDevice => "MFA Device is already in use.".to_owned(),
                Thing::LoginProfile => format!("Login Profile for user {name} already exists."),
                other => format!("The {other} {name} already exists."),
            }),
            DirectoryError::NoSuchRoleInProfile { role, profile } => no_such(format!(
                "Role {role} in Instance Profile {profile} cannot be found."
            )),
            DirectoryError::Protected(name) => protected(&name),
            DirectoryError::NotAttachable(_) => Self::new(
                400,
                "PolicyNotAttachable",
                "Cannot attach a Service Role Policy to a Customer Role.",
            ),
            DirectoryError::QuotaExceeded { quota, limit } => {
                Self::new(409, "LimitExceeded", quota_exceeded(quota, limit))
            }
            DirectoryError::InlinePoliciesTooLarge { kind, name, limit } => {
                let kind = match kind {
                    EntityKind::User => "user",
                    EntityKind::Group => "group",
                    EntityKind::Role => "role",
                };
                Self::new(
                    409,
                    "LimitExceeded",
                    format!("Maximum policy size of {limit} bytes exceeded for {kind} {name}"),
                )
            }
            // White space does not count against quotas; the store has a limit all the same.
            DirectoryError::Store(CommitError::Invalid(reason)) => {
                Self::new(409, "LimitExceeded", reason.to_string())
            }
            DirectoryError::Store(CommitError::Unavailable(_)) => Self::new(
                503,
                "ServiceUnavailable",
                "The request has failed due to a temporary failure of the server.",
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

/// A role that belongs to an AWS service.
pub(super) fn protected(name: &str) -> ApiError {
    ApiError::new(
        400,
        "UnmodifiableEntity",
        format!(
            "Cannot perform the operation on the protected role '{name}' - this role is only modifiable by AWS"
        ),
    )
}

fn quota_exceeded(quota: &str, limit: usize) -> String {
    match quota {
        "VersionsPerPolicy" => format!(
            "A managed policy can have up to {limit} versions. Before you create a new version, you must delete an existing version."
        ),
        "Tags" => "The number of tags has reached the maximum limit.".to_owned(),
        _ => format!("Cannot exceed quota for {quota}: {limit}"),
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
        "groups" | "users" | "members" => {
            "Cannot delete entity, must remove users from group first."
        }
        "a user it is enabled for" => "MFA VirtualDevice in use. Must deactivate first.",
        "attachments" => "Cannot delete a policy attached to entities.",
        "policy versions" => {
            "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy."
        }
        "default version" => "Cannot delete the default version of a policy.",
        _ => "Cannot delete entity, must remove referenced objects first.",
    }
}

//! Identity and Access Management. A family of operations is one file: a table of rows, and the handlers in them.

mod access_keys;
mod account;
mod attachments;
mod authorization_details;
mod boundaries;
mod credential_report;
mod error;
mod evaluation;
mod granted;
mod groups;
mod inline_policies;
mod instance_profiles;
mod last_accessed;
mod mfa;
mod not_offered;
mod oidc_providers;
mod outbound;
mod passwords;
mod policies;
mod qr_code;
mod reports;
mod roles;
mod saml_providers;
mod service_linked;
mod simulator;
mod tags;
mod users;

use countersign_arn::Tag;
use countersign_policy::SpecialRule;
use countersign_store::{DirectoryError, Entity, EntityKind, PolicyRef, Thing};

pub(super) use self::not_offered::NOT_OFFERED;
use super::ApiError;
use super::authorize::not_an_arn;
use super::operation::{Call, Operation};
use super::query::Member;

/// The tables of all families.
pub(super) const FAMILIES: &[&[Operation]] = &[
    users::OPERATIONS,
    access_keys::OPERATIONS,
    groups::OPERATIONS,
    roles::OPERATIONS,
    instance_profiles::OPERATIONS,
    policies::OPERATIONS,
    attachments::OPERATIONS,
    inline_policies::OPERATIONS,
    boundaries::OPERATIONS,
    oidc_providers::OPERATIONS,
    tags::OPERATIONS,
    account::OPERATIONS,
    simulator::OPERATIONS,
    service_linked::OPERATIONS,
    saml_providers::OPERATIONS,
    passwords::OPERATIONS,
    mfa::OPERATIONS,
    reports::OPERATIONS,
    outbound::OPERATIONS,
];

/// The tags of a call that makes something: keys that differ ignoring case, none of AWS's own (IAM API spec, section 2.5).
///
/// # Errors
/// `InvalidInput`.
fn new_tags(call: &Call<'_>) -> Result<Vec<Tag>, ApiError> {
    let tags = call.input.tags("Tags");
    check_tag_keys(
        tags.iter().map(|tag| tag.key.to_lowercase()).collect(),
        "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
    )?;
    Ok(tags)
}

/// The same for managed policies, whose tags have keys that differ by case.
///
/// # Errors
/// `InvalidInput`.
fn new_policy_tags(call: &Call<'_>) -> Result<Vec<Tag>, ApiError> {
    let tags = call.input.tags("Tags");
    check_tag_keys(
        tags.iter().map(|tag| tag.key.to_string()).collect(),
        "Duplicate tag keys found.",
    )?;
    Ok(tags)
}

fn check_tag_keys(mut keys: Vec<String>, duplicate: &str) -> Result<(), ApiError> {
    if keys
        .iter()
        .any(|key| key.to_lowercase().starts_with("aws:"))
    {
        return Err(invalid_input("Tag keys beginning with aws: are reserved."));
    }
    let given = keys.len();
    keys.sort_unstable();
    keys.dedup();
    if keys.len() < given {
        return Err(invalid_input(duplicate));
    }
    Ok(())
}

fn invalid_input(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "InvalidInput", message)
}

/// A list of tags.
fn tag_list(tags: &[Tag]) -> Member {
    Member::List(tags.iter().map(tag_member).collect())
}

fn tag_member(tag: &Tag) -> Member {
    Member::Structure(vec![
        ("Key", Member::Text(tag.key.to_string())),
        ("Value", Member::Text(tag.value.to_string())),
    ])
}

/// The member for a permissions boundary. Its type is `Policy`, whatever the service model says.
fn boundary_member(boundary: Option<&str>) -> Option<(&'static str, Member)> {
    let arn = boundary?;
    Some((
        "PermissionsBoundary",
        Member::Structure(vec![
            ("PermissionsBoundaryType", Member::Text("Policy".to_owned())),
            ("PermissionsBoundaryArn", Member::Text(arn.to_owned())),
        ]),
    ))
}

/// A policy that is to be a permissions boundary: of AWS, or of the caller's account.
///
/// # Errors
/// `InvalidInput` when it is no ARN of a policy, `NoSuchEntity` when there is none.
fn check_boundary(call: &Call<'_>, arn: &str) -> Result<(), ApiError> {
    if !is_policy_arn(arn) {
        return Err(invalid_input(not_an_arn(arn).message));
    }
    visible_policy(call, arn, Thing::Boundary).map(|_| ())
}

fn is_policy_arn(text: &str) -> bool {
    countersign_arn::Arn::parse(text).is_ok_and(|arn| {
        arn.service == "iam" && arn.region.is_empty() && arn.resource.starts_with("policy/")
    })
}

/// The managed policy that a parameter names by its ARN.
///
/// # Errors
/// `ValidationError` when the text is no ARN of a policy.
fn policy_arn<'a>(call: &Call<'a>, parameter: &str) -> Result<&'a str, ApiError> {
    let arn = call.input.required(parameter);
    if is_policy_arn(arn) {
        Ok(arn)
    } else {
        Err(not_an_arn(arn))
    }
}

/// The managed policy with this ARN, if it is one of the caller's account, or of AWS in the caller's partition.
///
/// # Errors
/// `NoSuchEntity` in the words for `what`.
fn visible_policy<'c>(
    call: &'c Call<'_>,
    arn: &str,
    what: Thing,
) -> Result<PolicyRef<'c>, ApiError> {
    let account = call.account()?;
    call.snapshot
        .policy_by_arn(arn)
        .filter(|policy| match policy {
            PolicyRef::Customer(policy) => policy.record.account == account,
            PolicyRef::Imported(_) | PolicyRef::Shipped(_) => {
                policy.arn_in(call.partition()) == arn
            }
        })
        .ok_or_else(|| {
            let name = arn.into();
            DirectoryError::NoSuch { what, name }.into()
        })
}

/// The ARN of a managed policy that a call changes. Only those of the caller's own account can be changed.
///
/// # Errors
/// `AccessDenied` with `refusal` for others, `ValidationError` when the text is no ARN of a policy.
fn own_policy_arn<'a>(call: &Call<'a>, refusal: &str) -> Result<&'a str, ApiError> {
    let arn = policy_arn(call, "PolicyArn")?;
    let account = call.account()?;
    let own = countersign_arn::Arn::parse(arn).is_ok_and(|arn| arn.account == account.as_str());
    if own {
        Ok(arn)
    } else {
        Err(ApiError::new(403, "AccessDenied", refusal))
    }
}

/// IAM's answer to a write that no policy can allow, in words of its own.
///
/// Of a protected role it speaks only to those who may read it: others would learn that it is there.
pub(super) fn ruled_out(
    call: &Call<'_>,
    rule: SpecialRule,
    arn: &str,
    may_read: impl FnOnce() -> bool,
) -> Option<ApiError> {
    match (rule, call.operation.name) {
        (SpecialRule::AwsManagedPolicy, operation) => {
            let refusal = match operation {
                "DeletePolicy" => NOT_YOURS_TO_DELETE,
                "DeletePolicyVersion" => NOT_YOUR_VERSION,
                _ => NOT_YOURS_TO_UPDATE,
            };
            Some(ApiError::new(403, "AccessDenied", refusal))
        }
        (SpecialRule::ProtectedRole, "CreateRole") => {
            let path = call.input.text("Path").unwrap_or("/");
            Some(invalid_input(format!(
                "The path {path} is for roles that are made by AWS."
            )))
        }
        (SpecialRule::ProtectedRole, _) if may_read() => {
            let name = arn.rsplit('/').next().unwrap_or_default();
            Some(error::protected(name))
        }
        _ => None,
    }
}

const NOT_YOURS_TO_DELETE: &str = "Cannot delete policies outside your own account.";
const NOT_YOUR_VERSION: &str =
    "Cannot delete policy versions for policies outside your own account.";
/// The refusal of operations that change a policy otherwise than by deleting it or a version of it.
const NOT_YOURS_TO_UPDATE: &str = "Cannot update policies outside your own account.";

/// The user, group or role that a call names, which is there and not protected.
///
/// # Errors
/// `NoSuchEntity`, `UnmodifiableEntity`.
fn changeable<'a>(call: &Call<'a>, kind: EntityKind) -> Result<Entity<'a>, ApiError> {
    let account = call.account()?;
    let entity = |name| Entity {
        account,
        kind,
        name,
    };
    let snapshot = &call.snapshot;
    match kind {
        EntityKind::User => {
            let name = call.input.required("UserName");
            snapshot
                .user(account, name)
                .ok_or_else(|| error::no_such_user(name))?;
            Ok(entity(name))
        }
        EntityKind::Group => {
            let name = call.input.required("GroupName");
            snapshot
                .group(account, name)
                .ok_or_else(|| error::no_such_group(name))?;
            Ok(entity(name))
        }
        EntityKind::Role => {
            let name = call.input.required("RoleName");
            let role = snapshot
                .role(account, name)
                .ok_or_else(|| error::no_such_role(name))?;
            if role.record.is_protected() {
                return Err(error::protected(&role.record.name));
            }
            Ok(entity(name))
        }
    }
}

//! Identity and Access Management. A family of operations is one file: a table of rows, and the handlers in them.

mod access_keys;
mod account;
mod attachments;
mod boundaries;
mod error;
mod groups;
mod inline_policies;
mod instance_profiles;
mod mfa;
mod not_offered;
mod oidc_providers;
mod outbound;
mod passwords;
mod policies;
mod reports;
mod roles;
mod saml_providers;
mod service_linked;
mod simulator;
mod tags;
mod users;

use countersign_arn::Tag;

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
    let mut keys: Vec<String> = tags.iter().map(|tag| tag.key.to_lowercase()).collect();
    if keys.iter().any(|key| key.starts_with("aws:")) {
        return Err(ApiError::new(
            400,
            "InvalidInput",
            "Tag keys beginning with aws: are reserved.",
        ));
    }
    keys.sort_unstable();
    keys.dedup();
    if keys.len() < tags.len() {
        return Err(ApiError::new(
            400,
            "InvalidInput",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ));
    }
    Ok(tags)
}

/// A list of tags.
fn tag_list(tags: &[Tag]) -> Member {
    let tag = |tag: &Tag| {
        Member::Structure(vec![
            ("Key", Member::Text(tag.key.to_string())),
            ("Value", Member::Text(tag.value.to_string())),
        ])
    };
    Member::List(tags.iter().map(tag).collect())
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
    let parsed = countersign_arn::Arn::parse(arn)
        .ok()
        .filter(|arn| arn.service == "iam" && arn.resource.starts_with("policy/"));
    let Some(parsed) = parsed else {
        return Err(ApiError::new(400, "InvalidInput", not_an_arn(arn).message));
    };
    let account = call.account()?;
    let usable = parsed.account == "aws" || *parsed.account == *account.as_str();
    if !usable || call.snapshot.policy_by_arn(arn).is_none() {
        return Err(ApiError::new(
            404,
            "NoSuchEntity",
            format!("Scope ARN: {arn} does not exist or is not attachable."),
        ));
    }
    Ok(())
}

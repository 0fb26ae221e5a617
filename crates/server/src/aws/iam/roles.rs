//! Roles (IAM API spec, section 4.4).

use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    ARN, DESCRIPTION, MARKER, MAX_ITEMS, MAX_SESSION_DURATION, NAME_64, PATH, PATH_PREFIX,
    POLICY_DOCUMENT, TAGS,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;
use countersign_policy::PolicyKind;
use countersign_store::records::{LastUsed, Role, TrustPolicy};
use countersign_store::{DirectoryError, EntityKind, NewRole, RoleChanges, RoleEntry};

use super::error::no_such_role;
use super::{new_tags, tag_list};
use crate::aws::ApiError;
use crate::aws::documents::check_document;
use crate::aws::operation::Call;
use crate::aws::page::PageRequest;
use crate::aws::query::Member;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateRole",
        &[
            optional("Path", PATH),
            required("RoleName", NAME_64),
            required("AssumeRolePolicyDocument", POLICY_DOCUMENT),
            optional("Description", DESCRIPTION),
            optional("MaxSessionDuration", MAX_SESSION_DURATION),
            optional("PermissionsBoundary", ARN),
            optional("Tags", TAGS),
        ],
        creates(Target::Role("RoleName")).tagging("iam:TagRole"),
        Answer::Write(|call| Box::pin(create_role(call))),
    ),
    iam(
        "GetRole",
        &[required("RoleName", NAME_64)],
        on(Target::Role("RoleName")),
        Answer::Read(get_role),
    ),
    iam(
        "ListRoles",
        &[
            optional("PathPrefix", PATH_PREFIX),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Any),
        Answer::Read(list_roles),
    ),
    iam(
        "UpdateRole",
        &[
            required("RoleName", NAME_64),
            optional("Description", DESCRIPTION),
            optional("MaxSessionDuration", MAX_SESSION_DURATION),
        ],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(update_role(call))),
    ),
    iam(
        "UpdateRoleDescription",
        &[
            required("RoleName", NAME_64),
            required("Description", DESCRIPTION),
        ],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(update_role_description(call))),
    ),
    iam(
        "UpdateAssumeRolePolicy",
        &[
            required("RoleName", NAME_64),
            required("PolicyDocument", POLICY_DOCUMENT),
        ],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(update_assume_role_policy(call))),
    ),
    iam(
        "DeleteRole",
        &[required("RoleName", NAME_64)],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(delete_role(call))),
    ),
];

async fn create_role(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let account = call.account()?;
    let boundary = input.text("PermissionsBoundary");
    if let Some(arn) = boundary {
        super::check_boundary(call, arn)?;
    }
    let tags = new_tags(call)?;
    let name = input.required("RoleName");
    let path = input.text("Path").unwrap_or("/");
    if call.snapshot.role(account, name).is_some() {
        return Err(DirectoryError::RoleExists(name.into()).into());
    }
    let new = NewRole {
        account,
        name: name.into(),
        path: path.into(),
        trust: trust_policy(call, input.required("AssumeRolePolicyDocument"))?,
        max_session_duration: max_session_duration(call).unwrap_or(DEFAULT_SESSION),
        description: input
            .text("Description")
            .filter(|text| !text.is_empty())
            .map(Into::into),
        tags,
        boundary: boundary.map(Into::into),
    };
    let role = call.directory.create_role(new, call.now).await?;
    Ok(one(created(call, &role)))
}

fn get_role(call: &Call<'_>) -> Result<Member, ApiError> {
    let role = &find(call)?.record;
    let mut members = listed(call, role);
    members.extend(super::boundary_member(role.boundary.as_deref()));
    if !role.tags.is_empty() {
        members.push(("Tags", tag_list(&role.tags)));
    }
    members.push(("RoleLastUsed", last_used(call, role)));
    Ok(one(members))
}

fn list_roles(call: &Call<'_>) -> Result<Member, ApiError> {
    let page = PageRequest::of(call)?;
    let prefix = call.input.text("PathPrefix").unwrap_or("/");
    let roles = call
        .snapshot
        .roles(call.account()?, page.after())
        .filter(|role| role.record.path.starts_with(prefix));
    let page = page.page(call, roles, |role| role.record.name.to_string())?;
    Ok(page.answer("Roles", |role| {
        Member::Structure(listed(call, &role.record))
    }))
}

async fn update_role(call: &Call<'_>) -> Result<Member, ApiError> {
    let changes = RoleChanges {
        description: call.input.text("Description"),
        max_session_duration: max_session_duration(call),
    };
    call.directory
        .update_role(call.account()?, call.input.required("RoleName"), changes)
        .await?;
    Ok(Member::Structure(Vec::new()))
}

async fn update_role_description(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let role = call
        .directory
        .set_role_description(
            call.account()?,
            input.required("RoleName"),
            input.required("Description"),
        )
        .await?;
    Ok(one(listed(call, &role)))
}

async fn update_assume_role_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let entity = super::changeable(call, EntityKind::Role)?;
    let trust = trust_policy(call, call.input.required("PolicyDocument"))?;
    call.directory
        .set_trust_policy(entity.account, entity.name, trust)
        .await?;
    Ok(Member::None)
}

async fn delete_role(call: &Call<'_>) -> Result<Member, ApiError> {
    call.directory
        .delete_role(call.account()?, call.input.required("RoleName"))
        .await?;
    Ok(Member::None)
}

/// The role that a call names.
///
/// # Errors
/// `NoSuchEntity`.
pub(super) fn find<'c>(call: &'c Call<'_>) -> Result<&'c RoleEntry, ApiError> {
    let name = call.input.required("RoleName");
    match call.snapshot.role(call.account()?, name) {
        Some(role) => Ok(role),
        None => Err(no_such_role(name)),
    }
}

/// A role as answers have it that make one.
pub(super) fn created(call: &Call<'_>, role: &Role) -> Vec<(&'static str, Member)> {
    let mut members = basic(call, role);
    members.extend(super::boundary_member(role.boundary.as_deref()));
    if !role.tags.is_empty() {
        members.push(("Tags", tag_list(&role.tags)));
    }
    members
}

/// A role as it is inside an instance profile.
pub(super) fn basic(call: &Call<'_>, role: &Role) -> Vec<(&'static str, Member)> {
    let trust = call.snapshot.shown_trust_policy(&role.trust);
    vec![
        ("Path", Member::Text(role.path.to_string())),
        ("RoleName", Member::Text(role.name.to_string())),
        ("RoleId", Member::Text(role.id.to_string())),
        ("Arn", Member::Text(role.arn())),
        ("CreateDate", Member::Time(role.created)),
        (
            "AssumeRolePolicyDocument",
            Member::Document(trust.into_owned()),
        ),
    ]
}

/// A role as lists have it.
fn listed(call: &Call<'_>, role: &Role) -> Vec<(&'static str, Member)> {
    let mut members = basic(call, role);
    if let Some(description) = &role.description {
        members.push(("Description", Member::Text(description.to_string())));
    }
    members.push((
        "MaxSessionDuration",
        Member::Number(role.max_session_duration.into()),
    ));
    members
}

/// What its sessions did last, within the time that AWS looks back.
pub(super) fn last_used(call: &Call<'_>, role: &Role) -> Member {
    let used = call.last_used(&role.id);
    let latest = used.as_ref().and_then(LastUsed::latest);
    Member::Structure(latest.map_or_else(Vec::new, |(_, last)| {
        vec![
            ("LastUsedDate", Member::Time(last.at)),
            ("Region", Member::Text(last.region.to_string())),
        ]
    }))
}

fn one(role: Vec<(&'static str, Member)>) -> Member {
    Member::Structure(vec![("Role", Member::Structure(role))])
}

fn max_session_duration(call: &Call<'_>) -> Option<u32> {
    call.input
        .integer("MaxSessionDuration")
        .and_then(|seconds| u32::try_from(seconds).ok())
}

/// Checks a trust policy; its principals are those who have the names now (policy language spec, section 1.6).
fn trust_policy(call: &Call<'_>, text: &str) -> Result<TrustPolicy, ApiError> {
    let valid = check_document(text, PolicyKind::Trust, &*call.snapshot)?;
    Ok(TrustPolicy::new(text, &valid.principal_ids))
}

const DEFAULT_SESSION: u32 = 3600;

//! Inline policies (IAM API spec, section 4.8).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{MARKER, MAX_ITEMS, NAME_64, NAME_128, POLICY_DOCUMENT};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;
use countersign_policy::PolicyKind;
use countersign_policy::validate::NoDirectory;
use countersign_store::records::InlinePolicy;
use countersign_store::{DirectoryError, EntityKind};

use super::changeable;
use super::error::{no_such, no_such_group, no_such_user};
use crate::aws::ApiError;
use crate::aws::documents::check_document;
use crate::aws::operation::Call;
use crate::aws::page::PageRequest;
use crate::aws::query::Member;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "PutUserPolicy",
        &[
            required("UserName", NAME_128),
            required("PolicyName", NAME_128),
            required("PolicyDocument", POLICY_DOCUMENT),
        ],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(put(call, EntityKind::User))),
    ),
    iam(
        "GetUserPolicy",
        &[
            required("UserName", NAME_128),
            required("PolicyName", NAME_128),
        ],
        on(Target::User("UserName")),
        Answer::Read(|call| get(call, EntityKind::User)),
    ),
    iam(
        "ListUserPolicies",
        &[
            required("UserName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::User("UserName")),
        Answer::Read(|call| list(call, EntityKind::User)),
    ),
    iam(
        "DeleteUserPolicy",
        &[
            required("UserName", NAME_128),
            required("PolicyName", NAME_128),
        ],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(delete(call, EntityKind::User))),
    ),
    iam(
        "PutGroupPolicy",
        &[
            required("GroupName", NAME_128),
            required("PolicyName", NAME_128),
            required("PolicyDocument", POLICY_DOCUMENT),
        ],
        on(Target::Group("GroupName")),
        Answer::Write(|call| Box::pin(put(call, EntityKind::Group))),
    ),
    iam(
        "GetGroupPolicy",
        &[
            required("GroupName", NAME_128),
            required("PolicyName", NAME_128),
        ],
        on(Target::Group("GroupName")),
        Answer::Read(|call| get(call, EntityKind::Group)),
    ),
    iam(
        "ListGroupPolicies",
        &[
            required("GroupName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Group("GroupName")),
        Answer::Read(|call| list(call, EntityKind::Group)),
    ),
    iam(
        "DeleteGroupPolicy",
        &[
            required("GroupName", NAME_128),
            required("PolicyName", NAME_128),
        ],
        on(Target::Group("GroupName")),
        Answer::Write(|call| Box::pin(delete(call, EntityKind::Group))),
    ),
    iam(
        "PutRolePolicy",
        &[
            required("RoleName", NAME_64),
            required("PolicyName", NAME_128),
            required("PolicyDocument", POLICY_DOCUMENT),
        ],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(put(call, EntityKind::Role))),
    ),
    iam(
        "GetRolePolicy",
        &[
            required("RoleName", NAME_64),
            required("PolicyName", NAME_128),
        ],
        on(Target::Role("RoleName")),
        Answer::Read(|call| get(call, EntityKind::Role)),
    ),
    iam(
        "ListRolePolicies",
        &[
            required("RoleName", NAME_64),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Role("RoleName")),
        Answer::Read(|call| list(call, EntityKind::Role)),
    ),
    iam(
        "DeleteRolePolicy",
        &[
            required("RoleName", NAME_64),
            required("PolicyName", NAME_128),
        ],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(delete(call, EntityKind::Role))),
    ),
];

async fn put(call: &Call<'_>, kind: EntityKind) -> Result<Member, ApiError> {
    let entity = changeable(call, kind)?;
    let document = call.input.required("PolicyDocument");
    check_document(document, PolicyKind::Identity, &NoDirectory)?;
    let policy = InlinePolicy {
        name: call.input.required("PolicyName").into(),
        document: document.into(),
    };
    call.directory.put_inline_policy(entity, policy).await?;
    Ok(Member::None)
}

async fn delete(call: &Call<'_>, kind: EntityKind) -> Result<Member, ApiError> {
    let entity = changeable(call, kind)?;
    call.directory
        .delete_inline_policy(entity, call.input.required("PolicyName"))
        .await
        .map_err(|error| match error {
            DirectoryError::NoSuchPolicy(name) => no_such_policy(kind, &name),
            other => other.into(),
        })?;
    Ok(Member::None)
}

fn get(call: &Call<'_>, kind: EntityKind) -> Result<Member, ApiError> {
    let (member, owner, policies) = owner(call, kind)?;
    let name = call.input.required("PolicyName");
    let policy = policies
        .iter()
        .find(|policy| *policy.name == *name)
        .ok_or_else(|| no_such_policy(kind, name))?;
    Ok(Member::Structure(vec![
        (member, Member::Text(owner.to_owned())),
        ("PolicyName", Member::Text(policy.name.to_string())),
        (
            "PolicyDocument",
            Member::Document(policy.document.to_string()),
        ),
    ]))
}

/// By name in lower case; those that differ by case only, by name.
fn list(call: &Call<'_>, kind: EntityKind) -> Result<Member, ApiError> {
    let (_, _, policies) = owner(call, kind)?;
    let page = PageRequest::of(call)?;
    let place = |name: &str| (name.to_ascii_lowercase(), name.to_owned());
    let mut places: Vec<_> = policies.iter().map(|policy| place(&policy.name)).collect();
    places.sort_unstable();
    let after = page.after().map(place);
    let behind = places
        .into_iter()
        .filter(|place| after.as_ref().is_none_or(|after| place > after))
        .map(|(_, name)| name);
    let page = page.page(call, behind, Clone::clone)?;
    Ok(page.answer("PolicyNames", Member::Text))
}

/// Who has the policies: the member for its name, the name, and the policies.
fn owner<'c>(
    call: &'c Call<'_>,
    kind: EntityKind,
) -> Result<(&'static str, &'c str, &'c [InlinePolicy]), ApiError> {
    let account = call.account()?;
    let input = &call.input;
    Ok(match kind {
        EntityKind::User => {
            let name = input.required("UserName");
            let user = call.snapshot.user(account, name);
            let record = &user.ok_or_else(|| no_such_user(name))?.record;
            ("UserName", &record.name, &record.policies)
        }
        EntityKind::Group => {
            let name = input.required("GroupName");
            let group = call.snapshot.group(account, name);
            let record = &group.ok_or_else(|| no_such_group(name))?.record;
            ("GroupName", &record.name, &record.policies)
        }
        EntityKind::Role => {
            let record = &super::roles::find(call)?.record;
            ("RoleName", &record.name, &record.policies)
        }
    })
}

fn no_such_policy(kind: EntityKind, name: &str) -> ApiError {
    let kind = match kind {
        EntityKind::User => "user",
        EntityKind::Group => "group",
        EntityKind::Role => "role",
    };
    no_such(format!(
        "The {kind} policy with name {name} cannot be found."
    ))
}

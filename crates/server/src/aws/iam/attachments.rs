//! Attached managed policies (IAM API spec, section 4.7).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{ARN, MARKER, MAX_ITEMS, NAME_64, NAME_128, POLICY_PATH};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;
use countersign_arn::Arn;
use countersign_store::EntityKind;

use super::error::{no_such_group, no_such_user};
use super::{changeable, policy_arn};
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::page::PageRequest;
use crate::aws::query::Member;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "AttachUserPolicy",
        &[required("UserName", NAME_64), required("PolicyArn", ARN)],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(attach(call, EntityKind::User))),
    ),
    iam(
        "DetachUserPolicy",
        &[required("UserName", NAME_64), required("PolicyArn", ARN)],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(detach(call, EntityKind::User))),
    ),
    iam(
        "ListAttachedUserPolicies",
        &[
            required("UserName", NAME_64),
            optional("PathPrefix", POLICY_PATH),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::User("UserName")),
        Answer::Read(|call| list_attached(call, EntityKind::User)),
    ),
    iam(
        "AttachGroupPolicy",
        &[required("GroupName", NAME_128), required("PolicyArn", ARN)],
        on(Target::Group("GroupName")),
        Answer::Write(|call| Box::pin(attach(call, EntityKind::Group))),
    ),
    iam(
        "DetachGroupPolicy",
        &[required("GroupName", NAME_128), required("PolicyArn", ARN)],
        on(Target::Group("GroupName")),
        Answer::Write(|call| Box::pin(detach(call, EntityKind::Group))),
    ),
    iam(
        "ListAttachedGroupPolicies",
        &[
            required("GroupName", NAME_128),
            optional("PathPrefix", POLICY_PATH),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Group("GroupName")),
        Answer::Read(|call| list_attached(call, EntityKind::Group)),
    ),
    iam(
        "AttachRolePolicy",
        &[required("RoleName", NAME_64), required("PolicyArn", ARN)],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(attach(call, EntityKind::Role))),
    ),
    iam(
        "DetachRolePolicy",
        &[required("RoleName", NAME_64), required("PolicyArn", ARN)],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(detach(call, EntityKind::Role))),
    ),
    iam(
        "ListAttachedRolePolicies",
        &[
            required("RoleName", NAME_64),
            optional("PathPrefix", POLICY_PATH),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Role("RoleName")),
        Answer::Read(|call| list_attached(call, EntityKind::Role)),
    ),
];

async fn attach(call: &Call<'_>, kind: EntityKind) -> Result<Member, ApiError> {
    let arn = policy_arn(call, "PolicyArn")?;
    let entity = changeable(call, kind)?;
    call.directory.attach_policy(entity, arn).await?;
    Ok(Member::None)
}

async fn detach(call: &Call<'_>, kind: EntityKind) -> Result<Member, ApiError> {
    let arn = policy_arn(call, "PolicyArn")?;
    let entity = changeable(call, kind)?;
    call.directory.detach_policy(entity, arn).await?;
    Ok(Member::None)
}

fn list_attached(call: &Call<'_>, kind: EntityKind) -> Result<Member, ApiError> {
    let account = call.account()?;
    let input = &call.input;
    let snapshot = &call.snapshot;
    let attached = match kind {
        EntityKind::User => {
            let name = input.required("UserName");
            let user = snapshot.user(account, name);
            &user.ok_or_else(|| no_such_user(name))?.record.attached
        }
        EntityKind::Group => {
            let name = input.required("GroupName");
            let group = snapshot.group(account, name);
            &group.ok_or_else(|| no_such_group(name))?.record.attached
        }
        EntityKind::Role => &super::roles::find(call)?.record.attached,
    };
    let page = PageRequest::of(call)?;
    let prefix = input.text("PathPrefix").unwrap_or("/");
    let mut policies: Vec<_> = attached
        .iter()
        .filter_map(|arn| {
            let (path, name) = path_and_name(arn)?;
            path.starts_with(prefix)
                .then_some((place(arn, name), name, arn))
        })
        .collect();
    policies.sort_unstable();
    let after = page.after().and_then(|key| {
        let (whose, name) = key.split_at_checked(1)?;
        Some((name.to_ascii_lowercase(), whose.to_owned(), name.to_owned()))
    });
    let behind = policies
        .into_iter()
        .filter(|(place, ..)| after.as_ref().is_none_or(|after| place > after));
    let page = page.page(call, behind, |((_, whose, _), name, _)| {
        format!("{whose}{name}")
    })?;
    Ok(page.answer("AttachedPolicies", |(_, name, arn)| {
        Member::Structure(vec![
            ("PolicyName", Member::Text(name.to_owned())),
            ("PolicyArn", Member::Text(arn.to_string())),
        ])
    }))
}

/// Where a policy stands in a list: by name, of two with the same name that of AWS first.
fn place(arn: &str, name: &str) -> (String, String, String) {
    let of_aws = Arn::parse(arn).is_ok_and(|arn| arn.account == "aws");
    let whose = if of_aws { "a" } else { "b" };
    (name.to_ascii_lowercase(), whose.to_owned(), name.to_owned())
}

/// `/path/` and `Name` of `arn:P:iam::A:policy/path/Name`.
fn path_and_name(arn: &str) -> Option<(&str, &str)> {
    let resource = Arn::parse(arn).ok()?.resource.strip_prefix("policy")?;
    resource.split_at_checked(resource.rfind('/')? + 1)
}

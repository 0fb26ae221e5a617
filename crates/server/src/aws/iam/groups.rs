//! Groups (IAM API spec, section 4.3).

use countersign_store::records::{Group, fold_name};
use countersign_store::{GroupChange, GroupEntry, NewGroup};

use super::error::{no_such, no_such_user};
use super::users;
use crate::aws::ApiError;
use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Call, Operation, iam};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::kinds::{MARKER, MAX_ITEMS, NAME_128, PATH, PATH_PREFIX};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateGroup",
        &[optional("Path", PATH), required("GroupName", NAME_128)],
        creates(Target::Group("GroupName")),
        Answer::Write(|call| Box::pin(create_group(call))),
    ),
    iam(
        "GetGroup",
        &[
            required("GroupName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Group("GroupName")),
        Answer::Read(get_group),
    ),
    iam(
        "ListGroups",
        &[
            optional("PathPrefix", PATH_PREFIX),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Any),
        Answer::Read(list_groups),
    ),
    iam(
        "UpdateGroup",
        &[
            required("GroupName", NAME_128),
            optional("NewPath", PATH),
            optional("NewGroupName", NAME_128),
        ],
        on(Target::Group("GroupName")),
        Answer::Write(|call| Box::pin(update_group(call))),
    ),
    iam(
        "DeleteGroup",
        &[required("GroupName", NAME_128)],
        on(Target::Group("GroupName")),
        Answer::Write(|call| Box::pin(delete_group(call))),
    ),
    iam(
        "AddUserToGroup",
        &[
            required("GroupName", NAME_128),
            required("UserName", NAME_128),
        ],
        on(Target::Group("GroupName")),
        Answer::Write(|call| Box::pin(add_user_to_group(call))),
    ),
    iam(
        "RemoveUserFromGroup",
        &[
            required("GroupName", NAME_128),
            required("UserName", NAME_128),
        ],
        on(Target::Group("GroupName")),
        Answer::Write(|call| Box::pin(remove_user_from_group(call))),
    ),
    iam(
        "ListGroupsForUser",
        &[
            required("UserName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::User("UserName")),
        Answer::Read(list_groups_for_user),
    ),
];

async fn create_group(call: &Call<'_>) -> Result<Member, ApiError> {
    let new = NewGroup {
        account: call.account()?,
        name: call.input.required("GroupName").into(),
        path: call.input.text("Path").unwrap_or("/").into(),
    };
    let group = call.directory.create_group(new, call.now).await?;
    Ok(Member::Structure(vec![("Group", basic(&group))]))
}

fn get_group(call: &Call<'_>) -> Result<Member, ApiError> {
    let name = call.input.required("GroupName");
    let group = call
        .snapshot
        .group(call.account()?, name)
        .ok_or_else(|| no_such(format!("The group with name {name} cannot be found.")))?;
    let page = PageRequest::of(call)?;
    let members = call.snapshot.group_members(group, page.after());
    let page = page.page(call, members, |user| user.record.name.to_string())?;
    let mut answer = vec![("Group", basic(&group.record))];
    answer.extend(page.members("Users", |user| {
        Member::Structure(users::listed(call, &user.record))
    }));
    Ok(Member::Structure(answer))
}

fn list_groups(call: &Call<'_>) -> Result<Member, ApiError> {
    let page = PageRequest::of(call)?;
    let prefix = call.input.text("PathPrefix").unwrap_or("/");
    let groups = call
        .snapshot
        .groups(call.account()?, page.after())
        .filter(|group| group.record.path.starts_with(prefix));
    let page = page.page(call, groups, |group| group.record.name.to_string())?;
    Ok(page.answer("Groups", |group| basic(&group.record)))
}

async fn update_group(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let change = GroupChange {
        name: input.text("NewGroupName").map(Into::into),
        path: input.text("NewPath").map(Into::into),
    };
    call.directory
        .update_group(call.account()?, input.required("GroupName"), change)
        .await?;
    Ok(Member::None)
}

async fn delete_group(call: &Call<'_>) -> Result<Member, ApiError> {
    call.directory
        .delete_group(call.account()?, call.input.required("GroupName"))
        .await?;
    Ok(Member::None)
}

async fn add_user_to_group(call: &Call<'_>) -> Result<Member, ApiError> {
    let (group, user) = (
        call.input.required("GroupName"),
        call.input.required("UserName"),
    );
    call.directory
        .add_user_to_group(call.account()?, group, user)
        .await?;
    Ok(Member::None)
}

async fn remove_user_from_group(call: &Call<'_>) -> Result<Member, ApiError> {
    let (group, user) = (
        call.input.required("GroupName"),
        call.input.required("UserName"),
    );
    call.directory
        .remove_user_from_group(call.account()?, group, user)
        .await?;
    Ok(Member::None)
}

fn list_groups_for_user(call: &Call<'_>) -> Result<Member, ApiError> {
    let name = call.input.required("UserName");
    let user = call
        .snapshot
        .user(call.account()?, name)
        .ok_or_else(|| no_such_user(name))?;
    let folded = |group: &GroupEntry| fold_name(&group.record.name).into_owned();
    let page = PageRequest::of(call)?;
    let after = page.after().map(str::to_ascii_lowercase);
    let mut groups: Vec<_> = call
        .snapshot
        .groups_of(user)
        .map(|group| (folded(group), group))
        .filter(|(name, _)| after.as_ref().is_none_or(|after| name > after))
        .collect();
    groups.sort_by(|one, other| one.0.cmp(&other.0));
    let page = page.page(call, groups.into_iter(), |(name, _)| name.clone())?;
    Ok(page.answer("Groups", |(_, group)| basic(&group.record)))
}

fn basic(group: &Group) -> Member {
    Member::Structure(vec![
        ("Path", Member::Text(group.path.to_string())),
        ("GroupName", Member::Text(group.name.to_string())),
        ("GroupId", Member::Text(group.id.to_string())),
        ("Arn", Member::Text(group.arn())),
        ("CreateDate", Member::Time(group.created)),
    ])
}

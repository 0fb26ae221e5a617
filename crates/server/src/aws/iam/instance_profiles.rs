//! Instance profiles (IAM API spec, section 4.5).

use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{MARKER, MAX_ITEMS, NAME_64, NAME_128, PATH, PATH_PREFIX, TAGS};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;
use std::sync::Arc;

use countersign_store::records::InstanceProfile;
use countersign_store::{InstanceProfileEntry, NewInstanceProfile};

use super::error::no_such;
use super::{new_tags, tag_list};
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::page::PageRequest;
use crate::aws::query::Member;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateInstanceProfile",
        &[
            required("InstanceProfileName", NAME_128),
            optional("Path", PATH),
            optional("Tags", TAGS),
        ],
        creates(Target::InstanceProfile("InstanceProfileName")).tagging("iam:TagInstanceProfile"),
        Answer::Write(|call| Box::pin(create_instance_profile(call))),
    ),
    iam(
        "GetInstanceProfile",
        &[required("InstanceProfileName", NAME_128)],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::Read(get_instance_profile),
    ),
    iam(
        "ListInstanceProfiles",
        &[
            optional("PathPrefix", PATH_PREFIX),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Any),
        Answer::Read(list_instance_profiles),
    ),
    iam(
        "ListInstanceProfilesForRole",
        &[
            required("RoleName", NAME_64),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Role("RoleName")),
        Answer::Read(list_instance_profiles_for_role),
    ),
    iam(
        "AddRoleToInstanceProfile",
        &[
            required("InstanceProfileName", NAME_128),
            required("RoleName", NAME_64),
        ],
        on(Target::InstanceProfile("InstanceProfileName")).passing("RoleName", "ec2.amazonaws.com"),
        Answer::Write(|call| Box::pin(add_role(call))),
    ),
    iam(
        "RemoveRoleFromInstanceProfile",
        &[
            required("InstanceProfileName", NAME_128),
            required("RoleName", NAME_64),
        ],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::Write(|call| Box::pin(remove_role(call))),
    ),
    iam(
        "DeleteInstanceProfile",
        &[required("InstanceProfileName", NAME_128)],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::Write(|call| Box::pin(delete_instance_profile(call))),
    ),
];

async fn create_instance_profile(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let new = NewInstanceProfile {
        account: call.account()?,
        name: input.required("InstanceProfileName").into(),
        path: input.text("Path").unwrap_or("/").into(),
        tags: new_tags(call)?,
    };
    let profile = call
        .directory
        .create_instance_profile(new, call.now)
        .await?;
    let mut members = basic(&profile);
    members.push(("Roles", Member::List(Vec::new())));
    if !profile.tags.is_empty() {
        members.push(("Tags", tag_list(&profile.tags)));
    }
    Ok(one(members))
}

fn get_instance_profile(call: &Call<'_>) -> Result<Member, ApiError> {
    let name = call.input.required("InstanceProfileName");
    let profile = call
        .snapshot
        .instance_profile(call.account()?, name)
        .ok_or_else(|| no_such(format!("Instance Profile {name} cannot be found.")))?;
    let mut members = listed(call, profile);
    members.push(("Tags", tag_list(&profile.record.tags)));
    Ok(one(members))
}

fn list_instance_profiles(call: &Call<'_>) -> Result<Member, ApiError> {
    let page = PageRequest::of(call)?;
    let prefix = call.input.text("PathPrefix").unwrap_or("/");
    let profiles = call
        .snapshot
        .instance_profiles(call.account()?, page.after())
        .filter(|profile| profile.record.path.starts_with(prefix));
    answer(call, &page, profiles)
}

fn list_instance_profiles_for_role(call: &Call<'_>) -> Result<Member, ApiError> {
    let role = super::roles::find(call)?;
    let page = PageRequest::of(call)?;
    let after = page.after().map(str::to_ascii_lowercase);
    let profiles = call.snapshot.instance_profiles_of(role).filter(|profile| {
        after
            .as_ref()
            .is_none_or(|after| profile.record.name.to_ascii_lowercase() > *after)
    });
    answer(call, &page, profiles)
}

fn answer<'c>(
    call: &'c Call<'_>,
    page: &PageRequest,
    profiles: impl Iterator<Item = &'c Arc<InstanceProfileEntry>>,
) -> Result<Member, ApiError> {
    let page = page.page(call, profiles, |profile| profile.record.name.to_string())?;
    Ok(page.answer("InstanceProfiles", |profile| {
        Member::Structure(listed(call, profile))
    }))
}

async fn add_role(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    call.directory
        .add_role_to_instance_profile(
            call.account()?,
            input.required("InstanceProfileName"),
            input.required("RoleName"),
        )
        .await?;
    Ok(Member::None)
}

async fn remove_role(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    call.directory
        .remove_role_from_instance_profile(
            call.account()?,
            input.required("InstanceProfileName"),
            input.required("RoleName"),
        )
        .await?;
    Ok(Member::None)
}

async fn delete_instance_profile(call: &Call<'_>) -> Result<Member, ApiError> {
    call.directory
        .delete_instance_profile(call.account()?, call.input.required("InstanceProfileName"))
        .await?;
    Ok(Member::None)
}

fn basic(profile: &InstanceProfile) -> Vec<(&'static str, Member)> {
    vec![
        ("Path", Member::Text(profile.path.to_string())),
        (
            "InstanceProfileName",
            Member::Text(profile.name.to_string()),
        ),
        ("InstanceProfileId", Member::Text(profile.id.to_string())),
        ("Arn", Member::Text(profile.arn())),
        ("CreateDate", Member::Time(profile.created)),
    ]
}

/// An instance profile with its role, without tags.
pub(super) fn listed(
    call: &Call<'_>,
    profile: &InstanceProfileEntry,
) -> Vec<(&'static str, Member)> {
    let roles = call
        .snapshot
        .role_in(profile)
        .map(|role| Member::Structure(super::roles::basic(call, &role.record)));
    let mut members = basic(&profile.record);
    members.push(("Roles", Member::List(roles.into_iter().collect())));
    members
}

fn one(profile: Vec<(&'static str, Member)>) -> Member {
    Member::Structure(vec![("InstanceProfile", Member::Structure(profile))])
}

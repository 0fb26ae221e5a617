//! Customer managed policies (IAM API spec, section 4.6).

use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    ANY_DESCRIPTION, ARN, BOOLEAN, ENTITY_FILTER, MARKER, MAX_ITEMS, NAME_128, PATH,
    POLICY_DOCUMENT, POLICY_PATH, POLICY_SCOPE, POLICY_USAGE, TAGS, VERSION_ID,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;
use std::collections::BTreeSet;

use countersign_arn::{AccountId, Partition};
use countersign_policy::PolicyKind;
use countersign_policy::validate::NoDirectory;
use countersign_store::{
    DirectoryError, EntityKind, NewManagedPolicy, PolicyRef, PolicyUser, Thing,
};

use super::{
    NOT_YOUR_VERSION, NOT_YOURS_TO_DELETE, NOT_YOURS_TO_UPDATE, own_policy_arn, policy_arn,
    tag_list, visible_policy,
};
use crate::aws::ApiError;
use crate::aws::documents::check_document;
use crate::aws::operation::Call;
use crate::aws::page::PageRequest;
use crate::aws::query::Member;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreatePolicy",
        &[
            required("PolicyName", NAME_128),
            optional("Path", POLICY_PATH),
            required("PolicyDocument", POLICY_DOCUMENT),
            optional("Description", ANY_DESCRIPTION),
            optional("Tags", TAGS),
        ],
        creates(Target::Policy("PolicyName")).tagging("iam:TagPolicy"),
        Answer::Write(|call| Box::pin(create_policy(call))),
    ),
    iam(
        "GetPolicy",
        &[required("PolicyArn", ARN)],
        on(Target::Arn("PolicyArn")),
        Answer::Read(get_policy),
    ),
    iam(
        "ListPolicies",
        &[
            optional("Scope", POLICY_SCOPE),
            optional("OnlyAttached", BOOLEAN),
            optional("PathPrefix", POLICY_PATH),
            optional("PolicyUsageFilter", POLICY_USAGE),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Any),
        Answer::Read(list_policies),
    ),
    iam(
        "DeletePolicy",
        &[required("PolicyArn", ARN)],
        on(Target::Arn("PolicyArn")),
        Answer::Write(|call| Box::pin(delete_policy(call))),
    ),
    iam(
        "CreatePolicyVersion",
        &[
            required("PolicyArn", ARN),
            required("PolicyDocument", POLICY_DOCUMENT),
            optional("SetAsDefault", BOOLEAN),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::Write(|call| Box::pin(create_policy_version(call))),
    ),
    iam(
        "GetPolicyVersion",
        &[
            required("PolicyArn", ARN),
            required("VersionId", VERSION_ID),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::Read(get_policy_version),
    ),
    iam(
        "ListPolicyVersions",
        &[
            required("PolicyArn", ARN),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::Read(list_policy_versions),
    ),
    iam(
        "SetDefaultPolicyVersion",
        &[
            required("PolicyArn", ARN),
            required("VersionId", VERSION_ID),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::Write(|call| Box::pin(set_default_policy_version(call))),
    ),
    iam(
        "DeletePolicyVersion",
        &[
            required("PolicyArn", ARN),
            required("VersionId", VERSION_ID),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::Write(|call| Box::pin(delete_policy_version(call))),
    ),
    iam(
        "ListEntitiesForPolicy",
        &[
            required("PolicyArn", ARN),
            optional("EntityFilter", ENTITY_FILTER),
            optional("PathPrefix", PATH),
            optional("PolicyUsageFilter", POLICY_USAGE),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::Read(list_entities_for_policy),
    ),
];

async fn create_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let account = call.account()?;
    let name = input.required("PolicyName");
    let tags = super::new_policy_tags(call)?;
    if call.snapshot.managed_policy(account, name).is_some() {
        return Err(DirectoryError::Exists {
            what: Thing::ManagedPolicy,
            name: name.into(),
        }
        .into());
    }
    let document = input.required("PolicyDocument");
    check_document(document, PolicyKind::Identity, &NoDirectory)?;
    let new = NewManagedPolicy {
        account,
        name: name.into(),
        path: input.text("Path").unwrap_or("/").into(),
        description: input
            .text("Description")
            .filter(|text| !text.is_empty())
            .map(Into::into),
        document: document.into(),
        tags,
    };
    let policy = call.directory.create_managed_policy(new, call.now).await?;
    let mut members = vec![
        ("PolicyName", Member::Text(policy.name.to_string())),
        ("PolicyId", Member::Text(policy.id.to_string())),
        ("Arn", Member::Text(policy.arn())),
        ("Path", Member::Text(policy.path.to_string())),
        ("DefaultVersionId", version_id(policy.default_version)),
        ("AttachmentCount", Member::Number(0)),
        ("PermissionsBoundaryUsageCount", Member::Number(0)),
        ("IsAttachable", Member::Bool(true)),
        ("CreateDate", Member::Time(policy.created)),
        ("UpdateDate", Member::Time(policy.updated)),
    ];
    if !policy.tags.is_empty() {
        members.push(("Tags", tag_list(&policy.tags)));
    }
    Ok(Member::Structure(vec![(
        "Policy",
        Member::Structure(members),
    )]))
}

fn get_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let arn = policy_arn(call, "PolicyArn")?;
    let policy = visible_policy(call, arn, Thing::ManagedPolicy)?;
    let tags = match policy {
        PolicyRef::Customer(policy) => &*policy.record.tags,
        PolicyRef::Imported(_) | PolicyRef::Shipped(_) => &[],
    };
    let mut members = summary(call, policy, policy.description())?;
    members.push(("Tags", tag_list(tags)));
    Ok(Member::Structure(vec![(
        "Policy",
        Member::Structure(members),
    )]))
}

/// Policies of AWS come before those of the account, so that one page order holds for both. `PolicyUsageFilter` alone
/// asks for policies that are used in that way, as `OnlyAttached` does for attached ones.
fn list_policies(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let account = call.account()?;
    let page = PageRequest::of(call)?;
    let scope = input.text("Scope").unwrap_or("All");
    let prefix = input.text("PathPrefix").unwrap_or("/");
    let usage = input.text("PolicyUsageFilter");
    let only_attached = input.boolean("OnlyAttached").unwrap_or(false);
    let wanted = |policy: &PolicyRef<'_>| {
        if !policy.path().starts_with(prefix) {
            return false;
        }
        if usage.is_none() && !only_attached {
            return true;
        }
        let arn = policy.arn_in(call.partition());
        let (attached, boundary) = call.snapshot.policy_use_count(account, &arn);
        match usage {
            Some("PermissionsBoundary") => boundary > 0,
            _ => attached > 0,
        }
    };
    let (of_aws, of_account) = match page.after().map(|key| key.split_at_checked(1)) {
        None => (Some(""), Some(None)),
        Some(Some((OF_AWS, name))) => (Some(name), Some(None)),
        Some(Some((_, name))) => (None, Some(Some(name))),
        Some(None) => (None, None),
    };
    let place = |name: &str| (name.to_ascii_lowercase(), name.to_owned());
    let of_aws = of_aws.filter(|_| scope != "Local").map(|after| {
        let after = place(after);
        let mut all = call.snapshot.policies_of_aws();
        all.retain(|policy| place(policy.name()) > after);
        all
    });
    let of_account = of_account
        .filter(|_| scope != "AWS")
        .map(|after| call.snapshot.managed_policies(account, after));
    let policies = of_aws
        .into_iter()
        .flatten()
        .chain(of_account.into_iter().flatten().map(PolicyRef::Customer))
        .filter(wanted);
    let page = page.page(call, policies, |policy| {
        let whose = if policy.is_aws() { OF_AWS } else { OF_ACCOUNT };
        format!("{whose}{}", policy.name())
    })?;
    let partition = call.partition();
    Ok(page.answer("Policies", |policy| {
        Member::Structure(summary_in(call, account, partition, policy, None))
    }))
}

const OF_AWS: &str = "a";
const OF_ACCOUNT: &str = "b";

async fn delete_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let arn = own_policy_arn(call, NOT_YOURS_TO_DELETE)?;
    call.directory
        .delete_managed_policy(call.account()?, arn)
        .await?;
    Ok(Member::None)
}

async fn create_policy_version(call: &Call<'_>) -> Result<Member, ApiError> {
    let arn = own_policy_arn(call, NOT_YOURS_TO_UPDATE)?;
    visible_policy(call, arn, Thing::ManagedPolicy)?;
    let document = call.input.required("PolicyDocument");
    check_document(document, PolicyKind::Identity, &NoDirectory)?;
    let default = call.input.boolean("SetAsDefault").unwrap_or(false);
    let version = call
        .directory
        .create_policy_version(call.account()?, arn, document, default, call.now)
        .await?;
    Ok(one_version(vec![
        ("VersionId", version_id(version.number)),
        ("IsDefaultVersion", Member::Bool(default)),
        ("CreateDate", Member::Time(version.created)),
    ]))
}

fn get_policy_version(call: &Call<'_>) -> Result<Member, ApiError> {
    let arn = policy_arn(call, "PolicyArn")?;
    let no_such = || no_such_version(call, arn);
    let policy = visible_policy(call, arn, Thing::AttachablePolicy).map_err(|_| no_such())?;
    let number = version_number(call).ok_or_else(no_such)?;
    let version = policy
        .versions()
        .into_iter()
        .find(|version| version.number == number)
        .ok_or_else(no_such)?;
    let document = policy.document_in(call.partition(), version.document);
    Ok(one_version(vec![
        ("Document", Member::Document(document.into_owned())),
        ("VersionId", version_id(number)),
        (
            "IsDefaultVersion",
            Member::Bool(number == policy.default_version()),
        ),
        ("CreateDate", Member::Time(version.created)),
    ]))
}

fn list_policy_versions(call: &Call<'_>) -> Result<Member, ApiError> {
    let arn = policy_arn(call, "PolicyArn")?;
    let policy = visible_policy(call, arn, Thing::AttachablePolicy)?;
    let page = PageRequest::of(call)?;
    let after = match page.after() {
        None => 0,
        Some(number) => number.parse().unwrap_or(u32::MAX),
    };
    let versions = policy
        .versions()
        .into_iter()
        .filter(|version| version.number > after);
    let page = page.page(call, versions, |version| version.number.to_string())?;
    Ok(page.answer("Versions", |version| {
        Member::Structure(vec![
            ("VersionId", version_id(version.number)),
            (
                "IsDefaultVersion",
                Member::Bool(version.number == policy.default_version()),
            ),
            ("CreateDate", Member::Time(version.created)),
        ])
    }))
}

async fn set_default_policy_version(call: &Call<'_>) -> Result<Member, ApiError> {
    let arn = own_policy_arn(call, NOT_YOURS_TO_UPDATE)?;
    let number = version_number(call).ok_or_else(|| no_such_version(call, arn))?;
    call.directory
        .set_default_policy_version(call.account()?, arn, number, call.now)
        .await?;
    Ok(Member::None)
}

async fn delete_policy_version(call: &Call<'_>) -> Result<Member, ApiError> {
    let arn = own_policy_arn(call, NOT_YOUR_VERSION)?;
    let number = version_number(call).ok_or_else(|| no_such_version(call, arn))?;
    call.directory
        .delete_policy_version(call.account()?, arn, number)
        .await?;
    Ok(Member::None)
}

/// Without `PolicyUsageFilter`, whoever has the policy attached or as boundary.
fn list_entities_for_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let arn = policy_arn(call, "PolicyArn")?;
    visible_policy(call, arn, Thing::AttachablePolicy)?;
    let account = call.account()?;
    let page = PageRequest::of(call)?;
    let usage = input.text("PolicyUsageFilter");
    let prefix = input.text("PathPrefix").unwrap_or("/");
    let filter = input.text("EntityFilter");
    let attached = (usage != Some("PermissionsBoundary")).then(|| call.snapshot.attached_to(arn));
    let boundary = (usage != Some("PermissionsPolicy")).then(|| call.snapshot.boundary_of(arn));
    let users: BTreeSet<&PolicyUser> = attached
        .into_iter()
        .flatten()
        .chain(boundary.into_iter().flatten())
        .filter(|user| user.account == account)
        .collect();
    let entities = users.into_iter().filter_map(|user| {
        let (kind, letter) = match user.kind {
            EntityKind::User => ("User", 'a'),
            EntityKind::Group => ("Group", 'b'),
            EntityKind::Role => ("Role", 'c'),
        };
        let key = format!("{letter}{}", user.name);
        let is_wanted = filter.is_none_or(|filter| filter == kind)
            && page.after().is_none_or(|after| *key > *after);
        is_wanted.then_some((user, key))
    });
    let entities = entities.filter_map(|(user, key)| {
        let snapshot = &call.snapshot;
        let (path, name, id) = match user.kind {
            EntityKind::User => {
                let record = &snapshot.user(account, &user.name)?.record;
                (&record.path, &record.name, &record.id)
            }
            EntityKind::Group => {
                let record = &snapshot.group(account, &user.name)?.record;
                (&record.path, &record.name, &record.id)
            }
            EntityKind::Role => {
                let record = &snapshot.role(account, &user.name)?.record;
                (&record.path, &record.name, &record.id)
            }
        };
        path.starts_with(prefix)
            .then_some((user.kind, name, id, key))
    });
    let page = page.page(call, entities, |(.., key)| key.clone())?;
    let of = |wanted: EntityKind, name_member, id_member| {
        let entities = page.items.iter().filter(|(kind, ..)| *kind == wanted);
        Member::List(
            entities
                .map(|(_, name, id, _)| {
                    Member::Structure(vec![
                        (name_member, Member::Text(name.to_string())),
                        (id_member, Member::Text(id.to_string())),
                    ])
                })
                .collect(),
        )
    };
    let mut members = vec![
        (
            "PolicyGroups",
            of(EntityKind::Group, "GroupName", "GroupId"),
        ),
        ("PolicyUsers", of(EntityKind::User, "UserName", "UserId")),
        ("PolicyRoles", of(EntityKind::Role, "RoleName", "RoleId")),
        ("IsTruncated", Member::Bool(page.marker.is_some())),
    ];
    members.extend(page.marker.map(|marker| ("Marker", Member::Text(marker))));
    Ok(Member::Structure(members))
}

/// A policy without its tags.
fn summary(
    call: &Call<'_>,
    policy: PolicyRef<'_>,
    description: Option<&str>,
) -> Result<Vec<(&'static str, Member)>, ApiError> {
    let account = call.account()?;
    Ok(summary_in(
        call,
        account,
        call.partition(),
        policy,
        description,
    ))
}

fn summary_in(
    call: &Call<'_>,
    account: AccountId,
    partition: Partition,
    policy: PolicyRef<'_>,
    description: Option<&str>,
) -> Vec<(&'static str, Member)> {
    let arn = policy.arn_in(partition);
    let (attached, boundary) = call.snapshot.policy_use_count(account, &arn);
    let count = |count: usize| Member::Number(i64::try_from(count).unwrap_or(i64::MAX));
    let mut members = vec![
        ("PolicyName", Member::Text(policy.name().to_owned())),
        ("PolicyId", Member::Text(policy.id().into_owned())),
        ("Arn", Member::Text(arn)),
        ("Path", Member::Text(policy.path().to_owned())),
        ("DefaultVersionId", version_id(policy.default_version())),
        ("AttachmentCount", count(attached)),
        ("PermissionsBoundaryUsageCount", count(boundary)),
        ("IsAttachable", Member::Bool(policy.is_attachable())),
    ];
    members.extend(description.map(|text| ("Description", Member::Text(text.to_owned()))));
    members.push(("CreateDate", Member::Time(policy.created())));
    members.push(("UpdateDate", Member::Time(policy.updated())));
    members
}

fn one_version(version: Vec<(&'static str, Member)>) -> Member {
    Member::Structure(vec![("PolicyVersion", Member::Structure(version))])
}

fn version_id(number: u32) -> Member {
    Member::Text(format!("v{number}"))
}

/// The number in `VersionId`. What may follow it behind a dot names no version that there is.
fn version_number(call: &Call<'_>) -> Option<u32> {
    call.input
        .required("VersionId")
        .strip_prefix('v')?
        .parse()
        .ok()
}

fn no_such_version(call: &Call<'_>, arn: &str) -> ApiError {
    let version = call.input.required("VersionId");
    DirectoryError::NoSuch {
        what: Thing::PolicyVersion,
        name: format!("{arn} version {version}").into(),
    }
    .into()
}

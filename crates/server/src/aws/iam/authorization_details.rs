//! GetAccountAuthorizationDetails: all of IAM in an account, in four lists (IAM API spec, section 5.2).
//!
//! A page goes through users, groups, roles, customer managed policies and policies of AWS in this sequence. Its marker is
//! a letter for the list and the name of the last entry, so that it stays good across writes.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_arn::{AccountId, Partition};
use countersign_store::records::{InlinePolicy, Role, User};
use countersign_store::{
    DirectorySnapshot, GroupEntry, InstanceProfileEntry, PolicyRef, RoleEntry, UserEntry,
};

use super::{boundary_member, tag_list, users};
use crate::aws::operation::Call;
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::{ApiError, internal_failure};

type Members = Vec<(&'static str, Member)>;

/// One entry of the four lists.
enum Entry<'s> {
    User(&'s Arc<UserEntry>),
    Group(&'s Arc<GroupEntry>),
    Role(&'s Arc<RoleEntry>),
    Policy(PolicyRef<'s>),
}

/// The lists in the sequence of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Users,
    Groups,
    Roles,
    Policies,
    PoliciesOfAws,
}

impl Section {
    const ALL: [(Self, char, &'static str); 5] = [
        (Self::Users, 'u', "User"),
        (Self::Groups, 'g', "Group"),
        (Self::Roles, 'r', "Role"),
        (Self::Policies, 'l', "LocalManagedPolicy"),
        (Self::PoliciesOfAws, 'a', "AWSManagedPolicy"),
    ];
}

/// What to go through, and where to begin.
struct Walk<'s> {
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    partition: Partition,
    /// Lists that are asked for; all when empty.
    filter: Vec<&'s str>,
    after: Option<(Section, &'s str)>,
}

/// Answers a call.
pub(super) fn get(call: &Call<'_>) -> Result<Member, ApiError> {
    let page = PageRequest::of(call)?;
    let account = call.account()?;
    let walk = Walk {
        snapshot: &call.snapshot,
        account,
        partition: call.partition(),
        filter: call.input.texts("Filter"),
        after: page.after().map(place).transpose()?,
    };
    let entries = Section::ALL
        .iter()
        .flat_map(|(section, _, name)| walk.entries(*section, name));
    let page = page.page(call, entries, key)?;
    let profiles = profiles_by_role(&call.snapshot, account);
    let mut lists: [Vec<Member>; 4] = Default::default();
    for entry in page.items {
        let [users, groups, roles, policies] = &mut lists;
        match entry {
            Entry::User(user) => users.push(user_detail(call, user)),
            Entry::Group(group) => groups.push(group_detail(call, group)),
            Entry::Role(role) => {
                let profiles = profiles
                    .get(&*role.record.id)
                    .map_or(&[][..], Vec::as_slice);
                roles.push(role_detail(call, role, profiles));
            }
            Entry::Policy(policy) => policies.push(policy_detail(call, policy)),
        }
    }
    let [users, groups, roles, policies] = lists;
    let mut members = vec![
        ("UserDetailList", Member::List(users)),
        ("GroupDetailList", Member::List(groups)),
        ("RoleDetailList", Member::List(roles)),
        ("Policies", Member::List(policies)),
        ("IsTruncated", Member::Bool(page.marker.is_some())),
    ];
    members.extend(page.marker.map(|marker| ("Marker", Member::Text(marker))));
    Ok(Member::Structure(members))
}

impl<'s> Walk<'s> {
    fn entries(&self, section: Section, name: &str) -> Box<dyn Iterator<Item = Entry<'s>> + 's> {
        let named = self.filter.contains(&name);
        let wanted = self.filter.is_empty() || named;
        let after = match self.after {
            Some((at, _)) if at > section => return Box::new(std::iter::empty()),
            Some((at, after)) if at == section => Some(after),
            _ => None,
        };
        if !wanted {
            return Box::new(std::iter::empty());
        }
        let (snapshot, account) = (self.snapshot, self.account);
        match section {
            Section::Users => Box::new(snapshot.users(account, after).map(Entry::User)),
            Section::Groups => Box::new(snapshot.groups(account, after).map(Entry::Group)),
            Section::Roles => Box::new(snapshot.roles(account, after).map(Entry::Role)),
            Section::Policies => {
                let policies = snapshot.managed_policies(account, after);
                Box::new(policies.map(|policy| Entry::Policy(PolicyRef::Customer(policy))))
            }
            Section::PoliciesOfAws => {
                let partition = self.partition;
                let place = |name: &str| (name.to_ascii_lowercase(), name.to_owned());
                let after = after.map(place);
                let policies = snapshot.policies_of_aws().into_iter();
                // Without the filter, those that somebody has.
                let policies = policies.filter(move |policy| {
                    let arn = policy.arn_in(partition);
                    named || snapshot.policy_use_count(account, &arn) != (0, 0)
                });
                let policies = policies.filter(move |policy| {
                    after
                        .as_ref()
                        .is_none_or(|after| place(policy.name()) > *after)
                });
                Box::new(policies.map(Entry::Policy))
            }
        }
    }
}

/// The key of an entry in a marker.
fn key(entry: &Entry<'_>) -> String {
    let (section, name) = match entry {
        Entry::User(user) => (Section::Users, &*user.record.name),
        Entry::Group(group) => (Section::Groups, &*group.record.name),
        Entry::Role(role) => (Section::Roles, &*role.record.name),
        Entry::Policy(policy) if policy.is_aws() => (Section::PoliciesOfAws, policy.name()),
        Entry::Policy(policy) => (Section::Policies, policy.name()),
    };
    let letter = Section::ALL
        .iter()
        .find(|(known, ..)| *known == section)
        .map_or('?', |(_, letter, _)| *letter);
    format!("{letter}{name}")
}

fn place(key: &str) -> Result<(Section, &str), ApiError> {
    // Only keys that were made here come out of a marker.
    Section::ALL
        .iter()
        .find_map(|(section, letter, _)| Some((*section, key.strip_prefix(*letter)?)))
        .ok_or_else(internal_failure)
}

fn profiles_by_role(
    snapshot: &DirectorySnapshot,
    account: AccountId,
) -> HashMap<&str, Vec<&InstanceProfileEntry>> {
    let mut by_role: HashMap<&str, Vec<&InstanceProfileEntry>> = HashMap::new();
    for profile in snapshot.instance_profiles(account, None) {
        if let Some(role) = &profile.record.role {
            by_role.entry(role).or_default().push(profile);
        }
    }
    by_role
}

fn user_detail(call: &Call<'_>, user: &UserEntry) -> Member {
    let record: &User = &user.record;
    let groups = call
        .snapshot
        .groups_of(user)
        .map(|group| Member::Text(group.record.name.to_string()));
    let mut members = users::basic(record);
    members.extend([
        ("UserPolicyList", inline(&record.policies)),
        ("GroupList", Member::List(groups.collect())),
        ("AttachedManagedPolicies", attached(call, &record.attached)),
    ]);
    members.extend(boundary_member(record.boundary.as_deref()));
    if !record.tags.is_empty() {
        members.push(("Tags", tag_list(&record.tags)));
    }
    Member::Structure(members)
}

fn group_detail(call: &Call<'_>, group: &GroupEntry) -> Member {
    let record = &group.record;
    Member::Structure(vec![
        ("Path", Member::Text(record.path.to_string())),
        ("GroupName", Member::Text(record.name.to_string())),
        ("GroupId", Member::Text(record.id.to_string())),
        ("Arn", Member::Text(group.arn.to_string())),
        ("CreateDate", Member::Time(record.created)),
        ("GroupPolicyList", inline(&record.policies)),
        ("AttachedManagedPolicies", attached(call, &record.attached)),
    ])
}

fn role_detail(call: &Call<'_>, role: &RoleEntry, profiles: &[&InstanceProfileEntry]) -> Member {
    let record = &role.record;
    let profiles = profiles.iter().map(|profile| {
        let inside = &profile.record;
        let mut members = vec![
            ("Path", Member::Text(inside.path.to_string())),
            ("InstanceProfileName", Member::Text(inside.name.to_string())),
            ("InstanceProfileId", Member::Text(inside.id.to_string())),
            ("Arn", Member::Text(profile.arn.to_string())),
            ("CreateDate", Member::Time(inside.created)),
            (
                "Roles",
                Member::List(vec![Member::Structure(basic_role(call, record))]),
            ),
        ];
        if !inside.tags.is_empty() {
            members.push(("Tags", tag_list(&inside.tags)));
        }
        Member::Structure(members)
    });
    let mut members = basic_role(call, record);
    members.extend([
        ("InstanceProfileList", Member::List(profiles.collect())),
        ("RolePolicyList", inline(&record.policies)),
        ("AttachedManagedPolicies", attached(call, &record.attached)),
    ]);
    members.extend(boundary_member(record.boundary.as_deref()));
    members.extend([
        ("Tags", tag_list(&record.tags)),
        ("RoleLastUsed", super::roles::last_used(call, record)),
    ]);
    Member::Structure(members)
}

fn basic_role(call: &Call<'_>, role: &Role) -> Members {
    vec![
        ("Path", Member::Text(role.path.to_string())),
        ("RoleName", Member::Text(role.name.to_string())),
        ("RoleId", Member::Text(role.id.to_string())),
        ("Arn", Member::Text(role.arn())),
        ("CreateDate", Member::Time(role.created)),
        (
            "AssumeRolePolicyDocument",
            Member::Document(call.snapshot.shown_trust_policy(&role.trust).into_owned()),
        ),
    ]
}

/// As GetPolicy, with the versions and their documents: all for customers' policies, the one in force for those of AWS.
fn policy_detail(call: &Call<'_>, policy: PolicyRef<'_>) -> Member {
    let partition = call.partition();
    let arn = policy.arn_in(partition);
    let (attachments, boundaries) = call.account().map_or((0, 0), |account| {
        call.snapshot.policy_use_count(account, &arn)
    });
    let count = |count: usize| Member::Number(i64::try_from(count).unwrap_or(i64::MAX));
    let in_force = policy.default_version();
    let versions = policy
        .versions()
        .into_iter()
        .rev()
        .filter(|version| !policy.is_aws() || version.number == in_force)
        .map(|version| {
            let document = policy.document_in(partition, version.document);
            Member::Structure(vec![
                ("Document", Member::Document(document.into_owned())),
                ("VersionId", Member::Text(format!("v{}", version.number))),
                ("IsDefaultVersion", Member::Bool(version.number == in_force)),
                ("CreateDate", Member::Time(version.created)),
            ])
        });
    let mut members = vec![
        ("PolicyName", Member::Text(policy.name().to_owned())),
        ("PolicyId", Member::Text(policy.id().into_owned())),
        ("Arn", Member::Text(arn)),
        ("Path", Member::Text(policy.path().to_owned())),
        ("DefaultVersionId", Member::Text(format!("v{in_force}"))),
        ("AttachmentCount", count(attachments)),
        ("PermissionsBoundaryUsageCount", count(boundaries)),
        ("IsAttachable", Member::Bool(policy.is_attachable())),
    ];
    if let Some(description) = policy.description() {
        members.push(("Description", Member::Text(description.to_owned())));
    }
    members.extend([
        ("CreateDate", Member::Time(policy.created())),
        ("UpdateDate", Member::Time(policy.updated())),
        ("PolicyVersionList", Member::List(versions.collect())),
    ]);
    Member::Structure(members)
}

fn inline(policies: &[InlinePolicy]) -> Member {
    let policy = |policy: &InlinePolicy| {
        Member::Structure(vec![
            ("PolicyName", Member::Text(policy.name.to_string())),
            (
                "PolicyDocument",
                Member::Document(policy.document.to_string()),
            ),
        ])
    };
    Member::List(policies.iter().map(policy).collect())
}

fn attached(call: &Call<'_>, arns: &[Box<str>]) -> Member {
    let policy = |arn: &str| {
        // A policy that is gone is still attached, under the last part of its ARN.
        let name = call.snapshot.policy_by_arn(arn).map_or_else(
            || arn.rsplit('/').next().unwrap_or_default(),
            PolicyRef::name,
        );
        Member::Structure(vec![
            ("PolicyName", Member::Text(name.to_owned())),
            ("PolicyArn", Member::Text(arn.to_owned())),
        ])
    };
    Member::List(arns.iter().map(|arn| policy(arn)).collect())
}

//! Entities that come as they are, with ids and dates, from another store or from AWS.

use std::collections::HashSet;

use countersign_arn::AccountId;
use countersign_arn::unique_id::Kind;

use super::accounts::find_account;
use super::policies::size;
use super::{Directory, DirectoryError, Thing, readable};
use crate::records::{
    AnyRecord, Group, InlinePolicy, InstanceProfile, InvalidField, ManagedPolicy, RecordKey, Role,
    User, check_description, check_group_name, check_instance_profile_name,
    check_max_session_duration, check_path, check_policy_name, check_policy_tags, check_role_name,
    check_tags, check_user_name,
};
use crate::{DirectorySnapshot, Key, Transaction};

/// Records of one transaction, below the limits of the store.
const RECORDS_AT_ONCE: usize = 60;
const BYTES_AT_ONCE: usize = 512 * 1024;

/// What is to be imported into one account. Documents were checked by who read them.
#[derive(Debug, Clone, Default)]
pub struct IamRecords {
    /// Customer managed policies.
    pub policies: Vec<ManagedPolicy>,
    /// Groups.
    pub groups: Vec<Group>,
    /// Roles; those of AWS's services too.
    pub roles: Vec<Role>,
    /// Users. They come without keys, passwords and MFA devices.
    pub users: Vec<User>,
    /// Instance profiles.
    pub instance_profiles: Vec<InstanceProfile>,
}

impl Directory {
    /// A unique id that nothing has.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn fresh_id(&self, kind: Kind, account: AccountId) -> Result<Box<str>, DirectoryError> {
        let snapshot = self.snapshot();
        let id = self.new_id(kind, account, |id| snapshot.principal(id).is_some())?;
        Ok(id.into())
    }

    /// Whether these records could be imported.
    ///
    /// # Errors
    /// The first thing that speaks against it; see [`DirectoryError`].
    pub fn check_import(
        &self,
        account: AccountId,
        records: &IamRecords,
    ) -> Result<(), DirectoryError> {
        let snapshot = self.snapshot();
        find_account(&snapshot, account)?;
        self.check_counts(&snapshot, account, records)?;
        self.check_records(account, records)?;
        let mut ids = HashSet::new();
        for id in records.ids() {
            if !ids.insert(id) || snapshot.principal(id).is_some() {
                return Err(InvalidField {
                    field: "a unique id",
                    expected: "one that nothing else has",
                }
                .into());
            }
        }
        for record in records.clone().into_records() {
            keyed(&snapshot, &record)?;
        }
        Ok(())
    }

    /// Makes what is in the records. Nothing is made when anything speaks against it that can be seen before.
    ///
    /// Large imports take several transactions: one that is broken off leaves the first ones made, and is finished by
    /// importing what is not there yet.
    ///
    /// # Errors
    /// As [`check_import`](Self::check_import), and when the store fails; see [`DirectoryError`].
    pub async fn import_iam(
        &self,
        account: AccountId,
        records: IamRecords,
    ) -> Result<(), DirectoryError> {
        self.check_import(account, &records)?;
        for chunk in chunks(records.into_records()) {
            self.write(|snapshot| {
                let (account_key, entry) = find_account(snapshot, account)?;
                let first = Transaction::new().if_unchanged(&account_key, entry.modified);
                let transaction = chunk.iter().try_fold(first, |transaction, record| {
                    let key = keyed(snapshot, record)?;
                    Ok::<_, DirectoryError>(transaction.if_absent(&key).put(&key, record.encode()))
                })?;
                Ok((transaction, ()))
            })
            .await?;
        }
        Ok(())
    }

    fn check_counts(
        &self,
        snapshot: &DirectorySnapshot,
        account: AccountId,
        records: &IamRecords,
    ) -> Result<(), DirectoryError> {
        let quotas = &self.0.quotas;
        for (quota, there, more, limit) in [
            (
                "UsersPerAccount",
                snapshot.user_count(account),
                records.users.len(),
                quotas.users_per_account,
            ),
            (
                "GroupsPerAccount",
                snapshot.group_count(account),
                records.groups.len(),
                quotas.groups_per_account,
            ),
            (
                "RolesPerAccount",
                snapshot.role_count(account),
                records.roles.len(),
                quotas.roles_per_account,
            ),
            (
                "PoliciesPerAccount",
                snapshot.managed_policy_count(account),
                records.policies.len(),
                quotas.policies_per_account,
            ),
            (
                "InstanceProfilesPerAccount",
                snapshot.instance_profile_count(account),
                records.instance_profiles.len(),
                quotas.instance_profiles_per_account,
            ),
        ] {
            if more > 0 {
                within(quota, there.saturating_add(more), limit)?;
            }
        }
        Ok(())
    }

    fn check_records(
        &self,
        account: AccountId,
        records: &IamRecords,
    ) -> Result<(), DirectoryError> {
        let quotas = &self.0.quotas;
        let accounts = records
            .policies
            .iter()
            .map(|policy| policy.account)
            .chain(records.groups.iter().map(|group| group.account))
            .chain(records.roles.iter().map(|role| role.account))
            .chain(records.users.iter().map(|user| user.account))
            .chain(records.instance_profiles.iter().map(|it| it.account));
        if accounts.into_iter().any(|of| of != account) {
            return Err(InvalidField {
                field: "the account of what is imported",
                expected: "the one it is imported into",
            }
            .into());
        }
        for policy in &records.policies {
            check_policy_name(&policy.name)?;
            check_path(&policy.path)?;
            check_policy_tags(&policy.tags)?;
            within(
                "VersionsPerPolicy",
                policy.versions.len(),
                quotas.versions_per_policy,
            )?;
            for version in &policy.versions {
                within("PolicySize", size(&version.document), quotas.policy_chars)?;
            }
            if policy.version(policy.default_version).is_none() {
                return Err(InvalidField {
                    field: "the default version of a policy",
                    expected: "one of its versions",
                }
                .into());
            }
        }
        for group in &records.groups {
            check_group_name(&group.name)?;
            check_path(&group.path)?;
            within(
                "PoliciesPerGroup",
                group.attached.len(),
                quotas.attached_policies,
            )?;
            check_inline(&group.policies, quotas.group_policy_chars)?;
        }
        for role in &records.roles {
            check_role_name(&role.name)?;
            check_path(&role.path)?;
            check_tags(&role.tags)?;
            check_max_session_duration(role.max_session_duration)?;
            role.description
                .as_deref()
                .map_or(Ok(()), check_description)?;
            within(
                "PoliciesPerRole",
                role.attached.len(),
                quotas.attached_policies,
            )?;
            check_inline(&role.policies, quotas.role_policy_chars)?;
            within(
                "ACLSizePerRole",
                size(&role.trust.document),
                quotas.trust_policy_chars,
            )?;
        }
        for user in &records.users {
            check_user_name(&user.name)?;
            check_path(&user.path)?;
            check_tags(&user.tags)?;
            within(
                "PoliciesPerUser",
                user.attached.len(),
                quotas.attached_policies,
            )?;
            within("GroupsPerUser", user.groups.len(), quotas.groups_per_user)?;
            check_inline(&user.policies, quotas.user_policy_chars)?;
        }
        for profile in &records.instance_profiles {
            check_instance_profile_name(&profile.name)?;
            check_path(&profile.path)?;
            check_tags(&profile.tags)?;
        }
        Ok(())
    }
}

impl IamRecords {
    fn ids(&self) -> impl Iterator<Item = &str> {
        let groups = self.groups.iter().map(|group| &*group.id);
        let roles = self.roles.iter().map(|role| &*role.id);
        let users = self.users.iter().map(|user| &*user.id);
        let policies = self.policies.iter().map(|policy| &*policy.id);
        let profiles = self.instance_profiles.iter().map(|profile| &*profile.id);
        groups
            .chain(roles)
            .chain(users)
            .chain(policies)
            .chain(profiles)
    }

    /// What others refer to comes first.
    fn into_records(self) -> Vec<AnyRecord> {
        let policies = self.policies.into_iter().map(AnyRecord::ManagedPolicy);
        let groups = self.groups.into_iter().map(AnyRecord::Group);
        let roles = self.roles.into_iter().map(AnyRecord::Role);
        let users = self.users.into_iter().map(AnyRecord::User);
        let profiles = self
            .instance_profiles
            .into_iter()
            .map(AnyRecord::InstanceProfile);
        policies
            .chain(groups)
            .chain(roles)
            .chain(users)
            .chain(profiles)
            .collect()
    }
}

fn chunks(records: Vec<AnyRecord>) -> Vec<Vec<AnyRecord>> {
    let mut chunks = Vec::new();
    let (mut chunk, mut bytes) = (Vec::new(), 0_usize);
    for record in records {
        let more = record.encode().len();
        if chunk.len() >= RECORDS_AT_ONCE
            || (!chunk.is_empty() && bytes.saturating_add(more) > BYTES_AT_ONCE)
        {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
        bytes = bytes.saturating_add(more);
        chunk.push(record);
    }
    chunks.push(chunk);
    chunks
}

/// The key of a record that is not there yet.
fn keyed(snapshot: &DirectorySnapshot, record: &AnyRecord) -> Result<Key, DirectoryError> {
    let exists = |what, name: &str| DirectoryError::Exists {
        what,
        name: name.into(),
    };
    let (key, taken) = match record {
        AnyRecord::ManagedPolicy(ManagedPolicy { account, name, .. }) => (
            RecordKey::ManagedPolicy {
                account: *account,
                name,
            },
            snapshot
                .managed_policy(*account, name)
                .map(|_| exists(Thing::ManagedPolicy, name)),
        ),
        AnyRecord::Group(Group { account, name, .. }) => (
            RecordKey::Group {
                account: *account,
                name,
            },
            snapshot
                .group(*account, name)
                .map(|_| exists(Thing::Group, name)),
        ),
        AnyRecord::Role(Role { account, name, .. }) => (
            RecordKey::Role {
                account: *account,
                name,
            },
            snapshot
                .role(*account, name)
                .map(|_| DirectoryError::RoleExists(name.clone())),
        ),
        AnyRecord::User(User { account, name, .. }) => (
            RecordKey::User {
                account: *account,
                name,
            },
            snapshot
                .user(*account, name)
                .map(|_| DirectoryError::UserExists(name.clone())),
        ),
        AnyRecord::InstanceProfile(InstanceProfile { account, name, .. }) => (
            RecordKey::InstanceProfile {
                account: *account,
                name,
            },
            snapshot
                .instance_profile(*account, name)
                .map(|_| exists(Thing::InstanceProfile, name)),
        ),
        _ => {
            return Err(InvalidField {
                field: "what is imported",
                expected: "a policy, group, role, user or instance profile",
            }
            .into());
        }
    };
    taken.map_or_else(|| readable(snapshot, key), Err)
}

fn within(quota: &'static str, count: usize, limit: usize) -> Result<(), DirectoryError> {
    if count > limit {
        return Err(DirectoryError::QuotaExceeded { quota, limit });
    }
    Ok(())
}

fn check_inline(policies: &[InlinePolicy], limit: usize) -> Result<(), DirectoryError> {
    for policy in policies {
        check_policy_name(&policy.name)?;
    }
    let total: usize = policies.iter().map(|policy| size(&policy.document)).sum();
    within("PolicySize", total, limit)
}

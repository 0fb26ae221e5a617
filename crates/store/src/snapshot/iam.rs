//! Reads of the IAM directory besides users, roles and keys.

use std::sync::Arc;

use countersign_arn::{AccountId, Arn};
use countersign_policy::tables;

use super::{
    AwsPolicyEntry, DirectorySnapshot, EntityKind, Entry, GroupEntry, InstanceProfileEntry,
    ManagedPolicyEntry, MfaDeviceEntry, NAME_BYTES, OidcProviderEntry, PolicyRef, PolicyUser,
    Principal, RoleEntry, SamlProviderEntry, UserEntry, behind, fold_into,
};
use crate::records::{Job, LastUsed};

impl DirectorySnapshot {
    /// The group with this name, ignoring case. O(log n).
    #[must_use]
    pub fn group(&self, account: AccountId, name: &str) -> Option<&Arc<GroupEntry>> {
        let mut buffer = [0; NAME_BYTES];
        let folded = fold_into(name, &mut buffer)?;
        self.accounts.get(&account)?.groups.get(folded)
    }

    /// The group with this unique id. O(1).
    #[must_use]
    pub fn group_by_id(&self, id: &str) -> Option<&Arc<GroupEntry>> {
        match self.principals.get(id)? {
            Principal::Group(group) => Some(group),
            Principal::User(_) | Principal::Role(_) => None,
        }
    }

    /// All groups of an account in the order of their folded names, behind `after` if given.
    pub fn groups(
        &self,
        account: AccountId,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Arc<GroupEntry>> {
        self.slot(account)
            .flat_map(move |slot| behind(&slot.groups, after.map(str::to_ascii_lowercase)))
    }

    /// How many groups an account has.
    #[must_use]
    pub fn group_count(&self, account: AccountId) -> usize {
        self.accounts
            .get(&account)
            .map_or(0, |slot| slot.groups.len())
    }

    /// The users in a group, in the order of their folded names, behind `after` if given.
    pub fn group_members<'a>(
        &'a self,
        group: &'a GroupEntry,
        after: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<UserEntry>> {
        let after = after.map(str::to_ascii_lowercase);
        self.members
            .get(&*group.record.id)
            .into_iter()
            .flatten()
            .filter(|(account, _)| *account == group.record.account)
            .skip_while(move |(_, name)| after.as_deref().is_some_and(|after| **name <= *after))
            .filter_map(|(account, name)| self.user(*account, name))
    }

    /// The groups a user is in, in the order it was added. Ids of groups that are not there are passed over.
    pub fn groups_of<'a>(
        &'a self,
        user: &'a UserEntry,
    ) -> impl Iterator<Item = &'a Arc<GroupEntry>> {
        user.record
            .groups
            .iter()
            .filter_map(|id| self.group_by_id(id))
            .filter(|group| group.record.account == user.record.account)
    }

    /// The customer managed policy with this name, ignoring case and path. O(log n).
    #[must_use]
    pub fn managed_policy(
        &self,
        account: AccountId,
        name: &str,
    ) -> Option<&Arc<ManagedPolicyEntry>> {
        let mut buffer = [0; NAME_BYTES];
        let folded = fold_into(name, &mut buffer)?;
        self.accounts.get(&account)?.policies.get(folded)
    }

    /// All customer managed policies of an account in the order of their folded names, behind `after` if given.
    pub fn managed_policies(
        &self,
        account: AccountId,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Arc<ManagedPolicyEntry>> {
        self.slot(account)
            .flat_map(move |slot| behind(&slot.policies, after.map(str::to_ascii_lowercase)))
    }

    /// How many customer managed policies an account has.
    #[must_use]
    pub fn managed_policy_count(&self, account: AccountId) -> usize {
        self.accounts
            .get(&account)
            .map_or(0, |slot| slot.policies.len())
    }

    /// The imported policy of AWS with this name.
    #[must_use]
    pub fn aws_policy(&self, name: &str) -> Option<&Arc<AwsPolicyEntry>> {
        self.aws_policies.get(name)
    }

    /// All imported policies of AWS, in the order of their names.
    pub fn aws_policies(&self) -> impl Iterator<Item = &Arc<AwsPolicyEntry>> {
        self.aws_policies.values()
    }

    /// The managed policy with exactly this ARN, path and case included; of AWS, in any partition.
    #[must_use]
    pub fn policy_by_arn(&self, arn: &str) -> Option<PolicyRef<'_>> {
        let parsed = Arn::parse(arn).ok()?;
        if parsed.service != "iam" || !parsed.region.is_empty() {
            return None;
        }
        let path_and_name = parsed.resource.strip_prefix("policy")?;
        let (at, name) = path_and_name
            .rfind('/')
            .and_then(|slash| path_and_name.split_at_checked(slash + 1))?;
        if parsed.account != "aws" {
            let policy = self.managed_policy(parsed.account.parse().ok()?, name)?;
            return (*policy.arn == *arn).then_some(PolicyRef::Customer(policy));
        }
        if let Some(policy) = self.aws_policy(name) {
            return (*policy.record.path == *at && *policy.record.name == *name)
                .then_some(PolicyRef::Imported(policy));
        }
        tables::managed_policies()
            .iter()
            .find(|policy| policy.name == name && policy.path == at)
            .map(PolicyRef::Shipped)
    }

    /// Who has the policy with this ARN attached: by account, kind and name.
    pub fn attached_to(&self, policy_arn: &str) -> impl Iterator<Item = &PolicyUser> {
        self.policy_users
            .get(policy_arn)
            .into_iter()
            .flat_map(|users| &users.attached)
    }

    /// Whose permissions boundary the policy with this ARN is: by account, kind and name.
    pub fn boundary_of(&self, policy_arn: &str) -> impl Iterator<Item = &PolicyUser> {
        self.policy_users
            .get(policy_arn)
            .into_iter()
            .flat_map(|users| &users.boundary)
    }

    /// How many users, groups and roles of an account have the policy attached, and of how many it is the boundary.
    #[must_use]
    pub fn policy_use_count(&self, account: AccountId, policy_arn: &str) -> (usize, usize) {
        let from = PolicyUser {
            account,
            kind: EntityKind::User,
            name: "".into(),
        };
        self.policy_users.get(policy_arn).map_or((0, 0), |users| {
            let count = |set: &imbl::OrdSet<PolicyUser>| {
                set.range(from.clone()..)
                    .take_while(|user| user.account == account)
                    .count()
            };
            (count(&users.attached), count(&users.boundary))
        })
    }

    /// The ARNs of all policies that somebody has attached or as boundary, in no particular order.
    pub fn used_policy_arns(&self) -> impl Iterator<Item = &str> {
        self.policy_users.keys().map(|arn| &**arn)
    }

    /// The instance profile with this name, ignoring case. O(log n).
    #[must_use]
    pub fn instance_profile(
        &self,
        account: AccountId,
        name: &str,
    ) -> Option<&Arc<InstanceProfileEntry>> {
        let mut buffer = [0; NAME_BYTES];
        let folded = fold_into(name, &mut buffer)?;
        self.accounts.get(&account)?.instance_profiles.get(folded)
    }

    /// All instance profiles of an account in the order of their folded names, behind `after` if given.
    pub fn instance_profiles(
        &self,
        account: AccountId,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Arc<InstanceProfileEntry>> {
        self.slot(account).flat_map(move |slot| {
            behind(&slot.instance_profiles, after.map(str::to_ascii_lowercase))
        })
    }

    /// The instance profiles that a role is in, in the order of their folded names.
    pub fn instance_profiles_of<'a>(
        &'a self,
        role: &'a RoleEntry,
    ) -> impl Iterator<Item = &'a Arc<InstanceProfileEntry>> {
        self.role_profiles
            .get(&*role.record.id)
            .into_iter()
            .flatten()
            .filter(|(account, _)| *account == role.record.account)
            .filter_map(|(account, name)| self.instance_profile(*account, name))
    }

    /// The role in an instance profile.
    #[must_use]
    pub fn role_in(&self, profile: &InstanceProfileEntry) -> Option<&Arc<RoleEntry>> {
        match self.principals.get(profile.record.role.as_deref()?)? {
            Principal::Role(role) if role.record.account == profile.record.account => Some(role),
            _ => None,
        }
    }

    /// How many instance profiles an account has.
    #[must_use]
    pub fn instance_profile_count(&self, account: AccountId) -> usize {
        self.accounts
            .get(&account)
            .map_or(0, |slot| slot.instance_profiles.len())
    }

    /// The OpenID Connect provider of an issuer, whose URL is given without `https://`. O(log n).
    #[must_use]
    pub fn oidc_provider(&self, account: AccountId, url: &str) -> Option<&Arc<OidcProviderEntry>> {
        self.accounts.get(&account)?.oidc_providers.get(url)
    }

    /// All OpenID Connect providers of an account in the order of their URLs.
    pub fn oidc_providers(
        &self,
        account: AccountId,
    ) -> impl Iterator<Item = &Arc<OidcProviderEntry>> {
        self.slot(account)
            .flat_map(|slot| slot.oidc_providers.values())
    }

    /// The SAML provider with this name, with case. O(log n).
    #[must_use]
    pub fn saml_provider(&self, account: AccountId, name: &str) -> Option<&Arc<SamlProviderEntry>> {
        self.accounts.get(&account)?.saml_providers.get(name)
    }

    /// All SAML providers of an account in the order of their names.
    pub fn saml_providers(
        &self,
        account: AccountId,
    ) -> impl Iterator<Item = &Arc<SamlProviderEntry>> {
        self.slot(account)
            .flat_map(|slot| slot.saml_providers.values())
    }

    /// The virtual MFA device with this name, with case. O(log n).
    #[must_use]
    pub fn mfa_device(&self, account: AccountId, name: &str) -> Option<&Arc<MfaDeviceEntry>> {
        self.accounts.get(&account)?.mfa_devices.get(name)
    }

    /// The virtual MFA device with this ARN as serial number. O(log n).
    #[must_use]
    pub fn mfa_device_by_serial(&self, serial: &str) -> Option<&Arc<MfaDeviceEntry>> {
        let parsed = Arn::parse(serial).ok()?;
        let name = parsed.resource.strip_prefix("mfa/")?.rsplit('/').next()?;
        let device = self.mfa_device(parsed.account.parse().ok()?, name)?;
        (*device.arn == *serial).then_some(device)
    }

    /// All virtual MFA devices of an account in the order of their names, behind `after` if given.
    pub fn mfa_devices(
        &self,
        account: AccountId,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Arc<MfaDeviceEntry>> {
        self.slot(account)
            .flat_map(move |slot| behind(&slot.mfa_devices, after.map(str::to_owned)))
    }

    /// The job with this id.
    #[must_use]
    pub fn job(&self, account: AccountId, id: &str) -> Option<&Arc<Entry<Job>>> {
        self.accounts.get(&account)?.jobs.get(id)
    }

    /// All jobs of an account, by id.
    pub fn jobs(&self, account: AccountId) -> impl Iterator<Item = &Arc<Entry<Job>>> {
        self.slot(account).flat_map(|slot| slot.jobs.values())
    }

    /// What the user, role or access key with this id used last, as far as it is in the store.
    #[must_use]
    pub fn last_used(&self, id: &str) -> Option<&Arc<LastUsed>> {
        self.last_used.get(id)
    }

    /// What every user, role and access key used last, in no particular order.
    pub fn all_last_used(&self) -> impl Iterator<Item = &Arc<LastUsed>> {
        self.last_used.values()
    }
}

//! Tags of everything that has some (IAM API spec, section 2.5).

use std::sync::Arc;

use countersign_arn::{AccountId, Arn, Tag};

use super::access_entries::entry_key;
use super::access_keys::find_user;
use super::addons::addon_key;
use super::instance_profiles::find_instance_profile;
use super::managed_policies::find_managed_policy;
use super::pod_identity::association_key;
use super::provider_configs::config_key;
use super::roles::find_role;
use super::{Directory, DirectoryError, Thing, missing};
use crate::records::{
    AnyRecord, Cluster, InvalidField, MAX_TAGS, PrincipalKind, RecordKey, check_eks_tags,
    check_policy_tags, check_tags, owning_object,
};
use crate::{AccessEntryEntry, ClusterEntry, DirectorySnapshot, Key, Revision, Transaction};

/// What has tags, as IAM's operations name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taggable<'a> {
    /// A user, by name.
    User(&'a str),
    /// A role, by name.
    Role(&'a str),
    /// An instance profile, by name.
    InstanceProfile(&'a str),
    /// A customer managed policy, by ARN. Tag keys differ by case.
    Policy(&'a str),
    /// An OpenID Connect provider, by ARN.
    OidcProvider(&'a str),
    /// A SAML provider, by ARN.
    SamlProvider(&'a str),
    /// A virtual MFA device, by serial number.
    MfaDevice(&'a str),
    /// A cluster, by ARN. Tag keys differ by case, and when the cluster was modified does not change.
    Cluster(&'a str),
    /// An access entry, by ARN. As a cluster.
    AccessEntry(&'a str),
    /// An identity provider config of a cluster, by ARN. As a cluster.
    IdentityProviderConfig(&'a str),
    /// An add-on of a cluster, by ARN. As a cluster.
    Addon(&'a str),
    /// A pod identity association, by ARN. As a cluster.
    PodIdentityAssociation(&'a str),
}

impl Taggable<'_> {
    /// The tags it has, in the order they were added.
    ///
    /// # Errors
    /// When it is not there.
    pub fn tags(
        self,
        snapshot: &DirectorySnapshot,
        account: AccountId,
    ) -> Result<Vec<Tag>, DirectoryError> {
        let (_, _, mut record) = find(snapshot, account, self)?;
        Ok(tags_of(&mut record).map(std::mem::take).unwrap_or_default())
    }

    const fn case(self) -> KeyCase {
        match self {
            Self::Policy(_)
            | Self::Cluster(_)
            | Self::AccessEntry(_)
            | Self::IdentityProviderConfig(_)
            | Self::Addon(_)
            | Self::PodIdentityAssociation(_) => KeyCase::Counts,
            Self::User(_)
            | Self::Role(_)
            | Self::InstanceProfile(_)
            | Self::OidcProvider(_)
            | Self::SamlProvider(_)
            | Self::MfaDevice(_) => KeyCase::Ignored,
        }
    }

    fn check(self, tags: &[Tag]) -> Result<(), InvalidField> {
        match (self, self.case()) {
            (Self::Policy(_), _) => check_policy_tags(tags),
            (_, KeyCase::Counts) => check_eks_tags(tags),
            (_, KeyCase::Ignored) => check_tags(tags),
        }
    }
}

impl Directory {
    /// Adds tags, each in the place of the one with its key if there is one; the key is then written as the new tag has it.
    ///
    /// # Errors
    /// When the thing is not there, the tags are none that it may have, or it would have too many; see [`DirectoryError`].
    pub async fn tag(
        &self,
        account: AccountId,
        what: Taggable<'_>,
        tags: &[Tag],
    ) -> Result<(), DirectoryError> {
        what.check(tags)?;
        self.change_tags(account, what, |current| put(current, tags, what.case()))
            .await
    }

    /// Takes the tags with these keys away; keys that no tag has are passed over.
    ///
    /// # Errors
    /// When the thing is not there; see [`DirectoryError`].
    pub async fn untag(
        &self,
        account: AccountId,
        what: Taggable<'_>,
        keys: &[&str],
    ) -> Result<(), DirectoryError> {
        self.change_tags(account, what, |current| {
            remove(current, keys, what.case());
            Ok(())
        })
        .await
    }

    async fn change_tags(
        &self,
        account: AccountId,
        what: Taggable<'_>,
        change: impl Fn(&mut Vec<Tag>) -> Result<(), DirectoryError>,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, modified, mut record) = find(snapshot, account, what)?;
            // The object says which tags there are.
            if let AnyRecord::PodIdentityAssociation(association) = &record
                && let Some(owner) = association.owner_arn.as_deref()
                && owning_object(owner).is_some()
            {
                return Err(DirectoryError::OwnedByAddon {
                    id: association.id.clone(),
                    owner: owner.into(),
                });
            }
            if let Some(tags) = tags_of(&mut record) {
                change(tags)?;
            }
            let transaction = Transaction::new()
                .if_unchanged(&key, modified)
                .put(&key, record.encode());
            Ok((transaction, ()))
        })
        .await
    }
}

/// Whether two keys that differ only by case are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyCase {
    /// They are: users, roles, instance profiles, providers, MFA devices.
    Ignored,
    /// They are two: managed policies, and what the EKS API has.
    Counts,
}

impl KeyCase {
    fn same(self, a: &str, b: &str) -> bool {
        match self {
            Self::Ignored => a == b || a.to_lowercase() == b.to_lowercase(),
            Self::Counts => a == b,
        }
    }
}

/// Sets tags: a key that is there gets the new value, and the case it is given now.
pub(super) fn put(tags: &mut Vec<Tag>, new: &[Tag], case: KeyCase) -> Result<(), DirectoryError> {
    for tag in new {
        match tags
            .iter_mut()
            .find(|known| case.same(&known.key, &tag.key))
        {
            Some(known) => known.clone_from(tag),
            None => tags.push(tag.clone()),
        }
    }
    if tags.len() > MAX_TAGS {
        return Err(DirectoryError::QuotaExceeded {
            quota: "Tags",
            limit: MAX_TAGS,
        });
    }
    Ok(())
}

/// Removes tags; keys that are not there are passed over.
pub(super) fn remove(tags: &mut Vec<Tag>, keys: &[impl AsRef<str>], case: KeyCase) {
    tags.retain(|tag| !keys.iter().any(|key| case.same(&tag.key, key.as_ref())));
}

fn tags_of(record: &mut AnyRecord) -> Option<&mut Vec<Tag>> {
    match record {
        AnyRecord::User(record) => Some(&mut record.tags),
        AnyRecord::Role(record) => Some(&mut record.tags),
        AnyRecord::InstanceProfile(record) => Some(&mut record.tags),
        AnyRecord::ManagedPolicy(record) => Some(&mut record.tags),
        AnyRecord::OidcProvider(record) => Some(&mut record.tags),
        AnyRecord::SamlProvider(record) => Some(&mut record.tags),
        AnyRecord::MfaDevice(record) => Some(&mut record.tags),
        AnyRecord::Cluster(record) => Some(&mut record.tags),
        AnyRecord::AccessEntry(record) => Some(&mut record.tags),
        AnyRecord::IdentityProviderConfig(record) => Some(&mut record.tags),
        AnyRecord::Addon(record) => Some(&mut record.tags),
        AnyRecord::PodIdentityAssociation(record) => Some(&mut record.tags),
        _ => None,
    }
}

fn find(
    snapshot: &DirectorySnapshot,
    account: AccountId,
    what: Taggable<'_>,
) -> Result<(Key, Revision, AnyRecord), DirectoryError> {
    Ok(match what {
        Taggable::User(name) => {
            let (key, user) = find_user(snapshot, account, name)?;
            (key, user.modified, AnyRecord::User(user.record.clone()))
        }
        Taggable::Role(name) => {
            let (key, role) = find_role(snapshot, account, name)?;
            (key, role.modified, AnyRecord::Role(role.record.clone()))
        }
        Taggable::InstanceProfile(name) => {
            let (key, profile) = find_instance_profile(snapshot, account, name)?;
            let record = AnyRecord::InstanceProfile(profile.record.clone());
            (key, profile.modified, record)
        }
        Taggable::Policy(arn) => {
            let (key, policy) = find_managed_policy(snapshot, account, arn)?;
            let record = AnyRecord::ManagedPolicy(policy.record.clone());
            (key, policy.modified, record)
        }
        Taggable::OidcProvider(arn) => {
            let url = below(account, arn, "oidc-provider/").unwrap_or_default();
            let key = RecordKey::OidcProvider { account, url };
            let entry = snapshot
                .oidc_provider(account, url)
                .filter(|entry| *entry.arn == *arn)
                .ok_or_else(|| no_such(snapshot, key, Thing::OidcProvider, arn))?;
            let record = AnyRecord::OidcProvider(entry.record.clone());
            (key.to_key()?, entry.modified, record)
        }
        Taggable::SamlProvider(arn) => {
            let name = below(account, arn, "saml-provider/").unwrap_or_default();
            let key = RecordKey::SamlProvider { account, name };
            let entry = snapshot
                .saml_provider(account, name)
                .filter(|entry| *entry.arn == *arn)
                .ok_or_else(|| no_such(snapshot, key, Thing::SamlProvider, arn))?;
            let record = AnyRecord::SamlProvider(entry.record.clone());
            (key.to_key()?, entry.modified, record)
        }
        Taggable::MfaDevice(serial) => {
            let name = below(account, serial, "mfa/")
                .and_then(|path| path.rsplit('/').next())
                .unwrap_or_default();
            let key = RecordKey::MfaDevice { account, name };
            let entry = snapshot
                .mfa_device(account, name)
                .filter(|entry| *entry.arn == *serial)
                .ok_or_else(|| no_such(snapshot, key, Thing::MfaDevice, serial))?;
            let record = AnyRecord::MfaDevice(entry.record.clone());
            (key.to_key()?, entry.modified, record)
        }
        Taggable::Cluster(arn) => {
            let (key, cluster) = find_cluster(snapshot, account, arn, "cluster/")?;
            let record = AnyRecord::Cluster(Box::new(cluster.record.clone()));
            (key, cluster.modified, record)
        }
        Taggable::AccessEntry(arn) => {
            let (_, cluster) = find_cluster(snapshot, account, arn, "access-entry/")?;
            let entry = access_entry(snapshot, &cluster.record, arn).ok_or_else(|| {
                let (what, name) = (Thing::Resource, arn.into());
                DirectoryError::NoSuch { what, name }
            })?;
            let record = AnyRecord::AccessEntry(entry.record.clone());
            (entry_key(&entry.record)?, entry.modified, record)
        }
        Taggable::IdentityProviderConfig(arn) => {
            let kind = "identityproviderconfig/";
            let (_, cluster) = find_cluster(snapshot, account, arn, kind)?;
            let name = part(arn, 3);
            let config = snapshot
                .identity_provider_config(&cluster.record.id, name)
                .filter(|config| config.record.arn(&cluster.record) == arn)
                .ok_or_else(|| no_resource(snapshot, config_key(&cluster.record, name), arn))?;
            let record = AnyRecord::IdentityProviderConfig(config.record.clone());
            let key = config_key(&cluster.record, name).to_key()?;
            (key, config.modified, record)
        }
        Taggable::Addon(arn) => {
            let (_, cluster) = find_cluster(snapshot, account, arn, "addon/")?;
            let name = part(arn, 2);
            let addon = snapshot
                .addon(&cluster.record.id, name)
                .filter(|addon| addon.record.arn(&cluster.record) == arn)
                .ok_or_else(|| no_resource(snapshot, addon_key(&cluster.record, name), arn))?;
            let record = AnyRecord::Addon(addon.record.clone());
            let key = addon_key(&cluster.record, name).to_key()?;
            (key, addon.modified, record)
        }
        Taggable::PodIdentityAssociation(arn) => {
            let kind = "podidentityassociation/";
            let (_, cluster) = find_cluster(snapshot, account, arn, kind)?;
            let id = arn.rsplit('/').next().unwrap_or_default();
            let known = snapshot
                .pod_identity_association_by_id(&cluster.record.id, id)
                .filter(|known| known.record.arn(&cluster.record) == arn)
                .ok_or_else(|| {
                    let (what, name) = (Thing::Resource, arn.into());
                    DirectoryError::NoSuch { what, name }
                })?;
            let record = AnyRecord::PodIdentityAssociation(Box::new(known.record.clone()));
            (association_key(&known.record)?, known.modified, record)
        }
    })
}

/// The cluster that is named behind `kind` in an ARN of the EKS API.
fn find_cluster<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    arn: &str,
    kind: &str,
) -> Result<(Key, &'s ClusterEntry), DirectoryError> {
    let none = || DirectoryError::NoSuch {
        what: Thing::Resource,
        name: arn.into(),
    };
    let parsed = Arn::parse(arn).map_err(|_| none())?;
    let below = parsed.resource.strip_prefix(kind).ok_or_else(none)?;
    let name = below.split('/').next().unwrap_or_default();
    let key = RecordKey::Cluster {
        account,
        region: parsed.region,
        name,
    };
    let cluster = snapshot
        .cluster(account, parsed.region, name)
        .filter(|cluster| {
            cluster.record.deleting.is_none()
                && parsed.service == "eks"
                && parsed.account == account.as_str()
                && parsed.partition == cluster.record.partition.to_string()
                && (kind != "cluster/" || *cluster.arn == *arn)
        })
        .ok_or_else(|| missing(snapshot, key, none()))?;
    Ok((key.to_key()?, cluster))
}

/// The entry of the cluster with this ARN.
fn access_entry<'s>(
    snapshot: &'s DirectorySnapshot,
    cluster: &Cluster,
    arn: &str,
) -> Option<&'s Arc<AccessEntryEntry>> {
    let mut parts = arn.split_once(":access-entry/")?.1.split('/').skip(1);
    let kind = PrincipalKind::of(parts.next()?)?;
    let account = parts.next()?.parse().ok()?;
    snapshot
        .access_entry_named(&cluster.id, account, kind, parts.next()?)
        .filter(|entry| entry.record.arn(cluster) == arn)
}

/// A segment of what an ARN names, from 0: the kind.
fn part(arn: &str, at: usize) -> &str {
    let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
    resource.split('/').nth(at).unwrap_or_default()
}

fn no_resource(snapshot: &DirectorySnapshot, key: RecordKey<'_>, arn: &str) -> DirectoryError {
    no_such(snapshot, key, Thing::Resource, arn)
}

fn no_such(
    snapshot: &DirectorySnapshot,
    key: RecordKey<'_>,
    what: Thing,
    name: &str,
) -> DirectoryError {
    let name = name.into();
    missing(snapshot, key, DirectoryError::NoSuch { what, name })
}

/// What follows `kind` in the ARN of something of this account.
fn below<'a>(account: AccountId, arn: &'a str, kind: &str) -> Option<&'a str> {
    let parsed = Arn::parse(arn).ok()?;
    (parsed.service == "iam" && parsed.account == account.as_str())
        .then(|| parsed.resource.strip_prefix(kind))?
}

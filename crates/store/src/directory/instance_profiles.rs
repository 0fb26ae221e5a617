//! Instance profiles and the role in them (IAM API spec, section 4.5).

use countersign_arn::unique_id::Kind;
use countersign_arn::{AccountId, Tag};
use jiff::Timestamp;

use super::roles::find_role;
use super::vacancy::Vacancy;
use super::{Directory, DirectoryError, Thing, missing};
use crate::records::{
    InstanceProfile, RecordKey, check_instance_profile_name, check_path, check_tags,
};
use crate::{DirectorySnapshot, InstanceProfileEntry, Key, Transaction};

/// An instance profile to create.
#[derive(Debug, Clone)]
pub struct NewInstanceProfile {
    /// The account it lives in.
    pub account: AccountId,
    /// The name, unique in the account ignoring case and path.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// Tags.
    pub tags: Vec<Tag>,
}

impl Directory {
    /// Creates an instance profile without a role.
    ///
    /// # Errors
    /// When the account is not there, has an instance profile of this name ignoring case, or has as many as it may; see
    /// [`DirectoryError`].
    pub async fn create_instance_profile(
        &self,
        new: NewInstanceProfile,
        now: Timestamp,
    ) -> Result<InstanceProfile, DirectoryError> {
        check_instance_profile_name(&new.name)?;
        check_path(&new.path)?;
        check_tags(&new.tags)?;
        let limit = self.0.quotas.instance_profiles_per_account;
        self.write(|snapshot| {
            let place = Vacancy::in_account(
                snapshot,
                new.account,
                RecordKey::InstanceProfile {
                    account: new.account,
                    name: &new.name,
                },
            )?
            .unless(
                snapshot.instance_profile(new.account, &new.name).is_some(),
                || DirectoryError::exists(Thing::InstanceProfile, &new.name),
            )?
            .within(
                "InstanceProfilesPerAccount",
                limit,
                snapshot.instance_profile_count(new.account),
            )?;
            let id = self.new_id(Kind::InstanceProfile, new.account, |id| {
                snapshot
                    .instance_profiles(new.account, None)
                    .any(|profile| *profile.record.id == *id)
            })?;
            let profile = InstanceProfile {
                account: new.account,
                partition: place.partition,
                name: new.name.clone(),
                path: new.path.clone(),
                id: id.into(),
                created: now,
                role: None,
                tags: new.tags.clone(),
            };
            Ok((place.fill(profile.encode()), profile))
        })
        .await
    }

    /// Puts a role into an instance profile that has none.
    ///
    /// The role's record is written again as it is, so that whoever deletes the role at the same time has to look again.
    ///
    /// # Errors
    /// When the profile or the role is not there, the role is protected, or the profile has a role; see [`DirectoryError`].
    pub async fn add_role_to_instance_profile(
        &self,
        account: AccountId,
        profile_name: &str,
        role_name: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, profile) = find_instance_profile(snapshot, account, profile_name)?;
            let (role_key, role) = find_role(snapshot, account, role_name)?;
            self.check_protection(&role.record)?;
            if profile.record.role.is_some() {
                return Err(DirectoryError::QuotaExceeded {
                    quota: "InstanceSessionsPerInstanceProfile",
                    limit: 1,
                });
            }
            let mut changed = profile.record.clone();
            changed.role = Some(role.record.id.clone());
            let transaction = Transaction::new()
                .if_unchanged(&key, profile.modified)
                .if_unchanged(&role_key, role.modified)
                .put(&key, changed.encode())
                .put(&role_key, role.record.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Takes the role out of an instance profile.
    ///
    /// # Errors
    /// When the profile or the role is not there, the role is protected, or is not in the profile; see [`DirectoryError`].
    pub async fn remove_role_from_instance_profile(
        &self,
        account: AccountId,
        profile_name: &str,
        role_name: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, profile) = find_instance_profile(snapshot, account, profile_name)?;
            let (_, role) = find_role(snapshot, account, role_name)?;
            self.check_protection(&role.record)?;
            if profile.record.role.as_deref() != Some(&*role.record.id) {
                return Err(DirectoryError::NoSuchRoleInProfile {
                    role: role_name.into(),
                    profile: profile_name.into(),
                });
            }
            let mut changed = profile.record.clone();
            changed.role = None;
            let transaction = Transaction::new()
                .if_unchanged(&key, profile.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Deletes an instance profile without a role.
    ///
    /// # Errors
    /// When it is not there, or has a role; see [`DirectoryError`].
    pub async fn delete_instance_profile(
        &self,
        account: AccountId,
        name: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, profile) = find_instance_profile(snapshot, account, name)?;
            if profile.record.role.is_some() {
                return Err(DirectoryError::DeleteConflict {
                    what: "instance profiles",
                });
            }
            let transaction = Transaction::new()
                .if_unchanged(&key, profile.modified)
                .delete(&key);
            Ok((transaction, ()))
        })
        .await
    }
}

pub(super) fn find_instance_profile<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    name: &str,
) -> Result<(Key, &'s InstanceProfileEntry), DirectoryError> {
    let key = RecordKey::InstanceProfile { account, name };
    let Some(profile) = snapshot.instance_profile(account, name) else {
        let what = Thing::InstanceProfile;
        let name = name.into();
        return Err(missing(
            snapshot,
            key,
            DirectoryError::NoSuch { what, name },
        ));
    };
    Ok((key.to_key()?, profile))
}

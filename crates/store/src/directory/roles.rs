//! Roles.

use countersign_arn::unique_id::Kind;
use countersign_arn::{AccountId, Tag};
use jiff::Timestamp;

use super::attachments::hold_policy;
use super::policies::{check_document, size};
use super::vacancy::Vacancy;
use super::{Directory, DirectoryError, Thing, missing};
use crate::records::{
    InvalidField, RecordKey, Role, TrustPolicy, check_description, check_max_session_duration,
    check_path, check_role_name, check_tags,
};
use crate::snapshot::RoleEntry;
use crate::{DirectorySnapshot, Key, Transaction};

/// A role to create. What its trust policy says is checked by who takes it from outside.
#[derive(Debug, Clone)]
pub struct NewRole {
    /// The account it lives in.
    pub account: AccountId,
    /// The name, unique in the account ignoring case and path.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// Who may assume it.
    pub trust: TrustPolicy,
    /// 3,600 to 43,200 seconds.
    pub max_session_duration: u32,
    /// What it is for.
    pub description: Option<Box<str>>,
    /// Tags.
    pub tags: Vec<Tag>,
    /// ARN of the managed policy that is its permissions boundary.
    pub boundary: Option<Box<str>>,
}

/// What to change of a role; what is `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoleChanges<'a> {
    /// What it is for; an empty text takes the description away.
    pub description: Option<&'a str>,
    /// 3,600 to 43,200 seconds.
    pub max_session_duration: Option<u32>,
}

impl Directory {
    /// Creates a role, with a new unique id.
    ///
    /// # Errors
    /// When the account or the boundary is not there, the account has a role of this name ignoring case, or the path is one
    /// of protected roles; see [`DirectoryError`].
    pub async fn create_role(&self, new: NewRole, now: Timestamp) -> Result<Role, DirectoryError> {
        self.create_role_with(new, &[], now).await
    }

    /// Creates a role that has policies of AWS attached from the beginning.
    pub(super) async fn create_role_with(
        &self,
        new: NewRole,
        attached: &[Box<str>],
        now: Timestamp,
    ) -> Result<Role, DirectoryError> {
        check_role_name(&new.name)?;
        check_path(&new.path)?;
        check_tags(&new.tags)?;
        check_max_session_duration(new.max_session_duration)?;
        new.description
            .as_deref()
            .map_or(Ok(()), check_description)?;
        self.check_trust(&new.trust)?;
        let limit = self.0.quotas.roles_per_account;
        self.write(|snapshot| {
            let place = Vacancy::in_account(
                snapshot,
                new.account,
                RecordKey::Role {
                    account: new.account,
                    name: &new.name,
                },
            )?
            .unless(snapshot.role(new.account, &new.name).is_some(), || {
                DirectoryError::RoleExists(new.name.clone())
            })?
            .within("RolesPerAccount", limit, snapshot.role_count(new.account))?;
            let id = self.new_id(Kind::Role, new.account, |id| {
                snapshot.principal(id).is_some()
            })?;
            let role = Role {
                account: new.account,
                partition: place.partition,
                name: new.name.clone(),
                path: new.path.clone(),
                id: id.into(),
                created: now,
                description: new.description.clone(),
                max_session_duration: new.max_session_duration,
                trust: new.trust.clone(),
                tags: new.tags.clone(),
                policies: Vec::new(),
                attached: attached.to_vec(),
                boundary: new.boundary.clone(),
            };
            if self.check_protection(&role).is_err() {
                return Err(PROTECTED_PATH.into());
            }
            let mut transaction = place.fill(role.encode());
            if let Some(arn) = &new.boundary {
                let what = Thing::Boundary;
                transaction = hold_policy(transaction, snapshot, new.account, arn, what)?;
            }
            Ok((transaction, role))
        })
        .await
    }

    /// Changes a role's description or longest session.
    ///
    /// # Errors
    /// When the role is not there or is protected; see [`DirectoryError`].
    pub async fn update_role(
        &self,
        account: AccountId,
        name: &str,
        changes: RoleChanges<'_>,
    ) -> Result<Role, DirectoryError> {
        changes.description.map_or(Ok(()), check_description)?;
        changes
            .max_session_duration
            .map_or(Ok(()), check_max_session_duration)?;
        self.change_role(account, name, |role| {
            self.check_protection(role)?;
            if let Some(text) = changes.description {
                set_description(role, text);
            }
            if let Some(seconds) = changes.max_session_duration {
                role.max_session_duration = seconds;
            }
            Ok(())
        })
        .await
    }

    /// Changes a role's description, be it protected or not; an empty text takes it away.
    ///
    /// # Errors
    /// When the role is not there; see [`DirectoryError`].
    pub async fn set_role_description(
        &self,
        account: AccountId,
        name: &str,
        text: &str,
    ) -> Result<Role, DirectoryError> {
        check_description(text)?;
        self.change_role(account, name, |role| {
            set_description(role, text);
            Ok(())
        })
        .await
    }

    /// Puts another trust policy in the place of a role's. Sessions that exist go on.
    ///
    /// # Errors
    /// When the role is not there or is protected; see [`DirectoryError`].
    pub async fn set_trust_policy(
        &self,
        account: AccountId,
        role_name: &str,
        trust: TrustPolicy,
    ) -> Result<(), DirectoryError> {
        self.check_trust(&trust)?;
        self.change_role(account, role_name, |role| {
            self.check_protection(role)?;
            role.trust = trust.clone();
            Ok(())
        })
        .await
        .map(|_| ())
    }

    /// Deletes a role on which nothing hangs. Its sessions are dead at once: they name its unique id.
    ///
    /// # Errors
    /// When it is not there, is protected, has policies, or is in an instance profile; see [`DirectoryError`].
    pub async fn delete_role(&self, account: AccountId, name: &str) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, role) = find_role(snapshot, account, name)?;
            self.check_protection(&role.record)?;
            let conflict = |what| Err(DirectoryError::DeleteConflict { what });
            if !role.record.attached.is_empty() {
                return conflict("attached policies");
            }
            if !role.record.policies.is_empty() {
                return conflict("policies");
            }
            // Who puts the role into an instance profile writes the role's record too, so that the compare notices it.
            if snapshot.instance_profiles_of(role).next().is_some() {
                return conflict("instance profiles");
            }
            if snapshot.has_unusable_below(&Key::new(format!("instance-profile/{account}/"))?) {
                return conflict("records of a later version");
            }
            let transaction = Transaction::new()
                .if_unchanged(&key, role.modified)
                .delete(&key);
            Ok((transaction, ()))
        })
        .await
    }

    async fn change_role(
        &self,
        account: AccountId,
        name: &str,
        change: impl Fn(&mut Role) -> Result<(), DirectoryError>,
    ) -> Result<Role, DirectoryError> {
        self.write(|snapshot| {
            let (key, role) = find_role(snapshot, account, name)?;
            let mut changed = role.record.clone();
            change(&mut changed)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, role.modified)
                .put(&key, changed.encode());
            Ok((transaction, changed))
        })
        .await
    }

    fn check_trust(&self, trust: &TrustPolicy) -> Result<(), DirectoryError> {
        check_document(&trust.document)?;
        let limit = self.0.quotas.trust_policy_chars;
        if size(&trust.document) > limit {
            return Err(DirectoryError::QuotaExceeded {
                quota: "ACLSizePerRole",
                limit,
            });
        }
        Ok(())
    }
}

fn set_description(role: &mut Role, text: &str) {
    role.description = (!text.is_empty()).then(|| text.into());
}

const PROTECTED_PATH: InvalidField = InvalidField {
    field: "the path",
    expected: "another one than those of AWS's own roles, /aws-service-role/ and /aws-reserved/",
};

pub(super) fn find_role<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    name: &str,
) -> Result<(Key, &'s RoleEntry), DirectoryError> {
    let key = RecordKey::Role { account, name };
    let Some(role) = snapshot.role(account, name) else {
        return Err(missing(
            snapshot,
            key,
            DirectoryError::NoSuchRole(name.into()),
        ));
    };
    Ok((key.to_key()?, role))
}

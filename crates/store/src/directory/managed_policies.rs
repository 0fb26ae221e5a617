//! Customer managed policies and their versions (IAM API spec, section 4.6). Documents are kept byte for byte; what they say
//! is checked by who takes them from outside.

use countersign_arn::unique_id::Kind;
use countersign_arn::{AccountId, Arn, Tag};
use jiff::Timestamp;

use super::policies::{check_document, size};
use super::vacancy::Vacancy;
use super::{Directory, DirectoryError, Thing, missing};
use crate::records::{
    InvalidField, ManagedPolicy, PolicyVersion, RecordKey, check_policy_name, check_policy_path,
    check_policy_tags,
};
use crate::{DirectorySnapshot, Key, ManagedPolicyEntry, PolicyRef, Transaction};

/// A managed policy to create.
#[derive(Debug, Clone)]
pub struct NewManagedPolicy {
    /// The account it lives in.
    pub account: AccountId,
    /// The name, unique in the account ignoring case and path.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// What it is for; cannot be changed later.
    pub description: Option<Box<str>>,
    /// The document of its first version.
    pub document: Box<str>,
    /// Tags, keys unique with case.
    pub tags: Vec<Tag>,
}

impl Directory {
    /// Creates a managed policy with one version, `v1`, which is the default.
    ///
    /// # Errors
    /// When the account is not there, has a policy of this name ignoring case, or has as many as it may, or when the
    /// document is too large; see [`DirectoryError`].
    pub async fn create_managed_policy(
        &self,
        new: NewManagedPolicy,
        now: Timestamp,
    ) -> Result<ManagedPolicy, DirectoryError> {
        check_policy_name(&new.name)?;
        check_policy_path(&new.path)?;
        check_policy_tags(&new.tags)?;
        new.description
            .as_deref()
            .map_or(Ok(()), check_policy_description)?;
        self.check_managed_document(&new.document)?;
        let limit = self.0.quotas.policies_per_account;
        self.write(|snapshot| {
            let place = Vacancy::in_account(
                snapshot,
                new.account,
                RecordKey::ManagedPolicy {
                    account: new.account,
                    name: &new.name,
                },
            )?
            .unless(
                snapshot.managed_policy(new.account, &new.name).is_some(),
                || DirectoryError::exists(Thing::ManagedPolicy, &new.name),
            )?
            .within(
                "PoliciesPerAccount",
                limit,
                snapshot.managed_policy_count(new.account),
            )?;
            let id = self.new_id(Kind::ManagedPolicy, new.account, |id| {
                snapshot
                    .managed_policies(new.account, None)
                    .any(|policy| *policy.record.id == *id)
            })?;
            let policy = ManagedPolicy {
                account: new.account,
                partition: place.partition,
                name: new.name.clone(),
                path: new.path.clone(),
                id: id.into(),
                created: now,
                updated: now,
                description: new.description.clone(),
                tags: new.tags.clone(),
                versions: vec![PolicyVersion {
                    number: 1,
                    created: now,
                    document: new.document.clone(),
                }],
                default_version: 1,
                next_version: 2,
            };
            Ok((place.fill(policy.encode()), policy))
        })
        .await
    }

    /// Adds a version to a managed policy, which becomes the default if asked for. Its number is one that no version of the
    /// policy ever had.
    ///
    /// # Errors
    /// When the policy is not there or has as many versions as it may, or when the document is too large; see
    /// [`DirectoryError`].
    pub async fn create_policy_version(
        &self,
        account: AccountId,
        arn: &str,
        document: &str,
        set_as_default: bool,
        now: Timestamp,
    ) -> Result<PolicyVersion, DirectoryError> {
        self.check_managed_document(document)?;
        let limit = self.0.quotas.versions_per_policy;
        self.change_managed_policy(account, arn, |policy| {
            if policy.versions.len() >= limit {
                return Err(DirectoryError::QuotaExceeded {
                    quota: "VersionsPerPolicy",
                    limit,
                });
            }
            let version = PolicyVersion {
                number: policy.next_version,
                created: now,
                document: document.into(),
            };
            policy.next_version = policy
                .next_version
                .checked_add(1)
                .ok_or(DirectoryError::Contended)?;
            policy.updated = now;
            if set_as_default {
                policy.default_version = version.number;
            }
            policy.versions.push(version.clone());
            Ok(version)
        })
        .await
    }

    /// Puts another version of a managed policy in force.
    ///
    /// # Errors
    /// When the policy or the version is not there; see [`DirectoryError`].
    pub async fn set_default_policy_version(
        &self,
        account: AccountId,
        arn: &str,
        number: u32,
        now: Timestamp,
    ) -> Result<(), DirectoryError> {
        self.change_managed_policy(account, arn, |policy| {
            if policy.version(number).is_none() {
                return Err(no_such_version(arn, number));
            }
            if policy.default_version != number {
                policy.default_version = number;
                policy.updated = now;
            }
            Ok(())
        })
        .await
    }

    /// Deletes a version of a managed policy that is not the default.
    ///
    /// # Errors
    /// When the policy or the version is not there, or the version is the default; see [`DirectoryError`].
    pub async fn delete_policy_version(
        &self,
        account: AccountId,
        arn: &str,
        number: u32,
    ) -> Result<(), DirectoryError> {
        self.change_managed_policy(account, arn, |policy| {
            if policy.version(number).is_none() {
                return Err(no_such_version(arn, number));
            }
            if policy.default_version == number {
                return Err(DirectoryError::DeleteConflict {
                    what: "default version",
                });
            }
            policy.versions.retain(|version| version.number != number);
            Ok(())
        })
        .await
    }

    /// Deletes a managed policy that nobody has, with its default version.
    ///
    /// # Errors
    /// When it is not there, is attached or a boundary, or has other versions; see [`DirectoryError`].
    pub async fn delete_managed_policy(
        &self,
        account: AccountId,
        arn: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, policy) = find_managed_policy(snapshot, account, arn)?;
            // Who gives the policy to somebody writes the policy's record too, so that the compare below notices it.
            if snapshot.policy_use_count(account, arn) != (0, 0) {
                return Err(DirectoryError::DeleteConflict {
                    what: "attachments",
                });
            }
            for kind in ["user", "group", "role"] {
                let prefix = Key::new(format!("{kind}/{account}/"))?;
                if snapshot.has_unusable_below(&prefix) {
                    return Err(DirectoryError::DeleteConflict {
                        what: "records of a later version",
                    });
                }
            }
            if policy.record.versions.len() > 1 {
                return Err(DirectoryError::DeleteConflict {
                    what: "policy versions",
                });
            }
            let transaction = Transaction::new()
                .if_unchanged(&key, policy.modified)
                .delete(&key);
            Ok((transaction, ()))
        })
        .await
    }

    async fn change_managed_policy<T>(
        &self,
        account: AccountId,
        arn: &str,
        change: impl Fn(&mut ManagedPolicy) -> Result<T, DirectoryError>,
    ) -> Result<T, DirectoryError> {
        self.write(|snapshot| {
            let (key, policy) = find_managed_policy(snapshot, account, arn)?;
            let mut changed = policy.record.clone();
            let answer = change(&mut changed)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, policy.modified)
                .put(&key, changed.encode());
            Ok((transaction, answer))
        })
        .await
    }

    fn check_managed_document(&self, text: &str) -> Result<(), DirectoryError> {
        check_document(text)?;
        let limit = self.0.quotas.policy_chars;
        if size(text) > limit {
            return Err(DirectoryError::QuotaExceeded {
                quota: "PolicySize",
                limit,
            });
        }
        Ok(())
    }
}

/// The customer managed policy of this account with exactly this ARN.
pub(super) fn find_managed_policy<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    arn: &str,
) -> Result<(Key, &'s ManagedPolicyEntry), DirectoryError> {
    match snapshot.policy_by_arn(arn) {
        Some(PolicyRef::Customer(policy)) if policy.record.account == account => {
            Ok((policy_key(policy)?, policy))
        }
        _ => {
            let error = DirectoryError::NoSuch {
                what: Thing::ManagedPolicy,
                name: arn.into(),
            };
            Err(match key_of_arn(account, arn) {
                Some(key) => missing(snapshot, key, error),
                None => error,
            })
        }
    }
}

pub(super) fn policy_key(policy: &ManagedPolicyEntry) -> Result<Key, DirectoryError> {
    let key = RecordKey::ManagedPolicy {
        account: policy.record.account,
        name: &policy.record.name,
    };
    Ok(key.to_key()?)
}

/// Where the policy would stand if it were a customer's of this account.
pub(super) fn key_of_arn(account: AccountId, arn: &str) -> Option<RecordKey<'_>> {
    let parsed = Arn::parse(arn).ok()?;
    let name = parsed
        .resource
        .strip_prefix("policy/")?
        .rsplit('/')
        .next()?;
    (parsed.account.parse() == Ok(account)).then_some(RecordKey::ManagedPolicy { account, name })
}

fn no_such_version(arn: &str, number: u32) -> DirectoryError {
    DirectoryError::NoSuch {
        what: Thing::PolicyVersion,
        name: format!("{arn} version v{number}").into(),
    }
}

/// Unlike the other descriptions, those of policies may have any characters (IAM API spec, section 4.20).
fn check_policy_description(text: &str) -> Result<(), InvalidField> {
    if text.chars().count() <= 1000 {
        Ok(())
    } else {
        Err(InvalidField {
            field: "the description",
            expected: "at most 1000 characters",
        })
    }
}

//! What was used when, and the jobs that report it.

use std::collections::BTreeMap;

use countersign_arn::AccountId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::plain::{self, Plain};
use crate::Value;

/// When a user, role or access key last used each service (IAM API spec, sections 4.2, 4.4 and 5.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastUsed {
    /// Its account.
    pub account: AccountId,
    /// Unique id of the user or role, or id of the access key.
    pub id: Box<str>,
    /// When a user last signed in with the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Timestamp>,
    /// By service namespace, such as `sts`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<Box<str>, ServiceUse>,
}

/// The last use of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceUse {
    /// When.
    pub at: Timestamp,
    /// In which region.
    pub region: Box<str>,
    /// By action, such as `AssumeRole`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub actions: BTreeMap<Box<str>, ActionUse>,
}

/// The last use of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionUse {
    /// When.
    pub at: Timestamp,
    /// In which region.
    pub region: Box<str>,
}

impl LastUsed {
    /// The service that was used last.
    #[must_use]
    pub fn latest(&self) -> Option<(&str, &ServiceUse)> {
        self.services
            .iter()
            .max_by_key(|(_, used)| used.at)
            .map(|(service, used)| (&**service, used))
    }

    /// Takes over what `other` knows later. Replicas may merge in any order and any number of times: of every use the
    /// latest stays, and of two at the same instant the one with the greater region.
    pub fn merge(&mut self, other: &Self) {
        self.password = self.password.max(other.password);
        for (service, used) in &other.services {
            match self.services.get_mut(service) {
                None => {
                    self.services.insert(service.clone(), used.clone());
                }
                Some(known) => known.merge(used),
            }
        }
    }

    /// Forgets every use before `time`. Says whether anything is left.
    pub fn forget_before(&mut self, time: Timestamp) -> bool {
        self.password = self.password.filter(|at| *at >= time);
        for used in self.services.values_mut() {
            used.actions.retain(|_, used| used.at >= time);
        }
        self.services.retain(|_, used| used.at >= time);
        self.password.is_some() || !self.services.is_empty()
    }

    pub(super) fn decode(account: AccountId, id: &str, value: &[u8]) -> Result<Self, DecodeError> {
        plain::decode(Some(account), id, value)
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        plain::encode(self)
    }
}

impl ServiceUse {
    fn merge(&mut self, other: &Self) {
        if (other.at, &other.region) > (self.at, &self.region) {
            self.at = other.at;
            self.region.clone_from(&other.region);
        }
        for (action, used) in &other.actions {
            match self.actions.get_mut(action) {
                None => {
                    self.actions.insert(action.clone(), used.clone());
                }
                Some(known) if (used.at, &used.region) > (known.at, &known.region) => {
                    known.clone_from(used);
                }
                Some(_) => {}
            }
        }
    }
}

impl Plain for LastUsed {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account) && *self.id == *rest
    }
}

/// Something that was asked for and is looked at later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The account it was asked for in.
    pub account: AccountId,
    /// What names it: a UUID, or the deletion task's id.
    pub id: Box<str>,
    /// When it was asked for.
    pub created: Timestamp,
    /// Unique id of the user, or of the role with the session's name, that asked.
    pub by: Box<str>,
    /// What was asked for.
    pub kind: JobKind,
}

/// The kinds of [`Job`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum JobKind {
    /// GenerateServiceLastAccessedDetails.
    ServiceLastAccessed {
        /// ARN of the user, group, role or policy.
        arn: Box<str>,
        /// Whether actions are wanted too.
        actions: bool,
    },
    /// DeleteServiceLinkedRole.
    ServiceLinkedRoleDeletion {
        /// ARN of the role.
        role: Box<str>,
        /// Why it could not be deleted, and the resources that use it; absent = it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<DeletionFailure>,
    },
}

/// Why a service-linked role was not deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletionFailure {
    /// The reason in words.
    pub reason: Box<str>,
    /// Region and ARN of what uses the role.
    pub resources: Vec<(Box<str>, Box<str>)>,
}

impl Job {
    pub(super) fn decode(account: AccountId, id: &str, value: &[u8]) -> Result<Self, DecodeError> {
        plain::decode(Some(account), id, value)
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        plain::encode(self)
    }
}

impl Plain for Job {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account) && *self.id == *rest
    }
}

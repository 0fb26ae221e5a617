//! The role that the annotations of a pod and its namespace give it, whole: which, whether it may be named, and with what session
//! name and external id (imds spec, sections 4 and 5.3).
//!
//! Whoever writes the annotations of a namespace chooses among the roles that trust EKS Pod Identity. In AWS an association has
//! a role of the cluster's own account, and whoever makes it needs `iam:PassRole`; so that annotations are no way into the roles
//! of other accounts, those have to be on a list of the operator's.

use std::collections::BTreeMap;

use countersign_arn::{AccountId, Arn, Partition};

use crate::compat::{
    ALLOWED_ROLES, Compat, Denied, EXTERNAL_ID, PERMITTED, Predecessor, ROLE, SESSION_NAME,
};

/// Longest session name of STS.
const MAX_SESSION_NAME: usize = 64;
/// Shortest and longest external id of STS.
const EXTERNAL_ID_CHARS: std::ops::RangeInclusive<usize> = 2..=1224;

/// How annotations are read, and whose roles they may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How the predecessor was configured.
    pub compat: Compat,
    /// Further accounts whose roles may be named; the cluster's own may always.
    pub accounts: Vec<AccountId>,
}

/// What stands in the annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Annotations<'a> {
    /// The pod's role.
    pub role: Option<&'a str>,
    /// The pod's external id.
    pub external_id: Option<&'a str>,
    /// The pod's session name; kube2iam knows none, and it is not read there.
    pub session_name: Option<&'a str>,
    /// The list of the pod's namespace.
    pub list: Option<&'a str>,
}

/// The role that a pod gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Its ARN.
    pub arn: String,
    /// What the list path shows: the ARN with the base cut off, or whole when it lies outside the base.
    pub shown: String,
    /// Whether it is the default role.
    pub is_default: bool,
    /// The session name that the pod asks for, as STS takes it.
    pub session_name: Option<String>,
    /// The external id to assume the role with.
    pub external_id: Option<String>,
}

/// Why a pod gets no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    /// By the annotations and the list.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// What is named is no role.
    #[error("the annotation `iam.amazonaws.com/role` does not name an IAM role")]
    NotARole,
    /// It is a role of an account that annotations may not name.
    #[error(
        "the role is of another account than the cluster, and the operator has not listed that account"
    )]
    OtherAccount,
    /// The external id is none.
    #[error(
        "the annotation `iam.amazonaws.com/external-id` is no external id: 2 to 1224 of letters, digits and _+=,.@:/-"
    )]
    ExternalId,
}

impl NotGranted {
    /// Whether the pod simply has no role, where all others are somebody's mistake.
    #[must_use]
    pub const fn is_absence(self) -> bool {
        matches!(self, Self::Denied(Denied::NoRole))
    }
}

impl<'a> Annotations<'a> {
    /// From the annotations of a pod and of its namespace.
    #[must_use]
    pub fn of(
        predecessor: Predecessor,
        pod: &'a BTreeMap<String, String>,
        namespace: &'a BTreeMap<String, String>,
    ) -> Self {
        let list = match predecessor {
            Predecessor::Kube2iam => ALLOWED_ROLES,
            Predecessor::Kiam => PERMITTED,
        };
        let text = |of: &'a BTreeMap<String, String>, key: &str| of.get(key).map(String::as_str);
        Self {
            role: text(pod, ROLE),
            external_id: text(pod, EXTERNAL_ID),
            session_name: match predecessor {
                Predecessor::Kiam => text(pod, SESSION_NAME),
                Predecessor::Kube2iam => None,
            },
            list: text(namespace, list),
        }
    }
}

impl Rules {
    /// The role of a pod with these annotations in a cluster of this partition and account.
    ///
    /// # Errors
    /// When it gets none.
    pub fn grant(
        &self,
        (partition, account): (Partition, AccountId),
        annotations: Annotations<'_>,
    ) -> Result<Granted, NotGranted> {
        let named = self.compat.resolve(annotations.role, annotations.list)?;
        let owner = owner_of(&named.arn, partition).ok_or(NotGranted::NotARole)?;
        if owner != account && !self.accounts.contains(&owner) {
            return Err(NotGranted::OtherAccount);
        }
        let external_id = annotations.external_id.map(str::trim);
        let external_id = external_id.filter(|id| !id.is_empty());
        if !external_id.is_none_or(is_external_id) {
            return Err(NotGranted::ExternalId);
        }
        Ok(Granted {
            shown: self.compat.shown(&named.arn).to_owned(),
            arn: named.arn,
            is_default: named.is_default,
            session_name: annotations.session_name.and_then(session_name),
            external_id: external_id.map(str::to_owned),
        })
    }

    /// What is wrong with the rules themselves: a base that is none, or a default role that no pod could get.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn check(&self, partition: Partition) -> Result<(), String> {
        if let Some(base) = &self.compat.base_arn {
            let probe = self.compat.expand("name");
            let fits = probe.is_ok_and(|arn| owner_of(&arn, partition).is_some());
            if !fits || !base.starts_with("arn:") {
                return Err(format!(
                    "the base ARN `{base}` is none; it is such as arn:{partition}:iam::111122223333:role/"
                ));
            }
        }
        if let Some(role) = &self.compat.default_role {
            let arn = self
                .compat
                .expand(role)
                .map_err(|denied| format!("the default role `{role}`: {denied}"))?;
            if owner_of(&arn, partition).is_none() {
                return Err(format!("the default role `{role}` is no role"));
            }
        }
        Ok(())
    }
}

/// The account of a role in this partition; none for anything that is no role.
fn owner_of(arn: &str, partition: Partition) -> Option<AccountId> {
    let arn = Arn::parse(arn).ok()?;
    let path = arn.resource.strip_prefix("role/")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-/".contains(c);
    let fits = arn.partition.parse::<Partition>() == Ok(partition)
        && arn.service == "iam"
        && arn.region.is_empty()
        && !path.is_empty()
        && !path.ends_with('/')
        && path.chars().all(is_plain);
    fits.then(|| arn.account.parse().ok()).flatten()
}

/// `kiam-NAME`, as kiam had it, so that trust policies that test `sts:RoleSessionName` go on working: with dashes for what STS
/// does not take, and cut.
fn session_name(asked: &str) -> Option<String> {
    let asked = asked.trim();
    if asked.is_empty() {
        return None;
    }
    let clean = asked.chars().map(|c| {
        let taken = c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        if taken { c } else { '-' }
    });
    Some(
        "kiam-"
            .chars()
            .chain(clean)
            .take(MAX_SESSION_NAME)
            .collect(),
    )
}

fn is_external_id(text: &str) -> bool {
    EXTERNAL_ID_CHARS.contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b))
}

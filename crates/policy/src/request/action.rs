//! Actions: `service:Name`.

use crate::fold;

/// An action of a request, normalised once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    shown: Box<str>,
    lower: Box<str>,
    colon: usize,
    service_hash: u64,
    name_hash: u64,
    special: Special,
}

/// The text is no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no action: expected `service:Name`, such as `s3:GetObject`")]
pub struct NotAnAction(pub String);

/// What the special rules of the policy language spec, section 8.6, need to know about an action; a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Special(u16);

impl Special {
    /// `sts:GetCallerIdentity`
    pub(crate) const CALLER_IDENTITY: Self = Self(1);
    /// `sts:GetSessionToken`
    pub(crate) const SESSION_TOKEN: Self = Self(1 << 1);
    /// `sts:GetFederationToken`
    pub(crate) const FEDERATION_TOKEN: Self = Self(1 << 2);
    /// Governed by the trust policy of a role.
    pub(crate) const TRUST: Self = Self(1 << 3);
    /// `sts:AssumeRoleWithWebIdentity`, `sts:AssumeRoleWithSAML`
    pub(crate) const FEDERATION: Self = Self(1 << 4);
    /// Writes a managed policy.
    pub(crate) const POLICY_WRITE: Self = Self(1 << 5);
    /// Writes a role.
    pub(crate) const ROLE_WRITE: Self = Self(1 << 6);
    /// Writes a KMS alias.
    pub(crate) const ALIAS_WRITE: Self = Self(1 << 7);
    /// Any action of IAM.
    pub(crate) const IAM: Self = Self(1 << 8);
    /// Any action of STS.
    pub(crate) const STS: Self = Self(1 << 9);
    /// Any action of KMS.
    pub(crate) const KMS: Self = Self(1 << 10);
    /// Resource control policies apply.
    pub(crate) const RCP: Self = Self(1 << 11);
    /// Any of the writes above.
    pub(crate) const GUARDED_WRITE: Self =
        Self(Self::POLICY_WRITE.0 | Self::ROLE_WRITE.0 | Self::ALIAS_WRITE.0);
    /// `sts:AssumeRole`
    pub(crate) const ASSUME_ROLE: Self = Self(1 << 12);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn of(service: &str, name: &str) -> Self {
        let mut bits = Self::default();
        let mut add = |bit, member: bool| {
            if member {
                bits = bits.with(bit);
            }
        };
        add(Self::RCP, RCP_SERVICES.contains(&service));
        match service {
            "sts" => {
                add(Self::STS, true);
                add(Self::CALLER_IDENTITY, name == "getcalleridentity");
                add(Self::SESSION_TOKEN, name == "getsessiontoken");
                add(Self::FEDERATION_TOKEN, name == "getfederationtoken");
                add(Self::ASSUME_ROLE, name == "assumerole");
                add(Self::TRUST, TRUST_ACTIONS.contains(&name));
                add(
                    Self::FEDERATION,
                    matches!(name, "assumerolewithwebidentity" | "assumerolewithsaml"),
                );
            }
            "iam" => {
                add(Self::IAM, true);
                add(Self::POLICY_WRITE, POLICY_WRITES.contains(&name));
                add(Self::ROLE_WRITE, ROLE_WRITES.contains(&name));
            }
            "kms" => {
                add(Self::KMS, true);
                add(
                    Self::ALIAS_WRITE,
                    matches!(name, "createalias" | "updatealias" | "deletealias"),
                );
                if name == "retiregrant" {
                    bits = Self(bits.0 & !Self::RCP.0);
                }
            }
            _ => {}
        }
        bits
    }
}

/// Services whose resources RCPs cover: the five that began, and those known to have followed.
const RCP_SERVICES: [&str; 8] = [
    "s3",
    "sts",
    "kms",
    "sqs",
    "secretsmanager",
    "ecr",
    "aoss",
    "dynamodb",
];

const TRUST_ACTIONS: [&str; 6] = [
    "assumerole",
    "assumerolewithsaml",
    "assumerolewithwebidentity",
    "tagsession",
    "setsourceidentity",
    "setcontext",
];

const POLICY_WRITES: [&str; 7] = [
    "createpolicy",
    "createpolicyversion",
    "deletepolicy",
    "deletepolicyversion",
    "setdefaultpolicyversion",
    "tagpolicy",
    "untagpolicy",
];

const ROLE_WRITES: [&str; 16] = [
    "attachrolepolicy",
    "createrole",
    "createservicelinkedrole",
    "deleterole",
    "deleterolepermissionsboundary",
    "deleterolepolicy",
    "deleteservicelinkedrole",
    "detachrolepolicy",
    "passrole",
    "putrolepermissionsboundary",
    "putrolepolicy",
    "tagrole",
    "untagrole",
    "updateassumerolepolicy",
    "updaterole",
    "updateroledescription",
];

impl Action {
    /// Reads `service:Name`. Both halves must be there, and the first colon divides them.
    ///
    /// # Errors
    /// When a half is missing.
    pub fn parse(text: &str) -> Result<Self, NotAnAction> {
        let refuse = || NotAnAction(text.chars().take(128).collect());
        let (service, name) = text.split_once(':').ok_or_else(refuse)?;
        if service.is_empty() || name.is_empty() {
            return Err(refuse());
        }
        let lower = fold::lower(text);
        let special = Special::of(
            lower.get(..service.len()).unwrap_or_default(),
            lower.get(service.len() + 1..).unwrap_or_default(),
        );
        Ok(Self {
            shown: text.into(),
            service_hash: fold::hash(service),
            name_hash: fold::hash(name),
            colon: service.len(),
            lower,
            special,
        })
    }

    /// The action as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// The service in lower case.
    #[must_use]
    pub fn service(&self) -> &str {
        self.lower.get(..self.colon).unwrap_or_default()
    }

    /// The name in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        self.lower.get(self.colon + 1..).unwrap_or_default()
    }

    pub(crate) fn service_hash(&self) -> u64 {
        self.service_hash
    }

    pub(crate) fn name_hash(&self) -> u64 {
        self.name_hash
    }

    pub(crate) fn special(&self) -> Special {
        self.special
    }
}

/// Service and name of an action pattern; `None` without a colon.
pub(crate) fn split_action(text: &str) -> Option<(&str, &str)> {
    text.split_once(':')
}

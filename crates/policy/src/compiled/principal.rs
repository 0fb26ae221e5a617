//! Principals of a statement, and how they match a caller (policy language spec, section 4.4).

use serde::Serialize;

use super::PolicyKind;
use crate::document::{
    Effect, PrincipalElement, PrincipalEntry, PrincipalIds, PrincipalKind, PrincipalSlot, Statement,
};
use crate::request::{Identity, Request, Special, is_principal_id, provider_account};
use countersign_arn::{Arn, CallerArn, CallerKind};

/// How strongly a resource policy grants; later is stronger (policy language spec, section 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// The statement names the account: it delegates, and the account's own policies decide.
    Account,
    /// It names the user, and the caller is a federated user which that user made.
    User,
    /// It names the role of the caller's session.
    Role,
    /// It names the caller itself, or everyone.
    Direct,
}

/// The principals of one statement.
#[derive(Debug)]
pub(crate) enum PrincipalSet {
    /// No element, in a policy that belongs to its principals or defaults to everyone.
    Unnamed,
    /// The statement applies to nobody.
    Nobody,
    /// A Deny that says who it is for in a policy where it may not: it denies.
    Everybody,
    In(Box<[PrincipalMatch]>),
    NotIn(Box<[PrincipalMatch]>),
}

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PrincipalMatch {
    Everyone,
    Account {
        partition: Option<Box<str>>,
        account: Box<str>,
    },
    User {
        partition: Box<str>,
        account: Box<str>,
        path_and_name: Box<str>,
        arn: Box<str>,
    },
    Role {
        partition: Box<str>,
        account: Box<str>,
        name: Box<str>,
    },
    Session {
        partition: Box<str>,
        account: Box<str>,
        role: Box<str>,
        session: Box<str>,
    },
    FederatedUser {
        partition: Box<str>,
        account: Box<str>,
        name: Box<str>,
    },
    /// The user or role with this unique id.
    Id(Box<str>),
    Service(Box<str>),
    Provider(Box<str>),
    /// A canonical user, or a text that names nobody.
    Nobody,
}

impl PrincipalSet {
    pub(super) fn compile(
        statement: &Statement,
        index: usize,
        kind: PolicyKind,
        ids: &PrincipalIds,
    ) -> Self {
        let Some(element) = &statement.principal else {
            return if kind == PolicyKind::Endpoint || !kind.has_principal() {
                Self::Unnamed
            } else {
                Self::Nobody
            };
        };
        match kind {
            // RCPs say `*`; what else one says narrows it as in a resource policy.
            PolicyKind::Rcp | PolicyKind::Trust | PolicyKind::Resource | PolicyKind::Endpoint => {}
            // IAM refuses these. Evaluated anyway, they must not grant and must not lose a Deny.
            PolicyKind::Identity | PolicyKind::Boundary | PolicyKind::Session | PolicyKind::Scp => {
                return match statement.effect {
                    Effect::Allow => Self::Nobody,
                    Effect::Deny => Self::Everybody,
                };
            }
        }
        let entries = entries(element, index, ids);
        if element.negated {
            Self::NotIn(entries)
        } else {
            Self::In(entries)
        }
    }

    /// Whether a Deny with these principals applies to the caller. One that has a permissions boundary is never excluded by
    /// `NotPrincipal`.
    pub(crate) fn denies(&self, request: &Request<'_>, has_boundary: bool) -> bool {
        match self {
            Self::Unnamed | Self::Everybody => true,
            Self::Nobody => false,
            Self::In(entries) => entries
                .iter()
                .any(|entry| entry.grant(request, Effect::Deny).is_some()),
            Self::NotIn(entries) => {
                has_boundary
                    || !entries
                        .iter()
                        .any(|entry| entry.grant(request, Effect::Deny).is_some())
            }
        }
    }

    /// How an Allow with these principals grants to the caller.
    pub(crate) fn grants(&self, request: &Request<'_>) -> Option<Grant> {
        match self {
            Self::Unnamed => Some(Grant::Direct),
            Self::Nobody | Self::Everybody => None,
            Self::In(entries) => entries
                .iter()
                .filter_map(|entry| entry.grant(request, Effect::Allow))
                .max(),
            Self::NotIn(entries) => {
                let listed = entries
                    .iter()
                    .any(|entry| entry.grant(request, Effect::Deny).is_some());
                (!listed
                    && PrincipalMatch::Everyone
                        .grant(request, Effect::Allow)
                        .is_some())
                .then_some(Grant::Direct)
            }
        }
    }
}

fn entries(
    element: &PrincipalElement,
    statement: usize,
    ids: &PrincipalIds,
) -> Box<[PrincipalMatch]> {
    element
        .entries
        .iter()
        .enumerate()
        .map(
            |(entry, text)| match ids.get(PrincipalSlot { statement, entry }) {
                Some(id) => PrincipalMatch::Id(id.into()),
                None => PrincipalMatch::compile(text),
            },
        )
        .collect()
}

impl PrincipalMatch {
    pub(crate) fn compile(entry: &PrincipalEntry) -> Self {
        let text = &*entry.text.value;
        match entry.kind {
            PrincipalKind::Star => Self::Everyone,
            PrincipalKind::Aws => Self::aws(text),
            PrincipalKind::Service if text != "*" => Self::Service(text.into()),
            PrincipalKind::Federated if text != "*" => Self::Provider(text.into()),
            PrincipalKind::Service | PrincipalKind::Federated | PrincipalKind::CanonicalUser => {
                Self::Nobody
            }
        }
    }

    fn aws(text: &str) -> Self {
        if text == "*" {
            return Self::Everyone;
        }
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            return Self::Account {
                partition: None,
                account: text.into(),
            };
        }
        if is_principal_id(text) {
            return Self::Id(text.into());
        }
        // A wildcard inside an ARN never matches: only a whole `*` means everyone.
        let (Ok(caller), Ok(arn)) = (CallerArn::parse(text), Arn::parse(text)) else {
            return Self::Nobody;
        };
        let partition: Box<str> = arn.partition.into();
        let account: Box<str> = arn.account.into();
        match caller.kind() {
            CallerKind::Root => Self::Account {
                partition: Some(partition),
                account,
            },
            CallerKind::User => Self::User {
                partition,
                account,
                path_and_name: caller.path_and_name().into(),
                arn: text.into(),
            },
            CallerKind::Role => Self::Role {
                partition,
                account,
                name: caller.name().into(),
            },
            CallerKind::AssumedRole => Self::Session {
                partition,
                account,
                role: caller.path_and_name().into(),
                session: caller.session().into(),
            },
            CallerKind::FederatedUser => Self::FederatedUser {
                partition,
                account,
                name: caller.path_and_name().into(),
            },
        }
    }

    /// How this entry covers the caller, if it does.
    ///
    /// For an Allow, `*` does not admit callers that an identity provider vouches for: those need a `Federated` entry. For a Deny
    /// it covers everyone.
    pub(crate) fn grant(&self, request: &Request<'_>, effect: Effect) -> Option<Grant> {
        let caller = request.principal();
        let own = |partition: &str, account: &str| {
            caller.partition() == Some(partition) && caller.account() == account
        };
        match (self, caller.identity()) {
            (Self::Everyone, identity) => {
                let federation = matches!(identity, Identity::Federated { .. })
                    || (matches!(identity, Identity::Anonymous)
                        && request.action().special().has(Special::FEDERATION));
                (effect == Effect::Deny || !federation).then_some(Grant::Direct)
            }
            (Self::Account { partition, account }, _) => {
                let same_partition = partition
                    .as_deref()
                    .is_none_or(|partition| caller.partition() == Some(partition));
                (same_partition && !account.is_empty() && caller.account() == &**account)
                    .then_some(Grant::Account)
            }
            (
                Self::User {
                    partition,
                    account,
                    path_and_name,
                    ..
                },
                Identity::User {
                    path_and_name: name,
                },
            ) => (own(partition, account) && path_and_name == name).then_some(Grant::Direct),
            (
                Self::User { arn, .. },
                Identity::FederatedUser {
                    user: Some((user, _)),
                    ..
                },
            ) => (arn == user).then_some(Grant::User),
            (
                Self::Role {
                    partition,
                    account,
                    name,
                },
                Identity::Session {
                    role_path_and_name, ..
                },
            ) => {
                let own_name = last(role_path_and_name);
                (own(partition, account) && name.eq_ignore_ascii_case(own_name))
                    .then_some(Grant::Role)
            }
            (
                Self::Session {
                    partition,
                    account,
                    role,
                    session,
                },
                Identity::Session {
                    role_path_and_name,
                    session: own_session,
                },
            ) => (own(partition, account)
                && &**role == last(role_path_and_name)
                && session == own_session)
                .then_some(Grant::Direct),
            (
                Self::FederatedUser {
                    partition,
                    account,
                    name,
                },
                Identity::FederatedUser { name: own_name, .. },
            ) => (own(partition, account) && name == own_name).then_some(Grant::Direct),
            (Self::Id(id), Identity::User { .. }) => {
                (caller.unique_id() == Some(id)).then_some(Grant::Direct)
            }
            (Self::Id(id), Identity::Session { .. }) => {
                (caller.unique_id() == Some(id)).then_some(Grant::Role)
            }
            (
                Self::Id(id),
                Identity::FederatedUser {
                    user: Some((_, Some(user_id))),
                    ..
                },
            ) => (id == user_id).then_some(Grant::User),
            (Self::Service(name), Identity::Service { name: own_name }) => {
                (name == own_name).then_some(Grant::Direct)
            }
            (Self::Provider(provider), Identity::Federated { provider: own }) => {
                let in_account = provider_account(own)
                    .is_none_or(|account| account == request.resource_account());
                (provider == own && (in_account || effect == Effect::Deny)).then_some(Grant::Direct)
            }
            _ => None,
        }
    }
}

fn last(path_and_name: &str) -> &str {
    path_and_name
        .rsplit_once('/')
        .map_or(path_and_name, |(_, name)| name)
}

//! Keys taken apart and put together.

use countersign_arn::AccountId;
use countersign_session::RevocationTarget;

use super::{DecodeError, PrincipalKind, check_namespace_pattern, check_service_account_pattern};
use crate::{InvalidKey, Key};

/// A key of a known kind; the parts are borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordKey<'a> {
    /// `meta/seal-check`
    SealCheck,
    /// `meta/session-keys`
    SessionKeys,
    /// `meta/outbound-keys`
    OutboundKeys,
    /// `meta/restore`
    Restore,
    /// `account/ACCOUNT`
    Account(AccountId),
    /// `account-alias/ALIAS`
    AccountAlias(&'a str),
    /// `user/ACCOUNT/NAME`
    User {
        /// The account.
        account: AccountId,
        /// The name in lower case, see [`fold_name`](super::fold_name).
        name: &'a str,
    },
    /// `role/ACCOUNT/NAME`
    Role {
        /// The account.
        account: AccountId,
        /// The name in lower case, see [`fold_name`](super::fold_name).
        name: &'a str,
    },
    /// `group/ACCOUNT/NAME`
    Group {
        /// The account.
        account: AccountId,
        /// The name in lower case, see [`fold_name`](super::fold_name).
        name: &'a str,
    },
    /// `policy/ACCOUNT/NAME`
    ManagedPolicy {
        /// The account.
        account: AccountId,
        /// The name in lower case, see [`fold_name`](super::fold_name).
        name: &'a str,
    },
    /// `instance-profile/ACCOUNT/NAME`
    InstanceProfile {
        /// The account.
        account: AccountId,
        /// The name in lower case, see [`fold_name`](super::fold_name).
        name: &'a str,
    },
    /// `oidc-provider/ACCOUNT/URL`
    OidcProvider {
        /// The account.
        account: AccountId,
        /// The URL without `https://`.
        url: &'a str,
    },
    /// `saml-provider/ACCOUNT/NAME`
    SamlProvider {
        /// The account.
        account: AccountId,
        /// The name, with case.
        name: &'a str,
    },
    /// `mfa/ACCOUNT/NAME`
    MfaDevice {
        /// The account.
        account: AccountId,
        /// The name, with case.
        name: &'a str,
    },
    /// `last-used/ACCOUNT/ID`
    LastUsed {
        /// The account.
        account: AccountId,
        /// The id.
        id: &'a str,
    },
    /// `job/ACCOUNT/ID`
    Job {
        /// The account.
        account: AccountId,
        /// The id.
        id: &'a str,
    },
    /// `aws-policy/NAME`
    AwsPolicy(&'a str),
    /// `access-key/ID`
    AccessKey(&'a str),
    /// `cluster/ACCOUNT/REGION/NAME`
    Cluster {
        /// The account.
        account: AccountId,
        /// The region.
        region: &'a str,
        /// The name, with case.
        name: &'a str,
    },
    /// `access-entry/ACCOUNT/CLUSTER/KIND/ACCOUNT/NAME`
    AccessEntry {
        /// The account of the cluster.
        account: AccountId,
        /// The cluster's id.
        cluster_id: &'a str,
        /// The principal as [`EntryPrincipal::key`](super::EntryPrincipal::key) writes it.
        principal: &'a str,
    },
    /// `pod-identity-association/ACCOUNT/CLUSTER/NAMESPACE/SERVICE_ACCOUNT`
    PodIdentityAssociation {
        /// The account of the cluster.
        account: AccountId,
        /// The cluster's id.
        cluster_id: &'a str,
        /// The namespace.
        namespace: &'a str,
        /// The service account.
        service_account: &'a str,
    },
    /// `identity-provider-config/ACCOUNT/CLUSTER/NAME`
    IdentityProviderConfig {
        /// The account of the cluster.
        account: AccountId,
        /// The cluster's id.
        cluster_id: &'a str,
        /// The config's name, with case.
        name: &'a str,
    },
    /// `addon/ACCOUNT/CLUSTER/NAME`
    Addon {
        /// The account of the cluster.
        account: AccountId,
        /// The cluster's id.
        cluster_id: &'a str,
        /// The add-on's name.
        name: &'a str,
    },
    /// `cluster-update/ACCOUNT/CLUSTER/ID`
    ClusterUpdate {
        /// The account of the cluster.
        account: AccountId,
        /// The cluster's id.
        cluster_id: &'a str,
        /// The update's id.
        id: &'a str,
    },
    /// `cluster-keys/ACCOUNT/CLUSTER`
    ClusterKeys {
        /// The account of the cluster.
        account: AccountId,
        /// The cluster's id.
        cluster_id: &'a str,
    },
    /// `request-token/ACCOUNT/REGION/OPERATION/TOKEN`
    RequestToken {
        /// The account of the caller.
        account: AccountId,
        /// The region that was called.
        region: &'a str,
        /// The operation.
        operation: &'a str,
        /// The token's SHA-256 in hexadecimal.
        token: &'a str,
    },
    /// `revocation/TARGET`, see [`RevocationTarget::id`]
    Revocation(&'a str),
}

impl<'a> RecordKey<'a> {
    /// Reads a key.
    ///
    /// # Errors
    /// [`DecodeError::UnknownKind`] for a kind of a later version, [`DecodeError::Key`] for a malformed key of a known one.
    pub fn parse(key: &'a Key) -> Result<Self, DecodeError> {
        let (kind, rest) = key
            .as_str()
            .split_once('/')
            .ok_or(DecodeError::UnknownKind)?;
        let part = |text: &'a str| {
            if text.is_empty() || text.contains('/') {
                Err(DecodeError::Key)
            } else {
                Ok(text)
            }
        };
        Ok(match kind {
            "meta" if rest == "seal-check" => Self::SealCheck,
            "meta" if rest == "session-keys" => Self::SessionKeys,
            "meta" if rest == "outbound-keys" => Self::OutboundKeys,
            "meta" if rest == "restore" => Self::Restore,
            "account" => Self::Account(account(rest)?),
            "account-alias" => Self::AccountAlias(part(rest)?),
            "user" => {
                let (account, name) = folded(rest)?;
                Self::User {
                    account,
                    name: part(name)?,
                }
            }
            "role" => {
                let (account, name) = folded(rest)?;
                Self::Role {
                    account,
                    name: part(name)?,
                }
            }
            "group" => {
                let (account, name) = folded(rest)?;
                Self::Group {
                    account,
                    name: part(name)?,
                }
            }
            "policy" => {
                let (account, name) = folded(rest)?;
                Self::ManagedPolicy {
                    account,
                    name: part(name)?,
                }
            }
            "instance-profile" => {
                let (account, name) = folded(rest)?;
                Self::InstanceProfile {
                    account,
                    name: part(name)?,
                }
            }
            "oidc-provider" => {
                let (account, url) = in_account(rest)?;
                Self::OidcProvider { account, url }
            }
            "saml-provider" => {
                let (account, name) = in_account(rest)?;
                Self::SamlProvider {
                    account,
                    name: part(name)?,
                }
            }
            "mfa" => {
                let (account, name) = in_account(rest)?;
                Self::MfaDevice {
                    account,
                    name: part(name)?,
                }
            }
            "last-used" => {
                let (account, id) = in_account(rest)?;
                Self::LastUsed {
                    account,
                    id: part(id)?,
                }
            }
            "job" => {
                let (account, id) = in_account(rest)?;
                Self::Job { account, id }
            }
            "aws-policy" => Self::AwsPolicy(part(rest)?),
            "access-key" => Self::AccessKey(part(rest)?),
            "cluster" => {
                let (id, rest) = rest.split_once('/').ok_or(DecodeError::Key)?;
                let (region, name) = rest.split_once('/').ok_or(DecodeError::Key)?;
                Self::Cluster {
                    account: account(id)?,
                    region: part(region)?,
                    name: part(name)?,
                }
            }
            "access-entry" => {
                let (account, rest) = in_account(rest)?;
                let (cluster_id, principal) = rest.split_once('/').ok_or(DecodeError::Key)?;
                Self::AccessEntry {
                    account,
                    cluster_id: part(cluster_id)?,
                    principal: entry_principal(principal)?,
                }
            }
            "pod-identity-association" => {
                let (account, rest) = in_account(rest)?;
                let (cluster_id, subject) = rest.split_once('/').ok_or(DecodeError::Key)?;
                let (namespace, service_account) =
                    subject.split_once('/').ok_or(DecodeError::Key)?;
                check_namespace_pattern(namespace).map_err(|_| DecodeError::Key)?;
                check_service_account_pattern(service_account).map_err(|_| DecodeError::Key)?;
                Self::PodIdentityAssociation {
                    account,
                    cluster_id: part(cluster_id)?,
                    namespace,
                    service_account,
                }
            }
            "identity-provider-config" => {
                let (account, rest) = in_account(rest)?;
                let (cluster_id, name) = rest.split_once('/').ok_or(DecodeError::Key)?;
                Self::IdentityProviderConfig {
                    account,
                    cluster_id: part(cluster_id)?,
                    name: part(name)?,
                }
            }
            "addon" => {
                let (account, rest) = in_account(rest)?;
                let (cluster_id, name) = rest.split_once('/').ok_or(DecodeError::Key)?;
                Self::Addon {
                    account,
                    cluster_id: part(cluster_id)?,
                    name: part(name)?,
                }
            }
            "cluster-update" => {
                let (account, rest) = in_account(rest)?;
                let (cluster_id, id) = rest.split_once('/').ok_or(DecodeError::Key)?;
                Self::ClusterUpdate {
                    account,
                    cluster_id: part(cluster_id)?,
                    id: part(id)?,
                }
            }
            "cluster-keys" => {
                let (account, cluster_id) = in_account(rest)?;
                Self::ClusterKeys {
                    account,
                    cluster_id: part(cluster_id)?,
                }
            }
            "request-token" => {
                let (account, rest) = in_account(rest)?;
                let (region, rest) = rest.split_once('/').ok_or(DecodeError::Key)?;
                let (operation, token) = rest.split_once('/').ok_or(DecodeError::Key)?;
                Self::RequestToken {
                    account,
                    region: part(region)?,
                    operation: part(operation)?,
                    token: part(token)?,
                }
            }
            "revocation" if RevocationTarget::from_id(rest).is_some() => Self::Revocation(rest),
            "revocation" => return Err(DecodeError::Key),
            _ => return Err(DecodeError::UnknownKind),
        })
    }

    /// The key as it is stored.
    ///
    /// # Errors
    /// When a part is so long, or has such characters, that no such record can exist.
    pub fn to_key(self) -> Result<Key, InvalidKey> {
        Key::new(match self {
            Self::SealCheck => "meta/seal-check".to_owned(),
            Self::SessionKeys => "meta/session-keys".to_owned(),
            Self::OutboundKeys => "meta/outbound-keys".to_owned(),
            Self::Restore => "meta/restore".to_owned(),
            Self::Account(id) => format!("account/{id}"),
            Self::AccountAlias(alias) => format!("account-alias/{alias}"),
            Self::User { account, name } => format!("user/{account}/{}", name.to_ascii_lowercase()),
            Self::Role { account, name } => format!("role/{account}/{}", name.to_ascii_lowercase()),
            Self::Group { account, name } => {
                format!("group/{account}/{}", name.to_ascii_lowercase())
            }
            Self::ManagedPolicy { account, name } => {
                format!("policy/{account}/{}", name.to_ascii_lowercase())
            }
            Self::InstanceProfile { account, name } => {
                format!("instance-profile/{account}/{}", name.to_ascii_lowercase())
            }
            Self::OidcProvider { account, url } => format!("oidc-provider/{account}/{url}"),
            Self::SamlProvider { account, name } => format!("saml-provider/{account}/{name}"),
            Self::MfaDevice { account, name } => format!("mfa/{account}/{name}"),
            Self::LastUsed { account, id } => format!("last-used/{account}/{id}"),
            Self::Job { account, id } => format!("job/{account}/{id}"),
            Self::AwsPolicy(name) => format!("aws-policy/{name}"),
            Self::AccessKey(id) => format!("access-key/{id}"),
            Self::Cluster {
                account,
                region,
                name,
            } => format!("cluster/{account}/{region}/{name}"),
            Self::AccessEntry {
                account,
                cluster_id,
                principal,
            } => format!("access-entry/{account}/{cluster_id}/{principal}"),
            Self::PodIdentityAssociation {
                account,
                cluster_id,
                namespace,
                service_account,
            } => format!(
                "pod-identity-association/{account}/{cluster_id}/{namespace}/{service_account}"
            ),
            Self::IdentityProviderConfig {
                account,
                cluster_id,
                name,
            } => format!("identity-provider-config/{account}/{cluster_id}/{name}"),
            Self::Addon {
                account,
                cluster_id,
                name,
            } => format!("addon/{account}/{cluster_id}/{name}"),
            Self::ClusterUpdate {
                account,
                cluster_id,
                id,
            } => format!("cluster-update/{account}/{cluster_id}/{id}"),
            Self::ClusterKeys {
                account,
                cluster_id,
            } => format!("cluster-keys/{account}/{cluster_id}"),
            Self::RequestToken {
                account,
                region,
                operation,
                token,
            } => format!("request-token/{account}/{region}/{operation}/{token}"),
            Self::Revocation(id) => format!("revocation/{id}"),
        })
    }

    /// Beginning of the keys of everything that lives in an account and is stored under it, and that somebody made. What
    /// was used when, jobs, and what hangs on a cluster say nothing without it.
    ///
    /// # Errors
    /// Never, as an account id fits into a key.
    pub fn account_prefixes(account: AccountId) -> Result<[Key; 9], InvalidKey> {
        Ok([
            Key::new(format!("user/{account}/"))?,
            Key::new(format!("role/{account}/"))?,
            Key::new(format!("cluster/{account}/"))?,
            Key::new(format!("group/{account}/"))?,
            Key::new(format!("policy/{account}/"))?,
            Key::new(format!("instance-profile/{account}/"))?,
            Key::new(format!("oidc-provider/{account}/"))?,
            Key::new(format!("saml-provider/{account}/"))?,
            Key::new(format!("mfa/{account}/"))?,
        ])
    }
}

/// Account and name. A name that is not folded would hide from every lookup, and could be a second one of that name.
fn folded(rest: &str) -> Result<(AccountId, &str), DecodeError> {
    let (id, name) = rest.split_once('/').ok_or(DecodeError::Key)?;
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(DecodeError::Key);
    }
    Ok((account(id)?, name))
}

/// `KIND/ACCOUNT/NAME` with a folded name.
fn entry_principal(text: &str) -> Result<&str, DecodeError> {
    let (kind, rest) = text.split_once('/').ok_or(DecodeError::Key)?;
    let (_, name) = folded(rest)?;
    if PrincipalKind::of(kind).is_none() || name.is_empty() || name.contains('/') {
        return Err(DecodeError::Key);
    }
    Ok(text)
}

fn in_account(rest: &str) -> Result<(AccountId, &str), DecodeError> {
    let (id, name) = rest.split_once('/').ok_or(DecodeError::Key)?;
    if name.is_empty() {
        return Err(DecodeError::Key);
    }
    Ok((account(id)?, name))
}

fn account(text: &str) -> Result<AccountId, DecodeError> {
    text.parse().map_err(|_| DecodeError::Key)
}

//! What a session is: the content of its token (STS spec, section 8.2).
//!
//! A record holds no secret. The seed of the secret access key travels beside it in the sealed token and is gone once
//! the secret is derived, so a record may be printed, logged and serialised.

mod codec;
mod federation;
mod network;
mod pack;
mod principal;
mod tags;

use std::net::IpAddr;

use countersign_arn::{AccountId, Partition};
use jiff::Timestamp;
use serde::Serialize;

pub use codec::DecodeRecordError;
pub(crate) use codec::{MAX_PLAINTEXT, decode, encode};
pub use federation::Federation;
pub use network::{Cidr, ParseCidrError};
pub use principal::SessionPrincipal;
pub use tags::{SessionTag, SessionTags, is_tag_text};
pub(crate) use tags::{fold, same_key};

/// Longest life of any session, in seconds: 36 hours (GetSessionToken and GetFederationToken).
pub const MAX_SESSION_SECONDS: i64 = 36 * 3600;
/// Longest inline session policy that is sealed or unsealed, in bytes. STS allows 2,048 characters, which may take two
/// bytes each; the rest is room for how a document is minified.
pub const MAX_POLICY_BYTES: usize = 8192;
/// Most policy ARNs of one session.
pub const MAX_POLICY_ARNS: usize = 10;

/// The call that made a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionKind {
    /// AssumeRole.
    AssumedRole,
    /// AssumeRoleWithWebIdentity.
    WebIdentity,
    /// AssumeRoleWithSAML.
    Saml,
    /// GetSessionToken.
    SessionToken,
    /// GetFederationToken.
    Federation,
    /// AssumeRoot.
    RootTask,
    /// EKS Pod Identity.
    PodIdentity,
    /// A role of Identity Center.
    IdentityCenter,
    /// `aws login`.
    Login,
    /// An instance profile's role.
    Instance,
}

impl SessionKind {
    /// All kinds, in the order of their numbers inside tokens.
    pub const ALL: [Self; 10] = [
        Self::AssumedRole,
        Self::WebIdentity,
        Self::Saml,
        Self::SessionToken,
        Self::Federation,
        Self::RootTask,
        Self::PodIdentity,
        Self::IdentityCenter,
        Self::Login,
        Self::Instance,
    ];

    /// The kind's name, as logs and `countersign sessions inspect` print it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AssumedRole => "assumed-role",
            Self::WebIdentity => "web-identity",
            Self::Saml => "saml",
            Self::SessionToken => "session-token",
            Self::Federation => "federation",
            Self::RootTask => "root-task",
            Self::PodIdentity => "pod-identity",
            Self::IdentityCenter => "identity-center",
            Self::Login => "login",
            Self::Instance => "instance",
        }
    }

    /// Whether a session of this kind may belong to `principal`.
    const fn may_be(self, principal: &SessionPrincipal) -> bool {
        match self {
            Self::AssumedRole
            | Self::WebIdentity
            | Self::Saml
            | Self::PodIdentity
            | Self::IdentityCenter
            | Self::Instance => matches!(principal, SessionPrincipal::Role { .. }),
            Self::SessionToken => {
                matches!(
                    principal,
                    SessionPrincipal::User { .. } | SessionPrincipal::Root
                )
            }
            Self::Federation => matches!(principal, SessionPrincipal::FederatedUser { .. }),
            Self::RootTask => matches!(principal, SessionPrincipal::Root),
            Self::Login => !matches!(principal, SessionPrincipal::FederatedUser { .. }),
        }
    }
}

/// The session policies of a session: with the principal's own policies they form an intersection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPolicies {
    /// The inline document, minified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<Box<str>>,
    /// ARNs of managed policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arns: Vec<Box<str>>,
}

impl SessionPolicies {
    /// Whether no session policy limits the session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inline.is_none() && self.arns.is_empty()
    }
}

/// Where a session came from, for audit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The access key id that signed the call; absent for unsigned calls such as AssumeRoleWithWebIdentity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<Box<str>>,
    /// The id of the request that was answered with this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Box<str>>,
}

/// The workload a session was issued to (Pod Identity and IRSA).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// The cluster's ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Box<str>>,
    /// The pod's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Box<str>>,
    /// The pod's service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<Box<str>>,
    /// The pod's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<Box<str>>,
    /// The node's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Box<str>>,
    /// The pod identity association, `a-…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub association_id: Option<Box<str>>,
}

impl Binding {
    /// Whether the session is bound to no workload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A session: everything that temporary credentials stand for.
///
/// Not in it, by rule: external id, web identity token, SAML assertion, MFA code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRecord {
    /// The call that made it.
    pub kind: SessionKind,
    /// The partition of its ARNs.
    pub partition: Partition,
    /// The account.
    pub account: AccountId,
    /// Whose session it is.
    pub principal: SessionPrincipal,
    /// When it was issued. A token keeps whole seconds; the fraction is dropped.
    pub issued: Timestamp,
    /// When it ends: at this second the key is dead already (STS spec, section 3).
    pub expires: Timestamp,
    /// Session policies.
    #[serde(skip_serializing_if = "SessionPolicies::is_empty")]
    pub policies: SessionPolicies,
    /// Session tags, inherited ones included.
    #[serde(skip_serializing_if = "SessionTags::is_empty")]
    pub tags: SessionTags,
    /// The source identity, which stays for the whole chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_identity: Option<Box<str>>,
    /// When MFA was verified; absent = no MFA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mfa_at: Option<Timestamp>,
    /// The identity provider behind the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub federation: Option<Federation>,
    /// Role sessions on the way here: 0 for users, 1 for a role assumed with a long-term key, one more per chained call.
    pub depth: u8,
    /// Where it came from.
    pub origin: Origin,
    /// The workload it was issued to.
    #[serde(skip_serializing_if = "Binding::is_empty")]
    pub binding: Binding,
    /// The network it may be used from; absent = anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Cidr>,
}

/// A record breaks a rule, so no token carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("session {field}: {rule}")]
pub struct InvalidRecord {
    /// The field.
    pub field: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl SessionRecord {
    /// A record with what every session has; the other fields are public and empty.
    #[must_use]
    pub fn new(
        kind: SessionKind,
        partition: Partition,
        account: AccountId,
        principal: SessionPrincipal,
        issued: Timestamp,
        expires: Timestamp,
    ) -> Self {
        Self {
            kind,
            partition,
            account,
            principal,
            issued,
            expires,
            policies: SessionPolicies::default(),
            tags: SessionTags::default(),
            source_identity: None,
            mfa_at: None,
            federation: None,
            depth: 0,
            origin: Origin::default(),
            binding: Binding::default(),
            network: None,
        }
    }

    /// Whether the session is over at `now`. Expiry is exclusive: at `expires` it is.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires
    }

    /// Whether the session may be used from `address`, which its network binding may rule out.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.network.is_none_or(|network| network.contains(address))
    }

    /// Checks every rule that the types do not carry. Runs before sealing and after unsealing.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), InvalidRecord> {
        let rule = |field, holds: bool, rule| {
            if holds {
                Ok(())
            } else {
                Err(InvalidRecord { field, rule })
            }
        };
        rule(
            "principal",
            self.kind.may_be(&self.principal),
            "this kind of session cannot belong to this kind of principal",
        )?;
        self.principal.validate()?;
        let (issued, expires) = (self.issued.as_second(), self.expires.as_second());
        rule("issued", issued >= 0, "is before 1970")?;
        rule("expires", issued < expires, "is not after the issue")?;
        rule(
            "expires",
            expires - issued <= MAX_SESSION_SECONDS,
            "is more than 36 hours after the issue",
        )?;
        rule(
            "mfa",
            self.mfa_at.is_none_or(|at| at.as_second() >= 0),
            "is before 1970",
        )?;
        rule(
            "policies",
            self.policies
                .inline
                .as_ref()
                .is_none_or(|text| !text.is_empty() && text.len() <= MAX_POLICY_BYTES),
            "an inline policy has 1 to 8192 bytes",
        )?;
        rule(
            "policies",
            self.policies.arns.len() <= MAX_POLICY_ARNS,
            "at most 10 policy ARNs",
        )?;
        rule(
            "source identity",
            self.source_identity
                .as_deref()
                .is_none_or(countersign_arn::is_session_name),
            "does not match [\\w+=,.@-]{2,64}",
        )?;
        rule(
            "federation",
            match self.kind {
                SessionKind::WebIdentity => {
                    matches!(self.federation, Some(Federation::Oidc { .. }))
                }
                SessionKind::Saml => matches!(self.federation, Some(Federation::Saml { .. })),
                _ => true,
            },
            "a web identity or SAML session names its provider",
        )?;
        let key_id = self.origin.access_key_id.as_deref();
        rule(
            "origin",
            key_id.is_none_or(|id| (16..=128).contains(&id.len()) && id.is_ascii()),
            "an access key id has 16 to 128 characters",
        )
    }
}

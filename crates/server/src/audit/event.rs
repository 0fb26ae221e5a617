//! A finished API call, as the record is made from.

use std::net::IpAddr;

use countersign_arn::{AccountId, CallerIdentity};
use countersign_oidc::KubernetesClaims;
use countersign_session::SessionRecord;
use jiff::Timestamp;

use crate::aws::query::{Member, Parameters};

/// One API call that is over. Everything is borrowed: the record is made at once.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// When the call was completed.
    pub time: Timestamp,
    /// The id the caller was answered with.
    pub request_id: &'a str,
    /// A fresh UUID; programs that read several logs tell copies of a record by it.
    pub event_id: &'a str,
    /// The service's signing name, such as `sts`.
    pub service: &'a str,
    /// The operation as the request names it. Names of no operation are shown when they look like one.
    pub operation: &'a str,
    /// The region of the API.
    pub region: &'a str,
    /// Who called.
    pub identity: Identity<'a>,
    /// The account the record belongs to when the caller has none: that of the role, for web identity and SAML.
    pub recipient: Option<AccountId>,
    /// Where the request came from.
    pub source: IpAddr,
    /// The header `User-Agent`, as received.
    pub user_agent: &'a str,
    /// The parameters; none when they could not be read.
    pub parameters: Option<&'a Parameters<'a>>,
    /// The parameters of a REST-JSON request, read against the shape of its operation: an object without secrets.
    pub input: Option<&'a serde_json::Value>,
    /// What was answered; none for errors and for operations without output.
    pub response: Option<&'a Member>,
    /// Whether it was checked and answered, and not done.
    pub dry_run: bool,
    /// Code and message of the error that was answered.
    pub error: Option<(&'a str, &'a str)>,
    /// What the policies said.
    pub decision: Decision<'a>,
    /// The pod that the call was about; AssumeRoleForPodIdentity only.
    pub pod: Option<PodFacts<'a>>,
    /// ARNs of what the call was about.
    pub resources: &'a [&'a str],
    /// The TLS connection; none for plain HTTP.
    pub tls: Option<TlsFacts>,
    /// The workload behind a service account token that was verified.
    pub kubernetes: Option<&'a KubernetesClaims>,
    /// The header `Host`, as received.
    pub host: &'a str,
}

/// The pod that credentials were asked for: what its token says, and what was done about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct PodFacts<'a> {
    /// ARN of the cluster.
    pub cluster: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The service account.
    pub service_account: &'a str,
    /// The pod's name.
    pub pod_name: &'a str,
    /// The pod's uid.
    pub pod_uid: &'a str,
    /// The node it runs on, if the token says so.
    pub node: Option<&'a str>,
    /// ARN of the association, if there is one.
    pub association: Option<&'a str>,
    /// ARN of the session of the association's role, when a target role was assumed with it.
    pub first_session: Option<&'a str>,
    /// ARN of the session that the pod got, if it got one.
    pub session: Option<&'a str>,
}

/// Who called.
#[derive(Debug, Clone, Copy)]
pub enum Identity<'a> {
    /// A caller whose signature was verified.
    Caller {
        /// The identity.
        identity: &'a CallerIdentity,
        /// The session behind temporary credentials; none for a long-term key.
        session: Option<&'a SessionRecord>,
        /// The ARN of the user who made a federated session, as it is now. Other sessions name their issuer themselves.
        issuer: Option<&'a str>,
    },
    /// The bearer of a web identity token that was verified (AssumeRoleWithWebIdentity).
    WebIdentity {
        /// `iss`.
        issuer: &'a str,
        /// The `aud` that was accepted.
        audience: &'a str,
        /// `sub`.
        subject: &'a str,
    },
    /// The bearer of a SAML assertion that was verified (AssumeRoleWithSAML).
    Saml {
        /// The value of `saml:namequalifier`.
        name_qualifier: &'a str,
        /// The NameID.
        subject: &'a str,
    },
    /// A service of the deployment that acts for itself, such as `eks.amazonaws.com`.
    Service(&'a str),
    /// Nobody who was verified.
    Unknown {
        /// The access key id that the request claims.
        access_key_id: Option<&'a str>,
    },
}

/// What the policies said to a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decision<'a> {
    /// The decision; none when no policy was asked: the call needs no permission, or was refused before.
    pub outcome: Option<Outcome>,
    /// The statements that made the decision, such as `role/cart:inline/app#0`.
    pub matched: &'a [&'a str],
    /// What the caller was not told, such as that the role of a refused AssumeRole does not exist.
    pub reason: Option<&'a str>,
    /// The sealed explanation that DecodeAuthorizationMessage opens.
    pub encoded_message: Option<&'a str>,
}

/// The three decisions of the policy engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A statement allowed, and none denied.
    Allowed,
    /// A statement denied.
    ExplicitDeny,
    /// Nothing allowed.
    ImplicitDeny,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ExplicitDeny => "explicitDeny",
            Self::ImplicitDeny => "implicitDeny",
        }
    }
}

/// The TLS connection of a call, in CloudTrail's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The IANA name of the cipher suite, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
}

impl TlsFacts {
    /// The facts of a connection whose handshake is finished.
    #[must_use]
    pub fn of(connection: &rustls::CommonState) -> Option<Self> {
        let version = match connection.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => return None,
        };
        let suite = connection.negotiated_cipher_suite()?.suite();
        // rustls marks the suites of TLS 1.3 in their names; IANA does not.
        let name = suite.as_str()?;
        let cipher = match name.strip_prefix("TLS13_") {
            None => name,
            Some("AES_128_GCM_SHA256") => "TLS_AES_128_GCM_SHA256",
            Some("AES_256_GCM_SHA384") => "TLS_AES_256_GCM_SHA384",
            Some("CHACHA20_POLY1305_SHA256") => "TLS_CHACHA20_POLY1305_SHA256",
            Some(_) => return None,
        };
        Some(Self { version, cipher })
    }
}

//! Who calls: the ARN that STS reports, folded to the IAM principal behind it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{AccountId, Arn, ParseArnError, Partition};

/// What kind of principal calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallerKind {
    /// An IAM user, `arn:P:iam::A:user/path/Name`.
    User,
    /// An IAM role itself, `arn:P:iam::A:role/path/Name`; STS never reports it, mapping files do.
    Role,
    /// The account root, `arn:P:iam::A:root`.
    Root,
    /// A role session, `arn:P:sts::A:assumed-role/Name/Session`.
    AssumedRole,
    /// A session of GetFederationToken, `arn:P:sts::A:federated-user/Name`.
    FederatedUser,
}

/// A caller's ARN, parsed: partition, account, kind, and the name inside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallerArn {
    partition: Partition,
    account: AccountId,
    kind: CallerKind,
    /// The resource without its type: `path/Name`, `Role`, or empty for root.
    name: Box<str>,
    session: Box<str>,
}

/// Why an ARN or user id does not name a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCaller {
    /// The text is no ARN.
    #[error("arn '{arn}' is invalid: {source}")]
    NotAnArn {
        /// The text.
        arn: String,
        /// What is wrong with it.
        source: ParseArnError,
    },
    /// The partition is none of the eight.
    #[error("arn '{arn}' is invalid: partition is not recognized")]
    Partition {
        /// The text.
        arn: String,
    },
    /// The account is not 12 digits.
    #[error("arn '{arn}' is invalid: account is not 12 digits")]
    Account {
        /// The text.
        arn: String,
    },
    /// `assumed-role/X` without a session behind it.
    #[error("arn '{arn}' is invalid: assumed-role arn '{arn}' does not have a role")]
    NoRole {
        /// The text.
        arn: String,
    },
    /// Another service or resource type.
    #[error("arn '{arn}' is invalid: unrecognized resource for service {service}")]
    Resource {
        /// The text.
        arn: String,
        /// Its service field.
        service: String,
    },
    /// The user id of a role session is not `id:session`.
    #[error("malformed UserID \"{user_id}\"")]
    UserId {
        /// The user id.
        user_id: String,
    },
    /// The session name has characters AWS never lets through.
    #[error("session name does not match [\\w+=,.@-]{{2,64}}")]
    SessionName,
    /// The reported account and the ARN's account differ.
    #[error("account `{reported}` is not the account of the ARN")]
    AccountMismatch {
        /// What STS reported.
        reported: String,
    },
}

impl CallerArn {
    /// Parses the ARN of a caller.
    ///
    /// # Errors
    /// When it is no ARN, its partition is unknown, its account is not 12 digits, or it names no principal.
    pub fn parse(text: &str) -> Result<Self, InvalidCaller> {
        let shown = || text.chars().take(256).collect::<String>();
        let arn = Arn::parse(text).map_err(|source| InvalidCaller::NotAnArn {
            arn: shown(),
            source,
        })?;
        let partition = arn
            .partition
            .parse()
            .map_err(|_| InvalidCaller::Partition { arn: shown() })?;
        let account = arn
            .account
            .parse()
            .map_err(|_| InvalidCaller::Account { arn: shown() })?;
        let unrecognized = || InvalidCaller::Resource {
            arn: shown(),
            service: arn.service.chars().take(64).collect(),
        };
        let (kind, name, session) = match (arn.service, arn.resource.split_once('/')) {
            ("iam", None) if arn.resource == "root" => (CallerKind::Root, "", ""),
            ("iam", Some(("user", name))) if !name.is_empty() => (CallerKind::User, name, ""),
            ("iam", Some(("role", name))) if !name.is_empty() => (CallerKind::Role, name, ""),
            ("sts", Some(("federated-user", name))) if !name.is_empty() => {
                (CallerKind::FederatedUser, name, "")
            }
            ("sts", Some(("assumed-role", rest))) => match rest.rsplit_once('/') {
                Some((role, session)) if !role.is_empty() => {
                    (CallerKind::AssumedRole, role, session)
                }
                _ => return Err(InvalidCaller::NoRole { arn: shown() }),
            },
            ("sts", None) if arn.resource == "assumed-role" => {
                return Err(InvalidCaller::NoRole { arn: shown() });
            }
            _ => return Err(unrecognized()),
        };
        Ok(Self {
            partition,
            account,
            kind,
            name: name.into(),
            session: session.into(),
        })
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// The account as text.
    #[must_use]
    pub fn account_str(&self) -> &str {
        self.account.as_str()
    }

    /// The kind of principal.
    #[must_use]
    pub fn kind(&self) -> CallerKind {
        self.kind
    }

    /// The session name inside an assumed-role ARN, else empty.
    #[must_use]
    pub fn session(&self) -> &str {
        &self.session
    }

    /// The user, role or federated name with its path, without a leading slash; empty for root.
    #[must_use]
    pub fn path_and_name(&self) -> &str {
        &self.name
    }

    /// The name alone: what stands behind the last slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
            .rsplit_once('/')
            .map_or(&*self.name, |(_, name)| name)
    }

    /// The canonical ARN: a session's is that of its IAM role (`arn:P:iam::A:role/X`), all others are unchanged.
    ///
    /// STS never reports a role's path, so the canonical ARN of a session has none.
    #[must_use]
    pub fn canonical(&self) -> String {
        let Self {
            partition,
            account,
            kind,
            name,
            ..
        } = self;
        match kind {
            CallerKind::User => format!("arn:{partition}:iam::{account}:user/{name}"),
            CallerKind::Role | CallerKind::AssumedRole => {
                format!("arn:{partition}:iam::{account}:role/{name}")
            }
            CallerKind::Root => format!("arn:{partition}:iam::{account}:root"),
            CallerKind::FederatedUser => {
                format!("arn:{partition}:sts::{account}:federated-user/{name}")
            }
        }
    }

    /// The canonical ARN without the path of a role: `role/a/b/N` becomes `role/N`. Other kinds keep theirs.
    #[must_use]
    pub fn canonical_without_role_path(&self) -> String {
        match self.kind {
            CallerKind::Role | CallerKind::AssumedRole => {
                format!(
                    "arn:{}:iam::{}:role/{}",
                    self.partition,
                    self.account,
                    self.name()
                )
            }
            _ => self.canonical(),
        }
    }
}

impl fmt::Display for CallerArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            CallerKind::AssumedRole => write!(
                f,
                "arn:{}:sts::{}:assumed-role/{}/{}",
                self.partition, self.account, self.name, self.session
            ),
            _ => f.write_str(&self.canonical()),
        }
    }
}

/// Whether `text` is a session name as AWS accepts it: `[\w+=,.@-]{2,64}`, ASCII.
#[must_use]
pub fn is_session_name(text: &str) -> bool {
    (2..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

/// A tag of a principal or session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// The key; compared without regard to case by IAM.
    pub key: Box<str>,
    /// The value.
    pub value: Box<str>,
}

/// What only an STS that issued the session itself can tell: real AWS does not answer it in GetCallerIdentity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFacts {
    /// The principal's IAM ARN with its path.
    pub principal_arn: String,
    /// The source identity, once set.
    pub source_identity: Option<String>,
    /// Session tags, inherited ones included.
    pub session_tags: Vec<Tag>,
    /// Tags of the user or role.
    pub principal_tags: Vec<Tag>,
    /// Whether the session was made with MFA.
    pub mfa: bool,
    /// When the session was issued, in seconds since the epoch.
    pub issued_at: Option<i64>,
}

/// The identity a verified token proves (authentication spec, section 2.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    arn: Arc<str>,
    canonical_arn: Arc<str>,
    caller: CallerArn,
    user_id: Box<str>,
    session_name: Box<str>,
    access_key_id: Box<str>,
    sts_endpoint: Arc<str>,
    facts: Option<Arc<SessionFacts>>,
}

impl CallerIdentity {
    /// Builds the identity from what GetCallerIdentity answers, and checks that the parts agree.
    ///
    /// `user_id` is split as STS writes it: `AROA…:session` for role sessions, whole for all others.
    ///
    /// # Errors
    /// When the ARN names no caller, the account differs from the ARN's, or user id and session name are malformed.
    pub fn new(
        arn: &str,
        account: &str,
        user_id: &str,
        access_key_id: &str,
        sts_endpoint: &str,
    ) -> Result<Self, InvalidCaller> {
        let caller = CallerArn::parse(arn)?;
        if caller.account.as_str() != account {
            return Err(InvalidCaller::AccountMismatch {
                reported: account.chars().take(32).collect(),
            });
        }
        let malformed = || InvalidCaller::UserId {
            user_id: user_id.chars().take(128).collect(),
        };
        let (user_id, session_name) = match caller.kind {
            CallerKind::AssumedRole => {
                let (id, session) = user_id.split_once(':').ok_or_else(malformed)?;
                if id.is_empty() || session.contains(':') {
                    return Err(malformed());
                }
                if !is_session_name(session) {
                    return Err(InvalidCaller::SessionName);
                }
                (id, session)
            }
            CallerKind::User | CallerKind::Root | CallerKind::FederatedUser => (user_id, ""),
            CallerKind::Role => {
                return Err(InvalidCaller::Resource {
                    arn: arn.chars().take(256).collect(),
                    service: "iam".into(),
                });
            }
        };
        if user_id.is_empty()
            || user_id.len() > 256
            || !user_id.bytes().all(|b| (0x21..=0x7e).contains(&b))
        {
            return Err(malformed());
        }
        Ok(Self {
            arn: arn.into(),
            canonical_arn: caller.canonical().into(),
            user_id: user_id.into(),
            session_name: session_name.into(),
            access_key_id: access_key_id.into(),
            sts_endpoint: sts_endpoint.into(),
            caller,
            facts: None,
        })
    }

    /// Adds what only the issuing STS knows.
    #[must_use]
    pub fn with_facts(mut self, facts: Arc<SessionFacts>) -> Self {
        self.facts = Some(facts);
        self
    }

    /// The ARN as STS reports it.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The canonical ARN, see [`CallerArn::canonical`].
    #[must_use]
    pub fn canonical_arn(&self) -> &str {
        &self.canonical_arn
    }

    /// The parsed ARN.
    #[must_use]
    pub fn caller(&self) -> &CallerArn {
        &self.caller
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.caller.account
    }

    /// The unique id of the user or role, without the session name.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The session name; empty unless a role session calls.
    #[must_use]
    pub fn session_name(&self) -> &str {
        &self.session_name
    }

    /// The access key id that signed; may be empty.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The STS host the token was made for.
    #[must_use]
    pub fn sts_endpoint(&self) -> &str {
        &self.sts_endpoint
    }

    /// What only the issuing STS knows; absent when real AWS verified the token.
    #[must_use]
    pub fn facts(&self) -> Option<&SessionFacts> {
        self.facts.as_deref()
    }
}

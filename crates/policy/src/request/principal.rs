//! Who asks (policy language spec, sections 7.3 and 8.3).

use countersign_arn::unique_id;
use countersign_arn::{Arn, CallerArn, CallerKind, InvalidCaller};

/// The principal of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    identity: Identity,
    arn: Box<str>,
    partition: Option<Box<str>>,
    account: Box<str>,
    unique_id: Option<Box<str>>,
    credentials: Credentials,
}

/// What the credentials of a user or root are; sessions of roles and federated users are told by their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Credentials {
    /// An access key that does not expire, or no restriction known.
    #[default]
    LongTerm,
    /// A session of GetSessionToken.
    SessionToken {
        /// Whether a second factor was given.
        mfa: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    Root,
    User {
        path_and_name: Box<str>,
    },
    Session {
        role_path_and_name: Box<str>,
        session: Box<str>,
    },
    FederatedUser {
        name: Box<str>,
        /// The user that called GetFederationToken: its ARN and unique id.
        user: Option<(Box<str>, Option<Box<str>>)>,
    },
    Service {
        name: Box<str>,
    },
    Anonymous,
    /// The unsigned caller of AssumeRoleWithWebIdentity or AssumeRoleWithSAML.
    Federated {
        provider: Box<str>,
    },
}

/// What kind of principal asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PrincipalType {
    /// The account root user.
    Root,
    /// An IAM user.
    User,
    /// A session of a role.
    Session,
    /// A session of GetFederationToken.
    Federated,
    /// An AWS service.
    Service,
    /// Unsigned, with or without an identity provider behind it.
    Anonymous,
}

/// The text names no principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrincipal {
    /// It looks like an ARN but names no caller.
    #[error(transparent)]
    Arn(#[from] InvalidCaller),
    /// It is an ARN of another kind than was asked for.
    #[error("`{arn}` is not the ARN of {expected}")]
    Kind {
        /// The ARN.
        arn: String,
        /// What it should name.
        expected: &'static str,
    },
    /// It is neither an ARN nor one of the other forms.
    #[error(
        "`{0}` is no principal: expected an ARN, a service such as `eks.amazonaws.com`, or `anonymous`"
    )]
    Form(String),
}

impl Principal {
    /// An IAM user.
    ///
    /// # Errors
    /// When `arn` is not the ARN of a user.
    pub fn user(arn: &str, unique_id: Option<&str>) -> Result<Self, InvalidPrincipal> {
        let caller = expect(arn, CallerKind::User, "a user")?;
        let identity = Identity::User {
            path_and_name: caller.path_and_name().into(),
        };
        Ok(Self::known(arn, &caller, identity, unique_id))
    }

    /// A session of a role. `role_arn` is the role's own ARN with its path, which the session's ARN does not tell; `role_id` is the
    /// role's unique id (`AROA...`).
    ///
    /// # Errors
    /// When `arn` is not the ARN of a session, or `role_arn` not that of a role.
    pub fn session(
        arn: &str,
        role_arn: Option<&str>,
        role_id: Option<&str>,
    ) -> Result<Self, InvalidPrincipal> {
        let caller = expect(arn, CallerKind::AssumedRole, "a role session")?;
        let role = match role_arn {
            Some(role_arn) => expect(role_arn, CallerKind::Role, "a role")?
                .path_and_name()
                .into(),
            None => caller.path_and_name().into(),
        };
        let identity = Identity::Session {
            role_path_and_name: role,
            session: caller.session().into(),
        };
        Ok(Self::known(arn, &caller, identity, role_id))
    }

    /// A session of GetFederationToken, and the user who called it.
    ///
    /// # Errors
    /// When `arn` is not the ARN of a federated user.
    pub fn federated_user(
        arn: &str,
        user: Option<(&str, Option<&str>)>,
    ) -> Result<Self, InvalidPrincipal> {
        let caller = expect(arn, CallerKind::FederatedUser, "a federated user")?;
        let identity = Identity::FederatedUser {
            name: caller.path_and_name().into(),
            user: user.map(|(arn, id)| (arn.into(), id.map(Into::into))),
        };
        Ok(Self::known(arn, &caller, identity, None))
    }

    /// The root user of an account.
    ///
    /// # Errors
    /// When `arn` is not the ARN of an account root.
    pub fn root(arn: &str) -> Result<Self, InvalidPrincipal> {
        let caller = expect(arn, CallerKind::Root, "an account root")?;
        Ok(Self::known(arn, &caller, Identity::Root, None))
    }

    /// An AWS service acting for itself.
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self::unknown(Identity::Service { name: name.into() }, name)
    }

    /// An unsigned caller.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::unknown(Identity::Anonymous, "anonymous")
    }

    /// The unsigned caller of AssumeRoleWithWebIdentity or AssumeRoleWithSAML, vouched for by `provider`: the ARN of an OIDC or SAML
    /// provider, or one of the four built-in domains. Only a verified token makes one.
    #[must_use]
    pub fn federated(provider: &str) -> Self {
        Self::unknown(
            Identity::Federated {
                provider: provider.into(),
            },
            provider,
        )
    }

    /// Reads the forms of a simulate file: an ARN, a service name, or `anonymous`. A role's ARN stands for some session of it.
    ///
    /// # Errors
    /// When the text is none of these.
    pub fn parse(text: &str, unique_id: Option<&str>) -> Result<Self, InvalidPrincipal> {
        if text == "anonymous" {
            return Ok(Self::anonymous());
        }
        if !text.starts_with("arn:") {
            return if text.contains('.') && !text.contains(['/', ' ', ':']) {
                Ok(Self::service(text))
            } else {
                Err(InvalidPrincipal::Form(text.chars().take(256).collect()))
            };
        }
        // `aws:userid` of a session is `AROA...:session`; the id of the role is the first half.
        let unique_id = unique_id.map(|id| id.split_once(':').map_or(id, |(role, _)| role));
        let caller = CallerArn::parse(text)?;
        match caller.kind() {
            CallerKind::Root => Self::root(text),
            CallerKind::User => Self::user(text, unique_id),
            CallerKind::AssumedRole => Self::session(text, None, unique_id),
            CallerKind::FederatedUser => Self::federated_user(text, None),
            CallerKind::Role => {
                let identity = Identity::Session {
                    role_path_and_name: caller.path_and_name().into(),
                    session: Box::default(),
                };
                Ok(Self::known(text, &caller, identity, unique_id))
            }
        }
    }

    /// Says what credentials a user or root calls with.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// The ARN as messages print it: a session's is its session ARN. A service's name, `anonymous`, or the provider else.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The account; empty for services and anonymous callers.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The partition, where one is known.
    #[must_use]
    pub fn partition(&self) -> Option<&str> {
        self.partition.as_deref()
    }

    /// The unique id of the user or role.
    #[must_use]
    pub fn unique_id(&self) -> Option<&str> {
        self.unique_id.as_deref()
    }

    /// What kind of principal this is.
    #[must_use]
    pub fn kind(&self) -> PrincipalType {
        match self.identity {
            Identity::Root => PrincipalType::Root,
            Identity::User { .. } => PrincipalType::User,
            Identity::Session { .. } => PrincipalType::Session,
            Identity::FederatedUser { .. } => PrincipalType::Federated,
            Identity::Service { .. } => PrincipalType::Service,
            Identity::Anonymous | Identity::Federated { .. } => PrincipalType::Anonymous,
        }
    }

    /// The ARN of `aws:PrincipalArn`: the role's for a session, else the own; `None` for services and anonymous callers.
    #[must_use]
    pub fn principal_arn(&self) -> Option<String> {
        match &self.identity {
            Identity::Session {
                role_path_and_name, ..
            } => Some(format!(
                "arn:{}:iam::{}:role/{role_path_and_name}",
                self.partition.as_deref().unwrap_or("aws"),
                self.account
            )),
            Identity::Root | Identity::User { .. } | Identity::FederatedUser { .. } => {
                Some(self.arn.to_string())
            }
            Identity::Service { .. } | Identity::Anonymous | Identity::Federated { .. } => None,
        }
    }

    /// The user's name, for `aws:username`.
    #[must_use]
    pub fn user_name(&self) -> Option<&str> {
        match &self.identity {
            Identity::User { path_and_name } => path_and_name.rsplit('/').next(),
            _ => None,
        }
    }

    /// Whether this is a session of a service-linked role, which organization policies do not reach.
    #[must_use]
    pub fn is_service_linked(&self) -> bool {
        matches!(&self.identity, Identity::Session { role_path_and_name, .. }
            if role_path_and_name.starts_with("aws-service-role/"))
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials
    }

    fn known(arn: &str, caller: &CallerArn, identity: Identity, unique_id: Option<&str>) -> Self {
        Self {
            identity,
            arn: arn.into(),
            partition: Some(caller.partition().to_string().into()),
            account: caller.account().as_str().into(),
            unique_id: unique_id.map(Into::into),
            credentials: Credentials::LongTerm,
        }
    }

    fn unknown(identity: Identity, shown: &str) -> Self {
        Self {
            identity,
            arn: shown.into(),
            partition: None,
            account: Box::default(),
            unique_id: None,
            credentials: Credentials::LongTerm,
        }
    }
}

fn expect(
    arn: &str,
    kind: CallerKind,
    expected: &'static str,
) -> Result<CallerArn, InvalidPrincipal> {
    let caller = CallerArn::parse(arn)?;
    if caller.kind() == kind {
        Ok(caller)
    } else {
        Err(InvalidPrincipal::Kind {
            arn: arn.chars().take(256).collect(),
            expected,
        })
    }
}

/// The account of an identity provider's ARN.
pub(crate) fn provider_account(provider: &str) -> Option<&str> {
    Arn::parse(provider).ok().map(|arn| arn.account)
}

/// Whether a text has the form of a user's or role's unique id.
pub(crate) fn is_principal_id(text: &str) -> bool {
    matches!(
        unique_id::Kind::of(text),
        Some(unique_id::Kind::User | unique_id::Kind::Role)
    ) && text
        .bytes()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

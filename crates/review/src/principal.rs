//! Whom a question is about.

use std::sync::Arc;

use countersign_arn::{CallerArn, CallerIdentity, CallerKind, SessionFacts, is_session_name};
use countersign_rbac::{AUTHENTICATED, implied_groups};

/// Stands in where nobody named a session: only rules that name sessions would tell it from another.
const ANY_SESSION: &str = "any-session";
/// Stands in for an id that nobody knows; no principal has it.
const UNKNOWN_ID: &str = "UNKNOWN";

/// Whom a question is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A principal of IAM, which first has to become a Kubernetes user.
    Principal(Principal),
    /// A Kubernetes user with groups.
    User(User),
}

/// A Kubernetes user as it is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Username; empty if only groups are asked about.
    pub name: String,
    /// All groups that count, in order.
    pub groups: Vec<String>,
}

/// A principal of IAM.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// The ARN as it was given.
    pub arn: CallerArn,
    /// The session name, where one is known.
    pub session: Option<String>,
    /// What IAM says of it.
    pub standing: Standing,
}

/// What IAM says of a principal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nobody asked IAM.
    #[default]
    Unknown,
    /// There is no such principal.
    Absent,
    /// It is there.
    There {
        /// Its unique id.
        id: String,
        /// Its ARN with the path.
        arn: String,
    },
}

/// The text names no principal that can authenticate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrincipalFault {
    /// No ARN of a principal.
    #[error(
        "`{0}` is no principal: expected the ARN of an IAM role, user or root, or of a session of STS"
    )]
    NotAPrincipal(String),
    /// Characters that AWS does not let through.
    #[error("`{0}` is no session name: 2 to 64 letters, digits and `_+=,.@-`")]
    SessionName(String),
    /// Only roles have sessions.
    #[error("only a role has sessions; `{0}` is none")]
    NoSessions(String),
    /// `sa:…` without namespace and name.
    #[error("`{0}` is no service account: expected `sa:NAMESPACE/NAME`")]
    ServiceAccount(String),
}

impl Principal {
    /// The principal of an ARN. `session` is for roles whose session matters: usernames often have it in them.
    ///
    /// # Errors
    /// When it is no ARN of a principal, or the session name cannot be one.
    pub fn parse(arn: &str, session: Option<&str>) -> Result<Self, PrincipalFault> {
        let shown = || arn.chars().take(256).collect::<String>();
        let caller = CallerArn::parse(arn).map_err(|_| PrincipalFault::NotAPrincipal(shown()))?;
        let of_arn = Some(caller.session()).filter(|session| !session.is_empty());
        let is_role = matches!(caller.kind(), CallerKind::Role | CallerKind::AssumedRole);
        if session.is_some() && !is_role {
            return Err(PrincipalFault::NoSessions(shown()));
        }
        let session = session.or(of_arn);
        if let Some(session) = session.filter(|session| !is_session_name(session)) {
            return Err(PrincipalFault::SessionName(
                session.chars().take(80).collect(),
            ));
        }
        Ok(Self {
            session: session.map(str::to_owned),
            arn: caller,
            standing: Standing::Unknown,
        })
    }

    /// The unique id, where it is known.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match &self.standing {
            Standing::There { id, .. } => Some(id),
            Standing::Unknown | Standing::Absent => None,
        }
    }

    /// The ARN of the IAM principal behind it, with its path where that is known.
    #[must_use]
    pub fn canonical(&self) -> String {
        match &self.standing {
            Standing::There { arn, .. } => arn.clone(),
            Standing::Unknown | Standing::Absent => self.arn.canonical(),
        }
    }

    /// Whether `arn` is of the same account, kind and name: what tells principals apart before their ids are known, since
    /// names are unique in an account whatever the path (EKS API spec, section 7.4).
    #[must_use]
    pub fn is_named(&self, arn: &CallerArn) -> bool {
        let kind = |arn: &CallerArn| match arn.kind() {
            CallerKind::AssumedRole => CallerKind::Role,
            other => other,
        };
        arn.partition() == self.arn.partition()
            && arn.account() == self.arn.account()
            && kind(arn) == kind(&self.arn)
            && arn.name().eq_ignore_ascii_case(self.arn.name())
    }

    /// The caller that a token of this principal proves, as far as it is known.
    pub(crate) fn identity(&self) -> Option<CallerIdentity> {
        let id = self.id().unwrap_or(UNKNOWN_ID);
        let account = self.arn.account_str();
        let endpoint = "sts.amazonaws.com";
        let identity = match self.arn.kind() {
            CallerKind::Role | CallerKind::AssumedRole => {
                let session = self.session.as_deref().unwrap_or(ANY_SESSION);
                let arn = format!(
                    "arn:{}:sts::{account}:assumed-role/{}/{session}",
                    self.arn.partition(),
                    self.arn.name()
                );
                CallerIdentity::new(&arn, account, &format!("{id}:{session}"), "", endpoint)
            }
            CallerKind::User | CallerKind::Root | CallerKind::FederatedUser => {
                CallerIdentity::new(&self.arn.to_string(), account, id, "", endpoint)
            }
        };
        let identity = identity.ok()?;
        Some(match &self.standing {
            // An STS that knows the principal tells its path, which rules may ask for.
            Standing::There { arn, .. } => identity.with_facts(Arc::new(SessionFacts {
                principal_arn: arn.clone(),
                ..SessionFacts::default()
            })),
            Standing::Unknown | Standing::Absent => identity,
        })
    }
}

impl User {
    /// A user, with the groups that the API server would add unless `exact` (RBAC spec, section 5).
    #[must_use]
    pub fn new(name: impl Into<String>, groups: Vec<String>, exact: bool) -> Self {
        let name = name.into();
        let implied = match (exact, name.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => vec![AUTHENTICATED.to_owned()],
            (false, false) => implied_groups(&name),
        };
        let mut all = groups;
        for group in implied {
            if !all.contains(&group) {
                all.push(group);
            }
        }
        Self { name, groups: all }
    }
}

impl Subject {
    /// Reads a subject as one word: an ARN, `user:NAME`, `group:NAME`, `sa:NAMESPACE/NAME`, or a username.
    ///
    /// # Errors
    /// When it begins as an ARN or a service account and is none.
    pub fn parse(word: &str, session: Option<&str>, exact: bool) -> Result<Self, PrincipalFault> {
        if word.starts_with("arn:") {
            return Principal::parse(word, session).map(Self::Principal);
        }
        if session.is_some() {
            return Err(PrincipalFault::NoSessions(word.chars().take(256).collect()));
        }
        Ok(Self::User(match word.split_once(':') {
            Some(("user", name)) => User::new(name, Vec::new(), exact),
            Some(("group", name)) => User::new("", vec![name.to_owned()], exact),
            Some(("sa", account)) => {
                let parts = account.split_once('/').or_else(|| account.split_once(':'));
                let (namespace, name) = parts
                    .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
                    .ok_or_else(|| {
                        PrincipalFault::ServiceAccount(word.chars().take(256).collect())
                    })?;
                User::new(
                    format!("system:serviceaccount:{namespace}:{name}"),
                    Vec::new(),
                    exact,
                )
            }
            _ => User::new(word, Vec::new(), exact),
        }))
    }
}

//! The EC2 instance behind a node's session (authentication spec, section 3.10).

use std::fmt;

use countersign_arn::{AccountId, CallerIdentity};

use crate::entry::NodeNameSource;
use crate::options::VerifyInstanceRole;

/// The id of an EC2 instance: `i-` and 8 or 17 word characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ec2InstanceId {
    text: [u8; 19],
    len: u8,
}

impl Ec2InstanceId {
    /// The id that `text` is, if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("i-")?;
        let fits = matches!(digits.len(), 8 | 17)
            && digits
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !fits {
            return None;
        }
        let mut id = Self {
            text: [0; 19],
            len: u8::try_from(text.len()).ok()?,
        };
        id.text
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        Some(id)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text
            .get(..usize::from(self.len))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

impl fmt::Display for Ec2InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Ec2InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstanceState {
    /// It starts.
    Pending,
    /// It runs.
    Running,
    /// It is being shut down, stopped, or gone.
    Ended,
}

impl InstanceState {
    /// The state that EC2 calls `name`.
    #[must_use]
    pub fn of(name: &str) -> Self {
        match name {
            "pending" => Self::Pending,
            "running" => Self::Running,
            _ => Self::Ended,
        }
    }
}

/// What is known about an instance. What the source cannot tell is absent; static node names have only a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ec2Facts {
    /// The instance these facts are about; compared with the session if present.
    pub instance_id: Option<Ec2InstanceId>,
    /// The private DNS name; empty for seconds after the launch.
    pub private_dns_name: Option<String>,
    /// The owner of the reservation.
    pub owner: Option<AccountId>,
    /// The state.
    pub state: Option<InstanceState>,
    /// Names or ARNs of the roles in the instance's profile. An instance without profile has an empty list.
    pub profile_roles: Option<Vec<String>>,
    /// Tags, as key and value.
    pub tags: Vec<(String, String)>,
    /// Whether the session was issued through instance metadata; only the embedded STS knows.
    pub issued_by_metadata: Option<bool>,
}

/// Why an instance cannot be the caller's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceMismatch {
    /// Facts of another instance.
    #[error("the facts are about another instance than the session names")]
    OtherInstance,
    /// The instance belongs to another account.
    #[error("the instance belongs to account {0}")]
    Owner(AccountId),
    /// The instance neither starts nor runs.
    #[error("the instance is neither pending nor running")]
    State,
    /// The caller's role is not in the instance's profile.
    #[error("the instance profile does not contain the role `{0}`")]
    Role(String),
    /// The session was made by somebody else than the instance.
    #[error("the session was not issued through instance metadata")]
    NotFromMetadata,
    /// Nothing is known about what has to be compared.
    #[error("the {0} of the instance is not known")]
    Unknown(&'static str),
}

impl Ec2Facts {
    /// Compares the instance with the caller. Whoever may assume a node role by hand can name any instance in the
    /// session name; the role, account and state of the instance tell whether it can be the instance's own session.
    ///
    /// # Errors
    /// With the first contradiction.
    pub fn verify(
        &self,
        identity: &CallerIdentity,
        how: VerifyInstanceRole,
    ) -> Result<(), InstanceMismatch> {
        if self
            .instance_id
            .is_some_and(|id| id.as_str() != identity.session_name())
        {
            return Err(InstanceMismatch::OtherInstance);
        }
        if how == VerifyInstanceRole::Off {
            return Ok(());
        }
        let required = how == VerifyInstanceRole::Require;
        match self.owner {
            Some(owner) if owner != identity.account() => {
                return Err(InstanceMismatch::Owner(owner));
            }
            None if required => return Err(InstanceMismatch::Unknown("account")),
            _ => {}
        }
        match self.state {
            Some(InstanceState::Ended) => return Err(InstanceMismatch::State),
            None if required => return Err(InstanceMismatch::Unknown("state")),
            _ => {}
        }
        match &self.profile_roles {
            Some(roles) if !roles.iter().any(|role| is_role_of(role, identity)) => {
                return Err(InstanceMismatch::Role(identity.caller().name().to_owned()));
            }
            None if required => return Err(InstanceMismatch::Unknown("profile")),
            _ => {}
        }
        match self.issued_by_metadata {
            Some(false) => Err(InstanceMismatch::NotFromMetadata),
            // Real AWS does not tell; only where the session's facts are known can this be asked for.
            None if required && identity.facts().is_some() => {
                Err(InstanceMismatch::Unknown("origin of the session"))
            }
            _ => Ok(()),
        }
    }

    /// The node's name; none while it is empty or if it is no DNS name.
    #[must_use]
    pub fn node_name(&self, source: &NodeNameSource, id: &Ec2InstanceId) -> Option<String> {
        let name = match source {
            NodeNameSource::PrivateDnsName => self.private_dns_name.as_deref()?,
            NodeNameSource::PrivateDnsNameOrInstanceId => self
                .private_dns_name
                .as_deref()
                .filter(|name| !name.is_empty())
                .unwrap_or(id.as_str()),
            NodeNameSource::InstanceId => id.as_str(),
            NodeNameSource::Tag(key) => self
                .tags
                .iter()
                .find(|(have, _)| **have == **key)
                .map(|(_, value)| value.as_str())?,
        };
        let fits = (1..=253).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        fits.then(|| name.to_owned())
    }
}

/// `role` is a name, or an ARN with any path.
fn is_role_of(role: &str, identity: &CallerIdentity) -> bool {
    let name = match role.split_once(":role/") {
        None => role,
        Some((head, path_and_name)) => {
            if head.rsplit(':').next() != Some(identity.account().as_str()) {
                return false;
            }
            path_and_name.rsplit('/').next().unwrap_or(path_and_name)
        }
    };
    name.eq_ignore_ascii_case(identity.caller().name())
}

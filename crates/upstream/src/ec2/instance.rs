//! An instance as a source describes it, before the roles of its profile are known.

use countersign_arn::AccountId;
use countersign_mapping::{Ec2Facts, Ec2InstanceId, InstanceState};

/// An instance as a [`Ec2`](super::Ec2) source describes it.
///
/// What a source cannot tell at all is absent: a table of names knows neither owner nor state nor profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: Ec2InstanceId,
    /// Its private DNS name; empty for seconds after launch.
    pub private_dns_name: String,
    /// Its state, as EC2 names it.
    pub state: Option<String>,
    /// The account that owns its reservation.
    pub owner: Option<AccountId>,
    /// Its instance profile.
    pub profile: Profile,
    /// Its tags.
    pub tags: Vec<(String, String)>,
}

/// The instance profile of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// The source does not tell.
    NotTold,
    /// It has none.
    Absent,
    /// Its ARN.
    Arn(String),
}

impl Instance {
    /// An instance of which only the name is known.
    #[must_use]
    pub fn named(id: Ec2InstanceId, name: impl Into<String>) -> Self {
        Self {
            id,
            private_dns_name: name.into(),
            state: None,
            owner: None,
            profile: Profile::NotTold,
            tags: Vec::new(),
        }
    }

    pub(super) fn is_terminated(&self) -> bool {
        self.state.as_deref() == Some("terminated")
    }

    /// The facts, with the names of the roles in its profile if they could be found out.
    pub(super) fn into_facts(self, roles: Option<Vec<String>>) -> Ec2Facts {
        Ec2Facts {
            instance_id: Some(self.id),
            private_dns_name: Some(self.private_dns_name).filter(|name| !name.is_empty()),
            owner: self.owner,
            state: self.state.as_deref().map(InstanceState::of),
            profile_roles: match self.profile {
                Profile::NotTold => None,
                Profile::Absent => Some(Vec::new()),
                Profile::Arn(_) => roles,
            },
            tags: self.tags,
            issued_by_metadata: None,
        }
    }
}

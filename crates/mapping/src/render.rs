//! A rule and a caller to a Kubernetes identity, with the checks on what comes out (authentication spec, sections 3.6,
//! 3.9 and 3.10).

use countersign_arn::CallerIdentity;

use crate::BackendKind;
use crate::chain::Mapped;
use crate::decision::{DenyReason, MappingDenied};
use crate::identity::KubernetesIdentity;
use crate::instance::Ec2Facts;
use crate::lint::{NODE_BY_DNS_NAME, NODE_BY_SESSION, NODE_PREFIX, NODES};
use crate::options::NodeUsernames;

/// What had to be found out between the two steps of a mapping.
#[derive(Debug, Clone, Copy, Default)]
pub struct RenderInputs<'a> {
    /// What is known about the instance of [`Mapped::required_lookup`].
    pub instance: Option<&'a Ec2Facts>,
    /// Whether the caller is allowed the action of [`Mapped::required_action`]. Unknown denies.
    pub action_allowed: Option<bool>,
}

impl<'a> From<Option<&'a Ec2Facts>> for RenderInputs<'a> {
    fn from(instance: Option<&'a Ec2Facts>) -> Self {
        Self {
            instance,
            action_allowed: None,
        }
    }
}

/// Longest username or group.
const MAX_LEN: usize = 1024;

impl Mapped<'_> {
    /// Renders username and groups. Every failure is a denial: no later backend is asked.
    ///
    /// # Errors
    /// When something needed is unknown or does not fit, or the result is one that must not be given.
    pub fn render<'a>(
        &self,
        identity: &CallerIdentity,
        inputs: impl Into<RenderInputs<'a>>,
    ) -> Result<KubernetesIdentity, Box<MappingDenied>> {
        self.identity(identity, inputs.into())
            .map_err(|reason| self.denied(reason))
    }

    fn identity(
        &self,
        identity: &CallerIdentity,
        inputs: RenderInputs<'_>,
    ) -> Result<KubernetesIdentity, DenyReason> {
        if self.required_action().is_some() && inputs.action_allowed != Some(true) {
            return Err(DenyReason::ActionNotAllowed);
        }
        let node_name = self.node_name(identity, inputs.instance)?;
        let username = self
            .entry
            .username
            .render(identity, node_name.as_deref())
            .map_err(DenyReason::Template)?;
        if username.is_empty() || !is_name(&username) {
            return Err(DenyReason::InvalidUsername);
        }
        let mut groups = Vec::with_capacity(self.entry.groups.len());
        for template in &self.entry.groups {
            let group = template
                .render(identity, node_name.as_deref())
                .map_err(DenyReason::Template)?;
            if group.is_empty() {
                continue;
            }
            if !is_name(&group) {
                return Err(DenyReason::InvalidGroup);
            }
            groups.push(group);
        }
        self.check(&username, &groups)?;
        Ok(KubernetesIdentity::new(
            username,
            groups,
            identity,
            &self.entry.rule,
            self.chain.options(),
        ))
    }

    fn node_name(
        &self,
        identity: &CallerIdentity,
        facts: Option<&Ec2Facts>,
    ) -> Result<Option<String>, DenyReason> {
        let Some(id) = self.instance else {
            return Ok(None);
        };
        if id.as_str() != identity.session_name() {
            return Err(DenyReason::NotAnInstance);
        }
        let unknown = Ec2Facts::default();
        let facts = match (facts, self.lookup) {
            (Some(facts), _) => facts,
            (None, None) => &unknown,
            (None, Some(_)) => return Err(DenyReason::InstanceUnknown),
        };
        facts
            .verify(identity, self.chain.options().verify_instance_role)
            .map_err(DenyReason::Instance)?;
        match facts.node_name(&self.entry.conditions.node_name, &id) {
            Some(name) => Ok(Some(name)),
            None => Err(DenyReason::InstanceNameEmpty),
        }
    }

    /// What this backend must not give.
    fn check(&self, username: &str, groups: &[String]) -> Result<(), DenyReason> {
        let backend = self.entry.rule.backend;
        let options = self.chain.options();
        let reserved = || {
            options
                .reserved_prefixes
                .iter()
                .filter(|reserved| reserved.backend == backend)
                .flat_map(|reserved| &reserved.prefixes)
        };
        if reserved().any(|prefix| !prefix.is_empty() && username.starts_with(prefix.as_str())) {
            return Err(DenyReason::ReservedUsername {
                backend,
                username: username.to_owned(),
                prefixes: reserved().cloned().collect(),
            });
        }
        if options.node_usernames == NodeUsernames::Require
            && username.starts_with(NODE_PREFIX)
            && !(matches!(
                self.entry.username.as_str(),
                NODE_BY_DNS_NAME | NODE_BY_SESSION
            ) && groups.iter().any(|group| group == NODES))
        {
            return Err(DenyReason::NodeUsername);
        }
        // The creator's entry is what is left when everything else is misconfigured.
        if backend != BackendKind::ClusterCreator {
            for group in groups {
                if group.starts_with(ENTRY_GROUP_PREFIX) && backend != BackendKind::AccessEntries {
                    return Err(DenyReason::PrivilegedGroup(group.clone()));
                }
                if let Some(allowed) = options.privileged_groups.get(group)
                    && !allowed.contains(&backend)
                {
                    return Err(DenyReason::PrivilegedGroup(group.clone()));
                }
            }
        }
        Ok(())
    }
}

/// Projected access policies are bound to a group of each entry; whoever else gave it out would lend them.
pub(crate) const ENTRY_GROUP_PREFIX: &str = "countersign:entry:";

fn is_name(text: &str) -> bool {
    text.len() <= MAX_LEN && text.trim() == text && !text.contains(char::is_control)
}

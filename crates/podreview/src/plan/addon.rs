//! `pods enable-irsa`: an add-on that uses the node's role gets one of its own (IRSA spec, section 9.2).

use super::migrate::{provider, web_trust};
use super::{Action, Plan, State};
use crate::fact::{AccountFacts, ClusterFacts, Fact, ProviderFacts, RoleFacts};
use crate::trust::{NewTrust, WebIdentityTrust};
use crate::{ROLE_ANNOTATION, STS_AUDIENCE, subject};

/// An add-on that runs as a DaemonSet with the rights of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addon {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its namespace.
    pub namespace: &'static str,
    /// Its service account.
    pub service_account: &'static str,
    /// Its DaemonSet.
    pub daemon_set: &'static str,
    /// The managed policy it needs, behind `arn:PARTITION:iam::aws:policy/`.
    pub policy: &'static str,
}

impl Addon {
    /// The VPC CNI.
    pub const AWS_NODE: Self = Self {
        name: "aws-node",
        namespace: "kube-system",
        service_account: "aws-node",
        daemon_set: "aws-node",
        policy: "AmazonEKS_CNI_Policy",
    };

    /// The ARN of the policy in a partition.
    #[must_use]
    pub fn policy_arn(&self, partition: &str) -> String {
        format!("arn:{partition}:iam::aws:policy/{}", self.policy)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddonRequest {
    /// The add-on.
    pub addon: Addon,
    /// Name of the role, made where there is none.
    pub role_name: String,
    /// ARN of the node role from which the policy is taken at the end.
    pub detach_from: Option<String>,
}

/// What is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddonFacts {
    /// The cluster.
    pub cluster: ClusterFacts,
    /// The provider of its issuer.
    pub provider: Fact<ProviderFacts>,
    /// The role of that name.
    pub role: Fact<RoleFacts>,
    /// ARNs of the managed policies attached to the role.
    pub attached: Vec<String>,
    /// The service account.
    pub account: Fact<AccountFacts>,
    /// ARNs of the managed policies attached to the node role.
    pub node_attached: Vec<String>,
    /// Whether every pod of the DaemonSet has the role.
    pub pods_have_role: bool,
}

/// Plans the add-on's own role: provider, role with its trust policy, policy, annotation, restart, and only after every pod is ready
/// with it the detachment from the node role. The first steps change nothing for pods that run.
#[must_use]
pub fn enable_irsa(request: &AddonRequest, facts: &AddonFacts) -> Plan {
    let mut plan = Plan::default();
    let Addon {
        name,
        namespace,
        service_account,
        daemon_set,
        ..
    } = request.addon;
    let cluster = &facts.cluster;
    let partition = cluster.partition();
    let policy_arn = request.addon.policy_arn(partition);
    let (Some(issuer), Some(provider_arn)) = (
        cluster.issuer.clone(),
        cluster.provider_arn(cluster.account()),
    ) else {
        plan.problem(
            &cluster.name,
            "the cluster has no issuer",
            "give it one: kube-apiserver --service-account-issuer",
        );
        return plan;
    };
    let account = match &facts.account {
        Fact::Known(account) => account,
        Fact::Missing => {
            plan.problem(
                format!("{namespace}/{service_account}"),
                format!("the service account of {name} does not exist"),
                "install the add-on first",
            );
            return plan;
        }
        other => {
            let reason = other.unread().unwrap_or_default();
            plan.problem(
                format!("{namespace}/{service_account}"),
                format!("the service account could not be read: {reason}"),
                "use a kubeconfig that may read it",
            );
            return plan;
        }
    };
    if !provider(&mut plan, &facts.provider, &provider_arn, &issuer) {
        return plan;
    }
    let sub = subject(namespace, service_account);
    let planned_arn = format!(
        "arn:{partition}:iam::{}:role/{}",
        cluster.account(),
        request.role_name
    );
    let role_arn = match &facts.role {
        Fact::Known(role) => {
            if !web_trust(&mut plan, role, &provider_arn, &sub) {
                return plan;
            }
            role.arn.clone()
        }
        Fact::Missing => {
            let trust = NewTrust::Web(WebIdentityTrust {
                provider_arn,
                audience: STS_AUDIENCE.to_owned(),
                subjects: vec![sub],
            });
            plan.push(
                State::Planned,
                Action::CreateRole {
                    role_arn: planned_arn.clone(),
                    trust: trust.document(),
                },
            );
            planned_arn
        }
        other => {
            let reason = other.unread().unwrap_or_default();
            plan.problem(
                &planned_arn,
                format!("the role could not be read: {reason}"),
                "use credentials that may call iam:GetRole",
            );
            return plan;
        }
    };
    let attach = Action::AttachPolicy {
        role_arn: role_arn.clone(),
        policy_arn: policy_arn.clone(),
    };
    plan.push(state(facts.attached.contains(&policy_arn)), attach);
    let before = account.role().map(str::to_owned);
    let annotated = before.as_deref() == Some(role_arn.as_str());
    plan.push(
        state(annotated),
        Action::Annotate {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            key: ROLE_ANNOTATION.to_owned(),
            value: Some(role_arn.clone()),
            before,
        },
    );
    let moved = annotated && facts.pods_have_role;
    plan.push(
        state(moved),
        Action::Restart {
            namespace: namespace.to_owned(),
            kind: "DaemonSet".to_owned(),
            name: daemon_set.to_owned(),
        },
    );
    if let Some(node_role) = &request.detach_from {
        let detached = !facts.node_attached.contains(&policy_arn);
        plan.push(
            state(moved && detached),
            Action::WaitReady {
                namespace: namespace.to_owned(),
                name: daemon_set.to_owned(),
                role_arn,
            },
        );
        plan.push(
            state(detached),
            Action::DetachPolicy {
                role_arn: node_role.clone(),
                policy_arn,
            },
        );
    } else {
        plan.notes.push(format!(
            "nodes keep {} on their role until it is taken away: --detach-from-node-role ROLE",
            request.addon.policy
        ));
    }
    plan
}

fn state(there: bool) -> State {
    if there { State::There } else { State::Planned }
}

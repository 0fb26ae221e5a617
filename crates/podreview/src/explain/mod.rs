//! Why a pod has its credentials or none: the whole chain, step by step, and what each container ends up with.

mod chain;
mod inject;
mod render;
mod sdk;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

pub use chain::explain;

use crate::fact::{
    AccountFacts, AgentFacts, AssociationFacts, ClusterFacts, Fact, ProviderFacts, RoleFacts,
    role_parts,
};
use crate::pod::PodFacts;

/// Everything that is known about a pod and its way to credentials.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The pod as it is now.
    pub pod: PodFacts,
    /// The same as an object, for asking what admission would add to it.
    pub object: Value,
    /// Its service account.
    pub account: Fact<AccountFacts>,
    /// The cluster in the EKS API.
    pub cluster: Fact<ClusterFacts>,
    /// The association of the service account.
    pub association: Fact<AssociationFacts>,
    /// Others that are for it as well and not in force, `NAMESPACE/NAME (ID)`, the closest first.
    pub other_associations: Vec<String>,
    /// Roles by ARN.
    pub roles: BTreeMap<String, Fact<RoleFacts>>,
    /// Providers by ARN.
    pub providers: BTreeMap<String, Fact<ProviderFacts>>,
    /// The agent on the pod's node.
    pub agent: Fact<AgentFacts>,
}

impl Facts {
    /// The roles that matter: those in the pod, the annotation's, the association's and its target.
    #[must_use]
    pub fn wanted_roles(&self) -> Vec<String> {
        let mut roles: Vec<String> = Vec::new();
        let in_pod = self.pod.containers.iter();
        roles.extend(
            in_pod
                .filter_map(|c| c.value("AWS_ROLE_ARN"))
                .map(str::to_owned),
        );
        if let Some(account) = self.account.known() {
            roles.extend(account.role().map(str::to_owned));
        }
        if let Some(association) = self.association.known() {
            roles.push(association.role_arn.clone());
            roles.extend(association.target_role_arn.clone());
        }
        roles.sort();
        roles.dedup();
        roles
    }

    /// The providers that matter: that of the cluster's issuer in the account of each role that is taken by IRSA.
    #[must_use]
    pub fn wanted_providers(&self) -> Vec<String> {
        let Some(cluster) = self.cluster.known() else {
            return Vec::new();
        };
        let in_pod = self.pod.containers.iter();
        let in_pod = in_pod.filter_map(|c| c.value("AWS_ROLE_ARN"));
        let annotated = self.account.known().and_then(AccountFacts::role);
        let mut providers: Vec<String> = in_pod
            .chain(annotated)
            .filter_map(|role| cluster.provider_arn(role_parts(role)?.0))
            .collect();
        providers.sort();
        providers.dedup();
        providers
    }

    fn role(&self, arn: &str) -> &Fact<RoleFacts> {
        self.roles.get(arn).unwrap_or(&Fact::Unasked)
    }

    fn provider(&self, arn: &str) -> &Fact<ProviderFacts> {
        self.providers.get(arn).unwrap_or(&Fact::Unasked)
    }
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and something about it is odd.
    Warn,
    /// It could not be found out.
    Unknown,
    /// Here the chain breaks.
    Fail,
}

/// A step of the chain; the order is that of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StepName {
    /// The pod itself.
    Pod,
    /// Its service account.
    ServiceAccount,
    /// What gives the account a role: association or annotation.
    Source,
    /// What admission added to the containers.
    Mutation,
    /// What stands before it in the order of SDKs.
    Order,
    /// The token and its volume.
    Token,
    /// The issuer of the cluster's tokens.
    Issuer,
    /// The provider in IAM.
    Provider,
    /// The role.
    Role,
    /// Its trust policy.
    Trust,
    /// The role of the second hop.
    TargetRole,
    /// The agent of the node.
    Agent,
}

/// One step with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which.
    pub step: StepName,
    /// How it went.
    pub status: Status,
    /// The container it is about, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Why.
    pub reason: String,
    /// What to do.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Which credentials an SDK finds first in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Found {
    /// Keys in the environment.
    Static,
    /// A role by AssumeRoleWithWebIdentity.
    #[serde(rename_all = "camelCase")]
    Irsa {
        /// The role, where its value stands in the pod.
        role_arn: Option<String>,
    },
    /// A role by EKS Pod Identity.
    #[serde(rename_all = "camelCase")]
    PodIdentity {
        /// The role, or the target role.
        role_arn: Option<String>,
        /// The association.
        association_id: Option<String>,
    },
    /// Another endpoint for container credentials.
    Container,
    /// Nothing; instance metadata is asked, and gives the node's role where the pod can reach it.
    NodeRole,
    /// Nothing, and instance metadata is not asked.
    Nothing,
}

/// Whether it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The container has working credentials of its own.
    Yes,
    /// It has not.
    No,
    /// It could not be found out.
    Unknown,
    /// The pod asks to leave the container out; it counts for nothing.
    Skipped,
}

/// What one container ends up with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerVerdict {
    /// The container.
    pub container: String,
    /// Whether it is an init container.
    pub init: bool,
    /// What an SDK finds first.
    pub credentials: Found,
    /// Whether it works.
    pub answer: Answer,
    /// The reason where it does not, or is not known to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The whole chain. `Display` prints it for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Its service account.
    pub service_account: String,
    /// Whether all containers that should have credentials have them.
    pub answer: Answer,
    /// The chain, in order.
    pub steps: Vec<Step>,
    /// Each container's end of it.
    pub containers: Vec<ContainerVerdict>,
}

//! `pods migrate`: service accounts from one way of getting credentials to another.

mod moves;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use self::moves::moves;
use super::associate::{after_steps, of_facts, put_trust, trust};
use super::legacy;
use super::{Action, Association, Plan, State};
use crate::fact::{AccountFacts, AssociationFacts, ClusterFacts, Fact, ProviderFacts, RoleFacts};
use crate::pod::PodFacts;
use crate::trust::{
    NewTrust, Verdict, WebCall, WebIdentityTrust, decide_web_identity, merge, without_subject,
};
use crate::{ROLE_ANNOTATION, STS_AUDIENCE, subject};

/// Where credentials come from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// Annotations of service accounts.
    Irsa,
    /// Associations.
    PodIdentity,
    /// Annotations of pods, with kube2iam.
    Kube2iam,
    /// Annotations of pods, with kiam.
    Kiam,
}

/// Where they are to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum To {
    /// Associations.
    PodIdentity,
    /// Annotations of service accounts.
    Irsa,
}

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Direction {
    /// From.
    pub from: From,
    /// To.
    pub to: To,
}

/// What is wanted beside the direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigrateOptions {
    /// Take what is not needed afterwards away: annotations, and OIDC statements of trust policies.
    pub remove_old: bool,
    /// Restart workloads whose pods have to be made again.
    pub restart: bool,
    /// What stands before short role names of kube2iam and kiam.
    pub base_role_arn: Option<String>,
}

/// Everything that a migration looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The cluster.
    pub cluster: ClusterFacts,
    /// Service accounts.
    pub accounts: Vec<AccountFacts>,
    /// Pods of the same namespaces.
    pub pods: Vec<PodFacts>,
    /// Annotations of namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Associations of the cluster.
    pub associations: Vec<AssociationFacts>,
    /// Roles by ARN.
    pub roles: BTreeMap<String, Fact<RoleFacts>>,
    /// The provider of the cluster's issuer in its own account.
    pub provider: Fact<ProviderFacts>,
}

/// The roles that a migration has to read.
#[must_use]
pub fn wanted_roles(
    inventory: &Inventory,
    direction: Direction,
    options: &MigrateOptions,
) -> Vec<String> {
    let mut roles = BTreeSet::new();
    match direction.from {
        From::Irsa => {
            let annotated = inventory.accounts.iter().filter_map(AccountFacts::role);
            roles.extend(annotated.map(str::to_owned));
        }
        From::PodIdentity => {
            let associations = inventory.associations.iter();
            roles.extend(associations.map(|association| association.role_arn.clone()));
        }
        From::Kube2iam | From::Kiam => {
            let base = options.base_role_arn.as_deref();
            roles.extend(
                inventory
                    .pods
                    .iter()
                    .filter_map(|pod| legacy::role_of(&pod.annotations, &inventory.cluster, base)),
            );
        }
    }
    roles.into_iter().collect()
}

/// Plans a migration. Accounts that cannot be moved as they are, such as those shared by pods with different roles, are told as
/// problems and left as they are; the others are moved.
#[must_use]
pub fn migrate(inventory: &Inventory, direction: Direction, options: &MigrateOptions) -> Plan {
    let mut plan = Plan::default();
    if matches!(
        (direction.from, direction.to),
        (From::Irsa, To::Irsa) | (From::PodIdentity, To::PodIdentity)
    ) {
        return plan;
    }
    let moves = moves(&mut plan, inventory, direction, options);
    let mut ready = Vec::new();
    for one in &moves {
        let fine = match direction.to {
            To::PodIdentity => to_association(&mut plan, inventory, one),
            To::Irsa => to_web_trust(&mut plan, inventory, one),
        };
        if fine {
            ready.push(one);
        }
    }
    if direction.to == To::PodIdentity {
        for one in &ready {
            association(&mut plan, inventory, one);
        }
        plan.notes.push(
            "pods move when they are made anew, and need the agent on their node: see `countersign pods explain`".to_owned(),
        );
    } else {
        for one in &ready {
            annotation(&mut plan, inventory, one, Some(one.role.clone()));
        }
        for one in &ready {
            drop_association(&mut plan, inventory, one);
        }
        if direction.from == From::PodIdentity && !ready.is_empty() {
            plan.notes.push(
                "an association stands before an annotation, so it goes before the pods are made anew; pods that run keep the credentials \
                 they have until these end: restart them soon"
                    .to_owned(),
            );
        }
    }
    for one in &ready {
        restarts(&mut plan, inventory, one, direction, options);
    }
    if direction.from == From::Irsa {
        remove_old(&mut plan, inventory, &ready, options);
    }
    if matches!(direction.from, From::Kube2iam | From::Kiam) {
        plan.notes.push(
            "once no pod asks instance metadata any more: scale the old DaemonSet away, and take the node's role out of these trust \
             policies; `countersign imds plan` has the order"
                .to_owned(),
        );
    }
    plan
}

/// A service account and its role.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Move {
    namespace: String,
    account: String,
    role: String,
    /// What the association is like that is left.
    old: Option<AssociationFacts>,
}

impl Move {
    fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.account)
    }
}

fn existing<'i>(inventory: &'i Inventory, one: &Move) -> Option<&'i AssociationFacts> {
    inventory.associations.iter().find(|association| {
        association.namespace == one.namespace && association.service_account == one.account
    })
}

fn wanted(inventory: &Inventory, one: &Move) -> Association {
    Association {
        cluster: inventory.cluster.name.clone(),
        namespace: one.namespace.clone(),
        service_account: one.account.clone(),
        role_arn: one.role.clone(),
        ..Association::default()
    }
}

/// The trust statement, where there is no association yet.
fn to_association(plan: &mut Plan, inventory: &Inventory, one: &Move) -> bool {
    if let Some(existing) = existing(inventory, one) {
        if existing.role_arn != one.role {
            plan.problem(
                one.name(),
                format!(
                    "association {} gives {}, not {}",
                    existing.id, existing.role_arn, one.role
                ),
                "decide which role is meant: `countersign pods associate --update`",
            );
            return false;
        }
        return true;
    }
    let role = inventory.roles.get(&one.role).unwrap_or(&Fact::Unasked);
    if role.unread().is_some() {
        let reason = role.unread().unwrap_or_default();
        plan.problem(
            &one.role,
            format!("the role could not be read: {reason}"),
            "migrate with credentials that may call iam:GetRole",
        );
        return false;
    }
    let association = wanted(inventory, one);
    trust(plan, &inventory.cluster, &association, role, true, "")
}

fn association(plan: &mut Plan, inventory: &Inventory, one: &Move) {
    let (state, note) = match existing(inventory, one) {
        Some(existing) => (State::There, Some(existing.id.clone())),
        None => (State::Planned, None),
    };
    plan.noted(
        state,
        Action::CreateAssociation(wanted(inventory, one)),
        note,
    );
}

/// Provider and trust statement for IRSA.
fn to_web_trust(plan: &mut Plan, inventory: &Inventory, one: &Move) -> bool {
    let cluster = &inventory.cluster;
    let (Some(issuer), Some(provider_arn)) = (
        cluster.issuer.clone(),
        cluster.provider_arn(cluster.account()),
    ) else {
        plan.problem(
            &cluster.name,
            "the cluster has no issuer",
            "give it one: kube-apiserver --service-account-issuer",
        );
        return false;
    };
    if !provider(plan, &inventory.provider, &provider_arn, &issuer) {
        return false;
    }
    let role = match inventory.roles.get(&one.role) {
        Some(Fact::Known(role)) => role,
        Some(Fact::Missing) => {
            plan.problem(&one.role, "the role does not exist", "make the role first");
            return false;
        }
        other => {
            let reason = other
                .and_then(Fact::unread)
                .unwrap_or("it was not asked for");
            plan.problem(
                &one.role,
                format!("the role could not be read: {reason}"),
                "migrate with credentials that may call iam:GetRole",
            );
            return false;
        }
    };
    let sub = subject(&one.namespace, &one.account);
    web_trust(plan, role, &provider_arn, &sub)
}

/// The provider of an issuer, with the audience of STS. Whether it can be there.
pub(super) fn provider(
    plan: &mut Plan,
    known: &Fact<ProviderFacts>,
    arn: &str,
    issuer: &str,
) -> bool {
    match known {
        Fact::Known(provider) if provider.client_ids.iter().any(|id| id == STS_AUDIENCE) => true,
        Fact::Known(_) => {
            plan.push(
                State::Planned,
                Action::AddAudience {
                    arn: arn.to_owned(),
                    audience: STS_AUDIENCE.to_owned(),
                },
            );
            true
        }
        Fact::Missing => {
            plan.push(
                State::Planned,
                Action::CreateProvider {
                    arn: arn.to_owned(),
                    url: issuer.to_owned(),
                    audience: STS_AUDIENCE.to_owned(),
                },
            );
            true
        }
        other => {
            let reason = other.unread().unwrap_or_default();
            plan.problem(
                arn,
                format!("the provider could not be read: {reason}"),
                "use credentials that may call iam:GetOpenIDConnectProvider",
            );
            false
        }
    }
}

/// The trust statement of a subject. Whether it is there, or will be.
pub(super) fn web_trust(plan: &mut Plan, role: &RoleFacts, provider_arn: &str, sub: &str) -> bool {
    let current = after_steps(plan, &role.arn).unwrap_or_else(|| role.trust.clone());
    let call = WebCall {
        role_arn: &role.arn,
        provider_arn,
        audience: STS_AUDIENCE,
        subject: sub,
        role_tags: &role.tags,
    };
    match decide_web_identity(&current, &call) {
        Ok(decision) if decision.verdict != Verdict::Denied => return true,
        Ok(_) => {}
        Err(error) => {
            plan.problem(
                &role.arn,
                error.to_string(),
                "correct the trust policy first",
            );
            return false;
        }
    }
    let new = NewTrust::Web(WebIdentityTrust {
        provider_arn: provider_arn.to_owned(),
        audience: STS_AUDIENCE.to_owned(),
        subjects: vec![sub.to_owned()],
    });
    match merge(&current, &new) {
        Ok(merged) => put_trust(plan, &role.arn, current, merged, &format!("lets in {sub}")),
        Err(error) => {
            plan.problem(
                &role.arn,
                error.to_string(),
                "correct the trust policy first",
            );
            false
        }
    }
}

fn annotation(plan: &mut Plan, inventory: &Inventory, one: &Move, value: Option<String>) {
    let account = inventory
        .accounts
        .iter()
        .find(|account| account.namespace == one.namespace && account.name == one.account);
    let before = account.and_then(AccountFacts::role).map(str::to_owned);
    let state = match before == value {
        true => State::There,
        false => State::Planned,
    };
    plan.push(
        state,
        Action::Annotate {
            namespace: one.namespace.clone(),
            service_account: one.account.clone(),
            key: ROLE_ANNOTATION.to_owned(),
            value,
            before,
        },
    );
}

fn drop_association(plan: &mut Plan, inventory: &Inventory, one: &Move) {
    if let Some(old) = &one.old {
        plan.push(
            State::Planned,
            Action::DeleteAssociation {
                id: old.id.clone(),
                before: of_facts(&inventory.cluster, old),
            },
        );
    }
}

/// Workloads with a pod that was mutated for the old way, or not at all.
fn restarts(
    plan: &mut Plan,
    inventory: &Inventory,
    one: &Move,
    direction: Direction,
    options: &MigrateOptions,
) {
    let variable = match direction.to {
        To::PodIdentity => "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        To::Irsa => "AWS_WEB_IDENTITY_TOKEN_FILE",
    };
    let pods = inventory.pods.iter().filter(|pod| {
        pod.namespace == one.namespace && pod.service_account == one.account && !pod.has_ended()
    });
    for pod in pods {
        if pod
            .containers
            .iter()
            .any(|container| container.has(variable))
        {
            continue;
        }
        let Some(owner) = pod.owner.clone() else {
            plan.problem(
                format!("{}/{}", pod.namespace, pod.name),
                "the pod has no owner that would make it again",
                "make it again yourself",
            );
            continue;
        };
        let restartable = matches!(
            owner.kind.as_str(),
            "Deployment" | "StatefulSet" | "DaemonSet"
        );
        let (state, note) = match (restartable, options.restart) {
            (true, true) => (State::Planned, None),
            (true, false) => (State::Left, Some("or give --restart")),
            (false, _) => (State::Left, Some("its next pods are mutated by themselves")),
        };
        plan.noted(
            state,
            Action::Restart {
                namespace: pod.namespace.clone(),
                kind: owner.kind,
                name: owner.name,
            },
            note.map(str::to_owned),
        );
    }
}

/// Annotations and OIDC statements of accounts whose pods have all moved.
fn remove_old(plan: &mut Plan, inventory: &Inventory, ready: &[&Move], options: &MigrateOptions) {
    if !options.remove_old {
        if !ready.is_empty() {
            plan.notes.push(
                "when all pods have moved, run it again with --remove-old: it takes the annotations and the OIDC statements away".to_owned(),
            );
        }
        return;
    }
    for one in ready {
        let waits = inventory.pods.iter().any(|pod| {
            let mut containers = pod.containers.iter();
            pod.namespace == one.namespace
                && pod.service_account == one.account
                && !pod.has_ended()
                && containers.any(|container| container.has("AWS_WEB_IDENTITY_TOKEN_FILE"))
        });
        if waits {
            plan.problem(
                one.name(),
                "pods of it still use the annotation's way",
                "restart them, see that they are ready, and run it again",
            );
            continue;
        }
        annotation(plan, inventory, one, None);
        let Some(Fact::Known(role)) = inventory.roles.get(&one.role) else {
            continue;
        };
        let Some(provider) = inventory.cluster.provider_arn(inventory.cluster.account()) else {
            continue;
        };
        let current = after_steps(plan, &role.arn).unwrap_or_else(|| role.trust.clone());
        let sub = subject(&one.namespace, &one.account);
        match without_subject(&current, &provider, &sub) {
            Ok(merged) if merged.change != crate::trust::Change::Unchanged => {
                put_trust(
                    plan,
                    &role.arn,
                    current,
                    merged,
                    &format!("no longer lets in {sub}"),
                );
            }
            Ok(_) => {}
            Err(error) => plan.problem(&role.arn, error.to_string(), "change it yourself"),
        }
    }
}

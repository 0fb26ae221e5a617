//! From facts to the chain.

mod time;
mod ways;

use self::time::seconds;
use super::inject::{Admission, Lack};
use super::sdk::{First, first};
use super::{Answer, ContainerVerdict, Explanation, Facts, Found, Status, Step, StepName};
use crate::ROLE_ANNOTATION;
use crate::fact::{AssociationFacts, ClusterFacts, Fact, role_parts};
use crate::pod::ContainerFacts;

/// Explains a pod: every step from its service account to the role, and what each container ends up with.
///
/// A fact that could not be read makes its step unknown; it never makes an answer.
#[must_use]
pub fn explain(facts: &Facts) -> Explanation {
    let mut chain = Chain {
        facts,
        admission: Admission::default(),
        admission_error: None,
        steps: Vec::new(),
    };
    match Admission::of(facts) {
        Ok(admission) => chain.admission = admission,
        Err(error) => chain.admission_error = Some(error),
    }
    chain.pod();
    chain.account();
    chain.source();
    let containers: Vec<ContainerVerdict> = facts
        .pod
        .containers
        .iter()
        .map(|container| chain.container(container))
        .collect();
    chain.steps.sort_by_key(|step| step.step);
    Explanation {
        namespace: facts.pod.namespace.clone(),
        pod: facts.pod.name.clone(),
        service_account: facts.pod.service_account.clone(),
        answer: overall(&containers),
        steps: chain.steps,
        containers,
    }
}

/// One "no" is a "no", then one that is not known; a pod of which every container is skipped has nothing to answer for.
fn overall(containers: &[ContainerVerdict]) -> Answer {
    let has = |answer| {
        containers
            .iter()
            .any(|container| container.answer == answer)
    };
    if has(Answer::No) {
        Answer::No
    } else if has(Answer::Unknown) {
        Answer::Unknown
    } else if has(Answer::Yes) {
        Answer::Yes
    } else {
        Answer::Skipped
    }
}

struct Chain<'f> {
    facts: &'f Facts,
    admission: Admission,
    admission_error: Option<String>,
    steps: Vec<Step>,
}

/// What a part of the chain says about a container.
type Outcome = (Status, Option<String>);

const FINE: Outcome = (Status::Ok, None);

impl Chain<'_> {
    fn step(&mut self, step: StepName, status: Status, reason: impl Into<String>) -> Outcome {
        self.full(step, status, None, reason, None)
    }

    fn advise(
        &mut self,
        step: StepName,
        status: Status,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) -> Outcome {
        self.full(step, status, None, reason, Some(advice.into()))
    }

    /// Adds a step, once for what several containers share.
    fn full(
        &mut self,
        step: StepName,
        status: Status,
        container: Option<&str>,
        reason: impl Into<String>,
        advice: Option<String>,
    ) -> Outcome {
        let step = Step {
            step,
            status,
            container: container.map(str::to_owned),
            reason: reason.into(),
            advice,
        };
        let outcome = (step.status, Some(step.reason.clone()));
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
        outcome
    }

    fn unread(&mut self, step: StepName, what: &str, reason: &str) -> Outcome {
        self.step(
            step,
            Status::Unknown,
            format!("{what} could not be read: {reason}"),
        )
    }

    fn pod(&mut self) {
        let pod = &self.facts.pod;
        let node = match &pod.node {
            Some(node) => format!("on node {node}"),
            None => "not placed on a node yet".to_owned(),
        };
        let network = if pod.host_network {
            ", on the node's network"
        } else {
            ""
        };
        let phase = pod.phase.as_deref().unwrap_or("phase unknown");
        let reason = format!("{phase}, {node}{network}");
        if pod.is_deleted || pod.has_ended() {
            let reason = format!("{reason}; it is ending, and tokens of ended pods are refused");
            self.step(StepName::Pod, Status::Warn, reason);
        } else {
            self.step(StepName::Pod, Status::Ok, reason);
        }
    }

    fn account(&mut self) {
        let pod = &self.facts.pod;
        let name = format!("{}/{}", pod.namespace, pod.service_account);
        match &self.facts.account {
            Fact::Known(account) => {
                let reason = match account.role() {
                    Some(role) => format!("{name} is annotated with {role}"),
                    None => format!("{name} has no role annotation"),
                };
                self.step(StepName::ServiceAccount, Status::Ok, reason);
            }
            Fact::Missing => {
                self.advise(
                    StepName::ServiceAccount,
                    Status::Fail,
                    format!("{name} does not exist"),
                    format!(
                        "kubectl create serviceaccount {} -n {}",
                        pod.service_account, pod.namespace
                    ),
                );
            }
            Fact::Unread(_) | Fact::Unasked => {
                let reason = self.facts.account.unread().unwrap_or_default().to_owned();
                self.unread(StepName::ServiceAccount, &name, &reason);
            }
        }
    }

    /// Without its account a pod has no good token for long.
    fn account_lives(&self) -> Outcome {
        match self.facts.account {
            Fact::Missing => (
                Status::Fail,
                Some("the service account does not exist: tokens of the pod are refused and not renewed".to_owned()),
            ),
            _ => FINE,
        }
    }

    fn source(&mut self) {
        let facts = self.facts;
        let annotated = facts.account.known().and_then(|account| account.role());
        match (&facts.association, annotated) {
            (Fact::Known(association), annotated) => {
                let hop = match &association.target_role_arn {
                    Some(target) => format!(", then {target}"),
                    None => String::new(),
                };
                let id = &association.id;
                let by = by_pattern(association, &facts.other_associations);
                let reason = format!("association {id} gives {}{hop}{by}", association.role_arn);
                match annotated {
                    Some(role) if role != association.role_arn => self.advise(
                        StepName::Source,
                        Status::Warn,
                        format!("{reason}; the annotation {ROLE_ANNOTATION} names {role} and is not used"),
                        format!("take the annotation away once nothing needs it: kubectl annotate serviceaccount {} -n {} {ROLE_ANNOTATION}-", facts.pod.service_account, facts.pod.namespace),
                    ),
                    _ => self.step(StepName::Source, Status::Ok, reason),
                };
            }
            (Fact::Missing, Some(role)) => {
                let status = match role_parts(role) {
                    Some(_) => Status::Ok,
                    None => Status::Fail,
                };
                let reason = format!("the annotation gives {role} (IRSA)");
                match status {
                    Status::Ok => self.step(StepName::Source, Status::Ok, reason),
                    _ => self.advise(
                        StepName::Source,
                        Status::Fail,
                        format!("{reason}, which is no role ARN"),
                        "write the ARN: arn:aws:iam::ACCOUNT:role/NAME",
                    ),
                };
            }
            (Fact::Missing, None) if facts.account.known().is_some() => {
                self.advise(
                    StepName::Source,
                    Status::Fail,
                    "neither an association nor an annotation gives the service account a role",
                    format!(
                        "countersign pods associate --cluster {} --namespace {} --service-account {} --role ARN",
                        cluster_name(&facts.cluster),
                        facts.pod.namespace, facts.pod.service_account
                    ),
                );
            }
            (Fact::Missing, None) => {
                self.step(
                    StepName::Source,
                    Status::Unknown,
                    "there is no association, and the annotations are not known",
                );
            }
            (other, annotated) => {
                let reason = other.unread().unwrap_or_default();
                let role = match annotated {
                    Some(role) => format!("; the annotation names {role}"),
                    None => String::new(),
                };
                let reason = format!("the associations could not be read: {reason}{role}");
                self.step(StepName::Source, Status::Unknown, reason);
            }
        }
    }

    fn container(&mut self, container: &ContainerFacts) -> ContainerVerdict {
        let lack = self.admission.lack(&container.name);
        if lack == Some(Lack::Skipped) {
            self.full(
                StepName::Mutation,
                Status::Ok,
                Some(&container.name),
                "the pod asks to skip it (eks.amazonaws.com/skip-containers)",
                None,
            );
        }
        let found = first(container);
        let (credentials, outcome) = match found {
            First::Keys => {
                let outcome = self.own(container, "keys in the environment stand before everything else");
                (Found::Static, outcome)
            }
            First::HalfOfKeys => (
                Found::Static,
                self.full(
                    StepName::Order,
                    Status::Fail,
                    Some(&container.name),
                    "AWS_ACCESS_KEY_ID is there without AWS_SECRET_ACCESS_KEY: SDKs stop with an error",
                    Some("take it out of the container".to_owned()),
                ),
            ),
            First::WebIdentityWithoutRole => (
                Found::Irsa { role_arn: None },
                self.full(
                    StepName::Order,
                    Status::Fail,
                    Some(&container.name),
                    "AWS_WEB_IDENTITY_TOKEN_FILE is there without AWS_ROLE_ARN: SDKs stop with an error",
                    Some("take it out of the container, or add AWS_ROLE_ARN".to_owned()),
                ),
            ),
            First::WebIdentity { role, file } => {
                let found = Found::Irsa {
                    role_arn: role.map(str::to_owned),
                };
                (found, self.irsa(container, role, file))
            }
            First::Agent { file } => {
                let association = self.facts.association.known();
                let role = association.map(|association| {
                    let target = association.target_role_arn.as_ref();
                    target.unwrap_or(&association.role_arn).clone()
                });
                let found = Found::PodIdentity {
                    role_arn: role,
                    association_id: association.map(|association| association.id.clone()),
                };
                (found, self.pod_identity(container, file))
            }
            First::OtherContainer => {
                let outcome = self.full(
                    StepName::Order,
                    Status::Unknown,
                    Some(&container.name),
                    "it asks another endpoint for container credentials than the agent's",
                    None,
                );
                (Found::Container, outcome)
            }
            First::Metadata { disabled } => {
                let found = if disabled { Found::Nothing } else { Found::NodeRole };
                (found, self.nothing(container, lack))
            }
        };
        let (status, reason) = outcome;
        let answer = match (lack, &credentials) {
            (Some(Lack::Skipped), Found::NodeRole | Found::Nothing) => Answer::Skipped,
            _ => match status {
                Status::Ok | Status::Warn => Answer::Yes,
                Status::Unknown => Answer::Unknown,
                Status::Fail => Answer::No,
            },
        };
        ContainerVerdict {
            container: container.name.clone(),
            init: container.is_init,
            credentials,
            answer,
            reason: reason.filter(|_| matches!(answer, Answer::No | Answer::Unknown)),
        }
    }

    /// The container has credentials that nobody injected.
    fn own(&mut self, container: &ContainerFacts, reason: &str) -> Outcome {
        let advice = self.admission.wanted.is_some().then(|| {
            "take AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN out, so that the role is used".to_owned()
        });
        self.full(
            StepName::Order,
            Status::Warn,
            Some(&container.name),
            reason,
            advice,
        )
    }

    /// Nothing is in the container.
    fn nothing(&mut self, container: &ContainerFacts, lack: Option<Lack>) -> Outcome {
        if lack == Some(Lack::Skipped) {
            return FINE;
        }
        if container.has_env_from {
            return self.full(
                StepName::Mutation,
                Status::Unknown,
                Some(&container.name),
                "nothing was injected; its envFrom may bring credentials, and was not read",
                None,
            );
        }
        if let Some(error) = self.admission_error.clone() {
            return self.unread(StepName::Mutation, "what admission would add", &error);
        }
        let pod = &self.facts.pod;
        let restart = match &pod.owner {
            Some(owner)
                if matches!(
                    owner.kind.as_str(),
                    "Deployment" | "StatefulSet" | "DaemonSet"
                ) =>
            {
                format!(
                    "kubectl rollout restart {}/{} -n {}",
                    owner.kind.to_lowercase(),
                    owner.name,
                    pod.namespace
                )
            }
            _ => format!(
                "make the pod again: kubectl delete pod {} -n {}",
                pod.name, pod.namespace
            ),
        };
        if let Some(why) = self.admission.left_alone.clone() {
            return self.step(
                StepName::Mutation,
                Status::Fail,
                format!("nothing was injected: {why}"),
            );
        }
        if self.admission.wanted.is_none() {
            let unknown =
                self.facts.association.unread().is_some() || self.facts.account.unread().is_some();
            let status = if unknown {
                Status::Unknown
            } else {
                Status::Fail
            };
            let reason = match unknown {
                true => "nothing was injected, and whether something should be is not known",
                false => "nothing was injected, since nothing gives the service account a role",
            };
            return self.step(StepName::Mutation, status, reason);
        }
        if self.admission.missed {
            let reason = match self.is_older_than_association() {
                true => "the pod is older than its association; admission only looks at new pods",
                false => {
                    "nothing was injected when the pod was made: the webhook was not asked, or did not know the role yet"
                }
            };
            return self.advise(
                StepName::Mutation,
                Status::Fail,
                reason,
                format!("{restart}; if that does not help, see whether the webhook runs and is registered"),
            );
        }
        self.full(
            StepName::Mutation,
            Status::Fail,
            Some(&container.name),
            "the pod was mutated and this container was not: it was added later, or skipped then",
            Some(restart),
        )
    }

    fn is_older_than_association(&self) -> bool {
        let made = self
            .facts
            .association
            .known()
            .and_then(|association| association.created_at);
        let pod = self.facts.pod.created.as_deref().and_then(seconds);
        matches!((pod, made), (Some(pod), Some(made)) if pod < made)
    }
}

fn cluster_name(cluster: &Fact<ClusterFacts>) -> &str {
    cluster.known().map_or("CLUSTER", |cluster| &cluster.name)
}

/// Why an association for more than one service account is in force, and what it stands before.
fn by_pattern(association: &AssociationFacts, others: &[String]) -> String {
    let before = match others {
        [] => String::new(),
        others => format!("; it stands before {}", others.join(", ")),
    };
    match association.pattern() {
        None => before,
        Some(pattern) => format!(
            ", by the pattern {pattern}: no association names the service account itself, and no other pattern for it has more \
             characters{before}"
        ),
    }
}

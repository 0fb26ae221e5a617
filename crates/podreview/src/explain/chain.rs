//! From facts to the chain.

use super::inject::{Admission, Lack, Wanted};
use super::sdk::{First, first};
use super::{Answer, ContainerVerdict, Explanation, Facts, Found, Status, Step, StepName};
use crate::fact::{ClusterFacts, Fact, role_parts};
use crate::pod::{ContainerFacts, TokenFacts};
use crate::text::enumerate;
use crate::trust::{self, PodCall, TrustDecision, TrustError, Verdict, WebCall};
use crate::{PODS_SERVICE, ROLE_ANNOTATION, STS_AUDIENCE, subject};

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
                let reason = format!("association {id} gives {}{hop}", association.role_arn);
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

    fn irsa(
        &mut self,
        container: &ContainerFacts,
        role: Option<&str>,
        file: Option<&str>,
    ) -> Outcome {
        let name = Some(container.name.as_str());
        let mutation = match (&self.admission.wanted, role) {
            (Some(Wanted::PodIdentity), _) => self.full(
                StepName::Mutation,
                Status::Warn,
                name,
                "it has the variables of IRSA, which stand before those of the association; the pod is older than the association, or its author wrote them",
                Some("restart the pod to move it to the association; take variables of the author out".to_owned()),
            ),
            (Some(Wanted::Irsa(wanted)), Some(role)) if wanted != role => {
                let wanted = wanted.clone();
                self.full(
                    StepName::Mutation,
                    Status::Warn,
                    name,
                    format!("it has {role}, and the annotation says {wanted} now"),
                    Some("restart the pod to use the annotation's role".to_owned()),
                )
            }
            _ => self.full(StepName::Mutation, Status::Ok, name, "it has AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE", None),
        };
        let mut outcomes = vec![mutation, self.account_lives()];
        let Some(role) = role else {
            outcomes.push(self.full(
                StepName::Role,
                Status::Unknown,
                name,
                "AWS_ROLE_ARN is taken from a ConfigMap or Secret, which was not read",
                None,
            ));
            return worst(outcomes);
        };
        let account = role_parts(role).map(|(account, _)| account.to_owned());
        let cluster = self.facts.cluster.clone();
        let provider = match &cluster {
            Fact::Known(cluster) => self.issuer(cluster, account.as_deref(), &mut outcomes),
            Fact::Missing => {
                outcomes.push(self.step(
                    StepName::Issuer,
                    Status::Fail,
                    "the EKS API has no such cluster",
                ));
                None
            }
            Fact::Unread(_) | Fact::Unasked => {
                let reason = cluster.unread().unwrap_or_default().to_owned();
                outcomes.push(self.unread(StepName::Issuer, "the cluster's issuer", &reason));
                None
            }
        };
        let audiences = provider.as_ref().map(|(_, audiences)| audiences.clone());
        let token = self.token(
            container,
            file,
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            &mut outcomes,
        );
        let audience = token.map_or_else(|| STS_AUDIENCE.to_owned(), |token| token.audience);
        if let Some(audiences) = audiences.filter(|audiences| !audiences.contains(&audience)) {
            let all: Vec<&String> = audiences.iter().collect();
            outcomes.push(self.advise(
                StepName::Provider,
                Status::Fail,
                format!("the token is for `{audience}`, and the provider takes {}", enumerate(&all)),
                "add the audience to the provider, or correct the annotation eks.amazonaws.com/audience",
            ));
        }
        let facts = self.facts;
        let known = self.role(StepName::Role, role, &mut outcomes);
        let provider = provider.map(|(arn, _)| arn).or_else(|| {
            // The trust policy can be judged for a provider that does not exist.
            let cluster = cluster.known()?;
            cluster.provider_arn(account.as_deref()?)
        });
        let sub = subject(&facts.pod.namespace, &facts.pod.service_account);
        match (known, provider) {
            (Some(known), Some(provider)) => {
                let call = WebCall {
                    role_arn: &known.arn,
                    provider_arn: &provider,
                    audience: &audience,
                    subject: &sub,
                    role_tags: &known.tags,
                };
                let decided = trust::decide_web_identity(&known.trust, &call);
                let advice = format!(
                    "countersign pods trust --role {role} --cluster {} --namespace {} --service-account {} --for irsa",
                    cluster_name(&facts.cluster),
                    facts.pod.namespace,
                    facts.pod.service_account
                );
                outcomes.push(self.trust(StepName::Trust, decided, advice));
            }
            (Some(_), None) => {
                outcomes.push(self.step(
                    StepName::Trust,
                    Status::Unknown,
                    "the trust policy cannot be judged without the cluster's issuer",
                ));
            }
            (None, _) => {}
        }
        worst(outcomes)
    }

    /// The issuer, and the provider with its audiences.
    fn issuer(
        &mut self,
        cluster: &ClusterFacts,
        account: Option<&str>,
        outcomes: &mut Vec<Outcome>,
    ) -> Option<(String, Vec<String>)> {
        let Some(issuer) = &cluster.issuer else {
            outcomes.push(self.step(
                StepName::Issuer,
                Status::Fail,
                format!("the cluster {} has no issuer", cluster.name),
            ));
            return None;
        };
        if cluster.issuer_path().is_none() {
            let reason = format!("{issuer} is not https, and IAM takes no provider for it");
            outcomes.push(self.step(StepName::Issuer, Status::Fail, reason));
            return None;
        }
        outcomes.push(self.step(StepName::Issuer, Status::Ok, issuer.clone()));
        let arn = cluster.provider_arn(account?)?;
        let facts = self.facts;
        match facts.provider(&arn) {
            Fact::Known(provider) => {
                let audiences: Vec<&String> = provider.client_ids.iter().collect();
                outcomes.push(self.step(
                    StepName::Provider,
                    Status::Ok,
                    format!("{arn} takes {}", enumerate(&audiences)),
                ));
                Some((arn, provider.client_ids.clone()))
            }
            Fact::Missing => {
                outcomes.push(self.advise(
                    StepName::Provider,
                    Status::Fail,
                    format!("IAM has no {arn}"),
                    format!("aws iam create-open-id-connect-provider --url {issuer} --client-id-list {STS_AUDIENCE}"),
                ));
                None
            }
            other => {
                let reason = other.unread().unwrap_or_default().to_owned();
                outcomes.push(self.unread(StepName::Provider, &arn, &reason));
                None
            }
        }
    }

    fn pod_identity(&mut self, container: &ContainerFacts, file: Option<&str>) -> Outcome {
        let facts = self.facts;
        let name = Some(container.name.as_str());
        let mut outcomes = vec![self.full(
            StepName::Mutation,
            Status::Ok,
            name,
            "it has AWS_CONTAINER_CREDENTIALS_FULL_URI and AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            None,
        )];
        outcomes.push(self.account_lives());
        let token = self.token(
            container,
            file,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            &mut outcomes,
        );
        if let Some(token) = token.filter(|token| token.audience != PODS_SERVICE) {
            outcomes.push(self.full(
                StepName::Token,
                Status::Fail,
                name,
                format!(
                    "the token is for `{}`, and EKS Pod Identity takes {PODS_SERVICE}",
                    token.audience
                ),
                None,
            ));
        }
        match &facts.association {
            Fact::Known(association) => {
                if let Some(known) = self.role(StepName::Role, &association.role_arn, &mut outcomes)
                {
                    match &facts.cluster {
                        Fact::Known(cluster) => {
                            let call = PodCall {
                                role_arn: &known.arn,
                                cluster_arn: &cluster.arn,
                                cluster_name: &cluster.name,
                                namespace: &facts.pod.namespace,
                                service_account: &facts.pod.service_account,
                                pod: Some(&facts.pod.name),
                                tags: !association.disable_session_tags,
                                role_tags: &known.tags,
                            };
                            let decided = trust::decide_pod_identity(&known.trust, &call);
                            let advice = format!(
                                "countersign pods trust --role {} --cluster {} --namespace {} --service-account {} --for pod-identity",
                                association.role_arn,
                                cluster.name,
                                facts.pod.namespace,
                                facts.pod.service_account
                            );
                            outcomes.push(self.trust(StepName::Trust, decided, advice));
                        }
                        other => {
                            let reason = other
                                .unread()
                                .unwrap_or("the EKS API has no such cluster")
                                .to_owned();
                            outcomes.push(self.unread(StepName::Trust, "the cluster", &reason));
                        }
                    }
                }
                if let Some(target) = &association.target_role_arn {
                    // Whether the first role may assume the second needs both roles' policies, which the caller may not read.
                    self.role(StepName::TargetRole, target, &mut outcomes);
                }
            }
            Fact::Missing => {
                outcomes.push(self.advise(
                    StepName::Source,
                    Status::Fail,
                    "the pod was made for an association that is gone",
                    "make the association again, or restart the pod without it",
                ));
            }
            Fact::Unread(_) | Fact::Unasked => {
                outcomes.push((
                    Status::Unknown,
                    Some("the association could not be read".to_owned()),
                ));
            }
        }
        outcomes.push(self.agent());
        worst(outcomes)
    }

    fn agent(&mut self) -> Outcome {
        let facts = self.facts;
        let node = match &facts.pod.node {
            Some(node) => format!("node {node}"),
            None => "the pod's node".to_owned(),
        };
        match &facts.agent {
            Fact::Known(agent) if agent.ready => {
                self.step(StepName::Agent, Status::Ok, format!("{} is ready on {node}", agent.pod))
            }
            Fact::Known(agent) => self.advise(
                StepName::Agent,
                Status::Fail,
                format!("{} on {node} is not ready", agent.pod),
                format!("kubectl describe pod {} -n {}", agent.pod.rsplit('/').next().unwrap_or_default(), agent.pod.split('/').next().unwrap_or_default()),
            ),
            Fact::Missing => self.advise(
                StepName::Agent,
                Status::Fail,
                format!("no agent of EKS Pod Identity runs on {node}"),
                "install it on every node: the add-on eks-pod-identity-agent, or the DaemonSet of `countersign agent`",
            ),
            other => {
                let reason = other.unread().unwrap_or_default().to_owned();
                self.unread(StepName::Agent, &format!("the agent on {node}"), &reason)
            }
        }
    }

    /// The token behind a file of a container.
    fn token(
        &mut self,
        container: &ContainerFacts,
        file: Option<&str>,
        variable: &str,
        outcomes: &mut Vec<Outcome>,
    ) -> Option<TokenFacts> {
        let name = Some(container.name.as_str());
        let Some(file) = file else {
            let status = match container.has(variable) {
                true => Status::Unknown,
                false => Status::Fail,
            };
            let reason = match status {
                Status::Unknown => {
                    format!("{variable} is taken from elsewhere, which was not read")
                }
                _ => format!("{variable} is not set: the agent refuses requests without a token"),
            };
            outcomes.push(self.full(StepName::Token, status, name, reason, None));
            return None;
        };
        match self.find_token(container, file) {
            Some(token) => {
                let lifetime = match token.expiration_seconds {
                    Some(seconds) => format!(", renewed for {seconds} s"),
                    None => String::new(),
                };
                outcomes.push(self.full(
                    StepName::Token,
                    Status::Ok,
                    name,
                    format!(
                        "volume {} holds a token for {}{lifetime}",
                        token.volume, token.audience
                    ),
                    None,
                ));
                Some(token)
            }
            None => {
                outcomes.push(self.full(
                    StepName::Token,
                    Status::Fail,
                    name,
                    format!("no mounted volume has a token at {file}"),
                    Some("restart the pod so that admission adds the volume, or correct the variable".to_owned()),
                ));
                None
            }
        }
    }

    fn find_token(&self, container: &ContainerFacts, file: &str) -> Option<TokenFacts> {
        // Windows names the file of the same mount in its own way.
        let file = match file.strip_prefix("C:") {
            Some(rest) => rest.replace('\\', "/"),
            None => file.to_owned(),
        };
        container.mounts.iter().find_map(|(volume, path)| {
            let rest = file
                .strip_prefix(path.trim_end_matches('/'))?
                .strip_prefix('/')?;
            let mut tokens = self.facts.pod.tokens.iter();
            tokens
                .find(|token| token.volume == *volume && token.path == rest)
                .cloned()
        })
    }

    /// A role that exists.
    fn role(
        &mut self,
        step: StepName,
        arn: &str,
        outcomes: &mut Vec<Outcome>,
    ) -> Option<crate::RoleFacts> {
        if role_parts(arn).is_none() {
            outcomes.push(self.step(step, Status::Fail, format!("`{arn}` is no role ARN")));
            return None;
        }
        let facts = self.facts;
        match facts.role(arn) {
            Fact::Known(role) if role.arn == arn => {
                outcomes.push(self.step(step, Status::Ok, format!("{arn} exists")));
                Some(role.clone())
            }
            Fact::Known(role) => {
                outcomes.push(self.advise(
                    step,
                    Status::Fail,
                    format!(
                        "{arn} does not exist: the role of this name is {}",
                        role.arn
                    ),
                    "write the ARN with its path",
                ));
                None
            }
            Fact::Missing => {
                outcomes.push(self.step(step, Status::Fail, format!("{arn} does not exist")));
                None
            }
            other => {
                let reason = other.unread().unwrap_or_default().to_owned();
                outcomes.push(self.unread(step, arn, &reason));
                None
            }
        }
    }

    fn trust(
        &mut self,
        step: StepName,
        decided: Result<TrustDecision, TrustError>,
        advice: String,
    ) -> Outcome {
        match decided {
            Err(error) => self.step(step, Status::Unknown, error.to_string()),
            Ok(decision) => match decision.verdict {
                Verdict::Allowed => self.step(step, Status::Ok, decision.reason),
                Verdict::Depends => self.step(step, Status::Unknown, decision.reason),
                Verdict::Denied => self.advise(step, Status::Fail, decision.reason, advice),
            },
        }
    }
}

fn cluster_name(cluster: &Fact<ClusterFacts>) -> &str {
    cluster.known().map_or("CLUSTER", |cluster| &cluster.name)
}

/// The worst of several outcomes, the first of equals.
fn worst(outcomes: Vec<Outcome>) -> Outcome {
    let mut found = FINE;
    for outcome in outcomes {
        if outcome.0 > found.0 {
            found = outcome;
        }
    }
    found
}

/// Seconds since 1970 of a Kubernetes time, `2026-01-31T12:00:00Z`.
fn seconds(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |text: Option<&str>| text?.parse::<i64>().ok();
    let mut parts = date.split('-');
    let (year, month, day) = (
        number(parts.next())?,
        number(parts.next())?,
        number(parts.next())?,
    );
    let mut parts = time.split(':');
    let (hour, minute) = (number(parts.next())?, number(parts.next())?);
    let second = number(parts.next()?.split('.').next())?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 by the civil calendar, with years that begin in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_seconds_since_1970() {
        let rows = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2030-01-01T00:00:00Z", Some(1_893_456_000)),
            ("2024-02-29T12:30:15Z", Some(1_709_209_815)),
            ("2026-01-02T03:04:05.678Z", Some(1_767_323_045)),
            ("2026-13-02T03:04:05Z", None),
            ("yesterday", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(seconds(text), wanted, "{text}");
        }
    }
}

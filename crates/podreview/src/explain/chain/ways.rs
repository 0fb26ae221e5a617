//! The two ways from a container's variables to a role.

use super::super::inject::Wanted;
use super::super::{Status, StepName};
use super::{Chain, FINE, Outcome, cluster_name};
use crate::fact::{ClusterFacts, Fact, RoleFacts, role_parts};
use crate::pod::{ContainerFacts, TokenFacts};
use crate::text::enumerate;
use crate::trust::{self, PodCall, TrustDecision, TrustError, Verdict, WebCall};
use crate::{PODS_SERVICE, STS_AUDIENCE, subject};

impl Chain<'_> {
    pub(super) fn irsa(
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

    pub(super) fn pod_identity(
        &mut self,
        container: &ContainerFacts,
        file: Option<&str>,
    ) -> Outcome {
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
                                sessions: &association.sessions,
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
    ) -> Option<RoleFacts> {
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

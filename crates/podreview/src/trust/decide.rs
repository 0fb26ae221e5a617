//! Whether a role's trust policy lets a pod in, decided by the policy engine with what AWS would put into the request.

use std::sync::Arc;

use countersign_policy::explain::{ConditionTrace, Explanation, StatementTrace, explain};
use countersign_policy::{
    Action, Attached, Context, Effect, Layers, Outcome, Policy, PolicyKind, Principal, Request,
};
use serde::Serialize;

use super::write::TrustError;
use crate::PODS_SERVICE;
use crate::sessions::SessionSettings;

/// Call AssumeRoleWithWebIdentity, as far as a trust policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct WebCall<'a> {
    /// The role.
    pub role_arn: &'a str,
    /// ARN of the provider in the role's account.
    pub provider_arn: &'a str,
    /// The audience of the token.
    pub audience: &'a str,
    /// The subject of the token.
    pub subject: &'a str,
    /// Tags of the role.
    pub role_tags: &'a [(String, String)],
}

/// The call of EKS Pod Identity, as far as a trust policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct PodCall<'a> {
    /// The role.
    pub role_arn: &'a str,
    /// ARN of the cluster.
    pub cluster_arn: &'a str,
    /// Name of the cluster.
    pub cluster_name: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The service account.
    pub service_account: &'a str,
    /// Name of the pod, where one is asked about.
    pub pod: Option<&'a str>,
    /// Whether the session carries tags.
    pub tags: bool,
    /// Which, beyond what EKS knows.
    pub sessions: &'a SessionSettings,
    /// Tags of the role.
    pub role_tags: &'a [(String, String)],
}

/// The answer of a trust policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It lets the pod in.
    Allowed,
    /// It does not.
    Denied,
    /// It depends on something that only the call itself has, such as the caller's address.
    Depends,
}

/// A decision with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustDecision {
    /// The answer.
    pub verdict: Verdict,
    /// The statement that decided, as people count or name them: `Statement[0] (Sid)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// Why.
    pub reason: String,
    /// What came near, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<String>,
}

/// Decides `sts:AssumeRoleWithWebIdentity`.
///
/// # Errors
/// When the trust policy cannot be read.
pub fn decide_web_identity(trust: &str, call: &WebCall<'_>) -> Result<TrustDecision, TrustError> {
    let principal = Principal::federated(call.provider_arn);
    let issuer = issuer_of(call.provider_arn);
    let mut context = Context::new();
    context.set(format!("{issuer}:aud"), call.audience);
    context.set(format!("{issuer}:sub"), call.subject);
    context.set("aws:FederatedProvider", call.provider_arn);
    common(&mut context, call.role_tags);
    let question = Question {
        principal: &principal,
        role_arn: call.role_arn,
        context: &context,
    };
    question.decide(trust, &["sts:AssumeRoleWithWebIdentity"])
}

/// Decides `sts:AssumeRole` and `sts:TagSession` of the service: creating an association asks for both (EKS API spec, section 10.2),
/// whether the sessions carry tags or not. A pattern in the place of a name has to be let in as it is written: a trust policy that
/// takes all names of the pattern takes its text as well.
///
/// # Errors
/// When the trust policy cannot be read.
pub fn decide_pod_identity(trust: &str, call: &PodCall<'_>) -> Result<TrustDecision, TrustError> {
    let principal = Principal::service(PODS_SERVICE);
    let mut context = Context::new();
    let mut tags = vec![
        ("eks-cluster-arn", call.cluster_arn),
        ("eks-cluster-name", call.cluster_name),
        ("kubernetes-namespace", call.namespace),
        ("kubernetes-service-account", call.service_account),
    ];
    tags.extend(call.pod.map(|name| ("kubernetes-pod-name", name)));
    if call.tags {
        let sessions = call.sessions;
        for (key, value) in tags.iter().filter(|(key, _)| sessions.has_tag(key)) {
            context.set_tag("aws:RequestTag/", key, *value);
        }
        for (key, value) in &sessions.extra_session_tags {
            context.set_tag("aws:RequestTag/", key, value.as_str());
        }
        let keys = || {
            let six = SIX.into_iter().filter(|key| sessions.has_tag(key));
            six.chain(sessions.extra_session_tags.keys().map(String::as_str))
        };
        context.set_list("aws:TagKeys", keys());
        context.set_list("sts:TransitiveTagKeys", keys());
    }
    context.set("aws:PrincipalIsAWSService", "true");
    context.set("aws:PrincipalServiceName", PODS_SERVICE);
    context.set_list("aws:PrincipalServiceNamesList", [PODS_SERVICE]);
    context.set("aws:SourceArn", call.cluster_arn);
    if let Some(account) = call.cluster_arn.split(':').nth(4) {
        context.set("aws:SourceAccount", account);
    }
    common(&mut context, call.role_tags);
    let question = Question {
        principal: &principal,
        role_arn: call.role_arn,
        context: &context,
    };
    let decision = question.decide(trust, &["sts:AssumeRole", "sts:TagSession"])?;
    let label = call
        .label_tested(trust)
        .filter(|_| decision.verdict == Verdict::Denied);
    Ok(match label {
        Some(key) => TrustDecision {
            verdict: Verdict::Depends,
            statement: None,
            reason: format!("it depends on the tag `{key}`, which is from a label of the pod"),
            near: decision.near,
        },
        None => decision,
    })
}

impl PodCall<'_> {
    /// The tag from a label of the pod that a trust policy speaks of.
    fn label_tested(&self, trust: &str) -> Option<&str> {
        let trust = trust.to_lowercase();
        let mut extra = self.sessions.extra_session_tags.iter();
        extra
            .find(|(key, value)| {
                let tested = format!("aws:requesttag/{}", key.to_lowercase());
                self.tags && value.starts_with("{label:") && trust.contains(&tested)
            })
            .map(|(key, _)| key.as_str())
    }
}

/// The tags of EKS Pod Identity.
const SIX: [&str; 6] = [
    "eks-cluster-arn",
    "eks-cluster-name",
    "kubernetes-namespace",
    "kubernetes-service-account",
    "kubernetes-pod-name",
    "kubernetes-pod-uid",
];

/// The issuer in a provider's ARN.
pub(super) fn issuer_of(provider_arn: &str) -> &str {
    provider_arn
        .split_once(":oidc-provider/")
        .map_or(provider_arn, |(_, issuer)| issuer)
}

fn common<'a>(context: &mut Context<'a>, role_tags: &'a [(String, String)]) {
    context.set("aws:SecureTransport", "true");
    context.set("aws:ViaAWSService", "false");
    for (key, value) in role_tags {
        context.set_tag("aws:ResourceTag/", key, value.as_str());
        context.set_tag("iam:ResourceTag/", key, value.as_str());
    }
}

struct Question<'a> {
    principal: &'a Principal,
    role_arn: &'a str,
    context: &'a Context<'a>,
}

impl Question<'_> {
    /// All actions have to be allowed; the first that is not is told.
    fn decide(&self, trust: &str, actions: &[&str]) -> Result<TrustDecision, TrustError> {
        let policy = Arc::new(Policy::parse(trust, PolicyKind::Trust)?);
        let attached = [Attached::new(Arc::clone(&policy), "trust policy")];
        let layers = Layers {
            resource: Some(&attached),
            ..Layers::default()
        };
        let mut allowed = None;
        for name in actions {
            let cannot = |what: &str| TrustDecision {
                verdict: Verdict::Denied,
                statement: None,
                reason: format!("`{what}` cannot be asked for"),
                near: Vec::new(),
            };
            let Ok(action) = Action::parse(name) else {
                return Ok(cannot(name));
            };
            let Ok(request) = Request::new(self.principal, &action, self.role_arn, self.context)
            else {
                return Ok(cannot(self.role_arn));
            };
            let explanation = explain(&request, &layers);
            if explanation.decision != Outcome::Allowed {
                return Ok(refused(name, &explanation));
            }
            if allowed.is_none() {
                allowed = Some(explanation);
            }
        }
        let statement = allowed.as_ref().and_then(|explanation| {
            let grant = explanation.granted_by.first()?;
            Some(place(&grant.statement))
        });
        Ok(TrustDecision {
            verdict: Verdict::Allowed,
            reason: match &statement {
                Some(statement) => format!("{statement} allows {}", actions.join(" and ")),
                None => format!("{} is allowed", actions.join(" and ")),
            },
            statement,
            near: Vec::new(),
        })
    }
}

fn refused(action: &str, explanation: &Explanation) -> TrustDecision {
    let near: Vec<String> = explanation
        .near_misses
        .iter()
        .map(|miss| format!("{}: {}", place(&miss.statement), miss.detail))
        .collect();
    let depends = |key: &str| TrustDecision {
        verdict: Verdict::Depends,
        statement: None,
        reason: format!("{action} depends on `{key}`, which only the call itself has"),
        near: near.clone(),
    };
    if let Some(denial) = explanation.denied_by.first() {
        let mut traces = explanation.statements.iter();
        let open = traces
            .find(|trace| trace.at == *denial)
            .and_then(|trace| trace.conditions.iter().find(|condition| is_open(condition)));
        if let Some(condition) = open {
            return depends(&condition.key);
        }
        let statement = place(denial);
        return TrustDecision {
            verdict: Verdict::Denied,
            reason: format!("{statement} denies {action}"),
            statement: Some(statement),
            near: Vec::new(),
        };
    }
    if let Some(key) = explanation.statements.iter().find_map(open_key) {
        return depends(key);
    }
    TrustDecision {
        verdict: Verdict::Denied,
        statement: None,
        reason: match near.first() {
            Some(nearest) => format!("no statement allows {action}; nearest {nearest}"),
            None => format!("no statement allows {action}"),
        },
        near,
    }
}

/// The first key that an Allow statement asks for and only the call has, where nothing else is against the statement.
fn open_key(trace: &StatementTrace) -> Option<&str> {
    let names_us = trace
        .principal
        .as_ref()
        .is_none_or(|principal| principal.matched);
    if trace.effect != Effect::Allow || !trace.resource.matched || !names_us {
        return None;
    }
    let mut failing = trace.conditions.iter().filter(|condition| !condition.holds);
    if !failing.clone().all(is_open) {
        return None;
    }
    failing.next().map(|condition| condition.key.as_str())
}

/// Whether a condition is about something that is not known beforehand. All other keys that are missing here are missing in the call.
fn is_open(condition: &ConditionTrace) -> bool {
    const OPEN: [&str; 16] = [
        "aws:sourceip",
        "aws:currenttime",
        "aws:epochtime",
        "aws:useragent",
        "aws:referer",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:vpcsourceip",
        "aws:requestedregion",
        "aws:sourceorgid",
        "aws:sourceorgpaths",
        "aws:resourceorgid",
        "aws:resourceorgpaths",
        "sts:rolesessionname",
        "aws:requesttag/kubernetes-pod-name",
        "aws:requesttag/kubernetes-pod-uid",
    ];
    let key = condition.key.to_ascii_lowercase();
    condition.request.is_none() && OPEN.contains(&key.as_str())
}

fn place(at: &countersign_policy::explain::StatementRef) -> String {
    match &at.sid {
        Some(sid) => format!("Statement[{}] ({sid})", at.statement),
        None => format!("Statement[{}]", at.statement),
    }
}

//! The token of a pod: issued by the cluster, for EKS Pod Identity, bound to a pod that is there (EKS API spec, section 11;
//! Pod Identity spec, section 5.2).

use countersign_oidc::{Claims, TimeRules};

use super::error::Refusal;

/// The audience of pods' tokens, and what answers say of it.
pub(super) const AUDIENCE: &str = "pods.eks.amazonaws.com";

/// How far clocks may differ, and how old a token may be. Kubelet renews these tokens when 80 % of their life are over, so
/// that a token near its end belongs to nobody who works as he should: a minute is for clocks alone.
pub(super) const TIMES: TimeRules = TimeRules {
    clock_skew_seconds: 60,
    max_age_seconds: 7 * 24 * 60 * 60 + 300,
};

/// Whom a token is about, as the API server of the cluster says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pod<'t> {
    pub(super) namespace: &'t str,
    pub(super) service_account: &'t str,
    pub(super) name: &'t str,
    pub(super) uid: &'t str,
    /// The node it runs on; API servers before 1.30 do not say.
    pub(super) node: Option<&'t str>,
}

/// The pod of a token whose signature, times and audience were checked.
///
/// # Errors
/// `InvalidTokenException` for a token that is bound to no pod, or whose claims contradict each other.
pub(super) fn pod_of(claims: &Claims) -> Result<Pod<'_>, Refusal> {
    let invalid = |why: &str| Refusal::InvalidToken(why.to_owned());
    let of = claims.kubernetes.as_ref().ok_or_else(|| {
        invalid("it has no claim kubernetes.io with namespace and service account")
    })?;
    let account = &of.service_account;
    let subject = ["system:serviceaccount:", &of.namespace, ":", &account.name].concat();
    if *subject != *claims.subject {
        return Err(invalid("its subject is not its service account"));
    }
    if account.uid.is_none() {
        return Err(invalid("it does not have the uid of its service account"));
    }
    let pod = of
        .pod
        .as_ref()
        .ok_or_else(|| invalid("it is not bound to a pod"))?;
    let uid = pod
        .uid
        .as_deref()
        .ok_or_else(|| invalid("it does not have the uid of its pod"))?;
    Ok(Pod {
        namespace: &of.namespace,
        service_account: &account.name,
        name: &pod.name,
        uid,
        node: of.node.as_ref().map(|node| &*node.name),
    })
}

//! Agents that have no AWS credentials: they show a token of their own service account in the place of a signature (Pod
//! Identity spec, section 10).
//!
//! ```text
//!   Authorization: Bearer <token>        issuer of one cluster of the name in the path, audience eks-auth.countersign.dev,
//!   X-Countersign-Node: <node>           a service account on the list, bound to a pod on a node that the token names
//! ```
//!
//! The token says which cluster it is, so no account and no region is asked for, and on which node the agent runs: it may ask
//! for pods of this node only. The header is a second statement of the node; it must not say something else. API servers
//! before 1.30 do not write the node into tokens, and their agents need AWS credentials.
//!
//! Whatever is wrong with an agent's token is answered `UnrecognizedClientException`, status 403, also when it ran out: kubelet
//! renews it, and no pod's cached credentials are to be dropped for it. An agent that may not ask gets
//! `AccessDeniedException`.

use std::sync::Arc;

use countersign_store::{ClusterEntry, DirectorySnapshot};
use http::header::{AUTHORIZATION, HeaderMap};
use jiff::Timestamp;

use super::error::Refusal;
use super::{EksAuthOptions, check, token};
use crate::aws::ApiError;
use crate::issuer::ClusterIssuers;

/// The audience of agents' tokens.
const AUDIENCE: &str = "eks-auth.countersign.dev";
/// The node that the agent says it runs on.
const NODE_HEADER: &str = "x-countersign-node";

/// An agent that proved who it is.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) cluster: Arc<ClusterEntry>,
    /// `iss` of its token.
    pub(crate) issuer: Box<str>,
    /// `sub` of its token.
    pub(crate) subject: Box<str>,
    /// The node it runs on.
    pub(crate) node: Box<str>,
}

impl Agent {
    /// The audience of its token.
    pub(crate) const fn audience() -> &'static str {
        AUDIENCE
    }
}

/// The token in the place of a signature, if there is one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}

/// Who the agent with this token is. `name` is that of the cluster in the path.
///
/// # Errors
/// `UnrecognizedClientException`, `AccessDeniedException`, `ServiceUnavailableException`.
pub(crate) async fn authenticate(
    snapshot: &DirectorySnapshot,
    issuers: &ClusterIssuers,
    options: &EksAuthOptions,
    (name, text): (&str, &str),
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Agent, ApiError> {
    let token = check::read(text).map_err(|refusal| unrecognized(refusal, now))?;
    let cluster = snapshot
        .clusters_named(name)
        .iter()
        .filter(|cluster| cluster.record.status(now).is_some())
        .find(|cluster| issuers.issuer_url(&cluster.record) == token.issuer())
        .ok_or_else(|| {
            let why = "its issuer is that of no cluster of this name".to_owned();
            unrecognized(Refusal::InvalidToken(why), now)
        })?;
    let known = (snapshot, issuers);
    let claims = check::check(known, &cluster.record, text, &token, AUDIENCE, now)
        .await
        .map_err(|refusal| unrecognized(refusal, now))?;
    let pod = token::pod_of(claims).map_err(|refusal| unrecognized(refusal, now))?;
    let account = [pod.namespace, ":", pod.service_account].concat();
    if !options.agents.iter().any(|agent| **agent == *account) {
        return Err(denied(format!(
            "Service account {account} is not one of the agents that may ask with a token of their own."
        )));
    }
    let node = pod.node.ok_or_else(|| {
        denied("The agent's token does not name its node, as those of Kubernetes before 1.30 do not: use AWS credentials.".to_owned())
    })?;
    let mut stated = headers.get_all(NODE_HEADER).iter();
    if stated.any(|stated| stated.as_bytes() != node.as_bytes()) {
        return Err(denied(
            "The header X-Countersign-Node names another node than the agent's token.".to_owned(),
        ));
    }
    Ok(Agent {
        cluster: Arc::clone(cluster),
        issuer: claims.issuer.clone(),
        subject: claims.subject.clone(),
        node: node.into(),
    })
}

fn denied(why: String) -> ApiError {
    ApiError::new(400, "AccessDeniedException", why)
}

fn unrecognized(refusal: Refusal, now: Timestamp) -> ApiError {
    let passes = matches!(refusal, Refusal::Unavailable(_));
    let error = refusal.into_error(now);
    if passes {
        return error;
    }
    ApiError::new(
        403,
        "UnrecognizedClientException",
        error.message.replacen(
            "The token included in the request",
            "The token of the agent",
            1,
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_stands_alone_behind_its_scheme() {
        let cases: [(&[&str], Option<&str>); 8] = [
            (&["Bearer a.b.c"], Some("a.b.c")),
            (&["bearer  a.b.c"], Some("a.b.c")),
            (&["Bearer "], Some("")),
            (&["Bearer"], None),
            (&["AWS4-HMAC-SHA256 Credential=x"], None),
            (&["a.b.c"], None),
            (&[], None),
            (&["Bearer a.b.c", "Bearer d.e.f"], None),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(bearer(&headers), expected, "{values:?}");
        }
    }
}

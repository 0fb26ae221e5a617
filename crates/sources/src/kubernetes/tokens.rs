//! What the API server of a cluster says of its own service account tokens: the keys that verify them, whether what one is
//! bound to is still there (IRSA spec, sections 2.3 and 4.4), and the labels of the pod behind one (Pod Identity spec,
//! section 6).
//!
//! Needed permissions: `get` on the path `/openid/v1/jwks`, which the ClusterRole `system:service-account-issuer-discovery`
//! has; `create` on `tokenreviews` in the group `authentication.k8s.io`, which `system:auth-delegator` has; `get` on `pods` where
//! session tags are taken from labels.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::json;

use super::raw;

/// Most bytes of a key set; what verifies with it has the same limit.
const MAX_KEY_SET: usize = 256 * 1024;
/// Most bytes of an answered TokenReview: it has the token in it again.
const MAX_REVIEW: usize = 128 * 1024;
/// Most bytes of the metadata of a pod: annotations and labels have 256 KiB together, and managers of fields about as much.
const MAX_METADATA: usize = 1 << 20;
/// Most characters that are kept of an error in an answer.
const MAX_REASON: usize = 256;

const KEY_SET: &str = "/openid/v1/jwks";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// The questions about tokens that the API server of one cluster is asked.
#[derive(Clone)]
pub struct TokenApi {
    client: Client,
    timeout: Duration,
}

/// What the API server says of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenVerdict {
    /// Whether it is good now, for one of the audiences asked about.
    pub authenticated: bool,
    /// Whose it is, when it is good.
    pub username: String,
    /// Why it is not, shortened; never the token.
    pub reason: String,
}

/// A pod, as far as its labels go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodLabels {
    /// Its unique id.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// The API server did not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenApiError {
    /// No connection, or no answer in time.
    #[error("the API server did not answer")]
    Unreachable,
    /// It answered with an error; 401 and 403 mean that permissions are missing.
    #[error("the API server answered with status {0}")]
    Status(u16),
    /// It answered with something else.
    #[error("the answer of the API server cannot be read")]
    Unusable,
}

impl TokenApi {
    /// Asks through `client`; each question gets `timeout`.
    #[must_use]
    pub const fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout }
    }

    /// The key set that the API server publishes, as it is.
    ///
    /// # Errors
    /// When there is no answer, or none that could be a key set.
    pub async fn key_set(&self) -> Result<Vec<u8>, TokenApiError> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(KEY_SET)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .body(Body::empty())
            .map_err(|_| TokenApiError::Unusable)?;
        self.ask(request, MAX_KEY_SET).await
    }

    /// Whether `token` is good now for one of `audiences`. The API server looks at the service account and at the pod that
    /// it is bound to.
    ///
    /// # Errors
    /// When there is no answer, or no TokenReview.
    pub async fn review(
        &self,
        token: &str,
        audiences: &[Box<str>],
    ) -> Result<TokenVerdict, TokenApiError> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": {},
            "spec": { "token": token, "audiences": audiences },
        });
        let body = serde_json::to_vec(&review).map_err(|_| TokenApiError::Unusable)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(REVIEWS)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Body::from(body))
            .map_err(|_| TokenApiError::Unusable)?;
        let answer = self.ask(request, MAX_REVIEW).await?;
        read_review(&answer, audiences).ok_or(TokenApiError::Unusable)
    }

    /// Uid and labels of a pod; nothing when there is none of this name.
    ///
    /// # Errors
    /// When there is no answer, or no pod in it; also for names that no pod has.
    pub async fn pod_labels(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<PodLabels>, TokenApiError> {
        // They become a part of the path.
        if !raw::is_name(namespace, 63) || !raw::is_name(name, 253) {
            return Err(TokenApiError::Unusable);
        }
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("/api/v1/namespaces/{namespace}/pods/{name}"))
            .header(
                header::ACCEPT,
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            )
            .body(Body::empty())
            .map_err(|_| TokenApiError::Unusable)?;
        match self.ask(request, MAX_METADATA).await {
            Ok(answer) => read_labels(&answer)
                .ok_or(TokenApiError::Unusable)
                .map(Some),
            Err(TokenApiError::Status(404)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, request: Request<Body>, limit: usize) -> Result<Vec<u8>, TokenApiError> {
        let asked = async {
            let sent = self.client.send(request).await;
            let (head, body) = sent.map_err(|_| TokenApiError::Unreachable)?.into_parts();
            if !matches!(head.status, StatusCode::OK | StatusCode::CREATED) {
                return Err(TokenApiError::Status(head.status.as_u16()));
            }
            let read = Limited::new(body, limit).collect().await;
            let bytes = read.map_err(|_| TokenApiError::Unusable)?.to_bytes();
            Ok(bytes.to_vec())
        };
        tokio::time::timeout(self.timeout, asked)
            .await
            .unwrap_or(Err(TokenApiError::Unreachable))
    }
}

impl fmt::Debug for TokenApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenApi")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn read_labels(answer: &[u8]) -> Option<PodLabels> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: String,
        #[serde(default)]
        labels: Option<BTreeMap<String, String>>,
    }
    let Object { metadata } = serde_json::from_slice(answer).ok()?;
    Some(PodLabels {
        uid: metadata.uid,
        labels: metadata.labels.unwrap_or_default(),
    })
}

/// The part of an answered TokenReview that matters. Of a token that is good for other audiences alone, none is named.
fn read_review(answer: &[u8], audiences: &[Box<str>]) -> Option<TokenVerdict> {
    #[derive(Deserialize)]
    struct Review {
        status: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        authenticated: bool,
        #[serde(default)]
        user: User,
        #[serde(default)]
        audiences: Vec<String>,
        #[serde(default)]
        error: String,
    }
    #[derive(Default, Deserialize)]
    struct User {
        #[serde(default)]
        username: String,
    }
    let Status {
        authenticated,
        user,
        audiences: accepted,
        error,
    } = serde_json::from_slice::<Review>(answer).ok()?.status;
    let of_audience = accepted
        .iter()
        .any(|accepted| audiences.iter().any(|asked| **asked == **accepted));
    let reason = match (authenticated, of_audience) {
        (true, false) => "the API server did not say that it is for the audience".to_owned(),
        _ => error
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_REASON)
            .collect(),
    };
    Some(TokenVerdict {
        authenticated: authenticated && of_audience,
        username: user.username,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_is_what_the_review_says_for_the_audience() {
        let audiences: [Box<str>; 1] = ["sts.amazonaws.com".into()];
        for (case, status, authenticated) in [
            (
                "good",
                r#"{"authenticated":true,"user":{"username":"u"},"audiences":["sts.amazonaws.com"]}"#,
                true,
            ),
            (
                "another audience",
                r#"{"authenticated":true,"user":{"username":"u"},"audiences":["other"]}"#,
                false,
            ),
            (
                "a server that ignores audiences",
                r#"{"authenticated":true,"user":{"username":"u"}}"#,
                false,
            ),
            ("gone", r#"{"error":"pod \"a\" is gone","user":{}}"#, false),
            ("nothing", "{}", false),
        ] {
            let answer = format!(r#"{{"kind":"TokenReview","status":{status}}}"#);
            let verdict = read_review(answer.as_bytes(), &audiences).unwrap();
            assert_eq!(verdict.authenticated, authenticated, "{case}");
        }
        for answer in ["", "{}", "[]", r#"{"status":7}"#, r#"{"status":null}"#] {
            assert_eq!(read_review(answer.as_bytes(), &audiences), None, "{answer}");
        }
    }

    #[test]
    fn labels_are_those_of_the_object() {
        for (answer, labels) in [
            (
                r#"{"metadata":{"uid":"u","labels":{"app":"cart"}}}"#,
                Some(vec![("app", "cart")]),
            ),
            (r#"{"metadata":{"uid":"u","labels":null}}"#, Some(vec![])),
            (r#"{"metadata":{"uid":"u"}}"#, Some(vec![])),
            (r#"{"metadata":{"labels":{}}}"#, None),
            (r#"{"metadata":{"uid":"u","labels":{"app":7}}}"#, None),
            ("", None),
        ] {
            let expected = labels.map(|labels| PodLabels {
                uid: "u".to_owned(),
                labels: labels
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            });
            assert_eq!(read_labels(answer.as_bytes()), expected, "{answer}");
        }
    }
}

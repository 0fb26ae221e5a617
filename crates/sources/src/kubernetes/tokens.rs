//! What the API server of a cluster says of its own service account tokens: the keys that verify them, and whether what one
//! is bound to is still there (IRSA spec, sections 2.3 and 4.4).
//!
//! Needed permissions: `get` on the path `/openid/v1/jwks`, which the ClusterRole `system:service-account-issuer-discovery`
//! has; `create` on `tokenreviews` in the group `authentication.k8s.io`, which `system:auth-delegator` has.

use std::fmt;
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::json;

/// Most bytes of a key set; what verifies with it has the same limit.
const MAX_KEY_SET: usize = 256 * 1024;
/// Most bytes of an answered TokenReview: it has the token in it again.
const MAX_REVIEW: usize = 128 * 1024;
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

    async fn ask(&self, request: Request<Body>, limit: usize) -> Result<Vec<u8>, TokenApiError> {
        ask(&self.client, self.timeout, request, limit).await
    }
}

/// One question, answered whole within `timeout` by at most `limit` bytes.
pub(super) async fn ask(
    client: &Client,
    timeout: Duration,
    request: Request<Body>,
    limit: usize,
) -> Result<Vec<u8>, TokenApiError> {
    let asked = async {
        let sent = client.send(request).await;
        let (head, body) = sent.map_err(|_| TokenApiError::Unreachable)?.into_parts();
        if !matches!(head.status, StatusCode::OK | StatusCode::CREATED) {
            return Err(TokenApiError::Status(head.status.as_u16()));
        }
        let read = Limited::new(body, limit).collect().await;
        let bytes = read.map_err(|_| TokenApiError::Unusable)?.to_bytes();
        Ok(bytes.to_vec())
    };
    tokio::time::timeout(timeout, asked)
        .await
        .unwrap_or(Err(TokenApiError::Unreachable))
}

impl fmt::Debug for TokenApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenApi")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
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
}

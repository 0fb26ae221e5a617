//! The keys with which a cluster signs service account tokens, as its API server publishes them.
//!
//! Needed permission: the ClusterRole `system:service-account-issuer-discovery`, which Kubernetes gives to every service account.

use kube::Client;
use serde::Deserialize;

/// Longest document that is taken; the longest key sets have some tens of kilobytes.
const MAX_DOCUMENT: usize = 256 << 10;
const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// The issuer of a cluster's tokens and its key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKeys {
    /// `iss` of the tokens.
    pub issuer: String,
    /// The JSON Web Key Set.
    pub jwks: String,
}

/// The keys cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} of the API server: {reason}")]
pub struct KeysUnreadable {
    path: &'static str,
    reason: String,
}

impl TokenKeys {
    /// Reads both from the API server. The path that the discovery document names is not followed: it is where others find the
    /// keys, and the API server has them itself.
    ///
    /// # Errors
    /// When the API server does not answer, refuses, or answers with something else.
    pub async fn read(client: &Client) -> Result<Self, KeysUnreadable> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
        }
        let document = get(client, DISCOVERY).await?;
        let discovery: Discovery = serde_json::from_str(&document).map_err(|_| KeysUnreadable {
            path: DISCOVERY,
            reason: "it names no issuer".into(),
        })?;
        Ok(Self {
            issuer: discovery.issuer,
            jwks: get(client, KEYS).await?,
        })
    }
}

async fn get(client: &Client, path: &'static str) -> Result<String, KeysUnreadable> {
    let failed = |reason: String| KeysUnreadable { path, reason };
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| failed(error.to_string()))?;
    let text = client.request_text(request).await.map_err(|error| {
        failed(match error {
            kube::Error::Api(status) => format!("status {}", status.code),
            other => other.to_string().chars().take(256).collect(),
        })
    })?;
    if text.len() > MAX_DOCUMENT {
        return Err(failed("it is too long".into()));
    }
    Ok(text)
}

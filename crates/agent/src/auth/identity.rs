//! As whom the agent asks: the node by its AWS credentials, or, in clusters outside AWS, the agent by its own bound token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderValue;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::AuthFailure;
use super::client::SetupError;
use super::node::NodeCredentials;

/// Longest token that is read from the file.
const MAX_TOKEN: u64 = 16 << 10;
/// Longest name of a node, as Kubernetes has it.
const MAX_NODE: usize = 253;

/// How the node shows who it is.
#[derive(Debug)]
#[non_exhaustive]
pub enum NodeIdentity {
    /// Requests are signed with its AWS credentials.
    Signed(NodeCredentials),
    /// Requests carry the agent's own service account token (section 10).
    Bearer(NodeToken),
}

/// The agent's own bound service account token, with the audience `eks-auth.countersign.dev`, in a file that kubelet keeps fresh.
///
/// It is read for each call, as every SDK reads the tokens of its pod: it is small, in memory, and may have been replaced.
#[derive(Debug)]
pub struct NodeToken {
    path: PathBuf,
    node: HeaderValue,
}

impl NodeToken {
    /// The token in `path`, for the node of this name.
    ///
    /// # Errors
    /// When the name cannot be one of a node.
    pub fn new(path: impl Into<PathBuf>, node: &str) -> Result<Self, SetupError> {
        let fine = (1..=MAX_NODE).contains(&node.len())
            && node
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
        let invalid = || SetupError::NodeName(node.chars().take(MAX_NODE).collect());
        let header = HeaderValue::from_str(node).ok().filter(|_| fine);
        Ok(Self {
            path: path.into(),
            node: header.ok_or_else(invalid)?,
        })
    }

    pub(super) fn node(&self) -> HeaderValue {
        self.node.clone()
    }

    /// The value of the `Authorization` header.
    pub(super) async fn header(&self) -> Result<HeaderValue, AuthFailure> {
        let token = read(&self.path).await.map_err(|error| {
            let text = format!("the agent's token {}: {error}", self.path.display());
            AuthFailure::NoNodeCredentials(text.into())
        })?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let text = token.trim();
        let value = (!text.is_empty() && text.bytes().all(plain))
            .then(|| HeaderValue::from_str(&Zeroizing::new(format!("Bearer {text}"))).ok())
            .flatten();
        let mut value = value.ok_or_else(|| {
            let text = format!("{} holds no token", self.path.display());
            AuthFailure::NoNodeCredentials(text.into())
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

async fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let file = tokio::fs::File::open(path).await?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_TOKEN).read_to_string(&mut text).await?;
    Ok(text)
}

impl From<NodeCredentials> for NodeIdentity {
    fn from(credentials: NodeCredentials) -> Self {
        Self::Signed(credentials)
    }
}

impl From<NodeToken> for NodeIdentity {
    fn from(token: NodeToken) -> Self {
        Self::Bearer(token)
    }
}

impl From<NodeCredentials> for Arc<NodeIdentity> {
    fn from(credentials: NodeCredentials) -> Self {
        Self::new(credentials.into())
    }
}

impl From<NodeToken> for Arc<NodeIdentity> {
    fn from(token: NodeToken) -> Self {
        Self::new(token.into())
    }
}

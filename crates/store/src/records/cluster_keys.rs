//! The keys that verify, and where we make them sign, the service account tokens of a cluster (IRSA spec, section 2.5).

use countersign_arn::AccountId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::plain::{self, Plain};
use crate::{SealedSecret, Value};

/// The name under which the signing keys of a cluster are sealed, see [`Sealer::seal`](crate::Sealer::seal).
pub const CLUSTER_SIGNING_KEYS_FIELD: &str = "signing";

/// The keys of a cluster's service account tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterKeys {
    /// The account of the cluster.
    pub account: AccountId,
    /// The [id](super::Cluster::id) of the cluster.
    pub cluster_id: Box<str>,
    /// Where the keys come from.
    pub source: ClusterKeySource,
    /// The key set that was uploaded or pulled, of usable public keys only; may be empty where keys are generated.
    pub document: Box<str>,
    /// Keys made here, with their private halves and times as base64, sealed for this record; only where they are generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SealedSecret>,
    /// When the source was last known to have these keys: written again at most every hour while they stay the same.
    pub confirmed: Timestamp,
    /// When the keys last changed.
    pub modified: Timestamp,
}

/// Where the keys of a cluster come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClusterKeySource {
    /// Somebody uploaded them.
    Uploaded,
    /// The cluster's API server publishes them; they are pulled from there again and again.
    ApiServer,
    /// They were made here, for an API server that signs with them. Uploaded ones may stand beside them: those that the API
    /// server signed with before.
    Generated,
}

impl ClusterKeySource {
    /// The word for people and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::ApiServer => "api-server",
            Self::Generated => "generated",
        }
    }
}

impl ClusterKeys {
    pub(super) fn decode(
        account: AccountId,
        rest: &str,
        value: &[u8],
    ) -> Result<Self, DecodeError> {
        plain::decode(Some(account), rest, value)
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Value {
        plain::encode(self)
    }
}

impl Plain for ClusterKeys {
    fn belongs_to(&self, account: Option<AccountId>, rest: &str) -> bool {
        account == Some(self.account) && rest == &*self.cluster_id
    }
}

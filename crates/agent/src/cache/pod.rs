//! The cache by pod, for the parts of a node's agent that hand credentials out in another way than the endpoint does.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::Cache;

/// Credentials that are in the cache.
#[derive(Clone)]
pub struct CachedCredentials {
    /// The JSON object that the endpoint answers with: `AccessKeyId`, `SecretAccessKey`, `Token`, `AccountId`, `Expiration`.
    /// A secret.
    pub body: Bytes,
    /// When they end.
    pub expires_at: Timestamp,
}

impl fmt::Debug for CachedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedCredentials")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Reads the cache by pod. It never asks the auth service: only a pod's own token can do that.
#[derive(Clone)]
pub struct PodCredentials(Arc<Cache>);

impl PodCredentials {
    pub(crate) const fn new(cache: Arc<Cache>) -> Self {
        Self(cache)
    }

    /// The credentials of the pod with this uid, if they are cached, live for more than 15 seconds, and the pod is one of
    /// this node. Counts as a read, so that they are renewed.
    ///
    /// Whoever calls this has made sure that the caller is that pod: the address of the connection says so only for pods that
    /// have a network of their own.
    #[must_use]
    pub fn of(&self, pod_uid: &str) -> Option<CachedCredentials> {
        self.0.of_pod(pod_uid)
    }
}

impl fmt::Debug for PodCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PodCredentials")
    }
}

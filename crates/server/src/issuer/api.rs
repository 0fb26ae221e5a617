//! The API server of a cluster, as far as its tokens go.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use countersign_sources::kubernetes::{PodLabels, TokenApi, TokenApiError, TokenVerdict};

/// An answer to come.
pub type ApiFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, TokenApiError>> + Send + 'a>>;

/// What the API server of a cluster is asked about its own tokens.
pub trait ClusterApi: Send + Sync + fmt::Debug {
    /// The key set that it publishes.
    fn key_set(&self) -> ApiFuture<'_, Vec<u8>>;

    /// Whether a token is good now: its service account and the pod it is bound to are there.
    fn review<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [Box<str>],
    ) -> ApiFuture<'a, TokenVerdict>;

    /// Uid and labels of a pod; nothing when there is none of this name. What cannot be asked about pods does not answer.
    fn pod_labels<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> ApiFuture<'a, Option<PodLabels>> {
        let _ = (namespace, name);
        Box::pin(std::future::ready(Err(TokenApiError::Unreachable)))
    }
}

impl ClusterApi for TokenApi {
    fn key_set(&self) -> ApiFuture<'_, Vec<u8>> {
        Box::pin(Self::key_set(self))
    }

    fn review<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [Box<str>],
    ) -> ApiFuture<'a, TokenVerdict> {
        Box::pin(Self::review(self, token, audiences))
    }

    fn pod_labels<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> ApiFuture<'a, Option<PodLabels>> {
        Box::pin(Self::pod_labels(self, namespace, name))
    }
}

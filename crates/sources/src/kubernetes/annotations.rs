//! The annotations of single objects, read when they are asked for: pods and namespaces for the roles of kube2iam and kiam
//! (imds spec, section 5.3), and service accounts for those of IRSA.
//!
//! Needed permissions: `get` on `pods` and `namespaces`, or on `serviceaccounts`. Nothing of an object but its metadata is asked
//! for.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::{Method, Request, header};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;

use super::raw::is_name;
use super::tokens::{TokenApiError, ask};

/// Most bytes of an object's metadata: annotations have 256 KiB, and who manages which field may take more.
const MAX_METADATA: usize = 2 << 20;
/// Bytes of one annotation that are kept. What is longer is cut, and so is no role, no list and no pattern that anybody could mean.
const MAX_VALUE: usize = 16 << 10;
/// Annotations of an object that are kept.
const MAX_KEPT: usize = 64;
/// The metadata alone, in the place of the object.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// An object, as far as its annotations go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectAnnotations {
    /// `metadata.uid`.
    pub uid: String,
    /// Those of `metadata.annotations` with the prefix that was asked for, each cut to 16 KiB.
    pub annotations: BTreeMap<String, String>,
}

/// Reads annotations of an API server.
#[derive(Clone)]
pub struct AnnotationReads {
    client: Client,
    timeout: Duration,
    prefix: Box<str>,
}

impl AnnotationReads {
    /// Reads annotations that begin with `PREFIX/` through `client`; each read gets `timeout`.
    #[must_use]
    pub fn new(client: Client, timeout: Duration, prefix: &str) -> Self {
        Self {
            client,
            timeout,
            prefix: format!("{prefix}/").into(),
        }
    }

    /// A pod; nothing when there is none.
    ///
    /// # Errors
    /// When there is no answer, or none that could be an object.
    pub async fn pod(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ObjectAnnotations>, TokenApiError> {
        self.namespaced("pods", namespace, name).await
    }

    /// A service account; nothing when there is none.
    ///
    /// # Errors
    /// As [`AnnotationReads::pod`].
    pub async fn service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ObjectAnnotations>, TokenApiError> {
        self.namespaced("serviceaccounts", namespace, name).await
    }

    /// A namespace; nothing when there is none.
    ///
    /// # Errors
    /// As [`AnnotationReads::pod`].
    pub async fn namespace(&self, name: &str) -> Result<Option<ObjectAnnotations>, TokenApiError> {
        if !is_name(name, 63) {
            return Ok(None);
        }
        self.read(&format!("/api/v1/namespaces/{name}")).await
    }

    async fn namespaced(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ObjectAnnotations>, TokenApiError> {
        // No object has another name, and a path is made of it.
        if !is_name(namespace, 63) || !is_name(name, 253) {
            return Ok(None);
        }
        self.read(&format!("/api/v1/namespaces/{namespace}/{kind}/{name}"))
            .await
    }

    async fn read(&self, path: &str) -> Result<Option<ObjectAnnotations>, TokenApiError> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(header::ACCEPT, METADATA)
            .body(Body::empty())
            .map_err(|_| TokenApiError::Unusable)?;
        match ask(&self.client, self.timeout, request, MAX_METADATA).await {
            Ok(answer) => object(&answer, &self.prefix)
                .map(Some)
                .ok_or(TokenApiError::Unusable),
            Err(TokenApiError::Status(404)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for AnnotationReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnnotationReads")
            .field("timeout", &self.timeout)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// The part of an object that matters.
pub(crate) fn object(answer: &[u8], prefix: &str) -> Option<ObjectAnnotations> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: String,
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    let metadata = serde_json::from_slice::<Object>(answer).ok()?.metadata;
    if metadata.uid.is_empty() {
        return None;
    }
    let annotations = metadata.annotations.unwrap_or_default().into_iter();
    Some(ObjectAnnotations {
        uid: metadata.uid,
        annotations: annotations
            .filter(|(key, _)| key.starts_with(prefix))
            .take(MAX_KEPT)
            .map(|(key, value)| (key, cut(value)))
            .collect(),
    })
}

fn cut(mut value: String) -> String {
    if value.len() > MAX_VALUE {
        let mut end = MAX_VALUE;
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        value.truncate(end);
        value.shrink_to_fit();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_its_uid_and_the_annotations_of_the_prefix() {
        let read = |text: &str| object(text.as_bytes(), "iam.amazonaws.com/");
        let found = read(
            r#"{"kind":"PartialObjectMetadata","metadata":{"uid":"u","annotations":{"iam.amazonaws.com/role":"r","iam.amazonaws.com.evil/role":"x","a":"b"}}}"#,
        )
        .unwrap();
        assert_eq!(found.uid, "u");
        assert_eq!(
            found.annotations,
            BTreeMap::from([("iam.amazonaws.com/role".to_owned(), "r".to_owned())])
        );
        for none in [
            r#"{"metadata":{"uid":"u","annotations":null}}"#,
            r#"{"metadata":{"uid":"u"}}"#,
        ] {
            assert_eq!(read(none).unwrap().annotations.len(), 0, "{none}");
        }
        for text in [
            "",
            "{}",
            r#"{"metadata":{}}"#,
            r#"{"metadata":{"uid":""}}"#,
            r#"{"metadata":{"uid":"u","annotations":{"iam.amazonaws.com/role":7}}}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_at_a_character() {
        let long = "\u{e4}".repeat(MAX_VALUE);
        assert_eq!(cut(long).len(), MAX_VALUE);
        let odd = format!("x{}", "\u{e4}".repeat(MAX_VALUE));
        assert_eq!(cut(odd).len(), MAX_VALUE - 1);
        assert_eq!(cut("short".to_owned()), "short");
    }
}

//! A Secret with a certificate that replicas share (webhook spec, section 8.3).
//!
//! It is written only in the version that was read, or made where there was none: of replicas that find at the same time that there
//! is something to do, one does it, and the others take what it wrote. No lease is needed for that, and no further right.
//!
//! Needed permissions, in the Secret's namespace: `get` and `patch` on the one Secret, `create` on secrets, which cannot be given by name.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::{Method, Request, header};
use k8s_openapi::ByteString;
use kube::Client;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::ca_bundle::{BundleOutcome, CaBundle};
use super::list_watch::WatchError;
use super::raw;

/// Time for one call.
const ANSWER: Duration = Duration::from_secs(10);
/// The label of Secrets that were made here, which may be made anew when they cannot be used.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const US: &str = "countersign";

/// A Secret by its name.
pub struct TlsSecret {
    client: Client,
    namespace: String,
    name: String,
}

/// What a Secret held.
pub struct HeldSecret {
    /// Its version, for [`TlsSecret::update`].
    pub version: String,
    /// Whether it was made here.
    pub is_ours: bool,
    /// Its values that are text.
    pub data: BTreeMap<String, Zeroizing<String>>,
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is written.
    Done,
    /// Somebody else was faster.
    TooLate,
}

impl fmt::Debug for TlsSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret `{}/{}`", self.namespace, self.name)
    }
}

impl fmt::Debug for HeldSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldSecret({})", self.version)
    }
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    data: Option<BTreeMap<String, ByteString>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl TlsSecret {
    /// The Secret `name` in `namespace`. Nothing is asked yet.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Reads it; none when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, in words.
    pub async fn read(&self) -> Result<Option<HeldSecret>, String> {
        let request = raw::request(Method::GET, &self.path()?).map_err(|e| e.to_string())?;
        let read = async { Ok(self.client.request_text(request).await) };
        let text = match within(read).await? {
            Ok(text) => Zeroizing::new(text),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(self.failed("read", error)),
        };
        // What serde says quotes what it read.
        let object: Object = serde_json::from_str(&text)
            .map_err(|_| format!("{self:?} cannot be read: the answer is no Secret"))?;
        let labels = object.metadata.labels.unwrap_or_default();
        let data = object.data.unwrap_or_default().into_iter();
        let data = data.filter_map(|(key, ByteString(bytes))| {
            let text = match String::from_utf8(bytes) {
                Ok(text) => Zeroizing::new(text),
                Err(error) => {
                    drop(Zeroizing::new(error.into_bytes()));
                    return None;
                }
            };
            (!text.is_empty()).then_some((key, text))
        });
        Ok(Some(HeldSecret {
            version: object.metadata.resource_version,
            is_ours: labels.get(MANAGED_BY).is_some_and(|by| by == US),
            data: data.collect(),
        }))
    }

    /// Makes it.
    ///
    /// # Errors
    /// When it cannot be written, in words.
    pub async fn create(&self, data: &BTreeMap<&str, &str>) -> Result<Written, String> {
        let data: BTreeMap<_, _> = data.iter().map(|(key, text)| (*key, bytes(text))).collect();
        let body = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": {MANAGED_BY: US}},
            "data": data,
        });
        let (collection, _) = self.paths()?;
        self.send(Method::POST, &collection, "application/json", body)
            .await
    }

    /// Writes over the version that was read: keys of `data` without a text are taken away, others are left alone.
    ///
    /// # Errors
    /// When it cannot be written, in words.
    pub async fn update(
        &self,
        version: &str,
        data: &BTreeMap<&str, Option<&str>>,
    ) -> Result<Written, String> {
        let data: BTreeMap<_, _> = data
            .iter()
            .map(|(key, text)| (*key, text.map(bytes)))
            .collect();
        let body = json!({
            "metadata": {"resourceVersion": version, "labels": {MANAGED_BY: US}},
            "data": data,
        });
        let path = self.path()?;
        self.send(Method::PATCH, &path, "application/merge-patch+json", body)
            .await
    }

    /// Sees to it that the registration `name` has these CAs, PEM.
    ///
    /// # Errors
    /// As [`CaBundle::put`].
    pub async fn publish(&self, name: &str, cas: &str) -> Result<BundleOutcome, String> {
        within(CaBundle::put(&self.client, name, cas)).await
    }

    /// The answer holds the Secret too, and is not read.
    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: serde_json::Value,
    ) -> Result<Written, String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .body(body.to_string().into_bytes())
            .map_err(|error| error.to_string())?;
        let answered = within(async { Ok(self.client.request_text(request).await) }).await?;
        match answered {
            Ok(text) => {
                drop(Zeroizing::new(text));
                Ok(Written::Done)
            }
            // Made or changed meanwhile, or deleted.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                if status.code == 404 && path.ends_with("/secrets") {
                    return Err(format!("there is no namespace `{}`", self.namespace));
                }
                Ok(Written::TooLate)
            }
            Err(error) => Err(self.failed("write", error)),
        }
    }

    fn path(&self) -> Result<String, String> {
        self.paths().map(|(_, path)| path)
    }

    /// That of all Secrets of the namespace, and its own.
    fn paths(&self) -> Result<(String, String), String> {
        if !raw::is_name(&self.namespace, 63) || !raw::is_name(&self.name, 253) {
            return Err(format!(
                "`{}/{}` cannot be the name of a Secret",
                self.namespace, self.name
            ));
        }
        let collection = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        let path = format!("{collection}/{}", self.name);
        Ok((collection, path))
    }

    fn failed(&self, verb: &str, error: kube::Error) -> String {
        let reason = WatchError::from(error).summary();
        format!(
            "could not {verb} Secret `{}/{}`: {reason}",
            self.namespace, self.name
        )
    }
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

async fn within<T>(call: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(ANSWER, call)
        .await
        .unwrap_or_else(|_| Err("the API server does not answer in time".to_owned()))
}

//! Questions to the API server whose answers are read in part: what is not needed of large lists is never kept.

use std::time::Duration;

use futures::stream::BoxStream;
use http::{Method, Request};
use kube::Client;
use kube::api::WatchEvent;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::list_watch::WatchError;

/// Time for one page of a list, or for a watch to begin.
const ANSWER: Duration = Duration::from_secs(30);
/// Seconds after which the API server ends a watch by itself.
pub(super) const WATCH_SECONDS: u32 = 290;
/// Without a sign of life for longer the connection is dead, whatever TCP thinks.
pub(super) const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 40);

/// One page of a list.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: DeserializeOwned"))]
pub(super) struct Page<T> {
    #[serde(default)]
    pub(super) metadata: PageMeta,
    #[serde(default = "Vec::new")]
    pub(super) items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PageMeta {
    pub(super) resource_version: String,
    /// Asks for the next page; empty after the last.
    #[serde(rename = "continue")]
    pub(super) next: String,
}

/// A page of at most `limit` objects of `path`, from where `next` of the page before says.
pub(super) async fn page<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    limit: usize,
    next: &str,
) -> Result<Page<T>, WatchError> {
    let mut uri = format!("{path}?limit={limit}");
    if !next.is_empty() {
        uri.push_str("&continue=");
        uri.extend(next.bytes().map(escaped));
    }
    let read = get(client, &uri);
    tokio::time::timeout(ANSWER, read)
        .await
        .map_err(|_| WatchError::Silence)?
        .map_err(WatchError::from)
}

/// What follows on `version`.
pub(super) async fn watch<T: DeserializeOwned + Clone + Send + 'static>(
    client: &Client,
    path: &str,
    version: &str,
) -> Result<BoxStream<'static, kube::Result<WatchEvent<T>>>, WatchError> {
    let version: String = version.bytes().map(escaped).collect();
    let uri = format!(
        "{path}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
    );
    let events = tokio::time::timeout(ANSWER, client.request_events(request(Method::GET, &uri)?))
        .await
        .map_err(|_| WatchError::Silence)??;
    Ok(Box::pin(events))
}

/// One object. kube's own reader would log an answer that it cannot read, whatever stands in it.
pub(super) async fn get<T: DeserializeOwned>(client: &Client, uri: &str) -> kube::Result<T> {
    let text = client.request_text(request(Method::GET, uri)?).await?;
    serde_json::from_str(&text).map_err(kube::Error::SerdeError)
}

pub(super) fn request(method: Method, uri: &str) -> kube::Result<Request<Vec<u8>>> {
    Request::builder()
        .method(method)
        .uri(uri)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)
}

/// A byte as it may stand in a query.
fn escaped(byte: u8) -> String {
    match byte {
        b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    }
}

/// Whether the text can be the name of a namespace or of a service account (RFC 1123), so that a path may be made of it.
pub(super) fn is_name(text: &str, longest: usize) -> bool {
    let outer = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.len() <= longest
        && outer(text.bytes().next())
        && outer(text.bytes().next_back())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

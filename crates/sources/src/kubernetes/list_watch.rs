//! List, then watch from there, then go on where the watch ended.

use std::fmt::Debug;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Error, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// Seconds after which the API server ends a watch by itself; below five minutes, where load balancers cut.
const WATCH_SECONDS: u32 = 290;
/// Without a sign of life for longer the connection is dead, whatever TCP thinks.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 40);
/// A watch that ends this early without an event is a failure: starting the next one at once would be a storm.
const TOO_SHORT: Duration = Duration::from_secs(1);
/// Time for one page of a list, or for a watch to begin.
const ANSWER: Duration = Duration::from_secs(30);
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// What happened to the objects.
#[derive(Debug)]
pub(crate) enum Step<K> {
    /// These are all there are.
    Listed { objects: Vec<K>, version: String },
    /// One is new or changed.
    Applied(K),
    /// One is gone.
    Deleted(K),
    /// The watch goes on after a failure. Nothing was missed.
    Resumed,
}

/// Why a list or watch failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error("{0}")]
    Kube(#[source] Error),
    #[error("the API server ended a watch at once")]
    EndedAtOnce,
    #[error("no sign of life from the API server")]
    Silence,
    #[error("status {code}: {reason}")]
    Status { code: u16, reason: String },
}

impl WatchError {
    /// Whether the API server does not know the kind of object.
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Self::Kube(Error::Api(status)) => status.code == 404,
            Self::Status { code, .. } => *code == 404,
            _ => false,
        }
    }

    /// Whether the API server refuses the question to whoever asks it.
    pub(crate) fn is_forbidden(&self) -> bool {
        match self {
            Self::Kube(Error::Api(status)) => status.code == 403,
            Self::Status { code, .. } => *code == 403,
            _ => false,
        }
    }

    pub(crate) fn is_too_old(&self) -> bool {
        match self {
            Self::Kube(Error::Api(status)) => status.code == 410,
            Self::Status { code, .. } => *code == 410,
            _ => false,
        }
    }

    /// The error without what the API server may have put into a message.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Kube(Error::Api(status)) => {
                let reason: String = status.reason.chars().take(64).collect();
                format!("the API server answers {} {reason}", status.code)
            }
            other => other.to_string().chars().take(256).collect(),
        }
    }
}

impl From<Error> for WatchError {
    fn from(error: Error) -> Self {
        Self::Kube(error)
    }
}

/// One list-and-watch. Dropping it ends it.
pub(crate) struct ListWatch<K> {
    api: Api<K>,
    fields: Option<String>,
    position: Position<K>,
    failed: bool,
}

enum Position<K> {
    Unlisted,
    At(String),
    Watching(Watch<K>),
}

struct Watch<K> {
    version: String,
    events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    since: Instant,
    seen_any: bool,
}

impl<K> ListWatch<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    pub(crate) fn new(api: Api<K>, fields: Option<&str>) -> Self {
        Self {
            api,
            fields: fields.map(str::to_owned),
            position: Position::Unlisted,
            failed: false,
        }
    }

    /// Waits for the next step. After an error, wait before calling again; the watch then goes on where it was.
    ///
    /// Cancel-safe between steps only: a dropped call that was listing starts the list over.
    pub(crate) async fn next(&mut self) -> Result<Step<K>, WatchError> {
        let step = self.advance().await;
        match &step {
            Err(error) if error.is_not_found() => {
                self.position = Position::Unlisted;
                self.failed = true;
            }
            Err(_) => self.failed = true,
            Ok(_) => self.failed = false,
        }
        step
    }

    /// A further event that is there already, so that a burst is handled as one.
    pub(crate) fn ready(&mut self) -> Option<Step<K>> {
        let Position::Watching(watch) = &mut self.position else {
            return None;
        };
        while let Some(Ok(event)) = watch.events.next().now_or_never()? {
            match watch.take(event) {
                Ok(Some(step)) => return Some(step),
                Ok(None) => {}
                Err(_) => break,
            }
        }
        // Asked again from where it was, which tells `next` what is the matter.
        self.position = Position::At(std::mem::take(&mut watch.version));
        None
    }

    async fn advance(&mut self) -> Result<Step<K>, WatchError> {
        loop {
            match &mut self.position {
                Position::Unlisted => {
                    let (objects, version) = self.list().await?;
                    self.position = Position::At(version.clone());
                    return Ok(Step::Listed { objects, version });
                }
                Position::At(version) => {
                    let version = std::mem::take(version);
                    self.position = Position::At(version.clone());
                    let events = match self.watch(&version).await {
                        Ok(events) => events,
                        Err(error) if error.is_too_old() => {
                            self.position = Position::Unlisted;
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
                    self.position = Position::Watching(Watch {
                        version,
                        events,
                        since: Instant::now(),
                        seen_any: false,
                    });
                    if self.failed {
                        return Ok(Step::Resumed);
                    }
                }
                Position::Watching(watch) => {
                    let event = tokio::time::timeout(SILENCE, watch.events.next()).await;
                    let taken = match event {
                        Ok(Some(Ok(event))) => watch.take(event),
                        Ok(Some(Err(error))) => Err(error.into()),
                        Ok(None) if watch.seen_any || watch.since.elapsed() > TOO_SHORT => {
                            self.position = Position::At(std::mem::take(&mut watch.version));
                            continue;
                        }
                        Ok(None) => Err(WatchError::EndedAtOnce),
                        Err(_) => Err(WatchError::Silence),
                    };
                    match taken {
                        Ok(Some(step)) => return Ok(step),
                        Ok(None) => {}
                        Err(error) if error.is_too_old() => self.position = Position::Unlisted,
                        Err(error) => {
                            self.position = Position::At(std::mem::take(&mut watch.version));
                            return Err(error);
                        }
                    }
                }
            }
        }
    }

    async fn list(&mut self) -> Result<(Vec<K>, String), WatchError> {
        let mut params = ListParams::default().limit(PAGE);
        params.field_selector.clone_from(&self.fields);
        let mut objects = Vec::new();
        loop {
            let page = tokio::time::timeout(ANSWER, self.api.list(&params))
                .await
                .map_err(|_| WatchError::Silence)??;
            objects.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    let version = page.metadata.resource_version.unwrap_or_default();
                    return Ok((objects, version));
                }
            }
        }
    }

    async fn watch(
        &mut self,
        version: &str,
    ) -> Result<BoxStream<'static, kube::Result<WatchEvent<K>>>, WatchError> {
        let mut params = WatchParams::default().timeout(WATCH_SECONDS);
        params.field_selector.clone_from(&self.fields);
        let events = tokio::time::timeout(ANSWER, self.api.watch(&params, version))
            .await
            .map_err(|_| WatchError::Silence)??;
        Ok(events.boxed())
    }
}

impl<K: Resource> Watch<K> {
    fn take(&mut self, event: WatchEvent<K>) -> Result<Option<Step<K>>, WatchError> {
        self.seen_any = true;
        let mut at = |object: &K| {
            if let Some(version) = object.resource_version() {
                self.version = version;
            }
        };
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                at(&object);
                Ok(Some(Step::Applied(object)))
            }
            WatchEvent::Deleted(object) => {
                at(&object);
                Ok(Some(Step::Deleted(object)))
            }
            WatchEvent::Bookmark(bookmark) => {
                self.version = bookmark.metadata.resource_version;
                Ok(None)
            }
            WatchEvent::Error(status) => {
                // An error is no sign that the watch works.
                self.seen_any = false;
                Err(WatchError::Status {
                    code: status.code,
                    reason: status.reason.chars().take(64).collect(),
                })
            }
        }
    }
}

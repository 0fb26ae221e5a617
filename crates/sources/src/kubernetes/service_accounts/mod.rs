//! The service accounts of a cluster, and what their annotations say about credentials (webhook spec, section 9).
//!
//! ```text
//!   list, page by page ─┐
//!                       ├─► table: namespace/name ─► version, settings      kept for every account there is
//!   watch ──────────────┤
//!   one GET on a miss ──┘
//! ```
//!
//! Of an account nothing is kept but its names, its resourceVersion and the annotations that are read here, already parsed. Most
//! accounts have none of these, and cost little more than their names.

mod read;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_pods::AccountSettings;
use futures::StreamExt;
use kube::Client;
use kube::api::WatchEvent;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::RETRY_AFTER;
use super::list_watch::WatchError;
use super::raw::{self, SILENCE};
use read::Reads;
use table::Table;

pub use read::AccountReads;

const PATH: &str = "/api/v1/serviceaccounts";
/// Accounts in one page of a list. An object may have 256 KiB of annotations, so that a page has 64 MiB at worst.
const PAGE: usize = 250;
/// Longer annotations count as absent: no role ARN and no audience is as long, and everyone who may make accounts could fill the
/// memory with them.
const MAX_VALUE: usize = 4096;
/// A watch that ends this early without an event is a failure: starting the next one at once would be a storm.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// Settings of [`ServiceAccounts`].
#[derive(Debug, Clone)]
pub struct ServiceAccountOptions {
    /// Prefix of the annotations. Default `eks.amazonaws.com`.
    pub prefix: String,
    /// How long a read of an account that is not known may take, a second attempt included. Default 500 ms.
    pub read_deadline: Duration,
    /// How long a lookup waits for the first list. Default 2 s.
    pub first_list_wait: Duration,
    /// Pause after a failure. Default 5 s.
    pub retry_after: Duration,
}

impl Default for ServiceAccountOptions {
    fn default() -> Self {
        Self {
            prefix: "eks.amazonaws.com".to_owned(),
            read_deadline: Duration::from_millis(500),
            first_list_wait: Duration::from_secs(2),
            retry_after: RETRY_AFTER,
        }
    }
}

/// What is known about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountLookup {
    /// It exists.
    Known(Arc<AccountSettings>),
    /// The API server says that it does not.
    Missing,
    /// It could not be asked in time.
    Unread,
}

/// How the watch is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountsHealth {
    /// Whether the first list is done.
    pub listed: bool,
    /// Accounts that are known.
    pub accounts: usize,
    /// Those of them with an annotation that is read here.
    pub annotated: usize,
    /// Why lists or watches fail now.
    pub failing: Option<String>,
    /// How often they failed.
    pub failures_total: u64,
}

/// The service accounts of a cluster, kept fresh by [`Self::run`]. Clones share everything.
#[derive(Debug, Clone)]
pub struct ServiceAccounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: ServiceAccountOptions,
    client: ClientHolder,
    table: Table,
    listed: watch::Sender<bool>,
    failing: std::sync::Mutex<Option<String>>,
    failures: AtomicU64,
    reads: Reads,
}

struct ClientHolder(Client);

impl std::fmt::Debug for ClientHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// What is read of an account.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Account {
    metadata: Metadata,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    resource_version: String,
    annotations: Option<Annotations>,
}

/// Annotations without the long ones.
#[derive(Debug, Clone, Default)]
struct Annotations(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> serde::de::Visitor<'de> for Reader {
            type Value = Annotations;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("annotations")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Annotations, A::Error> {
                let mut kept = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if value.len() <= MAX_VALUE {
                        kept.push((key, value));
                    }
                }
                Ok(Annotations(kept))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

impl Account {
    fn key(&self) -> String {
        [&*self.metadata.namespace, "/", &*self.metadata.name].concat()
    }

    /// Versions grow; one that is no number is older than all others.
    fn version(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or(0)
    }

    fn settings(&self, prefix: &str) -> Option<Arc<AccountSettings>> {
        let annotations = self.metadata.annotations.as_ref()?;
        let pairs = annotations.0.iter().map(|(k, v)| (&**k, &**v));
        let settings = AccountSettings::from_annotations(prefix, pairs);
        (!settings.is_empty()).then(|| Arc::new(settings))
    }
}

impl ServiceAccounts {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(client: Client, options: ServiceAccountOptions) -> Self {
        Self(Arc::new(Inner {
            options,
            client: ClientHolder(client),
            table: Table::default(),
            listed: watch::Sender::new(false),
            failing: std::sync::Mutex::default(),
            failures: AtomicU64::new(0),
            reads: Reads::default(),
        }))
    }

    /// Lists and watches for ever.
    pub async fn run(self) {
        let mut version = None;
        loop {
            let error = match self.follow(&mut version).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            if error.is_too_old() {
                version = None;
                // An API server that says so each time must not be asked without end.
                tokio::time::sleep(TOO_SHORT / 10).await;
                continue;
            }
            self.0.failures.fetch_add(1, Ordering::Relaxed);
            let summary = error.summary();
            tracing::warn!(problem = summary, "service accounts cannot be watched");
            self.set_failing(Some(summary));
            tokio::time::sleep(self.0.options.retry_after).await;
        }
    }

    async fn follow(
        &self,
        version: &mut Option<String>,
    ) -> Result<std::convert::Infallible, WatchError> {
        loop {
            let from = match version {
                Some(version) => version.clone(),
                None => version.insert(self.list().await?).clone(),
            };
            let mut events = raw::watch::<Account>(&self.0.client.0, PATH, &from).await?;
            self.set_failing(None);
            let since = Instant::now();
            let mut seen_any = false;
            loop {
                let event = tokio::time::timeout(SILENCE, events.next())
                    .await
                    .map_err(|_| WatchError::Silence)?;
                let Some(event) = event else {
                    if !seen_any && since.elapsed() < TOO_SHORT {
                        return Err(WatchError::EndedAtOnce);
                    }
                    break;
                };
                match event? {
                    WatchEvent::Added(account) | WatchEvent::Modified(account) => {
                        self.keep(&account);
                        *version = Some(account.metadata.resource_version);
                    }
                    WatchEvent::Deleted(account) => {
                        self.0.table.remove(&account.key(), account.version());
                        *version = Some(account.metadata.resource_version);
                    }
                    WatchEvent::Bookmark(bookmark) => {
                        *version = Some(bookmark.metadata.resource_version);
                    }
                    WatchEvent::Error(status) => {
                        return Err(WatchError::Status {
                            code: status.code,
                            reason: status.reason.chars().take(64).collect(),
                        });
                    }
                }
                seen_any = true;
            }
        }
    }

    /// Lists all accounts, a page at a time; the version to watch from.
    async fn list(&self) -> Result<String, WatchError> {
        let listing = self.0.table.begin_listing();
        let mut next = String::new();
        loop {
            let page: raw::Page<Account> = raw::page(&self.0.client.0, PATH, PAGE, &next).await?;
            for account in &page.items {
                self.keep(account);
            }
            next = page.metadata.next;
            if next.is_empty() {
                let version = page.metadata.resource_version;
                self.0
                    .table
                    .end_listing(listing, version.parse().unwrap_or(u64::MAX));
                self.0.listed.send_replace(true);
                return Ok(version);
            }
        }
    }

    fn keep(&self, account: &Account) {
        if account.metadata.name.is_empty() || account.metadata.namespace.is_empty() {
            return;
        }
        let settings = account.settings(&self.0.options.prefix);
        self.0.table.put(account.key(), account.version(), settings);
    }

    fn set_failing(&self, problem: Option<String>) {
        let mut failing = self.0.failing.lock().unwrap_or_else(|e| e.into_inner());
        *failing = problem;
    }

    /// What is known without asking anybody. Locks the table for one lookup.
    #[must_use]
    pub fn known(&self, namespace: &str, name: &str) -> Option<Arc<AccountSettings>> {
        self.0.table.get(&[namespace, "/", name].concat())
    }

    /// The accounts with annotations that are read here, in no order: for debugging.
    #[must_use]
    pub fn annotated(&self) -> Vec<(Box<str>, Arc<AccountSettings>)> {
        self.0.table.annotated()
    }

    /// Forgets all accounts, and says how many there were: each is read again when a pod asks for it, or when it changes.
    pub fn clear(&self) -> usize {
        self.0.table.clear()
    }

    /// The account: from the table, or else, once the first list is done or was waited for, by one read of the API server that
    /// all lookups of this account share. Answers by `deadline`.
    pub async fn find(&self, namespace: &str, name: &str, deadline: Instant) -> AccountLookup {
        let key = [namespace, "/", name].concat();
        if let Some(settings) = self.0.table.get(&key) {
            return AccountLookup::Known(settings);
        }
        // Such an account cannot exist, and no path is made of what a pod's author wrote.
        if !raw::is_name(namespace, 63) || !raw::is_name(name, 253) {
            return AccountLookup::Missing;
        }
        if !*self.0.listed.borrow() {
            let until = deadline.min(Instant::now() + self.0.options.first_list_wait);
            let mut listed = self.0.listed.subscribe();
            let _ = tokio::time::timeout_at(until, listed.wait_for(|listed| *listed)).await;
            if let Some(settings) = self.0.table.get(&key) {
                return AccountLookup::Known(settings);
            }
        }
        self.read(key, deadline).await
    }

    /// How it is doing.
    #[must_use]
    pub fn health(&self) -> AccountsHealth {
        let (accounts, annotated) = self.0.table.len();
        AccountsHealth {
            listed: *self.0.listed.borrow(),
            accounts,
            annotated,
            failing: self
                .0
                .failing
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .clone(),
            failures_total: self.0.failures.load(Ordering::Relaxed),
        }
    }

    /// How the reads of single accounts ended.
    #[must_use]
    pub fn reads(&self) -> AccountReads {
        self.0.reads.counted()
    }
}

//! One read of an account that the watch has not told about yet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::{Account, AccountLookup, ServiceAccounts};
use crate::kubernetes::raw;

/// Accounts that are read, or wait for it, at once. Beyond that lookups end as unread: the API server has other things to do.
const MAX_WAITING: usize = 1000;
/// Calls at once.
const MAX_CALLS: usize = 64;

/// Reads under way, and how they ended.
#[derive(Debug)]
pub(super) struct Reads {
    under_way: Mutex<HashMap<Box<str>, watch::Receiver<Option<AccountLookup>>>>,
    calls: Semaphore,
    found: AtomicU64,
    missing: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
}

/// How reads of single accounts ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccountReads {
    /// The account is there.
    pub found: u64,
    /// It is not.
    pub missing: u64,
    /// The API server failed, refused, or took too long.
    pub failed: u64,
    /// Too many were under way.
    pub refused: u64,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
            calls: Semaphore::new(MAX_CALLS),
            found: AtomicU64::new(0),
            missing: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl Reads {
    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<Box<str>, watch::Receiver<Option<AccountLookup>>>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counted(&self) -> AccountReads {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AccountReads {
            found: load(&self.found),
            missing: load(&self.missing),
            failed: load(&self.failed),
            refused: load(&self.refused),
        }
    }
}

/// Takes the mark away however the read ends: one that stayed would keep everybody from reading that account again.
struct Mark {
    accounts: ServiceAccounts,
    key: Box<str>,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.accounts.0.reads.lock().remove(&self.key);
    }
}

impl ServiceAccounts {
    /// Joins the read of this account that is under way, or begins one. It is a task of its own: who began it may go away.
    pub(super) async fn read(&self, key: String, deadline: Instant) -> AccountLookup {
        let mut answer = {
            let mut under_way = self.0.reads.lock();
            match under_way.get(&*key) {
                Some(answer) => answer.clone(),
                None if under_way.len() >= MAX_WAITING => {
                    drop(under_way);
                    self.0.reads.refused.fetch_add(1, Ordering::Relaxed);
                    return AccountLookup::Unread;
                }
                None => {
                    let (sender, answer) = watch::channel(None);
                    let key = key.into_boxed_str();
                    under_way.insert(key.clone(), answer.clone());
                    let mark = Mark {
                        accounts: self.clone(),
                        key,
                    };
                    tokio::spawn(async move {
                        let found = mark.accounts.read_now(&mark.key).await;
                        sender.send_replace(Some(found));
                        drop(mark);
                    });
                    answer
                }
            }
        };
        let answered = tokio::time::timeout_at(deadline, answer.wait_for(Option::is_some)).await;
        match answered {
            Ok(Ok(found)) => found.clone().unwrap_or(AccountLookup::Unread),
            Ok(Err(_)) | Err(_) => AccountLookup::Unread,
        }
    }

    async fn read_now(&self, key: &str) -> AccountLookup {
        let reads = &self.0.reads;
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let budget = self.0.options.read_deadline;
        let deadline = Instant::now() + budget;
        // So that a first call that hangs leaves time for the second.
        let first = Instant::now() + budget * 3 / 5;
        let Ok(Ok(_permit)) = tokio::time::timeout_at(deadline, reads.calls.acquire()).await else {
            count(&reads.refused);
            return AccountLookup::Unread;
        };
        for until in [first, deadline] {
            match tokio::time::timeout_at(until, self.ask(key)).await {
                Ok(Ok(account)) => {
                    count(&reads.found);
                    self.keep(&account);
                    let settings = account.settings(&self.0.options.prefix);
                    // What the watch brought meanwhile may be newer.
                    let known = self.0.table.get(key);
                    return AccountLookup::Known(
                        known.unwrap_or_else(|| settings.unwrap_or_default()),
                    );
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                    count(&reads.missing);
                    return AccountLookup::Missing;
                }
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
                    tracing::warn!(
                        code = status.code,
                        "the API server refuses to show a service account"
                    );
                    break;
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
        count(&reads.failed);
        AccountLookup::Unread
    }

    /// The names in `key` were checked.
    async fn ask(&self, key: &str) -> kube::Result<Account> {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let uri = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}");
        raw::get(&self.0.client.0, &uri).await
    }
}

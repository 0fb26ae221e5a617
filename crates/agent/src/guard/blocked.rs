//! Who asked for the node's role or secrets: counted by service account, so that an operator sees who depends on them before the
//! guard blocks (imds spec, section 5.6). Kept in a file that `countersign imds blocked` reads.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::pods::Pod;

/// The file's name in the state directory.
pub const BLOCKED_FILE: &str = "imds-blocked.json";
/// Service accounts that are remembered; further ones are left out, and counted.
const MOST: usize = 2048;
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// A workload that asked for the node's role or secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockedWorkload {
    /// Its namespace; empty for callers whose pod is not known.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// The pod that asked last.
    pub pod: String,
    /// Requests for the node's role.
    pub credentials: u64,
    /// Requests for other secrets: user data, signed identity, keys.
    pub secrets: u64,
    /// Whether they were passed on (`audit`).
    pub passed_on: bool,
    /// The first request.
    pub first: Timestamp,
    /// The last request.
    pub last: Timestamp,
}

#[derive(Debug, Default)]
struct List {
    workloads: BTreeMap<(Box<str>, Box<str>), BlockedWorkload>,
    changed: bool,
    left_out: bool,
}

#[derive(Debug)]
pub(crate) struct Blocked {
    list: Mutex<List>,
    path: PathBuf,
}

impl Blocked {
    pub(crate) fn new(directory: &Path) -> Self {
        let path = directory.join(BLOCKED_FILE);
        let mut list = List::default();
        // What an agent before this one saw on the same boot still counts.
        let kept = std::fs::metadata(&path)
            .ok()
            .filter(|metadata| metadata.is_file() && metadata.len() <= 4 << 20)
            .and_then(|_| std::fs::read(&path).ok());
        let kept: Vec<BlockedWorkload> = kept
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        for workload in kept.into_iter().take(MOST) {
            let key = (
                workload.namespace.as_str().into(),
                workload.service_account.as_str().into(),
            );
            list.workloads.insert(key, workload);
        }
        Self {
            list: Mutex::new(list),
            path,
        }
    }

    pub(crate) fn count(&self, pod: Option<&Pod>, secret: bool, passed_on: bool, now: Timestamp) {
        let of = |field: fn(&Pod) -> &str| pod.map(field).unwrap_or_default();
        let (namespace, account) = (of(|pod| &pod.namespace), of(|pod| &pod.service_account));
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Box::from(namespace), Box::from(account));
        if list.workloads.len() >= MOST && !list.workloads.contains_key(&key) {
            if !std::mem::replace(&mut list.left_out, true) {
                tracing::warn!(
                    "more than {MOST} service accounts ask for the node's role; further ones are not listed"
                );
            }
            return;
        }
        list.changed = true;
        let entry = list
            .workloads
            .entry(key)
            .or_insert_with(|| BlockedWorkload {
                namespace: namespace.to_owned(),
                service_account: account.to_owned(),
                pod: String::new(),
                credentials: 0,
                secrets: 0,
                passed_on,
                first: now,
                last: now,
            });
        entry.pod = of(|pod| &pod.name).to_owned();
        entry.passed_on = passed_on;
        entry.last = now;
        let counter = if secret {
            &mut entry.secrets
        } else {
            &mut entry.credentials
        };
        *counter = counter.saturating_add(1);
    }

    /// Writes the list when it has changed, until `stop` becomes true and once more then.
    pub(crate) async fn keep(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut warned = false;
        loop {
            let last = tokio::select! {
                () = tokio::time::sleep(WRITE_EVERY) => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            let own = Arc::clone(&self);
            let written = tokio::task::spawn_blocking(move || own.write()).await;
            if let Ok(Err(error)) = written
                && !std::mem::replace(&mut warned, true)
            {
                tracing::warn!(path = %self.path.display(), %error, "who was blocked cannot be written down");
            }
            if last {
                return;
            }
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let text = {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::take(&mut list.changed) {
                return Ok(());
            }
            let all: Vec<&BlockedWorkload> = list.workloads.values().collect();
            serde_json::to_vec(&all)?
        };
        let temporary = self.path.with_extension("json.new");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        std::io::Write::write_all(&mut file, &text)?;
        std::fs::rename(&temporary, &self.path)
    }
}

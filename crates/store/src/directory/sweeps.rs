//! What deleted clusters and old requests leave behind.

use jiff::Timestamp;

use super::addons::addon_key;
use super::provider_configs::config_key;
use super::{Directory, DirectoryError, readable};
use crate::records::RecordKey;
use crate::transaction::limits;
use crate::{DirectorySnapshot, Key, Revision, Transaction};

impl Directory {
    /// Removes what is over at `now`: clusters that are deleted, what hung on clusters that are gone, updates and answered
    /// requests that are kept no longer. In transactions of bounded size; says how many records. Cheap when there is none;
    /// to be called every hour, on every replica. [`maintain_session_keys`](Self::maintain_session_keys) does.
    ///
    /// What hangs on a cluster that this version cannot read is not touched.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub async fn sweep_clusters(&self, now: Timestamp) -> Result<usize, DirectoryError> {
        let mut swept = 0_usize;
        loop {
            let count = self
                .write(|snapshot| {
                    let over = self.over(snapshot, now)?;
                    let transaction =
                        over.iter()
                            .fold(Transaction::new(), |transaction, (key, modified)| {
                                transaction.if_unchanged(key, *modified).delete(key)
                            });
                    Ok((transaction, over.len()))
                })
                .await?;
            swept = swept.saturating_add(count);
            // A cluster that was deleted now may leave something behind, however few there were.
            if count == 0 {
                return Ok(swept);
            }
        }
    }

    /// As much as fits into one transaction.
    fn over(
        &self,
        snapshot: &DirectorySnapshot,
        now: Timestamp,
    ) -> Result<Vec<(Key, Revision)>, DirectoryError> {
        let mut over: Vec<(Key, Revision)> = Vec::new();
        for cluster in snapshot.clusters() {
            let record = &cluster.record;
            if record.status(now).is_none() {
                let key = RecordKey::Cluster {
                    account: record.account,
                    region: &record.region,
                    name: &record.name,
                };
                over.push((readable(snapshot, key)?, cluster.modified));
            }
            for update in snapshot
                .cluster_updates(&record.id)
                .take_while(|update| self.is_old(&update.record, now))
                .take(limits::OPERATIONS)
            {
                let key = RecordKey::ClusterUpdate {
                    account: record.account,
                    cluster_id: &record.id,
                    id: &update.record.id,
                };
                over.push((readable(snapshot, key)?, update.modified));
            }
            for config in snapshot.identity_provider_configs(&record.id, None) {
                if config.record.status(now).is_none() {
                    let key = config_key(record, &config.record.name);
                    over.push((readable(snapshot, key)?, config.modified));
                }
            }
            for addon in snapshot.addons(&record.id, None) {
                if addon.record.status(now).is_none() {
                    let key = addon_key(record, &addon.record.name);
                    over.push((readable(snapshot, key)?, addon.modified));
                }
            }
            if over.len() >= limits::OPERATIONS {
                break;
            }
        }
        let rest = snapshot.leftovers().chain(snapshot.ended_requests(now));
        over.extend(rest.take(limits::OPERATIONS.saturating_sub(over.len())));
        over.truncate(limits::OPERATIONS);
        Ok(over)
    }
}

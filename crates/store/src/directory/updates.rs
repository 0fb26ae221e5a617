//! Changes of a cluster's configuration, and the records of them (EKS API spec, sections 4.1, 5 and 6).

use jiff::{SignedDuration, Timestamp};

use super::clusters::{after, with_creator};
use super::{ClusterPlace, Directory, DirectoryError, Once, Outcome, readable};
use crate::records::{
    AuthenticationMode, Cluster, ClusterUpdate, LatestUpdate, RecordKey, UpdateStatus,
};
use crate::snapshot::ClusterEntry;
use crate::{DirectorySnapshot, Transaction};

/// Old updates that one new one takes along.
const REMOVED_AT_ONCE: usize = 32;

/// Type and value of what an update changes.
pub type UpdateParams = Vec<(Box<str>, Box<str>)>;

/// The caller's own reason not to change a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub Box<str>);

impl Directory {
    /// Moves a cluster to the next authentication mode: one step forward, never back. With the first step out of
    /// `CONFIG_MAP` its creator gets the entry that makes an administrator, unless there is one already.
    ///
    /// # Errors
    /// When it is not there, EKS knows no such change, or an update is under way; see [`DirectoryError`].
    pub async fn set_authentication_mode(
        &self,
        place: ClusterPlace<'_>,
        mode: AuthenticationMode,
        settling: SignedDuration,
        once: Option<&Once<'_, ClusterUpdate>>,
        now: Timestamp,
    ) -> Result<Outcome<ClusterUpdate>, DirectoryError> {
        let (id, entry) = (self.new_uuid()?, self.new_uuid()?);
        self.write_once(once, now, |snapshot| {
            let (_, known) = place.open(snapshot, now)?;
            let from = known.record.authentication_mode;
            if !from.may_become(mode) {
                return Err(DirectoryError::UnsupportedModeChange { from, to: mode });
            }
            let mut cluster = known.record.clone();
            cluster.authentication_mode = mode;
            let update = ClusterUpdate {
                kind: "AccessConfigUpdate".into(),
                params: vec![("AuthenticationMode".into(), format!("\"{mode}\"").into())],
                ..new_update(&cluster, &id, settling, now)
            };
            let transaction = self.plan_update(snapshot, place, known, &mut cluster, &update)?;
            let transaction = if from == AuthenticationMode::ConfigMap {
                with_creator(snapshot, transaction, &cluster, &entry, now)?
            } else {
                transaction
            };
            Ok((transaction, update))
        })
        .await
    }

    /// Changes the settings, the version or the deletion protection of a cluster; whatever else `change` writes is not kept.
    ///
    /// `change` is given the cluster as it is, may refuse, and answers with the parameters of the update. It is called
    /// again when somebody else was faster.
    ///
    /// # Errors
    /// When the cluster is not there, an update is under way, or `change` refuses; see [`DirectoryError`].
    pub async fn update_cluster(
        &self,
        place: ClusterPlace<'_>,
        kind: &str,
        settling: SignedDuration,
        once: Option<&Once<'_, ClusterUpdate>>,
        now: Timestamp,
        mut change: impl FnMut(&mut Cluster) -> Result<UpdateParams, Refused>,
    ) -> Result<Outcome<ClusterUpdate>, DirectoryError> {
        let id = self.new_uuid()?;
        self.write_once(once, now, |snapshot| {
            let (_, known) = place.open(snapshot, now)?;
            // What is under way is the better answer than what the caller says about the state it makes.
            check_idle(known, now)?;
            let mut changed = known.record.clone();
            let params = change(&mut changed)?;
            let mut cluster = Cluster {
                settings: changed.settings,
                version: changed.version,
                deletion_protection: changed.deletion_protection,
                ..known.record.clone()
            };
            let update = ClusterUpdate {
                kind: kind.into(),
                params,
                ..new_update(&cluster, &id, settling, now)
            };
            let transaction = self.plan_update(snapshot, place, known, &mut cluster, &update)?;
            Ok((transaction, update))
        })
        .await
    }

    /// Writes the changed cluster and the update. Two updates at once conflict, as both write the cluster.
    pub(super) fn plan_update(
        &self,
        snapshot: &DirectorySnapshot,
        place: ClusterPlace<'_>,
        known: &ClusterEntry,
        cluster: &mut Cluster,
        update: &ClusterUpdate,
    ) -> Result<Transaction, DirectoryError> {
        let now = update.created;
        check_idle(known, now)?;
        let (cluster_key, _) = place.open(snapshot, now)?;
        cluster.update = Some(LatestUpdate {
            id: update.id.clone(),
            settles: update.settles,
        });
        let transaction = Transaction::new()
            .if_unchanged(&cluster_key, known.modified)
            .put(&cluster_key, cluster.encode());
        self.with_update(snapshot, transaction, cluster, update)
    }

    /// Writes an update with what it changes, and takes old ones of the cluster away.
    pub(super) fn with_update(
        &self,
        snapshot: &DirectorySnapshot,
        transaction: Transaction,
        cluster: &Cluster,
        update: &ClusterUpdate,
    ) -> Result<Transaction, DirectoryError> {
        let now = update.created;
        let key = |id| RecordKey::ClusterUpdate {
            account: cluster.account,
            cluster_id: &cluster.id,
            id,
        };
        let new = readable(snapshot, key(&update.id))?;
        let mut transaction = transaction.if_absent(&new).put(&new, update.encode());
        let count = snapshot.cluster_updates(&cluster.id).count();
        let surplus = count
            .saturating_add(1)
            .saturating_sub(self.0.quotas.updates_per_cluster);
        let oldest = snapshot.cluster_updates(&cluster.id).enumerate();
        for (index, old) in oldest.take(REMOVED_AT_ONCE) {
            if index < surplus || self.is_old(&old.record, now) {
                transaction = transaction.delete(&readable(snapshot, key(&old.record.id))?);
            }
        }
        Ok(transaction)
    }

    /// Whether an update is kept no longer.
    pub(super) fn is_old(&self, update: &ClusterUpdate, now: Timestamp) -> bool {
        now.duration_since(update.settles) > self.0.quotas.updates_kept_for
    }
}

fn check_idle(cluster: &ClusterEntry, now: Timestamp) -> Result<(), DirectoryError> {
    let Cluster { name, settles, .. } = &cluster.record;
    let update = cluster.record.running_update(now);
    if update.is_some() || settles.is_some_and(|settles| now < settles) {
        return Err(DirectoryError::ClusterBusy {
            cluster: name.clone(),
            update: update.map(|update| update.id.clone()),
        });
    }
    Ok(())
}

pub(super) fn new_update(
    cluster: &Cluster,
    id: &str,
    settling: SignedDuration,
    now: Timestamp,
) -> ClusterUpdate {
    ClusterUpdate {
        account: cluster.account,
        cluster_id: cluster.id.clone(),
        addon: None,
        id: id.into(),
        kind: "".into(),
        params: Vec::new(),
        created: now,
        settles: after(now, settling).unwrap_or(now),
        outcome: UpdateStatus::Successful,
        errors: Vec::new(),
    }
}

//! Add-ons of clusters (EKS API spec, section 14).

use std::sync::Arc;

use countersign_arn::Tag;
use countersign_session::PodSessions;
use jiff::{SignedDuration, Timestamp};

use super::clusters::after;
use super::pod_identity::association_key;
use super::updates::new_update;
use super::{
    ClusterPlace, Directory, DirectoryError, Once, Outcome, Thing, UpdateParams, missing, readable,
};
use crate::records::{
    Addon, Cluster, ClusterUpdate, LatestUpdate, PodIdentityAssociation, RecordKey,
    check_addon_name, check_eks_tags, check_namespace, check_service_account,
};
use crate::snapshot::{AddonEntry, ClusterEntry};
use crate::{DirectorySnapshot, Transaction};

/// An add-on to make. Its values are checked by whoever makes it.
#[derive(Debug, Clone)]
pub struct NewAddon {
    /// The name.
    pub name: Box<str>,
    /// The version.
    pub version: Box<str>,
    /// `serviceAccountRoleArn`
    pub service_account_role_arn: Option<Box<str>>,
    /// `configurationValues`
    pub configuration_values: Option<Box<str>>,
    /// The namespace, when one was given.
    pub namespace: Option<Box<str>>,
    /// Pod identity associations that it makes and owns.
    pub associations: Vec<AddonAssociation>,
    /// Tags.
    pub tags: Vec<Tag>,
}

/// A pod identity association of an add-on. A list has a service account once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddonAssociation {
    /// The namespace of the add-on.
    pub namespace: Box<str>,
    /// The service account.
    pub service_account: Box<str>,
    /// ARN of the role.
    pub role_arn: Box<str>,
}

/// What changes of an add-on; `None` is kept.
#[derive(Debug, Clone, Default)]
pub struct AddonChange {
    /// The version.
    pub version: Option<Box<str>>,
    /// `serviceAccountRoleArn`
    pub service_account_role_arn: Option<Box<str>>,
    /// `configurationValues`
    pub configuration_values: Option<Box<str>>,
    /// All its pod identity associations: those that are not among them are deleted.
    pub associations: Option<Vec<AddonAssociation>>,
    /// What the update says of the change, as it was asked for.
    pub params: UpdateParams,
}

impl ClusterPlace<'_> {
    /// The cluster and its add-on of this name, also while that is being deleted.
    ///
    /// # Errors
    /// When the cluster is not there or is being deleted, or has no such add-on at `now`.
    pub fn addon<'s>(
        &self,
        snapshot: &'s DirectorySnapshot,
        name: &str,
        now: Timestamp,
    ) -> Result<(&'s Arc<ClusterEntry>, &'s Arc<AddonEntry>), DirectoryError> {
        let (_, cluster) = self.open(snapshot, now)?;
        let addon = snapshot
            .addon(&cluster.record.id, name)
            .filter(|addon| addon.record.status(now).is_some())
            .ok_or_else(|| {
                let error = DirectoryError::NoSuch {
                    what: Thing::Addon,
                    name: name.into(),
                };
                missing(snapshot, addon_key(&cluster.record, name), error)
            })?;
        Ok((cluster, addon))
    }

    /// The same, with nothing under way that a change would have to wait for.
    fn idle_addon<'s>(
        &self,
        snapshot: &'s DirectorySnapshot,
        name: &str,
        now: Timestamp,
    ) -> Result<(&'s Arc<ClusterEntry>, &'s Arc<AddonEntry>), DirectoryError> {
        let (cluster, addon) = self.addon(snapshot, name, now)?;
        let record = &addon.record;
        let update = record.running_update(now);
        let is_new = record.settles.is_some_and(|settles| now < settles);
        if record.deleting.is_some() || is_new || update.is_some() {
            return Err(DirectoryError::AddonBusy {
                addon: name.into(),
                update: update.map(|update| update.id.clone()),
            });
        }
        Ok((cluster, addon))
    }
}

impl Directory {
    /// Makes an add-on.
    ///
    /// # Errors
    /// When the cluster is not there, or has the add-on; see [`DirectoryError`].
    pub async fn create_addon(
        &self,
        place: ClusterPlace<'_>,
        new: NewAddon,
        settling: SignedDuration,
        once: Option<&Once<'_, Addon>>,
        now: Timestamp,
    ) -> Result<Outcome<Addon>, DirectoryError> {
        check_addon_name(&new.name)?;
        check_eks_tags(&new.tags)?;
        let uuid = self.new_uuid()?;
        let ids = self.association_ids(&new.associations)?;
        self.write_once(once, now, |snapshot| {
            let (cluster_key, cluster) = place.open(snapshot, now)?;
            let key = readable(snapshot, addon_key(&cluster.record, &new.name))?;
            let transaction = Transaction::new().if_unchanged(&cluster_key, cluster.modified);
            let transaction = match snapshot.addon(&cluster.record.id, &new.name) {
                None => transaction.if_absent(&key),
                // It is gone and not swept yet.
                Some(over) if over.record.status(now).is_none() => {
                    transaction.if_unchanged(&key, over.modified)
                }
                Some(_) => return Err(DirectoryError::exists(Thing::Addon, &new.name)),
            };
            let addon = Addon {
                account: place.account,
                cluster_id: cluster.record.id.clone(),
                name: new.name.clone(),
                uuid: uuid.clone(),
                version: new.version.clone(),
                service_account_role_arn: new.service_account_role_arn.clone(),
                configuration_values: new.configuration_values.clone(),
                namespace: new.namespace.clone(),
                tags: new.tags.clone(),
                created: now,
                modified: now,
                settles: after(now, settling),
                update: None,
                deleting: None,
            };
            let owner: Box<str> = addon.arn(&cluster.record).into();
            let mut transaction = transaction.put(&key, addon.encode());
            for (new, id) in new.associations.iter().zip(&ids) {
                let made = association(&cluster.record, new, id, &owner, now);
                transaction = self.with_association(snapshot, transaction, &made)?;
            }
            Ok((transaction, addon))
        })
        .await
    }

    /// Changes an add-on, with an update of its own: that of the cluster may go on meanwhile.
    ///
    /// # Errors
    /// When it is not there, or something is under way with it; see [`DirectoryError`].
    pub async fn update_addon(
        &self,
        place: ClusterPlace<'_>,
        name: &str,
        change: &AddonChange,
        settling: SignedDuration,
        once: Option<&Once<'_, ClusterUpdate>>,
        now: Timestamp,
    ) -> Result<Outcome<ClusterUpdate>, DirectoryError> {
        let id = self.new_uuid()?;
        let asked = change.associations.as_deref();
        let ids = self.association_ids(asked.unwrap_or_default())?;
        self.write_once(once, now, |snapshot| {
            let (cluster, known) = place.idle_addon(snapshot, name, now)?;
            let (cluster_key, _) = place.open(snapshot, now)?;
            let key = addon_key(&cluster.record, name).to_key()?;
            let update = ClusterUpdate {
                addon: Some(name.into()),
                kind: "AddonUpdate".into(),
                params: change.params.clone(),
                ..new_update(&cluster.record, &id, settling, now)
            };
            let mut addon = known.record.clone();
            if let Some(version) = &change.version {
                addon.version.clone_from(version);
            }
            if change.service_account_role_arn.is_some() {
                addon
                    .service_account_role_arn
                    .clone_from(&change.service_account_role_arn);
            }
            if change.configuration_values.is_some() {
                addon
                    .configuration_values
                    .clone_from(&change.configuration_values);
            }
            addon.modified = now;
            addon.update = Some(LatestUpdate {
                id: update.id.clone(),
                settles: update.settles,
            });
            let transaction = Transaction::new()
                .if_unchanged(&cluster_key, cluster.modified)
                .if_unchanged(&key, known.modified)
                .put(&key, addon.encode());
            let transaction = match asked {
                Some(asked) => self.with_associations(
                    snapshot,
                    transaction,
                    &cluster.record,
                    &addon.arn(&cluster.record),
                    (asked, &ids),
                    now,
                )?,
                None => transaction,
            };
            let transaction = self.with_update(snapshot, transaction, &cluster.record, &update)?;
            Ok((transaction, update))
        })
        .await
    }

    /// Deletes an add-on, and the pod identity associations that it owns. It is `DELETING` for as long as `settling` says.
    ///
    /// # Errors
    /// When it is not there, or something is under way with it; see [`DirectoryError`].
    pub async fn delete_addon(
        &self,
        place: ClusterPlace<'_>,
        name: &str,
        settling: SignedDuration,
        now: Timestamp,
    ) -> Result<Addon, DirectoryError> {
        self.write(|snapshot| {
            let (cluster, known) = place.idle_addon(snapshot, name, now)?;
            let key = addon_key(&cluster.record, name).to_key()?;
            let transaction = Transaction::new().if_unchanged(&key, known.modified);
            let mut addon = known.record.clone();
            let gone = after(now, settling);
            addon.deleting = Some(gone.unwrap_or(now));
            let transaction = match gone {
                Some(_) => transaction.put(&key, addon.encode()),
                None => transaction.delete(&key),
            };
            let owner = addon.arn(&cluster.record);
            let transaction = snapshot
                .pod_identity_associations_of(&cluster.record.id, &owner)
                .try_fold(transaction, |transaction, owned| {
                    let key = association_key(&owned.record)?;
                    Ok::<_, DirectoryError>(
                        transaction.if_unchanged(&key, owned.modified).delete(&key),
                    )
                })?;
            Ok((transaction, addon))
        })
        .await
    }

    fn association_ids(
        &self,
        associations: &[AddonAssociation],
    ) -> Result<Vec<Box<str>>, DirectoryError> {
        associations
            .iter()
            .map(|new| {
                check_namespace(&new.namespace)?;
                check_service_account(&new.service_account)?;
                self.new_association_id()
            })
            .collect()
    }

    /// Makes an association in a cluster that stays as it is.
    fn with_association(
        &self,
        snapshot: &DirectorySnapshot,
        transaction: Transaction,
        made: &PodIdentityAssociation,
    ) -> Result<Transaction, DirectoryError> {
        let cluster_id = &made.cluster_id;
        if let Some(known) =
            snapshot.pod_identity_association(cluster_id, &made.namespace, &made.service_account)
        {
            return Err(DirectoryError::exists(
                Thing::PodIdentityAssociation,
                &known.record.id,
            ));
        }
        let limit = self.0.quotas.pod_identity_associations_per_cluster;
        if snapshot.pod_identity_association_count(cluster_id) >= limit {
            return Err(DirectoryError::QuotaExceeded {
                quota: "PodIdentityAssociationsPerCluster",
                limit,
            });
        }
        let key = readable(snapshot, made.key())?;
        Ok(transaction.if_absent(&key).put(&key, made.encode()))
    }

    /// Makes the associations of an add-on those that were asked for.
    fn with_associations(
        &self,
        snapshot: &DirectorySnapshot,
        mut transaction: Transaction,
        cluster: &Cluster,
        owner: &str,
        (asked, ids): (&[AddonAssociation], &[Box<str>]),
        now: Timestamp,
    ) -> Result<Transaction, DirectoryError> {
        for owned in snapshot.pod_identity_associations_of(&cluster.id, owner) {
            let record = &owned.record;
            let key = association_key(record)?;
            let wanted = asked.iter().find(|asked| asked.is(record));
            transaction = match wanted {
                Some(wanted) if wanted.role_arn == record.role_arn => transaction,
                Some(wanted) => {
                    let changed = PodIdentityAssociation {
                        role_arn: wanted.role_arn.clone(),
                        modified: now,
                        ..record.clone()
                    };
                    transaction
                        .if_unchanged(&key, owned.modified)
                        .put(&key, changed.encode())
                }
                None => transaction.if_unchanged(&key, owned.modified).delete(&key),
            };
        }
        for (new, id) in asked.iter().zip(ids) {
            let is_there = snapshot
                .pod_identity_associations_of(&cluster.id, owner)
                .any(|owned| new.is(&owned.record));
            if !is_there {
                let made = association(cluster, new, id, owner, now);
                transaction = self.with_association(snapshot, transaction, &made)?;
            }
        }
        Ok(transaction)
    }
}

impl AddonAssociation {
    /// Whether it is for the service account of this association.
    fn is(&self, record: &PodIdentityAssociation) -> bool {
        self.namespace == record.namespace && self.service_account == record.service_account
    }
}

fn association(
    cluster: &Cluster,
    new: &AddonAssociation,
    id: &str,
    owner: &str,
    now: Timestamp,
) -> PodIdentityAssociation {
    PodIdentityAssociation {
        account: cluster.account,
        cluster_id: cluster.id.clone(),
        id: id.into(),
        namespace: new.namespace.clone(),
        service_account: new.service_account.clone(),
        role_arn: new.role_arn.clone(),
        target_role_arn: None,
        disable_session_tags: None,
        policy: None,
        owner_arn: Some(owner.into()),
        sessions: PodSessions::default(),
        tags: Vec::new(),
        created: now,
        modified: now,
    }
}

/// The key of an add-on.
pub(super) const fn addon_key<'a>(cluster: &'a Cluster, name: &'a str) -> RecordKey<'a> {
    RecordKey::Addon {
        account: cluster.account,
        cluster_id: &cluster.id,
        name,
    }
}

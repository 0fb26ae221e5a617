//! Clusters (EKS API spec, sections 3 and 4).

use std::sync::Arc;

use countersign_access::{AccessScope, EntryType};
use countersign_arn::{AccountId, Tag};
use jiff::{SignedDuration, Timestamp};

use super::{Directory, DirectoryError, Once, Outcome, missing, readable};
use crate::records::{
    AccessEntry, AuthenticationMode, Cluster, ClusterSettings, Creator, EntryPrincipal,
    PolicyAssociation, RecordKey, check_cluster_name, check_eks_tags, check_region,
};
use crate::snapshot::ClusterEntry;
use crate::{DirectorySnapshot, Key, Transaction};

/// The access policy that a creator gets.
const CREATOR_POLICY: &str = "AmazonEKSClusterAdminPolicy";

/// Which cluster is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterPlace<'a> {
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: &'a str,
    /// The name, with case.
    pub name: &'a str,
}

impl ClusterPlace<'_> {
    /// The cluster, also while it is being deleted.
    ///
    /// # Errors
    /// When it is not there, or not any more at `now`.
    pub fn find<'s>(
        &self,
        snapshot: &'s DirectorySnapshot,
        now: Timestamp,
    ) -> Result<&'s Arc<ClusterEntry>, DirectoryError> {
        snapshot
            .cluster(self.account, self.region, self.name)
            .filter(|cluster| cluster.record.status(now).is_some())
            .ok_or_else(|| {
                let error = DirectoryError::NoSuchCluster(self.name.into());
                missing(snapshot, self.key(), error)
            })
    }

    /// The cluster with its key, for a write.
    ///
    /// # Errors
    /// When it is not there, or is being deleted.
    pub(super) fn open<'s>(
        &self,
        snapshot: &'s DirectorySnapshot,
        now: Timestamp,
    ) -> Result<(Key, &'s Arc<ClusterEntry>), DirectoryError> {
        let cluster = self.find(snapshot, now)?;
        if cluster.record.deleting.is_some() {
            return Err(DirectoryError::ClusterDeleting(self.name.into()));
        }
        Ok((self.key().to_key()?, cluster))
    }

    const fn key(&self) -> RecordKey<'_> {
        RecordKey::Cluster {
            account: self.account,
            region: self.region,
            name: self.name,
        }
    }
}

/// A cluster to register.
#[derive(Debug, Clone)]
pub struct NewCluster {
    /// The account it belongs to.
    pub account: AccountId,
    /// The region it belongs to.
    pub region: Box<str>,
    /// The name, unique in account and region.
    pub name: Box<str>,
    /// Where identities come from.
    pub authentication_mode: AuthenticationMode,
    /// Whether the creator is made administrator; must be so in mode `CONFIG_MAP`.
    pub bootstrap_creator_admin: bool,
    /// Who creates it.
    pub creator: Creator,
    /// URL of the Kubernetes API, if known.
    pub endpoint: Option<Box<str>>,
    /// CA certificates of the Kubernetes API as PEM, if known.
    pub certificate_authority: Option<Box<str>>,
    /// ARN of the IAM role of the control plane.
    pub role_arn: Option<Box<str>>,
    /// Kubernetes version as `1.NN`.
    pub version: Option<Box<str>>,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Whether DeleteCluster is refused.
    pub deletion_protection: bool,
    /// Everything else that DescribeCluster tells again.
    pub settings: ClusterSettings,
    /// How long it is `CREATING`; zero for not at all.
    pub settling: SignedDuration,
}

impl NewCluster {
    /// A cluster of the API's defaults: mode `CONFIG_MAP`, its creator administrator, nothing else said.
    #[must_use]
    pub fn new(account: AccountId, region: &str, name: &str, creator: Creator) -> Self {
        Self {
            account,
            region: region.into(),
            name: name.into(),
            authentication_mode: AuthenticationMode::ConfigMap,
            bootstrap_creator_admin: true,
            creator,
            endpoint: None,
            certificate_authority: None,
            role_arn: None,
            version: None,
            tags: Vec::new(),
            deletion_protection: false,
            settings: ClusterSettings::default(),
            settling: SignedDuration::ZERO,
        }
    }

    fn place(&self) -> ClusterPlace<'_> {
        ClusterPlace {
            account: self.account,
            region: &self.region,
            name: &self.name,
        }
    }
}

impl Directory {
    /// Registers a cluster, with a new id. In a mode with access entries, a creator that is to be administrator gets the
    /// entry for it in the same transaction.
    ///
    /// # Errors
    /// When the account is not there, or has a cluster of this name in the region; see [`DirectoryError`].
    pub async fn create_cluster(
        &self,
        new: NewCluster,
        now: Timestamp,
    ) -> Result<Cluster, DirectoryError> {
        let ids = self.checked_cluster(&new)?;
        self.write(|snapshot| self.plan_cluster(snapshot, &new, &ids, now))
            .await
    }

    /// As [`create_cluster`](Self::create_cluster), once for a request token.
    ///
    /// # Errors
    /// Also [`DirectoryError::TokenReused`].
    pub async fn create_cluster_once(
        &self,
        new: NewCluster,
        once: Option<&Once<'_, Cluster>>,
        now: Timestamp,
    ) -> Result<Outcome<Cluster>, DirectoryError> {
        let ids = self.checked_cluster(&new)?;
        self.write_once(once, now, |snapshot| {
            self.plan_cluster(snapshot, &new, &ids, now)
        })
        .await
    }

    fn checked_cluster(&self, new: &NewCluster) -> Result<Ids, DirectoryError> {
        check_cluster_name(&new.name)?;
        check_region(&new.region)?;
        check_eks_tags(&new.tags)?;
        if new.authentication_mode == AuthenticationMode::ConfigMap && !new.bootstrap_creator_admin
        {
            return Err(DirectoryError::CreatorMustBeAdmin);
        }
        let cluster = self
            .0
            .random
            .bytes::<16>()?
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        Ok(Ids {
            cluster,
            entry: self.new_uuid()?,
        })
    }

    fn plan_cluster(
        &self,
        snapshot: &DirectorySnapshot,
        new: &NewCluster,
        ids: &Ids,
        now: Timestamp,
    ) -> Result<(Transaction, Cluster), DirectoryError> {
        let account_key = readable(snapshot, RecordKey::Account(new.account))?;
        let account = snapshot
            .account(new.account)
            .ok_or(DirectoryError::NoSuchAccount(new.account))?;
        let key = readable(snapshot, new.place().key())?;
        let transaction = Transaction::new().if_unchanged(&account_key, account.modified);
        let transaction = match snapshot.cluster(new.account, &new.region, &new.name) {
            None => transaction.if_absent(&key),
            // It is gone and not swept yet; the new one takes its place.
            Some(old) if old.record.status(now).is_none() => {
                transaction.if_unchanged(&key, old.modified)
            }
            Some(_) => return Err(DirectoryError::ClusterExists(new.name.clone())),
        };
        let limit = self.0.quotas.clusters_per_region;
        let neighbours = snapshot.clusters().filter(|cluster| {
            cluster.record.account == new.account
                && cluster.record.region == new.region
                && cluster.record.status(now).is_some()
        });
        if neighbours.count() >= limit {
            return Err(DirectoryError::QuotaExceeded {
                quota: "ClustersPerRegion",
                limit,
            });
        }
        let cluster = Cluster {
            account: new.account,
            partition: account.record.partition,
            region: new.region.clone(),
            name: new.name.clone(),
            id: ids.cluster.as_str().into(),
            authentication_mode: new.authentication_mode,
            bootstrap_creator_admin: new.bootstrap_creator_admin,
            creator: new.creator.clone(),
            endpoint: new.endpoint.clone(),
            certificate_authority: new.certificate_authority.clone(),
            role_arn: new.role_arn.clone(),
            version: new.version.clone(),
            tags: new.tags.clone(),
            deletion_protection: new.deletion_protection,
            settings: new.settings.clone(),
            created: now,
            settles: after(now, new.settling),
            update: None,
            deleting: None,
        };
        let mut transaction = transaction.put(&key, cluster.encode());
        if cluster.bootstrap_creator_admin
            && cluster.authentication_mode != AuthenticationMode::ConfigMap
        {
            transaction = with_creator(snapshot, transaction, &cluster, &ids.entry, now)?;
        }
        Ok((transaction, cluster))
    }

    /// Says where the cluster's Kubernetes API is; `None` leaves what is known.
    ///
    /// # Errors
    /// When the cluster is not there, or is being deleted; see [`DirectoryError`].
    pub async fn set_cluster_endpoint(
        &self,
        account: AccountId,
        region: &str,
        name: &str,
        endpoint: Option<&str>,
        certificate_authority: Option<&str>,
    ) -> Result<Cluster, DirectoryError> {
        let place = ClusterPlace {
            account,
            region,
            name,
        };
        self.write(|snapshot| {
            let (key, entry) = place.open(snapshot, Timestamp::MIN)?;
            let mut cluster = entry.record.clone();
            if let Some(endpoint) = endpoint {
                cluster.endpoint = Some(endpoint.into());
            }
            if let Some(pem) = certificate_authority {
                cluster.certificate_authority = Some(pem.into());
            }
            let transaction = Transaction::new()
                .if_unchanged(&key, entry.modified)
                .put(&key, cluster.encode());
            Ok((transaction, cluster))
        })
        .await
    }

    /// Deletes a cluster. It is `DELETING` for as long as `settling` says; nobody gets in from now on. What hung on it is not
    /// seen any more, and removed by [`sweep_clusters`](Self::sweep_clusters).
    ///
    /// # Errors
    /// When it is not there, is being deleted already, or is protected; see [`DirectoryError`].
    pub async fn delete_cluster(
        &self,
        place: ClusterPlace<'_>,
        settling: SignedDuration,
        now: Timestamp,
    ) -> Result<Cluster, DirectoryError> {
        self.write(|snapshot| {
            let (key, entry) = place.open(snapshot, now)?;
            if entry.record.deletion_protection {
                return Err(DirectoryError::DeletionProtected(place.name.into()));
            }
            let mut cluster = entry.record.clone();
            let transaction = Transaction::new().if_unchanged(&key, entry.modified);
            let gone = after(now, settling);
            cluster.deleting = Some(gone.unwrap_or(now));
            let transaction = match gone {
                Some(_) => transaction.put(&key, cluster.encode()),
                None => transaction.delete(&key),
            };
            Ok((transaction, cluster))
        })
        .await
    }
}

struct Ids {
    cluster: String,
    entry: Box<str>,
}

/// When what takes `settling` is over; `None` for at once.
pub(super) fn after(now: Timestamp, settling: SignedDuration) -> Option<Timestamp> {
    settling
        .is_positive()
        .then(|| now.saturating_add(settling).unwrap_or(Timestamp::MAX))
}

/// Adds the entry that makes the creator of a cluster its administrator, unless the creator has an entry.
pub(super) fn with_creator(
    snapshot: &DirectorySnapshot,
    transaction: Transaction,
    cluster: &Cluster,
    uuid: &str,
    now: Timestamp,
) -> Result<Transaction, DirectoryError> {
    let Creator {
        principal_arn,
        principal_id,
    } = &cluster.creator;
    let principal = EntryPrincipal::parse(principal_arn)?;
    let EntryPrincipal {
        kind,
        account,
        name,
    } = principal;
    let known = snapshot
        .access_entry_named(&cluster.id, account, kind, name)
        .or_else(|| snapshot.access_entry_of_principal(&cluster.id, principal_id));
    if known.is_some() {
        return Ok(transaction);
    }
    let key = readable(
        snapshot,
        RecordKey::AccessEntry {
            account: cluster.account,
            cluster_id: &cluster.id,
            principal: &principal.key(),
        },
    )?;
    let policy_arn = format!(
        "arn:{}:eks::aws:cluster-access-policy/{CREATOR_POLICY}",
        cluster.partition
    );
    let entry = AccessEntry {
        account: cluster.account,
        cluster_id: cluster.id.clone(),
        uuid: uuid.into(),
        principal_arn: principal_arn.clone(),
        principal_id: Some(principal_id.clone()),
        entry_type: EntryType::Standard,
        groups: Vec::new(),
        username: None,
        tags: Vec::new(),
        associations: vec![PolicyAssociation {
            policy_arn: policy_arn.into(),
            scope: AccessScope::Cluster,
            associated: now,
            modified: now,
        }],
        created: now,
        modified: now,
    };
    Ok(transaction.if_absent(&key).put(&key, entry.encode()))
}

//! Clusters.

use countersign_arn::AccountId;
use jiff::Timestamp;

use super::{Directory, DirectoryError, missing, readable};
use crate::records::{
    AuthenticationMode, Cluster, Creator, RecordKey, check_cluster_name, check_region,
};
use crate::snapshot::ClusterEntry;
use crate::{DirectorySnapshot, Key, Transaction};

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
}

impl Directory {
    /// Registers a cluster, with a new id.
    ///
    /// # Errors
    /// When the account is not there, or has a cluster of this name in the region; see [`DirectoryError`].
    pub async fn create_cluster(
        &self,
        new: NewCluster,
        now: Timestamp,
    ) -> Result<Cluster, DirectoryError> {
        check_cluster_name(&new.name)?;
        check_region(&new.region)?;
        if new.authentication_mode == AuthenticationMode::ConfigMap && !new.bootstrap_creator_admin
        {
            return Err(DirectoryError::CreatorMustBeAdmin);
        }
        let id: String = self
            .0
            .random
            .bytes::<16>()?
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let limit = self.0.quotas.clusters_per_region;
        self.write(|snapshot| {
            let account_key = readable(snapshot, RecordKey::Account(new.account))?;
            let account = snapshot
                .account(new.account)
                .ok_or(DirectoryError::NoSuchAccount(new.account))?;
            let key = readable(
                snapshot,
                RecordKey::Cluster {
                    account: new.account,
                    region: &new.region,
                    name: &new.name,
                },
            )?;
            if snapshot
                .cluster(new.account, &new.region, &new.name)
                .is_some()
            {
                return Err(DirectoryError::ClusterExists(new.name.clone()));
            }
            let neighbours = snapshot.clusters().filter(|cluster| {
                cluster.record.account == new.account && cluster.record.region == new.region
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
                id: id.as_str().into(),
                authentication_mode: new.authentication_mode,
                bootstrap_creator_admin: new.bootstrap_creator_admin,
                creator: new.creator.clone(),
                endpoint: new.endpoint.clone(),
                certificate_authority: new.certificate_authority.clone(),
                created: now,
            };
            let transaction = Transaction::new()
                .if_unchanged(&account_key, account.modified)
                .if_absent(&key)
                .put(&key, cluster.encode());
            Ok((transaction, cluster))
        })
        .await
    }

    /// Moves a cluster to the next authentication mode: one step forward, never back.
    ///
    /// # Errors
    /// When it is not there, or EKS knows no such change; see [`DirectoryError`].
    pub async fn set_authentication_mode(
        &self,
        account: AccountId,
        region: &str,
        name: &str,
        mode: AuthenticationMode,
    ) -> Result<Cluster, DirectoryError> {
        self.change_cluster(account, region, name, |cluster| {
            let from = cluster.authentication_mode;
            if !from.may_become(mode) {
                return Err(DirectoryError::UnsupportedModeChange { from, to: mode });
            }
            cluster.authentication_mode = mode;
            Ok(())
        })
        .await
    }

    /// Says where the cluster's Kubernetes API is; `None` leaves what is known.
    ///
    /// # Errors
    /// When the cluster is not there; see [`DirectoryError`].
    pub async fn set_cluster_endpoint(
        &self,
        account: AccountId,
        region: &str,
        name: &str,
        endpoint: Option<&str>,
        certificate_authority: Option<&str>,
    ) -> Result<Cluster, DirectoryError> {
        self.change_cluster(account, region, name, |cluster| {
            if let Some(endpoint) = endpoint {
                cluster.endpoint = Some(endpoint.into());
            }
            if let Some(pem) = certificate_authority {
                cluster.certificate_authority = Some(pem.into());
            }
            Ok(())
        })
        .await
    }

    /// Forgets a cluster.
    ///
    /// # Errors
    /// When it is not there; see [`DirectoryError`].
    pub async fn delete_cluster(
        &self,
        account: AccountId,
        region: &str,
        name: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, cluster) = find_cluster(snapshot, account, region, name)?;
            Ok((
                Transaction::new()
                    .if_unchanged(&key, cluster.modified)
                    .delete(&key),
                (),
            ))
        })
        .await
    }

    async fn change_cluster(
        &self,
        account: AccountId,
        region: &str,
        name: &str,
        change: impl Fn(&mut Cluster) -> Result<(), DirectoryError>,
    ) -> Result<Cluster, DirectoryError> {
        self.write(|snapshot| {
            let (key, entry) = find_cluster(snapshot, account, region, name)?;
            let mut cluster = entry.record.clone();
            change(&mut cluster)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, entry.modified)
                .put(&key, cluster.encode());
            Ok((transaction, cluster))
        })
        .await
    }
}

fn find_cluster<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    region: &str,
    name: &str,
) -> Result<(Key, &'s ClusterEntry), DirectoryError> {
    let key = RecordKey::Cluster {
        account,
        region,
        name,
    };
    let Some(cluster) = snapshot.cluster(account, region, name) else {
        return Err(missing(
            snapshot,
            key,
            DirectoryError::NoSuchCluster(name.into()),
        ));
    };
    Ok((key.to_key()?, cluster))
}

//! Identity provider configs and add-ons of clusters.

use std::sync::Arc;

use countersign_arn::AccountId;

use super::clusters::ClusterSlot;
use super::{
    AddonEntry, DirectorySnapshot, IdentityProviderConfigEntry, PodIdentityAssociationEntry, behind,
};
use crate::records::{Addon, IdentityProviderConfig, RecordKey};
use crate::{InvalidKey, Key, Revision};

impl ClusterSlot {
    /// The keys of what is here, with the accounts of their clusters.
    pub(super) fn config_keys(
        &self,
    ) -> impl Iterator<Item = (AccountId, Result<Key, InvalidKey>, Revision)> {
        let configs = self.provider_configs.values().map(|entry| {
            let IdentityProviderConfig {
                account,
                cluster_id,
                name,
                ..
            } = &entry.record;
            let key = RecordKey::IdentityProviderConfig {
                account: *account,
                cluster_id,
                name,
            };
            (*account, key.to_key(), entry.modified)
        });
        let addons = self.addons.values().map(|entry| {
            let Addon {
                account,
                cluster_id,
                name,
                ..
            } = &entry.record;
            let key = RecordKey::Addon {
                account: *account,
                cluster_id,
                name,
            };
            (*account, key.to_key(), entry.modified)
        });
        configs.chain(addons)
    }
}

impl DirectorySnapshot {
    /// The identity provider config of this name. As all lookups of what hangs on a cluster, it finds nothing in one that is
    /// not there or is being deleted; a config that is over and not swept yet is found. O(log n).
    #[must_use]
    pub fn identity_provider_config(
        &self,
        cluster_id: &str,
        name: &str,
    ) -> Option<&Arc<IdentityProviderConfigEntry>> {
        self.open_slot(cluster_id)?.provider_configs.get(name)
    }

    /// The config that takes the tokens of this issuer: the one that is not being deleted. O(configs of the cluster), no
    /// allocation.
    #[must_use]
    pub fn identity_provider_config_of_issuer(
        &self,
        cluster_id: &str,
        issuer_url: &str,
    ) -> Option<&Arc<IdentityProviderConfigEntry>> {
        self.open_slot(cluster_id)?
            .provider_configs
            .values()
            .find(|entry| {
                entry.record.deleting.is_none() && *entry.record.issuer_url == *issuer_url
            })
    }

    /// All configs of a cluster in byte order of their names, behind `after` if given.
    pub fn identity_provider_configs(
        &self,
        cluster_id: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Arc<IdentityProviderConfigEntry>> {
        self.open_slot(cluster_id)
            .into_iter()
            .flat_map(move |slot| behind(&slot.provider_configs, after.map(str::to_owned)))
    }

    /// The add-on of this name, also one that is over and not swept yet. O(log n).
    #[must_use]
    pub fn addon(&self, cluster_id: &str, name: &str) -> Option<&Arc<AddonEntry>> {
        self.open_slot(cluster_id)?.addons.get(name)
    }

    /// All add-ons of a cluster in byte order of their names, behind `after` if given.
    pub fn addons(
        &self,
        cluster_id: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Arc<AddonEntry>> {
        self.open_slot(cluster_id)
            .into_iter()
            .flat_map(move |slot| behind(&slot.addons, after.map(str::to_owned)))
    }

    /// The pod identity associations that belong to the add-on with this ARN. O(associations of the cluster).
    pub fn pod_identity_associations_of(
        &self,
        cluster_id: &str,
        owner_arn: &str,
    ) -> impl Iterator<Item = &Arc<PodIdentityAssociationEntry>> {
        self.pod_identity_associations(cluster_id, None)
            .filter(move |entry| entry.record.owner_arn.as_deref() == Some(owner_arn))
    }

    pub(super) fn add_provider_config(
        &mut self,
        record: IdentityProviderConfig,
        modified: Revision,
    ) {
        let (cluster_id, name) = (record.cluster_id.clone(), Arc::from(&*record.name));
        let entry = Arc::new(IdentityProviderConfigEntry { record, modified });
        self.change_cluster_slot(&cluster_id, |slot| {
            slot.provider_configs.insert(name, entry);
        });
    }

    pub(super) fn add_addon(&mut self, record: Addon, modified: Revision) {
        let (cluster_id, name) = (record.cluster_id.clone(), Arc::from(&*record.name));
        let entry = Arc::new(AddonEntry { record, modified });
        self.change_cluster_slot(&cluster_id, |slot| {
            slot.addons.insert(name, entry);
        });
    }
}

//! OIDC identity provider configs of clusters (EKS API spec, section 12).

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_arn::Tag;
use jiff::{SignedDuration, Timestamp};

use super::clusters::after;
use super::updates::new_update;
use super::{ClusterPlace, Directory, DirectoryError, Once, Outcome, Thing, missing, readable};
use crate::records::{
    Cluster, ClusterUpdate, IdentityProviderConfig, RecordKey, check_config_name, check_eks_tags,
};
use crate::snapshot::{ClusterEntry, IdentityProviderConfigEntry};
use crate::{DirectorySnapshot, Key};

/// An identity provider config to make. Its values are checked by whoever makes it.
#[derive(Debug, Clone)]
pub struct NewIdentityProviderConfig {
    /// The name, unique in the cluster.
    pub name: Box<str>,
    /// The issuer, unique in the cluster.
    pub issuer_url: Box<str>,
    /// What tokens must have among their audiences.
    pub client_id: Box<str>,
    /// The claim that is the username; `None` for `sub`.
    pub username_claim: Option<Box<str>>,
    /// What usernames begin with; `-` for nothing, `None` for the default of the claim.
    pub username_prefix: Option<Box<str>>,
    /// The claim that has the groups.
    pub groups_claim: Option<Box<str>>,
    /// What groups begin with.
    pub groups_prefix: Option<Box<str>>,
    /// Claims that must be there and have this value.
    pub required_claims: BTreeMap<Box<str>, Box<str>>,
    /// Tags.
    pub tags: Vec<Tag>,
}

impl ClusterPlace<'_> {
    /// The cluster and its identity provider config of this name, also while that is being deleted.
    ///
    /// # Errors
    /// When the cluster is not there or is being deleted, or has no such config at `now`.
    pub fn identity_provider_config<'s>(
        &self,
        snapshot: &'s DirectorySnapshot,
        name: &str,
        now: Timestamp,
    ) -> Result<(&'s Arc<ClusterEntry>, &'s Arc<IdentityProviderConfigEntry>), DirectoryError> {
        let (_, cluster) = self.open(snapshot, now)?;
        let cluster_id = &cluster.record.id;
        let config = snapshot
            .identity_provider_config(cluster_id, name)
            .filter(|config| config.record.status(now).is_some())
            .ok_or_else(|| {
                let error = DirectoryError::NoSuch {
                    what: Thing::IdentityProviderConfig,
                    name: name.into(),
                };
                missing(snapshot, config_key(&cluster.record, name), error)
            })?;
        Ok((cluster, config))
    }
}

impl Directory {
    /// Adds an identity provider config: an update of the cluster. It is in force at once, whatever `settling` is.
    ///
    /// # Errors
    /// When the cluster is not there or busy, has a config of this name or for this issuer, or has as many as it may; see
    /// [`DirectoryError`].
    pub async fn associate_identity_provider_config(
        &self,
        place: ClusterPlace<'_>,
        new: NewIdentityProviderConfig,
        settling: SignedDuration,
        once: Option<&Once<'_, ClusterUpdate>>,
        now: Timestamp,
    ) -> Result<Outcome<ClusterUpdate>, DirectoryError> {
        check_config_name(&new.name)?;
        check_eks_tags(&new.tags)?;
        let (id, uuid) = (self.new_uuid()?, self.new_uuid()?);
        let limit = self.0.quotas.identity_provider_configs_per_cluster;
        self.write_once(once, now, |snapshot| {
            let (_, known) = place.open(snapshot, now)?;
            let cluster_id = &known.record.id;
            let key = readable(snapshot, config_key(&known.record, &new.name))?;
            let over = snapshot.identity_provider_config(cluster_id, &new.name);
            let mut names: Vec<&str> = Vec::new();
            for config in snapshot.identity_provider_configs(cluster_id, None) {
                let record = &config.record;
                if record.status(now).is_none() {
                    continue;
                }
                if *record.name == *new.name || *record.issuer_url == *new.issuer_url {
                    return Err(DirectoryError::exists(
                        Thing::IdentityProviderConfig,
                        &record.name,
                    ));
                }
                names.push(&record.name);
            }
            if names.len() >= limit {
                return Err(DirectoryError::QuotaExceeded {
                    quota: "IdentityProviderConfigsPerCluster",
                    limit,
                });
            }
            names.push(&new.name);
            names.sort_unstable();
            let config = IdentityProviderConfig {
                account: place.account,
                cluster_id: cluster_id.clone(),
                name: new.name.clone(),
                uuid: uuid.clone(),
                issuer_url: new.issuer_url.clone(),
                client_id: new.client_id.clone(),
                username_claim: new.username_claim.clone(),
                username_prefix: new.username_prefix.clone(),
                groups_claim: new.groups_claim.clone(),
                groups_prefix: new.groups_prefix.clone(),
                required_claims: new.required_claims.clone(),
                tags: new.tags.clone(),
                created: now,
                settles: after(now, settling),
                deleting: None,
            };
            let mut cluster = known.record.clone();
            let update = ClusterUpdate {
                kind: "AssociateIdentityProviderConfig".into(),
                params: vec![list_param(&names)],
                ..new_update(&cluster, &id, settling, now)
            };
            let transaction = self.plan_update(snapshot, place, known, &mut cluster, &update)?;
            // One that is over and not swept yet gives way.
            let transaction = match over {
                Some(over) => transaction.if_unchanged(&key, over.modified),
                None => transaction.if_absent(&key),
            };
            Ok((transaction.put(&key, config.encode()), update))
        })
        .await
    }

    /// Removes an identity provider config: an update of the cluster. Its tokens let nobody in from now on; it is
    /// `DELETING` for as long as `settling` says.
    ///
    /// # Errors
    /// When the cluster is not there or busy, or has no such config; see [`DirectoryError`].
    pub async fn disassociate_identity_provider_config(
        &self,
        place: ClusterPlace<'_>,
        name: &str,
        settling: SignedDuration,
        once: Option<&Once<'_, ClusterUpdate>>,
        now: Timestamp,
    ) -> Result<Outcome<ClusterUpdate>, DirectoryError> {
        let id = self.new_uuid()?;
        self.write_once(once, now, |snapshot| {
            let (known, config) = place.identity_provider_config(snapshot, name, now)?;
            let cluster_id = &known.record.id;
            let names: Vec<&str> = snapshot
                .identity_provider_configs(cluster_id, None)
                .map(|config| &config.record)
                .filter(|record| record.status(now).is_some() && *record.name != *name)
                .map(|record| &*record.name)
                .collect();
            let mut cluster = known.record.clone();
            let update = ClusterUpdate {
                kind: "DisassociateIdentityProviderConfig".into(),
                params: vec![list_param(&names)],
                ..new_update(&cluster, &id, settling, now)
            };
            let key: Key = config_key(&known.record, name).to_key()?;
            let transaction = self
                .plan_update(snapshot, place, known, &mut cluster, &update)?
                .if_unchanged(&key, config.modified);
            let transaction = match after(now, settling) {
                Some(gone) => {
                    let record = IdentityProviderConfig {
                        deleting: Some(gone),
                        ..config.record.clone()
                    };
                    transaction.put(&key, record.encode())
                }
                None => transaction.delete(&key),
            };
            Ok((transaction, update))
        })
        .await
    }
}

/// The key of a config.
pub(super) const fn config_key<'a>(cluster: &'a Cluster, name: &'a str) -> RecordKey<'a> {
    RecordKey::IdentityProviderConfig {
        account: cluster.account,
        cluster_id: &cluster.id,
        name,
    }
}

/// What an update says of the configs: which there are afterwards.
fn list_param(names: &[&str]) -> (Box<str>, Box<str>) {
    let configs: Vec<serde_json::Value> = names
        .iter()
        .map(|name| serde_json::json!({ "type": "oidc", "name": name }))
        .collect();
    let value = serde_json::Value::from(configs).to_string();
    ("IdentityProviderConfig".into(), value.into())
}

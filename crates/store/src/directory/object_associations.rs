//! Associations that objects of a cluster's Kubernetes API ask for (agent spec, section 9).

use jiff::Timestamp;

use super::pod_identity::{association_key, check_sessions, checked};
use super::vacancy::Vacancy;
use super::{ClusterPlace, Directory, DirectoryError, NewPodIdentityAssociation, Thing};
use crate::Transaction;
use crate::records::{
    InvalidField, PodIdentityAssociation, check_eks_tags, check_namespace, check_service_account,
    owning_object,
};

impl PodIdentityAssociation {
    /// Whether an object of the cluster's Kubernetes API owns it.
    #[must_use]
    pub fn is_of_object(&self) -> bool {
        let owner = self.owner_arn.as_deref();
        owner.and_then(owning_object).is_some()
    }

    /// Whether it says what `new` says.
    #[must_use]
    pub fn says(&self, new: &NewPodIdentityAssociation) -> bool {
        self.replaced_by(new, self.modified) == *self
    }

    /// It, saying what `new` says from now on. It stays the same association, with its id.
    fn replaced_by(&self, new: &NewPodIdentityAssociation, now: Timestamp) -> Self {
        Self {
            role_arn: new.role_arn.clone(),
            target_role_arn: new.target_role_arn.clone(),
            disable_session_tags: new.disable_session_tags,
            policy: new.policy.clone(),
            owner_arn: new.owner_arn.clone(),
            sessions: new.sessions.clone(),
            tags: new.tags.clone(),
            modified: now,
            ..self.clone()
        }
    }
}

impl Directory {
    /// Makes the association that an object asks for, or changes the one of its service account into it if that belongs to an
    /// object, be it another one. What is so already is not written.
    ///
    /// # Errors
    /// When the cluster is not there or is being deleted, when the service account has an association that belongs to no object
    /// ([`DirectoryError::Exists`] with its id), or as [`create_pod_identity_association`](Self::create_pod_identity_association).
    pub async fn put_object_association(
        &self,
        place: ClusterPlace<'_>,
        new: &NewPodIdentityAssociation,
        now: Timestamp,
    ) -> Result<PodIdentityAssociation, DirectoryError> {
        check_namespace(&new.namespace)?;
        check_service_account(&new.service_account)?;
        check_eks_tags(&new.tags)?;
        let owner = new.owner_arn.as_deref().and_then(owning_object);
        if owner.is_none() {
            return Err(InvalidField {
                field: "the owner",
                expected: "an object of the cluster",
            }
            .into());
        }
        let id = self.new_association_id()?;
        let limit = self.0.quotas.pod_identity_associations_per_cluster;
        self.write(|snapshot| {
            let (cluster_key, cluster) = place.open(snapshot, now)?;
            let cluster_id = &cluster.record.id;
            let known = snapshot
                .pod_identity_association(cluster_id, &new.namespace, &new.service_account)
                .filter(|known| {
                    known.record.namespace == new.namespace
                        && known.record.service_account == new.service_account
                });
            if let Some(known) = known {
                if !known.record.is_of_object() {
                    let id = &known.record.id;
                    return Err(DirectoryError::exists(Thing::PodIdentityAssociation, id));
                }
                if known.record.says(new) {
                    return Ok((Transaction::new(), known.record.clone()));
                }
                let association = known.record.replaced_by(new, now);
                check_sessions(&association)?;
                let key = association_key(&association)?;
                let transaction = Transaction::new()
                    .if_unchanged(&cluster_key, cluster.modified)
                    .if_unchanged(&key, known.modified)
                    .put(&key, checked(&association)?);
                return Ok((transaction, association));
            }
            let association = new.record(place.account, cluster_id, &id, now);
            check_sessions(&association)?;
            let vacancy =
                Vacancy::in_cluster(snapshot, (&cluster_key, cluster), association.key())?.within(
                    "PodIdentityAssociationsPerCluster",
                    limit,
                    snapshot.pod_identity_association_count(cluster_id),
                )?;
            Ok((vacancy.fill(checked(&association)?), association))
        })
        .await
    }

    /// Makes the associations of objects ones that belong to nobody: they stay in force, and change through the EKS API from now on.
    /// Returns how many there were.
    ///
    /// # Errors
    /// When the cluster is not there or is being deleted; see [`DirectoryError`].
    pub async fn release_object_associations(
        &self,
        place: ClusterPlace<'_>,
        now: Timestamp,
    ) -> Result<usize, DirectoryError> {
        let owned: Vec<Box<str>> = {
            let snapshot = self.snapshot();
            let cluster = place.find(&snapshot, now)?;
            snapshot
                .pod_identity_associations(&cluster.record.id, None)
                .filter(|known| known.record.is_of_object())
                .map(|known| known.record.id.clone())
                .collect()
        };
        for id in &owned {
            self.write(|snapshot| {
                let (_, known) = match place.pod_identity_association(snapshot, id, now) {
                    // Somebody else released or deleted it meanwhile.
                    Err(DirectoryError::NoSuch { .. }) => return Ok((Transaction::new(), ())),
                    found => found?,
                };
                if !known.record.is_of_object() {
                    return Ok((Transaction::new(), ()));
                }
                let association = PodIdentityAssociation {
                    owner_arn: None,
                    ..known.record.clone()
                };
                let key = association_key(&association)?;
                let transaction = Transaction::new()
                    .if_unchanged(&key, known.modified)
                    .put(&key, checked(&association)?);
                Ok((transaction, ()))
            })
            .await?;
        }
        Ok(owned.len())
    }
}

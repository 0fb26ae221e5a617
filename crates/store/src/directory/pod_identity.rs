//! Pod identity associations (EKS API spec, section 10).

use std::sync::Arc;

use countersign_arn::{AccountId, Tag};
use countersign_session::{PodSessions, PodTag};
use jiff::Timestamp;

use super::vacancy::Vacancy;
use super::{ClusterPlace, Directory, DirectoryError, Once, Outcome, Thing};
use crate::records::{
    InvalidField, PodIdentityAssociation, RecordKey, check_eks_tags, check_namespace_pattern,
    check_service_account_pattern,
};
use crate::snapshot::{ClusterEntry, PodIdentityAssociationEntry};
use crate::transaction::limits;
use crate::{DirectorySnapshot, Key, RandomUnavailable, Transaction, Value};

/// The letters of an association's id.
const ID_LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// How many of them an id has.
const ID_LENGTH: usize = 17;

/// A pod identity association to create. Whether the role is there and trusts the service is checked by whoever makes it.
#[derive(Debug, Clone)]
pub struct NewPodIdentityAssociation {
    /// The Kubernetes namespace, or a pattern.
    pub namespace: Box<str>,
    /// The Kubernetes service account, or a pattern.
    pub service_account: Box<str>,
    /// ARN of the role, in the account of the cluster.
    pub role_arn: Box<str>,
    /// ARN of the role that is assumed with the credentials of the first.
    pub target_role_arn: Option<Box<str>>,
    /// Whether sessions go without the six tags.
    pub disable_session_tags: Option<bool>,
    /// Session policy; only with session tags disabled.
    pub policy: Option<Box<str>>,
    /// ARN of the add-on that makes it.
    pub owner_arn: Option<Box<str>>,
    /// What it says of sessions beyond what EKS knows.
    pub sessions: PodSessions,
    /// Tags.
    pub tags: Vec<Tag>,
}

impl NewPodIdentityAssociation {
    /// The record of it.
    pub(super) fn record(
        &self,
        account: AccountId,
        cluster_id: &str,
        id: &str,
        now: Timestamp,
    ) -> PodIdentityAssociation {
        PodIdentityAssociation {
            account,
            cluster_id: cluster_id.into(),
            id: id.into(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
            role_arn: self.role_arn.clone(),
            target_role_arn: self.target_role_arn.clone(),
            disable_session_tags: self.disable_session_tags,
            policy: self.policy.clone(),
            owner_arn: self.owner_arn.clone(),
            sessions: self.sessions.clone(),
            tags: self.tags.clone(),
            created: now,
            modified: now,
        }
    }
}

/// What changes of a pod identity association; `None` is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodIdentityAssociationChange {
    /// ARN of the role.
    pub role_arn: Option<Box<str>>,
    /// ARN of the target role; an empty one takes it away.
    pub target_role_arn: Option<Box<str>>,
    /// Whether sessions go without the six tags.
    pub disable_session_tags: Option<bool>,
    /// Session policy; an empty one takes it away.
    pub policy: Option<Box<str>>,
    /// What it says of sessions beyond what EKS knows.
    pub sessions: PodSessionsChange,
}

/// What changes of what an association says of sessions; `None` is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSessionsChange {
    /// How sessions are called; an empty text takes it away.
    pub name_template: Option<Box<str>>,
    /// Which of the six tags sessions have; an empty list takes it away, so that they have all.
    pub tags: Option<Vec<PodTag>>,
    /// All extra tags.
    pub extra_tags: Option<Vec<Tag>>,
    /// How long sessions last; 0 takes it away.
    pub duration_seconds: Option<u32>,
}

impl PodSessionsChange {
    fn apply(&self, sessions: &mut PodSessions) {
        if let Some(template) = &self.name_template {
            sessions.name_template = Some(template.clone()).filter(|text| !text.is_empty());
        }
        if let Some(tags) = &self.tags {
            sessions.tags = Some(tags.clone()).filter(|tags| !tags.is_empty());
        }
        if let Some(tags) = &self.extra_tags {
            sessions.extra_tags.clone_from(tags);
        }
        if let Some(seconds) = self.duration_seconds {
            sessions.duration_seconds = Some(seconds).filter(|seconds| *seconds > 0);
        }
    }
}

impl PodIdentityAssociationChange {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What an association becomes by it.
    ///
    /// # Errors
    /// [`DirectoryError::PolicyNeedsTagsDisabled`] when the outcome has a session policy while session tags are on,
    /// [`DirectoryError::PodSessions`] when what it says of sessions does not go together.
    pub fn apply(
        &self,
        association: &PodIdentityAssociation,
    ) -> Result<PodIdentityAssociation, DirectoryError> {
        let mut changed = association.clone();
        let given = |text: &str| (!text.is_empty()).then(|| Box::<str>::from(text));
        if let Some(role) = &self.role_arn {
            changed.role_arn.clone_from(role);
        }
        if let Some(target) = &self.target_role_arn {
            changed.target_role_arn = given(target);
        }
        if self.disable_session_tags.is_some() {
            changed.disable_session_tags = self.disable_session_tags;
        }
        if let Some(policy) = &self.policy {
            changed.policy = given(policy);
        }
        self.sessions.apply(&mut changed.sessions);
        check_sessions(&changed)?;
        Ok(changed)
    }
}

impl ClusterPlace<'_> {
    /// The cluster and its association with this id.
    ///
    /// # Errors
    /// When the cluster is not there or is being deleted, or when there is no such association.
    pub fn pod_identity_association<'s>(
        &self,
        snapshot: &'s DirectorySnapshot,
        id: &str,
        now: Timestamp,
    ) -> Result<(&'s Arc<ClusterEntry>, &'s Arc<PodIdentityAssociationEntry>), DirectoryError> {
        let (_, cluster) = self.open(snapshot, now)?;
        let known = snapshot
            .pod_identity_association_by_id(&cluster.record.id, id)
            .ok_or_else(|| DirectoryError::NoSuch {
                what: Thing::PodIdentityAssociation,
                name: id.into(),
            })?;
        Ok((cluster, known))
    }
}

impl Directory {
    /// Creates a pod identity association, with a new id. The authentication mode of the cluster does not matter.
    ///
    /// # Errors
    /// When the cluster is not there or is being deleted, has an association for the service account
    /// ([`DirectoryError::Exists`] with its id), or has as many as it may; see [`DirectoryError`].
    pub async fn create_pod_identity_association(
        &self,
        place: ClusterPlace<'_>,
        new: NewPodIdentityAssociation,
        once: Option<&Once<'_, PodIdentityAssociation>>,
        now: Timestamp,
    ) -> Result<Outcome<PodIdentityAssociation>, DirectoryError> {
        check_namespace_pattern(&new.namespace)?;
        check_service_account_pattern(&new.service_account)?;
        check_eks_tags(&new.tags)?;
        let id = self.new_association_id()?;
        let limit = self.0.quotas.pod_identity_associations_per_cluster;
        self.write_once(once, now, |snapshot| {
            let (cluster_key, cluster) = place.open(snapshot, now)?;
            let cluster_id = &cluster.record.id;
            let association = new.record(place.account, cluster_id, &id, now);
            check_sessions(&association)?;
            let known =
                snapshot.pod_identity_association(cluster_id, &new.namespace, &new.service_account);
            let key: RecordKey<'_> = association.key();
            let vacancy = Vacancy::in_cluster(snapshot, (&cluster_key, cluster), key)?
                .unless(known.is_some(), || {
                    let id = known.map_or("", |known| &known.record.id);
                    DirectoryError::exists(Thing::PodIdentityAssociation, id)
                })?
                .within(
                    "PodIdentityAssociationsPerCluster",
                    limit,
                    snapshot.pod_identity_association_count(cluster_id),
                )?;
            Ok((vacancy.fill(checked(&association)?), association))
        })
        .await
    }

    /// Changes an association. A change of nothing changes nothing, not even when it was modified.
    ///
    /// `acting` is the ARN of the add-on that asks, `None` for everybody else.
    ///
    /// # Errors
    /// When it is not there, belongs to an add-on that is not the one acting, or would have a session policy while session
    /// tags are on; see [`DirectoryError`].
    pub async fn update_pod_identity_association(
        &self,
        place: ClusterPlace<'_>,
        id: &str,
        change: &PodIdentityAssociationChange,
        acting: Option<&str>,
        once: Option<&Once<'_, PodIdentityAssociation>>,
        now: Timestamp,
    ) -> Result<Outcome<PodIdentityAssociation>, DirectoryError> {
        self.write_once(once, now, |snapshot| {
            let (cluster, known) = place.pod_identity_association(snapshot, id, now)?;
            check_owner(&known.record, acting)?;
            let mut association = change.apply(&known.record)?;
            if association == known.record {
                return Ok((Transaction::new(), association));
            }
            association.modified = now;
            let (cluster_key, _) = place.open(snapshot, now)?;
            let key = association_key(&association)?;
            let transaction = Transaction::new()
                .if_unchanged(&cluster_key, cluster.modified)
                .if_unchanged(&key, known.modified)
                .put(&key, checked(&association)?);
            Ok((transaction, association))
        })
        .await
    }

    /// Deletes an association, and says what it was. Sessions that were issued through it stay until they end.
    ///
    /// `acting` is the ARN of the add-on that asks, `None` for everybody else.
    ///
    /// # Errors
    /// When it is not there, or belongs to an add-on that is not the one acting; see [`DirectoryError`].
    pub async fn delete_pod_identity_association(
        &self,
        place: ClusterPlace<'_>,
        id: &str,
        acting: Option<&str>,
        now: Timestamp,
    ) -> Result<PodIdentityAssociation, DirectoryError> {
        self.write(|snapshot| {
            let (_, known) = place.pod_identity_association(snapshot, id, now)?;
            check_owner(&known.record, acting)?;
            let key = association_key(&known.record)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, known.modified)
                .delete(&key);
            Ok((transaction, known.record.clone()))
        })
        .await
    }

    /// `a-` and 17 letters or digits: 87 random bits, so that no two are the same.
    pub(super) fn new_association_id(&self) -> Result<Box<str>, DirectoryError> {
        let mut number = u128::from_be_bytes(self.0.random.bytes()?);
        let letters = u128::try_from(ID_LETTERS.len()).map_err(|_| RandomUnavailable)?;
        let mut id = String::from("a-");
        for _ in 0..ID_LENGTH {
            let letter = number.checked_rem(letters).unwrap_or_default();
            number = number.checked_div(letters).unwrap_or_default();
            let letter = usize::try_from(letter)
                .ok()
                .and_then(|at| ID_LETTERS.get(at));
            id.push(char::from(*letter.ok_or(RandomUnavailable)?));
        }
        Ok(id.into())
    }
}

/// The key of an association.
pub(super) fn association_key(association: &PodIdentityAssociation) -> Result<Key, DirectoryError> {
    Ok(association.key().to_key()?)
}

pub(super) fn check_sessions(association: &PodIdentityAssociation) -> Result<(), DirectoryError> {
    if association.policy.is_some() && association.has_session_tags() {
        return Err(DirectoryError::PolicyNeedsTagsDisabled);
    }
    Ok(association.check_sessions()?)
}

/// What an add-on has made changes through it alone; and an add-on changes only what it has made.
fn check_owner(
    association: &PodIdentityAssociation,
    acting: Option<&str>,
) -> Result<(), DirectoryError> {
    match (association.owner_arn.as_deref(), acting) {
        (owner, acting) if owner == acting => Ok(()),
        (Some(owner), _) => Err(DirectoryError::OwnedByAddon {
            id: association.id.clone(),
            owner: owner.into(),
        }),
        (None, _) => Err(InvalidField {
            field: "the association",
            expected: "one that the add-on has made",
        }
        .into()),
    }
}

/// Tags and session policy are bounded each; together they may be more than a record holds.
pub(super) fn checked(association: &PodIdentityAssociation) -> Result<Value, DirectoryError> {
    let value = association.encode();
    if value.len() > limits::VALUE_BYTES {
        return Err(DirectoryError::QuotaExceeded {
            quota: "PodIdentityAssociationBytes",
            limit: limits::VALUE_BYTES,
        });
    }
    Ok(value)
}

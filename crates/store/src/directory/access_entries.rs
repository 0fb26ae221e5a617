//! Access entries (EKS API spec, section 7).

use std::sync::Arc;

use countersign_access::EntryType;
use countersign_arn::Tag;
use jiff::Timestamp;

use super::vacancy::Vacancy;
use super::{ClusterPlace, Directory, DirectoryError, Once, Outcome, Thing, missing};
use crate::records::{AccessEntry, AuthenticationMode, EntryPrincipal, RecordKey, check_eks_tags};
use crate::snapshot::{AccessEntryEntry, ClusterEntry};
use crate::transaction::limits;
use crate::{DirectorySnapshot, Key, Transaction, Value};

/// An access entry to create. Its values are checked by whoever makes it.
#[derive(Debug, Clone)]
pub struct NewAccessEntry {
    /// IAM ARN of the principal, with its path.
    pub principal_arn: Box<str>,
    /// The principal's unique id; `None` to bind the entry to whom it meets first.
    pub principal_id: Option<Box<str>>,
    /// The type.
    pub entry_type: EntryType,
    /// Kubernetes groups.
    pub groups: Vec<Box<str>>,
    /// The template of the username; `None` for the default of the type.
    pub username: Option<Box<str>>,
    /// Tags.
    pub tags: Vec<Tag>,
}

/// What changes of an access entry; `None` is kept.
#[derive(Debug, Clone, Default)]
pub struct AccessEntryChange {
    /// All its groups.
    pub groups: Option<Vec<Box<str>>>,
    /// The template of its username.
    pub username: Option<Box<str>>,
}

impl ClusterPlace<'_> {
    /// The cluster and its entry for the principal with this ARN.
    ///
    /// # Errors
    /// When the cluster is not there, is being deleted, or has no entries because of its authentication mode, or when
    /// there is no such entry.
    pub fn access_entry<'s>(
        &self,
        snapshot: &'s DirectorySnapshot,
        principal_arn: &str,
        now: Timestamp,
    ) -> Result<(&'s Arc<ClusterEntry>, &'s Arc<AccessEntryEntry>), DirectoryError> {
        let (_, cluster) = self.with_entries(snapshot, now)?;
        let entry = find_entry(snapshot, cluster, principal_arn)?;
        Ok((cluster, entry))
    }

    /// The cluster, whose authentication mode has entries, with its key.
    fn with_entries<'s>(
        &self,
        snapshot: &'s DirectorySnapshot,
        now: Timestamp,
    ) -> Result<(Key, &'s Arc<ClusterEntry>), DirectoryError> {
        let (key, cluster) = self.open(snapshot, now)?;
        if cluster.record.authentication_mode == AuthenticationMode::ConfigMap {
            return Err(DirectoryError::ModeWithoutEntries(self.name.into()));
        }
        Ok((key, cluster))
    }
}

impl Directory {
    /// Creates an access entry.
    ///
    /// # Errors
    /// When the cluster takes no entries, has one for the principal, also under another path or as the same unique id, or
    /// has as many as it may; see [`DirectoryError`].
    pub async fn create_access_entry(
        &self,
        place: ClusterPlace<'_>,
        new: NewAccessEntry,
        once: Option<&Once<'_, AccessEntry>>,
        now: Timestamp,
    ) -> Result<Outcome<AccessEntry>, DirectoryError> {
        let principal = EntryPrincipal::parse(&new.principal_arn)?;
        check_eks_tags(&new.tags)?;
        let (uuid, end) = (self.new_uuid()?, principal.key());
        let limit = self.0.quotas.access_entries_per_cluster;
        self.write_once(once, now, |snapshot| {
            let (cluster_key, cluster) = place.with_entries(snapshot, now)?;
            let cluster_id = &cluster.record.id;
            let EntryPrincipal {
                kind,
                account,
                name,
            } = principal;
            let known = snapshot
                .access_entry_named(cluster_id, account, kind, name)
                .or_else(|| {
                    let id = new.principal_id.as_deref()?;
                    snapshot.access_entry_of_principal(cluster_id, id)
                });
            let key = RecordKey::AccessEntry {
                account: place.account,
                cluster_id,
                principal: &end,
            };
            let vacancy = Vacancy::in_cluster(snapshot, (&cluster_key, cluster), key)?
                .unless(known.is_some(), || {
                    DirectoryError::exists(Thing::AccessEntry, &new.principal_arn)
                })?
                .within(
                    "AccessEntriesPerCluster",
                    limit,
                    snapshot.access_entry_count(cluster_id),
                )?;
            let entry = AccessEntry {
                account: place.account,
                cluster_id: cluster_id.clone(),
                uuid: uuid.clone(),
                principal_arn: new.principal_arn.clone(),
                principal_id: new.principal_id.clone(),
                entry_type: new.entry_type,
                groups: new.groups.clone(),
                username: new.username.clone(),
                tags: new.tags.clone(),
                associations: Vec::new(),
                created: now,
                modified: now,
            };
            Ok((vacancy.fill(checked(&entry)?), entry))
        })
        .await
    }

    /// Changes groups and username of an entry. A change of nothing changes nothing, not even when it was modified.
    ///
    /// # Errors
    /// When it is not there, or its type has neither; see [`DirectoryError`].
    pub async fn update_access_entry(
        &self,
        place: ClusterPlace<'_>,
        principal_arn: &str,
        change: &AccessEntryChange,
        once: Option<&Once<'_, AccessEntry>>,
        now: Timestamp,
    ) -> Result<Outcome<AccessEntry>, DirectoryError> {
        self.write_once(once, now, |snapshot| {
            plan_change(snapshot, place, principal_arn, now, |entry| {
                if entry.entry_type != EntryType::Standard {
                    return Err(DirectoryError::EntryTypeRefuses(entry.entry_type));
                }
                let AccessEntryChange { groups, username } = change;
                if let Some(groups) = groups {
                    entry.groups.clone_from(groups);
                }
                if username.is_some() {
                    entry.username.clone_from(username);
                }
                if groups.is_some() || username.is_some() {
                    entry.modified = now;
                }
                Ok(entry.clone())
            })
        })
        .await
    }

    /// Deletes an entry with its associations.
    ///
    /// # Errors
    /// When it is not there; see [`DirectoryError`].
    pub async fn delete_access_entry(
        &self,
        place: ClusterPlace<'_>,
        principal_arn: &str,
        now: Timestamp,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (_, entry) = place.access_entry(snapshot, principal_arn, now)?;
            let key = entry_key(&entry.record)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, entry.modified)
                .delete(&key);
            Ok((transaction, ()))
        })
        .await
    }

    /// Binds an entry that is bound to nobody to the principal that was met. Binding it again to the same changes nothing.
    ///
    /// # Errors
    /// [`DirectoryError::BoundToAnother`] when somebody else was met first, [`DirectoryError::Exists`] when another entry
    /// of the cluster is bound to the principal, and when there is no such cluster or entry; see [`DirectoryError`].
    pub async fn bind_access_entry(
        &self,
        place: ClusterPlace<'_>,
        principal_arn: &str,
        principal_id: &str,
        now: Timestamp,
    ) -> Result<AccessEntry, DirectoryError> {
        self.write(|snapshot| {
            check_unbound_id(snapshot, place, principal_arn, principal_id, now)?;
            plan_change(snapshot, place, principal_arn, now, |entry| {
                if let Some(bound_to) = &entry.principal_id
                    && **bound_to != *principal_id
                {
                    return Err(DirectoryError::BoundToAnother {
                        principal_arn: principal_arn.into(),
                        bound_to: bound_to.clone(),
                    });
                }
                entry.principal_id = Some(principal_id.into());
                Ok(entry.clone())
            })
        })
        .await
    }

    /// Binds an entry to another principal, whomever it was bound to: what an administrator does who has recreated a
    /// principal, never what authentication does.
    ///
    /// # Errors
    /// When there is no such entry, or another one of the cluster is bound to the principal; see [`DirectoryError`].
    pub async fn rebind_access_entry(
        &self,
        place: ClusterPlace<'_>,
        principal_arn: &str,
        principal_id: &str,
        now: Timestamp,
    ) -> Result<AccessEntry, DirectoryError> {
        self.write(|snapshot| {
            check_unbound_id(snapshot, place, principal_arn, principal_id, now)?;
            plan_change(snapshot, place, principal_arn, now, |entry| {
                entry.principal_id = Some(principal_id.into());
                entry.modified = now;
                Ok(entry.clone())
            })
        })
        .await
    }
}

/// No other entry of the cluster may be bound to the principal.
fn check_unbound_id(
    snapshot: &DirectorySnapshot,
    place: ClusterPlace<'_>,
    principal_arn: &str,
    principal_id: &str,
    now: Timestamp,
) -> Result<(), DirectoryError> {
    let (cluster, _) = place.access_entry(snapshot, principal_arn, now)?;
    match snapshot.access_entry_of_principal(&cluster.record.id, principal_id) {
        Some(other) if *other.record.principal_arn != *principal_arn => {
            Err(DirectoryError::Exists {
                what: Thing::AccessEntry,
                name: other.record.principal_arn.clone(),
            })
        }
        _ => Ok(()),
    }
}

/// Changes an entry of a cluster that stays as it is; writes nothing when the entry is the same afterwards.
pub(super) fn plan_change<T>(
    snapshot: &DirectorySnapshot,
    place: ClusterPlace<'_>,
    principal_arn: &str,
    now: Timestamp,
    change: impl FnOnce(&mut AccessEntry) -> Result<T, DirectoryError>,
) -> Result<(Transaction, T), DirectoryError> {
    let (cluster_key, cluster) = place.with_entries(snapshot, now)?;
    let known = find_entry(snapshot, cluster, principal_arn)?;
    let mut entry = known.record.clone();
    let result = change(&mut entry)?;
    if entry == known.record {
        return Ok((Transaction::new(), result));
    }
    let key = entry_key(&entry)?;
    let transaction = Transaction::new()
        .if_unchanged(&cluster_key, cluster.modified)
        .if_unchanged(&key, known.modified);
    Ok((transaction.put(&key, checked(&entry)?), result))
}

/// The key of an entry.
pub(super) fn entry_key(entry: &AccessEntry) -> Result<Key, DirectoryError> {
    let principal = EntryPrincipal::parse(&entry.principal_arn)?.key();
    let key = RecordKey::AccessEntry {
        account: entry.account,
        cluster_id: &entry.cluster_id,
        principal: &principal,
    };
    Ok(key.to_key()?)
}

fn find_entry<'s>(
    snapshot: &'s DirectorySnapshot,
    cluster: &ClusterEntry,
    principal_arn: &str,
) -> Result<&'s Arc<AccessEntryEntry>, DirectoryError> {
    let cluster_id = &cluster.record.id;
    if let Some(entry) = snapshot.access_entry(cluster_id, principal_arn) {
        return Ok(entry);
    }
    let error = DirectoryError::NoSuch {
        what: Thing::AccessEntry,
        name: principal_arn.into(),
    };
    let Ok(principal) = EntryPrincipal::parse(principal_arn) else {
        return Err(error);
    };
    let key = RecordKey::AccessEntry {
        account: cluster.record.account,
        cluster_id,
        principal: &principal.key(),
    };
    Err(missing(snapshot, key, error))
}

/// Groups, tags and the namespaces of associations are bounded each; together they may be more than a record holds.
fn checked(entry: &AccessEntry) -> Result<Value, DirectoryError> {
    let value = entry.encode();
    if value.len() > limits::VALUE_BYTES {
        return Err(DirectoryError::QuotaExceeded {
            quota: "AccessEntryBytes",
            limit: limits::VALUE_BYTES,
        });
    }
    Ok(value)
}

//! Making what was not there.

use countersign_arn::{AccountId, Partition};

use super::accounts::find_account;
use super::{DirectoryError, readable};
use crate::records::RecordKey;
use crate::snapshot::ClusterEntry;
use crate::{DirectorySnapshot, Key, Revision, Transaction, Value};

/// A key that nothing has, in an account or a cluster that stays as it is.
pub(super) struct Vacancy {
    /// The key.
    pub(super) key: Key,
    /// Partition of the account or cluster.
    pub(super) partition: Partition,
    transaction: Transaction,
}

impl Vacancy {
    /// In an account.
    ///
    /// # Errors
    /// When the account is not there, or something that this version cannot read has the key.
    pub(super) fn in_account(
        snapshot: &DirectorySnapshot,
        account: AccountId,
        key: RecordKey<'_>,
    ) -> Result<Self, DirectoryError> {
        let (account_key, account) = find_account(snapshot, account)?;
        let partition = account.record.partition;
        Self::below(snapshot, &account_key, account.modified, partition, key)
    }

    /// In a cluster, whose own key is given with it.
    ///
    /// # Errors
    /// When something that this version cannot read has the key.
    pub(super) fn in_cluster(
        snapshot: &DirectorySnapshot,
        (cluster_key, cluster): (&Key, &ClusterEntry),
        key: RecordKey<'_>,
    ) -> Result<Self, DirectoryError> {
        let partition = cluster.record.partition;
        Self::below(snapshot, cluster_key, cluster.modified, partition, key)
    }

    fn below(
        snapshot: &DirectorySnapshot,
        parent: &Key,
        modified: Revision,
        partition: Partition,
        key: RecordKey<'_>,
    ) -> Result<Self, DirectoryError> {
        let key = readable(snapshot, key)?;
        let transaction = Transaction::new()
            .if_unchanged(parent, modified)
            .if_absent(&key);
        Ok(Self {
            key,
            partition,
            transaction,
        })
    }

    /// Fails when something has the key already, or something else that may be there once.
    pub(super) fn unless(
        self,
        taken: bool,
        error: impl FnOnce() -> DirectoryError,
    ) -> Result<Self, DirectoryError> {
        if taken { Err(error()) } else { Ok(self) }
    }

    /// Fails when there are as many already as the quota allows.
    pub(super) fn within(
        self,
        quota: &'static str,
        limit: usize,
        count: usize,
    ) -> Result<Self, DirectoryError> {
        if count < limit {
            Ok(self)
        } else {
            Err(DirectoryError::QuotaExceeded { quota, limit })
        }
    }

    /// Puts the record there.
    pub(super) fn fill(self, value: Value) -> Transaction {
        self.transaction.put(&self.key, value)
    }
}

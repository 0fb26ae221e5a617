//! What one commit asks for: conditions, and the writes that happen if all of them hold.

use std::collections::HashSet;

use crate::{Key, Revision, Value};

/// Limits that every implementation enforces before it looks at its data.
///
/// They fit inside etcd's defaults (128 operations and 1.5 MiB for one request, one operation of which is the store's own),
/// so that a transaction which the embedded store takes is taken by a cluster as well.
pub mod limits {
    /// Bytes of one key.
    pub const KEY_BYTES: usize = 1024;
    /// Bytes of one value.
    pub const VALUE_BYTES: usize = 512 * 1024;
    /// Compares in one transaction; separately, writes in one transaction.
    pub const OPERATIONS: usize = 127;
    /// Bytes of all keys and values in one transaction, those of compares included.
    pub const TRANSACTION_BYTES: usize = 1024 * 1024;
}

/// A condition on the state just before the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// No record has this key.
    Absent(Key),
    /// The record exists and was last written at exactly this revision.
    Unchanged(Key, Revision),
    /// No record whose key begins with `prefix` was written after `since`. Deletions do not count.
    ///
    /// This is how "delete X only if nothing was put below it meanwhile" is said. It costs a walk over the records
    /// below the prefix, so it is for prefixes that are expected to be empty or small.
    PrefixUntouched {
        /// Beginning of the keys.
        prefix: Key,
        /// Revision of the state that the caller looked at.
        since: Revision,
    },
}

impl Compare {
    /// The key or prefix that the condition is about.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Unchanged(key, _) => key,
            Self::PrefixUntouched { prefix, .. } => prefix,
        }
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Creates or replaces the record. A put of the value that is there already is a write like any other.
    Put(Key, Value),
    /// Removes the record. Without such a record it does nothing.
    Delete(Key),
}

impl Operation {
    /// The key that is written.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// Conditions and writes that are applied together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    compares: Vec<Compare>,
    operations: Vec<Operation>,
}

/// The transaction breaks a limit or contradicts itself; the store was not asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTransaction {
    /// More compares or more writes than [`limits::OPERATIONS`].
    #[error(
        "{count} {what} in one transaction, at most {} are allowed",
        limits::OPERATIONS
    )]
    TooManyOperations {
        /// `compares` or `writes`.
        what: &'static str,
        /// How many there are.
        count: usize,
    },
    /// A value above [`limits::VALUE_BYTES`].
    #[error(
        "the value of `{key}` has {bytes} bytes, at most {} are allowed",
        limits::VALUE_BYTES
    )]
    ValueTooLarge {
        /// The record.
        key: Key,
        /// Size of its value.
        bytes: usize,
    },
    /// All keys and values together are above [`limits::TRANSACTION_BYTES`].
    #[error(
        "the transaction has {bytes} bytes, at most {} are allowed",
        limits::TRANSACTION_BYTES
    )]
    TooLarge {
        /// Size of all keys and values.
        bytes: usize,
    },
    /// Two writes name one key; their order would decide, and a transaction has none.
    #[error("`{key}` is written twice in one transaction")]
    DuplicateKey {
        /// The key.
        key: Key,
    },
}

impl Transaction {
    /// A transaction without conditions and writes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the condition [`Compare::Absent`].
    #[must_use]
    pub fn if_absent(mut self, key: &Key) -> Self {
        self.compares.push(Compare::Absent(key.clone()));
        self
    }

    /// Adds the condition [`Compare::Unchanged`].
    #[must_use]
    pub fn if_unchanged(mut self, key: &Key, revision: Revision) -> Self {
        self.compares
            .push(Compare::Unchanged(key.clone(), revision));
        self
    }

    /// Adds the condition [`Compare::PrefixUntouched`].
    #[must_use]
    pub fn if_prefix_untouched(mut self, prefix: Key, since: Revision) -> Self {
        self.compares
            .push(Compare::PrefixUntouched { prefix, since });
        self
    }

    /// Adds a put.
    #[must_use]
    pub fn put(mut self, key: &Key, value: impl Into<Value>) -> Self {
        self.operations
            .push(Operation::Put(key.clone(), value.into()));
        self
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(mut self, key: &Key) -> Self {
        self.operations.push(Operation::Delete(key.clone()));
        self
    }

    /// The conditions, in the order they were added.
    #[must_use]
    pub fn compares(&self) -> &[Compare] {
        &self.compares
    }

    /// The writes, in the order they were added.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let compares = self.compares.iter().map(|c| c.key().as_str().len());
        let operations = self.operations.iter().map(|operation| match operation {
            Operation::Put(key, value) => key.as_str().len().saturating_add(value.len()),
            Operation::Delete(key) => key.as_str().len(),
        });
        compares.chain(operations).fold(0, usize::saturating_add)
    }

    /// Checks the [`limits`]; every implementation calls this first, so that all refuse the same transactions.
    ///
    /// # Errors
    /// The first limit that is broken.
    pub fn check(&self) -> Result<(), InvalidTransaction> {
        for (what, count) in [
            ("compares", self.compares.len()),
            ("writes", self.operations.len()),
        ] {
            if count > limits::OPERATIONS {
                return Err(InvalidTransaction::TooManyOperations { what, count });
            }
        }
        let mut written = HashSet::with_capacity(self.operations.len());
        for operation in &self.operations {
            if let Operation::Put(key, value) = operation
                && value.len() > limits::VALUE_BYTES
            {
                return Err(InvalidTransaction::ValueTooLarge {
                    key: key.clone(),
                    bytes: value.len(),
                });
            }
            if !written.insert(operation.key()) {
                return Err(InvalidTransaction::DuplicateKey {
                    key: operation.key().clone(),
                });
            }
        }
        let bytes = self.bytes();
        if bytes > limits::TRANSACTION_BYTES {
            return Err(InvalidTransaction::TooLarge { bytes });
        }
        Ok(())
    }
}

//! The data directory of a single machine: the store and the root key side by side.

use std::path::{Path, PathBuf};

use crate::{OpenStoreError, Random, RedbOptions, RedbStore, RootKey, RootKeyError};

/// What was found in, or made in, a data directory.
///
/// | file | mode | holds |
/// | --- | --- | --- |
/// | `store.redb` | 0600 | all records; secrets in it are sealed |
/// | `root.key` | 0600 | the root key, unless one is given: back it up, and not beside the store |
#[derive(Debug)]
pub struct DataDir {
    /// The store, with its file locked.
    pub store: RedbStore,
    /// The root key.
    pub root_key: RootKey,
}

/// Where the root key is from.
#[derive(Debug)]
pub enum RootKeySource {
    /// `root.key` in the data directory, generated on the first start.
    DataDir,
    /// A file of the operator's.
    File(PathBuf),
    /// Given otherwise, as in an environment variable.
    Given(RootKey),
}

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenDataDirError {
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// The root key.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// There are records, and the key that opens their secrets is gone.
    #[error(
        "`{store}` exists but its root key `{root_key}` does not; put the key back from a backup, or give it \
         (a new key could not open the secrets in the store)"
    )]
    RootKeyMissing {
        /// The store's file.
        store: PathBuf,
        /// Where the key should be.
        root_key: PathBuf,
    },
}

impl DataDir {
    /// Opens `directory`, creating what is missing. Blocks.
    ///
    /// # Errors
    /// See [`OpenDataDirError`]. A missing key is generated only when there is no store yet.
    pub fn open(
        directory: &Path,
        root_key: RootKeySource,
        random: &Random,
        options: &RedbOptions,
    ) -> Result<Self, OpenDataDirError> {
        let store = directory.join("store.redb");
        let root_key = match root_key {
            RootKeySource::Given(key) => key,
            RootKeySource::File(path) => RootKey::read(&path)?,
            RootKeySource::DataDir => {
                let path = directory.join("root.key");
                if store.exists() && !path.exists() {
                    return Err(OpenDataDirError::RootKeyMissing {
                        store,
                        root_key: path,
                    });
                }
                RootKey::read_or_generate(&path, random)?
            }
        };
        Ok(Self {
            store: RedbStore::open(&store, options)?,
            root_key,
        })
    }
}

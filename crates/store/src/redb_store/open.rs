//! Opening the database file: permissions, the lock, the format.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, TableDefinition};

use crate::Revision;

/// key → revision of the last write (8 bytes, big endian), then the value.
pub(super) const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// `format` and `revision`.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const REVISION: &str = "revision";
const FORMAT: &str = "format";
const FORMAT_NOW: u64 = 1;

/// Why the database file could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// The directory, the file or their permissions.
    #[error("could not open the store `{path}`")]
    File {
        /// The path that failed.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process holds the lock of the file.
    #[error(
        "the store `{path}` is in use by another process; a data directory belongs to one process: stop that one, \
         or use another data directory"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a later version.
    #[error(
        "the store `{path}` has format {found}, this version reads format {FORMAT_NOW}; start the newer version again"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The database itself refuses the file.
    #[error("the store `{path}` cannot be read; put back a backup of the data directory")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: Box<redb::Error>,
    },
}

/// Opens or creates the file, takes its lock and repairs what a crash left.
pub(super) fn open_file(
    path: &Path,
    cache_bytes: usize,
) -> Result<(Database, Revision), OpenStoreError> {
    let failed = |source| OpenStoreError::File {
        path: path.to_owned(),
        source,
    };
    let directory = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    create_directory(directory).map_err(|source| OpenStoreError::File {
        path: directory.to_owned(),
        source,
    })?;
    // The file is made here and not by the database, so that it never exists with wider permissions.
    private(
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false),
    )
    .open(path)
    .and_then(|file| restrict(&file))
    .map_err(failed)?;
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    builder.set_repair_callback(|session| {
        tracing::info!(
            progress = session.progress(),
            "checking the store after an unclean stop"
        );
    });
    let opened = builder.create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenStoreError::InUse {
            path: path.to_owned(),
        },
        other => damaged(path)(other.into()),
    })?;
    let revision = prepare(&opened, path)?;
    // Without this the file's name may not survive a power failure, although its contents would. Nothing is acknowledged
    // before it has happened once.
    if revision == Revision::ZERO {
        File::open(directory)
            .and_then(|d| d.sync_all())
            .map_err(failed)?;
    }
    Ok((opened, revision))
}

/// Makes the tables of a new database, or checks those of an old one.
pub(super) fn prepare(database: &Database, path: &Path) -> Result<Revision, OpenStoreError> {
    let (format, revision) = read_meta(database).map_err(damaged(path))?;
    match format {
        Some(FORMAT_NOW) => Ok(Revision::new(revision)),
        Some(found) => Err(OpenStoreError::Newer {
            path: path.to_owned(),
            found,
        }),
        None => {
            create_tables(database).map_err(damaged(path))?;
            Ok(Revision::ZERO)
        }
    }
}

fn read_meta(database: &Database) -> Result<(Option<u64>, u64), redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(META) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((None, 0)),
        Err(error) => return Err(error.into()),
    };
    let format = table.get(FORMAT)?.map(|v| v.value());
    let revision = table.get(REVISION)?.map_or(0, |v| v.value());
    Ok((format, revision))
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        transaction.open_table(RECORDS)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT, FORMAT_NOW)?;
        meta.insert(REVISION, 0)?;
    }
    transaction.commit()?;
    Ok(())
}

fn damaged(path: &Path) -> impl Fn(redb::Error) -> OpenStoreError {
    |source| match source {
        redb::Error::Io(source) => OpenStoreError::File {
            path: path.to_owned(),
            source,
        },
        source => OpenStoreError::Damaged {
            path: path.to_owned(),
            source: Box::new(source),
        },
    }
}

/// Makes the directory with mode 0700; one that exists is left as its owner made it.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Files opened with these options are created with mode 0600.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Takes group and others the rights they may have on a file that a backup or a volume brought back.
fn restrict(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mut permissions = file.metadata()?.permissions();
        if permissions.mode() & 0o077 != 0 {
            permissions.set_mode(0o600);
            file.set_permissions(permissions)?;
        }
    }
    Ok(())
}

//! Where a command of local administration works: on the running server, or on the store itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use countersign_server::admin::{
    AdminAnswer, AdminClient, AdminError, AdminErrorKind, AdminOp, AskError, ConnectError, execute,
};
use countersign_store::{
    DataDir, Directory, EtcdOptions, OpenDataDirError, OpenStoreError, Quotas, Random, RedbOptions,
    RedbStore, RootKeySource, Sealer, Store,
};
use jiff::Timestamp;

use super::settings;
use super::storage::{self, StoreChoice};
use crate::report::Failure;

/// How long a server that holds the store but does not listen yet is waited for.
const STARTING: Duration = Duration::from_secs(5);

/// Which server or store is meant.
#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    /// The server's data directory; the platform's by default.
    #[arg(long, env = "COUNTERSIGN_DATA_DIR", value_name = "DIR", conflicts_with_all = ["config", "store"])]
    data_dir: Option<PathBuf>,
    /// The server's configuration file, for its data directory and root key.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The store: `redb:DIR` or `etcd://HOST:PORT,…/PREFIX`.
    #[arg(long, value_name = "STORE", conflicts_with = "config")]
    store: Option<StoreUrl>,
    /// File with the root key, where it is not in the data directory.
    #[arg(long, value_name = "FILE")]
    root_key_file: Option<PathBuf>,
}

/// A store, by name.
#[derive(Debug, Clone)]
pub(crate) enum StoreUrl {
    /// The data directory of an embedded store.
    Redb(PathBuf),
    /// The address of an etcd.
    Etcd(String),
    /// The etcd of a configuration file.
    Configured(Box<EtcdOptions>),
}

impl StoreUrl {
    /// Whether both are certainly the same store.
    pub(super) fn is_spelt_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Redb(one), Self::Redb(two)) => one == two,
            (Self::Etcd(one), Self::Etcd(two)) => one == two,
            _ => false,
        }
    }
}

impl FromStr for StoreUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.starts_with("etcd://") || text.starts_with("etcds://") {
            return Ok(Self::Etcd(text.to_owned()));
        }
        match text.strip_prefix("redb:") {
            Some(directory) if !directory.is_empty() => Ok(Self::Redb(directory.into())),
            _ => Err("a store is `redb:DIR` or `etcd://HOST:PORT,…/PREFIX`"),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redb(directory) => write!(f, "redb:{}", directory.display()),
            // A URL may have a password in it.
            Self::Etcd(_) | Self::Configured(_) => f.write_str("etcd"),
        }
    }
}

/// What the arguments name.
pub(super) struct Place {
    pub(super) store: StoreUrl,
    root_key_file: Option<PathBuf>,
    /// Where the configuration says that a root key may be.
    data_dir: Option<PathBuf>,
}

impl LocalArgs {
    pub(super) fn place(&self) -> Result<Place, Failure> {
        let mut root_key_file = self.root_key_file.clone();
        let mut data_dir = None;
        let store = match (&self.store, &self.config, &self.data_dir) {
            (Some(store), _, _) => store.clone(),
            (None, _, Some(directory)) => StoreUrl::Redb(directory.clone()),
            (None, Some(config), None) => {
                let own = settings::read_config(Some(config))?.config.countersign;
                root_key_file = root_key_file.or(own.root_key_file);
                data_dir.clone_from(&own.data_dir);
                match storage::choose(None, own.store.as_ref())? {
                    StoreChoice::Etcd(options) => StoreUrl::Configured(options),
                    StoreChoice::Redb => StoreUrl::Redb(own.data_dir.ok_or_else(|| {
                        Failure::usage(anyhow!(
                            "`{}` has no `dataDir` in the section `countersign`",
                            config.display()
                        ))
                    })?),
                }
            }
            (None, None, None) => StoreUrl::Redb(settings::platform_data_dir()?),
        };
        Ok(Place {
            store,
            root_key_file,
            data_dir,
        })
    }

    /// `issuer.publicUrl` of the configuration, if one is named.
    pub(super) fn issuer_public_url(&self) -> Result<Option<String>, Failure> {
        let Some(config) = &self.config else {
            return Ok(None);
        };
        let own = settings::read_config(Some(config))?.config.countersign;
        Ok(Some(super::issuers::public_url(&own)).filter(|url| !url.is_empty()))
    }

    /// Does `op` where the arguments say.
    pub(super) async fn run(&self, op: &AdminOp) -> Result<AdminAnswer, Failure> {
        self.place()?.run(op).await
    }
}

impl Place {
    async fn run(&self, op: &AdminOp) -> Result<AdminAnswer, Failure> {
        let deadline = tokio::time::Instant::now() + STARTING;
        let directory = match &self.store {
            StoreUrl::Redb(directory) => directory,
            StoreUrl::Etcd(_) | StoreUrl::Configured(_) => {
                let opened = self.open_shared().await?;
                return execute(&opened, op, Timestamp::now())
                    .await
                    .map_err(refused);
            }
        };
        loop {
            if let Some(server) = server_of(directory).await? {
                return server.ask(op).await.map_err(failed);
            }
            existing(directory)?;
            let root_key = settings::root_key_source(self.root_key_file.as_deref())?;
            match open_directory(directory, root_key).await {
                Ok(opened) => {
                    return execute(&opened, op, Timestamp::now())
                        .await
                        .map_err(refused);
                }
                Err(error) if is_in_use(&error) && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(in_use_hint(error, directory)),
            }
        }
    }
}

impl Place {
    /// The directory on an etcd, beside the servers that work on it.
    async fn open_shared(&self) -> Result<Directory, Failure> {
        let source = settings::root_key_source(self.root_key_file.as_deref())?;
        let root_key = storage::shared_root_key(source, self.data_dir.as_deref())?;
        let store = etcd(&self.store)?;
        let directory = storage::open_shared(store, &root_key, Random::system()).await?;
        directory.maintain_session_keys(Timestamp::now()).await?;
        Ok(directory)
    }
}

/// Opens store and directory once.
async fn open_directory(directory: &Path, root_key: RootKeySource) -> Result<Directory, OpenError> {
    let random = Random::system();
    let (path, randomness) = (directory.to_owned(), random.clone());
    let opened = tokio::task::spawn_blocking(move || {
        DataDir::open(&path, root_key, &randomness, &RedbOptions::default())
    })
    .await
    .map_err(|error| OpenError::Other(error.into()))??;
    let other = |error: anyhow::Error| OpenError::Other(Failure::usage(error));
    let sealer = Sealer::new(&opened.root_key, &[]).map_err(|error| other(error.into()))?;
    let directory = Directory::open(Arc::new(opened.store), sealer, random, Quotas::default())
        .await
        .map_err(|error| other(error.into()))?;
    directory
        .maintain_session_keys(Timestamp::now())
        .await
        .map_err(|error| OpenError::Other(error.into()))?;
    Ok(directory)
}

/// The server that holds the store of `directory`, if one runs.
pub(super) async fn server_of(directory: &Path) -> Result<Option<AdminClient>, Failure> {
    match AdminClient::connect(directory).await {
        Ok(server) => Ok(Some(server)),
        Err(ConnectError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(Failure::usage(error)),
    }
}

/// Opens a store that is there, without its root key and without a server that holds it.
pub(super) async fn open_store(store: &StoreUrl) -> Result<Arc<dyn Store>, Failure> {
    match store {
        StoreUrl::Redb(directory) => {
            existing(directory)?;
            open_redb(directory).await
        }
        StoreUrl::Etcd(_) | StoreUrl::Configured(_) => etcd(store),
    }
}

/// The same for a store that may be made.
pub(super) async fn open_target(store: &StoreUrl) -> Result<Arc<dyn Store>, Failure> {
    match store {
        StoreUrl::Redb(directory) => {
            settings::make_private_dir(directory)?;
            open_redb(directory).await
        }
        StoreUrl::Etcd(_) | StoreUrl::Configured(_) => etcd(store),
    }
}

async fn open_redb(directory: &Path) -> Result<Arc<dyn Store>, Failure> {
    let path = directory.join("store.redb");
    let opened =
        tokio::task::spawn_blocking(move || RedbStore::open(&path, &RedbOptions::default()))
            .await?;
    match opened {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(in_use_hint(error.into(), directory)),
    }
}

/// The store on etcd, which is not asked yet.
fn etcd(store: &StoreUrl) -> Result<Arc<dyn Store>, Failure> {
    let options = match store {
        StoreUrl::Configured(options) => options.clone(),
        StoreUrl::Redb(directory) => {
            return Err(Failure::usage(anyhow!(
                "`{}` is no etcd",
                directory.display()
            )));
        }
        StoreUrl::Etcd(address) => match storage::choose(Some(address), None)? {
            StoreChoice::Etcd(options) => options,
            StoreChoice::Redb => {
                return Err(Failure::usage(anyhow!("the address names no etcd")));
            }
        },
    };
    storage::etcd(*options, Random::system())
}

/// A slip of the pen must not make a new store, and then find nothing in it.
fn existing(directory: &Path) -> Result<(), Failure> {
    let store = directory.join("store.redb");
    match store.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(
            Failure::usage(anyhow!("there is no store in `{}`", directory.display()))
                .hint("name the server's data directory with `--data-dir DIR`, or its configuration with `--config FILE`"),
        ),
        Err(error) => Err(Failure::usage(
            anyhow::Error::new(error).context(format!("could not look at `{}`", store.display())),
        )),
    }
}

fn is_in_use(error: &OpenError) -> bool {
    matches!(error, OpenError::Store(OpenStoreError::InUse { .. }))
}

fn in_use_hint(error: OpenError, directory: &Path) -> Failure {
    let in_use = is_in_use(&error);
    let failure = match error {
        OpenError::Store(error) => Failure::usage(error),
        OpenError::Other(failure) => failure,
    };
    if in_use {
        failure.hint(format!(
            "a running server is asked through `admin.sock` in `{}`, which it makes only in a directory of mode 0700; \
             to work on the store itself, stop the server",
            directory.display()
        ))
    } else {
        failure
    }
}

/// Why store or directory cannot be opened.
enum OpenError {
    Store(OpenStoreError),
    Other(Failure),
}

impl From<OpenStoreError> for OpenError {
    fn from(error: OpenStoreError) -> Self {
        Self::Store(error)
    }
}

impl From<OpenDataDirError> for OpenError {
    fn from(error: OpenDataDirError) -> Self {
        match error {
            OpenDataDirError::Store(error) => Self::Store(error),
            other => Self::Other(Failure::usage(other)),
        }
    }
}

/// What the server answered instead of doing it.
pub(super) fn failed(error: AskError) -> Failure {
    match error {
        AskError::Refused(error) => refused(error),
        other => Failure::unknown(other),
    }
}

fn refused(error: AdminError) -> Failure {
    match error.kind {
        AdminErrorKind::No => Failure::no(error),
        AdminErrorKind::Request => Failure::usage(error),
        AdminErrorKind::Unavailable => Failure::unknown(error),
    }
}

/// An answer to another question.
pub(super) fn unexpected() -> Failure {
    Failure::unknown(anyhow!(
        "the server answered something else than what was asked"
    ))
    .hint("server and command are of different versions")
}

/// Reads a small text from standard input.
pub(super) fn read_stdin(most: u64) -> Result<zeroize::Zeroizing<String>, Failure> {
    use std::io::Read as _;
    let mut text = zeroize::Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(most)
        .read_to_string(&mut text)
        .context("could not read standard input")
        .map_err(Failure::usage)?;
    Ok(text)
}

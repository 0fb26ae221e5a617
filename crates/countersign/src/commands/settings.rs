//! What `up` and `serve` share: configuration to running listeners.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use countersign_arn::{AccountId, Partition};
use countersign_client::pki::{self, Names};
use countersign_client::webhook_kubeconfig::{self, ClientCertificate};
use countersign_server::app::CertificateFiles;
use countersign_server::config::{self, Loaded, TlsFiles};
use countersign_store::{
    DataDir, Directory, NewAccount, OpenDataDirError, OpenStoreError, Quotas, Random, RedbOptions,
    RootKeySource, Sealer,
};
use jiff::Timestamp;

use super::storage::{self, StoreChoice};
use crate::report::Failure;

/// How long `--takeover` waits for the running instance to let go of its store.
const TAKEOVER_WAIT: Duration = Duration::from_secs(300);

/// Runs a future on a runtime of its own.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    countersign_server::install_crypto();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// `$XDG_DATA_HOME/countersign`, or what the platform has for it.
pub(super) fn platform_data_dir() -> Result<PathBuf, Failure> {
    let from = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = from("XDG_DATA_HOME").or_else(|| {
        let below = if cfg!(target_os = "macos") {
            "Library/Application Support"
        } else {
            ".local/share"
        };
        from("HOME").map(|home| home.join(below))
    });
    base.map(|base| base.join("countersign")).ok_or_else(|| {
        Failure::usage(anyhow::anyhow!("there is no home directory"))
            .hint("give one with `--data-dir DIR`")
    })
}

/// Makes a directory that only this user can look into; an existing one must be so already.
pub(super) fn make_private_dir(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("could not make `{}`", path.display()))
        .map_err(Failure::usage)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o022 != 0 {
        return Err(Failure::usage(anyhow::anyhow!(
            "`{}` can be written by others",
            path.display()
        ))
        .hint(format!("chmod go-w {}", path.display())));
    }
    Ok(())
}

/// Reads the configuration; an empty one when there is no file.
pub(super) fn read_config(path: Option<&Path>) -> Result<Loaded, Failure> {
    match path {
        Some(path) => config::load(path),
        None => config::parse(String::new(), Path::new("")),
    }
    .map_err(Failure::usage)
}

/// Warns about keys that mean nothing.
pub(super) fn warn_unknown_keys(loaded: &Loaded) {
    for key in &loaded.unknown_keys {
        tracing::warn!(key, "configuration key is not known and has no effect");
    }
}

/// The webhook's certificate on disk, and the CAs its clients trust.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) files: CertificateFiles,
    /// The CAs, PEM.
    pub(super) ca_bundle: String,
    /// A file with the CAs.
    pub(super) ca_file: PathBuf,
    check_again_at: Option<Timestamp>,
}

/// What the webhook's certificate is for.
#[derive(Debug, Clone)]
pub(super) struct CertificateNames {
    pub(super) address: String,
    pub(super) hostname: String,
    /// Name and namespace of a Service.
    pub(super) service: Option<(String, String)>,
}

/// Loads, makes or renews the webhook's certificate in `state_dir`.
pub(super) fn ensure_certificate(
    state_dir: &Path,
    names: &CertificateNames,
) -> Result<Certificate, Failure> {
    let made_for = Names::new(&names.address, &names.hostname);
    let made_for = match &names.service {
        None => made_for,
        Some((name, namespace)) => made_for.and_then(|names| names.and_service(name, namespace)),
    };
    let names = made_for.map_err(Failure::usage)?;
    let serving = pki::ensure(state_dir, &names, Timestamp::now()).map_err(Failure::usage)?;
    let ca_file = state_dir.join("webhook-ca.pem");
    write_if_changed(&ca_file, serving.ca_bundle_pem.as_bytes(), 0o644)?;
    Ok(Certificate {
        files: CertificateFiles {
            cert: state_dir.join("cert.pem"),
            key: state_dir.join("key.pem"),
        },
        ca_bundle: serving.ca_bundle_pem,
        ca_file,
        check_again_at: serving.check_again_at,
    })
}

/// Renews the certificate when it is due, for as long as the process runs.
pub(super) fn keep_certificate(
    state_dir: &Path,
    names: CertificateNames,
    certificate: &Certificate,
) {
    let state_dir = state_dir.to_owned();
    let mut due = certificate.check_again_at;
    tokio::spawn(async move {
        while let Some(at) = due {
            // Looked at once a day at least: a laptop sleeps, and clocks are set.
            let wait = at
                .duration_since(Timestamp::now())
                .as_secs()
                .clamp(1, 24 * 3600);
            tokio::time::sleep(Duration::from_secs(wait.unsigned_abs())).await;
            if Timestamp::now() < at {
                continue;
            }
            match ensure_certificate(&state_dir, &names) {
                Ok(renewed) => due = renewed.check_again_at,
                Err(failure) => {
                    tracing::error!(
                        problem = failure.render(),
                        "the webhook's certificate could not be renewed"
                    );
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                }
            }
        }
    });
}

/// Writes the kubeconfig that kube-apiserver reads; an identical one is left alone, so that its directory may be read-only.
pub(super) fn write_webhook_kubeconfig(
    path: &Path,
    url: &str,
    ca_bundle: &str,
    client: Option<&TlsFiles>,
) -> Result<(), Failure> {
    let text = match client {
        None => webhook_kubeconfig::render(url, ca_bundle),
        Some(files) => {
            let client = ClientCertificate {
                certificate: &files.certfile,
                key: &files.keyfile,
            };
            webhook_kubeconfig::render_with_client(url, ca_bundle, client)
        }
    };
    webhook_kubeconfig::write(path, &text)
        .map(|_| ())
        .with_context(|| {
            format!(
                "could not write the webhook kubeconfig `{}`",
                path.display()
            )
        })
        .map_err(Failure::usage)
}

pub(super) fn write_if_changed(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    if fs::read(path).is_ok_and(|current| current == content) {
        return Ok(());
    }
    write_file(path, content, mode)
}

/// Makes the account unless it is there.
pub(super) async fn ensure_account(
    directory: &Directory,
    account: AccountId,
    partition: Partition,
    now: Timestamp,
) -> Result<(), Failure> {
    if directory.snapshot().account(account).is_none() {
        let new = NewAccount {
            id: account,
            partition,
            alias: None,
            organization_id: None,
        };
        directory
            .create_account(new, now)
            .await
            .map_err(Failure::usage)?;
    }
    Ok(())
}

/// The root key: a file of the operator's, `COUNTERSIGN_ROOT_KEY`, or the one in the data directory.
pub(super) fn root_key_source(file: Option<&Path>) -> Result<RootKeySource, Failure> {
    const VARIABLE: &str = "COUNTERSIGN_ROOT_KEY";
    if let Some(path) = file {
        return Ok(RootKeySource::File(path.to_owned()));
    }
    match std::env::var(VARIABLE) {
        Ok(text) => {
            let text = zeroize::Zeroizing::new(text);
            let key = countersign_store::RootKey::parse(&text, VARIABLE).map_err(Failure::usage)?;
            Ok(RootKeySource::Given(key))
        }
        Err(_) => Ok(RootKeySource::DataDir),
    }
}

/// Opens the chosen store and the directory on it, and looks after the keys of session tokens. `data_dir` is where redb is,
/// and where a root key may be.
pub(super) async fn open_directory(
    store: &StoreChoice,
    data_dir: Option<&Path>,
    root_key: RootKeySource,
    takeover: bool,
) -> Result<Directory, Failure> {
    let directory = match (store, data_dir) {
        (StoreChoice::Etcd(options), data_dir) => {
            let root_key = storage::shared_root_key(root_key, data_dir)?;
            let random = Random::system();
            let store = storage::etcd((**options).clone(), random.clone())?;
            storage::open_shared(store, &root_key, random).await?
        }
        (StoreChoice::Redb, Some(data_dir)) => open_redb(data_dir, root_key, takeover).await?,
        (StoreChoice::Redb, None) => {
            return Err(Failure::usage(anyhow::anyhow!(
                "the embedded store needs `dataDir` in the section `countersign`"
            )));
        }
    };
    directory
        .maintain_session_keys(Timestamp::now())
        .await
        .map_err(Failure::usage)?;
    Ok(directory)
}

/// Opens the embedded store and the directory on it; with `takeover`, waits while another process has them.
async fn open_redb(
    data_dir: &Path,
    root_key: RootKeySource,
    takeover: bool,
) -> Result<Directory, Failure> {
    let random = Random::system();
    let deadline = tokio::time::Instant::now() + TAKEOVER_WAIT;
    let mut said = false;
    let mut root_key = Some(root_key);
    let opened = loop {
        let source = match root_key.take() {
            Some(source) => source,
            None => RootKeySource::DataDir,
        };
        let again = again(&source)?;
        let (dir, random) = (data_dir.to_owned(), random.clone());
        let opened = tokio::task::spawn_blocking(move || {
            DataDir::open(&dir, source, &random, &RedbOptions::default())
        })
        .await?;
        match opened {
            Err(OpenDataDirError::Store(OpenStoreError::InUse { .. }))
                if takeover && tokio::time::Instant::now() < deadline =>
            {
                if !said {
                    tracing::info!(
                        "waiting for the running instance to stop and let go of the store"
                    );
                    said = true;
                }
                root_key = Some(again);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => break other.map_err(Failure::usage)?,
        }
    };
    let sealer = Sealer::new(&opened.root_key, &[])?;
    let store = Arc::new(opened.store);
    Directory::open(store, sealer, random, Quotas::default())
        .await
        .map_err(Failure::usage)
}

/// The same source once more, for the next attempt.
fn again(source: &RootKeySource) -> Result<RootKeySource, Failure> {
    match source {
        RootKeySource::DataDir => Ok(RootKeySource::DataDir),
        RootKeySource::File(path) => Ok(RootKeySource::File(path.clone())),
        RootKeySource::Given(_) => root_key_source(None),
    }
}

/// Writes a file of mode 0600 so that readers see the old content or the new, never half of it.
pub(super) fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Failure> {
    write_file(path, content, 0o600)
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = || format!("could not write `{}`", path.display());
    let name = path
        .file_name()
        .with_context(failed)
        .map_err(Failure::usage)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(failed).map_err(Failure::usage)
}

/// The addresses clients may have signed for: what is bound, and `localhost` beside a loopback address.
pub(super) fn own_endpoints(scheme: &str, address: SocketAddr) -> Vec<String> {
    let mut hosts = vec![address.to_string()];
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        hosts.push(format!("localhost:{}", address.port()));
        hosts.push(format!("127.0.0.1:{}", address.port()));
    }
    hosts.dedup();
    hosts
        .into_iter()
        .map(|host| format!("{scheme}://{host}/"))
        .collect()
}

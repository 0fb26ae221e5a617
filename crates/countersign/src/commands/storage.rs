//! Which store is used, from flag, environment and configuration.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_server::config::{EtcdTable, StoreOption};
use countersign_store::{
    Directory, EtcdOptions, EtcdPassword, EtcdTls, EtcdUser, OpenDirectoryError, Quotas, Random,
    RootKey, RootKeySource, Sealer, SecretString, Store,
};
use jiff::Timestamp;

use crate::report::Failure;

/// How long a start waits for an etcd that does not answer, as when all machines start at once.
const START_WAIT: Duration = Duration::from_secs(60);

/// Where the records are.
#[derive(Debug, Clone)]
pub(super) enum StoreChoice {
    /// One file in the data directory.
    Redb,
    /// An etcd that replicas share.
    Etcd(Box<EtcdOptions>),
}

/// Decides: a flag (or `COUNTERSIGN_STORE`) wins over the file, and what neither says is redb.
pub(super) fn choose(
    flag: Option<&str>,
    configured: Option<&StoreOption>,
) -> Result<StoreChoice, Failure> {
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (flag, configured) {
        (Some(address), _) => by_address(address, environment),
        (None, Some(StoreOption::Address(address))) => by_address(address, environment),
        (None, Some(StoreOption::Etcd(table))) => by_table(table, environment),
        (None, None) => Ok(StoreChoice::Redb),
    }
}

fn by_address(
    address: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<StoreChoice, Failure> {
    if address == "redb" {
        return Ok(StoreChoice::Redb);
    }
    let (options, tls) = EtcdOptions::parse(address, Timestamp::now).map_err(|error| {
        // What is no address may be a password that slipped; it is not repeated.
        Failure::usage(anyhow::anyhow!("`store` is no address of a store: {error}"))
            .hint("give `redb`, or `etcd://HOST:2379,HOST:2379/PREFIX` (`etcds://` for TLS)")
    })?;
    complete(options, EtcdTable::default(), Some(tls), environment)
}

fn by_table(
    table: &EtcdTable,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<StoreChoice, Failure> {
    let prefix = table.prefix.as_deref().unwrap_or_default();
    let options = EtcdOptions::new(&table.endpoints, prefix, Timestamp::now)
        .map_err(|error| Failure::usage(anyhow::anyhow!("`countersign.store`: {error}")))?;
    complete(options, table.clone(), None, environment)
}

/// Adds certificates and user. `tls` is what the address says; a table says it by `caFile`.
fn complete(
    mut options: EtcdOptions,
    table: EtcdTable,
    tls: Option<bool>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<StoreChoice, Failure> {
    let usage = |message: &str| Failure::usage(anyhow::anyhow!("{message}"));
    let path = |given: Option<std::path::PathBuf>, name: &str| {
        given.or_else(|| environment(name).map(Into::into))
    };
    let ca_file = path(table.ca_file, "COUNTERSIGN_ETCD_CA_FILE");
    let cert_file = path(table.cert_file, "COUNTERSIGN_ETCD_CERT_FILE");
    let key_file = path(table.key_file, "COUNTERSIGN_ETCD_KEY_FILE");
    let identity = match (cert_file, key_file) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            return Err(usage(
                "a client certificate for etcd needs both `certFile` and `keyFile`",
            ));
        }
    };
    options.tls = match (ca_file, tls) {
        (Some(_), Some(false)) => {
            return Err(usage(
                "the store's address begins with `etcd://`, which is plain text, and a CA is given",
            )
            .hint("begin it with `etcds://`"));
        }
        (Some(ca_file), _) => Some(EtcdTls { ca_file, identity }),
        (None, Some(true)) => {
            return Err(usage("`etcds://` needs the CA of etcd's certificates")
                .hint("set COUNTERSIGN_ETCD_CA_FILE, or write `store` as a table with `caFile`"));
        }
        (None, _) if identity.is_some() => {
            return Err(usage(
                "a client certificate for etcd needs `caFile` as well",
            ));
        }
        (None, _) => None,
    };
    let username = table
        .username
        .or_else(|| environment("COUNTERSIGN_ETCD_USERNAME"));
    let password = path(table.password_file, "COUNTERSIGN_ETCD_PASSWORD_FILE")
        .map(EtcdPassword::File)
        .or_else(|| {
            let password = environment("COUNTERSIGN_ETCD_PASSWORD")?;
            Some(EtcdPassword::Given(Arc::new(SecretString::new(password))))
        });
    options.user = match (username, password) {
        (Some(name), Some(password)) => Some(EtcdUser { name, password }),
        (None, None) => None,
        (Some(_), None) => {
            return Err(usage("a user of etcd needs a password").hint(
                "give `passwordFile`, COUNTERSIGN_ETCD_PASSWORD_FILE or COUNTERSIGN_ETCD_PASSWORD",
            ));
        }
        (None, Some(_)) => {
            return Err(usage("there is a password for etcd and no user").hint("give `username`"));
        }
    };
    Ok(StoreChoice::Etcd(Box::new(options)))
}

/// The store on etcd.
#[cfg(feature = "etcd")]
pub(super) fn etcd(options: EtcdOptions, random: Random) -> Result<Arc<dyn Store>, Failure> {
    Ok(Arc::new(countersign_store::EtcdStore::new(options, random)))
}

/// This build has none.
#[cfg(not(feature = "etcd"))]
pub(super) fn etcd(_: EtcdOptions, _: Random) -> Result<Arc<dyn Store>, Failure> {
    Err(Failure::usage(anyhow::anyhow!(
        "`store` names an etcd, and this `countersign` was built without it"
    ))
    .hint(
        "install protobuf-compiler and libprotobuf-dev, then: cargo build --release --features etcd",
    ))
}

/// The root key of replicas: all have the same one, so it is never made here.
pub(super) fn shared_root_key(
    source: RootKeySource,
    data_dir: Option<&Path>,
) -> Result<RootKey, Failure> {
    match source {
        RootKeySource::Given(key) => Ok(key),
        RootKeySource::File(path) => RootKey::read(&path).map_err(Failure::usage),
        RootKeySource::DataDir => {
            let path = data_dir
                .map(|dir| dir.join("root.key"))
                .filter(|path| path.exists())
                .ok_or_else(|| {
                    Failure::usage(anyhow::anyhow!(
                        "a store on etcd needs a root key that all replicas share"
                    ))
                    .hint(
                        "make one with `(umask 077; openssl rand -hex 32 > root.key)` and give it as `rootKeyFile` or \
                         COUNTERSIGN_ROOT_KEY; keep a copy apart from etcd's backups",
                    )
                })?;
            RootKey::read(&path).map_err(Failure::usage)
        }
    }
}

/// Opens the directory on a shared store, and waits for one that does not answer yet.
pub(super) async fn open_shared(
    store: Arc<dyn Store>,
    root_key: &RootKey,
    random: Random,
) -> Result<Directory, Failure> {
    let deadline = tokio::time::Instant::now() + START_WAIT;
    let mut pause = Duration::from_millis(100);
    loop {
        let sealer = Sealer::new(root_key, &[])?;
        let opened = Directory::open(
            Arc::clone(&store),
            sealer,
            random.clone(),
            Quotas::default(),
        );
        let error = match opened.await {
            Ok(directory) => return Ok(directory),
            Err(error @ (OpenDirectoryError::Load(_) | OpenDirectoryError::Commit(_)))
                if tokio::time::Instant::now() < deadline =>
            {
                error
            }
            Err(error @ (OpenDirectoryError::Load(_) | OpenDirectoryError::Commit(_))) => {
                return Err(Failure::unknown(error)
                    .hint("look whether etcd runs, and whether `store` has its addresses"));
            }
            Err(error) => return Err(Failure::usage(error)),
        };
        let error = anyhow::Error::new(error);
        tracing::warn!(
            problem = format!("{error:#}"),
            "the store does not answer; trying again"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(address: &str, environment: &[(&str, &str)]) -> Result<StoreChoice, String> {
        by_address(address, |name| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
        .map_err(|failure| failure.render())
    }

    const CA: (&str, &str) = ("COUNTERSIGN_ETCD_CA_FILE", "ca.pem");
    const CERT: (&str, &str) = ("COUNTERSIGN_ETCD_CERT_FILE", "c.pem");
    const KEY: (&str, &str) = ("COUNTERSIGN_ETCD_KEY_FILE", "k.pem");
    const USER: (&str, &str) = ("COUNTERSIGN_ETCD_USERNAME", "u");
    const PASSWORD: (&str, &str) = ("COUNTERSIGN_ETCD_PASSWORD", "hunter2");

    #[test]
    fn choices() {
        assert!(matches!(chosen("redb", &[]), Ok(StoreChoice::Redb)));
        let etcd = |address, environment: &[_]| match chosen(address, environment) {
            Ok(StoreChoice::Etcd(options)) => *options,
            other => panic!("{address}: {other:?}"),
        };
        let plain = etcd("etcd://a,b/x", &[]);
        assert_eq!(plain.endpoints, ["a:2379", "b:2379"]);
        assert!(plain.tls.is_none() && plain.user.is_none());
        let all = etcd("etcds://a", &[CA, CERT, KEY, USER, PASSWORD]);
        let identity = Some(("c.pem".into(), "k.pem".into()));
        assert_eq!(all.tls.as_ref().map(|tls| &tls.identity), Some(&identity));
        assert_eq!(all.user.as_ref().map(|user| user.name.as_str()), Some("u"));
        assert!(!format!("{all:?}").contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_meant() {
        for (address, environment, message) in [
            ("etcd:/a", [].as_slice(), "no address"),
            ("etcd://u:hunter2@a", &[], "has a user"),
            ("etcds://a", &[], "caFile"),
            ("etcd://a", &[CA], "etcds://"),
            ("etcd://a", &[CERT, KEY], "caFile"),
            ("etcds://a", &[CA, CERT], "keyFile"),
            ("etcd://a", &[USER], "passwordFile"),
            ("etcd://a", &[PASSWORD], "username"),
        ] {
            let error = chosen(address, environment).unwrap_err();
            assert!(error.contains(message), "{address}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_table_with_a_ca_is_tls() {
        let table = EtcdTable {
            endpoints: vec!["a:1".into()],
            prefix: Some("x".into()),
            ca_file: Some("ca".into()),
            ..EtcdTable::default()
        };
        match by_table(&table, |_| None) {
            Ok(StoreChoice::Etcd(options)) => {
                assert!(options.tls.is_some());
                assert_eq!(options.prefix, "/x/");
            }
            other => panic!("{other:?}"),
        }
        assert!(
            by_table(&EtcdTable::default(), |_| None).is_err(),
            "no endpoints"
        );
    }
}

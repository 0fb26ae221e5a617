//! The key `store`: where the records are.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};

/// Where the records are: `redb`, an address such as `etcd://a:2379,b:2379/prefix`, or a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOption {
    /// A word or an address.
    Address(String),
    /// An etcd with all its settings.
    Etcd(EtcdTable),
}

/// The settings of an etcd. What is left out here is taken from the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcdTable {
    /// Its members, each `host:port`.
    pub endpoints: Vec<String>,
    /// What our keys begin with; `/countersign/`.
    pub prefix: Option<String>,
    /// CAs of the members' certificates; with it, connections are TLS.
    pub ca_file: Option<PathBuf>,
    /// Our certificate.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Our user.
    pub username: Option<String>,
    /// File with the user's password.
    pub password_file: Option<PathBuf>,
}

impl<'de> Deserialize<'de> for StoreOption {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StoreVisitor)
    }
}

struct StoreVisitor;

impl<'de> Visitor<'de> for StoreVisitor {
    type Value = StoreOption;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`redb`, `etcd://HOST:PORT,.../PREFIX`, or a table with `endpoints`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StoreOption, E> {
        Ok(StoreOption::Address(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StoreOption, A::Error> {
        let mut table = EtcdTable::default();
        let mut seen = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let folded = key.to_lowercase();
            if seen.contains(&folded) {
                return Err(A::Error::custom(format_args!("`store` has `{key}` twice")));
            }
            match folded.as_str() {
                "endpoints" => table.endpoints = map.next_value()?,
                "prefix" => table.prefix = Some(map.next_value()?),
                "cafile" => table.ca_file = Some(map.next_value()?),
                "certfile" => table.cert_file = Some(map.next_value()?),
                "keyfile" => table.key_file = Some(map.next_value()?),
                "username" => table.username = Some(map.next_value()?),
                "passwordfile" => table.password_file = Some(map.next_value()?),
                "password" => {
                    return Err(A::Error::custom(
                        "`store` takes no password, because configuration files are not secret; give `passwordFile`",
                    ));
                }
                _ => {
                    return Err(A::Error::custom(format_args!(
                        "unknown key `countersign.store.{key}`; known are endpoints, prefix, caFile, certFile, keyFile, \
                         username, passwordFile"
                    )));
                }
            }
            seen.push(folded);
        }
        Ok(StoreOption::Etcd(table))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;

    fn read(store: &str) -> Result<Option<StoreOption>, String> {
        let text = format!("clusterID: a\ncountersign: {{store: {store}}}\n");
        parse(text, Path::new("c.yaml"))
            .map(|loaded| loaded.config.countersign.store)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_and_tables() {
        let address = |text: &str| Ok(Some(StoreOption::Address(text.into())));
        assert_eq!(read("redb"), address("redb"));
        assert_eq!(read("\"etcd://a:1,b:2/x\""), address("etcd://a:1,b:2/x"));
        let table = read(
            "{endpoints: [\"a:1\"], Prefix: /x, caFile: ca, certFile: c, KEYFILE: k, username: u, passwordFile: p}",
        );
        let expected = EtcdTable {
            endpoints: vec!["a:1".into()],
            prefix: Some("/x".into()),
            ca_file: Some("ca".into()),
            cert_file: Some("c".into()),
            key_file: Some("k".into()),
            username: Some("u".into()),
            password_file: Some("p".into()),
        };
        assert_eq!(table, Ok(Some(StoreOption::Etcd(expected))));
    }

    #[test]
    fn what_cannot_be_meant() {
        for (store, message) in [
            (
                "{endpoint: [a]}",
                "unknown key `countersign.store.endpoint`",
            ),
            ("{endpoints: [a], password: x}", "passwordFile"),
            ("{prefix: a, Prefix: b}", "twice"),
            ("[a]", "etcd://"),
            ("5", "etcd://"),
        ] {
            let error = read(store).unwrap_err();
            assert!(error.contains(message), "{store}: {error}");
        }
    }
}

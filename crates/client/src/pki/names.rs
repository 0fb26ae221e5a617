//! The names that a serving certificate is for.

use std::net::IpAddr;

use x509_parser::prelude::{GeneralName, X509Certificate};

use super::PkiError;

/// Names that the serving certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub(super) hosts: Vec<Host>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    Address(IpAddr),
    Dns(String),
}

impl Names {
    /// The bind address, unless it is unspecified (`0.0.0.0`, `::`), and the host name, which may be an address; not twice.
    ///
    /// # Errors
    /// When the address is none, or the host name could not be in a certificate.
    pub fn new(address: &str, hostname: &str) -> Result<Self, PkiError> {
        let address: IpAddr = address
            .parse()
            .map_err(|_| PkiError::Address(address.chars().take(64).collect()))?;
        let mut hosts = Vec::new();
        if !address.is_unspecified() {
            hosts.push(Host::Address(address));
        }
        let host = match hostname.parse::<IpAddr>() {
            Ok(ip) => Host::Address(ip),
            Err(_) if is_dns_name(hostname) => Host::Dns(hostname.to_ascii_lowercase()),
            Err(_) => return Err(PkiError::Hostname(hostname.chars().take(256).collect())),
        };
        if !hosts.contains(&host) {
            hosts.push(host);
        }
        Ok(Self { hosts })
    }
}

impl Names {
    /// Also the names of a Service, as the reference webhook has them: `NAME`, `NAME.NS`, `NAME.NS.svc`, `NAME.NS.svc.cluster.local`.
    ///
    /// # Errors
    /// When they could not be in a certificate.
    pub fn and_service(mut self, name: &str, namespace: &str) -> Result<Self, PkiError> {
        for host in [
            name.to_owned(),
            format!("{name}.{namespace}"),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
        ] {
            if !is_dns_name(&host) {
                return Err(PkiError::Hostname(host.chars().take(256).collect()));
            }
            let host = Host::Dns(host);
            if !self.hosts.contains(&host) {
                self.hosts.push(host);
            }
        }
        Ok(self)
    }
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

pub(super) fn hosts_of(certificate: &X509Certificate<'_>) -> Vec<Host> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(Host::Dns((*name).to_owned())),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes)
                    .ok()
                    .map(|b| Host::Address(b.into())),
                _ => <[u8; 16]>::try_from(*bytes)
                    .ok()
                    .map(|b| Host::Address(b.into())),
            },
            _ => None,
        })
        .collect()
}

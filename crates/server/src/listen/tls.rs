//! TLS for the listeners: a certificate that is replaced while connections go on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read or holds no PEM of the expected kind.
    #[error("could not read `{path}`: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// Certificate and key do not belong together, or the key type is unknown.
    #[error("certificate `{path}` and its key cannot be used together")]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// rustls' reason.
        #[source]
        source: rustls::Error,
    },
    /// The client CA cannot be used.
    #[error("client CA `{path}` cannot be used: {reason}")]
    ClientCa {
        /// The CA's file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// The serving certificate in force; replaced atomically, read without a lock.
pub struct ServingCertificate {
    current: ArcSwap<CertifiedKey>,
}

impl ServingCertificate {
    /// Loads certificate chain and key from PEM files.
    ///
    /// # Errors
    /// When a file cannot be read or the two do not match.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            current: ArcSwap::from_pointee(load_pair(cert, key)?),
        })
    }

    /// Replaces the certificate by what the files hold now; on error the old one stays in force.
    ///
    /// # Errors
    /// As [`ServingCertificate::load`].
    pub fn reload(&self, cert: &Path, key: &Path) -> Result<(), TlsError> {
        self.current.store(Arc::new(load_pair(cert, key)?));
        Ok(())
    }

    /// Takes certificate chain and key as PEM texts; `place` names where they are from, for messages.
    ///
    /// # Errors
    /// When one of them is none, or the two do not match.
    pub fn from_pem(place: &Path, cert: &str, key: &str) -> Result<Self, TlsError> {
        Ok(Self {
            current: ArcSwap::from_pointee(pair_of(place, cert, key)?),
        })
    }

    /// Replaces the certificate by these; on error the old one stays in force.
    ///
    /// # Errors
    /// As [`ServingCertificate::from_pem`].
    pub fn replace(&self, place: &Path, cert: &str, key: &str) -> Result<(), TlsError> {
        self.current.store(Arc::new(pair_of(place, cert, key)?));
        Ok(())
    }

    /// When the leaf certificate in force ends, seconds since the epoch; 0 for one that cannot be read.
    #[must_use]
    pub fn ends_at(&self) -> i64 {
        let leaf = self.leaf();
        let parsed = leaf
            .as_ref()
            .map(|leaf| x509_parser::parse_x509_certificate(leaf));
        match parsed {
            Some(Ok((_, parsed))) => parsed.validity().not_after.timestamp(),
            Some(Err(_)) | None => 0,
        }
    }

    /// The leaf certificate in force, DER.
    #[must_use]
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        self.current.load().cert.first().cloned()
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServingCertificate")
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// Which clients may connect at all, when client certificates are demanded.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    /// PEM file with the CAs that sign client certificates.
    pub ca_file: PathBuf,
    /// Subject common names or DNS names accepted; empty accepts every certificate of the CA.
    pub allowed_names: Vec<String>,
}

/// What of TLS is spoken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whether TLS 1.2 is refused.
    pub only_1_3: bool,
    /// Suites of TLS 1.2 by their IANA names; empty means all. As in Go, those of TLS 1.3 are not chosen from.
    pub cipher_suites: Vec<&'static str>,
}

impl TlsOptions {
    fn suites(&self) -> Vec<rustls::SupportedCipherSuite> {
        let all = aws_lc_rs::default_provider().cipher_suites;
        if self.cipher_suites.is_empty() {
            return all;
        }
        let is_chosen = |suite: &rustls::SupportedCipherSuite| {
            let name = suite.suite().as_str().unwrap_or_default();
            suite.tls13().is_some() || self.cipher_suites.contains(&name)
        };
        all.into_iter().filter(is_chosen).collect()
    }

    /// Whether a suite of that name can be spoken at all.
    #[must_use]
    pub fn knows(name: &str) -> bool {
        let all = aws_lc_rs::default_provider().cipher_suites;
        let name_13 = name
            .strip_prefix("TLS_")
            .map(|rest| format!("TLS13_{rest}"));
        all.iter().any(|suite| {
            let known = suite.suite().as_str();
            known == Some(name) || known == name_13.as_deref()
        })
    }
}

/// The server side of TLS 1.2 and 1.3 with ALPN `h2` and `http/1.1`.
///
/// # Errors
/// When the client CA cannot be read.
pub fn server_config(
    certificate: Arc<ServingCertificate>,
    clients: Option<&ClientAuth>,
    options: &TlsOptions,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = options.suites();
    let provider = Arc::new(provider);
    let has_1_2 = provider
        .cipher_suites
        .iter()
        .any(|suite| suite.tls13().is_none());
    let versions: &[_] = match options.only_1_3 || !has_1_2 {
        true => &[&rustls::version::TLS13],
        false => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|source| TlsError::Pair {
            path: PathBuf::new(),
            source,
        })?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(auth) => {
            let refuse = |reason: String| TlsError::ClientCa {
                path: auth.ca_file.clone(),
                reason,
            };
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates(&auth.ca_file)? {
                roots
                    .add(certificate)
                    .map_err(|error| refuse(error.to_string()))?;
            }
            let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| refuse(error.to_string()))?;
            builder.with_client_cert_verifier(Arc::new(NamedClients {
                inner,
                allowed: auth.allowed_names.clone(),
            }))
        }
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Chain verification by webpki, then a check of the names in the client's certificate.
#[derive(Debug)]
struct NamedClients {
    inner: Arc<dyn ClientCertVerifier>,
    allowed: Vec<String>,
}

impl ClientCertVerifier for NamedClients {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: rustls::pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        if self.allowed.is_empty()
            || names(end_entity)
                .iter()
                .any(|name| self.allowed.contains(name))
        {
            Ok(verified)
        } else {
            Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return Vec::new();
    };
    let common = parsed
        .subject()
        .iter_common_name()
        .filter_map(|cn| cn.as_str().ok())
        .map(str::to_owned);
    let mut names: Vec<String> = common.collect();
    if let Ok(Some(alternative)) = parsed.subject_alternative_name() {
        names.extend(
            alternative
                .value
                .general_names
                .iter()
                .filter_map(|name| match name {
                    x509_parser::extensions::GeneralName::DNSName(dns) => Some((*dns).to_owned()),
                    _ => None,
                }),
        );
    }
    names
}

fn load_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = read_certificates(cert)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::Read {
        path: key.to_owned(),
        reason: error.to_string(),
    })?;
    CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()).map_err(|source| {
        TlsError::Pair {
            path: cert.to_owned(),
            source,
        }
    })
}

fn pair_of(place: &Path, cert: &str, key: &str) -> Result<CertifiedKey, TlsError> {
    let refuse = |reason: String| TlsError::Read {
        path: place.to_owned(),
        reason,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(cert.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(error.to_string()))?;
    if chain.is_empty() {
        return Err(refuse("it holds no certificate".into()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| refuse(error.to_string()))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|source| {
        TlsError::Pair {
            path: place.to_owned(),
            source,
        }
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason: String| TlsError::Read {
        path: path.to_owned(),
        reason,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| refuse(error.to_string()))?
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(error.to_string()))?;
    if chain.is_empty() {
        return Err(refuse("it holds no certificate".into()));
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_chosen_by_their_names() {
        let names = |options: &TlsOptions| -> Vec<String> {
            let suites = options.suites();
            let suites = suites.iter().filter(|suite| suite.tls13().is_none());
            suites
                .map(|suite| suite.suite().as_str().unwrap().to_owned())
                .collect()
        };
        assert!(names(&TlsOptions::default()).len() > 3);
        let chosen = TlsOptions {
            only_1_3: false,
            cipher_suites: vec![
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "TLS_RSA_WITH_RC4_128_SHA",
            ],
        };
        assert_eq!(names(&chosen), ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]);
        assert!(TlsOptions::knows("TLS_AES_128_GCM_SHA256"));
        assert!(!TlsOptions::knows("TLS_RSA_WITH_RC4_128_SHA"));
        let none = TlsOptions {
            only_1_3: false,
            cipher_suites: vec!["TLS_RSA_WITH_RC4_128_SHA"],
        };
        assert!(names(&none).is_empty());
        // Those of TLS 1.3 are always spoken.
        assert!(none.suites().len() >= 3);
    }
}

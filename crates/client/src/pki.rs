//! The webhook's certificates: a CA of its own and a serving certificate, made once, renewed in time.
//!
//! kube-apiserver reads the CA from its webhook kubeconfig once, when it starts. The CA therefore stays the same for years, and its
//! successor is published long before anything is signed by it:
//!
//! ```text
//!   age of the CA    0 ─────────────── 2/3 ──────── 5/6 ──────── end (10 years)
//!   signs            current           current      next
//!   in the bundle    current           current      next
//!                                      next         current, until it ends
//! ```
//!
//! An API server that was restarted at any time between 2/3 and 5/6 of the CA's life, 20 months, notices nothing.
//!
//! Files in the state directory: `cert.pem` and `key.pem` (serving; the names of aws-iam-authenticator), `ca.pem` (bundle, the current CA
//! first), `ca-key.pem`, and between 2/3 and 5/6 `next-ca.pem` and `next-ca-key.pem`. Keys have mode 0600, certificates 0644; each file is
//! written atomically. A `cert.pem` without a `ca.pem` beside it is somebody else's and is used as it is, as the reference would.

mod authority;
mod names;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::files::{self, Mode};
use authority::{Authority, Validity, to_pem};
use names::hosts_of;

pub use names::Names;

/// What a webhook serves with, and what its clients trust.
pub struct Serving {
    /// The serving certificate and those above it.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: Zeroizing<String>,
    /// The CA certificates for the webhook kubeconfig.
    pub ca_bundle_pem: String,
    /// What was done.
    pub outcome: Outcome,
    /// When to call [`ensure`] again; `None` for certificates that are not ours to renew.
    pub check_again_at: Option<Timestamp>,
}

/// What [`ensure`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was there and stays.
    Loaded,
    /// Certificates and keys were made.
    Created,
    /// A serving certificate was signed anew, or the next CA was made or took over.
    Renewed,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The file system refused.
    #[error("could not {verb} {}", path.display())]
    Io {
        /// `read` or `write`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{} does not hold {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
    },
    /// `cert.pem` and `key.pem` do not belong together.
    #[error("cert.pem and key.pem in {} do not belong together", .0.display())]
    Mismatch(PathBuf),
    /// The bind address is no address.
    #[error("`{0}` is not an IP address")]
    Address(String),
    /// The host name is neither an address nor a DNS name.
    #[error("`{0}` is not a host name")]
    Hostname(String),
    /// A certificate could not be made.
    #[error("could not make a certificate")]
    Generate(#[from] rcgen::Error),
    /// The random source failed.
    #[error("no random numbers")]
    Random,
}

/// Loads the certificates of the state directory; makes what is missing, renews what is due.
///
/// # Errors
/// When files cannot be read or written, or hold something else. A directory that cannot be written is no error as long as nothing
/// has to be written.
pub fn ensure(state_dir: &Path, names: &Names, now: Timestamp) -> Result<Serving, PkiError> {
    let store = Store {
        place: state_dir,
        files: Files::Directory,
        serving_days: None,
    };
    ensure_in(&store, names, now)
}

/// The same in memory, for certificates that are kept elsewhere, such as in a Secret: `files` holds them under the names that they
/// have in a state directory, and holds afterwards what is to be kept. `place` names where they are, for messages. The serving
/// certificate is for `serving_days` days, and made anew after two thirds of them.
///
/// # Errors
/// When what is there is none of ours and cannot be used, or nothing can be made. `files` is as it was then.
pub fn ensure_held(
    place: &Path,
    files: &mut BTreeMap<&'static str, Zeroizing<String>>,
    names: &Names,
    now: Timestamp,
    serving_days: u16,
) -> Result<Serving, PkiError> {
    let held = RefCell::new(files.clone());
    let store = Store {
        place,
        files: Files::Memory(&held),
        serving_days: Some(serving_days),
    };
    let serving = ensure_in(&store, names, now)?;
    *files = held.into_inner();
    Ok(serving)
}

/// When the first certificate of a chain in PEM ends; none for what is no certificate.
#[must_use]
pub fn ends_at(certificate_pem: &str) -> Option<Timestamp> {
    let leaf = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&leaf).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

/// The names under which [`ensure_held`] keeps certificates and keys: those of the state directory.
pub const FILES: [&str; 6] = [
    "cert.pem",
    "key.pem",
    "ca.pem",
    "ca-key.pem",
    "next-ca.pem",
    "next-ca-key.pem",
];

fn ensure_in(store: &Store<'_>, names: &Names, now: Timestamp) -> Result<Serving, PkiError> {
    let (Some(certificate), Some(key)) = (store.read("cert.pem")?, store.read("key.pem")?) else {
        return create(store, names, now);
    };
    let (Some(bundle), Some(ca_key)) = (store.read("ca.pem")?, store.read("ca-key.pem")?) else {
        return load_foreign(store, certificate, key);
    };
    let mut own = Own::load(store, &bundle, &ca_key)?;
    let mut changed = own.advance(store, now)?;
    let mut certificate = certificate;
    let mut key = key;
    if !own.serves(store, &certificate, &key, names, now)? {
        let pair = match store.serving_days {
            None => KeyPair::from_pem(&key).or_else(|_| KeyPair::generate())?,
            // What is renewed often gets a new key each time.
            Some(_) => KeyPair::generate()?,
        };
        key = Zeroizing::new(pair.serialize_pem());
        certificate =
            Zeroizing::new(
                own.current
                    .sign_serving(&pair, names, now, store.serving_days)?,
            );
        store.write("key.pem", &key, Mode::Private)?;
        store.write("cert.pem", &certificate, Mode::Public)?;
        changed = true;
    }
    let leaf = Validity::of(
        &store.certificates("cert.pem", &certificate)?,
        store,
        "cert.pem",
    )?;
    let outcome = if changed {
        Outcome::Renewed
    } else {
        Outcome::Loaded
    };
    Ok(Serving {
        ca_bundle_pem: own.bundle(now),
        check_again_at: Some(own.next_step().min(leaf.at(2, 3))),
        certificate_pem: certificate.to_string(),
        key_pem: key,
        outcome,
    })
}

fn create(store: &Store<'_>, names: &Names, now: Timestamp) -> Result<Serving, PkiError> {
    let ca = Authority::generate(now)?;
    let pair = KeyPair::generate()?;
    let certificate = ca.sign_serving(&pair, names, now, store.serving_days)?;
    let key = Zeroizing::new(pair.serialize_pem());
    if let Files::Directory = store.files {
        files::create_private_directory(store.place)
            .map_err(|source| store.fail("write", "", source))?;
    }
    store.write("ca-key.pem", &ca.key_pem(), Mode::Private)?;
    store.write("ca.pem", &ca.pem, Mode::Public)?;
    store.write("key.pem", &key, Mode::Private)?;
    store.write("cert.pem", &certificate, Mode::Public)?;
    let leaf = Validity::of(
        &store.certificates("cert.pem", &certificate)?,
        store,
        "cert.pem",
    )?;
    Ok(Serving {
        check_again_at: Some(ca.validity.at(2, 3).min(leaf.at(2, 3))),
        certificate_pem: certificate,
        key_pem: key,
        ca_bundle_pem: ca.pem,
        outcome: Outcome::Created,
    })
}

/// Certificates that somebody else made, such as the reference's self-signed one: its clients trust the certificate itself, or those
/// above it if there are any.
fn load_foreign(
    store: &Store<'_>,
    certificate: Zeroizing<String>,
    key: Zeroizing<String>,
) -> Result<Serving, PkiError> {
    let chain = store.certificates("cert.pem", &certificate)?;
    if !belong_together(&chain, &key) {
        return Err(PkiError::Mismatch(store.place.to_owned()));
    }
    let ca_bundle_pem = match store.read("ca.pem")? {
        Some(bundle) => bundle.to_string(),
        None => {
            let above = chain.get(1..).filter(|above| !above.is_empty());
            above.unwrap_or(&chain).iter().map(to_pem).collect()
        }
    };
    Ok(Serving {
        certificate_pem: certificate.to_string(),
        key_pem: key,
        ca_bundle_pem,
        outcome: Outcome::Loaded,
        check_again_at: None,
    })
}

/// The CAs of our own state directory.
struct Own {
    current: Authority,
    next: Option<Authority>,
    /// Older CA certificates, still in the bundle.
    older: Vec<CertificateDer<'static>>,
    /// A crash in the middle of taking over left the next CA's key beside the old bundle.
    interrupted: bool,
}

impl Own {
    fn load(store: &Store<'_>, bundle: &str, ca_key: &str) -> Result<Self, PkiError> {
        let certificates = store.certificates("ca.pem", bundle)?;
        let next = match (store.read("next-ca.pem")?, store.read("next-ca-key.pem")?) {
            (Some(pem), Some(key)) => {
                let certificates = store.certificates("next-ca.pem", &pem)?;
                Some(Authority::load(store, "next-ca.pem", &certificates, &key)?)
            }
            _ => None,
        };
        // A crash in the middle of taking over leaves the new key beside the old bundle.
        let interrupted = next.as_ref().is_some_and(|next| *next.key_pem() == ca_key);
        let current_key = if interrupted { None } else { Some(ca_key) };
        let (current, next, older) = match (current_key, next) {
            (None, Some(next)) => (next, None, certificates),
            (_, next) => {
                let current = Authority::load(store, "ca.pem", &certificates, ca_key)?;
                (current, next, certificates)
            }
        };
        let older = older
            .into_iter()
            .filter(|der| *der != current.der && next.as_ref().is_none_or(|n| n.der != *der))
            .collect();
        Ok(Self {
            current,
            next,
            older,
            interrupted,
        })
    }

    /// Makes the next CA, or lets it take over, when it is time; says whether anything was written.
    fn advance(&mut self, store: &Store<'_>, now: Timestamp) -> Result<bool, PkiError> {
        let mut changed = false;
        if now >= self.current.validity.at(2, 3) && self.next.is_none() {
            let next = Authority::generate(now)?;
            store.write("next-ca-key.pem", &next.key_pem(), Mode::Private)?;
            store.write("next-ca.pem", &next.pem, Mode::Public)?;
            self.next = Some(next);
            changed = true;
        }
        if now >= self.current.validity.at(5, 6)
            && let Some(next) = self.next.take()
        {
            let old = std::mem::replace(&mut self.current, next);
            self.older.push(old.der);
            store.write("ca-key.pem", &self.current.key_pem(), Mode::Private)?;
            self.interrupted = true;
        }
        if self.interrupted {
            store.write("ca.pem", &self.bundle(now), Mode::Public)?;
            store.remove("next-ca.pem")?;
            store.remove("next-ca-key.pem")?;
            self.interrupted = false;
            changed = true;
        } else if changed {
            store.write("ca.pem", &self.bundle(now), Mode::Public)?;
        }
        Ok(changed)
    }

    fn next_step(&self) -> Timestamp {
        match self.next {
            None => self.current.validity.at(2, 3),
            Some(_) => self.current.validity.at(5, 6),
        }
    }

    /// The current CA first; certificates that ended are left out.
    fn bundle(&self, now: Timestamp) -> String {
        let mut pem = self.current.pem.clone();
        if let Some(next) = &self.next {
            pem.push_str(&next.pem);
        }
        let alive = |der: &&CertificateDer<'_>| {
            X509Certificate::from_der(der)
                .is_ok_and(|(_, c)| c.validity().not_after.timestamp() > now.as_second())
        };
        pem.extend(self.older.iter().filter(alive).map(to_pem));
        pem
    }

    /// Whether the serving certificate is the current CA's, for these names, young enough, and fits its key.
    fn serves(
        &self,
        store: &Store<'_>,
        pem: &str,
        key: &str,
        names: &Names,
        now: Timestamp,
    ) -> Result<bool, PkiError> {
        let chain = store.certificates("cert.pem", pem)?;
        let Some((_, leaf)) = chain
            .first()
            .and_then(|der| X509Certificate::from_der(der).ok())
        else {
            return Ok(false);
        };
        let Ok((_, ca)) = X509Certificate::from_der(&self.current.der) else {
            return Ok(false);
        };
        let validity = Validity::of(&chain, store, "cert.pem")?;
        let mut wanted = names.hosts.clone();
        let mut found = hosts_of(&leaf);
        wanted.sort();
        found.sort();
        Ok(belong_together(&chain, key)
            && wanted == found
            && now < validity.at(2, 3)
            && leaf.issuer() == ca.subject()
            && chain.get(1) == Some(&self.current.der))
    }
}

/// Whether the key is that of the first certificate, for keys in PKCS#8, PKCS#1 and SEC 1.
fn belong_together(chain: &[CertificateDer<'static>], key: &str) -> bool {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    PrivateKeyDer::from_pem_slice(key.as_bytes()).is_ok_and(|key| {
        rustls::sign::CertifiedKey::from_der(chain.to_vec(), key, &provider).is_ok()
    })
}

/// The state directory, or what stands in for it.
struct Store<'a> {
    place: &'a Path,
    files: Files<'a>,
    /// How long serving certificates are valid; as long as the CA unless said.
    serving_days: Option<u16>,
}

enum Files<'a> {
    Directory,
    Memory(&'a RefCell<BTreeMap<&'static str, Zeroizing<String>>>),
}

impl Store<'_> {
    fn path(&self, file: &str) -> PathBuf {
        self.place.join(file)
    }

    fn read(&self, file: &'static str) -> Result<Option<Zeroizing<String>>, PkiError> {
        if let Files::Memory(held) = self.files {
            return Ok(held.borrow().get(file).cloned());
        }
        match std::fs::read_to_string(self.path(file)) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.fail("read", file, source)),
        }
    }

    fn write(&self, file: &'static str, text: &str, mode: Mode) -> Result<(), PkiError> {
        if let Files::Memory(held) = self.files {
            held.borrow_mut()
                .insert(file, Zeroizing::new(text.to_owned()));
            return Ok(());
        }
        files::write_atomically(&self.path(file), text.as_bytes(), mode)
            .map_err(|source| self.fail("write", file, source))
    }

    fn remove(&self, file: &'static str) -> Result<(), PkiError> {
        if let Files::Memory(held) = self.files {
            held.borrow_mut().remove(file);
            return Ok(());
        }
        match std::fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(self.fail("write", file, error))
            }
            _ => Ok(()),
        }
    }

    fn certificates(
        &self,
        file: &'static str,
        pem: &str,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        match found {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(PkiError::Content {
                path: self.path(file),
                expected: "certificates in PEM",
            }),
        }
    }

    fn fail(&self, verb: &'static str, file: &str, source: std::io::Error) -> PkiError {
        PkiError::Io {
            verb,
            path: self.path(file),
            source,
        }
    }
}

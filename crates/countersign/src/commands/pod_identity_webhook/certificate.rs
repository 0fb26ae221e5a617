//! `--in-cluster`: a CA and a serving certificate of our own, in a Secret that all replicas read (webhook spec, section 8.3).
//!
//! The reference asks for a certificate with a CertificateSigningRequest, of a signer that no longer exists. Here the first replica makes
//! a CA for ten years and a certificate for ninety days, and writes both into the Secret; the others take them from there. Who finds
//! that something is due makes it, and the Secret's version decides between two who find it at once: there is no leader, and no Lease.
//!
//! A certificate of another CA is served only after the registration has had that CA for some seconds, so that no API server meets a
//! certificate that it does not trust yet. A Secret that is gone, or holds something that cannot be used, is made anew, with a new CA:
//! deleting it is how one asks for that. One that somebody else made, such as cert-manager, is used as it is and never written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use countersign_client::pki::{self, Names, Outcome, PkiError};
use countersign_pods::Serving as Flags;
use countersign_server::health::{Report, State};
use countersign_server::webhook::admission::KeptCertificate;
use countersign_sources::kubernetes::{BundleOutcome, KubernetesAccess, TlsSecret, Written};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::report::Failure;

/// How long a serving certificate is valid; after two thirds of it comes the next.
const SERVING_DAYS: u16 = 90;
/// How often Secret and registration are looked at.
const EVERY: Duration = Duration::from_secs(5);
/// What an API server is given to hear of a CA before its first certificate is served.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a start waits for the Secret.
const FIRST: Duration = Duration::from_secs(60);
/// How often a look begins again because somebody else was faster.
const TRIES: usize = 5;
/// Files of a state directory, and the keys of a Secret where they are.
const KEYS: [&str; 6] = [
    "tls.crt",
    "tls.key",
    "ca.crt",
    "ca.key",
    "next-ca.crt",
    "next-ca.key",
];

/// Looks after the certificate, from a task of its own.
struct Keeper {
    secret: TlsSecret,
    place: PathBuf,
    names: Names,
    registration: String,
    problem: Arc<Mutex<Option<String>>>,
    kept: watch::Sender<Arc<KeptCertificate>>,
    /// The CAs that the registration has, and since when.
    published: Option<(String, Instant)>,
}

/// How it is doing.
pub(super) struct Health {
    problem: Arc<Mutex<Option<String>>>,
}

impl Health {
    /// A warning only: the certificate in force goes on to be served, and its end is checked by itself.
    pub(super) fn report(&self, report: &mut Report) {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match &*problem {
            None => report.add("tls-secret", State::Ok, ""),
            Some(problem) => report.add("tls-secret", State::Warning, problem.clone()),
        }
    }
}

/// The certificate, once there is one, and what keeps it.
pub(super) async fn start(
    flags: &Flags,
    registration: String,
) -> Result<(watch::Receiver<Arc<KeptCertificate>>, Health), Failure> {
    let access = KubernetesAccess {
        kubeconfig: flags.kubeconfig.clone(),
        master: flags.kube_api.clone(),
    };
    let client = access.client().await.map_err(|error| {
        Failure::usage(error).hint(
            "run in a pod with a service account, give `--kubeconfig=FILE`, or bring a certificate with `--in-cluster=false`",
        )
    })?;
    let names = Names::new("127.0.0.1", "localhost")
        .and_then(|names| names.and_service(&flags.service_name, &flags.namespace))
        .map_err(Failure::usage)?;
    let secret = TlsSecret::new(client, &flags.namespace, &flags.tls_secret);
    let place = PathBuf::from(format!("Secret {}/{}", flags.namespace, flags.tls_secret));
    let deadline = Instant::now() + FIRST;
    let serving = loop {
        match look(&secret, &place, &names).await {
            Ok(serving) => break serving,
            Err(problem) if Instant::now() < deadline => {
                tracing::warn!(problem, "no certificate yet");
            }
            Err(problem) => {
                return Err(Failure::unknown(anyhow!("no certificate: {problem}")).hint(
                    "the service account needs `create` on secrets, and `get` and `patch` on this one: `countersign \
                     pod-identity-webhook manifest` prints it",
                ));
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    let problem = Arc::default();
    let (kept, receiver) = watch::channel(Arc::new(certificate(&place, &serving)));
    let keeper = Keeper {
        secret,
        place,
        names,
        registration,
        problem: Arc::clone(&problem),
        kept,
        published: None,
    };
    tokio::spawn(keeper.run(serving));
    Ok((receiver, Health { problem }))
}

impl Keeper {
    async fn run(mut self, first: pki::Serving) {
        let mut serving = Ok(first);
        loop {
            let outcome = match serving {
                Ok(serving) => self.keep(&serving).await,
                Err(problem) => Err(problem),
            };
            self.tell(outcome.err());
            if self.kept.is_closed() {
                return;
            }
            tokio::time::sleep(EVERY).await;
            serving = look(&self.secret, &self.place, &self.names).await;
        }
    }

    /// Publishes the CAs, and serves the certificate when they are known.
    async fn keep(&mut self, serving: &pki::Serving) -> Result<(), String> {
        let cas = &serving.ca_bundle_pem;
        let outcome = self.secret.publish(&self.registration, cas).await;
        let is_new = self.kept.borrow().certificate_pem != serving.certificate_pem;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            // Better not trusted by some than ended.
            Err(_) if is_new && self.has_ended() => BundleOutcome::NotThere,
            Err(problem) => return Err(problem),
        };
        match outcome {
            BundleOutcome::NotThere => {
                self.published = None;
                self.serve(serving);
                return Err(format!(
                    "there is no MutatingWebhookConfiguration `{}`",
                    self.registration
                ));
            }
            BundleOutcome::Patched => {
                tracing::info!(name = self.registration, "caBundle is up to date");
            }
            BundleOutcome::UpToDate => {}
        }
        let now = Instant::now();
        let since = match &self.published {
            Some((published, since)) if published == cas => *since,
            _ => now,
        };
        self.published = Some((cas.clone(), since));
        // The next look serves it.
        if now.duration_since(since) >= SETTLE {
            self.serve(serving);
        }
        Ok(())
    }

    fn serve(&self, serving: &pki::Serving) {
        if self.kept.borrow().certificate_pem != serving.certificate_pem {
            let certificate = Arc::new(certificate(&self.place, serving));
            self.kept.send_replace(certificate);
        }
    }

    fn has_ended(&self) -> bool {
        let end = pki::ends_at(&self.kept.borrow().certificate_pem);
        end.is_none_or(|end| end <= Timestamp::now())
    }

    fn tell(&self, problem: Option<String>) {
        let mut told = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != problem {
            match &problem {
                Some(problem) => tracing::warn!(problem, "certificate and registration"),
                None => tracing::info!("certificate and registration are in order"),
            }
            *told = problem;
        }
    }
}

fn certificate(place: &std::path::Path, serving: &pki::Serving) -> KeptCertificate {
    KeptCertificate {
        place: place.to_owned(),
        certificate_pem: serving.certificate_pem.clone(),
        key_pem: serving.key_pem.clone(),
    }
}

/// Reads the Secret, makes what is missing or due, and writes it unless somebody else was faster, whose work is taken then.
async fn look(
    secret: &TlsSecret,
    place: &std::path::Path,
    names: &Names,
) -> Result<pki::Serving, String> {
    for _ in 0..TRIES {
        let held = secret.read().await?;
        let (version, is_ours, mut data) = match held {
            None => (None, true, BTreeMap::new()),
            Some(held) => (Some(held.version), held.is_ours, held.data),
        };
        let mut files = BTreeMap::new();
        for (file, key) in pki::FILES.into_iter().zip(KEYS) {
            if let Some(text) = data.remove(key) {
                files.insert(file, text);
            }
        }
        let is_empty = files.is_empty();
        // Nobody else keeps a CA's key beside its certificate.
        let is_ours = is_ours || is_empty || files.contains_key("ca-key.pem");
        if is_ours && !files.contains_key("ca-key.pem") {
            files.clear();
        }
        let serving = match ensure(place, &mut files, names) {
            Err(PkiError::Content { .. } | PkiError::Mismatch(_)) if is_ours => {
                tracing::warn!(
                    secret = %place.display(),
                    "what the Secret holds cannot be used: it is made anew, with a new CA"
                );
                files.clear();
                ensure(place, &mut files, names)
            }
            other => other,
        };
        let serving = serving.map_err(|error| words(&error))?;
        if serving.outcome == Outcome::Loaded {
            return Ok(serving);
        }
        if !is_ours {
            return Err(format!(
                "{} lacks `tls.crt` or `tls.key`, and was not made here: delete it, or complete it",
                place.display()
            ));
        }
        let texts = pki::FILES
            .into_iter()
            .zip(KEYS)
            .map(|(file, key)| (key, files.get(file).map(|text| text.as_str())));
        let written = match &version {
            None => {
                let texts = texts.filter_map(|(key, text)| Some((key, text?)));
                secret.create(&texts.collect()).await?
            }
            Some(version) => secret.update(version, &texts.collect()).await?,
        };
        match written {
            Written::Done => {
                tracing::info!(secret = %place.display(), "certificate written");
                return Ok(serving);
            }
            Written::TooLate => {}
        }
    }
    Err(format!("{} changes all the time", place.display()))
}

fn ensure(
    place: &std::path::Path,
    files: &mut BTreeMap<&'static str, Zeroizing<String>>,
    names: &Names,
) -> Result<pki::Serving, PkiError> {
    pki::ensure_held(place, files, names, Timestamp::now(), SERVING_DAYS)
}

fn words(error: &PkiError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

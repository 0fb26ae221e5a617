//! The admission webhook alone, as the reference has it: a TLS port with `/mutate`, and a plain one with the metrics (webhook spec,
//! section 1). Nothing else of the server runs beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use countersign_pods::{Given, MAX_REVIEW_BYTES};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::mutate::Admission;
use super::{Readiness, health_and_metrics, plain};
use crate::app::{CertificateFiles, follow_certificate};
use crate::events::Events;
use crate::listen::tls::{ServingCertificate, TlsError, TlsOptions, server_config};
use crate::listen::{Answer, BodyError, Handler, Limits, Peer, read_body, serve};
use crate::metrics::Metrics;

/// A certificate and its key that are kept in memory.
pub struct KeptCertificate {
    /// Where they are from, for messages.
    pub place: PathBuf,
    /// Certificate chain, PEM.
    pub certificate_pem: String,
    /// Private key, PEM.
    pub key_pem: Zeroizing<String>,
}

/// Where the serving certificate comes from.
pub enum AdmissionCertificate {
    /// Files, which are followed.
    Files(CertificateFiles),
    /// Whoever keeps it; each one that comes is served from the next connection on.
    Kept(watch::Receiver<Arc<KeptCertificate>>),
}

/// What the process is made of.
pub struct AdmissionApp {
    /// Where AdmissionReviews are answered.
    pub listener: TcpListener,
    /// Where metrics and readiness are told, without TLS.
    pub metrics_listener: TcpListener,
    /// The certificate.
    pub certificate: AdmissionCertificate,
    /// What of TLS is spoken.
    pub tls: TlsOptions,
    /// What answers.
    pub admission: Arc<Admission>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where decisions are told.
    pub events: Events,
    /// What readiness is made of.
    pub readiness: Readiness,
    /// `--enable-debugging-handlers`.
    pub debugging: bool,
    /// The caps of each listener.
    pub limits: Limits,
}

/// A running [`AdmissionApp`].
#[derive(Debug)]
pub struct RunningAdmission {
    tasks: TaskTracker,
    shutdown: watch::Sender<bool>,
}

impl AdmissionApp {
    /// Starts both listeners. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub fn start(self) -> Result<RunningAdmission, TlsError> {
        let (shutdown, stop) = watch::channel(false);
        let tasks = TaskTracker::new();
        let serving = Arc::new(match &self.certificate {
            AdmissionCertificate::Files(files) => {
                ServingCertificate::load(&files.cert, &files.key)?
            }
            AdmissionCertificate::Kept(kept) => {
                let kept = kept.borrow();
                ServingCertificate::from_pem(&kept.place, &kept.certificate_pem, &kept.key_pem)?
            }
        });
        let tls = server_config(Arc::clone(&serving), None, &self.tls)?;
        let mutate = Arc::clone(self.metrics.mutate());
        mutate.certificate(serving.ends_at(), None);
        let mut since = Instant::now();
        let replaced = move |serving: &ServingCertificate| {
            mutate.certificate(serving.ends_at(), Some(since.elapsed()));
            since = Instant::now();
        };
        match self.certificate {
            AdmissionCertificate::Files(files) => {
                tasks.spawn(follow_certificate(serving, files, replaced, stop.clone()));
            }
            AdmissionCertificate::Kept(kept) => {
                tasks.spawn(follow_kept(serving, kept, replaced, stop.clone()));
            }
        }
        let handler = AdmissionHandler {
            admission: self.admission,
            metrics: self.metrics,
            readiness: self.readiness,
            events: self.events,
            debugging: self.debugging,
        };
        let plain = PlainHandler(handler.clone());
        let (limits, stop_plain) = (self.limits, stop.clone());
        tasks.spawn(serve(
            self.listener,
            Some(tls),
            handler,
            limits,
            Arc::default(),
            stop,
        ));
        let listener = self.metrics_listener;
        tasks.spawn(serve(
            listener,
            None,
            plain,
            limits,
            Arc::default(),
            stop_plain,
        ));
        tasks.close();
        Ok(RunningAdmission { tasks, shutdown })
    }
}

impl RunningAdmission {
    /// Stops accepting, lets requests under way finish, and returns when all are done or their ten seconds are over.
    pub async fn stop(self) {
        let _ = self.shutdown.send(true);
        self.tasks.wait().await;
    }
}

/// Serves each certificate that comes; one that cannot be used leaves the old one in force.
async fn follow_kept(
    serving: Arc<ServingCertificate>,
    mut kept: watch::Receiver<Arc<KeptCertificate>>,
    mut replaced: impl FnMut(&ServingCertificate) + Send,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            changed = kept.changed() => if changed.is_err() { return },
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let new = Arc::clone(&kept.borrow_and_update());
        match serving.replace(&new.place, &new.certificate_pem, &new.key_pem) {
            Ok(()) => {
                tracing::info!("serving certificate replaced");
                replaced(&serving);
            }
            Err(error) => {
                tracing::warn!(%error, "new serving certificate not usable; the old one stays in force");
            }
        }
    }
}

#[derive(Clone)]
struct AdmissionHandler {
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    events: Events,
    debugging: bool,
}

impl AdmissionHandler {
    fn health(&self, request: &Request<Incoming>) -> Answer {
        health_and_metrics(request, &self.metrics, &self.readiness).unwrap_or_else(not_found)
    }
}

fn not_found() -> Answer {
    plain(StatusCode::NOT_FOUND, "404 page not found")
}

impl Handler for AdmissionHandler {
    async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Answer {
        match request.uri().path() {
            "/mutate" => {
                self.admission
                    .answer(None, peer, request, &self.events)
                    .await
            }
            "/debug/alpha/deny" if self.debugging => deny(request).await,
            "/debug/alpha/500" if self.debugging => {
                plain(StatusCode::INTERNAL_SERVER_ERROR, "as it was asked for")
            }
            // Numbers are told where no certificate is needed, and there alone, as by the reference.
            "/metrics" => not_found(),
            _ => self.health(&request),
        }
    }
}

/// The port without TLS.
#[derive(Clone)]
struct PlainHandler(AdmissionHandler);

impl Handler for PlainHandler {
    async fn handle(&self, _: Peer, request: Request<Incoming>) -> Answer {
        let cluster = self.0.admission.default_cluster();
        let accounts = cluster.and_then(|cluster| cluster.accounts.as_ref());
        match (request.uri().path(), accounts) {
            ("/debug/alpha/cache", Some(_)) if self.0.debugging => {
                super::json(StatusCode::OK, cache(&self.0.admission).to_string().into())
            }
            ("/debug/alpha/cache/clear", Some(accounts)) if self.0.debugging => {
                let forgotten = accounts.clear();
                tracing::info!(forgotten, "service accounts forgotten, as it was asked for");
                plain(StatusCode::OK, &format!("{forgotten} forgotten"))
            }
            _ => self.0.health(&request),
        }
    }
}

/// What is known of accounts with annotations, and how many of everything there are.
fn cache(admission: &Admission) -> Value {
    let Some(cluster) = admission.default_cluster() else {
        return Value::Null;
    };
    let accounts = cluster.accounts.as_ref();
    let health = accounts.map(|accounts| accounts.health());
    let annotated = accounts.map(|accounts| accounts.annotated());
    let annotated: serde_json::Map<_, _> = annotated
        .into_iter()
        .flatten()
        .map(|(key, account)| {
            let profiles: serde_json::Map<_, _> = account
                .profiles
                .iter()
                .map(|(name, role)| (name.to_string(), json!(role)))
                .collect();
            let told = json!({
                "roleArn": account.role_arn,
                "audience": account.audience,
                "stsRegionalEndpoints": readable(&account.regional_sts),
                "tokenExpiration": readable(&account.token_expiration),
                "expectAssociation": account.expects_association,
                "profiles": profiles,
            });
            (key.into(), told)
        })
        .collect();
    json!({
        "serviceAccounts": annotated,
        "serviceAccountsKnown": health.map(|health| health.accounts),
        "roleMapKeys": cluster.role_map.as_ref().map(|map| map.current().map.len()),
        "identities": cluster.identities.as_ref().map(|file| file.current().len()),
    })
}

fn readable<T: Copy>(given: &Given<T>) -> Option<T> {
    match given {
        Given::Value(value) => Some(*value),
        Given::Absent | Given::Unreadable(_) => None,
    }
}

/// `/debug/alpha/deny`: refuses whatever is asked, so that it can be seen what a cluster makes of it.
async fn deny(request: Request<Incoming>) -> Answer {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Review {
        api_version: String,
        request: Asked,
    }
    #[derive(Deserialize)]
    struct Asked {
        uid: String,
    }
    let body: Bytes = match read_body(request.into_body(), MAX_REVIEW_BYTES).await {
        Ok(body) => body,
        Err(error @ BodyError::TooLarge) => {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string());
        }
        Err(error @ BodyError::Broken) => {
            return plain(StatusCode::BAD_REQUEST, &error.to_string());
        }
    };
    let Ok(review) = serde_json::from_slice::<Review>(&body) else {
        return plain(StatusCode::BAD_REQUEST, "expected an AdmissionReview");
    };
    let answer = json!({
        "apiVersion": review.api_version, "kind": "AdmissionReview",
        "response": {
            "uid": review.request.uid, "allowed": false,
            "status": {"message": "pod identity: refused by /debug/alpha/deny"},
        },
    });
    super::json(StatusCode::OK, answer.to_string().into())
}

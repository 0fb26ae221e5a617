//! The listeners of one process, put together and run until told to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_store::Directory;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::access_policies::AccessPolicies;
use crate::audit::{Audit, reopen_on_hangup};
use crate::aws::AwsApi;
use crate::listen::tls::{ClientAuth, ServingCertificate, TlsError, TlsOptions, server_config};
use crate::listen::{Answer, Handler, Limits, ListenerCounters, Peer, serve};
use crate::metrics::Metrics;
use crate::usage::{Usage, keep_usage};
use crate::webhook::{Readiness, Webhook, health_and_metrics, plain};

/// How often certificate files are looked at. Mounted volumes change by swapping links, which only looking finds everywhere.
const CERTIFICATE_POLL: Duration = Duration::from_secs(2);

/// How long the process waits at its end for what is left to write.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// A certificate and its key on disk.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// The webhook listener.
pub struct WebhookListener {
    /// Where it listens.
    pub listener: TcpListener,
    /// Its certificate, reloaded when the files change.
    pub certificate: CertificateFiles,
    /// Which clients may connect; all when absent.
    pub clients: Option<ClientAuth>,
    /// What of TLS it speaks.
    pub tls: TlsOptions,
    /// What it answers.
    pub webhook: Webhook,
}

/// The listener of the AWS APIs.
pub struct AwsListener {
    /// Where it listens.
    pub listener: TcpListener,
    /// Its certificate; plain HTTP when absent.
    pub certificate: Option<CertificateFiles>,
    /// What it answers.
    pub api: Arc<AwsApi>,
}

/// Everything a process listens on.
pub struct App {
    /// The webhook.
    pub webhook: WebhookListener,
    /// The AWS APIs, with the embedded IAM and STS.
    pub aws: Option<AwsListener>,
    /// Plain-HTTP health, `ok` on every path, as the reference.
    pub health: Option<TcpListener>,
    /// Plain-HTTP metrics and readiness.
    pub metrics_listener: Option<TcpListener>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The readiness.
    pub readiness: Readiness,
    /// The caps.
    pub limits: Limits,
    /// The audit log of the AWS APIs.
    pub audit: Audit,
    /// What was used when, and the directory it is stored in.
    pub usage: Option<(Arc<Usage>, Directory)>,
    /// The access policies, whose file is followed.
    pub policies: Arc<AccessPolicies>,
}

/// A running [`App`].
#[derive(Debug)]
pub struct Running {
    tasks: TaskTracker,
    shutdown: watch::Sender<bool>,
    /// Ends after the last call, and waits for what it has to store.
    usage: Option<(watch::Sender<bool>, JoinHandle<()>)>,
    audit: Audit,
}

impl App {
    /// Starts every listener. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn start(self) -> Result<Running, TlsError> {
        let (shutdown, stop) = watch::channel(false);
        let tasks = TaskTracker::new();
        let WebhookListener {
            listener,
            certificate,
            clients,
            tls: tls_options,
            webhook,
        } = self.webhook;
        let serving = Arc::new(ServingCertificate::load(
            &certificate.cert,
            &certificate.key,
        )?);
        let tls = server_config(Arc::clone(&serving), clients.as_ref(), &tls_options)?;
        let mutate = Arc::clone(self.metrics.mutate());
        mutate.certificate(serving.ends_at(), None);
        let mut since = Instant::now();
        tasks.spawn(follow_certificate(
            serving,
            certificate,
            move |serving| {
                mutate.certificate(serving.ends_at(), Some(since.elapsed()));
                since = Instant::now();
            },
            stop.clone(),
        ));
        tasks.spawn(self.policies.follow(stop.clone()));
        let counters = Arc::new(ListenerCounters::default());
        tasks.spawn(serve(
            listener,
            Some(tls),
            webhook,
            self.limits,
            counters,
            stop.clone(),
        ));
        if let Some(AwsListener {
            listener,
            certificate,
            api,
        }) = self.aws
        {
            let handler = AwsHandler {
                api,
                metrics: Arc::clone(&self.metrics),
                readiness: Arc::clone(&self.readiness),
                calls: tasks.clone(),
            };
            let tls = match certificate {
                None => None,
                Some(files) => {
                    let serving = Arc::new(ServingCertificate::load(&files.cert, &files.key)?);
                    let config = server_config(Arc::clone(&serving), None, &TlsOptions::default())?;
                    tasks.spawn(follow_certificate(serving, files, |_| {}, stop.clone()));
                    Some(config)
                }
            };
            tasks.spawn(serve(
                listener,
                tls,
                handler,
                self.limits,
                Arc::default(),
                stop.clone(),
            ));
        }
        if let Some(listener) = self.health {
            tasks.spawn(serve(
                listener,
                None,
                AlwaysOk,
                self.limits,
                Arc::default(),
                stop.clone(),
            ));
        }
        if let Some(listener) = self.metrics_listener {
            let handler = MetricsHandler {
                metrics: self.metrics,
                readiness: self.readiness,
            };
            tasks.spawn(serve(
                listener,
                None,
                handler,
                self.limits,
                Arc::default(),
                stop,
            ));
        }
        tasks.close();
        tokio::spawn(reopen_on_hangup(self.audit.clone()));
        let usage = self.usage.map(|(usage, directory)| {
            let (end, ended) = watch::channel(false);
            (end, tokio::spawn(keep_usage(usage, directory, ended)))
        });
        Ok(Running {
            tasks,
            shutdown,
            usage,
            audit: self.audit,
        })
    }
}

impl Running {
    /// Stops accepting, lets requests under way finish, and returns when all are done or their grace is over. What calls leave
    /// behind, audit records and last uses, is written after the last of them.
    pub async fn stop(self) {
        let _ = self.shutdown.send(true);
        self.tasks.wait().await;
        if let Some((end, task)) = self.usage {
            let _ = end.send(true);
            if tokio::time::timeout(LAST_WRITES, task).await.is_err() {
                tracing::warn!("what was used last could not be stored in time");
            }
        }
        let audit = self.audit;
        let written = tokio::task::spawn_blocking(move || audit.stop(LAST_WRITES)).await;
        if !written.is_ok_and(|written| written) {
            tracing::error!("the audit log could not be written to its end in time");
        }
    }
}

#[derive(Clone)]
struct AwsHandler {
    api: Arc<AwsApi>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    calls: TaskTracker,
}

impl Handler for AwsHandler {
    async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Answer {
        match health_and_metrics(&request, &self.metrics, &self.readiness) {
            Some(answer) => answer,
            None => {
                // In a task of its own: a client who goes away must not cut off a call between its write and its record.
                let api = Arc::clone(&self.api);
                let call = self
                    .calls
                    .spawn(async move { api.handle(peer, request).await });
                call.await.unwrap_or_else(|error| {
                    tracing::error!(%error, "a call broke off");
                    plain(StatusCode::INTERNAL_SERVER_ERROR, "internal failure")
                })
            }
        }
    }
}

#[derive(Clone)]
struct MetricsHandler {
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

impl Handler for MetricsHandler {
    async fn handle(&self, _: Peer, request: Request<Incoming>) -> Answer {
        health_and_metrics(&request, &self.metrics, &self.readiness)
            .unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "404 page not found"))
    }
}

#[derive(Clone)]
struct AlwaysOk;

impl Handler for AlwaysOk {
    async fn handle(&self, _: Peer, _: Request<Incoming>) -> Answer {
        plain(StatusCode::OK, "ok")
    }
}

/// Reloads a certificate whenever its files' contents change; a broken pair leaves the old one in force.
pub(crate) async fn follow_certificate(
    serving: Arc<ServingCertificate>,
    files: CertificateFiles,
    mut replaced: impl FnMut(&ServingCertificate) + Send,
    mut stop: watch::Receiver<bool>,
) {
    let read = |files: &CertificateFiles| {
        Some((
            std::fs::read(&files.cert).ok()?,
            std::fs::read(&files.key).ok()?,
        ))
    };
    let mut seen = read(&files).map(|(cert, _)| cert);
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATE_POLL) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let Some((cert, _)) = read(&files) else {
            continue;
        };
        if seen.as_ref() == Some(&cert) {
            continue;
        }
        match serving.reload(&files.cert, &files.key) {
            Ok(()) => {
                tracing::info!(file = %files.cert.display(), "serving certificate reloaded");
                replaced(&serving);
                seen = Some(cert);
            }
            // Certificate and key are two files; between their writes they do not match.
            Err(error) => {
                tracing::warn!(%error, "new serving certificate not usable; the old one stays in force")
            }
        }
    }
}

//! `pod-identity-webhook`: the admission webhook alone, with the command line of aws/amazon-eks-pod-identity-webhook (webhook
//! spec, sections 1 and 2).
//!
//! There is no store, no IAM and no EKS API in this process: service accounts, the ConfigMap, the identities file, and the associations
//! of another EKS API or of objects are all it knows.
//! The flags become the settings of `podIdentityWebhook`, so that everything behind them is what `serve` does.

mod certificate;
mod manifest;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use countersign_arn::AccountId;
use countersign_pods::{Flags, FlagsError, Source};
use countersign_server::app::CertificateFiles;
use countersign_server::config::PodWebhookSettings;
use countersign_server::events::{EventTarget, Events};
use countersign_server::health::Report;
use countersign_server::listen::{Limits, bind};
use countersign_server::metrics::Metrics;
use countersign_server::webhook::Readiness;
use countersign_server::webhook::admission::{AdmissionApp, AdmissionCertificate};
use serde::Deserialize;
use tokio::net::TcpListener;

use super::{launch, pod_webhook};
use crate::exit::Exit;
use crate::logging::{self, LogFormat};
use crate::report::Failure;

/// Names under which the program is this command.
const CALLED: [&str; 2] = ["pod-identity-webhook", "amazon-eks-pod-identity-webhook"];
const USAGE: &str = "\
Answer kube-apiserver's questions about pods: a drop-in for amazon-eks-pod-identity-webhook.

Usage: countersign pod-identity-webhook [FLAGS]
       countersign pod-identity-webhook manifest --image=IMAGE [--failure-policy=Ignore|Fail] [FLAGS]

Also when the program is called `pod-identity-webhook` or `amazon-eks-pod-identity-webhook`. A flag is written `--name=value` or
`--name value`, a switch `--name` or `--name=false`. `manifest` prints everything that a cluster needs to run it with these flags, and the
least rights that they take, for `kubectl apply -f -`.
";
/// Reviews are short work; more threads would only cost memory.
const WORKERS: usize = 2;
/// Decision events that may wait to be written.
const EVENTS: usize = 2048;
/// Time for instance metadata.
const METADATA: Duration = Duration::from_secs(10);

/// The arguments of this command, if the command line is one of it.
pub(crate) fn arguments(args: &[OsString]) -> Option<&[OsString]> {
    let (program, rest) = args.split_first()?;
    let called = Path::new(program).file_name().and_then(OsStr::to_str);
    if called.is_some_and(|name| CALLED.contains(&name)) {
        return Some(rest);
    }
    let (first, rest) = rest.split_first()?;
    (first.to_str() == Some(CALLED[0])).then_some(rest)
}

pub(crate) fn run(args: &[OsString], stdout: &mut dyn Write) -> Result<Exit, Failure> {
    let help = "see `countersign pod-identity-webhook --help`";
    let texts: Option<Vec<&str>> = args.iter().map(|arg| arg.to_str()).collect();
    let texts = texts.ok_or_else(|| Failure::usage(anyhow!("an argument is no UTF-8")))?;
    let (order, texts) = match texts.split_first() {
        Some((&"manifest", rest)) => {
            let (order, rest) = manifest::Order::take(rest)?;
            (Some(order), rest)
        }
        _ => (None, texts),
    };
    let flags = match Flags::parse(texts.iter().copied()) {
        Ok(flags) => flags,
        Err(FlagsError::Help) => {
            write!(stdout, "{USAGE}{}", Flags::help())?;
            return Ok(Exit::Fine);
        }
        Err(error) => return Err(Failure::usage(error).hint(help)),
    };
    if flags.serving.version {
        writeln!(stdout, "countersign {}", env!("CARGO_PKG_VERSION"))?;
        return Ok(Exit::Fine);
    }
    // The default of the flag means nothing here; who writes it expects something.
    let asks = texts
        .iter()
        .any(|arg| arg.starts_with("--associations-from"));
    if asks && flags.serving.associations_from == Source::Embedded {
        return Err(Failure::usage(anyhow!(
            "--associations-from=embedded: this process has no EKS API"
        ))
        .hint(
            "give `eks`, `crd` or `file`, or use `countersign serve` with `podIdentityWebhook`",
        ));
    }
    let from_eks = flags.serving.associations_from == Source::Eks;
    if from_eks && flags.serving.associations_cluster.is_none() {
        return Err(Failure::usage(anyhow!(
            "--associations-from=eks: which cluster's associations are asked for is not said"
        ))
        .hint("give `--associations-cluster=NAME`"));
    }
    if let Some(order) = order {
        stdout.write_all(manifest::render(&order, &flags, &texts)?.as_bytes())?;
        return Ok(Exit::Fine);
    }
    let level = match flags.serving.verbosity {
        0..=2 => "info",
        3 | 4 => "debug",
        5.. => "trace",
    };
    logging::start(level, LogFormat::Text);
    if !flags.ignored.is_empty() {
        let flags = flags.ignored.join(", ");
        tracing::warn!(flags, "flags of the log library of Go have no effect");
    }
    countersign_server::install_crypto();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(WORKERS)
        .enable_all()
        .build()?
        .block_on(serve(flags))
}

async fn serve(flags: Flags) -> Result<Exit, Failure> {
    let mut settings = settings(flags).await?;
    let serving = settings.flags.serving.clone();
    // What is listened on is bound before anything is asked or written.
    let listener = listen(serving.port).await?;
    let metrics_listener = listen(serving.metrics_port).await?;
    let addresses = (listener.local_addr()?, metrics_listener.local_addr()?);
    let (certificate, keeper) = match serving.in_cluster {
        false => {
            let files = CertificateFiles {
                cert: serving.tls_cert.clone(),
                key: serving.tls_key.clone(),
            };
            (AdmissionCertificate::Files(files), None)
        }
        true => {
            // Whoever keeps the certificate also keeps the registration.
            let registration = settings.webhook_configuration.take();
            let registration = registration.unwrap_or_else(|| serving.service_name.clone());
            let (kept, keeper) = certificate::start(&serving, registration).await?;
            (AdmissionCertificate::Kept(kept), Some(keeper))
        }
    };
    let setting = pod_webhook::Setting {
        name: "default",
        kubeconfig: None,
        master: None,
        is_default: true,
        // As cert-manager puts it beside the certificate.
        ca_file: &serving.tls_cert.with_file_name("ca.crt"),
    };
    let prepared = pod_webhook::prepare(Some(&settings), setting).await?;
    if !prepared.reads_accounts() {
        return Err(
            Failure::usage(anyhow!("there is no way to the Kubernetes API"))
                .hint("run in a pod with a service account, or give `--kubeconfig=FILE`"),
        );
    }
    let mut metrics = Metrics::of_admission();
    let clusters = vec![("default".to_owned(), prepared, None)];
    let admission = pod_webhook::start(Some(&settings), clusters, None, &mut metrics)?
        .ok_or_else(|| Failure::unknown(anyhow!("the webhook was not made")))?;
    let metrics = Arc::new(metrics);
    let lost = metrics.events_lost().clone();
    let events = Events::with_room(&EventTarget::Stderr, lost, EVENTS)?;
    let checked = Arc::clone(&admission);
    let readiness: Readiness = Arc::new(move || {
        let mut report = Report::default();
        checked.report(&mut report);
        if let Some(keeper) = &keeper {
            keeper.report(&mut report);
        }
        report
    });
    let app = AdmissionApp {
        listener,
        metrics_listener,
        certificate,
        tls: pod_webhook::tls(Some(&settings)),
        admission,
        metrics,
        events,
        readiness,
        debugging: serving.debugging_handlers,
        limits: Limits::default(),
    };
    let running = app.start().map_err(Failure::usage)?;
    tracing::info!(webhook = %addresses.0, metrics = %addresses.1, "serving");
    launch::until_told_to_stop().await?;
    running.stop().await;
    Ok(Exit::Fine)
}

/// The settings; for short names of roles the account of instance metadata, unless a flag says it.
async fn settings(flags: Flags) -> Result<PodWebhookSettings, Failure> {
    let place = match (flags.serving.compose_role_arn, flags.options.composition) {
        (true, None) => Some(instance().await?),
        _ => None,
    };
    let account = place.as_ref().map(|(account, _)| *account);
    let region = place.as_ref().map(|(_, region)| region.as_str());
    PodWebhookSettings::of_flags(flags, account, region).map_err(Failure::usage)
}

/// Account and region of the instance that this runs on.
async fn instance() -> Result<(AccountId, String), Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        account_id: String,
        region: String,
    }
    let failed = |reason: String| {
        Failure::usage(anyhow!(
            "--compose-role-arn: instance metadata cannot be read: {reason}"
        ))
        .hint(
            "give `--compose-account=ACCOUNT`, and `--compose-partition` outside of partition aws",
        )
    };
    let client = aws_config::imds::Client::builder().build();
    let document = client.get("/latest/dynamic/instance-identity/document");
    let document = tokio::time::timeout(METADATA, document)
        .await
        .map_err(|_| failed("no answer in time".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    let document: Document = serde_json::from_str(document.as_ref())
        .map_err(|_| failed("the identity document names no account and region".to_owned()))?;
    let account = document
        .account_id
        .parse()
        .map_err(|_| failed("its account is none".to_owned()))?;
    Ok((account, document.region))
}

/// On all addresses, those of IPv6 as well where there are any.
async fn listen(port: u16) -> Result<TcpListener, Failure> {
    match bind(&format!("[::]:{port}"), false).await {
        Ok(listener) => Ok(listener),
        Err(countersign_server::listen::BindError::System { .. }) => {
            let any = format!("0.0.0.0:{port}");
            bind(&any, false).await.map_err(Failure::usage)
        }
        Err(error) => Err(Failure::usage(error)),
    }
}

//! From settings to running listeners.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_access::FileOptions;
use countersign_access::caller::Delegated;
use countersign_arn::Partition;
use countersign_server::access_policies::AccessPolicies;
use countersign_server::admin::AdminSocket;
use countersign_server::aggregation::{AggregatedCluster, Aggregation};
use countersign_server::app::{App, AwsListener, CertificateFiles, WebhookListener};
use countersign_server::association_objects::SyncedCluster;
use countersign_server::audit::Audit;
use countersign_server::aws::{AwsApi, EksAuthOptions, EksOptions, KeyRing};
use countersign_server::config::{Loaded, OwnConfig};
use countersign_server::events::{EventTarget, Events};
use countersign_server::health::{Report, State};
use countersign_server::issuer::{ClusterApi, ClusterIssuers};
use countersign_server::listen::Limits;
use countersign_server::listen::tls::ClientAuth;
use countersign_server::metrics::Metrics;
use countersign_server::projection::ProjectedCluster;
use countersign_server::store_health::{DEFAULT_MAX_STALENESS, StoreHealth};
use countersign_server::usage::Usage;
use countersign_server::webhook::authenticate::{
    ClusterAuthenticator, ClusterOptions, ReviewOptions, Verifier,
};
use countersign_server::webhook::authorize::{Authorizer, AuthorizerOptions};
use countersign_server::webhook::denial::DenyMode;
use countersign_server::webhook::entries::{PrincipalBinding, Registered};
use countersign_server::webhook::mutate::Admission;
use countersign_server::webhook::{Clusters, Readiness, RegisteredClusters, Webhook};
use countersign_sources::Mappings;
use countersign_sources::kubernetes::KubernetesAccess;
use countersign_store::Directory;
use countersign_token::Rules;
use countersign_upstream::ec2::InstanceLookup;
use countersign_upstream::sts::StsVerifier;
use tokio::net::TcpListener;

use super::projection::Projecting;
use super::{annotated, association_objects, pod_webhook};
use crate::report::Failure;

/// A cluster to serve.
pub(super) struct ClusterSetup {
    pub(super) name: String,
    pub(super) cluster_id: String,
    pub(super) mappings: Arc<Mappings>,
    /// The cluster of the EKS API that it is, if it is one.
    pub(super) registered: Option<Registered>,
    /// What writes its access policies as RBAC objects, or takes them away.
    pub(super) projecting: Option<Projecting>,
    /// What keeps its associations and its objects alike.
    pub(super) association_objects: Option<association_objects::Prepared>,
    /// What is known of its pods.
    pub(super) pods: pod_webhook::Prepared,
    /// How its ClusterRoles can be read, if they can.
    pub(super) roles: Option<KubernetesAccess>,
    /// Its API server, to be asked about its tokens.
    pub(super) token_api: Option<Arc<dyn ClusterApi>>,
    /// Roles of its pods by annotations.
    pub(super) annotated: Option<annotated::Prepared>,
}

/// Everything that is decided before the listeners start.
pub(super) struct Launch<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) partition: Partition,
    /// The embedded IAM, clusters and access entries, if there are any.
    pub(super) directory: Option<Directory>,
    /// Whether tokens of the embedded IAM open clusters; where real AWS does, accounts of the same number must not.
    pub(super) embedded_tokens: bool,
    /// Where the store is, and the audit log unless it is configured to be elsewhere.
    pub(super) data_dir: Option<&'a Path>,
    /// Region of the AWS APIs, if a flag says it.
    pub(super) region: Option<&'a str>,
    /// Calls whose audit record cannot be kept are refused, whatever the configuration says.
    pub(super) audit_strict: bool,
    pub(super) upstream: Option<StsVerifier>,
    pub(super) nodes: Option<InstanceLookup>,
    pub(super) aws: Option<TcpListener>,
    pub(super) webhook: TcpListener,
    pub(super) health: Option<TcpListener>,
    pub(super) metrics_listener: Option<TcpListener>,
    pub(super) certificate: CertificateFiles,
    pub(super) events: Option<&'a str>,
    /// How refusals are answered, and the status when STS cannot be asked.
    pub(super) deny: (DenyMode, u16),
    /// The first is the one behind `/authenticate`.
    pub(super) clusters: Vec<ClusterSetup>,
    pub(super) metrics: Metrics,
}

pub(super) fn start(launch: Launch<'_>) -> Result<countersign_server::app::Running, Failure> {
    let own = &launch.loaded.config.countersign;
    let scheme = if own.aws_tls.is_some() {
        "https"
    } else {
        "http"
    };
    let aws_address = launch
        .aws
        .as_ref()
        .map(TcpListener::local_addr)
        .transpose()?;
    let rules = token_rules(
        own,
        launch.partition,
        aws_address.map(|address| (scheme, address)),
    )?;
    let (deny_mode, upstream_failure_status) = launch.deny;
    let principal_binding = principal_binding(own)?;
    let delegated = delegated(own)?;
    let policies = Arc::new(match &own.access.policies_file {
        None => AccessPolicies::builtin(),
        Some(file) => {
            let options = FileOptions {
                partition: launch.partition,
                iam_is_known: launch.embedded_tokens,
                ..FileOptions::default()
            };
            AccessPolicies::load_with(file, options).map_err(Failure::usage)?
        }
    });

    let max_staleness = own
        .max_store_staleness
        .map_or(DEFAULT_MAX_STALENESS, Duration::from_secs);
    let store = launch
        .directory
        .clone()
        .map(|directory| StoreHealth::new(directory, max_staleness));
    let audit = start_audit(
        own,
        launch.data_dir,
        launch.audit_strict,
        launch.aws.is_some(),
    )?;
    let mut clusters = launch.clusters;
    let pod_settings = pod_webhook::settings(own)?;
    let pods = clusters
        .iter_mut()
        .map(|cluster| {
            let pods = std::mem::take(&mut cluster.pods);
            (cluster.name.clone(), pods, cluster.registered.clone())
        })
        .collect();
    let names_entry: Vec<bool> = clusters
        .iter()
        .map(|cluster| {
            cluster
                .projecting
                .as_ref()
                .is_some_and(Projecting::names_entry)
        })
        .collect();
    let mut projected = Vec::new();
    let mut aggregated = Vec::new();
    for cluster in &mut clusters {
        let roles = cluster.roles.take().zip(cluster.registered.clone());
        let roles = roles.map(|(access, registered)| {
            let roles = AggregatedCluster::new(&cluster.name, registered);
            tokio::spawn(Arc::clone(&roles).follow(access, Arc::clone(&policies)));
            roles
        });
        aggregated.extend(roles.clone());
        if let Some(projecting) = cluster.projecting.take() {
            projected.push(projecting.start(
                &cluster.name,
                cluster.registered.as_ref(),
                launch.directory.as_ref(),
                &policies,
                roles.as_ref(),
            ));
        }
    }
    let synced: Vec<SyncedCluster> = match &launch.directory {
        None => Vec::new(),
        Some(directory) => clusters
            .iter_mut()
            .filter_map(|cluster| {
                let prepared = cluster.association_objects.take()?;
                let registered = cluster.registered.as_ref()?;
                prepared.start(
                    &cluster.name,
                    registered,
                    directory,
                    !launch.embedded_tokens,
                    own.pod_identity.extensions.unwrap_or(true),
                )
            })
            .collect(),
    };
    let mut metrics = launch.metrics;
    metrics.register_association_objects(synced.clone());
    let admission = pod_webhook::start(
        pod_settings.as_ref(),
        pods,
        launch.directory.as_ref(),
        &mut metrics,
    )?;
    metrics.register_projections(projected.clone());
    if let Some(counters) = audit.counters() {
        metrics.register_audit(counters);
    }
    if let Some(store) = &store {
        metrics.register_store(store.clone());
    }
    metrics.register_access(
        Arc::clone(&policies),
        launch.directory.clone(),
        launch.embedded_tokens,
    );
    let endpoint_url = aws_address.map_or(String::new(), |address| format!("{scheme}://{address}"));
    let web_identity = super::web_identity::start(&own.web_identity, &endpoint_url)?;
    let annotated = clusters.iter_mut().filter_map(|cluster| {
        let registered = cluster.registered.clone()?;
        Some(cluster.annotated.take()?.of(registered))
    });
    let annotated = annotated.collect();
    let askable = clusters.iter_mut().filter_map(|cluster| {
        let registered = cluster.registered.clone()?;
        Some((registered, cluster.token_api.take()?))
    });
    let issuers = match &launch.directory {
        Some(directory) => Some(super::issuers::start(
            own,
            directory.clone(),
            askable.collect(),
        )?),
        None => None,
    };
    metrics.register_issuers(issuers.clone(), Arc::clone(&web_identity));
    let metrics = Arc::new(metrics);
    let usage = Arc::new(Usage::default());
    let used = launch
        .directory
        .clone()
        .map(|directory| (Arc::clone(&usage), directory));
    let events = Events::start(
        &event_target(launch.events.or(own.events.as_deref())),
        metrics.events_lost().clone(),
    )?;
    let mut verifiers = Vec::new();
    if let Some(directory) = &launch.directory {
        tokio::spawn(countersign_server::aws::keep_session_keys(
            directory.clone(),
        ));
    }
    let keys = launch
        .directory
        .as_ref()
        .map(|directory| Arc::new(KeyRing::new(directory.feed().clone())));
    if launch.embedded_tokens {
        verifiers.extend(keys.iter().map(|keys| Verifier::Embedded(Arc::clone(keys))));
    }
    verifiers.extend(launch.upstream.clone().map(Verifier::Upstream));

    let endpoint_url = aws_address.map_or(String::new(), |address| format!("{scheme}://{address}"));
    let web_identity = super::web_identity::start(&own.web_identity, &endpoint_url)?;
    let shared = Arc::new(ReviewOptions {
        rules,
        verifiers,
        nodes: launch.nodes.clone(),
        directory: launch.directory.clone(),
        people: Some(Arc::clone(&web_identity)),
        store: store.clone(),
        principal_binding,
        policies: Arc::clone(&policies),
        deny_mode,
        upstream_failure_status,
    });
    let mapping_options = clusters
        .first()
        .map(|cluster| cluster.mappings.options().clone())
        .unwrap_or_default();
    let authenticators = clusters
        .into_iter()
        .zip(names_entry)
        .map(|(cluster, names_entry)| {
            Arc::new(ClusterAuthenticator::new(ClusterOptions {
                name: cluster.name,
                cluster_id: cluster.cluster_id,
                mappings: cluster.mappings,
                registered: cluster.registered,
                names_entry,
                shared: Arc::clone(&shared),
            }))
        });
    let mut clusters = Clusters::new(authenticators.collect());
    if let Some(directory) = &launch.directory {
        clusters = clusters.with_registered(RegisteredClusters {
            directory: directory.clone(),
            shared,
            mappings: Mappings::new(&[], mapping_options),
        });
    }
    let clusters = Arc::new(ArcSwap::from_pointee(clusters));
    let readiness = readiness(Parts {
        directory: launch.directory.clone(),
        store: store.clone(),
        clusters: Arc::clone(&clusters),
        upstream: launch.upstream.clone(),
        policies: Arc::clone(&policies),
        projected,
        synced,
        aggregated: aggregated.clone(),
        audit: audit.clone(),
        admission: admission.clone(),
        issuers: issuers.clone(),
    });
    let authorizer = Authorizer::new(AuthorizerOptions {
        directory: launch.directory.clone(),
        store: store.clone(),
        policies: Arc::clone(&policies),
        aggregation: Aggregation::new(aggregated),
        delegated,
    });
    let webhook = Webhook::new(
        clusters,
        Arc::clone(&metrics),
        events,
        Arc::clone(&readiness),
        launch.upstream,
        Arc::new(authorizer),
    )
    .with_admission(admission);

    let region = launch
        .region
        .or(own.region.as_deref())
        .unwrap_or("us-east-1");
    let failures = own.failures_per_second.unwrap_or(20);
    let eks_auth =
        super::eks_auth::options(own, launch.partition, launch.nodes, launch.embedded_tokens)?;
    let eks_auth = EksAuthOptions {
        annotated,
        ..eks_auth
    };
    let aws = match (launch.aws, keys, launch.directory) {
        (Some(listener), Some(keys), Some(directory)) => Some(AwsListener {
            listener,
            certificate: own.aws_tls.as_ref().map(|files| CertificateFiles {
                cert: files.certfile.clone(),
                key: files.keyfile.clone(),
            }),
            api: Arc::new({
                let api = AwsApi::new(
                    keys,
                    directory,
                    Arc::clone(&metrics),
                    failures,
                    own.debug_signatures,
                )
                .limited_to(own.limits.sts())
                .recorded_in(audit.clone(), usage, region)
                .limiting_pods_to(own.limits.eks_auth())
                .with_eks_auth(eks_auth)
                .with_web_identity(web_identity)
                .with_eks(EksOptions {
                    policies: Arc::clone(&policies),
                    roles_elsewhere: !launch.embedded_tokens,
                    check_issuers: own.web_identity.check_issuers.unwrap_or(true),
                    extensions: own.pod_identity.extensions.unwrap_or(true),
                    ..EksOptions::default()
                });
                let api = match issuers {
                    Some(issuers) => api.with_issuers(issuers),
                    None => api,
                };
                match store {
                    Some(store) => api.with_store_health(store),
                    None => api,
                }
            }),
        }),
        _ => None,
    };
    let app = App {
        webhook: WebhookListener {
            listener: launch.webhook,
            certificate: launch.certificate,
            clients: own.webhook_client_ca.as_ref().map(|ca_file| ClientAuth {
                ca_file: ca_file.clone(),
                allowed_names: own.webhook_client_names.clone(),
            }),
            tls: pod_webhook::tls(pod_settings.as_ref()),
            webhook,
        },
        aws,
        health: launch.health,
        metrics_listener: launch.metrics_listener,
        metrics,
        readiness,
        limits: Limits::default(),
        audit,
        usage: used,
        policies,
    };
    app.start().map_err(Failure::usage)
}

/// Lets commands on this machine talk to this process, which holds the store of `data_dir`. Without it they say how to get it.
pub(super) fn administer(data_dir: &Path, directory: &Directory) -> Option<AdminSocket> {
    match AdminSocket::bind(data_dir, directory.clone()) {
        Ok(socket) => Some(socket),
        Err(error) => {
            let problem = anyhow::Error::new(error);
            tracing::warn!(
                problem = format!("{problem:#}"),
                "local administration is off"
            );
            None
        }
    }
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn until_told_to_stop() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    Ok(())
}

/// The audit log of the AWS APIs; off where there are none.
fn start_audit(
    own: &OwnConfig,
    data_dir: Option<&Path>,
    strict: bool,
    served: bool,
) -> Result<Audit, Failure> {
    let mut options = own.audit.clone();
    if strict {
        options.on_failure = Some("refuse".into());
    }
    let settings = options.settings(data_dir).map_err(Failure::usage)?;
    match settings {
        Some(settings) if served => Audit::start(settings).map_err(Failure::usage),
        _ => Ok(Audit::off()),
    }
}

fn token_rules(
    own: &OwnConfig,
    partition: Partition,
    aws: Option<(&str, SocketAddr)>,
) -> Result<Rules, Failure> {
    let defaults = countersign_token::Options::default();
    let mut trusted_endpoints = own.trusted_endpoints.clone();
    if let Some((scheme, address)) = aws {
        trusted_endpoints.extend(super::settings::own_endpoints(scheme, address));
    }
    let options = countersign_token::Options {
        partition,
        max_token_bytes: own.max_token_bytes.unwrap_or(defaults.max_token_bytes),
        allow_global_endpoint: own
            .allow_global_endpoint
            .unwrap_or(defaults.allow_global_endpoint),
        regions: own.regions.clone(),
        own_region: own.region.clone(),
        allowed_hosts: own.allowed_hosts.clone(),
        trusted_endpoints,
        // The process' own plain-HTTP listener is trusted because tokens for it are verified in process.
        allow_insecure_trusted_endpoint: own.allow_insecure_trusted_endpoint
            || aws.is_some_and(|(s, _)| s == "http"),
    };
    Rules::new(options).map_err(Failure::usage)
}

pub(super) fn denial_options(
    own: &OwnConfig,
    default: DenyMode,
) -> Result<(DenyMode, u16), Failure> {
    let mode = match own.deny_mode.as_deref() {
        None => default,
        Some("http") => DenyMode::Http,
        Some("review") => DenyMode::Review,
        Some(other) => {
            return Err(Failure::usage(anyhow::anyhow!(
                "`denyMode` is `{other}`; it is `http` or `review`"
            )));
        }
    };
    match own.upstream_failure_status.unwrap_or(500) {
        status @ (403 | 500) => Ok((mode, status)),
        other => Err(Failure::usage(anyhow::anyhow!(
            "`upstreamFailureStatus` is {other}; it is 500 or 403"
        ))),
    }
}

fn principal_binding(own: &OwnConfig) -> Result<PrincipalBinding, Failure> {
    match own.access.principal_binding.as_deref() {
        None | Some("firstUse") => Ok(PrincipalBinding::FirstUse),
        Some("strict") => Ok(PrincipalBinding::Strict),
        Some(other) => Err(Failure::usage(anyhow::anyhow!(
            "`countersign.access.principalBinding` is `{other}`; it is `firstUse` or `strict`"
        ))),
    }
}

fn delegated(own: &OwnConfig) -> Result<Delegated, Failure> {
    match own.authorizer.delegated.as_deref() {
        None | Some("assertion") => Ok(Delegated::Assertion),
        Some("trust") => Ok(Delegated::Trust),
        Some("refuse") => Ok(Delegated::Refuse),
        Some(other) => Err(Failure::usage(anyhow::anyhow!(
            "`countersign.authorizer.delegated` is `{other}`; it is `assertion`, `trust` or `refuse`"
        ))),
    }
}

fn event_target(text: Option<&str>) -> EventTarget {
    match text {
        None | Some("stderr") => EventTarget::Stderr,
        Some("off") => EventTarget::Off,
        Some(path) => EventTarget::File(PathBuf::from(Path::new(path))),
    }
}

/// What `/readyz` tells about.
struct Parts {
    directory: Option<Directory>,
    store: Option<StoreHealth>,
    clusters: Arc<ArcSwap<Clusters>>,
    upstream: Option<StsVerifier>,
    policies: Arc<AccessPolicies>,
    projected: Vec<ProjectedCluster>,
    synced: Vec<SyncedCluster>,
    aggregated: Vec<Arc<AggregatedCluster>>,
    audit: Audit,
    admission: Option<Arc<Admission>>,
    issuers: Option<Arc<ClusterIssuers>>,
}

fn readiness(parts: Parts) -> Readiness {
    let Parts {
        directory,
        store,
        clusters,
        upstream,
        policies,
        projected,
        synced,
        aggregated,
        audit,
        admission,
        issuers,
    } = parts;
    Arc::new(move || {
        let mut report = Report::default();
        if let Some(store) = &store {
            store.report(&mut report);
        }
        if let Some(directory) = &directory {
            let unusable = directory.snapshot().unusable_count();
            if unusable > 0 {
                report.add(
                    "records",
                    State::Warning,
                    format!("{unusable} records cannot be used and are kept as they are"),
                );
            }
        }
        let snapshot = directory.as_ref().map(Directory::snapshot);
        for cluster in clusters.load().iter() {
            let mode =
                cluster
                    .registered()
                    .zip(snapshot.as_deref())
                    .map(|(registered, snapshot)| {
                        registered
                            .find(snapshot)
                            .map(|cluster| cluster.record.authentication_mode)
                    });
            super::mappings::report_health(
                &mut report,
                cluster.name(),
                mode,
                &cluster.mappings().health(),
            );
        }
        policies.report(&mut report);
        for cluster in &projected {
            cluster.report(&mut report);
        }
        for cluster in &synced {
            cluster.report(&mut report);
        }
        for cluster in &aggregated {
            cluster.report(&policies, &mut report);
        }
        if let Some(sts) = &upstream {
            let numbers = sts.snapshot();
            let detail = format!(
                "{} calls, {} in flight, {} queued, {} identities cached",
                numbers.calls, numbers.in_flight, numbers.queued, numbers.identities
            );
            report.add("sts", State::Ok, detail);
        }
        audit.report(&mut report);
        if let Some(issuers) = &issuers {
            issuers.report(&mut report, jiff::Timestamp::now());
        }
        if let Some(admission) = &admission {
            admission.report(&mut report);
        }
        report
    })
}

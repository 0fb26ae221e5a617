//! `countersign serve`: the control plane from a configuration file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use countersign_arn::{AccountId, Partition};
use countersign_mapping::Authority;
use countersign_server::config::{Config, IdentityMode, Loaded, OwnConfig};
use countersign_server::listen::bind;
use countersign_server::metrics::Metrics;
use countersign_server::webhook::denial::DenyMode;
use countersign_server::webhook::entries::Registered;
use countersign_store::Directory;
use countersign_store::records::AuthenticationMode;
use countersign_upstream::ec2::InstanceLookup;
use countersign_upstream::sts::StsVerifier;
use serde::Serialize;
use tokio::net::TcpListener;

use super::launch::{self, ClusterSetup, Launch};
use super::mappings::{self, Sources};
use super::projection::{self, Setting};
use super::storage::{self, StoreChoice};
use super::{
    annotated, association_objects, bootstrap, issuers, pod_webhook, registration, settings,
    upstream,
};
use crate::exit::Exit;
use crate::logging::{self, LogFormat};
use crate::report::Failure;

const STATE_DIR: &str = "/var/aws-iam-authenticator";
const KUBECONFIG: &str = "/etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml";
const HEALTH: &str = "0.0.0.0:21363";
const REGION: &str = "us-east-1";

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  countersign serve --config /etc/aws-iam-authenticator/config.yaml\n\n\
    A flag wins over the file, and the file over the default. The names of flags are aws-iam-authenticator's."
)]
pub(crate) struct ServeArgs {
    /// Configuration file.
    #[arg(short, long, env = "COUNTERSIGN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The cluster id tokens must be made for.
    #[arg(
        short = 'i',
        long,
        env = "KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID",
        value_name = "ID"
    )]
    cluster_id: Option<String>,
    /// Partition of the AWS accounts.
    #[arg(long)]
    partition: Option<String>,
    /// HTTPS port [default: 21362]
    #[arg(long)]
    port: Option<u16>,
    /// Address to bind to [default: 127.0.0.1]
    #[arg(long)]
    address: Option<String>,
    /// Where certificate and key live [default: /var/aws-iam-authenticator]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where the webhook kubeconfig is written [default: /etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml]
    #[arg(long, value_name = "FILE")]
    generate_kubeconfig: Option<PathBuf>,
    /// Leave the webhook kubeconfig alone.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    kubeconfig_pregenerated: Option<bool>,
    /// Kubeconfig for reading aws-auth and mapping objects.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// URL of the API server, in the place of the kubeconfig's.
    #[arg(long, value_name = "URL")]
    master: Option<String>,
    /// Ordered mapping backends: MountedFile, EKSConfigMap, CRD, DynamicFile.
    #[arg(long, value_delimiter = ',', value_name = "BACKENDS")]
    backend_mode: Vec<String>,
    /// EC2 DescribeInstances calls a second.
    #[arg(long = "ec2-describeInstances-qps", value_name = "N")]
    ec2_qps: Option<u32>,
    /// Burst of EC2 DescribeInstances calls.
    #[arg(long = "ec2-describeInstances-burst", value_name = "N")]
    ec2_burst: Option<u32>,
    /// Log level: panic, fatal, error, warn, info, debug, trace.
    #[arg(
        short = 'v',
        long,
        env = "AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY",
        value_name = "LEVEL"
    )]
    log_verbosity: Option<String>,
    /// Form of log lines: text or json.
    #[arg(short = 'l', long, value_enum)]
    log_format: Option<LogFormat>,
    /// The reference's feature gates; accepted, and always on here.
    #[arg(long, hide = true, value_name = "GATES")]
    feature_gates: Option<String>,
    /// Where the records of the embedded IAM are: `redb`, or `etcd://HOST:2379,.../PREFIX`.
    #[arg(long, env = "COUNTERSIGN_STORE", value_name = "STORE")]
    store: Option<String>,
    /// Write a JSON object here, atomically, once every listener answers.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Refuse calls whose audit record cannot be written.
    #[arg(long)]
    audit_strict: bool,
    /// Start beside a running instance, and take over its addresses when it stops.
    #[arg(long)]
    takeover: bool,
}

/// What scripts read instead of waiting.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ready<'a> {
    webhook_url: String,
    webhook_ca_file: &'a Path,
    cluster: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_url: Option<String>,
    token_webhook_kubeconfig: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_webhook_kubeconfig: Option<&'a Path>,
    pid: u32,
}

pub(crate) fn run(args: ServeArgs) -> Result<Exit, Failure> {
    // The level stands in the file that is read first; its warnings are printed at the level it names.
    let mut loaded = settings::read_config(args.config.as_deref())?;
    merge(&mut loaded.config, &args);
    let wanted = loaded.config.log_verbosity.as_deref().unwrap_or("info");
    let level = logging::level(wanted)
        .ok_or_else(|| Failure::usage(anyhow::anyhow!("`{wanted}` is no log level")))?;
    let format = match (args.log_format, loaded.config.log_format.as_deref()) {
        (Some(format), _) => format,
        (None, Some("json")) => LogFormat::Json,
        (None, _) => LogFormat::Text,
    };
    logging::start(level, format);
    settings::warn_unknown_keys(&loaded);
    settings::block_on(serve(args, loaded))
}

/// A flag wins over the file.
fn merge(config: &mut Config, args: &ServeArgs) {
    fn put<T: Clone>(to: &mut Option<T>, flag: &Option<T>) {
        if flag.is_some() {
            to.clone_from(flag);
        }
    }
    put(&mut config.cluster_id, &args.cluster_id);
    put(&mut config.log_verbosity, &args.log_verbosity);
    let server = &mut config.server;
    put(&mut server.partition, &args.partition);
    put(&mut server.port, &args.port);
    put(&mut server.address, &args.address);
    put(&mut server.state_dir, &args.state_dir);
    put(&mut server.generate_kubeconfig, &args.generate_kubeconfig);
    put(
        &mut server.kubeconfig_pregenerated,
        &args.kubeconfig_pregenerated,
    );
    put(&mut server.kubeconfig, &args.kubeconfig);
    put(&mut server.master, &args.master);
    put(&mut server.ec2_describe_instances_qps, &args.ec2_qps);
    put(&mut server.ec2_describe_instances_burst, &args.ec2_burst);
}

async fn serve(args: ServeArgs, loaded: Loaded) -> Result<Exit, Failure> {
    let config = &loaded.config;
    let server = &config.server;
    let own = &config.countersign;
    let cluster_id = config
        .cluster_id
        .clone()
        .filter(|id| !id.is_empty())
        .ok_or_else(|| {
            Failure::usage(anyhow::anyhow!("cluster id is missing"))
                .hint("set `clusterID` in the configuration, or give `--cluster-id ID`")
        })?;
    let partition: Partition = match &server.partition {
        None => Partition::Aws,
        Some(text) => text.parse().map_err(|error| {
            Failure::usage(anyhow::Error::new(error).context("invalid partition"))
        })?,
    };
    let state_dir = server.state_dir.clone().unwrap_or_else(|| STATE_DIR.into());
    let address = server.address.clone().unwrap_or_else(|| "127.0.0.1".into());
    let hostname = server
        .hostname
        .clone()
        .unwrap_or_else(|| "localhost".into());

    // What cannot be meant is refused before anything is bound or written.
    let deny = launch::denial_options(own, DenyMode::Http)?;
    let webhook_address = host_port(&address, server.port.unwrap_or(21362));
    let embedded = own.identity == IdentityMode::Embedded;
    let keeps_records = registration::keeps_records(args.store.as_deref(), own);
    let mode = registration::authentication_mode(&args.backend_mode, config, keeps_records)?;
    let mut clusters = start_mappings(
        &args,
        &loaded,
        partition,
        &state_dir,
        embedded,
        mode,
        keeps_records,
    )
    .await?;
    let webhook = bind(&webhook_address, args.takeover)
        .await
        .map_err(Failure::usage)?;
    let health = match own.health_listen.as_deref() {
        Some("off") => None,
        other => Some(
            bind(other.unwrap_or(HEALTH), args.takeover)
                .await
                .map_err(Failure::usage)?,
        ),
    };
    let metrics_listener = match own.metrics_listen.as_deref() {
        None => None,
        Some(address) => Some(bind(address, args.takeover).await.map_err(Failure::usage)?),
    };
    let (directory, aws) = if keeps_records {
        let (directory, listener) = open_records(&args, &loaded, partition).await?;
        let place = registration::Place {
            account: account_id(own)?,
            region: own.region.as_deref().unwrap_or(REGION),
        };
        registration::register(
            &directory,
            &args.backend_mode,
            config,
            &place,
            mode,
            &mut clusters,
        )
        .await?;
        (Some(directory), Some(listener))
    } else {
        (None, None)
    };
    let _admin_socket = match (&directory, &own.data_dir) {
        (Some(directory), Some(data_dir)) => launch::administer(data_dir, directory),
        _ => None,
    };
    let sts = if embedded {
        None
    } else {
        Some(upstream::sts(own, partition)?)
    };
    let nodes = upstream::nodes(config, partition).await?;

    let names = settings::CertificateNames {
        address: address.clone(),
        hostname: hostname.clone(),
        service: pod_webhook::settings(own)?.and_then(|settings| settings.service()),
    };
    let certificate = settings::ensure_certificate(&state_dir, &names)?;
    let port = webhook.local_addr()?.port();
    let kubeconfig = server
        .generate_kubeconfig
        .clone()
        .unwrap_or_else(|| KUBECONFIG.into());
    if !server.kubeconfig_pregenerated.unwrap_or(false) {
        let url = countersign_client::webhook_kubeconfig::server_url(&hostname, port);
        settings::write_webhook_kubeconfig(
            &kubeconfig,
            &url,
            &certificate.ca_bundle,
            own.webhook_client_certificate.as_ref(),
        )?;
    }
    let authorizer_kubeconfig = directory
        .is_some()
        .then(|| kubeconfig.with_file_name("countersign-authz.kubeconfig"));
    if let Some(path) = &authorizer_kubeconfig
        && !server.kubeconfig_pregenerated.unwrap_or(false)
    {
        let url = countersign_client::webhook_kubeconfig::authorizer_url(&hostname, port);
        settings::write_webhook_kubeconfig(
            path,
            &url,
            &certificate.ca_bundle,
            own.webhook_client_certificate.as_ref(),
        )?;
    }
    let metrics = metrics(&clusters, sts.clone(), nodes.clone());
    let endpoint_url = aws.as_ref().map(TcpListener::local_addr).transpose()?;
    let scheme = if own.aws_tls.is_some() {
        "https"
    } else {
        "http"
    };
    let running = launch::start(Launch {
        loaded: &loaded,
        partition,
        directory,
        embedded_tokens: embedded,
        data_dir: own.data_dir.as_deref(),
        region: None,
        audit_strict: args.audit_strict,
        upstream: sts.clone(),
        nodes,
        aws,
        webhook,
        health,
        metrics_listener,
        certificate: certificate.files.clone(),
        events: None,
        deny,
        clusters,
        metrics,
    })?;
    settings::keep_certificate(&state_dir, names, &certificate);
    tokio::spawn(upstream::flush_on_hangup(sts));
    if let Some(path) = &args.ready_file {
        let host = if address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
        {
            &hostname
        } else {
            &address
        };
        let ready = Ready {
            webhook_url: format!("https://{}", host_port(host, port)),
            webhook_ca_file: &certificate.ca_file,
            cluster: &cluster_id,
            endpoint_url: endpoint_url.map(|address| format!("{scheme}://{address}")),
            token_webhook_kubeconfig: &kubeconfig,
            authorization_webhook_kubeconfig: authorizer_kubeconfig.as_deref(),
            pid: std::process::id(),
        };
        settings::write_atomically(path, &serde_json::to_vec_pretty(&ready)?)?;
    }
    tracing::info!(cluster = cluster_id, address = webhook_address, "serving");
    launch::until_told_to_stop().await?;
    running.stop().await;
    Ok(Exit::Fine)
}

/// The default cluster and every further one, with their sources.
async fn start_mappings(
    args: &ServeArgs,
    loaded: &Loaded,
    partition: Partition,
    state_dir: &Path,
    embedded: bool,
    mode: Option<AuthenticationMode>,
    keeps_records: bool,
) -> Result<Vec<ClusterSetup>, Failure> {
    let config = &loaded.config;
    let pods = pod_webhook::settings(&config.countersign)?;
    let ca_file = state_dir.join("webhook-ca.pem");
    let authority = if embedded {
        Authority::Embedded
    } else {
        Authority::Aws
    };
    // Its place is filled in once the records are open.
    let registered_as =
        |name: &str, registered: bool| registered.then(|| Registered::Id(name.into()));
    let mut all = Vec::new();
    let name = config.cluster_id.clone().unwrap_or_default();
    let sources = Sources {
        cluster: name.clone(),
        config,
        mounted_file: args.config.as_deref(),
        partition,
        authority,
        registered: mode.is_some(),
        backend_modes: args.backend_mode.clone(),
        kubeconfig: config.server.kubeconfig.as_deref(),
        master: config
            .server
            .master
            .as_deref()
            .filter(|url| !url.is_empty()),
        state_dir,
    };
    let projecting = projection::prepare(Setting {
        key: "countersign.accessPolicies".into(),
        text: config.countersign.access_policies.as_deref(),
        registered: mode
            .map(|_| ())
            .ok_or("set `countersign.authenticationMode`, which registers the cluster"),
        kubeconfig_key: "server.kubeconfig".into(),
        kubeconfig: sources.kubeconfig,
        master: sources.master,
        may_be_own: true,
    })
    .await?;
    let association_objects = association_objects::prepare(association_objects::Setting {
        key: "countersign.podIdentityAssociations".into(),
        config: &config.countersign.pod_identity_associations,
        registered: mode
            .map(|_| ())
            .ok_or("set `countersign.authenticationMode`, which registers the cluster"),
        kubeconfig_key: "server.kubeconfig".into(),
        kubeconfig: sources.kubeconfig,
        master: sources.master,
        may_be_own: true,
    })
    .await?;
    let token_api = match mode {
        Some(_) => issuers::api(&name, sources.kubeconfig, sources.master, true).await,
        None => None,
    };
    let annotated = annotated::prepare(annotated::Setting {
        key: "countersign.podIdentity.annotatedRoles".into(),
        config: config.countersign.pod_identity.annotated_roles.as_ref(),
        partition,
        registered: mode.is_some(),
        kubeconfig: sources.kubeconfig,
        master: sources.master,
        may_be_own: true,
    })
    .await?;
    let setting = pod_webhook::Setting {
        name: &name,
        kubeconfig: sources.kubeconfig,
        master: sources.master,
        is_default: true,
        ca_file: &ca_file,
    };
    let roles = projection::cluster_roles(sources.kubeconfig, sources.master, true);
    all.push(ClusterSetup {
        projecting,
        association_objects,
        roles,
        token_api,
        annotated,
        pods: pod_webhook::prepare(pods.as_ref(), setting).await?,
        mappings: mappings::start(sources).await?,
        registered: registered_as(&name, mode.is_some()),
        cluster_id: name.clone(),
        name,
    });
    for (name, cluster) in &config.countersign.clusters {
        let state_dir = state_dir.join("clusters").join(name);
        let registered =
            keeps_records && cluster.mapping_file.is_none() && cluster.backend_mode.is_empty();
        let sources = Sources {
            cluster: name.clone(),
            config,
            mounted_file: cluster.mapping_file.as_deref(),
            partition,
            authority,
            registered,
            backend_modes: match &*cluster.backend_mode {
                [] if registered && cluster.kubeconfig.is_some() => vec!["EKSConfigMap".into()],
                [] => vec!["MountedFile".into()],
                modes => modes.to_vec(),
            },
            kubeconfig: cluster.kubeconfig.as_deref(),
            master: None,
            state_dir: &state_dir,
        };
        let projecting = projection::prepare(Setting {
            key: format!("countersign.clusters.{name}.accessPolicies"),
            text: cluster.access_policies.as_deref(),
            registered: registered
                .then_some(())
                .ok_or("leave out `mappingFile` and `backendMode`, and set `countersign.dataDir` or `store`"),
            kubeconfig_key: format!("countersign.clusters.{name}.kubeconfig"),
            kubeconfig: cluster.kubeconfig.as_deref(),
            master: None,
            // The service account of the pod is for the cluster it runs in.
            may_be_own: false,
        })
        .await?;
        let association_objects = association_objects::prepare(association_objects::Setting {
            key: format!("countersign.clusters.{name}.podIdentityAssociations"),
            config: &cluster.pod_identity_associations,
            registered: registered
                .then_some(())
                .ok_or("leave out `mappingFile` and `backendMode`, and set `countersign.dataDir` or `store`"),
            kubeconfig_key: format!("countersign.clusters.{name}.kubeconfig"),
            kubeconfig: cluster.kubeconfig.as_deref(),
            master: None,
            // The service account of the pod is for the cluster it runs in.
            may_be_own: false,
        })
        .await?;
        let kubeconfig = cluster.kubeconfig.as_deref().filter(|_| registered);
        let token_api = issuers::api(name, kubeconfig, None, false).await;
        let annotated = annotated::prepare(annotated::Setting {
            key: format!("countersign.clusters.{name}.annotatedRoles"),
            config: cluster.annotated_roles.as_ref(),
            partition,
            registered,
            kubeconfig,
            master: None,
            may_be_own: false,
        })
        .await?;
        let setting = pod_webhook::Setting {
            name,
            kubeconfig: sources.kubeconfig,
            master: None,
            is_default: false,
            ca_file: &ca_file,
        };
        all.push(ClusterSetup {
            projecting,
            association_objects,
            pods: pod_webhook::prepare(pods.as_ref(), setting).await?,
            roles: projection::cluster_roles(cluster.kubeconfig.as_deref(), None, false),
            token_api,
            annotated,
            name: name.clone(),
            cluster_id: cluster.cluster_id.clone().unwrap_or_else(|| name.clone()),
            mappings: mappings::start(sources).await?,
            registered: registered_as(name, registered),
        });
    }
    Ok(all)
}

fn account_id(own: &OwnConfig) -> Result<AccountId, Failure> {
    own.account_id
        .as_deref()
        .unwrap_or("111122223333")
        .parse()
        .map_err(|error| {
            Failure::usage(anyhow::Error::new(error).context("`countersign.accountId`"))
        })
}

/// The embedded IAM, clusters and access entries behind `serve`: store, bootstrap, AWS listener.
async fn open_records(
    args: &ServeArgs,
    loaded: &Loaded,
    partition: Partition,
) -> Result<(Directory, TcpListener), Failure> {
    let own = &loaded.config.countersign;
    let store = storage::choose(args.store.as_deref(), own.store.as_ref())?;
    if matches!(store, StoreChoice::Redb) && own.data_dir.is_none() {
        return Err(Failure::usage(anyhow::anyhow!(
            "`identity: embedded` needs `dataDir` in the section `countersign`, or `store`"
        )));
    }
    let address = own.aws_listen.as_deref().unwrap_or("127.0.0.1:4600");
    let listener = bind(address, args.takeover).await.map_err(Failure::usage)?;
    let root_key = settings::root_key_source(own.root_key_file.as_deref())?;
    if let Some(data_dir) = &own.data_dir {
        settings::make_private_dir(data_dir)?;
    }
    let directory =
        settings::open_directory(&store, own.data_dir.as_deref(), root_key, args.takeover).await?;
    let account = account_id(own)?;
    let now = jiff::Timestamp::now();
    settings::ensure_account(&directory, account, partition, now).await?;
    bootstrap::run(&directory, account, &own.bootstrap, now).await?;
    Ok((directory, listener))
}

fn metrics(
    clusters: &[ClusterSetup],
    sts: Option<StsVerifier>,
    nodes: Option<InstanceLookup>,
) -> Metrics {
    let mut metrics = Metrics::new();
    let sources = clusters
        .iter()
        .map(|cluster| (cluster.name.clone(), Arc::clone(&cluster.mappings)));
    metrics.register_sources(sources.collect());
    metrics.register_upstream(sts, nodes);
    metrics
}

fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

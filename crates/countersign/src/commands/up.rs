//! `countersign up`: everything on this machine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use countersign_arn::{AccountId, Partition};
use countersign_client::api_server::{self, ApiServerFiles};
use countersign_client::webhook_kubeconfig;
use countersign_mapping::Authority;
use countersign_server::config::{PodWebhookSettings, TlsFiles};
use countersign_server::listen::bind;
use countersign_server::metrics::Metrics;
use countersign_server::webhook::denial::DenyMode;
use countersign_server::webhook::entries::Registered;
use countersign_store::records::{AccessKeyStatus, AuthenticationMode, Creator, InlinePolicy};
use countersign_store::{Directory, DirectorySnapshot, NewCluster, NewUser};
use jiff::Timestamp;
use serde::Serialize;

use super::launch::{self, ClusterSetup, Launch};
use super::mappings::{self, Sources};
use super::projection::{self, Setting};
use super::{
    annotated, association_objects, bootstrap, issuers, pod_webhook, settings, storage, upstream,
};
use crate::exit::Exit;
use crate::logging::{self, LogFormat};
use crate::report::Failure;

const ADMIN: &str = "admin";

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  countersign up\n  countersign up --cluster prod --data-dir ./state --ready-file ready.json"
)]
pub(crate) struct UpArgs {
    /// Where the store, keys and certificates live; the platform's data directory by default.
    #[arg(long, env = "COUNTERSIGN_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the AWS APIs; port 0 picks a free one.
    #[arg(
        long,
        env = "COUNTERSIGN_LISTEN",
        default_value = "127.0.0.1:4600",
        value_name = "HOST:PORT"
    )]
    listen: String,
    /// Address of the webhooks, TLS; port 0 picks a free one.
    #[arg(
        long,
        env = "COUNTERSIGN_WEBHOOK_LISTEN",
        default_value = "127.0.0.1:21362",
        value_name = "HOST:PORT"
    )]
    webhook_listen: String,
    /// The account, made at the first start.
    #[arg(
        long,
        env = "COUNTERSIGN_ACCOUNT",
        default_value = "111122223333",
        value_name = "12 DIGITS"
    )]
    account: AccountId,
    /// The region.
    #[arg(long, env = "COUNTERSIGN_REGION", default_value = "us-east-1")]
    region: String,
    /// The cluster, made at the first start with the admin user as its creator.
    #[arg(
        long,
        env = "COUNTERSIGN_CLUSTER",
        default_value = "demo",
        value_name = "NAME"
    )]
    cluster: String,
    /// Where that cluster's identities come from when it is made; `aws eks update-cluster-config` moves it on later.
    #[arg(long, env = "COUNTERSIGN_AUTHENTICATION_MODE", default_value_t = AuthenticationMode::ApiAndConfigMap, value_name = "MODE")]
    authentication_mode: AuthenticationMode,
    /// Configuration file: mappings under `server`, options under `countersign`.
    #[arg(short, long, env = "COUNTERSIGN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the records are: `redb`, a file in the data directory, or `etcd://HOST:2379,.../PREFIX`.
    #[arg(long, env = "COUNTERSIGN_STORE", value_name = "STORE")]
    store: Option<String>,
    /// Write a JSON object here, atomically, once every listener answers.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Refuse calls whose audit record cannot be written.
    #[arg(long)]
    audit_strict: bool,
    /// Start beside a running instance with the same data directory, and take over its addresses when it stops.
    #[arg(long)]
    takeover: bool,
    /// Where decision events go: `stderr`, `off`, or a file.
    #[arg(long, env = "COUNTERSIGN_EVENTS", value_name = "TARGET")]
    events: Option<String>,
    /// Log level: error, warn, info, debug, trace.
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    log_level: String,
    /// Form of log lines.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// What scripts read instead of waiting.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ready<'a> {
    endpoint_url: &'a str,
    webhook_url: &'a str,
    webhook_ca_file: &'a Path,
    region: &'a str,
    account_id: AccountId,
    cluster: &'a str,
    admin: ReadyAdmin<'a>,
    token_webhook_kubeconfig: &'a Path,
    authorization_webhook_kubeconfig: &'a Path,
    authorization_config: &'a Path,
    /// One flag a line.
    api_server_flags: &'a Path,
    /// The issuer of the cluster's service account tokens.
    issuer_url: &'a str,
    /// One flag a line, for an API server that signs them with our key; none where its keys come from elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer_flags: Option<&'a PathBuf>,
    data_dir: &'a Path,
    pid: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadyAdmin<'a> {
    arn: &'a str,
    access_key_id: &'a str,
    secret_access_key: &'a str,
}

/// The admin user with a usable key.
struct Admin {
    arn: Arc<str>,
    id: Box<str>,
    access_key_id: Box<str>,
    secret: countersign_store::SecretString,
}

pub(crate) fn run(args: UpArgs) -> Result<Exit, Failure> {
    let level = logging::level(&args.log_level)
        .ok_or_else(|| Failure::usage(anyhow::anyhow!("`{}` is no log level", args.log_level)))?;
    logging::start(level, args.log_format);
    settings::block_on(up(args))
}

async fn up(args: UpArgs) -> Result<Exit, Failure> {
    let data_dir = match &args.data_dir {
        Some(dir) => dir.clone(),
        None => settings::platform_data_dir()?,
    };
    settings::make_private_dir(&data_dir)?;
    // What is printed and written into files is used from other directories.
    let data_dir = data_dir.canonicalize()?;
    let loaded = settings::read_config(args.config.as_deref())?;
    settings::warn_unknown_keys(&loaded);
    let own = &loaded.config.countersign;
    let deny = launch::denial_options(own, DenyMode::Review)?;

    // Bound before the store is opened: with --takeover, clients wait in the backlog while the old process lets go of it.
    let aws = bind(&args.listen, args.takeover)
        .await
        .map_err(Failure::usage)?;
    let webhook = bind(&args.webhook_listen, args.takeover)
        .await
        .map_err(Failure::usage)?;

    let root_key = settings::root_key_source(own.root_key_file.as_deref())?;
    let store = storage::choose(args.store.as_deref(), own.store.as_ref())?;
    let directory =
        settings::open_directory(&store, Some(&data_dir), root_key, args.takeover).await?;
    let _admin_socket = launch::administer(&data_dir, &directory);
    let now = Timestamp::now();
    settings::ensure_account(&directory, args.account, Partition::Aws, now).await?;
    let admin = ensure_admin(&directory, args.account, now).await?;
    ensure_cluster(&directory, &args, &admin, now).await?;
    bootstrap::run(&directory, args.account, &own.bootstrap, now).await?;

    let webhook_address = webhook.local_addr()?;
    let scheme = if own.aws_tls.is_some() {
        "https"
    } else {
        "http"
    };
    let endpoint_url = format!("{scheme}://{}", aws.local_addr()?);
    let webhook_url = format!("https://{webhook_address}");
    let address = webhook_address.ip().to_string();
    let pod_settings = pod_webhook::settings(own)?;
    let names = settings::CertificateNames {
        address: address.clone(),
        hostname: "localhost".to_owned(),
        service: pod_settings.as_ref().and_then(PodWebhookSettings::service),
    };
    let certificate = settings::ensure_certificate(&data_dir, &names)?;
    let files = write_api_server_files(
        &data_dir,
        &address,
        webhook_address.port(),
        &certificate.ca_bundle,
        own.webhook_client_certificate.as_ref(),
    )?;
    let kubeconfig = &files.token_kubeconfig;
    let (issuer_url, issuer_files) = issuers::api_server_files(
        own,
        &directory,
        (args.account, &args.region, &args.cluster),
        &data_dir,
    )
    .await?;
    let issuer_flags = data_dir.join("kube-apiserver-issuer.flags");

    let mappings = mappings::start(Sources {
        cluster: args.cluster.clone(),
        config: &loaded.config,
        mounted_file: args.config.as_deref(),
        partition: Partition::Aws,
        authority: Authority::Embedded,
        registered: true,
        backend_modes: Vec::new(),
        kubeconfig: loaded.config.server.kubeconfig.as_deref(),
        master: loaded
            .config
            .server
            .master
            .as_deref()
            .filter(|url| !url.is_empty()),
        state_dir: &data_dir,
    })
    .await?;
    let server = &loaded.config.server;
    let projecting = projection::prepare(Setting {
        key: "countersign.accessPolicies".into(),
        text: own.access_policies.as_deref(),
        registered: Ok(()),
        kubeconfig_key: "server.kubeconfig".into(),
        kubeconfig: server.kubeconfig.as_deref(),
        master: server.master.as_deref().filter(|url| !url.is_empty()),
        may_be_own: true,
    })
    .await?;
    let association_objects = association_objects::prepare(association_objects::Setting {
        key: "countersign.podIdentityAssociations".into(),
        config: &own.pod_identity_associations,
        registered: Ok(()),
        kubeconfig_key: "server.kubeconfig".into(),
        kubeconfig: server.kubeconfig.as_deref(),
        master: server.master.as_deref().filter(|url| !url.is_empty()),
        may_be_own: true,
    })
    .await?;
    let token_api = issuers::api(
        &args.cluster,
        server.kubeconfig.as_deref(),
        server.master.as_deref().filter(|url| !url.is_empty()),
        false,
    )
    .await;
    let annotated = annotated::prepare(annotated::Setting {
        key: "countersign.podIdentity.annotatedRoles".into(),
        config: own.pod_identity.annotated_roles.as_ref(),
        partition: Partition::Aws,
        registered: true,
        kubeconfig: server.kubeconfig.as_deref(),
        master: server.master.as_deref().filter(|url| !url.is_empty()),
        may_be_own: false,
    })
    .await?;
    let pods = pod_webhook::Setting {
        name: &args.cluster,
        kubeconfig: server.kubeconfig.as_deref(),
        master: server.master.as_deref().filter(|url| !url.is_empty()),
        is_default: true,
        ca_file: &certificate.ca_file,
    };
    let pods = pod_webhook::prepare(pod_settings.as_ref(), pods).await?;
    let nodes = upstream::nodes(&loaded.config, Partition::Aws).await?;
    let mut metrics = Metrics::new();
    metrics.register_sources(vec![(args.cluster.clone(), Arc::clone(&mappings))]);
    metrics.register_upstream(None, nodes.clone());
    let running = launch::start(Launch {
        loaded: &loaded,
        partition: Partition::Aws,
        directory: Some(directory.clone()),
        embedded_tokens: true,
        data_dir: Some(&data_dir),
        region: Some(&args.region),
        audit_strict: args.audit_strict,
        upstream: None,
        nodes,
        aws: Some(aws),
        webhook,
        health: None,
        metrics_listener: None,
        certificate: certificate.files.clone(),
        events: args.events.as_deref(),
        deny,
        clusters: vec![ClusterSetup {
            name: args.cluster.clone(),
            cluster_id: args.cluster.clone(),
            mappings,
            registered: Some(Registered::At {
                account: args.account,
                region: args.region.as_str().into(),
                name: args.cluster.as_str().into(),
            }),
            projecting,
            association_objects,
            pods,
            roles: projection::cluster_roles(
                server.kubeconfig.as_deref(),
                server.master.as_deref(),
                true,
            ),
            token_api,
            annotated,
        }],
        metrics,
    })?;
    settings::keep_certificate(&data_dir, names, &certificate);

    if let Some(path) = &args.ready_file {
        let ready = Ready {
            endpoint_url: &endpoint_url,
            webhook_url: &webhook_url,
            webhook_ca_file: &certificate.ca_file,
            region: &args.region,
            account_id: args.account,
            cluster: &args.cluster,
            admin: ReadyAdmin {
                arn: &admin.arn,
                access_key_id: &admin.access_key_id,
                secret_access_key: admin.secret.expose(),
            },
            token_webhook_kubeconfig: kubeconfig,
            authorization_webhook_kubeconfig: &files.authorization_kubeconfig,
            authorization_config: &files.authorization_config,
            api_server_flags: &files.flags,
            issuer_url: &issuer_url,
            issuer_flags: issuer_files.is_some().then_some(&issuer_flags),
            data_dir: &data_dir,
            pid: std::process::id(),
        };
        settings::write_atomically(path, &serde_json::to_vec_pretty(&ready)?)?;
    }
    print_tour(&args, &endpoint_url, &files.flags, &admin)?;
    launch::until_told_to_stop().await?;
    running.stop().await;
    Ok(Exit::Fine)
}

/// The admin user and its first active key; a key is made when there is none, as after somebody deactivated it.
async fn ensure_admin(
    directory: &Directory,
    account: AccountId,
    now: Timestamp,
) -> Result<Admin, Failure> {
    if directory.snapshot().user(account, ADMIN).is_none() {
        let new = NewUser {
            account,
            name: ADMIN.into(),
            path: "/".into(),
            tags: Vec::new(),
        };
        directory.create_user(new, now).await?;
    }
    ensure_admin_policy(directory, account).await?;
    if let Some(admin) = find_admin(&directory.snapshot(), account) {
        return Ok(admin);
    }
    directory.create_access_key(account, ADMIN, now).await?;
    find_admin(&directory.snapshot(), account)
        .ok_or_else(|| Failure::unknown(anyhow::anyhow!("the admin user has no active access key")))
}

/// What the admin user may do: everything, so that a role which trusts the account can be assumed by it.
async fn ensure_admin_policy(directory: &Directory, account: AccountId) -> Result<(), Failure> {
    const NAME: &str = "AdministratorAccess";
    const DOCUMENT: &str =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    let snapshot = directory.snapshot();
    let has = |policies: &[InlinePolicy]| policies.iter().any(|policy| &*policy.name == NAME);
    if snapshot
        .user(account, ADMIN)
        .is_some_and(|admin| has(&admin.record.policies))
    {
        return Ok(());
    }
    let policy = InlinePolicy {
        name: NAME.into(),
        document: DOCUMENT.into(),
    };
    directory.put_user_policy(account, ADMIN, policy).await?;
    Ok(())
}

fn find_admin(snapshot: &DirectorySnapshot, account: AccountId) -> Option<Admin> {
    let user = snapshot.user(account, ADMIN)?;
    let key = snapshot
        .access_keys_of(user)
        .find(|key| key.status == AccessKeyStatus::Active)?;
    Some(Admin {
        arn: Arc::clone(&user.arn),
        id: user.record.id.clone(),
        access_key_id: (*key.id).into(),
        secret: key.active_secret()?.duplicate(),
    })
}

/// The cluster, made by the admin user at the first start. On its own it is in mode `API_AND_CONFIG_MAP`, where an access entry
/// makes its creator administrator, so that what is tried here is what EKS does, and mapping files still work.
async fn ensure_cluster(
    directory: &Directory,
    args: &UpArgs,
    admin: &Admin,
    now: Timestamp,
) -> Result<(), Failure> {
    let snapshot = directory.snapshot();
    if let Some(cluster) = snapshot.cluster(args.account, &args.region, &args.cluster) {
        if cluster.record.authentication_mode != args.authentication_mode {
            tracing::info!(
                cluster = args.cluster,
                mode = %cluster.record.authentication_mode,
                "the cluster keeps its authentication mode; `aws eks update-cluster-config --access-config` changes it"
            );
        }
        return Ok(());
    }
    let creator = Creator {
        principal_arn: (*admin.arn).into(),
        principal_id: admin.id.clone(),
    };
    let new = NewCluster {
        authentication_mode: args.authentication_mode,
        ..NewCluster::new(args.account, &args.region, &args.cluster, creator)
    };
    directory.create_cluster(new, now).await?;
    Ok(())
}

/// What kube-apiserver reads, and what it is started with.
struct ApiServer {
    token_kubeconfig: PathBuf,
    authorization_kubeconfig: PathBuf,
    authorization_config: PathBuf,
    flags: PathBuf,
}

fn write_api_server_files(
    data_dir: &Path,
    address: &str,
    port: u16,
    ca_bundle: &str,
    client: Option<&TlsFiles>,
) -> Result<ApiServer, Failure> {
    let files = ApiServer {
        token_kubeconfig: data_dir.join("token-webhook.kubeconfig"),
        authorization_kubeconfig: data_dir.join("authorization-webhook.kubeconfig"),
        authorization_config: data_dir.join("authorization.yaml"),
        flags: data_dir.join("kube-apiserver.flags"),
    };
    for (path, url) in [
        (
            &files.token_kubeconfig,
            webhook_kubeconfig::server_url(address, port),
        ),
        (
            &files.authorization_kubeconfig,
            webhook_kubeconfig::authorizer_url(address, port),
        ),
    ] {
        settings::write_webhook_kubeconfig(path, &url, ca_bundle, client)?;
    }
    let authorization = api_server::authorization_configuration(&files.authorization_kubeconfig);
    settings::write_if_changed(&files.authorization_config, authorization.as_bytes(), 0o644)?;
    let mut flags = api_server::flags(&ApiServerFiles {
        token_kubeconfig: &files.token_kubeconfig,
        authorization_kubeconfig: &files.authorization_kubeconfig,
        authorization_config: &files.authorization_config,
        authentication_config: Path::new(""),
    })
    .join("\n");
    flags.push('\n');
    settings::write_if_changed(&files.flags, flags.as_bytes(), 0o644)?;
    Ok(files)
}

fn print_tour(
    args: &UpArgs,
    endpoint_url: &str,
    flags: &Path,
    admin: &Admin,
) -> Result<(), Failure> {
    let mut text = String::new();
    let _ = write!(
        text,
        "Countersign is up. In another shell:\n\n\
         \x20 export AWS_ENDPOINT_URL={endpoint_url}\n\
         \x20 export AWS_REGION={region} AWS_DEFAULT_REGION={region}\n\
         \x20 export AWS_ACCESS_KEY_ID={key}\n\
         \x20 export AWS_SECRET_ACCESS_KEY={secret}\n\n\
         \x20 aws sts get-caller-identity\n\
         \x20 aws eks get-token --cluster-name {cluster}\n\
         \x20 countersign get-token --cluster-name {cluster} | countersign verify -i {cluster} --explain\n\n\
         A kube-apiserver asks it who is calling, and what access policies allow, with the flags in\n\n\
         \x20 {flags}\n\n\
         Stop with Ctrl-C; everything is kept.\n",
        region = args.region,
        key = admin.access_key_id,
        secret = admin.secret.expose(),
        cluster = args.cluster,
        flags = flags.display(),
    );
    use std::io::Write as _;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

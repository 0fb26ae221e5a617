//! `podIdentityWebhook`: the admission webhook of the clusters of this process (webhook spec).

use std::path::Path;
use std::sync::Arc;

use countersign_arn::AccountId;
use countersign_pods::Source;
use countersign_server::config::{IdentityMode, OwnConfig, PodWebhookSettings};
use countersign_server::listen::tls::TlsOptions;
use countersign_server::metrics::Metrics;
use countersign_server::webhook::entries::Registered;
use countersign_server::webhook::mutate::{
    Admission, AssociationSource, ClusterMutator, Reconciler, ReconcilerOptions,
    RegisteredMutators, StoredAssociations, Unmutated,
};
use countersign_sources::files::{Identities, IdentitiesFile, POLL_INTERVAL};
use countersign_sources::kubernetes::{
    CaBundle, KubernetesAccess, PodSweep, RoleMapOptions, RoleMapWatch, ServiceAccountOptions,
    ServiceAccounts,
};
use countersign_store::Directory;
use jiff::Timestamp;
use tokio::sync::watch;

use super::kubernetes;
use crate::report::Failure;

/// A cluster, and how to get to it.
pub(super) struct Setting<'a> {
    pub(super) name: &'a str,
    pub(super) kubeconfig: Option<&'a Path>,
    pub(super) master: Option<&'a str>,
    /// Whether it is the default cluster, which may be the one this process is a pod of, and whose identities the file holds.
    pub(super) is_default: bool,
    /// The CAs of the serving certificate, PEM, for the registration.
    pub(super) ca_file: &'a Path,
}

/// What is known of a cluster's pods besides its associations. Its watches run.
#[derive(Default)]
pub(super) struct Prepared {
    accounts: Option<ServiceAccounts>,
    role_map: Option<RoleMapWatch>,
    identities: Option<Identities>,
    sweep: Option<PodSweep>,
}

impl Prepared {
    /// Whether service accounts are read.
    pub(super) fn reads_accounts(&self) -> bool {
        self.accounts.is_some()
    }
}

/// The section, or nothing where there is none.
pub(super) fn settings(own: &OwnConfig) -> Result<Option<PodWebhookSettings>, Failure> {
    let Some(section) = &own.pod_identity_webhook else {
        return Ok(None);
    };
    // In mode `aws` the account of the embedded records is a name and no account of AWS.
    let account = own
        .account_id
        .as_deref()
        .filter(|_| own.identity == IdentityMode::Embedded)
        .and_then(|id| id.parse::<AccountId>().ok());
    let settings = section.read(account, own.region.as_deref());
    Ok(Some(settings.map_err(Failure::usage)?))
}

/// What of TLS the webhook listener speaks.
pub(super) fn tls(settings: Option<&PodWebhookSettings>) -> TlsOptions {
    let Some(settings) = settings else {
        return TlsOptions::default();
    };
    let serving = &settings.flags.serving;
    for name in &serving.tls_cipher_suites {
        if !TlsOptions::knows(name) {
            tracing::warn!(suite = name, "cipher suite is not offered: it is insecure");
        }
    }
    TlsOptions {
        only_1_3: serving.tls_min_version == countersign_pods::TlsVersion::V1_3,
        cipher_suites: serving.tls_cipher_suites.clone(),
    }
}

/// Starts the watches of a cluster, where the section is there and the Kubernetes API can be reached.
pub(super) async fn prepare(
    settings: Option<&PodWebhookSettings>,
    setting: Setting<'_>,
) -> Result<Prepared, Failure> {
    let mut prepared = Prepared::default();
    let Some(settings) = settings else {
        return Ok(prepared);
    };
    let serving = &settings.flags.serving;
    for (flag, told) in settings.elsewhere.iter().filter(|_| setting.is_default) {
        tracing::warn!(
            setting = flag,
            "`podIdentityWebhook` setting has no effect: {told}"
        );
    }
    if let (true, Some(path)) = (setting.is_default, &serving.identities_file) {
        let (file, identities) = IdentitiesFile::load(path);
        tokio::spawn(file.run(POLL_INTERVAL));
        prepared.identities = Some(identities);
    }
    // The flags of the reference name one cluster.
    let named = Some(serving).filter(|_| setting.is_default);
    let access = KubernetesAccess {
        kubeconfig: named
            .and_then(|serving| serving.kubeconfig.clone())
            .or_else(|| setting.kubeconfig.map(Into::into)),
        master: named
            .and_then(|serving| serving.kube_api.clone())
            .or_else(|| setting.master.map(Into::into)),
    };
    let has_way = access.kubeconfig.is_some() || access.master.is_some();
    if !has_way && !setting.is_default {
        return Ok(prepared);
    }
    let needs_it = serving.watch_config_map || settings.webhook_configuration.is_some();
    let client = match access.client().await {
        Ok(client) => client,
        Err(error) if has_way || needs_it => {
            return Err(Failure::usage(error).hint(
                "`podIdentityWebhook` reads service accounts: set `server.kubeconfig`, or run in a pod with a service account",
            ));
        }
        Err(_) => {
            tracing::warn!(
                cluster = setting.name,
                "service accounts cannot be read, so that pods get credentials by associations alone: set `server.kubeconfig`"
            );
            return Ok(prepared);
        }
    };
    let mut options = ServiceAccountOptions {
        prefix: settings.flags.options.annotation_prefix.clone(),
        ..ServiceAccountOptions::default()
    };
    if !serving.lookup_grace_period.is_zero() {
        options.read_deadline = serving.lookup_grace_period;
    }
    let accounts = ServiceAccounts::new(client.clone(), options);
    tokio::spawn(accounts.clone().run());
    prepared.accounts = Some(accounts);
    if serving.watch_config_map {
        let map = RoleMapWatch::new(RoleMapOptions {
            namespace: serving.namespace.clone(),
            instance: kubernetes::instance(),
            ..RoleMapOptions::default()
        });
        tokio::spawn(map.clone().run(client.clone(), Timestamp::now));
        prepared.role_map = Some(map);
    }
    if let (true, Some(name)) = (setting.is_default, &settings.webhook_configuration) {
        let bundle = CaBundle::new(client.clone(), name, setting.ca_file);
        tokio::spawn(bundle.run());
    }
    if settings.reconcile {
        prepared.sweep = Some(PodSweep::new(client, &kubernetes::instance()));
    }
    Ok(prepared)
}

/// A cluster that was prepared, with the cluster of the EKS API that it is.
pub(super) type Cluster = (String, Prepared, Option<Registered>);

/// Puts the admission webhook together: of the clusters of the configuration, and where there is a directory of all others too.
/// None where neither the section nor a directory is there.
pub(super) fn start(
    settings: Option<&PodWebhookSettings>,
    clusters: Vec<Cluster>,
    directory: Option<&Directory>,
    metrics: &mut Metrics,
) -> Result<Option<Arc<Admission>>, Failure> {
    if settings.is_none() && directory.is_none() {
        return Ok(None);
    }
    let options = settings.map(|settings| settings.flags.options.clone());
    let webhook = countersign_pods::Webhook::new(options.unwrap_or_default());
    let webhook = Arc::new(webhook.map_err(Failure::usage)?);
    let serving = settings.map(|settings| settings.flags.serving.clone());
    let serving = serving.unwrap_or_default();
    let from_store = serving.associations_from == Source::Embedded;
    let clusters: Vec<_> = clusters
        .into_iter()
        .map(|(name, prepared, registered)| {
            let (found, unmutated) = watch::channel(Unmutated::default());
            let associations = registered.zip(directory).filter(|_| from_store);
            let mutator = Arc::new(ClusterMutator {
                name,
                webhook: Arc::clone(&webhook),
                accounts: prepared.accounts,
                role_map: prepared.role_map,
                identities: prepared.identities,
                associations: associations.map(|(cluster, directory)| {
                    Arc::new(StoredAssociations {
                        directory: directory.clone(),
                        cluster,
                    }) as Arc<dyn AssociationSource>
                }),
                wait_for_association: serving.wait_for_association,
                unmutated: prepared.sweep.is_some().then_some(unmutated),
            });
            if let Some(sweep) = prepared.sweep {
                let options = ReconcilerOptions {
                    every: serving.resync_period.max(std::time::Duration::from_secs(1)),
                    restart: settings.is_some_and(|settings| settings.restart_unmutated),
                };
                let reconciler = Reconciler::new(Arc::clone(&mutator), sweep, options, found);
                tokio::spawn(reconciler.run(Timestamp::now));
            }
            mutator
        })
        .collect();
    metrics.register_mutators(clusters.clone());
    let registered = directory
        .filter(|_| from_store)
        .map(|directory| RegisteredMutators {
            directory: directory.clone(),
            webhook,
        });
    Ok(Some(Arc::new(Admission::new(
        clusters,
        registered,
        Arc::clone(metrics.mutate()),
    ))))
}

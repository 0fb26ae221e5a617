//! From the settings to the issuers of clusters.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use countersign_arn::AccountId;
use countersign_server::admin::{AdminAnswer, AdminOp, IssuerChange, execute};
use countersign_server::config::OwnConfig;
use countersign_server::issuer::{
    ApiFuture, BoundCheck, ClusterApi, ClusterIssuers, IssuerOptions,
};
use countersign_server::webhook::entries::Registered;
use countersign_sources::kubernetes::{KubernetesAccess, TokenApi, TokenApiError, TokenVerdict};
use countersign_store::records::ClusterKeySource;
use countersign_store::{ClusterPlace, Directory};
use jiff::Timestamp;

use super::issuer::{self, IssuerFiles};
use super::local::unexpected;
use super::settings;
use crate::report::Failure;

/// How long an API server may take to say its keys, or whether a pod is there: less than what STS has for an issuer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The API server behind a kubeconfig; none where nothing says how to get there. One that cannot be asked for now is one
/// that does not answer: what needs it is refused, and the log says why.
pub(super) async fn api(
    cluster: &str,
    kubeconfig: Option<&Path>,
    master: Option<&str>,
    may_be_own: bool,
) -> Option<Arc<dyn ClusterApi>> {
    let in_cluster = || may_be_own && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if kubeconfig.is_none() && master.is_none() && !in_cluster() {
        return None;
    }
    let access = KubernetesAccess {
        kubeconfig: kubeconfig.map(Into::into),
        master: master.map(Into::into),
    };
    match access.client().await {
        Ok(client) => Some(Arc::new(TokenApi::new(client, TIMEOUT))),
        Err(error) => {
            tracing::error!(
                cluster,
                error = %anyhow::Error::new(error),
                "the API server cannot be asked about service account tokens; those of its issuer are refused"
            );
            Some(Arc::new(NoApi))
        }
    }
}

/// An API server that is meant to be asked, and cannot be.
#[derive(Debug)]
struct NoApi;

impl ClusterApi for NoApi {
    fn key_set(&self) -> ApiFuture<'_, Vec<u8>> {
        Box::pin(async { Err(TokenApiError::Unreachable) })
    }

    fn review<'a>(&'a self, _: &'a str, _: &'a [Box<str>]) -> ApiFuture<'a, TokenVerdict> {
        Box::pin(async { Err(TokenApiError::Unreachable) })
    }
}

/// The issuers of the clusters of `directory`.
pub(super) fn start(
    own: &OwnConfig,
    directory: Directory,
    clusters: Vec<(Registered, Arc<dyn ClusterApi>)>,
) -> Result<Arc<ClusterIssuers>, Failure> {
    let bound_check = match &own.issuer.bound_check {
        None => BoundCheck::default(),
        Some(text) => text.parse().map_err(|error| {
            Failure::usage(anyhow::Error::new(error).context("`countersign.issuer.boundCheck`"))
        })?,
    };
    let has_clusters = !clusters.is_empty();
    let options = IssuerOptions {
        public_url: public_url(own),
        bound_check,
        clusters,
    };
    let issuers = ClusterIssuers::new(directory, options).map_err(|error| {
        Failure::usage(anyhow::Error::new(error).context("`countersign.issuer.publicUrl`"))
    })?;
    let issuers = Arc::new(issuers);
    if has_clusters {
        tokio::spawn(Arc::clone(&issuers).keep_keys());
    }
    Ok(issuers)
}

/// `issuer.publicUrl`, else `webIdentity.publicUrl` where issuers can begin with it; empty for the default.
pub(super) fn public_url(own: &OwnConfig) -> String {
    let usable = |url: &&String| {
        url.strip_prefix("https://")
            .is_some_and(|rest| !rest.split('/').next().unwrap_or_default().contains(':'))
    };
    own.issuer
        .public_url
        .as_ref()
        .or(own.web_identity.public_url.as_ref().filter(usable))
        .cloned()
        .unwrap_or_default()
}

/// What a self-managed API server of a cluster signs with; made when the cluster has no keys. None for a cluster whose keys
/// come from elsewhere.
pub(super) async fn api_server_files(
    own: &OwnConfig,
    directory: &Directory,
    (account, region, name): (AccountId, &str, &str),
    data_dir: &Path,
) -> Result<(String, Option<IssuerFiles>), Failure> {
    let now = Timestamp::now();
    let place = ClusterPlace {
        account,
        region,
        name,
    };
    let options = IssuerOptions {
        public_url: public_url(own),
        ..IssuerOptions::default()
    };
    let issuers = ClusterIssuers::new(directory.clone(), options).map_err(|error| {
        Failure::usage(anyhow::Error::new(error).context("`countersign.issuer.publicUrl`"))
    })?;
    let snapshot = directory.snapshot();
    let cluster = place.find(&snapshot, now).map_err(Failure::usage)?;
    let url = issuers.issuer_url(&cluster.record);
    let source = snapshot
        .cluster_keys(&cluster.record.id)
        .map(|keys| keys.record.source);
    match source {
        None => {
            let algorithm = countersign_oidc::Algorithm::Rs256;
            let made = directory.generate_cluster_keys(place, algorithm, now);
            made.await.map_err(Failure::unknown)?;
        }
        Some(ClusterKeySource::Generated) => {}
        Some(ClusterKeySource::Uploaded | ClusterKeySource::ApiServer) => return Ok((url, None)),
    }
    let op = AdminOp::IssuerKeys {
        account: Some(account),
        cluster: Some(cluster.record.arn()),
        change: IssuerChange::SigningKey {},
    };
    let answer = execute(directory, &op, now).await;
    let AdminAnswer::IssuerKeys(report) =
        answer.map_err(|error| Failure::unknown(anyhow!(error)))?
    else {
        return Err(unexpected());
    };
    let files = issuer::write_api_server_files(data_dir, &url, &report)?;
    let mut flags = files.flags.join("\n");
    flags.push('\n');
    let path = data_dir.join("kube-apiserver-issuer.flags");
    settings::write_if_changed(&path, flags.as_bytes(), 0o644)?;
    Ok((url, Some(files)))
}

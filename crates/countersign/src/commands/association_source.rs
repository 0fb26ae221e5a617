//! `associationsFrom`: where the admission webhook learns from which service accounts have an association (webhook spec, section 2).

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use countersign_arn::Partition;
use countersign_pods::Serving;
use countersign_server::webhook::mutate::{AssociationSource, KeptAssociations, KeptFrom};
use countersign_sources::kubernetes::AssociationObjects;
use countersign_upstream::clock::SystemClock;
use countersign_upstream::eks::{EksAssociations, EksListOptions};
use countersign_upstream::http::HttpsClient;
use http::Uri;
use jiff::Timestamp;
use tokio::sync::watch;

use super::credentials::ChainCredentials;
use crate::report::Failure;

/// Where SDKs of AWS look for certificate authorities in the place of the public ones.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// Polls the associations of an EKS API, with the credentials of the AWS chain. `cluster` is the one that is served.
pub(super) fn eks(
    serving: &Serving,
    cluster: &str,
    is_default: bool,
) -> Result<Arc<dyn AssociationSource>, Failure> {
    // The setting names one cluster; further ones have the names of the configuration.
    let named = serving.associations_cluster.as_deref();
    let cluster = named.filter(|_| is_default).unwrap_or(cluster);
    let region = serving.associations_region.clone().or_else(|| {
        ["AWS_REGION", "AWS_DEFAULT_REGION"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
    });
    let region = region.ok_or_else(|| {
        Failure::usage(anyhow!(
            "the EKS API to learn associations from has no region"
        ))
        .hint("set `associationsRegion`, or AWS_REGION in the environment")
    })?;
    let partition = Partition::of_region(&region).ok_or_else(|| {
        Failure::usage(anyhow!("`{region}` in `associationsRegion` is no region"))
    })?;
    let endpoint = serving.associations_endpoint.as_deref().map(endpoint);
    let options = EksListOptions {
        partition,
        region,
        cluster: cluster.to_owned(),
        credentials: Arc::new(ChainCredentials::new()),
        endpoint: endpoint.transpose()?,
    };
    let mut http = HttpsClient::builder();
    if let Some(path) = std::env::var_os(CA_BUNDLE).filter(|path| !path.is_empty()) {
        let path = std::path::PathBuf::from(path);
        let pem = std::fs::read(&path)
            .with_context(|| format!("could not read `{}` of {CA_BUNDLE}", path.display()))
            .map_err(Failure::usage)?;
        http = http.roots_pem(&pem).map_err(Failure::usage)?;
    }
    let http = http.build().map_err(Failure::usage)?;
    let api =
        EksAssociations::new(http, Arc::new(SystemClock), &options).map_err(Failure::usage)?;
    let kept = KeptAssociations::new(KeptFrom::Eks);
    tokio::spawn(
        kept.clone()
            .poll(Arc::new(api), serving.association_refresh, Timestamp::now),
    );
    Ok(Arc::new(kept))
}

/// Follows the `PodIdentityAssociation` objects of a cluster.
pub(super) fn objects(objects: AssociationObjects) -> Arc<dyn AssociationSource> {
    let (states, known) = watch::channel(Arc::default());
    tokio::spawn(objects.run(states));
    let kept = KeptAssociations::new(KeptFrom::Objects);
    tokio::spawn(kept.clone().follow(known, Timestamp::now));
    Arc::new(kept)
}

/// What comes back decides which pods get credentials: without TLS it comes from this machine only.
fn endpoint(text: &str) -> Result<Uri, Failure> {
    let url: Uri = text
        .parse()
        .with_context(|| format!("`associationsEndpoint` is `{text}`"))
        .map_err(Failure::usage)?;
    let host = url.host().unwrap_or_default();
    let is_local = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_local => Ok(url),
        _ => Err(Failure::usage(anyhow!(
            "`associationsEndpoint` is `{text}`; it begins with https://, or is on this machine"
        ))),
    }
}

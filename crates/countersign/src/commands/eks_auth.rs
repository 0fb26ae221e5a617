//! From the settings of EKS Pod Identity to what issues pods' credentials.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use countersign_arn::Partition;
use countersign_server::aws::{EksAuthOptions, RealSts};
use countersign_server::config::OwnConfig;
use countersign_upstream::clock::SystemClock;
use countersign_upstream::ec2::InstanceLookup;
use countersign_upstream::roles::{StsRoles, StsRolesOptions};
use http::Uri;

use super::credentials::ChainCredentials;
use super::upstream;
use crate::report::Failure;

const FALLBACK_REGION: &str = "us-east-1";

/// The options of EKS Auth. Where identities are those of real AWS, so are the credentials of pods, assumed with the
/// credentials of the AWS chain; nothing is asked before a pod does.
pub(super) fn options(
    own: &OwnConfig,
    partition: Partition,
    nodes: Option<InstanceLookup>,
    embedded: bool,
) -> Result<EksAuthOptions, Failure> {
    let config = &own.pod_identity;
    let mut options = EksAuthOptions {
        nodes,
        ..EksAuthOptions::default()
    };
    if let Some(agents) = &config.agents {
        options.agents = agents
            .iter()
            .map(|agent| service_account(agent))
            .collect::<Result<_, _>>()?;
    }
    let seconds = config.session_seconds.unwrap_or(3600);
    if !(900..=43_200).contains(&seconds) {
        return Err(Failure::usage(anyhow!(
            "`podIdentity.sessionSeconds` is {seconds}; it is 900 to 43,200"
        )));
    }
    if embedded {
        return Ok(options);
    }
    let roles = StsRoles::new(
        upstream::client(own)?,
        Arc::new(SystemClock),
        &StsRolesOptions {
            partition,
            region: upstream::region(own).unwrap_or_else(|| FALLBACK_REGION.to_owned()),
            credentials: Arc::new(ChainCredentials::new()),
            endpoint: config.sts_endpoint.as_deref().map(endpoint).transpose()?,
        },
    )
    .map_err(Failure::usage)?;
    options.real = Some(RealSts::new(Arc::new(roles)).lasting(seconds));
    Ok(options)
}

fn service_account(text: &str) -> Result<Box<str>, Failure> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    };
    match text.split_once(':') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) => Ok(text.into()),
        _ => Err(Failure::usage(anyhow!(
            "`{text}` in `podIdentity.agents` is no service account; it is NAMESPACE:NAME, such as kube-system:countersign-agent"
        ))),
    }
}

/// The answers have credentials in them: without TLS they come from this machine only.
fn endpoint(text: &str) -> Result<Uri, Failure> {
    let url: Uri = text
        .parse()
        .with_context(|| format!("`podIdentity.stsEndpoint` is `{text}`"))
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
            "`podIdentity.stsEndpoint` is `{text}`; it begins with https://, or is on this machine"
        ))),
    }
}

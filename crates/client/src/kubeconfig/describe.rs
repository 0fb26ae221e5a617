//! Asking the EKS API for a cluster.

use serde::Deserialize;

use crate::chain::{self, RequestedRole};
use crate::credentials;
use crate::endpoint::{Endpoint, Service};
use crate::http::HttpClient;
use crate::session::{Io, Session};
use crate::sts::{self, StsError, printable};

use super::{KubeconfigArgs, KubeconfigError};

/// What a kubeconfig needs to know of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its ARN, or whatever its entries shall be called.
    pub arn: String,
    /// URL of the API server.
    pub endpoint: String,
    /// CA certificate of the API server, PEM in base64.
    pub certificate_authority: Option<String>,
    /// Region that tokens are signed for.
    pub region: String,
    /// Id that replaces the name in tokens; local clusters on Outposts have one.
    pub outpost_id: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    cluster: Description,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    status: String,
    arn: String,
    endpoint: Option<String>,
    certificate_authority: Option<Authority>,
    id: Option<String>,
    outpost_config: Option<OutpostConfig>,
}

#[derive(Deserialize)]
struct Authority {
    data: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutpostConfig {
    etcd_instance_type: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(alias = "Message", default)]
    message: String,
    #[serde(rename = "__type", alias = "code", default)]
    code: String,
}

pub(super) fn describe(
    args: &KubeconfigArgs,
    session: &Session<'_>,
    io: &mut Io<'_>,
) -> Result<Cluster, KubeconfigError> {
    let plan = credentials::plan(session.env, session.profiles)?;
    let named = session.region(args.region.as_deref());
    let resolved = chain::resolve(session, &plan, named.as_deref(), io)?;
    let region = named
        .or(resolved.region_of_machine)
        .ok_or(KubeconfigError::NoRegion)?;
    let http = HttpClient::new(session.env, &session.profile())?;
    let mut credentials = resolved.credentials;
    if let Some(role_arn) = &args.assume_role_arn {
        let role = RequestedRole {
            role_arn,
            session_name: Some("EKSDescribeClusterSession"),
            external_id: None,
            forward_session_name: false,
        };
        let sts = session.sts_endpoint(&region)?;
        credentials = chain::assume_requested(&http, &sts, &credentials, &role, session.now())?;
    }
    let endpoint = Endpoint::resolve(Service::Eks, &region, session.env, &session.profile())?;
    let mut path = endpoint.path().trim_end_matches('/').to_owned();
    path.push_str("/clusters/");
    sts::percent_encode(&args.name, &mut path);
    let answer = sts::send_signed(
        &http,
        &endpoint,
        Service::Eks,
        &credentials,
        ("GET", &path, ""),
        session.now(),
    )?;
    if answer.status != 200 {
        return Err(refusal(&answer.body, answer.status, &endpoint).into());
    }
    parse(&answer.body, &endpoint)
}

fn refusal(body: &[u8], status: u16, endpoint: &Endpoint) -> StsError {
    let operation = "DescribeCluster";
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => StsError::Refused {
            operation,
            code: match printable(&refusal.code) {
                code if code.is_empty() => format!("HTTP {status}"),
                code => code,
            },
            message: printable(&refusal.message),
        },
        Err(_) => StsError::Answer {
            endpoint: endpoint.to_string(),
            operation,
            status,
        },
    }
}

fn parse(body: &[u8], endpoint: &Endpoint) -> Result<Cluster, KubeconfigError> {
    let unusable = || KubeconfigError::Answer(endpoint.to_string());
    let Answer { cluster } = serde_json::from_slice(body).map_err(|_| unusable())?;
    if !matches!(cluster.status.as_str(), "ACTIVE" | "UPDATING") {
        return Err(KubeconfigError::Status(printable(&cluster.status)));
    }
    let local_outpost = cluster
        .outpost_config
        .is_some_and(|config| config.etcd_instance_type.is_none());
    Ok(Cluster {
        region: region_of_arn(&cluster.arn).ok_or_else(unusable)?,
        endpoint: cluster.endpoint.ok_or_else(unusable)?,
        certificate_authority: Some(
            cluster
                .certificate_authority
                .and_then(|authority| authority.data)
                .unwrap_or_default(),
        ),
        outpost_id: cluster.id.filter(|_| local_outpost),
        arn: cluster.arn,
    })
}

pub(super) fn region_of_arn(arn: &str) -> Option<String> {
    let arn = countersign_arn::Arn::parse(arn).ok()?;
    (!arn.region.is_empty()).then(|| arn.region.to_owned())
}

#[cfg(test)]
pub(super) fn parse_for_test(body: &str) -> Result<Cluster, KubeconfigError> {
    let endpoint = Endpoint::at("https://eks.cs.example", "eu-west-1")?;
    parse(body.as_bytes(), &endpoint)
}

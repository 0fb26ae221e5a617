//! Real AWS behind the server: STS for tokens, EC2 for node names.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use countersign_arn::Partition;
use countersign_mapping::Ec2InstanceId;
use countersign_server::config::{Config, OwnConfig};
use countersign_upstream::clock::SystemClock;
use countersign_upstream::ec2::{
    Ec2, Ec2Api, Ec2ApiOptions, InstanceLookup, LookupOptions, NamesFirst,
};
use countersign_upstream::http::HttpsClient;
use countersign_upstream::sts::{CallLimits, Flush, HttpsSts, StsOptions, StsVerifier};

use crate::report::Failure;

/// The verifier of tokens for AWS hosts.
pub(super) fn sts(own: &OwnConfig, partition: Partition) -> Result<StsVerifier, Failure> {
    let options = &own.upstream;
    let defaults = StsOptions::default();
    let limits = CallLimits::default();
    let seconds =
        |given: Option<u64>, default: Duration| given.map_or(default, Duration::from_secs);
    let options = StsOptions {
        partition,
        identity_ttl: seconds(options.identity_cache_ttl, defaults.identity_ttl),
        stale_on_outage: seconds(options.stale_identity_on_outage, defaults.stale_on_outage),
        limits: CallLimits {
            in_flight: options.max_in_flight.unwrap_or(limits.in_flight),
            per_second: options.rate_per_second.map_or(limits.per_second, f64::from),
            burst: options.burst.map_or(limits.burst, f64::from),
            ..limits
        },
        ..defaults
    };
    let exchange = Arc::new(HttpsSts(client(own)?));
    StsVerifier::start(options, exchange, Arc::new(SystemClock)).map_err(Failure::usage)
}

pub(super) fn client(own: &OwnConfig) -> Result<HttpsClient, Failure> {
    let mut builder = HttpsClient::builder();
    if let Some(path) = &own.upstream.ca_file {
        let pem = std::fs::read(path)
            .with_context(|| format!("could not read `{}`", path.display()))
            .map_err(Failure::usage)?;
        builder = builder.roots_pem(&pem).map_err(Failure::usage)?;
    }
    if let Some(address) = &own.upstream.connect_to {
        let address = address
            .parse()
            .with_context(|| {
                format!("`connectTo` is `{address}`; it is an address such as 127.0.0.1:443")
            })
            .map_err(Failure::usage)?;
        builder = builder.danger_resolve_all_hosts_to(address);
    }
    builder.build().map_err(Failure::usage)
}

/// Where node names are looked up: the configured list first, then EC2 where credentials can be had.
pub(super) async fn nodes(
    config: &Config,
    partition: Partition,
) -> Result<Option<InstanceLookup>, Failure> {
    let own = &config.countersign;
    let mut names = HashMap::new();
    for (id, name) in &own.node_names {
        let id = Ec2InstanceId::parse(id).ok_or_else(|| {
            Failure::usage(anyhow::anyhow!(
                "`{id}` in `nodeNames` is no EC2 instance id"
            ))
        })?;
        names.insert(id, name.clone());
    }
    let ec2 = ec2(config, partition).await?;
    let source: Arc<dyn Ec2> = match (names.is_empty(), ec2) {
        (true, None) => return Ok(None),
        (true, Some(ec2)) => ec2,
        (false, then) => Arc::new(NamesFirst { names, then }),
    };
    let server = &config.server;
    let defaults = LookupOptions::default();
    let options = LookupOptions {
        per_second: server
            .ec2_describe_instances_qps
            .map_or(defaults.per_second, f64::from),
        burst: server
            .ec2_describe_instances_burst
            .map_or(defaults.burst, f64::from),
        ..defaults
    };
    Ok(Some(InstanceLookup::start(source, options)))
}

/// The region of AWS: that of the configuration, else of the environment.
pub(super) fn region(own: &OwnConfig) -> Option<String> {
    own.region.clone().or_else(|| {
        ["AWS_REGION", "AWS_DEFAULT_REGION"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|r| !r.is_empty()))
    })
}

/// EC2, with the credentials of the AWS chain; nothing is asked before a node calls.
async fn ec2(config: &Config, partition: Partition) -> Result<Option<Arc<dyn Ec2>>, Failure> {
    let own = &config.countersign;
    let Some(region) = region(own) else {
        return Ok(None);
    };
    let endpoint = own
        .upstream
        .ec2_endpoint
        .as_deref()
        .map(|url| {
            url.parse()
                .with_context(|| format!("`ec2Endpoint` is `{url}`"))
        })
        .transpose()
        .map_err(Failure::usage)?;
    let options = Ec2ApiOptions {
        partition,
        region,
        credentials: Arc::new(super::credentials::ChainCredentials::new()),
        role_arn: config
            .server
            .ec2_describe_instances_role_arn
            .clone()
            .filter(|arn| !arn.is_empty()),
        source_arn: config
            .server
            .source_arn
            .clone()
            .filter(|arn| !arn.is_empty()),
        ec2_endpoint: endpoint,
        iam_endpoint: None,
        sts_endpoint: None,
    };
    let api = Ec2Api::new(client(own)?, Arc::new(SystemClock), &options).map_err(Failure::usage)?;
    Ok(Some(Arc::new(api)))
}

/// SIGHUP empties the identity cache: after it, no token is accepted that STS would refuse now.
pub(super) async fn flush_on_hangup(sts: Option<StsVerifier>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangup.recv().await.is_some() {
        let dropped = sts.as_ref().map_or(0, |sts| sts.flush(Flush::All));
        tracing::info!(dropped, "identity cache emptied");
    }
}

//! From the settings of web identities to what verifies them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use countersign_oidc::{IssuerUrl, KeySet, PublicKey, TimeRules};
use countersign_server::config::WebIdentityConfig;
use countersign_server::web_identity::{WebIdentity, WebIdentityOptions};
use countersign_upstream::jwks::{FetchOptions, IssuerOptions, KeySourceOptions};

use crate::report::Failure;

const MAX_SKEW: u32 = 600;
const MAX_TIMEOUT: u64 = 30_000;

/// Sets up what verifies web identities. `endpoint_url` is the URL of the AWS listener.
pub(super) fn start(
    config: &WebIdentityConfig,
    endpoint_url: &str,
) -> Result<Arc<WebIdentity>, Failure> {
    let defaults = TimeRules::default();
    let times = TimeRules {
        clock_skew_seconds: config.clock_skew.unwrap_or(defaults.clock_skew_seconds),
        max_age_seconds: config.max_token_age.unwrap_or(defaults.max_age_seconds),
    };
    if times.clock_skew_seconds > MAX_SKEW {
        return Err(Failure::usage(anyhow!(
            "webIdentity.clockSkew is at most {MAX_SKEW} seconds"
        )));
    }
    let timeout = config.issuer_timeout_ms;
    if timeout.is_some_and(|timeout| !(1..=MAX_TIMEOUT).contains(&timeout)) {
        return Err(Failure::usage(anyhow!(
            "webIdentity.issuerTimeoutMs is from 1 to {MAX_TIMEOUT}"
        )));
    }
    let mut issuers = HashMap::new();
    let mut registered = Vec::new();
    for issuer in &config.issuers {
        let url: IssuerUrl = issuer
            .url
            .parse()
            .map_err(|error| Failure::usage(anyhow!("issuer `{}`: {error}", issuer.url)))?;
        if let Some(file) = &issuer.keys_file {
            registered.push((url.clone(), read_keys(file)?));
        }
        let address = issuer
            .connect_to
            .as_deref()
            .map(|text| {
                text.parse().map_err(|_| {
                    Failure::usage(anyhow!(
                        "issuer `{url}`: connectTo is an address with a port, not `{text}`"
                    ))
                })
            })
            .transpose()?;
        let roots_pem = issuer.ca_file.as_deref().map(read).transpose()?;
        issuers.insert(url, IssuerOptions { roots_pem, address });
    }
    let options = WebIdentityOptions {
        fetch: FetchOptions {
            timeout: timeout.map(Duration::from_millis),
            roots_pem: config.ca_file.as_deref().map(read).transpose()?,
            private_hosts: config
                .allow_private_issuers
                .iter()
                .map(|host| host.as_str().into())
                .collect(),
            issuers,
        },
        source: KeySourceOptions {
            thumbprint_trust: config.thumbprint_trust,
            ..KeySourceOptions::default()
        },
        times,
        kubernetes_claims: config.kubernetes_claims,
        public_url: config
            .public_url
            .clone()
            .unwrap_or_else(|| endpoint_url.to_owned()),
    };
    let web = WebIdentity::new(options).map_err(Failure::usage)?;
    for (url, keys) in registered {
        web.keys().register(url.as_str(), Arc::new(keys));
    }
    Ok(Arc::new(web))
}

/// PEM public keys, or a key set.
fn read_keys(file: &Path) -> Result<KeySet, Failure> {
    let text = read(file)?;
    let place = || format!("the keys in `{}` cannot be used", file.display());
    let keys = if text.trim_ascii_start().starts_with(b"{") {
        KeySet::parse(&text).with_context(place)
    } else {
        PublicKey::from_pem(&text)
            .and_then(KeySet::of)
            .with_context(place)
    };
    keys.map_err(Failure::usage)
}

fn read(file: &Path) -> Result<Bytes, Failure> {
    let bytes = std::fs::read(file)
        .with_context(|| format!("could not read `{}`", file.display()))
        .map_err(Failure::usage)?;
    Ok(bytes.into())
}

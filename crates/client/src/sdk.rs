//! Credentials through the AWS SDK: SSO, processes, web identity, containers, instance metadata.
//!
//! A runtime is started here and nowhere earlier: keys from environment or shared files never come this way. The SDK reads the
//! environment and the shared files of the process itself.

use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{BehaviorVersion, Region, imds};
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use countersign_sigv4::SecretKey;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::chain::{ChainError, Resolved};
use crate::credentials::{Credentials, SdkSource};
use crate::http::{HttpError, ca_bundle, chain};
use crate::session::{FALLBACK_REGION, Session};

/// Instance metadata answers at once or not at all.
const METADATA_CONNECT: Duration = Duration::from_secs(1);
/// For the region alone nobody waits longer; the credentials came from the same place a moment ago.
const REGION_CONNECT: Duration = Duration::from_millis(200);

pub(crate) fn resolve(
    session: &Session<'_>,
    source: SdkSource<'_>,
    region: Option<&str>,
) -> Result<Resolved, ChainError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ChainError::Sdk(format!("could not start a runtime: {error}")))?;
    runtime.block_on(resolve_async(session, source, region))
}

async fn resolve_async(
    session: &Session<'_>,
    source: SdkSource<'_>,
    region: Option<&str>,
) -> Result<Resolved, ChainError> {
    let client_region = region.unwrap_or(FALLBACK_REGION).to_owned();
    let mut config = ProviderConfig::without_region()
        .with_region(Some(Region::new(client_region)))
        .with_behavior_version(Some(BehaviorVersion::latest()));
    if let Some(path) = ca_bundle(session.env, &session.profile()) {
        let pem = std::fs::read(&path).map_err(|source| HttpError::CaBundle {
            path,
            source: source.into(),
        })?;
        config = trusting(config, &pem)?;
    }
    let found = match source {
        SdkSource::Profile(name) => {
            let provider = ProfileFileCredentialsProvider::builder()
                .configure(&config)
                .profile_name(name)
                .build();
            provider.provide_credentials().await.map(|c| (c, false))
        }
        SdkSource::WebIdentity => {
            let provider = WebIdentityTokenCredentialsProvider::builder()
                .configure(&config)
                .build();
            provider.provide_credentials().await.map(|c| (c, false))
        }
        SdkSource::Container => container(&config).await.map(|c| (c, false)),
        SdkSource::InstanceMetadata => instance(&config).await.map(|c| (c, true)),
        SdkSource::Machine => match container(&config).await {
            Err(CredentialsError::CredentialsNotLoaded(_)) => {
                instance(&config).await.map(|c| (c, true))
            }
            other => other.map(|c| (c, false)),
        },
    };
    let (found, of_machine) = found.map_err(|error| match (&error, source) {
        (CredentialsError::CredentialsNotLoaded(_), SdkSource::Machine) => {
            ChainError::None(hint(session))
        }
        _ => ChainError::Sdk(chain(&error)),
    })?;
    let region_of_machine = if of_machine && region.is_none() {
        let client = imds::Client::builder()
            .configure(&config)
            .connect_timeout(REGION_CONNECT)
            .max_attempts(1)
            .build();
        let answer = client.get("/latest/meta-data/placement/region").await;
        answer.ok().map(|region| region.as_ref().trim().to_owned())
    } else {
        None
    };
    Ok(Resolved {
        credentials: Credentials {
            access_key_id: found.access_key_id().to_owned(),
            secret: SecretKey::new(found.secret_access_key()),
            session_token: found
                .session_token()
                .map(|token| Zeroizing::new(token.to_owned())),
            expires_at: found.expiry().and_then(|end| Timestamp::try_from(end).ok()),
            source: label(source).to_owned(),
        },
        region_of_machine,
    })
}

/// The SDK does not know `AWS_CA_BUNDLE`: a client that trusts what it names, and is else the SDK's own.
fn trusting(config: ProviderConfig, pem: &[u8]) -> Result<ProviderConfig, ChainError> {
    let context = TlsContext::builder()
        .with_trust_store(TrustStore::empty().with_pem_certificate(pem))
        .build()
        .map_err(|error| ChainError::Sdk(chain(&error)))?;
    let client = Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context.clone());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    });
    Ok(config.with_http_client(client))
}

async fn container(
    config: &ProviderConfig,
) -> Result<aws_credential_types::Credentials, CredentialsError> {
    let provider = EcsCredentialsProvider::builder().configure(config).build();
    provider.provide_credentials().await
}

async fn instance(
    config: &ProviderConfig,
) -> Result<aws_credential_types::Credentials, CredentialsError> {
    let client = imds::Client::builder()
        .configure(config)
        .connect_timeout(METADATA_CONNECT)
        .max_attempts(2)
        .build();
    let provider = ImdsCredentialsProvider::builder()
        .configure(config)
        .imds_client(client)
        .build();
    provider.provide_credentials().await
}

fn hint(session: &Session<'_>) -> String {
    let profile = session.profile();
    if session.profiles.exists(profile.name) {
        format!("; profile `{}` has no credentials", profile.name)
    } else {
        String::new()
    }
}

/// The names that the Go SDK writes into the credential cache file.
const fn label(source: SdkSource<'_>) -> &'static str {
    match source {
        SdkSource::Profile(_) => "SharedConfigCredentials",
        SdkSource::WebIdentity => "WebIdentityCredentials",
        SdkSource::Container => "CredentialsEndpointProvider",
        SdkSource::InstanceMetadata | SdkSource::Machine => "EC2RoleProvider",
    }
}

//! The server's own AWS credentials: the standard chain, asked when a call needs them.

use countersign_upstream::ec2::{AwsCredentials, CredentialsError, ProvideCredentials};
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

/// Environment, files, web identity, container and instance metadata, in the order of every AWS SDK.
#[derive(Default)]
pub(super) struct ChainCredentials {
    provider: OnceCell<Option<aws_credential_types::provider::SharedCredentialsProvider>>,
}

impl ChainCredentials {
    pub(super) fn new() -> Self {
        Self::default()
    }

    async fn load(&self) -> Result<AwsCredentials, CredentialsError> {
        use aws_credential_types::provider::ProvideCredentials as _;
        let provider = self
            .provider
            .get_or_init(|| async {
                aws_config::defaults(aws_config::BehaviorVersion::latest())
                    .load()
                    .await
                    .credentials_provider()
            })
            .await;
        let provider = provider
            .as_ref()
            .ok_or_else(|| CredentialsError("no AWS credentials are configured".into()))?;
        let credentials = provider
            .provide_credentials()
            .await
            .map_err(|error| CredentialsError(error.to_string()))?;
        Ok(AwsCredentials {
            access_key_id: credentials.access_key_id().to_owned(),
            secret_access_key: Zeroizing::new(credentials.secret_access_key().to_owned()),
            session_token: credentials
                .session_token()
                .map(|token| Zeroizing::new(token.to_owned())),
            expires_at: credentials
                .expiry()
                .and_then(|time| Timestamp::try_from(time).ok()),
        })
    }
}

impl ProvideCredentials for ChainCredentials {
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials, CredentialsError>> {
        Box::pin(self.load())
    }
}

//! AWS credentials for the few calls that need them: given in, or those of an assumed role.

use std::fmt;
use std::sync::Arc;

use countersign_arn::{AccountId, Arn, Partition};
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::query::{AwsError, QueryClient, Service};
use super::xml::Element;

/// Credentials. Never prints the secret or the session token, wiped when dropped.
#[derive(Clone)]
pub struct AwsCredentials {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Zeroizing<String>,
    /// The session token of temporary credentials.
    pub session_token: Option<Zeroizing<String>>,
    /// When they end, if they do.
    pub expires_at: Option<Timestamp>,
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// There are no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no AWS credentials: {0}")]
pub struct CredentialsError(pub String);

/// Gives credentials that are valid now; an implementation keeps and renews them by itself.
pub trait ProvideCredentials: Send + Sync + 'static {
    /// The credentials.
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials, CredentialsError>>;
}

impl ProvideCredentials for AwsCredentials {
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials, CredentialsError>> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

/// Session of the role.
const SESSION: &str = "countersign-ec2-lookup";
/// Lifetime that is asked for.
const SECONDS: &str = "3600";
/// Renewal begins this long before the end.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// The credentials of a role (`ec2DescribeInstancesRoleARN`), assumed for an hour and renewed five minutes before the end.
///
/// With a source ARN (`server.sourceARN`), AssumeRole carries `x-amz-source-arn` and `x-amz-source-account`, so that the trust
/// policy of the role can tell on whose behalf it is assumed.
#[derive(Debug)]
pub struct AssumedRole {
    client: QueryClient,
    sts: Service,
    role_arn: String,
    source: Vec<(HeaderName, HeaderValue)>,
    held: Mutex<Option<AwsCredentials>>,
}

impl AssumedRole {
    pub(super) fn new(
        client: QueryClient,
        sts: Service,
        role_arn: &str,
        source_arn: Option<&str>,
    ) -> Result<Self, CredentialsError> {
        let arn = Arn::parse(role_arn)
            .map_err(|error| CredentialsError(format!("`{role_arn}` is no role: {error}")))?;
        if arn.service != "iam"
            || !arn.resource.starts_with("role/")
            || arn.partition.parse::<Partition>().is_err()
            || arn.account.parse::<AccountId>().is_err()
        {
            return Err(CredentialsError(format!("`{role_arn}` is no role")));
        }
        let source = source_arn
            .filter(|source| !source.is_empty())
            .map(source_headers)
            .transpose()?
            .unwrap_or_default();
        Ok(Self {
            client,
            sts,
            role_arn: role_arn.to_owned(),
            source,
            held: Mutex::new(None),
        })
    }

    async fn assume(&self) -> Result<AwsCredentials, AwsError> {
        let parameters = [
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", &self.role_arn),
            ("RoleSessionName", SESSION),
            ("DurationSeconds", SECONDS),
        ];
        let answer = self
            .client
            .call(&self.sts, &parameters, &self.source)
            .await?;
        credentials_of(&answer).ok_or(AwsError::BadAnswer)
    }
}

fn source_headers(source_arn: &str) -> Result<Vec<(HeaderName, HeaderValue)>, CredentialsError> {
    let invalid = || CredentialsError(format!("`sourceARN` `{source_arn}` is no ARN"));
    let arn = Arn::parse(source_arn).map_err(|_| invalid())?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| invalid());
    Ok(vec![
        (
            HeaderName::from_static("x-amz-source-arn"),
            value(source_arn)?,
        ),
        (
            HeaderName::from_static("x-amz-source-account"),
            value(arn.account)?,
        ),
    ])
}

impl ProvideCredentials for AssumedRole {
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials, CredentialsError>> {
        Box::pin(async move {
            let now = self.client.now();
            // Held over the call, so that concurrent lookups share one AssumeRole.
            let mut held = self.held.lock().await;
            if let Some(credentials) = &*held
                && credentials
                    .expires_at
                    .is_none_or(|end| end.duration_since(now) > RENEW_BEFORE)
            {
                return Ok(credentials.clone());
            }
            match self.assume().await {
                Ok(fresh) => {
                    *held = Some(fresh.clone());
                    Ok(fresh)
                }
                Err(error) => match &*held {
                    // Renewal began early; what is held still works for some minutes.
                    Some(credentials) if credentials.expires_at.is_none_or(|end| end > now) => {
                        tracing::warn!(role = %self.role_arn, %error, "role could not be assumed again; its present credentials still work");
                        Ok(credentials.clone())
                    }
                    _ => Err(CredentialsError(format!(
                        "`{}` cannot be assumed: {error}",
                        self.role_arn
                    ))),
                },
            }
        })
    }
}

/// The credentials in an answer of AssumeRole.
pub(crate) fn credentials_of(answer: &Element) -> Option<AwsCredentials> {
    credentials_in(answer, "AssumeRoleResult")
}

/// The credentials in the answer of any operation that assumes a role; `result` is the element around them.
pub(crate) fn credentials_in(answer: &Element, result: &str) -> Option<AwsCredentials> {
    let credentials = answer.at(&[result, "Credentials"])?;
    let text = |name: &str| Some(credentials.text_at(&[name])).filter(|text| !text.is_empty());
    Some(AwsCredentials {
        access_key_id: text("AccessKeyId")?.to_owned(),
        secret_access_key: Zeroizing::new(text("SecretAccessKey")?.to_owned()),
        session_token: Some(Zeroizing::new(text("SessionToken")?.to_owned())),
        expires_at: Some(text("Expiration")?.parse().ok()?),
    })
}

/// What a shared provider is held as.
pub(crate) type SharedCredentials = Arc<dyn ProvideCredentials>;

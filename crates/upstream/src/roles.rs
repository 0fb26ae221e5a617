//! Roles assumed in real AWS for others: the credentials go to whoever they are for, and nothing is kept.
//!
//! The endpoint is that of one region, given with the options; nothing that a request brings along chooses a host.

use std::fmt;
use std::sync::Arc;

use countersign_arn::Partition;
use futures::future::BoxFuture;
use http::Uri;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::ec2::{
    AwsCredentials, AwsError, CredentialsError, ProvideCredentials, QueryClient, Service,
    SharedCredentials, credentials_of,
};
use crate::http::HttpsClient;

/// Calls to STS at once; more are told to come back.
const IN_FLIGHT: usize = 128;

/// What AssumeRole is asked for.
#[derive(Debug, Clone, Copy)]
pub struct RoleRequest<'a> {
    /// ARN of the role.
    pub role_arn: &'a str,
    /// The session name.
    pub session_name: &'a str,
    /// How long the session is to last.
    pub seconds: u32,
    /// Session tags, all of them transitive.
    pub tags: &'a [(&'a str, &'a str)],
    /// A session policy.
    pub policy: Option<&'a str>,
    /// The external id.
    pub external_id: Option<&'a str>,
}

/// A session that AWS made.
#[derive(Debug, Clone)]
pub struct RoleSession {
    /// `arn:P:sts::A:assumed-role/NAME/SESSION`
    pub arn: String,
    /// `AROA…:SESSION`
    pub role_id: String,
    /// Its credentials, with the time when they end.
    pub credentials: AwsCredentials,
}

/// Assumes roles.
pub trait AssumeRoles: fmt::Debug + Send + Sync + 'static {
    /// AssumeRole, with these credentials, or with the own ones.
    fn assume_role<'a>(
        &'a self,
        request: RoleRequest<'a>,
        with: Option<&'a AwsCredentials>,
    ) -> BoxFuture<'a, Result<RoleSession, AwsError>>;
}

/// Where and as whom to ask.
#[derive(Clone)]
pub struct StsRolesOptions {
    /// The partition.
    pub partition: Partition,
    /// The region of the endpoint.
    pub region: String,
    /// The own credentials.
    pub credentials: Arc<dyn ProvideCredentials>,
    /// A URL in the place of the regional endpoint; with `http://` or a port for a server of one's own.
    pub endpoint: Option<Uri>,
}

impl fmt::Debug for StsRolesOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StsRolesOptions")
            .field("partition", &self.partition)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// [`AssumeRoles`] over the Query API of AWS STS.
pub struct StsRoles {
    http: HttpsClient,
    sts: Service,
    own: SharedCredentials,
    clock: Arc<dyn Clock>,
    in_flight: Semaphore,
}

impl StsRoles {
    /// A client with these options.
    ///
    /// # Errors
    /// When the endpoint is no URL with a host.
    pub fn new(
        http: HttpsClient,
        clock: Arc<dyn Clock>,
        options: &StsRolesOptions,
    ) -> Result<Self, CredentialsError> {
        let region = &options.region;
        let endpoint = match &options.endpoint {
            Some(own) => own.clone(),
            None => format!("https://sts.{region}.{}/", options.partition.plain_domain())
                .parse()
                .map_err(|_| CredentialsError(format!("`{region}` is no region")))?,
        };
        let sts = Service::new("sts", region, endpoint)
            .ok_or_else(|| CredentialsError("the STS endpoint is no URL with a host".into()))?;
        Ok(Self {
            http,
            sts,
            own: Arc::clone(&options.credentials),
            clock,
            in_flight: Semaphore::new(IN_FLIGHT),
        })
    }

    async fn assume(
        &self,
        request: RoleRequest<'_>,
        with: Option<&AwsCredentials>,
    ) -> Result<RoleSession, AwsError> {
        let _permit = self
            .in_flight
            .try_acquire()
            .map_err(|_| AwsError::Throttled {
                code: "TooManyInFlight".to_owned(),
            })?;
        let credentials: SharedCredentials = match with {
            Some(credentials) => Arc::new(credentials.clone()),
            None => Arc::clone(&self.own),
        };
        let client = QueryClient::new(self.http.clone(), credentials, Arc::clone(&self.clock));
        let seconds = request.seconds.to_string();
        let mut parameters = vec![
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", request.role_arn),
            ("RoleSessionName", request.session_name),
            ("DurationSeconds", seconds.as_str()),
        ];
        parameters.extend(request.policy.map(|policy| ("Policy", policy)));
        parameters.extend(request.external_id.map(|id| ("ExternalId", id)));
        let names: Vec<[String; 3]> = (1..=request.tags.len())
            .map(|n| {
                [
                    format!("Tags.member.{n}.Key"),
                    format!("Tags.member.{n}.Value"),
                    format!("TransitiveTagKeys.member.{n}"),
                ]
            })
            .collect();
        for ([key_name, value_name, transitive], (key, value)) in names.iter().zip(request.tags) {
            parameters.extend([
                (key_name.as_str(), *key),
                (value_name.as_str(), *value),
                (transitive.as_str(), *key),
            ]);
        }
        let answer = client.call(&self.sts, &parameters, &[]).await?;
        let text = |name: &str| {
            let text = answer.text_at(&["AssumeRoleResult", "AssumedRoleUser", name]);
            (!text.is_empty())
                .then(|| text.to_owned())
                .ok_or(AwsError::BadAnswer)
        };
        Ok(RoleSession {
            arn: text("Arn")?,
            role_id: text("AssumedRoleId")?,
            credentials: credentials_of(&answer).ok_or(AwsError::BadAnswer)?,
        })
    }
}

impl AssumeRoles for StsRoles {
    fn assume_role<'a>(
        &'a self,
        request: RoleRequest<'a>,
        with: Option<&'a AwsCredentials>,
    ) -> BoxFuture<'a, Result<RoleSession, AwsError>> {
        Box::pin(self.assume(request, with))
    }
}

impl fmt::Debug for StsRoles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StsRoles")
            .field("sts", &self.sts)
            .finish_non_exhaustive()
    }
}

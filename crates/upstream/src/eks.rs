//! The associations of a cluster, as an EKS API lists them (EKS API spec, section 10; webhook spec, section 3.4).
//!
//! The list names service accounts and no roles. Whoever decides in admission needs no more, so nothing is described: a cluster
//! with 5,000 associations is fifty calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_arn::Partition;
use countersign_sigv4::{Credentials, Payload, SecretKey, Signer};
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::Full;
use serde::Deserialize;

use crate::clock::Clock;
use crate::ec2::{AwsCredentials, AwsError, CredentialsError, ProvideCredentials};
use crate::http::{HttpsClient, USER_AGENT as PRODUCT};

/// Body bytes of one page: a hundred summaries with the longest names stay below 128 KiB.
const MAX_BODY: usize = 1 << 20;
/// Associations in one page; EKS takes no more.
const PER_PAGE: &str = "100";
/// Pages of one list: twenty times the quota of EKS. More means that somebody else answers.
const MAX_PAGES: usize = 1_000;
/// Longest token of a next page.
const MAX_TOKEN: usize = 8 << 10;
/// Time for one page.
const DEADLINE: Duration = Duration::from_secs(5);
const JSON: &str = "application/json";

/// An association, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAssociation {
    /// The Kubernetes namespace, or a pattern with `*`.
    pub namespace: Box<str>,
    /// The service account, or a pattern with `*`.
    pub service_account: Box<str>,
    /// `a-…`
    pub id: Box<str>,
}

/// Lists the associations of one cluster.
pub trait ListAssociations: fmt::Debug + Send + Sync + 'static {
    /// All of them.
    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedAssociation>, AwsError>>;
}

/// Where and as whom to ask.
#[derive(Clone)]
pub struct EksListOptions {
    /// The partition.
    pub partition: Partition,
    /// The region of the cluster.
    pub region: String,
    /// The cluster's name.
    pub cluster: String,
    /// Credentials that may do `eks:ListPodIdentityAssociations` on the cluster.
    pub credentials: Arc<dyn ProvideCredentials>,
    /// A URL in the place of the regional endpoint; with `http://` or a port for a server of one's own.
    pub endpoint: Option<Uri>,
}

impl fmt::Debug for EksListOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EksListOptions")
            .field("partition", &self.partition)
            .field("region", &self.region)
            .field("cluster", &self.cluster)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// [`ListAssociations`] over the EKS API, with signed calls.
pub struct EksAssociations {
    http: HttpsClient,
    clock: Arc<dyn Clock>,
    credentials: Arc<dyn ProvideCredentials>,
    region: String,
    /// `https://HOST[:PORT]`
    origin: String,
    host: HeaderValue,
    path: String,
}

impl EksAssociations {
    /// A client with these options.
    ///
    /// # Errors
    /// When the endpoint is no URL with a host, or the name cannot be one of a cluster.
    pub fn new(
        http: HttpsClient,
        clock: Arc<dyn Clock>,
        options: &EksListOptions,
    ) -> Result<Self, CredentialsError> {
        let region = &options.region;
        let endpoint = match &options.endpoint {
            Some(own) => own.clone(),
            None => format!("https://eks.{region}.{}/", options.partition.plain_domain())
                .parse()
                .map_err(|_| CredentialsError(format!("`{region}` is no region")))?,
        };
        let no_url = || CredentialsError("the EKS endpoint is no URL with a host".into());
        let scheme = endpoint
            .scheme_str()
            .filter(|scheme| matches!(*scheme, "http" | "https") && endpoint.query().is_none())
            .ok_or_else(no_url)?;
        let authority = endpoint
            .authority()
            .filter(|authority| !authority.as_str().contains('@'))
            .ok_or_else(no_url)?;
        if !is_cluster_name(&options.cluster) {
            return Err(CredentialsError(format!(
                "`{}` is no cluster name",
                options.cluster
            )));
        }
        let before = endpoint.path().trim_end_matches('/');
        Ok(Self {
            http,
            clock,
            credentials: Arc::clone(&options.credentials),
            region: region.clone(),
            origin: format!("{scheme}://{authority}"),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| no_url())?,
            path: format!(
                "{before}/clusters/{}/pod-identity-associations",
                options.cluster
            ),
        })
    }

    async fn all(&self) -> Result<Vec<ListedAssociation>, AwsError> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let (listed, next) = self.page(token.as_deref()).await?;
            all.extend(listed);
            match next {
                None => return Ok(all),
                // The same page again would never end.
                next if next == token => return Err(AwsError::BadAnswer),
                next => token = next,
            }
        }
        Err(AwsError::BadAnswer)
    }

    async fn page(
        &self,
        token: Option<&str>,
    ) -> Result<(Vec<ListedAssociation>, Option<String>), AwsError> {
        let credentials = self
            .credentials
            .credentials()
            .await
            .map_err(|error| AwsError::Credentials(error.0))?;
        let request = self.request(token, &credentials)?;
        let answer = self
            .http
            .exchange(request, MAX_BODY, DEADLINE)
            .await
            .map_err(AwsError::Unreachable)?;
        match answer.status.as_u16() {
            200 => page_of(&answer.body),
            status => Err(AwsError::of(status, code_of(&answer.headers))),
        }
    }

    fn request(
        &self,
        token: Option<&str>,
        credentials: &AwsCredentials,
    ) -> Result<Request<Full<Bytes>>, AwsError> {
        let mut query = format!("maxResults={PER_PAGE}");
        if let Some(token) = token {
            query.push_str("&nextToken=");
            query.extend(token.bytes().map(escaped));
        }
        let headers = [
            ("host", self.host.as_bytes()),
            ("content-type", JSON.as_bytes()),
        ];
        let mut to_sign = countersign_sigv4::Request::new("GET", self.path.as_bytes());
        to_sign.query = Some(query.as_bytes());
        to_sign.headers = &headers;
        to_sign.body = Payload::Empty;
        let secret = SecretKey::new(credentials.secret_access_key.as_str());
        let signer = Signer::new(
            Credentials {
                key_id: &credentials.access_key_id,
                secret: &secret,
                session_token: credentials
                    .session_token
                    .as_ref()
                    .map(|token| token.as_str()),
            },
            &self.region,
            "eks",
        );
        let signature = signer
            .sign(&to_sign, self.clock.now())
            .map_err(|error| AwsError::Credentials(error.to_string()))?;
        let uri = format!("{}{}?{query}", self.origin, self.path)
            .parse()
            .map_err(|_| AwsError::BadAnswer)?;
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri;
        let all = request.headers_mut();
        all.insert(HOST, self.host.clone());
        all.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        all.insert(USER_AGENT, PRODUCT);
        for (name, value) in signature.headers() {
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                AwsError::Credentials("the credentials have control characters".into())
            })?;
            value.set_sensitive(true);
            all.insert(HeaderName::from_static(name), value);
        }
        Ok(request)
    }
}

impl ListAssociations for EksAssociations {
    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedAssociation>, AwsError>> {
        Box::pin(self.all())
    }
}

impl fmt::Debug for EksAssociations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EksAssociations")
            .field("origin", &self.origin)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Reads one page. An association whose names Kubernetes would not take is left out: no pod can mean it.
pub(crate) fn page_of(body: &[u8]) -> Result<(Vec<ListedAssociation>, Option<String>), AwsError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Page {
        associations: Vec<Summary>,
        #[serde(default)]
        next_token: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Summary {
        namespace: Box<str>,
        service_account: Box<str>,
        association_id: Box<str>,
    }
    let page: Page = serde_json::from_slice(body).map_err(|_| AwsError::BadAnswer)?;
    let next = page.next_token.filter(|token| !token.is_empty());
    if next.as_ref().is_some_and(|token| token.len() > MAX_TOKEN) {
        return Err(AwsError::BadAnswer);
    }
    let listed = page
        .associations
        .into_iter()
        .filter(|summary| {
            is_name(&summary.namespace, 63)
                && is_name(&summary.service_account, 253)
                && is_id(&summary.association_id)
        })
        .map(|summary| ListedAssociation {
            namespace: summary.namespace,
            service_account: summary.service_account,
            id: summary.association_id,
        });
    Ok((listed.collect(), next))
}

/// The error code of an answer: what stands in `x-amzn-errortype` before the first `:`.
fn code_of(headers: &HeaderMap) -> String {
    headers
        .get("x-amzn-errortype")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(':').next())
        .filter(|code| {
            (1..=64).contains(&code.len())
                && code
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
        })
        .unwrap_or("Unknown")
        .to_owned()
}

/// The characters of a name of Kubernetes, and `*` for patterns.
fn is_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.*".contains(&b))
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `[0-9A-Za-z][A-Za-z0-9\-_]*`, 1 to 100 characters.
fn is_cluster_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn escaped(byte: u8) -> String {
    match byte {
        b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    }
}

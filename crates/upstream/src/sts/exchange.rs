//! The one request that is sent to STS, and who sends it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use countersign_token::{CLUSTER_ID_HEADER, EndpointKind, PresignedToken, RegionLabel};
use futures::future::BoxFuture;
use http::header::{ACCEPT, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use super::StsError;
use crate::http::{ExchangeFailure, HttpsClient, USER_AGENT as PRODUCT};

/// Time for the whole exchange: connecting, sending, reading the answer, and the one retry.
const DEADLINE: Duration = Duration::from_secs(10);

/// A GetCallerIdentity request as it goes out: the URL of a token byte for byte, and the own cluster id as a header.
///
/// It can only be made from a token whose host passed the host rules for AWS, so there is no way to have another host asked.
/// Like the token it is a credential; `Debug` shows the host alone.
#[derive(Clone)]
pub struct StsRequest {
    uri: Uri,
    cluster_id: HeaderValue,
    host: Box<str>,
    region: RegionLabel,
}

/// A complete HTTP answer.
#[derive(Debug, Clone)]
pub struct StsAnswer {
    /// The status.
    pub status: u16,
    /// The body, at most 64 KiB.
    pub body: Bytes,
}

/// Sends requests to STS.
///
/// An implementation does not follow redirects, reads at most 64 KiB of body, ends within some ten seconds, and repeats a request
/// at most once and only if the connection was reset before any byte of an answer.
pub trait StsExchange: Send + Sync + 'static {
    /// Sends one request and reads the whole answer.
    fn get<'a>(
        &'a self,
        request: &'a StsRequest,
    ) -> BoxFuture<'a, Result<StsAnswer, ExchangeFailure>>;
}

/// [`StsExchange`] over HTTPS.
#[derive(Debug, Clone)]
pub struct HttpsSts(pub HttpsClient);

impl StsRequest {
    pub(crate) fn new(token: &PresignedToken, cluster_id: &str) -> Result<Self, StsError> {
        if token.endpoint() != EndpointKind::Aws {
            return Err(StsError::NotForAws);
        }
        let uri: Uri = token.url().parse().map_err(|_| StsError::Unsendable)?;
        // The URL parser of the HTTP library must see what the token rules saw, or the request would go elsewhere.
        let same = uri.scheme_str() == Some("https")
            && uri
                .authority()
                .is_some_and(|authority| authority.as_str() == token.host())
            && uri.path() == token.path()
            && uri.query() == Some(token.raw_query());
        if !same {
            return Err(StsError::Unsendable);
        }
        let mut cluster_id = HeaderValue::from_str(cluster_id).map_err(|_| StsError::Unsendable)?;
        cluster_id.set_sensitive(true);
        Ok(Self {
            uri,
            cluster_id,
            host: token.host().into(),
            region: token.region_label().clone(),
        })
    }

    /// The STS host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The region as a metric label.
    #[must_use]
    pub fn region(&self) -> &RegionLabel {
        &self.region
    }

    /// The HTTP request.
    #[must_use]
    pub fn to_http(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(
            HeaderName::from_static(CLUSTER_ID_HEADER),
            self.cluster_id.clone(),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, PRODUCT);
        request
    }
}

impl fmt::Debug for StsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StsRequest")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl StsExchange for HttpsSts {
    fn get<'a>(
        &'a self,
        request: &'a StsRequest,
    ) -> BoxFuture<'a, Result<StsAnswer, ExchangeFailure>> {
        Box::pin(async move {
            let answer = self
                .0
                .exchange(
                    request.to_http(),
                    countersign_token::sts::MAX_BODY,
                    DEADLINE,
                )
                .await?;
            Ok(StsAnswer {
                status: answer.status.as_u16(),
                body: answer.body,
            })
        })
    }
}

//! Fetching the documents of an issuer over HTTPS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_oidc::{
    Discovery, DiscoveryError, IssuerUrl, KeySet, KeySetError, MAX_DOCUMENT_BYTES, discovery_url,
};
use futures::future::BoxFuture;
use http::header::{ACCEPT, CACHE_CONTROL, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::sync::Semaphore;

use super::counters::FetchResult;
use super::thumbprint::Thumbprint;
use crate::http::{
    AddressRules, Answer, ExchangeFailure, HttpsClient, HttpsClientBuilder, TrustError,
    USER_AGENT as PRODUCT,
};

/// Fetches under way at once, over all issuers.
const CONCURRENT_FETCHES: usize = 64;

/// One fetch: whose keys, and what its provider records say about its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fetch {
    /// The issuer, of a registered provider.
    pub issuer: IssuerUrl,
    /// The thumbprints of the provider, sorted. Empty unless trust by thumbprint is switched on.
    pub thumbprints: Vec<Thumbprint>,
}

/// Keys with the time for which the issuer lets them be kept.
#[derive(Debug, Clone)]
pub struct FetchedKeys {
    /// The keys.
    pub keys: Arc<KeySet>,
    /// `max-age` of the key set, when it has one.
    pub max_age: Option<Duration>,
}

/// Why there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchFailure {
    /// The issuer did not answer, or answered that it cannot now. Another attempt may succeed.
    #[error("the {document} could not be fetched")]
    Unreachable {
        /// `discovery document` or `key set`.
        document: &'static str,
        /// What happened; `None` for a status of 429 or from 500.
        #[source]
        source: Option<ExchangeFailure>,
    },
    /// The issuer's certificate is not one of a trusted authority and has none of the thumbprints.
    #[error("the certificate of the host of the {document} is not trusted")]
    Untrusted {
        /// `discovery document` or `key set`.
        document: &'static str,
    },
    /// The status is not 200. Redirects are not followed.
    #[error("the {document} was answered with status {status}")]
    Status {
        /// `discovery document` or `key set`.
        document: &'static str,
        /// The status.
        status: u16,
    },
    /// The answer is longer than 256 KiB.
    #[error("the {document} is larger than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge {
        /// `discovery document` or `key set`.
        document: &'static str,
    },
    /// The host of the URL is an address that is not public, and is not listed as allowed.
    #[error(
        "the host of the {document} is at an address that is not public and not allowed by the configuration"
    )]
    PrivateAddress {
        /// `discovery document` or `key set`.
        document: &'static str,
    },
    /// The discovery document is unusable.
    #[error("the discovery document is unusable")]
    Discovery(#[source] DiscoveryError),
    /// The key set is unusable.
    #[error("the key set is unusable")]
    KeySet(#[source] KeySetError),
}

impl FetchFailure {
    /// Which of the three answers this is to whoever waits for the keys.
    #[must_use]
    pub const fn result(&self) -> FetchResult {
        match self {
            Self::Unreachable { .. } => FetchResult::Unreachable,
            Self::Untrusted { .. } => FetchResult::Untrusted,
            Self::Status { .. }
            | Self::TooLarge { .. }
            | Self::PrivateAddress { .. }
            | Self::Discovery(_)
            | Self::KeySet(_) => FetchResult::Unusable,
        }
    }
}

/// Fetches the keys of an issuer.
///
/// An implementation asks the issuer's host, and the host its discovery document names, and nobody else; it follows no
/// redirects, reads bounded answers, and ends by itself.
pub trait KeyFetch: Send + Sync + 'static {
    /// Fetches the discovery document and the key set it names.
    fn fetch<'a>(&'a self, fetch: &'a Fetch) -> BoxFuture<'a, Result<FetchedKeys, FetchFailure>>;
}

/// How issuers are asked.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    /// Time for both documents together. Default 5 s, as at AWS.
    pub timeout: Option<Duration>,
    /// PEM certificates of authorities to trust instead of the built-in roots.
    pub roots_pem: Option<Bytes>,
    /// Hosts of issuers and of key sets that may be at addresses that are not public (`allow_private_issuers`).
    pub private_hosts: Vec<Box<str>>,
    /// Settings of single issuers, by their URL.
    pub issuers: HashMap<IssuerUrl, IssuerOptions>,
}

/// How one issuer is asked.
#[derive(Debug, Clone, Default)]
pub struct IssuerOptions {
    /// PEM certificates of authorities to trust instead of the built-in roots.
    pub roots_pem: Option<Bytes>,
    /// The address to connect to, whatever its host names resolve to; its certificate must still be for them.
    pub address: Option<SocketAddr>,
}

/// Options that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the certificate authorities{} cannot be used", issuer.as_ref().map_or(String::new(), |issuer| format!(" of the issuer `{issuer}`")))]
pub struct InvalidIssuerOptions {
    /// The issuer whose options they are; `None` for those of all.
    pub issuer: Option<IssuerUrl>,
    /// Why.
    #[source]
    pub source: TrustError,
}

/// [`KeyFetch`] over HTTPS: TLS 1.2 or later, addresses checked when they are resolved, one deadline for both documents.
///
/// With `HTTPS_PROXY` in the environment the proxy resolves host names, so it is the proxy that decides where they may
/// lead; host names that are addresses are refused here all the same.
#[derive(Debug)]
pub struct HttpsKeys {
    timeout: Duration,
    rules: Arc<AddressRules>,
    /// Whether the built-in roots are what trusts issuers without own settings. Only then thumbprints count.
    built_in_roots: bool,
    general: HttpsClient,
    single: HashMap<IssuerUrl, HttpsClient>,
    places: Semaphore,
}

impl HttpsKeys {
    /// Sets up the clients.
    ///
    /// # Errors
    /// When a PEM text holds no usable certificate.
    pub fn new(options: FetchOptions) -> Result<Self, InvalidIssuerOptions> {
        let rules = Arc::new(AddressRules::public_except(&options.private_hosts));
        let client = |issuer: Option<&IssuerUrl>, of: &IssuerOptions| {
            let built = client(
                of.roots_pem.as_ref().or(options.roots_pem.as_ref()),
                |builder| match of.address {
                    Some(address) => builder.danger_resolve_all_hosts_to(address),
                    None => builder.check_addresses(Arc::clone(&rules)),
                },
            );
            built.map_err(|source| InvalidIssuerOptions {
                issuer: issuer.cloned(),
                source,
            })
        };
        let single = options
            .issuers
            .iter()
            .map(|(issuer, of)| Ok((issuer.clone(), client(Some(issuer), of)?)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            timeout: options.timeout.unwrap_or(Duration::from_secs(5)),
            general: client(None, &IssuerOptions::default())?,
            single,
            built_in_roots: options.roots_pem.is_none(),
            rules,
            places: Semaphore::new(CONCURRENT_FETCHES),
        })
    }

    async fn both(&self, fetch: &Fetch) -> Result<FetchedKeys, FetchFailure> {
        let issuer = fetch.issuer.as_str();
        let single = self.single.get(&fetch.issuer);
        let by_thumbprint = match single {
            // What is configured for an issuer is all that is trusted for it.
            None if self.built_in_roots && !fetch.thumbprints.is_empty() => {
                let rules = Arc::clone(&self.rules);
                client(None, |builder| {
                    builder
                        .check_addresses(rules)
                        .or_thumbprints(fetch.thumbprints.clone())
                })
                .ok()
            }
            None | Some(_) => None,
        };
        let client = by_thumbprint
            .as_ref()
            .unwrap_or(single.unwrap_or(&self.general));
        // An address in the configuration stands for the issuer's; a literal in a URL says nothing then.
        let rules = single.is_none().then_some(&*self.rules);
        let document = "discovery document";
        let answer = get(client, rules, &discovery_url(issuer), document).await?;
        let discovery = Discovery::parse(&answer.body, issuer).map_err(FetchFailure::Discovery)?;
        let answer = get(client, rules, discovery.jwks_uri(), "key set").await?;
        let keys = KeySet::parse(&answer.body).map_err(FetchFailure::KeySet)?;
        Ok(FetchedKeys {
            keys: Arc::new(keys),
            max_age: max_age(&answer.headers),
        })
    }
}

impl KeyFetch for HttpsKeys {
    fn fetch<'a>(&'a self, fetch: &'a Fetch) -> BoxFuture<'a, Result<FetchedKeys, FetchFailure>> {
        let late = |_| FetchFailure::Unreachable {
            document: "key set",
            source: Some(ExchangeFailure::Timeout),
        };
        Box::pin(async move {
            tokio::time::timeout(self.timeout, async {
                // The semaphore is never closed.
                let _place = self.places.acquire().await.ok();
                self.both(fetch).await
            })
            .await
            .map_err(late)?
        })
    }
}

fn client(
    roots_pem: Option<&Bytes>,
    settings: impl FnOnce(HttpsClientBuilder) -> HttpsClientBuilder,
) -> Result<HttpsClient, TrustError> {
    let mut builder = settings(HttpsClient::builder());
    if let Some(pem) = roots_pem {
        builder = builder.roots_pem(pem)?;
    }
    builder.build()
}

/// The answer with status 200. The deadline is the caller's.
async fn get(
    client: &HttpsClient,
    rules: Option<&AddressRules>,
    url: &str,
    document: &'static str,
) -> Result<Answer, FetchFailure> {
    let unusable = FetchFailure::PrivateAddress { document };
    let uri: Uri = url.parse().map_err(|_| unusable.clone())?;
    let host = uri.host().unwrap_or_default();
    let literal_allowed = rules.is_none_or(|rules| rules.allow_literal(host));
    if uri.scheme_str() != Some("https") || host.is_empty() || !literal_allowed {
        return Err(unusable);
    }
    let mut request = Request::new(Full::default());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, PRODUCT);
    let answer = client
        .exchange(request, MAX_DOCUMENT_BYTES, Duration::from_secs(60))
        .await
        .map_err(|failure| match failure {
            ExchangeFailure::Untrusted => FetchFailure::Untrusted { document },
            ExchangeFailure::TooLarge { .. } => FetchFailure::TooLarge { document },
            ExchangeFailure::PrivateAddress => unusable,
            other => FetchFailure::Unreachable {
                document,
                source: Some(other),
            },
        })?;
    match answer.status {
        StatusCode::OK => Ok(answer),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(FetchFailure::Unreachable {
                document,
                source: None,
            })
        }
        status => Err(FetchFailure::Status {
            document,
            status: status.as_u16(),
        }),
    }
}

/// `max-age`, or zero when the answer must not be kept.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut found = None;
    for value in headers.get_all(CACHE_CONTROL) {
        let Ok(text) = value.to_str() else { continue };
        for directive in text.split(',') {
            let directive = directive.trim().to_ascii_lowercase();
            if directive == "no-store" || directive == "no-cache" {
                return Some(Duration::ZERO);
            }
            let seconds = directive.strip_prefix("max-age=");
            if let Some(seconds) = seconds.and_then(|text| text.trim_matches('"').parse().ok()) {
                found = found.or(Some(Duration::from_secs(seconds)));
            }
        }
    }
    found
}

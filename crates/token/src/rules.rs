//! What a verifier accepts: options as an operator writes them, checked once into [`Rules`].

use std::sync::Arc;

use countersign_arn::Partition;

use crate::host;
use crate::region::is_label;

/// Options of local verification (authentication spec, sections 2.1 to 2.3).
///
/// Defaults: partition `aws`, 16,384 bytes (session tokens of 4 KiB make tokens of 6.3 KiB), global endpoint accepted, no further
/// regions, all STS hosts of the partition, no trusted endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Only hosts of this partition are accepted.
    pub partition: Partition,
    /// Longest token, 1,024 to 65,536 bytes (`maxTokenBytes`).
    pub max_token_bytes: usize,
    /// Whether `sts.amazonaws.com` is accepted, in partition `aws` (`allowGlobalEndpoint`).
    pub allow_global_endpoint: bool,
    /// Regions accepted whatever their name looks like (`regions`): those newer than any rule.
    pub regions: Vec<String>,
    /// The server's own region, configured or found in instance metadata; counts as one of `regions`.
    pub own_region: Option<String>,
    /// When set, only these hosts are accepted (`allowedHosts`): pins the region and forbids replays across regions.
    /// Each must be an STS host by the other rules. An empty list accepts no AWS host at all.
    pub allowed_hosts: Option<Vec<String>>,
    /// URLs of the embedded STS, exact origin and path, without query (`trustedEndpoints`). With and without a trailing slash are
    /// two entries; a URL without a path means `/`, as clients write it.
    pub trusted_endpoints: Vec<String>,
    /// Whether `http://` may stand in `trusted_endpoints`; for local development.
    pub allow_insecure_trusted_endpoint: bool,
}

impl Options {
    /// Bounds of `max_token_bytes`.
    pub const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 1024..=65536;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partition: Partition::Aws,
            max_token_bytes: 16384,
            allow_global_endpoint: true,
            regions: Vec::new(),
            own_region: None,
            allowed_hosts: None,
            trusted_endpoints: Vec::new(),
            allow_insecure_trusted_endpoint: false,
        }
    }
}

/// An option that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRules {
    /// `maxTokenBytes` is out of bounds.
    #[error("`maxTokenBytes` is {0}; it must be between 1024 and 65536")]
    MaxTokenBytes(usize),
    /// A region that is no host name label.
    #[error("`{0}` is not a region: letters, digits and inner hyphens are allowed")]
    Region(String),
    /// A host of `allowedHosts` that no token could have.
    #[error("`{host}` in `allowedHosts` is not an STS host of partition {partition}")]
    AllowedHost {
        /// The host.
        host: String,
        /// The configured partition.
        partition: Partition,
    },
    /// A trusted endpoint that is not an origin with a path.
    #[error(
        "`{0}` in `trustedEndpoints` is not a URL of the form https://host[:port]/path without userinfo, query and fragment"
    )]
    TrustedEndpoint(String),
    /// A trusted endpoint over plain HTTP without the option that allows it.
    #[error(
        "`{0}` in `trustedEndpoints` is not https; set `allowInsecureTrustedEndpoint` for local development"
    )]
    InsecureTrustedEndpoint(String),
}

/// Checked [`Options`]: what [`PresignedToken::parse`](crate::PresignedToken::parse) compares with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    partition: Partition,
    max_token_bytes: usize,
    allow_global_endpoint: bool,
    regions: Box<[Arc<str>]>,
    allowed_hosts: Option<Box<[Box<str>]>>,
    trusted_endpoints: Box<[Box<str>]>,
}

impl Rules {
    /// The defaults for `partition`.
    #[must_use]
    pub fn of_partition(partition: Partition) -> Self {
        let Options {
            max_token_bytes,
            allow_global_endpoint,
            ..
        } = Options::default();
        Self {
            partition,
            max_token_bytes,
            allow_global_endpoint,
            regions: Box::default(),
            allowed_hosts: None,
            trusted_endpoints: Box::default(),
        }
    }

    /// Checks `options`.
    ///
    /// # Errors
    /// When an option is out of bounds or could never match a token.
    pub fn new(options: Options) -> Result<Self, InvalidRules> {
        if !Options::TOKEN_BYTES.contains(&options.max_token_bytes) {
            return Err(InvalidRules::MaxTokenBytes(options.max_token_bytes));
        }
        let regions = options
            .regions
            .into_iter()
            .chain(options.own_region)
            .map(|region| {
                if is_label(&region) && region.len() <= 63 {
                    Ok(Arc::from(region))
                } else {
                    Err(InvalidRules::Region(region))
                }
            })
            .collect::<Result<_, _>>()?;
        let trusted_endpoints = options
            .trusted_endpoints
            .into_iter()
            .map(|url| trusted_endpoint(url, options.allow_insecure_trusted_endpoint))
            .collect::<Result<_, _>>()?;
        let mut rules = Self {
            partition: options.partition,
            max_token_bytes: options.max_token_bytes,
            allow_global_endpoint: options.allow_global_endpoint,
            regions,
            allowed_hosts: None,
            trusted_endpoints,
        };
        if let Some(hosts) = options.allowed_hosts {
            for host in &hosts {
                if host::check_form(host, &rules).is_err() {
                    return Err(InvalidRules::AllowedHost {
                        host: host.clone(),
                        partition: rules.partition,
                    });
                }
            }
            rules.allowed_hosts = Some(hosts.into_iter().map(Into::into).collect());
        }
        Ok(rules)
    }

    /// The partition whose hosts are accepted.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The longest token accepted.
    #[must_use]
    pub fn max_token_bytes(&self) -> usize {
        self.max_token_bytes
    }

    pub(crate) fn allow_global_endpoint(&self) -> bool {
        self.allow_global_endpoint
    }

    pub(crate) fn regions(&self) -> &[Arc<str>] {
        &self.regions
    }

    pub(crate) fn is_listed(&self, region: &str) -> bool {
        self.regions.iter().any(|listed| &**listed == region)
    }

    pub(crate) fn allowed_hosts(&self) -> Option<&[Box<str>]> {
        self.allowed_hosts.as_deref()
    }

    /// Whether `url`, without its query, is one of the embedded STS's.
    pub(crate) fn trusts(&self, url: &str) -> bool {
        self.trusted_endpoints
            .iter()
            .any(|trusted| &**trusted == url)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::of_partition(Partition::Aws)
    }
}

fn trusted_endpoint(url: String, allow_insecure: bool) -> Result<Box<str>, InvalidRules> {
    let rest = match url.split_once("://") {
        Some(("https", rest)) => rest,
        Some(("http", rest)) if allow_insecure => rest,
        Some(("http", _)) => return Err(InvalidRules::InsecureTrustedEndpoint(url)),
        _ => return Err(InvalidRules::TrustedEndpoint(url)),
    };
    let authority = rest
        .split_once('/')
        .map_or(rest, |(authority, _)| authority);
    let plain = rest
        .bytes()
        .all(|b| (0x21..=0x7e).contains(&b) && !b"@?#\\;".contains(&b));
    if authority.is_empty() || !plain {
        return Err(InvalidRules::TrustedEndpoint(url));
    }
    if authority.len() == rest.len() {
        return Ok(format!("{url}/").into());
    }
    Ok(url.into())
}

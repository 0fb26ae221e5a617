//! Where a service is asked, and for which region requests to it are signed.

use std::fmt;
use std::net::Ipv6Addr;

use countersign_arn::Partition;

use crate::env::Environment;
use crate::profile::{Profile, ProfileError};

/// Regions for which `AWS_STS_REGIONAL_ENDPOINTS=legacy` means the global endpoint: those that existed before regional ones.
const LEGACY_REGIONS: [&str; 16] = [
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "aws-global",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// A service that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// AWS STS.
    Sts,
    /// Amazon EKS.
    Eks,
    /// AWS IAM.
    Iam,
}

impl Service {
    /// The name in configuration files and credential scopes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Eks => "eks",
            Self::Iam => "iam",
        }
    }

    /// The region to sign for: IAM has one for each partition.
    #[must_use]
    pub fn signing_region(self, region: &str) -> &str {
        if self != Self::Iam {
            return region;
        }
        match Partition::of_region(region).unwrap_or_default() {
            Partition::Aws => "us-east-1",
            Partition::China => "cn-north-1",
            Partition::GovCloud => "us-gov-west-1",
            _ => region,
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Sts => "AWS_ENDPOINT_URL_STS",
            Self::Eks => "AWS_ENDPOINT_URL_EKS",
            Self::Iam => "AWS_ENDPOINT_URL_IAM",
        }
    }
}

/// An origin and a path, as the AWS CLI writes them into presigned URLs (authentication spec, section 1.4).
///
/// The text is kept: `https://cs.example/sts` and `https://cs.example/sts/` are two endpoints, and a verifier compares both exactly.
/// A URL without a path gets `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    host_header: String,
    path_start: usize,
    region: String,
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The region could not be part of a host name.
    #[error("`{0}` is not a region: letters, digits and inner hyphens are allowed")]
    Region(String),
    /// A configured URL that is not an origin with a path.
    #[error(
        "`{0}` is not an endpoint: expected http[s]://host[:port][/path], without userinfo, query and fragment"
    )]
    Url(String),
    /// FIPS or dual-stack hosts were asked for together with a configured URL.
    #[error("AWS_USE_{0}_ENDPOINT cannot be combined with a configured endpoint URL")]
    Variant(&'static str),
    /// The services section of the profile is missing.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

impl Endpoint {
    /// The endpoint of `service` in `region`.
    ///
    /// A configured URL wins: `AWS_ENDPOINT_URL_STS` (`_EKS`), `AWS_ENDPOINT_URL`, the profile's `services` section, the profile's
    /// `endpoint_url`, in this order, unless `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS` says no. Else it is a host of AWS, regional by default,
    /// with `AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT` and `AWS_STS_REGIONAL_ENDPOINTS` (or the profile's properties of the
    /// same meaning) respected.
    ///
    /// # Errors
    /// When the region or a configured URL is malformed.
    pub fn resolve(
        service: Service,
        region: &str,
        env: &Environment,
        profile: &Profile<'_>,
    ) -> Result<Self, EndpointError> {
        if !is_label(region) {
            return Err(EndpointError::Region(region.chars().take(64).collect()));
        }
        let flag = |variable: &str, property: &str| match env.get(variable) {
            Some(_) => env.is_true(variable),
            None => profile.is_true(property),
        };
        let fips = flag("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint");
        let dual_stack = flag("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint");
        if let Some(url) = configured(service, env, profile)? {
            for (set, name) in [(fips, "FIPS"), (dual_stack, "DUALSTACK")] {
                if set {
                    return Err(EndpointError::Variant(name));
                }
            }
            return Self::at(&url, service.signing_region(region));
        }
        let legacy = env
            .get("AWS_STS_REGIONAL_ENDPOINTS")
            .or_else(|| profile.get("sts_regional_endpoints"))
            .is_some_and(|mode| mode.eq_ignore_ascii_case("legacy"));
        match service {
            Service::Sts => {
                let global = region == "aws-global" || (legacy && LEGACY_REGIONS.contains(&region));
                if global && !fips && !dual_stack {
                    return Self::at("https://sts.amazonaws.com", "us-east-1");
                }
                let region = if region == "aws-global" {
                    "us-east-1"
                } else {
                    region
                };
                Self::at(
                    &format!("https://{}", sts_host(region, fips, dual_stack)),
                    region,
                )
            }
            Service::Eks => Self::at(
                &format!("https://{}", eks_host(region, fips, dual_stack)),
                region,
            ),
            Service::Iam => Self::at(
                &format!("https://{}", iam_host(region, fips, dual_stack)),
                service.signing_region(region),
            ),
        }
    }

    /// The endpoint at a configured URL, signed for `region`.
    ///
    /// # Errors
    /// When the URL is not an origin with a path.
    pub fn at(url: &str, region: &str) -> Result<Self, EndpointError> {
        let refuse = || EndpointError::Url(url.chars().take(256).collect());
        let (scheme, rest) = url.split_once("://").ok_or_else(refuse)?;
        let default_port = match scheme {
            "https" => ":443",
            "http" => ":80",
            _ => return Err(refuse()),
        };
        let authority = rest
            .split_once('/')
            .map_or(rest, |(authority, _)| authority);
        let printable = |text: &str| text.bytes().all(|b| (0x21..=0x7e).contains(&b));
        if !is_authority(authority)
            || !printable(rest)
            || rest.contains(['?', '#', '\\', '"', '<', '>'])
        {
            return Err(refuse());
        }
        let path_start = url.len() - (rest.len() - authority.len());
        let mut url = url.to_owned();
        if path_start == url.len() {
            url.push('/');
        }
        let lower = authority.to_ascii_lowercase();
        let host_header = lower
            .strip_suffix(default_port)
            .unwrap_or(&lower)
            .to_owned();
        Ok(Self {
            url,
            host_header,
            path_start,
            region: region.to_owned(),
        })
    }

    /// The URL, path included.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The path, at least `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.url.get(self.path_start..).unwrap_or("/")
    }

    /// The value of the `host` header: lower case, without a port that is the scheme's default.
    #[must_use]
    pub fn host_header(&self) -> &str {
        &self.host_header
    }

    /// The region to sign for.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

fn configured(
    service: Service,
    env: &Environment,
    profile: &Profile<'_>,
) -> Result<Option<String>, EndpointError> {
    let ignored = match env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
        Some(_) => env.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"),
        None => profile.is_true("ignore_configured_endpoint_urls"),
    };
    if ignored {
        return Ok(None);
    }
    if let Some(url) = env.first(&[service.variable(), "AWS_ENDPOINT_URL"]) {
        return Ok(Some(url.to_owned()));
    }
    let in_profile = match profile.service_endpoint(service.name())? {
        Some(url) if !url.is_empty() => Some(url),
        _ => profile.get("endpoint_url"),
    };
    Ok(in_profile.map(str::to_owned))
}

/// The STS host of a region; regions that match no partition's pattern are taken for commercial ones, as SDKs do.
fn sts_host(region: &str, fips: bool, dual_stack: bool) -> String {
    let partition = Partition::of_region(region).unwrap_or_default();
    let domain = domain(partition, dual_stack);
    // In GovCloud the plain endpoint is the FIPS endpoint.
    let fips = fips && (dual_stack || partition != Partition::GovCloud);
    let service = if fips { "sts-fips" } else { "sts" };
    format!("{service}.{region}.{domain}")
}

fn eks_host(region: &str, fips: bool, dual_stack: bool) -> String {
    let partition = Partition::of_region(region).unwrap_or_default();
    let domain = domain(partition, dual_stack);
    match (fips, dual_stack, partition) {
        (true, true, _) => format!("eks-fips.{region}.{domain}"),
        (true, false, Partition::GovCloud) => format!("eks.{region}.{domain}"),
        (true, false, Partition::Aws) => format!("fips.eks.{region}.{domain}"),
        (true, false, _) => format!("eks-fips.{region}.{domain}"),
        (false, ..) => format!("eks.{region}.{domain}"),
    }
}

/// IAM is global in a partition; beyond the three that are public each region has the partition's own name for it.
fn iam_host(region: &str, fips: bool, dual_stack: bool) -> String {
    let partition = Partition::of_region(region).unwrap_or_default();
    let service = if fips { "iam-fips" } else { "iam" };
    match (partition, dual_stack) {
        (Partition::Aws, true) => format!("{service}.global.{}", domain(partition, true)),
        (Partition::Aws, false) => format!("{service}.{}", domain(partition, false)),
        (Partition::GovCloud, false) => format!("iam.us-gov.{}", domain(partition, false)),
        (Partition::GovCloud, true) => format!("iam.us-gov.{}", domain(partition, true)),
        _ => format!(
            "{service}.{}.{}",
            Service::Iam.signing_region(region),
            domain(partition, dual_stack)
        ),
    }
}

const fn domain(partition: Partition, dual_stack: bool) -> &'static str {
    if dual_stack {
        partition.dual_stack_domain()
    } else {
        partition.plain_domain()
    }
}

/// Whether `text` is a host name label: letters, digits and inner hyphens.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn is_authority(text: &str) -> bool {
    let (host_is_fine, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, behind)) = rest.split_once(']') else {
                return false;
            };
            let port = match behind.strip_prefix(':') {
                Some(port) => Some(port),
                None if behind.is_empty() => None,
                None => return false,
            };
            (address.parse::<Ipv6Addr>().is_ok(), port)
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let fine = host
                .strip_suffix('.')
                .unwrap_or(host)
                .split('.')
                .all(|label| {
                    !label.is_empty()
                        && label
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
                });
            (fine, port)
        }
    };
    host_is_fine
        && port.is_none_or(|port| {
            !port.is_empty()
                && port.bytes().all(|b| b.is_ascii_digit())
                && port.parse::<u16>().is_ok()
        })
}

//! Where the auth service is. Only the operator says so: nothing that a pod sends reaches this.

use countersign_arn::Partition;
use std::net::IpAddr;

use http::Uri;

/// The base URL of EKS Auth, or of the EKS API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    uri: Uri,
    /// Host with port, as the `Host` header has it.
    authority: Box<str>,
    /// The path before the operation's own, without a slash at its end.
    prefix: Box<str>,
}

/// A URL or region that cannot be an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEndpoint {
    /// The region is not the name of one.
    #[error("`{0}` is no region; name one such as eu-west-1, or give the endpoint")]
    Region(String),
    /// The URL is none, or has parts that an endpoint does not have.
    #[error(
        "`{0}` is no endpoint; write https://HOST[:PORT][/PATH] without user, query and fragment"
    )]
    Url(String),
    /// Plain `http` to another machine.
    #[error(
        "`{0}` is plain http to another machine: tokens of pods and credentials would be readable on the way; write https://"
    )]
    Plain(String),
}

/// Whether a host of a URL is this machine by its name alone: nobody is asked what it resolves to.
fn is_this_machine(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || literal
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

impl Endpoint {
    /// The endpoint of a region: `https://eks-auth.<region>.<dual-stack domain of its partition>`, which is where every AWS
    /// SDK sends the call.
    ///
    /// # Errors
    /// When no partition has such a region.
    pub fn of_region(region: &str) -> Result<Self, InvalidEndpoint> {
        let partition = Partition::of_region(region)
            .ok_or_else(|| InvalidEndpoint::Region(region.chars().take(64).collect()))?;
        Self::of_url(&format!(
            "https://eks-auth.{region}.{}",
            partition.dual_stack_domain()
        ))
    }

    /// The endpoint of the EKS API in a region, where associations are described.
    ///
    /// # Errors
    /// When no partition has such a region.
    pub fn of_eks_api(region: &str) -> Result<Self, InvalidEndpoint> {
        let partition = Partition::of_region(region)
            .ok_or_else(|| InvalidEndpoint::Region(region.chars().take(64).collect()))?;
        Self::of_url(&format!(
            "https://eks.{region}.{}",
            partition.plain_domain()
        ))
    }

    /// An endpoint of the operator's own. Plain `http` is for this machine only, since tokens go there and credentials come back.
    ///
    /// # Errors
    /// When it is not the URL of a host, perhaps with a path, or `http` to another machine.
    pub fn of_url(url: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint::Url(url.chars().take(200).collect());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?;
        if !matches!(uri.scheme_str(), Some("https" | "http"))
            || authority.host().is_empty()
            || authority.as_str().contains('@')
            || uri.query().is_some()
            || url.contains('#')
        {
            return Err(invalid());
        }
        if uri.scheme_str() == Some("http") && !is_this_machine(authority.host()) {
            return Err(InvalidEndpoint::Plain(url.chars().take(200).collect()));
        }
        let default_port = match uri.scheme_str() {
            Some("https") => ":443",
            _ => ":80",
        };
        let authority = authority.as_str();
        Ok(Self {
            // Clients leave the default port out of the header, and it is signed.
            authority: authority
                .strip_suffix(default_port)
                .unwrap_or(authority)
                .into(),
            prefix: uri.path().trim_end_matches('/').into(),
            uri,
        })
    }

    /// The value of the `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Path and full URL of a path below the endpoint.
    pub(super) fn at(&self, path: &str) -> Option<(String, Uri)> {
        let path = format!("{}{path}", self.prefix);
        let uri = Uri::builder()
            .scheme(self.uri.scheme()?.clone())
            .authority(self.uri.authority()?.clone())
            .path_and_query(path.as_str())
            .build()
            .ok()?;
        Some((path, uri))
    }
}

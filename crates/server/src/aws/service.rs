//! The services of the AWS listener: those of the Query protocol, and EKS and EKS Auth in REST-JSON.

use http::header;

use super::keys;
use super::query::Format;
use super::shape::Style;

/// A service of the AWS listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Security Token Service.
    Sts,
    /// Identity and Access Management.
    Iam,
    /// Elastic Kubernetes Service.
    Eks,
    /// EKS Auth: credentials of EKS Pod Identity.
    EksAuth,
}

impl Service {
    /// Those of the Query protocol, which share the path `/`.
    pub(super) const QUERY: [Self; 2] = [Self::Sts, Self::Iam];

    /// Name in credential scopes, metrics and logs.
    #[must_use]
    pub const fn signing_name(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Iam => "iam",
            Self::Eks => "eks",
            Self::EksAuth => "eks-auth",
        }
    }

    /// The version of its API, which requests of the Query protocol name.
    pub(super) const fn version(self) -> &'static str {
        match self {
            Self::Sts => keys::STS_VERSION,
            Self::Iam => "2010-05-08",
            Self::Eks => "2017-11-01",
            Self::EksAuth => "2023-11-26",
        }
    }

    /// The namespace of answers in XML.
    pub(super) const fn namespace(self) -> &'static str {
        match self {
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
            Self::Iam => "https://iam.amazonaws.com/doc/2010-05-08/",
            Self::Eks | Self::EksAuth => "",
        }
    }

    /// How it words the faults of parameters.
    pub(super) const fn style(self) -> Style {
        match self {
            Self::Sts => Style::WithValue,
            Self::Iam | Self::Eks | Self::EksAuth => Style::WithoutValue,
        }
    }

    /// How a service of the Query protocol answers: IAM in XML only.
    pub(super) fn format(self, head: &http::request::Parts) -> Format {
        match self {
            Self::Sts => Format::of_accept(
                head.headers
                    .get(header::ACCEPT)
                    .and_then(|value| value.to_str().ok()),
            ),
            Self::Iam => Format::Xml,
            Self::Eks | Self::EksAuth => Format::Json,
        }
    }

    /// The service of the credential scope, as far as it can be told before the signature is read. It only chooses who
    /// words an error; the scope itself is checked with the signature.
    pub(super) fn signed_for(head: &http::request::Parts) -> Option<Self> {
        let authorization = head
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let query = head.uri.query().unwrap_or_default();
        Self::QUERY.into_iter().find(|service| {
            let name = service.signing_name();
            authorization.contains(&format!("/{name}/aws4_request"))
                || query.contains(&format!("%2F{name}%2Faws4_request"))
        })
    }
}

//! The services of the AWS listener that speak the Query protocol.

use http::header;

use super::keys;
use super::query::Format;
use super::shape::Style;

/// The services with the Query protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Security Token Service.
    Sts,
    /// Identity and Access Management.
    Iam,
}

impl Service {
    pub(super) const ALL: [Self; 2] = [Self::Sts, Self::Iam];

    /// Name in credential scopes, metrics and logs.
    #[must_use]
    pub const fn signing_name(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Iam => "iam",
        }
    }

    pub(super) const fn version(self) -> &'static str {
        match self {
            Self::Sts => keys::STS_VERSION,
            Self::Iam => "2010-05-08",
        }
    }

    pub(super) const fn namespace(self) -> &'static str {
        match self {
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
            Self::Iam => "https://iam.amazonaws.com/doc/2010-05-08/",
        }
    }

    /// How it words the faults of parameters.
    pub(super) const fn style(self) -> Style {
        match self {
            Self::Sts => Style::WithValue,
            Self::Iam => Style::WithoutValue,
        }
    }

    /// IAM answers in XML only.
    pub(super) fn format(self, head: &http::request::Parts) -> Format {
        match self {
            Self::Sts => Format::of_accept(
                head.headers
                    .get(header::ACCEPT)
                    .and_then(|value| value.to_str().ok()),
            ),
            Self::Iam => Format::Xml,
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
        Self::ALL.into_iter().find(|service| {
            let name = service.signing_name();
            authorization.contains(&format!("/{name}/aws4_request"))
                || query.contains(&format!("%2F{name}%2Faws4_request"))
        })
    }
}

//! The credential and its scope: `keyid/date/region/service/aws4_request`.

/// The last part of every credential scope.
pub(crate) const TERMINATOR: &str = "aws4_request";

/// A credential as sent, split at `/`. Nothing but the number of parts is checked here; see
/// [`ServicePolicy`](crate::ServicePolicy) for the rules on each part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential<'a> {
    /// Access key id.
    pub key_id: &'a str,
    /// Day of the signature, `YYYYMMDD` when well formed.
    pub date: &'a str,
    /// Region the client signed for.
    pub region: &'a str,
    /// Signing name of the service the client signed for.
    pub service: &'a str,
    /// `aws4_request` when well formed.
    pub terminator: &'a str,
}

impl<'a> Credential<'a> {
    /// Splits a credential; it must have exactly five parts.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split('/');
        let credential = Self {
            key_id: parts.next()?,
            date: parts.next()?,
            region: parts.next()?,
            service: parts.next()?,
            terminator: parts.next()?,
        };
        parts.next().is_none().then_some(credential)
    }
}

/// A scope that was checked: what a signing key is derived for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Day of the signature, `YYYYMMDD`.
    pub date: String,
    /// Region the client signed for.
    pub region: String,
    /// Signing name of the service.
    pub service: String,
}

impl From<Credential<'_>> for Scope {
    fn from(c: Credential<'_>) -> Self {
        Self {
            date: c.date.to_owned(),
            region: c.region.to_owned(),
            service: c.service.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_has_exactly_five_parts() {
        for bad in ["", "a/b/c/d", "a/b/c/d/e/f", "a/b/c/d/e/"] {
            assert_eq!(Credential::parse(bad), None, "{bad}");
        }
        let c = Credential::parse("AK/20260314/us-east-1/sts/aws4_request").unwrap();
        assert_eq!(
            (c.key_id, c.region, c.terminator),
            ("AK", "us-east-1", TERMINATOR)
        );
    }
}

//! The issuers of our own tokens, one for each account that has them switched on (STS spec, section 2.9).
//!
//! All accounts share the signing keys of the deployment: a token says whose it is in `iss`, and only this service signs.

/// Where issuers are, below the public URL.
const PREFIX: &str = "/outbound/";

/// The issuer of an account.
pub(crate) fn issuer(public_url: &str, hash: &str) -> String {
    format!("{public_url}{PREFIX}{hash}")
}

/// Whether a token claims to be of one of our own issuers.
pub(crate) fn is_own_issuer(public_url: &str, issuer: &str) -> bool {
    !public_url.is_empty()
        && issuer
            .strip_prefix(public_url)
            .is_some_and(|rest| rest.starts_with(PREFIX))
}

//! Who is asking: the principal id inside the user info of a review (EKS API spec, section 9.5).

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The extra key of the principal id, as our TokenReview writes it.
pub const PRINCIPAL_ID: &str = "principalId";
/// The extra key under which newer EKS repeats it.
pub const QUALIFIED_PRINCIPAL_ID: &str = "sigs.k8s.io/aws-iam-authenticator/principalId";
/// The extra key of the assertion that [`assertion`] makes.
pub const ASSERTION: &str = "countersign.dev/assertion";

/// [`PRINCIPAL_ID`] and [`QUALIFIED_PRINCIPAL_ID`] as impersonation headers and the front proxy leave them.
const LOWER_CASE: [&str; 2] = [
    "principalid",
    "sigs.k8s.io/aws-iam-authenticator/principalid",
];
/// The extra key of the caller's ARN, with the session of a role.
const ARN: &str = "arn";
const UID_PREFIX: &str = "aws-iam-authenticator:";
const VERSION: &str = "v1";
/// Longer than any unique id of IAM.
const MAX_ID: usize = 128;
const HOUR: i64 = 3_600;
/// How far ahead the clock of another replica may be.
const SKEW: i64 = 60;

/// How lower-case extra keys are taken, which anyone with `impersonate` on them, or the front proxy, can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delegated {
    /// Only with a valid assertion of ours beside them.
    #[default]
    Assertion,
    /// Always. Whoever may impersonate `userextras/principalid` can then borrow every entry.
    Trust,
    /// Never.
    Refuse,
}

/// The user info of a review.
#[derive(Debug, Clone, Copy)]
pub struct UserInfo<'a> {
    /// `user`
    pub username: &'a str,
    /// `uid`, or empty.
    pub uid: &'a str,
    /// `extra`
    pub extra: &'a BTreeMap<String, Vec<String>>,
}

/// Why no principal is taken from a user info. The answer is no opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Untrusted {
    /// The caller is no IAM principal: a service account, a node, an OIDC user.
    #[error("the user has no principal id")]
    NoPrincipal,
    /// Not exactly one value, or keys that differ.
    #[error("the user has more than one principal id, or an empty one")]
    Ambiguous,
    /// The uid is not one of ours for this principal.
    #[error("the uid is not that of the principal id")]
    Uid,
    /// A lower-case key, which is not taken.
    #[error("the principal id came by impersonation or a front proxy")]
    Delegated,
    /// A lower-case key without an assertion.
    #[error("the principal id came by impersonation or a front proxy, without an assertion")]
    NoAssertion,
    /// The assertion was not made for this cluster, principal, ARN and username with this key.
    #[error("the assertion of the principal id is not valid")]
    Assertion,
    /// There is no key to verify the assertion with.
    #[error("the assertion of the principal id cannot be verified now")]
    NoKey,
    /// The assertion was made too long ago, or in the future.
    #[error("the assertion of the principal id is out of date")]
    Expired,
}

/// The key that assertions of one cluster are made with.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AssertionKey([u8; 32]);

impl AssertionKey {
    /// Takes 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AssertionKey(..)")
    }
}

/// The principal id of whoever asks, if it can be believed.
///
/// A key with a capital letter can only come from an authentication in the API server itself, since every other way in
/// makes keys lower-case. `cluster` is whatever [`assertion`] was given, and `key` makes the key of that cluster, which only
/// assertions need.
///
/// # Errors
/// When there is none, or it is not believed.
pub fn principal_of<'a>(
    user: &UserInfo<'a>,
    cluster: &str,
    key: impl FnOnce() -> Option<AssertionKey>,
    now: Timestamp,
    delegated: Delegated,
) -> Result<&'a str, Untrusted> {
    let own = value_of(user, &[PRINCIPAL_ID, QUALIFIED_PRINCIPAL_ID])?;
    let id = match own {
        Some(id) => id,
        None => {
            let id = value_of(user, &LOWER_CASE)?.ok_or(Untrusted::NoPrincipal)?;
            match delegated {
                Delegated::Trust => {}
                Delegated::Refuse => return Err(Untrusted::Delegated),
                Delegated::Assertion => {
                    let key = key().ok_or(Untrusted::NoKey)?;
                    verify(user, cluster, &key, id, now)?;
                }
            }
            id
        }
    };
    let of_uid = user
        .uid
        .strip_prefix(UID_PREFIX)
        .and_then(|rest| rest.strip_suffix(id))
        .is_some_and(|rest| rest.ends_with(':'));
    if !user.uid.is_empty() && !of_uid {
        return Err(Untrusted::Uid);
    }
    Ok(id)
}

/// The ARN of whoever asks, the session of a role in it, which [access rules](crate::AccessRules) match. Only after
/// [`principal_of`] believed the principal id: it is believed for the same reasons, and assertions are about both.
#[must_use]
pub fn arn_of<'a>(user: &UserInfo<'a>) -> Option<&'a str> {
    match user.extra.get(ARN)?.as_slice() {
        [arn] if !arn.is_empty() => Some(arn),
        _ => None,
    }
}

/// The value of the extra [`ASSERTION`], which our TokenReview writes beside the principal id: good for this cluster,
/// principal, ARN (the extra `arn`, empty if there is none) and username, for at least one hour and at most two.
#[must_use]
pub fn assertion(
    key: &AssertionKey,
    cluster: &str,
    principal_id: &str,
    arn: &str,
    username: &str,
    now: Timestamp,
) -> String {
    let hour = now.as_second().div_euclid(HOUR);
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &key.0),
        &message([cluster, principal_id, arn, username], hour),
    );
    format!("{VERSION}.{hour}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn verify(
    user: &UserInfo<'_>,
    cluster: &str,
    key: &AssertionKey,
    id: &str,
    now: Timestamp,
) -> Result<(), Untrusted> {
    let given = value_of(user, &[ASSERTION])
        .map_err(|_| Untrusted::Assertion)?
        .ok_or(Untrusted::NoAssertion)?;
    let mut fields = given.splitn(3, '.');
    let (Some(VERSION), Some(hour)) = (fields.next(), fields.next()) else {
        return Err(Untrusted::Assertion);
    };
    let hour: i64 = hour.parse().map_err(|_| Untrusted::Assertion)?;
    let arn = arn_of(user).unwrap_or_default();
    let expected = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &key.0),
        &message([cluster, id, arn, user.username], hour),
    );
    // Comparing the texts leaves no second spelling of a tag or of an hour.
    let expected = format!("{VERSION}.{hour}.{}", URL_SAFE_NO_PAD.encode(expected));
    constant_time::verify_slices_are_equal(expected.as_bytes(), given.as_bytes())
        .map_err(|_| Untrusted::Assertion)?;
    let age = now.as_second().div_euclid(HOUR).saturating_sub(hour);
    let early = now.as_second().saturating_add(SKEW).div_euclid(HOUR) < hour;
    if early || age > 1 {
        return Err(Untrusted::Expired);
    }
    Ok(())
}

/// Every field with its length before it, so that no two questions have one text.
fn message(fields: [&str; 4], hour: i64) -> Vec<u8> {
    let mut message = b"countersign assertion v1".to_vec();
    for field in fields {
        message.extend_from_slice(&(field.len() as u64).to_be_bytes());
        message.extend_from_slice(field.as_bytes());
    }
    message.extend_from_slice(&hour.to_be_bytes());
    message
}

/// The one value that the keys have together.
fn value_of<'a>(user: &UserInfo<'a>, keys: &[&str]) -> Result<Option<&'a str>, Untrusted> {
    let mut found: Option<&str> = None;
    for values in keys.iter().filter_map(|key| user.extra.get(*key)) {
        let [value] = values.as_slice() else {
            return Err(Untrusted::Ambiguous);
        };
        let usable = !value.is_empty() && value.len() <= MAX_ID;
        if !usable || found.is_some_and(|found| found != value) {
            return Err(Untrusted::Ambiguous);
        }
        found = Some(value);
    }
    Ok(found)
}

#[cfg(test)]
#[path = "caller_tests.rs"]
mod tests;

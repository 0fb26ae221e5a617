//! What a service account says about its credentials (webhook spec, section 3.1).

use std::collections::BTreeMap;

use crate::profiles::MAX_PROFILES;

/// Below this many seconds a lifetime is raised to it, which is what the API server accepts at least.
pub const MIN_TOKEN_EXPIRATION: u32 = 600;

/// The default lifetime, in seconds, and the most that AWS hands out.
pub const DEFAULT_TOKEN_EXPIRATION: u32 = 86_400;

/// A setting that someone may have written, and may have written wrongly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Given<T> {
    /// Not written.
    #[default]
    Absent,
    /// Written and not readable; kept for the explanation, at most 64 characters of it.
    Unreadable(Box<str>),
    /// Written.
    Value(T),
}

/// The annotations of a ServiceAccount, read once when the account is seen, so that a decision only compares.
///
/// An empty role or audience counts as absent: an empty role is no role, and an empty audience would make tokens for
/// the API server itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountSettings {
    /// `<prefix>/role-arn`, as written.
    pub role_arn: Option<Box<str>>,
    /// `<prefix>/audience`.
    pub audience: Option<Box<str>>,
    /// `<prefix>/sts-regional-endpoints`.
    pub regional_sts: Given<bool>,
    /// `<prefix>/token-expiration`, in seconds, not yet brought into the limits.
    pub token_expiration: Given<i64>,
    /// `<prefix>/expect-association: "true"`: the account is about to get an association, and a server that was told
    /// to waits for it.
    pub expects_association: bool,
    /// `<prefix>/role-arn.<profile>`: profile and role as written, in the order of the profiles' names; at most one more than
    /// [`crate::MAX_PROFILES`], which tells that there were too many.
    pub profiles: Box<[(Box<str>, Box<str>)]>,
}

impl AccountSettings {
    /// Reads the annotations of an account; those with another prefix are nobody's business here.
    pub fn from_annotations<'a>(
        prefix: &str,
        annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut settings = Self::default();
        let mut profiles = BTreeMap::new();
        for (key, value) in annotations {
            let Some(name) = key.strip_prefix(prefix).and_then(|k| k.strip_prefix('/')) else {
                continue;
            };
            let text = || Some(Box::from(value)).filter(|_| !value.is_empty());
            match name {
                "role-arn" => settings.role_arn = text(),
                "audience" => settings.audience = text(),
                "sts-regional-endpoints" => settings.regional_sts = given(value, parse_bool),
                "token-expiration" => settings.token_expiration = given(value, parse_seconds),
                "expect-association" => {
                    settings.expects_association = parse_bool(value) == Some(true);
                }
                _ => {
                    if let Some(profile) = name.strip_prefix("role-arn.") {
                        profiles.insert(Box::from(profile), Box::from(value));
                    }
                }
            }
        }
        settings.profiles = profiles.into_iter().take(MAX_PROFILES + 1).collect();
        settings
    }

    /// Whether nothing is said at all, as for nearly every account of a cluster: such accounts need not be kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads a setting with what it needs to be.
pub(crate) fn given<T>(value: &str, parse: impl Fn(&str) -> Option<T>) -> Given<T> {
    match parse(value) {
        Some(value) => Given::Value(value),
        None => Given::Unreadable(value.chars().take(64).collect()),
    }
}

/// The words for yes and no that Go's `strconv.ParseBool` takes.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A whole number of seconds, in decimal, with an optional sign, as Go's `strconv.ParseInt` takes it.
pub(crate) fn parse_seconds(text: &str) -> Option<i64> {
    text.parse().ok()
}

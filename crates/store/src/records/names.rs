//! What names may look like. The APIs check the same with their own error texts; this is the last line.

use std::borrow::Cow;

use countersign_arn::Tag;

/// Tags that one thing may have.
pub const MAX_TAGS: usize = 50;

/// A value that no record may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {expected}")]
pub struct InvalidField {
    /// What was given, such as `the user name`.
    pub field: &'static str,
    /// What is allowed.
    pub expected: &'static str,
}

/// The form in which IAM names are compared: ASCII, lower case.
#[must_use]
pub fn fold_name(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// `[\w+=,.@-]{1,64}` (IAM API spec, section 2.1).
///
/// # Errors
/// When it is not.
pub fn check_user_name(name: &str) -> Result<(), InvalidField> {
    check(
        is_name(name, 64),
        "the user name",
        "1 to 64 letters, digits or characters of `_+=,.@-`",
    )
}

/// `[\w+=,.@-]{1,64}` (IAM API spec, section 2.1).
///
/// # Errors
/// When it is not.
pub fn check_role_name(name: &str) -> Result<(), InvalidField> {
    check(
        is_name(name, 64),
        "the role name",
        "1 to 64 letters, digits or characters of `_+=,.@-`",
    )
}

/// `[\w+=,.@-]{1,128}` (IAM API spec, section 2.1).
///
/// # Errors
/// When it is not.
pub fn check_policy_name(name: &str) -> Result<(), InvalidField> {
    check(
        is_name(name, 128),
        "the policy name",
        "1 to 128 letters, digits or characters of `_+=,.@-`",
    )
}

/// `[\w+=,.@-]{1,128}` (IAM API spec, section 2.1).
///
/// # Errors
/// When it is not.
pub fn check_group_name(name: &str) -> Result<(), InvalidField> {
    check(
        is_name(name, 128),
        "the group name",
        "1 to 128 letters, digits or characters of `_+=,.@-`",
    )
}

/// `[\w+=,.@-]+` (IAM API spec, section 2.1), and short enough to be a part of a serial number.
///
/// # Errors
/// When it is not.
pub fn check_mfa_device_name(name: &str) -> Result<(), InvalidField> {
    check(
        is_name(name, 226),
        "the name of the MFA device",
        "1 to 226 letters, digits or characters of `_+=,.@-`",
    )
}

/// The document parameter: 1 to 131,072 characters. What the document says is checked by who takes it from outside.
///
/// # Errors
/// When it is empty or longer.
pub fn check_policy_text(text: &str) -> Result<(), InvalidField> {
    check(
        !text.is_empty() && text.chars().count() <= 131_072,
        "the policy document",
        "1 to 131072 characters",
    )
}

/// 3,600 to 43,200 seconds.
///
/// # Errors
/// When it is not.
pub fn check_max_session_duration(seconds: u32) -> Result<(), InvalidField> {
    check(
        (3600..=43_200).contains(&seconds),
        "the maximum session duration",
        "3600 to 43200 seconds",
    )
}

/// Tab, line ends, and characters from U+0020 to U+00FF without U+007F to U+00A0, at most 1,000, as IAM has it.
///
/// # Errors
/// When it is not.
pub fn check_description(text: &str) -> Result<(), InvalidField> {
    let allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{7e}' | '\u{a1}'..='\u{ff}');
    check(
        text.chars().count() <= 1000 && text.chars().all(allowed),
        "the description",
        "at most 1000 characters of Latin-1 without controls",
    )
}

fn is_name(name: &str, most: usize) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    (1..=most).contains(&name.len()) && name.bytes().all(allowed)
}

/// `/` or `/[!-~]+/`, at most 512 characters (IAM API spec, section 2.1).
///
/// # Errors
/// When it is not.
pub fn check_path(path: &str) -> Result<(), InvalidField> {
    let shaped = path == "/" || (path.len() >= 3 && path.starts_with('/') && path.ends_with('/'));
    check(
        shaped && path.len() <= 512 && path.bytes().all(|b| b.is_ascii_graphic()),
        "the path",
        "`/`, or printable ASCII without spaces between two slashes, at most 512 characters",
    )
}

/// `((/[A-Za-z0-9.,+@=_-]+)*)/`, at most 512 characters: the paths of managed policies (IAM API spec, section 2.1).
///
/// # Errors
/// When it is not.
pub fn check_policy_path(path: &str) -> Result<(), InvalidField> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".,+@=_-".contains(&b);
    let shaped = path == "/"
        || path
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'))
            .is_some_and(|names| {
                names
                    .split('/')
                    .all(|name| !name.is_empty() && name.bytes().all(allowed))
            });
    check(
        shaped && path.len() <= 512,
        "the path",
        "`/`, or letters, digits and characters of `.,+@=_-` between slashes, at most 512 characters",
    )
}

/// `[\w+=,.@-]{1,128}` (IAM API spec, section 2.1).
///
/// # Errors
/// When it is not.
pub fn check_instance_profile_name(name: &str) -> Result<(), InvalidField> {
    check(
        is_name(name, 128),
        "the instance profile name",
        "1 to 128 letters, digits or characters of `_+=,.@-`",
    )
}

/// `[0-9A-Za-z][A-Za-z0-9\-_]*`, at most 100 characters (EKS API spec, section 2.1).
///
/// # Errors
/// When it is not.
pub fn check_cluster_name(name: &str) -> Result<(), InvalidField> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    check(
        name.len() <= 100
            && name
                .bytes()
                .next()
                .is_some_and(|b| b.is_ascii_alphanumeric())
            && name.bytes().all(allowed),
        "the cluster name",
        "1 to 100 letters, digits, `-` or `_`, and begin with a letter or digit",
    )
}

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, at most 63 characters: a namespace of Kubernetes (EKS API spec, section 10.2).
///
/// # Errors
/// When it is not.
pub fn check_namespace(namespace: &str) -> Result<(), InvalidField> {
    check(
        namespace.len() <= 63 && is_label(namespace),
        "the namespace",
        "1 to 63 lower-case letters, digits or hyphens, with no hyphen at either end",
    )
}

/// Labels as those of a namespace with dots between, at most 253 characters: a service account of Kubernetes (EKS API spec,
/// section 10.2).
///
/// # Errors
/// When it is not.
pub fn check_service_account(name: &str) -> Result<(), InvalidField> {
    check(
        name.len() <= 253 && name.split('.').all(is_label),
        "the service account",
        "1 to 253 lower-case letters, digits, hyphens or dots, with a letter or digit at both ends of what is between dots",
    )
}

/// Whether a namespace or service account of an association is a pattern: it ends with `*`, which stands for any run of
/// characters, also none.
#[must_use]
pub fn is_pattern(name: &str) -> bool {
    name.ends_with('*')
}

/// A [namespace](check_namespace), or the beginning of one and `*`.
///
/// # Errors
/// When it is neither.
pub fn check_namespace_pattern(namespace: &str) -> Result<(), InvalidField> {
    match namespace.strip_suffix('*') {
        None => check_namespace(namespace),
        Some(begin) => check(
            namespace.len() <= 63 && is_label_begin(begin),
            "the namespace",
            "the beginning of a namespace and `*`, at most 63 characters",
        ),
    }
}

/// A [service account](check_service_account), or the beginning of one and `*`.
///
/// # Errors
/// When it is neither.
pub fn check_service_account_pattern(name: &str) -> Result<(), InvalidField> {
    match name.strip_suffix('*') {
        None => check_service_account(name),
        Some(begin) => {
            let (labels, last) = match begin.rsplit_once('.') {
                Some((labels, last)) => (Some(labels), last),
                None => (None, begin),
            };
            check(
                name.len() <= 253
                    && labels.is_none_or(|labels| labels.split('.').all(is_label))
                    && is_label_begin(last),
                "the service account",
                "the beginning of a service account and `*`, at most 253 characters",
            )
        }
    }
}

/// What a label can begin with, also nothing.
fn is_label_begin(text: &str) -> bool {
    text.is_empty() || is_label(text.trim_end_matches('-')) && !text.starts_with('-')
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = [text.as_bytes().first(), text.as_bytes().last()];
    text.bytes().all(|b| alphanumeric(&b) || b == b'-')
        && ends.iter().all(|end| end.is_some_and(alphanumeric))
}

/// `[0-9A-Za-z][A-Za-z0-9\-_.]*`, at most 100 characters. EKS documents no form of the names of identity provider configs;
/// what fits into one segment of an ARN is taken.
///
/// # Errors
/// When it is not.
pub fn check_config_name(name: &str) -> Result<(), InvalidField> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    check(
        (1..=100).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(allowed),
        "identityProviderConfigName",
        "1 to 100 letters, digits, `-`, `_` or `.`, and begin with a letter or digit",
    )
}

/// `[a-z0-9][a-z0-9\-_]*`, at most 100 characters: the form that the names of all add-ons have.
///
/// # Errors
/// When it is not.
pub fn check_addon_name(name: &str) -> Result<(), InvalidField> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    check(
        (1..=100).contains(&name.len())
            && name.bytes().next().is_some_and(letter)
            && name.bytes().all(|b| letter(b) || b == b'-' || b == b'_'),
        "addonName",
        "1 to 100 lower-case letters, digits, `-` or `_`, and begin with a letter or digit",
    )
}

/// Lower-case letters, digits and hyphens; regions outside AWS are free to choose.
///
/// # Errors
/// When it is not.
pub fn check_region(region: &str) -> Result<(), InvalidField> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    check(
        (1..=32).contains(&region.len()) && region.bytes().all(allowed),
        "the region",
        "1 to 32 lower-case letters, digits or hyphens",
    )
}

/// `[a-z0-9]([a-z0-9]|-(?!-))*[a-z0-9]`, 3 to 63 characters, as IAM has it.
///
/// # Errors
/// When it is not.
pub fn check_account_alias(alias: &str) -> Result<(), InvalidField> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_account_id = alias.len() == 12 && alias.bytes().all(|b| b.is_ascii_digit());
    check(
        (3..=63).contains(&alias.len())
            && alias.bytes().all(allowed)
            && !alias.starts_with('-')
            && !alias.ends_with('-')
            && !alias.contains("--")
            && !is_account_id,
        "the account alias",
        "3 to 63 lower-case letters, digits or single hyphens between them, and not the 12 digits of an account",
    )
}

/// `o-[a-z0-9]{10,32}`.
///
/// # Errors
/// When it is not.
pub fn check_organization_id(id: &str) -> Result<(), InvalidField> {
    let shaped = id.strip_prefix("o-").is_some_and(|rest| {
        (10..=32).contains(&rest.len())
            && rest
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    });
    check(
        shaped,
        "the organization id",
        "`o-` and 10 to 32 lower-case letters or digits",
    )
}

/// At most 50, keys of 1 to 128 and values of at most 256 characters, keys unique ignoring case (IAM API spec, section
/// 2.5).
///
/// # Errors
/// When they are not.
pub fn check_tags(tags: &[Tag]) -> Result<(), InvalidField> {
    let mut keys: Vec<String> = tags.iter().map(|tag| tag.key.to_lowercase()).collect();
    keys.sort_unstable();
    keys.dedup();
    check(
        keys.len() == tags.len() && are_tags(tags),
        "tags",
        "at most 50, with distinct keys (ignoring case) of 1 to 128 characters not beginning with `aws:`, and values \
         of at most 256 characters",
    )
}

/// The same for managed policies, whose tags have keys that differ by case.
///
/// # Errors
/// When they are not.
pub fn check_policy_tags(tags: &[Tag]) -> Result<(), InvalidField> {
    let mut keys: Vec<&str> = tags.iter().map(|tag| &*tag.key).collect();
    keys.sort_unstable();
    keys.dedup();
    check(
        keys.len() == tags.len() && are_tags(tags),
        "tags",
        "at most 50, with distinct keys of 1 to 128 characters not beginning with `aws:`, and values of at most 256 \
         characters",
    )
}

/// The same for clusters and what hangs on them (EKS API spec, section 2.1): without control characters besides.
///
/// # Errors
/// When they are not.
pub fn check_eks_tags(tags: &[Tag]) -> Result<(), InvalidField> {
    check_policy_tags(tags)?;
    let clean = |text: &str| !text.chars().any(char::is_control);
    check(
        tags.iter().all(|tag| clean(&tag.key) && clean(&tag.value)),
        "tags",
        "text without control characters",
    )
}

fn are_tags(tags: &[Tag]) -> bool {
    tags.len() <= MAX_TAGS
        && tags.iter().all(|tag| {
            (1..=128).contains(&tag.key.chars().count())
                && tag.value.chars().count() <= 256
                && !tag.key.to_lowercase().starts_with("aws:")
        })
}

fn check(holds: bool, field: &'static str, expected: &'static str) -> Result<(), InvalidField> {
    if holds {
        Ok(())
    } else {
        Err(InvalidField { field, expected })
    }
}

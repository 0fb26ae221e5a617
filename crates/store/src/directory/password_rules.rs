//! What passwords must be like, and how long they last: functions of the policy, the password and the time.

use jiff::{SignedDuration, Timestamp};

use crate::records::{InvalidField, LoginProfile, PasswordPolicy};

/// The symbols that count as such (IAM API spec, section 4.16).
const SYMBOLS: &str = "!@#$%^&*()_+-=[]{}|'";
/// Characters that the default policy asks for.
const DEFAULT_MINIMUM: usize = 8;
/// Kinds of characters, of four, that the default policy asks for.
const DEFAULT_KINDS: usize = 3;

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordFault {
    /// It is too short.
    #[error("Password should have a minimum length of {0}")]
    Length(u32),
    /// It has none of A-Z.
    #[error("Password should have at least one uppercase letter")]
    Uppercase,
    /// It has none of a-z.
    #[error("Password should have at least one lowercase letter")]
    Lowercase,
    /// It has no digit.
    #[error("Password should have at least one number")]
    Number,
    /// It has no symbol.
    #[error("Password should have at least one symbol")]
    Symbol,
    /// It breaks the policy that is in force where none is set.
    #[error("Password does not conform to the account password policy.")]
    Default,
    /// It was used before.
    #[error("Policy constraint violation with password reuse prevention during password change")]
    Reused,
}

/// Whether a password may be used for signing in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordState {
    /// It may.
    Valid,
    /// Its user has to choose another one first: it expired, or the administrator wants it so.
    MustChange,
    /// It expired, and only an administrator can set another one.
    Locked,
}

/// Whether the account's policy takes a password; its history is looked at apart.
///
/// Without a policy of its own an account has the default one: at least 8 characters, of at least three of the four
/// kinds upper case, lower case, digits and symbols, and not the account's alias.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_password(
    policy: Option<&PasswordPolicy>,
    alias: Option<&str>,
    password: &str,
) -> Result<(), PasswordFault> {
    let length = password.chars().count();
    let has = |kind: fn(char) -> bool| password.chars().any(kind);
    let upper = has(|c| c.is_ascii_uppercase());
    let lower = has(|c| c.is_ascii_lowercase());
    let number = has(|c| c.is_ascii_digit());
    let symbol = has(|c| SYMBOLS.contains(c));
    let Some(policy) = policy else {
        let kinds = [upper, lower, number, symbol];
        let kinds = kinds.into_iter().filter(|has| *has).count();
        let is_alias = alias == Some(password);
        return if length < DEFAULT_MINIMUM || kinds < DEFAULT_KINDS || is_alias {
            Err(PasswordFault::Default)
        } else {
            Ok(())
        };
    };
    let minimum = usize::try_from(policy.minimum_length).unwrap_or(usize::MAX);
    let rules = [
        (
            length >= minimum,
            PasswordFault::Length(policy.minimum_length),
        ),
        (upper || !policy.require_uppercase, PasswordFault::Uppercase),
        (lower || !policy.require_lowercase, PasswordFault::Lowercase),
        (number || !policy.require_numbers, PasswordFault::Number),
        (symbol || !policy.require_symbols, PasswordFault::Symbol),
    ];
    rules
        .into_iter()
        .find(|(holds, _)| !holds)
        .map_or(Ok(()), |(_, fault)| Err(fault))
}

/// What may be done with the password of a profile now.
#[must_use]
pub fn password_state(
    policy: Option<&PasswordPolicy>,
    login: &LoginProfile,
    now: Timestamp,
) -> PasswordState {
    let expired = policy
        .and_then(|policy| policy.max_age_days)
        .is_some_and(|days| {
            let age = SignedDuration::from_hours(i64::from(days).saturating_mul(24));
            login
                .changed
                .checked_add(age)
                .is_ok_and(|expires| now >= expires)
        });
    let hard = policy.and_then(|policy| policy.hard_expiry) == Some(true);
    match (expired, hard) {
        (true, true) => PasswordState::Locked,
        (true, false) => PasswordState::MustChange,
        (false, _) if login.reset_required => PasswordState::MustChange,
        (false, _) => PasswordState::Valid,
    }
}

/// The numbers of a policy are those that IAM allows (IAM API spec, section 4.20).
///
/// # Errors
/// When one is not.
pub(super) fn check_policy(policy: &PasswordPolicy) -> Result<(), InvalidField> {
    let within = |number: Option<u32>, most| number.is_none_or(|n| (1..=most).contains(&n));
    let rules = [
        (
            (6..=128).contains(&policy.minimum_length),
            "the minimum password length",
            "6 to 128",
        ),
        (
            within(policy.max_age_days, 1095),
            "the maximum password age",
            "1 to 1095 days",
        ),
        (
            within(policy.reuse_prevention, 24),
            "the number of passwords that do not come again",
            "1 to 24",
        ),
    ];
    rules
        .into_iter()
        .find(|(holds, ..)| !holds)
        .map_or(Ok(()), |(_, field, expected)| {
            Err(InvalidField { field, expected })
        })
}

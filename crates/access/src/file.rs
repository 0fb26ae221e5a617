//! Files with custom access policies and access rules (EKS API spec, section 18.1).
//!
//! ```yaml
//! account: "111122223333"          # whose policies they are; without it, everyone's under their own account
//! policies:
//! - name: WidgetReader
//!   description: Widgets, and what Kubernetes' own role view may see
//!   version: 2
//!   rules:
//!   - {apiGroups: [example.com], resources: [widgets], verbs: [get, list, watch]}
//!   aggregate: [view]               # true is [view, edit, admin]
//! accessRules:
//! - name: platform
//!   clusters: [c1]                  # without it, all
//!   match: {account: "444455556666", permissionSet: Platform}
//!   username: "platform:{{SessionName}}"
//!   groups: [platform]
//!   policies:
//!   - {policy: AmazonEKSAdminPolicy, namespaces: ["platform-*"]}
//!   - {policy: WidgetReader, scope: cluster}
//! ```
//!
//! Nothing is guessed: an unknown field, a rule that could never match and a matcher that would reach further than it
//! says are errors, each with its line.

mod policies;
mod rules;
#[cfg(test)]
mod tests;

use countersign_arn::{AccountId, Partition};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::catalogue::{AccessPolicy, Owner};
use crate::limits::Limits;
use crate::rules::AccessRule;

/// Longest file, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// What a file is read with.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileOptions {
    /// The partition of matchers that name none.
    pub partition: Partition,
    /// Limits of scopes, groups and usernames.
    pub limits: Limits,
    /// Whether the paths of roles, their tags and IAM groups are known: only when Countersign itself is the IAM.
    /// Otherwise what needs them is refused, since it would never match.
    pub iam_is_known: bool,
}

/// What a file holds, checked as far as one file can be.
#[derive(Debug, Clone, Default)]
pub struct AccessFile {
    /// Custom policies, for [`Catalogue::new`](crate::Catalogue::new).
    pub policies: Vec<AccessPolicy>,
    /// Access rules, for [`AccessRules::new`](crate::AccessRules::new).
    pub rules: Vec<AccessRule>,
}

/// What is wrong in a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {field}: {message}", Line(*line))]
pub struct FileError {
    /// The name of the file, as it was given.
    pub file: String,
    /// The line, counted from 1, where it is known.
    pub line: Option<u32>,
    /// The field, for example `policies[2].rules[0].verbs`.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

struct Line(Option<u32>);

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

impl AccessFile {
    /// Reads a file. `name` is for messages.
    ///
    /// # Errors
    /// Everything that is wrong in it; text that is no such file at all is one error.
    pub fn parse(name: &str, text: &str, options: &FileOptions) -> Result<Self, Vec<FileError>> {
        let mut errors = Errors {
            file: name,
            found: Vec::new(),
        };
        let Some(raw) = read(text, &mut errors) else {
            return Err(errors.found);
        };
        let owner = match &raw.account {
            None => Owner::AnyAccount,
            Some(account) => errors
                .account(account, "account")
                .map_or(Owner::AnyAccount, Owner::Account),
        };
        let policies = policies::check(&raw.policies, owner, &mut errors);
        let rules = rules::check(&raw.access_rules, options, &mut errors);
        if errors.found.is_empty() {
            Ok(Self { policies, rules })
        } else {
            Err(errors.found)
        }
    }
}

fn read(text: &str, errors: &mut Errors<'_>) -> Option<RawFile> {
    if text.len() > MAX_FILE {
        let message = format!("{} bytes, and at most {MAX_FILE} are read", text.len());
        errors.at(None, "file".into(), message);
        return None;
    }
    // A file of comments alone says nothing, which is fine.
    let is_empty = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_empty) {
        return Some(RawFile::default());
    }
    match serde_saphyr::from_str(text) {
        Ok(raw) => Some(raw),
        Err(error) => {
            let line = error
                .location()
                .and_then(|location| u32::try_from(location.line()).ok());
            let message = error.without_snippet().to_string();
            let message = message.lines().next().unwrap_or_default();
            errors.at(
                line,
                "file".into(),
                message.chars().take(512).collect::<String>(),
            );
            None
        }
    }
}

/// Collects what is wrong, up to a limit.
struct Errors<'a> {
    file: &'a str,
    found: Vec<FileError>,
}

impl Errors<'_> {
    const MAX: usize = 100;

    fn at(&mut self, line: Option<u32>, field: String, message: impl Into<String>) {
        if self.found.len() < Self::MAX {
            self.found.push(FileError {
                file: self.file.to_owned(),
                line,
                field,
                message: message.into(),
            });
        }
    }

    fn of<T>(&mut self, value: &Spanned<T>, field: impl Into<String>, message: impl Into<String>) {
        self.at(line_of(value), field.into(), message);
    }

    fn account(&mut self, text: &Spanned<String>, field: &str) -> Option<AccountId> {
        let account = text.value.parse().ok();
        if account.is_none() {
            self.of(
                text,
                field,
                format!(
                    "`{}` is not exactly 12 digits; one account, without wildcards",
                    shown(&text.value)
                ),
            );
        }
        account
    }
}

impl FileError {
    /// An error at the `file:line` of something that was read before.
    pub(crate) fn at_origin(origin: Option<&str>, field: &str, message: String) -> Self {
        let (file, line) = origin
            .and_then(|origin| origin.rsplit_once(':'))
            .map_or(("", None), |(file, line)| (file, line.parse().ok()));
        Self {
            file: file.to_owned(),
            line,
            field: field.to_owned(),
            message,
        }
    }
}

fn line_of<T>(value: &Spanned<T>) -> Option<u32> {
    u32::try_from(value.referenced.line())
        .ok()
        .filter(|line| *line > 0)
}

/// `file:line`, which errors of later checks and explanations cite.
fn origin_of<T>(file: &str, value: &Spanned<T>) -> Box<str> {
    format!("{file}:{}", line_of(value).unwrap_or(1)).into()
}

fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// A name that can stand in an ARN, in the name of a Kubernetes object and in a reason.
fn is_policy_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RawFile {
    account: Option<Spanned<String>>,
    policies: Vec<Spanned<policies::Raw>>,
    access_rules: Vec<Spanned<rules::Raw>>,
}

//! What IAM answers when a document is written (policy language spec, section 3, with the recorded corrections of the IAM API spec,
//! section 3.1).
//!
//! Steps run in IAM's order, and the first that fails gives the message: shape, version, legacy parsing, statement ids, actions present,
//! resources present, form of resources, form of actions, then what the kind of policy asks for. Lint reports everything at once.

mod legacy;
mod principals;
mod quota;
mod resources;

use crate::compiled::PolicyKind;
use crate::document::{Document, Effect, MAX_DEPTH, PrincipalIds, Statement, Version};
use crate::problem::{Gravity, Problem};
use crate::text::{Path, SourceText, Span, parse_json_lenient};

pub(crate) use principals::{BUILT_IN_PROVIDERS, is_provider};
pub use principals::{Existence, NoDirectory, PrincipalDirectory};
pub use quota::{Quota, check_document_text, check_quota};

/// The error code of a refused document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionCode {
    /// `MalformedPolicyDocument`, HTTP 400.
    MalformedPolicyDocument,
    /// `LimitExceeded`, HTTP 409.
    LimitExceeded,
}

impl RejectionCode {
    /// The code on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MalformedPolicyDocument => "MalformedPolicyDocument",
            Self::LimitExceeded => "LimitExceeded",
        }
    }

    /// Its HTTP status.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::MalformedPolicyDocument => 400,
            Self::LimitExceeded => 409,
        }
    }
}

/// Why a document is not stored: IAM's words for the wire, ours for people.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The code.
    pub code: RejectionCode,
    /// IAM's message.
    pub message: String,
    /// What is wrong, where, and what to do.
    pub problem: Problem,
}

/// A document that may be stored.
#[derive(Debug, Clone)]
pub struct Validated {
    /// The document.
    pub document: Document,
    /// The unique ids behind its user and role principals, to be stored beside the text.
    pub principal_ids: PrincipalIds,
}

pub(crate) type Checked = Result<(), Box<Rejection>>;

/// Checks a document that is about to be written.
///
/// Managed policies and inline policies of users, groups and roles are [`PolicyKind::Identity`]. Quotas are apart, see [`check_quota`].
///
/// # Errors
/// IAM's answer.
pub fn validate(
    text: &str,
    kind: PolicyKind,
    directory: &dyn PrincipalDirectory,
) -> Result<Validated, Box<Rejection>> {
    let source = SourceText::new(text.into());
    let not_json = |problem| {
        let message = if kind == PolicyKind::Trust {
            "This policy contains invalid Json"
        } else {
            SYNTAX
        };
        reject(message, problem)
    };
    let (node, duplicates) = parse_json_lenient(source.text(), MAX_DEPTH)
        .map_err(|error| not_json(Problem::from_syntax(&error)))?;
    if let Some(duplicate) = duplicates.first() {
        return Err(reject(SYNTAX, Problem::from_syntax(duplicate)));
    }
    let (document, problems) = Document::examine(&node, &source);
    let syntax = problems
        .iter()
        .find(|problem| matches!(problem.gravity, Gravity::Syntax | Gravity::Operator));
    if let Some(problem) = syntax {
        return Err(reject(SYNTAX, problem.clone()));
    }
    version(&document, kind)?;
    if let Some(problem) = problems
        .iter()
        .find(|problem| problem.gravity == Gravity::LegacyFatal)
    {
        return Err(reject(LEGACY, problem.clone()));
    }
    after_version(&document, kind)?;
    let principal_ids = principals::check(&document, kind, directory)?;
    Ok(Validated {
        document,
        principal_ids,
    })
}

/// The steps behind shape, for a document that could be read; principals are not looked up.
///
/// # Errors
/// IAM's answer.
pub fn check(document: &Document, kind: PolicyKind) -> Checked {
    version(document, kind)?;
    after_version(document, kind)?;
    principals::check(document, kind, &NoDirectory).map(|_| ())
}

const SYNTAX: &str = "Syntax errors in policy.";
const LEGACY: &str = "The policy failed legacy parsing";

fn reject(message: impl Into<String>, problem: Problem) -> Box<Rejection> {
    Box::new(Rejection {
        code: RejectionCode::MalformedPolicyDocument,
        message: message.into(),
        problem,
    })
}

/// The problem behind a rejection, at a place inside a statement.
fn problem(
    code: &'static str,
    statement: usize,
    element: &str,
    span: Span,
    message: impl Into<String>,
) -> Problem {
    let root = Path::Root;
    let list = root.key("Statement");
    let path = list.index(statement);
    let path = if element.is_empty() {
        path
    } else {
        path.key(element)
    };
    Problem::new(code, Gravity::Later, &path, span, message)
}

fn version(document: &Document, kind: PolicyKind) -> Checked {
    let required = matches!(kind, PolicyKind::Identity | PolicyKind::Boundary);
    if !required || document.version() == Version::V2012 {
        return Ok(());
    }
    let root = Path::Root;
    Err(reject(
        "Policy document must be version 2012-10-17 or greater.",
        Problem::new(
            "MISSING_VERSION",
            Gravity::Later,
            &root.key("Version"),
            document.version_span().unwrap_or(document.span()),
            "the document is not of version 2012-10-17",
        )
        .hint("add \"Version\": \"2012-10-17\""),
    ))
}

fn after_version(document: &Document, kind: PolicyKind) -> Checked {
    legacy::dates(document)?;
    // The form of resources is walked now, because two of its checks belong to legacy parsing; its other answers come later.
    let resource_form = resources::walk(document)?;
    sids(document, kind)?;
    actions_present(document)?;
    if matches!(
        kind,
        PolicyKind::Identity | PolicyKind::Boundary | PolicyKind::Session
    ) {
        resources_present(document)?;
    }
    if let Some(rejection) = resource_form {
        return Err(rejection);
    }
    action_form(document)?;
    match kind {
        PolicyKind::Identity | PolicyKind::Boundary | PolicyKind::Session | PolicyKind::Scp => {
            principals::none(document)
        }
        PolicyKind::Trust => trust(document),
        PolicyKind::Resource | PolicyKind::Endpoint => Ok(()),
        PolicyKind::Rcp => rcp(document),
    }
}

fn sids(document: &Document, kind: PolicyKind) -> Checked {
    let statements = document.statements();
    let with_sid = || {
        statements
            .iter()
            .enumerate()
            .filter_map(|(index, statement)| {
                let sid = statement.sid.as_ref()?;
                (!sid.value.is_empty()).then_some((index, sid))
            })
    };
    // Policies of other services may repeat ids and use more characters.
    if matches!(kind, PolicyKind::Resource | PolicyKind::Endpoint) {
        return Ok(());
    }
    let mut seen = std::collections::HashSet::new();
    if let Some((index, sid)) = with_sid().find(|(_, sid)| !seen.insert(&*sid.value)) {
        return Err(reject(
            "Statement IDs (SID) in a single policy must be unique.",
            problem(
                "UNIQUE_SIDS_REQUIRED",
                index,
                "Sid",
                sid.span,
                format!("`{}` is the id of an earlier statement", sid.value),
            )
            .hint("give each statement its own Sid, or none"),
        ));
    }
    let odd = with_sid().find(|(_, sid)| !sid.value.bytes().all(|b| b.is_ascii_alphanumeric()));
    if let Some((index, sid)) = odd {
        return Err(reject(
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*",
            problem(
                "UNSUPPORTED_SID",
                index,
                "Sid",
                sid.span,
                format!(
                    "`{}` holds other characters than letters and digits",
                    sid.value
                ),
            ),
        ));
    }
    Ok(())
}

fn actions_present(document: &Document) -> Checked {
    each(document, |index, statement| {
        let present = statement
            .action
            .as_ref()
            .is_some_and(|list| !list.is_list || !list.entries.is_empty());
        present.then_some(()).ok_or_else(|| {
            let span = statement
                .action
                .as_ref()
                .map_or(statement.span, |list| list.span);
            reject(
                "Policy statement must contain actions.",
                problem(
                    "MISSING_ACTION",
                    index,
                    "Action",
                    span,
                    "the statement has no action",
                )
                .hint("add \"Action\": [\"service:Name\"]"),
            )
        })
    })
}

fn resources_present(document: &Document) -> Checked {
    each(document, |index, statement| {
        let present = statement
            .resource
            .as_ref()
            .is_some_and(|list| !list.is_list || !list.entries.is_empty());
        present.then_some(()).ok_or_else(|| {
            let span = statement
                .resource
                .as_ref()
                .map_or(statement.span, |list| list.span);
            reject(
                "Policy statement must contain resources.",
                problem(
                    "MISSING_RESOURCE",
                    index,
                    "Resource",
                    span,
                    "the statement has no resource",
                )
                .hint("add \"Resource\": \"arn:...\", or \"*\" for actions without resources"),
            )
        })
    })
}

/// All `Action` elements, then all `NotAction` elements.
fn action_form(document: &Document) -> Checked {
    for negated in [false, true] {
        each(document, |index, statement| {
            let Some(list) = statement
                .action
                .as_ref()
                .filter(|list| list.negated == negated)
            else {
                return Ok(());
            };
            let element = if negated { "NotAction" } else { "Action" };
            for entry in &list.entries {
                if let Err((message, explanation)) = one_action(&entry.value) {
                    return Err(reject(
                        message,
                        problem("INVALID_ACTION", index, element, entry.span, explanation)
                            .hint("write service:Name, such as s3:GetObject"),
                    ));
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn one_action(text: &str) -> Result<(), (String, String)> {
    let mut halves = text.split(':');
    let service = halves.next().unwrap_or_default();
    let explain = |why: &str| format!("`{text}` {why}");
    if halves.next().is_none() {
        return if service == "*" {
            Ok(())
        } else {
            Err((
                "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
                    .to_owned(),
                explain("names no service"),
            ))
        };
    }
    if halves.next().is_some() {
        return Err((
            "Actions/Condition can contain only one colon.".to_owned(),
            explain("has more than one colon"),
        ));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    if service != "*" && !service.bytes().all(plain) {
        return Err((
            format!("Vendor {service} is not valid"),
            explain("has a service with other characters than letters, digits, `-` and `.`"),
        ));
    }
    Ok(())
}

const TRUST_ACTIONS: [&str; 13] = [
    "sts:AssumeRole",
    "sts:AssumeRoleWithSAML",
    "sts:AssumeRoleWithWebIdentity",
    "sts:AssumeRoot",
    "sts:TagSession",
    "sts:SetSourceIdentity",
    "sts:SetContext",
    "sts:DecodeAuthorizationMessage",
    "sts:GetAccessKeyInfo",
    "sts:GetCallerIdentity",
    "sts:GetFederationToken",
    "sts:GetServiceBearerToken",
    "sts:GetSessionToken",
];

/// Whether an action may stand in a trust policy. Patterns that stay inside `sts:` may.
pub(crate) fn is_trust_action(text: &str) -> bool {
    let is_pattern = text.contains(['*', '?']);
    let in_sts = text
        .get(..4)
        .is_some_and(|head| head.eq_ignore_ascii_case("sts:"));
    (is_pattern && in_sts)
        || TRUST_ACTIONS
            .iter()
            .any(|known| *known != "sts:AssumeRoot" && known.eq_ignore_ascii_case(text))
}

fn trust(document: &Document) -> Checked {
    each(document, |index, statement| {
        let Some(list) = &statement.action else {
            return Ok(());
        };
        let foreign = list
            .entries
            .iter()
            .find(|entry| !is_trust_action(&entry.value));
        match foreign {
            None => Ok(()),
            Some(entry) => Err(reject(
                "AssumeRole policy may only specify STS AssumeRole actions.",
                problem(
                    "UNSUPPORTED_ACTION_IN_POLICY",
                    index,
                    "Action",
                    entry.span,
                    format!("`{}` has no meaning in a trust policy", entry.value),
                )
                .hint("a trust policy says who may assume the role; what the role may do stands in its identity policies"),
            )),
        }
    })?;
    each(document, |index, statement| match &statement.resource {
        None => Ok(()),
        Some(list) => Err(reject(
            "Has prohibited field Resource",
            problem(
                "TRUST_RESOURCE",
                index,
                if list.negated {
                    "NotResource"
                } else {
                    "Resource"
                },
                list.key_span,
                "a trust policy has no resource: it hangs on its role",
            )
            .hint("remove the element"),
        )),
    })
}

/// Customers write Deny for everyone only (policy language spec, section 1.4).
fn rcp(document: &Document) -> Checked {
    each(document, |index, statement| {
        let everyone = statement
            .principal
            .as_ref()
            .is_some_and(|element| element.is_star && !element.negated);
        let negated_action = statement.action.as_ref().is_some_and(|list| list.negated);
        if statement.effect == Effect::Deny && everyone && !negated_action {
            return Ok(());
        }
        Err(reject(
            "The provided policy document does not meet the requirements of the specified policy type.",
            problem(
                "UNSUPPORTED_ELEMENT_COMBINATION",
                index,
                "",
                statement.span,
                "a resource control policy has only Deny statements with Principal \"*\" and Action",
            ),
        ))
    })
}

fn each(document: &Document, mut check: impl FnMut(usize, &Statement) -> Checked) -> Checked {
    document
        .statements()
        .iter()
        .enumerate()
        .try_for_each(|(index, statement)| check(index, statement))
}

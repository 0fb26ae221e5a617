//! Linting: everything that is wrong, weak or useless in a document, all at once and each with its place (policy language spec, section
//! 13). Codes are those of IAM Access Analyzer where a check is the same.

mod actions;
mod catalogue;
mod conditions;
mod elements;
mod irsa;
mod principals;
mod redundant;
mod render;
mod resources;
mod risk;
mod sarif;
mod trust;
mod types;
mod variables;

use serde::Serialize;

pub use catalogue::{FindingType, Rule, rules};
pub use render::{render_json, render_table};
pub use sarif::render_sarif;

use crate::compiled::PolicyKind;
use crate::document::{Document, MAX_DEPTH};
use crate::problem::Problem;
use crate::text::{Position, SourceText, Span, parse_json_lenient, parse_yaml};

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    #[serde(rename = "type")]
    pub kind: FindingType,
    /// Stable code.
    pub code: &'static str,
    /// What is wrong here.
    pub message: String,
    /// What to do.
    pub fix: String,
    /// Where, inside the document.
    pub path: String,
    /// Where it begins.
    pub start: Position,
    /// Where it ends.
    pub end: Position,
    /// Where the documentation tells more.
    pub anchor: String,
}

/// What is known beside the document.
#[derive(Debug, Clone, Default)]
pub struct LintOptions {
    /// What the document is for; guessed when it is not said.
    pub kind: Option<PolicyKind>,
    /// The account that the document belongs to.
    pub account: Option<String>,
    /// For a trust policy: the ARN of its role.
    pub role_arn: Option<String>,
    /// For a trust policy: the identity policies of its role, as texts.
    pub role_policies: Vec<String>,
    /// ARNs of roles that nodes run with.
    pub node_roles: Vec<String>,
    /// Service accounts that exist, as `namespace:name`; empty when no cluster is at hand.
    pub service_accounts: Vec<String>,
    /// Leave risk classes out.
    pub without_risk: bool,
}

/// Lints a document, JSON or YAML. Findings come in document order.
#[must_use]
pub fn lint(text: &str, options: &LintOptions) -> Vec<Finding> {
    let source = SourceText::new(text.into());
    let is_json = text.trim_start().starts_with(['{', '[', '"']) || text.trim().is_empty();
    let parsed = if is_json {
        parse_json_lenient(source.text(), MAX_DEPTH)
    } else {
        parse_yaml(source.text(), MAX_DEPTH).map(|node| (node, Vec::new()))
    };
    let (node, duplicates) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let problem = Problem::from_syntax(&error);
            let mut finding = from_problem(&problem, &source);
            finding.start = error.position;
            finding.end = error.position;
            return vec![finding];
        }
    };
    let (document, problems) = Document::examine(&node, &source);
    let too_large = problems
        .iter()
        .any(|problem| problem.code == "DOCUMENT_TOO_LARGE");
    let mut findings: Vec<Finding> = duplicates
        .iter()
        .map(Problem::from_syntax)
        .chain(problems)
        .map(|problem| from_problem(&problem, &source))
        .collect();
    if too_large {
        return findings;
    }
    let kind = options.kind.unwrap_or_else(|| guess_kind(&document));
    let mut linter = Linter {
        document: &document,
        source: &source,
        kind,
        options,
        findings: Vec::new(),
    };
    linter.run();
    findings.append(&mut linter.findings);
    findings.sort_by(|left, right| {
        (left.start, left.kind, left.code, &left.path).cmp(&(
            right.start,
            right.kind,
            right.code,
            &right.path,
        ))
    });
    findings.dedup();
    findings
}

/// What a document is for, from its looks: all statements name principals and only STS actions: trust; some name principals: resource;
/// else identity.
#[must_use]
pub fn guess_kind(document: &Document) -> PolicyKind {
    let statements = document.statements();
    let named = statements
        .iter()
        .filter(|statement| statement.principal.is_some())
        .count();
    let sts_only = statements.iter().all(|statement| {
        statement.resource.is_none()
            && statement.action.as_ref().is_some_and(|list| {
                !list.entries.is_empty()
                    && list.entries.iter().all(|entry| {
                        entry
                            .value
                            .get(..4)
                            .is_some_and(|head| head.eq_ignore_ascii_case("sts:"))
                    })
            })
    });
    match named {
        0 => PolicyKind::Identity,
        all if all == statements.len() && sts_only => PolicyKind::Trust,
        _ => PolicyKind::Resource,
    }
}

/// The worst type among the findings, for the exit code.
#[must_use]
pub fn worst(findings: &[Finding]) -> Option<FindingType> {
    findings.iter().map(|finding| finding.kind).min()
}

fn from_problem(problem: &Problem, source: &SourceText) -> Finding {
    let mut finding = finding(
        problem.code,
        problem.path.clone(),
        problem.span,
        problem.message.clone(),
        source,
    );
    if let Some(hint) = &problem.hint {
        finding.fix.clone_from(hint);
    }
    finding
}

fn finding(
    code: &'static str,
    path: String,
    span: Span,
    message: String,
    source: &SourceText,
) -> Finding {
    let rule = catalogue::rule(code);
    let lines = source.lines();
    Finding {
        kind: rule.map_or(FindingType::Error, |rule| rule.kind),
        code,
        message,
        fix: rule.map_or_else(String::new, |rule| rule.fix.clone()),
        path,
        start: lines.position(span.start),
        end: lines.position(span.end),
        anchor: format!("docs/policy-findings.md#{}", code.to_ascii_lowercase()),
    }
}

/// One run over a document.
struct Linter<'d> {
    document: &'d Document,
    source: &'d SourceText,
    kind: PolicyKind,
    options: &'d LintOptions,
    findings: Vec<Finding>,
}

impl Linter<'_> {
    fn run(&mut self) {
        self.elements();
        self.actions();
        self.resources();
        self.principals();
        self.conditions();
        self.variables();
        self.redundant();
        if self.kind == PolicyKind::Trust {
            self.trust();
            self.irsa();
        }
        if matches!(self.kind, PolicyKind::Identity) && !self.options.without_risk {
            self.risk();
        }
    }

    fn add(
        &mut self,
        code: &'static str,
        path: impl Into<String>,
        span: Span,
        message: impl Into<String>,
    ) {
        let finding = finding(code, path.into(), span, message.into(), self.source);
        self.findings.push(finding);
    }

    fn add_with_fix(
        &mut self,
        code: &'static str,
        path: impl Into<String>,
        span: Span,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let mut finding = finding(code, path.into(), span, message.into(), self.source);
        finding.fix = fix.into();
        self.findings.push(finding);
    }
}

/// `Statement[2].Action[0]`, or without the index when the value is no list.
fn entry_path(statement: usize, element: &str, is_list: bool, entry: usize) -> String {
    if is_list {
        format!("Statement[{statement}].{element}[{entry}]")
    } else {
        format!("Statement[{statement}].{element}")
    }
}

fn statement_path(statement: usize) -> String {
    format!("Statement[{statement}]")
}

fn key_path(statement: usize, operator: &str, key: &str) -> String {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
    let operator = if plain(operator) {
        format!(".{operator}")
    } else {
        format!("[{operator:?}]")
    };
    format!("Statement[{statement}].Condition{operator}[{key:?}]")
}

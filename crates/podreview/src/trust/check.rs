//! What is wrong with a trust policy that pods use: checks T1 to T10 of the IRSA spec, section 7, and the rest of the linter.

use std::collections::{BTreeMap, BTreeSet};

use countersign_policy::lint::{FindingType, LintOptions, lint};
use countersign_policy::{Document, Effect, PolicyKind, PrincipalKind};
use serde::Serialize;

use super::write::TrustError;
use crate::text::enumerate;

/// What is known beside the document.
#[derive(Debug, Clone, Default)]
pub struct CheckFacts {
    /// The role's account.
    pub account: Option<String>,
    /// ARNs of the providers that the account has, for T6.
    pub providers: Option<Vec<String>>,
    /// Service accounts that exist, as `namespace:name`, for T8.
    pub service_accounts: Option<Vec<String>>,
    /// Service accounts that are known to use the role, as `namespace:name`, for T9.
    pub users: Vec<String>,
    /// Who may make pods in a namespace and is no administrator of the cluster, by namespace, for T10. Whoever may make a pod
    /// chooses its service account.
    pub pod_makers: BTreeMap<String, Vec<String>>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Whoever should not can take the role, or nobody can.
    High,
    /// One mistake away from that.
    Medium,
    /// Worth knowing.
    Info,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustFinding {
    /// `T1` to `T10`, or the code of the linter.
    pub id: String,
    /// How bad it is.
    pub level: Level,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
    /// Where in the document.
    pub path: String,
}

/// Checks a trust policy; findings come worst first.
///
/// # Errors
/// When it cannot be read.
pub fn check(text: &str, facts: &CheckFacts) -> Result<Vec<TrustFinding>, TrustError> {
    let document = Document::parse(text)?;
    let options = LintOptions {
        kind: Some(PolicyKind::Trust),
        account: facts.account.clone(),
        ..LintOptions::default()
    };
    let mut findings: Vec<TrustFinding> = lint(text, &options)
        .into_iter()
        // Wildcards are graded here: a whole namespace may be what is wanted.
        .filter(|finding| finding.code != "IRSA_SUB_WILDCARD")
        .map(|finding| {
            let (id, level) = match finding.code {
                "IRSA_SUB_MISSING" => ("T1", Level::High),
                "IRSA_AUD_MISSING" => ("T2", Level::Medium),
                "IRSA_SUB_STRINGEQUALS_WILDCARD" => ("T3", Level::High),
                "IRSA_ISSUER_MISMATCH" => ("T5", Level::High),
                "IRSA_FORALLVALUES_SUB" => ("T7", Level::High),
                code => (code, of_kind(finding.kind)),
            };
            TrustFinding {
                id: id.to_owned(),
                level,
                message: finding.message,
                fix: finding.fix,
                path: finding.path,
            }
        })
        .collect();
    let mut subjects = BTreeSet::new();
    for (index, statement) in document.statements().iter().enumerate() {
        if statement.effect != Effect::Allow {
            continue;
        }
        for entry in statement.principal.iter().flat_map(|list| &list.entries) {
            let name = &*entry.text.value;
            let missing = |providers: &Vec<String>| !providers.iter().any(|own| own == name);
            if entry.kind == PrincipalKind::Federated
                && name.contains(":oidc-provider/")
                && facts.providers.as_ref().is_some_and(missing)
            {
                findings.push(TrustFinding {
                    id: "T6".to_owned(),
                    level: Level::Medium,
                    message: format!("the account has no provider `{name}`"),
                    fix: "create the provider, or take the statement of a deleted cluster out"
                        .to_owned(),
                    path: format!("Statement[{index}].Principal.Federated"),
                });
            }
        }
        for block in &statement.conditions {
            let operator = block.operator.value.to_ascii_lowercase();
            for key in &block.keys {
                if !is_subject(&key.key.value) {
                    continue;
                }
                let path = format!(
                    "Statement[{index}].Condition.{}.{}",
                    block.operator.value, key.key.value
                );
                for value in &key.values {
                    if operator.contains("stringlike") && !operator.contains("not") {
                        findings.extend(wildcard(&value.value, &path));
                    }
                    subjects.extend(account_of(&value.value));
                }
            }
        }
    }
    if let Some(known) = &facts.service_accounts {
        for subject in subjects
            .iter()
            .filter(|subject| !subject.contains(['*', '?']))
        {
            if !known.iter().any(|own| own == subject) {
                findings.push(TrustFinding {
                    id: "T8".to_owned(),
                    level: Level::Info,
                    message: format!("the cluster has no service account `{subject}`"),
                    fix: "take the subject out, or make the service account".to_owned(),
                    path: "Statement".to_owned(),
                });
            }
        }
    }
    for namespace in namespaces_of(&subjects) {
        let makers = facts
            .pod_makers
            .get(namespace)
            .filter(|own| !own.is_empty());
        if let Some(makers) = makers {
            let named: Vec<&String> = makers.iter().collect();
            findings.push(TrustFinding {
                id: "T10".to_owned(),
                level: Level::Info,
                message: format!(
                    "who may make pods in the namespace {namespace} can take the role by naming the service account: {}",
                    enumerate(&named)
                ),
                fix: format!(
                    "keep service accounts with roles in a namespace where nobody else makes pods, or take that right in {namespace} away"
                ),
                path: "Statement".to_owned(),
            });
        }
    }
    subjects.extend(facts.users.iter().cloned());
    if subjects.len() > 1 {
        let named: Vec<&String> = subjects.iter().collect();
        findings.push(TrustFinding {
            id: "T9".to_owned(),
            level: Level::Info,
            message: format!(
                "more than one service account uses the role: {}",
                enumerate(&named)
            ),
            fix: "give each application a role of its own".to_owned(),
            path: "$".to_owned(),
        });
    }
    findings.sort_by(|left, right| {
        (left.level, &left.id, &left.path).cmp(&(right.level, &right.id, &right.path))
    });
    Ok(findings)
}

/// The namespaces whose service accounts a trust policy names, for [`CheckFacts::pod_makers`].
///
/// # Errors
/// When it cannot be read.
pub fn namespaces(text: &str) -> Result<BTreeSet<String>, TrustError> {
    let document = Document::parse(text)?;
    let subjects: BTreeSet<String> = document
        .statements()
        .iter()
        .filter(|statement| statement.effect == Effect::Allow)
        .flat_map(|statement| &statement.conditions)
        .flat_map(|block| &block.keys)
        .filter(|key| is_subject(&key.key.value))
        .flat_map(|key| &key.values)
        .filter_map(|value| account_of(&value.value))
        .collect();
    Ok(namespaces_of(&subjects).map(str::to_owned).collect())
}

/// Those of subjects as `namespace:name`, each once; not patterns.
fn namespaces_of(subjects: &BTreeSet<String>) -> impl Iterator<Item = &str> {
    let named = subjects.iter().filter_map(|subject| {
        let (namespace, _) = subject.split_once(':')?;
        (!namespace.contains(['*', '?'])).then_some(namespace)
    });
    named.collect::<BTreeSet<_>>().into_iter()
}

fn is_subject(key: &str) -> bool {
    key.to_ascii_lowercase().ends_with(":sub")
}

fn account_of(subject: &str) -> Option<String> {
    subject
        .strip_prefix("system:serviceaccount:")
        .map(str::to_owned)
}

fn of_kind(kind: FindingType) -> Level {
    match kind {
        FindingType::Error | FindingType::SecurityWarning => Level::High,
        FindingType::Warning => Level::Medium,
        FindingType::Suggestion => Level::Info,
    }
}

/// T4 where the pattern reaches over namespaces; else what it reaches is only told.
fn wildcard(subject: &str, path: &str) -> Option<TrustFinding> {
    if !subject.contains(['*', '?']) {
        return None;
    }
    let parts = subject
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    let (level, id, reach) = match parts {
        Some((namespace, name)) if !namespace.contains(['*', '?']) => {
            let reach = match name.trim_matches('*').is_empty() {
                true => format!("every service account of the namespace {namespace}"),
                false => {
                    format!("every service account of the namespace {namespace} with such a name")
                }
            };
            (Level::Info, "IRSA_SUB_WILDCARD", reach)
        }
        Some((_, name)) if !name.trim_matches('*').is_empty() => (
            Level::High,
            "T4",
            "whoever may create a namespace with such an account in it".to_owned(),
        ),
        _ => (
            Level::High,
            "T4",
            "every service account of the cluster".to_owned(),
        ),
    };
    Some(TrustFinding {
        id: id.to_owned(),
        level,
        message: format!("`{subject}` lets in {reach}"),
        fix: "name the service account: StringEquals with system:serviceaccount:NAMESPACE:NAME"
            .to_owned(),
        path: path.to_owned(),
    })
}

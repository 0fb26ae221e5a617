//! Risk classes of identity policies: what somebody with this policy could do to others (policy language spec, section 13.4).

use std::sync::LazyLock;

use serde::Deserialize;

use super::{FindingType, Linter, statement_path};
use crate::compiled::ActionPattern;
use crate::document::{Effect, Statement};
use crate::request::{Action, split_action};
use crate::text::Span;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct File {
    credentials: Vec<String>,
    exfiltration: Vec<String>,
    exposure: Vec<String>,
    escalation: Vec<EscalationText>,
    compute_services: Vec<String>,
}

#[derive(Deserialize)]
struct EscalationText {
    name: String,
    actions: Vec<String>,
}

struct Tables {
    credentials: Vec<Action>,
    exfiltration: Vec<Action>,
    exposure: Vec<Action>,
    escalation: Vec<(String, Vec<Action>)>,
    compute_services: Vec<String>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let file: File = serde_json::from_str(include_str!("../../data/risk.json")).unwrap_or_default();
    let actions = |texts: Vec<String>| -> Vec<Action> {
        texts
            .iter()
            .filter_map(|text| Action::parse(text).ok())
            .collect()
    };
    let mut exposure = actions(file.exposure);
    // Of the services whose tables are known, every action that manages permissions.
    for (service, table) in crate::tables::services() {
        let managing = table.actions.iter().filter(|(_, info)| {
            info.level
                .iter()
                .any(|level| level == "Permissions management")
        });
        exposure.extend(
            managing.filter_map(|(name, _)| Action::parse(&format!("{service}:{name}")).ok()),
        );
    }
    Tables {
        credentials: actions(file.credentials),
        exfiltration: actions(file.exfiltration),
        exposure,
        escalation: file
            .escalation
            .into_iter()
            .map(|entry| (entry.name, actions(entry.actions)))
            .collect(),
        compute_services: file.compute_services,
    }
});

/// Services that run workloads with the role they are given.
pub(super) fn compute_services() -> impl Iterator<Item = &'static str> {
    TABLES.compute_services.iter().map(String::as_str)
}

/// A statement's actions, compiled once for all questions.
struct Grants {
    index: usize,
    span: Span,
    negated: bool,
    patterns: Vec<ActionPattern>,
    any_resource: bool,
    conditional: bool,
}

impl Grants {
    fn new(index: usize, statement: &Statement) -> Option<Self> {
        let list = statement.action.as_ref()?;
        let any_resource = statement.resource.as_ref().is_some_and(|resources| {
            resources.negated || resources.entries.iter().any(|entry| &*entry.value == "*")
        });
        Some(Self {
            index,
            span: statement.span,
            negated: list.negated,
            patterns: list
                .entries
                .iter()
                .map(|entry| ActionPattern::compile(&entry.value))
                .collect(),
            any_resource,
            conditional: statement
                .conditions
                .iter()
                .any(|block| !block.keys.is_empty()),
        })
    }

    fn allows(&self, action: &Action) -> bool {
        self.negated != self.patterns.iter().any(|pattern| pattern.matches(action))
    }

    fn names<'a>(&self, actions: &'a [Action]) -> Vec<&'a str> {
        actions
            .iter()
            .filter(|action| self.allows(action))
            .map(Action::as_str)
            .collect()
    }
}

impl Linter<'_> {
    pub(super) fn risk(&mut self) {
        let allows: Vec<Grants> = self
            .document
            .statements()
            .iter()
            .enumerate()
            .filter(|(_, statement)| statement.effect == Effect::Allow)
            .filter_map(|(index, statement)| Grants::new(index, statement))
            .collect();
        for grants in &allows {
            self.per_statement(grants);
        }
        self.escalation(&allows);
        self.pass_role();
        self.service_wildcards();
    }

    fn per_statement(&mut self, grants: &Grants) {
        if !grants.any_resource || grants.conditional {
            return;
        }
        let classes = [
            (
                "RISK_RESOURCE_EXPOSURE",
                &TABLES.exposure,
                "change permissions",
            ),
            (
                "RISK_CREDENTIALS_EXPOSURE",
                &TABLES.credentials,
                "return credentials",
            ),
            ("RISK_DATA_EXFILTRATION", &TABLES.exfiltration, "read data"),
        ];
        for (code, actions, verb) in classes {
            let names = grants.names(actions);
            if !names.is_empty() {
                self.add(
                    code,
                    statement_path(grants.index),
                    grants.span,
                    format!("on any resource, these {verb}: {}", list(&names)),
                );
            }
        }
        let writes: Vec<String> = crate::tables::services()
            .iter()
            .flat_map(|(service, table)| {
                table
                    .actions
                    .iter()
                    .filter(|(_, info)| {
                        info.level.iter().any(|level| level == "Write") && !info.is_wildcard_only()
                    })
                    .map(move |(name, _)| format!("{service}:{name}"))
            })
            .filter(|name| Action::parse(name).is_ok_and(|action| grants.allows(&action)))
            .collect();
        if !writes.is_empty() {
            let names: Vec<&str> = writes.iter().map(String::as_str).collect();
            self.add(
                "RISK_INFRASTRUCTURE_MODIFICATION",
                statement_path(grants.index),
                grants.span,
                format!("on any resource, these write: {}", list(&names)),
            );
        }
    }

    /// Combinations over the whole document; the last statement that completes one is named.
    fn escalation(&mut self, allows: &[Grants]) {
        let mut found: Vec<(usize, Span, String, bool)> = Vec::new();
        for (name, actions) in &TABLES.escalation {
            let mut last: Option<&Grants> = None;
            let mut conditional = false;
            let complete = actions.iter().all(|action| {
                let grant = allows.iter().find(|grants| grants.allows(action));
                conditional |= grant.is_some_and(|grants| grants.conditional);
                if grant.is_some_and(|grants| last.is_none_or(|l| l.index <= grants.index)) {
                    last = grant;
                }
                grant.is_some()
            });
            if let Some(grants) = last.filter(|_| complete && !actions.is_empty()) {
                let names: Vec<&str> = actions.iter().map(Action::as_str).collect();
                let text = format!("{name} ({})", names.join(" + "));
                found.push((grants.index, grants.span, text, conditional));
            }
        }
        found.sort_by_key(|(index, ..)| *index);
        for group in found.chunk_by(|left, right| left.0 == right.0) {
            let Some((index, span, ..)) = group.first() else {
                continue;
            };
            let texts: Vec<&str> = group.iter().map(|(_, _, text, _)| &**text).collect();
            self.add(
                "RISK_PRIVILEGE_ESCALATION",
                statement_path(*index),
                *span,
                format!("ways to more permissions: {}", list(&texts)),
            );
            let all_conditional = group.iter().all(|(.., conditional)| *conditional);
            if all_conditional && let Some(last) = self.findings.last_mut() {
                last.kind = FindingType::Warning;
            }
        }
    }

    fn pass_role(&mut self) {
        let Ok(pass) = Action::parse("iam:PassRole") else {
            return;
        };
        for (index, statement) in self.document.statements().iter().enumerate() {
            let (Some(actions), Some(resources)) = (&statement.action, &statement.resource) else {
                continue;
            };
            let conditional =
                statement.tests_any(&["iam:passedtoservice", "iam:associatedresourcearn"]);
            if statement.effect != Effect::Allow || conditional {
                continue;
            }
            let matching = actions
                .entries
                .iter()
                .find(|entry| ActionPattern::compile(&entry.value).matches(&pass));
            if matching.is_some() == actions.negated {
                continue;
            }
            let star = resources
                .entries
                .iter()
                .any(|entry| &*entry.value == "*" || entry.value.ends_with(":role/*"));
            let code = if resources.negated {
                "PASS_ROLE_WITH_NOT_RESOURCE"
            } else if !star {
                continue;
            } else if actions.negated {
                "PASS_ROLE_WITH_STAR_IN_RESOURCE_WITH_NOT_ACTION"
            } else if matching.is_some_and(|entry| entry.value.contains('*')) {
                "PASS_ROLE_WITH_STAR_IN_ACTION_AND_RESOURCE"
            } else {
                "PASS_ROLE_WITH_STAR_IN_RESOURCE"
            };
            self.add(
                code,
                statement_path(index),
                resources.span,
                "iam:PassRole is allowed for roles that are not named",
            );
        }
        self.service_linked_roles();
    }

    fn service_linked_roles(&mut self) {
        for (index, statement) in self.document.statements().iter().enumerate() {
            let named = statement.action.as_ref().is_some_and(|list| {
                !list.negated
                    && list.entries.iter().any(|entry| {
                        entry
                            .value
                            .eq_ignore_ascii_case("iam:CreateServiceLinkedRole")
                    })
            });
            let star = statement.resource.as_ref().is_some_and(|list| {
                list.negated || list.entries.iter().any(|entry| &*entry.value == "*")
            });
            if statement.effect == Effect::Allow
                && named
                && star
                && !statement.tests_any(&["iam:awsservicename"])
            {
                self.add(
                    "CREATE_SLR_WITH_STAR_IN_RESOURCE",
                    statement_path(index),
                    statement.span,
                    "iam:CreateServiceLinkedRole is allowed for every service",
                );
            }
        }
    }

    fn service_wildcards(&mut self) {
        for (index, statement) in self.document.statements().iter().enumerate() {
            let Some(list) = statement.action.as_ref().filter(|list| !list.negated) else {
                continue;
            };
            if statement.effect != Effect::Allow {
                continue;
            }
            for (at, entry) in list.entries.iter().enumerate() {
                let whole = &*entry.value == "*"
                    || split_action(&entry.value).is_some_and(|(_, name)| name == "*");
                if whole {
                    self.add(
                        "RISK_SERVICE_WILDCARD",
                        super::entry_path(index, "Action", list.is_list, at),
                        entry.span,
                        format!("`{}` allows every action", entry.value),
                    );
                }
            }
        }
    }
}

fn list(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    let shown: Vec<&str> = names.iter().take(SHOWN).copied().collect();
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

//! Trust policies: who may take the role, and by which door.

use super::{Linter, entry_path, statement_path};
use crate::compiled::{ActionPattern, PrincipalMatch};
use crate::document::{Document, Effect, PrincipalEntry, PrincipalKind, Statement};
use crate::request::Action;
use crate::validate::BUILT_IN_PROVIDERS;

const GITHUB: &str = "token.actions.githubusercontent.com";

impl Linter<'_> {
    pub(super) fn trust(&mut self) {
        for (index, statement) in self.document.statements().iter().enumerate() {
            if statement.effect != Effect::Allow {
                continue;
            }
            self.action_fits_principal(index, statement);
            self.action_for_condition(index, statement);
            for entry in statement
                .principal
                .iter()
                .filter(|element| !element.negated)
                .flat_map(|element| &element.entries)
            {
                self.trusted(index, statement, entry);
            }
        }
        self.self_assume();
    }

    fn action_fits_principal(&mut self, index: usize, statement: &Statement) {
        let (Some(principal), Some(actions)) = (&statement.principal, &statement.action) else {
            return;
        };
        if principal.negated || actions.negated {
            return;
        }
        for (at, entry) in actions.entries.iter().enumerate() {
            let wanted = match &*entry.value.to_ascii_lowercase() {
                "sts:assumerole" => Door::Aws,
                "sts:assumerolewithwebidentity" => Door::Web,
                "sts:assumerolewithsaml" => Door::Saml,
                _ => continue,
            };
            let fits = principal.entries.is_empty()
                || principal.entries.iter().any(|entry| door(entry) == wanted);
            if fits {
                continue;
            }
            let Some(first) = principal.entries.first() else {
                continue;
            };
            let right = match door(first) {
                Door::Aws => "sts:AssumeRole",
                Door::Web => "sts:AssumeRoleWithWebIdentity",
                Door::Saml => "sts:AssumeRoleWithSAML",
            };
            self.add_with_fix(
                "MISMATCHED_ACTION_FOR_PRINCIPAL",
                entry_path(index, "Action", actions.is_list, at),
                entry.span,
                format!("`{}` cannot use {}", first.text.value, entry.value),
                format!("write {right}"),
            );
        }
    }

    /// Conditions on what only TagSession or SetSourceIdentity carry.
    fn action_for_condition(&mut self, index: usize, statement: &Statement) {
        let allows = |name: &str| {
            Action::parse(name).is_ok_and(|action| {
                self.document
                    .statements()
                    .iter()
                    .filter(|other| other.effect == Effect::Allow)
                    .filter_map(|other| other.action.as_ref())
                    .any(|list| {
                        let listed = list
                            .entries
                            .iter()
                            .any(|entry| ActionPattern::compile(&entry.value).matches(&action));
                        listed != list.negated
                    })
            })
        };
        let needs = [
            ("sts:sourceidentity", "sts:SetSourceIdentity"),
            ("aws:requesttag/", "sts:TagSession"),
            ("aws:tagkeys", "sts:TagSession"),
            ("sts:transitivetagkeys", "sts:TagSession"),
        ];
        let mut missing = Vec::new();
        for (block, key) in statement
            .conditions
            .iter()
            .flat_map(|block| block.keys.iter().map(move |key| (block, key)))
        {
            let lower = crate::fold::lower(&key.key.value);
            let need = needs
                .iter()
                .find(|(prefix, _)| lower.starts_with(prefix))
                .map(|(_, action)| *action);
            if let Some(action) = need.filter(|action| !allows(action)) {
                missing.push((
                    super::key_path(index, &block.operator.value, &key.key.value),
                    key.key.span,
                    format!(
                        "{} needs {action}, which no statement allows",
                        key.key.value
                    ),
                ));
            }
        }
        for (path, span, message) in missing {
            self.add("MISSING_ACTION_FOR_CONDITION_KEY", path, span, message);
        }
    }

    fn trusted(&mut self, index: usize, statement: &Statement, entry: &PrincipalEntry) {
        let path = format!("Statement[{index}].Principal.{}", entry.kind.as_str());
        let span = entry.text.span;
        let has_conditions = statement
            .conditions
            .iter()
            .any(|block| !block.keys.is_empty());
        match PrincipalMatch::compile(entry) {
            PrincipalMatch::Everyone => {
                self.add(
                    "ASSUMABLE_BY_ANY_PRINCIPAL",
                    path,
                    span,
                    if has_conditions {
                        "everybody is trusted, within the conditions"
                    } else {
                        "everybody is trusted"
                    },
                );
                if has_conditions && let Some(last) = self.findings.last_mut() {
                    last.kind = super::FindingType::Warning;
                }
            }
            PrincipalMatch::Account { account, .. } => {
                self.other_account(statement, &account, true, path, span);
            }
            PrincipalMatch::User { account, .. } | PrincipalMatch::Session { account, .. } => {
                self.other_account(statement, &account, false, path, span);
            }
            PrincipalMatch::Role { account, .. } => {
                let node = self
                    .options
                    .node_roles
                    .iter()
                    .any(|arn| **arn == *entry.text.value);
                if node {
                    self.add(
                        "TRUST_NODE_ROLE",
                        path.clone(),
                        span,
                        format!("`{}` is the role of nodes", entry.text.value),
                    );
                }
                self.other_account(statement, &account, false, path, span);
            }
            PrincipalMatch::Service(name) => {
                let compute = super::risk::compute_services().any(|service| service == &*name);
                if compute && !name.starts_with("pods.") {
                    self.add(
                        "ASSUMABLE_BY_COMPUTE_SERVICE",
                        path,
                        span,
                        format!("workloads of {name} can take the role"),
                    );
                }
            }
            PrincipalMatch::Provider(provider) => {
                self.provider(index, statement, &provider, path, span);
            }
            PrincipalMatch::FederatedUser { .. }
            | PrincipalMatch::Id(_)
            | PrincipalMatch::Nobody => {}
        }
    }

    fn other_account(
        &mut self,
        statement: &Statement,
        account: &str,
        whole: bool,
        path: String,
        span: crate::text::Span,
    ) {
        let own = self.options.account.as_deref();
        if own.is_none_or(|own| own == account) {
            return;
        }
        self.add(
            "ASSUMABLE_BY_CROSS_ACCOUNT_PRINCIPAL",
            path.clone(),
            span,
            format!("account {account} is another account"),
        );
        let guarded = statement.tests_any(&[
            "sts:externalid",
            "aws:principalorgid",
            "aws:principalorgpaths",
            "aws:principalarn",
        ]);
        if whole && !guarded {
            self.add(
                "TRUST_ACCOUNT_ROOT_CROSS",
                path,
                span,
                format!("whoever account {account} lets assume roles can take this one"),
            );
        }
    }

    fn provider(
        &mut self,
        index: usize,
        statement: &Statement,
        provider: &str,
        path: String,
        span: crate::text::Span,
    ) {
        let issuer = provider
            .split_once(":oidc-provider/")
            .map_or(provider, |(_, issuer)| issuer);
        if issuer == GITHUB {
            self.github(index, statement, span);
        } else if BUILT_IN_PROVIDERS.contains(&provider) {
            let limited = statement
                .conditions
                .iter()
                .flat_map(|block| &block.keys)
                .any(|key| {
                    let key = key.key.value.to_ascii_lowercase();
                    key.strip_prefix(issuer)
                        .is_some_and(|rest| matches!(rest, ":aud" | ":sub" | ":app_id" | ":oaud"))
                });
            if !limited {
                self.add(
                    "MISSING_CONDITION_KEY_FOR_OIDC_PRINCIPAL",
                    path,
                    span,
                    format!("any identity of {provider} can take the role"),
                );
            }
        }
    }

    fn github(&mut self, index: usize, statement: &Statement, span: crate::text::Span) {
        let subject = format!("{GITHUB}:sub");
        let values: Vec<&crate::document::Text> = statement
            .conditions
            .iter()
            .filter(|block| !block.operator.value.contains("Not"))
            .flat_map(|block| &block.keys)
            .filter(|key| key.key.value.eq_ignore_ascii_case(&subject))
            .flat_map(|key| &key.values)
            .collect();
        let path = statement_path(index);
        if values.is_empty() {
            self.add(
                "MISSING_GITHUB_REPO_CONDITION_KEY",
                path,
                span,
                format!("nothing limits {subject}: workflows of any repository can take the role"),
            );
            return;
        }
        for value in values {
            let text = &*value.value;
            let owner = text
                .strip_prefix("repo:")
                .and_then(|rest| rest.split('/').next())
                .unwrap_or_default();
            if owner.is_empty() || owner.contains(['*', '?']) {
                self.add(
                    "MISSING_GITHUB_REPO_CONDITION_KEY",
                    path.clone(),
                    value.span,
                    format!("`{text}` is met by repositories of anybody"),
                );
            } else if text.contains('*') {
                self.add(
                    "SPECIFIC_GITHUB_REPO_AND_BRANCH_RECOMMENDED",
                    path.clone(),
                    value.span,
                    format!("`{text}` is met by more than one repository or branch"),
                );
            }
        }
    }

    /// A role whose identity policies let it assume itself while its trust policy does not name it: AWS stopped granting that.
    fn self_assume(&mut self) {
        let Some(role) = self.options.role_arn.clone() else {
            return;
        };
        let named = self.document.principals().any(|(_, entry)| {
            &*entry.text.value == role.as_str() || entry.kind == PrincipalKind::Star
        });
        if named {
            return;
        }
        let Ok(assume) = Action::parse("sts:AssumeRole") else {
            return;
        };
        let grants = self.options.role_policies.iter().any(|text| {
            Document::parse(text.as_str()).is_ok_and(|document| {
                document.statements().iter().any(|statement| {
                    statement.effect == Effect::Allow
                        && statement.action.as_ref().is_some_and(|list| {
                            !list.negated
                                && list.entries.iter().any(|entry| {
                                    ActionPattern::compile(&entry.value).matches(&assume)
                                })
                        })
                        && statement.resource.as_ref().is_some_and(|list| {
                            !list.negated
                                && list.entries.iter().any(|entry| {
                                    &*entry.value != "*"
                                        && crate::cover::resource(&entry.value, &role)
                                })
                        })
                })
            })
        });
        if grants {
            self.add(
                "SELF_ASSUME_IMPLICIT",
                "$",
                self.document.span(),
                format!("`{role}` is allowed to assume itself and does not trust itself"),
            );
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Aws,
    Web,
    Saml,
}

fn door(entry: &PrincipalEntry) -> Door {
    match entry.kind {
        PrincipalKind::Federated if entry.text.value.contains(":saml-provider/") => Door::Saml,
        PrincipalKind::Federated => Door::Web,
        PrincipalKind::Star
        | PrincipalKind::Aws
        | PrincipalKind::Service
        | PrincipalKind::CanonicalUser => Door::Aws,
    }
}

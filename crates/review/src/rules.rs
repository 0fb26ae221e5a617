//! Everything that a subject may do: the rules of a SelfSubjectRulesReview, with those of access policies, which no API
//! server can list (EKS API spec, section 9.8).

use countersign_rbac::review::{NonResourceRule, ResourceRule, RulesReviewStatus};
use countersign_rbac::{PolicyRule, SUPERUSERS};
use serde::Serialize;

use crate::model::Model;
use crate::principal::{Subject, User};
use crate::rbac;
use crate::report::RuleReport;
use crate::snapshot::{EntryFacts, ScopeKind};

/// The rules of a subject in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The rules with where each comes from, in the order of the API server; those of access policies first.
    pub rows: Vec<RuleRow>,
    /// Who the subject is; absent if a principal becomes no user, and may do nothing then.
    pub user: Option<User>,
    /// Why there may be more.
    pub incomplete: Vec<String>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// A rule and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleRow {
    /// The rule.
    #[serde(flatten)]
    pub rule: RuleReport,
    /// `RoleBinding shop/readers -> ClusterRole pod-reader`, `access policy AmazonEKSViewPolicy (shop)`
    pub from: String,
}

impl Model {
    /// Everything that a subject may do in a namespace, or at the cluster scope if it is empty.
    #[must_use]
    pub fn rules(&self, subject: &Subject, namespace: &str) -> Rules {
        let mut rules = Rules {
            rows: Vec::new(),
            user: None,
            incomplete: self.incomplete_reasons().to_vec(),
            notes: Vec::new(),
        };
        let entry = match subject {
            Subject::User(user) => {
                rules.user = Some(user.clone());
                None
            }
            Subject::Principal(principal) => {
                let principal = self.known(principal.clone());
                let identified = self.identify(&principal);
                rules.incomplete.extend(identified.incomplete);
                rules.notes.extend(identified.mapping.because);
                rules.notes.extend(identified.notes);
                rules.user = identified.user;
                identified.entry
            }
        };
        let Some(user) = &rules.user else {
            return rules;
        };
        if let Some(entry) = entry {
            self.policy_rules(entry, namespace, &mut rules.rows);
        }
        if user.groups.iter().any(|group| group == SUPERUSERS) {
            rules.rows.push(RuleRow {
                rule: everything(),
                from: format!("group {SUPERUSERS}"),
            });
        }
        let asked = countersign_rbac::User::new(&user.name, &user.groups);
        let held = self.index.rules_for(&asked, namespace);
        rules.incomplete.extend(held.errors.iter().cloned());
        let scope = Some(namespace);
        let unread = self
            .index
            .unread(scope)
            .map(|unread| unread.reason.to_string());
        rules.incomplete.extend(unread);
        for chain in &held.chains {
            let role = chain.role();
            rules.rows.push(RuleRow {
                rule: rbac::rule_report(chain),
                from: format!(
                    "{} -> {} {}",
                    rbac::short(chain.binding),
                    role.kind,
                    role.metadata.name
                ),
            });
        }
        if asked.is_node() {
            rules
                .incomplete
                .push("node authorizer does not support user rule resolution".to_owned());
        }
        rules
    }

    fn policy_rules(&self, entry: &EntryFacts, namespace: &str, rows: &mut Vec<RuleRow>) {
        if !entry.entry_type.takes_policies() {
            return;
        }
        for policy in &entry.associated_access_policies {
            let in_namespace = policy.access_scope.kind == ScopeKind::Namespace;
            if in_namespace && !self.policies.covers(policy, namespace) {
                continue;
            }
            let from = format!("access policy {} ({})", policy.name(), policy.access_scope);
            for (index, rule) in self.policies.rules(&policy.policy_arn) {
                // Paths and cluster-scoped things have no namespace, so that no namespace scope reaches them.
                let mut rule = RuleReport {
                    index,
                    ..RuleReport::from(rule)
                };
                if in_namespace {
                    rule.non_resource_urls.clear();
                    if rule.resources.is_empty() {
                        continue;
                    }
                }
                rows.push(RuleRow {
                    rule,
                    from: from.clone(),
                });
            }
        }
    }
}

impl Rules {
    /// As the status of a SelfSubjectRulesReview.
    #[must_use]
    pub fn status(&self) -> RulesReviewStatus {
        let mut status = RulesReviewStatus::default();
        for RuleRow { rule, .. } in &self.rows {
            if !rule.resources.is_empty() {
                status.resource_rules.push(ResourceRule {
                    verbs: rule.verbs.clone(),
                    api_groups: rule.api_groups.clone(),
                    resources: rule.resources.clone(),
                    resource_names: rule.resource_names.clone(),
                });
            }
            if !rule.non_resource_urls.is_empty() {
                status.non_resource_rules.push(NonResourceRule {
                    verbs: rule.verbs.clone(),
                    non_resource_urls: rule.non_resource_urls.clone(),
                });
            }
        }
        for reason in &self.incomplete {
            status.add_error(reason);
        }
        status
    }
}

fn everything() -> RuleReport {
    let all = || vec!["*".to_owned()];
    RuleReport::from(&PolicyRule {
        verbs: all(),
        api_groups: all(),
        resources: all(),
        resource_names: Vec::new(),
        non_resource_urls: all(),
    })
}

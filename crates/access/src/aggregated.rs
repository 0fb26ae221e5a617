//! Rules that ClusterRoles of a cluster add to custom policies (`aggregate` in their files).

use std::sync::{Arc, LazyLock};

use countersign_rbac::{Index, PolicyRule, RoleKind};

use crate::catalogue::AggregateLabel;
use crate::compiled::{Probe, RuleSet};

/// What the ClusterRoles of one cluster add to policies with `aggregate`, by label. Made anew when the cluster's roles
/// change; without it such policies grant their own rules alone.
#[derive(Debug, Clone, Default)]
pub struct AggregatedRules {
    labels: [Labelled; 3],
}

#[derive(Debug, Clone, Default)]
struct Labelled {
    rules: Arc<[AggregatedRule]>,
    compiled: RuleSet,
}

/// A rule that a ClusterRole of the cluster adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregatedRule {
    /// The rule.
    pub rule: Arc<PolicyRule>,
    /// The ClusterRole it was written in.
    pub cluster_role: Arc<str>,
}

/// Equal when every label collects the same rules.
impl PartialEq for AggregatedRules {
    fn eq(&self, other: &Self) -> bool {
        let pairs = self.labels.iter().zip(&other.labels);
        pairs.into_iter().all(|(a, b)| a.rules == b.rules)
    }
}

impl Eq for AggregatedRules {}

impl AggregatedRules {
    /// Collects the rules of every ClusterRole with one of the labels set to `true`, in the order of their names. Roles
    /// that are aggregated themselves count with their rules in force.
    #[must_use]
    pub fn of(index: &Index) -> Self {
        let collect = |label: AggregateLabel| {
            let mut rules: Vec<AggregatedRule> = Vec::new();
            let mut seen = std::collections::HashSet::new();
            for role in index.roles() {
                let labels = &role.metadata.labels;
                let wanted = role.kind == RoleKind::ClusterRole
                    && labels
                        .get(label.label())
                        .is_some_and(|value| value == "true");
                if !wanted {
                    continue;
                }
                let name = &role.metadata.name;
                let effective = index.effective_rules(RoleKind::ClusterRole, "", name);
                for effective in effective.unwrap_or_default() {
                    if seen.insert(effective.rule.clone()) {
                        let origin = effective.origin.as_ref();
                        rules.push(AggregatedRule {
                            rule: effective.rule.clone(),
                            cluster_role: origin
                                .map_or_else(|| name.as_str().into(), |o| o.cluster_role.clone()),
                        });
                    }
                }
            }
            let compiled = RuleSet::new(rules.iter().map(|rule| &*rule.rule).enumerate());
            Labelled {
                rules: rules.into(),
                compiled,
            }
        };
        Self {
            labels: AggregateLabel::ALL.map(collect),
        }
    }

    /// Nothing: what holds for a cluster whose ClusterRoles are not known.
    #[must_use]
    pub fn none() -> &'static Self {
        static NONE: LazyLock<AggregatedRules> = LazyLock::new(AggregatedRules::default);
        &NONE
    }

    /// What a label collects.
    #[must_use]
    pub fn rules(&self, label: AggregateLabel) -> &[AggregatedRule] {
        &self.labelled(label).rules
    }

    pub(crate) fn first(
        &self,
        label: AggregateLabel,
        probe: &Probe<'_>,
    ) -> Option<&AggregatedRule> {
        let labelled = self.labelled(label);
        labelled.rules.get(labelled.compiled.first(probe)?)
    }

    fn labelled(&self, label: AggregateLabel) -> &Labelled {
        let [view, edit, admin] = &self.labels;
        match label {
            AggregateLabel::View => view,
            AggregateLabel::Edit => edit,
            AggregateLabel::Admin => admin,
        }
    }
}

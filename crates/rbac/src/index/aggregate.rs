//! Aggregated ClusterRoles (RBAC spec, section 8).
//!
//! The rules of a ClusterRole with an aggregation rule are always computed, never read: manifests leave them empty, and
//! a live cluster's controller keeps the stored ones equal to what is computed here. All of them are computed from
//! nothing whenever one may have changed, so that an index that followed changes equals one built at once. Starting
//! from nothing also means that roles which only collect each other collect nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{EffectiveRule, Index, Origin, RoleKey};
use crate::object::{AggregationRule, PolicyRule, Role, RoleKind};

/// Aggregated roles hold at most this many rules together. Real clusters stay far below; without a limit, roles that
/// select all others would need memory by the square.
const MAX_RULES: usize = 1_000_000;

/// An aggregated ClusterRole whose stored rules differ from the computed ones: its controller has not run, is not
/// running, or someone wrote rules where they will not stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The aggregated role.
    pub role: Arc<Role>,
    /// Rules that are stored and not computed.
    pub only_stored: Vec<Arc<PolicyRule>>,
    /// Rules that are computed and not stored.
    pub only_computed: Vec<EffectiveRule>,
}

impl Index {
    /// Aggregated ClusterRoles whose stored rules differ from the computed ones. Meaningful for live objects; manifests
    /// rightly leave the rules empty.
    pub fn aggregation_drift(&self) -> Vec<Drift> {
        let mut drifts = Vec::new();
        for number in self.aggregated.values() {
            let Some(compiled) = self.compiled(*number) else {
                continue;
            };
            let computed: HashSet<&PolicyRule> =
                compiled.detail.effective.iter().map(|e| &*e.rule).collect();
            let stored: HashSet<&PolicyRule> =
                compiled.detail.role.rules.iter().map(|r| &**r).collect();
            let only_stored = compiled.detail.role.rules.iter();
            let only_stored: Vec<_> = only_stored
                .filter(|rule| !computed.contains(&***rule))
                .cloned()
                .collect();
            let only_computed = compiled.detail.effective.iter();
            let only_computed: Vec<_> = only_computed
                .filter(|effective| !stored.contains(&*effective.rule))
                .cloned()
                .collect();
            if !(only_stored.is_empty() && only_computed.is_empty()) {
                drifts.push(Drift {
                    role: compiled.detail.role.clone(),
                    only_stored,
                    only_computed,
                });
            }
        }
        drifts
    }

    /// Whether a role takes part in aggregation, on either side.
    pub(super) fn feeds_aggregation(&self, role: &Role) -> bool {
        if role.kind != RoleKind::ClusterRole {
            return false;
        }
        let collectors = self.aggregated.values();
        role.aggregation.is_some()
            || collectors
                .filter_map(|number| self.slot(*number)?.role.as_ref()?.aggregation.as_ref())
                .any(|rule| selects(rule, role))
    }

    /// Computes all aggregated roles.
    pub(super) fn aggregate(&mut self) {
        let collectors: Vec<Collector> = self
            .aggregated
            .values()
            .filter_map(|number| self.collector(*number))
            .collect();
        if collectors.is_empty() {
            return;
        }
        let mut computed: Vec<Vec<EffectiveRule>> = vec![Vec::new(); collectors.len()];
        let numbers = collectors.iter().map(|collector| collector.number);
        let places: HashMap<u32, usize> = numbers.zip(0..).collect();
        let mut overflow = false;
        // Each pass hands rules one step further along a chain of aggregated roles. Their sets only grow, so that as
        // many passes as there are roles reach the fixed point; the last one finds nothing to do.
        for _ in 0..=collectors.len() {
            let mut changed = false;
            let mut budget = MAX_RULES;
            for (at, collector) in collectors.iter().enumerate() {
                let mut seen: HashSet<&PolicyRule> = HashSet::new();
                let mut rules = Vec::new();
                for member in &collector.members {
                    let collected = match places.get(member) {
                        Some(other) => computed.get(*other).map_or(&[][..], Vec::as_slice),
                        None => self
                            .compiled(*member)
                            .map_or(&[][..], |c| &c.detail.effective),
                    };
                    for (rule_index, effective) in collected.iter().enumerate() {
                        if budget == 0 {
                            overflow = true;
                            break;
                        }
                        if seen.insert(&effective.rule) {
                            budget -= 1;
                            rules.push(self.collected(*member, rule_index, effective));
                        }
                    }
                }
                if let Some(before) = computed.get_mut(at)
                    && *before != rules
                {
                    *before = rules;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        self.aggregation_overflow = overflow;
        for (collector, rules) in collectors.into_iter().zip(computed) {
            let unchanged = self
                .compiled(collector.number)
                .is_some_and(|compiled| *compiled.detail.effective == *rules);
            if !unchanged {
                self.compile(collector.number, collector.role, rules.into());
            }
        }
    }

    fn collected(
        &self,
        member: u32,
        rule_index: usize,
        effective: &EffectiveRule,
    ) -> EffectiveRule {
        let name = match self.role_key(member) {
            Some(RoleKey::ClusterRole(name)) => name.clone(),
            _ => Arc::default(),
        };
        let origin = effective.origin.clone().unwrap_or(Origin {
            cluster_role: name,
            rule_index,
        });
        EffectiveRule {
            rule: effective.rule.clone(),
            origin: Some(origin),
        }
    }

    fn collector(&self, number: u32) -> Option<Collector> {
        let role = self.slot(number)?.role.clone()?;
        let rule = role.aggregation.clone()?;
        let mut members = Vec::new();
        let mut seen = HashSet::new();
        let others = self.slots.iter().flatten();
        let others = others.filter_map(|slot| slot.role.as_ref());
        let mut others: Vec<&Arc<Role>> = others
            .filter(|other| other.kind == RoleKind::ClusterRole && !Arc::ptr_eq(other, &role))
            .collect();
        others.sort_by_key(|other| &other.metadata.name);
        for selector in &rule.cluster_role_selectors {
            for other in &others {
                if selector.matches(&other.metadata.labels) == Some(true) {
                    let key = RoleKey::new(RoleKind::ClusterRole, "", &other.metadata.name);
                    let number = self.number_of(&key).filter(|other| seen.insert(*other));
                    members.extend(number);
                }
            }
        }
        Some(Collector {
            number,
            role,
            members,
        })
    }
}

struct Collector {
    number: u32,
    role: Arc<Role>,
    members: Vec<u32>,
}

fn selects(rule: &AggregationRule, role: &Role) -> bool {
    let mut selectors = rule.cluster_role_selectors.iter();
    selectors.any(|selector| selector.matches(&role.metadata.labels) == Some(true))
}

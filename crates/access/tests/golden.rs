//! What each policy grants, as text that a reviewer reads: a difference in it is a change of rights.
//!
//! `COUNTERSIGN_BLESS=1` writes the file anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write;

use countersign_access::{AccessScope, Catalogue, CompiledPolicies, DerivedRules};
use countersign_rbac::{Action, PolicyRule, ResourceAction};
use support::view;

/// Column heads and verbs.
const VERBS: [(char, &str); 14] = [
    ('g', "get"),
    ('l', "list"),
    ('w', "watch"),
    ('c', "create"),
    ('u', "update"),
    ('p', "patch"),
    ('d', "delete"),
    ('D', "deletecollection"),
    ('i', "impersonate"),
    ('b', "bind"),
    ('e', "escalate"),
    ('a', "approve"),
    ('s', "sign"),
    ('*', "*"),
];

/// Resources that every policy is asked for, beside those that any policy names.
const ALWAYS: [(&str, &str); 6] = [
    ("", "nodes"),
    ("", "nodes/proxy"),
    ("", "pods/eviction"),
    ("", "serviceaccounts/token"),
    ("example.com", "widgets"),
    ("metrics.k8s.io", "pods"),
];

#[test]
fn the_matrix_of_policies_verbs_and_resources() {
    let text = matrix();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/matrix.txt");
    if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    let differing = text
        .lines()
        .zip(golden.lines())
        .find(|(now, before)| now != before);
    assert_eq!(differing, None);
    assert!(text == golden, "run again with COUNTERSIGN_BLESS=1");
}

fn matrix() -> String {
    let compiled = [DerivedRules::Off, DerivedRules::On]
        .map(|derived| CompiledPolicies::new(Catalogue::new([], derived).unwrap()));
    let mut text = String::from(
        "# What each access policy grants at scope cluster, by asking the authorizer.\n\
         # Letters are verbs: get list watch create update patch delete Deletecollection impersonate bind escalate approve\n\
         # sign; * is the verb `*` itself. A resource without a line is not granted at all. ANY is a resource or\n\
         # subresource of any name, a word behind a resource the name of an object, and `*` what a review of `*` asks.\n\
         # Policies that AWS describes in prose are shown with derived rules switched on.\n",
    );
    for policy in Catalogue::builtin().policies() {
        let derived = !policy.derived_rules.is_empty();
        let compiled = &compiled[usize::from(derived)];
        let reserved = if policy.service_linked_roles_only {
            ", for service-linked roles only"
        } else {
            ""
        };
        writeln!(text, "\n{} ({}{reserved})", policy.name, policy.status).unwrap();
        let arn = format!("arn:aws:eks::aws:cluster-access-policy/{}", policy.name);
        let associations = [(arn, AccessScope::Cluster)];
        let rules: Vec<&PolicyRule> = policy
            .rules_in_force(DerivedRules::On)
            .map(|(_, rule)| &*rule.rule)
            .collect();
        for (group, resource, name) in targets(&rules) {
            let (plain, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
            let letters = letters(|verb| {
                let action = Action::Resource(ResourceAction {
                    verb,
                    group: &group,
                    resource: plain,
                    subresource,
                    name: &name,
                    ..ResourceAction::default()
                });
                compiled
                    .authorize(&view(&associations), &action)
                    .is_allowed()
            });
            let target = match (&*group, &*name) {
                ("", "") => resource.clone(),
                ("", name) => format!("{resource} {name}"),
                (group, "") => format!("{resource}.{group}"),
                (group, name) => format!("{resource}.{group} {name}"),
            };
            if !letters.is_empty() {
                writeln!(text, "  {letters}  {target}").unwrap();
            }
        }
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps/v1",
            "/healthz",
            "/metrics",
        ] {
            let letters = letters(|verb| {
                let action = Action::NonResource { verb, path };
                compiled
                    .authorize(&view(&associations), &action)
                    .is_allowed()
            });
            if !letters.is_empty() {
                writeln!(text, "  {letters}  {path}").unwrap();
            }
        }
    }
    text
}

/// Group, resource and name: what the rules name, a made-up resource for each `*`, and what everyone is asked for.
fn targets(rules: &[&PolicyRule]) -> BTreeSet<(String, String, String)> {
    let mut targets = BTreeSet::new();
    for (group, resource) in ALWAYS {
        targets.insert((group.to_owned(), resource.to_owned(), String::new()));
    }
    for rule in rules {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let names = rule.resource_names.iter().cloned();
                for name in names.chain([String::new()]) {
                    // `*` itself is asked for only where a review of `*` could be meant to match.
                    if group == "*" || !resource.contains('*') {
                        targets.insert((group.clone(), resource.clone(), name.clone()));
                    }
                    let made_up = resource.replace('*', "ANY");
                    targets.insert((group.clone(), made_up, name));
                }
            }
        }
    }
    targets
}

fn letters(allowed: impl Fn(&str) -> bool) -> String {
    let row: String = VERBS
        .iter()
        .map(|(letter, verb)| if allowed(verb) { *letter } else { '-' })
        .collect();
    if row.contains(|c| c != '-') {
        row
    } else {
        String::new()
    }
}

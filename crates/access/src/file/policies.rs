//! Custom policies of a file.

use std::collections::HashSet;
use std::sync::Arc;

use countersign_rbac::{Metadata, Object, PolicyRule, Role, RoleKind, validate};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Errors, is_policy_name, line_of, origin_of, shown};
use crate::catalogue::{
    AccessPolicy, AggregateLabel, Catalogue, CatalogueRule, Owner, RuleNames, RulesStatus,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Raw {
    name: Spanned<String>,
    #[serde(default)]
    description: String,
    version: Option<Spanned<u32>>,
    #[serde(default)]
    rules: Vec<Spanned<RawRule>>,
    aggregate: Option<Spanned<RawAggregate>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct RawRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawAggregate {
    All(bool),
    Labels(Vec<String>),
}

/// Longest description, in bytes.
const MAX_DESCRIPTION: usize = 1_024;

pub(super) fn check(
    raw: &[Spanned<Raw>],
    owner: Owner,
    errors: &mut Errors<'_>,
) -> Vec<AccessPolicy> {
    let mut names = HashSet::new();
    let mut policies = Vec::new();
    for (at, policy) in raw.iter().enumerate() {
        let field = format!("policies[{at}]");
        let name = &policy.value.name;
        if !is_policy_name(&name.value) {
            errors.of(
                name,
                format!("{field}.name"),
                format!(
                    "`{}` is not 1 to 128 letters, digits and `_+=,.@-` that begin with a letter or digit",
                    shown(&name.value)
                ),
            );
        } else if Catalogue::builtin().named(&name.value).is_some() {
            let message = format!("`{}` is the name of a policy of AWS", name.value);
            errors.of(name, format!("{field}.name"), message);
        } else if !names.insert(&*name.value) {
            let message = format!("`{}` is there twice", name.value);
            errors.of(name, format!("{field}.name"), message);
        }
        policies.push(one(policy, owner, &field, errors));
    }
    policies
}

fn one(policy: &Spanned<Raw>, owner: Owner, field: &str, errors: &mut Errors<'_>) -> AccessPolicy {
    let raw = &policy.value;
    if raw.description.len() > MAX_DESCRIPTION {
        let message = format!("longer than {MAX_DESCRIPTION} bytes");
        errors.of(policy, format!("{field}.description"), message);
    }
    let version = raw.version.as_ref().map_or(1, |version| version.value);
    if let Some(written) = &raw.version
        && version == 0
    {
        errors.of(written, format!("{field}.version"), "versions begin at 1");
    }
    let aggregate = aggregate(raw.aggregate.as_ref(), field, errors);
    let aggregates = raw.aggregate.as_ref().is_some_and(|raw| match &raw.value {
        RawAggregate::All(all) => *all,
        RawAggregate::Labels(words) => !words.is_empty(),
    });
    if raw.rules.is_empty() && !aggregates {
        errors.of(
            policy,
            format!("{field}.rules"),
            "a policy needs `rules` or `aggregate`",
        );
    }
    let rules = raw
        .rules
        .iter()
        .enumerate()
        .map(|(at, rule)| check_rule(rule, &format!("{field}.rules[{at}]"), errors))
        .collect();
    AccessPolicy {
        name: raw.name.value.as_str().into(),
        owner,
        description: raw.description.as_str().into(),
        version,
        status: RulesStatus::Custom,
        service_linked_roles_only: false,
        typical_scope: None,
        introduced: None,
        notes: Box::default(),
        rules,
        derived_rules: Box::default(),
        aggregate,
        origin: Some(origin_of(errors.file, policy)),
    }
}

fn aggregate(
    raw: Option<&Spanned<RawAggregate>>,
    field: &str,
    errors: &mut Errors<'_>,
) -> Box<[AggregateLabel]> {
    let Some(raw) = raw else {
        return Box::default();
    };
    match &raw.value {
        RawAggregate::All(true) => AggregateLabel::ALL.into(),
        RawAggregate::All(false) => Box::default(),
        RawAggregate::Labels(words) => {
            let mut labels = Vec::new();
            for word in words {
                let found = AggregateLabel::ALL
                    .into_iter()
                    .find(|label| label.as_str() == word);
                match found {
                    Some(label) if !labels.contains(&label) => labels.push(label),
                    Some(_) => {}
                    None => errors.of(
                        raw,
                        format!("{field}.aggregate"),
                        format!("`{}` is not one of view, edit, admin", shown(word)),
                    ),
                }
            }
            labels.into()
        }
    }
}

fn check_rule(rule: &Spanned<RawRule>, field: &str, errors: &mut Errors<'_>) -> CatalogueRule {
    let raw = &rule.value;
    let policy_rule = PolicyRule {
        verbs: raw.verbs.clone(),
        api_groups: raw.api_groups.clone(),
        resources: raw.resources.clone(),
        resource_names: raw.resource_names.clone(),
        non_resource_urls: raw.non_resource_urls.clone(),
    };
    let policy_rule = Arc::new(policy_rule);
    // The rules are those of a ClusterRole, and may become one.
    let role = Object::Role(Role {
        kind: RoleKind::ClusterRole,
        metadata: Metadata {
            name: "custom".into(),
            ..Metadata::default()
        },
        rules: vec![policy_rule.clone()],
        aggregation: None,
        origin: None,
    });
    for violation in validate(&role) {
        let part = violation
            .field
            .rsplit_once('.')
            .map_or("", |(_, part)| part);
        errors.of(rule, format!("{field}.{part}"), violation.message);
    }
    never_matching(rule, field, errors);
    CatalogueRule {
        rule: policy_rule,
        names: RuleNames::Published,
        restriction: None,
        line: line_of(rule),
    }
}

/// What Kubernetes would store and never match: in a policy it is a mistake.
fn never_matching(rule: &Spanned<RawRule>, field: &str, errors: &mut Errors<'_>) {
    let raw = &rule.value;
    for resource in &raw.resources {
        if resource.ends_with("/*") {
            errors.of(
                rule,
                format!("{field}.resources"),
                format!(
                    "`{}` is no wildcard and matches nothing; `*` is everything, `*/NAME` one subresource of everything",
                    shown(resource)
                ),
            );
        } else if resource.is_empty() || *resource != resource.to_ascii_lowercase() {
            errors.of(
                rule,
                format!("{field}.resources"),
                format!(
                    "`{}` matches nothing; resources are lower-case plurals",
                    shown(resource)
                ),
            );
        }
    }
    for group in &raw.api_groups {
        if group == "core" || group == "v1" || group.contains('/') {
            errors.of(
                rule,
                format!("{field}.apiGroups"),
                format!(
                    "`{}` matches nothing; a group has no version, and the core group is \"\"",
                    shown(group)
                ),
            );
        }
    }
    for path in &raw.non_resource_urls {
        if path != "*" && !path.starts_with('/') {
            errors.of(
                rule,
                format!("{field}.nonResourceURLs"),
                format!("`{}` matches nothing; paths begin with `/`", shown(path)),
            );
        }
    }
}

//! Associations as objects of a cluster: what a `PodIdentityAssociation` says, which of several counts, and what an operator allows
//! (agent spec, section 9).
//!
//! The namespace of an object is the namespace of its association. Whoever may make objects in a namespace may make pods there as a
//! rule, and gives roles to the service accounts of that namespace and of no other.
//!
//! An object is written by somebody whom the API server knows and IAM does not, so that there is nobody to ask `iam:PassRole` of.
//! An [`AllowList`] of the operator stands in its place; without it no object gives anything.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::glob;
use crate::text;

/// The API group of the objects.
pub const ASSOCIATION_GROUP: &str = "eks.countersign.dev";
/// Its version. Alpha: the extensions of associations are not settled.
pub const ASSOCIATION_VERSION: &str = "v1alpha1";
/// The kind.
pub const ASSOCIATION_KIND: &str = "PodIdentityAssociation";
/// Its plural.
pub const ASSOCIATION_PLURAL: &str = "podidentityassociations";
/// Label of objects that show an association of the EKS API; its value is `true`.
pub const MIRROR_LABEL: &str = "eks.countersign.dev/mirror";

/// Longest `spec` that is read, bytes of its JSON: a session policy, and fifty tags of the longest kind.
const MAX_SPEC_BYTES: usize = 64 << 10;
/// Patterns of one list.
const MAX_PATTERNS: usize = 1_000;
/// In a pattern of roles: the namespace of the object.
const NAMESPACE: &str = "${namespace}";

/// The `spec` of an object: the members of the EKS API's association, by their names there.
///
/// A member that is not known here is refused and not passed over: it may be one that limits what pods get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssociationSpec {
    /// The service account, in the namespace of the object.
    pub service_account: Box<str>,
    /// ARN of the role.
    pub role_arn: Box<str>,
    /// ARN of the role that is assumed with the credentials of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_role_arn: Option<Box<str>>,
    /// Whether sessions go without the six tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_session_tags: Option<bool>,
    /// Session policy, JSON as a text; only with session tags disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Box<str>>,
    /// How sessions are called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name_template: Option<Box<str>>,
    /// Which of the six tags sessions have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_tags: Option<Vec<Box<str>>>,
    /// Tags of sessions beside the six.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_session_tags: BTreeMap<Box<str>, Box<str>>,
    /// How long sessions last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u32>,
    /// Tags of the association, not of sessions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<Box<str>, Box<str>>,
}

impl AssociationSpec {
    /// Reads the `spec` of an object.
    ///
    /// # Errors
    /// What is the matter with it, in words that hold no more than an excerpt of it.
    pub fn parse(spec: &Value) -> Result<Self, String> {
        // What the API server took is bounded by etcd alone.
        let size = serde_json::to_vec(spec).map_or(usize::MAX, |text| text.len());
        if size > MAX_SPEC_BYTES {
            return Err(format!(
                "the spec has {size} bytes, at most {MAX_SPEC_BYTES} are read"
            ));
        }
        let parsed = Self::deserialize(spec).map_err(|error| {
            let error = error.to_string();
            format!("the spec cannot be read: {}", text::excerpt(&error, 200))
        })?;
        for (name, value) in [
            ("serviceAccount", Some(&parsed.service_account)),
            ("roleArn", Some(&parsed.role_arn)),
            ("targetRoleArn", parsed.target_role_arn.as_ref()),
            ("policy", parsed.policy.as_ref()),
            ("sessionNameTemplate", parsed.session_name_template.as_ref()),
        ] {
            if value.is_some_and(|value| value.is_empty()) {
                return Err(format!("`spec.{name}` is empty"));
            }
        }
        Ok(parsed)
    }
}

/// An object that asks for an association, as far as it matters which one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The service account that it names.
    pub service_account: &'a str,
    /// When it was made, seconds since the epoch.
    pub created: i64,
}

/// For each contender the one that counts in its place, `None` for those that count: of several for one service account the oldest,
/// of equally old ones the first by name, whatever the order they come in.
#[must_use]
pub fn older_wins<'a>(contenders: &[Contender<'a>]) -> Vec<Option<Contender<'a>>> {
    let mut winners: HashMap<(&str, &str), Contender<'a>> = HashMap::new();
    for contender in contenders {
        let winner = winners
            .entry((contender.namespace, contender.service_account))
            .or_insert(*contender);
        if (contender.created, contender.name) < (winner.created, winner.name) {
            *winner = *contender;
        }
    }
    contenders
        .iter()
        .map(|contender| {
            winners
                .get(&(contender.namespace, contender.service_account))
                .filter(|winner| winner.name != contender.name)
                .copied()
        })
        .collect()
}

/// Which roles objects may give, by namespace. An empty list allows nothing.
///
/// Extra session tags are on the list too: policies tell pods apart by them, so that who sets them chooses what the pod may do.
///
/// In patterns `*` stands for any run of characters, also none and also `/`; in those of roles `${namespace}` for the namespace of the
/// object. Everything else means itself, with case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    rules: Vec<AllowRule>,
}

/// One rule: in these namespaces these roles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowRule {
    /// Patterns of namespaces.
    pub namespaces: Vec<String>,
    /// Patterns of `roleArn`.
    pub roles: Vec<String>,
    /// Patterns of `targetRoleArn`.
    pub target_roles: Vec<String>,
    /// Patterns of keys of `extraSessionTags`, in lower case: IAM does not tell letter case of keys apart.
    pub extra_tags: Vec<String>,
}

/// A list that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllowListError {
    /// A rule that allows nothing.
    #[error("rule {0} names no namespace or no role: give `namespaces` and `roles`, `*` for any")]
    Empty(usize),
    /// It is neither an ARN of a role nor a pattern of one.
    #[error(
        "`{0}` is no role ARN and no pattern of one, such as arn:aws:iam::111122223333:role/pods/*"
    )]
    NoRole(String),
    /// More than this program holds.
    #[error("more than {MAX_PATTERNS} patterns")]
    TooMany,
}

/// Why an object may not give a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAllowed {
    /// The role itself.
    Role,
    /// The target role.
    TargetRole,
    /// One of the extra session tags.
    ExtraTag,
}

impl AllowList {
    /// A list of these rules.
    ///
    /// # Errors
    /// When a rule allows nothing, or a pattern can be that of no role.
    pub fn new(rules: Vec<AllowRule>) -> Result<Self, AllowListError> {
        let mut patterns: usize = 0;
        for (at, rule) in rules.iter().enumerate() {
            if rule.namespaces.is_empty() || rule.roles.is_empty() {
                return Err(AllowListError::Empty(at + 1));
            }
            for role in rule.roles.iter().chain(&rule.target_roles) {
                let is_role = role == "*" || (role.starts_with("arn:") && role.contains(":role/"));
                if !is_role {
                    return Err(AllowListError::NoRole(text::excerpt(role, 200)));
                }
            }
            patterns += rule.namespaces.len()
                + rule.roles.len()
                + rule.target_roles.len()
                + rule.extra_tags.len();
        }
        if patterns > MAX_PATTERNS {
            return Err(AllowListError::TooMany);
        }
        Ok(Self { rules })
    }

    /// Whether it allows nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Decides whether an object of this namespace may ask for this. One rule must allow all of it.
    ///
    /// # Errors
    /// What no rule allows.
    pub fn check(&self, namespace: &str, spec: &AssociationSpec) -> Result<(), NotAllowed> {
        let is_any = |patterns: &[String], arn: &str| {
            patterns
                .iter()
                .any(|pattern| glob(&pattern.replace(NAMESPACE, namespace), arn))
        };
        let mut refused = NotAllowed::Role;
        // No namespace has it, and in a pattern it would mean something.
        if namespace.contains('*') {
            return Err(refused);
        }
        for rule in &self.rules {
            let is_here = rule
                .namespaces
                .iter()
                .any(|pattern| glob(pattern, namespace));
            if !is_here || !is_any(&rule.roles, &spec.role_arn) {
                continue;
            }
            let target = spec.target_role_arn.as_deref();
            if !target.is_none_or(|target| is_any(&rule.target_roles, target)) {
                refused = NotAllowed::TargetRole;
                continue;
            }
            let mut keys = spec.extra_session_tags.keys();
            if keys.all(|key| is_any(&rule.extra_tags, &key.to_ascii_lowercase())) {
                return Ok(());
            }
            refused = NotAllowed::ExtraTag;
        }
        Err(refused)
    }
}

/// What makes `current` into `wanted` as a JSON merge patch: members that are too many are named with `null`. Nothing when they are
/// equal.
#[must_use]
pub fn merge_patch(current: &Value, wanted: &Value) -> Option<Value> {
    if current == wanted {
        return None;
    }
    let (Value::Object(before), Value::Object(after)) = (current, wanted) else {
        return Some(wanted.clone());
    };
    let gone = before
        .keys()
        .filter(|key| !after.contains_key(*key))
        .map(|key| (key.clone(), Value::Null));
    let changed = after.iter().filter_map(|(key, value)| {
        let before = before.get(key).unwrap_or(&Value::Null);
        merge_patch(before, value).map(|patch| (key.clone(), patch))
    });
    Some(Value::Object(gone.chain(changed).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/pods/shop/cart";

    #[test]
    fn specs_are_read_whole_or_refused() {
        let full = json!({
            "serviceAccount": "cart", "roleArn": ROLE, "targetRoleArn": "arn:aws:iam::444455556666:role/t",
            "disableSessionTags": true, "policy": "{}", "sessionNameTemplate": "{pod}", "sessionTags": ["kubernetes-namespace"],
            "extraSessionTags": {"team": "{label:team}"}, "durationSeconds": 900, "tags": {"team": "shop"},
        });
        let parsed = AssociationSpec::parse(&full).unwrap();
        assert_eq!(serde_json::to_value(&parsed).unwrap(), full);
        let least = json!({"serviceAccount": "cart", "roleArn": ROLE});
        let parsed = AssociationSpec::parse(&least).unwrap();
        assert_eq!(serde_json::to_value(&parsed).unwrap(), least);
        for (spec, told) in [
            (json!(null), "cannot be read"),
            (json!({"roleArn": ROLE}), "missing field `serviceAccount`"),
            (
                json!({"serviceAccount": "", "roleArn": ROLE}),
                "`spec.serviceAccount` is empty",
            ),
            (
                json!({"serviceAccount": "a", "roleArn": ROLE, "policy": ""}),
                "`spec.policy` is empty",
            ),
            (
                json!({"serviceAccount": "a", "roleArn": ROLE, "namespace": "kube-system"}),
                "unknown field `namespace`",
            ),
            (
                json!({"serviceAccount": "a", "roleArn": ROLE, "tags": {"a": 1}}),
                "invalid type",
            ),
            (
                json!({"serviceAccount": "a", "roleArn": "x".repeat(70_000)}),
                "at most 65536 are read",
            ),
        ] {
            let error = AssociationSpec::parse(&spec).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn the_oldest_object_counts_whatever_the_order() {
        let one = |namespace, name, service_account, created| Contender {
            namespace,
            name,
            service_account,
            created,
        };
        let objects = [
            one("a", "young", "x", 9),
            one("a", "old", "x", 3),
            one("a", "as-old", "x", 3),
            one("a", "alone", "y", 9),
            one("b", "young", "x", 9),
        ];
        let lost = |objects: &[Contender<'_>]| -> Vec<(String, String)> {
            let losers = older_wins(objects);
            let mut lost: Vec<_> = objects
                .iter()
                .zip(losers)
                .filter_map(|(object, winner)| Some((object.name.into(), winner?.name.into())))
                .collect();
            lost.sort();
            lost
        };
        let expected = [("old", "as-old"), ("young", "as-old")]
            .map(|(loser, winner)| (loser.to_owned(), winner.to_owned()));
        assert_eq!(lost(&objects), expected);
        let mut backwards = objects;
        backwards.reverse();
        assert_eq!(lost(&backwards), expected);
        assert!(lost(&[]).is_empty());
    }

    #[test]
    fn only_what_an_operator_listed_is_allowed() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let rule = |namespaces: &[&str], roles: &[&str], targets: &[&str]| AllowRule {
            namespaces: texts(namespaces),
            roles: texts(roles),
            target_roles: texts(targets),
            extra_tags: texts(&["team"]),
        };
        let target = "arn:aws:iam::444455556666:role/shared";
        let own = "arn:aws:iam::111122223333:role/pods/${namespace}/*";
        let exact = rule(&["shop"], &[ROLE], &[]);
        let scoped = rule(&["*"], &[own], &[]);
        let any = rule(&["shop"], &["*"], &[target]);
        let role = Err(NotAllowed::Role);
        let no_target = Err(NotAllowed::TargetRole);
        let admin = "arn:aws:iam::111122223333:role/admin";
        for (rules, namespace, arn, to, expected) in [
            (vec![], "shop", ROLE, None, role),
            (vec![exact.clone()], "shop", ROLE, None, Ok(())),
            (vec![exact.clone()], "Shop", ROLE, None, role),
            (vec![exact.clone()], "shop2", ROLE, None, role),
            (vec![exact.clone()], "shop", admin, None, role),
            (vec![exact.clone()], "shop", ROLE, Some(target), no_target),
            (vec![scoped.clone()], "shop", ROLE, None, Ok(())),
            (vec![scoped.clone()], "other", ROLE, None, role),
            (vec![scoped], "*", ROLE, None, role),
            (vec![any.clone()], "shop", admin, Some(target), Ok(())),
            // One rule has to allow both.
            (
                vec![any, exact.clone()],
                "shop",
                ROLE,
                Some("arn:aws:iam::1:role/x"),
                no_target,
            ),
        ] {
            let list = AllowList::new(rules.clone()).unwrap();
            let mut spec = AssociationSpec {
                role_arn: arn.into(),
                target_role_arn: to.map(Into::into),
                ..AssociationSpec::default()
            };
            let told = format!("{namespace} {arn} {to:?} by {rules:?}");
            assert_eq!(list.check(namespace, &spec), expected, "{told}");
            for (key, allowed) in [("Team", true), ("team2", false)] {
                spec.extra_session_tags = [(key.into(), "x".into())].into();
                let expected = match (expected, allowed) {
                    (Ok(()), false) => Err(NotAllowed::ExtraTag),
                    (expected, _) => expected,
                };
                assert_eq!(list.check(namespace, &spec), expected, "{key}: {told}");
            }
        }
        for (rules, told) in [
            (vec![exact.clone(), rule(&[], &[ROLE], &[])], "rule 2"),
            (vec![rule(&["shop"], &[], &[])], "rule 1"),
            (vec![rule(&["shop"], &["admin"], &[])], "`admin`"),
            (
                vec![rule(&["shop"], &[ROLE], &["arn:aws:iam::1:user/x"])],
                "user/x",
            ),
            (vec![exact; 501], "more than 1000"),
        ] {
            let error = AllowList::new(rules).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_patch_names_what_is_too_much() {
        for (current, wanted, expected) in [
            (json!({"a": 1}), json!({"a": 1}), None),
            (
                json!({"a": 1, "b": {"c": 1, "d": 2}, "e": []}),
                json!({"a": 2, "b": {"d": 2}, "f": "x"}),
                Some(json!({"a": 2, "b": {"c": null}, "e": null, "f": "x"})),
            ),
            (json!(null), json!({"a": 1}), Some(json!({"a": 1}))),
        ] {
            assert_eq!(merge_patch(&current, &wanted), expected);
        }
    }
}

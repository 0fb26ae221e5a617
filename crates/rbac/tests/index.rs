//! The index against the literal evaluator, whatever the objects, their order and their changes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_rbac::{
    Action, AggregationRule, Binding, BindingKind, Catalog, Change, Decision, Groups, Index,
    LabelSelector, Metadata, Object, ObjectKey, PolicyRule, Refused, Request, ResourceAction, Role,
    RoleKind, RoleRef, Subject, Unread, User, Where,
};
use proptest::prelude::*;
use proptest::sample::{Index as Pick, select};
use support::{Answer, Naive};

const NAMESPACES: [&str; 3] = ["shop", "pay", "kube-system"];
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn words(words: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(select(words).prop_map(str::to_owned), 0..=most)
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    (
        words(
            &[
                "get",
                "list",
                "create",
                "*",
                "impersonate",
                "frobnicate",
                "",
            ],
            3,
        ),
        words(&["", "apps", "*", "example.com"], 2),
        words(
            &[
                "pods",
                "pods/log",
                "*/log",
                "*",
                "pods/*",
                "deployments",
                "*/*",
                "",
            ],
            3,
        ),
        words(&["", "x", "*"], 1),
        words(&["/metrics", "/api/*", "*", "/api*"], 1),
    )
        .prop_map(
            |(verbs, api_groups, resources, resource_names, non_resource_urls)| PolicyRule {
                verbs,
                api_groups,
                resources,
                resource_names,
                non_resource_urls,
            },
        )
}

fn subject() -> impl Strategy<Value = Subject> {
    let kind = select(&["User", "Group", "ServiceAccount", "user", ""][..]);
    let name = select(
        &[
            "dana",
            "devs",
            "ci",
            "*",
            "system:serviceaccount:shop:ci",
            "system:masters",
        ][..],
    );
    let namespace = select(&["", "shop", "pay"][..]);
    (kind, name, namespace).prop_map(|(kind, name, namespace)| Subject {
        kind: kind.into(),
        api_group: String::new(),
        name: name.into(),
        namespace: namespace.into(),
    })
}

fn metadata(name: &str, namespace: &str) -> Metadata {
    Metadata {
        name: name.into(),
        namespace: namespace.into(),
        ..Metadata::default()
    }
}

fn role() -> impl Strategy<Value = Object> {
    let labels =
        prop::collection::btree_map(select(&["x", "y"][..]), select(&["1", "2"][..]), 0..2);
    let collects = prop::option::weighted(0.2, (select(&["x", "y"][..]), select(&["1", "2"][..])));
    let rules = prop::collection::vec(rule(), 0..4);
    (
        any::<bool>(),
        select(&NAMES[..]),
        select(&NAMESPACES[..]),
        rules,
        labels,
        collects,
    )
        .prop_map(|(cluster, name, namespace, rules, labels, collects)| {
            let labels: BTreeMap<String, String> = labels
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect();
            // The literal evaluator walks down aggregation; a role that collects is not collected, so that it ends.
            let aggregation =
                collects
                    .filter(|_| cluster && labels.is_empty())
                    .map(|(key, value)| AggregationRule {
                        cluster_role_selectors: vec![LabelSelector {
                            match_labels: BTreeMap::from([(key.to_owned(), value.to_owned())]),
                            match_expressions: Vec::new(),
                        }],
                    });
            Object::Role(Role {
                kind: if cluster {
                    RoleKind::ClusterRole
                } else {
                    RoleKind::Role
                },
                metadata: Metadata {
                    labels,
                    ..metadata(name, if cluster { "" } else { namespace })
                },
                rules: rules.into_iter().map(Arc::new).collect(),
                aggregation,
                origin: None,
            })
        })
}

fn binding() -> impl Strategy<Value = Object> {
    let kind = select(&["Role", "ClusterRole", "ClusterRole", "Oops"][..]);
    let subjects = prop::collection::vec(subject(), 0..4);
    (
        any::<bool>(),
        select(&NAMES[..]),
        select(&NAMESPACES[..]),
        kind,
        select(&NAMES[..]),
        subjects,
    )
        .prop_map(|(cluster, name, namespace, kind, role, subjects)| {
            Object::Binding(Binding {
                kind: if cluster {
                    BindingKind::ClusterRoleBinding
                } else {
                    BindingKind::RoleBinding
                },
                metadata: metadata(name, if cluster { "" } else { namespace }),
                role_ref: RoleRef {
                    kind: kind.into(),
                    name: role.into(),
                    ..RoleRef::default()
                },
                subjects,
                origin: None,
            })
        })
}

fn objects(most: usize) -> impl Strategy<Value = Vec<Object>> {
    prop::collection::vec(prop_oneof![role(), binding()], 0..most)
}

/// Every question the words above can make interesting.
fn questions() -> Vec<(&'static str, Vec<&'static str>, Action<'static>)> {
    let users: [(&str, &[&str]); 4] = [
        ("dana", &["devs", "system:authenticated"]),
        ("devs", &[]),
        (
            "system:serviceaccount:shop:ci",
            &["system:serviceaccounts", "*"],
        ),
        ("root", &["devs", "system:masters", "devs"]),
    ];
    let mut questions = Vec::new();
    for (user, groups) in users {
        for verb in ["get", "create", "frobnicate", "impersonate", "*"] {
            for (group, resource, subresource) in [
                ("", "pods", ""),
                ("", "pods", "log"),
                ("apps", "deployments", "log"),
                ("example.com", "*", ""),
                ("nowhere", "pods", "*"),
                ("", "pods/log", ""),
            ] {
                for (namespace, name) in [("shop", "x"), ("pay", ""), ("", ""), ("elsewhere", "*")]
                {
                    let action = ResourceAction {
                        verb,
                        group,
                        version: "v1",
                        resource,
                        subresource,
                        namespace,
                        name,
                        ..ResourceAction::default()
                    };
                    questions.push((user, groups.to_vec(), action.into()));
                }
            }
            for path in ["/metrics", "/api/v1", "/api", ""] {
                questions.push((user, groups.to_vec(), Action::NonResource { verb, path }));
            }
        }
    }
    questions
}

fn answer(decision: &Decision<'_>) -> Answer {
    match decision {
        Decision::Allow(chain) => Answer::Allow {
            binding: chain.binding.metadata.name.clone(),
            namespace: chain.binding.metadata.namespace.clone(),
            subject: chain.subject_index,
            rule: chain.rule_index,
        },
        Decision::NoOpinion(no) => Answer::NoOpinion {
            errors: no.errors(),
        },
        Decision::Superuser => panic!("not asked"),
    }
}

fn agree(index: &Index, naive: &Naive) -> Result<(), TestCaseError> {
    for (user, groups, action) in questions() {
        let request = Request {
            user: User {
                name: user,
                groups: Groups::Borrowed(&groups),
            },
            action,
        };
        let decision = index.authorize(&request);
        prop_assert_eq!(answer(&decision), naive.ask(&request), "{:?}", request);
        let all = index.authorize_all(&request);
        prop_assert_eq!(all.is_empty(), !decision.is_allowed());
        if let (Some(first), Some(chain)) = (all.first(), decision.chain()) {
            prop_assert_eq!(first.to_string(), chain.to_string());
            prop_assert_eq!(first.rule_index, chain.rule_index);
        }
        prop_assert!(all.iter().all(|chain| chain.rule().allows(&action)));
        if let Decision::NoOpinion(no) = decision {
            no.nearest(3);
        }
    }
    Ok(())
}

fn key(object: &Object) -> ObjectKey {
    let metadata = object.metadata();
    let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
    match object {
        Object::Role(role) => ObjectKey::Role {
            kind: role.kind,
            namespace,
            name,
        },
        Object::Binding(binding) => ObjectKey::Binding {
            kind: binding.kind,
            namespace,
            name,
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_index_answers_as_the_literal_evaluator(objects in objects(30)) {
        let naive = Naive::new(&objects);
        let (index, refused) = Index::build(objects);
        prop_assert!(refused.is_empty());
        agree(&index, &naive)?;
    }

    #[test]
    fn the_order_of_objects_does_not_matter(objects in objects(30), picks in prop::collection::vec(any::<Pick>(), 30)) {
        let mut kept: Vec<Object> = Vec::new();
        for object in objects {
            kept.retain(|held| key(held) != key(&object));
            kept.push(object);
        }
        let mut shuffled = kept.clone();
        for (at, pick) in (0..shuffled.len()).zip(picks) {
            let other = pick.index(shuffled.len());
            shuffled.swap(at, other);
        }
        let (one, _) = Index::build(kept.clone());
        let (other, _) = Index::build(shuffled);
        agree(&one, &Naive::new(&kept))?;
        agree(&other, &Naive::new(&kept))?;
        prop_assert!(one.bindings().eq(other.bindings()));
        prop_assert_eq!(one.roles(), other.roles());
    }

    #[test]
    fn an_index_that_followed_changes_equals_one_built_at_once(
        start in objects(15),
        steps in prop::collection::vec((prop_oneof![role(), binding()], any::<bool>()), 0..40),
    ) {
        let (mut index, _) = Index::build(start.clone());
        let untouched = index.clone();
        let mut objects = start.clone();
        for (object, put) in steps {
            objects.retain(|held| key(held) != key(&object));
            let change = if put {
                objects.push(object.clone());
                Change::Put(object)
            } else {
                Change::Delete(key(&object))
            };
            index.apply(change).unwrap();
        }
        let (rebuilt, _) = Index::build(objects.clone());
        prop_assert!(index.bindings().eq(rebuilt.bindings()));
        prop_assert_eq!(index.roles(), rebuilt.roles());
        for role in index.roles() {
            let metadata = &role.metadata;
            prop_assert_eq!(
                index.effective_rules(role.kind, &metadata.namespace, &metadata.name),
                rebuilt.effective_rules(role.kind, &metadata.namespace, &metadata.name)
            );
        }
        agree(&index, &Naive::new(&objects))?;
        agree(&untouched, &Naive::new(&start))?;
    }

    #[test]
    fn who_can_lists_exactly_those_who_are_allowed(objects in objects(30)) {
        let (index, _) = Index::build(objects);
        let no_scopes = Catalog::default();
        for (user, groups, action) in questions() {
            if groups.contains(&"system:serviceaccounts") {
                continue;
            }
            let request = Request { user: User { name: user, groups: Groups::Borrowed(&groups) }, action };
            let who = index.who_can(&action, Where::ActionNamespace, &no_scopes);
            let listed = who.granted.iter().any(|chain| {
                let namespace = &chain.binding.metadata.namespace;
                match chain.subject().unwrap().identity_in(namespace).unwrap() {
                    countersign_rbac::Identity::User(name) => name == user,
                    countersign_rbac::Identity::Group(name) => groups.contains(&name.as_str()),
                }
            });
            prop_assert_eq!(listed, index.authorize(&request).is_allowed(), "{:?}", request);
        }
    }

    #[test]
    fn the_rules_of_a_caller_allow_exactly_what_is_allowed(objects in objects(30)) {
        let (index, _) = Index::build(objects);
        for (user, groups, action) in questions() {
            let user = User { name: user, groups: Groups::Borrowed(&groups) };
            let namespace = match action {
                Action::Resource(action) => action.namespace,
                Action::NonResource { .. } => "",
            };
            let rules = index.rules_for(&user, namespace);
            let allowed = rules.chains.iter().any(|chain| chain.rule().allows(&action));
            prop_assert_eq!(allowed, index.authorize(&Request { user, action }).is_allowed());
        }
    }

    #[test]
    fn permissions_only_add_up(objects in objects(20), more in prop_oneof![role(), binding()]) {
        let is_new = objects.iter().all(|object| key(object) != key(&more));
        prop_assume!(is_new);
        let (before, _) = Index::build(objects);
        let mut after = before.clone();
        after.apply(Change::Put(more)).unwrap();
        for (user, groups, action) in questions() {
            let request = Request { user: User { name: user, groups: Groups::Borrowed(&groups) }, action };
            prop_assert!(!before.authorize(&request).is_allowed() || after.authorize(&request).is_allowed());
        }
    }
}

fn cluster_role(name: &str, label: &str, collects: Option<&str>, resources: &[&str]) -> Object {
    Object::Role(Role {
        kind: RoleKind::ClusterRole,
        metadata: Metadata {
            labels: if label.is_empty() {
                BTreeMap::new()
            } else {
                BTreeMap::from([(label.to_owned(), "true".to_owned())])
            },
            ..metadata(name, "")
        },
        rules: resources
            .iter()
            .map(|resource| {
                Arc::new(PolicyRule {
                    verbs: vec!["get".into()],
                    api_groups: vec!["".into()],
                    resources: vec![(*resource).to_owned()],
                    ..PolicyRule::default()
                })
            })
            .collect(),
        aggregation: collects.map(|label| AggregationRule {
            cluster_role_selectors: vec![LabelSelector {
                match_labels: BTreeMap::from([(label.to_owned(), "true".to_owned())]),
                match_expressions: Vec::new(),
            }],
        }),
        origin: None,
    })
}

fn resources(index: &Index, role: &str) -> Vec<String> {
    let rules = index
        .effective_rules(RoleKind::ClusterRole, "", role)
        .unwrap();
    rules
        .iter()
        .map(|effective| effective.rule.resources[0].clone())
        .collect()
}

#[test]
fn chains_of_aggregated_roles_settle_and_follow_changes() {
    let chain = [
        cluster_role("admin", "", Some("to-admin"), &[]),
        cluster_role("edit", "to-admin", Some("to-edit"), &["stale"]),
        cluster_role("view", "to-edit", Some("to-view"), &[]),
        cluster_role("parts", "to-view", None, &["pods", "services", "pods"]),
    ];
    let (mut index, _) = Index::build(chain.clone());
    assert_eq!(resources(&index, "admin"), ["pods", "services"]);
    assert_eq!(
        resources(&index, "edit"),
        ["pods", "services"],
        "stored rules of an aggregated role do not count"
    );
    let drift = index.aggregation_drift();
    let edit = drift
        .iter()
        .find(|drift| drift.role.metadata.name == "edit")
        .unwrap();
    assert_eq!((edit.only_stored.len(), edit.only_computed.len()), (1, 2));

    index
        .apply(Change::Put(cluster_role(
            "more",
            "to-view",
            None,
            &["secrets"],
        )))
        .unwrap();
    assert_eq!(
        resources(&index, "admin"),
        ["secrets", "pods", "services"],
        "members come by name"
    );
    index
        .apply(Change::Put(cluster_role("parts", "", None, &["pods"])))
        .unwrap();
    assert_eq!(
        resources(&index, "admin"),
        ["secrets"],
        "a lost label takes the rules away"
    );
    let gone = ObjectKey::Role {
        kind: RoleKind::ClusterRole,
        namespace: String::new(),
        name: "view".into(),
    };
    index.apply(Change::Delete(gone)).unwrap();
    assert_eq!(resources(&index, "admin"), [] as [&str; 0]);
}

#[test]
fn roles_that_only_collect_each_other_collect_nothing_and_end() {
    let (index, _) = Index::build([
        cluster_role("a", "to-b", Some("to-a"), &["stale"]),
        cluster_role("b", "to-a", Some("to-b"), &["stale"]),
        cluster_role("self", "to-self", Some("to-self"), &["stale"]),
        cluster_role("leaf", "to-a", None, &["pods"]),
    ]);
    assert_eq!(resources(&index, "a"), ["pods"]);
    assert_eq!(resources(&index, "b"), ["pods"]);
    assert_eq!(resources(&index, "self"), [] as [&str; 0]);
}

#[test]
fn objects_without_name_or_namespace_are_refused_and_change_nothing() {
    let nameless = Object::Role(Role {
        kind: RoleKind::Role,
        metadata: metadata("", "shop"),
        rules: Vec::new(),
        aggregation: None,
        origin: None,
    });
    let mut homeless = Object::Binding(Binding {
        kind: BindingKind::RoleBinding,
        metadata: metadata("b", ""),
        role_ref: RoleRef::default(),
        subjects: Vec::new(),
        origin: None,
    });
    let (mut index, refused) = Index::build([nameless, homeless.clone()]);
    assert_eq!(
        refused,
        [
            Refused::NoName { kind: "Role" },
            Refused::NoNamespace {
                kind: "RoleBinding",
                name: "b".into()
            }
        ]
    );
    assert!(index.apply(Change::Put(homeless.clone())).is_err());
    assert_eq!(index.binding_count(), 0);
    homeless.settle_namespace("shop");
    index.apply(Change::Put(homeless)).unwrap();
    assert_eq!(index.bound_namespaces(), ["shop"]);
}

#[test]
fn what_could_not_be_read_makes_a_no_incomplete() {
    let mut index = Index::default();
    index.mark_unread(Unread {
        namespace: Some("shop".into()),
        reason: "rolebindings of shop: 403".into(),
    });
    index.mark_unread(Unread {
        namespace: None,
        reason: "clusterroles: 403".into(),
    });
    let reasons = |namespace: &'static str, user: &'static str, groups: &'static [&'static str]| {
        let action = ResourceAction {
            verb: "get",
            resource: "pods",
            namespace,
            ..ResourceAction::default()
        };
        let request = Request {
            user: User {
                name: user,
                groups: Groups::Borrowed(groups),
            },
            action: action.into(),
        };
        match index.authorize(&request) {
            Decision::NoOpinion(no) => no.incomplete_reasons(),
            decision => panic!("{decision:?}"),
        }
    };
    assert_eq!(
        reasons("shop", "dana", &[]),
        ["rolebindings of shop: 403", "clusterroles: 403"]
    );
    assert_eq!(reasons("pay", "dana", &[]), ["clusterroles: 403"]);
    assert_eq!(
        reasons("pay", "system:node:n1", &["system:nodes"]),
        [
            "clusterroles: 403",
            "node authorizer: depends on pods on the node"
        ]
    );
}

#[test]
fn several_missing_roles_are_told_in_brackets_and_equal_ones_once() {
    let binding = |name: &str, role: &str, kind: &str| {
        Object::Binding(Binding {
            kind: BindingKind::ClusterRoleBinding,
            metadata: metadata(name, ""),
            role_ref: RoleRef {
                kind: kind.into(),
                name: role.into(),
                ..RoleRef::default()
            },
            subjects: vec![Subject::user("dana")],
            origin: None,
        })
    };
    let (index, _) = Index::build([
        binding("1", "x", "ClusterRole"),
        binding("2", "x", "ClusterRole"),
        binding("3", "x", "Role"),
        binding("4", "x", "Group"),
    ]);
    let action = ResourceAction {
        verb: "get",
        resource: "pods",
        ..ResourceAction::default()
    };
    let request = Request {
        user: User::new("dana", &[]),
        action: action.into(),
    };
    assert_eq!(
        index.authorize(&request).reason(),
        "RBAC: [clusterrole.rbac.authorization.k8s.io \"x\" not found, role.rbac.authorization.k8s.io \"x\" not found, unsupported role reference kind: \"Group\"]"
    );
}

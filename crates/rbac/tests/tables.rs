//! Tables: HTTP requests, rules, selectors, names.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_rbac::selector::{Operator, parse_fields, parse_labels};
use countersign_rbac::{
    Action, Binding, BindingKind, Catalog, Groups, HttpAction, Index, LabelSelector, Metadata,
    Object, PolicyRule, Request, ResourceAction, Role, RoleKind, RoleRef, Scope, Subject, User,
    default_objects, forbidden, implied_groups, is_default, split_service_account, validate,
    validate_update,
};
use serde::Deserialize;
use support::data;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Case {
    request: String,
    error: bool,
    verb: String,
    group: String,
    namespace: String,
    resource: String,
    subresource: String,
    name: String,
    path: Option<String>,
    allowed_by: Vec<String>,
}

impl Case {
    fn action(&self) -> Action<'_> {
        match &self.path {
            Some(path) => Action::NonResource {
                verb: &self.verb,
                path,
            },
            None => Action::Resource(ResourceAction {
                verb: &self.verb,
                group: &self.group,
                version: "v1",
                resource: &self.resource,
                subresource: &self.subresource,
                namespace: &self.namespace,
                name: &self.name,
                ..ResourceAction::default()
            }),
        }
    }
}

#[test]
fn http_requests_become_the_actions_of_the_worked_table() {
    let cases: Vec<Case> = serde_json::from_slice(&data("http-requests.json")).unwrap();
    for case in &cases {
        let (method, target) = case.request.split_once(' ').unwrap();
        let parsed = HttpAction::parse(method, target);
        if case.error {
            assert!(parsed.is_err(), "{}", case.request);
            continue;
        }
        let parsed = parsed.unwrap();
        let mut action = parsed.action();
        if let Action::Resource(resource) = &mut action {
            resource.selectors = Default::default();
        }
        assert_eq!(action, case.action(), "{}", case.request);
    }
}

#[test]
fn selectors_of_a_list_are_kept_and_those_of_a_legacy_watch_are_not() {
    let parse = |target: &str| HttpAction::parse("GET", target).unwrap();
    let list =
        parse("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&labelSelector=app+in+(a,b),!old");
    let Action::Resource(action) = list.action() else {
        panic!("a resource");
    };
    assert_eq!(action.selectors.fields[0].key, "spec.nodeName");
    assert_eq!(action.selectors.labels.len(), 2);
    let watch = parse("/api/v1/watch/pods?fieldSelector=spec.nodeName%3Dn1");
    let Action::Resource(action) = watch.action() else {
        panic!("a resource");
    };
    assert_eq!(action.selectors, Default::default());
}

#[derive(Deserialize)]
struct RuleTable {
    rules: BTreeMap<String, PolicyRule>,
    cases: Vec<Case>,
}

/// Each rule alone in a role, asked through the index and by itself.
#[test]
fn rules_match_as_in_the_table_by_themselves_and_in_the_index() {
    let table: RuleTable = serde_json::from_slice(&data("rule-matching.json")).unwrap();
    for case in &table.cases {
        let allowed: Vec<&str> = table
            .rules
            .iter()
            .filter(|(_, rule)| rule.allows(&case.action()))
            .map(|(name, _)| name.as_str())
            .collect();
        let mut expected: Vec<&str> = case.allowed_by.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(allowed, expected, "{:?}", case.action());
        for (name, rule) in &table.rules {
            let role = cluster_role("role", &[], vec![rule.clone()]);
            let (index, _) = Index::build([role, bind_to_dana("role")]);
            let request = Request {
                user: User::new("dana", &[]),
                action: case.action(),
            };
            let decision = index.authorize(&request);
            assert_eq!(
                decision.is_allowed(),
                expected.contains(&name.as_str()),
                "{name} {request:?}"
            );
        }
    }
}

fn cluster_role(name: &str, labels: &[(&str, &str)], rules: Vec<PolicyRule>) -> Object {
    Object::Role(Role {
        kind: RoleKind::ClusterRole,
        metadata: Metadata {
            name: name.into(),
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            ..Metadata::default()
        },
        rules: rules.into_iter().map(Arc::new).collect(),
        aggregation: None,
        origin: None,
    })
}

fn bind_to_dana(role: &str) -> Object {
    Object::Binding(Binding {
        kind: BindingKind::ClusterRoleBinding,
        metadata: Metadata {
            name: "binding".into(),
            ..Metadata::default()
        },
        role_ref: RoleRef {
            kind: "ClusterRole".into(),
            name: role.into(),
            ..RoleRef::default()
        },
        subjects: vec![Subject::user("dana")],
        origin: None,
    })
}

#[test]
fn long_lists_in_rules_are_searched_completely() {
    let many = |prefix: &str| (0..500).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
    let rule = PolicyRule {
        verbs: many("verb"),
        api_groups: many("group"),
        resources: many("resource"),
        resource_names: many("name"),
        non_resource_urls: Vec::new(),
    };
    let (index, _) = Index::build([cluster_role("role", &[], vec![rule]), bind_to_dana("role")]);
    let user = User::new("dana", &[]);
    for at in [0, 1, 16, 17, 250, 499] {
        let text = |prefix: &str, at: usize| format!("{prefix}{at}");
        let (verb, group, resource, name) = (
            text("verb", at),
            text("group", at),
            text("resource", at),
            text("name", at),
        );
        let action = ResourceAction {
            verb: &verb,
            group: &group,
            resource: &resource,
            name: &name,
            ..ResourceAction::default()
        };
        let allowed = |action: ResourceAction<'_>| {
            index
                .authorize(&Request {
                    user,
                    action: action.into(),
                })
                .is_allowed()
        };
        assert!(allowed(action));
        assert!(!allowed(ResourceAction {
            verb: "verb500",
            ..action
        }));
        assert!(!allowed(ResourceAction {
            group: "",
            ..action
        }));
        assert!(!allowed(ResourceAction {
            resource: "resource",
            ..action
        }));
        assert!(!allowed(ResourceAction { name: "", ..action }));
    }
}

#[test]
fn a_resource_too_long_for_anyone_to_have_meant_it_is_still_decided_exactly() {
    let long = "r".repeat(300);
    let rule = PolicyRule {
        verbs: vec!["get".into()],
        api_groups: vec!["".into()],
        resources: vec![format!("{long}/status")],
        ..PolicyRule::default()
    };
    let (index, _) = Index::build([cluster_role("role", &[], vec![rule]), bind_to_dana("role")]);
    let user = User::new("dana", &[]);
    let allowed = |resource: &str, subresource: &str| {
        let action = ResourceAction {
            verb: "get",
            resource,
            subresource,
            ..ResourceAction::default()
        };
        index
            .authorize(&Request {
                user,
                action: action.into(),
            })
            .is_allowed()
    };
    assert!(allowed(&long, "status"));
    assert!(!allowed(&long, "statusx"));
    assert!(!allowed(&format!("{long}x"), "status"));
    assert!(!allowed(&"r".repeat(1000), "status"));
}

#[test]
fn field_selectors_parse_with_their_escapes() {
    let values = |text: &str| -> Vec<(String, Operator, String)> {
        let parsed = parse_fields(text).unwrap();
        parsed
            .into_iter()
            .map(|r| (r.key, r.operator, r.values[0].clone()))
            .collect()
    };
    assert_eq!(values(""), []);
    assert_eq!(
        values("a=b,c!=d"),
        [
            ("a".into(), Operator::In, "b".into()),
            ("c".into(), Operator::NotIn, "d".into())
        ]
    );
    assert_eq!(values("a==b"), [("a".into(), Operator::In, "b".into())]);
    assert_eq!(
        values(r"a=b\,c\=d\\"),
        [("a".into(), Operator::In, r"b,c=d\".into())]
    );
    assert_eq!(values("a="), [("a".into(), Operator::In, "".into())]);
    for refused in ["a", "a,b=c", r"a=b\x", r"a=b\", "a=b=c"] {
        assert!(parse_fields(refused).is_err(), "{refused}");
    }
}

#[test]
fn label_selectors_parse_or_are_refused() {
    let parsed =
        parse_labels(" app = a ,env in (x, y),tier notin (z),!old, example.com/new,n>1,m<2,k!=")
            .unwrap();
    let text: Vec<String> = parsed
        .iter()
        .map(|r| format!("{} {:?} {}", r.key, r.operator, r.values.join("|")))
        .collect();
    let expected = [
        "app In a",
        "env In x|y",
        "tier NotIn z",
        "old DoesNotExist ",
        "example.com/new Exists ",
        "n GreaterThan 1",
        "m LessThan 2",
        "k NotIn ",
    ];
    assert!(
        parse_labels("m<-2").is_err(),
        "a label value does not begin with a dash"
    );
    assert_eq!(text, expected);
    for refused in [
        "=", ",", "a,", "a in", "a in (b", "a in b)", "!", "a b", "a>x", "-a", "a=b=c", "a//b",
        "a=ä", "((", "a in ()b",
    ] {
        assert!(parse_labels(refused).is_err(), "{refused}");
    }
}

#[test]
fn label_selectors_of_objects_select_as_the_controller_does() {
    let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    let select = |json: &str| {
        let selector: LabelSelector = serde_json::from_str(json).unwrap();
        selector.matches(&labels)
    };
    assert_eq!(select("{}"), Some(true));
    assert_eq!(select(r#"{"matchLabels":{"a":"1"}}"#), Some(true));
    assert_eq!(select(r#"{"matchLabels":{"a":"2"}}"#), Some(false));
    assert_eq!(
        select(r#"{"matchExpressions":[{"key":"a","operator":"In","values":["1","2"]}]}"#),
        Some(true)
    );
    assert_eq!(
        select(r#"{"matchExpressions":[{"key":"b","operator":"NotIn","values":["1"]}]}"#),
        Some(true)
    );
    assert_eq!(
        select(r#"{"matchExpressions":[{"key":"b","operator":"Exists"}]}"#),
        Some(false)
    );
    assert_eq!(
        select(r#"{"matchExpressions":[{"key":"b","operator":"DoesNotExist"}]}"#),
        Some(true)
    );
    // Invalid selectors select nothing.
    assert_eq!(
        select(r#"{"matchExpressions":[{"key":"a","operator":"in","values":["1"]}]}"#),
        None
    );
    assert_eq!(
        select(r#"{"matchExpressions":[{"key":"a","operator":"In"}]}"#),
        None
    );
    assert_eq!(
        select(r#"{"matchExpressions":[{"key":"a","operator":"Exists","values":["1"]}]}"#),
        None
    );
}

#[test]
fn forbidden_messages_read_as_from_the_api_server() {
    let user = User::new("dana", &[]);
    let list = ResourceAction {
        verb: "list",
        resource: "pods",
        namespace: "shop",
        ..ResourceAction::default()
    };
    let message = |action: Action<'_>, reason: &str| forbidden(&Request { user, action }, reason);
    assert_eq!(
        message(list.into(), ""),
        r#"pods is forbidden: User "dana" cannot list resource "pods" in API group "" in the namespace "shop""#
    );
    let get = ResourceAction {
        verb: "get",
        name: "cart-0",
        subresource: "log",
        ..list
    };
    assert_eq!(
        message(get.into(), "why"),
        r#"pods "cart-0" is forbidden: User "dana" cannot get resource "pods/log" in API group "" in the namespace "shop": why"#
    );
    let nodes = ResourceAction {
        verb: "list",
        group: "x.io",
        resource: "things",
        ..ResourceAction::default()
    };
    assert_eq!(
        message(nodes.into(), ""),
        r#"things.x.io is forbidden: User "dana" cannot list resource "things" in API group "x.io" at the cluster scope"#
    );
    let path = Action::NonResource {
        verb: "get",
        path: "/<b>&\n\"\u{1b}é\u{202e}",
    };
    assert_eq!(
        message(path, ""),
        r#"forbidden: User "dana" cannot get path "/&lt;b&gt;&amp;\n\"\x1bé\u202e""#
    );
}

#[test]
fn service_account_names_are_split_only_when_both_parts_are_names() {
    assert_eq!(
        split_service_account("system:serviceaccount:shop:a.b"),
        Some(("shop", "a.b"))
    );
    for no in [
        "system:serviceaccount:shop",
        "system:serviceaccount::ci",
        "system:serviceaccount:shop:",
        "system:serviceaccount:shop:a:b",
        "system:serviceaccount:Shop:ci",
        "system:serviceaccount:a.b:ci",
        "system:serviceaccounts:shop",
        "",
    ] {
        assert_eq!(split_service_account(no), None, "{no}");
    }
}

#[test]
fn callers_get_the_groups_that_the_api_server_would_add() {
    assert_eq!(implied_groups("dana"), ["system:authenticated"]);
    assert_eq!(
        implied_groups("system:anonymous"),
        ["system:unauthenticated"]
    );
    assert_eq!(
        implied_groups("system:serviceaccount:shop:ci"),
        [
            "system:serviceaccounts",
            "system:serviceaccounts:shop",
            "system:authenticated"
        ]
    );
    assert_eq!(
        implied_groups("system:node:n1"),
        ["system:nodes", "system:authenticated"]
    );
}

#[test]
fn groups_are_taken_from_any_list() {
    let owned = vec!["a".to_owned(), "b".to_owned()];
    let shared: Vec<Arc<str>> = vec!["a".into(), "b".into()];
    let boxed: Vec<Box<str>> = vec!["a".into(), "b".into()];
    let lists: [Groups<'_>; 4] = [
        (&owned).into(),
        (&["a", "b"]).into(),
        shared.as_slice().into(),
        boxed.as_slice().into(),
    ];
    for groups in lists {
        assert_eq!(groups.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(
            groups.contains("b")
                && !groups.contains("c")
                && groups.len() == 2
                && !groups.is_empty()
        );
    }
}

#[test]
fn the_built_in_catalog_knows_scopes_short_names_and_verbs() {
    let catalog = Catalog::builtin();
    assert_eq!(catalog.resources().len(), 76);
    assert_eq!(catalog.scope("", "pods"), Some(Scope::Namespaced));
    assert_eq!(catalog.scope("", "nodes"), Some(Scope::Cluster));
    assert_eq!(catalog.scope("apps", "nodes"), None);
    assert_eq!(catalog.scope("*", "*"), None);
    let found = |word: &str| -> Vec<String> {
        let found = catalog.find(word);
        found
            .iter()
            .map(|r| format!("{}.{}", r.name, r.group))
            .collect()
    };
    for word in ["po", "pod", "pods", "Pod", "PODS"] {
        assert_eq!(found(word), ["pods."], "{word}");
    }
    assert_eq!(found("deployments.apps"), ["deployments.apps"]);
    assert_eq!(found("deploy.apps"), ["deployments.apps"]);
    assert_eq!(found("events"), ["events.", "events.events.k8s.io"]);
    assert_eq!(found("bees"), Vec::<String>::new());
    assert_eq!(catalog.serves("list", "", "pods", ""), Some(true));
    assert_eq!(catalog.serves("eat", "", "pods", ""), Some(false));
    assert_eq!(catalog.serves("create", "", "pods", "exec"), Some(true));
    assert_eq!(catalog.serves("list", "", "pods", "exec"), Some(false));
    assert_eq!(catalog.serves("get", "", "bees", ""), None);
    assert_eq!(
        catalog.serves("bind", "rbac.authorization.k8s.io", "clusterroles", ""),
        Some(true)
    );
    assert_eq!(
        catalog.serves(
            "impersonate",
            "authentication.k8s.io",
            "userextras",
            "scopes"
        ),
        Some(true)
    );
    assert_eq!(
        catalog.serves("impersonate-on:user-info:list", "", "pods", ""),
        Some(true)
    );
}

#[test]
fn the_default_objects_are_complete_and_aggregate_to_the_published_rules() {
    let objects = default_objects();
    assert_eq!(objects.len(), 31 + 39 + 39 + 12 + 7 + 7);
    assert!(is_default("ClusterRole", "", "cluster-admin"));
    assert!(!is_default("ClusterRole", "", "mine"));
    assert!(is_default(
        "Role",
        "kube-system",
        "extension-apiserver-authentication-reader"
    ));
    assert!(objects.iter().all(|object| validate(object).is_empty()));
    let (index, refused) = Index::build(objects.iter().cloned());
    assert!(refused.is_empty());
    #[derive(Deserialize)]
    struct File {
        aggregated: BTreeMap<String, Vec<PolicyRule>>,
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/bootstrap-1.36.json");
    let file: File = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(file.aggregated.len(), 3);
    for (name, rules) in file.aggregated {
        let effective = index
            .effective_rules(RoleKind::ClusterRole, "", &name)
            .unwrap();
        let mut computed: Vec<_> = effective.iter().map(|e| (*e.rule).clone()).collect();
        let mut rules = rules;
        computed.sort();
        rules.sort();
        assert_eq!(computed, rules, "{name}");
    }
    let admin = index
        .effective_rules(RoleKind::ClusterRole, "", "admin")
        .unwrap();
    let origins: Vec<&str> = admin
        .iter()
        .map(|e| &*e.origin.as_ref().unwrap().cluster_role)
        .collect();
    assert!(
        origins.contains(&"system:aggregate-to-view"),
        "through edit and view"
    );
    assert!(!origins.contains(&"edit"));
}

#[derive(Deserialize)]
struct Refusal {
    object: countersign_rbac::Manifest,
    violations: Vec<String>,
}

#[test]
fn what_the_api_server_refuses_is_reported() {
    let cases: Vec<Refusal> = serde_json::from_slice(&data("refused-objects.json")).unwrap();
    for case in cases {
        let object = Object::try_from(case.object).unwrap();
        let found: Vec<String> = validate(&object)
            .into_iter()
            .map(|v| format!("{}: {}", v.field, v.message))
            .collect();
        assert_eq!(found, case.violations, "{object:?}");
    }
    let one = bind_to_dana("one");
    let two = bind_to_dana("two");
    let fields = |found: Vec<countersign_rbac::Violation>| {
        found.into_iter().map(|v| v.message).collect::<Vec<_>>()
    };
    assert!(fields(validate_update(&one, &two)).contains(&"cannot change roleRef".to_owned()));
    assert!(!fields(validate_update(&one, &one)).contains(&"cannot change roleRef".to_owned()));
}

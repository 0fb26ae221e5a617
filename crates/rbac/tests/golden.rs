//! Answers of Kubernetes itself, and the example of the specification.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use countersign_rbac::{
    Action, Catalog, Decision, Groups, Index, Obstacle, Part, PolicyRule, Request, ResourceAction,
    RoleKind, User, Where, read_json,
};
use serde::Deserialize;
use support::{data, yaml_objects};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mixed {
    class: String,
    expect: String,
    user: String,
    groups: Vec<String>,
    resource_attributes: Option<countersign_rbac::review::ResourceAttributes>,
    non_resource_attributes: Option<countersign_rbac::review::NonResourceAttributes>,
}

#[test]
fn all_3600_answers_of_kubernetes_own_authorizer_agree() {
    let read = read_json(&data("mixed-1000.objects.json.gz"));
    assert!(read.problems.is_empty() && read.ignored == 0);
    assert_eq!(read.objects.len(), 1335);
    let naive = support::Naive::new(&read.objects);
    let (index, refused) = Index::build(read.objects);
    assert!(refused.is_empty());
    let requests: Vec<Mixed> =
        serde_json::from_slice(&data("mixed-1000.requests.json.gz")).unwrap();
    assert_eq!(requests.len(), 3600);
    for request in &requests {
        let action = match (
            &request.resource_attributes,
            &request.non_resource_attributes,
        ) {
            (Some(r), None) => Action::Resource(ResourceAction {
                verb: &r.verb,
                group: &r.group,
                version: &r.version,
                resource: &r.resource,
                subresource: &r.subresource,
                namespace: &r.namespace,
                name: &r.name,
                ..ResourceAction::default()
            }),
            (None, Some(path)) => Action::NonResource {
                verb: &path.verb,
                path: &path.path,
            },
            _ => panic!("one kind of question"),
        };
        let asked = Request {
            user: User::new(&request.user, &request.groups),
            action,
        };
        let decision = index.authorize(&asked);
        let expected = request.expect == "allow";
        assert_eq!(
            decision.is_allowed(),
            expected,
            "{}: {asked:?}",
            request.class
        );
        assert_eq!(index.authorize_all(&asked).is_empty(), !expected);
        match (decision.chain(), naive.ask(&asked)) {
            (
                Some(chain),
                support::Answer::Allow {
                    binding,
                    namespace,
                    subject,
                    rule,
                },
            ) => {
                let metadata = &chain.binding.metadata;
                assert_eq!(
                    (&metadata.name, &metadata.namespace),
                    (&binding, &namespace)
                );
                assert_eq!((chain.subject_index, chain.rule_index), (subject, rule));
            }
            (None, support::Answer::NoOpinion { .. }) => {}
            (chain, naive) => panic!("{chain:?} and {naive:?}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Golden {
    can_i: Vec<CanI>,
    aggregated: std::collections::BTreeMap<String, Vec<PolicyRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CanI {
    user: String,
    groups: Vec<String>,
    request: Asked,
    rbac_allows: bool,
    allowed: bool,
    rbac_reason: Option<String>,
    rule_index: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Asked {
    verb: String,
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    path: String,
    resource_request: bool,
}

impl Asked {
    fn action(&self) -> Action<'_> {
        if !self.resource_request {
            return Action::NonResource {
                verb: &self.verb,
                path: &self.path,
            };
        }
        Action::Resource(ResourceAction {
            verb: &self.verb,
            group: &self.api_group,
            resource: &self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            ..ResourceAction::default()
        })
    }
}

fn shop() -> Index {
    let text = String::from_utf8(data("rbac-golden.yaml")).unwrap();
    let (index, refused) = Index::build(yaml_objects(&text));
    assert!(refused.is_empty());
    index
}

#[test]
fn all_288_answers_of_the_shop_example_agree_with_reason_and_rule() {
    let index = shop();
    let golden: Golden = serde_json::from_slice(&data("rbac-golden.json")).unwrap();
    assert_eq!(golden.can_i.len(), 288);
    for case in &golden.can_i {
        let request = Request {
            user: User::new(&case.user, &case.groups),
            action: case.request.action(),
        };
        let decision = index.authorize(&request);
        assert_eq!(decision.is_allowed(), case.rbac_allows, "{request:?}");
        assert_eq!(
            index.authorize_or_superuser(&request).is_allowed(),
            case.allowed
        );
        if let Some(reason) = &case.rbac_reason {
            assert_eq!(decision.reason(), *reason);
            assert_eq!(
                decision.chain().map(|chain| chain.rule_index),
                case.rule_index
            );
        }
    }
    for (name, rules) in &golden.aggregated {
        let effective = index
            .effective_rules(RoleKind::ClusterRole, "", name)
            .unwrap();
        let computed: Vec<_> = effective
            .iter()
            .map(|effective| (*effective.rule).clone())
            .collect();
        assert_eq!(computed, *rules);
    }
    let view = index
        .effective_rules(RoleKind::ClusterRole, "", "shop-view")
        .unwrap();
    let origin = view[0].origin.as_ref().unwrap();
    assert_eq!(
        (&*origin.cluster_role, origin.rule_index),
        ("a-shop-view-orders", 0)
    );
}

fn resource<'a>(
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    namespace: &'a str,
) -> ResourceAction<'a> {
    ResourceAction {
        verb,
        group,
        resource,
        namespace,
        ..ResourceAction::default()
    }
}

#[test]
fn who_can_answers_the_table_of_the_specification() {
    let index = shop();
    let masters = "Group system:masters";
    let table: [(Action<'_>, &[&str]); 9] = [
        (
            resource("get", "", "pods", "shop").into(),
            &[masters, "Group devs", "User dana", "ServiceAccount build"],
        ),
        (
            ResourceAction {
                subresource: "scale",
                ..resource("patch", "apps", "deployments", "pay")
            }
            .into(),
            &[masters, "Group platform", "ServiceAccount autoscaler"],
        ),
        (
            resource("patch", "apps", "deployments", "pay").into(),
            &[masters, "Group platform"],
        ),
        (
            ResourceAction {
                name: "db",
                ..resource("get", "", "secrets", "shop")
            }
            .into(),
            &[masters, "ServiceAccount db-job"],
        ),
        (resource("get", "", "secrets", "shop").into(), &[masters]),
        (
            Action::NonResource {
                verb: "get",
                path: "/debug/pprof",
            },
            &[masters, "Group platform"],
        ),
        (
            Action::NonResource {
                verb: "get",
                path: "/debug",
            },
            &[masters],
        ),
        (
            resource("list", "", "nodes", "").into(),
            &[masters, "User dana"],
        ),
        (resource("impersonate", "", "users", "").into(), &[masters]),
    ];
    for (action, expected) in table {
        let answer = index.who_can(&action, Where::ActionNamespace, Catalog::builtin());
        let subjects: Vec<String> = answer
            .granted
            .iter()
            .map(|chain| chain.subject().unwrap())
            .map(|subject| format!("{} {}", subject.kind, subject.name))
            .collect();
        assert_eq!(subjects, expected, "{action:?}");
    }
}

#[test]
fn who_can_tells_names_only_grants_vain_grants_and_missing_roles() {
    let index = shop();
    let secrets = index.who_can(
        &resource("get", "", "secrets", "shop").into(),
        Where::ActionNamespace,
        Catalog::builtin(),
    );
    let [only] = secrets.for_names.as_slice() else {
        panic!("{:?}", secrets.for_names);
    };
    assert_eq!(
        (
            only.subject().unwrap().name.as_str(),
            &only.rule().resource_names
        ),
        ("db-job", &vec!["db".to_owned()])
    );
    assert_eq!(secrets.unresolved.len(), 1);
    assert_eq!(
        secrets.unresolved[0].1,
        "role.rbac.authorization.k8s.io \"missing\" not found"
    );

    let nodes = index.who_can(
        &resource("list", "", "nodes", "shop").into(),
        Where::Everywhere,
        Catalog::builtin(),
    );
    let vain: Vec<_> = nodes
        .in_vain
        .iter()
        .map(|chain| chain.binding.metadata.name.as_str())
        .collect();
    assert_eq!(vain, ["bad-nodes"]);
}

#[test]
fn who_can_everywhere_tells_each_namespace() {
    let index = shop();
    let pods = index.who_can(
        &resource("get", "", "pods", "").into(),
        Where::Everywhere,
        Catalog::builtin(),
    );
    let rows: Vec<_> = pods
        .granted
        .iter()
        .map(|chain| {
            (
                chain.binding.metadata.namespace.as_str(),
                chain.subject().unwrap().name.as_str(),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("", "system:masters"),
            ("shop", "devs"),
            ("shop", "dana"),
            ("shop", "build")
        ]
    );
}

#[test]
fn a_no_tells_its_nearest_misses() {
    let index = shop();
    let ask =
        |user: &'static str, groups: &'static [&'static str], action: ResourceAction<'static>| {
            let request = Request {
                user: User {
                    name: user,
                    groups: Groups::Borrowed(groups),
                },
                action: action.into(),
            };
            match index.authorize(&request) {
                Decision::NoOpinion(no) => no,
                decision => panic!("{decision:?}"),
            }
        };
    let devs: &[&str] = &["devs", "system:authenticated"];
    let no = ask("lea", devs, resource("delete", "", "pods", "shop"));
    let misses = no.nearest(5);
    assert_eq!(misses[0].binding.metadata.name, "readers");
    assert!(matches!(
        misses[0].obstacle,
        Obstacle::Rule {
            missing: Part::Verb,
            ..
        }
    ));
    assert_eq!(no.unbound_groups(), ["system:authenticated"]);
    assert_eq!(no.reason(), "");

    let no = ask("erik", &[], resource("list", "", "nodes", ""));
    assert!(
        matches!(&no.nearest(5)[0].obstacle, Obstacle::Scope(chain) if chain.binding.metadata.name == "bad-nodes")
    );

    let no = ask("zoe", &[], resource("get", "", "pods", "shop"));
    let missing = "role.rbac.authorization.k8s.io \"missing\" not found";
    assert!(matches!(&no.nearest(5)[0].obstacle, Obstacle::MissingRole(text) if text == missing));
    assert_eq!(no.reason(), format!("RBAC: {missing}"));
    assert_eq!(no.incomplete_reasons(), [missing]);

    let no = ask("devs", &[], resource("get", "", "pods", "shop"));
    assert!(matches!(
        no.nearest(5)[0].obstacle,
        Obstacle::SubjectKind(_)
    ));
}

#[test]
fn a_cluster_scoped_resource_loses_the_namespace_it_was_asked_with() {
    let index = shop();
    let user = User::new("erik", &[]);
    let asked = Action::Resource(resource("list", "", "nodes", "shop"));
    assert!(
        index
            .authorize(&Request {
                user,
                action: asked
            })
            .is_allowed()
    );
    let settled = Catalog::builtin().settle(asked);
    assert_eq!(settled.dropped_namespace, Some("shop"));
    assert!(
        !index
            .authorize(&Request {
                user,
                action: settled.action
            })
            .is_allowed()
    );
    // A named namespace is asked for in itself.
    let namespace = ResourceAction {
        name: "shop",
        ..resource("get", "", "namespaces", "")
    };
    let settled = Catalog::builtin().settle(namespace.into());
    assert_eq!(
        settled.action,
        Action::Resource(ResourceAction {
            namespace: "shop",
            ..namespace
        })
    );
    assert_eq!(settled.dropped_namespace, None);
}

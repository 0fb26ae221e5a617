//! Handing out rights.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use std::sync::Arc;

use countersign_rbac::{
    Action, AggregationRule, Binding, Chain, EscalationRefused, Index, LabelSelector, Object,
    Permitted, PolicyRule, Request, ResourceAction, Role, Subject, User, Vain, compact, describe,
    uncovered,
};
use proptest::prelude::*;
use proptest::sample::select;
use support::rights::{binding, dana, holding, role, rules};

#[test]
fn rules_cover_pieces_as_in_the_specification() {
    let covers = |owner: &[&str], wanted: &[&str]| {
        uncovered(&rules(owner), &rules(wanted)).unwrap().is_empty()
    };
    for (owner, wanted) in [
        (&["get,list - pods"][..], &["get - pods"][..]),
        (&["* * *"], &["get apps deployments/scale x"]),
        (&["get - pods", "list - pods"], &["get,list - pods"]),
        (
            &["get - pods", "get apps deployments"],
            &["get - pods", "get apps deployments"],
        ),
        (&["get * */scale"], &["get apps deployments/scale"]),
        (&["get - secrets"], &["get - secrets db"]),
        (&["get - secrets a,b"], &["get - secrets b"]),
        (&["* /metrics"], &["get /metrics"]),
        (&["get /api/*"], &["get /api/x,/api/*,/api/"]),
        (&["* - *"], &["* - *"]),
        (&[], &["- - -"][..0]),
        (&[], &["get"][..0]),
    ] {
        assert!(covers(owner, wanted), "{owner:?} {wanted:?}");
    }
    for (owner, wanted) in [
        (&["get - pods"][..], &["list - pods"][..]),
        (&["get,list - pods"], &["* - pods"]),
        (&["get apps *"], &["get - *"]),
        (&["get apps *"], &["get * pods"]),
        (&["get - pods"], &["get - pods/log"]),
        (&["get - pods/*"], &["get - pods/log"]),
        (&["get * */scale"], &["get apps deployments"]),
        (&["get - pods,services"], &["get - *"]),
        (&["get - secrets a"], &["get - secrets"]),
        (&["get - secrets a"], &["get - secrets a,b"]),
        (&["get /api/*"], &["get /api"]),
        (&["get /api/*"], &["get /*"]),
        (&["* * *"], &["get /metrics"]),
        (&["* /metrics"], &["get - pods"]),
    ] {
        assert!(!covers(owner, wanted), "{owner:?} {wanted:?}");
    }
}

#[test]
fn lists_that_multiply_are_refused_instead_of_compared() {
    let many: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    let wanted = PolicyRule {
        verbs: many.clone(),
        api_groups: many.clone(),
        resources: many.clone(),
        resource_names: many,
        non_resource_urls: Vec::new(),
    };
    assert!(uncovered(&rules(&["get - pods"]), [&wanted]).is_err());
    assert_eq!(
        uncovered([&wanted], [&wanted]),
        Ok(Vec::new()),
        "what is held whole need not be taken apart"
    );
}

#[test]
fn compacting_merges_verbs_of_the_same_single_resource_only() {
    let input = rules(&[
        "get - pods",
        "get,list apps,batch *",
        "list,get - pods",
        "get - pods x",
        "get - pods -",
        "watch - pods x",
        "get - pods x,y",
        "get /metrics",
    ]);
    let merged: Vec<String> = compact(&input).iter().map(describe).collect();
    assert_eq!(
        merged,
        [
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#,
            r#"{APIGroups:["apps" "batch"], Resources:["*"], Verbs:["get" "list"]}"#,
            r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["x"], Verbs:["get" "watch"]}"#,
            r#"{APIGroups:[""], Resources:["pods"], ResourceNames:[""], Verbs:["get"]}"#,
            r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["x" "y"], Verbs:["get"]}"#,
            r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#,
        ]
    );
}

/// A rule for resources or for URLs; the API server stores none for both.
fn any_rule() -> impl Strategy<Value = PolicyRule> {
    let words = |list: &'static [&'static str]| {
        prop::collection::vec(select(list).prop_map(str::to_owned), 0..3)
    };
    (
        words(&["get", "list", "*"]),
        words(&["", "apps", "*"]),
        words(&["pods", "pods/log", "*/log", "*"]),
        words(&["", "x"]),
        words(&["/a", "/a/*", "*"]),
    )
        .prop_map(
            |(verbs, api_groups, resources, resource_names, non_resource_urls)| {
                if non_resource_urls.len() == 1 {
                    return PolicyRule {
                        verbs,
                        non_resource_urls,
                        ..PolicyRule::default()
                    };
                }
                PolicyRule {
                    verbs,
                    api_groups,
                    resources,
                    resource_names,
                    non_resource_urls: Vec::new(),
                }
            },
        )
}

proptest! {
    #[test]
    fn who_covers_rules_is_allowed_whatever_they_allow(
        owner in prop::collection::vec(any_rule(), 0..4),
        wanted in prop::collection::vec(any_rule(), 0..4),
    ) {
        let missing = uncovered(&owner, &wanted).unwrap();
        for verb in ["get", "list", "other"] {
            for group in ["", "apps", "other"] {
                for (resource, subresource) in [("pods", ""), ("pods", "log"), ("other", "log"), ("other", "")] {
                    for name in ["x", "y"] {
                        let action = ResourceAction { verb, group, resource, subresource, name, ..ResourceAction::default() }.into();
                        let allows = |rules: &[PolicyRule]| rules.iter().any(|rule| rule.allows(&action));
                        if missing.is_empty() {
                            prop_assert!(!allows(&wanted) || allows(&owner), "{:?}", action);
                        }
                        prop_assert!(!allows(&wanted) || allows(&owner) || allows(&missing));
                    }
                }
            }
            for path in ["/a", "/a/b", "/c"] {
                let action = Action::NonResource { verb, path };
                let allows = |rules: &[PolicyRule]| rules.iter().any(|rule| rule.allows(&action));
                prop_assert!(!allows(&wanted) || allows(&owner) || allows(&missing));
            }
        }
    }

    #[test]
    fn compacting_changes_no_decision(rules in prop::collection::vec(any_rule(), 0..6)) {
        let merged = compact(&rules);
        prop_assert!(merged.len() <= rules.len());
        for verb in ["get", "list"] {
            for (resource, subresource) in [("pods", ""), ("pods", "log"), ("other", "log")] {
                for name in ["", "x"] {
                    let action = ResourceAction { verb, group: "apps", resource, subresource, name, ..ResourceAction::default() }.into();
                    prop_assert_eq!(rules.iter().any(|r| r.allows(&action)), merged.iter().any(|r| r.allows(&action)));
                }
            }
        }
        prop_assert_eq!(compact(&merged), merged);
    }
}

#[test]
fn a_role_with_rights_not_held_is_refused_in_the_api_servers_words() {
    let index = holding(&["get - pods"], &[]);
    let wanted = role(
        "",
        "x",
        &["list,get - secrets", "get - pods", "list - secrets"],
    );
    let refused = index
        .check_role_write(&dana(), None, &wanted, "", None)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "clusterroles.rbac.authorization.k8s.io \"x\" is forbidden: user \"dana\" (groups=[\"platform\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"list\" \"get\"]}"
    );
    let EscalationRefused::Forbidden { missing, .. } = refused else {
        panic!("forbidden");
    };
    assert_eq!(missing, rules(&["list,get - secrets"]));
}

#[test]
fn roles_are_stored_by_those_who_hold_their_rules_in_that_namespace() {
    let index = holding(&["get - pods"], &["list - pods"]);
    let check = |role: &Role| index.check_role_write(&dana(), None, role, "", None);
    assert_eq!(
        check(&role("shop", "x", &["get - pods", "list - pods"])),
        Ok(Permitted::Covered)
    );
    assert!(check(&role("pay", "x", &["list - pods"])).is_err());
    assert!(
        check(&role("", "x", &["list - pods"])).is_err(),
        "what is held in a namespace makes no ClusterRole"
    );
    assert_eq!(
        check(&role("", "x", &["get - pods"])),
        Ok(Permitted::Covered)
    );
}

#[test]
fn superusers_holders_of_escalate_and_unchanged_rules_pass() {
    let wanted = role("shop", "x", &["* * *"]);
    let index = holding(&[], &["escalate rbac.authorization.k8s.io roles"]);
    assert_eq!(
        index.check_role_write(&dana(), None, &wanted, "", None),
        Ok(Permitted::ByVerb)
    );
    let named = holding(&[], &["escalate rbac.authorization.k8s.io roles x"]);
    assert!(
        named
            .check_role_write(&dana(), None, &wanted, "", None)
            .is_err(),
        "a POST has no name"
    );
    assert_eq!(
        named.check_role_write(&dana(), None, &wanted, "x", None),
        Ok(Permitted::ByVerb)
    );
    let none = Index::default();
    let masters = User::new("root", &["system:masters"]);
    assert_eq!(
        none.check_role_write(&masters, None, &wanted, "", None),
        Ok(Permitted::Superuser)
    );
    assert_eq!(
        none.check_role_write(&dana(), Some(&wanted), &wanted, "x", None),
        Ok(Permitted::Unchanged)
    );
    let by_webhook = |request: &Request<'_>| request.action.verb() == "escalate";
    assert_eq!(
        none.check_role_write(&dana(), None, &wanted, "", Some(&by_webhook)),
        Ok(Permitted::ByVerb)
    );
}

#[test]
fn an_aggregation_rule_takes_every_right() {
    let mut wanted = role("", "x", &[]);
    wanted.aggregation = Some(AggregationRule {
        cluster_role_selectors: vec![LabelSelector::default()],
    });
    let never = |_: &Request<'_>| false;
    let some = holding(&["* * *"], &[]);
    let refused = some
        .check_role_write(&dana(), None, &wanted, "", Some(&never))
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "clusterroles.rbac.authorization.k8s.io \"x\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
    );
    let plain = role("", "x", &["get - pods"]);
    assert!(
        some.check_role_write(&dana(), Some(&wanted), &plain, "x", Some(&never))
            .is_err(),
        "taking it away too"
    );
    let all = Index::build([
        Object::Role(role("", "all", &["* * *", "* /"])),
        Object::Binding(binding(
            "",
            "b",
            "ClusterRole",
            "all",
            &[Subject::user("dana")],
        )),
    ])
    .0;
    assert!(
        all.check_role_write(&dana(), None, &wanted, "", Some(&never))
            .is_err()
    );
    let mut everything = role("", "all", &["* * *"]);
    everything.rules.push(Arc::new(PolicyRule {
        verbs: vec!["*".into()],
        non_resource_urls: vec!["*".into()],
        ..PolicyRule::default()
    }));
    let all = Index::build([
        Object::Role(everything),
        Object::Binding(binding(
            "",
            "b",
            "ClusterRole",
            "all",
            &[Subject::user("dana")],
        )),
    ])
    .0;
    assert_eq!(
        all.check_role_write(&dana(), None, &wanted, "", Some(&never)),
        Ok(Permitted::Covered)
    );
}

#[test]
fn bindings_are_stored_by_holders_of_the_rules_or_of_bind_on_the_role() {
    let subjects = [Subject::user("erik")];
    let wanted = binding("shop", "x", "ClusterRole", "cluster", &subjects);
    let check =
        |index: &Index, binding: &Binding| index.check_binding_write(&dana(), None, binding, None);
    assert_eq!(
        check(&holding(&["get - pods"], &[]), &wanted),
        Ok(Permitted::Covered)
    );

    let with_secrets = |cluster: &[&str], shop: &[&str]| {
        let mut index = holding(cluster, shop);
        let secrets = Object::Role(role("", "secrets", &["get - secrets"]));
        index.apply(countersign_rbac::Change::Put(secrets)).unwrap();
        index
    };
    let wanted = binding("shop", "x", "ClusterRole", "secrets", &subjects);
    let refused = check(&with_secrets(&[], &[]), &wanted).unwrap_err();
    assert!(
        refused.to_string().starts_with(
            "rolebindings.rbac.authorization.k8s.io \"x\" is forbidden: user \"dana\""
        )
    );
    for verb in [
        "bind rbac.authorization.k8s.io clusterroles",
        "bind rbac.authorization.k8s.io clusterroles secrets",
    ] {
        assert_eq!(
            check(&with_secrets(&[], &[verb]), &wanted),
            Ok(Permitted::ByVerb)
        );
    }
    for not in [
        "bind rbac.authorization.k8s.io roles",
        "bind rbac.authorization.k8s.io rolebindings",
        "bind rbac.authorization.k8s.io clusterroles other",
        "escalate rbac.authorization.k8s.io clusterroles",
    ] {
        assert!(check(&with_secrets(&[], &[not]), &wanted).is_err(), "{not}");
    }
    let cluster_wide = binding("", "x", "ClusterRole", "secrets", &subjects);
    let local = with_secrets(&[], &["bind rbac.authorization.k8s.io clusterroles"]);
    assert!(
        check(&local, &cluster_wide).is_err(),
        "bind in a namespace binds there"
    );
}

#[test]
fn binding_a_missing_role_takes_bind_and_changes_of_neither_role_nor_subjects_pass() {
    let subjects = [Subject::user("erik")];
    let wanted = binding("shop", "x", "Role", "missing", &subjects);
    let refused = holding(&["* * *"], &[])
        .check_binding_write(&dana(), None, &wanted, None)
        .map(|_| ());
    assert_eq!(refused, Ok(()), "every verb includes bind");
    let index = holding(&["get - pods"], &[]);
    let refused = index
        .check_binding_write(&dana(), None, &wanted, None)
        .unwrap_err();
    assert_eq!(
        refused,
        EscalationRefused::RoleNotFound(
            "role.rbac.authorization.k8s.io \"missing\" not found".into()
        )
    );
    assert_eq!(
        index.check_binding_write(&dana(), Some(&wanted), &wanted, None),
        Ok(Permitted::Unchanged)
    );
    let odd = binding("shop", "x", "Thing", "missing", &subjects);
    assert!(
        index
            .check_binding_write(&dana(), None, &odd, None)
            .is_err()
    );
}

#[test]
fn rules_that_grant_nothing_where_they_are_bound_are_told() {
    let index = holding(
        &[
            "get /metrics",
            "get - pods/*,*/*",
            "impersonate authentication.k8s.io userextras/*",
        ],
        &[
            "get /metrics",
            "get,list,watch,deletecollection - secrets db",
            "create - pods/exec x",
            "create - pods x",
        ],
    );
    let user = dana();
    let rules = index.rules_for(&user, "shop");
    let vain: Vec<Vec<Vain>> = rules.chains.iter().map(Chain::in_vain).collect();
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    assert_eq!(vain[0], []);
    assert_eq!(
        vain[1],
        [Vain::PseudoWildcards(strings(&["pods/*", "*/*"]))]
    );
    assert_eq!(vain[2], []);
    assert_eq!(vain[3], [Vain::UrlsInRoleBinding]);
    assert_eq!(
        vain[4],
        [Vain::NamesNeverSent(strings(&[
            "list",
            "watch",
            "deletecollection"
        ]))]
    );
    assert_eq!(vain[5], []);
    assert_eq!(vain[6], [Vain::NamesNeverSent(strings(&["create"]))]);
}

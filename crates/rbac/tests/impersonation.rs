//! Acting as someone else.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use countersign_rbac::impersonation::{
    Extra, Impersonated, ImpersonationRefused, Mode, Target, is_impersonation_verb,
};
use countersign_rbac::{Index, Object, ResourceAction, Subject, User};
use support::rights::{binding, holding, role};

fn act(
    index: &Index,
    caller: &str,
    extra: &Extra,
    target: &Target,
    constrained: bool,
) -> Result<Impersonated, ImpersonationRefused> {
    let action = ResourceAction {
        verb: "list",
        version: "v1",
        resource: "pods",
        namespace: "shop",
        ..ResourceAction::default()
    };
    let user = User::new(caller, &["system:authenticated"]);
    target.check(
        &user,
        extra,
        &action.into(),
        constrained,
        &mut |request, _| match index.authorize_or_superuser(request) {
            countersign_rbac::Decision::NoOpinion(no) => Err(no.reason()),
            _ => Ok(()),
        },
    )
}

fn target(user: &str, groups: &[&str]) -> Target {
    Target {
        user: user.into(),
        groups: groups.iter().map(|g| (*g).into()).collect(),
        ..Target::default()
    }
}

fn allowed(rules: &[&str], target: &Target) -> Option<Mode> {
    act(&holding(rules, &[]), "dana", &Extra::new(), target, true)
        .ok()
        .map(|done| done.mode)
}

#[test]
fn classic_impersonation_asks_for_everything_that_is_asserted() {
    let rules = &[
        "impersonate - users erik",
        "impersonate - groups devs",
        "impersonate - serviceaccounts ci",
        "impersonate authentication.k8s.io uids u-1",
        "impersonate authentication.k8s.io userextras/scopes a",
    ];
    let full = Target {
        uid: "u-1".into(),
        extra: Extra::from([("scopes".into(), vec!["a".into()])]),
        ..target("erik", &["devs"])
    };
    for constrained in [false, true] {
        let done = act(
            &holding(rules, &[]),
            "dana",
            &Extra::new(),
            &full,
            constrained,
        )
        .unwrap();
        assert_eq!(done.mode, Mode::Classic);
        assert_eq!(done.groups, ["devs", "system:authenticated"]);
        let check = |target: &Target| {
            act(
                &holding(rules, &[]),
                "dana",
                &Extra::new(),
                target,
                constrained,
            )
        };
        assert!(check(&target("fay", &[])).is_err());
        assert!(check(&target("erik", &["devs", "ops"])).is_err());
        assert!(
            check(&Target {
                uid: "u-2".into(),
                ..full.clone()
            })
            .is_err()
        );
        let two = Extra::from([("scopes".into(), vec!["a".into(), "b".into()])]);
        assert!(
            check(&Target {
                extra: two,
                ..full.clone()
            })
            .is_err()
        );
        let account = check(&target("system:serviceaccount:shop:ci", &[])).unwrap();
        assert_eq!(
            account.groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:shop",
                "system:authenticated"
            ]
        );
    }
    let refused = act(
        &holding(&[], &[]),
        "dana",
        &Extra::new(),
        &target("erik", &[]),
        false,
    )
    .unwrap_err();
    assert_eq!(
        refused.message,
        r#"users "erik" is forbidden: User "dana" cannot impersonate resource "users" in API group "" at the cluster scope"#
    );
}

#[test]
fn groups_that_say_who_is_authenticated_are_added_once() {
    let done = |user: &str, groups: &[&str]| {
        let all = holding(&["impersonate - *"], &[]);
        act(&all, "dana", &Extra::new(), &target(user, groups), false)
            .unwrap()
            .groups
    };
    assert_eq!(
        done("erik", &["system:authenticated", "a"]),
        ["system:authenticated", "a"]
    );
    assert_eq!(
        done("erik", &["system:unauthenticated"]),
        ["system:unauthenticated"]
    );
    assert_eq!(done("system:anonymous", &[]), ["system:unauthenticated"]);
    assert_eq!(
        done("system:node:n1", &[]),
        ["system:authenticated"],
        "classic knows no nodes"
    );
}

#[test]
fn constrained_impersonation_takes_both_the_identity_and_the_action() {
    let on = "impersonate-on:user-info:list - pods";
    let who = "impersonate:user-info authentication.k8s.io users erik";
    assert_eq!(
        allowed(&[on, who], &target("erik", &[])),
        Some(Mode::UserInfo)
    );
    assert_eq!(allowed(&[on], &target("erik", &[])), None);
    assert_eq!(allowed(&[who], &target("erik", &[])), None);
    assert_eq!(
        allowed(
            &["impersonate-on:user-info:get - pods", who],
            &target("erik", &[])
        ),
        None
    );
    assert_eq!(
        allowed(&[on, "impersonate:user-info - users"], &target("erik", &[])),
        None,
        "not the core group"
    );
    assert_eq!(
        allowed(&[on, who, "impersonate - users"], &target("fay", &[])),
        Some(Mode::Classic)
    );
}

#[test]
fn each_kind_of_user_has_its_own_constrained_verbs() {
    let account = target("system:serviceaccount:shop:ci", &[]);
    let node = target("system:node:n1", &[]);
    let account_rules = [
        "impersonate-on:serviceaccount:list - pods",
        "impersonate:serviceaccount authentication.k8s.io serviceaccounts ci",
    ];
    let node_rules = [
        "impersonate-on:arbitrary-node:list - pods",
        "impersonate:arbitrary-node authentication.k8s.io nodes n1",
    ];
    let user_rules = [
        "impersonate-on:user-info:list - pods",
        "impersonate:user-info authentication.k8s.io *",
    ];
    assert_eq!(
        allowed(&account_rules, &account),
        Some(Mode::ServiceAccount)
    );
    assert_eq!(allowed(&node_rules, &node), Some(Mode::ArbitraryNode));
    assert_eq!(allowed(&user_rules, &account), None);
    assert_eq!(allowed(&user_rules, &node), None);
    assert_eq!(
        allowed(
            &account_rules,
            &target("system:serviceaccount:shop:ci", &["devs"])
        ),
        None,
        "the name only"
    );
    assert_eq!(
        allowed(
            &node_rules,
            &Target {
                uid: "u".into(),
                ..node.clone()
            }
        ),
        None
    );
    let done = act(
        &holding(&node_rules, &[]),
        "dana",
        &Extra::new(),
        &node,
        true,
    )
    .unwrap();
    assert_eq!(done.groups, ["system:nodes", "system:authenticated"]);
    // Not the name of a node, so a user like others.
    assert_eq!(
        allowed(&user_rules, &target("system:node:N 1", &[])),
        Some(Mode::UserInfo)
    );
}

#[test]
fn a_pod_acts_as_its_own_node_only() {
    let agent = "system:serviceaccount:kube-system:agent";
    let agents = [Subject::service_account("kube-system", "agent")];
    let (index, _) = Index::build([
        Object::Role(role(
            "",
            "agent",
            &[
                "impersonate-on:associated-node:list - pods",
                "impersonate:associated-node authentication.k8s.io nodes",
            ],
        )),
        Object::Binding(binding("", "b", "ClusterRole", "agent", &agents)),
    ]);
    let node = "authentication.kubernetes.io/node-name";
    let on = |nodes: &[&str]| {
        Extra::from([(node.to_owned(), nodes.iter().map(|n| (*n).into()).collect())])
    };
    let done = act(
        &index,
        agent,
        &on(&["n1"]),
        &target("system:node:n1", &[]),
        true,
    )
    .unwrap();
    assert_eq!(
        (done.mode, done.user.as_str()),
        (Mode::AssociatedNode, "system:node:n1")
    );
    assert!(
        act(
            &index,
            agent,
            &on(&["n2"]),
            &target("system:node:n1", &[]),
            true
        )
        .is_err()
    );
    assert!(
        act(
            &index,
            agent,
            &on(&["n1", "n1"]),
            &target("system:node:n1", &[]),
            true
        )
        .is_err()
    );
    assert!(
        act(
            &index,
            agent,
            &Extra::new(),
            &target("system:node:n1", &[]),
            true
        )
        .is_err()
    );
    assert!(
        act(
            &index,
            agent,
            &on(&["n1"]),
            &target("system:node:n1", &[]),
            false
        )
        .is_err()
    );
    // Asked for all nodes at once, so that a rule with this node's name does not answer.
    let (named, _) = Index::build([
        Object::Role(role(
            "",
            "agent",
            &[
                "impersonate-on:associated-node:list - pods",
                "impersonate:associated-node authentication.k8s.io nodes n1",
            ],
        )),
        Object::Binding(binding("", "b", "ClusterRole", "agent", &agents)),
    ]);
    assert!(
        act(
            &named,
            agent,
            &on(&["n1"]),
            &target("system:node:n1", &[]),
            true
        )
        .is_err()
    );
}

#[test]
fn superusers_are_only_impersonated_the_classic_way() {
    let constrained = [
        "impersonate-on:user-info:list - pods",
        "impersonate:user-info authentication.k8s.io *",
    ];
    assert_eq!(
        allowed(&constrained, &target("erik", &["system:masters"])),
        None
    );
    assert_eq!(allowed(&constrained, &target("erik", &[""])), None);
    assert_eq!(
        allowed(&constrained, &target("erik", &["devs"])),
        Some(Mode::UserInfo)
    );
    assert_eq!(
        allowed(
            &["impersonate - users,groups"],
            &target("erik", &["system:masters"])
        ),
        Some(Mode::Classic)
    );
    let refused = act(
        &holding(&constrained, &[]),
        "dana",
        &Extra::new(),
        &target("erik", &["system:masters"]),
        true,
    );
    assert!(
        refused
            .unwrap_err()
            .message
            .ends_with("impersonating the system:masters group is not allowed")
    );
}

#[test]
fn many_groups_and_extras_are_asked_for_at_once() {
    let on = "impersonate-on:user-info:list - pods";
    let users = "impersonate:user-info authentication.k8s.io users";
    let star = "impersonate:user-info authentication.k8s.io groups *";
    assert_eq!(
        allowed(&[on, users, star], &target("erik", &["a", "b", "c"])),
        None
    );
    assert_eq!(
        allowed(&[on, users, star], &target("erik", &["a", "b", "c", "d"])),
        Some(Mode::UserInfo)
    );
    let each = "impersonate:user-info authentication.k8s.io groups a,b,c,d";
    assert_eq!(
        allowed(&[on, users, each], &target("erik", &["a", "b", "c", "d"])),
        Some(Mode::UserInfo)
    );

    let extras = "impersonate:user-info authentication.k8s.io userextras/*";
    let with = |values: &[&str]| Target {
        extra: Extra::from([(
            "x.io/scopes".to_owned(),
            values.iter().map(|v| (*v).into()).collect(),
        )]),
        ..target("erik", &[])
    };
    assert_eq!(
        allowed(&[on, users, extras], &with(&["a", "b", "c", "d"])),
        Some(Mode::UserInfo)
    );
    assert_eq!(allowed(&[on, users, extras], &with(&["a"])), None);
    let one = "impersonate:user-info authentication.k8s.io userextras/x.io/scopes a";
    assert_eq!(
        allowed(&[on, users, one], &with(&["a"])),
        Some(Mode::UserInfo)
    );
}

#[test]
fn odd_extra_is_refused_in_the_constrained_kinds() {
    let all = [
        "impersonate-on:user-info:list - pods",
        "impersonate:user-info authentication.k8s.io *",
    ];
    let with = |key: &str, values: &[&str]| Target {
        extra: Extra::from([(key.to_owned(), values.iter().map(|v| (*v).into()).collect())]),
        ..target("erik", &[])
    };
    assert_eq!(allowed(&all, &with("x.io/a", &["1"])), Some(Mode::UserInfo));
    for (key, values) in [
        ("", &["1"][..]),
        ("scopes", &["1"]),
        ("x.io/", &["1"]),
        ("/a", &["1"]),
        ("x_io/a", &["1"]),
        ("x.io/a b", &["1"]),
        ("x.io/A", &["1"]),
        ("x.io/a", &[]),
        ("x.io/a", &["", "1"]),
    ] {
        assert_eq!(
            allowed(&all, &with(key, values)),
            None,
            "{key:?} {values:?}"
        );
    }
}

#[test]
fn the_first_refusal_is_told() {
    let refused = act(
        &holding(&["impersonate-on:user-info:* - *"], &[]),
        "dana",
        &Extra::new(),
        &target("erik", &[]),
        true,
    );
    let refused = refused.unwrap_err();
    assert_eq!(refused.mode, Mode::UserInfo);
    assert_eq!(
        refused.message,
        r#"pods is forbidden: User "dana" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "shop""#
    );
    let on = "impersonate-on:user-info:list - pods";
    let refused = act(
        &holding(&[on], &[]),
        "dana",
        &Extra::new(),
        &target("erik", &[]),
        true,
    )
    .unwrap_err();
    assert_eq!(
        refused.message,
        r#"users.authentication.k8s.io "erik" is forbidden: User "dana" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope"#
    );
}

#[test]
fn headers_name_whom_to_act_as() {
    let read =
        |headers: &[(&'static str, &'static str)]| Target::from_headers(headers.iter().copied());
    let full = read(&[
        ("Impersonate-User", "erik"),
        ("impersonate-group", "a"),
        ("IMPERSONATE-GROUP", "b"),
        ("Impersonate-Uid", "u-1"),
        ("Impersonate-Extra-X.Io%2fScopes", "1"),
        ("Impersonate-Extra-x.io%2Fscopes", "2"),
        ("Impersonate-Extra-bad%zz", "3"),
        ("Accept", "*/*"),
    ]);
    let full = full.unwrap().unwrap();
    assert_eq!((full.user.as_str(), full.uid.as_str()), ("erik", "u-1"));
    assert_eq!(full.groups, ["a", "b"]);
    assert_eq!(full.extra["x.io/scopes"], ["1", "2"]);
    assert_eq!(full.extra["bad%zz"], ["3"]);
    assert_eq!(read(&[("Accept", "*/*")]), Ok(None));
    assert_eq!(read(&[("Impersonate-User", "")]), Ok(None));
    for lonely in [
        "Impersonate-Group",
        "Impersonate-Uid",
        "Impersonate-Extra-scopes",
    ] {
        assert!(read(&[(lonely, "x")]).is_err(), "{lonely}");
        assert!(
            read(&[("Impersonate-User", ""), (lonely, "x")]).is_err(),
            "{lonely}"
        );
    }
    let twice = read(&[("Impersonate-User", "erik"), ("Impersonate-User", "fay")]);
    assert_eq!(
        twice.unwrap().unwrap().user,
        "erik",
        "the first one, as the API server takes it"
    );
}

#[test]
fn all_verbs_of_impersonation_are_known_as_such() {
    for verb in [
        "*",
        "impersonate",
        "impersonate:user-info",
        "impersonate-on:serviceaccount:get",
    ] {
        assert!(is_impersonation_verb(verb), "{verb}");
    }
    for verb in ["get", "impersonated", "Impersonate", ""] {
        assert!(!is_impersonation_verb(verb), "{verb}");
    }
}

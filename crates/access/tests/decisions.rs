//! Decisions and their reasons, as tables.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

mod support;

use countersign_access::{
    AccessDecision, AccessFile, AccessPolicy, AccessScope, AggregatedRules, Catalogue,
    CompiledPolicies, DerivedRules, EntryType, EntryView, FileOptions,
};
use countersign_rbac::{Action, Index, default_objects, read_json};
use support::{action, associations, is_allowed, view};

#[test]
fn worked_decisions() {
    let table = include_str!("golden/decisions.txt");
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(rows.len(), 52);
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [entry, request, expected] = cells.as_slice() else {
            panic!("{row}");
        };
        let allowed = is_allowed(&associations(entry), &action(request));
        let decision = if allowed { "allow" } else { "no-opinion" };
        assert_eq!(decision, *expected, "{row}");
    }
}

/// Reasons are searched for in audit logs, and so are part of the interface.
#[test]
fn reasons_are_eks_own() {
    for (entry, request, reason) in [
        (
            "View@cluster",
            "get pods/log name=web-0 ns=dev",
            r#"EKS Access Policy: allowed by ClusterRoleBinding "arn:aws:iam::111122223333:role/team/Dev+arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy" of ClusterRole "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy" to User "AROADEV0000000000001""#,
        ),
        (
            "View@d*",
            "get pods/log name=web-0 ns=dev",
            r#"EKS Access Policy: allowed by RoleBinding "arn:aws:iam::111122223333:role/team/Dev+arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy/dev" of ClusterRole "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy" to User "AROADEV0000000000001""#,
        ),
        (
            "View@*",
            "get pods ns=a\"b\u{7}",
            r#"EKS Access Policy: allowed by RoleBinding "arn:aws:iam::111122223333:role/team/Dev+arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy/a\"b\u{7}" of ClusterRole "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy" to User "AROADEV0000000000001""#,
        ),
        // The first association in byte order of the policy ARN.
        (
            "View@cluster; Edit@cluster",
            "get pods ns=dev",
            r#"EKS Access Policy: allowed by ClusterRoleBinding "arn:aws:iam::111122223333:role/team/Dev+arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy" of ClusterRole "arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy" to User "AROADEV0000000000001""#,
        ),
        (
            "View@dev",
            "get pods ns=prod",
            r#"EKS Access Policy: no opinion for "AROADEV0000000000001" (policies: AmazonEKSViewPolicy@dev)"#,
        ),
        (
            "View@a,b,c,d,e,f; Edit@cluster",
            "get nodes",
            r#"EKS Access Policy: no opinion for "AROADEV0000000000001" (policies: AmazonEKSEditPolicy@cluster, AmazonEKSViewPolicy@a,b,c,d,+2)"#,
        ),
    ] {
        let associations = associations(entry);
        let action = action(request);
        let decision = CompiledPolicies::builtin()
            .authorize(&view(&associations), &action)
            .to_string();
        assert_eq!(decision, reason);
    }
    let none = view(&[]);
    let action = action("get pods ns=x");
    let decision = CompiledPolicies::builtin()
        .authorize(&none, &action)
        .to_string();
    assert_eq!(
        decision,
        r#"EKS Access Policy: no opinion for "AROADEV0000000000001" (policies: none)"#
    );
    let many: Vec<_> = (0..30).map(|_| associations("View@x")[0].clone()).collect();
    let decision = CompiledPolicies::builtin()
        .authorize(&view(&many), &action)
        .to_string();
    assert!(decision.is_empty() || decision.starts_with("EKS Access Policy: allowed"));
}

#[test]
fn only_standard_and_auto_mode_entries_have_policies() {
    let associations = associations("ClusterAdmin@cluster");
    let action = action("get pods ns=x");
    for entry_type in EntryType::ALL {
        let entry = EntryView {
            entry_type,
            ..view(&associations)
        };
        let decision = CompiledPolicies::builtin().authorize(&entry, &action);
        assert_eq!(decision.is_allowed(), entry_type.takes_policies());
        if !decision.is_allowed() {
            let text = format!("(entries of type {entry_type} have no policies)");
            assert!(decision.to_string().ends_with(&text));
        }
    }
}

#[test]
fn unknown_policies_and_owners_grant_nothing() {
    for arn in [
        "arn:aws:eks::aws:cluster-access-policy/Gone",
        "arn:aws:eks::111122223333:cluster-access-policy/AmazonEKSClusterAdminPolicy",
        "AmazonEKSClusterAdminPolicy",
        "",
        "arn:aws:iam::aws:policy/AdministratorAccess",
        "arn:aws:eks::aws:AmazonEKSClusterAdminPolicy",
    ] {
        let associations = [(arn.to_owned(), AccessScope::Cluster)];
        assert!(
            !is_allowed(&associations, &action("get pods ns=x")),
            "{arn}"
        );
    }
}

fn compiled(text: &str, derived: DerivedRules) -> CompiledPolicies {
    let file = AccessFile::parse("p.yaml", text, &FileOptions::default()).unwrap();
    CompiledPolicies::new(Catalogue::new(file.policies, derived).unwrap())
}

#[test]
fn derived_rules_are_granted_when_switched_on_and_unnamed_objects_never() {
    for (request, entry, off, on) in [
        ("list nodes", "AutoNode@cluster", false, true),
        (
            "update leases.coordination.k8s.io name=x ns=a",
            "Networking@cluster",
            false,
            false,
        ),
        (
            "get leases.coordination.k8s.io name=x ns=a",
            "Networking@cluster",
            false,
            true,
        ),
        (
            "update leases.coordination.k8s.io name=x ns=a",
            "ACK@cluster",
            false,
            false,
        ),
        ("get pods ns=a", "AmazonEMRJobPolicy@cluster", false, false),
        ("get pods ns=a", "View@cluster", true, true),
    ] {
        for (derived, expected) in [(DerivedRules::Off, off), (DerivedRules::On, on)] {
            let policies = compiled("", derived);
            let associations = associations(entry);
            let allowed = policies
                .authorize(&view(&associations), &action(request))
                .is_allowed();
            assert_eq!(allowed, expected, "{entry} {request} {derived:?}");
        }
    }
}

const CUSTOM: &str = r#"
policies:
- name: Widgets
  rules:
  - {apiGroups: [example.com], resources: [widgets], verbs: [get, polish]}
- name: Aggregated
  aggregate: [view]
  rules:
  - {apiGroups: [""], resources: [nodes], verbs: [get]}
"#;

#[test]
fn custom_policies_grant_their_rules_and_those_of_labelled_cluster_roles() {
    let policies = compiled(CUSTOM, DerivedRules::Off);
    let crd_role = br#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"widgets-view",
        "labels":{"rbac.authorization.k8s.io/aggregate-to-view":"true"}},
        "rules":[{"apiGroups":["example.com"],"resources":["gadgets"],"verbs":["list"]}]}"#;
    let mut objects = default_objects().to_vec();
    objects.extend(read_json(crd_role).objects);
    let (index, _) = Index::build(objects);
    let aggregated = AggregatedRules::of(&index);
    let arn = |name: &str| format!("arn:aws:eks::111122223333:cluster-access-policy/{name}");
    for (name, request, own, in_cluster, origin) in [
        (
            "Widgets",
            "polish widgets.example.com ns=a",
            true,
            true,
            "p.yaml:5",
        ),
        ("Widgets", "list gadgets.example.com ns=a", false, false, ""),
        ("Aggregated", "get nodes", true, true, "p.yaml:9"),
        (
            "Aggregated",
            "list gadgets.example.com ns=a",
            false,
            true,
            "Aggregated by ClusterRole widgets-view",
        ),
        (
            "Aggregated",
            "get pods ns=a",
            false,
            true,
            "Aggregated by ClusterRole system:aggregate-to-view",
        ),
        ("Aggregated", "create pods ns=a", false, false, ""),
        ("Aggregated", "get secrets ns=a", false, false, ""),
    ] {
        let associations = [(arn(name), AccessScope::Cluster)];
        let (entry, action) = (view(&associations), action(request));
        assert_eq!(
            policies.authorize(&entry, &action).is_allowed(),
            own,
            "{request}"
        );
        let decision = policies.authorize_in(&aggregated, &entry, &action);
        assert_eq!(decision.is_allowed(), in_cluster, "{request}");
        if let Some(granted) = decision.granted() {
            assert_eq!(granted.rule_origin(policies.catalogue()), origin);
            assert!(granted.rule.rule().allows(&action));
        }
    }
}

fn explained(
    policies: &CompiledPolicies,
    entry: &str,
    action: &Action<'_>,
) -> (Vec<String>, Vec<String>) {
    let associations = associations(entry);
    let view = view(&associations);
    let decision = policies.authorize(&view, action);
    let AccessDecision::NoOpinion(no) = &decision else {
        panic!("{entry} allows it");
    };
    let remedies = no.remedies();
    let named = |policy: &&AccessPolicy| policy.name.to_string();
    // What it says would help does help.
    for remedy in &remedies {
        let arn = format!("arn:aws:eks::aws:cluster-access-policy/{}", remedy.name);
        assert!(is_allowed(&[(arn, no.scope_needed())], action));
    }
    (
        no.nearest(10).iter().map(ToString::to_string).collect(),
        remedies.iter().map(named).collect(),
    )
}

#[test]
fn a_no_says_what_was_nearest_and_what_would_change_it() {
    let policies = CompiledPolicies::builtin();
    for (entry, request, nearest, first_remedy) in [
        (
            "Edit@dev; View@prod",
            "get secrets name=db ns=prod",
            &["AmazonEKSEditPolicy@dev allows it in its own namespaces: add prod to its scope"][..],
            Some("AmazonEKSSecretReaderPolicy"),
        ),
        (
            "View@dev",
            "create pods ns=dev",
            &["AmazonEKSViewPolicy@dev has a rule that fits except for the verb: get, list, watch"],
            Some("AmazonEKSEditPolicy"),
        ),
        (
            "ClusterAdmin@dev",
            "list pods",
            &[
                "AmazonEKSClusterAdminPolicy@dev allows it inside its namespaces, and the request has none: ask for one namespace, or give the policy scope cluster",
            ],
            Some("AmazonEKSViewPolicy"),
        ),
        (
            "ClusterAdmin@dev",
            "get /healthz",
            &[
                "AmazonEKSClusterAdminPolicy@dev allows the path with scope cluster only: give the policy scope cluster",
            ],
            Some("AmazonEKSClusterAdminPolicy"),
        ),
        (
            "ArgoCDCluster@cluster",
            "get customresourcedefinitions.apiextensions.k8s.io name=widgets.example.com",
            &[
                "AmazonEKSArgoCDClusterPolicy@cluster has a rule that fits except for the object name: applications.argoproj.io, applicationsets.argoproj.io, appprojects.argoproj.io",
            ],
            Some("AmazonEKSKROPolicy"),
        ),
        (
            "ACK@cluster",
            "update leases.coordination.k8s.io name=x ns=a",
            &[
                "AmazonEKSACKPolicy@cluster allows it for objects whose names AWS does not publish: write a custom policy that names them",
            ],
            Some("AmazonEKSClusterAdminPolicy"),
        ),
        (
            "AutoNode@cluster",
            "list nodes",
            &[
                "AmazonEKSAutoNodePolicy@cluster allows it in AWS's prose only: switch derived rules on, or write a custom policy",
            ],
            Some("AWSBackupFullAccessPolicyForBackup"),
        ),
        (
            "AmazonEMRJobPolicy@cluster",
            "list nodes",
            &["AmazonEMRJobPolicy@cluster grants nothing: AWS does not publish its permissions"],
            Some("AWSBackupFullAccessPolicyForBackup"),
        ),
        (
            "SecretReader@vault",
            "get pods ns=vault",
            &[
                "AmazonEKSSecretReaderPolicy@vault has a rule that fits except for the resource: secrets",
            ],
            Some("AmazonEKSViewPolicy"),
        ),
        ("SecretReader@vault", "create nodes", &[], None),
    ] {
        let (lines, remedies) = explained(policies, entry, &action(request));
        // The nearest first; what comes behind it is not listed here.
        let first: Vec<&str> = lines.iter().map(String::as_str).take(1).collect();
        assert_eq!(first, nearest, "{entry} {request}");
        if let Some(first) = first_remedy {
            assert_eq!(
                remedies.first().map(String::as_str),
                Some(first),
                "{request}: {remedies:?}"
            );
        }
    }
}

//! Entries as RBAC objects: RBAC answers as the authorizer does, and a cluster is brought there by the fewest changes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

mod support;

use countersign_access::projection::{
    ENTRY_GROUP_PREFIX, MANAGED_BY, ProjectedEntry, diff, entry_group, key_of, project,
};
use countersign_access::{AccessScope, Catalogue, CompiledPolicies, DerivedRules, EntryType};
use countersign_rbac::{
    Action, Change, Index, Manifest, Object, ObjectKey, Request, ResourceAction, User,
    default_objects, validate,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use support::{Association, associations, view};

const NAMESPACES: [&str; 5] = ["dev", "dev-a", "prod", "team-a", "x"];

fn projected<'a>(
    uuid: &'a str,
    associations: &'a [Association],
) -> ProjectedEntry<'a, impl Iterator<Item = (&'a str, &'a AccessScope)>> {
    ProjectedEntry {
        uuid,
        principal_arn: support::PRINCIPAL_ARN,
        entry_type: EntryType::Standard,
        associations: associations
            .iter()
            .map(|(arn, scope)| (arn.as_str(), scope)),
    }
}

fn objects(entries: &[(&str, &str)]) -> Vec<Object> {
    let entries: Vec<(&str, Vec<Association>)> = entries
        .iter()
        .map(|(uuid, text)| (*uuid, associations(text)))
        .collect();
    let entries = entries
        .iter()
        .map(|(uuid, associations)| projected(uuid, associations));
    project(entries, CompiledPolicies::builtin(), None, &NAMESPACES).unwrap()
}

fn names(objects: &[Object]) -> Vec<String> {
    let name = |object: &Object| {
        let metadata = object.metadata();
        format!("{} {}/{}", object.kind(), metadata.namespace, metadata.name)
    };
    objects.iter().map(name).collect()
}

#[test]
fn objects_are_named_labelled_and_valid() {
    let objects = objects(&[
        ("e1", "View@dev*; AdminView@cluster"),
        ("e2", "View@x,none,dev"),
    ]);
    assert_eq!(
        names(&objects),
        [
            "ClusterRole /countersign:policy:AmazonEKSAdminViewPolicy",
            "ClusterRole /countersign:policy:AmazonEKSViewPolicy",
            "ClusterRoleBinding /countersign:entry:e1:AmazonEKSAdminViewPolicy",
            "RoleBinding dev/countersign:entry:e1:AmazonEKSViewPolicy",
            "RoleBinding dev/countersign:entry:e2:AmazonEKSViewPolicy",
            "RoleBinding dev-a/countersign:entry:e1:AmazonEKSViewPolicy",
            "RoleBinding x/countersign:entry:e2:AmazonEKSViewPolicy",
        ]
    );
    for object in &objects {
        assert_eq!(validate(object), []);
        assert_eq!(
            object
                .metadata()
                .labels
                .get(MANAGED_BY.0)
                .map(String::as_str),
            Some(MANAGED_BY.1)
        );
        let manifest = serde_json::to_string(&Manifest::from(object)).unwrap();
        assert!(manifest.contains("\"app.kubernetes.io/managed-by\":\"countersign\""));
    }
    let Object::Binding(binding) = &objects[3] else {
        panic!("a binding");
    };
    assert_eq!(binding.subjects[0].name, "countersign:entry:e1");
    assert_eq!(
        binding.metadata.annotations["countersign.dev/principal-arn"],
        support::PRINCIPAL_ARN
    );
}

#[test]
fn nodes_and_unknown_policies_are_left_out() {
    let associations = [(
        "arn:aws:eks::aws:cluster-access-policy/Gone".to_owned(),
        AccessScope::Cluster,
    )];
    let entry = projected("e", &associations);
    let objects = project([entry], CompiledPolicies::builtin(), None, &NAMESPACES).unwrap();
    assert!(objects.is_empty());
    let associations = support::associations("ClusterAdmin@cluster");
    let entry = ProjectedEntry {
        entry_type: EntryType::HybridLinux,
        ..projected("e", &associations)
    };
    let objects = project([entry], CompiledPolicies::builtin(), None, &NAMESPACES).unwrap();
    assert!(objects.is_empty());
}

#[test]
fn too_many_objects_are_refused() {
    let associations = associations("View@*; Edit@*; Admin@*");
    let namespaces: Vec<String> = (0..2_000).map(|at| format!("n{at}")).collect();
    let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    let uuids: Vec<String> = (0..40).map(|at| format!("e{at}")).collect();
    let entries = uuids.iter().map(|uuid| projected(uuid, &associations));
    let error = project(entries, CompiledPolicies::builtin(), None, &namespaces).unwrap_err();
    assert!(error.to_string().contains("more than 200000 RBAC objects"));
}

fn apply(existing: &mut Vec<Object>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put(object) => {
                existing.retain(|other| key_of(other) != key_of(&object));
                existing.push(object);
            }
            Change::Delete(key) => existing.retain(|other| key_of(other) != key),
        }
    }
}

fn shown(changes: &[Change]) -> Vec<String> {
    let key = |key: &ObjectKey| match key {
        ObjectKey::Role { name, .. } => name.clone(),
        ObjectKey::Binding {
            namespace, name, ..
        } => format!("{namespace}/{name}"),
    };
    let one = |change: &Change| match change {
        Change::Put(object) => format!("put {}", key(&key_of(object))),
        Change::Delete(gone) => format!("delete {}", key(gone)),
    };
    changes.iter().map(one).collect()
}

#[test]
fn differences_are_made_up_for_in_an_order_that_never_grants_too_much() {
    let mut cluster = default_objects().to_vec();
    let foreign = cluster.len();
    let before = objects(&[("e1", "View@dev; Edit@x")]);
    let plan = diff(&cluster, &before);
    assert_eq!(plan.changes.len(), 4);
    apply(&mut cluster, plan.changes);
    assert!(diff(&cluster, &before).changes.is_empty());
    // What others add to our objects stays; what they change in them is put right.
    let ours = cluster.len() - 1;
    if let Object::Binding(binding) = &mut cluster[ours] {
        binding.metadata.labels.insert("team".into(), "a".into());
        binding.metadata.resource_version = "7".into();
        binding.origin = Some("live".into());
    }
    assert!(diff(&cluster, &before).changes.is_empty());
    if let Object::Binding(binding) = &mut cluster[ours] {
        binding
            .subjects
            .push(countersign_rbac::Subject::user("mallory"));
    }
    assert_eq!(
        shown(&diff(&cluster, &before).changes),
        ["put x/countersign:entry:e1:AmazonEKSEditPolicy"]
    );
    // The role of a binding never changes.
    if let Object::Binding(binding) = &mut cluster[ours] {
        binding.role_ref.name = "cluster-admin".into();
    }
    assert_eq!(
        shown(&diff(&cluster, &before).changes),
        [
            "delete x/countersign:entry:e1:AmazonEKSEditPolicy",
            "put x/countersign:entry:e1:AmazonEKSEditPolicy",
        ]
    );
    let after = objects(&[("e1", "View@prod")]);
    let plan = diff(&cluster, &after);
    assert_eq!(
        shown(&plan.changes),
        [
            "delete dev/countersign:entry:e1:AmazonEKSViewPolicy",
            "delete x/countersign:entry:e1:AmazonEKSEditPolicy",
            "put prod/countersign:entry:e1:AmazonEKSViewPolicy",
            "delete countersign:policy:AmazonEKSEditPolicy",
        ]
    );
    apply(&mut cluster, plan.changes);
    assert!(diff(&cluster, &after).changes.is_empty());
    let plan = diff(&cluster, &[]);
    apply(&mut cluster, plan.changes);
    assert_eq!(cluster.len(), foreign);
}

#[test]
fn objects_of_others_are_not_touched_and_their_roles_not_bound() {
    let wanted = objects(&[("e1", "View@dev; Edit@cluster")]);
    let mut cluster = wanted.clone();
    // Somebody else's role under our name, without our label: binding to it would grant whatever it says.
    if let Object::Role(role) = &mut cluster[1] {
        assert_eq!(role.metadata.name, "countersign:policy:AmazonEKSViewPolicy");
        role.metadata.labels.clear();
    }
    // Our label on something of another name: a deployment of ours, for example.
    if let Object::Role(role) = &wanted[0] {
        let mut other = role.clone();
        other.metadata.name = "countersign".into();
        cluster.push(other.into());
    }
    let plan = diff(&cluster, &wanted);
    assert_eq!(
        shown(&plan.changes),
        ["delete dev/countersign:entry:e1:AmazonEKSViewPolicy"]
    );
    assert_eq!(plan.foreign.len(), 1);
    let fresh = diff(&cluster[1..2], &wanted);
    assert_eq!(
        shown(&fresh.changes),
        [
            "put countersign:policy:AmazonEKSEditPolicy",
            "put /countersign:entry:e1:AmazonEKSEditPolicy",
        ]
    );
}

fn entry() -> impl Strategy<Value = Vec<Association>> {
    let names: Vec<String> = Catalogue::builtin()
        .policies()
        .map(|policy| policy.name.to_string())
        .collect();
    let patterns = subsequence(&["dev", "dev-*", "*", "*-a", "nowhere", "prod"][..], 1..=2);
    let scope = prop_oneof![
        Just(AccessScope::Cluster),
        patterns.prop_map(|p| AccessScope::Namespace(p.into_iter().map(Into::into).collect())),
    ];
    let one = (select(names), scope);
    proptest::collection::btree_map(one.clone().prop_map(|(name, _)| name), one, 0..4).prop_map(
        |entries| {
            let arn = |name| format!("arn:aws:eks::aws:cluster-access-policy/{name}");
            let mut all: Vec<Association> = entries
                .into_iter()
                .map(|(name, (_, scope))| (arn(name), scope))
                .collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rbac_over_the_objects_answers_as_the_authorizer(
        first in entry(),
        second in entry(),
        requests in proptest::collection::vec(
            (
                select(&["get", "list", "watch", "create", "update", "delete", "escalate", "impersonate", "*"][..]),
                select(&[
                    ("", "pods", ""), ("", "pods", "log"), ("", "pods", "exec"), ("", "secrets", ""), ("", "nodes", ""),
                    ("", "namespaces", ""), ("apps", "deployments", "scale"), ("", "serviceaccounts", ""),
                    ("rbac.authorization.k8s.io", "clusterroles", ""), ("rbac.authorization.k8s.io", "rolebindings", ""),
                    ("coordination.k8s.io", "leases", ""), ("apiextensions.k8s.io", "customresourcedefinitions", ""),
                    ("s3.services.k8s.aws", "buckets", ""), ("example.com", "widgets", ""), ("*", "*", ""),
                ][..]),
                select(&["", "dev", "dev-a", "prod", "team-a", "x"][..]),
                select(&["", "dev", "applications.argoproj.io", "kube-proxy", "x"][..]),
                select(&["/metrics", "/api", "/apis/apps/v1", "/healthz"][..]),
            ),
            40,
        ),
    ) {
        let catalogue = Catalogue::new([], DerivedRules::On).unwrap();
        let policies = CompiledPolicies::new(catalogue);
        let entries = [projected("e1", &first), projected("e2", &second)];
        let objects = project(entries, &policies, None, &NAMESPACES).unwrap();
        let (index, refused) = Index::build(objects);
        prop_assert!(refused.is_empty());
        for (uuid, associations) in [("e1", &first), ("e2", &second)] {
            let group = entry_group(uuid);
            prop_assert!(group.starts_with(ENTRY_GROUP_PREFIX));
            let groups = ["system:authenticated", group.as_str()];
            for (verb, (api_group, resource, subresource), namespace, name, path) in &requests {
                let resource = Action::Resource(ResourceAction {
                    verb, group: api_group, resource, subresource, namespace, name, ..ResourceAction::default()
                });
                for action in [resource, Action::NonResource { verb, path }] {
                    let user = User::new("someone", &groups[..]);
                    let by_rbac = index.authorize(&Request { user, action }).is_allowed();
                    let view = view(associations);
                    let by_policies = policies.authorize(&view, &action).is_allowed();
                    prop_assert_eq!(by_rbac, by_policies, "{:?}", action);
                }
            }
        }
    }
}

//! Who may make pods in a namespace, for check T10 of trust policies (IRSA spec, section 7).
//!
//! Left open by the specification, and decided here: workloads count like pods, since their controllers make pods of any service
//! account for whoever may write them. Administrators of the whole cluster are not named, who could take the role in other ways;
//! nor is what belongs to the control plane: users of `system:` names, `system:masters`, and service accounts of `kube-system`.

use std::collections::{BTreeMap, BTreeSet};

use countersign_rbac::{Action, Catalog, Index, ResourceAction, Where};
use countersign_sources::rbac::{cluster_client, list};

use super::KubernetesArgs;
use crate::commands::settings;
use crate::report::Failure;

/// What makes pods, by group and resource.
const WORKLOADS: [(&str, &str); 8] = [
    ("", "pods"),
    ("", "replicationcontrollers"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
];

/// Who may make pods in each of these namespaces of the cluster, and what could not be read.
///
/// # Errors
/// When roles and bindings cannot be read at all.
pub(super) fn of_cluster(
    args: &KubernetesArgs,
    namespaces: &BTreeSet<String>,
) -> Result<(BTreeMap<String, Vec<String>>, Vec<String>), Failure> {
    let live = settings::block_on(async {
        let connected = cluster_client(args.kubeconfig.as_deref(), args.context.as_deref()).await;
        let (client, _) = connected.map_err(Failure::usage)?;
        list(&client, None).await.map_err(Failure::unknown)
    })?;
    let unread = live
        .unread
        .iter()
        .map(|unread| unread.reason.to_string())
        .collect();
    let index = live.index();
    let makers = namespaces
        .iter()
        .map(|namespace| (namespace.clone(), makers(&index, namespace)))
        .collect();
    Ok((makers, unread))
}

/// Who may make pods in a namespace, in words.
fn makers(index: &Index, namespace: &str) -> Vec<String> {
    let who = |verb, group, resource, namespace| {
        let action = Action::Resource(ResourceAction {
            verb,
            group,
            resource,
            namespace,
            ..ResourceAction::default()
        });
        let can = index.who_can(&action, Where::ActionNamespace, Catalog::builtin());
        let named = can.granted.iter().filter_map(|chain| {
            let subject = chain.subject()?;
            let of = subject.namespace_in(&chain.binding.metadata.namespace);
            Some((subject.kind.clone(), of.to_owned(), subject.name.clone()))
        });
        named.collect::<BTreeSet<_>>()
    };
    let admins = who("*", "*", "*", "");
    let mut makers = BTreeSet::new();
    for (group, resource) in WORKLOADS {
        makers.extend(who("create", group, resource, namespace));
    }
    makers
        .difference(&admins)
        .filter(|(kind, of, name)| match kind.as_str() {
            "User" => !name.starts_with("system:"),
            "Group" => name != "system:masters" && name != "system:nodes",
            _ => of != "kube-system",
        })
        .map(|(kind, of, name)| match kind.as_str() {
            "ServiceAccount" => format!("{kind} {of}/{name}"),
            _ => format!("{kind} {name}"),
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn role(kind: &str, namespace: &str, name: &str, rule: Value) -> Value {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "rules": [rule]})
    }

    fn binding(kind: &str, namespace: &str, role: (&str, &str), subject: Value) -> Value {
        let name = format!("{}-{}", role.1, subject["name"].as_str().unwrap());
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
            "subjects": [subject]})
    }

    #[test]
    fn those_who_make_pods_are_named_and_administrators_are_not() {
        let all = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
        let deploy =
            json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"]});
        let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "create"]});
        let look = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]});
        let named = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["create"], "resourceNames": ["one"]});
        let (user, group) = (
            |name: &str| json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name}),
            |name: &str| json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name}),
        );
        let account = |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "namespace": namespace, "name": name});
        let everywhere = "ClusterRoleBinding";
        let objects = [
            role("ClusterRole", "", "cluster-admin", all),
            role("ClusterRole", "", "deployer", deploy),
            role("ClusterRole", "", "runner", pods.clone()),
            role("ClusterRole", "", "viewer", look),
            role("ClusterRole", "", "one", named),
            role("Role", "shop", "local", pods),
            binding(
                everywhere,
                "",
                ("ClusterRole", "cluster-admin"),
                group("platform"),
            ),
            binding(everywhere, "", ("ClusterRole", "runner"), group("platform")),
            binding(
                everywhere,
                "",
                ("ClusterRole", "runner"),
                account("kube-system", "job-controller"),
            ),
            binding(
                everywhere,
                "",
                ("ClusterRole", "runner"),
                account("ci", "runner"),
            ),
            binding(
                everywhere,
                "",
                ("ClusterRole", "runner"),
                user("system:kube-scheduler"),
            ),
            binding(
                everywhere,
                "",
                ("ClusterRole", "viewer"),
                group("system:authenticated"),
            ),
            binding(everywhere, "", ("ClusterRole", "one"), user("one")),
            binding(
                "RoleBinding",
                "shop",
                ("ClusterRole", "deployer"),
                group("shop-developers"),
            ),
            binding("RoleBinding", "shop", ("Role", "local"), user("zoe")),
            binding(
                "RoleBinding",
                "meadow",
                ("ClusterRole", "cluster-admin"),
                user("ann"),
            ),
        ];
        let read = objects.map(|object| serde_json::from_value(object).unwrap());
        let (index, refused) = Index::build(read);
        assert!(refused.is_empty());
        let shop = [
            "Group shop-developers",
            "ServiceAccount ci/runner",
            "User zoe",
        ];
        // Who may do everything in one namespace is no administrator of the cluster.
        let meadow = ["ServiceAccount ci/runner", "User ann"];
        assert_eq!(makers(&index, "shop"), shop);
        assert_eq!(makers(&index, "meadow"), meadow);
        assert_eq!(makers(&index, "elsewhere"), ["ServiceAccount ci/runner"]);
        assert!(makers(&Index::default(), "shop").is_empty());
    }
}

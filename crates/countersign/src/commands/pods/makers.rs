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

/// By namespace, in words.
type Makers = BTreeMap<String, Vec<String>>;

/// Who may make pods in each of these namespaces of the cluster, and what could not be read.
///
/// # Errors
/// When roles and bindings cannot be read at all.
pub(super) fn of_cluster(
    args: &KubernetesArgs,
    namespaces: &BTreeSet<String>,
) -> Result<(Makers, Vec<String>), Failure> {
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
    use std::sync::Arc;

    use countersign_rbac::{Binding, BindingKind, Metadata, Object, Role, RoleKind, Subject};
    use serde_json::{Value, json};

    use super::*;

    fn metadata(namespace: &str, name: &str) -> Metadata {
        Metadata {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            ..Metadata::default()
        }
    }

    /// A Role, or a ClusterRole without a namespace.
    fn role(namespace: &str, name: &str, rule: Value) -> Object {
        Object::Role(Role {
            kind: if namespace.is_empty() {
                RoleKind::ClusterRole
            } else {
                RoleKind::Role
            },
            metadata: metadata(namespace, name),
            rules: vec![Arc::new(serde_json::from_value(rule).unwrap())],
            aggregation: None,
            origin: None,
        })
    }

    /// A RoleBinding, or a ClusterRoleBinding without a namespace.
    fn binding(namespace: &str, (kind, name): (&str, &str), subject: Subject) -> Object {
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        Object::Binding(Binding {
            kind: if namespace.is_empty() {
                BindingKind::ClusterRoleBinding
            } else {
                BindingKind::RoleBinding
            },
            metadata: metadata(namespace, &format!("{name}-{}", subject.name)),
            role_ref: serde_json::from_value(role).unwrap(),
            subjects: vec![subject],
            origin: None,
        })
    }

    #[test]
    fn those_who_make_pods_are_named_and_administrators_are_not() {
        let all = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
        let deploy =
            json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"]});
        let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "create"]});
        let look = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]});
        let named = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["create"], "resourceNames": ["one"]});
        let (user, group, account) = (
            |name: &str| Subject::user(name),
            |name: &str| Subject::group(name),
            |namespace: &str, name: &str| Subject::service_account(namespace, name),
        );
        let objects = [
            role("", "cluster-admin", all),
            role("", "deployer", deploy),
            role("", "runner", pods.clone()),
            role("", "viewer", look),
            role("", "one", named),
            role("shop", "local", pods),
            binding("", ("ClusterRole", "cluster-admin"), group("platform")),
            binding("", ("ClusterRole", "runner"), group("platform")),
            binding(
                "",
                ("ClusterRole", "runner"),
                account("kube-system", "job-controller"),
            ),
            binding("", ("ClusterRole", "runner"), account("ci", "runner")),
            binding("", ("ClusterRole", "runner"), user("system:kube-scheduler")),
            binding("", ("ClusterRole", "viewer"), group("system:authenticated")),
            binding("", ("ClusterRole", "one"), user("one")),
            binding(
                "shop",
                ("ClusterRole", "deployer"),
                group("shop-developers"),
            ),
            binding("shop", ("Role", "local"), user("zoe")),
            binding("meadow", ("ClusterRole", "cluster-admin"), user("ann")),
        ];
        let (index, refused) = Index::build(objects);
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

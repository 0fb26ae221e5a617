//! Custom access policies with `aggregate` on a real kube-apiserver: what ClusterRoles add, through the authorizer and as RBAC
//! objects.

use serde_json::{Value, json};

use crate::cluster::{ADMIN_TOKEN, assets};
use crate::cluster_access::{Lab, flags, forbidden};
use crate::harness::aws_cli;
use crate::projection::{Again, applied, is_told, manifest, until};

const POLICIES: &str = "policies:
- name: Gadgets
  aggregate: [view]
  rules:
  - {apiGroups: [apps], resources: [deployments], verbs: [get]}
";

/// A ClusterRole with the label by which `view` collects rules.
fn gadget_role(verbs: &[&str]) -> String {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {
            "name": "gadget-reader",
            "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"},
        },
        "rules": [{"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": verbs}],
    })
    .to_string()
}

#[test]
fn cluster_policies_with_aggregate_follow_the_cluster_roles() {
    const TEST: &str = "cluster_policies_with_aggregate_follow_the_cluster_roles";
    let Some(assets) = assets(TEST) else { return };
    let Some(aws) = aws_cli(TEST) else { return };
    let (again, cluster) = Again::behind(&assets, flags);
    let start = |delivery: &str| again.start(delivery, POLICIES);
    let mut lab = Lab {
        server: start("webhook"),
        cluster,
        aws,
    };
    let dev = lab.user("dev");
    lab.entry(&dev.arn, &[]);
    lab.associate_arn(
        &dev.arn,
        "arn:aws:eks::111122223333:cluster-access-policy/Gadgets",
        "type=cluster",
    );

    // Without the right to read ClusterRoles the policy grants its own rules, and what is missing is told.
    is_told(
        &lab,
        "[!]cluster demo cluster-roles warning: not read, so that policies with `aggregate` grant their own rules only: the API server answers 403",
    );
    lab.until(&dev, &["auth", "can-i", "get", "deployments.apps"], true);
    forbidden(&lab.kubectl(&dev, &["get", "pods"]));

    // With it, what Kubernetes' own `view` collects; what is labelled later joins it, and leaves it again.
    applied(&lab.cluster, &manifest("rbac-aggregate.yaml"));
    is_told(&lab, "[+]cluster demo cluster-roles ok: as of version");
    lab.until(&dev, &["get", "pods"], true);
    forbidden(&lab.kubectl(&dev, &["get", "secrets"]));
    forbidden(&lab.kubectl(&dev, &["get", "persistentvolumes"]));
    applied(&lab.cluster, &gadget_role(&["list"]));
    lab.until(&dev, &["get", "persistentvolumes"], true);
    lab.as_admin(&["delete", "clusterrole", "gadget-reader"]);
    forbidden(&lab.until(&dev, &["get", "persistentvolumes"], false));
    lab.until(&dev, &["get", "pods"], true);

    // As RBAC objects they hold the same.
    applied(&lab.cluster, &manifest("rbac-projection.yaml"));
    lab.server.stop();
    lab.server = start("both");
    applied(&lab.cluster, &gadget_role(&["list", "watch"]));
    let verbs_on_volumes = || -> Vec<Value> {
        let written = lab.cluster.kubectl(
            ADMIN_TOKEN,
            &[
                "get",
                "clusterrole",
                "countersign:policy:Gadgets",
                "-o",
                "json",
            ],
        );
        let written: Value = serde_json::from_slice(&written.stdout).unwrap_or_default();
        let rules = written["rules"].as_array().cloned().unwrap_or_default();
        let of_volumes = |rule: &Value| {
            rule["resources"]
                .as_array()
                .is_some_and(|all| all.contains(&json!("persistentvolumes")))
        };
        rules
            .into_iter()
            .filter(of_volumes)
            .map(|rule| rule["verbs"].clone())
            .collect()
    };
    until(
        "the rule of the ClusterRole",
        &lab,
        || match verbs_on_volumes() {
            verbs if verbs == [json!(["list", "watch"])] => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    lab.as_admin(&["delete", "clusterrole", "gadget-reader"]);
    until("the rule gone", &lab, || match verbs_on_volumes() {
        verbs if verbs.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

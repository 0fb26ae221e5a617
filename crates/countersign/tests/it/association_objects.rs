//! Associations as objects of a real kube-apiserver, both ways, with the permissions of the manifests and no other.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::cluster_access::{Lab, text};
use crate::harness::{aws_cli, client, countersign};
use crate::mutate_api::{pod, review};
use crate::mutate_lab::Caller;
use crate::pod_credentials::Signer;
use crate::projection::{Again, applied, is_told, manifest, until};

const KIND: &str = "podidentityassociations.eks.countersign.dev";
const AUDIENCE: &str = "pods.eks.amazonaws.com";
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}]}"#;

fn role(name: &str) -> String {
    format!("arn:aws:iam::111122223333:role/pods/{name}")
}

fn section(mode: &str) -> String {
    format!(
        "  podIdentityAssociations:\n    customResources: \"{mode}\"\n{}  podIdentityWebhook: {{associationsFrom: crd, reconcile: false}}\n  issuer: {{boundCheck: \"off\"}}\n",
        match mode {
            "off" => "",
            _ =>
                "    allow:\n    - {namespaces: [orchard], roles: [\"arn:aws:iam::111122223333:role/pods/*\"]}\n",
        }
    )
}

/// An object in `orchard`.
fn object(name: &str, spec: Value) -> String {
    json!({
        "apiVersion": "eks.countersign.dev/v1alpha1", "kind": "PodIdentityAssociation",
        "metadata": {"name": name, "namespace": "orchard"}, "spec": spec,
    })
    .to_string()
}

fn create(cluster: &Cluster, manifest: &str) -> Output {
    let path = cluster.file("object.json");
    std::fs::write(&path, manifest).unwrap();
    cluster.kubectl(ADMIN_TOKEN, &["create", "-f", path.to_str().unwrap()])
}

fn get(lab: &Lab, name: &str) -> Option<Value> {
    let args = ["get", KIND, name, "-n", "orchard", "-o", "json"];
    let output = lab.cluster.kubectl(ADMIN_TOKEN, &args);
    serde_json::from_slice(&output.stdout).ok()
}

/// Waits until a condition of an object is true, for this reason; gives the object.
fn becomes(lab: &Lab, name: &str, condition: &str, reason: &str) -> Value {
    until(&format!("{name} {condition} {reason}"), lab, || {
        let object = get(lab, name).unwrap_or_default();
        let conditions = object["status"]["conditions"].as_array().cloned();
        let is = conditions.unwrap_or_default().iter().any(|one| {
            one["type"] == condition && one["status"] == "True" && one["reason"] == reason
        });
        if is {
            Ok(object)
        } else {
            Err(object.to_string())
        }
    })
}

/// The associations of the cluster as the EKS API lists them.
fn listed(lab: &Lab) -> Vec<Value> {
    let answer = lab.aws(&[
        "eks",
        "list-pod-identity-associations",
        "--cluster-name",
        "demo",
    ]);
    answer["associations"].as_array().unwrap().clone()
}

fn associate(lab: &Lab, account: &str, role_arn: &str) -> Output {
    let args = [
        "eks",
        "create-pod-identity-association",
        "--cluster-name",
        "demo",
        "--namespace",
        "orchard",
        "--service-account",
        account,
        "--role-arn",
        role_arn,
    ];
    client(&lab.aws, &args, &lab.server.aws_environment())
}

/// What EKS Auth answers to a pod of an account: the session's ARN, or the error.
fn credentials(lab: &Lab, signer: &Signer, account: &str) -> Result<String, String> {
    let token = signer.token(account, AUDIENCE);
    let mut args = vec!["eks-auth", "assume-role-for-pod-identity"];
    args.extend(["--cluster-name", "demo", "--token", &token]);
    let output = client(&lab.aws, &args, &lab.server.aws_environment());
    if !output.status.success() {
        return Err(text(&output));
    }
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let arn = answer["assumedRoleUser"]["arn"].as_str();
    Ok(arn.unwrap().to_owned())
}

fn gives(lab: &Lab, signer: &Signer, account: &str, expected: &str) {
    until(
        &format!("{account} gets {expected}"),
        lab,
        || match credentials(lab, signer, account) {
            Ok(arn) if arn.contains(expected) => Ok(()),
            Err(error) if error.contains(expected) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
}

fn delete(lab: &Lab, name: &str) {
    lab.as_admin(&["delete", KIND, name, "-n", "orchard"]);
}

#[test]
fn cluster_objects_are_associations_and_associations_objects() {
    const TEST: &str = "cluster_objects_are_associations_and_associations_objects";
    let Some(assets) = assets(TEST) else { return };
    let Some(aws) = aws_cli(TEST) else { return };
    let (again, cluster) = Again::behind(&assets, |_| Vec::new());
    let start = |mode: &str| again.start_in(tempfile::tempdir().unwrap(), &section(mode));
    let mut lab = Lab {
        server: start("mirror"),
        cluster,
        aws,
    };
    let data = again.first.dir.path().join("data");
    let signer = Signer::of_data(&data, lab.server.field("issuerUrl"));
    for (name, trust) in [
        ("cart", TRUST),
        ("till", TRUST),
        (
            "untrusting",
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}]}"#,
        ),
    ] {
        let mut args = vec!["iam", "create-role", "--path", "/pods/", "--role-name"];
        args.extend([name, "--assume-role-policy-document", trust]);
        lab.aws(&args);
    }
    for namespace in ["orchard", "eks"] {
        lab.as_admin(&["create", "namespace", namespace]);
    }

    // Without the right to watch, and without the CRD: told, and no reason to be away.
    is_told(
        &lab,
        "[!]cluster demo association-objects warning: mirror, 0 objects in force",
    );
    applied(&lab.cluster, &manifest("rbac-pod-identity.yaml"));
    applied(&lab.cluster, &manifest("rbac-association-objects.yaml"));
    is_told(&lab, "the PodIdentityAssociation CRD is not installed");
    until("readiness", &lab, || {
        let ready = lab.server.webhook("GET", "/readyz", &[], b"");
        if ready.status == 200 {
            Ok(())
        } else {
            Err(ready.text())
        }
    });
    applied(
        &lab.cluster,
        &manifest("../podidentityassociation-crd.yaml"),
    );

    // An object gives its account a role, and the EKS API shows whose it is.
    until("the kind", &lab, || {
        let made = create(
            &lab.cluster,
            &object(
                "cart",
                json!({
                    "serviceAccount": "cart", "roleArn": role("cart"), "sessionNameTemplate": "of-{pod}",
                    "durationSeconds": 900, "tags": {"team": "fruit"},
                }),
            ),
        );
        if made.status.success() {
            Ok(())
        } else {
            Err(text(&made))
        }
    });
    let made = becomes(&lab, "cart", "Accepted", "InForce");
    gives(&lab, &signer, "cart", "assumed-role/cart/");
    let id = made["status"]["associationId"].as_str().unwrap().to_owned();
    let described = lab.aws(&[
        "eks",
        "describe-pod-identity-association",
        "--cluster-name",
        "demo",
        "--association-id",
        &id,
    ]);
    let described = &described["association"];
    assert_eq!(
        described["associationArn"],
        made["status"]["associationArn"]
    );
    assert_eq!(described["tags"], json!({"team": "fruit"}));
    let owner = described["ownerArn"].as_str().unwrap();
    assert!(
        owner.ends_with("podidentityassociation-object/demo/orchard/cart"),
        "{owner}"
    );
    for change in [
        [
            "update-pod-identity-association",
            "--role-arn",
            &role("till"),
        ]
        .as_slice(),
        &["delete-pod-identity-association"],
    ] {
        let mut args = vec!["eks", change[0]];
        args.extend(["--cluster-name", "demo", "--association-id", &id]);
        args.extend(&change[1..]);
        let output = client(&lab.aws, &args, &lab.server.aws_environment());
        assert!(
            text(&output).contains("belongs to the PodIdentityAssociation orchard/cart"),
            "{}",
            text(&output)
        );
    }
    // The admission webhook learns from the same objects.
    let mut caller = Caller::new(
        &lab.server.field("webhookUrl"),
        Path::new(&lab.server.field("webhookCaFile")),
    );
    let mut decision = |account: &str| -> Value {
        let body = review("orchard", &pod("p", account));
        let (_, answer) = caller.post("/mutate?timeout=10s", &body).unwrap();
        answer["response"]["auditAnnotations"]["decision"].clone()
    };
    until("the webhook", &lab, || match decision("cart") {
        decided if decided == "association" => Ok(()),
        decided => Err(decided.to_string()),
    });
    assert_eq!(decision("till"), "none");

    // A change counts, and what an operator did not list, or a role does not trust, gives nothing.
    let patch = |name: &str, spec: Value| {
        let patch = json!({ "spec": spec }).to_string();
        lab.as_admin(&[
            "patch",
            KIND,
            name,
            "-n",
            "orchard",
            "--type=merge",
            "-p",
            &patch,
        ]);
    };
    patch("cart", json!({"roleArn": role("till")}));
    gives(&lab, &signer, "cart", "assumed-role/till/");
    patch(
        "cart",
        json!({"roleArn": "arn:aws:iam::111122223333:role/admin"}),
    );
    becomes(&lab, "cart", "Refused", "RoleNotAllowed");
    gives(&lab, &signer, "cart", "ResourceNotFoundException");
    patch("cart", json!({"roleArn": role("untrusting")}));
    becomes(&lab, "cart", "Refused", "RoleNotTrusting");
    patch("cart", json!({"roleArn": role("cart")}));
    becomes(&lab, "cart", "Accepted", "InForce");
    gives(&lab, &signer, "cart", "assumed-role/cart/");
    // The schema refuses what cannot be meant.
    for (spec, told) in [
        (
            json!({"serviceAccount": "x", "roleArn": role("cart"), "policy": "{}"}),
            "policy needs disableSessionTags",
        ),
        (
            json!({"serviceAccount": "x", "roleArn": "admin"}),
            "spec.roleArn",
        ),
        (
            json!({"serviceAccount": "x", "roleArn": role("cart"), "targetRoleArn": role("till"), "durationSeconds": 7200}),
            "at most 3600 seconds",
        ),
    ] {
        let refused = create(&lab.cluster, &object("x", spec));
        assert!(
            !refused.status.success() && text(&refused).contains(told),
            "{}",
            text(&refused)
        );
    }

    // The older object counts; when it goes, the younger.
    let second = object(
        "second",
        json!({"serviceAccount": "cart", "roleArn": role("till")}),
    );
    assert!(create(&lab.cluster, &second).status.success());
    let told = becomes(&lab, "second", "Conflict", "Older");
    assert!(
        told.to_string()
            .contains("the older object cart is for the same service account"),
        "{told}"
    );
    gives(&lab, &signer, "cart", "assumed-role/cart/");
    let refused = associate(&lab, "cart", &role("till"));
    assert!(
        text(&refused).contains("ResourceInUseException"),
        "{}",
        text(&refused)
    );
    delete(&lab, "cart");
    gives(&lab, &signer, "cart", "assumed-role/till/");
    delete(&lab, "second");
    gives(&lab, &signer, "cart", "ResourceNotFoundException");
    assert!(listed(&lab).is_empty());

    // What the EKS API has made is shown as an object, and stays what it is.
    let output = associate(&lab, "till", &role("till"));
    assert!(output.status.success(), "{}", text(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mirror = answer["association"]["associationId"].as_str().unwrap();
    let shown = becomes(&lab, mirror, "Accepted", "Mirror");
    assert_eq!(
        shown["spec"],
        json!({"serviceAccount": "till", "roleArn": role("till")})
    );
    assert_eq!(
        shown["metadata"]["labels"]["eks.countersign.dev/mirror"],
        "true"
    );
    patch(
        mirror,
        json!({"roleArn": role("cart"), "disableSessionTags": true}),
    );
    lab.as_admin(&[
        "label",
        KIND,
        mirror,
        "-n",
        "orchard",
        "eks.countersign.dev/mirror-",
    ]);
    let is_as_before = |lab: &Lab| {
        until("the mirror is as before", lab, || {
            let now = get(lab, mirror).unwrap_or_default();
            let same = now["spec"] == shown["spec"]
                && now["metadata"]["labels"] == shown["metadata"]["labels"];
            if same { Ok(()) } else { Err(now.to_string()) }
        });
    };
    is_as_before(&lab);
    delete(&lab, mirror);
    is_as_before(&lab);
    gives(&lab, &signer, "till", "assumed-role/till/");
    let rival = object(
        "rival",
        json!({"serviceAccount": "till", "roleArn": role("cart")}),
    );
    assert!(create(&lab.cluster, &rival).status.success());
    let told = becomes(&lab, "rival", "Conflict", "Older");
    assert!(
        told.to_string()
            .contains(&format!("the association {mirror} of the EKS API")),
        "{told}"
    );
    is_told(
        &lab,
        "[+]cluster demo association-objects ok: mirror, 0 objects in force, 1 in conflict, 0 refused, 1 mirrors",
    );
    let metrics = lab.server.webhook("GET", "/metrics", &[], b"").text();
    for line in [
        "countersign_association_objects{cluster=\"demo\",state=\"conflict\"} 1\n",
        "countersign_association_objects{cluster=\"demo\",state=\"mirror\"} 1\n",
        "countersign_webhook_associations{cluster=\"demo\",source=\"crd\"} 1\n",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    lab.aws(&[
        "eks",
        "delete-pod-identity-association",
        "--cluster-name",
        "demo",
        "--association-id",
        mirror,
    ]);
    until("the mirror is gone", &lab, || match get(&lab, mirror) {
        None => Ok(()),
        Some(object) => Err(object.to_string()),
    });
    // And the rival has the account for itself.
    becomes(&lab, "rival", "Accepted", "InForce");
    gives(&lab, &signer, "till", "assumed-role/cart/");

    // The API server is away: what is in force stays.
    lab.cluster.stop_api_server();
    is_told(
        &lab,
        "[!]cluster demo association-objects warning: mirror, 1 objects in force",
    );
    gives(&lab, &signer, "till", "assumed-role/cart/");
    assert_eq!(decision("till"), "association");
    let ready = lab.server.webhook("GET", "/readyz", &[], b"");
    assert_eq!(ready.status, 200, "{}", ready.text());

    // Switched off, associations of objects belong to the EKS API, and stay in force.
    lab.server.stop();
    lab.server = start("off");
    until("the association is nobody's", &lab, || {
        let all = listed(&lab);
        match all.as_slice() {
            [one] if one["ownerArn"].is_null() => Ok(()),
            _ => Err(format!("{all:?}")),
        }
    });
    gives(&lab, &signer, "till", "assumed-role/cart/");
}

#[test]
fn objects_need_a_cluster_of_the_eks_api_and_lists_that_can_be_meant() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    let common = format!(
        "  healthListen: \"off\"\n  awsListen: 127.0.0.1:0\n  identity: embedded\n  dataDir: {path}/data\n"
    );
    for (command, config, expected) in [
        (
            "up",
            "countersign:\n  podIdentityAssociations: {customResources: sideways}\n".to_owned(),
            "`countersign.podIdentityAssociations.customResources`\n  cause: `sideways` is not `off`, `read` or `mirror`",
        ),
        (
            "up",
            "countersign:\n  podIdentityAssociations: {customResources: read}\n".to_owned(),
            "which needs the Kubernetes API\n  cause: no kubeconfig is configured",
        ),
        (
            "up",
            "countersign:\n  podIdentityAssociations: {allow: [{namespaces: [a], roles: [\"*\"]}]}\n".to_owned(),
            "`countersign.podIdentityAssociations.customResources` does not stand there",
        ),
        (
            "up",
            "countersign:\n  podIdentityAssociations: {customResources: read, allow: [{namespaces: [a]}]}\n".to_owned(),
            "`countersign.podIdentityAssociations.allow`\n  cause: rule 1 names no namespace or no role",
        ),
        (
            "serve",
            format!("clusterID: demo\ncountersign:\n  podIdentityAssociations: {{customResources: read}}\n{common}"),
            "`countersign.podIdentityAssociations.customResources` is `read`, and the cluster is not one of the EKS API",
        ),
        (
            "serve",
            format!("clusterID: demo\ncountersign:\n{common}  clusters: {{west: {{podIdentityAssociations: {{customResources: mirror}}}}}}\n"),
            "`countersign.clusters.west.podIdentityAssociations.customResources` is `mirror`, which needs the Kubernetes API\n  cause: there is no kubeconfig",
        ),
    ] {
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, &config).unwrap();
        let data = dir.path().join("up").display().to_string();
        let state = dir.path().join("state").display().to_string();
        let mut args = vec![command, "--config", file.to_str().unwrap()];
        match command {
            "up" => args.extend([
                "--data-dir",
                &data,
                "--listen",
                "127.0.0.1:0",
                "--webhook-listen",
                "127.0.0.1:0",
            ]),
            _ => args.extend(["--state-dir", &state, "--port", "0"]),
        }
        let output = countersign(&args, &Default::default());
        let told = text(&output);
        assert!(
            !output.status.success() && told.contains(expected),
            "{command} with {config}: {told}"
        );
    }
}

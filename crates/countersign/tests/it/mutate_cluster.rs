//! The admission webhook with a real kube-apiserver, and the permissions of the manifests.

use std::path::Path;
use std::time::Instant;

use base64::Engine as _;
use countersign_client::mutating_webhook::{FailurePolicy, NAME, ReachedBy, Registration};
use serde_json::{Value, json};

use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::harness::{Running, aws_cli, client};
use crate::mutate::{ready, until};
use crate::mutate_api::{ROLE, pod};

/// Both modes through a real kube-apiserver.
#[test]
fn cluster_pods_come_back_with_credentials() {
    const TEST: &str = "cluster_pods_come_back_with_credentials";
    let Some(assets) = assets(TEST) else { return };
    let Some(aws) = aws_cli(TEST) else { return };
    let audit = tempfile::tempdir().unwrap();
    let policy = audit.path().join("policy.yaml");
    std::fs::write(
        &policy,
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- {level: Metadata, resources: [{group: \"\", resources: [pods]}]}\n- {level: None}\n",
    )
    .unwrap();
    let audit_log = audit.path().join("audit.log");
    let cluster = Cluster::start(
        &assets,
        &[
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", audit_log.display()),
        ],
    );
    // With the permissions of the manifests, and no other.
    for namespace in ["eks", "orchard"] {
        until("a namespace", || {
            let output = cluster.kubectl(ADMIN_TOKEN, &["create", "namespace", namespace]);
            if output.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into_owned())
            }
        });
    }
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes");
    for manifest in ["rbac.yaml", "rbac-pod-identity.yaml"] {
        let path = deploy.join(manifest).display().to_string();
        until(manifest, || {
            let output = cluster.kubectl(ADMIN_TOKEN, &["apply", "-f", &path]);
            if output.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into_owned())
            }
        });
    }
    let robot = ["create", "token", "countersign", "-n", "kube-system"];
    let token = String::from_utf8(cluster.kubectl(ADMIN_TOKEN, &robot).stdout).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    std::fs::write(
        &config,
        format!(
            "server:\n  kubeconfig: {}\ncountersign:\n  podIdentityWebhook: {{webhookConfiguration: countersign-pod-identity, resyncPeriod: 2s, watchConfigMap: true}}\n",
            cluster.kubeconfig("countersign", token.trim()).display()
        ),
    )
    .unwrap();
    let config = config.display().to_string();
    let server = Running::start_in(dir, "up", &["--config", &config]);
    ready(&server);
    let kubectl = |args: &[&str]| {
        let output = cluster.kubectl(ADMIN_TOKEN, args);
        assert!(
            output.status.success(),
            "{args:?}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            server.log_tail()
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let apply = |object: &Value| {
        let path = cluster.file("object.json");
        std::fs::write(&path, object.to_string()).unwrap();
        kubectl(&["create", "-o", "json", "-f", path.to_str().unwrap()])
    };
    // The registration as it is generated, with a caBundle that is not ours: the server puts its own beside it.
    let manifest = Registration {
        name: NAME.to_owned(),
        reached_by: ReachedBy::Url(format!("{}/mutate", server.field("webhookUrl"))),
        ca_bundle_pem: std::fs::read_to_string(cluster.file("ca.crt")).unwrap(),
        failure_policy: FailurePolicy::Fail,
    };
    let path = cluster.file("registration.yaml");
    std::fs::write(&path, manifest.render()).unwrap();
    kubectl(&["create", "-f", path.to_str().unwrap()]);
    let ca = std::fs::read_to_string(server.field("webhookCaFile")).unwrap();
    let bundle = until("caBundle", || {
        let text = kubectl(&[
            "get",
            "mutatingwebhookconfiguration",
            "countersign-pod-identity",
            "-o",
            "json",
        ]);
        let registration: Value = serde_json::from_str(&text).unwrap();
        let bundle = registration["webhooks"][0]["clientConfig"]["caBundle"]
            .as_str()
            .unwrap();
        let bundle = base64::engine::general_purpose::STANDARD
            .decode(bundle)
            .unwrap();
        let bundle = String::from_utf8(bundle).unwrap();
        if bundle.starts_with(&ca) {
            Ok(bundle)
        } else {
            Err(bundle)
        }
    });
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2);

    let account = |name: &str, annotations: Value| {
        apply(&json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": "orchard", "annotations": annotations},
        }));
    };
    account("picker", json!({"eks.amazonaws.com/role-arn": ROLE}));
    account("packer", Value::Null);
    let mut environment = server.aws_environment();
    environment.insert("AWS_PAGER".into(), String::new());
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}]}"#;
    let aws = |args: &[&str]| {
        let output = client(&aws, args, &environment);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or(Value::Null)
    };
    aws(&[
        "iam",
        "create-role",
        "--role-name",
        "packing",
        "--assume-role-policy-document",
        trust,
    ]);
    let made = aws(&[
        "eks",
        "create-pod-identity-association",
        "--cluster-name",
        "demo",
        "--namespace",
        "orchard",
        "--service-account",
        "packer",
        "--role-arn",
        "arn:aws:iam::111122223333:role/packing",
    ]);
    let association = made["association"]["associationId"]
        .as_str()
        .unwrap()
        .to_owned();

    let object = |name: &str, account: &str, labels: Value| {
        let mut object = pod(name, account);
        object["metadata"]["namespace"] = json!("orchard");
        object["metadata"]["labels"] = labels;
        object["spec"]
            .as_object_mut()
            .unwrap()
            .remove("futureField");
        let container = &mut object["spec"]["containers"][0];
        container.as_object_mut().unwrap().remove("futureField");
        // What a webhook with compiled-in types of some years ago would lose.
        container["startupProbe"] = json!({"grpc": {"port": 4600}});
        object["spec"]["initContainers"] =
            json!([{"name": "mesh", "image": "y", "restartPolicy": "Always"}]);
        object
    };
    let created = |object: &Value| -> Value { serde_json::from_str(&apply(object)).unwrap() };
    let names = |container: &Value| -> Vec<String> {
        let env = container["env"].as_array().cloned().unwrap_or_default();
        env.iter()
            .map(|v| v["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let by_irsa = created(&object("irsa", "picker", Value::Null));
    let by_association = created(&object("association", "packer", json!({"app": "x"})));
    let skip = json!({"eks.amazonaws.com/skip-pod-identity-webhook": "true"});
    let skipped = created(&object("skipped", "picker", skip));
    for (pod, volume, variables, token) in [
        (
            &by_irsa,
            "aws-iam-token",
            ["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"],
            "sts.amazonaws.com",
        ),
        (
            &by_association,
            "eks-pod-identity-token",
            [
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            ],
            "pods.eks.amazonaws.com",
        ),
    ] {
        let spec = &pod["spec"];
        for container in [&spec["containers"][0], &spec["initContainers"][0]] {
            assert_eq!(names(container), variables, "{pod}");
            let mounts = container["volumeMounts"].as_array().unwrap();
            assert!(mounts.iter().any(|mount| mount["name"] == volume), "{pod}");
        }
        assert_eq!(spec["containers"][0]["startupProbe"]["grpc"]["port"], 4600);
        assert_eq!(spec["initContainers"][0]["restartPolicy"], "Always");
        assert_eq!(spec["volumes"][0]["name"], volume);
        let source = &spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
        assert_eq!(source["audience"], token);
    }
    assert_eq!(
        by_association["metadata"]["labels"]["eks.amazonaws.com/pod-identity"],
        "enabled"
    );
    assert_eq!(by_association["metadata"]["labels"]["app"], "x");
    assert!(by_irsa["metadata"]["labels"].is_null());
    assert!(names(&skipped["spec"]["containers"][0]).is_empty());
    // The API server took the annotation's name, and tells it under that of the webhook.
    let key = "pod-identity-webhook.amazonaws.com/decision";
    for (name, expected) in [("irsa", "irsa:annotation"), ("association", "association")] {
        until("the audit log", || {
            let log = std::fs::read_to_string(&audit_log).unwrap_or_default();
            let mut events = log
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let found = events.any(|event| {
                event["objectRef"]["name"] == name && event["annotations"][key] == expected
            });
            if found { Ok(()) } else { Err(log) }
        });
    }
    // The pod that asked to be left alone is not reported as missed; one that was made without the webhook is.
    kubectl(&[
        "delete",
        "mutatingwebhookconfiguration",
        "countersign-pod-identity",
    ]);
    until("a pod that was missed", || {
        let name = format!("missed-{}", Instant::now().elapsed().as_nanos());
        let pod = created(&object(&name, "packer", Value::Null));
        if names(&pod["spec"]["containers"][0]).is_empty() {
            Ok(())
        } else {
            Err(name)
        }
    });
    until("an event about it", || {
        let events = kubectl(&["get", "events.events.k8s.io", "-n", "orchard", "-o", "json"]);
        if events.contains("CredentialsNotInjected") {
            Ok(())
        } else {
            Err(events)
        }
    });
    assert!(association.starts_with("a-"));
}

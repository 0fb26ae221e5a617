//! `countersign pods` with the real command: on our EKS API and IAM, on manifests, and on a real kube-apiserver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::harness::{Running, client, countersign, python};

const CONFIG: &str = r#"
countersign:
  webIdentity:
    publicUrl: https://issuer.example
  bootstrap:
    roles:
    - name: cart
      path: /shop/
      trustPolicy: '{"Version": "2012-10-17", "Statement": {"Sid": "Nodes", "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}}}'
    - name: pay
      trustPolicy: '{"Version": "2012-10-17", "Statement": {"Sid": "Nodes", "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}}}'
    - name: node
      trustPolicy: '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}}'
"#;
const CART: &str = "arn:aws:iam::111122223333:role/shop/cart";
const PAY: &str = "arn:aws:iam::111122223333:role/pay";
const NODE: &str = "arn:aws:iam::111122223333:role/node";
const CNI: &str = "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy";

struct Lab {
    server: Running,
    environment: BTreeMap<String, String>,
}

impl Lab {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, CONFIG).unwrap();
        let file = file.display().to_string();
        let server = Running::start_in(dir, "up", &["--config", &file]);
        let mut environment = server.aws_environment();
        environment.insert("HOME".into(), "/nonexistent".into());
        environment.insert("COUNTERSIGN_CLUSTER".into(), "demo".into());
        Self {
            server,
            environment,
        }
    }

    /// Runs `countersign pods`; gives exit code, stdout, stderr.
    fn pods(&self, args: &[&str]) -> (i32, String, String) {
        let mut all = vec!["pods"];
        all.extend(args);
        let output = countersign(&all, &self.environment);
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn wanted(&self, args: &[&str], code: i32, texts: &[&str]) -> String {
        let (got, stdout, stderr) = self.pods(args);
        let log = self.server.log_tail();
        assert_eq!(got, code, "{args:?}\n{stdout}\n{stderr}\n{log}");
        for text in texts {
            assert!(
                stdout.contains(text),
                "{args:?}: no `{text}` in\n{stdout}\n{stderr}"
            );
        }
        stdout
    }

    fn json(&self, args: &[&str], code: i32) -> Value {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        serde_json::from_str(&self.wanted(&all, code, &[])).unwrap()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.server.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

/// Compares with a file of `tests/data/pods`; ids that differ with every run are replaced before.
fn golden(name: &str, text: &str) {
    let mut shown = String::new();
    for (at, word) in text.split("a-").enumerate() {
        let id = word.get(..17).filter(|id| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            at > 0 && id.chars().all(plain)
        });
        shown.push_str(if at > 0 { "a-" } else { "" });
        shown.push_str(id.map_or("", |_| "0123456789abcdefg"));
        shown.push_str(id.map_or(word, |id| &word[id.len()..]));
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/pods")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &shown).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, wanted, "{}", path.display());
}

/// A pod as admission leaves it for EKS Pod Identity.
fn agent_pod(name: &str, account: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "labels": {"eks.amazonaws.com/pod-identity": "enabled"}},
        "spec": {
            "serviceAccountName": account, "nodeName": node,
            "containers": [{
                "name": "app", "image": "example/app",
                "env": [
                    {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"},
                    {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token"},
                ],
                "volumeMounts": [{"name": "eks-pod-identity-token", "readOnly": true, "mountPath": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"}],
            }],
            "volumes": [{"name": "eks-pod-identity-token", "projected": {"sources": [{"serviceAccountToken": {
                "audience": "pods.eks.amazonaws.com", "expirationSeconds": 86400, "path": "eks-pod-identity-token"}}]}}],
        },
    })
}

/// A pod as admission leaves it for IRSA.
fn web_pod(namespace: &str, name: &str, account: &str, role: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "serviceAccountName": account,
            "containers": [{
                "name": "app", "image": "example/app",
                "env": [
                    {"name": "AWS_ROLE_ARN", "value": role},
                    {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"},
                ],
                "volumeMounts": [{"name": "aws-iam-token", "readOnly": true, "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount"}],
            }],
            "volumes": [{"name": "aws-iam-token", "projected": {"sources": [{"serviceAccountToken": {
                "audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token"}}]}}],
        },
    })
}

fn account(namespace: &str, name: &str, role: Option<&str>) -> Value {
    let annotations = match role {
        Some(role) => json!({"eks.amazonaws.com/role-arn": role}),
        None => json!({}),
    };
    json!({"apiVersion": "v1", "kind": "ServiceAccount",
           "metadata": {"namespace": namespace, "name": name, "annotations": annotations}})
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

#[test]
fn an_association_is_planned_made_once_and_changed() {
    let lab = Lab::start();
    let own = ["associate", "-n", "shop", "-s", "cart", "--role", CART];
    let with = |more: &[&'static str]| -> Vec<&str> {
        own.iter().copied().chain(more.iter().copied()).collect()
    };
    lab.wanted(
        &own,
        1,
        &[
            "left out",
            "no statement allows sts:AssumeRole",
            "--create-trust",
        ],
    );
    let plan = lab.wanted(&with(&["--create-trust"]), 1, &["nothing is changed yet"]);
    golden("associate.txt", &plan);
    let done = lab.wanted(
        &with(&["--create-trust", "--yes"]),
        0,
        &["done", "to undo it"],
    );
    golden("associated.txt", &done);
    lab.wanted(&own, 0, &["there"]);
    // Another role is a change, which is asked for.
    let other = [
        "associate",
        "-n",
        "shop",
        "-s",
        "cart",
        "--role",
        PAY,
        "--create-trust",
    ];
    lab.wanted(&other, 1, &["left to you", "--update"]);
    let updated: Vec<&str> = other.iter().copied().chain(["--update", "--yes"]).collect();
    lab.wanted(&updated, 0, &["change association", "done"]);
    lab.wanted(
        &["associate", "-n", "shop", "-s", "cart", "--role", PAY],
        0,
        &["there"],
    );
    for (args, text) in [
        (
            vec!["associate", "-n", "Shop", "-s", "cart", "--role", CART],
            "cannot be a namespace",
        ),
        (
            vec!["associate", "-n", "shop", "-s", "c/art", "--role", CART],
            "cannot be the name",
        ),
        (
            vec![
                "associate",
                "-n",
                "shop",
                "-s",
                "cart",
                "--role",
                CART,
                "--policy",
                "x",
            ],
            "--disable-session-tags",
        ),
    ] {
        let (code, _, stderr) = lab.pods(&args);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(text), "{stderr}");
    }
    lab.wanted(
        &[
            "associate",
            "-n",
            "shop",
            "-s",
            "cart",
            "--role",
            "arn:aws:iam::999988887777:role/x",
        ],
        1,
        &["--target-role"],
    );

    let Some(python) = python("an_association_is_planned_made_once_and_changed") else {
        return;
    };
    let script = r#"
import boto3, json
eks, iam = boto3.client("eks"), boto3.client("iam")
[one] = eks.list_pod_identity_associations(clusterName="demo")["associations"]
print(json.dumps(eks.describe_pod_identity_association(clusterName="demo", associationId=one["associationId"])["association"]["roleArn"]))
print(json.dumps([s.get("Sid") for s in iam.get_role(RoleName="pay")["Role"]["AssumeRolePolicyDocument"]["Statement"]]))
"#;
    let output = client(&python, &["-c", script], &lab.environment);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0], PAY);
    assert_eq!(
        lines[1],
        json!(["Nodes", "AllowEksAuthToAssumeRoleForPodIdentity"])
    );
}

#[test]
fn patterns_and_settings_of_sessions_are_made_changed_and_explained() {
    let lab = Lab::start();
    let all = [
        "associate",
        "-n",
        "sho*",
        "-s",
        "*",
        "--role",
        PAY,
        "--create-trust",
        "--yes",
    ];
    lab.wanted(&all, 0, &["create association", "sho*/*", "done"]);
    let own = [
        "associate",
        "-n",
        "shop",
        "-s",
        "ca*",
        "--role",
        CART,
        "--create-trust",
        "--yes",
    ];
    let settings = [
        "--session-name-template",
        "{namespace}-{pod}",
        "--session-tags",
        "kubernetes-namespace,eks-cluster-arn",
        "--extra-session-tag",
        "team=a=b",
        "--extra-session-tag",
        "app={label:app}",
        "--duration-seconds",
        "900",
    ];
    let full: Vec<&str> = own.iter().chain(&settings).copied().collect();
    let words = "sessions named {namespace}-{pod}, tags kubernetes-namespace eks-cluster-arn, tag app={label:app}, tag team=a=b, for 900 s";
    lab.wanted(&full, 0, &["create association", "shop/ca*", words, "done"]);
    lab.wanted(&full, 0, &["there"]);

    // The pod has the closer one, and is told why.
    let manifests = list(&[
        agent_pod("cart-0", "cart", "node-a"),
        account("shop", "cart", None),
    ]);
    let file = lab.file("pods.json", &manifests);
    let explain = ["explain", "shop/cart-0", "-f", &file];
    let (_, stdout, stderr) = lab.pods(&explain);
    for text in [
        CART,
        "by the pattern shop/ca*: no association names the service account itself",
        "it stands before sho*/* (a-",
    ] {
        assert!(stdout.contains(text), "no `{text}` in\n{stdout}\n{stderr}");
    }

    // What an update does not say is taken away, and the way back says it.
    let bare: Vec<&str> = own.iter().copied().chain(["--update"]).collect();
    let undo = "--session-name-template '{namespace}-{pod}' --session-tags kubernetes-namespace,eks-cluster-arn";
    lab.wanted(
        &bare,
        0,
        &[
            "change association",
            "countersign pods associate",
            undo,
            "--update",
            "done",
        ],
    );
    lab.wanted(&own, 0, &["there"]);

    for (more, code, text) in [
        (["--duration-seconds", "10"], 2, "900..=43200"),
        (["--extra-session-tag", "team"], 2, "write KEY=VALUE"),
        (
            ["--session-name-template", "{nobody}"],
            3,
            "placeholder {nobody}",
        ),
        (["--session-tags", "kubernetes-node"], 3, "none of the six"),
    ] {
        let args: Vec<&str> = own
            .iter()
            .copied()
            .chain(["--update"])
            .chain(more)
            .collect();
        let (got, stdout, stderr) = lab.pods(&args);
        assert_eq!(got, code, "{args:?}\n{stdout}\n{stderr}");
        assert!(
            stdout.contains(text) || stderr.contains(text),
            "{args:?}\n{stdout}\n{stderr}"
        );
    }
    let (code, _, stderr) = lab.pods(&["associate", "-n", "-*", "-s", "x", "--role", CART]);
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn trust_policies_are_printed_applied_and_checked() {
    let lab = Lab::start();
    let irsa = ["trust", "--for", "irsa", "-n", "shop", "-s", "cart"];
    let printed = lab.json(&irsa, 0);
    let provider = printed["Statement"][0]["Principal"]["Federated"]
        .as_str()
        .unwrap();
    assert!(
        provider.starts_with("arn:aws:iam::111122223333:oidc-provider/issuer."),
        "{provider}"
    );
    let offline = [
        "trust",
        "--for",
        "irsa",
        "-n",
        "shop",
        "-s",
        "*",
        "--issuer",
        "https://issuer.example/id/1",
        "--account",
        "111122223333",
    ];
    let mut environment = lab.environment.clone();
    environment.remove("COUNTERSIGN_CLUSTER");
    environment.remove("AWS_ACCESS_KEY_ID");
    let args: Vec<&str> = ["pods"].into_iter().chain(offline).collect();
    let output = countersign(&args, &environment);
    let text = String::from_utf8(output.stdout).unwrap();
    golden("trust-irsa.json", &text);

    let pods = [
        "trust",
        "--for",
        "pod-identity",
        "-n",
        "shop",
        "-s",
        "cart",
        "--role",
        CART,
    ];
    let apply = |more: &[&'static str]| -> Vec<&str> {
        pods.iter().copied().chain(more.iter().copied()).collect()
    };
    lab.wanted(
        &apply(&["--apply"]),
        1,
        &["change trust", "nothing is changed yet"],
    );
    lab.wanted(
        &apply(&["--apply", "--yes"]),
        0,
        &["done", "aws iam update-assume-role-policy --role-name cart"],
    );
    lab.wanted(&apply(&["--apply", "--yes"]), 0, &["there"]);
    let merged = lab.json(&pods, 0);
    assert_eq!(merged["Statement"].as_array().unwrap().len(), 2, "{merged}");
    // The provider does not exist yet.
    let one = lab.file(
        "one.json",
        &printed
            .to_string()
            .replace("StringEquals", "ForAllValues:StringEquals"),
    );
    let text = lab.wanted(
        &["trust", "--check", "--existing", &one],
        1,
        &["T7", "high"],
    );
    assert!(!text.contains("T6"), "{text}");
    let applied = [
        "trust", "--for", "irsa", "-n", "shop", "-s", "cart", "--role", PAY, "--apply", "--yes",
    ];
    lab.wanted(&applied, 0, &["done"]);
    lab.wanted(&["trust", "--check", "--role", PAY], 1, &["T6"]);
    let (code, _, stderr) = lab.pods(&["trust", "--check"]);
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn pods_of_manifests_are_explained() {
    let lab = Lab::start();
    let bare = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "bare"},
        "spec": {"serviceAccountName": "none", "containers": [{"name": "app", "image": "example/app"}]}});
    let mut keys = bare.clone();
    keys["metadata"]["name"] = json!("keys");
    keys["spec"]["containers"][0]["env"] = json!([{"name": "AWS_ACCESS_KEY_ID", "value": "AKIAEXAMPLE"},
        {"name": "AWS_SECRET_ACCESS_KEY", "value": "secret-text"}]);
    let mut skipped = web_pod("shop", "skipped", "cart", CART);
    skipped["metadata"]["annotations"] = json!({"eks.amazonaws.com/skip-containers": "mesh"});
    skipped["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "mesh", "image": "example/mesh"}));
    let file = lab.file(
        "pods.json",
        &list(&[
            account("shop", "none", None),
            account("shop", "cart", Some(CART)),
            account("shop", "pay", None),
            bare,
            keys,
            skipped,
            web_pod("shop", "web", "cart", CART),
            agent_pod("agent", "pay", "node-1"),
        ]),
    );
    let explain = |pod: &'static str| ["explain", pod, "--manifests", file.as_str()];
    let text = lab.wanted(
        &explain("shop/bare"),
        1,
        &["neither an association nor an annotation", "answer: no"],
    );
    golden("explain-bare.txt", &text);
    let text = lab.wanted(&explain("shop/keys"), 0, &["static keys", "answer: yes"]);
    assert!(
        !text.contains("secret-text") && !text.contains("AKIAEXAMPLE"),
        "{text}"
    );
    lab.wanted(
        &explain("shop/web"),
        1,
        &[
            "IAM has no arn:aws:iam::111122223333:oidc-provider/",
            "no statement allows sts:AssumeRoleWithWebIdentity",
        ],
    );
    lab.wanted(&explain("shop/skipped"), 1, &["the pod asks to skip it"]);
    lab.wanted(
        &explain("shop/agent"),
        1,
        &["for an association that is gone"],
    );

    let made = [
        "associate",
        "-n",
        "shop",
        "-s",
        "pay",
        "--role",
        PAY,
        "--create-trust",
        "--yes",
    ];
    lab.wanted(&made, 0, &["done"]);
    let report = lab.json(&explain("shop/agent"), 3);
    assert_eq!(report["answer"], "unknown");
    let step = |name: &str| {
        let steps = report["steps"].as_array().unwrap();
        steps.iter().find(|step| step["step"] == name).unwrap()["status"].clone()
    };
    for (name, status) in [
        ("source", "ok"),
        ("token", "ok"),
        ("role", "ok"),
        ("trust", "ok"),
        ("agent", "unknown"),
    ] {
        assert_eq!(step(name), status, "{name}: {report}");
    }
    assert_eq!(report["containers"][0]["credentials"]["roleArn"], PAY);
    let (code, _, stderr) = lab.pods(&explain("shop/nobody"));
    assert_eq!(code, 1, "{stderr}");
    // Without AWS nothing is a yes or a no.
    let mut environment = lab.environment.clone();
    environment.insert("AWS_ENDPOINT_URL".into(), "http://127.0.0.1:9".into());
    let args = [
        "pods",
        "explain",
        "shop/agent",
        "--manifests",
        file.as_str(),
    ];
    let output = countersign(&args, &environment);
    assert_eq!(
        output.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Applies objects, each with its status where it has one.
fn apply(cluster: &Cluster, dir: &Path, objects: &[Value]) {
    for (at, object) in objects.iter().enumerate() {
        let file = dir.join(format!("object-{at}.json"));
        std::fs::write(&file, object.to_string()).unwrap();
        let file = file.display().to_string();
        kubectl(cluster, &["apply", "-f", &file]);
        let Some(status) = object.get("status") else {
            continue;
        };
        let name = format!(
            "{}/{}",
            object["kind"].as_str().unwrap().to_lowercase(),
            object["metadata"]["name"].as_str().unwrap()
        );
        let namespace = object["metadata"]["namespace"].as_str().unwrap();
        let patch = json!({"status": status}).to_string();
        kubectl(
            cluster,
            &[
                "patch",
                &name,
                "-n",
                namespace,
                "--subresource=status",
                "--type=merge",
                "-p",
                &patch,
            ],
        );
    }
}

fn kubectl(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.kubectl(ADMIN_TOKEN, args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn with_status(mut object: Value, status: Value) -> Value {
    object["status"] = status;
    object
}

#[test]
fn cluster_pods_are_explained_migrated_and_the_cni_gets_its_own_role() {
    const TEST: &str = "cluster_pods_are_explained_migrated_and_the_cni_gets_its_own_role";
    let Some(assets) = assets(TEST) else { return };
    let mut lab = Lab::start();
    let cluster = Cluster::start(&assets, &[]);
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = cluster.admin_kubeconfig().display().to_string();
    lab.environment.insert("KUBECONFIG".into(), kubeconfig);
    kubectl(&cluster, &["create", "namespace", "shop"]);
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    let mut legacy = [
        web_pod("shop", "old-0", "batch", CART),
        web_pod("shop", "old-1", "batch", CART),
    ];
    for (pod, role) in legacy.iter_mut().zip(["pay", "shop/cart"]) {
        pod["metadata"]["annotations"] = json!({"iam.amazonaws.com/role": role});
    }
    let mut single = web_pod("shop", "old-2", "single", CART);
    single["metadata"]["annotations"] = json!({"iam.amazonaws.com/role": "pay"});
    apply(
        &cluster,
        dir.path(),
        &[
            account("shop", "cart", Some(CART)),
            account("shop", "pay", Some(PAY)),
            account("shop", "batch", None),
            account("shop", "single", None),
            web_pod("shop", "cart-0", "cart", CART),
            with_status(agent_pod("pay-0", "pay", "node-1"), ready.clone()),
            legacy[0].clone(),
            legacy[1].clone(),
            single,
        ],
    );

    // IRSA before anything is set up, and after it is.
    lab.wanted(
        &["explain", "shop/cart-0"],
        1,
        &["IAM has no", "answer: no"],
    );
    let provider = ["migrate", "--from", "pod-identity", "--to", "irsa"];
    lab.wanted(
        &[
            "associate",
            "-n",
            "shop",
            "-s",
            "cart",
            "--role",
            CART,
            "--create-trust",
            "--yes",
        ],
        0,
        &["done"],
    );
    let plan = lab.wanted(
        &provider,
        1,
        &["create provider", "change trust", "delete association"],
    );
    assert!(
        plan.contains("there"),
        "the annotation is there already: {plan}"
    );
    lab.wanted(
        &["migrate", "--from", "pod-identity", "--to", "irsa", "--yes"],
        0,
        &["done", "aws eks create-pod-identity-association"],
    );
    let report = lab.json(&["explain", "shop/cart-0"], 0);
    assert_eq!(
        report["containers"][0]["credentials"],
        json!({"kind": "irsa", "roleArn": CART}),
        "{report}"
    );
    let (_, found, stderr) = lab.pods(&["trust", "--check", "--role", CART]);
    assert!(
        (1..=9).all(|number| !found.contains(&format!("  T{number}  "))),
        "{found}{stderr}"
    );

    // And to associations.
    let forth = ["migrate", "--from", "irsa", "--to", "pod-identity"];
    lab.wanted(&forth, 1, &["create association", "shop/cart", "shop/pay"]);
    let done = lab.json(
        &["migrate", "--from", "irsa", "--to", "pod-identity", "--yes"],
        1,
    );
    let states: Vec<&str> = done["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["state"].as_str().unwrap())
        .collect();
    assert!(
        states
            .iter()
            .all(|state| matches!(*state, "done" | "there" | "left")),
        "{done}"
    );
    let again = lab.json(&forth, 1);
    assert!(
        again["steps"]
            .as_array()
            .unwrap()
            .iter()
            .all(|step| step["state"] == "there"),
        "{again}"
    );

    // The agent's node: none, one that is not ready, one that is.
    lab.wanted(
        &["explain", "shop/pay-0"],
        1,
        &["no agent of EKS Pod Identity runs on node node-1"],
    );
    let mut agent = agent_pod("agent-x", "default", "node-1");
    agent["metadata"] = json!({"namespace": "kube-system", "name": "agent-x", "labels": {"app.kubernetes.io/name": "eks-pod-identity-agent"}});
    apply(&cluster, dir.path(), std::slice::from_ref(&agent));
    lab.wanted(&["explain", "shop/pay-0"], 1, &["is not ready"]);
    apply(&cluster, dir.path(), &[with_status(agent, ready.clone())]);
    let text = lab.wanted(
        &["explain", "shop/pay-0"],
        0,
        &[
            "answer: yes",
            "Pod Identity arn:aws:iam::111122223333:role/pay",
        ],
    );
    golden("explain-pod-identity.txt", &text);
    // A pod that still has the old variables is told to be made anew.
    lab.wanted(
        &["explain", "shop/cart-0"],
        0,
        &["which stand before those of the association"],
    );

    // kube2iam: an account with two roles is left out.
    let plan = lab.wanted(
        &["migrate", "--from", "kube2iam", "--to", "pod-identity"],
        1,
        &["split it first", "shop/single"],
    );
    assert!(!plan.contains("create association  shop/batch"), "{plan}");

    add_on(&lab, &cluster, dir.path(), &ready);
}

/// The VPC CNI from the nodes' role to its own.
fn add_on(lab: &Lab, cluster: &Cluster, dir: &Path, ready: &Value) {
    let script = format!(
        "import boto3; boto3.client('iam').attach_role_policy(RoleName='node', PolicyArn='{CNI}')"
    );
    let Some(python) = python("add_on") else {
        return;
    };
    let attached = client(&python, &["-c", &script], &lab.environment);
    assert!(
        attached.status.success(),
        "{}",
        String::from_utf8_lossy(&attached.stderr)
    );
    let template = json!({"metadata": {"labels": {"k8s-app": "aws-node"}}, "spec": {"serviceAccountName": "aws-node",
        "containers": [{"name": "aws-node", "image": "example/cni"}]}});
    let daemon_set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"namespace": "kube-system", "name": "aws-node"},
        "spec": {"selector": {"matchLabels": {"k8s-app": "aws-node"}}, "template": template}});
    apply(
        cluster,
        dir,
        &[account("kube-system", "aws-node", None), daemon_set],
    );
    let enable = [
        "enable-irsa",
        "aws-node",
        "--detach-from-node-role",
        NODE,
        "--timeout",
        "1",
    ];
    let plan = lab.wanted(&enable, 1, &["create role", "detach policy"]);
    golden("enable-irsa.txt", &plan.replace(&issuer_id(&plan), "ID"));
    let run: Vec<&str> = enable.iter().copied().chain(["--yes"]).collect();
    // Nothing is ready: the nodes keep the policy.
    lab.wanted(
        &run,
        3,
        &["wait for", "failed", "not reached", "detach policy"],
    );
    let role = "arn:aws:iam::111122223333:role/demo-aws-node";
    let mut pod = web_pod("kube-system", "aws-node-x", "aws-node", role);
    pod["metadata"]["labels"] = json!({"k8s-app": "aws-node"});
    let text = kubectl(
        cluster,
        &[
            "get",
            "daemonset",
            "aws-node",
            "-n",
            "kube-system",
            "-o",
            "json",
        ],
    );
    let now: Value = serde_json::from_str(&text).unwrap();
    let generation = now["metadata"]["generation"].as_i64().unwrap();
    assert_eq!(generation, 2, "it was restarted once");
    apply(cluster, dir, &[with_status(pod, ready.clone())]);
    let status = json!({"status": {"observedGeneration": generation, "desiredNumberScheduled": 1, "currentNumberScheduled": 1,
        "updatedNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": 1}}).to_string();
    kubectl(
        cluster,
        &[
            "patch",
            "daemonset/aws-node",
            "-n",
            "kube-system",
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ],
    );
    lab.wanted(
        &run,
        0,
        &[
            "detach policy",
            "aws iam attach-role-policy --role-name node",
        ],
    );
    lab.wanted(&enable, 0, &[]);
    let report = lab.json(&["explain", "kube-system/aws-node-x"], 0);
    assert_eq!(report["answer"], "yes");
}

fn issuer_id(text: &str) -> String {
    let (_, rest) = text.split_once("/id/").unwrap();
    rest.chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect()
}

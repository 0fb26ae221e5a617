//! Access policies as RBAC objects: a real kube-apiserver that asks no authorization webhook, and a service account with the role of
//! `deploy/kubernetes/rbac-projection.yaml` that writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::cluster_access::{Lab, Person, forbidden, text};
use crate::harness::{Running, aws_cli, countersign};

const ROBOT: &str = "system:serviceaccount:kube-system:countersign";
/// What people without an access entry get.
const RULES: &str = r#"accessRules:
- name: everyone
  match: {account: "111122223333", everyone: true}
  policies:
  - {policy: AmazonEKSViewPolicy, namespaces: [ruled]}
"#;
const KINDS: &str = "clusterroles,clusterrolebindings,rolebindings";

/// What the API server is started with: the token webhook, RBAC alone, and a record of what the service account does.
fn flags(server: &Running) -> Vec<String> {
    let policy = server.dir.path().join("audit-policy.yaml");
    std::fs::write(
        &policy,
        format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- {{level: Metadata, users: [\"{ROBOT}\"]}}\n- {{level: None}}\n"
        ),
    )
    .unwrap();
    vec![
        format!(
            "--authentication-token-webhook-config-file={}",
            server.field("tokenWebhookKubeconfig")
        ),
        "--authentication-token-webhook-version=v1".into(),
        "--authentication-token-webhook-cache-ttl=1s".into(),
        "--authorization-mode=RBAC".into(),
        format!("--audit-policy-file={}", policy.display()),
        format!(
            "--audit-log-path={}",
            audit_log(server.dir.path()).display()
        ),
    ]
}

fn audit_log(dir: &Path) -> PathBuf {
    dir.join("audit.log")
}

pub fn manifest(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

pub fn until<T>(what: &str, lab: &Lab, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(
                Instant::now() < deadline,
                "{what}: {seen}\n{}",
                lab.server.log_tail()
            ),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// `/readyz?verbose` has a line with `expected`.
pub fn is_told(lab: &Lab, expected: &str) {
    until(expected, lab, || {
        let ready = lab
            .server
            .webhook("GET", "/readyz?verbose", &[], b"")
            .text();
        if ready.contains(expected) {
            Ok(())
        } else {
            Err(ready)
        }
    });
}

fn apply(cluster: &Cluster, manifest: &str) -> Output {
    let path = cluster.file("applied.yaml");
    std::fs::write(&path, manifest).unwrap();
    cluster.kubectl(ADMIN_TOKEN, &["apply", "-f", path.to_str().unwrap()])
}

pub fn applied(cluster: &Cluster, manifest: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        // The API server makes kube-system a moment after it is ready.
        let output = apply(cluster, manifest);
        if output.status.success() {
            return;
        }
        assert!(Instant::now() < deadline, "{}", text(&output));
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// `up` that was started once for the flags of an API server, and is started again with a kubeconfig for it: as the service account of
/// `deploy/kubernetes/rbac.yaml`.
pub struct Again {
    pub first: Running,
    kubeconfig: PathBuf,
    addresses: [String; 2],
}

impl Again {
    pub fn behind(assets: &Path, flags: impl FnOnce(&Running) -> Vec<String>) -> (Self, Cluster) {
        let addresses = [(); 2].map(|()| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        });
        let [listen, webhook] = &addresses;
        let mut first = Running::up(&["--listen", listen, "--webhook-listen", webhook]);
        let cluster = Cluster::start(assets, &flags(&first));
        first.stop();
        applied(&cluster, &manifest("rbac.yaml"));
        let token = cluster.kubectl(
            ADMIN_TOKEN,
            &["create", "token", "countersign", "-n", "kube-system"],
        );
        let token = String::from_utf8(token.stdout).unwrap();
        let kubeconfig = cluster.kubeconfig("countersign", token.trim());
        let again = Self {
            first,
            kubeconfig,
            addresses,
        };
        (again, cluster)
    }

    /// On the same data and addresses, with these custom policies and rules.
    pub fn start(&self, delivery: &str, policies: &str) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policies.yaml");
        std::fs::write(&file, policies).unwrap();
        let section = format!(
            "  accessPolicies: {delivery}\n  access: {{policiesFile: {}}}\n",
            file.display()
        );
        self.start_in(dir, &section)
    }

    /// On the same data and addresses, with these lines of the section `countersign`.
    pub fn start_in(&self, dir: tempfile::TempDir, section: &str) -> Running {
        let config = dir.path().join("config.yaml");
        let text = format!(
            "server:\n  kubeconfig: {}\ncountersign:\n{section}",
            self.kubeconfig.display()
        );
        std::fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        let data = self.first.dir.path().join("data").display().to_string();
        let [listen, webhook] = &self.addresses;
        let args = [
            "--listen",
            listen,
            "--webhook-listen",
            webhook,
            "--data-dir",
            &data,
            "--config",
            &config,
        ];
        Running::start_in(dir, "up", &args)
    }
}

fn entry_id(lab: &Lab, arn: &str) -> String {
    let entry = lab.aws(&[
        "eks",
        "describe-access-entry",
        "--cluster-name",
        "demo",
        "--principal-arn",
        arn,
    ]);
    let arn = entry["accessEntry"]["accessEntryArn"].as_str().unwrap();
    arn.rsplit('/').next().unwrap().to_owned()
}

fn groups(lab: &Lab, person: &Person) -> Vec<String> {
    let output = lab.kubectl(person, &["auth", "whoami", "-o", "json"]);
    let who: Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(who["status"]["userInfo"]["groups"].clone()).unwrap()
}

/// What the service account was seen to do to the kinds of the manifest, whether it was let or not.
fn done(log: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let resource = event["objectRef"]["resource"].as_str().unwrap_or_default();
        if KINDS.split(',').any(|kind| kind == resource) || resource == "namespaces" {
            let verb = event["verb"].as_str().unwrap().to_owned();
            seen.entry(resource.to_owned()).or_default().insert(verb);
        }
    }
    seen
}

#[test]
fn cluster_policies_are_rbac_objects_where_no_webhook_is_asked() {
    const TEST: &str = "cluster_policies_are_rbac_objects_where_no_webhook_is_asked";
    let Some(assets) = assets(TEST) else { return };
    let Some(aws) = aws_cli(TEST) else { return };
    let (again, cluster) = Again::behind(&assets, flags);
    let start = |delivery: &str| again.start(delivery, RULES);
    let mut lab = Lab {
        server: start("projection"),
        cluster,
        aws,
    };
    let admin = Person {
        arn: lab.server.field("admin.arn"),
        environment: lab.server.aws_environment(),
    };
    let admin_id = entry_id(&lab, &admin.arn);

    // Replicas would do no better, so that no problem here makes one unready.
    until("readiness", &lab, || {
        let ready = lab.server.webhook("GET", "/readyz", &[], b"");
        if ready.status == 200 {
            Ok(())
        } else {
            Err(ready.text())
        }
    });
    // The role is enough, and nothing less is: roles need `escalate`, bindings `bind`.
    is_told(
        &lab,
        "[!]cluster demo access-policies warning: projection, RBAC objects not written yet: namespaces: the API server answers 403",
    );
    let role = manifest("rbac-projection.yaml");
    let without = |verb: &str| {
        let less = role.replacen(verb, "", 1);
        assert_ne!(less, role);
        less
    };
    applied(&lab.cluster, &without(", escalate"));
    is_told(
        &lab,
        "ClusterRole countersign:policy:AmazonEKSClusterAdminPolicy: the API server answers 403 Forbidden to a create",
    );
    applied(&lab.cluster, &without(", bind"));
    is_told(
        &lab,
        &format!(
            "ClusterRoleBinding countersign:entry:{admin_id}:AmazonEKSClusterAdminPolicy: the API server answers 403 Forbidden to a create"
        ),
    );
    applied(&lab.cluster, &role);
    is_told(
        &lab,
        "[+]cluster demo access-policies ok: projection, 3 RBAC objects",
    );
    lab.until(&admin, &["get", "nodes"], true);
    assert!(groups(&lab, &admin).contains(&format!("countersign:entry:{admin_id}")));

    // A policy in some namespaces, also in one that is made later.
    for namespace in ["team-a", "other"] {
        lab.as_admin(&["create", "namespace", namespace]);
        lab.as_admin(&["create", "configmap", "settings", "-n", namespace]);
    }
    let viewer = lab.user("viewer");
    lab.entry(&viewer.arn, &[]);
    let viewer_id = entry_id(&lab, &viewer.arn);
    forbidden(&lab.kubectl(&viewer, &["get", "pods", "-n", "team-a"]));
    lab.associate(
        &viewer.arn,
        "AmazonEKSViewPolicy",
        "type=namespace,namespaces=team-*",
    );
    lab.until(&viewer, &["get", "pods", "-n", "team-a"], true);
    for refused in [
        ["delete", "configmap", "settings", "-n", "team-a"].as_slice(),
        &["get", "secrets", "-n", "team-a"],
        &["get", "pods", "-n", "other"],
        &["get", "pods", "-A"],
    ] {
        forbidden(&lab.kubectl(&viewer, refused));
    }
    lab.as_admin(&["create", "namespace", "team-new"]);
    lab.until(&viewer, &["get", "pods", "-n", "team-new"], true);
    let list = |namespace: &str| {
        let output = lab.kubectl(&viewer, &["auth", "can-i", "--list", "-n", namespace]);
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let shown = list("team-a");
    let pods = shown.lines().find(|line| line.starts_with("pods "));
    assert!(
        pods.is_some_and(|line| line.contains("list") && !line.contains("delete")),
        "{shown}"
    );
    let shown = list("other");
    assert!(
        !shown.lines().any(|line| line.starts_with("pods ")),
        "{shown}"
    );

    // Whom an access rule is for.
    lab.as_admin(&["create", "namespace", "ruled"]);
    let ruled = lab.user("ruled");
    lab.until(&ruled, &["get", "pods", "-n", "ruled"], true);
    forbidden(&lab.kubectl(&ruled, &["get", "pods", "-n", "team-a"]));
    forbidden(&lab.kubectl(&viewer, &["get", "pods", "-n", "ruled"]));
    assert!(groups(&lab, &ruled).contains(&"countersign:entry:rule-everyone".to_owned()));

    // Names of others are left to them, and what they are bound to is nobody's business here.
    let editor = lab.user("editor");
    lab.entry(&editor.arn, &[]);
    let editor_id = entry_id(&lab, &editor.arn);
    let taken = [
        (
            "clusterrole",
            "countersign:policy:AmazonEKSEditPolicy".to_owned(),
        ),
        (
            "clusterrolebinding",
            format!("countersign:entry:{editor_id}:AmazonEKSAdminViewPolicy"),
        ),
        (
            "rolebinding",
            format!("countersign:entry:{editor_id}:AmazonEKSAdminPolicy"),
        ),
    ];
    let [(_, role_name), (_, binding), (_, in_namespace)] = &taken;
    lab.as_admin(&[
        "create",
        "clusterrole",
        role_name,
        "--verb=get",
        "--resource=nodes",
    ]);
    lab.as_admin(&[
        "create",
        "clusterrolebinding",
        binding,
        "--clusterrole=view",
    ]);
    lab.as_admin(&[
        "create",
        "rolebinding",
        in_namespace,
        "--clusterrole=view",
        "-n",
        "other",
    ]);
    lab.associate(&editor.arn, "AmazonEKSEditPolicy", "type=cluster");
    lab.associate(&editor.arn, "AmazonEKSAdminViewPolicy", "type=cluster");
    lab.associate(
        &editor.arn,
        "AmazonEKSAdminPolicy",
        "type=namespace,namespaces=other",
    );
    is_told(&lab, "3 of others have names that are needed");
    forbidden(&lab.kubectl(&editor, &["get", "nodes"]));
    forbidden(&lab.kubectl(&editor, &["get", "pods", "-n", "other"]));
    for (kind, name) in &taken {
        let mut delete = vec!["delete", *kind, name];
        if *kind == "rolebinding" {
            delete.extend(["-n", "other"]);
        }
        lab.as_admin(&delete);
    }
    assert!(
        !done(&audit_log(again.first.dir.path()))
            .values()
            .any(|verbs| verbs.contains("patch")),
        "what is as it should be is not written again"
    );

    // What others change is put right with the next look, here when a namespace comes.
    let role_name = "countersign:policy:AmazonEKSViewPolicy";
    let in_cluster = format!("countersign:entry:{admin_id}:AmazonEKSClusterAdminPolicy");
    let in_namespace = format!("countersign:entry:{viewer_id}:AmazonEKSViewPolicy");
    let remove = r#"[{"op":"remove","path":"/rules/0"}]"#;
    lab.as_admin(&[
        "patch",
        "clusterrole",
        role_name,
        "--type=json",
        "-p",
        remove,
    ]);
    let wrong = ["countersign.dev/policy-arn=wrong", "--overwrite"];
    let mut annotate = vec!["annotate", "clusterrolebinding", &in_cluster];
    annotate.extend(wrong);
    lab.as_admin(&annotate);
    let mut annotate = vec!["annotate", "rolebinding", &in_namespace, "-n", "team-a"];
    annotate.extend(wrong);
    lab.as_admin(&annotate);
    lab.as_admin(&["create", "namespace", "team-newer"]);
    lab.until(&viewer, &["get", "pods", "-n", "team-newer"], true);
    lab.until(&editor, &["get", "nodes"], true);
    is_told(&lab, "[+]cluster demo access-policies ok");
    until("annotations", &lab, || {
        let output = lab.cluster.kubectl(
            ADMIN_TOKEN,
            &[
                "get",
                "clusterrolebindings,rolebindings",
                "-A",
                "-o",
                "yaml",
            ],
        );
        let shown = text(&output);
        if shown.contains("wrong") {
            Err(shown)
        } else {
            Ok(())
        }
    });

    let metrics = lab.server.webhook("GET", "/metrics", &[], b"").text();
    for line in [
        "countersign_projection_foreign_objects{cluster=\"demo\",mode=\"projection\"} 0\n",
        "countersign_projection_objects{cluster=\"demo\",mode=\"projection\"} 1",
        "countersign_projection_synced_timestamp_seconds{cluster=\"demo\",mode=\"projection\"} 1",
        "countersign_projection_failures_total{cluster=\"demo\",mode=\"projection\"} ",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }

    // What is taken away is gone.
    lab.aws(&[
        "eks",
        "disassociate-access-policy",
        "--cluster-name",
        "demo",
        "--principal-arn",
        &viewer.arn,
        "--policy-arn",
        "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
    ]);
    forbidden(&lab.until(&viewer, &["get", "pods", "-n", "team-a"], false));
    lab.aws(&[
        "eks",
        "delete-access-entry",
        "--cluster-name",
        "demo",
        "--principal-arn",
        &editor.arn,
    ]);
    is_told(&lab, "projection, 4 RBAC objects");

    // The role has no verb that is of no use.
    let output = lab.cluster.kubectl(
        ADMIN_TOKEN,
        &["get", "clusterrole", "countersign-projection", "-o", "json"],
    );
    let written: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut given: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in written["rules"].as_array().unwrap() {
        for resource in rule["resources"].as_array().unwrap() {
            let verbs = rule["verbs"].as_array().unwrap().iter();
            let verbs = verbs.map(|verb| verb.as_str().unwrap().to_owned());
            let given = given.entry(resource.as_str().unwrap().to_owned());
            given
                .or_default()
                .extend(verbs.filter(|verb| !["escalate", "bind"].contains(&verb.as_str())));
        }
    }
    assert_eq!(done(&audit_log(again.first.dir.path())), given);

    // Back to the webhook: nothing is left, and nobody is in a group of an entry.
    lab.server.stop();
    lab.server = start("webhook");
    is_told(
        &lab,
        "[+]cluster demo access-policies ok: webhook, 0 RBAC objects",
    );
    let left = lab
        .cluster
        .kubectl(ADMIN_TOKEN, &["get", KINDS, "-A", "-o", "name"]);
    assert!(
        left.status.success() && !text(&left).contains("countersign:"),
        "{}",
        text(&left)
    );
    until("groups", &lab, || {
        let groups = groups(&lab, &admin);
        let named = groups.iter().any(|group| group.starts_with("countersign:"));
        if named {
            Err(format!("{groups:?}"))
        } else {
            Ok(())
        }
    });
}

#[test]
fn projection_needs_a_cluster_of_the_eks_api_and_a_way_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    let common = "  healthListen: \"off\"\n  awsListen: 127.0.0.1:0\n";
    let embedded = format!("  identity: embedded\n  dataDir: {path}/data\n{common}");
    for (command, config, expected) in [
        (
            "up",
            "countersign:\n  accessPolicies: sideways\n".to_owned(),
            "`countersign.accessPolicies`\n  cause: `sideways` is not `webhook`, `projection` or `both`",
        ),
        (
            "up",
            "countersign:\n  accessPolicies: projection\n".to_owned(),
            "`countersign.accessPolicies` is `projection`, which needs the Kubernetes API\n  cause: no kubeconfig is configured",
        ),
        (
            "serve",
            format!("clusterID: demo\ncountersign:\n  accessPolicies: both\n{embedded}"),
            "`countersign.accessPolicies` is `both`, and the cluster is not one of the EKS API",
        ),
        (
            "serve",
            format!(
                "clusterID: demo\ncountersign:\n{embedded}  clusters: {{west: {{accessPolicies: both}}}}\n"
            ),
            "`countersign.clusters.west.accessPolicies` is `both`, which needs the Kubernetes API\n  cause: there is no kubeconfig for the cluster",
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
        let output = countersign(&args, &BTreeMap::new());
        let told = text(&output);
        assert!(
            !output.status.success() && told.contains(expected),
            "{command} with {config}: {told}"
        );
    }
}

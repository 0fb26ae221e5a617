//! Roles in the place of instance metadata, from end to end: a real kube-apiserver, `up` as EKS Auth and STS, and `agent run --imds
//! serve` with the permissions of its manifest, in a network namespace in which a pod asks 169.254.169.254 (imds spec, section 5.3).

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::harness::{BINARY, Running, aws_cli, clean_environment, client, countersign, skip};

/// Set in the child that runs inside the namespace.
const INSIDE: &str = "COUNTERSIGN_TEST_INSIDE_NAMESPACE";
const ADDRESS: &str = "10.88.0.1";
const LIST: &str = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";

const CONFIG: &str = r#"
server:
  kubeconfig: KUBECONFIG
countersign:
  podIdentity:
    annotatedRoles: {style: kube2iam, baseArn: "arn:aws:iam::111122223333:role/"}
  bootstrap:
    openIDConnectProviders:
    - {url: "ISSUER", clientIDs: [sts.amazonaws.com]}
    roles:
    - name: irsa-reader
      trustPolicy: |
        {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::111122223333:oidc-provider/PREFIX"},
         "Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{
          "PREFIX:aud":"sts.amazonaws.com","PREFIX:sub":"system:serviceaccount:orchard:reader"}}}]}
    - name: amber
      trustPolicy: |
        {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},
         "Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"StringEquals":{
          "aws:RequestTag/kubernetes-namespace":"orchard","sts:ExternalId":"tenant-7"}}}]}
"#;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: orchard
  annotations: {iam.amazonaws.com/allowed-roles: '["amb*"]'}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: picker, namespace: orchard}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: reader
  namespace: orchard
  annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::111122223333:role/irsa-reader"}
"#;

fn ip(arguments: &str) {
    let done = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {arguments}: {error}");
}

/// Runs the test of this name once more in a new network namespace and returns false; there it returns true.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let can = Command::new("unshare").args(["-n", "ip", "link"]).output();
    let has = |name: &str| Command::new(name).arg("--version").output().is_ok();
    if !can.is_ok_and(|output| output.status.success()) || !has("nft") || !has("curl") {
        skip(test, "it needs root, unshare, ip, nft and curl");
        return false;
    }
    let status = Command::new("unshare")
        .arg("-n")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("imds_roles::{test}"), "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
    false
}

/// The namespace of a pod, behind a veth.
struct Pod(String);

impl Pod {
    fn new() -> Self {
        let name = format!("cs-imds-{}", std::process::id());
        ip("link set lo up");
        ip("addr add 169.254.170.23/32 dev lo");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        ip(&format!("netns add {name}"));
        let pod = Self(name.clone());
        ip(&format!(
            "link add pod1 address 02:00:00:00:01:01 type veth peer name eth0 address 02:00:00:00:01:02 netns {name}"
        ));
        ip("link set pod1 up");
        ip(&format!("-n {name} addr add {ADDRESS}/32 dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!(
            "-n {name} neigh add 169.254.1.1 lladdr 02:00:00:00:01:01 dev eth0 nud permanent"
        ));
        ip(&format!(
            "-n {name} route add default via 169.254.1.1 dev eth0 onlink"
        ));
        ip(&format!("route add {ADDRESS}/32 dev pod1"));
        ip(&format!(
            "neigh replace {ADDRESS} lladdr 02:00:00:00:01:02 dev pod1 nud permanent"
        ));
        pod
    }

    /// Status and body; 0 when there is no answer.
    fn get(&self, url: &str) -> (u16, String) {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.0, "curl", "-s", "--noproxy", "*"])
            .args(["-m", "6", "-w", "\n%{http_code}", url])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

struct Agent {
    process: Child,
    log: std::path::PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Agent {
    fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !is_so() {
            let log = std::fs::read_to_string(&self.log).unwrap();
            assert!(Instant::now() < deadline, "{what}:\n{log}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

fn kubectl(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.kubectl(ADMIN_TOKEN, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn apply(cluster: &Cluster, name: &str, text: &str) {
    let file = cluster.file(name);
    std::fs::write(&file, text).unwrap();
    kubectl(cluster, &["apply", "-f", &file.display().to_string()]);
}

/// A pod of the node, as far as an API server without kubelet has one.
fn make_pod(cluster: &Cluster, name: &str, account: &str, annotations: &Value) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "orchard", "annotations": annotations},
        "spec": {"nodeName": "node-a", "serviceAccountName": account, "containers": [{"name": "c", "image": "example/image"}]},
    });
    apply(cluster, &format!("{name}.json"), &pod.to_string());
    let status = json!({"status": {
        "phase": "Running", "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}], "hostIP": "192.0.2.1", "hostIPs": [{"ip": "192.0.2.1"}],
    }});
    let patch = status.to_string();
    kubectl(
        cluster,
        &[
            "patch",
            "pod",
            name,
            "-n",
            "orchard",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ],
    );
}

/// Who the credentials of a pod are.
fn identity(test: &str, server: &Running, body: &str) -> Option<String> {
    let aws = aws_cli(test)?;
    let credentials: Value = serde_json::from_str(body).unwrap();
    let text = |name: &str| credentials[name].as_str().unwrap().to_owned();
    let mut environment = server.aws_environment();
    environment.insert("AWS_ACCESS_KEY_ID".into(), text("AccessKeyId"));
    environment.insert("AWS_SECRET_ACCESS_KEY".into(), text("SecretAccessKey"));
    environment.insert("AWS_SESSION_TOKEN".into(), text("Token"));
    let args = ["sts", "get-caller-identity", "--output", "json"];
    let output = client(&aws, &args, &environment);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let who: Value = serde_json::from_slice(&output.stdout).unwrap();
    Some(who["Arn"].as_str().unwrap().to_owned())
}

#[test]
fn pods_get_roles_of_irsa_and_of_annotations_from_instance_metadata() {
    const TEST: &str = "pods_get_roles_of_irsa_and_of_annotations_from_instance_metadata";
    let Some(assets) = assets(TEST) else { return };
    if !inside(TEST) {
        return;
    }
    let pod = Pod::new();
    let data = tempfile::tempdir().unwrap();
    let data_dir = data.path().join("data").display().to_string();
    let first = Running::up(&["--data-dir", &data_dir]);
    let issuer = first.field("issuerUrl");
    let flags: Vec<String> = std::fs::read_to_string(first.field("issuerFlags"))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    drop(first);
    let cluster = Cluster::start(&assets, &flags);
    apply(&cluster, "objects.yaml", OBJECTS);

    // The server may do what its role for this says, and review tokens.
    let rules = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/kubernetes/rbac-annotated-roles.yaml"
    );
    kubectl(&cluster, &["apply", "-f", rules]);
    kubectl(
        &cluster,
        &[
            "create",
            "serviceaccount",
            "countersign",
            "-n",
            "kube-system",
        ],
    );
    kubectl(
        &cluster,
        &[
            "create",
            "clusterrolebinding",
            "reviews",
            "--clusterrole=system:auth-delegator",
            "--serviceaccount=kube-system:countersign",
        ],
    );
    let own = kubectl(
        &cluster,
        &["create", "token", "countersign", "-n", "kube-system"],
    );
    let kubeconfig = cluster.kubeconfig("server", &own).display().to_string();
    let config = data.path().join("config.yaml");
    let text = CONFIG
        .replace("KUBECONFIG", &kubeconfig)
        .replace("ISSUER", &issuer)
        .replace("PREFIX", issuer.strip_prefix("https://").unwrap());
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let server = Running::up(&["--data-dir", &data_dir, "--config", &config]);

    // The agent with the account of its manifest.
    let endpoint = server.field("endpointUrl");
    let region = server.field("region");
    let printed = countersign(
        &[
            "agent",
            "manifest",
            "-c",
            "demo",
            "--image",
            "example/countersign",
            "--region",
            &region,
            "--imds",
            "serve",
            "--compat",
            "kube2iam",
        ],
        &Default::default(),
    );
    assert!(printed.status.success());
    apply(
        &cluster,
        "agent.yaml",
        &String::from_utf8(printed.stdout).unwrap(),
    );
    let own = kubectl(
        &cluster,
        &["create", "token", "countersign-agent", "-n", "kube-system"],
    );
    let state = data.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let log = data.path().join("agent.log");
    let mut command = Command::new(BINARY);
    clean_environment(&mut command);
    let process = command
        .args(["agent", "run", "-c", "demo", "--region", &region])
        .args(["--endpoint", &endpoint, "--sts-endpoint", &endpoint])
        .args([
            "--imds",
            "serve",
            "--imds-v1",
            "allow",
            "--compat",
            "kube2iam",
        ])
        .args(["--link", "off", "-b", "127.0.0.1", "-p", &free_port()])
        .args(["--probe-port", &free_port(), "--node-name", "node-a"])
        .arg("--imds-state-dir")
        .arg(&state)
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig("agent", &own))
        .envs(server.aws_environment())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let agent = Agent { process, log };

    // The role of the pod's annotation, with its external id.
    let annotations =
        json!({"iam.amazonaws.com/role": "amber", "iam.amazonaws.com/external-id": "tenant-7"});
    make_pod(&cluster, "picker-0", "picker", &annotations);
    agent.wait("the role of the annotation", || {
        pod.get(LIST) == (200, "amber".to_owned())
    });
    let (status, body) = pod.get(&format!("{LIST}amber"));
    assert_eq!(status, 200, "{body}");
    if let Some(arn) = identity(TEST, &server, &body) {
        let expected = "arn:aws:sts::111122223333:assumed-role/amber/eks-demo-picker-0-";
        assert!(arn.starts_with(expected), "{arn}");
    }
    assert_eq!(pod.get(&format!("{LIST}irsa-reader")).0, 403);
    // One that the namespace does not allow, and the Event about it.
    kubectl(
        &cluster,
        &[
            "annotate",
            "pod",
            "picker-0",
            "-n",
            "orchard",
            "--overwrite",
            "iam.amazonaws.com/role=irsa-reader",
        ],
    );
    agent.wait("the refusal", || pod.get(LIST).0 == 404);
    agent.wait("the Event", || {
        kubectl(&cluster, &["get", "events", "-n", "orchard"]).contains("RoleForbidden")
    });
    // The same address, another pod: the role of its service account.
    kubectl(
        &cluster,
        &[
            "delete",
            "pod",
            "picker-0",
            "-n",
            "orchard",
            "--force",
            "--grace-period=0",
        ],
    );
    make_pod(&cluster, "reader-0", "reader", &json!({}));
    agent.wait("the role of the service account", || {
        pod.get(LIST) == (200, "irsa-reader".to_owned())
    });
    let (status, body) = pod.get(&format!("{LIST}irsa-reader"));
    assert_eq!(status, 200, "{body}");
    if let Some(arn) = identity(TEST, &server, &body) {
        assert_eq!(
            arn,
            "arn:aws:sts::111122223333:assumed-role/irsa-reader/reader-0"
        );
    }
}

//! IRSA with a real kube-apiserver that signs with our key, and the issuer's commands (IRSA spec, sections 2, 4.4 and 12).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use countersign_oidc::{Discovery, KeySet};
use serde_json::Value;

use crate::clients::every_client_is;
use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::harness::{Running, countersign};

const ROLE: &str = "arn:aws:iam::111122223333:role/orchard-reader";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/orchard-reader/picker-0";

const CONFIG: &str = r#"
server:
  kubeconfig: KUBECONFIG
countersign:
  bootstrap:
    openIDConnectProviders:
    - {url: "ISSUER", clientIDs: [sts.amazonaws.com]}
    roles:
    - name: orchard-reader
      trustPolicy: |
        {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::111122223333:oidc-provider/PREFIX"},
         "Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{
          "PREFIX:aud":"sts.amazonaws.com","PREFIX:sub":"system:serviceaccount:orchard:picker"}}}]}
"#;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: orchard}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: picker, namespace: orchard}
---
apiVersion: v1
kind: Pod
metadata: {name: picker-0, namespace: orchard}
spec:
  serviceAccountName: picker
  containers: [{name: main, image: none}]
"#;

fn kubectl(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.kubectl(ADMIN_TOKEN, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// One unsigned call: status, and the whole answer.
fn assume(server: &Running, token: &str) -> (u16, String) {
    let body = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName=picker-0&WebIdentityToken={token}",
        ROLE.replace(':', "%3A").replace('/', "%2F")
    );
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = server.aws("POST", "/", &headers, body.as_bytes());
    (answer.status, answer.text())
}

/// The environment of a pod: role and token file, a region and an endpoint; no keys.
fn pod(server: &Running, token_file: &Path) -> BTreeMap<String, String> {
    let mut environment = server.aws_environment();
    environment.remove("AWS_ACCESS_KEY_ID");
    environment.remove("AWS_SECRET_ACCESS_KEY");
    environment.insert("AWS_ROLE_ARN".into(), ROLE.into());
    environment.insert(
        "AWS_WEB_IDENTITY_TOKEN_FILE".into(),
        token_file.display().to_string(),
    );
    environment.insert("AWS_ROLE_SESSION_NAME".into(), "picker-0".into());
    environment
}

#[test]
fn cluster_signs_with_our_key_and_a_deleted_pod_gets_nothing() {
    const TEST: &str = "cluster_signs_with_our_key_and_a_deleted_pod_gets_nothing";
    let Some(assets) = assets(TEST) else { return };
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
    std::fs::write(cluster.file("objects.yaml"), OBJECTS).unwrap();
    let objects = cluster.file("objects.yaml").display().to_string();
    kubectl(&cluster, &["apply", "-f", &objects]);
    let token = kubectl(
        &cluster,
        &[
            "create",
            "token",
            "picker",
            "-n",
            "orchard",
            "--audience=sts.amazonaws.com",
            "--duration=1h",
            "--bound-object-kind=Pod",
            "--bound-object-name=picker-0",
        ],
    );
    let token = token.trim();
    // What the API server publishes is what we made.
    let published = kubectl(&cluster, &["get", "--raw", "/openid/v1/jwks"]);
    let discovery = kubectl(
        &cluster,
        &["get", "--raw", "/.well-known/openid-configuration"],
    );
    let discovery = Discovery::parse(discovery.as_bytes(), &issuer).unwrap();
    assert_eq!(discovery.jwks_uri(), format!("{issuer}/keys"));

    let config = data.path().join("config.yaml");
    let text = CONFIG
        .replace(
            "KUBECONFIG",
            &cluster.admin_kubeconfig().display().to_string(),
        )
        .replace("ISSUER", &issuer)
        .replace("PREFIX", issuer.strip_prefix("https://").unwrap());
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let server = Running::up(&["--data-dir", &data_dir, "--config", &config]);
    assert_eq!(server.field("issuerUrl"), issuer);
    let path = issuer.split_once("/id/").unwrap().1;
    let ours = server.aws("GET", &format!("/id/{path}/keys"), &[], b"");
    let ids = |document: &[u8]| -> Vec<String> {
        let keys = KeySet::parse(document).unwrap();
        keys.ids().map(str::to_owned).collect()
    };
    assert_eq!(ids(&ours.body), ids(published.as_bytes()));

    let (status, answer) = assume(&server, token);
    assert_eq!(status, 200, "{answer}\n{}", server.log_tail());
    assert!(answer.contains(SESSION), "{answer}");
    let file = data.path().join("token");
    std::fs::write(&file, token).unwrap();
    every_client_is(TEST, &pod(&server, &file), SESSION);
    let audit = std::fs::read_to_string(Path::new(&data_dir).join("audit.json")).unwrap();
    let record: Value = audit
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|record| record["eventName"] == "AssumeRoleWithWebIdentity")
        .unwrap();
    let of = &record["additionalEventData"]["countersign"]["kubernetes"];
    assert_eq!(
        (&of["namespace"], &of["serviceAccount"], &of["pod"]),
        (&"orchard".into(), &"picker".into(), &"picker-0".into()),
        "{record}"
    );
    assert!(of["podUid"].is_string() && !audit.contains(token), "{of}");

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
    let deleted = Instant::now();
    loop {
        let (status, answer) = assume(&server, token);
        if status != 200 {
            assert!(answer.contains("InvalidIdentityToken"), "{answer}");
            break;
        }
        assert!(
            deleted.elapsed() < Duration::from_secs(60),
            "a minute after the pod"
        );
        std::thread::sleep(Duration::from_secs(1));
    }
    // A pod of the same name is another pod.
    kubectl(&cluster, &["apply", "-f", &objects]);
    std::thread::sleep(Duration::from_secs(11));
    let (status, answer) = assume(&server, token);
    assert_eq!(status, 400, "{answer}");
}

#[test]
fn cluster_with_keys_of_its_own_is_pulled_and_followed() {
    const TEST: &str = "cluster_with_keys_of_its_own_is_pulled_and_followed";
    let Some(assets) = assets(TEST) else { return };
    let data = tempfile::tempdir().unwrap();
    let data_dir = data.path().join("data").display().to_string();
    let cluster = Cluster::start(&assets, &[]);
    let kubeconfig = cluster.admin_kubeconfig().display().to_string();
    let server = Running::up(&["--data-dir", &data_dir]);
    let keys = |args: &[&str]| {
        let mut all = vec!["issuer", "keys"];
        all.extend(args);
        all.extend(["--data-dir", &data_dir]);
        countersign(&all, &BTreeMap::new())
    };
    let pull = ["pull", "--kubeconfig", &kubeconfig, "-o", "json"];
    let refused = keys(&pull);
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && stderr.contains("generated"),
        "{stderr}"
    );
    let pulled = keys(&[&pull[..], &["--replace"]].concat());
    let stderr = String::from_utf8_lossy(&pulled.stderr).into_owned();
    assert!(pulled.status.success(), "{stderr}");
    let report: Value = serde_json::from_slice(&pulled.stdout).unwrap();
    assert_eq!(report["source"], "api-server");
    let published = kubectl(&cluster, &["get", "--raw", "/openid/v1/jwks"]);
    let published = KeySet::parse(published.as_bytes()).unwrap();
    assert_eq!(report["keys"][0]["kid"], published.ids().next().unwrap());
    drop(server);
}

#[test]
fn issuer_commands_add_rotate_export_and_remove_keys() {
    let server = Running::up(&[]);
    let data_dir = server.field("dataDir");
    let run = |args: &[&str]| {
        let mut all = vec!["issuer"];
        all.extend(args);
        all.extend(["--data-dir", &data_dir]);
        let output = countersign(&all, &BTreeMap::new());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code().unwrap();
        (code, String::from_utf8(output.stdout).unwrap(), stderr)
    };
    let report = |args: &[&str]| -> Value {
        let (code, stdout, stderr) = run(&[args, &["-o", "json"]].concat());
        assert_eq!(code, 0, "{args:?}: {stderr}");
        serde_json::from_str(&stdout).unwrap()
    };
    let listed = report(&["keys", "list"]);
    assert_eq!(
        (&listed["source"], &listed["keys"][0]["state"]),
        (&"generated".into(), &"signs".into())
    );
    assert!(listed["signingKey"].is_null(), "{listed}");
    let first = listed["keys"][0]["kid"].as_str().unwrap().to_owned();

    let pem = server.dir.path().join("sa.pub");
    let signer =
        countersign_oidc::SigningKey::generate(countersign_oidc::Algorithm::Es256).unwrap();
    let set = KeySet::of([signer.public().clone()]).unwrap().to_document();
    std::fs::write(&pem, set).unwrap();
    let added = report(&["keys", "add", "--from", &pem.display().to_string()]);
    assert_eq!(added["keys"].as_array().unwrap().len(), 2);
    assert_eq!(added["keys"][0]["state"], "verifies");

    let rotated = report(&["keys", "rotate"]);
    assert_eq!(rotated["keys"][2]["state"], "published");
    let (code, _, stderr) = run(&["keys", "rotate"]);
    assert!(
        code == 2 && stderr.contains("published for this already"),
        "{stderr}"
    );
    let (code, _, stderr) = run(&["keys", "remove", "--kid", &first]);
    assert!(
        code == 2 && stderr.contains("is the one that signs"),
        "{stderr}"
    );
    let (code, _, stderr) = run(&["keys", "generate"]);
    assert!(code == 2 && stderr.contains("rotate them"), "{stderr}");

    // Static documents for a bucket say what the server says, under the bucket's URL.
    let out = server.dir.path().join("bucket");
    let bucket = "https://bucket.example/orchard";
    report(&["export", &out.display().to_string(), "--issuer", bucket]);
    let discovery = std::fs::read(out.join(".well-known/openid-configuration")).unwrap();
    let discovery = Discovery::parse(&discovery, bucket).unwrap();
    assert_eq!(discovery.jwks_uri(), "https://bucket.example/orchard/keys");
    let issuer = server.field("issuerUrl");
    let id = issuer.split_once("/id/").unwrap().1;
    let served = server.aws("GET", &format!("/id/{id}/keys"), &[], b"");
    assert_eq!(std::fs::read(out.join("keys")).unwrap(), served.body);
    assert_eq!(
        served.header("content-type"),
        Some("application/jwk-set+json")
    );

    let files = server.dir.path().join("pki");
    let flags = report(&["flags", "--out", &files.display().to_string()]);
    let flags: Vec<&str> = flags["flags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flag| flag.as_str().unwrap())
        .collect();
    assert!(
        flags.contains(&format!("--service-account-issuer={issuer}").as_str()),
        "{flags:?}"
    );
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(files.join("sa-signer.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let public = std::fs::read(files.join("sa-keys.pem")).unwrap();
    assert_eq!(
        countersign_oidc::PublicKey::from_pem(&public)
            .unwrap()
            .len(),
        3
    );

    report(&["keys", "remove", "--kid", signer.id()]);
    let empty = report(&["keys", "remove", "--all"]);
    assert_eq!(empty["keys"].as_array().unwrap().len(), 0);
    assert_eq!(
        server
            .aws("GET", &format!("/id/{id}/keys"), &[], b"")
            .status,
        404
    );
    let (code, _, stderr) = run(&["export", &out.display().to_string()]);
    assert!(code == 2 && stderr.contains("has no keys"), "{stderr}");
    let log = server.log();
    assert!(!log.contains("PRIVATE KEY"));
}

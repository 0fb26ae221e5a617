//! AWS's own node agent of EKS Pod Identity with our EKS Auth: its SDK signs and reads, it hands out what it got, and it takes our final
//! errors as final (Pod Identity spec, sections 5 and 12, item 1).
//!
//! The agent serves nobody but those who call it by its real addresses, so the test runs in a network namespace that has them.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clients::{every_client_is, texts};
use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::harness::{Running, clean_environment, client, exchange, python, skip};
use crate::pod_credentials::Signer;

/// Set in the child that runs inside the namespace.
const INSIDE: &str = "COUNTERSIGN_TEST_INSIDE_NAMESPACE";
const PROBES: u16 = 2703;
const METRICS: u16 = 2705;

/// Service accounts; all but `stranger` have a role of their name.
const ACCOUNTS: [&str; 7] = [
    "picker", "stranger", "sealed", "leaver", "barred", "goner", "late",
];

/// Roles, associations, and the node's users `node`, who may, and `guest`, who may not.
const SET_UP: &str = r#"
import boto3, json, sys
iam, eks = boto3.client("iam"), boto3.client("eks")
document = lambda **statement: json.dumps({"Version": "2012-10-17", "Statement": [statement]})
trust = document(Effect="Allow", Principal={"Service": "pods.eks.amazonaws.com"}, Action=["sts:AssumeRole", "sts:TagSession"])
keys = {}
for account in ["picker", "sealed", "leaver", "barred", "goner", "late"]:
    role = iam.create_role(RoleName=account, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    made = eks.create_pod_identity_association(clusterName="demo", namespace="orchard", serviceAccount=account, roleArn=role)
    keys[account] = made["association"]["associationId"]
for user in ["node", "guest"]:
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    keys[user] = [key["AccessKeyId"], key["SecretAccessKey"]]
iam.put_user_policy(UserName="node", PolicyName="agent", PolicyDocument=document(
    Effect="Allow", Action="eks-auth:AssumeRoleForPodIdentity", Resource="arn:aws:eks:*:111122223333:cluster/demo"))
print(json.dumps(keys))
"#;

/// From here on the role refuses.
const BAR: &str = r#"
import boto3, json, sys
trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
boto3.client("iam").update_assume_role_policy(RoleName=sys.argv[1], PolicyDocument=json.dumps(trust))
"#;

const LEAVE: &str = r#"
import boto3, sys
boto3.client("eks").delete_pod_identity_association(clusterName="demo", associationId=sys.argv[1])
"#;

/// AWS's agent, or none with a loud skip.
fn aws_agent(test: &str, assets: &Path) -> Option<PathBuf> {
    let program = assets.join("eks-pod-identity-agent");
    if program.exists() {
        return Some(program);
    }
    let reason = format!(
        "needs AWS's agent, and {} does not exist; build it from github.com/aws/eks-pod-identity-agent",
        program.display()
    );
    skip(test, &reason);
    None
}

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// Runs the test of this name once more in a network namespace with the agent's addresses, and says no; there it says yes.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        ip("addr add 169.254.170.23/32 dev lo");
        ip("-6 addr add fd00:ec2::23/128 dev lo nodad");
        return true;
    }
    let can = Command::new("unshare").args(["-n", "ip", "link"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        let reason = "needs root, `unshare` and `ip` to make a network namespace";
        skip(test, reason);
        return false;
    }
    let status = Command::new("unshare")
        .arg("-n")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("aws_agent::{test}"), "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
    false
}

/// AWS's agent, killed when dropped.
struct Agent {
    process: Child,
    log: PathBuf,
    host: String,
}

impl Agent {
    /// One with the real ports, or with ports of its own beside it.
    fn start(
        program: &Path,
        server: &Running,
        name: &str,
        key: (&str, &str),
        beside: Option<u16>,
    ) -> Self {
        let log = server.dir.path().join(format!("{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(program);
        clean_environment(&mut command);
        command
            .args(["server", "--cluster-name", "demo", "--endpoint"])
            .arg(server.field("endpointUrl"))
            // What is cached is asked for again at the next of the agent's rounds, one a minute.
            .args(["--max-credential-retention-before-renewal", "1s"])
            .args(["--max-service-qps", "100", "--max-cache-size", "100"])
            .args(["--verbosity", "trace"])
            .env("AWS_ACCESS_KEY_ID", key.0)
            .env("AWS_SECRET_ACCESS_KEY", key.1)
            .env("AWS_REGION", server.field("region"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", server.dir.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        if let Some(port) = beside {
            command
                .args(["--bind-hosts", "169.254.170.23"])
                .args(["--port", &port.to_string()])
                .args(["--probe-port", &(port + 1).to_string()])
                .args(["--metrics-port", &(port + 2).to_string()]);
        }
        let probes = beside.map_or(PROBES, |port| port + 1);
        let mut agent = Self {
            process: command.spawn().unwrap(),
            log,
            host: format!("169.254.170.23:{}", beside.unwrap_or(80)),
        };
        agent.wait_for("it is ready", Duration::from_secs(30), |_| {
            http(&format!("127.0.0.1:{probes}"), "/readyz", &[]).0 == 200
        });
        agent
    }

    /// Status and body for a pod's token.
    fn ask(&self, token: &str) -> (u16, String) {
        http(
            &self.host,
            "/v1/credentials",
            &[("Authorization", token), ("Host", "169.254.170.23")],
        )
    }

    /// The access key id that a pod gets.
    fn key_of(&self, token: &str) -> String {
        let (status, body) = self.ask(token);
        assert_eq!(status, 200, "{body}\n{}", self.log());
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["AccountId"], "111122223333", "{body}");
        let expiration: Timestamp = body["Expiration"].as_str().unwrap().parse().unwrap();
        assert!(expiration > Timestamp::now(), "{body}");
        body["AccessKeyId"].as_str().unwrap().to_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn wait_for(&mut self, what: &str, limit: Duration, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + limit;
        while !is_so(self) {
            let ended = self.process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{what}; {ended:?}: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn http(address: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let Ok(stream) = TcpStream::connect(address) else {
        return (0, String::new());
    };
    let answer = exchange(stream, address, "GET", path, headers, b"");
    (answer.status, answer.text())
}

fn kubectl(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.kubectl(ADMIN_TOKEN, args);
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{args:?}: {stderr}");
    stdout.trim().to_owned()
}

/// A token of the pod `ACCOUNT-0`, signed by kube-apiserver.
fn token_of(cluster: &Cluster, account: &str, audience: &str) -> String {
    let (pod, audience) = (format!("{account}-0"), format!("--audience={audience}"));
    let mut args = vec!["create", "token", account, "-n", "orchard", &audience];
    args.extend(["--bound-object-kind=Pod", "--bound-object-name", &pod]);
    kubectl(cluster, &args)
}

/// A token of the pod `ACCOUNT-0` that ends in so many seconds: shorter than kube-apiserver makes them, and signed with its key.
fn short_token(cluster: &Cluster, server: &Running, account: &str, seconds: i64) -> String {
    let uid = |kind: &str, name: &str| {
        let path = "jsonpath={.metadata.uid}";
        kubectl(cluster, &["get", kind, name, "-n", "orchard", "-o", path])
    };
    let pod = format!("{account}-0");
    let (account_uid, pod_uid) = (uid("serviceaccount", account), uid("pod", &pod));
    let now = Timestamp::now().as_second();
    Signer::of(server).sign(&json!({
        "iss": server.field("issuerUrl"), "sub": format!("system:serviceaccount:orchard:{account}"), "aud": ["pods.eks.amazonaws.com"],
        "iat": now - 1, "nbf": now - 1, "exp": now + seconds, "jti": "1d3c6f0a-0000-4000-8000-000000000001",
        "kubernetes.io": {
            "namespace": "orchard", "serviceaccount": {"name": account, "uid": account_uid},
            "pod": {"name": pod, "uid": pod_uid},
        },
    }))
}

/// How often agents were refused with this code, by the audit log.
fn refused(server: &Running, code: &str) -> usize {
    let audit = Path::new(&server.field("dataDir")).join("audit.json");
    let audit = std::fs::read_to_string(audit).unwrap();
    let records = audit.lines().map(serde_json::from_str::<Value>);
    records
        .map(Result::unwrap)
        .filter(|record| record["eventName"] == "AssumeRoleForPodIdentity")
        .filter(|record| record["errorCode"] == code)
        .count()
}

#[test]
fn cluster_aws_agent_gives_pods_our_credentials_and_takes_final_errors_as_final() {
    const TEST: &str =
        "cluster_aws_agent_gives_pods_our_credentials_and_takes_final_errors_as_final";
    let (Some(assets), Some(python)) = (assets(TEST), python(TEST)) else {
        return;
    };
    let Some(program) = aws_agent(TEST, &assets) else {
        return;
    };
    if !inside(TEST) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let data_dir = data.path().join("data").display().to_string();
    let first = Running::up(&["--data-dir", &data_dir]);
    let flags = std::fs::read_to_string(first.field("issuerFlags")).unwrap();
    let flags: Vec<String> = flags.lines().map(str::to_owned).collect();
    drop(first);
    let cluster = Cluster::start(&assets, &flags);
    let config = data.path().join("config.yaml");
    let kubeconfig = cluster.admin_kubeconfig();
    let text = format!("server:\n  kubeconfig: {}\n", kubeconfig.display());
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let server = Running::up(&["--data-dir", &data_dir, "--config", &config]);

    kubectl(&cluster, &["create", "namespace", "orchard"]);
    for account in ACCOUNTS {
        let pod = json!([
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": "orchard"}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("{account}-0"), "namespace": "orchard"},
             "spec": {"serviceAccountName": account, "containers": [{"name": "main", "image": "none"}]}},
        ]);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": pod});
        let file = cluster.file(&format!("{account}.json"));
        std::fs::write(&file, list.to_string()).unwrap();
        kubectl(&cluster, &["create", "-f", &file.display().to_string()]);
    }
    let admin = server.aws_environment();
    let run = |script: &str, argument: &str| {
        let output = client(&python, &["-c", script, argument], &admin);
        let (stdout, stderr) = texts(&output);
        assert!(output.status.success(), "{stderr}");
        stdout
    };
    let made: Value = serde_json::from_str(&run(SET_UP, "")).unwrap();
    let key = |user: &str| {
        let text = |at: usize| made[user][at].as_str().unwrap().to_owned();
        (text(0), text(1))
    };
    let (id, secret) = key("node");
    let mut agent = Agent::start(&program, &server, "agent", (&id, &secret), None);

    // Pods with the two variables, over both families.
    let pods = "pods.eks.amazonaws.com";
    let picker = token_of(&cluster, "picker", pods);
    let token_file = server.dir.path().join("token");
    std::fs::write(&token_file, &picker).unwrap();
    let mut environment = admin.clone();
    environment.remove("AWS_ACCESS_KEY_ID");
    environment.remove("AWS_SECRET_ACCESS_KEY");
    environment.insert(
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE".into(),
        token_file.display().to_string(),
    );
    for host in ["169.254.170.23", "[fd00:ec2::23]"] {
        let uri = format!("http://{host}/v1/credentials");
        environment.insert("AWS_CONTAINER_CREDENTIALS_FULL_URI".into(), uri);
        every_client_is(TEST, &environment, "assumed-role/picker/eks-demo-picker-0-");
    }
    let log = agent.log();
    let association = made["picker"].as_str().unwrap();
    for part in ["Successfully fetched credentials", "assumed-role/picker/"] {
        assert!(log.contains(part), "{part}: {log}");
    }

    // Each refusal is asked for once, and said with its status and its code.
    let (guest_id, guest_secret) = key("guest");
    let guest = (guest_id.as_str(), guest_secret.as_str());
    let unable = Agent::start(&program, &server, "guest", guest, Some(8080));
    let stranger = ("AKIARTX3GSDSXFDOCIS2", guest.1);
    let unknown = Agent::start(&program, &server, "unknown", stranger, Some(8090));
    run(BAR, "sealed");
    let rows = [
        (
            &agent,
            token_of(&cluster, "stranger", pods),
            404,
            "ResourceNotFoundException",
        ),
        (
            &agent,
            token_of(&cluster, "picker", "sts.amazonaws.com"),
            400,
            "InvalidTokenException",
        ),
        (
            &agent,
            token_of(&cluster, "sealed", pods),
            400,
            "AccessDeniedException",
        ),
        (&unable, picker.clone(), 400, "AccessDeniedException"),
        (&unknown, picker, 403, "UnrecognizedClientException"),
    ];
    let counts = || rows.each_ref().map(|row| refused(&server, row.3));
    // The agent waits a second for an answer. On a machine that is late it asks again, so the rows have three tries.
    let asked_once = (0..3).any(|_| {
        let before = counts();
        for (asked, token, status, code) in &rows {
            let (given, body) = asked.ask(token);
            // Its answer begins with the id of our answer, and has the code.
            assert!(
                given == *status && body.starts_with('[') && !body.starts_with("[]"),
                "{given} {body}\n{}",
                asked.log()
            );
            assert!(body.contains(&format!("({code})")), "{body}");
        }
        // The log is written beside the answers.
        std::thread::sleep(Duration::from_secs(3));
        let after = counts();
        let asked = |row: usize| after[row] - before[row];
        [0, 1, 2, 3, 4].map(asked) == [1, 1, 2, 2, 1]
    });
    assert!(asked_once, "{:?}\n{}", counts(), server.log_tail());
    let picker = &rows[3].1;

    // What is cached stays cached, until the round in which it is asked for again; one round may come in between.
    let [leaver, barred, goner] =
        ["leaver", "barred", "goner"].map(|account| token_of(&cluster, account, pods));
    let keys = || [&leaver, &barred, &goner].map(|token| agent.key_of(token));
    assert!((0..2).any(|_| keys() == keys()), "{}", agent.log());
    let late = short_token(&cluster, &server, "late", 30);
    agent.key_of(&late);
    let kept = agent.key_of(picker);
    run(LEAVE, made["leaver"].as_str().unwrap());
    run(BAR, "barred");
    let delete = ["delete", "pod", "goner-0", "-n", "orchard", "--now"];
    kubectl(&cluster, &delete);
    let codes = [
        ("ResourceNotFoundException", &leaver),
        ("AccessDeniedException", &barred),
        ("InvalidTokenException", &goner),
        ("ExpiredTokenException", &late),
    ];
    for (code, _) in codes {
        agent.wait_for(code, Duration::from_secs(300), |agent| {
            agent
                .log()
                .lines()
                .any(|line| line.contains("got non recoverable error") && line.contains(code))
        });
    }
    let (_, metrics) = http(&format!("127.0.0.1:{METRICS}"), "/metrics", &[]);
    for (code, token) in codes {
        let counter =
            format!("pod_identity_cache_errors{{code=\"{code}\",type=\"NonRecoverable\"}} 1");
        assert!(metrics.contains(&counter), "{counter}: {metrics}");
        let other = format!("code=\"{code}\",type=\"Recoverable\"");
        assert!(!metrics.contains(&other), "{other}: {metrics}");
        let (status, body) = agent.ask(token);
        assert!(status == 400 || status == 404, "{code}: {status} {body}");
    }
    assert!(
        agent.log().contains(association),
        "its renewals name the association"
    );
    agent.wait_for(
        "who may, is given new ones",
        Duration::from_secs(90),
        |agent| agent.key_of(picker) != kept,
    );
    let log = server.log();
    for secret in [picker, &leaver, &late, &secret] {
        assert!(!log.contains(secret.as_str()));
    }
}

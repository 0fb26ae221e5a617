//! The example of attribute-based access control of the EKS best practices, from end to end: `up` issues, `agent run` hands out,
//! `sessions inspect` opens what the pod got, and `policy simulate` decides the bucket policy on what is in it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{BINARY, Running, aws_cli, clean_environment, client, countersign};
use crate::pod_credentials::{Agent, Signer, free_port, get};

const BUCKET: &str = r#"{"Version": "2012-10-17", "Statement": [{
  "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "s3:GetObject",
  "Resource": "arn:aws:s3:::harvest/${aws:PrincipalTag/kubernetes-namespace}/*",
  "Condition": {"StringEquals": {
    "aws:PrincipalTag/kubernetes-namespace": "orchard",
    "aws:PrincipalTag/kubernetes-service-account": "picker",
    "aws:PrincipalTag/eks-cluster-arn": "arn:aws:eks:us-east-1:111122223333:cluster/demo",
    "aws:PrincipalAccount": "111122223333"
  }}
}]}"#;

/// A server with a cluster, `orchard/picker` and `meadow/picker` with the same role, and an agent on a node of it.
struct Farm {
    server: Running,
    signer: Signer,
    _agent: Agent,
    port: u16,
}

impl Farm {
    fn start(test: &str, account: &str, cluster: &str) -> Option<Self> {
        let aws = aws_cli(test)?;
        let server = Running::up(&["--account", account, "--cluster", cluster]);
        let admin = server.aws_environment();
        let call = |args: &[&str]| -> Value {
            let output = client(&aws, args, &admin);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "aws {args:?}: {stderr}");
            serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
        };
        let trust = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Principal": {"Service": "pods.eks.amazonaws.com"},
        }});
        let trust = trust.to_string();
        let role = [
            "iam",
            "create-role",
            "--role-name",
            "picker",
            "--assume-role-policy-document",
        ];
        let role: Vec<&str> = role.into_iter().chain([&*trust]).collect();
        call(&role);
        let arn = format!("arn:aws:iam::{account}:role/picker");
        for namespace in ["orchard", "meadow"] {
            let associate = [
                "eks",
                "create-pod-identity-association",
                "--service-account",
                "picker",
            ];
            let names = [
                "--cluster-name",
                cluster,
                "--namespace",
                namespace,
                "--role-arn",
                &arn,
            ];
            let args: Vec<&str> = associate.into_iter().chain(names).collect();
            call(&args);
        }
        // The agent signs as the administrator here: what nodes need is shown elsewhere.
        let mut node = admin.clone();
        node.remove("AWS_ENDPOINT_URL");
        let port = free_port();
        let agent = Agent::start(&server, &node, port);
        Some(Self {
            signer: Signer::of(&server),
            server,
            _agent: agent,
            port,
        })
    }

    /// What is in the session that a pod of this namespace got from the agent.
    fn session(&self, namespace: &str) -> Value {
        let token = self
            .signer
            .token_in(namespace, "picker", "pods.eks.amazonaws.com");
        let (status, body) = get(self.port, "/v1/credentials", &token);
        assert_eq!(status, 200, "{body}");
        let given: Value = serde_json::from_str(&body).unwrap();
        let mut command = Command::new(BINARY);
        clean_environment(&mut command);
        let mut child = command
            .args(["sessions", "inspect", "-", "-o", "json", "--data-dir"])
            .arg(self.server.dir.path().join("data"))
            .args(["--key-id", given["AccessKeyId"].as_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(given["Token"].as_str().unwrap().as_bytes())
            .unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A question for `policy simulate`: may this session read the object? Across accounts the role may do everything, so that
    /// the bucket decides.
    fn question(session: &Value, object: &str, decision: &str) -> Value {
        let mut context = serde_json::Map::new();
        for tag in session["tags"].as_array().unwrap() {
            let key = format!("aws:PrincipalTag/{}", tag["key"].as_str().unwrap());
            context.insert(key, tag["value"].clone());
        }
        context.insert(
            "aws:PrincipalAccount".to_owned(),
            session["account"].clone(),
        );
        let all = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}});
        let identity = match session["account"] == "111122223333" {
            true => json!([]),
            false => json!([all]),
        };
        json!({
            "id": format!("{} {object}", session["arn"].as_str().unwrap()),
            "request": {
                "principal": session["arn"], "action": "s3:GetObject",
                "resource": format!("arn:aws:s3:::harvest/{object}"),
                "resourceAccount": "111122223333", "context": context,
            },
            "policies": {"identity": identity, "resource": serde_json::from_str::<Value>(BUCKET).unwrap()},
            "expected": {"decision": decision},
        })
    }
}

#[test]
fn a_bucket_policy_is_decided_on_the_sessions_that_the_agent_handed_out() {
    const TEST: &str = "a_bucket_policy_is_decided_on_the_sessions_that_the_agent_handed_out";
    let Some(farm) = Farm::start(TEST, "111122223333", "demo") else {
        return;
    };
    let own = farm.session("orchard");
    assert_eq!(own["tags"].as_array().unwrap().len(), 6, "{own}");
    let mut cases = vec![
        Farm::question(&own, "orchard/apples.csv", "allowed"),
        Farm::question(&own, "meadow/hay.csv", "implicitDeny"),
    ];
    let mut others = vec![farm.session("meadow")];
    let environment = farm.server.aws_environment();
    let file = farm.server.dir.path().join("cases.json");
    // Another cluster of the account, and a cluster of the same name in another account.
    for (account, cluster) in [("111122223333", "other"), ("444455556666", "demo")] {
        let Some(other) = Farm::start(TEST, account, cluster) else {
            return;
        };
        others.push(other.session("orchard"));
    }
    for other in &others {
        for object in ["orchard/apples.csv", "meadow/hay.csv"] {
            cases.push(Farm::question(other, object, "implicitDeny"));
        }
    }
    std::fs::write(&file, json!(cases).to_string()).unwrap();
    let output = countersign(
        &["policy", "simulate", &file.display().to_string()],
        &environment,
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
}

//! Tokens minted by real clients become Kubernetes users.

use std::collections::BTreeMap;
use std::process::Command;

use crate::clients::clients;
use crate::harness::{
    Running, aws_cli, clean_environment, client, countersign, exec_token, node_modules, python,
};

fn assert_is_admin(server: &Running, token: &str) {
    let (status, review) = server.review("/authenticate", token);
    assert_eq!(status, 200, "{review}\n{}", server.log_tail());
    assert_eq!(review["apiVersion"], "authentication.k8s.io/v1");
    assert_eq!(review["status"]["authenticated"], true, "{review}");
    let user = &review["status"]["user"];
    let arn = server.field("admin.arn");
    assert_eq!(user["username"], arn.as_str(), "{review}");
    assert_eq!(
        user.get("groups"),
        None,
        "what it may do, its access policy says"
    );
    assert_eq!(user["extra"]["arn"], serde_json::json!([arn]));
    assert_eq!(user["extra"]["canonicalArn"], serde_json::json!([arn]));
    assert_eq!(
        user["extra"]["accessKeyId"],
        serde_json::json!([server.field("admin.accessKeyId")])
    );
    assert_eq!(user["extra"]["sessionName"], serde_json::json!([""]));
    assert!(
        user["uid"]
            .as_str()
            .unwrap()
            .starts_with("aws-iam-authenticator:111122223333:AIDA"),
        "{review}"
    );
}

#[test]
fn aws_cli_token_becomes_the_cluster_creator() {
    let Some(aws) = aws_cli("aws_cli_token_becomes_the_cluster_creator") else {
        return;
    };
    let server = Running::up(&[]);
    let token = exec_token(&client(
        &aws,
        &["eks", "get-token", "--cluster-name", "demo"],
        &server.aws_environment(),
    ));
    assert_is_admin(&server, &token);
    let (status, review) = server.review("/clusters/demo/authenticate", &token);
    assert_eq!(
        (status, &review["status"]["user"]["username"]),
        (200, &server.field("admin.arn").into())
    );
}

#[test]
fn tokens_of_every_client_become_the_cluster_creator() {
    let server = Running::up(&[]);
    for client in clients("tokens_of_every_client_become_the_cluster_creator") {
        if let Some(token) = client.token(&server.aws_environment()) {
            assert_is_admin(&server, &token);
        }
    }
}

#[test]
fn token_for_another_cluster_is_refused_with_its_reason() {
    let Some(aws) = aws_cli("token_for_another_cluster_is_refused_with_its_reason") else {
        return;
    };
    let server = Running::up(&[]);
    let token = exec_token(&client(
        &aws,
        &["eks", "get-token", "--cluster-name", "other"],
        &server.aws_environment(),
    ));
    let (status, review) = server.review("/authenticate", &token);
    assert_eq!(
        (status, &review["status"]["authenticated"]),
        (200, &false.into()),
        "{review}"
    );
    assert!(
        review["status"]["error"]
            .as_str()
            .unwrap()
            .contains("SignatureDoesNotMatch"),
        "{review}"
    );
    let log = server.wait_for_log("sts_rejected:SignatureDoesNotMatch");
    assert!(!log.contains(&token), "the log must not hold the token");
}

#[test]
fn boto3_calls_sts_and_presigns_a_token() {
    let Some(python) = python("boto3_calls_sts_and_presigns_a_token") else {
        return;
    };
    let server = Running::up(&[]);
    let script = r#"
import base64, boto3, json
from botocore.signers import RequestSigner
sts = boto3.client("sts")
identity = sts.get_caller_identity()
signer = RequestSigner(sts.meta.service_model.service_id, "us-east-1", "sts", "v4",
                       boto3.Session().get_credentials(), sts.meta.events)
url = signer.generate_presigned_url(
    {"method": "GET", "url": sts.meta.endpoint_url + "/?Action=GetCallerIdentity&Version=2011-06-15",
     "body": {}, "headers": {"x-k8s-aws-id": "demo"}, "context": {}},
    region_name="us-east-1", expires_in=60, operation_name="")
token = "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
print(json.dumps({"arn": identity["Arn"], "account": identity["Account"], "id": identity["UserId"], "token": token}))
"#;
    let output = client(&python, &["-c", script], &server.aws_environment());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["arn"], server.field("admin.arn"));
    assert_eq!(answer["account"], "111122223333");
    assert!(answer["id"].as_str().unwrap().starts_with("AIDA"));
    assert_is_admin(&server, answer["token"].as_str().unwrap());
}

#[test]
fn javascript_sdk_calls_sts_and_presigns_a_token() {
    let Some(modules) = node_modules("javascript_sdk_calls_sts_and_presigns_a_token") else {
        return;
    };
    let server = Running::up(&[]);
    let script = r#"
const { STSClient, GetCallerIdentityCommand } = require("@aws-sdk/client-sts");
const { SignatureV4 } = require("@smithy/signature-v4");
const { Sha256 } = require("@aws-crypto/sha256-js");
(async () => {
  const endpoint = new URL(process.env.AWS_ENDPOINT_URL);
  const identity = await new STSClient({ endpoint: endpoint.origin }).send(new GetCallerIdentityCommand({}));
  const signer = new SignatureV4({
    service: "sts", region: "us-east-1", sha256: Sha256,
    credentials: { accessKeyId: process.env.AWS_ACCESS_KEY_ID, secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY },
  });
  const signed = await signer.presign({
    method: "GET", protocol: endpoint.protocol, hostname: endpoint.hostname, port: Number(endpoint.port), path: "/",
    query: { Action: "GetCallerIdentity", Version: "2011-06-15" },
    headers: { host: endpoint.host, "x-k8s-aws-id": "demo" },
  }, { expiresIn: 60, unhoistableHeaders: new Set(["x-k8s-aws-id"]), unsignableHeaders: new Set() });
  const query = Object.entries(signed.query).map(([k, v]) => `${encodeURIComponent(k)}=${encodeURIComponent(v)}`).join("&");
  const token = "k8s-aws-v1." + Buffer.from(`${endpoint.origin}/?${query}`).toString("base64url");
  let refused;
  try {
    await new STSClient({ endpoint: endpoint.origin, maxAttempts: 1,
      credentials: { accessKeyId: "AKIARTX3GSDSXFDOCIS2", secretAccessKey: "x".repeat(40) } })
      .send(new GetCallerIdentityCommand({}));
  } catch (error) { refused = { name: error.name, status: error.$metadata.httpStatusCode, message: error.message }; }
  console.log(JSON.stringify({ arn: identity.Arn, token, refused }));
})();
"#;
    let mut command = Command::new("node");
    clean_environment(&mut command);
    let output = command
        .args(["-e", script])
        .envs(server.aws_environment())
        .env("NODE_PATH", &modules)
        .current_dir(modules.parent().unwrap())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["arn"], server.field("admin.arn"));
    assert_eq!(
        answer["refused"]["name"], "InvalidClientTokenId",
        "{answer}"
    );
    assert_eq!(answer["refused"]["status"], 403);
    assert_eq!(
        answer["refused"]["message"],
        "The security token included in the request is invalid."
    );
    assert_is_admin(&server, answer["token"].as_str().unwrap());
}

#[test]
fn our_get_token_is_a_drop_in_for_both_tools() {
    let server = Running::up(&[]);
    let environment = server.aws_environment();
    let forms: [&[&str]; 6] = [
        &["get-token", "--cluster-name", "demo"],
        &["token", "-i", "demo"],
        &["token", "--cluster-id", "demo", "--region", "us-east-1"],
        &["eks", "get-token", "--cluster-name", "demo"],
        &[
            "--region",
            "eu-west-1",
            "eks",
            "get-token",
            "--cluster-name",
            "demo",
            "--output",
            "json",
        ],
        &["get-token", "--cluster-name", "demo", "--role-arn", ""],
    ];
    for args in forms {
        let output = countersign(args, &environment);
        let credential: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{args:?}: {output:?}"));
        assert_eq!(credential["kind"], "ExecCredential", "{args:?}");
        assert_eq!(
            credential["apiVersion"], "client.authentication.k8s.io/v1beta1",
            "{args:?}"
        );
        assert_is_admin(&server, &exec_token(&output));
    }
    let bare = countersign(&["token", "-i", "demo", "--token-only"], &environment);
    assert_is_admin(&server, String::from_utf8(bare.stdout).unwrap().trim());
}

#[test]
fn exec_credential_version_follows_what_kubectl_asks() {
    let environment = BTreeMap::from([
        (
            "AWS_ACCESS_KEY_ID".to_owned(),
            "AKIARTX3GSDSXFDOCIS2".to_owned(),
        ),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), "x".repeat(40)),
        ("AWS_REGION".to_owned(), "eu-west-1".to_owned()),
    ]);
    for version in ["v1", "v1beta1", "v1alpha1"] {
        let mut environment = environment.clone();
        let asked = format!("client.authentication.k8s.io/{version}");
        environment.insert(
            "KUBERNETES_EXEC_INFO".to_owned(),
            serde_json::json!({"kind": "ExecCredential", "apiVersion": asked, "spec": {"interactive": false}}).to_string(),
        );
        let output = countersign(&["get-token", "--cluster-name", "demo"], &environment);
        let credential: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(credential["apiVersion"], asked);
        assert!(exec_token(&output).starts_with("k8s-aws-v1."));
    }
}

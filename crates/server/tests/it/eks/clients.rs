//! boto3 and the AWS CLI, unmodified, over HTTP (EKS API spec, section 17).

use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use countersign_server::aws::AwsApi;
use countersign_server::listen::{Answer, Handler, Limits, ListenerCounters, Peer, serve};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;

#[derive(Clone)]
struct Api(Arc<AwsApi>);

impl Handler for Api {
    async fn handle(&self, peer: Peer, request: http::Request<Incoming>) -> Answer {
        self.0.handle(peer, request).await
    }
}

pub(super) struct Running {
    url: String,
    keys: Keys,
    _stop: watch::Sender<bool>,
}

pub(super) async fn running() -> Running {
    let world = World::new().await;
    world
        .directory
        .maintain_session_keys(Timestamp::now())
        .await
        .unwrap();
    let trust = trusts(ACCOUNT, ASSUME, "");
    world.role("control-plane", &trust).await;
    world
        .role_with("Dev", &trust, |role| {
            role.path = "/team/a+b=c,d.e@f-_/".into()
        })
        .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = watch::channel(false);
    let handler = Api(Arc::new(world.api));
    let counters = Arc::new(ListenerCounters::default());
    tokio::spawn(serve(
        listener,
        None,
        handler,
        Limits::default(),
        counters,
        stopped,
    ));
    Running {
        url,
        keys: world.ana,
        _stop: stop,
    }
}

impl Running {
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn run(&self, program: &str, args: &[&str], home: &std::path::Path) -> Output {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars() {
            if name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("HOME", home)
            .env("AWS_ACCESS_KEY_ID", &self.keys.id)
            .env("AWS_SECRET_ACCESS_KEY", &self.keys.secret)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL_EKS", &self.url)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }
}

pub(super) fn client(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        eprintln!("SKIPPED: {variable} is not set");
    }
    found
}

/// What a program printed, which ended well.
#[track_caller]
pub(super) fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// A signed CreateAccessEntry whose body comes in chunks: its status, and the entry's ARN or the code of the error.
async fn chunked(running: &Running, principal: &str, padding: usize) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let at = ("POST", "/clusters/c1/access-entries");
    let body = json!({"principalArn": principal, "padding": "x".repeat(padding)}).to_string();
    let headers = signed(&running.keys, "eks", at, body.as_bytes(), Timestamp::now());
    let address = running.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut head = format!(
        "{} {} HTTP/1.1\r\nhost: {EKS_HOST}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n",
        at.0, at.1
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for chunk in body.as_bytes().chunks(100_000) {
        let chunk = std::str::from_utf8(chunk).unwrap();
        let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
        // A server that refuses early may close before everything is written.
        let _ = stream.write_all(chunk.as_bytes()).await;
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let code = head
        .lines()
        .find_map(|line| line.strip_prefix("x-amzn-errortype: "));
    let said = body["accessEntry"]["principalArn"].as_str().or(code);
    (status, said.unwrap_or_default().to_owned())
}

#[tokio::test]
async fn bodies_in_chunks_have_a_mebibyte_too() {
    let running = running().await;
    let dev = "arn:aws:iam::111122223333:role/team/a+b=c,d.e@f-_/Dev";
    let found = "ResourceNotFoundException";
    for (padding, expected) in [
        (0, (404, found)),
        (300_000, (404, found)),
        (1_000_000, (404, found)),
        (1 << 20, (413, "RequestEntityTooLarge")),
    ] {
        let (status, said) = chunked(&running, dev, padding).await;
        assert_eq!((status, &*said), expected, "{padding}");
    }
}

const SCRIPT: &str = r#"
import boto3, botocore, json, datetime
eks = boto3.client("eks")
def code(call):
    try:
        call()
    except botocore.exceptions.ClientError as error:
        return [error.response["Error"]["Code"], error.response["Error"]["Message"], error.response.get("clusterName"), error.response["ResponseMetadata"]["HTTPStatusCode"]]
    return None
dev = "arn:aws:iam::111122223333:role/team/a+b=c,d.e@f-_/Dev"
view = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
out = {}
made = eks.create_cluster(name="c1", roleArn="arn:aws:iam::111122223333:role/control-plane", resourcesVpcConfig={"subnetIds": ["subnet-1"]}, accessConfig={"authenticationMode": "API_AND_CONFIG_MAP"}, tags={"a b": "c/d"})
out["created"] = made["cluster"]["status"]
assert isinstance(made["cluster"]["createdAt"], datetime.datetime)
eks.get_waiter("cluster_active").wait(name="c1")
out["exists"] = code(lambda: eks.create_cluster(name="c1", roleArn="arn:aws:iam::111122223333:role/control-plane", resourcesVpcConfig={}))
out["listed"] = eks.list_clusters()["clusters"]
out["entry"] = eks.create_access_entry(clusterName="c1", principalArn=dev, kubernetesGroups=["g"], tags={"k": "v"})["accessEntry"]["accessEntryArn"]
out["again"] = code(lambda: eks.create_access_entry(clusterName="c1", principalArn=dev))
out["described"] = eks.describe_access_entry(clusterName="c1", principalArn=dev)["accessEntry"]["principalArn"]
out["groups"] = eks.update_access_entry(clusterName="c1", principalArn=dev, kubernetesGroups=[])["accessEntry"]["kubernetesGroups"]
out["scope"] = eks.associate_access_policy(clusterName="c1", principalArn=dev, policyArn=view, accessScope={"type": "namespace", "namespaces": ["a", "b-*"]})["associatedAccessPolicy"]["accessScope"]
out["entries"] = [arn for page in eks.get_paginator("list_access_entries").paginate(clusterName="c1", PaginationConfig={"PageSize": 1}) for arn in page["accessEntries"]]
out["policies"] = len([p for page in eks.get_paginator("list_access_policies").paginate(PaginationConfig={"PageSize": 7}) for p in page["accessPolicies"]])
out["associated"] = [p["policyArn"] for page in eks.get_paginator("list_associated_access_policies").paginate(clusterName="c1", principalArn=dev) for p in page["associatedAccessPolicies"]]
eks.disassociate_access_policy(clusterName="c1", principalArn=dev, policyArn=view)
update = eks.update_cluster_config(name="c1", accessConfig={"authenticationMode": "API"})["update"]
out["update"] = [update["status"], eks.describe_update(name="c1", updateId=update["id"])["update"]["status"], eks.list_updates(name="c1")["updateIds"] == [update["id"]]]
arn = eks.describe_cluster(name="c1")["cluster"]["arn"]
eks.tag_resource(resourceArn=arn, tags={"x": "y"})
eks.untag_resource(resourceArn=arn, tagKeys=["a b", "none"])
out["tags"] = eks.list_tags_for_resource(resourceArn=arn)["tags"]
out["tag error"] = code(lambda: eks.tag_resource(resourceArn=arn, tags={"aws:x": "y"}))
eks.delete_access_entry(clusterName="c1", principalArn=dev)
out["missing"] = code(lambda: eks.describe_access_entry(clusterName="c1", principalArn=dev))
out["nodegroups"] = eks.list_nodegroups(clusterName="c1")["nodegroups"]
out["addon"] = code(lambda: eks.describe_addon(clusterName="c1", addonName="vpc-cni"))
out["not offered"] = code(lambda: eks.create_fargate_profile(clusterName="c1", fargateProfileName="f", podExecutionRoleArn=dev))
out["deleted"] = eks.delete_cluster(name="c1")["cluster"]["status"]
eks.get_waiter("cluster_deleted").wait(name="c1")
print(json.dumps(out))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn boto3_manages_clusters_entries_policies_and_tags() {
    let Some(python) = client("COUNTERSIGN_TEST_PYTHON") else {
        return;
    };
    let server = running().await;
    let home = tempfile::tempdir().unwrap();
    let output = server.run(&python, &["-c", SCRIPT], home.path()).await;
    let out: Value = serde_json::from_str(&printed(&output)).unwrap();
    let dev = "arn:aws:iam::111122223333:role/team/a+b=c,d.e@f-_/Dev";
    let ana = "arn:aws:iam::111122223333:user/ana";
    for (name, expected) in [
        ("created", json!("CREATING")),
        (
            "exists",
            json!([
                "ResourceInUseException",
                "Cluster already exists with name: c1",
                "c1",
                409
            ]),
        ),
        ("listed", json!(["c1"])),
        (
            "again",
            json!([
                "ResourceInUseException",
                "The specified access entry resource is already in use on this cluster.",
                "c1",
                409
            ]),
        ),
        ("described", json!(dev)),
        ("groups", json!([])),
        (
            "scope",
            json!({"type": "namespace", "namespaces": ["a", "b-*"]}),
        ),
        ("entries", json!([dev, ana])),
        ("policies", json!(37)),
        ("associated", json!([VIEW])),
        ("update", json!(["InProgress", "Successful", true])),
        ("tags", json!({"x": "y"})),
        (
            "tag error",
            json!([
                "BadRequestException",
                "Tag keys beginning with aws: are reserved",
                null,
                400
            ]),
        ),
        (
            "missing",
            json!([
                "ResourceNotFoundException",
                "The specified principalArn could not be found. You can view your available access entries with 'list-access-entries'.",
                "c1",
                404
            ]),
        ),
        ("nodegroups", json!([])),
        (
            "addon",
            json!([
                "ResourceNotFoundException",
                "No addon: vpc-cni found in cluster: c1",
                "c1",
                404
            ]),
        ),
        (
            "not offered",
            json!([
                "UnknownOperationException",
                "CreateFargateProfile is not offered.",
                null,
                404
            ]),
        ),
        ("deleted", json!("DELETING")),
    ] {
        assert_eq!(out[name], expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_waits_and_writes_kubeconfigs() {
    let Some(aws) = client("COUNTERSIGN_TEST_AWS") else {
        return;
    };
    let server = running().await;
    let home = tempfile::tempdir().unwrap();
    let kubeconfig = home.path().join("config");
    let kubeconfig = kubeconfig.to_str().unwrap();
    let dev = "arn:aws:iam::111122223333:role/team/a+b=c,d.e@f-_/Dev";
    let control_plane = CONTROL_PLANE;
    for args in [
        &[
            "create-cluster",
            "--name",
            "c1",
            "--role-arn",
            control_plane,
            "--resources-vpc-config",
            "subnetIds=subnet-1,subnet-2",
            "--access-config",
            "authenticationMode=API",
        ][..],
        &["wait", "cluster-active", "--name", "c1"],
        &[
            "update-kubeconfig",
            "--name",
            "c1",
            "--kubeconfig",
            kubeconfig,
        ],
        &[
            "create-access-entry",
            "--cluster-name",
            "c1",
            "--principal-arn",
            dev,
        ],
        &[
            "associate-access-policy",
            "--cluster-name",
            "c1",
            "--principal-arn",
            dev,
            "--policy-arn",
            VIEW,
            "--access-scope",
            "type=namespace,namespaces=a,b",
        ],
        &[
            "list-associated-access-policies",
            "--cluster-name",
            "c1",
            "--principal-arn",
            dev,
        ],
        &["delete-cluster", "--name", "c1"],
        &["wait", "cluster-deleted", "--name", "c1"],
    ] {
        let mut all = vec!["eks"];
        all.extend(args);
        let text = printed(&server.run(&aws, &all, home.path()).await);
        match args[0] {
            "list-associated-access-policies" => {
                let found: Value = serde_json::from_str(&text).unwrap();
                let scope = &found["associatedAccessPolicies"][0]["accessScope"];
                assert_eq!(
                    *scope,
                    json!({"type": "namespace", "namespaces": ["a", "b"]})
                );
            }
            "update-kubeconfig" => {
                let written = std::fs::read_to_string(kubeconfig).unwrap();
                assert!(
                    written.contains("arn:aws:eks:us-east-1:111122223333:cluster/c1"),
                    "{written}"
                );
                assert!(written.contains("server: https://"), "{written}");
            }
            _ => {}
        }
    }
}

//! boto3, unmodified, over HTTP, and what AWS's agent needs of an answer.

use std::process::Stdio;

use countersign_server::listen::{Answer, Handler, Limits, ListenerCounters, Peer, serve};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;

#[derive(Clone)]
struct Served(Arc<AwsApi>);

impl Handler for Served {
    async fn handle(&self, peer: Peer, request: http::Request<Incoming>) -> Answer {
        self.0.handle(peer, request).await
    }
}

/// Serves an API until the sender is dropped; its URL.
pub(super) async fn served(api: AwsApi) -> (String, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = watch::channel(false);
    let handler = Served(Arc::new(api));
    let counters = Arc::new(ListenerCounters::default());
    tokio::spawn(serve(
        listener,
        None,
        handler,
        Limits::default(),
        counters,
        stopped,
    ));
    (url, stop)
}

const BOTO: &str = r#"
import json, sys, boto3, botocore
url, good, bad = sys.argv[1:]
client = boto3.client("eks-auth", endpoint_url=url, region_name="us-east-1")
answer = client.assume_role_for_pod_identity(clusterName="orchard", token=good)
def code(**more):
    try:
        client.assume_role_for_pod_identity(**more)
    except botocore.exceptions.ClientError as error:
        return [error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"], type(error).__name__]
given = answer["credentials"]
who = boto3.client("sts", endpoint_url=url, region_name="us-east-1", aws_access_key_id=given["accessKeyId"],
    aws_secret_access_key=given["secretAccessKey"], aws_session_token=given["sessionToken"]).get_caller_identity()
print(json.dumps({
    "missing": [f"{name}.{member}" for name, shape in client.meta.service_model.operation_model("AssumeRoleForPodIdentity").output_shape.members.items()
        if name in client.meta.service_model.operation_model("AssumeRoleForPodIdentity").output_shape.required_members
        for member in (shape.members if shape.type_name == "structure" else [""])
        if not (answer[name][member] if member else answer[name])],
    "expires": given["expiration"].timestamp(),
    "arn": answer["assumedRoleUser"]["arn"], "who": who["Arn"],
    "errors": [code(clusterName="orchard", token=bad), code(clusterName="absent", token=good), code(clusterName="orchard", token="a.b.c")],
}))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_gets_all_members_and_typed_errors() {
    let Ok(python) = std::env::var("COUNTERSIGN_TEST_PYTHON") else {
        eprintln!("SKIPPED: COUNTERSIGN_TEST_PYTHON is not set");
        return;
    };
    let pods = Pods::new().await;
    let (directory, real) = (&pods.world.directory, Timestamp::now());
    directory.maintain_session_keys(real).await.unwrap();
    pods.picker().await;
    let token = |service_account: &str| {
        let mut claims = pods.claims(service_account);
        let at = real.as_second();
        for (claim, value) in [("iat", at - 5), ("nbf", at - 5), ("exp", at + 3600)] {
            claims[claim] = value.into();
        }
        pods.key.sign(&claims).unwrap()
    };
    let (good, bad) = (token("picker"), token("owner"));
    let keys = pods.world.ana.clone();
    let (url, _stop) = served(pods.world.api).await;
    let home = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(python);
    for (name, _) in std::env::vars() {
        if name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command
        .args(["-c", BOTO, &url, &good, &bad])
        .env("HOME", home.path())
        .env("AWS_ACCESS_KEY_ID", &keys.id)
        .env("AWS_SECRET_ACCESS_KEY", &keys.secret)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_MAX_ATTEMPTS", "1")
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["missing"], json!([]));
    assert_eq!(printed["who"], printed["arn"]);
    let life = printed["expires"].as_f64().unwrap() - real.as_second() as f64;
    assert!((21_590.0..21_700.0).contains(&life), "{life}");
    assert_eq!(
        printed["errors"],
        json!([
            [
                "ResourceNotFoundException",
                404,
                "ResourceNotFoundException"
            ],
            [
                "ResourceNotFoundException",
                404,
                "ResourceNotFoundException"
            ],
            ["InvalidTokenException", 400, "InvalidTokenException"],
        ])
    );
}

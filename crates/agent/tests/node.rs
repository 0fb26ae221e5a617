//! A node and its pods as network namespaces with veth between them, at the real addresses: real SDKs in a pod get credentials by
//! the two variables alone, over IPv4 and IPv6, and the address of a pod says whose token it may send.
//!
//! Needs root. Set `COUNTERSIGN_TEST_PYTHON`, `COUNTERSIGN_TEST_AWS`, `COUNTERSIGN_TEST_AWS2`, `COUNTERSIGN_TEST_NODE_MODULES` and
//! `COUNTERSIGN_TEST_GO` for the SDKs.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "tests"
)]
#![cfg(target_os = "linux")]

mod common;

use std::net::IpAddr;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use common::eks_auth::{EksAuthServer, Node};
use common::namespace::{inside, ip, network};
use common::{SECRET, SESSION_TOKEN, claims, sign};
use countersign_agent::link::{LINK, Network, remove};
use countersign_agent::pods::{BindSource, Pod, PodTable};
use countersign_agent::{Agent, AgentConfig};
use countersign_upstream::clock::{Clock, SystemClock};
use tokio::sync::watch;

const URIS: [&str; 2] = [
    "http://169.254.170.23/v1/credentials",
    "http://[fd00:ec2::23]/v1/credentials",
];

/// The network namespace of a pod, removed when dropped. Names of namespaces are the machine's.
struct PodNetwork {
    name: String,
    number: usize,
}

impl PodNetwork {
    /// A pod with an address of each family, routed as network plugins do: the node has a route to the pod, the pod a default
    /// route to the node.
    fn new(number: usize) -> Self {
        let name = format!("countersign-{}-{number}", std::process::id());
        ip(&format!("netns add {name}"));
        let pod = Self { name, number };
        let (v4, v6) = pod.addresses();
        let name = &pod.name;
        ip(&format!(
            "link add pod{number} type veth peer name eth0 netns {name}"
        ));
        ip(&format!("link set pod{number} up"));
        ip(&format!("addr add 10.244.0.1/32 dev pod{number}"));
        ip(&format!("addr add fd10:244::1/128 dev pod{number} nodad"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} addr add {v4}/32 dev eth0"));
        ip(&format!("-n {name} addr add {v6}/128 dev eth0 nodad"));
        ip(&format!("-n {name} route add 10.244.0.1 dev eth0"));
        ip(&format!(
            "-n {name} route add default via 10.244.0.1 dev eth0"
        ));
        ip(&format!("-n {name} -6 route add fd10:244::1 dev eth0"));
        ip(&format!(
            "-n {name} -6 route add default via fd10:244::1 dev eth0"
        ));
        ip(&format!("route add {v4}/32 dev pod{number}"));
        ip(&format!("-6 route add {v6}/128 dev pod{number}"));
        pod
    }

    fn addresses(&self) -> (IpAddr, IpAddr) {
        let number = self.number;
        (
            format!("10.244.0.{}", 10 + number).parse().unwrap(),
            format!("fd10:244::{}", 10 + number).parse().unwrap(),
        )
    }

    fn pod(&self) -> Pod {
        let (v4, v6) = self.addresses();
        Pod {
            addresses: vec![v4, v6],
            ..common::pod(self.number)
        }
    }

    /// Runs a program in the pod with the two variables and nothing else.
    async fn run(&self, program: &str, arguments: &[&str], uri: &str, token: &Path) -> Output {
        tokio::process::Command::new("ip")
            .args(["netns", "exec", &self.name, program])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/nonexistent")
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)
            .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token)
            .output()
            .await
            .unwrap()
    }

    /// The status with which the endpoint answers a token from this pod.
    async fn status(&self, uri: &str, token: &str) -> String {
        let header = format!("Authorization: {token}");
        let arguments = [
            "-s",
            "-g",
            "-m",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            &header,
            uri,
        ];
        let output = self
            .run("curl", &arguments, uri, Path::new("/dev/null"))
            .await;
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// An agent on this node that refuses tokens of others.
async fn agent(
    server: &EksAuthServer,
    network: &Arc<dyn Network>,
    pods: Vec<Pod>,
) -> (Agent, watch::Sender<Option<Arc<PodTable>>>) {
    let table = PodTable::new(pods, vec!["10.244.0.1".parse().unwrap()]);
    let (sender, watch) = watch::channel(Some(Arc::new(table)));
    let mut config = AgentConfig::new(Arc::new(server.client(Node::new())));
    config.link = Some(Arc::clone(network));
    config.require_ipv4 = true;
    config.require_ipv6 = true;
    config.bind_source = BindSource::Enforce;
    config.pods = Some(watch);
    (Agent::start(config).await.unwrap(), sender)
}

const BOTO3: &str = "
import boto3
frozen = boto3.Session().get_credentials().get_frozen_credentials()
print(frozen.access_key, frozen.secret_key, frozen.token)
";

const JAVASCRIPT: &str = "
const { fromHttp } = require(process.argv[1] + '/@aws-sdk/credential-provider-http');
fromHttp()().then(c => console.log(c.accessKeyId, c.secretAccessKey, c.sessionToken));
";

#[test]
fn sdks_in_a_pod_get_credentials_by_two_variables_over_both_families() {
    let test = "sdks_in_a_pod_get_credentials_by_two_variables_over_both_families";
    let variable = |name: &str| {
        let value = std::env::var(name).ok();
        let value = value.filter(|value| Path::new(value).exists());
        if value.is_none() {
            eprintln!("SKIPPED a part of {test}: {name} is not set to what exists");
        }
        value
    };
    let python = variable("COUNTERSIGN_TEST_PYTHON");
    let aws = variable("COUNTERSIGN_TEST_AWS");
    let aws2 = variable("COUNTERSIGN_TEST_AWS2");
    let modules = variable("COUNTERSIGN_TEST_NODE_MODULES");
    let go = variable("COUNTERSIGN_TEST_GO").map(|folder| {
        ["aws-sdk-go-v1", "aws-sdk-go-v2"].map(|program| format!("{folder}/{program}"))
    });
    if !inside(test) {
        return;
    }
    ip("link set lo up");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = EksAuthServer::start(Duration::from_millis(20)).await;
        let network: Arc<dyn Network> = network().into();
        let pod = PodNetwork::new(1);
        let (agent, _pods) = agent(&server, &network, vec![pod.pod()]).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        let token = sign(&claims(1, SystemClock.now().as_second() - 60));
        std::fs::write(file.path(), &token).unwrap();
        let all = ["ASIA0000000000000001", SECRET, SESSION_TOKEN].as_slice();
        let mut programs: Vec<(&str, Vec<&str>, &[&str])> = Vec::new();
        if let Some(python) = &python {
            programs.push((python, vec!["-c", BOTO3], all));
        }
        for aws in [&aws, &aws2].into_iter().flatten() {
            // It shows the end of the key, and where it comes from.
            let shown = ["****************0001", "container-role"].as_slice();
            programs.push((aws, vec!["configure", "list"], shown));
        }
        for program in go.iter().flatten() {
            programs.push((program, vec!["credentials"], all));
        }
        if let Some(modules) = &modules {
            programs.push(("node", vec!["-e", JAVASCRIPT, modules], all));
        }
        for uri in URIS {
            for (program, arguments, parts) in &programs {
                let output = pod.run(program, arguments, uri, file.path()).await;
                let error = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{program} {uri}: {error}");
                let printed = String::from_utf8(output.stdout).unwrap();
                for part in *parts {
                    assert!(printed.contains(part), "{program} {uri}: {printed} {error}");
                }
            }
        }
        let calls = if programs.is_empty() { 0 } else { 1 };
        assert_eq!(
            server.calls().len(),
            calls,
            "one call for all programs and both families"
        );
        agent.stop().await;
        assert!(remove(&*network, LINK).await.unwrap());
    });
}

#[test]
fn a_token_of_one_pod_is_refused_in_another_pod_and_on_the_node() {
    let test = "a_token_of_one_pod_is_refused_in_another_pod_and_on_the_node";
    if !inside(test) {
        return;
    }
    ip("link set lo up");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = EksAuthServer::start(Duration::ZERO).await;
        let network: Arc<dyn Network> = network().into();
        let (one, two) = (PodNetwork::new(1), PodNetwork::new(2));
        let (agent, pods) = agent(&server, &network, vec![one.pod(), two.pod()]).await;
        let now = SystemClock.now().as_second();
        let tokens: Vec<String> = (0..4).map(|n| sign(&claims(n, now - 60))).collect();
        let token = |number: usize| tokens[number].as_str();
        for uri in URIS {
            for (from, number, status) in [
                (&one, 1, "200"),
                (&two, 1, "403"),
                (&two, 2, "200"),
                (&one, 2, "403"),
                // Pod 3 is none of this node.
                (&one, 3, "400"),
            ] {
                let got = from.status(uri, token(number)).await;
                assert_eq!(got, status, "token of {number} in {} to {uri}", from.name);
            }
        }
        assert_eq!(server.calls().len(), 2);
        // A pod that is deleted has nothing any more, whatever its token says.
        let table = PodTable::new([two.pod()], Vec::new());
        pods.send_replace(Some(Arc::new(table)));
        assert_eq!(one.status(URIS[0], token(1)).await, "400");
        assert_eq!(two.status(URIS[1], token(2)).await, "200");
        agent.stop().await;
        assert!(remove(&*network, LINK).await.unwrap());
    });
}

//! At the real addresses: a real SDK gets credentials by the two environment variables alone, over IPv4 and IPv6, and a stolen
//! token gets none.
//!
//! Runs in a network namespace of its own, with the link that the agent itself makes. Set `COUNTERSIGN_TEST_PYTHON` to a Python
//! that has boto3.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "tests"
)]
#![cfg(target_os = "linux")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::eks_auth::{EksAuthServer, Node};
use common::namespace::{inside, ip, network};
use common::{World, claims, pod, sign};
use countersign_agent::link::{IPV4, IPV6, LINK, Network, is_set_up, remove};
use countersign_agent::pods::{BindSource, PodTable};
use countersign_agent::{Agent, AgentConfig};
use countersign_upstream::clock::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::watch;

const PROGRAM: &str = "
import boto3
credentials = boto3.Session().get_credentials()
frozen = credentials.get_frozen_credentials()
print(credentials.method, frozen.access_key, frozen.secret_key, frozen.token, frozen.account_id)
";

#[test]
fn boto3_gets_credentials_by_two_variables_over_both_families() {
    let test = "boto3_gets_credentials_by_two_variables_over_both_families";
    let Some(python) = std::env::var_os("COUNTERSIGN_TEST_PYTHON") else {
        eprintln!("SKIPPED {test}: COUNTERSIGN_TEST_PYTHON is not set");
        return;
    };
    if !inside(test) {
        return;
    }
    ip("link set lo up");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = EksAuthServer::start(Duration::from_millis(20)).await;
        let network: Arc<dyn Network> = network().into();
        let mut config = AgentConfig::new(Arc::new(server.client(Node::new())));
        config.link = Some(Arc::clone(&network));
        config.require_ipv4 = true;
        config.require_ipv6 = true;
        let agent = Agent::start(config).await.unwrap();
        for address in [IPV4, IPV6] {
            assert!(is_set_up(&*network, LINK, address).await.unwrap());
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let token = sign(&claims(1, SystemClock.now().as_second() - 60));
        std::fs::write(file.path(), &token).unwrap();
        for uri in [
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
        ] {
            let output = tokio::process::Command::new(&python)
                .args(["-c", PROGRAM])
                .env_clear()
                .env("HOME", "/nonexistent")
                .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)
                .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.path())
                .output()
                .await
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{uri}: {error}");
            let expected = format!(
                "container-role ASIA0000000000000001 {} {} 210987654321\n",
                common::SECRET,
                common::SESSION_TOKEN
            );
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{uri}");
        }
        assert_eq!(server.calls(), [token], "both families share one cache");
        agent.stop().await;
        assert!(remove(&*network, LINK).await.unwrap());
    });
}

#[test]
fn a_stolen_token_is_refused_by_the_address_that_it_came_from() {
    if !inside("a_stolen_token_is_refused_by_the_address_that_it_came_from") {
        return;
    }
    ip("link set lo up");
    for number in [1, 2] {
        ip(&format!("addr add {}/32 dev lo", World::address(number)));
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = EksAuthServer::start(Duration::ZERO).await;
        let table = Arc::new(PodTable::new([pod(1), pod(2)], Vec::new()));
        let (_pods, watch) = watch::channel(Some(table));
        let mut config = AgentConfig::new(Arc::new(server.client(Node::new())));
        config.link = Some(network().into());
        config.probes = None;
        config.bind_source = BindSource::Enforce;
        config.pods = Some(watch);
        let agent = Agent::start(config).await.unwrap();
        let now = SystemClock.now().as_second();
        let token = |number| sign(&claims(number, now - 60));
        let (own, other) = (World::address(1), World::address(2));
        for (source, number, status) in [
            (Some(own), 1, "200"),
            (Some(other), 1, "403"),
            (Some(other), 2, "200"),
            (Some(own), 2, "403"),
            // A process of the node itself has the address that it goes to.
            (None, 1, "403"),
        ] {
            let socket = TcpSocket::new_v4().unwrap();
            if let Some(source) = source {
                socket.bind(SocketAddr::new(source, 0)).unwrap();
            }
            let mut stream = socket.connect(SocketAddr::new(IPV4, 80)).await.unwrap();
            let request = format!(
                "GET /v1/credentials HTTP/1.1\r\nHost: 169.254.170.23\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
                token(number)
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.split(' ').nth(1), Some(status), "{source:?} {answer}");
        }
        assert_eq!(server.calls().len(), 2);
        agent.stop().await;
    });
}

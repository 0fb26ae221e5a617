//! A real SDK gets credentials by the two environment variables alone, at the real addresses, over IPv4 and IPv6.
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

use std::sync::Arc;
use std::time::Duration;

use common::eks_auth::{EksAuthServer, Node};
use common::namespace::{inside, ip, network};
use common::{claims, sign};
use countersign_agent::link::{IPV4, IPV6, LINK, Network, is_set_up, remove};
use countersign_agent::{Agent, AgentConfig};
use countersign_upstream::clock::{Clock, SystemClock};

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

//! Credentials through the AWS SDK, each source against a fake on loopback.
//!
//! The SDK reads the environment of the process, so each case runs in a child: this test program itself, told to run `child` alone.
#![cfg(feature = "aws-chain")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that fails should panic; the child prints what the parent reads"
)]

mod common;

use std::process::Command;

use common::{Fake, Shell, parse};
use countersign_client::get_token::{self, Style};
use countersign_client::{Environment, Io, Process};
use countersign_token::{Options, Parameter, PresignedToken, Rules};
use jiff::Timestamp;

#[test]
#[ignore = "run by the other tests, with an environment of its own"]
fn child() {
    let Ok(line) = std::env::var("CHILD_ARGS") else {
        return;
    };
    let args = parse(&line.split(' ').collect::<Vec<_>>());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = get_token::run(
        &args,
        Style::Authenticator,
        &Process {
            env: Environment::of_process(),
            clock: &Timestamp::now,
        },
        &mut Io {
            stdin: &mut &b""[..],
            stdout: &mut stdout,
            stderr: &mut stderr,
        },
    );
    println!(
        "\nRESULT {code} {}",
        serde_json::json!([
            String::from_utf8(stdout).unwrap(),
            String::from_utf8(stderr).unwrap()
        ])
    );
}

/// Exit code, stdout, stderr.
fn run(shell: &Shell, args: &str) -> (u8, String, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env_clear()
        .envs(shell.env.iter().map(|(name, value)| (name, value)))
        .env("NO_PROXY", "127.0.0.1")
        .env("CHILD_ARGS", args)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let result = text
        .lines()
        .find_map(|line| line.strip_prefix("RESULT "))
        .unwrap_or_else(|| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)));
    let (code, streams) = result.split_once(' ').unwrap();
    let [stdout, stderr]: [String; 2] = serde_json::from_str(streams).unwrap();
    (code.parse().unwrap(), stdout, stderr)
}

/// Host, access key id and session token of the token that came out.
fn minted(shell: &Shell, args: &str) -> (String, String, Option<String>) {
    let (code, stdout, stderr) = run(shell, args);
    assert_eq!(code, 0, "{stderr}");
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let rules = Rules::new(Options {
        trusted_endpoints: vec![shell_sts(shell)],
        allow_insecure_trusted_endpoint: true,
        ..Options::default()
    });
    let token = json["status"]["token"].as_str().unwrap();
    let token = PresignedToken::parse(token, &rules.unwrap(), Timestamp::now()).unwrap();
    (
        token.host().to_owned(),
        token.access_key_id().into_owned(),
        token.parameter(Parameter::SecurityToken).map(Into::into),
    )
}

fn shell_sts(shell: &Shell) -> String {
    let url = shell
        .env
        .iter()
        .find(|(name, _)| name == "AWS_ENDPOINT_URL_STS");
    url.map_or("https://unused.example/".to_owned(), |(_, url)| {
        format!("{url}/")
    })
}

fn in_an_hour() -> String {
    Timestamp::now()
        .saturating_add(jiff::SignedDuration::from_hours(1))
        .unwrap()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

fn regional() -> Shell {
    Shell::new()
        .set("AWS_REGION", "eu-west-1")
        .set("AWS_EC2_METADATA_DISABLED", "true")
}

#[test]
fn a_process_gives_credentials() {
    let body = format!(
        r#"{{"Version":1,"AccessKeyId":"ASIAPROCESS","SecretAccessKey":"s","SessionToken":"t","Expiration":"{}"}}"#,
        in_an_hour()
    );
    let shell = regional()
        .file("creds.json", &body)
        .set("AWS_PROFILE", "p")
        .set("PATH", "/usr/bin:/bin");
    let config = format!(
        "[profile p]\ncredential_process = cat {}\n",
        shell.path("creds.json").display()
    );
    let shell = shell.file(".aws/config", &config);
    let (host, key, token) = minted(&shell, "-i demo");
    assert_eq!(host, "sts.eu-west-1.amazonaws.com");
    assert_eq!((key.as_str(), token.as_deref()), ("ASIAPROCESS", Some("t")));
}

#[test]
fn a_role_is_assumed_with_credentials_of_a_process() {
    let fake = Fake::sts(
        "arn:aws:sts::444455556666:assumed-role/Dev/ana",
        "AROA:ana",
        &in_an_hour(),
    );
    let shell = regional()
        .file(
            "creds.json",
            r#"{"Version":1,"AccessKeyId":"AKIAPROCESS","SecretAccessKey":"s"}"#,
        )
        .set("AWS_PROFILE", "p")
        .set("PATH", "/usr/bin:/bin")
        .set("AWS_ENDPOINT_URL_STS", &fake.url);
    let config = format!(
        "[profile p]\nrole_arn = arn:aws:iam::444455556666:role/Ops\nsource_profile = q\n[profile q]\ncredential_process = cat {}\n",
        shell.path("creds.json").display()
    );
    let shell = shell.file(".aws/config", &config);
    assert_eq!(minted(&shell, "-i demo").1, "ASIAASSUMED000000001");
    assert!(
        fake.seen()[0]
            .header("authorization")
            .contains("Credential=AKIAPROCESS/")
    );
}

#[test]
fn a_container_gives_credentials() {
    let body = format!(
        r#"{{"AccessKeyId":"ASIACONTAINER","SecretAccessKey":"s","Token":"t","Expiration":"{}"}}"#,
        in_an_hour()
    );
    let fake = Fake::new(move |_| (200, body.clone()));
    let shell = regional()
        .set(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &format!("{}/creds", fake.url),
        )
        .set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "secret-of-pod");
    assert_eq!(minted(&shell, "-i demo").1, "ASIACONTAINER");
    assert_eq!(fake.seen()[0].header("authorization"), "secret-of-pod");
}

#[test]
fn a_web_identity_token_gives_credentials() {
    let fake = Fake::new({
        let expiration = in_an_hour();
        move |_| {
            (
                200,
                format!(
                    "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult><AssumedRoleUser><Arn>arn:aws:sts::444455556666:assumed-role/Ops/x</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>ASIAWEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{expiration}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
                ),
            )
        }
    });
    let shell = regional()
        .file("token", "eyJ.e30.c2ln")
        .set("AWS_ENDPOINT_URL_STS", &fake.url);
    let path = shell.path("token");
    let shell = shell
        .set("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().unwrap())
        .set("AWS_ROLE_ARN", "arn:aws:iam::444455556666:role/Ops");
    assert_eq!(minted(&shell, "-i demo").1, "ASIAWEB");
    let seen = fake.seen();
    assert_eq!(
        seen[0].parameter("Action"),
        Some("AssumeRoleWithWebIdentity")
    );
    assert_eq!(seen[0].parameter("WebIdentityToken"), Some("eyJ.e30.c2ln"));
}

fn metadata(expiration: String) -> Fake {
    Fake::new(move |seen| {
        let path = seen.line.split(' ').nth(1).unwrap_or_default();
        match path {
            "/latest/api/token" => (200, "imds-token".to_owned()),
            "/latest/meta-data/iam/security-credentials/" => (200, "role".to_owned()),
            "/latest/meta-data/iam/security-credentials/role" => (
                200,
                format!(
                    r#"{{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAINSTANCE","SecretAccessKey":"s","Token":"t","LastUpdated":"2026-01-01T00:00:00Z","Expiration":"{expiration}"}}"#
                ),
            ),
            "/latest/meta-data/placement/region" => (200, "eu-north-1".to_owned()),
            _ => (404, String::new()),
        }
    })
}

#[test]
fn an_instance_gives_credentials_and_its_region() {
    let fake = metadata(in_an_hour());
    let shell = Shell::new().set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &fake.url);
    let (host, key, _) = minted(&shell, "-i demo");
    assert_eq!(
        (host.as_str(), key.as_str()),
        ("sts.eu-north-1.amazonaws.com", "ASIAINSTANCE")
    );
}

#[test]
fn instance_metadata_is_not_asked_for_a_region_that_is_known() {
    let fake = metadata(in_an_hour());
    let shell = Shell::new()
        .set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &fake.url)
        .set("AWS_REGION", "eu-west-1");
    assert_eq!(minted(&shell, "-i demo").0, "sts.eu-west-1.amazonaws.com");
    assert!(
        !fake
            .seen()
            .iter()
            .any(|seen| seen.line.contains("placement/region"))
    );
    // Keys of the environment: the metadata is not asked for anything, not even for the region.
    let asked = fake.seen().len();
    let shell = Shell::with_keys().set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &fake.url);
    assert_eq!(minted(&shell, "-i demo").0, "sts.us-east-1.amazonaws.com");
    assert_eq!(fake.seen().len(), asked);
}

#[test]
fn nothing_anywhere_is_an_error_that_says_so() {
    let (code, stdout, stderr) = run(&regional(), "-i demo");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("Unable to locate credentials"), "{stderr}");
}

#[test]
fn a_ca_bundle_that_is_missing_is_an_error() {
    let shell = regional()
        .set("AWS_CA_BUNDLE", "/nonexistent/ca.pem")
        .set("AWS_EC2_METADATA_DISABLED", "false");
    let (code, _, stderr) = run(&shell, "-i demo");
    assert_eq!(code, 1);
    assert!(
        stderr.contains("could not read the CA bundle /nonexistent/ca.pem"),
        "{stderr}"
    );
}

//! `get-token`, `token` and `eks get-token` as kubectl runs them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails should panic"
)]

mod common;

use common::{Fake, KEY, NOW, SECRET, Shell, mode, sts};
use countersign_sigv4::{KeyLookup, Presigned, SecretKey, ServicePolicy};
use countersign_token::{EndpointKind, Options, Parameter, PresignedToken, Rules};

/// The worked vector of the authentication spec, section 1.3.
const VECTOR: &str = "k8s-aws-v1.aHR0cHM6Ly9zdHMuZXUtd2VzdC0xLmFtYXpvbmF3cy5jb20vP0FjdGlvbj1HZXRDYWxsZXJJZGVudGl0eSZWZXJzaW9uPTIwMTEtMDYtMTUmWC1BbXotQWxnb3JpdGhtPUFXUzQtSE1BQy1TSEEyNTYmWC1BbXotQ3JlZGVudGlhbD1BS0lEQ09VTlRFUlNJR04wMDAwMSUyRjIwMjYwMTAyJTJGZXUtd2VzdC0xJTJGc3RzJTJGYXdzNF9yZXF1ZXN0JlgtQW16LURhdGU9MjAyNjAxMDJUMDMwNDA1WiZYLUFtei1FeHBpcmVzPTYwJlgtQW16LVNpZ25lZEhlYWRlcnM9aG9zdCUzQngtazhzLWF3cy1pZCZYLUFtei1TaWduYXR1cmU9OTIyODZhMmRiMWY1ZWYwMTA2YTUwNThmNDJkODY0NGJhZTA5Yjc5N2VmODFlNTM1YmZiMzZlNmNlZDA2YzM4Mw";

const ROLE: &str = "arn:aws:iam::444455556666:role/Ops";
const SESSION_ARN: &str = "arn:aws:sts::444455556666:assumed-role/Dev/ana@example.com";

fn rules(trusted: &str) -> Rules {
    Rules::new(Options {
        trusted_endpoints: vec![trusted.to_owned()],
        allow_insecure_trusted_endpoint: true,
        ..Options::default()
    })
    .unwrap()
}

#[test]
fn the_worked_vector_comes_out_byte_for_byte() {
    let shell = Shell::with_keys();
    let out = shell.token(&["-i", "demo-cluster", "--region", "eu-west-1"]);
    assert_eq!(
        out.stdout,
        format!(
            "{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1beta1\",\"spec\":{{\"interactive\":false}},\"status\":{{\"expirationTimestamp\":\"2026-01-02T03:18:05Z\",\"token\":\"{VECTOR}\"}}}}\n"
        )
    );
    assert_eq!((out.code, out.stderr.as_str()), (0, ""));
    let out = shell.eks_get_token(&[
        "--region",
        "eu-west-1",
        "--cluster-name",
        "demo-cluster",
        "--output",
        "json",
    ]);
    assert_eq!(out.token(), VECTOR);
    assert!(out.stdout.contains(r#""spec":{}"#));
    let out = shell.token(&[
        "-i",
        "demo-cluster",
        "--region",
        "eu-west-1",
        "--token-only",
    ]);
    assert_eq!(out.stdout, format!("{VECTOR}\n"));
}

#[test]
fn command_lines_of_both_tools_are_accepted() {
    let shell = Shell::with_keys().set("AWS_REGION", "eu-west-1");
    for line in [
        &["--cluster-name", "demo-cluster"][..],
        &["--cluster-id", "demo-cluster"],
        &["-i", "demo-cluster"],
        &[
            "--cluster-name=demo-cluster",
            "--output=json",
            "--no-cli-pager",
        ],
        &["-i", "demo-cluster", "-v", "debug", "-l", "json"],
        &[
            "--cluster-id",
            "demo-cluster",
            "--role-arn",
            "",
            "--profile",
            "",
        ],
        &[
            "--cluster-name",
            "demo-cluster",
            "--endpoint-url",
            "https://eks.example",
            "--color",
            "off",
        ],
    ] {
        assert_eq!(shell.token(line).token(), VECTOR, "{line:?}");
        assert_eq!(shell.eks_get_token(line).token(), VECTOR, "{line:?}");
    }
}

#[test]
fn failures_exit_as_the_other_tools_do() {
    let shell = Shell::with_keys();
    let out = shell.token(&[]);
    assert_eq!((out.code, out.stdout.as_str()), (1, ""));
    assert!(
        out.stderr.contains("cluster ID not specified"),
        "{}",
        out.stderr
    );
    let out = shell.eks_get_token(&[]);
    assert_eq!((out.code, out.stdout.as_str()), (255, ""));
    assert!(
        out.stderr
            .contains("--cluster-name or --cluster-id must be specified")
    );
    let both = ["--cluster-name", "a", "--cluster-id", "b"];
    assert_eq!(shell.eks_get_token(&both).code, 255);
    let out = shell.token(&["-i", "a", "-s", "x", "--forward-session-name"]);
    assert_eq!(out.code, 1);
    assert!(
        out.stderr
            .contains("cannot specify both --forward-session-name")
    );
    let out = Shell::with_keys()
        .set("AWS_REGION", "a.b")
        .token(&["-i", "a"]);
    assert!(
        out.stderr
            .starts_with("could not get token: `a.b` is not a region"),
        "{}",
        out.stderr
    );
    let out = shell.token(&["-i", "démo", "--region", "eu-west-1"]);
    assert_eq!(out.code, 1, "{out:?}");
    let out = shell.token(&["-i", "a\nb", "--region", "eu-west-1"]);
    assert_eq!(out.code, 1, "{out:?}");
}

#[test]
fn the_cluster_comes_from_flag_environment_file_or_client_in_this_order() {
    let exec_info = r#"{"apiVersion":"client.authentication.k8s.io/v1","spec":{"cluster":{"config":{"clusterID":"of-client"}}}}"#;
    let cluster = |out: common::Output| {
        let now = NOW.parse().unwrap();
        let text = out.token();
        let token = PresignedToken::parse(&text, &Rules::default(), now).unwrap();
        let policy = ServicePolicy::for_service("sts");
        ["of-flag", "of-env", "of-file", "of-client"]
            .into_iter()
            .find(|id| {
                let presigned = Presigned::from_query(token.raw_query(), &policy, now).unwrap();
                let secret = SecretKey::new(SECRET);
                let headers = [("x-k8s-aws-id", *id)];
                presigned
                    .verify(
                        token.host(),
                        token.path(),
                        &headers,
                        &policy,
                        KeyLookup::Secret(&secret),
                    )
                    .is_ok()
            })
            .unwrap()
    };
    let base = || Shell::with_keys().set("AWS_REGION", "eu-west-1");
    let shell = base().set("KUBERNETES_EXEC_INFO", exec_info);
    assert_eq!(cluster(shell.token(&[])), "of-client");
    assert_eq!(cluster(shell.eks_get_token(&[])), "of-client");
    let shell = shell.file("config.yaml", "clusterid: of-file\nserver: {}\n");
    let file = shell.path("config.yaml");
    let file = file.to_str().unwrap();
    assert_eq!(cluster(shell.token(&["-c", file])), "of-file");
    let shell = shell.set("KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID", "of-env");
    assert_eq!(cluster(shell.token(&["-c", file])), "of-env");
    assert_eq!(cluster(shell.eks_get_token(&["-c", file])), "of-file");
    assert_eq!(
        cluster(shell.token(&["-c", file, "-i", "of-flag"])),
        "of-flag"
    );
}

#[test]
fn the_version_answered_is_the_clients() {
    let shell = |info: &str| {
        Shell::with_keys()
            .set("AWS_REGION", "eu-west-1")
            .set("KUBERNETES_EXEC_INFO", info)
            .token(&["-i", "demo-cluster"])
    };
    let out = shell(r#"{"apiVersion":"client.authentication.k8s.io/v1"}"#);
    assert_eq!(out.json()["apiVersion"], "client.authentication.k8s.io/v1");
    assert_eq!(out.stderr, "");
    let out = shell("nonsense");
    assert_eq!(
        out.json()["apiVersion"],
        "client.authentication.k8s.io/v1beta1"
    );
    assert!(out.stderr.contains("KUBERNETES_EXEC_INFO"));
}

#[test]
fn custom_endpoints_give_tokens_that_verify_in_process() {
    let now = NOW.parse().unwrap();
    for (configured, origin, signed_host) in [
        (
            "https://sts.cs.example:8443",
            "https://sts.cs.example:8443/",
            "sts.cs.example:8443",
        ),
        (
            "https://cs.example/sts",
            "https://cs.example/sts",
            "cs.example",
        ),
        (
            "https://cs.example/sts/",
            "https://cs.example/sts/",
            "cs.example",
        ),
        (
            "http://127.0.0.1:9999",
            "http://127.0.0.1:9999/",
            "127.0.0.1:9999",
        ),
        (
            "https://cs.example:443/",
            "https://cs.example:443/",
            "cs.example",
        ),
        ("http://[::1]:4600/", "http://[::1]:4600/", "[::1]:4600"),
    ] {
        for session_token in [None, Some("FwoGZXIvYXdz/+==")] {
            let mut shell = Shell::with_keys()
                .set("AWS_REGION", "eu-west-1")
                .set("AWS_ENDPOINT_URL_STS", configured);
            if let Some(token) = session_token {
                shell = shell.set("AWS_SESSION_TOKEN", token);
            }
            let text = shell.token(&["-i", "demo"]).token();
            let token = PresignedToken::parse(&text, &rules(origin), now).unwrap();
            assert_eq!(token.endpoint(), EndpointKind::Trusted);
            assert!(
                token
                    .url()
                    .starts_with(&format!("{origin}?Action=GetCallerIdentity&"))
            );
            assert_eq!(
                token.parameter(Parameter::SecurityToken).as_deref(),
                session_token
            );
            let policy = ServicePolicy::for_service("sts");
            let verify = |host: &str, cluster: &str| {
                Presigned::from_query(token.raw_query(), &policy, now)
                    .unwrap()
                    .verify(
                        host,
                        token.path(),
                        &[("x-k8s-aws-id", cluster)],
                        &policy,
                        KeyLookup::Secret(&SecretKey::new(SECRET)),
                    )
                    .is_ok()
            };
            assert!(verify(signed_host, "demo"), "{configured}");
            assert!(!verify(signed_host, "other"), "{configured}");
            assert!(!verify("evil.example", "demo"), "{configured}");
        }
    }
}

#[test]
fn queries_and_formats_are_those_of_the_aws_cli() {
    let shell = Shell::with_keys().set("AWS_REGION", "eu-west-1");
    let run = |rest: &[&str]| {
        let mut line = vec!["--cluster-name", "demo-cluster"];
        line.extend(rest);
        shell.eks_get_token(&line).stdout
    };
    assert_eq!(run(&["--query", "status.token"]), format!("\"{VECTOR}\"\n"));
    assert_eq!(
        run(&["--query", "status.token", "--output", "text"]),
        format!("{VECTOR}\n")
    );
    assert_eq!(
        run(&["--query", "status.nothing", "--output", "text"]),
        "None\n"
    );
    assert_eq!(run(&["--query", "status.nothing"]), "null\n");
    assert_eq!(
        run(&[
            "--query",
            "\"status\".\"expirationTimestamp\"",
            "--output",
            "text"
        ]),
        "2026-01-02T03:18:05Z\n"
    );
    assert_eq!(
        run(&["--output", "text"]),
        format!(
            "client.authentication.k8s.io/v1beta1\tExecCredential\nSTATUS\t2026-01-02T03:18:05Z\t{VECTOR}\n"
        )
    );
    let yaml = run(&["--output", "yaml"]);
    assert!(yaml.starts_with("apiVersion: client.authentication.k8s.io/v1beta1\nkind: ExecCredential\nspec: {}\nstatus:\n  expirationTimestamp: \"2026-01-02T03:18:05Z\"\n"), "{yaml}");
    let shell = Shell::with_keys()
        .set("AWS_REGION", "eu-west-1")
        .set("AWS_DEFAULT_OUTPUT", "text");
    let line = ["--cluster-name", "demo-cluster", "--query", "status.token"];
    assert_eq!(shell.eks_get_token(&line).stdout, format!("{VECTOR}\n"));
    assert_eq!(shell.token(&line).stdout, format!("\"{VECTOR}\"\n"));
    for unsupported in [
        "status[0]",
        "*",
        "status | token",
        "status.token || 'x'",
        "keys(@)",
        "{a: kind}",
        "",
        ".",
        "status.",
        "a b",
    ] {
        let out = shell.eks_get_token(&["--cluster-name", "d", "--query", unsupported]);
        assert_eq!((out.code, out.stdout.as_str()), (255, ""), "{unsupported}");
        assert!(out.stderr.contains("is not supported"), "{}", out.stderr);
    }
}

#[test]
fn without_a_region_the_fallback_is_said_aloud() {
    let out = Shell::with_keys().token(&["-i", "demo"]);
    let url = PresignedToken::parse(&out.token(), &Rules::default(), NOW.parse().unwrap()).unwrap();
    assert_eq!(url.host(), "sts.us-east-1.amazonaws.com");
    assert!(
        out.stderr
            .contains("no region is configured; using us-east-1")
    );
}

#[test]
fn a_token_is_announced_to_end_before_its_credentials() {
    for (credentials_end, announced) in [
        ("2026-01-02T05:00:00Z", "2026-01-02T03:18:05Z"),
        ("2026-01-02T03:19:05Z", "2026-01-02T03:18:05Z"),
        ("2026-01-02T03:19:04Z", "2026-01-02T03:18:04Z"),
        ("2026-01-02T03:10:05Z", "2026-01-02T03:09:05Z"),
        ("2026-01-02T03:04:35Z", "2026-01-02T03:04:05Z"),
    ] {
        let out = Shell::with_keys()
            .set("AWS_REGION", "eu-west-1")
            .set("AWS_SESSION_TOKEN", "t")
            .set("AWS_CREDENTIAL_EXPIRATION", credentials_end)
            .token(&["-i", "demo"]);
        assert_eq!(
            out.json()["status"]["expirationTimestamp"],
            announced,
            "{credentials_end}"
        );
    }
    let out = Shell::with_keys()
        .set("AWS_REGION", "eu-west-1")
        .set("AWS_CREDENTIAL_EXPIRATION", NOW)
        .token(&["-i", "demo"]);
    assert_eq!(out.code, 1);
    assert!(
        out.stderr
            .contains("the credentials from Environment expired at"),
        "{}",
        out.stderr
    );
}

fn with_sts(fake: &Fake) -> Shell {
    Shell::with_keys()
        .set("AWS_REGION", "eu-west-1")
        .set("AWS_ENDPOINT_URL_STS", &fake.url)
        .set("NO_PROXY", "127.0.0.1")
}

#[test]
fn a_role_is_assumed_with_the_callers_own_session_name() {
    let fake = Fake::sts(SESSION_ARN, "AROA:ana@example.com", "2026-01-02T04:04:05Z");
    let shell = with_sts(&fake);
    let out = shell.token(&["-i", "demo", "-r", ROLE, "-e", "ext/id=1"]);
    let rules = rules(&format!("{}/", fake.url));
    let text = out.token();
    let token = PresignedToken::parse(&text, &rules, NOW.parse().unwrap()).unwrap();
    assert_eq!(token.access_key_id(), "ASIAASSUMED000000001");
    assert_eq!(
        token.parameter(Parameter::SecurityToken).unwrap(),
        "assumed/token=="
    );
    assert_eq!(fake.actions(), ["GetCallerIdentity", "AssumeRole"]);
    let assume = &fake.seen()[1];
    assert_eq!(assume.line, "POST / HTTP/1.1");
    assert_eq!(
        assume.parameter("RoleArn"),
        Some("arn%3Aaws%3Aiam%3A%3A444455556666%3Arole%2FOps")
    );
    assert_eq!(
        assume.parameter("RoleSessionName"),
        Some("ana%40example.com")
    );
    assert_eq!(assume.parameter("ExternalId"), Some("ext%2Fid%3D1"));
    assert_eq!(assume.parameter("DurationSeconds"), Some("3600"));
    assert!(assume.header("authorization").starts_with(&format!(
        "AWS4-HMAC-SHA256 Credential={KEY}/20260102/eu-west-1/sts/aws4_request, "
    )));
}

#[test]
fn session_names_follow_caller_and_flags() {
    for (arn, user_id, flags, name) in [
        (
            "arn:aws:iam::444455556666:user/div/Ana",
            "AIDA1",
            &[][..],
            "Ana",
        ),
        (
            "arn:aws:iam::444455556666:root",
            "444455556666",
            &[],
            "444455556666",
        ),
        (
            "arn:aws:sts::444455556666:federated-user/Bob",
            "444455556666:Bob",
            &[],
            "Bob",
        ),
        (
            "arn:aws:iam::444455556666:user/A",
            "AIDA1",
            &[],
            "EKSGetTokenAuth",
        ),
        ("nonsense", "AIDA1", &[], "EKSGetTokenAuth"),
        (
            SESSION_ARN,
            "AROA:ana@example.com",
            &["-s", "other"],
            "other",
        ),
        (
            SESSION_ARN,
            "AROA:from-user-id",
            &["--forward-session-name"],
            "from-user-id",
        ),
        (
            "arn:aws:iam::444455556666:user/Ana",
            "AIDA1",
            &["--forward-session-name"],
            "countersign-1767323045",
        ),
    ] {
        let fake = Fake::sts(arn, user_id, "2026-01-02T04:04:05Z");
        let mut line = vec!["-i", "demo", "--role", ROLE];
        line.extend(flags);
        with_sts(&fake).token(&line).token();
        let seen = fake.seen();
        let got = seen.last().unwrap().parameter("RoleSessionName").unwrap();
        assert_eq!(got, name, "{arn} {flags:?}");
    }
}

#[test]
fn the_default_role_of_the_environment_counts_for_the_authenticators_command_only() {
    let fake = Fake::sts(SESSION_ARN, "AROA:ana@example.com", "2026-01-02T04:04:05Z");
    let shell = with_sts(&fake).set("DEFAULT_ROLE", ROLE);
    shell.eks_get_token(&["--cluster-name", "demo"]).token();
    assert_eq!(fake.actions().len(), 0);
    shell.token(&["-i", "demo"]).token();
    assert_eq!(fake.actions(), ["GetCallerIdentity", "AssumeRole"]);
}

#[test]
fn a_refusal_of_sts_is_told_with_its_code_and_no_secret() {
    let fake = Fake::new(|_| {
        (403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>User is not authorized &amp; never\u{1b}[31m was</Message></Error></ErrorResponse>".to_owned())
    });
    let out = with_sts(&fake).token(&["-i", "demo", "-r", ROLE]);
    assert_eq!((out.code, out.stdout.as_str()), (1, ""));
    assert!(
        out.stderr.starts_with("could not get token: An error occurred (AccessDenied) when calling the AssumeRole operation: User is not authorized & never"),
        "{}",
        out.stderr
    );
    assert!(!out.stderr.contains('\u{1b}') && !out.stderr.contains(SECRET));
    // --forward-session-name has to know the caller.
    let out = with_sts(&fake).token(&["-i", "demo", "-r", ROLE, "--forward-session-name"]);
    assert!(out.stderr.contains("GetCallerIdentity"), "{}", out.stderr);
}

#[test]
fn answers_that_are_not_those_of_sts_are_refused() {
    for body in [
        "",
        "<html>",
        "{}",
        "<AssumeRoleResponse></AssumeRoleResponse>",
        "<Arn>x</Arn><UserId>A:b</UserId><AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>soon</Expiration>",
    ] {
        let fake = Fake::new(move |_| (200, body.to_owned()));
        let out = with_sts(&fake).token(&["-i", "demo", "-r", ROLE]);
        assert_eq!((out.code, out.stdout.as_str()), (1, ""), "{body}");
        assert!(
            out.stderr
                .contains("gave no usable answer to AssumeRole (HTTP 200)"),
            "{}",
            out.stderr
        );
    }
    let fake = Fake::new(|_| (302, String::new()));
    let out = with_sts(&fake).token(&["-i", "demo", "-r", ROLE, "-s", "ana"]);
    assert!(out.stderr.contains("(HTTP 302)"), "{}", out.stderr);
    assert_eq!(
        fake.seen().len(),
        1,
        "a redirect is neither followed nor tried again"
    );
}

#[test]
fn an_answer_without_bound_is_not_read() {
    let fake = Fake::new(|_| (200, "x".repeat(300 * 1024)));
    let out = with_sts(&fake).token(&["-i", "demo", "-r", ROLE, "-s", "ana"]);
    assert_eq!(out.code, 1);
    assert!(
        out.stderr.contains("is longer than 262144 bytes"),
        "{}",
        out.stderr
    );
}

#[test]
fn a_server_error_is_tried_again() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let fake = Fake::new(move |_| {
        match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => (503, String::new()),
        _ => (200, "<AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2026-01-02T04:04:05Z</Expiration>".to_owned()),
    }
    });
    with_sts(&fake)
        .token(&["-i", "demo", "-r", ROLE, "-s", "ana"])
        .token();
    assert_eq!(fake.seen().len(), 2);
}

const ROLE_PROFILE: &str = "[profile ops]\nrole_arn = arn:aws:iam::444455556666:role/Ops\nsource_profile = base\nexternal_id = e1\nrole_session_name = me\nduration_seconds = 1800\nregion = eu-west-1\n";

fn with_role_profile(fake: &Fake, config: &str) -> Shell {
    Shell::new()
        .file(".aws/config", config)
        .file(
            ".aws/credentials",
            &format!("[base]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"),
        )
        .set("AWS_PROFILE", "ops")
        .set("AWS_ENDPOINT_URL_STS", &fake.url)
        .set("NO_PROXY", "127.0.0.1")
}

#[test]
fn the_role_of_a_profile_is_assumed_with_its_source_profile() {
    let fake = Fake::sts(SESSION_ARN, "AROA:x", "2026-01-02T03:34:05Z");
    let out = with_role_profile(&fake, ROLE_PROFILE).token(&["-i", "demo"]);
    assert_eq!(out.code, 0, "{out:?}");
    let seen = fake.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].parameter("RoleSessionName"), Some("me"));
    assert_eq!(seen[0].parameter("ExternalId"), Some("e1"));
    assert_eq!(seen[0].parameter("DurationSeconds"), Some("1800"));
    assert_eq!(seen[0].parameter("SerialNumber"), None);
}

#[test]
fn an_mfa_code_is_asked_on_stderr_and_read_from_stdin() {
    let fake = Fake::sts(SESSION_ARN, "AROA:x", "2026-01-02T03:34:05Z");
    let config = format!("{ROLE_PROFILE}mfa_serial = arn:aws:iam::444455556666:mfa/ana\n");
    let mut shell = with_role_profile(&fake, &config);
    shell.stdin = "123456\nrest\n".to_owned();
    let out = shell.token(&["-i", "demo"]);
    assert_eq!(out.code, 0, "{out:?}");
    assert_eq!(out.stderr, "Assume Role MFA token code: ");
    let seen = fake.seen();
    assert_eq!(seen[0].parameter("TokenCode"), Some("123456"));
    assert_eq!(
        seen[0].parameter("SerialNumber"),
        Some("arn%3Aaws%3Aiam%3A%3A444455556666%3Amfa%2Fana")
    );
    shell.stdin = String::new();
    let out = shell.token(&["-i", "demo"]);
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains("needs an MFA code"), "{}", out.stderr);
}

#[test]
fn cached_base_credentials_spare_the_second_assume_role() {
    let fake = Fake::sts(SESSION_ARN, "AROA:x", "2026-01-02T03:34:05Z");
    let mut shell = with_role_profile(&fake, ROLE_PROFILE);
    shell.token(&["-i", "demo", "--cache"]).token();
    assert_eq!(fake.seen().len(), 1);
    let path = shell.path(".kube/cache/aws-iam-authenticator/credentials.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        "clusters:\n  demo:\n    ops:\n      \"\":\n        accesskeyid: ASIAASSUMED000000001\n        secretaccesskey: assumed+secret\n        sessiontoken: assumed/token==\n        source: AssumeRoleProvider\n        canexpire: true\n        expires: 2026-01-02T03:34:05Z\n        accountid: \"\"\n"
    );
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let tokens = shell.path(".kube/cache/countersign/tokens.yaml");
    assert_eq!(mode(&tokens), 0o600);
    shell.token(&["-i", "demo", "--cache"]).token();
    assert_eq!(fake.seen().len(), 1, "nothing asked");
    // Less than two minutes of the credentials' life left: they are refreshed.
    shell.now = "2026-01-02T03:32:06Z".parse().unwrap();
    shell.token(&["-i", "demo", "--cache"]);
    assert_eq!(fake.seen().len(), 2);
    // Another profile, cluster or role has an entry of its own.
    shell.now = NOW.parse().unwrap();
    shell.token(&["-i", "demo2", "--cache"]).token();
    assert_eq!(fake.seen().len(), 3);
}

#[test]
fn a_cached_token_is_reused_while_two_minutes_are_left() {
    let fake = Fake::sts(SESSION_ARN, "AROA:ana@example.com", "2026-01-02T04:04:05Z");
    let mut shell = with_sts(&fake);
    let line = ["-i", "demo", "-r", ROLE, "--cache"];
    let first = shell.token(&line).token();
    assert_eq!(fake.seen().len(), 2);
    shell.now = "2026-01-02T03:16:05Z".parse().unwrap();
    let out = shell.token(&line);
    assert_eq!(out.token(), first);
    assert_eq!(
        out.json()["status"]["expirationTimestamp"],
        "2026-01-02T03:18:05Z"
    );
    assert_eq!(fake.seen().len(), 2);
    // Other arguments, other token.
    let other = ["-i", "demo", "-r", ROLE, "-s", "else", "--cache"];
    assert_ne!(shell.token(&other).token(), first);
    shell.now = "2026-01-02T03:16:06Z".parse().unwrap();
    assert_ne!(shell.token(&line).token(), first);
    // Keys of the environment themselves are never written.
    assert!(
        !shell
            .path(".kube/cache/aws-iam-authenticator/credentials.yaml")
            .exists()
    );
}

#[test]
fn a_cache_that_others_can_read_is_refused_and_the_token_comes_anyway() {
    use std::os::unix::fs::PermissionsExt as _;
    let fake = Fake::sts(SESSION_ARN, "AROA:x", "2026-01-02T03:34:05Z");
    let shell = with_role_profile(&fake, ROLE_PROFILE)
        .file(
            ".kube/cache/aws-iam-authenticator/credentials.yaml",
            "clusters: {}\n",
        )
        .file(".kube/cache/countersign/tokens.yaml", "tokens: []\n");
    for path in [
        "aws-iam-authenticator/credentials.yaml",
        "countersign/tokens.yaml",
    ] {
        let path = shell.path(".kube/cache").join(path);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).unwrap();
    }
    let out = shell.token(&["-i", "demo", "--cache"]);
    assert_eq!(out.code, 0);
    assert!(
        out.stderr.contains("unable to use cache: cache file"),
        "{}",
        out.stderr
    );
    assert!(out.stderr.contains("is not private"));
    let path = shell.path(".kube/cache/aws-iam-authenticator/credentials.yaml");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "clusters: {}\n");
}

#[test]
fn without_credentials_the_error_says_where_they_were_sought() {
    let out = Shell::new()
        .set("AWS_REGION", "eu-west-1")
        .file(".aws/config", "[profile empty]\nregion = eu-west-1\n")
        .token(&["-i", "demo", "--profile", "nobody"]);
    assert_eq!(out.code, 1);
    assert!(
        out.stderr
            .contains("the config profile (nobody) could not be found"),
        "{}",
        out.stderr
    );
}

#[test]
fn a_private_ca_is_trusted_only_when_it_is_named() {
    let state = tempfile::tempdir().unwrap();
    let names = countersign_client::pki::Names::new("127.0.0.1", "localhost").unwrap();
    let today = jiff::Timestamp::now();
    let serving = countersign_client::pki::ensure(state.path(), &names, today).unwrap();
    let fake = Fake::over_tls(
        &serving,
        sts(SESSION_ARN, "AROA:ana", "2026-01-02T04:04:05Z"),
    );
    let line = ["-i", "demo", "-r", ROLE, "-s", "ana"];
    let shell = with_sts(&fake).set("NO_PROXY", "localhost");
    let out = shell.token(&line);
    assert_eq!((out.code, out.stdout.as_str()), (1, ""));
    assert!(
        out.stderr.contains("could not reach localhost"),
        "{}",
        out.stderr
    );
    assert!(out.stderr.contains("certificate"), "{}", out.stderr);
    let ca = state.path().join("ca.pem");
    let shell = shell.set("AWS_CA_BUNDLE", ca.to_str().unwrap());
    assert_eq!(shell.token(&line).code, 0, "{:?}", shell.token(&line));
    let shell = shell.set("AWS_CA_BUNDLE", "/nonexistent");
    let out = shell.token(&line);
    assert!(
        out.stderr
            .contains("could not read the CA bundle /nonexistent"),
        "{}",
        out.stderr
    );
    let shell = shell.file("empty.pem", "");
    let empty = shell.path("empty.pem");
    let shell = shell.set("AWS_CA_BUNDLE", empty.to_str().unwrap());
    assert!(
        shell
            .token(&line)
            .stderr
            .contains("the file has no certificate")
    );
}

#[test]
fn a_proxy_of_the_environment_is_used_unless_the_host_is_excepted() {
    // The proxy answers for the host behind it: what follows CONNECT on the connection is the request itself.
    let answer = sts(SESSION_ARN, "AROA:ana", "2026-01-02T04:04:05Z");
    let proxy = Fake::new(move |seen| match seen.line.starts_with("CONNECT ") {
        true => (200, String::new()),
        false => answer(seen),
    });
    let line = ["-i", "demo", "-r", ROLE, "-s", "ana"];
    let shell = Shell::with_keys()
        .set("AWS_REGION", "eu-west-1")
        .set("AWS_ENDPOINT_URL_STS", "http://sts.cs.example:8080/")
        .set("http_proxy", &proxy.url.replace("http://", "http://me:pw@"));
    shell.token(&line).token();
    let seen = proxy.seen();
    assert_eq!(seen[0].line, "CONNECT sts.cs.example:8080 HTTP/1.1");
    assert_eq!(seen[0].header("proxy-authorization"), "Basic bWU6cHc=");
    assert_eq!(seen[1].parameter("Action"), Some("AssumeRole"));
    assert_eq!(seen[1].header("host"), "sts.cs.example:8080");
    let direct = Fake::sts(SESSION_ARN, "AROA:ana", "2026-01-02T04:04:05Z");
    let shell = shell
        .set("AWS_ENDPOINT_URL_STS", &direct.url)
        .set("NO_PROXY", "127.0.0.1");
    shell.token(&line).token();
    assert_eq!((proxy.seen().len(), direct.seen().len()), (2, 1));
    let socks = shell
        .set("http_proxy", "socks5://me:secret@127.0.0.1:1")
        .set("NO_PROXY", "")
        .token(&line);
    assert!(
        socks.stderr.contains("is not supported") && !socks.stderr.contains("secret"),
        "{}",
        socks.stderr
    );
}

//! STS on the wire: the AWS listener with well-formed, odd and hostile requests.

use std::path::Path;

use crate::clients::{clients, every_client_is, texts};
use crate::harness::{Running, aws_cli, client, presigned};

#[test]
fn aws_cli_reads_the_caller_identity() {
    let Some(aws) = aws_cli("aws_cli_reads_the_caller_identity") else {
        return;
    };
    let server = Running::up(&[]);
    let output = client(
        &aws,
        &["sts", "get-caller-identity", "--output", "json"],
        &server.aws_environment(),
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["Arn"], server.field("admin.arn"));
    assert_eq!(answer["Account"], server.field("accountId"));
}

#[test]
fn a_wrong_secret_is_a_signature_mismatch_and_an_unknown_key_an_invalid_token() {
    let Some(aws) =
        aws_cli("a_wrong_secret_is_a_signature_mismatch_and_an_unknown_key_an_invalid_token")
    else {
        return;
    };
    let server = Running::up(&[]);
    let mut environment = server.aws_environment();
    environment.insert("AWS_SECRET_ACCESS_KEY".into(), "wrong".repeat(8));
    let output = client(&aws, &["sts", "get-caller-identity"], &environment);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("(SignatureDoesNotMatch)"), "{stderr}");
    assert!(
        stderr.contains("The request signature we calculated does not match"),
        "{stderr}"
    );
    environment.insert("AWS_ACCESS_KEY_ID".into(), "AKIARTX3GSDSXFDOCIS2".into());
    let output = client(&aws, &["sts", "get-caller-identity"], &environment);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("(InvalidClientTokenId)"), "{stderr}");
    environment.insert("AWS_SESSION_TOKEN".into(), "nonsense".into());
    let output = client(&aws, &["sts", "get-caller-identity"], &environment);
    assert!(String::from_utf8_lossy(&output.stderr).contains("(InvalidClientTokenId)"));
}

#[test]
fn every_client_reads_the_caller_identity_and_why_it_is_refused() {
    let test = "every_client_reads_the_caller_identity_and_why_it_is_refused";
    let server = Running::up(&[]);
    let admin = server.aws_environment();
    every_client_is(test, &admin, &server.field("admin.arn"));
    let mut wrong_secret = admin;
    wrong_secret.insert("AWS_SECRET_ACCESS_KEY".into(), "wrong".repeat(8));
    let mut unknown = wrong_secret.clone();
    unknown.insert("AWS_ACCESS_KEY_ID".into(), "AKIARTX3GSDSXFDOCIS2".into());
    for (environment, code, message) in [
        (
            wrong_secret,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match",
        ),
        (
            unknown,
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
        ),
    ] {
        for client in clients(test) {
            let output = client.whoami(&environment);
            let (stdout, stderr) = texts(&output);
            assert!(
                !output.status.success() && stderr.contains(code) && stderr.contains(message),
                "{}: {stdout}{stderr}",
                client.name
            );
        }
    }
}

#[test]
fn requests_that_are_not_signed_or_not_sts_get_aws_errors() {
    let server = Running::up(&[]);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    type Case<'a> = (
        &'a str,
        &'a str,
        &'a [(&'a str, &'a str)],
        &'a str,
        u16,
        &'a str,
    );
    let cases: &[Case<'_>] = &[
        ("GET", "/", &[], "", 404, "<Code>InvalidAction</Code>"),
        (
            "GET",
            "/?Action=GetCallerIdentity&Version=2011-06-15",
            &[],
            "",
            403,
            "<Code>MissingAuthenticationToken</Code>",
        ),
        (
            "POST",
            "/",
            &[form],
            "Action=GetCallerIdentity&Version=2011-06-15",
            403,
            "MissingAuthenticationToken",
        ),
        (
            "POST",
            "/",
            &[("Content-Type", "application/json")],
            "{}",
            415,
            "<Code>InvalidContentType</Code>",
        ),
        ("PUT", "/", &[form], "", 405, "MethodNotAllowed"),
        (
            "POST",
            "/",
            &[form, ("Authorization", "Bearer x")],
            "",
            400,
            "Unsupported AWS 'algorithm': 'Bearer'.",
        ),
        (
            "POST",
            "/",
            &[form, ("Authorization", "AWS4-HMAC-SHA256 nonsense")],
            "",
            400,
            "not a valid key=value pair",
        ),
        (
            "GET",
            "/?X-Amz-Algorithm=AWS4-HMAC-SHA256",
            &[],
            "",
            400,
            "must include 'X-Amz-Credential'.",
        ),
        ("GET", "/?Action=%zz", &[], "", 400, "MalformedQueryString"),
        (
            "GET",
            "/clusters",
            &[],
            "",
            403,
            "Request is missing Authentication Token",
        ),
        (
            "GET",
            "/nothing/of/ours",
            &[],
            "",
            404,
            "No operation has this method and path.",
        ),
    ];
    for (method, path, headers, body, status, text) in cases {
        let answer = server.aws(method, path, headers, body.as_bytes());
        assert_eq!(answer.status, *status, "{method} {path}: {}", answer.text());
        assert!(
            answer.text().contains(text),
            "{method} {path}: {}",
            answer.text()
        );
        assert!(
            answer.header("date").is_some(),
            "SDKs correct their clock by the Date header"
        );
        assert!(answer.header("x-amzn-requestid").is_some());
    }
    assert_eq!(
        server.aws("PUT", "/", &[form], b"").header("allow"),
        Some("GET, POST")
    );
    let json = server.aws(
        "GET",
        "/?Action=GetCallerIdentity&Version=2011-06-15",
        &[("Accept", "application/json")],
        b"",
    );
    let error: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(error["Error"]["Code"], "MissingAuthenticationToken");
}

#[test]
fn oversized_and_ambiguous_requests_are_refused_before_authentication() {
    let server = Running::up(&[]);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let huge = "a".repeat((256 << 10) + 1);
    assert_eq!(
        server.aws("POST", "/", &[form], huge.as_bytes()).status,
        413
    );
    let long = format!("/?{}", "a".repeat(70 << 10));
    assert!(
        matches!(server.aws("GET", &long, &[], b"").status, 414 | 431),
        "an endless request line"
    );
    let many: Vec<(String, String)> = (0..200).map(|i| (format!("x-h-{i}"), "v".into())).collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(server.aws("GET", "/", &many, b"").status, 431);
    let twice = [
        form,
        ("X-Amz-Date", "20260101T000000Z"),
        ("X-Amz-Date", "20260101T000001Z"),
    ];
    assert_eq!(
        server
            .aws("POST", "/", &twice, b"Action=GetCallerIdentity")
            .status,
        400
    );
    let bare = server.aws("GET", "//?Action=GetCallerIdentity", &[], b"");
    assert_eq!(bare.status, 404);
}

#[test]
fn failed_attempts_from_one_address_are_throttled() {
    let server = Running::up(&[]);
    let authorization = "AWS4-HMAC-SHA256 Credential=AKIARTX3GSDSXFDOCIS2/DAY/us-east-1/sts/aws4_request, \
                         SignedHeaders=host;x-amz-date, Signature=00";
    let now = jiff::Timestamp::now();
    let date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let authorization = authorization.replace("DAY", &now.strftime("%Y%m%d").to_string());
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("X-Amz-Date", date.as_str()),
        ("Authorization", authorization.as_str()),
    ];
    let body = b"Action=GetCallerIdentity&Version=2011-06-15";
    let codes: Vec<String> = (0..200)
        .map(|_| server.aws("POST", "/", &headers, body).text())
        .collect();
    assert!(
        codes
            .iter()
            .any(|text| text.contains("InvalidClientTokenId"))
    );
    assert!(
        codes
            .iter()
            .any(|text| text.contains("<Code>Throttling</Code>")),
        "200 failures within seconds"
    );
}

#[test]
fn aws_cli_works_over_tls_with_a_private_ca() {
    let Some(aws) = aws_cli("aws_cli_works_over_tls_with_a_private_ca") else {
        return;
    };
    let (server, ca) = crate::serve::upstream();
    let mut environment = server.aws_environment();
    environment.insert("AWS_CA_BUNDLE".into(), ca);
    assert!(environment["AWS_ENDPOINT_URL"].starts_with("https://"));
    let output = client(
        &aws,
        &["sts", "get-caller-identity", "--output", "json"],
        &environment,
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let token = client(
        &aws,
        &["eks", "get-token", "--cluster-name", "demo"],
        &environment,
    );
    let (status, review) = server.review("/authenticate", &crate::harness::exec_token(&token));
    assert_eq!(
        (status, &review["status"]["authenticated"]),
        (200, &true.into()),
        "{review}"
    );
}

#[test]
fn http_1_and_http_2_give_the_same_verdict() {
    let (server, ca) = crate::serve::upstream();
    let endpoint = server.field("endpointUrl");
    let (key, secret) = (
        server.field("admin.accessKeyId"),
        server.field("admin.secretAccessKey"),
    );
    let now = jiff::Timestamp::now();
    let good = presigned(&endpoint, &key, &secret, None, now);
    let cases = [
        (good.clone(), "200", "<Arn>"),
        (
            good.replace("2011-06-15", "2011-06-16"),
            "403",
            "SignatureDoesNotMatch",
        ),
        (
            presigned(
                &endpoint,
                &key,
                &secret,
                None,
                now - jiff::SignedDuration::from_mins(16),
            ),
            "403",
            "Signature expired",
        ),
        (
            presigned(&endpoint, "AKIARTX3GSDSXFDOCIS2", &secret, None, now),
            "403",
            "InvalidClientTokenId",
        ),
        (
            format!("{endpoint}/?Action=GetCallerIdentity&Version=2011-06-15"),
            "403",
            "MissingAuthenticationToken",
        ),
    ];
    for (url, status, text) in cases {
        let mut answers = Vec::new();
        for version in ["--http1.1", "--http2"] {
            let form = "\n%{http_code} %{http_version}";
            let args = [
                "--silent",
                version,
                "--cacert",
                &ca,
                "--write-out",
                form,
                &url,
            ];
            let output = client(Path::new("curl"), &args, &std::collections::BTreeMap::new());
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            let (body, end) = answer.rsplit_once('\n').unwrap();
            assert!(body.contains(text), "{version}: {answer}");
            let (code, used) = end.split_once(' ').unwrap();
            assert_eq!(code, status, "{version}: {answer}");
            answers.push(used.to_owned());
        }
        assert_eq!(answers, ["1.1", "2"], "curl has to speak both");
    }
}

#[test]
fn a_host_without_its_port_verifies_behind_a_proxy_that_keeps_it() {
    let server = Running::up(&[]);
    let (key, secret) = (
        server.field("admin.accessKeyId"),
        server.field("admin.secretAccessKey"),
    );
    let url = presigned(
        "https://sts.cs.example",
        &key,
        &secret,
        None,
        jiff::Timestamp::now(),
    );
    let path = url.strip_prefix("https://sts.cs.example").unwrap();
    assert_eq!(
        server
            .aws("GET", path, &[("Host", "sts.cs.example")], b"")
            .status,
        200
    );
    assert_eq!(
        server.aws("GET", path, &[], b"").status,
        403,
        "a proxy that rewrites Host breaks the signature"
    );
}

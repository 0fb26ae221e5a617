//! The TokenReview webhook on the wire: what kube-apiserver sends, what it must never be sent back, and hostile bodies.

use std::path::Path;

use crate::harness::{Running, countersign, exec_token};

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn reviews_recorded_from_kube_apiserver_are_answered_in_their_version() {
    let server = Running::up(&[]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kube-1.36");
    let token = exec_token(&countersign(
        &["get-token", "--cluster-name", "demo"],
        &server.aws_environment(),
    ));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let recorded = std::fs::read_to_string(&path).unwrap();
        let mut review: serde_json::Value = serde_json::from_str(&recorded).unwrap();
        let version = review["apiVersion"].clone();
        let answer = server.webhook(
            "POST",
            "/authenticate?timeout=30s",
            &[JSON],
            recorded.as_bytes(),
        );
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (answer.status, &body["status"]),
            (200, &serde_json::json!({"authenticated": false})),
            "{path:?}"
        );
        assert_eq!(
            (&body["apiVersion"], &body["kind"]),
            (&version, &"TokenReview".into())
        );

        review["spec"]["token"] = token.clone().into();
        let answer = server.webhook(
            "POST",
            "/authenticate?timeout=30s",
            &[JSON],
            review.to_string().as_bytes(),
        );
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["apiVersion"], version);
        assert_eq!(
            body["status"]["user"]["username"],
            server.field("admin.arn").as_str(),
            "{path:?}: {body}"
        );
        assert_eq!(
            body["status"].get("audiences"),
            None,
            "kube-apiserver then substitutes its own"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/json; charset=UTF-8")
        );
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn malformed_reviews_get_the_references_answers() {
    let server = Running::up(&[]);
    let cases: &[(&str, &str, &[u8], u16, &str)] = &[
        ("GET", "/authenticate", b"", 405, "expected POST"),
        ("PUT", "/authenticate", b"{}", 405, "expected POST"),
        ("POST", "/authenticate", b"", 400, "expected a request body"),
        (
            "POST",
            "/authenticate",
            b"token",
            400,
            "expected a request body to be a TokenReview",
        ),
        (
            "POST",
            "/authenticate",
            b"[]",
            400,
            "expected a request body to be a TokenReview",
        ),
        (
            "POST",
            "/authenticate",
            b"{\"kind\":\"Pod\"}",
            400,
            "expected a request body to be a TokenReview",
        ),
        (
            "POST",
            "/authenticate",
            b"{\"apiVersion\":\"authentication.k8s.io/v2\"}",
            400,
            "to be a TokenReview",
        ),
        (
            "POST",
            "/authenticate",
            b"{\"spec\":{\"token\":1}}",
            400,
            "to be a TokenReview",
        ),
        (
            "POST",
            "/authenticate",
            b"{\"spec\":{\"token\":\"a\",\"token\":\"b\"}}",
            400,
            "to be a TokenReview",
        ),
        (
            "POST",
            "/authenticate",
            b"\xff\xfe",
            400,
            "to be a TokenReview",
        ),
        (
            "POST",
            "/clusters/none/authenticate",
            b"{}",
            404,
            "no such cluster",
        ),
        ("POST", "/nothing", b"{}", 404, ""),
        ("POST", "/authenticate/", b"{}", 404, ""),
    ];
    for (method, path, body, status, text) in cases {
        let answer = server.webhook(method, path, &[JSON], body);
        let shown = String::from_utf8_lossy(body).into_owned();
        assert_eq!(
            answer.status,
            *status,
            "{method} {path} {shown}: {}",
            answer.text()
        );
        assert!(
            answer.text().contains(text),
            "{method} {path} {shown}: {}",
            answer.text()
        );
        assert_eq!(answer.header("retry-after"), None);
    }
    let deep = format!(
        "{{\"spec\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(
        server
            .webhook("POST", "/authenticate", &[JSON], deep.as_bytes())
            .status,
        413
    );
    let nested = |start: &str| format!("{start}{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let in_token = nested("{\"spec\":{\"token\":") + "}}";
    assert_eq!(
        server
            .webhook("POST", "/authenticate", &[JSON], in_token.as_bytes())
            .status,
        400
    );
    // Fields that mean nothing here are passed over without recursion, as Kubernetes does.
    let elsewhere = nested("{\"x\":") + "}";
    let answer = server.webhook("POST", "/authenticate", &[JSON], elsewhere.as_bytes());
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("\"authenticated\":false"),
        "{}",
        answer.text()
    );
}

#[test]
fn hostile_tokens_are_denied_and_garbage_is_cacheable() {
    let server = Running::up(&[]);
    let url = |text: &str| {
        let mut token = String::from("k8s-aws-v1.");
        token.push_str(&base64_url(text.as_bytes()));
        token
    };
    let cases = [
        (String::new(), "bad_prefix", false),
        (
            "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln".to_owned(),
            "bad_prefix",
            false,
        ),
        ("k8s-aws-v1.!!".to_owned(), "bad_base64", false),
        (
            url("http://127.0.0.1:1/?Action=GetCallerIdentity"),
            "bad_scheme",
            false,
        ),
        (
            url("https://169.254.169.254/latest/meta-data/"),
            "bad_host",
            false,
        ),
        (
            url("https://sts.amazonaws.com.evil.example/?Action=GetCallerIdentity"),
            "bad_host",
            false,
        ),
        ("x".repeat(20_000), "token_too_large", false),
    ];
    for (token, reason, with_error) in cases {
        let (status, review) = server.review("/authenticate", &token);
        assert_eq!(
            (status, &review["status"]["authenticated"]),
            (200, &false.into()),
            "{reason}"
        );
        assert_eq!(
            review["status"].get("error").is_some(),
            with_error,
            "{reason}: {review}"
        );
    }
    let metrics = server.webhook("GET", "/metrics", &[], b"").text();
    for reason in [
        "bad_prefix",
        "bad_base64",
        "bad_scheme",
        "bad_host",
        "token_too_large",
    ] {
        assert!(
            metrics.contains(&format!("countersign_denials_total{{reason=\"{reason}\"}}")),
            "{reason}:\n{metrics}"
        );
    }
    assert!(metrics.contains("aws_iam_authenticator_authenticate_latency_seconds_bucket{le=\"0.005\",result=\"invalid_token\"}"), "{metrics}");
}

#[test]
fn health_says_what_is_wrong_only_when_asked() {
    let server = Running::up(&[]);
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = server.webhook("GET", path, &[], b"");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "ok"),
            "{path}"
        );
        assert_eq!(server.aws("GET", path, &[], b"").status, 200, "{path}");
    }
    let verbose = server.webhook("GET", "/readyz?verbose", &[], b"").text();
    assert!(verbose.contains("[+]store ok"), "{verbose}");
    assert!(verbose.contains("[+]cluster demo"), "{verbose}");
}

#[test]
fn a_webhook_with_a_client_ca_takes_only_named_clients() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(
        at("clients.pem"),
        authority.self_signed(&ca_key).unwrap().pem(),
    )
    .unwrap();
    let issuer = rcgen::Issuer::new(authority, ca_key);
    let client = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        (
            certificate.der().clone(),
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()),
        )
    };
    let text = format!(
        "countersign:\n  webhookClientCA: {}\n  webhookClientNames: [kube-apiserver]\n  \
         webhookClientCertificate: {{certFile: /etc/k/client.crt, keyFile: /etc/k/client.key}}\n",
        at("clients.pem")
    );
    std::fs::write(at("config.yaml"), text).unwrap();
    let config = at("config.yaml");
    let server = Running::up(&["--config", &config]);
    let kubeconfig = std::fs::read_to_string(server.field("tokenWebhookKubeconfig")).unwrap();
    assert!(
        kubeconfig.contains("client-certificate: \"/etc/k/client.crt\""),
        "{kubeconfig}"
    );
    let health = |client: Option<(_, rustls::pki_types::PrivatePkcs8KeyDer<'static>)>| {
        server
            .webhook_as(
                client.map(|(cert, key)| (vec![cert], key.into())),
                "GET",
                "/healthz",
                &[],
                b"",
            )
            .status
    };
    assert_eq!(health(Some(client("kube-apiserver"))), 200);
    assert_eq!(health(Some(client("somebody-else"))), 0, "no answer at all");
    assert_eq!(health(None), 0);
}

fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

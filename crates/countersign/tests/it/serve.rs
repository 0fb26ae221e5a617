//! `serve` with an aws-iam-authenticator configuration, unchanged: real AWS as upstream, here a TLS server standing where
//! STS stands, which is Countersign's own STS and so verifies every signature.

use std::path::Path;

use crate::harness::{Running, countersign, exec_token};

/// A CA and a certificate for the names of STS under it; gives the paths of certificate, key and CA.
fn sts_certificate(dir: &Path) -> [String; 3] {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = authority.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, ca_key);
    let hosts = [
        "sts.us-east-1.amazonaws.com",
        "sts.amazonaws.com",
        "sts.eu-west-1.amazonaws.com",
        "127.0.0.1",
    ];
    let names = hosts.map(str::to_owned);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(names).unwrap();
    // With the CA's own name OpenSSL would take it for self-signed.
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, "sts");
    let certificate = parameters.signed_by(&key, &issuer).unwrap();
    let files = [
        ("sts.crt", certificate.pem()),
        ("sts.key", key.serialize_pem()),
        ("sts-ca.crt", ca.pem()),
    ];
    files.map(|(name, text)| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    })
}

/// Our own STS over TLS, as the upstream.
pub fn upstream() -> (Running, String) {
    let dir = tempfile::tempdir().unwrap();
    let [cert, key, ca] = sts_certificate(dir.path());
    let config = dir.path().join("up.yaml");
    std::fs::write(
        &config,
        format!("countersign:\n  awsTls: {{certFile: {cert}, keyFile: {key}}}\n"),
    )
    .unwrap();
    let running = Running::start_in(dir, "up", &["--config", config.to_str().unwrap()]);
    (running, ca)
}

pub fn reference_config(dir: &Path, sts: &Running, ca: &str, more: &str) -> String {
    let state = dir.join("state");
    let address = sts.field("endpointUrl");
    let address = address.strip_prefix("https://").unwrap();
    let arn = sts.field("admin.arn");
    let text = format!(
        "# as written for aws-iam-authenticator\nclusterId: demo\nserver:\n  port: 0\n  stateDir: {state}\n  generateKubeconfig: {state}/kubeconfig.yaml\n  \
         mapUsers:\n  - userARN: {arn}\n    username: admin:{{{{AccountID}}}}\n    groups: [\"ops\"]\n  mapAccounts: [\"999999999999\"]\n{more}\n\
         countersign:\n  healthListen: \"off\"\n  upstream: {{connectTo: \"{address}\", caFile: {ca}}}\n",
        state = state.display(),
    );
    let path = dir.join("config.yaml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

pub fn aws_host_environment(sts: &Running) -> std::collections::BTreeMap<String, String> {
    let mut environment = sts.aws_environment();
    environment.remove("AWS_ENDPOINT_URL");
    environment
}

#[test]
fn serve_takes_a_reference_configuration_and_asks_sts() {
    let (sts, ca) = upstream();
    let dir = tempfile::tempdir().unwrap();
    let config = reference_config(dir.path(), &sts, &ca, "  noSuchKey: 1");
    let server = Running::start_in(dir, "serve", &["--config", &config]);
    let token = exec_token(&countersign(
        &["token", "-i", "demo"],
        &aws_host_environment(&sts),
    ));
    for round in 0..3 {
        let (status, review) = server.review("/authenticate", &token);
        assert_eq!(status, 200, "{round}: {review}\n{}", server.log_tail());
        assert_eq!(review["status"]["user"]["username"], "admin:111122223333");
        assert_eq!(
            review["status"]["user"]["groups"],
            serde_json::json!(["ops"])
        );
    }
    let metrics = server.webhook("GET", "/metrics", &[], b"").text();
    assert!(
        metrics.contains("aws_iam_authenticator_sts_responses_total{ResponseCode=\"200\",StsRegion=\"us-east-1\"} 1"),
        "one call to STS, then the cache:\n{metrics}"
    );
    assert!(
        server.log().contains("noSuchKey"),
        "unknown keys are warned about"
    );
    let flush = |query: &str| {
        server
            .webhook("POST", &format!("/admin/flush{query}"), &[], b"")
            .text()
    };
    assert_eq!(flush("?access-key=AKIAOTHER"), "0");
    assert_eq!(
        flush(&format!("?access-key={}", sts.field("admin.accessKeyId"))),
        "1"
    );
    assert_eq!(server.review("/authenticate", &token).0, 200, "asked again");
    assert_eq!(flush(""), "1");
    server.signal("HUP");
    server.wait_for_log("identity cache emptied");
    let kubeconfig =
        std::fs::read_to_string(server.dir.path().join("state/kubeconfig.yaml")).unwrap();
    assert!(
        kubeconfig.contains("certificate-authority-data") && kubeconfig.contains("/authenticate"),
        "{kubeconfig}"
    );
}

#[test]
fn serve_answers_denials_with_the_references_status_codes() {
    let (sts, ca) = upstream();
    let dir = tempfile::tempdir().unwrap();
    let config = reference_config(dir.path(), &sts, &ca, "");
    let server = Running::start_in(dir, "serve", &["--config", &config]);
    let environment = aws_host_environment(&sts);
    let other = exec_token(&countersign(&["token", "-i", "other"], &environment));
    let mut unknown = environment.clone();
    unknown.insert("AWS_ACCESS_KEY_ID".into(), "AKIARTX3GSDSXFDOCIS2".into());
    let unknown = exec_token(&countersign(&["token", "-i", "demo"], &unknown));
    for (token, reason) in [
        ("k8s-aws-v1.!".to_owned(), "bad_base64"),
        (other, "sts_rejected:SignatureDoesNotMatch"),
        (unknown, "sts_rejected:InvalidClientTokenId"),
    ] {
        let (status, review) = server.review("/authenticate", &token);
        assert_eq!(
            (status, &review["status"]["authenticated"]),
            (403, &false.into()),
            "{reason}: {review}"
        );
        server.wait_for_log(reason);
    }
    // STS gone: not the caller's fault, so 500, which kube-apiserver retries.
    let good = exec_token(&countersign(
        &["token", "-i", "demo", "--region", "eu-west-1"],
        &environment,
    ));
    drop(sts);
    let (status, _) = server.review("/authenticate", &good);
    assert_eq!(status, 500);
    server.wait_for_log("sts_unreachable");
}

#[test]
fn serve_reloads_its_mappings_and_keeps_the_last_good_ones() {
    let (sts, ca) = upstream();
    let dir = tempfile::tempdir().unwrap();
    let config = reference_config(dir.path(), &sts, &ca, "");
    let server = Running::start_in(dir, "serve", &["--config", &config]);
    let environment = aws_host_environment(&sts);
    let token = exec_token(&countersign(&["token", "-i", "demo"], &environment));
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        good.replace("groups: [\"ops\"]", "groups: [\"ops\", \"dev\"]"),
    )
    .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let groups = |server: &Running| {
        server.review("/authenticate", &token).1["status"]["user"]["groups"].clone()
    };
    while groups(&server) != serde_json::json!(["ops", "dev"]) {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            server.log_tail()
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    std::fs::write(&config, good.replace("  mapUsers:", "\tmapUsers:")).unwrap();
    server.wait_for_log("last good");
    assert_eq!(
        groups(&server),
        serde_json::json!(["ops", "dev"]),
        "the last good mappings stay"
    );
    let verbose = server.webhook("GET", "/readyz?verbose", &[], b"").text();
    assert!(verbose.contains("MountedFile"), "{verbose}");
}

#[test]
fn serve_refuses_configurations_that_cannot_be_meant() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    let state = dir.path().join("state").display().to_string();
    for (text, message) in [
        (String::new(), "cluster id"),
        (
            "clusterID: a\nserver: {partition: aws-moon}".into(),
            "invalid partition",
        ),
        (
            "clusterID: a\nserver: {backendMode: [Nothing]}".into(),
            "unknown backend mode",
        ),
        (
            "clusterID: a\nserver: {backendMode: [CRD, CRD]}".into(),
            "listed twice",
        ),
        (
            "clusterID: a\nserver: {backendMode: [DynamicFile]}".into(),
            "dynamicfilepath",
        ),
        (
            "clusterID: a\nserver:\n  mapRoles:\n  - rolearn: nonsense\n    username: x".into(),
            "nonsense",
        ),
        (
            "clusterID: a\ncountersign: {denyMood: review}".into(),
            "denyMood",
        ),
        (
            "clusterID: a\ncountersign: {denyMode: maybe}".into(),
            "denyMode",
        ),
        ("clusterID: [a".into(), "config.yaml"),
    ] {
        let text = if text.contains("server:") {
            text.replacen(
                "server: {",
                &format!("server: {{stateDir: {state}, port: 0, "),
                1,
            )
        } else {
            text
        };
        std::fs::write(&path, &text).unwrap();
        let output = countersign(
            &["serve", "--config", path.to_str().unwrap()],
            &Default::default(),
        );
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}\n{stderr}");
        assert!(stderr.contains(message), "{text}\n{stderr}");
    }
}

/// A build without etcd says how to get one that has it.
#[cfg(not(feature = "etcd"))]
#[test]
fn serve_without_etcd_says_how_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    let (dir, key) = (dir.path().display(), "a5".repeat(32));
    let text = format!(
        "clusterID: a\nserver: {{stateDir: {dir}/state, port: 0}}\n\
         countersign: {{identity: embedded, healthListen: \"off\", awsListen: \"127.0.0.1:0\", store: \"etcd://127.0.0.1:1/x\"}}\n"
    );
    std::fs::write(&path, text).unwrap();
    let environment = [("COUNTERSIGN_ROOT_KEY".to_owned(), key)].into();
    let output = countersign(&["serve", "--config", path.to_str().unwrap()], &environment);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("cargo build --release --features etcd"),
        "{stderr}"
    );
}

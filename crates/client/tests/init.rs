//! Certificates of the webhook over ten years, and `init`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails should panic"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use common::{Output, Shell, mode, parse};
use countersign_client::init::{self, InitArgs};
use countersign_client::pki::{self, Names, Outcome, PkiError, Serving};
use countersign_client::webhook_kubeconfig::{self, authorizer_url, render, server_url};
use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn names(address: &str, hostname: &str) -> Names {
    Names::new(address, hostname).unwrap()
}

fn local() -> Names {
    names("127.0.0.1", "localhost")
}

/// What a client that trusts `bundle` thinks of the serving certificate.
fn trusted(bundle: &str, serving: &Serving, name: &str, now: Timestamp) -> bool {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(serving.certificate_pem.as_bytes())
        .map(Result::unwrap)
        .collect();
    let seconds = u64::try_from(now.as_second()).unwrap();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let name = ServerName::try_from(name).unwrap();
    verifier
        .verify_server_cert(&chain[0], &chain[1..], &name, &[], time)
        .is_ok()
}

#[test]
fn the_first_start_makes_certificates_that_clients_accept() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let now = at("2026-01-02T03:04:05Z");
    let serving = pki::ensure(&state, &names("10.0.0.7", "webhook.example"), now).unwrap();
    assert_eq!(serving.outcome, Outcome::Created);
    for (file, bits) in [
        ("cert.pem", 0o644),
        ("key.pem", 0o600),
        ("ca.pem", 0o644),
        ("ca-key.pem", 0o600),
    ] {
        assert_eq!(mode(&state.join(file)), bits, "{file}");
    }
    assert_eq!(mode(&state), 0o700);
    for (name, accepted) in [
        ("webhook.example", true),
        ("10.0.0.7", true),
        ("localhost", false),
        ("127.0.0.1", false),
    ] {
        assert_eq!(
            trusted(&serving.ca_bundle_pem, &serving, name, now),
            accepted,
            "{name}"
        );
    }
    let late = at("2036-01-03T00:00:00Z");
    assert!(!trusted(
        &serving.ca_bundle_pem,
        &serving,
        "webhook.example",
        late
    ));
    assert!(serving.key_pem.starts_with("-----BEGIN PRIVATE KEY-----"));
    let again = pki::ensure(&state, &names("10.0.0.7", "webhook.example"), now).unwrap();
    assert_eq!(again.outcome, Outcome::Loaded);
    assert_eq!(again.ca_bundle_pem, serving.ca_bundle_pem);
    assert_eq!(again.certificate_pem, serving.certificate_pem);
}

/// Certificates that are kept elsewhere, as in a Secret: ninety days, renewed after sixty with a new key, by the same CA.
#[test]
fn held_certificates_are_renewed_after_two_thirds() {
    let place = Path::new("Secret eks/w");
    let service = local().and_service("w", "eks").unwrap();
    let mut files = BTreeMap::new();
    let mut ensure = |when: &str| pki::ensure_held(place, &mut files, &service, at(when), 90);
    let first = ensure("2026-01-02T03:04:05Z").unwrap();
    assert_eq!(first.outcome, Outcome::Created);
    assert_eq!(first.check_again_at, Some(at("2026-03-03T00:00:00Z")));
    assert_eq!(
        pki::ends_at(&first.certificate_pem),
        Some(at("2026-04-02T00:00:00Z"))
    );
    for name in ["w.eks.svc", "w.eks.svc.cluster.local", "w", "127.0.0.1"] {
        let now = at("2026-01-02T03:04:05Z");
        assert!(trusted(&first.ca_bundle_pem, &first, name, now), "{name}");
    }
    let mut last = first;
    for (when, outcome, cas) in [
        ("2026-03-02T23:00:00Z", Outcome::Loaded, 1),
        ("2026-03-03T01:00:00Z", Outcome::Renewed, 1),
        // Whoever slept for years has nothing to trust but the CA.
        ("2031-01-01T00:00:00Z", Outcome::Renewed, 1),
        ("2032-09-10T00:00:00Z", Outcome::Renewed, 2),
        ("2034-06-01T00:00:00Z", Outcome::Renewed, 2),
    ] {
        let next = ensure(when).unwrap();
        assert_eq!(next.outcome, outcome, "{when}");
        let bundle = next.ca_bundle_pem.matches("BEGIN CERTIFICATE").count();
        assert_eq!(bundle, cas, "{when}");
        let is_new = next.certificate_pem != last.certificate_pem;
        assert_eq!(is_new, outcome == Outcome::Renewed, "{when}");
        assert_eq!(next.key_pem != last.key_pem, is_new, "{when}");
        // What was published before trusts what is served now.
        let now = at(when);
        assert!(
            trusted(&last.ca_bundle_pem, &next, "w.eks.svc", now),
            "{when}"
        );
        last = next;
    }
    // What cannot be used is an error, and is left as it is.
    for (file, text) in [("ca.pem", "x"), ("ca-key.pem", "x"), ("cert.pem", "x")] {
        let mut broken = files.clone();
        broken.insert(file, text.to_owned().into());
        let before = broken.clone();
        let now = at("2034-06-01T00:00:00Z");
        let error = pki::ensure_held(place, &mut broken, &service, now, 90).err();
        assert!(matches!(error, Some(PkiError::Content { .. })), "{file}");
        assert!(broken == before, "{file}");
    }
}

#[test]
fn other_names_make_another_serving_certificate_of_the_same_ca() {
    let directory = tempfile::tempdir().unwrap();
    let now = at("2026-01-02T03:04:05Z");
    let first = pki::ensure(directory.path(), &local(), now).unwrap();
    let second = pki::ensure(directory.path(), &names("0.0.0.0", "cp1"), now).unwrap();
    assert_eq!(second.outcome, Outcome::Renewed);
    assert_eq!(first.ca_bundle_pem, second.ca_bundle_pem);
    assert!(trusted(&first.ca_bundle_pem, &second, "cp1", now));
    assert!(!trusted(&first.ca_bundle_pem, &second, "localhost", now));
}

#[test]
fn an_api_server_that_restarts_within_the_overlap_never_loses_the_webhook() {
    let directory = tempfile::tempdir().unwrap();
    let ensure = |when: &str| pki::ensure(directory.path(), &local(), at(when)).unwrap();
    let start = ensure("2026-01-02T00:00:00Z");
    let young = ensure("2032-08-01T00:00:00Z");
    assert_eq!(young.outcome, Outcome::Loaded);
    assert!(young.check_again_at.unwrap() < at("2032-09-05T00:00:00Z"));

    // Two thirds: the next CA is published, the old one still signs.
    let two_thirds = ensure("2032-09-10T00:00:00Z");
    assert_eq!(two_thirds.outcome, Outcome::Renewed);
    assert_eq!(
        two_thirds
            .ca_bundle_pem
            .matches("BEGIN CERTIFICATE")
            .count(),
        2
    );
    assert!(trusted(
        &start.ca_bundle_pem,
        &two_thirds,
        "localhost",
        at("2032-09-10T00:00:00Z")
    ));
    assert_eq!(mode(&directory.path().join("next-ca-key.pem")), 0o600);
    let bundle = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    assert_eq!(bundle, two_thirds.ca_bundle_pem);

    // Five sixths: the next CA takes over; who restarted since two thirds trusts it already.
    let taken = ensure("2034-06-01T00:00:00Z");
    assert_eq!(taken.outcome, Outcome::Renewed);
    let now = at("2034-06-01T00:00:00Z");
    assert!(!trusted(&start.ca_bundle_pem, &taken, "localhost", now));
    assert!(trusted(&two_thirds.ca_bundle_pem, &taken, "localhost", now));
    assert!(trusted(&taken.ca_bundle_pem, &taken, "localhost", now));
    assert_eq!(taken.ca_bundle_pem.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(!directory.path().join("next-ca-key.pem").exists());
    assert_eq!(ensure("2034-06-02T00:00:00Z").outcome, Outcome::Loaded);

    // The old CA leaves the bundle when it has ended.
    let later = ensure("2036-02-01T00:00:00Z");
    assert_eq!(later.ca_bundle_pem.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(trusted(
        &taken.ca_bundle_pem,
        &later,
        "localhost",
        at("2036-02-01T00:00:00Z")
    ));
}

#[test]
fn a_takeover_that_was_interrupted_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let now = at("2034-06-01T00:00:00Z");
    pki::ensure(directory.path(), &local(), at("2026-01-02T00:00:00Z")).unwrap();
    let overlap = pki::ensure(directory.path(), &local(), at("2033-01-01T00:00:00Z")).unwrap();
    // The new key was written, the new bundle was not.
    std::fs::copy(path("next-ca-key.pem"), path("ca-key.pem")).unwrap();
    let serving = pki::ensure(directory.path(), &local(), now).unwrap();
    assert!(trusted(&overlap.ca_bundle_pem, &serving, "localhost", now));
    assert!(trusted(&serving.ca_bundle_pem, &serving, "localhost", now));
    let bundle = std::fs::read_to_string(path("ca.pem")).unwrap();
    assert_eq!(bundle, serving.ca_bundle_pem);
    assert!(!path("next-ca.pem").exists() && !path("next-ca-key.pem").exists());
    let again = pki::ensure(directory.path(), &local(), now).unwrap();
    assert_eq!(again.certificate_pem, serving.certificate_pem);
}

/// A self-signed certificate as the reference makes it, in its two files.
fn foreign(directory: &Path) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .pem();
    std::fs::write(directory.join("cert.pem"), &certificate).unwrap();
    std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
    certificate
}

#[test]
fn certificates_of_somebody_else_are_used_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = foreign(directory.path());
    let serving = pki::ensure(
        directory.path(),
        &names("10.0.0.7", "other"),
        at("2030-01-01T00:00:00Z"),
    )
    .unwrap();
    assert_eq!(serving.outcome, Outcome::Loaded);
    assert_eq!(serving.certificate_pem, certificate);
    assert_eq!(
        serving.ca_bundle_pem.replace("\r\n", "\n"),
        certificate.replace("\r\n", "\n")
    );
    assert_eq!(serving.check_again_at, None);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn files_that_do_not_fit_are_refused_and_left_alone() {
    let now = at("2026-01-02T00:00:00Z");
    let directory = tempfile::tempdir().unwrap();
    foreign(directory.path());
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(directory.path().join("key.pem"), &other).unwrap();
    assert!(matches!(
        pki::ensure(directory.path(), &local(), now),
        Err(PkiError::Mismatch(_))
    ));
    std::fs::write(directory.path().join("cert.pem"), "rubbish").unwrap();
    assert!(matches!(
        pki::ensure(directory.path(), &local(), now),
        Err(PkiError::Content { .. })
    ));
    let own = tempfile::tempdir().unwrap();
    pki::ensure(own.path(), &local(), now).unwrap();
    std::fs::write(own.path().join("ca-key.pem"), &other).unwrap();
    assert!(matches!(
        pki::ensure(own.path(), &local(), now),
        Err(PkiError::Content { .. })
    ));
    assert_eq!(
        std::fs::read_to_string(own.path().join("ca-key.pem")).unwrap(),
        other
    );
}

#[test]
fn a_serving_key_that_was_lost_is_made_anew_under_the_same_ca() {
    let now = at("2026-01-02T00:00:00Z");
    let own = tempfile::tempdir().unwrap();
    let first = pki::ensure(own.path(), &local(), now).unwrap();
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(own.path().join("key.pem"), other).unwrap();
    let second = pki::ensure(own.path(), &local(), now).unwrap();
    assert_eq!(second.outcome, Outcome::Renewed);
    assert!(trusted(&first.ca_bundle_pem, &second, "localhost", now));
}

#[test]
fn names_that_cannot_be_in_a_certificate_are_refused() {
    for (address, hostname) in [
        ("localhost", "x"),
        ("", "x"),
        ("1.2.3.4", ""),
        ("1.2.3.4", "a b"),
        ("1.2.3.4", "*"),
        ("1.2.3.4", "-a"),
        ("1.2.3.4", "é"),
        ("1.2.3.4", "a..b"),
    ] {
        assert!(
            Names::new(address, hostname).is_err(),
            "{address} {hostname}"
        );
    }
    assert_eq!(
        names("127.0.0.1", "127.0.0.1"),
        names("0.0.0.0", "127.0.0.1")
    );
}

#[test]
fn the_webhook_kubeconfig_is_that_of_the_reference() {
    assert_eq!(
        server_url("localhost", 21362),
        "https://localhost:21362/authenticate"
    );
    assert_eq!(server_url("::1", 1), "https://[::1]:1/authenticate");
    assert_eq!(
        server_url("10.0.0.7", 443),
        "https://10.0.0.7:443/authenticate"
    );
    assert_eq!(
        render("https://localhost:21362/authenticate", "PEM"),
        "apiVersion: v1\nkind: Config\nclusters:\n- name: aws-iam-authenticator\n  cluster:\n    certificate-authority-data: UEVN\n    server: https://localhost:21362/authenticate\nusers:\n- name: apiserver\ncontexts:\n- name: webhook\n  context:\n    cluster: aws-iam-authenticator\n    user: apiserver\ncurrent-context: webhook\n"
    );
}

#[test]
fn the_authorizer_has_a_kubeconfig_of_its_own() {
    for (hostname, port, url) in [
        ("localhost", 21362, "https://localhost:21362/authorize"),
        ("::1", 1, "https://[::1]:1/authorize"),
    ] {
        assert_eq!(authorizer_url(hostname, port), url);
    }
}

/// The text of the specification, with the place of the kubeconfig filled in.
const AUTHORIZATION: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Node
  name: node
- type: Webhook
  name: access-policies
  webhook:
    timeout: 3s
    authorizedTTL: 10s
    unauthorizedTTL: 5s
    failurePolicy: NoOpinion
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    connectionInfo:
      type: KubeConfigFile
      kubeConfigFile: \"/etc/kubernetes/aws-iam-authenticator/countersign-authz.kubeconfig\"
    matchConditions:
    - expression: \"has(request.extra) && ('principalId' in request.extra || 'principalid' in request.extra)\"
- type: RBAC
  name: rbac
";

const ANONYMOUS: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
  - path: /livez
  - path: /readyz
  - path: /healthz
";

const ISSUER: &str = "jwt:
- issuer:
    url: \"https://id.corp.example\"
    audiences: [\"kubernetes\"]
  claimMappings:
    username:
      claim: \"email\"
      prefix: \"\"
    groups:
      claim: \"groups\"
      prefix: \"oidc:\"
  userValidationRules:
  - expression: \"!user.username.startsWith('system:')\"
    message: username is reserved
  - expression: \"user.groups.all(g, !g.startsWith('system:'))\"
    message: group is reserved
";

#[test]
fn init_writes_what_kube_apiserver_reads_and_prints_its_flags() {
    let oidc = "--oidc-issuer https://id.corp.example --oidc-client-id kubernetes --oidc-username-claim email \
                --oidc-groups-claim groups --oidc-groups-prefix oidc:";
    for (flags, issuers) in [("", ""), (oidc, ISSUER)] {
        let shell = Shell::new();
        let out_dir = shell.path("out");
        let mut line = vec!["-i", "demo", "--out", out_dir.to_str().unwrap()];
        line.extend(flags.split_whitespace());
        let out = run(&shell, &line);
        assert_eq!(out.code, 0, "{out:?}");
        let text = |name: &str| std::fs::read_to_string(out_dir.join(name)).unwrap();
        assert_eq!(text("authorization.yaml"), AUTHORIZATION);
        assert_eq!(text("authentication.yaml"), format!("{ANONYMOUS}{issuers}"));
        let kubeconfig = text("countersign-authz.kubeconfig");
        assert!(kubeconfig.contains("server: https://localhost:21362/authorize"));
        let at = "/etc/kubernetes/aws-iam-authenticator";
        for flag in [
            format!("--authentication-token-webhook-config-file={at}/kubeconfig.yaml"),
            "--authentication-token-webhook-version=v1".into(),
            "--authentication-token-webhook-cache-ttl=10s".into(),
            format!("--authorization-config={at}/authorization.yaml"),
            "--authorization-mode=Node,Webhook,RBAC".into(),
            format!("--authorization-webhook-config-file={at}/countersign-authz.kubeconfig"),
            "--authorization-webhook-version=v1".into(),
            "--authorization-webhook-cache-authorized-ttl=10s".into(),
            "--authorization-webhook-cache-unauthorized-ttl=5s".into(),
            format!("--authentication-config={at}/authentication.yaml"),
        ] {
            assert!(
                out.stderr.contains(&format!("\n  {flag}\n")),
                "{flag}: {}",
                out.stderr
            );
        }
        // What somebody changed is kept.
        std::fs::write(out_dir.join("authorization.yaml"), "mine").unwrap();
        assert_eq!(run(&shell, &line).code, 0);
        assert_eq!(text("authorization.yaml"), "mine");
    }
}

#[test]
fn an_identical_kubeconfig_is_not_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/kubeconfig.yaml");
    assert!(webhook_kubeconfig::write(&path, "text").unwrap());
    assert_eq!(mode(&path), 0o644);
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert!(!webhook_kubeconfig::write(&path, "text").unwrap());
    assert_eq!(
        std::fs::metadata(&path).unwrap().modified().unwrap(),
        before
    );
    assert!(webhook_kubeconfig::write(&path, "other").unwrap());
}

fn run(shell: &Shell, line: &[&str]) -> Output {
    let args: InitArgs = parse(line);
    shell.run(|process, io| init::run(&args, process, io))
}

#[test]
fn init_writes_everything_into_one_directory() {
    let shell = Shell::new();
    let out_dir = shell.path("out");
    let line = [
        "-i",
        "demo",
        "--out",
        out_dir.to_str().unwrap(),
        "--hostname",
        "::1",
        "--address",
        "::1",
    ];
    let out = run(&shell, &line);
    assert_eq!((out.code, out.stdout.as_str()), (0, ""), "{out:?}");
    assert!(out.stderr.contains("certificates made"));
    assert!(
        out.stderr
            .contains("cert.pem to /var/aws-iam-authenticator/cert.pem"),
        "{}",
        out.stderr
    );
    assert!(out.stderr.contains("--authentication-token-webhook-config-file=/etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml"));
    let kubeconfig =
        std::fs::read_to_string(out_dir.join("aws-iam-authenticator.kubeconfig")).unwrap();
    assert!(kubeconfig.contains("server: https://[::1]:21362/authenticate"));
    assert_eq!(
        std::fs::read_to_string(out_dir.join("config.yaml")).unwrap(),
        "clusterID: demo\nserver:\n  partition: aws\n  hostname: \"::1\"\n  address: \"::1\"\n  port: 21362\n  stateDir: /var/aws-iam-authenticator\n  generateKubeconfig: /etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml\ncountersign:\n  denyMode: review\n"
    );
    std::fs::write(out_dir.join("config.yaml"), "mine: 1\n").unwrap();
    let again = run(&shell, &line);
    assert!(again.stderr.contains("certificates kept"));
    assert_eq!(
        std::fs::read_to_string(out_dir.join("config.yaml")).unwrap(),
        "mine: 1\n"
    );
}

#[test]
fn init_writes_to_the_configured_places() {
    let shell = Shell::new();
    let (state, kubeconfig) = (shell.path("state"), shell.path("etc/kubeconfig.yaml"));
    let config = format!(
        "ClusterID: demo\nSERVER:\n  statedir: {}\n  generateKubeconfig: {}\n  hostname: cp1\n  port: 4443\n",
        state.display(),
        kubeconfig.display()
    );
    let shell = shell.file("config.yaml", &config);
    let file = shell.path("config.yaml");
    let out = run(&shell, &["-c", file.to_str().unwrap(), "--hostname", "cp2"]);
    assert_eq!(out.code, 0, "{out:?}");
    assert!(state.join("key.pem").exists());
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    assert!(
        text.contains("server: https://cp2:4443/authenticate"),
        "{text}"
    );
    assert!(!out.stderr.contains("copy "));
}

#[test]
fn init_refuses_what_it_cannot_use() {
    let shell = Shell::new()
        .file("bad.yaml", "clusterID: demo\nserver: {port: many}\n")
        .file("broken.yaml", "a: [");
    let path = |name: &str| shell.path(name).to_str().unwrap().to_owned();
    let out_dir = path("out");
    for (line, error) in [
        (vec![], "cluster ID cannot be empty"),
        (
            vec!["-i", "demo", "--partition", "mars"],
            "unknown partition `mars`",
        ),
        (
            vec!["-i", "demo", "--address", "localhost"],
            "`localhost` is not an IP address",
        ),
        (
            vec!["-i", "demo", "--hostname", "a b"],
            "`a b` is not a host name",
        ),
        (
            vec![
                "-i",
                "demo",
                "--oidc-issuer",
                "http://id.example",
                "--oidc-client-id",
                "k",
            ],
            "`--oidc-issuer` is",
        ),
        (
            vec![
                "-i",
                "demo",
                "--oidc-issuer",
                "https://id.example",
                "--oidc-client-id",
                "k",
                "--oidc-groups-prefix",
                "system:",
            ],
            "Kubernetes keeps `system:` for itself",
        ),
        (vec!["-c", &path("bad.yaml")], "`server.port`"),
        (vec!["-c", &path("broken.yaml")], "could not read"),
        (vec!["-c", &path("missing.yaml")], "could not read"),
    ] {
        let mut line = line;
        line.extend(["--out", &out_dir]);
        let out = run(&shell, &line);
        assert_eq!(out.code, 1, "{line:?}");
        assert!(
            out.stderr.starts_with("could not initialize: "),
            "{}",
            out.stderr
        );
        assert!(out.stderr.contains(error), "{}", out.stderr);
    }
    assert!(!shell.path("out").exists());
}

#[test]
fn init_writes_the_registration_of_the_admission_webhook() {
    let cases: [(&[&str], &str, &str, Option<&str>); 3] = [
        (
            &[],
            "url: \"https://localhost:21362/mutate\"",
            "failurePolicy: Ignore",
            None,
        ),
        (
            &["--service", "iam/countersign"],
            "service: {namespace: \"iam\", name: \"countersign\", port: 21362, path: /mutate}",
            "values: [\"iam\"]",
            Some("countersign.iam.svc"),
        ),
        (
            &["--failure-policy", "Fail", "--hostname", "10.0.0.9"],
            "url: \"https://10.0.0.9:21362/mutate\"",
            "failurePolicy: Fail",
            None,
        ),
    ];
    for (flags, reached_by, besides, name) in cases {
        let shell = Shell::new();
        let out_dir = shell.path("out");
        let mut line = vec!["-i", "demo", "--out", out_dir.to_str().unwrap()];
        line.push("--pod-identity-webhook");
        line.extend(flags);
        let out = run(&shell, &line);
        assert_eq!(out.code, 0, "{out:?}");
        assert!(out.stderr.contains("mutating-webhook.yaml"), "{out:?}");
        let read = |file: &str| std::fs::read_to_string(out_dir.join(file)).unwrap();
        let registration = read("mutating-webhook.yaml");
        assert!(registration.contains(reached_by), "{registration}");
        assert!(registration.contains(besides), "{registration}");
        let bundle = base64::engine::general_purpose::STANDARD.encode(read("ca.pem"));
        assert!(registration.contains(&bundle));
        let der = CertificateDer::from_pem_slice(read("cert.pem").as_bytes()).unwrap();
        let text = String::from_utf8_lossy(&der).into_owned();
        let service = name.unwrap_or("countersign.iam.svc");
        assert_eq!(text.contains(service), name.is_some(), "{flags:?}");
    }
    for bad in ["countersign", "/x", "iam/", "iam/a b"] {
        let shell = Shell::new();
        let out_dir = shell.path("out");
        let line = ["-i", "demo", "--out", out_dir.to_str().unwrap()];
        let flags = ["--pod-identity-webhook", "--service", bad];
        let out = run(&shell, &[&line[..], &flags].concat());
        assert_eq!(out.code, 1, "{bad}: {out:?}");
    }
}

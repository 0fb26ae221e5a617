//! `countersign pod-identity-webhook`: the command line of the reference, and what it serves.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use serde_json::{Value, json};

use crate::harness::{Answer, BINARY, clean_environment, countersign, exchange, tls_client};
use crate::mutate::until;
use crate::mutate_api::{Api, ROLE, pod, review};
use crate::mutate_lab::{Caller, patch};

/// A running webhook, killed when dropped.
pub struct Webhook {
    child: Child,
    log: PathBuf,
    pub port: u16,
    metrics_port: u16,
}

impl Webhook {
    /// Starts `program` with `args`; it listens on ports of its choice, told by the log.
    pub fn start(program: &Path, first: &[&str], args: &[String], log: PathBuf) -> Self {
        let mut command = Command::new(program);
        clean_environment(&mut command);
        let child = command
            .args(first)
            .args(["--port=0", "--metrics-port=0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut webhook = Self {
            child,
            log,
            port: 0,
            metrics_port: 0,
        };
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let log = webhook.log();
            let line = log.lines().find(|line| line.contains(" serving webhook="));
            if let Some(line) = line {
                let port = |name: &str| -> u16 {
                    let rest = line.split_once(name).unwrap().1;
                    let address = rest.split(' ').next().unwrap();
                    address.rsplit_once(':').unwrap().1.parse().unwrap()
                };
                (webhook.port, webhook.metrics_port) = (port("webhook="), port("metrics="));
                return webhook;
            }
            let ended = webhook.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{ended:?}: {log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Without a word of farewell.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn plain(&self, path: &str) -> Answer {
        let stream = TcpStream::connect(("127.0.0.1", self.metrics_port)).unwrap();
        exchange(stream, "127.0.0.1", "GET", path, &[], b"")
    }

    pub fn tls(&self, ca: &Path, method: &str, path: &str, body: &[u8]) -> Answer {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection = rustls::ClientConnection::new(tls_client(ca, None), name).unwrap();
        let stream = rustls::StreamOwned::new(connection, stream);
        let headers = [("Content-Type", "application/json")];
        exchange(stream, "127.0.0.1", method, path, &headers, body)
    }

    /// The answer, if the certificate is of this CA.
    pub fn tls_if_trusted(&self, ca: &Path, path: &str) -> Option<Answer> {
        let answer = self.tls(ca, "GET", path, b"");
        (answer.status != 0).then_some(answer)
    }

    pub fn is_ready(&self) {
        until("ready", || {
            let answer = self.plain("/readyz?verbose");
            match answer.status {
                200 => Ok(()),
                _ => Err(format!("{}\n{}", answer.text(), self.log())),
            }
        });
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate for 127.0.0.1 as cert-manager mounts it; the paths of certificate and key, the CA beside them.
fn certificate(dir: &Path) -> [String; 2] {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap().pem();
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    write("ca.crt", &certificate);
    [
        write("tls.crt", &certificate),
        write("tls.key", &key.serialize_pem()),
    ]
}

fn start(api: &Api, dir: &Path, more: &[&str]) -> Webhook {
    let [cert, key] = certificate(dir);
    let mut args = vec![
        "--in-cluster=false".to_owned(),
        format!("--tls-cert={cert}"),
        format!("--tls-key={key}"),
        format!("--kubeconfig={}", api.kubeconfig(dir)),
    ];
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    let webhook = Webhook::start(
        Path::new(BINARY),
        &["pod-identity-webhook"],
        &args,
        dir.join("log"),
    );
    webhook.is_ready();
    webhook
}

fn decided(answer: &Value) -> &str {
    let decision = &answer["response"]["auditAnnotations"]["decision"];
    decision.as_str().unwrap_or("-")
}

#[test]
fn it_serves_what_the_reference_serves_and_nothing_else() {
    let api = Api::start(Duration::ZERO);
    api.account("orchard", "picker", Some(ROLE));
    api.account("orchard", "packer", None);
    api.role_map(Some(
        r#"{"orchard/packer":{"RoleARN":"arn:aws:iam::111122223333:role/packing"}}"#,
    ));
    let dir = tempfile::tempdir().unwrap();
    let identities = dir.path().join("identities.json");
    std::fs::write(&identities, r#"{"identities":[]}"#).unwrap();
    let file = format!(
        "--watch-container-credentials-config={}",
        identities.display()
    );
    // Flags in every form, as they stand in manifests of the reference.
    let webhook = start(
        &api,
        dir.path(),
        &[
            "--watch-config-map",
            "--namespace",
            "eks",
            "--aws-default-region=eu-west-1",
            "--enable-debugging-handlers",
            "--v=3",
            "--logtostderr",
            "--vmodule=a=2",
            &file,
        ],
    );
    let ca = dir.path().join("ca.crt");
    let mut caller = Caller::new(&webhook.url(), &ca);
    let mut post = |account: &str| -> Value {
        let body = review("orchard", &pod("p", account));
        let (status, answer) = caller.post("/mutate?timeout=5s", &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let answer = post("picker");
    let patched = patch(&answer).unwrap().to_string();
    assert!(
        patched.contains(ROLE) && patched.contains("eu-west-1"),
        "{patched}"
    );
    assert_eq!(decided(&answer), "irsa:annotation");
    assert_eq!(decided(&post("packer")), "irsa:configmap");
    std::fs::write(
        &identities,
        r#"{"identities":[{"namespace":"orchard","serviceAccount":"packer"}]}"#,
    )
    .unwrap();
    until("the identities file", || {
        let answer = post("packer");
        match decided(&answer) {
            "association" => Ok(()),
            other => Err(other.to_owned()),
        }
    });

    let body = review("orchard", &pod("p", "picker"));
    let cases: [(&str, &str, &[u8], u16, &str); 13] = [
        ("GET", "/healthz", b"", 200, "ok"),
        ("GET", "/readyz", b"", 200, "ok"),
        ("GET", "/metrics", b"", 404, "not found"),
        ("GET", "/mutate", b"", 405, "POST"),
        ("POST", "/debug/alpha/deny", &body, 200, "\"allowed\":false"),
        ("POST", "/debug/alpha/deny", b"{", 400, "AdmissionReview"),
        ("POST", "/debug/alpha/500", &body, 500, ""),
        ("GET", "/debug/alpha/cache", b"", 404, ""),
        // What a whole server has.
        ("POST", "/authenticate", b"{}", 404, ""),
        ("POST", "/authorize", b"{}", 404, ""),
        ("POST", "/clusters/default/mutate", &body, 404, ""),
        ("POST", "/admin/flush", b"", 404, ""),
        ("POST", "/", b"Action=GetCallerIdentity", 404, ""),
    ];
    for (method, path, body, status, text) in cases {
        let answer = webhook.tls(&ca, method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(answer.text().contains(text), "{path}: {}", answer.text());
    }
    let denied: Value =
        serde_json::from_slice(&webhook.tls(&ca, "POST", "/debug/alpha/deny", &body).body).unwrap();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(denied["response"]["uid"], asked["request"]["uid"]);

    let metrics = webhook.plain("/metrics").text();
    for name in [
        "pod_identity_webhook_pod_count{method=\"sts_web_identity\"} ",
        "countersign_webhook_cache_objects{kind=\"service_account\"} 2",
        "countersign_webhook_certificate_expiry_seconds",
        "countersign_events_lost_total 0",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    assert!(!metrics.contains("countersign_aws_requests"), "{metrics}");
    assert_eq!(webhook.plain("/healthz").text(), "ok");
    assert_eq!(webhook.plain("/mutate").status, 404);
    let cache = webhook.plain("/debug/alpha/cache").text();
    let cache: Value = serde_json::from_str(&cache).unwrap();
    assert_eq!(cache["serviceAccounts"]["orchard/picker"]["roleArn"], ROLE);
    assert_eq!(cache["serviceAccountsKnown"], 2);
    assert_eq!(cache["identities"], 1);
    // Forgotten accounts are read again, so that nobody misses credentials.
    assert_eq!(
        webhook.plain("/debug/alpha/cache/clear").text(),
        "2 forgotten"
    );
    let before = api.reads();
    assert_eq!(decided(&post("picker")), "irsa:annotation");
    assert_eq!(api.reads(), before + 1);
    let log = webhook.log();
    assert!(log.contains("logtostderr, vmodule"), "{log}");
    assert!(log.contains("\"event\":\"mutate\"") && !log.contains("PRIVATE"));
}

/// A new pair in the files is served, called by the reference's name; and what is asked of TLS is spoken.
#[test]
fn it_is_the_reference_by_its_name_and_follows_its_certificate() {
    let api = Api::start(Duration::ZERO);
    api.account("orchard", "picker", Some(ROLE));
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("amazon-eks-pod-identity-webhook");
    std::os::unix::fs::symlink(BINARY, &name).unwrap();
    let [cert, key] = certificate(dir.path());
    let args = [
        "--in-cluster=false".to_owned(),
        format!("--tls-cert={cert}"),
        format!("--tls-key={key}"),
        format!("--kubeconfig={}", api.kubeconfig(dir.path())),
        "--tls-min-version=VersionTLS13".to_owned(),
    ];
    let mut webhook = Webhook::start(&name, &[], &args, dir.path().join("log"));
    webhook.is_ready();
    let ca = dir.path().join("ca.crt");
    assert_eq!(webhook.tls(&ca, "GET", "/healthz", b"").status, 200);
    let speaks = |version: &'static rustls::SupportedProtocolVersion| {
        let mut roots = rustls::RootCertStore::empty();
        for one in rustls::pki_types::pem::PemObject::pem_file_iter(&ca).unwrap() {
            roots.add(one.unwrap()).unwrap();
        }
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", webhook.port)).unwrap();
        let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream));
        let asked = stream
            .get_mut()
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut line = String::new();
        asked.is_ok() && stream.read_line(&mut line).is_ok_and(|n| n > 0)
    };
    assert!(speaks(&rustls::version::TLS13) && !speaks(&rustls::version::TLS12));
    let old = std::fs::read_to_string(&ca).unwrap();
    certificate(dir.path());
    assert_ne!(std::fs::read_to_string(&ca).unwrap(), old);
    let body = review("orchard", &pod("p", "picker"));
    until("the new certificate", || {
        Caller::new(&webhook.url(), &ca)
            .post("/mutate", &body)
            .map_err(|error| error.to_string())
    });
    let terminated = Command::new("kill")
        .arg(webhook.child.id().to_string())
        .status()
        .unwrap();
    assert!(terminated.success());
    assert!(webhook.child.wait().unwrap().success());
    assert!(webhook.log().contains("stopping"), "{}", webhook.log());
}

#[test]
fn debugging_handlers_are_off() {
    let api = Api::start(Duration::ZERO);
    let dir = tempfile::tempdir().unwrap();
    let webhook = start(&api, dir.path(), &[]);
    let ca = dir.path().join("ca.crt");
    for path in ["/debug/alpha/deny", "/debug/alpha/500"] {
        assert_eq!(webhook.tls(&ca, "POST", path, b"{}").status, 404, "{path}");
    }
    for path in ["/debug/alpha/cache", "/debug/alpha/cache/clear"] {
        assert_eq!(webhook.plain(path).status, 404, "{path}");
    }
}

/// Command lines that are answered at once: exit code, and what stands on stdout or stderr.
#[test]
fn command_lines() {
    let nothing = std::collections::BTreeMap::new();
    let cases: [(&[&str], i32, &str); 13] = [
        (&["--version"], 0, "countersign "),
        (
            &["--help"],
            0,
            "--token-audience=TEXT [default: sts.amazonaws.com]",
        ),
        (&["-h"], 0, "--enable-debugging-handlers\n"),
        (
            &["manifest", "--help"],
            0,
            "Usage: countersign pod-identity-webhook",
        ),
        (&["--no-such-flag"], 2, "unknown flag `--no-such-flag`"),
        // As by the reference's reader of flags, one dash begins letters and no names.
        (&["-port=443"], 2, "flags begin with `--`"),
        (
            &["--tls-min-version=1.0"],
            2,
            "TLS before 1.2 is broken; give 1.2 or 1.3",
        ),
        (
            &["--tls-cipher-suites=TLS_NO"],
            2,
            "unknown cipher suite `TLS_NO`",
        ),
        (
            &["--associations-from=embedded"],
            2,
            "this process has no EKS API",
        ),
        (
            &["--in-cluster=false", "--port=0", "--metrics-port=0"],
            2,
            "--kubeconfig=FILE",
        ),
        (&["--port=0", "--metrics-port=0"], 2, "--in-cluster=false"),
        (&["manifest"], 2, "--image is missing"),
        (
            &["manifest", "--image=i"],
            0,
            "kind: MutatingWebhookConfiguration",
        ),
    ];
    for (args, code, text) in cases {
        let args = [&["pod-identity-webhook"], args].concat();
        let Output {
            status,
            stdout,
            stderr,
        } = countersign(&args, &nothing);
        let said = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(text), "{args:?}: {said}");
    }
    // Found among the commands, and explained by itself.
    let listed = countersign(&["--help"], &nothing);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("pod-identity-webhook"), "{listed}");
}

/// What pods of further roles get works with boto3: one token, two profiles, and the role without a profile.
#[test]
fn boto3_has_a_profile_for_each_role() {
    use crate::harness::{Running, aws_cli, client, python};
    const TEST: &str = "boto3_has_a_profile_for_each_role";
    let (Some(aws), Some(python)) = (aws_cli(TEST), python(TEST)) else {
        return;
    };
    let api = Api::start(Duration::ZERO);
    let arn = |name: &str| format!("arn:aws:iam::111122223333:role/{name}");
    let (own, reader, writer) = (arn("picker"), arn("reader"), arn("writer"));
    api.annotated(
        "orchard",
        "picker",
        json!({
            "eks.amazonaws.com/role-arn": own,
            "eks.amazonaws.com/role-arn.reader": reader,
            "eks.amazonaws.com/role-arn.writer": writer,
        }),
    );
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("token");
    std::fs::create_dir(&mount).unwrap();
    let at = format!("--token-mount-path={}", mount.display());
    let webhook = start(&api, dir.path(), &["--role-profiles", &at]);
    let body = review("orchard", &pod("p", "picker"));
    let (_, answer) = Caller::new(&webhook.url(), &dir.path().join("ca.crt"))
        .post("/mutate", &body)
        .unwrap();
    let patch = patch(&answer).unwrap();

    // As a kubelet would: the pod's annotation is the file, beside the token.
    let server = Running::up(&[]);
    let signer = crate::pod_credentials::Signer::of(&server);
    let token = signer.token("picker", "sts.amazonaws.com");
    std::fs::write(mount.join("token"), token).unwrap();
    let find = |path: &str| {
        let operations = patch.as_array().unwrap();
        let found = operations
            .iter()
            .find(|operation| operation["path"] == path);
        found.unwrap_or_else(|| panic!("{path}: {patch}"))["value"].clone()
    };
    let annotations = find("/metadata/annotations");
    let text = annotations["eks.amazonaws.com/aws-config"]
        .as_str()
        .unwrap();
    std::fs::write(mount.join("config"), text).unwrap();
    let mut environment = server.aws_environment();
    for name in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_CONFIG_FILE",
    ] {
        environment.remove(name);
    }
    for variable in find("/spec/containers/0/env").as_array().unwrap() {
        let text = |member: &str| variable[member].as_str().unwrap().to_owned();
        environment.insert(text("name"), text("value"));
    }

    let admin = server.aws_environment();
    let without_scheme = signer.issuer.strip_prefix("https://").unwrap();
    let call = |args: &[&str]| {
        let output = client(&aws, args, &admin);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "aws {args:?}: {stderr}");
    };
    let mut provider = vec!["iam", "create-open-id-connect-provider", "--url"];
    provider.extend([&*signer.issuer, "--client-id-list", "sts.amazonaws.com"]);
    call(&provider);
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": format!("arn:aws:iam::111122223333:oidc-provider/{without_scheme}")},
        "Condition": {"StringEquals": {format!("{without_scheme}:aud"): "sts.amazonaws.com"}},
    }]})
    .to_string();
    for name in ["picker", "reader", "writer"] {
        let mut create = vec!["iam", "create-role", "--role-name", name];
        create.extend(["--assume-role-policy-document", &trust]);
        call(&create);
    }
    let script = "import boto3\n\
                  print(sorted(boto3.Session().available_profiles))\n\
                  for profile in (None, 'reader', 'writer'):\n\
                  \x20   print(boto3.Session(profile_name=profile).client('sts').get_caller_identity()['Arn'])\n";
    let output = client(&python, &["-c", script], &environment);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines.first(),
        Some(&"['reader', 'writer']"),
        "{said}{stderr}"
    );
    for (line, role) in lines.iter().skip(1).zip(["picker", "reader", "writer"]) {
        assert!(
            line.contains(&format!("assumed-role/{role}/")),
            "{said}{stderr}"
        );
    }
    assert_eq!(lines.len(), 4, "{said}{stderr}");
}

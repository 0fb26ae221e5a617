//! Pods and CI become roles: real clients, a real issuer over HTTPS.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use countersign_oidc::{Algorithm, KeySet, SigningKey, discovery_document};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Authority, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::harness::{Running, aws_cli, client, python};

pub(crate) const ISSUER: &str = "https://issuer.example/id/1";
const SUBJECT: &str = "system:serviceaccount:orchard:picker";

const CONFIG: &str = r#"
countersign:
  webIdentity:
    issuerTimeoutMs: 2000
    issuers:
    - url: https://issuer.example/id/1
      caFile: CAFILE
      connectTo: ADDRESS
  bootstrap:
    openIdConnectProviders:
    - url: https://issuer.example/id/1
      clientIds: [sts.amazonaws.com]
    roles:
    - name: orchard-reader
      path: /team/
      trustPolicy: |
        {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
         "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/issuer.example/id/1"},
         "Condition": {"StringEquals": {"issuer.example/id/1:aud": "sts.amazonaws.com",
                                        "issuer.example/id/1:sub": "system:serviceaccount:orchard:picker"}}}}
"#;
const ROLE: &str = "arn:aws:iam::111122223333:role/team/orchard-reader";

/// An issuer on the loopback: what it publishes can be changed, and it can fall silent.
pub(crate) struct Issuer {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    keys: Arc<Mutex<String>>,
    pub(crate) down: Arc<AtomicBool>,
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Issuer {
    pub(crate) fn start(key: &SigningKey) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (ca_pem, config) = certificate("issuer.example");
        let issuer = Self {
            address,
            ca_pem,
            keys: Arc::new(Mutex::new(String::new())),
            down: Arc::default(),
            asked: Arc::default(),
        };
        issuer.publish(&[key]);
        let (keys, down, asked) = (
            Arc::clone(&issuer.keys),
            Arc::clone(&issuer.down),
            Arc::clone(&issuer.asked),
        );
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (keys, down, asked, config) = (
                    Arc::clone(&keys),
                    Arc::clone(&down),
                    Arc::clone(&asked),
                    Arc::clone(&config),
                );
                std::thread::spawn(move || serve(stream, config, &keys, &down, &asked));
            }
        });
        issuer
    }

    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        let document = KeySet::document(keys.iter().map(|key| (key.public(), key.algorithm())));
        *self.keys.lock().unwrap() = document;
    }
}

fn serve(
    stream: std::net::TcpStream,
    config: Arc<rustls::ServerConfig>,
    keys: &Mutex<String>,
    down: &AtomicBool,
    asked: &AtomicUsize,
) {
    let connection = rustls::ServerConnection::new(config).unwrap();
    let mut reader = BufReader::new(rustls::StreamOwned::new(connection, stream));
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(read) if read > 0 => {}
                _ => return,
            }
            if line == "\r\n" {
                break;
            }
            head.push(line);
        }
        asked.fetch_add(1, Ordering::SeqCst);
        if down.load(Ordering::SeqCst) {
            return;
        }
        let body = match head[0].split(' ').nth(1) {
            Some("/id/1/.well-known/openid-configuration") => {
                discovery_document(ISSUER, &format!("{ISSUER}/keys"), [Algorithm::Rs256])
            }
            Some("/id/1/keys") => keys.lock().unwrap().clone(),
            _ => return,
        };
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: max-age=300\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn certificate(name: &str) -> (String, rustls::ServerConfig) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let authority = Authority::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (ca_certificate.pem(), config)
}

fn start(issuer: &Issuer) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("issuer-ca.pem");
    std::fs::write(&ca, &issuer.ca_pem).unwrap();
    let config = CONFIG
        .replace("CAFILE", &ca.display().to_string())
        .replace("ADDRESS", &issuer.address.to_string());
    let file = dir.path().join("config.yaml");
    std::fs::write(&file, config).unwrap();
    let file = file.display().to_string();
    Running::start_in(dir, "up", &["--config", &file])
}

fn claims(more: Value) -> Value {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": ISSUER, "sub": SUBJECT, "aud": ["sts.amazonaws.com"], "iat": now - 10, "nbf": now - 10, "exp": now + 3600,
        "kubernetes.io": {"namespace": "orchard", "serviceaccount": {"name": "picker", "uid": "1"}},
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// The environment of a pod: an endpoint, a region, a role and a token file; no keys.
fn pod(server: &Running, token: &str) -> BTreeMap<String, String> {
    let file = server.dir.path().join("token");
    std::fs::write(&file, token).unwrap();
    let mut environment = server.aws_environment();
    environment.remove("AWS_ACCESS_KEY_ID");
    environment.remove("AWS_SECRET_ACCESS_KEY");
    environment.insert("AWS_ROLE_ARN".into(), ROLE.into());
    environment.insert(
        "AWS_WEB_IDENTITY_TOKEN_FILE".into(),
        file.display().to_string(),
    );
    environment.insert("AWS_ROLE_SESSION_NAME".into(), "picker-0".into());
    environment
}

fn assume(
    aws: &Path,
    server: &Running,
    role: &str,
    token: &str,
    more: &[&str],
) -> Result<Value, String> {
    let mut args = vec![
        "sts",
        "assume-role-with-web-identity",
        "--role-arn",
        role,
        "--role-session-name",
        "picker-0",
        "--web-identity-token",
        token,
        "--output",
        "json",
    ];
    args.extend(more);
    let mut environment = server.aws_environment();
    environment.remove("AWS_ACCESS_KEY_ID");
    environment.remove("AWS_SECRET_ACCESS_KEY");
    let output = client(aws, &args, &environment);
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn aws_cli_assumes_a_role_with_a_token_and_reads_every_refusal() {
    let Some(aws) = aws_cli("aws_cli_assumes_a_role_with_a_token_and_reads_every_refusal") else {
        return;
    };
    let key = SigningKey::generate(Algorithm::Rs256).unwrap();
    let issuer = Issuer::start(&key);
    let server = start(&issuer);
    let token = |more: Value| key.sign(&claims(more)).unwrap();
    let good = token(json!({}));
    let answer = assume(&aws, &server, ROLE, &good, &["--duration-seconds", "900"]).unwrap();
    assert_eq!(answer["SubjectFromWebIdentityToken"], SUBJECT);
    assert_eq!(answer["Provider"], ISSUER);
    assert_eq!(answer["Audience"], "sts.amazonaws.com");
    assert_eq!(
        answer["AssumedRoleUser"]["Arn"],
        "arn:aws:sts::111122223333:assumed-role/orchard-reader/picker-0"
    );
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2);

    // The default chain of a client in a pod.
    let output = client(
        &aws,
        &["sts", "get-caller-identity", "--output", "json"],
        &pod(&server, &good),
    );
    let identity: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(
        identity["Arn"],
        "arn:aws:sts::111122223333:assumed-role/orchard-reader/picker-0"
    );

    let now = jiff::Timestamp::now().as_second();
    let nobody = "arn:aws:iam::111122223333:role/nobody";
    let denied = "(AccessDenied) when calling the AssumeRoleWithWebIdentity operation: Not authorized to perform sts:AssumeRoleWithWebIdentity";
    for (role, token, text) in [
        (
            ROLE,
            token(json!({"exp": now - 301})),
            "(ExpiredTokenException)",
        ),
        (
            ROLE,
            token(json!({"aud": "other"})),
            "(InvalidIdentityToken) when calling the AssumeRoleWithWebIdentity operation: Incorrect token audience",
        ),
        (
            ROLE,
            token(json!({"iss": "https://other.example"})),
            "No OpenIDConnect provider found in your account for https://other.example",
        ),
        (
            ROLE,
            token(json!({"sub": "system:serviceaccount:orchard:other"})),
            denied,
        ),
        (nobody, good.clone(), denied),
    ] {
        let error = assume(&aws, &server, role, &token, &[]).unwrap_err();
        assert!(error.contains(text), "{text}: {error}");
    }
    // Neither the token nor what was issued for it is in the log.
    let log = server.log();
    let secret = answer["Credentials"]["SecretAccessKey"].as_str().unwrap();
    assert!(!log.contains(good.split('.').nth(2).unwrap()) && !log.contains(secret));
}

#[test]
fn a_rotation_of_the_issuer_is_followed_and_an_outage_survived() {
    let Some(aws) = aws_cli("a_rotation_of_the_issuer_is_followed_and_an_outage_survived") else {
        return;
    };
    let old = SigningKey::generate(Algorithm::Rs256).unwrap();
    let new = SigningKey::generate(Algorithm::Es384).unwrap();
    let unknown = SigningKey::generate(Algorithm::Rs256).unwrap();
    let issuer = Issuer::start(&old);
    let server = start(&issuer);
    let token = |key: &SigningKey| key.sign(&claims(json!({}))).unwrap();
    issuer.down.store(true, Ordering::SeqCst);
    let error = assume(&aws, &server, ROLE, &token(&old), &[]).unwrap_err();
    assert!(error.contains("(IDPCommunicationError)"), "{error}");
    issuer.down.store(false, Ordering::SeqCst);
    // A failure without keys is remembered for five seconds.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while let Err(error) = assume(&aws, &server, ROLE, &token(&old), &[]) {
        assert!(std::time::Instant::now() < deadline, "{error}");
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    issuer.publish(&[&old, &new]);
    assume(&aws, &server, ROLE, &token(&new), &[]).unwrap();
    issuer.down.store(true, Ordering::SeqCst);
    for key in [&old, &new] {
        assume(&aws, &server, ROLE, &token(key), &[]).unwrap();
    }
    let error = assume(&aws, &server, ROLE, &token(&unknown), &[]).unwrap_err();
    assert!(error.contains("verification key"), "{error}");
}

#[test]
fn boto3_refreshes_from_the_token_file_and_verifies_our_own_tokens() {
    let Some(python) = python("boto3_refreshes_from_the_token_file_and_verifies_our_own_tokens")
    else {
        return;
    };
    let key = SigningKey::generate(Algorithm::Rs256).unwrap();
    let issuer = Issuer::start(&key);
    let server = start(&issuer);
    let script = r#"
import boto3, json, os
def client(service, **keys):
    return boto3.client(service, **keys)
sts = client("sts")
print(json.dumps(sts.get_caller_identity()["Arn"]))
admin = dict(aws_access_key_id=os.environ["ADMIN_ID"], aws_secret_access_key=os.environ["ADMIN_SECRET"])
iam, sts = client("iam", **admin), client("sts", **admin)
try:
    sts.get_web_identity_token(Audience=["a"], SigningAlgorithm="RS256")
except sts.exceptions.OutboundWebIdentityFederationDisabledException as error:
    print(json.dumps(error.response["Error"]["Message"]))
issuer = iam.enable_outbound_web_identity_federation()["IssuerIdentifier"]
try:
    iam.enable_outbound_web_identity_federation()
except iam.exceptions.FeatureEnabledException as error:
    print(json.dumps(error.response["ResponseMetadata"]["HTTPStatusCode"]))
info = iam.get_outbound_web_identity_federation_info()
answer = sts.get_web_identity_token(Audience=["https://vault.example"], SigningAlgorithm="ES384", DurationSeconds=60)
print(json.dumps([issuer == info["IssuerIdentifier"], info["JwtVendingEnabled"], issuer, answer["WebIdentityToken"]]))
iam.disable_outbound_web_identity_federation()
try:
    iam.get_outbound_web_identity_federation_info()
except iam.exceptions.FeatureDisabledException as error:
    print(json.dumps(error.response["ResponseMetadata"]["HTTPStatusCode"]))
"#;
    let mut environment = pod(&server, &key.sign(&claims(json!({}))).unwrap());
    environment.insert("ADMIN_ID".into(), server.field("admin.accessKeyId"));
    environment.insert("ADMIN_SECRET".into(), server.field("admin.secretAccessKey"));
    let output = client(&python, &["-c", script], &environment);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}{}", server.log_tail());
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        "arn:aws:sts::111122223333:assumed-role/orchard-reader/picker-0"
    );
    assert_eq!(
        lines[1],
        "Outbound web identity federation is not enabled for your account."
    );
    assert_eq!(lines[2], 409);
    assert_eq!((&lines[3][0], &lines[3][1]), (&json!(true), &json!(true)));
    assert_eq!(lines[4], 404);
    let (issuer, token) = (lines[3][2].as_str().unwrap(), lines[3][3].as_str().unwrap());
    let path = issuer.strip_prefix(&server.field("endpointUrl")).unwrap();
    let keys = server.aws("GET", &format!("{path}/.well-known/jwks.json"), &[], b"");
    assert_eq!(keys.status, 200);
    let keys = KeySet::parse(keys.text().as_bytes()).unwrap();
    let token = countersign_oidc::UnverifiedToken::parse(token).unwrap();
    assert_eq!(token.issuer(), issuer);
    let verified = token.verify(&keys).unwrap();
    assert_eq!(&*verified.claims().subject, server.field("admin.arn"));
}

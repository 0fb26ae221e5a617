//! A pod's credentials from end to end, by environment variables alone: `up` issues, `agent run` hands out, and the AWS CLI, boto3 and
//! the AWS SDKs for JavaScript and Rust (which `countersign get-token` takes its credentials from) use them on our STS.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use countersign_oidc::{Algorithm, SigningKey};
use jiff::Timestamp;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::harness::{
    BINARY, Running, aws_cli, clean_environment, client, countersign, exec_token, node_modules,
    python,
};

const POD_UID: &str = "0f1e2d3c-aaaa-4bbb-8ccc-ddddeeeeffff";

/// The agent, killed when dropped.
struct Agent {
    process: Child,
    log: std::path::PathBuf,
}

impl Agent {
    fn start(server: &Running, environment: &BTreeMap<String, String>, port: u16) -> Self {
        let probe = free_port();
        let log = server.dir.path().join("agent.log");
        let mut command = Command::new(BINARY);
        clean_environment(&mut command);
        command
            .args(["agent", "run", "--cluster-name", "demo", "--endpoint"])
            .arg(server.field("endpointUrl"))
            .args(["--bind-hosts", "127.0.0.1", "--link", "off"])
            .args(["--imds", "off", "--verbosity", "trace"])
            .args(["--port", &port.to_string()])
            .args(["--probe-port", &probe.to_string()])
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap());
        let mut agent = Self {
            process: command.spawn().unwrap(),
            log,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_ready(probe) {
            let ended = agent.process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{ended:?}: {}",
                agent.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        agent
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Status and body of a GET on loopback.
fn get(port: u16, path: &str, authorization: &str) -> (u16, String) {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        return (0, String::new());
    };
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: {authorization}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or(0), body.to_owned())
}

fn is_ready(port: u16) -> bool {
    get(port, "/readyz", "").0 == 200
}

/// What kube-apiserver does with the key that `up` wrote for it.
pub struct Signer {
    key: SigningKey,
    pub issuer: String,
}

impl Signer {
    pub fn of(server: &Running) -> Self {
        let file = server.dir.path().join("data/sa-signer.key");
        let der = PrivatePkcs8KeyDer::from_pem_file(file).unwrap();
        Self {
            key: SigningKey::from_pkcs8(Algorithm::Rs256, der.secret_pkcs8_der()).unwrap(),
            issuer: server.field("issuerUrl"),
        }
    }

    pub fn token(&self, account: &str, audience: &str) -> String {
        let now = Timestamp::now().as_second();
        let claims = json!({
            "iss": self.issuer, "sub": format!("system:serviceaccount:orchard:{account}"), "aud": [audience],
            "iat": now, "nbf": now, "exp": now + 3600,
            "kubernetes.io": {
                "namespace": "orchard", "serviceaccount": {"name": account, "uid": "9a8b7c6d-0000-4111-8222-333344445555"},
                "pod": {"name": "picker-0", "uid": POD_UID}, "node": {"name": "node-a", "uid": "7c9d8a10-1111-4222-8333-444455556666"},
            },
        });
        self.key.sign(&claims).unwrap()
    }
}

/// Runs every client in an environment; each must be `expected`.
fn every_client_is(
    test: &str,
    server: &Running,
    environment: &BTreeMap<String, String>,
    expected: &str,
) {
    let says = |name: &str, output: Output| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(stdout.contains(expected), "{name}: {stdout}{stderr}");
    };
    if let Some(aws) = aws_cli(test) {
        let args = ["sts", "get-caller-identity", "--output", "json"];
        says("the AWS CLI", client(&aws, &args, environment));
    }
    if let Some(python) = python(test) {
        let script = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";
        says("boto3", client(&python, &["-c", script], environment));
    }
    if let Some(modules) = node_modules(test) {
        let script = format!(
            "const {{STSClient, GetCallerIdentityCommand}} = require('{}');\
             new STSClient({{}}).send(new GetCallerIdentityCommand({{}})).then(who => console.log(who.Arn), error => {{ console.error(error); process.exit(1); }});",
            modules.join("@aws-sdk/client-sts").display()
        );
        let mut environment = environment.clone();
        environment.insert("NODE_PATH".into(), modules.display().to_string());
        let output = client(Path::new("node"), &["-e", &script], &environment);
        says("the AWS SDK for JavaScript", output);
    }
    let minted = countersign(&["get-token", "--cluster-name", "demo"], environment);
    let (status, review) = server.review("/authenticate", &exec_token(&minted));
    let arn = &review["status"]["user"]["extra"]["arn"][0];
    assert!(
        status == 200 && arn.as_str().is_some_and(|arn| arn.contains(expected)),
        "the AWS SDK for Rust: {review}\n{}",
        server.log_tail()
    );
}

#[test]
fn pods_get_credentials_both_ways_by_environment_variables_alone() {
    const TEST: &str = "pods_get_credentials_both_ways_by_environment_variables_alone";
    let Some(aws) = aws_cli(TEST) else { return };
    let server = Running::up(&[]);
    let admin = server.aws_environment();
    let call = |args: &[&str]| -> Value {
        let output = client(&aws, args, &admin);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "aws {args:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    };
    let signer = Signer::of(&server);
    let without_scheme = signer.issuer.strip_prefix("https://").unwrap();
    call(&[
        "iam",
        "create-open-id-connect-provider",
        "--url",
        &signer.issuer,
        "--client-id-list",
        "sts.amazonaws.com",
    ]);
    let irsa_trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": format!("arn:aws:iam::111122223333:oidc-provider/{without_scheme}")},
        "Condition": {"StringEquals": {
            format!("{without_scheme}:aud"): "sts.amazonaws.com",
            format!("{without_scheme}:sub"): "system:serviceaccount:orchard:picker",
        }},
    }]});
    let pods_trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Principal": {"Service": "pods.eks.amazonaws.com"},
    }]});
    for (role, trust) in [("picker-irsa", irsa_trust), ("picker", pods_trust)] {
        let trust = trust.to_string();
        let mut create = vec!["iam", "create-role", "--role-name", role];
        create.extend(["--assume-role-policy-document", &trust]);
        call(&create);
        let arn = format!("arn:aws:iam::111122223333:role/{role}");
        let mut create = vec!["eks", "create-access-entry", "--cluster-name", "demo"];
        create.extend(["--principal-arn", &arn]);
        call(&create);
    }
    call(&[
        "eks",
        "create-pod-identity-association",
        "--cluster-name",
        "demo",
        "--namespace",
        "orchard",
        "--service-account",
        "picker",
        "--role-arn",
        "arn:aws:iam::111122223333:role/picker",
    ]);
    call(&["iam", "create-user", "--user-name", "node"]);
    let allow = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Resource": "*",
        "Action": ["eks-auth:AssumeRoleForPodIdentity", "eks:DescribePodIdentityAssociation"],
    }]})
    .to_string();
    let mut put = vec!["iam", "put-user-policy", "--user-name", "node"];
    put.extend(["--policy-name", "agent", "--policy-document", &allow]);
    call(&put);
    let key = call(&["iam", "create-access-key", "--user-name", "node"]);
    let secret = key["AccessKey"]["SecretAccessKey"].as_str().unwrap();
    let mut node = admin.clone();
    node.remove("AWS_ENDPOINT_URL");
    let id = key["AccessKey"]["AccessKeyId"].as_str().unwrap();
    node.insert("AWS_ACCESS_KEY_ID".into(), id.into());
    node.insert("AWS_SECRET_ACCESS_KEY".into(), secret.into());

    let mut bare = admin.clone();
    bare.remove("AWS_ACCESS_KEY_ID");
    bare.remove("AWS_SECRET_ACCESS_KEY");
    let file = |name: &str, text: &str| {
        let path = server.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let with = |pairs: [(&str, String); 3]| {
        let mut environment = bare.clone();
        environment.extend(pairs.map(|(name, value)| (name.to_owned(), value)));
        environment
    };

    let web_identity = signer.token("picker", "sts.amazonaws.com");
    let environment = with([
        (
            "AWS_ROLE_ARN",
            "arn:aws:iam::111122223333:role/picker-irsa".into(),
        ),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file("irsa", &web_identity)),
        ("AWS_ROLE_SESSION_NAME", "picker-0".into()),
    ]);
    every_client_is(
        TEST,
        &server,
        &environment,
        "assumed-role/picker-irsa/picker-0",
    );

    let port = free_port();
    let agent = Agent::start(&server, &node, port);
    let for_pods = signer.token("picker", "pods.eks.amazonaws.com");
    let uri = format!("http://127.0.0.1:{port}/v1/credentials");
    let environment = with([
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            file("pod", &for_pods),
        ),
        ("NO_PROXY", "127.0.0.1".into()),
    ]);
    every_client_is(
        TEST,
        &server,
        &environment,
        "assumed-role/picker/eks-demo-picker-0-",
    );

    // Whoever is not meant gets the reason, and nothing else.
    let mut forged = for_pods.clone();
    let at = forged.rfind('.').unwrap() + 10;
    let other = if forged[at..].starts_with('A') {
        "B"
    } else {
        "A"
    };
    forged.replace_range(at..=at, other);
    for (token, status, code) in [
        (web_identity.clone(), 400, "InvalidTokenException"),
        (
            signer.token("thief", "pods.eks.amazonaws.com"),
            404,
            "ResourceNotFoundException",
        ),
        (forged, 400, "InvalidTokenException"),
    ] {
        let (given, body) = get(port, "/v1/credentials", &token);
        assert!(given == status && body.contains(code), "{given} {body}");
    }
    let (_, body) = get(port, "/v1/credentials", &for_pods);
    let given: Value = serde_json::from_str(&body).unwrap();
    let log = agent.log();
    for secret in [
        for_pods.as_str(),
        web_identity.as_str(),
        secret,
        given["SecretAccessKey"].as_str().unwrap(),
        given["Token"].as_str().unwrap(),
    ] {
        assert!(!log.contains(secret) && !server.log().contains(secret));
    }
}

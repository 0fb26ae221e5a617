//! STS over keep-alive: GetCallerIdentity and AssumeRole, both signed, and AssumeRoleWithWebIdentity with a token of RS256; EKS
//! Auth: AssumeRoleForPodIdentity, signed, with a token of RS256: throughput, server CPU and latency; and a large account.
//!
//! The server is the real command in its own process; the load comes from this one, on the same machine. The baseline is moto's
//! server, in the same run, where `MOTO_SERVER` names its program; without it no ratio is printed.
//! Run: `cargo bench -p countersign --bench sts`. `ROLES` and `KEYS` set the size of the large account.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark fails by panicking and reports on stdout"
)]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Server, Target, cpu_model, exchange, paced, saturate};
use countersign_arn::unique_id::{self, Kind};
use countersign_arn::{AccountId, Partition};
use countersign_oidc::{Algorithm, KeySet, SigningKey};
use countersign_sigv4::{Credentials, Payload, Request, SecretKey, Signer};
use countersign_store::records::{
    AccessKey, AccessKeyStatus, RecordKey, Role, SECRET_FIELD, TrustPolicy, User,
};
use countersign_store::{
    ClusterPlace, DataDir, Directory, Key, NewPodIdentityAssociation, NewRole, Quotas, Random,
    RedbOptions, RootKeySource, Sealer, SecretString, Store, Transaction, Value,
};
use jiff::Timestamp;

/// Requests signed beforehand for each run: the client's own work stays out of the measurement.
const SIGNED: usize = 256;
const ACCOUNT: &str = "111122223333";
const ISSUER: &str = "oidc.bench.example/id/1";
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"sts:AssumeRole"}}"#;

/// The name of an operation, its requests, and what an answer has in it.
type Measured = (&'static str, Vec<Vec<u8>>, &'static [u8]);

struct Client {
    key_id: String,
    secret: SecretKey,
    host: String,
    service: &'static str,
}

impl Client {
    /// Different requests with the same meaning: each has a header of its own.
    fn signed(&self, body: &str) -> Vec<Vec<u8>> {
        (0..SIGNED).map(|n| self.request(body, n)).collect()
    }

    fn request(&self, body: &str, n: usize) -> Vec<u8> {
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        self.request_to("/", form, body, n)
    }

    fn request_to(&self, path: &str, content_type: &str, body: &str, n: usize) -> Vec<u8> {
        let number = n.to_string();
        let headers = [
            ("host", self.host.as_bytes()),
            ("content-type", content_type.as_bytes()),
            ("x-request-number", number.as_bytes()),
        ];
        let request = Request {
            method: "POST",
            path: path.as_bytes(),
            query: None,
            headers: &headers,
            forwarded_host: None,
            tls: false,
            body: Payload::Bytes(body.as_bytes()),
        };
        let credentials = Credentials {
            key_id: &self.key_id,
            secret: &self.secret,
            session_token: None,
        };
        let signed = Signer::new(credentials, "us-east-1", self.service)
            .sign(&request, Timestamp::now())
            .unwrap();
        let mut text = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            text.push_str(&format!(
                "{name}: {}\r\n",
                std::str::from_utf8(value).unwrap()
            ));
        }
        for (name, value) in signed.headers() {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(body);
        text.into_bytes()
    }
}

fn get_caller_identity() -> String {
    "Action=GetCallerIdentity&Version=2011-06-15".into()
}

fn assume_role(role: &str) -> String {
    format!(
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A{ACCOUNT}%3Arole%2F{role}&RoleSessionName=bench"
    )
}

/// Moto's server, started when its program is known.
struct Moto {
    child: Child,
    address: String,
}

impl Moto {
    async fn start() -> Option<Self> {
        let program = std::env::var_os("MOTO_SERVER")?;
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{port}");
        let deadline = Instant::now() + Duration::from_secs(60);
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            assert!(Instant::now() < deadline, "moto's server did not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some(Self { child, address })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn one(target: &Target, request: &[u8], wanted: &[u8]) {
    let mut stream = target.connect().await;
    let mut buffer = Vec::new();
    let fine = exchange(&mut *stream, request, &mut buffer, wanted).await;
    assert!(fine, "{}", String::from_utf8_lossy(&buffer));
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!(
        "machine: {} cores, {}",
        std::thread::available_parallelism().unwrap(),
        cpu_model()
    );
    let moto = moto_rates().await;
    let time = Duration::from_secs(5);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    let issuer = SigningKey::generate(Algorithm::Rs256).unwrap();
    std::fs::write(&config, bootstrap(dir.path(), &issuer)).unwrap();
    let config = config.display().to_string();
    let server = Server::start("up", dir, &["--events", "off", "--config", &config]);
    let target = Target::plain(&server.field("endpointUrl"));
    let client = Client {
        key_id: server.field("admin.accessKeyId"),
        secret: SecretKey::new(server.field("admin.secretAccessKey")),
        host: target.address().to_owned(),
        service: "sts",
    };
    let operations: [Measured; 3] = [
        (
            "GetCallerIdentity",
            client.signed(&get_caller_identity()),
            b"<Arn>",
        ),
        (
            "AssumeRole",
            client.signed(&assume_role("bench")),
            b"<SessionToken>",
        ),
        (
            "AssumeRoleWithWebIdentity, RS256",
            web_identity(&client.host, &issuer),
            b"<SessionToken>",
        ),
    ];
    for (name, requests, wanted) in operations {
        one(&target, &requests[0], wanted).await;
        let load = saturate(|| server.cpu(), &target, 16, time, &requests, wanted).await;
        let baseline = moto.iter().find(|(known, _)| *known == name);
        let ratio = baseline.map_or(String::new(), |(_, rate)| {
            format!(" ({:.0} times moto's {rate:.0}/s)", load.per_second / rate)
        });
        println!(
            "{name}, 16 connections: {:.0}/s{ratio}, {:.1} us server CPU",
            load.per_second, load.cpu_micros
        );
        let half = load.per_second / 2.0;
        let [p50, p99, p999] = paced(&target, half, time, &requests, wanted).await;
        println!(
            "{name} at half the maximum: p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms"
        );
    }
    println!("memory: {:.1} MiB", server.memory_mib());
    drop(server);
    pod_identity(&issuer, time).await;
    large_account().await;
}

/// AssumeRoleForPodIdentity: every request with the token of another pod, of one service account.
async fn pod_identity(issuer: &SigningKey, time: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (key_id, secret) = first_start(Command::new(common::BINARY), &data, dir.path());
    let cluster_id = associate(&data, issuer).await;
    // The store is let go of by a task of its own.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let config = dir.path().join("config.yaml");
    std::fs::write(
        &config,
        "countersign:\n  limits: {eksAuthPerCaller: 0, eksAuthPerAccount: 0}\n",
    )
    .unwrap();
    let config = config.display().to_string();
    let server = Server::start("up", dir, &["--events", "off", "--config", &config]);
    let target = Target::plain(&server.field("endpointUrl"));
    let client = Client {
        key_id,
        secret: SecretKey::new(secret),
        host: target.address().to_owned(),
        service: "eks-auth",
    };
    let now = Timestamp::now().as_second();
    let requests: Vec<Vec<u8>> = (0..SIGNED)
        .map(|n| {
            let uid = format!("5b0f6f5e-9d4b-4a7e-8a55-{n:012x}");
            let claims = serde_json::json!({
                "iss": format!("https://issuer.countersign.internal/id/{cluster_id}"),
                "sub": "system:serviceaccount:bench:bench", "aud": ["pods.eks.amazonaws.com"],
                "iat": now, "nbf": now, "exp": now + 86_400,
                "kubernetes.io": {
                    "namespace": "bench", "serviceaccount": {"name": "bench", "uid": uid},
                    "pod": {"name": format!("bench-{n}"), "uid": uid},
                },
            });
            let body = serde_json::json!({ "token": issuer.sign(&claims).unwrap() }).to_string();
            let path = "/clusters/demo/assume-role-for-pod-identity";
            client.request_to(path, "application/json", &body, n)
        })
        .collect();
    let wanted = b"sessionToken";
    one(&target, &requests[0], wanted).await;
    let load = saturate(|| server.cpu(), &target, 16, time, &requests, wanted).await;
    println!(
        "AssumeRoleForPodIdentity, RS256, 16 connections: {:.0}/s, {:.1} us server CPU",
        load.per_second, load.cpu_micros
    );
    let half = load.per_second / 2.0;
    let [p50, p99, p999] = paced(&target, half, time, &requests, wanted).await;
    println!(
        "AssumeRoleForPodIdentity at half the maximum: p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms"
    );
}

/// Gives the cluster `demo` the keys of its tokens, and a service account with a role; the cluster's id.
async fn associate(data: &Path, issuer: &SigningKey) -> String {
    let opened = DataDir::open(
        data,
        RootKeySource::DataDir,
        &Random::system(),
        &RedbOptions::default(),
    )
    .unwrap();
    let sealer = Sealer::new(&opened.root_key, &[]).unwrap();
    let directory = Directory::open(
        Arc::new(opened.store) as _,
        sealer,
        Random::system(),
        Quotas::default(),
    )
    .await
    .unwrap();
    let (account, now): (AccountId, _) = (ACCOUNT.parse().unwrap(), Timestamp::now());
    let role = NewRole {
        account,
        name: "pods".into(),
        path: "/".into(),
        trust: TrustPolicy {
            document: r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}}"#.into(),
            principals: Vec::new(),
        },
        max_session_duration: 3600,
        description: None,
        tags: Vec::new(),
        boundary: None,
    };
    let role_arn = directory.create_role(role, now).await.unwrap().arn();
    let place = ClusterPlace {
        account,
        region: "us-east-1",
        name: "demo",
    };
    let keys = KeySet::of([issuer.public().clone()]).unwrap();
    directory.add_cluster_keys(place, &keys, now).await.unwrap();
    let association = NewPodIdentityAssociation {
        namespace: "bench".into(),
        service_account: "bench".into(),
        role_arn: role_arn.into(),
        target_role_arn: None,
        disable_session_tags: None,
        policy: None,
        owner_arn: None,
        sessions: countersign_store::records::PodSessions::default(),
        tags: Vec::new(),
    };
    directory
        .create_pod_identity_association(place, association, None, now)
        .await
        .unwrap();
    let snapshot = directory.snapshot();
    let cluster = snapshot.cluster(account, "us-east-1", "demo").unwrap();
    cluster.record.id.to_string()
}

/// Rates of the baseline.
async fn moto_rates() -> Vec<(&'static str, f64)> {
    let Some(moto) = Moto::start().await else {
        println!("baseline: none, MOTO_SERVER is not set");
        return Vec::new();
    };
    let target = Target::plain(&format!("http://{}", moto.address));
    let client = |service| Client {
        key_id: "AKIAIOSFODNN7EXAMPLE".into(),
        secret: SecretKey::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        host: moto.address.clone(),
        service,
    };
    let create = format!(
        "Action=CreateRole&Version=2010-05-08&RoleName=bench&AssumeRolePolicyDocument={}",
        percent(TRUST)
    );
    one(
        &target,
        &client("iam").request(&create, 0),
        b"CreateRoleResponse",
    )
    .await;
    let time = Duration::from_secs(5);
    let mut rates = Vec::new();
    let operations: [(&'static str, String, &'static [u8]); 2] = [
        ("GetCallerIdentity", get_caller_identity(), b"<Arn>"),
        ("AssumeRole", assume_role("bench"), b"<SessionToken>"),
    ];
    for (name, body, wanted) in operations {
        let requests = client("sts").signed(&body);
        let load = saturate(|| Duration::ZERO, &target, 16, time, &requests, wanted).await;
        println!("baseline, moto's server, {name}: {:.0}/s", load.per_second);
        rates.push((name, load.per_second));
    }
    rates
}

fn percent(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// Unsigned requests, each with a token of its own.
fn web_identity(host: &str, issuer: &SigningKey) -> Vec<Vec<u8>> {
    let now = Timestamp::now().as_second();
    (0..SIGNED)
        .map(|n| {
            let claims = serde_json::json!({
                "iss": format!("https://{ISSUER}"), "sub": format!("system:serviceaccount:bench:{n}"),
                "aud": "sts.amazonaws.com", "iat": now, "nbf": now, "exp": now + 3600,
            });
            let token = issuer.sign(&claims).unwrap();
            let body = format!(
                "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A{ACCOUNT}%3Arole%2Fpod\
                 &RoleSessionName=bench&WebIdentityToken={token}"
            );
            format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        })
        .collect()
}

fn bootstrap(dir: &Path, issuer: &SigningKey) -> String {
    let (trust, pod, keys) = (
        dir.join("trust.json"),
        dir.join("pod.json"),
        dir.join("keys.json"),
    );
    std::fs::write(&trust, TRUST).unwrap();
    let federated = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"Federated":"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"}},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{{"StringLike":{{"{ISSUER}:sub":"system:serviceaccount:bench:*"}}}}}}}}"#
    );
    std::fs::write(&pod, federated).unwrap();
    let set = KeySet::document([(issuer.public(), Algorithm::Rs256)]);
    std::fs::write(&keys, set).unwrap();
    format!(
        "countersign:\n  limits: {{stsPerAccount: 0, stsPerKey: 0, webIdentityPerAddress: 0}}\n  webIdentity:\n    issuers:\n\
         \x20   - url: https://{ISSUER}\n      keysFile: {}\n  bootstrap:\n    openIdConnectProviders:\n\
         \x20   - url: https://{ISSUER}\n      clientIds: [sts.amazonaws.com]\n    roles:\n\
         \x20   - name: bench\n      trustPolicyFile: {}\n    - name: pod\n      trustPolicyFile: {}\n",
        keys.display(),
        trust.display(),
        pod.display()
    )
}

fn size(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// One account with many roles and keys: start, memory, GetRole and a page of ListRoles.
async fn large_account() {
    let (roles, keys) = (size("ROLES", 100_000), size("KEYS", 1_000_000));
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // The first start makes the account and its admin.
    let first = Command::new(common::BINARY);
    let (key_id, secret) = first_start(first, &data, dir.path());
    let filled = Instant::now();
    fill(&data, roles, keys).await;
    println!(
        "large account: {roles} roles and {keys} keys written in {:.1} s",
        filled.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    let server = Server::start("up", dir, &["--events", "off"]);
    println!(
        "large account: start {:.2} s, memory {:.0} MiB",
        start.elapsed().as_secs_f64(),
        server.memory_mib()
    );
    let target = Target::plain(&server.field("endpointUrl"));
    let client = Client {
        key_id,
        secret: SecretKey::new(secret),
        host: target.address().to_owned(),
        service: "iam",
    };
    let time = Duration::from_secs(3);
    let get = format!(
        "Action=GetRole&Version=2010-05-08&RoleName=bench-{}",
        roles / 2
    );
    let list = "Action=ListRoles&Version=2010-05-08&MaxItems=100".to_owned();
    for (name, body, wanted) in [
        ("GetRole", get, b"<RoleId>".as_slice()),
        ("ListRoles, 100 of a page", list, b"<IsTruncated>"),
    ] {
        let requests = client.signed(&body);
        one(&target, &requests[0], wanted).await;
        let [p50, p99, _] = paced(&target, 200.0, time, &requests, wanted).await;
        println!("large account: {name} at 200/s: p50 {p50:.2} ms, p99 {p99:.2} ms");
    }
}

fn first_start(mut command: Command, data: &Path, dir: &Path) -> (String, String) {
    let ready = dir.join("first.json");
    let mut child = command
        .args([
            "up",
            "--listen",
            "127.0.0.1:0",
            "--webhook-listen",
            "127.0.0.1:0",
        ])
        .arg("--data-dir")
        .arg(data)
        .arg("--ready-file")
        .arg(&ready)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let ready: serde_json::Value = loop {
        if let Ok(text) = std::fs::read(&ready) {
            break serde_json::from_slice(&text).unwrap();
        }
        assert!(Instant::now() < deadline, "the first start hangs");
        std::thread::sleep(Duration::from_millis(10));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let field = |name: &str| ready["admin"][name].as_str().unwrap().to_owned();
    (field("accessKeyId"), field("secretAccessKey"))
}

/// Writes roles, and users with two keys each, past all quotas.
async fn fill(data: &Path, roles: u64, keys: u64) {
    let opened = DataDir::open(
        data,
        RootKeySource::DataDir,
        &Random::system(),
        &RedbOptions::default(),
    )
    .unwrap();
    let sealer = Sealer::new(&opened.root_key, &[]).unwrap();
    let account: AccountId = ACCOUNT.parse().unwrap();
    let now = Timestamp::now();
    let random = |salt: u8, n: u64| {
        let mut bytes = [salt; 16];
        for (place, byte) in bytes.iter_mut().skip(1).take(6).enumerate() {
            *byte = (n >> (5 * place)) as u8 & 31;
        }
        bytes
    };
    let mut records: Vec<(Key, Value)> = Vec::new();
    for n in 0..roles {
        let role = Role {
            account,
            partition: Partition::Aws,
            name: format!("bench-{n}").into(),
            path: "/".into(),
            id: unique_id::encode(Kind::Role, account, random(0, n)).into(),
            created: now,
            description: None,
            max_session_duration: 3600,
            trust: TrustPolicy {
                document: TRUST.into(),
                principals: Vec::new(),
            },
            tags: Vec::new(),
            policies: Vec::new(),
            attached: Vec::new(),
            boundary: None,
        };
        let key = RecordKey::Role {
            account,
            name: &role.name,
        };
        records.push((key.to_key().unwrap(), role.encode()));
    }
    let secret = SecretString::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    for n in 0..keys / 2 {
        let id: Box<str> = unique_id::encode(Kind::User, account, random(0, n)).into();
        let mut listed: Vec<Box<str>> = Vec::new();
        for salt in [1, 2] {
            let key_id = unique_id::encode(Kind::AccessKey, account, random(salt, n));
            let key = RecordKey::AccessKey(&key_id).to_key().unwrap();
            let record = AccessKey {
                id: key_id.as_str().into(),
                account,
                user_id: id.clone(),
                secret: sealer.seal(&key, SECRET_FIELD, &secret).unwrap(),
                status: AccessKeyStatus::Active,
                created: now,
            };
            records.push((key, record.encode()));
            listed.push(key_id.into());
        }
        let user = User {
            account,
            partition: Partition::Aws,
            name: format!("bench-{n}").into(),
            path: "/".into(),
            id,
            created: now,
            tags: Vec::new(),
            access_keys: listed,
            policies: Vec::new(),
            attached: Vec::new(),
            boundary: None,
            groups: Vec::new(),
            mfa_devices: Vec::new(),
            login: None,
        };
        let key = RecordKey::User {
            account,
            name: &user.name,
        };
        records.push((key.to_key().unwrap(), user.encode()));
    }
    let store = Arc::new(opened.store);
    let mut writes = Vec::new();
    for chunk in records.chunks(countersign_store::limits::OPERATIONS) {
        let transaction = chunk
            .iter()
            .fold(Transaction::new(), |transaction, (key, value)| {
                transaction.put(key, value.clone())
            });
        let store = Arc::clone(&store);
        writes.push(async move { store.commit(transaction).await.unwrap() });
        if writes.len() == 64 {
            futures::future::join_all(writes.drain(..)).await;
        }
    }
    futures::future::join_all(writes).await;
}

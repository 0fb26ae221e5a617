//! `countersign agent` with a real kube-apiserver: pods of the node are watched with the permissions of the manifest, tokens are those of the
//! API server, and the auth service is a stand-in that answers by the claims.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::harness::{BINARY, clean_environment, countersign};

/// The auth service and the EKS API, as far as the agent asks them. Signatures are the business of other tests.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Tokens that were exchanged.
    calls: Vec<String>,
    /// When the association was changed last; nothing when it is gone.
    modified: Option<f64>,
    /// First lines of all requests with their `Authorization`.
    requests: Vec<(String, String)>,
}

impl Service {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                calls: Vec::new(),
                modified: Some(1_700_000_000.0),
                requests: Vec::new(),
            })),
        };
        let serving = service.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serving.answer(stream.unwrap());
            }
        });
        service
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut first, mut length, mut authorization) = (String::new(), 0, String::new());
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => value.trim().clone_into(&mut authorization),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut state = self.state.lock().unwrap();
        let path = first.split(' ').nth(1).unwrap().to_owned();
        state
            .requests
            .push((first.trim().to_owned(), authorization));
        let (status, answer) = match (path.as_str(), state.modified) {
            ("/clusters/orchard/assume-role-for-pod-identity", Some(_)) => {
                let body: Value = serde_json::from_slice(&body).unwrap();
                let token = body["token"].as_str().unwrap().to_owned();
                state.calls.push(token.clone());
                (200, credentials(&token, state.calls.len()))
            }
            ("/clusters/orchard/pod-identity-associations/a-picker", Some(modified)) => {
                (200, json!({"association": {"modifiedAt": modified}}))
            }
            _ => (404, json!({"message": "there is none"})),
        };
        let answer = answer.to_string();
        let _ = write!(
            stream,
            "HTTP/1.1 {status} X\r\nx-amzn-errortype: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            if status == 404 {
                "ResourceNotFoundException"
            } else {
                ""
            },
            answer.len()
        );
    }

    pub(crate) fn calls(&self) -> usize {
        self.state.lock().unwrap().calls.len()
    }
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    serde_json::from_slice(&engine.decode(payload).unwrap()).unwrap()
}

fn credentials(token: &str, call: usize) -> Value {
    let claims = claims(token);
    let kubernetes = &claims["kubernetes.io"];
    let account = kubernetes["serviceaccount"]["name"].as_str().unwrap();
    let end = jiff::Timestamp::now().as_second() + 21_600;
    json!({
        "subject": {"namespace": kubernetes["namespace"], "serviceAccount": account},
        "audience": "pods.eks.amazonaws.com",
        "podIdentityAssociation": {
            "associationArn": format!("arn:aws:eks:eu-west-1:111122223333:podidentityassociation/orchard/a-{account}"),
            "associationId": format!("a-{account}"),
        },
        "assumedRoleUser": {
            "arn": format!("arn:aws:sts::111122223333:assumed-role/reader/eks-orchard-{account}"),
            "assumeRoleId": format!("AROAREADER00000000001:eks-orchard-{account}"),
        },
        "credentials": {
            "accessKeyId": format!("ASIA{call:016}"), "secretAccessKey": "very/secret", "sessionToken": "very/session",
            "expiration": end,
        },
    })
}

/// A running agent, ended when dropped.
struct Agent {
    child: Child,
    port: u16,
    probes: u16,
    log: std::path::PathBuf,
}

impl Agent {
    fn start(cluster: &Cluster, service: &Service, kubeconfig: &Path) -> Self {
        let (port, probes, metrics) = (free_port(), free_port(), free_port());
        let log = cluster.file("agent.log");
        let mut command = Command::new(BINARY);
        clean_environment(&mut command);
        let child = command
            .args([
                "agent",
                "run",
                "-c",
                "orchard",
                "--region",
                "eu-west-1",
                "--link",
                "off",
            ])
            // The machine that runs the tests keeps its own packet filter.
            .args(["--imds", "off"])
            .args(["-b", "127.0.0.1", "-p", &port.to_string()])
            .args(["--probe-port", &probes.to_string()])
            .args([
                "--metrics-address",
                "127.0.0.1",
                "--metrics-port",
                &metrics.to_string(),
            ])
            .args(["--endpoint", &format!("http://{}", service.address)])
            .args([
                "--node-name",
                "node-a",
                "--bind-source",
                "enforce",
                "-v",
                "trace",
            ])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env("AWS_ACCESS_KEY_ID", "AKIANODE000000000001")
            .env("AWS_SECRET_ACCESS_KEY", "node/secret")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let agent = Self {
            child,
            port,
            probes,
            log,
        };
        agent.wait("it is ready", || {
            agent.get(agent.probes, None, "/readyz", None).0 == 200
        });
        agent
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(40);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Status and body of a GET from this address.
    fn get(
        &self,
        port: u16,
        from: Option<IpAddr>,
        path: &str,
        token: Option<&str>,
    ) -> (u16, Value) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let text = runtime.block_on(async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            if let Some(from) = from {
                socket.bind(SocketAddr::new(from, 0)).unwrap();
            }
            let Ok(mut stream) = socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await else {
                return String::new();
            };
            let authorization = token.map_or(String::new(), |token| format!("Authorization: {token}\r\n"));
            let request = format!("GET {path} HTTP/1.1\r\nHost: 169.254.170.23\r\n{authorization}Connection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text).await;
            text
        });
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn ask(&self, from: &str, token: &str) -> (u16, Value) {
        self.get(
            self.port,
            Some(from.parse().unwrap()),
            "/v1/credentials",
            Some(token),
        )
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn kubectl(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.kubectl(ADMIN_TOKEN, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A pod on a node, as far as an API server without kubelet has one.
fn make_pod(cluster: &Cluster, name: &str, node: &str, address: &str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "orchard"},
        "spec": {"nodeName": node, "serviceAccountName": "picker", "containers": [{"name": "c", "image": "example/image"}]},
    });
    let file = cluster.file(&format!("{name}.json"));
    std::fs::write(&file, pod.to_string()).unwrap();
    kubectl(cluster, &["create", "-f", &file.display().to_string()]);
    let status = json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": "192.168.0.1", "hostIPs": [{"ip": "192.168.0.1"}],
    }});
    let patch = status.to_string();
    kubectl(
        cluster,
        &[
            "patch",
            "pod",
            name,
            "-n",
            "orchard",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ],
    );
}

fn token_of(cluster: &Cluster, pod: &str) -> String {
    let bound = format!("--bound-object-name={pod}");
    kubectl(
        cluster,
        &[
            "create",
            "token",
            "picker",
            "-n",
            "orchard",
            "--audience=pods.eks.amazonaws.com",
            "--bound-object-kind=Pod",
            &bound,
        ],
    )
}

#[test]
fn the_agent_watches_pods_keys_and_associations_with_the_permissions_of_its_manifest() {
    let test = "the_agent_watches_pods_keys_and_associations_with_the_permissions_of_its_manifest";
    let Some(assets) = assets(test) else { return };
    let cluster = Cluster::start(&assets, &[]);
    let service = Service::start();
    // The manifest as it is printed, and the agent with the account that is in it.
    let printed = countersign(
        &[
            "agent",
            "manifest",
            "-c",
            "orchard",
            "--image",
            "example/countersign",
            "--region",
            "eu-west-1",
        ],
        &Default::default(),
    );
    assert!(printed.status.success());
    let manifest = cluster.file("agent.yaml");
    std::fs::write(&manifest, &printed.stdout).unwrap();
    kubectl(&cluster, &["apply", "-f", &manifest.display().to_string()]);
    let own = kubectl(
        &cluster,
        &["create", "token", "countersign-agent", "-n", "kube-system"],
    );
    let agent = Agent::start(&cluster, &service, &cluster.kubeconfig("agent", &own));

    kubectl(&cluster, &["create", "namespace", "orchard"]);
    kubectl(
        &cluster,
        &["create", "serviceaccount", "picker", "-n", "orchard"],
    );
    make_pod(&cluster, "picker-0", "node-a", "127.0.0.10");
    make_pod(&cluster, "picker-1", "node-a", "127.0.0.11");
    make_pod(&cluster, "picker-2", "node-b", "127.0.0.12");
    let token = token_of(&cluster, "picker-0");

    // Its own pod, another pod, a pod of another node.
    let (status, first) = agent.ask("127.0.0.10", &token);
    assert_eq!(status, 200, "{first}\n{}", agent.log());
    assert_eq!(first["AccountId"], "111122223333");
    let (status, body) = agent.ask("127.0.0.11", &token);
    assert_eq!(
        (status, body["code"].as_str()),
        (403, Some("AccessDenied")),
        "{body}"
    );
    let (status, body) = agent.ask("127.0.0.12", &token_of(&cluster, "picker-2"));
    assert_eq!(status, 400, "{body}");
    assert_eq!(service.calls(), 1);
    // Another token of the pod finds the entry: the agent has the keys of the API server.
    agent.wait("the keys are read", || {
        let before = service.calls();
        agent.ask("127.0.0.10", &token_of(&cluster, "picker-0")).0 == 200
            && service.calls() == before
    });
    // One that the API server did not sign costs nothing.
    let before = service.calls();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    assert_eq!(agent.ask("127.0.0.10", &forged).0, 400);
    assert_eq!(service.calls(), before);

    let port = agent.probes.to_string();
    let top = countersign(
        &["agent", "top", "--probe-port", &port, "--interval", "1"],
        &Default::default(),
    );
    let shown = String::from_utf8(top.stdout).unwrap();
    assert!(
        shown.contains("orchard/picker-0") && shown.contains("a-picker"),
        "{shown}"
    );

    // The role of the association changes: other credentials within 35 s. It is deleted: 404 within 35 s.
    let key = agent.ask("127.0.0.10", &token).1["AccessKeyId"].clone();
    std::thread::sleep(Duration::from_secs(31));
    assert_eq!(
        agent.ask("127.0.0.10", &token).1["AccessKeyId"],
        key,
        "nothing changed"
    );
    let changed = Instant::now();
    service.state.lock().unwrap().modified = Some(1_700_000_001.5);
    agent.wait("a changed association counts", || {
        agent.ask("127.0.0.10", &token).1["AccessKeyId"] != key
    });
    assert!(
        changed.elapsed() < Duration::from_secs(35),
        "{:?}",
        changed.elapsed()
    );
    let deleted = Instant::now();
    service.state.lock().unwrap().modified = None;
    agent.wait("a deleted association counts", || {
        agent.ask("127.0.0.10", &token).0 == 404
    });
    assert!(
        deleted.elapsed() < Duration::from_secs(35),
        "{:?}",
        deleted.elapsed()
    );
    service.state.lock().unwrap().modified = Some(1_700_000_002.0);
    agent.wait("an association that is made again counts", || {
        agent.ask("127.0.0.10", &token).0 == 200
    });

    // The pod is deleted: its token, valid for an hour, gets nothing.
    kubectl(
        &cluster,
        &[
            "delete",
            "pod",
            "picker-0",
            "-n",
            "orchard",
            "--force",
            "--grace-period=0",
        ],
    );
    agent.wait("a deleted pod gets nothing", || {
        agent.ask("127.0.0.10", &token).0 == 400
    });
    let requests = service.state.lock().unwrap().requests.clone();
    let described = requests
        .iter()
        .filter(|(line, _)| line.starts_with("GET /clusters/"));
    for (line, authorization) in described {
        assert!(
            authorization.contains("/eu-west-1/eks/aws4_request"),
            "{line} {authorization}"
        );
    }
    // No token and no secret at any level, decisions included.
    let log = agent.log();
    assert!(log.contains("\"outcome\":\"misuse\"") && log.contains("\"outcome\":\"issued\""));
    let own_signature = own.rsplit_once('.').unwrap().1;
    for secret in [
        signature,
        own_signature,
        "very/secret",
        "very/session",
        "node/secret",
    ] {
        assert!(!log.contains(secret), "{secret}");
    }
}

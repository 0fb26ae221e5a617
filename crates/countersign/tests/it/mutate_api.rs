//! A Kubernetes API with service accounts, a ConfigMap and pods, whose watches may lag: for tests and benchmarks of the admission webhook.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub const ROLE: &str = "arn:aws:iam::111122223333:role/orchard-reader";

/// The API server of a test.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    address: String,
    /// How long after a change its event is sent.
    lag: Duration,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By path of the list, then by `namespace/name`.
    objects: BTreeMap<&'static str, BTreeMap<String, Value>>,
    /// Every change: when, of which list, and its line.
    events: Vec<(Instant, &'static str, u64, String)>,
    written: VecDeque<(String, Value)>,
    reads: usize,
}

const ACCOUNTS: &str = "/api/v1/serviceaccounts";
const CONFIG_MAPS: &str = "/api/v1/namespaces/eks/configmaps";
const PODS: &str = "/api/v1/pods";
const AWS_AUTH: &str = "/api/v1/namespaces/kube-system/configmaps";

impl Api {
    pub fn start(lag: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Self(Arc::new(Shared {
            state: Mutex::new(State {
                version: 100,
                ..State::default()
            }),
            changed: Condvar::new(),
            address: listener.local_addr().unwrap().to_string(),
            lag,
        }));
        let serving = api.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let api = serving.clone();
                std::thread::spawn(move || {
                    // A caller that goes away ends its thread.
                    let _ = api.serve(stream.unwrap());
                });
            }
        });
        api
    }

    pub fn kubeconfig(&self, dir: &Path) -> String {
        let path = dir.join("kubeconfig.yaml");
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {{server: \"http://{}\"}}\nusers:\n- name: u\n  user: {{}}\n\
             contexts:\n- name: x\n  context: {{cluster: c, user: u}}\ncurrent-context: x\n",
            self.0.address
        );
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn change(&self, list: &'static str, key: &str, object: Option<Value>) {
        let mut state = self.0.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        let objects = state.objects.entry(list).or_default();
        let (kind, object) = match object {
            Some(mut object) => {
                object["metadata"]["resourceVersion"] = json!(version.to_string());
                let kind = match objects.insert(key.to_owned(), object.clone()) {
                    Some(_) => "MODIFIED",
                    None => "ADDED",
                };
                (kind, object)
            }
            None => {
                let mut object = objects.remove(key).unwrap();
                object["metadata"]["resourceVersion"] = json!(version.to_string());
                ("DELETED", object)
            }
        };
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        state.events.push((Instant::now(), list, version, line));
        self.0.changed.notify_all();
    }

    pub fn account(&self, namespace: &str, name: &str, role: Option<&str>) {
        let annotations = role.map(|role| json!({"eks.amazonaws.com/role-arn": role}));
        self.annotated(namespace, name, json!(annotations));
    }

    /// An account with these annotations.
    pub fn annotated(&self, namespace: &str, name: &str, annotations: Value) {
        let object = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        });
        self.change(ACCOUNTS, &format!("{namespace}/{name}"), Some(object));
    }

    /// The ConfigMap with this text, or none.
    pub fn role_map(&self, text: Option<&str>) {
        let object = text.map(|text| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "pod-identity-webhook", "namespace": "eks"},
                "data": {"config": text},
            })
        });
        self.change(CONFIG_MAPS, "eks/pod-identity-webhook", object);
    }

    pub fn pod(&self, name: &str, object: Option<Value>) {
        self.change(PODS, name, object);
    }

    /// What was written, oldest first.
    pub fn written(&self) -> Option<(String, Value)> {
        self.0.state.lock().unwrap().written.pop_front()
    }

    /// How often single accounts were read.
    pub fn reads(&self) -> usize {
        self.0.state.lock().unwrap().reads
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut out = stream;
        loop {
            let mut head = String::new();
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let line = line.trim().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(text) = line.strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let mut words = head.split(' ');
            let (method, uri) = (words.next().unwrap(), words.next().unwrap());
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            if query.contains("watch=true") {
                return self.watch(path, query, &mut out);
            }
            let (status, answer) = self.answer(method, path, &body);
            let answer = answer.to_string();
            write!(
                out,
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
                answer.len()
            )?;
        }
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let mut state = self.0.state.lock().unwrap();
        if method != "GET" {
            let body = serde_json::from_slice(body).unwrap_or(Value::Null);
            state.written.push_back((format!("{method} {path}"), body));
            return (
                201,
                json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {}}),
            );
        }
        if let Some(list) = [ACCOUNTS, CONFIG_MAPS, PODS, AWS_AUTH]
            .into_iter()
            .find(|l| *l == path)
        {
            let items: Vec<Value> = state
                .objects
                .get(list)
                .map(|objects| objects.values().cloned().collect())
                .unwrap_or_default();
            let version = state.version.to_string();
            return (
                200,
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
            );
        }
        let parts: Vec<&str> = path.split('/').collect();
        if let [
            "",
            "api",
            "v1",
            "namespaces",
            namespace,
            "serviceaccounts",
            name,
        ] = parts[..]
        {
            state.reads += 1;
            let found = state.objects.get(ACCOUNTS);
            if let Some(object) = found.and_then(|all| all.get(&format!("{namespace}/{name}"))) {
                return (200, object.clone());
            }
        }
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": "no", "code": 404});
        (404, status)
    }

    fn watch(&self, path: &str, query: &str, out: &mut TcpStream) -> std::io::Result<()> {
        let after = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion="))
            .and_then(|version| version.parse::<u64>().ok())
            .unwrap_or(0);
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )?;
        out.flush()?;
        let mut next = 0;
        loop {
            let due: Vec<String> = {
                let state = self.0.state.lock().unwrap();
                let mut due = Vec::new();
                while let Some((at, list, version, line)) = state.events.get(next) {
                    if at.elapsed() < self.0.lag {
                        break;
                    }
                    next += 1;
                    if *list == path && *version > after {
                        due.push(line.clone());
                    }
                }
                if due.is_empty() {
                    let waited = self
                        .0
                        .changed
                        .wait_timeout(state, Duration::from_millis(20))
                        .unwrap();
                    drop(waited);
                }
                due
            };
            for line in due {
                write!(out, "{:x}\r\n{line}\r\n", line.len())?;
            }
            out.flush()?;
        }
    }
}

/// A pod of an account.
pub fn pod(name: &str, account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "serviceAccountName": account, "futureField": {"kept": true},
            "containers": [{"name": "app", "image": "x", "futureField": 1}],
        },
    })
}

/// The review that creates a pod.
pub fn review(namespace: &str, pod: &Value) -> Vec<u8> {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace, "operation": "CREATE", "userInfo": {"username": "ana"},
            "object": pod, "oldObject": null, "dryRun": false,
        },
    })
    .to_string()
    .into_bytes()
}

//! Access entries kept as RBAC objects, against an API server that stores what it is sent.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::api_server::{ApiServer, Call, Watch};
use common::at;
use countersign_access::{AccessScope, CompiledPolicies, EntryType};
use countersign_sources::kubernetes::{
    OwnedEntry, Projection, ProjectionOptions, ProjectionState, ProjectionWriter,
};
use serde_json::{Value, json};
use tokio::sync::watch;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// What the API server holds, by path.
#[derive(Default)]
struct Cluster {
    objects: BTreeMap<String, Value>,
    namespaces: Vec<String>,
    watch: Option<Watch>,
    writes: Vec<String>,
    /// Names of objects that may not be made.
    forbidden: Vec<String>,
    /// Changes to refuse because somebody else was first.
    conflicts: usize,
    version: u64,
}

type Shared = Arc<Mutex<Cluster>>;

impl Cluster {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, call: Call) {
        let line = call.line.clone();
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/api/v1/namespaces" {
            if query.contains("watch=true") {
                self.watch = Some(call.watch());
                return;
            }
            let items: Vec<Value> = self.namespaces.iter().map(|name| namespace(name)).collect();
            return call.answer(200, &json!({"kind": "NamespaceList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}));
        }
        let plurals = ["clusterroles", "clusterrolebindings", "rolebindings"];
        let plural = path.rsplit('/').next().unwrap();
        let path = path.replace("%3A", ":");
        if method != "GET" {
            self.writes
                .push(format!("{method} {}", path.trim_start_matches(RBAC)));
        }
        let name = call.body["metadata"]["name"].as_str().unwrap_or_default();
        if method == "POST" && self.forbidden.iter().any(|forbidden| forbidden == name) {
            return call.refuse(403, "Forbidden");
        }
        if ["PATCH", "DELETE"].contains(&method) && self.conflicts > 0 {
            self.conflicts -= 1;
            return call.refuse(409, "Conflict");
        }
        match method {
            "GET" if plurals.contains(&plural) => {
                assert!(
                    query.contains("labelSelector=app.kubernetes.io%2Fmanaged-by%3Dcountersign"),
                    "{query}"
                );
                let of_kind = |path: &&String| path.rsplit('/').nth(1) == Some(plural);
                let ours = |object: &&Value| {
                    object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "countersign"
                };
                let paths = self.objects.keys().filter(of_kind);
                let items: Vec<&Value> =
                    paths.map(|path| &self.objects[path]).filter(ours).collect();
                call.answer(
                    200,
                    &json!({"metadata": {"resourceVersion": "1"}, "items": items}),
                );
            }
            "GET" => match self.objects.get(&path) {
                Some(object) => call.answer(200, &object.clone()),
                None => call.refuse(404, "NotFound"),
            },
            "POST" => {
                assert!(query.contains("fieldManager=countersign"));
                let path = format!("{path}/{}", call.body["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) {
                    return call.refuse(409, "AlreadyExists");
                }
                let stored = self.put(&path, call.body.clone());
                call.answer(201, &stored);
            }
            "PATCH" => {
                assert!(query.contains("force=true") && query.contains("fieldManager=countersign"));
                let there = &self.objects[&path]["metadata"]["resourceVersion"];
                assert_eq!(*there, call.body["metadata"]["resourceVersion"]);
                let stored = self.put(&path, call.body.clone());
                call.answer(200, &stored);
            }
            "DELETE" => {
                let there = &self.objects[&path]["metadata"]["resourceVersion"];
                assert_eq!(*there, call.body["preconditions"]["resourceVersion"]);
                self.objects.remove(&path);
                call.answer(200, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}));
            }
            other => panic!("{other}"),
        }
    }
}

fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name, "resourceVersion": "2"}})
}

struct Running {
    cluster: Shared,
    wanted: watch::Sender<Option<Arc<Projection>>>,
    states: watch::Receiver<ProjectionState>,
}

async fn start(cluster: Cluster) -> Running {
    let mut server = ApiServer::start().await;
    let pause = Duration::from_millis(20);
    let options = ProjectionOptions {
        retry_after: pause,
        look_again_after: pause,
    };
    let (writer, states) = ProjectionWriter::new(server.client(), options);
    let (wanted, projections) = watch::channel(None);
    tokio::spawn(writer.run(projections, || at(1)));
    let cluster = Arc::new(Mutex::new(cluster));
    let answering = Arc::clone(&cluster);
    tokio::spawn(async move {
        loop {
            let call = server.next().await;
            answering.lock().unwrap().answer(call);
        }
    });
    Running {
        cluster,
        wanted,
        states,
    }
}

impl Running {
    fn send(&self, entries: &[(&str, &[(&str, AccessScope)])]) {
        let entries = entries
            .iter()
            .map(|(uuid, associations)| OwnedEntry {
                uuid: (*uuid).into(),
                principal_arn: "arn:aws:iam::111122223333:role/Dev".into(),
                entry_type: EntryType::Standard,
                associations: associations
                    .iter()
                    .map(|(name, scope)| {
                        let arn = format!("arn:aws:eks::aws:cluster-access-policy/{name}");
                        (arn.into(), scope.clone())
                    })
                    .collect(),
            })
            .collect();
        self.wanted.send_replace(Some(Arc::new(Projection {
            entries,
            policies: Arc::new(CompiledPolicies::builtin().clone()),
            aggregated: None,
        })));
    }

    fn paths(&self) -> Vec<String> {
        let cluster = self.cluster.lock().unwrap();
        let paths = cluster.objects.keys();
        paths
            .map(|path| path.trim_start_matches(RBAC).to_owned())
            .collect()
    }

    fn subjects(&self, path: &str) -> usize {
        let cluster = self.cluster.lock().unwrap();
        let subjects = cluster.objects[&format!("{RBAC}{path}")]["subjects"].as_array();
        subjects.unwrap().len()
    }

    /// Waits until the cluster holds exactly these RBAC objects.
    async fn holds(&self, expected: &[&str]) {
        let mut held = Vec::new();
        for _ in 0..500 {
            held = self.paths();
            if held == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{held:#?}");
    }

    async fn state(&mut self, wanted: impl FnMut(&ProjectionState) -> bool) -> ProjectionState {
        let waiting = self.states.wait_for(wanted);
        let state = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        state.unwrap().unwrap().clone()
    }
}

fn inside(patterns: &[&str]) -> AccessScope {
    AccessScope::Namespace(patterns.iter().map(|pattern| (*pattern).into()).collect())
}

const VIEW: &str = "AmazonEKSViewPolicy";
const EDIT: &str = "AmazonEKSEditPolicy";

#[tokio::test]
async fn objects_follow_entries_and_namespaces_and_what_others_change_is_put_right() {
    let cluster = Cluster {
        namespaces: vec!["dev".into(), "prod".into()],
        ..Cluster::default()
    };
    let mut running = start(cluster).await;
    // Nothing is known yet, and nothing done.
    running.holds(&[]).await;
    running.send(&[(
        "e1",
        &[(VIEW, inside(&["dev*"])), (EDIT, AccessScope::Cluster)],
    )]);
    let edit = "/clusterrolebindings/countersign:entry:e1:AmazonEKSEditPolicy";
    let roles = [
        "/clusterroles/countersign:policy:AmazonEKSEditPolicy",
        "/clusterroles/countersign:policy:AmazonEKSViewPolicy",
    ];
    let dev = "/namespaces/dev/rolebindings/countersign:entry:e1:AmazonEKSViewPolicy";
    let dev_a = "/namespaces/dev-a/rolebindings/countersign:entry:e1:AmazonEKSViewPolicy";
    running.holds(&[edit, roles[0], roles[1], dev]).await;
    let state = running.state(|state| state.synced_at.is_some()).await;
    assert_eq!((state.objects, state.problem), (4, None));

    // A namespace that a pattern reaches.
    let watch = running.cluster.lock().unwrap().watch.take().unwrap();
    watch.send("ADDED", &namespace("dev-a"));
    running.holds(&[edit, roles[0], roles[1], dev_a, dev]).await;

    // Somebody adds a subject; and nothing is written when nothing differs.
    let writes = {
        let mut cluster = running.cluster.lock().unwrap();
        let path = format!("{RBAC}{edit}");
        let mut changed = cluster.objects[&path].clone();
        changed["subjects"].as_array_mut().unwrap().push(
            json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}),
        );
        cluster.put(&path, changed);
        cluster.writes.len()
    };
    for _ in 0..500 {
        if running.subjects(edit) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let written = running.cluster.lock().unwrap().writes[writes..].to_vec();
    assert_eq!(written, [format!("PATCH {edit}")]);

    running.send(&[("e1", &[(VIEW, inside(&["prod"]))])]);
    let prod = "/namespaces/prod/rolebindings/countersign:entry:e1:AmazonEKSViewPolicy";
    running.holds(&[roles[1], prod]).await;
    running.send(&[]);
    running.holds(&[]).await;
}

#[tokio::test]
async fn objects_of_others_are_left_alone_and_never_bound() {
    let mut cluster = Cluster::default();
    let foreign = format!("{RBAC}/clusterroles/countersign:policy:{VIEW}");
    let role = json!({"kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {"name": format!("countersign:policy:{VIEW}")},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let before = cluster.put(&foreign, role);
    let mut running = start(cluster).await;
    running.send(&[(
        "e1",
        &[(VIEW, AccessScope::Cluster), (EDIT, AccessScope::Cluster)],
    )]);
    running
        .holds(&[
            "/clusterrolebindings/countersign:entry:e1:AmazonEKSEditPolicy",
            "/clusterroles/countersign:policy:AmazonEKSEditPolicy",
            "/clusterroles/countersign:policy:AmazonEKSViewPolicy",
        ])
        .await;
    let state = running.state(|state| !state.foreign.is_empty()).await;
    assert_eq!(
        state.foreign,
        ["ClusterRole countersign:policy:AmazonEKSViewPolicy"]
    );
    assert_eq!(running.cluster.lock().unwrap().objects[&foreign], before);
}

#[tokio::test]
async fn a_role_that_is_refused_is_not_bound_and_tried_again() {
    let cluster = Cluster {
        forbidden: vec![format!("countersign:policy:{VIEW}")],
        ..Cluster::default()
    };
    let mut running = start(cluster).await;
    running.send(&[(
        "e1",
        &[(VIEW, AccessScope::Cluster), (EDIT, AccessScope::Cluster)],
    )]);
    let edit = [
        "/clusterrolebindings/countersign:entry:e1:AmazonEKSEditPolicy",
        "/clusterroles/countersign:policy:AmazonEKSEditPolicy",
    ];
    running.holds(&edit).await;
    let state = running.state(|state| state.problem.is_some()).await;
    assert_eq!(
        state.problem.unwrap().message,
        "ClusterRole countersign:policy:AmazonEKSViewPolicy: the API server answers 403 Forbidden to a create"
    );
    assert_eq!(state.synced_at, None);
    running.cluster.lock().unwrap().forbidden.clear();
    running.state(|state| state.synced_at.is_some()).await;
    running
        .holds(&[
            edit[0],
            "/clusterrolebindings/countersign:entry:e1:AmazonEKSViewPolicy",
            edit[1],
            "/clusterroles/countersign:policy:AmazonEKSViewPolicy",
        ])
        .await;
}

#[tokio::test]
async fn what_another_writer_does_meanwhile_is_no_failure() {
    let mut running = start(Cluster::default()).await;
    running.send(&[("e1", &[(VIEW, AccessScope::Cluster)])]);
    running
        .holds(&[
            "/clusterrolebindings/countersign:entry:e1:AmazonEKSViewPolicy",
            "/clusterroles/countersign:policy:AmazonEKSViewPolicy",
        ])
        .await;
    running.state(|state| state.synced_at.is_some()).await;
    running.cluster.lock().unwrap().conflicts = 3;
    running.send(&[]);
    running.holds(&[]).await;
    let state = running.state(|state| state.objects == 0).await;
    assert_eq!((state.failures, state.problem), (0, None));
    assert_eq!(running.cluster.lock().unwrap().conflicts, 0);
}

//! Roles and bindings from manifests, dumps, and a live cluster, call by call.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "tests fail by panicking; helpers are shared"
)]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::api_server::{ApiServer, Call, Watch};
use common::at;
use countersign_rbac::{Action, Index, Request, ResourceAction, User};
use countersign_sources::rbac::{
    LiveRbac, Manifests, RbacWatch, ReadPathError, list, read_aws_auth,
};
use serde_json::{Value, json};

const SHOP: &str = "\
# A comment, and an empty document.
---
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules:
- apiGroups: ['']
  resources: [pods]
  verbs: [get, list]
---
apiVersion: v1
kind: List
items:
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata:
    name: readers
    namespace: shop
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
  subjects:
  - {kind: User, name: no}
  - {kind: User, name: 012}
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: x}
  rules: these are no rules
- apiVersion: v1
  kind: Namespace
  metadata: {name: shop}
--- # a marker with something behind it
kind: RoleBindingList
apiVersion: rbac.authorization.k8s.io/v1
items:
- metadata: {name: pets}
  roleRef: {kind: ClusterRole, name: view}
  subjects: [{kind: Group, name: pets}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wg]}
";

fn read(text: &str) -> Manifests {
    let mut manifests = Manifests::default();
    manifests.read_bytes("shop.yaml", text.as_bytes());
    manifests
}

fn may(
    index: &Index,
    user: &str,
    groups: &[&str],
    verb: &str,
    resource: &str,
    namespace: &str,
) -> bool {
    let request = Request {
        user: User::new(user, groups),
        action: Action::Resource(ResourceAction {
            verb,
            resource,
            namespace,
            ..ResourceAction::default()
        }),
    };
    index.authorize(&request).is_allowed()
}

#[test]
fn manifests_are_read_with_the_line_of_each_object() {
    let manifests = read(SHOP);
    assert_eq!(manifests.problems, []);
    let origins: Vec<String> = manifests
        .objects
        .iter()
        .map(|object| match object {
            countersign_rbac::Object::Role(role) => role.origin.as_deref().unwrap().to_owned(),
            countersign_rbac::Object::Binding(binding) => {
                binding.origin.as_deref().unwrap().to_owned()
            }
        })
        .collect();
    assert_eq!(origins, ["shop.yaml:4", "shop.yaml:15", "shop.yaml:35"]);
    assert_eq!(manifests.ignored, 3);
    assert!(manifests.namespaces.contains("shop"));
    assert_eq!(manifests.resources[0].name, "widgets");
    assert!(!manifests.resources[0].namespaced);
    let index = manifests.index(true, "default");
    // Names that YAML would take for a boolean and a number.
    assert!(may(&index, "no", &[], "get", "pods", "shop"));
    assert!(may(&index, "012", &[], "list", "pods", "shop"));
    assert!(!may(&index, "10", &[], "list", "pods", "shop"));
    // The default roles are there, and an object without a namespace is where `kubectl apply` would put it.
    assert!(may(&index, "x", &["pets"], "get", "pods", "default"));
    assert!(!may(&index, "x", &["pets"], "get", "pods", "shop"));
    assert!(!may(
        &read(SHOP).index(false, "default"),
        "x",
        &["pets"],
        "get",
        "pods",
        "default"
    ));
}

#[test]
fn problems_have_file_and_line_and_hide_nothing_else() {
    const ROLE: &str =
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\n";
    for (text, line, message) in [
        ("a: [b\n", 1, ""),
        ("---\nkind: Role\n", 2, "not an object"),
        (
            "kind: Role\n",
            1,
            "not an object with `apiVersion` and `kind`",
        ),
        ("- 1\n", 1, "not an object"),
        (
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Rule\nmetadata: {name: x}\n",
            1,
            "unknown kind `Rule`",
        ),
        (
            "apiVersion: rbac.authorization.k8s.io/v9\nkind: Role\nmetadata: {name: x}\n",
            1,
            "unknown version",
        ),
        (
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n",
            1,
            "`metadata.name` is missing",
        ),
        (
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: x}\nrules: 7\n",
            1,
            "not a readable object",
        ),
        ("kind: Role\nkind: Role\n", 2, "the key `kind` stands twice"),
        ("a: &a {b: c}\nd:\n  <<: *a\n", 3, "merge keys"),
        ("a: *b\n", 1, ""),
        ("? [a]\n: b\n", 1, "a key that is no text"),
    ] {
        let manifests = read(&format!("{text}---\n{ROLE}"));
        let found = &manifests.problems;
        let about = found
            .iter()
            .find(|problem| problem.message.contains(message));
        let about = about.unwrap_or_else(|| panic!("{text:?}: {found:?}"));
        assert_eq!(
            (about.file.as_str(), about.line),
            ("shop.yaml", Some(line)),
            "{text:?}"
        );
        assert_eq!(
            manifests.objects.len(),
            1,
            "{text:?}: the other document is read"
        );
        let index = manifests.index(false, "default");
        assert!(
            index.unread(None).count() > 0,
            "{text:?}: a no is incomplete"
        );
    }
    for text in [
        "{\"kind\": ",
        "{\"apiVersion\":\"rbac.authorization.k8s.io/v1\",\"kind\":\"Role\"}",
        "{} x",
    ] {
        assert_eq!(read(text).problems.len(), 1, "{text}");
    }
}

#[test]
fn aliases_cannot_make_a_file_grow_without_end() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        let items = vec![before; 10].join(",");
        bomb += &format!("a{level}: &a{level} [{items}]\n");
    }
    let manifests = read(&bomb);
    assert!(
        manifests.problems[0].message.contains("values"),
        "{:?}",
        manifests.problems
    );
    let mut deep = "a0: &a0 x\n".to_owned();
    for level in 1..400 {
        deep += &format!("a{level}: &a{level} [[[[*a{}]]]]\n", level - 1);
    }
    let manifests = read(&deep);
    assert!(
        manifests.problems[0].message.contains("too deep"),
        "{:?}",
        manifests.problems
    );
    let nested = "[".repeat(100_000);
    assert_eq!(read(&nested).problems.len(), 1);
}

#[test]
fn files_directories_and_dumps_are_read_alike() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::write(root.join("deep/er/shop.yml"), SHOP).unwrap();
    fs::write(root.join(".hidden.yaml"), "a: [").unwrap();
    fs::write(root.join("notes.txt"), "a: [").unwrap();
    let dump =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../rbac/tests/data/mixed-1000.objects.json.gz");
    fs::copy(&dump, root.join("dump.json.gz")).unwrap();
    let mut manifests = Manifests::default();
    manifests.read_path(root).unwrap();
    assert_eq!(manifests.problems, []);
    assert_eq!(manifests.objects.len(), 1335 + 3);

    let whole = fs::read(&dump).unwrap();
    for cut in [3, 12, whole.len() / 2, whole.len() - 1] {
        fs::write(root.join("dump.json.gz"), &whole[..cut]).unwrap();
        let error = Manifests::default().read_path(root).unwrap_err();
        assert!(
            matches!(error, ReadPathError::Gzip { .. }),
            "{cut}: {error}"
        );
    }
    let missing = Manifests::default()
        .read_path(&root.join("none"))
        .unwrap_err();
    assert!(matches!(missing, ReadPathError::Io { .. }));
}

const KINDS: [(&str, &str); 4] = [
    ("ClusterRole", "clusterroles"),
    ("ClusterRoleBinding", "clusterrolebindings"),
    ("Role", "roles"),
    ("RoleBinding", "rolebindings"),
];

fn path(resource: &str) -> String {
    format!("/apis/rbac.authorization.k8s.io/v1/{resource}")
}

fn page(version: &str, items: &[Value]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "XList",
        "metadata": {"resourceVersion": version}, "items": items,
    })
}

fn role(version: &str, verbs: &[&str]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "reader", "resourceVersion": version},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}],
    })
}

fn binding(version: &str, name: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "User", "name": name}],
    })
}

/// What a call is about: its path without the query.
fn asked(call: &Call) -> String {
    let path = call.line.strip_prefix("GET ").unwrap();
    path.split('?').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_command_lists_each_kind_once_and_falls_back_to_its_namespace() {
    let mut server = ApiServer::start().await;
    let client = server.client();
    let listing = tokio::spawn(async move { list(&client, Some("shop")).await });
    for _ in 0..6 {
        let call = server.next().await;
        match asked(&call).as_str() {
            "/api/v1/namespaces" => call.refuse(403, "Forbidden"),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles" => {
                call.answer(200, &page("5", &[role("4", &["get"])]));
            }
            "/apis/rbac.authorization.k8s.io/v1/rolebindings" => call.refuse(403, "Forbidden"),
            "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings" => {
                call.answer(200, &page("5", &[binding("3", "dana")]));
            }
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings" => {
                call.refuse(403, "Forbidden")
            }
            _ => call.answer(200, &page("5", &[])),
        }
    }
    let live = listing.await.unwrap().unwrap();
    assert_eq!(live.namespaces, None);
    assert_eq!(live.unread.len(), 1, "{:?}", live.unread);
    assert!(
        live.unread[0]
            .reason
            .contains("clusterrolebindings could not be listed")
    );
    let index = live.index();
    assert!(may(&index, "dana", &[], "get", "pods", "shop"));
    let origin = index.binding("shop", "dana").unwrap().origin.clone();
    assert_eq!(origin.as_deref(), Some("resourceVersion 3"));
}

#[tokio::test]
async fn a_cluster_that_refuses_everything_is_an_error_and_no_empty_answer() {
    let mut server = ApiServer::start().await;
    let client = server.client();
    let listing = tokio::spawn(async move { list(&client, None).await });
    for _ in 0..5 {
        server.next().await.refuse(401, "Unauthorized");
    }
    assert!(listing.await.unwrap().is_err());
    let client = server.client();
    let reading = tokio::spawn(async move { read_aws_auth(&client).await });
    server.next().await.refuse(404, "NotFound");
    assert!(
        reading.await.unwrap().unwrap().is_empty(),
        "no ConfigMap maps nobody"
    );
}

/// Answers the four lists; gives the four watches.
async fn start(server: &mut ApiServer, refuse: &str) -> Vec<(String, Watch)> {
    let mut watches = Vec::new();
    let expected = if refuse.is_empty() { 8 } else { 7 };
    for _ in 0..expected {
        let call = server.next().await;
        let asked = asked(&call);
        if asked == path(refuse) {
            call.refuse(403, "Forbidden");
        } else if call.line.contains("watch=true") {
            watches.push((asked, call.watch()));
        } else if asked == path("clusterroles") {
            call.answer(200, &page("10", &[role("9", &["get"])]));
        } else if asked == path("rolebindings") {
            call.answer(200, &page("10", &[binding("8", "dana")]));
        } else {
            call.answer(200, &page("10", &[]));
        }
    }
    watches
}

async fn until(live: &LiveRbac, what: impl Fn(&LiveRbac) -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !what(live) {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{:?}",
            live.health()
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_watch_keeps_the_index_fresh_and_a_no_incomplete_until_all_is_listed() {
    let mut server = ApiServer::start().await;
    let live = LiveRbac::new();
    assert!(!live.health().is_synced());
    assert_eq!(live.index().unread(None).count(), 4);
    let watch = RbacWatch::new(&live).retry_after(Duration::from_millis(1));
    let task = tokio::spawn(watch.run(server.client(), || at(1)));
    let watches = start(&mut server, "").await;
    until(&live, |live| live.health().is_synced()).await;
    assert_eq!(live.index().unread(None).count(), 0);
    assert!(may(&live.index(), "dana", &[], "get", "pods", "shop"));
    let before = live.index();

    let of = |resource: &str| {
        let wanted = path(resource);
        &watches.iter().find(|(path, _)| *path == wanted).unwrap().1
    };
    of("clusterroles").send("MODIFIED", &role("11", &["list"]));
    until(&live, |live| {
        may(&live.index(), "dana", &[], "list", "pods", "shop")
    })
    .await;
    assert!(!may(&live.index(), "dana", &[], "get", "pods", "shop"));
    assert!(
        may(&before, "dana", &[], "get", "pods", "shop"),
        "a version that was taken stays"
    );

    of("rolebindings").send("ADDED", &binding("12", "erik"));
    until(&live, |live| {
        may(&live.index(), "erik", &[], "list", "pods", "shop")
    })
    .await;
    of("rolebindings").send("DELETED", &binding("13", "dana"));
    until(&live, |live| {
        !may(&live.index(), "dana", &[], "list", "pods", "shop")
    })
    .await;
    let health = live.health();
    let bindings = health
        .kinds
        .iter()
        .find(|kind| kind.resource == "rolebindings")
        .unwrap();
    assert_eq!(
        (bindings.version.as_str(), bindings.failures_total),
        ("13", 0)
    );

    // A version that cannot be read does not leave the earlier one granting.
    let mut broken = binding("14", "erik");
    broken["subjects"] = json!("nobody");
    of("rolebindings").send("MODIFIED", &broken);
    until(&live, |live| {
        !may(&live.index(), "erik", &[], "list", "pods", "shop")
    })
    .await;
    assert!(live.index().unread(None).count() > 0);
    task.abort();
}

#[tokio::test]
async fn a_watch_of_cluster_roles_asks_for_nothing_else() {
    let mut server = ApiServer::start().await;
    let live = LiveRbac::new();
    let watch = RbacWatch::of_cluster_roles(&live).retry_after(Duration::from_millis(1));
    let task = tokio::spawn(watch.run(server.client(), || at(1)));
    let listed = server.next().await;
    assert_eq!(asked(&listed), path("clusterroles"));
    listed.answer(200, &page("10", &[role("9", &["get"])]));
    let watched = server.next().await;
    assert_eq!(asked(&watched), path("clusterroles"));
    assert!(watched.line.contains("watch=true"), "{}", watched.line);
    until(&live, |live| live.index().roles().len() == 1).await;
    let synced: Vec<&str> = live
        .health()
        .kinds
        .iter()
        .filter(|kind| kind.synced)
        .map(|kind| kind.resource)
        .collect();
    assert_eq!(synced, ["clusterroles"]);
    task.abort();
}

#[tokio::test]
async fn a_kind_that_may_not_be_listed_is_told_and_what_was_read_stays_through_failures() {
    let mut server = ApiServer::start().await;
    let live = LiveRbac::new();
    let watch = RbacWatch::new(&live).retry_after(Duration::from_millis(1));
    let task = tokio::spawn(watch.run(server.client(), || at(1)));
    let refused = path("roles");
    let mut watching = 0;
    // The refused kind is asked again and again, the others once.
    while watching < 3 {
        let call = server.next().await;
        let asked = asked(&call);
        if asked == refused {
            call.refuse(403, "Forbidden");
        } else if call.line.contains("watch=true") {
            watching += 1;
            call.hang_up();
        } else if asked == path("clusterroles") {
            call.answer(200, &page("10", &[role("9", &["get"])]));
        } else if asked == path("rolebindings") {
            call.answer(200, &page("10", &[binding("8", "dana")]));
        } else {
            call.answer(200, &page("10", &[]));
        }
    }
    until(&live, |live| {
        live.health()
            .kinds
            .iter()
            .filter(|kind| kind.failing.is_some())
            .count()
            >= 2
    })
    .await;
    let index = live.index();
    assert!(
        may(&index, "dana", &[], "get", "pods", "shop"),
        "the last good version decides"
    );
    let reasons: Vec<String> = index
        .unread(None)
        .map(|unread| unread.reason.to_string())
        .collect();
    assert_eq!(
        reasons,
        ["roles were not listed yet: the API server answers 403 Forbidden"]
    );
    assert!(!live.health().is_synced());
    assert_eq!(KINDS.len(), live.health().kinds.len());
    task.abort();
}

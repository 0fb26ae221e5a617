//! `IAMIdentityMapping` objects through the Kubernetes API, call by call.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::api_server::{ApiServer, Call};
use common::{at, mappings, source, username};
use countersign_mapping::BackendKind;
use countersign_sources::Mappings;
use countersign_sources::kubernetes::{CrdOptions, CrdWatch};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const BASE: &str = "/apis/iamauthenticator.k8s.aws/v1alpha1/iamidentitymappings";

fn list_line() -> String {
    format!("GET {BASE}?&limit=500")
}

fn watch_line(version: &str) -> String {
    format!(
        "GET {BASE}?&watch=true&timeoutSeconds=290&allowWatchBookmarks=true&resourceVersion={version}"
    )
}

fn status_line(name: &str) -> String {
    format!("PATCH {BASE}/{name}/status?&fieldManager=countersign.io%2Fmappings")
}

fn object(name: &str, version: &str, created: &str, spec: &Value) -> Value {
    json!({
        "kind": "IAMIdentityMapping", "apiVersion": "iamauthenticator.k8s.aws/v1alpha1",
        "metadata": {"name": name, "resourceVersion": version, "generation": 3, "creationTimestamp": created},
        "spec": spec,
    })
}

fn role(name: &str) -> Value {
    json!({"arn": format!("arn:aws:iam::444455556666:role/{name}"), "username": format!("user-of-{name}"), "groups": ["ops"]})
}

fn list(version: &str, items: &[Value]) -> Value {
    json!({"kind": "IAMIdentityMappingList", "apiVersion": "iamauthenticator.k8s.aws/v1alpha1", "metadata": {"resourceVersion": version}, "items": items})
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-02T03:04:06Z", "observedGeneration": 3,
    })
}

fn start(server: &ApiServer, mappings: &Arc<Mappings>) -> JoinHandle<()> {
    let pause = Duration::from_millis(1);
    let options = CrdOptions {
        retry_after: pause,
        look_again_after: pause,
    };
    tokio::spawn(CrdWatch::new(mappings, options).run(server.client(), || at(1)))
}

async fn version(mappings: &Mappings, version: &str) {
    while source(mappings, BackendKind::Crd).version != version {
        tokio::task::yield_now().await;
    }
}

/// Answers a patch of a status as the API server does, and returns the status.
fn accept(call: Call, object: &Value) -> Value {
    let status = call.body["status"].clone();
    let mut object = object.clone();
    object["status"] = status.clone();
    call.answer(200, &object);
    status
}

/// The next two calls, whichever comes first.
async fn both(server: &mut ApiServer, one: &str, other: &str) -> (Call, Call) {
    let mut calls = Vec::new();
    for _ in 0..2 {
        calls.push(server.next().await);
    }
    calls.sort_by_key(|call| call.line != one);
    let second = calls.pop().unwrap();
    let first = calls.pop().unwrap();
    assert_eq!((first.line.as_str(), second.line.as_str()), (one, other));
    (first, second)
}

const OLD: &str = "2026-01-01T00:00:00Z";
const NEW: &str = "2026-01-01T00:00:01Z";

#[tokio::test]
async fn objects_are_listed_put_in_force_and_told_so() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::Crd]);
    let task = start(&server, &mappings);
    let ops = object("ops", "5", OLD, &role("Ops"));
    server
        .expect(&list_line())
        .await
        .answer(200, &list("10", std::slice::from_ref(&ops)));
    let (watch, status) = both(&mut server, &watch_line("10"), &status_line("ops")).await;
    let watch = watch.watch();
    assert!(mappings.health().is_synced());
    assert!(username(&mappings, "Ops").is_some());
    let written = accept(status, &ops);
    assert_eq!(
        written,
        json!({
            "canonicalARN": "arn:aws:iam::444455556666:role/ops",
            "conditions": [
                condition("Ready", "True", "Mapped", "the mapping is in force"),
                condition("Conflict", "False", "Unique", "no older object maps the same principal"),
            ],
        })
    );
    // The echo of our own patch leads to no other.
    let mut echo = object("ops", "11", OLD, &role("Ops"));
    echo["status"] = written;
    watch.send("MODIFIED", &echo);
    version(&mappings, "11").await;

    let dev = object("dev", "12", NEW, &role("Dev"));
    watch.send("ADDED", &dev);
    accept(server.expect(&status_line("dev")).await, &dev);
    assert!(username(&mappings, "Dev").is_some());
    watch.send("DELETED", &echo);
    version(&mappings, "11").await;
    while username(&mappings, "Ops").is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.unexpected(), None);
    task.abort();
}

#[tokio::test]
async fn an_edit_of_the_spec_acts_at_once_and_a_forged_status_never() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::Crd]);
    let task = start(&server, &mappings);
    let mut forged = object("ops", "5", OLD, &role("Ops"));
    forged["status"] =
        json!({"canonicalARN": "arn:aws:iam::444455556666:role/intruder", "userID": "AROAX"});
    server
        .expect(&list_line())
        .await
        .answer(200, &list("10", std::slice::from_ref(&forged)));
    let (watch, status) = both(&mut server, &watch_line("10"), &status_line("ops")).await;
    let watch = watch.watch();
    assert_eq!(username(&mappings, "intruder"), None);
    assert!(username(&mappings, "Ops").is_some());
    assert_eq!(
        status.body["status"]["canonicalARN"],
        "arn:aws:iam::444455556666:role/ops"
    );
    accept(status, &forged);
    let edited = object("ops", "12", OLD, &role("Sec"));
    watch.send("MODIFIED", &edited);
    let status = server.expect(&status_line("ops")).await;
    assert_eq!(username(&mappings, "Ops"), None);
    assert!(username(&mappings, "Sec").is_some());
    accept(status, &edited);
    task.abort();
}

#[tokio::test]
async fn the_oldest_of_several_objects_for_one_principal_wins_and_the_others_say_so() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::Crd]);
    let task = start(&server, &mappings);
    let mut spec = role("Ops");
    spec["username"] = json!("newer");
    let newer = object("a-newer", "5", NEW, &spec);
    let older = object("b-older", "6", OLD, &role("OPS"));
    server
        .expect(&list_line())
        .await
        .answer(200, &list("10", &[newer.clone(), older.clone()]));
    let (watch, status) = both(&mut server, &watch_line("10"), &status_line("a-newer")).await;
    let watch = watch.watch();
    assert_eq!(username(&mappings, "Ops").as_deref(), Some("user-of-OPS"));
    let status = accept(status, &newer);
    let conditions = status["conditions"].as_array().unwrap();
    assert_eq!(
        (&conditions[0]["status"], &conditions[0]["reason"]),
        (&json!("False"), &json!("Conflict"))
    );
    assert_eq!(
        (&conditions[1]["type"], &conditions[1]["status"]),
        (&json!("Conflict"), &json!("True"))
    );
    assert!(
        conditions[1]["message"]
            .as_str()
            .unwrap()
            .contains("b-older")
    );
    accept(server.expect(&status_line("b-older")).await, &older);

    watch.send("DELETED", &older);
    let status = server.expect(&status_line("a-newer")).await;
    assert_eq!(username(&mappings, "Ops").as_deref(), Some("newer"));
    assert_eq!(status.body["status"]["conditions"][0]["status"], "True");
    task.abort();
}

#[tokio::test]
async fn an_object_that_cannot_match_anybody_says_why_and_spoils_no_other() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::Crd]);
    let task = start(&server, &mappings);
    let bad = object(
        "bad",
        "5",
        OLD,
        &json!({"arn": "nonsense", "username": "x"}),
    );
    let wrong = object("wrong", "6", OLD, &json!({"arn": 7, "username": ["x"]}));
    let good = object("good", "7", OLD, &role("Ops"));
    let objects = [bad.clone(), wrong.clone(), good.clone()];
    server
        .expect(&list_line())
        .await
        .answer(200, &list("10", &objects));
    let (watch, status) = both(&mut server, &watch_line("10"), &status_line("bad")).await;
    let _watch = watch.watch();
    assert!(username(&mappings, "Ops").is_some());
    let status = accept(status, &bad);
    assert_eq!(status["canonicalARN"], Value::Null);
    assert_eq!(status["conditions"][0]["reason"], "Invalid");
    accept(server.expect(&status_line("good")).await, &good);
    let status = accept(server.expect(&status_line("wrong")).await, &wrong);
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("the spec cannot be read"), "{message}");
    task.abort();
}

#[tokio::test]
async fn a_missing_crd_holds_nothing_up_and_is_found_when_it_comes() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::Crd, BackendKind::MountedFile]);
    mappings.set_entries(
        BackendKind::MountedFile,
        Default::default(),
        "static",
        at(0),
    );
    let task = start(&server, &mappings);
    for _ in 0..3 {
        server.expect(&list_line()).await.refuse(404, "NotFound");
    }
    let call = server.expect(&list_line()).await;
    assert!(mappings.health().is_synced());
    let health = source(&mappings, BackendKind::Crd);
    assert_eq!((health.failures_total, health.reloads_total), (0, 1));
    assert!(health.note.unwrap().contains("not installed"));
    let ops = object("ops", "5", OLD, &role("Ops"));
    call.answer(200, &list("10", std::slice::from_ref(&ops)));
    let (watch, status) = both(&mut server, &watch_line("10"), &status_line("ops")).await;
    accept(status, &ops);
    assert!(username(&mappings, "Ops").is_some());
    assert_eq!(source(&mappings, BackendKind::Crd).note, None);

    // The CRD is deleted, and all objects with it.
    let watch = watch.watch();
    watch.send("MODIFIED", &object("ops", "11", OLD, &role("Ops")));
    drop(watch);
    server
        .expect(&status_line("ops"))
        .await
        .refuse(404, "NotFound");
    server
        .expect(&watch_line("11"))
        .await
        .refuse(404, "NotFound");
    server.expect(&list_line()).await.refuse(404, "NotFound");
    assert_eq!(username(&mappings, "Ops"), None);
    task.abort();
}

#[tokio::test]
async fn a_schema_that_drops_our_conditions_is_written_to_once() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::Crd]);
    let task = start(&server, &mappings);
    let ops = object("ops", "5", OLD, &role("Ops"));
    server
        .expect(&list_line())
        .await
        .answer(200, &list("10", std::slice::from_ref(&ops)));
    let (watch, status) = both(&mut server, &watch_line("10"), &status_line("ops")).await;
    let watch = watch.watch();
    let mut pruned = object("ops", "11", OLD, &role("Ops"));
    pruned["status"] = json!({"canonicalARN": "arn:aws:iam::444455556666:role/ops"});
    status.answer(200, &pruned);
    watch.send("MODIFIED", &pruned);
    version(&mappings, "11").await;
    let dev = object("dev", "12", NEW, &role("Dev"));
    watch.send("ADDED", &dev);
    accept(server.expect(&status_line("dev")).await, &dev);
    task.abort();
}

#[tokio::test]
async fn a_status_that_cannot_be_written_is_tried_again_and_holds_nothing_up() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::Crd]);
    let task = start(&server, &mappings);
    let ops = object("ops", "5", OLD, &role("Ops"));
    server
        .expect(&list_line())
        .await
        .answer(200, &list("10", std::slice::from_ref(&ops)));
    let (watch, status) = both(&mut server, &watch_line("10"), &status_line("ops")).await;
    let _watch = watch.watch();
    status.refuse(403, "Forbidden");
    let status = server.expect(&status_line("ops")).await;
    assert!(username(&mappings, "Ops").is_some());
    accept(status, &ops);
    task.abort();
}

#[tokio::test]
async fn long_lists_are_read_page_by_page() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::Crd]);
    let task = start(&server, &mappings);
    let mut first = list("10", &[object("a", "5", OLD, &role("Ops"))]);
    first["metadata"]["continue"] = json!("token-1");
    server.expect(&list_line()).await.answer(200, &first);
    let second = list("10", &[object("b", "6", OLD, &role("Dev"))]);
    let line = format!("{}&continue=token-1", list_line());
    let call = server.expect(&line).await;
    assert!(!mappings.health().is_synced(), "half a list is no list");
    call.answer(200, &second);
    version(&mappings, "10").await;
    assert!(username(&mappings, "Ops").is_some() && username(&mappings, "Dev").is_some());
    task.abort();
}

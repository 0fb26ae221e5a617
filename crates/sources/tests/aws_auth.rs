//! `aws-auth` through the Kubernetes API, call by call.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::api_server::{ApiServer, Watch};
use common::{at, mappings, roles, source, username};
use countersign_mapping::BackendKind;
use countersign_sources::Mappings;
use countersign_sources::kubernetes::{AwsAuthOptions, AwsAuthWatch};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const LIST: &str = "GET /api/v1/namespaces/kube-system/configmaps?&fieldSelector=metadata.name%3Daws-auth&limit=500";
const EVENTS: &str = "POST /apis/events.k8s.io/v1/namespaces/kube-system/events?";
const BROKEN: &str = "- rolearn: x\n\tusername: y\n";

fn watch_line(version: &str) -> String {
    format!(
        "GET /api/v1/namespaces/kube-system/configmaps?&watch=true&timeoutSeconds=290&fieldSelector=metadata.name%3Daws-auth&allowWatchBookmarks=true&resourceVersion={version}"
    )
}

fn config_map(version: &str, data: &Value) -> Value {
    json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": "aws-auth", "namespace": "kube-system", "uid": "u-1", "resourceVersion": version},
        "data": data,
    })
}

fn list(version: &str, items: &[Value]) -> Value {
    json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items})
}

fn options(state_dir: Option<&Path>) -> AwsAuthOptions {
    AwsAuthOptions {
        state_dir: state_dir.map(Path::to_owned),
        instance: "node-1".to_owned(),
        retry_after: Duration::from_millis(1),
        ..AwsAuthOptions::new("demo")
    }
}

fn start(server: &ApiServer, mappings: &Arc<Mappings>, state_dir: Option<&Path>) -> JoinHandle<()> {
    let watch = AwsAuthWatch::new(mappings, options(state_dir), at(0));
    tokio::spawn(watch.run(server.client(), || at(1)))
}

/// Waits until a version is in force.
async fn version(mappings: &Mappings, version: &str) {
    while source(mappings, BackendKind::EksConfigMap).version != version {
        tokio::task::yield_now().await;
    }
}

/// Lists one object and begins the watch.
async fn list_and_watch(server: &mut ApiServer, data: &Value) -> Watch {
    let listed = list("10", &[config_map("9", data)]);
    server.expect(LIST).await.answer(200, &listed);
    server.expect(&watch_line("10")).await.watch()
}

#[tokio::test]
async fn lists_then_watches_from_there_and_follows_each_change() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::EksConfigMap]);
    let task = start(&server, &mappings, None);
    let call = server.expect(LIST).await;
    assert!(
        !mappings.health().is_synced(),
        "not synced before the first list"
    );
    call.answer(
        200,
        &list(
            "10",
            &[config_map("9", &json!({"mapRoles": roles(&["Ops"])}))],
        ),
    );
    let watch = server.expect(&watch_line("10")).await.watch();
    version(&mappings, "9").await;
    assert!(mappings.health().is_synced());
    assert!(username(&mappings, "Ops").is_some());

    watch.send(
        "MODIFIED",
        &config_map("12", &json!({"mapRoles": roles(&["Dev"])})),
    );
    version(&mappings, "12").await;
    assert_eq!(username(&mappings, "Ops"), None);
    assert!(username(&mappings, "Dev").is_some());

    watch.send("DELETED", &config_map("13", &json!({})));
    version(&mappings, "13").await;
    assert_eq!(username(&mappings, "Dev"), None);
    assert!(mappings.health().is_synced());

    watch.send(
        "ADDED",
        &config_map("14", &json!({"mapRoles": roles(&["Ops"])})),
    );
    version(&mappings, "14").await;
    assert!(username(&mappings, "Ops").is_some());
    assert_eq!(server.unexpected(), None);
    task.abort();
}

#[tokio::test]
async fn an_absent_configmap_is_synced_and_maps_nobody() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::EksConfigMap]);
    let task = start(&server, &mappings, None);
    server.expect(LIST).await.answer(200, &list("10", &[]));
    let _watch = server.expect(&watch_line("10")).await.watch();
    let health = source(&mappings, BackendKind::EksConfigMap);
    assert!(health.synced && health.note.is_some());
    assert_eq!(health.entries.roles, 0);
    task.abort();
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_from_the_last_version() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::EksConfigMap]);
    let task = start(&server, &mappings, None);
    let watch = list_and_watch(&mut server, &json!({"mapRoles": roles(&["Ops"])})).await;
    watch.send(
        "MODIFIED",
        &config_map("20", &json!({"mapRoles": roles(&["Dev"])})),
    );
    drop(watch);
    let watch = server.expect(&watch_line("20")).await.watch();
    watch.send(
        "BOOKMARK",
        &json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": "33"}}),
    );
    drop(watch);
    let _watch = server.expect(&watch_line("33")).await.watch();
    assert!(username(&mappings, "Dev").is_some());
    let health = source(&mappings, BackendKind::EksConfigMap);
    assert_eq!(health.failures_total, 0, "an end in order is no failure");
    task.abort();
}

#[tokio::test]
async fn failures_are_counted_waited_out_and_leave_the_rules_in_force() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::EksConfigMap]);
    let task = start(&server, &mappings, None);
    server.expect(LIST).await.refuse(500, "InternalError");
    server.expect(LIST).await.refuse(403, "Forbidden");
    server.expect(LIST).await.hang_up();
    let call = server.expect(LIST).await;
    let health = source(&mappings, BackendKind::EksConfigMap);
    assert_eq!((health.failures_total, health.synced), (3, false));
    assert!(health.failing.is_some());
    call.answer(
        200,
        &list(
            "10",
            &[config_map("9", &json!({"mapRoles": roles(&["Ops"])}))],
        ),
    );
    let call = server.expect(&watch_line("10")).await;
    assert!(
        source(&mappings, BackendKind::EksConfigMap)
            .failing
            .is_none()
    );
    call.refuse(500, "InternalError");
    let watch = server.expect(&watch_line("10")).await.watch();
    watch.send(
        "MODIFIED",
        &config_map("11", &json!({"mapRoles": roles(&["Dev"])})),
    );
    version(&mappings, "11").await;
    watch.send(
        "ERROR",
        &json!({"kind": "Status", "apiVersion": "v1", "code": 500, "reason": "InternalError"}),
    );
    let call = server.expect(&watch_line("11")).await;
    let health = source(&mappings, BackendKind::EksConfigMap);
    assert_eq!((health.failures_total, health.synced), (5, true));
    assert!(health.failing.is_some());
    assert!(username(&mappings, "Dev").is_some());
    let watch = call.watch();
    while source(&mappings, BackendKind::EksConfigMap)
        .failing
        .is_some()
    {
        tokio::task::yield_now().await;
    }
    watch.send(
        "MODIFIED",
        &config_map("12", &json!({"mapRoles": roles(&["Ops"])})),
    );
    version(&mappings, "12").await;
    watch.hang_up();
    let _watch = server.expect(&watch_line("12")).await.watch();
    assert!(username(&mappings, "Ops").is_some());
    task.abort();
}

#[tokio::test]
async fn a_version_that_is_too_old_leads_to_a_new_list() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::EksConfigMap]);
    let task = start(&server, &mappings, None);
    let watch = list_and_watch(&mut server, &json!({"mapRoles": roles(&["Ops"])})).await;
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
    watch.send("ERROR", &gone);
    server.expect(LIST).await.answer(
        200,
        &list(
            "50",
            &[config_map("49", &json!({"mapRoles": roles(&["Dev"])}))],
        ),
    );
    server
        .expect(&watch_line("50"))
        .await
        .refuse(410, "Expired");
    server.expect(LIST).await.answer(200, &list("60", &[]));
    let _watch = server.expect(&watch_line("60")).await.watch();
    assert_eq!(username(&mappings, "Dev"), None);
    assert_eq!(
        source(&mappings, BackendKind::EksConfigMap).failures_total,
        0
    );
    task.abort();
}

#[tokio::test]
async fn a_watch_that_ends_at_once_again_and_again_is_a_failure_and_no_storm() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::EksConfigMap]);
    let task = start(&server, &mappings, None);
    drop(list_and_watch(&mut server, &json!({})).await);
    for failures in 1..4 {
        let call = server.expect(&watch_line("10")).await;
        let health = source(&mappings, BackendKind::EksConfigMap);
        assert_eq!(health.failures_total, failures);
        drop(call.watch());
    }
    task.abort();
}

#[tokio::test]
async fn a_broken_edit_keeps_nodes_and_admins_working_and_raises_one_warning_event() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::EksConfigMap]);
    let task = start(&server, &mappings, None);
    let watch = list_and_watch(&mut server, &json!({"mapRoles": roles(&["Ops"])})).await;
    watch.send("MODIFIED", &config_map("11", &json!({"mapRoles": BROKEN})));
    let call = server.expect(EVENTS).await;
    assert!(username(&mappings, "Ops").is_some());
    let event = call.body.clone();
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reason"], "MappingSectionInvalid");
    assert_eq!(event["reportingController"], "countersign.io/mappings");
    assert_eq!(event["reportingInstance"], "node-1");
    assert_eq!(event["eventTime"], "2026-01-02T03:04:06.000000Z");
    assert_eq!(event["metadata"]["namespace"], "kube-system");
    let regarding = &event["regarding"];
    assert_eq!(
        (&regarding["kind"], &regarding["name"]),
        (&json!("ConfigMap"), &json!("aws-auth"))
    );
    assert_eq!(
        (&regarding["uid"], &regarding["resourceVersion"]),
        (&json!("u-1"), &json!("11"))
    );
    let note = event["note"].as_str().unwrap();
    assert!(note.starts_with("mapRoles: line 1: "), "{note}");
    assert!(
        note.ends_with("; its last good version stays in force"),
        "{note}"
    );
    call.answer(201, &event);

    // The same problem in a later version is not news; another one is, and so is the same after a repair.
    watch.send(
        "MODIFIED",
        &config_map("12", &json!({"mapRoles": BROKEN, "mapUsers": ""})),
    );
    version(&mappings, "12").await;
    watch.send(
        "MODIFIED",
        &config_map("13", &json!({"mapRoles": format!("\n{BROKEN}")})),
    );
    server.expect(EVENTS).await.refuse(403, "Forbidden");
    watch.send(
        "MODIFIED",
        &config_map("14", &json!({"mapRoles": roles(&["Dev"])})),
    );
    version(&mappings, "14").await;
    assert!(
        source(&mappings, BackendKind::EksConfigMap)
            .stale
            .is_empty()
    );
    watch.send("MODIFIED", &config_map("15", &json!({"mapRoles": BROKEN})));
    let event = server.expect(EVENTS).await;
    assert!(username(&mappings, "Dev").is_some());
    event.answer(201, &json!({}));
    assert_eq!(server.unexpected(), None);
    task.abort();
}

#[tokio::test]
async fn the_last_good_rules_are_remembered_for_a_start_without_the_api_server() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("aws-auth.json");
    let mut server = ApiServer::start().await;
    let first = mappings(&[BackendKind::EksConfigMap]);
    let task = start(&server, &first, Some(directory.path()));
    let watch = list_and_watch(&mut server, &json!({"mapRoles": roles(&["Ops"])})).await;
    version(&first, "9").await;
    watch.send("MODIFIED", &config_map("11", &json!({"mapRoles": BROKEN})));
    server.expect(EVENTS).await.answer(201, &json!({}));
    task.abort();
    assert_eq!(
        fs::metadata(&state).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let mut server = ApiServer::start().await;
    let second = mappings(&[BackendKind::EksConfigMap]);
    let task = start(&server, &second, Some(directory.path()));
    server.expect(LIST).await.hang_up();
    let call = server.expect(LIST).await;
    assert!(
        username(&second, "Ops").is_some(),
        "nodes need it to come up"
    );
    let health = source(&second, BackendKind::EksConfigMap);
    assert!(!health.synced);
    assert_eq!(health.version, "9");
    assert!(
        health
            .stale
            .iter()
            .all(|stale| stale.in_force == "persisted")
    );
    assert_eq!((health.stale.len(), health.config_errors_total), (3, 0));
    call.answer(
        200,
        &list("20", &[config_map("19", &json!({"mapRoles": BROKEN}))]),
    );
    server.expect(EVENTS).await.answer(201, &json!({}));
    assert!(
        username(&second, "Ops").is_some(),
        "still the last good version"
    );
    let health = source(&second, BackendKind::EksConfigMap);
    assert!(health.synced);
    assert_eq!(health.stale[0].in_force, "lastGood");
    task.abort();
}

#[tokio::test]
async fn remembered_rules_that_others_could_have_written_are_not_used() {
    let good = json!({
        "cluster": "demo", "resourceVersion": "9", "savedAt": common::START,
        "data": {"mapRoles": roles(&["Ops"])},
    });
    let of_other =
        json!({"cluster": "other", "resourceVersion": "9", "savedAt": common::START, "data": {}});
    for (text, mode, used) in [
        (good.to_string(), 0o600, true),
        (good.to_string(), 0o644, true),
        (good.to_string(), 0o620, false),
        (good.to_string(), 0o602, false),
        (of_other.to_string(), 0o600, false),
        ("{".to_owned(), 0o600, false),
        (String::new(), 0o600, false),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("aws-auth.json");
        fs::write(&state, text).unwrap();
        fs::set_permissions(&state, PermissionsExt::from_mode(mode)).unwrap();
        let mappings = mappings(&[BackendKind::EksConfigMap]);
        let _watch = AwsAuthWatch::new(&mappings, options(Some(directory.path())), at(0));
        assert_eq!(username(&mappings, "Ops").is_some(), used, "{mode:o}");
        assert!(!mappings.health().is_synced());
    }
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_holds_nothing_up() {
    let mut server = ApiServer::start().await;
    let mappings = mappings(&[BackendKind::EksConfigMap]);
    let task = start(&server, &mappings, Some(Path::new("/nonexistent/state")));
    let watch = list_and_watch(&mut server, &json!({"mapRoles": roles(&["Ops"])})).await;
    version(&mappings, "9").await;
    watch.send(
        "MODIFIED",
        &config_map("11", &json!({"mapRoles": roles(&["Dev"])})),
    );
    version(&mappings, "11").await;
    assert!(username(&mappings, "Dev").is_some());
    task.abort();
}

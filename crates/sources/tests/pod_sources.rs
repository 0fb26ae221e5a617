//! The role map, the identities file, and the look through the pods (webhook spec, sections 3.2, 3.3 and 8.2).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod common;

use std::time::Duration;

use common::api_server::ApiServer;
use countersign_sources::files::{IdentitiesFile, Outcome};
use countersign_sources::kubernetes::{
    BundleOutcome, CaBundle, Eviction, PodOwner, PodSweep, RoleMapOptions, RoleMapWatch,
};
use jiff::Timestamp;
use serde_json::{Value, json};

fn config_map(version: u64, text: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "pod-identity-webhook", "namespace": "eks", "resourceVersion": version.to_string(), "uid": "u"},
        "data": text.map(|text| json!({"config": text})),
    })
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn role_map_replaced_broken_and_deleted() {
    let mut server = ApiServer::start().await;
    let map = RoleMapWatch::new(RoleMapOptions {
        retry_after: Duration::from_millis(20),
        ..RoleMapOptions::default()
    });
    tokio::spawn(map.clone().run(server.client(), Timestamp::now));
    assert!(!map.current().listed);
    let role = || {
        let state = map.current();
        let found = state.map.find("orchard", "picker")?;
        Some(found.value.role_arn.as_deref()?.to_owned())
    };
    let list = server
        .expect("GET /api/v1/namespaces/eks/configmaps?&fieldSelector=metadata.name%3Dpod-identity-webhook&limit=500")
        .await;
    list.answer(
        200,
        &json!({
            "kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"},
            "items": [config_map(5, Some(r#"{"orchard/picker":{"RoleARN":"a"}}"#))],
        }),
    );
    let feed = server.next().await.watch();
    until("the first", || role().as_deref() == Some("a")).await;
    feed.send(
        "MODIFIED",
        &config_map(10, Some(r#"{"*/picker":{"RoleARN":"b"}}"#)),
    );
    until("replaced", || role().as_deref() == Some("b")).await;
    // Broken text: the last good one stays, and it is told once.
    for version in [11, 12] {
        feed.send("MODIFIED", &config_map(version, Some("{")));
    }
    let event = server.next().await;
    assert_eq!(
        event.line,
        "POST /apis/events.k8s.io/v1/namespaces/eks/events?"
    );
    assert_eq!(event.body["reason"], "RoleMapInvalid");
    assert_eq!(event.body["regarding"]["name"], "pod-identity-webhook");
    event.refuse(403, "Forbidden");
    until("counted", || map.errors_total() == 2).await;
    assert_eq!(role().as_deref(), Some("b"));
    assert!(map.current().problem.is_some());
    assert_eq!(server.unexpected(), None);
    // A key that is none is left out, and told.
    feed.send(
        "MODIFIED",
        &config_map(
            13,
            Some(r#"{"orchard/picker":{"RoleARN":"c"},"noslash":{"RoleARN":"x"}}"#),
        ),
    );
    let event = server.next().await;
    assert!(
        event.body["note"].as_str().unwrap().contains("`noslash`"),
        "{}",
        event.body
    );
    event.answer(
        201,
        &json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {}}),
    );
    assert_eq!(role().as_deref(), Some("c"));
    assert_eq!(map.errors_total(), 3);
    // Without the key there are no roles; without the ConfigMap neither.
    feed.send("MODIFIED", &config_map(14, None));
    until("no key", || role().is_none()).await;
    assert_eq!(map.current().problem, None);
    feed.send(
        "MODIFIED",
        &config_map(15, Some(r#"{"orchard/picker":{"RoleARN":"d"}}"#)),
    );
    until("again", || role().as_deref() == Some("d")).await;
    feed.send("DELETED", &config_map(16, None));
    until("deleted", || role().is_none()).await;
}

#[test]
fn identities_file_appears_breaks_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identities.json");
    let (mut file, identities) = IdentitiesFile::load(&path);
    let has = |name: &str| identities.current().find("orchard", name).is_some();
    assert!(!has("picker"));
    assert_eq!(identities.problem(), None);
    let text = |name: &str| {
        format!(r#"{{"identities":[{{"namespace":"orchard","serviceAccount":"{name}"}}]}}"#)
    };
    // As a mounted ConfigMap changes: by a swap of links.
    let link = |name: &str, content: &str| {
        let target = dir.path().join(name);
        std::fs::write(&target, content).unwrap();
        let swap = dir.path().join("swap");
        std::os::unix::fs::symlink(&target, &swap).unwrap();
        std::fs::rename(&swap, &path).unwrap();
    };
    link("1", &text("picker"));
    assert_eq!(file.poll_once(), Outcome::Reloaded);
    assert!(has("picker"));
    link("2", "{");
    assert_eq!(file.poll_once(), Outcome::Refused);
    assert!(has("picker") && identities.problem().is_some());
    assert_eq!(identities.errors_total(), 1);
    link("3", &text("packer"));
    assert_eq!(file.poll_once(), Outcome::Reloaded);
    assert!(has("packer") && !has("picker"));
    assert_eq!(identities.problem(), None);
    link("4", "");
    assert_eq!(file.poll_once(), Outcome::Reloaded);
    assert!(!has("packer"));
    link("5", &text("packer"));
    file.poll_once();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(file.poll_once(), Outcome::Cleared);
    assert!(!has("packer"));
}

#[tokio::test]
async fn pods_are_shown_told_about_and_evicted() {
    let mut server = ApiServer::start().await;
    let sweep = PodSweep::new(server.client(), "me");
    let looking = tokio::spawn({
        let sweep = sweep.clone();
        async move {
            let mut seen = Vec::new();
            let looked = sweep
                .look_through(|pod| {
                    seen.push(format!(
                        "{}/{} {:?} {} {} {}",
                        pod.namespace,
                        pod.name,
                        pod.owner.as_ref().map(|owner| owner.kind.clone()),
                        pod.deleting,
                        pod.finished,
                        pod.ready
                    ));
                    assert!(pod.json.contains("futureField"));
                })
                .await;
            (seen, looked)
        }
    });
    let pod = |name: &str, metadata: Value, status: Value| {
        let mut pod = json!({"metadata": metadata, "spec": {"futureField": 1}, "status": status});
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!("orchard");
        pod
    };
    let owners = json!([
        {"apiVersion": "x/v1", "kind": "Other", "name": "o", "uid": "1"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "2", "controller": true},
    ]);
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    server.expect("GET /api/v1/pods?limit=100").await.answer(
        200,
        &json!({"metadata": {"continue": "c"}, "items": [
            pod("a", json!({"ownerReferences": owners}), ready),
            pod("b", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), json!({})),
        ]}),
    );
    server
        .expect("GET /api/v1/pods?limit=100&continue=c")
        .await
        .answer(
            200,
            &json!({"metadata": {}, "items": [pod("c", json!({}), json!({"phase": "Succeeded"}))]}),
        );
    let (seen, looked) = looking.await.unwrap();
    assert_eq!(looked, Ok(()));
    assert_eq!(
        seen,
        [
            "orchard/a Some(\"ReplicaSet\") false false true",
            "orchard/b None true false false",
            "orchard/c None false true false",
        ]
    );

    let owner = PodOwner {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: "r".into(),
        uid: "2".into(),
    };
    let telling = tokio::spawn({
        let sweep = sweep.clone();
        async move {
            let pod = ("orchard", "a", "uid-a");
            sweep
                .tell(pod, Some(&owner), "Reason", "note", Timestamp::now())
                .await
        }
    });
    let call = server.next().await;
    assert_eq!(
        call.line,
        "POST /apis/events.k8s.io/v1/namespaces/orchard/events?"
    );
    assert_eq!(call.body["regarding"]["kind"], "ReplicaSet");
    assert_eq!(call.body["related"]["uid"], "uid-a");
    call.answer(
        201,
        &json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {}}),
    );
    assert_eq!(telling.await.unwrap(), Ok(()));

    for (status, expected) in [
        (201, Eviction::Done),
        (429, Eviction::NotNow),
        (404, Eviction::NotNow),
        (
            403,
            Eviction::Failed("the API server answers 403 Reason".into()),
        ),
    ] {
        let evicting = tokio::spawn({
            let sweep = sweep.clone();
            async move { sweep.evict("orchard", "a", "uid-a").await }
        });
        let call = server
            .expect("POST /api/v1/namespaces/orchard/pods/a/eviction")
            .await;
        assert_eq!(call.body["deleteOptions"]["preconditions"]["uid"], "uid-a");
        match status {
            201 => call.answer(201, &json!({"kind": "Status", "status": "Success"})),
            status => call.refuse(status, "Reason"),
        }
        assert_eq!(evicting.await.unwrap(), expected);
    }
    assert!(matches!(
        sweep.evict("orchard", "../x", "u").await,
        Eviction::Failed(_)
    ));
}

#[tokio::test]
async fn ca_bundle_gets_the_new_certificate_and_keeps_the_old() {
    use base64_text::{decode, encode};
    let block =
        |name: &str| format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, block("NEW")).unwrap();
    let mut server = ApiServer::start().await;
    let client = server.client();
    let look = || {
        let (client, file) = (client.clone(), file.clone());
        tokio::spawn(async move { CaBundle::new(client, "ours", &file).look().await })
    };
    let registration = |bundle: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "ours", "resourceVersion": "7"},
            "webhooks": [{
                "name": "pod-identity-webhook.amazonaws.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"caBundle": encode(bundle)},
            }],
        })
    };
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/ours";
    let looking = look();
    server
        .expect(&format!("GET {path}"))
        .await
        .answer(200, &registration(&block("OLD")));
    let patch = server.expect(&format!("PATCH {path}?")).await;
    assert_eq!(patch.body["metadata"]["resourceVersion"], "7");
    let webhook = &patch.body["webhooks"][0];
    assert_eq!(webhook["name"], "pod-identity-webhook.amazonaws.com");
    let bundle = decode(webhook["clientConfig"]["caBundle"].as_str().unwrap());
    assert_eq!(bundle, block("NEW") + &block("OLD"));
    patch.answer(200, &registration(&bundle));
    assert_eq!(looking.await.unwrap(), Ok(BundleOutcome::Patched));
    let looking = look();
    server.next().await.answer(200, &registration(&bundle));
    assert_eq!(looking.await.unwrap(), Ok(BundleOutcome::UpToDate));
    let looking = look();
    server.next().await.refuse(404, "NotFound");
    assert_eq!(looking.await.unwrap(), Ok(BundleOutcome::NotThere));
    std::fs::write(&file, "nothing").unwrap();
    assert!(look().await.unwrap().is_err());
}

/// Base64 as JSON has bytes, by the types of the API.
mod base64_text {
    use k8s_openapi::ByteString;

    pub(super) fn encode(text: &str) -> serde_json::Value {
        serde_json::to_value(ByteString(text.as_bytes().to_vec())).unwrap()
    }

    pub(super) fn decode(text: &str) -> String {
        let bytes: ByteString = serde_json::from_value(serde_json::json!(text)).unwrap();
        String::from_utf8(bytes.0).unwrap()
    }
}

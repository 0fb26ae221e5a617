//! Reviews, and what a patch did to a pod.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, not all used by each"
)]

use base64::Engine as _;
use countersign_pods::{AccountSettings, Answer, CONFIG_ANNOTATION, POD_IDENTITY_LABEL};
use serde_json::{Map, Value, json};

pub(crate) const ROLE: &str = "arn:aws:iam::210987654321:role/orchard-reader";
pub(crate) const PREFIX: &str = "eks.amazonaws.com";

/// The body of a review that creates this pod.
pub(crate) fn review(namespace: &str, pod: &Value) -> Vec<u8> {
    serde_json::to_vec(&json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "0b1c2d3e",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": "ana"},
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": null,
        },
    }))
    .unwrap()
}

/// An account with a role and nothing else.
pub(crate) fn with_role() -> AccountSettings {
    AccountSettings::from_annotations(PREFIX, [("eks.amazonaws.com/role-arn", ROLE)])
}

pub(crate) fn response(answer: &Answer) -> Value {
    let mut review: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(review["kind"], "AdmissionReview");
    review["response"].take()
}

/// The patch inside an answer; null without one.
pub(crate) fn patch_of(answer: &Answer) -> Value {
    let response = response(answer);
    let Some(patch) = response["patch"].as_str() else {
        assert!(response.get("patchType").is_none());
        return Value::Null;
    };
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = base64::engine::general_purpose::STANDARD
        .decode(patch)
        .unwrap();
    serde_json::from_slice(&patch).unwrap()
}

/// Applies a patch with an implementation that is not ours.
pub(crate) fn apply(pod: &Value, patch: &Value) -> Value {
    let mut pod = pod.clone();
    if !patch.is_null() {
        let patch: json_patch::Patch = serde_json::from_value(patch.clone()).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
    }
    pod
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Takes the last items of a list away, and returns them. The list becomes what it was.
fn take_added(before: &Value, after: &mut Map<String, Value>, member: &str) -> Vec<Value> {
    let kept = items(&before[member]).len();
    let Some(Value::Array(list)) = after.get_mut(member) else {
        return Vec::new();
    };
    let added = list.split_off(kept);
    if !before[member].is_array() {
        restore(before, after, member);
    }
    added
}

fn restore(before: &Value, after: &mut Map<String, Value>, member: &str) {
    match before.get(member) {
        Some(value) => after.insert(member.to_owned(), value.clone()),
        None => after.remove(member),
    };
}

/// What was added to a pod, a line for each part. Panics unless everything else is as it was.
pub(crate) fn additions(before: &Value, after: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = after.clone();
    let label = |pod: &Value| pod["metadata"]["labels"][POD_IDENTITY_LABEL].clone();
    if label(before) != label(after) {
        assert_eq!(label(after), "enabled");
        lines.push("label".to_owned());
        let labels = &before["metadata"]["labels"];
        let root = left.as_object_mut().unwrap();
        if before["metadata"].is_null() {
            restore(before, root, "metadata");
        } else if labels.is_null() {
            restore(
                &before["metadata"],
                left["metadata"].as_object_mut().unwrap(),
                "labels",
            );
        } else {
            let left = left["metadata"]["labels"].as_object_mut().unwrap();
            restore(labels, left, POD_IDENTITY_LABEL);
        }
    }
    let annotation = |pod: &Value| pod["metadata"]["annotations"][CONFIG_ANNOTATION].clone();
    if annotation(before) != annotation(after) {
        assert!(annotation(before).is_null());
        let text = annotation(after);
        lines.push(format!(
            "config {}",
            text.as_str().unwrap().trim_end().replace('\n', "; ")
        ));
        let annotations = &before["metadata"]["annotations"];
        let root = left.as_object_mut().unwrap();
        if before["metadata"].is_null() {
            restore(before, root, "metadata");
        } else if annotations.is_null() {
            let left = left["metadata"].as_object_mut().unwrap();
            restore(&before["metadata"], left, "annotations");
        } else {
            let left = left["metadata"]["annotations"].as_object_mut().unwrap();
            restore(annotations, left, CONFIG_ANNOTATION);
        }
    }
    let (old, new) = (&before["spec"], &after["spec"]);
    if items(&old["volumes"]).len() != items(&new["volumes"]).len() {
        let Value::Array(list) = &mut left["spec"]["volumes"] else {
            panic!("no volumes")
        };
        let volume = list.remove(0);
        let token = &volume["projected"]["sources"][0]["serviceAccountToken"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (name, audience) = (text(&volume["name"]), text(&token["audience"]));
        let seconds = token["expirationSeconds"].as_u64().unwrap();
        let mut expected = json!({"name": name, "projected": {"sources": [{"serviceAccountToken": {
            "audience": audience, "expirationSeconds": seconds, "path": token["path"]}}]}});
        let mut line = format!("vol {name} {audience} {seconds}");
        let sources = expected["projected"]["sources"].as_array_mut().unwrap();
        if items(&volume["projected"]["sources"]).len() == 2 {
            sources.push(
                json!({"downwardAPI": {"items": [{"path": "config", "fieldRef": {
                "fieldPath": format!("metadata.annotations['{CONFIG_ANNOTATION}']")}}]}}),
            );
            line.push_str(" config");
        }
        assert_eq!(volume, expected);
        lines.push(line);
        if !old["volumes"].is_array() {
            restore(old, left["spec"].as_object_mut().unwrap(), "volumes");
        }
    }
    let group = |spec: &Value| spec["securityContext"]["fsGroup"].clone();
    if group(old) != group(new) {
        assert!(group(old).is_null());
        lines.push(format!("fsGroup {}", group(new)));
        let spec = left["spec"].as_object_mut().unwrap();
        if old["securityContext"].is_null() {
            restore(old, spec, "securityContext");
        } else {
            let context = spec["securityContext"].as_object_mut().unwrap();
            restore(&old["securityContext"], context, "fsGroup");
        }
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, before) in items(&old[list]).iter().enumerate() {
            let after = left["spec"][list][index].as_object_mut().unwrap();
            let mut parts: Vec<String> = take_added(before, after, "env")
                .iter()
                .map(variable)
                .collect();
            for mount in take_added(before, after, "volumeMounts") {
                assert_eq!(mount["readOnly"], true);
                assert_eq!(mount.as_object().unwrap().len(), 3);
                parts.push("+mnt".to_owned());
            }
            let parts = if parts.is_empty() {
                "-".to_owned()
            } else {
                parts.join(" ")
            };
            let name = before["name"].as_str().unwrap();
            lines.push(shorten(&format!("{name}: {parts}")));
        }
    }
    assert_eq!(
        &left, before,
        "without the additions it is the pod that came"
    );
    lines
}

fn variable(variable: &Value) -> String {
    let name = variable["name"].as_str().unwrap();
    match variable.get("value") {
        Some(value) => format!("{name}={}", value.as_str().unwrap()),
        None => format!(
            "{name}<{}",
            variable["valueFrom"]["fieldRef"]["fieldPath"]
                .as_str()
                .unwrap()
        ),
    }
}

/// The text of the table, with its abbreviations spelled out.
pub(crate) fn spelled(text: &str) -> String {
    text.replace("$R", ROLE)
        .replace("$T", "$M/token")
        .replace("$M", "/var/run/secrets/eks.amazonaws.com/serviceaccount")
        .replace("$U", "http://169.254.170.23/v1/credentials")
}

/// The spec's abbreviations for variables that go together.
fn shorten(line: &str) -> String {
    let irsa = spelled("AWS_ROLE_ARN=$R AWS_WEB_IDENTITY_TOKEN_FILE=$T");
    let container = spelled(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI=$U \
         AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token",
    );
    let is_end = |text: &str| text.is_empty() || text.starts_with(' ');
    let mut line = line.to_owned();
    for (long, short) in [(&irsa, "IRSA"), (&container, "CC")] {
        if let Some((before, after)) = line
            .split_once(long.as_str())
            .filter(|(_, after)| is_end(after))
        {
            line = format!("{before}{short}{after}");
        }
    }
    line = line.replace("AWS_STS_REGIONAL_ENDPOINTS=regional", "STS");
    for region in ["eu-west-1", "cn-north-1"] {
        let long = format!("AWS_DEFAULT_REGION={region} AWS_REGION={region}");
        line = line.replace(&long, &format!("REG({region})"));
    }
    line
}

//! The envelope: reviews of a real API server, both versions, and bodies that cannot be decided.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use std::collections::BTreeMap;

use countersign_pods::*;
use serde_json::{Value, json};
use support::{additions, apply, patch_of, response, review};

fn webhook(flags: &[&str]) -> Webhook {
    Webhook::new(Flags::parse(flags.iter().copied()).unwrap().options).unwrap()
}

fn recorded() -> BTreeMap<String, Value> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kube-1.36");
    let files = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let name = name.strip_prefix("admissionreview-v1-").unwrap();
            let name = name.strip_suffix(".json").unwrap().to_owned();
            (
                name,
                serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap(),
            )
        })
        .collect()
}

/// Account, and what is added; or why nothing is.
const RECORDED: &[(&str, Option<&str>, &[&str])] = &[
    (
        "clusterrolebinding-create",
        None,
        &["the object is a `ClusterRoleBinding`, not a Pod"],
    ),
    (
        "clusterrolebinding-delete",
        None,
        &["the object is a `ClusterRoleBinding`, not a Pod"],
    ),
    (
        "configmap-create",
        None,
        &["the object is a `ConfigMap`, not a Pod"],
    ),
    (
        "configmap-delete",
        None,
        &["the object is a `ConfigMap`, not a Pod"],
    ),
    (
        "configmap-update",
        None,
        &["the object is a `ConfigMap`, not a Pod"],
    ),
    (
        "deployment-pod-generatename",
        Some("lab-a/default"),
        &[
            "vol aws-iam-token sts.amazonaws.com 86400",
            "nginx: IRSA +mnt",
        ],
    ),
    (
        "pod-create",
        Some("lab-a/robot"),
        &[
            "vol aws-iam-token sts.amazonaws.com 86400",
            "c: IRSA +mnt",
            "d: IRSA +mnt",
            "i: IRSA +mnt",
        ],
    ),
    (
        "pod-create-by-user",
        Some("lab-a/default"),
        &[
            "vol aws-iam-token sts.amazonaws.com 86400",
            "byuser: IRSA +mnt",
        ],
    ),
    (
        "pod-create-dryrun",
        Some("lab-a/default"),
        &[
            "vol aws-iam-token sts.amazonaws.com 86400",
            "dry: IRSA +mnt",
        ],
    ),
    ("pod-delete", None, &["the request carries no object"]),
    ("pod-delete.2", None, &["the request carries no object"]),
    ("pod-delete.3", None, &["the request carries no object"]),
    (
        "pod-exec-connect",
        None,
        &["the object is a `PodExecOptions`, not a Pod"],
    ),
    (
        "pod-exec-connect.2",
        None,
        &["the object is a `PodExecOptions`, not a Pod"],
    ),
    (
        "pod-update",
        Some("lab-a/robot"),
        &[
            "vol aws-iam-token sts.amazonaws.com 86400",
            "c: IRSA +mnt",
            "d: IRSA +mnt",
            "i: IRSA +mnt",
        ],
    ),
    (
        "serviceaccount-create-irsa",
        None,
        &["the object is a `ServiceAccount`, not a Pod"],
    ),
];

#[test]
fn reviews_of_a_real_api_server_are_decided_in_both_versions() {
    let recorded = recorded();
    let names: Vec<_> = RECORDED.iter().map(|(name, ..)| *name).collect();
    assert_eq!(
        recorded.keys().map(String::as_str).collect::<Vec<_>>(),
        names
    );
    let settings = support::with_role();
    let facts = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    let webhook = webhook(&[]);
    for (name, account, expected) in RECORDED {
        for version in ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"] {
            let mut review = recorded[*name].clone();
            review["apiVersion"] = json!(version);
            let body = serde_json::to_vec_pretty(&review).unwrap();
            let parsed = Review::parse(&body).unwrap();
            let asked = parsed.account().map(|account| account.to_string());
            assert_eq!(asked.as_deref(), *account, "{name}");
            assert_eq!(parsed.operation(), review["request"]["operation"], "{name}");
            assert_eq!(parsed.is_dry_run(), name.contains("dryrun"), "{name}");

            let answer = webhook.admit(&body, |_| facts);
            assert_eq!(answer.status, 200);
            let written: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(written["apiVersion"], version);
            assert_eq!(written["response"]["uid"], review["request"]["uid"]);
            assert_eq!(written["response"]["allowed"], true, "{name}");
            let patch = patch_of(&answer);
            let decision = webhook.decide(&parsed, &facts);
            if account.is_none() {
                assert!(patch.is_null());
                let why = decision.outcome.to_string();
                assert_eq!(
                    why.strip_prefix("unmodified: "),
                    expected.first().copied(),
                    "{name}"
                );
                let warned = matches!(
                    decision.outcome,
                    Outcome::Unmodified(Unmodified::OtherKind(_))
                );
                assert_eq!(
                    written["response"].get("warnings").is_some(),
                    warned,
                    "{name}"
                );
                continue;
            }
            let pod = &review["request"]["object"];
            let mutated = apply(pod, &patch);
            assert_eq!(additions(pod, &mutated), *expected, "{name}");
            assert_eq!(
                written["response"]["auditAnnotations"],
                json!({AUDIT_ANNOTATION: "irsa:annotation"})
            );
            review["request"]["object"] = mutated;
            let again = webhook.admit(&serde_json::to_vec(&review).unwrap(), |_| facts);
            assert!(patch_of(&again).is_null(), "{name}");
        }
    }
}

#[test]
fn a_pod_that_runs_is_explained_like_the_request_that_made_it() {
    let recorded = recorded();
    let live = &recorded["pod-delete"]["request"]["oldObject"];
    let settings = support::with_role();
    let known = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    for flags in [&[][..], &["--patch-style=replace"]] {
        let webhook = webhook(flags);
        let pod = serde_json::to_vec(live).unwrap();
        let review = Review::of_pod("lab-a", &pod).unwrap();
        assert_eq!(review.account().unwrap().to_string(), "lab-a/robot");
        assert!(!webhook.decide(&review, &Facts::NOTHING).lacks_credentials());
        let decision = webhook.decide(&review, &known);
        assert!(decision.lacks_credentials());
        let patch = serde_json::from_slice(decision.patch.unwrap().json()).unwrap();
        let pod = serde_json::to_vec(&apply(live, &patch)).unwrap();
        let review = Review::of_pod("lab-a", &pod).unwrap();
        let decision = webhook.decide(&review, &known);
        assert_eq!(
            decision.outcome.to_string(),
            "unmodified: everything is there already"
        );
        assert!(!decision.lacks_credentials());
        assert_eq!(decision.code(), "irsa:annotation");
    }
    let other = Review::of_pod("n", br#"{"kind":"Node"}"#).unwrap();
    assert!(other.account().is_none());
    for broken in [
        &b""[..],
        b"[]",
        b"{\"spec\":[]}",
        b"{\"x\":\"\xff\"}x",
        b"{} {}",
    ] {
        assert!(matches!(
            Review::of_pod("n", broken),
            Err(ReviewError::UnreadablePod { .. })
        ));
    }
}

#[test]
fn the_annotations_of_a_recorded_account_are_read() {
    let review = &recorded()["serviceaccount-create-irsa"];
    let annotations = review["request"]["object"]["metadata"]["annotations"]
        .as_object()
        .unwrap();
    let pairs = annotations
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    let settings = AccountSettings::from_annotations(support::PREFIX, pairs);
    assert_eq!(
        settings.role_arn.as_deref(),
        annotations["eks.amazonaws.com/role-arn"].as_str()
    );
}

#[test]
fn bodies_that_cannot_be_decided_are_answered_with_a_refusal() {
    let envelope = |request: &str| {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{request}}}"#
        )
    };
    let pod = r#""kind":{"group":"","version":"v1","kind":"Pod"},"namespace":"n""#;
    let spec = |spec: &str| {
        envelope(&format!(
            r#"{{"uid":"u",{pod},"object":{{"spec":{spec}}}}}"#
        ))
    };
    let cases: Vec<(String, u16, &str, &str)> = vec![
        (String::new(), 400, "", "bad content: the body is empty"),
        (" \n".to_owned(), 400, "", "bad content: the body is empty"),
        (
            "{".to_owned(),
            400,
            "",
            "the review cannot be read: it ends too early, at line 1 column 1",
        ),
        (
            "[]".to_owned(),
            400,
            "",
            "the review cannot be read: a field has the wrong type or stands twice, at line 1 column 0",
        ),
        (
            "nonsense".to_owned(),
            400,
            "",
            "the review cannot be read: not JSON, at line 1 column 2",
        ),
        (
            "{}".to_owned(),
            400,
            "",
            "unexpected kind; an AdmissionReview is answered",
        ),
        (
            r#"{"kind":"AdmissionReview"}"#.to_owned(),
            400,
            "",
            "unknown apiVersion; admission.k8s.io/v1 and admission.k8s.io/v1beta1 are answered",
        ),
        (
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v2","request":{}}"#
                .to_owned(),
            400,
            "",
            "unknown apiVersion; admission.k8s.io/v1 and admission.k8s.io/v1beta1 are answered",
        ),
        (
            envelope("null"),
            400,
            "",
            "bad content: the review has no request",
        ),
        (
            envelope("[]"),
            400,
            "",
            "the review cannot be read: a field has the wrong type or stands twice",
        ),
        (
            envelope(r#"{"uid":"u","uid":"v"}"#),
            400,
            "",
            "the review cannot be read: a field has the wrong type or stands twice",
        ),
        (
            envelope(r#"{"uid":"u"}"#),
            200,
            "u",
            "the pod cannot be read: the request has no object",
        ),
        (
            envelope(&format!(
                r#"{{"uid":"u",{pod},"operation":"CREATE","object":null}}"#
            )),
            200,
            "u",
            "the pod cannot be read: the request has no object",
        ),
        (
            envelope(&format!(r#"{{"uid":"u",{pod},"object":[]}}"#)),
            200,
            "u",
            "the pod cannot be read: a field has the wrong type",
        ),
        (
            envelope(r#"{"uid":"u","object":"SECRET"}"#),
            200,
            "u",
            "the pod cannot be read: a field has the wrong type",
        ),
        (
            spec(r#"{"containers":"SECRET"}"#),
            200,
            "u",
            "the pod cannot be read: a field has the wrong type",
        ),
        (
            spec(r#"{"containers":[[]]}"#),
            200,
            "u",
            "the pod cannot be read: a field has the wrong type",
        ),
        (
            spec(r#"{"containers":[null]}"#),
            200,
            "u",
            "the pod cannot be read: a field has the wrong type",
        ),
        (
            spec(r#"{"containers":[],"containers":[]}"#),
            200,
            "u",
            "the pod cannot be read: a field has the wrong type or stands twice",
        ),
        (
            spec(r#"{"containers":[{"env":[{"name":"A","name":"B"}]}]}"#),
            200,
            "u",
            "the pod cannot be read: a field has the wrong type or stands twice",
        ),
        (
            spec(r#"{"nodeSelector":{"a":"b","\u0061":"c"}}"#),
            200,
            "u",
            "the pod cannot be read: a field has the wrong type or stands twice",
        ),
        (
            spec(r#"{"nodeSelector":{"a":1}}"#),
            200,
            "u",
            "the pod cannot be read: a field has the wrong type or stands twice",
        ),
    ];
    let webhook = webhook(&[]);
    for (body, status, uid, message) in cases {
        let answer = webhook.admit(body.as_bytes(), |_| Facts::NOTHING);
        assert_eq!(answer.status, status, "{body}");
        let response = response(&answer);
        assert_eq!(
            (&response["uid"], &response["allowed"]),
            (&json!(uid), &json!(false)),
            "{body}"
        );
        let said = response["status"]["message"].as_str().unwrap();
        assert!(
            said.starts_with(&format!("pod identity: {message}")),
            "{body}: {said}"
        );
        assert!(said.len() < 200 && !said.contains("SECRET"), "{said}");
    }
    let large = vec![b' '; MAX_REVIEW_BYTES + 1];
    assert_eq!(webhook.admit(&large, |_| Facts::NOTHING).status, 413);
    let answer = webhook.admit(b"{\"kind\":\"\xff\"}", |_| Facts::NOTHING);
    assert_eq!(answer.status, 400);
}

#[test]
fn other_kinds_are_admitted_whatever_they_look_like() {
    let request = |kind: Value, object: Value| {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "kind": kind, "namespace": "n", "operation": "CREATE", "object": object}})
    };
    let odd = json!({"kind": "Odd", "spec": {"containers": "none", "volumes": 7}});
    let cases = [
        (
            request(
                json!({"group": "odd.example", "version": "v1", "kind": "Odd"}),
                odd.clone(),
            ),
            "Odd",
        ),
        (
            request(
                json!({"group": "metrics.example", "version": "v1", "kind": "Pod"}),
                json!({}),
            ),
            "Pod",
        ),
        (request(Value::Null, odd), "Odd"),
        (
            request(Value::Null, json!({"kind": "Node", "metadata": {}})),
            "Node",
        ),
    ];
    let webhook = webhook(&[]);
    for (body, kind) in cases {
        let body = body.to_string();
        let answer = webhook.admit(body.as_bytes(), |_| unreachable!("nothing to look up"));
        let response = response(&answer);
        assert_eq!(
            (answer.status, &response["allowed"]),
            (200, &json!(true)),
            "{body}"
        );
        let warning =
            format!("pod identity: asked about a `{kind}`; register the webhook for pods only");
        assert_eq!(response["warnings"], json!([warning]), "{body}");
        assert_eq!(response["auditAnnotations"], json!({"decision": "none"}));
    }
}

#[test]
fn warnings_can_be_turned_off() {
    let pod = json!({"metadata": {}, "spec": {"containers": [
        {"name": "app", "env": [{"name": "AWS_ACCESS_KEY_ID", "value": "AKIDSECRET"}]}]}});
    let settings = support::with_role();
    let facts = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    for (flag, count) in [("--warnings", 1), ("--warnings=false", 0)] {
        let answer = webhook(&[flag]).admit(&review("orchard", &pod), |_| facts);
        assert_eq!(answer.code, "irsa:annotation");
        let warnings = response(&answer)["warnings"].as_array().map_or(0, Vec::len);
        assert_eq!(warnings, count);
    }
}

/// Flags, subresource, pod; what is added, or why nothing is.
type Subresource<'a> = (
    &'a [&'a str],
    &'a str,
    &'a Value,
    Result<&'a [&'a str], &'a str>,
);

#[test]
fn subresources_are_left_alone_unless_asked_for() {
    let token = json!({"name": "aws-iam-token", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "sts.amazonaws.com", "path": "token"}}]}});
    let pod = |volumes: Value| {
        json!({"metadata": {}, "spec": {"containers": [{"name": "app"}], "volumes": volumes,
            "ephemeralContainers": [{"name": "old"}, {"name": "new"}]}})
    };
    let body = |subresource: &str, pod: &Value| {
        let mut review: Value = serde_json::from_slice(&review("orchard", pod)).unwrap();
        review["request"]["operation"] = json!("UPDATE");
        review["request"]["subResource"] = json!(subresource);
        review["request"]["oldObject"] =
            json!({"spec": {"ephemeralContainers": [{"name": "old"}]}});
        serde_json::to_vec(&review).unwrap()
    };
    let settings = support::with_role();
    let facts = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    let with_token = pod(json!([token]));
    let cases: &[Subresource<'_>] = &[
        (
            &[],
            "ephemeralcontainers",
            &with_token,
            Err("requests for pods/ephemeralcontainers are not mutated"),
        ),
        (
            &["--mutate-ephemeral-containers"],
            "status",
            &with_token,
            Err("requests for pods/status are not mutated"),
        ),
        (
            &["--mutate-ephemeral-containers"],
            "ephemeralcontainers",
            &pod(json!([])),
            Err("the pod runs without the token volume and cannot get one any more"),
        ),
        (
            &["--mutate-ephemeral-containers"],
            "ephemeralcontainers",
            &with_token,
            Ok(&["app: -", "old: -", "new: IRSA +mnt"]),
        ),
        (
            &["--mutate-ephemeral-containers", "--patch-style=replace"],
            "ephemeralcontainers",
            &with_token,
            Ok(&["app: -", "old: -", "new: IRSA +mnt"]),
        ),
    ];
    for (flags, subresource, pod, expected) in cases {
        let (webhook, body) = (webhook(flags), body(subresource, pod));
        let review = Review::parse(&body).unwrap();
        let decision = webhook.decide(&review, &facts);
        match expected {
            Err(why) => assert_eq!(decision.outcome.to_string(), format!("unmodified: {why}")),
            Ok(added) => {
                let patch = patch_of(&webhook.answer(&review, &decision));
                assert_eq!(additions(pod, &apply(pod, &patch)), *added);
            }
        }
    }
}

#[test]
fn a_content_type_is_json_with_and_without_parameters() {
    for (text, expected) in [
        ("application/json", true),
        ("application/json; charset=utf-8", true),
        ("Application/JSON", true),
        ("application/json-patch+json", false),
        ("text/plain; application/json", false),
        ("", false),
    ] {
        assert_eq!(is_json(text), expected, "{text}");
    }
}

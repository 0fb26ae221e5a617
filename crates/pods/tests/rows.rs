//! The worked examples of the webhook spec (section 12), and the other rules as further rows of the same table.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use countersign_pods::*;
use serde_json::{Value, json};
use support::{PREFIX, ROLE, additions, apply, patch_of, review, spelled};

/// A row as it runs: everything that a decision is made from.
struct Case {
    title: String,
    webhook: [Webhook; 2],
    pod: Value,
    body: Vec<u8>,
    account: Option<Option<AccountSettings>>,
    association: bool,
    map: RoleMap,
    namespace: String,
    random: u64,
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

fn rows() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rows.json");
    serde_json::from_str(&spelled(&std::fs::read_to_string(path).unwrap())).unwrap()
}

impl Case {
    fn new(row: &Value) -> Self {
        let flags = texts(&row["flags"]);
        let webhook = |style: &str| {
            let flags = flags.iter().map(String::as_str).chain([style]);
            Webhook::new(Flags::parse(flags).unwrap().options).unwrap()
        };
        let webhook = [
            webhook("--patch-style=additive"),
            webhook("--patch-style=replace"),
        ];
        let prefix = webhook[0].options().annotation_prefix.clone();
        let account = match &row["account"] {
            Value::Null if row.get("account").is_some() => None,
            Value::String(unread) if unread == "unread" => Some(None),
            Value::Object(annotations) => {
                let pairs = annotations.iter().map(|(name, value)| {
                    (
                        format!("{prefix}/{name}"),
                        value.as_str().unwrap().to_owned(),
                    )
                });
                let pairs: Vec<_> = pairs.collect();
                let pairs = pairs
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()));
                Some(Some(AccountSettings::from_annotations(&prefix, pairs)))
            }
            _ => Some(Some(support::with_role())),
        };
        let namespace = row["namespace"].as_str().unwrap_or("orchard").to_owned();
        let (map, refused) = RoleMap::parse(&match &row["map"] {
            Value::Null => "{}".to_owned(),
            map => map.to_string(),
        })
        .unwrap();
        assert!(refused.is_empty());
        let pod = pod(&row["pod"], &prefix);
        Self {
            title: format!("row {}: {}", row["row"], row["about"]),
            webhook,
            body: review(&namespace, &pod),
            pod,
            account,
            association: row["association"] == true,
            map,
            namespace,
            random: row["random"].as_u64().unwrap_or(0),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            account: match &self.account {
                None => AccountFact::Missing,
                Some(None) => AccountFact::Unread,
                Some(Some(settings)) => AccountFact::Known(settings),
            },
            association: self.association.then(AssociationFact::default),
            role_map: self.map.find(&self.namespace, "picker"),
            random: self.random,
        }
    }
}

fn pod(row: &Value, prefix: &str) -> Value {
    let mut metadata = match &row["metadata"] {
        Value::Null => json!({}),
        metadata => metadata.clone(),
    };
    if let Some(annotations) = row["annotations"].as_object() {
        let annotations = annotations.iter();
        metadata["annotations"] = annotations
            .map(|(name, value)| (format!("{prefix}/{name}"), value.clone()))
            .collect();
    }
    if row["labels"].is_object() {
        metadata["labels"] = row["labels"].clone();
    }
    let mut spec = match row.get("spec") {
        None => json!({"containers": [{"name": "app", "image": "i"}]}),
        Some(spec) => spec.clone(),
    };
    if spec.is_object() {
        spec["serviceAccountName"] = json!("picker");
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

#[test]
fn each_row_has_its_result_in_both_patch_styles() {
    let rows = rows();
    for number in 1..=54 {
        assert!(
            rows.iter().any(|row| row["row"] == number),
            "row {number} is missing"
        );
    }
    for row in &rows {
        let case = Case::new(row);
        for webhook in &case.webhook {
            let answer = webhook.admit(&case.body, |account| {
                let name = if case.pod["spec"].is_null() {
                    "default"
                } else {
                    "picker"
                };
                assert_eq!(
                    (account.namespace, account.name),
                    (case.namespace.as_str(), name)
                );
                case.facts()
            });
            assert_eq!(answer.status, 200, "{}", case.title);
            let after = apply(&case.pod, &patch_of(&answer));
            assert_eq!(
                additions(&case.pod, &after),
                texts(&row["expect"]),
                "{}",
                case.title
            );
        }
        let review = Review::parse(&case.body).unwrap();
        let decision = case.webhook[0].decide(&review, &case.facts());
        let outcome = row["outcome"].as_str().unwrap_or("mutated");
        assert_eq!(decision.outcome.to_string(), outcome, "{}", case.title);
        let notes: Vec<_> = decision.notes.iter().map(Note::code).collect();
        assert_eq!(notes, texts(&row["notes"]), "{}", case.title);
        assert_eq!(
            decision.is_allowed(),
            !outcome.starts_with("refused"),
            "{}",
            case.title
        );
    }
}

#[test]
fn the_second_call_changes_nothing_for_any_row() {
    for row in rows() {
        let case = Case::new(&row);
        for webhook in &case.webhook {
            let once = apply(
                &case.pod,
                &patch_of(&webhook.admit(&case.body, |_| case.facts())),
            );
            let body = review(&case.namespace, &once);
            let answer = webhook.admit(&body, |_| case.facts());
            let patch = patch_of(&answer);
            assert_eq!(apply(&once, &patch), once, "{}", case.title);
            if webhook.options().patch_style == PatchStyle::Additive {
                assert!(patch.is_null(), "{}: {patch}", case.title);
            }
        }
    }
}

#[test]
fn an_additive_patch_names_what_is_added_and_nothing_else() {
    let pod = json!({"metadata": {}, "spec": {
        "containers": [{"name": "app", "env": [{"name": "A", "value": "1"}]}],
        "volumes": [{"name": "cache"}],
    }});
    let settings = support::with_role();
    let facts = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    let additive = Webhook::new(Options::default()).unwrap();
    let patch = patch_of(&additive.admit(&review("orchard", &pod), |_| facts));
    let mount_path = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
    let volume = json!({"name": "aws-iam-token", "projected": {"sources": [{"serviceAccountToken":
        {"audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token"}}]}});
    let role = json!({"name": "AWS_ROLE_ARN", "value": ROLE});
    let file =
        json!({"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": format!("{mount_path}/token")});
    let mount = json!({"name": "aws-iam-token", "readOnly": true, "mountPath": mount_path});
    assert_eq!(
        patch,
        json!([
            {"op": "add", "path": "/spec/volumes/0", "value": volume},
            {"op": "add", "path": "/spec/containers/0/env/-", "value": role},
            {"op": "add", "path": "/spec/containers/0/env/-", "value": file},
            {"op": "add", "path": "/spec/containers/0/volumeMounts", "value": [mount]},
        ])
    );

    let association = Facts {
        association: Some(AssociationFact::default()),
        ..facts
    };
    let paths = |pod: &Value, facts: Facts<'_>, webhook: &Webhook| {
        let patch = patch_of(&webhook.admit(&review("orchard", pod), |_| facts));
        let list = patch.as_array().unwrap().iter();
        list.map(|operation| operation["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let replace = Webhook::new(Options {
        patch_style: PatchStyle::Replace,
        ..Options::default()
    })
    .unwrap();
    let app = json!([{"name": "app"}]);
    let label = "/metadata/labels/eks.amazonaws.com~1pod-identity";
    let init = json!({"containers": app, "initContainers": [{"name": "i", "env": [], "volumeMounts": []}]});
    let cases: &[(Value, &[&str], &[&str])] = &[
        (
            json!({"spec": {"containers": app}}),
            &[
                "/metadata",
                "/spec/volumes",
                "/spec/containers/0/env",
                "/spec/containers/0/volumeMounts",
            ],
            &["/metadata", "/spec/volumes", "/spec/containers"],
        ),
        (
            json!({"metadata": {"labels": null}, "spec": {"containers": app, "volumes": []}}),
            &[
                "/metadata/labels",
                "/spec/volumes/0",
                "/spec/containers/0/env",
                "/spec/containers/0/volumeMounts",
            ],
            &["/metadata/labels", "/spec/volumes/0", "/spec/containers"],
        ),
        (
            json!({"metadata": {"labels": {}}, "spec": init}),
            &[
                label,
                "/spec/volumes",
                "/spec/containers/0/env",
                "/spec/containers/0/volumeMounts",
                "/spec/initContainers/0/env/-",
                "/spec/initContainers/0/env/-",
                "/spec/initContainers/0/volumeMounts/-",
            ],
            &[
                label,
                "/spec/volumes",
                "/spec/containers",
                "/spec/initContainers",
            ],
        ),
    ];
    for (pod, expected, whole) in cases {
        assert_eq!(paths(pod, association, &additive), *expected, "{pod}");
        assert_eq!(paths(pod, association, &replace), *whole, "{pod}");
    }
}

#[test]
fn lists_as_a_whole_keep_the_text_of_what_was_there() {
    let body = br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","namespace":"orchard",
        "object":{"spec":{"containers":[{"z":1e400,"name":"app", "env" : [ {"name":"A","value":"\u00e9"} ] ,"big":123456789012345678901234567890,"futureField":{"b":1,"a":[]}}]}}}}"#;
    let settings = support::with_role();
    let facts = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    let options = Options {
        patch_style: PatchStyle::Replace,
        ..Options::default()
    };
    let webhook = Webhook::new(options).unwrap();
    let review = Review::parse(body).unwrap();
    let decision = webhook.decide(&review, &facts);
    let json = String::from_utf8(decision.patch.unwrap().json().to_vec()).unwrap();
    for kept in [
        r#"[{"z":1e400,"name":"app","env":[ {"name":"A","value":"\u00e9"} ,{"name":"AWS_ROLE_ARN""#,
        r#""big":123456789012345678901234567890,"futureField":{"b":1,"a":[]},"volumeMounts":[{"#,
    ] {
        assert!(json.contains(kept), "{json}");
    }
}

#[test]
fn lifetimes_of_container_mode_are_drawn_from_their_range() {
    let webhook = Webhook::new(Options::default()).unwrap();
    let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "app"}]}});
    let body = review("orchard", &pod);
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..6_000_u64 {
        let facts = Facts {
            association: Some(AssociationFact::default()),
            random: step.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ..Facts::NOTHING
        };
        let review = Review::parse(&body).unwrap();
        let decision = webhook.decide(&review, &facts);
        let credentials = decision.credentials.unwrap();
        assert!(credentials.is_lifetime_drawn);
        seen.insert(credentials.lifetime.value);
    }
    assert!(
        seen.first()
            .is_some_and(|first| (79_200..79_250).contains(first))
    );
    assert!(
        seen.last()
            .is_some_and(|last| (86_350..=86_400).contains(last))
    );
    assert!(seen.len() > 3_000);
}

#[test]
fn a_decision_tells_the_whole_story() {
    let settings = AccountSettings::from_annotations(
        PREFIX,
        [
            ("eks.amazonaws.com/role-arn", ROLE),
            ("eks.amazonaws.com/token-expiration", "172800"),
        ],
    );
    let facts = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    let pod = pod(
        &json!({"annotations": {"skip-containers": "mesh"}, "spec": {
            "nodeSelector": {"kubernetes.io/os": "windows"},
            "containers": [{"name": "mesh"}, {"name": "app", "env": [{"name": "AWS_ROLE_ARN"}]}],
        }}),
        PREFIX,
    );
    let body = review("orchard", &pod);
    let review = Review::parse(&body).unwrap();
    let webhook = Webhook::new(
        Flags::parse(["--aws-default-region=eu-west-1"])
            .unwrap()
            .options,
    )
    .unwrap();
    assert_eq!(
        webhook.decide(&review, &facts).to_string(),
        "account: orchard/picker\n\
         IRSA: role arn:aws:iam::210987654321:role/orchard-reader, from the annotation of the service account\n\
         audience: sts.amazonaws.com, from the configuration\n\
         token lifetime: 86400 s, from the service account\n\
         regional STS: false, from the configuration\n\
         for Windows, by node label kubernetes.io/os\n\
         containers[0] `mesh`: skipped, as the pod asks\n\
         containers[1] `app`: credentials there already, mount added, region added\n\
         volume: added\n\
         warning: pod identity: lifetime 172800 of the service account lowered to 86400 s, the longest allowed\n\
         mutated"
    );
    let facts = Facts {
        association: Some(AssociationFact {
            id: Some("a-0b1c2d3e4f5061728"),
            pattern: Some("orch*/picker"),
        }),
        ..Facts::NOTHING
    };
    let story = webhook.decide(&review, &facts).to_string();
    for line in [
        "Pod Identity: association a-0b1c2d3e4f5061728, by pattern `orch*/picker`\n",
        "token lifetime: 79200 s, from the default, drawn\n",
        "no agent on Windows and no role: the pod may get the node's role",
    ] {
        assert!(story.contains(line), "{story}");
    }
}

//! What EKS does not know: patterns of names, and names, tags and life of sessions (pod identity spec, sections 6 and 9).

use std::sync::Arc;

use countersign_server::aws::{AwsApi, KeyRing};
use countersign_server::metrics::Metrics;
use countersign_store::{Directory, Quotas, Random, RootKey, Sealer};
use tokio::sync::watch;

use super::*;
use crate::store_away::{Behind, Line};

const MEMBERS: [&str; 4] = [
    "sessionNameTemplate",
    "sessionTags",
    "extraSessionTags",
    "durationSeconds",
];

fn all_members() -> Value {
    json!({
        "sessionNameTemplate": "{namespace}-{pod}",
        "sessionTags": ["kubernetes-namespace", "eks-cluster-arn"],
        "extraSessionTags": {"team": "orchard", "app": "{label:app.kubernetes.io/name}"},
        "durationSeconds": 7200,
    })
}

/// The members of our own in an answer.
fn own(answer: &Value) -> Value {
    let association = answer["association"].as_object().unwrap();
    let own = association
        .iter()
        .filter(|(name, _)| MEMBERS.contains(&name.as_str()));
    own.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[tokio::test]
async fn what_is_said_of_sessions_is_shown_kept_and_taken_away() {
    let world = world().await;
    let made = world
        .associate("orchard", "picker", all_members())
        .await
        .ok();
    assert_eq!(own(&made), all_members());
    let id = made["association"]["associationId"].as_str().unwrap();
    let shown = world
        .eks(&world.ana, "GET", &path(id), &Value::Null)
        .await
        .ok();
    assert_eq!(own(&shown), all_members());
    // Updates one after the other, and what is left of the members.
    let mut left = all_members();
    for (update, name, value) in [
        (json!({"roleArn": OTHER}), "", Value::Null),
        (
            json!({"durationSeconds": 900}),
            "durationSeconds",
            json!(900),
        ),
        (
            json!({"durationSeconds": 0}),
            "durationSeconds",
            Value::Null,
        ),
        (
            json!({"sessionNameTemplate": "x-{uuid}"}),
            "sessionNameTemplate",
            json!("x-{uuid}"),
        ),
        (
            json!({"sessionNameTemplate": ""}),
            "sessionNameTemplate",
            Value::Null,
        ),
        (
            json!({"sessionTags": ["kubernetes-pod-name"]}),
            "sessionTags",
            json!(["kubernetes-pod-name"]),
        ),
        (json!({"sessionTags": []}), "sessionTags", Value::Null),
        (
            json!({"extraSessionTags": {"a": "b"}}),
            "extraSessionTags",
            json!({"a": "b"}),
        ),
        (
            json!({"extraSessionTags": {}}),
            "extraSessionTags",
            Value::Null,
        ),
    ] {
        if value.is_null() {
            left.as_object_mut().unwrap().remove(name);
        } else {
            left[name] = value;
        }
        let reply = world.eks(&world.ana, "POST", &path(id), &update).await.ok();
        assert_eq!(own(&reply), left, "{update}");
    }
    assert_eq!(left, json!({}));
    // One without them has none of them, and lists never.
    let plain = world.associate("orchard", "plain", json!({})).await.ok();
    assert_eq!(own(&plain), json!({}));
    world.associate("orchard", "full", all_members()).await.ok();
    let listed = world
        .eks(&world.ana, "GET", TARGET, &Value::Null)
        .await
        .ok();
    for association in listed["associations"].as_array().unwrap() {
        assert!(
            MEMBERS.iter().all(|name| association.get(name).is_none()),
            "{association}"
        );
    }
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_and_changes_nothing() {
    let world = world().await;
    let target = json!({"targetRoleArn": ELSEWHERE});
    let bare = json!({"disableSessionTags": true});
    let none = json!({});
    // What there is, what is said, and the refusal; created at once, and by an update.
    for (before, said, text) in [
        (
            &none,
            json!({"sessionNameTemplate": "{nobody}"}),
            "sessionNameTemplate has the placeholder {nobody}",
        ),
        (
            &none,
            json!({"sessionNameTemplate": "{uuid}-{uuid}"}),
            "sessionNameTemplate gives names of 73",
        ),
        (
            &none,
            json!({"sessionNameTemplate": "a b"}),
            "sessionNameTemplate has ' '",
        ),
        (
            &none,
            json!({"sessionTags": ["kubernetes-node"]}),
            "sessionTags: `kubernetes-node` is none of the six",
        ),
        (
            &none,
            json!({"sessionTags": ["eks-cluster-arn", "eks-cluster-arn"]}),
            "sessionTags names eks-cluster-arn twice",
        ),
        (
            &bare,
            json!({"sessionTags": ["eks-cluster-arn"]}),
            "sessionTags and extraSessionTags cannot be given",
        ),
        (
            &bare,
            json!({"extraSessionTags": {"a": "b"}}),
            "sessionTags and extraSessionTags cannot be given",
        ),
        (
            &none,
            json!({"extraSessionTags": {"Kubernetes-Namespace": "b"}}),
            "extraSessionTags must not have the key kubernetes-namespace",
        ),
        (
            &none,
            json!({"extraSessionTags": {"aws:a": "b"}}),
            "extraSessionTags: aws:a begins with aws:",
        ),
        (
            &none,
            json!({"extraSessionTags": {"a": "{label:}"}}),
            "extraSessionTags: a names a label",
        ),
        (
            &none,
            json!({"extraSessionTags": {"a": "{pod}"}}),
            "extraSessionTags: a is no tag",
        ),
        (
            &none,
            json!({"durationSeconds": 899}),
            "durationSeconds must be between 900 and 43200",
        ),
        (
            &none,
            json!({"durationSeconds": 43_201}),
            "durationSeconds must be between 900 and 43200",
        ),
        (
            &none,
            json!({"durationSeconds": -1}),
            "durationSeconds must be between",
        ),
        (
            &none,
            json!({"durationSeconds": 4_294_968_196_u64}),
            "durationSeconds must be between",
        ),
        (
            &target,
            json!({"durationSeconds": 3601}),
            "durationSeconds must be between 900 and 3600, as the association has a target role",
        ),
    ] {
        let mut whole = before.clone();
        for (name, value) in said.as_object().unwrap() {
            whole[name] = value.clone();
        }
        world
            .associate("orchard", "picker", whole)
            .await
            .invalid(text);
        let id = world.associated("orchard", "picker", before.clone()).await;
        let shown = || async {
            world
                .eks(&world.ana, "GET", &path(&id), &Value::Null)
                .await
                .ok()
        };
        let first = shown().await;
        world
            .eks(&world.ana, "POST", &path(&id), &said)
            .await
            .invalid(text);
        assert_eq!(shown().await, first, "{said}");
        world
            .eks(&world.ana, "DELETE", &path(&id), &Value::Null)
            .await
            .ok();
    }
    world
        .associate("orchard", "picker", json!({"sessionTags": []}))
        .await
        .invalid("sessionTags must name at least one tag");
    for (said, kind) in [
        (json!({"sessionTags": "all"}), "an array"),
        (json!({"extraSessionTags": []}), "an object"),
        (json!({"durationSeconds": "900"}), "an integer"),
    ] {
        let reply = world.associate("orchard", "picker", said).await;
        assert_eq!(
            (reply.status, &*reply.code),
            (400, "SerializationException"),
            "{kind}: {reply:?}"
        );
    }
    // What an update takes away is judged with what stays.
    let id = world
        .associated("orchard", "picker", json!({"durationSeconds": 7200}))
        .await;
    let chain = json!({"targetRoleArn": ELSEWHERE});
    let reply = world.eks(&world.ana, "POST", &path(&id), &chain).await;
    reply.invalid("durationSeconds must be between 900 and 3600");
    let both = json!({"targetRoleArn": ELSEWHERE, "durationSeconds": 0});
    world.eks(&world.ana, "POST", &path(&id), &both).await.ok();
}

#[tokio::test]
async fn patterns_are_taken_and_each_is_one_association() {
    let world = world().await;
    let no_pattern = "is no pattern. A pattern is the beginning of a name and one * at its end";
    for (namespace, account, refused) in [
        ("dev-*", "cart", None),
        ("*", "*", None),
        ("dev", "cart.a*", None),
        ("dev", "cart.*", None),
        ("dev-*", "cart", Some("Association already exists: a-")),
        ("*-dev", "cart", Some(no_pattern)),
        ("d*v", "cart", Some(no_pattern)),
        ("dev**", "cart", Some(no_pattern)),
        ("-*", "cart", Some(no_pattern)),
        ("Dev*", "cart", Some(no_pattern)),
        ("dev.*", "cart", Some(no_pattern)),
        ("dev", ".*", Some(no_pattern)),
        ("dev", "a..*", Some(no_pattern)),
        (
            "dev?",
            "cart",
            Some("It should conform to the regular expression ^[a-z0-9]"),
        ),
    ] {
        let reply = world.associate(namespace, account, json!({})).await;
        match refused {
            None => {
                let made = reply.ok();
                assert_eq!(made["association"]["namespace"], namespace);
                assert_eq!(made["association"]["serviceAccount"], account);
            }
            Some(text) => {
                assert!(reply.status >= 400, "{namespace}/{account}: {reply:?}");
                assert!(
                    reply.message().contains(text),
                    "{namespace}/{account}: {reply:?}"
                );
            }
        }
    }
    let longest = format!("{}*", "n".repeat(63));
    let reply = world.associate(&longest, "cart", json!({})).await;
    assert!(reply.message().contains(no_pattern), "{reply:?}");
    // The external id has the pattern, as a condition would.
    let more = json!({"targetRoleArn": ELSEWHERE, "disableSessionTags": true});
    let made = world.associate("team-*", "cart", more).await.ok();
    assert_eq!(
        made["association"]["externalId"],
        "us-east-1/111122223333/c1/team-*/cart"
    );
}

#[tokio::test]
async fn lists_say_which_association_is_in_force() {
    let world = world().await;
    for (namespace, account) in [
        ("*", "*"),
        ("dev-*", "*"),
        ("dev-a", "cart"),
        ("dev-*", "cart*"),
        ("prod", "cart"),
    ] {
        world.associated(namespace, account, json!({})).await;
    }
    for (query, expected) in [
        (
            "namespace=dev-a&serviceAccount=cart&matching=true",
            vec!["dev-a/cart", "dev-*/cart*", "dev-*/*", "*/*"],
        ),
        (
            "namespace=dev-b&serviceAccount=cart&matching=true",
            vec!["dev-*/cart*", "dev-*/*", "*/*"],
        ),
        (
            "namespace=meadow&serviceAccount=mower&matching=true",
            vec!["*/*"],
        ),
        // What the same request is on AWS: the filters are names.
        ("namespace=dev-b&serviceAccount=cart", vec![]),
        ("namespace=dev-b&serviceAccount=cart&matching=false", vec![]),
        ("namespace=dev-*&serviceAccount=cart*", vec!["dev-*/cart*"]),
        ("namespace=dev-*&serviceAccount=cart*&matching=true", vec![]),
    ] {
        let target = format!("{TARGET}?{}", query.replace('*', "%2A"));
        let listed = world
            .eks(&world.ana, "GET", &target, &Value::Null)
            .await
            .ok();
        let names: Vec<String> = listed["associations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                format!(
                    "{}/{}",
                    one["namespace"].as_str().unwrap(),
                    one["serviceAccount"].as_str().unwrap()
                )
            })
            .collect();
        assert_eq!(names, expected, "{query}");
    }
    let half = format!("{TARGET}?namespace=dev-a&matching=true");
    let reply = world.eks(&world.ana, "GET", &half, &Value::Null).await;
    reply.invalid("matching lists the associations for one service account");
}

#[tokio::test]
async fn with_extensions_off_the_api_is_that_of_eks() {
    let mut world = world().await;
    let kept = world.associated("dev-*", "cart", all_members()).await;
    world.api = world.api.with_eks(EksOptions {
        extensions: false,
        ..EksOptions::default()
    });
    for (name, value) in all_members().as_object().unwrap() {
        let off =
            format!("The parameter {name} is none of EKS's, and podIdentity.extensions is off");
        let said = json!({name: value});
        world
            .associate("orchard", "picker", said.clone())
            .await
            .invalid(&off);
        world
            .eks(&world.ana, "POST", &path(&kept), &said)
            .await
            .invalid(&off);
    }
    let reply = world.associate("dev-*", "other", json!({})).await;
    reply.invalid("The parameter namespace contains invalid characters. It should conform to the regular expression ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$");
    world.associate("orchard", "picker", json!({})).await.ok();
    // What is there stays, and can be changed and deleted.
    let change = json!({"roleArn": OTHER});
    let changed = world
        .eks(&world.ana, "POST", &path(&kept), &change)
        .await
        .ok();
    assert_eq!(own(&changed), all_members());
    let matching = format!("{TARGET}?namespace=dev-a&serviceAccount=cart&matching=true");
    let listed = world
        .eks(&world.ana, "GET", &matching, &Value::Null)
        .await
        .ok();
    assert_eq!(listed["associations"][0]["associationId"], kept.as_str());
    world
        .eks(&world.ana, "DELETE", &path(&kept), &Value::Null)
        .await
        .ok();
}

/// Warnings by how they begin.
#[tokio::test]
async fn what_may_not_be_meant_is_told() {
    let world = world().await;
    let on_tag = |tag: &str, value: &str| {
        let key = format!("aws:RequestTag/{tag}");
        pods(BOTH, json!({"StringEquals": {key: value}}))
    };
    let (hopeless, uid) = (
        "the conditions of the trust policy",
        "tests kubernetes-pod-uid",
    );
    let (labels, chained) = ("is from a label", "a role that pods assume further");
    let few = json!({"sessionTags": ["kubernetes-namespace"]});
    let labelled = json!({"extraSessionTags": {"app": "{label:app}"}});
    let cases = [
        (
            "exact",
            on_tag("kubernetes-namespace", "dev-a"),
            ("dev-a", "cart"),
            json!({}),
            vec![chained],
        ),
        (
            "another",
            on_tag("kubernetes-namespace", "dev-a"),
            ("dev-b", "cart"),
            json!({}),
            vec![hopeless, chained],
        ),
        (
            "pattern",
            on_tag("kubernetes-namespace", "dev-a"),
            ("dev-*", "cart"),
            json!({}),
            vec![chained],
        ),
        (
            "account pattern",
            on_tag("kubernetes-service-account", "x"),
            ("dev-a", "*"),
            json!({}),
            vec![chained],
        ),
        (
            "not among the tags",
            on_tag("eks-cluster-name", "c1"),
            ("dev-a", "cart"),
            few.clone(),
            vec![hopeless],
        ),
        (
            "few tags",
            pods(BOTH, Value::Null),
            ("dev-a", "cart"),
            few,
            vec![],
        ),
        (
            "label",
            on_tag("app", "cart"),
            ("dev-a", "cart"),
            labelled.clone(),
            vec![labels, chained],
        ),
        (
            "another label",
            on_tag("tier", "cart"),
            ("dev-a", "cart"),
            labelled,
            vec![hopeless, labels, chained],
        ),
        (
            "pod uid",
            on_tag("kubernetes-pod-uid", "0f1e"),
            ("dev-a", "cart"),
            json!({}),
            vec![uid, chained],
        ),
    ];
    for (name, trust, (namespace, account), more, expected) in cases {
        let arn = world.role("Trying", &trust).await;
        let mut more = more;
        more["roleArn"] = json!(arn);
        let reply = world.associate(namespace, account, more).await;
        let warnings = reply.warnings();
        for text in [hopeless, uid, labels, chained] {
            let told = warnings.iter().any(|warning| warning.contains(text));
            assert_eq!(
                told,
                expected.contains(&text),
                "{name}: {text}: {warnings:?}"
            );
        }
        let made = reply.ok();
        let id = made["association"]["associationId"].as_str().unwrap();
        world
            .eks(&world.ana, "DELETE", &path(id), &Value::Null)
            .await
            .ok();
        world
            .directory
            .delete_role(world.account, "Trying")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_write_that_this_replica_does_not_see_is_answered_as_pending() {
    let mut world = world().await;
    let line = Arc::new(watch::Sender::new(Line::Open));
    let store = Behind {
        inner: Arc::clone(&world.store) as _,
        line: Arc::clone(&line),
    };
    let sealer = Sealer::new(&RootKey::from_bytes([7; 32]), &[]).unwrap();
    let opened = Directory::open(Arc::new(store), sealer, Random::system(), Quotas::default());
    let directory = opened.await.unwrap();
    world.keys = Arc::new(KeyRing::new(directory.feed().clone()));
    let metrics = Arc::new(Metrics::new());
    world.api = AwsApi::new(
        Arc::clone(&world.keys),
        directory.clone(),
        metrics,
        0,
        false,
    );
    let pending = |reply: &Reply| {
        let value = reply.headers.get("x-countersign-pending");
        value.map(|value| value.to_str().unwrap().parse::<u64>().unwrap())
    };
    let seen = world.associate("orchard", "seen", json!({})).await;
    assert_eq!(pending(&seen), None, "{seen:?}");
    line.send_replace(Line::Blind);
    let blind = world.associate("orchard", "blind", json!({})).await;
    let revision = pending(&blind).expect("it waits for two seconds, and not for ever");
    let made = blind.ok();
    let id = made["association"]["associationId"].as_str().unwrap();
    let unknown = world.eks(&world.ana, "GET", &path(id), &Value::Null).await;
    assert_eq!(unknown.status, 404, "{unknown:?}");
    line.send_replace(Line::Open);
    let reached = countersign_store::Revision::new(revision);
    directory.feed().wait_for(reached).await.unwrap();
    world
        .eks(&world.ana, "GET", &path(id), &Value::Null)
        .await
        .ok();
    let deleted = world
        .eks(&world.ana, "DELETE", &path(id), &Value::Null)
        .await;
    assert_eq!(pending(&deleted), None, "{deleted:?}");
}

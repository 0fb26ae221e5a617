//! Random pods, accounts and options: nothing is lost, both styles agree, and the second call changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use countersign_pods::*;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};
use support::{additions, apply, patch_of, review};

/// JSON that no version of Kubernetes has a field for.
fn unknown() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z/~\"]{1,4}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// An object of these members, each of which may be missing; some lists are null.
fn object(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let members = members.into_iter().map(|(name, value)| {
        prop_oneof![2 => Just(None), 1 => Just(Some(Value::Null)), 6 => value.prop_map(Some)]
            .prop_map(move |value| (name, value))
    });
    let members: Vec<_> = members.collect();
    (members, prop::option::of(("future[A-Z]{1,3}", unknown())))
        .prop_map(|(members, future)| {
            let members = members.into_iter();
            let mut map: Map<String, Value> = members
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect();
            map.extend(future);
            Value::Object(map)
        })
        .boxed()
}

fn container() -> impl Strategy<Value = Value> {
    let names = vec![
        "A",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_STS_REGIONAL_ENDPOINTS",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_ENDPOINT_URL_STS",
        "AWS_ROLE_SESSION_NAME",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_CONFIG_FILE",
    ];
    let env = subsequence(names, 0..6).prop_shuffle().prop_map(|names| {
        names
            .into_iter()
            .map(|n| json!({"name": n, "value": "v"}))
            .collect()
    });
    let mounts = vec![
        json!({"name": "cache", "mountPath": "/cache"}),
        json!({"name": "aws-iam-token", "mountPath": "/elsewhere"}),
        json!({"name": "eks-pod-identity-token", "mountPath": "/elsewhere2"}),
        json!({"name": "cache", "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount"}),
        json!({"name": "cache", "mountPath": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/"}),
    ];
    let mounts = subsequence(mounts, 0..3).prop_map(Value::from);
    let rest = object(vec![
        ("env", env.boxed()),
        ("volumeMounts", mounts.boxed()),
        ("restartPolicy", Just(json!("Always")).boxed()),
        ("startupProbe", unknown().boxed()),
    ]);
    (select(vec!["app", "mesh", "log", "\"odd\\"]), rest).prop_map(|(name, mut container)| {
        let members = container.as_object_mut().unwrap();
        members.insert("name".to_owned(), json!(name));
        container
    })
}

fn pod() -> impl Strategy<Value = Value> {
    let list = |count| {
        prop::collection::vec(container(), count)
            .prop_map(Value::from)
            .boxed()
    };
    let volumes = vec![
        json!({"name": "cache", "emptyDir": {}}),
        json!({"name": "aws-iam-token", "hostPath": {"path": "/"}}),
        json!({"name": "eks-pod-identity-token", "projected": {"sources": []}}),
    ];
    let volumes = subsequence(volumes, 0..3).prop_map(Value::from).boxed();
    let systems = select(vec![
        json!({"kubernetes.io/os": "windows"}),
        json!({"a": "b"}),
        json!({}),
    ]);
    let contexts = select(vec![
        json!({}),
        json!({"fsGroup": 3}),
        json!({"runAsUser": 1}),
    ]);
    let labels = select(vec![
        json!({}),
        json!({"app": "x"}),
        json!({"eks.amazonaws.com/pod-identity": "enabled"}),
        json!({"eks.amazonaws.com/pod-identity": "no", "a~b/c": "d"}),
    ]);
    let annotations = select(vec![
        json!({}),
        json!({"eks.amazonaws.com/skip-containers": "mesh, log"}),
        json!({"eks.amazonaws.com/skip-containers": "a\"b", "eks.amazonaws.com/fs-group": "9"}),
        json!({"eks.amazonaws.com/token-expiration": "1200", "eks.amazonaws.com/fs-group": "x"}),
        json!({"note": "{\"a\":\"\\u00e9\"}"}),
        json!({"eks.amazonaws.com/aws-config": "[profile own]"}),
    ]);
    let spec = object(vec![
        ("volumes", volumes),
        ("containers", list(0..4)),
        ("initContainers", list(0..3)),
        ("ephemeralContainers", list(0..2)),
        ("nodeSelector", systems.boxed()),
        ("securityContext", contexts.boxed()),
        ("schedulingGates", unknown().boxed()),
    ]);
    let metadata = object(vec![
        ("labels", labels.boxed()),
        ("annotations", annotations.boxed()),
    ]);
    object(vec![
        ("metadata", metadata),
        ("spec", spec),
        ("status", unknown().boxed()),
    ])
}

fn options() -> impl Strategy<Value = Options> {
    let switches = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    switches.prop_map(
        |(region, sts, session_name, metadata, extra, profiles)| Options {
            role_profiles: profiles,
            default_region: region.then(|| "eu-west-1".to_owned()),
            regional_sts: sts,
            inject_session_name: session_name,
            disable_imds_env: metadata,
            extra_env: match extra {
                true => vec![
                    "AWS_ENDPOINT_URL_STS=https://sts.orchard.svc"
                        .parse()
                        .unwrap(),
                ],
                false => Vec::new(),
            },
            ..Options::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_patch_adds_loses_nothing_and_is_enough_the_first_time(
        pod in pod(),
        options in options(),
        association in any::<bool>(),
        random in any::<u64>(),
    ) {
        let roles = [
            ("eks.amazonaws.com/role-arn", support::ROLE),
            ("eks.amazonaws.com/role-arn.reader", support::ROLE),
        ];
        let settings = AccountSettings::from_annotations(support::PREFIX, roles);
        let facts = Facts {
            account: AccountFact::Known(&settings),
            association: association.then(AssociationFact::default),
            random,
            ..Facts::NOTHING
        };
        let mut results = Vec::new();
        for patch_style in [PatchStyle::Additive, PatchStyle::Replace] {
            let webhook = Webhook::new(Options { patch_style, ..options.clone() }).unwrap();
            let answer = webhook.admit(&review("orchard", &pod), |_| facts);
            prop_assert_eq!(answer.status, 200);
            let patch = patch_of(&answer);
            let operations = patch.as_array().map(Vec::as_slice).unwrap_or_default();
            for operation in operations {
                prop_assert_eq!(&operation["op"], "add");
            }
            let once = apply(&pod, &patch);
            // Takes what was added away again, and compares what is left with the pod that came.
            results.push(additions(&pod, &once));
            let later = Facts { random: random.wrapping_add(1), ..facts };
            let patch = patch_of(&webhook.admit(&review("orchard", &once), |_| later));
            prop_assert!(patch_style == PatchStyle::Replace || patch.is_null(), "{}", patch);
            prop_assert_eq!(&apply(&once, &patch), &once);
        }
        prop_assert_eq!(&results[0], &results[1]);
    }

    #[test]
    fn the_order_of_entries_does_not_matter(
        keys in prop::collection::vec("[ab*]{1,3}/[ab*]{1,3}", 0..12),
        namespace in "[ab]{1,3}",
        account in "[ab]{1,3}",
    ) {
        let mut keys = keys;
        keys.sort();
        keys.dedup();
        let table = |keys: &[String]| {
            AccountTable::build(keys.iter().map(|key| (key.clone(), key.clone()))).0
        };
        let forward = table(&keys);
        keys.reverse();
        let backward = table(&keys);
        let found = forward.find(&namespace, &account);
        prop_assert_eq!(found, backward.find(&namespace, &account));
        // An oracle that tries each key by splitting instead of going back.
        fn matches(pattern: &[u8], text: &[u8]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some((b'*', rest)) => (0..=text.len()).any(|at| matches(rest, text.get(at..).unwrap_or_default())),
                Some((byte, rest)) => text.split_first().is_some_and(|(first, text)| first == byte && matches(rest, text)),
            }
        }
        let whole = format!("{namespace}/{account}");
        let any = keys.iter().any(|key| {
            let (space, name) = key.split_once('/').unwrap();
            matches(space.as_bytes(), namespace.as_bytes()) && matches(name.as_bytes(), account.as_bytes())
        });
        prop_assert_eq!(found.is_some(), any);
        if let Some(found) = found {
            prop_assert_eq!(found.key == whole, found.is_exact);
            prop_assert!(found.is_exact || !keys.contains(&whole));
        }
    }
}

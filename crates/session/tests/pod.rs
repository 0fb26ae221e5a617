//! Names, tags and life of the sessions of pods.

use countersign_arn::{Tag, is_session_name};
use countersign_session::pod::{ExtraValue, NameTemplate, PodNames};
use countersign_session::{PodSessions, PodTag};
use proptest::prelude::*;

const UUID: &str = "6b1e0c58-1c2d-4e3f-8a9b-0c1d2e3f4a5b";
const NAMES: PodNames<'static> = PodNames {
    cluster: "orchard",
    namespace: "shop",
    service_account: "cart",
    pod: "cart-7d4b9c-x2z8q",
    pod_uid: "0f1e2d3c-1c2d-4e3f-8a9b-0c1d2e3f4a5b",
    uuid: UUID,
};

#[test]
fn templates_give_their_names() {
    let long = PodNames {
        cluster: "production-eu-west-1-blue",
        namespace: "payments-and-invoices",
        service_account: "worker",
        pod: "payments-worker-5f6d8c9b7-abcde.with.dots.and.more.and.more",
        ..NAMES
    };
    let strange = PodNames {
        namespace: "\u{e4}/b",
        pod: "p\u{1f600}d *",
        pod_uid: "\u{e4}",
        ..NAMES
    };
    let short = PodNames { pod: "a", ..NAMES };
    let cases = [
        (NAMES, "{pod}", "cart-7d4b9c-x2z8q".to_owned()),
        (
            NAMES,
            "{namespace}={service_account}",
            "shop=cart".to_owned(),
        ),
        (
            NAMES,
            "msk-{cluster}.{pod_uid8}",
            "msk-orchard.0f1e2d3c".to_owned(),
        ),
        (NAMES, "{uuid}", UUID.to_owned()),
        (NAMES, "x{uuid}@{cluster}", format!("x{UUID}@orchard")),
        (NAMES, "fixed", "fixed".to_owned()),
        // 64 - 36 - 2 = 26 characters for two names: the longest is cut first.
        (
            long,
            "{service_account}-{pod}-{uuid}",
            format!("worker-payments-worker-5f6d-{UUID}"),
        ),
        (
            long,
            "{cluster}-{pod}-{uuid}",
            format!("production-eu-payments-work-{UUID}"),
        ),
        (long, "{pod}", long.pod.to_owned()),
        (
            long,
            "{cluster}.{namespace}.{service_account}.{pod}",
            "production-eu-west.payments-and-invoi.worker.payments-worker-5f".to_owned(),
        ),
        (
            strange,
            "{namespace}{pod}{pod_uid8}",
            "--bp-d---".to_owned(),
        ),
        (short, "{pod}", "a-".to_owned()),
    ];
    for (names, template, expected) in cases {
        let parsed = NameTemplate::parse(template).unwrap();
        let name = parsed.render(&names);
        assert_eq!(name, expected, "{template}");
        assert!(is_session_name(&name), "{name}");
        assert_eq!(
            parsed.is_stable(),
            !template.contains("{uuid}"),
            "{template}"
        );
    }
}

#[test]
fn templates_that_can_give_no_name_are_refused() {
    let long = "x".repeat(65);
    let longer = "x".repeat(257);
    let cases = [
        ("", "1 to 256"),
        (&*longer, "1 to 256"),
        ("x", "one character"),
        (&*long, "65 characters or more"),
        ("{uuid}-{uuid}", "73 characters or more"),
        ("{pod", "brace"),
        ("pod}", "brace"),
        ("{{pod}}", "{pod"),
        ("{}", "placeholder"),
        ("{Pod}", "placeholder"),
        ("{pod_uid}", "placeholder"),
        ("a/{pod}", "'/'"),
        ("a {pod}", "' '"),
        ("\u{e4}{pod}", "'\u{e4}'"),
    ];
    for (template, text) in cases {
        let problem = NameTemplate::parse(template).unwrap_err().to_string();
        assert!(problem.contains(text), "{template}: {problem}");
    }
    // The most that fits: 36 characters of the UUID, one of the pod and 27 between.
    let most = format!("{{uuid}}{}{{pod}}", "x".repeat(27));
    assert!(NameTemplate::parse(&most).is_ok());
    let more = format!("{{uuid}}{}{{pod}}", "x".repeat(28));
    assert!(NameTemplate::parse(&more).is_err());
}

proptest! {
    #[test]
    fn every_template_that_is_taken_gives_session_names(
        template in r"(\{(cluster|namespace|service_account|pod|pod_uid8|uuid)\}|[a-z@.-]{0,6}){1,6}",
        names in prop::array::uniform5(".{0,80}"),
    ) {
        let [cluster, namespace, service_account, pod, pod_uid] = &names;
        if let Ok(template) = NameTemplate::parse(&template) {
            let names = PodNames { cluster, namespace, service_account, pod, pod_uid, uuid: UUID };
            let name = template.render(&names);
            prop_assert!(is_session_name(&name), "{}", name);
            prop_assert_eq!(name, template.render(&names));
        }
    }
}

fn tags(pairs: &[(&str, &str)]) -> Vec<Tag> {
    let tag = |(key, value): &(&str, &str)| Tag {
        key: (*key).into(),
        value: (*value).into(),
    };
    pairs.iter().map(tag).collect()
}

#[test]
fn what_goes_together_is_taken_and_the_rest_is_refused_with_its_member() {
    let none = PodSessions::default();
    let extra = |pairs: &[(&str, &str)]| PodSessions {
        extra_tags: tags(pairs),
        ..none.clone()
    };
    let chosen = |tags: &[PodTag]| PodSessions {
        tags: Some(tags.to_vec()),
        ..none.clone()
    };
    let lasting = |seconds| PodSessions {
        duration_seconds: Some(seconds),
        ..none.clone()
    };
    let named = |template: &str| PodSessions {
        name_template: Some(template.into()),
        ..none.clone()
    };
    let long_key = "k".repeat(129);
    let long_value = "v".repeat(257);
    let many: Vec<(String, &str)> = (0..45).map(|n| (format!("k{n}"), "v")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (&**key, *value)).collect();
    let forty_four = many.get(..44).unwrap();
    let one_of_six = PodSessions {
        tags: Some(vec![PodTag::Namespace]),
        ..extra(&many)
    };
    // Sessions, tags disabled, target role, and what the refusal says.
    let cases = [
        (none.clone(), true, true, None),
        (named("{pod}"), true, true, None),
        (
            named("{nobody}"),
            false,
            false,
            Some("sessionNameTemplate has the placeholder {nobody}"),
        ),
        (
            chosen(&[PodTag::Namespace, PodTag::ClusterArn]),
            false,
            true,
            None,
        ),
        (chosen(&PodTag::ALL), false, false, None),
        (chosen(&[]), false, false, Some("at least one")),
        (
            chosen(&[PodTag::PodName, PodTag::Namespace, PodTag::PodName]),
            false,
            false,
            Some("kubernetes-pod-name twice"),
        ),
        (
            chosen(&[PodTag::Namespace]),
            true,
            false,
            Some("disableSessionTags"),
        ),
        (
            extra(&[("team", "shop")]),
            true,
            false,
            Some("disableSessionTags"),
        ),
        (
            extra(&[
                ("team", "shop"),
                ("app", "{label:app.kubernetes.io/name}"),
                ("empty", ""),
            ]),
            false,
            false,
            None,
        ),
        (
            extra(&[("app", "{label:}")]),
            false,
            false,
            Some("no object can have"),
        ),
        (
            extra(&[("app", "{label:a b}")]),
            false,
            false,
            Some("no object can have"),
        ),
        (
            extra(&[("app", "{label:-a}")]),
            false,
            false,
            Some("no object can have"),
        ),
        (
            extra(&[("app", "{label:Ex.com/a}")]),
            false,
            false,
            Some("no object can have"),
        ),
        (
            extra(&[("app", "{label:a/b/c}")]),
            false,
            false,
            Some("no object can have"),
        ),
        (
            extra(&[("app", "{labels:app}")]),
            false,
            false,
            Some("app is no tag"),
        ),
        (
            extra(&[("app", "x{label:app}")]),
            false,
            false,
            Some("app is no tag"),
        ),
        (extra(&[("", "v")]), false, false, Some("is no tag")),
        (extra(&[(&long_key, "v")]), false, false, Some("is no tag")),
        (
            extra(&[("k", &long_value)]),
            false,
            false,
            Some("k is no tag"),
        ),
        (extra(&[("k", "a\tb")]), false, false, Some("k is no tag")),
        (
            extra(&[("kubernetes-namespace", "v")]),
            false,
            false,
            Some("kubernetes-namespace"),
        ),
        (
            extra(&[("Eks-Cluster-ARN", "v")]),
            false,
            false,
            Some("eks-cluster-arn"),
        ),
        (extra(&[("AWS:x", "v")]), false, false, Some("reserved")),
        (
            extra(&[("Team", "a"), ("team", "b")]),
            false,
            false,
            Some("team twice"),
        ),
        (extra(forty_four), false, false, None),
        (extra(&many), false, false, Some("at most 50")),
        (one_of_six, false, false, None),
        (lasting(900), false, false, None),
        (lasting(43_200), true, false, None),
        (lasting(899), false, false, Some("between 900 and 43200")),
        (lasting(43_201), false, false, Some("between 900 and 43200")),
        (lasting(3600), false, true, None),
        (
            lasting(3601),
            false,
            true,
            Some("between 900 and 3600, as the association has a target role"),
        ),
        (lasting(0), false, false, Some("between")),
    ];
    for (sessions, disabled, target, refused) in cases {
        match (sessions.check(disabled, target), refused) {
            (Ok(()), None) => {}
            (Err(error), Some(text)) => {
                let error = error.to_string();
                assert!(error.contains(text), "{sessions:?}: {error}");
            }
            (got, _) => panic!("{sessions:?}: {got:?}"),
        }
    }
}

#[test]
fn tags_and_labels_are_told() {
    let sessions = PodSessions {
        tags: Some(vec![PodTag::Namespace]),
        extra_tags: tags(&[("a", "{label:x/y}"), ("b", "c"), ("d", "{label:e}")]),
        ..PodSessions::default()
    };
    assert!(sessions.has(PodTag::Namespace) && !sessions.has(PodTag::PodUid));
    assert!(
        PodTag::ALL
            .iter()
            .all(|tag| PodSessions::default().has(*tag))
    );
    assert_eq!(sessions.labels().collect::<Vec<_>>(), ["x/y", "e"]);
    assert_eq!(ExtraValue::of("{label:e}"), ExtraValue::Label("e"));
    assert_eq!(ExtraValue::of("label:e"), ExtraValue::Constant("label:e"));
    for tag in PodTag::ALL {
        assert_eq!(tag.key().parse(), Ok(tag));
        assert_eq!(serde_json::to_value(tag).unwrap(), tag.key());
    }
    assert!("Kubernetes-Namespace".parse::<PodTag>().is_err());
}

//! Pods and accounts that somebody made to hurt: bounded, and nothing of them leaks.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use countersign_pods::*;
use serde_json::{Value, json};
use support::{additions, apply, patch_of, response, review};

fn webhook(patch_style: PatchStyle) -> Webhook {
    let options = Options {
        patch_style,
        ..Options::default()
    };
    Webhook::new(options).unwrap()
}

fn containers(count: usize, container: impl Fn(usize) -> Value) -> Value {
    let list: Vec<Value> = (0..count).map(container).collect();
    json!({"metadata": {}, "spec": {"containers": list}})
}

const STYLES: [PatchStyle; 2] = [PatchStyle::Additive, PatchStyle::Replace];

#[test]
fn a_thousand_containers_are_filled_and_too_many_are_refused() {
    let settings = support::with_role();
    let facts = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    let pod = containers(1000, |at| json!({"name": format!("c{at}")}));
    for style in STYLES {
        let after = apply(
            &pod,
            &patch_of(&webhook(style).admit(&review("n", &pod), |_| facts)),
        );
        let lines = additions(&pod, &after);
        assert_eq!(lines.len(), 1001);
        assert!(lines[1..].iter().all(|line| line.ends_with(": IRSA +mnt")));
    }
    let pod = containers(MAX_CONTAINERS + 1, |_| json!({"name": "c"}));
    let answer = webhook(PatchStyle::Additive).admit(&review("n", &pod), |_| facts);
    let response = response(&answer);
    assert_eq!(response["allowed"], false);
    assert_eq!(
        response["status"]["message"],
        "pod identity: the pod has 8193 containers, more than 8192"
    );
}

#[test]
fn a_role_of_a_quarter_megabyte_does_not_become_gigabytes() {
    let role = format!("{}/{}", support::ROLE, "a".repeat(250_000));
    let settings = AccountSettings::from_annotations(
        support::PREFIX,
        [("eks.amazonaws.com/role-arn", role.as_str())],
    );
    let facts = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    let pod = containers(8000, |_| json!({"name": "c"}));
    for style in STYLES {
        let webhook = webhook(style);
        let body = review("n", &pod);
        let parsed = Review::parse(&body).unwrap();
        let decision = webhook.decide(&parsed, &facts);
        assert_eq!(decision.outcome, Outcome::Refused(Refusal::PatchTooLong));
        assert!(decision.to_string().len() < 1 << 20);
        let answer = webhook.answer(&parsed, &decision);
        assert!(answer.body.len() < 1000);
    }
}

#[test]
fn depth_outside_of_what_is_read_costs_nothing_and_inside_is_refused() {
    let (open, close) = ("[".repeat(500_000), "]".repeat(500_000));
    let settings = support::with_role();
    let facts = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    let body = |spec: String| {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u","namespace":"n","object":{{"spec":{spec}}}}}}}"#
        )
    };
    let cases = [
        (
            body(format!(
                r#"{{"future":{open}{close},"containers":[{{"name":"c","deep":{open}{close}}}]}}"#
            )),
            true,
        ),
        (body(format!(r#"{{"containers":{open}{close}}}"#)), false),
        (body(format!(r#"{{"affinity":{open}{close}}}"#)), false),
    ];
    for (body, allowed) in cases {
        for style in STYLES {
            let answer = webhook(style).admit(body.as_bytes(), |_| facts);
            assert_eq!(response(&answer)["allowed"], allowed);
            assert_eq!(response(&answer).get("patch").is_some(), allowed);
        }
    }
}

#[test]
fn a_long_list_of_containers_to_skip_is_looked_up_not_searched() {
    let names: Vec<String> = (0..30_000).map(|at| format!("n{at}")).collect();
    let mut pod = containers(8000, |at| json!({"name": format!("n{at}")}));
    pod["metadata"]["annotations"] = json!({"eks.amazonaws.com/skip-containers": names.join(",")});
    let settings = support::with_role();
    let facts = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    let body = review("n", &pod);
    let parsed = Review::parse(&body).unwrap();
    let webhook = webhook(PatchStyle::Additive);
    let decision = webhook.decide(&parsed, &facts);
    assert_eq!(
        decision.outcome,
        Outcome::Unmodified(Unmodified::AllSkipped)
    );
    assert_eq!(decision.notes.iter().count(), MAX_NOTES);
}

#[test]
fn warnings_are_few_short_plain_and_hold_no_values() {
    let odd = [
        "\u{202e}evil",
        "a\r\nSet-Cookie: x",
        "é",
        "\u{0}",
        "\"quoted\"",
        "`tick`",
    ];
    let pod = containers(600, |at| {
        json!({"name": format!("{}-{at}-{}", odd[at % odd.len()], "x".repeat(at)), "env": [
            {"name": "AWS_SECRET_ACCESS_KEY", "value": "VERYSECRET"},
            {"name": "AWS_ROLE_ARN", "value": "VERYSECRET"},
            {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "VERYSECRET"},
            {"name": "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "value": "VERYSECRET"},
        ], "volumeMounts": [{"name": "x", "mountPath": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"}]})
    });
    let facts = Facts {
        association: Some(AssociationFact::default()),
        ..Facts::NOTHING
    };
    let webhook = webhook(PatchStyle::Additive);
    let answer = webhook.admit(&review("n", &pod), |_| facts);
    let response = response(&answer);
    let warnings = response["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), MAX_NOTES + 1);
    assert_eq!(warnings[MAX_NOTES], "pod identity: and 2370 more warnings");
    for warning in warnings {
        let warning = warning.as_str().unwrap();
        assert!(warning.len() <= MAX_WARNING_CHARS, "{warning}");
        assert!(
            warning.bytes().all(|b| (b' '..=b'~').contains(&b)),
            "{warning}"
        );
    }
    assert!(
        warnings
            .iter()
            .map(|w| w.as_str().unwrap().len())
            .sum::<usize>()
            < 4096
    );
    assert!(
        !String::from_utf8(answer.body)
            .unwrap()
            .contains("VERYSECRET")
    );
    assert!(
        !patch_of(&webhook.admit(&review("n", &pod), |_| facts))
            .to_string()
            .contains("VERYSECRET")
    );
}

#[test]
fn every_kind_of_warning_fits_its_limit_with_the_longest_names() {
    let long = "\u{202e}".repeat(500);
    let profile = |why| Note::ProfileIgnored {
        profile: &long,
        why,
    };
    let notes = [
        Note::OtherKind(long.clone()),
        Note::RoleIsNoArn(long.clone()),
        Note::StaticKeys { container: &long },
        Note::RelativeUri { container: &long },
        Note::WebIdentityFirst { container: &long },
        Note::SkipsUnknown(long.clone()),
        Note::SkipListBroken,
        Note::LifetimeUnreadable(Origin::ServiceAccount, long.clone()),
        Note::LifetimeRaised(Origin::ServiceAccount, i64::MIN),
        Note::LifetimeLowered {
            origin: Origin::ServiceAccount,
            asked: i64::MAX,
            to: u32::MAX,
        },
        Note::RegionalStsUnreadable(long.clone()),
        Note::VolumeIsAnother(&long),
        Note::MountPathTaken { container: &long },
        Note::NoAgent(NoAgent::Windows),
        Note::NoAgent(NoAgent::NodeClass(&long)),
        Note::IrsaForLackOfAgent(NoAgent::NodeClass(&long)),
        Note::AccountUnread,
        Note::AssociationExpected,
        Note::FsGroupIgnored(FsGroupIgnored::NotAGroup),
        Note::FsGroupIgnored(FsGroupIgnored::Windows),
        profile(ProfileIgnored::Name),
        profile(ProfileIgnored::Role),
        profile(ProfileIgnored::TooMany),
        Note::ProfilesIgnored(ProfilesIgnored::Association),
        Note::ProfilesIgnored(ProfilesIgnored::NoRole),
        Note::ProfilesIgnored(ProfilesIgnored::Volume),
        Note::ConfigKept,
    ];
    for note in notes {
        let text = note.to_string();
        assert!(text.len() <= MAX_WARNING_CHARS, "{} {text}", text.len());
        assert!(text.is_ascii());
    }
}

/// Hostile bodies of nearly the largest size must not become many times as much memory. What is kept for an item is
/// measured by what the process may allocate, in `memory.rs`; here is what they are answered.
#[test]
fn lists_of_next_to_nothing_are_counted_or_refused() {
    let body = |pod: String| {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u","namespace":"n","object":{pod}}}}}"#
        )
    };
    let many = |item: &str| vec![item; 50_000].join(",");
    let named = many(r#"{"name":""}"#);
    let facts = Facts {
        association: Some(AssociationFact::default()),
        ..Facts::NOTHING
    };
    let terms =
        r#"{"matchExpressions":[{"key":"kubernetes.io/os","operator":"In","values":["windows"]}]}"#;
    let affinity = |terms: String| {
        format!(
            r#"{{"spec":{{"containers":[{{"name":"c"}}],"affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{terms}]}}}}}}}}}}"#
        )
    };
    let values = |values: String| {
        affinity(format!(
            r#"{{"matchExpressions":[{{"key":"kubernetes.io/os","operator":"In","values":[{values}]}}]}}"#
        ))
    };
    let cases = [
        (
            format!(r#"{{"spec":{{"containers":[{named}]}}}}"#),
            "pod identity: the pod has 50000 containers, more than 8192",
            "",
        ),
        (
            format!(r#"{{"spec":{{"containers":[{}]}}}}"#, many("{}")),
            "pod identity: the pod cannot be read: a field",
            "",
        ),
        (
            format!(
                r#"{{"spec":{{"containers":[{{"name":"c","env":[{}]}}]}}}}"#,
                many("{}")
            ),
            "pod identity: the pod cannot be read: a field",
            "",
        ),
        (
            format!(r#"{{"metadata":{{"labels":{{{}}}}}}}"#, many(r#""":"""#)),
            "pod identity: the pod cannot be read: a field",
            "",
        ),
        (affinity(many(terms)), "", ""),
        (values(many(r#""windows""#)), "", ""),
        (affinity(terms.to_owned()), "", "no_agent"),
        (values(r#""windows","windows""#.to_owned()), "", "no_agent"),
    ];
    for (pod, message, note) in cases {
        let body = body(pod);
        let webhook = webhook(PatchStyle::Additive);
        let answer = response(&webhook.admit(body.as_bytes(), |_| facts));
        let said = answer["status"]["message"].as_str().unwrap_or_default();
        assert!(
            said.starts_with(message) && said.is_empty() == message.is_empty(),
            "{said}"
        );
        if message.is_empty() {
            let review = Review::parse(body.as_bytes()).unwrap();
            let decision = webhook.decide(&review, &facts);
            let codes: Vec<_> = decision.notes.iter().map(Note::code).collect();
            assert_eq!(codes.join(","), note);
        }
    }
}

#[test]
fn a_request_without_a_namespace_is_refused() {
    let pod = containers(1, |_| json!({"name": "c"}));
    let facts = Facts {
        association: Some(AssociationFact::default()),
        ..Facts::NOTHING
    };
    let answer = webhook(PatchStyle::Additive).admit(&review("", &pod), |_| facts);
    assert_eq!(
        response(&answer)["status"]["message"],
        "pod identity: the request names no namespace"
    );
}

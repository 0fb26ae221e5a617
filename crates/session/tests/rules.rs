//! Durations, chaining, tags, source identity, sizes, and what sessions may call.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

mod common;

use std::collections::BTreeMap;

use common::*;
use countersign_arn::Tag;
use countersign_session::duration::{
    DurationOf, role_seconds, token_seconds, web_identity_token_seconds,
};
use countersign_session::{
    Call, Chain, Code, ExtraPermissions, MAX_DEPTH, Refusal, SessionKind, SessionPolicies,
    SessionPrincipal, SessionRecord, SessionTags, StsCall, aws_tag_percent, check_call,
    check_plain_policy_size, effective_tags, packed_policy_percent,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Durations {
    role: Vec<DurationCase>,
    token: Vec<DurationCase>,
}

#[derive(Deserialize)]
struct DurationCase {
    asked: Option<i64>,
    #[serde(default)]
    max: u32,
    #[serde(default)]
    chained: bool,
    #[serde(default)]
    root: bool,
    seconds: Option<u32>,
    error: Option<String>,
}

#[test]
fn durations_follow_the_table() {
    let table: Durations = serde_json::from_str(include_str!("data/durations.json")).unwrap();
    let check = |case: &DurationCase, got: Result<u32, Refusal>| match got {
        Ok(seconds) => assert_eq!(Some(seconds), case.seconds, "{:?}", case.asked),
        Err(refusal) => {
            assert_eq!(refusal.code, Code::ValidationError);
            assert_eq!(Some(&*refusal.message), case.error.as_deref());
        }
    };
    for case in &table.role {
        check(case, role_seconds(case.asked, case.max, case.chained));
    }
    for case in &table.token {
        for call in [DurationOf::SessionToken, DurationOf::FederationToken] {
            check(case, token_seconds(call, case.asked, case.root));
        }
    }
}

#[test]
fn a_web_identity_token_does_not_outlive_the_session_that_asks() {
    let caller = role_session();
    let seconds = |asked, now| web_identity_token_seconds(asked, Some(&caller), at(now));
    assert_eq!(seconds(None, 0), Ok(300));
    assert_eq!(seconds(Some(3600), 0), Ok(3600));
    assert_eq!(seconds(Some(60), 3540), Ok(60));
    let refused = seconds(Some(61), 3540).unwrap_err();
    assert_eq!(refused.code.as_str(), "SessionDurationEscalationException");
    assert_eq!(refused.code.status(), 403);
    assert_eq!(seconds(None, 3301).unwrap_err().code, refused.code);
    assert_eq!(
        seconds(Some(59), 0).unwrap_err().code,
        Code::ValidationError
    );
    assert_eq!(
        web_identity_token_seconds(Some(3600), None, at(1 << 20)),
        Ok(3600)
    );
}

#[test]
fn a_call_is_chained_when_the_caller_is_a_role_session() {
    assert!(!Chain::of(None).is_chained());
    for caller in every_kind() {
        let chained = matches!(caller.principal, SessionPrincipal::Role { .. });
        assert_eq!(
            Chain::of(Some(&caller)).is_chained(),
            chained,
            "{:?}",
            caller.kind
        );
        let seconds = Chain::of(Some(&caller)).role_seconds(Some(3601), 43_200);
        assert_eq!(seconds.is_err(), chained);
    }
}

#[test]
fn the_eleventh_session_of_a_chain_is_refused() {
    let mut caller = role_session();
    assert_eq!(Chain::of(None).next_depth(), Ok(1));
    for depth in 1..MAX_DEPTH {
        caller.depth = depth;
        assert_eq!(Chain::of(Some(&caller)).next_depth(), Ok(depth + 1));
    }
    for depth in [MAX_DEPTH, MAX_DEPTH + 1, u8::MAX] {
        caller.depth = depth;
        let refused = Chain::of(Some(&caller)).next_depth().unwrap_err();
        assert_eq!(refused.code, Code::AccessDenied);
    }
    let from_user = session(SessionKind::SessionToken, user());
    assert_eq!(Chain::of(Some(&from_user)).next_depth(), Ok(1));
}

#[derive(Deserialize)]
struct TagCase {
    name: String,
    #[serde(default)]
    inherited: BTreeMap<String, String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    list: Vec<(String, String)>,
    transitive: Vec<String>,
    result: Option<Vec<(String, String, String)>>,
    code: Option<String>,
    error: Option<String>,
}

fn tags<'t>(pairs: impl IntoIterator<Item = (&'t String, &'t String)>) -> Vec<Tag> {
    pairs
        .into_iter()
        .map(|(key, value)| tag(key, value))
        .collect()
}

fn caller_with(transitive: &[Tag]) -> SessionRecord {
    let mut caller = role_session();
    let keys: Vec<&str> = transitive.iter().map(|tag| &*tag.key).collect();
    caller.tags = Chain::of(None).session_tags(transitive, &keys).unwrap();
    caller
}

#[test]
fn session_tags_follow_the_table() {
    let table: Vec<TagCase> = serde_json::from_str(include_str!("data/tags.json")).unwrap();
    for case in table {
        let caller = caller_with(&tags(&case.inherited));
        let mut requested = tags(&case.tags);
        requested.extend(tags(case.list.iter().map(|(key, value)| (key, value))));
        match Chain::of(Some(&caller)).session_tags(&requested, &case.transitive) {
            Ok(tags) => {
                let got: Vec<_> = tags
                    .iter()
                    .map(|tag| {
                        let flags = match (tag.transitive, tag.inherited) {
                            (true, true) => "ti",
                            (true, false) => "t",
                            (false, false) => "-",
                            (false, true) => "i",
                        };
                        (
                            tag.tag.key.to_string(),
                            tag.tag.value.to_string(),
                            flags.to_owned(),
                        )
                    })
                    .collect();
                assert_eq!(Some(got), case.result, "{}", case.name);
            }
            Err(refusal) => {
                assert_eq!(
                    Some(refusal.code.as_str()),
                    case.code.as_deref(),
                    "{}",
                    case.name
                );
                assert_eq!(refusal.code.status(), 400, "{}", case.name);
                if let Some(error) = case.error {
                    assert_eq!(refusal.message, error, "{}", case.name);
                }
            }
        }
    }
}

#[test]
fn lengths_and_numbers_of_tags_are_limited() {
    let chain = Chain::of(None);
    let none: [&str; 0] = [];
    let message = |tags: &[Tag]| chain.session_tags(tags, &none).map_err(|r| r.message);
    assert!(message(&[tag(&"k".repeat(128), &"v".repeat(256))]).is_ok());
    assert!(message(&[tag(&"ä".repeat(128), &"ä".repeat(256))]).is_ok());
    let long_key = message(&[tag(&"k".repeat(129), "")]).unwrap_err();
    assert!(long_key.ends_with("Member must have length less than or equal to 128"));
    let long_value = message(&[tag("k", &"v".repeat(257))]).unwrap_err();
    assert!(long_value.ends_with("Member must have length less than or equal to 256"));
    let many = |n: usize| -> Vec<Tag> { (0..n).map(|i| tag(&format!("k{i}"), "")).collect() };
    assert!(message(&many(50)).is_ok());
    let too_many = message(&many(51)).unwrap_err();
    assert!(
        too_many.contains("at 'tags' failed") && too_many.ends_with("less than or equal to 50"),
        "{too_many}"
    );
    let keys = vec!["k"; 51];
    assert!(chain.session_tags(&many(1), &keys).is_err());
}

/// The example of the STS spec, section 5.2.
#[test]
fn transitive_tags_travel_through_the_documented_chain() {
    let heart = [tag("Heart", "1")];
    let first_tags = [tag("Star", "1"), tag("Heart", "1")];
    let mut first = role_session();
    first.tags = Chain::of(None)
        .session_tags(&first_tags, &["Star", "Heart"])
        .unwrap();
    assert_eq!(
        sorted(effective_tags(&heart, &first.tags)),
        ["Heart=1", "Star=1"]
    );

    let none: [&str; 0] = [];
    let mut second = role_session();
    second.tags = Chain::of(Some(&first)).session_tags(&[], &none).unwrap();
    assert_eq!(
        sorted(effective_tags(&[tag("Sun", "2")], &second.tags)),
        ["Heart=1", "Star=1", "Sun=2"]
    );

    let third_role = [tag("Star", "3"), tag("Lightning", "3")];
    let chain = Chain::of(Some(&second));
    let third = chain.session_tags(&[], &none).unwrap();
    assert_eq!(
        sorted(effective_tags(&third_role, &third)),
        ["Heart=1", "Lightning=3", "Star=1"]
    );
    assert_eq!(
        sorted(chain.target_role_tags(&third_role)),
        ["Lightning=3", "Star=1"],
        "the trust policy sees the inherited value on the role"
    );
    assert!(chain.session_tags(&[tag("Star", "1")], &none).is_err());
}

fn sorted(tags: Vec<Tag>) -> Vec<String> {
    let mut texts: Vec<String> = tags
        .iter()
        .map(|tag| format!("{}={}", tag.key, tag.value))
        .collect();
    texts.sort();
    texts
}

#[test]
fn session_tags_override_the_roles_tags_without_regard_to_case() {
    let session = Chain::of(None)
        .session_tags(&[tag("TEAM", "blue")], &[""; 0])
        .unwrap();
    assert_eq!(
        sorted(effective_tags(
            &[tag("team", "red"), tag("cost", "7")],
            &session
        )),
        ["TEAM=blue", "cost=7"]
    );
}

#[test]
fn a_source_identity_stays_for_the_whole_chain() {
    let mut caller = role_session();
    caller.source_identity = Some("alice.w".into());
    let chain = Chain::of(Some(&caller));
    assert_eq!(chain.source_identity(None), Ok(Some("alice.w".into())));
    assert_eq!(
        chain.source_identity(Some("alice.w")),
        Ok(Some("alice.w".into()))
    );
    for other in ["bob", "Alice.w", "alice.W"] {
        let refused = chain.source_identity(Some(other)).unwrap_err();
        assert_eq!(refused.code, Code::AccessDenied, "{other}");
    }
    let first = Chain::of(None);
    assert_eq!(first.source_identity(None), Ok(None));
    assert_eq!(first.source_identity(Some("bob")), Ok(Some("bob".into())));
}

#[test]
fn a_source_identity_has_two_to_64_characters_and_never_the_reserved_prefix() {
    let chain = Chain::of(None);
    for (text, constraint) in [
        ("a", "Member must have length greater than or equal to 2"),
        ("", "Member must have length greater than or equal to 2"),
        (
            "aws:alice",
            "Member must satisfy regular expression pattern: [\\w+=,.@-]*",
        ),
        (
            "älice",
            "Member must satisfy regular expression pattern: [\\w+=,.@-]*",
        ),
        (
            "a b",
            "Member must satisfy regular expression pattern: [\\w+=,.@-]*",
        ),
    ] {
        let refused = chain.source_identity(Some(text)).unwrap_err();
        assert_eq!(refused.code, Code::ValidationError);
        assert_eq!(
            refused.message,
            format!(
                "1 validation error detected: Value '{text}' at 'sourceIdentity' failed to satisfy constraint: {constraint}"
            )
        );
    }
    assert!(chain.source_identity(Some(&"a".repeat(64))).is_ok());
    assert!(chain.source_identity(Some(&"a".repeat(65))).is_err());
}

#[test]
fn tags_and_source_identities_need_their_own_permissions() {
    let caller = caller_with(&[tag("Star", "1")]);
    let none: [&str; 0] = [];
    let permissions = |caller: Option<&SessionRecord>, requested: &[Tag], source| {
        let chain = Chain::of(caller);
        let tags = chain.session_tags(requested, &none).unwrap();
        let ExtraPermissions {
            tag_session_in_trust,
            tag_session_in_identity,
            set_source_identity,
        } = chain.extra_permissions(&tags, source);
        (
            tag_session_in_trust,
            tag_session_in_identity,
            set_source_identity,
        )
    };
    let team = [tag("team", "blue")];
    assert_eq!(permissions(None, &[], None), (false, false, false));
    assert_eq!(permissions(None, &team, None), (true, true, false));
    assert_eq!(permissions(Some(&caller), &[], None), (true, false, false));
    assert_eq!(permissions(None, &[], Some("bob")), (false, false, true));
}

#[test]
fn request_keys_show_what_was_passed_and_not_what_was_inherited() {
    let caller = caller_with(&[tag("Star", "1")]);
    let tags = Chain::of(Some(&caller))
        .session_tags(&[tag("team", "blue"), tag("cost", "7")], &["TEAM"])
        .unwrap();
    let keys = |tags: Vec<&Tag>| -> Vec<String> {
        tags.into_iter().map(|tag| tag.key.to_string()).collect()
    };
    assert_eq!(keys(tags.requested().collect()), ["team", "cost"]);
    assert_eq!(keys(tags.inherited().collect()), ["Star"]);
    assert_eq!(keys(tags.transitive().collect()), ["Star", "team"]);
    assert_eq!(
        tags.requested_transitive_keys().collect::<Vec<_>>(),
        ["team"]
    );
}

#[test]
fn calls_of_sessions_follow_the_table() {
    type Table = BTreeMap<String, BTreeMap<String, String>>;
    let table: Table = serde_json::from_str(include_str!("data/calls.json")).unwrap();
    let mut with_mfa = session(SessionKind::SessionToken, user());
    with_mfa.mfa_at = Some(at(0));
    for call in StsCall::ALL {
        assert!(table.contains_key(call.name()), "{}", call.name());
    }
    for (call, answers) in &table {
        let call = match call.as_str() {
            "iam" => Call::Iam,
            "other" => Call::Other,
            name => Call::Sts(
                *StsCall::ALL
                    .iter()
                    .find(|call| call.name() == name)
                    .unwrap(),
            ),
        };
        for (caller, expected) in answers {
            let caller = match caller.as_str() {
                "assumed-role" => role_session(),
                "session-token" => session(SessionKind::SessionToken, user()),
                "session-token+mfa" => with_mfa.clone(),
                "root" => session(SessionKind::SessionToken, SessionPrincipal::Root),
                "pod-identity" => session(SessionKind::PodIdentity, role("Dev", "pod-1")),
                "federation" => session(
                    SessionKind::Federation,
                    SessionPrincipal::FederatedUser {
                        creator_id: None,
                        name: "visitor".into(),
                    },
                ),
                other => panic!("{other}"),
            };
            let answer = check_call(&caller, call);
            let text = answer.as_ref().map_or_else(|r| &*r.message, |()| "ok");
            assert_eq!(text, expected, "{call:?} {:?}", caller.kind);
            if let Err(refusal) = answer {
                assert_eq!(refusal.code.status(), 403);
            }
        }
    }
}

fn percent(policies: &SessionPolicies, tags: &[Tag]) -> Result<Option<u8>, Refusal> {
    packed_policy_percent(policies, tags.iter())
}

#[test]
fn packed_size_is_absent_without_policies_and_tags() {
    assert_eq!(percent(&SessionPolicies::default(), &[]), Ok(None));
}

#[test]
fn packed_size_does_not_depend_on_the_order_of_tags() {
    let mut tags: Vec<Tag> = (0..9)
        .map(|n| tag(&format!("key-{n}"), &format!("value {n}")))
        .collect();
    let one = percent(&SessionPolicies::default(), &tags);
    tags.reverse();
    assert_eq!(one, percent(&SessionPolicies::default(), &tags));
    assert!(matches!(one, Ok(Some(1..=20))), "{one:?}");
}

#[test]
fn packed_size_rounds_up_and_one_byte_is_one_percent() {
    let policies = SessionPolicies {
        inline: Some("{}".into()),
        arns: Vec::new(),
    };
    assert_eq!(percent(&policies, &[]), Ok(Some(1)));
}

#[test]
fn more_than_the_space_is_refused_with_the_percentage() {
    let mut random = Random(3);
    let mut noise = |length: usize| -> String {
        (0..length)
            .map(|_| char::from(b'0' + u8::try_from(random.below(10)).unwrap()))
            .collect()
    };
    let big = SessionPolicies {
        inline: Some(noise(2600).into()),
        arns: Vec::new(),
    };
    let refused = percent(&big, &[]).unwrap_err();
    assert_eq!(refused.code.as_str(), "PackedPolicyTooLarge");
    let number: usize = refused
        .message
        .strip_prefix("Packed policy consumes ")
        .and_then(|rest| rest.strip_suffix("% of allotted space, please use smaller policy."))
        .unwrap()
        .parse()
        .unwrap();
    assert!(number > 100);

    let tags: Vec<Tag> = (0..12)
        .map(|n| tag(&format!("k{n}"), &noise(240)))
        .collect();
    let refused = percent(&SessionPolicies::default(), &tags).unwrap_err();
    assert!(
        refused
            .message
            .starts_with("Packed size of session tags consumes 1"),
        "{}",
        refused.message
    );
}

#[test]
fn policy_and_arns_have_2048_characters_together() {
    let policy = "ä".repeat(2000);
    let check = |arns: &[&str]| check_plain_policy_size(Some(&policy), arns.iter().copied());
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(check(&["arn:aws:iam::aws:policy/ReadOnlyAccess"]), Ok(()));
    assert_eq!(
        check(&["arn:aws:iam::aws:policy/AdministratorAccess-Amplify"])
            .unwrap_err()
            .code,
        Code::PackedPolicyTooLarge
    );
    assert_eq!(check_plain_policy_size(None, std::iter::empty()), Ok(()));
}

#[test]
fn the_estimate_of_awss_limit_knows_the_reported_cases() {
    let six_for_names_of = |length: usize| -> Vec<Tag> {
        [
            ("eks-cluster-arn", 52),
            ("eks-cluster-name", 8),
            ("kubernetes-namespace", length),
            ("kubernetes-service-account", length),
            ("kubernetes-pod-name", length),
            ("kubernetes-pod-uid", 36),
        ]
        .map(|(key, value)| tag(key, &"v".repeat(value)))
        .into()
    };
    let six = aws_tag_percent(six_for_names_of(20).iter());
    assert!((65..=80).contains(&six), "about 74 were reported: {six}");
    assert!(aws_tag_percent(six_for_names_of(80).iter()) > 100);
    assert_eq!(aws_tag_percent([].iter()), 0);
}

#[test]
fn a_session_without_tags_has_none() {
    assert!(SessionTags::default().is_empty());
    assert_eq!(role_session().tags.len(), 0);
}

//! Session tokens: what opens, what does not, what shows, and how long they are.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

mod common;

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::*;
use countersign_arn::unique_id;
use countersign_session::{
    Binding, Chain, Code, Credentials, KeyRing, MAX_TOKEN_CHARS, OpenError, Opened, SealError,
    SessionKind, SessionRecord, TOKEN_BUDGET_CHARS, issue, open, seal,
};

fn issued(record: &SessionRecord) -> Credentials {
    issue(record, &ring(), &deployment(), &random(2), at(0)).unwrap()
}

fn opened(credentials: &Credentials, ring: &KeyRing, seconds: i64) -> Result<Opened, OpenError> {
    let token = credentials.token.expose().as_bytes();
    open(
        token,
        &credentials.access_key_id,
        ring,
        &deployment(),
        at(seconds),
    )
}

#[test]
fn every_kind_of_session_comes_back_from_its_token_with_its_secret() {
    for record in every_kind() {
        let credentials = issued(&record);
        let opened = opened(&credentials, &ring(), 1).unwrap();
        assert_eq!(opened.record(), &record);
        assert_eq!(opened.secret(), &credentials.secret);
        assert_eq!(opened.access_key_id(), &*credentials.access_key_id);
        assert_eq!(opened.token_chars(), credentials.token.len());
        assert_eq!(credentials.expires, record.expires);
    }
}

#[test]
fn a_replica_started_cold_from_the_stored_ring_opens_what_another_sealed() {
    let credentials = issued(&role_session());
    let cold = KeyRing::decode(&ring().encode()).unwrap();
    assert_eq!(
        opened(&credentials, &cold, 1).unwrap().secret(),
        &credentials.secret
    );
}

#[test]
fn issued_ids_are_temporary_keys_of_the_account_and_secrets_have_forty_characters() {
    let credentials = issued(&role_session());
    assert!(credentials.access_key_id.starts_with("ASIA"));
    assert_eq!(credentials.access_key_id.len(), 20);
    assert_eq!(
        unique_id::account_of(&credentials.access_key_id),
        Some(account())
    );
    let secret = credentials.secret.expose();
    assert_eq!(secret.len(), 40);
    assert!(
        secret
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
    );
}

#[test]
fn a_token_with_any_bit_flipped_does_not_open() {
    let credentials = issued(&role_session());
    let token = credentials.token.expose().as_bytes();
    for at_byte in 0..token.len() {
        for bit in 0..8 {
            let mut flipped = token.to_vec();
            flipped[at_byte] ^= 1 << bit;
            let refused = open(
                &flipped,
                &credentials.access_key_id,
                &ring(),
                &deployment(),
                at(1),
            )
            .unwrap_err();
            assert_eq!(
                refused.refusal().code,
                Code::InvalidClientTokenId,
                "byte {at_byte} bit {bit}"
            );
        }
    }
}

#[test]
fn sealed_bytes_with_any_bit_flipped_do_not_open() {
    let credentials = issued(&role_session());
    let (head, body) = credentials.token.expose().rsplit_once('.').unwrap();
    let sealed = URL_SAFE_NO_PAD.decode(body).unwrap();
    for at_bit in 0..8 * sealed.len() {
        let mut flipped = sealed.clone();
        flipped[at_bit / 8] ^= 1 << (at_bit % 8);
        let token = format!("{head}.{}", URL_SAFE_NO_PAD.encode(&flipped));
        let refused = open(
            token.as_bytes(),
            &credentials.access_key_id,
            &ring(),
            &deployment(),
            at(1),
        );
        assert!(
            matches!(refused, Err(OpenError::Forged(_))),
            "bit {at_bit}: {refused:?}"
        );
    }
}

#[test]
fn tokens_that_are_cut_lengthened_or_dressed_up_do_not_open() {
    let credentials = issued(&role_session());
    let token = credentials.token.expose();
    let refused = |token: &str| {
        open(
            token.as_bytes(),
            &credentials.access_key_id,
            &ring(),
            &deployment(),
            at(1),
        )
        .unwrap_err()
    };
    for length in 0..token.len() {
        refused(&token[..length]);
    }
    let (head, body) = token.rsplit_once('.').unwrap();
    let kid = head.strip_prefix("CS1.").unwrap();
    for other in [
        format!("{token}A"),
        format!("{token}="),
        format!("{token}=="),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{token}.{token}"),
        format!("cs1.{kid}.{body}"),
        format!("CS2.{kid}.{body}"),
        format!("CS1.{}.{body}", kid.to_uppercase()),
        format!("CS1..{body}"),
        format!("CS1.{kid}..{body}"),
        format!("CS1.{kid}{}.{body}", "x".repeat(8)),
        format!("CS1.{kid}."),
        format!("CS1.{kid}.AAAA"),
        format!(
            "CS1.{kid}.{}",
            body.replace('-', "+").replace('_', "/") + "+"
        ),
        format!("CS1.{kid}.{}", body.repeat(20)),
        "A".repeat(MAX_TOKEN_CHARS),
        "A".repeat(1 << 20),
        String::new(),
        "FwoGZXIvYXdzEBYaD".into(),
    ] {
        assert_eq!(
            refused(&other).refusal().code,
            Code::InvalidClientTokenId,
            "{}",
            other.chars().take(80).collect::<String>()
        );
    }
}

#[test]
fn a_token_does_not_open_with_another_key_id() {
    let credentials = issued(&role_session());
    let token = credentials.token.expose().as_bytes();
    let with = |key_id: &str| open(token, key_id, &ring(), &deployment(), at(1)).map(drop);
    assert!(matches!(with(KEY_ID), Err(OpenError::Forged(_))));
    let lower = credentials.access_key_id.replace("ASIA", "ASIa");
    for key_id in [
        "AKIARTX3GSDSXFDOCIS2",
        "",
        "ASI",
        &lower,
        "AROARTX3GSDSURLGMXGED",
    ] {
        assert_eq!(with(key_id), Err(OpenError::NotTemporary), "{key_id}");
    }
    let longer = format!("{}A", credentials.access_key_id);
    assert!(matches!(with(&longer), Err(OpenError::Forged(_))));
    let zero = format!("{}\0", credentials.access_key_id);
    assert_eq!(with(&zero), Err(OpenError::NotTemporary));
    let huge = format!("ASIA{}", "A".repeat(1 << 20));
    assert_eq!(with(&huge), Err(OpenError::NotTemporary));
}

#[test]
fn a_token_does_not_open_in_another_deployment_with_the_same_keys() {
    let credentials = issued(&role_session());
    let refused = open(
        credentials.token.expose().as_bytes(),
        &credentials.access_key_id,
        &ring(),
        &"d-0123456789abcdee".parse().unwrap(),
        at(1),
    );
    assert!(matches!(refused, Err(OpenError::Forged(_))));
}

#[test]
fn a_token_of_an_unknown_key_asks_for_the_ring_to_be_reloaded() {
    let credentials = issued(&role_session());
    let other = KeyRing::bootstrap(&new_key(9), at(0)).unwrap();
    let kid = ring().sealing_kid(at(0)).unwrap();
    let refused = opened(&credentials, &other, 1).unwrap_err();
    assert_eq!(refused, OpenError::UnknownKey(kid));
    assert_eq!(refused.refusal().code, Code::InvalidClientTokenId);
}

#[test]
fn another_secret_under_the_same_kid_does_not_open() {
    let credentials = issued(&role_session());
    let mut bytes: [u8; 36] = Random(1).bytes();
    bytes[0] ^= 1;
    let impostor =
        KeyRing::bootstrap(&countersign_session::NewKey::from_random(&bytes), at(0)).unwrap();
    assert_eq!(impostor.sealing_kid(at(0)), ring().sealing_kid(at(0)));
    assert!(matches!(
        opened(&credentials, &impostor, 1),
        Err(OpenError::Forged(_))
    ));
}

#[test]
fn a_token_does_not_open_after_its_key_is_retired() {
    let credentials = issued(&role_session());
    let kid = ring().sealing_kid(at(0)).unwrap();
    let emergency = ring().all_retired(&new_key(9), at(1)).unwrap();
    let refused = opened(&credentials, &emergency, 2).unwrap_err();
    assert_eq!(refused, OpenError::RetiredKey(kid));
    assert_eq!(refused.refusal().code, Code::InvalidClientTokenId);
}

#[test]
fn a_session_is_over_at_its_expiration_and_not_a_second_earlier() {
    let credentials = issued(&role_session());
    assert!(opened(&credentials, &ring(), 3599).is_ok());
    for seconds in [3600, 3601, 1 << 20] {
        let refused = opened(&credentials, &ring(), seconds).unwrap_err();
        assert_eq!(refused, OpenError::Expired(at(3600)));
        assert_eq!(
            refused.refusal().message,
            "The security token included in the request is expired"
        );
        assert_eq!(refused.refusal().code.as_str(), "ExpiredToken");
        assert_eq!(refused.refusal().code.status(), 403);
    }
}

#[test]
fn refused_tokens_are_told_the_text_without_a_full_stop() {
    let refusal = OpenError::Malformed.refusal();
    assert_eq!(refusal.code.as_str(), "InvalidClientTokenId");
    assert_eq!(refusal.code.status(), 403);
    assert_eq!(
        refusal.message,
        "The security token included in the request is invalid"
    );
}

#[test]
fn ten_thousand_tokens_of_one_session_are_pairwise_different() {
    let mut random = Random(77);
    let (mut tokens, mut secrets) = (HashSet::new(), HashSet::new());
    let (ring, deployment, record) = (ring(), deployment(), role_session());
    for _ in 0..10_000 {
        let fresh = countersign_session::SessionRandomness::from_random(&random.bytes());
        let (token, secret) = seal(&record, &ring, &deployment, KEY_ID, &fresh, at(0)).unwrap();
        let body = token.expose().rsplit_once('.').unwrap().1.to_owned();
        assert!(tokens.insert(body));
        assert!(secrets.insert(secret.expose().to_owned()));
    }
}

#[test]
fn nothing_of_a_session_is_readable_in_its_token() {
    let mut record = role_session();
    record.source_identity = Some("alice.w".into());
    record.tags = Chain::of(None)
        .session_tags(&[tag("department", "payments")], &["department"])
        .unwrap();
    let credentials = issued(&record);
    let (_, body) = credentials.token.expose().rsplit_once('.').unwrap();
    let sealed = URL_SAFE_NO_PAD.decode(body).unwrap();
    let contains = |needle: &[u8]| sealed.windows(needle.len()).any(|window| window == needle);
    for clear in [
        "Dev",
        "alice",
        "department",
        "payments",
        "AROA",
        "AKIA",
        credentials.secret.expose(),
    ] {
        assert!(!contains(clear.as_bytes()), "{clear}");
    }
}

#[test]
fn credentials_do_not_print_their_secrets() {
    let credentials = issued(&role_session());
    let opened = opened(&credentials, &ring(), 1).unwrap();
    let printed = format!("{credentials:?} {opened:?} {:?} {:?}", ring(), random(2));
    let body = credentials.token.expose().rsplit_once('.').unwrap().1;
    assert!(!printed.contains(credentials.secret.expose()));
    assert!(!printed.contains(&body[..16]));
    assert!(printed.contains("redacted"));
}

#[test]
fn tokens_need_no_escaping_in_urls() {
    let credentials = issued(&role_session());
    assert!(
        credentials
            .token
            .expose()
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    );
}

#[test]
fn a_plain_role_session_stays_within_the_budget() {
    let mut record = role_session();
    assert!(issued(&record).token.len() <= 160);
    record.principal = role(&"r".repeat(64), &"s".repeat(64));
    let chars = issued(&record).token.len();
    assert!(chars <= TOKEN_BUDGET_CHARS, "{chars}");
}

#[test]
fn a_pod_session_with_its_six_tags_stays_below_nine_hundred_characters() {
    let mut record = session(
        SessionKind::PodIdentity,
        role(
            "orchard-reader",
            "eks-orchard-picker-0-6b1e0c58-1c2d-4e3f-8a9b-0c1d2e3f4a5b",
        ),
    );
    let cluster = "arn:aws:eks:eu-west-1:111122223333:cluster/orchard";
    let tags = [
        tag("eks-cluster-arn", cluster),
        tag("eks-cluster-name", "orchard"),
        tag("kubernetes-namespace", "orchard"),
        tag("kubernetes-service-account", "picker"),
        tag("kubernetes-pod-name", "picker-0"),
        tag("kubernetes-pod-uid", "6b1e0c58-1c2d-4e3f-8a9b-0c1d2e3f4a5b"),
    ];
    let keys: Vec<&str> = tags.iter().map(|tag| &*tag.key).collect();
    record.tags = Chain::of(None).session_tags(&tags, &keys).unwrap();
    record.binding = Binding {
        cluster: Some(cluster.into()),
        namespace: Some("orchard".into()),
        service_account: Some("picker".into()),
        pod_uid: Some("6b1e0c58-1c2d-4e3f-8a9b-0c1d2e3f4a5b".into()),
        node: Some("ip-10-0-1-2.eu-west-1.compute.internal".into()),
        association_id: Some("a-0b1c2d3e4f5061728".into()),
    };
    let credentials = issued(&record);
    assert!(
        credentials.token.len() <= 900,
        "{}",
        credentials.token.len()
    );
    assert_eq!(opened(&credentials, &ring(), 1).unwrap().record(), &record);
}

#[test]
fn a_token_of_2400_characters_is_sealed_and_a_longer_one_is_refused() {
    let mut longest = 0;
    let mut refused = None;
    for length in 1950..2050 {
        let mut record = role_session();
        // Random text hardly deflates, so each character counts.
        let mut random = Random(5);
        let policy: String = (0..length)
            .map(|_| char::from(b'!' + u8::try_from(random.below(93)).unwrap()))
            .collect();
        record.policies.inline = Some(policy.into());
        match issue(&record, &ring(), &deployment(), &self::random(2), at(0)) {
            Ok(credentials) => {
                assert!(refused.is_none(), "a longer policy fits, a shorter did not");
                longest = credentials.token.len();
                assert_eq!(opened(&credentials, &ring(), 1).unwrap().record(), &record);
            }
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    assert!((2396..=2400).contains(&longest), "{longest}");
    let Some(SealError::TooLarge { chars, policies }) = refused else {
        panic!("{refused:?}");
    };
    assert!((2401..2410).contains(&chars), "{chars}");
    assert!(policies);
}

#[test]
fn a_token_that_is_too_long_says_by_how_much_and_because_of_what() {
    let refusal = |chars, policies| SealError::TooLarge { chars, policies }.refusal();
    assert_eq!(refusal(2401, true).code.as_str(), "PackedPolicyTooLarge");
    assert_eq!(refusal(2401, true).code.status(), 400);
    assert_eq!(
        refusal(2401, true).message,
        "Packed policy consumes 101% of allotted space, please use smaller policy."
    );
    assert_eq!(
        refusal(2688, false).message,
        "Packed size of session tags consumes 112% of allotted space."
    );
}

#[test]
fn records_that_break_a_rule_are_not_sealed() {
    type Break = fn(&mut SessionRecord);
    let broken: [(&str, Break); 14] = [
        ("ends before it begins", |r| r.expires = r.issued),
        ("36 hours and a second", |r| {
            r.expires = at(36 * 3600 + 1);
        }),
        ("issued before 1970", |r| {
            r.issued = jiff::Timestamp::from_second(-5).unwrap();
            r.expires = jiff::Timestamp::from_second(5).unwrap();
        }),
        ("session name of one character", |r| {
            r.principal = role("Dev", "a");
        }),
        ("session name with a slash", |r| {
            r.principal = role("Dev", "a/b");
        }),
        ("session name with a colon", |r| {
            r.principal = role("Dev", "a:b");
        }),
        ("empty role name", |r| r.principal = role("", "alice")),
        ("role name with a slash", |r| {
            r.principal = role("x/Dev", "alice");
        }),
        ("role session of a user", |r| r.principal = user()),
        ("web identity without provider", |r| {
            r.kind = SessionKind::WebIdentity;
        }),
        ("SAML with an OIDC provider", |r| {
            r.kind = SessionKind::Saml;
            r.federation = Some(oidc("x"));
        }),
        ("empty policy", |r| r.policies.inline = Some("".into())),
        ("eleven policy ARNs", |r| {
            r.policies.arns = vec!["arn:aws:iam::aws:policy/A".into(); 11];
        }),
        ("source identity with a colon", |r| {
            r.source_identity = Some("aws:x".into());
        }),
    ];
    for (what, breaks) in broken {
        let mut record = role_session();
        breaks(&mut record);
        let refused = issue(&record, &ring(), &deployment(), &random(2), at(0));
        assert!(
            matches!(refused, Err(SealError::Invalid(_))),
            "{what}: {refused:?}"
        );
    }
}

#[test]
fn a_policy_that_would_inflate_beyond_the_limit_is_not_sealed() {
    let mut record = role_session();
    record.policies.inline = Some("a".repeat(8192).into());
    assert_eq!(
        opened(&issued(&record), &ring(), 1).unwrap().record(),
        &record
    );
    record.policies.inline = Some("a".repeat(8193).into());
    assert!(issue(&record, &ring(), &deployment(), &random(2), at(0)).is_err());
}

#[test]
fn a_ring_without_a_usable_key_seals_nothing() {
    let refused = issue(
        &role_session(),
        &KeyRing::default(),
        &deployment(),
        &random(2),
        at(0),
    )
    .unwrap_err();
    assert_eq!(refused, SealError::NoSealingKey);
    assert_eq!(refused.refusal().code.status(), 503);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Golden {
    name: String,
    access_key_id: String,
    token: String,
    secret: String,
    record: serde_json::Value,
}

/// Prints entries for `tests/data/tokens.json`. Entries are added to that file and never changed.
#[test]
#[ignore = "prints data"]
fn print_tokens() {
    let golden: Vec<Golden> = every_kind()
        .into_iter()
        .enumerate()
        .map(|(n, mut record)| {
            if n % 2 == 0 {
                record.policies.inline = Some(
                    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}]}"#.into(),
                );
                record.policies.arns = vec!["arn:aws:iam::aws:policy/ReadOnlyAccess".into()];
                record.tags = Chain::of(None)
                    .session_tags(&[tag("team", "blue"), tag("Größe", "10 µm")], &["TEAM"])
                    .unwrap();
                record.source_identity = Some("alice.w".into());
                record.network = Some("192.0.2.0/24".parse().unwrap());
            }
            if n % 3 == 0 {
                record.mfa_at = Some(at(-5));
                record.binding.cluster = Some("arn:aws:eks:eu-west-1:111122223333:cluster/c".into());
                record.origin.access_key_id = Some("ASIARZPUZDIKKJDEGXDN".into());
                record.origin.request_id = Some("0b7d1c52-7f7e-4c46-9f39-6d2f8c0e51aa".into());
            }
            let credentials = issue(&record, &ring(), &deployment(), &random(u64::try_from(n).unwrap()), at(0)).unwrap();
            Golden {
                name: format!("{n} {}", record.kind.as_str()),
                access_key_id: credentials.access_key_id.to_string(),
                token: credentials.token.expose().into(),
                secret: credentials.secret.expose().into(),
                record: serde_json::to_value(&record).unwrap(),
            }
        })
        .collect();
    println!("{}", serde_json::to_string_pretty(&golden).unwrap());
}

#[test]
fn tokens_of_earlier_releases_open() {
    let golden: Vec<Golden> = serde_json::from_str(include_str!("data/tokens.json")).unwrap();
    assert!(golden.len() >= 13);
    for Golden {
        name,
        access_key_id,
        token,
        secret,
        record,
    } in golden
    {
        let opened = open(
            token.as_bytes(),
            &access_key_id,
            &ring(),
            &deployment(),
            at(1),
        )
        .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(opened.secret().expose(), secret, "{name}");
        assert_eq!(
            serde_json::to_value(opened.record()).unwrap(),
            record,
            "{name}"
        );
    }
}

//! Records as bytes: every record comes back, later fields are ignored, critical ones refused.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

mod common;

use common::*;
use countersign_arn::{AccountId, Partition};
use countersign_session::{
    Binding, Cidr, Federation, Origin, SessionKind, SessionPolicies, SessionPrincipal,
    SessionRecord, SessionTag, SessionTags, fuzz, issue, open,
};
use proptest::prelude::*;

fn text(pattern: &'static str) -> impl Strategy<Value = Box<str>> {
    pattern.prop_map(Into::into)
}

fn maybe<T: std::fmt::Debug>(
    strategy: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(strategy)
}

fn any_principal() -> impl Strategy<Value = (SessionKind, SessionPrincipal)> {
    let path = || {
        prop_oneof![
            Just("/".into()),
            text("/[a-z]{1,8}/"),
            text("/[!-.0-~]{1,9}/x/")
        ]
    };
    let role = (
        prop_oneof![text("AROA[A-Z2-7]{17}"), text("AROA[A-Z0-9]{12,20}")],
        path(),
        text("[A-Za-z0-9_+=,.@-]{1,64}"),
        text("[A-Za-z0-9_+=,.@-]{2,64}"),
    )
        .prop_map(|(id, path, name, session_name)| SessionPrincipal::Role {
            id,
            path,
            name,
            session_name,
        });
    let user = (text("AIDA[A-Z2-7]{17}"), path(), text("[a-z]{1,64}"))
        .prop_map(|(id, path, name)| SessionPrincipal::User { id, path, name });
    let federated = (maybe(text("AIDA[A-Z2-7]{17}")), text("[a-z]{2,32}"))
        .prop_map(|(creator_id, name)| SessionPrincipal::FederatedUser { creator_id, name });
    let of_role = proptest::sample::select(vec![
        SessionKind::AssumedRole,
        SessionKind::WebIdentity,
        SessionKind::Saml,
        SessionKind::PodIdentity,
        SessionKind::IdentityCenter,
        SessionKind::Login,
        SessionKind::Instance,
    ]);
    prop_oneof![
        4 => (of_role, role),
        1 => (Just(SessionKind::SessionToken), user),
        1 => (Just(SessionKind::Federation), federated),
        1 => proptest::sample::select(vec![SessionKind::RootTask, SessionKind::Login])
            .prop_map(|kind| (kind, SessionPrincipal::Root)),
    ]
}

fn any_federation(kind: SessionKind) -> BoxedStrategy<Option<Federation>> {
    let oidc = (
        text("[a-z:/.]{1,40}"),
        text("https://[a-z]{1,20}"),
        text("[a-z.]{1,20}"),
        text("\\PC{1,40}"),
        proptest::collection::vec(text("[a-z]{0,8}"), 0..4),
    )
        .prop_map(
            |(provider, issuer, audience, subject, amr)| Federation::Oidc {
                provider,
                issuer,
                audience,
                subject,
                amr,
            },
        );
    let saml = (
        text("[a-z:/.]{1,40}"),
        text("https://[a-z]{1,20}"),
        text("\\PC{1,40}"),
        maybe(text("[a-z]{1,10}")),
        maybe(text("[A-Za-z0-9+/=]{28}")),
    )
        .prop_map(
            |(provider, issuer, subject, subject_type, name_qualifier)| Federation::Saml {
                provider,
                issuer,
                subject,
                subject_type,
                name_qualifier,
            },
        );
    match kind {
        SessionKind::WebIdentity => oidc.prop_map(Some).boxed(),
        SessionKind::Saml => saml.prop_map(Some).boxed(),
        _ => maybe(prop_oneof![oidc, saml]).boxed(),
    }
}

fn any_tags() -> impl Strategy<Value = SessionTags> {
    let one = (
        "[a-zäж0-9 _.:/=+@-]{1,20}",
        "[A-Zäж0-9 _.:/=+@-]{0,20}",
        0u8..3,
    );
    proptest::collection::vec(one, 0..8).prop_map(|tags| {
        let mut seen = std::collections::HashSet::new();
        let tags = tags
            .into_iter()
            .filter(|(key, ..)| seen.insert(key.to_lowercase()))
            .map(|(key, value, flags)| SessionTag {
                tag: tag(&key, &value),
                transitive: flags > 0,
                inherited: flags > 1,
            })
            .collect();
        SessionTags::new(tags).unwrap()
    })
}

fn any_cidr() -> impl Strategy<Value = Cidr> {
    prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(bits, prefix)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Cidr::new(std::net::Ipv4Addr::from_bits(bits & mask).into(), prefix).unwrap()
        }),
        (any::<u128>(), 0u8..=128).prop_map(|(bits, prefix)| {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Cidr::new(std::net::Ipv6Addr::from_bits(bits & mask).into(), prefix).unwrap()
        }),
    ]
}

fn any_record() -> impl Strategy<Value = SessionRecord> {
    any_principal().prop_flat_map(|(kind, principal)| {
        let policies = (
            maybe(text("[ -~\\u{a0}-\\u{ff}]{1,300}")),
            proptest::collection::vec(text("arn:aws:iam::aws:policy/[a-zA-Z]{1,20}"), 0..3),
        )
            .prop_map(|(inline, arns)| SessionPolicies { inline, arns });
        let origin = (
            maybe(text(
                "(AKIA|ASIA)[A-Z2-7]{16}|AKIARTX3GSDS[A-D][A-Z2-7]{7}|[a-z_]{16,30}",
            )),
            maybe(text(
                "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[A-Z]{1,30}",
            )),
        )
            .prop_map(|(access_key_id, request_id)| Origin {
                access_key_id,
                request_id,
            });
        let binding = (
            maybe(text("[a-z:/]{0,60}")),
            maybe(text("[a-z-]{1,20}")),
            maybe(text("[a-z-]{1,20}")),
            maybe(text(
                "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[a-z]{3}",
            )),
            maybe(text("[a-z.-]{1,40}")),
            maybe(text("a-[a-z0-9]{17}")),
        )
            .prop_map(
                |(cluster, namespace, service_account, pod_uid, node, association_id)| Binding {
                    cluster,
                    namespace,
                    service_account,
                    pod_uid,
                    node,
                    association_id,
                },
            );
        let account = prop_oneof![
            Just(account()),
            (0u64..1_000_000_000_000).prop_map(|n| AccountId::from_number(n).unwrap())
        ];
        let times = (
            0i64..4_000_000_000,
            1i64..=36 * 3600,
            maybe(0i64..4_000_000_000),
        );
        (
            (
                Just(kind),
                Just(principal),
                proptest::sample::select(Partition::ALL.to_vec()),
                account,
                times,
                policies,
                any_tags(),
            ),
            (
                maybe(text("[A-Za-z0-9_+=,.@-]{2,64}")),
                any_federation(kind),
                any::<u8>(),
                origin,
                binding,
                maybe(any_cidr()),
            ),
        )
            .prop_map(|(first, second)| {
                let (kind, principal, partition, account, times, policies, tags) = first;
                let (source_identity, federation, depth, origin, binding, network) = second;
                let (issued, life, mfa_at) = times;
                let moment = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
                SessionRecord {
                    kind,
                    partition,
                    account,
                    principal,
                    issued: moment(issued),
                    expires: moment(issued + life),
                    policies,
                    tags,
                    source_identity,
                    mfa_at: mfa_at.map(moment),
                    federation,
                    depth,
                    origin,
                    binding,
                    network,
                }
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_comes_back_from_its_token(record in any_record()) {
        let issued = issue(&record, &ring(), &deployment(), &random(3), at(0));
        let Ok(issued) = issued else {
            // Only a record with a long policy and everything else as well is too large.
            prop_assert!(record.policies.inline.is_some() || !record.tags.is_empty());
            return Ok(());
        };
        let opened = open(
            issued.token.expose().as_bytes(),
            &issued.access_key_id,
            &ring(),
            &deployment(),
            record.issued,
        );
        prop_assert_eq!(opened.as_ref().map(|opened| opened.record()).ok(), Some(&record));
    }

    #[test]
    fn fractions_of_seconds_are_dropped(nanos in 0i32..1_000_000_000) {
        let mut record = role_session();
        record.issued = jiff::Timestamp::new(NOW, nanos).unwrap();
        let issued = issue(&record, &ring(), &deployment(), &random(3), at(0)).unwrap();
        let opened = open(issued.token.expose().as_bytes(), &issued.access_key_id, &ring(), &deployment(), at(1)).unwrap();
        prop_assert_eq!(opened.record().issued, at(0));
    }
}

/// The plaintext of a plain role session with one more field in front of the others' end.
fn with_field(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = fuzz::plaintext_of(&role_session());
    assert_eq!(bytes[0] >> 5, 5, "a map of fewer than 24 entries");
    bytes[0] += 1;
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    bytes
}

#[test]
fn unknown_fields_are_ignored_and_unknown_critical_ones_refused() {
    let decoded = |bytes: &[u8]| fuzz::decoded(bytes);
    assert_eq!(
        decoded(&with_field(&[0x18, 30], &[0x82, 1, 0x61, b'x'])),
        Ok(role_session())
    );
    assert_eq!(
        decoded(&with_field(&[0x19, 0x03, 0xe7], &[0xf6])),
        Ok(role_session()),
        "999"
    );
    for key in [[0x19, 0x03, 0xe8], [0x19, 0xff, 0xff]] {
        let error = decoded(&with_field(&key, &[0xf6])).unwrap_err();
        assert!(error.to_string().contains("critical"), "{error}");
    }
}

#[test]
fn plaintext_that_is_cut_anywhere_is_refused() {
    let bytes = fuzz::plaintext_of(&role_session());
    assert_eq!(fuzz::decoded(&bytes), Ok(role_session()));
    for length in 0..bytes.len() {
        assert!(fuzz::decoded(&bytes[..length]).is_err(), "cut to {length}");
    }
}

#[test]
fn a_session_bound_to_a_network_is_used_from_there_alone() {
    let mut session = role_session();
    let (inside, outside) = (
        "192.0.2.7".parse().unwrap(),
        "198.51.100.7".parse().unwrap(),
    );
    assert!(session.allows_address(inside) && session.allows_address(outside));
    session.network = Some("192.0.2.0/24".parse().unwrap());
    assert!(session.allows_address(inside));
    assert!(!session.allows_address(outside));
    assert!(!session.allows_address("2001:db8::1".parse().unwrap()));
}

#[test]
fn decoded_tags_obey_the_rules_of_tags() {
    let tags = |tags: &[(&str, bool, bool)]| {
        SessionTags::new(
            tags.iter()
                .map(|(key, transitive, inherited)| SessionTag {
                    tag: tag(key, "v"),
                    transitive: *transitive,
                    inherited: *inherited,
                })
                .collect(),
        )
    };
    assert!(tags(&[("a", true, true), ("b", false, false)]).is_ok());
    assert!(
        tags(&[("a", false, true)]).is_err(),
        "inherited, not transitive"
    );
    assert!(tags(&[("a", true, true), ("A", true, false)]).is_err());
    assert!(tags(&[("Ä", true, true), ("ä", true, false)]).is_err());
    assert!(tags(&[("", false, false)]).is_err());
    assert!(tags(&[("a*", false, false)]).is_err());
    assert!(tags(&[("a\n", false, false)]).is_err());
    assert!(tags(&[(&"k".repeat(129), false, false)]).is_err());
}

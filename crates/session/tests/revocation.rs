//! Revoked sessions, and the rows that say so.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

mod common;

use common::*;
use countersign_session::{
    Code, RevocationInFuture, RevocationList, RevocationRow, RevocationTarget, Revoked,
    SessionKind, SessionRecord,
};

fn pod() -> SessionRecord {
    let mut session = session(SessionKind::PodIdentity, role("Picker", "eks-pod"));
    session.binding.cluster = Some("arn:aws:eks:eu-west-1:111122223333:cluster/orchard".into());
    session.binding.association_id = Some("a-0b1c2d3e4f5061728".into());
    session.source_identity = Some("alice.w".into());
    session
}

fn of_role(name: &str) -> RevocationTarget {
    RevocationTarget::Role {
        account: account(),
        name: name.into(),
    }
}

fn of_source(account: Option<&str>, value: &str) -> RevocationTarget {
    RevocationTarget::SourceIdentity {
        account: account.map(|account| account.parse().unwrap()),
        value: value.into(),
    }
}

fn asked(target: RevocationTarget, before: i64) -> Option<Revoked> {
    let row = RevocationRow::new(target, Some(at(before)), at(1 << 20)).unwrap();
    RevocationList::new([&row]).consult(&pod(), KEY_ID)
}

#[test]
fn rows_end_the_sessions_they_name_and_no_others() {
    let key = |id: &str| RevocationTarget::AccessKey { id: id.into() };
    let association = |id: &str| RevocationTarget::Association { id: id.into() };
    let cluster = |name: &str| RevocationTarget::Cluster {
        arn: format!("arn:aws:eks:eu-west-1:111122223333:cluster/{name}").into(),
    };
    let other_account = RevocationTarget::Role {
        account: "444455556666".parse().unwrap(),
        name: "Picker".into(),
    };
    let table = [
        (of_role("Picker"), Some("role")),
        (of_role("picker"), Some("role")),
        (of_role("Picker2"), None),
        (of_role("Pick"), None),
        (other_account, None),
        (key("ASIARTX3GSDS7RSUJJ3H"), None),
        (association("a-0b1c2d3e4f5061728"), Some("association")),
        (association("a-0b1c2d3e4f5061729"), None),
        (cluster("orchard"), Some("cluster")),
        (cluster("orchard2"), None),
        (of_source(None, "alice.w"), Some("source identity")),
        (
            of_source(Some("111122223333"), "alice.w"),
            Some("source identity"),
        ),
        (of_source(Some("444455556666"), "alice.w"), None),
        (of_source(None, "Alice.w"), None),
    ];
    for (target, expected) in table {
        let by = asked(target.clone(), 100).map(|revoked| match revoked {
            Revoked::Key => "key",
            Revoked::Session { by, .. } => by,
        });
        assert_eq!(by, expected, "{target:?}");
    }
    assert_eq!(asked(key(KEY_ID), 100), Some(Revoked::Key));
}

#[test]
fn only_sessions_issued_before_the_moment_are_ended() {
    assert!(asked(of_role("Picker"), 1).is_some());
    assert_eq!(asked(of_role("Picker"), 0), None);
    assert_eq!(asked(of_role("Picker"), -1), None);
    let within_the_second = jiff::Timestamp::new(NOW, 1).unwrap();
    let row = RevocationRow::new(of_role("Picker"), Some(within_the_second), at(9)).unwrap();
    assert!(
        RevocationList::new([&row])
            .consult(&pod(), KEY_ID)
            .is_some(),
        "a session knows only its second"
    );
}

#[test]
fn a_revoked_key_is_dead_whenever_it_was_issued() {
    let target = RevocationTarget::AccessKey { id: KEY_ID.into() };
    assert_eq!(asked(target, -1000), Some(Revoked::Key));
}

#[test]
fn revoked_sessions_are_told_to_refresh_and_revoked_keys_are_not() {
    let session = asked(of_role("Picker"), 1).unwrap().refusal();
    assert_eq!(session.code, Code::ExpiredToken);
    assert_eq!(Revoked::Key.refusal().code, Code::InvalidClientTokenId);
}

#[test]
fn sessions_without_the_fact_are_never_meant() {
    let rows: Vec<RevocationRow> = [
        of_role(""),
        of_source(None, ""),
        RevocationTarget::Association { id: "".into() },
        RevocationTarget::Cluster { arn: "".into() },
    ]
    .map(|target| RevocationRow::new(target, Some(at(100)), at(100)).unwrap())
    .into();
    let list = RevocationList::new(&rows);
    for session in every_kind() {
        assert_eq!(list.consult(&session, KEY_ID), None);
    }
}

#[test]
fn nothing_is_revoked_before_it_could_have_been_issued() {
    assert_eq!(
        RevocationRow::new(of_role("Picker"), Some(at(1)), at(0)),
        Err(RevocationInFuture)
    );
    assert_eq!(
        RevocationRow::new(of_role("Picker"), None, at(0))
            .unwrap()
            .before,
        at(0)
    );
}

#[test]
fn rows_are_dropped_when_the_last_session_they_mean_has_ended() {
    let end = 36 * 3600 + 15 * 60;
    let row = RevocationRow::new(of_role("Picker"), Some(at(-1000)), at(0)).unwrap();
    assert!(!row.is_over(at(end - 1001)));
    assert!(row.is_over(at(end - 1000)));
    let key = RevocationTarget::AccessKey { id: KEY_ID.into() };
    let row = RevocationRow::new(key, Some(at(-1000)), at(0)).unwrap();
    assert!(!row.is_over(at(end - 1)));
    assert!(row.is_over(at(end)));
}

#[test]
fn of_two_rows_for_one_target_the_later_moment_counts() {
    let row = |before| RevocationRow::new(of_role("Picker"), Some(at(before)), at(500)).unwrap();
    let (early, late) = (row(-5), row(5));
    for rows in [[&early, &late], [&late, &early]] {
        let revoked = RevocationList::new(rows).consult(&pod(), KEY_ID);
        assert_eq!(
            revoked,
            Some(Revoked::Session {
                by: "role",
                before: at(5)
            })
        );
    }
    assert_eq!(early.target.id(), late.target.id());
    assert_eq!(early.clone().merged(late.clone()).before, late.before);
    assert_eq!(late.clone().merged(early).before, late.before);
}

#[test]
fn ids_of_targets_are_equal_exactly_for_equal_targets() {
    assert_eq!(of_role("Picker").id(), of_role("PICKER").id());
    let all = [
        of_role("x"),
        of_source(None, "x"),
        of_source(Some("111122223333"), "x"),
        RevocationTarget::AccessKey { id: "x".into() },
        RevocationTarget::Association { id: "x".into() },
        RevocationTarget::Cluster { arn: "x".into() },
    ];
    let ids: std::collections::HashSet<String> = all.iter().map(RevocationTarget::id).collect();
    assert_eq!(ids.len(), all.len());
}

#[test]
fn a_target_comes_back_from_its_id_and_from_no_other_text() {
    let all = [
        of_role("picker"),
        of_source(None, "alice.w"),
        of_source(Some("111122223333"), "alice.w"),
        RevocationTarget::AccessKey { id: KEY_ID.into() },
        RevocationTarget::Association {
            id: "a-0b1c2d3e4f5061728".into(),
        },
        RevocationTarget::Cluster {
            arn: "arn:aws:eks:eu-west-1:111122223333:cluster/orchard".into(),
        },
    ];
    for target in all {
        assert_eq!(target.check(), Ok(()), "{target:?}");
        assert_eq!(RevocationTarget::from_id(&target.id()), Some(target));
    }
    for id in [
        "",
        "role",
        "role/",
        "role/111122223333",
        "role/111122223333/",
        "role/111122223333/Picker",
        "role/1111/picker",
        "key/",
        "keys/x",
        "source-identity/x",
        "source-identity/*/",
        "source-identity/1/x",
        "cluster/",
    ] {
        assert_eq!(RevocationTarget::from_id(id), None, "{id}");
    }
}

#[test]
fn targets_that_no_session_can_have_are_refused() {
    let key = |id: &str| RevocationTarget::AccessKey { id: id.into() };
    let association = |id: &str| RevocationTarget::Association { id: id.into() };
    let cluster = |arn: &str| RevocationTarget::Cluster { arn: arn.into() };
    for target in [
        of_role(""),
        of_role("team/Dev"),
        of_role(&"x".repeat(65)),
        of_role("a b"),
        of_source(None, "x"),
        of_source(None, "a:b"),
        key("AKIARTX3GSDS7RSUJJ3G"),
        key("ASIARTX3GSDS7RSUJJ3"),
        key("ASIARTX3GSDS7RSUJJ31"),
        association("0b1c"),
        association("a-"),
        association("a-X"),
        cluster("orchard"),
        cluster("arn:aws:eks:eu-west-1:111122223333:addon/x"),
        cluster("arn:aws:eks:eu-west-1:111122223333:cluster/a b"),
    ] {
        let error = target.check().unwrap_err();
        assert!(error.to_string().contains(" must be "), "{target:?}");
    }
}

#[test]
fn rows_are_stored_as_readable_json() {
    let row = RevocationRow::new(of_role("Picker"), Some(at(-10)), at(0)).unwrap();
    let json = serde_json::to_string(&row).unwrap();
    assert_eq!(
        json,
        r#"{"by":"role","account":"111122223333","name":"Picker","before":"2026-03-14T09:26:43Z","made":"2026-03-14T09:26:53Z"}"#
    );
    assert_eq!(serde_json::from_str::<RevocationRow>(&json).unwrap(), row);
}

#[test]
fn an_empty_list_revokes_nothing() {
    let list = RevocationList::default();
    assert!(list.is_empty());
    assert_eq!(list.consult(&pod(), KEY_ID), None);
}

//! Who a session is: to GetCallerIdentity, to mapping, to policies.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

mod common;

use common::*;
use countersign_arn::Tag;
use countersign_session::{
    Chain, Code, IdentityError, LivePrincipal, SessionKind, SessionPrincipal, SessionRecord,
    caller_identity, check_principal, context_facts,
};

const ENDPOINT: &str = "sts.eu-west-1.example";

fn live<'s>(session: &'s SessionRecord, tags: &'s [Tag]) -> LivePrincipal<'s> {
    let id = session.principal.unique_id().unwrap_or_default();
    match &session.principal {
        SessionPrincipal::Role { path, name, .. } | SessionPrincipal::User { path, name, .. } => {
            LivePrincipal {
                id,
                path,
                name,
                tags,
            }
        }
        SessionPrincipal::Root | SessionPrincipal::FederatedUser { .. } => LivePrincipal {
            id,
            path: "/",
            name: "creator",
            tags,
        },
    }
}

#[test]
fn arn_and_user_id_of_each_caller_are_as_sts_answers_them() {
    let mut dev = session(SessionKind::AssumedRole, role("Dev", "alice"));
    if let SessionPrincipal::Role { path, .. } = &mut dev.principal {
        *path = "/team/".into();
    }
    let federated = session(
        SessionKind::Federation,
        SessionPrincipal::FederatedUser {
            creator_id: Some("AIDARTX3GSDSURLGMXGED".into()),
            name: "visitor".into(),
        },
    );
    let table = [
        (
            dev,
            "arn:aws:sts::111122223333:assumed-role/Dev/alice",
            "AROARTX3GSDSURLGMXGED:alice",
            "arn:aws:iam::111122223333:role/team/Dev",
            "AssumedRole",
        ),
        (
            session(SessionKind::SessionToken, user()),
            "arn:aws:iam::111122223333:user/staff/alice",
            "AIDARTX3GSDSURLGMXGED",
            "arn:aws:iam::111122223333:user/staff/alice",
            "User",
        ),
        (
            session(SessionKind::SessionToken, SessionPrincipal::Root),
            "arn:aws:iam::111122223333:root",
            "111122223333",
            "arn:aws:iam::111122223333:root",
            "Account",
        ),
        (
            federated,
            "arn:aws:sts::111122223333:federated-user/visitor",
            "111122223333:visitor",
            "arn:aws:sts::111122223333:federated-user/visitor",
            "FederatedUser",
        ),
    ];
    for (session, arn, user_id, principal_arn, principal_type) in table {
        let live = live(&session, &[]);
        let identity = caller_identity(&session, KEY_ID, Some(&live), ENDPOINT).unwrap();
        assert_eq!(identity.arn(), arn);
        assert_eq!(session.principal.user_id(account()), user_id);
        assert_eq!(identity.access_key_id(), KEY_ID);
        assert_eq!(identity.sts_endpoint(), ENDPOINT);
        let facts = identity.facts().unwrap();
        assert_eq!(facts.principal_arn, principal_arn);
        assert_eq!(facts.issued_at, Some(NOW));
        let context = context_facts(&session, Some(&live), at(1)).unwrap();
        assert_eq!(context.principal_arn, principal_arn);
        assert_eq!(context.principal_type, principal_type);
        assert_eq!(context.user_id, user_id);
        assert_eq!(
            context.user_name.as_deref(),
            (principal_type == "User").then_some("alice")
        );
    }
}

#[test]
fn every_kind_of_session_has_an_identity() {
    for session in every_kind() {
        let live = live(&session, &[]);
        let identity = caller_identity(&session, KEY_ID, Some(&live), ENDPOINT).unwrap();
        assert_eq!(identity.account(), account());
    }
}

#[test]
fn a_deleted_or_recreated_principal_ends_its_sessions() {
    let session = role_session();
    let recreated = LivePrincipal {
        id: "AROARTX3GSDSAAAAAAAAA",
        ..live(&session, &[])
    };
    for live in [None, Some(&recreated)] {
        let error = caller_identity(&session, KEY_ID, live, ENDPOINT).unwrap_err();
        assert_eq!(error, IdentityError::PrincipalGone);
        assert_eq!(error.refusal().code, Code::InvalidClientTokenId);
        assert!(context_facts(&session, live, at(0)).is_err());
        assert!(check_principal(&session, live).is_err());
    }
}

#[test]
fn a_federated_user_ends_with_the_user_who_made_it() {
    let federated = |creator_id: Option<&str>| {
        session(
            SessionKind::Federation,
            SessionPrincipal::FederatedUser {
                creator_id: creator_id.map(Into::into),
                name: "visitor".into(),
            },
        )
    };
    let of_user = federated(Some("AIDARTX3GSDSURLGMXGED"));
    assert!(check_principal(&of_user, None).is_err());
    assert!(check_principal(&of_user, Some(&live(&of_user, &[]))).is_ok());
    assert!(check_principal(&federated(None), None).is_ok(), "by root");
}

#[test]
fn sessions_of_the_account_root_always_have_a_principal() {
    let root = session(SessionKind::RootTask, SessionPrincipal::Root);
    let identity = caller_identity(&root, KEY_ID, None, ENDPOINT).unwrap();
    assert_eq!(identity.arn(), "arn:aws:iam::111122223333:root");
    assert!(context_facts(&root, None, at(0)).unwrap().assumed_root);
}

#[test]
fn a_renamed_user_keeps_the_session_under_the_new_name() {
    let session = session(SessionKind::SessionToken, user());
    let renamed = LivePrincipal {
        name: "alice-smith",
        path: "/",
        ..live(&session, &[])
    };
    let identity = caller_identity(&session, KEY_ID, Some(&renamed), ENDPOINT).unwrap();
    assert_eq!(identity.arn(), "arn:aws:iam::111122223333:user/alice-smith");
}

#[test]
fn a_session_name_that_looks_like_a_path_cannot_be_sealed_into_an_identity() {
    let session = session(SessionKind::AssumedRole, role("Dev", "x/y"));
    let live = live(&session, &[]);
    assert!(matches!(
        caller_identity(&session, KEY_ID, Some(&live), ENDPOINT),
        Err(IdentityError::Invalid(_))
    ));
}

#[test]
fn facts_carry_tags_source_identity_and_mfa() {
    let mut caller = role_session();
    caller.tags = Chain::of(None)
        .session_tags(&[tag("Star", "1")], &["Star"])
        .unwrap();
    let mut session = role_session();
    session.tags = Chain::of(Some(&caller))
        .session_tags(&[tag("team", "blue")], &[""; 0])
        .unwrap();
    session.source_identity = Some("alice.w".into());
    session.mfa_at = Some(at(-10));
    let role_tags = [tag("star", "0"), tag("cost", "7")];
    let live = live(&session, &role_tags);
    let identity = caller_identity(&session, KEY_ID, Some(&live), ENDPOINT).unwrap();
    let facts = identity.facts().unwrap();
    assert_eq!(facts.source_identity.as_deref(), Some("alice.w"));
    assert_eq!(facts.session_tags, [tag("Star", "1"), tag("team", "blue")]);
    assert_eq!(facts.principal_tags, role_tags);
    assert!(facts.mfa);
    let context = context_facts(&session, Some(&live), at(20)).unwrap();
    assert_eq!(
        context.principal_tags,
        [tag("cost", "7"), tag("Star", "1"), tag("team", "blue")]
    );
    assert_eq!(context.mfa_age, Some(30));
    assert_eq!(context.token_issue_time, at(0));
}

#[test]
fn mfa_is_true_false_or_absent_by_kind() {
    let mfa = |mut session: SessionRecord, with: bool| {
        session.mfa_at = with.then(|| at(0));
        let live = live(&session, &[]);
        let facts = context_facts(&session, Some(&live), at(0)).unwrap();
        assert_eq!(facts.mfa_age.is_some(), facts.mfa_present == Some(true));
        facts.mfa_present
    };
    let mut chained = role_session();
    chained.depth = 2;
    let table = [
        (session(SessionKind::SessionToken, user()), true, Some(true)),
        (
            session(SessionKind::SessionToken, user()),
            false,
            Some(false),
        ),
        (role_session(), true, Some(true)),
        (role_session(), false, Some(false)),
        (chained, false, None),
        (
            session(SessionKind::WebIdentity, role("Dev", "pod")),
            false,
            None,
        ),
        (
            session(SessionKind::Saml, role("Dev", "alice")),
            false,
            None,
        ),
        (
            session(SessionKind::PodIdentity, role("Dev", "pod")),
            false,
            Some(false),
        ),
        (
            session(SessionKind::Instance, role("Dev", "i-0123")),
            false,
            Some(false),
        ),
    ];
    for (session, with, expected) in table {
        assert_eq!(
            mfa(session.clone(), with),
            expected,
            "{:?} {with}",
            session.kind
        );
    }
}

#[test]
fn only_keys_of_built_in_providers_travel_into_later_requests() {
    let facts = |provider: &str| {
        let mut session = session(SessionKind::WebIdentity, role("Dev", "pod"));
        session.federation = Some(oidc(provider));
        context_facts(&session, Some(&live(&session, &[])), at(0)).unwrap()
    };
    let own = facts("arn:aws:iam::111122223333:oidc-provider/id.example");
    assert_eq!(
        own.federated_provider.as_deref(),
        Some("arn:aws:iam::111122223333:oidc-provider/id.example")
    );
    assert!(own.provider_keys.is_empty());
    let google = facts("accounts.google.com");
    let keys: Vec<&str> = google
        .provider_keys
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(keys, ["accounts.google.com:aud", "accounts.google.com:sub"]);
}

#[test]
fn three_keys_of_saml_travel_into_later_requests() {
    let session = session(SessionKind::Saml, role("Dev", "alice"));
    let facts = context_facts(&session, Some(&live(&session, &[])), at(0)).unwrap();
    let keys: Vec<&str> = facts
        .provider_keys
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(keys, ["saml:namequalifier", "saml:sub", "saml:sub_type"]);
}

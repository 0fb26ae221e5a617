//! Roles and inline policies.

use countersign_arn::Tag;
use countersign_store::records::{InlinePolicy, TrustPolicy, TrustedPrincipal};
use countersign_store::{
    DirectoryError, Entity, EntityKind, NewRole, Principal, RoleChanges, Taggable,
};

use crate::{account, new_role, new_user, now, open, with_account};

fn policy(name: &str, document: &str) -> InlinePolicy {
    InlinePolicy {
        name: name.into(),
        document: document.into(),
    }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.into(),
        value: value.into(),
    }
}

#[tokio::test]
async fn a_role_is_found_by_name_and_by_id_and_survives_a_restart() {
    let (store, directory) = with_account().await;
    let new = NewRole {
        path: "/team/".into(),
        trust: TrustPolicy {
            document: " {\"exact\" : \"text\"}\n".into(),
            principals: vec![TrustedPrincipal {
                statement: 0,
                entry: 0,
                id: "AIDA1".into(),
            }],
        },
        max_session_duration: 43_200,
        description: Some("who operates".into()),
        tags: vec![tag("team", "ops")],
        ..new_role("Ops")
    };
    let role = directory.create_role(new, now()).await.unwrap();
    assert!(role.id.starts_with("AROARTX3GSDS"), "{}", role.id);
    assert_eq!(role.id.len(), 21);
    assert_eq!(role.arn(), "arn:aws:iam::111122223333:role/team/Ops");
    drop(directory);
    let directory = open(&store).await;
    let snapshot = directory.snapshot();
    let entry = snapshot.role(account(0), "oPS").unwrap();
    assert_eq!(entry.record, role);
    assert_eq!(*entry.arn, *role.arn());
    assert!(
        matches!(snapshot.principal(&role.id), Some(Principal::Role(found)) if found.record == role)
    );
    assert_eq!(snapshot.role_count(account(0)), 1);
    assert_eq!(snapshot.roles(account(0), Some("ops")).count(), 0);
    assert_eq!(snapshot.roles(account(0), None).count(), 1);
}

#[tokio::test]
async fn names_are_unique_ignoring_case_and_path_and_apart_from_users() {
    let (_, directory) = with_account().await;
    directory.create_role(new_role("Ops"), now()).await.unwrap();
    let other = NewRole {
        path: "/other/".into(),
        ..new_role("oPs")
    };
    assert!(matches!(
        directory.create_role(other, now()).await,
        Err(DirectoryError::RoleExists(_))
    ));
    directory.create_user(new_user("ops"), now()).await.unwrap();
    directory.delete_user(account(0), "ops").await.unwrap();
    assert!(directory.snapshot().role(account(0), "ops").is_some());
}

#[tokio::test]
async fn what_no_role_may_have_is_refused() {
    let (_, directory) = with_account().await;
    let bad = [
        new_role(""),
        new_role("a/b"),
        new_role(&"a".repeat(65)),
        NewRole {
            path: "team".into(),
            ..new_role("a")
        },
        NewRole {
            max_session_duration: 3599,
            ..new_role("a")
        },
        NewRole {
            max_session_duration: 43_201,
            ..new_role("a")
        },
        NewRole {
            description: Some("\u{7f}".into()),
            ..new_role("a")
        },
        NewRole {
            trust: TrustPolicy::default(),
            ..new_role("a")
        },
        NewRole {
            tags: vec![tag("A", "1"), tag("a", "2")],
            ..new_role("a")
        },
    ];
    for new in bad {
        let shown = format!("{new:?}");
        assert!(
            matches!(
                directory.create_role(new, now()).await,
                Err(DirectoryError::Invalid(_))
            ),
            "{shown}"
        );
    }
    let elsewhere = NewRole {
        account: account(9),
        ..new_role("a")
    };
    assert!(matches!(
        directory.create_role(elsewhere, now()).await,
        Err(DirectoryError::NoSuchAccount(_))
    ));
    let large = NewRole {
        trust: TrustPolicy {
            document: "x".repeat(2049).into(),
            principals: Vec::new(),
        },
        ..new_role("a")
    };
    assert!(matches!(
        directory.create_role(large, now()).await,
        Err(DirectoryError::QuotaExceeded {
            quota: "ACLSizePerRole",
            ..
        })
    ));
}

#[tokio::test]
async fn recreated_role_is_another_principal() {
    let (_, directory) = with_account().await;
    let first = directory.create_role(new_role("ops"), now()).await.unwrap();
    directory.delete_role(account(0), "OPS").await.unwrap();
    let second = directory.create_role(new_role("ops"), now()).await.unwrap();
    assert_ne!(first.id, second.id);
    assert!(directory.snapshot().principal(&first.id).is_none());
    assert!(directory.snapshot().principal(&second.id).is_some());
    assert!(matches!(
        directory.delete_role(account(0), "nobody").await,
        Err(DirectoryError::NoSuchRole(_))
    ));
}

#[tokio::test]
async fn inline_policies_are_kept_exactly_replaced_by_name_and_hold_their_owner() {
    let (_, directory) = with_account().await;
    directory.create_role(new_role("ops"), now()).await.unwrap();
    directory.create_user(new_user("ana"), now()).await.unwrap();
    for (name, text) in [("p", "{ }"), ("P", "{\n}"), ("p", " {} ")] {
        let put = directory.put_role_policy(account(0), "Ops", policy(name, text));
        put.await.unwrap();
        let put = directory.put_user_policy(account(0), "Ana", policy(name, text));
        put.await.unwrap();
    }
    let snapshot = directory.snapshot();
    let expected = [policy("p", " {} "), policy("P", "{\n}")];
    let role = snapshot.role(account(0), "ops").unwrap();
    assert_eq!(role.record.policies, expected);
    let user = snapshot.user(account(0), "ana").unwrap();
    assert_eq!(user.record.policies, expected);
    for result in [
        directory.delete_role(account(0), "ops").await,
        directory.delete_user(account(0), "ana").await,
        directory.delete_account(account(0)).await,
    ] {
        assert!(matches!(result, Err(DirectoryError::DeleteConflict { .. })));
    }
    for name in ["p", "P"] {
        for entity in [
            Entity::role(account(0), "OPS"),
            Entity::user(account(0), "ana"),
        ] {
            directory.delete_inline_policy(entity, name).await.unwrap();
        }
    }
    assert!(matches!(
        directory
            .delete_inline_policy(Entity::user(account(0), "ana"), "p")
            .await,
        Err(DirectoryError::NoSuchPolicy(_))
    ));
    directory.delete_user(account(0), "ana").await.unwrap();
    assert!(matches!(
        directory.delete_account(account(0)).await,
        Err(DirectoryError::DeleteConflict { what: "roles" })
    ));
    directory.delete_role(account(0), "ops").await.unwrap();
    directory.delete_account(account(0)).await.unwrap();
}

#[tokio::test]
async fn policies_of_one_owner_share_a_quota_that_white_space_does_not_count_against() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let put = |name: &str, text: String| {
        directory.put_user_policy(account(0), "ana", policy(name, &text))
    };
    put("a", "x".repeat(2000)).await.unwrap();
    put("b", format!("{}{}", "x".repeat(48), " ".repeat(5000)))
        .await
        .unwrap();
    assert!(matches!(
        put("c", "x".into()).await,
        Err(DirectoryError::InlinePoliciesTooLarge {
            kind: EntityKind::User,
            limit: 2048,
            ..
        })
    ));
    assert!(matches!(
        put("", "x".into()).await,
        Err(DirectoryError::Invalid(_))
    ));
    assert!(matches!(
        put("c", String::new()).await,
        Err(DirectoryError::Invalid(_))
    ));
    put("a", "y".into()).await.unwrap();
    put("c", "x".into()).await.unwrap();
}

#[tokio::test]
async fn another_trust_policy_is_a_later_revision_of_the_same_role() {
    let (_, directory) = with_account().await;
    let role = directory.create_role(new_role("ops"), now()).await.unwrap();
    let before = directory
        .snapshot()
        .role(account(0), "ops")
        .unwrap()
        .modified;
    let trust = TrustPolicy {
        document: "[]".into(),
        principals: Vec::new(),
    };
    let set = directory.set_trust_policy(account(0), "ops", trust.clone());
    set.await.unwrap();
    let snapshot = directory.snapshot();
    let after = snapshot.role(account(0), "ops").unwrap();
    assert_eq!(after.record.id, role.id);
    assert_eq!(after.record.trust, trust);
    assert!(after.modified > before);
}

#[tokio::test]
async fn what_is_left_out_of_an_update_stays() {
    let (_, directory) = with_account().await;
    directory.create_role(new_role("ops"), now()).await.unwrap();
    let cases = [
        (Some("who operates"), None, Some("who operates"), 3600),
        (None, Some(7200), Some("who operates"), 7200),
        (None, None, Some("who operates"), 7200),
        (Some(""), Some(43_200), None, 43_200),
    ];
    for (description, max_session_duration, described, seconds) in cases {
        let changes = RoleChanges {
            description,
            max_session_duration,
        };
        let role = directory
            .update_role(account(0), "OPS", changes)
            .await
            .unwrap();
        assert_eq!(role.description.as_deref(), described);
        assert_eq!(role.max_session_duration, seconds);
        assert_eq!(
            directory.snapshot().role(account(0), "ops").unwrap().record,
            role
        );
    }
    let role = directory
        .set_role_description(account(0), "ops", "again")
        .await
        .unwrap();
    assert_eq!(role.description.as_deref(), Some("again"));
    for changes in [
        RoleChanges {
            description: Some("\u{7f}"),
            ..RoleChanges::default()
        },
        RoleChanges {
            max_session_duration: Some(3599),
            ..RoleChanges::default()
        },
    ] {
        assert!(matches!(
            directory.update_role(account(0), "ops", changes).await,
            Err(DirectoryError::Invalid(_))
        ));
    }
    assert!(matches!(
        directory
            .update_role(account(0), "nobody", RoleChanges::default())
            .await,
        Err(DirectoryError::NoSuchRole(_))
    ));
}

#[tokio::test]
async fn roles_of_services_are_changed_by_those_only() {
    let (_, directory) = with_account().await;
    let services = directory.danger_change_protected_roles();
    for path in ["/aws-service-role/eks.amazonaws.com/", "/aws-reserved/sso/"] {
        let new = NewRole {
            path: path.into(),
            ..new_role("theirs")
        };
        assert!(matches!(
            directory.create_role(new.clone(), now()).await,
            Err(DirectoryError::Invalid(_))
        ));
        services.create_role(new, now()).await.unwrap();
        let entity = Entity::role(account(0), "theirs");
        let arn = "arn:aws:iam::aws:policy/AdministratorAccess";
        let changes = RoleChanges::default();
        for result in [
            directory.attach_policy(entity, arn).await,
            directory.detach_policy(entity, arn).await,
            directory.put_inline_policy(entity, policy("p", "{}")).await,
            directory.delete_inline_policy(entity, "p").await,
            directory.put_boundary(entity, arn).await,
            directory.delete_boundary(entity).await,
            directory
                .update_role(account(0), "theirs", changes)
                .await
                .map(|_| ()),
            directory
                .set_trust_policy(account(0), "theirs", new_role("x").trust)
                .await,
            directory.delete_role(account(0), "theirs").await,
        ] {
            assert!(
                matches!(result, Err(DirectoryError::Protected(_))),
                "{result:?}"
            );
        }
        directory
            .set_role_description(account(0), "theirs", "ours")
            .await
            .unwrap();
        directory
            .tag(account(0), Taggable::Role("theirs"), &[tag("a", "b")])
            .await
            .unwrap();
        services.attach_policy(entity, arn).await.unwrap();
        services.detach_policy(entity, arn).await.unwrap();
        services.delete_role(account(0), "theirs").await.unwrap();
    }
}

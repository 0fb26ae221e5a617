//! Who has which managed policy, attached or as boundary, and what happens when it is deleted at the same time.

use countersign_arn::Partition;
use countersign_store::{
    Directory, DirectoryError, Entity, EntityKind, NewAccount, NewManagedPolicy, NewRole, Thing,
};

use crate::{
    account, add_group, new_account, new_policy, new_role, new_user, now, open, with_account,
};

const ADMIN: &str = "arn:aws:iam::aws:policy/AdministratorAccess";

fn arn(name: &str) -> String {
    format!("arn:aws:iam::111122223333:policy/{name}")
}

fn entities() -> [Entity<'static>; 3] {
    [
        Entity::user(account(0), "ANA"),
        Entity::group(account(0), "Devs"),
        Entity::role(account(0), "oPS"),
    ]
}

async fn world() -> Directory {
    let (store, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    directory.create_role(new_role("ops"), now()).await.unwrap();
    add_group(&store, &directory, "devs").await;
    for name in ["p", "q"] {
        directory
            .create_managed_policy(new_policy(name), now())
            .await
            .unwrap();
    }
    directory
}

#[tokio::test]
async fn policies_are_attached_once_in_order_and_hold_what_they_hang_on() {
    let directory = world().await;
    for entity in entities() {
        for policy in [&*arn("q"), ADMIN, &*arn("p"), &*arn("q")] {
            directory.attach_policy(entity, policy).await.unwrap();
        }
    }
    let snapshot = directory.snapshot();
    let expected = [arn("q"), ADMIN.to_owned(), arn("p")].map(String::into_boxed_str);
    let user = &snapshot.user(account(0), "ana").unwrap().record;
    assert_eq!(user.attached, expected);
    let role = &snapshot.role(account(0), "ops").unwrap().record;
    assert_eq!(role.attached, expected);
    let group = &snapshot.group(account(0), "devs").unwrap().record;
    assert_eq!(group.attached, expected);
    assert_eq!(snapshot.policy_use_count(account(0), ADMIN), (3, 0));
    let users: Vec<_> = snapshot
        .attached_to(&arn("p"))
        .map(|user| (user.kind, &*user.name))
        .collect();
    assert_eq!(
        users,
        [
            (EntityKind::User, "ana"),
            (EntityKind::Group, "devs"),
            (EntityKind::Role, "ops")
        ]
    );
    assert!(matches!(
        directory.delete_managed_policy(account(0), &arn("p")).await,
        Err(DirectoryError::DeleteConflict {
            what: "attachments"
        })
    ));
    assert!(matches!(
        directory.delete_role(account(0), "ops").await,
        Err(DirectoryError::DeleteConflict {
            what: "attached policies"
        })
    ));
    for entity in entities() {
        directory.detach_policy(entity, &arn("p")).await.unwrap();
        assert!(matches!(
            directory.detach_policy(entity, &arn("p")).await,
            Err(DirectoryError::NoSuch {
                what: Thing::ManagedPolicy,
                ..
            })
        ));
    }
    directory
        .delete_managed_policy(account(0), &arn("p"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_cannot_be_attached_is_refused() {
    let directory = world().await;
    directory
        .create_account(
            NewAccount {
                partition: Partition::China,
                ..new_account(1)
            },
            now(),
        )
        .await
        .unwrap();
    let theirs = NewManagedPolicy {
        account: account(1),
        ..new_policy("theirs")
    };
    let theirs = directory
        .create_managed_policy(theirs, now())
        .await
        .unwrap();
    let missing = [
        &*theirs.arn(),
        &*arn("nothing"),
        &*arn("P"),
        "arn:aws:iam::aws:policy/NoSuchPolicy",
        "arn:aws-cn:iam::aws:policy/AdministratorAccess",
        "arn:aws:iam::aws:policy/service-role/AdministratorAccess",
        "p",
    ];
    for entity in entities() {
        for policy in missing {
            let result = directory.attach_policy(entity, policy).await;
            assert!(
                matches!(
                    &result,
                    Err(DirectoryError::NoSuch { what: Thing::AttachablePolicy, name })
                        if **name == *policy
                ),
                "{policy}: {result:?}"
            );
        }
        let of_service = "arn:aws:iam::aws:policy/aws-service-role/AmazonEKSServiceRolePolicy";
        assert!(matches!(
            directory.attach_policy(entity, of_service).await,
            Err(DirectoryError::NotAttachable(_))
        ));
    }
    for (entity, shown) in [
        (Entity::user(account(0), "bo"), "there is no user `bo`"),
        (Entity::group(account(0), "bo"), "there is no group `bo`"),
        (Entity::role(account(0), "bo"), "there is no role `bo`"),
    ] {
        let error = directory.attach_policy(entity, ADMIN).await.unwrap_err();
        assert!(error.to_string().starts_with(shown), "{error}");
        let error = directory.detach_policy(entity, ADMIN).await.unwrap_err();
        assert!(error.to_string().starts_with(shown), "{error}");
    }
    let china = Entity::role(account(1), "ops");
    directory
        .create_role(
            NewRole {
                account: account(1),
                ..new_role("ops")
            },
            now(),
        )
        .await
        .unwrap();
    assert!(directory.attach_policy(china, ADMIN).await.is_err());
    directory
        .attach_policy(china, "arn:aws-cn:iam::aws:policy/AdministratorAccess")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_entity_has_as_many_policies_as_it_may() {
    let directory = world().await;
    for n in 0..11 {
        directory
            .create_managed_policy(new_policy(&format!("n{n}")), now())
            .await
            .unwrap();
    }
    for (entity, quota) in
        entities()
            .into_iter()
            .zip(["PoliciesPerUser", "PoliciesPerGroup", "PoliciesPerRole"])
    {
        for n in 0..10 {
            directory
                .attach_policy(entity, &arn(&format!("n{n}")))
                .await
                .unwrap();
        }
        let full = directory.attach_policy(entity, &arn("n10")).await;
        assert!(
            matches!(full, Err(DirectoryError::QuotaExceeded { quota: said, limit: 10 }) if said == quota),
            "{full:?}"
        );
        // What is there already is no more; what is nowhere is said to be nowhere.
        directory.attach_policy(entity, &arn("n3")).await.unwrap();
        assert!(matches!(
            directory.attach_policy(entity, &arn("nothing")).await,
            Err(DirectoryError::NoSuch { .. })
        ));
    }
}

#[tokio::test]
async fn boundaries_hold_their_policy_and_groups_have_none() {
    let directory = world().await;
    let [user, group, role] = entities();
    for entity in [user, role] {
        directory.delete_boundary(entity).await.unwrap();
        directory.put_boundary(entity, ADMIN).await.unwrap();
        directory.put_boundary(entity, &arn("p")).await.unwrap();
        assert!(matches!(
            directory.put_boundary(entity, &arn("nothing")).await,
            Err(DirectoryError::NoSuch { what: Thing::Boundary, name }) if *name == *arn("nothing")
        ));
        assert!(matches!(
            directory
                .put_boundary(
                    entity,
                    "arn:aws:iam::aws:policy/aws-service-role/AmazonEKSServiceRolePolicy"
                )
                .await,
            Err(DirectoryError::NotAttachable(_))
        ));
    }
    for result in [
        directory.put_boundary(group, ADMIN).await,
        directory.delete_boundary(group).await,
    ] {
        assert!(matches!(result, Err(DirectoryError::Invalid(_))));
    }
    let snapshot = directory.snapshot();
    assert_eq!(snapshot.policy_use_count(account(0), &arn("p")), (0, 2));
    assert_eq!(snapshot.policy_use_count(account(0), ADMIN), (0, 0));
    assert!(matches!(
        directory.delete_managed_policy(account(0), &arn("p")).await,
        Err(DirectoryError::DeleteConflict {
            what: "attachments"
        })
    ));
    for entity in [user, role] {
        directory.delete_boundary(entity).await.unwrap();
    }
    directory
        .delete_managed_policy(account(0), &arn("p"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_role_is_created_with_its_boundary_or_not_at_all() {
    let directory = world().await;
    let with = |boundary: &str| NewRole {
        boundary: Some(boundary.into()),
        ..new_role("bounded")
    };
    assert!(matches!(
        directory.create_role(with(&arn("nothing")), now()).await,
        Err(DirectoryError::NoSuch {
            what: Thing::Boundary,
            ..
        })
    ));
    assert!(directory.snapshot().role(account(0), "bounded").is_none());
    let role = directory.create_role(with(&arn("p")), now()).await.unwrap();
    assert_eq!(role.boundary.as_deref(), Some(&*arn("p")));
    assert!(
        directory
            .delete_managed_policy(account(0), &arn("p"))
            .await
            .is_err()
    );
}

/// Whatever gives a policy to somebody, and its deletion by another replica at the same time: one of them happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_policy_is_deleted_or_given_to_somebody_but_not_both() {
    let (store, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    directory.create_role(new_role("ops"), now()).await.unwrap();
    add_group(&store, &directory, "devs").await;
    let other = open(&store).await;
    for round in 0..40 {
        let name = format!("p{round}");
        directory
            .create_managed_policy(new_policy(&name), now())
            .await
            .unwrap();
        let revision = directory.snapshot().revision();
        other.feed().wait_for(revision).await.unwrap();
        let give = {
            let (other, arn) = (other.clone(), arn(&name));
            tokio::spawn(async move {
                let role = Entity::role(account(0), "ops");
                match round % 5 {
                    0 => {
                        other
                            .attach_policy(Entity::user(account(0), "ana"), &arn)
                            .await
                    }
                    1 => {
                        other
                            .attach_policy(Entity::group(account(0), "devs"), &arn)
                            .await
                    }
                    2 => other.attach_policy(role, &arn).await,
                    3 => other.put_boundary(role, &arn).await,
                    _ => {
                        let new = NewRole {
                            boundary: Some(arn.into()),
                            ..new_role(&format!("r{round}"))
                        };
                        other.create_role(new, now()).await.map(|_| ())
                    }
                }
            })
        };
        let delete = {
            let (directory, arn) = (directory.clone(), arn(&name));
            tokio::spawn(async move { directory.delete_managed_policy(account(0), &arn).await })
        };
        let (given, deleted) = (give.await.unwrap(), delete.await.unwrap());
        assert_ne!(given.is_ok(), deleted.is_ok(), "{given:?} {deleted:?}");
        let revision = other.snapshot().revision();
        directory.feed().wait_for(revision).await.unwrap();
        for entity in entities() {
            let _ = directory.detach_policy(entity, &arn(&name)).await;
        }
        let _ = directory
            .delete_boundary(Entity::role(account(0), "ops"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_entity_lose_nothing() {
    let (store, directory) = with_account().await;
    directory.create_role(new_role("ops"), now()).await.unwrap();
    for n in 0..10 {
        directory
            .create_managed_policy(new_policy(&format!("n{n}")), now())
            .await
            .unwrap();
    }
    let other = open(&store).await;
    let writers = (0..10).map(|n| {
        let directory = if n % 2 == 0 { &directory } else { &other }.clone();
        tokio::spawn(async move {
            let role = Entity::role(account(0), "ops");
            directory.attach_policy(role, &arn(&format!("n{n}"))).await
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap().unwrap();
    }
    let loaded = open(&store).await.snapshot();
    let role = loaded.role(account(0), "ops").unwrap();
    assert_eq!(role.record.attached.len(), 10);
}

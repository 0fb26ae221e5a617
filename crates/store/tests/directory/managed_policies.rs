//! Managed policies of customers and their versions.

use countersign_arn::{Partition, Tag};
use countersign_store::{
    Directory, DirectoryError, NewAccount, NewManagedPolicy, PolicyRef, Quotas, Random, Store,
    Thing,
};
use std::sync::Arc;

use crate::{account, new_account, new_policy, now, open, sealer, with_account};

const ARN: &str = "arn:aws:iam::111122223333:policy/team/Deploy";

fn deploy() -> NewManagedPolicy {
    NewManagedPolicy {
        path: "/team/".into(),
        description: Some("what deploys, naïvely ☃".into()),
        document: " {\"exact\" : 1}\n".into(),
        tags: vec![
            Tag {
                key: "team".into(),
                value: "blue".into(),
            },
            Tag {
                key: "Team".into(),
                value: "red".into(),
            },
        ],
        ..new_policy("Deploy")
    }
}

#[tokio::test]
async fn a_policy_is_found_by_name_and_arn_and_survives_a_restart() {
    let (store, directory) = with_account().await;
    let made = directory
        .create_managed_policy(deploy(), now())
        .await
        .unwrap();
    assert!(made.id.starts_with("ANPA"), "{}", made.id);
    assert_eq!(made.id.len(), 21);
    assert_eq!(made.arn(), ARN);
    drop(directory);
    let directory = open(&store).await;
    let snapshot = directory.snapshot();
    assert_eq!(
        snapshot
            .managed_policy(account(0), "dEPLOY")
            .unwrap()
            .record,
        made
    );
    let found = snapshot.policy_by_arn(ARN).unwrap();
    assert!(matches!(found, PolicyRef::Customer(policy) if policy.record == made));
    assert_eq!(found.default_document(), " {\"exact\" : 1}\n");
    assert!(found.is_attachable() && !found.is_aws());
    for other in [
        "arn:aws:iam::111122223333:policy/Deploy",
        "arn:aws:iam::111122223333:policy/team/deploy",
        "arn:aws-cn:iam::111122223333:policy/team/Deploy",
        "arn:aws:iam::111122223334:policy/team/Deploy",
    ] {
        assert!(snapshot.policy_by_arn(other).is_none(), "{other}");
    }
}

#[tokio::test]
async fn names_are_unique_ignoring_case_and_path() {
    let (_, directory) = with_account().await;
    directory
        .create_managed_policy(deploy(), now())
        .await
        .unwrap();
    let result = directory.create_managed_policy(new_policy("DEPLOY"), now());
    assert!(matches!(
        result.await,
        Err(DirectoryError::Exists { what: Thing::ManagedPolicy, name }) if &*name == "DEPLOY"
    ));
}

#[tokio::test]
async fn what_no_policy_may_have_is_refused() {
    let (_, directory) = with_account().await;
    let tag = |key: &str| Tag {
        key: key.into(),
        value: "".into(),
    };
    let bad = [
        new_policy(""),
        new_policy("a/b"),
        new_policy(&"a".repeat(129)),
        NewManagedPolicy {
            path: "/a//b/".into(),
            ..new_policy("a")
        },
        NewManagedPolicy {
            path: "/a!/".into(),
            ..new_policy("a")
        },
        NewManagedPolicy {
            path: "/a".into(),
            ..new_policy("a")
        },
        NewManagedPolicy {
            path: "//".into(),
            ..new_policy("a")
        },
        NewManagedPolicy {
            description: Some("x".repeat(1001).into()),
            ..new_policy("a")
        },
        NewManagedPolicy {
            document: "".into(),
            ..new_policy("a")
        },
        NewManagedPolicy {
            tags: vec![tag("a"), tag("a")],
            ..new_policy("a")
        },
        NewManagedPolicy {
            tags: vec![tag("AWS:a")],
            ..new_policy("a")
        },
    ];
    for new in bad {
        let shown = format!("{new:?}");
        assert!(
            matches!(
                directory.create_managed_policy(new, now()).await,
                Err(DirectoryError::Invalid(_))
            ),
            "{shown}"
        );
    }
    let elsewhere = NewManagedPolicy {
        account: account(9),
        ..new_policy("a")
    };
    assert!(matches!(
        directory.create_managed_policy(elsewhere, now()).await,
        Err(DirectoryError::NoSuchAccount(_))
    ));
}

#[tokio::test]
async fn white_space_outside_strings_does_not_count() {
    let (_, directory) = with_account().await;
    let sized = |name: &str, length: usize| NewManagedPolicy {
        document: format!("{{ \"{}\"\n}}", " ".repeat(length - 4)).into(),
        ..new_policy(name)
    };
    directory
        .create_managed_policy(sized("fits", 6144), now())
        .await
        .unwrap();
    assert!(matches!(
        directory
            .create_managed_policy(sized("large", 6145), now())
            .await,
        Err(DirectoryError::QuotaExceeded {
            quota: "PolicySize",
            limit: 6144
        })
    ));
    let arn = "arn:aws:iam::111122223333:policy/fits";
    let large = sized("x", 6145).document;
    assert!(matches!(
        directory
            .create_policy_version(account(0), arn, &large, false, now())
            .await,
        Err(DirectoryError::QuotaExceeded {
            quota: "PolicySize",
            ..
        })
    ));
}

#[tokio::test]
async fn version_numbers_are_never_used_again() {
    let (_, directory) = with_account().await;
    directory
        .create_managed_policy(deploy(), now())
        .await
        .unwrap();
    let later = now() + jiff::SignedDuration::from_secs(60);
    let create = |text: &'static str, default| {
        directory.create_policy_version(account(0), ARN, text, default, later)
    };
    assert_eq!(create("[2]", false).await.unwrap().number, 2);
    assert_eq!(create("[3]", true).await.unwrap().number, 3);
    let document = || {
        let snapshot = directory.snapshot();
        let policy = snapshot.policy_by_arn(ARN).unwrap();
        (
            policy.default_version(),
            policy.default_document().to_owned(),
        )
    };
    assert_eq!(document(), (3, "[3]".to_owned()));
    let delete = |number| directory.delete_policy_version(account(0), ARN, number);
    assert!(matches!(
        delete(3).await,
        Err(DirectoryError::DeleteConflict {
            what: "default version"
        })
    ));
    directory
        .set_default_policy_version(account(0), ARN, 2, later)
        .await
        .unwrap();
    assert_eq!(document(), (2, "[2]".to_owned()));
    delete(3).await.unwrap();
    assert_eq!(create("[4]", false).await.unwrap().number, 4);
    assert_eq!(create("[5]", false).await.unwrap().number, 5);
    assert_eq!(create("[6]", false).await.unwrap().number, 6);
    assert!(matches!(
        create("[7]", false).await,
        Err(DirectoryError::QuotaExceeded {
            quota: "VersionsPerPolicy",
            limit: 5
        })
    ));
    for missing in [0, 3, 7] {
        let set = directory.set_default_policy_version(account(0), ARN, missing, later);
        for result in [set.await, delete(missing).await] {
            assert!(matches!(
                result,
                Err(DirectoryError::NoSuch { what: Thing::PolicyVersion, name })
                    if *name == *format!("{ARN} version v{missing}")
            ));
        }
    }
    let snapshot = directory.snapshot();
    let policy = snapshot.policy_by_arn(ARN).unwrap();
    assert_eq!((policy.created(), policy.updated()), (now(), later));
    let numbers: Vec<_> = policy.versions().iter().map(|v| v.number).collect();
    assert_eq!(numbers, [1, 2, 4, 5, 6]);
    assert!(matches!(
        directory.delete_managed_policy(account(0), ARN).await,
        Err(DirectoryError::DeleteConflict {
            what: "policy versions"
        })
    ));
    for number in [1, 4, 5, 6] {
        delete(number).await.unwrap();
    }
    directory
        .delete_managed_policy(account(0), ARN)
        .await
        .unwrap();
    assert!(matches!(
        directory.delete_managed_policy(account(0), ARN).await,
        Err(DirectoryError::NoSuch {
            what: Thing::ManagedPolicy,
            ..
        })
    ));
}

#[tokio::test]
async fn policies_of_others_are_not_there_to_be_changed() {
    let (_, directory) = with_account().await;
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
    let theirs = directory
        .create_managed_policy(
            NewManagedPolicy {
                account: account(1),
                ..new_policy("theirs")
            },
            now(),
        )
        .await
        .unwrap();
    assert_eq!(theirs.arn(), "arn:aws-cn:iam::111122223334:policy/theirs");
    for arn in [
        &*theirs.arn(),
        "arn:aws:iam::aws:policy/AdministratorAccess",
        "arn:aws:iam::111122223333:policy/theirs",
        "arn:aws:iam::111122223333:role/theirs",
        "theirs",
        "",
    ] {
        for result in [
            directory.delete_managed_policy(account(0), arn).await,
            directory.delete_policy_version(account(0), arn, 1).await,
            directory
                .set_default_policy_version(account(0), arn, 1, now())
                .await,
            directory
                .create_policy_version(account(0), arn, "{}", true, now())
                .await
                .map(|_| ()),
        ] {
            assert!(
                matches!(
                    result,
                    Err(DirectoryError::NoSuch {
                        what: Thing::ManagedPolicy,
                        ..
                    })
                ),
                "{arn}: {result:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_account_has_as_many_policies_as_it_may() {
    let (store, _) = with_account().await;
    let quotas = Quotas {
        policies_per_account: 2,
        ..Quotas::default()
    };
    let store = Arc::clone(&store) as Arc<dyn Store>;
    let directory = Directory::open(store, sealer(1), Random::system(), quotas)
        .await
        .unwrap();
    for name in ["a", "b"] {
        directory
            .create_managed_policy(new_policy(name), now())
            .await
            .unwrap();
    }
    assert!(matches!(
        directory
            .create_managed_policy(new_policy("c"), now())
            .await,
        Err(DirectoryError::QuotaExceeded {
            quota: "PoliciesPerAccount",
            limit: 2
        })
    ));
}

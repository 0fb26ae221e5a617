//! The alias of an account.

use countersign_store::{DirectoryError, Thing};

use super::*;

#[tokio::test]
async fn an_alias_takes_the_place_of_the_one_before_and_frees_it() {
    let (_, directory) = with_account().await;
    directory
        .create_account(new_account(1), now())
        .await
        .unwrap();
    let alias_of = |n| {
        let snapshot = directory.snapshot();
        snapshot.account(account(n)).unwrap().record.alias.clone()
    };
    // Account, alias asked for, and whether it is another account's.
    for (n, alias, taken) in [
        (0, "dev", false),
        (0, "dev", false),
        (1, "dev", true),
        (0, "prod", false),
        (1, "dev", false),
        (0, "dev", true),
    ] {
        let before = alias_of(n);
        let set = directory.set_account_alias(account(n), alias).await;
        if taken {
            assert!(
                matches!(&set, Err(DirectoryError::AliasTaken(name)) if **name == *alias),
                "{set:?}"
            );
            assert_eq!(alias_of(n), before);
        } else {
            set.unwrap();
            assert_eq!(alias_of(n).as_deref(), Some(alias));
            assert_eq!(
                directory.snapshot().account_of_alias(alias),
                Some(account(n))
            );
        }
    }
    for bad in ["", "ab", "Dev", "a--b", "111122223333"] {
        assert!(matches!(
            directory.set_account_alias(account(0), bad).await,
            Err(DirectoryError::Invalid(_))
        ));
    }
    for (n, alias) in [(0, "dev"), (0, "nobody"), (1, "prod")] {
        let missing = directory.delete_account_alias(account(n), alias).await;
        assert!(
            matches!(
                &missing,
                Err(DirectoryError::NoSuch { what: Thing::AccountAlias, name }) if **name == *alias
            ),
            "{missing:?}"
        );
    }
    directory
        .delete_account_alias(account(1), "dev")
        .await
        .unwrap();
    assert_eq!(alias_of(1), None);
    assert_eq!(directory.snapshot().account_of_alias("dev"), None);
    directory
        .set_account_alias(account(0), "dev")
        .await
        .unwrap();
    assert_eq!(directory.snapshot().account_of_alias("prod"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_two_accounts_gets_the_alias() {
    let (store, directory) = with_account().await;
    directory
        .create_account(new_account(1), now())
        .await
        .unwrap();
    let other = open(&store).await;
    for round in 0..10 {
        let alias = format!("alias-{round}");
        let (one, two) = tokio::join!(
            directory.set_account_alias(account(0), &alias),
            other.set_account_alias(account(1), &alias),
        );
        assert_ne!(one.is_ok(), two.is_ok(), "{one:?} {two:?}");
    }
}

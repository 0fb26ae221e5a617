//! Passwords and the policy for them.

use countersign_store::records::PasswordPolicy;
use countersign_store::{
    DirectoryError, LoginChange, PasswordFault, PasswordState, SecretString, Thing, check_password,
};
use jiff::SignedDuration;

use super::*;

fn secret(text: &str) -> SecretString {
    SecretString::new(text)
}

/// What UpdateAccountPasswordPolicy without parameters sets.
fn lax() -> PasswordPolicy {
    PasswordPolicy {
        minimum_length: 6,
        require_symbols: false,
        require_numbers: false,
        require_uppercase: false,
        require_lowercase: false,
        allow_users_to_change: false,
        max_age_days: None,
        reuse_prevention: None,
        hard_expiry: None,
    }
}

#[test]
fn table_of_passwords() {
    let strict = PasswordPolicy {
        minimum_length: 10,
        require_symbols: true,
        require_numbers: true,
        require_uppercase: true,
        require_lowercase: true,
        ..lax()
    };
    let fault = |policy: Option<&PasswordPolicy>, password| {
        check_password(policy, Some("dev-Acc0unt"), password).err()
    };
    for (password, default, lax_fault, strict_fault) in [
        ("Abcdef1!xy", None, None, None),
        ("Abcdef12", None, None, Some(PasswordFault::Length(10))),
        (
            "Abcde12",
            Some(PasswordFault::Default),
            None,
            Some(PasswordFault::Length(10)),
        ),
        (
            "abcdefghijkl",
            Some(PasswordFault::Default),
            None,
            Some(PasswordFault::Uppercase),
        ),
        (
            "ABCDEFGHIJKL",
            Some(PasswordFault::Default),
            None,
            Some(PasswordFault::Lowercase),
        ),
        (
            "ABCDEFGhijkl",
            Some(PasswordFault::Default),
            None,
            Some(PasswordFault::Number),
        ),
        ("ABCDEFGhijk1", None, None, Some(PasswordFault::Symbol)),
        // A blank and letters outside ASCII are of no kind, and count as characters.
        (
            "Äöü ÄÖÜ ßß",
            Some(PasswordFault::Default),
            None,
            Some(PasswordFault::Uppercase),
        ),
        (
            "ab1!ß",
            Some(PasswordFault::Default),
            Some(PasswordFault::Length(6)),
            Some(PasswordFault::Length(10)),
        ),
        ("dev-Acc0unt", Some(PasswordFault::Default), None, None),
    ] {
        assert_eq!(fault(None, password), default, "{password}");
        assert_eq!(fault(Some(&lax()), password), lax_fault, "{password}");
        assert_eq!(fault(Some(&strict), password), strict_fault, "{password}");
    }
}

#[tokio::test]
async fn a_profile_is_made_once_changed_and_deleted() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let create = |user: &'static str, password: &'static str| {
        directory.create_login_profile(account(0), user, secret(password), false, now())
    };
    assert!(matches!(
        create("nobody", "Abcdef12").await,
        Err(DirectoryError::NoSuchUser(_))
    ));
    assert!(matches!(
        create("ana", "short").await,
        Err(DirectoryError::Password(PasswordFault::Default))
    ));
    let missing = directory.delete_login_profile(account(0), "Ana").await;
    assert!(matches!(
        &missing,
        Err(DirectoryError::NoSuch { what: Thing::LoginProfile, name }) if &**name == "Ana"
    ));
    let login = create("ana", "Abcdef12").await.unwrap();
    assert!(login.hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert!(!format!("{login:?}").contains("argon2"));
    assert!(matches!(
        create("ana", "Abcdef12").await,
        Err(DirectoryError::Exists {
            what: Thing::LoginProfile,
            ..
        })
    ));
    let verify = |user: &'static str, password: &'static str| {
        directory.verify_password(account(0), user, secret(password), now())
    };
    assert_eq!(
        verify("ANA", "Abcdef12").await.unwrap(),
        PasswordState::Valid
    );
    for (user, password) in [("ana", "Abcdef13"), ("ana", ""), ("nobody", "Abcdef12")] {
        assert!(matches!(
            verify(user, password).await,
            Err(DirectoryError::WrongPassword)
        ));
    }
    let change = LoginChange {
        password: Some(secret("Another12")),
        reset_required: Some(true),
    };
    directory
        .update_login_profile(account(0), "ana", change, now())
        .await
        .unwrap();
    assert_eq!(
        verify("ana", "Another12").await.unwrap(),
        PasswordState::MustChange
    );
    assert!(verify("ana", "Abcdef12").await.is_err());
    let user_change = |old: &'static str, new: &'static str| {
        directory.change_password(account(0), "ana", secret(old), secret(new), now())
    };
    assert!(matches!(
        user_change("wrong", "Abcdef12").await,
        Err(DirectoryError::WrongPassword)
    ));
    assert!(matches!(
        user_change("Another12", "x").await,
        Err(DirectoryError::Password(_))
    ));
    user_change("Another12", "Third-one3").await.unwrap();
    assert_eq!(
        verify("ana", "Third-one3").await.unwrap(),
        PasswordState::Valid
    );
    let stays = directory.delete_user(account(0), "ana").await;
    assert!(
        matches!(stays, Err(DirectoryError::DeleteConflict { .. })),
        "{stays:?}"
    );
    directory
        .delete_login_profile(account(0), "ana")
        .await
        .unwrap();
    assert!(verify("ana", "Third-one3").await.is_err());
    assert!(matches!(
        user_change("Third-one3", "Abcdef12").await,
        Err(DirectoryError::NoSuch {
            what: Thing::LoginProfile,
            ..
        })
    ));
    directory.delete_user(account(0), "ana").await.unwrap();
}

#[tokio::test]
async fn passwords_do_not_come_again_as_often_as_the_policy_says() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let policy = PasswordPolicy {
        reuse_prevention: Some(2),
        ..lax()
    };
    directory
        .set_password_policy(account(0), policy)
        .await
        .unwrap();
    directory
        .create_login_profile(account(0), "ana", secret("first1"), false, now())
        .await
        .unwrap();
    for (old, new, reused) in [
        ("first1", "first1", true),
        ("first1", "second", false),
        ("second", "first1", true),
        ("second", "third3", false),
        ("third3", "second", true),
        ("third3", "first1", false),
    ] {
        let changed = directory
            .change_password(account(0), "ana", secret(old), secret(new), now())
            .await;
        match changed {
            Ok(()) => assert!(!reused, "{old} {new}"),
            Err(DirectoryError::Password(PasswordFault::Reused)) => assert!(reused, "{old} {new}"),
            Err(error) => panic!("{old} {new}: {error}"),
        }
    }
}

#[tokio::test]
async fn passwords_expire_and_a_hard_expiry_leaves_them_to_the_administrator() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    directory
        .create_login_profile(account(0), "ana", secret("Abcdef12"), false, now())
        .await
        .unwrap();
    let day = |n: i64| now() + SignedDuration::from_hours(24 * n);
    let almost = day(90) - SignedDuration::from_secs(1);
    for (hard, at, state) in [
        (None, almost, PasswordState::Valid),
        (None, day(90), PasswordState::MustChange),
        (Some(false), day(90), PasswordState::MustChange),
        (Some(true), almost, PasswordState::Valid),
        (Some(true), day(90), PasswordState::Locked),
    ] {
        let policy = PasswordPolicy {
            max_age_days: Some(90),
            hard_expiry: hard,
            ..lax()
        };
        directory
            .set_password_policy(account(0), policy)
            .await
            .unwrap();
        let found = directory
            .verify_password(account(0), "ana", secret("Abcdef12"), at)
            .await;
        assert_eq!(found.unwrap(), state, "{hard:?}");
    }
    let change = |at| {
        directory.change_password(
            account(0),
            "ana",
            secret("Abcdef12"),
            secret("Abcdef13"),
            at,
        )
    };
    assert!(matches!(
        change(day(90)).await,
        Err(DirectoryError::WrongPassword)
    ));
    change(almost).await.unwrap();
}

#[tokio::test]
async fn a_policy_has_numbers_in_bounds_and_is_deleted_once() {
    let (_, directory) = with_account().await;
    let set = |change: fn(&mut PasswordPolicy)| {
        let mut policy = lax();
        change(&mut policy);
        directory.set_password_policy(account(0), policy)
    };
    for bad in [
        (|p| p.minimum_length = 5) as fn(&mut PasswordPolicy),
        |p| p.minimum_length = 129,
        |p| p.max_age_days = Some(0),
        |p| p.max_age_days = Some(1096),
        |p| p.reuse_prevention = Some(0),
        |p| p.reuse_prevention = Some(25),
    ] {
        assert!(matches!(set(bad).await, Err(DirectoryError::Invalid(_))));
    }
    let delete = || directory.delete_password_policy(account(0));
    assert!(matches!(
        delete().await,
        Err(DirectoryError::NoSuch {
            what: Thing::PasswordPolicy,
            ..
        })
    ));
    set(|p| p.max_age_days = Some(1095)).await.unwrap();
    delete().await.unwrap();
    assert!(delete().await.is_err());
}

#[tokio::test]
async fn of_two_who_change_one_password_one_is_told_so() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    directory
        .create_login_profile(account(0), "ana", secret("Abcdef12"), false, now())
        .await
        .unwrap();
    let change =
        |new| directory.change_password(account(0), "ana", secret("Abcdef12"), secret(new), now());
    let (one, two) = tokio::join!(change("Abcdef13"), change("Abcdef14"));
    assert_ne!(one.is_ok(), two.is_ok(), "{one:?} {two:?}");
}

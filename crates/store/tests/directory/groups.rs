//! Groups and their members.

use countersign_store::{DirectoryError, GroupChange, MfaOwner, NewGroup, Quotas, Random, Thing};
use std::sync::Arc;

use super::*;

fn new_group(name: &str) -> NewGroup {
    NewGroup {
        account: account(0),
        name: name.into(),
        path: "/".into(),
    }
}

fn members(directory: &Directory, group: &str) -> Vec<String> {
    let snapshot = directory.snapshot();
    let group = snapshot.group(account(0), group).unwrap();
    snapshot
        .group_members(group, None)
        .map(|user| user.record.name.to_string())
        .collect()
}

fn groups(directory: &Directory, user: &str) -> Vec<String> {
    let snapshot = directory.snapshot();
    let user = snapshot.user(account(0), user).unwrap();
    snapshot
        .groups_of(user)
        .map(|group| group.record.name.to_string())
        .collect()
}

#[tokio::test]
async fn group_names_are_unique_ignoring_case_and_path_and_free_after_rename_and_deletion() {
    let (_, directory) = with_account().await;
    let made = directory
        .create_group(new_group("Ops"), now())
        .await
        .unwrap();
    assert_eq!(made.arn(), "arn:aws:iam::111122223333:group/Ops");
    assert!(made.id.starts_with("AGPA") && made.id.len() == 21);
    for (name, path) in [("Ops", "/"), ("ops", "/x/"), ("OPS", "/")] {
        let group = NewGroup {
            path: path.into(),
            ..new_group(name)
        };
        let error = directory.create_group(group, now()).await.unwrap_err();
        assert!(
            matches!(&error, DirectoryError::Exists { what: Thing::Group, name: n } if **n == *name),
            "{error:?}"
        );
    }
    directory
        .create_group(new_group("dev"), now())
        .await
        .unwrap();
    let rename = |to: &str, path: Option<&str>| GroupChange {
        name: Some(to.into()),
        path: path.map(Into::into),
    };
    assert!(matches!(
        directory
            .update_group(account(0), "ops", rename("DEV", None))
            .await,
        Err(DirectoryError::Exists { .. })
    ));
    // Another case of the same name is the same group.
    for (from, to, path, arn) in [
        ("ops", "OPS", None, "group/OPS"),
        ("Ops", "Platform", Some("/a/"), "group/a/Platform"),
        ("platform", "platform", Some("/b/"), "group/b/platform"),
    ] {
        let changed = directory
            .update_group(account(0), from, rename(to, path))
            .await
            .unwrap();
        assert_eq!(changed.arn(), format!("arn:aws:iam::111122223333:{arn}"));
        assert_eq!(changed.id, made.id);
    }
    let snapshot = directory.snapshot();
    assert!(snapshot.group(account(0), "ops").is_none());
    assert_eq!(
        &*snapshot.group_by_id(&made.id).unwrap().record.name,
        "platform"
    );
    assert_eq!(snapshot.group_count(account(0)), 2);
    directory
        .create_group(new_group("ops"), now())
        .await
        .unwrap();
    directory.delete_group(account(0), "OPS").await.unwrap();
    let again = directory
        .create_group(new_group("ops"), now())
        .await
        .unwrap();
    assert_ne!(again.id, made.id);
    for bad in ["", "a b", "a/b", &"x".repeat(129)] {
        assert!(matches!(
            directory.create_group(new_group(bad), now()).await,
            Err(DirectoryError::Invalid(_))
        ));
    }
}

#[tokio::test]
async fn membership_follows_renames_and_is_refused_and_ended_by_name() {
    let (_, directory) = with_account().await;
    for name in ["ana", "bob"] {
        directory.create_user(new_user(name), now()).await.unwrap();
    }
    for name in ["ops", "dev"] {
        directory
            .create_group(new_group(name), now())
            .await
            .unwrap();
    }
    for (group, user) in [
        ("ops", "bob"),
        ("OPS", "ANA"),
        ("ops", "ana"),
        ("dev", "ana"),
    ] {
        directory
            .add_user_to_group(account(0), group, user)
            .await
            .unwrap();
    }
    assert_eq!(members(&directory, "ops"), ["ana", "bob"]);
    assert_eq!(groups(&directory, "ana"), ["ops", "dev"]);
    let change = GroupChange {
        name: Some("sre".into()),
        path: None,
    };
    directory
        .update_group(account(0), "ops", change)
        .await
        .unwrap();
    assert_eq!(members(&directory, "sre"), ["ana", "bob"]);
    assert_eq!(groups(&directory, "ana"), ["sre", "dev"]);
    // With both unknown the user is named.
    for (group, user, named) in [
        ("nogroup", "nobody", "nobody"),
        ("ops", "ana", "ops"),
        ("sre", "nobody", "nobody"),
    ] {
        for error in [
            directory.add_user_to_group(account(0), group, user).await,
            directory
                .remove_user_from_group(account(0), group, user)
                .await,
        ] {
            let text = error.unwrap_err().to_string();
            assert!(text.contains(&format!("`{named}`")), "{text}");
        }
    }
    let error = directory.delete_group(account(0), "sre").await.unwrap_err();
    assert_eq!(error.to_string(), "it still has members");
    // Twice is once.
    for user in ["ana", "ana", "bob"] {
        directory
            .remove_user_from_group(account(0), "sre", user)
            .await
            .unwrap();
    }
    directory.delete_group(account(0), "sre").await.unwrap();
    assert_eq!(groups(&directory, "ana"), ["dev"]);
    let stays = directory.delete_account(account(0)).await.unwrap_err();
    assert_eq!(stays.to_string(), "it still has users");
    let unknown = directory
        .enable_mfa_device(account(0), MfaOwner::User("ana"), "arn:x", ["", ""], now())
        .await;
    assert!(matches!(unknown, Err(DirectoryError::NoSuch { .. })));
}

#[tokio::test]
async fn quotas_of_groups_are_kept() {
    let quotas = Quotas {
        groups_per_account: 2,
        groups_per_user: 1,
        ..Quotas::default()
    };
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = Directory::open(store, sealer(1), Random::system(), quotas)
        .await
        .unwrap();
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    directory.create_user(new_user("ana"), now()).await.unwrap();
    for name in ["a", "b"] {
        directory
            .create_group(new_group(name), now())
            .await
            .unwrap();
    }
    let full = directory.create_group(new_group("c"), now()).await;
    assert_eq!(
        full.unwrap_err().to_string(),
        "cannot exceed quota for GroupsPerAccount: 2"
    );
    directory
        .add_user_to_group(account(0), "a", "ana")
        .await
        .unwrap();
    // It is in it already, which takes no place.
    directory
        .add_user_to_group(account(0), "a", "ana")
        .await
        .unwrap();
    let full = directory.add_user_to_group(account(0), "b", "ana").await;
    assert_eq!(
        full.unwrap_err().to_string(),
        "cannot exceed quota for GroupsPerUser: 1"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn group_is_deleted_or_gets_a_member_but_not_both() {
    let (store, directory) = with_account().await;
    let other = open(&store).await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    for round in 0..20 {
        let name = format!("group-{round}");
        directory
            .create_group(new_group(&name), now())
            .await
            .unwrap();
        other
            .feed()
            .wait_for(directory.snapshot().revision())
            .await
            .unwrap();
        let (added, deleted) = tokio::join!(
            other.add_user_to_group(account(0), &name, "ana"),
            directory.delete_group(account(0), &name),
        );
        assert_ne!(added.is_ok(), deleted.is_ok(), "{added:?} {deleted:?}");
        if added.is_ok() {
            other
                .remove_user_from_group(account(0), &name, "ana")
                .await
                .unwrap();
        }
    }
    let snapshot = other.snapshot();
    let ana = snapshot.user(account(0), "ana").unwrap();
    assert!(ana.record.groups.is_empty());
}

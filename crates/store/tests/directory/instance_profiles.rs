//! Instance profiles and the role in them.

use countersign_store::{DirectoryError, NewInstanceProfile, Thing};

use crate::{account, new_role, now, open, with_account};

fn profile(name: &str) -> NewInstanceProfile {
    NewInstanceProfile {
        account: account(0),
        name: name.into(),
        path: "/".into(),
        tags: Vec::new(),
    }
}

#[tokio::test]
async fn a_profile_holds_one_role_and_both_hold_each_other() {
    let (store, directory) = with_account().await;
    let nodes = NewInstanceProfile {
        path: "/eks/".into(),
        ..profile("Nodes")
    };
    let made = directory
        .create_instance_profile(nodes, now())
        .await
        .unwrap();
    assert!(made.id.starts_with("AIPA"), "{}", made.id);
    assert_eq!(
        made.arn(),
        "arn:aws:iam::111122223333:instance-profile/eks/Nodes"
    );
    assert!(matches!(
        directory
            .create_instance_profile(profile("nODES"), now())
            .await,
        Err(DirectoryError::Exists {
            what: Thing::InstanceProfile,
            ..
        })
    ));
    for name in ["node", "other"] {
        directory.create_role(new_role(name), now()).await.unwrap();
    }
    let add = |profile, role| directory.add_role_to_instance_profile(account(0), profile, role);
    let remove =
        |profile, role| directory.remove_role_from_instance_profile(account(0), profile, role);
    assert!(matches!(
        add("nothing", "nobody").await,
        Err(DirectoryError::NoSuch {
            what: Thing::InstanceProfile,
            ..
        })
    ));
    assert!(matches!(
        add("nodes", "nobody").await,
        Err(DirectoryError::NoSuchRole(_))
    ));
    assert!(matches!(
        remove("nodes", "node").await,
        Err(DirectoryError::NoSuchRoleInProfile { .. })
    ));
    add("NODES", "Node").await.unwrap();
    for role in ["node", "other"] {
        assert!(matches!(
            add("nodes", role).await,
            Err(DirectoryError::QuotaExceeded {
                quota: "InstanceSessionsPerInstanceProfile",
                limit: 1
            })
        ));
    }
    let snapshot = open(&store).await.snapshot();
    let role = snapshot.role(account(0), "node").unwrap();
    let entry = snapshot.instance_profile(account(0), "nodes").unwrap();
    assert_eq!(snapshot.role_in(entry).unwrap().arn, role.arn);
    let of_role: Vec<_> = snapshot.instance_profiles_of(role).collect();
    assert_eq!(of_role.len(), 1);
    assert_eq!(of_role[0].arn, entry.arn);
    assert!(matches!(
        directory.delete_role(account(0), "node").await,
        Err(DirectoryError::DeleteConflict {
            what: "instance profiles"
        })
    ));
    assert!(matches!(
        directory.delete_instance_profile(account(0), "nodes").await,
        Err(DirectoryError::DeleteConflict {
            what: "instance profiles"
        })
    ));
    assert!(matches!(
        remove("nodes", "other").await,
        Err(DirectoryError::NoSuchRoleInProfile { .. })
    ));
    remove("nodes", "NODE").await.unwrap();
    let snapshot = directory.snapshot();
    let role = snapshot.role(account(0), "node").unwrap();
    assert_eq!(snapshot.instance_profiles_of(role).count(), 0);
    directory
        .delete_instance_profile(account(0), "NODES")
        .await
        .unwrap();
    directory.delete_role(account(0), "node").await.unwrap();
    assert!(matches!(
        directory.delete_instance_profile(account(0), "nodes").await,
        Err(DirectoryError::NoSuch {
            what: Thing::InstanceProfile,
            ..
        })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_role_is_deleted_or_put_into_a_profile_but_not_both() {
    let (store, directory) = with_account().await;
    let other = open(&store).await;
    for round in 0..20 {
        let name = format!("n{round}");
        directory
            .create_instance_profile(profile(&name), now())
            .await
            .unwrap();
        directory.create_role(new_role(&name), now()).await.unwrap();
        let revision = directory.snapshot().revision();
        other.feed().wait_for(revision).await.unwrap();
        let add = {
            let (other, name) = (other.clone(), name.clone());
            tokio::spawn(async move {
                other
                    .add_role_to_instance_profile(account(0), &name, &name)
                    .await
            })
        };
        let delete = {
            let (directory, name) = (directory.clone(), name.clone());
            tokio::spawn(async move { directory.delete_role(account(0), &name).await })
        };
        let (added, deleted) = (add.await.unwrap(), delete.await.unwrap());
        assert_ne!(added.is_ok(), deleted.is_ok(), "{added:?} {deleted:?}");
    }
}

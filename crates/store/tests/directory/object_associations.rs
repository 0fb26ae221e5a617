//! Associations that belong to objects of a cluster.

use countersign_arn::Tag;
use countersign_store::records::{PodIdentityAssociation, object_owner, owning_object};
use countersign_store::{DirectoryError, NewPodIdentityAssociation, Taggable};
use jiff::ToSpan;

use super::*;

const ROLE: &str = "arn:aws:iam::111122223333:role/Picker";

async fn with_cluster() -> (Arc<TestStore>, Directory) {
    let (store, directory) = with_account().await;
    directory
        .create_cluster(new_cluster("demo"), now())
        .await
        .unwrap();
    (store, directory)
}

fn owner(directory: &Directory, name: &str) -> Box<str> {
    let snapshot = directory.snapshot();
    let cluster = place("demo").find(&snapshot, now()).unwrap();
    object_owner(&cluster.record, "orchard", name).into()
}

fn new(
    directory: &Directory,
    account: &str,
    role: &str,
    object: &str,
) -> NewPodIdentityAssociation {
    NewPodIdentityAssociation {
        namespace: "orchard".into(),
        service_account: account.into(),
        role_arn: role.into(),
        target_role_arn: None,
        disable_session_tags: None,
        policy: None,
        owner_arn: (!object.is_empty()).then(|| owner(directory, object)),
        sessions: Default::default(),
        tags: Vec::new(),
    }
}

async fn put(
    directory: &Directory,
    new: &NewPodIdentityAssociation,
) -> Result<PodIdentityAssociation, String> {
    let at = now() + 1.minute();
    let put = directory.put_object_association(place("demo"), new, at);
    put.await.map_err(|error| error.to_string())
}

#[test]
fn owners_are_read_as_they_are_written() {
    for (owner, expected) in [
        (
            "arn:aws:eks:eu-central-1:111122223333:podidentityassociation-object/demo/shop/cart.v1",
            Some(("shop", "cart.v1")),
        ),
        (
            "arn:aws:eks:eu-central-1:111122223333:addon/demo/vpc-cni/0",
            None,
        ),
        (
            "arn:aws:eks:eu-central-1:111122223333:podidentityassociation-object/demo/shop",
            None,
        ),
        ("shop/cart", None),
    ] {
        assert_eq!(owning_object(owner), expected, "{owner}");
    }
}

#[tokio::test]
async fn an_object_makes_and_changes_its_own_association_alone() {
    let (_, directory) = with_cluster().await;
    let made = put(&directory, &new(&directory, "picker", ROLE, "one"))
        .await
        .unwrap();
    assert!(made.is_of_object());
    // The same again is not written.
    let revision = directory.snapshot().revision();
    let same = put(&directory, &new(&directory, "picker", ROLE, "one")).await;
    assert_eq!(same.unwrap(), made);
    assert_eq!(directory.snapshot().revision(), revision);
    // A change, and another object in its place: it stays the same association.
    for (role, object) in [("R2", "one"), ("R2", "two"), ("R3", "one")] {
        let changed = put(&directory, &new(&directory, "picker", role, object))
            .await
            .unwrap();
        assert_eq!((&changed.id, changed.created), (&made.id, made.created));
        assert_eq!(&*changed.role_arn, role);
        assert_eq!(changed.owner_arn, Some(owner(&directory, object)));
    }
    // One of the EKS API is not taken over.
    let by_api = new(&directory, "packer", ROLE, "");
    directory
        .create_pod_identity_association(place("demo"), by_api, None, now())
        .await
        .unwrap();
    for (new, told) in [
        (new(&directory, "packer", ROLE, "one"), "already"),
        (
            new(&directory, "third", ROLE, ""),
            "an object of the cluster",
        ),
        (new(&directory, "third-*", ROLE, "one"), "service account"),
        (
            NewPodIdentityAssociation {
                policy: Some("{}".into()),
                ..new(&directory, "third", ROLE, "one")
            },
            "session tags disabled",
        ),
        (
            NewPodIdentityAssociation {
                policy: Some("{}".into()),
                ..new(&directory, "picker", ROLE, "one")
            },
            "session tags disabled",
        ),
    ] {
        let error = put(&directory, &new).await.unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    // Nor does the EKS API change what an object owns, tags included.
    let snapshot = directory.snapshot();
    let cluster = place("demo").find(&snapshot, now()).unwrap();
    let arn = made.arn(&cluster.record);
    let tag = Tag {
        key: "a".into(),
        value: "b".into(),
    };
    let what = Taggable::PodIdentityAssociation(&arn);
    let tagged = directory.tag(made.account, what, &[tag]).await;
    assert!(matches!(tagged, Err(DirectoryError::OwnedByAddon { .. })));
    let deleted = directory
        .delete_pod_identity_association(place("demo"), &made.id, None, now())
        .await;
    assert!(matches!(deleted, Err(DirectoryError::OwnedByAddon { .. })));
    // Until it is released: then it is the EKS API's, and the object has lost it.
    let release = || directory.release_object_associations(place("demo"), now());
    assert_eq!((release().await.unwrap(), release().await.unwrap()), (1, 0));
    let refused = put(&directory, &new(&directory, "picker", ROLE, "one")).await;
    assert!(refused.unwrap_err().contains("already"));
    directory
        .delete_pod_identity_association(place("demo"), &made.id, None, now())
        .await
        .unwrap();
}

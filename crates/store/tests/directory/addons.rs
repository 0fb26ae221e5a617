//! Add-ons, and the pod identity associations that they own.

use countersign_arn::Tag;
use countersign_store::records::{Addon, ClusterStatus};
use countersign_store::{
    AddonAssociation, AddonChange, DirectoryError, NewAddon, NewPodIdentityAssociation, Taggable,
};
use jiff::{SignedDuration, ToSpan};

use super::*;

const NONE: SignedDuration = SignedDuration::ZERO;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const ROLE: &str = "arn:aws:iam::111122223333:role/a";
const OTHER: &str = "arn:aws:iam::111122223333:role/b";

fn addon(name: &str, associations: &[AddonAssociation]) -> NewAddon {
    NewAddon {
        name: name.into(),
        version: "v1.0.0-eksbuild.1".into(),
        service_account_role_arn: None,
        configuration_values: None,
        namespace: None,
        associations: associations.to_vec(),
        tags: Vec::new(),
    }
}

fn pair(service_account: &str, role: &str) -> AddonAssociation {
    AddonAssociation {
        namespace: "kube-system".into(),
        service_account: service_account.into(),
        role_arn: role.into(),
    }
}

async fn cluster(quotas: Quotas) -> (Directory, Box<str>) {
    let (_, directory) = with_quotas(quotas).await;
    let made = directory.create_cluster(new_cluster("demo"), now()).await;
    (directory, made.unwrap().id)
}

async fn create(
    directory: &Directory,
    new: NewAddon,
    settling: SignedDuration,
) -> Result<Addon, DirectoryError> {
    let made = directory.create_addon(place("demo"), new, settling, None, now());
    Ok(made.await?.done().unwrap())
}

/// Service accounts and roles of all associations, with whether an add-on owns them.
fn associations(directory: &Directory, id: &str) -> Vec<(String, String, bool)> {
    let snapshot = directory.snapshot();
    let all = snapshot.pod_identity_associations(id, None);
    all.map(|entry| {
        let record = &entry.record;
        (
            record.service_account.to_string(),
            record.role_arn.to_string(),
            record.owner_arn.is_some(),
        )
    })
    .collect()
}

fn word(error: &DirectoryError) -> String {
    match error {
        DirectoryError::Exists { what, .. } => format!("is {what:?}"),
        DirectoryError::NoSuch { what, .. } => format!("no {what:?}"),
        DirectoryError::QuotaExceeded { quota, .. } => format!("over {quota}"),
        DirectoryError::Invalid(field) => format!("bad {}", field.field),
        DirectoryError::AddonBusy { update, .. } => format!("busy {}", update.is_some()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_addon_is_there_once_and_one_thing_happens_to_it_at_a_time() {
    let (directory, id) = cluster(Quotas::default()).await;
    create(&directory, addon("vpc-cni", &[]), MINUTE)
        .await
        .unwrap();
    for (new, expected) in [
        (addon("vpc-cni", &[]), "is Addon"),
        (addon("VPC", &[]), "bad addonName"),
        (addon("", &[]), "bad addonName"),
        (addon("a/b", &[]), "bad addonName"),
    ] {
        assert_eq!(
            word(&create(&directory, new, NONE).await.unwrap_err()),
            expected
        );
    }
    let change = AddonChange {
        version: Some("v2.0.0-eksbuild.1".into()),
        params: vec![("AddonVersion".into(), "v2.0.0-eksbuild.1".into())],
        ..AddonChange::default()
    };
    let update = async |name: &str, when| {
        let done = directory.update_addon(place("demo"), name, &change, MINUTE, None, when);
        done.await.map(|outcome| outcome.done().unwrap())
    };
    let status = |when| {
        let snapshot = directory.snapshot();
        snapshot
            .addon(&id, "vpc-cni")
            .and_then(|addon| addon.record.status(when))
    };
    assert_eq!(status(now()), Some(ClusterStatus::Creating));
    assert_eq!(
        word(&update("vpc-cni", now()).await.unwrap_err()),
        "busy false"
    );
    assert_eq!(
        word(&update("coredns", now()).await.unwrap_err()),
        "no Addon"
    );
    let ready = now() + 1.minute();
    assert_eq!(status(ready), Some(ClusterStatus::Active));
    // An update of the cluster does not stop one of an add-on.
    directory
        .update_cluster(place("demo"), "LoggingUpdate", MINUTE, None, ready, |_| {
            Ok(Vec::new())
        })
        .await
        .unwrap();
    let started = update("vpc-cni", ready).await.unwrap();
    assert_eq!(
        (started.addon.as_deref(), &*started.kind),
        (Some("vpc-cni"), "AddonUpdate")
    );
    assert_eq!(status(ready), Some(ClusterStatus::Updating));
    assert_eq!(
        word(&update("vpc-cni", ready).await.unwrap_err()),
        "busy true"
    );
    let delete = async |when| {
        directory
            .delete_addon(place("demo"), "vpc-cni", MINUTE, when)
            .await
    };
    assert_eq!(word(&delete(ready).await.unwrap_err()), "busy true");
    let done = ready + 1.minute();
    let arn = {
        let snapshot = directory.snapshot();
        let cluster = snapshot.cluster_by_id(&id).unwrap();
        let addon = snapshot.addon(&id, "vpc-cni").unwrap();
        assert_eq!(&*addon.record.version, "v2.0.0-eksbuild.1");
        assert_eq!(addon.record.modified, ready);
        addon.record.arn(&cluster.record)
    };
    let tag = Tag {
        key: "k".into(),
        value: "v".into(),
    };
    directory
        .tag(account(0), Taggable::Addon(&arn), &[tag])
        .await
        .unwrap();
    delete(done).await.unwrap();
    assert_eq!(status(done), Some(ClusterStatus::Deleting));
    assert_eq!(word(&delete(done).await.unwrap_err()), "busy false");
    let gone = done + 1.minute();
    assert_eq!(status(gone), None);
    assert_eq!(word(&delete(gone).await.unwrap_err()), "no Addon");
    assert_eq!(directory.sweep_clusters(gone).await.unwrap(), 1);
    assert!(directory.snapshot().addon(&id, "vpc-cni").is_none());
}

#[tokio::test]
async fn what_an_addon_owns_follows_it_in_one_transaction() {
    let quotas = Quotas {
        pod_identity_associations_per_cluster: 3,
        ..Quotas::default()
    };
    let (directory, id) = cluster(quotas).await;
    let own = NewPodIdentityAssociation {
        namespace: "kube-system".into(),
        service_account: "mine".into(),
        role_arn: ROLE.into(),
        target_role_arn: None,
        disable_session_tags: None,
        policy: None,
        owner_arn: None,
        sessions: countersign_session::PodSessions::default(),
        tags: Vec::new(),
    };
    directory
        .create_pod_identity_association(place("demo"), own, None, now())
        .await
        .unwrap();
    let mine = || ("mine".to_owned(), ROLE.to_owned(), false);
    let owned = |name: &str, role: &str| (name.to_owned(), role.to_owned(), true);
    // Nothing of an add-on is made when one of its associations cannot be.
    let taken = create(
        &directory,
        addon("x", &[pair("a", ROLE), pair("mine", ROLE)]),
        NONE,
    )
    .await;
    assert_eq!(word(&taken.unwrap_err()), "is PodIdentityAssociation");
    assert!(directory.snapshot().addon(&id, "x").is_none());
    assert_eq!(associations(&directory, &id), [mine()]);
    create(
        &directory,
        addon("x", &[pair("a", ROLE), pair("b", ROLE)]),
        NONE,
    )
    .await
    .unwrap();
    assert_eq!(
        associations(&directory, &id),
        [owned("a", ROLE), owned("b", ROLE), mine()]
    );
    let full = create(&directory, addon("y", &[pair("c", ROLE)]), NONE).await;
    assert_eq!(
        word(&full.unwrap_err()),
        "over PodIdentityAssociationsPerCluster"
    );
    for (asked, expected) in [
        (None, vec![owned("a", ROLE), owned("b", ROLE), mine()]),
        (
            Some(vec![pair("a", OTHER), pair("b", ROLE)]),
            vec![owned("a", OTHER), owned("b", ROLE), mine()],
        ),
        (Some(vec![pair("b", ROLE)]), vec![owned("b", ROLE), mine()]),
        (
            Some(vec![pair("b", ROLE), pair("d", ROLE)]),
            vec![owned("b", ROLE), owned("d", ROLE), mine()],
        ),
        (Some(vec![]), vec![mine()]),
        (Some(vec![pair("a", ROLE)]), vec![owned("a", ROLE), mine()]),
    ] {
        let change = AddonChange {
            associations: asked,
            ..AddonChange::default()
        };
        directory
            .update_addon(place("demo"), "x", &change, NONE, None, now())
            .await
            .unwrap();
        assert_eq!(associations(&directory, &id), expected);
    }
    directory
        .delete_addon(place("demo"), "x", MINUTE, now())
        .await
        .unwrap();
    assert_eq!(associations(&directory, &id), [mine()]);
}

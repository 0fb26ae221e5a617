//! OIDC identity provider configs.

use countersign_arn::Tag;
use countersign_store::records::{ClusterStatus, UpdateStatus};
use countersign_store::{DirectoryError, NewIdentityProviderConfig, Taggable, Thing};
use jiff::{SignedDuration, ToSpan};

use super::*;

const NONE: SignedDuration = SignedDuration::ZERO;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn config(name: &str, issuer: &str) -> NewIdentityProviderConfig {
    NewIdentityProviderConfig {
        name: name.into(),
        issuer_url: issuer.into(),
        client_id: "kubernetes".into(),
        username_claim: None,
        username_prefix: None,
        groups_claim: None,
        groups_prefix: None,
        required_claims: Default::default(),
        tags: Vec::new(),
    }
}

async fn cluster(quotas: Quotas) -> (Directory, Box<str>) {
    let (_, directory) = with_quotas(quotas).await;
    let made = directory.create_cluster(new_cluster("demo"), now()).await;
    (directory, made.unwrap().id)
}

async fn associate(
    directory: &Directory,
    new: NewIdentityProviderConfig,
    settling: SignedDuration,
    when: Timestamp,
) -> Result<String, DirectoryError> {
    let made =
        directory.associate_identity_provider_config(place("demo"), new, settling, None, when);
    let update = made.await?.done().unwrap();
    assert_eq!(update.outcome, UpdateStatus::Successful);
    Ok(update.params[0].1.to_string())
}

fn word(error: &DirectoryError) -> String {
    match error {
        DirectoryError::Exists { what, name } => format!("is {what:?} {name}"),
        DirectoryError::NoSuch { what, .. } => format!("no {what:?}"),
        DirectoryError::QuotaExceeded { quota, .. } => format!("over {quota}"),
        DirectoryError::Invalid(field) => format!("bad {}", field.field),
        DirectoryError::ClusterBusy { .. } => "busy".to_owned(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn names_and_issuers_are_there_once() {
    let quotas = Quotas {
        identity_provider_configs_per_cluster: 3,
        ..Quotas::default()
    };
    let (directory, id) = cluster(quotas).await;
    for (what, name, issuer, expected) in [
        (
            "one",
            "b",
            "https://b.example",
            r#"[{"name":"b","type":"oidc"}]"#,
        ),
        (
            "its name",
            "b",
            "https://c.example",
            "is IdentityProviderConfig b",
        ),
        (
            "its issuer",
            "c",
            "https://b.example",
            "is IdentityProviderConfig b",
        ),
        (
            "no name",
            "",
            "https://c.example",
            "bad identityProviderConfigName",
        ),
        (
            "a path",
            "a/b",
            "https://c.example",
            "bad identityProviderConfigName",
        ),
        (
            "a space",
            "a b",
            "https://c.example",
            "bad identityProviderConfigName",
        ),
        (
            "a hyphen first",
            "-a",
            "https://c.example",
            "bad identityProviderConfigName",
        ),
        (
            "another case",
            "B",
            "https://b.example/",
            r#"[{"name":"B","type":"oidc"},{"name":"b","type":"oidc"}]"#,
        ),
        (
            "a third",
            "a.1_x",
            "https://a.example",
            r#"[{"name":"B","type":"oidc"},{"name":"a.1_x","type":"oidc"},{"name":"b","type":"oidc"}]"#,
        ),
        (
            "one too many",
            "d",
            "https://d.example",
            "over IdentityProviderConfigsPerCluster",
        ),
    ] {
        let got = associate(&directory, config(name, issuer), NONE, now()).await;
        let got = got.unwrap_or_else(|error| word(&error));
        assert_eq!(got, expected, "{what}");
    }
    let snapshot = directory.snapshot();
    let names: Vec<_> = snapshot
        .identity_provider_configs(&id, Some("B"))
        .map(|entry| &*entry.record.name)
        .collect();
    assert_eq!(names, ["a.1_x", "b"]);
    let found = |issuer| snapshot.identity_provider_config_of_issuer(&id, issuer);
    assert_eq!(&*found("https://b.example/").unwrap().record.name, "B");
    assert!(found("https://B.example").is_none());
    assert!(snapshot.identity_provider_config("none", "b").is_none());
}

#[tokio::test]
async fn it_is_in_force_while_it_settles_and_out_of_force_while_it_goes() {
    let (directory, id) = cluster(Quotas::default()).await;
    let issuer = "https://b.example";
    associate(&directory, config("b", issuer), MINUTE, now())
        .await
        .unwrap();
    let status = |when| {
        let snapshot = directory.snapshot();
        let config = snapshot.identity_provider_config(&id, "b")?;
        config.record.status(when)
    };
    let in_force = || {
        let snapshot = directory.snapshot();
        snapshot
            .identity_provider_config_of_issuer(&id, issuer)
            .is_some()
    };
    let (mid, after) = (now() + 30.seconds(), now() + 2.minutes());
    assert_eq!(status(mid), Some(ClusterStatus::Creating));
    assert!(in_force());
    // One update at a time.
    let busy = associate(&directory, config("c", "https://c.example"), NONE, mid).await;
    assert_eq!(word(&busy.unwrap_err()), "busy");
    assert_eq!(status(after), Some(ClusterStatus::Active));
    let gone =
        directory.disassociate_identity_provider_config(place("demo"), "b", MINUTE, None, after);
    let update = gone.await.unwrap().done().unwrap();
    assert_eq!(&*update.params[0].1, "[]");
    assert!(!in_force());
    assert_eq!(status(after), Some(ClusterStatus::Deleting));
    let later = after + 2.minutes();
    assert_eq!(status(later), None);
    let again =
        directory.disassociate_identity_provider_config(place("demo"), "b", NONE, None, later);
    assert_eq!(word(&again.await.unwrap_err()), "no IdentityProviderConfig");
    // The record that was not swept yet gives way to a new one of the name.
    let old = directory
        .snapshot()
        .identity_provider_config(&id, "b")
        .unwrap()
        .record
        .uuid
        .clone();
    associate(&directory, config("b", issuer), NONE, later)
        .await
        .unwrap();
    let new = directory
        .snapshot()
        .identity_provider_config(&id, "b")
        .unwrap()
        .record
        .uuid
        .clone();
    assert_ne!(old, new);
    assert!(in_force());
}

#[tokio::test]
async fn they_are_swept_with_their_cluster_and_after_their_time() {
    let (directory, id) = cluster(Quotas::default()).await;
    associate(&directory, config("b", "https://b.example"), NONE, now())
        .await
        .unwrap();
    associate(&directory, config("c", "https://c.example"), NONE, now())
        .await
        .unwrap();
    let gone =
        directory.disassociate_identity_provider_config(place("demo"), "b", MINUTE, None, now());
    gone.await.unwrap();
    assert_eq!(directory.sweep_clusters(now()).await.unwrap(), 0);
    let later = now() + 2.minutes();
    assert_eq!(directory.sweep_clusters(later).await.unwrap(), 1);
    assert!(
        directory
            .snapshot()
            .identity_provider_config(&id, "b")
            .is_none()
    );
    let arn = {
        let snapshot = directory.snapshot();
        let cluster = snapshot.cluster_by_id(&id).unwrap();
        snapshot
            .identity_provider_config(&id, "c")
            .unwrap()
            .record
            .arn(&cluster.record)
    };
    let tag = Tag {
        key: "k".into(),
        value: "v".into(),
    };
    let what = Taggable::IdentityProviderConfig(&arn);
    directory
        .tag(account(0), what, std::slice::from_ref(&tag))
        .await
        .unwrap();
    assert_eq!(what.tags(&directory.snapshot(), account(0)).unwrap(), [tag]);
    let other = arn.replace("/c/", "/b/");
    let missing = Taggable::IdentityProviderConfig(&other).tags(&directory.snapshot(), account(0));
    assert!(matches!(
        missing,
        Err(DirectoryError::NoSuch {
            what: Thing::Resource,
            ..
        })
    ));
    directory
        .delete_cluster(place("demo"), NONE, later)
        .await
        .unwrap();
    // The config that is left, and three updates.
    assert_eq!(directory.sweep_clusters(later).await.unwrap(), 4);
    assert_eq!(
        directory
            .snapshot()
            .identity_provider_configs(&id, None)
            .count(),
        0
    );
}

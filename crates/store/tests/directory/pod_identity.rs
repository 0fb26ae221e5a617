//! Pod identity associations.

use countersign_store::records::{
    AnyRecord, PodIdentityAssociation, PodSessions, PodTag, RequestToken,
};
use countersign_store::{
    DirectoryError, Key, NewPodIdentityAssociation, Once, Outcome, PodIdentityAssociationChange,
    Taggable, Thing,
};
use jiff::{SignedDuration, ToSpan};

use super::*;

const ROLE: &str = "arn:aws:iam::111122223333:role/Picker";
const ADDON: &str = "arn:aws:eks:eu-central-1:111122223333:addon/demo/vpc-cni/0";

async fn with_cluster() -> (Arc<TestStore>, Directory, Box<str>) {
    let (store, directory) = with_account().await;
    let id = directory
        .create_cluster(new_cluster("demo"), now())
        .await
        .unwrap()
        .id;
    (store, directory, id)
}

fn new(namespace: &str, service_account: &str) -> NewPodIdentityAssociation {
    NewPodIdentityAssociation {
        namespace: namespace.into(),
        service_account: service_account.into(),
        role_arn: ROLE.into(),
        target_role_arn: None,
        disable_session_tags: None,
        policy: None,
        owner_arn: None,
        sessions: countersign_session::PodSessions::default(),
        tags: Vec::new(),
    }
}

async fn create(
    directory: &Directory,
    new: NewPodIdentityAssociation,
) -> Result<PodIdentityAssociation, DirectoryError> {
    directory
        .create_pod_identity_association(place("demo"), new, None, now())
        .await
        .map(|outcome| outcome.done().unwrap())
}

async fn update(
    directory: &Directory,
    id: &str,
    change: &PodIdentityAssociationChange,
    acting: Option<&str>,
) -> Result<PodIdentityAssociation, DirectoryError> {
    let at = now() + 1.minute();
    directory
        .update_pod_identity_association(place("demo"), id, change, acting, None, at)
        .await
        .map(|outcome| outcome.done().unwrap())
}

/// The name of an error's variant.
fn kind(error: &DirectoryError) -> String {
    format!("{error:?}")
        .split(['(', ' '])
        .next()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_service_account_has_one_association() {
    let (_, directory, cluster) = with_cluster().await;
    let made = create(&directory, new("orchard", "picker")).await.unwrap();
    let letters = made.id.strip_prefix("a-").unwrap();
    assert_eq!(letters.len(), 17, "{}", made.id);
    assert!(
        letters
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    );
    let error = create(&directory, new("orchard", "picker"))
        .await
        .unwrap_err();
    let DirectoryError::Exists { what, name } = error else {
        panic!("{error}");
    };
    assert_eq!(
        (what, name),
        (Thing::PodIdentityAssociation, made.id.clone())
    );
    let other = create(&directory, new("meadow", "picker")).await.unwrap();
    assert_ne!(other.id, made.id);
    let snapshot = directory.snapshot();
    let found = snapshot.pod_identity_association(&cluster, "orchard", "picker");
    assert_eq!(found.unwrap().record, made);
    let found = snapshot.pod_identity_association_by_id(&cluster, &other.id);
    assert_eq!(found.unwrap().record, other);
    assert!(
        snapshot
            .pod_identity_association("0AB", "orchard", "picker")
            .is_none()
    );
    let deleted = directory
        .delete_pod_identity_association(place("demo"), &made.id, None, now())
        .await
        .unwrap();
    assert_eq!(deleted, made);
    let again = create(&directory, new("orchard", "picker")).await.unwrap();
    assert_ne!(again.id, made.id, "an id is not used twice");
    let missing = directory
        .delete_pod_identity_association(place("demo"), &made.id, None, now())
        .await;
    assert_eq!(kind(&missing.unwrap_err()), "NoSuch");
}

#[tokio::test]
async fn what_is_no_association_is_refused() {
    let (_, directory, _) = with_cluster().await;
    let with_policy = |disabled| NewPodIdentityAssociation {
        disable_session_tags: disabled,
        policy: Some("{}".into()),
        ..new("orchard", "picker")
    };
    for (new, expected) in [
        (new("Orchard", "picker"), "Invalid"),
        (new("orchard", "picker/x"), "Invalid"),
        (new("", "picker"), "Invalid"),
        (with_policy(None), "PolicyNeedsTagsDisabled"),
        (with_policy(Some(false)), "PolicyNeedsTagsDisabled"),
    ] {
        let error = create(&directory, new.clone()).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{new:?}");
    }
    for (name, at, expected) in [
        ("other", now(), "NoSuchCluster"),
        ("demo", now(), "ClusterDeleting"),
    ] {
        directory
            .delete_cluster(place("demo"), SignedDuration::from_mins(1), at)
            .await
            .ok();
        let got = directory
            .create_pod_identity_association(place(name), new("orchard", "picker"), None, at)
            .await;
        assert_eq!(kind(&got.unwrap_err()), expected);
    }
}

#[tokio::test]
async fn changes_are_made_to_what_is_there() {
    let (_, directory, cluster) = with_cluster().await;
    let made = create(&directory, new("orchard", "picker")).await.unwrap();
    let change = |role: &str, target: &str, disabled: Option<bool>, policy: &str| {
        let given = |text: &str| match text {
            "-" => None,
            text => Some(Box::<str>::from(text)),
        };
        PodIdentityAssociationChange {
            role_arn: given(role),
            target_role_arn: given(target),
            disable_session_tags: disabled,
            policy: given(policy),
            ..PodIdentityAssociationChange::default()
        }
    };
    // Each change is made to the outcome of the one before.
    for (change, expected) in [
        (change("-", "-", None, "{}"), Err("PolicyNeedsTagsDisabled")),
        (
            change("-", "-", Some(true), "{}"),
            Ok((ROLE, None, Some(true), Some("{}"))),
        ),
        (
            change("-", "-", Some(false), "-"),
            Err("PolicyNeedsTagsDisabled"),
        ),
        (
            change("R", "T", None, "-"),
            Ok(("R", Some("T"), Some(true), Some("{}"))),
        ),
        (
            change("-", "", Some(false), ""),
            Ok(("R", None, Some(false), None)),
        ),
        (
            change("-", "", None, ""),
            Ok(("R", None, Some(false), None)),
        ),
    ] {
        let got = update(&directory, &made.id, &change, None).await;
        let snapshot = directory.snapshot();
        let stored = snapshot.pod_identity_association(&cluster, "orchard", "picker");
        let stored = stored.unwrap().record.clone();
        match (got, expected) {
            (Ok(got), Ok((role, target, disabled, policy))) => {
                assert_eq!(got, stored);
                assert_eq!(&*got.role_arn, role, "{change:?}");
                assert_eq!(got.target_role_arn.as_deref(), target, "{change:?}");
                assert_eq!(got.disable_session_tags, disabled, "{change:?}");
                assert_eq!(got.policy.as_deref(), policy, "{change:?}");
                assert_eq!((got.created, got.modified), (now(), now() + 1.minute()));
                assert_eq!(got.id, made.id);
            }
            (Err(error), Err(expected)) => assert_eq!(kind(&error), expected, "{change:?}"),
            (got, expected) => panic!("{change:?}: {got:?} {expected:?}"),
        }
    }
    // What changes nothing is not a modification, and not written.
    let revision = directory.snapshot().revision();
    let same = change("R", "", Some(false), "-");
    update(&directory, &made.id, &same, None).await.unwrap();
    assert_eq!(directory.snapshot().revision(), revision);
    let missing = update(&directory, "a-none", &same, None).await;
    assert_eq!(kind(&missing.unwrap_err()), "NoSuch");
}

#[tokio::test]
async fn what_an_addon_owns_changes_through_it_alone() {
    let (_, directory, _) = with_cluster().await;
    let owned = NewPodIdentityAssociation {
        owner_arn: Some(ADDON.into()),
        ..new("kube-system", "aws-node")
    };
    let owned = create(&directory, owned).await.unwrap().id;
    let free = create(&directory, new("orchard", "picker"))
        .await
        .unwrap()
        .id;
    let change = PodIdentityAssociationChange {
        role_arn: Some("R".into()),
        ..PodIdentityAssociationChange::default()
    };
    let other = ADDON.replace("vpc-cni", "other");
    for (id, acting, expected) in [
        (&owned, None, Some("OwnedByAddon")),
        (&owned, Some(&*other), Some("OwnedByAddon")),
        (&free, Some(ADDON), Some("Invalid")),
        (&owned, Some(ADDON), None),
        (&free, None, None),
    ] {
        let got = update(&directory, id, &change, acting).await;
        assert_eq!(
            got.err().as_ref().map(kind).as_deref(),
            expected,
            "{id} {acting:?}"
        );
        let got = directory
            .delete_pod_identity_association(place("demo"), id, acting, now())
            .await;
        assert_eq!(
            got.err().as_ref().map(kind).as_deref(),
            expected,
            "{id} {acting:?}"
        );
    }
}

#[tokio::test]
async fn a_cluster_has_so_many_and_they_go_with_it() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let quotas = Quotas {
        pod_identity_associations_per_cluster: 140,
        ..Quotas::default()
    };
    let directory = Directory::open(Arc::clone(&store) as _, sealer(1), Random::system(), quotas)
        .await
        .unwrap();
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    let cluster = async |name| {
        let new = new_cluster(name);
        directory.create_cluster(new, now()).await.unwrap().id
    };
    let old = cluster("demo").await;
    let kept = cluster("kept").await;
    for n in 0..140 {
        create(&directory, new("orchard", &format!("picker-{n}")))
            .await
            .unwrap();
    }
    let error = create(&directory, new("orchard", "one-more"))
        .await
        .unwrap_err();
    let DirectoryError::QuotaExceeded { quota, limit } = error else {
        panic!("{error}");
    };
    assert_eq!((quota, limit), ("PodIdentityAssociationsPerCluster", 140));
    directory
        .create_pod_identity_association(place("kept"), new("orchard", "picker"), None, now())
        .await
        .unwrap();
    assert_eq!(
        directory.snapshot().pod_identity_association_count(&old),
        140
    );
    directory
        .delete_cluster(place("demo"), SignedDuration::ZERO, now())
        .await
        .unwrap();
    let fresh = cluster("demo").await;
    let snapshot = directory.snapshot();
    assert_eq!(snapshot.pod_identity_association_count(&old), 0);
    assert_eq!(snapshot.pod_identity_association_count(&fresh), 0);
    assert!(
        snapshot
            .pod_identity_association(&old, "orchard", "picker-1")
            .is_none()
    );
    assert_eq!(directory.sweep_clusters(now()).await.unwrap(), 140);
    assert_eq!(directory.sweep_clusters(now()).await.unwrap(), 0);
    assert_eq!(
        directory.snapshot().pod_identity_association_count(&kept),
        1
    );
}

#[tokio::test]
async fn tags_are_those_of_the_association_and_no_modification() {
    let (_, directory, cluster) = with_cluster().await;
    let made = create(&directory, new("orchard", "picker")).await.unwrap();
    let snapshot = directory.snapshot();
    let arn = made.arn(&snapshot.cluster_by_id(&cluster).unwrap().record);
    let expected = format!(
        "arn:aws:eks:{REGION}:111122223333:podidentityassociation/demo/{}",
        made.id
    );
    assert_eq!(arn, expected);
    let what = Taggable::PodIdentityAssociation(&arn);
    let tag = |key: &str| countersign_arn::Tag {
        key: key.into(),
        value: "v".into(),
    };
    directory
        .tag(account(0), what, &[tag("a"), tag("A")])
        .await
        .unwrap();
    directory
        .untag(account(0), what, &["A", "none"])
        .await
        .unwrap();
    let snapshot = directory.snapshot();
    assert_eq!(what.tags(&snapshot, account(0)).unwrap(), [tag("a")]);
    let known = snapshot.pod_identity_association_by_id(&cluster, &made.id);
    assert_eq!(known.unwrap().record.modified, now());
    for wrong in [
        arn.replace("/demo/", "/other/"),
        arn.replace("111122223333", "111122223334"),
        arn.replace(REGION, "us-east-1"),
        format!("{arn}x"),
        arn.replace("/demo/", "/demo/x/"),
    ] {
        let got = directory
            .tag(
                account(0),
                Taggable::PodIdentityAssociation(&wrong),
                &[tag("a")],
            )
            .await;
        assert_eq!(kind(&got.unwrap_err()), "NoSuch", "{wrong}");
    }
}

#[tokio::test]
async fn a_request_that_is_repeated_is_done_once() {
    let (_, directory, cluster) = with_cluster().await;
    let token = RequestToken {
        account: account(0),
        region: REGION.into(),
        operation: "CreatePodIdentityAssociation".into(),
        token: "t".into(),
        parameters: [1; 32],
    };
    let answer = |made: &PodIdentityAssociation| made.id.as_bytes().to_vec();
    let once = Once {
        token: &token,
        answer: &answer,
    };
    let create = async || {
        let new = new("orchard", "picker");
        directory
            .create_pod_identity_association(place("demo"), new, Some(&once), now())
            .await
            .unwrap()
    };
    let Outcome::Done(made) = create().await else {
        panic!("it is the first");
    };
    assert_eq!(create().await, Outcome::Repeated(answer(&made).into()));
    assert_eq!(
        directory
            .snapshot()
            .pod_identity_association_count(&cluster),
        1
    );
    // What is only asked for leaves nothing, and says what would be.
    let outcome = directory
        .without_effect()
        .create_pod_identity_association(place("demo"), new("orchard", "other"), None, now())
        .await;
    assert!(matches!(outcome, Ok(Outcome::Done(_))));
    assert_eq!(
        directory
            .snapshot()
            .pod_identity_association_count(&cluster),
        1
    );
}

#[tokio::test]
async fn two_writers_make_one_association() {
    let (_, directory, cluster) = with_cluster().await;
    let all =
        futures::future::join_all((0..8).map(|_| create(&directory, new("orchard", "picker"))))
            .await;
    assert_eq!(all.iter().filter(|made| made.is_ok()).count(), 1);
    for error in all.iter().filter_map(|made| made.as_ref().err()) {
        assert_eq!(kind(error), "Exists");
    }
    assert_eq!(
        directory
            .snapshot()
            .pod_identity_association_count(&cluster),
        1
    );
}

#[tokio::test]
async fn records_are_written_as_before_unless_they_say_more_and_read_only_when_it_goes_together() {
    let (_, directory, _) = with_cluster().await;
    let plain = create(&directory, new("orchard", "picker")).await.unwrap();
    let text = String::from_utf8(plain.encode().to_vec()).unwrap();
    assert!(!text.contains("sessions"), "{text}");
    let said = NewPodIdentityAssociation {
        sessions: PodSessions {
            name_template: Some("{namespace}-{pod}".into()),
            tags: Some(vec![PodTag::Namespace, PodTag::ClusterArn]),
            extra_tags: vec![countersign_arn::Tag {
                key: "app".into(),
                value: "{label:app}".into(),
            }],
            duration_seconds: Some(900),
        },
        ..new("dev-*", "*")
    };
    let said = create(&directory, said).await.unwrap();
    let decoded = |record: &PodIdentityAssociation, from: &str, to: &str| {
        let key: Key = record.key().to_key().unwrap();
        let text = String::from_utf8(record.encode().to_vec()).unwrap();
        assert!(text.contains(from), "{text}");
        AnyRecord::decode(&key, text.replace(from, to).as_bytes())
    };
    for record in [&plain, &said] {
        let again = AnyRecord::PodIdentityAssociation(Box::new(record.clone()));
        assert_eq!(decoded(record, "\"v\":1", "\"v\":1"), Ok(again));
    }
    for (from, to) in [
        ("\"duration_seconds\":900", "\"duration_seconds\":899"),
        ("{namespace}-{pod}", "{nobody}"),
        ("\"kubernetes-namespace\"", "\"kubernetes-node\""),
        ("\"key\":\"app\"", "\"key\":\"aws:app\""),
        ("\"name_template\"", "\"name\""),
    ] {
        assert!(decoded(&said, from, to).is_err(), "{to}");
    }
}

#[tokio::test]
async fn what_sessions_are_told_is_checked_with_the_rest_of_the_association() {
    let (_, directory, _) = with_cluster().await;
    let lasting = |seconds| PodSessions {
        duration_seconds: Some(seconds),
        ..PodSessions::default()
    };
    let refused = NewPodIdentityAssociation {
        sessions: lasting(60),
        ..new("orchard", "picker")
    };
    let error = create(&directory, refused).await.unwrap_err();
    assert_eq!(kind(&error), "PodSessions");
    for (namespace, account) in [
        ("a*b", "x"),
        ("x", "a*b"),
        ("**", "x"),
        ("-*", "x"),
        ("x", ".*"),
    ] {
        let error = create(&directory, new(namespace, account))
            .await
            .unwrap_err();
        assert_eq!(kind(&error), "Invalid", "{namespace}/{account}");
    }
    let long = NewPodIdentityAssociation {
        sessions: lasting(7200),
        ..new("orchard", "picker")
    };
    let made = create(&directory, long).await.unwrap();
    let target = PodIdentityAssociationChange {
        target_role_arn: Some(ROLE.into()),
        ..PodIdentityAssociationChange::default()
    };
    let error = update(&directory, &made.id, &target, None)
        .await
        .unwrap_err();
    assert_eq!(kind(&error), "PodSessions");
}

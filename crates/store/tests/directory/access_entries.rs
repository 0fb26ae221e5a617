//! Access entries and their policies.

use countersign_access::{AccessScope, EntryType};
use countersign_arn::Tag;
use countersign_store::records::{AccessEntry, AuthenticationMode, PrincipalKind};
use countersign_store::{
    AccessEntryChange, AccessEntryState, DirectoryError, NewAccessEntry, NewCluster, Outcome,
    Taggable, Thing,
};
use futures::future::join_all;
use jiff::{SignedDuration, ToSpan};

use super::*;

const ROLE: &str = "arn:aws:iam::111122223333:role/team/Dev";
const USER: &str = "arn:aws:iam::111122223333:user/Dev";
const CREATOR: &str = "arn:aws:iam::111122223333:user/ana";
const ADMIN: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy";
const VIEW: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy";

fn later() -> Timestamp {
    now() + 1.minute()
}

fn entry(arn: &str, id: Option<&str>) -> NewAccessEntry {
    NewAccessEntry {
        principal_arn: arn.into(),
        principal_id: id.map(Into::into),
        entry_type: EntryType::Standard,
        groups: vec!["dev".into()],
        username: None,
        tags: Vec::new(),
    }
}

async fn with_cluster(mode: AuthenticationMode) -> (Arc<TestStore>, Directory, Box<str>) {
    let (store, directory) = with_account().await;
    let new = NewCluster {
        authentication_mode: mode,
        ..new_cluster("demo")
    };
    let id = directory.create_cluster(new, now()).await.unwrap().id;
    (store, directory, id)
}

async fn create(directory: &Directory, new: NewAccessEntry) -> Result<AccessEntry, DirectoryError> {
    directory
        .create_access_entry(place("demo"), new, None, now())
        .await
        .map(|outcome| outcome.done().unwrap())
}

/// The variant of an error with what it names, as a word.
fn word(error: &DirectoryError) -> String {
    match error {
        DirectoryError::NoSuch { what, .. } => format!("no {what:?}"),
        DirectoryError::Exists { what, .. } => format!("is {what:?}"),
        DirectoryError::QuotaExceeded { quota, .. } => format!("over {quota}"),
        DirectoryError::Invalid(field) => format!("bad {}", field.field),
        other => {
            let debug = format!("{other:?}");
            debug.split([' ', '(']).next().unwrap().to_owned()
        }
    }
}

#[tokio::test]
async fn one_entry_for_a_principal() {
    let (_, directory, cluster) = with_cluster(AuthenticationMode::Api).await;
    let other = "arn:aws:iam::444455556666:role/Dev";
    for (what, arn, id, expected) in [
        ("a role", ROLE, Some("AROA1"), "ok"),
        ("the same ARN", ROLE, Some("AROA2"), "is AccessEntry"),
        (
            "without the path",
            "arn:aws:iam::111122223333:role/Dev",
            Some("AROA2"),
            "is AccessEntry",
        ),
        (
            "another path and case",
            "arn:aws:iam::111122223333:role/x/y/DEV",
            None,
            "is AccessEntry",
        ),
        (
            "the same id under another name",
            "arn:aws:iam::111122223333:role/Ops",
            Some("AROA1"),
            "is AccessEntry",
        ),
        ("a user of the role's name", USER, Some("AIDA1"), "ok"),
        ("another account", other, Some("AROA3"), "ok"),
        ("the creator has one", CREATOR, None, "is AccessEntry"),
        (
            "root",
            "arn:aws:iam::111122223333:root",
            Some("111122223333"),
            "ok",
        ),
        (
            "not bound",
            "arn:aws:iam::444455556666:role/a/Later",
            None,
            "ok",
        ),
        (
            "a session",
            "arn:aws:sts::111122223333:assumed-role/Dev/x",
            None,
            "bad principalArn",
        ),
        (
            "a group",
            "arn:aws:iam::111122223333:group/Dev",
            None,
            "bad principalArn",
        ),
        (
            "no account",
            "arn:aws:iam::aws:role/Dev",
            None,
            "bad principalArn",
        ),
        (
            "no name",
            "arn:aws:iam::111122223333:role/",
            None,
            "bad principalArn",
        ),
        ("no ARN", "Dev", None, "bad principalArn"),
    ] {
        let got = create(&directory, entry(arn, id)).await;
        let got = got.map_or_else(|error| word(&error), |_| "ok".to_owned());
        assert_eq!(got, expected, "{what}");
    }
    let snapshot = directory.snapshot();
    let all = |after| -> Vec<Box<str>> {
        snapshot
            .access_entries(&cluster, after)
            .map(|entry| entry.record.principal_arn.clone())
            .collect()
    };
    let arns = all(None);
    assert!(arns.is_sorted());
    assert_eq!(arns.len(), 6);
    assert_eq!(snapshot.access_entry_count(&cluster), 6);
    assert_eq!(all(Some(&arns[1])), arns[2..]);
    assert_eq!(all(Some("arn:aws:iam::2")).len(), 2);
    assert!(
        snapshot
            .access_entry(&cluster, "arn:aws:iam::111122223333:role/Dev")
            .is_none()
    );
    let role = snapshot.access_entry(&cluster, ROLE).unwrap();
    for id in ["AROA1", "AIDA1", "AROA3", "111122223333", "AIDA"] {
        assert!(
            snapshot.access_entry_of_principal(&cluster, id).is_some(),
            "{id}"
        );
    }
    assert!(
        snapshot
            .access_entry_of_principal(&cluster, "AROA2")
            .is_none()
    );
    for (kind, name, found) in [
        (PrincipalKind::Role, "dev", Some(ROLE)),
        (PrincipalKind::User, "DEV", Some(USER)),
        (
            PrincipalKind::Root,
            "",
            Some("arn:aws:iam::111122223333:root"),
        ),
        (PrincipalKind::Role, "team/Dev", None),
        (PrincipalKind::Role, "", None),
    ] {
        let got = snapshot.access_entry_named(&cluster, account(0), kind, name);
        assert_eq!(
            got.map(|entry| &*entry.record.principal_arn),
            found,
            "{name}"
        );
    }
    let long = "a".repeat(10_000);
    let none = snapshot.access_entry_named(&cluster, account(0), PrincipalKind::Role, &long);
    assert!(none.is_none());
    let record = &snapshot.cluster_by_id(&cluster).unwrap().record;
    assert_eq!(
        role.record.arn(record),
        format!(
            "arn:aws:eks:eu-central-1:111122223333:access-entry/demo/role/111122223333/Dev/{}",
            role.record.uuid
        )
    );
    assert_eq!(role.record.uuid.len(), 36);
}

#[tokio::test]
async fn the_creator_gets_an_entry_where_entries_count() {
    use AuthenticationMode::{Api, ApiAndConfigMap, ConfigMap};
    let (_, directory) = with_account().await;
    for (name, mode, bootstrap, entries) in [
        ("a", Api, true, 1),
        ("b", ApiAndConfigMap, true, 1),
        ("c", Api, false, 0),
        ("d", ConfigMap, true, 0),
    ] {
        let new = NewCluster {
            authentication_mode: mode,
            bootstrap_creator_admin: bootstrap,
            ..new_cluster(name)
        };
        let cluster = directory.create_cluster(new, now()).await.unwrap();
        let snapshot = directory.snapshot();
        let found: Vec<_> = snapshot.access_entries(&cluster.id, None).collect();
        assert_eq!(found.len(), entries, "{name}");
        for entry in found {
            let AccessEntry {
                principal_arn,
                principal_id,
                entry_type,
                associations,
                ..
            } = &entry.record;
            assert_eq!(
                (&**principal_arn, principal_id.as_deref()),
                (CREATOR, Some("AIDA"))
            );
            assert_eq!(*entry_type, EntryType::Standard);
            let [policy] = &**associations else {
                panic!("{associations:?}");
            };
            assert_eq!(
                (&*policy.policy_arn, &policy.scope),
                (ADMIN, &AccessScope::Cluster)
            );
        }
    }
    let stranger = NewCluster {
        authentication_mode: Api,
        creator: Creator {
            principal_arn: "arn:aws:sts::111122223333:assumed-role/r/s".into(),
            principal_id: "AROA".into(),
        },
        ..new_cluster("e")
    };
    let refused = directory.create_cluster(stranger, now()).await.unwrap_err();
    assert_eq!(word(&refused), "bad principalArn");
    assert!(directory.snapshot().cluster_named("e").is_err());
}

#[tokio::test]
async fn changes_of_an_entry() {
    let (_, directory, cluster) = with_cluster(AuthenticationMode::Api).await;
    create(&directory, entry(ROLE, Some("AROA1")))
        .await
        .unwrap();
    let node = NewAccessEntry {
        entry_type: EntryType::Ec2Linux,
        ..entry("arn:aws:iam::111122223333:role/Node", Some("AROA2"))
    };
    create(&directory, node).await.unwrap();
    let update = async |arn, groups: Option<&[&str]>, username: Option<&str>| {
        let change = AccessEntryChange {
            groups: groups.map(|groups| groups.iter().map(|group| (*group).into()).collect()),
            username: username.map(Into::into),
        };
        directory
            .update_access_entry(place("demo"), arn, &change, None, later())
            .await
            .map(|outcome| outcome.done().unwrap())
    };
    let same = update(ROLE, None, None).await.unwrap();
    assert_eq!(same.modified, now());
    let named = update(ROLE, None, Some("dev")).await.unwrap();
    assert_eq!(
        (named.groups.len(), named.username.as_deref()),
        (1, Some("dev"))
    );
    assert_eq!((named.created, named.modified), (now(), later()));
    let emptied = update(ROLE, Some(&[]), None).await.unwrap();
    assert_eq!(
        (emptied.groups.len(), emptied.username.as_deref()),
        (0, Some("dev"))
    );
    let node = update("arn:aws:iam::111122223333:role/Node", None, Some("x")).await;
    assert_eq!(word(&node.unwrap_err()), "EntryTypeRefuses");
    for missing in [
        "arn:aws:iam::111122223333:role/Dev",
        "arn:aws:iam::111122223333:role/No",
        "x",
    ] {
        let error = update(missing, None, None).await.unwrap_err();
        assert_eq!(word(&error), "no AccessEntry", "{missing}");
    }
    let delete = async || {
        directory
            .delete_access_entry(place("demo"), ROLE, later())
            .await
    };
    delete().await.unwrap();
    assert_eq!(word(&delete().await.unwrap_err()), "no AccessEntry");
    assert!(
        directory
            .snapshot()
            .access_entry_of_principal(&cluster, "AROA1")
            .is_none()
    );
    let again = create(&directory, entry(ROLE, Some("AROA1")))
        .await
        .unwrap();
    assert_ne!(again.uuid, named.uuid);
}

#[tokio::test]
async fn policies_of_an_entry() {
    let (_, directory, cluster) = with_cluster(AuthenticationMode::ApiAndConfigMap).await;
    create(&directory, entry(ROLE, Some("AROA1")))
        .await
        .unwrap();
    let node = NewAccessEntry {
        entry_type: EntryType::HybridLinux,
        ..entry("arn:aws:iam::111122223333:role/Node", Some("AROA2"))
    };
    create(&directory, node).await.unwrap();
    let associate = async |arn, policy, scope, at| {
        directory
            .associate_access_policy(place("demo"), arn, policy, &scope, at)
            .await
    };
    let dev = AccessScope::Namespace(vec!["dev-*".into()]);
    let first = associate(ROLE, VIEW, AccessScope::Cluster, now())
        .await
        .unwrap();
    assert_eq!(first.replaced, None);
    associate(ROLE, ADMIN, AccessScope::Cluster, now())
        .await
        .unwrap();
    let narrowed = associate(ROLE, VIEW, dev.clone(), later()).await.unwrap();
    assert_eq!(narrowed.replaced, Some(AccessScope::Cluster));
    assert_eq!(narrowed.association.associated, now());
    assert_eq!(narrowed.association.modified, later());
    let snapshot = directory.snapshot();
    let record = &snapshot.access_entry(&cluster, ROLE).unwrap().record;
    let arns: Vec<_> = record
        .associations
        .iter()
        .map(|policy| &*policy.policy_arn)
        .collect();
    assert_eq!(arns, [ADMIN, VIEW]);
    assert_eq!(record.association(VIEW).unwrap().scope, dev);
    assert_eq!(record.modified, now());
    let node = associate(
        "arn:aws:iam::111122223333:role/Node",
        VIEW,
        dev.clone(),
        now(),
    )
    .await;
    assert_eq!(word(&node.unwrap_err()), "EntryTypeRefuses");
    let nobody = associate(USER, VIEW, dev, now()).await;
    assert_eq!(word(&nobody.unwrap_err()), "no AccessEntry");
    let too_much = AccessScope::Namespace((0..9_000).map(|_| "n".repeat(63).into()).collect());
    let too_much = associate(ROLE, VIEW, too_much, now()).await;
    assert_eq!(word(&too_much.unwrap_err()), "over AccessEntryBytes");
    let disassociate = async || {
        directory
            .disassociate_access_policy(place("demo"), ROLE, VIEW, now())
            .await
    };
    disassociate().await.unwrap();
    assert_eq!(
        word(&disassociate().await.unwrap_err()),
        "no PolicyAssociation"
    );
    let snapshot = directory.snapshot();
    let record = &snapshot.access_entry(&cluster, ROLE).unwrap().record;
    assert_eq!(record.associations.len(), 1);
}

#[tokio::test]
async fn an_entry_is_bound_once() {
    let (_, directory, cluster) = with_cluster(AuthenticationMode::Api).await;
    let created = create(&directory, entry(ROLE, None)).await.unwrap();
    create(&directory, entry(USER, Some("AIDA1")))
        .await
        .unwrap();
    let snapshot = directory.snapshot();
    let unbound = snapshot.access_entry_named(&cluster, account(0), PrincipalKind::Role, "Dev");
    let state = snapshot.access_entry_state(&unbound.unwrap().record);
    assert_eq!(state, AccessEntryState::Unbound);
    let bind = async |id| {
        directory
            .bind_access_entry(place("demo"), ROLE, id, later())
            .await
            .map(|entry| entry.principal_id.unwrap())
            .map_err(|error| word(&error))
    };
    let rebind = async |id| {
        directory
            .rebind_access_entry(place("demo"), ROLE, id, later())
            .await
            .map(|entry| entry.modified)
            .map_err(|error| word(&error))
    };
    assert_eq!(bind("AIDA1").await, Err("is AccessEntry".to_owned()));
    assert_eq!(bind("AROA1").await, Ok("AROA1".into()));
    assert_eq!(bind("AROA1").await, Ok("AROA1".into()));
    assert_eq!(bind("AROA2").await, Err("BoundToAnother".to_owned()));
    let found = |id: &str| {
        let snapshot = directory.snapshot();
        let entry = snapshot.access_entry_of_principal(&cluster, id)?;
        Some((entry.record.uuid.clone(), entry.record.modified))
    };
    assert_eq!(found("AROA1"), Some((created.uuid.clone(), now())));
    assert_eq!(rebind("AIDA1").await, Err("is AccessEntry".to_owned()));
    assert_eq!(rebind("AROA2").await, Ok(later()));
    assert_eq!(found("AROA1"), None);
    assert_eq!(found("AROA2"), Some((created.uuid, later())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_replicas_one_creates_and_one_binds() {
    let (store, directory, cluster) = with_cluster(AuthenticationMode::Api).await;
    let other = open(&store).await;
    for round in 0..8 {
        let writers = (0..6).map(|n| {
            let directory = if n % 2 == 0 { &directory } else { &other }.clone();
            let arn = format!("arn:aws:iam::111122223333:role/path{n}/Role-{round}");
            tokio::spawn(async move { create(&directory, entry(&arn, None)).await })
        });
        let made: Vec<_> = join_all(writers)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let arn = made
            .iter()
            .flatten()
            .map(|entry| entry.principal_arn.clone());
        let arns: Vec<_> = arn.collect();
        assert_eq!(arns.len(), 1, "{made:?}");
        let binders = (0..6).map(|n| {
            let directory = if n % 2 == 0 { &directory } else { &other }.clone();
            let arn = arns[0].clone();
            tokio::spawn(async move {
                directory
                    .bind_access_entry(place("demo"), &arn, &format!("AROA{round}x{n}"), now())
                    .await
            })
        });
        let bound: Vec<_> = join_all(binders)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(bound.iter().flatten().count(), 1, "{bound:?}");
    }
    other
        .feed()
        .wait_for(directory.snapshot().revision())
        .await
        .unwrap();
    assert_eq!(other.snapshot().access_entry_count(&cluster), 9);
}

#[tokio::test]
async fn entries_die_with_their_principals() {
    let (_, directory, cluster) = with_cluster(AuthenticationMode::Api).await;
    let role = directory.create_role(new_role("Dev"), now()).await.unwrap();
    let user = directory.create_user(new_user("Dev"), now()).await.unwrap();
    create(&directory, entry(ROLE, Some(&role.id)))
        .await
        .unwrap();
    create(&directory, entry(USER, Some(&user.id)))
        .await
        .unwrap();
    let root = "arn:aws:iam::111122223333:root";
    create(&directory, entry(root, Some("111122223333")))
        .await
        .unwrap();
    create(
        &directory,
        entry("arn:aws:iam::111122223333:role/Later", None),
    )
    .await
    .unwrap();
    // The creator of the test's cluster is nobody.
    let dead = || {
        let snapshot = directory.snapshot();
        let dead: Vec<Box<str>> = snapshot
            .dead_access_entries(&cluster)
            .map(|entry| entry.record.principal_arn.clone())
            .filter(|arn| **arn != *CREATOR)
            .collect();
        assert_eq!(snapshot.dead_access_entry_count(), dead.len() + 1);
        dead
    };
    let state = |arn: &str| {
        let snapshot = directory.snapshot();
        let record = &snapshot.access_entry(&cluster, arn).unwrap().record;
        match snapshot.access_entry_state(record) {
            AccessEntryState::Dead { bound_to, name_now } => {
                Some((bound_to.to_owned(), name_now.map(str::to_owned)))
            }
            AccessEntryState::Alive | AccessEntryState::Unbound => None,
        }
    };
    assert!(dead().is_empty());
    directory.delete_role(account(0), "Dev").await.unwrap();
    assert_eq!(dead(), [ROLE.into()]);
    assert_eq!(state(ROLE), Some((role.id.to_string(), None)));
    let again = directory.create_role(new_role("dev"), now()).await.unwrap();
    assert_eq!(
        dead(),
        [ROLE.into()],
        "a name that somebody has again is somebody else's"
    );
    assert_eq!(
        state(ROLE),
        Some((role.id.to_string(), Some(again.id.to_string())))
    );
    directory
        .rebind_access_entry(place("demo"), ROLE, &again.id, now())
        .await
        .unwrap();
    assert!(dead().is_empty());
    assert_eq!(state(ROLE), None);
    directory.delete_user(account(0), "Dev").await.unwrap();
    assert_eq!(dead(), [USER.into()]);
    let snapshot = directory.snapshot();
    let of: Vec<_> = snapshot.access_entries_of(&again.id).collect();
    assert_eq!(of.len(), 1);
    assert_eq!(
        (&*of[0].0.record.name, &*of[0].1.record.principal_arn),
        ("demo", ROLE)
    );
    directory
        .delete_access_entry(place("demo"), USER, now())
        .await
        .unwrap();
    assert!(dead().is_empty());
    directory
        .delete_cluster(place("demo"), SignedDuration::ZERO, now())
        .await
        .unwrap();
    assert_eq!(directory.snapshot().dead_access_entry_count(), 0);
    assert_eq!(directory.snapshot().access_entries_of(&again.id).count(), 0);
}

#[tokio::test]
async fn clusters_that_take_no_entries() {
    let (_, directory, _) = with_cluster(AuthenticationMode::ConfigMap).await;
    let dying = NewCluster {
        authentication_mode: AuthenticationMode::Api,
        ..new_cluster("dying")
    };
    let dying = directory.create_cluster(dying, now()).await.unwrap();
    directory
        .delete_cluster(place("dying"), SignedDuration::from_mins(5), now())
        .await
        .unwrap();
    let gone = now() + 5.minutes();
    for (name, at, expected) in [
        ("demo", now(), "ModeWithoutEntries"),
        ("dying", now(), "ClusterDeleting"),
        ("dying", gone, "NoSuchCluster"),
        ("none", now(), "NoSuchCluster"),
    ] {
        let place = place(name);
        let change = AccessEntryChange::default();
        let scope = AccessScope::Cluster;
        let results = [
            directory
                .create_access_entry(place, entry(ROLE, None), None, at)
                .await
                .err(),
            directory
                .update_access_entry(place, CREATOR, &change, None, at)
                .await
                .err(),
            directory
                .delete_access_entry(place, CREATOR, at)
                .await
                .err(),
            directory
                .bind_access_entry(place, CREATOR, "AIDA", at)
                .await
                .err(),
            directory
                .rebind_access_entry(place, CREATOR, "AIDA", at)
                .await
                .err(),
            directory
                .associate_access_policy(place, CREATOR, VIEW, &scope, at)
                .await
                .err(),
            directory
                .disassociate_access_policy(place, CREATOR, ADMIN, at)
                .await
                .err(),
        ];
        for (index, error) in results.iter().enumerate() {
            let got = error.as_ref().map(word);
            assert_eq!(got.as_deref(), Some(expected), "{name} {index}");
        }
    }
    let snapshot = directory.snapshot();
    assert!(
        snapshot
            .access_entry_of_principal(&dying.id, "AIDA")
            .is_none()
    );
    assert_eq!(snapshot.access_entries(&dying.id, None).count(), 0);
}

#[tokio::test]
async fn as_many_entries_as_the_quota_says() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let quotas = Quotas {
        access_entries_per_cluster: 3,
        ..Quotas::default()
    };
    let directory = Directory::open(
        Arc::clone(&store) as Arc<dyn Store>,
        sealer(1),
        Random::system(),
        quotas,
    )
    .await
    .unwrap();
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    for name in ["demo", "other"] {
        let new = NewCluster {
            authentication_mode: AuthenticationMode::Api,
            ..new_cluster(name)
        };
        directory.create_cluster(new, now()).await.unwrap();
    }
    create(&directory, entry(ROLE, None)).await.unwrap();
    create(&directory, entry(USER, None)).await.unwrap();
    let third = create(&directory, entry("arn:aws:iam::111122223333:role/x", None)).await;
    assert_eq!(word(&third.unwrap_err()), "over AccessEntriesPerCluster");
    let elsewhere = entry("arn:aws:iam::111122223333:role/x", None);
    let elsewhere = directory
        .create_access_entry(place("other"), elsewhere, None, now())
        .await;
    assert!(matches!(elsewhere, Ok(Outcome::Done(_))));
}

#[tokio::test]
async fn tags_of_clusters_and_entries() {
    let (_, directory, cluster) = with_cluster(AuthenticationMode::Api).await;
    let made = create(&directory, entry(ROLE, None)).await.unwrap();
    let of_cluster = "arn:aws:eks:eu-central-1:111122223333:cluster/demo";
    let of_entry = made.arn(&directory.snapshot().cluster_by_id(&cluster).unwrap().record);
    let tag = |key: &str, value: &str| Tag {
        key: key.into(),
        value: value.into(),
    };
    for what in [
        Taggable::Cluster(of_cluster),
        Taggable::AccessEntry(&of_entry),
    ] {
        let given = [tag("team", "a"), tag("Team", "b")];
        directory.tag(account(0), what, &given).await.unwrap();
        directory
            .tag(account(0), what, &[tag("team", "c")])
            .await
            .unwrap();
        directory
            .untag(account(0), what, &["Team", "none"])
            .await
            .unwrap();
        let tags = what.tags(&directory.snapshot(), account(0)).unwrap();
        assert_eq!(tags, [tag("team", "c")]);
        let fifty: Vec<_> = (0..50).map(|n| tag(&format!("k{n}"), "")).collect();
        for (tags, expected) in [
            (&fifty[..], "over Tags"),
            (&[tag("AWS:x", "")], "bad tags"),
            (&[tag("a\u{1}", "")], "bad tags"),
            (&[tag("a", "\n")], "bad tags"),
        ] {
            let error = directory.tag(account(0), what, tags).await.unwrap_err();
            assert_eq!(word(&error), expected);
        }
        directory.tag(account(0), what, &fifty[..49]).await.unwrap();
    }
    let snapshot = directory.snapshot();
    assert_eq!(
        snapshot
            .access_entry(&cluster, ROLE)
            .unwrap()
            .record
            .modified,
        now()
    );
    let changed = |from: &str, to: &str| of_entry.replace(from, to);
    for (account, what) in [
        (account(1), of_cluster.to_owned()),
        (account(0), of_cluster.replace("eu-central-1", "us-east-1")),
        (account(0), of_cluster.replace("aws:", "aws-cn:")),
        (account(0), of_cluster.replace(":eks:", ":ecs:")),
        (account(0), format!("{of_cluster}/x")),
        (account(1), of_entry.clone()),
        (account(0), changed("/role/", "/user/")),
        (account(0), changed("/demo/", "/other/")),
        (account(0), changed("/Dev/", "/dev/")),
        (
            account(0),
            changed(&made.uuid, "7d2c6f0a-90f1-4d5e-9c41-0d9f6b1f6f11"),
        ),
        (account(0), format!("{of_entry}/x")),
        (
            account(0),
            "arn:aws:eks:eu-central-1:111122223333:access-entry/demo".to_owned(),
        ),
        (account(0), "x".to_owned()),
    ] {
        let resource = if what.contains(":cluster/") {
            Taggable::Cluster(&what)
        } else {
            Taggable::AccessEntry(&what)
        };
        let error = resource.tags(&snapshot, account).unwrap_err();
        assert!(
            matches!(
                &error,
                DirectoryError::NoSuch {
                    what: Thing::Resource,
                    ..
                }
            ),
            "{what}: {error:?}"
        );
    }
}

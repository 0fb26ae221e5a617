//! Requests that arrive more than once.

use countersign_access::EntryType;
use countersign_store::records::{
    AccessEntry, AuthenticationMode, Cluster, ClusterUpdate, REQUEST_TOKEN_LIFETIME, RequestToken,
};
use countersign_store::{AccessEntryChange, DirectoryError, NewAccessEntry, Once, Outcome};
use jiff::{SignedDuration, ToSpan};

use super::*;

fn token(operation: &str, token: &str, parameters: u8) -> RequestToken {
    RequestToken {
        account: account(0),
        region: REGION.into(),
        operation: operation.into(),
        token: token.into(),
        parameters: [parameters; 32],
    }
}

fn answer(cluster: &Cluster) -> Vec<u8> {
    format!("made {}", cluster.id).into_bytes()
}

async fn create(
    directory: &Directory,
    name: &str,
    token: &RequestToken,
    at: Timestamp,
) -> Result<Outcome<Cluster>, DirectoryError> {
    let once = Once {
        token,
        answer: &answer,
    };
    directory
        .create_cluster_once(new_cluster(name), Some(&once), at)
        .await
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer() {
    let (_, directory) = with_account().await;
    let first = create(
        &directory,
        "demo",
        &token("CreateCluster", "t/1 ü", 1),
        now(),
    )
    .await
    .unwrap()
    .done()
    .unwrap();
    let revision = directory.snapshot().revision();
    let given = token("CreateCluster", "t/1 ü", 1);
    let again = || create(&directory, "demo", &given, now() + 1.hour());
    assert_eq!(
        again().await.unwrap(),
        Outcome::Repeated(answer(&first).into())
    );
    assert_eq!(
        directory.snapshot().revision(),
        revision,
        "nothing is written"
    );
    directory
        .delete_cluster(place("demo"), SignedDuration::ZERO, now())
        .await
        .unwrap();
    assert_eq!(
        again().await.unwrap(),
        Outcome::Repeated(answer(&first).into())
    );
    assert!(directory.snapshot().cluster_named("demo").is_err());
    for (what, given, expected) in [
        (
            "other parameters",
            token("CreateCluster", "t/1 ü", 2),
            "TokenReused",
        ),
        ("another token", token("CreateCluster", "t/2", 1), "ok"),
        (
            "another operation",
            token("UpdateCluster", "t/1 ü", 1),
            "ClusterExists",
        ),
        ("no token", token("CreateCluster", "", 1), "Invalid"),
        (
            "a long token",
            token("CreateCluster", &"ü".repeat(129), 1),
            "Invalid",
        ),
    ] {
        let got = create(&directory, "demo", &given, now()).await;
        let got = got.map_or_else(
            |error| format!("{error:?}").split('(').next().unwrap().to_owned(),
            |_| "ok".to_owned(),
        );
        assert_eq!(got, expected, "{what}");
    }
    // What failed is not remembered.
    directory
        .delete_cluster(place("demo"), SignedDuration::ZERO, now())
        .await
        .unwrap();
    let failed = token("UpdateCluster", "t/1 ü", 1);
    let done = create(&directory, "demo", &failed, now()).await.unwrap();
    assert!(matches!(done, Outcome::Done(_)));
}

#[tokio::test]
async fn a_token_is_forgotten_after_a_day() {
    let (_, directory) = with_account().await;
    let given = token("CreateCluster", "t", 1);
    create(&directory, "demo", &given, now()).await.unwrap();
    let end = now() + REQUEST_TOKEN_LIFETIME;
    let before = create(&directory, "demo", &given, end - 1.second())
        .await
        .unwrap();
    assert!(matches!(before, Outcome::Repeated(_)));
    assert_eq!(directory.sweep_clusters(end - 1.second()).await.unwrap(), 0);
    let after = create(&directory, "other", &given, end).await.unwrap();
    assert!(matches!(after, Outcome::Done(_)));
    let later = token("CreateCluster", "later", 1);
    create(&directory, "third", &later, end).await.unwrap();
    assert_eq!(directory.sweep_clusters(end).await.unwrap(), 0);
    assert_eq!(
        directory
            .sweep_clusters(end + REQUEST_TOKEN_LIFETIME)
            .await
            .unwrap(),
        2
    );
    let again = create(&directory, "third", &later, end).await;
    assert!(matches!(again, Err(DirectoryError::ClusterExists(_))));
}

#[tokio::test]
async fn so_many_tokens_are_remembered() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let quotas = Quotas {
        request_tokens_per_account: 3,
        ..Quotas::default()
    };
    let store = Arc::clone(&store) as Arc<dyn Store>;
    let directory = Directory::open(store, sealer(1), Random::system(), quotas)
        .await
        .unwrap();
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    for n in 0..5_i64 {
        let given = token("CreateCluster", &format!("t{n}"), 1);
        create(&directory, &format!("c{n}"), &given, now() + n.seconds())
            .await
            .unwrap();
    }
    for n in 0..5_i64 {
        let given = token("CreateCluster", &format!("t{n}"), 1);
        let again = create(&directory, &format!("c{n}"), &given, now() + 9.seconds()).await;
        assert_eq!(again.is_ok(), n >= 2, "{n}: {again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_requests_at_once_one_is_done_and_all_are_answered() {
    let (store, directory) = with_account().await;
    let other = open(&store).await;
    let writers = (0..8).map(|n| {
        let directory = if n % 2 == 0 { &directory } else { &other }.clone();
        tokio::spawn(async move {
            create(&directory, "demo", &token("CreateCluster", "t", 1), now())
                .await
                .unwrap()
        })
    });
    let outcomes = futures::future::join_all(writers).await;
    let answers: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| match outcome.unwrap() {
            Outcome::Done(cluster) => (true, answer(&cluster)),
            Outcome::Repeated(bytes) => (false, bytes.into_vec()),
        })
        .collect();
    assert_eq!(answers.iter().filter(|(done, _)| *done).count(), 1);
    assert!(
        answers.iter().all(|(_, bytes)| *bytes == answers[0].1),
        "{answers:?}"
    );
}

#[tokio::test]
async fn every_write_that_takes_a_token() {
    let (_, directory) = with_account().await;
    directory
        .create_cluster(new_cluster("demo"), now())
        .await
        .unwrap();
    let updated = |update: &ClusterUpdate| update.id.as_bytes().to_vec();
    let moved = token("UpdateClusterConfig", "a", 1);
    let moved = Once {
        token: &moved,
        answer: &updated,
    };
    let logged = token("UpdateClusterConfig", "b", 1);
    let logged = Once {
        token: &logged,
        answer: &updated,
    };
    let of_entry = |entry: &AccessEntry| entry.uuid.as_bytes().to_vec();
    let made = token("CreateAccessEntry", "c", 1);
    let made = Once {
        token: &made,
        answer: &of_entry,
    };
    let changed = token("UpdateAccessEntry", "c", 1);
    let changed = Once {
        token: &changed,
        answer: &of_entry,
    };
    let arn = "arn:aws:iam::111122223333:role/Dev";
    let new = NewAccessEntry {
        principal_arn: arn.into(),
        principal_id: None,
        entry_type: EntryType::Standard,
        groups: Vec::new(),
        username: None,
        tags: Vec::new(),
    };
    let change = AccessEntryChange {
        username: Some("dev".into()),
        ..AccessEntryChange::default()
    };
    let mut answers = Vec::new();
    for round in 0..2_i64 {
        let (at, place) = (now() + round.minutes(), place("demo"));
        let mode = AuthenticationMode::ApiAndConfigMap;
        let settling = SignedDuration::ZERO;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let update = |outcome: Outcome<ClusterUpdate>| match outcome {
            Outcome::Done(update) => (true, text(updated(&update))),
            Outcome::Repeated(bytes) => (false, text(bytes.into_vec())),
        };
        let entry = |outcome: Outcome<AccessEntry>| match outcome {
            Outcome::Done(entry) => (true, text(of_entry(&entry))),
            Outcome::Repeated(bytes) => (false, text(bytes.into_vec())),
        };
        let results = [
            update(
                directory
                    .set_authentication_mode(place, mode, settling, Some(&moved), at)
                    .await
                    .unwrap(),
            ),
            update(
                directory
                    .update_cluster(place, "LoggingUpdate", settling, Some(&logged), at, |_| {
                        Ok(Vec::new())
                    })
                    .await
                    .unwrap(),
            ),
            entry(
                directory
                    .create_access_entry(place, new.clone(), Some(&made), at)
                    .await
                    .unwrap(),
            ),
            entry(
                directory
                    .update_access_entry(place, arn, &change, Some(&changed), at)
                    .await
                    .unwrap(),
            ),
        ];
        assert!(
            results.iter().all(|(done, _)| *done == (round == 0)),
            "{results:?}"
        );
        answers.push(results.map(|(_, answer)| answer));
    }
    assert_eq!(answers[0], answers[1]);
    let directory_now = directory.snapshot();
    let cluster = directory_now.cluster_named("demo").unwrap();
    assert_eq!(directory_now.cluster_updates(&cluster.record.id).count(), 2);
}

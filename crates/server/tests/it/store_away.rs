//! A replica that has lost its store: how long it answers, and what it says.

use std::sync::Arc;
use std::time::Duration;

use countersign_access::caller::Delegated;
use countersign_arn::{AccountId, Partition};
use countersign_mapping::{BackendKind, MappingOptions, MappingTable};
use countersign_rbac::review::AccessReview;
use countersign_server::access_policies::AccessPolicies;
use countersign_server::aggregation::Aggregation;
use countersign_server::aws::KeyRing;
use countersign_server::health::Report;
use countersign_server::metrics::{AuthorizeResult, Metrics};
use countersign_server::store_health::{StoreAway, StoreHealth};
use countersign_server::webhook::authenticate::{
    ClusterAuthenticator, ClusterOptions, ReviewOptions, Verifier,
};
use countersign_server::webhook::authorize::{Authorizer, AuthorizerOptions};
use countersign_server::webhook::denial::{DenialClass, DenyMode};
use countersign_server::webhook::entries::{PrincipalBinding, Registered};
use countersign_sigv4::{Credentials, Request, SecretKey, Signer};
use countersign_sources::{Mappings, MappingsOptions};
use countersign_store::{
    CommitError, Directory, FeedState, Load, LoadError, NewAccount, NewUser, Quotas, Random,
    RedbStore, Revision, RootKey, Sealer, Store, StoreFuture, Transaction, WatchError, WatchStream,
};
use countersign_token::{Options, Rules};
use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::watch;

const ALLOWED: Duration = Duration::from_secs(300);
const ENDPOINT: &str = "http://127.0.0.1:4600/";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Open,
    /// Nothing works.
    Away,
    /// Writes work, and their changes do not arrive.
    Blind,
}

/// A store behind a line that breaks.
pub(crate) struct Behind {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) line: Arc<watch::Sender<Line>>,
}

impl Store for Behind {
    fn load(&self) -> StoreFuture<'_, Result<Load, LoadError>> {
        Box::pin(async move {
            if *self.line.borrow() == Line::Away {
                return Err(LoadError::Unavailable("gone".into()));
            }
            self.inner.load().await
        })
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            if *self.line.borrow() == Line::Away {
                return Err(CommitError::Unavailable("gone".into()));
            }
            self.inner.commit(transaction).await
        })
    }

    fn watch(&self, after: Revision) -> WatchStream {
        let mut line = self.line.subscribe();
        let gone = async move {
            let _ = line.wait_for(|line| *line == Line::Away).await;
        };
        let gone =
            futures::stream::once(gone).map(|()| Err(WatchError::Unavailable("gone".into())));
        let line = self.line.subscribe();
        let batches = self.inner.watch(after).then(move |batch| {
            let mut line = line.clone();
            async move {
                let _ = line.wait_for(|line| *line != Line::Blind).await;
                batch
            }
        });
        // Ends with the first error.
        let mut ended = false;
        let items = futures::stream::select(gone, batches);
        Box::pin(items.take_while(move |item| {
            let now = !std::mem::replace(&mut ended, item.is_err());
            async move { now }
        }))
    }

    fn kind(&self) -> &'static str {
        "test"
    }
}

struct Replica {
    directory: Directory,
    health: StoreHealth,
    line: Arc<watch::Sender<Line>>,
    cluster: ClusterAuthenticator,
    token: Box<dyn Fn() -> String>,
}

fn user(name: &str) -> NewUser {
    NewUser {
        account: account(),
        name: name.into(),
        path: "/".into(),
        tags: Vec::new(),
    }
}

fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

impl Replica {
    async fn new() -> Self {
        let line = Arc::new(watch::Sender::new(Line::Open));
        let store = Behind {
            inner: Arc::new(RedbStore::in_memory().unwrap()),
            line: Arc::clone(&line),
        };
        let sealer = Sealer::new(&RootKey::from_bytes([7; 32]), &[]).unwrap();
        let directory =
            Directory::open(Arc::new(store), sealer, Random::system(), Quotas::default())
                .await
                .unwrap();
        let now = Timestamp::now();
        let new = NewAccount {
            id: account(),
            partition: Partition::Aws,
            alias: None,
            organization_id: None,
        };
        directory.create_account(new, now).await.unwrap();
        directory.create_user(user("ana"), now).await.unwrap();
        let key = directory
            .create_access_key(account(), "ana", now)
            .await
            .unwrap();
        let health = StoreHealth::new(directory.clone(), ALLOWED);
        let arn = "arn:aws:iam::111122223333:user/ana";
        let table = MappingTable::cluster_creator(arn, None, &MappingOptions::default()).unwrap();
        let mappings = Mappings::new(&[BackendKind::ClusterCreator], MappingsOptions::default());
        mappings.set_table(table, "1", now);
        let rules = Rules::new(Options {
            trusted_endpoints: vec![ENDPOINT.into()],
            allow_insecure_trusted_endpoint: true,
            ..Options::default()
        })
        .unwrap();
        let cluster = ClusterAuthenticator::new(ClusterOptions {
            name: "demo".into(),
            cluster_id: "demo".into(),
            mappings,
            registered: None,
            names_entry: false,
            shared: Arc::new(ReviewOptions {
                rules,
                verifiers: vec![Verifier::Embedded(Arc::new(KeyRing::new(
                    directory.feed().clone(),
                )))],
                nodes: None,
                directory: Some(directory.clone()),
                people: None,
                store: Some(health.clone()),
                principal_binding: PrincipalBinding::FirstUse,
                policies: Arc::new(AccessPolicies::builtin()),
                deny_mode: DenyMode::Review,
                upstream_failure_status: 500,
            }),
        });
        let token = move || {
            let secret = SecretKey::new(key.secret.expose());
            let mut request = Request::new("GET", b"/?Action=GetCallerIdentity&Version=2011-06-15");
            let headers: [(&str, &[u8]); 2] =
                [("host", b"127.0.0.1:4600"), ("x-k8s-aws-id", b"demo")];
            request.headers = &headers;
            let credentials = Credentials {
                key_id: &key.metadata.id,
                secret: &secret,
                session_token: None,
            };
            let query = Signer::new(credentials, "us-east-1", "sts")
                .presign(&request, 60, Timestamp::now())
                .unwrap();
            countersign_token::mint(&format!("{ENDPOINT}?{query}")).to_string()
        };
        Self {
            directory,
            health,
            line,
            cluster,
            token: Box::new(token),
        }
    }

    /// The line is set, and the feed has noticed.
    async fn set(&self, line: Line) {
        self.line.send_replace(line);
        let wanted = line == Line::Away;
        while matches!(*self.directory.feed().state(), FeedState::Behind { .. }) != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn report(&self) -> (bool, String) {
        let mut report = Report::default();
        self.health.report(&mut report);
        (report.is_ready(), report.render(true))
    }

    /// What keeps an access review from being decided.
    fn authorize(&self) -> (AuthorizeResult, String) {
        let authorizer = Authorizer::new(AuthorizerOptions {
            directory: Some(self.directory.clone()),
            store: Some(self.health.clone()),
            policies: Arc::new(AccessPolicies::builtin()),
            aggregation: Aggregation::default(),
            delegated: Delegated::Assertion,
        });
        let cluster = Registered::Id("none".into());
        let ruling = authorizer.decide(&cluster, &AccessReview::default(), Timestamp::now());
        assert!(!ruling.status().allowed && !ruling.status().denied);
        (ruling.outcome, ruling.error)
    }

    /// Nothing, or class and reason of the refusal.
    async fn review(&self) -> Option<(DenialClass, String)> {
        let review = self.cluster.review(&(self.token)(), Timestamp::now()).await;
        let denial = review.outcome.err()?;
        Some((denial.class, denial.reason.into_owned()))
    }
}

/// Lets time pass for what reads tokio's clock.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_replica_answers_from_its_snapshot_until_it_is_too_old() {
    let replica = Replica::new().await;
    let (ready, text) = replica.report();
    assert!(
        ready && text.contains("[+]store ok: test at revision "),
        "{text}"
    );
    assert_eq!(replica.review().await, None);

    replica.set(Line::Away).await;
    pass(Duration::from_secs(100)).await;
    assert_eq!(replica.health.check(), Ok(()));
    assert_eq!(replica.review().await, None, "from the snapshot");
    let (_, error) = replica.authorize();
    assert!(error.contains("the cluster is not registered"), "{error}");
    let (ready, text) = replica.report();
    assert!(ready, "{text}");
    for part in [
        "[!]store warning",
        "staleness 100 s",
        "for 200 s more",
        "gone",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let refused = replica
        .directory
        .create_user(user("eve"), Timestamp::now())
        .await;
    assert!(refused.unwrap_err().is_unavailable());

    pass(Duration::from_secs(201)).await;
    assert!(matches!(
        replica.health.check(),
        Err(StoreAway::Stale { .. })
    ));
    let (ready, text) = replica.report();
    assert!(
        !ready && text.contains("[-]store failed") && text.contains("at most 300 s"),
        "{text}"
    );
    let (class, reason) = replica.review().await.unwrap();
    assert_eq!(
        (class, reason.as_str()),
        (DenialClass::StsUnreachable, "store_away")
    );
    let (outcome, error) = replica.authorize();
    assert_eq!(outcome, AuthorizeResult::Error);
    assert!(error.contains("the store has been away for"), "{error}");
    let mut metrics = Metrics::new();
    metrics.register_store(replica.health.clone());
    let text = metrics.render();
    for part in [
        "countersign_store_revision{kind=\"test\"} ",
        "countersign_store_staleness_seconds{kind=\"test\"} 30",
        "countersign_store_write_seconds_count 3",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    replica.line.send_replace(Line::Open);
    pass(Duration::from_secs(5)).await;
    replica.set(Line::Open).await;
    assert_eq!(replica.health.check(), Ok(()));
    assert_eq!(replica.review().await, None);
}

#[tokio::test]
async fn a_replica_that_does_not_see_its_own_write_lets_nobody_in() {
    let replica = Replica::new().await;
    replica.line.send_replace(Line::Blind);
    let directory = replica.directory.clone();
    let write =
        tokio::spawn(async move { directory.create_user(user("eve"), Timestamp::now()).await });
    // Long enough for the commit, which takes a thread and no timer.
    tokio::time::sleep(Duration::from_millis(300)).await;
    pass(Duration::from_secs(11)).await;
    write.await.unwrap().expect("it is durable");
    assert!(matches!(
        replica.health.check(),
        Err(StoreAway::Unseen { .. })
    ));
    assert!(replica.review().await.is_some());
    assert!(!replica.report().0);
    replica.line.send_replace(Line::Open);
    while replica.directory.unseen().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(replica.health.check(), Ok(()));
    assert_eq!(replica.review().await, None);
}

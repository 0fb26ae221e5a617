//! Issuers of clusters in process: their documents, where their keys come from, and what is bound to a pod
//! (IRSA spec, sections 2, 4.4, 6.2 and 12).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use countersign_oidc::{Algorithm, Discovery, KeySet, KeyStage, Schedule, SigningKey};
use countersign_server::aws::AwsApi;
use countersign_server::health::Report;
use countersign_server::issuer::{
    ApiFuture, BoundCheck, ClusterApi, ClusterIssuers, DEFAULT_PUBLIC_URL, IssuerOptions,
};
use countersign_server::listen::Peer;
use countersign_server::metrics::Metrics;
use countersign_server::web_identity::{WebIdentity, WebIdentityOptions};
use countersign_server::webhook::entries::Registered;
use countersign_sources::kubernetes::{TokenApiError, TokenVerdict};
use countersign_store::records::{AuthenticationMode, Cluster, Creator};
use countersign_store::{
    ClusterKeysRefused, ClusterPlace, DirectoryError, NewCluster, NewOidcProvider,
};
use countersign_upstream::jwks::{
    Fetch, FetchFailure, FetchedKeys, KeyFetch, KeySource, KeySourceOptions,
};
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::*;

const SUBJECT: &str = "system:serviceaccount:orchard:picker";

/// Nobody may be asked over HTTP for the keys of a cluster of ours.
struct Nobody;

impl KeyFetch for Nobody {
    fn fetch<'a>(&'a self, _: &'a Fetch) -> BoxFuture<'a, Result<FetchedKeys, FetchFailure>> {
        panic!("the keys of our own clusters are in memory")
    }
}

/// An API server whose answers can be changed.
#[derive(Debug)]
struct Api {
    keys: Mutex<Result<String, TokenApiError>>,
    verdict: Mutex<Result<TokenVerdict, TokenApiError>>,
    pulls: AtomicUsize,
    reviews: AtomicUsize,
}

impl Api {
    fn publishes(&self, keys: &[&SigningKey]) {
        let keys = KeySet::of(keys.iter().map(|key| key.public().clone())).unwrap();
        *self.keys.lock().unwrap() = Ok(keys.to_document());
    }

    fn pulls(&self) -> usize {
        self.pulls.load(Ordering::SeqCst)
    }

    fn reviews(&self) -> usize {
        self.reviews.load(Ordering::SeqCst)
    }

    fn says(&self, verdict: Result<TokenVerdict, TokenApiError>) {
        *self.verdict.lock().unwrap() = verdict;
    }
}

impl ClusterApi for Api {
    fn key_set(&self) -> ApiFuture<'_, Vec<u8>> {
        self.pulls.fetch_add(1, Ordering::SeqCst);
        let keys = self.keys.lock().unwrap().clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            keys.map(String::into_bytes)
        })
    }

    fn review<'a>(&'a self, _: &'a str, _: &'a [Box<str>]) -> ApiFuture<'a, TokenVerdict> {
        self.reviews.fetch_add(1, Ordering::SeqCst);
        let verdict = self.verdict.lock().unwrap().clone();
        Box::pin(async move { verdict })
    }
}

fn alive() -> Result<TokenVerdict, TokenApiError> {
    Ok(TokenVerdict {
        authenticated: true,
        username: SUBJECT.to_owned(),
        reason: String::new(),
    })
}

fn gone() -> Result<TokenVerdict, TokenApiError> {
    Ok(TokenVerdict {
        reason: "pod is gone".to_owned(),
        ..TokenVerdict::default()
    })
}

struct IssuerWorld {
    world: World,
    cluster: Cluster,
    issuers: Arc<ClusterIssuers>,
    api: Arc<Api>,
    metrics: Arc<Metrics>,
    role: String,
}

impl IssuerWorld {
    /// A cluster with a provider and a role that trusts it; its API server can be asked when `reachable`.
    async fn new(mode: BoundCheck, reachable: bool) -> Self {
        let mut world = World::new().await;
        let creator = Creator {
            principal_arn: "arn:aws:iam::111122223333:user/ana".into(),
            principal_id: world
                .directory
                .snapshot()
                .user(world.account, "ana")
                .unwrap()
                .record
                .id
                .clone(),
        };
        let new = NewCluster {
            authentication_mode: AuthenticationMode::Api,
            ..NewCluster::new(world.account, "eu-west-1", "orchard", creator)
        };
        let cluster = world.directory.create_cluster(new, now()).await.unwrap();
        let api = Arc::new(Api {
            keys: Mutex::new(Err(TokenApiError::Unreachable)),
            verdict: Mutex::new(alive()),
            pulls: AtomicUsize::new(0),
            reviews: AtomicUsize::new(0),
        });
        let registered = Registered::At {
            account: world.account,
            region: "eu-west-1".into(),
            name: "orchard".into(),
        };
        let clusters = if reachable {
            vec![(registered, Arc::clone(&api) as Arc<dyn ClusterApi>)]
        } else {
            Vec::new()
        };
        let options = IssuerOptions {
            public_url: String::new(),
            bound_check: mode,
            clusters,
        };
        let issuers = Arc::new(ClusterIssuers::new(world.directory.clone(), options).unwrap());
        let keys = KeySource::new(KeySourceOptions::default(), Arc::new(Nobody));
        let web = Arc::new(WebIdentity::with_keys(keys, &WebIdentityOptions::default()));
        let mut metrics = Metrics::new();
        metrics.register_issuers(Some(Arc::clone(&issuers)), Arc::clone(&web));
        let metrics = Arc::new(metrics);
        world.api = AwsApi::new(
            Arc::clone(&world.keys),
            world.directory.clone(),
            Arc::clone(&metrics),
            0,
            false,
        )
        .with_web_identity(web)
        .with_issuers(Arc::clone(&issuers));
        let url = issuers.issuer_url(&cluster);
        let url = url.strip_prefix("https://").unwrap();
        let provider = NewOidcProvider {
            account: world.account,
            url: url.into(),
            client_ids: vec!["sts.amazonaws.com".into()],
            thumbprints: Vec::new(),
            tags: Vec::new(),
        };
        world
            .directory
            .create_oidc_provider(provider, now())
            .await
            .unwrap();
        let trust = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Federated":"arn:aws:iam::111122223333:oidc-provider/{url}"}},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{{"StringEquals":{{"{url}:sub":"{SUBJECT}"}}}}}}]}}"#
        );
        let role = world.role("orchard-reader", &trust).await;
        Self {
            world,
            cluster,
            issuers,
            api,
            metrics,
            role,
        }
    }

    fn place(&self) -> ClusterPlace<'_> {
        ClusterPlace {
            account: self.cluster.account,
            region: &self.cluster.region,
            name: &self.cluster.name,
        }
    }

    async fn upload(&self, key: &SigningKey) {
        let keys = KeySet::of([key.public().clone()]).unwrap();
        self.world
            .directory
            .add_cluster_keys(self.place(), &keys, now())
            .await
            .unwrap();
    }

    fn token(&self, key: &SigningKey, when: Timestamp) -> String {
        let at = when.as_second();
        key.sign(&json!({
            "iss": self.issuers.issuer_url(&self.cluster), "sub": SUBJECT, "aud": ["sts.amazonaws.com"],
            "iat": at - 60, "nbf": at - 60, "exp": at + 86_400,
            "kubernetes.io": {"namespace": "orchard", "serviceaccount": {"name": "picker", "uid": "1"}, "pod": {"name": "picker-0", "uid": "2"}},
        }))
        .unwrap()
    }

    /// Status, and the code of a refusal.
    async fn assume(&self, token: &str, when: Timestamp) -> (u16, String) {
        let body = format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName=picker-0&WebIdentityToken={token}",
            escape(&self.role)
        );
        let (head, ()) = http::Request::post("/")
            .header("host", HOST)
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(())
            .unwrap()
            .into_parts();
        let peer = Peer {
            address: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            tls: true,
        };
        let body = Bytes::from(body);
        let answer = self
            .world
            .api
            .answer(&head, &body, peer, when, "request-1")
            .await;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        let code = body["Error"]["Code"].as_str().unwrap_or_default();
        (status, code.to_owned())
    }

    /// Status, headers and body of a request for a document.
    async fn get(
        &self,
        method: &str,
        path: &str,
        if_none_match: &str,
    ) -> (u16, http::HeaderMap, String) {
        let mut request = http::Request::builder().method(method).uri(path);
        if !if_none_match.is_empty() {
            request = request.header("if-none-match", if_none_match);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let answer = self.world.api.document(&head, now()).unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        (head.status.as_u16(), head.headers, body)
    }
}

#[tokio::test]
async fn documents_of_a_cluster_are_served_with_what_caches_need() {
    let world = IssuerWorld::new(BoundCheck::Off, false).await;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    world.upload(&key).await;
    let base = format!("/id/{}", world.cluster.id);
    let discovery = format!("{base}/.well-known/openid-configuration");
    let keys = format!("{base}/keys");
    let issuer = world.issuers.issuer_url(&world.cluster);
    assert_eq!(
        issuer,
        format!("{DEFAULT_PUBLIC_URL}/id/{}", world.cluster.id)
    );

    let (status, headers, body) = world.get("GET", &discovery, "").await;
    assert_eq!(
        (status, &headers["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let read = Discovery::parse(body.as_bytes(), &issuer).unwrap();
    assert_eq!(read.jwks_uri(), format!("{issuer}/keys"));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["id_token_signing_alg_values_supported"],
        json!(["ES256"])
    );

    let (status, headers, body) = world.get("GET", &keys, "").await;
    assert_eq!(status, 200);
    for (name, value) in [
        ("content-type", "application/jwk-set+json"),
        ("cache-control", "public, max-age=300"),
        ("access-control-allow-origin", "*"),
    ] {
        assert_eq!(headers[name], value);
    }
    let read = KeySet::parse(body.as_bytes()).unwrap();
    assert_eq!(read.ids().collect::<Vec<_>>(), [key.id()]);
    let tag = headers["etag"].to_str().unwrap().to_owned();

    let unknown = format!("/id/{}/keys", "0".repeat(32));
    for (method, path, known, status) in [
        ("HEAD", keys.as_str(), "", 200),
        ("GET", &keys, tag.as_str(), 304),
        ("GET", &keys, &format!("\"other\", W/{tag}"), 304),
        ("GET", &keys, "*", 304),
        ("GET", &keys, "\"other\"", 200),
        ("POST", &keys, "", 405),
        ("DELETE", &discovery, "", 405),
        ("POST", &unknown, "", 405),
        ("GET", &unknown, "", 404),
        ("GET", &unknown, "*", 404),
        ("GET", &format!("{base}/jwks"), "", 404),
        ("GET", &format!("{base}/keys/"), "", 404),
        ("GET", &base, "", 404),
        ("GET", "/id/", "", 404),
        (
            "GET",
            &keys.to_lowercase(),
            "",
            if keys == keys.to_lowercase() {
                200
            } else {
                404
            },
        ),
    ] {
        let (answered, headers, body) = world.get(method, path, known).await;
        assert_eq!(answered, status, "{method} {path} {known}");
        assert_eq!(
            headers["access-control-allow-origin"], "*",
            "{method} {path}"
        );
        match status {
            404 | 405 => assert_eq!(body, "{}", "{method} {path}"),
            304 => assert_eq!(
                (body.as_str(), &headers["etag"]),
                ("", &tag.parse().unwrap())
            ),
            _ => {}
        }
        assert_eq!(
            headers.contains_key("allow"),
            status == 405,
            "{method} {path}"
        );
    }
    let text = world.metrics.render();
    let counted = format!(
        "countersign_oidc_document_requests_total{{cluster=\"{}\",document=\"keys\",code=\"304\"}} 3",
        world.cluster.arn()
    );
    assert!(text.contains(&counted), "{text}");
    assert!(text.contains(&format!("kid=\"{}\"", key.id())), "{text}");

    // Whoever is deleted has no issuer.
    world
        .world
        .directory
        .delete_cluster(world.place(), jiff::SignedDuration::ZERO, now())
        .await
        .unwrap();
    assert_eq!(world.get("GET", &keys, "").await.0, 404);
}

#[tokio::test]
async fn issuers_begin_with_a_url_that_iam_takes() {
    let world = World::new().await;
    for (url, usable) in [
        ("", true),
        ("https://issuer.example", true),
        ("https://issuer.example/", true),
        ("https://issuer.example/base", true),
        ("http://issuer.example", false),
        ("https://issuer.example:8443", false),
        ("https://issuer.example:443", false),
        ("https://issuer.example?x=1", false),
        ("https://user@issuer.example", false),
        ("https://", false),
        (&format!("https://{}.example", "a".repeat(230)), false),
    ] {
        let options = IssuerOptions {
            public_url: url.to_owned(),
            ..IssuerOptions::default()
        };
        let made = ClusterIssuers::new(world.directory.clone(), options);
        assert_eq!(made.is_ok(), usable, "{url}");
    }
}

#[tokio::test]
async fn a_token_of_a_cluster_is_verified_without_asking_ourselves() {
    let world = IssuerWorld::new(BoundCheck::Enforce, false).await;
    let (key, other) = (
        SigningKey::generate(Algorithm::Rs256).unwrap(),
        SigningKey::generate(Algorithm::Rs256).unwrap(),
    );
    let refused = (400, "InvalidIdentityToken".to_owned());
    let token = world.token(&key, now());
    assert_eq!(world.assume(&token, now()).await, refused, "no keys");
    world.upload(&key).await;
    assert_eq!(world.assume(&token, now()).await.0, 200);
    let forged = world.token(&other, now());
    assert_eq!(world.assume(&forged, now()).await, refused);
    assert_eq!(world.api.reviews(), 0);
    let text = world.metrics.render();
    for (result, count) in [("ok", 1), ("signature", 2), ("bound", 0)] {
        let line = format!("countersign_sts_web_identity_total{{result=\"{result}\"}} {count}");
        assert!(text.contains(&line), "{line}: {text}");
    }
    world
        .world
        .directory
        .clear_cluster_keys(world.place(), now())
        .await
        .unwrap();
    assert_eq!(world.assume(&token, now()).await, refused);
}

#[tokio::test]
async fn an_unknown_key_makes_the_api_server_be_asked_once_for_all() {
    let world = IssuerWorld::new(BoundCheck::Off, true).await;
    let (old, new) = (
        SigningKey::generate(Algorithm::Rs256).unwrap(),
        SigningKey::generate(Algorithm::Es256).unwrap(),
    );
    let unknown = SigningKey::generate(Algorithm::Es256).unwrap();
    world.api.publishes(&[&old]);
    world.issuers.refresh(now()).await;
    assert_eq!(world.assume(&world.token(&old, now()), now()).await.0, 200);
    assert_eq!(world.api.pulls(), 1);

    world.api.publishes(&[&old, &new]);
    let token = world.token(&new, now());
    let calls = (0..1000).map(|_| world.assume(&token, now()));
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
    assert_eq!(world.api.pulls(), 2);

    // Half a minute has not passed: nobody is asked for a key that nobody has.
    let token = world.token(&unknown, now());
    for _ in 0..3 {
        let answered = world.assume(&token, now()).await;
        assert_eq!(answered, (400, "InvalidIdentityToken".to_owned()));
    }
    assert_eq!(world.api.pulls(), 2);
}

#[tokio::test]
async fn keys_of_an_api_server_that_is_away_are_good_for_a_day() {
    let world = IssuerWorld::new(BoundCheck::Off, true).await;
    let key = SigningKey::generate(Algorithm::Rs256).unwrap();
    world.api.publishes(&[&key]);
    world.issuers.refresh(now()).await;
    *world.api.keys.lock().unwrap() = Err(TokenApiError::Unreachable);
    let hour = 3600;
    for (seconds, status, stale) in [
        (60, 200, 0),
        (hour, 200, 1),
        (24 * hour, 200, 2),
        (24 * hour + 1, 400, 2),
    ] {
        let when = after(seconds);
        world.issuers.refresh(when).await;
        let (answered, code) = world.assume(&world.token(&key, when), when).await;
        assert_eq!(answered, status, "{seconds}: {code}");
        if status != 200 {
            assert_eq!(code, "IDPCommunicationError");
        }
        let line = format!(
            "countersign_oidc_stale_keys_total{{issuer=\"{}\"}} {stale}",
            world.issuers.issuer_url(&world.cluster)
        );
        assert_eq!(
            world.metrics.render().contains(&line),
            stale > 0,
            "{seconds}"
        );
    }
    // A broken answer takes nothing away, and a good one is good for another day.
    *world.api.keys.lock().unwrap() = Ok("{\"keys\":[]}".to_owned());
    world.issuers.refresh(after(2 * hour)).await;
    world.api.publishes(&[&key]);
    world.issuers.refresh(after(30 * hour)).await;
    let when = after(31 * hour);
    assert_eq!(world.assume(&world.token(&key, when), when).await.0, 200);
}

#[tokio::test]
async fn tokens_of_pods_that_are_gone_are_refused() {
    let down = || Err(TokenApiError::Status(503));
    for (mode, verdict, expected) in [
        (BoundCheck::Enforce, alive(), (200, "")),
        (BoundCheck::Enforce, gone(), (400, "InvalidIdentityToken")),
        (BoundCheck::Enforce, down(), (400, "IDPCommunicationError")),
        (
            BoundCheck::Enforce,
            alive().map(|verdict| TokenVerdict {
                username: "system:serviceaccount:orchard:other".to_owned(),
                ..verdict
            }),
            (400, "InvalidIdentityToken"),
        ),
        (BoundCheck::Warn, gone(), (200, "")),
        (BoundCheck::Warn, down(), (200, "")),
        (BoundCheck::Off, gone(), (200, "")),
    ] {
        let world = IssuerWorld::new(mode, true).await;
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        world.upload(&key).await;
        let case = format!("{mode:?} {verdict:?}");
        world.api.says(verdict);
        let (status, code) = world.assume(&world.token(&key, now()), now()).await;
        assert_eq!((status, code.as_str()), expected, "{case}");
        let asked = usize::from(mode != BoundCheck::Off);
        assert_eq!(world.api.reviews(), asked, "{case}");
    }
}

#[tokio::test]
async fn what_the_api_server_said_is_remembered_for_ten_seconds_and_bridges_an_outage() {
    let world = IssuerWorld::new(BoundCheck::Enforce, true).await;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    world.upload(&key).await;
    let (token, stranger) = (world.token(&key, now()), world.token(&key, after(1)));
    // Only now: what waits for the store must not see time run away.
    tokio::time::pause();
    let pass = |seconds| tokio::time::advance(std::time::Duration::from_secs(seconds));
    for _ in 0..5 {
        assert_eq!(world.assume(&token, now()).await.0, 200);
    }
    assert_eq!(world.api.reviews(), 1);
    // The pod is deleted: within a minute nobody gets credentials for it.
    world.api.says(gone());
    assert_eq!(world.assume(&token, now()).await.0, 200);
    pass(11).await;
    let refused = (400, "InvalidIdentityToken".to_owned());
    assert_eq!(world.assume(&token, now()).await, refused);
    // Who is gone stays gone, whether the API server answers or not.
    world.api.says(Err(TokenApiError::Unreachable));
    pass(11).await;
    assert_eq!(world.assume(&token, now()).await, refused);

    let again = (400, "IDPCommunicationError".to_owned());
    pass(2).await;
    assert_eq!(world.assume(&stranger, now()).await, again);
    world.api.says(alive());
    pass(2).await;
    assert_eq!(world.assume(&stranger, now()).await.0, 200);
    world.api.says(Err(TokenApiError::Unreachable));
    pass(2 * 3600 - 1).await;
    assert_eq!(world.assume(&stranger, now()).await.0, 200);
    pass(2).await;
    assert_eq!(world.assume(&stranger, now()).await, again);
    let text = world.metrics.render();
    assert!(
        text.contains("countersign_bound_check_from_memory_total"),
        "{text}"
    );
}

#[tokio::test]
async fn generated_keys_rotate_without_a_token_that_somebody_cannot_verify() {
    let world = IssuerWorld::new(BoundCheck::Off, false).await;
    let directory = &world.world.directory;
    let legacy = SigningKey::generate(Algorithm::Rs256).unwrap();
    world.upload(&legacy).await;
    directory
        .generate_cluster_keys(world.place(), Algorithm::Es256, now())
        .await
        .unwrap();
    let entry = || {
        let snapshot = directory.snapshot();
        Arc::clone(snapshot.cluster_keys(&world.cluster.id).unwrap())
    };
    let signer = |when| Arc::clone(entry().signing.signing(Algorithm::Es256, when).unwrap());
    let first = signer(now());
    for key in [&legacy, &*first] {
        assert_eq!(world.assume(&world.token(key, now()), now()).await.0, 200);
    }
    let sealed = entry().record.signing.clone().unwrap();
    assert!(!format!("{sealed:?}{:?}", entry().record).contains("pkcs8"));

    directory
        .rotate_cluster_keys(world.place(), now())
        .await
        .unwrap();
    let waiting = directory
        .rotate_cluster_keys(world.place(), after(10))
        .await;
    assert!(
        matches!(
            waiting,
            Err(DirectoryError::ClusterKeys(
                ClusterKeysRefused::RotationUnderWay { .. }
            ))
        ),
        "{waiting:?}"
    );
    // Published at once, to sign when no cache is without it.
    assert_eq!(entry().keys.len(), 3);
    let wait = Schedule::CLUSTER.publish_before;
    assert_eq!(signer(after(wait - 1)).id(), first.id());
    let second = signer(after(wait));
    assert_ne!(second.id(), first.id());
    let stage = |key: &SigningKey, when| {
        let entry = entry();
        let mut lives = entry.signing.lives(Schedule::CLUSTER, when);
        lives.find(|life| life.key.id() == key.id()).unwrap().stage
    };
    let over = wait + Schedule::CLUSTER.keep_after + 1;
    for (when, of_first, of_second) in [
        (0, KeyStage::Signs, KeyStage::Published),
        (wait, KeyStage::Retired, KeyStage::Signs),
        (over - 1, KeyStage::Retired, KeyStage::Signs),
        (over, KeyStage::Over, KeyStage::Signs),
    ] {
        assert_eq!(stage(&first, after(when)), of_first, "{when}");
        assert_eq!(stage(&second, after(when)), of_second, "{when}");
    }
    // What somebody has to do next stands in the report of readiness, which goes on being ready.
    let keep = Schedule::CLUSTER.rotate_every;
    for (when, says) in [
        (over - 1, None),
        (over, Some("issuer keys remove --kid")),
        (keep * 3, Some("issuer keys remove --kid")),
    ] {
        let mut report = Report::default();
        world.issuers.report(&mut report, after(when));
        let text = report.render(true);
        assert!(report.is_ready());
        assert_eq!(
            text.contains("[!]issuer arn:aws:eks:"),
            says.is_some(),
            "{text}"
        );
        assert!(
            text.contains(says.unwrap_or_default()) && !text.contains("keys rotate"),
            "{text}"
        );
    }
    // A key in use goes only by force; one that is over goes, and nothing goes by itself.
    for (key, when, force, removed) in [
        (second.id(), over, false, false),
        (first.id(), over - 1, false, false),
        ("nobody", over, true, false),
        (first.id(), over, false, true),
        (legacy.id(), over, false, true),
        (second.id(), over, true, true),
    ] {
        let done = directory
            .remove_cluster_key(world.place(), key, force, after(when))
            .await;
        assert_eq!(done.is_ok(), removed, "{key} {when} {done:?}");
    }
    assert!(entry().keys.is_empty());
}

#[tokio::test]
async fn replicas_that_rotate_at_once_agree_on_one_key() {
    let world = IssuerWorld::new(BoundCheck::Off, false).await;
    let directory = &world.world.directory;
    let made = futures::future::join_all(
        (0..3).map(|_| directory.generate_cluster_keys(world.place(), Algorithm::Es256, now())),
    )
    .await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    let when = after(Schedule::CLUSTER.rotate_every);
    let rotated = futures::future::join_all(
        (0..3).map(|_| directory.rotate_cluster_keys(world.place(), when)),
    )
    .await;
    assert_eq!(rotated.iter().filter(|made| made.is_ok()).count(), 1);
    let snapshot = directory.snapshot();
    assert_eq!(
        snapshot.cluster_keys(&world.cluster.id).unwrap().keys.len(),
        2
    );
}

#[tokio::test]
async fn sources_of_keys_do_not_mix_unasked() {
    let world = IssuerWorld::new(BoundCheck::Off, true).await;
    let directory = &world.world.directory;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let keys = || KeySet::of([key.public().clone()]).unwrap();
    let place = world.place();
    directory
        .add_cluster_keys(place, &keys(), now())
        .await
        .unwrap();
    // An API server does not replace what a person uploaded, neither by the way nor by a plain pull.
    world
        .api
        .publishes(&[&SigningKey::generate(Algorithm::Es256).unwrap()]);
    world.issuers.refresh(now()).await;
    assert_eq!(world.api.pulls(), 0);
    let pulled = directory
        .pulled_cluster_keys(place, &keys(), false, now())
        .await;
    assert!(pulled.is_err(), "{pulled:?}");
    let pulled = directory
        .pulled_cluster_keys(place, &keys(), true, now())
        .await;
    assert!(pulled.is_ok(), "{pulled:?}");
    let refused = [
        directory.add_cluster_keys(place, &keys(), now()).await,
        directory
            .generate_cluster_keys(place, Algorithm::Es256, now())
            .await,
        directory.rotate_cluster_keys(place, now()).await,
        directory
            .remove_cluster_key(place, key.id(), true, now())
            .await,
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(DirectoryError::ClusterKeys(_))),
            "{refused:?}"
        );
    }
    // The same keys again are not written for an hour.
    let modified = || {
        let snapshot = directory.snapshot();
        snapshot.cluster_keys(&world.cluster.id).unwrap().modified
    };
    let before = modified();
    directory
        .pulled_cluster_keys(place, &keys(), false, after(3599))
        .await
        .unwrap();
    assert_eq!(modified(), before);
    directory
        .pulled_cluster_keys(place, &keys(), false, after(3600))
        .await
        .unwrap();
    assert_ne!(modified(), before);
}

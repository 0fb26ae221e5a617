//! People's ID tokens in TokenReview: identity provider configs in force at once, keys and outages of issuers, and what is
//! nobody's token here (authentication spec, section 9).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use countersign_oidc::{Algorithm, KeySet, SigningKey};
use countersign_server::access_policies::AccessPolicies;
use countersign_server::web_identity::{WebIdentity, WebIdentityOptions};
use countersign_server::webhook::authenticate::{
    ClusterAuthenticator, ClusterOptions, Review, ReviewOptions,
};
use countersign_server::webhook::denial::{DenialClass, DenyMode};
use countersign_server::webhook::entries::{PrincipalBinding, Registered};
use countersign_sources::{Mappings, MappingsOptions};
use countersign_store::records::Creator;
use countersign_store::{ClusterPlace, NewCluster, NewIdentityProviderConfig};
use countersign_token::{Options, Rules};
use countersign_upstream::http::ExchangeFailure;
use countersign_upstream::jwks::{
    Fetch, FetchFailure, FetchedKeys, KeyFetch, KeySource, KeySourceOptions,
};
use futures::future::BoxFuture;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::world::*;

const ISSUER: &str = "https://id.example";
const REGION: &str = "us-east-1";

/// Issuers and their keys; one that is not there does not answer.
#[derive(Default)]
struct Issuers {
    keys: Mutex<HashMap<String, Arc<KeySet>>>,
    asked: AtomicUsize,
}

impl Issuers {
    fn publish(&self, issuer: &str, keys: &[&SigningKey]) {
        let keys = KeySet::of(keys.iter().map(|key| key.public().clone())).unwrap();
        let mut all = self.keys.lock().unwrap();
        all.insert(issuer.to_owned(), Arc::new(keys));
    }

    fn go_down(&self, issuer: &str) {
        self.keys.lock().unwrap().remove(issuer);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl KeyFetch for Issuers {
    fn fetch<'a>(&'a self, fetch: &'a Fetch) -> BoxFuture<'a, Result<FetchedKeys, FetchFailure>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let keys = self
            .keys
            .lock()
            .unwrap()
            .get(fetch.issuer.as_str())
            .cloned();
        Box::pin(async move {
            keys.map(|keys| FetchedKeys {
                keys,
                max_age: None,
            })
            .ok_or(FetchFailure::Unreachable {
                document: "discovery document",
                source: Some(ExchangeFailure::Timeout),
            })
        })
    }
}

struct Served {
    world: World,
    issuers: Arc<Issuers>,
    key: SigningKey,
    cluster: ClusterAuthenticator,
}

impl Served {
    /// The cluster `c1`, without configs; [`ISSUER`] publishes the key.
    async fn new() -> Self {
        let world = World::new().await;
        let snapshot = world.directory.snapshot();
        let ana = snapshot.user(world.account, "ana").unwrap();
        let creator = Creator {
            principal_arn: (*ana.arn).into(),
            principal_id: ana.record.id.clone(),
        };
        let made = world
            .directory
            .create_cluster(NewCluster::new(world.account, REGION, "c1", creator), now())
            .await
            .unwrap();
        let issuers = Arc::<Issuers>::default();
        let key = SigningKey::generate(Algorithm::Rs256).unwrap();
        issuers.publish(ISSUER, &[&key]);
        let fetch: Arc<dyn KeyFetch> = Arc::<Issuers>::clone(&issuers);
        let people = WebIdentity::with_keys(
            KeySource::new(KeySourceOptions::default(), fetch),
            &WebIdentityOptions::default(),
        );
        let shared = Arc::new(ReviewOptions {
            rules: Rules::new(Options::default()).unwrap(),
            verifiers: Vec::new(),
            nodes: None,
            directory: Some(world.directory.clone()),
            people: Some(Arc::new(people)),
            store: None,
            principal_binding: PrincipalBinding::FirstUse,
            policies: Arc::new(AccessPolicies::builtin()),
            deny_mode: DenyMode::Review,
            upstream_failure_status: 500,
        });
        let cluster = ClusterAuthenticator::new(ClusterOptions {
            name: "c1".into(),
            cluster_id: "c1".into(),
            mappings: Mappings::new(&[], MappingsOptions::default()),
            registered: Some(Registered::Id(made.id)),
            names_entry: false,
            shared,
        });
        Self {
            world,
            issuers,
            key,
            cluster,
        }
    }

    fn place(&self) -> ClusterPlace<'static> {
        ClusterPlace {
            account: self.world.account,
            region: REGION,
            name: "c1",
        }
    }

    async fn associate(
        &self,
        name: &str,
        issuer: &str,
        change: impl FnOnce(&mut NewIdentityProviderConfig),
    ) {
        let mut new = NewIdentityProviderConfig {
            name: name.into(),
            issuer_url: issuer.into(),
            client_id: "kubernetes".into(),
            username_claim: None,
            username_prefix: Some("-".into()),
            groups_claim: Some("groups".into()),
            groups_prefix: None,
            required_claims: Default::default(),
            tags: Vec::new(),
        };
        change(&mut new);
        self.world
            .directory
            .associate_identity_provider_config(
                self.place(),
                new,
                SignedDuration::ZERO,
                None,
                now(),
            )
            .await
            .unwrap();
    }

    async fn disassociate(&self, name: &str, settling: SignedDuration) {
        self.world
            .directory
            .disassociate_identity_provider_config(self.place(), name, settling, None, now())
            .await
            .unwrap();
    }

    async fn review(&self, token: &str) -> Review {
        self.cluster.review(token, now()).await
    }

    /// The username, or the reason.
    async fn verdict(&self, token: &str) -> String {
        match self.review(token).await.outcome {
            Ok(user) => user.username().to_owned(),
            Err(denial) => denial.reason.into_owned(),
        }
    }

    fn token(&self, more: Value) -> String {
        self.key.sign(&claims(ISSUER, more)).unwrap()
    }
}

fn claims(issuer: &str, more: Value) -> Value {
    let mut claims = json!({
        "iss": issuer, "sub": "ana", "aud": "kubernetes", "exp": now().as_second() + 300,
        "groups": ["dev"], "jti": "t-1",
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test]
async fn a_config_is_in_force_at_once_and_so_is_its_end() {
    let served = Served::new().await;
    let token = served.token(json!({}));
    // Of an issuer that nobody named, nobody asks for keys.
    assert_eq!(served.verdict(&token).await, "bad_prefix");
    assert_eq!(served.issuers.asked(), 0);
    served.associate("corp", ISSUER, |_| {}).await;
    let review = served.review(&token).await;
    let user = review.outcome.unwrap();
    assert_eq!(user.username(), "ana");
    assert_eq!((user.uid(), user.groups()), ("", &["dev".to_owned()][..]));
    assert_eq!(user.backend(), "IdentityProviderConfig");
    assert_eq!(user.rule(), "identity provider config `corp`");
    let extra = user
        .identity()
        .extra("authentication.kubernetes.io/credential-id");
    assert_eq!(extra, Some("JTI=t-1"));
    assert!(review.identity.is_none() && review.fingerprint.is_some());
    // While it is being deleted it lets nobody in.
    served
        .disassociate("corp", SignedDuration::from_mins(5))
        .await;
    assert_eq!(served.verdict(&token).await, "bad_prefix");
    assert_eq!(served.issuers.asked(), 1);
}

#[tokio::test]
async fn bad_tokens_of_a_known_issuer_are_refused_with_the_reason() {
    let served = Served::new().await;
    served
        .associate("corp", ISSUER, |new| {
            new.username_claim = Some("email".into());
            new.required_claims.insert("hd".into(), "corp".into());
        })
        .await;
    let good = json!({"email": "ana@corp", "hd": "corp"});
    let with = |more: Value| {
        let mut all = good.clone();
        for (name, value) in more.as_object().unwrap() {
            all[name] = value.clone();
        }
        served.token(all)
    };
    let now = now().as_second();
    let valid = with(json!({}));
    let stranger = SigningKey::generate(Algorithm::Rs256).unwrap();
    let [header, payload, signature]: [&str; 3] =
        valid.split('.').collect::<Vec<_>>().try_into().unwrap();
    let forged = {
        let all = claims(ISSUER, json!({"email": "root@corp", "hd": "corp"}));
        let other = stranger.sign(&all).unwrap();
        let payload = other.split('.').nth(1).unwrap().to_owned();
        format!("{header}.{payload}.{signature}")
    };
    let none = "eyJhbGciOiJub25lIn0";
    let tokens = [
        ("valid", valid.clone(), "ana@corp"),
        (
            "another audience",
            with(json!({"aud": "sts.amazonaws.com"})),
            "oidc_audience",
        ),
        ("expired", with(json!({"exp": now - 1})), "oidc_expired"),
        (
            "not yet valid",
            with(json!({"nbf": now + 120})),
            "oidc_not_yet_valid",
        ),
        ("no address", with(json!({"email": null})), "oidc_username"),
        (
            "not verified",
            with(json!({"email_verified": false})),
            "oidc_email_not_verified",
        ),
        (
            "verified as text",
            with(json!({"email_verified": "true"})),
            "oidc_email_not_verified",
        ),
        (
            "another domain",
            with(json!({"hd": "corp2"})),
            "oidc_required_claim",
        ),
        (
            "a reserved name",
            with(json!({"email": "system:admin"})),
            "oidc_reserved_username",
        ),
        (
            "a reserved group",
            with(json!({"groups": ["system:masters"]})),
            "oidc_reserved_group",
        ),
        ("another payload", forged, "oidc_signature"),
        ("none", format!("{none}.{payload}."), "oidc_algorithm"),
        (
            "a key that nobody published",
            stranger.sign(&claims(ISSUER, good.clone())).unwrap(),
            "oidc_unknown_key",
        ),
        (
            "another issuer",
            served
                .key
                .sign(&claims("https://id.example/", good.clone()))
                .unwrap(),
            "bad_prefix",
        ),
        (
            "a token of IAM",
            "k8s-aws-v1.aHR0cHM6Ly9hLmI".to_owned(),
            "bad_host",
        ),
        (
            "one that begins like a token of IAM",
            format!("k8s-aws-v1.{payload}.{signature}"),
            "bad_base64",
        ),
        ("garbage", "x.y.z".to_owned(), "bad_prefix"),
        (
            "too long",
            format!("{header}.{}.{signature}", "A".repeat(20_000)),
            "token_too_large",
        ),
    ];
    for (what, token, expected) in &tokens {
        let review = served.review(token).await;
        match &review.outcome {
            Ok(user) => assert_eq!(user.username(), *expected, "{what}"),
            Err(denial) => {
                assert_eq!(denial.reason, *expected, "{what}: {}", denial.text);
                let parts: Vec<&str> = token.split('.').collect();
                let shown = format!("{denial:?}");
                assert!(
                    parts
                        .iter()
                        .all(|part| part.len() < 20 || !shown.contains(part))
                );
                if expected.starts_with("oidc_") {
                    assert!(denial.text.starts_with("oidc: "), "{what}: {}", denial.text);
                    // Never cached as a verdict, never tried again.
                    let answer = denial.answer(DenyMode::Review, 500);
                    assert_eq!((answer.status, answer.with_error), (200, true), "{what}");
                    assert_eq!(denial.answer(DenyMode::Http, 500).status, 403, "{what}");
                }
            }
        }
    }
    // One fetch of the keys, and one for the key that nobody published.
    assert_eq!(served.issuers.asked(), 2);
}

#[tokio::test]
async fn keys_change_and_issuers_go_down() {
    let served = Served::new().await;
    served.associate("corp", ISSUER, |_| {}).await;
    let token = served.token(json!({}));
    assert_eq!(served.verdict(&token).await, "ana");
    // A new key is found by the first token that names it.
    let next = SigningKey::generate(Algorithm::Es256).unwrap();
    served.issuers.publish(ISSUER, &[&served.key, &next]);
    let newer = next.sign(&claims(ISSUER, json!({"sub": "bob"}))).unwrap();
    assert_eq!(served.verdict(&newer).await, "bob");
    assert_eq!(served.verdict(&token).await, "ana");
    // Another unknown one is not asked for in the same half minute.
    let stranger = SigningKey::generate(Algorithm::Es256).unwrap();
    let unknown = stranger.sign(&claims(ISSUER, json!({}))).unwrap();
    let asked = served.issuers.asked();
    for _ in 0..20 {
        assert_eq!(served.verdict(&unknown).await, "oidc_unknown_key");
    }
    assert_eq!(served.issuers.asked(), asked);
    // An outage of hours changes nothing for keys that are known.
    served.issuers.go_down(ISSUER);
    later(3 * 3600).await;
    assert_eq!(served.verdict(&token).await, "ana");
    assert_eq!(served.verdict(&newer).await, "bob");
    // A withdrawn key is out once the issuer says so.
    served.issuers.publish(ISSUER, &[&next]);
    later(3600).await;
    served.verdict(&newer).await;
    later(1).await;
    tokio::task::yield_now().await;
    assert_eq!(served.verdict(&newer).await, "bob");
    assert_eq!(served.verdict(&token).await, "oidc_unknown_key");
}

/// Time that passes for what counts in it. The clock goes on afterwards, since a store on another machine answers in real time.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_issuer_that_never_answered_is_a_temporary_failure() {
    let served = Served::new().await;
    served
        .associate("down", "https://down.example", |_| {})
        .await;
    let token = served
        .key
        .sign(&claims("https://down.example", json!({})))
        .unwrap();
    let review = served.review(&token).await;
    let denial = review.outcome.unwrap_err();
    assert_eq!(denial.reason, "oidc_issuer_unreachable");
    assert_eq!(denial.class, DenialClass::LookupFailed);
    assert_eq!(denial.answer(DenyMode::Review, 500).status, 500);
    // Who comes right after is not sent to the issuer as well; later it has another chance.
    for _ in 0..50 {
        assert_eq!(served.verdict(&token).await, "oidc_issuer_unreachable");
    }
    assert_eq!(served.issuers.asked(), 1);
    served
        .issuers
        .publish("https://down.example", &[&served.key]);
    later(6).await;
    assert_eq!(served.verdict(&token).await, "ana");
    // The other issuer never mattered.
    assert_eq!(served.issuers.asked(), 2);
}

#[tokio::test]
async fn sixty_four_issuers_are_told_apart() {
    let served = Served::new().await;
    let issuer = |n: usize| format!("https://id{n}.example/tenant");
    let mut keys = Vec::new();
    for n in 0..64 {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        served.issuers.publish(&issuer(n), &[&key]);
        served
            .associate(&format!("n{n}"), &issuer(n), |new| {
                new.username_prefix = Some(format!("{n}:").into());
            })
            .await;
        keys.push(key);
    }
    for (n, key) in keys.iter().enumerate() {
        let token = key.sign(&claims(&issuer(n), json!({}))).unwrap();
        assert_eq!(served.verdict(&token).await, format!("{n}:ana"));
        // A key of one issuer vouches for no other.
        let other = key.sign(&claims(&issuer((n + 1) % 64), json!({}))).unwrap();
        assert_eq!(served.verdict(&other).await, "oidc_unknown_key");
    }
    let new = NewIdentityProviderConfig {
        name: "n64".into(),
        issuer_url: "https://id64.example".into(),
        client_id: "kubernetes".into(),
        username_claim: None,
        username_prefix: None,
        groups_claim: None,
        groups_prefix: None,
        required_claims: Default::default(),
        tags: Vec::new(),
    };
    let one_more = served.world.directory.associate_identity_provider_config(
        served.place(),
        new,
        SignedDuration::ZERO,
        None,
        now(),
    );
    assert!(one_more.await.is_err());
}

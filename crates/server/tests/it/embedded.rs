//! The embedded STS behind the webhook, with keys of a real store.

use std::sync::Arc;

use countersign_arn::{AccountId, Partition};
use countersign_mapping::{BackendKind, MappingOptions, MappingTable};
use countersign_server::access_policies::AccessPolicies;
use countersign_server::aws::KeyRing;
use countersign_server::webhook::authenticate::{
    ClusterAuthenticator, ClusterOptions, ReviewOptions, Verifier,
};
use countersign_server::webhook::denial::{DenialAnswer, DenialClass, DenyMode};
use countersign_server::webhook::entries::PrincipalBinding;
use countersign_sigv4::{Credentials, Request, SecretKey, Signer};
use countersign_sources::{Mappings, MappingsOptions};
use countersign_store::conformance::TestStore;
use countersign_store::records::AccessKeyStatus;
use countersign_store::{Directory, NewAccount, NewUser, Quotas, Random, RootKey, Sealer};
use countersign_token::{Options, Rules, mint};
use jiff::{SignedDuration, Timestamp};

const ENDPOINT: &str = "https://sts.cs.example:8443/";

struct World {
    directory: Directory,
    account: AccountId,
    key_id: String,
    secret: SecretKey,
    keys: Arc<KeyRing>,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-03-14T09:26:53Z")
}

impl World {
    async fn new() -> Self {
        let account: AccountId = "111122223333".parse().unwrap();
        let store = Arc::new(TestStore::in_memory().unwrap());
        let sealer = Sealer::new(&RootKey::from_bytes([7; 32]), &[]).unwrap();
        let directory = Directory::open(store, sealer, Random::system(), Quotas::default())
            .await
            .unwrap();
        let new = NewAccount {
            id: account,
            partition: Partition::Aws,
            alias: None,
            organization_id: None,
        };
        directory.create_account(new, now()).await.unwrap();
        let new = NewUser {
            account,
            name: "ana".into(),
            path: "/team/".into(),
            tags: Vec::new(),
        };
        directory.create_user(new, now()).await.unwrap();
        let key = directory
            .create_access_key(account, "ana", now())
            .await
            .unwrap();
        let keys = Arc::new(KeyRing::new(directory.feed().clone()));
        Self {
            key_id: key.metadata.id.to_string(),
            secret: SecretKey::new(key.secret.expose()),
            directory,
            account,
            keys,
        }
    }

    fn cluster(&self, cluster_id: &str) -> ClusterAuthenticator {
        let options = MappingOptions::default();
        let creator = MappingTable::cluster_creator(
            "arn:aws:iam::111122223333:user/team/ana",
            None,
            &options,
        )
        .unwrap();
        let mappings = Mappings::new(&[BackendKind::ClusterCreator], MappingsOptions::default());
        mappings.set_table(creator, "1", now());
        let rules = Rules::new(Options {
            trusted_endpoints: vec![
                ENDPOINT.into(),
                "https://cs.example/sts".into(),
                "https://cs.example/sts/".into(),
                "https://cs.example:443/sts".into(),
                "http://127.0.0.1:9999".into(),
            ],
            allow_insecure_trusted_endpoint: true,
            ..Options::default()
        })
        .unwrap();
        ClusterAuthenticator::new(ClusterOptions {
            name: cluster_id.to_owned(),
            cluster_id: cluster_id.to_owned(),
            mappings,
            registered: None,
            names_entry: false,
            shared: Arc::new(ReviewOptions {
                rules,
                verifiers: vec![Verifier::Embedded(Arc::clone(&self.keys))],
                nodes: None,
                directory: Some(self.directory.clone()),
                people: None,
                store: None,
                principal_binding: PrincipalBinding::FirstUse,
                policies: Arc::new(AccessPolicies::builtin()),
                deny_mode: DenyMode::Review,
                upstream_failure_status: 500,
            }),
        })
    }

    /// A token signed as a client would: for an endpoint, with headers, at a time.
    fn url(
        &self,
        endpoint: &str,
        query: &str,
        headers: &[(&str, &str)],
        token: Option<&str>,
        when: Timestamp,
    ) -> String {
        let rest = endpoint.split_once("://").unwrap().1;
        let (host, path) = rest
            .split_once('/')
            .map_or((rest, String::new()), |(host, path)| {
                (host, format!("/{path}"))
            });
        let mut all: Vec<(&str, &[u8])> = vec![("host", host.as_bytes())];
        all.extend(
            headers
                .iter()
                .map(|(name, value)| (*name, value.as_bytes())),
        );
        let target = format!("{path}?{query}");
        let mut request = Request::new("GET", target.as_bytes());
        request.headers = &all;
        let credentials = Credentials {
            key_id: &self.key_id,
            secret: &self.secret,
            session_token: token,
        };
        let signed = Signer::new(credentials, "us-east-1", "sts")
            .presign(&request, 60, when)
            .unwrap();
        format!("{endpoint}?{signed}")
    }

    fn token(&self, cluster_id: &str) -> String {
        mint(&self.url(ENDPOINT, GET, &[("x-k8s-aws-id", cluster_id)], None, now())).to_string()
    }
}

const GET: &str = "Action=GetCallerIdentity&Version=2011-06-15";

async fn reason(cluster: &ClusterAuthenticator, token: &str, when: Timestamp) -> String {
    match cluster.review(token, when).await.outcome {
        Ok(accepted) => format!("user {}", accepted.username()),
        Err(denial) => denial.reason.into_owned(),
    }
}

#[tokio::test]
async fn a_token_is_good_for_its_cluster_and_no_other() {
    let world = World::new().await;
    let (a, b) = (world.cluster("a"), world.cluster("b"));
    let token = world.token("a");
    let review = a.review(&token, now()).await;
    let accepted = review.outcome.unwrap();
    assert_eq!(accepted.username(), "kubernetes-admin");
    assert_eq!(accepted.groups(), ["system:masters"]);
    assert_eq!(accepted.backend(), "ClusterCreator");
    let identity = review.identity.unwrap();
    assert_eq!(identity.arn(), "arn:aws:iam::111122223333:user/team/ana");
    assert_eq!(identity.sts_endpoint(), "sts.cs.example:8443");
    assert_eq!(
        reason(&b, &token, now()).await,
        "sts_rejected:SignatureDoesNotMatch"
    );
}

#[tokio::test]
async fn every_flipped_byte_of_a_valid_token_is_refused() {
    let world = World::new().await;
    let cluster = world.cluster("demo");
    let token = world.token("demo");
    assert!(cluster.review(&token, now()).await.outcome.is_ok());
    for index in 0..token.len() {
        for flip in (0..7).map(|bit| 1u8 << bit) {
            let mut bytes = token.clone().into_bytes();
            bytes[index] ^= flip;
            let Ok(text) = String::from_utf8(bytes) else {
                continue;
            };
            let review = cluster.review(&text, now()).await;
            assert!(
                review.outcome.is_err(),
                "byte {index} flipped by {flip:#x} was accepted"
            );
        }
    }
}

#[tokio::test]
async fn a_token_lives_fifteen_minutes_whatever_x_amz_expires_says() {
    let world = World::new().await;
    let cluster = world.cluster("demo");
    let token = world.token("demo");
    for (seconds, outcome) in [
        (0, "user kubernetes-admin"),
        (14 * 60, "user kubernetes-admin"),
        (15 * 60, "user kubernetes-admin"),
        (15 * 60 + 1, "expired"),
        (-5 * 60, "user kubernetes-admin"),
        (-5 * 60 - 1, "not_yet_valid"),
    ] {
        let when = now() + SignedDuration::from_secs(seconds);
        assert_eq!(
            reason(&cluster, &token, when).await,
            outcome,
            "{seconds} s after signing"
        );
    }
}

#[tokio::test]
async fn all_custom_endpoint_forms_of_clients_verify() {
    let world = World::new().await;
    let cluster = world.cluster("demo");
    for endpoint in [
        ENDPOINT,
        "https://cs.example/sts",
        "https://cs.example/sts/",
        "http://127.0.0.1:9999/",
    ] {
        let url = world.url(endpoint, GET, &[("x-k8s-aws-id", "demo")], None, now());
        assert_eq!(
            reason(&cluster, &mint(&url), now()).await,
            "user kubernetes-admin",
            "{endpoint}"
        );
    }
    // Clients keep the implied port in the URL and sign the host without it.
    let signed = world.url(
        "https://cs.example/sts",
        GET,
        &[("x-k8s-aws-id", "demo")],
        None,
        now(),
    );
    let with_port = signed.replacen("https://cs.example/", "https://cs.example:443/", 1);
    assert_eq!(
        reason(&cluster, &mint(&with_port), now()).await,
        "user kubernetes-admin"
    );
    for endpoint in [
        "https://sts.cs.example/",
        "https://cs.example/other",
        "http://sts.cs.example:8443/",
    ] {
        let url = world.url(endpoint, GET, &[("x-k8s-aws-id", "demo")], None, now());
        assert!(
            reason(&cluster, &mint(&url), now())
                .await
                .starts_with("bad_"),
            "{endpoint}"
        );
    }
}

#[tokio::test]
async fn tokens_that_would_borrow_another_signature_are_refused() {
    let world = World::new().await;
    let cluster = world.cluster("demo");
    let signed = [("x-k8s-aws-id", "demo")];
    let good = world.url(ENDPOINT, GET, &signed, None, now());
    let cases = [
        (
            world.url(ENDPOINT, GET, &[], None, now()),
            "cluster_header_unsigned",
        ),
        (
            world.url(
                ENDPOINT,
                "Action=AssumeRole&Version=2011-06-15",
                &signed,
                None,
                now(),
            ),
            "bad_action",
        ),
        (
            format!("{good}&x-amz-credential=AKIAFAKE%2F20260314%2Fus-east-1%2Fsts%2Faws4_request"),
            "duplicate_param",
        ),
        (
            format!("{good}&action=GetCallerIdentity"),
            "duplicate_param",
        ),
        (
            format!("{good}&x-amz-signedheaders=host%3Bx-k8s-aws-id"),
            "duplicate_param",
        ),
        (format!("{good}&Foo=1"), "forbidden_param"),
        (format!("{good}#x"), "bad_url"),
        // Signed headers the verifier cannot supply: only the token's maker knows their values.
        (
            world.url(
                ENDPOINT,
                GET,
                &[("x-k8s-aws-id", "demo"), ("x-secret", "1")],
                None,
                now(),
            ),
            "sts_rejected:SignatureDoesNotMatch",
        ),
        (
            world.url(ENDPOINT, GET, &signed, Some("IQoJ"), now()),
            "sts_rejected:InvalidClientTokenId",
        ),
        (
            world.url(
                ENDPOINT,
                "Action=GetCallerIdentity&Version=2010-05-08",
                &signed,
                None,
                now(),
            ),
            "sts_rejected:InvalidAction",
        ),
    ];
    for (url, expected) in cases {
        assert_eq!(
            reason(&cluster, &mint(&url), now()).await,
            expected,
            "{url}"
        );
    }
    let also_accept = [("accept", "application/json"), ("x-k8s-aws-id", "demo")];
    let url = world.url(ENDPOINT, GET, &also_accept, None, now());
    assert_eq!(
        reason(&cluster, &mint(&url), now()).await,
        "user kubernetes-admin"
    );
}

#[tokio::test]
async fn a_deactivated_or_deleted_key_ends_at_once() {
    let world = World::new().await;
    let cluster = world.cluster("demo");
    let token = world.token("demo");
    assert!(cluster.review(&token, now()).await.outcome.is_ok());
    let set = |status| {
        world
            .directory
            .set_access_key_status(world.account, "ana", &world.key_id, status)
    };
    set(AccessKeyStatus::Inactive).await.unwrap();
    assert_eq!(
        reason(&cluster, &token, now()).await,
        "sts_rejected:InvalidClientTokenId"
    );
    set(AccessKeyStatus::Active).await.unwrap();
    assert!(cluster.review(&token, now()).await.outcome.is_ok());
    world
        .directory
        .delete_access_key(world.account, "ana", &world.key_id)
        .await
        .unwrap();
    assert_eq!(
        reason(&cluster, &token, now()).await,
        "sts_rejected:InvalidClientTokenId"
    );
}

#[tokio::test]
async fn an_aws_host_is_never_asked_in_embedded_mode() {
    let world = World::new().await;
    let cluster = world.cluster("demo");
    let url = world.url(
        "https://sts.us-east-1.amazonaws.com/",
        GET,
        &[("x-k8s-aws-id", "demo")],
        None,
        now(),
    );
    assert_eq!(reason(&cluster, &mint(&url), now()).await, "bad_host");
}

#[test]
fn denials_are_answered_as_the_table_of_status_codes_says() {
    let denial = |class| countersign_server::webhook::denial::Denial {
        class,
        reason: "x".into(),
        label: "x",
        text: "x".into(),
        nearest: Vec::new(),
    };
    let answer = |status, with_error| DenialAnswer { status, with_error };
    let table = [
        (DenialClass::Token, 403, answer(200, false)),
        (DenialClass::TokenTime, 403, answer(200, true)),
        (DenialClass::StsRejected, 403, answer(200, true)),
        (DenialClass::Unmapped, 403, answer(200, true)),
        (DenialClass::StsThrottled, 429, answer(429, true)),
        (DenialClass::StsUnreachable, 500, answer(500, true)),
        (DenialClass::LookupFailed, 500, answer(500, true)),
    ];
    for (class, http, review) in table {
        assert_eq!(
            denial(class).answer(DenyMode::Http, 500).status,
            http,
            "{class:?}"
        );
        assert_eq!(
            denial(class).answer(DenyMode::Review, 500),
            review,
            "{class:?}"
        );
    }
    assert_eq!(
        denial(DenialClass::StsUnreachable)
            .answer(DenyMode::Http, 403)
            .status,
        403
    );
}

//! `--cache-scope=service-account`: pods share the credentials of an association with session tags disabled, and of no other.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Answer, Got, START, World, claims, keys, pod, sign};
use countersign_agent::pods::{Pod, PodTable};
use countersign_agent::{
    AccountName, AssociationState, Associations, AssociationsUnreadable, CacheScope, FinalCode,
};
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::sleep;

/// One state for all associations; nothing when they cannot be read.
struct Told(Mutex<Option<AssociationState>>);

impl Associations for Told {
    fn states<'a>(
        &'a self,
        ids: &'a [Box<str>],
    ) -> BoxFuture<'a, Result<HashMap<Box<str>, AssociationState>, AssociationsUnreadable>> {
        let told = *self.0.lock().unwrap();
        let all = told.map(|state| ids.iter().map(|id| (id.clone(), state)).collect());
        let all = all.ok_or_else(|| AssociationsUnreadable("down".into()));
        Box::pin(std::future::ready(all))
    }

    fn in_force<'a>(
        &'a self,
        _: &'a [AccountName],
    ) -> BoxFuture<'a, Result<HashMap<AccountName, Box<str>>, AssociationsUnreadable>> {
        unreachable!("asked for patterns alone")
    }
}

/// A node with pods of one service account.
struct Shared {
    world: World,
    told: Arc<Told>,
}

fn long_ago() -> Timestamp {
    Timestamp::from_second(START - 86_400).unwrap()
}

impl Shared {
    async fn new(scope: CacheScope, session_tags: bool) -> Self {
        Self::with(scope, session_tags, true).await
    }

    async fn with(scope: CacheScope, session_tags: bool, has_keys: bool) -> Self {
        let told = Arc::new(Told(Mutex::new(Some(AssociationState {
            modified: long_ago(),
            session_tags,
            has_patterns: false,
        }))));
        let world = World::with(|mut config, pods| {
            config.associations = Some(Arc::clone(&told) as Arc<dyn Associations>);
            config.cache.scope = scope;
            config.pods = Some(pods);
            config.keys = has_keys.then(keys);
            config
        })
        .await;
        let shared = Self { world, told };
        shared.show((1..=10).map(member));
        shared
    }

    fn show(&self, pods: impl IntoIterator<Item = Pod>) {
        let table = PodTable::new(pods, vec!["192.168.0.1".parse().unwrap()]);
        self.world.pods.send_replace(Some(Arc::new(table)));
    }

    fn tells(&self, state: Option<AssociationState>) {
        *self.told.0.lock().unwrap() = state;
    }

    async fn get(&self, number: usize) -> Got {
        self.world.get(number, &of(number, |_| ())).await
    }

    fn calls(&self) -> usize {
        self.world.auth.count()
    }
}

/// Pod `number` as the API server shows it, of service account `picker-1`.
fn member(number: usize) -> Pod {
    Pod {
        service_account: "picker-1".into(),
        ..pod(number)
    }
}

/// A token of pod `number` of service account `picker-1`.
fn of(number: usize, change: impl FnOnce(&mut Value)) -> String {
    let mut own = claims(number, START);
    own["sub"] = "system:serviceaccount:orchard:picker-1".into();
    own["kubernetes.io"]["serviceaccount"] =
        claims(1, START)["kubernetes.io"]["serviceaccount"].clone();
    change(&mut own);
    sign(&own)
}

const LOOK: Duration = Duration::from_secs(31);

#[tokio::test(start_paused = true)]
async fn a_call_is_for_all_pods_of_an_account_only_where_session_tags_are_off() {
    use CacheScope::{Pod, ServiceAccount};
    // The scope; tags; whether the keys of the cluster are known; calls for two pods.
    let cases = [
        (ServiceAccount, false, true, 1),
        (ServiceAccount, true, true, 2),
        (Pod, false, true, 2),
        // Without keys only the auth service can tell whose token it is.
        (ServiceAccount, false, false, 2),
    ];
    for (scope, session_tags, has_keys, calls) in cases {
        let shared = Shared::with(scope, session_tags, has_keys).await;
        let first = shared.get(1).await;
        sleep(LOOK).await;
        let token = of(2, |_| ());
        let second = shared.world.get(2, &token).await;
        let shown = format!("{scope:?} {session_tags} {has_keys}");
        assert_eq!(shared.calls(), calls, "{shown}");
        assert_eq!(first.key() == second.key(), calls == 1, "{shown}");
        assert_eq!(shared.world.events.of("shared").len(), 2 - calls, "{shown}");
        // From then on the second pod has an entry of its own.
        assert_eq!(shared.world.get(2, &token).await.key(), second.key());
        assert_eq!(shared.calls(), calls, "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn until_it_is_known_that_tags_are_off_every_pod_asks_for_itself() {
    let shared = Shared::new(CacheScope::ServiceAccount, false).await;
    shared.get(1).await;
    shared.get(2).await;
    assert_eq!(shared.calls(), 2, "nobody looked yet");
    sleep(LOOK).await;
    shared.get(3).await;
    assert_eq!(shared.calls(), 2);
    // What cannot be looked at is not known any more.
    shared.tells(None);
    sleep(LOOK).await;
    shared.get(4).await;
    assert_eq!(shared.calls(), 3);
    shared.tells(Some(AssociationState {
        modified: long_ago(),
        session_tags: false,
        has_patterns: false,
    }));
    sleep(LOOK).await;
    shared.get(5).await;
    assert_eq!(shared.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_came_around_a_change_are_the_pods_own_until_somebody_looked() {
    let shared = Shared::new(CacheScope::ServiceAccount, false).await;
    let before = shared.get(1).await;
    sleep(LOOK).await;
    assert_eq!(shared.get(2).await.key(), before.key());
    // Tags are switched on, and only the auth service knows so far.
    let change = Timestamp::from_second(START).unwrap() + SignedDuration::from_secs(40);
    sleep(Duration::from_secs(10)).await;
    shared.tells(Some(AssociationState {
        modified: change,
        session_tags: true,
        has_patterns: false,
    }));
    shared
        .world
        .agent
        .association_changed("orchard", "picker-1");
    let tagged = shared.get(1).await;
    let other = shared.get(2).await;
    assert_ne!(
        tagged.key(),
        other.key(),
        "each was fetched after the change"
    );
    sleep(LOOK).await;
    let keys = [1, 2, 3].map(|number| shared.get(number));
    let keys = futures::future::join_all(keys).await;
    assert!(keys[0].key() != keys[1].key() && keys[1].key() != keys[2].key());
    // And off again.
    shared.tells(Some(AssociationState {
        modified: change + SignedDuration::from_secs(60),
        session_tags: false,
        has_patterns: false,
    }));
    sleep(LOOK).await;
    let first = shared.get(1).await;
    sleep(LOOK).await;
    for number in 2..6 {
        assert_eq!(shared.get(number).await.key(), first.key(), "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_pod_that_is_not_there_gets_nothing_of_another_pods() {
    let gone = |number: usize, change: &dyn Fn(&mut Pod)| {
        let mut pod = member(number);
        change(&mut pod);
        pod
    };
    let cases: Vec<(&str, Vec<Pod>, String)> = vec![
        ("deleted", vec![], of(2, |_| ())),
        (
            "being deleted",
            vec![gone(2, &|pod| pod.deleted = Some(Timestamp::MAX))],
            of(2, |_| ()),
        ),
        (
            "terminated",
            vec![gone(2, &|pod| pod.terminated = true)],
            of(2, |_| ()),
        ),
        (
            "of another account by the API server",
            vec![gone(2, &|pod| pod.service_account = "owner".into())],
            of(2, |_| ()),
        ),
        (
            "of an account that was made again",
            vec![member(2)],
            of(2, |c| {
                c["kubernetes.io"]["serviceaccount"]["uid"] = "account-9".into()
            }),
        ),
        (
            "of another namespace",
            vec![gone(2, &|pod| pod.namespace = "meadow".into())],
            of(2, |c| {
                c["sub"] = "system:serviceaccount:meadow:picker-1".into();
                c["kubernetes.io"]["namespace"] = "meadow".into();
            }),
        ),
        (
            "for another audience",
            vec![member(2)],
            of(2, |c| c["aud"] = serde_json::json!(["sts.amazonaws.com"])),
        ),
        (
            "forged",
            vec![member(2)],
            common::forge(&serde_json::from_value(common::claims_of(&of(2, |_| ()))).unwrap()),
        ),
    ];
    for (what, pods, token) in cases {
        let shared = Shared::new(CacheScope::ServiceAccount, false).await;
        let owner = shared.get(1).await;
        sleep(LOOK).await;
        shared.show(pods.into_iter().chain([member(1)]));
        shared
            .world
            .auth
            .set(Answer::Refuse(FinalCode::InvalidToken));
        let got = shared.world.get(2, &token).await;
        assert_eq!(got.status, 400, "{what}");
        assert!(shared.world.events.of("shared").is_empty(), "{what}");
        assert_eq!(shared.get(1).await.key(), owner.key(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_of_one_pod_is_one_of_all() {
    let calls = async |scope| {
        let shared = Shared::new(scope, false).await;
        let tokens: Vec<String> = (1..=10).map(|number| of(number, |_| ())).collect();
        for _ in 0..20 * 12 {
            for (number, token) in (1..).zip(&tokens) {
                assert_eq!(shared.world.get(number, token).await.status, 200);
            }
            sleep(Duration::from_secs(300)).await;
        }
        shared.calls()
    };
    let alone = calls(CacheScope::Pod).await;
    let together = calls(CacheScope::ServiceAccount).await;
    // Ten at the start, before anybody looked; then eight to fourteen renewals of each pod in twenty hours.
    assert!(alone >= 80, "{alone}");
    assert!(together <= 35, "{together}");
}

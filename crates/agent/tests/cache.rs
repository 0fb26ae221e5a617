//! The cache: whose credentials go to whom, how often the auth service is asked, and what happens when it does not answer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Answer, START, World, claims, forged, histogram, keys, sign, token};
use countersign_agent::{
    AccountName, AssociationState, Associations, AssociationsUnreadable, FinalCode, Limit, Refusal,
};
use futures::future::{BoxFuture, join, join_all};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, advance, sleep};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn parallel_first_requests_of_a_pod_share_one_call() {
    let world = World::new().await;
    let token = token(1, START);
    let (first, second) = join(world.get(1, &token), world.get(1, &token)).await;
    assert_eq!((first.status, first.key()), (200, second.key()));
    assert_eq!(first.headers["cache-control"], "no-store");
    assert_eq!(first.headers["content-type"], "application/json");
    assert_eq!(
        first.body,
        serde_json::json!({
            "AccessKeyId": "ASIA0000000000000001", "SecretAccessKey": common::SECRET, "Token": common::SESSION_TOKEN,
            "AccountId": "210987654321", "Expiration": "2030-01-01T06:00:00Z",
        })
    );
    assert_eq!(world.get(1, &token).await.key(), first.key());
    assert_eq!(world.auth.count(), 1);
    let issued = world.events.of("issued");
    assert_eq!(issued.len(), 1);
    assert_eq!(issued[0]["pod"], "picker-1-0");
    let all = format!("{:?}", world.events.all());
    for secret in [common::SECRET, common::SESSION_TOKEN, &token] {
        assert!(!all.contains(secret));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_stop_the_call() {
    let world = World::new().await;
    let token = token(1, START);
    let gone = tokio::time::timeout(Duration::from_millis(10), world.get(1, &token)).await;
    assert!(gone.is_err());
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.get(1, &token).await.status, 200);
    assert_eq!(world.auth.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_forged_token_of_a_pod_gets_nothing_of_its_and_spoils_nothing() {
    for with_keys in [false, true] {
        let world = World::with(|mut config, _| {
            config.keys = with_keys.then(keys);
            config
        })
        .await;
        let (genuine, forged) = (token(1, START), forged(1));
        let attacker = World::address(2);
        // At the same time, afterwards from the cache, and in the time in which failures are remembered.
        let (own, stolen) = join(world.get(1, &genuine), world.get_from(attacker, &forged)).await;
        assert_eq!((own.status, stolen.status), (200, 400), "keys: {with_keys}");
        assert_eq!(stolen.code(), "InvalidTokenException");
        assert_eq!(world.get_from(attacker, &forged).await.status, 400);
        assert_eq!(world.get(1, &genuine).await.status, 200);
        // And the other way round: the forged one comes first.
        let genuine = token(3, START);
        let forged = common::forged(3);
        assert_eq!(world.get_from(attacker, &forged).await.status, 400);
        assert_eq!(world.get(3, &genuine).await.status, 200);
        let asked = world.auth.calls_of(&forged);
        assert_eq!(
            asked,
            usize::from(!with_keys),
            "the keys refuse without a call"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotated_token_finds_the_entry_when_the_keys_vouch_for_it() {
    for (with_keys, calls) in [(true, 1), (false, 2)] {
        let world = World::with(|mut config, _| {
            config.keys = with_keys.then(keys);
            config
        })
        .await;
        let first = world.get(1, &token(1, START)).await;
        advance(HOUR).await;
        let second = world.get(1, &token(1, START + 3600)).await;
        assert_eq!(second.status, 200);
        assert_eq!(first.key() == second.key(), with_keys);
        assert_eq!(world.auth.count(), calls);
        assert_eq!(world.agent.uses().len(), 1, "one entry a pod");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_for_another_audience_is_no_ticket() {
    let world = World::with(|mut config, _| {
        config.keys = Some(keys());
        config
    })
    .await;
    let own = token(1, START);
    let mut other = claims(1, START);
    other["aud"] = "vault".into();
    let other = sign(&other);
    // While the call of the right token is under way, and when the credentials are there.
    let (own, during) = join(world.get(1, &own), world.get(2, &other)).await;
    assert_eq!((own.status, during.status), (200, 400));
    sleep(Duration::from_secs(10)).await;
    let after = world.get(2, &other).await;
    assert_eq!((after.status, after.code()), (400, "InvalidTokenException"));
}

#[tokio::test(start_paused = true)]
async fn refusals_and_failures_are_remembered_for_their_time() {
    let cases = [
        (
            Answer::Refuse(FinalCode::AccessDenied),
            400,
            "AccessDeniedException",
            5,
            1,
        ),
        (
            Answer::Refuse(FinalCode::ExpiredToken),
            400,
            "ExpiredTokenException",
            5,
            1,
        ),
        (
            Answer::Refuse(FinalCode::InvalidToken),
            400,
            "InvalidTokenException",
            5,
            1,
        ),
        (
            Answer::Refuse(FinalCode::ResourceNotFound),
            404,
            "ResourceNotFoundException",
            2,
            1,
        ),
        (Answer::Down, 503, "ServiceUnavailable", 1, 3),
        (Answer::Throttle, 429, "ThrottlingException", 1, 3),
        (Answer::NodeRefused, 500, "InternalServerException", 1, 1),
        (
            Answer::Credentials { seconds: 15 },
            500,
            "InternalServerException",
            1,
            1,
        ),
        (Answer::OtherAccount, 503, "ServiceUnavailable", 1, 3),
    ];
    for (answer, status, code, seconds, calls) in cases {
        let world = World::new().await;
        world.auth.set(answer);
        let token = token(1, START);
        let got = world.get(1, &token).await;
        assert_eq!((got.status, got.code()), (status, code), "{answer:?}");
        assert_eq!(world.auth.count(), calls, "{answer:?}");
        let retry = (status == 503 || status == 429).then_some("1");
        let header = got.headers.get("retry-after").map(|v| v.to_str().unwrap());
        assert_eq!(header, retry);
        assert_eq!(got.body["Message"], got.body["message"]);
        assert_eq!(
            got.body["requestId"],
            got.headers["x-amzn-requestid"].to_str().unwrap()
        );
        world.auth.set(Answer::Credentials { seconds: 3600 });
        advance(Duration::from_millis(seconds * 1000 - 100)).await;
        assert_eq!(world.get(1, &token).await.status, status, "remembered");
        advance(Duration::from_millis(200)).await;
        assert_eq!(world.get(1, &token).await.status, 200, "forgotten");
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_token_that_is_refused_does_not_cost_the_new_one_its_answer() {
    let world = World::with(|mut config, _| {
        config.keys = Some(keys());
        config
    })
    .await;
    let mut old = claims(1, START);
    old["jti"] = "withdrawn".into();
    let (old, new) = (sign(&old), token(1, START));
    // Joined while the call of the old one is under way, and asked for while its refusal is remembered.
    let (refused, answered) = join(world.get(1, &old), world.get(1, &new)).await;
    assert_eq!((refused.status, answered.status), (400, 200));
    world.agent.association_changed("orchard", "picker-1");
    assert_eq!(world.get(1, &old).await.status, 400);
    assert_eq!(world.get(1, &new).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn everything_for_one_request_is_done_within_its_budget() {
    let world = World::new().await;
    *world.auth.delay.lock().unwrap() = Duration::from_secs(60);
    let started = Instant::now();
    let got = world.get(1, &token(1, START)).await;
    assert_eq!(got.status, 503);
    let took = started.elapsed();
    assert!(took <= Duration::from_millis(4501), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn credentials_outlive_an_outage_until_their_last_fifteen_seconds() {
    let world = World::new().await;
    world.auth.set(Answer::Credentials { seconds: 2400 });
    let token = token(1, START);
    assert_eq!(world.get(1, &token).await.status, 200);
    world.auth.set(Answer::Down);
    // Renewals fail from about half of the life on; the pod notices nothing.
    for minute in 0..39 {
        let got = world.get(1, &token).await;
        assert_eq!(got.status, 200, "minute {minute}");
        sleep(Duration::from_secs(60)).await;
    }
    let tried = world.auth.count();
    assert!((3..40).contains(&tried), "{tried} calls in the outage");
    sleep(Duration::from_secs(50)).await;
    let got = world.get(1, &token).await;
    assert_eq!((got.status, got.code()), (503, "ServiceUnavailable"));
    world.auth.set(Answer::Credentials { seconds: 2400 });
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.get(1, &token).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_thirty_minutes_is_seen_by_no_pod_that_has_credentials() {
    let world = World::new().await;
    let tokens: Vec<_> = (0..50).map(|n| token(n, START)).collect();
    join_all(tokens.iter().enumerate().map(|(n, t)| world.get(n, t))).await;
    // In the middle of the time in which renewals are due.
    sleep(Duration::from_secs(6000)).await;
    world.auth.set(Answer::Down);
    for _ in 0..30 {
        for (number, token) in tokens.iter().enumerate() {
            assert_eq!(world.get(number, token).await.status, 200);
        }
        sleep(Duration::from_secs(60)).await;
    }
    let during = world.auth.count();
    world.auth.set(Answer::Credentials { seconds: 21_600 });
    sleep(Duration::from_secs(4200)).await;
    assert!(world.auth.count() > during);
    let ends = world.agent.uses().into_iter().map(|used| used.expires_at);
    let first = ends.min().unwrap();
    assert!(first.as_second() > START + 6000 + 1800, "all were renewed");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_refused_for_good_drops_the_entry() {
    let world = World::new().await;
    let token = token(1, START);
    world.get(1, &token).await;
    world.auth.set(Answer::Refuse(FinalCode::ResourceNotFound));
    // At the latest after 0.8 of three hours.
    sleep(Duration::from_secs(8700)).await;
    assert_eq!(world.agent.uses(), []);
    assert_eq!(world.get(1, &token).await.status, 404);
    assert_eq!(
        world.events.of("dropped")[0]["reason"],
        "upstream_not_found"
    );
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_runs_out() {
    let world = World::new().await;
    let token = token(1, START);
    world.get(1, &token).await;
    sleep(3 * HOUR).await;
    assert_eq!(world.auth.count(), 2, "read since the fetch");
    sleep(4 * HOUR).await;
    assert_eq!(world.auth.count(), 2, "not read since the renewal");
    assert_eq!(world.agent.uses().len(), 1);
    // A read wakes it.
    assert_eq!(world.get(1, &token).await.status, 200);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.auth.count(), 3);
    sleep(10 * HOUR).await;
    assert_eq!(world.agent.uses(), []);
}

#[tokio::test(start_paused = true)]
async fn entries_end_with_their_tokens() {
    let world = World::new().await;
    let mut short = claims(1, START);
    short["exp"] = (START + 600).into();
    let token = sign(&short);
    assert_eq!(world.get(1, &token).await.status, 200);
    sleep(Duration::from_secs(601)).await;
    let got = world.get(1, &token).await;
    assert_eq!((got.status, got.code()), (400, "ExpiredTokenException"));
    assert_eq!(world.auth.count(), 1);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(world.agent.uses(), []);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_loses_its_credentials_at_once() {
    let world = World::with(|mut config, pods| {
        config.pods = Some(pods);
        config
    })
    .await;
    world.show_pods([1, 2]);
    let (one, two) = (token(1, START), token(2, START));
    join(world.get(1, &one), world.get(2, &two)).await;
    assert_eq!(world.agent.uses().len(), 2);
    world.show_pods([2]);
    // The auth service knows as well; until it does, nothing of it is kept here.
    world.auth.set(Answer::Refuse(FinalCode::InvalidToken));
    let got = world.get(1, &one).await;
    assert_eq!((got.status, got.code()), (400, "InvalidTokenException"));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(world.agent.uses().len(), 1);
    assert_eq!(world.get(2, &two).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_entry_read_least_recently_leaves_first() {
    let world = World::with(|mut config, _| {
        config.cache.capacity = 3;
        config
    })
    .await;
    let tokens: Vec<_> = (0..4).map(|n| token(n, START)).collect();
    for number in [0, 1, 2, 0, 3] {
        world.get(number, &tokens[number]).await;
    }
    let mut kept: Vec<_> = world
        .agent
        .uses()
        .into_iter()
        .map(|used| used.identity.pod.to_string())
        .collect();
    kept.sort();
    assert_eq!(kept, ["picker-0-0", "picker-2-0", "picker-3-0"]);
}

#[tokio::test(start_paused = true)]
async fn retention_zero_keeps_nothing() {
    let world = World::with(|config, _| config.max_retention(Duration::ZERO)).await;
    let token = token(1, START);
    for calls in 1..4 {
        assert_eq!(world.get(1, &token).await.status, 200);
        assert_eq!(world.auth.count(), calls);
    }
    assert_eq!(world.agent.uses(), []);
}

#[tokio::test(start_paused = true)]
async fn a_day_of_renewals_is_spread_and_none_is_for_deleted_pods() {
    const PODS: usize = 250;
    let world = World::with(|mut config, pods| {
        config.pods = Some(pods);
        config.keys = Some(keys());
        config
    })
    .await;
    world.show_pods(0..PODS + 10);
    let long = |number| {
        let mut claims = claims(number, START);
        claims["exp"] = (START + 7 * 86_400).into();
        sign(&claims)
    };
    let tokens: Vec<_> = (0..PODS + 10).map(long).collect();
    let all = join_all(tokens.iter().enumerate().map(|(n, t)| world.get(n, t))).await;
    assert!(all.iter().all(|got| got.status == 200));
    world.show_pods(0..PODS);
    // The day begins when the first renewal is possible, half of three hours after the start.
    sleep(HOUR + HOUR / 2).await;
    let started = Instant::now();
    // Every pod reads its credentials every hour.
    for _ in 0..24 {
        for (number, token) in tokens.iter().enumerate().take(PODS) {
            assert_eq!(world.get(number, token).await.status, 200);
        }
        sleep(HOUR).await;
    }
    let calls = world.auth.calls.lock().unwrap().clone();
    let renewals: Vec<_> = calls.iter().filter(|(at, _)| *at > started).collect();
    for token in &tokens[PODS..] {
        assert_eq!(world.auth.calls_of(token), 1, "a deleted pod was renewed");
    }
    let minutes = histogram(
        renewals
            .iter()
            .map(|(at, _)| at.duration_since(started).as_secs() / 60),
    );
    let mean = renewals.len() as f64 / (24.0 * 60.0);
    let most = *minutes.values().max().unwrap();
    assert!(mean > 1.5, "{mean} renewals a minute");
    assert!(
        most as f64 <= 3.0 * mean,
        "{most} in a minute, {mean} on average"
    );
}

/// Associations that were all changed at one moment, or are gone; and the one that is in force in the place of a pattern.
#[derive(Default)]
struct Changed(Mutex<Option<Timestamp>>, Mutex<Option<&'static str>>);

impl Associations for Changed {
    fn states<'a>(
        &'a self,
        ids: &'a [Box<str>],
    ) -> BoxFuture<'a, Result<HashMap<Box<str>, AssociationState>, AssociationsUnreadable>> {
        let at = *self.0.lock().unwrap();
        let state = |modified| AssociationState {
            modified,
            session_tags: true,
            has_patterns: self.1.lock().unwrap().is_some(),
        };
        let all = ids
            .iter()
            .filter_map(|id| Some((id.clone(), state(at?))))
            .collect();
        Box::pin(std::future::ready(Ok(all)))
    }

    fn in_force<'a>(
        &'a self,
        accounts: &'a [AccountName],
    ) -> BoxFuture<'a, Result<HashMap<AccountName, Box<str>>, AssociationsUnreadable>> {
        let id = self.1.lock().unwrap().expect("asked for patterns alone");
        let all = accounts
            .iter()
            .map(|account| (account.clone(), id.into()))
            .collect();
        Box::pin(std::future::ready(Ok(all)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_association_counts_within_seconds() {
    let long_ago = Timestamp::from_second(START - 86_400).unwrap();
    let changed = Arc::new(Changed(Mutex::new(Some(long_ago)), Mutex::default()));
    let world = World::with(|mut config, _| {
        config.associations = Some(Arc::clone(&changed) as Arc<dyn Associations>);
        config
    })
    .await;
    let token = token(1, START);
    let first = world.get(1, &token).await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.get(1, &token).await.key(), first.key());
    *changed.0.lock().unwrap() = Some(long_ago + SignedDuration::from_hours(25));
    sleep(Duration::from_secs(35)).await;
    let second = world.get(1, &token).await;
    assert_ne!(second.key(), first.key());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.get(1, &token).await.key(), second.key(), "once");
    *changed.0.lock().unwrap() = None;
    world.auth.set(Answer::Refuse(FinalCode::ResourceNotFound));
    sleep(Duration::from_secs(35)).await;
    assert_eq!(world.get(1, &token).await.status, 404);
    world.auth.set(Answer::Credentials { seconds: 3600 });
    sleep(Duration::from_secs(3)).await;
    let third = world.get(1, &token).await;
    world.agent.association_changed("orchard", "picker-1");
    assert_ne!(world.get(1, &token).await.key(), third.key());
}

#[tokio::test(start_paused = true)]
async fn a_closer_association_counts_in_the_place_of_a_pattern() {
    let long_ago = Timestamp::from_second(START - 86_400).unwrap();
    let by_pattern = Changed(Mutex::new(Some(long_ago)), Mutex::new(Some("a-picker-1")));
    let changed = Arc::new(by_pattern);
    let world = World::with(|mut config, _| {
        config.associations = Some(Arc::clone(&changed) as Arc<dyn Associations>);
        config
    })
    .await;
    let token = token(1, START);
    let first = world.get(1, &token).await;
    sleep(Duration::from_secs(65)).await;
    assert_eq!(world.get(1, &token).await.key(), first.key());
    *changed.1.lock().unwrap() = Some("a-closer");
    sleep(Duration::from_secs(35)).await;
    assert_ne!(world.get(1, &token).await.key(), first.key());
}

#[tokio::test(start_paused = true)]
async fn one_pod_cannot_take_what_the_others_need() {
    let world = World::new().await;
    let (own, other) = (token(1, START), token(2, START));
    world.get(1, &own).await;
    world.get(2, &other).await;
    // A pod that asks all the time: its burst, and no more; nobody else notices.
    let answers = join_all((0..200).map(|_| world.get(1, &own))).await;
    let statuses = histogram(answers.iter().map(|got| got.status));
    assert_eq!((statuses[&200], statuses[&429]), (40, 160));
    let refused = answers.iter().find(|got| got.status == 429).unwrap();
    assert_eq!(refused.headers["retry-after"], "1");
    let text = Refusal::TooMany(Limit::Pod).to_string();
    assert_eq!(refused.body["message"], text);
    assert_eq!(world.get(2, &other).await.status, 200);
    // A pod that makes up tokens.
    let attacker = World::address(3);
    let before = world.auth.count();
    for round in 0..120 {
        let mut made_up = claims(4, START);
        made_up["jti"] = round.to_string().into();
        world.get_from(attacker, &common::forge(&made_up)).await;
        advance(Duration::from_millis(50)).await;
    }
    let calls = world.auth.count() - before;
    assert!(
        (40..=60).contains(&calls),
        "{calls} calls for one address in some ten seconds"
    );
    assert_eq!(world.get(5, &token(5, START)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_and_fifty_pods_at_once_cost_as_many_calls_and_less_than_three_seconds() {
    let world = World::new().await;
    let tokens: Vec<_> = (0..250).map(|n| token(n, START)).collect();
    let started = Instant::now();
    // Each pod asks three times, as a process with three clients does.
    let asked = (0..3).flat_map(|_| tokens.iter().enumerate());
    let all = join_all(asked.map(|(n, t)| world.get(n, t))).await;
    let limited = all.iter().filter(|got| got.status == 429).count();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    // 750 in one instant are more than the total of 500; whoever came first got an answer.
    assert_eq!(limited, 250);
    assert!(all.iter().all(|got| matches!(got.status, 200 | 429)));
    assert_eq!(world.auth.count(), 250);
    let source: IpAddr = World::address(0);
    assert_eq!(world.get_from(source, &tokens[0]).await.status, 200);
    assert_eq!(world.auth.count(), 250);
}

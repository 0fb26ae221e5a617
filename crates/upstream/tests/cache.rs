//! What is remembered, for how long, and what is not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use common::{
    CLUSTER, FakeSts, TestClock, identity, parse, refusal, signed_at, token, token_for, verifier,
};
use countersign_upstream::http::ExchangeFailure;
use countersign_upstream::sts::{
    AnsweredFrom, Flush, StsError, StsOptions, StsVerifier, StsVerifierError,
};
use tokio::time::advance;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn an_identity_is_asked_for_once_within_its_lifetime_and_again_after_it() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    let token = token("AKIA1", 1);
    let first = verifier.verify(&token, CLUSTER).await.unwrap();
    assert_eq!(first.from, AnsweredFrom::Sts);
    assert_eq!(first.identity.session_name(), "ana");
    assert_eq!(first.identity.access_key_id(), "AKIA1");
    assert_eq!(first.identity.sts_endpoint(), common::HOST);
    advance(seconds(59)).await;
    let second = verifier.verify(&token, CLUSTER).await.unwrap();
    assert_eq!((second.from, sts.count()), (AnsweredFrom::Cache, 1));
    advance(seconds(1)).await;
    let third = verifier.verify(&token, CLUSTER).await.unwrap();
    assert_eq!((third.from, sts.count()), (AnsweredFrom::Sts, 2));
    let numbers = verifier.snapshot();
    assert_eq!(
        (numbers.identity_hits, numbers.misses, numbers.calls),
        (1, 2, 2)
    );
    assert_eq!(numbers.responses[&(200, "eu-west-1".to_owned())], 2);
}

#[tokio::test(start_paused = true)]
async fn an_identity_is_never_kept_beyond_the_end_of_its_token() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let options = StsOptions {
        identity_ttl: seconds(300),
        stale_on_outage: seconds(300),
        ..StsOptions::default()
    };
    let verifier = verifier(options, &sts, &clock);
    let token = token("AKIA1", 1);
    clock.jump(899 - 21);
    verifier.verify(&token, CLUSTER).await.unwrap();
    advance(seconds(19)).await;
    assert_eq!(
        verifier.verify(&token, CLUSTER).await.unwrap().from,
        AnsweredFrom::Cache
    );
    advance(seconds(3)).await;
    sts.now_answers(|_, _| Err(ExchangeFailure::Connect));
    assert_eq!(
        verifier.verify(&token, CLUSTER).await,
        Err(StsError::ExpiredWhileQueued),
        "neither fresh nor stale after 15 minutes"
    );
    assert_eq!(sts.count(), 1, "and STS is not bothered");
}

#[tokio::test(start_paused = true)]
async fn setting_the_wall_clock_forward_ends_a_cached_token() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    let token = token("AKIA1", 1);
    verifier.verify(&token, CLUSTER).await.unwrap();
    clock.jump(900);
    assert_eq!(
        verifier.verify(&token, CLUSTER).await,
        Err(StsError::ExpiredWhileQueued)
    );
}

#[tokio::test(start_paused = true)]
async fn lifetime_zero_turns_the_cache_off() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let options = StsOptions {
        identity_ttl: Duration::ZERO,
        ..StsOptions::default()
    };
    let verifier = verifier(options, &sts, &clock);
    for calls in 1..4 {
        verifier.verify(&token("AKIA1", 1), CLUSTER).await.unwrap();
        assert_eq!(sts.count(), calls);
    }
    assert_eq!(verifier.snapshot().identities, 0);
}

#[tokio::test(start_paused = true)]
async fn an_identity_counts_for_its_cluster_only() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    let token = token("AKIA1", 1);
    verifier.verify(&token, "one").await.unwrap();
    sts.now_answers(|_, _| Ok(refusal(403, "SignatureDoesNotMatch")));
    assert!(verifier.verify(&token, "two").await.is_err());
    assert!(verifier.verify(&token, "one").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn only_definite_refusals_are_remembered_and_for_ten_seconds_only() {
    for (status, code, remembered) in [
        (403, "SignatureDoesNotMatch", true),
        (403, "InvalidClientTokenId", true),
        (403, "ExpiredToken", true),
        (403, "AccessDenied", false),
        (400, "IncompleteSignature", false),
        (400, "Throttling", false),
        (500, "InternalFailure", false),
        (503, "ServiceUnavailable", false),
        (302, "Found", false),
    ] {
        let (sts, clock) = (FakeSts::new(), TestClock::new());
        sts.now_answers(move |_, _| Ok(refusal(status, code)));
        let verifier = verifier(StsOptions::default(), &sts, &clock);
        let token = token("AKIA1", 1);
        verifier.verify(&token, CLUSTER).await.unwrap_err();
        verifier.verify(&token, CLUSTER).await.unwrap_err();
        assert_eq!(sts.count(), if remembered { 1 } else { 2 }, "{code}");
        if remembered {
            advance(seconds(10)).await;
            verifier.verify(&token, CLUSTER).await.unwrap_err();
            assert_eq!(sts.count(), 2, "{code} after ten seconds");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unreadable_answers_and_failed_connections_are_not_remembered() {
    for failure in [
        ExchangeFailure::Connect,
        ExchangeFailure::Timeout,
        ExchangeFailure::Reset,
        ExchangeFailure::Broken,
        ExchangeFailure::TooLarge { limit: 65536 },
    ] {
        let (sts, clock) = (FakeSts::new(), TestClock::new());
        sts.now_answers(move |_, _| Err(failure));
        let verifier = verifier(StsOptions::default(), &sts, &clock);
        let error = verifier
            .verify(&token("AKIA1", 1), CLUSTER)
            .await
            .unwrap_err();
        let large = matches!(failure, ExchangeFailure::TooLarge { .. });
        assert_eq!(
            error.reason(),
            if large {
                "sts_bad_response"
            } else {
                "sts_unreachable"
            }
        );
        sts.now_answers(|_, _| Ok(identity("ana")));
        assert!(verifier.verify(&token("AKIA1", 1), CLUSTER).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_name_nobody_of_the_partition_are_bad_responses() {
    for body in [
        "",
        "not json",
        "{}",
        r#"{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"444455556666","Arn":"arn:aws:s3:::bucket","UserId":"x"}}}"#,
        r#"{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"444455556667","Arn":"arn:aws:iam::444455556666:user/ana","UserId":"AIDAX"}}}"#,
        r#"{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"444455556666","Arn":"arn:aws-cn:iam::444455556666:user/ana","UserId":"AIDAX"}}}"#,
    ] {
        let (sts, clock) = (FakeSts::new(), TestClock::new());
        sts.now_answers(move |_, _| {
            Ok(countersign_upstream::sts::StsAnswer {
                status: 200,
                body: body.into(),
            })
        });
        let verifier = verifier(StsOptions::default(), &sts, &clock);
        let error = verifier
            .verify(&token("AKIA1", 1), CLUSTER)
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "sts_bad_response", "{body}");
        assert!(!error.is_outage());
    }
}

#[tokio::test(start_paused = true)]
async fn an_access_key_has_at_most_64_identities_and_all_together_at_most_the_capacity() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let options = StsOptions {
        identities: 1000,
        identity_ttl: seconds(300),
        ..StsOptions::default()
    };
    let verifier = verifier(options, &sts, &clock);
    for n in 0..100 {
        verifier.verify(&token("AKIA1", n), CLUSTER).await.unwrap();
    }
    assert_eq!(verifier.snapshot().identities, 64);
    assert_eq!(verifier.snapshot().evictions, 36);
    for n in 0..1200 {
        verifier
            .verify(&token(&format!("AKIB{n}"), 1), CLUSTER)
            .await
            .unwrap();
    }
    assert_eq!(verifier.snapshot().identities, 1000);
    assert_eq!(
        verifier
            .verify(&token("AKIB1199", 1), CLUSTER)
            .await
            .unwrap()
            .from,
        AnsweredFrom::Cache
    );
}

#[tokio::test(start_paused = true)]
async fn random_tokens_leave_nothing_behind_but_bounded_tables() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    sts.now_answers(|_, _| Ok(refusal(403, "InvalidClientTokenId")));
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    for n in 0..9000 {
        let host = format!("sts.xx-{}-1.amazonaws.com", ["a", "b", "c"][n % 3]);
        let token = token_for(&host, &format!("AKIA{n}"), n, signed_at());
        verifier.verify(&token, CLUSTER).await.unwrap_err();
    }
    let numbers = verifier.snapshot();
    assert_eq!((numbers.identities, numbers.rejections), (0, 8192));
    assert_eq!(
        (numbers.waiters, numbers.in_flight, numbers.queued),
        (0, 0, 0)
    );
    assert_eq!(
        numbers.responses.keys().collect::<Vec<_>>(),
        [&(403, "other".to_owned())],
        "unknown regions share one label"
    );
}

#[tokio::test(start_paused = true)]
async fn flushing_drops_what_it_names_and_no_more() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    sts.now_answers(|_, number| Ok(identity(&format!("session-{number}"))));
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    let fill = async || {
        for key in ["AKIA1", "AKIA2", "AKIA3"] {
            for number in 0..2 {
                verifier.verify(&token(key, number), CLUSTER).await.unwrap();
            }
        }
    };
    fill().await;
    assert_eq!(verifier.flush(Flush::AccessKey("AKIA2")), 2);
    assert_eq!(verifier.flush(Flush::AccessKey("AKIA9")), 0);
    assert_eq!(verifier.snapshot().identities, 4);
    assert_eq!(
        verifier.flush(Flush::Principal(
            "arn:aws:sts::444455556666:assumed-role/Ops/session-1"
        )),
        1
    );
    assert_eq!(
        verifier.flush(Flush::Principal("arn:aws:iam::444455556666:role/ops")),
        3,
        "a role means all its sessions, whatever the case"
    );
    fill().await;
    assert_eq!(verifier.flush(Flush::All), 6);
    assert_eq!(verifier.snapshot().identities, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_under_way_at_a_flush_is_neither_joined_nor_remembered() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    sts.hold();
    let before = tokio::spawn({
        let verifier = verifier.clone();
        async move { verifier.verify(&token("AKIA1", 1), CLUSTER).await }
    });
    common::settle().await;
    verifier.flush(Flush::All);
    sts.now_answers(|_, number| {
        Ok(if number == 1 {
            identity("before")
        } else {
            refusal(403, "InvalidClientTokenId")
        })
    });
    let after = tokio::spawn({
        let verifier = verifier.clone();
        async move { verifier.verify(&token("AKIA1", 1), CLUSTER).await }
    });
    common::settle().await;
    assert_eq!(sts.count(), 2);
    sts.release(2);
    assert!(
        before.await.unwrap().is_ok(),
        "it was asked before the flush"
    );
    assert!(after.await.unwrap().is_err());
    assert_eq!(verifier.snapshot().identities, 0);
}

#[tokio::test(start_paused = true)]
async fn no_stale_identity_is_accepted_unless_the_option_is_set() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    verifier.verify(&token("AKIA1", 1), CLUSTER).await.unwrap();
    advance(seconds(60)).await;
    sts.now_answers(|_, _| Err(ExchangeFailure::Timeout));
    let error = verifier
        .verify(&token("AKIA1", 1), CLUSTER)
        .await
        .unwrap_err();
    assert!(error.is_outage());
    sts.now_answers(|_, _| Ok(identity("ana")));
    let recovered = verifier.verify(&token("AKIA1", 1), CLUSTER).await.unwrap();
    assert_eq!(recovered.from, AnsweredFrom::Sts, "without a restart");
}

#[tokio::test(start_paused = true)]
async fn a_stale_identity_bridges_an_outage_and_nothing_else() {
    let options = StsOptions {
        stale_on_outage: seconds(120),
        ..StsOptions::default()
    };
    let outage: fn() -> _ = || Err(ExchangeFailure::Connect);
    let failing: fn() -> _ = || Ok(refusal(500, "InternalFailure"));
    let throttling: fn() -> _ = || Ok(refusal(400, "Throttling"));
    let rejecting: fn() -> _ = || Ok(refusal(403, "InvalidClientTokenId"));
    let garbled: fn() -> _ = || Ok(refusal(200, "what"));
    for (name, answer, bridged) in [
        ("outage", outage, true),
        ("failing", failing, true),
        ("throttling", throttling, false),
        ("rejecting", rejecting, false),
        ("garbled", garbled, false),
    ] {
        let (sts, clock) = (FakeSts::new(), TestClock::new());
        let verifier = verifier(options, &sts, &clock);
        let token = token("AKIA1", 1);
        verifier.verify(&token, CLUSTER).await.unwrap();
        advance(seconds(61)).await;
        sts.now_answers(move |_, _| answer());
        let verified = verifier.verify(&token, CLUSTER).await;
        assert_eq!(
            verified.is_ok_and(|v| v.from == AnsweredFrom::StaleCache),
            bridged,
            "{name}"
        );
        assert_eq!(verifier.snapshot().stale_uses, u64::from(bridged), "{name}");
        if name == "rejecting" {
            advance(seconds(11)).await;
            sts.now_answers(move |_, _| outage());
            assert!(
                verifier.verify(&token, CLUSTER).await.is_err(),
                "never after an explicit rejection"
            );
        }
        if name == "outage" {
            advance(seconds(119)).await;
            assert!(
                verifier.verify(&token, CLUSTER).await.is_err(),
                "never longer than the option says"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_for_a_trusted_endpoint_is_never_sent_anywhere() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    let url = token("AKIA1", 1)
        .url()
        .replace(common::HOST, "sts.cs.example");
    let token = parse(&url, signed_at());
    for _ in 0..2 {
        assert_eq!(
            verifier.verify(&token, CLUSTER).await,
            Err(StsError::NotForAws)
        );
    }
    assert_eq!(sts.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_id_that_is_no_header_value_is_refused_without_a_call() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    for cluster in ["a\nb", "a\u{7f}b", "a\0"] {
        assert_eq!(
            verifier.verify(&token("AKIA1", 1), cluster).await,
            Err(StsError::Unsendable)
        );
    }
    assert_eq!(sts.count(), 0);
}

#[tokio::test]
async fn options_beyond_their_bounds_are_refused_at_start() {
    let refused = |options: StsOptions| {
        StsVerifier::start(options, FakeSts::new() as _, TestClock::new() as _).unwrap_err()
    };
    let defaults = StsOptions::default;
    for (options, option) in [
        (
            StsOptions {
                identity_ttl: seconds(301),
                ..defaults()
            },
            "identityCacheTTL",
        ),
        (
            StsOptions {
                rejection_ttl: seconds(11),
                ..defaults()
            },
            "rejectionCacheTTL",
        ),
        (
            StsOptions {
                stale_on_outage: seconds(301),
                ..defaults()
            },
            "staleIdentityOnOutage",
        ),
    ] {
        assert!(
            matches!(refused(options), StsVerifierError::TooLong { option: o, .. } if o == option)
        );
    }
    let mut options = defaults();
    options.limits.per_second = 0.0;
    assert_eq!(refused(options), StsVerifierError::Zero("callsPerSecond"));
}

#[tokio::test(start_paused = true)]
async fn nothing_that_prints_shows_a_token() {
    let (sts, clock) = (FakeSts::new(), TestClock::new());
    sts.now_answers(|request, _| {
        let shown = format!("{request:?} {:?}", request.host());
        assert!(!shown.contains("X-Amz") && !shown.contains("AKIASECRET"));
        Err(ExchangeFailure::Connect)
    });
    let verifier = verifier(StsOptions::default(), &sts, &clock);
    let error = verifier
        .verify(&token("AKIASECRET", 1), CLUSTER)
        .await
        .unwrap_err();
    let shown = format!("{error} {error:?} {verifier:?}");
    assert!(
        !shown.contains("X-Amz") && !shown.contains("AKIASECRET"),
        "{shown}"
    );
}

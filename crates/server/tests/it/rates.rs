//! The limits of STS over whole requests.

use std::sync::Arc;

use countersign_server::StsLimits;
use countersign_server::aws::AwsApi;
use countersign_server::metrics::Metrics;

use crate::web_identity::{WEB, WebWorld};
use crate::world::*;

async fn limited(limits: StsLimits) -> (World, Arc<Metrics>) {
    let mut world = World::new().await;
    let metrics = Arc::new(Metrics::new());
    world.api = AwsApi::new(
        Arc::clone(&world.keys),
        world.directory.clone(),
        Arc::clone(&metrics),
        0,
        false,
    )
    .limited_to(limits);
    (world, metrics)
}

const THROTTLED: (u16, &str, &str) = (400, "Throttling", "Rate exceeded");

#[tokio::test]
async fn a_key_and_an_account_have_so_many_calls_a_second() {
    let (world, metrics) = limited(StsLimits {
        per_account: 5,
        per_key: 3,
        web_identity_per_address: 1,
        web_identity_per_role: 0,
    })
    .await;
    let forged = Keys {
        secret: "a".repeat(40),
        ..world.ana.clone()
    };
    for _ in 0..10 {
        let answer = world.whoami(&forged, now()).await;
        assert_eq!(error(&answer).1, "SignatureDoesNotMatch");
    }
    for _ in 0..3 {
        let (status, answer) = world.whoami(&world.ana, now()).await;
        assert_eq!(status, 200, "forged requests take nothing: {answer}");
    }
    for given in [
        &[("Action", "GetCallerIdentity")][..],
        &[("Action", "AssumeRole")],
        &[("Action", "NoSuchOperation")],
    ] {
        let answer = world.call(&world.ana, given, now()).await;
        assert_eq!(error(&answer), THROTTLED, "{given:?}");
    }
    let users = world.iam(&world.ana, &[("Action", "ListUsers")]).await;
    assert_eq!(users.0, 200, "IAM is not counted: {}", users.2);
    for expected in [200, 200, 400, 400] {
        let (status, answer) = world.whoami(&world.bob, now()).await;
        assert_eq!(status, expected, "{answer}");
    }
    for keys in [&world.ana, &world.bob] {
        let (status, answer) = world.whoami(keys, after(1)).await;
        assert_eq!(status, 200, "a second later: {answer}");
    }
    let text = metrics.render();
    for line in [
        r#"countersign_aws_throttled_total{limit="key"} 4"#,
        r#"countersign_aws_throttled_total{limit="account"} 1"#,
        r#"countersign_aws_requests_total{service="sts",operation="GetCallerIdentity",code="Throttling"} 3"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn an_address_has_so_many_unsigned_calls_a_second() {
    let (world, metrics) = limited(StsLimits {
        per_account: 1,
        per_key: 1,
        web_identity_per_address: 2,
        web_identity_per_role: 0,
    })
    .await;
    let given = [("Action", "AssumeRoleWithWebIdentity")];
    for at in [now(), after(1)] {
        for allowed in [true, true, false, false] {
            let answer = world.call(&world.ana, &given, at).await;
            if allowed {
                assert_eq!(error(&answer).1, "ValidationError");
            } else {
                assert_eq!(error(&answer), THROTTLED);
            }
        }
    }
    let line = r#"countersign_aws_throttled_total{limit="address"} 4"#;
    assert!(metrics.render().contains(line), "{}", metrics.render());
    let (status, answer) = world.whoami(&world.ana, now()).await;
    assert_eq!(
        status, 200,
        "unsigned calls take nothing from keys: {answer}"
    );
}

#[tokio::test]
async fn a_role_has_so_many_sessions_a_second_for_those_who_may_have_it() {
    let mut web = WebWorld::new().await;
    let metrics = Arc::new(Metrics::new());
    web.world.api = AwsApi::new(
        Arc::clone(&web.world.keys),
        web.world.directory.clone(),
        Arc::clone(&metrics),
        0,
        false,
    )
    .with_web_identity(Arc::clone(&web.web))
    .limited_to(StsLimits {
        web_identity_per_role: 2,
        ..StsLimits::OFF
    });
    let only =
        r#"{"StringEquals":{"issuer.example/id/1:sub":"system:serviceaccount:orchard:picker"}}"#;
    let role = web.role("orchard-reader", WEB, only).await;
    let other = web.role("orchard-writer", WEB, only).await;
    let own = web.token(serde_json::json!({}));
    let stranger = web.token(serde_json::json!({"sub": "system:serviceaccount:orchard:packer"}));
    for _ in 0..10 {
        let answer = web.assume(&role, &stranger, &[], now()).await;
        assert_eq!(error(&answer).1, "AccessDenied");
    }
    for at in [now(), after(1)] {
        for allowed in [true, true, false, false] {
            let answer = web.assume(&role, &own, &[], at).await;
            if allowed {
                assert_eq!(answer.0, 200, "{}", answer.1);
            } else {
                assert_eq!(error(&answer), THROTTLED);
            }
        }
        let answer = web.assume(&other, &own, &[], at).await;
        assert_eq!(answer.0, 200, "another role: {}", answer.1);
    }
    let text = metrics.render();
    for line in [
        r#"countersign_aws_throttled_total{limit="role"} 4"#,
        r#"countersign_sts_web_identity_total{result="throttled"} 4"#,
        r#"countersign_sts_web_identity_total{result="ok"} 6"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn without_limits_nothing_is_refused() {
    let (world, _) = limited(StsLimits::OFF).await;
    for _ in 0..1000 {
        assert_eq!(world.whoami(&world.bob, now()).await.0, 200);
    }
}

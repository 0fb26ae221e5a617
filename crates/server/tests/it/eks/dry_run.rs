//! Calls that are checked and answered, and not done (EKS API spec, section 18.2).

use countersign_store::records::AuthenticationMode::ApiAndConfigMap;
use serde_json::{Value, json};

use super::*;

const DRY: &[(&str, &str)] = &[("x-countersign-dry-run", "true")];

impl World {
    /// One call with more headers, which are signed.
    async fn eks_with(
        &self,
        keys: &Keys,
        (method, target): (&str, &str),
        body: &Value,
        more: &[(&str, &str)],
    ) -> Reply {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let bytes = body.as_bytes();
        let headers = signed_with(keys, "eks", (method, target), bytes, now(), more);
        self.unsigned(method, target, bytes, &headers).await
    }
}

/// An answer without what is made up anew for each.
fn comparable(mut answer: Value) -> Value {
    for pointer in ["/accessEntry/accessEntryArn", "/update/id"] {
        if let Some(found) = answer.pointer_mut(pointer) {
            assert!(found.take().is_string(), "{pointer}");
        }
    }
    answer
}

#[tokio::test]
async fn every_write_is_answered_as_if_it_were_done_and_leaves_nothing() {
    let world = World::new().await;
    world.cluster("c1", ApiAndConfigMap).await;
    let role = world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let one = entry("c1", &role);
    let policies = format!("{one}/access-policies");
    let policy = format!("{policies}/{}", escape(VIEW));
    let tags = format!(
        "/tags/{}",
        escape("arn:aws:eks:us-east-1:111122223333:cluster/c1")
    );
    let token = "00000000-1111-2222-3333-444444444444";
    let with_token = |mut body: Value| {
        body["clientRequestToken"] = json!(token);
        body
    };
    for (method, target, body) in [
        ("POST", "/clusters", with_token(create("c2", json!({})))),
        (
            "POST",
            "/clusters/c1/access-entries",
            with_token(json!({"principalArn": role, "kubernetesGroups": ["g"]})),
        ),
        ("POST", &*one, with_token(json!({"username": "dev"}))),
        (
            "POST",
            &*policies,
            json!({"policyArn": VIEW, "accessScope": {"type": "cluster"}}),
        ),
        ("DELETE", &*policy, Value::Null),
        ("POST", &*tags, json!({"tags": {"a": "b"}})),
        ("DELETE", &*format!("{tags}?tagKeys=a"), Value::Null),
        (
            "POST",
            "/clusters/c1/update-config",
            with_token(json!({"accessConfig": {"authenticationMode": "API"}})),
        ),
        (
            "POST",
            "/clusters/c1/updates",
            with_token(json!({"version": "1.35"})),
        ),
        ("DELETE", &*one, Value::Null),
        ("DELETE", "/clusters/c1", Value::Null),
    ] {
        let at = (method, target);
        let before = world.directory.feed().revision();
        world.eks_with(&world.bob, at, &body, DRY).await.denied();
        // The second time, nothing is left of the first.
        for _ in 0..2 {
            let reply = world.eks_with(&world.ana, at, &body, DRY).await;
            let dry = &reply.headers["x-countersign-dry-run"];
            assert_eq!(dry, "true", "{target}: {reply:?}");
            reply.ok();
        }
        assert_eq!(world.directory.feed().revision(), before, "{target}");
        let dry = world.eks_with(&world.ana, at, &body, DRY).await.ok();
        let done = world.eks(&world.ana, method, target, &body).await;
        assert!(done.headers.get("x-countersign-dry-run").is_none());
        assert_eq!(comparable(dry), comparable(done.ok()), "{target}");
        // A token that was kept would have kept it from being done.
        assert!(world.directory.feed().revision() > before, "{target}");
    }
}

#[tokio::test]
async fn what_would_fail_fails_and_warnings_are_told() {
    let world = World::new().await;
    world.cluster("c1", ApiAndConfigMap).await;
    let role = world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let ana = &world.ana;
    let entries = ("POST", "/clusters/c1/access-entries");
    let new = |arn: &str| json!({ "principalArn": arn });
    let none = new("arn:aws:iam::111122223333:role/none");
    world
        .eks_with(ana, entries, &none, DRY)
        .await
        .invalid("The specified principalArn is invalid: invalid principal.");
    world.eks(ana, "POST", entries.1, &new(&role)).await.ok();
    world
        .eks_with(ana, entries, &new(&role), DRY)
        .await
        .refused(
            409,
            "ResourceInUseException",
            "The specified access entry resource is already in use on this cluster.",
        );
    let back = json!({"accessConfig": {"authenticationMode": "CONFIG_MAP"}});
    world
        .eks_with(ana, ("POST", "/clusters/c1/update-config"), &back, DRY)
        .await
        .invalid("Unsupported authentication mode update");
    let path = format!("{}/access-policies", entry("c1", &role));
    let scoped = |scope: Value| json!({"policyArn": VIEW, "accessScope": scope});
    let whole = scoped(json!({"type": "cluster"}));
    world.eks(ana, "POST", &path, &whole).await.ok();
    let narrow = scoped(json!({"type": "namespace", "namespaces": ["a"]}));
    let reply = world.eks_with(ana, ("POST", &path), &narrow, DRY).await;
    assert_eq!(
        reply.warnings(),
        [format!(
            "the scope of {VIEW} is narrowed: from cluster to a"
        )]
    );
    reply.ok();
    let kept = world.eks(ana, "GET", &path, &Value::Null).await.ok();
    let kept = &kept["associatedAccessPolicies"][0]["accessScope"];
    assert_eq!(kept["type"], "cluster");
    // A read has nothing to leave undone.
    let list = ("GET", "/clusters");
    world.eks_with(ana, list, &Value::Null, DRY).await.ok();
}

#[tokio::test]
async fn what_cannot_be_followed_is_not_done() {
    let world = World::new().await;
    world.cluster("c1", ApiAndConfigMap).await;
    let delete = ("DELETE", "/clusters/c1");
    let dry = |value: &'static str| ("x-countersign-dry-run", value);
    let once = "x-countersign-dry-run must be true or false, once. Nothing was done.";
    for value in ["", "TRUE", "1", "yes", "true,true", "true\u{e9}"] {
        let reply = world
            .eks_with(&world.ana, delete, &Value::Null, &[dry(value)])
            .await;
        reply.invalid(once);
    }
    let mut headers = signed(&world.ana, "eks", delete, b"", now());
    let add = |headers: &mut Vec<(String, String)>, value: &str| {
        headers.push(("x-countersign-dry-run".to_owned(), value.to_owned()));
    };
    add(&mut headers, "true");
    let reply = world.unsigned("DELETE", delete.1, b"", &headers).await;
    reply.invalid("x-countersign-dry-run must be among the signed headers. Nothing was done.");
    add(&mut headers, "false");
    let reply = world.unsigned("DELETE", delete.1, b"", &headers).await;
    reply.invalid(once);
    // Taken away on the way, it leaves a signature that is none.
    let mut headers = signed_with(&world.ana, "eks", delete, b"", now(), DRY);
    headers.retain(|(name, _)| name != "x-countersign-dry-run");
    let reply = world.unsigned("DELETE", delete.1, b"", &headers).await;
    assert_eq!(reply.status, 403, "{reply:?}");
    let found = ("GET", delete.1);
    let shown = world.eks(&world.ana, found.0, found.1, &Value::Null).await;
    assert_eq!(shown.ok()["cluster"]["status"], "ACTIVE");
    let reply = world
        .eks_with(&world.ana, delete, &Value::Null, &[dry("false")])
        .await;
    reply.ok();
    let shown = world.eks(&world.ana, found.0, found.1, &Value::Null).await;
    shown.not_found("No cluster found for name: c1.");
}

//! Tags, whose errors have codes of their own (EKS API spec, section 13).

use countersign_store::records::AuthenticationMode::Api;
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn clusters_and_entries_have_tags() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let role = world
        .role_with("Dev", &trusts(ACCOUNT, ASSUME, ""), |role| {
            role.path = "/team/".into()
        })
        .await;
    let body = json!({"principalArn": role, "tags": {"a": "0"}});
    let made = world
        .eks(&world.ana, "POST", "/clusters/c1/access-entries", &body)
        .await
        .ok();
    let entry_arn = made["accessEntry"]["accessEntryArn"]
        .as_str()
        .unwrap()
        .to_owned();
    let cluster_arn = "arn:aws:eks:us-east-1:111122223333:cluster/c1";
    for (arn, before) in [(cluster_arn, json!({})), (&*entry_arn, json!({"a": "0"}))] {
        // Escaped as SDKs do it, and with slashes as they are.
        for path in [format!("/tags/{}", escape(arn)), format!("/tags/{arn}")] {
            let get = async || world.eks(&world.ana, "GET", &path, &Value::Null).await.ok();
            assert_eq!(get().await, json!({ "tags": before }));
            let tags = json!({"tags": {"a": "1", "A": "2", "ключ": "значение"}});
            assert_eq!(
                world.eks(&world.ana, "POST", &path, &tags).await.ok(),
                json!({})
            );
            assert_eq!(get().await, tags);
            let keys = format!("{path}?tagKeys=A&tagKeys={}&tagKeys=none", escape("ключ"));
            assert_eq!(
                world
                    .eks(&world.ana, "DELETE", &keys, &Value::Null)
                    .await
                    .ok(),
                json!({})
            );
            assert_eq!(get().await, json!({"tags": {"a": "1"}}));
            let keys = format!("{path}?tagKeys=a");
            world
                .eks(&world.ana, "DELETE", &keys, &Value::Null)
                .await
                .ok();
            if arn == &*entry_arn {
                world
                    .eks(&world.ana, "POST", &path, &json!({"tags": {"a": "0"}}))
                    .await
                    .ok();
            }
        }
    }
    let many: serde_json::Map<String, Value> =
        (0..50).map(|at| (format!("k{at}"), json!("v"))).collect();
    let path = format!("/tags/{}", escape(cluster_arn));
    world
        .eks(&world.ana, "POST", &path, &json!({ "tags": many }))
        .await
        .ok();
    let other = entry_arn.replace("111122223333:access", "444455556666:access");
    let stale = format!("{}00000000", &entry_arn[..entry_arn.len() - 8]);
    let bad = "BadRequestException";
    for (method, arn, query, body, status, code) in [
        (
            "POST",
            cluster_arn,
            "",
            json!({"tags": {"one-more": ""}}),
            400,
            bad,
        ),
        ("POST", cluster_arn, "", json!({"tags": {}}), 400, bad),
        ("POST", cluster_arn, "", json!({}), 400, bad),
        (
            "POST",
            cluster_arn,
            "",
            json!({"tags": {"aws:a": "b"}}),
            400,
            bad,
        ),
        (
            "POST",
            cluster_arn,
            "",
            json!({"tags": {"": "b"}}),
            400,
            bad,
        ),
        (
            "POST",
            cluster_arn,
            "",
            json!({"tags": {"a": "b".repeat(257)}}),
            400,
            bad,
        ),
        (
            "POST",
            cluster_arn,
            "",
            json!({"tags": {"a": 1}}),
            400,
            "SerializationException",
        ),
        ("DELETE", cluster_arn, "", Value::Null, 400, bad),
        (
            "DELETE",
            cluster_arn,
            "?tagKeys=aws%3Aa",
            Value::Null,
            400,
            bad,
        ),
        ("GET", "c1", "", Value::Null, 400, bad),
        (
            "GET",
            "arn:aws:iam::111122223333:role/team/Dev",
            "",
            Value::Null,
            400,
            bad,
        ),
        (
            "GET",
            "arn:aws:eks:us-east-1:111122223333:cluster/none",
            "",
            Value::Null,
            404,
            "NotFoundException",
        ),
        (
            "GET",
            "arn:aws:eks:us-east-1:111122223333:cluster/c1/x",
            "",
            Value::Null,
            404,
            "NotFoundException",
        ),
        (
            "GET",
            "arn:aws:eks:eu-west-1:111122223333:cluster/c1",
            "",
            Value::Null,
            404,
            "NotFoundException",
        ),
        (
            "GET",
            "arn:aws:eks:us-east-1:444455556666:cluster/c1",
            "",
            Value::Null,
            404,
            "NotFoundException",
        ),
        (
            "GET",
            "arn:aws-cn:eks:us-east-1:111122223333:cluster/c1",
            "",
            Value::Null,
            404,
            "NotFoundException",
        ),
        ("GET", &*other, "", Value::Null, 404, "NotFoundException"),
        ("GET", &*stale, "", Value::Null, 404, "NotFoundException"),
        (
            "GET",
            "arn:aws:eks:us-east-1:111122223333:nodegroup/c1/n/00000000-0000-0000-0000-000000000000",
            "",
            Value::Null,
            404,
            "NotFoundException",
        ),
    ] {
        let target = format!("/tags/{}{query}", escape(arn));
        let reply = world.eks(&world.ana, method, &target, &body).await;
        assert_eq!(
            (reply.status, &*reply.code),
            (status, code),
            "{method} {arn} {body}: {reply:?}"
        );
    }
}

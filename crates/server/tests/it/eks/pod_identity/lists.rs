//! Lists and tags.

use super::*;

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages() {
    let world = world().await;
    let all = [
        ("a", "a"),
        ("a", "b"),
        ("a-b", "a"),
        ("b", "a"),
        ("b", "a.b"),
        ("b", "a0"),
    ];
    for (namespace, account) in all.iter().rev() {
        world.associated(namespace, account, json!({})).await;
    }
    let names = |listed: &Value| -> Vec<(String, String)> {
        let name = |one: &Value, member: &str| one[member].as_str().unwrap().to_owned();
        let one = |one| (name(one, "namespace"), name(one, "serviceAccount"));
        listed["associations"]
            .as_array()
            .unwrap()
            .iter()
            .map(one)
            .collect()
    };
    let owned = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    };
    let get = async |query: &str| {
        world
            .eks(&world.ana, "GET", &format!("{TARGET}{query}"), &Value::Null)
            .await
    };
    for (query, expected) in [
        ("", &all[..]),
        ("?namespace=a", &all[..2]),
        (
            "?serviceAccount=a",
            &[("a", "a"), ("a-b", "a"), ("b", "a")][..],
        ),
        ("?namespace=b&serviceAccount=a0", &all[5..]),
        ("?namespace=none", &[][..]),
        ("?namespace=A%2F", &[][..]),
    ] {
        assert_eq!(names(&get(query).await.ok()), owned(expected), "{query}");
    }
    for filter in ["", "&serviceAccount=a"] {
        let whole = names(&get(&format!("?maxResults=100{filter}")).await.ok());
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = get(&format!("?maxResults=2{filter}{token}")).await.ok();
            let of_page = names(&page);
            assert!((1..=2).contains(&of_page.len()), "{page}");
            found.extend(of_page);
            let Some(next) = page["nextToken"].as_str() else {
                break;
            };
            token = format!("&nextToken={}", escape(next));
        }
        assert_eq!(found, whole, "{filter}");
    }
    let first = get("?maxResults=1").await.ok();
    let token = escape(first["nextToken"].as_str().unwrap());
    // A page begins behind the last entry, whether that is there or not.
    let id = first["associations"][0]["associationId"].as_str().unwrap();
    world
        .eks(&world.ana, "DELETE", &path(id), &Value::Null)
        .await
        .ok();
    assert_eq!(
        names(&get(&format!("?nextToken={token}")).await.ok()),
        owned(&all[1..])
    );
    world.cluster("c2", ConfigMap).await;
    let other = format!("/clusters/c2/pod-identity-associations?nextToken={token}");
    for reply in [
        get(&format!("?nextToken={token}&namespace=a")).await,
        get("?nextToken=x").await,
        world.eks(&world.ana, "GET", &other, &Value::Null).await,
    ] {
        reply.invalid("The nextToken parameter is not one of an earlier page of this list");
    }
    for outside in ["?maxResults=0", "?maxResults=101"] {
        get(outside).await.invalid("");
    }
}

#[tokio::test]
async fn associations_have_tags_with_codes_of_their_own() {
    let world = world().await;
    let id = world
        .associated("a", "b", json!({"tags": {"k": "v"}}))
        .await;
    let arn = format!("arn:aws:eks:us-east-1:111122223333:podidentityassociation/c1/{id}");
    let at = |arn: &str| format!("/tags/{}", escape(arn));
    let tags = json!({"tags": {"K": "w", "k": "x"}});
    world.eks(&world.ana, "POST", &at(&arn), &tags).await.ok();
    let target = format!("{}?tagKeys=K&tagKeys=none", at(&arn));
    world
        .eks(&world.ana, "DELETE", &target, &Value::Null)
        .await
        .ok();
    let shown = world
        .eks(&world.ana, "GET", &at(&arn), &Value::Null)
        .await
        .ok();
    assert_eq!(shown, json!({"tags": {"k": "x"}}));
    let found = world
        .eks(&world.ana, "GET", &path(&id), &Value::Null)
        .await
        .ok();
    assert_eq!(found["association"]["tags"], json!({"k": "x"}));
    assert_eq!(
        found["association"]["modifiedAt"],
        found["association"]["createdAt"]
    );
    for (arn, tags, status, code) in [
        (format!("{arn}x"), &tags, 404, "NotFoundException"),
        (arn.replace("/c1/", "/c2/"), &tags, 404, "NotFoundException"),
        (
            arn.replace("us-east-1", "us-east-2"),
            &tags,
            404,
            "NotFoundException",
        ),
        (
            arn.clone(),
            &json!({"tags": {"aws:k": "v"}}),
            400,
            "BadRequestException",
        ),
        (
            arn.clone(),
            &json!({"tags": {}}),
            400,
            "BadRequestException",
        ),
    ] {
        let reply = world.eks(&world.ana, "POST", &at(&arn), tags).await;
        reply.refused(status, code, "");
    }
    let many: serde_json::Map<String, Value> =
        (0..50).map(|n| (format!("t{n}"), json!(""))).collect();
    let reply = world
        .eks(&world.ana, "POST", &at(&arn), &json!({"tags": many}))
        .await;
    reply.refused(400, "BadRequestException", "A resource has at most 50 tags");
}

//! Updates, and what goes with something else.

use super::*;

#[tokio::test]
async fn updates_are_checked_as_what_comes_of_them() {
    let world = world().await;
    let id = world.associated("orchard", "picker", json!({})).await;
    let invalid = "InvalidParameterException";
    // Each case changes the outcome of the one before.
    for (change, expected) in [
        (json!({}), Err((400, invalid, "At least one of roleArn"))),
        (
            json!({"namespace": "meadow"}),
            Err((400, invalid, "At least one of roleArn")),
        ),
        (
            json!({"roleArn": "x"}),
            Err((400, invalid, "The roleArn parameter format is not valid")),
        ),
        (
            json!({"roleArn": ELSEWHERE}),
            Err((
                403,
                "AccessDeniedException",
                "Cross-account pass role is not allowed.",
            )),
        ),
        (
            json!({"roleArn": UNTRUSTING}),
            Err((400, invalid, UNTRUSTED)),
        ),
        (json!({"policy": POLICY}), Err((400, invalid, POLICY_NEEDS))),
        (
            json!({"policy": "x", "disableSessionTags": true}),
            Err((400, invalid, "The policy provided is invalid: ")),
        ),
        (
            json!({"policy": POLICY, "disableSessionTags": true}),
            Ok((PICKER, json!(true), Value::Null, json!(POLICY))),
        ),
        (
            json!({"disableSessionTags": false}),
            Err((400, invalid, POLICY_NEEDS)),
        ),
        (
            json!({"roleArn": OTHER, "targetRoleArn": ELSEWHERE}),
            Ok((OTHER, json!(true), json!(ELSEWHERE), json!(POLICY))),
        ),
        (
            json!({"targetRoleArn": "x"}),
            Err((
                400,
                invalid,
                "The targetRoleArn parameter format is not valid",
            )),
        ),
        (
            json!({"targetRoleArn": "", "policy": "", "disableSessionTags": false}),
            Ok((OTHER, json!(false), Value::Null, Value::Null)),
        ),
    ] {
        let reply = world.eks(&world.ana, "POST", &path(&id), &change).await;
        match expected {
            Err((status, code, message)) => reply.refused(status, code, message),
            Ok((role, disabled, target, policy)) => {
                let made = reply.ok();
                let shown = &made["association"];
                assert_eq!(shown["roleArn"], role, "{change}");
                assert_eq!(shown["disableSessionTags"], disabled, "{change}");
                assert_eq!(shown["targetRoleArn"], target, "{change}");
                assert_eq!(shown["policy"], policy, "{change}");
                let external = "us-east-1/111122223333/c1/orchard/picker";
                let external = if target.is_null() {
                    Value::Null
                } else {
                    json!(external)
                };
                assert_eq!(shown["externalId"], external, "{change}");
                assert_eq!(shown["namespace"], "orchard");
                let found = world.eks(&world.ana, "GET", &path(&id), &Value::Null).await;
                assert_eq!(found.ok(), made);
            }
        }
    }
    // The role may have been changed meanwhile: then it is refused whatever the update is about.
    world
        .directory
        .delete_role(world.account, "Other")
        .await
        .unwrap();
    let change = json!({"disableSessionTags": true});
    let reply = world.eks(&world.ana, "POST", &path(&id), &change).await;
    reply.invalid(UNTRUSTED);
    let reply = world
        .eks(&world.ana, "POST", &path("a-none"), &change)
        .await;
    reply.not_found("No pod identity association found for ID: a-none");
}

#[tokio::test]
async fn what_an_addon_owns_is_not_changed_here() {
    let world = world().await;
    let addon = "arn:aws:eks:us-east-1:111122223333:addon/c1/vpc-cni/0";
    let place = countersign_store::ClusterPlace {
        account: world.account,
        region: "us-east-1",
        name: "c1",
    };
    let new = NewPodIdentityAssociation {
        namespace: "kube-system".into(),
        service_account: "aws-node".into(),
        role_arn: PICKER.into(),
        target_role_arn: None,
        disable_session_tags: None,
        policy: None,
        owner_arn: Some(addon.into()),
        sessions: countersign_session::PodSessions::default(),
        tags: Vec::new(),
    };
    let made = world
        .directory
        .create_pod_identity_association(place, new, None, now())
        .await;
    let id = made.unwrap().done().unwrap().id;
    let listed = world
        .eks(&world.ana, "GET", TARGET, &Value::Null)
        .await
        .ok();
    assert_eq!(listed["associations"][0]["ownerArn"], addon);
    for (method, body) in [("POST", json!({"roleArn": OTHER})), ("DELETE", Value::Null)] {
        let reply = world.eks(&world.ana, method, &path(&id), &body).await;
        let text = format!("The pod identity association {id} belongs to the add-on {addon}.");
        reply.refused(400, "InvalidRequestException", &text);
    }
}

#[tokio::test]
async fn a_cluster_that_goes_takes_its_associations_with_it() {
    let world = world().await;
    let id = world.associated("a", "b", json!({})).await;
    world
        .eks(&world.ana, "DELETE", "/clusters/c1", &Value::Null)
        .await
        .ok();
    let no_cluster = "No cluster found for name: c1.";
    for (method, target, body) in [
        ("GET", path(&id), Value::Null),
        ("DELETE", path(&id), Value::Null),
        ("POST", path(&id), json!({"roleArn": PICKER})),
        ("GET", TARGET.to_owned(), Value::Null),
        ("POST", TARGET.to_owned(), body("a", "b", &json!({}))),
    ] {
        let reply = world.eks(&world.ana, method, &target, &body).await;
        reply.not_found(no_cluster);
    }
    world.cluster("c1", ConfigMap).await;
    let reply = world.eks(&world.ana, "GET", &path(&id), &Value::Null).await;
    reply.not_found("No pod identity association found for ID: ");
    // The authentication mode of the cluster does not matter.
    world.associated("a", "b", json!({})).await;
}

//! Who may.

use super::*;

/// What each call asks for, told apart by allowing exactly that.
#[tokio::test]
async fn permissions_are_those_of_the_action_and_of_passing_the_role() {
    let world = world().await;
    let id = world
        .associated("a", "b", json!({"tags": {"team": "blue"}}))
        .await;
    let cluster = "arn:aws:eks:us-east-1:111122223333:cluster/c1";
    let own = format!("arn:aws:eks:us-east-1:111122223333:podidentityassociation/c1/{id}");
    let none = "arn:aws:eks:us-east-1:111122223333:podidentityassociation/c1/a-none";
    let statement = |action: &str, resource: &str, condition: Value| json!({"Effect": "Allow", "Action": action, "Resource": resource, "Condition": condition});
    let pass = |resource: &str, to: &str| {
        let condition = json!({"StringEquals": {"iam:PassedToService": to}});
        statement("iam:PassRole", resource, condition)
    };
    let to_pods = || pass(PICKER, "pods.eks.amazonaws.com");
    let create = || statement("eks:CreatePodIdentityAssociation", cluster, json!({}));
    let change = || statement("eks:UpdatePodIdentityAssociation", &own, json!({}));
    let made = body("c", "d", &json!({}));
    let tagged = body("e", "f", &json!({"tags": {"team": "red"}}));
    let foreign = body("c", "d", &json!({"roleArn": ELSEWHERE}));
    let role = json!({"roleArn": PICKER});
    let flag = json!({"disableSessionTags": true});
    let new_tag =
        "arn:aws:eks:us-east-1:111122223333:podidentityassociation/c1/a-00000000000000000";
    let red = json!({"StringEquals": {"aws:RequestTag/team": "red"}});
    let blue = json!({"StringEquals": {"aws:ResourceTag/team": "blue"}});
    let nothing = Value::Null;
    for (what, statements, (method, target, body), allowed) in [
        (
            "no PassRole",
            vec![create()],
            ("POST", TARGET, &made),
            false,
        ),
        (
            "PassRole to another service",
            vec![create(), pass(PICKER, "ec2.amazonaws.com")],
            ("POST", TARGET, &made),
            false,
        ),
        (
            "PassRole of another role",
            vec![create(), pass(OTHER, "pods.eks.amazonaws.com")],
            ("POST", TARGET, &made),
            false,
        ),
        (
            "only PassRole",
            vec![to_pods()],
            ("POST", TARGET, &made),
            false,
        ),
        (
            "create",
            vec![create(), to_pods()],
            ("POST", TARGET, &made),
            true,
        ),
        (
            "no TagResource",
            vec![create(), to_pods()],
            ("POST", TARGET, &tagged),
            false,
        ),
        (
            "tagged",
            vec![
                create(),
                to_pods(),
                statement("eks:TagResource", new_tag, red.clone()),
            ],
            ("POST", TARGET, &tagged),
            true,
        ),
        (
            "update without PassRole",
            vec![change()],
            ("POST", &*path(&id), &role),
            false,
        ),
        (
            "update of something else without PassRole",
            vec![change()],
            ("POST", &*path(&id), &flag),
            false,
        ),
        (
            "update",
            vec![change(), to_pods()],
            ("POST", &*path(&id), &flag),
            true,
        ),
        (
            "update of another one",
            vec![change(), to_pods()],
            ("POST", &*path("a-none"), &flag),
            false,
        ),
        (
            "describe by tag",
            vec![statement("eks:DescribePodIdentityAssociation", "*", blue)],
            ("GET", &*path(&id), &nothing),
            true,
        ),
        (
            "describe by another tag",
            vec![statement(
                "eks:DescribePodIdentityAssociation",
                "*",
                json!({"StringEquals": {"aws:ResourceTag/team": "red"}}),
            )],
            ("GET", &*path(&id), &nothing),
            false,
        ),
        (
            "list",
            vec![statement(
                "eks:ListPodIdentityAssociations",
                cluster,
                json!({}),
            )],
            ("GET", TARGET, &nothing),
            true,
        ),
        (
            "delete another one",
            vec![statement(
                "eks:DeletePodIdentityAssociation",
                none,
                json!({}),
            )],
            ("DELETE", &*path(&id), &nothing),
            false,
        ),
        (
            "delete",
            vec![statement(
                "eks:DeletePodIdentityAssociation",
                &own,
                json!({}),
            )],
            ("DELETE", &*path(&id), &nothing),
            true,
        ),
    ] {
        let document = json!({"Version": "2012-10-17", "Statement": statements});
        world.allow_user("bob", &document.to_string()).await;
        let reply = world.eks(&world.bob, method, target, body).await;
        let status = if allowed { 200 } else { 403 };
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        if !allowed {
            reply.denied();
        }
    }
    // Nobody can pass a role of another account, whatever his policies say.
    let reply = world.eks(&world.ana, "POST", TARGET, &foreign).await;
    reply.refused(
        403,
        "AccessDeniedException",
        "Cross-account pass role is not allowed.",
    );
    let document = json!({"Version": "2012-10-17", "Statement": [
        statement("eks:DescribePodIdentityAssociation", none, json!({})),
    ]});
    world.allow_user("bob", &document.to_string()).await;
    let reply = world
        .eks(&world.bob, "GET", &path("a-none"), &Value::Null)
        .await;
    reply.not_found("No pod identity association found for ID: a-none");
}

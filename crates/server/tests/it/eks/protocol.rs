//! Requests, routes, errors and pages (EKS API spec, section 1).

use countersign_server::aws::EksOptions;
use countersign_store::records::AuthenticationMode::Api;
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn requests_are_routed_authenticated_and_read_in_this_order() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let ana = &world.ana;
    for (method, target) in [
        ("GET", "/cluster"),
        ("GET", "/clusters/"),
        ("PUT", "/clusters/c1"),
        ("PATCH", "/clusters"),
        ("HEAD", "/clusters"),
        ("GET", "/clusters/c1/nothing"),
        ("GET", "/clusters/c1/assume-role-for-pod-identity"),
        ("GET", "/clusters/c1/access-entries//access-policies"),
        ("GET", "/tags/"),
        ("GET", "/v1/clusters"),
    ] {
        let reply = world.unsigned(method, target, b"", &[]).await;
        reply.refused(404, "UnknownOperationException", "No operation has");
    }
    let long = format!("/clusters{}", "/a".repeat(5000));
    assert_eq!(world.unsigned("GET", &long, b"", &[]).await.status, 404);

    let unsigned = world.unsigned("GET", "/clusters/c1", b"{", &[]).await;
    unsigned.refused(
        403,
        "MissingAuthenticationTokenException",
        "Request is missing",
    );
    let other = world
        .rest((ana, "iam"), ("GET", "/clusters/c1"), b"", now())
        .await;
    other.refused(
        403,
        "InvalidSignatureException",
        "Credential should be scoped to correct service: 'eks'.",
    );
    for (seconds, status) in [(-301, 403), (-299, 200), (299, 200), (301, 403)] {
        let reply = world
            .rest((ana, "eks"), ("GET", "/clusters/c1"), b"", after(seconds))
            .await;
        assert_eq!(reply.status, status, "{seconds}: {reply:?}");
    }
    let nobody = Keys {
        id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        ..ana.clone()
    };
    let reply = world
        .eks(&nobody, "GET", "/clusters/c1", &Value::Null)
        .await;
    reply.refused(403, "UnrecognizedClientException", "The security token");
    let wrong = Keys {
        secret: "x".repeat(40),
        ..ana.clone()
    };
    let reply = world.eks(&wrong, "GET", "/clusters/c1", &Value::Null).await;
    reply.refused(403, "InvalidSignatureException", "The request signature");

    // What is of the right type and wrong is told to those only who may ask.
    let create = ("POST", "/clusters/none/access-entries");
    for (body, ana_gets, bob_gets) in [
        ("{", "SerializationException", "SerializationException"),
        ("[]", "SerializationException", "SerializationException"),
        ("\"x\"", "SerializationException", "SerializationException"),
        (
            "{\"principalArn\":1}",
            "SerializationException",
            "SerializationException",
        ),
        (
            "{\"kubernetesGroups\":{}}",
            "SerializationException",
            "SerializationException",
        ),
        (
            "{\"kubernetesGroups\":[null]}",
            "SerializationException",
            "SerializationException",
        ),
        (
            "{\"tags\":{\"a\":true}}",
            "SerializationException",
            "SerializationException",
        ),
        ("", "InvalidParameterException", "AccessDeniedException"),
        ("{}", "InvalidParameterException", "AccessDeniedException"),
        (
            "{\"principalArn\":null}",
            "InvalidParameterException",
            "AccessDeniedException",
        ),
        (
            "{\"principalArn\":\"x\",\"unknown\":{\"a\":[1]}}",
            "InvalidParameterException",
            "AccessDeniedException",
        ),
    ] {
        for (keys, code) in [(ana, ana_gets), (&world.bob, bob_gets)] {
            let reply = world
                .rest((keys, "eks"), create, body.as_bytes(), now())
                .await;
            assert_eq!(reply.code, code, "{body}: {reply:?}");
        }
    }
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let reply = world
        .rest((ana, "eks"), create, deep.as_bytes(), now())
        .await;
    reply.refused(400, "SerializationException", "The body is no JSON");
}

#[tokio::test]
async fn only_the_regions_of_the_deployment_are_answered_for() {
    let mut world = World::new().await;
    world.api = world.api.with_eks(EksOptions {
        regions: Some(vec!["eu-central-1".to_owned()]),
        ..EksOptions::default()
    });
    let reply = world
        .eks(&world.ana, "GET", "/clusters", &Value::Null)
        .await;
    reply.refused(
        403,
        "InvalidSignatureException",
        "Credential should be scoped to a valid region, not 'us-east-1'.",
    );
}

#[tokio::test]
async fn answers_have_the_headers_and_members_of_rest_json() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let reply = world
        .eks(&world.ana, "GET", "/clusters/c1", &Value::Null)
        .await;
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(reply.headers["x-amzn-requestid"], "request-1");
    assert!(reply.headers.get("x-amzn-errortype").is_none());
    assert_eq!(reply.body["cluster"]["createdAt"], json!(1773480413.25));
    let reply = world
        .eks(&world.ana, "GET", "/clusters/none", &Value::Null)
        .await;
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(
        reply.body,
        json!({"clusterName": "none", "message": "No cluster found for name: none."})
    );
    // A refusal of IAM is about no cluster.
    let reply = world
        .eks(&world.bob, "GET", "/clusters/c1", &Value::Null)
        .await;
    assert_eq!(
        reply.body,
        json!({"message": "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: eks:DescribeCluster on resource: arn:aws:eks:us-east-1:111122223333:cluster/c1 because no identity-based policy allows the eks:DescribeCluster action"})
    );
}

#[tokio::test]
async fn arns_in_paths_are_decoded_once_and_may_come_rewritten() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let trust = trusts(ACCOUNT, ASSUME, "");
    let mut principals = Vec::new();
    for (path, name) in [
        ("/", "Dev"),
        ("/team/", "a+b=c,d.e@f-_"),
        ("/access-policies/", "Odd"),
        ("/", "access-policies"),
    ] {
        principals.push(
            world
                .role_with(name, &trust, |role| role.path = path.into())
                .await,
        );
    }
    for principal in &principals {
        let body = json!({ "principalArn": principal });
        let target = "/clusters/c1/access-entries";
        world.eks(&world.ana, "POST", target, &body).await.ok();
    }
    for principal in &principals {
        let policy = escape(VIEW);
        // Encoded as SDKs do; with raw colons; with everything raw.
        for form in [
            escape(principal),
            principal.replace('/', "%2F"),
            principal.clone(),
        ] {
            let path = format!("/clusters/c1/access-entries/{form}");
            let found = world.eks(&world.ana, "GET", &path, &Value::Null).await.ok();
            assert_eq!(found["accessEntry"]["principalArn"], **principal, "{path}");
            let path = format!("{path}/access-policies");
            let scope = json!({"policyArn": VIEW, "accessScope": {"type": "cluster"}});
            let made = world.eks(&world.ana, "POST", &path, &scope).await.ok();
            assert_eq!(made["principalArn"], **principal, "{path}");
            for policy in [&*policy, VIEW] {
                if form != *principal && policy == VIEW {
                    continue;
                }
                let path = format!("{path}/{policy}");
                let reply = world.eks(&world.ana, "DELETE", &path, &Value::Null).await;
                assert_eq!(reply.ok(), json!({}), "{path}");
                world
                    .eks(
                        &world.ana,
                        "POST",
                        path.rsplit_once("/access-policies/")
                            .map(|(head, _)| format!("{head}/access-policies"))
                            .unwrap()
                            .as_str(),
                        &scope,
                    )
                    .await
                    .ok();
            }
        }
    }
    // Twice encoded is another text, and `+` is no space.
    let twice = escape(&escape(&principals[0]));
    let reply = world
        .eks(
            &world.ana,
            "GET",
            &format!("/clusters/c1/access-entries/{twice}"),
            &Value::Null,
        )
        .await;
    reply.not_found("The specified principalArn could not be found.");
    for bad in ["%zz", "%", "%f", "%ff", "%00", "a%00b", "%c3%28"] {
        let target = format!("/clusters/{bad}");
        let reply = world.unsigned("GET", &target, b"", &[]).await;
        assert_eq!(
            (reply.status, &*reply.code),
            (400, "SerializationException"),
            "{bad}"
        );
    }
    for dots in ["/clusters/..", "/clusters/.", "/clusters/../clusters"] {
        let reply = world.eks(&world.ana, "GET", dots, &Value::Null).await;
        assert!(matches!(reply.status, 400 | 404), "{dots}: {reply:?}");
    }
    // What only looks like a way out of the segment is a name.
    for name in ["%2e%2e", "..%2F..%2Fetc", "c1%2F", "%2Fc1", "c1%20", "C1"] {
        let target = format!("/clusters/{name}");
        let reply = world.eks(&world.ana, "GET", &target, &Value::Null).await;
        assert!(matches!(reply.status, 400 | 404), "{name}: {reply:?}");
    }
}

#[tokio::test]
async fn lists_come_in_pages_whose_tokens_are_bound_to_them() {
    let world = World::new().await;
    let ana = &world.ana;
    for name in ["c3", "c1", "c2", "C0"] {
        world.cluster(name, Api).await;
    }
    let get = async |target: &str| world.eks(ana, "GET", target, &Value::Null).await;
    let first = get("/clusters?maxResults=2").await.ok();
    assert_eq!(first["clusters"], json!(["C0", "c1"]));
    let token = first["nextToken"].as_str().unwrap();
    // What is made behind the page is on the next one, what is made before is not.
    world.cluster("c11", Api).await;
    world.cluster("A", Api).await;
    let rest = get(&format!("/clusters?nextToken={}", escape(token)))
        .await
        .ok();
    assert_eq!(rest, json!({"clusters": ["c11", "c2", "c3"]}));
    let invalid = "The nextToken parameter is not one of an earlier page of this list";
    for target in [
        format!("/clusters?include=all&nextToken={}", escape(token)),
        format!("/clusters/c1/access-entries?nextToken={}", escape(token)),
        format!("/access-policies?nextToken={}", escape(token)),
        "/clusters?nextToken=x".to_owned(),
        "/clusters?nextToken=".to_owned(),
        format!("/clusters?nextToken={}", "A".repeat(20_000)),
    ] {
        get(&target).await.invalid(invalid);
    }
    for number in ["0", "101", "-1"] {
        let reply = get(&format!("/clusters?maxResults={number}")).await;
        reply.invalid("The parameter maxResults must be between 1 and 100");
    }
    for number in ["", "x", "1.5", "99999999999999999999"] {
        let reply = get(&format!("/clusters?maxResults={number}")).await;
        reply.refused(
            400,
            "SerializationException",
            "maxResults must be an integer",
        );
    }
    // The first of two counts.
    let one = get("/clusters?maxResults=1&maxResults=x").await.ok();
    assert_eq!(one["clusters"], json!(["A"]));
    get("/clusters?include=some")
        .await
        .invalid("The parameter include must be all");
    let all = get("/clusters?include=all").await.ok();
    assert_eq!(all["clusters"].as_array().unwrap().len(), 6);
}

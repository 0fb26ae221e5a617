//! The example of attribute-based access control of the EKS best practices, whole: association, pod token, credentials with
//! the six tags, and a bucket policy that the engine decides on the session that was handed out.

use countersign_policy::{
    Action, Attached, Context, Layers, Policy, PolicyKind, Principal, Request, decide,
};
use countersign_session::{LivePrincipal, context_facts};

use super::*;

const BUCKET: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [{
    "Sid": "PodsOfOneNamespaceOfOneCluster",
    "Effect": "Allow",
    "Principal": {"AWS": "*"},
    "Action": ["s3:GetObject", "s3:PutObject"],
    "Resource": "arn:aws:s3:::harvest/${aws:PrincipalTag/kubernetes-namespace}/*",
    "Condition": {"StringEquals": {
      "aws:PrincipalTag/kubernetes-namespace": "orchard",
      "aws:PrincipalTag/kubernetes-service-account": "picker",
      "aws:PrincipalTag/eks-cluster-name": "orchard",
      "aws:PrincipalTag/eks-cluster-arn": "arn:aws:eks:us-east-1:111122223333:cluster/orchard",
      "aws:PrincipalAccount": "111122223333"
    }}
  }]
}"#;

/// Whether the bucket lets the holder of these credentials read an object. Principal and condition keys are what the session
/// token says, and nothing else.
fn may_read(pods: &Pods, answer: &Value, object: &str) -> bool {
    let session = pods.session(answer);
    let snapshot = pods.world.directory.snapshot();
    let id = session.principal.unique_id().unwrap();
    let Some(countersign_store::Principal::Role(role)) = snapshot.principal(id) else {
        panic!("no role {id}");
    };
    let live = LivePrincipal {
        id: &role.record.id,
        path: &role.record.path,
        name: &role.record.name,
        tags: &role.record.tags,
    };
    let facts = context_facts(&session, Some(&live), now()).unwrap();
    let arn = session
        .principal
        .caller_arn(session.partition, session.account);
    let principal = Principal::session(&arn, Some(&role.arn), Some(id)).unwrap();
    let mut keys = Context::new();
    keys.set("aws:PrincipalAccount", facts.principal_account.to_string());
    keys.set("aws:PrincipalArn", facts.principal_arn.clone());
    for tag in &facts.principal_tags {
        keys.set_tag("aws:PrincipalTag/", &tag.key, tag.value.to_string());
    }
    let policy = Policy::parse(BUCKET, PolicyKind::Resource).unwrap();
    let bucket = [Attached::new(Arc::new(policy), "bucket")];
    let all = Policy::parse(ALL, PolicyKind::Identity).unwrap();
    // Across accounts the role's own policies must allow it too: they do, so that the bucket decides.
    let identity = [Attached::new(Arc::new(all), "all")];
    let action = Action::parse("s3:GetObject").unwrap();
    let resource = format!("arn:aws:s3:::harvest/{object}");
    let same_account = facts.principal_account.to_string() == "111122223333";
    let request = Request::new(&principal, &action, &resource, &keys)
        .unwrap()
        .owned_by("111122223333");
    let layers = Layers {
        identity: if same_account { &[] } else { &identity },
        resource: Some(&bucket),
        ..Layers::default()
    };
    decide(&request, &layers).is_allowed()
}

#[tokio::test]
async fn the_bucket_policy_allows_this_pod_and_refuses_another_namespace_cluster_and_account() {
    let pods = Pods::new().await;
    pods.picker().await;
    let answer = pods.ask(&pods.world.ana, &pods.token("picker")).await.ok();
    assert!(may_read(&pods, &answer, "orchard/apples.csv"));
    assert!(!may_read(&pods, &answer, "meadow/hay.csv"));

    let role = "arn:aws:iam::111122223333:role/orchard-reader";
    let associate = |account: &'static str, cluster: &'static str, namespace: &'static str| {
        let directory = pods.world.directory.clone();
        async move {
            let new = NewPodIdentityAssociation {
                namespace: namespace.into(),
                service_account: "picker".into(),
                role_arn: role.replace("111122223333", account).into(),
                target_role_arn: None,
                disable_session_tags: None,
                policy: None,
                owner_arn: None,
                sessions: countersign_session::PodSessions::default(),
                tags: Vec::new(),
            };
            let place = Pods::place(account, cluster);
            directory
                .create_pod_identity_association(place, new, None, now())
                .await
                .unwrap();
        }
    };
    // Another namespace of the same cluster, with the same role.
    associate("111122223333", CLUSTER, "meadow").await;
    let mut claims = pods.claims("picker");
    claims["sub"] = "system:serviceaccount:meadow:picker".into();
    claims["kubernetes.io"]["namespace"] = "meadow".into();
    let token = pods.key.sign(&claims).unwrap();
    let other = pods.ask(&pods.world.ana, &token).await.ok();
    for object in ["orchard/apples.csv", "meadow/hay.csv"] {
        assert!(!may_read(&pods, &other, object), "{object}");
    }

    // Another cluster of the account, with the same namespace, service account and role.
    pods.cluster("111122223333", "meadow").await;
    pods.keys("111122223333", "meadow").await;
    associate("111122223333", "meadow", "orchard").await;
    let mut claims = pods.claims("picker");
    claims["iss"] = pods.issuer("111122223333", "meadow").into();
    let body = json!({ "token": pods.key.sign(&claims).unwrap() }).to_string();
    let path = "/clusters/meadow/assume-role-for-pod-identity";
    let headers = signed(
        &pods.world.ana,
        "eks-auth",
        ("POST", path),
        body.as_bytes(),
        now(),
    );
    let other = pods.send(path, body.as_bytes(), &headers).await.ok();
    assert!(!may_read(&pods, &other, "orchard/apples.csv"));

    // A cluster of the same name in another account, whose pod has the same namespace and service account.
    pods.role("444455556666", "orchard-reader", &trusts_pods(BOTH, ""))
        .await;
    pods.cluster("444455556666", CLUSTER).await;
    pods.keys("444455556666", CLUSTER).await;
    associate("444455556666", CLUSTER, "orchard").await;
    let issuer = pods.issuer("444455556666", CLUSTER);
    let of_there = |mut claims: Value| {
        claims["iss"] = issuer.as_str().into();
        pods.key.sign(&claims).unwrap()
    };
    let mut agent = pods.claims("countersign-agent");
    agent["aud"] = json!(["eks-auth.countersign.dev"]);
    agent["sub"] = "system:serviceaccount:kube-system:countersign-agent".into();
    agent["kubernetes.io"]["namespace"] = "kube-system".into();
    let body = json!({ "token": of_there(pods.claims("picker")) }).to_string();
    let bearer = format!("Bearer {}", of_there(agent));
    let headers = [("authorization".to_owned(), bearer)];
    let other = pods.send(PATH, body.as_bytes(), &headers).await.ok();
    let arn = other["assumedRoleUser"]["arn"].as_str().unwrap();
    assert!(arn.starts_with("arn:aws:sts::444455556666:assumed-role/orchard-reader/"));
    assert!(!may_read(&pods, &other, "orchard/apples.csv"));

    // And without session tags nothing matches.
    pods.associate("bare", role, |new| new.disable_session_tags = Some(true))
        .await;
    let bare = pods.ask(&pods.world.ana, &pods.token("bare")).await.ok();
    assert!(!may_read(&pods, &bare, "orchard/apples.csv"));
}

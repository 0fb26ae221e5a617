//! Agents without AWS credentials, which show a token of their own.

use countersign_server::EksAuthLimits;
use countersign_store::PodIdentityAssociationChange;

use super::*;

const AUDIENCE: &str = "eks-auth.countersign.dev";

impl Pods {
    pub(super) fn agent(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims("countersign-agent");
        claims["aud"] = json!([AUDIENCE]);
        claims["sub"] = "system:serviceaccount:kube-system:countersign-agent".into();
        claims["kubernetes.io"]["namespace"] = "kube-system".into();
        change(&mut claims);
        self.key.sign(&claims).unwrap()
    }

    async fn bear(&self, bearer: &str, token: &str, more: &[(&str, &str)]) -> Reply {
        let body = json!({ "token": token }).to_string();
        let mut headers = vec![("authorization".to_owned(), format!("Bearer {bearer}"))];
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        headers.extend(more.iter().map(owned));
        self.send(PATH, body.as_bytes(), &headers).await
    }
}

#[tokio::test]
async fn an_agent_shows_its_own_token_in_the_place_of_a_signature() {
    let pods = Pods::new().await;
    pods.picker().await;
    let good = pods.token("picker");
    let agent = pods.agent(|_| ());
    let answer = pods.bear(&agent, &good, &[]).await.ok();
    let (_, who) = pods.world.whoami(&keys_of(&answer), now()).await;
    assert_eq!(
        who["GetCallerIdentityResponse"]["GetCallerIdentityResult"]["Arn"],
        answer["assumedRoleUser"]["arn"]
    );
    pods.bear(&agent, &good, &[("x-countersign-node", NODE)])
        .await
        .ok();

    let other = SigningKey::generate(Algorithm::Es256).unwrap();
    let unrecognized = "UnrecognizedClientException";
    let denied = "AccessDeniedException";
    let at = now().as_second();
    let cases: Vec<(&str, String, u16, &str, &str)> = vec![
        ("empty", String::new(), 403, unrecognized, ""),
        ("no JWT", "opaque".into(), 403, unrecognized, ""),
        ("a pod's token", good.clone(), 403, unrecognized, "audience"),
        (
            "another key",
            other.sign(&pods.claims("picker")).unwrap(),
            403,
            unrecognized,
            "",
        ),
        (
            "another issuer",
            pods.agent(|c| c["iss"] = "https://x.example/id/1".into()),
            403,
            unrecognized,
            "no cluster of this name",
        ),
        // It is renewed: no pod's cached credentials may be dropped for it.
        (
            "expired",
            pods.agent(|c| c["exp"] = (at - 100).into()),
            403,
            unrecognized,
            "expired",
        ),
        (
            "not bound",
            pods.agent(|c| c["kubernetes.io"]["pod"] = Value::Null),
            403,
            unrecognized,
            "not bound to a pod",
        ),
        (
            "no node",
            pods.agent(|c| c["kubernetes.io"]["node"] = Value::Null),
            400,
            denied,
            "does not name its node",
        ),
        (
            "another service account",
            pods.agent(|c| {
                c["sub"] = "system:serviceaccount:kube-system:other".into();
                c["kubernetes.io"]["serviceaccount"]["name"] = "other".into();
            }),
            400,
            denied,
            "kube-system:other is not one of the agents",
        ),
        (
            "another namespace",
            pods.agent(|c| {
                c["sub"] = "system:serviceaccount:orchard:countersign-agent".into();
                c["kubernetes.io"]["namespace"] = "orchard".into();
            }),
            400,
            denied,
            "not one of the agents",
        ),
        (
            "another node",
            pods.agent(|c| c["kubernetes.io"]["node"]["name"] = "ip-10-0-0-2.ec2.internal".into()),
            400,
            denied,
            "another node",
        ),
    ];
    for (what, bearer, status, code, message) in cases {
        let reply = pods.bear(&bearer, &good, &[]).await;
        assert_eq!(
            (reply.status, &*reply.code),
            (status, code),
            "{what}: {reply:?}"
        );
        assert!(
            reply.body["message"].as_str().unwrap().contains(message),
            "{what}: {reply:?}"
        );
    }
    pods.bear(
        &agent,
        &good,
        &[("x-countersign-node", "ip-10-0-0-2.ec2.internal")],
    )
    .await
    .refused(400, denied, "X-Countersign-Node");
    // The agent's own node is no help where the pod's is not known.
    let mut claims = pods.claims("picker");
    claims["kubernetes.io"]["node"] = Value::Null;
    let nowhere = pods.key.sign(&claims).unwrap();
    pods.bear(&agent, &nowhere, &[])
        .await
        .refused(400, denied, "does not name the node");
    // Parameters are looked at as for everybody.
    pods.bear(&agent, "opaque", &[])
        .await
        .refused(400, "InvalidParameterException", "token");
    // It is for few operations.
    let headers = [("authorization".to_owned(), format!("Bearer {agent}"))];
    let (status, _, _) = pods
        .world
        .send_rest(("GET", "/clusters/orchard"), b"", &headers)
        .await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn only_agents_on_the_list_may_and_an_empty_list_is_nobody() {
    for (agents, status) in [(vec!["edge:agent"], 200), (vec![], 400)] {
        let pods = Pods::with(EksAuthOptions {
            agents: agents.into_iter().map(Into::into).collect(),
            ..EksAuthOptions::default()
        })
        .await;
        pods.picker().await;
        let agent = pods.agent(|c| {
            c["sub"] = "system:serviceaccount:edge:agent".into();
            c["kubernetes.io"]["namespace"] = "edge".into();
            c["kubernetes.io"]["serviceaccount"]["name"] = "agent".into();
        });
        let reply = pods.bear(&agent, &pods.token("picker"), &[]).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
}

/// Two clusters of one name, in two accounts: the token says which one is meant.
#[tokio::test]
async fn the_issuer_says_which_cluster_of_a_name_is_meant() {
    let pods = Pods::new().await;
    pods.picker().await;
    pods.cluster("444455556666", CLUSTER).await;
    pods.keys("444455556666", CLUSTER).await;
    let issuer = pods.issuer("444455556666", CLUSTER);
    let agent = pods.agent(|c| c["iss"] = issuer.as_str().into());
    // The pod is of the other one.
    pods.bear(&agent, &pods.token("picker"), &[]).await.refused(
        400,
        "InvalidTokenException",
        "issuer",
    );
    pods.bear(&pods.agent(|_| ()), &pods.token("picker"), &[])
        .await
        .ok();
}

/// What is answered to a GET with this token: status, code and body.
async fn look(pods: &Pods, bearer: &str, path: &str, more: &[(&str, &str)]) -> Reply {
    let mut headers = vec![("authorization".to_owned(), format!("Bearer {bearer}"))];
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    headers.extend(more.iter().map(owned));
    let (status, headers, bytes) = pods.world.send_rest(("GET", path), b"", &headers).await;
    Reply {
        status,
        code: headers
            .get("x-amzn-errortype")
            .map_or_else(String::new, |code| code.to_str().unwrap().to_owned()),
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    }
}

#[tokio::test]
async fn an_agent_learns_when_an_association_of_its_cluster_changed_and_no_more() {
    let pods = Pods::new().await;
    let id = pods.picker().await;
    pods.cluster("111122223333", "meadow").await;
    pods.cluster("444455556666", CLUSTER).await;
    pods.keys("444455556666", CLUSTER).await;
    let all = "/clusters/orchard/pod-identity-associations";
    let path = format!("{all}/{id}");
    let agent = pods.agent(|_| ());

    let seen = look(&pods, &agent, &path, &[("x-countersign-node", NODE)])
        .await
        .ok();
    let members: Vec<&String> = seen["association"].as_object().unwrap().keys().collect();
    // No role, target role, external id, session policy or tags.
    assert_eq!(
        members,
        [
            "associationArn",
            "associationId",
            "clusterName",
            "createdAt",
            "modifiedAt",
            "namespace",
            "serviceAccount"
        ]
    );
    assert_eq!(seen["association"]["associationId"], id.as_str());
    let change = PodIdentityAssociationChange {
        disable_session_tags: Some(true),
        ..PodIdentityAssociationChange::default()
    };
    let place = Pods::place("111122223333", CLUSTER);
    pods.world
        .directory
        .update_pod_identity_association(place, &id, &change, None, None, after(7))
        .await
        .unwrap();
    let changed = look(&pods, &agent, &path, &[]).await.ok();
    assert_eq!(changed["association"]["disableSessionTags"], true);
    assert!(
        changed["association"]["modifiedAt"].as_f64() > seen["association"]["modifiedAt"].as_f64()
    );

    let issuer = pods.issuer("444455556666", CLUSTER);
    let elsewhere = pods.agent(|c| c["iss"] = issuer.as_str().into());
    let other = pods.agent(|c| {
        c["sub"] = "system:serviceaccount:kube-system:other".into();
        c["kubernetes.io"]["serviceaccount"]["name"] = "other".into();
    });
    let (missing, denied, unrecognized) = (
        (404, "ResourceNotFoundException"),
        (403, "AccessDeniedException"),
        (403, "UnrecognizedClientException"),
    );
    let cases = [
        (
            "of no association",
            &agent,
            format!("{all}/a-00000000000000001"),
            missing,
        ),
        // A cluster of this name in another account: it has no such association.
        ("of another cluster", &elsewhere, path.clone(), missing),
        (
            "under the name of another cluster",
            &agent,
            path.replace("orchard", "meadow"),
            unrecognized,
        ),
        (
            "with a pod's token",
            &pods.token("picker"),
            path.clone(),
            unrecognized,
        ),
        ("of another service account", &other, path.clone(), denied),
    ];
    for (what, bearer, path, refused) in cases {
        let reply = look(&pods, bearer, &path, &[]).await;
        assert_eq!((reply.status, &*reply.code), refused, "{what}: {reply:?}");
    }
    look(&pods, &agent, &path, &[("x-countersign-node", "other")])
        .await
        .refused(403, "AccessDeniedException", "another node");
    // A list would tell ids of associations that no pod of the node has; changes are nobody's business here.
    let authorization = [("authorization".to_owned(), format!("Bearer {agent}"))];
    for (method, path) in [
        ("GET", all),
        ("POST", all),
        ("POST", &*path),
        ("DELETE", &*path),
        ("GET", "/clusters/orchard"),
        ("GET", "/clusters/orchard/access-entries"),
        ("GET", "/clusters"),
    ] {
        let (status, _, _) = pods
            .world
            .send_rest((method, path), b"{}", &authorization)
            .await;
        assert_eq!(status, 403, "{method} {path}");
    }
    // An association that is deleted is none to the agent.
    pods.world
        .directory
        .delete_pod_identity_association(place, &id, None, after(9))
        .await
        .unwrap();
    let reply = look(&pods, &agent, &path, &[]).await;
    assert_eq!((reply.status, &*reply.code), missing);
}

/// Lists are closed to agents: that a closer association is in force now is told by the time of the change.
#[tokio::test]
async fn an_agent_learns_that_a_closer_association_may_be_in_force() {
    let pods = Pods::new().await;
    let role = pods
        .role("111122223333", "orchard-reader", &trusts_pods(BOTH, ""))
        .await;
    let make = |namespace: &str, account: &str, at| {
        let new = NewPodIdentityAssociation {
            namespace: namespace.into(),
            service_account: account.into(),
            role_arn: role.as_str().into(),
            target_role_arn: None,
            disable_session_tags: None,
            policy: None,
            owner_arn: None,
            sessions: countersign_session::PodSessions::default(),
            tags: Vec::new(),
        };
        let place = Pods::place("111122223333", CLUSTER);
        let directory = &pods.world.directory;
        async move {
            directory
                .create_pod_identity_association(place, new, None, at)
                .await
                .unwrap()
        }
    };
    make("orch*", "pick*", now()).await;
    let snapshot = pods.world.directory.snapshot();
    let cluster = snapshot
        .cluster("111122223333".parse().unwrap(), "us-east-1", CLUSTER)
        .unwrap();
    let id = snapshot
        .pod_identity_associations(&cluster.record.id, None)
        .next()
        .map(|made| made.record.id.to_string())
        .unwrap();
    let agent = pods.agent(|_| ());
    let path = format!("/clusters/orchard/pod-identity-associations/{id}");
    let changed = async || {
        let seen = look(&pods, &agent, &path, &[]).await.ok();
        seen["association"]["modifiedAt"].as_f64().unwrap()
    };
    let at = |seconds: i64| after(seconds).as_duration().as_secs_f64();
    // Namespace and service account of an association that is made, and when the first one counts as changed from then on.
    let cases = [
        ("meadow", "picker", 10, 0),
        ("orchard", "mower", 20, 0),
        ("orchard", "picker", 30, 30),
        ("o*", "*", 40, 40),
        ("orchard-b*", "p", 50, 40),
        ("orchard-b*", "picker-two", 60, 60),
    ];
    assert_eq!(changed().await, at(0));
    for (namespace, account, made, counts) in cases {
        make(namespace, account, after(made)).await;
        assert_eq!(changed().await, at(counts), "{namespace}/{account}");
    }
}

#[tokio::test]
async fn what_agents_ask_for_counts_for_their_node() {
    let mut pods = Pods::new().await;
    let id = pods.picker().await;
    pods.world.api = AwsApi::new(
        Arc::clone(&pods.world.keys),
        pods.world.directory.clone(),
        Arc::clone(&pods.metrics),
        0,
        false,
    )
    .with_issuers(Arc::clone(&pods.issuers))
    .limiting_pods_to(EksAuthLimits {
        per_caller: 3,
        per_account: 0,
    });
    let agent = pods.agent(|_| ());
    let path = format!("/clusters/orchard/pod-identity-associations/{id}");
    for _ in 0..3 {
        look(&pods, &agent, &path, &[]).await.ok();
    }
    look(&pods, &agent, &path, &[])
        .await
        .refused(429, "ThrottlingException", "");
    let elsewhere = pods.agent(|c| c["kubernetes.io"]["node"]["name"] = "node-b".into());
    look(&pods, &elsewhere, &path, &[]).await.ok();
}

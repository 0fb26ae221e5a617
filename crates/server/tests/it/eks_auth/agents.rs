//! Agents without AWS credentials, which show a token of their own.

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
    // It is for this operation alone.
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

//! Every row of the error table, and that faults which pass are not final.

use countersign_server::{EksAuthLimits, StsLimits};

use super::*;

/// Rows 2 to 5 of the worked examples and the token rows of the error table: what is changed in a good token, and the answer.
#[tokio::test]
async fn tokens_are_refused_with_the_reason() {
    let pods = Pods::new().await;
    pods.picker().await;
    let at = now().as_second();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut claims = pods.claims("picker");
        change(&mut claims);
        pods.key.sign(&claims).unwrap()
    };
    let other = SigningKey::generate(Algorithm::Es256).unwrap();
    let good = pods.token("picker");
    let (signed_part, _) = good.rsplit_once('.').unwrap();
    let none = {
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let header = encode(r#"{"alg":"none","typ":"JWT"}"#);
        format!("{header}.{}.AAAA", signed_part.split('.').nth(1).unwrap())
    };
    let (invalid, expired) = ("InvalidTokenException", "ExpiredTokenException");
    let (missing, parameter) = ("ResourceNotFoundException", "InvalidParameterException");
    let cases: Vec<(&str, String, u16, &str, &str)> = vec![
        ("no JWT", "opaque".into(), 400, parameter, "token"),
        ("two parts", "a.b".into(), 400, parameter, "token"),
        ("an empty part", "a..c".into(), 400, parameter, "token"),
        ("other letters", "a.b+.c".into(), 400, parameter, "token"),
        ("no JSON", "a.b.c".into(), 400, invalid, ""),
        (
            "too long",
            format!("{good}{}", "A".repeat(20_000)),
            400,
            invalid,
            "",
        ),
        ("alg none", none, 400, invalid, "must be signed with"),
        (
            "another key",
            other.sign(&pods.claims("picker")).unwrap(),
            400,
            invalid,
            "key of the cluster",
        ),
        (
            "another signature",
            format!("{signed_part}.{}", "A".repeat(86)),
            400,
            invalid,
            "signature",
        ),
        (
            "issuer of another cluster",
            changed(&|c| {
                c["iss"] =
                    "https://issuer.countersign.internal/id/00000000000000000000000000000000".into()
            }),
            400,
            invalid,
            "issuer",
        ),
        (
            "a final slash",
            changed(&|c| c["iss"] = format!("{}/", c["iss"].as_str().unwrap()).into()),
            400,
            invalid,
            "issuer",
        ),
        (
            "audience of STS",
            changed(&|c| c["aud"] = json!(["sts.amazonaws.com"])),
            400,
            invalid,
            "audience",
        ),
        (
            "audience of the API server",
            changed(&|c| c["aud"] = json!("https://kubernetes.default.svc")),
            400,
            invalid,
            "audience",
        ),
        (
            "expired",
            changed(&|c| c["exp"] = (at - 61).into()),
            400,
            expired,
            "must be before the expiration date/time 2026-03-14T09:25:52Z",
        ),
        (
            "of the future",
            changed(&|c| c["nbf"] = (at + 120).into()),
            400,
            invalid,
            "not yet valid",
        ),
        (
            "no Kubernetes claims",
            changed(&|c| c["kubernetes.io"] = Value::Null),
            400,
            invalid,
            "kubernetes.io",
        ),
        (
            "no pod",
            changed(&|c| c["kubernetes.io"]["pod"] = Value::Null),
            400,
            invalid,
            "not bound to a pod",
        ),
        (
            "no uid of the pod",
            changed(&|c| c["kubernetes.io"]["pod"]["uid"] = Value::Null),
            400,
            invalid,
            "uid of its pod",
        ),
        (
            "no uid of the account",
            changed(&|c| c["kubernetes.io"]["serviceaccount"]["uid"] = Value::Null),
            400,
            invalid,
            "uid of its service account",
        ),
        (
            "another subject",
            changed(&|c| c["sub"] = "system:serviceaccount:orchard:owner".into()),
            400,
            invalid,
            "subject",
        ),
        (
            "a pod name that is no tag",
            changed(&|c| c["kubernetes.io"]["pod"]["name"] = "a<b>".into()),
            400,
            invalid,
            "session tags",
        ),
        (
            "no association",
            pods.token("owner"),
            404,
            missing,
            "service account owner in namespace orchard",
        ),
        (
            "another namespace",
            changed(&|c| {
                c["sub"] = "system:serviceaccount:meadow:picker".into();
                c["kubernetes.io"]["namespace"] = "meadow".into();
            }),
            404,
            missing,
            "in namespace meadow",
        ),
    ];
    for (what, token, status, code, message) in cases {
        let reply = pods.ask(&pods.world.ana, &token).await;
        assert_eq!(
            (reply.status, &*reply.code),
            (status, code),
            "{what}: {reply:?}"
        );
        let said = reply.body["message"].as_str().unwrap();
        assert!(said.contains(message), "{what}: {said}");
        assert!(
            !said.contains(&token),
            "{what}: the token is in the message"
        );
    }
    // Clocks differ: a token that ran out a moment ago is still good.
    pods.ask(&pods.world.ana, &changed(&|c| c["exp"] = (at - 30).into()))
        .await
        .ok();
}

/// Rows 2 and 3, and conditions on whom the service acts for.
#[tokio::test]
async fn the_trust_policy_decides_by_cluster_account_and_tags() {
    let pods = Pods::new().await;
    let condition = |operator: &str, key: &str, value: &str| {
        format!(r#"{{"{operator}":{{"{key}":"{value}"}}}}"#)
    };
    let equals = |key: &str, value: &str| condition("StringEquals", key, value);
    let cases: [(&str, String, bool, bool); 20] = [
        (ASSUME, String::new(), false, false),
        (ASSUME, String::new(), true, true),
        (BOTH, String::new(), false, true),
        (
            BOTH,
            equals("aws:RequestTag/kubernetes-namespace", "orchard"),
            false,
            true,
        ),
        (
            BOTH,
            equals("aws:RequestTag/kubernetes-namespace", "meadow"),
            false,
            false,
        ),
        (
            BOTH,
            equals("aws:RequestTag/kubernetes-namespace", "orchard"),
            true,
            false,
        ),
        (
            BOTH,
            equals("aws:RequestTag/kubernetes-service-account", "sa6"),
            false,
            true,
        ),
        (
            BOTH,
            equals("aws:RequestTag/kubernetes-pod-uid", UID),
            false,
            true,
        ),
        (
            BOTH,
            equals("aws:RequestTag/eks-cluster-arn", CLUSTER_ARN),
            false,
            true,
        ),
        (
            BOTH,
            equals("aws:RequestTag/eks-cluster-name", "prod"),
            false,
            false,
        ),
        (
            BOTH,
            equals("aws:SourceAccount", "111122223333"),
            false,
            true,
        ),
        (
            BOTH,
            equals("aws:SourceAccount", "444455556666"),
            false,
            false,
        ),
        (
            BOTH,
            condition("ArnEquals", "aws:SourceArn", CLUSTER_ARN),
            true,
            true,
        ),
        (
            BOTH,
            condition(
                "ArnEquals",
                "aws:SourceArn",
                "arn:aws:eks:us-east-1:111122223333:cluster/x",
            ),
            true,
            false,
        ),
        (
            BOTH,
            equals("aws:SourceOrgID", "o-exampleorg1"),
            false,
            true,
        ),
        (BOTH, equals("aws:SourceOrgID", "o-other"), false, false),
        (BOTH, equals("aws:PrincipalServiceName", PODS), false, true),
        (
            BOTH,
            condition("Bool", "aws:PrincipalIsAWSService", "true"),
            false,
            true,
        ),
        (
            BOTH,
            condition("StringLike", "sts:RoleSessionName", "eks-orchard-*"),
            false,
            true,
        ),
        (BOTH, condition("Null", "aws:SourceIp", "true"), false, true),
    ];
    for (at, (actions, condition, disabled, allowed)) in cases.iter().enumerate() {
        let name = format!("sa{at}");
        let trust = trusts_pods(actions, condition);
        let role = pods.role("111122223333", &name, &trust).await;
        pods.associate(&name, &role, |new| {
            new.disable_session_tags = disabled.then_some(true);
        })
        .await;
        let reply = pods.ask(&pods.world.ana, &pods.token(&name)).await;
        if *allowed {
            let answer = reply.ok();
            let tags = pods.session(&answer).tags.len();
            assert_eq!(tags, if *disabled { 0 } else { 6 }, "{condition}");
        } else {
            reply.refused(
                400,
                "AccessDeniedException",
                "Unauthorized Exception! EKS does not have permissions to assume the associated role.",
            );
        }
    }
    let gone = "arn:aws:iam::111122223333:role/gone";
    pods.associate("orphan", gone, |_| ()).await;
    pods.ask(&pods.world.ana, &pods.token("orphan"))
        .await
        .refused(400, "AccessDeniedException", "associated role");
    let service = pods
        .role(
            "111122223333",
            "ec2",
            &trusts_pods(BOTH, "").replace(PODS, "ec2.amazonaws.com"),
        )
        .await;
    pods.associate("ec2", &service, |_| ()).await;
    pods.ask(&pods.world.ana, &pods.token("ec2")).await.refused(
        400,
        "AccessDeniedException",
        "associated role",
    );
}

/// The caller's rows of the error table, and the order of the checks.
#[tokio::test]
async fn callers_are_refused_before_anything_is_told() {
    let pods = Pods::new().await;
    pods.picker().await;
    let good = pods.token("picker");
    let denied = "is not authorized to perform: eks-auth:AssumeRoleForPodIdentity on resource: arn:aws:eks:us-east-1:111122223333:cluster/orchard";
    pods.ask(&pods.world.bob, &good)
        .await
        .refused(400, "AccessDeniedException", denied);
    // Who may not ask is not told what is wrong with the token.
    pods.ask(&pods.world.bob, "opaque")
        .await
        .refused(400, "AccessDeniedException", denied);
    let allow = |resource: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"eks-auth:AssumeRoleForPodIdentity","Resource":"{resource}"}}}}"#
        )
    };
    pods.world
        .allow_user(
            "bob",
            &allow("arn:aws:eks:us-east-1:111122223333:cluster/other"),
        )
        .await;
    pods.ask(&pods.world.bob, &good)
        .await
        .refused(400, "AccessDeniedException", denied);
    pods.world.allow_user("bob", &allow(CLUSTER_ARN)).await;
    pods.ask(&pods.world.bob, &good).await.ok();

    let body = json!({ "token": good }).to_string();
    let body = body.as_bytes();
    let at = |path, service| signed(&pods.world.ana, service, ("POST", path), body, now());
    let absent = "/clusters/absent/assume-role-for-pod-identity";
    let reply = pods.send(absent, body, &at(absent, "eks-auth")).await;
    reply.refused(
        404,
        "ResourceNotFoundException",
        "No cluster found for name: absent.",
    );
    let bad = "/clusters/-x/assume-role-for-pod-identity";
    let reply = pods.send(bad, body, &at(bad, "eks-auth")).await;
    reply.refused(400, "InvalidParameterException", "clusterName");

    // What is wrong with a signature has status 403, as everywhere.
    let unsigned = pods.send(PATH, body, &[]).await;
    unsigned.refused(403, "MissingAuthenticationTokenException", "");
    let of_eks = pods.send(PATH, body, &at(PATH, "eks")).await;
    assert_eq!(of_eks.status, 403, "{of_eks:?}");
    assert!(
        of_eks.body["message"]
            .as_str()
            .unwrap()
            .contains("eks-auth"),
        "{of_eks:?}"
    );
    let forged = Keys {
        secret: "a".repeat(40),
        ..pods.world.ana.clone()
    };
    let reply = pods.ask(&forged, &good).await;
    assert_eq!(reply.status, 403, "{reply:?}");
    let unknown = Keys {
        id: "AKIAIOSFODNN7EXAMPLE".into(),
        ..forged
    };
    pods.ask(&unknown, &good)
        .await
        .refused(403, "UnrecognizedClientException", "");
    for body in ["", "{}", r#"{"token":null}"#] {
        let headers = signed(
            &pods.world.ana,
            "eks-auth",
            ("POST", PATH),
            body.as_bytes(),
            now(),
        );
        pods.send(PATH, body.as_bytes(), &headers).await.refused(
            400,
            "InvalidParameterException",
            "token",
        );
    }
    let number = br#"{"token":1}"#;
    let headers = signed(&pods.world.ana, "eks-auth", ("POST", PATH), number, now());
    pods.send(PATH, number, &headers)
        .await
        .refused(400, "SerializationException", "token");
}

/// Row 13: a token of a pod that is gone; and what is not known at the moment is not final.
#[tokio::test]
async fn a_pod_that_is_gone_gets_nothing_and_what_is_not_known_passes() {
    let pods = Pods::new().await;
    pods.picker().await;
    let ask = || async { pods.ask(&pods.world.ana, &pods.token("picker")).await };
    let says = |gone| *pods.api_server.gone.lock().unwrap() = gone;
    says(Some(Err(())));
    ask().await.refused(503, "ServiceUnavailableException", "");
    says(Some(Ok("pod has been deleted".to_owned())));
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    ask().await.refused(400, "InvalidTokenException", "");
    says(None);
    ask().await.ok();

    // Without keys of the cluster nothing is said of the token.
    pods.cluster("111122223333", "bare").await;
    let mut claims = pods.claims("picker");
    claims["iss"] = pods.issuer("111122223333", "bare").into();
    let body = json!({ "token": pods.key.sign(&claims).unwrap() }).to_string();
    let path = "/clusters/bare/assume-role-for-pod-identity";
    let headers = signed(
        &pods.world.ana,
        "eks-auth",
        ("POST", path),
        body.as_bytes(),
        now(),
    );
    pods.send(path, body.as_bytes(), &headers).await.refused(
        503,
        "ServiceUnavailableException",
        "keys",
    );
}

/// Agents take `InvalidTokenException` as final: a key that the API server took up since it was asked last is waited for.
#[tokio::test]
async fn a_token_under_a_new_key_is_not_called_invalid_before_the_api_server_was_asked_after_it() {
    let pods = Pods::new().await;
    pods.picker().await;
    let (new, other) = (
        SigningKey::generate(Algorithm::Es256).unwrap(),
        SigningKey::generate(Algorithm::Es256).unwrap(),
    );
    let publishes = |keys: &[&SigningKey]| {
        let keys = KeySet::of(keys.iter().map(|key| key.public().clone())).unwrap();
        *pods.api_server.keys.lock().unwrap() = Some(keys.to_document());
        keys
    };
    let token = |key: &SigningKey, issued: i64| {
        let mut claims = pods.claims("picker");
        claims["iat"] = (now().as_second() + issued).into();
        claims.as_object_mut().unwrap().remove("nbf");
        key.sign(&claims).unwrap()
    };
    let ask = async |key: &SigningKey, issued: i64, when: i64| {
        let body = json!({ "token": token(key, issued) }).to_string();
        let headers = signed(
            &pods.world.ana,
            "eks-auth",
            ("POST", PATH),
            body.as_bytes(),
            after(when),
        );
        pods.send_at(PATH, body.as_bytes(), &headers, after(when))
            .await
    };
    let pulls = || pods.api_server.pulls.load(Ordering::SeqCst);
    let (invalid, passes) = (
        (400, "InvalidTokenException"),
        (503, "ServiceUnavailableException"),
    );

    // Keys that were uploaded are the truth.
    for issued in [-3600, 0] {
        let reply = ask(&other, issued, 0).await;
        assert_eq!((reply.status, &*reply.code), invalid, "{reply:?}");
    }
    assert_eq!(pulls(), 0);

    let known = publishes(&[&pods.key]);
    pods.world
        .directory
        .pulled_cluster_keys(Pods::place("111122223333", CLUSTER), &known, true, now())
        .await
        .unwrap();
    // Signed by whom, issued and sent at which second; what is answered, and how often the API server was asked by then.
    let (ok, mine) = ((200, ""), &pods.key);
    let rows = [
        (mine, 0, 5, ok, 0),
        // It is asked at once, after the token came, and does not know the key.
        (&new, 5, 5, invalid, 1),
        // From here on it would: for half a minute nobody asks it.
        (&new, 10, 10, passes, 1),
        (&other, 10, 10, passes, 1),
        (&other, -54, 10, passes, 1),
        // It was asked long after these are said to have been issued, or they are of no time at all.
        (&other, -55, 10, invalid, 1),
        (&other, 3600, 10, invalid, 1),
    ];
    for (key, issued, when, answered, asked) in rows {
        let reply = ask(key, issued, when).await;
        assert_eq!(
            (reply.status, &*reply.code, pulls()),
            (answered.0, answered.1, asked),
            "{issued} {when}: {reply:?}"
        );
        if asked == 1 {
            publishes(&[&pods.key, &new]);
        }
    }
    // Any number of tokens that somebody made up are no more questions.
    for _ in 0..50 {
        let stranger = SigningKey::generate(Algorithm::Es256).unwrap();
        let reply = ask(&stranger, 10, 10).await;
        assert_eq!((reply.status, &*reply.code), passes);
    }
    assert_eq!(pulls(), 1);
    pods.issuers.refresh(after(20)).await;
    ask(&new, 10, 21).await.ok();
    let reply = ask(&other, -60, 21).await;
    assert_eq!((reply.status, &*reply.code), invalid);
    assert_eq!(pulls(), 2);
}

#[tokio::test]
async fn nodes_ask_for_their_own_pods_in_their_own_cluster() {
    let pods = Pods::new().await;
    pods.picker().await;
    pods.cluster("111122223333", "meadow").await;
    let good = pods.token("picker");
    let own = pods
        .node("hybrid", CLUSTER, EntryType::HybridLinux, NODE)
        .await;
    pods.ask(&own, &good).await.ok();
    let other = pods
        .world
        .session(
            &pods.world.ana,
            "arn:aws:iam::111122223333:role/hybrid",
            &[("RoleSessionName", "ip-10-0-0-2.ec2.internal")],
            now(),
        )
        .await;
    pods.ask(&other, &good)
        .await
        .refused(400, "AccessDeniedException", "another node");
    // Tokens of older API servers do not name the node.
    let mut claims = pods.claims("picker");
    claims["kubernetes.io"]["node"] = Value::Null;
    pods.ask(&other, &pods.key.sign(&claims).unwrap())
        .await
        .ok();
    // What a caller says of itself allows nothing, and must not be wrong.
    for (node, status) in [(NODE, 200), ("ip-10-0-0-2.ec2.internal", 400)] {
        let body =
            json!({"token": good, "eksNodeName": node, "instanceId": "i-1", "zone": "use1-az1"});
        let body = body.to_string();
        let headers = signed(
            &pods.world.ana,
            "eks-auth",
            ("POST", PATH),
            body.as_bytes(),
            now(),
        );
        let reply = pods.send(PATH, body.as_bytes(), &headers).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
    // Which instance has which name is not known here.
    let instance = pods
        .node("ec2", CLUSTER, EntryType::Ec2Linux, "i-0123456789abcdef0")
        .await;
    pods.ask(&instance, &good).await.ok();
    // Row 14.
    let foreign = pods
        .node(
            "foreign",
            "meadow",
            EntryType::Ec2Linux,
            "i-0123456789abcdef1",
        )
        .await;
    pods.ask(&foreign, &good).await.refused(
        400,
        "AccessDeniedException",
        "node of cluster meadow, not of cluster orchard",
    );
}

#[tokio::test]
async fn a_caller_and_an_account_have_so_many_calls_a_second() {
    let mut pods = Pods::new().await;
    pods.picker().await;
    pods.world.api = AwsApi::new(
        Arc::clone(&pods.world.keys),
        pods.world.directory.clone(),
        Arc::clone(&pods.metrics),
        0,
        false,
    )
    .with_issuers(Arc::clone(&pods.issuers))
    .limited_to(StsLimits {
        per_account: 1,
        per_key: 1,
        web_identity_per_address: 1,
        web_identity_per_role: 0,
    })
    .limiting_pods_to(EksAuthLimits {
        per_caller: 3,
        per_account: 4,
    });
    let good = pods.token("picker");
    for _ in 0..3 {
        pods.ask(&pods.world.ana, &good).await.ok();
    }
    pods.ask(&pods.world.ana, &good)
        .await
        .refused(429, "ThrottlingException", "Rate exceeded");
    pods.ask(&pods.world.bob, &good)
        .await
        .refused(400, "AccessDeniedException", "");
    pods.ask(&pods.world.bob, &good)
        .await
        .refused(429, "ThrottlingException", "");
}

/// Every answer in metrics, and nothing secret in the catalogue of parameters.
#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let pods = Pods::new().await;
    pods.picker().await;
    pods.ask(&pods.world.ana, &pods.token("owner")).await;
    pods.ask(&pods.world.ana, "a.b.c").await;
    let text = pods.metrics.render();
    for line in [
        r#"countersign_eks_auth_credentials_total{result="no_association"} 1"#,
        r#"countersign_eks_auth_credentials_total{result="invalid_token"} 1"#,
        r#"code="ResourceNotFoundException"} 1"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("orchard"));
    let catalogue = countersign_server::aws::operation_catalogue();
    let row = catalogue
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["service"] == "eks-auth")
        .unwrap();
    assert_eq!(row["parameters"][1]["kind"]["secret"], true);
}

//! What access policies allow, to whom, and from when to when.

use super::*;

fn resource(verb: &str, resource: &str, namespace: &str) -> Value {
    json!({"verb": verb, "resource": resource, "namespace": namespace, "version": "v1"})
}

#[tokio::test]
async fn policies_count_for_whom_authentication_proved_and_for_nobody_else() {
    use AuthorizeResult::{Allow, Error, NoOpinion};
    let served = Served::new().await;
    let cluster = served.cluster("c", AuthenticationMode::Api).await;
    let (arn, id) = served.role("Dev", "/team/").await;
    served.create("c", entry(&arn, Some(&id))).await;
    served
        .associate(
            "c",
            &arn,
            EDIT,
            AccessScope::Namespace(vec!["dev-*".into()]),
        )
        .await;
    let keys = served.session(&arn, "alice").await;
    let accepted = served.review("c", &keys).await.unwrap().outcome.unwrap();
    let alice = user_info(&accepted);
    let allowed = format!(
        "EKS Access Policy: allowed by RoleBinding \"{arn}+{EDIT}/dev-a\" of ClusterRole \"{EDIT}\" to User \"{id}\""
    );
    let no =
        format!("EKS Access Policy: no opinion for \"{id}\" (policies: AmazonEKSEditPolicy@dev-*)");
    let pods = resource("create", "pods", "dev-a");

    // The question, by the real user.
    for (asked, outcome, reason) in [
        (pods.clone(), Allow, &*allowed),
        (resource("create", "pods", "prod"), NoOpinion, &*no),
        (resource("list", "pods", ""), NoOpinion, &*no),
        (json!({"verb": "get", "path": "/metrics"}), NoOpinion, &*no),
        (resource("", "", ""), NoOpinion, &*no),
    ] {
        let ruling = served.ask(&cluster, &alice, &asked);
        assert_eq!(
            (ruling.outcome, &*ruling.reason),
            (outcome, reason),
            "{asked}"
        );
        assert_eq!(ruling.principal_id.as_deref(), Some(&*id));
        assert_eq!(ruling.error, "");
        let status = ruling.status();
        assert!(!status.denied, "never");
    }

    // The same question by who only says so.
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut user = alice.clone();
        edit(&mut user);
        user
    };
    let lower = |user: &mut Value| {
        let extra = user["extra"].as_object().unwrap().clone();
        user["extra"] = extra
            .into_iter()
            .map(|(key, value)| (key.to_ascii_lowercase(), value))
            .collect::<serde_json::Map<_, _>>()
            .into();
    };
    let other = |user: &mut Value| user["extra"]["principalid"] = json!(["AROAOTHER"]);
    let cases: Vec<(&str, Value, AuthorizeResult)> = vec![
        ("as authenticated", alice.clone(), Allow),
        ("over a front proxy", edited(&lower), Allow),
        (
            "over an old front proxy, without uid",
            edited(&|user| {
                lower(user);
                user["uid"] = "".into();
            }),
            Allow,
        ),
        (
            "impersonated, without an assertion",
            edited(&|user| {
                lower(user);
                user["extra"]
                    .as_object_mut()
                    .unwrap()
                    .remove("countersign.dev/assertion");
            }),
            NoOpinion,
        ),
        (
            "impersonated, with an assertion for somebody else",
            edited(&|user| {
                lower(user);
                other(user);
            }),
            NoOpinion,
        ),
        (
            "impersonated under another name",
            edited(&|user| {
                lower(user);
                user["user"] = "mallory".into();
            }),
            NoOpinion,
        ),
        (
            "with the uid of somebody else",
            edited(&|user| user["uid"] = "aws-iam-authenticator:111122223333:AROAOTHER".into()),
            NoOpinion,
        ),
        (
            "with another kind of uid",
            edited(&|user| user["uid"] = format!("x:{id}").into()),
            NoOpinion,
        ),
        (
            "with two ids",
            edited(&|user| user["extra"]["principalId"] = json!([id, "AROAOTHER"])),
            NoOpinion,
        ),
        (
            "a service account",
            json!({"user": "system:serviceaccount:dev-a:default", "groups": ["system:serviceaccounts"]}),
            NoOpinion,
        ),
        ("only the name", json!({"user": alice["user"]}), NoOpinion),
    ];
    for (who, user, outcome) in &cases {
        let ruling = served.ask(&cluster, user, &pods);
        assert_eq!(ruling.outcome, *outcome, "{who}: {}", ruling.reason);
        assert_eq!(ruling.error, "", "{who}");
    }
    for (delegated, outcome) in [(Delegated::Trust, Allow), (Delegated::Refuse, NoOpinion)] {
        let authorizer = authorizer(&served.world, delegated);
        let user = edited(&|user| {
            lower(user);
            user["extra"]
                .as_object_mut()
                .unwrap()
                .remove("countersign.dev/assertion");
        });
        let ruling = authorizer.decide(&cluster, &sar(&user, &pods), now());
        assert_eq!(ruling.outcome, outcome, "{delegated:?}");
        let own = authorizer.decide(&cluster, &sar(&alice, &pods), now());
        assert_eq!(own.outcome, Allow, "{delegated:?}");
    }
    // An assertion is for one cluster and two hours at most.
    let second = served.cluster("d", AuthenticationMode::Api).await;
    served.create("d", entry(&arn, Some(&id))).await;
    served
        .associate("d", &arn, EDIT, AccessScope::Cluster)
        .await;
    let proxied = edited(&lower);
    assert_eq!(served.ask(&second, &alice, &pods).outcome, Allow);
    assert_eq!(served.ask(&second, &proxied, &pods).outcome, NoOpinion);
    let later = served
        .authorizer
        .decide(&cluster, &sar(&proxied, &pods), after(2 * 3600));
    assert_eq!(later.outcome, NoOpinion);

    // Nothing is asked, or two things.
    let mut both = sar(&alice, &pods);
    both.spec.non_resource = Some(Default::default());
    let mut none = sar(&alice, &pods);
    none.spec.resource = None;
    for review in [both, none] {
        let ruling = served.authorizer.decide(&cluster, &review, now());
        assert_eq!((ruling.outcome, ruling.reason), (Error, String::new()));
        assert!(
            ruling.error.starts_with("exactly one of"),
            "{}",
            ruling.error
        );
    }
}

#[tokio::test]
async fn what_changes_is_in_force_with_the_next_question() {
    use AuthorizeResult::{Allow, Error, NoOpinion};
    let served = Served::new().await;
    let cluster = served.cluster("c", AuthenticationMode::ConfigMap).await;
    let account = served.world.account;
    let directory = &served.world.directory;
    let (arn, id) = served.role("Dev", "/").await;
    let user = json!({
        "user": "dev", "uid": format!("aws-iam-authenticator:111122223333:{id}"),
        "extra": {"principalId": [id]},
    });
    let asked = resource("get", "pods", "dev");
    let ask = || {
        let ruling = served.ask(&cluster, &user, &asked);
        (ruling.outcome, ruling.reason)
    };
    assert_eq!(ask(), (NoOpinion, String::new()), "no entries in this mode");
    served
        .change_mode("c", AuthenticationMode::ApiAndConfigMap)
        .await;
    let nobody = format!("EKS Access Policy: no opinion for \"{id}\" (no access entry)");
    assert_eq!(ask(), (NoOpinion, nobody));
    served.create("c", entry(&arn, Some(&id))).await;
    let none = format!("EKS Access Policy: no opinion for \"{id}\" (policies: none)");
    assert_eq!(ask(), (NoOpinion, none.clone()));
    served
        .associate("c", &arn, VIEW, AccessScope::Cluster)
        .await;
    let allowed = format!(
        "EKS Access Policy: allowed by ClusterRoleBinding \"{arn}+{VIEW}\" of ClusterRole \"{VIEW}\" to User \"{id}\""
    );
    assert_eq!(ask(), (Allow, allowed));
    let scope = AccessScope::Namespace(vec!["other".into()]);
    served.associate("c", &arn, VIEW, scope).await;
    assert_eq!(ask().0, NoOpinion);
    served
        .associate("c", &arn, VIEW, AccessScope::Cluster)
        .await;
    assert_eq!(ask().0, Allow);
    let place = place("c", account);
    let gone = directory.disassociate_access_policy(place, &arn, VIEW, now());
    gone.await.unwrap();
    assert_eq!(ask(), (NoOpinion, none));
    served
        .associate("c", &arn, VIEW, AccessScope::Cluster)
        .await;
    // The principal is made again: its entry is dead for the authorizer too.
    let stranger = json!({"user": "dev", "extra": {"principalId": ["AROAOTHER"]}});
    assert_eq!(served.ask(&cluster, &stranger, &asked).outcome, NoOpinion);
    assert_eq!(ask().0, Allow);
    let deleted = directory.delete_access_entry(place, &arn, now());
    deleted.await.unwrap();
    assert_eq!(ask().0, NoOpinion);
    let deleted = directory.delete_cluster(place, SignedDuration::ZERO, now());
    deleted.await.unwrap();
    let ruling = served.ask(&cluster, &user, &asked);
    assert_eq!(ruling.outcome, Error);
    assert!(ruling.error.contains("deleted"), "{}", ruling.error);
    let unknown = Registered::Id("0123".into());
    assert_eq!(served.ask(&unknown, &user, &asked).outcome, Error);
}

const CUSTOM: &str = "policies:\n- name: WidgetReader\n  rules:\n  - {apiGroups: [example.com], resources: [widgets], verbs: [get, list]}\n";

#[tokio::test]
async fn custom_policies_are_followed_and_a_broken_file_leaves_the_last_good_one() {
    let served = Served::new().await;
    let cluster = served.cluster("c", AuthenticationMode::Api).await;
    let (arn, id) = served.role("Dev", "/").await;
    served.create("c", entry(&arn, Some(&id))).await;
    let policy = "arn:aws:eks::111122223333:cluster-access-policy/WidgetReader";
    served
        .associate("c", &arn, policy, AccessScope::Cluster)
        .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policies.yaml");
    assert!(
        AccessPolicies::load(&file).is_err(),
        "has to be there at the start"
    );
    std::fs::write(&file, CUSTOM).unwrap();
    let policies = Arc::new(AccessPolicies::load(&file).unwrap());
    let authorizer = Authorizer::new(AuthorizerOptions {
        directory: Some(served.world.directory.clone()),
        store: None,
        policies: Arc::clone(&policies),
        aggregation: Aggregation::default(),
        delegated: Delegated::Assertion,
    });
    let user = json!({"user": "dev", "extra": {"principalId": [id]}});
    let may = |verb: &str| {
        let asked =
            json!({"verb": verb, "group": "example.com", "resource": "widgets", "namespace": "a"});
        authorizer
            .decide(&cluster, &sar(&user, &asked), now())
            .outcome
            == AuthorizeResult::Allow
    };
    let report = || {
        let mut report = Report::default();
        policies.report(&mut report);
        (report.is_ready(), report.render(true))
    };
    assert_eq!((may("list"), may("delete")), (true, false));
    assert!(!policies.reload(now()), "nothing changed");
    assert!(
        report().1.contains("[+]access-policies ok"),
        "{}",
        report().1
    );

    std::fs::write(&file, CUSTOM.replace("get, list", "get, delete")).unwrap();
    assert!(policies.reload(now()));
    assert_eq!((may("list"), may("delete")), (false, true));

    for (broken, wanted) in [
        (CUSTOM.replace("verbs:", "verb:"), "policies.yaml:"),
        (
            CUSTOM.replace("WidgetReader", "AmazonEKSViewPolicy"),
            "AmazonEKSViewPolicy",
        ),
        ("- [".to_owned(), "policies.yaml"),
    ] {
        std::fs::write(&file, &broken).unwrap();
        assert!(!policies.reload(now()));
        assert_eq!(
            (may("list"), may("delete")),
            (false, true),
            "the last good one"
        );
        let (ready, text) = report();
        assert!(ready, "a broken file sends no reviews elsewhere");
        assert!(
            text.contains("[!]access-policies warning: stale since"),
            "{text}"
        );
        assert!(text.contains(wanted), "{text}");
        assert!(AccessPolicies::load(&file).is_err());
    }
    std::fs::remove_file(&file).unwrap();
    assert!(!policies.reload(now()));
    assert!(may("delete"));
    let health = policies.health();
    assert_eq!((health.reloads, health.refused), (2, 4));
    std::fs::write(&file, CUSTOM).unwrap();
    assert!(policies.reload(now()));
    assert_eq!((may("list"), policies.health().problem), (true, None));
}

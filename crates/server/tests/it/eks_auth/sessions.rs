//! What associations say of sessions beyond what EKS knows, and patterns of names (Pod Identity spec, sections 5.2, 6 and 9).

use countersign_server::webhook::mutate::{AssociationSource as _, StoredAssociations};
use countersign_session::{PodSessions, PodTag};

use super::*;

const FAR_ACCOUNT: &str = "444455556666";

fn tag(key: &str, value: &str) -> countersign_arn::Tag {
    countersign_arn::Tag {
        key: key.into(),
        value: value.into(),
    }
}

/// The tags of a session, and whether each is transitive.
fn tags(session: &SessionRecord) -> Vec<(String, String)> {
    let tags = session.tags.iter().inspect(|tag| assert!(tag.transitive));
    tags.map(|tag| (tag.tag.key.to_string(), tag.tag.value.to_string()))
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn session_name(answer: &Value) -> String {
    let arn = answer["assumedRoleUser"]["arn"].as_str().unwrap();
    arn.rsplit('/').next().unwrap().to_owned()
}

impl Pods {
    /// Another association of `orchard/picker`, in the place of the one before.
    async fn replaced(&self, role: &str, change: impl FnOnce(&mut NewPodIdentityAssociation)) {
        let snapshot = self.world.directory.snapshot();
        let account = "111122223333".parse().unwrap();
        let cluster = &snapshot
            .cluster(account, "us-east-1", CLUSTER)
            .unwrap()
            .record;
        if let Some(known) = snapshot.pod_identity_association(&cluster.id, "orchard", "picker") {
            let place = Self::place("111122223333", CLUSTER);
            let id = &known.record.id;
            let deleted =
                self.world
                    .directory
                    .delete_pod_identity_association(place, id, None, now());
            deleted.await.unwrap();
        }
        self.associate("picker", role, change).await;
    }

    fn has_pod(&self, uid: &str, labels: &[(&str, &str)]) {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let pod = PodLabels {
            uid: uid.to_owned(),
            labels,
        };
        self.api_server.pod.lock().unwrap().replace(pod);
    }

    async fn picked(&self) -> Reply {
        self.ask(&self.world.ana, &self.token("picker")).await
    }
}

#[tokio::test]
async fn sessions_are_called_tagged_and_last_as_their_association_says() {
    let pods = Pods::new().await;
    let role = pods
        .role("111122223333", "reader", &trusts_pods(BOTH, ""))
        .await;
    let target = pods
        .role(
            FAR_ACCOUNT,
            "target",
            &trusts("111122223333", r#"["sts:AssumeRole","sts:TagSession"]"#, ""),
        )
        .await;
    pods.world.allow_role("reader", ALL).await;
    let none = PodSessions::default();
    let six = [
        ("eks-cluster-arn", CLUSTER_ARN),
        ("eks-cluster-name", CLUSTER),
        ("kubernetes-namespace", "orchard"),
        ("kubernetes-service-account", "picker"),
        ("kubernetes-pod-name", "picker-0"),
        ("kubernetes-pod-uid", UID),
    ];
    let named = |template: &str| PodSessions {
        name_template: Some(template.into()),
        ..none.clone()
    };
    // Sessions, target role, and the name, the tags and the seconds that come of it.
    let cases = [
        (none.clone(), false, None, six.to_vec(), 21_600),
        (
            named("{cluster}.{namespace}.{service_account}.{pod_uid8}"),
            false,
            Some("orchard.orchard.picker.5b0f6f5e"),
            six.to_vec(),
            21_600,
        ),
        (named("{pod}"), true, Some("picker-0"), six.to_vec(), 3600),
        (
            PodSessions {
                tags: Some(vec![PodTag::Namespace, PodTag::ClusterName]),
                duration_seconds: Some(900),
                ..none.clone()
            },
            false,
            None,
            vec![
                ("eks-cluster-name", CLUSTER),
                ("kubernetes-namespace", "orchard"),
            ],
            900,
        ),
        (
            PodSessions {
                tags: Some(vec![PodTag::PodName]),
                extra_tags: vec![tag("team", "apples and pears"), tag("empty", "")],
                duration_seconds: Some(1800),
                ..named("fixed")
            },
            true,
            Some("fixed"),
            vec![
                ("kubernetes-pod-name", "picker-0"),
                ("team", "apples and pears"),
                ("empty", ""),
            ],
            1800,
        ),
        (
            PodSessions {
                duration_seconds: Some(43_200),
                ..none.clone()
            },
            false,
            None,
            six.to_vec(),
            43_200,
        ),
    ];
    for (sessions, has_target, name, expected, lasting) in cases {
        pods.replaced(&role, |new| {
            new.sessions = sessions.clone();
            new.target_role_arn = has_target.then(|| target.as_str().into());
        })
        .await;
        let answer = pods.picked().await.ok();
        let session = pods.session(&answer);
        assert_eq!(tags(&session), pairs(&expected), "{sessions:?}");
        assert_eq!(seconds(&answer), lasting, "{sessions:?}");
        let got = session_name(&answer);
        match name {
            Some(name) => assert_eq!(got, name),
            None => assert!(got.starts_with("eks-orchard-picker-0-"), "{got}"),
        }
    }
    assert_eq!(
        pods.api_server.asked.load(Ordering::SeqCst),
        0,
        "no label, no question"
    );
    // A name without {uuid} stays, one with it does not.
    for (template, stays) in [("{pod}", true), ("{pod}-{uuid}", false)] {
        pods.replaced(&role, |new| new.sessions = named(template))
            .await;
        let (first, second) = (pods.picked().await.ok(), pods.picked().await.ok());
        assert_eq!(
            session_name(&first) == session_name(&second),
            stays,
            "{template}"
        );
    }
}

#[tokio::test]
async fn trust_policies_see_the_tags_that_the_session_has() {
    let pods = Pods::new().await;
    let on_team = r#"{"StringEquals":{"aws:RequestTag/team":"apples"},"Null":{"aws:RequestTag/kubernetes-pod-uid":"true"}}"#;
    let role = pods
        .role("111122223333", "reader", &trusts_pods(BOTH, on_team))
        .await;
    let team = |value: &str| vec![tag("team", value)];
    let few = Some(vec![PodTag::Namespace]);
    for (tags, extra_tags, allowed) in [
        (few.clone(), team("apples"), true),
        (few.clone(), team("pears"), false),
        (few, Vec::new(), false),
        (None, team("apples"), false),
    ] {
        pods.replaced(&role, |new| {
            new.sessions = PodSessions {
                tags,
                extra_tags,
                ..PodSessions::default()
            };
        })
        .await;
        let reply = pods.picked().await;
        if allowed {
            reply.ok();
        } else {
            reply.refused(
                400,
                "AccessDeniedException",
                "does not have permissions to assume the associated role",
            );
        }
    }
}

#[tokio::test]
async fn tags_from_labels_are_those_of_the_pod_and_never_left_out() {
    let pods = Pods::new().await;
    let role = pods
        .role("111122223333", "reader", &trusts_pods(BOTH, ""))
        .await;
    pods.replaced(&role, |new| {
        new.sessions.tags = Some(vec![PodTag::Namespace]);
        new.sessions.extra_tags = vec![
            tag("app", "{label:app.kubernetes.io/name}"),
            tag("team", "t"),
        ];
    })
    .await;
    // Nobody answers: a fault that passes, and nobody is asked again for a second.
    let unread =
        "The labels of the pod, which its session tags are from, cannot be read at the moment.";
    pods.picked()
        .await
        .refused(503, "ServiceUnavailableException", unread);
    pods.has_pod(UID, &[("app.kubernetes.io/name", "picker")]);
    pods.picked()
        .await
        .refused(503, "ServiceUnavailableException", unread);
    assert_eq!(pods.api_server.asked.load(Ordering::SeqCst), 1);
    // Only for this moment: connections to a store need a clock that goes on.
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    tokio::time::resume();
    let answer = pods.picked().await.ok();
    let expected = [
        ("kubernetes-namespace", "orchard"),
        ("app", "picker"),
        ("team", "t"),
    ];
    assert_eq!(tags(&pods.session(&answer)), pairs(&expected));
    // What is not remembered is asked again.
    pods.has_pod(UID, &[("app.kubernetes.io/name", ""), ("app", "other")]);
    let answer = pods.picked().await.ok();
    let expected = [
        ("kubernetes-namespace", "orchard"),
        ("app", ""),
        ("team", "t"),
    ];
    assert_eq!(tags(&pods.session(&answer)), pairs(&expected));
    pods.has_pod(UID, &[("app", "other")]);
    let lacks = "The pod has no label app.kubernetes.io/name, which the session tag app is from.";
    pods.picked()
        .await
        .refused(400, "InvalidRequestException", lacks);
    // Another pod of the name, and none.
    for uid in ["0f6f5e00-9d4b-4a7e-8a55-0d3a0f3f2c11", ""] {
        pods.has_pod(uid, &[("app.kubernetes.io/name", "picker")]);
        pods.picked()
            .await
            .refused(400, "InvalidTokenException", "its pod is gone");
    }
    // Without tags no question.
    let asked = pods.api_server.asked.load(Ordering::SeqCst);
    pods.replaced(&role, |new| new.disable_session_tags = Some(true))
        .await;
    assert!(tags(&pods.session(&pods.picked().await.ok())).is_empty());
    assert_eq!(pods.api_server.asked.load(Ordering::SeqCst), asked);
}

#[tokio::test]
async fn a_cluster_whose_api_server_is_not_known_gives_no_session_with_labels() {
    let mut pods = Pods::new().await;
    let issuers =
        ClusterIssuers::new(pods.world.directory.clone(), IssuerOptions::default()).unwrap();
    pods.issuers = Arc::new(issuers);
    pods.serve(EksAuthOptions::default());
    let role = pods
        .role("111122223333", "reader", &trusts_pods(BOTH, ""))
        .await;
    pods.replaced(&role, |new| {
        new.sessions.extra_tags = vec![tag("app", "{label:app}")]
    })
    .await;
    pods.picked().await.refused(
        503,
        "ServiceUnavailableException",
        "cannot be read at the moment",
    );
}

#[tokio::test]
async fn the_closest_association_gives_the_role() {
    let pods = Pods::new().await;
    let mut roles = Vec::new();
    for name in ["all", "accounts", "exact"] {
        roles.push(
            pods.role("111122223333", name, &trusts_pods(BOTH, ""))
                .await,
        );
    }
    let trust = trusts(
        "111122223333",
        r#""sts:AssumeRole""#,
        r#"{"StringEquals":{"sts:ExternalId":"us-east-1/111122223333/orchard/orchard/picker"}}"#,
    );
    let target = pods.role(FAR_ACCOUNT, "target", &trust).await;
    pods.world.allow_role("accounts", ALL).await;
    pods.picked().await.refused(
        404,
        "ResourceNotFoundException",
        "service account picker in namespace orchard",
    );
    let role_of = |answer: &Value| {
        let arn = answer["assumedRoleUser"]["arn"].as_str().unwrap();
        arn.split('/').nth(1).unwrap().to_owned()
    };
    let all = pods
        .associate("*", &roles[0], |new| new.namespace = "*".into())
        .await;
    let answer = pods.picked().await.ok();
    assert_eq!(role_of(&answer), "all");
    assert_eq!(
        answer["podIdentityAssociation"]["associationId"],
        all.as_str()
    );
    let session = pods.session(&answer);
    assert_eq!(session.binding.association_id.as_deref(), Some(&*all));
    // The tags are the pod's own names, and so is the external id of the target role.
    assert!(tags(&session).contains(&("kubernetes-namespace".to_owned(), "orchard".to_owned())));
    pods.associate("pick*", &roles[1], |new| {
        new.namespace = "orch*".into();
        new.target_role_arn = Some(target.as_str().into());
        new.disable_session_tags = Some(true);
    })
    .await;
    assert_eq!(role_of(&pods.picked().await.ok()), "target");
    // Admission has it from the same place.
    let admission = StoredAssociations {
        directory: pods.world.directory.clone(),
        cluster: Registered::At {
            account: pods.world.account,
            region: "us-east-1".into(),
            name: CLUSTER.into(),
        },
    };
    let pattern = |name: &str| admission.find("orchard", name).map(|found| found.pattern);
    assert_eq!(pattern("picker"), Some(Some("orch*/pick*".into())));
    assert_eq!(pattern("pears"), Some(Some("*/*".into())));
    pods.associate("picker", &roles[2], |_| ()).await;
    assert_eq!(pattern("picker"), Some(None));
    assert_eq!(role_of(&pods.picked().await.ok()), "exact");
    // Other service accounts have what is left to them.
    let reply = pods.ask(&pods.world.ana, &pods.token("pears")).await;
    assert_eq!(role_of(&reply.ok()), "all");
}

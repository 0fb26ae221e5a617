//! AssumeAnnotatedRoleForPod: roles by the annotations of kube2iam and kiam (imds spec, sections 5.3 and 5.8).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_imds::annotated::Rules;
use countersign_imds::compat::{Compat, Format, Predecessor};
use countersign_server::aws::{AnnotatedCluster, AnnotationsApi, RealSts};
use countersign_sources::kubernetes::ObjectAnnotations;

use super::*;

const ANNOTATED: &str = "/clusters/orchard/assume-annotated-role-for-pod";
const BASE: &str = "arn:aws:iam::111122223333:role/";

/// The annotations that the API server has.
#[derive(Debug, Default)]
struct Objects {
    pod: Mutex<Option<ObjectAnnotations>>,
    namespace: Mutex<BTreeMap<String, String>>,
    /// Questions are answered with this.
    fails: Mutex<Option<TokenApiError>>,
    reads: AtomicUsize,
}

impl Objects {
    /// What the next pod, and its namespace, has; as a pod that was made anew, so that nothing is remembered of it.
    fn say(&self, pod: &[(&str, &str)], namespace: &[(&str, &str)]) {
        *self.pod.lock().unwrap() = Some(ObjectAnnotations {
            uid: UID.into(),
            annotations: annotations(pod),
        });
        *self.namespace.lock().unwrap() = annotations(namespace);
    }
}

fn annotations(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter()
        .map(|(key, value)| (format!("iam.amazonaws.com/{key}"), (*value).to_owned()))
        .collect()
}

impl AnnotationsApi for Objects {
    fn pod<'a>(&'a self, _: &'a str, _: &'a str) -> ApiFuture<'a, Option<ObjectAnnotations>> {
        Box::pin(async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            match *self.fails.lock().unwrap() {
                Some(error) => Err(error),
                None => Ok(self.pod.lock().unwrap().clone()),
            }
        })
    }

    fn namespace<'a>(&'a self, name: &'a str) -> ApiFuture<'a, Option<ObjectAnnotations>> {
        assert_eq!(name, "orchard");
        Box::pin(async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            Ok(Some(ObjectAnnotations {
                uid: "namespace".into(),
                annotations: self.namespace.lock().unwrap().clone(),
            }))
        })
    }
}

fn rules(predecessor: Predecessor, default: Option<&str>) -> Rules {
    Rules {
        compat: Compat {
            predecessor,
            base_arn: Some(BASE.into()),
            format: Format::Regexp,
            default_role: default.map(Into::into),
        },
        accounts: vec![OTHER_ACCOUNT.parse().unwrap()],
    }
}

impl Pods {
    /// The operation with these rules; what was remembered is forgotten.
    fn annotate(&mut self, rules: Rules, objects: &Arc<Objects>, real: Option<RealSts>) {
        let registered = Registered::At {
            account: self.world.account,
            region: "us-east-1".into(),
            name: CLUSTER.into(),
        };
        let api = Arc::<Objects>::clone(objects);
        self.serve(EksAuthOptions {
            annotated: vec![Arc::new(AnnotatedCluster::new(registered, rules, api))],
            real,
            ..EksAuthOptions::default()
        });
    }

    async fn ask_annotated(&self, keys: &Keys, token: &str) -> Reply {
        let body = json!({ "token": token }).to_string();
        let headers = signed(
            keys,
            "eks-auth",
            ("POST", ANNOTATED),
            body.as_bytes(),
            now(),
        );
        self.send(ANNOTATED, body.as_bytes(), &headers).await
    }
}

/// Rows 19 to 23 of the worked examples, and what gives a role.
#[tokio::test]
async fn the_annotation_and_the_namespaces_list_decide() {
    let mut pods = Pods::new().await;
    for name in ["amber", "ab", "a", "plain"] {
        pods.role("111122223333", name, &trusts_pods(BOTH, ""))
            .await;
    }
    let other = countersign_store::NewAccount {
        id: OTHER_ACCOUNT.parse().unwrap(),
        partition: countersign_arn::Partition::Aws,
        alias: None,
        organization_id: None,
    };
    let made = pods.world.directory.create_account(other, now()).await;
    made.unwrap();
    let far = pods
        .role(OTHER_ACCOUNT, "far", &trusts_pods(BOTH, ""))
        .await;
    let unlisted = "arn:aws:iam::777788889999:role/far";
    let objects = Arc::new(Objects::default());
    let good = pods.token("picker");
    let both = format!("{BASE}a|{BASE}b");
    let far_list = format!(r#"["{far}","{unlisted}"]"#);
    let allowed = "allowed-roles";
    let permitted = "permitted";
    use Predecessor::{Kiam, Kube2iam};
    type Case<'a> = (
        Predecessor,
        Option<&'a str>,
        Vec<(&'a str, &'a str)>,
        Vec<(&'a str, &'a str)>,
        Result<&'a str, (u16, &'a str, &'a str)>,
    );
    let not_allowed = |text: &'static str| Err((400, "RoleNotAllowedException", text));
    let nothing = Err((404, "ResourceNotFoundException", "no annotation"));
    let cases: Vec<Case<'_>> = vec![
        (
            Kube2iam,
            None,
            vec![("role", "amber")],
            vec![(allowed, r#"["amber-.*"]"#)],
            not_allowed("does not allow the role"),
        ),
        (
            Kube2iam,
            None,
            vec![("role", "amber")],
            vec![(allowed, r#"["amb"]"#)],
            not_allowed("does not allow the role"),
        ),
        (
            Kiam,
            None,
            vec![("role", "ab")],
            vec![(permitted, &*both)],
            not_allowed("does not allow the role"),
        ),
        (
            Kube2iam,
            None,
            vec![("role", "amber")],
            vec![],
            not_allowed("no list"),
        ),
        (
            Kube2iam,
            None,
            vec![("role", &*far)],
            vec![(allowed, &*far_list)],
            Ok(&*far),
        ),
        // An account that the operator has not listed, whatever the namespace says.
        (
            Kube2iam,
            None,
            vec![("role", unlisted)],
            vec![(allowed, &*far_list)],
            not_allowed("another account"),
        ),
        (
            Kube2iam,
            None,
            vec![("role", "amber")],
            vec![(allowed, r#"["amb.*"]"#)],
            Ok("amber"),
        ),
        (
            Kiam,
            None,
            vec![("role", "a")],
            vec![(permitted, &*both)],
            Ok("a"),
        ),
        // The list of the other predecessor is none.
        (
            Kiam,
            None,
            vec![("role", "a")],
            vec![(allowed, r#"["a"]"#)],
            not_allowed("no list"),
        ),
        (
            Kube2iam,
            None,
            vec![],
            vec![(allowed, r#"[".*"]"#)],
            nothing,
        ),
        (Kube2iam, Some("plain"), vec![], vec![], Ok("plain")),
        (
            Kube2iam,
            Some("plain"),
            vec![("role", "amber")],
            vec![],
            not_allowed("no list"),
        ),
        (
            Kube2iam,
            None,
            vec![("role", "amber"), ("external-id", "x")],
            vec![(allowed, r#"["amber"]"#)],
            not_allowed("external id"),
        ),
        // Allowed, and not there.
        (
            Kube2iam,
            None,
            vec![("role", "amber-9")],
            vec![(allowed, r#"["amber.*"]"#)],
            Err((400, "AccessDeniedException", "associated role")),
        ),
    ];
    for (style, default, pod, namespace, expected) in cases {
        pods.annotate(rules(style, default), &objects, None);
        objects.say(&pod, &namespace);
        let reply = pods.ask_annotated(&pods.world.ana, &good).await;
        match expected {
            Ok(shown) => {
                let answer = reply.ok();
                assert_eq!(answer["annotatedRole"]["name"], shown);
                let arn = answer["annotatedRole"]["roleArn"].as_str().unwrap();
                assert!(arn.ends_with(shown), "{arn}");
                let name = arn.rsplit('/').next().unwrap();
                let session = answer["assumedRoleUser"]["arn"].as_str().unwrap();
                assert!(
                    session.contains(&format!(":assumed-role/{name}/eks-orchard-picker-0-")),
                    "{session}"
                );
                assert_eq!(
                    answer["annotatedRole"]["isDefault"],
                    json!(default.is_some() && pod.is_empty())
                );
                assert_eq!(
                    answer["subject"],
                    json!({"namespace": "orchard", "serviceAccount": "picker"})
                );
                assert_eq!(seconds(&answer), 3600);
                let tags = pods.session(&answer).tags;
                let tags: Vec<_> = tags.iter().map(|tag| &*tag.tag.key).collect();
                assert_eq!(tags.len(), 6, "{tags:?}");
            }
            Err((status, code, message)) => reply.refused(status, code, message),
        }
    }
    let text = pods.metrics.render();
    for reason in ["role_not_allowed", "no_annotated_role", "role_refuses"] {
        assert!(
            text.contains(&format!(
                "eks_auth_credentials_total{{result=\"{reason}\"}}"
            )),
            "{reason}: {text}"
        );
    }
}

#[tokio::test]
async fn session_name_and_external_id_come_from_the_pods_annotations() {
    let mut pods = Pods::new().await;
    let condition = r#"{"StringEquals":{"sts:ExternalId":"tenant-7","sts:RoleSessionName":"kiam-night","aws:RequestTag/kubernetes-namespace":"orchard","aws:ResourceAccount":"111122223333"}}"#;
    pods.role("111122223333", "reader", &trusts_pods(BOTH, condition))
        .await;
    let objects = Arc::new(Objects::default());
    let list = format!("{BASE}reader");
    let good = pods.token("picker");
    for (pod, allowed) in [
        (
            vec![("external-id", "tenant-7"), ("session-name", "night")],
            true,
        ),
        (
            vec![("external-id", "tenant-8"), ("session-name", "night")],
            false,
        ),
        (vec![("session-name", "night")], false),
        (vec![("external-id", "tenant-7")], false),
    ] {
        pods.annotate(rules(Predecessor::Kiam, None), &objects, None);
        let of_pod: Vec<_> = [("role", "reader")]
            .into_iter()
            .chain(pod.clone())
            .collect();
        objects.say(&of_pod, &[("permitted", &list)]);
        let reply = pods.ask_annotated(&pods.world.ana, &good).await;
        if allowed {
            assert_eq!(
                reply.ok()["assumedRoleUser"]["arn"],
                "arn:aws:sts::111122223333:assumed-role/reader/kiam-night"
            );
        } else {
            reply.refused(400, "AccessDeniedException", "associated role");
        }
    }
}

#[tokio::test]
async fn who_may_ask_is_decided_as_for_associations() {
    let mut pods = Pods::new().await;
    pods.role("111122223333", "amber", &trusts_pods(BOTH, ""))
        .await;
    let good = pods.token("picker");
    // Not configured for the cluster.
    pods.ask_annotated(&pods.world.ana, &good).await.refused(
        400,
        "AnnotatedRolesNotConfiguredException",
        "annotatedRoles",
    );
    let objects = Arc::new(Objects::default());
    pods.annotate(rules(Predecessor::Kube2iam, None), &objects, None);
    objects.say(&[("role", "amber")], &[("allowed-roles", r#"["amber"]"#)]);
    // Nobody signed; a caller without the permission; a token of another audience.
    let body = json!({ "token": good }).to_string();
    let reply = pods.send(ANNOTATED, body.as_bytes(), &[]).await;
    assert_eq!(reply.status, 403, "{reply:?}");
    pods.ask_annotated(&pods.world.bob, &good).await.refused(
        400,
        "AccessDeniedException",
        "eks-auth:AssumeAnnotatedRoleForPod",
    );
    let mut claims = pods.claims("picker");
    claims["aud"] = json!(["sts.amazonaws.com"]);
    let other = pods.key.sign(&claims).unwrap();
    pods.ask_annotated(&pods.world.ana, &other).await.refused(
        400,
        "InvalidTokenException",
        "audience",
    );
    // A node asks for its own pods only.
    let keys = pods
        .node("nodes", CLUSTER, EntryType::HybridLinux, "node-b")
        .await;
    pods.ask_annotated(&keys, &good)
        .await
        .refused(400, "AccessDeniedException", "another node");
    assert_eq!(objects.reads.load(Ordering::SeqCst), 0);
    // An agent with a token of its own.
    let agent = pods.agent(|_| ());
    let headers = [("authorization".to_owned(), format!("Bearer {agent}"))];
    let reply = pods.send(ANNOTATED, body.as_bytes(), &headers).await;
    assert_eq!(reply.ok()["annotatedRole"]["name"], "amber");
    let elsewhere =
        pods.agent(|c| c["kubernetes.io"]["node"]["name"] = "ip-10-0-0-2.ec2.internal".into());
    let headers = [("authorization".to_owned(), format!("Bearer {elsewhere}"))];
    pods.send(ANNOTATED, body.as_bytes(), &headers)
        .await
        .refused(400, "AccessDeniedException", "another node");
    // An association goes before annotations.
    pods.picker().await;
    pods.ask_annotated(&pods.world.ana, &good).await.refused(
        404,
        "ResourceNotFoundException",
        "goes before annotations",
    );
}

#[tokio::test]
async fn annotations_are_read_once_for_all_and_of_this_very_pod() {
    let mut pods = Pods::new().await;
    pods.role("111122223333", "amber", &trusts_pods(BOTH, ""))
        .await;
    let objects = Arc::new(Objects::default());
    pods.annotate(rules(Predecessor::Kube2iam, None), &objects, None);
    let good = pods.token("picker");
    // The API server does not answer: that passes, and nobody asks again at once.
    *objects.fails.lock().unwrap() = Some(TokenApiError::Unreachable);
    for _ in 0..3 {
        pods.ask_annotated(&pods.world.ana, &good).await.refused(
            503,
            "ServiceUnavailableException",
            "cannot be read",
        );
    }
    assert_eq!(objects.reads.load(Ordering::SeqCst), 1);
    *objects.fails.lock().unwrap() = None;
    // Another pod has the name by now.
    pods.annotate(rules(Predecessor::Kube2iam, None), &objects, None);
    objects.say(&[("role", "amber")], &[("allowed-roles", r#"["amber"]"#)]);
    objects.pod.lock().unwrap().as_mut().unwrap().uid = "another".into();
    for gone in [false, true] {
        if gone {
            *objects.pod.lock().unwrap() = None;
        }
        pods.ask_annotated(&pods.world.ana, &good).await.refused(
            400,
            "InvalidTokenException",
            "its pod is gone",
        );
    }
    // Ten at once: one read of the pod and one of the namespace.
    pods.annotate(rules(Predecessor::Kube2iam, None), &objects, None);
    objects.say(&[("role", "amber")], &[("allowed-roles", r#"["amber"]"#)]);
    let before = objects.reads.load(Ordering::SeqCst);
    let all = (0..10).map(|_| pods.ask_annotated(&pods.world.ana, &good));
    for reply in futures::future::join_all(all).await {
        reply.ok();
    }
    assert_eq!(objects.reads.load(Ordering::SeqCst) - before, 2);
}

/// The same with `identity: aws`: the embedded server stands for AWS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn annotated_roles_of_real_sts_have_tags_external_id_and_session_name() {
    let aws = real::Aws::start().await;
    let condition = r#"{"StringEquals":{"sts:ExternalId":"tenant-7","sts:RoleSessionName":"kiam-night","aws:RequestTag/kubernetes-namespace":"orchard"}}"#;
    aws.world
        .role("reader", &trusts(ACCOUNT, BOTH, condition))
        .await;
    aws.world.allow_role("reader", ALL).await;
    let mut pods = Pods::new().await;
    let objects = Arc::new(Objects::default());
    let list = format!("{BASE}reader");
    for (id, allowed) in [("tenant-7", true), ("tenant-8", false)] {
        let sts = aws.sts(&aws.world.ana);
        pods.annotate(rules(Predecessor::Kiam, None), &objects, Some(sts));
        objects.say(
            &[
                ("role", "reader"),
                ("session-name", "night"),
                ("external-id", id),
            ],
            &[("permitted", &list)],
        );
        let reply = pods
            .ask_annotated(&pods.world.ana, &pods.token("picker"))
            .await;
        if !allowed {
            reply.refused(400, "AccessDeniedException", "associated role");
            continue;
        }
        let answer = reply.ok();
        let arn = "arn:aws:sts::111122223333:assumed-role/reader/kiam-night";
        assert_eq!(answer["assumedRoleUser"]["arn"], arn);
        assert_eq!(answer["annotatedRole"]["name"], "reader");
        let (_, who) = aws.world.whoami(&keys_of(&answer), Timestamp::now()).await;
        assert_eq!(
            who["GetCallerIdentityResponse"]["GetCallerIdentityResult"]["Arn"],
            arn
        );
    }
}

//! Pods whose service account has no association, on the wire: roles of IRSA, and those that the annotations of kube2iam and kiam
//! name (imds spec, sections 5.3 and 5.8).

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use countersign_agent::FinalCode;
use countersign_agent::guard::capture::{Filter, FilterKind};
use countersign_agent::guard::{
    AccountRole, Compatible, GuardApi, GuardApiError, GuardConfig, Irsa, PodEvent,
    ServiceAccountRoles,
};
use countersign_agent::pods::{Pod, PodTable};
use countersign_agent::{AnnotatedRole, AnnotatedRoles, NoAnnotatedRole};
use countersign_arn::Partition;
use countersign_imds::annotated::{Annotations, Rules};
use countersign_imds::compat::{Compat, Format, Predecessor};
use countersign_imds::decision::{Mode, Settings};
use countersign_imds::harmless::HarmlessPaths;
use countersign_upstream::http::HttpsClient;
use countersign_upstream::web_identity::StsWebIdentity;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::common::namespace::inside;
use crate::common::{Answer, SECRET, SESSION_TOKEN, START, World, claims, claims_of, keys, sign};
use crate::node::{FOUR, LIST, Node, SIX, programs, wait_for};
use crate::world::{at, redirected, runtime, show};

const BASE: &str = "arn:aws:iam::111122223333:role/";
const INFO: &str = "/latest/meta-data/iam/info";

/// What STS does.
#[derive(Clone, Copy)]
enum Sts {
    /// Sessions that end at this second.
    Fine(i64),
    /// The trust policy does not let the pod have the role.
    Denied,
    Down,
}

/// STS over HTTP: the parameters of each call, and an answer.
struct StsServer {
    url: String,
    does: Mutex<Sts>,
    calls: Mutex<Vec<HashMap<String, String>>>,
}

impl StsServer {
    fn start() -> Arc<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Arc::new(Self {
            url: format!("http://{}/", listener.local_addr().unwrap()),
            does: Mutex::new(Sts::Fine(START + 3600)),
            calls: Mutex::default(),
        });
        let serving = Arc::clone(&server);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, serving) = (stream.unwrap(), Arc::clone(&serving));
                std::thread::spawn(move || while serving.answer(&stream).is_some() {});
            }
        });
        server
    }

    fn answer(&self, stream: &std::net::TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        assert!(line.starts_with("POST / "), "{line}");
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(':') else {
                break;
            };
            let name = name.to_ascii_lowercase();
            assert_ne!(name, "authorization", "nobody signs it");
            if name == "content-length" {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body = String::from_utf8(body).unwrap();
        let decoded = |text: &str| {
            let mut parts = text.split('%');
            let first = parts.next().unwrap().to_owned();
            parts.fold(first, |mut all, part| {
                let (code, rest) = part.split_at(2);
                all.push(char::from(u8::from_str_radix(code, 16).unwrap()));
                all + rest
            })
        };
        let given: HashMap<String, String> = body
            .split('&')
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect();
        let role = given["RoleArn"].rsplit('/').next().unwrap().to_owned();
        let session = given["RoleSessionName"].clone();
        let call = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(given);
            calls.len()
        };
        let (status, answer) = match *self.does.lock().unwrap() {
            Sts::Fine(end) => {
                let end = Timestamp::from_second(end).unwrap();
                let answer = format!(
                    "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><AssumedRoleUser><Arn>arn:aws:sts::111122223333:assumed-role/{role}/{session}</Arn><AssumedRoleId>AROAIRSA:{session}</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>ASIAIRSA{call}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{end}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
                );
                (200, answer)
            }
            Sts::Denied => (
                403,
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>".to_owned(),
            ),
            Sts::Down => (503, String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        let mut stream = stream;
        stream.write_all((head + &answer).as_bytes()).ok()
    }

    fn does(&self, what: Sts) {
        *self.does.lock().unwrap() = what;
    }

    fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

/// Service accounts with their annotations, and the tokens of pods.
#[derive(Default)]
struct Cluster {
    accounts: Mutex<HashMap<String, AccountRole>>,
    reads: AtomicUsize,
    events: Mutex<Vec<(String, PodEvent)>>,
}

impl Cluster {
    fn told(&self, pod: &str, event: PodEvent) -> bool {
        let events = self.events.lock().unwrap();
        events.contains(&(pod.to_owned(), event))
    }
}

impl ServiceAccountRoles for Cluster {
    fn role<'a>(
        &'a self,
        namespace: &'a str,
        service_account: &'a str,
    ) -> BoxFuture<'a, Result<Option<AccountRole>, GuardApiError>> {
        assert_eq!(namespace, "orchard");
        self.reads.fetch_add(1, Ordering::SeqCst);
        let role = self.accounts.lock().unwrap().get(service_account).cloned();
        Box::pin(std::future::ready(Ok(role)))
    }
}

impl GuardApi for Cluster {
    fn token<'a>(
        &'a self,
        pod: &'a Pod,
        audience: &'a str,
    ) -> BoxFuture<'a, Result<Zeroizing<String>, GuardApiError>> {
        let number: usize = pod.uid.rsplit('-').next().unwrap().parse().unwrap();
        let mut claims = claims(number, START);
        claims["aud"] = serde_json::json!([audience]);
        Box::pin(std::future::ready(Ok(sign(&claims).into())))
    }

    fn pods(&self) -> BoxFuture<'_, Result<PodTable, GuardApiError>> {
        Box::pin(std::future::ready(Err(GuardApiError("not now".into()))))
    }

    fn event<'a>(&'a self, pod: &'a Pod, event: PodEvent) -> BoxFuture<'a, ()> {
        self.events
            .lock()
            .unwrap()
            .push((pod.name.to_string(), event));
        Box::pin(std::future::ready(()))
    }
}

/// Countersign's EKS Auth, which decides as the real one by annotations that it reads itself.
struct Service {
    rules: Rules,
    /// Annotations of the pod, by its uid, and of the namespace.
    pods: Mutex<HashMap<String, BTreeMap<String, String>>>,
    namespace: Mutex<BTreeMap<String, String>>,
    calls: AtomicUsize,
    offered: bool,
}

impl AnnotatedRoles for Service {
    fn assume<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<AnnotatedRole, NoAnnotatedRole>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let claims = claims_of(token);
        assert_eq!(claims["aud"][0], "pods.eks.amazonaws.com");
        Box::pin(std::future::ready(self.judge(&claims["kubernetes.io"])))
    }
}

impl Service {
    fn new(predecessor: Predecessor, offered: bool) -> Arc<Self> {
        Arc::new(Self {
            rules: Rules {
                compat: Compat {
                    predecessor,
                    base_arn: Some(BASE.into()),
                    format: Format::Regexp,
                    default_role: None,
                },
                accounts: vec!["444455556666".parse().unwrap()],
            },
            pods: Mutex::default(),
            namespace: Mutex::default(),
            calls: AtomicUsize::new(0),
            offered,
        })
    }

    fn judge(&self, of: &Value) -> Result<AnnotatedRole, NoAnnotatedRole> {
        if !self.offered {
            return Err(NoAnnotatedRole::NotOffered("UnknownOperation".into()));
        }
        let pods = self.pods.lock().unwrap();
        let none = BTreeMap::new();
        let uid = of["pod"]["uid"].as_str().unwrap();
        let namespace = self.namespace.lock().unwrap();
        let predecessor = self.rules.compat.predecessor;
        let annotations = Annotations::of(predecessor, pods.get(uid).unwrap_or(&none), &namespace);
        let owner = (Partition::Aws, "111122223333".parse().unwrap());
        let granted = self.rules.grant(owner, annotations).map_err(|why| {
            if why.is_absence() {
                NoAnnotatedRole::None(why.to_string().into())
            } else {
                NoAnnotatedRole::NotAllowed(why.to_string().into())
            }
        })?;
        let account = granted.arn.split(':').nth(4).unwrap();
        let name = granted.arn.rsplit('/').next().unwrap();
        Ok(AnnotatedRole {
            namespace: "orchard".into(),
            service_account: of["serviceaccount"]["name"].as_str().unwrap().into(),
            session_arn: format!("arn:aws:sts::{account}:assumed-role/{name}/eks-{uid}").into(),
            role_id: format!("AROAANNOTATED:eks-{uid}").into(),
            access_key_id: format!("ASIA{uid}").into(),
            expires_at: Timestamp::from_second(START + 3600).unwrap(),
            secret_access_key: Zeroizing::new(SECRET.into()),
            session_token: Zeroizing::new(SESSION_TOKEN.into()),
            shown: granted.shown.into(),
        })
    }
}

async fn world(
    node: &Node,
    cluster: &Arc<Cluster>,
    sts: Option<&StsServer>,
    service: Option<&Arc<Service>>,
) -> World {
    let state = node.directory.path().to_owned();
    let world = World::with(|mut config, watch| {
        let mut guard = GuardConfig::new(Settings {
            mode: Mode::Serve,
            v1: true,
            harmless: HarmlessPaths::default(),
        });
        guard.filter = Some(Filter::new(FilterKind::Nft, vec![]));
        guard.state_dir = state;
        guard.api = Some(Arc::<Cluster>::clone(cluster));
        guard.irsa = sts.map(|sts| {
            let http = HttpsClient::builder().build().unwrap();
            let sts = StsWebIdentity::new(http, sts.url.parse().unwrap()).unwrap();
            Irsa {
                accounts: Arc::<Cluster>::clone(cluster),
                sts: Arc::new(sts),
            }
        });
        guard.compatible = service.map(|service| Compatible {
            predecessor: service.rules.compat.predecessor,
            roles: Arc::<Service>::clone(service),
        });
        config.guard = Some(guard);
        config.pods = Some(watch);
        config.keys = Some(keys());
        config
    })
    .await;
    world.auth.set(Answer::Refuse(FinalCode::ResourceNotFound));
    redirected(&world).await;
    world
}

fn list(node: &Node, base: &str) -> (u16, String) {
    node.curl(1, &[&format!("{base}{LIST}")])
}

fn credentials(node: &Node, role: &str) -> (u16, Value) {
    let url = format!("{FOUR}{LIST}{role}");
    let (status, body) = node.curl(1, &["--path-as-is", &url]);
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

/// Rows 1 to 3 with a role of IRSA, and what happens when it cannot be had.
#[test]
fn service_accounts_get_the_role_of_their_annotation() {
    let name = "annotated::service_accounts_get_the_role_of_their_annotation";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(2);
    let sts = StsServer::start();
    let cluster = Arc::new(Cluster::default());
    let role = |name: &str, audience: Option<&str>| {
        let arn = format!("{BASE}team/{name}");
        AccountRole::of(Some(&arn), audience).unwrap()
    };
    cluster
        .accounts
        .lock()
        .unwrap()
        .insert("picker-1".into(), role("irsa-reader", Some("my.audience")));
    runtime().block_on(async {
        let world = world(&node, &cluster, Some(&sts), None).await;
        show(&world, vec![at(1, 1), at(2, 2)]);
        // Row 1, over both families; a hundred questions are one call.
        for base in [FOUR, SIX] {
            assert_eq!(list(&node, base), (200, "irsa-reader".into()));
        }
        for asked in [
            "irsa-reader",
            "team/irsa-reader",
            &*role("irsa-reader", None).role_arn,
        ] {
            let (status, body) = credentials(&node, asked);
            assert_eq!((status, &body["Code"]), (200, &"Success".into()), "{asked}");
            assert_eq!(body["AccessKeyId"], "ASIAIRSA1");
            assert_eq!(body["SecretAccessKey"], SECRET);
            assert_eq!(body["Expiration"], "2030-01-01T01:00:00Z");
        }
        let (_, info) = node.curl(1, &[&format!("{FOUR}{INFO}")]);
        assert!(info.contains("instance-profile/irsa-reader") && info.contains("AROAIRSA"));
        {
            let calls = sts.calls.lock().unwrap();
            let [call] = calls.as_slice() else {
                panic!("{} calls", calls.len())
            };
            assert_eq!(call["Action"], "AssumeRoleWithWebIdentity");
            assert_eq!(call["RoleArn"], format!("{BASE}team/irsa-reader"));
            assert_eq!(call["RoleSessionName"], "picker-1-0");
            let claims = claims_of(&call["WebIdentityToken"]);
            assert_eq!(claims["aud"][0], "my.audience");
            assert_eq!(claims["kubernetes.io"]["pod"]["uid"], "pod-1");
        }
        // Row 2: the other pod has none. Row 3: another role is not there.
        assert_eq!(node.curl(2, &[&format!("{FOUR}{LIST}")]).0, 404);
        assert_eq!(credentials(&node, "node-role").0, 404);

        // The trust policy refuses.
        cluster
            .accounts
            .lock()
            .unwrap()
            .insert("picker-3".into(), role("refusing", None));
        sts.does(Sts::Denied);
        show(&world, vec![at(1, 3)]);
        let (status, body) = credentials(&node, "refusing");
        assert_eq!(
            (status, &body["Code"]),
            (500, &"AssumeRoleUnauthorizedAccess".into())
        );
        assert!(cluster.told("picker-3-0", PodEvent::RoleForbidden));
        // STS does not answer, and nothing is kept.
        cluster
            .accounts
            .lock()
            .unwrap()
            .insert("picker-4".into(), role("irsa-reader", None));
        sts.does(Sts::Down);
        show(&world, vec![at(1, 4)]);
        let (status, body) = credentials(&node, "irsa-reader");
        assert_eq!((status, &body["Code"]), (503, &"ServiceUnavailable".into()));
        assert!(cluster.told("picker-4-0", PodEvent::CredentialError));

        // Kept credentials are renewed when less than five minutes are left, and are good without STS until a minute is left.
        sts.does(Sts::Fine(START + 3600));
        wait_for("credentials", || list(&node, FOUR).0 == 200);
        let before = sts.count();
        world.clock.jump(3600 - 240);
        sts.does(Sts::Down);
        assert_eq!(credentials(&node, "irsa-reader").0, 200);
        assert!(sts.count() > before, "they were to be renewed");
        sts.does(Sts::Fine(START + 7200));
        wait_for("renewed credentials", || {
            credentials(&node, "irsa-reader").1["Expiration"] == "2030-01-01T02:00:00Z"
        });
        sts.does(Sts::Down);
        world.clock.jump(3600 + 200);
        wait_for("the end of the credentials", || {
            credentials(&node, "irsa-reader").0 == 503
        });
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}

/// An association goes before the annotation as soon as it is there.
#[test]
fn an_association_takes_over_from_an_annotation() {
    let name = "annotated::an_association_takes_over_from_an_annotation";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    let sts = StsServer::start();
    let cluster = Arc::new(Cluster::default());
    let arn = format!("{BASE}irsa-reader");
    let role = AccountRole::of(Some(&arn), None).unwrap();
    cluster
        .accounts
        .lock()
        .unwrap()
        .insert("picker-1".into(), role);
    runtime().block_on(async {
        let world = world(&node, &cluster, Some(&sts), None).await;
        show(&world, vec![at(1, 1)]);
        assert_eq!(list(&node, FOUR), (200, "irsa-reader".into()));
        world.auth.set(Answer::Credentials { seconds: 21_600 });
        let until = Instant::now() + Duration::from_secs(60);
        while list(&node, FOUR) != (200, "orchard-reader".into()) {
            assert!(Instant::now() < until, "the association does not count");
            std::thread::sleep(Duration::from_millis(500));
        }
        // And when it may not be assumed, nothing else takes its place.
        world.auth.set(Answer::Refuse(FinalCode::AccessDenied));
        world.agent.association_changed("orchard", "picker-1");
        wait_for("the refusal", || list(&node, FOUR).0 == 500);
        world.agent.stop().await;
    });
}

fn annotated(number: usize, uid: usize, of: &[(&str, &str)], service: &Service) -> Pod {
    let mut pod = at(number, uid);
    for (key, value) in of {
        let key = format!("iam.amazonaws.com/{key}");
        pod.annotations.insert(key.as_str().into(), (*value).into());
        service
            .pods
            .lock()
            .unwrap()
            .entry(pod.uid.to_string())
            .or_default()
            .insert(key, (*value).to_owned());
    }
    pod
}

/// Rows 1 to 3 and 19 to 23 with the annotations of kube2iam and kiam.
#[test]
fn pods_get_the_role_that_their_annotation_names_and_their_namespace_allows() {
    let name =
        "annotated::pods_get_the_role_that_their_annotation_names_and_their_namespace_allows";
    if !programs(name) || !inside(name) {
        return;
    }
    use Predecessor::{Kiam, Kube2iam};
    let both = format!("{BASE}a|{BASE}b");
    let far = "arn:aws:iam::444455556666:role/far";
    let far_list = format!(r#"["{far}"]"#);
    // Role, list; what the list path answers.
    let rows = |style| match style {
        Kube2iam => vec![
            (Some("amber"), Some(r#"["amb.*"]"#), (200, "amber")),
            (
                Some("team/amber"),
                Some(r#"["team/.*"]"#),
                (200, "team/amber"),
            ),
            // Rows 19, 20, 22, 23.
            (Some("amber"), Some(r#"["amber-.*"]"#), (404, "")),
            (Some("amber"), Some(r#"["amb"]"#), (404, "")),
            (Some("amber"), None, (404, "")),
            (Some(far), Some(&*far_list), (200, far)),
            (None, Some(r#"[".*"]"#), (404, "")),
        ],
        Kiam => vec![
            (Some("a"), Some(&*both), (200, "a")),
            // Row 21.
            (Some("ab"), Some(&*both), (404, "")),
            (Some("a"), None, (404, "")),
        ],
    };
    let node = Node::new(1);
    runtime().block_on(async {
        let mut uid = 0;
        for style in [Kube2iam, Kiam] {
            let cluster = Arc::new(Cluster::default());
            let service = Service::new(style, true);
            let world = world(&node, &cluster, None, Some(&service)).await;
            for (role, list_of, (status, shown)) in rows(style) {
                uid += 1;
                let key = match style {
                    Kube2iam => "iam.amazonaws.com/allowed-roles",
                    Kiam => "iam.amazonaws.com/permitted",
                };
                let lists = list_of.map(|list| (key.to_owned(), list.to_owned()));
                *service.namespace.lock().unwrap() = lists.into_iter().collect();
                let of: Vec<_> = role.map(|role| ("role", role)).into_iter().collect();
                show(&world, vec![annotated(1, uid, &of, &service)]);
                let (got, body) = list(&node, FOUR);
                assert_eq!(got, status, "{style:?} {role:?} {list_of:?}: {body}");
                let told = cluster.told(&format!("picker-{uid}-0"), PodEvent::RoleNotAllowed);
                assert_eq!(
                    told,
                    status == 404 && role.is_some(),
                    "{role:?} {list_of:?}"
                );
                if status != 200 {
                    assert!(body.contains("NotFound"), "{body}");
                    continue;
                }
                assert_eq!(body, shown);
                let (status, body) = credentials(&node, shown);
                assert_eq!((status, &body["Code"]), (200, &"Success".into()));
                assert_eq!(body["AccessKeyId"], format!("ASIApod-{uid}"));
                // Row 3, and kube2iam's answer to it.
                let other = if style == Kube2iam { 403 } else { 404 };
                assert_eq!(credentials(&node, "node-role").0, other, "{style:?}");
                assert_eq!(service.calls.load(Ordering::SeqCst), uid_calls(&service));
            }
            let text = world.agent.metrics().render();
            assert!(
                text.contains("countersign_imds_blocked_total{reason=\"role_not_allowed\"}"),
                "{text}"
            );
            world.agent.stop().await;
        }
    });
    assert_eq!(node.packets(), 0);
}

/// One call for each pod that asked, however often it did.
fn uid_calls(service: &Service) -> usize {
    service.pods.lock().unwrap().len()
}

/// A changed annotation counts at once, and a service without the operation gives nobody a role.
#[test]
fn annotations_that_change_and_services_that_do_not_know_them() {
    let name = "annotated::annotations_that_change_and_services_that_do_not_know_them";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(2);
    runtime().block_on(async {
        let cluster = Arc::new(Cluster::default());
        let service = Service::new(Predecessor::Kube2iam, true);
        *service.namespace.lock().unwrap() = BTreeMap::from([(
            "iam.amazonaws.com/allowed-roles".to_owned(),
            r#"["amber","ruby"]"#.to_owned(),
        )]);
        let world = world(&node, &cluster, None, Some(&service)).await;
        for (role, id) in [("amber", "one"), ("ruby", "one"), ("ruby", "two")] {
            let before = service.calls.load(Ordering::SeqCst);
            let of = [("role", role), ("external-id", id)];
            show(&world, vec![annotated(1, 1, &of, &service)]);
            wait_for("the role of the annotation", || {
                list(&node, FOUR) == (200, role.to_owned())
            });
            assert!(service.calls.load(Ordering::SeqCst) > before, "{role} {id}");
        }
        world.agent.stop().await;
    });
    runtime().block_on(async {
        let cluster = Arc::new(Cluster::default());
        let service = Service::new(Predecessor::Kiam, false);
        let world = world(&node, &cluster, None, Some(&service)).await;
        // Who names a role cannot have it; who names none has none.
        show(
            &world,
            vec![annotated(1, 1, &[("role", "amber")], &service), at(2, 2)],
        );
        assert_eq!(list(&node, FOUR).0, 503);
        assert_eq!(node.curl(2, &[&format!("{FOUR}{LIST}")]).0, 404);
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}

//! EKS Auth in process: pods' tokens in, credentials or the reason why not out (EKS API spec, section 11; Pod Identity spec,
//! sections 5, 6 and 9.1).

mod abac;
mod agents;
mod clients;
mod real;
mod recorded;
mod refusals;
mod sessions;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use countersign_access::EntryType;
use countersign_oidc::{Algorithm, KeySet, SigningKey};
use countersign_server::aws::{AwsApi, EksAuthOptions};
use countersign_server::issuer::{ApiFuture, ClusterApi, ClusterIssuers, IssuerOptions};
use countersign_server::metrics::Metrics;
use countersign_server::webhook::entries::Registered;
use countersign_session::{SessionRecord, open};
use countersign_sources::kubernetes::{PodLabels, TokenApiError, TokenVerdict};
use countersign_store::records::{AuthenticationMode, Creator, TrustPolicy};
use countersign_store::{
    ClusterPlace, NewAccessEntry, NewCluster, NewPodIdentityAssociation, NewRole,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::*;

const CLUSTER: &str = "orchard";
const CLUSTER_ARN: &str = "arn:aws:eks:us-east-1:111122223333:cluster/orchard";
const PATH: &str = "/clusters/orchard/assume-role-for-pod-identity";
const PODS: &str = "pods.eks.amazonaws.com";
const NODE: &str = "ip-10-0-0-1.ec2.internal";
const UID: &str = "5b0f6f5e-9d4b-4a7e-8a55-0d3a0f3f2c11";
const OTHER_ACCOUNT: &str = "109876543210";

/// A trust policy for EKS Pod Identity.
fn trusts_pods(actions: &str, condition: &str) -> String {
    let condition = if condition.is_empty() {
        String::new()
    } else {
        format!(r#","Condition":{condition}"#)
    };
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Service":"{PODS}"}},"Action":{actions}{condition}}}]}}"#
    )
}

const BOTH: &str = r#"["sts:AssumeRole","sts:TagSession"]"#;

/// An API server whose verdict can be changed.
#[derive(Debug, Default)]
struct Api {
    /// Why tokens are refused; nothing for those that are good.
    gone: Mutex<Option<Result<String, ()>>>,
    /// The one pod that it knows; it does not answer about pods without it.
    pod: Mutex<Option<PodLabels>>,
    /// How often it was asked for a pod.
    asked: AtomicUsize,
}

impl ClusterApi for Api {
    fn key_set(&self) -> ApiFuture<'_, Vec<u8>> {
        Box::pin(async { Err(TokenApiError::Unreachable) })
    }

    fn review<'a>(&'a self, token: &'a str, _: &'a [Box<str>]) -> ApiFuture<'a, TokenVerdict> {
        let gone = self.gone.lock().unwrap().clone();
        let payload = token.split('.').nth(1).unwrap().to_owned();
        Box::pin(async move {
            use base64::Engine as _;
            let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
                .decode(payload)
                .unwrap();
            let claims: Value = serde_json::from_slice(&claims).unwrap();
            match gone {
                None => Ok(TokenVerdict {
                    authenticated: true,
                    username: claims["sub"].as_str().unwrap().to_owned(),
                    reason: String::new(),
                }),
                Some(Ok(reason)) => Ok(TokenVerdict {
                    authenticated: false,
                    username: String::new(),
                    reason,
                }),
                Some(Err(())) => Err(TokenApiError::Unreachable),
            }
        })
    }

    fn pod_labels<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> ApiFuture<'a, Option<PodLabels>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert_eq!((namespace, name), ("orchard", "picker-0"));
        let pod = self.pod.lock().unwrap().clone();
        Box::pin(async move {
            match pod {
                // A pod without a uid stands for none.
                Some(pod) if pod.uid.is_empty() => Ok(None),
                Some(pod) => Ok(Some(pod)),
                None => Err(TokenApiError::Unreachable),
            }
        })
    }
}

/// A world with a cluster that has keys, and `ana`, who may do everything, as the caller.
struct Pods {
    world: World,
    key: SigningKey,
    issuers: Arc<ClusterIssuers>,
    api_server: Arc<Api>,
    metrics: Arc<Metrics>,
}

/// What was answered.
#[derive(Debug)]
struct Reply {
    status: u16,
    code: String,
    body: Value,
}

impl Reply {
    #[track_caller]
    fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.body
    }

    #[track_caller]
    fn refused(&self, status: u16, code: &str, message: &str) {
        assert_eq!((self.status, &*self.code), (status, code), "{self:?}");
        let said = self.body["message"].as_str().unwrap_or_default();
        assert!(said.contains(message), "{message}: {self:?}");
    }
}

impl Pods {
    async fn new() -> Self {
        Self::with(EksAuthOptions::default()).await
    }

    async fn with(options: EksAuthOptions) -> Self {
        let world = World::new().await;
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let api_server = Arc::new(Api::default());
        let metrics = Arc::new(Metrics::new());
        let registered = Registered::At {
            account: world.account,
            region: "us-east-1".into(),
            name: CLUSTER.into(),
        };
        let api: Arc<dyn ClusterApi> = Arc::<Api>::clone(&api_server);
        let issuers = ClusterIssuers::new(
            world.directory.clone(),
            IssuerOptions {
                clusters: vec![(registered, api)],
                ..IssuerOptions::default()
            },
        )
        .unwrap();
        let mut pods = Self {
            world,
            key,
            issuers: Arc::new(issuers),
            api_server,
            metrics,
        };
        pods.serve(options);
        pods.cluster("111122223333", CLUSTER).await;
        pods.keys("111122223333", CLUSTER).await;
        pods
    }

    fn serve(&mut self, options: EksAuthOptions) {
        self.world.api = AwsApi::new(
            Arc::clone(&self.world.keys),
            self.world.directory.clone(),
            Arc::clone(&self.metrics),
            0,
            false,
        )
        .with_issuers(Arc::clone(&self.issuers))
        .with_eks_auth(options);
    }

    async fn cluster(&self, account: &str, name: &str) {
        let creator = Creator {
            principal_arn: format!("arn:aws:iam::{account}:user/ana").into(),
            principal_id: "AIDAEXAMPLE".into(),
        };
        let new = NewCluster {
            authentication_mode: AuthenticationMode::Api,
            bootstrap_creator_admin: false,
            ..NewCluster::new(account.parse().unwrap(), "us-east-1", name, creator)
        };
        self.world
            .directory
            .create_cluster(new, now())
            .await
            .unwrap();
    }

    fn place<'p>(account: &str, name: &'p str) -> ClusterPlace<'p> {
        ClusterPlace {
            account: account.parse().unwrap(),
            region: "us-east-1",
            name,
        }
    }

    /// Makes [`Pods::key`] the one key of a cluster.
    async fn keys(&self, account: &str, name: &str) {
        let keys = KeySet::of([self.key.public().clone()]).unwrap();
        self.world
            .directory
            .add_cluster_keys(Self::place(account, name), &keys, now())
            .await
            .unwrap();
    }

    fn issuer(&self, account: &str, name: &str) -> String {
        let snapshot = self.world.directory.snapshot();
        let cluster = snapshot
            .cluster(account.parse().unwrap(), "us-east-1", name)
            .unwrap();
        self.issuers.issuer_url(&cluster.record)
    }

    /// A role of an account that trusts pods, or anybody else.
    async fn role(&self, account: &str, name: &str, trust: &str) -> String {
        let new = NewRole {
            account: account.parse().unwrap(),
            name: name.into(),
            path: "/".into(),
            trust: TrustPolicy {
                document: trust.into(),
                principals: Vec::new(),
            },
            max_session_duration: 3600,
            description: None,
            tags: Vec::new(),
            boundary: None,
        };
        self.world
            .directory
            .create_role(new, now())
            .await
            .unwrap()
            .arn()
    }

    /// An association of `orchard/ACCOUNT` in the cluster; its id.
    async fn associate(
        &self,
        service_account: &str,
        role: &str,
        change: impl FnOnce(&mut NewPodIdentityAssociation),
    ) -> String {
        let mut new = NewPodIdentityAssociation {
            namespace: "orchard".into(),
            service_account: service_account.into(),
            role_arn: role.into(),
            target_role_arn: None,
            disable_session_tags: None,
            policy: None,
            owner_arn: None,
            sessions: countersign_session::PodSessions::default(),
            tags: Vec::new(),
        };
        change(&mut new);
        let place = Self::place("111122223333", CLUSTER);
        self.world
            .directory
            .create_pod_identity_association(place, new, None, now())
            .await
            .unwrap()
            .done()
            .unwrap()
            .id
            .to_string()
    }

    /// `orchard/picker` with a role that trusts every pod.
    async fn picker(&self) -> String {
        let role = self
            .role("111122223333", "orchard-reader", &trusts_pods(BOTH, ""))
            .await;
        self.associate("picker", &role, |_| ()).await
    }

    /// The claims of a good token of a pod of `orchard/ACCOUNT`.
    fn claims(&self, service_account: &str) -> Value {
        let at = now().as_second();
        json!({
            "iss": self.issuer("111122223333", CLUSTER),
            "sub": format!("system:serviceaccount:orchard:{service_account}"),
            "aud": [PODS], "iat": at - 60, "nbf": at - 60, "exp": at + 86_340, "jti": "t-1",
            "kubernetes.io": {
                "namespace": "orchard",
                "serviceaccount": {"name": service_account, "uid": "0e6f6f5e-9d4b-4a7e-8a55-0d3a0f3f2c22"},
                "pod": {"name": format!("{service_account}-0"), "uid": UID},
                "node": {"name": NODE, "uid": "7c6f6f5e-9d4b-4a7e-8a55-0d3a0f3f2c33"},
            },
        })
    }

    fn token(&self, service_account: &str) -> String {
        self.key.sign(&self.claims(service_account)).unwrap()
    }

    /// One call, signed for EKS Auth.
    async fn ask(&self, keys: &Keys, token: &str) -> Reply {
        let body = json!({ "token": token }).to_string();
        let headers = signed(keys, "eks-auth", ("POST", PATH), body.as_bytes(), now());
        self.send(PATH, body.as_bytes(), &headers).await
    }

    async fn send(&self, path: &str, body: &[u8], headers: &[(String, String)]) -> Reply {
        let (status, headers, bytes) = self.world.send_rest(("POST", path), body, headers).await;
        Reply {
            status,
            code: headers
                .get("x-amzn-errortype")
                .map_or_else(String::new, |code| code.to_str().unwrap().to_owned()),
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    /// The session inside the credentials that were handed out.
    fn session(&self, answer: &Value) -> SessionRecord {
        let text = |name: &str| answer["credentials"][name].as_str().unwrap();
        let snapshot = self.world.directory.snapshot();
        let keys = snapshot.session_keys().unwrap();
        open(
            text("sessionToken").as_bytes(),
            text("accessKeyId"),
            &keys.ring,
            &keys.deployment,
            now(),
        )
        .unwrap()
        .record()
        .clone()
    }

    /// A session of a role with a node's access entry in a cluster, under this session name.
    async fn node(&self, role: &str, cluster: &str, kind: EntryType, session: &str) -> Keys {
        let arn = self.world.role(role, &trusts(ACCOUNT, ASSUME, "")).await;
        self.world.allow_role(role, ALL).await;
        let snapshot = self.world.directory.snapshot();
        let id = &snapshot.role(self.world.account, role).unwrap().record.id;
        let entry = NewAccessEntry {
            principal_arn: arn.as_str().into(),
            principal_id: Some(id.clone()),
            entry_type: kind,
            groups: Vec::new(),
            username: None,
            tags: Vec::new(),
        };
        let place = Self::place("111122223333", cluster);
        self.world
            .directory
            .create_access_entry(place, entry, None, now())
            .await
            .unwrap();
        let name = [("RoleSessionName", session)];
        self.world
            .session(&self.world.ana, &arn, &name, now())
            .await
    }
}

fn keys_of(answer: &Value) -> Keys {
    let text = |name: &str| answer["credentials"][name].as_str().unwrap().to_owned();
    Keys {
        id: text("accessKeyId"),
        secret: text("secretAccessKey"),
        token: Some(text("sessionToken")),
    }
}

fn seconds(answer: &Value) -> i64 {
    let expires = answer["credentials"]["expiration"].as_f64().unwrap();
    Timestamp::from_second(expires as i64).unwrap().as_second() - now().as_second()
}

/// Row 1 of the worked examples.
#[tokio::test]
async fn a_pods_token_becomes_credentials_with_the_six_tags() {
    let pods = Pods::new().await;
    let id = pods.picker().await;
    let answer = pods.ask(&pods.world.ana, &pods.token("picker")).await.ok();
    assert_eq!(
        answer["subject"],
        json!({"namespace": "orchard", "serviceAccount": "picker"})
    );
    assert_eq!(answer["audience"], PODS);
    assert_eq!(
        answer["podIdentityAssociation"],
        json!({
            "associationArn": format!("arn:aws:eks:us-east-1:111122223333:podidentityassociation/orchard/{id}"),
            "associationId": id,
        })
    );
    let arn = answer["assumedRoleUser"]["arn"].as_str().unwrap();
    let uuid = arn
        .strip_prefix("arn:aws:sts::111122223333:assumed-role/orchard-reader/eks-orchard-picker-0-")
        .unwrap();
    assert_eq!(uuid.len(), 36);
    let name = arn.rsplit('/').next().unwrap();
    let role_id = answer["assumedRoleUser"]["assumeRoleId"].as_str().unwrap();
    assert!(role_id.starts_with("AROA") && role_id.ends_with(&format!(":{name}")));
    // Six hours, although the role's sessions of STS last one.
    assert_eq!(seconds(&answer), 21_600);
    assert!(answer["credentials"]["expiration"].is_number());

    let (_, who) = pods.world.whoami(&keys_of(&answer), after(21_599)).await;
    assert_eq!(
        who["GetCallerIdentityResponse"]["GetCallerIdentityResult"]["Arn"],
        arn
    );
    let session = pods.session(&answer);
    let tags: Vec<(&str, &str, bool)> = session
        .tags
        .iter()
        .map(|tag| (&*tag.tag.key, &*tag.tag.value, tag.transitive))
        .collect();
    assert_eq!(
        tags,
        [
            ("eks-cluster-arn", CLUSTER_ARN, true),
            ("eks-cluster-name", CLUSTER, true),
            ("kubernetes-namespace", "orchard", true),
            ("kubernetes-service-account", "picker", true),
            ("kubernetes-pod-name", "picker-0", true),
            ("kubernetes-pod-uid", UID, true),
        ]
    );
    assert_eq!(session.binding.node.as_deref(), Some(NODE));
    assert_eq!(session.binding.association_id.as_deref(), Some(&*id));
    let again = pods.ask(&pods.world.ana, &pods.token("picker")).await.ok();
    assert_ne!(
        again["assumedRoleUser"]["arn"],
        answer["assumedRoleUser"]["arn"]
    );
    assert!(
        pods.metrics
            .render()
            .contains("countersign_eks_auth_credentials_total{result=\"ok\"} 2")
    );
}

/// Rows 7, 8, 9 and 10, and the limits of a chain.
#[tokio::test]
async fn a_target_role_is_assumed_with_the_first_session() {
    let pods = Pods::new().await;
    let other = countersign_store::NewAccount {
        id: OTHER_ACCOUNT.parse().unwrap(),
        partition: countersign_arn::Partition::Aws,
        alias: None,
        organization_id: None,
    };
    pods.world
        .directory
        .create_account(other, now())
        .await
        .unwrap();
    let first = pods
        .role("111122223333", "first", &trusts_pods(BOTH, ""))
        .await;
    let mute = pods
        .role("111122223333", "mute", &trusts_pods(BOTH, ""))
        .await;
    pods.world.allow_role("first", ALL).await;
    let id = |namespace_and_account: &str| {
        format!("us-east-1/111122223333/orchard/{namespace_and_account}")
    };
    let external = |id: &str| format!(r#"{{"StringEquals":{{"sts:ExternalId":"{id}"}}}}"#);
    let tagged = r#"{"StringEquals":{"aws:PrincipalTag/kubernetes-namespace":"orchard","aws:PrincipalTag/eks-cluster-name":"orchard"},"Null":{"sts:ExternalId":"true","aws:RequestTag/kubernetes-namespace":"true"}}"#;
    let cases: [(&str, &str, &str, String, bool, &str); 7] = [
        // account, role, actions, condition, tags disabled, reason of a refusal
        (
            "seven",
            "first",
            ASSUME,
            external(&id("orchard/seven")),
            true,
            "",
        ),
        (
            "eight",
            "first",
            ASSUME,
            external(&id("orchard/other")),
            true,
            "target role",
        ),
        (
            "nine",
            "mute",
            ASSUME,
            external(&id("orchard/nine")),
            true,
            "target role",
        ),
        ("tagged", "first", BOTH, tagged.to_owned(), false, ""),
        // Inherited tags need sts:TagSession as well.
        (
            "untagged",
            "first",
            ASSUME,
            String::new(),
            false,
            "target role",
        ),
        // With tags there is no external id.
        (
            "idle",
            "first",
            BOTH,
            external(&id("orchard/idle")),
            false,
            "target role",
        ),
        ("plain", "first", ASSUME, String::new(), true, ""),
    ];
    for (account, role, actions, condition, disabled, reason) in cases {
        let target = pods
            .role(
                OTHER_ACCOUNT,
                account,
                &trusts("arn:aws:iam::111122223333:root", actions, &condition),
            )
            .await;
        let role = if role == "first" { &first } else { &mute };
        pods.associate(account, role, |new| {
            new.target_role_arn = Some(target.as_str().into());
            new.disable_session_tags = disabled.then_some(true);
        })
        .await;
        let reply = pods.ask(&pods.world.ana, &pods.token(account)).await;
        if !reason.is_empty() {
            reply.refused(400, "AccessDeniedException", reason);
            continue;
        }
        let answer = reply.ok();
        let arn = answer["assumedRoleUser"]["arn"].as_str().unwrap();
        let expected = format!("arn:aws:sts::{OTHER_ACCOUNT}:assumed-role/{account}/eks-orchard-");
        assert!(arn.starts_with(&expected), "{arn}");
        assert_eq!(seconds(&answer), 3600, "{account}");
        let session = pods.session(&answer);
        assert_eq!(
            (session.depth, session.tags.len()),
            (2, if disabled { 0 } else { 6 })
        );
        assert!(
            session
                .tags
                .iter()
                .all(|tag| tag.transitive && tag.inherited)
        );
    }
}

#[tokio::test]
async fn a_session_policy_limits_the_last_session_only() {
    let pods = Pods::new().await;
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:GetRole","Resource":"*"}]}"#;
    let role = pods
        .role("111122223333", "first", &trusts_pods(BOTH, ""))
        .await;
    pods.world.allow_role("first", ALL).await;
    let target = pods
        .role("111122223333", "target", &trusts(ACCOUNT, ASSUME, ""))
        .await;
    pods.world.allow_role("target", ALL).await;
    for (account, target) in [("one", None), ("two", Some(target.as_str()))] {
        pods.associate(account, &role, |new| {
            new.disable_session_tags = Some(true);
            new.policy = Some(policy.into());
            new.target_role_arn = target.map(Into::into);
        })
        .await;
        let answer = pods.ask(&pods.world.ana, &pods.token(account)).await.ok();
        let keys = keys_of(&answer);
        let allowed = [("Action", "GetRole"), ("RoleName", "first")];
        assert_eq!(pods.world.iam(&keys, &allowed).await.0, 200, "{account}");
        assert_eq!(
            pods.world.iam(&keys, &[("Action", "ListRoles")]).await.0,
            403
        );
        assert!(pods.session(&answer).policies.inline.is_some());
    }
}

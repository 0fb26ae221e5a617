//! Access entries, authentication modes and the authorizer in process: what decides, what is seen at once, what never lets in.

use std::sync::Arc;

use countersign_access::caller::Delegated;
use countersign_access::{AccessScope, EntryType};
use countersign_arn::{AccountId, CallerIdentity};
use countersign_mapping::{
    BackendKind, Chain, ChainOptions, MappingDecision, MappingOptions, MappingTable, mounted_file,
};
use countersign_rbac::review::AccessReview;
use countersign_server::access_policies::AccessPolicies;
use countersign_server::health::Report;
use countersign_server::metrics::AuthorizeResult;
use countersign_server::webhook::authenticate::{
    Accepted, ClusterAuthenticator, ClusterOptions, Review, ReviewOptions, Verifier,
};
use countersign_server::webhook::authorize::{self, Authorizer, AuthorizerOptions, Ruling};
use countersign_server::webhook::denial::DenyMode;
use countersign_server::webhook::entries::{PrincipalBinding, Registered, chain_of};
use countersign_server::webhook::{Clusters, RegisteredClusters};
use countersign_sigv4::{Credentials, Request, SecretKey, Signer};
use countersign_sources::{Mappings, MappingsOptions};
use countersign_store::records::{AuthenticationMode, Creator};
use countersign_store::{ClusterNameError, ClusterPlace, NewAccessEntry, NewCluster};
use countersign_token::{Options, Rules, mint};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::world::*;

const REGION: &str = "us-east-1";
const VIEW: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy";
const EDIT: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy";

/// A world whose clusters are served.
struct Served {
    world: World,
    shared: Arc<ReviewOptions>,
    clusters: Clusters,
    authorizer: Authorizer,
}

fn place(name: &str, account: AccountId) -> ClusterPlace<'_> {
    ClusterPlace {
        account,
        region: REGION,
        name,
    }
}

fn entry(arn: &str, id: Option<&str>) -> NewAccessEntry {
    NewAccessEntry {
        principal_arn: arn.into(),
        principal_id: id.map(Into::into),
        entry_type: EntryType::Standard,
        groups: Vec::new(),
        username: None,
        tags: Vec::new(),
    }
}

impl Served {
    async fn new() -> Self {
        let world = World::new().await;
        let shared = Arc::new(ReviewOptions {
            rules: Rules::new(Options {
                trusted_endpoints: vec![ENDPOINT.into()],
                ..Options::default()
            })
            .unwrap(),
            verifiers: vec![Verifier::Embedded(Arc::clone(&world.keys))],
            nodes: None,
            directory: Some(world.directory.clone()),
            store: None,
            principal_binding: PrincipalBinding::FirstUse,
            deny_mode: DenyMode::Review,
            upstream_failure_status: 500,
        });
        let clusters = Clusters::new(Vec::new()).with_registered(RegisteredClusters {
            directory: world.directory.clone(),
            shared: Arc::clone(&shared),
            mappings: Mappings::new(&[], MappingsOptions::default()),
        });
        let authorizer = authorizer(&world, Delegated::Assertion);
        Self {
            world,
            shared,
            clusters,
            authorizer,
        }
    }

    /// A cluster of `ana`'s.
    async fn cluster(&self, name: &str, mode: AuthenticationMode) -> Registered {
        let account = self.world.account;
        let snapshot = self.world.directory.snapshot();
        let ana = snapshot.user(account, "ana").unwrap();
        let creator = Creator {
            principal_arn: (*ana.arn).into(),
            principal_id: ana.record.id.clone(),
        };
        let new = NewCluster {
            authentication_mode: mode,
            ..NewCluster::new(account, REGION, name, creator)
        };
        let made = self.world.directory.create_cluster(new, now()).await;
        Registered::Id(made.unwrap().id)
    }

    async fn create(&self, cluster: &str, new: NewAccessEntry) {
        let place = place(cluster, self.world.account);
        let made = self
            .world
            .directory
            .create_access_entry(place, new, None, now());
        made.await.unwrap();
    }

    async fn associate(&self, cluster: &str, arn: &str, policy: &str, scope: AccessScope) {
        let place = place(cluster, self.world.account);
        let made = self
            .world
            .directory
            .associate_access_policy(place, arn, policy, &scope, now());
        made.await.unwrap();
    }

    async fn change_mode(&self, cluster: &str, mode: AuthenticationMode) {
        let place = place(cluster, self.world.account);
        let changed = self.world.directory.set_authentication_mode(
            place,
            mode,
            SignedDuration::ZERO,
            None,
            now(),
        );
        changed.await.unwrap();
    }

    /// A role with its unique id, which `ana` may assume.
    async fn role(&self, name: &str, path: &str) -> (String, String) {
        let trust = trusts(ACCOUNT, EVERYTHING, "");
        let arn = self
            .world
            .role_with(name, &trust, |new| new.path = path.into())
            .await;
        let snapshot = self.world.directory.snapshot();
        let role = snapshot.role(self.world.account, name).unwrap();
        (arn, role.record.id.to_string())
    }

    async fn session(&self, role: &str, name: &str) -> Keys {
        let more: &[(&str, &str)] = &[("RoleSessionName", name)];
        self.world.session(&self.world.ana, role, more, now()).await
    }

    /// The cluster as the configuration has it, with rules in the place of aws-auth.
    fn configured(&self, registered: Registered, name: &str, rules: &str) -> ClusterAuthenticator {
        let options = MappingOptions::default();
        let entries = mounted_file::parse(rules, &options).unwrap().entries;
        let mappings = Mappings::new(&[BackendKind::MountedFile], MappingsOptions::default());
        let table = MappingTable::new(BackendKind::MountedFile, entries, &options);
        mappings.set_table(table, "1", now());
        ClusterAuthenticator::new(ClusterOptions {
            name: name.into(),
            cluster_id: name.into(),
            mappings,
            registered: Some(registered),
            shared: Arc::clone(&self.shared),
        })
    }

    async fn review(&self, cluster: &str, keys: &Keys) -> Result<Review, ClusterNameError> {
        let found = self.clusters.find(cluster)?;
        Ok(found.review(&token(keys, found.name()), now()).await)
    }

    fn ask(&self, cluster: &Registered, user: &Value, asked: &Value) -> Ruling {
        self.authorizer.decide(cluster, &sar(user, asked), now())
    }
}

fn authorizer(world: &World, delegated: Delegated) -> Authorizer {
    Authorizer::new(AuthorizerOptions {
        directory: Some(world.directory.clone()),
        store: None,
        policies: Arc::new(AccessPolicies::builtin()),
        delegated,
    })
}

fn token(keys: &Keys, cluster: &str) -> String {
    let secret = SecretKey::new(&keys.secret);
    let headers: [(&str, &[u8]); 2] = [
        ("host", HOST.as_bytes()),
        ("x-k8s-aws-id", cluster.as_bytes()),
    ];
    let mut request = Request::new("GET", b"/?Action=GetCallerIdentity&Version=2011-06-15");
    request.headers = &headers;
    let credentials = Credentials {
        key_id: &keys.id,
        secret: &secret,
        session_token: keys.token.as_deref(),
    };
    let signed = Signer::new(credentials, "us-east-1", "sts")
        .presign(&request, 60, now())
        .unwrap();
    mint(&format!("{ENDPOINT}?{signed}")).to_string()
}

fn sar(user: &Value, asked: &Value) -> AccessReview {
    let mut spec = user.clone();
    let attributes = if asked.get("path").is_some() {
        "nonResourceAttributes"
    } else {
        "resourceAttributes"
    };
    spec[attributes] = asked.clone();
    let body = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec,
    });
    authorize::parse(body.to_string().as_bytes()).unwrap()
}

/// The user info that kube-apiserver makes of a TokenReview.
fn user_info(accepted: &Accepted) -> Value {
    let identity = accepted.identity();
    let extra: serde_json::Map<String, Value> = identity
        .extra
        .iter()
        .map(|extra| (extra.key.to_string(), json!(extra.values)))
        .collect();
    let mut groups = identity.groups.clone();
    groups.push("system:authenticated".into());
    json!({"user": identity.username, "uid": identity.uid, "groups": groups, "extra": extra})
}

fn told(review: &Review) -> String {
    match &review.outcome {
        Ok(accepted) => format!(
            "{} [{}] by {}",
            accepted.username(),
            accepted.groups().join(","),
            accepted.backend()
        ),
        Err(denial) => format!("no: {}", denial.reason),
    }
}

#[tokio::test]
async fn the_mode_says_which_sources_count_and_an_entry_wins_whole() {
    use AuthenticationMode::{Api, ApiAndConfigMap, ConfigMap};
    let served = Served::new().await;
    let (dev, dev_id) = served.role("Dev", "/team/").await;
    let (ops, _) = served.role("Ops", "/").await;
    let (dev, ops) = (
        (served.session(&dev, "alice@corp").await, dev),
        served.session(&ops, "olga").await,
    );
    let rules = "server:\n  mapRoles:\n\
        \x20 - {rolearn: 'arn:aws:iam::111122223333:role/Dev', username: old-dev, groups: [old]}\n\
        \x20 - {rolearn: 'arn:aws:iam::111122223333:role/Ops', username: 'ops:{{SessionName}}', groups: [ops]}\n";
    let default =
        "arn:aws:sts::111122223333:assumed-role/Dev/alice-corp [devs,more] by AccessEntries";
    let (admin, creator) = (
        "kubernetes-admin [system:masters] by ClusterCreator",
        "arn:aws:iam::111122223333:user/ana [] by AccessEntries",
    );
    for (mode, wanted) in [
        (
            ConfigMap,
            [
                "old-dev [old] by MountedFile",
                "ops:olga [ops] by MountedFile",
                admin,
                "no: not_mapped",
            ],
        ),
        (
            ApiAndConfigMap,
            [
                default,
                "ops:olga [ops] by MountedFile",
                creator,
                "no: not_mapped",
            ],
        ),
        (Api, [default, "no: not_mapped", creator, "no: not_mapped"]),
    ] {
        let name = mode.as_str().to_ascii_lowercase();
        let registered = served.cluster(&name, mode).await;
        if mode != ConfigMap {
            let new = NewAccessEntry {
                groups: vec!["devs".into(), "more".into()],
                ..entry(&dev.1, Some(&dev_id))
            };
            served.create(&name, new).await;
        }
        let cluster = served.configured(registered, &name, rules);
        let callers = [&dev.0, &ops, &served.world.ana, &served.world.bob];
        for (keys, wanted) in callers.into_iter().zip(wanted) {
            let review = cluster.review(&token(keys, &name), now()).await;
            assert_eq!(told(&review), wanted, "{mode}");
            assert_eq!(review.mode, Some(mode));
            let hides = mode == ApiAndConfigMap && keys.id == dev.0.id;
            let hidden = review.hides.unwrap_or_default();
            let is_told = hidden.starts_with("MountedFile mapRoles[0]");
            assert_eq!(is_told, hides, "{mode}: {hidden}");
        }
    }
}

#[tokio::test]
async fn clusters_of_the_api_are_served_from_their_creation_to_their_end() {
    let served = Served::new().await;
    let ana = served.world.ana.clone();
    let gone = served.review("late", &ana).await.err();
    assert_eq!(gone, Some(ClusterNameError::Unknown));
    let Registered::Id(id) = served.cluster("late", AuthenticationMode::ConfigMap).await else {
        panic!("made by id");
    };
    let seen = async |served: &Served| told(&served.review("late", &ana).await.unwrap());
    assert_eq!(
        seen(&served).await,
        "kubernetes-admin [system:masters] by ClusterCreator"
    );
    // The creator keeps what the ConfigMap mode gave, as an entry that can be seen and taken away.
    served
        .change_mode("late", AuthenticationMode::ApiAndConfigMap)
        .await;
    let as_entry = "arn:aws:iam::111122223333:user/ana [] by AccessEntries";
    assert_eq!(seen(&served).await, as_entry);
    served.change_mode("late", AuthenticationMode::Api).await;
    assert_eq!(seen(&served).await, as_entry);
    let by_id = served.review(&id, &ana).await.unwrap();
    assert_eq!(told(&by_id), as_entry);
    let place = place("late", served.world.account);
    let arn = "arn:aws:iam::111122223333:user/ana";
    let deleted = served
        .world
        .directory
        .delete_access_entry(place, arn, now());
    deleted.await.unwrap();
    assert_eq!(seen(&served).await, "no: not_mapped");

    // One name in two regions says nothing; the ids do.
    let other = NewCluster::new(
        served.world.account,
        "eu-west-1",
        "late",
        Creator {
            principal_arn: arn.into(),
            principal_id: "AIDA".into(),
        },
    );
    let other = served
        .world
        .directory
        .create_cluster(other, now())
        .await
        .unwrap();
    let ambiguous = served.review("late", &ana).await.err();
    assert_eq!(ambiguous, Some(ClusterNameError::Ambiguous { count: 2 }));
    assert!(served.review(&id, &ana).await.is_ok());
    assert!(served.review(&other.id, &ana).await.is_ok());

    let cluster = served.clusters.find(&id).unwrap();
    let delete = served
        .world
        .directory
        .delete_cluster(place, SignedDuration::ZERO, now());
    delete.await.unwrap();
    assert_eq!(
        served.clusters.find(&id).err(),
        Some(ClusterNameError::Unknown)
    );
    // Also for a review that found the cluster just before.
    let review = cluster.review(&token(&ana, "late"), now()).await;
    assert_eq!(told(&review), "no: cluster_deleted");
}

#[tokio::test]
async fn a_principal_that_was_made_again_does_not_inherit_its_entry() {
    use AuthenticationMode::{Api, ApiAndConfigMap};
    let served = Served::new().await;
    let (arn, first) = served.role("Dev", "/team/").await;
    let rules = "server:\n  mapRoles:\n  - {rolearn: 'arn:aws:iam::111122223333:role/Dev', username: old-dev}\n";
    let mut clusters = Vec::new();
    for (name, mode) in [("both", ApiAndConfigMap), ("api", Api)] {
        let registered = served.cluster(name, mode).await;
        served.create(name, entry(&arn, Some(&first))).await;
        clusters.push((name, served.configured(registered, name, rules)));
    }
    let before = served.session(&arn, "alice").await;
    let account = served.world.account;
    served
        .world
        .directory
        .delete_role(account, "Dev")
        .await
        .unwrap();
    let (again, second) = served.role("Dev", "/team/").await;
    assert_eq!(again, arn);
    assert_ne!(first, second);
    let after = served.session(&arn, "alice").await;
    for (name, cluster) in &clusters {
        let review = cluster.review(&token(&after, name), now()).await;
        let wanted = match *name {
            "both" => "old-dev [] by MountedFile",
            _ => "no: principal_recreated",
        };
        assert_eq!(told(&review), wanted, "{name}");
        if let Err(denial) = review.outcome {
            for part in [&*arn, "countersign access rebind"] {
                assert!(denial.text.contains(part), "{}", denial.text);
            }
        }
        let old = cluster.review(&token(&before, name), now()).await;
        assert!(
            old.outcome.is_err(),
            "the sessions of the first role are over"
        );
    }
    // Deleting and creating the entry helps, and so does an explicit rebind.
    let place = place("api", account);
    let rebound = served
        .world
        .directory
        .rebind_access_entry(place, &arn, &second, now());
    rebound.await.unwrap();
    let review = served.review("api", &after).await.unwrap();
    assert_eq!(
        told(&review),
        "arn:aws:sts::111122223333:assumed-role/Dev/alice [] by AccessEntries"
    );
}

#[tokio::test]
async fn an_unbound_entry_belongs_to_the_first_principal_that_uses_it() {
    let served = Served::new().await;
    served.cluster("c", AuthenticationMode::Api).await;
    let (dev, id) = served.role("Dev", "/team/").await;
    let (_, ops_id) = served.role("Ops", "/real/").await;
    served.create("c", entry(&dev, None)).await;
    served
        .create(
            "c",
            entry("arn:aws:iam::111122223333:role/claimed/Ops", None),
        )
        .await;
    let cluster_id = match served.clusters.find("c").unwrap().registered() {
        Some(Registered::Id(id)) => id.clone(),
        other => panic!("{other:?}"),
    };
    let bound = |arn: &str| {
        let snapshot = served.world.directory.snapshot();
        let entry = snapshot.access_entry(&cluster_id, arn).unwrap();
        entry.record.principal_id.as_deref().map(str::to_owned)
    };
    assert_eq!(bound(&dev), None);
    let keys = served.session(&dev, "alice").await;
    let mapped = "arn:aws:sts::111122223333:assumed-role/Dev/alice [] by AccessEntries";
    for _ in 0..2 {
        let review = served.review("c", &keys).await.unwrap();
        assert_eq!(told(&review), mapped);
        assert_eq!(bound(&dev).as_deref(), Some(&*id));
    }
    // Where paths are known, an entry under another path is not for this principal.
    let keys = served
        .session("arn:aws:iam::111122223333:role/real/Ops", "olga")
        .await;
    let review = served.review("c", &keys).await.unwrap();
    assert_eq!(told(&review), "no: not_mapped");
    assert_eq!(bound("arn:aws:iam::111122223333:role/claimed/Ops"), None);

    // Real AWS tells no path, and then account, kind and name are what counts.
    let caller = |arn: &str, id: &str| {
        let account = arn.split(':').nth(4).unwrap();
        CallerIdentity::new(arn, account, id, "ASIAEXAMPLE", "sts.amazonaws.com").unwrap()
    };
    let ops = format!("{ops_id}:olga");
    let at = "arn:aws:sts::111122223333:assumed-role";
    let snapshot = served.world.directory.snapshot();
    let cluster = snapshot.cluster_by_id(&cluster_id).unwrap();
    for (arn, id, binding, wanted) in [
        (
            format!("{at}/Ops/olga"),
            &*ops,
            PrincipalBinding::FirstUse,
            "mapped",
        ),
        (
            format!("{at}/Ops/olga"),
            &*ops,
            PrincipalBinding::Strict,
            "principal_not_bound",
        ),
        (
            "arn:aws-cn:sts::111122223333:assumed-role/Ops/olga".into(),
            &*ops,
            PrincipalBinding::FirstUse,
            "not_mapped",
        ),
        (
            "arn:aws:sts::444455556666:assumed-role/Ops/olga".into(),
            &*ops,
            PrincipalBinding::FirstUse,
            "not_mapped",
        ),
        (
            "arn:aws:iam::111122223333:user/Ops".into(),
            "AIDAOPS",
            PrincipalBinding::FirstUse,
            "not_mapped",
        ),
        (
            "arn:aws:sts::111122223333:federated-user/Ops".into(),
            "111122223333:Ops",
            PrincipalBinding::FirstUse,
            "not_mapped",
        ),
        (
            format!("{at}/Dev/eve"),
            "AROAOTHER:eve",
            PrincipalBinding::FirstUse,
            "principal_recreated",
        ),
    ] {
        let chain = chain_of(
            &snapshot,
            cluster,
            &Chain::new(Vec::new(), ChainOptions::default()),
            &MappingOptions::default(),
            binding,
        );
        let identity = caller(&arn, id);
        let said = match chain.map(&identity) {
            MappingDecision::Mapped(_) => "mapped",
            MappingDecision::AccountAllowed(_) => "account",
            MappingDecision::Denied(denied) => denied.reason().code(),
        };
        assert_eq!(said, wanted, "{arn} {binding:?}");
    }
}

#[tokio::test]
async fn every_type_has_its_username_and_groups() {
    let served = Served::new().await;
    served.cluster("c", AuthenticationMode::Api).await;
    let instance = "i-0123456789abcdef0";
    for (n, (kind, session, wanted)) in [
        (
            EntryType::FargateLinux,
            "fargate-1",
            "system:node:fargate-1 [system:nodes,system:node-proxier] by AccessEntries",
        ),
        (
            EntryType::HybridLinux,
            "mi-1",
            "system:node:mi-1 [system:nodes] by AccessEntries",
        ),
        (
            EntryType::HyperpodLinux,
            "hp-1",
            "system:node:hp-1 [system:nodes] by AccessEntries",
        ),
        (
            EntryType::Ec2,
            instance,
            "system:node:i-0123456789abcdef0 [system:nodes] by AccessEntries",
        ),
        (EntryType::Ec2, "person", "no: not_an_instance"),
        (EntryType::Ec2Linux, "person", "no: not_an_instance"),
        (EntryType::Ec2Linux, instance, "no: node_lookup_unavailable"),
        (
            EntryType::Ec2Windows,
            instance,
            "no: node_lookup_unavailable",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (arn, id) = served.role(&format!("Node{n}"), "/").await;
        let new = NewAccessEntry {
            entry_type: kind,
            ..entry(&arn, Some(&id))
        };
        served.create("c", new).await;
        let keys = served.session(&arn, session).await;
        let review = served.review("c", &keys).await.unwrap();
        assert_eq!(told(&review), wanted, "{kind}");
    }
    // Usernames are templates, and groups are not: a session name must not become a group.
    let (arn, id) = served.role("Dev", "/").await;
    let new = NewAccessEntry {
        username: Some("ops:{{SessionNameRaw}}".into()),
        groups: vec!["team:{{SessionName}}".into()],
        ..entry(&arn, Some(&id))
    };
    served.create("c", new).await;
    let keys = served.session(&arn, "a@b").await;
    let review = served.review("c", &keys).await.unwrap();
    assert_eq!(
        told(&review),
        "ops:a@b [team:{{SessionName}}] by AccessEntries"
    );
    // A federated user of the creator's is not the creator.
    let root = served.world.root().await;
    let place = "arn:aws:iam::111122223333:root";
    served.create("c", entry(place, Some("111122223333"))).await;
    let review = served.review("c", &root).await.unwrap();
    assert_eq!(
        told(&review),
        "arn:aws:iam::111122223333:root [] by AccessEntries"
    );
}

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

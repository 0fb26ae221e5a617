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
use countersign_server::aggregation::Aggregation;
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

mod authorizer;
mod entries;
mod rules;

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
        Self::with(Arc::new(AccessPolicies::builtin())).await
    }

    /// With the policies and rules of a file.
    async fn with(policies: Arc<AccessPolicies>) -> Self {
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
            policies: Arc::clone(&policies),
            deny_mode: DenyMode::Review,
            upstream_failure_status: 500,
        });
        let clusters = Clusters::new(Vec::new()).with_registered(RegisteredClusters {
            directory: world.directory.clone(),
            shared: Arc::clone(&shared),
            mappings: Mappings::new(&[], MappingsOptions::default()),
        });
        let authorizer = Authorizer::new(AuthorizerOptions {
            directory: Some(world.directory.clone()),
            store: None,
            policies,
            aggregation: Aggregation::default(),
            delegated: Delegated::Assertion,
        });
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
            names_entry: false,
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
        aggregation: Aggregation::default(),
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

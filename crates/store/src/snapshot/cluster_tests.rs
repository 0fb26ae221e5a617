use std::collections::BTreeSet;

use countersign_access::{AccessScope, EntryType};
use countersign_arn::Partition;
use futures::StreamExt;
use jiff::Timestamp;
use proptest::prelude::*;

use super::tests::account;
use super::*;
use crate::records::{
    AccessEntry, Account, Addon, AnsweredRequest, AuthenticationMode, Cluster, ClusterKeySource,
    ClusterKeys, ClusterSettings, ClusterUpdate, Creator, EntryPrincipal, IdentityProviderConfig,
    PodIdentityAssociation, PolicyAssociation, Role, TrustPolicy, UpdateStatus,
};
use crate::{RedbStore, RootKey, Transaction, Value};

/// One write around clusters, chosen from few names so that writes meet.
#[derive(Debug, Clone)]
enum Step {
    Account {
        there: bool,
    },
    Role {
        name: u8,
        generation: u8,
        there: bool,
    },
    Cluster {
        name: u8,
        generation: u8,
        deleting: bool,
        kind: Kind,
    },
    Entry {
        cluster: (u8, u8),
        name: u8,
        bound_to: Option<(u8, u8)>,
        minute: u8,
        there: bool,
    },
    Root {
        cluster: (u8, u8),
        there: bool,
    },
    Association {
        cluster: (u8, u8),
        namespace: u8,
        account: u8,
        generation: u8,
        there: bool,
    },
    Config {
        cluster: (u8, u8),
        name: u8,
        minute: u8,
        there: bool,
    },
    Addon {
        cluster: (u8, u8),
        name: u8,
        minute: u8,
        there: bool,
    },
    Update {
        cluster: (u8, u8),
        id: u8,
        minute: u8,
        there: bool,
    },
    Request {
        id: u8,
        minute: u8,
        there: bool,
    },
    Keys {
        cluster: (u8, u8),
        minute: u8,
        readable: bool,
        there: bool,
    },
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Whole,
    Unreadable,
    Gone,
}

fn step() -> impl Strategy<Value = Step> {
    let few = || 0..2_u8;
    let cluster = || (few(), few());
    let there = || proptest::bool::weighted(0.7);
    let kind = prop_oneof![
        4 => Just(Kind::Whole),
        1 => Just(Kind::Unreadable),
        2 => Just(Kind::Gone),
    ];
    prop_oneof![
        1 => there().prop_map(|there| Step::Account { there }),
        3 => (0..3_u8, few(), there()).prop_map(|(name, generation, there)| Step::Role {
            name,
            generation,
            there
        }),
        3 => (few(), few(), proptest::bool::weighted(0.2), kind).prop_map(
            |(name, generation, deleting, kind)| Step::Cluster {
                name,
                generation,
                deleting,
                kind
            }
        ),
        6 => (
            cluster(),
            0..3_u8,
            proptest::option::of((0..3_u8, few())),
            few(),
            there()
        )
            .prop_map(|(cluster, name, bound_to, minute, there)| Step::Entry {
                cluster,
                name,
                bound_to,
                minute,
                there
            }),
        1 => (cluster(), there()).prop_map(|(cluster, there)| Step::Root { cluster, there }),
        4 => (cluster(), 0..4_u8, 0..4_u8, few(), there()).prop_map(
            |(cluster, namespace, account, generation, there)| Step::Association {
                cluster,
                namespace,
                account,
                generation,
                there
            }
        ),
        2 => (cluster(), few(), few(), there()).prop_map(|(cluster, name, minute, there)| {
            Step::Config {
                cluster,
                name,
                minute,
                there,
            }
        }),
        2 => (cluster(), few(), few(), there()).prop_map(|(cluster, name, minute, there)| {
            Step::Addon {
                cluster,
                name,
                minute,
                there,
            }
        }),
        2 => (cluster(), 0..3_u8, few(), there()).prop_map(|(cluster, id, minute, there)| {
            Step::Update {
                cluster,
                id,
                minute,
                there,
            }
        }),
        2 => (0..3_u8, few(), there()).prop_map(|(id, minute, there)| Step::Request {
            id,
            minute,
            there
        }),
        2 => (cluster(), few(), there(), there()).prop_map(|(cluster, minute, readable, there)| {
            Step::Keys {
                cluster,
                minute,
                readable,
                there,
            }
        }),
    ]
}

fn time(minute: u8) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + 60 * i64::from(minute)).unwrap()
}

fn cluster_id((name, generation): (u8, u8)) -> Box<str> {
    format!("{name}{generation}{:0>30}", 0).into()
}

fn role_id(name: u8, generation: u8) -> Box<str> {
    format!("AROARTX3GSDSXFDO{name}{generation}AAA").into()
}

fn entry(cluster: (u8, u8), arn: String, bound_to: Option<Box<str>>, minute: u8) -> AccessEntry {
    AccessEntry {
        account: account(0),
        cluster_id: cluster_id(cluster),
        uuid: arn.as_str().into(),
        principal_arn: arn.into(),
        principal_id: bound_to,
        entry_type: EntryType::Standard,
        groups: Vec::new(),
        username: None,
        tags: Vec::new(),
        associations: Vec::new(),
        created: time(minute),
        modified: time(minute),
    }
}

/// Names whose order changes when a separator is put between them that some name has.
fn association(
    cluster: (u8, u8),
    namespace: u8,
    account: u8,
    generation: u8,
) -> PodIdentityAssociation {
    let name = |n: u8| match n {
        0 => "a",
        1 => "a-0",
        2 => "a*",
        _ => "*",
    };
    PodIdentityAssociation {
        account: super::tests::account(0),
        cluster_id: cluster_id(cluster),
        id: format!("a-{namespace}{account}{generation}").into(),
        namespace: name(namespace).into(),
        service_account: name(account).into(),
        role_arn: "arn".into(),
        target_role_arn: None,
        disable_session_tags: None,
        policy: None,
        owner_arn: None,
        sessions: countersign_session::PodSessions::default(),
        tags: Vec::new(),
        created: time(generation),
        modified: time(generation),
    }
}

fn of_entry(record: &AccessEntry, there: bool) -> (String, Option<Value>) {
    let principal = EntryPrincipal::parse(&record.principal_arn).unwrap();
    let key = format!(
        "access-entry/{}/{}/{}",
        record.account,
        record.cluster_id,
        principal.key()
    );
    (key, there.then(|| record.encode()))
}

fn write(step: &Step) -> (Key, Option<Value>) {
    let id = account(0);
    let (key, value) = match step.clone() {
        Step::Account { there } => {
            let record = Account {
                id,
                partition: Partition::Aws,
                alias: None,
                organization_id: None,
                created: time(0),
                root_keys: Vec::new(),
                password_policy: None,
                outbound_federation: None,
                credential_report: None,
            };
            (format!("account/{id}"), there.then(|| record.encode()))
        }
        Step::Role {
            name,
            generation,
            there,
        } => {
            let record = Role {
                account: id,
                partition: Partition::Aws,
                name: format!("Role-{name}").into(),
                path: "/".into(),
                id: role_id(name, generation),
                created: time(0),
                description: None,
                max_session_duration: 3600,
                trust: TrustPolicy::default(),
                tags: Vec::new(),
                policies: Vec::new(),
                attached: Vec::new(),
                boundary: None,
            };
            let key = format!("role/{id}/role-{name}");
            (key, there.then(|| record.encode()))
        }
        Step::Cluster {
            name,
            generation,
            deleting,
            kind,
        } => {
            let record = Cluster {
                account: id,
                partition: Partition::Aws,
                region: "region".into(),
                name: format!("name-{name}").into(),
                id: cluster_id((name, generation)),
                authentication_mode: AuthenticationMode::Api,
                bootstrap_creator_admin: true,
                creator: Creator {
                    principal_arn: "arn".into(),
                    principal_id: "id".into(),
                },
                endpoint: None,
                certificate_authority: None,
                role_arn: None,
                version: None,
                tags: Vec::new(),
                deletion_protection: false,
                settings: ClusterSettings::default(),
                created: time(0),
                settles: None,
                update: None,
                deleting: deleting.then(|| time(1)),
            };
            let value = match kind {
                Kind::Whole => Some(record.encode()),
                Kind::Unreadable => Some(Value::from(&b"{\"v\":2}"[..])),
                Kind::Gone => None,
            };
            (format!("cluster/{id}/region/{}", record.name), value)
        }
        Step::Entry {
            cluster,
            name,
            bound_to,
            minute,
            there,
        } => {
            let arn = format!("arn:aws:iam::{id}:role/path-{minute}/Role-{name}");
            let bound_to = bound_to.map(|(name, generation)| role_id(name, generation));
            of_entry(&entry(cluster, arn, bound_to, minute), there)
        }
        Step::Root { cluster, there } => {
            let arn = format!("arn:aws:iam::{id}:root");
            of_entry(&entry(cluster, arn, Some(id.as_str().into()), 0), there)
        }
        Step::Association {
            cluster,
            namespace,
            account,
            generation,
            there,
        } => {
            let record = association(cluster, namespace, account, generation);
            let key = record.key().to_key().unwrap();
            (key.as_str().to_owned(), there.then(|| record.encode()))
        }
        Step::Config {
            cluster,
            name,
            minute,
            there,
        } => {
            let record = IdentityProviderConfig {
                account: id,
                cluster_id: cluster_id(cluster),
                name: format!("config-{name}").into(),
                uuid: format!("{minute}").into(),
                issuer_url: "https://id.example".into(),
                client_id: "kubernetes".into(),
                username_claim: None,
                username_prefix: None,
                groups_claim: None,
                groups_prefix: None,
                required_claims: Default::default(),
                tags: Vec::new(),
                created: time(minute),
                settles: None,
                deleting: None,
            };
            let (cluster, name) = (&record.cluster_id, &record.name);
            let key = format!("identity-provider-config/{id}/{cluster}/{name}");
            (key, there.then(|| record.encode()))
        }
        Step::Addon {
            cluster,
            name,
            minute,
            there,
        } => {
            let record = Addon {
                account: id,
                cluster_id: cluster_id(cluster),
                name: format!("addon-{name}").into(),
                uuid: format!("{minute}").into(),
                version: "v1.0.0-eksbuild.1".into(),
                service_account_role_arn: None,
                configuration_values: None,
                namespace: None,
                tags: Vec::new(),
                created: time(minute),
                modified: time(minute),
                settles: None,
                update: None,
                deleting: None,
            };
            let key = format!("addon/{id}/{}/{}", record.cluster_id, record.name);
            (key, there.then(|| record.encode()))
        }
        Step::Update {
            cluster,
            id: update,
            minute,
            there,
        } => {
            let record = ClusterUpdate {
                account: id,
                cluster_id: cluster_id(cluster),
                addon: None,
                id: format!("update-{update}").into(),
                kind: "LoggingUpdate".into(),
                params: Vec::new(),
                created: time(minute),
                settles: time(minute),
                outcome: UpdateStatus::Successful,
                errors: Vec::new(),
            };
            let key = format!("cluster-update/{id}/{}/{}", record.cluster_id, record.id);
            (key, there.then(|| record.encode()))
        }
        Step::Request {
            id: token,
            minute,
            there,
        } => {
            let record = AnsweredRequest {
                account: id,
                region: "region".into(),
                operation: "CreateCluster".into(),
                token: format!("token-{token}").into(),
                parameters: [minute; 32].into(),
                answer: b"{}"[..].into(),
                created: time(minute),
            };
            let key = format!("request-token/{id}/region/CreateCluster/{}", record.token);
            (key, there.then(|| record.encode()))
        }
        Step::Keys {
            cluster,
            minute,
            readable,
            there,
        } => {
            let document = if readable { "{\"keys\":[]}" } else { "{}" };
            let record = ClusterKeys {
                account: id,
                cluster_id: cluster_id(cluster),
                source: ClusterKeySource::Generated,
                document: document.into(),
                signing: None,
                confirmed: time(minute),
                modified: time(minute),
            };
            let key = format!("cluster-keys/{id}/{}", record.cluster_id);
            (key, there.then(|| record.encode()))
        }
    };
    (Key::new(key).unwrap(), value)
}

/// Everything around clusters that a snapshot holds, as text.
fn contents(snapshot: &DirectorySnapshot) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    all.extend(
        snapshot
            .cluster_slots
            .iter()
            .map(|(id, slot)| slot.text(id)),
    );
    all.extend(
        snapshot
            .bound
            .iter()
            .map(|(id, clusters)| format!("bound {id} {clusters:?}")),
    );
    all.extend(
        snapshot
            .answered_requests(account(0))
            .map(|(_, key)| format!("{key} {:?}", snapshot.answered_request(key).unwrap())),
    );
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 96 } else { 512 }))]

    #[test]
    fn folding_changes_around_clusters_gives_what_loading_gives(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let sealer = Sealer::new(&RootKey::from_bytes([1; 32]), &[]).unwrap();
            let store = RedbStore::in_memory().unwrap();
            let mut folded = DirectorySnapshot::default();
            let mut watch = store.watch(Revision::ZERO);
            let mut last = Revision::ZERO;
            for step in &steps {
                let (key, value) = write(step);
                let transaction = Transaction::new();
                let transaction = match value {
                    Some(value) => transaction.put(&key, value),
                    None => transaction.delete(&key),
                };
                last = store.commit(transaction).await.unwrap();
            }
            while folded.revision() < last {
                folded.apply(&watch.next().await.unwrap().unwrap(), &sealer);
            }
            let loaded = DirectorySnapshot::load(&store, &Arc::new(sealer)).await.unwrap();
            assert_eq!(contents(&folded), contents(&loaded));
            check(&loaded);
        });
    }
}

/// What the indexes say is what a walk over the entries says.
fn check(snapshot: &DirectorySnapshot) {
    let mut dead = 0;
    for cluster in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let id = cluster_id(cluster);
        let open = snapshot
            .cluster_by_id(&id)
            .is_some_and(|cluster| cluster.record.deleting.is_none());
        let entries: Vec<_> = snapshot.access_entries(&id, None).collect();
        assert!(open || entries.is_empty());
        assert_eq!(snapshot.access_entry_count(&id), entries.len());
        for entry in entries {
            let record = &entry.record;
            let EntryPrincipal {
                kind,
                account,
                name,
            } = EntryPrincipal::parse(&record.principal_arn).unwrap();
            let named = snapshot.access_entry_named(&id, account, kind, name);
            assert!(Arc::ptr_eq(named.unwrap(), entry));
            let state = snapshot.access_entry_state(record);
            dead += usize::from(matches!(state, AccessEntryState::Dead { .. }));
            if let Some(principal) = &record.principal_id {
                let found = snapshot.access_entry_of_principal(&id, principal).unwrap();
                assert_eq!(found.record.principal_id, record.principal_id);
                assert!(
                    (found.record.created, &found.record.uuid) <= (record.created, &record.uuid)
                );
            }
        }
        let associations: Vec<_> = snapshot.pod_identity_associations(&id, None).collect();
        assert!(open || associations.is_empty());
        assert_eq!(
            snapshot.pod_identity_association_count(&id),
            associations.len()
        );
        let names =
            |at: &PodIdentityAssociation| (at.namespace.clone(), at.service_account.clone());
        assert!(associations.is_sorted_by_key(|known| names(&known.record)));
        for (at, known) in associations.iter().enumerate() {
            let (namespace, account) = names(&known.record);
            let by_subject = snapshot.pod_identity_association(&id, &namespace, &account);
            assert!(Arc::ptr_eq(by_subject.unwrap(), known));
            let by_id = snapshot.pod_identity_association_by_id(&id, &known.record.id);
            assert!(Arc::ptr_eq(by_id.unwrap(), known));
            let rest = snapshot.pod_identity_associations(&id, Some((&namespace, &account)));
            assert_eq!(rest.count(), associations.len() - at - 1);
        }
        for (namespace, account) in [("a", "a-0-"), ("a-", "0"), ("", ""), ("a\0a", "")] {
            assert!(
                snapshot
                    .pod_identity_association(&id, namespace, account)
                    .is_none()
            );
        }
        let updates: Vec<_> = snapshot.cluster_updates(&id).collect();
        assert!(updates.is_sorted_by_key(|update| update.record.created));
        for update in updates {
            let found = snapshot.cluster_update(&id, &update.record.id).unwrap();
            assert!(Arc::ptr_eq(found, update));
        }
    }
    assert_eq!(snapshot.dead_access_entry_count(), dead);
    assert!(snapshot.unusable_count() > 0 || snapshot.leftovers().count() == closed(snapshot));
}

/// How many records hang on clusters that are not there.
fn closed(snapshot: &DirectorySnapshot) -> usize {
    let slots = snapshot.cluster_slots.iter();
    let closed = slots.filter(|(id, _)| snapshot.cluster_by_id(id).is_none());
    closed.map(|(_, slot)| slot.len()).sum()
}

#[test]
fn associations_out_of_order_are_no_record() {
    let policy = |n: u8| PolicyAssociation {
        policy_arn: format!("arn:aws:eks::aws:cluster-access-policy/P{n}").into(),
        scope: AccessScope::Cluster,
        associated: time(0),
        modified: time(0),
    };
    let arn = "arn:aws:iam::111122223330:role/Role-0";
    for (policies, reads) in [
        (vec![1, 2], true),
        (vec![2, 1], false),
        (vec![1, 1], false),
        (vec![], true),
    ] {
        let mut record = entry((0, 0), arn.into(), None, 0);
        record.associations = policies.iter().map(|n| policy(*n)).collect();
        let (key, value) = of_entry(&record, true);
        let decoded = crate::records::AnyRecord::decode(&Key::new(key).unwrap(), &value.unwrap());
        assert_eq!(decoded.is_ok(), reads, "{policies:?}");
    }
}

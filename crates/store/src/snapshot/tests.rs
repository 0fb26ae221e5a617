use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use countersign_arn::{AccountId, Partition};
use countersign_session::{KeyRing, NewKey};
use futures::StreamExt;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::records::{
    AccessKey, AccessKeyStatus, Account, AccountAlias, AuthenticationMode, Cluster,
    ClusterSettings, Creator, Group, InlinePolicy, InstanceProfile, Role, SECRET_FIELD,
    SESSION_KEYS_FIELD, SessionKeys, TrustPolicy, User,
};
use crate::{Change, RedbStore, RootKey, SecretString, Transaction, Value};

/// One write, chosen from few names so that writes meet.
#[derive(Debug, Clone)]
enum Step {
    Account {
        account: u8,
        alias: Option<u8>,
    },
    Alias {
        alias: u8,
        account: u8,
    },
    User {
        account: u8,
        name: u8,
        generation: u8,
        keys: Vec<u8>,
    },
    AccessKey {
        id: u8,
        account: u8,
        owner: u8,
        generation: u8,
        active: bool,
        sealed_for: u8,
    },
    Cluster {
        account: u8,
        region: u8,
        name: u8,
        mode: u8,
    },
    Role {
        account: u8,
        name: u8,
        generation: u8,
        policies: u8,
    },
    Group {
        account: u8,
        name: u8,
        generation: u8,
        attached: u8,
    },
    InstanceProfile {
        account: u8,
        name: u8,
        role: Option<u8>,
    },
    SessionKeys {
        key: u8,
        whole: bool,
    },
    Garbage {
        at: u8,
        value: u8,
    },
    Delete {
        at: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let few = 0..3_u8;
    prop_oneof![
        (few.clone(), proptest::option::of(few.clone()))
            .prop_map(|(account, alias)| Step::Account { account, alias }),
        (few.clone(), few.clone()).prop_map(|(alias, account)| Step::Alias { alias, account }),
        (
            few.clone(),
            few.clone(),
            few.clone(),
            proptest::collection::vec(0..6_u8, 0..3)
        )
            .prop_map(|(account, name, generation, keys)| Step::User {
                account,
                name,
                generation,
                keys
            }),
        (
            0..6_u8,
            few.clone(),
            few.clone(),
            few.clone(),
            any::<bool>(),
            0..8_u8
        )
            .prop_map(|(id, account, owner, generation, active, sealed_for)| {
                Step::AccessKey {
                    id,
                    account,
                    owner,
                    generation,
                    active,
                    sealed_for,
                }
            }),
        (few.clone(), few.clone(), few.clone(), few.clone()).prop_map(
            |(account, region, name, mode)| Step::Cluster {
                account,
                region,
                name,
                mode
            }
        ),
        (few.clone(), few.clone(), few.clone(), few.clone()).prop_map(
            |(account, name, generation, policies)| Step::Role {
                account,
                name,
                generation,
                policies
            }
        ),
        (few.clone(), few.clone(), few.clone(), few.clone()).prop_map(
            |(account, name, generation, attached)| Step::Group {
                account,
                name,
                generation,
                attached
            }
        ),
        (few.clone(), few.clone(), proptest::option::of(few.clone())).prop_map(
            |(account, name, role)| Step::InstanceProfile {
                account,
                name,
                role
            }
        ),
        (few.clone(), any::<bool>()).prop_map(|(key, whole)| Step::SessionKeys { key, whole }),
        (any::<u8>(), few).prop_map(|(at, value)| Step::Garbage { at, value }),
        any::<u8>().prop_map(|at| Step::Delete { at }),
        any::<u8>().prop_map(|at| Step::Delete { at }),
    ]
}

pub(super) fn account(n: u8) -> AccountId {
    AccountId::from_number(111_122_223_330 + u64::from(n)).unwrap()
}

fn key_id(n: u8) -> String {
    format!("AKIARTX3GSDSXFDOCIS{n}")
}

fn user_id(account: u8, name: u8, generation: u8) -> Box<str> {
    format!("AIDARTX3GSDSXFDO{account}{name}{generation}AA").into()
}

fn group_id(account: u8, name: u8, generation: u8) -> Box<str> {
    format!("AGPARTX3GSDSXFDO{account}{name}{generation}AA").into()
}

fn policy_arn(n: u8) -> Box<str> {
    format!("arn:aws:iam::aws:policy/p{n}").into()
}

/// Every key that a step may write, and some that no version knows.
fn some_key(at: u8) -> Key {
    let pick = at % 3;
    let other = (at / 3) % 3;
    let key = match at % 12 {
        0 => format!("account/{}", account(pick)),
        1 => format!("account-alias/alias-{pick}"),
        2 => format!("user/{}/name-{other}", account(pick)),
        3 => format!("access-key/{}", key_id(at % 6)),
        4 => format!("cluster/{}/region-{other}/name-{}", account(pick), at % 2),
        5 => format!("role-of-later/{}/name-{other}", account(pick)),
        8 | 9 => format!("role/{}/name-{other}", account(pick)),
        10 => "meta/session-keys".into(),
        11 => format!("group/{}/name-{other}", account(pick)),
        6 => format!("user/{}/", account(pick)),
        7 => format!("instance-profile/{}/name-{other}", account(pick)),
        _ => "meta/later".into(),
    };
    Key::new(key).unwrap()
}

/// The key and, unless it is deleted, the value that a step writes.
fn write(step: &Step, sealer: &Sealer) -> (Key, Option<Value>) {
    let created = Timestamp::from_second(1_700_000_000).unwrap();
    let (key, value) = match step.clone() {
        Step::Account { account: id, alias } => {
            let record = Account {
                id: account(id),
                partition: Partition::Aws,
                alias: alias.map(|n| format!("alias-{n}").into()),
                organization_id: None,
                created,
                root_keys: Vec::new(),
                password_policy: None,
                outbound_federation: None,
                credential_report: None,
            };
            (format!("account/{}", record.id), record.encode())
        }
        Step::Alias { alias, account: id } => {
            let record = AccountAlias {
                alias: format!("alias-{alias}").into(),
                account: account(id),
            };
            (format!("account-alias/{}", record.alias), record.encode())
        }
        Step::User {
            account: id,
            name,
            generation,
            keys,
        } => {
            let record = User {
                account: account(id),
                partition: Partition::Aws,
                name: format!("Name-{name}").into(),
                path: "/".into(),
                id: user_id(id, name, generation),
                created,
                tags: Vec::new(),
                access_keys: keys.iter().map(|n| key_id(*n).into()).collect(),
                policies: Vec::new(),
                attached: keys.iter().map(|n| policy_arn(*n)).collect(),
                boundary: keys.first().map(|n| policy_arn(*n)),
                groups: keys.iter().map(|n| group_id(id, *n, generation)).collect(),
                mfa_devices: Vec::new(),
                login: None,
            };
            (
                format!("user/{}/name-{name}", record.account),
                record.encode(),
            )
        }
        Step::AccessKey {
            id,
            account: owner_account,
            owner,
            generation,
            active,
            sealed_for,
        } => {
            let place = Key::new(format!("access-key/{}", key_id(sealed_for.min(5)))).unwrap();
            let secret = SecretString::new(format!("secret {id} {generation}"));
            let record = AccessKey {
                id: key_id(id).into(),
                account: account(owner_account),
                user_id: user_id(owner_account, owner, generation),
                secret: sealer.seal(&place, SECRET_FIELD, &secret).unwrap(),
                status: if active {
                    AccessKeyStatus::Active
                } else {
                    AccessKeyStatus::Inactive
                },
                created,
            };
            (format!("access-key/{}", record.id), record.encode())
        }
        Step::Cluster {
            account: id,
            region,
            name,
            mode,
        } => {
            let modes = [
                AuthenticationMode::ConfigMap,
                AuthenticationMode::ApiAndConfigMap,
                AuthenticationMode::Api,
            ];
            let record = Cluster {
                account: account(id),
                partition: Partition::Aws,
                region: format!("region-{region}").into(),
                name: format!("name-{name}").into(),
                id: format!("{id}{region}{name}{:0>29}", mode % 2).into(),
                authentication_mode: modes[usize::from(mode)],
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
                created,
                settles: None,
                update: None,
                deleting: None,
            };
            (
                format!(
                    "cluster/{}/{}/{}",
                    record.account, record.region, record.name
                ),
                record.encode(),
            )
        }
        Step::Role {
            account: id,
            name,
            generation,
            policies,
        } => {
            let record = Role {
                account: account(id),
                partition: Partition::Aws,
                name: format!("Name-{name}").into(),
                path: "/".into(),
                id: format!("AROARTX3GSDSXFDO{id}{name}{generation}AA").into(),
                created,
                description: None,
                max_session_duration: 3600,
                trust: TrustPolicy::default(),
                tags: Vec::new(),
                policies: (0..policies)
                    .map(|n| InlinePolicy {
                        name: format!("p{n}").into(),
                        document: "{}".into(),
                    })
                    .collect(),
                attached: (0..policies).map(policy_arn).collect(),
                boundary: (policies > 1).then(|| policy_arn(policies)),
            };
            (
                format!("role/{}/name-{name}", record.account),
                record.encode(),
            )
        }
        Step::Group {
            account: id,
            name,
            generation,
            attached,
        } => {
            let record = Group {
                account: account(id),
                partition: Partition::Aws,
                name: format!("Name-{name}").into(),
                path: "/".into(),
                id: group_id(id, name, generation),
                created,
                policies: Vec::new(),
                attached: (0..attached).map(policy_arn).collect(),
            };
            (
                format!("group/{}/name-{name}", record.account),
                record.encode(),
            )
        }
        Step::InstanceProfile {
            account: id,
            name,
            role,
        } => {
            let record = InstanceProfile {
                account: account(id),
                partition: Partition::Aws,
                name: format!("Name-{name}").into(),
                path: "/".into(),
                id: "AIPARTX3GSDSXFDOCISAA".into(),
                created,
                role: role.map(|role| format!("AROARTX3GSDSXFDO{role}AAAA").into()),
                tags: Vec::new(),
            };
            (
                format!("instance-profile/{}/name-{name}", record.account),
                record.encode(),
            )
        }
        Step::SessionKeys { key, whole } => {
            let place = Key::new("meta/session-keys").unwrap();
            let new = NewKey::from_random(&[key; 36]);
            let ring = KeyRing::bootstrap(&new, created).unwrap().encode();
            let text = if whole {
                STANDARD_NO_PAD.encode(&*ring)
            } else {
                "no ring".into()
            };
            let record = SessionKeys {
                deployment: "d-1".into(),
                ring: sealer
                    .seal(&place, SESSION_KEYS_FIELD, &SecretString::new(text))
                    .unwrap(),
            };
            return (place, Some(record.encode()));
        }
        Step::Garbage { at, value } => {
            let values: [&[u8]; 3] = [b"{\"v\":2,\"later\":true}", b"", b"{\"v\":1}"];
            return (some_key(at), Some(values[usize::from(value)].into()));
        }
        Step::Delete { at } => return (some_key(at), None),
    };
    (Key::new(key).unwrap(), Some(value))
}

/// Everything a snapshot holds, as text.
fn contents(snapshot: &DirectorySnapshot) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (group, names) in &snapshot.members {
        all.extend(names.iter().map(|name| format!("member {group} {name:?}")));
    }
    for (role, names) in &snapshot.role_profiles {
        all.extend(
            names
                .iter()
                .map(|name| format!("profile of {role} {name:?}")),
        );
    }
    for (arn, users) in &snapshot.policy_users {
        all.extend(
            users
                .attached
                .iter()
                .map(|user| format!("attached {arn} {user:?}")),
        );
        all.extend(
            users
                .boundary
                .iter()
                .map(|user| format!("boundary {arn} {user:?}")),
        );
    }
    for (id, slot) in &snapshot.accounts {
        all.insert(format!("slot {id} {:?}", slot.account));
        all.extend(
            slot.users
                .iter()
                .map(|(name, user)| format!("user {id} {name} {user:?}")),
        );
        all.extend(
            slot.roles
                .iter()
                .map(|(name, role)| format!("role {id} {name} {role:?}")),
        );
        all.extend(
            slot.groups
                .iter()
                .map(|(name, group)| format!("group {id} {name} {group:?}")),
        );
        all.extend(
            slot.instance_profiles
                .iter()
                .map(|(name, profile)| format!("profile {id} {name} {profile:?}")),
        );
    }
    all.extend(
        snapshot
            .aliases
            .iter()
            .map(|entry| format!("alias {entry:?}")),
    );
    all.extend(
        snapshot
            .principals
            .iter()
            .map(|entry| format!("principal {entry:?}")),
    );
    all.extend(
        snapshot
            .access_keys
            .iter()
            .map(|(id, key)| format!("key {id} {key:?} {}", key.secret.expose())),
    );
    all.extend(
        snapshot
            .clusters
            .iter()
            .map(|entry| format!("clusters {entry:?}")),
    );
    all.insert(format!("session keys {:?}", snapshot.session_keys));
    all.insert(format!("outbound keys {:?}", snapshot.outbound_keys));
    all.extend(
        snapshot
            .unusable
            .iter()
            .map(|entry| format!("unusable {entry:?}")),
    );
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 96 } else { 512 }))]

    #[test]
    fn folding_changes_gives_what_loading_gives(
        transactions in proptest::collection::vec(proptest::collection::vec(step(), 1..4), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let sealer = Sealer::new(&RootKey::from_bytes([1; 32]), &[]).unwrap();
            let store = RedbStore::in_memory().unwrap();
            let mut folded = DirectorySnapshot::default();
            let mut watch = store.watch(Revision::ZERO);
            let mut last = Revision::ZERO;
            for steps in &transactions {
                let mut transaction = Transaction::new();
                let mut written = BTreeSet::new();
                for step in steps {
                    let (key, value) = write(step, &sealer);
                    if written.insert(key.clone()) {
                        transaction = match value {
                            Some(value) => transaction.put(&key, value),
                            None => transaction.delete(&key),
                        };
                    }
                }
                last = store.commit(transaction).await.unwrap();
            }
            while folded.revision() < last {
                folded.apply(&watch.next().await.unwrap().unwrap(), &sealer);
            }
            let loaded = DirectorySnapshot::load(&store, &Arc::new(sealer)).await.unwrap();
            assert_eq!(loaded.revision(), folded.revision());
            assert_eq!(contents(&folded), contents(&loaded));

            for n in 0..6 {
                let id = key_id(n);
                let Some(found) = loaded.access_key(&id) else { continue };
                let owner = found.owner.user().unwrap();
                assert!(owner.record.access_keys.iter().any(|key| **key == *id));
                assert_eq!(found.key.user_id, owner.record.id);
                assert!(loaded.user(found.key.account, &owner.record.name).is_some());
            }
        });
    }
}

#[test]
fn earlier_snapshot_is_not_touched_by_a_later_one() {
    let sealer = Sealer::new(&RootKey::from_bytes([1; 32]), &[]).unwrap();
    let step = Step::User {
        account: 0,
        name: 0,
        generation: 0,
        keys: vec![1],
    };
    let (key, value) = write(&step, &sealer);
    let mut earlier = DirectorySnapshot::default();
    earlier.apply(&batch(1, Change::Put(key.clone(), value.unwrap())), &sealer);
    let mut later = earlier.clone();
    later.apply(&batch(2, Change::Delete(key)), &sealer);
    assert!(earlier.user(account(0), "NAME-0").is_some());
    assert!(later.user(account(0), "name-0").is_none());
    assert!(later.principal("AIDARTX3GSDSXFDO000AA").is_none());
}

#[test]
fn record_of_a_later_version_takes_the_place_of_the_one_before() {
    let sealer = Sealer::new(&RootKey::from_bytes([1; 32]), &[]).unwrap();
    let (key, value) = write(
        &Step::User {
            account: 0,
            name: 0,
            generation: 0,
            keys: Vec::new(),
        },
        &sealer,
    );
    let mut snapshot = DirectorySnapshot::default();
    snapshot.apply(&batch(1, Change::Put(key.clone(), value.unwrap())), &sealer);
    snapshot.apply(
        &batch(2, Change::Put(key.clone(), b"{\"v\":2}".as_slice().into())),
        &sealer,
    );
    assert!(snapshot.user(account(0), "name-0").is_none());
    assert!(snapshot.is_unusable(&key));
    assert_eq!(snapshot.unusable_count(), 1);
    snapshot.apply(&batch(3, Change::Delete(key)), &sealer);
    assert_eq!(snapshot.unusable_count(), 0);
    assert!(snapshot.is_empty());
}

#[test]
fn access_key_authenticates_only_through_a_user_that_lists_it() {
    let sealer = Sealer::new(&RootKey::from_bytes([1; 32]), &[]).unwrap();
    let access_key = Step::AccessKey {
        id: 1,
        account: 0,
        owner: 0,
        generation: 0,
        active: true,
        sealed_for: 1,
    };
    let owners = [
        ("no user", None, false),
        ("listed", Some((0, 0, vec![1])), true),
        ("not listed", Some((0, 0, vec![2])), false),
        (
            "recreated under the same name",
            Some((0, 1, vec![1])),
            false,
        ),
        ("same name in another account", Some((1, 0, vec![1])), false),
    ];
    for (case, owner, authenticates) in owners {
        let mut steps = vec![access_key.clone()];
        if let Some((account, generation, keys)) = owner {
            steps.push(Step::User {
                account,
                name: 0,
                generation,
                keys,
            });
        }
        let mut snapshot = DirectorySnapshot::default();
        for (n, step) in steps.iter().enumerate() {
            let (key, value) = write(step, &sealer);
            snapshot.apply(
                &batch(n as u64 + 1, Change::Put(key, value.unwrap())),
                &sealer,
            );
        }
        assert_eq!(
            snapshot.access_key(&key_id(1)).is_some(),
            authenticates,
            "{case}"
        );
    }
}

#[test]
fn secret_moved_from_another_record_is_not_used() {
    let sealer = Sealer::new(&RootKey::from_bytes([1; 32]), &[]).unwrap();
    let moved = Step::AccessKey {
        id: 1,
        account: 0,
        owner: 0,
        generation: 0,
        active: true,
        sealed_for: 2,
    };
    let (key, value) = write(&moved, &sealer);
    let mut snapshot = DirectorySnapshot::default();
    snapshot.apply(&batch(1, Change::Put(key.clone(), value.unwrap())), &sealer);
    assert_eq!(snapshot.access_key_count(), 0);
    let (at, reason) = snapshot.unusable_records().next().unwrap();
    assert_eq!(
        (at, reason),
        (&key, &UnusableRecord::Seal(crate::SealError::NotAuthentic))
    );
}

#[test]
fn names_longer_than_any_name_are_not_found() {
    let snapshot = DirectorySnapshot::default();
    for name in [
        String::new(),
        "a".repeat(129),
        "ä".repeat(64),
        "a".repeat(100_000),
    ] {
        assert!(snapshot.user(account(0), &name).is_none());
    }
}

fn batch(revision: u64, change: Change) -> crate::Batch {
    crate::Batch {
        revision: Revision::new(revision),
        changes: [change].into(),
        catching_up: false,
    }
}

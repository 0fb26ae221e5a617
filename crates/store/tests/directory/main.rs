//! The directory: what may be created, changed and deleted, and by how many at once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod access_entries;
mod access_keys;
mod account;
mod accounts_and_users;
mod addons;
mod attachments;
mod aws_policies;
mod cluster_updates;
mod clusters;
mod groups;
mod instance_profiles;
mod login;
mod managed_policies;
mod mfa;
mod object_associations;
mod oidc_providers;
mod open;
mod outbound;
mod pod_identity;
mod provider_configs;
mod races;
mod requests;
mod revocations;
mod roles;
mod root_keys;
mod saml_providers;
mod service_linked_roles;
mod session_keys;
mod sweeps;
mod tags;
mod trust;

use std::sync::Arc;

use countersign_arn::{AccountId, Partition};
use countersign_store::conformance::TestStore;
use countersign_store::records::{Creator, Group, RecordKey, TrustPolicy};
use countersign_store::{
    ClusterPlace, Directory, NewAccount, NewCluster, NewManagedPolicy, NewRole, NewUser, Quotas,
    Random, RootKey, Sealer, Store, Transaction,
};
use jiff::Timestamp;

pub(crate) const REGION: &str = "eu-central-1";

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_780_000_000).unwrap()
}

pub(crate) fn account(n: u64) -> AccountId {
    AccountId::from_number(111_122_223_333 + n).unwrap()
}

pub(crate) fn sealer(byte: u8) -> Sealer {
    Sealer::new(&RootKey::from_bytes([byte; 32]), &[]).unwrap()
}

pub(crate) async fn open<S: Store>(store: &Arc<S>) -> Directory {
    let store = Arc::clone(store) as Arc<dyn Store>;
    Directory::open(store, sealer(1), Random::system(), Quotas::default())
        .await
        .unwrap()
}

pub(crate) async fn with_account() -> (Arc<TestStore>, Directory) {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = open(&store).await;
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    (store, directory)
}

pub(crate) async fn with_quotas(quotas: Quotas) -> (Arc<TestStore>, Directory) {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = Directory::open(Arc::clone(&store) as _, sealer(1), Random::system(), quotas)
        .await
        .unwrap();
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    (store, directory)
}

pub(crate) fn new_account(n: u64) -> NewAccount {
    NewAccount {
        id: account(n),
        partition: Partition::Aws,
        alias: None,
        organization_id: None,
    }
}

pub(crate) fn new_user(name: &str) -> NewUser {
    NewUser {
        account: account(0),
        name: name.into(),
        path: "/".into(),
        tags: Vec::new(),
    }
}

pub(crate) fn new_role(name: &str) -> NewRole {
    NewRole {
        account: account(0),
        name: name.into(),
        path: "/".into(),
        trust: TrustPolicy {
            document: "{}".into(),
            principals: Vec::new(),
        },
        max_session_duration: 3600,
        description: None,
        tags: Vec::new(),
        boundary: None,
    }
}

pub(crate) fn new_policy(name: &str) -> NewManagedPolicy {
    NewManagedPolicy {
        account: account(0),
        name: name.into(),
        path: "/".into(),
        description: None,
        document: "{}".into(),
        tags: Vec::new(),
    }
}

/// Puts a group there as another replica would.
pub(crate) async fn add_group<S: Store>(store: &Arc<S>, directory: &Directory, name: &str) {
    let key = RecordKey::Group {
        account: account(0),
        name,
    };
    let group = Group {
        account: account(0),
        partition: Partition::Aws,
        name: name.into(),
        path: "/".into(),
        id: format!("AGPA{name}").into(),
        created: now(),
        policies: Vec::new(),
        attached: Vec::new(),
    };
    let transaction = Transaction::new().put(&key.to_key().unwrap(), group.encode());
    let revision = store.commit(transaction).await.unwrap();
    directory.feed().wait_for(revision).await.unwrap();
}

pub(crate) fn new_cluster(name: &str) -> NewCluster {
    let creator = Creator {
        principal_arn: "arn:aws:iam::111122223333:user/ana".into(),
        principal_id: "AIDA".into(),
    };
    NewCluster::new(account(0), REGION, name, creator)
}

/// The cluster of this name in the first account.
pub(crate) fn place(name: &str) -> ClusterPlace<'_> {
    ClusterPlace {
        account: account(0),
        region: REGION,
        name,
    }
}

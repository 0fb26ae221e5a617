//! Clusters of the EKS API: which sources of identities are in force, and the access entries among them
//! (EKS API spec, sections 4 and 7; authentication spec, section 4).
//!
//! Everything is read from the snapshot of the review, so that a new entry, a deleted one and a change of the mode are in force
//! with the next review, and 100,000 entries cost nothing to keep.

use std::sync::Arc;

use countersign_access::{EntryType, Principal, default_username, shown_groups};
use countersign_arn::{AccountId, CallerArn, CallerIdentity, CallerKind};
use countersign_mapping::{
    ArnMatcher, Backend, BackendKind, Chain, Conditions, Entry, EntryLookup, LookedUp,
    MappingOptions, MappingTable, Matcher, Mismatch, MissKind, NearestMiss, NodeNameSource,
    RuleReference, Section, Template,
};
use countersign_store::records::{AuthenticationMode, PrincipalKind};
use countersign_store::{AccessEntryEntry, ClusterEntry, DirectorySnapshot};

use super::rules::RuleEntries;
use crate::access_policies::InForce;

/// What happens when an access entry without a unique id is used for the first time (EKS API spec, section 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrincipalBinding {
    /// It takes the unique id of the first principal whose account, kind and name match, and is for no other from then on.
    #[default]
    FirstUse,
    /// It lets nobody in.
    Strict,
}

/// Which cluster of the directory decides about a review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// The one with this place, whatever its id: a name in a configuration file.
    At {
        /// Its account.
        account: AccountId,
        /// Its region.
        region: Box<str>,
        /// Its name.
        name: Box<str>,
    },
    /// The one with this id.
    Id(Box<str>),
}

impl Registered {
    /// The cluster, unless it is not there or being deleted: then nobody gets in.
    #[must_use]
    pub fn find<'s>(&self, snapshot: &'s DirectorySnapshot) -> Option<&'s Arc<ClusterEntry>> {
        let cluster = match self {
            Self::At {
                account,
                region,
                name,
            } => snapshot.cluster(*account, region, name),
            Self::Id(id) => snapshot.cluster_by_id(id),
        };
        cluster.filter(|cluster| cluster.record.deleting.is_none())
    }
}

/// The chain that the cluster's mode asks for:
///
/// | mode | backends |
/// | --- | --- |
/// | `CONFIG_MAP` | creator, then `config_map` |
/// | `API_AND_CONFIG_MAP` | access entries, access rules, then `config_map` |
/// | `API` | access entries, access rules |
///
/// `config_map` is aws-auth, and whatever is configured in its place; the rules are those of `in_force`.
#[must_use]
pub fn chain_of(
    snapshot: &Arc<DirectorySnapshot>,
    cluster: &Arc<ClusterEntry>,
    config_map: &Chain,
    options: &MappingOptions,
    binding: PrincipalBinding,
    in_force: &Arc<InForce>,
) -> Chain {
    let record = &cluster.record;
    let mut backends = Vec::with_capacity(config_map.backends().len() + 2);
    let entries = || {
        let entries = Backend::Entries(Arc::new(SnapshotEntries {
            snapshot: Arc::clone(snapshot),
            cluster: Arc::clone(cluster),
            binding,
        }));
        let rules = (!in_force.rules().is_empty()).then(|| {
            Backend::Entries(Arc::new(RuleEntries {
                in_force: Arc::clone(in_force),
                snapshot: Arc::clone(snapshot),
                cluster: Arc::clone(cluster),
            }))
        });
        std::iter::once(entries).chain(rules)
    };
    let reads_config_map = match record.authentication_mode {
        AuthenticationMode::ConfigMap => {
            let creator = &record.creator;
            let table = MappingTable::cluster_creator(
                &creator.principal_arn,
                Some(&creator.principal_id),
                options,
            );
            backends.extend(
                table
                    .filter(|_| record.bootstrap_creator_admin)
                    .map(Backend::from),
            );
            true
        }
        AuthenticationMode::ApiAndConfigMap => {
            backends.extend(entries());
            true
        }
        AuthenticationMode::Api => {
            backends.extend(entries());
            false
        }
    };
    if reads_config_map {
        backends.extend(config_map.backends().iter().cloned());
    }
    config_map.with_backends(backends)
}

/// The access entries of one cluster in one snapshot.
#[derive(Debug)]
struct SnapshotEntries {
    snapshot: Arc<DirectorySnapshot>,
    cluster: Arc<ClusterEntry>,
    binding: PrincipalBinding,
}

impl SnapshotEntries {
    /// The entry with the caller's name, whoever it is bound to.
    fn named(&self, identity: &CallerIdentity) -> Option<&Arc<AccessEntryEntry>> {
        let kind = kind_of(identity.caller())?;
        self.snapshot.access_entry_named(
            &self.cluster.record.id,
            identity.account(),
            kind,
            name_of(identity.caller(), kind),
        )
    }
}

impl EntryLookup for SnapshotEntries {
    fn kind(&self) -> BackendKind {
        BackendKind::AccessEntries
    }

    /// By unique id. An entry without one is found by account, kind and name, which AWS has at most once; one with another id
    /// belonged to a principal that is gone.
    fn lookup(&self, identity: &CallerIdentity) -> LookedUp {
        let cluster_id = &self.cluster.record.id;
        if let Some(entry) = self
            .snapshot
            .access_entry_of_principal(cluster_id, identity.user_id())
        {
            return LookedUp::Entry(Arc::new(mapping_of(entry)));
        }
        let Some(entry) = self.named(identity) else {
            return LookedUp::NotMapped;
        };
        match (&entry.record.principal_id, self.binding) {
            (Some(_), _) => LookedUp::Mismatch(Mismatch::UserId, rule_of(entry)),
            (None, _) if !path_fits(entry, identity) => LookedUp::NotMapped,
            (None, PrincipalBinding::Strict) => {
                LookedUp::Mismatch(Mismatch::Unbound, rule_of(entry))
            }
            (None, PrincipalBinding::FirstUse) => LookedUp::Entry(Arc::new(mapping_of(entry))),
        }
    }

    fn nearest(&self, identity: &CallerIdentity) -> Vec<NearestMiss> {
        let Some(kind) = kind_of(identity.caller()) else {
            return Vec::new();
        };
        let near = |kind, miss| {
            let entry = self.snapshot.access_entry_named(
                &self.cluster.record.id,
                identity.account(),
                kind,
                name_of(identity.caller(), kind),
            )?;
            Some(NearestMiss {
                kind: miss,
                rule: rule_of(entry),
                principal: entry.record.principal_arn.to_string(),
            })
        };
        let same = self.named(identity).map(|entry| {
            if entry.record.principal_id.is_some() {
                MissKind::UserId
            } else {
                MissKind::Path
            }
        });
        let other = match kind {
            PrincipalKind::Role => Some(PrincipalKind::User),
            PrincipalKind::User => Some(PrincipalKind::Role),
            PrincipalKind::Root => None,
        };
        same.and_then(|miss| near(kind, miss))
            .into_iter()
            .chain(other.and_then(|kind| near(kind, MissKind::UserVersusRole)))
            .collect()
    }
}

/// Which kind of principal calls; federated users have no entries.
pub(super) fn kind_of(caller: &CallerArn) -> Option<PrincipalKind> {
    match caller.kind() {
        CallerKind::Role | CallerKind::AssumedRole => Some(PrincipalKind::Role),
        CallerKind::User => Some(PrincipalKind::User),
        CallerKind::Root => Some(PrincipalKind::Root),
        CallerKind::FederatedUser => None,
    }
}

/// The name by which entries of this kind are found.
pub(super) fn name_of(caller: &CallerArn, kind: PrincipalKind) -> &str {
    match kind {
        PrincipalKind::Root => "root",
        PrincipalKind::Role | PrincipalKind::User => caller.name(),
    }
}

/// Whether an entry that is not bound yet may be the caller's by its path. Real AWS tells no paths of roles; where the path is
/// known, it has to be the entry's, and so has the partition always.
fn path_fits(entry: &AccessEntryEntry, identity: &CallerIdentity) -> bool {
    let written = &entry.record.principal_arn;
    let Ok(principal) = Principal::parse(written) else {
        return false;
    };
    if principal.partition() != identity.caller().partition() {
        return false;
    }
    match (identity.facts(), identity.caller().kind()) {
        (Some(facts), _) => facts.principal_arn == **written,
        (None, CallerKind::User) => identity.canonical_arn() == &**written,
        (None, _) => true,
    }
}

fn rule_of(entry: &AccessEntryEntry) -> RuleReference {
    RuleReference {
        backend: BackendKind::AccessEntries,
        section: Section::Objects,
        index: 0,
        position: None,
        object: Some((*entry.record.principal_arn).into()),
    }
}

/// The entry as the chain renders it: the username a template, the groups as they are (EKS API spec, sections 7.2 and 7.5).
fn mapping_of(entry: &AccessEntryEntry) -> Entry {
    let record = &entry.record;
    let username = match (&record.username, Principal::parse(&record.principal_arn)) {
        (Some(username), _) => Template::new(username),
        (None, Ok(principal)) => Template::new(&default_username(&principal, record.entry_type)),
        // No entry is stored with such an ARN; an empty username is refused when it is rendered.
        (None, Err(_)) => Template::literal(""),
    };
    let groups = match record.entry_type {
        EntryType::Standard => record.groups.iter().map(|g| Template::literal(g)).collect(),
        node => shown_groups(node)
            .iter()
            .map(|g| Template::literal(g))
            .collect(),
    };
    Entry {
        rule: rule_of(entry),
        matcher: Matcher::Arn(ArnMatcher {
            written: record.principal_arn.clone(),
            caller: None,
            key: None,
            role_path: None,
        }),
        username,
        groups,
        conditions: Conditions {
            node_name: match record.entry_type {
                EntryType::Ec2 => NodeNameSource::PrivateDnsNameOrInstanceId,
                _ => NodeNameSource::PrivateDnsName,
            },
            ..Conditions::default()
        },
    }
}

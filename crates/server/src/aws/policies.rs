//! The policies of users and roles, compiled once for each state of the records they come from.
//!
//! A principal's policies have parts: its own inline documents, the managed policies attached to it, the same two of each
//! of its groups, and its boundary. A principal's entry remembers the revision of every part; it is good for as long as all
//! of them are what they were, and comparing them allocates nothing. A managed policy, or a group, is compiled once for all
//! who have it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use countersign_arn::Arn;
use countersign_policy::{
    Attached, Document, Policy, PolicyKind, PrincipalIds, PrincipalSlot, Source,
};
use countersign_store::records::{InlinePolicy, TrustPolicy};
use countersign_store::{DirectorySnapshot, GroupEntry, Revision, RoleEntry, UserEntry};

/// Entries remembered; when there are more, all are forgotten and the busy ones come back.
const CAPACITY: usize = 8192;

/// Stands in for a document that cannot be read: what it denied is not known, so it denies everything.
const DENY_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;

/// The compiled policies of one user or role.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    /// The trust policy; empty for users, and for a document that cannot be read, which then trusts nobody.
    pub(crate) trust: Vec<Attached>,
    /// Identity policies: inline and managed ones, its own and those of its groups.
    pub(crate) identity: Vec<Attached>,
    /// The permissions boundary.
    pub(crate) boundary: Option<Attached>,
}

/// The revision of a part; nothing when it is not there.
type PartRevision = Option<Revision>;

struct KnownPrincipal {
    parts: Box<[PartRevision]>,
    compiled: Arc<Compiled>,
}

/// Documents that several principals share, and the revision of the record they were compiled from.
type KnownPart = (Revision, Arc<[Attached]>);

/// Compiled policies: of principals by unique id, of groups by unique id, of managed policies by ARN.
#[derive(Default)]
pub(crate) struct PolicyCache {
    principals: RwLock<HashMap<Box<str>, KnownPrincipal>>,
    groups: RwLock<HashMap<Box<str>, KnownPart>>,
    managed: RwLock<HashMap<Box<str>, KnownPart>>,
    boundaries: RwLock<HashMap<Box<str>, KnownPart>>,
}

impl PolicyCache {
    /// The policies of a user.
    pub(crate) fn user(&self, snapshot: &DirectorySnapshot, user: &UserEntry) -> Arc<Compiled> {
        let record = &user.record;
        let parts = || {
            let groups = record.groups.iter().flat_map(|id| {
                let group = snapshot.group_by_id(id);
                let attached = group.map_or(&[][..], |group| &group.record.attached);
                std::iter::once(group.map(|group| group.modified))
                    .chain(managed(snapshot, attached))
            });
            std::iter::once(Some(user.modified))
                .chain(managed(snapshot, &record.attached))
                .chain(managed(snapshot, record.boundary.as_slice()))
                .chain(groups)
        };
        self.get(&record.id, parts, || {
            let mut identity = inline(&record.policies, "user");
            self.attach(snapshot, &record.attached, None, &mut identity);
            for id in &record.groups {
                match snapshot.group_by_id(id) {
                    Some(group) => {
                        identity.extend_from_slice(&self.group(group));
                        let via = Some(&*group.record.name);
                        self.attach(snapshot, &group.record.attached, via, &mut identity);
                    }
                    None => identity.extend(denied_by_missing(id)),
                }
            }
            Compiled {
                trust: Vec::new(),
                identity,
                boundary: self.boundary(snapshot, record.boundary.as_deref()),
            }
        })
    }

    /// The policies of a role.
    pub(crate) fn role(&self, snapshot: &DirectorySnapshot, role: &RoleEntry) -> Arc<Compiled> {
        let record = &role.record;
        let parts = || {
            std::iter::once(Some(role.modified))
                .chain(managed(snapshot, &record.attached))
                .chain(managed(snapshot, record.boundary.as_slice()))
        };
        self.get(&record.id, parts, || {
            let mut identity = inline(&record.policies, "role");
            self.attach(snapshot, &record.attached, None, &mut identity);
            Compiled {
                trust: trust(&record.trust),
                identity,
                boundary: self.boundary(snapshot, record.boundary.as_deref()),
            }
        })
    }

    /// A managed policy as session policy; one that is not there allows nothing.
    pub(crate) fn session(&self, snapshot: &DirectorySnapshot, arn: &str) -> Option<Attached> {
        snapshot.policy_by_arn(arn)?;
        self.managed(snapshot, arn).first().cloned()
    }

    fn get<I: Iterator<Item = PartRevision>>(
        &self,
        id: &str,
        parts: impl Fn() -> I,
        compile: impl FnOnce() -> Compiled,
    ) -> Arc<Compiled> {
        {
            let known = self
                .principals
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.get(id)
                && parts().eq(known.parts.iter().copied())
            {
                return Arc::clone(&known.compiled);
            }
        }
        let compiled = Arc::new(compile());
        let known = KnownPrincipal {
            parts: parts().collect(),
            compiled: Arc::clone(&compiled),
        };
        remember(&self.principals, id, known);
        compiled
    }

    fn attach(
        &self,
        snapshot: &DirectorySnapshot,
        arns: &[Box<str>],
        via: Option<&str>,
        into: &mut Vec<Attached>,
    ) {
        for arn in arns {
            let policies = self.managed(snapshot, arn);
            into.extend(policies.iter().cloned().map(|mut policy| {
                policy.source.attached_via = via.map(Into::into);
                policy
            }));
        }
    }

    fn managed(&self, snapshot: &DirectorySnapshot, arn: &str) -> Arc<[Attached]> {
        shared_policy(&self.managed, snapshot, arn, PolicyKind::Identity)
    }

    fn boundary(&self, snapshot: &DirectorySnapshot, arn: Option<&str>) -> Option<Attached> {
        let policies = shared_policy(&self.boundaries, snapshot, arn?, PolicyKind::Boundary);
        policies.first().cloned()
    }

    fn group(&self, group: &GroupEntry) -> Arc<[Attached]> {
        shared(&self.groups, &group.record.id, group.modified, || {
            let mut policies = inline(&group.record.policies, "group");
            for policy in &mut policies {
                policy.source.attached_via = Some(group.record.name.clone());
            }
            policies
        })
    }
}

impl fmt::Debug for PolicyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyCache")
    }
}

/// The revisions of managed policies.
fn managed<'s>(
    snapshot: &'s DirectorySnapshot,
    arns: &'s [Box<str>],
) -> impl Iterator<Item = PartRevision> + 's {
    arns.iter()
        .map(|arn| Some(snapshot.policy_by_arn(arn)?.revision()))
}

/// A managed policy; one that is attached and not there denies everything.
fn shared_policy(
    cache: &RwLock<HashMap<Box<str>, KnownPart>>,
    snapshot: &DirectorySnapshot,
    arn: &str,
    kind: PolicyKind,
) -> Arc<[Attached]> {
    let Some(policy) = snapshot.policy_by_arn(arn) else {
        return denied_by_missing(arn).into_iter().collect();
    };
    shared(cache, arn, policy.revision(), || {
        // The ARN tells for which partition; what is cached under it is for this one only.
        let partition = Arn::parse(arn)
            .ok()
            .and_then(|arn| arn.partition.parse().ok())
            .unwrap_or_default();
        let document = policy.default_document_in(partition);
        let mut compiled = compile([(policy.name(), &*document)], kind);
        for attached in &mut compiled {
            attached.source = Source {
                id: policy.name().into(),
                kind: Some(if policy.is_aws() {
                    "aws-managed".into()
                } else {
                    "user-managed".into()
                }),
                arn: Some(arn.into()),
                attached_via: None,
            };
        }
        compiled
    })
}

fn shared(
    cache: &RwLock<HashMap<Box<str>, KnownPart>>,
    key: &str,
    revision: Revision,
    compile: impl FnOnce() -> Vec<Attached>,
) -> Arc<[Attached]> {
    let known = cache
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(key)
        .cloned();
    if let Some((at, compiled)) = known
        && at == revision
    {
        return compiled;
    }
    let compiled: Arc<[Attached]> = compile().into();
    remember(cache, key, (revision, Arc::clone(&compiled)));
    compiled
}

fn remember<V>(cache: &RwLock<HashMap<Box<str>, V>>, key: &str, value: V) {
    let mut entries = cache.write().unwrap_or_else(PoisonError::into_inner);
    if entries.len() >= CAPACITY && !entries.contains_key(key) {
        entries.clear();
    }
    entries.insert(key.into(), value);
}

fn denied_by_missing(what: &str) -> Option<Attached> {
    tracing::error!(%what, "a group or policy that a principal has is not there and denies everything");
    let policy = Policy::parse(DENY_ALL, PolicyKind::Identity).ok()?;
    Some(Attached::new(Arc::new(policy), what))
}

/// Compiles documents of one layer; one that cannot be read denies everything.
pub(crate) fn compile<'t>(
    documents: impl IntoIterator<Item = (&'t str, &'t str)>,
    kind: PolicyKind,
) -> Vec<Attached> {
    let one = |(name, text): (&str, &str)| {
        let policy = Policy::parse(text, kind).or_else(|error| {
            tracing::error!(policy = name, %error, "a stored policy cannot be read and denies everything");
            Policy::parse(DENY_ALL, kind)
        });
        policy
            .ok()
            .map(|policy| Attached::new(Arc::new(policy), name))
    };
    documents.into_iter().filter_map(one).collect()
}

fn inline(policies: &[InlinePolicy], of: &str) -> Vec<Attached> {
    let mut compiled = compile(
        policies
            .iter()
            .map(|policy| (&*policy.name, &*policy.document)),
        PolicyKind::Identity,
    );
    for attached in &mut compiled {
        attached.source.kind = Some(of.into());
    }
    compiled
}

fn trust(trust: &TrustPolicy) -> Vec<Attached> {
    let ids: PrincipalIds = trust
        .principals
        .iter()
        .map(|bound| {
            (
                PrincipalSlot {
                    statement: bound.statement,
                    entry: bound.entry,
                },
                bound.id.clone(),
            )
        })
        .collect();
    match Document::parse(&*trust.document) {
        Ok(document) => {
            let policy = Policy::compile_with_ids(document, PolicyKind::Trust, &ids);
            vec![Attached::new(Arc::new(policy), "trust")]
        }
        Err(error) => {
            tracing::error!(%error, "a stored trust policy cannot be read and trusts nobody");
            Vec::new()
        }
    }
}

//! The policies of users and roles, compiled once for each state of their record.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use countersign_policy::{Attached, Document, Policy, PolicyKind, PrincipalIds, PrincipalSlot};
use countersign_store::records::{InlinePolicy, TrustPolicy};
use countersign_store::{Revision, RoleEntry, UserEntry};

/// Principals remembered; when there are more, all are forgotten and the busy ones come back.
const CAPACITY: usize = 8192;

/// Stands in for a document that cannot be read: what it denied is not known, so it denies everything.
const DENY_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;

/// The compiled policies of one user or role.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The trust policy; empty for users, and for a document that cannot be read, which then trusts nobody.
    pub(crate) trust: Vec<Attached>,
    /// Inline identity policies.
    pub(crate) identity: Vec<Attached>,
}

/// Policies, and the revision of the record they were compiled from.
type Cached = (Revision, Arc<Compiled>);

/// Compiled policies by unique id; an entry is good for one revision of the record.
#[derive(Default)]
pub(crate) struct PolicyCache {
    entries: RwLock<HashMap<Box<str>, Cached>>,
}

impl PolicyCache {
    /// The policies of a user.
    pub(crate) fn user(&self, user: &UserEntry) -> Arc<Compiled> {
        self.get(&user.record.id, user.modified, || Compiled {
            trust: Vec::new(),
            identity: identity(&user.record.policies),
        })
    }

    /// The policies of a role.
    pub(crate) fn role(&self, role: &RoleEntry) -> Arc<Compiled> {
        self.get(&role.record.id, role.modified, || Compiled {
            trust: trust(&role.record.trust),
            identity: identity(&role.record.policies),
        })
    }

    fn get(
        &self,
        id: &str,
        revision: Revision,
        compile: impl FnOnce() -> Compiled,
    ) -> Arc<Compiled> {
        let known = self
            .entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned();
        if let Some((at, compiled)) = known
            && at == revision
        {
            return compiled;
        }
        let compiled = Arc::new(compile());
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY && !entries.contains_key(id) {
            entries.clear();
        }
        entries.insert(id.into(), (revision, Arc::clone(&compiled)));
        compiled
    }
}

impl fmt::Debug for PolicyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyCache")
    }
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

fn identity(policies: &[InlinePolicy]) -> Vec<Attached> {
    compile(
        policies
            .iter()
            .map(|policy| (&*policy.name, &*policy.document)),
        PolicyKind::Identity,
    )
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

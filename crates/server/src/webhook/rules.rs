//! Access rules: what principals without an access entry of their own get (EKS API spec, section 18.1; authentication spec,
//! section 3.11).
//!
//! Authentication and the authorizer find the rule of a caller in the same way, each in the snapshot and the file of its moment:
//! a rule that is taken away, and in the embedded IAM a tag or group, counts from the next question on.

use std::sync::Arc;

use countersign_access::{AccessRule, RuleSubject};
use countersign_arn::{CallerArn, CallerIdentity, CallerKind};
use countersign_mapping::{
    ArnMatcher, BackendKind, Conditions, Entry, EntryLookup, LookedUp, Matcher, NearestMiss,
    RuleReference, Section, Template,
};
use countersign_store::records::Cluster;
use countersign_store::{ClusterEntry, DirectorySnapshot, Principal};

use super::entries::{kind_of, name_of};
use crate::access_policies::InForce;

/// The rule for a caller whose principal has this unique id, on one cluster.
///
/// An access entry of the caller's account, kind and name hides all rules, also when it lets the caller not in: it is dead,
/// waits for its principal, or was made for another path. Whoever deletes and makes a principal again must not get what a rule
/// gives in the place of what the entry withholds; deleting the entry brings the rules back.
///
/// Where the embedded IAM verified the caller, the principal has to be there now, and its path, tags and groups are those of
/// now.
pub(super) fn find<'r>(
    in_force: &'r InForce,
    snapshot: &DirectorySnapshot,
    cluster: &Cluster,
    principal_id: &str,
    caller: &CallerArn,
) -> Option<&'r AccessRule> {
    let rules = in_force.rules();
    if rules.is_empty() {
        return None;
    }
    let kind = kind_of(caller)?;
    let name = name_of(caller, kind);
    if snapshot
        .access_entry_named(&cluster.id, caller.account(), kind, name)
        .is_some()
    {
        return None;
    }
    let mut subject = RuleSubject {
        caller,
        role_path: None,
        principal_tags: None,
        iam_groups: None,
    };
    if !in_force.iam_is_known() {
        return rules.find(&cluster.name, &subject);
    }
    let is_named = |account, name: &str| {
        account == caller.account() && name.eq_ignore_ascii_case(caller.name())
    };
    match (caller.kind(), snapshot.principal(principal_id)) {
        (CallerKind::AssumedRole, Some(Principal::Role(role)))
            if is_named(role.record.account, &role.record.name) =>
        {
            subject.role_path = Some(&role.record.path);
            subject.principal_tags = Some(&role.record.tags);
            rules.find(&cluster.name, &subject)
        }
        (CallerKind::User, Some(Principal::User(user)))
            if is_named(user.record.account, &user.record.name) =>
        {
            let groups: Vec<Box<str>> = snapshot
                .groups_of(user)
                .map(|group| group.record.name.clone())
                .collect();
            subject.principal_tags = Some(&user.record.tags);
            subject.iam_groups = Some(&groups);
            rules.find(&cluster.name, &subject)
        }
        (CallerKind::Root, None)
            if principal_id == caller.account_str()
                && snapshot.account(caller.account()).is_some() =>
        {
            rules.find(&cluster.name, &subject)
        }
        _ => None,
    }
}

/// The rules of one moment as a source of identities, behind the access entries.
#[derive(Debug)]
pub(super) struct RuleEntries {
    pub(super) in_force: Arc<InForce>,
    pub(super) snapshot: Arc<DirectorySnapshot>,
    pub(super) cluster: Arc<ClusterEntry>,
}

impl EntryLookup for RuleEntries {
    fn kind(&self) -> BackendKind {
        BackendKind::AccessRules
    }

    fn lookup(&self, identity: &CallerIdentity) -> LookedUp {
        let found = find(
            &self.in_force,
            &self.snapshot,
            &self.cluster.record,
            identity.user_id(),
            identity.caller(),
        );
        found.map_or(LookedUp::NotMapped, |rule| {
            LookedUp::Entry(Arc::new(mapping_of(rule, identity)))
        })
    }

    /// None: a rule that does not match says nothing about whom it was meant for.
    fn nearest(&self, _: &CallerIdentity) -> Vec<NearestMiss> {
        Vec::new()
    }
}

/// What the chain renders: everything literal, since the rule has its own placeholders.
fn mapping_of(rule: &AccessRule, identity: &CallerIdentity) -> Entry {
    // An empty username is refused when it is rendered, and no later source is asked.
    let username = rule.username_of(identity.caller()).unwrap_or_else(|fault| {
        tracing::warn!(rule = %rule.cited(), %fault, "an access rule makes no username for a caller");
        String::new()
    });
    Entry {
        rule: RuleReference {
            backend: BackendKind::AccessRules,
            section: Section::Objects,
            index: 0,
            position: None,
            object: Some(rule.cited().into()),
        },
        matcher: Matcher::Arn(ArnMatcher {
            written: identity.canonical_arn().into(),
            caller: None,
            key: None,
            role_path: None,
        }),
        username: Template::literal(&username),
        groups: rule.groups.iter().map(|g| Template::literal(g)).collect(),
        conditions: Conditions::default(),
    }
}

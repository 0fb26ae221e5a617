//! Rules that almost match: the first thing a person asks after "Unauthorized" (authentication spec, section 5.7).
//!
//! Computed only for denials, from the indexes by name and account, so the work does not grow with the tables.

use std::fmt;

use countersign_arn::{CallerArn, CallerIdentity, CallerKind};
use serde::Serialize;

use crate::chain::{Backend, Chain};
use crate::entry::{Entry, Matcher, RuleReference, SsoMatcher};
use crate::table::{Key, MAX_SAME_NAME, MappingTable};

/// At most this many are reported.
const MAX_MISSES: usize = 5;

/// Entries of one account that are looked at.
const MAX_SAME_ACCOUNT: usize = 64;

/// What keeps a rule from matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MissKind {
    /// Only the path differs.
    Path,
    /// Only the case of a federated user's name, or of the `AWSReservedSSO_` prefix, differs.
    Case,
    /// The same permission set with another suffix.
    SsoSuffix,
    /// The entry names one session of the role.
    SessionArn,
    /// The entry is for other session names.
    SessionName,
    /// The entry's `userid` is another one.
    UserId,
    /// A user of the same name where a role calls, or the other way round.
    UserVersusRole,
    /// The same principal in another partition.
    Partition,
    /// A pattern that leaves this name out.
    Excluded,
    /// Other principals of the account are mapped.
    OtherInAccount,
}

/// A rule that almost matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearestMiss {
    /// What keeps it from matching.
    pub kind: MissKind,
    /// The rule.
    pub rule: RuleReference,
    /// The principal it is for, as it is written.
    pub principal: String,
}

impl fmt::Display for NearestMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            MissKind::Path => "differs only by the path",
            MissKind::Case => "differs only by case",
            MissKind::SsoSuffix => "is the same permission set with another suffix",
            MissKind::SessionArn => "is the ARN of a session, which never matches",
            MissKind::SessionName => "is for other session names",
            MissKind::UserId => "is for an earlier principal of the same name",
            MissKind::UserVersusRole => "differs only in being a user or a role",
            MissKind::Partition => "is in another partition",
            MissKind::Excluded => "leaves this name out",
            MissKind::OtherInAccount => "is for another principal of the same account",
        };
        write!(f, "{} {what} ({})", self.principal, self.rule)
    }
}

/// The nearest misses of all backends, the nearest first.
pub(crate) fn misses(chain: &Chain, identity: &CallerIdentity) -> Vec<NearestMiss> {
    let mut misses: Vec<NearestMiss> = Vec::new();
    for backend in chain.backends() {
        match backend {
            Backend::Table(table) => of_table(table, identity, &mut misses),
            Backend::Entries(entries) => {
                misses.extend(entries.nearest(identity).into_iter().take(MAX_MISSES));
            }
        }
    }
    misses.sort_by_key(|miss| miss.kind);
    // That others of the account are mapped says nothing beside a nearer miss.
    if misses
        .first()
        .is_some_and(|nearest| nearest.kind != MissKind::OtherInAccount)
    {
        misses.retain(|miss| miss.kind != MissKind::OtherInAccount);
    }
    misses.truncate(MAX_MISSES);
    misses
}

fn of_table(table: &MappingTable, identity: &CallerIdentity, misses: &mut Vec<NearestMiss>) {
    let entries = table.entries();
    let caller = identity.caller();
    let named = table
        .names
        .named(identity.account(), caller.name(), entries)
        .take(MAX_SAME_NAME)
        .filter_map(|entry| Some((by_name(entry, identity)?, entry)));
    let in_account = table
        .names
        .of_account(identity.account(), entries)
        .take(MAX_SAME_ACCOUNT)
        .filter_map(|entry| Some((by_account(entry, identity)?, entry)));
    for (kind, entry) in named.chain(in_account) {
        if misses.iter().any(|miss| miss.rule == entry.rule) {
            continue;
        }
        // Bounded by the two `take`s above, twice for each backend.
        misses.push(NearestMiss {
            kind,
            rule: entry.rule.clone(),
            principal: entry.matcher.to_string(),
        });
    }
}

/// What keeps an entry whose principal has the caller's account and name from matching.
fn by_name(entry: &Entry, identity: &CallerIdentity) -> Option<MissKind> {
    let Matcher::Arn(arn) = &entry.matcher else {
        return None;
    };
    let (wanted, caller) = (arn.caller.as_ref()?, identity.caller());
    if wanted.account() != caller.account() || !wanted.name().eq_ignore_ascii_case(caller.name()) {
        return None;
    }
    let mut key = Key::default();
    key.arn(identity);
    if arn.key.as_deref() == Some(key.as_str()) {
        return Some(if !arn.path_fits(identity) {
            MissKind::Path
        } else if !entry.admits_session(identity) {
            MissKind::SessionName
        } else {
            MissKind::UserId
        });
    }
    let same_kind = is_role(wanted) == is_role(caller);
    Some(if wanted.partition() != caller.partition() {
        MissKind::Partition
    } else if wanted.kind() == CallerKind::AssumedRole && is_role(caller) {
        MissKind::SessionArn
    } else if !same_kind || wanted.kind() != caller.kind() && !is_role(wanted) {
        MissKind::UserVersusRole
    } else if wanted.kind() == CallerKind::FederatedUser {
        MissKind::Case
    } else {
        MissKind::Path
    })
}

/// What an entry for the caller's account has to do with the caller.
fn by_account(entry: &Entry, identity: &CallerIdentity) -> Option<MissKind> {
    let caller = identity.caller();
    let set = caller_permission_set(caller);
    match &entry.matcher {
        Matcher::Arn(arn) => {
            let wanted = arn.caller.as_ref()?;
            let same_set = set.is_some_and(|set| {
                SsoMatcher::split_role_name(wanted.name())
                    .is_some_and(|(other, _)| other.eq_ignore_ascii_case(set))
            });
            Some(if same_set {
                MissKind::SsoSuffix
            } else {
                MissKind::OtherInAccount
            })
        }
        Matcher::Sso(sso) => Some(match set {
            Some(set) if sso.permission_set.eq_ignore_ascii_case(set) => {
                if sso.partition != caller.partition() {
                    MissKind::Partition
                } else if entry.admits_session(identity) {
                    MissKind::Path
                } else {
                    MissKind::SessionName
                }
            }
            None if looks_like(caller.name(), sso) => MissKind::SsoSuffix,
            _ => MissKind::OtherInAccount,
        }),
        Matcher::Pattern(pattern) => Some(
            if pattern.is_for(identity) && pattern.excludes(caller.name()) {
                MissKind::Excluded
            } else if pattern.is_for(identity) {
                MissKind::SessionName
            } else {
                MissKind::OtherInAccount
            },
        ),
    }
}

fn is_role(caller: &CallerArn) -> bool {
    matches!(caller.kind(), CallerKind::Role | CallerKind::AssumedRole)
}

fn caller_permission_set(caller: &CallerArn) -> Option<&str> {
    (caller.kind() == CallerKind::AssumedRole)
        .then(|| SsoMatcher::split_role_name(caller.name()))
        .flatten()
        .map(|(set, _)| set)
}

/// Whether `name` is a role of the permission set but for the form of its suffix or the case of its prefix.
fn looks_like(name: &str, sso: &SsoMatcher) -> bool {
    let prefix = SsoMatcher::ROLE_PREFIX.len();
    let (head, rest) = name.split_at_checked(prefix).unwrap_or_default();
    let set = rest.get(..sso.permission_set.len()).unwrap_or_default();
    head.eq_ignore_ascii_case(SsoMatcher::ROLE_PREFIX)
        && set.eq_ignore_ascii_case(&sso.permission_set)
        && rest
            .get(sso.permission_set.len()..)
            .is_some_and(|suffix| suffix.starts_with('_'))
}

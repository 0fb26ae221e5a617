//! Access entries: shown with what they are bound to, and bound anew (EKS API spec, section 7.4).

use countersign_access::{EntryType, Principal, default_username, shown_groups};
use countersign_arn::{AccountId, CallerArn, CallerKind, unique_id};
use countersign_review::{
    AccessSnapshot, ClusterFacts, CreatorFacts, EntryBinding, EntryFacts, Mode, PolicyFacts,
    PrincipalFacts, ScopeFacts,
};
use countersign_store::records::{AccessEntry, AuthenticationMode, Cluster};
use countersign_store::{
    AccessEntryState, ClusterEntry, ClusterNameError, ClusterPlace, Directory, DirectorySnapshot,
};
use jiff::Timestamp;

use super::execute::refused;
use super::op::{AdminAnswer, AdminError};

/// Entries in one answer: more than a cluster may have by default, and well below the longest answer.
const MAX_ENTRIES: usize = 50_000;

/// Which cluster is meant: its name or ARN, or the only one there is.
pub(super) fn cluster<'s>(
    snapshot: &'s DirectorySnapshot,
    account: Option<AccountId>,
    wanted: Option<&str>,
) -> Result<&'s ClusterEntry, AdminError> {
    let Some(wanted) = wanted else {
        let mut open = snapshot.clusters().filter(|c| c.record.deleting.is_none());
        return match (open.next(), open.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(AdminError::request("there is no cluster")),
            (Some(_), Some(_)) => Err(AdminError::request(
                "there are several clusters; name one with `--cluster`",
            )),
        };
    };
    let shown = wanted.escape_debug();
    if wanted.starts_with("arn:") {
        return snapshot
            .clusters()
            .find(|entry| *entry.arn == *wanted && entry.record.deleting.is_none())
            .map(|entry| &**entry)
            .ok_or_else(|| AdminError::request(format!("there is no cluster `{shown}`")));
    }
    let Some(account) = account else {
        return match snapshot.cluster_named(wanted) {
            Ok(entry) => Ok(entry),
            Err(ClusterNameError::Ambiguous { count }) => Err(AdminError::request(format!(
                "{count} clusters have the name `{shown}`; give the ARN of one"
            ))),
            Err(error) => Err(AdminError::request(format!("`{shown}`: {error}"))),
        };
    };
    let mut found = snapshot
        .clusters_named(wanted)
        .iter()
        .filter(|entry| entry.record.account == account && entry.record.deleting.is_none());
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(AdminError::request(format!(
            "there is no cluster `{shown}` in account {account}"
        ))),
        (Some(_), Some(_)) => Err(AdminError::request(format!(
            "several regions have a cluster `{shown}`; give the ARN of one"
        ))),
    }
}

/// The access configuration of a cluster; of `principal` too, which may have no entry.
pub(super) fn show(
    snapshot: &DirectorySnapshot,
    account: Option<AccountId>,
    wanted: Option<&str>,
    principal: Option<&str>,
) -> Result<AdminAnswer, AdminError> {
    let cluster = &cluster(snapshot, account, wanted)?.record;
    let creator = &cluster.creator;
    let mut shown = AccessSnapshot::new(ClusterFacts {
        name: cluster.name.to_string(),
        arn: Some(cluster.arn()),
        authentication_mode: mode(cluster.authentication_mode),
        creator: Some(CreatorFacts {
            principal_arn: creator.principal_arn.to_string(),
            principal_id: Some(creator.principal_id.to_string()),
        }),
    });
    let mut told: Vec<String> = Vec::new();
    let mut tell = |shown: &mut AccessSnapshot, arn: &str| {
        if let Some(facts) = principal_now(snapshot, arn)
            && !told.contains(&facts.principal_arn)
        {
            told.push(facts.principal_arn.clone());
            shown.principals.push(facts);
        }
    };
    if let Some(principal) = principal {
        tell(&mut shown, principal);
    }
    tell(&mut shown, &creator.principal_arn);
    for entry in snapshot.access_entries(&cluster.id, None) {
        if shown.entries.len() >= MAX_ENTRIES {
            let more = format!("more than {MAX_ENTRIES} access entries: the rest is not shown");
            shown.incomplete_reasons.push(more);
            break;
        }
        shown.entries.push(facts(snapshot, cluster, &entry.record));
    }
    // What IAM says of principals is worth having while it is little: it is asked of the server anyway, where one runs.
    if shown.entries.len() <= 1000 {
        let arns: Vec<String> = shown
            .entries
            .iter()
            .map(|e| e.principal_arn.clone())
            .collect();
        for arn in arns {
            tell(&mut shown, &arn);
        }
    }
    Ok(AdminAnswer::Access(Box::new(shown)))
}

/// Binds an entry to another principal. `from` and `to` are what the person was shown: if either changed since, nothing
/// is done.
pub(super) async fn rebind(
    directory: &Directory,
    account: Option<AccountId>,
    wanted: Option<&str>,
    principal_arn: &str,
    (from, to): (Option<&str>, &str),
    now: Timestamp,
) -> Result<AdminAnswer, AdminError> {
    let snapshot = directory.snapshot();
    let cluster = cluster(&snapshot, account, wanted)?.record.clone();
    let place = ClusterPlace {
        account: cluster.account,
        region: &cluster.region,
        name: &cluster.name,
    };
    let (_, entry) = place
        .access_entry(&snapshot, principal_arn, now)
        .map_err(refused)?;
    if entry.record.principal_id.as_deref() != from {
        return Err(AdminError::request(
            "the entry is bound to another principal than when it was looked at; look again",
        ));
    }
    match principal_now(&snapshot, principal_arn) {
        Some(PrincipalFacts {
            principal_id: Some(id),
            ..
        }) if id == to => {}
        Some(PrincipalFacts {
            principal_id: Some(id),
            ..
        }) => {
            return Err(AdminError::request(format!(
                "the principal's unique id is `{id}`, not `{}`",
                to.escape_debug()
            )));
        }
        Some(_) => return Err(AdminError::request("IAM has no such principal")),
        // AWS keeps the principals of this account: the person has looked there.
        None if is_unique_id(to, principal_arn) => {}
        None => {
            return Err(AdminError::request(format!(
                "`{}` is no unique id of such a principal: `AROA…` of a role, `AIDA…` of a user, the account of root",
                to.escape_debug()
            )));
        }
    }
    let entry = directory
        .rebind_access_entry(place, principal_arn, to, now)
        .await
        .map_err(refused)?;
    tracing::warn!(
        cluster = %cluster.arn(),
        principal_arn = &*entry.principal_arn,
        from = from.unwrap_or("nobody"),
        to,
        "an access entry is bound to another principal"
    );
    Ok(AdminAnswer::AccessEntryRebound {
        principal_arn: entry.principal_arn.into(),
        from: from.map(str::to_owned),
        to: to.to_owned(),
    })
}

fn mode(mode: AuthenticationMode) -> Mode {
    match mode {
        AuthenticationMode::ConfigMap => Mode::ConfigMap,
        AuthenticationMode::ApiAndConfigMap => Mode::ApiAndConfigMap,
        AuthenticationMode::Api => Mode::Api,
    }
}

fn facts(snapshot: &DirectorySnapshot, cluster: &Cluster, entry: &AccessEntry) -> EntryFacts {
    let groups = match entry.entry_type {
        EntryType::Standard => entry.groups.iter().map(|group| group.to_string()).collect(),
        other => shown_groups(other)
            .iter()
            .map(|group| (*group).to_owned())
            .collect(),
    };
    let username = match &entry.username {
        Some(username) => username.to_string(),
        None => Principal::parse(&entry.principal_arn)
            .map(|principal| default_username(&principal, entry.entry_type))
            .unwrap_or_default(),
    };
    EntryFacts {
        principal_arn: entry.principal_arn.to_string(),
        entry_type: entry.entry_type,
        username,
        kubernetes_groups: groups,
        access_entry_arn: Some(entry.arn(cluster)),
        created_at: Some(entry.created),
        modified_at: Some(entry.modified),
        binding: binding(snapshot, entry),
        associated_access_policies: entry
            .associations
            .iter()
            .map(|association| PolicyFacts {
                policy_arn: association.policy_arn.to_string(),
                access_scope: ScopeFacts::from(&association.scope),
                associated_at: Some(association.associated),
                modified_at: Some(association.modified),
            })
            .collect(),
    }
}

/// Where AWS keeps the principals nobody here knows whether one is gone.
fn binding(snapshot: &DirectorySnapshot, entry: &AccessEntry) -> EntryBinding {
    let is_here =
        CallerArn::parse(&entry.principal_arn).is_ok_and(|arn| has_iam(snapshot, arn.account()));
    let bound = |id: &str| EntryBinding::Bound {
        principal_id: id.to_owned(),
    };
    match snapshot.access_entry_state(entry) {
        AccessEntryState::Unbound => EntryBinding::Unbound,
        AccessEntryState::Alive => bound(entry.principal_id.as_deref().unwrap_or_default()),
        AccessEntryState::Dead { bound_to, .. } if !is_here => bound(bound_to),
        AccessEntryState::Dead { bound_to, name_now } => EntryBinding::Dead {
            principal_id: bound_to.to_owned(),
            now_id: name_now.map(str::to_owned),
        },
    }
}

/// Whether the principals of an account are kept here: an account that is known only as the owner of clusters has none.
fn has_iam(snapshot: &DirectorySnapshot, account: AccountId) -> bool {
    snapshot.users(account, None).next().is_some() || snapshot.roles(account, None).next().is_some()
}

/// The principal of a name as it is now; `None` if its account is not kept here.
fn principal_now(snapshot: &DirectorySnapshot, arn: &str) -> Option<PrincipalFacts> {
    let caller = CallerArn::parse(arn).ok()?;
    let account = caller.account();
    if !has_iam(snapshot, account) {
        return None;
    }
    let found = match caller.kind() {
        CallerKind::Role | CallerKind::AssumedRole => snapshot
            .role(account, caller.name())
            .map(|role| (role.arn.to_string(), role.record.id.to_string())),
        CallerKind::User => snapshot
            .user(account, caller.name())
            .map(|user| (user.arn.to_string(), user.record.id.to_string())),
        CallerKind::Root => Some((caller.canonical(), account.to_string())),
        CallerKind::FederatedUser => return None,
    };
    Some(match found {
        Some((arn, id)) => PrincipalFacts {
            principal_arn: arn,
            principal_id: Some(id),
        },
        None => PrincipalFacts {
            principal_arn: caller.canonical(),
            principal_id: None,
        },
    })
}

fn is_unique_id(id: &str, principal_arn: &str) -> bool {
    let Ok(caller) = CallerArn::parse(principal_arn) else {
        return false;
    };
    let kind = match caller.kind() {
        CallerKind::Root => return id == caller.account_str(),
        CallerKind::User => unique_id::Kind::User,
        CallerKind::Role => unique_id::Kind::Role,
        CallerKind::AssumedRole | CallerKind::FederatedUser => return false,
    };
    (16..=128).contains(&id.len())
        && id.starts_with(kind.prefix())
        && id
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

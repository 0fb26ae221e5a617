//! Access entries (EKS API spec, section 7).

use countersign_access::{
    EntryFault, EntryRequest, EntryType, Principal, PrincipalKind, check_entry, check_update,
    default_username, shown_groups,
};
use countersign_store::records::{AccessEntry, Cluster};
use countersign_store::{
    AccessEntryChange, AccessEntryEntry, ClusterEntry, DirectoryError, NewAccessEntry, Thing,
};

use super::describe::{tag_map, text};
use super::error::{no_such_entry, worded};
use super::idempotency::{answered, kept, once, token};
use super::{
    NO_UUID, arn, check_tags, cluster_name, cluster_resource, cluster_with_entries,
    existing_cluster, invalid, place,
};
use crate::aws::ApiError;
use crate::aws::authorize::{ask, on};
use crate::aws::operation::{Answer, Call, Operation, eks};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::eks_kinds::{CLIENT_TOKEN, MAX_RESULTS, NEXT_TOKEN, TAGS, TEXT, TEXTS};
use crate::aws::shape::{Parameter, in_query, label, optional, required};
use crate::aws::target::{Resource, Target};

pub(super) const CLUSTER: Parameter = label("clusterName", "name", TEXT);
pub(super) const PRINCIPAL: Parameter = label("principalArn", "principalArn", TEXT);

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    eks(
        "CreateAccessEntry",
        ("POST", "/clusters/{name}/access-entries"),
        &[
            CLUSTER,
            required("principalArn", TEXT),
            optional("kubernetesGroups", TEXTS),
            optional("tags", TAGS),
            CLIENT_TOKEN,
            optional("username", TEXT),
            optional("type", TEXT),
        ],
        on(Target::Custom(cluster_resource)).and(may_create),
        Answer::Write(|call| Box::pin(create_access_entry(call))),
    ),
    eks(
        "DescribeAccessEntry",
        ("GET", "/clusters/{name}/access-entries/{principalArn}"),
        &[CLUSTER, PRINCIPAL],
        on(Target::Custom(entry_resource)),
        Answer::Read(describe_access_entry),
    ),
    eks(
        "UpdateAccessEntry",
        ("POST", "/clusters/{name}/access-entries/{principalArn}"),
        &[
            CLUSTER,
            PRINCIPAL,
            optional("kubernetesGroups", TEXTS),
            CLIENT_TOKEN,
            optional("username", TEXT),
        ],
        on(Target::Custom(entry_resource)),
        Answer::Write(|call| Box::pin(update_access_entry(call))),
    ),
    eks(
        "DeleteAccessEntry",
        ("DELETE", "/clusters/{name}/access-entries/{principalArn}"),
        &[CLUSTER, PRINCIPAL],
        on(Target::Custom(entry_resource)),
        Answer::Write(|call| Box::pin(delete_access_entry(call))),
    ),
    eks(
        "ListAccessEntries",
        ("GET", "/clusters/{name}/access-entries"),
        &[
            CLUSTER,
            in_query("associatedPolicyArn", TEXT),
            MAX_RESULTS,
            NEXT_TOKEN,
        ],
        on(Target::Custom(cluster_resource)),
        Answer::Read(list_access_entries),
    ),
];

// === Permission ===

/// The entry that a call is about as policies see it, whether it is there or not (section 15.1).
pub(super) fn entry_resource(call: &Call<'_>) -> Result<Resource, ApiError> {
    let principal = call.input.required("principalArn");
    if let Some(cluster) = existing_cluster(call)?
        && let Some(entry) = call.snapshot.access_entry(&cluster.record.id, principal)
    {
        return Ok(as_resource(cluster, entry));
    }
    Ok(Resource {
        keys: vec![
            ("eks:clusterName", vec![cluster_name(call).to_owned()]),
            ("eks:principalArn", vec![principal.to_owned()]),
        ],
        ..Resource::named(absent_arn(call, principal)?)
    })
}

/// The ARN of an entry that is not there. A principal that is none has no name in it.
fn absent_arn(call: &Call<'_>, principal: &str) -> Result<String, ApiError> {
    let cluster = cluster_name(call);
    match Principal::parse(principal) {
        Ok(principal) => arn(
            call,
            &format!(
                "access-entry/{cluster}/{}/{}/{}/{NO_UUID}",
                principal.kind(),
                principal.account(),
                principal.name()
            ),
        ),
        Err(_) => {
            let account = call.account()?;
            arn(
                call,
                &format!("access-entry/{cluster}/none/{account}/none/{NO_UUID}"),
            )
        }
    }
}

/// An entry as policies see it.
pub(super) fn as_resource(cluster: &ClusterEntry, entry: &AccessEntryEntry) -> Resource {
    let (cluster, entry) = (&cluster.record, &entry.record);
    let mut keys = vec![
        ("eks:clusterName", vec![cluster.name.to_string()]),
        ("eks:principalArn", vec![entry.principal_arn.to_string()]),
        (
            "eks:accessEntryType",
            vec![entry.entry_type.as_str().to_owned()],
        ),
        ("eks:username", vec![username(entry)]),
    ];
    let groups = groups(entry);
    if !groups.is_empty() {
        keys.push(("eks:kubernetesGroups", groups));
    }
    Resource {
        keys,
        ..Resource::tagged(entry.arn(cluster), &entry.tags)
    }
}

/// Tags, and roles of nodes, need more than the action itself (section 15.2).
fn may_create(call: &Call<'_>) -> Result<(), ApiError> {
    let principal = call.input.required("principalArn");
    if !call.input.request_tags().is_empty() {
        let entry = Resource::named(absent_arn(call, principal)?);
        ask(call, "eks:TagResource", &entry, None)?;
    }
    let is_node = matches!(call.input.text("type"), Some("EC2_LINUX" | "EC2_WINDOWS"));
    // A role of another account is refused for that, whoever asks.
    let account = call.account()?;
    let is_role = Principal::parse(principal)
        .is_ok_and(|known| known.kind() == PrincipalKind::Role && known.account() == account);
    if is_node && is_role {
        let role = Target::Arn("principalArn").resource(call, false)?;
        ask(call, "iam:PassRole", &role, Some("ec2.amazonaws.com"))?;
    }
    Ok(())
}

// === Operations ===

async fn create_access_entry(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let token = token(call)?;
    let groups = input.texts("kubernetesGroups");
    let request = EntryRequest {
        principal_arn: input.required("principalArn"),
        entry_type: input.text("type"),
        groups: Some(&groups),
        username: input.text("username"),
        cluster_account: call.account()?,
        partition: call.partition(),
    };
    let checked = check_entry(&request, &call.eks.limits).map_err(|fault| refused(&fault))?;
    let tags = check_tags(input.tags("tags"))?;
    let cluster = cluster_with_entries(call)?;
    let principal_id = existing_principal(call, &checked.principal)?;
    let new = NewAccessEntry {
        principal_arn: checked.principal.arn().into(),
        principal_id: Some(principal_id),
        entry_type: checked.entry_type,
        groups: checked.groups,
        username: checked.username,
        tags,
    };
    let answer = |entry: &AccessEntry| one(&cluster.record, entry);
    let keep = |entry: &AccessEntry| kept(&answer(entry));
    let once = once(token.as_ref(), &keep);
    let outcome = call
        .directory
        .create_access_entry(place(call)?, new, once.as_ref(), call.now)
        .await
        .map_err(|error| already_there(error, cluster, request.principal_arn))?;
    answered(outcome, answer)
}

fn describe_access_entry(call: &Call<'_>) -> Result<Member, ApiError> {
    let (cluster, entry) = entry(call)?;
    Ok(one(&cluster.record, &entry.record))
}

async fn update_access_entry(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let token = token(call)?;
    let groups = input
        .get("kubernetesGroups")
        .map(|_| input.texts("kubernetesGroups"));
    let username = input.text("username");
    let limits = &call.eks.limits;
    let check = |entry_type, kind| {
        check_update(entry_type, kind, groups.as_deref(), username, limits)
            .map_err(|fault| refused(&fault))
    };
    let principal = Principal::parse(input.required("principalArn")).ok();
    check_service_linked(principal.as_ref())?;
    let kind = principal
        .as_ref()
        .map_or(PrincipalKind::Role, Principal::kind);
    check(EntryType::Standard, kind)?;
    let (cluster, entry) = entry(call)?;
    let checked = check(entry.record.entry_type, kind)?;
    let change = AccessEntryChange {
        groups: checked.groups,
        username: checked.username,
    };
    let answer = |entry: &AccessEntry| one(&cluster.record, entry);
    let keep = |entry: &AccessEntry| kept(&answer(entry));
    let once = once(token.as_ref(), &keep);
    let outcome = call
        .directory
        .update_access_entry(
            place(call)?,
            input.required("principalArn"),
            &change,
            once.as_ref(),
            call.now,
        )
        .await
        .map_err(worded)?;
    answered(outcome, answer)
}

async fn delete_access_entry(call: &Call<'_>) -> Result<Member, ApiError> {
    let principal = call.input.required("principalArn");
    check_service_linked(Principal::parse(principal).ok().as_ref())?;
    call.directory
        .delete_access_entry(place(call)?, principal, call.now)
        .await
        .map_err(worded)?;
    Ok(Member::None)
}

fn list_access_entries(call: &Call<'_>) -> Result<Member, ApiError> {
    let policy = call
        .input
        .text("associatedPolicyArn")
        .map(|arn| super::access_policies::check_policy(call, arn))
        .transpose()?;
    let cluster = cluster_with_entries(call)?;
    let page = PageRequest::of(call)?;
    let entries = call
        .snapshot
        .access_entries(&cluster.record.id, page.after())
        .map(|entry| &entry.record)
        .filter(|entry| {
            policy
                .as_deref()
                .is_none_or(|policy| entry.association(policy).is_some())
        });
    let page = page.page(call, entries, |entry| entry.principal_arn.to_string())?;
    Ok(Member::Structure(
        page.with_token("accessEntries", |entry| {
            Member::Text(entry.principal_arn.to_string())
        }),
    ))
}

// === Parts ===

/// The cluster and the entry of a call.
///
/// # Errors
/// When the cluster is not there or has no entries, or has none for the principal.
pub(super) fn entry<'c>(
    call: &'c Call<'_>,
) -> Result<(&'c ClusterEntry, &'c AccessEntryEntry), ApiError> {
    let cluster = cluster_with_entries(call)?;
    let principal = call.input.required("principalArn");
    call.snapshot
        .access_entry(&cluster.record.id, principal)
        .map(|entry| (&**cluster, &**entry))
        .ok_or_else(no_such_entry)
}

/// A value that EKS refuses, with a sentence that says what to do where there is one (section 16).
fn refused(fault: &EntryFault) -> ApiError {
    let text = fault.to_string();
    invalid(match fault.hint() {
        Some(hint) if text.ends_with(['.', ':']) => format!("{text} {hint}"),
        Some(hint) => format!("{text}. {hint}"),
        None => text,
    })
}

fn check_service_linked(principal: Option<&Principal>) -> Result<(), ApiError> {
    if principal.is_some_and(Principal::is_service_linked_role) {
        return Err(refused(&EntryFault::ServiceLinkedRole));
    }
    Ok(())
}

/// The unique id of a principal, which must be in this directory under exactly this ARN (section 7.4).
///
/// # Errors
/// EKS's text; with the full ARN when a role of the caller's own account has the name under another path.
fn existing_principal(call: &Call<'_>, principal: &Principal) -> Result<Box<str>, ApiError> {
    let snapshot = &call.snapshot;
    let account = principal.account();
    let (known, id) = match principal.kind() {
        PrincipalKind::Root => {
            let root = snapshot
                .account(account)
                .filter(|found| found.record.partition == principal.partition());
            (principal.arn(), root.map(|_| Box::from(account.as_str())))
        }
        PrincipalKind::Role => match snapshot.role(account, principal.name()) {
            Some(role) => (&*role.arn, Some(role.record.id.clone())),
            None => ("", None),
        },
        PrincipalKind::User => match snapshot.user(account, principal.name()) {
            Some(user) => (&*user.arn, Some(user.record.id.clone())),
            None => ("", None),
        },
    };
    if let Some(id) = id.filter(|_| known == principal.arn()) {
        return Ok(id);
    }
    let text = "The specified principalArn is invalid: invalid principal.";
    if !known.is_empty() && account == call.account()? {
        return Err(invalid(format!(
            "{text} Use the full ARN including its path: {known}"
        )));
    }
    Err(invalid(text))
}

/// Tells callers whose tools make the creator's entry again that it is there already.
fn already_there(error: DirectoryError, cluster: &ClusterEntry, principal: &str) -> ApiError {
    let is_entry = matches!(
        error,
        DirectoryError::Exists {
            what: Thing::AccessEntry,
            ..
        }
    );
    let mut error = worded(error);
    if is_entry
        && cluster.record.bootstrap_creator_admin
        && *cluster.record.creator.principal_arn == *principal
    {
        error
            .message
            .push_str(" It is the entry that the creator of the cluster was given.");
    }
    error
}

/// The username of an entry, as a template.
fn username(entry: &AccessEntry) -> String {
    entry.username.as_deref().map_or_else(
        || {
            Principal::parse(&entry.principal_arn)
                .map(|principal| default_username(&principal, entry.entry_type))
                .unwrap_or_default()
        },
        str::to_owned,
    )
}

/// The groups of an entry: its own, and those of its type.
fn groups(entry: &AccessEntry) -> Vec<String> {
    let own = entry.groups.iter().map(ToString::to_string);
    let of_type = shown_groups(entry.entry_type)
        .iter()
        .map(|group| (*group).to_owned());
    own.chain(of_type).collect()
}

fn one(cluster: &Cluster, entry: &AccessEntry) -> Member {
    let groups = groups(entry).into_iter().map(Member::Text).collect();
    Member::Structure(vec![(
        "accessEntry",
        Member::Structure(vec![
            ("clusterName", text(&*cluster.name)),
            ("principalArn", text(&*entry.principal_arn)),
            ("kubernetesGroups", Member::List(groups)),
            ("accessEntryArn", text(entry.arn(cluster))),
            ("createdAt", Member::Time(entry.created)),
            ("modifiedAt", Member::Time(entry.modified)),
            ("tags", tag_map(&entry.tags)),
            ("username", text(username(entry))),
            ("type", text(entry.entry_type.as_str())),
        ]),
    )])
}

//! Pod identity associations (EKS API spec, section 10).
//!
//! Left open by the specification, and decided here: an update asks for `iam:PassRole` on the role that the association has
//! afterwards, also when it is not the role that changes, since target role, tags and session policy decide what pods get
//! from it as well.
//!
//! Agents without AWS credentials, which show a token of their own, have to learn when an association of their pods changes
//! (Pod Identity spec, section 7.2). They may describe what they know the id of: ids cannot be guessed, lists are not for agents, and EKS
//! Auth tells the id of an association to nodes that run a pod of it. It is found in the cluster of the agent's token alone, and the
//! answer is what the agent works with: not the roles, the external id, the session policy and the tags.
//!
//! An empty `targetRoleArn` or `policy` in an update takes it away; in a create it is no value. The
//! authentication mode of the cluster does not matter.
//!
//! What EKS does not know of associations is in [`pod_sessions`](super::pod_sessions). A write is answered when this replica
//! sees it, and so do EKS Auth and the admission webhook, which read the same snapshot; after [`PATIENCE`] it is answered
//! anyway, with a header that says so.

use std::sync::Arc;
use std::time::Duration;

use countersign_arn::{AccountId, Arn};
use countersign_policy::validate::{NoDirectory, validate};
use countersign_policy::{Document, PolicyKind};
use countersign_session::MAX_PLAIN_POLICY_CHARS;
use countersign_store::records::{Cluster, PodIdentityAssociation, check_role_name, is_pattern};
use countersign_store::{
    ClusterEntry, Directory, NewPodIdentityAssociation, Outcome, PodIdentityAssociationChange,
    PodIdentityAssociationEntry, RoleEntry,
};
use jiff::Timestamp;

use super::describe::{tag_map, text};
use super::error::{no_such_association, policy_needs_tags_disabled, worded};
use super::idempotency::{answered, kept, once, token};
use super::pod_advice::advise;
use super::pod_sessions::{self, DURATION, EXTRA_TAGS, NAME_TEMPLATE, SESSION_TAGS, check_names};
use super::pod_trust::{SERVICE, may_trust};
use super::{
    arn, check_tags, cluster_name, cluster_resource, existing_cluster, invalid, open_cluster, place,
};
use crate::aws::ApiError;
use crate::aws::authorize::{ask, on};
use crate::aws::eks_auth::Agent;
use crate::aws::operation::{Answer, Call, Operation, eks};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::eks_kinds::{CLIENT_TOKEN, MAX_RESULTS, NEXT_TOKEN, TAGS, TEXT};
use crate::aws::shape::{Kind, Parameter, in_query, label, optional, required};
use crate::aws::sts::find_role;
use crate::aws::target::{Resource, Target, by_arn};

const CLUSTER: Parameter = label("clusterName", "name", TEXT);
const ASSOCIATION: Parameter = label("associationId", "associationId", TEXT);

/// How long a write waits for this replica to see it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most associations that are listed as those for one service account.
const MOST_MATCHING: usize = 100;
/// Stands for the id of an association that is not there yet.
const NO_ID: &str = "a-00000000000000000";
const UNTRUSTED: &str = "Trust policy of the role provided is invalid.";

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    eks(
        "CreatePodIdentityAssociation",
        ("POST", "/clusters/{name}/pod-identity-associations"),
        &[
            CLUSTER,
            required("namespace", TEXT),
            required("serviceAccount", TEXT),
            required("roleArn", TEXT),
            CLIENT_TOKEN,
            optional("tags", TAGS),
            optional("disableSessionTags", Kind::Boolean),
            optional("targetRoleArn", TEXT),
            optional("policy", TEXT),
            NAME_TEMPLATE,
            SESSION_TAGS,
            EXTRA_TAGS,
            DURATION,
        ],
        on(Target::Custom(cluster_resource)).and(may_tag),
        Answer::Write(|call| Box::pin(create(call))),
    ),
    eks(
        "DescribePodIdentityAssociation",
        (
            "GET",
            "/clusters/{name}/pod-identity-associations/{associationId}",
        ),
        &[CLUSTER, ASSOCIATION],
        on(Target::Custom(association_resource)),
        Answer::Read(describe),
    )
    .or_by_agents(),
    eks(
        "UpdatePodIdentityAssociation",
        (
            "POST",
            "/clusters/{name}/pod-identity-associations/{associationId}",
        ),
        &[
            CLUSTER,
            ASSOCIATION,
            optional("roleArn", TEXT),
            CLIENT_TOKEN,
            optional("disableSessionTags", Kind::Boolean),
            optional("targetRoleArn", TEXT),
            optional("policy", TEXT),
            NAME_TEMPLATE,
            SESSION_TAGS,
            EXTRA_TAGS,
            DURATION,
        ],
        on(Target::Custom(association_resource)),
        Answer::Write(|call| Box::pin(update(call))),
    ),
    eks(
        "DeletePodIdentityAssociation",
        (
            "DELETE",
            "/clusters/{name}/pod-identity-associations/{associationId}",
        ),
        &[CLUSTER, ASSOCIATION],
        on(Target::Custom(association_resource)),
        Answer::Write(|call| Box::pin(delete(call))),
    ),
    eks(
        "ListPodIdentityAssociations",
        ("GET", "/clusters/{name}/pod-identity-associations"),
        &[
            CLUSTER,
            in_query("namespace", TEXT),
            in_query("serviceAccount", TEXT),
            in_query("matching", Kind::Boolean).ours(),
            MAX_RESULTS,
            NEXT_TOKEN,
        ],
        on(Target::Custom(cluster_resource)),
        Answer::Read(list),
    ),
];

// === Permission ===

/// The association of a call as policies see it, whether it is there or not (section 15.1).
fn association_resource(call: &Call<'_>) -> Result<Resource, ApiError> {
    let id = call.input.required("associationId");
    if let Some(cluster) = existing_cluster(call)?
        && let Some(known) = call
            .snapshot
            .pod_identity_association_by_id(&cluster.record.id, id)
    {
        let record = &known.record;
        return Ok(Resource::tagged(record.arn(&cluster.record), &record.tags));
    }
    named(call, id)
}

fn named(call: &Call<'_>, id: &str) -> Result<Resource, ApiError> {
    let cluster = cluster_name(call);
    arn(call, &format!("podidentityassociation/{cluster}/{id}")).map(Resource::named)
}

/// Tags need more than the action itself (section 15.2).
fn may_tag(call: &Call<'_>) -> Result<(), ApiError> {
    if call.input.request_tags().is_empty() {
        return Ok(());
    }
    ask(call, "eks:TagResource", &named(call, NO_ID)?, None)
}

/// Whether the caller may hand a role to the service. A role of another account is refused before, whoever asks.
pub(super) fn may_pass(call: &Call<'_>, role: &str) -> Result<(), ApiError> {
    ask(call, "iam:PassRole", &by_arn(call, role)?, Some(SERVICE))
}

// === Operations ===

async fn create(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let token = token(call)?;
    let (namespace, service_account) = (
        input.required("namespace"),
        input.required("serviceAccount"),
    );
    check_names(call, namespace, service_account)?;
    let sessions = pod_sessions::of_create(call)?;
    let role_arn = input.required("roleArn");
    check_own_role(call, role_arn)?;
    let target = input.text("targetRoleArn");
    if let Some(target) = target {
        role_account(call, "targetRoleArn", target)?;
    }
    let tags = check_tags(input.tags("tags"))?;
    may_pass(call, role_arn)?;
    let cluster = open_cluster(call)?;
    let role = check_trust(call, role_arn)?;
    let disable_session_tags = input.boolean("disableSessionTags");
    let policy = input.text("policy");
    if policy.is_some() && disable_session_tags != Some(true) {
        return Err(policy_needs_tags_disabled());
    }
    check_policy(policy)?;
    let new = NewPodIdentityAssociation {
        namespace: namespace.into(),
        service_account: service_account.into(),
        role_arn: role_arn.into(),
        target_role_arn: target.map(Into::into),
        disable_session_tags,
        policy: policy.map(Into::into),
        owner_arn: None,
        sessions,
        tags,
    };
    let answer = |association: &PodIdentityAssociation| one(&cluster.record, association);
    let keep = |association: &PodIdentityAssociation| kept(&answer(association));
    let once = once(token.as_ref(), &keep);
    let outcome = directory(call)
        .create_pod_identity_association(place(call)?, new, once.as_ref(), call.now)
        .await
        .map_err(worded)?;
    if let Outcome::Done(association) = &outcome {
        advise(call, &cluster.record, association, role.map(AsRef::as_ref));
    }
    note_pending(call);
    answered(outcome, answer)
}

fn describe(call: &Call<'_>) -> Result<Member, ApiError> {
    if let Some(agent) = &call.agent {
        return describe_to(agent, call);
    }
    let (cluster, known) = association(call)?;
    Ok(one(&cluster.record, &known.record))
}

/// Which association it is, when it changed, and whether sessions have tags. Of one with patterns it counts as a change, too, that
/// another association was made for some of its names: that may be in force instead for pods of the agent, which sees no lists.
fn describe_to(agent: &Agent, call: &Call<'_>) -> Result<Member, ApiError> {
    let cluster = &agent.cluster.record;
    if cluster.deleting.is_some() {
        return Err(super::error::deleting(&cluster.name));
    }
    let id = call.input.required("associationId");
    let known = call
        .snapshot
        .pod_identity_association_by_id(&cluster.id, id)
        .ok_or_else(|| no_such_association(id))?;
    let overlapping = call
        .snapshot
        .pod_identity_associations(&cluster.id, None)
        .filter(|_| has_patterns(&known.record))
        .filter(|other| overlap(&other.record, &known.record))
        .map(|other| other.record.created);
    let modified = overlapping.fold(known.record.modified, Timestamp::max);
    let mut members = summary(cluster, &known.record);
    members.extend(history(&known.record, modified));
    Ok(Member::Structure(vec![(
        "association",
        Member::Structure(members),
    )]))
}

fn has_patterns(association: &PodIdentityAssociation) -> bool {
    is_pattern(&association.namespace) || is_pattern(&association.service_account)
}

/// Whether there may be a service account that both are for.
fn overlap(a: &PodIdentityAssociation, b: &PodIdentityAssociation) -> bool {
    let meet = |a: &str, b: &str| match (a.strip_suffix('*'), b.strip_suffix('*')) {
        (None, None) => a == b,
        (Some(begin), None) => b.starts_with(begin),
        (None, Some(begin)) => a.starts_with(begin),
        (Some(a), Some(b)) => a.starts_with(b) || b.starts_with(a),
    };
    meet(&a.namespace, &b.namespace) && meet(&a.service_account, &b.service_account)
}

async fn update(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let token = token(call)?;
    let boxed = |name| input.text(name).map(Into::into);
    let change = PodIdentityAssociationChange {
        role_arn: boxed("roleArn"),
        target_role_arn: boxed("targetRoleArn"),
        disable_session_tags: input.boolean("disableSessionTags"),
        policy: boxed("policy"),
        sessions: pod_sessions::of_update(call)?,
    };
    if change.is_empty() {
        return Err(invalid(
            "At least one of roleArn, targetRoleArn, disableSessionTags and policy must be given",
        ));
    }
    if let Some(role) = &change.role_arn {
        check_own_role(call, role)?;
    }
    let given = |text: &Option<Box<str>>| text.clone().filter(|text| !text.is_empty());
    if let Some(target) = given(&change.target_role_arn) {
        role_account(call, "targetRoleArn", &target)?;
    }
    if let Some(role) = &change.role_arn {
        may_pass(call, role)?;
    }
    let (cluster, known) = association(call)?;
    let role_arn = change.role_arn.as_deref().unwrap_or(&known.record.role_arn);
    if change.role_arn.is_none() {
        may_pass(call, role_arn)?;
    }
    let role = check_trust(call, role_arn)?;
    change.apply(&known.record).map_err(worded)?;
    check_policy(given(&change.policy).as_deref())?;
    let answer = |association: &PodIdentityAssociation| one(&cluster.record, association);
    let keep = |association: &PodIdentityAssociation| kept(&answer(association));
    let once = once(token.as_ref(), &keep);
    let outcome = directory(call)
        .update_pod_identity_association(
            place(call)?,
            &known.record.id,
            &change,
            None,
            once.as_ref(),
            call.now,
        )
        .await
        .map_err(worded)?;
    if let Outcome::Done(association) = &outcome {
        advise(call, &cluster.record, association, role.map(AsRef::as_ref));
    }
    note_pending(call);
    answered(outcome, answer)
}

async fn delete(call: &Call<'_>) -> Result<Member, ApiError> {
    let (cluster, known) = association(call)?;
    let deleted = directory(call)
        .delete_pod_identity_association(place(call)?, &known.record.id, None, call.now)
        .await
        .map_err(worded)?;
    note_pending(call);
    Ok(one(&cluster.record, &deleted))
}

fn list(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let (namespace, service_account) = (input.text("namespace"), input.text("serviceAccount"));
    let cluster = open_cluster(call)?;
    if input.boolean("matching") == Some(true) {
        return matching(call, &cluster.record, namespace, service_account);
    }
    let page = PageRequest::of(call)?;
    // Names have no slash.
    let after = page.after().and_then(|key| key.split_once('/'));
    let associations = call
        .snapshot
        .pod_identity_associations(&cluster.record.id, after)
        .map(|known| &known.record)
        .filter(|known| {
            namespace.is_none_or(|wanted| *known.namespace == *wanted)
                && service_account.is_none_or(|wanted| *known.service_account == *wanted)
        });
    let page = page.page(call, associations, |last| {
        format!("{}/{}", last.namespace, last.service_account)
    })?;
    Ok(Member::Structure(
        page.with_token("associations", |association| {
            Member::Structure(summary(&cluster.record, association))
        }),
    ))
}

/// The associations for one service account, that in force first: what AWS answers to the same request, and patterns behind
/// an association that has the very names. Everybody else who asks the EKS API which association counts asks this.
fn matching(
    call: &Call<'_>,
    cluster: &Cluster,
    namespace: Option<&str>,
    service_account: Option<&str>,
) -> Result<Member, ApiError> {
    let (Some(namespace), Some(service_account)) = (namespace, service_account) else {
        return Err(invalid(
            "matching lists the associations for one service account: namespace and serviceAccount must be given",
        ));
    };
    let known =
        call.snapshot
            .pod_identity_associations_matching(&cluster.id, namespace, service_account);
    let found = known
        .into_iter()
        .take(MOST_MATCHING)
        .map(|known| Member::Structure(summary(cluster, &known.record)));
    Ok(Member::Structure(vec![(
        "associations",
        Member::List(found.collect()),
    )]))
}

/// The directory, for writes that are answered within [`PATIENCE`].
fn directory(call: &Call<'_>) -> Directory {
    call.directory.answering_within(PATIENCE)
}

/// Tells that this replica does not see yet what was written.
fn note_pending(call: &Call<'_>) {
    if let Some(revision) = call.directory.unseen() {
        call.pending(revision);
    }
}

// === Checks ===

/// The cluster and the association of a call.
///
/// # Errors
/// When the cluster is not there or is being deleted, or has no such association.
fn association<'c>(
    call: &'c Call<'_>,
) -> Result<(&'c ClusterEntry, &'c PodIdentityAssociationEntry), ApiError> {
    let cluster = open_cluster(call)?;
    let id = call.input.required("associationId");
    call.snapshot
        .pod_identity_association_by_id(&cluster.record.id, id)
        .map(|known| (&**cluster, &**known))
        .ok_or_else(|| no_such_association(id))
}

/// The account in the ARN of a role of the call's partition.
///
/// # Errors
/// `InvalidParameterException` for what is no role.
fn role_account<'r>(call: &Call<'_>, parameter: &str, text: &'r str) -> Result<&'r str, ApiError> {
    Arn::parse(text)
        .ok()
        .filter(|arn| {
            let name = arn
                .resource
                .strip_prefix("role/")
                .and_then(|path| path.rsplit('/').next());
            arn.partition == call.partition().id()
                && arn.service == "iam"
                && arn.region.is_empty()
                && arn.account.parse::<AccountId>().is_ok()
                && name.is_some_and(|name| check_role_name(name).is_ok())
        })
        .map(|arn| arn.account)
        .ok_or_else(|| invalid(format!("The {parameter} parameter format is not valid")))
}

/// A role of the cluster's account, which is the caller's.
///
/// # Errors
/// `AccessDeniedException` for one of another account.
pub(super) fn check_own_role(call: &Call<'_>, role: &str) -> Result<(), ApiError> {
    if role_account(call, "roleArn", role)? == call.account()?.as_str() {
        return Ok(());
    }
    Err(ApiError::new(
        403,
        "AccessDeniedException",
        "Cross-account pass role is not allowed. Use targetRoleArn for a role of another account.",
    ))
}

/// The role, which must be there and trust the service; nothing for one that only AWS knows.
///
/// # Errors
/// EKS's text, and what to do.
pub(super) fn check_trust<'c>(
    call: &'c Call<'_>,
    role_arn: &str,
) -> Result<Option<&'c Arc<RoleEntry>>, ApiError> {
    let Some(role) = find_role(&call.snapshot, role_arn) else {
        return if call.eks.roles_elsewhere {
            Ok(None)
        } else {
            Err(invalid(format!(
                "{UNTRUSTED} There is no role with the ARN {role_arn}, path and letter case included."
            )))
        };
    };
    let Ok(document) = Document::parse(&*role.record.trust.document) else {
        return Err(invalid(format!("{UNTRUSTED} It cannot be read.")));
    };
    may_trust(&document, &role.arn).map_err(|refused| {
        invalid(format!(
            "{UNTRUSTED} It must let {SERVICE} do sts:AssumeRole and sts:TagSession, and it does not allow {}.",
            refused.action
        ))
    })?;
    Ok(Some(role))
}

/// A session policy is within what STS takes.
pub(super) fn check_policy(policy: Option<&str>) -> Result<(), ApiError> {
    let Some(policy) = policy else { return Ok(()) };
    let length = policy.chars().count();
    if length > MAX_PLAIN_POLICY_CHARS {
        return Err(invalid(format!(
            "The policy provided is invalid: it has {length} characters, at most {MAX_PLAIN_POLICY_CHARS} are allowed."
        )));
    }
    validate(policy, PolicyKind::Session, &NoDirectory)
        .map(|_| ())
        .map_err(|rejection| {
            invalid(format!(
                "The policy provided is invalid: {}",
                rejection.message
            ))
        })
}

// === Answers ===

fn one(cluster: &Cluster, association: &PodIdentityAssociation) -> Member {
    let mut members = summary(cluster, association);
    members.extend([
        ("roleArn", text(&*association.role_arn)),
        ("tags", tag_map(&association.tags)),
    ]);
    members.extend(history(association, association.modified));
    for (name, value) in [
        ("targetRoleArn", association.target_role_arn.as_deref()),
        ("externalId", association.external_id(cluster).as_deref()),
        ("policy", association.policy.as_deref()),
    ] {
        members.extend(value.map(|value| (name, text(value))));
    }
    members.extend(pod_sessions::members(&association.sessions));
    Member::Structure(vec![("association", Member::Structure(members))])
}

/// When it changed, and whether sessions have tags.
fn history(
    association: &PodIdentityAssociation,
    modified: Timestamp,
) -> impl Iterator<Item = (&'static str, Member)> + use<> {
    let disabled = association.disable_session_tags;
    [
        ("createdAt", Member::Time(association.created)),
        ("modifiedAt", Member::Time(modified)),
    ]
    .into_iter()
    .chain(disabled.map(|disabled| ("disableSessionTags", Member::Bool(disabled))))
}

/// What lists show: not the role.
fn summary(cluster: &Cluster, association: &PodIdentityAssociation) -> Vec<(&'static str, Member)> {
    let mut members = vec![
        ("clusterName", text(&*cluster.name)),
        ("namespace", text(&*association.namespace)),
        ("serviceAccount", text(&*association.service_account)),
        ("associationArn", text(association.arn(cluster))),
        ("associationId", text(&*association.id)),
    ];
    let owner = association.owner_arn.as_deref();
    members.extend(owner.map(|owner| ("ownerArn", text(owner))));
    members
}

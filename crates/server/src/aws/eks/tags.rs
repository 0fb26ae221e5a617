//! Tags of clusters, access entries and pod identity associations (EKS API spec, section 13). Errors have codes of their own, which
//! [`worded`](crate::aws::rest::worded) gives them.

use std::sync::Arc;

use countersign_arn::Arn;
use countersign_store::records::PrincipalKind;
use countersign_store::{AccessEntryEntry, ClusterEntry, PodIdentityAssociationEntry, Taggable};

use super::access_entries::as_resource;
use super::describe::tag_map;
use super::error::worded;
use super::{check_tag_keys, check_tags, invalid, not_found};
use crate::aws::ApiError;
use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Call, Operation, eks};
use crate::aws::query::Member;
use crate::aws::shape::eks_kinds::{TAG_KEYS, TAGS, TEXT};
use crate::aws::shape::{Parameter, in_query, label, required};
use crate::aws::target::{Resource, Target};

const RESOURCE: Parameter = label("resourceArn", "resourceArn", TEXT);

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    eks(
        "TagResource",
        ("POST", "/tags/{resourceArn}"),
        &[RESOURCE, required("tags", TAGS)],
        on(Target::Custom(resource)),
        Answer::Write(|call| Box::pin(tag_resource(call))),
    ),
    eks(
        "UntagResource",
        ("DELETE", "/tags/{resourceArn}"),
        &[RESOURCE, in_query("tagKeys", TAG_KEYS).needed()],
        on(Target::Custom(resource)),
        Answer::Write(|call| Box::pin(untag_resource(call))),
    ),
    eks(
        "ListTagsForResource",
        ("GET", "/tags/{resourceArn}"),
        &[RESOURCE],
        on(Target::Custom(resource)),
        Answer::Read(list_tags_for_resource),
    ),
];

/// What has tags.
enum Tagged<'c> {
    Cluster(&'c Arc<ClusterEntry>),
    Entry(&'c Arc<ClusterEntry>, &'c Arc<AccessEntryEntry>),
    Association(&'c Arc<PodIdentityAssociationEntry>),
}

/// What an ARN names, in the caller's account and the region of the call.
fn find<'c>(call: &'c Call<'_>) -> Result<Option<Tagged<'c>>, ApiError> {
    let text = call.input.required("resourceArn");
    let Ok(arn) = Arn::parse(text) else {
        return Ok(None);
    };
    let account = call.account()?;
    if arn.partition != call.partition().id()
        || arn.service != "eks"
        || arn.region != call.region()
        || arn.account != account.as_str()
    {
        return Ok(None);
    }
    let cluster = |name: &str| {
        call.snapshot
            .cluster(account, call.region(), name)
            .filter(|cluster| cluster.record.status(call.now).is_some())
    };
    let parts: Vec<&str> = arn.resource.split('/').take(7).collect();
    Ok(match parts.as_slice() {
        ["cluster", name] => cluster(name).map(Tagged::Cluster),
        ["access-entry", name, kind, of, principal, uuid] => {
            let found = || {
                let cluster = cluster(name)?;
                let entry = call.snapshot.access_entry_named(
                    &cluster.record.id,
                    of.parse().ok()?,
                    PrincipalKind::of(kind)?,
                    principal,
                )?;
                (*entry.record.uuid == **uuid && entry.record.arn(&cluster.record) == text)
                    .then_some(Tagged::Entry(cluster, entry))
            };
            found()
        }
        ["podidentityassociation", name, id] => cluster(name)
            .and_then(|cluster| {
                call.snapshot
                    .pod_identity_association_by_id(&cluster.record.id, id)
            })
            .map(Tagged::Association),
        _ => None,
    })
}

/// What a call is about as policies see it. An ARN that names nothing here is asked for as if it were the caller's own:
/// nobody has a right to what is another account's, and callers with a right to the pattern learn that it is not there.
fn resource(call: &Call<'_>) -> Result<Resource, ApiError> {
    let text = call.input.required("resourceArn");
    let arn = Arn::parse(text).map_err(|_| malformed())?;
    Ok(match find(call)? {
        Some(Tagged::Cluster(cluster)) => Resource::tagged(text, &cluster.record.tags),
        Some(Tagged::Entry(cluster, entry)) => as_resource(cluster, entry),
        Some(Tagged::Association(known)) => Resource::tagged(text, &known.record.tags),
        None => Resource::named(format!(
            "arn:{}:{}:{}:{}:{}",
            call.partition(),
            arn.service,
            arn.region,
            call.account()?,
            arn.resource
        )),
    })
}

fn malformed() -> ApiError {
    invalid("The resourceArn parameter format is not valid")
}

fn existing<'c>(call: &'c Call<'_>) -> Result<Tagged<'c>, ApiError> {
    let text = call.input.required("resourceArn");
    if !Arn::parse(text).is_ok_and(|arn| arn.service == "eks") {
        return Err(malformed());
    }
    find(call)?.ok_or_else(|| {
        let shown: String = text.chars().take(1024).collect();
        not_found(format!("No resource found for ARN: {shown}"))
    })
}

async fn tag_resource(call: &Call<'_>) -> Result<Member, ApiError> {
    let tags = check_tags(call.input.tags("tags"))?;
    let what = taggable(call, &existing(call)?);
    call.directory
        .tag(call.account()?, what, &tags)
        .await
        .map_err(worded)?;
    Ok(Member::None)
}

async fn untag_resource(call: &Call<'_>) -> Result<Member, ApiError> {
    let keys = call.input.texts("tagKeys");
    check_tag_keys(keys.iter().copied())?;
    let what = taggable(call, &existing(call)?);
    call.directory
        .untag(call.account()?, what, &keys)
        .await
        .map_err(worded)?;
    Ok(Member::None)
}

fn taggable<'c>(call: &'c Call<'_>, found: &Tagged<'_>) -> Taggable<'c> {
    let arn = call.input.required("resourceArn");
    match found {
        Tagged::Cluster(_) => Taggable::Cluster(arn),
        Tagged::Entry(..) => Taggable::AccessEntry(arn),
        Tagged::Association(_) => Taggable::PodIdentityAssociation(arn),
    }
}

fn list_tags_for_resource(call: &Call<'_>) -> Result<Member, ApiError> {
    let tags = match existing(call)? {
        Tagged::Cluster(cluster) => tag_map(&cluster.record.tags),
        Tagged::Entry(_, entry) => tag_map(&entry.record.tags),
        Tagged::Association(known) => tag_map(&known.record.tags),
    };
    Ok(Member::Structure(vec![("tags", tags)]))
}

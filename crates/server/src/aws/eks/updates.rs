//! Changes of clusters and the records of them (EKS API spec, sections 4.1, 5 and 6).

use countersign_store::records::{ClusterUpdate, UpdateStatus};
use countersign_store::{ClusterEntry, Refused};

use super::change::Wanted;
use super::clusters::{may_pass_node_role, version};
use super::describe::update_member;
use super::error::{no_such_addon, worded};
use super::idempotency::{answered, kept, once, token};
use super::{cluster, cluster_resource, not_found, place, settings};
use crate::aws::ApiError;
use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Call, Operation, eks};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::eks_kinds::{
    API_SERVER, CLIENT_TOKEN, COMPUTE, CONTROLLER_MANAGER, LOGGING, MAX_RESULTS, NETWORK_CONFIG,
    NEXT_TOKEN, REMOTE_NETWORK, ROLLBACK, SCALING, SCHEDULER, STORAGE, TEXT, UPDATE_ACCESS_CONFIG,
    UPGRADE_POLICY, VPC_CONFIG, ZONAL_SHIFT,
};
use crate::aws::shape::{Kind, Parameter, in_query, label, optional, required};
use crate::aws::target::Target;

const CLUSTER: Parameter = label("name", "name", TEXT);
const NODEGROUP: Parameter = in_query("nodegroupName", TEXT);
const ADDON: Parameter = in_query("addonName", TEXT);
const CAPABILITY: Parameter = in_query("capabilityName", TEXT);

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    eks(
        "UpdateClusterConfig",
        ("POST", "/clusters/{name}/update-config"),
        &[
            CLUSTER,
            optional("resourcesVpcConfig", VPC_CONFIG),
            optional("logging", LOGGING),
            CLIENT_TOKEN,
            optional("accessConfig", UPDATE_ACCESS_CONFIG),
            optional("upgradePolicy", UPGRADE_POLICY),
            optional("zonalShiftConfig", ZONAL_SHIFT),
            optional("computeConfig", COMPUTE),
            optional("kubernetesNetworkConfig", NETWORK_CONFIG),
            optional("storageConfig", STORAGE),
            optional("remoteNetworkConfig", REMOTE_NETWORK),
            optional("deletionProtection", Kind::Boolean),
            optional("controlPlaneScalingConfig", SCALING),
            optional("kubeApiServerConfig", API_SERVER),
            optional("kubeSchedulerConfig", SCHEDULER),
            optional("kubeControllerManagerConfig", CONTROLLER_MANAGER),
        ],
        on(Target::Custom(cluster_resource)).and(may_pass_node_role),
        Answer::Write(|call| Box::pin(update_cluster_config(call))),
    ),
    eks(
        "UpdateClusterVersion",
        ("POST", "/clusters/{name}/updates"),
        &[
            CLUSTER,
            required("version", TEXT),
            CLIENT_TOKEN,
            optional("force", Kind::Boolean),
            optional("rollbackConfig", ROLLBACK),
        ],
        on(Target::Custom(cluster_resource)),
        Answer::Write(|call| Box::pin(update_cluster_version(call))),
    ),
    eks(
        "DescribeUpdate",
        ("GET", "/clusters/{name}/updates/{updateId}"),
        &[
            CLUSTER,
            label("updateId", "updateId", TEXT),
            NODEGROUP,
            ADDON,
            CAPABILITY,
        ],
        on(Target::Custom(cluster_resource)),
        Answer::Read(describe_update),
    ),
    eks(
        "ListUpdates",
        ("GET", "/clusters/{name}/updates"),
        &[
            CLUSTER,
            NODEGROUP,
            ADDON,
            CAPABILITY,
            NEXT_TOKEN,
            MAX_RESULTS,
        ],
        on(Target::Custom(cluster_resource)),
        Answer::Read(list_updates),
    ),
];

async fn update_cluster_config(call: &Call<'_>) -> Result<Member, ApiError> {
    let token = token(call)?;
    settings::check_offered(&call.input)?;
    let wanted = Wanted::of(call)?;
    commit(call, token, &wanted).await
}

async fn update_cluster_version(call: &Call<'_>) -> Result<Member, ApiError> {
    let token = token(call)?;
    settings::check_offered(&call.input)?;
    let version = version(call.input.required("version"))?;
    commit(call, token, &Wanted::Version(version.into())).await
}

async fn commit(
    call: &Call<'_>,
    token: Option<countersign_store::records::RequestToken>,
    wanted: &Wanted,
) -> Result<Member, ApiError> {
    let answer = |update: &ClusterUpdate| update_member(update, UpdateStatus::InProgress);
    let keep = |update: &ClusterUpdate| kept(&answer(update));
    let once = once(token.as_ref(), &keep);
    let (place, settling) = (place(call)?, call.eks.settling);
    let outcome = match wanted {
        Wanted::Access(mode) => {
            call.directory
                .set_authentication_mode(place, *mode, settling, once.as_ref(), call.now)
                .await
        }
        other => {
            call.directory
                .update_cluster(
                    place,
                    other.kind(),
                    settling,
                    once.as_ref(),
                    call.now,
                    |cluster| {
                        other
                            .apply(cluster)
                            .map_err(|reason| Refused(reason.into()))
                    },
                )
                .await
        }
    };
    answered(outcome.map_err(worded)?, answer)
}

/// What the updates of a call are of: the cluster, or the add-on of this name. Those of node groups and capabilities are
/// found with their names as well, and there is none of these.
///
/// # Errors
/// `ResourceNotFoundException`.
fn subject<'c>(call: &'c Call<'_>, cluster: &ClusterEntry) -> Result<Option<&'c str>, ApiError> {
    for (parameter, what) in [
        ("nodegroupName", "node group"),
        ("capabilityName", "capability"),
    ] {
        if let Some(name) = call.input.text(parameter) {
            return Err(not_found(format!("No {what} found for name: {name}.")));
        }
    }
    let addon = call.input.text("addonName");
    if let Some(name) = addon {
        call.snapshot
            .addon(&cluster.record.id, name)
            .filter(|addon| addon.record.status(call.now).is_some())
            .ok_or_else(|| no_such_addon(&cluster.record.name, name))?;
    }
    Ok(addon)
}

fn describe_update(call: &Call<'_>) -> Result<Member, ApiError> {
    let cluster = cluster(call)?;
    let subject = subject(call, cluster)?;
    let id = call.input.required("updateId");
    let update = call
        .snapshot
        .cluster_update(&cluster.record.id, id)
        .filter(|update| update.record.addon.as_deref() == subject)
        .ok_or_else(|| not_found(format!("No update found for ID: {id}")))?;
    Ok(update_member(
        &update.record,
        update.record.status(call.now),
    ))
}

fn list_updates(call: &Call<'_>) -> Result<Member, ApiError> {
    let cluster = cluster(call)?;
    let subject = subject(call, cluster)?;
    let page = PageRequest::of(call)?;
    let after = page.after().map(str::to_owned);
    let updates = call
        .snapshot
        .cluster_updates(&cluster.record.id)
        .map(|update| &update.record)
        .filter(|update| update.addon.as_deref() == subject)
        .filter(|update| after.as_ref().is_none_or(|after| place_of(update) > *after));
    let page = page.page(call, updates, |update| place_of(update))?;
    Ok(Member::Structure(page.with_token("updateIds", |update| {
        Member::Text(update.id.to_string())
    })))
}

/// Orders updates as the directory does: by time, then by id.
fn place_of(update: &ClusterUpdate) -> String {
    format!("{:030}/{}", update.created.as_nanosecond(), update.id)
}

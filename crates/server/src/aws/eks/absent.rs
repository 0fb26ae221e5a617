//! Things of EKS that no cluster here has: node groups, Fargate profiles, add-ons, capabilities, and, until they are offered,
//! identity provider configs.
//!
//! Lists of them are truthfully empty and single ones are not found, once the cluster is known to be there: tools that ask
//! before they change something, or wait until something is gone, get the answer they need.

use super::{NO_UUID, arn, cluster, cluster_name, cluster_resource, not_found};
use crate::aws::ApiError;
use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Call, Operation, eks};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::eks_kinds::{
    CLUSTER_NAME, MAX_RESULTS, NEXT_TOKEN, PROVIDER_CONFIG, SUBSCRIPTION_STATUSES, TEXT, TEXTS,
};
use crate::aws::shape::{Kind, Parameter, in_query, label, optional, required};
use crate::aws::target::{Resource, Target};

const CLUSTER: Parameter = label("clusterName", "name", TEXT);
const NODEGROUP: Parameter = label("nodegroupName", "nodegroupName", TEXT);
const FARGATE_PROFILE: Parameter = label("fargateProfileName", "fargateProfileName", TEXT);
const CAPABILITY: Parameter = label("capabilityName", "capabilityName", TEXT);
const SUBSCRIPTION: Parameter = label("id", "id", TEXT);

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    eks(
        "ListNodegroups",
        ("GET", "/clusters/{name}/node-groups"),
        &[CLUSTER, MAX_RESULTS, NEXT_TOKEN],
        on(Target::Custom(cluster_resource)),
        Answer::Read(|call| none_in_cluster(call, "nodegroups")),
    ),
    eks(
        "DescribeNodegroup",
        ("GET", "/clusters/{name}/node-groups/{nodegroupName}"),
        &[CLUSTER, NODEGROUP],
        on(Target::Custom(nodegroup)),
        Answer::Read(no_nodegroup),
    ),
    eks(
        "DeleteNodegroup",
        ("DELETE", "/clusters/{name}/node-groups/{nodegroupName}"),
        &[CLUSTER, NODEGROUP],
        on(Target::Custom(nodegroup)),
        Answer::Read(no_nodegroup),
    ),
    eks(
        "ListFargateProfiles",
        ("GET", "/clusters/{name}/fargate-profiles"),
        &[CLUSTER, MAX_RESULTS, NEXT_TOKEN],
        on(Target::Custom(cluster_resource)),
        Answer::Read(|call| none_in_cluster(call, "fargateProfileNames")),
    ),
    eks(
        "DescribeFargateProfile",
        (
            "GET",
            "/clusters/{name}/fargate-profiles/{fargateProfileName}",
        ),
        &[CLUSTER, FARGATE_PROFILE],
        on(Target::Custom(fargate_profile)),
        Answer::Read(no_fargate_profile),
    ),
    eks(
        "DeleteFargateProfile",
        (
            "DELETE",
            "/clusters/{name}/fargate-profiles/{fargateProfileName}",
        ),
        &[CLUSTER, FARGATE_PROFILE],
        on(Target::Custom(fargate_profile)),
        Answer::Read(no_fargate_profile),
    ),
    eks(
        "ListAddons",
        ("GET", "/clusters/{name}/addons"),
        &[
            label("clusterName", "name", CLUSTER_NAME),
            MAX_RESULTS,
            NEXT_TOKEN,
        ],
        on(Target::Custom(cluster_resource)),
        Answer::Read(|call| none_in_cluster(call, "addons")),
    ),
    eks(
        "DescribeAddon",
        ("GET", "/clusters/{name}/addons/{addonName}"),
        &[
            label("clusterName", "name", CLUSTER_NAME),
            label("addonName", "addonName", TEXT),
        ],
        on(Target::Custom(addon)),
        Answer::Read(no_addon),
    ),
    eks(
        "DeleteAddon",
        ("DELETE", "/clusters/{name}/addons/{addonName}"),
        &[
            label("clusterName", "name", CLUSTER_NAME),
            label("addonName", "addonName", TEXT),
            in_query("preserve", Kind::Boolean),
        ],
        on(Target::Custom(addon)),
        Answer::Read(no_addon),
    ),
    eks(
        "DescribeAddonVersions",
        ("GET", "/addons/supported-versions"),
        &[
            in_query("kubernetesVersion", TEXT),
            MAX_RESULTS,
            NEXT_TOKEN,
            in_query("addonName", TEXT),
            in_query("types", TEXTS),
            in_query("publishers", TEXTS),
            in_query("owners", TEXTS),
        ],
        on(Target::Any),
        Answer::Read(|call| none(call, "addons")),
    ),
    eks(
        "ListIdentityProviderConfigs",
        ("GET", "/clusters/{name}/identity-provider-configs"),
        &[CLUSTER, MAX_RESULTS, NEXT_TOKEN],
        on(Target::Custom(cluster_resource)),
        Answer::Read(|call| none_in_cluster(call, "identityProviderConfigs")),
    ),
    eks(
        "DescribeIdentityProviderConfig",
        (
            "POST",
            "/clusters/{name}/identity-provider-configs/describe",
        ),
        &[CLUSTER, required("identityProviderConfig", PROVIDER_CONFIG)],
        on(Target::Custom(provider_config)),
        Answer::Read(no_provider_config),
    ),
    eks(
        "DisassociateIdentityProviderConfig",
        (
            "POST",
            "/clusters/{name}/identity-provider-configs/disassociate",
        ),
        &[
            CLUSTER,
            required("identityProviderConfig", PROVIDER_CONFIG),
            optional("clientRequestToken", TEXT),
        ],
        on(Target::Custom(provider_config)),
        Answer::Read(no_provider_config),
    ),
    eks(
        "ListCapabilities",
        ("GET", "/clusters/{name}/capabilities"),
        &[CLUSTER, NEXT_TOKEN, MAX_RESULTS],
        on(Target::Custom(cluster_resource)),
        Answer::Read(|call| none_in_cluster(call, "capabilities")),
    ),
    eks(
        "DescribeCapability",
        ("GET", "/clusters/{name}/capabilities/{capabilityName}"),
        &[CLUSTER, CAPABILITY],
        on(Target::Custom(capability)),
        Answer::Read(no_capability),
    ),
    eks(
        "DeleteCapability",
        ("DELETE", "/clusters/{name}/capabilities/{capabilityName}"),
        &[CLUSTER, CAPABILITY],
        on(Target::Custom(capability)),
        Answer::Read(no_capability),
    ),
    eks(
        "ListEksAnywhereSubscriptions",
        ("GET", "/eks-anywhere-subscriptions"),
        &[
            MAX_RESULTS,
            NEXT_TOKEN,
            in_query("includeStatus", SUBSCRIPTION_STATUSES),
        ],
        on(Target::Any),
        Answer::Read(|call| none(call, "subscriptions")),
    ),
    eks(
        "DescribeEksAnywhereSubscription",
        ("GET", "/eks-anywhere-subscriptions/{id}"),
        &[SUBSCRIPTION],
        on(Target::Custom(subscription)),
        Answer::Read(no_subscription),
    ),
    eks(
        "DeleteEksAnywhereSubscription",
        ("DELETE", "/eks-anywhere-subscriptions/{id}"),
        &[SUBSCRIPTION],
        on(Target::Custom(subscription)),
        Answer::Read(no_subscription),
    ),
];

/// An empty list. No page of it has a token, so one that is sent is of no page.
fn none(call: &Call<'_>, name: &'static str) -> Result<Member, ApiError> {
    PageRequest::of(call)?;
    Ok(Member::Structure(vec![(name, Member::List(Vec::new()))]))
}

fn none_in_cluster(call: &Call<'_>, name: &'static str) -> Result<Member, ApiError> {
    cluster(call)?;
    none(call, name)
}

/// The ARN of a thing in a cluster that is not there.
fn in_cluster(call: &Call<'_>, kind: &str, rest: &str) -> Result<Resource, ApiError> {
    let cluster = cluster_name(call);
    arn(call, &format!("{kind}/{cluster}/{rest}")).map(Resource::named)
}

fn nodegroup(call: &Call<'_>) -> Result<Resource, ApiError> {
    let name = call.input.required("nodegroupName");
    in_cluster(call, "nodegroup", &format!("{name}/{NO_UUID}"))
}

fn no_nodegroup(call: &Call<'_>) -> Result<Member, ApiError> {
    cluster(call)?;
    let name = call.input.required("nodegroupName");
    Err(not_found(format!("No node group found for name: {name}.")))
}

fn fargate_profile(call: &Call<'_>) -> Result<Resource, ApiError> {
    let name = call.input.required("fargateProfileName");
    in_cluster(call, "fargateprofile", &format!("{name}/{NO_UUID}"))
}

fn no_fargate_profile(call: &Call<'_>) -> Result<Member, ApiError> {
    cluster(call)?;
    let name = call.input.required("fargateProfileName");
    Err(not_found(format!(
        "No Fargate Profile found with name: {name}."
    )))
}

fn addon(call: &Call<'_>) -> Result<Resource, ApiError> {
    let name = call.input.required("addonName");
    in_cluster(call, "addon", &format!("{name}/{NO_UUID}"))
}

fn no_addon(call: &Call<'_>) -> Result<Member, ApiError> {
    let cluster = cluster(call)?;
    let name = call.input.required("addonName");
    Err(not_found(format!(
        "No addon: {name} found in cluster: {}",
        cluster.record.name
    )))
}

/// Type and name of the config that a call names.
fn named_config<'c>(call: &'c Call<'_>) -> (&'c str, &'c str) {
    let config = call.input.get("identityProviderConfig");
    let member = |name| {
        config
            .and_then(|config| config.member(name))
            .unwrap_or_default()
    };
    (member("type"), member("name"))
}

fn provider_config(call: &Call<'_>) -> Result<Resource, ApiError> {
    let (kind, name) = named_config(call);
    in_cluster(
        call,
        "identityproviderconfig",
        &format!("{kind}/{name}/{NO_UUID}"),
    )
}

fn no_provider_config(call: &Call<'_>) -> Result<Member, ApiError> {
    let cluster = cluster(call)?;
    let (kind, name) = named_config(call);
    Err(not_found(format!(
        "No config found for cluster: {}, config type: {kind}, config name: {name}",
        cluster.record.name
    )))
}

fn capability(call: &Call<'_>) -> Result<Resource, ApiError> {
    let name = call.input.required("capabilityName");
    in_cluster(call, "capability", &format!("none/{name}/{NO_UUID}"))
}

fn no_capability(call: &Call<'_>) -> Result<Member, ApiError> {
    cluster(call)?;
    let name = call.input.required("capabilityName");
    Err(not_found(format!("No capability found for name: {name}.")))
}

fn subscription(call: &Call<'_>) -> Result<Resource, ApiError> {
    let id = call.input.required("id");
    arn(call, &format!("eks-anywhere-subscription/{id}")).map(Resource::named)
}

fn no_subscription(call: &Call<'_>) -> Result<Member, ApiError> {
    let id = call.input.required("id");
    Err(not_found(format!("No subscription found for ID: {id}")))
}

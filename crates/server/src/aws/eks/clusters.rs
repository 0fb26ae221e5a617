//! Clusters (EKS API spec, section 3).

use countersign_arn::{Arn, CallerKind};
use countersign_store::records::{AuthenticationMode, Cluster, ClusterStatus, Creator};
use countersign_store::{ClusterPlace, DirectoryError, NewCluster, Principal};

use super::describe::{as_created, cluster_member};
use super::error::worded;
use super::idempotency::{answered, kept, once, token};
use super::settings::{self, check_role};
use super::{
    arn, check_tags, cluster, cluster_resource, invalid, no_such_cluster, out_of_state, place,
};
use crate::aws::ApiError;
use crate::aws::authorize::{ask, on};
use crate::aws::operation::{Answer, Call, Operation, eks};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::eks_kinds::{
    API_SERVER, CLIENT_TOKEN, CLUSTER_NAME, COMPUTE, CONTROLLER_MANAGER, CREATE_ACCESS_CONFIG,
    ENCRYPTION_CONFIG, LOGGING, MAX_RESULTS, NETWORK_CONFIG, NEXT_TOKEN, OUTPOST_CONFIG,
    REMOTE_NETWORK, SCALING, SCHEDULER, STORAGE, TAGS, TEXT, TEXTS, UPGRADE_POLICY, VPC_CONFIG,
    ZONAL_SHIFT,
};
use crate::aws::shape::{Kind, in_query, label, optional, required};
use crate::aws::target::{Resource, Target, by_arn};

/// The Kubernetes version of a cluster that names none: the newest that EKS had when this was written.
pub(super) const DEFAULT_VERSION: &str = "1.34";

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    eks(
        "CreateCluster",
        ("POST", "/clusters"),
        &[
            required("name", CLUSTER_NAME),
            optional("version", TEXT),
            required("roleArn", TEXT),
            required("resourcesVpcConfig", VPC_CONFIG),
            optional("kubernetesNetworkConfig", NETWORK_CONFIG),
            optional("logging", LOGGING),
            CLIENT_TOKEN,
            optional("tags", TAGS),
            optional("encryptionConfig", ENCRYPTION_CONFIG),
            optional("outpostConfig", OUTPOST_CONFIG),
            optional("accessConfig", CREATE_ACCESS_CONFIG),
            optional("bootstrapSelfManagedAddons", Kind::Boolean),
            optional("upgradePolicy", UPGRADE_POLICY),
            optional("zonalShiftConfig", ZONAL_SHIFT),
            optional("remoteNetworkConfig", REMOTE_NETWORK),
            optional("computeConfig", COMPUTE),
            optional("storageConfig", STORAGE),
            optional("deletionProtection", Kind::Boolean),
            optional("controlPlaneScalingConfig", SCALING),
            optional("kubeApiServerConfig", API_SERVER),
            optional("kubeSchedulerConfig", SCHEDULER),
            optional("kubeControllerManagerConfig", CONTROLLER_MANAGER),
        ],
        on(Target::Any).and(may_create),
        Answer::Write(|call| Box::pin(create_cluster(call))),
    ),
    eks(
        "DescribeCluster",
        ("GET", "/clusters/{name}"),
        &[label("name", "name", TEXT)],
        on(Target::Custom(cluster_resource)),
        Answer::Read(describe_cluster),
    ),
    eks(
        "ListClusters",
        ("GET", "/clusters"),
        &[MAX_RESULTS, NEXT_TOKEN, in_query("include", TEXTS)],
        on(Target::Any),
        Answer::Read(list_clusters),
    ),
    eks(
        "DeleteCluster",
        ("DELETE", "/clusters/{name}"),
        &[label("name", "name", TEXT)],
        on(Target::Custom(cluster_resource)),
        Answer::Write(|call| Box::pin(delete_cluster(call))),
    ),
];

/// Tags and roles need more than the action itself (section 15.2). A role of Auto Mode's nodes is handed over as the
/// cluster's own is; AWS's references do not agree about it.
fn may_create(call: &Call<'_>) -> Result<(), ApiError> {
    if !call.input.request_tags().is_empty() {
        let name = call.input.required("name");
        let cluster = Resource::named(arn(call, &format!("cluster/{name}"))?);
        ask(call, "eks:TagResource", &cluster, None)?;
    }
    if let Some(role) = call.input.text("roleArn") {
        may_pass(call, role)?;
    }
    may_pass_node_role(call)
}

/// The role of Auto Mode's nodes, if the call has one.
pub(super) fn may_pass_node_role(call: &Call<'_>) -> Result<(), ApiError> {
    let config = call.input.get("computeConfig");
    let Some(role) = config.and_then(|config| config.member("nodeRoleArn")) else {
        return Ok(());
    };
    may_pass(call, role)
}

/// Whether the caller may hand a role to EKS. A role of another account is refused for that, whoever asks.
fn may_pass(call: &Call<'_>, role: &str) -> Result<(), ApiError> {
    let account = call.account()?;
    if Arn::parse(role).is_ok_and(|arn| arn.account != account.as_str()) {
        return Ok(());
    }
    let role = by_arn(call, role)?;
    ask(call, "iam:PassRole", &role, Some("eks.amazonaws.com"))
}

async fn create_cluster(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let token = token(call)?;
    let mode = settings::authentication_mode(input).unwrap_or(AuthenticationMode::ConfigMap);
    let bootstrap = input
        .get("accessConfig")
        .and_then(|config| config.boolean("bootstrapClusterCreatorAdminPermissions"))
        .unwrap_or(true);
    if mode == AuthenticationMode::ConfigMap && !bootstrap {
        return Err(worded(DirectoryError::CreatorMustBeAdmin));
    }
    let version = version(input.text("version").unwrap_or(DEFAULT_VERSION))?;
    let settings = settings::of_new_cluster(call, mode)?;
    let tags = check_tags(input.tags("tags"))?;
    let role = input.required("roleArn");
    check_role(call, "roleArn", role)?;
    let new = NewCluster {
        authentication_mode: mode,
        bootstrap_creator_admin: bootstrap,
        role_arn: Some(role.into()),
        version: Some(version.into()),
        tags,
        deletion_protection: input.boolean("deletionProtection").unwrap_or(false),
        settings,
        settling: call.eks.settling,
        ..NewCluster::new(
            call.account()?,
            call.region(),
            input.required("name"),
            creator(call)?,
        )
    };
    let answer = |cluster: &Cluster| as_created(call, cluster);
    let keep = |cluster: &Cluster| kept(&answer(cluster));
    let once = once(token.as_ref(), &keep);
    let outcome = call
        .directory
        .create_cluster_once(new, once.as_ref(), call.now)
        .await
        .map_err(worded)?;
    answered(outcome, answer)
}

fn describe_cluster(call: &Call<'_>) -> Result<Member, ApiError> {
    let cluster = &cluster(call)?.record;
    let status = cluster
        .status(call.now)
        .ok_or_else(|| no_such_cluster(&cluster.name))?;
    Ok(one(cluster_member(call, cluster, status)))
}

/// `include` names connected clusters as well. Here all clusters are registered, and all of them are listed in any case.
fn list_clusters(call: &Call<'_>) -> Result<Member, ApiError> {
    if let Some(other) = call
        .input
        .texts("include")
        .into_iter()
        .find(|word| *word != "all")
    {
        let other: String = other.chars().take(64).collect();
        return Err(invalid(format!(
            "The parameter include must be all, not {other}"
        )));
    }
    let page = PageRequest::of(call)?;
    let (account, region) = (call.account()?, call.region());
    let mut names: Vec<&str> = call
        .snapshot
        .clusters()
        .map(|cluster| &cluster.record)
        .filter(|cluster| {
            cluster.account == account
                && *cluster.region == *region
                && cluster.status(call.now).is_some()
        })
        .map(|cluster| &*cluster.name)
        .filter(|name| page.after().is_none_or(|after| *name > after))
        .collect();
    names.sort_unstable();
    let page = page.page(call, names.into_iter(), |name| (*name).to_owned())?;
    Ok(Member::Structure(page.with_token("clusters", |name| {
        Member::Text(name.to_owned())
    })))
}

async fn delete_cluster(call: &Call<'_>) -> Result<Member, ApiError> {
    let place: ClusterPlace<'_> = place(call)?;
    let cluster = call
        .directory
        .delete_cluster(place, call.eks.settling, call.now)
        .await
        .map_err(worded)?;
    Ok(one(cluster_member(call, &cluster, ClusterStatus::Deleting)))
}

pub(super) fn one(cluster: Member) -> Member {
    Member::Structure(vec![("cluster", cluster)])
}

/// `1.NN`; the patch level is not a caller's choice.
///
/// # Errors
/// `InvalidParameterException`
pub(super) fn version(text: &str) -> Result<&str, ApiError> {
    let is_version = text.strip_prefix("1.").is_some_and(|minor| {
        minor.len() == 2 && !minor.starts_with('0') && minor.bytes().all(|b| b.is_ascii_digit())
    });
    if is_version {
        return Ok(text);
    }
    let shown: String = text.chars().take(64).collect();
    Err(invalid(format!("unsupported Kubernetes version {shown}")))
}

/// The permanent identity behind the call: a role with its path, a user, or root (section 4.2).
///
/// # Errors
/// `InvalidRequestException` when it is not there any more.
fn creator(call: &Call<'_>) -> Result<Creator, ApiError> {
    let caller = call.caller()?;
    let identity = caller.identity();
    if identity.caller().kind() == CallerKind::Root {
        let account = identity.account();
        return Ok(Creator {
            principal_arn: format!("arn:{}:iam::{account}:root", call.partition()).into(),
            principal_id: account.as_str().into(),
        });
    }
    let id = match caller.session() {
        Some(session) => session.principal.unique_id(),
        None => Some(identity.user_id()),
    };
    match id.and_then(|id| call.snapshot.principal(id)) {
        Some(Principal::User(user)) => Ok(Creator {
            principal_arn: user.arn.as_ref().into(),
            principal_id: user.record.id.clone(),
        }),
        Some(Principal::Role(role)) => Ok(Creator {
            principal_arn: role.arn.as_ref().into(),
            principal_id: role.record.id.clone(),
        }),
        _ => Err(out_of_state("The caller does not exist any more.")),
    }
}

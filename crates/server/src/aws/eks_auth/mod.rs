//! EKS Auth: AssumeRoleForPodIdentity, the call by which the agent of a node gets credentials for a pod (EKS API spec,
//! section 11; Pod Identity spec, sections 5 and 6).
//!
//! ```text
//!   signature of the node, or token of the agent ──▶ caller ──▶ eks-auth:AssumeRoleForPodIdentity on the cluster
//!                                                                   │
//!   pod's token ──▶ check: issuer, keys, times, audience, bound ──▶ Pod ──▶ node: is it the caller's?
//!                                                                   │
//!                             association in force for (cluster, namespace, service account) in the snapshot
//!                                                                   │
//!                             assume (embedded STS) | real (AWS STS): the role, then the target role ──▶ credentials
//! ```
//!
//! Nothing is written. Every refusal is a [`Refusal`](error::Refusal).

mod assume;
mod bearer;
mod check;
mod error;
mod node;
mod options;
mod real;
mod session;
mod token;

use std::sync::Arc;

use countersign_store::ClusterEntry;
use jiff::Timestamp;
use zeroize::Zeroizing;

use self::assume::Asked;
pub(crate) use self::bearer::{Agent, authenticate, bearer};
use self::error::Refusal;
use self::node::CallerNode;
pub use self::options::EksAuthOptions;
pub use self::real::RealSts;
use super::ApiError;
use super::authorize::on;
use super::operation::{Answer, Answering, Call, Operation, eks_auth};
use super::query::Member;
use super::shape::eks_kinds::{POD_CLUSTER_NAME, POD_TOKEN, TEXT};
use super::shape::{label, optional, required};
use super::target::{Resource, Target};

/// The one operation.
pub(super) const OPERATIONS: &[Operation] = &[eks_auth(
    "AssumeRoleForPodIdentity",
    (
        "POST",
        "/clusters/{clusterName}/assume-role-for-pod-identity",
    ),
    &[
        label("clusterName", "clusterName", POD_CLUSTER_NAME),
        required("token", POD_TOKEN),
        optional("eksNodeName", TEXT),
        optional("instanceId", TEXT),
        optional("zone", TEXT),
    ],
    on(Target::Custom(cluster_resource)),
    Answer::Write(assume_role_for_pod_identity),
)];

/// A session that was made for a pod.
struct Issued {
    /// ARN of the session.
    arn: String,
    /// `AROA…:SESSION`
    role_id: String,
    /// ARN of the session that the target role was assumed with.
    first: Option<String>,
    credentials: Credentials,
}

/// Its credentials.
struct Credentials {
    access_key_id: String,
    secret: Zeroizing<String>,
    token: Zeroizing<String>,
    expires: Timestamp,
}

/// What the record of a call says of the pod (Pod Identity spec, section 5.2, step 6).
#[derive(Debug, Clone, Default)]
pub(crate) struct PodCall {
    pub(crate) cluster: String,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) pod_name: String,
    pub(crate) pod_uid: String,
    pub(crate) node: Option<String>,
    pub(crate) association_arn: Option<String>,
    /// ARN of the session of the association's role, when a target role was assumed with it.
    pub(crate) first_session: Option<String>,
    /// ARN of the session that the pod got.
    pub(crate) session: Option<String>,
}

/// The cluster of a call as policies see it, whether it is there or not.
fn cluster_resource(call: &Call<'_>) -> Result<Resource, ApiError> {
    let name = call.input.text("clusterName").unwrap_or_default();
    let (partition, region, account) = (call.partition(), call.region(), call.account()?);
    let arn = format!("arn:{partition}:eks:{region}:{account}:cluster/{name}");
    Ok(match cluster_of(call)? {
        Some(cluster) => Resource::tagged(arn, &cluster.record.tags),
        None => Resource::named(arn),
    })
}

/// The cluster that a call is about: the agent's own, or the one of this name in the caller's account and region.
fn cluster_of<'c>(call: &'c Call<'_>) -> Result<Option<&'c Arc<ClusterEntry>>, ApiError> {
    if let Some(agent) = &call.agent {
        return Ok(Some(&agent.cluster));
    }
    let name = call.input.text("clusterName").unwrap_or_default();
    Ok(call
        .snapshot
        .cluster(call.account()?, call.region(), name)
        .filter(|cluster| cluster.record.status(call.now).is_some()))
}

fn assume_role_for_pod_identity<'a>(call: &'a Call<'a>) -> Answering<'a> {
    Box::pin(async move {
        match run(call).await {
            Ok(answer) => {
                call.metrics.eks_auth("ok");
                Ok(answer)
            }
            Err(refusal) => {
                call.metrics.eks_auth(refusal.reason());
                Err(refusal.into_error(call.now))
            }
        }
    })
}

async fn run(call: &Call<'_>) -> Result<Member, Refusal> {
    let text = call.input.required("token");
    let cluster = cluster_of(call)?.ok_or_else(|| {
        Refusal::NoCluster(
            call.input
                .text("clusterName")
                .unwrap_or_default()
                .to_owned(),
        )
    })?;
    let record = &cluster.record;
    let caller = caller_node(call, cluster).await?;
    let issuers = call.issuers.ok_or(error::NO_KEYS)?;
    let token = check::read(text)?;
    let claims = check::check(
        (&call.snapshot, issuers),
        record,
        text,
        &token,
        token::AUDIENCE,
        call.now,
    )
    .await?;
    let pod = token::pod_of(claims)?;
    let mut told = PodCall {
        cluster: record.arn(),
        namespace: pod.namespace.to_owned(),
        service_account: pod.service_account.to_owned(),
        pod_name: pod.name.to_owned(),
        pod_uid: pod.uid.to_owned(),
        node: pod.node.map(str::to_owned),
        ..PodCall::default()
    };
    call.about_pod(told.clone());
    if call.agent.is_some() && pod.node.is_none() {
        return Err(Refusal::NotYourPod(
            "The token does not name the node of its pod, and the caller is an agent without AWS credentials."
                .to_owned(),
        ));
    }
    node::check_pod(&caller, pod.node)?;
    node::check_stated(call.input.text("eksNodeName"), pod.node)?;
    let entry = call
        .snapshot
        .pod_identity_association_in_force(&record.id, pod.namespace, pod.service_account)
        .ok_or_else(|| Refusal::NoAssociation {
            namespace: pod.namespace.to_owned(),
            service_account: pod.service_account.to_owned(),
        })?;
    let association = &entry.record;
    let association_arn = association.arn(record);
    told.association_arn = Some(association_arn.clone());
    call.about_pod(told.clone());

    let random = call.random.bytes::<16>().map_err(|_| {
        Refusal::Unavailable("Temporary credentials cannot be issued at the moment.")
    })?;
    let session_name = session::name_of(record, association, &pod, random)?;
    let extra_tags = session::extra_tags(call, record, association, &pod).await?;
    let asked = Asked {
        cluster: record,
        association,
        pod,
        session_name: &session_name,
        extra_tags: &extra_tags,
        signed_with: call
            .signer
            .as_ref()
            .map(|caller| caller.verified().key_id()),
    };
    let issued = match &call.eks_auth.real {
        Some(real) => real::assume(call, asked, real).await?,
        None => assume::assume(call, asked)?,
    };
    tracing::info!(
        request_id = call.request_id,
        cluster = &*record.name,
        namespace = pod.namespace,
        service_account = pod.service_account,
        pod = pod.name,
        pod_uid = pod.uid,
        node = pod.node,
        association = &*association.id,
        session = issued.arn,
        first_session = issued.first,
        access_key_id = issued.credentials.access_key_id,
        "credentials issued to a pod"
    );
    told.first_session.clone_from(&issued.first);
    told.session = Some(issued.arn.clone());
    call.about_pod(told);
    Ok(answer(&pod, &association.id, association_arn, issued))
}

/// Who asks, as far as nodes are concerned.
async fn caller_node(call: &Call<'_>, cluster: &ClusterEntry) -> Result<CallerNode, Refusal> {
    if let Some(agent) = &call.agent {
        return Ok(CallerNode::Named(vec![agent.node.to_string()]));
    }
    let nodes = call.eks_auth.nodes.as_ref();
    let caller = node::node_of(&call.snapshot, cluster, call.caller()?, nodes.is_some());
    node::check_cluster(&caller, &cluster.record.name)?;
    node::named(caller, nodes).await
}

/// All five members, and all of their members, are required by clients.
fn answer(pod: &token::Pod<'_>, id: &str, association_arn: String, issued: Issued) -> Member {
    let text = |text: &str| Member::Text(text.to_owned());
    let credentials = issued.credentials;
    Member::Structure(vec![
        (
            "subject",
            Member::Structure(vec![
                ("namespace", text(pod.namespace)),
                ("serviceAccount", text(pod.service_account)),
            ]),
        ),
        ("audience", text(token::AUDIENCE)),
        (
            "podIdentityAssociation",
            Member::Structure(vec![
                ("associationArn", Member::Text(association_arn)),
                ("associationId", text(id)),
            ]),
        ),
        (
            "assumedRoleUser",
            Member::Structure(vec![
                ("arn", Member::Text(issued.arn)),
                ("assumeRoleId", Member::Text(issued.role_id)),
            ]),
        ),
        (
            "credentials",
            Member::Structure(vec![
                ("sessionToken", text(&credentials.token)),
                ("secretAccessKey", text(&credentials.secret)),
                ("accessKeyId", Member::Text(credentials.access_key_id)),
                ("expiration", Member::Time(credentials.expires)),
            ]),
        ),
    ])
}

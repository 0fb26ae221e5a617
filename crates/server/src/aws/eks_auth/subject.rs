//! For which pod a call asks, and whether its caller may: what every operation of EKS Auth begins with (Pod Identity spec, section
//! 5.2, steps 1 and 2).

use std::sync::Arc;

use countersign_store::ClusterEntry;

use super::error::{self, Refusal};
use super::token::{self, Pod};
use super::{PodCall, caller_node, check, cluster_of, node};
use crate::aws::operation::Call;

/// A pod whose token was checked.
#[derive(Debug)]
pub(super) struct Subject {
    namespace: Box<str>,
    service_account: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    node: Option<Box<str>>,
}

impl Subject {
    pub(super) fn pod(&self) -> Pod<'_> {
        Pod {
            namespace: &self.namespace,
            service_account: &self.service_account,
            name: &self.name,
            uid: &self.uid,
            node: self.node.as_deref(),
        }
    }
}

/// The cluster and the pod of a call, and what its record says of them: the caller may ask for this pod, and its token is one
/// that the cluster gave to it.
///
/// # Errors
/// Why not.
pub(super) async fn of<'c>(
    call: &'c Call<'_>,
) -> Result<(&'c Arc<ClusterEntry>, Subject, PodCall), Refusal> {
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
    let told = PodCall {
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
    let subject = Subject {
        namespace: pod.namespace.into(),
        service_account: pod.service_account.into(),
        name: pod.name.into(),
        uid: pod.uid.into(),
        node: pod.node.map(Into::into),
    };
    Ok((cluster, subject, told))
}

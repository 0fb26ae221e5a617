//! AssumeAnnotatedRoleForPod: a pod's role by the annotations of kube2iam and kiam (imds spec, sections 4 and 5.3). An operation of
//! our own beside the one of AWS:
//!
//! ```text
//!   POST /clusters/{clusterName}/assume-annotated-role-for-pod   {"token": …}
//!   200 {"subject", "audience", "annotatedRole": {"roleArn", "name", "isDefault"}, "assumedRoleUser", "credentials"}
//! ```
//!
//! Who may ask for which pod is decided as for AssumeRoleForPodIdentity, with the action
//! `eks-auth:AssumeAnnotatedRoleForPod` on the cluster. Which role it is the caller does not say: the annotations of the pod
//! that the token names, and the list of its namespace, are read from the cluster's API server, and `imds::annotated` decides. An
//! association of the service account goes before annotations.
//!
//! A session lasts an hour: a namespace's list that was narrowed counts from the next renewal on.

mod assume;
mod reads;

use countersign_imds::annotated::Granted;

pub use self::reads::{AnnotatedCluster, AnnotationsApi};
use super::error::Refusal;
use super::token::Pod;
use super::{Issued, cluster_resource, session, subject, token};
use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Answering, Call, Operation, eks_auth};
use crate::aws::query::Member;
use crate::aws::shape::eks_kinds::{POD_CLUSTER_NAME, POD_TOKEN, TEXT};
use crate::aws::shape::{label, optional, required};
use crate::aws::target::Target;

/// Seconds of a session.
const SECONDS: u32 = 3600;

/// The operation.
pub(in crate::aws) const OPERATIONS: &[Operation] = &[eks_auth(
    "AssumeAnnotatedRoleForPod",
    (
        "POST",
        "/clusters/{clusterName}/assume-annotated-role-for-pod",
    ),
    &[
        label("clusterName", "clusterName", POD_CLUSTER_NAME),
        required("token", POD_TOKEN),
        optional("eksNodeName", TEXT),
    ],
    on(Target::Custom(cluster_resource)),
    Answer::Write(assume_annotated_role_for_pod),
)];

fn assume_annotated_role_for_pod<'a>(call: &'a Call<'a>) -> Answering<'a> {
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
    let (cluster, subject, mut told) = subject::of(call).await?;
    let (record, pod) = (&cluster.record, subject.pod());
    let annotated = call
        .eks_auth
        .annotated
        .iter()
        .find(|annotated| annotated.is_for(record))
        .ok_or_else(|| Refusal::NotConfigured(record.name.to_string()))?;
    let association = call.snapshot.pod_identity_association_in_force(
        &record.id,
        pod.namespace,
        pod.service_account,
    );
    if association.is_some() {
        return Err(Refusal::NoAnnotatedRole(format!(
            "Service account {} in namespace {} has a pod identity association, which goes before annotations.",
            pod.service_account, pod.namespace
        )));
    }
    let granted = annotated.role(record, &pod).await?;

    let session_name = match &granted.session_name {
        Some(name) => name.clone(),
        None => {
            let random = call.random.bytes::<16>().map_err(|_| {
                Refusal::Unavailable("Temporary credentials cannot be issued at the moment.")
            })?;
            session::session_name(&record.name, pod.name, &session::uuid_of(random))
        }
    };
    let asked = assume::Asked {
        cluster: record,
        granted: &granted,
        pod,
        session_name: &session_name,
        signed_with: call
            .signer
            .as_ref()
            .map(|caller| caller.verified().key_id()),
    };
    let issued = match &call.eks_auth.real {
        Some(real) => assume::real(call, asked, real).await?,
        None => assume::embedded(call, asked)?,
    };
    tracing::info!(
        request_id = call.request_id,
        cluster = &*record.name,
        namespace = pod.namespace,
        service_account = pod.service_account,
        pod = pod.name,
        pod_uid = pod.uid,
        node = pod.node,
        role = granted.arn,
        is_default = granted.is_default,
        session = issued.arn,
        access_key_id = issued.credentials.access_key_id,
        "credentials of an annotated role issued to a pod"
    );
    told.session = Some(issued.arn.clone());
    call.about_pod(told);
    Ok(answer(&pod, &granted, issued))
}

fn answer(pod: &Pod<'_>, granted: &Granted, issued: Issued) -> Member {
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
            "annotatedRole",
            Member::Structure(vec![
                ("roleArn", text(&granted.arn)),
                ("name", text(&granted.shown)),
                ("isDefault", Member::Bool(granted.is_default)),
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

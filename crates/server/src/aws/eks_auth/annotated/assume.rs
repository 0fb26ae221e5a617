//! From a pod and the role that it may have to credentials: as the service principal and with the six tags, as for associations.

use countersign_arn::Tag;
use countersign_imds::annotated::Granted;
use countersign_session::{Binding, Chain, SessionKind};
use countersign_store::records::{Cluster, PodSessions};
use countersign_upstream::roles::RoleRequest;

use super::SECONDS;
use crate::aws::conditions::organization_of;
use crate::aws::eks::pod_trust::{PodSubject, PodTrust};
use crate::aws::eks_auth::assume::{Hop, allowed, issue, policies, refused};
use crate::aws::eks_auth::error::Refusal;
use crate::aws::eks_auth::real::{issued, step};
use crate::aws::eks_auth::token::Pod;
use crate::aws::eks_auth::{Issued, RealSts};
use crate::aws::operation::Call;
use crate::aws::sts::role_session::{NewSession, find_role};

/// A pod, its role, and what its session is to be called.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) granted: &'a Granted,
    pub(super) pod: Pod<'a>,
    pub(super) session_name: &'a str,
    /// The key that signed the call; nothing for agents with tokens.
    pub(super) signed_with: Option<&'a str>,
}

impl Asked<'_> {
    fn tags(&self) -> Vec<Tag> {
        PodSubject {
            cluster: self.cluster,
            namespace: self.pod.namespace,
            service_account: self.pod.service_account,
            pod_name: self.pod.name,
            pod_uid: self.pod.uid,
        }
        .session_tags(&PodSessions::default())
    }
}

/// Credentials of the embedded STS.
///
/// # Errors
/// When the role is not there or does not trust the pod.
pub(super) fn embedded(call: &Call<'_>, asked: Asked<'_>) -> Result<Issued, Refusal> {
    let arn = &*asked.granted.arn;
    let role = find_role(&call.snapshot, arn)
        .map(AsRef::as_ref)
        .ok_or_else(|| {
            refused(
                call,
                Hop::First,
                arn,
                "sts:AssumeRole",
                "there is no such role",
            )
        })?;
    let requested = asked.tags();
    let trust = call.policies.role(&call.snapshot, role);
    let owner = organization_of(&call.snapshot, role.record.account);
    PodTrust {
        cluster: asked.cluster,
        organization: organization_of(&call.snapshot, asked.cluster.account).as_deref(),
        tags: &requested,
        session_name: Some(asked.session_name),
        now: call.now,
        role,
    }
    .decide_named(
        &trust.trust,
        asked.granted.external_id.as_deref(),
        owner.as_deref(),
    )
    .map_err(|not| {
        refused(
            call,
            Hop::First,
            &role.arn,
            &not.action,
            not.outcome.as_str(),
        )
    })?;
    allowed(call, &role.arn);
    let keys: Vec<&str> = requested.iter().map(|tag| &*tag.key).collect();
    let tags = Chain::of(None)
        .session_tags(&requested, &keys)
        .map_err(|_| Refusal::InvalidToken("its claims cannot be session tags".to_owned()))?;
    let policies = policies(call, role, None, &tags)?;
    let session = NewSession {
        kind: SessionKind::PodIdentity,
        role,
        name: asked.session_name,
        seconds: SECONDS,
        policies,
        tags,
        source_identity: None,
        federation: None,
        binding: Binding {
            cluster: Some(asked.cluster.arn().into()),
            namespace: Some(asked.pod.namespace.into()),
            service_account: Some(asked.pod.service_account.into()),
            pod_uid: Some(asked.pod.uid.into()),
            node: asked.pod.node.map(Into::into),
            association_id: None,
        },
        mfa: false,
        depth: Chain::of(None)
            .next_depth()
            .map_err(crate::aws::ApiError::from)?,
        signed_with: asked.signed_with,
    }
    .record(call);
    issue(call, &session, None)
}

/// Credentials of real AWS STS.
///
/// # Errors
/// What STS says, in the words of EKS Auth.
pub(super) async fn real(
    call: &Call<'_>,
    asked: Asked<'_>,
    real: &RealSts,
) -> Result<Issued, Refusal> {
    let tags = asked.tags();
    let tags: Vec<(&str, &str)> = tags.iter().map(|tag| (&*tag.key, &*tag.value)).collect();
    let request = RoleRequest {
        role_arn: &asked.granted.arn,
        session_name: asked.session_name,
        seconds: real.seconds(SECONDS),
        tags: &tags,
        policy: None,
        external_id: asked.granted.external_id.as_deref(),
    };
    issued(
        step(call, real, request, None, Refusal::RoleRefuses).await?,
        None,
    )
}

//! From a pod and its association to credentials of the embedded STS: the role as `pods.eks.amazonaws.com`, and with that
//! session the target role (Pod Identity spec, section 5.2; policy language spec, sections 7.4, 7.5 and 8.6).

use countersign_arn::Tag;
use countersign_policy::{
    Action, AssumeRole, Context, Layers, Outcome, Principal, Request, decide_assume_role,
};
use countersign_session::duration::{MAX_CHAINED_SECONDS, POD_IDENTITY_SECONDS};
use countersign_session::{
    Binding, Chain, SessionKind, SessionPolicies, SessionRecord, SessionTags, context_facts,
};
use countersign_store::RoleEntry;
use countersign_store::records::{Cluster, PodIdentityAssociation};

use super::error::Refusal;
use super::token::Pod;
use super::{Credentials, Issued};
use crate::aws::conditions::{instant, of_session, organization_of, set_tags};
use crate::aws::eks::pod_trust::{PodSubject, PodTrust};
use crate::aws::finished::Decided;
use crate::aws::keys::live_principal;
use crate::aws::operation::Call;
use crate::aws::sts::issue::seal;
use crate::aws::sts::role_session::{NewSession, find_role, policies_in};

const ACTION: &str = "sts:AssumeRole";

/// A pod, the association of its service account, and what its session is to be called.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) association: &'a PodIdentityAssociation,
    pub(super) pod: Pod<'a>,
    pub(super) session_name: &'a str,
    /// The association's own tags.
    pub(super) extra_tags: &'a [Tag],
    /// The key that signed the call; nothing for agents with tokens.
    pub(super) signed_with: Option<&'a str>,
}

/// Credentials for a pod.
///
/// The first session lasts six hours, or as long as the association says, whatever `MaxSessionDuration` its role has, which
/// limits what callers of STS may ask for. A target session is chained, and lasts an hour, or less when the association says
/// so.
///
/// # Errors
/// When a role is not there or does not trust the pod, or the session policy does not fit.
pub(super) fn assume(call: &Call<'_>, asked: Asked<'_>) -> Result<Issued, Refusal> {
    let association = asked.association;
    let role = find_role(&call.snapshot, &association.role_arn)
        .map(AsRef::as_ref)
        .ok_or_else(|| {
            refused(
                call,
                Hop::First,
                &association.role_arn,
                ACTION,
                "there is no such role",
            )
        })?;
    let requested = asked.tags();
    let trust = call.policies.role(&call.snapshot, role);
    PodTrust {
        cluster: asked.cluster,
        organization: organization_of(&call.snapshot, asked.cluster.account).as_deref(),
        tags: &requested,
        session_name: Some(asked.session_name),
        now: call.now,
        role,
    }
    .decide(&trust.trust)
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
    // Only what the token says can break a rule: names and uids that no API server gives.
    let tags = Chain::of(None)
        .session_tags(&requested, &keys)
        .map_err(|_| Refusal::InvalidToken("its claims cannot be session tags".to_owned()))?;

    // The session policy limits the last session only.
    let policy = association.policy.as_deref();
    let is_last = association.target_role_arn.is_none();
    let policies = policies(call, role, policy.filter(|_| is_last), &tags)?;
    let first = NewSession {
        kind: SessionKind::PodIdentity,
        role,
        name: asked.session_name,
        seconds: asked.seconds(POD_IDENTITY_SECONDS),
        policies,
        tags,
        source_identity: None,
        federation: None,
        binding: asked.binding(),
        mfa: false,
        depth: Chain::of(None)
            .next_depth()
            .map_err(crate::aws::ApiError::from)?,
        signed_with: asked.signed_with,
    }
    .record(call);
    let Some(target_arn) = association.target_role_arn.as_deref() else {
        return issue(call, &first, None);
    };
    let target = assume_target(call, &asked, &first, role, target_arn)?;
    issue(call, &target, Some(session_arn(&first)))
}

/// The second session, with the credentials of the first.
fn assume_target(
    call: &Call<'_>,
    asked: &Asked<'_>,
    first: &SessionRecord,
    role: &RoleEntry,
    target_arn: &str,
) -> Result<SessionRecord, Refusal> {
    let chain = Chain::of(Some(first));
    let no_tags: [&str; 0] = [];
    let tags = chain
        .session_tags(&[], &no_tags)
        .map_err(crate::aws::ApiError::from)?;
    let target = find_role(&call.snapshot, target_arn)
        .map(AsRef::as_ref)
        .ok_or_else(|| {
            refused(
                call,
                Hop::Target,
                target_arn,
                ACTION,
                "there is no such role",
            )
        })?;
    let asks = AssumeRole {
        tags: !tags.is_empty(),
        ..AssumeRole::default()
    };
    let principal = Principal::session(&session_arn(first), Some(&role.arn), Some(&role.record.id))
        .map_err(|error| {
            tracing::error!(request_id = call.request_id, %error, "a session names no principal");
            Refusal::Internal
        })?;
    let keys = chained_keys(call, asked, first, &chain, target)?;
    let own = call.policies.role(&call.snapshot, role);
    let trust = call.policies.role(&call.snapshot, target);
    let layers = Layers {
        identity: &own.identity,
        boundary: own.boundary.as_ref(),
        resource: Some(&trust.trust),
        ..Layers::default()
    };
    decide_target(call, &principal, &target.arn, &keys, asks, &layers)?;
    let policies = policies(call, target, asked.association.policy.as_deref(), &tags)?;
    Ok(NewSession {
        kind: SessionKind::AssumedRole,
        role: target,
        name: asked.session_name,
        seconds: asked.seconds(MAX_CHAINED_SECONDS),
        policies,
        tags,
        source_identity: None,
        federation: None,
        binding: asked.binding(),
        mfa: false,
        depth: chain.next_depth().map_err(crate::aws::ApiError::from)?,
        signed_with: asked.signed_with,
    }
    .record(call))
}

impl Asked<'_> {
    /// The tags, all of them transitive: those of the six that the association does not leave out, and its own; none when it
    /// is without tags.
    pub(super) fn tags(&self) -> Vec<Tag> {
        if !self.association.has_session_tags() {
            return Vec::new();
        }
        let subject = PodSubject {
            cluster: self.cluster,
            namespace: self.pod.namespace,
            service_account: self.pod.service_account,
            pod_name: self.pod.name,
            pod_uid: self.pod.uid,
        };
        let mut tags = subject.session_tags(&self.association.sessions);
        tags.extend_from_slice(self.extra_tags);
        tags
    }

    /// Seconds that the pod's session lasts, unless it is said otherwise `default`.
    pub(super) fn seconds(&self, default: u32) -> u32 {
        self.association
            .sessions
            .duration_seconds
            .unwrap_or(default)
    }

    /// What the target role may ask for as `sts:ExternalId`; nothing while the tags are there to be tested.
    pub(super) fn external_id(&self) -> Option<String> {
        if self.association.has_session_tags() {
            return None;
        }
        let Pod {
            namespace,
            service_account,
            ..
        } = self.pod;
        self.association
            .external_id_of(self.cluster, namespace, service_account)
    }

    /// The workload that the session is for.
    fn binding(&self) -> Binding {
        Binding {
            cluster: Some(self.cluster.arn().into()),
            namespace: Some(self.pod.namespace.into()),
            service_account: Some(self.pod.service_account.into()),
            pod_uid: Some(self.pod.uid.into()),
            node: self.pod.node.map(Into::into),
            association_id: Some(self.association.id.clone()),
        }
    }
}

fn policies(
    call: &Call<'_>,
    role: &RoleEntry,
    policy: Option<&str>,
    tags: &SessionTags,
) -> Result<SessionPolicies, Refusal> {
    if policy.is_none() && tags.requested().next().is_none() {
        return Ok(SessionPolicies::default());
    }
    let owner = (role.record.partition, role.record.account);
    let (policies, _) = policies_in(call, owner, policy, &[], tags)?;
    Ok(policies)
}

fn session_arn(record: &SessionRecord) -> String {
    record
        .principal
        .caller_arn(record.partition, record.account)
}

fn issue(
    call: &Call<'_>,
    record: &SessionRecord,
    first: Option<String>,
) -> Result<Issued, Refusal> {
    let sealed = seal(call, record)?;
    Ok(Issued {
        arn: session_arn(record),
        role_id: record.principal.user_id(record.account),
        first,
        credentials: Credentials {
            access_key_id: sealed.access_key_id.into(),
            secret: zeroize::Zeroizing::new(sealed.secret.expose().to_owned()),
            token: zeroize::Zeroizing::new(sealed.token.expose().to_owned()),
            expires: sealed.expires,
        },
    })
}

// === Decisions ===

/// Which of the two roles is assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hop {
    First,
    Target,
}

/// Asks the engine for the target role; what it says goes into the record of the call.
fn decide_target(
    call: &Call<'_>,
    principal: &Principal,
    role_arn: &str,
    keys: &Context<'_>,
    asks: AssumeRole,
    layers: &Layers<'_>,
) -> Result<(), Refusal> {
    let unasked = || refused(call, Hop::Target, role_arn, ACTION, "it cannot be asked");
    let action = Action::parse(ACTION).map_err(|_| unasked())?;
    let request = Request::new(principal, &action, role_arn, keys).map_err(|_| unasked())?;
    match decide_assume_role(&request, asks, layers) {
        Ok(_) => {
            allowed(call, role_arn);
            Ok(())
        }
        Err(denied) => {
            let outcome = denied.decision.outcome.as_str();
            let action = denied.action.as_str();
            Err(refused(call, Hop::Target, role_arn, action, outcome))
        }
    }
}

fn allowed(call: &Call<'_>, role_arn: &str) {
    call.decided(Decided {
        action: ACTION.to_owned(),
        resource: role_arn.to_owned(),
        outcome: Outcome::Allowed.as_str(),
        statement: None,
    });
}

fn refused(call: &Call<'_>, hop: Hop, role_arn: &str, action: &str, reason: &str) -> Refusal {
    tracing::info!(
        request_id = call.request_id,
        role = role_arn,
        action,
        reason,
        "role of a pod identity association not assumed"
    );
    call.decided(Decided {
        action: action.to_owned(),
        resource: role_arn.to_owned(),
        outcome: if reason == Outcome::ExplicitDeny.as_str() {
            Outcome::ExplicitDeny.as_str()
        } else {
            Outcome::ImplicitDeny.as_str()
        },
        statement: None,
    });
    match hop {
        Hop::First => Refusal::RoleRefuses,
        Hop::Target => Refusal::TargetRefuses,
    }
}

// === Condition keys ===

/// The keys of the second step: the first session asks.
fn chained_keys(
    call: &Call<'_>,
    asked: &Asked<'_>,
    first: &SessionRecord,
    chain: &Chain<'_>,
    target: &RoleEntry,
) -> Result<Context<'static>, Refusal> {
    let mut keys = Context::new();
    keys.set("aws:PrincipalAccount", first.account.to_string());
    keys.set("aws:PrincipalIsAWSService", "false");
    if let Some(organization) = organization_of(&call.snapshot, first.account) {
        keys.set("aws:PrincipalOrgID", organization);
    }
    let live = live_principal(&call.snapshot, first);
    let facts = context_facts(first, live.as_ref(), call.now).map_err(|error| {
        tracing::error!(request_id = call.request_id, %error, "a session has no facts");
        Refusal::Internal
    })?;
    of_session(facts, &mut keys);
    of_call(call, asked.cluster, asked.session_name, &mut keys);
    if let Some(id) = asked.external_id() {
        keys.set("sts:ExternalId", id);
    }
    let tags = chain.target_role_tags(&target.record.tags);
    of_role(call, target, &tags, &mut keys);
    Ok(keys)
}

fn of_call(call: &Call<'_>, cluster: &Cluster, session_name: &str, keys: &mut Context<'static>) {
    keys.set("aws:CurrentTime", instant(call.now));
    keys.set("aws:EpochTime", call.now.as_second().to_string());
    keys.set("aws:SecureTransport", "true");
    keys.set("aws:ViaAWSService", "false");
    keys.set("aws:RequestedRegion", cluster.region.to_string());
    keys.set("sts:RoleSessionName", session_name.to_owned());
}

fn of_role(call: &Call<'_>, role: &RoleEntry, tags: &[Tag], keys: &mut Context<'static>) {
    let account = role.record.account;
    keys.set("aws:ResourceAccount", account.to_string());
    if let Some(organization) = organization_of(&call.snapshot, account) {
        keys.set("aws:ResourceOrgID", organization);
    }
    set_tags(keys, "aws:ResourceTag/", tags.iter());
    set_tags(keys, "iam:ResourceTag/", tags.iter());
}

//! AssumeRole (STS spec, section 2.2; policy language spec, section 8.6).

use std::sync::Arc;

use countersign_arn::CallerKind;
use countersign_policy::{
    Action, AssumeRole, Attached, Layers, Outcome, Request, decide_assume_role,
};
use countersign_session::{Binding, Chain, SessionKind};
use countersign_store::RoleEntry;

use super::context::Facts;
use super::mfa;
use super::request::AssumeRoleRequest;
use super::role_session::{NewSession, find_role, session_policies};
use crate::aws::ApiError;
use crate::aws::finished::Decided;
use crate::aws::holder::Holder;
use crate::aws::operation::Call;
use crate::aws::query::Member;

/// Checks stand in the order in which AWS, as far as it is known, answers them.
pub(super) async fn assume_role(call: &Call<'_>) -> Result<Member, ApiError> {
    let caller = call.caller()?;
    let request = AssumeRoleRequest::of(&call.input)?;
    if caller.identity().caller().kind() == CallerKind::Root {
        return Err(denied("Roles may not be assumed by root accounts."));
    }
    let chain = Chain::of(caller.session());
    let tags = chain.session_tags(&request.tags, &request.transitive_tag_keys)?;
    let source_identity = chain.source_identity(request.source_identity)?;
    let mfa_at = mfa::verified(call, request.serial_number, request.token_code).await?;

    let snapshot = &call.snapshot;
    let holder = call.holder()?;
    let role = find_role(snapshot, request.role_arn);
    let facts = Facts {
        call,
        role: role.map(AsRef::as_ref),
        request: &request,
        chain: &chain,
        tags: &tags,
        source_identity: source_identity.as_deref(),
        mfa: mfa_at.is_some(),
    };
    let asks = AssumeRole {
        tags: !tags.is_empty(),
        source_identity: source_identity.is_some(),
        provided_contexts: false,
    };
    let role = authorize(call, holder, role, &facts, asks)?;

    let depth = chain.next_depth()?;
    let seconds = chain.role_seconds(request.duration_seconds, role.record.max_session_duration)?;
    let (policies, percent) =
        session_policies(call, role, request.policy, &request.policy_arns, &tags)?;
    let session = NewSession {
        kind: SessionKind::AssumedRole,
        role,
        name: request.session_name,
        seconds,
        policies,
        tags,
        source_identity: source_identity.clone(),
        federation: None,
        binding: Binding::default(),
        mfa: mfa_at.is_some(),
        depth,
        signed_with: Some(caller.verified().key_id()),
    };
    let issued = session.issue(call)?;
    tracing::info!(
        request_id = call.request_id,
        caller = caller.identity().arn(),
        role = &*role.arn,
        session = request.session_name,
        access_key_id = &*issued.access_key_id,
        depth,
        seconds,
        "role assumed"
    );

    let mut members = vec![issued.credentials, issued.assumed_role_user];
    if let Some(percent) = percent {
        members.push(("PackedPolicySize", Member::Number(i64::from(percent))));
    }
    if let Some(identity) = source_identity {
        members.push(("SourceIdentity", Member::Text(identity.into())));
    }
    Ok(Member::Structure(members))
}

pub(super) fn denied(message: impl Into<String>) -> ApiError {
    ApiError::new(403, "AccessDenied", message)
}

/// Step 6. An unknown role is decided like one that trusts nobody, so that neither the answer nor the work tells the
/// difference; only the log does.
fn authorize<'s>(
    call: &Call<'_>,
    holder: &Holder,
    role: Option<&'s Arc<RoleEntry>>,
    facts: &Facts<'_>,
    asks: AssumeRole,
) -> Result<&'s RoleEntry, ApiError> {
    let arn = facts.request.role_arn;
    let refuse = |action: &str, reason: &str| {
        tracing::info!(
            request_id = call.request_id,
            caller = holder.principal.arn(),
            role = ?arn,
            action,
            reason,
            "role not assumed"
        );
        denied(format!(
            "User: {} is not authorized to perform: {action} on resource: {arn}",
            holder.principal.arn()
        ))
    };
    let trusting = role.map(|role| call.policies.role(&call.snapshot, role));
    let trust: &[Attached] = trusting.as_ref().map_or(&[], |compiled| &compiled.trust);
    let layers = Layers {
        identity: &holder.compiled.identity,
        boundary: holder.compiled.boundary.as_ref(),
        session: holder.session.as_deref(),
        resource: Some(trust),
        ..Layers::default()
    };
    let keys = facts.keys()?;
    let first = "sts:AssumeRole";
    let action = Action::parse(first).map_err(|_| refuse(first, "the action cannot be named"))?;
    let request = Request::new(&holder.principal, &action, arn, &keys)
        .map_err(|_| refuse(first, "no resource"))?;
    let decided = decide_assume_role(&request, asks, &layers);
    let (action_decided, outcome) = match (role, &decided) {
        (None, _) => (first, Outcome::ImplicitDeny),
        (Some(_), Err(denied)) => (denied.action.as_str(), denied.decision.outcome),
        (Some(_), Ok(_)) => (first, Outcome::Allowed),
    };
    call.decided(Decided {
        action: action_decided.to_owned(),
        resource: arn.to_owned(),
        outcome: outcome.as_str(),
        statement: None,
    });
    match (role, decided) {
        (None, _) => Err(refuse(first, "there is no such role")),
        (Some(_), Err(denied)) => Err(refuse(
            denied.action.as_str(),
            denied.decision.outcome.as_str(),
        )),
        (Some(role), Ok(_)) => Ok(role),
    }
}

//! AssumeRole (STS spec, section 2.2; policy language spec, section 8.6).

use std::sync::Arc;

use countersign_arn::{Arn, CallerKind};
use countersign_policy::validate::{NoDirectory, validate};
use countersign_policy::{
    Action, AssumeRole, Attached, Layers, Outcome, PolicyKind, Request, decide_assume_role,
};
use countersign_session::{
    Chain, Origin, SessionKind, SessionPolicies, SessionPrincipal, SessionRecord,
    check_plain_policy_size, packed_policy_percent,
};
use countersign_store::{DirectorySnapshot, RoleEntry};

use super::context::Facts;
use super::issue;
use super::request::AssumeRoleRequest;
use crate::aws::ApiError;
use crate::aws::finished::Decided;
use crate::aws::holder::Holder;
use crate::aws::operation::Call;
use crate::aws::query::Member;

const NO_SUCH_DEVICE: &str = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.";
const MFA_HALF: &str =
    "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.";

/// Checks stand in the order in which AWS, as far as it is known, answers them.
pub(super) fn assume_role(call: &Call<'_>) -> Result<Member, ApiError> {
    let caller = call.caller()?;
    let request = AssumeRoleRequest::of(&call.input)?;
    if caller.identity().caller().kind() == CallerKind::Root {
        return Err(denied("Roles may not be assumed by root accounts."));
    }
    let chain = Chain::of(caller.session());
    let tags = chain.session_tags(&request.tags, &request.transitive_tag_keys)?;
    let source_identity = chain.source_identity(request.source_identity)?;
    match (request.serial_number, request.token_code) {
        (None, None) => {}
        // There are no MFA devices yet, so no serial number is one of the caller's.
        (Some(_), Some(_)) => return Err(denied(NO_SUCH_DEVICE)),
        (Some(_), None) | (None, Some(_)) => return Err(denied(MFA_HALF)),
    }

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
    };
    let asks = AssumeRole {
        tags: !tags.is_empty(),
        source_identity: source_identity.is_some(),
        provided_contexts: false,
    };
    let role = authorize(call, holder, role, &facts, asks)?;

    let depth = chain.next_depth()?;
    let seconds = chain.role_seconds(request.duration_seconds, role.record.max_session_duration)?;
    let policies = session_policies(call, &request, role)?;
    check_plain_policy_size(request.policy, request.policy_arns.iter().copied())?;
    let percent = packed_policy_percent(&policies, tags.requested())?;

    let (issued, expires) = issue::lifetime(call.now, seconds);
    let principal = SessionPrincipal::Role {
        id: role.record.id.clone(),
        path: role.record.path.clone(),
        name: role.record.name.clone(),
        session_name: request.session_name.into(),
    };
    let assumed = issue::assumed_role_user(&principal, role.record.partition, role.record.account);
    let mut record = SessionRecord::new(
        SessionKind::AssumedRole,
        role.record.partition,
        role.record.account,
        principal,
        issued,
        expires,
    );
    record.policies = policies;
    record.tags = tags;
    record.source_identity.clone_from(&source_identity);
    record.depth = depth;
    record.origin = Origin {
        access_key_id: Some(caller.verified().key_id().into()),
        request_id: Some(call.request_id.into()),
    };
    let credentials = issue::seal(call, &record)?;
    tracing::info!(
        request_id = call.request_id,
        caller = caller.identity().arn(),
        role = &*role.arn,
        session = request.session_name,
        access_key_id = &*credentials.access_key_id,
        depth,
        seconds,
        "role assumed"
    );

    let mut members = vec![issue::credentials(credentials), assumed];
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

/// The role whose ARN this is, path and case included.
pub(super) fn find_role<'s>(
    snapshot: &'s DirectorySnapshot,
    arn: &str,
) -> Option<&'s Arc<RoleEntry>> {
    let parsed = Arn::parse(arn).ok()?;
    let name = parsed.resource.strip_prefix("role/")?.rsplit('/').next()?;
    let role = snapshot.role(parsed.account.parse().ok()?, name)?;
    (*role.arn == *arn).then_some(role)
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

/// Step 9: the inline policy, minified, and managed policies that exist: of AWS, or of the role's account.
pub(super) fn session_policies(
    call: &Call<'_>,
    request: &AssumeRoleRequest<'_>,
    role: &RoleEntry,
) -> Result<SessionPolicies, ApiError> {
    let malformed = |message: String| ApiError::new(400, "MalformedPolicyDocument", message);
    if let Some(text) = request.policy {
        validate(text, PolicyKind::Session, &NoDirectory)
            .map_err(|rejection| malformed(rejection.message))?;
    }
    let of_aws = format!("arn:{}:iam::aws:policy/", role.record.partition);
    let own = format!(
        "arn:{}:iam::{}:policy/",
        role.record.partition, role.record.account
    );
    for arn in &request.policy_arns {
        let usable = arn.starts_with(&of_aws) || arn.starts_with(&own);
        if !usable || call.snapshot.policy_by_arn(arn).is_none() {
            return Err(malformed(format!(
                "Policy {arn} does not exist or is not attachable."
            )));
        }
    }
    Ok(SessionPolicies {
        inline: request.policy.map(|text| minified(text).into()),
        arns: request
            .policy_arns
            .iter()
            .map(|arn| (*arn).into())
            .collect(),
    })
}

/// JSON without the white space outside its texts.
fn minified(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut inside, mut escaped) = (false, false);
    for c in text.chars() {
        if !inside && matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        out.push(c);
        if escaped {
            escaped = false;
        } else if inside && c == '\\' {
            escaped = true;
        } else if c == '"' {
            inside = !inside;
        }
    }
    out
}

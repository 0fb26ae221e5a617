//! GetSessionToken and GetFederationToken: sessions of a user, or of the root user, made with a long-term key (STS spec,
//! sections 2.5, 2.6 and 3).
//!
//! That the caller has no session itself, and what the sessions made here may not do, is checked for every call alike
//! ([`countersign_session::check_call`]). The life of a session of the root user is cut to an hour.

use countersign_arn::CallerKind;
use countersign_session::duration::{DurationOf, token_seconds};
use countersign_session::{Chain, Origin, SessionKind, SessionPrincipal, SessionRecord};
use countersign_store::UserEntry;

use super::issue::{credentials, lifetime, seal};
use super::mfa;
use super::request::has_arn_shape;
use super::role_session::policies_in;
use crate::aws::ApiError;
use crate::aws::operation::{Answering, Call};
use crate::aws::query::Member;

/// Needs no permission; a policy that denies it has been asked already.
pub(super) fn get_session_token<'a>(call: &'a Call<'a>) -> Answering<'a> {
    Box::pin(async move {
        let input = &call.input;
        let owner = Owner::of(call)?;
        let seconds = token_seconds(
            DurationOf::SessionToken,
            input.integer("DurationSeconds"),
            owner.is_root(),
        )?;
        let mfa_at =
            mfa::verified(call, input.text("SerialNumber"), input.text("TokenCode")).await?;
        let principal = match owner {
            Owner::Root => SessionPrincipal::Root,
            Owner::User(user) => SessionPrincipal::User {
                id: user.record.id.clone(),
                path: user.record.path.clone(),
                name: user.record.name.clone(),
            },
        };
        let mut record = record(call, SessionKind::SessionToken, principal, seconds)?;
        record.mfa_at = mfa_at.map(|_| record.issued);
        let issued = seal(call, &record)?;
        tracing::info!(
            request_id = call.request_id,
            caller = call.caller()?.identity().arn(),
            access_key_id = &*issued.access_key_id,
            mfa = mfa_at.is_some(),
            seconds,
            "session token issued"
        );
        Ok(Member::Structure(vec![credentials(issued)]))
    })
}

/// `sts:GetFederationToken`, and `sts:TagSession` when tags are passed, have been asked for already. Tags are never
/// transitive.
pub(super) fn get_federation_token(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let owner = Owner::of(call)?;
    let name = input.required("Name");
    let arns: Vec<&str> = input
        .list("PolicyArns")
        .iter()
        .filter_map(|policy| policy.member("arn"))
        .collect();
    if let Some(arn) = arns.iter().find(|arn| !has_arn_shape(arn)) {
        return Err(ApiError::new(
            400,
            "ValidationError",
            format!("{arn} is invalid"),
        ));
    }
    let tags = Chain::of(None).session_tags(&input.tags("Tags"), &[] as &[&str])?;
    let seconds = token_seconds(
        DurationOf::FederationToken,
        input.integer("DurationSeconds"),
        owner.is_root(),
    )?;
    let (partition, account) = (call.partition(), call.account()?);
    let (policies, percent) = policies_in(
        call,
        (partition, account),
        input.text("Policy"),
        &arns,
        &tags,
    )?;
    let principal = SessionPrincipal::FederatedUser {
        creator_id: match owner {
            Owner::Root => None,
            Owner::User(user) => Some(user.record.id.clone()),
        },
        name: name.into(),
    };
    let federated_user = Member::Structure(vec![
        ("FederatedUserId", Member::Text(principal.user_id(account))),
        (
            "Arn",
            Member::Text(principal.caller_arn(partition, account)),
        ),
    ]);
    let mut record = record(call, SessionKind::Federation, principal, seconds)?;
    record.policies = policies;
    record.tags = tags;
    let issued = seal(call, &record)?;
    tracing::info!(
        request_id = call.request_id,
        caller = call.caller()?.identity().arn(),
        name,
        access_key_id = &*issued.access_key_id,
        seconds,
        "federation token issued"
    );
    Ok(Member::Structure(vec![
        credentials(issued),
        ("FederatedUser", federated_user),
        // Here AWS answers 0 where AssumeRole leaves it out.
        (
            "PackedPolicySize",
            Member::Number(percent.map_or(0, i64::from)),
        ),
    ]))
}

/// Whose session it will be.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Root,
    User(&'a UserEntry),
}

impl<'a> Owner<'a> {
    /// The user or root user who calls. Roles and federated users have sessions, and do not come here.
    ///
    /// # Errors
    /// `AccessDenied` for everyone else.
    fn of(call: &'a Call<'_>) -> Result<Self, ApiError> {
        if call.caller()?.identity().caller().kind() == CallerKind::Root {
            return Ok(Self::Root);
        }
        match &call.holder()?.user {
            Some(user) => Ok(Self::User(user)),
            None => Err(ApiError::new(
                403,
                "AccessDenied",
                format!(
                    "Cannot call {} with session credentials",
                    call.operation.name
                ),
            )),
        }
    }

    fn is_root(self) -> bool {
        matches!(self, Self::Root)
    }
}

fn record(
    call: &Call<'_>,
    kind: SessionKind,
    principal: SessionPrincipal,
    seconds: u32,
) -> Result<SessionRecord, ApiError> {
    let (issued, expires) = lifetime(call.now, seconds);
    let mut record = SessionRecord::new(
        kind,
        call.partition(),
        call.account()?,
        principal,
        issued,
        expires,
    );
    record.origin = Origin {
        access_key_id: Some(call.caller()?.verified().key_id().into()),
        request_id: Some(call.request_id.into()),
    };
    Ok(record)
}

//! Outbound web identity federation (IAM API spec, section 4.18a).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Call, Operation, iam};
use crate::aws::query::Member;
use crate::aws::target::Target;
use crate::aws::{ApiError, internal_failure};
use crate::outbound;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "EnableOutboundWebIdentityFederation",
        &[],
        on(Target::Any),
        Answer::Write(|call| Box::pin(enable(call))),
    ),
    iam(
        "GetOutboundWebIdentityFederationInfo",
        &[],
        on(Target::Any),
        Answer::Read(info),
    ),
    iam(
        "DisableOutboundWebIdentityFederation",
        &[],
        on(Target::Any),
        Answer::Write(|call| Box::pin(disable(call))),
    ),
];

async fn enable(call: &Call<'_>) -> Result<Member, ApiError> {
    let switched = call
        .directory
        .set_outbound_federation(call.account()?, true)
        .await?;
    let Some(federation) = switched else {
        return Err(ApiError::new(
            409,
            "FeatureEnabled",
            "Outbound web identity federation is already enabled for your account.",
        ));
    };
    // Whoever is told that tokens are on can have one at once.
    call.directory.maintain_outbound_keys(call.now).await?;
    Ok(Member::Structure(vec![issuer(call, &federation.hash)?]))
}

fn info(call: &Call<'_>) -> Result<Member, ApiError> {
    let account = call.snapshot.account(call.account()?);
    let federation = account
        .and_then(|account| account.record.outbound_federation.as_ref())
        .filter(|federation| federation.enabled)
        .ok_or_else(disabled)?;
    Ok(Member::Structure(vec![
        issuer(call, &federation.hash)?,
        ("JwtVendingEnabled", Member::Bool(true)),
    ]))
}

async fn disable(call: &Call<'_>) -> Result<Member, ApiError> {
    let switched = call
        .directory
        .set_outbound_federation(call.account()?, false)
        .await?;
    switched.map(|_| Member::None).ok_or_else(disabled)
}

fn issuer(call: &Call<'_>, hash: &str) -> Result<(&'static str, Member), ApiError> {
    let web = call.web_identity.ok_or_else(|| {
        tracing::error!("web identities are not set up");
        internal_failure()
    })?;
    let issuer = outbound::issuer(web.public_url(), hash);
    Ok(("IssuerIdentifier", Member::Text(issuer)))
}

fn disabled() -> ApiError {
    ApiError::new(
        404,
        "FeatureDisabled",
        "Outbound web identity federation is not enabled for your account.",
    )
}

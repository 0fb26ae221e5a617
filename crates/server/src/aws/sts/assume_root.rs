//! AssumeRoot (STS spec, section 2.10): sessions of the root users of an organization's member accounts.
//!
//! There are no organizations here, hence no member accounts. Policies are asked, as for every call, and what they allow is
//! refused nevertheless, in the words of a refusal by policy.

use countersign_arn::{AccountId, Arn};

use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::query::Member;
use crate::aws::target::Resource;

/// The root user of the account that `TargetPrincipal` names: by its twelve digits, or by the ARN of its root user.
///
/// # Errors
/// `ValidationError` for any other text.
pub(super) fn root_user(call: &Call<'_>) -> Result<Resource, ApiError> {
    let target = call.input.required("TargetPrincipal");
    let partition = call.partition();
    let account = match Arn::parse(target) {
        Ok(arn) if arn.service == "iam" && arn.region.is_empty() && arn.resource == "root" => {
            arn.account.parse::<AccountId>().ok()
        }
        Ok(_) => None,
        Err(_) => target.parse().ok(),
    };
    match account {
        Some(account) => Ok(Resource::named(format!(
            "arn:{partition}:iam::{account}:root"
        ))),
        None => Err(ApiError::new(
            400,
            "ValidationError",
            format!("{target} is invalid"),
        )),
    }
}

pub(super) fn assume_root(call: &Call<'_>) -> Result<Member, ApiError> {
    let caller = call.caller()?.identity().arn();
    let resource = root_user(call)?.arn;
    tracing::info!(
        request_id = call.request_id,
        caller,
        resource,
        "root not assumed: there is no organization"
    );
    Err(ApiError::new(
        403,
        "AccessDenied",
        format!(
            "User: {caller} is not authorized to perform: sts:AssumeRoot on resource: {resource}"
        ),
    ))
}

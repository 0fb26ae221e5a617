//! Security Token Service.

mod assume_role;
mod context;
mod request;

use super::query::{Member, Parameters};
use super::{Answerer, ApiError, Caller, Context, Operation, Service};

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "GetCallerIdentity",
        service: Service::Sts,
        answer: Answerer::Signed(get_caller_identity),
    },
    Operation {
        name: "AssumeRole",
        service: Service::Sts,
        answer: Answerer::Signed(assume_role::assume_role),
    },
];

/// The parameters of AssumeRole, without what they say.
pub(super) fn read_assume_role(parameters: &Parameters<'_>) -> Result<(), ApiError> {
    request::AssumeRoleRequest::read(parameters).map(drop)
}

/// Needs no permission, and no policy can deny it.
#[expect(clippy::unnecessary_wraps, reason = "the signature of every operation")]
fn get_caller_identity(_: &Context<'_>, caller: &Caller) -> Result<Member, ApiError> {
    let identity = caller.identity();
    let user_id = match identity.session_name() {
        "" => identity.user_id().to_owned(),
        session => format!("{}:{session}", identity.user_id()),
    };
    Ok(Member::Structure(vec![
        ("UserId", Member::Text(user_id)),
        ("Account", Member::Text(identity.account().to_string())),
        ("Arn", Member::Text(identity.arn().to_owned())),
    ]))
}

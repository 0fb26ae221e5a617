//! Requests that are done once (EKS API spec, section 1.6).

use countersign_store::records::RequestToken;
use countersign_store::{Once, Outcome};

use super::invalid;
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::page::digest_of;
use crate::aws::query::Member;
use crate::aws::rest;

/// The parameter that names a request.
const PARAMETER: &str = "clientRequestToken";

/// What a call came with so that it is done once; nothing when it came without.
///
/// # Errors
/// `InvalidParameterException` for a token of no or more than 128 characters.
pub(super) fn token(call: &Call<'_>) -> Result<Option<RequestToken>, ApiError> {
    let Some(token) = call.input.text(PARAMETER) else {
        return Ok(None);
    };
    if !(1..=128).contains(&token.chars().count()) {
        return Err(invalid("clientRequestToken must have 1 to 128 characters"));
    }
    Ok(Some(RequestToken {
        account: call.account()?,
        region: call.region().into(),
        operation: call.operation.name.into(),
        token: token.into(),
        parameters: digest_of(&call.input, &[PARAMETER]),
    }))
}

/// The same for the directory, with what makes the answer that is kept.
pub(super) fn once<'a, T>(
    token: Option<&'a RequestToken>,
    answer: &'a (dyn Fn(&T) -> Vec<u8> + Sync),
) -> Option<Once<'a, T>> {
    token.map(|token| Once { token, answer })
}

/// An answer as it is kept.
pub(super) fn kept(answer: &Member) -> Vec<u8> {
    rest::body(answer).into_bytes()
}

/// The answer of a call: made from what was done, or the one that was kept.
///
/// # Errors
/// `ServerException` when what was kept is no text.
pub(super) fn answered<T>(
    outcome: Outcome<T>,
    answer: impl FnOnce(&T) -> Member,
) -> Result<Member, ApiError> {
    match outcome {
        Outcome::Done(done) => Ok(answer(&done)),
        Outcome::Repeated(kept) => String::from_utf8(kept.into_vec())
            .map(Member::Written)
            .map_err(|_| crate::aws::internal_failure()),
    }
}

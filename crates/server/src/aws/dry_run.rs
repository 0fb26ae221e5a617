//! Requests that are checked and answered, and not done (EKS API spec, section 18.2).

use http::HeaderMap;

use super::operation::Operation;
use super::{ApiError, Caller, Service};

/// Asks for it with `true`, and stands in the answer when it was so.
pub(super) const HEADER: &str = "x-countersign-dry-run";

/// Whether a request asks not to be done.
///
/// Where that cannot be followed the request is refused, never done: nobody who asks what would happen makes it happen. So
/// the header must be signed, since whoever could add it could keep the call of somebody else from being done and have it
/// answered as if it were.
///
/// # Errors
/// For another value than `true` and `false`, a header that was not signed, and operations of other services than EKS.
pub(super) fn is_asked(
    headers: &HeaderMap,
    caller: Option<&Caller>,
    operation: &Operation,
) -> Result<bool, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let fault = match (values.next(), values.next()) {
        (None, _) => return Ok(false),
        (Some(value), None) if value == "false" => return Ok(false),
        (Some(value), None) if value == "true" => {
            if operation.service != Service::Eks {
                format!("{HEADER} is for the operations of EKS. Nothing was done.")
            } else if !caller.is_some_and(|caller| caller.verified().was_signed(HEADER)) {
                format!("{HEADER} must be among the signed headers. Nothing was done.")
            } else {
                return Ok(true);
            }
        }
        _ => format!("{HEADER} must be true or false, once. Nothing was done."),
    };
    Err(ApiError::new(400, "ValidationError", fault))
}

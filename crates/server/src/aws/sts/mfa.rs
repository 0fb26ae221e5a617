//! The MFA code of a call to AssumeRole or GetSessionToken (STS spec, section 4.4).

use jiff::Timestamp;

use crate::aws::ApiError;
use crate::aws::operation::Call;

const HALF: &str =
    "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.";
const NO_SUCH_DEVICE: &str = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.";

/// When the caller showed a code of one of its devices: now, or not at all when neither parameter is given.
///
/// The directory enables devices for nobody, so no serial number is one of the caller's.
///
/// # Errors
/// `AccessDenied` when only one parameter is given, or the device is not the caller's.
pub(super) async fn verified(
    _: &Call<'_>,
    serial: Option<&str>,
    code: Option<&str>,
) -> Result<Option<Timestamp>, ApiError> {
    match (serial, code) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(denied(NO_SUCH_DEVICE)),
        (Some(_), None) | (None, Some(_)) => Err(denied(HALF)),
    }
}

fn denied(message: &str) -> ApiError {
    ApiError::new(403, "AccessDenied", message)
}

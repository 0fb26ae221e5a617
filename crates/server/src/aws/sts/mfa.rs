//! The MFA code of a call to AssumeRole or GetSessionToken (STS spec, section 4.4).

use countersign_arn::CallerKind;
use countersign_store::DirectoryError;
use jiff::Timestamp;

use crate::aws::ApiError;
use crate::aws::operation::Call;

const WRONG_CODE: &str = "MultiFactorAuthentication failed with invalid MFA one time pass code.";
const HALF: &str =
    "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.";
const NO_SUCH_DEVICE: &str = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.";

/// When the caller showed a code of one of its devices: now, or not at all when neither parameter is given. The code is
/// used up, whatever becomes of the call.
///
/// Devices belong to users and to the root user of an account; sessions of roles and federated users have none.
///
/// # Errors
/// `AccessDenied` when only one parameter is given, the device is not the caller's, or the code is wrong or used.
pub(super) async fn verified(
    call: &Call<'_>,
    serial: Option<&str>,
    code: Option<&str>,
) -> Result<Option<Timestamp>, ApiError> {
    let (serial, code) = match (serial, code) {
        (None, None) => return Ok(None),
        (Some(serial), Some(code)) => (serial, code),
        (Some(_), None) | (None, Some(_)) => return Err(denied(HALF)),
    };
    let identity = call.caller()?.identity();
    let account = identity.account();
    let id = match identity.caller().kind() {
        CallerKind::Root => account.to_string(),
        CallerKind::User => match &call.holder()?.user {
            Some(user) => user.record.id.to_string(),
            None => return Err(denied(NO_SUCH_DEVICE)),
        },
        _ => return Err(denied(NO_SUCH_DEVICE)),
    };
    match call
        .directory
        .use_mfa_code(account, &id, serial, code, call.now)
        .await
    {
        Ok(()) => Ok(Some(call.now)),
        Err(DirectoryError::NoSuch { .. }) => Err(denied(NO_SUCH_DEVICE)),
        Err(DirectoryError::WrongMfaCode) => Err(denied(WRONG_CODE)),
        Err(error) => Err(error.into()),
    }
}

fn denied(message: &str) -> ApiError {
    ApiError::new(403, "AccessDenied", message)
}

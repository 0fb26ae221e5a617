//! Policy documents on their way in.

use countersign_policy::PolicyKind;
use countersign_policy::validate::{PrincipalDirectory, Rejection, Validated, validate};

use super::ApiError;

/// Checks a document that is to be stored, as IAM checks it (policy language spec, section 3).
///
/// # Errors
/// `MalformedPolicyDocument` or `LimitExceeded` with IAM's text.
pub(crate) fn check_document(
    text: &str,
    kind: PolicyKind,
    principals: &dyn PrincipalDirectory,
) -> Result<Validated, ApiError> {
    validate(text, kind, principals).map_err(|rejection| ApiError::from(*rejection))
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        Self::new(
            rejection.code.http_status(),
            rejection.code.as_str(),
            rejection.message,
        )
    }
}

//! Making a token out of a presigned URL.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::presigned::PREFIX;

/// The token for a presigned URL: the prefix and the URL in unpadded base64url (authentication spec, section 1.1).
///
/// The URL must be a presigned `GET` of `sts:GetCallerIdentity` that signs the header `x-k8s-aws-id`; this function only encodes.
#[must_use]
pub fn mint(presigned_url: &str) -> Zeroizing<String> {
    let capacity = PREFIX.len() + presigned_url.len().div_ceil(3) * 4;
    let mut token = Zeroizing::new(String::with_capacity(capacity));
    token.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(presigned_url, &mut token);
    token
}

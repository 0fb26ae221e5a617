//! The presigned GetCallerIdentity that becomes a token.

use countersign_sigv4::{Request, SignError, Signer};
use countersign_token::{CLUSTER_ID_HEADER, mint};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, Service};

/// The value of `X-Amz-Expires`; STS ignores it, old verifiers want it at most this.
const EXPIRES_SECONDS: u32 = 60;

/// Makes the token for `cluster_id`: the presigned request at `endpoint`, signed at `now`.
///
/// # Errors
/// When the cluster id cannot be the value of a header.
pub fn presigned_token(
    cluster_id: &str,
    endpoint: &Endpoint,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<Zeroizing<String>, SignError> {
    let headers = [
        ("host", endpoint.host_header().as_bytes()),
        (CLUSTER_ID_HEADER, cluster_id.as_bytes()),
    ];
    let mut request = Request::new("GET", endpoint.path().as_bytes());
    request.query = Some(b"Action=GetCallerIdentity&Version=2011-06-15");
    request.headers = &headers;
    let signer = Signer::new(
        credentials.for_signing(),
        endpoint.region(),
        Service::Sts.name(),
    );
    let query = Zeroizing::new(signer.presign(&request, EXPIRES_SECONDS, now)?);
    let url = Zeroizing::new(format!("{}?{}", endpoint.url(), *query));
    Ok(mint(&url))
}

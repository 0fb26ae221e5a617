//! Reading a request's body under a cap and a deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};

/// Time for a whole body, whatever its size: a peer that dribbles holds a connection no longer than this.
const DEADLINE: Duration = Duration::from_secs(15);

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than the route allows.
    #[error("the request body is too large")]
    TooLarge,
    /// The peer stopped sending, or broke the framing.
    #[error("the request body did not arrive whole")]
    Broken,
}

/// Reads the whole body of at most `limit` bytes.
///
/// # Errors
/// When it is longer (said before anything is read if Content-Length admits it), broken, or slower than 15 s.
pub async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let declared = body.size_hint().lower();
    if declared > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    match tokio::time::timeout(DEADLINE, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) | Err(_) => Err(BodyError::Broken),
    }
}

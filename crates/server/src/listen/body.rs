//! Reading a request's body under a cap and a deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};

/// Time for a whole body, whatever its size: a peer that dribbles holds a connection no longer than this.
const DEADLINE: Duration = Duration::from_secs(15);

/// What is read and dropped of a body that is too large, and for how long: a peer that is still sending when the connection
/// is closed would find a reset in the place of the answer.
const DRAINED: usize = 1 << 20;
const DRAINING: Duration = Duration::from_secs(1);

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
/// When it is longer, broken, or slower than 15 s.
pub async fn read_body(mut body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let declared = body.size_hint().lower();
    let read = if declared > limit as u64 {
        Err(BodyError::TooLarge)
    } else {
        match tokio::time::timeout(DEADLINE, Limited::new(&mut body, limit).collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
            Ok(Err(_)) | Err(_) => Err(BodyError::Broken),
        }
    };
    if read == Err(BodyError::TooLarge) {
        let _ = tokio::time::timeout(DRAINING, drain(&mut body)).await;
    }
    read
}

async fn drain(body: &mut Incoming) {
    let mut left = DRAINED;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else {
            return;
        };
        left = rest;
    }
}

//! What an answer of etcd that is no answer means for the one who asked.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, ConnectError, Status};

use crate::store::Source;

/// What became of a request that did not get its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It certainly did nothing; another member may take it.
    NotDone,
    /// It certainly did nothing, and no member will take it.
    Refused,
    /// It did nothing because our token is not valid (any more).
    TokenStale,
    /// It asked for a revision whose history is gone.
    Compacted,
    /// It asked for a revision that there has not been.
    Future,
    /// The answer is larger than we read.
    TooLarge,
    /// It may have been done.
    Unknown,
}

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) fate: Fate,
    pub(super) source: Source,
}

/// Why there is no connection, or no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("etcd at {endpoint}: {message}")]
    Status { endpoint: String, message: String },
    #[error("etcd at {endpoint} did not answer within {} ms", .after.as_millis())]
    Silent { endpoint: String, after: Duration },
    #[error("etcd at {endpoint} could not be reached: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error("could not read `{path}`: {reason}")]
    File { path: String, reason: String },
    #[error("etcd is away since {} ms, and is being asked again", .0.as_millis())]
    Away(Duration),
    #[error(
        "etcd is not the one it was: another cluster, or put back from a backup; it is being loaded again"
    )]
    AnotherHistory,
    #[error("etcd at {endpoint} answered something that is no answer")]
    Nonsense { endpoint: String },
    #[error("the changes of etcd stopped coming while it went on")]
    Stuck,
    #[error("others write the same records all the time")]
    Contended,
}

impl Failure {
    pub(super) fn new(fate: Fate, cause: Cause) -> Self {
        Self {
            fate,
            source: Box::new(cause),
        }
    }

    /// What an error of the client says.
    pub(super) fn of(error: &etcd_client::Error, endpoint: &str) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => Self::of_status(status, endpoint),
            other => Self::new(
                Fate::Unknown,
                Cause::Unreachable {
                    endpoint: endpoint.to_owned(),
                    reason: other.to_string(),
                },
            ),
        }
    }

    fn of_status(status: &Status, endpoint: &str) -> Self {
        let endpoint = endpoint.to_owned();
        if let Some(reason) = connect_error(status) {
            return Self::new(Fate::NotDone, Cause::Unreachable { endpoint, reason });
        }
        let message = match status.message() {
            "" => status.code().description().to_owned(),
            message => message.chars().take(300).collect(),
        };
        let fate = fate(status.code(), &message);
        Self::new(fate, Cause::Status { endpoint, message })
    }
}

/// The fate behind code and text. The texts are those of etcd's `rpctypes`; codes alone do not tell "was not done" from
/// "may have been done".
fn fate(code: Code, message: &str) -> Fate {
    let says = |text: &str| message.contains(text);
    // The last when a token was to be had again with a password that has been changed.
    if says("invalid auth token")
        || says("revision of auth store is old")
        || says("authentication failed")
    {
        return Fate::TokenStale;
    }
    if says("required revision has been compacted") {
        return Fate::Compacted;
    }
    if says("required revision is a future revision") {
        return Fate::Future;
    }
    // Said by the member before it looks at the request.
    if says("no leader") || says("too many requests") {
        return Fate::NotDone;
    }
    match code {
        Code::OutOfRange if says("length too large") => Fate::TooLarge,
        Code::Unauthenticated => Fate::TokenStale,
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::NotFound => Fate::Refused,
        _ => Fate::Unknown,
    }
}

/// Why the connection was not made, if that is what the status says.
fn connect_error(status: &Status) -> Option<String> {
    let mut at: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = at {
        if error.is::<ConnectError>() {
            // The innermost cause is the one that tells something: refused, unknown host, not the CA that was expected.
            let mut inner = error;
            while let Some(source) = inner.source() {
                inner = source;
            }
            return Some(inner.to_string());
        }
        at = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates() {
        for (code, message, expected) in [
            (
                Code::Unavailable,
                "etcdserver: request timed out",
                Fate::Unknown,
            ),
            (
                Code::Unavailable,
                "etcdserver: leader changed",
                Fate::Unknown,
            ),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
                Fate::Unknown,
            ),
            (Code::Unavailable, "etcdserver: no leader", Fate::NotDone),
            (
                Code::Unavailable,
                "etcdserver: server stopped",
                Fate::Unknown,
            ),
            (Code::Unknown, "transport error", Fate::Unknown),
            (Code::Cancelled, "operation was canceled", Fate::Unknown),
            (
                Code::Unauthenticated,
                "etcdserver: invalid auth token",
                Fate::TokenStale,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: revision of auth store is old",
                Fate::TokenStale,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                Fate::Refused,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                Fate::TokenStale,
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                Fate::Refused,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Fate::Refused,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
                Fate::NotDone,
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                Fate::Compacted,
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
                Fate::Future,
            ),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
                Fate::TooLarge,
            ),
        ] {
            assert_eq!(fate(code, message), expected, "{message}");
        }
    }
}

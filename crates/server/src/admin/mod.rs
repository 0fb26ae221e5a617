//! Local administration: what is done on the server's machine and by no API.
//!
//! ```text
//!   countersign sessions · root-key · store · iam · access ──┬── admin.sock ── the running server ──┐
//!                                                            └── no server: the store itself ───────┴── execute(Directory, AdminOp)
//! ```
//!
//! The embedded store belongs to one process, so a command talks to the server that holds it, through a Unix socket in the
//! data directory. There is one type for what can be asked and one function that does it, so that both ways are the same.
//!
//! Who may: the user the server runs as, and root. The directory must be accessible to its owner only, the socket has mode
//! 0600, and both ends ask the kernel who the other one is.

mod access;
mod client;
mod execute;
mod frame;
mod iam_dump;
mod iam_import;
mod issuer;
mod op;
mod report;
mod socket;

pub use self::client::{AdminClient, AskError, ConnectError};
pub use self::execute::execute;
pub use self::iam_import::{ImportOptions, ImportReport};
pub use self::issuer::{IssuerChange, IssuerKeyReport, IssuerReport};
pub use self::op::{
    AdminAnswer, AdminError, AdminErrorKind, AdminOp, Hidden, IssuedRootKey, KeyReport,
    RootKeyReport, SessionSelector,
};
pub use self::report::{SessionReport, SessionState, TagReport};
pub use self::socket::{AdminSocket, AdminSocketError, SOCKET_NAME};

/// For fuzzing: a request, read as the socket reads it. One that can be read is written the same.
pub(crate) fn read_request(data: &[u8]) {
    if let Ok(op) = frame::parse::<AdminOp>(data) {
        let again = serde_json::to_vec(&op).unwrap_or_default();
        assert_eq!(frame::parse(&again), Ok(op), "a request has one meaning");
    }
}

//! Exit codes, the same for every command.

use std::process::ExitCode;

/// What a command's end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or the answer is yes.
    Fine,
    /// The answer is no, or there are findings.
    No,
    /// Wrong usage or unreadable input.
    Usage,
    /// Could not find out.
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Fine => Self::from(0),
            Exit::No => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::Unknown => Self::from(3),
        }
    }
}

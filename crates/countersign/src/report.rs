//! How an error reaches a person: one line each for what, why and what to do.

use std::fmt::Write as _;

use crate::exit::Exit;

/// A failure with its exit code and, where there is one, something to try.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::Usage,
            error: error.into(),
            hint: None,
        }
    }

    pub(crate) fn no(error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::No,
            error: error.into(),
            hint: None,
        }
    }

    pub(crate) fn unknown(error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::Unknown,
            error: error.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the reader of our output went away, which is its right.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        let io = self.error.downcast_ref::<std::io::Error>();
        io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The text for stderr.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("error: {}\n", self.error);
        for cause in self.error.chain().skip(1) {
            let _ = writeln!(text, "  cause: {cause}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::unknown(error)
    }
}

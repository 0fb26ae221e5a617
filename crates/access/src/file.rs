//! Files with custom access policies and access rules (EKS API spec, section 18.1).

/// What is wrong in a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {field}: {message}", Line(*line))]
pub struct FileError {
    /// The name of the file, as it was given.
    pub file: String,
    /// The line, counted from 1, where it is known.
    pub line: Option<u32>,
    /// The field, for example `policies[2].rules[0].verbs`.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

struct Line(Option<u32>);

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

impl FileError {
    /// An error at the `file:line` of something that was read before.
    pub(crate) fn at_origin(origin: Option<&str>, field: &str, message: String) -> Self {
        let (file, line) = origin
            .and_then(|origin| origin.rsplit_once(':'))
            .map_or(("", None), |(file, line)| (file, line.parse().ok()));
        Self {
            file: file.to_owned(),
            line,
            field: field.to_owned(),
            message,
        }
    }
}

//! `/healthz`, `/livez` and `/readyz?verbose`.

use std::fmt::Write as _;

/// One thing readiness depends on, or that an operator should see there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Name, such as `store` or `cluster demo`.
    pub name: String,
    /// How it is.
    pub state: State,
    /// What to say besides.
    pub detail: String,
}

/// The state of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Fine.
    Ok,
    /// Worth knowing, and no reason to send reviews elsewhere: a stale section, STS not reached lately.
    Warning,
    /// Not ready.
    Failed,
}

/// Answers readiness from all checks.
#[derive(Debug, Clone, Default)]
pub struct Report {
    checks: Vec<Check>,
}

impl Report {
    /// Adds a check.
    pub fn add(&mut self, name: impl Into<String>, state: State, detail: impl Into<String>) {
        self.checks.push(Check {
            name: name.into(),
            state,
            detail: detail.into(),
        });
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.state != State::Failed)
    }

    /// `ok` or the failed checks; with `verbose` all checks, in the form of Kubernetes' own endpoints.
    #[must_use]
    pub fn render(&self, verbose: bool) -> String {
        let ready = self.is_ready();
        if ready && !verbose {
            return "ok".into();
        }
        let mut text = String::new();
        for check in &self.checks {
            if !verbose && check.state != State::Failed {
                continue;
            }
            let (sign, word) = match check.state {
                State::Ok => ('+', "ok"),
                State::Warning => ('!', "warning"),
                State::Failed => ('-', "failed"),
            };
            let _ = write!(text, "[{sign}]{} {word}", check.name);
            if check.detail.is_empty() {
                text.push('\n');
            } else {
                let _ = writeln!(text, ": {}", check.detail.replace(['\n', '\r'], " "));
            }
        }
        text.push_str(if ready {
            "readyz check passed\n"
        } else {
            "readyz check failed\n"
        });
        text
    }
}

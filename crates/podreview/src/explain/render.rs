//! The chain as text for people.

use std::fmt;

use super::{Answer, ContainerVerdict, Explanation, Found, Status, StepName};
use crate::text::printable;

impl Status {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Unknown => "unknown",
            Self::Fail => "fail",
        }
    }
}

impl StepName {
    /// The name for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::ServiceAccount => "service account",
            Self::Source => "role given by",
            Self::Mutation => "mutation",
            Self::Order => "order",
            Self::Token => "token",
            Self::Issuer => "issuer",
            Self::Provider => "provider",
            Self::Role => "role",
            Self::Trust => "trust policy",
            Self::TargetRole => "target role",
            Self::Agent => "agent",
        }
    }
}

impl Answer {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = |role: &Option<String>| match role {
            Some(role) => format!(" {}", printable(role)),
            None => String::new(),
        };
        match self {
            Self::Static => f.write_str("static keys"),
            Self::Irsa { role_arn } => write!(f, "IRSA{}", role(role_arn)),
            Self::PodIdentity {
                role_arn,
                association_id,
            } => {
                write!(f, "Pod Identity{}", role(role_arn))?;
                match association_id {
                    Some(id) => write!(f, " ({})", printable(id)),
                    None => Ok(()),
                }
            }
            Self::Container => f.write_str("another container endpoint"),
            Self::NodeRole => f.write_str("the node's role, where instance metadata is reachable"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// One step a line, its container before the reason and what to do below; then a line for each container, and the answer last.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, pod) = (printable(&self.namespace), printable(&self.pod));
        let account = printable(&self.service_account);
        writeln!(f, "pod {namespace}/{pod}, service account {account}\n")?;
        for step in &self.steps {
            let container = match &step.container {
                Some(container) => format!("{}: ", printable(container)),
                None => String::new(),
            };
            let (status, name) = (step.status.as_str(), step.step.as_str());
            writeln!(
                f,
                "{status:8} {name:16} {container}{}",
                printable(&step.reason)
            )?;
            if let Some(advice) = &step.advice {
                writeln!(f, "{:25} do: {}", "", printable(advice))?;
            }
        }
        writeln!(f)?;
        for container in &self.containers {
            container.line(f)?;
        }
        writeln!(f, "answer: {}", self.answer.as_str())
    }
}

impl ContainerVerdict {
    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.init {
            "init container"
        } else {
            "container"
        };
        let name = printable(&self.container);
        writeln!(
            f,
            "{kind} {name}: {} - {}",
            self.credentials,
            self.answer.as_str()
        )?;
        match &self.reason {
            Some(reason) => writeln!(f, "  because {}", printable(reason)),
            None => Ok(()),
        }
    }
}

//! Action patterns: `service:Name` with wildcards in either half, compared without case (policy language spec, section 4.2).

use crate::fold;
use crate::pattern::{Pattern, Syntax};
use crate::request::{Action, split_action};

/// One entry of `Action` or `NotAction`.
#[derive(Debug, Clone)]
pub(crate) enum ActionPattern {
    /// `*`
    Everything,
    /// No colon, or an empty half.
    Nothing,
    Of {
        service: Service,
        name: Pattern,
    },
}

/// The half before the colon.
#[derive(Debug, Clone)]
pub(crate) enum Service {
    Exact { hash: u64, name: Box<str> },
    Glob(Pattern),
}

pub(crate) const GLOB: Syntax = Syntax {
    wildcards: true,
    variables: false,
};

impl ActionPattern {
    pub(crate) fn compile(text: &str) -> Self {
        if text == "*" {
            return Self::Everything;
        }
        let Some((service, name)) = split_action(text) else {
            return Self::Nothing;
        };
        if service.is_empty() || name.is_empty() {
            return Self::Nothing;
        }
        let service = if service.contains(['*', '?']) {
            Service::Glob(Pattern::compile(&fold::lower(service), GLOB))
        } else {
            Service::Exact {
                hash: fold::hash(service),
                name: fold::lower(service),
            }
        };
        Self::Of {
            service,
            name: Pattern::compile(&fold::lower(name), GLOB),
        }
    }

    pub(crate) fn matches(&self, action: &Action) -> bool {
        match self {
            Self::Everything => true,
            Self::Nothing => false,
            Self::Of { service, name } => {
                service.matches(action) && name.matches_plain(action.name())
            }
        }
    }
}

impl Service {
    fn matches(&self, action: &Action) -> bool {
        match self {
            Self::Exact { hash, name } => {
                *hash == action.service_hash() && **name == *action.service()
            }
            Self::Glob(pattern) => pattern.matches_plain(action.service()),
        }
    }
}

//! What policies grant, service by service, as the access advisor counts it: by identity policies alone, whatever
//! boundaries, session policies and resource policies say (IAM API spec, section 5.4).

use countersign_policy::{Document, Effect, ListElement, Statement, tables};

/// Characters of a service's namespace.
const MAX_NAMESPACE: usize = 64;

/// Documents that together make what somebody may do.
pub(super) struct Granted(Vec<Document>);

impl Granted {
    /// Documents that cannot be read grant nothing.
    pub(super) fn by<'d>(documents: impl IntoIterator<Item = &'d str>) -> Self {
        Self(
            documents
                .into_iter()
                .filter_map(|text| Document::parse(text).ok())
                .collect(),
        )
    }

    /// The services in which anything is allowed, by namespace, in order. A service that is denied altogether is not
    /// among them.
    pub(super) fn services(&self) -> Vec<&str> {
        // Services that no table knows can only be named by the documents themselves.
        let mut services: Vec<&str> = self
            .statements()
            .filter_map(|statement| statement.action.as_ref())
            .flat_map(|action| &action.entries)
            .filter_map(|entry| Some(entry.value.split_once(':')?.0))
            .filter(|service| service.len() <= MAX_NAMESPACE && !service.contains(['*', '?']))
            .collect();
        for service in tables::known_services() {
            services.push(service);
        }
        services.sort_unstable();
        services.dedup();
        services.retain(|service| self.allows(service));
        services
    }

    /// Whether anything in the service is allowed.
    pub(super) fn allows(&self, service: &str) -> bool {
        self.statements()
            .any(|statement| statement.effect == Effect::Allow && touches(statement, service))
            && !self
                .statements()
                .any(|statement| denies_altogether(statement, service))
    }

    /// Whether a statement allows the action on anything.
    pub(super) fn allows_action(&self, service: &str, action: &str) -> bool {
        let whole = format!("{service}:{action}");
        self.statements()
            .filter(|statement| statement.effect == Effect::Allow)
            .filter_map(|statement| statement.action.as_ref())
            .any(|actions| {
                let named = actions
                    .entries
                    .iter()
                    .any(|entry| glob(&entry.value, &whole));
                named != actions.negated
            })
    }

    fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.0.iter().flat_map(Document::statements)
    }
}

/// Whether the statement is about anything in the service.
fn touches(statement: &Statement, service: &str) -> bool {
    statement.action.as_ref().is_some_and(|actions| {
        if actions.negated {
            !names_all_of(actions, service)
        } else {
            names_some_of(actions, service)
        }
    })
}

/// Whether the statement denies every action of the service on everything, whatever the circumstances.
fn denies_altogether(statement: &Statement, service: &str) -> bool {
    let everything = statement.resource.as_ref().is_some_and(|resources| {
        !resources.negated && resources.entries.iter().any(|entry| &*entry.value == "*")
    });
    statement.effect == Effect::Deny
        && statement.conditions.is_empty()
        && everything
        && statement.action.as_ref().is_some_and(|actions| {
            if actions.negated {
                !names_some_of(actions, service)
            } else {
                names_all_of(actions, service)
            }
        })
}

fn names_some_of(actions: &ListElement, service: &str) -> bool {
    actions.entries.iter().any(|entry| {
        let of = entry
            .value
            .split_once(':')
            .map_or(&*entry.value, |(of, _)| of);
        glob(of, service)
    })
}

fn names_all_of(actions: &ListElement, service: &str) -> bool {
    actions
        .entries
        .iter()
        .any(|entry| match entry.value.split_once(':') {
            Some((of, action)) => glob(of, service) && is_stars(action),
            None => is_stars(&entry.value),
        })
}

fn is_stars(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte == b'*')
}

/// Whether `text` matches a pattern with `*` and `?`, ignoring case. Linear but for one place to come back to.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut seen) = (0, 0);
    let mut back = None;
    while let Some(byte) = text.get(seen) {
        match pattern.get(at) {
            Some(b'*') => {
                back = Some((at, seen));
                at += 1;
            }
            Some(b'?') => {
                at += 1;
                seen += 1;
            }
            Some(wanted) if wanted.eq_ignore_ascii_case(byte) => {
                at += 1;
                seen += 1;
            }
            _ => match back {
                Some((star, from)) => {
                    at = star + 1;
                    seen = from + 1;
                    back = Some((star, seen));
                }
                None => return false,
            },
        }
    }
    pattern
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

//! Principals on write: where they may stand, and that they exist (policy language spec, sections 1.6 and 3).

use super::{Checked, Rejection, problem, reject};
use crate::compiled::{PolicyKind, PrincipalMatch};
use crate::document::{
    Document, Effect, PrincipalEntry, PrincipalIds, PrincipalKind, PrincipalSlot,
};

/// What a directory says about an ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existence {
    /// There is such a user or role, with this unique id.
    Has(String),
    /// There is none.
    Missing,
    /// Nobody can tell; the entry stays text.
    NotChecked,
}

/// Who exists.
pub trait PrincipalDirectory {
    /// The user or role with this ARN.
    fn look_up(&self, arn: &str) -> Existence;
    /// Whether a user or role with this unique id exists.
    fn knows_id(&self, unique_id: &str) -> bool;
}

/// No directory: every well-formed principal passes and none is bound.
#[derive(Debug, Clone, Copy)]
pub struct NoDirectory;

impl PrincipalDirectory for NoDirectory {
    fn look_up(&self, _arn: &str) -> Existence {
        Existence::NotChecked
    }

    fn knows_id(&self, _unique_id: &str) -> bool {
        true
    }
}

/// Identity, boundary and session policies name no principal.
pub(super) fn none(document: &Document) -> Checked {
    for (index, statement) in document.statements().iter().enumerate() {
        if let Some(element) = &statement.principal {
            return Err(reject(
                "Policy document should not specify a principal.",
                problem(
                    "UNSUPPORTED_PRINCIPAL",
                    index,
                    if element.negated {
                        "NotPrincipal"
                    } else {
                        "Principal"
                    },
                    element.key_span,
                    "this kind of policy has no principal: it belongs to whom it is attached to",
                )
                .hint("remove the element"),
            ));
        }
    }
    Ok(())
}

/// Trust and resource policies: each statement names somebody, and each named user or role exists.
pub(super) fn check(
    document: &Document,
    kind: PolicyKind,
    directory: &dyn PrincipalDirectory,
) -> Result<PrincipalIds, Box<Rejection>> {
    let mut ids = PrincipalIds::default();
    if !matches!(kind, PolicyKind::Trust | PolicyKind::Resource) {
        return Ok(ids);
    }
    for (index, statement) in document.statements().iter().enumerate() {
        let Some(element) = &statement.principal else {
            return Err(reject(
                "Invalid principal in policy: com.amazon.balsa.error.InvalidPolicyException: The passed in policy has a statement with no principals!",
                problem(
                    "MISSING_PRINCIPAL",
                    index,
                    "Principal",
                    statement.span,
                    "the statement says for nobody",
                )
                .hint("add \"Principal\": {\"AWS\": \"arn:...\"}, {\"Service\": ...} or {\"Federated\": ...}"),
            ));
        };
        let trust = kind == PolicyKind::Trust;
        if element.negated && (trust || statement.effect == Effect::Allow) {
            return Err(reject(
                "Invalid principal in policy: NotPrincipal",
                problem(
                    if trust {
                        "TRUST_NOT_PRINCIPAL"
                    } else {
                        "ALLOW_WITH_NOT_PRINCIPAL"
                    },
                    index,
                    "NotPrincipal",
                    element.key_span,
                    "an Allow for everybody but the listed ones is not accepted",
                )
                .hint("name who is meant with Principal"),
            ));
        }
        if trust && element.is_star {
            return Err(reject(
                "Invalid principal in policy: \"STAR\":\"*\"",
                problem(
                    "TRUST_WILDCARD_PRINCIPAL",
                    index,
                    "Principal",
                    element.span,
                    "a role cannot trust everybody by a bare \"*\"",
                )
                .hint("write {\"AWS\": \"*\"} with conditions that limit it, or name who is meant"),
            ));
        }
        for (entry_index, entry) in element.entries.iter().enumerate() {
            let slot = PrincipalSlot {
                statement: index,
                entry: entry_index,
            };
            match known(entry, kind, directory) {
                Known::Yes => {}
                Known::As(id) => ids.bind(slot, id),
                Known::No(why) => {
                    return Err(reject(
                        format!(
                            "Invalid principal in policy: \"{}\":\"{}\"",
                            wire_kind(entry.kind),
                            entry.text.value
                        ),
                        problem(
                            "INVALID_PRINCIPAL_FORMAT",
                            index,
                            "Principal",
                            entry.text.span,
                            why,
                        ),
                    ));
                }
            }
        }
    }
    Ok(ids)
}

enum Known {
    Yes,
    /// And is to be stored under this unique id.
    As(String),
    No(String),
}

fn known(entry: &PrincipalEntry, kind: PolicyKind, directory: &dyn PrincipalDirectory) -> Known {
    let text = &*entry.text.value;
    match PrincipalMatch::compile(entry) {
        PrincipalMatch::User { .. } | PrincipalMatch::Role { .. } => {
            match directory.look_up(text) {
                Existence::Has(id) => Known::As(id),
                Existence::Missing => Known::No(format!("`{text}` does not exist")),
                Existence::NotChecked => Known::Yes,
            }
        }
        PrincipalMatch::Id(id) if directory.knows_id(&id) => Known::Yes,
        PrincipalMatch::Id(_) => Known::No(format!("no user or role has the id `{text}`")),
        PrincipalMatch::Nobody if entry.kind == PrincipalKind::CanonicalUser => {
            if kind == PolicyKind::Trust {
                Known::No("canonical users are known to S3 only".to_owned())
            } else {
                Known::Yes
            }
        }
        PrincipalMatch::Nobody => Known::No(format!("`{text}` names nobody")),
        PrincipalMatch::Service(name) if !name.contains('.') => {
            Known::No(format!("`{name}` is not the name of a service"))
        }
        PrincipalMatch::Provider(provider) if !is_provider(&provider) => {
            Known::No(format!("`{provider}` is not an identity provider"))
        }
        PrincipalMatch::Everyone
        | PrincipalMatch::Account { .. }
        | PrincipalMatch::Session { .. }
        | PrincipalMatch::FederatedUser { .. }
        | PrincipalMatch::Service(_)
        | PrincipalMatch::Provider(_) => Known::Yes,
    }
}

/// The identity providers that need no provider object.
pub(crate) const BUILT_IN_PROVIDERS: [&str; 4] = [
    "cognito-identity.amazonaws.com",
    "www.amazon.com",
    "graph.facebook.com",
    "accounts.google.com",
];

/// Whether a text has the form of a `Federated` principal.
pub(crate) fn is_provider(text: &str) -> bool {
    BUILT_IN_PROVIDERS.contains(&text)
        || countersign_arn::Arn::parse(text).is_ok_and(|arn| {
            arn.service == "iam"
                && arn.account.len() == 12
                && ["oidc-provider/", "saml-provider/"]
                    .iter()
                    .any(|kind| arn.resource.len() > kind.len() && arn.resource.starts_with(kind))
        })
}

fn wire_kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Service => "SERVICE",
        other => other.as_str(),
    }
}

//! Principals that can match somebody.

use super::{Linter, statement_path};
use crate::compiled::{PolicyKind, PrincipalMatch};
use crate::document::{Effect, PrincipalElement, PrincipalEntry, PrincipalKind, Statement};
use crate::validate;

impl Linter<'_> {
    pub(super) fn principals(&mut self) {
        if !self.kind.has_principal() {
            return;
        }
        for (index, statement) in self.document.statements().iter().enumerate() {
            let Some(element) = &statement.principal else {
                continue;
            };
            let name = if element.negated {
                "NotPrincipal"
            } else {
                "Principal"
            };
            for entry in &element.entries {
                let path = format!("Statement[{index}].{name}.{}", entry.kind.as_str());
                self.principal(entry, path);
            }
            if element.negated {
                self.not_principal(index, statement, element);
            } else if statement.effect == Effect::Allow {
                self.service_for_anybody(index, statement, element);
                self.redundant_principals(index, element);
            }
        }
    }

    fn principal(&mut self, entry: &PrincipalEntry, path: String) {
        let text = &*entry.text.value;
        let span = entry.text.span;
        match PrincipalMatch::compile(entry) {
            PrincipalMatch::Id(id) => {
                let (code, what) = if id.starts_with("AROA") {
                    ("INVALID_ROLE_REFERENCE", "role")
                } else {
                    ("INVALID_USER_REFERENCE", "user")
                };
                self.add(
                    code,
                    path.clone(),
                    span,
                    format!("`{id}` is the id of a {what} that no longer exists"),
                );
                if self.kind == PolicyKind::Trust {
                    self.add(
                        "TRUST_DELETED_PRINCIPAL",
                        path,
                        span,
                        format!("the trusted {what} `{id}` was deleted; one made again under its name is not trusted"),
                    );
                }
            }
            PrincipalMatch::Nobody => self.nobody(entry, path),
            PrincipalMatch::Service(name) => {
                let formed = name.contains('.')
                    && !name.contains([':', '/', ' ', '*'])
                    && name.bytes().all(|b| !b.is_ascii_uppercase());
                if !formed {
                    self.add(
                        "INVALID_SERVICE_PRINCIPAL_FORMAT",
                        path,
                        span,
                        format!("`{text}` is not the name of a service"),
                    );
                }
            }
            PrincipalMatch::Provider(provider) => {
                if self.kind == PolicyKind::Resource {
                    self.add(
                        "FEDERATED_PRINCIPAL_NOT_SUPPORTED",
                        path,
                        span,
                        format!("`{text}` is known to trust policies only"),
                    );
                } else if !validate::is_provider(&provider) {
                    self.add(
                        "INVALID_FEDERATED_PRINCIPAL_SYNTAX",
                        path,
                        span,
                        format!("`{text}` is not an identity provider"),
                    );
                }
            }
            PrincipalMatch::Everyone
            | PrincipalMatch::Account { .. }
            | PrincipalMatch::User { .. }
            | PrincipalMatch::Role { .. }
            | PrincipalMatch::Session { .. }
            | PrincipalMatch::FederatedUser { .. } => {
                if text != "*" && text.contains(['*', '?']) {
                    self.wildcard(entry, path);
                }
            }
        }
    }

    fn nobody(&mut self, entry: &PrincipalEntry, path: String) {
        let text = &*entry.text.value;
        let span = entry.text.span;
        match entry.kind {
            PrincipalKind::CanonicalUser => {
                let formed = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
                if !formed {
                    let message =
                        format!("`{text}` is no canonical user id: 64 hexadecimal digits");
                    self.add("INVALID_PRINCIPAL_FORMAT", path, span, message);
                }
            }
            PrincipalKind::Service => self.add(
                "INVALID_SERVICE_PRINCIPAL_FORMAT",
                path,
                span,
                "a service principal names one service",
            ),
            PrincipalKind::Federated => self.add(
                "INVALID_FEDERATED_PRINCIPAL_SYNTAX",
                path,
                span,
                "a federated principal names one provider",
            ),
            PrincipalKind::Star | PrincipalKind::Aws => {
                if text.contains(['*', '?']) {
                    self.wildcard(entry, path);
                } else {
                    let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
                    let message = if digits {
                        format!("`{text}` has {} digits, an account has 12", text.len())
                    } else {
                        format!("`{text}` is no account, user, role, session or id")
                    };
                    self.add("INVALID_PRINCIPAL_FORMAT", path, span, message);
                }
            }
        }
    }

    fn wildcard(&mut self, entry: &PrincipalEntry, path: String) {
        let message = format!(
            "`{}` is compared whole and matches nobody",
            entry.text.value
        );
        self.add(
            "UNSUPPORTED_WILDCARD_IN_PRINCIPAL",
            path,
            entry.text.span,
            message,
        );
    }

    fn not_principal(&mut self, index: usize, statement: &Statement, element: &PrincipalElement) {
        let path = format!("Statement[{index}].NotPrincipal");
        if statement.effect == Effect::Allow {
            self.add(
                "ALLOW_WITH_NOT_PRINCIPAL",
                path,
                element.key_span,
                "the statement allows everybody but the listed ones",
            );
            return;
        }
        self.add(
            "NOT_PRINCIPAL_WITH_BOUNDARY",
            path.clone(),
            element.key_span,
            "a principal with a permissions boundary is denied even when it is listed",
        );
        let matches: Vec<PrincipalMatch> = element
            .entries
            .iter()
            .map(PrincipalMatch::compile)
            .collect();
        for entry in &matches {
            let (PrincipalMatch::User { account, .. }
            | PrincipalMatch::Role { account, .. }
            | PrincipalMatch::Session { account, .. }) = entry
            else {
                continue;
            };
            let listed = matches.iter().any(|other| {
                matches!(other, PrincipalMatch::Account { account: own, .. } if own == account)
            });
            if !listed {
                self.add(
                    "NOT_PRINCIPAL_INCOMPLETE",
                    path.clone(),
                    element.key_span,
                    format!("account {account} is not listed beside its user or role"),
                );
                return;
            }
        }
    }

    /// A service that acts for anybody's resources: the confused deputy.
    fn service_for_anybody(
        &mut self,
        index: usize,
        statement: &Statement,
        element: &PrincipalElement,
    ) {
        let Some(service) = element
            .entries
            .iter()
            .find(|entry| entry.kind == PrincipalKind::Service)
        else {
            return;
        };
        let name = &*service.text.value;
        let guarded = statement.tests_any(&[
            "aws:sourcearn",
            "aws:sourceaccount",
            "aws:sourceorgid",
            "aws:sourceorgpaths",
        ]);
        if guarded {
            return;
        }
        let path = format!("Statement[{index}].Principal.Service");
        let span = service.text.span;
        if self.kind == PolicyKind::Resource {
            self.add(
                "RESTRICT_ACCESS_TO_SERVICE_PRINCIPAL",
                path,
                span,
                format!("{name} may act for resources of any account"),
            );
        } else if name != "pods.eks.amazonaws.com" {
            self.add(
                "RECOMMENDED_CONDITION_KEY_FOR_SERVICE_PRINCIPAL",
                path,
                span,
                format!("the role is trusted to {name} without saying for whose resources"),
            );
        }
    }

    fn redundant_principals(&mut self, index: usize, element: &PrincipalElement) {
        if element.entries.len() > 200 {
            return;
        }
        for (at, entry) in element.entries.iter().enumerate() {
            let cover = element
                .entries
                .iter()
                .enumerate()
                .find(|(other, candidate)| {
                    *other != at
                        && candidate.kind == entry.kind
                        && ((candidate.text.value == entry.text.value && *other < at)
                            || (&*candidate.text.value == "*" && &*entry.text.value != "*"))
                });
            if let Some((_, cover)) = cover {
                self.add(
                    "REDUNDANT_PRINCIPAL_IN_ROLE_TRUST_POLICY",
                    statement_path(index) + ".Principal",
                    entry.text.span,
                    format!(
                        "`{}` is covered by `{}`",
                        entry.text.value, cover.text.value
                    ),
                );
            }
        }
    }
}

impl Statement {
    /// Whether a condition tests one of these keys, given in lower case.
    pub(crate) fn tests_any(&self, keys: &[&str]) -> bool {
        self.conditions
            .iter()
            .flat_map(|block| &block.keys)
            .any(|key| keys.contains(&&*crate::fold::lower(&key.key.value)))
    }
}

//! Elements: which must be there, which may not, which are empty, and how long it all is.

use super::{Linter, statement_path};
use crate::compiled::PolicyKind;
use crate::document::{Effect, Statement, size_without_whitespace};

impl Linter<'_> {
    pub(super) fn elements(&mut self) {
        self.version();
        self.size();
        self.sids();
        for (index, statement) in self.document.statements().iter().enumerate() {
            self.required(index, statement);
            self.forbidden(index, statement);
            self.empty(index, statement);
        }
    }

    fn version(&mut self) {
        if self.document.version_span().is_none() && !self.document.statements().is_empty() {
            self.add(
                "MISSING_VERSION",
                "$",
                self.document.span(),
                "the document has no Version, so the language of 2008 applies: variables are plain text",
            );
        }
    }

    fn size(&mut self) {
        let text = self.document.text();
        let size = size_without_whitespace(text);
        let (code, limit, counted) = match self.kind {
            PolicyKind::Scp | PolicyKind::Rcp => {
                ("POLICY_SIZE_EXCEEDS_SCP_QUOTA", 5120, text.chars().count())
            }
            PolicyKind::Trust => ("POLICY_SIZE_EXCEEDS_ROLE_TRUST_POLICY_QUOTA", 2048, size),
            PolicyKind::Identity | PolicyKind::Boundary => {
                ("POLICY_SIZE_EXCEEDS_IDENTITY_POLICY_QUOTA", 6144, size)
            }
            PolicyKind::Session | PolicyKind::Resource | PolicyKind::Endpoint => return,
        };
        if counted > limit {
            let message = format!("the document has {counted} characters, {limit} are allowed");
            self.add(code, "$", self.document.span(), message);
        }
    }

    fn sids(&mut self) {
        let lenient = matches!(self.kind, PolicyKind::Resource | PolicyKind::Endpoint);
        let mut seen: Vec<&str> = Vec::new();
        for (index, statement) in self.document.statements().iter().enumerate() {
            let Some(sid) = &statement.sid else {
                continue;
            };
            let path = format!("Statement[{index}].Sid");
            let text = &*sid.value;
            if text.is_empty() {
                self.add(
                    "EMPTY_SID_VALUE",
                    path,
                    sid.span,
                    "the statement id is empty",
                );
                continue;
            }
            if !lenient && !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
                self.add(
                    "UNSUPPORTED_SID",
                    path.clone(),
                    sid.span,
                    format!("`{text}` has other characters than letters and digits"),
                );
            }
            if seen.contains(&text) {
                let code = if lenient {
                    "UNIQUE_SIDS_RECOMMENDED"
                } else {
                    "UNIQUE_SIDS_REQUIRED"
                };
                let message = format!("`{text}` is the id of an earlier statement");
                self.add(code, path, sid.span, message);
            }
            seen.push(text);
        }
    }

    fn required(&mut self, index: usize, statement: &Statement) {
        if statement.action.is_none() {
            self.add(
                "MISSING_ACTION",
                statement_path(index),
                statement.span,
                "the statement has no Action",
            );
        }
        let needs_resource = match self.kind {
            PolicyKind::Trust => false,
            // A Deny without resource would deny everything; other services take their own resource for granted.
            PolicyKind::Resource => false,
            PolicyKind::Identity
            | PolicyKind::Boundary
            | PolicyKind::Session
            | PolicyKind::Endpoint
            | PolicyKind::Scp
            | PolicyKind::Rcp => true,
        };
        if needs_resource && statement.resource.is_none() {
            self.add(
                "MISSING_RESOURCE",
                statement_path(index),
                statement.span,
                "the statement has no Resource",
            );
        }
        let needs_principal = matches!(
            self.kind,
            PolicyKind::Trust | PolicyKind::Resource | PolicyKind::Rcp
        );
        if needs_principal && statement.principal.is_none() {
            self.add(
                "MISSING_PRINCIPAL",
                statement_path(index),
                statement.span,
                "the statement names no principal, so it never applies",
            );
        }
    }

    fn forbidden(&mut self, index: usize, statement: &Statement) {
        if let Some(element) = &statement.principal {
            let name = if element.negated {
                "NotPrincipal"
            } else {
                "Principal"
            };
            let path = format!("Statement[{index}].{name}");
            match self.kind {
                PolicyKind::Identity
                | PolicyKind::Boundary
                | PolicyKind::Session
                | PolicyKind::Scp => self.add(
                    "UNSUPPORTED_PRINCIPAL",
                    path,
                    element.key_span,
                    format!("a policy of kind {} has no {name}", self.kind.as_str()),
                ),
                PolicyKind::Trust if element.negated => self.add(
                    "TRUST_NOT_PRINCIPAL",
                    path,
                    element.key_span,
                    "a trust policy cannot use NotPrincipal",
                ),
                PolicyKind::Trust if element.is_star => self.add(
                    "TRUST_WILDCARD_PRINCIPAL",
                    path,
                    element.span,
                    "IAM refuses the bare \"*\" as the principal of a trust policy",
                ),
                PolicyKind::Rcp if element.negated || !element.is_star => self.add(
                    "UNSUPPORTED_ELEMENT_COMBINATION",
                    path,
                    element.span,
                    "the principal of a resource control policy is \"*\"",
                ),
                _ => {}
            }
        }
        if self.kind == PolicyKind::Trust
            && let Some(list) = &statement.resource
        {
            let name = if list.negated {
                "NotResource"
            } else {
                "Resource"
            };
            self.add(
                "TRUST_RESOURCE",
                format!("Statement[{index}].{name}"),
                list.key_span,
                "a trust policy has no resource: it hangs on its role",
            );
        }
        if self.kind == PolicyKind::Rcp {
            if statement.effect == Effect::Allow {
                self.add(
                    "UNSUPPORTED_ELEMENT_COMBINATION",
                    format!("Statement[{index}].Effect"),
                    statement.span,
                    "customers write only Deny into a resource control policy",
                );
            }
            if let Some(list) = statement.action.as_ref().filter(|list| list.negated) {
                self.add(
                    "UNSUPPORTED_ELEMENT_COMBINATION",
                    format!("Statement[{index}].NotAction"),
                    list.key_span,
                    "a resource control policy cannot use NotAction",
                );
            }
        }
        let identity = matches!(
            self.kind,
            PolicyKind::Identity | PolicyKind::Boundary | PolicyKind::Session
        );
        if index == 0
            && identity
            && let Some(id) = self.document.id()
        {
            self.add(
                "INVALID_POLICY_ELEMENT",
                "Id",
                id.span,
                "Id belongs into resource policies",
            );
            // IAM stores it, so it is no error.
            if let Some(last) = self.findings.last_mut() {
                last.kind = super::FindingType::Suggestion;
            }
        }
    }

    fn empty(&mut self, index: usize, statement: &Statement) {
        let lists = [
            (
                &statement.action,
                "EMPTY_ARRAY_ACTION",
                ["Action", "NotAction"],
            ),
            (
                &statement.resource,
                "EMPTY_ARRAY_RESOURCE",
                ["Resource", "NotResource"],
            ),
        ];
        for (list, code, [plain, negated]) in lists {
            if let Some(list) = list.as_ref().filter(|list| list.entries.is_empty()) {
                let (name, effect) = if list.negated {
                    (negated, "the statement applies to all")
                } else {
                    (plain, "the statement never applies")
                };
                self.add(
                    code,
                    format!("Statement[{index}].{name}"),
                    list.span,
                    format!("{name} is an empty list: {effect}"),
                );
            }
        }
        if let Some(element) = statement
            .principal
            .as_ref()
            .filter(|element| element.entries.is_empty())
        {
            let is_object = element.span.slice(self.source.text()).trim() == "{}";
            let code = if is_object {
                "EMPTY_OBJECT_PRINCIPAL"
            } else {
                "EMPTY_ARRAY_PRINCIPAL"
            };
            self.add(
                code,
                format!("Statement[{index}].Principal"),
                element.span,
                "no principal is listed: the statement applies to nobody",
            );
        }
        if let Some(span) = statement.condition_span {
            if statement.conditions.is_empty() {
                self.add(
                    "EMPTY_OBJECT_CONDITION",
                    format!("Statement[{index}].Condition"),
                    span,
                    "the condition is empty and restricts nothing",
                );
            }
            for block in &statement.conditions {
                if block.keys.is_empty() {
                    self.add(
                        "EMPTY_OBJECT_CONDITION",
                        format!("Statement[{index}].Condition"),
                        block.span,
                        format!(
                            "{} tests no key and restricts nothing",
                            block.operator.value
                        ),
                    );
                }
                for key in block.keys.iter().filter(|key| key.values.is_empty()) {
                    self.add(
                        "EMPTY_ARRAY_CONDITION",
                        super::key_path(index, &block.operator.value, &key.key.value),
                        key.span,
                        format!(
                            "{} lists no value for {}",
                            block.operator.value, key.key.value
                        ),
                    );
                }
            }
        }
    }
}

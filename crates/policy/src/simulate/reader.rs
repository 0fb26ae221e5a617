//! From the tree to cases.

use std::collections::HashMap;
use std::sync::Arc;

use super::case::{Case, Expected, RequestSpec, Warning};
use super::file::{SimulateError, from_syntax};
use crate::compiled::{Policy, PolicyKind};
use crate::context::Context;
use crate::document::{Document, DocumentError};
use crate::evaluate::{Attached, Layer, Level, Outcome, PolicySet, Source};
use crate::problem::Problem;
use crate::request::Principal;
use crate::text::{Member, Node, Path, SourceText, Value};
use crate::validate;
use crate::words::nearest;

pub(super) struct Reader<'r> {
    pub(super) file: &'r str,
    pub(super) source: &'r Arc<SourceText>,
    pub(super) load: &'r dyn Fn(&str) -> Result<String, String>,
    pub(super) warnings: Vec<Warning>,
    /// Policies given as text or by file, so that a thousand cases with one policy compile it once.
    pub(super) cache: HashMap<(PolicyKind, Box<str>), Compiled>,
}

/// A compiled policy and what was odd about it.
pub(super) type Compiled = (Arc<Policy>, Vec<Warning>);

type Read<T> = Result<T, Box<SimulateError>>;

const REQUEST_FIELDS: [&str; 7] = [
    "principal",
    "principalId",
    "action",
    "resource",
    "resourceAccount",
    "wildcardOnlyAction",
    "context",
];
const LAYERS: [&str; 7] = [
    "identity", "resource", "boundary", "session", "scp", "rcp", "endpoint",
];
const WRAPPER_FIELDS: [&str; 5] = ["file", "name", "arn", "document", "attachedVia"];

impl Reader<'_> {
    pub(super) fn case(&mut self, node: &Node<'_>, path: &Path<'_>, index: usize) -> Read<Case> {
        self.warnings.clear();
        if !matches!(node.value, Value::Object(_)) {
            return Err(self.wrong_type(node, path, "a case, which is an object"));
        }
        let id = match node.get("id") {
            Some(id) => self.text(id, &path.key("id"))?.to_owned(),
            None => format!("case {}", index + 1),
        };
        let name = match node.get("name") {
            Some(name) => Some(self.text(name, &path.key("name"))?.to_owned()),
            None => None,
        };
        let request = match node.get("request") {
            Some(request) => self.request(request, &path.key("request"))?,
            None => return Err(self.fail(node, path, "the case has no `request`")),
        };
        let is_trust = request
            .actions
            .iter()
            .all(|action| action.to_ascii_lowercase().starts_with("sts:"));
        let policies = match node.get("policies") {
            Some(policies) => self.policies(policies, &path.key("policies"), is_trust)?,
            None => PolicySet::default(),
        };
        let expected = match node.get("expected") {
            Some(expected) => Some(self.expected(expected, &path.key("expected"))?),
            None => None,
        };
        Ok(Case {
            id,
            name,
            request,
            policies,
            expected,
            warnings: std::mem::take(&mut self.warnings),
        })
    }

    fn request(&mut self, node: &Node<'_>, path: &Path<'_>) -> Read<RequestSpec> {
        if !matches!(node.value, Value::Object(_)) {
            return Err(self.wrong_type(node, path, "an object"));
        }
        for member in node.members() {
            self.known(member, &REQUEST_FIELDS, "request");
        }
        let Some(principal) = node.get("principal") else {
            return Err(self.fail(node, path, "the request has no `principal`"));
        };
        let id = match node.get("principalId") {
            Some(id) => Some(self.text(id, &path.key("principalId"))?),
            None => None,
        };
        let principal = self.principal(principal, &path.key("principal"), id)?;
        let actions = self.one_or_more(node, path, "action")?;
        let resources = self.one_or_more(node, path, "resource")?;
        let resource_account = match node.get("resourceAccount") {
            Some(account) => Some(self.text(account, &path.key("resourceAccount"))?.to_owned()),
            None => None,
        };
        let wildcard_only_action = match node.get("wildcardOnlyAction") {
            None => None,
            Some(Node {
                value: Value::Bool(flag),
                ..
            }) => Some(*flag),
            Some(other) => {
                let path = path.key("wildcardOnlyAction");
                return Err(self.wrong_type(other, &path, "true or false"));
            }
        };
        let context = match node.get("context") {
            Some(context) => self.context(context, &path.key("context"))?,
            None => Context::new(),
        };
        Ok(RequestSpec {
            principal,
            actions,
            resources,
            resource_account,
            wildcard_only_action,
            context,
        })
    }

    fn principal(&mut self, node: &Node<'_>, path: &Path<'_>, id: Option<&str>) -> Read<Principal> {
        let parsed = match &node.value {
            Value::String(text) => Principal::parse(text, id),
            Value::Object(_) => {
                if let Some(provider) = node.get("federated") {
                    let provider = self.text(provider, &path.key("federated"))?;
                    return Ok(Principal::federated(provider));
                }
                let Some(arn) = node.get("federatedUser") else {
                    return Err(self.fail(
                        node,
                        path,
                        "expected {\"federated\": PROVIDER} or {\"federatedUser\": ARN, \"user\": ARN}",
                    ));
                };
                let arn = self.text(arn, &path.key("federatedUser"))?;
                let user = match node.get("user") {
                    Some(user) => Some((self.text(user, &path.key("user"))?, id)),
                    None => None,
                };
                Principal::federated_user(arn, user)
            }
            _ => return Err(self.wrong_type(node, path, "a string or an object")),
        };
        parsed.map_err(|error| self.fail(node, path, &error.to_string()))
    }

    fn one_or_more(&self, node: &Node<'_>, path: &Path<'_>, field: &str) -> Read<Vec<String>> {
        let Some(value) = node.get(field) else {
            return Err(self.fail(node, path, &format!("the request has no `{field}`")));
        };
        let path = path.key(field);
        match &value.value {
            Value::Array(items) if !items.is_empty() => items
                .iter()
                .enumerate()
                .map(|(index, item)| Ok(self.text(item, &path.index(index))?.to_owned()))
                .collect(),
            Value::Array(_) => Err(self.fail(value, &path, "the list is empty")),
            _ => Ok(vec![self.text(value, &path)?.to_owned()]),
        }
    }

    fn context(&mut self, node: &Node<'_>, path: &Path<'_>) -> Read<Context<'static>> {
        if !matches!(node.value, Value::Object(_)) {
            return Err(self.wrong_type(node, path, "an object of condition keys"));
        }
        let mut context = Context::new();
        for member in node.members() {
            let here = path.key(&member.key);
            let key = member.key.to_string();
            if context.get(&key).is_some() {
                return Err(self.fail(
                    &member.node,
                    &here,
                    &format!("key `{key}` appears twice, in different case"),
                ));
            }
            match &member.node.value {
                Value::Array(items) => {
                    let values = items
                        .iter()
                        .enumerate()
                        .map(|(index, item)| self.scalar(item, &here.index(index)))
                        .collect::<Read<Vec<String>>>()?;
                    context.set_list(key, values);
                }
                _ => {
                    let value = self.scalar(&member.node, &here)?;
                    context.set(key, value);
                }
            }
        }
        Ok(context)
    }

    fn policies(&mut self, node: &Node<'_>, path: &Path<'_>, is_trust: bool) -> Read<PolicySet> {
        if !matches!(node.value, Value::Object(_)) {
            return Err(self.wrong_type(node, path, "an object of layers"));
        }
        let mut set = PolicySet::default();
        for member in node.members() {
            let here = path.key(&member.key);
            let node = &member.node;
            match &*member.key {
                "identity" => set.identity = self.documents(node, &here, PolicyKind::Identity)?,
                "resource" => {
                    let kind = if is_trust {
                        PolicyKind::Trust
                    } else {
                        PolicyKind::Resource
                    };
                    set.resource = Some(self.documents(node, &here, kind)?);
                }
                "boundary" => {
                    let mut documents = self.documents(node, &here, PolicyKind::Boundary)?;
                    if documents.len() > 1 {
                        return Err(self.fail(
                            node,
                            &here,
                            "a principal has at most one permissions boundary",
                        ));
                    }
                    set.boundary = documents.pop();
                }
                "session" => {
                    let documents = self.documents(node, &here, PolicyKind::Session)?;
                    set.session = Some(documents).filter(|documents| !documents.is_empty());
                }
                "endpoint" => {
                    let documents = self.documents(node, &here, PolicyKind::Endpoint)?;
                    set.endpoint = Some(documents).filter(|documents| !documents.is_empty());
                }
                "scp" => set.scp = self.levels(node, &here, PolicyKind::Scp)?,
                "rcp" => set.rcp = self.levels(node, &here, PolicyKind::Rcp)?,
                other => {
                    let mut error = self.fail(
                        node,
                        &here,
                        &format!(
                            "`{other}` is not a policy layer; known: {}",
                            LAYERS.join(", ")
                        ),
                    );
                    error.hint = nearest(other, LAYERS.into_iter())
                        .map(|name| format!("did you mean `{name}`?"));
                    return Err(error);
                }
            }
        }
        Ok(set)
    }

    fn levels(&mut self, node: &Node<'_>, path: &Path<'_>, kind: PolicyKind) -> Read<Vec<Level>> {
        let Value::Array(items) = &node.value else {
            return Err(self.wrong_type(
                node,
                path,
                "a list of levels such as {\"target\": \"r-root\", \"policies\": []}",
            ));
        };
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let here = path.index(index);
                let (Some(target), Some(policies)) = (item.get("target"), item.get("policies"))
                else {
                    return Err(self.fail(
                        item,
                        &here,
                        "a level has a `target` and a list of `policies`",
                    ));
                };
                Ok(Level {
                    target: self.text(target, &here.key("target"))?.into(),
                    policies: self.documents(policies, &here.key("policies"), kind)?,
                })
            })
            .collect()
    }

    fn documents(
        &mut self,
        node: &Node<'_>,
        path: &Path<'_>,
        kind: PolicyKind,
    ) -> Read<Vec<Attached>> {
        match &node.value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.policy(item, &path.index(index), kind, index))
                .collect(),
            _ => Ok(vec![self.policy(node, path, kind, 0)?]),
        }
    }

    fn policy(
        &mut self,
        node: &Node<'_>,
        path: &Path<'_>,
        kind: PolicyKind,
        index: usize,
    ) -> Read<Attached> {
        let mut source = Source::named(format!("{}.{}", kind.as_str(), index + 1));
        if let Value::String(text) = &node.value {
            let policy = self.quoted(text, &source.id, kind, (node, path))?;
            return Ok(Attached { policy, source });
        }
        if !matches!(node.value, Value::Object(_)) {
            return Err(self.wrong_type(node, path, "a policy: an object or its JSON text"));
        }
        let is_wrapper = ["file", "document"]
            .iter()
            .any(|field| node.get(field).is_some());
        if !is_wrapper {
            let policy = self.inline(node, &source.id, kind)?;
            return Ok(Attached { policy, source });
        }
        for member in node.members() {
            self.known(member, &WRAPPER_FIELDS, "policy");
        }
        let optional = |field: &str| match node.get(field) {
            Some(value) => self
                .text(value, &path.key(field))
                .map(|text| Some(text.into())),
            None => Ok(None),
        };
        if let Some(name) = optional("name")? {
            source.id = name;
        }
        source.arn = optional("arn")?;
        source.attached_via = optional("attachedVia")?;
        if let Some(file) = node.get("file") {
            let name = self.text(file, &path.key("file"))?.to_owned();
            let text = (self.load)(&name).map_err(|why| {
                self.fail(
                    file,
                    &path.key("file"),
                    &format!("could not read `{name}`: {why}"),
                )
            })?;
            if node.get("name").is_none() {
                source.id = name.clone().into();
            }
            let policy = self.loaded(&text, &name, &source.id, kind)?;
            return Ok(Attached { policy, source });
        }
        let policy = match node.get("document") {
            Some(
                document @ Node {
                    value: Value::String(text),
                    ..
                },
            ) => self.quoted(text, &source.id, kind, (document, &path.key("document")))?,
            Some(document) => self.inline(document, &source.id, kind)?,
            None => return Err(self.fail(node, path, "the policy has no document")),
        };
        Ok(Attached { policy, source })
    }

    fn inline(&mut self, node: &Node<'_>, about: &str, kind: PolicyKind) -> Read<Arc<Policy>> {
        let document = Document::from_node(node, self.source)
            .map_err(|error| self.refused(&error, self.file, self.source))?;
        let warnings = self.write_errors(&document, kind, about);
        self.warnings.extend(warnings);
        Ok(Arc::new(Policy::compile(document, kind)))
    }

    fn loaded(
        &mut self,
        text: &str,
        file: &str,
        about: &str,
        kind: PolicyKind,
    ) -> Read<Arc<Policy>> {
        self.cached(text, about, kind, |reader, error| {
            reader.refused(error, file, &SourceText::new(Arc::from(text)))
        })
    }

    /// A policy given as a string: positions inside it refer to that text, an error to where the string stands.
    fn quoted(
        &mut self,
        text: &str,
        about: &str,
        kind: PolicyKind,
        (node, path): (&Node<'_>, &Path<'_>),
    ) -> Read<Arc<Policy>> {
        self.cached(text, about, kind, |reader, error| {
            let inner = SourceText::new(Arc::from(text));
            let inside = reader.refused(error, reader.file, &inner);
            let mut outer = reader.fail(
                node,
                path,
                &format!(
                    "{} (line {}, column {} of the policy text)",
                    inside.message, inside.position.line, inside.position.column
                ),
            );
            outer.hint = inside.hint;
            outer
        })
    }

    fn cached(
        &mut self,
        text: &str,
        about: &str,
        kind: PolicyKind,
        refused: impl Fn(&Self, &DocumentError) -> Box<SimulateError>,
    ) -> Read<Arc<Policy>> {
        let key = (kind, Box::from(text));
        if let Some((policy, warnings)) = self.cache.get(&key) {
            self.warnings.extend(warnings.iter().cloned());
            return Ok(Arc::clone(policy));
        }
        let document = Document::parse(text).map_err(|error| refused(self, &error))?;
        let warnings = self.write_errors(&document, kind, about);
        self.warnings.extend(warnings.iter().cloned());
        let policy = Arc::new(Policy::compile(document, kind));
        self.cache.insert(key, (Arc::clone(&policy), warnings));
        Ok(policy)
    }

    /// What IAM would say on write, as a warning.
    fn write_errors(&self, document: &Document, kind: PolicyKind, about: &str) -> Vec<Warning> {
        let mut warnings: Vec<Warning> = Vec::new();
        let mut add = |code: &str, message: String, span: crate::text::Span| {
            warnings.push(Warning {
                about: about.to_owned(),
                code: Some(code.to_owned()),
                message,
                position: Some(document.lines().position(span.start)),
                is_write_error: true,
            });
        };
        for problem in document.reported() {
            add(problem.code, problem.message.clone(), problem.span);
        }
        if document.reported().is_empty()
            && let Err(rejection) = validate::check(document, kind)
        {
            add(
                rejection.problem.code,
                rejection.message.clone(),
                rejection.problem.span,
            );
        }
        warnings
    }

    fn refused(
        &self,
        error: &DocumentError,
        file: &str,
        source: &SourceText,
    ) -> Box<SimulateError> {
        match error {
            DocumentError::Syntax(error) => from_syntax(file, error),
            DocumentError::Shape(problems) => {
                let first: Option<&Problem> = problems.first();
                Box::new(SimulateError {
                    file: file.to_owned(),
                    position: source
                        .lines()
                        .position(first.map_or(0, |problem| problem.span.start)),
                    path: first.map_or_else(String::new, |problem| problem.path.clone()),
                    message: error.to_string(),
                    hint: first.and_then(|problem| problem.hint.clone()),
                })
            }
        }
    }

    fn expected(&self, node: &Node<'_>, path: &Path<'_>) -> Read<Expected> {
        let Some(decision) = node.get("decision") else {
            return Err(self.fail(node, path, "`expected` has no `decision`"));
        };
        let outcomes = [
            Outcome::Allowed,
            Outcome::ExplicitDeny,
            Outcome::ImplicitDeny,
        ];
        let text = self.text(decision, &path.key("decision"))?;
        let Some(outcome) = outcomes
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
        else {
            return Err(self.fail(
                decision,
                &path.key("decision"),
                "a decision is allowed, explicitDeny or implicitDeny",
            ));
        };
        let blocked_by = match node.get("blockedBy") {
            None => None,
            Some(list) => Some(self.layer_names(list, &path.key("blockedBy"))?),
        };
        Ok(Expected {
            decision: outcome,
            blocked_by,
        })
    }

    fn layer_names(&self, node: &Node<'_>, path: &Path<'_>) -> Read<Vec<Layer>> {
        let Value::Array(items) = &node.value else {
            return Err(self.wrong_type(node, path, "a list of layers"));
        };
        items
            .iter()
            .map(|item| {
                let name = self.text(item, path)?;
                Layer::ALL
                    .into_iter()
                    .find(|layer| layer.as_str() == name)
                    .ok_or_else(|| {
                        self.fail(item, path, &format!("`{name}` is not a policy layer"))
                    })
            })
            .collect()
    }

    fn known(&mut self, member: &Member<'_>, known: &[&'static str], inside: &str) {
        if known.contains(&&*member.key) {
            return;
        }
        let suggestion = nearest(&member.key, known.iter().copied())
            .map_or(String::new(), |name| format!("; did you mean `{name}`?"));
        self.warnings.push(Warning {
            about: inside.to_owned(),
            code: None,
            message: format!("`{}` is not known here and ignored{suggestion}", member.key),
            position: Some(self.source.lines().position(member.key_span.start)),
            is_write_error: false,
        });
    }

    fn scalar(&self, node: &Node<'_>, path: &Path<'_>) -> Read<String> {
        node.scalar_text()
            .map(str::to_owned)
            .ok_or_else(|| self.wrong_type(node, path, "a string, number or boolean"))
    }

    /// A string; numbers pass too, so that an account id without quotes in YAML keeps its digits.
    fn text<'n>(&self, node: &'n Node<'_>, path: &Path<'_>) -> Read<&'n str> {
        match &node.value {
            Value::String(text) | Value::Number(text) => Ok(text),
            _ => Err(self.wrong_type(node, path, "a string")),
        }
    }

    pub(super) fn wrong_type(
        &self,
        node: &Node<'_>,
        path: &Path<'_>,
        expected: &str,
    ) -> Box<SimulateError> {
        self.fail(
            node,
            path,
            &format!("expected {expected}, found {}", node.kind_name()),
        )
    }

    pub(super) fn fail(
        &self,
        node: &Node<'_>,
        path: &Path<'_>,
        message: &str,
    ) -> Box<SimulateError> {
        Box::new(SimulateError {
            file: self.file.to_owned(),
            position: self.source.lines().position(node.span.start),
            path: path.to_string(),
            message: message.to_owned(),
            hint: None,
        })
    }
}

//! From an HTTP request to the action that authorizers see (RBAC spec, section 2).

use crate::request::{Action, ResourceAction};
use crate::selector::{self, Requirement, Selectors};

/// What an HTTP request asks for. Owns its text; [`HttpAction::action`] lends it to a [`Request`](crate::Request).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAction {
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    NonResource { verb: String, path: String },
    Resource(Box<Parts>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Parts {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    fields: Vec<Requirement>,
    labels: Vec<Requirement>,
}

/// A request that cannot be attributed to a resource or a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpActionError {
    /// A percent-encoding that is none, or one that is not UTF-8.
    #[error("the path `{0}` is not percent-encoded UTF-8")]
    Encoding(String),
    /// `/api/v1/watch` or `/api/v1/proxy` without anything behind.
    #[error("unable to determine kind and namespace from url, {0}")]
    Incomplete(String),
}

impl HttpAction {
    /// Reads method and target (path and optional query, as in the request line).
    pub fn parse(method: &str, target: &str) -> Result<Self, HttpActionError> {
        let (raw_path, query) = target.split_once('?').unwrap_or((target, ""));
        let path =
            decode(raw_path, false).ok_or_else(|| HttpActionError::Encoding(raw_path.into()))?;
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = match parts.as_slice() {
            ["api", rest @ ..] if rest.len() >= 2 => ("", rest),
            ["apis", group, rest @ ..] if rest.len() >= 2 => (*group, rest),
            _ => {
                let verb = method.to_ascii_lowercase();
                return Ok(Self {
                    kind: Kind::NonResource { verb, path },
                });
            }
        };
        let Some((version, rest)) = rest.split_first() else {
            return Err(HttpActionError::Incomplete(target.into()));
        };
        let (verb, legacy, rest) = match rest {
            ["watch" | "proxy"] => return Err(HttpActionError::Incomplete(target.into())),
            ["watch", rest @ ..] => ("watch", true, rest),
            ["proxy", rest @ ..] => ("proxy", true, rest),
            rest => (verb_of(method), false, rest),
        };
        let mut parts = resource_parts(rest, verb);
        parts.verb = verb;
        group.clone_into(&mut parts.group);
        (*version).clone_into(&mut parts.version);
        if !legacy {
            parts.apply_query(query);
        }
        Ok(Self {
            kind: Kind::Resource(Box::new(parts)),
        })
    }

    /// The action, to ask an authorizer for.
    pub fn action(&self) -> Action<'_> {
        match &self.kind {
            Kind::NonResource { verb, path } => Action::NonResource { verb, path },
            Kind::Resource(parts) => Action::Resource(ResourceAction {
                verb: parts.verb,
                group: &parts.group,
                version: &parts.version,
                resource: &parts.resource,
                subresource: &parts.subresource,
                namespace: &parts.namespace,
                name: &parts.name,
                selectors: Selectors {
                    fields: &parts.fields,
                    labels: &parts.labels,
                },
            }),
        }
    }
}

impl Parts {
    /// Gives reads and deletes of a collection their own verbs, and the name that a field selector pins.
    fn apply_query(&mut self, query: &str) {
        self.verb = match self.verb {
            "get" if self.name.is_empty() => match first(query, "watch").as_deref() {
                None => "list",
                Some(no) if no == "0" || no.eq_ignore_ascii_case("false") => "list",
                Some(_) => "watch",
            },
            "delete" if self.name.is_empty() => "deletecollection",
            _ => return,
        };
        let fields = first(query, "fieldSelector").map(|text| selector::parse_fields(&text));
        let labels = first(query, "labelSelector").map(|text| selector::parse_labels(&text));
        let numbers = ["limit", "timeoutSeconds"].iter().all(|key| {
            first(query, key).is_none_or(|text| text.is_empty() || text.parse::<i64>().is_ok())
        });
        // Options that do not parse as a whole pin no name: the server answers such a request with an error anyway.
        let readable =
            numbers && !matches!(fields, Some(Err(_))) && !matches!(labels, Some(Err(_)));
        self.fields = fields.and_then(Result::ok).unwrap_or_default();
        self.labels = labels.and_then(Result::ok).unwrap_or_default();
        if readable
            && let Some(name) = selector::pinned_name(&self.fields)
            && is_path_segment(name)
        {
            self.name = name.to_owned();
        }
    }
}

fn verb_of(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

fn resource_parts(mut rest: &[&str], verb: &str) -> Parts {
    let mut parts = Parts::default();
    if let ["namespaces", namespace, after @ ..] = rest {
        (*namespace).clone_into(&mut parts.namespace);
        // The namespace itself is the object, unless something that is no subresource of it follows.
        if !matches!(after, [] | ["status" | "finalize", ..]) {
            rest = after;
        }
    }
    let mut rest = rest.iter().map(|part| (*part).to_owned());
    parts.resource = rest.next().unwrap_or_default();
    parts.name = rest.next().unwrap_or_default();
    if verb != "proxy" {
        parts.subresource = rest.next().unwrap_or_default();
    }
    parts
}

/// What Kubernetes lets be part of a path: not `.` or `..`, without `/` and `%`.
pub(crate) fn is_path_segment(name: &str) -> bool {
    name != "." && name != ".." && !name.contains(['/', '%'])
}

/// The first value of a query parameter.
fn first(query: &str, key: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name, true)? == key).then(|| decode(value, true))?
    })
}

pub(crate) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

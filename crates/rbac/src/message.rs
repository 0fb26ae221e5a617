//! Error texts in the words of the API server (RBAC spec, section 3).

use std::fmt::{self, Display};

use crate::quote::Quoted;
use crate::request::{Action, Request};

/// The message of the 403 answer to a request that no authorizer allowed; `reason` is theirs, and may be empty.
///
/// `pods is forbidden: User "dana" cannot list resource "pods" in API group "" in the namespace "shop"`
pub fn forbidden(request: &Request<'_>, reason: &str) -> String {
    let cannot = html_safe(&Cannot(request).to_string());
    let message = if reason.is_empty() {
        cannot
    } else {
        format!("{cannot}: {reason}")
    };
    match request.action {
        Action::Resource(action) => {
            forbidden_object(action.group, action.resource, action.name, &message)
        }
        Action::NonResource { .. } => format!("forbidden: {message}"),
    }
}

/// The message of a 403 answer about one object: `roles.rbac.authorization.k8s.io "x" is forbidden: ...`
pub fn forbidden_object(group: &str, resource: &str, name: &str, cause: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    if resource.is_empty() {
        format!("forbidden: {cause}")
    } else if name.is_empty() {
        format!("{resource}{dot}{group} is forbidden: {cause}")
    } else {
        format!(
            "{resource}{dot}{group} {} is forbidden: {cause}",
            Quoted(name)
        )
    }
}

struct Cannot<'a>(&'a Request<'a>);

impl Display for Cannot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = Quoted(self.0.user.name);
        match self.0.action {
            Action::NonResource { verb, path } => {
                write!(f, "User {user} cannot {verb} path {}", Quoted(path))
            }
            Action::Resource(action) => {
                let resource = if action.subresource.is_empty() {
                    action.resource.to_owned()
                } else {
                    format!("{}/{}", action.resource, action.subresource)
                };
                write!(
                    f,
                    "User {user} cannot {} resource {} in API group {} ",
                    action.verb,
                    Quoted(&resource),
                    Quoted(action.group)
                )?;
                if action.namespace.is_empty() {
                    f.write_str("at the cluster scope")
                } else {
                    write!(f, "in the namespace {}", Quoted(action.namespace))
                }
            }
        }
    }
}

/// The API server keeps its 403 texts from being read as HTML by a browser.
fn html_safe(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

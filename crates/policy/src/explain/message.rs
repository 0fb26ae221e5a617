//! What a refused caller is told (policy language spec, section 10).
//!
//! One layer is named, and never the text of a policy, a condition value or another principal.

use super::summary::layer_name;
use crate::evaluate::{Decision, Layer, Layers, Outcome, blocked_by};
use crate::request::{PrincipalType, Request, Special};

/// How much a message tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MessageStyle {
    /// Names the layer, except to callers of other accounts.
    #[default]
    Standard,
    /// Never names the layer: STS on roles.
    Short,
}

/// The text of `AccessDenied` for a denied request.
#[must_use]
pub fn denial_message(
    request: &Request<'_>,
    layers: &Layers<'_>,
    decision: &Decision,
    style: MessageStyle,
) -> String {
    let caller = request.principal();
    let action = request.action();
    if action.special().has(Special::FEDERATION) && caller.kind() == PrincipalType::Anonymous {
        return format!("Not authorized to perform {}", action.as_str());
    }
    let short = format!(
        "User: {} is not authorized to perform: {} on resource: {}",
        caller.arn(),
        action.as_str(),
        request.resource()
    );
    if style == MessageStyle::Short || !request.is_same_account() {
        return short;
    }
    match (decision.outcome, decision.determining) {
        (Outcome::ExplicitDeny, Some(at)) => {
            let arn = at
                .policy(layers)
                .and_then(|attached| attached.source.arn.as_deref())
                .filter(|_| at.layer != Layer::Resource)
                .map_or(String::new(), |arn| format!(": {arn}"));
            let name = layer_name(at.layer, request);
            format!(
                "{short} with an explicit deny in {} {name}{arn}",
                article(name)
            )
        }
        _ => {
            let layer = blocked_by(request, layers)
                .iter()
                .next()
                .unwrap_or(Layer::Identity);
            format!(
                "{short} because no {} allows the {} action",
                layer_name(layer, request),
                action.as_str()
            )
        }
    }
}

fn article(name: &str) -> &'static str {
    match name {
        "role trust policy" => "the",
        "identity-based policy" => "an",
        _ => "a",
    }
}

//! The one sentence, and what to do.

use serde::Serialize;

use super::near::NearMiss;
use super::statement_ref;
use crate::evaluate::{Decision, Layer, Layers, Outcome, Route, SpecialRule, StatementAt};
use crate::request::{PrincipalType, Request, Special};

/// What could be added so that the request is allowed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Suggestion {
    /// The layer that lacks an Allow.
    pub layer: Layer,
    /// The smallest statement that would do.
    pub statement: serde_json::Value,
    /// What has to be known beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// The decisive reason, and the sentence that says who, what, on what and why.
pub(super) fn sentence(
    request: &Request<'_>,
    layers: &Layers<'_>,
    decision: &Decision,
    blocked: &[Layer],
    near: &[NearMiss],
) -> (String, String) {
    let may = if decision.outcome == Outcome::Allowed {
        "may"
    } else {
        "may not"
    };
    let reason = match decision.outcome {
        Outcome::Allowed => allow_reason(layers, decision),
        Outcome::ExplicitDeny => {
            let by = decision.determining.map_or(String::new(), |at| {
                format!("{} ({})", named(layers, at), layer_name(at.layer, request))
            });
            format!("denied by {by}")
        }
        Outcome::ImplicitDeny => implicit_reason(request, decision, blocked, near),
    };
    let sentence = format!(
        "{} {may} {} on {}: {reason}",
        request.principal().arn(),
        request.action().as_str(),
        request.resource()
    );
    (reason, sentence)
}

fn named(layers: &Layers<'_>, at: StatementAt) -> String {
    statement_ref(layers, at).map_or(String::new(), |statement| {
        let sid = statement
            .sid
            .map_or(String::new(), |sid| format!(" `{sid}`"));
        let level = statement
            .level
            .map_or(String::new(), |level| format!(" at {level}"));
        format!(
            "statement {}{sid} of `{}`{level}",
            statement.statement, statement.document
        )
    })
}

fn allow_reason(layers: &Layers<'_>, decision: &Decision) -> String {
    match (decision.route, decision.special, decision.determining) {
        (_, Some(rule), _) => rule.describe().to_owned(),
        (Some(Route::Root), ..) => "the root user needs no policy in its own account".to_owned(),
        (_, _, Some(at)) => match decision.second {
            Some(second) => format!(
                "granted by {} together with {}",
                named(layers, at),
                named(layers, second)
            ),
            None => format!("granted by {}", named(layers, at)),
        },
        _ => "granted".to_owned(),
    }
}

fn implicit_reason(
    request: &Request<'_>,
    decision: &Decision,
    blocked: &[Layer],
    near: &[NearMiss],
) -> String {
    if let Some(rule) = decision.special.filter(|rule| {
        !matches!(
            rule,
            SpecialRule::TrustRequired | SpecialRule::KmsKeyPolicyRequired
        )
    }) {
        return rule.describe().to_owned();
    }
    let nearest = near
        .first()
        .map_or(String::new(), |miss| format!("; nearest: {}", miss.detail));
    if blocked.is_empty() {
        return format!("nothing grants it{nearest}");
    }
    let names: Vec<&str> = blocked
        .iter()
        .map(|layer| layer_name(*layer, request))
        .collect();
    format!("no {} allows it{nearest}", names.join(" and no "))
}

/// A layer as messages of AWS call it.
pub(super) fn layer_name(layer: Layer, request: &Request<'_>) -> &'static str {
    match layer {
        Layer::Rcp => "resource control policy",
        Layer::Scp => "service control policy",
        Layer::Resource if request.action().special().has(Special::TRUST) => "role trust policy",
        Layer::Resource => "resource-based policy",
        Layer::Identity => "identity-based policy",
        Layer::Boundary => "permissions boundary",
        Layer::Session => "session policy",
        Layer::Endpoint => "VPC endpoint policy",
    }
}

pub(super) fn suggest(
    request: &Request<'_>,
    decision: &Decision,
    blocked: &[Layer],
) -> Option<Suggestion> {
    let by_rule = decision.special.is_some_and(|rule| {
        !matches!(
            rule,
            SpecialRule::TrustRequired | SpecialRule::KmsKeyPolicyRequired
        )
    });
    if decision.outcome != Outcome::ImplicitDeny || by_rule {
        return None;
    }
    let is_iam = !matches!(
        request.principal().kind(),
        PrincipalType::Service | PrincipalType::Anonymous
    );
    let layer = match blocked.first() {
        Some(layer) => *layer,
        None if is_iam && decision.special.is_none() => Layer::Identity,
        None => Layer::Resource,
    };
    let mut statement = serde_json::json!({
        "Effect": "Allow",
        "Action": request.action().as_str(),
    });
    if let Some(fields) = statement.as_object_mut() {
        let is_trust = request.action().special().has(Special::TRUST);
        if layer == Layer::Resource {
            fields.insert("Principal".to_owned(), principal_element(request));
        }
        if layer != Layer::Resource || !is_trust {
            fields.insert("Resource".to_owned(), request.resource().into());
        }
    }
    let mut remarks = Vec::new();
    if blocked.iter().any(|layer| {
        matches!(
            layer,
            Layer::Boundary | Layer::Session | Layer::Scp | Layer::Endpoint
        )
    }) {
        remarks.push("adding an identity policy will not help".to_owned());
    }
    for other in blocked.iter().skip(1) {
        remarks.push(format!(
            "the {} must allow it as well",
            layer_name(*other, request)
        ));
    }
    if blocked.is_empty() && is_iam && !request.is_same_account() {
        remarks.push("across accounts the resource's policy must allow it as well".to_owned());
    }
    if blocked.is_empty() && layer == Layer::Resource && is_iam {
        remarks.push(
            "naming the caller's ARN is enough in one account; naming the account needs an identity policy as well"
                .to_owned(),
        );
    }
    Some(Suggestion {
        layer,
        statement,
        remarks,
    })
}

fn principal_element(request: &Request<'_>) -> serde_json::Value {
    let caller = request.principal();
    match caller.kind() {
        PrincipalType::Service => serde_json::json!({"Service": caller.arn()}),
        PrincipalType::Anonymous if caller.arn() != "anonymous" => {
            serde_json::json!({"Federated": caller.arn()})
        }
        PrincipalType::Anonymous => "*".into(),
        PrincipalType::Root
        | PrincipalType::User
        | PrincipalType::Session
        | PrincipalType::Federated => {
            serde_json::json!({"AWS": caller.principal_arn().unwrap_or_default()})
        }
    }
}

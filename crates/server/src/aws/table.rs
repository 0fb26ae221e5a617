//! All operations of all services, found by what a request says.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::json;

use super::operation::{Access, Answer, Operation};
use super::query::Parameters;
use super::shape::{ANY_NUMBER, Kind, Parameter, Place};
use super::{ApiError, Service, eks, eks_auth, iam, sts};

static OPERATIONS: LazyLock<HashMap<(&'static str, &'static str), &'static Operation>> =
    LazyLock::new(|| {
        all()
            .filter(|operation| operation.http.is_none())
            .map(|operation| ((operation.service.version(), operation.name), operation))
            .collect()
    });

/// Every operation that has a row, offered or not.
pub(crate) fn all() -> impl Iterator<Item = &'static Operation> {
    std::iter::once(&sts::OPERATIONS)
        .chain(iam::FAMILIES)
        .chain(eks::FAMILIES)
        .chain(std::iter::once(&eks_auth::OPERATIONS))
        .flat_map(|table| table.iter())
}

/// Every operation with its parameters and their constraints, and the operations of the service models that have no row
/// (`"parameters": null`): for tests against the service models, and for documentation.
pub(super) fn catalogue() -> serde_json::Value {
    let rows = all().map(|operation| {
        let offered = !matches!(operation.answer, Answer::NotOffered);
        // Of what EKS does not offer, the route is known and nothing else.
        let is_read = offered || operation.http.is_none();
        json!({
            "service": operation.service.signing_name(),
            "name": operation.name,
            "offered": offered,
            "signed": operation.access != Access::Anonymous,
            "method": operation.http.map(|http| http.method),
            "path": operation.http.map(|http| http.path),
            "parameters": is_read.then(|| members(operation.shape)),
        })
    });
    let sts = sts::NOT_OFFERED.iter().map(|name| (Service::Sts, *name));
    let iam = iam::NOT_OFFERED.iter().map(|name| (Service::Iam, *name));
    let others = sts.chain(iam).map(|(service, name)| {
        json!({ "service": service.signing_name(), "name": name, "offered": false, "parameters": null })
    });
    rows.chain(others).collect()
}

fn members(shape: &[Parameter]) -> serde_json::Value {
    let member = |parameter: &Parameter| {
        json!({
            "name": parameter.name,
            "required": parameter.required,
            "place": match parameter.place {
                Place::Body => json!("body"),
                Place::Label(name) => json!({ "label": name }),
                Place::Query => json!("query"),
            },
            "kind": kind(&parameter.kind),
        })
    };
    let of_aws = shape.iter().filter(|parameter| !parameter.ours);
    of_aws.map(member).collect()
}

fn kind(kind: &Kind) -> serde_json::Value {
    let bound = |bound: usize| (bound != ANY_NUMBER).then_some(bound);
    match kind {
        Kind::Text(text) => json!({
            "type": "string",
            "min": text.least,
            "max": bound(text.most),
            "pattern": text.pattern.map(|pattern| pattern.text),
            "enum": text.choices,
            "secret": text.secret,
        }),
        Kind::Integer { least, most } => json!({
            "type": "integer",
            "min": (*least != i64::MIN).then_some(least),
            "max": (*most != i64::MAX).then_some(most),
        }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::List { least, most, of } => {
            json!({ "type": "list", "min": least, "max": bound(*most), "of": self::kind(of) })
        }
        Kind::Structure(shape) => json!({ "type": "structure", "members": members(shape) }),
        Kind::Map {
            least,
            most,
            key,
            value,
        } => json!({
            "type": "map",
            "min": least,
            "max": bound(*most),
            "key": self::kind(&Kind::Text(*key)),
            "value": self::kind(&Kind::Text(*value)),
        }),
    }
}

/// The operation that action and version name together (signature spec, section 5.1).
pub(super) fn find(parameters: &Parameters<'_>) -> Option<&'static Operation> {
    let key = (parameters.get("Version")?, parameters.get("Action")?);
    OPERATIONS.get(&key).copied()
}

/// The service that answers for a request: the one of its version, else the one it was signed for.
pub(super) fn service_of(
    parameters: Option<&Parameters<'_>>,
    signed_for: Option<Service>,
) -> Service {
    parameters
        .and_then(|parameters| parameters.get("Version"))
        .and_then(|version| {
            Service::QUERY
                .into_iter()
                .find(|service| service.version() == version)
        })
        .or(signed_for)
        .unwrap_or(Service::Sts)
}

/// What a request for no operation, or for one that is not offered, is answered.
pub(super) fn missing_operation(parameters: &Parameters<'_>) -> ApiError {
    match parameters.get("Action") {
        None => ApiError::new(
            400,
            "MissingAction",
            "The request must contain the parameter Action",
        ),
        Some(action) => {
            let shown: String = action.chars().take(128).collect();
            let version: String = parameters
                .get("Version")
                .unwrap_or("NO_VERSION_SPECIFIED")
                .chars()
                .take(32)
                .collect();
            ApiError::new(
                400,
                "InvalidAction",
                format!("Could not find operation {shown} for version {version}"),
            )
        }
    }
}

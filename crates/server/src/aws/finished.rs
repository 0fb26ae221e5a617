//! The one place where every call ends, with all that is known of it: what an audit log and usage records are made from.

use std::net::SocketAddr;

use countersign_policy::explain::StatementRef;
use jiff::Timestamp;

use super::query::Member;
use super::shape::{Input, Kind, Parameter, Value};
use super::{ApiError, Caller, Service};

/// What is told of every call: allowed, denied or failed, signed or not.
pub trait CallObserver: Send + Sync + std::fmt::Debug {
    /// Asked before a call is executed, when it is known which operation it is for. An observer that could not keep the
    /// record of it says no, and the call is answered `ServiceUnavailable` without an effect.
    fn accepts(&self, operation: &'static str, writes: bool) -> bool;

    /// Told when the answer of a call is known, before it is sent. Must not block.
    fn finished(&self, call: &Finished<'_>);
}

/// A call and how it ended.
#[derive(Debug)]
pub struct Finished<'a> {
    /// The service that the action, version or scope named.
    pub service: Service,
    /// The operation; `unknown` when there is none of this name.
    pub operation: &'static str,
    /// Whether the operation changes anything.
    pub writes: bool,
    /// When the call came.
    pub at: Timestamp,
    /// Id of the request.
    pub request_id: &'a str,
    /// Where it came from.
    pub peer: SocketAddr,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Headers as received.
    pub headers: &'a http::HeaderMap,
    /// Who signed; nobody for anonymous operations and for requests that were not authenticated.
    pub caller: Option<&'a Caller>,
    /// The parameters, if they were read.
    pub(crate) input: Option<&'a Input<'a>>,
    /// What was answered.
    pub(crate) outcome: Result<&'a Member, &'a ApiError>,
    /// What policies said, if they were asked.
    pub decision: Option<&'a Decided>,
}

/// What policies said to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The action that was asked for last: the one refused, if one was.
    pub action: String,
    /// The resource.
    pub resource: String,
    /// `allowed`, `explicitDeny`, `implicitDeny`.
    pub outcome: &'static str,
    /// The statement that granted or denied.
    pub statement: Option<StatementRef>,
}

impl Finished<'_> {
    /// The error that was answered.
    ///
    /// # Errors
    /// The error itself; `Ok` when the call succeeded.
    pub fn outcome(&self) -> Result<(), &ApiError> {
        self.outcome.map(drop)
    }

    /// The answer of a call that succeeded, as JSON. Secrets are in it.
    #[must_use]
    pub fn result(&self) -> Option<serde_json::Value> {
        self.outcome.ok().map(Member::to_json)
    }

    /// The parameters as JSON, by their names on the wire. Those that the shape calls secret are the text
    /// `HIDDEN_DUE_TO_SECURITY_REASONS`; parameters that the operation does not know are not in it.
    #[must_use]
    pub fn parameters(&self) -> Option<serde_json::Value> {
        self.input.map(parameters)
    }
}

/// Parameters as JSON, without those that the shape calls secret.
pub(super) fn parameters(input: &Input<'_>) -> serde_json::Value {
    let members = input
        .iter()
        .map(|(parameter, value)| (parameter.name.to_owned(), json(&parameter.kind, value)));
    serde_json::Value::Object(members.collect())
}

fn json(kind: &Kind, value: &Value<'_>) -> serde_json::Value {
    match (kind, value) {
        (Kind::Text(text), _) if text.secret => "HIDDEN_DUE_TO_SECURITY_REASONS".into(),
        (_, Value::Text(text)) => (*text).into(),
        (_, Value::Integer(number)) => (*number).into(),
        (_, Value::Boolean(value)) => (*value).into(),
        (Kind::List { of, .. }, Value::List(members)) => {
            members.iter().map(|member| json(of, member)).collect()
        }
        (Kind::Structure(shape), Value::Structure(members)) => {
            let shape_of = |name: &str| {
                shape
                    .iter()
                    .find(|parameter: &&Parameter| parameter.name == name)
            };
            let members = members.iter().filter_map(|(name, value)| {
                Some(((*name).to_owned(), json(&shape_of(name)?.kind, value)))
            });
            serde_json::Value::Object(members.collect())
        }
        (Kind::Map { .. }, Value::Map(members)) => {
            let members = members
                .iter()
                .map(|(key, value)| ((*key).to_owned(), json(kind, value)));
            serde_json::Value::Object(members.collect())
        }
        // A value is read with the kind it stands beside.
        (_, Value::List(_) | Value::Structure(_) | Value::Map(_)) => serde_json::Value::Null,
    }
}

//! The REST-JSON protocol: labels in the path, JSON in the body, the error's code in a header (EKS API spec, section 1).
//!
//! Everything behind the reading of a request and before the writing of its answer is that of the Query protocol: one table of
//! operations, one authentication, one authorization, one record of every call.

mod error;
mod route;
mod write;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use serde_json::{Map, Value as Json};

pub(super) use self::error::{generic, members_of_error, not_offered, worded};
pub(super) use self::route::Route;
pub(super) use self::write::body;
use super::ApiError;
use super::query::{self, Pairs, ParameterError};
use super::shape::{Input, Sent, read_rest, unreadable};

/// Clients that are remembered to have come through a proxy that rewrites paths.
const MAX_CLIENTS: usize = 1024;

/// A request whose operation is known.
pub(super) struct Request<'p> {
    pub(super) route: Route,
    query: Result<Pairs<'p>, ParameterError>,
    body: &'p Bytes,
    read: OnceLock<Json>,
}

impl<'p> Request<'p> {
    /// Finds the operation. Query string and body are looked at later, when it is known who sent them.
    ///
    /// # Errors
    /// `UnknownOperationException`, and `SerializationException` for a path that is no text.
    pub(super) fn of(head: &'p Parts, body: &'p Bytes) -> Result<Self, ApiError> {
        Ok(Self {
            route: route::route(head.method.as_str(), head.uri.path())?,
            query: query::pairs(head.uri.query().unwrap_or_default()),
            body,
            read: OnceLock::new(),
        })
    }

    /// The parameters, and what is wrong with them that only callers with permission are told.
    ///
    /// # Errors
    /// `SerializationException` for a body that is no JSON object, and for values of the wrong type.
    pub(super) fn read(&self) -> Result<(Input<'_>, Option<ApiError>), ApiError> {
        let query = self
            .query
            .as_ref()
            .map_err(|error| unreadable(error.to_string()))?;
        let body = match self.read.get() {
            Some(body) => body,
            None => {
                let body = object(self.body)?;
                self.read.get_or_init(|| body)
            }
        };
        let sent = Sent {
            labels: &self.route.labels,
            query,
            body,
        };
        read_rest(self.route.operation.shape, sent)
    }

    /// The value of a label of the path.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.route
            .labels
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a parameter of the query string.
    pub(super) fn asked(&self, name: &str) -> Option<&str> {
        self.query
            .as_ref()
            .ok()?
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_ref())
    }
}

/// A JSON object; nothing at all counts as an empty one. The parser bounds how deep it may go.
fn object(body: &[u8]) -> Result<Json, ApiError> {
    if body.trim_ascii().is_empty() {
        return Ok(Json::Object(Map::new()));
    }
    match serde_json::from_slice(body) {
        Ok(object @ Json::Object(_)) => Ok(object),
        Ok(_) => Err(unreadable("The body must be a JSON object")),
        Err(error) => Err(unreadable(format!(
            "The body is no JSON: line {}, column {}",
            error.line(),
            error.column()
        ))),
    }
}

/// Reads a request as far as it goes without a caller, for the fuzzer.
pub(super) fn read_any(method: &str, path: &str, query: &str, body: &[u8]) {
    let Ok(route) = route::route(method, path) else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    let request = Request {
        route,
        query: query::pairs(query),
        body: &body,
        read: OnceLock::new(),
    };
    let _ = request.read();
}

/// Clients whose paths came with decoded slashes, each told of once in the log.
#[derive(Debug, Default)]
pub(super) struct Rewritten(Mutex<HashSet<IpAddr>>);

impl Rewritten {
    pub(super) fn note(&self, client: IpAddr) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() < MAX_CLIENTS && clients.insert(client) {
            tracing::warn!(
                %client,
                "a path came with an ARN whose slashes are not escaped; a proxy that decodes paths also breaks signatures"
            );
        }
    }
}

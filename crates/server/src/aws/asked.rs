//! What a request asks for, before it is known who asks: the operation and its parameters, in either protocol.

use bytes::Bytes;
use http::Method;

use super::operation::{Answer, Operation};
use super::query::{self, Parameters};
use super::shape::Input;
use super::{ApiError, Service, rest, table};

/// What a request asks for, in the protocol of its path.
pub(super) enum Asked<'p> {
    Query(Result<Parameters<'p>, query::ParameterError>),
    Rest(rest::Request<'p>),
}

/// Whether a path is of a REST-JSON service; those of the Query protocol share `/`.
pub(super) fn is_rest(head: &http::request::Parts) -> bool {
    !matches!(head.uri.path(), "" | "/")
}

impl<'p> Asked<'p> {
    pub(super) fn of(head: &'p http::request::Parts, body: &'p Bytes) -> Result<Self, ApiError> {
        if is_rest(head) {
            return rest::Request::of(head, body).map(Self::Rest);
        }
        let form: &[u8] = if head.method == Method::POST {
            body
        } else {
            b""
        };
        let query = head.uri.query().unwrap_or_default();
        Ok(Self::Query(Parameters::parse(query, form)))
    }

    pub(super) fn operation(&self) -> Option<&'static Operation> {
        match self {
            Self::Query(parameters) => parameters.as_ref().ok().and_then(table::find),
            Self::Rest(request) => Some(request.route.operation),
        }
    }

    /// The operation.
    ///
    /// # Errors
    /// When there is none, or it is not offered.
    pub(super) fn offered(&self) -> Result<&'static Operation, ApiError> {
        if let Self::Query(Err(error)) = self {
            return Err(ApiError::new(400, "ValidationError", error.to_string()));
        }
        self.operation()
            .filter(|operation| !matches!(operation.answer, Answer::NotOffered))
            .ok_or_else(|| self.missing())
    }

    /// What is answered when the operation is not there, or not offered.
    pub(super) fn missing(&self) -> ApiError {
        match self {
            Self::Query(Ok(parameters)) => table::missing_operation(parameters),
            Self::Query(Err(error)) => ApiError::new(400, "ValidationError", error.to_string()),
            Self::Rest(request) => rest::not_offered(request.route.operation),
        }
    }

    pub(super) fn service(&self, head: &http::request::Parts) -> Service {
        match (self.operation(), self) {
            (Some(operation), _) => operation.service,
            (None, Self::Query(parameters)) => {
                table::service_of(parameters.as_ref().ok(), Service::signed_for(head))
            }
            (None, Self::Rest(_)) => Service::Eks,
        }
    }

    /// The parameters, and what is wrong with them that is told behind the permission.
    pub(super) fn read(
        &self,
        operation: &'static Operation,
    ) -> Result<(Input<'_>, Option<ApiError>), ApiError> {
        match self {
            Self::Query(Ok(parameters)) => {
                let input = Input::read(operation.shape, parameters, operation.service.style())?;
                Ok((input, None))
            }
            Self::Query(Err(_)) => Err(self.missing()),
            Self::Rest(request) => request.read(),
        }
    }
}

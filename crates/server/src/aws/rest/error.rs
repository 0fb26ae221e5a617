//! Errors in the words of REST-JSON services (EKS API spec, section 1.4).

use serde_json::{Map, Value as Json};

use super::Request;
use crate::aws::operation::Operation;
use crate::aws::{ApiError, Service};

/// The error as this operation says it. What is shared with IAM and STS has IAM's codes until it comes here.
pub(in crate::aws) fn worded(operation: &Operation, error: ApiError) -> ApiError {
    if operation.service == Service::EksAuth {
        return of_eks_auth(error);
    }
    let error = generic(error);
    let code = match error.code {
        "InvalidParameterException" if has_codes_of_tags(operation) => "BadRequestException",
        "ResourceNotFoundException" if has_codes_of_tags(operation) => "NotFoundException",
        other => other,
    };
    ApiError { code, ..error }
}

/// The error as EKS Auth says it (EKS API spec, section 1.4): who may not ask is told so with status 400, faults of ours
/// have another name, and what is wrong with a signature is what it is everywhere.
fn of_eks_auth(error: ApiError) -> ApiError {
    let (status, code) = match error.code {
        "AccessDenied" | "AccessDeniedException" => (400, "AccessDeniedException"),
        "InternalFailure" | "ServiceFailure" | "ServerException" => {
            (500, "InternalServerException")
        }
        // Sizes and texts of what is stored with an association: another request would not help.
        "PackedPolicyTooLarge" | "MalformedPolicyDocument" => (400, "InvalidRequestException"),
        _ => return generic(error),
    };
    ApiError {
        status,
        code,
        ..error
    }
}

/// The error as REST-JSON services say it.
pub(in crate::aws) fn generic(error: ApiError) -> ApiError {
    let (status, code) = match error.code {
        "AccessDenied" | "AccessDeniedException" => (403, "AccessDeniedException"),
        "InvalidClientTokenId" => (403, "UnrecognizedClientException"),
        "ExpiredToken" => (403, "ExpiredTokenException"),
        "MissingAuthenticationToken" => (403, "MissingAuthenticationTokenException"),
        "Throttling" => (429, "ThrottlingException"),
        "ValidationError" => (400, "InvalidParameterException"),
        "InternalFailure" | "ServiceFailure" => (500, "ServerException"),
        "ServiceUnavailable" => (503, "ServiceUnavailableException"),
        other => (error.status, other),
    };
    ApiError {
        status,
        code,
        ..error
    }
}

/// Operations on tags declare other codes than the rest of the API.
fn has_codes_of_tags(operation: &Operation) -> bool {
    matches!(
        operation.name,
        "TagResource" | "UntagResource" | "ListTagsForResource"
    )
}

/// What is answered for an operation of the service model that is not offered.
pub(in crate::aws) fn not_offered(operation: &Operation) -> ApiError {
    ApiError::new(
        404,
        "UnknownOperationException",
        format!("{} is not offered.", operation.name),
    )
}

/// Members of an error's body beside its message: what the request was about, for the errors whose shapes have them.
pub(in crate::aws) fn members_of_error(
    request: &Request<'_>,
    error: &ApiError,
) -> Map<String, Json> {
    let mut members = Map::new();
    members.insert("message".to_owned(), error.message.as_str().into());
    if !matches!(
        error.code,
        "ClientException"
            | "InvalidParameterException"
            | "InvalidRequestException"
            | "InvalidStateException"
            | "ResourceInUseException"
            | "ResourceLimitExceededException"
            | "ResourceNotFoundException"
            | "ServerException"
    ) {
        return members;
    }
    let is_cluster = request
        .route
        .operation
        .http
        .is_some_and(|http| http.path.starts_with("/clusters/"));
    let created = || {
        let name = request.read.get()?.get("name")?.as_str()?;
        (request.route.operation.name == "CreateCluster").then_some(name)
    };
    let named = [
        (
            "clusterName",
            request
                .label("name")
                .filter(|_| is_cluster)
                .or_else(created),
        ),
        ("nodegroupName", request.label("nodegroupName")),
        ("fargateProfileName", request.label("fargateProfileName")),
        ("addonName", request.label("addonName")),
    ];
    for (member, name) in named {
        if let Some(name) = name {
            members.insert(member.to_owned(), name.into());
        }
    }
    members
}

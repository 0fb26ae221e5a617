//! Why a pod gets no credentials, and how that is answered (EKS API spec, sections 1.4 and 11).
//!
//! Agents drop what they have cached for a pod on four codes: `ResourceNotFoundException`, `ExpiredTokenException`,
//! `InvalidTokenException` and `AccessDeniedException`. So a fault that passes is never answered with one of them: what is
//! not loaded, not reachable or not known at the moment is [`Refusal::Unavailable`], `ServiceUnavailableException`.

use countersign_oidc::TokenError;
use jiff::Timestamp;

use crate::aws::ApiError;

/// The keys of the cluster are not there.
pub(super) const NO_KEYS: Refusal = Refusal::Unavailable(
    "The keys of the cluster's service account tokens are not known at the moment.",
);

/// The key of a token is none that is known, and the API server was last asked for its keys before it may have been signed.
pub(super) const KEYS_MAY_BE_NEWER: Refusal = Refusal::Unavailable(
    "The key of the token is not known, and the cluster may have a new one: it is asked again within a minute.",
);

/// Why a pod gets no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The account has no cluster of this name in the region.
    NoCluster(String),
    /// The service account has no association.
    NoAssociation {
        namespace: String,
        service_account: String,
    },
    /// The pod has no role by its annotations.
    NoAnnotatedRole(String),
    /// The pod's annotations name a role that it may not have, or cannot be meant.
    RoleNotAllowed(String),
    /// Annotations give no roles in this cluster.
    NotConfigured(String),
    /// The token is not one that the cluster issued to a pod that is there; the text says what is wrong.
    InvalidToken(String),
    /// The token's time is over, at this second.
    ExpiredToken { expires: i64 },
    /// The caller may not ask for this pod.
    NotYourPod(String),
    /// The role of the association is not there, or does not trust EKS Pod Identity for this pod.
    RoleRefuses,
    /// The role of the association may not assume the target role, or the target role does not trust it for this pod.
    TargetRefuses,
    /// What is stored with the association cannot be used.
    Unusable(String),
    /// STS has too much to do.
    Throttled,
    /// Something that has to be known is not known at the moment; the text goes to the log and to the caller.
    Unavailable(&'static str),
    /// A fault of ours, of which the log says more.
    Internal,
    /// What some other part of the service answers, with its own code.
    Other(ApiError),
}

impl Refusal {
    /// Status, code and message on the wire.
    pub(super) fn into_error(self, now: Timestamp) -> ApiError {
        let (status, code, message) = match self {
            Self::NoCluster(name) => (
                404,
                "ResourceNotFoundException",
                format!("No cluster found for name: {name}."),
            ),
            Self::NoAssociation {
                namespace,
                service_account,
            } => (
                404,
                "ResourceNotFoundException",
                format!(
                    "No pod identity association found for service account {service_account} in namespace {namespace}."
                ),
            ),
            Self::NoAnnotatedRole(why) => (404, "ResourceNotFoundException", why),
            Self::RoleNotAllowed(why) => (400, "RoleNotAllowedException", why),
            Self::NotConfigured(cluster) => (
                400,
                "AnnotatedRolesNotConfiguredException",
                format!(
                    "Annotations of kube2iam and kiam give no roles in cluster {cluster}: `annotatedRoles` is not configured for it."
                ),
            ),
            Self::InvalidToken(why) => (
                400,
                "InvalidTokenException",
                format!("The token included in the request is invalid: {why}."),
            ),
            Self::ExpiredToken { expires } => (
                400,
                "ExpiredTokenException",
                format!(
                    "The token included in the request is expired: current date/time {now} must be before the expiration date/time {}.",
                    Timestamp::from_second(expires).unwrap_or(Timestamp::MIN)
                ),
            ),
            Self::NotYourPod(why) => (400, "AccessDeniedException", why),
            Self::RoleRefuses => (
                400,
                "AccessDeniedException",
                "Unauthorized Exception! EKS does not have permissions to assume the associated role."
                    .to_owned(),
            ),
            Self::TargetRefuses => (
                400,
                "AccessDeniedException",
                "Unauthorized Exception! The associated role does not have permissions to assume the target role."
                    .to_owned(),
            ),
            Self::Unusable(why) => (400, "InvalidRequestException", why),
            Self::Throttled => (429, "ThrottlingException", "Rate exceeded".to_owned()),
            Self::Unavailable(why) => (503, "ServiceUnavailableException", why.to_owned()),
            Self::Internal => (
                500,
                "InternalServerException",
                "The request processing has failed because of an unknown error, exception or failure."
                    .to_owned(),
            ),
            Self::Other(error) => return error,
        };
        ApiError::new(status, code, message)
    }

    /// The word of the metric.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::NoCluster(_) => "no_cluster",
            Self::NoAssociation { .. } => "no_association",
            Self::NoAnnotatedRole(_) => "no_annotated_role",
            Self::RoleNotAllowed(_) => "role_not_allowed",
            Self::NotConfigured(_) => "not_configured",
            Self::InvalidToken(_) => "invalid_token",
            Self::ExpiredToken { .. } => "expired_token",
            Self::NotYourPod(_) => "wrong_node",
            Self::RoleRefuses => "role_refuses",
            Self::TargetRefuses => "target_refuses",
            Self::Unusable(_) => "unusable_association",
            Self::Throttled => "throttled",
            Self::Unavailable(_) => "unavailable",
            Self::Internal => "internal",
            Self::Other(_) => "other",
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        match error.code {
            "PackedPolicyTooLarge" | "MalformedPolicyDocument" => Self::Unusable(error.message),
            _ => Self::Other(error),
        }
    }
}

impl From<TokenError> for Refusal {
    /// The keys of the cluster are ours to know: that they are not there, or could not be asked for, says nothing about the
    /// token.
    fn from(error: TokenError) -> Self {
        match &error {
            TokenError::Expired { expires, .. } => Self::ExpiredToken { expires: *expires },
            TokenError::IssuerUnreachable { .. }
            | TokenError::IssuerUnusable { .. }
            | TokenError::IssuerUntrusted { .. }
            | TokenError::NoProvider { .. } => NO_KEYS,
            // What the key is missing for has its reason in the text for operators only.
            TokenError::UnknownKey(_) => {
                Self::InvalidToken("it is not signed by a key of the cluster".to_owned())
            }
            other => Self::InvalidToken(sentence(&other.message())),
        }
    }
}

/// A sentence in the middle of another.
fn sentence(text: &str) -> String {
    let mut text = text.trim_end_matches('.').to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every refusal, what it is answered with, and whether an agent gives up what it has.
    #[test]
    fn faults_that_pass_are_never_final() {
        let issuer = || "https://i.example".into();
        let cases: [(Refusal, u16, &str); 23] = [
            (
                Refusal::NoAnnotatedRole("x".into()),
                404,
                "ResourceNotFoundException",
            ),
            (
                Refusal::RoleNotAllowed("x".into()),
                400,
                "RoleNotAllowedException",
            ),
            (
                Refusal::NotConfigured("c".into()),
                400,
                "AnnotatedRolesNotConfiguredException",
            ),
            (
                Refusal::NoCluster("c".into()),
                404,
                "ResourceNotFoundException",
            ),
            (
                Refusal::NoAssociation {
                    namespace: "n".into(),
                    service_account: "s".into(),
                },
                404,
                "ResourceNotFoundException",
            ),
            (
                Refusal::InvalidToken("x".into()),
                400,
                "InvalidTokenException",
            ),
            (
                Refusal::ExpiredToken { expires: 0 },
                400,
                "ExpiredTokenException",
            ),
            (
                Refusal::NotYourPod("x".into()),
                400,
                "AccessDeniedException",
            ),
            (Refusal::RoleRefuses, 400, "AccessDeniedException"),
            (Refusal::TargetRefuses, 400, "AccessDeniedException"),
            (
                Refusal::Unusable("x".into()),
                400,
                "InvalidRequestException",
            ),
            (Refusal::Throttled, 429, "ThrottlingException"),
            (
                Refusal::Unavailable("x"),
                503,
                "ServiceUnavailableException",
            ),
            (Refusal::Internal, 500, "InternalServerException"),
            (
                ApiError::new(400, "PackedPolicyTooLarge", "x").into(),
                400,
                "InvalidRequestException",
            ),
            (
                TokenError::BadSignature.into(),
                400,
                "InvalidTokenException",
            ),
            (
                TokenError::UnknownKey("x").into(),
                400,
                "InvalidTokenException",
            ),
            (
                TokenError::Audience("x").into(),
                400,
                "InvalidTokenException",
            ),
            (
                TokenError::UnsupportedAlgorithm.into(),
                400,
                "InvalidTokenException",
            ),
            (
                TokenError::Expired { expires: 1, now: 2 }.into(),
                400,
                "ExpiredTokenException",
            ),
            (
                TokenError::IssuerUnreachable { issuer: issuer() }.into(),
                503,
                "ServiceUnavailableException",
            ),
            (
                TokenError::IssuerUnusable { issuer: issuer() }.into(),
                503,
                "ServiceUnavailableException",
            ),
            (
                TokenError::IssuerUntrusted { issuer: issuer() }.into(),
                503,
                "ServiceUnavailableException",
            ),
        ];
        for (refusal, status, code) in cases {
            let shown = format!("{refusal:?}");
            let passes = matches!(
                refusal,
                Refusal::Unavailable(_) | Refusal::Throttled | Refusal::Internal
            );
            let error = refusal.into_error(Timestamp::UNIX_EPOCH);
            assert_eq!((error.status, error.code), (status, code), "{shown}");
            let is_final = matches!(
                error.code,
                "ResourceNotFoundException"
                    | "ExpiredTokenException"
                    | "InvalidTokenException"
                    | "AccessDeniedException"
            );
            assert!(!(passes && is_final), "{shown}");
        }
    }
}

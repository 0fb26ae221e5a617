//! A service account token of a cluster: the one check for pods' tokens and for those of agents.

use countersign_oidc::{Claims, TokenError, UnverifiedToken};
use countersign_store::DirectorySnapshot;
use countersign_store::records::Cluster;
use jiff::Timestamp;

use super::error::{KEYS_MAY_BE_NEWER, NO_KEYS, Refusal};
use super::token::TIMES;
use crate::issuer::ClusterIssuers;

/// Reads a token.
///
/// # Errors
/// `InvalidTokenException`.
pub(super) fn read(text: &str) -> Result<UnverifiedToken<'_>, Refusal> {
    Ok(UnverifiedToken::parse(text)?)
}

/// Checks that `token` is of the cluster's issuer, signed by it, in time, for `audience`, and that what it is bound to is
/// there (EKS API spec, section 11, in this order).
///
/// # Errors
/// `InvalidTokenException`, `ExpiredTokenException`; `ServiceUnavailableException` when keys, or what the token is bound to,
/// are not known at the moment.
pub(super) async fn check<'t>(
    (snapshot, issuers): (&DirectorySnapshot, &ClusterIssuers),
    cluster: &Cluster,
    text: &str,
    token: &'t UnverifiedToken<'_>,
    audience: &'static str,
    now: Timestamp,
) -> Result<&'t Claims, Refusal> {
    if token.issuer() != issuers.issuer_url(cluster) {
        return Err(Refusal::InvalidToken(
            "its issuer is not the cluster's".to_owned(),
        ));
    }
    let verified = issuers
        .verify(cluster, token, now)
        .await
        .map_err(|refused| match refused {
            // Nobody said yet what the cluster signs with, which says nothing about the token.
            TokenError::UnknownKey(_) if snapshot.cluster_keys(&cluster.id).is_none() => NO_KEYS,
            // Agents drop a pod's credentials for a token that is invalid.
            TokenError::UnknownKey(_) | TokenError::BadSignature
                if may_be_of_a_new_key(&refused, token)
                    && !issuers.knows_all_keys(cluster, token.unverified_claims().issued, now) =>
            {
                KEYS_MAY_BE_NEWER
            }
            refused => refused.into(),
        })?;
    let claims = verified.accept(&[audience], TIMES, now)?.claims();
    let bound = issuers.bound(cluster, text, claims).await;
    issuers
        .admit(cluster, &bound)
        .map_err(|refused| match refused {
            TokenError::IssuerUnreachable { .. } => Refusal::Unavailable(
                "It cannot be told at the moment whether the pod of the token exists.",
            ),
            refused => refused.into(),
        })?;
    Ok(claims)
}

/// A token that names no key was tried with the only one there is, which may have been replaced.
fn may_be_of_a_new_key(refused: &TokenError, token: &UnverifiedToken<'_>) -> bool {
    !matches!(refused, TokenError::BadSignature) || token.key_id().is_none()
}

//! Tokens of people at clusters of the EKS API: whose they are, what verifies them, whom they make (authentication spec,
//! section 9.3; EKS API spec, section 12).
//!
//! A token that begins like those of IAM identities is never looked at here, and one whose issuer no config of the cluster
//! names is left to the rules of those, which refuse it: nobody is asked for keys of an issuer that a token brought along.

use std::borrow::Cow;
use std::sync::Arc;

use countersign_mapping::{KubernetesIdentity, PersonRefused, PersonRules, canonical_issuer};
use countersign_oidc::{IssuerUrl, TokenError, UnverifiedIdToken};
use countersign_store::records::IdentityProviderConfig;
use countersign_store::{DirectorySnapshot, IdentityProviderConfigEntry};
use countersign_token::PREFIX;

use super::denial::{Denial, DenialClass};

/// What the record of a config says of its tokens.
pub(super) fn rules_of(record: &IdentityProviderConfig) -> PersonRules<'_> {
    PersonRules {
        issuer_url: &record.issuer_url,
        client_id: &record.client_id,
        username_claim: record.username_claim.as_deref(),
        username_prefix: record.username_prefix.as_deref(),
        groups_claim: record.groups_claim.as_deref(),
        groups_prefix: record.groups_prefix.as_deref(),
        required_claims: &record.required_claims,
    }
}

/// The token and the config whose token it claims to be; nothing when it is nobody's here.
pub(super) fn whose<'t>(
    snapshot: &DirectorySnapshot,
    cluster_id: &str,
    token: &'t str,
    max_bytes: usize,
) -> Option<(UnverifiedIdToken<'t>, Arc<IdentityProviderConfigEntry>)> {
    if token.len() > max_bytes || token.starts_with(PREFIX) {
        return None;
    }
    // Clusters without configs are the many; their tokens are not even decoded.
    snapshot
        .identity_provider_configs(cluster_id, None)
        .next()?;
    let token = UnverifiedIdToken::parse(token).ok()?;
    let issuer = canonical_issuer(token.issuer());
    let config = snapshot.identity_provider_config_of_issuer(cluster_id, issuer)?;
    Some((token, Arc::clone(config)))
}

/// The config as it is now, unless it went, or was made again, while keys were waited for.
pub(super) fn still_there<'s>(
    snapshot: &'s DirectorySnapshot,
    config: &IdentityProviderConfig,
) -> Result<&'s IdentityProviderConfig, Denial> {
    snapshot
        .identity_provider_config(&config.cluster_id, &config.name)
        .map(|known| &known.record)
        .filter(|known| known.uuid == config.uuid && known.deleting.is_none())
        .ok_or_else(|| {
            refused(
                DenialClass::Person,
                "oidc_config_gone",
                "the identity provider config was disassociated meanwhile",
            )
        })
}

/// The issuer of a config, as the source of keys takes it.
pub(super) fn issuer_of(config: &IdentityProviderConfig) -> Result<IssuerUrl, Denial> {
    config.issuer_url.parse().map_err(|error| {
        refused(
            DenialClass::Person,
            "oidc_issuer_unusable",
            &format!("the issuer of the config cannot be used: {error}"),
        )
    })
}

/// Groups that only some mapping sources may give are none that a token gives.
pub(super) fn check_privileged(
    user: &KubernetesIdentity,
    is_privileged: impl Fn(&str) -> bool,
) -> Result<(), Denial> {
    match user.groups.iter().find(|group| is_privileged(group)) {
        None => Ok(()),
        Some(_) => Err(refused(
            DenialClass::Person,
            "oidc_privileged_group",
            "a group of the token is one that only some mapping sources may give (privilegedGroups)",
        )),
    }
}

/// A verified token that makes nobody.
pub(super) fn by_person(error: &PersonRefused) -> Denial {
    let class = match error {
        PersonRefused::Expired { .. } | PersonRefused::NotYetValid { .. } => DenialClass::TokenTime,
        _ => DenialClass::Person,
    };
    refused(class, error.code(), &error.to_string())
}

/// A token that was not verified.
pub(super) fn by_id_token(error: &TokenError) -> Denial {
    let (class, label) = match error {
        TokenError::IssuerUnreachable { .. } => {
            (DenialClass::LookupFailed, "oidc_issuer_unreachable")
        }
        TokenError::IssuerUnusable { .. } => (DenialClass::Person, "oidc_issuer_unusable"),
        TokenError::IssuerUntrusted { .. } => (DenialClass::Person, "oidc_issuer_untrusted"),
        TokenError::UnknownKey(_) => (DenialClass::Person, "oidc_unknown_key"),
        TokenError::BadSignature => (DenialClass::Person, "oidc_signature"),
        TokenError::UnsupportedAlgorithm => (DenialClass::Person, "oidc_algorithm"),
        _ => (DenialClass::Person, "oidc_malformed"),
    };
    refused(class, label, &error.to_string())
}

fn refused(class: DenialClass, label: &'static str, text: &str) -> Denial {
    Denial {
        class,
        reason: Cow::Borrowed(label),
        label,
        text: format!("oidc: {text}"),
        nearest: Vec::new(),
    }
}

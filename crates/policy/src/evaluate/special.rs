//! Services with a rule of their own (policy language spec, section 8.6).

use serde::Serialize;

use super::{Decision, Route};
use crate::request::{Credentials, Identity, PrincipalType, Request, Special};

/// A rule that decided, or took part in deciding, beside the policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SpecialRule {
    /// `sts:GetCallerIdentity` is allowed for every authenticated caller, even against an explicit deny.
    GetCallerIdentity,
    /// `sts:GetSessionToken` needs no permission.
    GetSessionToken,
    /// The trust policy of a role must grant, also in one account.
    TrustRequired,
    /// The policy of a KMS key must grant, also in one account.
    KmsKeyPolicyRequired,
    /// These credentials cannot call this API at all.
    CredentialRestriction,
    /// The root user cannot assume roles.
    RootUser,
    /// AWS managed policies cannot be changed.
    AwsManagedPolicy,
    /// Roles under `/aws-reserved/` and service-linked roles cannot be changed.
    ProtectedRole,
    /// Aliases under `alias/aws/` cannot be changed.
    ReservedAlias,
}

impl SpecialRule {
    /// The rule in one sentence.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::GetCallerIdentity => {
                "every authenticated caller may ask who it is; no policy can deny that"
            }
            Self::GetSessionToken => "sts:GetSessionToken needs no permission",
            Self::TrustRequired => "the trust policy of the role must grant, also in one account",
            Self::KmsKeyPolicyRequired => "the key policy must grant, also in one account",
            Self::CredentialRestriction => {
                "this kind of temporary credentials cannot call this API"
            }
            Self::RootUser => "roles may not be assumed by root accounts",
            Self::AwsManagedPolicy => "policies of AWS cannot be changed",
            Self::ProtectedRole => "this role can be changed only by AWS",
            Self::ReservedAlias => "aliases under alias/aws/ cannot be changed",
        }
    }
}

/// What is decided before any policy is read.
pub(super) fn before_policies(request: &Request<'_>) -> Option<Decision> {
    let caller = request.principal();
    let special = request.action().special();
    if !special.has(Special::IAM) && !special.has(Special::STS) {
        return None;
    }
    let restricted = match caller.identity() {
        Identity::Session { .. } => {
            special.has(Special::SESSION_TOKEN) || special.has(Special::FEDERATION_TOKEN)
        }
        Identity::FederatedUser { .. } => {
            special.has(Special::IAM)
                || (special.has(Special::STS) && !special.has(Special::CALLER_IDENTITY))
        }
        Identity::User { .. } | Identity::Root => match caller.credentials() {
            Credentials::LongTerm => false,
            Credentials::SessionToken { mfa } => {
                (special.has(Special::IAM) && !mfa)
                    || (special.has(Special::STS)
                        && !special.has(Special::CALLER_IDENTITY)
                        && !special.has(Special::ASSUME_ROLE))
            }
        },
        Identity::Service { .. } | Identity::Anonymous | Identity::Federated { .. } => false,
    };
    if restricted {
        return Some(Decision::implicit_deny(Some(
            SpecialRule::CredentialRestriction,
        )));
    }
    if special.has(Special::CALLER_IDENTITY) && caller.kind() != PrincipalType::Anonymous {
        return Some(Decision {
            special: Some(SpecialRule::GetCallerIdentity),
            ..Decision::allowed(Route::Special, None)
        });
    }
    if special.has(Special::ASSUME_ROLE) && caller.kind() == PrincipalType::Root {
        return Some(Decision::implicit_deny(Some(SpecialRule::RootUser)));
    }
    if special.has(Special::SESSION_TOKEN)
        && !matches!(caller.kind(), PrincipalType::User | PrincipalType::Root)
    {
        return Some(Decision::implicit_deny(Some(
            SpecialRule::CredentialRestriction,
        )));
    }
    None
}

/// Writes that no customer may do, whatever policies grant.
pub(super) fn protected(request: &Request<'_>) -> Option<SpecialRule> {
    let special = request.action().special();
    if !special.has(Special::GUARDED_WRITE) {
        return None;
    }
    let [_, service, _, account, resource] = request.parsed_resource().fields()?;
    if special.has(Special::POLICY_WRITE)
        && service == "iam"
        && account == "aws"
        && resource.starts_with("policy/")
    {
        return Some(SpecialRule::AwsManagedPolicy);
    }
    if special.has(Special::ROLE_WRITE) && service == "iam" {
        let reserved = resource.starts_with("role/aws-reserved/");
        // Service-linked roles are made and deleted through actions of their own, may be passed, and have tags and a
        // description of their customers (IAM API spec, section 4.4).
        let linked = resource.starts_with("role/aws-service-role/")
            && !matches!(
                request.action().name(),
                "createservicelinkedrole"
                    | "deleteservicelinkedrole"
                    | "passrole"
                    | "tagrole"
                    | "untagrole"
                    | "updateroledescription"
            );
        if reserved || linked {
            return Some(SpecialRule::ProtectedRole);
        }
    }
    (special.has(Special::ALIAS_WRITE) && service == "kms" && resource.starts_with("alias/aws/"))
        .then_some(SpecialRule::ReservedAlias)
}

/// Whether the resource's own policy must grant even inside one account.
pub(super) fn needs_resource_grant(request: &Request<'_>) -> Option<SpecialRule> {
    let special = request.action().special();
    if !special.has(Special::TRUST) && !special.has(Special::KMS) {
        return None;
    }
    let [_, service, _, _, resource] = request.parsed_resource().fields()?;
    if special.has(Special::TRUST) && service == "iam" && resource.starts_with("role/") {
        Some(SpecialRule::TrustRequired)
    } else if special.has(Special::KMS) && service == "kms" && resource.starts_with("key/") {
        Some(SpecialRule::KmsKeyPolicyRequired)
    } else {
        None
    }
}

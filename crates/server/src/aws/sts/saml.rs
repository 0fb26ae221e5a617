//! AssumeRoleWithSAML (STS spec, section 2.4; policy language spec, sections 7.5 and 8.6).

use std::sync::Arc;

use countersign_arn::{Arn, Tag};
use countersign_policy::{
    Action, AssumeRole, Attached, Context, Layers, Outcome, Principal, Request, decide_assume_role,
    tables,
};
use countersign_saml::{Assertion, Refusal, name_qualifier, verify};
use countersign_session::{Binding, Chain, Federation, SessionKind, SessionTags};
use countersign_store::{RoleEntry, SamlProviderEntry};

use super::assume_role::denied;
use super::context::Facts;
use super::request::{AssumeRoleRequest, has_arn_shape};
use super::role_session::{NewSession, find_role, session_policies};
use crate::aws::ApiError;
use crate::aws::finished::Decided;
use crate::aws::operation::Call;
use crate::aws::query::Member;

const ACTION: &str = "sts:AssumeRoleWithSAML";
/// Roles with this prefix belong to IAM Identity Center, which has its own way to them.
const RESERVED_ROLES: &str = "AWSReservedSSO_";

/// The order of checks is that of the spec; what the assertion itself has to be is
/// [`countersign_saml::verify`]'s to say. The assertion counts as used only when credentials are issued for it.
pub(super) async fn assume_role_with_saml(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let (role_arn, provider_arn) = (input.required("RoleArn"), input.required("PrincipalArn"));
    let policy_arns: Vec<&str> = input
        .list("PolicyArns")
        .iter()
        .filter_map(|policy| policy.member("arn"))
        .collect();
    let mut arns = [role_arn, provider_arn]
        .into_iter()
        .chain(policy_arns.iter().copied());
    if let Some(arn) = arns.find(|arn| !has_arn_shape(arn)) {
        return Err(ApiError::new(
            400,
            "ValidationError",
            format!("{arn} is invalid"),
        ));
    }
    let provider = find_provider(call, role_arn, provider_arn).ok_or_else(|| {
        tracing::info!(
            request_id = call.request_id,
            role = ?role_arn,
            provider = ?provider_arn,
            "no SAML provider of this name in the role's account"
        );
        invalid_token("Specified provider doesn't exist.")
    })?;
    let refuse = |refusal: Refusal| {
        tracing::info!(
            request_id = call.request_id,
            provider = &*provider.arn,
            reason = %refusal,
            "SAML response refused"
        );
        ApiError::new(
            refusal.code().status(),
            refusal.code().as_str(),
            refusal.message(),
        )
    };
    let until = provider.record.valid_until;
    if call.now >= until {
        return Err(refuse(Refusal::MetadataExpired { until }));
    }
    let metadata = call.saml.metadata(provider).await?;
    let response = input.required("SAMLAssertion");
    let assertion = verify(response, &metadata, call.now, call.saml.options()).map_err(refuse)?;

    let request = AssumeRoleRequest {
        role_arn,
        session_name: &assertion.claims.session_name,
        policy: input.text("Policy"),
        policy_arns,
        duration_seconds: input.integer("DurationSeconds"),
        ..AssumeRoleRequest::default()
    };
    let federated = Federated {
        call,
        provider,
        assertion: &assertion,
        request: &request,
    };
    federated.assume()
}

fn invalid_token(message: &str) -> ApiError {
    ApiError::new(400, "InvalidIdentityToken", message)
}

/// The provider whose ARN this is, with case, if it lives in the role's account.
fn find_provider<'s>(
    call: &'s Call<'_>,
    role_arn: &str,
    provider_arn: &str,
) -> Option<&'s Arc<SamlProviderEntry>> {
    let (role, provider) = (Arn::parse(role_arn).ok()?, Arn::parse(provider_arn).ok()?);
    let name = provider.resource.strip_prefix("saml-provider/")?;
    if role.account != provider.account {
        return None;
    }
    call.snapshot
        .saml_provider(provider.account.parse().ok()?, name)
        .filter(|entry| *entry.arn == *provider_arn)
}

/// A call whose assertion was verified.
struct Federated<'a> {
    call: &'a Call<'a>,
    provider: &'a SamlProviderEntry,
    assertion: &'a Assertion,
    request: &'a AssumeRoleRequest<'a>,
}

impl Federated<'_> {
    fn assume(&self) -> Result<Member, ApiError> {
        let Self {
            call,
            provider,
            assertion,
            request,
        } = self;
        let chain = Chain::of(None);
        let claimed: Vec<Tag> = assertion
            .claims
            .tags
            .iter()
            .map(|(key, value)| Tag {
                key: key.clone(),
                value: value.clone(),
            })
            .collect();
        let tags = chain.session_tags(&claimed, &assertion.claims.transitive_tag_keys)?;
        let role = self.authorize(&chain, &tags)?;

        let depth = chain.next_depth()?;
        let asked =
            chain.role_seconds(request.duration_seconds, role.record.max_session_duration)?;
        let seconds = self.at_most_until_the_session_ends(asked)?;
        let (policies, percent) =
            session_policies(call, role, request.policy, &request.policy_arns, &tags)?;
        let qualifier = self.name_qualifier();
        let session = NewSession {
            kind: SessionKind::Saml,
            role,
            name: request.session_name,
            seconds,
            policies,
            tags,
            source_identity: assertion.claims.source_identity.clone(),
            federation: Some(Federation::Saml {
                provider: (&*provider.arn).into(),
                issuer: assertion.issuer.clone(),
                subject: assertion.subject.clone(),
                subject_type: Some(assertion.subject_type.clone()),
                name_qualifier: Some(qualifier.as_str().into()),
            }),
            binding: Binding::default(),
            mfa: false,
            depth,
            signed_with: None,
        };
        let issued = session.issue(call)?;
        // Last, so that a call which fails does not use the assertion up; what was sealed is dropped then.
        call.saml
            .use_once(provider, assertion, call.now)
            .map_err(|replay| {
                tracing::info!(
                    request_id = call.request_id,
                    provider = &*provider.arn,
                    assertion = &*assertion.id,
                    reason = %replay,
                    "SAML response refused"
                );
                invalid_token(
                    "Response has been used before, or too many responses are still valid.",
                )
            })?;
        tracing::info!(
            request_id = call.request_id,
            provider = &*provider.arn,
            subject = &*assertion.subject,
            role = &*role.arn,
            session = request.session_name,
            access_key_id = &*issued.access_key_id,
            seconds,
            "role assumed with SAML"
        );

        let mut members = vec![issued.credentials, issued.assumed_role_user];
        if let Some(percent) = percent {
            members.push(("PackedPolicySize", Member::Number(i64::from(percent))));
        }
        members.extend([
            ("Subject", Member::Text(assertion.subject.to_string())),
            (
                "SubjectType",
                Member::Text(assertion.subject_type.to_string()),
            ),
            ("Issuer", Member::Text(assertion.issuer.to_string())),
            ("Audience", Member::Text(assertion.recipient.to_string())),
            ("NameQualifier", Member::Text(qualifier)),
        ]);
        if let Some(identity) = &assertion.claims.source_identity {
            members.push(("SourceIdentity", Member::Text(identity.to_string())));
        }
        Ok(Member::Structure(members))
    }

    /// A role session does not outlast the one at the identity provider.
    fn at_most_until_the_session_ends(&self, seconds: u32) -> Result<u32, ApiError> {
        let Some(end) = self.assertion.session_not_after else {
            return Ok(seconds);
        };
        let left = end.as_second().saturating_sub(self.call.now.as_second());
        match u32::try_from(left) {
            Ok(left) if left > 0 => Ok(seconds.min(left)),
            _ => Err(ApiError::new(
                400,
                "ExpiredTokenException",
                "The session at the identity provider is over.",
            )),
        }
    }

    /// The identity provider has to offer the role, and the role's trust policy has to trust the provider. An unknown
    /// role is decided like one that trusts nobody.
    fn authorize(&self, chain: &Chain<'_>, tags: &SessionTags) -> Result<&RoleEntry, ApiError> {
        let Self {
            call,
            provider,
            assertion,
            request,
        } = self;
        let arn = request.role_arn;
        let refuse = |action: &str, reason: &str| {
            tracing::info!(
                request_id = call.request_id,
                provider = &*provider.arn,
                subject = &*assertion.subject,
                role = ?arn,
                action,
                reason,
                "role not assumed with SAML"
            );
            denied(format!("Not authorized to perform {action}"))
        };
        if !assertion.offers(arn, &provider.arn) {
            return Err(refuse(ACTION, "the assertion does not offer the role"));
        }
        let name = arn.rsplit('/').next().unwrap_or_default();
        if name.starts_with(RESERVED_ROLES) {
            return Err(refuse(ACTION, "the role belongs to IAM Identity Center"));
        }
        let role = find_role(&call.snapshot, arn).map(AsRef::as_ref);
        let trusting = role.map(|role| call.policies.role(&call.snapshot, role));
        let trust: &[Attached] = trusting.as_ref().map_or(&[], |compiled| &compiled.trust);
        let layers = Layers {
            resource: Some(trust),
            ..Layers::default()
        };
        let source_identity = assertion.claims.source_identity.as_deref();
        let mut keys = Facts {
            call,
            role,
            request,
            chain,
            tags,
            source_identity,
            mfa: false,
        }
        .keys()?;
        self.set_keys(&mut keys);
        let asks = AssumeRole {
            tags: !tags.is_empty(),
            source_identity: source_identity.is_some(),
            provided_contexts: false,
        };
        let principal = Principal::federated(&provider.arn);
        let action =
            Action::parse(ACTION).map_err(|_| refuse(ACTION, "the action cannot be named"))?;
        let request = Request::new(&principal, &action, arn, &keys)
            .map_err(|_| refuse(ACTION, "no resource"))?;
        let decided = decide_assume_role(&request, asks, &layers);
        let (action, outcome) = match (role, &decided) {
            (None, _) => (ACTION, Outcome::ImplicitDeny),
            (Some(_), Err(denied)) => (denied.action.as_str(), denied.decision.outcome),
            (Some(_), Ok(_)) => (ACTION, Outcome::Allowed),
        };
        call.decided(Decided {
            action: action.to_owned(),
            resource: arn.to_owned(),
            outcome: outcome.as_str(),
            statement: None,
        });
        match (role, &decided) {
            (None, _) => Err(refuse(ACTION, "there is no such role")),
            (Some(_), Err(_)) => Err(refuse(action, outcome.as_str())),
            (Some(role), Ok(_)) => Ok(role),
        }
    }

    /// The keys that only calls with an assertion have.
    fn set_keys(&self, keys: &mut Context<'static>) {
        let Self {
            provider,
            assertion,
            ..
        } = self;
        let account = provider.record.account;
        keys.set("aws:FederatedProvider", provider.arn.to_string());
        let single = [
            ("saml:aud", assertion.recipient.to_string()),
            ("saml:iss", assertion.issuer.to_string()),
            ("saml:sub", assertion.subject.to_string()),
            ("saml:sub_type", assertion.subject_type.to_string()),
            ("saml:doc", format!("{account}/{}", provider.record.name)),
            ("saml:namequalifier", self.name_qualifier()),
        ];
        for (key, value) in single {
            keys.set(key, value);
        }
        for (attribute, values) in &assertion.context {
            let key = format!("saml:{attribute}");
            let mut values = values.iter().map(|value| value.to_string());
            if tables::is_list_key(&key) {
                keys.set_list(key, values);
            } else if let (Some(value), None) = (values.next(), values.next()) {
                keys.set(key, value);
            }
        }
    }

    fn name_qualifier(&self) -> String {
        let record = &self.provider.record;
        name_qualifier(
            &self.assertion.issuer,
            record.account.as_str(),
            &record.name,
        )
    }
}

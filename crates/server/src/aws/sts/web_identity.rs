//! AssumeRoleWithWebIdentity (IRSA spec, section 6; STS spec, section 2.3). The call is unsigned: the token is the
//! credential.

use std::time::Instant;

use countersign_arn::{AccountId, Arn};
use countersign_oidc::{AcceptedToken, IssuerUrl, KeyValue, TokenError, UnverifiedToken};
use countersign_policy::{
    Action, AssumeRole, Attached, Context, Layers, Outcome, Principal, Request, decide_assume_role,
};
use countersign_session::{Binding, Chain, Federation, SessionKind, SessionPolicies, SessionTags};
use countersign_store::records::OidcProvider;
use countersign_store::{DirectorySnapshot, RoleEntry};

use super::request::has_arn_shape;
use super::role_session::{NewSession, find_role, session_policies};
use crate::aws::conditions::{of_call, organization_of, set_tags};
use crate::aws::finished::Decided;
use crate::aws::operation::{Answering, Call};
use crate::aws::query::Member;
use crate::aws::shape::Input;
use crate::aws::{ApiError, internal_failure, throttled};
use crate::metrics::WebIdentityResult;
use crate::outbound;
use crate::web_identity::WebIdentity;

const ACTION: &str = "sts:AssumeRoleWithWebIdentity";

/// Finds the provider, has the token verified, decides, and issues.
pub(super) fn assume_role_with_web_identity<'a>(call: &'a Call<'a>) -> Answering<'a> {
    Box::pin(async move {
        let begun = Instant::now();
        let exchanged = exchange(call).await;
        let result = match &exchanged {
            Ok(_) => WebIdentityResult::Ok,
            Err(refusal) => refusal.result(),
        };
        call.metrics.web_identity(result, Some(begun.elapsed()));
        exchanged.map_err(|refusal| match refusal {
            Refusal::Api(error) => error,
            Refusal::Token(error) | Refusal::Bound(error) => {
                tracing::info!(request_id = call.request_id, reason = %error, "web identity token refused");
                error.into()
            }
        })
    })
}

/// Why nothing is issued.
enum Refusal {
    /// The token is no good.
    Token(TokenError),
    /// What the token is bound to is not there, or not known to be.
    Bound(TokenError),
    /// Anything else.
    Api(ApiError),
}

impl Refusal {
    fn result(&self) -> WebIdentityResult {
        match self {
            Self::Token(TokenError::Expired { .. } | TokenError::TooOld { .. }) => {
                WebIdentityResult::Expired
            }
            Self::Token(TokenError::Audience(_)) => WebIdentityResult::Audience,
            Self::Token(TokenError::NoProvider { .. } | TokenError::OwnToken) => {
                WebIdentityResult::Provider
            }
            Self::Token(_) => WebIdentityResult::Signature,
            Self::Bound(_) => WebIdentityResult::Bound,
            Self::Api(error) if error.code == "AccessDenied" => WebIdentityResult::Denied,
            Self::Api(error) if error.code == "Throttling" => WebIdentityResult::Throttled,
            Self::Api(_) => WebIdentityResult::Invalid,
        }
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

async fn exchange(call: &Call<'_>) -> Result<Member, Refusal> {
    let Some(web) = call.web_identity else {
        tracing::error!("web identities are not set up");
        return Err(internal_failure().into());
    };
    let request = WebIdentityRequest::of(&call.input)?;
    let token = UnverifiedToken::parse(request.token)?;
    let (provider, issuer) = find_provider(&call.snapshot, web, request.role_arn, token.issuer())?;
    let cluster = call.issuers.and_then(|issuers| {
        let cluster = issuers.cluster_of(&call.snapshot, issuer.as_str())?;
        Some((issuers, &cluster.record))
    });
    // Thumbprints that cannot be read vouch for nobody.
    let thumbprints: Vec<_> = provider
        .thumbprints
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    let verified = match cluster {
        Some((issuers, cluster)) => issuers.verify(cluster, &token, call.now).await?,
        // The issuer of a cluster that is not there: nobody is asked, least of all ourselves.
        None if call
            .issuers
            .is_some_and(|issuers| issuers.is_own(issuer.as_str()))
            && !web.is_registered(issuer.as_str()) =>
        {
            return Err(TokenError::UnknownKey("no cluster has this issuer").into());
        }
        None => web.verify(&token, &issuer, &thumbprints).await?,
    };
    let accepted = verified.accept(&provider.client_ids, web.times(), call.now)?;
    let of_ours = cluster.is_some() || web.is_registered(issuer.as_str());
    if let Some(claims) = accepted.claims().kubernetes.as_ref().filter(|_| of_ours) {
        call.workload(claims);
    }
    if let Some((issuers, cluster)) = cluster {
        let bound = issuers
            .bound(cluster, request.token, accepted.claims())
            .await;
        issuers.admit(cluster, &bound).map_err(Refusal::Bound)?;
    }
    let by_idp = accepted.claims().aws.authorize_role(request.role_arn);
    let facts = Facts {
        call,
        request: &request,
        provider,
        provider_arn: provider.arn(),
        token: accepted,
        role_authorized_by_idp: by_idp?,
        kubernetes_claims: web.shows_kubernetes_claims(of_ours),
    };
    let binding = if of_ours {
        facts.binding(cluster.map(|(_, cluster)| cluster.arn()))
    } else {
        Binding::default()
    };
    let grant = facts.decide()?;
    call.rates
        .web_identity(&grant.role.record.id, call.now)
        .map_err(|limit| {
            call.metrics.aws_throttled(limit.label());
            throttled()
        })?;
    Ok(facts.issue(grant, binding)?)
}

/// The parameters.
struct WebIdentityRequest<'p> {
    role_arn: &'p str,
    session_name: &'p str,
    token: &'p str,
    policy: Option<&'p str>,
    policy_arns: Vec<&'p str>,
    duration_seconds: Option<i64>,
}

impl<'p> WebIdentityRequest<'p> {
    /// Takes the parameters, which are within their constraints, and checks the rest.
    fn of(input: &Input<'p>) -> Result<Self, ApiError> {
        let validation = |message: String| Err(ApiError::new(400, "ValidationError", message));
        let request = Self {
            role_arn: input.required("RoleArn"),
            session_name: input.required("RoleSessionName"),
            token: input.required("WebIdentityToken"),
            policy: input.text("Policy"),
            policy_arns: input
                .list("PolicyArns")
                .iter()
                .filter_map(|policy| policy.member("arn"))
                .collect(),
            duration_seconds: input.integer("DurationSeconds"),
        };
        let arns = std::iter::once(&request.role_arn).chain(&request.policy_arns);
        if let Some(arn) = arns.into_iter().find(|arn| !has_arn_shape(arn)) {
            return validation(format!("{arn} is invalid"));
        }
        if input.text("ProviderId").is_some() {
            return validation(
                "ProviderId must not be given with an OpenID Connect token.".to_owned(),
            );
        }
        Ok(request)
    }
}

/// Check 5: the provider of the role's account with the token's issuer as its URL, byte for byte.
fn find_provider<'s>(
    snapshot: &'s DirectorySnapshot,
    web: &WebIdentity,
    role_arn: &str,
    issuer: &str,
) -> Result<(&'s OidcProvider, IssuerUrl), TokenError> {
    if outbound::is_own_issuer(web.public_url(), issuer) {
        return Err(TokenError::OwnToken);
    }
    let none = || TokenError::NoProvider {
        issuer: issuer.into(),
    };
    let url: IssuerUrl = issuer.parse().map_err(|_| none())?;
    let account: AccountId = Arn::parse(role_arn)
        .ok()
        .and_then(|arn| arn.account.parse().ok())
        .ok_or_else(none)?;
    let provider = snapshot
        .oidc_provider(account, url.without_scheme())
        .ok_or_else(none)?;
    Ok((&provider.record, url))
}

/// Everything the decision follows from.
struct Facts<'a> {
    call: &'a Call<'a>,
    request: &'a WebIdentityRequest<'a>,
    provider: &'a OidcProvider,
    provider_arn: String,
    token: AcceptedToken<'a>,
    /// Whether the token names the roles it may be used for; this one is among them then.
    role_authorized_by_idp: bool,
    kubernetes_claims: bool,
}

/// What was decided.
struct Grant<'a> {
    role: &'a RoleEntry,
    seconds: u32,
    policies: SessionPolicies,
    percent: Option<u8>,
    tags: SessionTags,
    source_identity: Option<Box<str>>,
}

impl Facts<'_> {
    /// Checks 12 to 15, of a token that is good: the role trusts the provider for it, and the session asked for is within
    /// its limits. Reads nothing but the facts.
    fn decide(&self) -> Result<Grant<'_>, ApiError> {
        let (call, request) = (self.call, self.request);
        let chain = Chain::of(None);
        let aws = &self.token.claims().aws;
        let tags = chain.session_tags(&aws.principal_tags, &aws.transitive_tag_keys)?;
        let source_identity = chain.source_identity(aws.source_identity.as_deref())?;
        let role = find_role(&call.snapshot, request.role_arn).map(AsRef::as_ref);
        let keys = self.keys(role, &tags, source_identity.as_deref())?;
        let role = self.authorize(role, &keys, AssumeRole::default())?;
        let seconds =
            chain.role_seconds(request.duration_seconds, role.record.max_session_duration)?;
        let (policies, percent) =
            session_policies(call, role, request.policy, &request.policy_arns, &tags)?;
        let asks = AssumeRole {
            tags: !tags.is_empty(),
            source_identity: source_identity.is_some(),
            provided_contexts: false,
        };
        if asks != AssumeRole::default() {
            self.authorize(Some(role), &keys, asks)?;
        }
        Ok(Grant {
            role,
            seconds,
            policies,
            percent,
            tags,
            source_identity,
        })
    }

    /// An unknown role is decided like one that trusts nobody, so that neither the answer nor the work tells the
    /// difference; only the log does.
    fn authorize<'r>(
        &self,
        role: Option<&'r RoleEntry>,
        keys: &Context<'_>,
        asks: AssumeRole,
    ) -> Result<&'r RoleEntry, ApiError> {
        let (call, arn) = (self.call, self.request.role_arn);
        let compiled = role.map(|role| call.policies.role(&call.snapshot, role));
        let trust: &[Attached] = compiled.as_ref().map_or(&[], |compiled| &compiled.trust);
        let layers = Layers {
            resource: Some(trust),
            ..Layers::default()
        };
        let principal = Principal::federated(&self.provider_arn);
        let refuse = |action: &str, outcome: Outcome, reason: &str| {
            tracing::info!(
                request_id = call.request_id,
                provider = self.provider_arn,
                subject = &*self.token.claims().subject,
                role = ?arn,
                action,
                reason,
                "role not assumed"
            );
            call.decided(Decided {
                action: action.to_owned(),
                resource: arn.to_owned(),
                outcome: outcome.as_str(),
                statement: None,
            });
            ApiError::new(
                403,
                "AccessDenied",
                format!("Not authorized to perform {action}"),
            )
        };
        let unasked = |reason| refuse(ACTION, Outcome::ImplicitDeny, reason);
        let action = Action::parse(ACTION).map_err(|_| unasked("the action cannot be named"))?;
        let question = Request::new(&principal, &action, arn, keys)
            .map_err(|_| unasked("the role's ARN names no resource"))?;
        match (role, decide_assume_role(&question, asks, &layers)) {
            (None, _) => Err(unasked("there is no such role")),
            (Some(_), Err(denied)) => {
                let outcome = denied.decision.outcome;
                Err(refuse(denied.action.as_str(), outcome, outcome.as_str()))
            }
            (Some(role), Ok(_)) => {
                call.decided(Decided {
                    action: ACTION.to_owned(),
                    resource: arn.to_owned(),
                    outcome: Outcome::Allowed.as_str(),
                    statement: None,
                });
                Ok(role)
            }
        }
    }

    /// The condition keys (policy language spec, section 7.5).
    fn keys(
        &self,
        role: Option<&RoleEntry>,
        tags: &SessionTags,
        source_identity: Option<&str>,
    ) -> Result<Context<'static>, ApiError> {
        let mut keys = of_call(self.call)?;
        for key in self
            .token
            .condition_keys(&self.provider.url, self.kubernetes_claims)
        {
            match key.value {
                KeyValue::One(value) => keys.set(key.name, value),
                KeyValue::Many(values) => keys.set_list(key.name, values),
            }
        }
        keys.set("aws:FederatedProvider", self.provider_arn.clone());
        keys.set("sts:RoleSessionName", self.request.session_name.to_owned());
        if self.role_authorized_by_idp {
            keys.set("sts:RoleAuthorizedByIdp", "true");
        }
        if let Some(identity) = source_identity {
            keys.set("sts:SourceIdentity", identity.to_owned());
        }
        if !tags.is_empty() {
            let named = tags.requested().map(|tag| tag.key.to_string());
            keys.set_list("aws:TagKeys", named);
            set_tags(&mut keys, "aws:RequestTag/", tags.requested());
        }
        let transitive: Vec<String> = tags
            .requested_transitive_keys()
            .map(str::to_owned)
            .collect();
        if !transitive.is_empty() {
            keys.set_list("sts:TransitiveTagKeys", transitive);
        }
        if let Some(role) = role {
            let record = &role.record;
            keys.set("aws:ResourceAccount", record.account.to_string());
            if let Some(organization) = organization_of(&self.call.snapshot, record.account) {
                keys.set("aws:ResourceOrgID", organization);
            }
            set_tags(&mut keys, "aws:ResourceTag/", record.tags.iter());
            set_tags(&mut keys, "iam:ResourceTag/", record.tags.iter());
        }
        Ok(keys)
    }

    /// The workload that the session is for, as a cluster of ours says.
    fn binding(&self, cluster: Option<String>) -> Binding {
        let Some(facts) = &self.token.claims().kubernetes else {
            return Binding::default();
        };
        Binding {
            cluster: cluster.map(Into::into),
            namespace: Some(facts.namespace.clone()),
            service_account: Some(facts.service_account.name.clone()),
            pod_uid: facts.pod.as_ref().and_then(|pod| pod.uid.clone()),
            node: facts.node.as_ref().map(|node| node.name.clone()),
            association_id: None,
        }
    }

    fn issue(&self, grant: Grant<'_>, binding: Binding) -> Result<Member, ApiError> {
        let (call, request, claims) = (self.call, self.request, self.token.claims());
        let session = NewSession {
            kind: SessionKind::WebIdentity,
            role: grant.role,
            name: request.session_name,
            seconds: grant.seconds,
            policies: grant.policies,
            tags: grant.tags,
            source_identity: grant.source_identity.clone(),
            federation: Some(Federation::Oidc {
                provider: self.provider_arn.as_str().into(),
                issuer: claims.issuer.clone(),
                audience: self.token.audience().into(),
                subject: claims.subject.clone(),
                amr: claims.authentication_methods.clone(),
            }),
            binding,
            mfa: false,
            depth: 1,
            signed_with: None,
        };
        let issued = session.issue(call)?;
        tracing::info!(
            request_id = call.request_id,
            provider = self.provider_arn,
            subject = &*claims.subject,
            token_id = claims.token_id.as_deref(),
            role = &*grant.role.arn,
            session = request.session_name,
            access_key_id = &*issued.access_key_id,
            seconds = grant.seconds,
            "role assumed with a web identity"
        );
        let text = |text: &str| Member::Text(text.to_owned());
        let mut members = vec![
            issued.credentials,
            ("SubjectFromWebIdentityToken", text(&claims.subject)),
            issued.assumed_role_user,
        ];
        if let Some(percent) = grant.percent {
            members.push(("PackedPolicySize", Member::Number(i64::from(percent))));
        }
        members.push(("Provider", text(&claims.issuer)));
        members.push(("Audience", text(self.token.audience())));
        if let Some(identity) = &grant.source_identity {
            members.push(("SourceIdentity", text(identity)));
        }
        Ok(Member::Structure(members))
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let code = error.code();
        Self::new(code.status(), code.as_str(), error.message())
    }
}

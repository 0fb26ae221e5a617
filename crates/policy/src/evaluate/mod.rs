//! Deciding (policy language spec, section 8).
//!
//! 1. An explicit deny in any layer denies.
//! 2. Every level of an organization and the endpoint must allow.
//! 3. Somebody must grant: the identity policies within boundary and session, or the resource, by the rules of one account or of two.
//!
//! The result does not depend on the order of statements, documents or layers.

mod assume;
mod blocked;
mod layers;
mod special;

use serde::Serialize;

pub use assume::{AssumeRole, AssumeRoleDenied, decide_assume_role};
pub use blocked::blocked_by;
pub(crate) use layers::Group;
pub use layers::{Attached, Layer, LayerSet, Layers, Level, PolicySet, Source, StatementAt};
pub use special::SpecialRule;

use crate::compiled::Grant;
use crate::document::Effect;
use crate::request::{Identity, PrincipalType, Request, Special};

/// The three answers of IAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Granted, and denied by nobody.
    Allowed,
    /// A statement denies.
    ExplicitDeny,
    /// Nothing grants, or a layer that must allow does not.
    ImplicitDeny,
}

impl Outcome {
    /// The name in files and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ExplicitDeny => "explicitDeny",
            Self::ImplicitDeny => "implicitDeny",
        }
    }
}

/// By which way a request was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Route {
    /// Identity policies, within boundary and session.
    Identity,
    /// A resource policy that names the caller itself, or everyone.
    Direct,
    /// A resource policy that names the caller's role or user, within boundary and session.
    Role,
    /// Identity policies and the resource policy together: across accounts, or because the resource must agree.
    IdentityAndResource,
    /// The root user of the account.
    Root,
    /// A rule of the service, whatever policies say.
    Special,
}

/// The answer, and the statements that made it. Nothing here is allocated; [`crate::explain`] tells the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub outcome: Outcome,
    /// Which way, when allowed.
    pub route: Option<Route>,
    /// The statement that denied, or that granted; the identity side where both sides granted.
    pub determining: Option<StatementAt>,
    /// The statement of the resource policy, where both sides granted.
    pub second: Option<StatementAt>,
    /// The rule of a service that took part.
    pub special: Option<SpecialRule>,
}

impl Decision {
    /// Whether the request may proceed.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.outcome == Outcome::Allowed
    }

    fn allowed(route: Route, determining: Option<StatementAt>) -> Self {
        Self {
            outcome: Outcome::Allowed,
            route: Some(route),
            determining,
            second: None,
            special: None,
        }
    }

    fn explicit_deny(at: StatementAt) -> Self {
        Self {
            outcome: Outcome::ExplicitDeny,
            route: None,
            determining: Some(at),
            second: None,
            special: None,
        }
    }

    fn implicit_deny(special: Option<SpecialRule>) -> Self {
        Self {
            outcome: Outcome::ImplicitDeny,
            route: None,
            determining: None,
            second: None,
            special,
        }
    }
}

/// Decides a request. Allocates nothing; costs O(statements that name the action's service).
#[must_use]
pub fn decide(request: &Request<'_>, layers: &Layers<'_>) -> Decision {
    if let Some(decision) = special::before_policies(request) {
        return decision;
    }
    if let Some(at) = first_deny(request, layers) {
        return Decision::explicit_deny(at);
    }
    if let Some(rule) = special::protected(request) {
        return Decision::implicit_deny(Some(rule));
    }
    if request.action().special().has(Special::SESSION_TOKEN) {
        return Decision {
            special: Some(SpecialRule::GetSessionToken),
            ..Decision::allowed(Route::Special, None)
        };
    }
    if !gates_allow(request, layers) {
        return Decision::implicit_deny(None);
    }
    granted(request, layers)
}

/// The first explicit deny, in layer order.
fn first_deny(request: &Request<'_>, layers: &Layers<'_>) -> Option<StatementAt> {
    let has_boundary = layers.boundary.is_some();
    layers
        .groups()
        .filter(|group| consults(group.layer, request))
        .find_map(|group| denied_by(request, &group, has_boundary))
}

/// The first statement of a group that denies.
pub(crate) fn denied_by(
    request: &Request<'_>,
    group: &Group<'_>,
    has_boundary: bool,
) -> Option<StatementAt> {
    group
        .policies
        .iter()
        .zip(0u16..)
        .find_map(|(attached, document)| {
            attached
                .policy
                .with_action(Effect::Deny, request)
                .find(|(_, statement)| {
                    statement.applies(request) && statement.principal.denies(request, has_boundary)
                })
                .map(|(statement, _)| at(group, document, statement))
        })
}

/// The first statement of a group that allows, who it names aside.
pub(crate) fn allowed_by(request: &Request<'_>, group: &Group<'_>) -> Option<StatementAt> {
    group
        .policies
        .iter()
        .zip(0u16..)
        .find_map(|(attached, document)| {
            attached
                .policy
                .with_action(Effect::Allow, request)
                .find(|(_, statement)| {
                    statement.applies(request) && statement.principal.grants(request).is_some()
                })
                .map(|(statement, _)| at(group, document, statement))
        })
}

/// The strongest grant of the resource layer.
pub(crate) fn resource_grant(
    request: &Request<'_>,
    layers: &Layers<'_>,
) -> Option<(Grant, StatementAt)> {
    if request.crosses_partitions() {
        return None;
    }
    let group = Group {
        layer: Layer::Resource,
        level: None,
        policies: layers.resource?,
    };
    let mut best: Option<(Grant, StatementAt)> = None;
    for (attached, document) in group.policies.iter().zip(0u16..) {
        for (index, statement) in attached.policy.with_action(Effect::Allow, request) {
            let Some(grant) = statement.principal.grants(request) else {
                continue;
            };
            if best.is_some_and(|(held, _)| held >= grant) || !statement.applies(request) {
                continue;
            }
            best = Some((grant, at(&group, document, index)));
            if grant == Grant::Direct {
                return best;
            }
        }
    }
    best
}

fn at(group: &Group<'_>, document: u16, statement: u32) -> StatementAt {
    StatementAt {
        layer: group.layer,
        level: group.level.map_or(0, |(level, _)| level),
        document,
        statement,
    }
}

/// Whether a layer has a say for this caller and action at all (policy language spec, sections 8.1 and 8.7).
pub(crate) fn consults(layer: Layer, request: &Request<'_>) -> bool {
    let caller = request.principal();
    let is_iam = !matches!(
        caller.kind(),
        PrincipalType::Service | PrincipalType::Anonymous
    );
    match layer {
        Layer::Resource | Layer::Endpoint => true,
        Layer::Scp => is_iam && !caller.is_service_linked(),
        Layer::Rcp => request.action().special().has(Special::RCP) && !caller.is_service_linked(),
        Layer::Identity | Layer::Boundary | Layer::Session => {
            is_iam && caller.kind() != PrincipalType::Root
        }
    }
}

/// The layers that must allow before anybody's grant counts. RCP levels always do: they contain the full-access policy.
fn gates_allow(request: &Request<'_>, layers: &Layers<'_>) -> bool {
    scp_allows(request, layers) && endpoint_allows(request, layers)
}

pub(crate) fn scp_allows(request: &Request<'_>, layers: &Layers<'_>) -> bool {
    !consults(Layer::Scp, request)
        || layers::levels(Layer::Scp, layers.scp).all(|level| allowed_by(request, &level).is_some())
}

pub(crate) fn endpoint_allows(request: &Request<'_>, layers: &Layers<'_>) -> bool {
    layers.endpoint.is_none_or(|policies| {
        let group = Group {
            layer: Layer::Endpoint,
            level: None,
            policies,
        };
        allowed_by(request, &group).is_some()
    })
}

/// Whether the identity policies allow, or stand for doing so.
pub(crate) fn identity_allows(
    request: &Request<'_>,
    layers: &Layers<'_>,
) -> (bool, Option<StatementAt>) {
    match request.principal().kind() {
        PrincipalType::Root => (true, None),
        PrincipalType::Service | PrincipalType::Anonymous => (false, None),
        PrincipalType::User | PrincipalType::Session | PrincipalType::Federated => {
            let group = Group {
                layer: Layer::Identity,
                level: None,
                policies: layers.identity,
            };
            let at = allowed_by(request, &group);
            (at.is_some(), at)
        }
    }
}

pub(crate) fn boundary_allows(request: &Request<'_>, layers: &Layers<'_>) -> bool {
    !consults(Layer::Boundary, request)
        || layers.boundary.is_none_or(|boundary| {
            let group = Group {
                layer: Layer::Boundary,
                level: None,
                policies: std::slice::from_ref(boundary),
            };
            allowed_by(request, &group).is_some()
        })
}

/// A federated user without a session policy has no identity path; anyone else without one is not limited.
pub(crate) fn session_allows(request: &Request<'_>, layers: &Layers<'_>) -> bool {
    if !consults(Layer::Session, request) {
        return true;
    }
    match layers.session {
        None => !matches!(
            request.principal().identity(),
            Identity::FederatedUser { .. }
        ),
        Some(policies) => {
            let group = Group {
                layer: Layer::Session,
                level: None,
                policies,
            };
            allowed_by(request, &group).is_some()
        }
    }
}

/// Sections 8.4 and 8.5: who grants.
fn granted(request: &Request<'_>, layers: &Layers<'_>) -> Decision {
    let grant = resource_grant(request, layers);
    let kind = request.principal().kind();
    if matches!(kind, PrincipalType::Service | PrincipalType::Anonymous) {
        return match grant {
            Some((Grant::Direct, at)) => Decision::allowed(Route::Direct, Some(at)),
            _ => Decision::implicit_deny(None),
        };
    }
    let required = special::needs_resource_grant(request);
    let cross_account = !request.is_same_account();
    if !cross_account && let Some((Grant::Direct, at)) = grant {
        return Decision::allowed(Route::Direct, Some(at));
    }
    if (cross_account || required.is_some()) && grant.is_none() {
        return Decision::implicit_deny(required);
    }
    if !boundary_allows(request, layers) || !session_allows(request, layers) {
        return Decision::implicit_deny(required);
    }
    if !cross_account && let Some((Grant::Role | Grant::User, at)) = grant {
        return Decision::allowed(Route::Role, Some(at));
    }
    let (identity, identity_at) = identity_allows(request, layers);
    if !identity {
        return Decision::implicit_deny(required);
    }
    let both = cross_account || required.is_some();
    let route = match (kind, both) {
        (PrincipalType::Root, false) => Route::Root,
        (_, true) => Route::IdentityAndResource,
        (_, false) => Route::Identity,
    };
    let resource_at = grant.map(|(_, at)| at).filter(|_| both);
    Decision {
        second: identity_at.and(resource_at),
        ..Decision::allowed(route, identity_at.or(resource_at))
    }
}

//! Which layers stand between a request and an allow.

use super::{
    Layer, LayerSet, Layers, Outcome, boundary_allows, consults, decide, denied_by,
    endpoint_allows, identity_allows, resource_grant, scp_allows, session_allows, special,
};
use crate::compiled::Grant;
use crate::request::{PrincipalType, Request};

/// The layers that block a denied request: those that would have to change for the rest to allow it. Empty when the request is allowed,
/// when nothing grants at all, and when a rule of the service denies, since then no change of one layer would help.
///
/// For an explicit deny these are the layers with a denying statement, and those that would block without it.
#[must_use]
pub fn blocked_by(request: &Request<'_>, layers: &Layers<'_>) -> LayerSet {
    let decision = decide(request, layers);
    if decision.outcome == Outcome::Allowed {
        return LayerSet::EMPTY;
    }
    let has_boundary = layers.boundary.is_some();
    let mut blocked: LayerSet = layers
        .groups()
        .filter(|group| consults(group.layer, request))
        .filter(|group| denied_by(request, group, has_boundary).is_some())
        .map(|group| group.layer)
        .collect();
    let by_rule =
        special::before_policies(request).is_some() || special::protected(request).is_some();
    if by_rule {
        return blocked;
    }
    let grant = resource_grant(request, layers).map(|(grant, _)| grant);
    let (identity, _) = identity_allows(request, layers);
    let kind = request.principal().kind();
    if grant.is_none() && !identity {
        return LayerSet::EMPTY;
    }
    if !scp_allows(request, layers) {
        blocked.insert(Layer::Scp);
    }
    if !endpoint_allows(request, layers) {
        blocked.insert(Layer::Endpoint);
    }
    if matches!(kind, PrincipalType::Service | PrincipalType::Anonymous) {
        return blocked;
    }
    let same_account = request.is_same_account();
    if same_account && grant == Some(Grant::Direct) {
        return blocked;
    }
    if !boundary_allows(request, layers) {
        blocked.insert(Layer::Boundary);
    }
    if !session_allows(request, layers) {
        blocked.insert(Layer::Session);
    }
    let role_path = same_account && matches!(grant, Some(Grant::Role | Grant::User));
    if !identity && !role_path {
        blocked.insert(Layer::Identity);
    }
    let needs_resource = !same_account || special::needs_resource_grant(request).is_some();
    if grant.is_none() && needs_resource {
        blocked.insert(Layer::Resource);
    }
    blocked
}

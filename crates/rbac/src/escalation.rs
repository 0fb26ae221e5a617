//! What the API server checks before it stores a role or a binding: nobody may hand out what they do not hold
//! (RBAC spec, section 6).

use crate::covers::{TooManyPieces, compact, describe, uncovered};
use crate::index::{EffectiveRule, Index};
use crate::message::forbidden_object;
use crate::object::{Binding, BindingKind, PolicyRule, RBAC_GROUP, Role, RoleKind};
use crate::quote::{Quoted, QuotedList};
use crate::request::{Action, Request, ResourceAction, User};

/// Why a write of an RBAC object is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permitted {
    /// The caller is in `system:masters`.
    Superuser,
    /// The caller has the verb `escalate` (for roles) or `bind` (for bindings).
    ByVerb,
    /// The caller holds every right that is handed out.
    Covered,
    /// The update changes neither rules, nor role, nor subjects.
    Unchanged,
}

/// Why a write of an RBAC object is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EscalationRefused {
    /// 403: the caller lacks what would be handed out.
    #[error("{message}")]
    Forbidden {
        /// The API server's message.
        message: String,
        /// What is missing, merged and sorted.
        missing: Vec<PolicyRule>,
    },
    /// 404: the role that the binding refers to is missing, and the caller has no `bind` for it.
    #[error("{0}")]
    RoleNotFound(String),
    /// The role is too large to be compared.
    #[error(transparent)]
    TooLarge(#[from] TooManyPieces),
}

/// Answers whether any authorizer allows a request. The checks for `escalate` and `bind` go through all authorizers,
/// while what the caller holds is taken from RBAC alone.
pub type AuthorizedBy<'f> = &'f dyn Fn(&Request<'_>) -> bool;

impl Index {
    /// Whether the caller may store `new`, in place of `old` if that exists. `request_name` is the name in the request,
    /// which is empty when a role is created by POST. `authorized` may be `None` to ask this index alone.
    pub fn check_role_write(
        &self,
        user: &User<'_>,
        old: Option<&Role>,
        new: &Role,
        request_name: &str,
        authorized: Option<AuthorizedBy<'_>>,
    ) -> Result<Permitted, EscalationRefused> {
        if user.is_superuser() {
            return Ok(Permitted::Superuser);
        }
        let namespace = match new.kind {
            RoleKind::Role => new.metadata.namespace.as_str(),
            RoleKind::ClusterRole => "",
        };
        let unchanged = |old: &Role| old.rules == new.rules && old.aggregation == new.aggregation;
        if old.is_some_and(unchanged) {
            return Ok(Permitted::Unchanged);
        }
        let escalate = ResourceAction {
            verb: "escalate",
            group: RBAC_GROUP,
            version: "*",
            resource: new.kind.resource(),
            namespace,
            name: request_name,
            ..ResourceAction::default()
        };
        if self.is_authorized(user, escalate, authorized) {
            return Ok(Permitted::ByVerb);
        }
        let name = &new.metadata.name;
        let resource = new.kind.resource();
        self.confirm_held(user, namespace, new.rules.iter().map(|rule| &**rule))
            .map_err(|refused| refused.about(resource, name))?;
        let collects = |role: &Role| {
            let rule = role.aggregation.as_ref();
            rule.is_some_and(|rule| !rule.cluster_role_selectors.is_empty())
        };
        if new.kind == RoleKind::ClusterRole && (collects(new) || old.is_some_and(collects)) {
            let everything = full_authority();
            let held = self.confirm_held(user, namespace, &everything);
            held.map_err(|refused| match refused {
                EscalationRefused::Forbidden { missing, .. } => EscalationRefused::Forbidden {
                    message: "must have cluster-admin privileges to use the aggregationRule".into(),
                    missing,
                }
                .about(resource, name),
                other => other,
            })?;
        }
        Ok(Permitted::Covered)
    }

    /// Whether the caller may store the binding `new`, in place of `old` if that exists.
    pub fn check_binding_write(
        &self,
        user: &User<'_>,
        old: Option<&Binding>,
        new: &Binding,
        authorized: Option<AuthorizedBy<'_>>,
    ) -> Result<Permitted, EscalationRefused> {
        if user.is_superuser() {
            return Ok(Permitted::Superuser);
        }
        if old.is_some_and(|old| old.role_ref == new.role_ref && old.subjects == new.subjects) {
            return Ok(Permitted::Unchanged);
        }
        let namespace = match new.kind {
            BindingKind::RoleBinding => new.metadata.namespace.as_str(),
            BindingKind::ClusterRoleBinding => "",
        };
        // The verb is asked on the role, never on the binding.
        let resource = match new.role_ref.kind.as_str() {
            "Role" => Some(RoleKind::Role.resource()),
            "ClusterRole" => Some(RoleKind::ClusterRole.resource()),
            _ => None,
        };
        if let Some(resource) = resource {
            let bind = ResourceAction {
                verb: "bind",
                group: &new.role_ref.api_group,
                version: "*",
                resource,
                namespace,
                name: &new.role_ref.name,
                ..ResourceAction::default()
            };
            if self.is_authorized(user, bind, authorized) {
                return Ok(Permitted::ByVerb);
            }
        }
        let rules = self
            .resolve(&new.role_ref, namespace)
            .map_err(EscalationRefused::RoleNotFound)?;
        let rules = rules.iter().map(|EffectiveRule { rule, .. }| &**rule);
        self.confirm_held(user, namespace, rules)
            .map_err(|refused| refused.about(new.kind.resource(), &new.metadata.name))?;
        Ok(Permitted::Covered)
    }

    fn is_authorized<'a>(
        &self,
        user: &User<'a>,
        action: ResourceAction<'a>,
        authorized: Option<AuthorizedBy<'_>>,
    ) -> bool {
        let request = Request {
            user: *user,
            action: Action::Resource(action),
        };
        match authorized {
            Some(authorized) => authorized(&request),
            None => self.authorize(&request).is_allowed(),
        }
    }

    /// Whether the caller's own rules cover these; the message is not yet about an object.
    fn confirm_held<'a>(
        &'a self,
        user: &User<'_>,
        namespace: &str,
        wanted: impl IntoIterator<Item = &'a PolicyRule>,
    ) -> Result<(), EscalationRefused> {
        let held = self.rules_for(user, namespace);
        let missing = uncovered(held.chains.iter().map(|chain| chain.rule()), wanted)?;
        if missing.is_empty() {
            return Ok(());
        }
        let mut missing: Vec<(String, PolicyRule)> = compact(&missing)
            .into_iter()
            .map(|rule| (describe(&rule), rule))
            .collect();
        missing.sort();
        missing.dedup();
        let lines: Vec<&str> = missing.iter().map(|(line, _)| line.as_str()).collect();
        let mut message = format!(
            "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            Quoted(user.name),
            QuotedList(user.groups.iter()),
            lines.join("\n")
        );
        if !held.errors.is_empty() {
            message += &format!("; resolution errors: [{}]", held.evaluation_error());
        }
        Err(EscalationRefused::Forbidden {
            message,
            missing: missing.into_iter().map(|(_, rule)| rule).collect(),
        })
    }
}

impl EscalationRefused {
    fn about(self, resource: &str, name: &str) -> Self {
        match self {
            Self::Forbidden { message, missing } => Self::Forbidden {
                message: forbidden_object(RBAC_GROUP, resource, name, &message),
                missing,
            },
            other => other,
        }
    }
}

/// The right to do everything, which using an aggregation rule takes.
fn full_authority() -> [PolicyRule; 2] {
    let star = || vec!["*".to_owned()];
    [
        PolicyRule {
            verbs: star(),
            api_groups: star(),
            resources: star(),
            ..PolicyRule::default()
        },
        PolicyRule {
            verbs: star(),
            non_resource_urls: star(),
            ..PolicyRule::default()
        },
    ]
}

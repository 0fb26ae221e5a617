//! What is asked: who, what, on what, under which circumstances.

mod action;
mod principal;

pub use action::{Action, NotAnAction};
pub(crate) use action::{Special, split_action};
pub use principal::{Credentials, InvalidPrincipal, Principal, PrincipalType};
pub(crate) use principal::{Identity, is_principal_id, provider_account};

use crate::arn_pattern::RequestResource;
use crate::context::Context;

/// One question to the engine. Building it borrows everything; it copies only an ARN whose first fields are in upper case.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    principal: &'a Principal,
    action: &'a Action,
    resource_text: &'a str,
    resource: RequestResource<'a>,
    resource_account: &'a str,
    context: &'a Context<'a>,
}

/// The resource is neither an ARN nor `*`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no resource: expected an ARN with six fields, or `*` for actions that have no resource"
)]
pub struct NotAResource(pub String);

impl<'a> Request<'a> {
    /// A request for `action` on `resource`, an ARN or `*`. The resource belongs to the account in its ARN, else to the principal's.
    ///
    /// A `*` inside an ARN is an ordinary character here.
    ///
    /// # Errors
    /// When `resource` is neither an ARN nor `*`.
    pub fn new(
        principal: &'a Principal,
        action: &'a Action,
        resource: &'a str,
        context: &'a Context<'a>,
    ) -> Result<Self, NotAResource> {
        let parsed = RequestResource::parse(resource)
            .ok_or_else(|| NotAResource(resource.chars().take(256).collect()))?;
        let in_arn = resource.split(':').nth(4).unwrap_or_default();
        let resource_account = if in_arn.is_empty() {
            principal.account()
        } else {
            in_arn
        };
        Ok(Self {
            principal,
            action,
            resource_text: resource,
            resource: parsed,
            resource_account,
            context,
        })
    }

    /// Sets the account that owns the resource, for ARNs that do not name it, such as buckets.
    #[must_use]
    pub fn owned_by(mut self, account: &'a str) -> Self {
        self.resource_account = account;
        self
    }

    /// The same request for another action, as AssumeRole asks for `sts:TagSession` beside itself.
    #[must_use]
    pub fn with_action(mut self, action: &'a Action) -> Self {
        self.action = action;
        self
    }

    /// Who asks.
    #[must_use]
    pub fn principal(&self) -> &'a Principal {
        self.principal
    }

    /// What for.
    #[must_use]
    pub fn action(&self) -> &'a Action {
        self.action
    }

    /// On what: an ARN or `*`.
    #[must_use]
    pub fn resource(&self) -> &'a str {
        self.resource_text
    }

    /// Whose it is.
    #[must_use]
    pub fn resource_account(&self) -> &'a str {
        self.resource_account
    }

    /// The condition keys.
    #[must_use]
    pub fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// Whether principal and resource belong to one account.
    #[must_use]
    pub fn is_same_account(&self) -> bool {
        self.principal.account() == self.resource_account
    }

    pub(crate) fn parsed_resource(&self) -> &RequestResource<'a> {
        &self.resource
    }

    /// Whether principal and resource are known to lie in different partitions, which do not trust each other.
    pub(crate) fn crosses_partitions(&self) -> bool {
        match (self.principal.partition(), self.resource.fields()) {
            (Some(own), Some([partition, ..])) => !partition.is_empty() && partition != own,
            _ => false,
        }
    }
}

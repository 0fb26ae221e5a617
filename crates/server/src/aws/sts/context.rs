//! The condition keys of a call to AssumeRole (policy language spec, sections 7.4 and 7.5).

use countersign_policy as policy;
use countersign_session::{Chain, SessionTags};
use countersign_store::RoleEntry;

use super::request::AssumeRoleRequest;
use crate::aws::ApiError;
use crate::aws::conditions::{of_call, organization_of, set_tags};
use crate::aws::operation::Call;

/// Everything the keys follow from.
pub(super) struct Facts<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) role: Option<&'a RoleEntry>,
    pub(super) request: &'a AssumeRoleRequest<'a>,
    pub(super) chain: &'a Chain<'a>,
    pub(super) tags: &'a SessionTags,
    pub(super) source_identity: Option<&'a str>,
    /// Whether the call itself came with a code of the caller's MFA device.
    pub(super) mfa: bool,
}

impl Facts<'_> {
    pub(super) fn keys(&self) -> Result<policy::Context<'static>, ApiError> {
        let mut keys = of_call(self.call)?;
        self.of_request(&mut keys);
        self.of_role(&mut keys);
        Ok(keys)
    }

    fn of_request(&self, keys: &mut policy::Context<'static>) {
        let request = self.request;
        if self.mfa {
            keys.set("aws:MultiFactorAuthPresent", "true");
            keys.set("aws:MultiFactorAuthAge", "0");
        }
        keys.set("sts:RoleSessionName", request.session_name.to_owned());
        if let Some(id) = request.external_id {
            keys.set("sts:ExternalId", id.to_owned());
        }
        if let Some(identity) = self.source_identity {
            keys.set("sts:SourceIdentity", identity.to_owned());
        }
        let mut requested = self.tags.requested().peekable();
        if requested.peek().is_some() {
            keys.set_list(
                "aws:TagKeys",
                self.tags.requested().map(|tag| tag.key.to_string()),
            );
            set_tags(keys, "aws:RequestTag/", requested);
        }
        let transitive: Vec<String> = self
            .tags
            .requested_transitive_keys()
            .map(str::to_owned)
            .collect();
        if !transitive.is_empty() {
            keys.set_list("sts:TransitiveTagKeys", transitive);
        }
    }

    fn of_role(&self, keys: &mut policy::Context<'static>) {
        let Some(role) = self.role else { return };
        keys.set("aws:ResourceAccount", role.record.account.to_string());
        if let Some(organization) = organization_of(&self.call.snapshot, role.record.account) {
            keys.set("aws:ResourceOrgID", organization);
        }
        let tags = self.chain.target_role_tags(&role.record.tags);
        set_tags(keys, "aws:ResourceTag/", tags.iter());
        set_tags(keys, "iam:ResourceTag/", tags.iter());
    }
}

//! The condition keys of a call to AssumeRole (policy language spec, section 7). A key is there only when the
//! specification says so: negated operators are true on absence.

use countersign_arn::Tag;
use countersign_policy as policy;
use countersign_session::{Chain, ContextFacts, SessionTags, context_facts};
use countersign_store::{DirectorySnapshot, RoleEntry, UserEntry};
use jiff::Timestamp;

use super::request::AssumeRoleRequest;
use crate::aws::{Caller, Context, keys};

/// Everything the keys follow from.
pub(super) struct Facts<'a> {
    pub(super) call: &'a Context<'a>,
    pub(super) caller: &'a Caller,
    pub(super) snapshot: &'a DirectorySnapshot,
    /// The user whose long-term key signed.
    pub(super) user: Option<&'a UserEntry>,
    pub(super) role: Option<&'a RoleEntry>,
    pub(super) request: &'a AssumeRoleRequest<'a>,
    pub(super) chain: &'a Chain<'a>,
    pub(super) tags: &'a SessionTags,
    pub(super) source_identity: Option<&'a str>,
}

impl Facts<'_> {
    pub(super) fn keys(&self) -> policy::Context<'static> {
        let mut keys = policy::Context::new();
        self.of_caller(&mut keys);
        self.of_call(&mut keys);
        self.of_role(&mut keys);
        keys
    }

    fn of_caller(&self, keys: &mut policy::Context<'static>) {
        let account = self.caller.identity().account();
        keys.set("aws:PrincipalAccount", account.to_string());
        keys.set("aws:PrincipalIsAWSService", "false");
        if let Some(organization) = self.organization_of(account) {
            keys.set("aws:PrincipalOrgID", organization);
        }
        if let Some(session) = self.caller.session() {
            let live = keys::live_principal(self.snapshot, session);
            if let Ok(facts) = context_facts(session, live.as_ref(), self.call.now) {
                of_session(facts, keys);
            }
        } else if let Some(user) = self.user {
            keys.set("aws:PrincipalArn", user.arn.to_string());
            keys.set("aws:PrincipalType", "User");
            keys.set("aws:userid", user.record.id.to_string());
            keys.set("aws:username", user.record.name.to_string());
            set_tags(keys, "aws:PrincipalTag/", user.record.tags.iter());
        }
    }

    fn of_call(&self, keys: &mut policy::Context<'static>) {
        let Self { call, request, .. } = self;
        keys.set(
            "aws:SourceIp",
            call.peer.address.ip().to_canonical().to_string(),
        );
        keys.set("aws:SecureTransport", call.peer.tls.to_string());
        keys.set("aws:CurrentTime", instant(call.now));
        keys.set("aws:EpochTime", call.now.as_second().to_string());
        keys.set(
            "aws:RequestedRegion",
            self.caller.verified().scope().region.clone(),
        );
        keys.set("aws:ViaAWSService", "false");
        for (key, header) in [
            ("aws:UserAgent", http::header::USER_AGENT),
            ("aws:referer", http::header::REFERER),
        ] {
            if let Some(text) = call
                .headers
                .get(header)
                .and_then(|value| value.to_str().ok())
            {
                keys.set(key, text.to_owned());
            }
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
        if let Some(organization) = self.organization_of(role.record.account) {
            keys.set("aws:ResourceOrgID", organization);
        }
        let tags = self.chain.target_role_tags(&role.record.tags);
        set_tags(keys, "aws:ResourceTag/", tags.iter());
        set_tags(keys, "iam:ResourceTag/", tags.iter());
    }

    fn organization_of(&self, account: countersign_arn::AccountId) -> Option<String> {
        self.snapshot
            .account(account)?
            .record
            .organization_id
            .as_deref()
            .map(Into::into)
    }
}

fn of_session(facts: ContextFacts, keys: &mut policy::Context<'static>) {
    keys.set("aws:PrincipalArn", facts.principal_arn);
    keys.set("aws:PrincipalType", facts.principal_type);
    keys.set("aws:userid", facts.user_id);
    keys.set("aws:TokenIssueTime", instant(facts.token_issue_time));
    set_tags(keys, "aws:PrincipalTag/", facts.principal_tags.iter());
    let optional = [
        ("aws:username", facts.user_name),
        (
            "aws:MultiFactorAuthPresent",
            facts.mfa_present.map(|present| present.to_string()),
        ),
        (
            "aws:MultiFactorAuthAge",
            facts.mfa_age.map(|age| age.to_string()),
        ),
        ("aws:SourceIdentity", facts.source_identity),
        ("aws:FederatedProvider", facts.federated_provider),
        (
            "aws:AssumedRoot",
            facts.assumed_root.then(|| "true".to_owned()),
        ),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            keys.set(key, value);
        }
    }
    for (key, values) in facts.provider_keys {
        if policy::tables::is_list_key(&key) {
            keys.set_list(key, values);
        } else if let Some(value) = values.into_iter().next() {
            keys.set(key, value);
        }
    }
}

fn set_tags<'t>(
    keys: &mut policy::Context<'static>,
    prefix: &str,
    tags: impl Iterator<Item = &'t Tag>,
) {
    for tag in tags {
        keys.set_tag(prefix, &tag.key, tag.value.to_string());
    }
}

fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

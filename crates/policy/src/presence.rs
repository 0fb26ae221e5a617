//! Filling a context: which key is present when (policy language spec, sections 7.1 to 7.5).
//!
//! Front ends state facts; the rules of presence are here once. A fact that is `None` leaves its key out, and a key is never present
//! because it might be useful: negated operators and `IfExists` are true on absence.

use std::borrow::Cow;

use crate::context::Context;
use crate::fold;
use crate::request::{Credentials, Identity, Principal};

/// What is known about the caller beside its identity.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallerFacts<'a> {
    /// `aws:userid` of a session: the role's id and the session name, `AROA...:session`; of an instance role, `AROA...:i-...`.
    pub user_id: Option<&'a str>,
    /// Organization of the caller's account.
    pub organization: Option<Organization<'a>>,
    /// Tags of the user, or of the role with the session's over them.
    pub tags: &'a [(&'a str, &'a str)],
    /// When temporary credentials were issued, as text; `None` for long-term keys.
    pub token_issue_time: Option<&'a str>,
    /// The second factor, for temporary credentials that can have one: not for web identity, SAML and federated users.
    pub mfa: Option<Mfa>,
    /// The source identity of the session.
    pub source_identity: Option<&'a str>,
    /// The provider behind a web identity or SAML session, and behind the call that makes one.
    pub federated_provider: Option<&'a str>,
}

/// An organization, and where an account stands in it.
#[derive(Debug, Clone, Copy)]
pub struct Organization<'a> {
    /// `o-...`
    pub id: &'a str,
    /// `o-.../r-.../ou-.../`, always ending in a slash.
    pub path: &'a str,
}

/// Whether a second factor was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mfa {
    /// No.
    Absent,
    /// This many seconds ago.
    Present {
        /// Zero in the AssumeRole call itself.
        age_seconds: u64,
    },
}

/// What is known about the request itself.
#[derive(Debug, Clone, Copy)]
pub struct CallFacts<'a> {
    /// The region; global services say `us-east-1`.
    pub region: &'a str,
    /// Now, as `2026-01-31T12:00:00Z`.
    pub current_time: &'a str,
    /// Now, as Unix seconds.
    pub epoch_seconds: i64,
    /// Whether TLS was used.
    pub secure_transport: bool,
    /// The caller's address; `None` for requests through a VPC endpoint.
    pub source_ip: Option<&'a str>,
    /// The `User-Agent` header.
    pub user_agent: Option<&'a str>,
    /// The `Referer` header.
    pub referer: Option<&'a str>,
}

/// What is known about the resource.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResourceFacts<'a> {
    /// Its account.
    pub account: Option<&'a str>,
    /// That account's organization.
    pub organization: Option<Organization<'a>>,
    /// Its tags; for creates, the tags being set.
    pub tags: &'a [(&'a str, &'a str)],
}

/// What a service principal acts for.
#[derive(Debug, Clone, Copy)]
pub struct ServiceSource<'a> {
    /// `aws:SourceArn`
    pub arn: &'a str,
    /// `aws:SourceAccount`
    pub account: &'a str,
    /// That account's organization.
    pub organization: Option<Organization<'a>>,
}

/// What a call of the AssumeRole family passes.
#[derive(Debug, Clone, Copy, Default)]
pub struct AssumeFacts<'a> {
    /// The session name.
    pub session_name: &'a str,
    /// The external id.
    pub external_id: Option<&'a str>,
    /// The source identity that is passed or inherited.
    pub source_identity: Option<&'a str>,
    /// Tags passed in this call; inherited ones are not request tags.
    pub tags: &'a [(&'a str, &'a str)],
    /// Keys marked transitive in this call.
    pub transitive_keys: &'a [&'a str],
    /// Tags of the target role.
    pub role_tags: &'a [(&'a str, &'a str)],
    /// Transitive tags that the calling session hands on.
    pub inherited_tags: &'a [(&'a str, &'a str)],
}

impl<'a> Context<'a> {
    /// Adds what follows from the caller.
    pub fn add_caller(&mut self, caller: &'a Principal, facts: &CallerFacts<'a>) {
        let (kind, named) = match caller.identity() {
            Identity::Root => ("Account", true),
            Identity::User { .. } => ("User", true),
            Identity::Session { .. } => ("AssumedRole", true),
            Identity::FederatedUser { .. } => ("FederatedUser", true),
            Identity::Service { .. } => ("Service", false),
            Identity::Anonymous | Identity::Federated { .. } => ("Anonymous", false),
        };
        self.set("aws:PrincipalType", kind);
        match caller.identity() {
            Identity::Anonymous | Identity::Federated { .. } => {
                self.set("aws:PrincipalAccount", "anonymous");
                self.set("aws:userid", "anonymous");
            }
            Identity::Service { name } => {
                self.set("aws:PrincipalIsAWSService", "true");
                self.set("aws:PrincipalServiceName", &**name);
                self.set_list("aws:PrincipalServiceNamesList", [&**name]);
            }
            _ => {
                self.set("aws:PrincipalIsAWSService", "false");
                self.set("aws:PrincipalAccount", caller.account());
            }
        }
        if let Some(provider) = facts.federated_provider {
            self.set("aws:FederatedProvider", provider);
        }
        if !named {
            return;
        }
        if let Some(arn) = caller.principal_arn() {
            self.set("aws:PrincipalArn", arn);
        }
        if let Some(id) = user_id(caller, facts.user_id) {
            self.set("aws:userid", id);
        }
        if let Some(name) = caller.user_name() {
            self.set("aws:username", name.to_owned());
        }
        if let Some(organization) = facts.organization {
            self.set("aws:PrincipalOrgID", organization.id);
            self.set_list("aws:PrincipalOrgPaths", [organization.path]);
        }
        for (key, value) in facts.tags {
            self.set_tag("aws:PrincipalTag/", key, *value);
        }
        self.add_session(caller, facts);
    }

    fn add_session(&mut self, caller: &Principal, facts: &CallerFacts<'a>) {
        let is_session = matches!(caller.identity(), Identity::Session { .. });
        let is_federated_user = matches!(caller.identity(), Identity::FederatedUser { .. });
        let temporary = is_session
            || is_federated_user
            || matches!(caller.credentials(), Credentials::SessionToken { .. });
        if !temporary {
            return;
        }
        if let Some(time) = facts.token_issue_time {
            self.set("aws:TokenIssueTime", time);
        }
        if let Some(identity) = facts.source_identity.filter(|_| is_session) {
            self.set("aws:SourceIdentity", identity);
        }
        if is_federated_user || facts.federated_provider.is_some() {
            return;
        }
        match facts.mfa {
            None => {}
            Some(Mfa::Absent) => self.set("aws:MultiFactorAuthPresent", "false"),
            Some(Mfa::Present { age_seconds }) => self.add_mfa(age_seconds),
        }
    }

    /// Adds a second factor that was used `age_seconds` ago. An AssumeRole call that passes a valid code has it with age zero, whatever
    /// the caller's own credentials are.
    pub fn add_mfa(&mut self, age_seconds: u64) {
        self.set("aws:MultiFactorAuthPresent", "true");
        self.set("aws:MultiFactorAuthAge", age_seconds.to_string());
    }

    /// Adds what follows from the request itself.
    pub fn add_call(&mut self, facts: &CallFacts<'a>) {
        self.set("aws:RequestedRegion", facts.region);
        self.set("aws:CurrentTime", facts.current_time);
        self.set("aws:EpochTime", facts.epoch_seconds.to_string());
        self.set("aws:SecureTransport", flag(facts.secure_transport));
        self.set("aws:ViaAWSService", "false");
        for (key, value) in [
            ("aws:SourceIp", facts.source_ip),
            ("aws:UserAgent", facts.user_agent),
            ("aws:referer", facts.referer),
        ] {
            if let Some(value) = value {
                self.set(key, value);
            }
        }
    }

    /// Adds what follows from the resource.
    pub fn add_resource(&mut self, facts: &ResourceFacts<'a>) {
        if let Some(account) = facts.account {
            self.set("aws:ResourceAccount", account);
        }
        if let Some(organization) = facts.organization {
            self.set("aws:ResourceOrgID", organization.id);
            self.set_list("aws:ResourceOrgPaths", [organization.path]);
        }
        for (key, value) in facts.tags {
            self.set_tag("aws:ResourceTag/", key, *value);
        }
    }

    /// Adds the tags that a request passes; nothing when it passes none.
    pub fn add_request_tags(&mut self, tags: &'a [(&'a str, &'a str)]) {
        if tags.is_empty() {
            return;
        }
        for (key, value) in tags {
            self.set_tag("aws:RequestTag/", key, *value);
        }
        self.set_list("aws:TagKeys", tags.iter().map(|(key, _)| *key));
    }

    /// Adds the tag keys that a request without values passes, as UntagResource does.
    pub fn add_request_tag_keys(&mut self, keys: &'a [&'a str]) {
        if !keys.is_empty() {
            self.set_list("aws:TagKeys", keys.iter().copied());
        }
    }

    /// Adds for whom a service acts. Only service principals have these keys.
    pub fn add_service_source(&mut self, source: &ServiceSource<'a>) {
        self.set("aws:SourceArn", source.arn);
        self.set("aws:SourceAccount", source.account);
        if let Some(organization) = source.organization {
            self.set("aws:SourceOrgID", organization.id);
            self.set_list("aws:SourceOrgPaths", [organization.path]);
        }
    }

    /// Adds what a call of the AssumeRole family passes. Inherited transitive tags are no request tags, and stand over the target
    /// role's own tags of the same key.
    pub fn add_assume_role(&mut self, facts: &AssumeFacts<'a>) {
        self.set("sts:RoleSessionName", facts.session_name);
        if let Some(id) = facts.external_id {
            self.set("sts:ExternalId", id);
        }
        if let Some(identity) = facts.source_identity {
            self.set("sts:SourceIdentity", identity);
        }
        self.add_request_tags(facts.tags);
        if !facts.transitive_keys.is_empty() {
            self.set_list(
                "sts:TransitiveTagKeys",
                facts.transitive_keys.iter().copied(),
            );
        }
        for (key, value) in facts.role_tags {
            let inherited = facts
                .inherited_tags
                .iter()
                .find(|(other, _)| fold::eq(other, key))
                .map_or(*value, |(_, value)| *value);
            self.set_tag("aws:ResourceTag/", key, inherited);
            self.set_tag("iam:ResourceTag/", key, inherited);
        }
    }

    /// Adds a claim of a verified web identity token, under the provider's URL without `https://`.
    pub fn add_claim(&mut self, issuer: &str, claim: &str, value: Claim<'a>) {
        let key = format!("{issuer}:{claim}");
        match value {
            Claim::One(text) => self.set(key, text),
            Claim::Many(texts) => self.set_list(key, texts.iter().copied()),
        }
    }
}

/// The value of a token's claim.
#[derive(Debug, Clone, Copy)]
pub enum Claim<'a> {
    /// One value: also `aud` as an array of one.
    One(&'a str),
    /// A list: `amr`, custom claims with array values, `aud` with several.
    Many(&'a [&'a str]),
}

/// The tags of a role session: the role's, under the session's, under the inherited transitive ones. Keys compare without case, and the
/// spelling of the strongest stays.
#[must_use]
pub fn session_tags<'a>(
    role: &[(&'a str, &'a str)],
    session: &[(&'a str, &'a str)],
    inherited: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mut tags: Vec<(&'a str, &'a str)> = Vec::new();
    for (key, value) in inherited.iter().chain(session).chain(role) {
        if !tags.iter().any(|(other, _)| fold::eq(other, key)) {
            tags.push((key, value));
        }
    }
    tags
}

fn user_id<'a>(caller: &'a Principal, stated: Option<&'a str>) -> Option<Cow<'a, str>> {
    if let Some(stated) = stated {
        return Some(Cow::Borrowed(stated));
    }
    match caller.identity() {
        Identity::Root => Some(Cow::Borrowed(caller.account())),
        Identity::User { .. } => caller.unique_id().map(Cow::Borrowed),
        Identity::FederatedUser { name, .. } => {
            Some(Cow::Owned(format!("{}:{name}", caller.account())))
        }
        Identity::Session { session, .. } => caller
            .unique_id()
            .map(|id| Cow::Owned(format!("{id}:{session}"))),
        Identity::Service { .. } | Identity::Anonymous | Identity::Federated { .. } => None,
    }
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

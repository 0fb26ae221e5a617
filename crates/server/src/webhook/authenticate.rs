//! From a token to a Kubernetes user: the local rules, the verification, the mapping, in this order. Tokens of people go another
//! way, [`super::people`].
//!
//! The decisions are the pure crates'; this module only waits for what they name: STS in upstream mode, and the name of a node.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_access::caller::{self, ASSERTION, AssertionKey};
use countersign_access::projection::entry_group;
use countersign_arn::CallerIdentity;
use countersign_mapping::{
    BackendKind, Chain, Ec2Facts, Ec2InstanceId, KubernetesIdentity, MappingDecision,
    NodeNameSource, RuleReference,
};
use countersign_oidc::UnverifiedIdToken;
use countersign_sources::Mappings;
use countersign_store::records::{AuthenticationMode, IdentityProviderConfig};
use countersign_store::{
    AccessEntryEntry, ClusterEntry, ClusterPlace, Directory, DirectoryError, DirectorySnapshot,
};
use countersign_token::{EndpointKind, PresignedToken, ReasonCode, Rules};
use countersign_upstream::ec2::{InstanceLookup, LookupError};
use countersign_upstream::sts::StsVerifier;
use jiff::Timestamp;

use super::denial::{
    Denial, DenialClass, DenyMode, by_mapping, by_store, by_sts, by_token_rule, rejected,
};
use super::entries::{PrincipalBinding, Registered, chain_of};
use super::people;
use super::rules;
use super::wire::{Extra, User};
use crate::access_policies::AccessPolicies;
use crate::aws::KeyRing;
use crate::store_health::StoreHealth;
use crate::web_identity::WebIdentity;

/// Who verifies tokens.
#[derive(Debug, Clone)]
pub enum Verifier {
    /// The embedded STS: tokens of trusted endpoints, in process.
    Embedded(Arc<KeyRing>),
    /// Real AWS STS: tokens of AWS hosts, by replaying them.
    Upstream(StsVerifier),
}

/// What the reviews of all clusters share.
#[derive(Debug)]
pub struct ReviewOptions {
    /// The local rules for tokens.
    pub rules: Rules,
    /// Who verifies; the first that is for the token's host does.
    pub verifiers: Vec<Verifier>,
    /// Where names of nodes are looked up.
    pub nodes: Option<InstanceLookup>,
    /// Where clusters and access entries are, if this server has any.
    pub directory: Option<Directory>,
    /// Where the keys of issuers are that identity provider configs of clusters name; without it, people's tokens are nobody's.
    pub people: Option<Arc<WebIdentity>>,
    /// The store behind it.
    pub store: Option<StoreHealth>,
    /// Whether access entries take a unique id at their first use.
    pub principal_binding: PrincipalBinding,
    /// Where access rules are, which access entries come before.
    pub policies: Arc<AccessPolicies>,
    /// How refusals are answered.
    pub deny_mode: DenyMode,
    /// Status when STS cannot be asked: 500, or 403 for strict parity with the reference.
    pub upstream_failure_status: u16,
}

/// What a cluster's reviews need.
#[derive(Debug)]
pub struct ClusterOptions {
    /// The name in paths and events.
    pub name: String,
    /// The cluster id that tokens must be signed for.
    pub cluster_id: String,
    /// The mapping rules; of a registered cluster, those in the place of aws-auth.
    pub mappings: Arc<Mappings>,
    /// The cluster of the EKS API whose authentication mode decides; without one, `mappings` alone do.
    pub registered: Option<Registered>,
    /// Whether the group of the caller's access entry is named, to which its policies are bound as RBAC objects (EKS API spec,
    /// section 18.2).
    pub names_entry: bool,
    /// What it shares with the others.
    pub shared: Arc<ReviewOptions>,
}

/// Reviews tokens for one cluster.
#[derive(Debug)]
pub struct ClusterAuthenticator(ClusterOptions);

/// A finished review, with what the event and the metrics want to know.
#[derive(Debug)]
pub struct Review {
    /// The user, or why there is none.
    pub outcome: Result<Accepted, Denial>,
    /// Who calls, once verified.
    pub identity: Option<Arc<CallerIdentity>>,
    /// Whether the caller's account keeps its identities out of logs.
    pub is_scrubbed: bool,
    /// First half of the SHA-256 of the signature.
    pub fingerprint: Option<[u8; 8]>,
    /// When the token was signed.
    pub signed_at: Option<Timestamp>,
    /// How the identity is known: `embedded`, `sts`, `shared_call`, `cache`, `stale_cache`.
    pub cache: Option<&'static str>,
    /// Which mapping rules were in force.
    pub mapping_generation: u64,
    /// The authentication mode in force, of a registered cluster.
    pub mode: Option<AuthenticationMode>,
    /// The rule of aws-auth that an access entry or access rule of the same principal keeps from counting (EKS API spec, section 7.9).
    pub hides: Option<String>,
    /// Time spent waiting for STS.
    pub sts_time: Duration,
    /// Time spent waiting for a node's name.
    pub lookup_time: Duration,
}

/// A Kubernetes user and the rule that made it.
#[derive(Debug)]
pub struct Accepted {
    identity: KubernetesIdentity,
    backend: &'static str,
    /// None for people, whose rule is a config.
    rule: Option<RuleReference>,
    rule_text: std::sync::OnceLock<String>,
}

impl Accepted {
    fn new(identity: KubernetesIdentity, rule: &RuleReference) -> Self {
        Self {
            identity,
            backend: rule.backend.name(),
            rule: Some(rule.clone()),
            rule_text: std::sync::OnceLock::new(),
        }
    }

    /// The user whom a token of this identity provider config made.
    fn person(identity: KubernetesIdentity, config: &str) -> Self {
        Self {
            identity,
            backend: "IdentityProviderConfig",
            rule: None,
            rule_text: format!("identity provider config `{config}`").into(),
        }
    }

    fn is_by(&self, backend: BackendKind) -> bool {
        self.rule
            .as_ref()
            .is_some_and(|rule| rule.backend == backend)
    }

    /// The access entry that decided, if one did.
    fn access_entry<'s>(
        &self,
        snapshot: &'s DirectorySnapshot,
        cluster: &ClusterEntry,
    ) -> Option<&'s Arc<AccessEntryEntry>> {
        if !self.is_by(BackendKind::AccessEntries) {
            return None;
        }
        let principal = self.rule.as_ref()?.object.as_deref()?;
        snapshot.access_entry(&cluster.record.id, principal)
    }

    /// The same with the group that the policies of this id are bound to, which is an entry's or an access rule's. Accounts that keep their identities out of logs have no
    /// access policies, here as little as where the authorizer is asked.
    fn in_group_of(mut self, id: &str) -> Self {
        if !self.identity.scrubbed {
            self.identity.groups.push(entry_group(id));
        }
        self
    }

    /// The same with the proof of who it is, for reviews that reach the authorizer over another API server (EKS API spec,
    /// section 9.5).
    fn asserted(
        mut self,
        directory: &Directory,
        cluster: &ClusterEntry,
        identity: &CallerIdentity,
        now: Timestamp,
    ) -> Self {
        // Without it, only what asks over another API server is left to RBAC.
        match directory.assertion_key(&cluster.record.id) {
            Ok(key) => {
                let assertion = caller::assertion(
                    &AssertionKey::new(*key),
                    &cluster.record.id,
                    identity.user_id(),
                    identity.arn(),
                    &self.identity.username,
                    now,
                );
                self.identity = self.identity.with_extra(ASSERTION, assertion);
            }
            Err(error) => tracing::error!(%error, "no assertion could be made"),
        }
        self
    }

    /// The username.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.identity.username
    }

    /// The uid.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.identity.uid
    }

    /// The groups.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.identity.groups
    }

    /// The whole identity.
    #[must_use]
    pub fn identity(&self) -> &KubernetesIdentity {
        &self.identity
    }

    /// The backend that matched.
    #[must_use]
    pub fn backend(&self) -> &str {
        self.backend
    }

    /// The rule that matched, for people.
    #[must_use]
    pub fn rule(&self) -> &str {
        self.rule_text.get_or_init(|| {
            let rule = self.rule.as_ref();
            rule.map(ToString::to_string).unwrap_or_default()
        })
    }

    /// The user of a TokenReview.
    #[must_use]
    pub fn user(&self) -> User<'_> {
        let identity = &self.identity;
        let extra = identity.extra.iter().flat_map(|extra| {
            extra
                .values
                .first()
                .map(|value| (Cow::Borrowed(extra.key.as_ref()), value.as_str()))
        });
        User {
            username: &identity.username,
            uid: &identity.uid,
            groups: &identity.groups,
            extra: Extra(extra.collect()),
        }
    }
}

impl ClusterAuthenticator {
    /// An authenticator for one cluster.
    #[must_use]
    pub fn new(options: ClusterOptions) -> Self {
        Self(options)
    }

    /// The name in paths and events.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The sources of its mapping rules.
    #[must_use]
    pub fn mappings(&self) -> &Arc<Mappings> {
        &self.0.mappings
    }

    /// The cluster of the EKS API that it is.
    #[must_use]
    pub fn registered(&self) -> Option<&Registered> {
        self.0.registered.as_ref()
    }

    /// How refusals are answered.
    #[must_use]
    pub fn deny_mode(&self) -> DenyMode {
        self.0.shared.deny_mode
    }

    /// The status when STS cannot be asked.
    #[must_use]
    pub fn upstream_failure_status(&self) -> u16 {
        self.0.shared.upstream_failure_status
    }

    /// Reviews a token.
    pub async fn review(&self, token: &str, now: Timestamp) -> Review {
        let mut review = Review {
            outcome: Err(Denial {
                class: DenialClass::Unmapped,
                reason: Cow::Borrowed("not_mapped"),
                label: "not_mapped",
                text: String::new(),
                nearest: Vec::new(),
            }),
            identity: None,
            is_scrubbed: false,
            fingerprint: None,
            signed_at: None,
            cache: None,
            mapping_generation: 0,
            mode: None,
            hides: None,
            sts_time: Duration::ZERO,
            lookup_time: Duration::ZERO,
        };
        review.outcome = self.decide(token, now, &mut review).await;
        review
    }

    async fn decide(
        &self,
        token: &str,
        now: Timestamp,
        review: &mut Review,
    ) -> Result<Accepted, Denial> {
        if let Some(outcome) = self.person(token, now, review).await {
            return outcome;
        }
        let token = PresignedToken::parse(token, &self.0.shared.rules, now)
            .map_err(|error| by_token_rule(&error))?;
        review.fingerprint = Some(fingerprint(token.signature()));
        review.signed_at = Some(token.signed_at());
        let identity = self.verify(&token, now, review).await?;
        review.identity = Some(Arc::clone(&identity));
        // One state from start to end, also when a node's name has to be waited for.
        let state = arc_swap::Guard::into_inner(self.0.mappings.load());
        review.mapping_generation = state.generation;
        review.is_scrubbed = state
            .chain
            .options()
            .scrubbed_accounts
            .contains(&identity.account());
        let (Some(registered), Some(directory)) = (&self.0.registered, &self.0.shared.directory)
        else {
            return self.map(&state.chain, &identity, review).await;
        };
        if let Some(store) = &self.0.shared.store {
            store.check().map_err(|away| by_store(&away))?;
        }
        for _ in 0..BIND_ATTEMPTS {
            let snapshot = directory.snapshot();
            let in_force = arc_swap::Guard::into_inner(self.0.shared.policies.current());
            let cluster = registered
                .find(&snapshot)
                .ok_or_else(|| self.not_registered())?;
            review.mode = Some(cluster.record.authentication_mode);
            let chain = chain_of(
                &snapshot,
                cluster,
                &state.chain,
                &self.0.mappings.options().mapping,
                self.0.shared.principal_binding,
                &in_force,
            );
            let accepted = self.map(&chain, &identity, review).await?;
            let entry = accepted.access_entry(&snapshot, cluster);
            if entry.is_none() && !accepted.is_by(BackendKind::AccessRules) {
                return Ok(accepted);
            }
            if let Some(entry) = entry.filter(|entry| entry.record.principal_id.is_none()) {
                match bind(directory, cluster, entry, &identity, now).await {
                    Ok(()) => {}
                    // Somebody else was first, or the entry is another one by now: who it is for is decided anew.
                    Err(error) if !error.is_unavailable() => continue,
                    Err(error) => return Err(binding_failed(&error)),
                }
            }
            if cluster.record.authentication_mode == AuthenticationMode::ApiAndConfigMap
                && let MappingDecision::Mapped(hidden) = state.chain.map(&identity)
            {
                review.hides = Some(hidden.rule().to_string());
            }
            let accepted = accepted.asserted(directory, cluster, &identity, now);
            if !self.0.names_entry {
                return Ok(accepted);
            }
            return Ok(match entry.map(|entry| &entry.record) {
                Some(entry) if entry.entry_type.takes_policies() => {
                    accepted.in_group_of(&entry.uuid)
                }
                Some(_) => accepted,
                None => {
                    let (id, caller) = (identity.user_id(), identity.caller());
                    match rules::find(&in_force, &snapshot, &cluster.record, id, caller) {
                        Some(rule) => accepted.in_group_of(&rule.id()),
                        None => accepted,
                    }
                }
            });
        }
        Err(Denial {
            class: DenialClass::LookupFailed,
            reason: Cow::Borrowed("access_entry_changes"),
            label: "access_entry_changes",
            text: "the access entry changes while it is used; try again".into(),
            nearest: Vec::new(),
        })
    }

    /// The user of a token of people, or why there is none; nothing for a token that no identity provider config of the
    /// cluster is for.
    async fn person(
        &self,
        token: &str,
        now: Timestamp,
        review: &mut Review,
    ) -> Option<Result<Accepted, Denial>> {
        let shared = &self.0.shared;
        let (registered, directory) = (self.0.registered.as_ref()?, shared.directory.as_ref()?);
        let keys = shared.people.as_ref()?;
        let snapshot = directory.snapshot();
        let cluster = registered.find(&snapshot)?;
        let most = shared.rules.max_token_bytes();
        let (unverified, config) = people::whose(&snapshot, &cluster.record.id, token, most)?;
        review.mode = Some(cluster.record.authentication_mode);
        let signature = token.rsplit('.').next().unwrap_or_default();
        review.fingerprint = Some(fingerprint(signature));
        Some(
            self.known_person(directory, keys, &unverified, &config.record, now)
                .await,
        )
    }

    async fn known_person(
        &self,
        directory: &Directory,
        keys: &WebIdentity,
        token: &UnverifiedIdToken<'_>,
        config: &IdentityProviderConfig,
        now: Timestamp,
    ) -> Result<Accepted, Denial> {
        if let Some(store) = &self.0.shared.store {
            store.check().map_err(|away| by_store(&away))?;
        }
        let issuer = people::issuer_of(config)?;
        let verified = keys
            .verify_id_token(token, &issuer)
            .await
            .map_err(|error| people::by_id_token(&error))?;
        let snapshot = directory.snapshot();
        let config = people::still_there(&snapshot, config)?;
        let user = people::rules_of(config)
            .user(verified, now)
            .map_err(|error| people::by_person(&error))?;
        let state = self.0.mappings.load();
        let options = state.chain.options();
        people::check_privileged(&user, |group| options.privileged_groups.contains_key(group))?;
        Ok(Accepted::person(user, &config.name))
    }

    /// The user of `chain`, with the name of its node where one is needed.
    async fn map(
        &self,
        chain: &Chain,
        identity: &CallerIdentity,
        review: &mut Review,
    ) -> Result<Accepted, Denial> {
        match chain.map(identity) {
            MappingDecision::Mapped(mapped) => {
                let facts = match mapped.required_lookup() {
                    None => None,
                    Some(instance) => Some(
                        self.node(instance, &mapped.entry().conditions.node_name, review)
                            .await?,
                    ),
                };
                let user = mapped
                    .render(identity, facts.as_deref())
                    .map_err(|denied| by_mapping(*denied))?;
                Ok(Accepted::new(user, mapped.rule()))
            }
            MappingDecision::AccountAllowed(allowed) => {
                Ok(Accepted::new(allowed.render(identity), allowed.rule()))
            }
            MappingDecision::Denied(denied) => Err(by_mapping(*denied.explain(identity))),
        }
    }

    fn not_registered(&self) -> Denial {
        Denial {
            class: DenialClass::Unmapped,
            reason: Cow::Borrowed("cluster_not_registered"),
            label: "cluster_not_registered",
            text: format!(
                "cluster `{}` is not registered with the EKS API, or being deleted",
                self.0.name
            ),
            nearest: Vec::new(),
        }
    }

    async fn verify(
        &self,
        token: &PresignedToken,
        now: Timestamp,
        review: &mut Review,
    ) -> Result<Arc<CallerIdentity>, Denial> {
        for verifier in &self.0.shared.verifiers {
            match (verifier, token.endpoint()) {
                (Verifier::Embedded(keys), EndpointKind::Trusted) => {
                    review.cache = Some("embedded");
                    if let Some(store) = &self.0.shared.store {
                        store.check().map_err(|away| by_store(&away))?;
                    }
                    return keys
                        .verify_token(token, &self.0.cluster_id, now)
                        .map_err(|error| {
                            let (code, mut message) = error.wire();
                            if code == "SignatureDoesNotMatch" {
                                // By far the most common cause, and the one thing the caller cannot see.
                                message.push_str(&format!(
                                    " This server expects tokens for cluster `{}`.",
                                    self.0.cluster_id
                                ));
                            }
                            rejected(code, "sts_rejected", &message)
                        });
                }
                (Verifier::Upstream(sts), EndpointKind::Aws) => {
                    let verified = sts
                        .verify(token, &self.0.cluster_id)
                        .await
                        .map_err(|error| by_sts(&error))?;
                    review.cache = Some(verified.from.as_str());
                    review.sts_time = verified.waited;
                    return Ok(verified.identity);
                }
                (Verifier::Embedded(_), EndpointKind::Aws)
                | (Verifier::Upstream(_), EndpointKind::Trusted) => {}
            }
        }
        // The host is a good one, but nobody here may ask it.
        Err(Denial {
            class: DenialClass::Token,
            reason: Cow::Borrowed(ReasonCode::BadHost.as_str()),
            label: ReasonCode::BadHost.as_str(),
            text: format!(
                "this server does not verify tokens for host {}",
                token.host()
            ),
            nearest: Vec::new(),
        })
    }

    async fn node(
        &self,
        instance: Ec2InstanceId,
        source: &NodeNameSource,
        review: &mut Review,
    ) -> Result<Arc<Ec2Facts>, Denial> {
        let lookup_failed = |reason: &'static str, text: String| Denial {
            class: DenialClass::LookupFailed,
            reason: Cow::Borrowed(reason),
            label: reason,
            text,
            nearest: Vec::new(),
        };
        let Some(nodes) = &self.0.shared.nodes else {
            if *source == NodeNameSource::PrivateDnsNameOrInstanceId {
                // No name is known, and what has to be compared is not known either: `render` decides whether that will do.
                return Ok(Arc::new(Ec2Facts {
                    instance_id: Some(instance),
                    ..Ec2Facts::default()
                }));
            }
            return Err(lookup_failed(
                "node_lookup_unavailable",
                "no source of node names is configured".into(),
            ));
        };
        let start = Instant::now();
        let found = nodes.facts(instance, source).await;
        review.lookup_time = start.elapsed();
        match found {
            Ok(facts) => Ok(facts),
            Err(error @ (LookupError::NotFound | LookupError::Terminated)) => Err(Denial {
                class: DenialClass::Unmapped,
                reason: Cow::Borrowed("instance_unknown"),
                label: "instance_unknown",
                text: format!("instance {instance}: {error}"),
                nearest: Vec::new(),
            }),
            Err(error) => Err(lookup_failed("node_lookup_failed", error.to_string())),
        }
    }
}

/// How often a review begins anew because the access entry got another unique id meanwhile.
const BIND_ATTEMPTS: usize = 3;

/// Gives an access entry the caller's unique id, compare-and-set.
async fn bind(
    directory: &Directory,
    cluster: &ClusterEntry,
    entry: &AccessEntryEntry,
    identity: &CallerIdentity,
    now: Timestamp,
) -> Result<(), DirectoryError> {
    let record = &entry.record;
    let place = ClusterPlace {
        account: cluster.record.account,
        region: &cluster.record.region,
        name: &cluster.record.name,
    };
    directory
        .bind_access_entry(place, &record.principal_arn, identity.user_id(), now)
        .await?;
    tracing::info!(
        cluster = %cluster.arn,
        principal = %record.principal_arn,
        principal_id = identity.user_id(),
        "access entry bound to the first principal that used it"
    );
    Ok(())
}

fn binding_failed(error: &DirectoryError) -> Denial {
    Denial {
        class: DenialClass::LookupFailed,
        reason: Cow::Borrowed("store_away"),
        label: "store_away",
        text: format!("the access entry could not be bound to its principal: {error}"),
        nearest: Vec::new(),
    }
}

fn fingerprint(signature: &str) -> [u8; 8] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, signature.as_bytes());
    let mut half = [0; 8];
    half.iter_mut()
        .zip(digest.as_ref())
        .for_each(|(to, from)| *to = *from);
    half
}

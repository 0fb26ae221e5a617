//! The SubjectAccessReview webhook: what access policies allow (EKS API spec, section 9).
//!
//! It allows or has no opinion, and never denies: RBAC, which is asked afterwards, may still allow. What cannot be decided is
//! told in `evaluationError`, so that an outage here costs nobody what RBAC gives.

use std::fmt::Write as _;
use std::sync::Arc;

use countersign_access::caller::{self, AssertionKey, Delegated, Untrusted, UserInfo};
use countersign_access::{AccessDecision, AccessScope, AggregatedRules, EntryType, EntryView};
use countersign_arn::CallerArn;
use countersign_rbac::review::{
    AccessReview, AccessReviewKind, AccessReviewStatus, ParsedSelectors, ReviewError, ReviewVersion,
};
use countersign_store::records::AuthenticationMode;
use countersign_store::{Directory, DirectorySnapshot};
use jiff::Timestamp;
use serde::Serialize;

use super::entries::Registered;
use super::rules;
use crate::access_policies::AccessPolicies;
use crate::aggregation::Aggregation;
use crate::metrics::AuthorizeResult;
use crate::store_health::StoreHealth;

/// What answers about access policies need.
#[derive(Debug)]
pub struct AuthorizerOptions {
    /// Where clusters and access entries are; without it there is no opinion about anything.
    pub directory: Option<Directory>,
    /// The store behind it.
    pub store: Option<StoreHealth>,
    /// The policies, and the access rules.
    pub policies: Arc<AccessPolicies>,
    /// What ClusterRoles add to policies with `aggregate`.
    pub aggregation: Aggregation,
    /// Whom to believe that is told by another API server (section 9.5).
    pub delegated: Delegated,
}

/// Answers access reviews.
#[derive(Debug)]
pub struct Authorizer(AuthorizerOptions);

/// An answer, with what the event and the metrics want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// Allowed, no opinion, or not decided.
    pub outcome: AuthorizeResult,
    /// Why, in EKS's words; empty for callers who are none of our business.
    pub reason: String,
    /// What kept it from being decided.
    pub error: String,
    /// Who asks, if it is a principal of IAM.
    pub principal_id: Option<Box<str>>,
    /// The access rule whose policies were asked, for callers without an access entry.
    pub rule: Option<String>,
    /// The authentication mode in force.
    pub mode: Option<AuthenticationMode>,
}

/// Reads a request body.
///
/// # Errors
/// When it is no SubjectAccessReview of a version that is known.
pub fn parse(body: &[u8]) -> Result<AccessReview, ReviewError> {
    let review = AccessReview::from_json(body)?;
    if review.kind != AccessReviewKind::SubjectAccessReview {
        return Err(ReviewError::UnexpectedKind(review.kind.as_str().to_owned()));
    }
    Ok(review)
}

impl Authorizer {
    /// An authorizer over the directory's clusters.
    #[must_use]
    pub fn new(options: AuthorizerOptions) -> Self {
        Self(options)
    }

    /// Decides a review about a cluster, from the snapshot of this moment. Waits for nothing.
    #[must_use]
    pub fn decide(&self, cluster: &Registered, review: &AccessReview, now: Timestamp) -> Ruling {
        let Some(directory) = &self.0.directory else {
            return Ruling::undecided("this server has no access entries".into());
        };
        if let Some(store) = &self.0.store
            && let Err(away) = store.check()
        {
            return Ruling::undecided(away.to_string());
        }
        let snapshot = directory.feed().load();
        self.decide_on(directory, &snapshot, cluster, review, now)
    }

    fn decide_on(
        &self,
        directory: &Directory,
        snapshot: &DirectorySnapshot,
        cluster: &Registered,
        review: &AccessReview,
        now: Timestamp,
    ) -> Ruling {
        let Some(cluster) = cluster.find(snapshot) else {
            return Ruling::undecided(
                "the cluster is not registered with the EKS API, or being deleted".into(),
            );
        };
        let cluster = &cluster.record;
        let mut ruling = Ruling::no_opinion(String::new());
        ruling.mode = Some(cluster.authentication_mode);
        if cluster.authentication_mode == AuthenticationMode::ConfigMap {
            return ruling;
        }
        let spec = &review.spec;
        let user = UserInfo {
            username: &spec.user,
            uid: &spec.uid,
            extra: &spec.extra,
        };
        let key = || match directory.assertion_key(&cluster.id) {
            Ok(key) => Some(AssertionKey::new(*key)),
            Err(error) => {
                tracing::error!(%error, "assertions cannot be verified");
                None
            }
        };
        let principal_id =
            match caller::principal_of(&user, &cluster.id, key, now, self.0.delegated) {
                Ok(id) => id,
                // Service accounts, nodes, users of OpenID Connect: nothing that their 403 should tell.
                Err(Untrusted::NoPrincipal) => return ruling,
                Err(error @ Untrusted::NoKey) => {
                    ruling.outcome = AuthorizeResult::Error;
                    ruling.error = error.to_string();
                    return ruling;
                }
                Err(untrusted) => {
                    ruling.reason = format!("EKS Access Policy: no opinion: {untrusted}");
                    return ruling;
                }
            };
        ruling.principal_id = Some(principal_id.into());
        // Field and label selectors narrow the question; the answer to the broader one holds for it.
        let selectors = ParsedSelectors::default();
        let Some(action) = review.action(&selectors) else {
            ruling.outcome = AuthorizeResult::Error;
            ruling.error =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified"
                    .into();
            return ruling;
        };
        let policies = self.0.policies.current();
        // Without the cluster's ClusterRoles such policies grant their own rules.
        let aggregated = if policies.aggregates() {
            self.0.aggregation.rules_of(snapshot, &cluster.id)
        } else {
            None
        };
        let aggregated = aggregated.as_deref().unwrap_or(AggregatedRules::none());
        if let Some(entry) = snapshot.access_entry_of_principal(&cluster.id, principal_id) {
            let record = &entry.record;
            let view = EntryView {
                principal_arn: &record.principal_arn,
                principal_id,
                entry_type: record.entry_type,
                associations: record
                    .associations
                    .iter()
                    .map(|association| (&*association.policy_arn, &association.scope)),
            };
            ruling.by_policies(&policies.authorize_in(aggregated, &view, &action));
            return ruling;
        }
        let caller = caller::arn_of(&user).and_then(|arn| CallerArn::parse(arn).ok());
        let rule = caller.as_ref().and_then(|caller| {
            let rule = rules::find(&policies, snapshot, cluster, principal_id, caller)?;
            Some((rule, caller.canonical()))
        });
        let Some((rule, principal_arn)) = &rule else {
            let _ = write!(
                ruling.reason,
                "EKS Access Policy: no opinion for {principal_id:?} (no access entry)"
            );
            return ruling;
        };
        let view = EntryView {
            principal_arn,
            principal_id,
            entry_type: EntryType::Standard,
            associations: rule.associations(),
        };
        ruling.by_policies(&policies.authorize_in(aggregated, &view, &action));
        ruling.reason.push_str(&rule.reason());
        ruling.rule = Some(rule.cited());
        ruling
    }
}

impl Ruling {
    /// No opinion, with what kept it from being decided.
    #[must_use]
    pub fn undecided(error: String) -> Self {
        Self {
            outcome: AuthorizeResult::Error,
            reason: String::new(),
            error,
            principal_id: None,
            rule: None,
            mode: None,
        }
    }

    fn no_opinion(reason: String) -> Self {
        Self {
            outcome: AuthorizeResult::NoOpinion,
            reason,
            error: String::new(),
            principal_id: None,
            rule: None,
            mode: None,
        }
    }

    fn by_policies<'a, I>(&mut self, decision: &AccessDecision<'a, I>)
    where
        I: IntoIterator<Item = (&'a str, &'a AccessScope)> + Clone,
    {
        if decision.is_allowed() {
            self.outcome = AuthorizeResult::Allow;
        }
        let _ = write!(self.reason, "{decision}");
    }

    /// Whether somebody may want to read about it: not about service accounts and other users that no policy is for.
    #[must_use]
    pub fn is_worth_an_event(&self) -> bool {
        self.outcome != AuthorizeResult::NoOpinion || !self.reason.is_empty()
    }

    /// The `status` of the answer.
    #[must_use]
    pub fn status(&self) -> AccessReviewStatus {
        AccessReviewStatus {
            allowed: self.outcome == AuthorizeResult::Allow,
            denied: false,
            reason: self.reason.clone(),
            evaluation_error: self.error.clone(),
        }
    }

    /// The answer's body in the version that was asked. The question is not repeated: kube-apiserver reads only the status.
    #[must_use]
    pub fn to_json(&self, version: ReviewVersion) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            api_version: &'static str,
            kind: &'static str,
            status: AccessReviewStatus,
        }
        let answer = Answer {
            api_version: version.as_str(),
            kind: AccessReviewKind::SubjectAccessReview.as_str(),
            status: self.status(),
        };
        let mut body = Vec::with_capacity(512);
        if serde_json::to_writer(&mut body, &answer).is_err() {
            // Writing strings into memory cannot fail; should it ever, an empty body is an error, hence no opinion.
            body.clear();
        }
        body
    }
}

//! Metrics: the reference's names, so that dashboards go on working, and ours.
//!
//! Label values come from closed sets only; a peer cannot make a new one.

mod access;
mod collect;
mod issuer;
mod mutate;
mod projection;
mod store;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use countersign_sources::Mappings;
use countersign_store::Directory;
use countersign_upstream::ec2::InstanceLookup;
use countersign_upstream::sts::StsVerifier;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use mutate::{MutateMetrics, Mutated};

use crate::access_policies::AccessPolicies;
use crate::issuer::ClusterIssuers;
use crate::projection::ProjectedCluster;
use crate::store_health::StoreHealth;
use crate::web_identity::WebIdentity;
use crate::webhook::mutate::ClusterMutator;

/// Buckets of the reference's latency histogram, seconds (the Go client's defaults).
const LATENCY_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Buckets of the authorizer's latency, seconds: it waits for nothing, and kube-apiserver is in a hurry.
const AUTHORIZE_BUCKETS: [f64; 9] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.025, 0.1, 1.0,
];
/// Buckets of a token's age at review, seconds; a token lives 900.
const AGE_BUCKETS: [f64; 8] = [1.0, 5.0, 15.0, 60.0, 120.0, 300.0, 600.0, 900.0];

/// How a review ended, in the reference's words (`uknown_user` is misspelt there, and dashboards rely on it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReviewResult {
    /// A user was found.
    Success,
    /// The request was no TokenReview.
    MalformedRequest,
    /// The token broke a local rule.
    InvalidToken,
    /// STS refused or could not be asked.
    StsError,
    /// STS throttled.
    StsThrottling,
    /// The identity is verified but maps to nobody.
    UnknownUser,
}

impl ReviewResult {
    const ALL: [Self; 6] = [
        Self::Success,
        Self::MalformedRequest,
        Self::InvalidToken,
        Self::StsError,
        Self::StsThrottling,
        Self::UnknownUser,
    ];

    /// The label value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::MalformedRequest => "malformed_request",
            Self::InvalidToken => "invalid_token",
            Self::StsError => "sts_error",
            Self::StsThrottling => "sts_throttling",
            Self::UnknownUser => "uknown_user",
        }
    }
}

/// What an access review came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthorizeResult {
    /// An access policy allows it.
    Allow,
    /// None does; somebody else may.
    NoOpinion,
    /// It could not be decided, which counts as no opinion.
    Error,
    /// The request was no SubjectAccessReview.
    MalformedRequest,
}

impl AuthorizeResult {
    const ALL: [Self; 4] = [
        Self::Allow,
        Self::NoOpinion,
        Self::Error,
        Self::MalformedRequest,
    ];

    /// The label value, and the word in events.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::NoOpinion => "no_opinion",
            Self::Error => "error",
            Self::MalformedRequest => "malformed_request",
        }
    }
}

/// What a call of AssumeRoleWithWebIdentity came to (IRSA spec, section 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WebIdentityResult {
    /// Credentials were issued.
    Ok,
    /// The token ran out.
    Expired,
    /// It is for somebody else.
    Audience,
    /// The account has no such provider.
    Provider,
    /// It is not one, or nothing verifies it.
    Signature,
    /// Its pod or service account is gone, or not known to be there.
    Bound,
    /// The role does not trust it.
    Denied,
    /// There were too many calls.
    Throttled,
    /// The other parameters are not what they must be.
    Invalid,
}

impl WebIdentityResult {
    const ALL: [Self; 9] = [
        Self::Ok,
        Self::Expired,
        Self::Audience,
        Self::Provider,
        Self::Signature,
        Self::Bound,
        Self::Denied,
        Self::Throttled,
        Self::Invalid,
    ];

    /// The label value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Expired => "expired",
            Self::Audience => "audience",
            Self::Provider => "provider",
            Self::Signature => "signature",
            Self::Bound => "bound",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Invalid => "invalid",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// All metrics of the process and the registry that prints them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    latency: [Histogram; 6],
    authorize: [Histogram; 4],
    denials: Family<ReasonLabel, Counter>,
    token_age: Histogram,
    events_lost: Counter,
    aws_requests: Family<AwsLabel, Counter>,
    aws_throttled: Family<LimitLabel, Counter>,
    eks_auth: Family<ResultLabel, Counter>,
    eks_auth_upstream: Family<ResultLabel, Histogram>,
    web_identity: [Counter; 9],
    web_identity_seconds: Histogram,
    mutate: Arc<MutateMetrics>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AwsLabel {
    service: &'static str,
    operation: &'static str,
    code: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every metric.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let latency_family = Family::<ResultLabel, Histogram>::new_with_constructor(|| {
            Histogram::new(LATENCY_BUCKETS)
        });
        let latency = ReviewResult::ALL.map(|result| {
            latency_family
                .get_or_create(&ResultLabel {
                    result: result.label(),
                })
                .clone()
        });
        let authorize_family = Family::<ResultLabel, Histogram>::new_with_constructor(|| {
            Histogram::new(AUTHORIZE_BUCKETS)
        });
        let authorize = AuthorizeResult::ALL.map(|result| {
            authorize_family
                .get_or_create(&ResultLabel {
                    result: result.label(),
                })
                .clone()
        });
        let denials = Family::default();
        let token_age = Histogram::new(AGE_BUCKETS);
        let events_lost = Counter::default();
        let aws_requests = Family::default();
        let aws_throttled = Family::default();
        let eks_auth = Family::default();
        let eks_auth_upstream = Family::<ResultLabel, Histogram>::new_with_constructor(|| {
            Histogram::new(LATENCY_BUCKETS)
        });
        let web_identity_family = Family::<ResultLabel, Counter>::default();
        let web_identity = WebIdentityResult::ALL.map(|result| {
            let result = result.label();
            web_identity_family
                .get_or_create(&ResultLabel { result })
                .clone()
        });
        let web_identity_seconds = Histogram::new(AUTHORIZE_BUCKETS);

        let reference = registry.sub_registry_with_prefix("aws_iam_authenticator");
        reference.register(
            "authenticate_latency_seconds",
            "Authenticate call latency",
            latency_family,
        );
        let ours = registry.sub_registry_with_prefix("countersign");
        ours.register(
            "authorize_latency_seconds",
            "Access reviews answered, by what they came to",
            authorize_family,
        );
        ours.register("denials", "Refused reviews by reason code", denials.clone());
        ours.register(
            "token_age_seconds",
            "Age of tokens when reviewed",
            token_age.clone(),
        );
        ours.register(
            "events_lost",
            "Decision events that could not be written",
            events_lost.clone(),
        );
        ours.register(
            "aws_requests",
            "AWS API requests by operation and error code",
            aws_requests.clone(),
        );
        ours.register(
            "aws_throttled",
            "Calls of STS over a limit: of an account, a key, or an address",
            aws_throttled.clone(),
        );
        ours.register(
            "eks_auth_credentials",
            "Pods' requests for credentials, by what they came to",
            eks_auth.clone(),
        );
        ours.register(
            "eks_auth_upstream_seconds",
            "AssumeRole of real AWS STS for pods",
            eks_auth_upstream.clone(),
        );
        ours.register(
            "sts_web_identity",
            "Calls of AssumeRoleWithWebIdentity by what they came to",
            web_identity_family,
        );
        ours.register(
            "sts_web_identity_seconds",
            "Time that calls of AssumeRoleWithWebIdentity took, asking issuers and API servers included",
            web_identity_seconds.clone(),
        );
        let mutate = Arc::new(MutateMetrics::new(&mut registry));
        Self {
            registry,
            mutate,
            latency,
            authorize,
            denials,
            token_age,
            events_lost,
            aws_requests,
            aws_throttled,
            eks_auth,
            eks_auth_upstream,
            web_identity,
            web_identity_seconds,
        }
    }

    /// Those of a process that is the admission webhook and nothing else: the others would all be zero.
    #[must_use]
    pub fn of_admission() -> Self {
        let mut registry = Registry::default();
        let mutate = Arc::new(MutateMetrics::new(&mut registry));
        let metrics = Self::new();
        registry.sub_registry_with_prefix("countersign").register(
            "events_lost",
            "Decision events that could not be written",
            metrics.events_lost.clone(),
        );
        Self {
            registry,
            mutate,
            ..metrics
        }
    }

    /// Adds the numbers that the mapping sources of clusters keep.
    pub fn register_sources(&mut self, clusters: Vec<(String, Arc<Mappings>)>) {
        self.registry
            .register_collector(Box::new(collect::Sources(clusters)));
    }

    /// Adds the numbers of the upstream.
    pub fn register_upstream(&mut self, sts: Option<StsVerifier>, nodes: Option<InstanceLookup>) {
        self.registry
            .register_collector(Box::new(collect::Upstream { sts, nodes }));
    }

    /// Adds the numbers of the audit log.
    pub fn register_audit(&mut self, counters: Arc<crate::audit::Counters>) {
        self.registry
            .register_collector(Box::new(collect::AuditLog(counters)));
    }

    /// Adds the numbers of the access policies file and of the access entries. Only where principals are kept here
    /// (`has_principals`) can it be told which entries are dead.
    pub fn register_access(
        &mut self,
        policies: Arc<AccessPolicies>,
        directory: Option<Directory>,
        has_principals: bool,
    ) {
        self.registry.register_collector(Box::new(access::Access {
            policies,
            directory,
            has_principals,
        }));
    }

    /// Adds the numbers of clusters whose access policies are written as RBAC objects, if there are any.
    pub fn register_projections(&mut self, clusters: Vec<ProjectedCluster>) {
        if !clusters.is_empty() {
            self.registry
                .register_collector(Box::new(projection::Projections(clusters)));
        }
    }

    /// Counts one access review.
    pub fn authorized(&self, result: AuthorizeResult, took: Duration) {
        if let Some(histogram) = self.authorize.get(result as usize) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// What the admission webhook counts.
    #[must_use]
    pub fn mutate(&self) -> &Arc<MutateMetrics> {
        &self.mutate
    }

    /// Adds the numbers of what the admission webhook knows of its clusters.
    pub fn register_mutators(&mut self, clusters: Vec<Arc<ClusterMutator>>) {
        self.registry
            .register_collector(Box::new(mutate::MutateSources(clusters)));
    }

    /// Adds the numbers of the store.
    pub fn register_store(&mut self, store: StoreHealth) {
        self.registry
            .register_collector(Box::new(store::Store(store)));
    }

    /// Counts one review.
    pub fn review(&self, result: ReviewResult, took: Duration) {
        if let Some(histogram) = self.latency.get(result as usize) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Counts one refusal by its reason code.
    pub fn denial(&self, reason: &'static str) {
        self.denials.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Records how old a token was when it was accepted, in seconds.
    pub fn token_age(&self, seconds: f64) {
        self.token_age.observe(seconds);
    }

    /// The counter of decision events that were not written.
    #[must_use]
    pub fn events_lost(&self) -> &Counter<u64, AtomicU64> {
        &self.events_lost
    }

    /// Counts an AWS API request; `code` is empty for success.
    pub fn aws_request(&self, service: &'static str, operation: &'static str, code: &'static str) {
        self.aws_requests
            .get_or_create(&AwsLabel {
                service,
                operation,
                code,
            })
            .inc();
    }

    /// Counts a call of STS that was over a limit: `account`, `key` or `address`.
    pub fn aws_throttled(&self, limit: &'static str) {
        self.aws_throttled
            .get_or_create(&LimitLabel { limit })
            .inc();
    }

    /// Counts a pod's request for credentials: `ok`, or why there are none.
    pub fn eks_auth(&self, result: &'static str) {
        self.eks_auth.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts an AssumeRole of real AWS STS.
    pub fn eks_auth_upstream(&self, result: &'static str, took: Duration) {
        self.eks_auth_upstream
            .get_or_create(&ResultLabel { result })
            .observe(took.as_secs_f64());
    }

    /// Counts a call of AssumeRoleWithWebIdentity, and how long it took unless it was not looked at.
    pub fn web_identity(&self, result: WebIdentityResult, took: Option<Duration>) {
        if let Some(counter) = self.web_identity.get(result as usize) {
            counter.inc();
        }
        if let Some(took) = took {
            self.web_identity_seconds.observe(took.as_secs_f64());
        }
    }

    /// Adds the numbers of issuers: those of clusters, and those that are asked for their keys.
    pub fn register_issuers(
        &mut self,
        clusters: Option<Arc<ClusterIssuers>>,
        others: Arc<WebIdentity>,
    ) {
        self.registry
            .register_collector(Box::new(issuer::Issuers { clusters, others }));
    }

    /// The OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}

//! What an operation is: one row of its family's table says its name, its parameters, what it needs to be allowed, and
//! what answers it.
//!
//! A family is one file with a table of rows and the handlers in them; nothing else knows of it but the list of tables.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use countersign_arn::{AccountId, CallerKind, Partition};
use countersign_oidc::KubernetesClaims;
use countersign_store::records::LastUsed;
use countersign_store::{Directory, DirectorySnapshot, Random, Revision};
use jiff::Timestamp;

use super::authorize::Rule;
use super::eks::EksOptions;
use super::eks_auth::{Agent, EksAuthOptions, PodCall};
use super::finished::Decided;
use super::holder::Holder;
use super::policies::PolicyCache;
use super::query::Member;
use super::shape::{Input, Parameter, Value};
use super::sts::SamlTrust;
use super::{ApiError, Caller, Service};
use crate::issuer::ClusterIssuers;
use crate::listen::Peer;
use crate::metrics::Metrics;
use crate::rate::StsRates;
use crate::usage::Usage;
use crate::web_identity::WebIdentity;

/// An operation of an AWS API.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) service: Service,
    pub(crate) access: Access,
    /// Method and path in REST-JSON; none in the Query protocol.
    pub(crate) http: Option<Http>,
    /// Its parameters in the order of the service model.
    pub(crate) shape: &'static [Parameter],
    /// What a caller must be allowed.
    pub(crate) rule: Rule,
    pub(crate) answer: Answer,
}

impl Operation {
    /// The same, also for agents of the cluster that show a token of their own.
    pub(crate) const fn or_by_agents(self) -> Self {
        Self {
            access: Access::SignedOrBearer,
            ..self
        }
    }

    /// Whether the operation changes anything. STS and EKS Auth issue credentials
    /// without a write, and count as ones that read.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.answer, Answer::Write(_))
            && !matches!(self.service, Service::Sts | Service::EksAuth)
    }
}

/// How a REST-JSON operation is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Http {
    pub(crate) method: &'static str,
    /// With labels in braces, such as `/clusters/{name}`.
    pub(crate) path: &'static str,
}

/// Whether a request must be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// By a verified caller.
    Signed,
    /// By a verified caller, or by an agent of a cluster that shows a token of its own in the place of a signature.
    SignedOrBearer,
    /// The credential is a parameter: AssumeRoleWithWebIdentity, AssumeRoleWithSAML.
    Anonymous,
}

/// The answer of an operation that waits for the store.
pub(crate) type Answering<'a> = Pin<Box<dyn Future<Output = Result<Member, ApiError>> + Send + 'a>>;

/// What answers an operation.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// From the snapshot of the call, at once.
    Read(fn(&Call<'_>) -> Result<Member, ApiError>),
    /// With a write, or anything else that waits.
    Write(for<'a> fn(&'a Call<'a>) -> Answering<'a>),
    /// Answered like an operation that does not exist.
    NotOffered,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read(_) => "Read",
            Self::Write(_) => "Write",
            Self::NotOffered => "NotOffered",
        })
    }
}

/// A row of an IAM table.
pub(crate) const fn iam(
    name: &'static str,
    shape: &'static [Parameter],
    rule: Rule,
    answer: Answer,
) -> Operation {
    Operation {
        name,
        service: Service::Iam,
        access: Access::Signed,
        http: None,
        shape,
        rule,
        answer,
    }
}

/// A row of the STS table.
pub(crate) const fn sts(
    name: &'static str,
    access: Access,
    shape: &'static [Parameter],
    rule: Rule,
    answer: Answer,
) -> Operation {
    Operation {
        name,
        service: Service::Sts,
        access,
        http: None,
        shape,
        rule,
        answer,
    }
}

/// A row of an EKS table.
pub(crate) const fn eks(
    name: &'static str,
    (method, path): (&'static str, &'static str),
    shape: &'static [Parameter],
    rule: Rule,
    answer: Answer,
) -> Operation {
    Operation {
        name,
        service: Service::Eks,
        access: Access::Signed,
        http: Some(Http { method, path }),
        shape,
        rule,
        answer,
    }
}

/// A row of the EKS Auth table.
pub(crate) const fn eks_auth(
    name: &'static str,
    (method, path): (&'static str, &'static str),
    shape: &'static [Parameter],
    rule: Rule,
    answer: Answer,
) -> Operation {
    Operation {
        name,
        service: Service::EksAuth,
        access: Access::SignedOrBearer,
        http: Some(Http { method, path }),
        shape,
        rule,
        answer,
    }
}

/// One call, authenticated, with its parameters checked; for [`Rule::Policy`] operations it is also allowed when a handler
/// sees it.
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static Operation,
    pub(crate) input: Input<'a>,
    /// Who signed; nobody for anonymous operations.
    pub(crate) signer: Option<Caller>,
    /// The agent that showed a token of its own; nobody in all other calls.
    pub(crate) agent: Option<Agent>,
    /// The signer as policies see it, made when it is asked for first.
    pub(super) holder: OnceLock<Holder>,
    /// The one state of the directory that the whole call is decided on.
    pub(crate) snapshot: Arc<DirectorySnapshot>,
    /// For writes, which look at the newest state by themselves. Nothing comes of those of a call that is not to be done.
    pub(crate) directory: &'a Directory,
    pub(crate) policies: &'a PolicyCache,
    /// What was used when.
    pub(super) usage: &'a Usage,
    pub(crate) saml: &'a SamlTrust,
    pub(crate) eks: &'a EksOptions,
    pub(crate) eks_auth: &'a EksAuthOptions,
    /// Absent where web identities are not set up.
    pub(crate) web_identity: Option<&'a WebIdentity>,
    /// The issuers of clusters; absent where they are not set up.
    pub(crate) issuers: Option<&'a ClusterIssuers>,
    /// How much STS may be asked for.
    pub(crate) rates: &'a StsRates,
    pub(crate) metrics: &'a Metrics,
    pub(crate) random: &'a Random,
    pub(crate) now: Timestamp,
    pub(crate) peer: Peer,
    /// Headers as received; only those that were signed can be trusted.
    pub(crate) headers: &'a http::HeaderMap,
    pub(crate) request_id: &'a str,
    /// What policies said, for the record of the call.
    pub(super) decision: Mutex<Option<Decided>>,
    /// The pod that the call is about, for the record of the call.
    pub(super) pod: Mutex<Option<PodCall>>,
    /// The workload behind a token that was verified, for the record of the call.
    pub(super) kubernetes: Mutex<Option<KubernetesClaims>>,
    /// What the caller is told beside the answer.
    pub(super) warnings: Mutex<Vec<String>>,
    /// What the call wrote and this replica does not see yet.
    pub(super) pending: Mutex<Option<Revision>>,
}

impl Call<'_> {
    /// Who calls.
    ///
    /// # Errors
    /// `MissingAuthenticationToken` when nobody signed, which is so for anonymous operations only.
    pub(crate) fn caller(&self) -> Result<&Caller, ApiError> {
        self.signer.as_ref().ok_or_else(|| {
            ApiError::new(
                403,
                "MissingAuthenticationToken",
                "Request is missing Authentication Token",
            )
        })
    }

    /// The caller as policies see it.
    ///
    /// # Errors
    /// As [`Call::caller`], and `InvalidClientTokenId` when the principal is not there any more.
    pub(crate) fn holder(&self) -> Result<&Holder, ApiError> {
        if let Some(holder) = self.holder.get() {
            return Ok(holder);
        }
        let holder = Holder::of(self.caller()?, &self.snapshot, self.policies)?;
        Ok(self.holder.get_or_init(|| holder))
    }

    /// What the user, role, access key or root user with this id used last, within the 400 days that are remembered.
    pub(crate) fn last_used(&self, id: &str) -> Option<LastUsed> {
        self.usage.last_used(&self.snapshot, id, self.now)
    }

    /// Notes what policies said, for the record of the call; the last one stays.
    pub(crate) fn decided(&self, decided: Decided) {
        self.decision
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(decided);
    }

    /// Notes which pod the call is about, and what was done, for the record of the call; the last one stays.
    pub(crate) fn about_pod(&self, pod: PodCall) {
        self.pod
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(pod);
    }

    /// Notes the workload behind a token that was verified, for the record of the call.
    pub(crate) fn workload(&self, claims: &KubernetesClaims) {
        self.kubernetes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(claims.clone());
    }

    /// Tells the caller something beside the answer, if the call succeeds.
    pub(crate) fn warn(&self, warning: String) {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(warning);
    }

    /// Tells the caller that this replica does not see yet what the call wrote.
    pub(crate) fn pending(&self, revision: Revision) {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(revision);
    }

    /// The caller's account, in which IAM looks everything up.
    ///
    /// # Errors
    /// As [`Call::caller`].
    pub(crate) fn account(&self) -> Result<AccountId, ApiError> {
        Ok(self.caller()?.identity().account())
    }

    /// The partition of the caller's account.
    pub(crate) fn partition(&self) -> Partition {
        self.signer
            .as_ref()
            .and_then(|caller| self.snapshot.account(caller.identity().account()))
            .map_or(Partition::Aws, |account| account.record.partition)
    }

    /// The region that the request was signed for; empty for anonymous operations.
    pub(crate) fn region(&self) -> &str {
        self.signer
            .as_ref()
            .map_or("", |caller| caller.verified().scope().region.as_str())
    }

    /// The value of `UserName`, or the calling user's name when it is left out (IAM API spec, section 4.1).
    ///
    /// # Errors
    /// `ValidationError` for callers that are no users.
    pub(crate) fn user_name(&self) -> Result<&str, ApiError> {
        match self.input.get("UserName") {
            Some(Value::Text(name)) => Ok(name),
            _ => self.own_user_name(),
        }
    }

    /// The calling user's name.
    ///
    /// # Errors
    /// `ValidationError` for callers that are no users.
    pub(crate) fn own_user_name(&self) -> Result<&str, ApiError> {
        let caller = self.caller()?;
        match &self.holder()?.user {
            Some(user) if caller.identity().caller().kind() == CallerKind::User => {
                Ok(&user.record.name)
            }
            _ => Err(ApiError::new(
                400,
                "ValidationError",
                "Must specify userName when calling with non-User credentials",
            )),
        }
    }
}

//! The envelope: AdmissionReview in `admission.k8s.io/v1` and `v1beta1` (webhook spec, section 8.1).

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::json::{Object, Text};
use crate::pod::Pod;

/// A longer body is refused.
pub const MAX_REVIEW_BYTES: usize = 8 << 20;

/// The version a review came in, and that its answer must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ReviewVersion {
    /// `admission.k8s.io/v1`
    #[default]
    V1,
    /// `admission.k8s.io/v1beta1`
    V1beta1,
}

/// A request that can be decided. It borrows from the body.
#[derive(Debug)]
pub struct Review<'a> {
    pub(crate) version: ReviewVersion,
    pub(crate) body: &'a str,
    uid: Text<'a>,
    namespace: Text<'a>,
    operation: Text<'a>,
    subresource: Text<'a>,
    dry_run: bool,
    old_object: Option<&'a RawValue>,
    pub(crate) subject: Subject<'a>,
}

/// What a request is about.
#[derive(Debug)]
pub(crate) enum Subject<'a> {
    Pod(Box<Pod<'a>>),
    /// Some other kind of object.
    Other(String),
    /// A request that carries no object by its nature.
    Nothing,
}

/// Whose credentials a pod gets: the service account, in the namespace of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccountKey<'a> {
    /// Namespace of the request. What the object says about its namespace does not count.
    pub namespace: &'a str,
    /// Name of the service account.
    pub name: &'a str,
}

/// A body that cannot be decided. [`Self::answer`] is what to send back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// See [`MAX_REVIEW_BYTES`].
    #[error("the review has {0} bytes, more than {MAX_REVIEW_BYTES}")]
    TooLarge(usize),
    /// No body.
    #[error("bad content: the body is empty")]
    Empty,
    /// Not JSON, or a field of the envelope is wrong. Where, and never what: the input may hold secrets.
    #[error("the review cannot be read: {0}")]
    Malformed(String),
    /// Another API group or version.
    #[error("unknown apiVersion; admission.k8s.io/v1 and admission.k8s.io/v1beta1 are answered")]
    UnknownVersion,
    /// Another kind.
    #[error("unexpected kind; an AdmissionReview is answered")]
    UnexpectedKind,
    /// A review without a request.
    #[error("bad content: the review has no request")]
    NoRequest(ReviewVersion),
    /// The object should be a pod and is none.
    #[error("the pod cannot be read: {problem}")]
    UnreadablePod {
        /// Version to answer in.
        version: ReviewVersion,
        /// To be echoed.
        uid: String,
        /// What is wrong, and where in the body.
        problem: String,
    },
}

/// Whether a `Content-Type` is JSON, with or without parameters.
pub fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default();
    media.trim().eq_ignore_ascii_case("application/json")
}

/// A review whose object is read as `O`.
#[derive(Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a, O: Deserialize<'de>")
)]
struct Envelope<'a, O> {
    api_version: Option<Text<'a>>,
    kind: Option<Text<'a>>,
    request: Option<Object<Request<'a, O>>>,
}

#[derive(Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a, O: Deserialize<'de>")
)]
struct Request<'a, O> {
    uid: Option<Text<'a>>,
    kind: Option<Object<GroupVersionKind<'a>>>,
    sub_resource: Option<Text<'a>>,
    namespace: Option<Text<'a>>,
    operation: Option<Text<'a>>,
    dry_run: Option<bool>,
    object: Option<O>,
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct GroupVersionKind<'a> {
    #[serde(borrow)]
    group: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Option<Text<'a>>,
}

/// Only the kind of an object that is otherwise not readable as a pod.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    kind: Option<Text<'a>>,
}

impl<'a> Review<'a> {
    /// Reads a body. Linear in its length, and without recursion into what is not needed.
    pub fn parse(body: &'a [u8]) -> Result<Self, ReviewError> {
        if body.len() > MAX_REVIEW_BYTES {
            return Err(ReviewError::TooLarge(body.len()));
        }
        if body.trim_ascii().is_empty() {
            return Err(ReviewError::Empty);
        }
        let body = std::str::from_utf8(body).map_err(|error| {
            ReviewError::Malformed(format!("not UTF-8 at byte {}", error.valid_up_to()))
        })?;
        // Nearly always this one pass does it. What it stumbles over may be an object of another kind.
        match serde_json::from_str::<Object<Envelope<'a, Object<Pod<'a>>>>>(body) {
            Ok(Object(envelope)) => Self::from_envelope(body, envelope),
            Err(error) => Self::without_pod(body, &error),
        }
    }

    /// The request that would create this pod: to explain a pod that runs, or to see whether it lacks something. The
    /// namespace is that of the pod; no body stands behind it, so its patch is always additive.
    pub fn of_pod(namespace: &'a str, pod: &'a [u8]) -> Result<Self, ReviewError> {
        if pod.len() > MAX_REVIEW_BYTES {
            return Err(ReviewError::TooLarge(pod.len()));
        }
        let unreadable = |error: serde_json::Error| ReviewError::UnreadablePod {
            version: ReviewVersion::V1,
            uid: String::new(),
            problem: describe(&error),
        };
        let Object(pod): Object<Pod<'a>> = serde_json::from_slice(pod).map_err(unreadable)?;
        let subject = match other_kind(None, pod.kind.as_ref()) {
            Some(other) => Subject::Other(other),
            None => Subject::Pod(Box::new(pod)),
        };
        Ok(Self {
            version: ReviewVersion::V1,
            body: "",
            uid: Text::default(),
            namespace: Text(Cow::Borrowed(namespace)),
            operation: Text(Cow::Borrowed("CREATE")),
            subresource: Text::default(),
            dry_run: true,
            old_object: None,
            subject,
        })
    }

    fn from_envelope(
        body: &'a str,
        envelope: Envelope<'a, Object<Pod<'a>>>,
    ) -> Result<Self, ReviewError> {
        let version = envelope.version()?;
        let Object(request) = envelope.request.ok_or(ReviewError::NoRequest(version))?;
        let own_kind = request.object.as_ref().and_then(|pod| pod.0.kind.as_ref());
        let other = other_kind(request.kind.as_ref(), own_kind);
        let operation = request.operation.unwrap_or_default();
        let subject = match (other, request.object) {
            (Some(other), _) => Subject::Other(other),
            (None, Some(Object(pod))) => Subject::Pod(Box::new(pod)),
            // There is nothing to add to: refusing would only stop the pod from being deleted.
            (None, None) if matches!(operation.as_str(), "DELETE" | "CONNECT") => Subject::Nothing,
            (None, None) => {
                return Err(ReviewError::UnreadablePod {
                    version,
                    uid: request.uid.unwrap_or_default().0.into_owned(),
                    problem: "the request has no object".to_owned(),
                });
            }
        };
        Ok(Self {
            version,
            body,
            uid: request.uid.unwrap_or_default(),
            namespace: request.namespace.unwrap_or_default(),
            operation,
            subresource: request.sub_resource.unwrap_or_default(),
            dry_run: request.dry_run.unwrap_or(false),
            old_object: request.old_object,
            subject,
        })
    }

    /// The second try, after `error`: the envelope alone.
    fn without_pod(body: &'a str, error: &serde_json::Error) -> Result<Self, ReviewError> {
        let malformed = |error: &serde_json::Error| ReviewError::Malformed(describe(error));
        let Object(envelope): Object<Envelope<'a, &'a RawValue>> =
            serde_json::from_str(body).map_err(|error| malformed(&error))?;
        let version = envelope.version()?;
        let Object(request) = envelope.request.ok_or(ReviewError::NoRequest(version))?;
        let own: Option<Object<Kind<'_>>> = request
            .object
            .and_then(|raw| serde_json::from_str(raw.get()).ok());
        let own_kind = own.as_ref().and_then(|own| own.0.kind.as_ref());
        let Some(other) = other_kind(request.kind.as_ref(), own_kind) else {
            return Err(ReviewError::UnreadablePod {
                version,
                uid: request.uid.unwrap_or_default().0.into_owned(),
                problem: describe(error),
            });
        };
        Ok(Self {
            version,
            body,
            uid: request.uid.unwrap_or_default(),
            namespace: request.namespace.unwrap_or_default(),
            operation: request.operation.unwrap_or_default(),
            subresource: request.sub_resource.unwrap_or_default(),
            dry_run: request.dry_run.unwrap_or(false),
            old_object: None,
            subject: Subject::Other(other),
        })
    }

    /// The version to answer in.
    pub fn version(&self) -> ReviewVersion {
        self.version
    }

    /// Identifies the call; echoed in the answer.
    pub fn uid(&self) -> &str {
        self.uid.as_str()
    }

    /// Namespace of the request.
    pub fn namespace(&self) -> &str {
        self.namespace.as_str()
    }

    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub fn operation(&self) -> &str {
        self.operation.as_str()
    }

    /// The subresource, or empty.
    pub fn subresource(&self) -> &str {
        self.subresource.as_str()
    }

    /// Whether nothing will be stored. A dry run is decided like any other call; this is for counting them apart.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// The account to look up before deciding; none if the request is not about a pod.
    ///
    /// An account that is not named is `default`: the API server fills that in before it asks webhooks.
    pub fn account(&self) -> Option<AccountKey<'_>> {
        let Subject::Pod(pod) = &self.subject else {
            return None;
        };
        let name = pod
            .spec()
            .and_then(|spec| spec.service_account_name.as_ref());
        let name = name.map(Text::as_str).unwrap_or_default();
        Some(AccountKey {
            namespace: self.namespace(),
            name: if name.is_empty() { "default" } else { name },
        })
    }

    /// Names of the ephemeral containers that the pod had before: these cannot change any more.
    pub(crate) fn old_ephemeral_containers(&self) -> HashSet<String> {
        let raw = self.old_object.map(RawValue::get);
        let pod = raw.and_then(|raw| serde_json::from_str::<Object<Pod<'_>>>(raw).ok());
        let spec = pod.and_then(|Object(pod)| pod.spec);
        let list = spec.and_then(|Object(spec)| spec.ephemeral_containers);
        let names = list.unwrap_or_default().items.into_iter();
        names
            .map(|Object(container)| container.name.0.into_owned())
            .collect()
    }
}

impl<O> Envelope<'_, O> {
    fn version(&self) -> Result<ReviewVersion, ReviewError> {
        if self.kind.as_ref().map(Text::as_str) != Some("AdmissionReview") {
            return Err(ReviewError::UnexpectedKind);
        }
        match self.api_version.as_ref().map(Text::as_str) {
            Some("admission.k8s.io/v1") => Ok(ReviewVersion::V1),
            Some("admission.k8s.io/v1beta1") => Ok(ReviewVersion::V1beta1),
            _ => Err(ReviewError::UnknownVersion),
        }
    }
}

/// The name of the kind when it is not Pod. The request's word counts; without it, the object's own.
fn other_kind(
    asked: Option<&Object<GroupVersionKind<'_>>>,
    own: Option<&Text<'_>>,
) -> Option<String> {
    let kind = asked
        .and_then(|asked| asked.0.kind.as_ref())
        .filter(|kind| !kind.0.is_empty());
    let group = asked.and_then(|asked| asked.0.group.as_ref());
    let is_core = group.is_none_or(|group| group.0.is_empty());
    let kind = kind.or(own)?;
    let is_pod = kind.as_str() == "Pod" && is_core;
    (!is_pod).then(|| kind.0.chars().take(64).collect())
}

/// Where reading failed. What stood there is left out on purpose.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let problem = match error.classify() {
        Category::Eof => "it ends too early",
        Category::Data => "a field has the wrong type or stands twice",
        Category::Syntax | Category::Io => "not JSON",
    };
    match error.line() {
        0 => problem.to_owned(),
        line => format!("{problem}, at line {line} column {}", error.column()),
    }
}

impl ReviewVersion {
    /// The `apiVersion` text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

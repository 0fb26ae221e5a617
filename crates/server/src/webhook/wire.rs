//! TokenReview on the wire, `authentication.k8s.io/v1` and `v1beta1` (authentication spec, section 5.3).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Largest TokenReview accepted: the longest token the rules can allow, twice, and room for audiences.
pub const MAX_BODY: usize = 128 << 10;

/// Version of the review, answered as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewVersion {
    /// `authentication.k8s.io/v1`.
    V1,
    /// `authentication.k8s.io/v1beta1`, kube-apiserver's default and ours when none is given.
    V1Beta1,
}

impl ReviewVersion {
    /// The `apiVersion` text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "authentication.k8s.io/v1",
            Self::V1Beta1 => "authentication.k8s.io/v1beta1",
        }
    }
}

/// What of a TokenReview matters: its version and the token. Kubernetes' habit of ignoring unknown fields is kept.
#[derive(Debug)]
pub struct ReviewRequest<'a> {
    /// The version to answer in.
    pub version: ReviewVersion,
    /// The bearer token, untrusted and secret.
    pub token: Cow<'a, str>,
}

/// The body is no TokenReview; the texts are the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedReview {
    /// No body.
    #[error("expected a request body")]
    Empty,
    /// Not JSON, not an object, another kind or another version.
    #[error("expected a request body to be a TokenReview")]
    NotATokenReview,
}

/// Reads a request body.
///
/// # Errors
/// When the body is empty, no JSON, another kind, or an unknown group or version.
pub fn parse(body: &[u8]) -> Result<ReviewRequest<'_>, MalformedReview> {
    #[derive(Deserialize)]
    struct Review<'a> {
        #[serde(rename = "apiVersion", borrow, default)]
        api_version: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        kind: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        spec: Option<Spec<'a>>,
    }
    #[derive(Deserialize, Default)]
    struct Spec<'a> {
        #[serde(borrow, default)]
        token: Option<Cow<'a, str>>,
    }
    if body.is_empty() {
        return Err(MalformedReview::Empty);
    }
    // serde reads structs from arrays as well.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(MalformedReview::NotATokenReview);
    }
    let review: Review<'_> =
        serde_json::from_slice(body).map_err(|_| MalformedReview::NotATokenReview)?;
    let version = match review.api_version.as_deref() {
        Some("authentication.k8s.io/v1") => ReviewVersion::V1,
        None | Some("" | "authentication.k8s.io/v1beta1") => ReviewVersion::V1Beta1,
        Some(_) => return Err(MalformedReview::NotATokenReview),
    };
    match review.kind.as_deref() {
        None | Some("" | "TokenReview") => {}
        Some(_) => return Err(MalformedReview::NotATokenReview),
    }
    Ok(ReviewRequest {
        version,
        token: review.spec.and_then(|spec| spec.token).unwrap_or_default(),
    })
}

/// The user of an answer, as kube-apiserver reads it.
#[derive(Debug, Serialize)]
pub struct User<'a> {
    /// Username.
    pub username: &'a str,
    /// Unique over time: `aws-iam-authenticator:<account>:<user id>`; left out when it is empty, as that of people with ID tokens.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub uid: &'a str,
    /// Groups; left out when empty.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub groups: &'a [String],
    /// Extra fields, each a list; left out when empty.
    #[serde(skip_serializing_if = "Extra::is_empty")]
    pub extra: Extra<'a>,
}

/// Extra fields in a fixed order, each key with one value.
#[derive(Debug)]
pub struct Extra<'a>(pub Vec<(Cow<'a, str>, &'a str)>);

impl Extra<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Extra<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, [value])))
    }
}

/// The answer to a review.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// The token is good; this is the user.
    Authenticated(User<'a>),
    /// The token is refused; kube-apiserver logs the error, and caches the refusal when there is none.
    Denied {
        /// Short reason without secrets.
        error: Option<&'a str>,
    },
}

/// The answer's body.
#[must_use]
pub fn render(version: ReviewVersion, verdict: &Verdict<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Empty {}
    #[derive(Serialize)]
    struct Status<'a> {
        authenticated: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a User<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Review<'a> {
        api_version: &'static str,
        kind: &'static str,
        metadata: Empty,
        spec: Empty,
        status: Status<'a>,
    }
    let status = match verdict {
        Verdict::Authenticated(user) => Status {
            authenticated: true,
            user: Some(user),
            error: None,
        },
        Verdict::Denied { error } => Status {
            authenticated: false,
            user: None,
            error: *error,
        },
    };
    let review = Review {
        api_version: version.as_str(),
        kind: "TokenReview",
        metadata: Empty {},
        spec: Empty {},
        status,
    };
    let mut body = Vec::with_capacity(1024);
    if serde_json::to_writer(&mut body, &review).is_err() {
        // Writing strings into memory cannot fail; should it ever, an empty body is a decode error, hence a denial.
        body.clear();
    }
    body
}

//! What goes back over the wire (webhook spec, section 8.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::decision::{Decision, Outcome};
use crate::note::MAX_WARNING_CHARS;
use crate::review::{AccountKey, Review, ReviewError, ReviewVersion};
use crate::webhook::{Facts, Webhook};

/// Name of the audit annotation that tells [`Decision::code`]. The API server puts the name of the webhook and a `/`
/// in front of it, and drops annotations whose name then has two of them, so it cannot have a prefix of its own.
pub const AUDIT_ANNOTATION: &str = "decision";

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The AdmissionReview, JSON.
    pub body: Vec<u8>,
    /// [`Decision::code`], or `error`: for counting.
    pub code: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewOut<'a> {
    kind: &'static str,
    api_version: &'static str,
    response: Response<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_annotations: Option<AuditAnnotations>,
}

#[derive(Serialize)]
struct Status {
    message: String,
}

#[derive(Serialize)]
struct AuditAnnotations {
    decision: &'static str,
}

fn to_json(version: ReviewVersion, response: Response<'_>) -> Vec<u8> {
    let review = ReviewOut {
        kind: "AdmissionReview",
        api_version: version.as_str(),
        response,
    };
    // Growing step by step would hold a large patch twice.
    let patch_bytes = review.response.patch.as_ref().map_or(0, String::len);
    let mut body = Vec::with_capacity(patch_bytes + 512);
    match serde_json::to_writer(&mut body, &review) {
        Ok(()) => body,
        // Writing strings into memory does not fail; an empty body is no permission in any case.
        Err(_) => Vec::new(),
    }
}

impl Webhook {
    /// Reads a body, asks for what is known about the account, decides and answers. Bodies that cannot be decided, and
    /// requests about other things than pods, do not ask.
    ///
    /// Who has to wait for the facts calls [`Review::parse`], [`Webhook::decide`] and [`Webhook::answer`] one by one.
    pub fn admit<'f>(
        &self,
        body: &[u8],
        facts: impl FnOnce(AccountKey<'_>) -> Facts<'f>,
    ) -> Answer {
        let review = match Review::parse(body) {
            Ok(review) => review,
            Err(error) => return error.answer(),
        };
        let facts = review.account().map_or(Facts::NOTHING, facts);
        self.answer(&review, &self.decide(&review, &facts))
    }

    /// The answer that tells a decision.
    pub fn answer(&self, review: &Review<'_>, decision: &Decision<'_>) -> Answer {
        let code = decision.code();
        let message = match &decision.outcome {
            Outcome::Refused(why) => Some(Status {
                message: format!("pod identity: {why}"),
            }),
            Outcome::Mutated | Outcome::Unmodified(_) => None,
        };
        let patch = decision
            .patch
            .as_ref()
            .map(|patch| STANDARD.encode(patch.json()));
        let mut warnings = match self.options().warnings {
            true => decision.notes.warnings(),
            false => Vec::new(),
        };
        for warning in &mut warnings {
            // ASCII, so every place is a boundary.
            warning.truncate(MAX_WARNING_CHARS);
        }
        let response = Response {
            uid: review.uid(),
            allowed: decision.is_allowed(),
            status: message,
            patch_type: patch.is_some().then_some("JSONPatch"),
            patch,
            warnings,
            audit_annotations: Some(AuditAnnotations { decision: code }),
        };
        Answer {
            status: 200,
            body: to_json(review.version(), response),
            code,
        }
    }
}

impl ReviewError {
    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge(_) => 413,
            Self::Empty
            | Self::Malformed(_)
            | Self::UnknownVersion
            | Self::UnexpectedKind
            | Self::NoRequest(_) => 400,
            // The API server reads the message of a refusal only from a successful call.
            Self::UnreadablePod { .. } => 200,
        }
    }

    /// The answer: a review that does not allow. What becomes of the request when the status is no success is up to the
    /// failure policy of the registration.
    pub fn answer(&self) -> Answer {
        let (version, uid) = match self {
            Self::UnreadablePod { version, uid, .. } => (*version, uid.as_str()),
            Self::NoRequest(version) => (*version, ""),
            Self::TooLarge(_)
            | Self::Empty
            | Self::Malformed(_)
            | Self::UnknownVersion
            | Self::UnexpectedKind => (ReviewVersion::V1, ""),
        };
        let response = Response {
            uid,
            status: Some(Status {
                message: format!("pod identity: {self}"),
            }),
            ..Response::default()
        };
        Answer {
            status: self.status(),
            body: to_json(version, response),
            code: "error",
        }
    }
}

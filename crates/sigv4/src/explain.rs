//! Why a signature does not match (signature spec, section 8).
//!
//! Given the request as received and the secret, this signs the plausible variants of the request until one has the
//! signature that came along. The variant names what a client, a proxy or a configuration did, in one sentence.

mod variants;

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::auth::{Claims, Kind, check_request, read_claims};
use crate::error::AuthError;
use crate::key::SecretKey;
use crate::policy::{PathRule, ServicePolicy};
use crate::request::{Payload, Request};
use crate::scope::Credential;
use crate::verify::Parsed;

pub use variants::{Part, Variant};
use variants::{Recipe, candidates};

/// What is known besides the request and the secret.
#[derive(Debug, Clone, Default)]
pub struct Context<'a> {
    /// Names under which the server is known outside, with ports where they are not the usual ones.
    pub external_hosts: &'a [String],
    /// The server's time, to judge the client's clock; without it the clock is not judged.
    pub now: Option<Timestamp>,
    /// The rules of the service; without them, the defaults for the service in the credential scope.
    pub policy: Option<&'a ServicePolicy>,
}

/// The outcome. `Display` of each part is a sentence for a person.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Does the signature match, and if not, as what does it?
    pub verdict: Verdict,
    /// Other faults that were seen, each one sentence: a clock that is off, signed headers that did not arrive.
    pub findings: Vec<String>,
    /// The canonical request that the server computes; empty when the request cannot be read. It repeats the session
    /// token, so it is for the eyes of the caller only.
    pub canonical_request: String,
    /// The string to sign that the server computes.
    pub string_to_sign: String,
}

/// What became of the search.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The signature matches the request as received.
    Verifies,
    /// It matches the request with these changes, one or two of them: the cause.
    Differs(Vec<Variant>),
    /// No variant matches.
    Unexplained,
    /// The request is refused before the signature counts.
    Refused(AuthError),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Verifies => f.write_str("the signature matches the request"),
            Self::Differs(variants) => {
                for (i, variant) in variants.iter().enumerate() {
                    let joint = if i > 0 { "; besides, " } else { "" };
                    write!(f, "{joint}{variant}")?;
                }
                Ok(())
            }
            Self::Unexplained => f.write_str(
                "no variant of the request has this signature: most likely the secret is not the one of this access \
                 key, or a signed header or the body was changed on the way",
            ),
            Self::Refused(error) => write!(f, "the request is refused before its signature is checked: {error}"),
        }
    }
}

impl Explanation {
    /// Which parts of the request differ from what was signed, for the log.
    pub fn parts(&self) -> BTreeSet<Part> {
        match &self.verdict {
            Verdict::Differs(variants) => variants.iter().map(Variant::part).collect(),
            Verdict::Verifies | Verdict::Unexplained | Verdict::Refused(_) => BTreeSet::new(),
        }
    }
}

/// Explains a request. Tries each variant alone, then each pair of variants that touch different parts; bounded by the
/// length of that list, some hundred signatures.
pub fn explain(request: &Request<'_>, secret: &SecretKey, context: &Context<'_>) -> Explanation {
    let policy = match policy_for(request, context) {
        Ok(policy) => policy,
        Err(error) => return refused(error),
    };
    let parsed = match Parsed::from_captured(request, &policy) {
        Ok(parsed) => parsed,
        Err(error) => return refused(error),
    };
    let mut findings = Vec::new();
    if let Some(now) = context.now
        && let Err(error) = policy.check_time(parsed.date(), now)
    {
        findings.push(clock_sentence(
            &error,
            now.as_second() - parsed.date().second(),
        ));
    }
    findings.extend(header_findings(request, &parsed));

    Explanation {
        verdict: search(request, &parsed, &policy, secret, context),
        findings,
        canonical_request: parsed.canonical_request(request.body),
        string_to_sign: parsed.string_to_sign(request.body),
    }
}

fn refused(error: AuthError) -> Explanation {
    Explanation {
        verdict: Verdict::Refused(error),
        findings: Vec::new(),
        canonical_request: String::new(),
        string_to_sign: String::new(),
    }
}

/// The given rules or those of the service in the scope; paths are not refused here but normalised, since how the path
/// was signed is one of the questions.
fn policy_for(request: &Request<'_>, context: &Context<'_>) -> Result<ServicePolicy, AuthError> {
    let mut policy = match context.policy {
        Some(policy) => policy.clone(),
        None => {
            let Claims { credential, .. } = read_claims(request)?;
            let service = Credential::parse(&credential).map(|c| c.service.to_owned());
            ServicePolicy::for_service(
                service.ok_or(AuthError::CredentialParts(credential.into_owned()))?,
            )
        }
    };
    if policy.paths == PathRule::Plain {
        policy.paths = PathRule::Normalise;
    }
    check_request(request, &policy)?;
    Ok(policy)
}

fn search(
    request: &Request<'_>,
    parsed: &Parsed<'_>,
    policy: &ServicePolicy,
    secret: &SecretKey,
    context: &Context<'_>,
) -> Verdict {
    let base = Recipe::of(request, parsed, policy, secret);
    if base.verifies() {
        return Verdict::Verifies;
    }
    let tries = candidates(request, parsed, policy, secret, context.external_hosts);
    for one in &tries {
        if base.with(one).verifies() {
            return Verdict::Differs(vec![one.clone()]);
        }
    }
    // A shifted date is odd enough alone; left out of the pairs it does not multiply the work.
    let pairable: Vec<&Variant> = tries
        .iter()
        .filter(|v| !matches!(v, Variant::ClockShifted(_)))
        .collect();
    for (i, one) in pairable.iter().enumerate() {
        let half = base.with(one);
        for two in pairable
            .iter()
            .skip(i + 1)
            .filter(|two| two.part() != one.part())
        {
            if half.with(two).verifies() {
                return Verdict::Differs(vec![(*one).clone(), (*two).clone()]);
            }
        }
    }
    Verdict::Unexplained
}

/// `behind` is how many seconds the client's date lies before the server's.
fn clock_sentence(error: &AuthError, behind: i64) -> String {
    const HOUR: i64 = 3600;
    let hours = (behind.abs() + HOUR / 2) / HOUR;
    let from_whole = (behind.abs() - hours * HOUR).abs();
    let side = if behind > 0 { "before" } else { "after" };
    if (1..=14).contains(&hours) && from_whole <= 5 * 60 {
        let s = if hours == 1 { "" } else { "s" };
        format!(
            "{error}: the client's date is {hours} whole hour{s} {side} the server's, so it may have written local time as UTC"
        )
    } else {
        format!("{error}: correct the clock that is wrong, or sign the request again")
    }
}

/// Signed headers that did not arrive, and token headers that nothing protects.
fn header_findings(request: &Request<'_>, parsed: &Parsed<'_>) -> Vec<String> {
    let absent: Vec<&str> = parsed
        .signed_headers()
        .iter()
        .filter(|name| request.first(name).is_none())
        .collect();
    let mut findings = Vec::new();
    if !absent.is_empty() {
        findings.push(format!(
            "the client signed headers that did not arrive, so a proxy dropped them: {}",
            absent.join(", ")
        ));
    }
    let list: Vec<&str> = parsed.signed_headers().iter().collect();
    if !list.is_sorted() {
        findings.push("the list of signed headers is not sorted".to_owned());
    }
    if parsed.kind() == Kind::Query
        && !matches!(request.body, Payload::Empty)
        && request.method == "GET"
    {
        findings.push("a presigned GET came with a body".to_owned());
    }
    findings
}

#[cfg(test)]
mod tests;

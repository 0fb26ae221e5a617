//! From method and path to an operation and its labels (EKS API spec, section 1.2).
//!
//! The path is split before anything in it is decoded, and every segment is decoded once: a role with a path is one segment,
//! `arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fteam%2FDev`.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::aws::ApiError;
use crate::aws::operation::Operation;
use crate::aws::shape::unreadable;
use crate::aws::table;

/// Segments of a path; those of real operations have at most six, and decoded ARNs a few more.
const MAX_SEGMENTS: usize = 64;

/// An operation that a path names.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) operation: &'static Operation,
    /// Decoded, by their names in the template.
    pub(crate) labels: Vec<(&'static str, String)>,
    /// Whether slashes of an ARN came decoded, as a proxy does that rewrites paths.
    pub(crate) rewritten: bool,
}

/// A path with places for labels.
#[derive(Debug)]
struct Template {
    operation: &'static Operation,
    method: &'static str,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, Copy)]
enum Segment {
    Literal(&'static str),
    Label(&'static str),
}

static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(|| {
    table::all()
        .filter_map(|operation| {
            let http = operation.http?;
            let segments = http.path.split('/').skip(1).map(|segment| {
                segment
                    .strip_prefix('{')
                    .and_then(|rest| rest.strip_suffix('}'))
                    .map_or(Segment::Literal(segment), Segment::Label)
            });
            Some(Template {
                operation,
                method: http.method,
                segments: segments.collect(),
            })
        })
        .collect()
});

/// The operation of a request.
///
/// # Errors
/// `UnknownOperationException` when there is none; `SerializationException` when a label is no text.
pub(crate) fn route(method: &str, path: &str) -> Result<Route, ApiError> {
    let raw: Vec<&str> = path.split('/').skip(1).take(MAX_SEGMENTS + 1).collect();
    if raw.len() > MAX_SEGMENTS {
        return Err(unknown());
    }
    let (segments, rewritten) = match rejoined(&raw) {
        Some(joined) => (joined, true),
        None => (
            raw.iter().map(|segment| Cow::Borrowed(*segment)).collect(),
            false,
        ),
    };
    let template = TEMPLATES
        .iter()
        .find(|template| template.method == method && template.fits(&segments))
        .ok_or_else(unknown)?;
    let labels = template
        .segments
        .iter()
        .zip(&segments)
        .filter_map(|(known, given)| match known {
            Segment::Literal(_) => None,
            Segment::Label(name) => Some((*name, given)),
        })
        .map(|(name, given)| {
            let text = decode(given)
                .ok_or_else(|| unreadable(format!("The path label {name} is no UTF-8 text")))?;
            Ok((name, text))
        })
        .collect::<Result<_, ApiError>>()?;
    Ok(Route {
        operation: template.operation,
        labels,
        rewritten,
    })
}

impl Template {
    fn fits(&self, segments: &[Cow<'_, str>]) -> bool {
        self.segments.len() == segments.len()
            && self
                .segments
                .iter()
                .zip(segments)
                .all(|(known, given)| match known {
                    Segment::Literal(text) => *text == given,
                    Segment::Label(_) => !given.is_empty(),
                })
    }
}

fn unknown() -> ApiError {
    ApiError::new(
        404,
        "UnknownOperationException",
        "No operation has this method and path.",
    )
}

/// The segments with an ARN in one piece whose slashes came decoded. The ARN of `access-entries` ends at the last
/// `access-policies` that nothing or a policy ARN follows, and begins with `role/` or `user/`, so that an ARN in one piece
/// is never mistaken for such a one.
fn rejoined<'r>(raw: &[&'r str]) -> Option<Vec<Cow<'r, str>>> {
    if let ["tags", first, rest @ ..] = raw {
        return (!rest.is_empty()).then(|| {
            vec![
                Cow::Borrowed("tags"),
                Cow::Owned(
                    std::iter::once(first)
                        .chain(rest)
                        .copied()
                        .collect::<Vec<_>>()
                        .join("/"),
                ),
            ]
        });
    }
    let ["clusters", cluster, "access-entries", first, rest @ ..] = raw else {
        return None;
    };
    let begun = decode(first)?;
    let is_cut =
        begun.starts_with("arn:") && (begun.ends_with(":role") || begun.ends_with(":user"));
    if !is_cut || rest.is_empty() {
        return None;
    }
    let is_policy = |at: usize| match rest.get(at + 1) {
        None => true,
        Some(next) => decode(next).is_some_and(|text| text.starts_with("arn:")),
    };
    let end = (1..rest.len())
        .rev()
        .find(|at| rest.get(*at) == Some(&"access-policies") && is_policy(*at));
    let (principal, behind) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
    let principal: Vec<&str> = std::iter::once(first).chain(principal).copied().collect();
    let mut segments = vec![
        Cow::Borrowed("clusters"),
        Cow::Borrowed(*cluster),
        Cow::Borrowed("access-entries"),
        Cow::Owned(principal.join("/")),
    ];
    if let [literal, policy @ ..] = behind {
        segments.push(Cow::Borrowed(*literal));
        if !policy.is_empty() {
            segments.push(Cow::Owned(policy.join("/")));
        }
    }
    Some(segments)
}

/// One decoding of percent escapes; `+` is itself. Nothing when an escape is cut, or the result is no text or has a NUL.
fn decode(raw: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    if bytes.contains(&0) {
        return None;
    }
    String::from_utf8(bytes).ok()
}

//! Field and label selectors of list, watch and deletecollection (RBAC spec, sections 2.2 and 11.1).
//!
//! RBAC decides without them. They are read and carried so that other authorizers can look at them, with the rule that
//! what cannot be parsed is dropped: that asks the broader question, never a narrower one.

use std::borrow::Cow;

/// The selectors of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Selectors<'a> {
    /// Requirements on fields; all must hold.
    pub fields: &'a [Requirement],
    /// Requirements on labels; all must hold.
    pub labels: &'a [Requirement],
}

/// One requirement of a selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// Field path or label key.
    pub key: String,
    /// How the value compares.
    pub operator: Operator,
    /// Values; exactly one for a field, at least one for `In` and `NotIn` of a label, none for the others.
    pub values: Vec<String>,
}

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Equal to one of the values.
    In,
    /// Equal to none of the values.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is a number above the value. Only in selectors of URLs.
    GreaterThan,
    /// The label is a number below the value. Only in selectors of URLs.
    LessThan,
}

impl Operator {
    /// The operator of a review's requirement.
    pub fn of_review(text: &str) -> Option<Self> {
        Some(match text {
            "In" => Self::In,
            "NotIn" => Self::NotIn,
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            _ => return None,
        })
    }

    /// The name in a review; comparisons of numbers have none.
    pub fn as_review(self) -> Option<&'static str> {
        Some(match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
            Self::GreaterThan | Self::LessThan => return None,
        })
    }
}

/// A selector that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a selector")]
pub struct NotASelector(pub String);

/// More requirements than this in one selector are refused.
const MAX_REQUIREMENTS: usize = 1000;

/// Parses the `fieldSelector` of a URL: `key=value`, `key==value` or `key!=value`, joined by commas, with `\` before
/// `,`, `=` and `\` in values.
pub fn parse_fields(text: &str) -> Result<Vec<Requirement>, NotASelector> {
    let refuse = || NotASelector(text.to_owned());
    let mut requirements = Vec::new();
    for term in split_unescaped(text) {
        if term.is_empty() {
            continue;
        }
        let (key, operator, value) = split_field_term(term).ok_or_else(refuse)?;
        requirements.push(Requirement {
            key: key.to_owned(),
            operator,
            values: vec![unescape(value).ok_or_else(refuse)?.into_owned()],
        });
        if requirements.len() > MAX_REQUIREMENTS {
            return Err(refuse());
        }
    }
    Ok(requirements)
}

/// The name that a parsed field selector pins: exactly one requirement on `metadata.name`, and an equality.
pub fn pinned_name(requirements: &[Requirement]) -> Option<&str> {
    let mut on_name = requirements.iter().filter(|r| r.key == "metadata.name");
    let only = on_name.next()?;
    if on_name.next().is_some() || only.operator != Operator::In {
        return None;
    }
    only.values.first().map(String::as_str)
}

/// Parses the `labelSelector` of a URL: `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k`, `!k`, `k>1`, `k<1`.
pub fn parse_labels(text: &str) -> Result<Vec<Requirement>, NotASelector> {
    let refuse = || NotASelector(text.to_owned());
    let mut rest = text.trim();
    let mut requirements = Vec::new();
    while !rest.is_empty() {
        let (requirement, after) = label_term(rest).ok_or_else(refuse)?;
        if !is_label_requirement(&requirement) || requirements.len() >= MAX_REQUIREMENTS {
            return Err(refuse());
        }
        requirements.push(requirement);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) if !next.trim().is_empty() => next.trim_start(),
            None if after.is_empty() => after,
            _ => return Err(refuse()),
        };
    }
    Ok(requirements)
}

/// Whether key and values are such as labels can have, and as many as the operator needs.
pub fn is_label_requirement(requirement: &Requirement) -> bool {
    let values = &requirement.values;
    let count = match requirement.operator {
        Operator::In | Operator::NotIn => !values.is_empty(),
        Operator::Exists | Operator::DoesNotExist => values.is_empty(),
        Operator::GreaterThan | Operator::LessThan => {
            values.len() == 1 && values.iter().all(|value| value.parse::<i64>().is_ok())
        }
    };
    count && is_qualified_name(&requirement.key) && values.iter().all(|value| is_label_value(value))
}

fn is_qualified_name(key: &str) -> bool {
    let name = match key.split_once('/') {
        Some((prefix, _)) if !crate::object::is_dns_subdomain(prefix) => return false,
        Some((_, name)) => name,
        None => key,
    };
    !name.is_empty() && is_label_value(name)
}

fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    bytes.len() <= 63
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.iter().all(inner)
}

/// One term of a label selector, and what follows it.
fn label_term(text: &str) -> Option<(Requirement, &str)> {
    let requirement = |key: &str, operator, values| Requirement {
        key: key.to_owned(),
        operator,
        values,
    };
    if let Some(rest) = text.strip_prefix('!') {
        let (key, after) = word(rest.trim_start());
        return Some((requirement(key, Operator::DoesNotExist, Vec::new()), after));
    }
    let (key, after) = word(text);
    let after = after.trim_start();
    let symbols = [
        ("==", Operator::In),
        ("=", Operator::In),
        ("!=", Operator::NotIn),
        (">", Operator::GreaterThan),
        ("<", Operator::LessThan),
    ];
    for (symbol, operator) in symbols {
        if let Some(rest) = after.strip_prefix(symbol) {
            let (value, after) = word(rest.trim_start());
            return Some((requirement(key, operator, vec![value.to_owned()]), after));
        }
    }
    let (name, list) = word(after);
    let operator = match name {
        "in" => Operator::In,
        "notin" => Operator::NotIn,
        "" => return Some((requirement(key, Operator::Exists, Vec::new()), after)),
        _ => return None,
    };
    let (list, after) = list.trim_start().strip_prefix('(')?.split_once(')')?;
    let values = list.split(',').map(|value| value.trim().to_owned());
    Some((requirement(key, operator, values.collect()), after))
}

fn word(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| c.is_whitespace() || matches!(c, '=' | '!' | '(' | ')' | ',' | '<' | '>'))
        .unwrap_or(text.len());
    text.split_at(end)
}

fn split_unescaped(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c| {
        let separates = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        separates
    })
}

fn split_field_term(term: &str) -> Option<(&str, Operator, &str)> {
    for (at, _) in term.char_indices() {
        let (key, rest) = term.split_at(at);
        for (symbol, operator) in [
            ("!=", Operator::NotIn),
            ("==", Operator::In),
            ("=", Operator::In),
        ] {
            if let Some(value) = rest.strip_prefix(symbol) {
                return Some((key, operator, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains(['\\', ',', '=']) {
        return Some(Cow::Borrowed(value));
    }
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                escaped @ ('\\' | ',' | '=') => out.push(escaped),
                _ => return None,
            },
            ',' | '=' => return None,
            _ => out.push(c),
        }
    }
    Some(Cow::Owned(out))
}

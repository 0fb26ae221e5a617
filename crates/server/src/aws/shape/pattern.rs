//! The patterns of the service models, each as its text and as a function: none of them needs an engine for regular
//! expressions, and each costs one pass over the text. All are anchored at both ends.

use std::fmt;

/// A pattern of the service model.
pub(crate) struct Pattern {
    /// As the model writes it, and as messages print it.
    pub(crate) text: &'static str,
    /// Whether a whole text matches.
    pub(crate) matches: fn(&str) -> bool,
    /// How IAM complains of a text that does not match.
    pub(crate) complaint: Complaint,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

/// IAM has sentences of its own for names and paths, and answers with one of them when nothing else is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// The text of every constraint.
    Constraint,
    /// `… It must contain only alphanumeric characters and/or the following: +=,.@_-`
    Name,
    /// `… It must begin and end with / and contain only alphanumeric characters and/or / characters.`
    Path,
    /// The same for the beginning of a path, which need not end with a slash.
    PathPrefix,
}

const fn of(text: &'static str, matches: fn(&str) -> bool) -> Pattern {
    Pattern {
        text,
        matches,
        complaint: Complaint::Constraint,
    }
}

const fn complaining(
    complaint: Complaint,
    text: &'static str,
    matches: fn(&str) -> bool,
) -> Pattern {
    Pattern {
        text,
        matches,
        complaint,
    }
}

fn word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn one_or_more(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(allowed)
}

fn name_char(c: char) -> bool {
    word(c) || "+=,.@-".contains(c)
}

fn latin(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}')
}

/// `\p{L}\p{Z}\p{N}` and some marks. The standard library knows letters and numbers as a superset of the two classes
/// (alphabetic marks and other numbers are in it), and separators as white space.
fn tag_char(c: char) -> bool {
    c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c)
}

pub(crate) const NAME: Pattern = complaining(Complaint::Name, r"[\w+=,.@-]+", |text| {
    one_or_more(text, name_char)
});
pub(crate) const NAME_OR_NOTHING: Pattern = of(r"[\w+=,.@-]*", |text| text.chars().all(name_char));
pub(crate) const PATH: Pattern = complaining(
    Complaint::Path,
    r"(\u002F)|(\u002F[\u0021-\u007E]+\u002F)",
    |text| {
        text == "/"
            || (text.len() >= 3
                && text.starts_with('/')
                && text.ends_with('/')
                && text.bytes().all(|byte| byte.is_ascii_graphic()))
    },
);
pub(crate) const PATH_PREFIX: Pattern =
    complaining(Complaint::PathPrefix, r"\u002F[\u0021-\u007F]*", |text| {
        text.starts_with('/') && text.bytes().all(|byte| matches!(byte, 0x21..=0x7f))
    });
pub(crate) const POLICY_PATH: Pattern =
    complaining(Complaint::Path, r"((/[A-Za-z0-9\.,\+@=_-]+)*)/", |text| {
        let inner = text.strip_prefix('/').unwrap_or("//");
        inner.is_empty()
            || inner.strip_suffix('/').is_some_and(|inner| {
                inner.split('/').all(|part| {
                    one_or_more(part, |c| c.is_ascii_alphanumeric() || ".,+@=_-".contains(c))
                })
            })
    });
pub(crate) const MARKER: Pattern = of(r"[\u0020-\u00FF]+", |text| {
    one_or_more(text, |c| matches!(c, '\u{20}'..='\u{ff}'))
});
pub(crate) const WORD: Pattern = of(r"[\w]+", |text| one_or_more(text, word));
pub(crate) const WORD_OR_NOTHING: Pattern = of(r"[\w]*", |text| text.chars().all(word));
pub(crate) const DOCUMENT: Pattern = of(r"[\u0009\u000A\u000D\u0020-\u00FF]+", |text| {
    one_or_more(text, latin)
});
pub(crate) const DESCRIPTION: Pattern =
    of(r"[\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*", |text| {
        text.chars()
            .all(|c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{7e}' | '\u{a1}'..='\u{ff}'))
    });
pub(crate) const VERSION_ID: Pattern = of(r"v[1-9][0-9]*(\.[A-Za-z0-9-]*)?", |text| {
    let Some(rest) = text.strip_prefix('v') else {
        return false;
    };
    let (number, suffix) = rest.split_once('.').unwrap_or((rest, ""));
    one_or_more(number, |c| c.is_ascii_digit())
        && !number.starts_with('0')
        && suffix
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-')
});
pub(crate) const TAG_KEY: Pattern = of(r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+", |text| {
    one_or_more(text, tag_char)
});
pub(crate) const TAG_VALUE: Pattern = of(r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", |text| {
    text.chars().all(tag_char)
});
pub(crate) const SERIAL_NUMBER: Pattern = of(r"[\w+=/:,.@-]+", |text| {
    one_or_more(text, |c| name_char(c) || "/:".contains(c))
});
pub(crate) const SERIAL_NUMBER_OR_NOTHING: Pattern = of(r"[\w+=/:,.@-]*", |text| {
    text.chars().all(|c| name_char(c) || "/:".contains(c))
});
pub(crate) const ACCOUNT_ALIAS: Pattern =
    of(r"^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$", |text| {
        (3..=63).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !text.contains("--")
    });
pub(crate) const PROVIDER_NAME: Pattern = complaining(Complaint::Name, r"[\w._-]+", |text| {
    one_or_more(text, |c| word(c) || "._-".contains(c))
});
pub(crate) const PRIVATE_KEY_ID: Pattern = of(r"[A-Z0-9]+", |text| {
    one_or_more(text, |c| c.is_ascii_uppercase() || c.is_ascii_digit())
});
pub(crate) const CLUSTER_NAME: Pattern = of(r"^[0-9A-Za-z][A-Za-z0-9\-_]*", |text| {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
});
/// As the model of EKS Auth writes it.
pub(crate) const CLUSTER_NAME_OF_PODS: Pattern =
    of(r"[0-9A-Za-z][A-Za-z0-9\-_]*", CLUSTER_NAME.matches);
pub(crate) const JWT: Pattern = of(
    r"[A-Za-z0-9-_=]+\.[A-Za-z0-9-_=]+\.[A-Za-z0-9-_=]+",
    |text| {
        let is_part =
            |part: &str| one_or_more(part, |c| c.is_ascii_alphanumeric() || "-_=".contains(c));
        text.split('.').count() == 3 && text.split('.').all(is_part)
    },
);
pub(crate) const DIGITS: Pattern = of(r"[\d]+", |text| one_or_more(text, |c| c.is_ascii_digit()));
pub(crate) const DIGITS_OR_NOTHING: Pattern =
    of(r"[\d]*", |text| text.chars().all(|c| c.is_ascii_digit()));
pub(crate) const NAMESPACE: Pattern =
    of(r"[\w-]*", |text| text.chars().all(|c| word(c) || c == '-'));
pub(crate) const EXTERNAL_ID: Pattern = of(r"[\w+=,.@:\/-]*", |text| {
    text.chars().all(|c| name_char(c) || ":/".contains(c))
});
/// What the model means: no controls but tab and line ends, and no code points that are no characters.
pub(crate) const STS_ARN: Pattern = of(
    r"[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+",
    |text| {
        one_or_more(text, |c| {
            matches!(c, '\t' | '\n' | '\r' | '\u{85}')
                || !(c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
        })
    },
);

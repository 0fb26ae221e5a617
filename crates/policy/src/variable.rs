//! Policy variables: `${key}`, `${key, 'default'}`, and the escapes `${*}`, `${?}`, `${$}` (policy language spec, section 6).

use crate::context::{Context, Key};

/// A piece of a text that may hold variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    /// Text as written, wildcards included.
    Text(&'t str),
    /// An escaped `*`, `?` or `$`: never a wildcard.
    Escaped(&'t str),
    Variable(Variable),
}

/// A variable and what stands in for a missing value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// `None` for a variable that is written wrongly: it never has a value.
    pub(crate) key: Option<Key>,
    pub(crate) default: Option<Box<str>>,
    pub(crate) fault: Option<Fault>,
}

/// How a variable is written wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Empty,
    Space,
    Quote,
}

impl Variable {
    pub(crate) fn resolve<'v>(&'v self, context: &'v Context<'_>) -> Option<&'v str> {
        let key = self.key.as_ref()?;
        context.substitution(key).or(self.default.as_deref())
    }
}

/// Splits a text into its parts. An unclosed `${` is plain text.
pub(crate) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut plain = text;
    while let Some(at) = rest.find("${") {
        let (Some(inner), Some(here)) = (rest.get(at + 2..), rest.get(at..)) else {
            break;
        };
        // No brace closes this one, so none closes a later one either.
        let Some((part, tail)) = one(inner) else {
            break;
        };
        let before = plain.len() - here.len();
        if let Some(before) = plain.get(..before).filter(|before| !before.is_empty()) {
            parts.push(Part::Text(before));
        }
        parts.push(part);
        rest = tail;
        plain = tail;
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    parts
}

/// Whether the text opens a variable that it does not close.
pub(crate) fn has_unclosed(text: &str) -> bool {
    parts(text)
        .iter()
        .any(|part| matches!(part, Part::Text(plain) if plain.contains("${")))
}

/// Reads what stands behind `${`; `None` when no brace closes it.
fn one(inner: &str) -> Option<(Part<'_>, &str)> {
    let close = inner.find('}')?;
    let (body, tail) = (inner.get(..close)?, inner.get(close + 1..)?);
    if matches!(body, "*" | "?" | "$") {
        return Some((Part::Escaped(body), tail));
    }
    let Some((name, _)) = body.split_once(',') else {
        return Some((Part::Variable(plain(body, None)), tail));
    };
    // The default may hold a brace, so its quotes are looked for in the whole rest.
    let behind = inner.get(name.len() + 1..)?.trim_start_matches(' ');
    let quoted = behind.strip_prefix('\'').and_then(|text| {
        let (default, rest) = text.split_once('\'')?;
        let tail = rest.trim_start_matches(' ').strip_prefix('}')?;
        Some((default, tail))
    });
    Some(match quoted {
        Some((default, tail)) => (Part::Variable(plain(name, Some(default))), tail),
        None => (
            Part::Variable(Variable {
                key: None,
                default: None,
                fault: Some(Fault::Quote),
            }),
            tail,
        ),
    })
}

fn plain(name: &str, default: Option<&str>) -> Variable {
    let fault = if name.is_empty() {
        Some(Fault::Empty)
    } else if name.contains(char::is_whitespace) {
        Some(Fault::Space)
    } else {
        None
    };
    Variable {
        key: fault.is_none().then(|| Key::new(name)),
        default: default.map(Into::into),
        fault,
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Part, has_unclosed, parts};

    fn shown(text: &str) -> Vec<String> {
        parts(text)
            .into_iter()
            .map(|part| match part {
                Part::Text(text) => format!("t:{text}"),
                Part::Escaped(text) => format!("e:{text}"),
                Part::Variable(variable) => match (&variable.key, variable.fault) {
                    (Some(key), _) => format!(
                        "v:{}|{}",
                        key.shown(),
                        variable.default.as_deref().unwrap_or("-")
                    ),
                    (None, fault) => format!("f:{fault:?}"),
                },
            })
            .collect()
    }

    #[test]
    fn texts_split_at_variables_and_escapes() {
        assert_eq!(
            shown("a${aws:username}b"),
            ["t:a", "v:aws:username|-", "t:b"]
        );
        assert_eq!(shown("${k, 'x y'}/*"), ["v:k|x y", "t:/*"]);
        assert_eq!(shown("${k,'a}b'}"), ["v:k|a}b"]);
        assert_eq!(shown("${*}${?}${$}"), ["e:*", "e:?", "e:$"]);
        assert_eq!(shown("${k, ''}"), ["v:k|"]);
        assert_eq!(shown("$a{b}"), ["t:$a{b}"]);
        assert_eq!(shown(""), Vec::<String>::new());
    }

    #[test]
    fn an_unclosed_variable_is_text() {
        assert_eq!(shown("a${b"), ["t:a${b"]);
        assert_eq!(shown("${a}${b"), ["v:a|-", "t:${b"]);
        assert!(has_unclosed("x${b"));
        assert!(!has_unclosed("x${b}"));
    }

    #[test]
    fn a_variable_written_wrongly_never_has_a_value() {
        assert_eq!(shown("${}"), [format!("f:{:?}", Some(Fault::Empty))]);
        assert_eq!(shown("${ a}"), [format!("f:{:?}", Some(Fault::Space))]);
        assert_eq!(shown("${a, b}"), [format!("f:{:?}", Some(Fault::Quote))]);
        assert_eq!(shown("${a, 'b}"), [format!("f:{:?}", Some(Fault::Quote))]);
    }
}

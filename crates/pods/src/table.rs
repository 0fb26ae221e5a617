//! A table by namespace and service account, with patterns.

use std::collections::HashMap;

/// The longest text a key or one of its sides may have; namespaces have at most 63 characters, accounts 253.
pub const MAX_KEY_BYTES: usize = 512;

/// Values by (namespace, service account). `*` in either side stands for any run of characters, also none.
///
/// An exact key beats every pattern. Among patterns the one with the most literal characters wins, then the one with
/// more of them in the namespace, then the first in the order of their text, so that the answer never depends on the
/// order of arrival. A lookup costs one hash lookup, and one comparison for each pattern there is.
#[derive(Debug, Clone)]
pub struct AccountTable<T> {
    exact: HashMap<Box<str>, T, foldhash::fast::RandomState>,
    /// In order of precedence.
    patterns: Vec<(Box<str>, T)>,
}

/// What [`AccountTable::find`] found.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a, T> {
    /// The key as it was written, `namespace/name`.
    pub key: &'a str,
    /// Whether the key names exactly this account, and is no pattern.
    pub is_exact: bool,
    /// What stands there.
    pub value: &'a T,
}

/// A text that cannot be the key of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No `/`, or more than one, or an empty side.
    #[error("a key is `namespace/name`; `*` stands for any run of characters")]
    Form,
    /// See [`MAX_KEY_BYTES`].
    #[error("a key has at most {MAX_KEY_BYTES} bytes")]
    TooLong,
}

// Derived, these would ask the value to be so as well.
impl<T> Clone for Found<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Found<'_, T> {}

impl<T> Default for AccountTable<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::default(),
            patterns: Vec::new(),
        }
    }
}

impl<T> AccountTable<T> {
    /// Builds a table from keys `namespace/name`. Keys that are none come back with the reason; of two equal keys the
    /// later one counts.
    pub fn build(
        entries: impl IntoIterator<Item = (String, T)>,
    ) -> (Self, Vec<(String, KeyError)>) {
        let mut table = Self::default();
        let mut refused = Vec::new();
        for (key, value) in entries {
            match check(&key) {
                Err(error) => refused.push((key, error)),
                Ok(()) if key.contains('*') => table.patterns.push((key.into_boxed_str(), value)),
                Ok(()) => {
                    table.exact.insert(key.into_boxed_str(), value);
                }
            }
        }
        // Stable, and backwards first: of equal keys the later one has to come out in front.
        table.patterns.reverse();
        table
            .patterns
            .sort_by(|(a, _), (b, _)| precedence(a).cmp(&precedence(b)));
        table.patterns.dedup_by(|(a, _), (b, _)| a == b);
        (table, refused)
    }

    /// A table of literal keys only: a `*` in them is a character that no name has.
    pub fn exact(entries: impl IntoIterator<Item = (String, T)>) -> Self {
        let entries = entries.into_iter();
        Self {
            exact: entries
                .map(|(key, value)| (key.into_boxed_str(), value))
                .collect(),
            patterns: Vec::new(),
        }
    }

    /// The entry for an account.
    pub fn find(&self, namespace: &str, service_account: &str) -> Option<Found<'_, T>> {
        // Otherwise `a/b` and `c` would find what stands for `a` and `b/c`.
        if namespace.contains('/') {
            return None;
        }
        self.find_exact(namespace, service_account)
            .or_else(|| self.find_pattern(namespace, service_account))
    }

    fn find_exact(&self, namespace: &str, service_account: &str) -> Option<Found<'_, T>> {
        if self.exact.is_empty() {
            return None;
        }
        let (key, value) = self
            .exact
            .get_key_value([namespace, "/", service_account].concat().as_str())?;
        Some(Found {
            key,
            is_exact: true,
            value,
        })
    }

    fn find_pattern(&self, namespace: &str, service_account: &str) -> Option<Found<'_, T>> {
        let mut patterns = self.patterns.iter();
        let (key, value) = patterns.find(|(key, _)| {
            key.split_once('/')
                .is_some_and(|(space, name)| glob(space, namespace) && glob(name, service_account))
        })?;
        Some(Found {
            key,
            is_exact: false,
            value,
        })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.exact.len() + self.patterns.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn check(key: &str) -> Result<(), KeyError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(KeyError::TooLong);
    }
    match key.split_once('/') {
        Some((space, name)) if !space.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(())
        }
        _ => Err(KeyError::Form),
    }
}

fn precedence(key: &str) -> (std::cmp::Reverse<(usize, usize)>, &str) {
    let literals = |text: &str| text.bytes().filter(|byte| *byte != b'*').count();
    let namespace = key.split('/').next().unwrap_or_default();
    (std::cmp::Reverse((literals(key), literals(namespace))), key)
}

/// Whether `text` matches `pattern`; one place to go back to, so never more than their product of steps.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut back = None;
    loop {
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                back = Some((p, t));
                p += 1;
            }
            (Some(wanted), Some(byte)) if wanted == byte => {
                p += 1;
                t += 1;
            }
            (None, None) => return true,
            _ => match back {
                Some((star, start)) if start < text.len() => {
                    back = Some((star, start + 1));
                    p = star + 1;
                    t = start + 1;
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let cases = [
            ("*", "", true),
            ("*", "any", true),
            ("test-*", "test-", true),
            ("test-*", "test-a", true),
            ("test-*", "test", false),
            ("*-prod", "a-prod-prod", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}

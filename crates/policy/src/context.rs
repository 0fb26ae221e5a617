//! The context of a request: condition keys and their values.
//!
//! A key is present only when the policy language spec, section 7, says so: negated operators and `IfExists` are true on absence, so
//! presence is part of the security of a policy. Which keys are lists is a property of the key, not of how many values came.

use std::borrow::Cow;

use crate::{bytes, fold};

/// The condition keys of one request.
///
/// Keys compare without case. Building a context allocates for keys that are not in lower case; looking a key up never does and costs
/// O(log keys).
#[derive(Debug, Clone, Default)]
pub struct Context<'a> {
    /// Sorted; `entries` has the same order.
    hashes: Vec<u64>,
    entries: Vec<Entry<'a>>,
}

#[derive(Debug, Clone)]
struct Entry<'a> {
    lower: Cow<'a, str>,
    shown: Cow<'a, str>,
    value: ContextValue<'a>,
}

/// What a condition key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextValue<'a> {
    /// A single-valued key.
    One(Cow<'a, str>),
    /// A list key, also when it holds one value or none.
    Many(Vec<Cow<'a, str>>),
}

/// A condition key of a policy, ready to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    hash: u64,
    lower: Box<str>,
    shown: Box<str>,
}

impl Key {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            hash: fold::hash(text),
            lower: fold::lower(text),
            shown: text.into(),
        }
    }

    /// The key as the policy wrote it.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The key in lower case.
    pub(crate) fn lower(&self) -> &str {
        &self.lower
    }
}

impl<'a> Context<'a> {
    /// A context without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a single-valued key, replacing what it held.
    pub fn set(&mut self, key: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.put(key.into(), ContextValue::One(value.into()));
    }

    /// Sets a list key, replacing what it held; a list may be empty.
    pub fn set_list<V: Into<Cow<'a, str>>>(
        &mut self,
        key: impl Into<Cow<'a, str>>,
        values: impl IntoIterator<Item = V>,
    ) {
        let values = values.into_iter().map(Into::into).collect();
        self.put(key.into(), ContextValue::Many(values));
    }

    /// Sets a key that ends in a tag key: `set_tag("aws:PrincipalTag/", "team", "red")`.
    pub fn set_tag(&mut self, prefix: &str, tag: &str, value: impl Into<Cow<'a, str>>) {
        self.put(
            Cow::Owned(format!("{prefix}{tag}")),
            ContextValue::One(value.into()),
        );
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &str) {
        if let Ok(index) = self.find(fold::hash(key), &fold::lower(key)) {
            self.hashes.remove(index);
            self.entries.remove(index);
        }
    }

    /// What a key holds.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&ContextValue<'a>> {
        self.lookup(&Key::new(key))
    }

    /// All keys as they were set, in no meaningful order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ContextValue<'a>)> {
        self.entries
            .iter()
            .map(|entry| (&*entry.shown, &entry.value))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn lookup(&self, key: &Key) -> Option<&ContextValue<'a>> {
        let index = self.find(key.hash, &key.lower).ok()?;
        self.entries.get(index).map(|entry| &entry.value)
    }

    /// The text that a policy variable of this key stands for: list keys and empty texts have none.
    pub(crate) fn substitution(&self, key: &Key) -> Option<&str> {
        match self.lookup(key)? {
            ContextValue::One(text) if !text.is_empty() => Some(text),
            ContextValue::One(_) | ContextValue::Many(_) => None,
        }
    }

    fn put(&mut self, key: Cow<'a, str>, value: ContextValue<'a>) {
        let hash = fold::hash(&key);
        let lower = if key.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
            key.clone()
        } else {
            Cow::Owned(fold::lower(&key).into_string())
        };
        match self.find(hash, &lower) {
            Ok(index) => {
                if let Some(entry) = self.entries.get_mut(index) {
                    entry.shown = key;
                    entry.value = value;
                }
            }
            Err(index) => {
                self.hashes.insert(index, hash);
                self.entries.insert(
                    index,
                    Entry {
                        lower,
                        shown: key,
                        value,
                    },
                );
            }
        }
    }

    /// The place of a key, or where it would have to be inserted. Equal hashes of different keys stand side by side.
    fn find(&self, hash: u64, lower: &str) -> Result<usize, usize> {
        let mut index = self.hashes.partition_point(|other| *other < hash);
        while self.hashes.get(index) == Some(&hash) {
            if self
                .entries
                .get(index)
                .is_some_and(|entry| bytes::same(entry.lower.as_bytes(), lower.as_bytes()))
            {
                return Ok(index);
            }
            index += 1;
        }
        Err(index)
    }
}

impl ContextValue<'_> {
    /// The values, one or many.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        let (one, many): (Option<&str>, &[Cow<'_, str>]) = match self {
            Self::One(text) => (Some(text), &[]),
            Self::Many(texts) => (None, texts),
        };
        one.into_iter().chain(many.iter().map(AsRef::as_ref))
    }
}

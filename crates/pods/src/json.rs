//! Pieces for reading objects of which only a part is known, without copying and without losing strictness.
//!
//! Names that stand twice in an object that is read are refused, since two readers could take different ones. What is
//! not read is skipped without recursion, however deep it is.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A string, borrowed from the input unless it holds escapes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

/// A structure that may only be written as an object: derived readers would also take a list, field by field.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object<T>(pub(crate) T);

/// The first `N` items of a list, and how many more there were. A list of nothing but `{},` would otherwise grow to
/// many times the size of the body.
#[derive(Debug, Clone)]
pub(crate) struct Capped<T, const N: usize> {
    pub(crate) items: Vec<T>,
    pub(crate) more: usize,
}

/// More names than this in an object of strings are refused: with the quarter of a megabyte that all annotations may
/// have, no pod comes near.
const MAX_NAMES: usize = 16_384;

/// Names and strings, the strings not unescaped before someone asks: an annotation may hold a whole manifest.
#[derive(Debug, Clone, Default)]
pub(crate) struct StringMap<'a>(Vec<(Text<'a>, &'a RawValue)>);

// === impl Text ===

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for Reader<'a> {
            type Value = Text<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Reader(PhantomData))
    }
}

// === impl Object ===

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Reader(PhantomData))
    }
}

// === impl Capped ===

impl<T, const N: usize> Default for Capped<T, N> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            more: 0,
        }
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Capped<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T, const N: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Reader<T, N> {
            type Value = Capped<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Capped<T, N>, A::Error> {
                let mut capped = Capped::default();
                while capped.items.len() < N {
                    match list.next_element()? {
                        Some(item) => capped.items.push(item),
                        None => return Ok(capped),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {
                    capped.more += 1;
                }
                Ok(capped)
            }
        }

        deserializer.deserialize_seq(Reader(PhantomData))
    }
}

// === impl StringMap ===

impl<'a> StringMap<'a> {
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Cow<'a, str>> {
        let text: Text<'a> = serde_json::from_str(self.raw(key)?).ok()?;
        Some(text.0)
    }

    fn raw(&self, key: &str) -> Option<&'a str> {
        let (_, raw) = self.0.iter().find(|(name, _)| name.as_str() == key)?;
        Some(raw.get())
    }

    fn has_repeated_name(&self) -> bool {
        if self.0.len() <= 16 {
            let earlier = |at: usize, name| self.0.iter().take(at).any(|(other, _)| other == name);
            let mut names = self.0.iter().enumerate();
            return names.any(|(at, (name, _))| earlier(at, name));
        }
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair.first() == pair.last())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for StringMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for Reader<'a> {
            type Value = StringMap<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMap<'a>, A::Error> {
                let mut pairs = StringMap::default();
                while let Some((name, value)) = map.next_entry::<Text<'a>, &'a RawValue>()? {
                    if pairs.0.len() >= MAX_NAMES {
                        return Err(A::Error::custom("too many names"));
                    }
                    match value.get().bytes().next() {
                        Some(b'"') => pairs.0.push((name, value)),
                        // Kubernetes reads null as the empty string; for everything read here both mean nothing.
                        Some(b'n') => {}
                        _ => return Err(A::Error::custom("a value is not a string")),
                    }
                }
                if pairs.has_repeated_name() {
                    return Err(A::Error::custom("a name stands twice"));
                }
                Ok(pairs)
            }
        }

        deserializer.deserialize_map(Reader(PhantomData))
    }
}

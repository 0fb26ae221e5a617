//! Keys without regard to letter case, and a list of the keys nobody knows.
//!
//! The reference reads its file with a library that folds keys; its users write `clusterID`, `clusterId` and `ClusterID`.
//! [`Fold`] stands between a format's deserializer and serde's derived code, lower-cases every key of a struct, and records
//! those that are no field of it. Fields therefore have lower-case names.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

/// Keys that are no field of the struct they stand in, with the path to them.
pub(super) type Unknown = RefCell<Vec<String>>;

/// Most unknown keys remembered; the rest adds nothing to the message.
const MAX_UNKNOWN: usize = 32;

/// A deserializer that folds the keys of structs.
pub(super) struct Fold<'u, D> {
    inner: D,
    path: String,
    unknown: &'u Unknown,
}

impl<'u, D> Fold<'u, D> {
    pub(super) fn new(inner: D, unknown: &'u Unknown) -> Self {
        Self {
            inner,
            path: String::new(),
            unknown,
        }
    }
}

macro_rules! forward {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(Folding { inner: visitor, fields: None, path: self.path, unknown: self.unknown })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Fold<'_, D> {
    type Error = D::Error;

    forward! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option
        deserialize_unit deserialize_seq deserialize_map deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple_struct(name, len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Folding {
            inner: visitor,
            fields: Some(fields),
            path: self.path,
            unknown: self.unknown,
        };
        self.inner.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner
            .deserialize_enum(name, variants, PlainEnum(visitor))
    }
}

/// Enums have no keys to fold; this only gives the visitor a name of its own type.
struct PlainEnum<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for PlainEnum<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(data)
    }
}

/// The visitor side: wraps what maps, lists and options contain.
struct Folding<'u, V> {
    inner: V,
    fields: Option<&'static [&'static str]>,
    path: String,
    unknown: &'u Unknown,
}

macro_rules! visit {
    ($($method:ident $kind:ty,)*) => {$(
        fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Folding<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool bool, visit_i64 i64, visit_i128 i128, visit_u64 u64, visit_u128 u128, visit_f64 f64, visit_char char,
        visit_str &str, visit_borrowed_str &'de str, visit_string String, visit_bytes &[u8], visit_byte_buf Vec<u8>,
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Fold {
            inner,
            path: self.path,
            unknown: self.unknown,
        })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Fold {
            inner,
            path: self.path,
            unknown: self.unknown,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Items {
            inner: seq,
            path: self.path,
            unknown: self.unknown,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Entries {
            inner: map,
            fields: self.fields,
            path: self.path,
            key: String::new(),
            unknown: self.unknown,
        })
    }
}

struct Items<'u, A> {
    inner: A,
    path: String,
    unknown: &'u Unknown,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.inner.next_element_seed(Seed {
            inner: seed,
            path: self.path.clone(),
            unknown: self.unknown,
        })
    }
}

struct Entries<'u, A> {
    inner: A,
    fields: Option<&'static [&'static str]>,
    path: String,
    key: String,
    unknown: &'u Unknown,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(key) = self.inner.next_key::<String>()? else {
            return Ok(None);
        };
        self.key = if self.path.is_empty() {
            key.clone()
        } else {
            format!("{}.{key}", self.path)
        };
        let shown = match self.fields {
            None => key,
            Some(fields) => {
                let folded = key.to_lowercase();
                if !fields.contains(&folded.as_str()) {
                    let mut unknown = self.unknown.borrow_mut();
                    if unknown.len() < MAX_UNKNOWN {
                        unknown.push(self.key.clone());
                    }
                }
                folded
            }
        };
        let key: StringDeserializer<A::Error> = shown.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.next_value_seed(Seed {
            inner: seed,
            path: self.key.clone(),
            unknown: self.unknown,
        })
    }
}

struct Seed<'u, T> {
    inner: T,
    path: String,
    unknown: &'u Unknown,
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        self.inner.deserialize(Fold {
            inner,
            path: self.path,
            unknown: self.unknown,
        })
    }
}

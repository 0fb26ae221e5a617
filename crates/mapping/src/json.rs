//! JSON text to [`Tree`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::finding::Position;
use crate::tree::{Content, Form, Id, Tree};
use crate::yaml::BrokenText;

/// Parses one JSON value. Names that stand twice are both kept, in order.
pub(crate) fn parse(text: &str) -> Result<Tree<'_>, BrokenText> {
    let mut tree = Tree::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Seed(&mut tree)
        .deserialize(&mut deserializer)
        .and_then(|id| deserializer.end().map(|()| id));
    match read {
        Ok(id) => {
            tree.set_root(id);
            Ok(tree)
        }
        Err(error) => {
            let position = (error.line() > 0).then(|| Position {
                line: u32::try_from(error.line()).unwrap_or(u32::MAX),
                column: u32::try_from(error.column()).unwrap_or(u32::MAX),
            });
            Err(BrokenText::new(format!("not JSON: {error}"), position))
        }
    }
}

struct Seed<'a, 't>(&'a mut Tree<'t>);

impl<'t> Seed<'_, 't> {
    fn add<E: serde::de::Error>(self, content: Content<'t>) -> Result<Id, E> {
        self.0
            .add(content, None)
            .ok_or_else(|| E::custom("too many values"))
    }
}

impl<'t> DeserializeSeed<'t> for Seed<'_, 't> {
    type Value = Id;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Id, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Seed<'_, 't> {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Id, E> {
        self.add(Content::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Id, E> {
        let text = if value { "true" } else { "false" };
        self.add(Content::Text(Cow::Borrowed(text), Form::JsonLiteral))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Id, E> {
        self.add(Content::Text(value.to_string().into(), Form::JsonLiteral))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Id, E> {
        self.add(Content::Text(value.to_string().into(), Form::JsonLiteral))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Id, E> {
        self.add(Content::Text(value.to_string().into(), Form::JsonLiteral))
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'t str) -> Result<Id, E> {
        self.add(Content::Text(Cow::Borrowed(text), Form::Quoted))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
        self.add(Content::Text(Cow::Owned(text.to_owned()), Form::Quoted))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut access: A) -> Result<Id, A::Error> {
        let mut items = Vec::new();
        while let Some(id) = access.next_element_seed(Seed(&mut *self.0))? {
            items.push(id);
        }
        self.add(Content::List(items))
    }

    fn visit_map<A: MapAccess<'t>>(self, mut access: A) -> Result<Id, A::Error> {
        let mut pairs = Vec::new();
        while let Some(key) = access.next_key_seed(Seed(&mut *self.0))? {
            pairs.push((key, access.next_value_seed(Seed(&mut *self.0))?));
        }
        self.add(Content::Map(pairs))
    }
}

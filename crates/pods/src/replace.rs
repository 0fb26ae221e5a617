//! Container lists written as a whole, for the patch style `replace` (webhook spec, section 7).
//!
//! The reference passes the list through its own types and loses every field it does not know. Here the text of each
//! container is copied, and what it gets is put in between.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::container::Additions;
use crate::json::{Object, Text};
use crate::patch::{Container, ContainerList, MAX_PATCH_BYTES, Operation, Path, TooLong, Value};

/// The lists of a review's pod, each container as text.
#[derive(serde::Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Object<Request<'a>>,
}

#[derive(serde::Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    object: Object<Pod<'a>>,
}

#[derive(serde::Deserialize)]
struct Pod<'a> {
    #[serde(borrow)]
    spec: Object<Spec<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow)]
    containers: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    init_containers: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    ephemeral_containers: Option<Vec<&'a RawValue>>,
}

/// The operations that write the lists: containers, then init containers if there are any, or the ephemeral ones when
/// the request is about those. None if the body is not the one that the additions were made from, or if
/// a container is too odd.
pub(crate) fn lists<'a>(
    body: &'a str,
    additions: &[Additions<'a>],
    ephemeral: bool,
) -> Result<Option<Vec<Operation<'a>>>, TooLong> {
    let Ok(Object(review)) = serde_json::from_str::<Object<Review<'a>>>(body) else {
        return Ok(None);
    };
    let Object(spec) = review.request.0.object.0.spec;
    let lists = match ephemeral {
        true => vec![(
            ContainerList::EphemeralContainers,
            spec.ephemeral_containers,
        )],
        false => vec![
            (ContainerList::Containers, spec.containers),
            (ContainerList::InitContainers, spec.init_containers),
        ],
    };
    let mut operations = Vec::new();
    let mut filled_bytes = 0;
    for (list, containers) in lists {
        let containers = containers.unwrap_or_default();
        if containers.is_empty() {
            continue;
        }
        let mut list_value: Vec<Container<'a>> =
            containers.iter().map(|raw| Container::Kept(raw)).collect();
        for added in additions
            .iter()
            .filter(|added| added.list == list && !added.is_empty())
        {
            let filled = containers
                .get(added.index)
                .and_then(|raw| fill(raw.get(), added));
            let (Some(filled), Some(place)) = (filled, list_value.get_mut(added.index)) else {
                return Ok(None);
            };
            filled_bytes += filled.get().len();
            if filled_bytes > MAX_PATCH_BYTES {
                return Err(TooLong);
            }
            *place = Container::Filled(filled);
        }
        operations.push(Operation {
            path: Path::List(list),
            value: Value::List(list_value),
        });
    }
    Ok(Some(operations))
}

/// A container's text with its additions.
fn fill(container: &str, added: &Additions<'_>) -> Option<Box<RawValue>> {
    let Members(members) = serde_json::from_str(container).ok()?;
    let mut additions = [
        ("env", json_items(&added.env)?),
        ("volumeMounts", json_items(added.mount.as_slice())?),
    ];
    let mut text = String::with_capacity(container.len() + 512);
    let mut separator = '{';
    for (name, value) in &members {
        text.push(separator);
        separator = ',';
        text.push_str(&serde_json::to_string(name.as_str()).ok()?);
        text.push(':');
        let mut additions = additions.iter_mut();
        let addition = additions.find(|(member, _)| *member == name.as_str());
        match addition
            .map(|(_, items)| std::mem::take(items))
            .unwrap_or_default()
        {
            none if none.is_empty() => text.push_str(value.get()),
            items => append(&mut text, value.get(), &items),
        }
    }
    for (name, items) in additions.iter().filter(|(_, items)| !items.is_empty()) {
        text.push(separator);
        separator = ',';
        text.extend(["\"", name, "\":[", items, "]"]);
    }
    text.push('}');
    RawValue::from_string(text).ok()
}

/// A list's text with items at its end; null is an empty list.
fn append(text: &mut String, list: &str, items: &str) {
    let inner = list
        .strip_prefix('[')
        .and_then(|list| list.strip_suffix(']'));
    let inner = inner.unwrap_or_default();
    text.push('[');
    text.push_str(inner);
    if !inner.trim_ascii().is_empty() {
        text.push(',');
    }
    text.push_str(items);
    text.push(']');
}

/// Values as JSON, with commas between and without the brackets.
fn json_items<T: serde::Serialize>(items: &[T]) -> Option<String> {
    let text = serde_json::to_string(items).ok()?;
    Some(text.strip_prefix('[')?.strip_suffix(']')?.to_owned())
}

/// A container has some thirty fields; one with more than this is left to the additive style.
const MAX_MEMBERS: usize = 4096;

/// The members of an object in their order.
struct Members<'a>(Vec<(Text<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<'a>(std::marker::PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for Reader<'a> {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() >= MAX_MEMBERS {
                        return Err(A::Error::custom("too many members"));
                    }
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader(std::marker::PhantomData))
    }
}

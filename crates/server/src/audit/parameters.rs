//! `requestParameters`: the parameters of the Query protocol as the structure they stand for.

use std::collections::BTreeMap;

use super::HIDDEN;
use super::json::Json;
use super::record::{LONG_TEXT, lower_first, omit_if_large};
use super::tables::{Kind, parameter};
use crate::aws::query::Parameters;

/// Dots in the names of parameters that operations have are far fewer.
const MAX_DEPTH: usize = 8;
/// Bytes of `requestParameters`.
const MAX_BYTES: usize = 24 << 10;

/// Writes `requestParameters` and returns how many parameters were left out because no operation has them.
///
/// Not even their names are written: a body that is no form, a password for instance, reads as the name of a parameter.
/// Parameters of an operation that does not exist are all left out, since nobody knows what they mean.
pub(super) fn write(
    json: &mut Json,
    parameters: Option<&Parameters<'_>>,
    known_operation: bool,
) -> usize {
    json.key("requestParameters");
    let mut root = Node::default();
    let mut unknown = 0;
    for (name, value) in parameters.iter().flat_map(|parameters| parameters.iter()) {
        if is_protocol(name) {
            continue;
        }
        if !known_operation || !root.insert(name, value) {
            unknown += 1;
        }
    }
    if root.children.is_empty() {
        json.literal("null");
    } else {
        omit_if_large(json, MAX_BYTES, |json| root.write(json));
    }
    unknown
}

/// Writes `requestParameters` that were read against the shape of their operation, which knows what is secret. None is left
/// out: what the shape does not know was never read.
pub(super) fn write_read(json: &mut Json, input: &serde_json::Value) -> usize {
    json.key("requestParameters");
    match input.as_object() {
        Some(members) if !members.is_empty() => {
            omit_if_large(json, MAX_BYTES, |json| write_value(json, input));
        }
        _ => json.literal("null"),
    }
    0
}

fn write_value(json: &mut Json, value: &serde_json::Value) {
    match value {
        serde_json::Value::Null => json.literal("null"),
        serde_json::Value::Bool(value) => json.literal(if *value { "true" } else { "false" }),
        serde_json::Value::Number(number) => json.literal(&number.to_string()),
        serde_json::Value::String(value) => text(json, value),
        serde_json::Value::Array(items) => {
            json.open(b'[');
            items.iter().for_each(|item| write_value(json, item));
            json.close(b']');
        }
        serde_json::Value::Object(members) => {
            json.open(b'{');
            for (name, member) in members {
                json.key(name);
                write_value(json, member);
            }
            json.close(b'}');
        }
    }
}

/// Parameters that say which call it is, or prove who makes it.
fn is_protocol(name: &str) -> bool {
    matches!(
        name,
        "Action"
            | "Version"
            | "AWSAccessKeyId"
            | "SecurityToken"
            | "Signature"
            | "SignatureMethod"
            | "SignatureVersion"
            | "Timestamp"
    ) || name
        .get(..6)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-amz-"))
}

/// A parameter, or what stands below one.
#[derive(Debug, Default)]
struct Node<'a> {
    children: BTreeMap<Step<'a>, Node<'a>>,
    value: Option<(Kind, &'a str)>,
}

/// One part of a parameter's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step<'a> {
    /// `member.7`
    Item(u32),
    /// The name of a member.
    Member(&'a str),
}

impl<'a> Node<'a> {
    /// Puts a value in its place; false when a part of its name is unknown.
    fn insert(&mut self, name: &'a str, value: &'a str) -> bool {
        let Some((steps, kind)) = steps(name) else {
            return false;
        };
        let mut node = self;
        for step in steps {
            node = node.children.entry(step).or_default();
        }
        node.value = Some((kind, value));
        true
    }

    fn write(&self, json: &mut Json) {
        if self.children.is_empty() {
            if let Some((kind, value)) = self.value {
                scalar(json, kind, value);
            } else {
                json.literal("null");
            }
            return;
        }
        let is_list = self
            .children
            .keys()
            .all(|step| matches!(step, Step::Item(_)));
        json.open(if is_list { b'[' } else { b'{' });
        for (step, node) in &self.children {
            match step {
                // A node with items and members at once is nothing that an operation takes.
                Step::Item(_) if !is_list => continue,
                Step::Item(_) => {}
                Step::Member(name) => json.key(&lower_first(name)),
            }
            node.write(json);
        }
        json.close(if is_list { b']' } else { b'}' });
    }
}

/// The parts of a parameter's name, and how its value is written. None when a part is unknown.
fn steps(name: &str) -> Option<(Vec<Step<'_>>, Kind)> {
    let mut steps = Vec::new();
    let mut kind = None;
    let mut parts = name.split('.');
    while let Some(part) = parts.next() {
        if steps.len() == MAX_DEPTH {
            return None;
        }
        if part == "member" {
            steps.push(Step::Item(parts.next()?.parse().ok()?));
            // An item of a list of texts is a text.
            if kind == Some(Kind::List) {
                kind = Some(Kind::Text);
            }
        } else {
            kind = Some(parameter(part)?);
            steps.push(Step::Member(part));
        }
    }
    matches!(steps.first(), Some(Step::Member(_)))
        .then_some(kind)
        .flatten()
        .map(|kind| (steps, kind))
}

fn scalar(json: &mut Json, kind: Kind, value: &str) {
    match kind {
        Kind::Secret => json.string(HIDDEN),
        Kind::Digest => json.string(&digest(value)),
        Kind::List if value.is_empty() => {
            json.open(b'[');
            json.close(b']');
        }
        Kind::Boolean if matches!(value, "true" | "false") => json.literal(value),
        Kind::Number => match value.parse::<i64>() {
            Ok(number) => json.literal(&number.to_string()),
            Err(_) => text(json, value),
        },
        Kind::Text | Kind::List | Kind::Boolean => text(json, value),
    }
}

fn text(json: &mut Json, value: &str) {
    json.string(if value.len() > LONG_TEXT {
        HIDDEN
    } else {
        value
    });
}

fn digest(value: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value.as_bytes());
    let mut text = String::from("sha256:");
    for byte in digest.as_ref().iter().take(8) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

//! A request read against the shape of its operation: everything that is wrong is told at once, in the order of the
//! model (IAM API spec, section 1.3; STS spec, section 1.6).

use std::collections::{BTreeMap, BTreeSet};

use countersign_arn::Tag;

use super::pattern::Complaint;
use super::{ANY_NUMBER, Kind, Parameter, Text};
use crate::aws::ApiError;
use crate::aws::query::Parameters;

/// How a service words its faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// With the value, as STS.
    WithValue,
    /// Without, as IAM; names and paths have sentences of their own.
    WithoutValue,
}

/// The parameters of one call, every one within its constraints. Parameters that the operation does not know are not in
/// it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Input<'a>(Vec<(&'static Parameter, Value<'a>)>);

/// What a parameter holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Integer(i64),
    Boolean(bool),
    List(Vec<Value<'a>>),
    Structure(Vec<(&'static str, Value<'a>)>),
    Map(Vec<(&'a str, Value<'a>)>),
}

impl<'a> Input<'a> {
    /// From parameters that were read elsewhere, in the order of the shape.
    pub(super) const fn of(values: Vec<(&'static Parameter, Value<'a>)>) -> Self {
        Self(values)
    }

    /// Reads the parameters of an operation with this shape.
    pub(crate) fn read(
        shape: &'static [Parameter],
        parameters: &'a Parameters<'a>,
        style: Style,
    ) -> Result<Self, ApiError> {
        let mut reader = Reader {
            given: parameters.iter().collect(),
            faults: Vec::new(),
            sentence: None,
            style,
        };
        let mut values = Vec::with_capacity(shape.len());
        for parameter in shape {
            let member = member_name(parameter.name);
            if let Some(value) =
                reader.read(&parameter.kind, parameter.name, &member, parameter.required)
            {
                values.push((parameter, value));
            }
        }
        reader.finish()?;
        Ok(Self(values))
    }

    /// Every parameter that was given, with its shape: what audit records print, secrets apart.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static Parameter, &Value<'a>)> {
        self.0.iter().map(|(parameter, value)| (*parameter, value))
    }

    /// A parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0
            .iter()
            .find(|(parameter, _)| parameter.name == name)
            .map(|(_, value)| value)
    }

    /// A text, if it was given.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A text that the shape requires; empty when the shape has no such required parameter.
    pub(crate) fn required(&self, name: &str) -> &'a str {
        self.text(name).unwrap_or_default()
    }

    /// A number, if it was given.
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// A boolean, if it was given.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The members of a list; none when it was not given.
    pub(crate) fn list(&self, name: &str) -> &[Value<'a>] {
        match self.get(name) {
            Some(Value::List(members)) => members,
            _ => &[],
        }
    }

    /// The members of a list of texts.
    pub(crate) fn texts(&self, name: &str) -> Vec<&'a str> {
        self.list(name)
            .iter()
            .filter_map(|member| match member {
                Value::Text(text) => Some(*text),
                _ => None,
            })
            .collect()
    }

    /// The members of a list of tags, in the order given, or of a map of tags.
    pub(crate) fn tags(&self, name: &str) -> Vec<Tag> {
        if let Some(Value::Map(members)) = self.get(name) {
            return members
                .iter()
                .filter_map(|(key, value)| match value {
                    Value::Text(value) => Some(Tag {
                        key: (*key).into(),
                        value: (*value).into(),
                    }),
                    _ => None,
                })
                .collect();
        }
        let tag = |member: &Value<'a>| {
            Some(Tag {
                key: member.member("Key")?.into(),
                value: member.member("Value")?.into(),
            })
        };
        self.list(name).iter().filter_map(tag).collect()
    }
}

impl Input<'_> {
    /// The tags of a request, whatever its service calls them.
    pub(crate) fn request_tags(&self) -> Vec<Tag> {
        let mut tags = self.tags("Tags");
        tags.extend(self.tags("tags"));
        tags
    }
}

impl<'a> Value<'a> {
    /// A text in a structure.
    pub(crate) fn member(&self, name: &str) -> Option<&'a str> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The texts of a list in a structure; nothing when it is not there.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<&'a str>> {
        let Self::List(members) = self.value(name)? else {
            return None;
        };
        Some(
            members
                .iter()
                .filter_map(|member| match member {
                    Value::Text(text) => Some(*text),
                    _ => None,
                })
                .collect(),
        )
    }

    /// A boolean in a structure.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// A member of a structure.
    pub(crate) fn value(&self, name: &str) -> Option<&Value<'a>> {
        let Self::Structure(members) = self else {
            return None;
        };
        members
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }
}

struct Reader<'a> {
    given: BTreeMap<&'a str, &'a str>,
    faults: Vec<String>,
    /// The first fault for which IAM has a sentence of its own; it stands alone, and behind all others.
    sentence: Option<String>,
    style: Style,
}

impl<'a> Reader<'a> {
    /// `name` is on the wire (`Tags.member.1.Key`), `member` in messages (`tags.1.member.key`).
    fn read(&mut self, kind: &Kind, name: &str, member: &str, required: bool) -> Option<Value<'a>> {
        let value = match kind {
            Kind::Text(rule) => self.given.get(name).copied().map(|text| {
                self.check_text(rule, text, member);
                Value::Text(text)
            }),
            Kind::Integer { least, most } => self
                .given
                .get(name)
                .copied()
                .map(|text| self.integer(text, *least, *most, member)),
            Kind::Boolean => self.given.get(name).copied().map(|text| {
                if !matches!(text, "true" | "false") {
                    self.fault(text, member, "be a boolean");
                }
                Value::Boolean(text == "true")
            }),
            Kind::List { least, most, of } => self.list(of, name, member, *least, *most),
            Kind::Structure(members) => self.structure(members, name, member),
            // No operation of the Query protocol has one.
            Kind::Map { .. } => None,
        };
        if value.is_none() && required {
            self.faults.push(match self.style {
                Style::WithValue => format!(
                    "Value null at '{member}' failed to satisfy constraint: Member must not be null"
                ),
                Style::WithoutValue => format!(
                    "Value at '{member}' failed to satisfy constraint: Member must not be null"
                ),
            });
        }
        value
    }

    fn integer(&mut self, text: &'a str, least: i64, most: i64, member: &str) -> Value<'a> {
        let Ok(number) = text.parse::<i64>() else {
            self.fault(text, member, "be an integer");
            return Value::Integer(least);
        };
        if number < least {
            let constraint = format!("have value greater than or equal to {least}");
            self.fault(text, member, &constraint);
        }
        if number > most {
            let constraint = format!("have value less than or equal to {most}");
            self.fault(text, member, &constraint);
        }
        Value::Integer(number)
    }

    /// `NAME=` alone is an empty list, as botocore writes it. Numbers may have gaps; the order is theirs.
    fn list(
        &mut self,
        of: &Kind,
        name: &str,
        member: &str,
        least: usize,
        most: usize,
    ) -> Option<Value<'a>> {
        let prefix = format!("{name}.member.");
        let numbers: BTreeSet<u32> = self
            .below(&prefix)
            .filter_map(|rest| {
                let number = rest.split('.').next().unwrap_or_default();
                let parsed: u32 = number.parse().ok()?;
                // Another spelling of a number would be a second name for the same member.
                (parsed.to_string() == number).then_some(parsed)
            })
            .collect();
        if numbers.is_empty() && !self.given.contains_key(name) {
            return None;
        }
        let shown = format!("[{} members]", numbers.len());
        if numbers.len() > most {
            let constraint = format!("have length less than or equal to {most}");
            self.fault(&shown, member, &constraint);
            return Some(Value::List(Vec::new()));
        }
        if numbers.len() < least {
            let constraint = format!("have length greater than or equal to {least}");
            self.fault(&shown, member, &constraint);
        }
        let mut members = Vec::with_capacity(numbers.len());
        let before = self.faults.len();
        for (at, number) in numbers.into_iter().enumerate() {
            let name = format!("{prefix}{number}");
            let inside = format!("{member}.{}.member", at + 1);
            members.extend(self.read(of, &name, &inside, true));
        }
        if self.style == Style::WithoutValue
            && self.faults.len() > before
            && let Kind::Text(rule) = of
        {
            self.faults.truncate(before);
            self.faults.push(format!(
                "Value at '{member}' failed to satisfy constraint: Member must satisfy constraint: [{}]",
                all_constraints(rule)
            ));
        }
        Some(Value::List(members))
    }

    fn structure(
        &mut self,
        members: &'static [Parameter],
        name: &str,
        member: &str,
    ) -> Option<Value<'a>> {
        let prefix = format!("{name}.");
        if self.below(&prefix).next().is_none() && !self.given.contains_key(name) {
            return None;
        }
        let mut values = Vec::with_capacity(members.len());
        for inner in members {
            let on_wire = format!("{prefix}{}", inner.name);
            let in_message = format!("{member}.{}", member_name(inner.name));
            if let Some(value) = self.read(&inner.kind, &on_wire, &in_message, inner.required) {
                values.push((inner.name, value));
            }
        }
        Some(Value::Structure(values))
    }

    /// What follows `prefix` in every name that begins with it.
    fn below(&self, prefix: &str) -> impl Iterator<Item = &'a str> {
        self.given
            .range::<str, _>((
                std::ops::Bound::Included(prefix),
                std::ops::Bound::Unbounded,
            ))
            .map_while(move |(name, _)| name.strip_prefix(prefix))
    }

    fn check_text(&mut self, rule: &Text, text: &str, member: &str) {
        let length = text.chars().count();
        let shown = if rule.secret { None } else { Some(text) };
        let mut fault = |constraint: &str| {
            let fault = worded(self.style, shown, member, constraint);
            self.faults.push(fault);
        };
        if length > rule.most {
            fault(&format!("have length less than or equal to {}", rule.most));
        }
        if length < rule.least {
            fault(&format!(
                "have length greater than or equal to {}",
                rule.least
            ));
        }
        if !rule.choices.is_empty() && !rule.choices.contains(&text) {
            fault("satisfy enum value set");
        }
        let Some(pattern) = rule.pattern.filter(|pattern| !(pattern.matches)(text)) else {
            return;
        };
        let sentence = match (self.style, pattern.complaint) {
            (Style::WithValue, _) | (_, Complaint::Constraint) => None,
            (Style::WithoutValue, Complaint::Name) => {
                Some("It must contain only alphanumeric characters and/or the following: +=,.@_-")
            }
            (Style::WithoutValue, Complaint::Path) => Some(
                "It must begin and end with / and contain only alphanumeric characters and/or / characters.",
            ),
            (Style::WithoutValue, Complaint::PathPrefix) => Some(
                "It must begin with / and contain only alphanumeric characters and/or / characters.",
            ),
        };
        match sentence {
            None => fault(&format!(
                "satisfy regular expression pattern: {}",
                pattern.text
            )),
            Some(sentence) => {
                self.sentence.get_or_insert_with(|| {
                    format!("The specified value for {member} is invalid. {sentence}")
                });
            }
        }
    }

    fn fault(&mut self, value: &str, member: &str, constraint: &str) {
        let fault = worded(self.style, Some(value), member, constraint);
        self.faults.push(fault);
    }

    fn finish(self) -> Result<(), ApiError> {
        let message = match (self.faults.as_slice(), self.sentence) {
            ([], None) => return Ok(()),
            ([], Some(sentence)) => sentence,
            ([one], _) => format!("1 validation error detected: {one}"),
            (all, _) => format!(
                "{} validation errors detected: {}",
                all.len(),
                all.join("; ")
            ),
        };
        Err(ApiError::new(400, "ValidationError", message))
    }
}

fn worded(style: Style, value: Option<&str>, member: &str, constraint: &str) -> String {
    match (style, value) {
        (Style::WithValue, Some(value)) => format!(
            "Value '{value}' at '{member}' failed to satisfy constraint: Member must {constraint}"
        ),
        _ => format!("Value at '{member}' failed to satisfy constraint: Member must {constraint}"),
    }
}

/// IAM answers a bad member of a list with all constraints of its members.
fn all_constraints(rule: &Text) -> String {
    let mut all = Vec::new();
    if rule.most != ANY_NUMBER {
        all.push(format!(
            "Member must have length less than or equal to {}",
            rule.most
        ));
    }
    if rule.least > 0 {
        all.push(format!(
            "Member must have length greater than or equal to {}",
            rule.least
        ));
    }
    if let Some(pattern) = rule.pattern {
        all.push(format!(
            "Member must satisfy regular expression pattern: {}",
            pattern.text
        ));
    }
    if !rule.choices.is_empty() {
        all.push("Member must satisfy enum value set".to_owned());
    }
    all.join(", ")
}

/// The name of a member in messages: its first letter in lower case.
fn member_name(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map(|first| first.to_ascii_lowercase())
        .into_iter()
        .chain(letters)
        .collect()
}

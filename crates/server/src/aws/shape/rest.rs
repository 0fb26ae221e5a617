//! A REST-JSON request read against the shape of its operation (EKS API spec, sections 1.2 and 1.7).
//!
//! What has the wrong type cannot be read at all. What is of the right type and outside its constraints is told only after
//! the caller was found to be allowed to ask, so it is handed back beside the input.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::{ANY_NUMBER, Input, Kind, Parameter, Place, Text, Value};
use crate::aws::ApiError;

/// Most structures and lists in one another that a shape has.
const MAX_DEPTH: usize = 8;

/// The parts of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent<'a> {
    /// The labels of the path by their names in the template, decoded.
    pub(crate) labels: &'a [(&'static str, String)],
    /// The query string in the order received, decoded.
    pub(crate) query: &'a [(Cow<'a, str>, Cow<'a, str>)],
    /// The body; an object.
    pub(crate) body: &'a Json,
}

/// The parameters, and the first one that breaks a constraint of the model. Members that the shape does not know are left
/// out; `null` is absent; of a text that stands twice in the query string, the first counts.
///
/// # Errors
/// `SerializationException` for a value of the wrong type.
pub(crate) fn read<'a>(
    shape: &'static [Parameter],
    sent: Sent<'a>,
) -> Result<(Input<'a>, Option<ApiError>), ApiError> {
    let mut reader = Reader { fault: None };
    let mut values = Vec::with_capacity(shape.len());
    for parameter in shape {
        let value = match parameter.place {
            Place::Body => match sent.body.get(parameter.name) {
                None | Some(Json::Null) => None,
                // Clients that know no absent map send an empty one; none of them knows a parameter of our own.
                Some(Json::Object(members))
                    if members.is_empty()
                        && !parameter.required
                        && !parameter.ours
                        && matches!(parameter.kind, Kind::Map { .. }) =>
                {
                    None
                }
                Some(value) => Some(reader.json(&parameter.kind, parameter.name, value, 0)?),
            },
            Place::Label(name) => sent
                .labels
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, text)| reader.plain(&parameter.kind, parameter.name, text))
                .transpose()?,
            Place::Query => reader.in_query(parameter, sent.query)?,
        };
        match value {
            Some(value) => values.push((parameter, value)),
            None if parameter.required => reader.missing(parameter.name),
            None => {}
        }
    }
    Ok((Input::of(values), reader.fault))
}

/// `SerializationException`, as REST-JSON services answer what cannot be read.
pub(crate) fn unreadable(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "SerializationException", message)
}

struct Reader {
    fault: Option<ApiError>,
}

impl Reader {
    fn json<'a>(
        &mut self,
        kind: &Kind,
        name: &str,
        value: &'a Json,
        depth: usize,
    ) -> Result<Value<'a>, ApiError> {
        if depth > MAX_DEPTH {
            return Err(unreadable(format!("{name} is nested too deeply")));
        }
        Ok(match (kind, value) {
            (Kind::Text(rule), Json::String(text)) => {
                self.check_text(rule, name, text);
                Value::Text(text)
            }
            (Kind::Integer { least, most }, Json::Number(number)) => {
                let number = number.as_i64().ok_or_else(|| wrong_type(name, kind))?;
                self.check_range(name, number, *least, *most);
                Value::Integer(number)
            }
            (Kind::Boolean, Json::Bool(value)) => Value::Boolean(*value),
            (Kind::List { least, most, of }, Json::Array(items)) => {
                self.check_count(name, items.len(), *least, *most);
                let members = items
                    .iter()
                    .map(|item| self.json(of, name, item, depth + 1));
                Value::List(members.collect::<Result<_, _>>()?)
            }
            (Kind::Structure(shape), Json::Object(members)) => {
                let mut values = Vec::with_capacity(shape.len());
                for parameter in *shape {
                    let name = format!("{name}.{}", parameter.name);
                    match members.get(parameter.name) {
                        None | Some(Json::Null) if parameter.required => self.missing(&name),
                        None | Some(Json::Null) => {}
                        Some(value) => values.push((
                            parameter.name,
                            self.json(&parameter.kind, &name, value, depth + 1)?,
                        )),
                    }
                }
                Value::Structure(values)
            }
            (
                Kind::Map {
                    least,
                    most,
                    key,
                    value: rule,
                },
                Json::Object(members),
            ) => {
                self.check_count(name, members.len(), *least, *most);
                let mut entries = Vec::with_capacity(members.len());
                for (member, value) in members {
                    let Json::String(text) = value else {
                        return Err(wrong_type(name, kind));
                    };
                    self.check_text(key, &format!("{name} key"), member);
                    self.check_text(rule, &format!("{name} value"), text);
                    entries.push((member.as_str(), Value::Text(text)));
                }
                entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
                Value::Map(entries)
            }
            _ => return Err(wrong_type(name, kind)),
        })
    }

    fn in_query<'a>(
        &mut self,
        parameter: &Parameter,
        query: &'a [(Cow<'a, str>, Cow<'a, str>)],
    ) -> Result<Option<Value<'a>>, ApiError> {
        let mut given = query
            .iter()
            .filter(|(name, _)| name == parameter.name)
            .map(|(_, value)| value.as_ref());
        if let Kind::List { least, most, of } = &parameter.kind {
            let members: Vec<_> = given
                .map(|text| self.plain(of, parameter.name, text))
                .collect::<Result<_, _>>()?;
            if members.is_empty() {
                return Ok(None);
            }
            self.check_count(parameter.name, members.len(), *least, *most);
            return Ok(Some(Value::List(members)));
        }
        given
            .next()
            .map(|text| self.plain(&parameter.kind, parameter.name, text))
            .transpose()
    }

    /// A value outside of JSON.
    fn plain<'a>(&mut self, kind: &Kind, name: &str, text: &'a str) -> Result<Value<'a>, ApiError> {
        Ok(match kind {
            Kind::Text(rule) => {
                self.check_text(rule, name, text);
                Value::Text(text)
            }
            Kind::Integer { least, most } => {
                let number = text.parse().map_err(|_| wrong_type(name, kind))?;
                self.check_range(name, number, *least, *most);
                Value::Integer(number)
            }
            Kind::Boolean => match text {
                "true" => Value::Boolean(true),
                "false" => Value::Boolean(false),
                _ => return Err(wrong_type(name, kind)),
            },
            Kind::List { .. } | Kind::Structure(_) | Kind::Map { .. } => {
                return Err(wrong_type(name, kind));
            }
        })
    }

    fn check_text(&mut self, rule: &Text, name: &str, text: &str) {
        let length = text.chars().count();
        let in_bounds = (rule.least..=rule.most).contains(&length);
        if let Some(pattern) = rule.pattern
            && !(in_bounds && (pattern.matches)(text))
        {
            self.fault(format!(
                "The parameter {name} contains invalid characters. It should conform to the regular expression {}",
                pattern.text
            ));
        }
        if !in_bounds {
            self.fault(format!(
                "The parameter {name} must have {} characters",
                bounds(rule.least, rule.most)
            ));
        }
        if !rule.choices.is_empty() && !rule.choices.contains(&text) {
            self.fault(format!(
                "The parameter {name} must be one of [{}]",
                rule.choices.join(", ")
            ));
        }
    }

    fn check_range(&mut self, name: &str, number: i64, least: i64, most: i64) {
        if !(least..=most).contains(&number) {
            self.fault(format!(
                "The parameter {name} must be between {least} and {most}"
            ));
        }
    }

    fn check_count(&mut self, name: &str, count: usize, least: usize, most: usize) {
        if !(least..=most).contains(&count) {
            self.fault(format!(
                "The parameter {name} must have {} members",
                bounds(least, most)
            ));
        }
    }

    fn missing(&mut self, name: &str) {
        self.fault(format!("The parameter {name} is required"));
    }

    /// Keeps the first one.
    fn fault(&mut self, message: String) {
        self.fault
            .get_or_insert_with(|| ApiError::new(400, "InvalidParameterException", message));
    }
}

fn bounds(least: usize, most: usize) -> String {
    if most == ANY_NUMBER {
        format!("at least {least}")
    } else {
        format!("{least} to {most}")
    }
}

fn wrong_type(name: &str, kind: &Kind) -> ApiError {
    let expected = match kind {
        Kind::Text(_) => "a string",
        Kind::Integer { .. } => "an integer",
        Kind::Boolean => "true or false",
        Kind::List { .. } => "a list",
        Kind::Structure(_) => "an object",
        Kind::Map { .. } => "an object of strings",
    };
    unreadable(format!("{name} must be {expected}"))
}

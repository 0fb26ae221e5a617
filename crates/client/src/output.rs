//! Output formats of the AWS CLI, as far as they make sense for an ExecCredential.

use serde_json::Value;

use crate::yaml::{self, Node};

/// `--output`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One line of JSON; what kubectl needs.
    Json,
    /// Values separated by tabs; with `--query status.token` the bare token.
    Text,
    /// YAML.
    #[value(alias = "yaml-stream")]
    Yaml,
}

/// Writes `value`, with a line break behind it.
#[must_use]
pub fn render(value: &Value, format: Format) -> String {
    let mut out = String::new();
    match format {
        Format::Json => {
            out.push_str(&value.to_string());
            out.push('\n');
        }
        Format::Text => text(value, None, &mut out),
        Format::Yaml => yaml::emit(&node(value), 0, &mut out),
    }
    out
}

/// Scalars of an object on one line, sorted by name; then its objects, each introduced by its name in upper case.
fn text(value: &Value, name: Option<&str>, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            let scalars: Vec<_> = sorted
                .iter()
                .filter(|(_, value)| !value.is_object() && !value.is_array())
                .map(|(_, value)| scalar(value))
                .collect();
            if !scalars.is_empty() {
                if let Some(name) = name {
                    out.push_str(&name.to_uppercase());
                    out.push('\t');
                }
                out.push_str(&scalars.join("\t"));
                out.push('\n');
            }
            for (name, value) in sorted {
                if value.is_object() || value.is_array() {
                    text(value, Some(name), out);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| text(item, name, out)),
        _ => {
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

fn node(value: &Value) -> Node {
    match value {
        Value::Object(fields) => {
            let mut mapping = Node::empty_mapping();
            for (name, value) in fields {
                mapping.set(name, node(value));
            }
            mapping
        }
        Value::Array(items) => Node::sequence(items.iter().map(node).collect()),
        Value::String(text) => Node::string(text),
        other => Node::plain(&other.to_string()),
    }
}

//! The file: one case, a list of cases, or `{"schemaVersion": 1, "cases": [...]}`; JSON or YAML.

use std::sync::Arc;

use super::case::Case;
use super::reader::Reader;
use crate::text::{Node, Path, Position, SourceText, SyntaxError, Value, parse_json, parse_yaml};

/// Deepest nesting of a file: a document inside a case inside a list.
const MAX_DEPTH: usize = 24;

/// A file that cannot be used: what, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{}:{}: {message}", .position.line, .position.column)]
pub struct SimulateError {
    /// The file.
    pub file: String,
    /// Where in it.
    pub position: Position,
    /// The same as a path.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Reads the cases of a file. `load` answers `{"file": "path"}` references with the text of that file, or with why it cannot; paths are
/// relative to the case file, which the caller knows.
///
/// A text that begins with `{` or `[` is JSON, anything else YAML.
///
/// # Errors
/// The first problem that keeps the file from being used. Policies that IAM would refuse on write are not among them: they are
/// warnings of their case, unless they cannot be given a safe meaning.
pub fn parse(
    file: &str,
    text: &str,
    load: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Vec<Case>, Box<SimulateError>> {
    let source = SourceText::new(Arc::from(text));
    let is_json = text.trim_start().starts_with(['{', '[']);
    let parsed = if is_json {
        parse_json(source.text(), MAX_DEPTH)
    } else {
        parse_yaml(source.text(), MAX_DEPTH)
    };
    let root = parsed.map_err(|error| from_syntax(file, &error))?;
    let mut reader = Reader {
        file,
        source: &source,
        load,
        warnings: Vec::new(),
        cache: std::collections::HashMap::new(),
    };
    let top = Path::Root;
    match cases(&root, &reader)? {
        Cases::One(node) => Ok(vec![reader.case(node, &top, 0)?]),
        Cases::List(nodes, key) => {
            let under = key.map(|key| top.key(key));
            let list = under.as_ref().unwrap_or(&top);
            nodes
                .iter()
                .enumerate()
                .map(|(index, node)| reader.case(node, &list.index(index), index))
                .collect()
        }
    }
}

/// Refuses cases with a policy that IAM would refuse on write; without this they are evaluated, with a warning.
///
/// # Errors
/// The first such policy.
pub fn require_writable(file: &str, cases: &[Case]) -> Result<(), Box<SimulateError>> {
    let first = cases
        .iter()
        .flat_map(|case| case.warnings.iter().map(move |warning| (case, warning)))
        .find(|(_, warning)| warning.is_write_error);
    match first {
        None => Ok(()),
        Some((case, warning)) => Err(Box::new(SimulateError {
            file: file.to_owned(),
            position: warning.position.unwrap_or(Position { line: 1, column: 1 }),
            path: "$".to_owned(),
            message: format!("{} of `{}`: {}", warning.about, case.id, warning.message),
            hint: Some("leave out --strict to evaluate it anyway".to_owned()),
        })),
    }
}

enum Cases<'n, 't> {
    One(&'n Node<'t>),
    /// And the key the list stands under.
    List(&'n [Node<'t>], Option<&'static str>),
}

fn cases<'n, 't>(
    root: &'n Node<'t>,
    reader: &Reader<'_>,
) -> Result<Cases<'n, 't>, Box<SimulateError>> {
    match &root.value {
        Value::Array(items) => Ok(Cases::List(items, None)),
        Value::Object(_) => match (root.get("schemaVersion"), root.get("cases")) {
            (None, None) => Ok(Cases::One(root)),
            (version, Some(cases)) => {
                if let Some(version) = version.filter(|v| v.scalar_text() != Some("1")) {
                    return Err(reader.fail(
                        version,
                        &Path::Root.key("schemaVersion"),
                        "the file is of another schema version; this program knows 1",
                    ));
                }
                match &cases.value {
                    Value::Array(items) => Ok(Cases::List(items, Some("cases"))),
                    _ => Err(reader.wrong_type(cases, &Path::Root.key("cases"), "a list of cases")),
                }
            }
            (Some(version), None) => {
                Err(reader.fail(version, &Path::Root, "the file has no `cases`"))
            }
        },
        _ => Err(reader.wrong_type(root, &Path::Root, "a case or a list of cases")),
    }
}

pub(super) fn from_syntax(file: &str, error: &SyntaxError) -> Box<SimulateError> {
    Box::new(SimulateError {
        file: file.to_owned(),
        position: error.position,
        path: error.path.clone(),
        message: error.message.clone(),
        hint: error.hint.map(str::to_owned),
    })
}

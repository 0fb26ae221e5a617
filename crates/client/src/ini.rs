//! The INI dialect of `~/.aws/config` and `~/.aws/credentials`.
//!
//! It follows what the AWS CLI accepts: names in any letter case, `=` or `:` between name and value, whole-line comments with `#` or
//! `;`, values continued on lines that are indented more than their name, and one level of nesting below an empty value. Like the
//! newer SDKs it also drops comments behind a value (white space, then `#` or `;`) and merges sections of one name; the last value of
//! a name wins.

use std::fmt;

use zeroize::Zeroize;

/// Longest file that is read.
pub(crate) const MAX_LEN: usize = 1 << 20;

/// A section: its header as written between the brackets, and its properties in order.
#[derive(Clone, PartialEq, Eq)]
pub struct Section {
    /// The header, blanks around it removed.
    pub header: String,
    properties: Vec<Property>,
}

#[derive(Clone, PartialEq, Eq)]
struct Property {
    name: String,
    value: String,
    nested: Vec<(String, String)>,
}

impl Drop for Property {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

/// A line that is neither header, property, continuation nor comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseIniError {
    /// The line has no `=`.
    #[error("line {0}: expected `name = value`, `[section]` or a comment")]
    Line(usize),
    /// A property before the first section.
    #[error("line {0}: a property before the first `[section]`")]
    NoSection(usize),
    /// A header without its closing bracket.
    #[error("line {0}: a section header ends with `]`")]
    Header(usize),
    /// More than 1 MiB.
    #[error("the file is longer than 1 MiB")]
    TooLong,
}

impl Section {
    /// The value of a property; names compare in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.property(name).map(|p| p.value.as_str())
    }

    /// The value of `name` below the property `parent`, as in `sts =` followed by an indented `endpoint_url = …`.
    #[must_use]
    pub fn nested(&self, parent: &str, name: &str) -> Option<&str> {
        self.property(parent)?
            .nested
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    fn property(&self, name: &str) -> Option<&Property> {
        self.properties.iter().rev().find(|p| p.name == name)
    }

    /// The words of the header; a word may be quoted: `profile "my dev"` has two.
    #[must_use]
    pub fn header_words(&self) -> Vec<&str> {
        let mut words = Vec::new();
        let mut rest = self.header.trim();
        while let Some(first) = rest.chars().next() {
            let (word, tail) = match first {
                '"' | '\'' => {
                    let inner = rest.get(1..).unwrap_or_default();
                    inner.split_once(first).unwrap_or((inner, ""))
                }
                _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
            };
            words.push(word);
            rest = tail.trim_start();
        }
        words
    }

    fn merge(&mut self, other: &mut Self) {
        self.properties.append(&mut other.properties);
    }
}

/// Header and names of properties only: values may be secrets.
impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.iter().map(|p| &p.name).collect();
        f.debug_struct("Section")
            .field("header", &self.header)
            .field("properties", &names)
            .finish()
    }
}

/// Reads a file's text into sections.
///
/// # Errors
/// The first line that makes no sense; what is wrong is named, the line itself is not shown, since it may hold a secret.
pub fn parse(text: &str) -> Result<Vec<Section>, ParseIniError> {
    if text.len() > MAX_LEN {
        return Err(ParseIniError::TooLong);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut sections: Vec<Section> = Vec::new();
    let mut current: Option<Section> = None;
    let mut name_indent = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        if let Some(rest) = content.strip_prefix('[').filter(|_| indent == 0) {
            let (header, behind) = rest.split_once(']').ok_or(ParseIniError::Header(number))?;
            let behind = behind.trim();
            if !behind.is_empty() && !behind.starts_with(['#', ';']) {
                return Err(ParseIniError::Header(number));
            }
            finish(&mut sections, current.take());
            current = Some(Section {
                header: header.trim().to_owned(),
                properties: Vec::new(),
            });
            continue;
        }
        let section = current.as_mut().ok_or(ParseIniError::NoSection(number))?;
        if let Some(property) = section.properties.last_mut()
            && indent > name_indent
        {
            if property.value.is_empty() {
                let (name, value) = split(content).ok_or(ParseIniError::Line(number))?;
                property.nested.push((name, value));
            } else {
                property.value.push('\n');
                property.value.push_str(content);
            }
            continue;
        }
        let (name, value) = split(content).ok_or(ParseIniError::Line(number))?;
        name_indent = indent;
        section.properties.push(Property {
            name,
            value,
            nested: Vec::new(),
        });
    }
    finish(&mut sections, current);
    Ok(sections)
}

fn finish(sections: &mut Vec<Section>, section: Option<Section>) {
    let Some(mut section) = section else { return };
    match sections.iter_mut().find(|s| s.header == section.header) {
        Some(earlier) => earlier.merge(&mut section),
        None => sections.push(section),
    }
}

fn split(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=').or_else(|| line.split_once(':'))?;
    let name = name.trim().to_ascii_lowercase();
    let value = without_comment(value).trim();
    (!name.is_empty()).then(|| (name, value.to_owned()))
}

fn without_comment(value: &str) -> &str {
    let mut previous = ' ';
    for (at, c) in value.char_indices() {
        if matches!(c, '#' | ';') && previous.is_whitespace() {
            return value.get(..at).unwrap_or(value);
        }
        previous = c;
    }
    value
}

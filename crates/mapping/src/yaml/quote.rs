//! Quotes around `{{Variable}}` that stands bare where YAML begins a flow mapping.
//!
//! `username: {{SessionName}}:x` is the most frequent way to break `aws-auth`. Only texts that do not parse come here,
//! and the result counts only if it parses.

use std::collections::HashSet;

pub(super) struct Quoted {
    pub(super) text: String,
    /// Offsets, in the new text, of the opening quotes that were added.
    pub(super) starts: HashSet<usize>,
}

/// The text with single quotes around every scalar that begins with a bare `{{`; none if there is no such scalar.
///
/// One pass over the text. Quoted scalars, block scalars and comments are left alone.
pub(super) fn templates(text: &str) -> Option<Quoted> {
    if !text.contains("{{") {
        return None;
    }
    let mut state = State::default();
    let mut out = Quoted {
        text: String::with_capacity(text.len() + 64),
        starts: HashSet::new(),
    };
    for line in text.split_inclusive('\n') {
        state.line(line, &mut out);
    }
    (!out.starts.is_empty()).then_some(out)
}

#[derive(Default)]
struct State {
    single: bool,
    double: bool,
    flow: usize,
    /// A scalar may begin at the next character that is no white space.
    may_start: bool,
    /// Inside a `|` or `>` block: the indentation of the line that began it.
    block: Option<usize>,
}

impl State {
    fn line(&mut self, line: &str, out: &mut Quoted) {
        let body = line.trim_end_matches(['\n', '\r']);
        let indentation = body.len() - body.trim_start_matches(' ').len();
        if let Some(parent) = self.block {
            if body.trim().is_empty() || indentation > parent {
                out.text.push_str(line);
                return;
            }
            self.block = None;
        }
        let mut rest = line;
        let mut line_start = true;
        let mut after_space = true;
        while let Some(c) = rest.chars().next() {
            if c == '#' && after_space && !self.single && !self.double {
                break;
            }
            let next = rest.chars().nth(1);
            let space_follows = next.is_none_or(char::is_whitespace);
            let mut taken = c.len_utf8();
            if self.double {
                match c {
                    '\\' => taken += next.map_or(0, char::len_utf8),
                    '"' => self.double = false,
                    _ => {}
                }
            } else if self.single {
                if c == '\'' {
                    if next == Some('\'') {
                        taken += 1;
                    } else {
                        self.single = false;
                    }
                }
            } else if c.is_whitespace() {
                // Between a `:` and its value there may be any amount of it.
            } else if self.may_start && begins_with_variable(rest) {
                let scalar = self.scalar(rest);
                out.starts.insert(out.text.len());
                out.text.push('\'');
                out.text.push_str(&scalar.replace('\'', "''"));
                out.text.push('\'');
                rest = rest.get(scalar.len()..).unwrap_or_default();
                self.may_start = false;
                line_start = false;
                after_space = false;
                continue;
            } else if c == '-' && space_follows && line_start && self.flow == 0 {
                self.may_start = true;
                after_space = false;
                out.text.push(c);
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            } else if self.may_start {
                self.begin(c);
                if matches!(c, '|' | '>') && self.flow == 0 {
                    self.block = Some(indentation);
                }
            } else {
                match c {
                    ':' if space_follows => self.may_start = true,
                    ',' if self.flow > 0 => self.may_start = true,
                    ']' | '}' => self.flow = self.flow.saturating_sub(1),
                    _ => {}
                }
            }
            line_start &= c.is_whitespace();
            after_space = c.is_whitespace();
            let (done, left) = rest.split_at_checked(taken).unwrap_or((rest, ""));
            out.text.push_str(done);
            rest = left;
        }
        out.text.push_str(rest);
    }

    /// The first character of a node.
    fn begin(&mut self, c: char) {
        match c {
            '"' => self.double = true,
            '\'' => self.single = true,
            '[' | '{' => {
                self.flow += 1;
                return;
            }
            ']' | '}' => self.flow = self.flow.saturating_sub(1),
            ',' => return,
            _ => {}
        }
        self.may_start = false;
    }

    /// The scalar that `rest` begins with: to the end of the line, or in a flow collection to its next indicator.
    fn scalar<'t>(&self, rest: &'t str) -> &'t str {
        let line = rest.trim_end_matches(['\n', '\r']);
        let scalar = if self.flow == 0 {
            line
        } else {
            let close = line.find("}}").map_or(line.len(), |at| at + 2);
            let tail = line.get(close..).unwrap_or_default();
            let end = tail
                .find([',', ']', '}'])
                .map_or(line.len(), |at| close + at);
            line.get(..end).unwrap_or(line)
        };
        // Only inside the scalar: looking through the rest of the line for each scalar on it would be quadratic.
        let comment = scalar.find(" #").unwrap_or(scalar.len());
        let scalar = scalar.get(..comment).unwrap_or(scalar);
        scalar.trim_end()
    }
}

/// Whether `rest` begins with `{{Name}}`.
fn begins_with_variable(rest: &str) -> bool {
    rest.strip_prefix("{{")
        .and_then(|inner| {
            inner
                .find(['}', '{', '\n', ' ', '"', '\'', ','])
                .map(|at| (inner, at))
        })
        .is_some_and(|(inner, at)| {
            at > 0
                && at <= super::MAX_VARIABLE
                && inner.get(at..).is_some_and(|t| t.starts_with("}}"))
        })
}

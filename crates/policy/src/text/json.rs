//! A JSON reader (RFC 8259) that keeps spans, number texts and duplicate keys.
//!
//! Strings without escapes are borrowed. Nesting is bounded, so recursion is.

use std::borrow::Cow;

use super::{Lines, Member, Node, Path, Span, Step, SyntaxError, Value, render_path};

/// Reads `text`; a key that appears twice in one object is an error.
pub(crate) fn parse(text: &str, max_depth: usize) -> Result<Node<'_>, Box<SyntaxError>> {
    let (node, mut duplicates) = parse_lenient(text, max_depth)?;
    if duplicates.is_empty() {
        Ok(node)
    } else {
        Err(Box::new(duplicates.swap_remove(0)))
    }
}

/// Reads `text` and reports each key that appears twice beside the tree.
pub(crate) fn parse_lenient(
    text: &str,
    max_depth: usize,
) -> Result<(Node<'_>, Vec<SyntaxError>), Box<SyntaxError>> {
    let mut parser = Parser {
        text,
        bytes: text.as_bytes(),
        at: 0,
        depth_left: max_depth,
        has_duplicates: false,
    };
    let outcome = parser.document();
    match outcome {
        Ok(node) if parser.has_duplicates => {
            let duplicates = duplicates(&node, text);
            Ok((node, duplicates))
        }
        Ok(node) => Ok((node, Vec::new())),
        Err(fault) => Err(Box::new(fault.report(text))),
    }
}

struct Parser<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    depth_left: usize,
    has_duplicates: bool,
}

struct Fault {
    message: Cow<'static, str>,
    hint: Option<&'static str>,
    at: usize,
    len: usize,
    path: Vec<PathStep>,
}

enum PathStep {
    Key(String),
    Index(usize),
}

impl Fault {
    fn report(self, text: &str) -> SyntaxError {
        let span = Span::new(self.at, (self.at + self.len).min(text.len().max(self.at)));
        let steps: Vec<Step<'_>> = self
            .path
            .iter()
            .rev()
            .map(|step| match step {
                PathStep::Key(key) => Step::Key(key),
                PathStep::Index(index) => Step::Index(*index),
            })
            .collect();
        SyntaxError {
            message: self.message.into_owned(),
            hint: self.hint,
            span,
            position: Lines::new(text).position(span.start),
            path: render_path(&steps),
        }
    }
}

type Parsed<T> = Result<T, Fault>;

impl<'t> Parser<'t> {
    fn document(&mut self) -> Parsed<Node<'t>> {
        if self.text.starts_with('\u{feff}') {
            return self.fail(
                "the text begins with a byte order mark",
                Some("save the file as UTF-8 without BOM"),
            );
        }
        self.space();
        if self.at >= self.bytes.len() {
            return self.fail("the text is empty", Some("a policy is one JSON object"));
        }
        let node = self.value()?;
        self.space();
        if self.at < self.bytes.len() {
            return self.fail(
                "there is more text behind the JSON value",
                Some("a file holds one JSON value; remove what follows it"),
            );
        }
        Ok(node)
    }

    fn value(&mut self) -> Parsed<Node<'t>> {
        let start = self.at;
        let value = match self.bytes.get(self.at) {
            Some(b'{') => self.object()?,
            Some(b'[') => self.array()?,
            Some(b'"') => Value::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(b'\'') => {
                return self.fail(
                    "a value begins with a single quote",
                    Some("JSON strings stand in double quotes"),
                );
            }
            Some(b'/') => {
                return self.fail("JSON has no comments", Some("remove the comment"));
            }
            Some(b'}' | b']' | b',') => {
                return self.fail(
                    "expected a value",
                    Some("remove the comma before it, or write the value"),
                );
            }
            Some(_) => return self.fail("expected a value", None),
            None => return self.fail("the text ends where a value should stand", None),
        };
        Ok(Node {
            span: Span::new(start, self.at),
            value,
        })
    }

    fn object(&mut self) -> Parsed<Value<'t>> {
        self.descend()?;
        self.at += 1;
        let mut members: Vec<Member<'t>> = Vec::new();
        self.space();
        if self.eat(b'}') {
            self.depth_left += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            if self.bytes.get(self.at) != Some(&b'"') {
                return self.fail(
                    "expected a key in double quotes",
                    Some("write keys as \"Key\", and no comma before the closing brace"),
                );
            }
            let key_start = self.at;
            let key = self.string()?;
            let key_span = Span::new(key_start, self.at);
            self.space();
            if !self.eat(b':') {
                return self.fail("expected `:` behind the key", None);
            }
            self.space();
            let node = self
                .value()
                .map_err(|fault| fault.inside(PathStep::Key(key.to_string())))?;
            members.push(Member {
                key,
                key_span,
                node,
            });
            self.space();
            if self.eat(b',') {
                continue;
            }
            if self.eat(b'}') {
                break;
            }
            return self.fail(
                "expected `,` or `}` behind the value",
                Some("separate members with commas and close every brace"),
            );
        }
        if has_duplicate(&members) {
            self.has_duplicates = true;
        }
        self.depth_left += 1;
        Ok(Value::Object(members))
    }

    fn array(&mut self) -> Parsed<Value<'t>> {
        self.descend()?;
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.eat(b']') {
            self.depth_left += 1;
            return Ok(Value::Array(items));
        }
        loop {
            self.space();
            let item = self
                .value()
                .map_err(|fault| fault.inside(PathStep::Index(items.len())))?;
            items.push(item);
            self.space();
            if self.eat(b',') {
                continue;
            }
            if self.eat(b']') {
                break;
            }
            return self.fail(
                "expected `,` or `]` behind the value",
                Some("separate values with commas and close every bracket"),
            );
        }
        self.depth_left += 1;
        Ok(Value::Array(items))
    }

    fn string(&mut self) -> Parsed<Cow<'t, str>> {
        let open = self.at;
        self.at += 1;
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let text = self.text.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => return self.escaped_string(open, start).map(Cow::Owned),
                Some(byte) if *byte >= 0x20 => self.at += 1,
                Some(_) => {
                    return self.fail(
                        "a control character stands inside a string",
                        Some("write it as an escape, such as \\n or \\t"),
                    );
                }
                None => return self.unclosed(open),
            }
        }
    }

    fn escaped_string(&mut self, open: usize, start: usize) -> Parsed<String> {
        let mut text = self.text.get(start..self.at).unwrap_or_default().to_owned();
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    text.push(character);
                }
                Some(byte) if *byte >= 0x20 => {
                    let run = self.at;
                    while self
                        .bytes
                        .get(self.at)
                        .is_some_and(|b| *b >= 0x20 && *b != b'"' && *b != b'\\')
                    {
                        self.at += 1;
                    }
                    text.push_str(self.text.get(run..self.at).unwrap_or_default());
                }
                Some(_) => {
                    return self.fail(
                        "a control character stands inside a string",
                        Some("write it as an escape, such as \\n or \\t"),
                    );
                }
                None => return self.unclosed(open),
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        let simple = match self.bytes.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => {
                return self.fail(
                    "unknown escape inside a string",
                    Some("a backslash is written as \\\\"),
                );
            }
        };
        self.at += 2;
        Ok(simple)
    }

    fn unicode_escape(&mut self) -> Parsed<char> {
        let Some(first) = self.four_hex(self.at + 2) else {
            return self.fail("\\u needs four hexadecimal digits", None);
        };
        if let Some(character) = char::from_u32(first) {
            self.at += 6;
            return Ok(character);
        }
        let low = (self.bytes.get(self.at + 6..self.at + 8) == Some(b"\\u"))
            .then(|| self.four_hex(self.at + 8))
            .flatten();
        let joined = low
            .filter(|low| (0xD800..0xDC00).contains(&first) && (0xDC00..0xE000).contains(low))
            .and_then(|low| char::from_u32(0x10000 + ((first - 0xD800) << 10) + (low - 0xDC00)));
        match joined {
            Some(character) => {
                self.at += 12;
                Ok(character)
            }
            None => self.fail("half of a surrogate pair stands alone", None),
        }
    }

    fn four_hex(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 4)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_hexdigit())
            .then(|| u32::from_str_radix(digits, 16).ok())
            .flatten()
    }

    fn number(&mut self) -> Parsed<Value<'t>> {
        let start = self.at;
        self.eat(b'-');
        let whole = self.digits();
        let whole_text = self.text.get(self.at - whole..self.at).unwrap_or_default();
        if whole == 0 || (whole > 1 && whole_text.starts_with('0')) {
            self.at = start;
            return self.fail(
                "not a JSON number",
                Some("put account ids and other digits with leading zeros into quotes"),
            );
        }
        if self.eat(b'.') && self.digits() == 0 {
            return self.fail("expected a digit behind the decimal point", None);
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            if self.digits() == 0 {
                return self.fail("expected a digit in the exponent", None);
            }
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        Ok(Value::Number(Cow::Borrowed(text)))
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self, word: &'static str, value: Value<'t>) -> Parsed<Value<'t>> {
        if self.bytes.get(self.at..self.at + word.len()) == Some(word.as_bytes()) {
            self.at += word.len();
            Ok(value)
        } else {
            self.fail("expected a value", Some("texts stand in double quotes"))
        }
    }

    fn descend(&mut self) -> Parsed<()> {
        match self.depth_left.checked_sub(1) {
            Some(left) => {
                self.depth_left = left;
                Ok(())
            }
            None => self.fail("the text is nested too deeply", None),
        }
    }

    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn unclosed<T>(&mut self, open: usize) -> Parsed<T> {
        self.at = open;
        self.fail("the string that begins here is never closed", None)
    }

    fn fail<T>(&self, message: &'static str, hint: Option<&'static str>) -> Parsed<T> {
        Err(Fault {
            message: Cow::Borrowed(message),
            hint,
            at: self.at,
            len: usize::from(self.at < self.bytes.len()),
            path: Vec::new(),
        })
    }
}

impl Fault {
    fn inside(mut self, step: PathStep) -> Self {
        self.path.push(step);
        self
    }
}

/// O(n log n) for long objects, so that a hostile document cannot make it quadratic.
fn has_duplicate(members: &[Member<'_>]) -> bool {
    if members.len() <= 12 {
        return members.iter().enumerate().any(|(index, member)| {
            members
                .iter()
                .take(index)
                .any(|earlier| earlier.key == member.key)
        });
    }
    let mut keys: Vec<&str> = members.iter().map(|member| &*member.key).collect();
    keys.sort_unstable();
    keys.windows(2)
        .any(|pair| matches!(pair, [left, right] if left == right))
}

fn duplicates(root: &Node<'_>, text: &str) -> Vec<SyntaxError> {
    let lines = Lines::new(text);
    let mut found = Vec::new();
    walk(root, &Path::Root, &lines, &mut found);
    found
}

fn walk(node: &Node<'_>, path: &Path<'_>, lines: &Lines, found: &mut Vec<SyntaxError>) {
    match &node.value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &path.index(index), lines, found);
            }
        }
        Value::Object(members) => {
            let mut first: std::collections::HashMap<&str, Span> =
                std::collections::HashMap::with_capacity(members.len());
            for member in members {
                if let Some(earlier) = first.get(&*member.key) {
                    let earlier = lines.position(earlier.start);
                    found.push(SyntaxError {
                        message: format!(
                            "key `{}` appears twice in one object, first in line {}, column {}",
                            member.key, earlier.line, earlier.column
                        ),
                        hint: Some("merge the two, or give one of them its own statement"),
                        span: member.key_span,
                        position: lines.position(member.key_span.start),
                        path: path.key(&member.key).to_string(),
                    });
                } else {
                    first.insert(&member.key, member.key_span);
                }
                walk(&member.node, &path.key(&member.key), lines, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

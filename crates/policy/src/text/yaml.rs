//! YAML read into the same tree, from parser events.
//!
//! Scalars keep their text: an account id `012345678901` stays as written, because numbers are text everywhere in the policy
//! language. Anchors, aliases, tags and merge keys are refused: no policy needs them, and aliases can blow a small file up.

use std::borrow::Cow;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span as YamlSpan};

use super::{Lines, Member, Node, Path, Position, Span, SyntaxError, Value};

/// Reads one YAML document.
pub(crate) fn parse(text: &str, max_depth: usize) -> Result<Node<'_>, Box<SyntaxError>> {
    let mut reader = Reader {
        text,
        parser: Parser::new_from_str(text),
        depth_left: max_depth,
    };
    reader.document()
}

struct Reader<'t> {
    text: &'t str,
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    depth_left: usize,
}

type Parsed<T> = Result<T, Box<SyntaxError>>;

impl<'t> Reader<'t> {
    fn document(&mut self) -> Parsed<Node<'t>> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd | Event::DocumentEnd => {
                    return self.fail(span, "the text is empty", None);
                }
                other => {
                    let node = self.node(other, span, &Path::Root)?;
                    return self.only(node);
                }
            }
        }
    }

    fn only(&mut self, node: Node<'t>) -> Parsed<Node<'t>> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::DocumentEnd => {}
                Event::StreamEnd => return Ok(node),
                _ => {
                    return self.fail(
                        span,
                        "the text holds more than one YAML document",
                        Some("put several cases into one list"),
                    );
                }
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: YamlSpan, path: &Path<'_>) -> Parsed<Node<'t>> {
        match event {
            Event::Scalar(_, _, anchor, tag) if anchor != 0 || tag.is_some() => self.refused(span),
            Event::SequenceStart(_, anchor, tag) | Event::MappingStart(_, anchor, tag)
                if anchor != 0 || tag.is_some() =>
            {
                self.refused(span)
            }
            Event::Scalar(text, style, ..) => Ok(Node {
                span: range(span),
                value: scalar(text, style),
            }),
            Event::SequenceStart(..) => self.sequence(span, path),
            Event::MappingStart(..) => self.mapping(span, path),
            _ => self.refused(span),
        }
    }

    fn sequence(&mut self, open: YamlSpan, path: &Path<'_>) -> Parsed<Node<'t>> {
        self.descend(open)?;
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                self.depth_left += 1;
                return Ok(Node {
                    span: Span {
                        start: range(open).start,
                        end: range(span).end,
                    },
                    value: Value::Array(items),
                });
            }
            let item = self.node(event, span, &path.index(items.len()))?;
            items.push(item);
        }
    }

    fn mapping(&mut self, open: YamlSpan, path: &Path<'_>) -> Parsed<Node<'t>> {
        self.descend(open)?;
        let mut members: Vec<Member<'t>> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                self.depth_left += 1;
                return Ok(Node {
                    span: Span {
                        start: range(open).start,
                        end: range(span).end,
                    },
                    value: Value::Object(members),
                });
            }
            let Event::Scalar(key, _, 0, None) = event else {
                return self.fail(span, "a key is not a plain text", None);
            };
            if key == "<<" {
                return self.refused(span);
            }
            if !seen.insert(key.to_string()) {
                let mut error = self.error(
                    range(span),
                    format!("key `{key}` appears twice in one mapping"),
                    Some("merge the two"),
                );
                error.path = path.key(&key).to_string();
                return Err(error);
            }
            let (event, value_span) = self.next()?;
            let node = self.node(event, value_span, &path.key(&key))?;
            members.push(Member {
                key,
                key_span: range(span),
                node,
            });
        }
    }

    fn next(&mut self) -> Parsed<(Event<'t>, YamlSpan)> {
        let mut event = self.parser.next_event();
        while let Some(Ok((Event::Comment(..), _))) = &event {
            event = self.parser.next_event();
        }
        match event {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(error)) => Err(self.scan_error(&error)),
            None => Err(self.error(
                Span::new(self.text.len(), self.text.len()),
                "the text ends too early".to_owned(),
                None,
            )),
        }
    }

    fn scan_error(&self, error: &ScanError) -> Box<SyntaxError> {
        let marker: &Marker = error.marker();
        let at = marker.byte_offset().unwrap_or(self.text.len());
        let mut report = self.error(Span::new(at, at), error.info().to_string(), None);
        report.position = Position {
            line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
            column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
        };
        report
    }

    fn refused<T>(&self, span: YamlSpan) -> Parsed<T> {
        self.fail(
            span,
            "anchors, aliases, tags and merge keys are not supported",
            Some("write the value out"),
        )
    }

    fn descend(&mut self, span: YamlSpan) -> Parsed<()> {
        match self.depth_left.checked_sub(1) {
            Some(left) => {
                self.depth_left = left;
                Ok(())
            }
            None => self.fail(span, "the text is nested too deeply", None),
        }
    }

    fn fail<T>(
        &self,
        span: YamlSpan,
        message: &'static str,
        hint: Option<&'static str>,
    ) -> Parsed<T> {
        Err(self.error(range(span), message.to_owned(), hint))
    }

    fn error(&self, span: Span, message: String, hint: Option<&'static str>) -> Box<SyntaxError> {
        Box::new(SyntaxError {
            message,
            hint,
            span,
            position: Lines::new(self.text).position(span.start),
            path: "$".to_owned(),
        })
    }
}

fn range(span: YamlSpan) -> Span {
    span.byte_range()
        .map_or(Span::default(), |range| Span::new(range.start, range.end))
}

/// Plain scalars follow the YAML 1.2 core schema for null and booleans; what looks like a JSON number keeps its text.
fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value<'_> {
    if style != ScalarStyle::Plain {
        return Value::String(text);
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        number if looks_numeric(number) => Value::Number(text),
        _ => Value::String(text),
    }
}

fn looks_numeric(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit()) && text.parse::<f64>().is_ok()
}

//! From text to [`Document`].

use std::borrow::Cow;
use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::{BytesDecl, BytesStart, Event};

use super::characters::{is_blank, is_character, qualified, referenced};
use super::{
    Attribute, Binding, Document, Kind, Limits, NO_NAMESPACE, Node, XML_NAMESPACE, XMLNS_NAMESPACE,
    XmlError, XmlFault,
};

pub(super) fn document(text: &str, limits: &Limits) -> Result<Document, XmlError> {
    if text.len() > limits.bytes {
        let fault = XmlFault::TooMuch("bytes");
        return Err(XmlError { at: 0, fault });
    }
    let text = one_line_end(text);
    let mut reader = Reader::from_str(&text);
    reader.config_mut().enable_all_checks(true);
    let mut builder = Builder::new(limits);
    let mut first = true;
    loop {
        let event = reader.read_event().map_err(|_| XmlFault::Syntax);
        let step = event.and_then(|event| builder.add(event, first));
        first = false;
        match step {
            Ok(true) => {}
            Ok(false) => return Ok(builder.document),
            Err(fault) => {
                let at = reader.buffer_position();
                return Err(XmlError { at, fault });
            }
        }
    }
}

/// `text` with every line end as one line feed, as XML readers see it (XML 1.0, section 2.11).
fn one_line_end(text: &str) -> Cow<'_, str> {
    if text.contains('\r') {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(text)
    }
}

struct Builder<'l> {
    limits: &'l Limits,
    document: Document,
    /// Numbers of the namespaces seen so far.
    known: HashMap<Box<str>, usize>,
    /// The elements that have not ended, each with the length of `scope` before its start tag.
    open: Vec<(usize, usize)>,
    /// Indexes of the namespace declarations in scope, the innermost last.
    scope: Vec<usize>,
    /// Text that is not a node yet: references and CDATA sections belong to the text around them.
    text: String,
}

impl<'l> Builder<'l> {
    fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            document: Document {
                nodes: Vec::new(),
                attributes: Vec::new(),
                bindings: Vec::new(),
                namespaces: vec!["".into()],
            },
            known: HashMap::from([("".into(), NO_NAMESPACE)]),
            open: Vec::new(),
            scope: Vec::new(),
            text: String::new(),
        }
    }

    /// Takes one event; false at the end of the document.
    fn add(&mut self, event: Event<'_>, first: bool) -> Result<bool, XmlFault> {
        match event {
            Event::Start(tag) => self.start(&tag)?,
            Event::Empty(tag) => {
                self.start(&tag)?;
                self.end()?;
            }
            Event::End(_) => self.end()?,
            Event::Text(text) => {
                if text.contains("]]>") {
                    return Err(XmlFault::Character);
                }
                self.text(&text)?;
            }
            Event::CData(text) => {
                if self.open.is_empty() {
                    return Err(XmlFault::OutsideRoot);
                }
                self.text(&text)?;
            }
            Event::GeneralRef(reference) => {
                if self.open.is_empty() {
                    return Err(XmlFault::OutsideRoot);
                }
                let character = referenced(&reference).ok_or(XmlFault::Reference)?;
                self.text.push(character);
            }
            Event::Comment(text) => {
                if !text.chars().all(is_character) {
                    return Err(XmlFault::Character);
                }
                if !self.open.is_empty() {
                    self.flush()?;
                    self.push(Kind::Comment((&*text).into()))?;
                }
            }
            Event::Decl(declaration) => {
                if !first || !is_supported(&declaration) {
                    return Err(XmlFault::Declaration);
                }
            }
            Event::PI(_) if self.open.is_empty() => {}
            Event::PI(_) => return Err(XmlFault::Instruction),
            Event::DocType(_) => return Err(XmlFault::DocumentType),
            Event::Eof if !self.open.is_empty() => return Err(XmlFault::Truncated),
            Event::Eof if self.document.nodes.is_empty() => return Err(XmlFault::OutsideRoot),
            Event::Eof => return Ok(false),
        }
        Ok(true)
    }

    fn text(&mut self, text: &str) -> Result<(), XmlFault> {
        if !text.chars().all(is_character) {
            return Err(XmlFault::Character);
        }
        if self.open.is_empty() {
            let blank = text.chars().all(is_blank);
            return if blank {
                Ok(())
            } else {
                Err(XmlFault::OutsideRoot)
            };
        }
        self.text.push_str(text);
        Ok(())
    }

    fn start(&mut self, tag: &BytesStart<'_>) -> Result<(), XmlFault> {
        self.flush()?;
        if self.open.is_empty() && !self.document.nodes.is_empty() {
            return Err(XmlFault::OutsideRoot);
        }
        if self.open.len() >= self.limits.depth {
            return Err(XmlFault::TooMuch("levels of elements"));
        }
        let name = tag.name().into_inner();
        let (prefix, local) = qualified(name).ok_or(XmlFault::Name)?;
        let scope_before = self.scope.len();
        let first_binding = self.document.bindings.len();
        let mut plain = Vec::new();
        let mut count = 0;
        let mut rest = tag.attributes_raw();
        while let Some((name, value, after)) = next_attribute(rest)? {
            rest = after;
            count += 1;
            if count > self.limits.attributes {
                return Err(XmlFault::TooMuch("attributes of one element"));
            }
            let (prefix, local) = qualified(name).ok_or(XmlFault::Name)?;
            match (prefix, local) {
                ("", "xmlns") => self.declare("", value, first_binding)?,
                ("xmlns", declared) => self.declare(declared, value, first_binding)?,
                _ => plain.push((prefix, local, value)),
            }
        }
        let namespace = self.resolve(prefix)?;
        let first_attribute = self.document.attributes.len();
        for (prefix, local, value) in plain {
            // The default namespace is not that of attributes.
            let namespace = if prefix.is_empty() {
                NO_NAMESPACE
            } else {
                self.resolve(prefix)?
            };
            let mut earlier = self.document.attributes.iter().skip(first_attribute);
            if earlier.any(|other| other.namespace == namespace && *other.local == *local) {
                return Err(XmlFault::DuplicateAttribute);
            }
            self.document.attributes.push(Attribute {
                prefix: prefix.into(),
                local: local.into(),
                namespace,
                value: value.into(),
            });
        }
        let id = self.document.nodes.len();
        self.push(Kind::Element {
            prefix: prefix.into(),
            local: local.into(),
            namespace,
            attributes: first_attribute..self.document.attributes.len(),
            bindings: first_binding..self.document.bindings.len(),
        })?;
        self.open.push((id, scope_before));
        Ok(())
    }

    fn end(&mut self) -> Result<(), XmlFault> {
        self.flush()?;
        let (id, scope_before) = self.open.pop().ok_or(XmlFault::Syntax)?;
        self.scope.truncate(scope_before);
        let end = self.document.nodes.len();
        if let Some(node) = self.document.nodes.get_mut(id) {
            node.end = end;
        }
        Ok(())
    }

    /// Makes a node of the text gathered so far.
    fn flush(&mut self) -> Result<(), XmlFault> {
        if self.text.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.text).into_boxed_str();
        self.push(Kind::Text(text))
    }

    fn push(&mut self, kind: Kind) -> Result<(), XmlFault> {
        let id = self.document.nodes.len();
        if id >= self.limits.nodes {
            return Err(XmlFault::TooMuch("elements and texts"));
        }
        self.document.nodes.push(Node {
            parent: self.open.last().map(|(parent, _)| *parent),
            end: id + 1,
            kind,
        });
        Ok(())
    }

    /// Binds `prefix`, the default namespace when it is empty. `first` is the first declaration of the same start tag.
    fn declare(&mut self, prefix: &str, value: String, first: usize) -> Result<(), XmlFault> {
        let allowed = match prefix {
            "xmlns" => false,
            "xml" => value == XML_NAMESPACE,
            _ => {
                value != XML_NAMESPACE
                    && value != XMLNS_NAMESPACE
                    && (prefix.is_empty() || !value.is_empty())
            }
        };
        if !allowed {
            return Err(XmlFault::Declared);
        }
        let mut same_tag = self.document.bindings.iter().skip(first);
        if same_tag.any(|binding| *binding.prefix == *prefix) {
            return Err(XmlFault::DuplicateAttribute);
        }
        if self.scope.len() >= self.limits.bindings {
            return Err(XmlFault::TooMuch("namespaces in scope"));
        }
        let namespace = self.number(value);
        self.scope.push(self.document.bindings.len());
        self.document.bindings.push(Binding {
            prefix: prefix.into(),
            namespace,
        });
        Ok(())
    }

    fn resolve(&mut self, prefix: &str) -> Result<usize, XmlFault> {
        let bindings = &self.document.bindings;
        let mut inner_first = self.scope.iter().rev().filter_map(|at| bindings.get(*at));
        match inner_first.find(|binding| *binding.prefix == *prefix) {
            Some(binding) => Ok(binding.namespace),
            None if prefix.is_empty() => Ok(NO_NAMESPACE),
            None if prefix == "xml" => Ok(self.number(XML_NAMESPACE.to_owned())),
            None => Err(XmlFault::UnboundPrefix),
        }
    }

    fn number(&mut self, namespace: String) -> usize {
        if let Some(number) = self.known.get(&*namespace) {
            return *number;
        }
        let number = self.document.namespaces.len();
        let namespace = namespace.into_boxed_str();
        self.document.namespaces.push(namespace.clone());
        self.known.insert(namespace, number);
        number
    }
}

/// Whether the declaration says version 1.0 and, if it names an encoding, UTF-8. The text is UTF-8 already: another
/// name in it would mean that somebody else reads other characters.
fn is_supported(declaration: &BytesDecl<'_>) -> bool {
    let version = declaration.version();
    let encoding = declaration.encoding();
    version.is_ok_and(|version| version == "1.0")
        && encoding.is_none_or(|encoding| {
            encoding.is_ok_and(|name| {
                ["utf-8", "us-ascii"].contains(&name.to_ascii_lowercase().as_str())
            })
        })
}

/// Takes one attribute off a start tag: its name, its value with references resolved and white space normalised, and
/// what follows. Nothing when only white space is left.
fn next_attribute(rest: &str) -> Result<Option<(&str, String, &str)>, XmlFault> {
    let trimmed = rest.trim_start_matches(is_blank);
    if trimmed.is_empty() {
        return Ok(None);
    }
    if trimmed.len() == rest.len() {
        return Err(XmlFault::Attribute);
    }
    let (name, after) = trimmed.split_once('=').ok_or(XmlFault::Attribute)?;
    let name = name.trim_end_matches(is_blank);
    let after = after.trim_start_matches(is_blank);
    let quote = match after.chars().next() {
        Some(quote @ ('"' | '\'')) => quote,
        _ => return Err(XmlFault::Attribute),
    };
    let mut parts = after.splitn(3, quote);
    let (Some(_), Some(raw), Some(after)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(XmlFault::Attribute);
    };
    Ok(Some((name, attribute_value(raw)?, after)))
}

/// The value that stands between quotes as `raw` (XML 1.0, section 3.3.3, for attributes that no DTD declares).
fn attribute_value(raw: &str) -> Result<String, XmlFault> {
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let (_, after) = rest.split_at(c.len_utf8());
        rest = after;
        match c {
            '<' => return Err(XmlFault::Character),
            '&' => {
                let (name, after) = rest.split_once(';').ok_or(XmlFault::Reference)?;
                value.push(referenced(name).ok_or(XmlFault::Reference)?);
                rest = after;
            }
            c if is_blank(c) => value.push(' '),
            c if is_character(c) => value.push(c),
            _ => return Err(XmlFault::Character),
        }
    }
    Ok(value)
}

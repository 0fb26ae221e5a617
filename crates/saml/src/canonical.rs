//! Exclusive XML canonicalisation 1.0 (W3C, `xml-exc-c14n`): the octets that a signature is made over.

use crate::xml::{Element, Opened, Step, Written, walk};

/// How a subtree is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Canonicalization {
    /// Whether comments are written.
    pub comments: bool,
    /// The prefixes of `InclusiveNamespaces`, whose declarations are written whether used or not; the default namespace
    /// is the empty prefix.
    pub inclusive: Vec<Box<str>>,
}

/// The canonical form is longer than what is read.
///
/// It can be far longer than the document: a namespace that is declared once is written again at every element below
/// that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the canonical form has more than {limit} bytes")]
pub struct TooLong {
    /// The limit, in bytes.
    pub limit: usize,
}

impl Canonicalization {
    /// The canonical form of the subtree of `apex`, without that of `without`.
    ///
    /// Takes time and memory in proportion to the result.
    ///
    /// # Errors
    /// When the result would have more than `limit` bytes.
    pub fn write(
        &self,
        apex: Element<'_>,
        without: Option<Element<'_>>,
        limit: usize,
    ) -> Result<String, TooLong> {
        let mut writer = Writer {
            method: self,
            rendered: Vec::new(),
            starts: Vec::new(),
            out: Bounded {
                text: String::new(),
                limit,
            },
        };
        walk(apex, without, |step| writer.step(step))?;
        Ok(writer.out.text)
    }
}

struct Writer<'m, 'd> {
    method: &'m Canonicalization,
    /// Prefix and namespace of the declarations written and still in force, the innermost last.
    rendered: Vec<(&'d str, &'d str)>,
    /// How many of them there were at the start of each open element.
    starts: Vec<usize>,
    out: Bounded,
}

impl<'d> Writer<'_, 'd> {
    fn step(&mut self, step: Step<'d>) -> Result<(), TooLong> {
        match step {
            Step::Start(opened) => self.start(&opened),
            Step::End { prefix, local } => {
                if let Some(length) = self.starts.pop() {
                    self.rendered.truncate(length);
                }
                self.out.push("</")?;
                self.name(prefix, local)?;
                self.out.push(">")
            }
            Step::Text(text) => self.out.escaped(text, in_text),
            Step::Comment(text) if self.method.comments => {
                self.out.push("<!--")?;
                self.out.push(text)?;
                self.out.push("-->")
            }
            Step::Comment(_) => Ok(()),
        }
    }

    fn start(&mut self, opened: &Opened<'d>) -> Result<(), TooLong> {
        let is_apex = self.starts.is_empty();
        self.starts.push(self.rendered.len());
        self.out.push("<")?;
        self.name(opened.prefix(), opened.local())?;

        let mut attributes: Vec<Written<'d>> = opened.attributes().collect();
        attributes.sort_by(|a, b| (a.namespace, a.local).cmp(&(b.namespace, b.local)));
        for (prefix, namespace) in self.namespaces(opened, &attributes, is_apex) {
            let in_force = self.in_force(prefix);
            // Without any declaration the default namespace is the empty one.
            if in_force == Some(namespace) || (in_force.is_none() && namespace.is_empty()) {
                continue;
            }
            self.rendered.push((prefix, namespace));
            self.out.push(" xmlns")?;
            if !prefix.is_empty() {
                self.out.push(":")?;
                self.out.push(prefix)?;
            }
            self.value(namespace)?;
        }
        for attribute in attributes {
            self.out.push(" ")?;
            self.name(attribute.prefix, attribute.local)?;
            self.value(attribute.value)?;
        }
        self.out.push(">")
    }

    /// The declarations that have to be in force at a start tag, by prefix.
    fn namespaces(
        &self,
        opened: &Opened<'d>,
        attributes: &[Written<'d>],
        is_apex: bool,
    ) -> Vec<(&'d str, &'d str)> {
        let mut needed = vec![(opened.prefix(), opened.namespace())];
        let prefixed = attributes
            .iter()
            .filter(|attribute| !attribute.prefix.is_empty());
        needed.extend(prefixed.map(|attribute| (attribute.prefix, attribute.namespace)));
        for prefix in &self.method.inclusive {
            // What is in scope changes only where it is declared.
            if (is_apex || opened.declares(prefix))
                && let Some((prefix, namespace)) = opened.in_scope(prefix)
            {
                needed.push((prefix, namespace));
            }
        }
        needed.retain(|(prefix, _)| *prefix != "xml");
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    fn in_force(&self, prefix: &str) -> Option<&'d str> {
        let mut inner_first = self.rendered.iter().rev();
        inner_first
            .find(|(rendered, _)| *rendered == prefix)
            .map(|(_, namespace)| *namespace)
    }

    fn name(&mut self, prefix: &str, local: &str) -> Result<(), TooLong> {
        if !prefix.is_empty() {
            self.out.push(prefix)?;
            self.out.push(":")?;
        }
        self.out.push(local)
    }

    fn value(&mut self, value: &str) -> Result<(), TooLong> {
        self.out.push("=\"")?;
        self.out.escaped(value, in_attribute)?;
        self.out.push("\"")
    }
}

const fn in_text(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '\r' => Some("&#xD;"),
        _ => None,
    }
}

const fn in_attribute(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '"' => Some("&quot;"),
        '\t' => Some("&#x9;"),
        '\n' => Some("&#xA;"),
        '\r' => Some("&#xD;"),
        _ => None,
    }
}

/// Text up to a limit.
struct Bounded {
    text: String,
    limit: usize,
}

impl Bounded {
    fn push(&mut self, text: &str) -> Result<(), TooLong> {
        if text.len() > self.limit.saturating_sub(self.text.len()) {
            return Err(TooLong { limit: self.limit });
        }
        self.text.push_str(text);
        Ok(())
    }

    fn escaped(
        &mut self,
        text: &str,
        escape: impl Fn(char) -> Option<&'static str>,
    ) -> Result<(), TooLong> {
        let mut rest = text;
        while let Some((at, c, escaped)) = rest
            .char_indices()
            .find_map(|(at, c)| escape(c).map(|escaped| (at, c, escaped)))
        {
            let (before, from) = rest.split_at(at);
            self.push(before)?;
            self.push(escaped)?;
            rest = from.split_at(c.len_utf8()).1;
        }
        self.push(rest)
    }
}

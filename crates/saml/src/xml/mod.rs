//! XML documents as signatures see them: names with their prefixes, namespace declarations, attributes, text, comments.
//!
//! The reader is strict where canonicalisation needs it: two different documents must never have the same canonical
//! octets, so names, characters, references and namespaces are checked here and not left to the tokenizer. Document
//! types are refused, and with them every entity but the five of XML; processing instructions are refused inside the
//! root element and skipped outside of it. Size, depth, counts and namespaces in scope are bounded while reading.

mod build;
mod characters;

use std::ops::Range;

pub(crate) use characters::{is_blank, is_ncname};

/// What the `xml` prefix is bound to.
pub(crate) const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";
/// What the `xmlns` prefix stands for.
pub(crate) const XMLNS_NAMESPACE: &str = "http://www.w3.org/2000/xmlns/";

/// How much a document may have of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the text.
    pub bytes: usize,
    /// Elements within each other.
    pub depth: usize,
    /// Elements, texts and comments together.
    pub nodes: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Namespace declarations in scope at one element.
    pub bindings: usize,
}

impl Limits {
    /// For a SAML response, which anybody may send: 75,000 bytes are what 100,000 characters of base64 hold; the
    /// canonical form that is read again may be longer.
    pub const RESPONSE: Self = Self {
        bytes: 256 << 10,
        depth: 32,
        nodes: 8_000,
        attributes: 48,
        bindings: 64,
    };
    /// For the metadata of an identity provider, uploaded by an administrator: up to 10,000,000 characters (IAM spec,
    /// section 4.15).
    pub const METADATA: Self = Self {
        bytes: 16 << 20,
        depth: 32,
        nodes: 200_000,
        attributes: 48,
        bindings: 64,
    };
}

/// Why a text is not an XML document that is read here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault} near byte {at}")]
pub struct XmlError {
    /// Offset of the last byte that was read, with line ends counted as one byte.
    pub at: u64,
    /// What is wrong there.
    pub fault: XmlFault,
}

/// What is wrong with a text that is not an XML document that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlFault {
    /// The tokenizer could not go on.
    #[error("malformed XML")]
    Syntax,
    /// A document type declaration, which could define entities.
    #[error("a document type declaration, which is not allowed")]
    DocumentType,
    /// A processing instruction inside the root element.
    #[error("a processing instruction, which is not allowed inside the document")]
    Instruction,
    /// An XML declaration that is not the first thing, or says another version or encoding.
    #[error("an XML declaration other than version 1.0 in UTF-8 at the very beginning")]
    Declaration,
    /// A reference to an entity other than the five of XML, or to a character that XML does not allow.
    #[error("a reference to an unknown entity or a character that is not allowed")]
    Reference,
    /// A character that XML does not allow at all or not there.
    #[error("a character that is not allowed there")]
    Character,
    /// A name that is not a qualified name.
    #[error("a malformed name")]
    Name,
    /// A malformed attribute.
    #[error("a malformed attribute")]
    Attribute,
    /// Two attributes of one element with the same name.
    #[error("an attribute that is there twice")]
    DuplicateAttribute,
    /// A namespace declaration that the namespace recommendation forbids.
    #[error("a namespace declaration that is not allowed")]
    Declared,
    /// A prefix that no declaration binds.
    #[error("an undeclared namespace prefix")]
    UnboundPrefix,
    /// Text or a second element outside the root element, or no root element.
    #[error("text or a second element outside of the root element")]
    OutsideRoot,
    /// The document ends within an element.
    #[error("an element that does not end")]
    Truncated,
    /// One of the [`Limits`].
    #[error("more {0} than are read")]
    TooMuch(&'static str),
}

/// A document, kept in document order. Its elements are [`Element`]s.
#[derive(Debug)]
pub struct Document {
    nodes: Vec<Node>,
    attributes: Vec<Attribute>,
    bindings: Vec<Binding>,
    namespaces: Vec<Box<str>>,
}

#[derive(Debug)]
struct Node {
    parent: Option<usize>,
    /// The index after the last descendant: a subtree is a range of nodes.
    end: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Element {
        prefix: Box<str>,
        local: Box<str>,
        namespace: usize,
        attributes: Range<usize>,
        bindings: Range<usize>,
    },
    Text(Box<str>),
    Comment(Box<str>),
}

/// An attribute that is no namespace declaration.
#[derive(Debug)]
struct Attribute {
    prefix: Box<str>,
    local: Box<str>,
    namespace: usize,
    value: Box<str>,
}

/// A namespace declaration; the default namespace has the prefix ``.
#[derive(Debug)]
struct Binding {
    prefix: Box<str>,
    namespace: usize,
}

/// The namespace of what has none.
const NO_NAMESPACE: usize = 0;

impl Document {
    /// Reads `text`.
    ///
    /// # Errors
    /// When `text` is no XML document with namespaces, holds what is refused here, or is more than `limits` allow.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, XmlError> {
        build::document(text, limits)
    }

    /// The root element.
    #[must_use]
    pub const fn root(&self) -> Element<'_> {
        Element {
            document: self,
            id: 0,
        }
    }

    /// All elements in document order, the root first.
    pub fn elements(&self) -> impl Iterator<Item = Element<'_>> {
        (0..self.nodes.len()).filter_map(|id| Element::at(self, id))
    }

    fn namespace(&self, id: usize) -> &str {
        self.namespaces.get(id).map_or("", |uri| uri)
    }
}

/// An element of a [`Document`].
#[derive(Debug, Clone, Copy)]
pub struct Element<'d> {
    document: &'d Document,
    id: usize,
}

/// An element's name, its attributes and declarations.
struct Parts<'d> {
    prefix: &'d str,
    local: &'d str,
    namespace: usize,
    attributes: &'d [Attribute],
    bindings: &'d [Binding],
}

impl PartialEq for Element<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.document, other.document) && self.id == other.id
    }
}

impl Eq for Element<'_> {}

impl<'d> Element<'d> {
    /// The namespace, empty when it has none.
    #[must_use]
    pub fn namespace(self) -> &'d str {
        self.document.namespace(self.parts().namespace)
    }

    /// The name without its prefix.
    #[must_use]
    pub fn local_name(self) -> &'d str {
        self.parts().local
    }

    /// Whether this is the element `local` of `namespace`.
    #[must_use]
    pub fn is(self, namespace: &str, local: &str) -> bool {
        self.local_name() == local && self.namespace() == namespace
    }

    /// The element around this one.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        Self::at(self.document, self.node()?.parent?)
    }

    /// The value of the attribute `local` that is in no namespace.
    #[must_use]
    pub fn attribute(self, local: &str) -> Option<&'d str> {
        let mut attributes = self.parts().attributes.iter();
        attributes
            .find(|attribute| attribute.namespace == NO_NAMESPACE && *attribute.local == *local)
            .map(|attribute| &*attribute.value)
    }

    /// Namespace, local name and value of every attribute.
    pub fn attributes(self) -> impl Iterator<Item = (&'d str, &'d str, &'d str)> {
        self.parts().attributes.iter().map(move |attribute| {
            let namespace = self.document.namespace(attribute.namespace);
            (namespace, &*attribute.local, &*attribute.value)
        })
    }

    /// The elements directly inside.
    pub fn children(self) -> impl Iterator<Item = Self> {
        self.child_ids()
            .filter_map(move |id| Self::at(self.document, id))
    }

    /// The elements `local` of `namespace` directly inside.
    pub fn children_named(self, namespace: &str, local: &str) -> impl Iterator<Item = Self> {
        self.children()
            .filter(move |child| child.is(namespace, local))
    }

    /// The only element `local` of `namespace` directly inside; nothing when there is none or more than one.
    #[must_use]
    pub fn only_child(self, namespace: &str, local: &str) -> Option<Self> {
        let mut found = self.children_named(namespace, local);
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// The text inside, comments left out and what they divide joined; nothing when there are elements inside.
    ///
    /// Joining matters: a reader that takes only the text before a comment reads `admin` in `admin<!---->istrator`,
    /// whose signature is that of the whole word.
    #[must_use]
    pub fn text(self) -> Option<String> {
        let mut text = String::new();
        for id in self.child_ids() {
            match &self.document.nodes.get(id)?.kind {
                Kind::Text(part) => text.push_str(part),
                Kind::Comment(_) => {}
                Kind::Element { .. } => return None,
            }
        }
        Some(text)
    }

    fn at(document: &'d Document, id: usize) -> Option<Self> {
        let node = document.nodes.get(id)?;
        matches!(node.kind, Kind::Element { .. }).then_some(Self { document, id })
    }

    fn node(self) -> Option<&'d Node> {
        self.document.nodes.get(self.id)
    }

    fn child_ids(self) -> impl Iterator<Item = usize> {
        let nodes = &self.document.nodes;
        let end = self.node().map_or(0, |node| node.end);
        let first = Some(self.id + 1).filter(|first| *first < end);
        std::iter::successors(first, move |id| {
            nodes
                .get(*id)
                .map(|node| node.end)
                .filter(|next| *next < end)
        })
    }

    fn parts(self) -> Parts<'d> {
        let Some(Node {
            kind:
                Kind::Element {
                    prefix,
                    local,
                    namespace,
                    attributes,
                    bindings,
                },
            ..
        }) = self.node()
        else {
            return Parts {
                prefix: "",
                local: "",
                namespace: NO_NAMESPACE,
                attributes: &[],
                bindings: &[],
            };
        };
        let document = self.document;
        Parts {
            prefix,
            local,
            namespace: *namespace,
            attributes: document
                .attributes
                .get(attributes.clone())
                .unwrap_or_default(),
            bindings: document.bindings.get(bindings.clone()).unwrap_or_default(),
        }
    }
}

/// One step of the walk that canonicalisation takes through a subtree.
pub(crate) enum Step<'d> {
    Start(Opened<'d>),
    End { prefix: &'d str, local: &'d str },
    Text(&'d str),
    Comment(&'d str),
}

/// A start tag on the walk.
pub(crate) struct Opened<'d> {
    element: Element<'d>,
    parts: Parts<'d>,
}

/// An attribute as it is written.
pub(crate) struct Written<'d> {
    pub(crate) namespace: &'d str,
    pub(crate) prefix: &'d str,
    pub(crate) local: &'d str,
    pub(crate) value: &'d str,
}

impl<'d> Opened<'d> {
    pub(crate) const fn prefix(&self) -> &'d str {
        self.parts.prefix
    }

    pub(crate) const fn local(&self) -> &'d str {
        self.parts.local
    }

    pub(crate) fn namespace(&self) -> &'d str {
        self.element.document.namespace(self.parts.namespace)
    }

    pub(crate) fn attributes(&self) -> impl Iterator<Item = Written<'d>> {
        let document = self.element.document;
        self.parts.attributes.iter().map(|attribute| Written {
            namespace: document.namespace(attribute.namespace),
            prefix: &attribute.prefix,
            local: &attribute.local,
            value: &attribute.value,
        })
    }

    /// Whether the start tag declares `prefix`.
    pub(crate) fn declares(&self, prefix: &str) -> bool {
        let mut bindings = self.parts.bindings.iter();
        bindings.any(|binding| *binding.prefix == *prefix)
    }

    /// `prefix` and what it is bound to here; the default namespace is empty where none is declared.
    pub(crate) fn in_scope(&self, prefix: &str) -> Option<(&'d str, &'d str)> {
        let document = self.element.document;
        let around = std::iter::successors(Some(self.element), |element| element.parent());
        around
            .flat_map(|element| element.parts().bindings)
            .find(|binding| *binding.prefix == *prefix)
            .map(|binding| (&*binding.prefix, document.namespace(binding.namespace)))
            .or_else(|| prefix.is_empty().then_some(("", "")))
    }
}

/// Calls `visit` with everything from the start tag of `apex` to its end tag, without the subtree of `without`. Stops at
/// the first error.
pub(crate) fn walk<'d, E>(
    apex: Element<'d>,
    without: Option<Element<'d>>,
    mut visit: impl FnMut(Step<'d>) -> Result<(), E>,
) -> Result<(), E> {
    let document = apex.document;
    let end = apex.node().map_or(0, |node| node.end);
    let mut open: Vec<(usize, Parts<'d>)> = Vec::new();
    let mut id = apex.id;
    loop {
        while let Some((_, parts)) = open.pop_if(|(ends, _)| *ends <= id) {
            let Parts { prefix, local, .. } = parts;
            visit(Step::End { prefix, local })?;
        }
        if id >= end {
            return Ok(());
        }
        let Some(node) = document.nodes.get(id) else {
            return Ok(());
        };
        if without == Some(Element { document, id }) {
            id = node.end;
            continue;
        }
        match &node.kind {
            Kind::Text(text) => visit(Step::Text(text))?,
            Kind::Comment(text) => visit(Step::Comment(text))?,
            Kind::Element { .. } => {
                let element = Element { document, id };
                let parts = element.parts();
                visit(Step::Start(Opened { element, parts }))?;
                open.push((node.end, element.parts()));
            }
        }
        id += 1;
    }
}

//! A small reader of the XML that AWS Query APIs answer: elements and text, nothing else, within fixed bounds.
//!
//! The answers come over TLS from an endpoint that the operator named, yet the process has to survive a broken one:
//! document types (and with them entity definitions) are refused, depth and number of elements are bounded, and nothing recurses.

/// How deep elements may nest; DescribeInstances needs nine.
const MAX_DEPTH: usize = 32;
/// How many elements one answer may have; a hundred instances have about ten thousand.
const MAX_ELEMENTS: usize = 200_000;

/// An element: its name without prefix, its text, its children. Attributes are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Element {
    name: Box<str>,
    text: String,
    children: Vec<Element>,
}

/// The answer is not XML as AWS writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum XmlError {
    #[error("not UTF-8")]
    NotUtf8,
    #[error("a document type declaration")]
    DocumentType,
    #[error("ends within an element")]
    Truncated,
    #[error("an end tag that matches no start tag")]
    Unbalanced,
    #[error("text or a second element outside the root element")]
    OutsideRoot,
    #[error("an unknown entity")]
    Entity,
    #[error("a malformed tag")]
    Tag,
    #[error("nested too deeply or too many elements")]
    TooLarge,
}

impl Element {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        let text = std::str::from_utf8(bytes).map_err(|_| XmlError::NotUtf8)?;
        let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        let mut elements = 0;
        while !rest.is_empty() {
            let Some(at) = rest.find('<') else {
                add_text(&mut open, rest)?;
                break;
            };
            let (before, tag) = rest.split_at(at);
            add_text(&mut open, before)?;
            if let Some(after) = tag.strip_prefix("<!--") {
                rest = after.split_once("-->").ok_or(XmlError::Truncated)?.1;
            } else if let Some(after) = tag.strip_prefix("<![CDATA[") {
                let (data, after) = after.split_once("]]>").ok_or(XmlError::Truncated)?;
                open.last_mut()
                    .ok_or(XmlError::OutsideRoot)?
                    .text
                    .push_str(data);
                rest = after;
            } else if tag.starts_with("<!") {
                return Err(XmlError::DocumentType);
            } else if let Some(after) = tag.strip_prefix("<?") {
                rest = after.split_once("?>").ok_or(XmlError::Truncated)?.1;
            } else if let Some(after) = tag.strip_prefix("</") {
                let (name, after) = after.split_once('>').ok_or(XmlError::Truncated)?;
                let element = open.pop().ok_or(XmlError::Unbalanced)?;
                if *element.name != *local_name(name.trim_end())? {
                    return Err(XmlError::Unbalanced);
                }
                close(element, &mut open, &mut root)?;
                rest = after;
            } else {
                let (inside, after) = split_tag(tag.strip_prefix('<').unwrap_or_default())?;
                elements += 1;
                if open.len() >= MAX_DEPTH || elements > MAX_ELEMENTS {
                    return Err(XmlError::TooLarge);
                }
                let (inside, empty) = match inside.strip_suffix('/') {
                    Some(inside) => (inside, true),
                    None => (inside, false),
                };
                let name = inside.split_ascii_whitespace().next().unwrap_or_default();
                if inside.starts_with(|c: char| c.is_ascii_whitespace()) {
                    return Err(XmlError::Tag);
                }
                let element = Self {
                    name: local_name(name)?.into(),
                    ..Self::default()
                };
                if empty {
                    close(element, &mut open, &mut root)?;
                } else {
                    open.push(element);
                }
                rest = after;
            }
        }
        if !open.is_empty() {
            return Err(XmlError::Truncated);
        }
        root.ok_or(XmlError::Truncated)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The first child of that name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| &*child.name == name)
    }

    /// The element at the end of a chain of names, each the first child of its name.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |element, name| element.child(name))
    }

    /// The trimmed text at the end of a chain of names; empty if there is no such element.
    pub(crate) fn text_at(&self, path: &[&str]) -> &str {
        self.at(path).map_or("", |element| element.text.trim())
    }

    /// The list items under the child of that name, written `item` by EC2 and `member` by IAM and STS.
    pub(crate) fn items(&self, list: &str) -> impl Iterator<Item = &Self> {
        self.child(list)
            .into_iter()
            .flat_map(|list| &list.children)
            .filter(|child| matches!(&*child.name, "item" | "member"))
    }
}

fn close(
    element: Element,
    open: &mut [Element],
    root: &mut Option<Element>,
) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None if root.is_none() => *root = Some(element),
        None => return Err(XmlError::OutsideRoot),
    }
    Ok(())
}

fn add_text(open: &mut [Element], raw: &str) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(element) => decode_into(raw, &mut element.text),
        None if raw.trim().is_empty() => Ok(()),
        None => Err(XmlError::OutsideRoot),
    }
}

/// Splits at the `>` that ends a start tag, which may follow quoted attribute values with `>` in them.
fn split_tag(text: &str) -> Result<(&str, &str), XmlError> {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => {
                let (inside, after) = text.split_at(at);
                return Ok((inside, after.strip_prefix('>').unwrap_or_default()));
            }
            (None, b'<') => return Err(XmlError::Tag),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    Err(XmlError::Truncated)
}

fn local_name(name: &str) -> Result<&str, XmlError> {
    let local = name.rsplit_once(':').map_or(name, |(_, local)| local);
    let sound = !local.is_empty()
        && local
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    sound.then_some(local).ok_or(XmlError::Tag)
}

fn decode_into(raw: &str, text: &mut String) -> Result<(), XmlError> {
    let mut rest = raw;
    while let Some((plain, after)) = rest.split_once('&') {
        text.push_str(plain);
        let (entity, after) = after.split_once(';').ok_or(XmlError::Entity)?;
        text.push(match entity {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = entity.strip_prefix('#').ok_or(XmlError::Entity)?;
                match number.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => number.parse(),
                }
                .ok()
                .and_then(char::from_u32)
                .ok_or(XmlError::Entity)?
            }
        });
        rest = after;
    }
    text.push_str(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_text_and_lists_are_read() {
        let xml = br#"<?xml version="1.0" encoding="UTF-8"?>
            <!-- a > comment -->
            <r:Root xmlns:r="http://x/?a>b"><list><item><k>a&amp;b&#65;&#x42;</k></item><item/></list><t><![CDATA[<raw>]]></t></r:Root>"#;
        let root = Element::parse(xml).unwrap();
        assert_eq!(root.name(), "Root");
        assert_eq!(root.items("list").count(), 2);
        assert_eq!(root.text_at(&["list", "item", "k"]), "a&bAB");
        assert_eq!(root.text_at(&["t"]), "<raw>");
        assert_eq!(root.text_at(&["no", "such"]), "");
    }

    #[test]
    fn what_aws_never_writes_is_refused() {
        for (xml, error) in [
            ("", XmlError::Truncated),
            ("text", XmlError::OutsideRoot),
            ("<a>", XmlError::Truncated),
            ("<a></b>", XmlError::Unbalanced),
            ("</a>", XmlError::Unbalanced),
            ("<a/><b/>", XmlError::OutsideRoot),
            ("<a/>trailing", XmlError::OutsideRoot),
            (
                "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
                XmlError::DocumentType,
            ),
            ("<a>&b;</a>", XmlError::Entity),
            ("<a>&</a>", XmlError::Entity),
            ("<a>&#xD800;</a>", XmlError::Entity),
            ("<a b=\"</a>", XmlError::Truncated),
            ("< a></a>", XmlError::Tag),
            ("<></>", XmlError::Tag),
            ("<a <b>", XmlError::Tag),
            ("<!-- ", XmlError::Truncated),
        ] {
            assert_eq!(Element::parse(xml.as_bytes()), Err(error), "{xml}");
        }
        assert_eq!(Element::parse(b"\xff"), Err(XmlError::NotUtf8));
    }

    #[test]
    fn depth_and_number_of_elements_are_bounded() {
        let deep = "<a>".repeat(MAX_DEPTH + 1);
        assert_eq!(Element::parse(deep.as_bytes()), Err(XmlError::TooLarge));
        let many = format!("<r>{}</r>", "<a/>".repeat(MAX_ELEMENTS));
        assert_eq!(Element::parse(many.as_bytes()), Err(XmlError::TooLarge));
    }
}

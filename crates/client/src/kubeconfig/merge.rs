//! Putting one cluster, one user and one context into a kubeconfig without changing anything else in it.
//!
//! The change is made twice: in the tree, which says what the result must mean, and in the text, where only the lines of the affected
//! entries are replaced, so that comments, order and notation of everything else stay. The text is taken only if it parses to exactly
//! the changed tree. If it does not (a file in JSON, in flow notation, or laid out in a way the line edit does not foresee), the tree is
//! written out anew. A file with anchors, aliases or tags, which cannot be written out, is then refused.

use crate::yaml::{self, Kind, Node, YamlError};

/// Why a kubeconfig cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// It is no YAML.
    #[error("it is not valid YAML")]
    Yaml(#[from] YamlError),
    /// It is YAML and no kubeconfig.
    #[error("`{0}` is not {1}")]
    Shape(&'static str, &'static str),
    /// It uses YAML features that cannot be kept.
    #[error("it uses YAML anchors, aliases or tags around the entries to change; edit it by hand")]
    Properties,
}

/// The three entries of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Entries {
    pub(crate) cluster: Node,
    pub(crate) user: Node,
    pub(crate) context: Node,
}

const LISTS: [&str; 3] = ["clusters", "contexts", "users"];

/// Whether the text is a kubeconfig with a cluster of this name.
pub(crate) fn has_cluster(text: &str, name: &str) -> Result<bool, MergeError> {
    let tree = load(text)?;
    let clusters = tree
        .get("clusters")
        .and_then(Node::items)
        .unwrap_or_default();
    Ok(clusters.iter().any(|entry| name_of(entry) == Some(name)))
}

/// The text with the entries in it; those of the same names are replaced where they stand, and the context becomes current.
pub(crate) fn merge(text: &str, entries: &Entries) -> Result<String, MergeError> {
    let before = load(text)?;
    let after = merge_tree(before.clone(), entries)?;
    if let Some(edited) = merge_text(text, entries)
        && yaml::parse(&edited).is_ok_and(|tree| tree.same(&after))
    {
        return Ok(edited);
    }
    if after.has_properties() {
        return Err(MergeError::Properties);
    }
    let mut out = String::new();
    yaml::emit(&after, 0, &mut out);
    if yaml::parse(&out).is_ok_and(|tree| tree.same(&after)) {
        Ok(out)
    } else {
        Err(MergeError::Properties)
    }
}

fn load(text: &str) -> Result<Node, MergeError> {
    let tree = yaml::parse(text)?;
    if tree.is_null() {
        return Ok(new_kubeconfig());
    }
    let pairs = tree
        .pairs()
        .ok_or(MergeError::Shape("the file", "a mapping"))?;
    for key in LISTS {
        let values: Vec<_> = pairs
            .iter()
            .filter(|(k, _)| k.text() == Some(key))
            .map(|(_, value)| value)
            .collect();
        match values.as_slice() {
            [] => {}
            [value] if value.is_null() => {}
            [value] => {
                let items = value.items().ok_or(MergeError::Shape(key, "a list"))?;
                if items.iter().any(|item| item.pairs().is_none()) {
                    return Err(MergeError::Shape(key, "a list of mappings"));
                }
            }
            _ => return Err(MergeError::Shape(key, "given once")),
        }
    }
    if let Some(current) = tree.get("current-context")
        && current.text().is_none()
    {
        return Err(MergeError::Shape("current-context", "a string"));
    }
    Ok(tree)
}

/// What an absent or empty file becomes before the entries are put in.
fn new_kubeconfig() -> Node {
    Node::mapping([
        ("apiVersion", Node::string("v1")),
        ("clusters", Node::empty_sequence()),
        ("contexts", Node::empty_sequence()),
        ("current-context", Node::string("")),
        ("kind", Node::string("Config")),
        ("preferences", Node::empty_mapping()),
        ("users", Node::empty_sequence()),
    ])
}

fn name_of(entry: &Node) -> Option<&str> {
    entry.get("name").and_then(Node::text)
}

fn merge_tree(mut tree: Node, entries: &Entries) -> Result<Node, MergeError> {
    for (key, entry) in entries.lists() {
        let list = tree
            .entry(key, Node::empty_sequence)
            .ok_or(MergeError::Shape("the file", "a mapping"))?;
        if list.is_null() {
            *list = Node::empty_sequence();
        }
        let items = list.items_mut().ok_or(MergeError::Shape(key, "a list"))?;
        match items.iter_mut().find(|i| name_of(i) == name_of(entry)) {
            Some(item) => *item = entry.clone(),
            None => items.push(entry.clone()),
        }
    }
    tree.set("current-context", entries.current_context());
    Ok(tree)
}

impl Entries {
    /// In the order in which the lists are made if they are missing.
    fn lists(&self) -> [(&'static str, &Node); 3] {
        [
            ("clusters", &self.cluster),
            ("contexts", &self.context),
            ("users", &self.user),
        ]
    }

    fn current_context(&self) -> Node {
        Node::string(name_of(&self.context).unwrap_or_default())
    }
}

/// The line edit; `None` where the layout is not the usual one. May be wrong: the caller compares.
fn merge_text(text: &str, entries: &Entries) -> Option<String> {
    let mut text = text.to_owned();
    for (key, entry) in entries.lists() {
        text = put_entry(&text, key, entry)?;
    }
    put_current_context(&text, &entries.current_context())
}

fn put_entry(text: &str, key: &str, entry: &Node) -> Option<String> {
    let tree = yaml::parse(text).ok()?;
    let Some((key_node, list)) = tree.pairs()?.iter().find(|(k, _)| k.text() == Some(key)) else {
        let mut out = with_last_line_ended(text);
        out.push_str(key);
        out.push_str(":\n");
        out.push_str(&item(entry, 0));
        return Some(out);
    };
    match &list.kind {
        Kind::Sequence(items, _) if items.is_empty() => {
            let line = line_range(text, key_node.span.start);
            let new = format!("{key}:\n{}", item(entry, 0));
            Some(splice(text, line, &new))
        }
        Kind::Sequence(items, false) => {
            let first = items.first()?;
            let indent = text
                .get(line_range(text, first.span.start))?
                .find('-')
                .filter(|_| first.span.start > 0)?;
            let new = item(entry, indent);
            match items.iter().find(|i| name_of(i) == name_of(entry)) {
                Some(old) => {
                    let start = line_range(text, old.span.start).start;
                    let end = line_range(text, last_byte(old)).end;
                    Some(splice(text, start..end, &new))
                }
                None => {
                    let end = line_range(text, last_byte(items.last()?)).end;
                    let text = if end == text.len() {
                        with_last_line_ended(text)
                    } else {
                        text.to_owned()
                    };
                    let end = line_range(&text, last_byte(items.last()?)).end;
                    Some(splice(&text, end..end, &new))
                }
            }
        }
        _ if list.is_null() => {
            let line = line_range(text, key_node.span.start);
            Some(splice(text, line, &format!("{key}:\n{}", item(entry, 0))))
        }
        _ => None,
    }
}

fn put_current_context(text: &str, value: &Node) -> Option<String> {
    let tree = yaml::parse(text).ok()?;
    let mut new = String::from("current-context: ");
    yaml::emit_inline(value, &mut new);
    let Some((key, old)) = tree
        .pairs()?
        .iter()
        .find(|(k, _)| k.text() == Some("current-context"))
    else {
        return Some(format!("{}{new}\n", with_last_line_ended(text)));
    };
    if old.same(value) {
        return Some(text.to_owned());
    }
    let end = last_byte(old).max(key.span.end);
    let line_end = line_range(text, key.span.start).end;
    let rest = text.get(end + usize::from(!old.span.is_empty())..line_end)?;
    let comment = rest.trim_start_matches(':');
    let tail = if comment.trim().is_empty() {
        "\n"
    } else {
        comment
    };
    Some(splice(
        text,
        key.span.start..line_end,
        &format!("{new}{tail}"),
    ))
}

fn item(entry: &Node, indent: usize) -> String {
    let mut out = String::new();
    yaml::emit(&Node::sequence(vec![entry.clone()]), indent, &mut out);
    out
}

/// The position of the last byte of a node's content.
fn last_byte(node: &Node) -> usize {
    node.content_end().saturating_sub(1)
}

/// The line that contains the byte, its line break included.
fn line_range(text: &str, at: usize) -> std::ops::Range<usize> {
    let at = at.min(text.len());
    let before = text.as_bytes().get(..at).unwrap_or_default();
    let start = before
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |p| p + 1);
    let after = text.as_bytes().get(at..).unwrap_or_default();
    let end = after
        .iter()
        .position(|b| *b == b'\n')
        .map_or(text.len(), |p| at + p + 1);
    start..end
}

fn splice(text: &str, range: std::ops::Range<usize>, new: &str) -> String {
    let before = text.get(..range.start).unwrap_or_default();
    let after = text.get(range.end..).unwrap_or_default();
    format!("{before}{new}{after}")
}

fn with_last_line_ended(text: &str) -> String {
    let mut out = text.to_owned();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

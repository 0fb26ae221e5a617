//! A JSON file that something else keeps up to date (authentication spec, section 3.7, backend DynamicFile).
//!
//! Entries are found by their ARN, or with `dynamicfileUserIDStrict` by their `userid`. Invalid JSON, a value of the
//! wrong kind, or an entry without its key refuses the new content as a whole.

use serde::Serialize;

use super::mounted_file::RefusedSource;
use crate::decode::{Context, Decoder};
use crate::entry::Entries;
use crate::finding::{Code, Finding, Findings, Place, Section, note};
use crate::options::MappingOptions;
use crate::tree::{Content, Form, Tree};
use crate::yaml::BrokenText;
use crate::{BackendKind, json, lint};

/// Largest file.
pub const MAX_TEXT: usize = 16 << 20;

/// A file's entries and what it says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct DynamicFile {
    /// The entries.
    pub entries: Entries,
    /// Its header.
    pub header: Header,
    /// What was noticed.
    pub findings: Vec<Finding>,
}

/// What a file says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// `Version`: counted up by the writer.
    pub version: Option<String>,
    /// `LastUpdatedDateTime`, in seconds since the epoch.
    pub last_updated: Option<i64>,
    /// `ClusterId`.
    pub cluster_id: Option<String>,
}

/// Reads a file. Names of fields are found without regard to case.
///
/// # Errors
/// When the text is no JSON object, a value has the wrong kind, or an entry has no key.
pub fn parse(text: &str, options: &MappingOptions) -> Result<DynamicFile, RefusedSource> {
    if text.len() > MAX_TEXT {
        return Err(RefusedSource::broken(&BrokenText::new(
            "larger than 16 MiB",
            None,
        )));
    }
    let tree = json::parse(text).map_err(|error| RefusedSource::broken(&error))?;
    let Content::Map(_) = &tree.root().content else {
        return Err(RefusedSource::broken(&BrokenText::new(
            format!(
                "expected a JSON object, found {}",
                tree.root().content.kind()
            ),
            None,
        )));
    };
    let context = Context {
        backend: BackendKind::DynamicFile,
        options,
    };
    let mut findings = Findings::default();
    let mut entries = Entries::default();
    let list = |section: Section| {
        tree.field(tree.root(), section.key())
            .map(|id| tree.get(id))
    };
    let mut decoder = Decoder::new(&tree, context, &mut findings);
    for (section, entries) in [
        (Section::MapRoles, &mut entries.roles),
        (Section::MapUsers, &mut entries.users),
    ] {
        if let Some(node) = list(section) {
            *entries = decoder
                .entries(section, node)
                .map_err(|error| RefusedSource::broken(&error))?;
        }
    }
    if let Some(node) = list(Section::MapAccounts) {
        entries.accounts = decoder
            .accounts(node)
            .map_err(|error| RefusedSource::broken(&error))?;
    }
    let (refused, wrong_types) = (decoder.refused, decoder.wrong_types);
    let mut without_key = 0;
    for entry in entries.roles.iter().chain(&entries.users) {
        if context.by_user_id() && entry.conditions.user_id.is_none() {
            without_key += 1;
            findings.push(Code::MissingPrincipal, &entry.rule.place(), || {
                note("an entry without `userid`, which is its key")
            });
        }
    }
    if refused + wrong_types + without_key > 0 {
        return Err(RefusedSource::new(findings));
    }
    lint::duplicates(&entries.roles, context.by_user_id(), &mut findings);
    lint::duplicates(&entries.users, context.by_user_id(), &mut findings);
    lint::accounts(&entries.accounts, &mut findings);
    let header = header(&tree, &mut findings);
    Ok(DynamicFile {
        entries,
        header,
        findings: findings.into_list(),
    })
}

fn header(tree: &Tree<'_>, findings: &mut Findings) -> Header {
    let text = |name: &str| match tree.field(tree.root(), name).map(|id| tree.get(id)) {
        Some(node) => match &node.content {
            Content::Text(text, Form::Quoted) => Some(text.to_string()),
            _ => None,
        },
        None => None,
    };
    let last_updated = text("LastUpdatedDateTime");
    let seconds = last_updated.as_deref().and_then(|text| text.parse().ok());
    if last_updated.is_some_and(|text| !text.is_empty()) && seconds.is_none() {
        findings.push(Code::WrongType, &Place::section(Section::Document), || {
            note("`LastUpdatedDateTime` is not a number of seconds")
        });
    }
    Header {
        version: text("Version"),
        last_updated: seconds,
        cluster_id: text("ClusterId"),
    }
}

//! The lists in the server's own configuration file (authentication spec, section 3.3).
//!
//! Nobody is connected yet who could be cut off when this file is read, so any invalid entry refuses the whole file:
//! at start the server does not come up, later the entries in force stay.

use crate::decode::{Context, Decoder};
use crate::entry::Entries;
use crate::finding::{Code, Finding, Findings, Place, Section, note, shown};
use crate::options::MappingOptions;
use crate::tree::{Content, Id, Tree};
use crate::yaml::{BrokenText, with_tree};
use crate::{BackendKind, lint};

/// Largest configuration file.
pub const MAX_TEXT: usize = 16 << 20;

/// Entries, and what was noticed about them.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The entries.
    pub entries: Entries,
    /// What was noticed.
    pub findings: Vec<Finding>,
}

/// A source that must not take effect; what was in force before stays.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{summary}")]
pub struct RefusedSource {
    /// The first reason.
    pub summary: String,
    /// Everything that was noticed.
    pub findings: Vec<Finding>,
}

impl RefusedSource {
    pub(crate) fn new(findings: Findings) -> Self {
        let findings = findings.into_list();
        let summary = findings
            .iter()
            .max_by_key(|finding| finding.severity)
            .map_or_else(|| "refused".to_owned(), ToString::to_string);
        Self { summary, findings }
    }

    pub(crate) fn broken(error: &BrokenText) -> Self {
        let mut findings = Findings::default();
        findings.push(
            Code::SectionBroken,
            &Place::section(Section::Document).at(error.position),
            || note(error.to_string()),
        );
        Self::new(findings)
    }
}

/// Reads `server.mapRoles`, `server.mapUsers` and `server.mapAccounts` of a configuration file. Keys are found without
/// regard to case; whatever else is in the file is left to others.
///
/// # Errors
/// When the file does not parse, a list is no list, or any entry is invalid.
pub fn parse(text: &str, options: &MappingOptions) -> Result<Loaded, RefusedSource> {
    if text.len() > MAX_TEXT {
        return Err(RefusedSource::broken(&BrokenText::new(
            "larger than 16 MiB",
            None,
        )));
    }
    let context = Context {
        backend: BackendKind::MountedFile,
        options,
    };
    with_tree(text, |tree| {
        let server = tree.field(tree.root(), "server");
        match &tree.root().content {
            Content::Map(_) | Content::Null => read(tree, server, context),
            other => Err(RefusedSource::broken(&BrokenText::new(
                format!("expected a mapping of settings, found {}", other.kind()),
                tree.root().position,
            ))),
        }
    })
    .map_err(|error| RefusedSource::broken(&error))?
}

fn read(
    tree: &Tree<'_>,
    server: Option<Id>,
    context: Context<'_>,
) -> Result<Loaded, RefusedSource> {
    let mut findings = Findings::default();
    let list = |name: &str| {
        server
            .and_then(|id| tree.field(tree.get(id), name))
            .map(|id| tree.get(id))
    };
    let mut decoder = Decoder::new(tree, context, &mut findings);
    let mut entries = Entries::default();
    let mut broken = None;
    for (section, entries) in [
        (Section::MapRoles, &mut entries.roles),
        (Section::MapUsers, &mut entries.users),
    ] {
        match list(section.key()).map(|node| decoder.entries(section, node)) {
            None => {}
            Some(Ok(decoded)) => *entries = decoded,
            Some(Err(error)) => broken = Some((section, error)),
        }
    }
    match list(Section::MapAccounts.key()).map(|node| decoder.accounts(node)) {
        None => {}
        Some(Ok(decoded)) => entries.accounts = decoded,
        Some(Err(error)) => broken = Some((Section::MapAccounts, error)),
    }
    let refused = decoder.refused;
    if let Some(id) = server.and_then(|id| tree.field(tree.get(id), "mapGroups")) {
        let at = Place::section(Section::Document).at(tree.get(id).position);
        findings.push(Code::InvalidField, &at, || {
            note(format!(
                "{} cannot be used: memberships are not known here",
                shown("mapGroups")
            ))
        });
        return Err(RefusedSource::new(findings));
    }
    if let Some((section, error)) = broken {
        findings.push(
            Code::SectionBroken,
            &Place::section(section).at(error.position),
            || note(error.to_string()),
        );
        return Err(RefusedSource::new(findings));
    }
    if refused > 0 {
        return Err(RefusedSource::new(findings));
    }
    lint::duplicates(&entries.roles, false, &mut findings);
    lint::duplicates(&entries.users, false, &mut findings);
    lint::accounts(&entries.accounts, &mut findings);
    Ok(Loaded {
        entries,
        findings: findings.into_list(),
    })
}

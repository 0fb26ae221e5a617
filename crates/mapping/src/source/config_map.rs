//! The `aws-auth` ConfigMap (authentication spec, section 3.2: rules P1 to P15, and 3.2.1).
//!
//! Each of the three keys holds a text with a YAML list. One slip in a text must neither disconnect everybody nor
//! spoil the other two: a section that does not parse is reported as broken, and the caller keeps its last good version.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::decode::{Context, Decoder, MAX_ENTRIES};
use crate::entry::{AccountEntry, Entries, Entry, Matcher};
use crate::finding::{
    Code, Finding, Findings, Place, Position, Section, did_you_mean, note, shown,
};
use crate::options::{MappingOptions, OnParseError};
use crate::tree::{Content, Form};
use crate::yaml::{BrokenText, items, with_tree};
use crate::{BackendKind, lint};

/// Largest text of a section; Kubernetes allows no more for the whole object.
pub const MAX_TEXT: usize = 1 << 20;

/// From this size on a section is reported as large.
const LARGE_TEXT: usize = 512 << 10;
const LARGE_LIST: usize = 500;

const KEYS: &[&str] = &["mapRoles", "mapUsers", "mapAccounts"];

/// What came out of one section.
#[derive(Debug, Clone, PartialEq)]
pub enum SectionResult<T> {
    /// The entries; those that cannot be used are left out and reported.
    Parsed(Vec<T>),
    /// The text as a whole does not parse or is no list.
    Broken {
        /// Why.
        error: BrokenText,
        /// Items that parse on their own, for a start without a last good version. Only exact ARNs, and none that
        /// also stands in an item that does not parse: a shadowed entry must not come back to life.
        salvaged: Vec<T>,
    },
}

impl<T> SectionResult<T> {
    /// Why the section is broken, if it is.
    pub fn error(&self) -> Option<&BrokenText> {
        match self {
            Self::Parsed(_) => None,
            Self::Broken { error, .. } => Some(error),
        }
    }
}

/// What came out of a ConfigMap.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigMap {
    /// `mapRoles`.
    pub roles: SectionResult<Arc<Entry>>,
    /// `mapUsers`.
    pub users: SectionResult<Arc<Entry>>,
    /// `mapAccounts`.
    pub accounts: SectionResult<AccountEntry>,
    /// Everything that was noticed.
    pub findings: Vec<Finding>,
}

/// A section whose text is broken, so that an earlier version (or nothing) is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StaleSection {
    /// The section.
    pub section: Section,
    /// Why its text is broken.
    pub error: BrokenText,
    /// What is in force instead.
    pub in_force: InForce,
}

/// What stands in for a broken section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum InForce {
    /// Its last good version.
    LastGood,
    /// There was none yet: those items of it that parse on their own.
    Salvaged,
    /// Nothing, as `onParseError: dropSection` says.
    Nothing,
}

impl ConfigMap {
    /// Reads the `data` of the object.
    ///
    /// Keys are exact (rule P1); a key that is one of ours but for case or a typing slip is reported, others are none
    /// of our business.
    #[must_use]
    pub fn parse(data: &BTreeMap<String, String>, options: &MappingOptions) -> Self {
        Self::read(
            data.iter()
                .map(|(key, text)| (key.as_str(), Value::Text { text, above: 0 })),
            options,
        )
    }

    /// Reads a manifest of the object, as `kubectl apply` takes it. Lines are counted in the manifest.
    ///
    /// A key whose value is a list instead of a text (a missing `|`) makes its section broken; the API server refuses
    /// such an object.
    ///
    /// # Errors
    /// When the manifest does not parse or has no `data`.
    pub fn parse_manifest(text: &str, options: &MappingOptions) -> Result<Self, BrokenText> {
        if text.len() > MAX_TEXT {
            return Err(BrokenText::new("larger than 1 MiB", None));
        }
        with_tree(text, |tree| {
            let root = tree.root();
            let data = tree.field(root, "data").map(|id| &tree.get(id).content);
            let pairs = match data {
                Some(Content::Map(pairs)) => pairs.as_slice(),
                Some(Content::Null) => &[],
                None if matches!(&root.content, Content::Map(_)) => &[],
                _ => {
                    return Err(BrokenText::new(
                        "expected a ConfigMap with `data`",
                        root.position,
                    ));
                }
            };
            let values = pairs.iter().filter_map(|(key, value)| {
                let node = tree.get(*value);
                let value = match &node.content {
                    Content::Null => Value::Text { text: "", above: 0 },
                    Content::Text(text, Form::Quoted | Form::Plain) => Value::Text {
                        text,
                        // A block scalar begins where its first line does.
                        above: node.position.map_or(0, |at| at.line.saturating_sub(1)),
                    },
                    other => Value::NotText(other.kind(), node.position),
                };
                Some((tree.key(*key)?, value))
            });
            Ok(Self::read(values, options))
        })?
    }

    fn read<'v>(
        values: impl Iterator<Item = (&'v str, Value<'v>)>,
        options: &MappingOptions,
    ) -> Self {
        let context = Context {
            backend: BackendKind::EksConfigMap,
            options,
        };
        let mut findings = Findings::default();
        let mut map = Self {
            roles: SectionResult::Parsed(Vec::new()),
            users: SectionResult::Parsed(Vec::new()),
            accounts: SectionResult::Parsed(Vec::new()),
            findings: Vec::new(),
        };
        for (key, value) in values {
            match key {
                "mapRoles" => {
                    map.roles = entries(Section::MapRoles, &value, context, &mut findings);
                }
                "mapUsers" => {
                    map.users = entries(Section::MapUsers, &value, context, &mut findings);
                }
                "mapAccounts" => map.accounts = accounts(&value, context, &mut findings),
                "mapGroups" => {
                    findings.push(Code::TopLevelKey, &Place::section(Section::Document), || {
                        note("`mapGroups` is not read: memberships of IAM groups are not known here")
                    });
                }
                _ => {
                    if let Some(meant) = did_you_mean(key, KEYS) {
                        findings.push(
                            Code::TopLevelKey,
                            &Place::section(Section::Document),
                            || {
                                note(format!("key {} is ignored", shown(key)))
                                    .hint(format!("did you mean `{meant}`?"))
                            },
                        );
                    }
                }
            }
        }
        map.findings = findings.into_list();
        map
    }

    /// What is to be in force: parsed sections as they are, broken ones from `last_good`.
    ///
    /// Without a last good version the items that parse on their own are used, so that nodes and administrators do not
    /// depend on the whole text being well-formed when the server starts.
    #[must_use]
    pub fn in_force(
        self,
        last_good: Option<&Entries>,
        on_error: OnParseError,
    ) -> (Entries, Vec<StaleSection>) {
        let mut stale = Vec::new();
        let entries = Entries {
            roles: choose(
                Section::MapRoles,
                self.roles,
                last_good.map(|last| &last.roles),
                on_error,
                &mut stale,
            ),
            users: choose(
                Section::MapUsers,
                self.users,
                last_good.map(|last| &last.users),
                on_error,
                &mut stale,
            ),
            accounts: choose(
                Section::MapAccounts,
                self.accounts,
                last_good.map(|last| &last.accounts),
                on_error,
                &mut stale,
            ),
        };
        (entries, stale)
    }
}

fn choose<T: Clone>(
    section: Section,
    result: SectionResult<T>,
    last_good: Option<&Vec<T>>,
    on_error: OnParseError,
    stale: &mut Vec<StaleSection>,
) -> Vec<T> {
    let (error, salvaged) = match result {
        SectionResult::Parsed(entries) => return entries,
        SectionResult::Broken { error, salvaged } => (error, salvaged),
    };
    let (in_force, entries) = match (on_error, last_good) {
        (OnParseError::DropSection, _) => (InForce::Nothing, Vec::new()),
        (OnParseError::KeepLastGood, Some(last)) => (InForce::LastGood, last.clone()),
        (OnParseError::KeepLastGood, None) => (InForce::Salvaged, salvaged),
    };
    stale.push(StaleSection {
        section,
        error,
        in_force,
    });
    entries
}

enum Value<'v> {
    Text {
        text: &'v str,
        /// Lines of the document above the text.
        above: u32,
    },
    NotText(&'static str, Option<Position>),
}

/// Rule P2: these mean "no entries".
fn is_empty(text: &str) -> bool {
    matches!(text.trim(), "" | "``" | "\"\"" | "''")
}

/// What is wrong with a section's text before it is parsed.
fn unreadable(value: &Value<'_>) -> Result<(), BrokenText> {
    match value {
        Value::NotText(kind, position) => Err(BrokenText::new(
            format!("the value is {kind} and no text: a `|` is missing behind the key"),
            *position,
        )),
        Value::Text { text, .. } if text.len() > MAX_TEXT => {
            Err(BrokenText::new("larger than 1 MiB", None))
        }
        Value::Text { .. } => Ok(()),
    }
}

fn entries(
    section: Section,
    value: &Value<'_>,
    context: Context<'_>,
    findings: &mut Findings,
) -> SectionResult<Arc<Entry>> {
    let mut own = Findings::default();
    let parsed = unreadable(value).and_then(|()| match value {
        Value::NotText(..) => Ok(Vec::new()),
        Value::Text { text, .. } if is_empty(text) => Ok(Vec::new()),
        // Rule P3: a text that begins with `{` is JSON, and a JSON object is no list.
        Value::Text { text, .. } if text.trim_start().starts_with('{') => Err(BrokenText::new(
            "expected a list of entries, found a JSON object",
            Some(Position { line: 1, column: 1 }),
        )),
        Value::Text { text, .. } => with_tree(text, |tree| {
            Decoder::new(tree, context, &mut own).entries(section, tree.root())
        })
        .and_then(|entries| entries),
    });
    match parsed {
        Ok(entries) => {
            lint::duplicates(&entries, false, &mut own);
            large(section, value, entries.len(), &mut own);
            findings.append(own, above(value));
            SectionResult::Parsed(moved(entries, above(value)))
        }
        Err(error) => {
            let error = broken(section, error, value, findings);
            let salvaged = match value {
                Value::Text { text, above } if text.len() <= MAX_TEXT => {
                    moved(salvage(section, text, context), *above)
                }
                _ => Vec::new(),
            };
            SectionResult::Broken { error, salvaged }
        }
    }
}

fn accounts(
    value: &Value<'_>,
    context: Context<'_>,
    findings: &mut Findings,
) -> SectionResult<AccountEntry> {
    let mut own = Findings::default();
    let parsed = unreadable(value).and_then(|()| match value {
        Value::NotText(..) => Ok(Vec::new()),
        Value::Text { text, .. } if is_empty(text) => Ok(Vec::new()),
        Value::Text { text, .. } => with_tree(text, |tree| {
            Decoder::new(tree, context, &mut own).accounts(tree.root())
        })
        .and_then(|accounts| accounts),
    });
    match parsed {
        Ok(mut accounts) => {
            lint::accounts(&accounts, &mut own);
            large(Section::MapAccounts, value, accounts.len(), &mut own);
            findings.append(own, above(value));
            for account in &mut accounts {
                move_down(&mut account.rule.position, above(value));
            }
            SectionResult::Parsed(accounts)
        }
        Err(error) => SectionResult::Broken {
            error: broken(Section::MapAccounts, error, value, findings),
            salvaged: Vec::new(),
        },
    }
}

const fn above(value: &Value<'_>) -> u32 {
    match value {
        Value::Text { above, .. } => *above,
        Value::NotText(..) => 0,
    }
}

fn moved(mut entries: Vec<Arc<Entry>>, lines: u32) -> Vec<Arc<Entry>> {
    if lines > 0 {
        for entry in &mut entries {
            move_down(&mut Arc::make_mut(entry).rule.position, lines);
        }
    }
    entries
}

fn move_down(position: &mut Option<Position>, lines: u32) {
    if let Some(position) = position {
        position.line = position.line.saturating_add(lines);
    }
}

fn broken(
    section: Section,
    mut error: BrokenText,
    value: &Value<'_>,
    findings: &mut Findings,
) -> BrokenText {
    move_down(&mut error.position, above(value));
    findings.push(
        Code::SectionBroken,
        &Place::section(section).at(error.position),
        || {
            note(format!(
                "`{section}` does not parse, so all of its entries are unknown: {error}"
            ))
            .hint("until it is repaired its last good version stays in force; other authenticators drop all of it")
        },
    );
    error
}

fn large(section: Section, value: &Value<'_>, entries: usize, findings: &mut Findings) {
    let bytes = match value {
        Value::Text { text, .. } => text.len(),
        Value::NotText(..) => 0,
    };
    if bytes >= LARGE_TEXT || entries >= LARGE_LIST {
        findings.push(Code::SectionLarge, &Place::section(section), || {
            note(format!(
                "{entries} entries in {} KiB; the object can have 1 MiB",
                bytes >> 10
            ))
        });
    }
}

/// Entries that parse on their own.
fn salvage(section: Section, text: &str, context: Context<'_>) -> Vec<Arc<Entry>> {
    let mut good = Vec::new();
    let mut bad = String::new();
    let mut index = 0u32;
    let items = items(text);
    if items.len() > MAX_ENTRIES {
        return good;
    }
    for (above, item) in items {
        let mut ignored = Findings::default();
        let parsed = with_tree(item, |tree| {
            Decoder::new(tree, context, &mut ignored).entries(section, tree.root())
        });
        if let Ok(Ok(entries)) = parsed {
            for mut entry in entries {
                if let Matcher::Arn(_) = &entry.matcher {
                    let rule = &mut Arc::make_mut(&mut entry).rule;
                    rule.index = index;
                    move_down(&mut rule.position, above);
                    good.push(entry);
                }
            }
        } else {
            bad.push_str(&item.to_ascii_lowercase());
        }
        index = index.saturating_add(1);
    }
    if !bad.is_empty() {
        let suspects = principals(&bad);
        good.retain(|entry| match &entry.matcher {
            Matcher::Arn(arn) => arn
                .caller
                .as_ref()
                .is_none_or(|caller| !suspects.contains(&*caller.name().to_ascii_lowercase())),
            Matcher::Sso(_) | Matcher::Pattern(_) => false,
        });
    }
    good
}

/// Every text between a `/` and what cannot belong to a name.
fn principals(text: &str) -> std::collections::HashSet<&str> {
    text.split('/')
        .skip(1)
        .map(|rest| {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)))
                .unwrap_or(rest.len());
            rest.get(..end).unwrap_or_default()
        })
        .collect()
}

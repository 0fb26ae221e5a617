//! The sections of `aws-auth` over time: each keeps its own last good version.

use std::collections::BTreeMap;

use countersign_mapping::config_map::{ConfigMap, InForce, SectionResult, StaleSection};
use countersign_mapping::{BrokenText, Entries, MappingOptions, OnParseError, Section};

use crate::health::Problem;
use crate::mappings::Update;

/// Turns versions of the ConfigMap into rules, section by section (authentication spec, section 3.2.1).
///
/// A section that does not parse as a whole keeps its last good version; the other two are not touched by it. Deleting the
/// ConfigMap clears everything, what was good before included.
#[derive(Debug, Clone, Default)]
pub struct AwsAuthSections {
    good: Entries,
    /// Which sections parsed since the object exists. A section that never did has no last good version, which is
    /// another thing than one whose last good version is empty.
    ever: [bool; 3],
    /// The texts of the last good versions, to be remembered for the next start.
    texts: BTreeMap<String, String>,
}

const SECTIONS: [Section; 3] = [Section::MapRoles, Section::MapUsers, Section::MapAccounts];

impl AwsAuthSections {
    /// Takes the `data` of a version of the object, or its absence, and says what is to be in force.
    pub fn apply(
        &mut self,
        data: Option<&BTreeMap<String, String>>,
        options: &MappingOptions,
        on_error: OnParseError,
    ) -> Update {
        let Some(data) = data else {
            *self = Self::default();
            return Update {
                synced: true,
                ..Update::default()
            };
        };
        let map = ConfigMap::parse(data, options);
        let parsed = [
            map.roles.error().is_none(),
            map.users.error().is_none(),
            map.accounts.error().is_none(),
        ];
        for (section, parsed) in SECTIONS.into_iter().zip(parsed) {
            if parsed {
                let text = data.get(section.key()).cloned().unwrap_or_default();
                self.texts.insert(section.key().to_owned(), text);
            }
        }
        let good = std::mem::take(&mut self.good);
        let [roles, users, accounts] = self.ever;
        self.good = Entries {
            roles: kept(&map.roles, good.roles),
            users: kept(&map.users, good.users),
            accounts: kept(&map.accounts, good.accounts),
        };
        for (ever, parsed) in self.ever.iter_mut().zip(parsed) {
            *ever |= parsed;
        }
        let findings = map.findings.clone();
        let (without, stale_without) = map.clone().in_force(None, on_error);
        let (with, stale_with) = map.in_force(Some(&self.good), on_error);
        let entries = Entries {
            roles: if roles { with.roles } else { without.roles },
            users: if users { with.users } else { without.users },
            accounts: if accounts {
                with.accounts
            } else {
                without.accounts
            },
        };
        let had = |section: Section| match section {
            Section::MapRoles => roles,
            Section::MapUsers => users,
            Section::MapAccounts => accounts,
            Section::Objects | Section::Document => false,
        };
        let stale = stale_with
            .into_iter()
            .filter(|stale| had(stale.section))
            .chain(
                stale_without
                    .into_iter()
                    .filter(|stale| !had(stale.section)),
            )
            .map(|stale| (stale.section, problem(&stale), in_force(stale.in_force)))
            .collect();
        Update {
            entries,
            stale,
            findings,
            synced: true,
            ..Update::default()
        }
    }

    /// Starts with what an earlier run remembered: the texts of the last good versions. Everything is marked stale.
    pub fn restore(
        &mut self,
        texts: &BTreeMap<String, String>,
        options: &MappingOptions,
    ) -> Update {
        let mut update = self.apply(Some(texts), options, OnParseError::KeepLastGood);
        // A key that was not remembered belongs to a section that never parsed.
        for (section, ever) in SECTIONS.into_iter().zip(&mut self.ever) {
            *ever &= texts.contains_key(section.key());
        }
        self.texts.retain(|key, _| texts.contains_key(key));
        update.synced = false;
        update.stale = SECTIONS
            .into_iter()
            .map(|section| {
                let problem = Problem::new(
                    "the API server was not reached yet; these are the rules of an earlier run",
                );
                (section, problem, "persisted")
            })
            .collect();
        update
    }

    /// The texts of the last good versions.
    #[must_use]
    pub fn last_good_texts(&self) -> &BTreeMap<String, String> {
        &self.texts
    }
}

/// The new version of a section if it parsed, else the old one.
fn kept<T: Clone>(result: &SectionResult<T>, old: Vec<T>) -> Vec<T> {
    match result {
        SectionResult::Parsed(entries) => entries.clone(),
        SectionResult::Broken { .. } => old,
    }
}

fn problem(stale: &StaleSection) -> Problem {
    let BrokenText { message, position } = &stale.error;
    Problem {
        section: Some(stale.section),
        message: message.clone(),
        line: position.map(|at| at.line),
        column: position.map(|at| at.column),
    }
}

const fn in_force(what: InForce) -> &'static str {
    match what {
        InForce::LastGood => "lastGood",
        InForce::Salvaged => "salvaged",
        InForce::Nothing => "nothing",
    }
}

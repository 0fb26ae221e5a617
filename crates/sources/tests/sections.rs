//! `aws-auth` section by section: what breaks, what stays, and how it is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{at, mappings, roles, source, username};
use countersign_mapping::{BackendKind, Entries, MappingOptions, OnParseError, Section};
use countersign_sources::{
    AwsAuthSections, EntryCounts, Mappings, MappingsOptions, SourceKind, Update,
};

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

const BROKEN: &str = "- rolearn: arn:aws:iam::444455556666:role/Ops\n\tusername: x\n";
const USERS: &str = "- userarn: arn:aws:iam::444455556666:user/ana\n  username: ana\n";

struct Steps {
    sections: AwsAuthSections,
    on_error: OnParseError,
}

impl Steps {
    fn new(on_error: OnParseError) -> Self {
        Self {
            sections: AwsAuthSections::default(),
            on_error,
        }
    }

    fn apply(&mut self, pairs: &[(&str, &str)]) -> Update {
        self.sections.apply(
            Some(&data(pairs)),
            &MappingOptions::default(),
            self.on_error,
        )
    }
}

fn counts(entries: &Entries) -> (usize, usize, usize) {
    let EntryCounts {
        roles,
        users,
        accounts,
    } = entries.into();
    (roles, users, accounts)
}

fn stale(update: &Update) -> Vec<(Section, &'static str)> {
    update
        .stale
        .iter()
        .map(|(section, _, in_force)| (*section, *in_force))
        .collect()
}

#[test]
fn a_broken_section_keeps_its_last_good_version_and_the_others_follow() {
    let mut steps = Steps::new(OnParseError::KeepLastGood);
    let good = roles(&["Ops", "Dev"]);
    let update = steps.apply(&[("mapRoles", &good), ("mapUsers", USERS)]);
    assert_eq!(
        (counts(&update.entries), stale(&update)),
        ((2, 1, 0), vec![])
    );
    let update = steps.apply(&[("mapRoles", BROKEN), ("mapAccounts", "- 444455556666")]);
    assert_eq!(counts(&update.entries), (2, 0, 1));
    assert_eq!(stale(&update), [(Section::MapRoles, "lastGood")]);
    assert_eq!(update.stale[0].1.line, Some(1), "{:?}", update.stale);
    let update = steps.apply(&[("mapRoles", BROKEN), ("mapAccounts", "{")]);
    assert_eq!(counts(&update.entries), (2, 0, 1));
    assert_eq!(stale(&update).len(), 2);
    let update = steps.apply(&[("mapRoles", &roles(&["Sec"]))]);
    assert_eq!(
        (counts(&update.entries), stale(&update)),
        ((1, 0, 0), vec![])
    );
    let update = steps.apply(&[("mapRoles", BROKEN)]);
    assert_eq!(
        counts(&update.entries),
        (1, 0, 0),
        "the last good version, not the first"
    );
}

#[test]
fn a_section_that_was_good_and_empty_stays_empty_when_it_breaks() {
    let salvageable = format!("{}- [\n", roles(&["Ops"]));
    let mut steps = Steps::new(OnParseError::KeepLastGood);
    steps.apply(&[("mapRoles", "")]);
    let update = steps.apply(&[("mapRoles", &salvageable)]);
    assert_eq!(
        (counts(&update.entries), stale(&update)),
        ((0, 0, 0), vec![(Section::MapRoles, "lastGood")])
    );
}

#[test]
fn a_section_that_was_never_good_gives_what_parses_on_its_own() {
    let salvageable = format!("{}- [\n", roles(&["Ops"]));
    let mut steps = Steps::new(OnParseError::KeepLastGood);
    for _ in 0..2 {
        let update = steps.apply(&[("mapRoles", &salvageable), ("mapUsers", USERS)]);
        assert_eq!(counts(&update.entries), (1, 1, 0));
        assert_eq!(stale(&update), [(Section::MapRoles, "salvaged")]);
    }
    let update = steps.apply(&[("mapRoles", "- [")]);
    assert_eq!(
        counts(&update.entries),
        (0, 0, 0),
        "what was salvaged is no last good version"
    );
    assert!(!steps.sections.last_good_texts().contains_key("mapRoles"));
}

#[test]
fn drop_section_is_the_reference() {
    let mut steps = Steps::new(OnParseError::DropSection);
    steps.apply(&[("mapRoles", &roles(&["Ops"])), ("mapUsers", USERS)]);
    let update = steps.apply(&[("mapRoles", BROKEN), ("mapUsers", USERS)]);
    assert_eq!(counts(&update.entries), (0, 1, 0));
    assert_eq!(stale(&update), [(Section::MapRoles, "nothing")]);
}

#[test]
fn deleting_the_configmap_clears_everything_the_last_good_versions_too() {
    let mut steps = Steps::new(OnParseError::KeepLastGood);
    steps.apply(&[("mapRoles", &roles(&["Ops"])), ("mapUsers", USERS)]);
    let update = steps
        .sections
        .apply(None, &MappingOptions::default(), OnParseError::KeepLastGood);
    assert_eq!(
        (counts(&update.entries), stale(&update)),
        ((0, 0, 0), vec![])
    );
    let update = steps.apply(&[("mapRoles", BROKEN)]);
    assert_eq!(counts(&update.entries), (0, 0, 0));
    assert!(
        steps
            .sections
            .last_good_texts()
            .keys()
            .all(|key| key != "mapRoles")
    );
}

#[test]
fn remembered_texts_come_back_stale_and_stay_the_last_good_version() {
    let mut before = Steps::new(OnParseError::KeepLastGood);
    before.apply(&[("mapRoles", &roles(&["Ops"])), ("mapUsers", "- [")]);
    let texts = before.sections.last_good_texts().clone();
    assert_eq!(
        texts.keys().collect::<Vec<_>>(),
        ["mapAccounts", "mapRoles"]
    );

    let mut after = Steps::new(OnParseError::KeepLastGood);
    let update = after.sections.restore(&texts, &MappingOptions::default());
    assert_eq!(counts(&update.entries), (1, 0, 0));
    assert!(!update.synced);
    assert!(
        stale(&update)
            .iter()
            .all(|(_, in_force)| *in_force == "persisted")
    );
    let salvageable = format!("{USERS}- [\n");
    let update = after.apply(&[("mapRoles", BROKEN), ("mapUsers", &salvageable)]);
    assert_eq!(counts(&update.entries), (1, 1, 0));
    assert_eq!(
        stale(&update),
        [
            (Section::MapRoles, "lastGood"),
            (Section::MapUsers, "salvaged")
        ]
    );
}

#[test]
fn a_broken_section_shows_in_health_since_it_broke_and_is_reported_after_max_stale() {
    let options = MappingsOptions {
        max_stale: Duration::from_secs(3600),
        ..MappingsOptions::default()
    };
    let mappings = Mappings::new(&[BackendKind::EksConfigMap], options);
    let mut steps = Steps::new(OnParseError::KeepLastGood);
    let mut publish = |pairs: &[(&str, &str)], seconds: i64| {
        let update = Update {
            version: seconds.to_string(),
            ..steps.apply(pairs)
        };
        mappings.publish(BackendKind::EksConfigMap, update, at(seconds));
    };
    publish(&[("mapRoles", &roles(&["Ops"]))], 0);
    assert!(mappings.health().is_synced());
    publish(&[("mapRoles", BROKEN)], 10);
    publish(&[("mapRoles", BROKEN), ("mapUsers", USERS)], 20);
    assert!(username(&mappings, "Ops").is_some());
    let health = source(&mappings, BackendKind::EksConfigMap);
    assert_eq!(health.stale[0].since, at(10));
    assert_eq!(
        (health.config_errors_total, health.version.as_str()),
        (2, "20")
    );
    assert_eq!(
        health.entries,
        EntryCounts {
            roles: 1,
            users: 1,
            accounts: 0
        }
    );
    assert!(mappings.health().is_synced(), "stale is not unready");

    assert!(mappings.report_stale(at(3610)).is_empty());
    let reported = mappings.report_stale(at(3611));
    assert_eq!(reported.len(), 1);
    assert_eq!(
        reported[0].0,
        SourceKind::Backend(BackendKind::EksConfigMap)
    );
    publish(&[("mapRoles", &roles(&["Ops"]))], 4000);
    assert!(mappings.report_stale(at(9999)).is_empty());
}

#[test]
fn max_stale_zero_reports_nothing() {
    let options = MappingsOptions {
        max_stale: Duration::ZERO,
        ..MappingsOptions::default()
    };
    let mappings = Mappings::new(&[BackendKind::EksConfigMap], options);
    let update = Steps::new(OnParseError::KeepLastGood).apply(&[("mapRoles", BROKEN)]);
    mappings.publish(BackendKind::EksConfigMap, update, at(0));
    assert!(mappings.report_stale(at(1 << 30)).is_empty());
}

#[test]
fn health_is_a_stable_json_object() {
    let mappings = mappings(&[BackendKind::EksConfigMap]);
    let mut update = Steps::new(OnParseError::KeepLastGood).apply(&[("mapRoles", BROKEN)]);
    update.version = "7".to_owned();
    mappings.publish(BackendKind::EksConfigMap, update, at(0));
    let json = serde_json::to_value(mappings.health()).unwrap();
    let stale = &json["sources"][0]["stale"][0];
    assert_eq!(json["backends"][0], "EKSConfigMap");
    assert_eq!(json["sources"][0]["source"], "EKSConfigMap");
    assert_eq!(json["sources"][0]["version"], "7");
    assert_eq!(stale["section"], "mapRoles");
    assert_eq!(stale["since"], common::START);
    assert_eq!(stale["inForce"], "salvaged");
    assert_eq!(stale["problem"]["line"], 1);
}

#[test]
fn entries_of_other_sources_go_through_the_same_snapshot() {
    let mappings = mappings(&[BackendKind::AccessEntries, BackendKind::EksConfigMap]);
    let mut steps = Steps::new(OnParseError::KeepLastGood);
    let entries = steps.apply(&[("mapRoles", &roles(&["Ops"]))]).entries;
    mappings.set_entries(BackendKind::AccessEntries, entries, "revision 5", at(0));
    assert!(username(&mappings, "Ops").is_some());
    assert!(!mappings.health().is_synced(), "aws-auth was not read yet");
    mappings.set_backends(&[BackendKind::AccessEntries]);
    assert!(mappings.health().is_synced());
    assert_eq!(mappings.load().versions[0].version, "revision 5");
    mappings.set_backends(&[BackendKind::EksConfigMap]);
    assert_eq!(username(&mappings, "Ops"), None);
}

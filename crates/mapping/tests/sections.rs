//! Broken sections: what stays in force, what is salvaged, and the bounds on what a text can cost.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use countersign_mapping::config_map::{ConfigMap, InForce, SectionResult};
use countersign_mapping::*;

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
        .collect()
}

fn parse(pairs: &[(&str, &str)]) -> ConfigMap {
    ConfigMap::parse(&data(pairs), &MappingOptions::default())
}

fn role(name: &str, group: &str) -> String {
    format!(
        "- rolearn: arn:aws:iam::444455556666:role/{name}\n  username: x:{{{{SessionNameRaw}}}}\n  groups: [{group}]\n"
    )
}

fn salvaged(text: &str) -> Vec<String> {
    match parse(&[("mapRoles", text)]).roles {
        SectionResult::Broken { salvaged, .. } => salvaged
            .iter()
            .map(|entry| {
                format!(
                    "{}@{} {}",
                    entry.rule.index,
                    entry.rule.position.unwrap().line,
                    entry.groups[0]
                )
            })
            .collect(),
        SectionResult::Parsed(entries) => panic!("parsed {} entries", entries.len()),
    }
}

#[test]
fn a_broken_section_keeps_its_last_good_version_and_only_that() {
    let good = parse(&[
        ("mapRoles", &role("Node", "nodes")),
        (
            "mapUsers",
            "- {userarn: arn:aws:iam::444455556666:user/kim, username: kim}",
        ),
    ]);
    let (before, stale) = good.in_force(None, OnParseError::KeepLastGood);
    assert!(stale.is_empty());
    let bad = parse(&[
        ("mapRoles", "- rolearn: x\n   username: y\n"),
        ("mapUsers", "[]"),
        ("mapAccounts", "- '111122223333'"),
    ]);
    let (after, stale) = bad
        .clone()
        .in_force(Some(&before), OnParseError::KeepLastGood);
    assert_eq!(after.roles, before.roles);
    assert!(after.users.is_empty());
    assert_eq!(after.accounts.len(), 1);
    assert_eq!(stale.len(), 1);
    assert_eq!(stale[0].section, Section::MapRoles);
    assert_eq!(stale[0].in_force, InForce::LastGood);
    assert_eq!(stale[0].error.position.unwrap().line, 2);

    let (dropped, stale) = bad.in_force(Some(&before), OnParseError::DropSection);
    assert!(dropped.roles.is_empty());
    assert_eq!(stale[0].in_force, InForce::Nothing);
}

#[test]
fn a_section_that_is_gone_is_empty_and_not_stale() {
    let (before, _) =
        parse(&[("mapRoles", &role("Node", "nodes"))]).in_force(None, OnParseError::KeepLastGood);
    let (after, stale) = parse(&[]).in_force(Some(&before), OnParseError::KeepLastGood);
    assert!(after.is_empty());
    assert!(stale.is_empty());
}

#[test]
fn without_a_last_good_version_items_that_parse_alone_are_used() {
    let text = format!(
        "# head\n{}- rolearn: arn:aws:iam::444455556666:role/Bad\n   username: x\n{}",
        role("Node", "nodes"),
        role("Ops", "ops")
    );
    assert_eq!(salvaged(&text), ["0@2 nodes", "2@7 ops"]);
    let (entries, stale) = parse(&[("mapRoles", &text)]).in_force(None, OnParseError::KeepLastGood);
    assert_eq!(entries.roles.len(), 2);
    assert_eq!(stale[0].in_force, InForce::Salvaged);
}

#[test]
fn an_item_shadowed_by_a_broken_one_is_not_salvaged() {
    let text = format!(
        "{}{}- rolearn: arn:aws:iam::444455556666:role/OPS\n   username: x\n",
        role("Ops", "system:masters"),
        role("Dev", "devs")
    );
    assert_eq!(salvaged(&text), ["1@4 devs"]);
}

#[test]
fn permission_sets_patterns_and_accounts_are_not_salvaged() {
    let text = "- {sso: {permissionSetName: A, accountID: '444455556666'}, username: 'a:{{SessionNameRaw}}', groups: [g]}\n\
                - {roleMatch: {accountID: '444455556666', name: 'team-*'}, username: '{{RoleName}}', groups: [g]}\n\
                - {{{\n";
    assert!(salvaged(text).is_empty());
    let accounts = parse(&[("mapAccounts", "- '444455556666'\n- {{{\n")]);
    let (entries, stale) = accounts.in_force(None, OnParseError::KeepLastGood);
    assert!(entries.is_empty());
    assert_eq!(stale.len(), 1);
}

#[test]
fn findings_of_a_manifest_count_its_lines() {
    let manifest = "kind: ConfigMap\ndata:\n  note: |\n    x\n  mapRoles: |\n    - rolearn: nobody\n      username: x\n    - rolearn: arn:aws:iam::444455556666:role/Ops\n      username: 'ops'\n";
    let map = ConfigMap::parse_manifest(manifest, &MappingOptions::default()).unwrap();
    let lines: Vec<_> = map
        .findings
        .iter()
        .map(|finding| (finding.code.id(), finding.line.unwrap()))
        .collect();
    assert_eq!(lines, [("invalid_arn", 6), ("shared_username", 9)]);
    let SectionResult::Parsed(entries) = map.roles else {
        panic!("broken");
    };
    assert_eq!(entries[1].rule.position.unwrap().line, 8);
}

#[test]
fn a_manifest_without_data_is_empty_and_one_that_is_no_object_is_refused() {
    let options = MappingOptions::default();
    assert!(ConfigMap::parse_manifest("kind: ConfigMap\n", &options).is_ok());
    assert!(ConfigMap::parse_manifest("kind: ConfigMap\ndata:\n", &options).is_ok());
    assert!(ConfigMap::parse_manifest("- a\n", &options).is_err());
    assert!(ConfigMap::parse_manifest("data: [a]\n", &options).is_err());
    assert!(ConfigMap::parse_manifest("data: {{{", &options).is_err());
}

#[test]
fn a_text_larger_than_the_object_can_be_is_broken() {
    let text = "#".repeat((1 << 20) + 1);
    let map = parse(&[("mapRoles", &text), ("mapAccounts", &text)]);
    assert!(map.roles.error().unwrap().message.contains("1 MiB"));
    assert!(map.accounts.error().is_some());
}

#[test]
fn too_many_entries_break_a_section() {
    let text = "- a\n".repeat(20_001);
    let map = parse(&[("mapRoles", &text), ("mapAccounts", &text)]);
    assert!(map.roles.error().unwrap().message.contains("20000"));
    assert!(map.accounts.error().is_some());
    let (entries, _) = map.in_force(None, OnParseError::KeepLastGood);
    assert!(entries.is_empty());
}

#[test]
fn findings_are_bounded() {
    let text = "- a\n".repeat(20_000);
    let map = parse(&[("mapRoles", &text), ("mapUsers", &text)]);
    assert!(map.roles.error().is_none());
    assert_eq!(map.findings.len(), 1000 + 1);
    let more = map
        .findings
        .iter()
        .find(|finding| finding.code == Code::MoreFindings)
        .unwrap();
    assert!(more.message.starts_with("39000 more"), "{more}");
}

#[test]
fn aliases_cannot_multiply_a_text_without_end() {
    let mut text = String::from("- &g\n  groups: &l [");
    for n in 0..2000 {
        write!(text, "g{n},").unwrap();
    }
    text.push_str("]\n  rolearn: arn:aws:iam::444455556666:role/A\n");
    for n in 0..5000 {
        writeln!(
            text,
            "- {{rolearn: 'arn:aws:iam::444455556666:role/{n}', groups: *l}}"
        )
        .unwrap();
    }
    let error = parse(&[("mapRoles", &text)]);
    assert!(
        error.roles.error().unwrap().message.contains("aliases"),
        "{:?}",
        error.roles.error()
    );
}

#[test]
fn merges_of_merges_end() {
    let mut text =
        String::from("- &a0 {rolearn: 'arn:aws:iam::444455556666:role/A', username: a}\n");
    for n in 1..60 {
        let before = n - 1;
        let list = vec![format!("*a{before}"); 40].join(", ");
        writeln!(text, "- &a{n} {{<<: [{list}]}}").unwrap();
    }
    // Whatever comes out, it comes out.
    let map = parse(&[("mapRoles", &text)]);
    assert!(map.roles.error().is_some());
}

#[test]
fn a_billion_laughs_is_no_joke_but_cheap() {
    let mut text = String::from("- &a0 lol\n");
    for n in 1..30 {
        let before = n - 1;
        let list = vec![format!("*a{before}"); 10].join(", ");
        writeln!(text, "- &a{n} [{list}]").unwrap();
    }
    let map = parse(&[("mapRoles", &text)]);
    let SectionResult::Parsed(entries) = map.roles else {
        panic!("broken");
    };
    assert!(entries.is_empty());
}

#[test]
fn a_line_of_bare_variables_is_read_once() {
    // Quadratic work would take minutes here.
    let text = format!("- [{}", "{{a}}x,".repeat(140_000));
    assert!(parse(&[("mapRoles", &text)]).roles.error().is_some());
}

#[test]
fn deep_nesting_breaks_a_section() {
    for text in ["[".repeat(5000), "- ".repeat(5000), "{a: ".repeat(5000)] {
        assert!(
            parse(&[("mapRoles", &format!("- {text}"))])
                .roles
                .error()
                .is_some()
        );
    }
}

#[test]
fn findings_are_written_as_json_with_stable_names() {
    let map = parse(&[("mapRoles", "- rolearn: nobody\n  username: x\n")]);
    assert_eq!(
        serde_json::to_value(&map.findings[0]).unwrap(),
        serde_json::json!({
            "severity": "error",
            "code": "invalid_arn",
            "message": "`nobody` is not the ARN of a role or user; it matches nobody",
            "section": "mapRoles",
            "entry": 0,
            "line": 1,
            "column": 12,
            "hint": "write `arn:<partition>:iam::<12 digits>:role/<name>` or `…:user/<name>`",
        })
    );
    assert_eq!(
        map.findings[0].to_string(),
        "error: mapRoles[0] line 1:12: `nobody` is not the ARN of a role or user; it matches nobody [invalid_arn]"
    );
}

#[test]
fn what_a_review_of_edits_refuses() {
    let refused: Vec<_> = Code::ALL
        .iter()
        .filter(|code| code.refused_at_admission())
        .map(|code| code.id())
        .collect();
    assert_eq!(
        refused,
        [
            "section_broken",
            "missing_principal",
            "ambiguous_principal",
            "invalid_account",
            "wildcard_in_arn",
            "duplicate_arn",
            "unknown_variable"
        ]
    );
}

#[test]
fn codes_are_unique() {
    let mut ids: Vec<_> = Code::ALL.iter().map(|code| code.id()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), Code::ALL.len());
}

//! Entry points for fuzzing; none may panic.

use std::collections::BTreeMap;

use crate::config_map::{ConfigMap, SectionResult};
use crate::options::MappingOptions;
use crate::{BackendKind, BackendModes, Entry, MappingTable, Template, dynamic_file, mounted_file};

/// The text of a section, under all three keys. A group that comes out stands literally in the text.
pub fn config_map(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let options = MappingOptions::default();
    let keys = ["mapRoles", "mapUsers", "mapAccounts"];
    let map: BTreeMap<String, String> = keys
        .into_iter()
        .map(|key| (key.to_owned(), text.to_owned()))
        .collect();
    let map = ConfigMap::parse(&map, &options);
    for section in [&map.roles, &map.users] {
        let (SectionResult::Parsed(entries)
        | SectionResult::Broken {
            salvaged: entries, ..
        }) = section;
        for entry in entries {
            assert_groups_stand_in(text, entry);
        }
    }
    let (entries, _) = map.in_force(None, crate::OnParseError::KeepLastGood);
    let _ = MappingTable::new(BackendKind::EksConfigMap, entries, &options);
    let _ = ConfigMap::parse_manifest(text, &options);
    let _ = mounted_file::parse(text, &options);
}

/// The text of a dynamic file, and of a backend mode file.
pub fn dynamic_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for strict in [false, true] {
        let options = MappingOptions {
            dynamic_file_user_id_strict: strict,
            ..MappingOptions::default()
        };
        if let Ok(file) = dynamic_file::parse(text, &options) {
            for entry in file.entries.roles.iter().chain(&file.entries.users) {
                assert!(!strict || entry.conditions.user_id.is_some());
            }
            let _ = MappingTable::new(BackendKind::DynamicFile, file.entries, &options);
        }
    }
    let _ = BackendModes::parse_file(text);
}

/// A template: compiling keeps the text, and a text without variables renders to itself.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let template = Template::new(text);
    assert_eq!(template.as_str(), text);
    assert!(text.starts_with(template.literal_prefix()));
    let variables: usize = template
        .variables()
        .map(|variable| variable.to_string().len())
        .sum();
    assert!(variables <= text.len());
    let unknown = template.unknown_variables().count();
    assert!(unknown <= text.len() / 4);
}

/// Compares without white space, because YAML folds lines. Texts with escapes are left out: these spell a group in
/// other characters by design.
fn assert_groups_stand_in(text: &str, entry: &Entry) {
    if text.contains('\\') || text.contains("''") {
        return;
    }
    let squeeze = |t: &str| t.split_whitespace().collect::<String>();
    let text = squeeze(text);
    for group in &entry.groups {
        assert!(
            text.contains(&squeeze(group.as_str())),
            "group {group} is not in the text"
        );
    }
}

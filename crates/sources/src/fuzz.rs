//! Entry points for fuzzing what reads outside bytes. They must never panic.

use std::collections::BTreeMap;

use countersign_mapping::{MappingOptions, OnParseError};

use crate::section::AwsAuthSections;
use crate::state_file::Remembered;

/// Takes arbitrary texts as versions of `aws-auth`, one after the other, and what is remembered of them.
pub fn aws_auth_versions(data: &[u8]) {
    let options = MappingOptions::default();
    let mut sections = AwsAuthSections::default();
    for text in String::from_utf8_lossy(data).split('\u{c}').take(4) {
        let version: BTreeMap<String, String> = ["mapRoles", "mapUsers", "mapAccounts"]
            .into_iter()
            .zip(text.split('\u{b}'))
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .collect();
        sections.apply(Some(&version), &options, OnParseError::KeepLastGood);
        let mut restored = AwsAuthSections::default();
        restored.restore(sections.last_good_texts(), &options);
    }
}

/// Reads arbitrary bytes as the file of remembered rules.
pub fn remembered(data: &[u8]) {
    let _ = serde_json::from_slice::<Remembered>(data);
}

/// Reads arbitrary bytes as the metadata of an object.
pub fn annotations(data: &[u8]) {
    if let Some(object) = crate::kubernetes::annotated_object(data, "iam.amazonaws.com/") {
        assert!(!object.uid.is_empty() && object.annotations.len() <= 64);
    }
}

/// Writes a status over an arbitrary one.
pub fn object_status(data: &[u8]) {
    if let Ok(current) = serde_json::from_slice(data) {
        assert!(crate::kubernetes::status::over(current));
    }
}

/// Reads arbitrary bytes as a file of manifests, and indexes what was in it.
pub fn manifests(data: &[u8]) {
    crate::rbac::fuzz(data);
}

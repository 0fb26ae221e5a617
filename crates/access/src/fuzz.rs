//! Entry points for fuzzing; none may panic.

use std::collections::BTreeMap;

use countersign_rbac::review::{AccessReview, ParsedSelectors};
use jiff::Timestamp;

use crate::caller::{ASSERTION, AssertionKey, Delegated, UserInfo, assertion, principal_of};
use crate::projection::{ProjectedEntry, project};
use crate::{
    AccessFile, AccessRules, Catalogue, CompiledPolicies, DerivedRules, EntryRequest, EntryType,
    EntryView, FileOptions, Limits, PolicyArn, check_entry, check_scope,
};

/// Files of custom policies and access rules: read, compiled, asked and projected.
pub fn file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for iam_is_known in [false, true] {
        let options = FileOptions {
            iam_is_known,
            ..FileOptions::default()
        };
        match AccessFile::parse("fuzz.yaml", text, &options) {
            Ok(file) => read(file),
            Err(errors) => {
                assert!(!errors.is_empty() && errors.len() <= 100);
                let one_line = |error: &crate::FileError| !error.to_string().contains('\n');
                assert!(errors.iter().all(one_line));
            }
        }
    }
}

fn read(file: AccessFile) {
    for rule in &file.rules {
        let groups = rule.groups.iter().chain(&rule.username);
        // No rule gives what Kubernetes trusts.
        assert!(!groups.into_iter().any(|name| name.starts_with("system:")));
    }
    let Ok(catalogue) = Catalogue::new(file.policies, DerivedRules::On) else {
        return;
    };
    let rules = AccessRules::new(file.rules, &catalogue).unwrap_or_default();
    let policies = CompiledPolicies::new(catalogue);
    let action = countersign_rbac::Action::NonResource {
        verb: "get",
        path: "/metrics",
    };
    for rule in rules.iter() {
        let entry = EntryView {
            principal_arn: "arn:aws:iam::111122223333:role/r",
            principal_id: "AROA",
            entry_type: EntryType::Standard,
            associations: rule.associations(),
        };
        let decision = policies.authorize(&entry, &action);
        let _ = decision.to_string();
        let id = rule.id();
        let projected = ProjectedEntry {
            uuid: &id,
            principal_arn: "",
            entry_type: EntryType::Standard,
            associations: rule.associations(),
        };
        for object in project([projected], &policies, None, &["a"]).unwrap_or_default() {
            assert!(countersign_rbac::validate(&object).is_empty());
        }
    }
}

/// Reviews and what they say about their caller: with the key the right assertion is believed, and no other.
pub fn caller(data: &[u8]) {
    let Ok(review) = AccessReview::from_json(data) else {
        return;
    };
    let selectors = ParsedSelectors::of(&review);
    let _ = review.action(&selectors);
    let key = AssertionKey::new([3; 32]);
    let now = Timestamp::UNIX_EPOCH;
    let mut extra: BTreeMap<String, Vec<String>> = review.spec.extra.clone();
    let ask = |extra: &BTreeMap<String, Vec<String>>, delegated| {
        let user = UserInfo {
            username: &review.spec.user,
            uid: &review.spec.uid,
            extra,
        };
        principal_of(&user, "c1", || Some(key.clone()), now, delegated).map(str::to_owned)
    };
    let strict = ask(&extra, Delegated::Refuse);
    let asserted = ask(&extra, Delegated::Assertion);
    // Nobody who fuzzes has the key.
    assert_eq!(strict.is_ok(), asserted.is_ok());
    if let Ok(id) = ask(&extra, Delegated::Trust) {
        let arn = match extra.get("arn").map(Vec::as_slice) {
            Some([arn]) => arn.clone(),
            _ => String::new(),
        };
        let made = assertion(&key, "c1", &id, &arn, &review.spec.user, now);
        extra.insert(ASSERTION.to_owned(), vec![made]);
        assert_eq!(ask(&extra, Delegated::Assertion), Ok(id));
    }
}

/// The values of entries and associations, one a line: principal, type, username, group, policy ARN, namespace.
pub fn values(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (principal_arn, entry_type, username) = (next(), next(), next());
    let groups = [next()];
    let (policy, namespace) = (next(), next());
    let Some(account) = countersign_arn::AccountId::from_number(111_122_223_333) else {
        return;
    };
    let request = EntryRequest {
        principal_arn,
        entry_type: Some(entry_type).filter(|text| !text.is_empty()),
        groups: Some(&groups),
        username: Some(username),
        cluster_account: account,
        partition: countersign_arn::Partition::Aws,
    };
    match check_entry(&request, &Limits::default()) {
        Ok(entry) => {
            let facts = crate::UsernameFacts {
                session_name: "system:x",
                ..crate::UsernameFacts::default()
            };
            // Whoever chooses the session name cannot choose a reserved username.
            let expanded = crate::expand_username(username, entry.entry_type, &facts);
            assert!(expanded.is_ok_and(|name| crate::entry::reserved_prefix(&name).is_none()));
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
    if let Ok(arn) = PolicyArn::parse(policy, countersign_arn::Partition::Aws) {
        assert_eq!(arn.to_string(), policy);
    }
    let _ = check_scope("namespace", &[namespace], &Limits::default());
}

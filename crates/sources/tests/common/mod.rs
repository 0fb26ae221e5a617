//! Callers and rules for tests.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests; not every test file uses all of them"
)]

pub mod api_server;

use std::sync::Arc;

use countersign_arn::CallerIdentity;
use countersign_mapping::{BackendKind, MappingDecision, RenderInputs};
use countersign_sources::{Mappings, MappingsOptions, SourceHealth, SourceKind};
use jiff::Timestamp;

pub const START: &str = "2026-01-02T03:04:05Z";

pub fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = START.parse().unwrap();
    start + jiff::SignedDuration::from_secs(seconds)
}

pub fn mappings(backends: &[BackendKind]) -> Arc<Mappings> {
    Mappings::new(backends, MappingsOptions::default())
}

/// The username that a session of `role` gets, if any.
pub fn username(mappings: &Mappings, role: &str) -> Option<String> {
    let arn = format!("arn:aws:sts::444455556666:assumed-role/{role}/ana");
    let user_id = "AROAEXAMPLEEXAMPLE123:ana";
    let caller =
        CallerIdentity::new(&arn, "444455556666", user_id, "AKIA1", "sts.amazonaws.com").unwrap();
    let state = mappings.load();
    match state.chain.map(&caller) {
        MappingDecision::Mapped(mapped) => {
            let identity = mapped.render(&caller, RenderInputs::default());
            Some(identity.unwrap().username)
        }
        MappingDecision::AccountAllowed(account) => Some(account.render(&caller).username),
        MappingDecision::Denied(_) => None,
    }
}

pub fn source(mappings: &Mappings, source: impl Into<SourceKind>) -> SourceHealth {
    let source = source.into();
    let health = mappings.health();
    let found = health.sources.into_iter().find(|s| s.source == source);
    found.unwrap()
}

/// A list of role entries as YAML.
pub fn roles(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| {
            format!(
                "- rolearn: arn:aws:iam::444455556666:role/{name}\n  username: user-of-{name}\n  groups: [ops]\n"
            )
        })
        .collect()
}

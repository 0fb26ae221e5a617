//! Entry points for fuzzing; none may panic.

use crate::kubeconfig::{Entries, merge};
use crate::profile::Profiles;
use crate::query::Query;
use crate::yaml::{self, Node};
use crate::{Environment, ini};

/// A shared configuration file, and the profiles in it.
pub fn shared_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(sections) = ini::parse(text) else {
        return;
    };
    let env = Environment::default();
    if let Ok(profiles) = Profiles::new(sections.clone(), sections, &env, None) {
        let _ = crate::credentials::plan(&env, &profiles);
        let _ = profiles.selected().service_endpoint("sts");
        let _ = crate::endpoint::Endpoint::resolve(
            crate::endpoint::Service::Sts,
            "eu-west-1",
            &env,
            &profiles.selected(),
        );
    }
}

/// A kubeconfig into which entries are merged: what comes out has them, and everything else as before.
pub fn kubeconfig(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let entry = |kind: &str, value: &str| {
        Node::mapping([
            (kind, Node::mapping([("server", Node::string(value))])),
            ("name", Node::string("fuzz")),
        ])
    };
    let entries = Entries {
        cluster: entry("cluster", "https://x:1"),
        user: entry("user", "- # :"),
        context: entry("context", ""),
    };
    if let Ok(merged) = merge(text, &entries) {
        // Merging again changes nothing: the entries are found where they were put.
        assert_eq!(merge(&merged, &entries).as_deref(), Ok(merged.as_str()));
        let tree = yaml::parse(&merged);
        assert!(tree.is_ok_and(|t| t.get("current-context").and_then(Node::text) == Some("fuzz")));
    }
}

/// An expression of `--query`.
pub fn query(data: &[u8]) {
    if let Ok(query) = std::str::from_utf8(data).map(Query::parse)
        && let Ok(query) = query
    {
        let _ = query.apply(&serde_json::json!({"status": {"token": "x"}}));
    }
}

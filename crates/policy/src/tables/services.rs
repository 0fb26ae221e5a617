//! Actions and resource types of the services we serve (policy language spec, appendix A), and the prefixes of all services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use super::api::api_actions;

/// One service.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTable {
    /// Actions by name.
    pub actions: BTreeMap<String, ActionInfo>,
    /// Resource types by name.
    pub resource_types: BTreeMap<String, ResourceType>,
}

/// One action.
#[derive(Debug, Clone, Deserialize)]
pub struct ActionInfo {
    /// Access levels: `List`, `Read`, `Write`, `Tagging`, `Permissions management`.
    pub level: Vec<String>,
    /// Names of resource types, a `*` behind the required ones. Empty: the action has no resource and is granted on `*` only.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Condition keys that the action defines.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// One resource type.
#[derive(Debug, Clone, Deserialize)]
pub struct ResourceType {
    /// The form of its ARNs, with `${Placeholders}`.
    pub arn: String,
    /// Condition keys that resources of this type define.
    #[serde(default)]
    pub keys: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    services: BTreeMap<String, ServiceTable>,
}

#[derive(Deserialize)]
struct Prefixes {
    prefixes: Vec<String>,
}

static SERVICES: LazyLock<BTreeMap<String, ServiceTable>> = LazyLock::new(|| {
    serde_json::from_str::<File>(include_str!("../../data/service-actions.json"))
        .map(|file| file.services)
        .unwrap_or_default()
});

static KNOWN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let more: Vec<String> =
        serde_json::from_str::<Prefixes>(include_str!("../../data/service-prefixes.json"))
            .map(|file| file.prefixes)
            .unwrap_or_default();
    api_actions()
        .service_prefixes()
        .map(str::to_owned)
        .chain(more)
        .chain(SERVICES.keys().cloned())
        .collect()
});

/// The services whose every action is known, by prefix.
#[must_use]
pub fn services() -> &'static BTreeMap<String, ServiceTable> {
    &SERVICES
}

/// The table of one service, by prefix in any case.
#[must_use]
pub fn service(prefix: &str) -> Option<&'static ServiceTable> {
    SERVICES
        .get(prefix)
        .or_else(|| SERVICES.get(&prefix.to_ascii_lowercase()))
}

/// Whether any service has this action prefix.
#[must_use]
pub fn is_known_service(prefix: &str) -> bool {
    KNOWN.contains(&prefix.to_ascii_lowercase())
}

/// All known action prefixes, in order.
pub fn known_services() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(String::as_str)
}

impl ServiceTable {
    /// An action by name in any case, with its name as AWS writes it.
    #[must_use]
    pub fn action(&self, name: &str) -> Option<(&str, &ActionInfo)> {
        self.actions
            .get_key_value(name)
            .or_else(|| {
                self.actions
                    .iter()
                    .find(|(known, _)| known.eq_ignore_ascii_case(name))
            })
            .map(|(name, info)| (&**name, info))
    }
}

impl ActionInfo {
    /// Whether the action has no resource, so that only `Resource: "*"` grants it.
    #[must_use]
    pub fn is_wildcard_only(&self) -> bool {
        self.resources.is_empty()
    }

    /// Its resource types, without the mark of the required ones.
    pub fn resource_types(&self) -> impl Iterator<Item = &str> {
        self.resources
            .iter()
            .map(|name| name.strip_suffix('*').unwrap_or(name))
    }
}

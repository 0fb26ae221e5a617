//! Which IAM actions an API operation needs.
//!
//! Operations are named `ServiceId.Operation`, as in the AWS SDKs. Most need the action of the same name; the file lists those that
//! do not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

/// The tables of `data/api-actions.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiActions {
    services: BTreeMap<String, ApiService>,
    no_iam: BTreeMap<String, String>,
    permissionless: BTreeSet<String>,
    by_http_method: BTreeMap<String, String>,
    exceptions: BTreeMap<String, Vec<String>>,
    inferred: BTreeMap<String, Vec<String>>,
    unlisted: BTreeSet<String>,
    also: BTreeMap<String, Vec<String>>,
    dependent: BTreeMap<String, Vec<String>>,
    cloudtrail_source: BTreeMap<String, String>,
    cloudtrail_event: BTreeMap<String, BTreeMap<String, String>>,
}

/// One service of the SDKs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiService {
    /// The name of its API model.
    pub model: String,
    /// The prefix of its actions.
    pub iam: String,
    /// The first label of its endpoints.
    #[serde(default)]
    pub endpoint_prefix: Option<String>,
    /// The prefix of `X-Amz-Target`, for JSON protocols.
    #[serde(default)]
    pub target_prefix: Option<String>,
    /// `json`, `query`, `rest-json`, `rest-xml`, `ec2`, ...
    #[serde(default)]
    pub protocol: Option<String>,
}

/// What calling an operation takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needs {
    /// These actions.
    Actions(Vec<String>),
    /// No permission.
    Nothing,
    /// The service does not use IAM; what it uses instead.
    OtherCredentials(String),
    /// One action per HTTP method: `prefix:GET`, `prefix:POST`, ...
    ActionPerHttpMethod(String),
    /// Nobody knows the service.
    Unknown,
}

static API: LazyLock<ApiActions> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../data/api-actions.json")).unwrap_or_else(|_| {
        ApiActions {
            services: BTreeMap::new(),
            no_iam: BTreeMap::new(),
            permissionless: BTreeSet::new(),
            by_http_method: BTreeMap::new(),
            exceptions: BTreeMap::new(),
            inferred: BTreeMap::new(),
            unlisted: BTreeSet::new(),
            also: BTreeMap::new(),
            dependent: BTreeMap::new(),
            cloudtrail_source: BTreeMap::new(),
            cloudtrail_event: BTreeMap::new(),
        }
    })
});

/// The tables, read on first use.
#[must_use]
pub fn api_actions() -> &'static ApiActions {
    &API
}

impl ApiActions {
    /// The services of the SDKs by their id (`EC2`, `Secrets Manager`).
    #[must_use]
    pub fn services(&self) -> &BTreeMap<String, ApiService> {
        &self.services
    }

    /// What `operation` of the service with this id needs.
    #[must_use]
    pub fn needs(&self, service_id: &str, operation: &str) -> Needs {
        if let Some(instead) = self.no_iam.get(service_id) {
            return Needs::OtherCredentials(instead.clone());
        }
        let name = format!("{service_id}.{operation}");
        if self.permissionless.contains(&name) {
            return Needs::Nothing;
        }
        if let Some(prefix) = self.by_http_method.get(service_id) {
            return Needs::ActionPerHttpMethod(prefix.clone());
        }
        if let Some(actions) = self.exceptions.get(&name).or(self.inferred.get(&name)) {
            return Needs::Actions(actions.clone());
        }
        match self.services.get(service_id) {
            Some(service) => Needs::Actions(vec![format!("{}:{operation}", service.iam)]),
            None => Needs::Unknown,
        }
    }

    /// Whether the operation's action was derived from its name and is in no published list.
    #[must_use]
    pub fn is_guess(&self, service_id: &str, operation: &str) -> bool {
        let name = format!("{service_id}.{operation}");
        self.unlisted.contains(&name) || self.inferred.contains_key(&name)
    }

    /// Actions that the operation may need besides, depending on its parameters.
    #[must_use]
    pub fn also(&self, service_id: &str, operation: &str) -> &[String] {
        self.also
            .get(&format!("{service_id}.{operation}"))
            .map_or(&[], Vec::as_slice)
    }

    /// Actions that a service performs with the caller's permissions when this action is used.
    #[must_use]
    pub fn dependent(&self, action: &str) -> &[String] {
        self.dependent.get(action).map_or(&[], Vec::as_slice)
    }

    /// The action prefix behind an event source of CloudTrail, and the event's API name.
    #[must_use]
    pub fn from_cloudtrail<'s>(&'s self, source: &'s str, event: &'s str) -> (&'s str, &'s str) {
        let prefix = self.cloudtrail_source.get(source).map_or_else(
            || source.split_once('.').map_or(source, |(prefix, _)| prefix),
            String::as_str,
        );
        let name = self
            .cloudtrail_event
            .get(source)
            .and_then(|events| events.get(event))
            .map_or(event, String::as_str);
        (prefix, name)
    }

    /// Every action prefix that the file names.
    pub fn service_prefixes(&self) -> impl Iterator<Item = &str> {
        let actions = self
            .exceptions
            .values()
            .chain(self.inferred.values())
            .chain(self.also.values())
            .chain(self.dependent.values())
            .flatten()
            .chain(self.dependent.keys());
        self.services
            .values()
            .map(|service| &*service.iam)
            .chain(actions.filter_map(|action| action.split_once(':').map(|(prefix, _)| prefix)))
            .chain(self.cloudtrail_source.values().map(String::as_str))
    }
}

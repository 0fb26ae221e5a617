//! What an association says of the sessions of its pods beyond what EKS knows (Pod Identity spec, section 9), as the EKS API has it
//! on the wire. Only Countersign's own server has any of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The members; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionSettings {
    /// How sessions are called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_name_template: Option<String>,
    /// Which of the six tags sessions have; all without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_tags: Option<Vec<String>>,
    /// Tags beside the six: constants, or `{label:KEY}` of the pod.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_session_tags: BTreeMap<String, String>,
    /// How long sessions last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u32>,
}

impl SessionSettings {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether sessions have this one of the six tags, where tags are not disabled.
    #[must_use]
    pub fn has_tag(&self, key: &str) -> bool {
        let tags = self.session_tags.as_ref();
        tags.is_none_or(|tags| tags.iter().any(|tag| tag == key))
    }

    /// The members for a new association.
    #[must_use]
    pub fn members(&self) -> Map<String, Value> {
        Self::default().changes(self)
    }

    /// The members of an update that makes these settings those `after`: what is taken away is empty.
    #[must_use]
    pub fn changes(&self, after: &Self) -> Map<String, Value> {
        let mut members = Map::new();
        let mut member = |name: &str, is_changed: bool, value: Value| {
            if is_changed {
                members.insert(name.to_owned(), value);
            }
        };
        member(
            "sessionNameTemplate",
            self.session_name_template != after.session_name_template,
            json!(after.session_name_template.as_deref().unwrap_or_default()),
        );
        member(
            "sessionTags",
            self.session_tags != after.session_tags,
            json!(after.session_tags.as_deref().unwrap_or_default()),
        );
        member(
            "extraSessionTags",
            self.extra_session_tags != after.extra_session_tags,
            json!(after.extra_session_tags),
        );
        member(
            "durationSeconds",
            self.duration_seconds != after.duration_seconds,
            json!(after.duration_seconds.unwrap_or_default()),
        );
        members
    }

    /// What `countersign pods associate` is told to make them, one flag or value each.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        let mut flag = |name: &str, value: String| flags.extend([name.to_owned(), value]);
        if let Some(template) = &self.session_name_template {
            flag("--session-name-template", template.clone());
        }
        if let Some(tags) = &self.session_tags {
            flag("--session-tags", tags.join(","));
        }
        for (key, value) in &self.extra_session_tags {
            flag("--extra-session-tag", format!("{key}={value}"));
        }
        if let Some(seconds) = self.duration_seconds {
            flag("--duration-seconds", seconds.to_string());
        }
        flags
    }

    /// The settings in words, each behind a comma.
    #[must_use]
    pub fn detail(&self) -> String {
        let mut text = String::new();
        if let Some(template) = &self.session_name_template {
            text.push_str(&format!(", sessions named {template}"));
        }
        if let Some(tags) = &self.session_tags {
            text.push_str(&format!(", tags {}", tags.join(" ")));
        }
        for (key, value) in &self.extra_session_tags {
            text.push_str(&format!(", tag {key}={value}"));
        }
        if let Some(seconds) = self.duration_seconds {
            text.push_str(&format!(", for {seconds} s"));
        }
        text
    }
}

/// Whether a name of an association is the beginning of names and `*`.
#[must_use]
pub fn is_pattern(name: &str) -> bool {
    name.ends_with('*')
}

//! The resources a cluster serves: scopes, verbs, short names, subresources (RBAC spec, sections 3.1 and 12).
//!
//! The authorizer itself knows none of this; it compares words. Commands need it, since a RoleBinding cannot grant what
//! lives outside namespaces, and people write `po` for `pods`.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use serde::Deserialize;

use crate::request::{Action, ResourceAction};

/// Where the objects of a resource live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Outside namespaces.
    Cluster,
    /// In namespaces.
    Namespaced,
}

/// One served resource.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// API group; empty is the core group.
    pub group: String,
    /// Plural name.
    #[serde(rename = "resource")]
    pub name: String,
    /// Kind of its objects.
    pub kind: String,
    /// Singular name.
    #[serde(default)]
    pub singular: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Verbs that discovery lists.
    #[serde(default)]
    pub verbs: Vec<String>,
    /// Short names, such as `po`.
    #[serde(default)]
    pub short_names: Vec<String>,
    /// Subresources with their verbs.
    #[serde(default)]
    pub subresources: BTreeMap<String, Vec<String>>,
}

/// A set of served resources.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    resources: Vec<Resource>,
    /// Places of resources by plural name.
    by_name: HashMap<String, Vec<usize>>,
    special_verbs: Vec<SpecialVerb>,
}

#[derive(Debug, Clone, Deserialize)]
struct SpecialVerb {
    verb: String,
    group: String,
    resources: Vec<String>,
}

/// An action as the API server would see it, and whether that took a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled<'a> {
    /// The action to decide on.
    pub action: Action<'a>,
    /// The namespace that was asked with a resource that has none.
    pub dropped_namespace: Option<&'a str>,
}

impl Catalog {
    /// The resources of kube-apiserver 1.36.
    pub fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Catalog> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            #[derive(Deserialize)]
            #[serde(rename_all = "camelCase")]
            struct File {
                resources: Vec<Resource>,
                special_verbs: Vec<SpecialVerb>,
            }
            let file = include_str!("../data/resources-1.36.json");
            // The file is part of the program and read by a test, so that it cannot fail here.
            let Ok(file) = serde_json::from_str::<File>(file) else {
                return Self::default();
            };
            let mut catalog = Self {
                special_verbs: file.special_verbs,
                ..Self::default()
            };
            catalog.extend(file.resources);
            catalog
        })
    }

    /// Adds resources, such as those of custom resource definitions or of discovery. One that is there already is
    /// replaced.
    pub fn extend(&mut self, resources: impl IntoIterator<Item = Resource>) {
        for resource in resources {
            let places = self.by_name.entry(resource.name.clone()).or_default();
            let same = places.iter().copied().find(|place| {
                let there = self.resources.get(*place);
                there.is_some_and(|there| there.group == resource.group)
            });
            match same.and_then(|place| self.resources.get_mut(place)) {
                Some(there) => *there = resource,
                None => {
                    places.push(self.resources.len());
                    self.resources.push(resource);
                }
            }
        }
    }

    /// All resources.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// The resource of this group and plural name.
    pub fn get(&self, group: &str, name: &str) -> Option<&Resource> {
        let places = self.by_name.get(name)?;
        let mut resources = places.iter().filter_map(|place| self.resources.get(*place));
        resources.find(|resource| resource.group == group)
    }

    /// Where the objects of a resource live, if the resource is known. `*` and unknown resources have no scope.
    pub fn scope(&self, group: &str, resource: &str) -> Option<Scope> {
        let found = self.get(group, resource)?;
        Some(if found.namespaced {
            Scope::Namespaced
        } else {
            Scope::Cluster
        })
    }

    /// The resources that a word may mean, as people write them: plural, singular, short name or kind, with any case
    /// for the kind, and optionally `.group`. The core group comes first, then groups by name.
    pub fn find(&self, word: &str) -> Vec<&Resource> {
        let named = |word: &str, group: Option<&str>| {
            let lower = word.to_ascii_lowercase();
            let matches = move |resource: &&Resource| {
                group.is_none_or(|group| resource.group == group)
                    && (resource.name == lower
                        || resource.singular == lower
                        || resource.short_names.contains(&lower)
                        || resource.kind.eq_ignore_ascii_case(&lower))
            };
            let mut found: Vec<&Resource> = self.resources.iter().filter(matches).collect();
            found.sort_by(|a, b| (&a.group, &a.name).cmp(&(&b.group, &b.name)));
            found
        };
        let whole = named(word, None);
        match word.split_once('.') {
            Some((resource, group)) if whole.is_empty() => named(resource, Some(group)),
            _ => whole,
        }
    }

    /// Whether a verb makes sense on a resource, or `None` if the resource is unknown. Besides the verbs of discovery
    /// there are those that the API server only asks authorizers for, such as `bind` and `impersonate`.
    pub fn serves(
        &self,
        verb: &str,
        group: &str,
        resource: &str,
        subresource: &str,
    ) -> Option<bool> {
        let special = self.special_verbs.iter().any(|special| {
            let with_subresource = format!("{resource}/{subresource}");
            let resources = &special.resources;
            let on = resources
                .iter()
                .any(|entry| match entry.strip_suffix("/*") {
                    Some(entry) => entry == resource && !subresource.is_empty(),
                    None if subresource.is_empty() => entry == resource,
                    None => *entry == with_subresource,
                });
            special.verb == verb && special.group == group && on
        });
        if special || verb.starts_with("impersonate-on:") {
            return Some(true);
        }
        let found = self.get(group, resource)?;
        let verbs = if subresource.is_empty() {
            &found.verbs
        } else {
            found.subresources.get(subresource)?
        };
        Some(verbs.iter().any(|served| served == verb))
    }

    /// Gives the action the namespace that a real request would have: none for a resource that lives outside
    /// namespaces, since otherwise a RoleBinding would answer a question that no request asks. `namespaces` itself is
    /// the exception: the path of a named namespace sets both, so that the namespace is the name.
    pub fn settle<'a>(&self, action: Action<'a>) -> Settled<'a> {
        let unchanged = Settled {
            action,
            dropped_namespace: None,
        };
        let Action::Resource(resource) = action else {
            return unchanged;
        };
        let namespace = if resource.group.is_empty() && resource.resource == "namespaces" {
            resource.name
        } else if self.scope(resource.group, resource.resource) == Some(Scope::Cluster) {
            ""
        } else {
            return unchanged;
        };
        let dropped = Some(resource.namespace).filter(|n| !n.is_empty() && *n != namespace);
        Settled {
            action: Action::Resource(ResourceAction {
                namespace,
                ..resource
            }),
            dropped_namespace: dropped,
        }
    }
}

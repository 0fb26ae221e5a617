//! What a person asks for, as the API server would see it: `RESOURCE[.GROUP][/SUBRESOURCE][/NAME]`, or a path that begins
//! with `/` (access review spec, B.1; RBAC spec, sections 2 and 3.1).

use std::fmt;

use countersign_rbac::{Action, Catalog, ResourceAction, Scope};
use serde::Serialize;

/// Longest part of a question; Kubernetes names have at most 253 characters.
const MAX_PART: usize = 1024;

/// Verbs that authorizers are asked for; others get a note, never a refusal.
const VERBS: [&str; 18] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "impersonate",
    "escalate",
    "bind",
    "approve",
    "sign",
    "use",
    "attest",
    "proxy",
    "manage",
    "*",
];

/// Subresources that custom resources have as well.
const COMMON_SUBRESOURCES: [&str; 2] = ["status", "scale"];

/// A question, owned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The verb.
    pub verb: String,
    /// API group; empty is the core group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Plural resource; empty for a path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Subresource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// Object name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace; empty at the cluster scope and for all namespaces.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The path, for what is no resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Whether it is asked in all namespaces at once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all_namespaces: bool,
    /// What a person should know about how the question was read.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// The words of a question.
#[derive(Debug, Clone, Copy, Default)]
pub struct Words<'a> {
    /// The verb.
    pub verb: &'a str,
    /// `RESOURCE[.GROUP][/SUBRESOURCE][/NAME]` or a path.
    pub resource: &'a str,
    /// A subresource that is named by itself.
    pub subresource: Option<&'a str>,
    /// A name that is named by itself.
    pub name: Option<&'a str>,
    /// The namespace that was asked for.
    pub namespace: Option<&'a str>,
    /// The namespace when none is asked for: that of the context.
    pub default_namespace: &'a str,
    /// In all namespaces.
    pub all_namespaces: bool,
}

/// A question that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskFault {
    /// No verb.
    #[error("the verb is empty")]
    NoVerb,
    /// No resource.
    #[error(
        "the resource is empty: expected RESOURCE[.GROUP][/SUBRESOURCE][/NAME], or a path that begins with `/`"
    )]
    NoResource,
    /// Something longer than any name.
    #[error("a part of the question has more than {MAX_PART} bytes")]
    TooLong,
    /// `a/b/c/d`
    #[error("`{0}` has too many parts: expected RESOURCE[.GROUP][/SUBRESOURCE][/NAME]")]
    TooManyParts(String),
    /// A path has neither subresource nor name.
    #[error("`--subresource` and `--name` cannot be used with a path")]
    PathWithParts,
    /// Two subresources.
    #[error(
        "the resource names the subresource `{in_resource}`, and `--subresource` says `{flag}`"
    )]
    TwoSubresources {
        /// In the resource.
        in_resource: String,
        /// In the option.
        flag: String,
    },
    /// Two names.
    #[error("the resource has the name `{in_resource}`, and `--name` says `{flag}`")]
    TwoNames {
        /// In the resource.
        in_resource: String,
        /// In the option.
        flag: String,
    },
}

impl Asked {
    /// Reads the words with the help of what clusters serve.
    ///
    /// A word that names no known resource is asked as it is typed, with a note: the cluster may serve it. A namespace is
    /// dropped for what lives outside of namespaces, since no real request has one there.
    ///
    /// # Errors
    /// When there is no verb or resource, or two things are said of one part.
    pub fn read(words: &Words<'_>, catalog: &Catalog) -> Result<Self, AskFault> {
        let parts = [
            words.verb,
            words.resource,
            words.subresource.unwrap_or_default(),
            words.name.unwrap_or_default(),
            words.namespace.unwrap_or_default(),
        ];
        if parts.iter().any(|part| part.len() > MAX_PART) {
            return Err(AskFault::TooLong);
        }
        if words.verb.is_empty() {
            return Err(AskFault::NoVerb);
        }
        if words.resource.starts_with('/') {
            return Self::of_path(words);
        }
        let mut asked = Self {
            verb: words.verb.to_owned(),
            ..Self::default()
        };
        let (word, rest) = match words.resource.split_once('/') {
            Some((word, rest)) => (word, Some(rest)),
            None => (words.resource, None),
        };
        if word.is_empty() {
            return Err(AskFault::NoResource);
        }
        asked.resolve(word, catalog);
        asked.parts(rest, words, catalog)?;
        asked.settle(words, catalog);
        asked.warn(catalog);
        Ok(asked)
    }

    /// As the authorizers take it.
    #[must_use]
    pub fn action(&self) -> Action<'_> {
        if !self.path.is_empty() {
            return Action::NonResource {
                verb: &self.verb,
                path: &self.path,
            };
        }
        Action::Resource(ResourceAction {
            verb: &self.verb,
            group: &self.group,
            resource: &self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            ..ResourceAction::default()
        })
    }

    /// `pods/log.metrics.k8s.io "x"` without verb and namespace.
    fn object(&self) -> String {
        if !self.path.is_empty() {
            return self.path.clone();
        }
        let mut text = self.resource.clone();
        if !self.group.is_empty() {
            text = format!("{text}.{}", self.group);
        }
        if !self.subresource.is_empty() {
            text = format!("{text}/{}", self.subresource);
        }
        if !self.name.is_empty() {
            text = format!("{text} \"{}\"", self.name);
        }
        text
    }

    /// `pods in namespace shop`, `nodes at the cluster scope`
    #[must_use]
    pub fn place(&self) -> String {
        let object = self.object();
        if !self.path.is_empty() {
            object
        } else if self.all_namespaces {
            format!("{object} in all namespaces")
        } else if self.namespace.is_empty() {
            format!("{object} at the cluster scope")
        } else {
            format!("{object} in namespace {}", self.namespace)
        }
    }

    fn of_path(words: &Words<'_>) -> Result<Self, AskFault> {
        if words.subresource.is_some() || words.name.is_some() {
            return Err(AskFault::PathWithParts);
        }
        let mut asked = Self {
            verb: words.verb.to_owned(),
            path: words.resource.to_owned(),
            ..Self::default()
        };
        if words.namespace.is_some() {
            asked
                .notes
                .push("a path has no namespace; the one that was given is ignored".to_owned());
        }
        Ok(asked)
    }

    fn resolve(&mut self, word: &str, catalog: &Catalog) {
        if let Some(resource) = catalog.find(word).first() {
            self.resource.clone_from(&resource.name);
            self.group.clone_from(&resource.group);
            return;
        }
        let (resource, group) = word.split_once('.').unwrap_or((word, ""));
        self.resource = resource.to_owned();
        self.group = group.to_owned();
        if resource != "*" {
            self.notes.push(format!(
                "`{word}` is no resource of Kubernetes itself; it is asked as it is typed"
            ));
        }
    }

    fn parts(
        &mut self,
        rest: Option<&str>,
        words: &Words<'_>,
        catalog: &Catalog,
    ) -> Result<(), AskFault> {
        let (mut subresource, mut name) = (None, None);
        if let Some(rest) = rest {
            let (first, second) = match rest.split_once('/') {
                Some((first, second)) => (first, Some(second)),
                None => (rest, None),
            };
            if second.is_some_and(|second| second.contains('/')) {
                return Err(AskFault::TooManyParts(words.resource.to_owned()));
            }
            match second {
                Some(second) => (subresource, name) = (Some(first), Some(second)),
                // With `--subresource`, what stands behind the slash can only be a name; with `--name`, a subresource.
                None if words.subresource.is_some() => name = Some(first),
                None if words.name.is_some() || self.has_subresource(first, catalog) => {
                    subresource = Some(first);
                }
                None => name = Some(first),
            }
        }
        match (subresource, words.subresource) {
            (Some(here), Some(flag)) if here != flag => {
                return Err(AskFault::TwoSubresources {
                    in_resource: here.to_owned(),
                    flag: flag.to_owned(),
                });
            }
            (here, flag) => self.subresource = here.or(flag).unwrap_or_default().to_owned(),
        }
        match (name, words.name) {
            (Some(here), Some(flag)) if here != flag => {
                return Err(AskFault::TwoNames {
                    in_resource: here.to_owned(),
                    flag: flag.to_owned(),
                });
            }
            (here, flag) => self.name = here.or(flag).unwrap_or_default().to_owned(),
        }
        Ok(())
    }

    fn has_subresource(&self, word: &str, catalog: &Catalog) -> bool {
        match catalog.get(&self.group, &self.resource) {
            Some(resource) => resource.subresources.contains_key(word),
            None => COMMON_SUBRESOURCES.contains(&word),
        }
    }

    fn settle(&mut self, words: &Words<'_>, catalog: &Catalog) {
        let asked = words.namespace.filter(|_| !words.all_namespaces);
        self.namespace = match asked {
            Some(namespace) => namespace.to_owned(),
            None if words.all_namespaces => String::new(),
            None => words.default_namespace.to_owned(),
        };
        let settled = catalog.settle(self.action());
        let namespace = match settled.action {
            Action::Resource(resource) => resource.namespace.to_owned(),
            Action::NonResource { .. } => String::new(),
        };
        if let (Some(dropped), Some(_)) = (settled.dropped_namespace, asked) {
            self.notes.push(format!(
                "{} live outside of namespaces: `{dropped}` is ignored",
                self.resource
            ));
        }
        self.namespace = namespace;
        let scope = catalog.scope(&self.group, &self.resource);
        self.all_namespaces =
            self.namespace.is_empty() && words.all_namespaces && scope != Some(Scope::Cluster);
    }

    fn warn(&mut self, catalog: &Catalog) {
        let known = VERBS.contains(&self.verb.as_str()) || self.verb.starts_with("impersonate");
        let served = catalog.serves(&self.verb, &self.group, &self.resource, &self.subresource);
        if !known {
            self.notes
                .push(format!("`{}` is not a known verb", self.verb));
        } else if served == Some(false) && self.verb != "*" {
            self.notes.push(format!(
                "the API server does not serve `{}` on {}",
                self.verb,
                self.object()
            ));
        }
    }
}

/// `list pods in namespace shop`
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.place())
    }
}

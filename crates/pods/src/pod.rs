//! The parts of a pod that the decision looks at. Everything else is skipped, and nothing is ever written back.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{Capped, Object, StringMap, Text};
use crate::webhook::MAX_CONTAINERS;

/// A pod as it stands in a review, borrowed.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Pod<'a> {
    /// The object's own word for what it is; the review's word comes first.
    #[serde(borrow)]
    pub(crate) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) metadata: Option<Object<Metadata<'a>>>,
    #[serde(borrow)]
    pub(crate) spec: Option<Object<Spec<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata<'a> {
    #[serde(borrow)]
    pub(crate) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) labels: Option<StringMap<'a>>,
    #[serde(borrow)]
    pub(crate) annotations: Option<StringMap<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec<'a> {
    #[serde(borrow)]
    pub(crate) service_account_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) node_selector: Option<StringMap<'a>>,
    #[serde(borrow)]
    pub(crate) affinity: Option<Object<Affinity<'a>>>,
    #[serde(borrow)]
    pub(crate) os: Option<Object<Os<'a>>>,
    pub(crate) security_context: Option<Object<SecurityContext>>,
    #[serde(borrow)]
    pub(crate) volumes: Option<Capped<Object<Volume<'a>>, MAX_CONTAINERS>>,
    #[serde(borrow)]
    pub(crate) init_containers: Option<Containers<'a>>,
    #[serde(borrow)]
    pub(crate) containers: Option<Containers<'a>>,
    #[serde(borrow)]
    pub(crate) ephemeral_containers: Option<Containers<'a>>,
}

/// A list of containers; with more than fit, the pod is refused.
pub(crate) type Containers<'a> = Capped<Object<Container<'a>>, MAX_CONTAINERS>;

// Where a name is asked for here, an API server always writes one. Items that may be empty would take up many times the
// room of their text.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) env: Option<Vec<Object<EnvVar<'a>>>>,
    #[serde(borrow)]
    pub(crate) volume_mounts: Option<Vec<Object<VolumeMount<'a>>>>,
}

/// A variable: only its name. Values, where secrets may stand, are never read.
#[derive(Debug, Deserialize)]
pub(crate) struct EnvVar<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeMount<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) mount_path: Text<'a>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Volume<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    projected: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecurityContext {
    pub(crate) fs_group: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Os<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Affinity<'a> {
    #[serde(borrow)]
    node_affinity: Option<Object<NodeAffinity<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeAffinity<'a> {
    #[serde(borrow, rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<Object<NodeSelectorTerms<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeSelectorTerms<'a> {
    #[serde(borrow)]
    node_selector_terms: Option<Capped<Object<Term<'a>>, 256>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Term<'a> {
    #[serde(borrow)]
    match_expressions: Option<Vec<Object<Expression<'a>>>>,
}

#[derive(Debug, Deserialize)]
struct Expression<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    operator: Text<'a>,
    #[serde(borrow)]
    values: Option<Capped<Text<'a>, 64>>,
}

#[derive(Deserialize)]
struct Projected<'a> {
    #[serde(borrow)]
    sources: Option<Capped<Object<ProjectedSource<'a>>, 64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProjectedSource<'a> {
    #[serde(borrow)]
    service_account_token: Option<Object<ServiceAccountToken<'a>>>,
    #[serde(borrow, rename = "downwardAPI")]
    downward_api: Option<Object<DownwardApi<'a>>>,
}

#[derive(Deserialize)]
struct DownwardApi<'a> {
    #[serde(borrow)]
    items: Option<Capped<Object<DownwardApiFile<'a>>, 64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DownwardApiFile<'a> {
    #[serde(borrow)]
    path: Option<Text<'a>>,
    #[serde(borrow)]
    field_ref: Option<Object<FieldRef<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FieldRef<'a> {
    #[serde(borrow)]
    field_path: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct ServiceAccountToken<'a> {
    #[serde(borrow)]
    audience: Option<Text<'a>>,
    #[serde(borrow)]
    path: Option<Text<'a>>,
}

// === impl Pod ===

impl<'a> Pod<'a> {
    pub(crate) fn spec(&self) -> Option<&Spec<'a>> {
        self.spec.as_ref().map(|spec| &spec.0)
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.metadata.as_ref()?.0.name.as_ref().map(Text::as_str)
    }

    pub(crate) fn labels(&self) -> Option<&StringMap<'a>> {
        self.metadata.as_ref()?.0.labels.as_ref()
    }

    pub(crate) fn annotations(&self) -> Option<&StringMap<'a>> {
        self.metadata.as_ref()?.0.annotations.as_ref()
    }
}

// === impl Spec ===

impl Spec<'_> {
    /// Containers of all three lists.
    pub(crate) fn container_count(&self) -> usize {
        let lists = [
            &self.init_containers,
            &self.containers,
            &self.ephemeral_containers,
        ];
        lists
            .into_iter()
            .flatten()
            .map(|list| list.items.len() + list.more)
            .sum()
    }

    pub(crate) fn volume_count(&self) -> usize {
        self.volumes
            .as_ref()
            .map_or(0, |list| list.items.len() + list.more)
    }

    /// `spec.os.name`, empty when absent.
    pub(crate) fn os_name(&self) -> &str {
        let name = self.os.as_ref().and_then(|os| os.0.name.as_ref());
        name.map(Text::as_str).unwrap_or_default()
    }

    /// Whether the pod can only be placed on nodes whose label `key` has a value that `matches` takes: by its node
    /// selector, or because each way its required node affinity leaves open says so.
    pub(crate) fn is_bound_to(&self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        let selected = self.node_selector.as_ref().and_then(|map| map.get(key));
        if selected.is_some_and(|value| matches(&value)) {
            return true;
        }
        let affinity = self.affinity.as_ref();
        let affinity = affinity.and_then(|affinity| affinity.0.node_affinity.as_ref());
        let required = affinity.and_then(|affinity| affinity.0.required.as_ref());
        let terms = required.and_then(|required| required.0.node_selector_terms.as_ref());
        let Some(terms) = terms else {
            return false;
        };
        let says_so = |expression: &Object<Expression<'_>>| {
            let Expression {
                key: asked,
                operator,
                values,
            } = &expression.0;
            let Some(values) = values else {
                return false;
            };
            asked.as_str() == key
                && operator.as_str() == "In"
                && !values.items.is_empty()
                && values.more == 0
                && values.items.iter().all(|value| matches(value.as_str()))
        };
        let mut expressions = terms
            .items
            .iter()
            .map(|term| term.0.match_expressions.as_ref());
        terms.more == 0
            && !terms.items.is_empty()
            && expressions.all(|list| list.is_some_and(|list| list.iter().any(says_so)))
    }
}

// === impl Volume ===

impl Volume<'_> {
    fn sources(&self) -> Vec<Object<ProjectedSource<'_>>> {
        let projected = self
            .projected
            .and_then(|raw| serde_json::from_str::<Object<Projected<'_>>>(raw.get()).ok());
        let sources = projected.and_then(|Object(projected)| projected.sources);
        sources.unwrap_or_default().items
    }

    /// Whether it is a projected volume with a service account token of this audience in this file.
    pub(crate) fn holds_token(&self, audience: &str, path: &str) -> bool {
        let sources = self.sources();
        let mut tokens = sources
            .iter()
            .filter_map(|source| source.0.service_account_token.as_ref());
        tokens.any(|Object(token)| is(&token.audience, audience) && is(&token.path, path))
    }

    /// Whether it is a projected volume with this field of the pod in this file.
    pub(crate) fn holds_field(&self, field: &str, path: &str) -> bool {
        let sources = self.sources();
        let files = sources.iter().filter_map(|source| {
            let Object(api) = source.0.downward_api.as_ref()?;
            Some(&api.items.as_ref()?.items)
        });
        files.flatten().any(|Object(file)| {
            let field_path = file.field_ref.as_ref().map(|field| &field.0.field_path);
            is(&file.path, path) && field_path.is_some_and(|text| is(text, field))
        })
    }
}

fn is(text: &Option<Text<'_>>, wanted: &str) -> bool {
    text.as_ref().is_some_and(|text| text.as_str() == wanted)
}

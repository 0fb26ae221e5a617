//! The objects that every API server creates for itself (RBAC spec, section 9).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::object::{AggregationRule, Metadata, Object, PolicyRule, RBAC_GROUP, RoleRef};
use crate::read::{Manifest, ManifestSubject};

/// The version of Kubernetes whose default objects are built in.
pub const KUBERNETES_VERSION: &str = "1.36.2";
const ORIGIN: &str = "Kubernetes 1.36 defaults";

/// The default objects of Kubernetes 1.36 with default feature gates: ClusterRoles and their bindings, those of the
/// controllers, and the Roles and RoleBindings of `kube-system` and `kube-public`.
pub fn default_objects() -> &'static [Object] {
    static OBJECTS: OnceLock<Vec<Object>> = OnceLock::new();
    OBJECTS.get_or_init(|| {
        let file = include_str!("../data/bootstrap-1.36.json");
        // The file is part of the program and read by a test, so that it cannot fail here.
        let file: File = serde_json::from_str(file).unwrap_or_default();
        let sets = [
            ("ClusterRole", file.cluster_roles),
            ("ClusterRole", file.controller_cluster_roles),
            ("ClusterRoleBinding", file.cluster_role_bindings),
            ("ClusterRoleBinding", file.controller_cluster_role_bindings),
            ("Role", file.namespace_roles),
            ("RoleBinding", file.namespace_role_bindings),
        ];
        let entries = sets
            .into_iter()
            .flat_map(|(kind, entries)| entries.into_iter().map(move |entry| (kind, entry)));
        entries
            .filter_map(|(kind, entry)| entry.into_object(kind))
            .collect()
    })
}

/// Whether an object of this kind, namespace and name is one of the defaults.
pub fn is_default(kind: &str, namespace: &str, name: &str) -> bool {
    default_objects().iter().any(|object| {
        let metadata = object.metadata();
        object.kind() == kind && metadata.namespace == namespace && metadata.name == name
    })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    cluster_roles: Vec<Entry>,
    controller_cluster_roles: Vec<Entry>,
    cluster_role_bindings: Vec<Entry>,
    controller_cluster_role_bindings: Vec<Entry>,
    namespace_roles: Vec<Entry>,
    namespace_role_bindings: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    aggregation_rule: Option<AggregationRule>,
    rules: Option<Vec<PolicyRule>>,
    role_ref: Option<RoleRef>,
    subjects: Option<Vec<ManifestSubject>>,
}

impl Entry {
    fn into_object(self, kind: &str) -> Option<Object> {
        let mut metadata = Metadata {
            name: self.name,
            namespace: self.namespace,
            labels: self.labels,
            ..Metadata::default()
        };
        let label = ("kubernetes.io/bootstrapping", "rbac-defaults");
        metadata.labels.insert(label.0.into(), label.1.into());
        let annotation = ("rbac.authorization.kubernetes.io/autoupdate", "true");
        let annotations = &mut metadata.annotations;
        annotations.insert(annotation.0.into(), annotation.1.into());
        let manifest = Manifest {
            api_version: format!("{RBAC_GROUP}/v1"),
            kind: kind.to_owned(),
            metadata,
            aggregation_rule: self.aggregation_rule,
            rules: self.rules,
            role_ref: self.role_ref,
            subjects: self.subjects,
        };
        let mut object = Object::try_from(manifest).ok()?;
        object.set_origin(ORIGIN);
        Some(object)
    }
}

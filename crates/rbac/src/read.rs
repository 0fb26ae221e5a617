//! From manifests and dumps to [`Object`]s.
//!
//! JSON is read here, whole lists at once. For YAML deserialize each document into [`Manifest`] with the reader of
//! your choice: all fields are typed as strings, so that a YAML reader never turns a name like `012` or `no` into
//! something else.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::object::{
    AggregationRule, Binding, BindingKind, Metadata, Object, PolicyRule, RBAC_GROUP, Role,
    RoleKind, RoleRef, Subject, null_is_default,
};

/// Larger single objects are refused. The API server stores at most about 1.5 MiB and accepts requests of 3 MiB.
pub const MAX_OBJECT_BYTES: usize = 3 << 20;
/// Lists may contain lists this deep.
const MAX_LIST_DEPTH: usize = 4;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What was read: the objects, and what could not be read. A caller that decides on the objects while there are
/// problems must mark the index incomplete with [`Index::mark_unread`](crate::Index::mark_unread).
#[derive(Debug, Default)]
pub struct Read {
    /// RBAC objects in the order of the input.
    pub objects: Vec<Object>,
    /// What was refused, and where.
    pub problems: Vec<Problem>,
    /// Documents and list items of other kinds, which were passed over.
    pub ignored: usize,
}

/// One document or list item that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{location}: {cause}")]
pub struct Problem {
    /// Where, for example `items[7]`.
    pub location: String,
    /// Why.
    pub cause: ReadError,
}

/// Why an object was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Not JSON, or a field has the wrong type.
    #[error("not a readable object: {0}")]
    Malformed(String),
    /// See [`MAX_OBJECT_BYTES`].
    #[error("the object has {bytes} bytes, more than {MAX_OBJECT_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Lists in lists in lists.
    #[error("lists are nested more than {MAX_LIST_DEPTH} deep")]
    TooDeep,
    /// RBAC kinds of an API version nobody ever served.
    #[error("unknown version `{0}` of the RBAC API; v1, v1beta1 and v1alpha1 are read")]
    UnknownVersion(String),
    /// The RBAC group has four kinds only.
    #[error("unknown kind `{0}` of the RBAC API")]
    UnknownKind(String),
    /// `metadata.name` is missing or empty.
    #[error("`metadata.name` is missing")]
    NoName,
}

/// Kind and version of any object; what is needed to tell whether it is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TypeMeta {
    /// For example `rbac.authorization.k8s.io/v1`.
    #[serde(deserialize_with = "null_is_default")]
    pub api_version: String,
    /// For example `RoleBinding`.
    #[serde(deserialize_with = "null_is_default")]
    pub kind: String,
}

impl TypeMeta {
    /// Whether the object is of the RBAC API group.
    pub fn is_rbac(&self) -> bool {
        self.api_version
            .split_once('/')
            .is_some_and(|(group, _)| group == RBAC_GROUP)
    }

    /// The kind of the items, if this is a list (`List`, `RoleList` ...): `Some("")` when each item tells itself.
    fn list_of(&self) -> Option<&str> {
        if self.kind == "List" && self.api_version == "v1" {
            return Some("");
        }
        self.kind.strip_suffix("List").filter(|_| self.is_rbac())
    }
}

/// An RBAC object of any kind as it is written in manifests, for serde formats of all sorts. Check [`TypeMeta`] first:
/// objects of other APIs have fields of these names and other types.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    /// For example `rbac.authorization.k8s.io/v1`.
    #[serde(deserialize_with = "null_is_default")]
    pub api_version: String,
    /// One of the four kinds.
    #[serde(deserialize_with = "null_is_default")]
    pub kind: String,
    /// Name, namespace, labels.
    #[serde(deserialize_with = "null_is_default")]
    pub metadata: Metadata,
    /// Of ClusterRoles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation_rule: Option<AggregationRule>,
    /// Of roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<PolicyRule>>,
    /// Of bindings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_ref: Option<RoleRef>,
    /// Of bindings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subjects: Option<Vec<ManifestSubject>>,
}

/// A subject as written; `v1alpha1` had `apiVersion` where later versions have `apiGroup`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestSubject {
    /// See [`Subject::kind`].
    #[serde(deserialize_with = "null_is_default")]
    pub kind: String,
    /// See [`Subject::api_group`].
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub api_group: String,
    /// Only in `v1alpha1`.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub api_version: String,
    /// See [`Subject::name`].
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// See [`Subject::namespace`].
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub namespace: String,
}

impl TryFrom<Manifest> for Object {
    type Error = ReadError;

    fn try_from(manifest: Manifest) -> Result<Self, ReadError> {
        let alpha = match manifest.api_version.strip_prefix(RBAC_GROUP) {
            Some("/v1" | "/v1beta1") => false,
            Some("/v1alpha1") => true,
            _ => return Err(ReadError::UnknownVersion(manifest.api_version)),
        };
        if manifest.metadata.name.is_empty() {
            return Err(ReadError::NoName);
        }
        let mut metadata = manifest.metadata;
        metadata.annotations.remove(LAST_APPLIED);
        let role = |kind, metadata, rules: Option<Vec<PolicyRule>>, aggregation| {
            Self::Role(Role {
                kind,
                metadata,
                rules: rules
                    .unwrap_or_default()
                    .into_iter()
                    .map(Arc::new)
                    .collect(),
                aggregation,
                origin: None,
            })
        };
        let binding =
            |kind, metadata, role_ref: Option<RoleRef>, subjects: Option<Vec<ManifestSubject>>| {
                let mut role_ref = role_ref.unwrap_or_default();
                if role_ref.api_group.is_empty() {
                    RBAC_GROUP.clone_into(&mut role_ref.api_group);
                }
                let subjects = subjects.unwrap_or_default();
                Self::Binding(Binding {
                    kind,
                    metadata,
                    role_ref,
                    subjects: subjects.into_iter().map(|s| s.settle(alpha)).collect(),
                    origin: None,
                })
            };
        let mut object = match manifest.kind.as_str() {
            "Role" => role(RoleKind::Role, metadata, manifest.rules, None),
            "ClusterRole" => role(
                RoleKind::ClusterRole,
                metadata,
                manifest.rules,
                manifest.aggregation_rule,
            ),
            "RoleBinding" => binding(
                BindingKind::RoleBinding,
                metadata,
                manifest.role_ref,
                manifest.subjects,
            ),
            "ClusterRoleBinding" => binding(
                BindingKind::ClusterRoleBinding,
                metadata,
                manifest.role_ref,
                manifest.subjects,
            ),
            _ => return Err(ReadError::UnknownKind(manifest.kind)),
        };
        object.settle_namespace("");
        Ok(object)
    }
}

impl ManifestSubject {
    /// Applies the defaults of the API server, and the meaning that `v1alpha1` gave to the user `*`.
    fn settle(self, alpha: bool) -> Subject {
        if alpha && self.kind == "User" && self.name == "*" {
            return Subject::group(crate::object::AUTHENTICATED);
        }
        let mut api_group = self.api_group;
        if api_group.is_empty() && matches!(self.kind.as_str(), "User" | "Group") {
            RBAC_GROUP.clone_into(&mut api_group);
        }
        Subject {
            kind: self.kind,
            api_group,
            name: self.name,
            namespace: self.namespace,
        }
    }
}

impl From<&Subject> for ManifestSubject {
    fn from(subject: &Subject) -> Self {
        Self {
            kind: subject.kind.clone(),
            api_group: subject.api_group.clone(),
            api_version: String::new(),
            name: subject.name.clone(),
            namespace: subject.namespace.clone(),
        }
    }
}

impl From<&Object> for Manifest {
    fn from(object: &Object) -> Self {
        let mut manifest = Self {
            api_version: format!("{RBAC_GROUP}/v1"),
            kind: object.kind().to_owned(),
            metadata: object.metadata().clone(),
            ..Self::default()
        };
        match object {
            Object::Role(role) => {
                manifest.rules = Some(role.rules.iter().map(|rule| (**rule).clone()).collect());
                manifest.aggregation_rule.clone_from(&role.aggregation);
            }
            Object::Binding(binding) => {
                manifest.role_ref = Some(binding.role_ref.clone());
                manifest.subjects = Some(binding.subjects.iter().map(Into::into).collect());
            }
        }
        manifest
    }
}

/// Reads one JSON document: an RBAC object, a list of them (`List`, or a typed list as the API server answers), or
/// anything else, which is ignored. One bad item does not hide the others.
pub fn read_json(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(document) => read.document(document, &TypeMeta::default(), "document", 0),
        Err(error) => read.refuse("document", ReadError::Malformed(error.to_string())),
    }
    read
}

impl Read {
    fn document(&mut self, raw: &RawValue, inherited: &TypeMeta, location: &str, depth: usize) {
        // Structures would also be read from lists, field by field, which no other reader of manifests does.
        if !raw.get().trim_start().starts_with('{') {
            let cause = ReadError::Malformed("not a JSON object".to_owned());
            return self.refuse(location, cause);
        }
        let meta = match serde_json::from_str::<TypeMeta>(raw.get()) {
            Ok(meta) if meta.kind.is_empty() => inherited.clone(),
            Ok(meta) => meta,
            Err(error) => {
                return self.refuse(location, ReadError::Malformed(error.to_string()));
            }
        };
        if let Some(kind) = meta.list_of() {
            let inherited = TypeMeta {
                api_version: if kind.is_empty() {
                    String::new()
                } else {
                    meta.api_version.clone()
                },
                kind: kind.to_owned(),
            };
            return self.items(raw, &inherited, location, depth);
        }
        if !meta.is_rbac() {
            self.ignored += 1;
            return;
        }
        match read_object(raw.get(), &meta) {
            Ok(object) => self.objects.push(object),
            Err(cause) => self.refuse(location, cause),
        }
    }

    fn items(&mut self, raw: &RawValue, inherited: &TypeMeta, location: &str, depth: usize) {
        #[derive(Deserialize)]
        struct List<'a> {
            #[serde(borrow, default)]
            items: Option<Vec<&'a RawValue>>,
        }
        if depth >= MAX_LIST_DEPTH {
            return self.refuse(location, ReadError::TooDeep);
        }
        match serde_json::from_str::<List<'_>>(raw.get()) {
            Ok(list) => {
                for (index, item) in list.items.unwrap_or_default().into_iter().enumerate() {
                    let location = if depth == 0 {
                        format!("items[{index}]")
                    } else {
                        format!("{location}.items[{index}]")
                    };
                    self.document(item, inherited, &location, depth + 1);
                }
            }
            Err(error) => self.refuse(location, ReadError::Malformed(error.to_string())),
        }
    }

    fn refuse(&mut self, location: &str, cause: ReadError) {
        self.problems.push(Problem {
            location: location.to_owned(),
            cause,
        });
    }
}

fn read_object(json: &str, meta: &TypeMeta) -> Result<Object, ReadError> {
    if json.len() > MAX_OBJECT_BYTES {
        return Err(ReadError::TooLarge { bytes: json.len() });
    }
    let mut manifest: Manifest =
        serde_json::from_str(json).map_err(|error| ReadError::Malformed(error.to_string()))?;
    manifest.api_version.clone_from(&meta.api_version);
    manifest.kind.clone_from(&meta.kind);
    manifest.try_into()
}

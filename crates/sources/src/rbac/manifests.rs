//! Roles and bindings from manifests and dumps.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use countersign_rbac::{
    Index, Manifest, Object, Read as ReadObjects, Resource, TypeMeta, Unread, default_objects,
    read_json,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::gzip::{gunzip, is_gzip};
use super::yaml::{Content, Node, documents};

/// Largest file, compressed or not, and all of them together.
const MAX_FILE: usize = 128 << 20;
const MAX_TOTAL: usize = 512 << 20;
/// Most files, and how deep directories are looked into.
const MAX_FILES: usize = 20_000;
const MAX_DEPTH: usize = 32;
/// Problems that are kept; the rest is counted.
const MAX_PROBLEMS: usize = 1000;
/// Lists may contain lists this deep.
const MAX_LIST_DEPTH: usize = 4;

/// What was read of manifests: RBAC objects, and what else matters for reading questions about them.
#[derive(Debug, Default)]
pub struct Manifests {
    /// Roles and bindings in the order of the input, each with its file and line.
    pub objects: Vec<Object>,
    /// What could not be read.
    pub problems: Vec<ManifestProblem>,
    /// Resources of CustomResourceDefinitions.
    pub resources: Vec<Resource>,
    /// Names of Namespaces.
    pub namespaces: BTreeSet<String>,
    /// Documents and list items of other kinds.
    pub ignored: usize,
    /// Problems beyond those that are kept.
    pub more_problems: usize,
    bytes: usize,
    files: usize,
}

/// A part of a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestProblem {
    /// The file, or `standard input`.
    pub file: String,
    /// The line at which the document or item begins, or where it breaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
}

/// `shop.yaml:61: metadata.name is missing`
impl fmt::Display for ManifestProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A path that cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadPathError {
    /// The system says so.
    #[error("could not read `{path}`")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// More than is read.
    #[error("`{path}` has more than {} MiB", MAX_FILE >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// More than is read.
    #[error("more than {MAX_FILES} files or {} MiB: name fewer", MAX_TOTAL >> 20)]
    TooMuch,
    /// Directories in directories, or a circle of them.
    #[error("`{path}` is more than {MAX_DEPTH} directories deep")]
    TooDeep {
        /// The directory.
        path: PathBuf,
    },
    /// Compressed and damaged.
    #[error("`{path}`: {reason}")]
    Gzip {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Manifests {
    /// Reads a file, or every `.yaml`, `.yml`, `.json` and `.gz` file of a directory and the directories in it, by name.
    ///
    /// Problems inside of files are kept, not returned: what is sound counts. Blocks on the file system.
    ///
    /// # Errors
    /// When the path cannot be read, or holds more than is read.
    pub fn read_path(&mut self, path: &Path) -> Result<(), ReadPathError> {
        let failed = |source| ReadPathError::Io {
            path: path.to_owned(),
            source,
        };
        if std::fs::metadata(path).map_err(failed)?.is_dir() {
            let mut files = Vec::new();
            find(path, 0, &mut files)?;
            for file in files {
                self.read_file(&file)?;
            }
            return Ok(());
        }
        self.read_file(path)
    }

    /// Reads an open stream, such as standard input, named `name` in origins and problems.
    ///
    /// # Errors
    /// When it cannot be read, or is too large.
    pub fn read_stream(&mut self, name: &str, stream: impl Read) -> Result<(), ReadPathError> {
        let bytes = bounded(Path::new(name), stream)?;
        self.take(Path::new(name), &bytes)
    }

    /// Reads the content of a file: YAML documents, or JSON. Lists of any kind are taken apart.
    pub fn read_bytes(&mut self, name: &str, bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return self.problem(name, None, "not UTF-8");
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim_start().starts_with('{') {
            self.read_json_text(name, text);
        } else {
            self.read_yaml_text(name, text);
        }
    }

    /// An index of what was read. With `defaults`, the objects that every API server makes for itself are there too, unless
    /// the input has them. Objects without a namespace get `default_namespace`, as `kubectl apply` gives it.
    ///
    /// What could not be read is marked, and makes every "no" incomplete.
    #[must_use]
    pub fn index(self, defaults: bool, default_namespace: &str) -> Index {
        let base = if defaults { default_objects() } else { &[] };
        let read = self.objects.into_iter().map(|mut object| {
            object.settle_namespace(default_namespace);
            object
        });
        // Of two objects of one key the later holds.
        let (mut index, refused) = Index::build(base.iter().cloned().chain(read));
        let mut mark = |reason: String| {
            index.mark_unread(Unread {
                namespace: None,
                reason: reason.into(),
            });
        };
        for problem in &self.problems {
            mark(problem.to_string());
        }
        if self.more_problems > 0 {
            mark(format!("{} more problems in manifests", self.more_problems));
        }
        for refused in refused {
            mark(refused.to_string());
        }
        index
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ReadPathError> {
        let file = File::open(path).map_err(|source| ReadPathError::Io {
            path: path.to_owned(),
            source,
        })?;
        let bytes = bounded(path, file)?;
        self.take(path, &bytes)
    }

    fn take(&mut self, path: &Path, bytes: &[u8]) -> Result<(), ReadPathError> {
        let unpacked = if is_gzip(bytes) {
            let content = gunzip(bytes, MAX_FILE).map_err(|reason| ReadPathError::Gzip {
                path: path.to_owned(),
                reason,
            })?;
            Some(content)
        } else {
            None
        };
        let bytes = unpacked.as_deref().unwrap_or(bytes);
        self.files += 1;
        self.bytes += bytes.len();
        if self.files > MAX_FILES || self.bytes > MAX_TOTAL {
            return Err(ReadPathError::TooMuch);
        }
        self.read_bytes(&path.display().to_string(), bytes);
        Ok(())
    }

    fn read_json_text(&mut self, name: &str, text: &str) {
        let documents = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        for document in documents {
            match document {
                Ok(document) => self.read_json_document(name, document.get()),
                Err(error) => {
                    let line = u32::try_from(error.line()).ok().filter(|line| *line > 0);
                    return self.problem(name, line, &error.to_string());
                }
            }
        }
    }

    fn read_json_document(&mut self, name: &str, json: &str) {
        let ReadObjects {
            objects,
            problems,
            ignored,
        } = read_json(json.as_bytes());
        for mut object in objects {
            object.set_origin(name);
            self.objects.push(object);
        }
        for problem in problems {
            self.problem(name, None, &problem.to_string());
        }
        if ignored == 0 {
            return;
        }
        self.ignored += ignored;
        // The reader of RBAC objects passes over what else a dump has.
        let one = serde_json::from_str::<Other>(json).ok();
        let items = serde_json::from_str::<Others>(json).ok();
        let items = items.map(|list| list.items).unwrap_or_default();
        let items = items
            .iter()
            .filter_map(|raw| serde_json::from_str(raw.get()).ok());
        for other in one.into_iter().chain(items) {
            self.other(other);
        }
    }

    fn read_yaml_text(&mut self, name: &str, text: &str) {
        for document in documents(text) {
            match document {
                Ok(node) => self.yaml_object(name, &node, &TypeMeta::default(), 0),
                Err(broken) => self.problem(name, Some(broken.line), &broken.message),
            }
        }
    }

    fn yaml_object(&mut self, name: &str, node: &Node, inherited: &TypeMeta, depth: usize) {
        if !matches!(node.content, Content::Map(_)) {
            return self.problem(
                name,
                Some(node.line),
                "not an object with `apiVersion` and `kind`",
            );
        }
        let mut meta = TypeMeta {
            api_version: node.text("apiVersion").to_owned(),
            kind: node.text("kind").to_owned(),
        };
        if meta.kind.is_empty() {
            meta = inherited.clone();
        }
        let items = match node.get("items").map(|items| &items.content) {
            Some(Content::List(items)) if meta.kind.ends_with("List") => items,
            _ => return self.yaml_item(name, node, meta),
        };
        if depth >= MAX_LIST_DEPTH {
            return self.problem(name, Some(node.line), "lists are nested too deep");
        }
        let inherited = match meta.kind.as_str() {
            "List" => TypeMeta::default(),
            kind => TypeMeta {
                kind: kind.strip_suffix("List").unwrap_or(kind).to_owned(),
                api_version: meta.api_version,
            },
        };
        for item in items {
            self.yaml_object(name, item, &inherited, depth + 1);
        }
    }

    fn yaml_item(&mut self, name: &str, node: &Node, meta: TypeMeta) {
        if meta.kind.is_empty() || meta.api_version.is_empty() {
            return self.problem(
                name,
                Some(node.line),
                "not an object with `apiVersion` and `kind`",
            );
        }
        if !meta.is_rbac() {
            self.ignored += 1;
            let interesting =
                matches!(meta.kind.as_str(), "Namespace" | "CustomResourceDefinition");
            if interesting && let Ok(other) = serde_json::from_value(node.to_json()) {
                self.other(other);
            }
            return;
        }
        let manifest = serde_json::from_value::<Manifest>(node.to_json())
            .map_err(|error| format!("not a readable object: {error}"))
            .and_then(|mut manifest| {
                manifest.api_version = meta.api_version;
                manifest.kind = meta.kind;
                Object::try_from(manifest).map_err(|error| error.to_string())
            });
        match manifest {
            Ok(mut object) => {
                object.set_origin(format!("{name}:{}", node.line));
                self.objects.push(object);
            }
            Err(error) => self.problem(name, Some(node.line), &error),
        }
    }

    fn other(&mut self, other: Other) {
        match other.kind.as_str() {
            "Namespace" if other.api_version == "v1" => {
                self.namespaces.insert(other.metadata.name);
            }
            "CustomResourceDefinition" => self.resources.extend(other.resource()),
            _ => {}
        }
    }

    fn problem(&mut self, file: &str, line: Option<u32>, message: &str) {
        if self.problems.len() >= MAX_PROBLEMS {
            self.more_problems += 1;
            return;
        }
        self.problems.push(ManifestProblem {
            file: file.to_owned(),
            line,
            message: message.chars().take(500).collect(),
        });
    }
}

/// Objects of other kinds, as far as they matter.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Other {
    api_version: String,
    kind: String,
    metadata: OtherMetadata,
    spec: CrdSpec,
}

#[derive(Deserialize)]
struct Others {
    items: Vec<Box<RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OtherMetadata {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CrdSpec {
    group: String,
    scope: String,
    names: CrdNames,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CrdNames {
    plural: String,
    singular: String,
    kind: String,
    short_names: Vec<String>,
}

impl Other {
    /// The resource that a CustomResourceDefinition makes.
    fn resource(self) -> Option<Resource> {
        let CrdSpec {
            group,
            scope,
            names,
        } = self.spec;
        if group.is_empty() || names.plural.is_empty() {
            return None;
        }
        let verbs = [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ];
        let status = ["get", "patch", "update"].map(str::to_owned).to_vec();
        let subresources = ["status", "scale"].map(|name| (name.to_owned(), status.clone()));
        Some(Resource {
            group,
            name: names.plural,
            kind: names.kind,
            singular: names.singular,
            namespaced: scope != "Cluster",
            verbs: verbs.map(str::to_owned).to_vec(),
            short_names: names.short_names,
            subresources: subresources.into_iter().collect(),
        })
    }
}

fn bounded(path: &Path, stream: impl Read) -> Result<Vec<u8>, ReadPathError> {
    let mut bytes = Vec::new();
    let mut stream = stream.take(MAX_FILE as u64 + 1);
    stream
        .read_to_end(&mut bytes)
        .map_err(|source| ReadPathError::Io {
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() > MAX_FILE {
        return Err(ReadPathError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

fn find(directory: &Path, depth: usize, into: &mut Vec<PathBuf>) -> Result<(), ReadPathError> {
    let failed = |source| ReadPathError::Io {
        path: directory.to_owned(),
        source,
    };
    if depth > MAX_DEPTH {
        return Err(ReadPathError::TooDeep {
            path: directory.to_owned(),
        });
    }
    let entries: Result<Vec<_>, _> = std::fs::read_dir(directory).map_err(failed)?.collect();
    let mut paths: Vec<PathBuf> = entries
        .map_err(failed)?
        .into_iter()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let kind = std::fs::metadata(&path).map_err(|source| ReadPathError::Io {
            path: path.clone(),
            source,
        })?;
        let extension = path.extension().and_then(|extension| extension.to_str());
        if hidden {
            continue;
        } else if kind.is_dir() {
            find(&path, depth + 1, into)?;
        } else if kind.is_file() && matches!(extension, Some("yaml" | "yml" | "json" | "gz")) {
            into.push(path);
        }
        if into.len() > MAX_FILES {
            return Err(ReadPathError::TooMuch);
        }
    }
    Ok(())
}

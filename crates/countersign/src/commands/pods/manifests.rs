//! Pods and service accounts from manifests: files, directories, standard input.

use std::io::{BufRead, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use crate::report::Failure;

/// Largest file, most files, and how deep directories are looked into.
const MAX_FILE: u64 = 16 << 20;
const MAX_FILES: usize = 5000;
const MAX_DEPTH: usize = 16;

/// Objects of manifests.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    objects: Vec<Value>,
    files: usize,
}

impl Manifests {
    pub(super) fn read(paths: &[PathBuf], stdin: &mut dyn BufRead) -> Result<Self, Failure> {
        let mut manifests = Self::default();
        for path in paths {
            if path == Path::new("-") {
                manifests.stream(path, stdin)?;
            } else {
                manifests.path(path, 0)?;
            }
        }
        Ok(manifests)
    }

    fn path(&mut self, path: &Path, depth: usize) -> Result<(), Failure> {
        let shown = path.display();
        let failed = |error: std::io::Error| {
            Failure::usage(anyhow::Error::new(error).context(format!("could not read `{shown}`")))
        };
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            return Err(Failure::usage(anyhow!(
                "`{shown}`: more than {MAX_FILES} files, or {MAX_DEPTH} directories deep"
            )));
        }
        if !std::fs::metadata(path).map_err(failed)?.is_dir() {
            self.files += 1;
            let mut file = std::io::BufReader::new(std::fs::File::open(path).map_err(failed)?);
            return self.stream(path, &mut file);
        }
        let entries = std::fs::read_dir(path).map_err(failed)?;
        let mut entries: Vec<PathBuf> = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        entries.sort();
        for entry in entries {
            let extension = entry.extension().and_then(|extension| extension.to_str());
            if entry.is_dir() || matches!(extension, Some("yaml" | "yml" | "json")) {
                self.path(&entry, depth + 1)?;
            }
        }
        Ok(())
    }

    fn stream(&mut self, path: &Path, stream: &mut dyn BufRead) -> Result<(), Failure> {
        let shown = path.display();
        let mut text = String::new();
        stream
            .take(MAX_FILE + 1)
            .read_to_string(&mut text)
            .with_context(|| format!("could not read `{shown}`"))
            .map_err(Failure::usage)?;
        if text.len() as u64 > MAX_FILE {
            return Err(Failure::usage(anyhow!(
                "`{shown}` has more than {} MiB",
                MAX_FILE >> 20
            )));
        }
        let documents: Vec<Value> = if text.trim_start().starts_with('{') {
            serde_json::from_str(&text)
                .map(|one| vec![one])
                .map_err(|error| Failure::usage(anyhow!("`{shown}`: {error}")))?
        } else {
            serde_saphyr::from_multiple(&text)
                .map_err(|error| Failure::usage(anyhow!("`{shown}`: {error}")))?
        };
        for document in documents {
            self.take(document);
        }
        Ok(())
    }

    fn take(&mut self, mut document: Value) {
        let is_list = document
            .get("kind")
            .and_then(Value::as_str)
            .is_some_and(|kind| kind.ends_with("List"));
        match document.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) if is_list => self.objects.extend(items),
            _ => self.objects.push(document),
        }
    }

    /// The pod of a name, else the template of a workload of that name as a pod.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        if let Some(pod) = self.find("Pod", namespace, name) {
            return Some(pod.clone());
        }
        let workload = [
            "Deployment",
            "StatefulSet",
            "DaemonSet",
            "Job",
            "ReplicaSet",
        ]
        .into_iter()
        .find_map(|kind| self.find(kind, namespace, name))?;
        let template = workload.pointer("/spec/template")?;
        let of_template = |name: &str| template.pointer(&format!("/metadata/{name}")).cloned();
        Some(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": namespace,
                "name": name,
                "labels": of_template("labels").unwrap_or_else(|| json!({})),
                "annotations": of_template("annotations").unwrap_or_else(|| json!({})),
            },
            "spec": template.get("spec")?,
        }))
    }

    pub(super) fn account(&self, namespace: &str, name: &str) -> Option<&Value> {
        self.find("ServiceAccount", namespace, name)
    }

    fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.iter().find(|object| {
            let text = |path: &str| object.pointer(path).and_then(Value::as_str);
            text("/kind") == Some(kind)
                && text("/metadata/name") == Some(name)
                && text("/metadata/namespace").unwrap_or("default") == namespace
        })
    }
}

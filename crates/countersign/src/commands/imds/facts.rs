//! What a cluster and an account look like: objects of the Kubernetes API or of a file, and answers of the AWS CLI in files.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use countersign_imds::checks::Agent;
use countersign_imds::network_policy::Meta;
use countersign_sources::kubernetes::{KubernetesAccess, list_objects};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::report::Failure;

/// Longest file that is read.
const MAX_FILE: u64 = 512 << 20;
const PATHS: [(&str, &str); 5] = [
    ("Namespace", "/api/v1/namespaces"),
    ("Pod", "/api/v1/pods"),
    ("ServiceAccount", "/api/v1/serviceaccounts"),
    ("DaemonSet", "/apis/apps/v1/daemonsets"),
    (
        "NetworkPolicy",
        "/apis/networking.k8s.io/v1/networkpolicies",
    ),
];

#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// The kubeconfig; the usual one if absent.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Objects in a file, in the place of a cluster: `kubectl get ns,pods,sa,ds,netpol -A -o json`.
    #[arg(long, value_name = "FILE", conflicts_with = "kubeconfig")]
    objects: Option<PathBuf>,
}

/// The objects of a cluster.
#[derive(Default)]
pub(super) struct Cluster {
    objects: Vec<(String, Value)>,
}

/// A pod, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Pod {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) spec: PodSpec,
    #[serde(default)]
    pub(super) status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub(super) service_account_name: Option<String>,
    pub(super) host_network: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodStatus {
    pub(super) phase: Option<String>,
}

impl Pod {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    pub(super) fn annotation(&self, key: &str) -> Option<String> {
        self.metadata.annotations.as_ref()?.get(key).cloned()
    }

    pub(super) fn account(&self) -> &str {
        self.spec
            .service_account_name
            .as_deref()
            .unwrap_or("default")
    }
}

impl Cluster {
    pub(super) fn read(args: &ClusterArgs) -> Result<Self, Failure> {
        if let Some(path) = &args.objects {
            #[derive(Deserialize)]
            struct List {
                items: Vec<Value>,
            }
            let list: List = json(path)?;
            let kind = |object: &Value| {
                let kind = object.get("kind").and_then(Value::as_str);
                kind.unwrap_or_default().to_owned()
            };
            let objects = list.items.into_iter().map(|object| (kind(&object), object));
            return Ok(Self {
                objects: objects.collect(),
            });
        }
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config"));
        let access = KubernetesAccess {
            kubeconfig: args
                .kubeconfig
                .clone()
                .or_else(|| home.filter(|path| path.is_file())),
            master: None,
        };
        countersign_server::install_crypto();
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(async {
                let client = access.client().await.map_err(|error| {
                    Failure::usage(error).hint("give --kubeconfig, or --objects with a file")
                })?;
                let mut cluster = Self::default();
                for (kind, path) in PATHS {
                    let listed = list_objects(&client, path)
                        .await
                        .map_err(|error| Failure::unknown(anyhow::anyhow!(error)))?;
                    let objects = listed.into_iter().map(|object| (kind.to_owned(), object));
                    cluster.objects.extend(objects);
                }
                Ok(cluster)
            })
    }

    /// All objects of a kind that can be read as such.
    pub(super) fn of<T: DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        self.objects
            .iter()
            .filter(|(of, _)| of == kind)
            .filter_map(|(_, object)| T::deserialize(object).ok())
            .collect()
    }

    /// All objects of a kind as they are.
    pub(super) fn raw(&self, kind: &'static str) -> impl Iterator<Item = &Value> {
        let all = self.objects.iter();
        all.filter(move |(of, _)| of == kind)
            .map(|(_, object)| object)
    }

    /// Names and annotations of the namespaces.
    pub(super) fn namespaces(&self) -> Vec<Meta> {
        #[derive(Deserialize)]
        struct Namespace {
            metadata: Meta,
        }
        let all: Vec<Namespace> = self.of("Namespace");
        all.into_iter()
            .map(|namespace| namespace.metadata)
            .collect()
    }

    /// DaemonSets that are kube2iam or kiam.
    pub(super) fn predecessors(&self) -> Vec<Agent> {
        #[derive(Deserialize)]
        struct DaemonSet {
            metadata: Meta,
            spec: DaemonSetSpec,
        }
        #[derive(Deserialize)]
        struct DaemonSetSpec {
            template: Template,
        }
        #[derive(Deserialize)]
        struct Template {
            spec: Containers,
        }
        #[derive(Deserialize)]
        struct Containers {
            containers: Vec<Container>,
        }
        #[derive(Deserialize)]
        struct Container {
            #[serde(default)]
            image: String,
            #[serde(default)]
            command: Vec<String>,
            #[serde(default)]
            args: Vec<String>,
        }
        let sets: Vec<DaemonSet> = self.of("DaemonSet");
        let mut found = Vec::new();
        for set in sets {
            for container in set.spec.template.spec.containers {
                let arguments = [container.command, container.args].concat();
                let (namespace, name) = (&set.metadata.namespace, &set.metadata.name);
                found.extend(Agent::recognise(
                    namespace,
                    name,
                    &container.image,
                    arguments,
                ));
            }
        }
        found
    }
}

/// A file, up to a size.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_FILE)
        .read_to_end(&mut text)?;
    Ok(text)
}

/// A JSON file.
pub(super) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let failed = |error: anyhow::Error| {
        Failure::usage(error.context(format!("{} cannot be read", path.display())))
    };
    let text = read(path).map_err(|error| failed(error.into()))?;
    serde_json::from_slice(&text).map_err(|error| failed(error.into()))
}

//! What a pod says about its credentials. Values of variables are kept only where they are no secrets.

use std::collections::BTreeMap;

use serde_json::Value;

/// Variables whose values are kept: they name roles, files and addresses. Of all others the name alone is.
const SHOWN: &[&str] = &[
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_PROFILE",
];

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account; `default` where it names none.
    pub service_account: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether it is on the network of its node.
    pub host_network: bool,
    /// The node it was placed on.
    pub node: Option<String>,
    /// `status.phase`.
    pub phase: Option<String>,
    /// Whether it is being deleted.
    pub is_deleted: bool,
    /// `metadata.creationTimestamp`, as written.
    pub created: Option<String>,
    /// The object that makes pods like it.
    pub owner: Option<Owner>,
    /// Init containers, then containers.
    pub containers: Vec<ContainerFacts>,
    /// Tokens of projected volumes, by volume.
    pub tokens: Vec<TokenFacts>,
}

/// What makes pods.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, ...
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Its name.
    pub name: String,
    /// Whether it is an init container.
    pub is_init: bool,
    /// Variables by name; the value where it is no secret and stands there itself.
    pub env: BTreeMap<String, Option<String>>,
    /// Whether there are variables from ConfigMaps or Secrets, whose names are not known.
    pub has_env_from: bool,
    /// Volume and path of each mount.
    pub mounts: Vec<(String, String)>,
}

/// A token in a projected volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenFacts {
    /// The volume.
    pub volume: String,
    /// The audience; empty is that of the API server.
    pub audience: String,
    /// The file in the volume.
    pub path: String,
    /// Seconds it is asked for.
    pub expiration_seconds: Option<i64>,
}

/// The object cannot be read as a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a readable Pod: {0}")]
pub struct NotAPod(&'static str);

impl PodFacts {
    /// Reads a Pod.
    ///
    /// # Errors
    /// When it has no name, or no `spec` that is an object.
    pub fn of_object(object: &Value) -> Result<Self, NotAPod> {
        let metadata = object.get("metadata").ok_or(NotAPod("no metadata"))?;
        let spec = object
            .get("spec")
            .filter(|spec| spec.is_object())
            .ok_or(NotAPod("no spec"))?;
        let status = object.get("status");
        let name = text(metadata.get("name")).ok_or(NotAPod("no metadata.name"))?;
        let account = text(spec.get("serviceAccountName"))
            .or_else(|| text(spec.get("serviceAccount")))
            .unwrap_or_else(|| "default".to_owned());
        let lists = [("initContainers", true), ("containers", false)];
        let containers = lists.into_iter().flat_map(|(list, is_init)| {
            let items = spec.get(list).and_then(Value::as_array);
            let items = items.into_iter().flatten();
            items.map(move |container| container_facts(container, is_init))
        });
        let labels = string_map(metadata.get("labels"));
        let volumes = spec.get("volumes").and_then(Value::as_array);
        Ok(Self {
            namespace: text(metadata.get("namespace")).unwrap_or_else(|| "default".to_owned()),
            owner: owner(metadata, &labels),
            name,
            service_account: account,
            labels,
            annotations: string_map(metadata.get("annotations")),
            host_network: truth(spec.get("hostNetwork")),
            node: text(spec.get("nodeName")),
            phase: status.and_then(|status| text(status.get("phase"))),
            is_deleted: text(metadata.get("deletionTimestamp")).is_some(),
            created: text(metadata.get("creationTimestamp")),
            containers: containers.collect(),
            tokens: volumes.into_iter().flatten().flat_map(tokens).collect(),
        })
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    /// `status.conditions` says that a pod is ready; for pods other than the one that is explained.
    #[must_use]
    pub fn is_ready(object: &Value) -> bool {
        let conditions = object
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        conditions.into_iter().flatten().any(|condition| {
            condition.get("type").and_then(Value::as_str) == Some("Ready")
                && condition.get("status").and_then(Value::as_str) == Some("True")
        })
    }
}

impl ContainerFacts {
    /// The value of a variable that is there and is not taken from elsewhere.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.env.get(name)?.as_deref()
    }

    /// Whether a variable is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.env.contains_key(name)
    }
}

fn container_facts(container: &Value, is_init: bool) -> ContainerFacts {
    let list = |name: &str| {
        let items = container.get(name).and_then(Value::as_array);
        items.into_iter().flatten()
    };
    let env = list("env").filter_map(|variable| {
        let name = text(variable.get("name"))?;
        let value = text(variable.get("value")).filter(|_| SHOWN.contains(&name.as_str()));
        Some((name, value))
    });
    let mounts = list("volumeMounts")
        .filter_map(|mount| Some((text(mount.get("name"))?, text(mount.get("mountPath"))?)));
    ContainerFacts {
        name: text(container.get("name")).unwrap_or_default(),
        is_init,
        env: env.collect(),
        has_env_from: list("envFrom").next().is_some(),
        mounts: mounts.collect(),
    }
}

fn tokens(volume: &Value) -> Vec<TokenFacts> {
    let sources = volume
        .pointer("/projected/sources")
        .and_then(Value::as_array);
    let Some(name) = text(volume.get("name")) else {
        return Vec::new();
    };
    let sources = sources.into_iter().flatten();
    let tokens = sources.filter_map(|source| source.get("serviceAccountToken"));
    tokens
        .map(|token| TokenFacts {
            volume: name.clone(),
            audience: text(token.get("audience")).unwrap_or_default(),
            path: text(token.get("path")).unwrap_or_default(),
            expiration_seconds: token.get("expirationSeconds").and_then(Value::as_i64),
        })
        .collect()
}

/// The controller, through the ReplicaSet of a Deployment to the Deployment itself.
fn owner(metadata: &Value, labels: &BTreeMap<String, String>) -> Option<Owner> {
    let owners = metadata.get("ownerReferences")?.as_array()?;
    let controller = owners
        .iter()
        .find(|owner| truth(owner.get("controller")))
        .or_else(|| owners.first())?;
    let (kind, name) = (text(controller.get("kind"))?, text(controller.get("name"))?);
    let deployment = labels
        .get("pod-template-hash")
        .and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'))
        .filter(|_| kind == "ReplicaSet");
    Some(match deployment {
        Some(name) => Owner {
            kind: "Deployment".to_owned(),
            name: name.to_owned(),
        },
        None => Owner { kind, name },
    })
}

fn text(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn truth(value: Option<&Value>) -> bool {
    value.and_then(Value::as_bool) == Some(true)
}

pub(crate) fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let object = value.and_then(Value::as_object);
    let pairs = object.into_iter().flatten();
    pairs
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

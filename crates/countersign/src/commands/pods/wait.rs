//! Waiting until the pods of a DaemonSet are new, ready and have a role.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use countersign_podreview::PodFacts;
use countersign_sources::kubernetes::{WorkloadError, WorkloadKind, Workloads};
use serde_json::Value;

use crate::report::Failure;

const PAUSE: Duration = Duration::from_secs(1);

/// Waits, and says at the end what is still missing.
pub(super) fn until_ready(
    cluster: &Workloads,
    namespace: &str,
    name: &str,
    role_arn: &str,
    patience: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let missing = match state(cluster, namespace, name, role_arn) {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(Failure::unknown(anyhow!(
                "{missing} after {} seconds",
                patience.as_secs()
            ))
            .hint("see why, and run it again: what is done is not done twice"));
        }
        thread::sleep(PAUSE);
    }
}

/// Whether every pod of a DaemonSet has the role.
pub(super) fn pods_have_role(
    cluster: &Workloads,
    namespace: &str,
    name: &str,
    role_arn: &str,
) -> Result<bool, WorkloadError> {
    Ok(state(cluster, namespace, name, role_arn)?.is_none())
}

/// What is missing.
fn state(
    cluster: &Workloads,
    namespace: &str,
    name: &str,
    role_arn: &str,
) -> Result<Option<String>, WorkloadError> {
    let Some(object) = cluster.get(WorkloadKind::DaemonSet, namespace, name)? else {
        return Ok(Some(format!("there is no DaemonSet {namespace}/{name}")));
    };
    let number = |path: &str| object.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Ok(Some(
            "the restart was not yet seen by the controller".to_owned(),
        ));
    }
    let wanted = number("/status/desiredNumberScheduled");
    if wanted == 0 {
        return Ok(Some(format!("{namespace}/{name} has no pods to judge by")));
    }
    let (updated, ready) = (
        number("/status/updatedNumberScheduled"),
        number("/status/numberReady"),
    );
    if updated < wanted || ready < wanted {
        return Ok(Some(format!(
            "{updated} of {wanted} pods are new and {ready} ready"
        )));
    }
    let labels = object.pointer("/spec/selector/matchLabels");
    let labels: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    let labels = labels.join(",");
    let pods = cluster.list(WorkloadKind::Pod, Some(namespace), (None, Some(&labels)))?;
    let mut seen = 0;
    for object in &pods {
        let Ok(pod) = PodFacts::of_object(object) else {
            continue;
        };
        if pod.is_deleted || pod.has_ended() {
            continue;
        }
        seen += 1;
        let has_role = pod
            .containers
            .iter()
            .any(|container| container.value("AWS_ROLE_ARN") == Some(role_arn));
        if !has_role {
            return Ok(Some(format!(
                "pod {} has no AWS_ROLE_ARN with the role: does the webhook run?",
                pod.name
            )));
        }
        if !PodFacts::is_ready(object) {
            return Ok(Some(format!("pod {} is not ready", pod.name)));
        }
    }
    if seen < wanted {
        return Ok(Some(format!("{seen} of {wanted} pods are there")));
    }
    Ok(None)
}

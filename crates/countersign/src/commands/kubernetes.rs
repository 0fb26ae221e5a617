//! Sources in the Kubernetes API.

use std::sync::Arc;

use countersign_mapping::BackendKind;
use countersign_sources::Mappings;
use countersign_sources::kubernetes::{
    AwsAuthOptions, AwsAuthWatch, CrdOptions, CrdWatch, KubernetesAccess,
};
use jiff::Timestamp;

use super::mappings::Sources;
use crate::report::Failure;

/// Starts the watch of aws-auth or of IAMIdentityMapping objects.
pub(super) async fn start(
    kind: BackendKind,
    sources: &Sources<'_>,
    mappings: &Arc<Mappings>,
) -> Result<(), Failure> {
    let access = KubernetesAccess {
        kubeconfig: sources.kubeconfig.map(Into::into),
        master: sources.master.map(Into::into),
    };
    let client = access.client().await.map_err(|error| {
        Failure::usage(error)
            .hint("set `server.kubeconfig`, or run in a pod with a service account")
    })?;
    if kind == BackendKind::EksConfigMap {
        let mut options = AwsAuthOptions::new(&sources.cluster);
        options.state_dir = Some(sources.state_dir.to_owned());
        options.instance = instance();
        let watch = AwsAuthWatch::new(mappings, options, Timestamp::now());
        tokio::spawn(watch.run(client, Timestamp::now));
    } else {
        tokio::spawn(CrdWatch::new(mappings, CrdOptions::default()).run(client, Timestamp::now));
    }
    Ok(())
}

/// Who reports events: the pod's or the host's name.
pub(super) fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = std::env::var("HOSTNAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| host.trim().to_owned());
    if name.is_empty() {
        "countersign".into()
    } else {
        name
    }
}

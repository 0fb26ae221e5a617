//! The node's taint, for `agent run --imds-remove-taint`.

use countersign_agent::guard::{GuardApiError, NodeTaint};
use countersign_imds::advise::TAINT_PARTS;
use countersign_sources::kubernetes::{KubernetesAccess, NodeTaintRemoval};
use futures::future::BoxFuture;

use super::flags::RunArgs;
use crate::report::Failure;

/// The taint of this node in the Kubernetes API.
pub(super) struct Taint(NodeTaintRemoval);

impl Taint {
    pub(super) async fn new(args: &RunArgs) -> Result<Self, Failure> {
        let access = KubernetesAccess {
            kubeconfig: args.kubeconfig.clone(),
            master: None,
        };
        let client = access.client().await.map_err(Failure::usage)?;
        let node = args.node_name.as_deref().unwrap_or_default();
        let (key, effect) = TAINT_PARTS;
        NodeTaintRemoval::new(client, node, key, effect)
            .map(Self)
            .map_err(Failure::usage)
    }
}

impl NodeTaint for Taint {
    fn remove(&self) -> BoxFuture<'_, Result<bool, GuardApiError>> {
        Box::pin(async move { self.0.remove().await.map_err(GuardApiError) })
    }
}

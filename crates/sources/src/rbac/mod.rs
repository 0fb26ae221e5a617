//! Roles and bindings of a cluster, from wherever they are: the cluster itself, manifests, a dump.
//!
//! ```text
//!   manifests::Manifests  files, directories, stdin: YAML and JSON ──┐
//!   live::list            one list of a cluster ─────────────────────┼──▶ countersign_rbac::Index
//!   watch::RbacWatch      list and watch, kept fresh ────────────────┘
//! ```
//!
//! What could not be read is marked in the index, so that a "no" which it may have changed is never told as certain.
//!
//! Needed permissions of a live cluster: `list` (and `watch`) on `roles`, `rolebindings`, `clusterroles` and
//! `clusterrolebindings`; for commands `get` on the ConfigMap `kube-system/aws-auth`.

mod gzip;
mod live;
mod manifests;
mod watch;
mod yaml;

pub use live::{Live, LiveError, cluster_client, list, read_aws_auth};
pub use manifests::{ManifestProblem, Manifests, ReadPathError};
pub use watch::{KindHealth, LiveRbac, RbacHealth, RbacWatch};

/// For fuzzing: reads arbitrary bytes as a file of manifests.
pub(crate) fn fuzz(data: &[u8]) {
    let mut manifests = Manifests::default();
    // Compressed or not, as it would come from a file.
    let _ = manifests.read_stream("fuzz", data);
    let _ = manifests.index(false, "default");
}

//! `accessPolicies`: how access policies get into force in a cluster of this process (EKS API spec, section 18.2).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_server::access_policies::AccessPolicies;
use countersign_server::aggregation::AggregatedCluster;
use countersign_server::projection::{self, Delivery, ProjectedCluster};
use countersign_server::webhook::entries::Registered;
use countersign_sources::kubernetes::{
    KubernetesAccess, ProjectionOptions, ProjectionState, ProjectionWriter,
};
use countersign_store::Directory;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::report::Failure;

/// Pause after taking away failed: what is left gives nobody anything, since no TokenReview names its groups.
const TAKE_AWAY_AGAIN: Duration = Duration::from_secs(60);

/// The setting of one cluster, and how to get to it.
pub(super) struct Setting<'a> {
    /// Where the setting stands, as `countersign.accessPolicies`.
    pub(super) key: String,
    pub(super) text: Option<&'a str>,
    /// Whether the EKS API decides about the cluster, and what to do if not.
    pub(super) registered: Result<(), &'static str>,
    /// Where its kubeconfig is configured, as `server.kubeconfig`.
    pub(super) kubeconfig_key: String,
    pub(super) kubeconfig: Option<&'a Path>,
    pub(super) master: Option<&'a str>,
    /// Whether the cluster may be the one this process is a pod of.
    pub(super) may_be_own: bool,
}

/// A writer that has not begun.
pub(super) struct Projecting {
    delivery: Delivery,
    writer: ProjectionWriter,
    states: watch::Receiver<ProjectionState>,
}

/// How the ClusterRoles of a cluster can be read: as its objects are, and as this pod in the cluster it runs in.
pub(super) fn cluster_roles(
    kubeconfig: Option<&Path>,
    master: Option<&str>,
    may_be_own: bool,
) -> Option<KubernetesAccess> {
    let master = master.filter(|url| !url.is_empty());
    let is_pod = || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let has_way = kubeconfig.is_some() || master.is_some() || (may_be_own && is_pod());
    has_way.then(|| KubernetesAccess {
        kubeconfig: kubeconfig.map(Into::into),
        master: master.map(Into::into),
    })
}

/// A writer for the cluster if there is anything to write, or to take away.
///
/// What was written is taken away where `webhook` stands in the configuration and the Kubernetes API can be reached. Where nothing
/// stands nothing was ever written, and the kubeconfig may well be one that can only read aws-auth.
pub(super) async fn prepare(setting: Setting<'_>) -> Result<Option<Projecting>, Failure> {
    let Some(text) = setting.text else {
        return Ok(None);
    };
    let key = &setting.key;
    let delivery = text
        .parse::<Delivery>()
        .map_err(|error| Failure::usage(anyhow::Error::new(error).context(format!("`{key}`"))))?;
    let has_way = setting.kubeconfig.is_some() || setting.master.is_some() || setting.may_be_own;
    if delivery.projects() {
        setting.registered.map_err(|hint| {
            Failure::usage(anyhow::anyhow!(
                "`{key}` is `{delivery}`, and the cluster is not one of the EKS API, which access policies belong to"
            ))
            .hint(hint)
        })?;
    } else if !has_way {
        return Ok(None);
    }
    let access = KubernetesAccess {
        kubeconfig: setting.kubeconfig.map(Into::into),
        master: setting.master.map(Into::into),
    };
    let client = if has_way {
        access.client().await.map_err(anyhow::Error::new)
    } else {
        Err(anyhow::anyhow!("there is no kubeconfig for the cluster"))
    };
    let client = match client {
        Ok(client) => client,
        // Nothing was written either, unless the kubeconfig was taken away with the setting.
        Err(_) if !delivery.projects() && setting.kubeconfig.is_none() => return Ok(None),
        Err(error) => {
            let context = format!("`{key}` is `{delivery}`, which needs the Kubernetes API");
            let hint = format!("set `{}`", setting.kubeconfig_key);
            return Err(Failure::usage(error.context(context)).hint(hint));
        }
    };
    let mut options = ProjectionOptions::default();
    if !delivery.projects() {
        options.retry_after = TAKE_AWAY_AGAIN;
    }
    let (writer, states) = ProjectionWriter::new(client, options);
    Ok(Some(Projecting {
        delivery,
        writer,
        states,
    }))
}

impl Projecting {
    /// Whether TokenReviews name the group of the caller's entry.
    pub(super) fn names_entry(&self) -> bool {
        self.delivery.projects()
    }

    /// Starts writing, or taking away, for as long as the process runs.
    pub(super) fn start(
        self,
        name: &str,
        registered: Option<&Registered>,
        directory: Option<&Directory>,
        policies: &Arc<AccessPolicies>,
        roles: Option<&Arc<AggregatedCluster>>,
    ) -> ProjectedCluster {
        let Self {
            delivery,
            writer,
            states,
        } = self;
        let source = registered.zip(directory).filter(|_| delivery.projects());
        match source {
            Some((registered, directory)) => {
                let (wanted, projections) = watch::channel(None);
                tokio::spawn(projection::follow(
                    directory.clone(),
                    Arc::clone(policies),
                    registered.clone(),
                    roles.cloned(),
                    wanted,
                ));
                tokio::spawn(writer.run(projections, Timestamp::now));
            }
            None => {
                let (wanted, projections) = watch::channel(Some(Arc::new(projection::nothing())));
                tokio::spawn(async move {
                    writer.run(projections, Timestamp::now).await;
                    // Without it the writer would end at once.
                    drop(wanted);
                });
            }
        }
        ProjectedCluster {
            name: name.to_owned(),
            delivery,
            states,
        }
    }
}

//! `podIdentityAssociations`: associations as objects of a cluster of this process (agent spec, section 9).

use std::path::Path;
use std::sync::Arc;

use countersign_pods::{AllowList, AllowRule};
use countersign_server::association_objects::{
    AssociationSync, ObjectMode, SyncedCluster, release,
};
use countersign_server::config::AssociationObjectsConfig;
use countersign_server::webhook::entries::Registered;
use countersign_sources::kubernetes::{
    AssociationObjectOptions, AssociationObjects, KubernetesAccess,
};
use countersign_store::Directory;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::report::Failure;

/// The setting of one cluster, and how to get to it.
pub(super) struct Setting<'a> {
    /// Where the setting stands, as `countersign.podIdentityAssociations`.
    pub(super) key: String,
    pub(super) config: &'a AssociationObjectsConfig,
    /// Whether the EKS API knows the cluster, and what to do if not.
    pub(super) registered: Result<(), &'static str>,
    /// Where its kubeconfig is configured, as `server.kubeconfig`.
    pub(super) kubeconfig_key: String,
    pub(super) kubeconfig: Option<&'a Path>,
    pub(super) master: Option<&'a str>,
    /// Whether the cluster may be the one this process is a pod of.
    pub(super) may_be_own: bool,
}

/// What has not begun.
pub(super) enum Prepared {
    /// Associations of objects are to become ones of the EKS API.
    Release,
    /// Objects and associations are to be kept alike.
    Sync {
        mode: ObjectMode,
        allow: AllowList,
        objects: AssociationObjects,
    },
}

/// What the setting asks for, if it stands there.
pub(super) async fn prepare(setting: Setting<'_>) -> Result<Option<Prepared>, Failure> {
    let key = &setting.key;
    let rules = setting.config.allow.iter().map(|rule| AllowRule {
        namespaces: rule.namespaces.clone(),
        roles: rule.roles.clone(),
        target_roles: rule.target_roles.clone(),
        extra_tags: rule
            .extra_session_tags
            .iter()
            .map(|key| key.to_ascii_lowercase())
            .collect(),
    });
    let allow = AllowList::new(rules.collect()).map_err(|error| {
        Failure::usage(anyhow::Error::new(error).context(format!("`{key}.allow`")))
    })?;
    let Some(text) = setting.config.custom_resources.as_deref() else {
        if !allow.is_empty() {
            return Err(Failure::usage(anyhow::anyhow!(
                "`{key}.allow` says which roles objects may give, and `{key}.customResources` does not stand there"
            ))
            .hint("set it to `read` or `mirror`"));
        }
        return Ok(None);
    };
    let mode = text.parse::<ObjectMode>().map_err(|error| {
        Failure::usage(anyhow::Error::new(error).context(format!("`{key}.customResources`")))
    })?;
    setting.registered.map_err(|hint| {
        Failure::usage(anyhow::anyhow!(
            "`{key}.customResources` is `{mode}`, and the cluster is not one of the EKS API, which associations belong to"
        ))
        .hint(hint)
    })?;
    if mode == ObjectMode::Off {
        return Ok(Some(Prepared::Release));
    }
    let access = KubernetesAccess {
        kubeconfig: setting.kubeconfig.map(Into::into),
        master: setting.master.map(Into::into),
    };
    let has_way = setting.kubeconfig.is_some() || setting.master.is_some() || setting.may_be_own;
    let client = if has_way {
        access.client().await.map_err(anyhow::Error::new)
    } else {
        Err(anyhow::anyhow!("there is no kubeconfig for the cluster"))
    };
    let client = client.map_err(|error| {
        let context =
            format!("`{key}.customResources` is `{mode}`, which needs the Kubernetes API");
        Failure::usage(error.context(context)).hint(format!("set `{}`", setting.kubeconfig_key))
    })?;
    if allow.is_empty() {
        tracing::warn!(
            "`{key}.allow` is empty: PodIdentityAssociation objects of the cluster give no role"
        );
    }
    let objects = AssociationObjects::new(client, AssociationObjectOptions::default());
    Ok(Some(Prepared::Sync {
        mode,
        allow,
        objects,
    }))
}

impl Prepared {
    /// Starts it, for as long as the process runs.
    pub(super) fn start(
        self,
        name: &str,
        registered: &Registered,
        directory: &Directory,
        roles_elsewhere: bool,
        extensions: bool,
    ) -> Option<SyncedCluster> {
        let (directory, registered) = (directory.clone(), registered.clone());
        match self {
            Self::Release => {
                tokio::spawn(async move {
                    release(&directory, &registered, Timestamp::now()).await;
                });
                None
            }
            Self::Sync {
                mode,
                allow,
                objects,
            } => {
                let (found, known) = watch::channel(Arc::default());
                tokio::spawn(objects.clone().run(found));
                let (sync, states) = AssociationSync::new(
                    directory,
                    registered,
                    objects,
                    mode,
                    allow,
                    roles_elsewhere,
                    extensions,
                );
                tokio::spawn(sync.run(known.clone(), Timestamp::now));
                Some(SyncedCluster {
                    name: name.to_owned(),
                    mode,
                    states,
                    objects: known,
                })
            }
        }
    }
}

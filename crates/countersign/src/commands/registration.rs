//! Which clusters of `serve` the EKS API decides about (authentication spec, section 4).

use countersign_arn::{AccountId, Partition};
use countersign_server::config::{Config, IdentityMode, OwnConfig};
use countersign_server::webhook::entries::Registered;
use countersign_store::records::{AuthenticationMode, Creator};
use countersign_store::{Directory, NewCluster};

use super::launch::ClusterSetup;
use crate::report::Failure;

/// Whether there are clusters and access entries: always beside the embedded IAM, and beside real AWS when there is a place for
/// them. Whoever calls the EKS API is then known to the embedded IAM, and whoever calls a cluster to AWS.
pub(super) fn keeps_records(store_flag: Option<&str>, own: &OwnConfig) -> bool {
    own.identity == IdentityMode::Embedded
        || own.data_dir.is_some()
        || own.store.is_some()
        || store_flag.is_some()
}

/// The mode that the default cluster is registered in; none for a cluster that maps by its backends alone, as
/// aws-iam-authenticator does (authentication spec, section 4).
pub(super) fn authentication_mode(
    flag: &[String],
    config: &Config,
    keeps_records: bool,
) -> Result<Option<AuthenticationMode>, Failure> {
    let Some(text) = &config.countersign.authentication_mode else {
        return Ok(None);
    };
    let mode = text.parse().map_err(|error| {
        Failure::usage(anyhow::Error::new(error).context("`countersign.authenticationMode`"))
    })?;
    if sets_backends(flag, config) {
        return Err(both_set(
            "`countersign.authenticationMode` and a backend mode are both set",
        ));
    }
    if !keeps_records {
        return Err(Failure::usage(anyhow::anyhow!(
            "`countersign.authenticationMode` needs `dataDir` or `store` in the section `countersign`"
        )));
    }
    Ok(Some(mode))
}

fn sets_backends(flag: &[String], config: &Config) -> bool {
    !flag.is_empty()
        || config
            .server
            .backend_mode
            .as_ref()
            .is_some_and(|modes| !modes.items().is_empty())
}

fn both_set(problem: &str) -> Failure {
    Failure::usage(anyhow::anyhow!("{problem}")).hint(
        "with an authentication mode the EKS API decides where identities come from; without it, `--backend-mode` or \
         `server.backendMode` does",
    )
}

/// Where clusters of this process are registered.
pub(super) struct Place<'a> {
    pub(super) account: AccountId,
    pub(super) region: &'a str,
}

impl Place<'_> {
    fn of(&self, name: &str) -> Registered {
        Registered::At {
            account: self.account,
            region: self.region.into(),
            name: name.into(),
        }
    }
}

/// Registers the default cluster when it has an authentication mode, and gives every cluster that the EKS API decides about its
/// place there. Its creator is the root user, who gets in by the ConfigMap mode only: everybody else gets an access entry.
pub(super) async fn register(
    directory: &Directory,
    flag: &[String],
    config: &Config,
    place: &Place<'_>,
    mode: Option<AuthenticationMode>,
    clusters: &mut [ClusterSetup],
) -> Result<(), Failure> {
    let snapshot = directory.snapshot();
    for (index, cluster) in clusters.iter_mut().enumerate() {
        let known = snapshot.cluster(place.account, place.region, &cluster.name);
        if cluster.registered.is_some() {
            cluster.registered = Some(place.of(&cluster.name));
            if let (0, None, Some(mode)) = (index, known, mode) {
                let account = snapshot.account(place.account);
                let partition = account.map_or(Partition::Aws, |account| account.record.partition);
                let creator = Creator {
                    principal_arn: format!("arn:{partition}:iam::{}:root", place.account).into(),
                    principal_id: place.account.as_str().into(),
                };
                let new = NewCluster {
                    authentication_mode: mode,
                    bootstrap_creator_admin: mode == AuthenticationMode::ConfigMap,
                    ..NewCluster::new(place.account, place.region, &cluster.name, creator)
                };
                let now = jiff::Timestamp::now();
                directory
                    .create_cluster(new, now)
                    .await
                    .map_err(Failure::usage)?;
            }
        } else if let Some(known) = known {
            let problem = format!(
                "cluster `{}` is registered with the EKS API in mode {}",
                cluster.name, known.record.authentication_mode
            );
            if index == 0 && sets_backends(flag, config) {
                return Err(both_set(&format!("{problem}, and a backend mode is set")));
            }
            tracing::warn!(
                "{problem}; it is mapped by its backends all the same: set `countersign.authenticationMode` to let the EKS API decide"
            );
        }
    }
    Ok(())
}

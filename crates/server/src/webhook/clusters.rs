//! Which clusters are served: those of the configuration, and those of the EKS API as the directory has them at that moment.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_sources::Mappings;
use countersign_store::{ClusterNameError, Directory};

use super::authenticate::{ClusterAuthenticator, ClusterOptions, ReviewOptions};
use super::entries::Registered;

/// The clusters that are served, by name.
#[derive(Debug, Default)]
pub struct Clusters {
    by_name: HashMap<String, Arc<ClusterAuthenticator>>,
    default: Option<Arc<ClusterAuthenticator>>,
    registered: Option<RegisteredClusters>,
}

/// The clusters of the EKS API that no configuration names.
#[derive(Debug, Clone)]
pub struct RegisteredClusters {
    /// Where they are.
    pub directory: Directory,
    /// What their reviews share with the others.
    pub shared: Arc<ReviewOptions>,
    /// Options and no rules: their aws-auth cannot be read without a kubeconfig in the configuration.
    pub mappings: Arc<Mappings>,
}

impl Clusters {
    /// The clusters of the configuration; the first is the one behind `/authenticate`.
    #[must_use]
    pub fn new(clusters: Vec<Arc<ClusterAuthenticator>>) -> Self {
        let default = clusters.first().cloned();
        let by_name = clusters
            .into_iter()
            .map(|cluster| (cluster.name().to_owned(), cluster))
            .collect();
        Self {
            by_name,
            default,
            registered: None,
        }
    }

    /// Also those of the EKS API, from the moment they are made to the moment they are deleted.
    #[must_use]
    pub fn with_registered(mut self, registered: RegisteredClusters) -> Self {
        self.registered = Some(registered);
        self
    }

    /// The clusters of the configuration in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ClusterAuthenticator>> {
        let mut clusters: Vec<_> = self.by_name.values().collect();
        clusters.sort_by_key(|cluster| cluster.name());
        clusters.into_iter()
    }

    /// The cluster behind `/authenticate`.
    #[must_use]
    pub fn default_cluster(&self) -> Option<Arc<ClusterAuthenticator>> {
        self.default.clone()
    }

    /// The cluster of this name or id. A configured name wins over one of the EKS API, and an id over a name: clusters of one
    /// name in two accounts or regions are told apart by their ids.
    ///
    /// # Errors
    /// When there is none, or more than one of this name.
    pub fn find(&self, name: &str) -> Result<Arc<ClusterAuthenticator>, ClusterNameError> {
        if let Some(cluster) = self.by_name.get(name) {
            return Ok(Arc::clone(cluster));
        }
        let registered = self.registered.as_ref().ok_or(ClusterNameError::Unknown)?;
        let snapshot = registered.directory.feed().load();
        let cluster = match snapshot.cluster_by_id(name) {
            Some(cluster) => cluster,
            None => snapshot.cluster_named(name)?,
        };
        if cluster.record.deleting.is_some() {
            return Err(ClusterNameError::Unknown);
        }
        let record = &cluster.record;
        Ok(Arc::new(ClusterAuthenticator::new(ClusterOptions {
            name: record.name.to_string(),
            cluster_id: record.name.to_string(),
            mappings: Arc::clone(&registered.mappings),
            registered: Some(Registered::Id(record.id.clone())),
            names_entry: false,
            shared: Arc::clone(&registered.shared),
        })))
    }
}

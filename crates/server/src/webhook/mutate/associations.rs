//! Where associations are looked up.

use std::fmt;

use countersign_store::Directory;

use super::kept::KeptHealth;
use crate::webhook::entries::Registered;

/// An association that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundAssociation {
    /// Its id; identities of a file have none.
    pub id: Option<Box<str>>,
    /// `NAMESPACE/NAME` as they stand in an association with patterns.
    pub pattern: Option<Box<str>>,
}

/// Associations of one cluster. Looking one up waits for nothing.
pub trait AssociationSource: fmt::Debug + Send + Sync {
    /// The association in force for a service account.
    fn find(&self, namespace: &str, service_account: &str) -> Option<FoundAssociation>;

    /// How it is doing, if it is learnt from elsewhere.
    fn health(&self) -> Option<KeptHealth> {
        None
    }
}

/// The associations of our own EKS API, from the directory's snapshot of the moment.
#[derive(Debug, Clone)]
pub struct StoredAssociations {
    /// Where they are.
    pub directory: Directory,
    /// The cluster.
    pub cluster: Registered,
}

impl AssociationSource for StoredAssociations {
    fn find(&self, namespace: &str, service_account: &str) -> Option<FoundAssociation> {
        let snapshot = self.directory.feed().load();
        let cluster = self.cluster.find(&snapshot)?;
        let cluster_id = &cluster.record.id;
        let entry =
            snapshot.pod_identity_association_in_force(cluster_id, namespace, service_account)?;
        let record = &entry.record;
        Some(FoundAssociation {
            id: Some(record.id.clone()),
            pattern: record.has_patterns().then(|| {
                [&*record.namespace, "/", &*record.service_account]
                    .concat()
                    .into()
            }),
        })
    }
}

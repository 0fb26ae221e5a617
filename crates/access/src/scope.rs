//! Where the policies of an association are in force (EKS API spec, section 8.2).

use serde::{Deserialize, Serialize};

/// The scope of an association.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessScope {
    /// Everything the rules of the policy say.
    Cluster,
    /// Requests with a namespace that matches one of these; `*` stands for any run of characters.
    Namespace(Vec<Box<str>>),
}

//! What the EKS API is told about the deployment.

use countersign_access::{Catalogue, Limits};
use jiff::SignedDuration;

/// Settings of the EKS API.
#[derive(Debug, Clone)]
pub struct EksOptions {
    /// The access policies there are.
    pub catalogue: Catalogue,
    /// Limits of access entries and scopes.
    pub limits: Limits,
    /// How long creating, updating and deleting a cluster takes; zero, the default, for no time at all.
    pub settling: SignedDuration,
    /// The regions that are answered for; `None`, the default, for any. A call signed for another region has no good
    /// signature.
    pub regions: Option<Vec<String>>,
    /// CA certificates as PEM that clusters without their own are shown with.
    pub certificate_authority: Option<Box<str>>,
}

impl Default for EksOptions {
    fn default() -> Self {
        Self {
            catalogue: Catalogue::builtin().clone(),
            limits: Limits::default(),
            settling: SignedDuration::ZERO,
            regions: None,
            certificate_authority: None,
        }
    }
}

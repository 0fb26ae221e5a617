//! What the EKS API is told about the deployment.

use std::sync::Arc;

use countersign_access::Limits;
use jiff::SignedDuration;

use crate::access_policies::AccessPolicies;

/// Settings of the EKS API.
#[derive(Debug, Clone)]
pub struct EksOptions {
    /// The access policies there are, looked up at each call, so that a file that was read again counts with the next one.
    pub policies: Arc<AccessPolicies>,
    /// Limits of access entries and scopes.
    pub limits: Limits,
    /// How long creating, updating and deleting a cluster takes; zero, the default, for no time at all.
    pub settling: SignedDuration,
    /// The regions that are answered for; `None`, the default, for any. A call signed for another region has no good
    /// signature.
    pub regions: Option<Vec<String>>,
    /// Whether roles of the account may be ones that are not known here, as where AWS is who assumes them. A pod identity
    /// association with such a role is made without a look at its trust policy, and the answer says so.
    pub roles_elsewhere: bool,
    /// Whether the issuer of an identity provider config is asked for its documents when the config is made, where web
    /// identities are set up. The default.
    pub check_issuers: bool,
    /// Whether what EKS does not know of pod identity associations is taken: patterns in the place of names,
    /// `sessionNameTemplate`, `sessionTags`, `extraSessionTags` and `durationSeconds`. The default. What is stored already
    /// stays in force without it.
    pub extensions: bool,
    /// CA certificates as PEM that clusters without their own are shown with.
    pub certificate_authority: Option<Box<str>>,
}

impl Default for EksOptions {
    fn default() -> Self {
        Self {
            policies: Arc::new(AccessPolicies::builtin()),
            limits: Limits::default(),
            settling: SignedDuration::ZERO,
            regions: None,
            roles_elsewhere: false,
            check_issuers: true,
            extensions: true,
            certificate_authority: None,
        }
    }
}

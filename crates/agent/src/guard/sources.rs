//! Where a pod's role comes from when its service account has no association: IRSA, and the annotations of kube2iam and kiam
//! (imds spec, section 5.3).

use std::sync::Arc;

use countersign_imds::compat::Predecessor;
use countersign_upstream::web_identity::AssumeRolesWithWebIdentity;
use futures::future::BoxFuture;

use super::GuardApiError;
use crate::auth::AnnotatedRoles;

/// The audience of an account that has no annotation for it: that of STS.
pub const STS_AUDIENCE: &str = "sts.amazonaws.com";
/// Longest audience and longest ARN, characters.
const MAX_AUDIENCE: usize = 255;
const MAX_ROLE: usize = 2048;

/// The role of a service account by its annotations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountRole {
    /// `PREFIX/role-arn`.
    pub role_arn: Box<str>,
    /// `PREFIX/audience`, or [`STS_AUDIENCE`].
    pub audience: Box<str>,
}

impl AccountRole {
    /// From the two annotations; nothing where there is no role. Whether it is one, STS says, and the API server whether the
    /// audience can be one: what is longer than either may be is cut.
    #[must_use]
    pub fn of(role_arn: Option<&str>, audience: Option<&str>) -> Option<Self> {
        let filled = |text: Option<&str>, most: usize| {
            let plain = |c: &char| !c.is_control();
            let text: String = text?.trim().chars().filter(plain).take(most).collect();
            (!text.is_empty()).then(|| text.into_boxed_str())
        };
        Some(Self {
            role_arn: filled(role_arn, MAX_ROLE)?,
            audience: filled(audience, MAX_AUDIENCE).unwrap_or_else(|| STS_AUDIENCE.into()),
        })
    }
}

/// Reads service accounts.
pub trait ServiceAccountRoles: Send + Sync + 'static {
    /// The role that this service account's annotations name; nothing when they name none, or there is no such account. One read,
    /// which ends within some seconds.
    fn role<'a>(
        &'a self,
        namespace: &'a str,
        service_account: &'a str,
    ) -> BoxFuture<'a, Result<Option<AccountRole>, GuardApiError>>;
}

/// Roles by IRSA.
#[derive(Clone)]
pub struct Irsa {
    /// Reads the annotations.
    pub accounts: Arc<dyn ServiceAccountRoles>,
    /// Exchanges tokens.
    pub sts: Arc<dyn AssumeRolesWithWebIdentity>,
}

/// Roles by the annotations of a predecessor.
#[derive(Clone)]
pub struct Compatible {
    /// Whose annotations; with kube2iam's, asking for another role is 403 as it was there.
    pub predecessor: Predecessor,
    /// Who decides, and assumes.
    pub roles: Arc<dyn AnnotatedRoles>,
}

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
/// Longest audience and longest ARN that are looked at.
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
    /// From the two annotations; nothing where there is no role.
    ///
    /// # Errors
    /// When one of them cannot be meant. What the role is, STS says.
    pub fn of(
        role_arn: Option<&str>,
        audience: Option<&str>,
    ) -> Result<Option<Self>, GuardApiError> {
        let filled = |text: Option<&str>| {
            let text = text.map(str::trim).filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        let Some(role_arn) = filled(role_arn) else {
            return Ok(None);
        };
        let audience = filled(audience).unwrap_or_else(|| STS_AUDIENCE.to_owned());
        let fits = |text: &str, most: usize| {
            text.len() <= most && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !fits(&role_arn, MAX_ROLE) || !role_arn.starts_with("arn:") {
            return Err(GuardApiError(
                "the annotation of the service account is no role ARN".into(),
            ));
        }
        if !fits(&audience, MAX_AUDIENCE) {
            return Err(GuardApiError(
                "the annotation of the service account is no audience".into(),
            ));
        }
        Ok(Some(Self {
            role_arn: role_arn.into(),
            audience: audience.into(),
        }))
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

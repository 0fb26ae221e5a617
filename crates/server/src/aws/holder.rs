//! The caller as policies see it: the principal, its identity policies and boundary, and the policies of its session.

use std::sync::Arc;

use countersign_arn::CallerKind;
use countersign_policy::{Attached, Credentials, PolicyKind, Principal};
use countersign_session::{Refusal, SessionKind, SessionPolicies};
use countersign_store::{DirectorySnapshot, Principal as Stored, UserEntry};

use super::policies::{self, Compiled, PolicyCache};
use super::{ApiError, Caller};

/// The caller as policies see it.
pub(crate) struct Holder {
    /// The user whose key, or whose session, this is.
    pub(crate) user: Option<Arc<UserEntry>>,
    pub(crate) principal: Principal,
    pub(crate) compiled: Arc<Compiled>,
    /// Session policies; nothing when the session has none, which is not the same as none that allow.
    pub(crate) session: Option<Vec<Attached>>,
}

impl Holder {
    /// From the snapshot that the call is decided on: a principal that is gone by now is gone.
    ///
    /// # Errors
    /// `InvalidClientTokenId` when the principal is not there.
    pub(crate) fn of(
        caller: &Caller,
        snapshot: &DirectorySnapshot,
        cache: &PolicyCache,
    ) -> Result<Self, ApiError> {
        let gone = || ApiError::from(Refusal::invalid_token());
        let identity = caller.identity();
        let session = caller.session();
        let limits = session
            .filter(|session| !session.policies.is_empty())
            .map(|session| session_limits(&session.policies, snapshot, cache));
        if identity.caller().kind() == CallerKind::Root {
            let credentials = match session {
                Some(session) => Credentials::SessionToken {
                    mfa: session.mfa_at.is_some(),
                },
                None => Credentials::LongTerm,
            };
            return Ok(Self {
                user: None,
                principal: Principal::root(identity.arn())
                    .map_err(|_| gone())?
                    .with_credentials(credentials),
                compiled: Arc::default(),
                session: limits,
            });
        }
        // A federated user has no id of its own; its session says whose it is.
        let id = match session {
            Some(session) => session.principal.unique_id().ok_or_else(gone)?,
            None => identity.user_id(),
        };
        let (principal, compiled, user) = match snapshot.principal(id).ok_or_else(gone)? {
            Stored::User(user) => {
                let federated = session.filter(|session| session.kind == SessionKind::Federation);
                let principal = match (federated, session) {
                    (Some(_), _) => Principal::federated_user(
                        identity.arn(),
                        Some((&user.arn, Some(&user.record.id))),
                    )
                    .map_err(|_| gone())?,
                    (None, Some(session)) => Principal::user(&user.arn, Some(&user.record.id))
                        .map_err(|_| gone())?
                        .with_credentials(Credentials::SessionToken {
                            mfa: session.mfa_at.is_some(),
                        }),
                    (None, None) => Principal::user(&user.arn, Some(&user.record.id))
                        .map_err(|_| gone())?
                        .with_credentials(Credentials::LongTerm),
                };
                (
                    principal,
                    cache.user(snapshot, user),
                    Some(Arc::clone(user)),
                )
            }
            Stored::Role(role) => {
                let principal =
                    Principal::session(identity.arn(), Some(&role.arn), Some(&role.record.id))
                        .map_err(|_| gone())?;
                (principal, cache.role(snapshot, role), None)
            }
            _ => return Err(gone()),
        };
        Ok(Self {
            user,
            principal,
            compiled,
            session: limits,
        })
    }
}

/// The session policies of a session, compiled. One that is not there any more allows nothing.
fn session_limits(
    policies: &SessionPolicies,
    snapshot: &DirectorySnapshot,
    cache: &PolicyCache,
) -> Vec<Attached> {
    let inline = policies.inline.as_deref().map(|text| ("session", text));
    let mut limits = policies::compile(inline, PolicyKind::Session);
    limits.extend(
        policies
            .arns
            .iter()
            .filter_map(|arn| cache.session(snapshot, arn)),
    );
    limits
}

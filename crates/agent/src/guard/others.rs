//! The roles of pods whose service account has no association: kept by pod, renewed while the pod lives and asks (imds spec,
//! sections 5.3 and 5.5).
//!
//! ```text
//!   no association ──▶ annotation of the service account ──▶ TokenRequest for its audience ──▶ AssumeRoleWithWebIdentity
//!                │ none
//!                └──▶ pod's token ──▶ AssumeAnnotatedRoleForPod: the service reads annotations and lists, decides, assumes
//! ```
//!
//! The order is looked at again every 30 s of use, so that an association, once made, takes over. What is kept counts for the pod's
//! uid and what its annotations said: role, audience, session name and external id. The one key for a pod's two ways to
//! credentials stays that of its association, in the agent's cache.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_imds::compat::{EXTERNAL_ID, ROLE, SESSION_NAME};
use countersign_imds::role::{PodRole, Shown};
use countersign_upstream::ec2::AwsError;
use countersign_upstream::web_identity::WebIdentityRequest;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::roles::{FRESH, LEAST, NoRole, PREFETCH, PodCredentials, Roles};
use super::sources::{AccountRole, Compatible, Irsa};
use crate::auth::NoAnnotatedRole;
use crate::cache::Now;
use crate::chance::Chance;
use crate::pods::{Pod, PodTable};

/// For so long it is not looked again whether the account has got an association.
const CHECKED_FOR: Duration = Duration::from_secs(30);
/// For so long the annotations of an account are remembered, and that they could not be read.
const ACCOUNT_FOR: Duration = Duration::from_secs(5);
const ACCOUNT_FAILED: Duration = Duration::from_secs(1);
/// After a change of the pod's annotations the control side is asked once more, which may have answered by what it remembered.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// The longest time for one attempt.
const ATTEMPT: Duration = Duration::from_millis(4500);
/// How often it is looked what is to be renewed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Attempts at once, of all pods.
const AT_ONCE: usize = 16;

/// A role that was assumed.
pub(crate) struct Assumed {
    pub(super) role: PodRole,
    /// The name to show, where it is not the role's.
    pub(super) shown: Option<Box<str>>,
    /// Id of the role, `AROA…`.
    role_id: Box<str>,
    access_key_id: Box<str>,
    secret_access_key: Zeroizing<String>,
    session_token: Zeroizing<String>,
    fetched_at: Timestamp,
    expires_at: Timestamp,
}

impl Assumed {
    pub(super) fn body(&self) -> Zeroizing<Vec<u8>> {
        Shown {
            access_key_id: &self.access_key_id,
            secret_access_key: &self.secret_access_key,
            session_token: &self.session_token,
            updated: self.fetched_at,
            expires: self.expires_at,
        }
        .body()
    }

    pub(super) fn info(&self) -> String {
        self.role.info(self.fetched_at, &self.role_id)
    }
}

/// What a pod's role is asked by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    Account(AccountRole),
    /// Role, session name and external id, as the annotations of the pod have them.
    Annotated([Option<Box<str>>; 3]),
}

struct Entry {
    wish: Wish,
    assumed: Arc<Assumed>,
    fetched: Instant,
    renew: Instant,
    /// Asked for anew at this time, whatever is left.
    again: Option<Instant>,
    read: Instant,
}

#[derive(Default)]
struct State {
    entry: Option<Entry>,
    /// When it was known last that there is no association.
    checked: Option<Instant>,
    failed: Option<(Wish, NoRole, Instant)>,
}

#[derive(Default)]
struct Slot(tokio::sync::Mutex<State>);

type AccountKey = (Box<str>, Box<str>);
type AccountSlot = tokio::sync::Mutex<Option<(Result<Option<AccountRole>, ()>, Instant)>>;

/// Roles beside associations.
pub(super) struct Others {
    pub(super) irsa: Option<Irsa>,
    pub(super) compatible: Option<Compatible>,
    chance: Arc<dyn Chance>,
    /// By pod uid. INVARIANT: pods of the node only; those that are gone leave with the next table.
    slots: Mutex<HashMap<Box<str>, Arc<Slot>>>,
    /// By namespace and name; those that no pod of the node uses leave with the next table.
    accounts: Mutex<HashMap<AccountKey, Arc<AccountSlot>>>,
    places: Semaphore,
    /// What was said once: that accounts cannot be read, and that annotated roles are not offered.
    told: Mutex<HashSet<&'static str>>,
}

impl Others {
    pub(super) fn new(
        irsa: Option<Irsa>,
        compatible: Option<Compatible>,
        chance: Arc<dyn Chance>,
    ) -> Self {
        Self {
            irsa,
            compatible,
            chance,
            slots: Mutex::default(),
            accounts: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
            told: Mutex::default(),
        }
    }

    fn slot(&self, uid: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(uid.into()).or_default())
    }

    /// What the pod's annotations ask for; the account's are read.
    fn annotated(&self, pod: &Pod) -> Option<Wish> {
        let text = |key: &str| pod.annotations.get(key).cloned();
        self.compatible
            .as_ref()
            .map(|_| Wish::Annotated([ROLE, SESSION_NAME, EXTERNAL_ID].map(text)))
    }

    /// What is kept for the pod, while it is known that it has no association, and is good for five minutes more.
    pub(super) async fn current(&self, pod: &Pod, now: Now) -> Option<Arc<Assumed>> {
        let slot = self.slot(&pod.uid);
        let mut state = slot.0.lock().await;
        let checked = state
            .checked
            .is_some_and(|at| now.instant.duration_since(at) < CHECKED_FOR);
        let annotated = self.annotated(pod);
        let entry = state.entry.as_mut().filter(|_| checked)?;
        let same = match &entry.wish {
            Wish::Account(_) => true,
            wish => Some(wish) == annotated.as_ref(),
        };
        if !same || !entry.is_fresh(now) {
            return None;
        }
        entry.read = now.instant;
        Some(Arc::clone(&entry.assumed))
    }

    /// What is kept, while nobody can say whether it is still right: for as long as it lives a minute more.
    pub(super) async fn last(&self, pod: &Pod, now: Now) -> Option<Arc<Assumed>> {
        let slot = self.slot(&pod.uid);
        let state = slot.0.lock().await;
        let entry = state.entry.as_ref()?;
        let changed = matches!(entry.wish, Wish::Annotated(_))
            && self.annotated(pod).as_ref() != Some(&entry.wish);
        state.kept(now).filter(|_| !changed)
    }

    /// The pod's account has an association.
    pub(super) async fn forget(&self, pod: &Pod) {
        let slot = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.get(&pod.uid).cloned()
        };
        if let Some(slot) = slot {
            *slot.0.lock().await = State::default();
        }
    }

    /// Forgets pods that are gone, and accounts that no pod uses.
    pub(super) fn retain(&self, table: &PodTable) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|uid, _| table.is_alive(uid));
        drop(slots);
        let used: HashSet<(&str, &str)> = table
            .pods()
            .map(|pod| (&*pod.namespace, &*pod.service_account))
            .collect();
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|(namespace, name), _| used.contains(&(&**namespace, &**name)));
    }

    /// The role of the pod's account, by its annotations: one read for all pods of the account, remembered for five seconds.
    async fn account(&self, irsa: &Irsa, pod: &Pod) -> Result<Option<AccountRole>, NoRole> {
        let slot = {
            let key = (pod.namespace.clone(), pod.service_account.clone());
            let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(accounts.entry(key).or_default())
        };
        // Held over the read, so that concurrent requests read once.
        let mut held = slot.lock().await;
        if let Some((known, until)) = &*held
            && Instant::now() < *until
        {
            return known.clone().map_err(|()| NoRole::Unavailable);
        }
        let read = irsa.accounts.role(&pod.namespace, &pod.service_account);
        let read = match tokio::time::timeout(ATTEMPT, read).await {
            Ok(Ok(role)) => Ok(role),
            Ok(Err(error)) => {
                self.tell(
                    "accounts",
                    &format!(
                        "the role of a service account cannot be read; the agent needs `get` on serviceaccounts, or --irsa off: {error}"
                    ),
                );
                tracing::debug!(namespace = &*pod.namespace, account = &*pod.service_account, %error, "a service account could not be read");
                Err(())
            }
            Err(_) => Err(()),
        };
        let keep = if read.is_ok() {
            ACCOUNT_FOR
        } else {
            ACCOUNT_FAILED
        };
        *held = Some((read.clone(), Instant::now() + keep));
        read.map_err(|()| NoRole::Unavailable)
    }

    /// Says something the first time; what follows is for the debug level.
    fn tell(&self, what: &'static str, text: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(what) {
            tracing::error!("{text}");
        }
    }

    fn due(&self, now: Now) -> Vec<Box<str>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = |slot: &Slot| {
            // Who holds it is fetching.
            slot.0.try_lock().is_ok_and(|state| {
                state.entry.as_ref().is_some_and(|entry| {
                    let again = entry.again.is_some_and(|at| at <= now.instant);
                    (entry.renew <= now.instant || again) && entry.read >= entry.fetched
                })
            })
        };
        let due = slots.iter().filter(|(_, slot)| is_due(slot));
        due.map(|(uid, _)| uid.clone()).collect()
    }
}

impl Entry {
    fn is_fresh(&self, now: Now) -> bool {
        self.assumed.expires_at.duration_since(now.time) > FRESH
            && self.again.is_none_or(|at| at > now.instant)
    }
}

impl Roles {
    /// The role of a pod whose account has no association, as was found out a moment ago. `anew` fetches although what is kept is
    /// fresh.
    pub(super) async fn other(
        &self,
        others: &Others,
        pod: &Pod,
        anew: bool,
    ) -> Result<Arc<Assumed>, NoRole> {
        let slot = others.slot(&pod.uid);
        // Held over the call, so that concurrent requests of a pod ask once.
        let mut state = slot.0.lock().await;
        let now = self.now();
        let wish = match &others.irsa {
            Some(irsa) => others.account(irsa, pod).await,
            None => Ok(None),
        };
        let wish = match wish {
            Ok(account) => account.map(Wish::Account).or_else(|| others.annotated(pod)),
            Err(refusal) => return state.kept(now).ok_or(refusal),
        };
        let Some(wish) = wish else {
            *state = State::default();
            return Err(NoRole::None);
        };
        state.checked = Some(now.instant);
        let changed = state.entry.as_ref().is_some_and(|entry| entry.wish != wish);
        if changed {
            state.entry = None;
        }
        if let Some(entry) = &mut state.entry
            && !anew
            && entry.is_fresh(now)
        {
            entry.read = now.instant;
            return Ok(Arc::clone(&entry.assumed));
        }
        if let Some((of, refusal, until)) = &state.failed
            && *of == wish
            && now.instant < *until
        {
            let refusal = *refusal;
            return state
                .kept(now)
                .filter(|_| refusal == NoRole::Unavailable)
                .ok_or(refusal);
        }
        let attempt = async {
            let place = others.places.acquire().await;
            let _place = place.map_err(|_| NoRole::Unavailable)?;
            self.assume_other(others, pod, &wish).await
        };
        let outcome = tokio::time::timeout(ATTEMPT, attempt).await;
        let outcome = outcome.unwrap_or(Err(NoRole::Unavailable));
        let now = self.now();
        match outcome {
            Ok(assumed) => {
                let assumed = Arc::new(assumed);
                let life = assumed.expires_at.duration_since(now.time);
                let life = Duration::try_from(life).unwrap_or_default();
                let share = 0.5 + 0.3 * others.chance.unit();
                // A renewal is no read: what nobody reads is renewed once.
                let read = state.entry.as_ref().filter(|_| anew);
                let read = read.map_or(now.instant, |entry| entry.read);
                state.failed = None;
                state.entry = Some(Entry {
                    wish,
                    assumed: Arc::clone(&assumed),
                    fetched: now.instant,
                    renew: now.instant + life.mul_f64(share),
                    again: changed.then(|| now.instant + AGAIN_AFTER),
                    read,
                });
                Ok(assumed)
            }
            Err(refusal) => {
                let for_long = match refusal {
                    NoRole::None => Duration::from_secs(10),
                    NoRole::Forbidden | NoRole::NotAllowed => Duration::from_secs(5),
                    NoRole::Unavailable => Duration::from_secs(1),
                };
                state.failed = Some((wish, refusal, now.instant + for_long));
                if refusal == NoRole::Unavailable {
                    if let Some(entry) = &mut state.entry {
                        entry.renew = now.instant
                            + Duration::from_secs(15).mul_f64(1.0 + others.chance.unit());
                    }
                    return state.kept(now).ok_or(refusal);
                }
                state.entry = None;
                Err(refusal)
            }
        }
    }

    async fn assume_other(
        &self,
        others: &Others,
        pod: &Pod,
        wish: &Wish,
    ) -> Result<Assumed, NoRole> {
        match (wish, &others.irsa, &others.compatible) {
            (Wish::Account(role), Some(irsa), _) => self.assume_account(irsa, pod, role).await,
            (Wish::Annotated([role, ..]), _, Some(compatible)) => {
                self.assume_annotated(others, compatible, pod, role.is_some())
                    .await
            }
            _ => Err(NoRole::None),
        }
    }

    async fn assume_account(
        &self,
        irsa: &Irsa,
        pod: &Pod,
        role: &AccountRole,
    ) -> Result<Assumed, NoRole> {
        let token = self.request(pod, &role.audience, self.now().time).await;
        let token = token.map_err(|error| {
            tracing::warn!(
                namespace = &*pod.namespace, pod = &*pod.name, %error,
                "no token for the role of a pod's service account could be had"
            );
            NoRole::Unavailable
        })?;
        let request = WebIdentityRequest {
            role_arn: &role.role_arn,
            session_name: &session_name(&pod.name),
            token: token.text(),
        };
        let session = irsa.sts.assume_role(request).await.map_err(|error| {
            tracing::warn!(
                namespace = &*pod.namespace, pod = &*pod.name, role = &*role.role_arn, %error,
                "the role of a pod's service account was not assumed"
            );
            of_sts(&error)
        })?;
        let credentials = session.credentials;
        let (Some(token), Some(expires_at)) = (credentials.session_token, credentials.expires_at)
        else {
            return Err(NoRole::Unavailable);
        };
        let role = PodRole::of_session(&session.arn).ok_or(NoRole::Unavailable)?;
        self.checked(Assumed {
            role,
            shown: None,
            role_id: first_part(&session.role_id),
            access_key_id: credentials.access_key_id.into(),
            secret_access_key: credentials.secret_access_key,
            session_token: token,
            fetched_at: self.now().time,
            expires_at,
        })
    }

    async fn assume_annotated(
        &self,
        others: &Others,
        compatible: &Compatible,
        pod: &Pod,
        names_role: bool,
    ) -> Result<Assumed, NoRole> {
        let token = self.token(pod).await.ok_or(NoRole::Unavailable)?;
        let role = match compatible.roles.assume(token.text()).await {
            Ok(role) => role,
            Err(refusal) => {
                tracing::info!(
                    namespace = &*pod.namespace, pod = &*pod.name, %refusal,
                    "a pod gets no role by its annotations"
                );
                return Err(match refusal {
                    NoAnnotatedRole::None(_) => NoRole::None,
                    NoAnnotatedRole::NotAllowed(_) => NoRole::NotAllowed,
                    NoAnnotatedRole::Forbidden(_) => NoRole::Forbidden,
                    NoAnnotatedRole::Token(_) => {
                        self.drop_token(pod, token.digest()).await;
                        NoRole::Unavailable
                    }
                    NoAnnotatedRole::NotOffered(why) => {
                        others.tell(
                            "annotated",
                            &format!(
                                "--compat: the auth service gives no roles by the annotations of kube2iam and kiam ({why}). It must be \
                                 Countersign's, with `annotatedRoles` configured for the cluster; EKS Auth of AWS has no such operation"
                            ),
                        );
                        if names_role {
                            NoRole::Unavailable
                        } else {
                            NoRole::None
                        }
                    }
                    NoAnnotatedRole::Unavailable(_) => NoRole::Unavailable,
                });
            }
        };
        if role.namespace != pod.namespace || role.service_account != pod.service_account {
            return Err(NoRole::Unavailable);
        }
        self.checked(Assumed {
            role: PodRole::of_session(&role.session_arn).ok_or(NoRole::Unavailable)?,
            shown: Some(role.shown),
            role_id: first_part(&role.role_id),
            access_key_id: role.access_key_id,
            secret_access_key: role.secret_access_key,
            session_token: role.session_token,
            fetched_at: self.now().time,
            expires_at: role.expires_at,
        })
    }

    /// Credentials that are at their end are none.
    fn checked(&self, assumed: Assumed) -> Result<Assumed, NoRole> {
        let left = assumed.expires_at.duration_since(self.now().time);
        (left > LEAST).then_some(assumed).ok_or(NoRole::Unavailable)
    }

    /// Renews what is due: an association that was made meanwhile takes over, too.
    async fn renew(&self, others: &Others, pod: &Pod) {
        match self.association(pod).await {
            Err(NoRole::None) => drop(self.other(others, pod, true).await),
            Ok(_) | Err(NoRole::Forbidden | NoRole::NotAllowed) => others.forget(pod).await,
            Err(NoRole::Unavailable) => {}
        }
    }
}

impl State {
    /// What is kept while it cannot be renewed.
    fn kept(&self, now: Now) -> Option<Arc<Assumed>> {
        let entry = self.entry.as_ref()?;
        (entry.assumed.expires_at.duration_since(now.time) > LEAST)
            .then(|| Arc::clone(&entry.assumed))
    }
}

/// What STS's refusals mean. That a token's provider, audience or subject does not fit is for the role's owner, too.
fn of_sts(error: &AwsError) -> NoRole {
    match error {
        AwsError::Refused { code, .. } => match &**code {
            "AccessDenied"
            | "AccessDeniedException"
            | "InvalidIdentityToken"
            | "ValidationError"
            | "PackedPolicyTooLarge" => NoRole::Forbidden,
            _ => NoRole::Unavailable,
        },
        _ => NoRole::Unavailable,
    }
}

/// The pod's name, which says more in a log than what SDKs make up; cut, and no shorter than STS takes.
fn session_name(pod: &str) -> String {
    let name: String = pod
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c))
        .take(64)
        .collect();
    if name.len() < 2 {
        return format!("pod-{name}");
    }
    name
}

/// `AROA…` of `AROA…:SESSION`.
fn first_part(id: &str) -> Box<str> {
    id.split(':').next().unwrap_or_default().into()
}

impl From<Arc<Assumed>> for PodCredentials {
    fn from(assumed: Arc<Assumed>) -> Self {
        Self::Other(assumed)
    }
}

/// Renews credentials between half and four fifths of their life, for pods that live and have asked since.
pub(super) async fn keep(
    roles: Arc<Roles>,
    pods: watch::Receiver<Option<Arc<PodTable>>>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(PREFETCH));
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let Some(table) = pods.borrow().clone() else {
            continue;
        };
        let Some(others) = roles.others() else { return };
        let due = others.due(roles.now());
        let mut renewals = Vec::new();
        for pod in table.pods().filter(|pod| due.contains(&pod.uid)) {
            let (roles, places, pod) = (Arc::clone(&roles), Arc::clone(&places), Arc::clone(pod));
            renewals.push(tokio::spawn(async move {
                let Ok(_place) = places.acquire().await else {
                    return;
                };
                if let Some(others) = roles.others() {
                    roles.renew(others, &pod).await;
                }
            }));
        }
        for renewal in renewals {
            let _ = renewal.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_named_after_their_pod() {
        let long = "p".repeat(253);
        for (pod, expected) in [
            ("picker-0", "picker-0"),
            ("web.example", "web.example"),
            ("p", "pod-p"),
            ("", "pod-"),
            (&*long, &"p".repeat(64)),
        ] {
            assert_eq!(session_name(pod), expected);
        }
    }

    #[test]
    fn what_sts_refuses_is_final_only_for_the_roles_owner() {
        let refused = |code: &str| AwsError::Refused {
            status: 403,
            code: code.to_owned(),
        };
        for (error, expected) in [
            (refused("AccessDenied"), NoRole::Forbidden),
            (refused("InvalidIdentityToken"), NoRole::Forbidden),
            (refused("IDPCommunicationError"), NoRole::Unavailable),
            (refused("ExpiredTokenException"), NoRole::Unavailable),
            (AwsError::Failed { status: 500 }, NoRole::Unavailable),
            (AwsError::BadAnswer, NoRole::Unavailable),
        ] {
            assert_eq!(of_sts(&error), expected, "{error}");
        }
    }
}

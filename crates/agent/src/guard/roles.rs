//! The pod's own role: a token that the guard asks for on the pod's behalf, exchanged through the agent's cache (imds spec,
//! sections 5.3 and 5.5).
//!
//! A pod has one entry in the cache, whoever asks for it: its SDK at the credentials endpoint, or the guard. So a pod's two ways
//! give the same credentials, and a hundred first requests make one call. A pod whose account has no association may have
//! another role: see [`others`](super::others).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use countersign_imds::role::{PodRole, Shown};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::GuardApi;
use super::others::{Assumed, Others};
use crate::cache::{Cache, Held, Now, Wanted};
use crate::metrics::Metrics;
use crate::pods::{Pod, PodTable};
use crate::refusal::{FinalCode, Refusal};
use crate::token::{Digester, TokenDigest, TokenFacts};

/// Credentials with less left are fetched anew before they are handed out.
pub(super) const FRESH: SignedDuration = SignedDuration::from_mins(5);
/// When that fails, those with more left are handed out still.
pub(super) const LEAST: SignedDuration = SignedDuration::from_secs(60);
/// A token is asked for anew when less of its life is left.
const TOKEN_LEFT: i64 = 120;
/// A failed TokenRequest is not repeated for this long.
const TOKEN_FAILED: Duration = Duration::from_secs(1);
/// A token takes at most this long.
const TOKEN_TIME: Duration = Duration::from_secs(3);
/// Pods whose credentials are fetched ahead at once.
pub(super) const PREFETCH: usize = 4;

/// Why a pod has no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRole {
    /// Its service account has no role.
    None,
    /// The role may not be assumed.
    Forbidden,
    /// The pod's annotation names a role that its namespace may not have.
    NotAllowed,
    /// They cannot be had at the moment.
    Unavailable,
}

/// A pod's credentials.
pub(crate) enum PodCredentials {
    /// Of the association of its account.
    Association { role: PodRole, held: Held },
    /// Of a role that annotations name.
    Other(Arc<Assumed>),
}

impl PodCredentials {
    fn role(&self) -> &PodRole {
        match self {
            Self::Association { role, .. } => role,
            Self::Other(assumed) => &assumed.role,
        }
    }

    /// The line of the list.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Association { role, .. } => role.name(),
            Self::Other(assumed) => match &assumed.shown {
                Some(shown) => shown,
                None => assumed.role.name(),
            },
        }
    }

    /// Whether what a client asked for is this role.
    pub(crate) fn is(&self, asked: &str) -> bool {
        asked == self.name() || self.role().is(asked)
    }

    /// The body of the credentials path.
    pub(crate) fn body(&self) -> Option<Bytes> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Own<'b> {
            access_key_id: &'b str,
            #[serde(borrow)]
            secret_access_key: Cow<'b, str>,
            #[serde(borrow)]
            token: Cow<'b, str>,
        }
        let body = match self {
            Self::Association { held, .. } => {
                let own: Own<'_> = serde_json::from_slice(&held.body).ok()?;
                Shown {
                    access_key_id: own.access_key_id,
                    secret_access_key: &own.secret_access_key,
                    session_token: &own.token,
                    updated: held.fetched_at,
                    expires: held.expires_at,
                }
                .body()
            }
            Self::Other(assumed) => assumed.body(),
        };
        (!body.is_empty()).then(|| Bytes::from_owner(body))
    }

    /// The body of `iam/info`.
    pub(crate) fn info(&self) -> Bytes {
        match self {
            Self::Association { role, held } => {
                role.info(held.fetched_at, &held.association_id).into()
            }
            Self::Other(assumed) => assumed.info().into(),
        }
    }
}

/// The newest token of a pod, or when it failed.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<SlotState>);

#[derive(Default)]
enum SlotState {
    #[default]
    Empty,
    Held(Arc<Token>),
    Failed(Instant),
}

pub(super) struct Token {
    text: Zeroizing<String>,
    digest: TokenDigest,
    facts: TokenFacts,
}

impl Token {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) const fn digest(&self) -> TokenDigest {
        self.digest
    }
}

pub(crate) struct Roles {
    cache: Arc<Cache>,
    digester: Digester,
    api: Option<Arc<dyn GuardApi>>,
    audience: Box<str>,
    others: Option<Others>,
    /// By pod uid. INVARIANT: pods of the node only; those that are gone leave with the next table.
    tokens: Mutex<HashMap<Box<str>, Arc<Slot>>>,
}

impl Roles {
    pub(crate) fn new(
        cache: Arc<Cache>,
        digester: Digester,
        api: Option<Arc<dyn GuardApi>>,
        audience: Box<str>,
        others: Option<Others>,
    ) -> Self {
        Self {
            cache,
            digester,
            api,
            audience,
            others,
            tokens: Mutex::default(),
        }
    }

    pub(super) const fn others(&self) -> Option<&Others> {
        self.others.as_ref()
    }

    pub(super) fn now(&self) -> Now {
        self.cache.now()
    }

    /// The pod's credentials, with five minutes left where that can be had: of the association of its account, or else of the
    /// role that annotations give it.
    pub(crate) async fn get(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<PodCredentials, NoRole> {
        if pod.service_account.is_empty() {
            return Err(NoRole::None);
        }
        let Some(others) = &self.others else {
            return self.association(pod).await;
        };
        if let Some(assumed) = others.current(pod, self.now()).await {
            return Ok(assumed.into());
        }
        match self.association(pod).await {
            Err(NoRole::None) => {
                // On its own: a client that goes away does not stop what others wait for, and the next one finds.
                let (roles, pod) = (Arc::clone(self), Arc::clone(pod));
                let looked = tokio::spawn(async move {
                    match &roles.others {
                        Some(others) => roles.other(others, &pod, false).await,
                        None => Err(NoRole::None),
                    }
                });
                let found = looked.await.unwrap_or(Err(NoRole::Unavailable));
                found.map(Into::into)
            }
            // Nobody can say whether there is an association; what was right before is kept for a while.
            Err(NoRole::Unavailable) => {
                let last = others.last(pod, self.now()).await;
                last.map(Into::into).ok_or(NoRole::Unavailable)
            }
            found => {
                others.forget(pod).await;
                found
            }
        }
    }

    /// The credentials of the association.
    pub(super) async fn association(&self, pod: &Pod) -> Result<PodCredentials, NoRole> {
        let mut last = NoRole::Unavailable;
        // A second time with a new token, when the auth service calls the first one bad.
        for _ in 0..2 {
            let token = self.token(pod).await.ok_or(NoRole::Unavailable)?;
            let key = token.facts.identity.key();
            let now = self.cache.now();
            let held = self.cache.held(key, now);
            let left = |held: &Held, now: Now| held.expires_at.duration_since(now.time);
            if let Some(held) = held.as_ref().filter(|held| left(held, now) > FRESH) {
                return credentials(held.clone());
            }
            let wanted = Wanted {
                text: &token.text,
                digest: token.digest,
                facts: token.facts.clone(),
                verified: true,
            };
            let (outcome, _) = self.cache.fetch(wanted).await;
            match outcome {
                // Credentials of a pod that is gone are not kept, and not handed out.
                Ok(_) => match self.cache.held(key, self.cache.now()) {
                    Some(held) => return credentials(held),
                    None => return Err(NoRole::Unavailable),
                },
                Err(refusal) => {
                    last = no_role(&refusal);
                    if refusal.is_about_the_token() || refusal == Refusal::Expired {
                        self.drop_token(pod, token.digest).await;
                        continue;
                    }
                    if last == NoRole::Unavailable
                        && let Some(held) = held.filter(|held| left(held, self.cache.now()) > LEAST)
                    {
                        return credentials(held);
                    }
                    return Err(last);
                }
            }
        }
        Err(last)
    }

    fn slot(&self, uid: &str) -> Arc<Slot> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tokens.entry(uid.into()).or_default())
    }

    pub(super) async fn token(&self, pod: &Pod) -> Option<Arc<Token>> {
        let slot = self.slot(&pod.uid);
        // Held over the call, so that concurrent requests of a pod ask once.
        let mut state = slot.0.lock().await;
        let now = self.cache.now().time;
        match &*state {
            SlotState::Held(token) if token.facts.expires - now.as_second() > TOKEN_LEFT => {
                return Some(Arc::clone(token));
            }
            SlotState::Failed(at) if at.elapsed() < TOKEN_FAILED => return None,
            _ => {}
        }
        match self.request(pod, &self.audience, now).await {
            Ok(token) => {
                let token = Arc::new(token);
                *state = SlotState::Held(Arc::clone(&token));
                Some(token)
            }
            Err(error) => {
                tracing::warn!(
                    namespace = &*pod.namespace, pod = &*pod.name, %error,
                    "no token for a pod could be had; it gets no credentials from instance metadata"
                );
                *state = SlotState::Failed(Instant::now());
                None
            }
        }
    }

    /// A token for the pod, which is not kept.
    pub(super) async fn request(
        &self,
        pod: &Pod,
        audience: &str,
        now: Timestamp,
    ) -> Result<Token, String> {
        let api = self.api.as_ref().ok_or("the agent has no Kubernetes API")?;
        let asked = api.token(pod, audience);
        let text = tokio::time::timeout(TOKEN_TIME, asked)
            .await
            .map_err(|_| "no answer in time")?
            .map_err(|error| error.to_string())?;
        let facts = TokenFacts::read(&text, now).map_err(|refusal| refusal.to_string())?;
        let identity = &facts.identity;
        if identity.pod_uid != pod.uid
            || identity.namespace != pod.namespace
            || identity.service_account != pod.service_account
        {
            return Err("the token is not bound to this pod".into());
        }
        let digest = self.digester.digest(&text);
        Ok(Token {
            text,
            digest,
            facts,
        })
    }

    pub(super) async fn drop_token(&self, pod: &Pod, digest: TokenDigest) {
        let slot = self.slot(&pod.uid);
        let mut state = slot.0.lock().await;
        if matches!(&*state, SlotState::Held(token) if token.digest == digest) {
            *state = SlotState::Empty;
        }
    }

    /// Forgets the tokens of pods that are gone.
    fn retain(&self, table: &PodTable) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|uid, _| table.is_alive(uid));
        drop(tokens);
        if let Some(others) = &self.others {
            others.retain(table);
        }
    }
}

fn credentials(held: Held) -> Result<PodCredentials, NoRole> {
    let role = PodRole::of_session(&held.session_arn).ok_or(NoRole::Unavailable)?;
    Ok(PodCredentials::Association { role, held })
}

fn no_role(refusal: &Refusal) -> NoRole {
    match refusal {
        Refusal::Final {
            code: FinalCode::ResourceNotFound,
            ..
        } => NoRole::None,
        Refusal::Final {
            code: FinalCode::AccessDenied,
            ..
        } => NoRole::Forbidden,
        _ => NoRole::Unavailable,
    }
}

/// Fetches the credentials of pods when they get their address, so that their first request is answered from the cache.
pub(crate) async fn prefetch(
    roles: Arc<Roles>,
    mut pods: watch::Receiver<Option<Arc<PodTable>>>,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let mut seen: HashSet<Box<str>> = HashSet::new();
    let places = Arc::new(Semaphore::new(PREFETCH));
    pods.mark_changed();
    loop {
        tokio::select! {
            changed = pods.changed() => if changed.is_err() { return },
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let Some(table) = pods.borrow_and_update().clone() else {
            continue;
        };
        roles.retain(&table);
        seen.retain(|uid| table.is_alive(uid));
        for pod in table.pods() {
            let due = !pod.terminated && !pod.host_network && !pod.addresses.is_empty();
            if !due || !seen.insert(pod.uid.clone()) {
                continue;
            }
            let (roles, metrics, places, pod) = (
                Arc::clone(&roles),
                Arc::clone(&metrics),
                Arc::clone(&places),
                Arc::clone(pod),
            );
            tokio::spawn(async move {
                let Ok(_place) = places.acquire().await else {
                    return;
                };
                let result = match roles.get(&pod).await {
                    Ok(_) => "success",
                    Err(NoRole::None) => "no_role",
                    Err(NoRole::Forbidden) => "forbidden",
                    Err(NoRole::NotAllowed) => "not_allowed",
                    Err(NoRole::Unavailable) => "unavailable",
                };
                metrics.guard.prefetched(result);
            });
        }
    }
}

//! Whether what a token is bound to is still there (IRSA spec, section 4.4; check 11 of section 6.2).
//!
//! The API server is asked by a TokenReview, which looks at the service account and the pod by their uids. It goes on
//! accepting the token of a deleted pod for a minute at most; what it says is remembered here for [`REMEMBER`] alone, so
//! that a burst of one pod's processes is one question.
//!
//! While the API server does not answer nothing can be deleted through it either. A token that it accepted within
//! [`OUTAGE`] is accepted on, so that pods keep their credentials through an outage; any other is refused for now.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use countersign_oidc::Claims;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::api::ClusterApi;

/// How long an answer stands. The API server itself remembers its own for about as long.
const REMEMBER: Duration = Duration::from_secs(10);
/// How long a token that was accepted may be used while the API server does not answer: twice as long as the session that
/// it was exchanged for by default.
const OUTAGE: Duration = Duration::from_secs(2 * 60 * 60);
/// How long nobody asks after a failure.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Questions at once to one API server.
const AT_ONCE: usize = 64;
/// Tokens remembered of one cluster; of those not used for longest, half are dropped at once.
const REMEMBERED: usize = 32_768;

/// What is done about tokens whose pod or service account is gone: `issuer.boundCheck`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BoundCheck {
    /// Nobody is asked, as at AWS.
    Off,
    /// They are accepted, logged and counted.
    Warn,
    /// They are refused.
    #[default]
    Enforce,
}

/// The text is none of the three words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown bound check `{0}`; one of off, warn, enforce")]
pub struct UnknownBoundCheck(pub String);

impl FromStr for BoundCheck {
    type Err = UnknownBoundCheck;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "warn" => Ok(Self::Warn),
            "enforce" => Ok(Self::Enforce),
            _ => Err(UnknownBoundCheck(text.chars().take(64).collect())),
        }
    }
}

/// Whether what a token is bound to is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// It is.
    Alive,
    /// It is not; why, in the API server's words.
    Gone(String),
    /// The API server does not say; why.
    Unknown(String),
    /// Nobody was asked: the check is off, or the API server of the cluster is not known here.
    NotChecked,
}

/// What one API server said lately.
#[derive(Debug)]
pub(super) struct BoundObjects {
    seen: Mutex<Generations>,
    permits: Semaphore,
    failed: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    gone: Option<String>,
}

/// Two maps instead of one with an order: the older is dropped when the newer is full.
#[derive(Debug, Default)]
struct Generations {
    newer: HashMap<[u8; 32], Seen>,
    older: HashMap<[u8; 32], Seen>,
}

impl Generations {
    fn get(&self, digest: &[u8; 32]) -> Option<&Seen> {
        self.newer.get(digest).or_else(|| self.older.get(digest))
    }

    fn insert(&mut self, digest: [u8; 32], seen: Seen) {
        if self.newer.len() >= REMEMBERED / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(digest, seen);
    }
}

impl BoundObjects {
    pub(super) fn new() -> Self {
        Self {
            seen: Mutex::default(),
            permits: Semaphore::new(AT_ONCE),
            failed: Mutex::default(),
        }
    }

    /// Asks `api`, unless it said lately. The second part tells an answer that is only an old one.
    pub(super) async fn check(
        &self,
        api: &dyn ClusterApi,
        token: &str,
        claims: &Claims,
    ) -> (Bound, bool) {
        let digest = digest_of(token);
        let seen = lock(&self.seen).get(&digest).cloned();
        let now = Instant::now();
        if let Some(seen) = &seen
            && now < seen.at + REMEMBER
        {
            return (seen.bound(), false);
        }
        let failure = match self.ask(api, token, claims).await {
            Ok(gone) => {
                let seen = Seen {
                    at: Instant::now(),
                    gone,
                };
                let bound = seen.bound();
                lock(&self.seen).insert(digest, seen);
                return (bound, false);
            }
            Err(failure) => failure,
        };
        match seen {
            // Who is gone does not come back.
            Some(seen) if seen.gone.is_some() || now < seen.at + OUTAGE => (seen.bound(), true),
            _ => (Bound::Unknown(failure), false),
        }
    }

    /// Why it is gone, if it is.
    async fn ask(
        &self,
        api: &dyn ClusterApi,
        token: &str,
        claims: &Claims,
    ) -> Result<Option<String>, String> {
        let lately = |failed: Instant| Instant::now() < failed + BACK_OFF;
        if lock(&self.failed).is_some_and(lately) {
            return Err("the API server did not answer a moment ago".to_owned());
        }
        let Ok(_permit) = self.permits.try_acquire() else {
            return Err(format!(
                "{AT_ONCE} questions to the API server are under way"
            ));
        };
        match api.review(token, &claims.audiences).await {
            Ok(verdict) if !verdict.authenticated => Ok(Some(match verdict.reason.as_str() {
                "" => "the API server does not accept the token".to_owned(),
                reason => reason.to_owned(),
            })),
            Ok(verdict) if *verdict.username != *claims.subject => Ok(Some(
                "the API server says that the token is somebody else's".to_owned(),
            )),
            Ok(_) => Ok(None),
            Err(error) => {
                lock(&self.failed).replace(Instant::now());
                Err(error.to_string())
            }
        }
    }
}

impl Seen {
    fn bound(&self) -> Bound {
        match &self.gone {
            None => Bound::Alive,
            Some(reason) => Bound::Gone(reason.clone()),
        }
    }
}

/// The token itself is not kept.
fn digest_of(token: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    let mut bytes = [0; 32];
    if let Some(all) = digest.as_ref().get(..32) {
        bytes.copy_from_slice(all);
    }
    bytes
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Connections to the members of an etcd cluster: one at a time, the next one when it fails.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, Identity, KvClient, TlsOptions,
};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::failure::{Cause, Failure, Fate};
use super::layout::{Head, Layout};
use super::lineage::{Lineage, Place};
use super::options::{EtcdOptions, EtcdPassword, EtcdTls};
use crate::Revision;

/// The least time between two HTTP/2 pings; etcd closes connections that ping more than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one answer that are read. The largest single record has half a MiB.
pub(super) const ANSWER_BYTES: usize = 16 << 20;
/// How often a write finds out whether a lost etcd is back.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// How long that write waits for the answer.
const PROBE_WITHIN: Duration = Duration::from_secs(1);

/// The members, and whether etcd answers.
pub(super) struct Connections {
    pub(super) options: EtcdOptions,
    pub(super) layout: Layout,
    pub(super) lineage: Lineage,
    members: Vec<Member>,
    current: AtomicUsize,
    breaker: Breaker,
}

struct Member {
    /// `host:port`.
    endpoint: String,
    /// `None` until it is needed, and after it failed. Never held across a wait, so that a failure is noted at once.
    client: Mutex<Option<Client>>,
    /// Held by the one request that connects, which may have to ask for a token.
    connecting: tokio::sync::Mutex<()>,
}

impl Member {
    fn slot(&self) -> MutexGuard<'_, Option<Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client of one member.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) client: Client,
    member: usize,
    endpoint: String,
}

impl Connected {
    pub(super) fn kv(&self) -> KvClient {
        self.client
            .kv_client()
            .max_decoding_message_size(ANSWER_BYTES)
    }

    pub(super) fn nonsense(&self) -> Failure {
        let endpoint = self.endpoint.clone();
        Failure::new(Fate::Unknown, Cause::Nonsense { endpoint })
    }

    /// etcd ended a watch. Its reason may be a token that is over, which a new connection gets anew.
    pub(super) fn cancelled(&self, message: String) -> Failure {
        let endpoint = self.endpoint.clone();
        let fate = if message.contains("permission denied") {
            Fate::TokenStale
        } else {
            Fate::Unknown
        };
        Failure::new(fate, Cause::Status { endpoint, message })
    }

    pub(super) fn failure(&self, error: &etcd_client::Error) -> Failure {
        Failure::of(error, &self.endpoint)
    }

    /// The answer of a request, or its failure; a member that is silent for too long has failed.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Failure> {
        match timeout(limit, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => {
                let endpoint = self.endpoint.clone();
                Err(Failure::new(
                    Fate::Unknown,
                    Cause::Silent {
                        endpoint,
                        after: limit,
                    },
                ))
            }
        }
    }
}

impl Connections {
    pub(super) fn new(options: EtcdOptions) -> Self {
        let members = options.endpoints.iter().map(|endpoint| Member {
            endpoint: endpoint.clone(),
            client: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
        });
        Self {
            layout: Layout::new(&options.prefix),
            lineage: Lineage::default(),
            members: members.collect(),
            current: AtomicUsize::new(0),
            breaker: Breaker::default(),
            options,
        }
    }

    /// How many members there are to try.
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// A client of the current member; connecting does not wait for it, except to get a token.
    pub(super) async fn client(&self) -> Result<Connected, Failure> {
        let index = self.current.load(Ordering::Relaxed);
        let Some(member) = self.members.get(index).or_else(|| self.members.first()) else {
            let endpoint = String::new();
            return Err(Failure::new(Fate::Refused, Cause::Nonsense { endpoint }));
        };
        let connected = |client| Connected {
            client,
            member: index,
            endpoint: member.endpoint.clone(),
        };
        if let Some(client) = member.slot().clone() {
            return Ok(connected(client));
        }
        let _connecting = member.connecting.lock().await;
        if let Some(client) = member.slot().clone() {
            return Ok(connected(client));
        }
        match self.connect(&member.endpoint).await {
            Ok(client) => {
                *member.slot() = Some(client.clone());
                Ok(connected(client))
            }
            Err(failure) => {
                self.turn(index);
                Err(failure)
            }
        }
    }

    /// Says that a client failed: the next request makes a new connection, to the next member.
    pub(super) fn failed(&self, connected: &Connected, fate: Fate) {
        match fate {
            Fate::Compacted | Fate::Future | Fate::TooLarge | Fate::Refused => return,
            Fate::TokenStale => {}
            Fate::NotDone | Fate::Unknown => self.turn(connected.member),
        }
        if let Some(member) = self.members.get(connected.member) {
            *member.slot() = None;
        }
    }

    /// Goes on to the next member, unless somebody else has already.
    fn turn(&self, from: usize) {
        let next = from
            .checked_add(1)
            .filter(|next| *next < self.members.len());
        let _ = self.current.compare_exchange(
            from,
            next.unwrap_or(0),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// A read, asked of one member after the other until one answers.
    pub(super) async fn read<T, F>(
        &self,
        request: impl Fn(Connected) -> F + Send,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut last = None;
        // Once more than there are members: the first failure may only be that of a connection that was idle for long.
        for _ in 0..=self.members() {
            let failure = match self.client().await {
                Err(failure) => failure,
                Ok(connected) => match request(connected.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => {
                        self.failed(&connected, failure.fate);
                        failure
                    }
                },
            };
            match failure.fate {
                Fate::Compacted | Fate::Future | Fate::TooLarge => return Err(failure),
                Fate::Refused => {
                    self.breaker.open();
                    return Err(failure);
                }
                Fate::NotDone | Fate::TokenStale | Fate::Unknown => last = Some(failure),
            }
        }
        self.breaker.open();
        Err(last.unwrap_or_else(|| Failure::new(Fate::NotDone, Cause::Stuck)))
    }

    /// Where etcd is, with the head as it was `at` a revision, or as it is now.
    pub(super) async fn place(
        &self,
        connected: &Connected,
        at: Option<Revision>,
    ) -> Result<Place, Failure> {
        let options = match at {
            Some(at) if at > Revision::ZERO => GetOptions::new().with_revision(number(at)),
            _ => GetOptions::new(),
        };
        let mut kv = connected.kv();
        let answer = connected
            .within(
                self.options.request_timeout,
                kv.get(self.layout.head(), Some(options)),
            )
            .await?;
        let header = answer.0.header.ok_or_else(|| connected.nonsense())?;
        Ok(Place {
            cluster: header.cluster_id,
            revision: revision(header.revision),
            head: answer
                .0
                .kvs
                .first()
                .map(|kv| Head::read(revision(kv.mod_revision), &kv.value)),
        })
    }

    /// Whether a write may be sent. While etcd is away writes are refused at once; one of them asks, from time to time,
    /// whether it is back, and whether it is the same.
    pub(super) async fn admit(&self) -> Result<(), Failure> {
        let probe = match self.breaker.admit(Instant::now()) {
            Admission::Pass => return Ok(()),
            Admission::Refuse(away) => {
                return Err(Failure::new(Fate::NotDone, Cause::Away(away)));
            }
            Admission::Probe => Probe(&self.breaker),
        };
        let upto = self.lineage.upto();
        let current = self.current.load(Ordering::Relaxed);
        let place = timeout(
            PROBE_WITHIN,
            self.read(|connected| async move { self.place(&connected, Some(upto)).await }),
        )
        .await;
        drop(probe);
        let failure = match place {
            Ok(Ok(place)) if self.lineage.continues(upto, &place) => {
                self.breaker.close();
                return Ok(());
            }
            Ok(Ok(_)) => Failure::new(Fate::NotDone, Cause::AnotherHistory),
            // Also when its history was compacted meanwhile: whether it is the same is for the next watch to say.
            Ok(Err(failure)) => failure,
            Err(_) => {
                self.turn(current);
                Failure::new(Fate::NotDone, Cause::Away(PROBE_WITHIN))
            }
        };
        self.breaker.open();
        Err(failure)
    }

    /// Something did not answer.
    pub(super) fn lost(&self) {
        self.breaker.open();
    }

    /// Something answered.
    pub(super) fn answered(&self) {
        self.breaker.close();
    }

    async fn connect(&self, endpoint: &str) -> Result<Client, Failure> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.options.connect_timeout)
            .with_keep_alive(PING_EVERY, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        let mut scheme = "http";
        if let Some(tls) = &self.options.tls {
            scheme = "https";
            options = options.with_tls(tls_options(tls).await?);
        }
        if let Some(user) = &self.options.user {
            let password = password(&user.password).await?;
            options = options.with_user(user.name.as_str(), password.as_str());
        }
        let url = format!("{scheme}://{endpoint}");
        match timeout(
            self.options.request_timeout,
            Client::connect([url], Some(options)),
        )
        .await
        {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => {
                let mut failure = Failure::of(&error, endpoint);
                // Nothing was asked of it yet; and a password that was just read and is wrong is wrong everywhere.
                failure.fate = match failure.fate {
                    Fate::Refused | Fate::TokenStale => Fate::Refused,
                    _ => Fate::NotDone,
                };
                Err(failure)
            }
            Err(_) => Err(Failure::new(
                Fate::NotDone,
                Cause::Silent {
                    endpoint: endpoint.to_owned(),
                    after: self.options.request_timeout,
                },
            )),
        }
    }
}

async fn tls_options(tls: &EtcdTls) -> Result<TlsOptions, Failure> {
    let ca = read(&tls.ca_file).await?;
    let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(&*ca));
    if let Some((certificate, key)) = &tls.identity {
        let (certificate, key) = (read(certificate).await?, read(key).await?);
        options = options.identity(Identity::from_pem(&*certificate, &*key));
    }
    Ok(options)
}

async fn password(source: &EtcdPassword) -> Result<Zeroizing<String>, Failure> {
    match source {
        EtcdPassword::Given(password) => Ok(Zeroizing::new(password.expose().to_owned())),
        EtcdPassword::File(path) => {
            let bytes = read(path).await?;
            let text = std::str::from_utf8(&bytes).map_err(|_| file(path, "it is no text"))?;
            let text = text.strip_suffix('\n').unwrap_or(text);
            Ok(Zeroizing::new(
                text.strip_suffix('\r').unwrap_or(text).to_owned(),
            ))
        }
    }
}

async fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match tokio::fs::read(path).await {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(error) => Err(file(path, &error.to_string())),
    }
}

fn file(path: &Path, reason: &str) -> Failure {
    Failure::new(
        Fate::NotDone,
        Cause::File {
            path: path.display().to_string(),
            reason: reason.to_owned(),
        },
    )
}

/// A revision as etcd has it.
pub(super) fn revision(number: i64) -> Revision {
    Revision::new(u64::try_from(number).unwrap_or(0))
}

/// A revision as etcd takes it.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.get()).unwrap_or(i64::MAX)
}

/// Whether etcd answered when it was last asked.
#[derive(Debug, Default)]
struct Breaker(Mutex<State>);

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Closed,
    Open {
        since: Instant,
        asked: Instant,
        probing: bool,
    },
}

enum Admission {
    Pass,
    Probe,
    Refuse(Duration),
}

/// Whoever asks; when it stops asking, somebody else may.
struct Probe<'a>(&'a Breaker);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let State::Open { probing, .. } = &mut *self.0.lock() {
            *probing = false;
        }
    }
}

impl Breaker {
    fn close(&self) {
        *self.lock() = State::Closed;
    }

    fn open(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        *state = match *state {
            State::Closed => State::Open {
                since: now,
                asked: now,
                probing: false,
            },
            State::Open { since, probing, .. } => State::Open {
                since,
                asked: now,
                probing,
            },
        };
    }

    fn admit(&self, now: Instant) -> Admission {
        match &mut *self.lock() {
            State::Closed => Admission::Pass,
            State::Open {
                since,
                asked,
                probing,
            } => {
                if *probing || now.duration_since(*asked) < PROBE_EVERY {
                    return Admission::Refuse(now.duration_since(*since));
                }
                *probing = true;
                Admission::Probe
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_write_asks_while_the_others_are_refused() {
        let breaker = Breaker::default();
        let now = Instant::now();
        assert!(matches!(breaker.admit(now), Admission::Pass));
        breaker.open();
        assert!(
            matches!(breaker.admit(now), Admission::Refuse(_)),
            "just asked"
        );
        let later = now + PROBE_EVERY + Duration::from_secs(1);
        assert!(matches!(breaker.admit(later), Admission::Probe));
        assert!(
            matches!(breaker.admit(later), Admission::Refuse(_)),
            "one asks"
        );
        drop(Probe(&breaker));
        assert!(
            matches!(breaker.admit(later), Admission::Probe),
            "it was given up"
        );
        breaker.close();
        assert!(matches!(breaker.admit(later), Admission::Pass));
    }
}

//! The packet filter around the guard: closed first, opened to the guard while it answers, closed again whenever it does not
//! (imds spec, section 5.1). The rules are text from [`countersign_imds::rules`]; programs get them on standard input.

mod filter;
mod inspect;
mod predecessors;
mod program;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use countersign_imds::decision::Mode;
use countersign_imds::host::HostRules;
use countersign_imds::rules::Target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

pub use filter::{Filter, FilterKind};
pub use inspect::{drop_until_answered, inspect};
pub use predecessors::{PredecessorRule, Predecessors, predecessors};
pub use program::ProgramError;

use super::metrics::GuardState;
use crate::health::{Health, State};
use crate::metrics::Metrics;
use crate::sockets::{Role, Sockets};

/// What opens the filter is refreshed this often.
const REFRESH: Duration = Duration::from_secs(10);
/// And runs out after this long.
const LIVES: u32 = 30;
/// After a failure.
const RETRY: Duration = Duration::from_secs(2);
/// Time for a request of our own to the guard.
const SELF_CHECK: Duration = Duration::from_secs(2);
/// Rules of predecessors are looked for on every so many refreshes.
const SHADOWS_EVERY: u32 = 6;
const PART: &str = "imds guard";

/// Keeps the filter.
pub(crate) struct Capture {
    filter: Filter,
    mode: Mode,
    host: Option<watch::Receiver<Option<HostRules>>>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    succession: Succession,
    refreshes: u32,
    in_force: watch::Sender<bool>,
}

/// The processes before and after this one, which leave the filter open for each other.
pub(crate) struct Succession {
    /// To be told when the filter is open, while the rules are those of the process before.
    pub(crate) takes_over: Option<watch::Sender<bool>>,
    pub(crate) sockets: Arc<Sockets>,
}

/// How one round ended.
enum Round {
    Open,
    Waiting,
}

impl Capture {
    pub(crate) fn new(
        filter: Filter,
        mode: Mode,
        host: Option<watch::Receiver<Option<HostRules>>>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        succession: Succession,
    ) -> Self {
        Self {
            filter,
            mode,
            host,
            health,
            metrics,
            succession,
            refreshes: 0,
            in_force: watch::Sender::new(false),
        }
    }

    /// Whether pods' requests reach the guard, as it changes.
    pub(crate) fn in_force(&self) -> watch::Receiver<bool> {
        self.in_force.subscribe()
    }

    /// Until `stop` becomes true; then the filter is closed at once, unless another process of the agent has it.
    pub(crate) async fn keep(
        mut self,
        mut bound: watch::Receiver<Vec<SocketAddr>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut warned = false;
        let mut was_open = false;
        if self.succession.takes_over.is_some() {
            // The rules of the process before hold until they are replaced, once, by ours for all addresses.
            let inherited = self.succession.sockets.inherited(Role::Guard);
            let served = bound.wait_for(|bound| bound.len() >= inherited.max(1));
            let _ = tokio::time::timeout(RETRY, served).await;
        }
        loop {
            let addresses = bound.borrow_and_update().clone();
            if let Some(host) = &mut self.host {
                self.filter.set_host(host.borrow_and_update().clone());
            }
            let round = self.round(&addresses).await;
            self.in_force.send_if_modified(|known| {
                let now = matches!(round, Ok(Round::Open));
                std::mem::replace(known, now) != now
            });
            let pause = match round {
                Ok(Round::Open) => {
                    if !std::mem::replace(&mut was_open, true) {
                        tracing::info!(filter = %self.filter, "pods' requests for instance metadata reach the guard");
                    }
                    warned = false;
                    self.metrics.guard.state(GuardState::Redirect);
                    self.health.report(PART, State::Fine, "");
                    REFRESH
                }
                Ok(Round::Waiting) => {
                    was_open = false;
                    self.metrics.guard.state(GuardState::Drop);
                    let detail = "pods' requests are dropped until the guard listens";
                    self.health.report(PART, State::Warning, detail);
                    RETRY
                }
                Err(error) => {
                    was_open = false;
                    // Nothing is known about the rules; what was set before them may still hold.
                    self.metrics.guard.state(if self.filter.is_installed() {
                        GuardState::Drop
                    } else {
                        GuardState::Open
                    });
                    if !std::mem::replace(&mut warned, true) {
                        tracing::error!(%error, filter = %self.filter, "the packet filter around instance metadata cannot be set; it is tried again every 2 s");
                    }
                    self.health.report(PART, State::Failed, error.to_string());
                    RETRY
                }
            };
            tokio::select! {
                // First: that the guard's sockets go is no reason to close what a successor opened.
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                changed = bound.changed() => if changed.is_err() { break },
                () = changed(&mut self.host) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        if self.succession.sockets.have_left() {
            return;
        }
        match self.filter.close().await {
            Ok(()) => tracing::info!(
                "pods' requests for instance metadata are dropped until the agent is back"
            ),
            // It closes itself when its time has run out.
            Err(error) => tracing::warn!(%error, "the packet filter could not be closed at once"),
        }
        self.metrics.guard.state(GuardState::Drop);
    }

    async fn round(&mut self, bound: &[SocketAddr]) -> Result<Round, ProgramError> {
        let target = super::target(bound);
        if self.mode == Mode::Audit && !self.filter.is_installed() {
            // `audit` changes nothing for anybody; taking the traffic away from a predecessor would.
            let shadows = predecessors().await.rules;
            if let Some(shadow) = shadows.first() {
                return Err(ProgramError::Shadowed(shadow.rule.clone()));
            }
        }
        if !self.filter.is_installed_for(target) || !self.filter.is_intact().await {
            // Connections reach a guard all the while: the one before serves until this filter is open.
            let seconds = match (target, &self.succession.takes_over) {
                (Some(_), Some(_)) => Some(LIVES),
                _ => None,
            };
            self.filter.install(target, seconds).await?;
        }
        let Some(target) = target else {
            return Ok(Round::Waiting);
        };
        if !answers(target).await {
            self.filter.close().await?;
            return Ok(Round::Waiting);
        }
        self.filter.open(LIVES).await?;
        if let Some(takes_over) = self.succession.takes_over.take() {
            takes_over.send_replace(true);
        }
        if self.refreshes.is_multiple_of(SHADOWS_EVERY) && self.mode != Mode::Audit {
            remove_predecessors().await;
        }
        self.refreshes = self.refreshes.wrapping_add(1);
        Ok(Round::Open)
    }
}

/// Only now, with our own rules at work, rules of kube2iam and kiam go.
async fn remove_predecessors() {
    for rule in predecessors().await.rules {
        match rule.remove().await {
            Ok(()) => tracing::warn!(
                rule = rule.rule,
                undo = rule.undo(),
                "removed a rule that sent instance metadata to somebody else"
            ),
            Err(error) => tracing::warn!(
                rule = rule.rule, %error,
                "a rule that sends instance metadata to somebody else cannot be removed; it has no effect while the guard runs"
            ),
        }
    }
}

/// Until the rules for pods on the host's network are others.
async fn changed(host: &mut Option<watch::Receiver<Option<HostRules>>>) {
    match host {
        Some(host) if host.has_changed().is_ok() => drop(host.changed().await),
        _ => std::future::pending().await,
    }
}

/// Whether the guard answers a request of our own on every address that connections are sent to.
async fn answers(target: Target) -> bool {
    let addresses = [target.ipv4.map(IpAddr::from), target.ipv6.map(IpAddr::from)];
    for address in addresses.into_iter().flatten() {
        let asked = tokio::time::timeout(SELF_CHECK, ask(SocketAddr::new(address, target.port)));
        if !asked.await.is_ok_and(|answered| answered.is_ok()) {
            return false;
        }
    }
    true
}

async fn ask(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    // Any request is answered; this one is refused before anybody looks for a pod.
    stream
        .write_all(b"OPTIONS / HTTP/1.1\r\nhost: 169.254.169.254\r\nconnection: close\r\n\r\n")
        .await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    if &head == b"HTTP/1.1 405" || &head == b"HTTP/1.1 503" {
        Ok(())
    } else {
        Err(std::io::Error::other("somebody else listens there"))
    }
}

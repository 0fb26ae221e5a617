//! Files that are read again when they change: by polling, which is right on every file system.
//!
//! A mounted ConfigMap or Secret changes by a swap of symbolic links, an edited file by a new inode or in place; a poll of the
//! content sees all of these. Each source here has a `poll_once`, which is all that a test needs, and a `run`, which
//! calls it for ever.

mod dynamic;
mod identities;
mod mode;
mod mounted;
mod watched;

pub use dynamic::DynamicFile;
pub use identities::{Identities, IdentitiesFile};
pub use mode::BackendModeFile;
pub use mounted::MountedFile;
pub use watched::{FileProblem, Polled, WatchedFile};

use std::time::Duration;

use jiff::Timestamp;

/// How often files are looked at.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// What a look at a file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is new.
    Unchanged,
    /// New content took effect.
    Reloaded,
    /// The file is gone, which took effect.
    Cleared,
    /// New content was refused; what was in force stays.
    Refused,
    /// The file cannot be read; what was in force stays.
    Failed,
}

/// A source that is looked at again and again.
trait Polling: Send + 'static {
    fn poll_once(&mut self, now: Timestamp) -> Outcome;
}

/// Polls for ever. Looking at a file may block, on a network file system for long, so it has its own thread.
async fn poll_forever(
    source: impl Polling,
    every: Duration,
    clock: impl Fn() -> Timestamp + Send + Clone + 'static,
) {
    let mut source = Some(source);
    while let Some(mut polled) = source.take() {
        tokio::time::sleep(every).await;
        let clock = clock.clone();
        let looked = tokio::task::spawn_blocking(move || {
            polled.poll_once(clock());
            polled
        });
        source = looked.await.ok();
    }
    tracing::error!("a watched file is not looked at any more: its poll ended with a panic");
}

//! The wall clock, given in: nothing in this crate reads it from the system by itself.

use jiff::Timestamp;

/// Tells the time of day.
///
/// Token ends are points on the wall clock, so they are compared with this. Waiting, timeouts and cache
/// lifetimes are spans and use tokio's clock, which neither jumps when the wall clock is set nor runs in a paused test.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

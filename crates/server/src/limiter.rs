//! Failed attempts per peer address: unknown keys cost an HMAC chain, so nobody may ask for many of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;

/// Addresses remembered at once; an attacker with more only makes the oldest windows start anew.
const ADDRESSES: usize = 8192;
const SHARDS: usize = 16;

/// Counts failures per address and second.
#[derive(Debug)]
pub(crate) struct FailureLimiter {
    per_second: u32,
    hasher: RandomState,
    shards: [Mutex<HashMap<IpAddr, Window>>; SHARDS],
}

#[derive(Debug, Clone, Copy)]
struct Window {
    second: i64,
    failures: u32,
}

impl FailureLimiter {
    /// Allows `per_second` failures per address; 0 switches the limit off.
    #[must_use]
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            hasher: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// Whether `address` has used up its failures of this second.
    #[must_use]
    pub(crate) fn is_exhausted(&self, address: IpAddr, second: i64) -> bool {
        self.per_second > 0
            && self.with(address, |windows| {
                windows.get(&network(address)).is_some_and(|window| {
                    window.second == second && window.failures >= self.per_second
                })
            })
    }

    /// Records one failure.
    pub(crate) fn record(&self, address: IpAddr, second: i64) {
        if self.per_second == 0 {
            return;
        }
        self.with(address, |windows| {
            let key = network(address);
            if windows.len() >= ADDRESSES / SHARDS && !windows.contains_key(&key) {
                windows.retain(|_, window| window.second >= second);
                if windows.len() >= ADDRESSES / SHARDS {
                    windows.clear();
                }
            }
            let window = windows.entry(key).or_insert(Window {
                second,
                failures: 0,
            });
            if window.second != second {
                *window = Window {
                    second,
                    failures: 0,
                };
            }
            window.failures = window.failures.saturating_add(1);
        });
    }

    fn with<T>(&self, address: IpAddr, body: impl FnOnce(&mut HashMap<IpAddr, Window>) -> T) -> T {
        let hash = self.hasher.hash_one(network(address));
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        let [first, ..] = &self.shards;
        let shard = self.shards.get(index).unwrap_or(first);
        // A panic while counting cannot leave a window that matters.
        body(
            &mut shard
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

/// One IPv6 customer has a whole /64; counting single addresses would count nothing.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        },
    }
}

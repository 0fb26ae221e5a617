//! How many calls of STS and EKS Auth an account, an access key, or an address may make a second (STS spec, section 10).
//!
//! Every limit is a token bucket that holds one second's worth of calls. A bucket that is full is not kept: it is what a
//! caller who was not seen for a second has anyway.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use countersign_arn::AccountId;
use jiff::Timestamp;

use crate::limiter::network;

/// Buckets kept at once, for each kind of limit. When so many are in use within one second, a part of them is forgotten and
/// starts full: a flood of addresses does not lock out everyone who was not seen before.
const BUCKETS: usize = 16_384;
const SHARDS: usize = 16;
/// Nanoseconds of a second, which is what a bucket holds.
const SECOND: i128 = 1_000_000_000;

/// Calls a second; 0 switches a limit off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StsLimits {
    /// Signed calls of STS for one account; 600.
    pub per_account: u32,
    /// Signed calls of STS with one access key; 100.
    pub per_key: u32,
    /// Unsigned calls (web identity, SAML) from one address; 50. An IPv6 address counts with its /64.
    pub web_identity_per_address: u32,
    /// Sessions of one role by web identity; 300. Counted when the role trusts the token, so that nobody uses up a role who may
    /// not have it, and one pod that asks all the time is over the limit of its address first.
    pub web_identity_per_role: u32,
}

impl Default for StsLimits {
    fn default() -> Self {
        Self {
            per_account: 600,
            per_key: 100,
            web_identity_per_address: 50,
            web_identity_per_role: 300,
        }
    }
}

impl StsLimits {
    /// No limit at all.
    pub const OFF: Self = Self {
        per_account: 0,
        per_key: 0,
        web_identity_per_address: 0,
        web_identity_per_role: 0,
    };
}

/// Requests for credentials of pods a second; 0 switches a limit off. What AWS allows is not known; Countersign's agent asks
/// at most ten times a second in the long run, and fifty times at once when a node starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EksAuthLimits {
    /// With one access key, or from one node whose agent shows a token; 100.
    pub per_caller: u32,
    /// For the clusters of one account; 3,000.
    pub per_account: u32,
}

impl Default for EksAuthLimits {
    fn default() -> Self {
        Self {
            per_caller: 100,
            per_account: 3000,
        }
    }
}

impl EksAuthLimits {
    /// No limit at all.
    pub const OFF: Self = Self {
        per_caller: 0,
        per_account: 0,
    };
}

/// The buckets of EKS Auth.
#[derive(Debug)]
pub(crate) struct EksAuthRates {
    callers: Buckets,
    accounts: Buckets,
}

impl EksAuthRates {
    pub(crate) fn new(limits: EksAuthLimits) -> Self {
        Self {
            callers: Buckets::new(limits.per_caller),
            accounts: Buckets::new(limits.per_account),
        }
    }

    /// Counts a request of a caller who proved who it is. One that is over its own limit takes nothing from its account's.
    pub(crate) fn take(
        &self,
        caller: impl Hash,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(), Limited> {
        if !self.callers.take(caller, now) {
            return Err(Limited::Key);
        }
        if !self.accounts.take(account, now) {
            return Err(Limited::Account);
        }
        Ok(())
    }
}

/// Which limit a call went over; the label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limited {
    Account,
    Key,
    Address,
    Role,
}

impl Limited {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Key => "key",
            Self::Address => "address",
            Self::Role => "role",
        }
    }
}

/// The buckets of STS.
#[derive(Debug)]
pub(crate) struct StsRates {
    accounts: Buckets,
    keys: Buckets,
    addresses: Buckets,
    roles: Buckets,
}

impl StsRates {
    pub(crate) fn new(limits: StsLimits) -> Self {
        Self {
            accounts: Buckets::new(limits.per_account),
            keys: Buckets::new(limits.per_key),
            addresses: Buckets::new(limits.web_identity_per_address),
            roles: Buckets::new(limits.web_identity_per_role),
        }
    }

    /// Counts a call whose signature is right. A key that is over its own limit takes nothing from its account's.
    pub(crate) fn signed(
        &self,
        account: AccountId,
        key_id: &str,
        now: Timestamp,
    ) -> Result<(), Limited> {
        if !self.keys.take(key_id, now) {
            return Err(Limited::Key);
        }
        if !self.accounts.take(account, now) {
            return Err(Limited::Account);
        }
        Ok(())
    }

    /// Counts a call that nobody signed.
    pub(crate) fn unsigned(&self, address: IpAddr, now: Timestamp) -> Result<(), Limited> {
        if self.addresses.take(network(address), now) {
            Ok(())
        } else {
            Err(Limited::Address)
        }
    }
}

impl StsRates {
    /// Counts a session of the role with this unique id that is about to be issued for a token of its provider.
    pub(crate) fn web_identity(&self, role_id: &str, now: Timestamp) -> Result<(), Limited> {
        if self.roles.take(role_id, now) {
            Ok(())
        } else {
            Err(Limited::Role)
        }
    }
}

/// Token buckets of one size. A bucket is one number: when it will be full again, in nanoseconds of Unix time.
///
/// Owners are remembered by a keyed hash, so that no owner is kept or copied. Two owners with the same hash share a bucket;
/// nobody can look for one, because the key is random.
#[derive(Debug)]
struct Buckets {
    /// Nanoseconds in which one call's worth comes back; nothing when there is no limit.
    interval: Option<i128>,
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, i128>>; SHARDS],
}

impl Buckets {
    fn new(per_second: u32) -> Self {
        Self {
            interval: SECOND.checked_div(i128::from(per_second)),
            hasher: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// Takes one call from the owner's bucket, if there is one in it.
    fn take(&self, owner: impl Hash, now: Timestamp) -> bool {
        let Some(interval) = self.interval else {
            return true;
        };
        let now = now.as_nanosecond();
        let hash = self.hasher.hash_one(owner);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        let [first, ..] = &self.shards;
        // A panic while counting cannot leave a number that matters.
        let mut buckets = self
            .shards
            .get(index)
            .unwrap_or(first)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS / SHARDS && !buckets.contains_key(&hash) {
            buckets.retain(|_, full_at| is_counting(*full_at, now));
            if buckets.len() >= BUCKETS / SHARDS {
                buckets.clear();
            }
        }
        let full_at = buckets
            .get(&hash)
            .copied()
            .filter(|full_at| is_counting(*full_at, now))
            .unwrap_or(now);
        let after = full_at + interval;
        if after - now > SECOND {
            return false;
        }
        buckets.insert(hash, after);
        true
    }
}

/// Whether a bucket is less than full. No bucket is full later than a second from now, unless the clock was set back: then
/// it is taken for full, and not left empty until the clock is where it was.
fn is_counting(full_at: i128, now: i128) -> bool {
    full_at > now && full_at - now <= SECOND
}

#[cfg(test)]
mod tests;

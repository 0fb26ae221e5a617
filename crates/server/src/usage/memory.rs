//! Uses in memory, by id of principal or key.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use countersign_arn::AccountId;
use countersign_store::DirectorySnapshot;
use countersign_store::records::{ActionUse, LastUsed, ServiceUse};
use jiff::{SignedDuration, Timestamp};

use super::Use;

const SHARDS: usize = 64;
/// Ids of one shard; 131,072 in all, and a few hundred bytes for each.
const IDS: usize = 2048;
/// How long an id that is not used stays.
const IDLE: SignedDuration = SignedDuration::from_hours(1);

/// Uses by id, bounded.
#[derive(Debug)]
pub(super) struct Memory {
    hasher: RandomState,
    shards: [Shard; SHARDS],
    missed: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    ids: RwLock<Ids>,
    /// Nothing can give way until the next flush, so that looking for it would be in vain.
    full: AtomicBool,
}

type Ids = HashMap<Box<str>, Arc<Tracked>>;

impl Default for Memory {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Shard::default()),
            missed: AtomicU64::new(0),
        }
    }
}

/// The uses of one id.
#[derive(Debug)]
struct Tracked {
    /// The second of the last use, and what it was: most calls repeat it, and need not look further.
    second: AtomicI64,
    what: AtomicU64,
    /// Seen and not known to be stored.
    dirty: AtomicBool,
    uses: Mutex<LastUsed>,
}

impl Memory {
    /// Notes a use; false when there was no room for the id.
    pub(super) fn touch(&self, id: &str, used: &Use<'_>) -> bool {
        let what = {
            let mut hasher = self.hasher.build_hasher();
            for part in [used.service, used.action, used.region] {
                hasher.write(part.as_bytes());
                hasher.write_u8(0xff);
            }
            hasher.finish()
        };
        self.with(id, used.account, |tracked| {
            let second = used.at.as_second();
            if tracked.second.load(Ordering::Relaxed) == second
                && tracked.what.load(Ordering::Relaxed) == what
            {
                return;
            }
            let mut uses = tracked.uses.lock().unwrap_or_else(PoisonError::into_inner);
            note(&mut uses, used);
            tracked.second.store(second, Ordering::Relaxed);
            tracked.what.store(what, Ordering::Relaxed);
            tracked.dirty.store(true, Ordering::Relaxed);
        })
    }

    /// Notes that a password was used; false when there was no room for the id.
    pub(super) fn touch_password(&self, id: &str, account: AccountId, at: Timestamp) -> bool {
        self.with(id, account, |tracked| {
            let mut uses = tracked.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.password = uses.password.max(Some(at));
            tracked.dirty.store(true, Ordering::Relaxed);
        })
    }

    /// The uses of an id.
    pub(super) fn get(&self, id: &str) -> Option<LastUsed> {
        let tracked = Arc::clone(self.read(id).get(id)?);
        let uses = tracked.uses.lock().unwrap_or_else(PoisonError::into_inner);
        Some(uses.clone())
    }

    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Uses that changed since they were last asked for, and that `wanted` holds for; at most `most`.
    pub(super) fn due(&self, most: usize, wanted: impl Fn(&LastUsed) -> bool) -> Vec<LastUsed> {
        let mut due = Vec::new();
        for shard in &self.shards {
            let tracked: Vec<Arc<Tracked>> = shard
                .ids
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .filter(|tracked| tracked.dirty.load(Ordering::Relaxed))
                .cloned()
                .collect();
            for tracked in tracked {
                if due.len() == most {
                    return due;
                }
                let uses = tracked.uses.lock().unwrap_or_else(PoisonError::into_inner);
                if wanted(&uses) {
                    due.push(uses.clone());
                }
            }
        }
        due
    }

    /// Drops ids that were not used for an hour, and says of the others whether they are stored.
    pub(super) fn forget(&self, snapshot: &DirectorySnapshot, now: Timestamp) {
        let before = now.saturating_sub(IDLE).unwrap_or(Timestamp::MIN);
        for shard in &self.shards {
            let mut ids = shard.ids.write().unwrap_or_else(PoisonError::into_inner);
            shard.full.store(false, Ordering::Relaxed);
            ids.retain(|id, tracked| {
                let uses = tracked.uses.lock().unwrap_or_else(PoisonError::into_inner);
                let stored = snapshot.last_used(id).is_some_and(|stored| {
                    let mut merged = LastUsed::clone(stored);
                    merged.merge(&uses);
                    merged == **stored
                });
                tracked.dirty.store(!stored, Ordering::Relaxed);
                latest(&uses).is_some_and(|at| at >= before)
            });
        }
    }

    fn with(&self, id: &str, account: AccountId, note: impl Fn(&Tracked)) -> bool {
        if let Some(tracked) = self.read(id).get(id) {
            note(tracked);
            return true;
        }
        let shard = self.shard(id);
        if shard.full.load(Ordering::Relaxed) {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let mut ids = shard.ids.write().unwrap_or_else(PoisonError::into_inner);
        if ids.len() >= IDS && !ids.contains_key(id) {
            ids.retain(|_, tracked| tracked.dirty.load(Ordering::Relaxed));
            if ids.len() >= IDS {
                shard.full.store(true, Ordering::Relaxed);
                self.missed.fetch_add(1, Ordering::Relaxed);
                return false;
            }
        }
        let tracked = ids.entry(id.into()).or_insert_with(|| {
            Arc::new(Tracked {
                second: AtomicI64::new(i64::MIN),
                what: AtomicU64::new(0),
                dirty: AtomicBool::new(false),
                uses: Mutex::new(LastUsed {
                    account,
                    id: id.into(),
                    password: None,
                    services: BTreeMap::new(),
                }),
            })
        });
        note(tracked);
        true
    }

    fn read(&self, id: &str) -> RwLockReadGuard<'_, Ids> {
        self.shard(id)
            .ids
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, id: &str) -> &Shard {
        let index = usize::try_from(self.hasher.hash_one(id) % SHARDS as u64).unwrap_or(0);
        let [first, ..] = &self.shards;
        self.shards.get(index).unwrap_or(first)
    }
}

fn note(uses: &mut LastUsed, used: &Use<'_>) {
    let fresh = || ServiceUse {
        at: used.at,
        region: used.region.into(),
        actions: BTreeMap::new(),
    };
    if !uses.services.contains_key(used.service) {
        uses.services.insert(used.service.into(), fresh());
    }
    let Some(service) = uses.services.get_mut(used.service) else {
        return;
    };
    if used.at >= service.at {
        service.at = used.at;
        if *service.region != *used.region {
            service.region = used.region.into();
        }
    }
    match service.actions.get_mut(used.action) {
        Some(action) if used.at < action.at => {}
        Some(action) => {
            action.at = used.at;
            if *action.region != *used.region {
                action.region = used.region.into();
            }
        }
        None => {
            let action = ActionUse {
                at: used.at,
                region: used.region.into(),
            };
            service.actions.insert(used.action.into(), action);
        }
    }
}

/// The latest use of anything.
pub(super) fn latest(uses: &LastUsed) -> Option<Timestamp> {
    uses.services
        .values()
        .map(|used| used.at)
        .chain(uses.password)
        .max()
}

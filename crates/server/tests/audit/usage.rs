//! What was used when: in memory, in the store, and merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_arn::{AccountId, Partition};
use countersign_server::usage::{Usage, Use};
use countersign_store::records::{ActionUse, LastUsed, ServiceUse};
use countersign_store::{
    Directory, NewAccount, NewUser, Quotas, Random, RedbStore, RootKey, Sealer,
};
use jiff::{SignedDuration, Timestamp};

use super::call::{ACCOUNT, time};

fn account() -> AccountId {
    ACCOUNT.parse().unwrap()
}

fn now() -> Timestamp {
    time("2026-03-14T09:26:53Z")
}

fn after(minutes: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minutes)
}

struct World {
    directory: Directory,
    user: String,
    key: String,
}

impl World {
    async fn new() -> Self {
        let store = Arc::new(RedbStore::in_memory().unwrap());
        let sealer = Sealer::new(&RootKey::from_bytes([7; 32]), &[]).unwrap();
        let directory = Directory::open(store, sealer, Random::system(), Quotas::default())
            .await
            .unwrap();
        let new = NewAccount {
            id: account(),
            partition: Partition::Aws,
            alias: None,
            organization_id: None,
        };
        directory.create_account(new, now()).await.unwrap();
        let new = NewUser {
            account: account(),
            name: "ana".into(),
            path: "/".into(),
            tags: Vec::new(),
        };
        let user = directory
            .create_user(new, now())
            .await
            .unwrap()
            .id
            .to_string();
        let key = directory
            .create_access_key(account(), "ana", now())
            .await
            .unwrap();
        Self {
            directory,
            user,
            key: key.metadata.id.to_string(),
        }
    }

    fn used(&self, service: &'static str, action: &'static str, at: Timestamp) -> Use<'_> {
        Use {
            account: account(),
            principal: &self.user,
            access_key: Some(&self.key),
            service,
            action,
            region: "eu-west-1",
            at,
        }
    }

    fn stored(&self, id: &str) -> Option<LastUsed> {
        self.directory
            .snapshot()
            .last_used(id)
            .map(|used| LastUsed::clone(used))
    }
}

#[tokio::test]
async fn a_use_is_known_at_once_and_stored_later() {
    let world = World::new().await;
    let usage = Usage::default();
    let snapshot = world.directory.snapshot();
    assert_eq!(usage.last_used(&snapshot, &world.key, now()), None);
    usage.record(&world.used("sts", "GetCallerIdentity", now()));
    usage.record(&world.used("iam", "GetUser", after(1)));
    for id in [&world.key, &world.user] {
        let used = usage.last_used(&snapshot, id, after(1)).unwrap();
        let (service, latest) = used.latest().unwrap();
        assert_eq!(
            (service, latest.at, &*latest.region),
            ("iam", after(1), "eu-west-1")
        );
        assert_eq!(used.services["sts"].actions["GetCallerIdentity"].at, now());
    }
    assert_eq!(world.stored(&world.key), None);
    assert_eq!(
        usage
            .flush(&world.directory, after(1), false)
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        world.stored(&world.key).unwrap().latest().unwrap().1.at,
        after(1)
    );
    assert_eq!(
        usage
            .flush(&world.directory, after(2), false)
            .await
            .unwrap(),
        0
    );
    // A process that starts anew knows it from the store.
    let fresh = Usage::default().last_used(&world.directory.snapshot(), &world.user, after(3));
    assert_eq!(fresh.unwrap().services["iam"].at, after(1));
}

#[tokio::test]
async fn what_is_used_all_the_time_is_written_once_an_hour_and_exactly_when_it_rests() {
    let world = World::new().await;
    let usage = Usage::default();
    let mut writes = Vec::new();
    for minute in 0..=130 {
        usage.record(&world.used("sts", "GetCallerIdentity", after(minute)));
        let written = usage
            .flush(&world.directory, after(minute), false)
            .await
            .unwrap();
        if written > 0 {
            writes.push(minute);
        }
    }
    assert_eq!(writes, [0, 60, 120]);
    assert_eq!(
        usage
            .flush(&world.directory, after(134), false)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        usage
            .flush(&world.directory, after(135), false)
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        world.stored(&world.user).unwrap().services["sts"].at,
        after(130)
    );
    // The process ends: everything is stored.
    usage.record(&world.used("sts", "GetCallerIdentity", after(136)));
    assert_eq!(
        usage
            .flush(&world.directory, after(136), true)
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        world.stored(&world.user).unwrap().services["sts"].at,
        after(136)
    );
}

#[tokio::test]
async fn replicas_never_take_each_other_back() {
    let world = World::new().await;
    let (one, two) = (Usage::default(), Usage::default());
    one.record(&world.used("sts", "AssumeRole", after(10)));
    two.record(&world.used("sts", "AssumeRole", after(5)));
    two.record(&world.used("iam", "GetUser", after(4)));
    one.record_sign_in(account(), &world.user, after(3));
    two.record_sign_in(account(), &world.user, after(2));
    let (first, second) = tokio::join!(
        one.flush(&world.directory, after(20), true),
        two.flush(&world.directory, after(20), true)
    );
    first.unwrap();
    second.unwrap();
    let stored = world.stored(&world.user).unwrap();
    assert_eq!(stored.services["sts"].at, after(10));
    assert_eq!(stored.services["iam"].at, after(4));
    assert_eq!(stored.password, Some(after(3)));
    // A late flush of the replica that knows less changes nothing.
    two.record(&world.used("sts", "AssumeRole", after(6)));
    two.flush(&world.directory, after(21), true).await.unwrap();
    assert_eq!(world.stored(&world.user), Some(stored));
}

#[tokio::test]
async fn four_hundred_days_are_remembered_and_the_gone_are_forgotten() {
    let world = World::new().await;
    let usage = Usage::default();
    usage.record(&world.used("sts", "GetCallerIdentity", now()));
    usage.record(&world.used("iam", "GetUser", after(24 * 60)));
    let stranger = Use {
        principal: "AIDARTX3GSDSAAAAAAAAA",
        access_key: None,
        ..world.used("sts", "GetCallerIdentity", now())
    };
    usage.record(&stranger);
    usage
        .flush(&world.directory, after(30), true)
        .await
        .unwrap();
    assert_eq!(
        world.stored("AIDARTX3GSDSAAAAAAAAA"),
        None,
        "nobody has this id"
    );
    let day_400 = after(400 * 24 * 60 + 60);
    let snapshot = world.directory.snapshot();
    let used = usage.last_used(&snapshot, &world.user, day_400).unwrap();
    assert_eq!(
        used.services.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["iam"]
    );
    let day_402 = after(402 * 24 * 60);
    assert_eq!(usage.last_used(&snapshot, &world.user, day_402), None);

    let oldest = day_400 - SignedDuration::from_hours(400 * 24);
    assert_eq!(
        world.directory.forget_last_used(oldest, 100).await.unwrap(),
        2
    );
    assert!(
        !world
            .stored(&world.user)
            .unwrap()
            .services
            .contains_key("sts")
    );
    world
        .directory
        .delete_access_key(account(), "ana", &world.key)
        .await
        .unwrap();
    world.directory.forget_last_used(oldest, 100).await.unwrap();
    assert_eq!(world.stored(&world.key), None);
    assert!(world.stored(&world.user).is_some());
}

#[test]
fn memory_is_bounded_and_says_when_it_is_full() {
    let usage = Usage::default();
    let ids: Vec<String> = (0..150_000)
        .map(|number| format!("AIDA{number:017}"))
        .collect();
    for id in &ids {
        usage.record(&Use {
            account: account(),
            principal: id,
            access_key: None,
            service: "sts",
            action: "GetCallerIdentity",
            region: "eu-west-1",
            at: now(),
        });
    }
    assert!(usage.missed() >= 150_000 - 131_072);
}

/// A small generator, so that a failure can be run again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }

    fn used(&mut self) -> LastUsed {
        let mut services = BTreeMap::new();
        for service in ["iam", "sts"] {
            if self.below(3) == 0 {
                continue;
            }
            let mut actions = BTreeMap::new();
            for action in ["A", "B"] {
                if self.below(2) == 0 {
                    let (at, region) = (after(self.below(3) as i64), self.region());
                    actions.insert(action.into(), ActionUse { at, region });
                }
            }
            let (at, region) = (after(self.below(3) as i64), self.region());
            services.insert(
                service.into(),
                ServiceUse {
                    at,
                    region,
                    actions,
                },
            );
        }
        LastUsed {
            account: account(),
            id: "AIDARTX3GSDSURLGMXGED".into(),
            password: (self.below(2) == 0).then(|| after(self.below(3) as i64)),
            services,
        }
    }

    fn region(&mut self) -> Box<str> {
        ["eu-west-1", "us-east-1"][self.below(2) as usize].into()
    }
}

#[test]
fn merging_knows_no_order() {
    let mut dice = Dice(7);
    let merged = |parts: &[&LastUsed]| {
        let mut all = parts[0].clone();
        parts[1..].iter().for_each(|part| all.merge(part));
        all
    };
    for _ in 0..2000 {
        let (a, b, c) = (dice.used(), dice.used(), dice.used());
        let all = merged(&[&a, &b, &c]);
        assert_eq!(all, merged(&[&c, &a, &b]));
        assert_eq!(all, merged(&[&b, &merged(&[&c, &a]), &b]));
        assert_eq!(a, merged(&[&a, &a]));
    }
}

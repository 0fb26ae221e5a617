use jiff::SignedDuration;

use super::*;

fn start() -> Timestamp {
    Timestamp::from_second(1_773_480_413).unwrap()
}

fn after_millis(millis: i64) -> Timestamp {
    start() + SignedDuration::from_millis(millis)
}

fn taken(buckets: &Buckets, owner: &str, tries: usize, now: Timestamp) -> usize {
    (0..tries).filter(|_| buckets.take(owner, now)).count()
}

#[test]
fn a_burst_of_one_second_and_then_the_rate() {
    for rate in [1, 3, 7, 50, 100, 600, 999] {
        let buckets = Buckets::new(rate);
        let all = rate as usize;
        let tries = 3 * all + 10;
        assert_eq!(taken(&buckets, "a", tries, start()), all, "{rate}: burst");
        assert_eq!(
            taken(&buckets, "a", tries, after_millis(500)),
            all / 2,
            "{rate}: half a second later"
        );
        assert_eq!(
            taken(&buckets, "a", tries, after_millis(5000)),
            all,
            "{rate}: no more than a second's worth is saved up"
        );
        assert_eq!(taken(&buckets, "b", tries, start()), all, "{rate}: another");
    }
    assert_eq!(taken(&Buckets::new(0), "a", 10_000, start()), 10_000);
}

#[test]
fn memory_is_bounded_and_idle_buckets_go_first() {
    let buckets = Buckets::new(2);
    for n in 0..10 * BUCKETS {
        assert!(buckets.take(n, start()));
    }
    let kept = |buckets: &Buckets| -> usize {
        buckets
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().len())
            .sum()
    };
    assert!(kept(&buckets) <= BUCKETS);
    let idle = Buckets::new(2);
    for n in 0..BUCKETS {
        idle.take(n, start());
    }
    assert_eq!(taken(&idle, "busy", 5, after_millis(2000)), 2);
    for n in 0..BUCKETS / 2 {
        idle.take(("later", n), after_millis(2000));
    }
    assert_eq!(
        taken(&idle, "busy", 5, after_millis(2000)),
        0,
        "a bucket in use outlives those that are full again"
    );
}

#[test]
fn a_clock_that_is_set_back_locks_nobody_out() {
    let buckets = Buckets::new(10);
    assert_eq!(taken(&buckets, "a", 20, after_millis(3_600_000)), 10);
    assert_eq!(taken(&buckets, "a", 20, start()), 10);
}

#[test]
fn a_busy_key_does_not_use_up_its_account() {
    let rates = StsRates::new(StsLimits {
        per_account: 5,
        per_key: 3,
        web_identity_per_address: 2,
        web_identity_per_role: 2,
    });
    let account: AccountId = "111122223333".parse().unwrap();
    let ended = |key: &str| rates.signed(account, key, start());
    for _ in 0..3 {
        assert_eq!(ended("k1"), Ok(()));
    }
    for _ in 0..10 {
        assert_eq!(ended("k1"), Err(Limited::Key));
    }
    assert_eq!(ended("k2"), Ok(()));
    assert_eq!(ended("k2"), Ok(()));
    assert_eq!(ended("k2"), Err(Limited::Account));
    let other: AccountId = "444455556666".parse().unwrap();
    assert_eq!(rates.signed(other, "k3", start()), Ok(()));
    let addresses = [
        ("2001:db8::1", Ok(())),
        ("2001:db8::2", Ok(())),
        ("2001:db8::3", Err(Limited::Address)),
        ("2001:db8:0:1::1", Ok(())),
        ("192.0.2.1", Ok(())),
        ("::ffff:192.0.2.1", Ok(())),
        ("192.0.2.1", Err(Limited::Address)),
    ];
    for (address, expected) in addresses {
        let address = address.parse().unwrap();
        assert_eq!(rates.unsigned(address, start()), expected, "{address}");
    }
}

//! Records: what is read, what is refused, and that reading and writing agree.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::str::FromStr;

use countersign_arn::Tag;
use countersign_store::records::{
    AnyRecord, AuthenticationMode, ClusterSettings, ClusterStatus, IpFamily, LogType, RecordKey,
    ScalingTier, SupportType, UnknownWord, check_account_alias, check_cluster_name,
    check_namespace, check_organization_id, check_path, check_region, check_service_account,
    check_tags, check_user_name,
};
use countersign_store::{Key, fuzz, limits};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    key: String,
    value: Box<serde_json::value::RawValue>,
    reads: Option<String>,
    fails: Option<String>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("data/records.json")).unwrap()
}

fn kind(key: &Key) -> &str {
    match key.as_str() {
        "meta/session-keys" => "session-keys",
        "meta/outbound-keys" => "outbound-keys",
        other => other.split('/').next().unwrap(),
    }
}

#[test]
fn table_of_records() {
    for case in cases() {
        let key = Key::new(case.key.as_str()).unwrap();
        let decoded = AnyRecord::decode(&key, case.value.get().as_bytes());
        match (decoded, case.reads, case.fails) {
            (Ok(record), Some(reads), None) => {
                assert_eq!(kind(&key), reads, "{}", case.name);
                assert_eq!(
                    AnyRecord::decode(&key, &record.encode()).unwrap(),
                    record,
                    "{}",
                    case.name
                );
            }
            (Err(error), None, Some(text)) => {
                assert!(
                    error.to_string().starts_with(&text),
                    "{}: {error}",
                    case.name
                );
            }
            (got, ..) => panic!("{}: {got:?}", case.name),
        }
    }
}

#[test]
fn what_is_written_today_is_read_as_it_was_written() {
    // A change here is a change of the format: records written before it must still be read.
    let user = cases()
        .into_iter()
        .find(|case| case.name == "user")
        .unwrap();
    let record =
        AnyRecord::decode(&Key::new(user.key).unwrap(), user.value.get().as_bytes()).unwrap();
    let text = String::from_utf8(record.encode().to_vec()).unwrap();
    assert_eq!(
        text,
        r#"{"v":1,"partition":"aws","name":"Ana","path":"/ops/","id":"AIDARTX3GSDSXFDOCIS2A","created":"2026-01-02T03:04:05Z","tags":[{"key":"team","value":"ops"}],"access_keys":["AKIARTX3GSDSXFDOCIS2"]}"#
    );
}

#[test]
fn a_cluster_from_before_it_had_settings_is_read_and_written_as_it_was() {
    let old = br#"{"v":1,"partition":"aws","id":"0","authentication_mode":"API","bootstrap_creator_admin":true,"creator":{"principal_arn":"arn:aws:iam::111122223333:root","principal_id":"111122223333"},"created":"2026-01-02T03:04:05Z"}"#;
    let key = Key::new("cluster/111122223333/eu-central-1/demo").unwrap();
    let record = AnyRecord::decode(&key, old).unwrap();
    assert_eq!(&*record.encode(), &old[..]);
    let AnyRecord::Cluster(cluster) = record else {
        panic!("{record:?}");
    };
    assert_eq!(cluster.settings, ClusterSettings::default());
    assert_eq!(cluster.status(cluster.created), Some(ClusterStatus::Active));
    assert!(!cluster.deletion_protection && cluster.tags.is_empty());
}

#[test]
fn words_of_settings() {
    fn check<T: FromStr<Err = UnknownWord> + Copy + ToString>(all: &[T], count: usize) {
        let words: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!((words.len(), all.len()), (count, count));
        for word in &words {
            assert_eq!(word.parse::<T>().unwrap().to_string(), *word);
            for bad in [word[1..].to_owned(), format!("{word} "), format!("x{word}")] {
                let error = bad.parse::<T>().err().unwrap();
                assert!(error.to_string().contains(word), "{error}");
            }
        }
    }
    check(LogType::ALL, 5);
    check(IpFamily::ALL, 2);
    check(SupportType::ALL, 2);
    check(ScalingTier::ALL, 5);
}

#[test]
fn errors_do_not_show_what_is_in_a_record() {
    let key = Key::new("access-key/AKIA").unwrap();
    let value = br#"{"v":1,"account":"111122223333","user_id":"u","secret":["plain-secret"],"status":"plain-secret"}"#;
    let error = AnyRecord::decode(&key, value).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("plain-secret"));
}

#[test]
fn keys_are_put_together_as_they_are_taken_apart() {
    for case in cases().into_iter().filter(|case| case.reads.is_some()) {
        let key = Key::new(case.key).unwrap();
        assert_eq!(RecordKey::parse(&key).unwrap().to_key().unwrap(), key);
    }
    let account = "111122223333".parse().unwrap();
    let user = RecordKey::User {
        account,
        name: "MiXed",
    }
    .to_key()
    .unwrap();
    assert_eq!(user.as_str(), "user/111122223333/mixed");
}

#[test]
fn texts_that_are_no_keys() {
    for bad in [
        "",
        "\0",
        "a\nb",
        "a\u{7f}",
        "a\u{85}",
        &"k".repeat(limits::KEY_BYTES + 1),
    ] {
        assert!(Key::new(bad).is_err(), "{bad:?}");
    }
    for good in ["a", "ä", " ", &"k".repeat(limits::KEY_BYTES)] {
        assert!(Key::new(good).is_ok(), "{good:?}");
    }
}

#[test]
fn names() {
    let long = |n: usize| "a".repeat(n);
    for good in ["a", "A_b+c=d,e.f@g-h", &long(64)] {
        assert!(check_user_name(good).is_ok(), "{good}");
    }
    for bad in ["", "a b", "a/b", "a*", "ä", "a\n", "a:b", &long(65)] {
        assert!(check_user_name(bad).is_err(), "{bad}");
    }
    for good in ["/", "/a/", "/a/b/", "/!~/", &format!("/{}/", long(510))] {
        assert!(check_path(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "a",
        "/a",
        "a/",
        "//",
        "/a b/",
        "/ä/",
        &format!("/{}/", long(511)),
    ] {
        assert!(check_path(bad).is_err(), "{bad}");
    }
    for good in ["a", "9", "A-b_c", &long(100)] {
        assert!(check_cluster_name(good).is_ok(), "{good}");
    }
    for bad in ["", "-a", "_a", "a.b", "a/b", "a b", "ä", &long(101)] {
        assert!(check_cluster_name(bad).is_err(), "{bad}");
    }
    for good in ["us-east-1", "local"] {
        assert!(check_region(good).is_ok(), "{good}");
    }
    for bad in ["", "US-EAST-1", "us/east", "us_east", "*", &long(33)] {
        assert!(check_region(bad).is_err(), "{bad}");
    }
    for good in ["abc", "a-b-c", "123", &long(63)] {
        assert!(check_account_alias(good).is_ok(), "{good}");
    }
    for bad in ["", "ab", "-ab", "ab-", "a--b", "Abc", "a.b", &long(64)] {
        assert!(check_account_alias(bad).is_err(), "{bad}");
    }
    for good in ["o-abcdefghij", &format!("o-{}", long(32))] {
        assert!(check_organization_id(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "o-",
        "o-abc",
        "abcdefghijkl",
        "o-ABCDEFGHIJ",
        &format!("o-{}", long(33)),
    ] {
        assert!(check_organization_id(bad).is_err(), "{bad}");
    }
}

#[test]
fn names_of_kubernetes() {
    let long = |n: usize| "a".repeat(n);
    for (text, namespace, service_account) in [
        ("a", true, true),
        ("0", true, true),
        ("kube-system", true, true),
        ("a--b", true, true),
        ("a.b", false, true),
        ("a.b-c.0", false, true),
        (&*long(63), true, true),
        (&*long(64), false, true),
        (&*long(253), false, true),
        (&*long(254), false, false),
        ("", false, false),
        ("-a", false, false),
        ("a-", false, false),
        ("A", false, false),
        ("a_b", false, false),
        ("a/b", false, false),
        ("a.", false, false),
        (".a", false, false),
        ("a..b", false, false),
        ("a.-b", false, false),
        ("ä", false, false),
        ("a\n", false, false),
    ] {
        assert_eq!(check_namespace(text).is_ok(), namespace, "{text:?}");
        assert_eq!(
            check_service_account(text).is_ok(),
            service_account,
            "{text:?}"
        );
    }
}

#[test]
fn tags() {
    let tag = |key: &str, value: &str| Tag {
        key: key.into(),
        value: value.into(),
    };
    let long = |n: usize| "ä".repeat(n);
    assert!(check_tags(&[]).is_ok());
    assert!(check_tags(&[tag("a", ""), tag("b", "x"), tag(&long(128), &long(256))]).is_ok());
    let fifty: Vec<_> = (0..50).map(|n| tag(&n.to_string(), "")).collect();
    assert!(check_tags(&fifty).is_ok());
    let many: Vec<_> = (0..51).map(|n| tag(&n.to_string(), "")).collect();
    assert!(check_tags(&many).is_err());
    for bad in [
        vec![tag("", "x")],
        vec![tag(&long(129), "")],
        vec![tag("a", &long(257))],
        vec![tag("Team", "1"), tag("team", "2")],
        vec![tag("aws:x", "")],
        vec![tag("AWS:x", "")],
    ] {
        assert!(check_tags(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn authentication_modes_move_one_step_forward_only() {
    use AuthenticationMode::{Api, ApiAndConfigMap, ConfigMap};
    let modes = [ConfigMap, ApiAndConfigMap, Api];
    let allowed: Vec<_> = modes
        .iter()
        .flat_map(|from| modes.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| from.may_become(*to))
        .collect();
    assert_eq!(
        allowed,
        [(ConfigMap, ApiAndConfigMap), (ApiAndConfigMap, Api)]
    );
    for mode in modes {
        assert_eq!(mode.as_str().parse(), Ok(mode));
    }
    for bad in ["", "api", "CONFIGMAP", "API "] {
        assert!(bad.parse::<AuthenticationMode>().is_err());
    }
}

/// Runs a fuzz entry point over its seeds, and over changed seeds that are the same on every run.
fn fuzzed(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    countersign_mutation::run(
        target,
        seeds,
        &countersign_mutation::characters("{}[]\",:0"),
        2000,
    );
}

#[test]
fn hostile_records_do_not_panic() {
    let mut seeds: Vec<Vec<u8>> = cases()
        .iter()
        .map(|case| format!("{}\n{}", case.key, case.value.get()).into_bytes())
        .collect();
    seeds.push(format!("account/111122223333\n{}", "[".repeat(5_000)).into_bytes());
    seeds.push(Vec::new());
    fuzzed(fuzz::record, &seeds);
}

#[test]
fn hostile_root_keys_and_sealed_secrets_do_not_panic() {
    let seeds = [
        "",
        "s1.00000000.AAAA",
        "s1.0.",
        "s1....",
        "s2.00000000.AAAA",
    ];
    let mut seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    seeds.push(format!("s1.00000000.{}", "A".repeat(200)).into_bytes());
    seeds.push("a5".repeat(32).into_bytes());
    seeds.push(b"paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU=\n".to_vec());
    fuzzed(fuzz::sealed_secret, &seeds);
    fuzzed(fuzz::root_key, &seeds);
}

#[test]
fn hostile_addresses_do_not_panic() {
    let seeds = [
        "etcd://a:2379,b/prefix",
        "etcds://[::1]:1,10.0.0.1/x/y/",
        "etcd://",
        "",
    ];
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    fuzzed(fuzz::etcd_url, &seeds);
}

#[cfg(feature = "etcd")]
#[test]
fn keys_that_others_write_do_not_panic() {
    let seeds = [
        "r/account/111122223333\n{}",
        "head\n1 000102030405060708090a0b0c0d0e0f 1780000000000",
        "",
    ];
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    fuzzed(fuzz::etcd_key, &seeds);
}

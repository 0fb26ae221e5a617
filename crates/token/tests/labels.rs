//! Whatever hosts clients invent, the words that reach metrics come from a closed set.
#![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

use std::collections::BTreeSet;

use countersign_token::{Options, PresignedToken, ReasonCode, Rules, known_regions, mint};
use proptest::prelude::*;

/// Hosts of every form that the rules tell apart, more than half of them acceptable.
fn host() -> impl Strategy<Value = String> {
    let region = prop_oneof![
        4 => "[a-z]{2,5}-[a-z]{1,12}-[0-9]{1,2}",
        1 => "[a-z]{2}(-[a-z]{1,6}){2,4}-[0-9]",
        1 => Just("eu-west-1".to_owned()),
        1 => Just("home-1".to_owned()),
        1 => "[a-zA-Z0-9._-]{0,20}",
    ];
    let domain = prop_oneof![
        4 => Just("amazonaws.com"),
        2 => Just("api.aws"),
        1 => Just("amazonaws.com.cn"),
        1 => Just("evil.example"),
    ];
    prop_oneof![
        1 => Just("sts.amazonaws.com".to_owned()),
        20 => (prop_oneof![Just("sts"), Just("sts-fips")], region, domain)
            .prop_map(|(service, region, domain)| format!("{service}.{region}.{domain}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn labels_of_any_host_come_from_a_closed_set(host in host()) {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let rules = Rules::new(Options {
            regions: vec!["home-1".into()],
            ..Options::default()
        }).unwrap();
        let token = mint(&format!(
            "https://{host}/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Date=20260102T030405Z\
             &X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id"
        ));
        let regions: BTreeSet<&str> = known_regions().iter().copied()
            .chain(["home-1", "global", "other"])
            .collect();
        match PresignedToken::parse(&token, &rules, now) {
            Ok(token) => prop_assert!(regions.contains(token.region_label().as_str()), "{host}"),
            Err(error) => prop_assert!(ReasonCode::ALL.contains(&error.reason()), "{host}"),
        }
    }
}

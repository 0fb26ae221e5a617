//! Rules V10 to V12 against a naive model: pairs of names compared one by one.
#![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

use countersign_token::{PresignedToken, Rules, mint};
use proptest::prelude::*;

const ALLOWED: [&str; 9] = [
    "action",
    "version",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// (as written in the query, as decoded)
fn name() -> impl Strategy<Value = (String, String)> {
    let plain = prop_oneof![
        8 => proptest::sample::select(ALLOWED.to_vec()),
        1 => proptest::sample::select(vec!["foo", "x-amz-dates", "", "x_amz_date"]),
    ];
    (plain, any::<u16>(), any::<bool>()).prop_map(|(name, upper, escape)| {
        let decoded: String = name
            .chars()
            .enumerate()
            .map(|(i, c)| {
                if upper >> (i % 16) & 7 == 7 {
                    c.to_ascii_uppercase()
                } else {
                    c
                }
            })
            .collect();
        let written = match decoded.as_bytes().first() {
            Some(first) if escape => {
                format!("%{first:02x}{}", decoded.get(1..).unwrap())
            }
            _ => decoded.clone(),
        };
        (written, decoded)
    })
}

fn model(names: &[String]) -> Option<&'static str> {
    let pairs = || {
        names
            .iter()
            .enumerate()
            .flat_map(|(i, a)| names.iter().skip(i + 1).map(move |b| (a, b)))
    };
    if pairs().any(|(a, b)| a != b && a.eq_ignore_ascii_case(b)) {
        return Some("duplicate_param");
    }
    if names
        .iter()
        .any(|name| !ALLOWED.contains(&name.to_ascii_lowercase().as_str()))
    {
        return Some("forbidden_param");
    }
    pairs().any(|(a, b)| a == b).then_some("multi_value")
}

proptest! {
    #[test]
    fn names_are_judged_as_the_model_judges_them(names in proptest::collection::vec(name(), 0..7)) {
        let query: String = names.iter().map(|(written, _)| format!("{written}=1&")).collect();
        let decoded: Vec<String> = names.into_iter().map(|(_, decoded)| decoded).collect();
        let token = mint(&format!("https://sts.amazonaws.com/?{query}"));
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let reason = PresignedToken::parse(&token, &Rules::default(), now).unwrap_err().reason();
        // No value here is `GetCallerIdentity`, so what passes these rules breaks the next.
        prop_assert_eq!(reason.as_str(), model(&decoded).unwrap_or("bad_action"), "{}", query);
    }
}

//! Tables of ARNs, callers and unique ids.

use countersign_arn::unique_id::{self, Kind};
use countersign_arn::{AccountId, Arn, CallerArn, CallerIdentity, CallerKind, Partition};
use proptest::prelude::*;

#[test]
fn canonical_arn_folds_sessions_to_their_role_and_keeps_user_paths() {
    let table = [
        (
            "arn:aws:iam::444455556666:user/div/Ana",
            CallerKind::User,
            "arn:aws:iam::444455556666:user/div/Ana",
        ),
        (
            "arn:aws:iam::444455556666:role/a/b/Ops",
            CallerKind::Role,
            "arn:aws:iam::444455556666:role/a/b/Ops",
        ),
        (
            "arn:aws:iam::444455556666:root",
            CallerKind::Root,
            "arn:aws:iam::444455556666:root",
        ),
        (
            "arn:aws-cn:sts::444455556666:federated-user/Bob",
            CallerKind::FederatedUser,
            "arn:aws-cn:sts::444455556666:federated-user/Bob",
        ),
        (
            "arn:aws-us-gov:sts::444455556666:assumed-role/Ops/ana@x",
            CallerKind::AssumedRole,
            "arn:aws-us-gov:iam::444455556666:role/Ops",
        ),
        (
            "arn:aws:sts::444455556666:assumed-role/a/b/Ops/ana",
            CallerKind::AssumedRole,
            "arn:aws:iam::444455556666:role/a/b/Ops",
        ),
    ];
    for (raw, kind, canonical) in table {
        let caller = CallerArn::parse(raw).unwrap();
        assert_eq!(
            (caller.kind(), caller.canonical().as_str()),
            (kind, canonical),
            "{raw}"
        );
        assert_eq!(caller.to_string(), raw);
    }
}

#[test]
fn arns_that_name_no_caller_are_refused() {
    for (raw, part) in [
        ("", "begins with `arn:`"),
        ("arn:aws:iam::444455556666", "six fields"),
        ("arn:foo:iam::444455556666:root", "partition"),
        ("arn:aws:iam::44445555666:root", "12 digits"),
        ("arn:aws:iam::４44455556666:root", "12 digits"),
        (
            "arn:aws:sts::444455556666:assumed-role/Ops",
            "does not have a role",
        ),
        (
            "arn:aws:sts::444455556666:assumed-role",
            "does not have a role",
        ),
        (
            "arn:aws:iam::444455556666:group/admins",
            "unrecognized resource",
        ),
        ("arn:aws:s3::444455556666:role/x", "unrecognized resource"),
        ("arn:aws:iam::444455556666:user/", "unrecognized resource"),
        ("arn:aws:iam::444455556666:role/a b", "white space"),
    ] {
        let error = CallerArn::parse(raw).unwrap_err().to_string();
        assert!(error.contains(part), "{raw}: {error}");
    }
    assert!(Arn::parse(&format!("arn:aws:iam::1:{}", "x".repeat(2048))).is_err());
}

#[test]
fn user_ids_must_agree_with_the_kind_of_caller() {
    let role = "arn:aws:sts::444455556666:assumed-role/Ops/ana";
    let ok = CallerIdentity::new(
        role,
        "444455556666",
        "AROAEXAMPLE:ana",
        "ASIA1",
        "sts.amazonaws.com",
    )
    .unwrap();
    assert_eq!((ok.user_id(), ok.session_name()), ("AROAEXAMPLE", "ana"));
    for bad in [
        "AROAEXAMPLE",
        ":ana",
        "A:b:c",
        "A:",
        "A:x",
        "A:b/c",
        "A:b c",
        "A:{{AccountID}}",
        "A:é23",
    ] {
        assert!(
            CallerIdentity::new(role, "444455556666", bad, "", "").is_err(),
            "{bad}"
        );
    }
    assert!(CallerIdentity::new(role, "111122223333", "AROAEXAMPLE:ana", "", "").is_err());
    let federated = "arn:aws:sts::444455556666:federated-user/Bob";
    let ok = CallerIdentity::new(federated, "444455556666", "444455556666:Bob", "", "").unwrap();
    assert_eq!((ok.user_id(), ok.session_name()), ("444455556666:Bob", ""));
    assert!(
        CallerIdentity::new(
            "arn:aws:iam::444455556666:role/Ops",
            "444455556666",
            "AROA:x1",
            "",
            ""
        )
        .is_err()
    );
}

#[test]
fn known_unique_ids_carry_their_account() {
    for (id, account) in [
        ("AKIARTX3GSDSXFDOCIS2", "111122223333"),
        ("AROARTX3GSDSURLGMXGED", "111122223333"),
        ("ASIARTX3GSDS7RSUJJ3G", "111122223333"),
        ("AKIARZPUZDIKKJDEGXDN", "123456789012"),
        ("AKIAQAAAAAAAZ7YWB5WK", "000000000001"),
        ("AKIA6RVFFB775NJ72CEU", "999999999999"),
    ] {
        assert_eq!(unique_id::account_of(id).unwrap().as_str(), account, "{id}");
    }
    for id in [
        "",
        "AKIA",
        "AKIAIOSFODNN7EXAMPLE",
        "AKIAé",
        "AKIA11112222333344445",
    ] {
        assert_eq!(unique_id::account_of(id), None, "{id}");
    }
}

#[test]
fn regions_belong_to_one_partition() {
    for (region, partition) in [
        ("eu-west-1", Some(Partition::Aws)),
        ("mx-central-1", Some(Partition::Aws)),
        ("us-gov-west-1", Some(Partition::GovCloud)),
        ("us-isob-east-1", Some(Partition::IsoB)),
        ("eusc-de-east-1", Some(Partition::EuropeanSovereign)),
        ("cn-north-1", Some(Partition::China)),
        ("not-a-region", None),
        ("us-east-", None),
        ("us--1", None),
        ("", None),
    ] {
        assert_eq!(Partition::of_region(region), partition, "{region}");
    }
}

proptest! {
    #[test]
    fn unique_ids_round_trip(number in 0u64..1_000_000_000_000, random: [u8; 16]) {
        let account = AccountId::from_number(number).unwrap();
        for kind in [Kind::AccessKey, Kind::TemporaryAccessKey, Kind::User, Kind::Role] {
            let id = unique_id::encode(kind, account, random);
            prop_assert_eq!(id.len(), kind.id_len());
            prop_assert_eq!(unique_id::account_of(&id), Some(account));
            prop_assert_eq!(Kind::of(&id), Some(kind));
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,200}") {
        countersign_arn::fuzz::arn(text.as_bytes());
        countersign_arn::fuzz::arn(format!("arn:aws:sts::444455556666:{text}").as_bytes());
    }
}

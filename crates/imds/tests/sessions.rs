//! Session tokens and the role that a pod sees.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

use countersign_imds::role::{PodRole, Shown};
use countersign_imds::session::{SessionFault, SessionKey};
use jiff::{SignedDuration, Timestamp};

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

#[test]
fn a_token_is_good_for_its_pod_on_its_boot_until_its_end() {
    let bytes = SessionKey::random().unwrap();
    let key = SessionKey::new(&bytes).unwrap();
    let end = now() + SignedDuration::from_secs(1);
    let token = key.issue("pod-x", "boot-1", end).unwrap();
    assert_eq!(token.len(), 48);
    assert_ne!(token, key.issue("pod-x", "boot-1", end).unwrap());
    let same = SessionKey::new(&bytes).unwrap();
    assert_eq!(
        same.verify(&token, "pod-x", "boot-1", now()),
        Ok(()),
        "over a restart"
    );
    let other = SessionKey::new(&SessionKey::random().unwrap()).unwrap();
    let changed = format!(
        "{}{}",
        &token[..47],
        if token.ends_with('A') { "B" } else { "A" }
    );
    let long = format!("{token}{}", "A".repeat(100));
    let cases = [
        (
            &key,
            token.as_str(),
            "pod-x",
            "boot-1",
            end,
            Err(SessionFault::Expired),
        ),
        (
            &key,
            &token,
            "pod-y",
            "boot-1",
            now(),
            Err(SessionFault::NotOurs),
        ),
        (
            &key,
            &token,
            "pod-x",
            "boot-2",
            now(),
            Err(SessionFault::NotOurs),
        ),
        (
            &key,
            &token,
            "pod-",
            "xboot-1",
            now(),
            Err(SessionFault::NotOurs),
        ),
        (
            &other,
            &token,
            "pod-x",
            "boot-1",
            now(),
            Err(SessionFault::NotOurs),
        ),
        (
            &key,
            &changed,
            "pod-x",
            "boot-1",
            now(),
            Err(SessionFault::NotOurs),
        ),
        (
            &key,
            &long,
            "pod-x",
            "boot-1",
            now(),
            Err(SessionFault::NotOurs),
        ),
        (
            &key,
            "",
            "pod-x",
            "boot-1",
            now(),
            Err(SessionFault::NotOurs),
        ),
        (
            &key,
            "\0",
            "pod-x",
            "boot-1",
            now(),
            Err(SessionFault::NotOurs),
        ),
    ];
    for (key, token, pod, boot, at, expected) in cases {
        assert_eq!(
            key.verify(token, pod, boot, at),
            expected,
            "{token} {pod} {boot}"
        );
    }
    assert_eq!(format!("{key:?}"), "SessionKey");
}

#[test]
fn a_pod_sees_the_name_of_its_role_and_no_other() {
    let role = PodRole::of_session(
        "arn:aws:sts::111122223333:assumed-role/orchard-reader/eks-orchard-picker",
    )
    .unwrap();
    assert_eq!(role.name(), "orchard-reader");
    for (asked, is) in [
        ("orchard-reader", true),
        ("team/orchard-reader", true),
        ("arn:aws:iam::111122223333:role/orchard-reader", true),
        ("arn:aws:iam::111122223333:role/team/orchard-reader", true),
        ("arn:aws:iam::444455556666:role/orchard-reader", false),
        ("arn:aws-cn:iam::111122223333:role/orchard-reader", false),
        ("arn:aws:iam::111122223333:user/orchard-reader", false),
        (
            "arn:aws:sts::111122223333:assumed-role/orchard-reader",
            false,
        ),
        ("node-role", false),
        ("orchard-reader2", false),
        ("Orchard-Reader", false),
        ("orchard-reader/", false),
        ("", false),
    ] {
        assert_eq!(role.is(asked), is, "{asked}");
    }
    for arn in [
        "",
        "arn:aws:iam::111122223333:role/x",
        "arn:aws:sts::1:assumed-role/x",
        "arn:aws:sts::1:assumed-role//s",
        "arn:aws:iam::1:assumed-role/x/s",
    ] {
        assert_eq!(PodRole::of_session(arn), None, "{arn}");
    }
    let info: serde_json::Value = serde_json::from_str(&role.info(now(), "a-1")).unwrap();
    assert_eq!(
        info["InstanceProfileArn"],
        "arn:aws:iam::111122223333:instance-profile/orchard-reader"
    );
    assert_eq!(
        (&info["Code"], &info["InstanceProfileId"]),
        (&"Success".into(), &"a-1".into())
    );
}

#[test]
fn credentials_have_the_form_that_sdks_read() {
    let shown = Shown {
        access_key_id: "ASIAX",
        secret_access_key: "s\"/+",
        session_token: "t",
        updated: now(),
        expires: now() + SignedDuration::from_millis(3_600_999),
    };
    let body: serde_json::Value = serde_json::from_slice(&shown.body()).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "Code": "Success", "LastUpdated": "2030-01-01T00:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": "ASIAX",
            "SecretAccessKey": "s\"/+", "Token": "t", "Expiration": "2030-01-01T01:00:00Z",
        })
    );
    assert!(!format!("{shown:?}").contains("s\"/+"));
}

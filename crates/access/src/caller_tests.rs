use super::*;

const KEY: AssertionKey = AssertionKey::new([7; 32]);
const ID: &str = "AROADEV0000000000001";
const UID: &str = "aws-iam-authenticator:111122223333:AROADEV0000000000001";
const USER: &str = "ops:ana";
/// Half past an hour.
const NOW: i64 = 1_767_225_600 + 1_800;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn ask(
    extra: &[(&str, &[&str])],
    uid: &str,
    now: i64,
    delegated: Delegated,
) -> Result<String, Untrusted> {
    let extra = extra
        .iter()
        .map(|(key, values)| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            ((*key).to_owned(), values)
        })
        .collect();
    let user = UserInfo {
        username: USER,
        uid,
        extra: &extra,
    };
    principal_of(&user, "c1", || Some(KEY.clone()), at(now), delegated).map(str::to_owned)
}

#[test]
fn the_capital_letter_is_trusted_and_the_uid_must_fit() {
    use Untrusted::{Ambiguous, NoPrincipal, Uid};
    let own: (&str, &[&str]) = (PRINCIPAL_ID, &[ID]);
    let qualified: (&str, &[&str]) = (QUALIFIED_PRINCIPAL_ID, &[ID]);
    for (extra, uid, expected) in [
        (vec![own], UID, Ok(ID)),
        (vec![own], "", Ok(ID)),
        (vec![qualified], UID, Ok(ID)),
        (vec![own, qualified], UID, Ok(ID)),
        (vec![], UID, Err(NoPrincipal)),
        (vec![("principalID", &[ID][..])], UID, Err(NoPrincipal)),
        (vec![("sessionName", &["x"][..])], "", Err(NoPrincipal)),
        (vec![(PRINCIPAL_ID, &[][..])], UID, Err(Ambiguous)),
        (vec![(PRINCIPAL_ID, &[""][..])], "", Err(Ambiguous)),
        (vec![(PRINCIPAL_ID, &[ID, ID][..])], UID, Err(Ambiguous)),
        (
            vec![own, (QUALIFIED_PRINCIPAL_ID, &["AROAX"][..])],
            UID,
            Err(Ambiguous),
        ),
        (vec![own], ID, Err(Uid)),
        (
            vec![own],
            "aws-iam-authenticator:AROADEV0000000000001x",
            Err(Uid),
        ),
        (
            vec![own],
            "aws-iam-authenticator:111122223333:XAROADEV0000000000001",
            Err(Uid),
        ),
        (vec![own], "x:111122223333:AROADEV0000000000001", Err(Uid)),
        (vec![own], "aws-iam-authenticator:", Err(Uid)),
    ] {
        let answer = ask(&extra, uid, NOW, Delegated::Assertion);
        assert_eq!(answer, expected.map(str::to_owned), "{extra:?} {uid}");
        // The setting is about lower-case keys alone.
        assert_eq!(ask(&extra, uid, NOW, Delegated::Refuse), answer);
    }
}

#[test]
fn lower_case_keys_need_an_assertion_or_the_setting() {
    let made = assertion(&KEY, "c1", ID, "", USER, at(NOW));
    let lower: (&str, &[&str]) = ("principalid", &[ID]);
    let qualified: (&str, &[&str]) = ("sigs.k8s.io/aws-iam-authenticator/principalid", &[ID]);
    let with = |text: &str, setting| ask(&[lower, (ASSERTION, &[text])], "", NOW, setting);
    assert_eq!(with(&made, Delegated::Assertion), Ok(ID.to_owned()));
    assert_eq!(with(&made, Delegated::Refuse), Err(Untrusted::Delegated));
    assert_eq!(with("junk", Delegated::Trust), Ok(ID.to_owned()));
    let asserted = ask(
        &[qualified, (ASSERTION, &[&made])],
        UID,
        NOW,
        Delegated::Assertion,
    );
    assert_eq!(asserted, Ok(ID.to_owned()));
    let plain = |setting| ask(&[lower], UID, NOW, setting);
    assert_eq!(plain(Delegated::Assertion), Err(Untrusted::NoAssertion));
    assert_eq!(plain(Delegated::Trust), Ok(ID.to_owned()));
    assert_eq!(plain(Delegated::Refuse), Err(Untrusted::Delegated));
    // The uid counts here as well.
    let foreign = ask(
        &[lower, (ASSERTION, &[&made])],
        "other",
        NOW,
        Delegated::Trust,
    );
    assert_eq!(foreign, Err(Untrusted::Uid));
}

#[test]
fn an_assertion_is_for_one_cluster_principal_user_and_key() {
    let now = at(NOW);
    let other_key = AssertionKey::new([8; 32]);
    let made = assertion(&KEY, "c1", ID, "", USER, now);
    let hour = NOW / HOUR;
    let later = made.replacen(&hour.to_string(), &(hour + 1).to_string(), 1);
    let padded = made.replacen(&hour.to_string(), &format!("0{hour}"), 1);
    let plus = made.replacen(&hour.to_string(), &format!("+{hour}"), 1);
    let (shorter, _) = made.split_at(made.len() - 1);
    for wrong in [
        assertion(&KEY, "c2", ID, "", USER, now),
        assertion(&KEY, "c1", "AROAOTHER", "", USER, now),
        assertion(&KEY, "c1", ID, "", "ops:bob", now),
        assertion(&KEY, "c1ARO", "ADEV0000000000001", "", USER, now),
        assertion(&other_key, "c1", ID, "", USER, now),
        later,
        padded,
        plus,
        shorter.to_owned(),
        format!("{made}="),
        format!("v2{}", &made[2..]),
        String::from("v1.."),
        String::from("v1.99999999999999999999.x"),
        String::from("v1"),
        String::from("x"),
    ] {
        let extra: [(&str, &[&str]); 2] = [("principalid", &[ID]), (ASSERTION, &[&wrong])];
        let answer = ask(&extra, UID, NOW, Delegated::Assertion);
        assert_eq!(answer, Err(Untrusted::Assertion), "{wrong}");
    }
    let two: [(&str, &[&str]); 2] = [("principalid", &[ID]), (ASSERTION, &[&made, &made])];
    assert_eq!(
        ask(&two, UID, NOW, Delegated::Assertion),
        Err(Untrusted::Assertion)
    );
}

#[test]
fn an_assertion_is_for_the_arn_beside_it() {
    let arn = "arn:aws:sts::111122223333:assumed-role/Dev/ana";
    let other = "arn:aws:sts::111122223333:assumed-role/Admin/ana";
    let made = assertion(&KEY, "c1", ID, arn, USER, at(NOW));
    let without = assertion(&KEY, "c1", ID, "", USER, at(NOW));
    for (told, text, good) in [
        (&[arn][..], &made, true),
        (&[other], &made, false),
        (&[], &made, false),
        (&[arn, other], &made, false),
        (&[arn], &without, false),
    ] {
        let extra: [(&str, &[&str]); 3] =
            [("principalid", &[ID]), ("arn", told), (ASSERTION, &[text])];
        let answer = ask(&extra, UID, NOW, Delegated::Assertion);
        assert_eq!(answer.is_ok(), good, "{told:?}");
        assert_eq!(
            ask(&extra, UID, NOW, Delegated::Trust),
            Ok(ID.to_owned()),
            "{told:?}"
        );
    }
}

#[test]
fn an_assertion_lasts_at_least_one_hour_and_at_most_two() {
    let begin = NOW - 1_800;
    for (made_at, asked_at, fresh) in [
        (begin, begin, true),
        (begin, begin + 2 * HOUR - 1, true),
        (begin, begin + 2 * HOUR, false),
        (begin + HOUR - 1, begin + 2 * HOUR - 1, true),
        (begin + HOUR - 1, begin + 2 * HOUR, false),
        // A replica whose clock is a little ahead made it.
        (begin + HOUR, begin + HOUR - SKEW, true),
        (begin + HOUR, begin + HOUR - SKEW - 1, false),
        (begin + 10 * HOUR, begin, false),
    ] {
        let made = assertion(&KEY, "c1", ID, "", USER, at(made_at));
        let extra: [(&str, &[&str]); 2] = [("principalid", &[ID]), (ASSERTION, &[&made])];
        let answer = ask(&extra, "", asked_at, Delegated::Assertion);
        let expected = if fresh {
            Ok(ID.to_owned())
        } else {
            Err(Untrusted::Expired)
        };
        assert_eq!(answer, expected, "{made_at} {asked_at}");
    }
}

#[test]
fn the_key_shows_in_nothing_that_is_printed() {
    assert_eq!(format!("{KEY:?}"), "AssertionKey(..)");
}

//! Sealed messages.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

mod common;

use common::*;
use countersign_session::{
    MAX_MESSAGE_CHARS, MessageDoesNotOpen, Purpose, issue, open, open_message, seal_message,
};

const PURPOSE: Purpose = Purpose::AuthorizationMessage;
const OWNER: &str = "111122223333";

fn sealed(plain: &[u8]) -> Option<String> {
    seal_message(
        PURPOSE,
        OWNER,
        plain,
        &ring(),
        &deployment(),
        [3; 12],
        at(0),
    )
}

fn opened(message: &str, owner: &str, seconds: i64) -> Result<Vec<u8>, MessageDoesNotOpen> {
    open_message(PURPOSE, owner, message, &ring(), &deployment(), at(seconds))
        .map(|plain| plain.to_vec())
}

#[test]
fn a_message_opens_for_its_owner_for_a_day() {
    let message = sealed(b"{\"allowed\":false}").unwrap();
    assert_eq!(opened(&message, OWNER, 0).unwrap(), b"{\"allowed\":false}");
    assert!(opened(&message, OWNER, 24 * 3600 - 1).is_ok());
    assert!(opened(&message, OWNER, 24 * 3600).is_err());
    assert!(opened(&message, "444455556666", 0).is_err());
    assert!(!message.contains("allowed"));
}

#[test]
fn a_damaged_message_does_not_open() {
    let message = sealed(b"x").unwrap();
    for at in 0..message.len() {
        let mut bytes = message.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(opened(std::str::from_utf8(&bytes).unwrap(), OWNER, 0).is_err());
        assert!(opened(&message[..at], OWNER, 0).is_err());
    }
    for other in ["", "CM1.", "CM1.k.", "CM1..AAAA", &"A".repeat(1 << 16)] {
        assert!(opened(other, OWNER, 0).is_err(), "{other}");
    }
}

#[test]
fn a_message_is_no_session_token_and_a_token_no_message() {
    let credentials = issue(&role_session(), &ring(), &deployment(), &random(1), at(0)).unwrap();
    let token = credentials.token.expose();
    let as_message = token.replacen("CS1", "CM1", 1);
    for owner in [OWNER, &credentials.access_key_id] {
        assert!(opened(token, owner, 0).is_err());
        assert!(opened(&as_message, owner, 0).is_err());
    }
    let message = seal_message(
        PURPOSE,
        KEY_ID,
        b"\xa0",
        &ring(),
        &deployment(),
        [3; 12],
        at(0),
    )
    .unwrap()
    .replacen("CM1", "CS1", 1);
    assert!(open(message.as_bytes(), KEY_ID, &ring(), &deployment(), at(0)).is_err());
}

#[test]
fn messages_longer_than_the_api_takes_are_not_made() {
    let longest = sealed(&[b'x'; 7600]).unwrap();
    assert!(longest.len() <= MAX_MESSAGE_CHARS);
    assert_eq!(opened(&longest, OWNER, 0).unwrap().len(), 7600);
    assert_eq!(sealed(&[b'x'; 7700]), None);
}

#[test]
fn messages_of_a_retired_key_do_not_open() {
    let message = sealed(b"x").unwrap();
    let emergency = ring().all_retired(&new_key(4), at(1)).unwrap();
    assert!(open_message(PURPOSE, OWNER, &message, &emergency, &deployment(), at(1)).is_err());
}

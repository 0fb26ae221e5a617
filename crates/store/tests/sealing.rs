//! Secrets at rest open only with their root key and only where they were sealed.
#![allow(clippy::unwrap_used, reason = "tests")]

use countersign_store::{Key, RootKey, SealError, SealedSecret, Sealer, SecretString};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn sealer(byte: u8) -> Sealer {
    Sealer::new(&RootKey::from_bytes([byte; 32]), &[]).unwrap()
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn sealed() -> (Sealer, Key, SealedSecret) {
    let (sealer, key) = (sealer(1), key("access-key/AKIA1"));
    let sealed = sealer
        .seal(&key, "secret", &SecretString::new(SECRET))
        .unwrap();
    (sealer, key, sealed)
}

#[test]
fn opens_where_it_was_sealed() {
    let (sealer, key, sealed) = sealed();
    assert_eq!(
        sealer.open(&key, "secret", &sealed).unwrap().expose(),
        SECRET
    );
}

#[test]
fn empty_and_long_secrets_come_back() {
    let (sealer, key) = (sealer(1), key("k"));
    for secret in [String::new(), "x".repeat(10_000)] {
        let sealed = sealer
            .seal(&key, "f", &SecretString::new(secret.as_str()))
            .unwrap();
        assert_eq!(sealer.open(&key, "f", &sealed).unwrap().expose(), secret);
    }
}

#[test]
fn sealing_twice_gives_different_texts() {
    let (sealer, key, first) = sealed();
    let second = sealer
        .seal(&key, "secret", &SecretString::new(SECRET))
        .unwrap();
    assert_ne!(first, second);
}

#[test]
fn does_not_open_in_another_record_or_field() {
    let (sealer, _, sealed) = sealed();
    for (record, field) in [
        ("access-key/AKIA2", "secret"),
        ("access-key/AKIA", "1secret"),
        ("access-key/AKIA1", "secret2"),
        ("access-key/AKIA1", ""),
        ("user/AKIA1", "secret"),
    ] {
        let opened = sealer.open(&key(record), field, &sealed).map(|_| ());
        assert_eq!(opened, Err(SealError::NotAuthentic), "{record} {field}");
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    let (sealer, key, sealed) = sealed();
    let text = sealed.as_stored().as_bytes();
    for at in 0..text.len() {
        for bit in 0..7 {
            let mut changed = text.to_vec();
            changed[at] ^= 1 << bit;
            let changed = SealedSecret::from_stored(String::from_utf8(changed).unwrap());
            assert!(
                sealer.open(&key, "secret", &changed).is_err(),
                "bit {bit} of character {at}"
            );
        }
    }
}

#[test]
fn truncated_and_extended_texts_are_refused() {
    let (sealer, key, sealed) = sealed();
    let text = sealed.as_stored();
    for end in 0..text.len() {
        let cut = SealedSecret::from_stored(&text[..end]);
        assert!(
            sealer.open(&key, "secret", &cut).is_err(),
            "first {end} characters"
        );
    }
    for more in ["A", "AAAA", "=", ".", " ", ".AAAA"] {
        let longer = SealedSecret::from_stored(format!("{text}{more}"));
        assert!(
            sealer.open(&key, "secret", &longer).is_err(),
            "followed by `{more}`"
        );
    }
}

#[test]
fn wrong_root_key_is_named() {
    let (right, key, sealed) = sealed();
    let error = sealer(2)
        .open(&key, "secret", &sealed)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        error,
        SealError::UnknownKey {
            key_id: right.key_id().to_owned()
        }
    );
    assert!(error.to_string().contains(right.key_id()));
}

#[test]
fn key_id_of_another_root_key_does_not_help() {
    let (right, key, sealed) = sealed();
    let other = sealer(2);
    let renamed = sealed.as_stored().replace(right.key_id(), other.key_id());
    let opened = other
        .open(&key, "secret", &SealedSecret::from_stored(renamed))
        .map(|_| ());
    assert_eq!(opened, Err(SealError::NotAuthentic));
}

#[test]
fn earlier_root_keys_open_but_do_not_seal() {
    let (old, key, sealed) = sealed();
    let new = Sealer::new(
        &RootKey::from_bytes([2; 32]),
        &[RootKey::from_bytes([1; 32])],
    )
    .unwrap();
    assert_eq!(new.open(&key, "secret", &sealed).unwrap().expose(), SECRET);
    let again = new
        .seal(&key, "secret", &SecretString::new(SECRET))
        .unwrap();
    assert_eq!(again.key_id().unwrap(), new.key_id());
    assert!(old.open(&key, "secret", &again).is_err());
}

#[test]
fn nothing_prints_a_secret() {
    let (sealer, _, sealed) = sealed();
    let root = RootKey::from_bytes([0x41; 32]);
    let shown = format!(
        "{:?} {:?} {sealer:?} {root:?}",
        SecretString::new(SECRET),
        sealed
    );
    assert!(!shown.contains(SECRET) && !shown.contains(sealed.as_stored()));
    assert!(!shown.contains("4141") && !shown.contains("65, 65") && !shown.contains("AAAA"));
}

#[test]
fn keys_of_different_purposes_differ() {
    let root = RootKey::from_bytes([1; 32]);
    assert_ne!(*root.derive("a"), *root.derive("b"));
    assert_ne!(*root.derive("a"), *RootKey::from_bytes([2; 32]).derive("a"));
    assert_eq!(*root.derive("a"), *root.derive("a"));
}

#[test]
fn assertion_keys_belong_to_one_root_key_and_one_cluster() {
    let key = |root, cluster| sealer(root).assertion_key(cluster).unwrap();
    assert_eq!(*key(1, "A"), *key(1, "A"), "every replica has the same");
    let different = [key(1, "A"), key(1, "B"), key(2, "A"), key(1, "")];
    for (n, one) in different.iter().enumerate() {
        for other in different.iter().skip(n + 1) {
            assert_ne!(**one, **other);
        }
    }
}

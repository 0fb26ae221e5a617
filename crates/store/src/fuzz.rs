//! Entry points for fuzzing: any bytes in, no panic.

use crate::EtcdOptions;
use crate::records::AnyRecord;
use crate::{Key, RootKey, SealedSecret, Sealer};

/// A record as the store may hand it out: the first line is the key, the rest the value.
pub fn record(data: &[u8]) {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (key, value) = data.split_at_checked(end).unwrap_or((data, &[]));
    let Ok(key) = Key::new(String::from_utf8_lossy(key)) else {
        return;
    };
    let value = value.get(1..).unwrap_or_default();
    let Ok(record) = AnyRecord::decode(&key, value) else {
        return;
    };
    let again = record.encode();
    assert_eq!(
        AnyRecord::decode(&key, &again),
        Ok(record),
        "a record that was read is written the same"
    );
}

/// The text of a root key.
pub fn root_key(data: &[u8]) {
    let _ = RootKey::parse(&String::from_utf8_lossy(data), "the input");
}

/// A sealed secret.
pub fn sealed_secret(data: &[u8]) {
    let Ok(sealer) = Sealer::new(&RootKey::from_bytes([7; 32]), &[]) else {
        return;
    };
    let Ok(key) = Key::new("access-key/AKIAEXAMPLE") else {
        return;
    };
    let sealed = SealedSecret::from_stored(String::from_utf8_lossy(data));
    assert!(
        sealer.open(&key, "secret", &sealed).is_err(),
        "nobody seals without the root key"
    );
}

/// The address of an etcd.
pub fn etcd_url(data: &[u8]) {
    let Ok((options, _)) = EtcdOptions::parse(&String::from_utf8_lossy(data), || {
        jiff::Timestamp::UNIX_EPOCH
    }) else {
        return;
    };
    let again = EtcdOptions::new(&options.endpoints, &options.prefix, options.clock);
    assert!(
        again.is_ok_and(
            |again| again.endpoints == options.endpoints && again.prefix == options.prefix
        ),
        "an address that was read is read the same"
    );
}

/// What others may write below our prefix in etcd: key, newline, value.
#[cfg(feature = "etcd")]
pub fn etcd_key(data: &[u8]) {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (key, value) = data.split_at_checked(end).unwrap_or((data, &[]));
    let key = [b"/p/".as_slice(), key].concat();
    crate::etcd_store::read_foreign(&key, value.get(1..).unwrap_or_default());
}

/// A backup.
pub fn backup(data: &[u8]) {
    let Ok((_, mut reader)) = crate::backup::Reader::new(data) else {
        return;
    };
    let mut records = 0_u64;
    while let Ok(Some(_)) = reader.next_record() {
        records = records.saturating_add(1);
    }
    if let Some(summary) = reader.summary() {
        assert_eq!(summary.records, records, "what was counted was read");
    }
}

use super::*;

fn encoded(fill: impl FnOnce(&mut Encoder<'_>)) -> Vec<u8> {
    let mut buffer = [0u8; 64];
    let mut encoder = Encoder::new(&mut buffer);
    fill(&mut encoder);
    let length = encoder.finish().unwrap();
    buffer[..length].to_vec()
}

#[test]
fn integers_are_as_rfc_8949_appendix_a_writes_them() {
    let table: [(u64, &[u8]); 9] = [
        (0, &[0x00]),
        (23, &[0x17]),
        (24, &[0x18, 0x18]),
        (100, &[0x18, 0x64]),
        (1000, &[0x19, 0x03, 0xe8]),
        (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
        (
            1_000_000_000_000,
            &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00],
        ),
        (u64::from(u32::MAX), &[0x1a, 0xff, 0xff, 0xff, 0xff]),
        (
            u64::MAX,
            &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
    ];
    for (number, bytes) in table {
        assert_eq!(encoded(|e| e.uint(number)), bytes);
        assert_eq!(Decoder::new(bytes).uint(), Ok(number));
    }
}

#[test]
fn strings_arrays_and_maps_are_as_rfc_8949_appendix_a_writes_them() {
    assert_eq!(
        encoded(|e| e.bytes(&[1, 2, 3, 4])),
        [0x44, 1, 2, 3, 4],
        "h'01020304'"
    );
    assert_eq!(encoded(|e| e.text("ü")), [0x62, 0xc3, 0xbc]);
    assert_eq!(
        encoded(|e| {
            e.array(3);
            (1..4).for_each(|n| e.uint(n));
        }),
        [0x83, 1, 2, 3]
    );
    assert_eq!(
        encoded(|e| e.map(|m| {
            m.key(1).uint(2);
            m.key(3).uint(4);
        })),
        [0xa2, 1, 2, 3, 4]
    );
}

#[test]
fn what_is_not_deterministic_is_refused() {
    let uint = |bytes: &[u8]| Decoder::new(bytes).uint();
    assert_eq!(uint(&[0x18, 0x17]), Err(CborError::NotMinimal));
    assert_eq!(uint(&[0x19, 0x00, 0xff]), Err(CborError::NotMinimal));
    assert_eq!(uint(&[0x1a, 0, 0, 0xff, 0xff]), Err(CborError::NotMinimal));
    assert_eq!(
        uint(&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        Err(CborError::NotMinimal)
    );
    assert_eq!(uint(&[0x1c]), Err(CborError::Indefinite));
    assert_eq!(
        Decoder::new(&[0x5f, 0xff]).bytes(),
        Err(CborError::Indefinite)
    );
    assert_eq!(
        Decoder::new(&[0xbf, 0xff]).map().err(),
        Some(CborError::Indefinite)
    );
    for repeated in [[0xa2, 1, 1, 1, 1], [0xa2, 2, 1, 1, 1]] {
        let mut decoder = Decoder::new(&repeated);
        let mut map = decoder.map().unwrap();
        map.next(&mut decoder).unwrap();
        decoder.uint().unwrap();
        assert_eq!(map.next(&mut decoder), Err(CborError::KeyOrder));
    }
}

#[test]
fn a_length_beyond_the_bytes_is_refused_before_anything_is_allocated() {
    assert_eq!(
        Decoder::new(&[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).bytes(),
        Err(CborError::Truncated)
    );
    assert_eq!(
        Decoder::new(&[0x9a, 0xff, 0xff, 0xff, 0xff]).array(),
        Err(CborError::Truncated)
    );
    assert_eq!(
        Decoder::new(&[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
            .map()
            .err(),
        Some(CborError::Truncated)
    );
}

#[test]
fn unknown_items_of_every_type_are_stepped_over_and_deep_ones_refused() {
    for item in [
        &[0x05][..],
        &[0x38, 0x63],
        &[0x42, 1, 2],
        &[0x61, b'a'],
        &[0x82, 1, 0x81, 2],
        &[0xa1, 0x61, b'k', 0xf5],
        &[0xc1, 0x1a, 0x51, 0x4b, 0x67, 0xb0],
        &[0xf6],
        &[0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a],
    ] {
        let mut decoder = Decoder::new(item);
        assert_eq!(decoder.skip(), Ok(()), "{item:02x?}");
        assert_eq!(decoder.end(), Ok(()), "{item:02x?}");
    }
    let mut deep = vec![0x81; 10];
    deep.push(0);
    assert_eq!(Decoder::new(&deep).skip(), Err(CborError::Depth));
    assert_eq!(
        Decoder::new(&[0x61, 0xff]).skip(),
        Err(CborError::Utf8),
        "a text must be UTF-8 even when nobody reads it"
    );
}

#[test]
fn a_full_buffer_shows_at_the_end() {
    let mut small = [0u8; 3];
    let mut encoder = Encoder::new(&mut small);
    encoder.text("abc");
    assert_eq!(encoder.finish(), Err(4), "and says what is needed");
    let mut buffer = [0u8; 64];
    let mut encoder = Encoder::new(&mut buffer);
    encoder.map(|m| (0..24).for_each(|key| m.key(key).uint(0)));
    assert!(encoder.finish().is_err(), "a map has fewer than 24 entries");
}

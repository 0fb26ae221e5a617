//! The fuzz entry points over their seeds and over pseudo-random changes of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use countersign_upstream::fuzz;

#[test]
fn no_bytes_make_a_parser_panic() {
    let seeds: [&[u8]; 7] = [
        include_bytes!("data/describe-instances.xml"),
        include_bytes!("data/get-instance-profile.xml"),
        include_bytes!("data/assume-role.xml"),
        b"<Response><Errors><Error><Code>X</Code></Error></Errors></Response>",
        b"<a b='&lt;'><![CDATA[x]]><!-- - --><?p?>&#x41;</a>",
        br#"{"privateDnsName": "worker-1"}"#,
        br#"{"associations":[{"namespace":"a","serviceAccount":"b","associationId":"a-1","ownerArn":null}],"nextToken":"x"}"#,
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for seed in seeds {
        for round in 0..2000 {
            let mut bytes = seed.to_vec();
            for _ in 0..round % 8 {
                let at = (random() as usize) % bytes.len();
                match random() % 4 {
                    0 => bytes[at] = random() as u8,
                    1 => {
                        drop(bytes.drain(at..(at + 1 + (random() as usize) % 16).min(bytes.len())))
                    }
                    2 => bytes.insert(at, b"<>&;/!?-[]\"' "[(random() as usize) % 13]),
                    _ => bytes.truncate(at.max(1)),
                }
                if bytes.is_empty() {
                    bytes.push(b'<');
                }
            }
            fuzz::xml(&bytes);
            fuzz::node_name(&bytes);
            fuzz::associations(&bytes);
        }
    }
}

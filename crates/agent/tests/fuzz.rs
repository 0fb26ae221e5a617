//! The fuzz entry points over their seeds and over pseudo-random changes of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use countersign_agent::fuzz;

#[test]
fn no_bytes_make_a_reader_panic() {
    let token = common::token(1, common::START);
    let head = |host: &str| {
        format!("/v1/credentials\nHost: {host}\nAuthorization: {token}\nAccept: */*").into_bytes()
    };
    let answer = common::answer_json("picker-1", "orchard", 1, common::START).to_string();
    let seeds = [
        head("169.254.170.23"),
        head("[fd00:ec2::23]:80"),
        b"http://[::1]/v1/credentials\nHost: a\nX-Forwarded-For: b".to_vec(),
        token.into_bytes(),
        answer.into_bytes(),
        br#"{"__type":"a#ThrottlingException","message":"x"}"#.to_vec(),
        br#"{"listeners":["credentials 169.254.170.23:80","imds [fd00:ec2::23]:2706"]}"#.to_vec(),
        br#"{"version":1,"agent":"orchard"}"#.to_vec(),
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for seed in &seeds {
        for round in 0..1500 {
            let mut bytes = seed.clone();
            for _ in 0..round % 8 {
                let at = (random() as usize) % bytes.len();
                match random() % 4 {
                    0 => bytes[at] = random() as u8,
                    1 => {
                        drop(bytes.drain(at..(at + 1 + (random() as usize) % 16).min(bytes.len())))
                    }
                    2 => bytes.insert(at, b":.[]/{}\"-_=\n 0"[(random() as usize) % 14]),
                    _ => bytes.truncate(at.max(1)),
                }
                if bytes.is_empty() {
                    bytes.push(b'{');
                }
            }
            fuzz::request(&bytes);
            fuzz::token(&bytes);
            fuzz::answer(&bytes);
            fuzz::handover(&bytes);
        }
    }
}

//! Fuzz targets over a small corpus and over pseudo-random mutations of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails should panic"
)]

use countersign_token::fuzz;

/// A deterministic generator (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

const NASTY: &[u8] = b"%&=;?#@:/\\\"{}[],.-\x00\xff";

fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        match random.below(5) {
            0 if at < data.len() => data[at] ^= 1 << random.below(8),
            1 if at < data.len() => _ = data.remove(at),
            2 => data.insert(at, NASTY[random.below(NASTY.len())]),
            3 => data.truncate(at),
            _ => {
                let from = random.below(data.len() + 1);
                let copied = data[from..(from + random.below(16)).min(data.len())].to_vec();
                data.splice(at..at, copied);
            }
        }
    }
    data
}

fn run(target: fn(&[u8]), seeds: &[&[u8]]) {
    let mut random = Random(0x5eed_c0de);
    for seed in seeds {
        target(seed);
    }
    for round in 0..2000 {
        target(&mutate(seeds[round % seeds.len()], &mut random));
    }
}

#[test]
fn tokens_never_panic() {
    run(
        fuzz::token,
        &[
            include_bytes!("data/vector-token.txt"),
            b"k8s-aws-v1.",
            b"https://sts.amazonaws.com/?Action=GetCallerIdentity&X-Amz-Credential=A%2FB&X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&X-Amz-Signature=00",
            b"https://sts.cs.example:8443/?action=GetCallerIdentity&x-amz-date=20260102T030405Z&x-amz-expires=0&x-amz-signedheaders=x-k8s-aws-id",
            b"https://u:p@sts.eu-west-1.api.aws:443/%2F?;#",
            b"",
        ],
    );
}

#[test]
fn answers_of_sts_never_panic() {
    run(
        fuzz::sts_response,
        &[
            b"\x00\x00{\"GetCallerIdentityResponse\":{\"GetCallerIdentityResult\":{\"Account\":\"444455556666\",\"Arn\":\"arn:aws:sts::444455556666:assumed-role/Ops/ana\",\"UserId\":\"AROA:ana\"}}}",
            b"\x81\x94{\"Error\":{\"Code\":\"ExpiredToken\",\"Message\":\"m\"},\"RequestId\":\"r\"}",
            b"\x81\x94<Error><Code>Throttling</Code></Error>",
            b"",
        ],
    );
}

#[test]
fn exec_info_never_panics() {
    run(
        fuzz::exec_info,
        &[
            br#"{"apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":true,"cluster":{"config":{"clusterID":"demo"}}}}"#,
            b"[{}]",
            b"",
        ],
    );
}

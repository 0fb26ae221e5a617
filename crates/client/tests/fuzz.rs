//! Fuzz targets over a small corpus and over pseudo-random mutations of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails should panic"
)]

use countersign_client::fuzz;

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

const NASTY: &[u8] = b"[]{}:,-?&*!|>'\"%@`#=;\n\n\t \\~.\x00\xff";

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
                let copied = data[from..(from + random.below(24)).min(data.len())].to_vec();
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
fn shared_configuration_never_panics() {
    run(
        fuzz::shared_config,
        &[
            b"[default]\naws_access_key_id = A\naws_secret_access_key = s # c\nregion: x\n",
            b"[profile \"a b\"]\nrole_arn = r\nsource_profile = default\nservices = s\n[services s]\nsts =\n  endpoint_url = https://x:1/y\n",
            b"[default]\nsso_session = x\ncredential_source = Environment\nduration_seconds = 9\n",
            b"",
        ],
    );
}

#[test]
fn merging_into_a_kubeconfig_never_panics_and_is_stable() {
    run(
        fuzz::kubeconfig,
        &[
            include_bytes!("data/kubeconfig/plain.yaml"),
            include_bytes!("data/kubeconfig/indented.yaml"),
            include_bytes!("data/kubeconfig/json.yaml"),
            b"apiVersion: v1\nclusters: []\ncontexts: null\ncurrent-context: ''\nusers:\n",
            b"clusters:\n-\n  name: fuzz\n- {name: x}\ncurrent-context: |\n  a\n",
            b"users: &a []\nclusters: *a\n",
            b"",
        ],
    );
}

#[test]
fn queries_never_panic() {
    run(
        fuzz::query,
        &[b"status.token", b"\"status\".\"token\"", b"@", b"a[0]", b""],
    );
}

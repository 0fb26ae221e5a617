//! Fuzz targets over a small corpus and over pseudo-random mutations of it.
use countersign_client::fuzz;

fn run(target: fn(&[u8]), seeds: &[&[u8]]) {
    let pieces: Vec<[u8; 1]> = b"[]{}:,-?&*!|>'\"%@`#=;\n\n\t \\~.\x00\xff"
        .iter()
        .map(|byte| [*byte])
        .collect();
    countersign_mutation::run(target, seeds, &pieces, 2000);
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

//! What a pod's session is called (EKS API spec, section 11; Pod Identity spec, section 5.2).

/// Characters of the cluster's and of the pod's name that a session name keeps: with `eks-`, two dashes and a UUID the name
/// has 62 characters at most, of the 64 that STS takes. How EKS shortens them is not known.
const KEPT: usize = 10;

/// `eks-CLUSTER-POD-UUID`, with what STS takes in no session name replaced by dashes.
pub(super) fn session_name(cluster: &str, pod: &str, uuid: &str) -> String {
    let cut = |text: &str| -> String {
        text.chars()
            .take(KEPT)
            .map(|c| {
                let taken = c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
                if taken { c } else { '-' }
            })
            .collect()
    };
    format!("eks-{}-{}-{uuid}", cut(cluster), cut(pod))
}

/// A random UUID (RFC 9562, version 4) from 16 random bytes.
pub(super) fn uuid_of(random: [u8; 16]) -> String {
    let bits = (u128::from_be_bytes(random) & !(0xf << 76) & !(0b11 << 62)) | (4 << 76) | (2 << 62);
    let field = |shift: u32, digits: u32| (bits >> shift) & ((1 << (4 * digits)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        field(96, 8),
        field(80, 4),
        field(64, 4),
        field(48, 4),
        field(0, 12)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "6b1e0c58-1c2d-4e3f-8a9b-0c1d2e3f4a5b";

    #[test]
    fn session_names_have_cluster_pod_and_uuid_and_fit() {
        let cases = [
            (
                "orchard",
                "picker-0",
                format!("eks-orchard-picker-0-{UUID}"),
            ),
            ("c1", "worker-7f9d-x2", format!("eks-c1-worker-7f9-{UUID}")),
            (
                "production-eu-west-1-blue",
                "payments-worker-5f6d8c9b7-abcde",
                format!("eks-production-payments-w-{UUID}"),
            ),
            ("a", "web.example.com", format!("eks-a-web.exampl-{UUID}")),
            ("\u{e4}/b", "p\u{1f600}d *", format!("eks---b-p-d---{UUID}")),
        ];
        for (cluster, pod, expected) in cases {
            let name = session_name(cluster, pod, UUID);
            assert_eq!(name, expected);
            assert!(countersign_arn::is_session_name(&name), "{name}");
        }
    }

    #[test]
    fn uuids_are_of_version_4() {
        assert_eq!(uuid_of([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid_of([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let counted: [u8; 16] = std::array::from_fn(|at| u8::try_from(at).unwrap_or(0));
        assert_eq!(uuid_of(counted), "00010203-0405-4607-8809-0a0b0c0d0e0f");
    }
}

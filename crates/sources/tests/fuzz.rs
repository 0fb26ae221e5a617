//! The fuzz entry points over their seeds and over pseudo-random changes of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use countersign_sources::fuzz;

#[test]
fn no_bytes_make_a_reader_panic() {
    let seeds: [&[u8]; 10] = [
        br#"{"metadata":{"uid":"u","annotations":{"iam.amazonaws.com/role":"r","a":"b"}}}"#,
        b"- rolearn: arn:aws:iam::444455556666:role/Ops\n  username: ops\n  groups: [a]\n\x0b- userarn: x\n\x0b- 444455556666\n\x0c- [",
        b"- rolearn: arn:aws:iam::444455556666:role/Ops\n  username: {{SessionName}}\n\x0c\t- x\n\x0b{}",
        br#"{"cluster":"demo","resourceVersion":"9","savedAt":"2026-01-02T03:04:05Z","data":{"mapRoles":""}}"#,
        br#"{"canonicalARN":"x","conditions":[{"type":"Ready","status":"False","lastTransitionTime":"x"},{"type":"Mine"},7,null]}"#,
        br#"{"conditions":{"type":"Ready"}}"#,
        b"[[[]]]",
        b"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: a, namespace: &n b}\nrules:\n- verbs: [get]\n  resources: ['*']\n---\nkind: List\napiVersion: v1\nitems:\n- *n\n",
        br#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"x"},"roleRef":{"kind":"ClusterRole","name":"y"},"subjects":[{"kind":"Group","name":"z"}]}]}"#,
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for seed in seeds {
        for round in 0..400 {
            let mut bytes = seed.to_vec();
            for _ in 0..round % 8 {
                let at = (random() as usize) % bytes.len();
                match random() % 4 {
                    0 => bytes[at] = random() as u8,
                    1 => {
                        drop(bytes.drain(at..(at + 1 + (random() as usize) % 16).min(bytes.len())))
                    }
                    2 => bytes.insert(at, b"-:{}[]\"'\n\t&*! "[(random() as usize) % 14]),
                    _ => bytes.truncate(at.max(1)),
                }
                if bytes.is_empty() {
                    bytes.push(b'-');
                }
            }
            fuzz::annotations(&bytes);
            fuzz::aws_auth_versions(&bytes);
            fuzz::remembered(&bytes);
            fuzz::object_status(&bytes);
            fuzz::manifests(&bytes);
        }
    }
}

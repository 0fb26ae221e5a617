//! The fuzz entry points over their seeds and over pseudo-random changes of them.
use countersign_sources::fuzz;

#[test]
fn no_bytes_make_a_reader_panic() {
    let seeds: [&[u8]; 9] = [
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
    let target = |bytes: &[u8]| {
        fuzz::aws_auth_versions(bytes);
        fuzz::remembered(bytes);
        fuzz::object_status(bytes);
        fuzz::manifests(bytes);
    };
    countersign_mutation::run(
        target,
        &seeds,
        &countersign_mutation::characters("-:{}[]\"'\n\t&*! "),
        3600,
    );
}

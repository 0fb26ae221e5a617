//! Arbitrary input never panics; seeds stand for the corpus of the fuzzer.

#![allow(missing_docs, reason = "tests")]

use countersign_podreview::fuzz;
use proptest::prelude::*;

const PODS: &[&str] = &[
    r#"{"metadata":{"name":"a"},"spec":{}}"#,
    r#"{"metadata":{"name":"a","annotations":{"eks.amazonaws.com/role-arn":"x"}},"spec":{"containers":[{"name":"c","env":[{"name":"AWS_WEB_IDENTITY_TOKEN_FILE","value":"C:\\x"},{"name":"AWS_ROLE_ARN","value":"arn:aws:iam::1:role/"}],"volumeMounts":[{"name":"v","mountPath":"/"}]}],"volumes":[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"x"}}]}}]}}"#,
];
const TRUST: &[&str] = &[
    r#"{"Version":"2012-10-17","Statement":[]}"#,
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::111122223333:oidc-provider/issuer.example/id/1"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"issuer.example/id/1:aud":"sts.amazonaws.com","issuer.example/id/1:sub":["system:serviceaccount:a:c"]}}}}"#,
];

#[test]
fn seeds() {
    for seed in PODS {
        fuzz::pod(seed.as_bytes());
    }
    for seed in TRUST {
        fuzz::trust(seed.as_bytes());
    }
}

proptest! {
    #[test]
    fn damaged_seeds(seed in 0_usize..4, at in 0_usize..600, byte: u8, raw in prop::collection::vec(any::<u8>(), 0..64)) {
        let all: Vec<&&str> = PODS.iter().chain(TRUST).collect();
        let mut bytes = all.get(seed).map(|seed| seed.as_bytes().to_vec()).unwrap_or_default();
        if let Some(old) = bytes.get_mut(at) {
            *old = byte;
        }
        for data in [bytes, raw] {
            fuzz::pod(&data);
            fuzz::trust(&data);
        }
    }
}

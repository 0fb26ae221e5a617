//! Fuzz targets over a small corpus and over pseudo-random mutations of it.
use countersign_token::fuzz;

fn run(target: fn(&[u8]), seeds: &[&[u8]]) {
    let pieces: Vec<[u8; 1]> = b"%&=;?#@:/\\\"{}[],.-\x00\xff"
        .iter()
        .map(|byte| [*byte])
        .collect();
    countersign_mutation::run(target, seeds, &pieces, 2000);
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

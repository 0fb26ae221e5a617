//! The fuzz targets over their seeds and deterministic mutations of them.

use countersign_server::fuzz;

fn run(target: fn(&[u8]), seeds: &[&str]) {
    let pieces = countersign_mutation::characters("{}[]\",:=&%+/. \n\0\u{e9}");
    countersign_mutation::run(target, seeds, &pieces, 2000);
}

#[test]
fn token_review_bodies_never_panic() {
    run(
        fuzz::token_review,
        &[
            r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"spec":{"token":"k8s-aws-v1.x","audiences":["a"]},"status":{"user":{}}}"#,
            r#"{"spec":{"token":"\u0041\ud83d\ude00"}}"#,
        ],
    );
}

#[test]
fn configurations_never_panic() {
    run(
        fuzz::configuration,
        &[
            "clusterID: a\nserver:\n  mapRoles:\n  - rolearn: arn:aws:iam::1:role/x\n    groups: [a]\n  backendMode: [CRD]\ncountersign:\n  denyMode: review\n",
            "{\"clusterID\": \"a\", \"server\": {\"port\": 1, \"reservedPrefixConfig\": [{\"backendMode\": \"CRD\"}]}}",
            "a: &x [*x]\nb: !!binary aa\nc: |\n  text\n",
        ],
    );
}

#[test]
fn query_requests_never_panic() {
    run(
        fuzz::query,
        &[
            "Action=GetCallerIdentity&Version=2011-06-15\nTags.member.1.Key=a%2Bb&x=+",
            "a=%25&%=&&=\n%zz",
        ],
    );
}

#[test]
fn parameters_of_assume_role_never_panic() {
    run(
        fuzz::assume_role,
        &[
            "RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2FDev&RoleSessionName=alice&DurationSeconds=3600",
            "RoleArn=arn:a:a:::b&RoleSessionName=a1&Tags.member.1.Key=a&Tags.member.1.Value=b&Tags.member.9.Key=c&TransitiveTagKeys.member.1=a",
            "Policy=%7B%7D&PolicyArns.member.1.arn=arn:aws:iam::aws:policy/ReadOnlyAccess&ExternalId=x&TokenCode=123456&SourceIdentity=",
        ],
    );
}

#[test]
fn shapes_of_all_operations_never_panic() {
    run(
        fuzz::shapes,
        &[
            "UserName=ana&Path=%2Fteam%2F&Tags.member.1.Key=a&Tags.member.1.Value=b&Tags.member.3.Key=c&MaxItems=5&Marker=x",
            "ContextEntries.member.1.ContextKeyName=aws:x&ContextEntries.member.1.ContextKeyValues.member.2=y&PolicyInputList.member.1=%7B%7D",
            "PolicyExclusionList.member.4.InlinePolicyIdentifier.PolicyName=x&TaskPolicyArn.arn=a&TagKeys.member.01=b&TagKeys.member.4294967296=c",
        ],
    );
}

#[test]
fn rest_requests_never_panic() {
    run(
        fuzz::rest_request,
        &[
            "POST\n/clusters/c1/access-entries\n\n{\"principalArn\":\"arn:aws:iam::111122223333:role/team/Dev\",\"kubernetesGroups\":[\"a\"],\"tags\":{\"a\":\"b\"}}",
            "DELETE\n/clusters/c1/access-entries/arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fteam%2FDev/access-policies/arn:aws:eks::aws:cluster-access-policy%2FX\n\n",
            "GET\n/clusters/c1/access-entries/arn:aws:iam::111122223333:role/a/b/access-policies\nmaxResults=5&nextToken=%41+b\n",
            "POST\n/clusters\n\n{\"name\":\"c1\",\"roleArn\":\"arn:aws:iam::111122223333:role/c\",\"resourcesVpcConfig\":{\"subnetIds\":[\"subnet-1\"],\"publicAccessCidrs\":[null]},\"logging\":{\"clusterLogging\":[{\"types\":[\"audit\"],\"enabled\":true}]},\"encryptionConfig\":[{\"provider\":{\"keyArn\":\"\\ud83d\"}}]}",
            "DELETE\n/tags/arn:aws:eks:us-east-1:111122223333:cluster/c1\ntagKeys=a&tagKeys=b%20c\n",
        ],
    );
}

#[test]
fn requests_for_local_administration_never_panic() {
    run(
        fuzz::admin_request,
        &[
            r#"{"op":"inspect-session","token":"CS1.k7.AAAA","accessKeyId":"ASIARTX3GSDS7RSUJJ3G"}"#,
            r#"{"op":"revoke-sessions","sessions":{"by":"role","role":"Dev"},"before":"2026-03-14T09:26:53Z"}"#,
            r#"{"op":"revoke-sessions","sessions":{"by":"source-identity","account":"111122223333","sourceIdentity":"ana"}}"#,
            r#"{"op":"rotate-session-keys","revoke":true}"#,
            r#"{"op":"backup"}"#,
        ],
    );
}

//! The fuzz target over seeds and deterministic mutations of them.

use countersign_server::fuzz;

#[test]
fn records_of_any_request_are_json_of_bounded_length() {
    let seeds = [
        "iam|CreateRole|agent|no\nRoleName=a&Tags.member.1.Key=b&Tags.member.1.Value=c&Tags.member.2=&MaxSessionDuration=9",
        "sts|AssumeRole||x\nTags=&Tags.member.1=a&Tags.member.member.1.Key=b&ExternalId=x&PolicyArns.member.1.arn=y&DurationSeconds=-9e9",
        "sts|AssumeRole|é\u{1}|arn:aws:iam::111122223333:role/x\nUserName=a&UserName.member.1=b&UserName.Key.Key.Key.Key.Key.Key.Key.Key.Key=c",
    ];
    let pieces = countersign_mutation::characters("=&.|1\n\u{1}\u{e9}");
    countersign_mutation::run(fuzz::audit_record, &seeds, &pieces, 6000);
}

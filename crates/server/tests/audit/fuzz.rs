//! The fuzz target over seeds and deterministic mutations of them.

use countersign_server::fuzz;

#[test]
fn records_of_any_request_are_json_of_bounded_length() {
    let seeds = [
        "iam|CreateRole|agent|no\nRoleName=a&Tags.member.1.Key=b&Tags.member.1.Value=c&Tags.member.2=&MaxSessionDuration=9",
        "sts|AssumeRole||x\nTags=&Tags.member.1=a&Tags.member.member.1.Key=b&ExternalId=x&PolicyArns.member.1.arn=y&DurationSeconds=-9e9",
        "sts|AssumeRole|é\u{1}|arn:aws:iam::111122223333:role/x\nUserName=a&UserName.member.1=b&UserName.Key.Key.Key.Key.Key.Key.Key.Key.Key=c",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit.max(1) as u64) as usize
    };
    for seed in seeds {
        fuzz::audit_record(seed.as_bytes());
        for _ in 0..2000 {
            let mut data = seed.as_bytes().to_vec();
            for _ in 0..=below(4) {
                let at = below(data.len());
                match below(4) {
                    0 => data[at] = below(256) as u8,
                    1 => data.insert(at, below(256) as u8),
                    2 => {
                        data.truncate(at + 1);
                    }
                    _ => {
                        let copy = data[at..].to_vec();
                        data.extend(copy);
                    }
                }
            }
            fuzz::audit_record(&data);
        }
    }
}

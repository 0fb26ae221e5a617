//! The fuzz entry points over their seeds and over pseudo-random changes of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use countersign_agent::fuzz;

#[test]
fn no_bytes_make_a_reader_panic() {
    let token = common::token(1, common::START);
    let head = |host: &str| {
        format!("/v1/credentials\nHost: {host}\nAuthorization: {token}\nAccept: */*").into_bytes()
    };
    let answer = common::answer_json("picker-1", "orchard", 1, common::START).to_string();
    // What the kernel says of a socket: a head, the socket, and one attribute, its cgroup.
    let mut socket = vec![0; 88];
    socket[4] = 20;
    socket.extend([12, 0, 21, 0, 44, 0, 0, 0, 0, 0, 0, 0]);
    let seeds = [
        socket,
        head("169.254.170.23"),
        head("[fd00:ec2::23]:80"),
        b"http://[::1]/v1/credentials\nHost: a\nX-Forwarded-For: b".to_vec(),
        token.into_bytes(),
        answer.into_bytes(),
        br#"{"subject":{"namespace":"n","serviceAccount":"s"},"annotatedRole":{"name":"a/b"},"assumedRoleUser":{"arn":"arn:aws:sts::111122223333:assumed-role/b/s","assumeRoleId":"A:s"},"credentials":{"accessKeyId":"A","secretAccessKey":"s","sessionToken":"t","expiration":1893459600}}"#.to_vec(),
        br#"{"__type":"a#ThrottlingException","message":"x"}"#.to_vec(),
        br#"{"listeners":["credentials 169.254.170.23:80","imds [fd00:ec2::23]:2706"]}"#.to_vec(),
        br#"{"version":1,"agent":"orchard"}"#.to_vec(),
    ];
    let target = |bytes: &[u8]| {
        fuzz::request(bytes);
        fuzz::token(bytes);
        fuzz::answer(bytes);
        fuzz::socket(bytes);
        fuzz::handover(bytes);
    };
    countersign_mutation::run(
        target,
        &seeds,
        &countersign_mutation::characters(":.[]/{}\"-_=\n 0"),
        9000,
    );
}

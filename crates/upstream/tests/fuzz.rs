//! The fuzz entry points over their seeds and over pseudo-random changes of them.
use countersign_upstream::fuzz;

#[test]
fn no_bytes_make_a_parser_panic() {
    let seeds: [&[u8]; 6] = [
        include_bytes!("data/describe-instances.xml"),
        include_bytes!("data/get-instance-profile.xml"),
        include_bytes!("data/assume-role.xml"),
        b"<Response><Errors><Error><Code>X</Code></Error></Errors></Response>",
        b"<a b='&lt;'><![CDATA[x]]><!-- - --><?p?>&#x41;</a>",
        br#"{"privateDnsName": "worker-1"}"#,
    ];
    let target = |bytes: &[u8]| {
        fuzz::xml(bytes);
        fuzz::node_name(bytes);
    };
    countersign_mutation::run(
        target,
        &seeds,
        &countersign_mutation::characters("<>&;/!?-[]\"' "),
        12000,
    );
}

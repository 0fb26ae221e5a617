//! Wire forms: TokenReview, Query protocol, configuration.

use countersign_server::aws::query::{Format, Member, Parameters, error, success};
use countersign_server::config;
use countersign_server::webhook::wire::{self, MalformedReview, ReviewVersion, Verdict};

#[test]
fn reviews_are_read_leniently_in_fields_and_strictly_in_kind() {
    for (body, version, token) in [
        (r#"{"spec":{"token":"t"}}"#, ReviewVersion::V1Beta1, "t"),
        (
            r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"t\u0041","x":[1]},"y":{}}"#,
            ReviewVersion::V1,
            "tA",
        ),
        (
            r#"{"apiVersion":"authentication.k8s.io/v1beta1","spec":{}}"#,
            ReviewVersion::V1Beta1,
            "",
        ),
        (r#"{"spec":null}"#, ReviewVersion::V1Beta1, ""),
    ] {
        let review = wire::parse(body.as_bytes()).unwrap();
        assert_eq!(
            (review.version, review.token.as_ref()),
            (version, token),
            "{body}"
        );
    }
    for body in [
        "x",
        "1",
        "[]",
        "[null,null,{\"token\":\"t\"}]",
        "\"x\"",
        "{\"spec\":1}",
        "{\"kind\":\"Pod\"}",
        "{\"apiVersion\":\"v1\"}",
        "{\"spec\":{\"token\":null},\"spec\":{}}",
    ] {
        assert_eq!(
            wire::parse(body.as_bytes()).unwrap_err(),
            MalformedReview::NotATokenReview,
            "{body}"
        );
    }
    assert_eq!(wire::parse(b"").unwrap_err(), MalformedReview::Empty);
}

#[test]
fn answers_have_exactly_the_fields_kube_apiserver_reads() {
    let groups = vec!["ops".to_owned()];
    let user = wire::User {
        username: "ops:ana",
        uid: "aws-iam-authenticator:444455556666:AROAEXAMPLEEXAMPLE123",
        groups: &groups,
        extra: wire::Extra(vec![
            (
                "arn".into(),
                "arn:aws:sts::444455556666:assumed-role/Ops/ana",
            ),
            ("sessionName".into(), ""),
        ]),
    };
    let text = String::from_utf8(wire::render(
        ReviewVersion::V1,
        &Verdict::Authenticated(user),
    ))
    .unwrap();
    assert_eq!(
        text,
        r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","metadata":{},"spec":{},"status":{"authenticated":true,"user":{"username":"ops:ana","uid":"aws-iam-authenticator:444455556666:AROAEXAMPLEEXAMPLE123","groups":["ops"],"extra":{"arn":["arn:aws:sts::444455556666:assumed-role/Ops/ana"],"sessionName":[""]}}}}"#
    );
    let denied = wire::render(ReviewVersion::V1Beta1, &Verdict::Denied { error: None });
    assert_eq!(
        String::from_utf8(denied).unwrap(),
        r#"{"apiVersion":"authentication.k8s.io/v1beta1","kind":"TokenReview","metadata":{},"spec":{},"status":{"authenticated":false}}"#
    );
}

#[test]
fn query_answers_print_as_xml_and_json() {
    let result = Member::Structure(vec![
        ("Arn", Member::Text("a<&>\"\u{1}".into())),
        (
            "When",
            Member::Time("2026-03-14T10:26:53Z".parse().unwrap()),
        ),
        (
            "Items",
            Member::List(vec![Member::Number(1), Member::Bool(true)]),
        ),
        ("None", Member::List(Vec::new())),
    ]);
    let xml = success(Format::Xml, "urn:x", "Do", &result, "id-1");
    assert_eq!(
        xml,
        "<DoResponse xmlns=\"urn:x\">\n  <DoResult>\n    <Arn>a&lt;&amp;&gt;&quot;\u{fffd}</Arn>\n    <When>2026-03-14T10:26:53Z</When>\n    \
         <Items>\n      <member>1</member>\n      <member>true</member>\n    </Items>\n    <None/>\n  </DoResult>\n  \
         <ResponseMetadata>\n    <RequestId>id-1</RequestId>\n  </ResponseMetadata>\n</DoResponse>\n"
    );
    let json = success(Format::Json, "urn:x", "Do", &result, "id-1");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["DoResponse"]["DoResult"]["When"], 1773484013.0);
    assert_eq!(value["DoResponse"]["ResponseMetadata"]["RequestId"], "id-1");
    let json = error(
        Format::Json,
        "urn:x",
        400,
        "Throttling",
        "Rate \"x\"",
        "id-1",
    );
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["Error"]["Message"],
        "Rate \"x\""
    );
    assert!(
        error(Format::Xml, "urn:x", 500, "InternalFailure", "m", "i")
            .contains("<Type>Receiver</Type>")
    );
}

#[test]
fn json_is_chosen_only_when_it_is_asked_for_first() {
    for (accept, format) in [
        (None, Format::Xml),
        (Some("*/*"), Format::Xml),
        (Some("application/json"), Format::Json),
        (Some("application/json, */*"), Format::Json),
        (Some("text/xml, application/json"), Format::Xml),
        (Some("*/*, application/json"), Format::Xml),
        (Some("text/html, application/json;q=0.5"), Format::Json),
    ] {
        assert_eq!(Format::of_accept(accept), format, "{accept:?}");
    }
}

#[test]
fn parameters_are_decoded_once_and_conflicts_refused() {
    let parameters = Parameters::parse("Action=Q&b=%2B+x&b=%2B+x", b"Action=B&c=").unwrap();
    assert_eq!(
        (
            parameters.get("Action"),
            parameters.get("b"),
            parameters.get("c")
        ),
        (Some("B"), Some("+ x"), Some(""))
    );
    assert_eq!(parameters.get("d"), None);
    for body in [
        &b"a=%"[..],
        b"a=%4",
        b"a=%zz",
        b"a=%00",
        b"a=\0",
        b"a=%ff",
        b"a=1&a=2",
    ] {
        assert!(Parameters::parse("", body).is_err(), "{body:?}");
    }
    let many = "a&".repeat(5000);
    assert!(Parameters::parse("", many.as_bytes()).is_err());
}

#[test]
fn configuration_keys_fold_and_unknown_ones_are_named() {
    let text = "ClusterID: demo\nserver:\n  BackendMode: [EKSConfigMap]\n  oldKey: 1\n  mapRoles:\n  - roleARN: x\n    anything: 1\nlog-verbosity: debug\n\
                COUNTERSIGN:\n  denyMode: review\n  accountId: 012345678901\n  Limits: {stsPerKey: 7}\n";
    let loaded = config::parse(text.to_owned(), std::path::Path::new("f.yaml")).unwrap();
    assert_eq!(loaded.config.cluster_id.as_deref(), Some("demo"));
    assert_eq!(
        loaded.config.server.backend_mode.unwrap().items(),
        ["EKSConfigMap"]
    );
    assert_eq!(
        loaded.config.countersign.deny_mode.as_deref(),
        Some("review")
    );
    assert_eq!(
        loaded.config.countersign.account_id.as_deref(),
        Some("012345678901")
    );
    let limits = loaded.config.countersign.limits.sts();
    assert_eq!(
        (
            limits.per_account,
            limits.per_key,
            limits.web_identity_per_address
        ),
        (600, 7, 50)
    );
    assert_eq!(loaded.unknown_keys, ["server.oldKey"]);
    let error = config::parse(
        "countersign: {denyMood: x}".into(),
        std::path::Path::new("f.yaml"),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("countersign.denyMood"),
        "{error}"
    );
}

//! ExecCredential: which version is answered, and how the answer reads.
#![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

use countersign_token::exec_credential::{ApiVersion, ExecCredential, ExecInfo, Note, Spec};

#[test]
fn the_version_answered_follows_the_clients() {
    let beta = ApiVersion::V1Beta1;
    for (value, version, note) in [
        (None, beta, None),
        (Some(""), beta, None),
        (Some("{"), beta, Some(Note::NotAnObject)),
        (Some("not json"), beta, Some(Note::NotAnObject)),
        (
            Some(r#"{"apiVersion":"client.authentication.k8s.io/v1"}"#),
            ApiVersion::V1,
            None,
        ),
        (
            Some(
                r#"{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential","spec":{"interactive":true}}"#,
            ),
            beta,
            None,
        ),
        (
            Some(r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1"}"#),
            ApiVersion::V1Alpha1,
            Some(Note::Deprecated),
        ),
        (
            Some(r#"{"apiVersion":"client.authentication.k8s.io/v2"}"#),
            beta,
            Some(Note::Unrecognized),
        ),
        (Some(r#"{"apiVersion":7}"#), beta, Some(Note::Unrecognized)),
        (Some(r#"{"apiVersion":""}"#), beta, None),
        (Some(r#"{"apiVersion":null}"#), beta, None),
        (Some("{}"), beta, None),
        (Some("[]"), beta, Some(Note::NotAnObject)),
        (Some("\"x\""), beta, Some(Note::NotAnObject)),
        (Some("null"), beta, Some(Note::NotAnObject)),
        (Some("1"), beta, Some(Note::NotAnObject)),
    ] {
        let info = ExecInfo::parse(value);
        assert_eq!((info.api_version, info.note), (version, note), "{value:?}");
    }
}

#[test]
fn the_cluster_id_comes_from_the_cluster_extension() {
    let of = |spec: &str| {
        ExecInfo::parse(Some(&format!(
            r#"{{"apiVersion":"client.authentication.k8s.io/v1","spec":{spec}}}"#
        )))
        .cluster_id
    };
    assert_eq!(
        of(r#"{"cluster":{"server":"https://x","config":{"clusterID":"demo"}}}"#).as_deref(),
        Some("demo")
    );
    for without in [
        "{}",
        r#"{"cluster":{}}"#,
        r#"{"cluster":{"config":null}}"#,
        r#"{"cluster":{"config":{"clusterID":""}}}"#,
        r#"{"cluster":{"config":{"clusterID":7}}}"#,
        r#"{"cluster":{"config":["clusterID","x"]}}"#,
        r#"[]"#,
    ] {
        assert_eq!(of(without), None, "{without}");
    }
}

#[test]
fn interactivity_is_what_the_client_says() {
    for (spec, interactive) in [
        (r#"{"interactive":true}"#, Some(true)),
        (r#"{"interactive":false}"#, Some(false)),
        (r#"{"interactive":"yes"}"#, None),
        ("{}", None),
    ] {
        let info = ExecInfo::parse(Some(&format!(r#"{{"spec":{spec}}}"#)));
        assert_eq!(info.interactive, interactive, "{spec}");
    }
}

#[test]
fn the_answer_is_one_line_with_keys_in_order() {
    let expires_at = "2026-01-02T03:18:05.9Z".parse().unwrap();
    let answer = |version, spec| {
        ExecCredential::new(version, spec, expires_at, "k8s-aws-v1.aGk")
            .to_json()
            .to_string()
    };
    assert_eq!(
        answer(ApiVersion::V1Beta1, Spec::Interactive),
        r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1beta1","spec":{"interactive":false},"status":{"expirationTimestamp":"2026-01-02T03:18:05Z","token":"k8s-aws-v1.aGk"}}"#
    );
    assert_eq!(
        answer(ApiVersion::V1, Spec::Empty),
        r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{},"status":{"expirationTimestamp":"2026-01-02T03:18:05Z","token":"k8s-aws-v1.aGk"}}"#
    );
    assert!(answer(ApiVersion::V1Alpha1, Spec::Empty).contains("/v1alpha1\""));
}

#[test]
fn debug_output_of_an_answer_shows_no_token() {
    let expires_at = "2026-01-02T03:18:05Z".parse().unwrap();
    let answer = ExecCredential::new(ApiVersion::V1, Spec::Empty, expires_at, "k8s-aws-v1.s3cret");
    assert!(!format!("{answer:?}").contains("s3cret"));
}

#[test]
fn an_oversized_value_is_not_parsed() {
    let value = format!("{{\"x\":\"{}\"}}", "y".repeat(2 << 20));
    assert_eq!(ExecInfo::parse(Some(&value)).note, Some(Note::NotAnObject));
}

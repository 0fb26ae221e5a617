//! Captures of the vectors verify, and odd captures are refused with a reason.

use super::*;
use crate::key::SecretKey;
use crate::policy::ServicePolicy;
use crate::verify::{KeyLookup, Parsed};

const LONG_TERM: &str = "cSx7/Q2pYd+4kEwZ9vLr0TfHnB1uGmJa3oRiXeKs";
const TEMPORARY: &str = "Zq8m/R+5tVb1yNcX7uHwLk3JdGf0aPsE6oIi9QxM";

fn verifies(captured: &Captured, service: &'static str, secret: &str) -> bool {
    captured.with_request(|request| {
        let policy = ServicePolicy::for_service(service);
        let parsed =
            Parsed::from_request(request, &policy, "2026-03-14T09:26:53Z".parse().unwrap())
                .unwrap();
        parsed
            .verify(KeyLookup::Secret(&SecretKey::new(secret)))
            .is_ok()
    })
}

#[test]
fn raw_text_a_curl_command_and_an_archive_give_back_what_was_sent() {
    let raw = Captured::detect(include_bytes!("../../tests/data/capture.raw")).unwrap();
    assert!(verifies(&raw[0], "eks", TEMPORARY));
    let curl = Captured::detect(include_bytes!("../../tests/data/capture.curl")).unwrap();
    assert!(verifies(&curl[0], "sts", TEMPORARY));
    assert!(curl[0].tls);
    let har = Captured::detect(include_bytes!("../../tests/data/capture.har")).unwrap();
    assert_eq!(har.len(), 2, "unsigned entries are left out");
    assert!(verifies(&har[0], "sts", LONG_TERM));
    assert!(verifies(&har[1], "sts", TEMPORARY));
}

fn curl(command: &str) -> Captured {
    Captured::from_curl(command).unwrap()
}

fn header<'c>(captured: &'c Captured, name: &str) -> Option<&'c str> {
    let (_, value) = captured
        .headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}

#[test]
fn curl_commands_are_read_as_a_shell_and_curl_would() {
    for (command, method, target, body) in [
        ("curl http://h/p?q", "GET", "/p?q", ""),
        ("curl h", "GET", "/", ""),
        ("curl 'http://u:p@h:80?a=b#c'", "GET", "/?a=b", ""),
        ("curl -XPUT http://h -d a -d b", "PUT", "/", "a&b"),
        ("curl -sSkX DELETE http://h", "DELETE", "/", ""),
        ("curl -I http://h", "HEAD", "/", ""),
        (
            "curl -G http://h/?x=1 -d a=1 --data-urlencode 'b=c d/é'",
            "GET",
            "/?x=1&a=1&b=c%20d%2F%C3%A9",
            "",
        ),
        (
            "curl http://h \\\n --data-raw $'it\\'s\\n\\u0021\\x41'",
            "POST",
            "/",
            "it's\n!A",
        ),
        (
            "curl --json \"{\\\"a\\\":\\\"b c\\\"}\" http://h",
            "POST",
            "/",
            "{\"a\":\"b c\"}",
        ),
        ("curl --data-urlencode =a+b http://h", "POST", "/", "a%2Bb"),
        (
            "curl --url http://h --aws-sigv4 aws:amz --user a:b -o /dev/null",
            "GET",
            "/",
            "",
        ),
    ] {
        let captured = curl(command);
        assert_eq!(captured.method, method, "{command}");
        assert_eq!(
            String::from_utf8_lossy(&captured.target),
            target,
            "{command}"
        );
        assert_eq!(String::from_utf8_lossy(&captured.body), body, "{command}");
        assert_eq!(header(&captured, "host"), Some("h"), "{command}");
    }
    let captured =
        curl("curl https://h:8443/ -H 'Accept:' -H 'X-Empty;' -H 'host: other' -A agent -d x");
    assert_eq!(header(&captured, "accept"), None);
    assert_eq!(header(&captured, "x-empty"), Some(""));
    assert_eq!(header(&captured, "host"), Some("other"));
    assert_eq!(
        header(&captured, "content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(header(&captured, "content-length"), Some("1"));
    assert_eq!(
        header(&curl("curl https://h:8443/"), "host"),
        Some("h:8443")
    );
}

#[test]
fn curl_commands_that_cannot_be_followed_are_refused() {
    for (command, text) in [
        ("curl", "exactly one URL"),
        ("curl http://a http://b", "exactly one URL"),
        ("curl ftp://a", "no http or https URL"),
        ("curl http://a -d @file", "reads a file"),
        ("curl http://a -H @file", "reads a file"),
        ("curl http://a --data-urlencode n@file", "reads a file"),
        ("curl http://a -F a=b", "`-F` is not supported"),
        ("curl http://a -T up", "`-T` is not supported"),
        ("curl http://a -H", "lacks its value"),
        ("curl 'http://a", "not closed"),
        ("curl \"http://a", "not closed"),
        ("curl $'http://a\\", "not closed"),
        ("wget http://a", "exactly one URL"),
    ] {
        let error = Captured::from_curl(command).unwrap_err().to_string();
        assert!(error.contains(text), "{command}: {error}");
    }
}

#[test]
fn raw_text_is_read_with_either_line_end_folds_and_absolute_targets() {
    let captured =
        Captured::from_raw(b"\nGET http://h:80/a b?c HTTP/1.1\nA: 1\n  2\nB:\n\nbody\n").unwrap();
    assert_eq!(captured.target, b"/a b?c");
    assert_eq!(
        (header(&captured, "a"), header(&captured, "b")),
        (Some("1 2"), Some(""))
    );
    assert_eq!(
        captured.body, b"body\n",
        "the body is kept to the last byte"
    );
    for bad in [
        &b""[..],
        b"\r\n\r\n",
        b"GET",
        b"GET ",
        b"1 /",
        b"GET / HTTP/1.1\nno colon",
        b"GET / HTTP/1.1\n: x",
        b"GET / HTTP/1.1\n folded",
    ] {
        assert!(
            Captured::from_raw(bad).is_err(),
            "{}",
            String::from_utf8_lossy(bad)
        );
    }
}

#[test]
fn archives_without_a_signed_request_or_with_a_broken_body_are_refused() {
    let detect = |text: &str| Captured::detect(text.as_bytes()).unwrap_err().to_string();
    assert!(detect("{}").contains("HTTP archive"));
    assert!(detect("{\"log\":{\"entries\":[]}}").contains("no request in the capture"));
    let entry = |post: &str| {
        format!(
            "{{\"log\":{{\"entries\":[{{\"request\":{{\"method\":\"POST\",\"url\":\"https://h/\",\"postData\":{post}}}}}]}}}}"
        )
    };
    let base64 =
        Captured::from_har(entry("{\"text\":\"YQ==\",\"encoding\":\"base64\"}").as_bytes())
            .unwrap();
    assert_eq!(base64[0].body, b"a");
    let broken = Captured::from_har(entry("{\"text\":\"!\",\"encoding\":\"base64\"}").as_bytes());
    assert!(broken.unwrap_err().to_string().contains("entry 1"));
}

#[test]
fn captures_do_not_print_credentials() {
    let captured = &Captured::detect(include_bytes!("../../tests/data/capture.curl")).unwrap()[0];
    let text = format!("{captured:?}");
    assert!(
        !text.contains("Signature=") && !text.contains("CSv1"),
        "{text}"
    );
}

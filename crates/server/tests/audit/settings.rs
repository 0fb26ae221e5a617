//! The section `audit` of a configuration file.

use std::path::Path;
use std::time::Duration;

use countersign_server::audit::{OnFailure, Output};
use countersign_server::config;

fn options(text: &str) -> countersign_server::audit::AuditOptions {
    let text = format!("countersign:\n  audit: {{{text}}}\n");
    config::parse(text, Path::new("test.yaml"))
        .unwrap()
        .config
        .countersign
        .audit
}

#[test]
fn defaults_put_the_log_beside_the_store() {
    let settings = options("")
        .settings(Some(Path::new("/data")))
        .unwrap()
        .unwrap();
    assert_eq!(settings.output, Output::File("/data/audit.json".into()));
    assert!(settings.read_events);
    assert_eq!(settings.on_failure, OnFailure::Count);
    assert_eq!((settings.max_bytes, settings.keep), (64 << 20, 10));
    assert_eq!(settings.max_age, Some(Duration::from_secs(86_400)));
    assert!(options("").settings(None).unwrap().is_none());
    assert!(
        options("path: off")
            .settings(Some(Path::new("/data")))
            .unwrap()
            .is_none()
    );
}

#[test]
fn every_key_is_read() {
    let text = "path: /var/log/cs.json, format: cloudtrail, readEvents: false, include: ['iam:*', 'sts:Assume*'], onFailure: refuse, maxBytes: 1048576, maxAge: 0, keep: 3";
    let settings = options(text).settings(None).unwrap().unwrap();
    assert_eq!(settings.output, Output::File("/var/log/cs.json".into()));
    assert!(!settings.read_events);
    assert_eq!(settings.include.len(), 2);
    assert_eq!(settings.on_failure, OnFailure::Refuse);
    assert_eq!(
        (settings.max_bytes, settings.max_age, settings.keep),
        (1 << 20, None, 3)
    );
    let stdout = options("path: stdout").settings(None).unwrap().unwrap();
    assert_eq!(stdout.output, Output::Stdout);
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_key() {
    for (text, error) in [
        (
            "format: json",
            "`countersign.audit.format` is `json`; the only form is `cloudtrail`",
        ),
        (
            "path: ''",
            "`countersign.audit.path` is ``; it is a file, `stdout` or `off`",
        ),
        (
            "onFailure: block",
            "`countersign.audit.onFailure` is `block`; it is `count` or `refuse`",
        ),
        (
            "maxBytes: 1000",
            "`countersign.audit.maxBytes` is `1000`; it is at least 1048576",
        ),
        (
            "maxAge: 1",
            "`countersign.audit.maxAge` is `1`; it is 0 or at least 60 seconds",
        ),
        (
            "keep: 0",
            "`countersign.audit.keep` is `0`; it is 1 to 10000",
        ),
        (
            "include: [iam]",
            "`countersign.audit.include` is `iam`; a pattern is `service:Operation`, and `*` stands for any text",
        ),
    ] {
        let refused = options(text)
            .settings(Some(Path::new("/data")))
            .unwrap_err();
        assert_eq!(refused.to_string(), error, "{text}");
    }
    let misspelt = "countersign:\n  audit: {onFailures: refuse}\n";
    assert!(config::parse(misspelt.into(), Path::new("test.yaml")).is_err());
}

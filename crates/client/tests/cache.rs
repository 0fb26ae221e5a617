//! The credential cache file of aws-iam-authenticator, read and written.
#![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

mod common;

use common::{Shell, mode};
use countersign_client::cache::{CacheError, CacheKey, CredentialCache, TokenCache, TokenKey};
use countersign_client::credentials::Credentials;
use countersign_sigv4::SecretKey;

/// As the reference's YAML library writes it.
const FILE: &str = "clusters:
  demo:
    default:
      \"\":
        accesskeyid: ASIA1
        secretaccesskey: s1
        sessiontoken: t1
        source: SSOProvider
        canexpire: true
        expires: 2026-01-02T04:04:05.123456789Z
        accountid: \"\"
      arn:aws:iam::444455556666:role/Ops:
        accesskeyid: ASIA2
        secretaccesskey: s2
        sessiontoken: t2
        source: SSOProvider
        canexpire: false
        expires: 0001-01-01T00:00:00Z
        accountid: \"444455556666\"
  0123:
    yes:
      \"\":
        accesskeyid: ASIA3
        secretaccesskey: \"\"
        canexpire: true
        expires: 2026-01-02T04:04:05+02:00
";

fn key<'a>(cluster_id: &'a str, profile: &'a str, role_arn: &'a str) -> CacheKey<'a> {
    CacheKey {
        cluster_id,
        profile,
        role_arn,
    }
}

fn cache(shell: &Shell) -> CredentialCache {
    CredentialCache::of_environment(&shell.environment()).unwrap()
}

#[cfg(unix)]
fn with_file(text: &str) -> Shell {
    use std::os::unix::fs::PermissionsExt as _;
    let shell = Shell::new().file("creds.yaml", text);
    let path = shell.path("creds.yaml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    shell.set("AWS_IAM_AUTHENTICATOR_CACHE_FILE", path.to_str().unwrap())
}

fn fresh() -> Credentials {
    Credentials {
        access_key_id: "ASIA9".to_owned(),
        secret: SecretKey::new("s/9+ #:"),
        session_token: Some("t9==".to_owned().into()),
        expires_at: Some("2026-01-02T05:00:00Z".parse().unwrap()),
        source: "AssumeRoleProvider".to_owned(),
    }
}

#[test]
fn entries_of_the_reference_are_read() {
    let shell = with_file(FILE);
    let cache = cache(&shell);
    let found = cache.get(&key("demo", "default", "")).unwrap().unwrap();
    assert_eq!(found.access_key_id, "ASIA1");
    assert_eq!(found.secret.expose(), "s1");
    assert_eq!(found.source, "SSOProvider");
    assert_eq!(
        found.expires_at,
        Some("2026-01-02T04:04:05.123456789Z".parse().unwrap())
    );
    for (cluster, profile, role) in [
        ("demo", "default", "arn:aws:iam::444455556666:role/Ops"),
        ("0123", "yes", ""),
        ("demo", "dev", ""),
        ("other", "default", ""),
        ("", "", ""),
    ] {
        assert!(
            cache.get(&key(cluster, profile, role)).unwrap().is_none(),
            "{cluster} {profile} {role}"
        );
    }
}

#[test]
fn writing_keeps_the_other_entries() {
    let shell = with_file(FILE);
    let cache = cache(&shell);
    cache.put(&key("demo", "default", ""), &fresh()).unwrap();
    cache
        .put(
            &key("new: one", "p", "arn:aws:iam::444455556666:role/x"),
            &fresh(),
        )
        .unwrap();
    let text = std::fs::read_to_string(shell.path("creds.yaml")).unwrap();
    assert!(
        text.contains("  0123:\n    yes:\n      \"\":\n        accesskeyid: ASIA3\n"),
        "{text}"
    );
    assert!(
        text.contains("        accountid: \"444455556666\"\n"),
        "{text}"
    );
    assert!(
        text.contains("        expires: 2026-01-02T05:00:00Z\n"),
        "{text}"
    );
    for key in [
        key("demo", "default", ""),
        key("new: one", "p", "arn:aws:iam::444455556666:role/x"),
    ] {
        let found = cache.get(&key).unwrap().unwrap();
        assert_eq!(found.secret.expose(), "s/9+ #:");
        assert_eq!(
            found.session_token.as_ref().map(|t| t.as_str()),
            Some("t9==")
        );
    }
    assert_eq!(mode(&shell.path("creds.yaml")), 0o600);
}

#[test]
fn credentials_that_do_not_expire_are_not_written() {
    let shell = Shell::new();
    let lasting = Credentials {
        expires_at: None,
        ..fresh()
    };
    cache(&shell)
        .put(&key("demo", "default", ""), &lasting)
        .unwrap();
    assert!(!shell.path(".kube").exists());
}

#[test]
fn a_file_that_does_not_parse_is_refused_for_reading_and_written_anew() {
    for text in ["clusters: [", "- a\n", "clusters: &a {}\nx: *a\n", ""] {
        let shell = with_file(text);
        let cache = cache(&shell);
        let read = cache.get(&key("demo", "default", ""));
        assert!(
            matches!(read, Ok(None) | Err(CacheError::Parse(_))),
            "{text}: {read:?}"
        );
        cache.put(&key("demo", "default", ""), &fresh()).unwrap();
        assert!(
            cache.get(&key("demo", "default", "")).unwrap().is_some(),
            "{text}"
        );
    }
}

#[test]
fn a_readable_file_is_neither_read_nor_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let shell = with_file(FILE);
    for bits in [0o640, 0o604, 0o620, 0o601] {
        std::fs::set_permissions(
            shell.path("creds.yaml"),
            std::fs::Permissions::from_mode(bits),
        )
        .unwrap();
        let cache = cache(&shell);
        assert!(matches!(
            cache.get(&key("demo", "default", "")),
            Err(CacheError::NotPrivate(_))
        ));
        let put = cache.put(&key("demo", "default", ""), &fresh());
        assert!(matches!(put, Err(CacheError::NotPrivate(_))));
    }
    assert_eq!(
        std::fs::read_to_string(shell.path("creds.yaml")).unwrap(),
        FILE
    );
}

#[test]
fn tokens_are_found_by_everything_they_depend_on() {
    let shell = Shell::new();
    let cache = TokenCache::of_environment(&shell.environment()).unwrap();
    let now = common::NOW.parse().unwrap();
    let end = "2026-01-02T03:18:05Z".parse().unwrap();
    let base = TokenKey {
        cluster_id: "demo",
        endpoint: "https://sts.eu-west-1.amazonaws.com/",
        access_key_id: "AKIA1",
        role_arn: "",
        external_id: "",
        session_name: "",
    };
    cache.put(&base, "k8s-aws-v1.aa", end, now).unwrap();
    assert_eq!(
        cache.get(&base, now).unwrap().unwrap().0.as_str(),
        "k8s-aws-v1.aa"
    );
    for other in [
        TokenKey {
            cluster_id: "demo2",
            ..base
        },
        TokenKey {
            endpoint: "https://sts.amazonaws.com/",
            ..base
        },
        TokenKey {
            access_key_id: "AKIA2",
            ..base
        },
        TokenKey {
            role_arn: "r",
            ..base
        },
        TokenKey {
            external_id: "e",
            ..base
        },
        TokenKey {
            session_name: "s",
            ..base
        },
    ] {
        assert!(cache.get(&other, now).unwrap().is_none());
        cache.put(&other, "k8s-aws-v1.bb", end, now).unwrap();
    }
    assert_eq!(
        cache.get(&base, now).unwrap().unwrap().0.as_str(),
        "k8s-aws-v1.aa"
    );
    // What has ended is dropped at the next writing.
    let later = "2026-01-02T04:00:00Z".parse().unwrap();
    cache
        .put(
            &base,
            "k8s-aws-v1.cc",
            "2026-01-02T04:14:00Z".parse().unwrap(),
            later,
        )
        .unwrap();
    let text = std::fs::read_to_string(shell.path(".kube/cache/countersign/tokens.yaml")).unwrap();
    assert!(
        text.contains("k8s-aws-v1.cc") && !text.contains("k8s-aws-v1.bb"),
        "{text}"
    );
}

#[test]
fn a_file_locked_by_another_is_given_up_after_a_second() {
    let shell = with_file(FILE);
    let holder = std::fs::File::open(shell.path("creds.yaml")).unwrap();
    holder.lock().unwrap();
    let read = cache(&shell).get(&key("demo", "default", ""));
    assert!(matches!(read, Err(CacheError::Locked(_))));
    holder.unlock().unwrap();
    assert!(
        cache(&shell)
            .get(&key("demo", "default", ""))
            .unwrap()
            .is_some()
    );
}

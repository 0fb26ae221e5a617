//! Files that change, vanish and break, looked at by hand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{at, mappings, source, username};
use countersign_mapping::BackendKind;
use countersign_sources::SourceKind;
use countersign_sources::files::{
    BackendModeFile, DynamicFile, MountedFile, Outcome, Polled, WatchedFile,
};

/// Replaces a file as editors and kubelets do: a new inode under the old name.
fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(&next, path).unwrap();
}

fn config(names: &[&str]) -> String {
    let list = common::roles(names).replace("\n", "\n  ");
    format!(
        "clusterID: demo\nserver:\n  mapRoles:\n  {}\n",
        list.trim_end()
    )
}

fn dynamic(version: &str, seconds: i64, names: &[&str]) -> String {
    let roles: Vec<String> = names
        .iter()
        .map(|name| {
            format!(
                r#"{{"rolearn":"arn:aws:iam::444455556666:role/{name}","username":"user-of-{name}","groups":[]}}"#
            )
        })
        .collect();
    format!(
        r#"{{"Version":"{version}","LastUpdatedDateTime":"{}","ClusterId":"demo","mapRoles":[{}]}}"#,
        at(seconds).as_second(),
        roles.join(",")
    )
}

#[test]
fn a_configuration_file_is_read_at_start_and_again_after_it_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let mappings = mappings(&[BackendKind::MountedFile]);
    assert!(!mappings.health().is_synced());
    replace(&path, &config(&["Ops"]));
    let mut file = MountedFile::load(&path, &mappings, at(0)).unwrap();
    assert_eq!(username(&mappings, "Ops").as_deref(), Some("user-of-Ops"));
    assert!(mappings.health().is_synced());
    let first = mappings.load().clone();
    assert_eq!(file.poll_once(at(2)), Outcome::Unchanged);
    assert_eq!(mappings.load().generation, first.generation);

    replace(&path, &config(&["Dev"]));
    assert_eq!(file.poll_once(at(4)), Outcome::Reloaded);
    assert_eq!(username(&mappings, "Ops"), None);
    assert_eq!(username(&mappings, "Dev").as_deref(), Some("user-of-Dev"));
    let second = mappings.load();
    assert_eq!(second.generation, first.generation + 1);
    assert_ne!(second.versions, first.versions);
    assert_eq!(first.chain.backends().len(), 1, "the old snapshot is whole");
}

#[test]
fn a_swap_of_the_links_of_a_mounted_configmap_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (data, role) in [("..1", "Ops"), ("..2", "Dev")] {
        fs::create_dir(root.join(data)).unwrap();
        fs::write(root.join(data).join("config.yaml"), config(&[role])).unwrap();
    }
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/config.yaml", root.join("config.yaml")).unwrap();
    let mappings = mappings(&[BackendKind::MountedFile]);
    let path = root.join("config.yaml");
    let mut file = MountedFile::load(&path, &mappings, at(0)).unwrap();
    symlink("..2", root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    assert_eq!(file.poll_once(at(2)), Outcome::Reloaded);
    assert!(username(&mappings, "Dev").is_some());
}

#[test]
fn an_invalid_configuration_file_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let mappings = mappings(&[BackendKind::MountedFile]);
    for text in [
        "server: [",
        "- a list",
        "server:\n  mapRoles:\n  - username: x\n",
        "server:\n  mapRoles: text\n",
        "server:\n  mapAccounts: [\"123\"]\n",
    ] {
        replace(&path, text);
        assert!(
            MountedFile::load(&path, &mappings, at(0)).is_err(),
            "{text}"
        );
    }
    fs::write(&path, b"\xff\xfe").unwrap();
    assert!(MountedFile::load(&path, &mappings, at(0)).is_err());
    assert!(
        MountedFile::load(directory.path(), &mappings, at(0)).is_err(),
        "a directory"
    );
    fs::remove_file(&path).unwrap();
    assert!(MountedFile::load(&path, &mappings, at(0)).is_err());
    assert!(!mappings.health().is_synced());
}

#[test]
fn an_invalid_vanished_or_unreadable_file_keeps_the_last_good_rules() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let mappings = mappings(&[BackendKind::MountedFile]);
    replace(&path, &config(&["Ops"]));
    let mut file = MountedFile::load(&path, &mappings, at(0)).unwrap();

    replace(
        &path,
        "server:\n  mapRoles:\n  - rolearn: nonsense\n    username: x\n  - username: y\n",
    );
    assert_eq!(file.poll_once(at(2)), Outcome::Refused);
    assert!(username(&mappings, "Ops").is_some());
    let health = source(&mappings, BackendKind::MountedFile);
    let [stale] = &health.stale[..] else {
        panic!("{health:?}")
    };
    assert_eq!((stale.since, stale.in_force), (at(2), "lastGood"));
    assert!(stale.problem.line.is_some(), "{stale:?}");
    assert_eq!((health.config_errors_total, health.failures_total), (1, 1));

    replace(&path, "server: {{");
    assert_eq!(file.poll_once(at(4)), Outcome::Refused);
    let health = source(&mappings, BackendKind::MountedFile);
    assert_eq!(health.stale[0].since, at(2), "stale since it first broke");
    assert_eq!(health.config_errors_total, 2);

    fs::remove_file(&path).unwrap();
    assert_eq!(file.poll_once(at(6)), Outcome::Failed);
    assert_eq!(file.poll_once(at(8)), Outcome::Unchanged, "said once");
    assert!(username(&mappings, "Ops").is_some());
    let health = source(&mappings, BackendKind::MountedFile);
    assert_eq!(health.failing_since, Some(at(6)));

    replace(&path, &config(&["Ops", "Dev"]));
    assert_eq!(file.poll_once(at(10)), Outcome::Reloaded);
    assert!(username(&mappings, "Dev").is_some());
    let health = source(&mappings, BackendKind::MountedFile);
    assert!(health.stale.is_empty() && health.failing.is_none());
}

#[test]
fn an_edit_in_place_counts_once_it_is_at_rest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let mappings = mappings(&[BackendKind::MountedFile]);
    let whole = config(&["Ops", "Dev"]);
    fs::write(&path, &whole).unwrap();
    let mut file = MountedFile::load(&path, &mappings, at(0)).unwrap();
    // The first half of a YAML list is a YAML list.
    let next = config(&["Ops", "Sec"]);
    let half = next
        .find("- rolearn: arn:aws:iam::444455556666:role/Sec")
        .unwrap();
    fs::write(&path, &next[..half]).unwrap();
    assert_eq!(file.poll_once(at(2)), Outcome::Unchanged);
    fs::write(&path, &next).unwrap();
    assert_eq!(file.poll_once(at(4)), Outcome::Unchanged);
    assert!(username(&mappings, "Dev").is_some(), "never half of it");
    assert_eq!(file.poll_once(at(6)), Outcome::Reloaded);
    assert_eq!(username(&mappings, "Dev"), None);
    assert!(username(&mappings, "Sec").is_some());
    fs::write(&path, config(&["Ops"])).unwrap();
    file.poll_once(at(8));
    fs::write(&path, &next).unwrap();
    assert_eq!(
        file.poll_once(at(10)),
        Outcome::Unchanged,
        "back where it was"
    );
    assert_eq!(file.poll_once(at(12)), Outcome::Unchanged);
}

#[test]
fn what_is_no_plain_file_of_bounded_size_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let mut file = WatchedFile::new(&path, 10, false);
    assert!(matches!(file.poll(), Polled::Problem(_)), "not there");
    assert_eq!(file.poll(), Polled::Unchanged, "said once");
    fs::write(&path, "0123456789").unwrap();
    assert!(matches!(file.poll(), Polled::Changed { .. }));
    fs::write(&path, "0123456789a").unwrap();
    assert!(matches!(file.poll(), Polled::Problem(_)), "too large");
    fs::write(&path, "0123456789").unwrap();
    assert_eq!(file.poll(), Polled::Readable);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(file.poll(), Polled::Problem(_)), "a directory");
    fs::remove_dir(&path).unwrap();
    assert_eq!(file.poll(), Polled::Gone);
    std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .unwrap();
    assert!(
        matches!(file.poll(), Polled::Problem(_)),
        "a pipe does not block"
    );
    symlink("nowhere", directory.path().join("link")).unwrap();
    let mut link = WatchedFile::new(directory.path().join("link"), 10, false);
    assert!(matches!(link.poll(), Polled::Problem(_)));
}

#[test]
fn a_dynamic_file_may_come_late_is_refused_as_a_whole_and_clears_when_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dynamic.json");
    let mappings = mappings(&[BackendKind::DynamicFile]);
    let mut file = DynamicFile::new(&path, &mappings);
    assert_eq!(file.poll_once(at(0)), Outcome::Failed);
    assert_eq!(file.poll_once(at(2)), Outcome::Unchanged);
    assert!(!mappings.health().is_synced());

    replace(&path, &dynamic("1", -86400, &["Ops"]));
    assert_eq!(file.poll_once(at(4)), Outcome::Reloaded);
    assert!(mappings.health().is_synced());
    assert!(username(&mappings, "Ops").is_some());
    assert!(
        source(&mappings, BackendKind::DynamicFile)
            .version
            .starts_with("1 (")
    );

    for bad in [
        "{",
        "[]",
        r#"{"mapRoles":[{"username":"x","groups":[]}]}"#,
        r#"{"mapRoles":[{"rolearn":"arn:aws:iam::444455556666:role/Dev","username":7}]}"#,
        r#"{"mapRoles":"none"}"#,
    ] {
        replace(&path, bad);
        assert_eq!(file.poll_once(at(6)), Outcome::Refused, "{bad}");
        assert!(username(&mappings, "Ops").is_some(), "{bad}");
    }
    let health = source(&mappings, BackendKind::DynamicFile);
    assert_eq!(health.failures_total, 6, "dynamicfile_failures_total");

    replace(&path, &dynamic("2", 5, &["Dev"]));
    assert_eq!(file.poll_once(at(8)), Outcome::Reloaded);
    assert_eq!(username(&mappings, "Ops"), None);
    fs::remove_file(&path).unwrap();
    assert_eq!(file.poll_once(at(10)), Outcome::Cleared);
    assert_eq!(username(&mappings, "Dev"), None);
    assert!(mappings.health().is_synced());
    assert_eq!(file.poll_once(at(12)), Outcome::Unchanged);
    replace(&path, &dynamic("2", 5, &["Dev"]));
    assert_eq!(
        file.poll_once(at(14)),
        Outcome::Reloaded,
        "there again with the same content"
    );
    assert!(username(&mappings, "Dev").is_some());
}

#[test]
fn the_latency_of_a_dynamic_file_is_observed_but_for_the_first_load() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dynamic.json");
    let mappings = mappings(&[BackendKind::DynamicFile]);
    let mut file = DynamicFile::new(&path, &mappings);
    for (version, written, now) in [
        (1, -86400, 0),
        (2, 2, 4),
        (3, 4, 6),
        (4, 100, 8),
        (5, 8, 108),
    ] {
        replace(&path, &dynamic(&version.to_string(), written, &["Ops"]));
        assert_eq!(file.poll_once(at(now)), Outcome::Reloaded);
    }
    let [(name, latency), (_, other)] = mappings.latencies();
    assert_eq!(name, "dynamic_file");
    assert_eq!(
        (latency.count, latency.sum),
        (3, 104.0),
        "a writer's clock ahead of ours is left out"
    );
    assert_eq!(latency.buckets, [0, 2, 0, 0, 0, 0, 0, 0]);
    assert_eq!(other.count, 0);
}

#[test]
fn the_backend_mode_file_changes_the_chain_and_its_absence_restores_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mode.json");
    let mappings = mappings(&[BackendKind::MountedFile]);
    let mut file = BackendModeFile::new(&path, true, &mappings);
    let chain = || {
        mappings
            .load()
            .chain
            .backends()
            .iter()
            .map(|b| b.kind())
            .collect::<Vec<_>>()
    };
    assert_eq!(file.poll_once(at(0)), Outcome::Unchanged);
    assert_eq!(chain(), [BackendKind::MountedFile]);

    let mode = |modes: &str, at_seconds: i64| {
        format!(
            r#"{{"backendMode":"{modes}","Version":"3","LastUpdatedDateTime":"{}"}}"#,
            at(at_seconds).as_second()
        )
    };
    replace(&path, &mode("DynamicFile EKSConfigMap", 0));
    assert_eq!(file.poll_once(at(2)), Outcome::Reloaded);
    assert_eq!(
        chain(),
        [BackendKind::DynamicFile, BackendKind::EksConfigMap]
    );
    assert!(
        !mappings.health().is_synced(),
        "the new backends were not read yet"
    );

    for bad in [
        "Unknown",
        "DynamicFile  EKSConfigMap",
        "DynamicFile DynamicFile",
        "",
    ] {
        replace(&path, &mode(bad, 0));
        assert_eq!(file.poll_once(at(4)), Outcome::Refused, "{bad}");
        assert_eq!(chain().len(), 2);
    }
    replace(&path, "not json");
    assert_eq!(file.poll_once(at(6)), Outcome::Refused);
    assert_eq!(
        source(&mappings, SourceKind::BackendModeFile).stale.len(),
        1
    );

    replace(&path, &mode("CRD", 6));
    assert_eq!(file.poll_once(at(8)), Outcome::Reloaded);
    assert_eq!(chain(), [BackendKind::Crd]);
    let [_, (name, latency)] = mappings.latencies();
    assert_eq!(
        (name, latency.count, latency.sum),
        ("dynamic_backend_mode", 1, 2.0)
    );

    fs::remove_file(&path).unwrap();
    assert_eq!(file.poll_once(at(10)), Outcome::Cleared);
    assert_eq!(chain(), [BackendKind::MountedFile]);
}

#[test]
fn the_backend_mode_file_cannot_ask_for_a_dynamic_file_without_a_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mode.json");
    let mappings = mappings(&[BackendKind::MountedFile]);
    let mut file = BackendModeFile::new(&path, false, &mappings);
    replace(&path, r#"{"backendMode":"DynamicFile"}"#);
    assert_eq!(file.poll_once(at(0)), Outcome::Refused);
    assert_eq!(mappings.health().backends, [BackendKind::MountedFile]);
}

#[tokio::test]
async fn a_watched_file_is_polled_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dynamic.json");
    let mappings = mappings(&[BackendKind::DynamicFile]);
    let file = DynamicFile::new(&path, &mappings);
    let every = std::time::Duration::from_millis(1);
    let polling = tokio::spawn(file.run(every, || at(0)));
    for names in [["Ops"], ["Dev"]] {
        replace(&path, &dynamic("1", 0, &names));
        while username(&mappings, names[0]).is_none() {
            tokio::task::yield_now().await;
        }
    }
    polling.abort();
}

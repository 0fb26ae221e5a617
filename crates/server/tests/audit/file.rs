//! The file: order, rotation, crashes, renames, full disks.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use countersign_server::audit::{Audit, Health, OnFailure, Output, Settings};

use super::call::Finished;
use super::queue::log;

pub(crate) fn directory(name: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(name).tempdir().unwrap()
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn user(number: usize) -> Finished {
    Finished::new("iam", "CreateUser", &format!("UserName=user{number}-"))
}

fn start(path: &Path, change: impl FnOnce(&mut Settings)) -> Audit {
    let mut settings = Settings::new(Output::File(path.to_owned()));
    change(&mut settings);
    Audit::start(settings).unwrap()
}

/// Writes records one after the other, each before the next.
fn write(audit: &Audit, numbers: std::ops::Range<usize>) {
    let counters = audit.counters().unwrap();
    for number in numbers {
        let before = counters.written();
        log(audit, &user(number)).unwrap();
        eventually("the record is written", || counters.written() > before);
    }
}

/// The numbers of the users in a log; every line must be a record.
fn numbers(text: &str) -> Vec<usize> {
    text.lines()
        .map(|line| {
            let record: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let name = record["requestParameters"]["userName"].as_str().unwrap();
            name.trim_start_matches("user")
                .trim_end_matches('-')
                .parse()
                .unwrap()
        })
        .collect()
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*bytes)
            .read_to_string(&mut text)
            .unwrap();
        text
    } else {
        String::from_utf8(bytes).unwrap()
    }
}

/// Names of the files beside the log, oldest first.
fn finished(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("audit.json."))
        .collect();
    names.sort();
    names
}

#[test]
fn records_stand_in_the_order_of_their_calls() {
    let directory = directory("order");
    let path = directory.path().join("audit.json");
    let audit = start(&path, |_| {});
    for number in 0..500 {
        let mut call = user(number);
        if number % 3 == 0 {
            call.operation = "GetUser";
        }
        log(&audit, &call).unwrap();
    }
    assert!(audit.stop(Duration::from_secs(10)));
    assert_eq!(numbers(&read(&path)), (0..500).collect::<Vec<_>>());
    assert_eq!(audit.counters().unwrap().written(), 500);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // After the end, nothing is taken in; the loss is counted.
    log(&audit, &user(1)).unwrap();
    assert_eq!(audit.counters().unwrap().dropped_total(), 1);
}

#[test]
fn a_full_file_is_compressed_and_only_so_many_are_kept() {
    let directory = directory("rotate");
    let path = directory.path().join("audit.json");
    let audit = start(&path, |settings| {
        settings.max_bytes = 4000;
        settings.keep = 3;
    });
    write(&audit, 0..30);
    let rotations = audit.counters().unwrap().rotations();
    assert!(rotations >= 5, "{rotations}");
    eventually("finished files are compressed", || {
        let names = finished(directory.path());
        names.len() == 3 && names.iter().all(|name| name.ends_with(".gz"))
    });
    let mut all = Vec::new();
    for name in finished(directory.path()) {
        let text = read(&directory.path().join(name));
        assert!(text.len() <= 4000);
        all.extend(numbers(&text));
    }
    all.extend(numbers(&read(&path)));
    let first = all[0];
    assert!(first > 0, "the oldest are removed");
    assert_eq!(
        all,
        (first..30).collect::<Vec<_>>(),
        "nothing is missing and nothing is twice"
    );
}

#[test]
fn an_old_file_is_begun_anew_and_an_empty_one_is_not() {
    let directory = directory("age");
    let path = directory.path().join("audit.json");
    let audit = start(&path, |settings| {
        settings.max_age = Some(Duration::from_millis(1))
    });
    std::thread::sleep(Duration::from_millis(50));
    let counters = audit.counters().unwrap();
    assert_eq!(counters.rotations(), 0);
    write(&audit, 0..1);
    eventually("the file is finished", || counters.rotations() == 1);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(counters.rotations(), 1);
}

#[test]
fn what_a_crash_left_is_finished_by_the_next_start() {
    let directory = directory("crash");
    let path = directory.path().join("audit.json");
    let left = "audit.json.20260101T000000000Z";
    std::fs::write(directory.path().join(left), "one\ntwo\n").unwrap();
    std::fs::write(directory.path().join(format!("{left}.gz.tmp")), "half").unwrap();
    std::fs::write(directory.path().join("audit.json.mine"), "kept").unwrap();
    std::fs::write(&path, r#"{"half":"#).unwrap();
    let audit = start(&path, |_| {});
    write(&audit, 0..1);
    eventually("the finished file is compressed", || {
        finished(directory.path()) == [format!("{left}.gz"), "audit.json.mine".into()]
    });
    assert_eq!(
        read(&directory.path().join(format!("{left}.gz"))),
        "one\ntwo\n"
    );
    let text = read(&path);
    let (half, rest) = text.split_once('\n').unwrap();
    assert_eq!(half, r#"{"half":"#);
    assert_eq!(numbers(rest), [0]);
}

#[test]
fn a_file_that_somebody_renames_is_followed() {
    let directory = directory("rename");
    let path = directory.path().join("audit.json");
    let audit = start(&path, |_| {});
    write(&audit, 0..1);
    for (asked, renamed) in [(false, "first"), (true, "second")] {
        std::fs::rename(&path, directory.path().join(renamed)).unwrap();
        if asked {
            audit.reopen();
        }
        eventually("the file is there again", || path.exists());
    }
    write(&audit, 1..2);
    assert_eq!(numbers(&read(&path)), [1]);
    assert_eq!(numbers(&read(&directory.path().join("first"))), [0]);
}

#[test]
fn nothing_is_lost_while_the_directory_is_gone() {
    let directory = directory("gone");
    let logs = directory.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let path = logs.join("audit.json");
    let audit = start(&path, |_| {});
    write(&audit, 0..1);
    std::fs::remove_dir_all(&logs).unwrap();
    let failing = || matches!(audit.health(), Some(Health::Failing { .. }));
    eventually("the failure is seen", failing);
    for number in 1..5 {
        log(&audit, &user(number)).unwrap();
    }
    std::fs::create_dir(&logs).unwrap();
    let counters = audit.counters().unwrap();
    eventually("the rest is written", || counters.written() == 5);
    assert_eq!(audit.health(), Some(Health::Good));
    assert_eq!(numbers(&read(&path)), [1, 2, 3, 4]);
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let directory = directory("full");
    let mounted = directory.path().join("disk");
    std::fs::create_dir(&mounted).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&mounted)
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: a small disk cannot be mounted here");
        return;
    }
    let ballast = mounted.join("ballast");
    std::fs::write(&ballast, [0; 40 << 10]).unwrap();
    let path = mounted.join("audit.json");
    let audit = start(&path, |settings| settings.on_failure = OnFailure::Refuse);
    let mut accepted = 0;
    while accepted < 500 && log(&audit, &user(accepted)).is_ok() {
        accepted += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(accepted < 500, "the disk never was full");
    assert!(audit.admit("iam", "CreateUser").is_err());
    std::fs::remove_file(&ballast).unwrap();
    eventually("the log is good again", || {
        audit.health() == Some(Health::Good)
    });
    assert!(log(&audit, &user(accepted)).is_ok());
    assert!(audit.stop(Duration::from_secs(10)));
    let text = read(&path);
    drop(audit);
    let unmounted = Command::new("umount").arg(&mounted).status();
    assert_eq!(numbers(&text), (0..=accepted).collect::<Vec<_>>());
    assert!(unmounted.unwrap().success());
}

#[test]
fn a_path_that_cannot_be_opened_is_an_error_at_the_start() {
    let settings = Settings::new(Output::File("/nowhere/at/all/audit.json".into()));
    let error = Audit::start(settings).unwrap_err();
    assert_eq!(
        error.to_string(),
        "could not open the audit log `/nowhere/at/all/audit.json`"
    );
}

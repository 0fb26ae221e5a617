//! Places, what gives way when room is short, and what is counted.

use countersign_server::audit::{
    Audit, Capacity, DropReason, Health, MAX_RECORD, OnFailure, Output, Settings, Unavailable,
};
use countersign_server::health::Report;

use super::call::{Finished, Who};
use super::file::{directory, eventually};

fn create() -> Finished {
    Finished::new("iam", "CreateUser", "UserName=bob")
}

fn list() -> Finished {
    Finished::new("iam", "ListUsers", "")
}

/// Takes a place and fills it.
pub(crate) fn log(audit: &Audit, call: &Finished) -> Result<(), Unavailable> {
    let place = audit.admit(call.service, call.operation)?;
    call.with(|event| place.finish(event));
    Ok(())
}

/// A log on a disk that is full, with room for ten records besides the one that the writer has.
fn stalled(on_failure: OnFailure) -> Audit {
    let mut settings = Settings::new(Output::File("/dev/full".into()));
    settings.on_failure = on_failure;
    settings.capacity = Capacity {
        records: 10,
        bytes: MAX_RECORD * 20,
    };
    let audit = Audit::start(settings).unwrap();
    log(&audit, &create()).unwrap();
    eventually("the failure is seen", || {
        matches!(audit.health(), Some(Health::Failing { .. }))
    });
    audit
}

fn readiness(audit: &Audit) -> (bool, String) {
    let mut report = Report::default();
    audit.report(&mut report);
    (report.is_ready(), report.render(true))
}

#[test]
fn under_refuse_a_full_disk_refuses_every_call_before_it_happens() {
    let audit = stalled(OnFailure::Refuse);
    for (service, operation) in [
        ("iam", "CreateUser"),
        ("iam", "ListUsers"),
        ("sts", "AssumeRole"),
    ] {
        assert!(audit.admit(service, operation).is_err(), "{operation}");
    }
    let counters = audit.counters().unwrap();
    assert_eq!(counters.refused(), 3);
    let (ready, text) = readiness(&audit);
    assert!(!ready);
    assert!(
        text.contains("[-]audit failed: cannot be written, calls are refused: "),
        "{text}"
    );
    assert_eq!(counters.written(), 0);
}

#[test]
fn under_count_reads_give_way_first_and_everything_lost_is_counted() {
    let audit = stalled(OnFailure::Count);
    let counters = audit.counters().unwrap();
    let dropped = |reason| counters.dropped(reason);
    for _ in 0..12 {
        log(&audit, &list()).unwrap();
    }
    assert_eq!((counters.queued(), dropped(DropReason::Read)), (10, 2));
    for _ in 0..4 {
        log(&audit, &create()).unwrap();
    }
    assert_eq!((counters.queued(), dropped(DropReason::Read)), (10, 6));
    for _ in 0..10 {
        log(&audit, &create()).unwrap();
    }
    assert_eq!(dropped(DropReason::Read), 12);
    assert_eq!(dropped(DropReason::Overflow), 4);
    let (ready, text) = readiness(&audit);
    assert!(ready);
    assert!(
        text.contains("[!]audit warning: cannot be written: "),
        "{text}"
    );
    assert!(text.contains("; 16 records dropped"), "{text}");
    assert!(audit.stop(std::time::Duration::from_secs(10)));
    assert_eq!(dropped(DropReason::Unwritten), 11);
    assert_eq!(counters.dropped_total(), 27);
}

#[test]
fn a_flood_without_credentials_costs_nobody_a_record() {
    for on_failure in [OnFailure::Count, OnFailure::Refuse] {
        let audit = stalled(on_failure);
        let counters = audit.counters().unwrap();
        let stranger = create()
            .by(Who::Unknown(Some("AKIARTX3GSDSXFDOCIS2")))
            .failed("SignatureDoesNotMatch", "no");
        for _ in 0..50 {
            stranger.with(|event| audit.refused(event));
        }
        assert_eq!(counters.dropped(DropReason::Unauthenticated), 40);
        if on_failure == OnFailure::Count {
            for _ in 0..10 {
                log(&audit, &create()).unwrap();
            }
            assert_eq!(counters.dropped(DropReason::Unauthenticated), 50);
            assert_eq!(counters.dropped(DropReason::Overflow), 0);
        }
    }
}

#[test]
fn under_refuse_a_promised_place_is_there() {
    let directory = directory("places");
    let mut settings = Settings::new(Output::File(directory.path().join("audit.json")));
    settings.on_failure = OnFailure::Refuse;
    settings.capacity = Capacity {
        records: 12,
        bytes: MAX_RECORD * 100,
    };
    let audit = Audit::start(settings).unwrap();
    let reads: Vec<_> = (0..9)
        .map(|_| audit.admit("iam", "GetUser").unwrap())
        .collect();
    assert!(
        audit.admit("iam", "GetUser").is_err(),
        "a quarter is kept for writes"
    );
    let writes: Vec<_> = (0..3)
        .map(|_| audit.admit("iam", "CreateUser").unwrap())
        .collect();
    assert!(audit.admit("iam", "CreateUser").is_err());
    for place in reads {
        list().with(|event| place.finish(event));
    }
    for place in writes {
        create().with(|event| place.finish(event));
    }
    let counters = audit.counters().unwrap();
    eventually("all are written", || counters.written() == 12);
    assert_eq!(counters.dropped_total(), 0);
    assert_eq!(counters.refused(), 2);
}

#[test]
fn a_call_that_is_cut_off_gives_its_place_back_and_is_counted() {
    let directory = directory("abandoned");
    let mut settings = Settings::new(Output::File(directory.path().join("audit.json")));
    settings.on_failure = OnFailure::Refuse;
    settings.capacity.records = 1;
    let audit = Audit::start(settings).unwrap();
    for _ in 0..3 {
        drop(audit.admit("iam", "CreateUser").unwrap());
    }
    assert_eq!(audit.counters().unwrap().dropped(DropReason::Abandoned), 3);
    assert!(
        readiness(&audit)
            .1
            .contains("3 records dropped since the start")
    );
}

#[test]
fn what_is_not_included_needs_no_place() {
    let directory = directory("include");
    let wanted = |read_events: bool, include: &[&str], service: &str, operation: &str| {
        let mut settings = Settings::new(Output::File(directory.path().join("audit.json")));
        settings.read_events = read_events;
        settings.include = include.iter().map(|pattern| (*pattern).into()).collect();
        let place = Audit::start(settings)
            .unwrap()
            .admit(service, operation)
            .unwrap();
        place.is_wanted()
    };
    for (read_events, include, service, operation, expected) in [
        (true, &[][..], "iam", "GetUser", true),
        (false, &[], "iam", "GetUser", false),
        (false, &[], "iam", "Nonsense", false),
        (false, &[], "iam", "CreateUser", true),
        (false, &[], "sts", "AssumeRole", true),
        (false, &[], "sts", "GetCallerIdentity", false),
        (true, &["iam:*"], "iam", "GetUser", true),
        (true, &["iam:*"], "sts", "AssumeRole", false),
        (true, &["*:*Role*"], "sts", "AssumeRoleWithSAML", true),
        (true, &["*:*Role*"], "iam", "GetUser", false),
        (
            true,
            &["sts:AssumeRole"],
            "sts",
            "AssumeRoleWithSAML",
            false,
        ),
        (
            true,
            &["sts:AssumeRole*SAML"],
            "sts",
            "AssumeRoleWithSAML",
            true,
        ),
        (true, &["sts:A*R*X"], "sts", "AssumeRole", false),
        (true, &["iam:Get*", "iam:*User"], "iam", "CreateUser", true),
    ] {
        assert_eq!(
            wanted(read_events, include, service, operation),
            expected,
            "{include:?} {operation}"
        );
    }
    let off = Audit::off();
    assert!(!off.admit("iam", "CreateUser").unwrap().is_wanted());
    assert!(
        off.health().is_none() && off.counters().is_none() && off.stop(std::time::Duration::ZERO)
    );
}

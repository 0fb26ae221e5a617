//! Lookups in 10,000 entries of `aws-auth`, and reading them again.
//!
//! `cargo bench -p countersign-mapping`. Prints the best of several rounds: on a shared machine the best is the one
//! that was disturbed least.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench is its own program"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use countersign_arn::CallerIdentity;
use countersign_mapping::config_map::ConfigMap;
use countersign_mapping::*;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[allow(
    unsafe_code,
    reason = "an allocator that counts needs the unsafe trait"
)]
// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ENTRIES: usize = 10_000;

fn text() -> String {
    let mut text = String::new();
    for n in 0..ENTRIES {
        write!(
            text,
            "- rolearn: arn:aws:iam::444455556666:role/r{n:05}\n  username: u:{{{{SessionName}}}}\n  groups: [g{}]\n",
            n % 100
        )
        .unwrap();
    }
    assert!(text.len() < 1 << 20);
    text
}

fn caller(role: &str) -> CallerIdentity {
    CallerIdentity::new(
        &format!("arn:aws:sts::444455556666:assumed-role/{role}/ana@example.com"),
        "444455556666",
        "AROAEXAMPLEEXAMPLE123:ana@example.com",
        "ASIAEXAMPLEEXAMPLE00",
        "sts.eu-west-1.amazonaws.com",
    )
    .unwrap()
}

fn table(data: &BTreeMap<String, String>) -> MappingTable {
    let options = MappingOptions::default();
    let (entries, stale) =
        ConfigMap::parse(data, &options).in_force(None, OnParseError::KeepLastGood);
    assert!(stale.is_empty() && entries.len() == ENTRIES);
    MappingTable::new(BackendKind::EksConfigMap, entries, &options)
}

/// Best nanoseconds and the allocations of one call.
fn measure<R>(rounds: usize, calls: u32, mut call: impl FnMut() -> R) -> (f64, f64) {
    let mut best = f64::MAX;
    let mut allocations = 0;
    for _ in 0..rounds {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(calls) * 1e9);
        allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    }
    (best, allocations as f64 / f64::from(calls))
}

fn report(name: &str, (nanos, allocations): (f64, f64)) {
    println!(
        "{name:<44} {:>12.3} us {allocations:>10.0} allocations",
        nanos / 1e3
    );
}

fn main() {
    let data = BTreeMap::from([("mapRoles".to_owned(), text())]);
    let chain = Chain::new(vec![table(&data).into()], ChainOptions::default());
    let (hit, upper, miss, stranger) = (
        caller("r07777"),
        caller("R07777"),
        caller("nobody"),
        CallerIdentity::new(
            "arn:aws:iam::111122223333:user/x",
            "111122223333",
            "AIDAEXAMPLE",
            "AKIAEXAMPLE",
            "sts.amazonaws.com",
        )
        .unwrap(),
    );
    println!("{ENTRIES} entries, {} KiB", data["mapRoles"].len() >> 10);
    report(
        "lookup, hit",
        measure(20, 50_000, || {
            matches!(chain.map(&hit), MappingDecision::Mapped(_))
        }),
    );
    report(
        "lookup, hit in other case",
        measure(20, 50_000, || {
            matches!(chain.map(&upper), MappingDecision::Mapped(_))
        }),
    );
    report(
        "lookup, miss",
        measure(20, 50_000, || {
            matches!(chain.map(&miss), MappingDecision::Denied(_))
        }),
    );
    report(
        "lookup, miss in another account",
        measure(20, 50_000, || {
            matches!(chain.map(&stranger), MappingDecision::Denied(_))
        }),
    );
    report(
        "lookup and render",
        measure(20, 20_000, || {
            let MappingDecision::Mapped(mapped) = chain.map(&hit) else {
                panic!("not mapped");
            };
            mapped.render(&hit, None).unwrap()
        }),
    );
    report(
        "miss, explained",
        measure(20, 5_000, || {
            let MappingDecision::Denied(denied) = chain.map(&miss) else {
                panic!("mapped");
            };
            denied.explain(&miss)
        }),
    );
    let options = MappingOptions::default();
    report(
        "parse with findings",
        measure(15, 1, || ConfigMap::parse(&data, &options)),
    );
    report(
        "parse, index and drop (reload)",
        measure(15, 1, || table(&data)),
    );
}

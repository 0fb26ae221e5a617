//! What one admission costs: `cargo bench -p countersign-pods`.
//!
//! From the bytes of a review to the bytes of its answer, for the pods a real API server sent, as compact as it sends
//! them. Prints the best of several rounds: on a shared machine the best is the one that was disturbed least.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench: it prints, reads the clock and stops at the first surprise"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use countersign_pods::*;
use serde_json::{Value, json};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Best microseconds and the allocations of one call.
fn measure<R>(calls: u32, mut call: impl FnMut() -> R) -> (f64, f64) {
    let mut best = f64::MAX;
    let mut allocations = 0;
    for _ in 0..30 {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(calls) * 1e6);
        allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    }
    (best, allocations as f64 / f64::from(calls))
}

fn recorded(name: &str) -> Value {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kube-1.36");
    let bytes = std::fs::read(format!("{directory}/admissionreview-v1-{name}.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The recorded pod with that many more containers.
fn with_containers(count: usize) -> Value {
    let mut review = recorded("pod-create");
    let containers = review
        .pointer_mut("/request/object/spec/containers")
        .unwrap();
    let one = containers.get(0).unwrap().clone();
    let many = (0..count).map(|at| {
        let mut container = one.clone();
        container
            .as_object_mut()
            .unwrap()
            .insert("name".to_owned(), json!(format!("c{at}")));
        container
    });
    *containers = many.collect();
    review
}

fn main() {
    let role = (
        "eks.amazonaws.com/role-arn",
        "arn:aws:iam::210987654321:role/orchard-reader",
    );
    let settings = AccountSettings::from_annotations("eks.amazonaws.com", [role]);
    let irsa = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    let association = Facts {
        association: Some(AssociationFact::default()),
        ..irsa
    };
    let webhook = |patch_style| {
        let options = Options {
            default_region: Some("eu-west-1".to_owned()),
            patch_style,
            ..Options::default()
        };
        Webhook::new(options).unwrap()
    };
    let (additive, replace) = (webhook(PatchStyle::Additive), webhook(PatchStyle::Replace));
    let cases = [
        (
            "one container, IRSA",
            recorded("pod-create-by-user"),
            &additive,
            irsa,
            4000,
        ),
        (
            "one container, Pod Identity",
            recorded("pod-create-by-user"),
            &additive,
            association,
            4000,
        ),
        (
            "one container, no credentials",
            recorded("pod-create-by-user"),
            &additive,
            Facts::NOTHING,
            4000,
        ),
        (
            "three containers, IRSA",
            recorded("pod-create"),
            &additive,
            irsa,
            3000,
        ),
        (
            "three containers, IRSA, lists as a whole",
            recorded("pod-create"),
            &replace,
            irsa,
            3000,
        ),
        (
            "of a Deployment, IRSA",
            recorded("deployment-pod-generatename"),
            &additive,
            irsa,
            3000,
        ),
        (
            "1,000 containers, IRSA",
            with_containers(1000),
            &additive,
            irsa,
            20,
        ),
    ];
    println!(
        "{:<42} {:>8} {:>10} {:>12} {:>14}",
        "request", "bytes", "us", "allocations", "decision alone"
    );
    for (name, review, webhook, facts, calls) in cases {
        let body = serde_json::to_vec(&review).unwrap();
        let (us, allocations) = measure(calls, || webhook.admit(&body, |_| facts));
        let review = Review::parse(&body).unwrap();
        let (decision, _) = measure(calls, || webhook.decide(&review, &facts));
        let bytes = body.len();
        println!("{name:<42} {bytes:>8} {us:>10.2} {allocations:>12.0} {decision:>14.2}");
    }
}

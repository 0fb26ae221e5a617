//! What parsing a token costs: nanoseconds and allocations per call.
#![allow(
    unsafe_code,
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a counting allocator implements an unsafe trait; a bench prints"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use countersign_token::{PresignedToken, Rules, mint};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let rules = Rules::default();
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let plain = include_str!("../tests/data/vector-token.txt").trim();
    let session_token = "FwoGZXIvYXdzE".repeat(100);
    let url = PresignedToken::parse(plain, &rules, now).unwrap();
    let with_session = mint(&format!(
        "{}&X-Amz-Security-Token={session_token}",
        url.url()
    ));
    for (name, token) in [
        ("token of 493 bytes", plain),
        ("token with a session token of 1,300 bytes", &with_session),
        (
            "JWT of another issuer (V2)",
            "eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
        ),
    ] {
        let run = || black_box(PresignedToken::parse(black_box(token), &rules, now).is_ok());
        (0..10_000).for_each(|_| _ = run());
        const CALLS: u32 = 200_000;
        let allocations = ALLOCATIONS.load(Ordering::Relaxed);
        let start = Instant::now();
        (0..CALLS).for_each(|_| _ = run());
        let elapsed = start.elapsed();
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
        println!(
            "{name}: {:.0} ns, {:.2} allocations",
            elapsed.as_nanos() as f64 / f64::from(CALLS),
            allocations as f64 / f64::from(CALLS),
        );
    }
}

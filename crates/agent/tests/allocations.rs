//! What a cached answer takes from the heap: counted, not timed.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{START, World, token};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Method};

struct Counting;

thread_local!(static ALLOCATIONS: Cell<usize> = const { Cell::new(0) });

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[tokio::test(start_paused = true)]
async fn a_cached_answer_allocates_its_headers_and_nothing_else() {
    let world = World::new().await;
    let token = token(1, START);
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("169.254.170.23"));
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&token).unwrap());
    let uri = "/v1/credentials".parse().unwrap();
    let mut counts = Vec::new();
    for _ in 0..4 {
        let before = ALLOCATIONS.with(Cell::get);
        let asked = world
            .agent
            .answer(World::address(1), &Method::GET, &uri, &headers);
        assert_eq!(asked.await.status(), 200);
        counts.push(ALLOCATIONS.with(Cell::get) - before);
    }
    // The table of the answer's headers has two parts. The first answers fetch, and fill the buckets of the limits.
    assert_eq!(counts[2..], [2, 2], "{counts:?}");
}

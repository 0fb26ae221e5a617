//! The in-process path takes no memory from the heap: counted, not timed.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Store, policy, time, vectors};
use countersign_sigv4::{CacheKey, KeyLookup, Presigned, SigningKeyCache};

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

#[test]
fn a_token_is_verified_without_an_allocation_warm_or_cold() {
    let (store, policy, cache) = (Store::new(), policy("sts"), SigningKeyCache::default());
    for v in vectors()
        .vectors
        .iter()
        .filter(|v| v.name.starts_with("sts-presigned"))
    {
        let now = time(&v.server_time);
        let (query, host) = (v.message.query(), v.message.header("host").unwrap());
        let headers = [("x-k8s-aws-id", v.message.header("x-k8s-aws-id").unwrap())];
        let secret = if v.session_token.is_some() {
            &store.temporary.1
        } else {
            &store.long_term.1
        };
        let verify = |warm: bool| {
            let presigned = Presigned::from_query(query, &policy, now).unwrap();
            let credential = presigned.credential();
            let id = CacheKey {
                key_id: credential.key_id,
                token_sha256: presigned.session_token_sha256(),
                date: credential.date,
                region: credential.region,
                service: credential.service,
            };
            if warm {
                let key = cache.get_or_derive(&id, now, || Some(secret)).unwrap();
                presigned
                    .verify(host, "/", &headers, &policy, KeyLookup::SigningKey(&key))
                    .unwrap()
                    .was_signed("host")
            } else {
                presigned
                    .verify(host, "/", &headers, &policy, KeyLookup::Secret(secret))
                    .unwrap()
                    .was_signed("host")
            }
        };
        assert!(verify(true), "fills the cache");
        for warm in [true, false] {
            let before = ALLOCATIONS.with(Cell::get);
            let signed = verify(warm);
            let allocations = ALLOCATIONS.with(Cell::get) - before;
            assert!(signed);
            assert_eq!(allocations, 0, "{} warm={warm}", v.name);
        }
    }
}

//! A decision allocates nothing, whatever it is. One test per process, since the count is global.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]
#![allow(clippy::unwrap_used, reason = "helper functions of tests")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use countersign_access::{AccessScope, Catalogue, CompiledPolicies};
use support::{action, associations, view};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_decision_allocates_nothing_for_hits_and_misses() {
    let policies = CompiledPolicies::builtin();
    let mut everything: Vec<_> = Catalogue::builtin()
        .policies()
        .map(|policy| {
            let arn = format!("arn:aws:eks::aws:cluster-access-policy/{}", policy.name);
            (
                arn,
                AccessScope::Namespace(vec!["a-*-b-*".into(), "team-*".into()]),
            )
        })
        .collect();
    everything.push((
        String::from("arn:aws:eks::aws:cluster-access-policy/Gone"),
        AccessScope::Cluster,
    ));
    let entries = [
        associations("View@cluster"),
        associations("View@dev-*; Edit@team-a,team-b"),
        associations("AdminView@cluster; ArgoCDCluster@cluster"),
        everything,
        Vec::new(),
    ];
    let (mut allowed, mut refused) = (0, 0);
    for entry in &entries {
        for request in [
            "get pods/log name=x ns=team-a",
            "create pods/exec name=x ns=team-b",
            "get secrets name=x ns=dev-x",
            "polish widgets.example.com ns=team-a",
            "list nodes",
            "get customresourcedefinitions.apiextensions.k8s.io name=applications.argoproj.io",
            "get /apis/apps/v1",
            "post /metrics",
            "* *.*",
        ] {
            let action = action(request);
            let view = view(entry);
            let before = ALLOCATIONS.with(Cell::get);
            let decision = policies.authorize(&view, &action).is_allowed();
            assert_eq!(ALLOCATIONS.with(Cell::get), before, "{request}");
            allowed += u32::from(decision);
            refused += u32::from(!decision);
        }
    }
    assert!(allowed >= 8 && refused >= 8, "{allowed} {refused}");
}

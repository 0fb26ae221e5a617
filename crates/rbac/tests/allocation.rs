//! A decision allocates nothing, whatever it is. One test per process, since the count is global.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use countersign_rbac::{Action, Groups, Index, Request, ResourceAction, User, default_objects};

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
fn a_decision_allocates_nothing_for_hits_misses_and_missing_roles() {
    let text = String::from_utf8(support::data("rbac-golden.yaml")).unwrap();
    let mut objects = support::yaml_objects(&text);
    objects.extend(default_objects().iter().cloned());
    // One subject with more bindings than are kept in place.
    for at in 0..300 {
        let mut one = support::rights::role("", &format!("r{at}"), &["get - things"]);
        one.metadata.labels.clear();
        objects.push(one.into());
        let subjects = [countersign_rbac::Subject::user("many")];
        objects.push(
            support::rights::binding(
                "",
                &format!("b{at}"),
                "ClusterRole",
                &format!("r{at}"),
                &subjects,
            )
            .into(),
        );
    }
    let (index, _) = Index::build(objects);
    let mut allowed = 0;
    for user in [
        "dana",
        "zoe",
        "many",
        "nobody",
        "system:serviceaccount:shop:build",
    ] {
        for groups in [
            &["devs", "system:authenticated"][..],
            &["platform", "system:masters"],
            &[],
        ] {
            for (resource, subresource, name) in [
                ("pods", "log", "x"),
                ("things", "", ""),
                ("secrets", "", "db"),
                ("nodes", "", ""),
            ] {
                for namespace in ["shop", ""] {
                    let action = ResourceAction {
                        verb: "get",
                        resource,
                        subresource,
                        name,
                        namespace,
                        ..ResourceAction::default()
                    };
                    let path = Action::NonResource {
                        verb: "get",
                        path: "/metrics",
                    };
                    for action in [action.into(), path] {
                        let request = Request {
                            user: User {
                                name: user,
                                groups: Groups::Borrowed(groups),
                            },
                            action,
                        };
                        let before = ALLOCATIONS.with(Cell::get);
                        let decision = index.authorize(&request).is_allowed();
                        assert_eq!(ALLOCATIONS.with(Cell::get), before, "{request:?}");
                        allowed += u32::from(decision);
                    }
                }
            }
        }
    }
    assert!(allowed > 20);
}

//! Large bodies that are made of next to nothing: what they take up stays near to what they are. One test
//! per process, since the count is global.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_pods::{AccountFact, Facts, MAX_REVIEW_BYTES, Options, PatchStyle, Webhook};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HEAD: &str = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","namespace":"n","object":"#;

/// What stands before, the item that is repeated, and what stands behind.
const SHAPES: &[(&str, &str, &str)] = &[
    (r#"{"spec":{"containers":["#, r#"{"name":""}"#, "]}}}}"),
    (r#"{"spec":{"containers":["#, "{}", "]}}}}"),
    (
        r#"{"spec":{"containers":[{"name":"c","env":["#,
        r#"{"name":""}"#,
        "]}]}}}}",
    ),
    (
        r#"{"spec":{"containers":[{"name":"c","volumeMounts":["#,
        r#"{"name":"","mountPath":""}"#,
        "]}]}}}}",
    ),
    (
        r#"{"spec":{"containers":[{"name":"c"}],"volumes":["#,
        r#"{"name":""}"#,
        "]}}}}",
    ),
    (
        r#"{"spec":{"containers":[{"name":"c"}],"volumes":[{"name":"aws-iam-token","projected":{"sources":["#,
        "{}",
        "]}}]}}}}",
    ),
    (r#"{"metadata":{"labels":{"#, r#""":"""#, "}}}}"),
    (
        r#"{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":["#,
        r#"{"matchExpressions":[]}"#,
        "]}}}}}}",
    ),
    (
        r#"{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":["#,
        r#"{"key":"","operator":"In"}"#,
        "]}]}}}}}}",
    ),
    (
        r#"{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"","operator":"In","values":["#,
        r#""""#,
        "]}]}]}}}}}}",
    ),
    (
        r#"{"spec":{"containers":[{"name":"c"#,
        r#"","name":""#,
        r#""}]}}}}"#,
    ),
    (
        r#"{"spec":{"containers":[{"name":"c"},{"#,
        r#""":0"#,
        r#","name":"d"}]}}}}"#,
    ),
];

#[test]
fn no_body_takes_up_many_times_its_size() {
    let settings = support::with_role();
    let facts = Facts {
        account: AccountFact::Known(&settings),
        ..Facts::NOTHING
    };
    // Lists that are written as a whole are copied on their way into the patch and into the answer.
    for (patch_style, times) in [(PatchStyle::Additive, 8), (PatchStyle::Replace, 11)] {
        let options = Options {
            patch_style,
            ..Options::default()
        };
        let webhook = Webhook::new(options).unwrap();
        for (before, item, behind) in SHAPES {
            let mut body = format!("{HEAD}{before}{item}");
            while body.len() + item.len() + behind.len() + 1 < MAX_REVIEW_BYTES / 8 {
                body.push(',');
                body.push_str(item);
            }
            body.push_str(behind);
            let live = LIVE.load(Ordering::Relaxed);
            PEAK.store(live, Ordering::Relaxed);
            let answer = webhook.admit(body.as_bytes(), |_| facts);
            let taken = PEAK.load(Ordering::Relaxed) - live;
            assert!(
                taken < times * body.len() + (1 << 20),
                "{before}: {taken} for {}",
                body.len()
            );
            assert!(matches!(answer.status, 200 | 400));
        }
    }
}

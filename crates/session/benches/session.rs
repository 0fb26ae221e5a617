//! What sealing and opening cost: nanoseconds and allocations per call.
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

use countersign_arn::{Partition, Tag};
use countersign_session::{
    Chain, DeploymentId, KeyRing, LivePrincipal, NewKey, OpenCache, Origin, RevocationList,
    RevocationRow, RevocationTarget, SessionKind, SessionPrincipal, SessionRandomness,
    SessionRecord, caller_identity, issue, open, packed_policy_percent,
};
use jiff::{SignedDuration, Timestamp};

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

fn measure<T>(name: &str, mut run: impl FnMut() -> T) {
    const CALLS: u32 = 50_000;
    (0..CALLS / 10).for_each(|_| drop(black_box(run())));
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let start = Instant::now();
    (0..CALLS).for_each(|_| drop(black_box(run())));
    let elapsed = start.elapsed();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    println!(
        "{name}: {:.0} ns, {:.2} allocations",
        elapsed.as_nanos() as f64 / f64::from(CALLS),
        allocations as f64 / f64::from(CALLS),
    );
}

fn main() {
    let now: Timestamp = "2026-03-14T09:26:53Z".parse().unwrap();
    let ring = KeyRing::bootstrap(&NewKey::from_random(&[1; 36]), now).unwrap();
    let deployment: DeploymentId = "d-0123456789abcdef".parse().unwrap();
    let random = SessionRandomness::from_random(&[2; 44]);
    let mut plain = SessionRecord::new(
        SessionKind::AssumedRole,
        Partition::Aws,
        "111122223333".parse().unwrap(),
        SessionPrincipal::Role {
            id: "AROARTX3GSDSURLGMXGED".into(),
            path: "/".into(),
            name: "orchard-reader".into(),
            session_name: "eks-orchard-picker-0-6b1e0c58-1c2d-4e3f-8a9b-0c1d2e3f4a5b".into(),
        },
        now,
        now + SignedDuration::from_hours(1),
    );
    plain.depth = 1;
    plain.origin = Origin {
        access_key_id: Some("AKIARTX3GSDSXFDOCIS2".into()),
        request_id: Some("0b7d1c52-7f7e-4c46-9f39-6d2f8c0e51aa".into()),
    };
    let tags = [
        (
            "eks-cluster-arn",
            "arn:aws:eks:eu-west-1:111122223333:cluster/orchard",
        ),
        ("eks-cluster-name", "orchard"),
        ("kubernetes-namespace", "orchard"),
        ("kubernetes-service-account", "picker"),
        ("kubernetes-pod-name", "picker-0"),
        ("kubernetes-pod-uid", "6b1e0c58-1c2d-4e3f-8a9b-0c1d2e3f4a5b"),
    ]
    .map(|(key, value)| Tag {
        key: key.into(),
        value: value.into(),
    });
    let keys: Vec<&str> = tags.iter().map(|tag| &*tag.key).collect();
    let mut tagged = plain.clone();
    tagged.tags = Chain::of(None).session_tags(&tags, &keys).unwrap();
    let mut limited = plain.clone();
    limited.policies.inline = Some(
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::orchard-data","arn:aws:s3:::orchard-data/*"]}]}"#
            .into(),
    );
    let rows: Vec<RevocationRow> = (0..100)
        .map(|n| {
            let target = RevocationTarget::Role {
                account: plain.account,
                name: format!("role-{n}").into(),
            };
            RevocationRow::new(target, None, now).unwrap()
        })
        .collect();
    let revocations = RevocationList::new(&rows);
    let live = LivePrincipal {
        id: "AROARTX3GSDSURLGMXGED",
        path: "/",
        name: "orchard-reader",
        tags: &[],
    };
    for (name, record) in [
        ("plain role session", &plain),
        ("session with six tags", &tagged),
        ("session with an inline policy", &limited),
    ] {
        let issued = issue(record, &ring, &deployment, &random, now).unwrap();
        let token = issued.token.expose().as_bytes();
        let key_id = &*issued.access_key_id;
        println!("{name}: {} characters", token.len());
        measure("  seal", || {
            issue(record, &ring, &deployment, &random, now).unwrap()
        });
        measure("  open, cold", || {
            open(token, key_id, &ring, &deployment, now).unwrap()
        });
        let cache = OpenCache::new(4096, deployment.clone());
        measure("  open, remembered", || {
            cache.open(token, key_id, &ring, now).unwrap()
        });
        let mut forged = token.to_vec();
        if let Some(last) = forged.iter_mut().rev().nth(3) {
            *last = if *last == b'A' { b'B' } else { b'A' };
        }
        measure("  open, forged", || {
            open(&forged, key_id, &ring, &deployment, now).unwrap_err()
        });
        measure("  revocation list of 100 rows", || {
            revocations.consult(record, key_id)
        });
        measure("  identity", || {
            caller_identity(record, key_id, Some(&live), "sts.eu-west-1.example").unwrap()
        });
    }
    measure("packed size of six tags", || {
        packed_policy_percent(&plain.policies, tags.iter())
    });
}

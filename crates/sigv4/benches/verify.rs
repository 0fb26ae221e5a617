//! What verifying a presigned token costs in time and memory, next to what signing it again would cost.
//!
//! `cargo bench -p countersign-sigv4`. Wall clock of the best of many rounds, since the machine may be shared; the
//! allocations are exact. The last part compares how long it takes to refuse an unknown key and a bad signature.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench: it prints, reads the clock and stops at the first surprise"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use countersign_sigv4::{
    CacheKey, Credentials, Header, KeyLookup, Parsed, Presigned, Request, SecretKey, ServicePolicy,
    Signer, SigningKeyCache,
};
use jiff::Timestamp;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const KEY_ID: &str = "AKIARTX3GSDSXFDOCIS2";
const SECRET: &str = "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";
const REGION: &str = "us-west-2";
const HOST: &str = "sts.us-west-2.amazonaws.com";
const CLUSTER: (&str, &str) = ("x-k8s-aws-id", "prod-blue");
const TARGET: &str = "/?Action=GetCallerIdentity&Version=2011-06-15";
const SECOND: u64 = 1_773_480_413;

/// Nanoseconds and allocations of one call: the best round of many.
fn measure(name: &str, mut work: impl FnMut()) -> f64 {
    const CALLS: u32 = 1000;
    for _ in 0..CALLS {
        work();
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let mut best = Duration::MAX;
    for _ in 0..200 {
        let start = Instant::now();
        for _ in 0..CALLS {
            work();
        }
        best = best.min(start.elapsed());
    }
    let nanos = best.as_nanos() as f64 / f64::from(CALLS);
    println!("{name:<58} {nanos:>9.0} ns/op {allocations:>4} allocations/op");
    nanos
}

fn main() {
    let now = Timestamp::from_second(SECOND as i64).unwrap();
    let policy = ServicePolicy::for_service("sts");
    let secret = SecretKey::new(SECRET);
    let cache = SigningKeyCache::default();
    let headers: [Header<'_>; 2] = [("host", HOST.as_bytes()), (CLUSTER.0, CLUSTER.1.as_bytes())];
    let request = Request {
        headers: &headers,
        ..Request::new("GET", TARGET.as_bytes())
    };
    let presign = |token: Option<&str>| {
        let credentials = Credentials {
            key_id: KEY_ID,
            secret: &secret,
            session_token: token,
        };
        Signer::new(credentials, REGION, "sts")
            .presign(&request, 60, now)
            .unwrap()
    };
    let query = presign(None);
    // Base64 of pseudo-random bytes, which is what sealed tokens look like.
    let mut state = 1u32;
    let session_token: String = (0..1000)
        .map(|_| {
            const ALPHABET: &[u8; 64] =
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(ALPHABET[(state >> 26) as usize])
        })
        .collect();
    let with_token = presign(Some(&session_token));

    let warm = |query: &str| {
        let presigned = Presigned::from_query(black_box(query), &policy, now).unwrap();
        let c = presigned.credential();
        let id = CacheKey {
            key_id: c.key_id,
            token_sha256: presigned.session_token_sha256(),
            date: c.date,
            region: c.region,
            service: c.service,
        };
        let key = cache.get_or_derive(&id, now, || Some(&secret)).unwrap();
        let verified = presigned
            .verify(HOST, "/", &[CLUSTER], &policy, KeyLookup::SigningKey(&key))
            .unwrap();
        assert!(black_box(verified).was_signed(CLUSTER.0));
    };
    let in_process = measure("presigned token, warm (cache hit, in-process path)", || {
        warm(&query)
    });
    measure("the same with a session token of 1000 bytes", || {
        warm(&with_token)
    });
    measure("presigned token, cold (signing key derived)", || {
        let presigned = Presigned::from_query(black_box(&query), &policy, now).unwrap();
        let verified = presigned.verify(HOST, "/", &[CLUSTER], &policy, KeyLookup::Secret(&secret));
        black_box(verified.unwrap());
    });
    let target = format!("/?{query}");
    let received = Request {
        headers: &headers,
        ..Request::new("GET", target.as_bytes())
    };
    let general = |key: KeyLookup<'_>| {
        let parsed = Parsed::from_request(black_box(&received), &policy, now).unwrap();
        black_box(parsed.verify(key).unwrap());
    };
    let key = countersign_sigv4::SigningKey::derive(&secret, "20260314", REGION, "sts");
    measure("presigned request, warm, general path", || {
        general(KeyLookup::SigningKey(&key))
    });
    measure("presigned request, cold, general path", || {
        general(KeyLookup::Secret(&secret))
    });

    let identity = AwsCredentials::new(KEY_ID, SECRET, None, None, "bench").into();
    let baseline = measure("baseline: aws-sigv4 presigns the same request", || {
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(60));
        let params = SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name("sts")
            .time(SystemTime::UNIX_EPOCH + Duration::from_secs(SECOND))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let url = format!("https://{HOST}{TARGET}");
        let request =
            SignableRequest::new("GET", url, [CLUSTER].into_iter(), SignableBody::Bytes(b""))
                .unwrap();
        black_box(sign(request, &params).unwrap());
    });
    println!(
        "warm verification is {:.1} times as fast as signing again",
        baseline / in_process
    );

    refusals(&query, &policy, now);
}

/// How long single refusals take, interleaved: whoever measures from outside must not see which key exists.
fn refusals(query: &str, policy: &ServicePolicy, now: Timestamp) {
    const SAMPLES: usize = 10_000;
    let (head, signature) = query.split_at(query.len() - 64);
    let bad: String = signature.chars().rev().collect();
    let query = format!("{head}{bad}");
    let key =
        countersign_sigv4::SigningKey::derive(&SecretKey::new(SECRET), "20260314", REGION, "sts");
    let secret = SecretKey::new(SECRET);
    let cases = [
        ("unknown key", KeyLookup::Unknown),
        ("bad signature, key derived", KeyLookup::Secret(&secret)),
        (
            "bad signature, key from the cache",
            KeyLookup::SigningKey(&key),
        ),
    ];
    let mut times: [Vec<u64>; 3] = Default::default();
    for round in 0..SAMPLES + 500 {
        for i in 0..cases.len() {
            let which = (round + i) % cases.len();
            let start = Instant::now();
            let presigned = Presigned::from_query(black_box(&query), policy, now).unwrap();
            let refused = presigned
                .verify(HOST, "/", &[CLUSTER], policy, cases[which].1)
                .is_err();
            let nanos = start.elapsed().as_nanos() as u64;
            assert!(black_box(refused));
            if round >= 500 {
                times[which].push(nanos);
            }
        }
    }
    println!("\nrefusals, {SAMPLES} samples each (ns)      p10      p50      p90      p99");
    for ((name, _), times) in cases.iter().zip(&mut times) {
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100];
        println!(
            "{name:<38} {:>8} {:>8} {:>8} {:>8}",
            at(10),
            at(50),
            at(90),
            at(99)
        );
    }
}

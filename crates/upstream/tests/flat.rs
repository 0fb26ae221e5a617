//! What random clients leave behind: counted bytes of the heap and counted labels, over ten minutes of the tests' clock.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{CLUSTER, TestClock, identity, refusal};
use countersign_token::{Options, PresignedToken, Rules, known_regions, mint};
use countersign_upstream::clock::Clock as _;
use countersign_upstream::http::ExchangeFailure;
use countersign_upstream::sts::{StsAnswer, StsExchange, StsOptions, StsRequest, StsVerifier};
use futures::future::BoxFuture;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A small generator with a fixed seed; quality does not matter, repeatability does.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn letters(&mut self, length: u64) -> String {
        (0..length)
            .map(|_| char::from(b'a' + u8::try_from(self.below(26)).unwrap()))
            .collect()
    }
}

const MINUTES: usize = 10;

/// An STS that keeps nothing itself: identities, refusals, throttling, nonsense and failed connections by turns.
struct AnySts(AtomicUsize);

impl StsExchange for AnySts {
    fn get<'a>(&'a self, _: &'a StsRequest) -> BoxFuture<'a, Result<StsAnswer, ExchangeFailure>> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match number % 16 {
                0 => Err(ExchangeFailure::Connect),
                1 => Err(ExchangeFailure::Timeout),
                2 => Ok(refusal(500, "InternalFailure")),
                3 => Ok(refusal(200, "nonsense")),
                4..8 => Ok(identity("ana")),
                _ => Ok(refusal(403, "InvalidClientTokenId")),
            }
        })
    }
}

fn random_token(numbers: &mut Numbers, clock: &TestClock) -> String {
    let date = clock.now().strftime("%Y%m%dT%H%M%SZ");
    let host = match numbers.below(8) {
        0 => "sts.eu-west-1.amazonaws.com".to_owned(),
        1 => format!("{}.example", numbers.letters(12)),
        _ => format!(
            "sts.xx-{}-{}.amazonaws.com",
            numbers.letters(10),
            numbers.below(99)
        ),
    };
    let key = numbers.letters(16).to_ascii_uppercase();
    let session = numbers.letters(60);
    let signature = format!("{:016x}", numbers.next()).repeat(4);
    let url = format!(
        "https://{host}/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=ASIA{key}%2F20260102%2Feu-west-1%2Fsts%2Faws4_request&X-Amz-Date={date}&X-Amz-Expires=60\
         &X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&X-Amz-Security-Token={session}&X-Amz-Signature={signature}"
    );
    mint(&url).to_string()
}

/// After the first minute the tables have what they may have; their hash tables may still double once. Fifty tokens a
/// second, each from another key, seven of eight for another host, add nothing else: a remembered string for each would be
/// more than the 24 bytes a token that are allowed here.
#[tokio::test(start_paused = true)]
async fn ten_minutes_of_random_hosts_keys_and_tokens_leave_heap_and_labels_flat() {
    let clock = TestClock::new();
    let options = StsOptions {
        identities: 1024,
        ..StsOptions::default()
    };
    let sts = Arc::new(AnySts(AtomicUsize::new(0)));
    let verifier = StsVerifier::start(options, sts as _, Arc::clone(&clock) as _).unwrap();
    let rules = Rules::new(Options::default()).unwrap();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut live = Vec::with_capacity(64);
    let (mut asked, mut refused) = (0_usize, 0_usize);
    for _minute in 0..MINUTES {
        for _second in 0..60 {
            for _ in 0..50 {
                let text = random_token(&mut numbers, &clock);
                match PresignedToken::parse(&text, &rules, clock.now()) {
                    Ok(token) => {
                        asked += 1;
                        let _ = verifier.verify(&token, CLUSTER).await;
                    }
                    Err(_) => refused += 1,
                }
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        live.push(LIVE.load(Ordering::Relaxed));
    }
    assert!(asked > 25_000 && refused > 2_500, "{asked} {refused}");
    let grown = live[MINUTES - 1].saturating_sub(live[0]);
    assert!(grown < 24 * asked, "the heap grows: {live:?}");
    assert!(live[MINUTES - 1] < 4 << 20, "{live:?}");
    let numbers = verifier.snapshot();
    assert!(numbers.identities <= 1024 && numbers.rejections <= 8192);
    let counts = (numbers.waiters, numbers.in_flight, numbers.queued);
    assert_eq!(counts, (0, 0, 0));
    let regions = numbers
        .responses
        .keys()
        .map(|(_, region)| region)
        .chain(numbers.connection_failures.keys())
        .chain(numbers.throttled.keys());
    for region in regions {
        assert!(
            known_regions().contains(&region.as_str()) || region == "other",
            "{region}"
        );
    }
    assert!(numbers.responses.len() <= 6, "{:?}", numbers.responses);
}

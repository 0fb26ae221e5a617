//! How many tokens a second are verified from the identity cache, and how many through the whole way to an STS that answers at once.
//! Run with `cargo bench -p countersign-upstream`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program that prints numbers"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{CLUSTER, FakeSts, TestClock, token};
use countersign_token::PresignedToken;
use countersign_upstream::sts::{CallLimits, StsOptions, StsVerifier};

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let limits = CallLimits {
            per_second: 1e9,
            burst: 1e9,
            ..CallLimits::default()
        };
        let options = StsOptions {
            identity_ttl: Duration::from_secs(300),
            limits,
            ..StsOptions::default()
        };
        let sts = FakeSts::new();
        let verifier = StsVerifier::start(options, sts, TestClock::new()).unwrap();
        let tokens: Arc<Vec<PresignedToken>> =
            Arc::new((0..20_000).map(|n| token(&format!("AKIA{n}"), n)).collect());
        let asked = run(&verifier, &tokens, 1).await;
        println!("asked:  {asked:>10.0} tokens/s");
        let cached = run(&verifier, &tokens, 20).await;
        println!("cached: {cached:>10.0} tokens/s");
        let numbers = verifier.snapshot();
        println!("hits {}, misses {}", numbers.identity_hits, numbers.misses);
    });
}

/// Two tasks, each with every other token.
async fn run(verifier: &StsVerifier, tokens: &Arc<Vec<PresignedToken>>, rounds: usize) -> f64 {
    let started = Instant::now();
    let tasks: Vec<_> = (0..2)
        .map(|task| {
            let (verifier, tokens) = (verifier.clone(), Arc::clone(tokens));
            tokio::spawn(async move {
                for _ in 0..rounds {
                    for token in tokens.iter().skip(task).step_by(2) {
                        verifier.verify(token, CLUSTER).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (tokens.len() * rounds) as f64 / started.elapsed().as_secs_f64()
}

//! What one `get-token` costs kubectl: wall time of a whole process, and its peak memory.
//!
//! The bench starts itself: the child makes a token from keys of the environment and tells its peak memory.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and a bench that fails should panic"
)]

use std::process::{Command, Stdio};
use std::time::Instant;

use clap::{Args as _, FromArgMatches as _};
use countersign_client::get_token::{self, GetTokenArgs, Style};
use countersign_client::{Environment, Io, Process};
use jiff::Timestamp;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("get-token") {
        child();
    } else {
        parent();
    }
}

fn child() {
    let command = GetTokenArgs::augment_args(clap::Command::new("bench"));
    let args = GetTokenArgs::from_arg_matches(&command.get_matches_from(std::env::args().skip(1)));
    let code = get_token::run(
        &args.unwrap(),
        Style::Authenticator,
        &Process {
            env: Environment::of_process(),
            clock: &Timestamp::now,
        },
        &mut Io {
            stdin: &mut std::io::stdin().lock(),
            stdout: &mut std::io::stdout().lock(),
            stderr: &mut std::io::stderr().lock(),
        },
    );
    assert_eq!(code, 0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    eprintln!("{}", peak.unwrap_or_default());
}

fn parent() {
    let program = std::env::current_exe().unwrap();
    let run = || {
        let start = Instant::now();
        let output = Command::new(&program)
            .args([
                "get-token",
                "--cluster-name",
                "demo",
                "--region",
                "eu-west-1",
            ])
            .env("AWS_ACCESS_KEY_ID", "AKIDCOUNTERSIGN00001")
            .env(
                "AWS_SECRET_ACCESS_KEY",
                "countersign/example+secret/key0000000001",
            )
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success());
        (start.elapsed(), String::from_utf8(output.stderr).unwrap())
    };
    let mut times: Vec<_> = (0..100).map(|_| run().0).collect();
    times.sort_unstable();
    let median = times.get(50).unwrap();
    let worst = times.last().unwrap();
    println!(
        "get-token, whole process: median {median:?}, worst {worst:?}, {}",
        run().1.trim()
    );
}

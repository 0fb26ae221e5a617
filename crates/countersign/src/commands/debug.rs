//! `countersign debug sigv4`: why a signature does not match.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_sigv4::SecretKey;
use countersign_sigv4::capture::Captured;
use countersign_sigv4::explain::{Context, Verdict, explain};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

/// Largest capture read.
const MAX_CAPTURE: u64 = 16 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Explain why a request's AWS signature does not match.
    ///
    /// Reads a captured request (raw HTTP text, a curl command, or an HTTP archive), signs its plausible variants with the
    /// secret, and names the one the client signed: the path encoded twice, a port dropped by a proxy, a body with a newline
    /// too many, the wrong region, a secret with blanks, a clock in another time zone.
    #[command(
        after_help = "Example:\n  countersign debug sigv4 request.txt --secret-file secret.txt"
    )]
    Sigv4(Sigv4Args),
}

#[derive(Debug, Args)]
pub(crate) struct Sigv4Args {
    /// The captured request; `-` for standard input.
    capture: PathBuf,
    /// File with the secret access key; otherwise AWS_SECRET_ACCESS_KEY is used.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// A name the server is known under outside, such as sts.example:8443; may be repeated.
    #[arg(long = "external-host", value_name = "HOST")]
    external_hosts: Vec<String>,
    /// Do not judge the client's clock, for captures that are older than the clock skew allows.
    #[arg(long)]
    ignore_clock: bool,
    /// Also print the canonical request and string to sign; they repeat a session token.
    #[arg(long)]
    show_strings: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Serialize)]
struct Row {
    request: String,
    verifies: bool,
    explanation: String,
    findings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canonical_request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    string_to_sign: Option<String>,
}

pub(crate) fn sigv4(args: &Sigv4Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let text = read_limited(&args.capture)?;
    let secret = secret(args)?;
    let captured = Captured::detect(&text).map_err(Failure::usage)?;
    let context = Context {
        external_hosts: &args.external_hosts,
        now: (!args.ignore_clock).then(jiff::Timestamp::now),
        policy: None,
    };
    let mut rows = Vec::new();
    for request in &captured {
        let explanation = request.with_request(|view| explain(view, &secret, &context));
        let target = String::from_utf8_lossy(&request.target);
        let path = target.split('?').next().unwrap_or_default();
        rows.push(Row {
            request: format!("{} {path}", request.method),
            verifies: matches!(explanation.verdict, Verdict::Verifies),
            explanation: explanation.verdict.to_string(),
            findings: explanation.findings,
            canonical_request: args.show_strings.then_some(explanation.canonical_request),
            string_to_sign: args.show_strings.then_some(explanation.string_to_sign),
        });
    }
    args.output.write(out, &rows, |out| {
        for row in &rows {
            writeln!(out, "{}: {}", row.request, row.explanation)?;
            for finding in &row.findings {
                writeln!(out, "  {finding}")?;
            }
            if let (Some(canonical), Some(string)) = (&row.canonical_request, &row.string_to_sign) {
                writeln!(
                    out,
                    "\ncanonical request:\n{canonical}\n\nstring to sign:\n{string}"
                )?;
            }
        }
        Ok(())
    })?;
    let fine = rows
        .iter()
        .all(|row| row.verifies && row.findings.is_empty());
    Ok(if fine { Exit::Fine } else { Exit::No })
}

fn secret(args: &Sigv4Args) -> Result<SecretKey, Failure> {
    if let Some(path) = &args.secret_file {
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(
                anyhow::Error::new(error).context(format!("could not read `{}`", path.display())),
            )
        })?);
        return Ok(SecretKey::new(text.trim_end_matches(['\n', '\r'])));
    }
    match std::env::var("AWS_SECRET_ACCESS_KEY") {
        Ok(secret) if !secret.is_empty() => Ok(SecretKey::new(secret)),
        _ => Err(Failure::usage(anyhow::anyhow!(
            "the secret access key is needed to recompute the signature"
        ))
        .hint("give it with `--secret-file FILE` or in AWS_SECRET_ACCESS_KEY")),
    }
}

fn read_limited(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(MAX_CAPTURE + 1)
            .read_to_end(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_CAPTURE + 1).read_to_end(&mut text))
    };
    read.map_err(|error| {
        Failure::usage(
            anyhow::Error::new(error).context(format!("could not read `{}`", path.display())),
        )
    })?;
    if text.len() as u64 > MAX_CAPTURE {
        return Err(Failure::usage(anyhow::anyhow!(
            "`{}` is larger than 16 MiB",
            path.display()
        )));
    }
    Ok(text)
}

//! `agent top`: who uses credentials on this node, asked over the probe port.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;

use crate::exit::Exit;
use crate::report::Failure;

/// Longest answer that is read: some thousands of pods.
const MAX_ANSWER: u64 = 8 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// The agent's probe port.
    #[arg(long, default_value_t = 2703, value_name = "PORT")]
    probe_port: u16,
    /// Seconds over which requests are counted.
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    interval: u64,
    /// Pods that are shown, the busiest first.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    number: usize,
}

/// One pod, as the agent tells it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    pod: String,
    pod_uid: String,
    service_account: String,
    association_id: String,
    expires_at: jiff::Timestamp,
    reads: u64,
}

pub(super) fn run(args: &TopArgs, stdout: &mut dyn Write) -> Result<Exit, Failure> {
    let before = ask(args.probe_port)?;
    let started = Instant::now();
    std::thread::sleep(Duration::from_secs(args.interval));
    let now = ask(args.probe_port)?;
    let seconds = started.elapsed().as_secs_f64();
    write!(stdout, "{}", table(&before, now, seconds, args.number))?;
    Ok(Exit::Fine)
}

/// The busiest pods, with their requests a second since `before`.
fn table(before: &[Row], now: Vec<Row>, seconds: f64, number: usize) -> String {
    let earlier: HashMap<&str, u64> = before
        .iter()
        .map(|row| (row.pod_uid.as_str(), row.reads))
        .collect();
    let mut rows: Vec<(u64, Row)> = now
        .into_iter()
        .map(|row| {
            let since = earlier.get(row.pod_uid.as_str()).copied().unwrap_or(0);
            (row.reads.saturating_sub(since), row)
        })
        .collect();
    rows.sort_by(|(a, left), (b, right)| (b, right.reads).cmp(&(a, left.reads)));
    let more = rows.len().saturating_sub(number);
    let head = [
        "REQUESTS/S",
        "REQUESTS",
        "POD",
        "SERVICE ACCOUNT",
        "ASSOCIATION",
        "EXPIRES",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.into_iter().take(number).map(|(fresh, row)| {
        [
            format!("{:.1}", fresh as f64 / seconds.max(0.001)),
            row.reads.to_string(),
            format!("{}/{}", row.namespace, row.pod),
            row.service_account,
            row.association_id,
            row.expires_at.to_string(),
        ]
    }));
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(String::len).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text
}

fn ask(port: u16) -> Result<Vec<Row>, Failure> {
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let exchanged = exchange(address);
    let answer = exchanged.map_err(|error| {
        let text = format!("no agent answers on {address}");
        Failure::unknown(anyhow::Error::new(error).context(text))
            .hint("run this on the node, or give --probe-port")
    })?;
    let body = answer
        .starts_with("HTTP/1.1 200")
        .then(|| answer.split_once("\r\n\r\n"))
        .flatten()
        .map(|(_, body)| body);
    body.and_then(|body| serde_json::from_str(body).ok())
        .ok_or_else(|| Failure::unknown(anyhow::anyhow!("{address} is no agent that knows this")))
}

fn exchange(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /top HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_pods_come_first_with_their_rates() {
        let row = |number: u32, reads| Row {
            namespace: "orchard".into(),
            pod: format!("picker-{number}"),
            pod_uid: number.to_string(),
            service_account: "picker".into(),
            association_id: "a-1".into(),
            expires_at: jiff::Timestamp::UNIX_EPOCH,
            reads,
        };
        let before = [row(1, 1000), row(2, 5)];
        let text = table(&before, vec![row(1, 1001), row(2, 45), row(3, 2)], 2.0, 2);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1][..4], ["20.0", "45", "orchard/picker-2", "picker"]);
        assert_eq!(lines[2][..3], ["1.0", "2", "orchard/picker-3"]);
        assert_eq!(lines[3], ["and", "1", "more"]);
    }
}

//! Decision events: one JSON line per decision, written by its own thread.
//!
//! A review never waits for a disk or a terminal: lines go into a bounded queue, and a line that finds it full is
//! counted as lost. Neither tokens nor signatures nor session tokens are ever part of an event.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use prometheus_client::metrics::counter::Counter;

/// Lines in flight; about 32 MiB at the size of a common event if the writer stalls altogether.
const QUEUE: usize = 32 << 10;
/// Bytes gathered before a write, so that a busy server makes few system calls.
const BATCH: usize = 64 << 10;

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventTarget {
    /// Standard error, beside the log.
    Stderr,
    /// A file, appended to; made with mode 0600.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// The sending side; cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    queue: Option<SyncSender<Vec<u8>>>,
    lost: Counter,
}

impl Events {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not started.
    pub fn start(target: &EventTarget, lost: Counter) -> io::Result<Self> {
        Self::with_room(target, lost, QUEUE)
    }

    /// The same with room for so many lines: a place costs some memory from the start on, empty or not.
    ///
    /// # Errors
    /// As [`Events::start`].
    pub fn with_room(target: &EventTarget, lost: Counter, lines: usize) -> io::Result<Self> {
        let output: Box<dyn Write + Send> = match target {
            EventTarget::Off => return Ok(Self { queue: None, lost }),
            EventTarget::Stderr => Box::new(io::stderr()),
            EventTarget::File(path) => Box::new(open(path)?),
        };
        let (queue, lines) = sync_channel(lines);
        let failures = lost.clone();
        std::thread::Builder::new()
            .name("decision-events".into())
            .spawn(move || write_lines(output, &lines, &failures))?;
        Ok(Self {
            queue: Some(queue),
            lost,
        })
    }

    /// Whether anybody reads events; callers skip building them otherwise.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues one event, given as JSON without a newline.
    pub fn send(&self, mut line: Vec<u8>) {
        let Some(queue) = &self.queue else { return };
        line.push(b'\n');
        match queue.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.inc();
            }
        }
    }
}

fn open(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

fn write_lines(mut output: Box<dyn Write + Send>, lines: &Receiver<Vec<u8>>, lost: &Counter) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Ok(first) = lines.recv() {
        batch.extend_from_slice(&first);
        let mut count = 1;
        while batch.len() < BATCH {
            let Ok(next) = lines.try_recv() else { break };
            batch.extend_from_slice(&next);
            count += 1;
        }
        if output
            .write_all(&batch)
            .and_then(|()| output.flush())
            .is_err()
        {
            lost.inc_by(count);
        }
        batch.clear();
    }
}

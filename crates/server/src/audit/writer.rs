//! The thread that writes the log.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::file::{LogFile, tidy};
use super::handle::Health;
use super::queue::{Counters, DropReason, Queue};
use super::settings::{Output, Settings};

/// Bytes gathered before a write.
const BATCH: usize = 256 << 10;
/// How long records gather before they are written: a busy server makes a hundred writes a second and not twenty thousand.
const GATHER: Duration = Duration::from_millis(10);
/// How often the file is looked at, and brought to the disk.
const LOOK: Duration = Duration::from_secs(1);
/// How long a failed write waits for the next try.
const RETRY: Duration = Duration::from_millis(500);
/// How often a state that lasts is said again.
const SAY: Duration = Duration::from_secs(60);

/// What the writer shares with callers.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) counters: Arc<Counters>,
    pub(super) health: Mutex<Health>,
}

impl Shared {
    fn set_health(&self, health: Health) -> Health {
        let mut now = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut now, health)
    }
}

/// Starts the writer. The output is opened before it returns.
pub(super) fn start(settings: Settings, shared: Arc<Shared>) -> io::Result<()> {
    let target = Some(open(&settings.output)?);
    let compressor = match &settings.output {
        Output::Stdout => None,
        Output::File(path) => Some(start_compressor(path.clone(), settings.keep)?),
    };
    std::thread::Builder::new()
        .name("audit-log".into())
        .spawn(move || {
            let mut writer = Writer {
                settings,
                shared,
                target,
                compressor,
                pending: Vec::new(),
                in_file: 0,
                records: 0,
                unsynced: false,
                looked: Instant::now(),
                said: None,
                reported_drops: 0,
                rotation_failed: None,
            };
            writer.run();
            writer.shared.queue.finish();
        })?;
    Ok(())
}

/// Compresses and removes finished files, one after the other, besides the writer. What is left of an earlier run comes first.
fn start_compressor(path: PathBuf, keep: usize) -> io::Result<Sender<()>> {
    let (sender, receiver): (Sender<()>, Receiver<()>) = channel();
    std::thread::Builder::new()
        .name("audit-compress".into())
        .spawn(move || {
            loop {
                if let Err(error) = tidy(&path, keep) {
                    tracing::warn!(path = %path.display(), %error, "finished audit logs could not be compressed or removed; trying again when the next one is finished");
                }
                if receiver.recv().is_err() {
                    return;
                }
            }
        })?;
    Ok(sender)
}

fn open(output: &Output) -> io::Result<LogFile> {
    match output {
        Output::File(path) => LogFile::open(path, Timestamp::now()),
        Output::Stdout => LogFile::stdout(Timestamp::now()),
    }
}

struct Writer {
    settings: Settings,
    shared: Arc<Shared>,
    /// None while the file that was replaced cannot be opened under its name.
    target: Option<LogFile>,
    compressor: Option<Sender<()>>,
    /// Lines that are not all written, from the beginning of a line on.
    pending: Vec<u8>,
    /// Bytes of the first of them that are in the file already.
    in_file: usize,
    /// How many records they are.
    records: u64,
    unsynced: bool,
    looked: Instant,
    /// When the trouble that lasts was said.
    said: Option<Instant>,
    reported_drops: u64,
    rotation_failed: Option<Instant>,
}

impl Writer {
    fn run(&mut self) {
        loop {
            let closed = if self.pending.is_empty() {
                let counters = &self.shared.counters;
                let taken = self.shared.queue.take(BATCH, LOOK, counters);
                if taken.reopen {
                    self.reopen();
                }
                self.pending = taken.lines;
                self.records = taken.records;
                taken.closed
            } else {
                std::thread::sleep(RETRY);
                false
            };
            if self.looked.elapsed() >= LOOK {
                self.look();
            }
            if !self.pending.is_empty() && !self.write() && self.shared.queue.is_closed() {
                self.give_up();
                return;
            }
            if closed && self.pending.is_empty() {
                self.sync();
                return;
            }
            if self.pending.is_empty() && !self.shared.queue.is_closed() {
                std::thread::sleep(GATHER);
            }
        }
    }

    /// Writes what is pending; false when it is not all written.
    fn write(&mut self) -> bool {
        self.rotate_if_due();
        let rest = self.pending.get(self.in_file..).unwrap_or_default();
        let (written, outcome) = match &mut self.target {
            Some(file) => file.write(rest),
            None => (0, Err(io::ErrorKind::NotFound.into())),
        };
        let counters = &self.shared.counters;
        counters.bytes.fetch_add(written as u64, Ordering::Relaxed);
        self.unsynced |= written > 0;
        let reached = self.in_file + written;
        let whole_lines = match outcome {
            Ok(()) => self.pending.len(),
            Err(_) => self
                .pending
                .get(..reached)
                .and_then(|done| done.iter().rposition(|byte| *byte == b'\n'))
                .map_or(0, |newline| newline + 1),
        };
        let lines: u64 = self
            .pending
            .drain(..whole_lines)
            .map(|byte| u64::from(byte == b'\n'))
            .sum();
        self.in_file = reached - whole_lines;
        self.records = self.records.saturating_sub(lines);
        counters.written.fetch_add(lines, Ordering::Relaxed);
        match outcome {
            Ok(()) => {
                self.recovered();
                true
            }
            Err(error) => {
                self.failing(&error);
                false
            }
        }
    }

    /// Once a second: brings the log to the disk, follows a file that was renamed, says what is wrong.
    fn look(&mut self) {
        self.looked = Instant::now();
        let synced = self.sync();
        let asked = self.shared.queue.take_reopen();
        let replaced = self.target.as_mut().is_none_or(LogFile::is_replaced);
        let opened = if asked || replaced {
            self.reopen()
        } else {
            true
        };
        // With nothing to write, these are what shows that the log works again.
        if synced && opened && self.pending.is_empty() {
            self.recovered();
        }
        self.rotate_if_due();
        let drops = self.shared.counters.dropped_total();
        if drops > self.reported_drops && self.may_say() {
            tracing::error!(
                records = drops - self.reported_drops,
                "audit records were dropped"
            );
            self.reported_drops = drops;
        }
    }

    fn rotate_if_due(&mut self) {
        let now = Timestamp::now();
        let Some(file) = &mut self.target else { return };
        let more = self.pending.len().saturating_sub(self.in_file);
        let wait = self.rotation_failed.is_some_and(|at| at.elapsed() < SAY);
        // A line that is half in one file would be half in the next.
        if wait
            || self.in_file > 0
            || !file.is_due(more, self.settings.max_bytes, self.settings.max_age, now)
        {
            return;
        }
        match file.rotate(now) {
            Ok(finished) => {
                self.rotation_failed = None;
                self.unsynced = false;
                self.shared
                    .counters
                    .rotations
                    .fetch_add(1, Ordering::Relaxed);
                tracing::info!(finished = %finished.display(), "audit log begun anew");
                if let Some(compressor) = &self.compressor {
                    let _ = compressor.send(());
                }
            }
            Err(error) => {
                self.rotation_failed = Some(Instant::now());
                tracing::warn!(%error, "the audit log could not be begun anew; it grows");
            }
        }
    }

    /// Opens the file under its name again. The old one may be nobody's any more, so that nothing is written to it when that
    /// fails.
    fn reopen(&mut self) -> bool {
        self.sync();
        match open(&self.settings.output) {
            Ok(target) => {
                self.target = Some(target);
                // The line that broke off in the old file is whole in the new one.
                self.in_file = 0;
                self.unsynced = false;
                true
            }
            Err(error) => {
                self.target = None;
                self.failing(&error);
                false
            }
        }
    }

    /// Brings what was written to the disk; false when that fails.
    fn sync(&mut self) -> bool {
        if !self.unsynced {
            return true;
        }
        match self.target.as_ref().map_or(Ok(()), LogFile::sync) {
            Ok(()) => {
                self.unsynced = false;
                true
            }
            Err(error) => {
                self.failing(&error);
                false
            }
        }
    }

    fn failing(&mut self, error: &io::Error) {
        self.shared.set_health(Health::Failing {
            reason: error.to_string(),
        });
        if self.may_say() {
            tracing::error!(%error, waiting = self.records, "the audit log cannot be written; trying again");
        }
    }

    fn recovered(&mut self) {
        let was = self.shared.set_health(Health::Good);
        if was != Health::Good {
            self.said = None;
            tracing::info!("the audit log can be written again");
        }
    }

    fn may_say(&mut self) -> bool {
        let may = self.said.is_none_or(|at| at.elapsed() >= SAY);
        if may {
            self.said = Some(Instant::now());
        }
        may
    }

    /// The process stops and the log cannot be written.
    fn give_up(&mut self) {
        let mut lost = self.records;
        let counters = &self.shared.counters;
        loop {
            let taken = self.shared.queue.take(BATCH, Duration::ZERO, counters);
            lost += taken.records;
            if taken.records == 0 {
                break;
            }
        }
        counters.drop_records(DropReason::Unwritten, lost);
        tracing::error!(
            records = lost,
            "audit records are lost: the log could not be written until the process stopped"
        );
    }
}

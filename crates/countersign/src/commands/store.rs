//! `countersign store`: everything in a store as one file, back from it, and from one store to another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use countersign_store::RootKey;
use countersign_store::backup::{
    BackupError, BackupFile, Header, Pages, RestoreError, Restored, Summary, export, pages_of,
    restore, write,
};
use jiff::Timestamp;
use serde::Serialize;

use super::local::{LocalArgs, StoreUrl, failed, open_store, open_target, server_of};
use super::settings;
use crate::exit::Exit;
use crate::output::{OutputFormat, pairs};
use crate::report::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Write everything in the store, as it is at one moment, into one file. The server may run meanwhile.
    Backup(BackupArgs),
    /// Make a store hold what a backup holds. No server may run on it.
    Restore(RestoreArgs),
    /// Print the records in a form that is the same for equal content, whatever the store.
    Export(ExportArgs),
    /// Copy one store into another, read it back and compare. No server may run on either.
    Migrate(MigrateArgs),
    /// Check that a backup is whole, and say what is in it.
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign store backup --to /backup/countersign-2026-03-14\n  \
    countersign store backup --config /etc/countersign/config.yaml --to /backup/today --overwrite\n\n\
    Secrets in a backup are sealed as they are in the store; what opens them is the root key, which is not in it. Keep both, apart.")]
pub(crate) struct BackupArgs {
    /// The file to write, mode 0600. It appears only when it is whole.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Replace the file if there is one.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    local: LocalArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign store restore --from /backup/today --data-dir /var/lib/countersign\n  \
    countersign store restore --from /backup/today --data-dir /var/lib/countersign --replace\n\n\
    The whole file is checked before anything is written, and the store is read back and compared. A restore that broke off is recognised:\n\
    servers refuse to start on it until it was restored with --replace.")]
pub(crate) struct RestoreArgs {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Delete what the store holds first.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    local: LocalArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign store export --data-dir ./a > a.jsonl\n  \
    diff <(countersign store export --data-dir ./a) <(countersign store export --from backup)\n\n\
    One JSON object a line, by key. Secrets are sealed in it.")]
pub(crate) struct ExportArgs {
    /// Export a backup in the place of a store.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    local: LocalArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    countersign store migrate --from redb:/var/lib/countersign --to etcd://10.0.0.1:2379,10.0.0.2:2379/countersign\n\n\
    Root key and certificates stay where they are: give the servers on the new store the root key of the old one.")]
pub(crate) struct MigrateArgs {
    /// The store to copy: `redb:DIR` or `etcd://HOST:PORT,…/PREFIX`.
    #[arg(long, value_name = "STORE")]
    from: StoreUrl,
    /// The store to fill.
    #[arg(long, value_name = "STORE")]
    to: StoreUrl,
    /// Delete what the target holds first.
    #[arg(long)]
    replace: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  countersign store verify /backup/today")]
pub(crate) struct VerifyArgs {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// What was written or found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<u64>,
    #[serde(flatten)]
    content: &'a Summary,
}

impl Report<'_> {
    fn write(&self, format: OutputFormat, out: &mut dyn Write) -> io::Result<()> {
        format.write(out, self, |out| {
            let mut rows = Vec::new();
            rows.extend(self.file.map(|file| ("file", file.display().to_string())));
            rows.extend(self.created.map(|created| ("taken", created.to_string())));
            rows.extend(
                self.revision
                    .map(|revision| ("revision", revision.to_string())),
            );
            rows.extend(self.deleted.map(|deleted| ("deleted", deleted.to_string())));
            rows.push(("records", self.content.records.to_string()));
            let keys: Vec<&str> = self.content.root_keys.iter().map(String::as_str).collect();
            rows.push((
                "root key",
                if keys.is_empty() {
                    "none is needed".to_owned()
                } else {
                    keys.join(", ")
                },
            ));
            rows.push(("sha256", self.content.content.clone()));
            pairs(out, &rows)
        })
    }

    fn of_backup<'a>(file: &'a Path, header: &Header, content: &'a Summary) -> Report<'a> {
        Report {
            file: Some(file),
            created: Some(header.created),
            revision: Some(header.revision.get()),
            deleted: None,
            content,
        }
    }
}

pub(crate) fn run(command: &StoreCommand, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        StoreCommand::Backup(args) => settings::block_on(backup(args, out))?,
        StoreCommand::Restore(args) => settings::block_on(restore_file(args, out))?,
        StoreCommand::Export(args) => settings::block_on(export_all(args, out))?,
        StoreCommand::Migrate(args) => settings::block_on(migrate(args, out))?,
        StoreCommand::Verify(args) => {
            let file = open_backup(&args.file)?;
            Report::of_backup(&args.file, file.header(), file.summary()).write(args.output, out)?;
        }
    }
    Ok(Exit::Fine)
}

async fn backup(args: &BackupArgs, out: &mut dyn Write) -> Result<(), Failure> {
    if !args.overwrite && args.to.symlink_metadata().is_ok() {
        return Err(
            Failure::usage(anyhow!("`{}` is there already", args.to.display()))
                .hint("name another file, or give `--overwrite`"),
        );
    }
    let temporary = Temporary::beside(&args.to)?;
    take(&args.local, temporary.file()?).await?;
    // What was written is read, so that a backup with this name is one that can be restored.
    let whole = open_backup(&temporary.path)?;
    temporary.rename(&args.to)?;
    Report::of_backup(&args.to, whole.header(), whole.summary()).write(args.output, out)?;
    Ok(())
}

/// Writes a backup of a running server's store, or of one that no server holds, and makes it durable.
async fn take(local: &LocalArgs, file: File) -> Result<(), Failure> {
    let place = local.place()?;
    let server = match &place.store {
        StoreUrl::Redb(directory) => server_of(directory).await?,
        StoreUrl::Etcd(_) | StoreUrl::Configured(_) => None,
    };
    let mut file = tokio::fs::File::from_std(file);
    match server {
        Some(server) => server.backup(&mut file).await.map_err(failed)?,
        None => {
            let store = open_store(&place.store).await?;
            write(&*store, Timestamp::now(), &mut file)
                .await
                .map_err(unreadable)?;
        }
    }
    file.sync_all()
        .await
        .context("could not write the backup")
        .map_err(Failure::unknown)
}

async fn restore_file(args: &RestoreArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let file = open_backup(&args.from)?;
    let place = args.local.place()?;
    let from = format!("`{}`", args.from.display());
    let summary = file.summary().clone();
    let pages = file.pages().map_err(unreadable)?;
    let restored = fill(&place.store, pages, &from, args.replace, summary.records).await?;
    finish(&place.store, &restored, args.output, out)
}

async fn migrate(args: &MigrateArgs, out: &mut dyn Write) -> Result<(), Failure> {
    if args.from.is_spelt_as(&args.to) {
        return Err(Failure::usage(anyhow!("source and target are one store")));
    }
    // Opened as a server opens it: of an embedded store this says that none runs, so that nothing is written behind our back.
    let source = open_store(&args.from).await?;
    let (_, pages) = pages_of(&*source).await.map_err(unreadable)?;
    let restored = fill(&args.to, pages, &args.from.to_string(), args.replace, 0).await?;
    finish(&args.to, &restored, args.output, out)
}

async fn fill(
    target: &StoreUrl,
    pages: Pages,
    from: &str,
    replace: bool,
    expected: u64,
) -> Result<Restored, Failure> {
    let store = open_target(target).await?;
    let progress = Progress::new(expected);
    let restored = restore(pages, &*store, from, replace, Timestamp::now(), &|count| {
        progress.tell(count);
    })
    .await;
    progress.clear();
    restored.map_err(|error| match error {
        RestoreError::NotEmpty { .. }
        | RestoreError::Unfinished
        | RestoreError::NotAlone { .. } => Failure::usage(error),
        RestoreError::Source(source) => unreadable(source),
        other => Failure::unknown(other),
    })
}

/// Says what is there now, and which root key the servers on it need.
fn finish(
    target: &StoreUrl,
    restored: &Restored,
    format: OutputFormat,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let report = Report {
        file: None,
        created: None,
        revision: None,
        deleted: Some(restored.deleted),
        content: &restored.content,
    };
    report.write(format, out)?;
    if let Some(hint) = root_key_hint(target, &restored.content) {
        let _ = writeln!(io::stderr(), "hint: {hint}");
    }
    Ok(())
}

/// Nothing when the root key beside the store is the one that opens it.
fn root_key_hint(target: &StoreUrl, content: &Summary) -> Option<String> {
    if content.root_keys.is_empty() {
        return None;
    }
    let names: Vec<&str> = content.root_keys.iter().map(String::as_str).collect();
    let needed = names.join(", ");
    let StoreUrl::Redb(directory) = target else {
        return Some(format!(
            "the servers on this store need root key {needed}: `rootKeyFile`, or COUNTERSIGN_ROOT_KEY"
        ));
    };
    let path = directory.join("root.key");
    match RootKey::read(&path) {
        Ok(key) if content.root_keys.contains(&key.id()) => None,
        Ok(key) => Some(format!(
            "`{}` is root key {}, and the secrets are sealed with {needed}: put that one there before the server starts",
            path.display(),
            key.id()
        )),
        Err(_) => Some(format!(
            "put root key {needed} at `{}`, or give it by `rootKeyFile` or COUNTERSIGN_ROOT_KEY, before the server starts",
            path.display()
        )),
    }
}

async fn export_all(args: &ExportArgs, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(file) = &args.from {
        return print_records(file, out);
    }
    let place = args.local.place()?;
    let server = match &place.store {
        StoreUrl::Redb(directory) => server_of(directory).await?,
        StoreUrl::Etcd(_) | StoreUrl::Configured(_) => None,
    };
    // Checked before it is printed; it may be larger than memory.
    let temporary = Temporary::beside(&std::env::temp_dir().join("countersign-export"))?;
    let file = temporary.file()?;
    match server {
        Some(_) => {
            take(&args.local, file).await?;
            print_records(&temporary.path, out)
        }
        None => {
            let store = open_store(&place.store).await?;
            let mut file = tokio::fs::File::from_std(file);
            export(&*store, &mut file).await.map_err(unreadable)?;
            io::copy(&mut File::open(&temporary.path)?, out)?;
            Ok(())
        }
    }
}

/// The lines of a whole backup that are its records: all but the first and the last two.
fn print_records(path: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    use std::io::BufRead as _;
    let records = open_backup(path)?.summary().records;
    let mut lines = io::BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line)?;
    for _ in 0..records {
        line.clear();
        lines.read_until(b'\n', &mut line)?;
        out.write_all(&line)?;
    }
    Ok(())
}

fn open_backup(path: &Path) -> Result<BackupFile, Failure> {
    BackupFile::open(path).map_err(|error| {
        Failure::usage(
            anyhow::Error::new(error)
                .context(format!("`{}` cannot be used as a backup", path.display())),
        )
    })
}

fn unreadable(error: BackupError) -> Failure {
    match error {
        BackupError::Load(_) | BackupError::Write(_) => Failure::unknown(error),
        other => Failure::usage(other),
    }
}

/// A file of mode 0600 that goes away unless it gets its name.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn beside(target: &Path) -> Result<Self, Failure> {
        let name = target
            .file_name()
            .ok_or_else(|| Failure::usage(anyhow!("`{}` is no file", target.display())))?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        let tag: [u8; 8] = countersign_store::Random::system().bytes()?;
        temporary.push(format!(".{:016x}", u64::from_le_bytes(tag)));
        Ok(Self {
            path: target.with_file_name(temporary),
        })
    }

    fn file(&self) -> Result<File, Failure> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .with_context(|| format!("could not make `{}`", self.path.display()))
            .map_err(Failure::usage)
    }

    fn rename(self, target: &Path) -> Result<(), Failure> {
        let renamed = || -> io::Result<()> {
            fs::rename(&self.path, target)?;
            let directory = target
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            File::open(directory)?.sync_all()
        };
        renamed()
            .with_context(|| format!("could not write `{}`", target.display()))
            .map_err(Failure::usage)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Counts on a terminal, when it takes longer than a second.
struct Progress {
    expected: u64,
    terminal: bool,
    last: Mutex<Instant>,
}

impl Progress {
    fn new(expected: u64) -> Self {
        Self {
            expected,
            terminal: io::stderr().is_terminal(),
            last: Mutex::new(Instant::now() + Duration::from_millis(800)),
        }
    }

    fn tell(&self, count: u64) {
        if !self.terminal {
            return;
        }
        let Ok(mut last) = self.last.lock() else {
            return;
        };
        if Instant::now() < *last + Duration::from_millis(200) {
            return;
        }
        *last = Instant::now();
        let of = if self.expected > 0 {
            format!(" of {}", self.expected)
        } else {
            String::new()
        };
        let _ = write!(io::stderr(), "\r{count}{of} records");
    }

    fn clear(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r{:40}\r", "");
        }
    }
}

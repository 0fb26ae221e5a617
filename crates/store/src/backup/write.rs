//! Out of a store.

use aws_lc_rs::digest::{Context, SHA256};
use futures::StreamExt;
use jiff::Timestamp;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::BackupError;
use super::format::{
    Content, Header, Summary, checksum_line, header_line, hex, record_line, summary_line,
};
use crate::records::RecordKey;
use crate::{Load, Store};

/// Writes a backup of what the store is at one revision. A page of records is in memory at a time.
///
/// # Errors
/// When the store cannot be read, is itself half restored, or `out` cannot be written.
pub async fn write(
    store: &dyn Store,
    created: Timestamp,
    out: &mut (impl AsyncWrite + Unpin),
) -> Result<(Header, Summary), BackupError> {
    let load = store.load().await?;
    let header = Header {
        created,
        revision: load.revision,
    };
    let mut sink = Sink {
        out,
        sha256: Context::new(&SHA256),
    };
    sink.take(&header_line(&header)).await?;
    let summary = sink.take_records(load).await?;
    sink.take(&summary_line(&summary)).await?;
    let last = checksum_line(&hex(sink.sha256.clone().finish().as_ref()));
    sink.take(&last).await?;
    sink.out.flush().await.map_err(BackupError::Write)?;
    Ok((header, summary))
}

/// Writes the records alone: stores with equal content write equal bytes.
///
/// # Errors
/// As [`write`].
pub async fn export(
    store: &dyn Store,
    out: &mut (impl AsyncWrite + Unpin),
) -> Result<Summary, BackupError> {
    let load = store.load().await?;
    let mut sink = Sink {
        out,
        sha256: Context::new(&SHA256),
    };
    let summary = sink.take_records(load).await?;
    sink.out.flush().await.map_err(BackupError::Write)?;
    Ok(summary)
}

/// Where lines go, with the digest of all of them.
struct Sink<'a, W> {
    out: &'a mut W,
    sha256: Context,
}

impl<W: AsyncWrite + Unpin> Sink<'_, W> {
    async fn take(&mut self, lines: &[u8]) -> Result<(), BackupError> {
        self.sha256.update(lines);
        self.out.write_all(lines).await.map_err(BackupError::Write)
    }

    async fn take_records(&mut self, load: Load) -> Result<Summary, BackupError> {
        let mark = RecordKey::Restore.to_key().ok();
        let mut content = Content::new();
        let mut pages = load.pages;
        let mut lines = Vec::new();
        while let Some(page) = pages.next().await {
            lines.clear();
            for record in page? {
                if Some(&record.key) == mark.as_ref() {
                    return Err(BackupError::UnfinishedRestore);
                }
                let line = record_line(&record.key, &record.value);
                if !content.add(&record.key, &record.value, &line) {
                    return Err(BackupError::Order { key: record.key });
                }
                lines.extend_from_slice(&line);
            }
            self.take(&lines).await?;
        }
        Ok(content.summary())
    }
}

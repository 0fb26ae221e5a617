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
    let mut sha256 = Context::new(&SHA256);
    let first = header_line(&header);
    sha256.update(&first);
    out.write_all(&first).await.map_err(BackupError::Write)?;
    let summary = each_page(load, async |lines: &[u8]| {
        sha256.update(lines);
        out.write_all(lines).await.map_err(BackupError::Write)
    })
    .await?;
    let line = summary_line(&summary);
    sha256.update(&line);
    out.write_all(&line).await.map_err(BackupError::Write)?;
    let last = checksum_line(&hex(sha256.finish().as_ref()));
    out.write_all(&last).await.map_err(BackupError::Write)?;
    out.flush().await.map_err(BackupError::Write)?;
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
    let summary = each_page(load, async |lines: &[u8]| {
        out.write_all(lines).await.map_err(BackupError::Write)
    })
    .await?;
    out.flush().await.map_err(BackupError::Write)?;
    Ok(summary)
}

async fn each_page(
    load: Load,
    mut take: impl AsyncFnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<Summary, BackupError> {
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
        take(&lines).await?;
    }
    Ok(content.summary())
}

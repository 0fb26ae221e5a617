//! A backup on disk.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::Path;

use futures::stream;

use super::format::{Header, Reader, Summary};
use super::{BackupError, Pages};

const PAGE_RECORDS: usize = 512;
const PAGE_BYTES: usize = 1 << 20;

/// A backup that was read to its end and found whole. Only [`open`](Self::open) makes one.
#[derive(Debug)]
pub struct BackupFile {
    file: File,
    header: Header,
    summary: Summary,
}

impl BackupFile {
    /// Opens a backup and checks all of it. Blocks for as long as reading it takes.
    ///
    /// # Errors
    /// When it cannot be read, is no backup, is cut off or damaged.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(BackupError::Read)?;
        let (header, mut reader) = Reader::new(BufReader::with_capacity(1 << 16, &file))?;
        while reader.next_record()?.is_some() {}
        let summary = reader.summary().cloned().ok_or(BackupError::Changed)?;
        Ok(Self {
            file,
            header,
            summary,
        })
    }

    /// What it is of.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What is in it.
    #[must_use]
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Its records from the first on, checked once more, so that a file that is changed meanwhile is noticed.
    ///
    /// # Errors
    /// When the file cannot be read again.
    pub fn pages(mut self) -> Result<Pages, BackupError> {
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(BackupError::Read)?;
        let (header, reader) = Reader::new(BufReader::with_capacity(1 << 16, self.file))?;
        if header != self.header {
            return Err(BackupError::Changed);
        }
        let state = Some((reader, self.summary));
        Ok(Box::pin(stream::unfold(state, async |state| {
            let (reader, expected) = state?;
            // Files are read on threads that may wait.
            let read = tokio::task::spawn_blocking(move || next_page(reader, &expected))
                .await
                .unwrap_or(Err(BackupError::Changed));
            match read {
                Ok((page, _, _)) if page.is_empty() => None,
                Ok((page, reader, expected)) => Some((Ok(page), Some((reader, expected)))),
                Err(error) => Some((Err(error), None)),
            }
        })))
    }
}

type Page = Vec<(crate::Key, crate::Value)>;

fn next_page(
    mut reader: Reader<BufReader<File>>,
    expected: &Summary,
) -> Result<(Page, Reader<BufReader<File>>, Summary), BackupError> {
    let mut page = Vec::new();
    let mut bytes = 0_usize;
    while page.len() < PAGE_RECORDS && bytes < PAGE_BYTES {
        let Some((key, value)) = reader.next_record()? else {
            if reader.summary() != Some(expected) {
                return Err(BackupError::Changed);
            }
            break;
        };
        bytes = bytes.saturating_add(value.len());
        page.push((key, value));
    }
    Ok((page, reader, expected.clone()))
}

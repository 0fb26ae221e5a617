//! Into a store: all of it, or recognisably not.

use std::collections::VecDeque;

use futures::stream::{BoxStream, FuturesUnordered};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::format::{Content, Summary, record_line};
use super::{BackupError, RestoreError};
use crate::records::{RecordKey, RestoreMark};
use crate::transaction::limits;
use crate::{CommitError, Key, LoadError, Revision, Store, Transaction, Value};

/// Records in the order of their keys; an error is the last item.
pub type Pages = BoxStream<'static, Result<Vec<(Key, Value)>, BackupError>>;

/// Transactions under way at once: enough that an embedded store commits several with one `fsync`.
const AT_ONCE: usize = 8;

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What is in the target now, as it was read back.
    pub content: Summary,
    /// How many records were there before.
    pub deleted: u64,
}

/// The records of a store at one revision, for [`restore`] into another.
///
/// # Errors
/// When the store cannot be read or is itself half restored; the latter also in the middle.
pub async fn pages_of(store: &dyn Store) -> Result<(Revision, Pages), BackupError> {
    let load = store.load().await?;
    let mark = mark_key()?;
    let pages = load.pages.map(move |page| {
        let page = page?;
        if page.iter().any(|record| record.key == mark) {
            return Err(BackupError::UnfinishedRestore);
        }
        Ok(page
            .into_iter()
            .map(|record| (record.key, record.value))
            .collect())
    });
    Ok((load.revision, Box::pin(pages)))
}

/// Makes `target` hold exactly the records of `source`.
///
/// The target must have no records, or `replace` must be set; then they are deleted first. Nothing else may write to the
/// target meanwhile: every put compares that its record is not there. The first transaction sets a mark, and the last takes
/// it away after everything was read back and compared; a server refuses to start on a store with the mark. So when this
/// fails or is killed in the middle, the target is not taken for whole, and the same call with `replace` repairs it.
///
/// `from` is written into the mark for operators to read. `progress` is told the number of records now and then.
///
/// # Errors
/// See [`RestoreError`], which says whether anything was written.
pub async fn restore(
    source: Pages,
    target: &dyn Store,
    from: &str,
    replace: bool,
    now: Timestamp,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Restored, RestoreError> {
    let mark = mark_key()?;
    let (present, marked) = keys_of(target, &mark).await?;
    if !replace {
        if marked.is_some() {
            return Err(RestoreError::Unfinished);
        }
        if !present.is_empty() {
            return Err(RestoreError::NotEmpty {
                records: present.len() as u64,
            });
        }
    }
    let record = RestoreMark {
        started: now,
        from: from.chars().take(256).collect(),
    };
    let transaction = match marked {
        Some(modified) => Transaction::new().if_unchanged(&mark, modified),
        None => Transaction::new().if_absent(&mark),
    };
    let marked = target
        .commit(transaction.put(&mark, record.encode()))
        .await?;

    let deletions = present.chunks(limits::OPERATIONS).map(|keys| {
        Ok::<_, RestoreError>(keys.iter().fold(Transaction::new(), |transaction, key| {
            transaction.delete(key)
        }))
    });
    commit_all(target, futures::stream::iter(deletions).boxed()).await?;

    let mut sent = Content::new();
    let puts = transactions(source, &mut sent, progress);
    commit_all(target, puts).await?;
    let sent = sent.summary();

    let found = content_of(target, &mark).await?;
    if found != sent {
        return Err(RestoreError::NotTheSame);
    }
    let unmark = Transaction::new().if_unchanged(&mark, marked).delete(&mark);
    target.commit(unmark).await?;
    Ok(Restored {
        content: found,
        deleted: present.len() as u64,
    })
}

fn mark_key() -> Result<Key, BackupError> {
    RecordKey::Restore.to_key().map_err(|_| {
        BackupError::Load(LoadError::Damaged {
            what: "the key of the mark".into(),
        })
    })
}

/// All keys but the mark's, and the revision of the mark.
async fn keys_of(store: &dyn Store, mark: &Key) -> Result<(Vec<Key>, Option<Revision>), LoadError> {
    let mut pages = store.load().await?.pages;
    let (mut keys, mut marked) = (Vec::new(), None);
    while let Some(page) = pages.next().await {
        for record in page? {
            if record.key == *mark {
                marked = Some(record.modified);
            } else {
                keys.push(record.key);
            }
        }
    }
    Ok((keys, marked))
}

/// What the store holds besides the mark.
async fn content_of(store: &dyn Store, mark: &Key) -> Result<Summary, RestoreError> {
    let mut pages = store.load().await?.pages;
    let mut content = Content::new();
    while let Some(page) = pages.next().await {
        for record in page? {
            if record.key == *mark {
                continue;
            }
            let line = record_line(&record.key, &record.value);
            if !content.add(&record.key, &record.value, &line) {
                return Err(BackupError::Order { key: record.key }.into());
            }
        }
    }
    Ok(content.summary())
}

type Transactions<'a> = BoxStream<'a, Result<Transaction, RestoreError>>;

/// Puts within the limits of a transaction, each with the condition that the record is not there.
fn transactions<'a>(
    source: Pages,
    sent: &'a mut Content,
    progress: &'a (dyn Fn(u64) + Sync),
) -> Transactions<'a> {
    let mut count = 0_u64;
    source
        .map(move |page| {
            let page = page?;
            let mut made: VecDeque<Result<Transaction, RestoreError>> = VecDeque::new();
            let (mut current, mut bytes) = (Transaction::new(), 0_usize);
            for (key, value) in page {
                if !sent.add(&key, &value, &record_line(&key, &value)) {
                    return Err(BackupError::Order { key }.into());
                }
                count = count.saturating_add(1);
                // The key counts twice: it is compared and written.
                let more = value.len().saturating_add(2 * key.as_str().len());
                let full = current.operations().len() >= limits::OPERATIONS
                    || bytes.saturating_add(more) > limits::TRANSACTION_BYTES;
                if full {
                    made.push_back(Ok(std::mem::take(&mut current)));
                    bytes = 0;
                }
                current = current.if_absent(&key).put(&key, value);
                bytes = bytes.saturating_add(more);
            }
            if !current.operations().is_empty() {
                made.push_back(Ok(current));
            }
            progress(count);
            Ok::<_, RestoreError>(futures::stream::iter(made))
        })
        .try_flatten()
        .boxed()
}

/// Commits a few at once. After an error those under way are waited for, so that none of them comes late.
async fn commit_all(
    store: &dyn Store,
    mut transactions: Transactions<'_>,
) -> Result<(), RestoreError> {
    let mut under_way = FuturesUnordered::new();
    let mut failed: Option<RestoreError> = None;
    let mut keep = |answer: Result<Revision, CommitError>| {
        if let Err(error) = answer {
            failed.get_or_insert(error.into());
        }
        failed.is_none()
    };
    let mut ended = Ok(());
    while let Some(transaction) = transactions.next().await {
        match transaction {
            Ok(transaction) => under_way.push(store.commit(transaction)),
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
        if under_way.len() >= AT_ONCE
            && let Some(answer) = under_way.next().await
            && !keep(answer)
        {
            break;
        }
    }
    while let Some(answer) = under_way.next().await {
        keep(answer);
    }
    match failed {
        Some(error) => Err(error),
        None => ended,
    }
}

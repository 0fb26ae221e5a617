//! Reading everything, page after page, at one revision.

use std::sync::Arc;

use etcd_client::GetOptions;
use futures::stream;

use super::connection::{Connections, number, revision};
use super::failure::{Failure, Fate};
use super::layout::Named;
use crate::{Load, LoadError, Record, Revision, Value};

/// Records of one page; fewer when they are large.
const PAGE_RECORDS: i64 = 1024;

struct Reader {
    connections: Arc<Connections>,
    at: Revision,
    cluster: u64,
    next: Vec<u8>,
    end: Vec<u8>,
    limit: i64,
    foreign: u64,
    finished: bool,
}

pub(super) async fn load(connections: &Arc<Connections>) -> Result<Load, LoadError> {
    let asked = connections
        .read(|connected| async move { connections.place(&connected, None).await })
        .await;
    let place = asked.map_err(|failure| {
        connections.lost();
        LoadError::Unavailable(failure.source)
    })?;
    connections.lineage.adopt(&place);
    connections.answered();
    let (next, end) = connections.layout.records("");
    let reader = Reader {
        connections: Arc::clone(connections),
        at: place.revision,
        cluster: place.cluster,
        next,
        end,
        limit: PAGE_RECORDS,
        foreign: 0,
        finished: false,
    };
    let pages = stream::unfold(reader, |mut reader| async move {
        let page = reader.page().await?;
        Some((page, reader))
    });
    Ok(Load {
        revision: place.revision,
        pages: Box::pin(pages),
    })
}

impl Reader {
    async fn page(&mut self) -> Option<Result<Vec<Record>, LoadError>> {
        while !self.finished {
            match self.read().await {
                Ok(page) if page.is_empty() => {}
                Ok(page) => return Some(Ok(page)),
                Err(failure) if failure.fate == Fate::TooLarge && self.limit > 1 => {
                    self.limit /= 4;
                    self.limit = self.limit.max(1);
                }
                Err(failure) => {
                    self.finished = true;
                    return Some(Err(match failure.fate {
                        // The view is gone, or the etcd that it was a view of.
                        Fate::Compacted | Fate::Future => LoadError::Superseded { at: self.at },
                        _ => LoadError::Unavailable(failure.source),
                    }));
                }
            }
        }
        if self.foreign > 0 {
            tracing::warn!(
                count = self.foreign,
                prefix = self.connections.options.prefix,
                "keys below the prefix of the store are nobody's records, and are ignored"
            );
            self.foreign = 0;
        }
        None
    }

    async fn read(&mut self) -> Result<Vec<Record>, Failure> {
        let options = GetOptions::new()
            .with_range(self.end.clone())
            .with_revision(number(self.at))
            .with_limit(self.limit);
        let (connections, next, options) = (&self.connections, &self.next, &options);
        let (mut answer, nonsense) = connections
            .read(|connected| async move {
                let mut kv = connected.kv();
                let request = kv.get(next.clone(), Some(options.clone()));
                let answer = connected
                    .within(connections.options.request_timeout, request)
                    .await?;
                Ok((answer.0, connected.nonsense()))
            })
            .await?;
        if answer
            .header
            .is_none_or(|header| header.cluster_id != self.cluster)
        {
            return Err(Failure {
                fate: Fate::Future,
                ..nonsense
            });
        }
        match answer.kvs.last() {
            Some(last) if answer.more => {
                self.next.clone_from(&last.key);
                self.next.push(0);
            }
            _ => self.finished = true,
        }
        let kvs = std::mem::take(&mut answer.kvs);
        let mut page = Vec::with_capacity(kvs.len());
        for kv in kvs {
            match self.connections.layout.named(&kv.key) {
                Named::Record(key) => page.push(Record {
                    key,
                    value: Value::from(kv.value),
                    modified: revision(kv.mod_revision),
                }),
                Named::Head | Named::Foreign => self.foreign = self.foreign.saturating_add(1),
            }
        }
        Ok(page)
    }
}

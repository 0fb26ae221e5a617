//! A transaction of ours as one of etcd's, and etcd's answer as ours.

use etcd_client::proto::{PbKeyValue, PbTxnOpResponse, PbTxnResponse};
use etcd_client::{Compare as Condition, CompareOp, GetOptions, SortOrder, SortTarget, Txn, TxnOp};

use super::connection::{Connections, number, revision};
use super::failure::{Cause, Failure, Fate};
use super::layout::{Head, Layout};
use crate::{CommitError, Compare, Key, Operation, Random, Revision, Transaction};

/// How often a transaction of deletions is looked at anew because what it deletes comes and goes.
const ATTEMPTS: usize = 8;
/// A modification revision that no record has.
const NEVER: i64 = -1;

/// What etcd made of a transaction.
#[derive(Debug, PartialEq, Eq)]
enum Outcome<T> {
    /// The compares held.
    Held(T),
    Conflict {
        key: Key,
        revision: Revision,
    },
    /// All compares hold, only the record that was to be deleted is gone.
    Vanished,
}

/// Sends the transaction.
pub(super) async fn commit(
    connections: &Connections,
    random: &Random,
    transaction: &Transaction,
) -> Result<Revision, CommitError> {
    transaction.check()?;
    connections
        .admit()
        .await
        .map_err(|failure| CommitError::Unavailable(failure.source))?;
    let layout = &connections.layout;
    let mut existing = None;
    for _ in 0..ATTEMPTS {
        if !has_effect(transaction) {
            // Only deletions, perhaps of nothing. To move the head for nothing would be a change, so it is looked at first.
            let answer = send(connections, look(layout, transaction)).await?;
            existing = match seen(transaction, &answer).ok_or_else(nonsense)? {
                Outcome::Held((revision, None)) => return Ok(revision),
                Outcome::Held((_, existing)) => existing,
                Outcome::Conflict { key, revision } => {
                    return Err(CommitError::Conflict { key, revision });
                }
                Outcome::Vanished => continue,
            };
        }
        let head = head(connections, random)?;
        let answer = send(
            connections,
            write(layout, transaction, existing.as_deref(), &head),
        )
        .await?;
        match done(transaction, &answer).ok_or_else(nonsense)? {
            Outcome::Held(revision) => return Ok(revision),
            Outcome::Conflict { key, revision } => {
                return Err(CommitError::Conflict { key, revision });
            }
            Outcome::Vanished => {}
        }
    }
    Err(CommitError::Unavailable(Box::new(Cause::Contended)))
}

/// Asks one member after the other, as long as it is certain that none has done it.
async fn send(connections: &Connections, txn: Txn) -> Result<PbTxnResponse, CommitError> {
    let limit = connections.options.request_timeout;
    let mut last = None;
    for _ in 0..=connections.members() {
        let failure = match connections.client().await {
            Err(failure) => failure,
            Ok(connected) => {
                let mut kv = connected.kv();
                match connected.within(limit, kv.txn(txn.clone())).await {
                    Ok(answer) => return Ok(answer.0),
                    Err(failure) => {
                        connections.failed(&connected, failure.fate);
                        failure
                    }
                }
            }
        };
        match failure.fate {
            Fate::NotDone | Fate::TokenStale => last = Some(failure),
            // It did not like the transaction; that says nothing about whether it answers.
            Fate::Refused | Fate::Compacted | Fate::Future => {
                return Err(CommitError::Unavailable(failure.source));
            }
            Fate::Unknown | Fate::TooLarge => {
                connections.lost();
                return Err(CommitError::Indeterminate(failure.source));
            }
        }
    }
    connections.lost();
    let failure = last.unwrap_or_else(|| Failure::new(Fate::NotDone, Cause::Contended));
    Err(CommitError::Unavailable(failure.source))
}

fn head(connections: &Connections, random: &Random) -> Result<Vec<u8>, CommitError> {
    let nonce = random
        .bytes()
        .map_err(|error| CommitError::Unavailable(Box::new(error)))?;
    Ok(Head::value(nonce, (connections.options.clock)()))
}

fn nonsense() -> CommitError {
    CommitError::Indeterminate(Box::new(Cause::Nonsense {
        endpoint: "the member that answered".to_owned(),
    }))
}

/// Whether the transaction changes something if its compares hold: it puts, or it deletes what it demands to be there.
fn has_effect(transaction: &Transaction) -> bool {
    transaction
        .operations()
        .iter()
        .any(|operation| match operation {
            Operation::Put(..) => true,
            Operation::Delete(key) => transaction
                .compares()
                .iter()
                .any(|compare| matches!(compare, Compare::Unchanged(at, _) if at == key)),
        })
}

/// The compares, and in the case that one fails, what is needed to say which.
fn conditions(layout: &Layout, transaction: &Transaction) -> (Vec<Condition>, Vec<TxnOp>) {
    let mut conditions = Vec::with_capacity(transaction.compares().len().saturating_add(1));
    let mut otherwise = Vec::with_capacity(transaction.compares().len().saturating_add(1));
    let keys_only = GetOptions::new().with_keys_only();
    for compare in transaction.compares() {
        match compare {
            Compare::Absent(key) => {
                let key = layout.record(key);
                conditions.push(Condition::create_revision(key.clone(), CompareOp::Equal, 0));
                otherwise.push(TxnOp::get(key, Some(keys_only.clone())));
            }
            Compare::Unchanged(key, at) => {
                let key = layout.record(key);
                // To etcd, what is not there was modified at revision 0.
                let at = Some(*at).filter(|at| *at > Revision::ZERO);
                let at = at.map_or(NEVER, number);
                conditions.push(Condition::mod_revision(key.clone(), CompareOp::Equal, at));
                otherwise.push(TxnOp::get(key, Some(keys_only.clone())));
            }
            Compare::PrefixUntouched { prefix, since } => {
                let (from, end) = layout.records(prefix.as_str());
                let last = keys_only
                    .clone()
                    .with_range(end.clone())
                    .with_sort(SortTarget::Mod, SortOrder::Descend)
                    .with_limit(1);
                let after = number(since.next());
                conditions.push(
                    Condition::mod_revision(from.clone(), CompareOp::Less, after).with_range(end),
                );
                otherwise.push(TxnOp::get(from, Some(last)));
            }
        }
    }
    otherwise.push(TxnOp::get(layout.head(), Some(keys_only)));
    (conditions, otherwise)
}

/// Does it. With `existing`, only if that key, one of those to be deleted, is there.
fn write(layout: &Layout, transaction: &Transaction, existing: Option<&[u8]>, head: &[u8]) -> Txn {
    let (mut conditions, otherwise) = conditions(layout, transaction);
    conditions.extend(existing.map(|key| Condition::create_revision(key, CompareOp::Greater, 0)));
    let mut writes: Vec<TxnOp> = transaction
        .operations()
        .iter()
        .map(|operation| match operation {
            Operation::Put(key, value) => TxnOp::put(layout.record(key), &**value, None),
            Operation::Delete(key) => TxnOp::delete(layout.record(key), None),
        })
        .collect();
    writes.push(TxnOp::put(layout.head(), head, None));
    Txn::new()
        .when(conditions)
        .and_then(writes)
        .or_else(otherwise)
}

/// Looks which of the records to be deleted are there.
fn look(layout: &Layout, transaction: &Transaction) -> Txn {
    let (conditions, otherwise) = conditions(layout, transaction);
    let keys_only = GetOptions::new().with_keys_only();
    let mut looks: Vec<TxnOp> = transaction
        .operations()
        .iter()
        .map(|operation| TxnOp::get(layout.record(operation.key()), Some(keys_only.clone())))
        .collect();
    looks.push(TxnOp::get(layout.head(), Some(keys_only)));
    Txn::new()
        .when(conditions)
        .and_then(looks)
        .or_else(otherwise)
}

/// What the answer to [`write`] says; `None` if it is no answer to it.
fn done(transaction: &Transaction, answer: &PbTxnResponse) -> Option<Outcome<Revision>> {
    if answer.succeeded {
        return Some(Outcome::Held(revision(answer.header.as_ref()?.revision)));
    }
    failed(transaction, answer)
}

/// What the answer to [`look`] says: the revision of our last transaction, and one of the records that are there.
fn seen(
    transaction: &Transaction,
    answer: &PbTxnResponse,
) -> Option<Outcome<(Revision, Option<Vec<u8>>)>> {
    if !answer.succeeded {
        return failed(transaction, answer);
    }
    let (at, found) = found(answer, transaction.operations().len())?;
    let existing = found.into_iter().flatten().next();
    Some(Outcome::Held((at, existing.map(|kv| kv.key.clone()))))
}

/// The first compare that failed.
///
/// Its revision is not etcd's, which neighbours move, but the last one of ours: a reader who has seen that has seen why.
fn failed<T>(transaction: &Transaction, answer: &PbTxnResponse) -> Option<Outcome<T>> {
    let (at, found) = found(answer, transaction.compares().len())?;
    for (compare, found) in transaction.compares().iter().zip(found) {
        let modified = found.map(|kv| revision(kv.mod_revision));
        let holds = match compare {
            Compare::Absent(_) => modified.is_none(),
            Compare::Unchanged(_, at) => modified == Some(*at),
            Compare::PrefixUntouched { since, .. } => {
                modified.is_none_or(|modified| modified <= *since)
            }
        };
        if !holds {
            return Some(Outcome::Conflict {
                key: compare.key().clone(),
                // Somebody else may have written the record, past the head.
                revision: at.max(modified.unwrap_or(at)),
            });
        }
    }
    Some(Outcome::Vanished)
}

/// The first record of each of `count` reads, and the revision of the head, which is read last.
fn found(answer: &PbTxnResponse, count: usize) -> Option<(Revision, Vec<Option<&PbKeyValue>>)> {
    let mut found = Vec::with_capacity(answer.responses.len());
    for response in &answer.responses {
        match response.response.as_ref()? {
            PbTxnOpResponse::ResponseRange(range) => found.push(range.kvs.first()),
            _ => return None,
        }
    }
    let head = found.pop()?;
    let at = head.map_or(Revision::ZERO, |head| revision(head.mod_revision));
    (found.len() == count).then_some((at, found))
}

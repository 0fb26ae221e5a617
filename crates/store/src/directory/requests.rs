//! Requests that are done once however often they arrive (EKS API spec, section 1.6).

use jiff::Timestamp;

use super::{Directory, DirectoryError, readable};
use crate::records::{AnsweredRequest, InvalidField, RecordKey, RequestToken, check_region};
use crate::{DirectorySnapshot, Transaction};

/// Answers that one new one takes along when they are old or too many.
const REMOVED_AT_ONCE: usize = 16;

/// What makes a write one that is done once.
#[derive(Clone, Copy)]
pub struct Once<'a, T> {
    /// What the request came with.
    pub token: &'a RequestToken,
    /// Makes the answer that is kept from what was done. Called before the write is durable, and again when it is planned
    /// again.
    pub answer: &'a (dyn Fn(&T) -> Vec<u8> + Sync),
}

impl<T> std::fmt::Debug for Once<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Once")
            .field("token", self.token)
            .finish_non_exhaustive()
    }
}

/// What became of a write that is done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It was done now.
    Done(T),
    /// It was done before, and this is what was answered.
    Repeated(Box<[u8]>),
}

impl<T> Outcome<T> {
    /// What was done, if it was done now.
    #[must_use]
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(done) => Some(done),
            Self::Repeated(_) => None,
        }
    }
}

impl Directory {
    /// As [`write`](Self::write), and remembers the answer for the request's token. A token that was used before with the
    /// same parameters changes nothing.
    pub(super) async fn write_once<T>(
        &self,
        once: Option<&Once<'_, T>>,
        now: Timestamp,
        mut plan: impl FnMut(&DirectorySnapshot) -> Result<(Transaction, T), DirectoryError>,
    ) -> Result<Outcome<T>, DirectoryError> {
        let Some(Once { token, answer }) = once else {
            return self.write(plan).await.map(Outcome::Done);
        };
        if !(1..=128).contains(&token.token.chars().count()) {
            return Err(DirectoryError::Invalid(InvalidField {
                field: "clientRequestToken",
                expected: "1 to 128 characters",
            }));
        }
        check_region(&token.region)?;
        let digest = token.digest();
        let limit = self.0.quotas.request_tokens_per_account;
        self.write(|snapshot| {
            let key = readable(
                snapshot,
                RecordKey::RequestToken {
                    account: token.account,
                    region: &token.region,
                    operation: &token.operation,
                    token: &digest,
                },
            )?;
            let known = snapshot.answered_request(&key);
            if let Some(known) = known.filter(|known| !known.record.is_over(now)) {
                if *known.record.parameters != token.parameters {
                    return Err(DirectoryError::TokenReused);
                }
                let answer = known.record.answer.clone();
                return Ok((Transaction::new(), Outcome::Repeated(answer)));
            }
            let (transaction, done) = plan(snapshot)?;
            let mut transaction = match known {
                Some(known) => transaction.if_unchanged(&key, known.modified),
                None => transaction.if_absent(&key),
            };
            let requests = snapshot.answered_requests(token.account);
            let surplus = requests.len().saturating_add(1).saturating_sub(limit);
            for (index, (_, old)) in requests.enumerate().take(REMOVED_AT_ONCE) {
                let Some(entry) = snapshot.answered_request(old) else {
                    continue;
                };
                if *old != key && (index < surplus || entry.record.is_over(now)) {
                    transaction = transaction.if_unchanged(old, entry.modified).delete(old);
                }
            }
            let record = AnsweredRequest {
                account: token.account,
                region: token.region.clone(),
                operation: token.operation.clone(),
                token: digest.as_str().into(),
                parameters: token.parameters.into(),
                answer: answer(&done).into(),
                created: now,
            };
            let transaction = transaction.put(&key, record.encode());
            Ok((transaction, Outcome::Done(done)))
        })
        .await
    }
}

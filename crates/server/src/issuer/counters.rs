//! What happened, as numbers for metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counters since the start. Their labels are ARNs and issuers of clusters of the directory, and words.
#[derive(Debug, Default)]
pub(crate) struct IssuerCounters {
    documents: Counted,
    pulls: Counted,
    stale_keys: Counted,
    stale_bound: Counted,
    not_alive: Counted,
}

/// By cluster or issuer, and words.
type Labels = (Box<str>, &'static str, &'static str);

#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<BTreeMap<Labels, u64>>);

impl Counted {
    fn add(&self, cluster: &str, first: &'static str, second: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((cluster.into(), first, second)).or_default();
        *count = count.saturating_add(1);
    }

    /// The counts, in the order of their labels.
    pub(crate) fn all(&self) -> Vec<(Labels, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|(labels, count)| (labels.clone(), *count))
            .collect()
    }
}

impl IssuerCounters {
    pub(super) fn document(&self, cluster: &str, document: &'static str, code: &'static str) {
        self.documents.add(cluster, document, code);
    }

    pub(super) fn pulled(&self, issuer: &str, result: &'static str) {
        self.pulls.add(issuer, result, "");
    }

    pub(super) fn stale_keys(&self, issuer: &str) {
        self.stale_keys.add(issuer, "", "");
    }

    pub(super) fn stale_bound(&self, cluster: &str) {
        self.stale_bound.add(cluster, "", "");
    }

    pub(super) fn not_alive(&self, cluster: &str, what: &'static str) {
        self.not_alive.add(cluster, what, "");
    }

    /// Requests for documents: cluster, document, status.
    pub(crate) const fn documents(&self) -> &Counted {
        &self.documents
    }

    /// Pulls from API servers: issuer, result.
    pub(crate) const fn pulls(&self) -> &Counted {
        &self.pulls
    }

    /// Tokens verified by keys that the API server did not confirm lately: issuer.
    pub(crate) const fn stale(&self) -> &Counted {
        &self.stale_keys
    }

    /// Tokens taken for alive by what the API server said before it went away: cluster.
    pub(crate) const fn bound_from_memory(&self) -> &Counted {
        &self.stale_bound
    }

    /// Tokens whose pod or account is gone, or not known to be there: cluster, which.
    pub(crate) const fn not_bound(&self) -> &Counted {
        &self.not_alive
    }
}

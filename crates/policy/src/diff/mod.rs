//! Comparing two policies: does the new one allow more, less, or both (policy language spec, section 13.5).
//!
//! What one document allows is cut into pieces, one per action and resource entry of each statement. A piece that the other document
//! covers by its form needs no more; for any other a request is looked for that only one of the two allows, and the engine itself confirms it
//! before it is shown. A piece for which neither succeeds is reported as such, never left out.

mod region;
mod render;
mod sample;

use serde::Serialize;

pub use render::{render_json, render_text};

use crate::compiled::PolicyKind;
use crate::document::{Document, DocumentError, Effect};
use crate::evaluate::Outcome;
use crate::lint::guess_kind;
use crate::text::Position;
use region::{Region, covers, may_overlap, regions};

/// How a second policy compares to a first.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// What kind of policy both were read as.
    pub kind: PolicyKind,
    /// The verdict.
    pub verdict: Verdict,
    /// What the second allows and the first does not.
    pub wider: Vec<Change>,
    /// What the first allows and the second does not.
    pub narrower: Vec<Change>,
}

/// The verdict of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Both allow the same.
    Same,
    /// The second allows more and nothing less.
    Wider,
    /// The second allows less and nothing more.
    Narrower,
    /// The second allows some things more and some less.
    Different,
    /// The second may allow more: inclusion could not be shown, and no request was found that tells the two apart.
    Undecided,
}

/// One piece that differs, or that could not be shown not to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Why this piece is looked at.
    pub reason: Reason,
    /// The action entry, as written; `NotAction [...]` for that element.
    pub action: String,
    /// The resource entry, likewise; absent in trust policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Which statement: of the document that allows it, or that stopped denying it.
    pub statement: usize,
    /// Its `Sid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Where it begins.
    pub start: Position,
    /// A request that the engine allows under one document and not under the other; `None` when none was found.
    pub witness: Option<Witness>,
}

/// Why a piece is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// An Allow that the other document does not cover.
    Allow,
    /// A Deny that the other document does not repeat.
    MissingDeny,
}

/// A request that tells two policies apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Witness {
    /// Who asks.
    pub principal: String,
    /// For what.
    pub action: String,
    /// On what.
    pub resource: String,
    /// Under which circumstances.
    pub context: serde_json::Map<String, serde_json::Value>,
    /// What the first document answers.
    pub first: Outcome,
    /// What the second answers.
    pub second: Outcome,
}

/// Compares two documents, `kind` as said or as guessed from their looks.
///
/// # Errors
/// When one of them cannot be read; the number says which, 1 or 2.
pub fn diff(
    first: &str,
    second: &str,
    kind: Option<PolicyKind>,
) -> Result<Comparison, (u8, DocumentError)> {
    let first = Document::parse(first).map_err(|error| (1, error))?;
    let second = Document::parse(second).map_err(|error| (2, error))?;
    Ok(compare(&first, &second, kind))
}

/// As [`diff`], for documents that were read already.
#[must_use]
pub fn compare(first: &Document, second: &Document, kind: Option<PolicyKind>) -> Comparison {
    let kind = kind.unwrap_or_else(|| guess_kind(second));
    let samples = sample::Samples::collect(first, second, kind);
    let narrower: Vec<Change> = more(second, first, kind, &samples)
        .into_iter()
        .map(Change::turned)
        .collect();
    let wider = more(first, second, kind, &samples);
    Comparison {
        kind,
        verdict: verdict(&wider, &narrower),
        wider,
        narrower,
    }
}

impl Comparison {
    /// Whether the second document is shown to allow nothing that the first does not: the check that a pipeline asks for.
    #[must_use]
    pub fn has_no_new_access(&self) -> bool {
        self.wider.is_empty()
    }
}

impl Change {
    fn turned(mut self) -> Self {
        if let Some(witness) = &mut self.witness {
            std::mem::swap(&mut witness.first, &mut witness.second);
        }
        self
    }
}

fn verdict(wider: &[Change], narrower: &[Change]) -> Verdict {
    let shown = |changes: &[Change]| changes.iter().any(|change| change.witness.is_some());
    match (shown(wider), shown(narrower)) {
        (true, true) => Verdict::Different,
        (true, false) if narrower.is_empty() => Verdict::Wider,
        (false, true) if wider.is_empty() => Verdict::Narrower,
        // One direction is shown and the other is open.
        (true, false) | (false, true) => Verdict::Different,
        (false, false) if wider.is_empty() && narrower.is_empty() => Verdict::Same,
        (false, false) => Verdict::Undecided,
    }
}

/// What `after` allows and `before` does not.
fn more(
    before: &Document,
    after: &Document,
    kind: PolicyKind,
    samples: &sample::Samples,
) -> Vec<Change> {
    let allowed_before = regions(before, Effect::Allow);
    let allowed_after = regions(after, Effect::Allow);
    let denied_before = regions(before, Effect::Deny);
    let denied_after = regions(after, Effect::Deny);
    let mut changes = Vec::new();
    for region in &allowed_after {
        if !allowed_before.iter().any(|outer| covers(outer, region)) {
            changes.push(change(
                Reason::Allow,
                region,
                after,
                before,
                after,
                kind,
                samples,
            ));
        }
    }
    for region in &denied_before {
        let repeated = denied_after.iter().any(|outer| covers(outer, region));
        let matters = allowed_after
            .iter()
            .any(|allowed| may_overlap(allowed, region));
        if !repeated && matters {
            changes.push(change(
                Reason::MissingDeny,
                region,
                before,
                before,
                after,
                kind,
                samples,
            ));
        }
    }
    changes
}

fn change(
    reason: Reason,
    region: &Region<'_>,
    owner: &Document,
    before: &Document,
    after: &Document,
    kind: PolicyKind,
    samples: &sample::Samples,
) -> Change {
    Change {
        reason,
        action: region.action_text(),
        resource: region.resource_text(),
        statement: region.index,
        sid: region
            .statement
            .sid
            .as_ref()
            .map(|sid| sid.value.to_string()),
        start: owner.lines().position(region.statement.span.start),
        witness: sample::witness(region, before, after, kind, samples),
    }
}

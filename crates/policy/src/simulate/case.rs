//! One case of a simulate file, read and compiled.

use serde::Serialize;

use crate::context::Context;
use crate::evaluate::{Layer, Outcome, PolicySet};
use crate::request::Principal;
use crate::text::Position;

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its id; `case N` when it has none.
    pub id: String,
    /// What it shows.
    pub name: Option<String>,
    /// What is asked.
    pub request: RequestSpec,
    /// The policies.
    pub policies: PolicySet,
    /// What should come out.
    pub expected: Option<Expected>,
    /// What is odd about the case.
    pub warnings: Vec<Warning>,
}

/// What is asked; with several actions or resources, every combination is.
#[derive(Debug, Clone)]
pub struct RequestSpec {
    /// Who.
    pub principal: Principal,
    /// The actions.
    pub actions: Vec<String>,
    /// The resources.
    pub resources: Vec<String>,
    /// The account that owns the resources, if it is said.
    pub resource_account: Option<String>,
    /// Whether the action has no resource, if it is said.
    pub wildcard_only_action: Option<bool>,
    /// The condition keys.
    pub context: Context<'static>,
}

/// What a case expects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// The answer.
    pub decision: Outcome,
    /// The blocking layers, compared as a set, if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<Vec<Layer>>,
}

/// Something odd that does not stop the case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// The document or part that it is about.
    pub about: String,
    /// A lint code, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What is odd.
    pub message: String,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Whether IAM would refuse the document on write.
    #[serde(skip)]
    pub(crate) is_write_error: bool,
}

//! Simulation from files (policy language spec, section 12): cases in, answers out, and a test runner when cases say what they expect.
//!
//! ```text
//!   text ── parse ──▶ Vec<Case> ── run ──▶ Report ── render ──▶ table | JSON
//! ```

mod case;
mod file;
mod reader;
mod render;
mod run;

pub use case::{Case, Expected, RequestSpec, Warning};
pub use file::{SimulateError, parse, require_writable};
pub use render::{render_json, render_table};
pub use run::{CaseResult, Options, Report, Summary, explain_case, run};

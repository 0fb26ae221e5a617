//! The selectors of an access review.

use super::access::{AccessReview, SelectorAttributes, SelectorRequirement};
use crate::selector::{self, Operator, Requirement};

/// What could be read of the selectors of a review. What could not is left out, which asks the broader question, and is
/// told in the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParsedSelectors {
    /// Requirements on fields.
    pub fields: Vec<Requirement>,
    /// Requirements on labels.
    pub labels: Vec<Requirement>,
    fields_failed: bool,
    labels_failed: bool,
}

impl ParsedSelectors {
    /// Reads the selectors of a review.
    pub fn of(review: &AccessReview) -> Self {
        let mut parsed = Self::default();
        let Some(resource) = &review.spec.resource else {
            return parsed;
        };
        if let Some(selector) = &resource.field_selector {
            (parsed.fields, parsed.fields_failed) =
                parse(selector, selector::parse_fields, field_requirement);
        }
        if let Some(selector) = &resource.label_selector {
            (parsed.labels, parsed.labels_failed) =
                parse(selector, selector::parse_labels, label_requirement);
        }
        parsed
    }

    /// What the answer must say about parts that were ignored; empty if none were.
    pub fn evaluation_error(&self) -> String {
        let part = |name: &str, failed: bool, left: &[Requirement]| {
            let partially = if left.is_empty() { "" } else { "partially " };
            failed.then(|| {
                format!("spec.resourceAttributes.{name} {partially}ignored due to parse error")
            })
        };
        let fields = part("fieldSelector", self.fields_failed, &self.fields);
        let labels = part("labelSelector", self.labels_failed, &self.labels);
        let parts: Vec<String> = fields.into_iter().chain(labels).collect();
        parts.join("; ")
    }
}

/// The requirements that could be read, and whether some could not.
fn parse(
    selector: &SelectorAttributes,
    raw: impl Fn(&str) -> Result<Vec<Requirement>, selector::NotASelector>,
    one: impl Fn(&SelectorRequirement) -> Option<Requirement>,
) -> (Vec<Requirement>, bool) {
    if !selector.raw_selector.is_empty() {
        return match raw(&selector.raw_selector) {
            Ok(requirements) => (requirements, false),
            Err(_) => (Vec::new(), true),
        };
    }
    let read: Vec<Requirement> = selector.requirements.iter().filter_map(one).collect();
    let failed = read.len() != selector.requirements.len();
    (read, failed)
}

/// Fields are compared with exactly one value.
fn field_requirement(requirement: &SelectorRequirement) -> Option<Requirement> {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        _ => return None,
    };
    (requirement.values.len() == 1).then(|| Requirement {
        key: requirement.key.clone(),
        operator,
        values: requirement.values.clone(),
    })
}

fn label_requirement(requirement: &SelectorRequirement) -> Option<Requirement> {
    let requirement = Requirement {
        key: requirement.key.clone(),
        operator: Operator::of_review(&requirement.operator)?,
        values: requirement.values.clone(),
    };
    selector::is_label_requirement(&requirement).then_some(requirement)
}
